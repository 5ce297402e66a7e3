"""Cells of `flax.nnx`."""

from collections.abc import Mapping
from typing import Any

from jax.typing import ArrayLike
from jaxtyping import Array

from .._params import from_state_dict
from .layouts import Framework, Layout, items, nested, read, write
from .linen import GATES


DENSE = {"dense_i.kernel": "weight_ih", "dense_h.kernel": "weight_hh"}
SPLIT = Layout("LSTMCell", "lstm", "ifgo", GATES | {"h{}.bias": "bias"})
NNX = Framework(
    "nnx",
    [
        Layout("OptimizedLSTMCell", "lstm", "ifgo", DENSE | {"dense_h.bias": "bias"}),
        SPLIT,
        Layout("GRUCell", "gru", "rzn", DENSE | {"dense_i.bias": "bias"}),
        Layout("SimpleCell", "rnn", "h", DENSE | {"dense_i.bias": "bias"}),
    ],
)
KEYWORD = {"if": "if_", "if_": "if"}  # an attribute of nnx cannot be called `if`


def from_nnx(weights: Mapping[str, Any]) -> dict[str, Array]:
    """Reads a cell of `flax.nnx`: OptimizedLSTMCell, LSTMCell, GRUCell, SimpleCell.

    W_ih = kernelᵀ of `dense_i`, W_hh = kernelᵀ of `dense_h`, b_ih = bias, b_hh = 0: nnx's GRUCell
    has no b_hn.

    Args:
        weights: the cell's state, `nnx.to_pure_dict(nnx.state(cell))`; of an RNN, its `["cell"]`.

    Returns:
        As `from_linen`.

    Raises:
        ValueError, TypeError: as `from_linen`.

    Source: https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/recurrent.html

    >>> import jax.numpy as jnp
    >>> dense = {"kernel": jnp.ones((1, 3))}
    >>> from_nnx({"dense_i": dense | {"bias": jnp.ones(3)}, "dense_h": dense})["bias_hh"]
    Array([0., 0., 0.], dtype=float32)
    """
    return read(NNX, nested(NNX, {KEYWORD.get(name, name): a for name, a in items(weights)}))


def to_nnx(params: Mapping[str, ArrayLike], *, optimized: bool = True) -> dict[str, Any]:
    """The inverse of `from_nnx`: bias = b_ih + b_hh; without biases, zeros.

    Args:
        params: the parameters of one of torch's cells.
        optimized: an LSTM becomes an OptimizedLSTMCell, else an LSTMCell.

    Raises:
        ValueError: a GRU with a b_hn that is not 0, which nnx cannot represent, and as `to_linen`.
        TypeError: as `to_linen`.

    Source: https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/recurrent.html

    >>> import jax.numpy as jnp
    >>> list(to_nnx({"weight_ih": jnp.ones((3, 1)), "weight_hh": jnp.ones((3, 1))}))
    ['dense_i', 'dense_h']
    """
    framework = NNX if optimized else NNX._replace(cells=[SPLIT, *NNX.cells])
    weights = from_state_dict(write(framework, params))
    return {KEYWORD.get(name, name): a for name, a in weights.items()}
