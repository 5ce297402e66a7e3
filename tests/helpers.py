"""What the laws are tried on: six layers, numbers for them, and how near counts as equal."""

import functools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import LSTMState, Structure


# Relative to the largest value of an array. In float64 and float32 some hundred roundings: what a
# different order of summation may change, and nothing else. In bfloat16 a few: its weights and
# inputs are rounded once, to 2⁻⁹, and the state is carried in float32. A central difference of step
# 1e-5 errs by 1e-10 times the third derivative and by 1e-11 of rounding.
TOLERANCE = {"float64": 1e-13, "float32": 5e-5, "bfloat16": 3e-2, "difference": 1e-7, "int32": 0}

# All sizes differ, also from layers · directions = 4, so that no two axes can be mistaken.
TIME, BATCH, INPUT, HIDDEN, PROJ = 7, 6, 3, 5, 2
LENGTHS = (3, 7, 0, 1, 7, 5)  # unsorted, with an empty, a full and a repeated one


class Layer(NamedTuple):
    """A layer's structure, and the function that applies it."""

    structure: Structure
    nonlinearity: str = "tanh"
    implementation: str | None = None

    def __call__(self, params: Any, x: Any, state: Any = None, **options: Any) -> Any:
        kind = self.structure.kind
        if kind.startswith("rnn"):
            options["nonlinearity"] = self.nonlinearity
        if self.implementation is not None:
            options["implementation"] = self.implementation
        return getattr(jaxrnn, kind)(params, x, state, **options)

    def replace(self, **changes: Any) -> "Layer":
        return self._replace(structure=self.structure._replace(**changes))

    @property
    def cell(self) -> "Layer":
        return self.replace(kind=self.structure.kind + "_cell", num_layers=1, bidirectional=False)


LSTM = Layer(Structure("lstm", INPUT, HIDDEN, num_layers=2, bidirectional=True))
LAYERS = {
    "rnn tanh": LSTM.replace(kind="rnn"),
    "rnn relu": LSTM.replace(kind="rnn")._replace(nonlinearity="relu"),
    "lstm": LSTM,
    "lstm proj": LSTM.replace(proj_size=PROJ),
    "gru": LSTM.replace(kind="gru"),
    "lstm norm": LSTM.replace(layer_norm=True),
}
# For laws of every cell: one layer, in both directions.
SINGLE = {name: layer.replace(num_layers=1) for name, layer in LAYERS.items()}
every_layer = pytest.mark.parametrize("layer", SINGLE.values(), ids=SINGLE)
TORCHS = {name: layer for name, layer in LAYERS.items() if not layer.structure.layer_norm}
every_layer_of_torch = pytest.mark.parametrize("layer", TORCHS.values(), ids=TORCHS)
# For laws of what all layers share: by "scan", with a state of two arrays of two sizes, and by
# "fused", with a state of one.
TYPICAL = {name: LAYERS[name] for name in ("lstm proj", "gru")}
typical_layers = pytest.mark.parametrize("layer", TYPICAL.values(), ids=TYPICAL)


def draw(
    layer: Layer, *, time: int = TIME, batch: int | None = BATCH, dtype: Any = float, seed: int = 0
) -> tuple[Any, Any, Any]:
    """Random params, x and state; for a cell, x is one step."""
    rng = np.random.default_rng(seed)
    # By numpy, since to convert an array takes JAX a program for each shape.
    array = lambda *shape: jax.device_put((0.5 * rng.standard_normal(shape)).astype(dtype))
    s, cell = layer.structure, layer.structure.kind.endswith("_cell")
    params = {name: array(*shape) for name, shape in s.shapes.items()}
    rows = () if batch is None else (batch,)
    x = array(*(() if cell else (time,)), *rows, s.input_size)
    cells = () if cell else (len(s.suffixes),)
    h = array(*cells, *rows, s.output_size)
    state = LSTMState(h, array(*cells, *rows, s.hidden_size)) if s.gates == 4 else h
    return params, x, state


def score(tree: Any) -> Any:
    """A number to differentiate, in which every value has a weight of its own."""
    weights = lambda a: np.cos(np.arange(a.size)).astype(a.dtype).reshape(a.shape)
    return sum(jnp.sum(weights(a) * a) for a in jax.tree.leaves(tree))


@functools.cache
def outputs(layer: Layer, **options: Any) -> Callable[..., Any]:
    """(leaves, lengths=None) → (y, state), compiled once; leaves are (params, x, state)."""
    return jax.jit(lambda leaves, lengths=None: layer(*leaves, lengths=lengths, **options))


@functools.cache
def gradients(layer: Layer) -> Callable[..., Any]:
    """(leaves, lengths=None) → the gradient of the outputs' score by all leaves, compiled once."""
    return jax.jit(jax.grad(lambda leaves, lengths=None: score(layer(*leaves, lengths=lengths))))


def assert_close(found: Any, wanted: Any, tolerance: str | None = None) -> None:
    """Trees alike in structure, shapes and dtypes, their arrays close as the table says."""
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert one.dtype == other.dtype
        allowed = TOLERANCE[tolerance or other.dtype.name]
        one, other = np.asarray(one, float), np.asarray(other, float)
        largest = np.abs(other).max(initial=0)
        np.testing.assert_allclose(one, other, rtol=0, atol=allowed * largest, strict=True)


def assert_equal(found: Any, wanted: Any) -> None:
    """Likewise, but the same to the last bit."""
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b, strict=True), found, wanted)


def row(name: str, error: type[Exception], message: str, function: Any, *args: Any, **options: Any):
    """A bad call and its error, for a table."""
    return pytest.param(functools.partial(function, *args, **options), error, message, id=name)


def assert_refused(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    """By one sentence that has the parts of `message`, between whose `...` anything may stand."""
    pattern = ".*".join(re.escape(part) for part in message.split("..."))
    with pytest.raises(error, match=pattern) as caught:
        call()
    assert type(caught.value) is error  # and not a subclass, as JAX's own often are
    said = str(caught.value).split("\n-----")[0]  # JAX adds a note under jit
    assert "\n" not in said
    assert len(said) <= 400
