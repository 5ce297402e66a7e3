"""Law: importing jaxrnn is light, and what it exports is called and documented in one way."""

import inspect
import re
import subprocess
import sys

import pytest

import jaxrnn


HEAVY = ("autograd", "flax", "matplotlib", "optax", "rich", "safetensors", "torch")
# Modules without underscore may need flax or optax, and are imported by name.
CORE = """
import importlib, pkgutil, sys
import jaxrnn
for module in pkgutil.iter_modules(jaxrnn.__path__):
    if module.name.startswith("_"):
        importlib.import_module("jaxrnn." + module.name)
"""
FUNCTIONS = {
    name: getattr(jaxrnn, name)
    for name in jaxrnn.__all__
    if inspect.isfunction(getattr(jaxrnn, name))
}
APPLIED = ("rnn", "lstm", "gru", "rnn_cell", "lstm_cell", "gru_cell")
SAME_SOURCE = {f"init_{name}": "init_lstm" for name in APPLIED if name != "lstm"}
SAME_SOURCE |= {"save": "load", "to_state_dict": "from_state_dict", "dropout_masks": "lstm"}


def heavy_after(program):
    """Which of the heavy packages a fresh interpreter has loaded after `program`."""
    program += f"\nimport sys; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    return done.stdout.decode().split()


@pytest.mark.parametrize("program", ["import jaxrnn", CORE], ids=["jaxrnn", "submodules"])
def test_import_is_light(program):
    assert heavy_after(program) == []


@pytest.mark.parametrize("name", ["rich", "safetensors"])
def test_heavy_import_would_be_seen(name):
    assert name in heavy_after(f"import jaxrnn, {name}")


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


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name.startswith("init_")])
def test_signature_of_init(name):
    required, optional, options = kinds(FUNCTIONS[name])
    assert required == ["key", "input_size", "hidden_size"]
    assert optional == {}
    assert inspect.Parameter.empty not in options.values()
    assert name.removeprefix("init_") in APPLIED


def test_layers_share_their_options():
    """In names and defaults; `rnn` has a `nonlinearity` besides, `init_lstm` two options."""
    options = {name: kinds(function)[2] for name, function in FUNCTIONS.items()}
    assert options["lstm"] == options["gru"]
    assert options["rnn"] == {"nonlinearity": "tanh"} | options["lstm"]
    assert options["rnn_cell"] == {"nonlinearity": "tanh"}
    assert options["init_rnn"] == options["init_gru"]
    assert options["init_lstm"] == options["init_rnn"] | {"proj_size": 0, "forget_bias": None}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstring_names_its_source(name):
    """In a `Source:` line, or by naming the one function, in backticks, whose source is its own."""
    doc = inspect.getdoc(FUNCTIONS[name])
    if name in SAME_SOURCE:
        assert f"`{SAME_SOURCE[name]}`" in doc
        doc = inspect.getdoc(FUNCTIONS[SAME_SOURCE[name]])
    assert re.search(r"^Source: \S", doc, re.MULTILINE)
