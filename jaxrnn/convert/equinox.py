"""Cells of `equinox.nn`."""

from collections.abc import Mapping
from typing import Any

from jax.typing import ArrayLike
from jaxtyping import Array

from .layouts import Framework, Layout, arrays_of, items, read, write


ARRAYS = {"weight_ih": "weight_ih", "weight_hh": "weight_hh", "bias": "bias"}
AS_TORCH: Any = {"transposed": False, "needs_bias": False}
EQUINOX = Framework(
    "equinox",
    [
        Layout("LSTMCell", "lstm", "ifgo", ARRAYS, **AS_TORCH),
        Layout("GRUCell", "gru", "rzn", ARRAYS | {"bias_n": "bias_n"}, **AS_TORCH),
    ],
    absent={"rnn": "it has an LSTMCell and a GRUCell only"},
)
STATIC = ("input_size", "hidden_size", "use_bias")


def from_equinox(weights: Mapping[str, Any]) -> dict[str, Array]:
    """Reads a cell of `equinox.nn`: LSTMCell, GRUCell.

    W_ih, W_hh as they are; b_ih = bias; b_hh = 0, but of a GRU b_hn = bias_n.

    Args:
        weights: `vars(cell)`, or its arrays only: `weight_ih`, `weight_hh` and, unless
            `use_bias=False`, `bias` and a GRU's `bias_n`.

    Returns:
        As `from_linen`, without biases if the cell has none.

    Raises:
        ValueError, TypeError: as `from_linen`.

    Source: https://docs.kidger.site/equinox/api/nn/rnn/

    >>> import jax.numpy as jnp
    >>> cell = {"weight_ih": jnp.ones((3, 1)), "weight_hh": jnp.ones((3, 1)), "bias": None}
    >>> list(from_equinox(cell))
    ['weight_ih', 'weight_hh']
    """
    arrays = {n: a for n, a in items(weights) if n not in STATIC and a is not None}
    return read(EQUINOX, arrays_of(arrays))


def to_equinox(params: Mapping[str, ArrayLike]) -> dict[str, Any]:
    """The inverse of `from_equinox`: bias = b_ih + b_hh, except in a GRU's n.

    `equinox.tree_at` puts the arrays into a cell.

    Args:
        params: the parameters of one of torch's cells.

    Raises:
        ValueError: an RNN, which equinox does not have, and as `to_linen`.
        TypeError: as `to_linen`.

    Source: https://docs.kidger.site/equinox/api/nn/rnn/

    >>> import jax.numpy as jnp
    >>> list(to_equinox({"weight_ih": jnp.ones((4, 1)), "weight_hh": jnp.ones((4, 1))}))
    ['weight_ih', 'weight_hh']
    """
    return write(EQUINOX, params)
