"""Law: importing jaxrnn is light, and what it exports is called and documented in one way."""

import dataclasses
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys

import pytest

import jaxrnn
import parity
from jaxrnn import _check, _layers


HEAVY = (
    "autograd", "equinox", "flax", "haiku", "keras", "matplotlib", "onnx", "optax", "orbax", "rich",
    "safetensors", "torch",
)  # fmt: skip
FUNCTIONS = {
    name: getattr(jaxrnn, name)
    for name in jaxrnn.__all__
    if inspect.isfunction(getattr(jaxrnn, name))
}
MODULES = [m.name for m in pkgutil.iter_modules(jaxrnn.__path__) if not m.name.startswith("_")]
APPLIED = ("rnn", "lstm", "gru", "rnn_cell", "lstm_cell", "gru_cell")
SAME_SOURCE = {f"init_{name}": "init_lstm" for name in APPLIED if name != "lstm"}
SAME_SOURCE |= {"save": "load", "to_state_dict": "from_state_dict", "dropout_masks": "lstm"}


def heavy_after(program):
    """Which of the heavy packages a fresh interpreter has loaded after `program`."""
    program += f"\nimport sys; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    return done.stdout.decode().split()


def test_import_of_parity_is_lighter_still():
    """Its plugin is loaded by every pytest of an environment; jaxtyping's hook comes before us."""
    program = "import parity, sys; dir(parity); sys.exit('jax' in sys.modules)"
    assert heavy_after(program) == []


def test_parity_gives_functions_not_modules():
    assert not any(inspect.ismodule(getattr(parity, name)) for name in parity.__all__)
    assert set(parity.__all__) < set(dir(parity))
    with pytest.raises(AttributeError, match="module 'parity' has no attribute 'nothing'"):
        _ = parity.nothing


def test_heavy_import_would_be_seen():
    assert heavy_after("import jaxrnn, rich, safetensors") == ["rich", "safetensors"]


def test_all_names_exist_once():
    assert all(hasattr(jaxrnn, name) for name in jaxrnn.__all__)
    assert jaxrnn.__all__ == sorted(set(jaxrnn.__all__))


def test_all_holds_every_public_name():
    public = {
        name
        for name, value in vars(jaxrnn).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public == set(jaxrnn.__all__)


def kinds(function):
    """Names of the positional parameters without default, with one, and of the keyword-only."""
    parameters = inspect.signature(function).parameters.values()
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert all(p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in parameters)
    return (
        [p.name for p in positional if p.default is p.empty],
        {p.name: p.default for p in positional if p.default is not p.empty},
        {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY},
    )


@pytest.mark.parametrize("name", APPLIED)
def test_signature_of_layers_and_cells(name):
    required, optional, options = kinds(FUNCTIONS[name])
    assert required == ["params", "x"]
    assert optional == {"state": None}
    assert inspect.Parameter.empty not in options.values()


@pytest.mark.parametrize("name", APPLIED)
def test_signature_of_init(name):
    required, optional, options = kinds(FUNCTIONS[f"init_{name}"])
    assert required == ["key", "input_size", "hidden_size"]
    assert optional == {}
    assert inspect.Parameter.empty not in options.values()


def test_the_options_of_layers_stand_the_same_way_twice():
    """Once with their defaults, and once as type checkers want them."""
    fields = {field.name: str(field.type) for field in dataclasses.fields(_check.Options)}
    assert {n: str(kind) for n, kind in _layers.Keywords.__annotations__.items()} == fields


def test_layers_share_their_options():
    """In names and defaults; `rnn` has a `nonlinearity` besides, `init_lstm` three options."""
    options = {name: kinds(function)[2] for name, function in FUNCTIONS.items()}
    assert options["lstm"] == options["gru"]
    assert options["rnn"] == {"nonlinearity": "tanh"} | options["lstm"]
    assert options["rnn_cell"] == {"nonlinearity": "tanh"}
    assert options["init_rnn"] == options["init_gru"]
    lstm = {"forget_bias": None, "layer_norm": False}
    assert options["init_lstm"] == options["init_rnn"] | {"proj_size": 0} | lstm
    assert options["init_lstm_cell"] == options["init_gru_cell"] | lstm


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstring_names_its_source(name):
    """In a `Source:` line, or by naming the one function, in backticks, whose source is its own."""
    doc = inspect.getdoc(FUNCTIONS[name])
    if name in SAME_SOURCE:
        assert f"`{SAME_SOURCE[name]}`" in doc
        doc = inspect.getdoc(FUNCTIONS[SAME_SOURCE[name]])
    assert re.search(r"^Source: \S", doc, re.MULTILINE)


@pytest.mark.parametrize("name", MODULES)
def test_submodules_name_their_sources(name):
    module = importlib.import_module(f"jaxrnn.{name}")
    here = lambda f: inspect.isfunction(f) and f.__module__ == module.__name__
    own = [key for key, f in vars(module).items() if here(f) and not key.startswith("_")]
    for key in getattr(module, "__all__", own):
        if inspect.isfunction(getattr(module, key)):
            doc = inspect.getdoc(getattr(module, key))
            assert re.search(r"^Source: \S", doc, re.MULTILINE), key


NEEDS = {
    "checkpoints": ["orbax"],
    "linen": ["flax", "rich"],  # which flax brings
    "losses": ["optax"],
    "nnx": ["flax", "optax", "rich"],
    "optim": ["optax"],
    "training": ["optax", "rich"],  # and orbax, for checkpoints only
}
LIGHT = [m.name for m in pkgutil.iter_modules(jaxrnn.__path__) if m.name not in NEEDS]


@pytest.mark.parametrize("name", NEEDS)
def test_submodules_need_little(name):
    assert heavy_after(f"import jaxrnn.{name}") == NEEDS[name]


def test_the_other_submodules_need_nothing():
    """Together, so that none of them does."""
    assert heavy_after(f"import {', '.join(f'jaxrnn.{name}' for name in LIGHT)}") == []
