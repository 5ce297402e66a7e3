"""Every framework's cells for the tests of `jaxrnn.convert`: both ways, and numbers for them."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import Structure, convert
from jaxrnn.convert.equinox import EQUINOX
from jaxrnn.convert.haiku import HAIKU
from jaxrnn.convert.keras import KERAS
from jaxrnn.convert.linen import LINEN
from jaxrnn.convert.nnx import NNX
from jaxrnn.convert.onnx import ONNX


FRAMEWORKS = {each.name: each for each in (LINEN, NNX, HAIKU, EQUINOX, KERAS, ONNX)}
INPUT, HIDDEN, BATCH = 3, 5, 4
TO = {
    "linen": convert.to_linen,
    "nnx": convert.to_nnx,
    "nnx split": functools.partial(convert.to_nnx, optimized=False),
    "haiku": functools.partial(convert.to_haiku, nonlinearity="relu"),
    "equinox": convert.to_equinox,
    "keras": convert.to_keras,
    "ONNX": lambda cell: convert.to_onnx([cell]),
}
FROM = {
    "linen": convert.from_linen,
    "nnx": convert.from_nnx,
    "nnx split": convert.from_nnx,
    "haiku": convert.from_haiku,
    "equinox": convert.from_equinox,
    "keras": convert.from_keras,
    "ONNX": lambda weights: convert.from_onnx(weights, linear_before_reset=1)[0],
}


CELLS = [
    (name, kind)
    for name in TO
    for kind in ("lstm", "gru", "rnn")
    if (name == "nnx split") <= (kind == "lstm")
    and kind not in FRAMEWORKS[name.removesuffix(" split")].absent
]
every_cell = pytest.mark.parametrize(("framework", "kind"), CELLS, ids=map(" ".join, CELLS))


def draw(framework, kind, dtype=float, bias=True, seed=0):
    """Parameters of a cell, both biases random, but for the b_hn that nnx has not; x; the state."""
    rng = np.random.default_rng(seed)
    array = lambda *shape: jnp.asarray(rng.normal(size=shape).astype(dtype))
    shapes = Structure(f"{kind}_cell", INPUT, HIDDEN, bias=bias).shapes
    params = {name: array(*shape) for name, shape in shapes.items()}
    if (framework, kind) == ("nnx", "gru") and bias:
        params["bias_hh"] = params["bias_hh"].at[2 * HIDDEN :].set(0)
    state = [array(BATCH, HIDDEN) for _ in range(1 + (kind == "lstm"))]
    return params, array(BATCH, INPUT), state
