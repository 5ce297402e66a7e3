"""Cells of `flax.linen`."""

from collections.abc import Mapping
from typing import Any

from jax.typing import ArrayLike
from jaxtyping import Array

from .._params import from_state_dict
from .layouts import Framework, Layout, nested, read, write


GATES = {"i{}.kernel": "weight_ih", "h{}.kernel": "weight_hh"}  # nnx's LSTMCell has them too
LINEN = Framework(
    "linen",
    [
        Layout("LSTMCell", "lstm", "ifgo", GATES | {"h{}.bias": "bias"}),
        Layout("GRUCell", "gru", "rzn", GATES | {"i{}.bias": "bias", "hn.bias": "bias_n"}),
        Layout(
            "SimpleCell",
            "rnn",
            "h",
            {"i.kernel": "weight_ih", "h.kernel": "weight_hh", "i.bias": "bias"},
        ),
    ],
)


def from_linen(weights: Mapping[str, Any]) -> dict[str, Array]:
    """Reads a cell of `flax.linen`: LSTMCell, OptimizedLSTMCell, GRUCell, SimpleCell.

    For each gate, W_ih = kernelᵀ of `i…`, W_hh = kernelᵀ of `h…`, b_ih = bias, b_hh = 0; in a GRU's
    n, b_in = bias of `in`, b_hn = bias of `hn`.

    Args:
        weights: the cell's own dict, such as `variables["params"]["cell"]`: for each gate `ii`,
            `hi`, … with a `kernel` and, some of them, a `bias`.

    Returns:
        `weight_ih`, `weight_hh`, `bias_ih`, `bias_hh`: the parameters of torch's cell.

    Raises:
        ValueError: a key is missing, unexpected or misshapen, or the weights are of a cell that
            torch does not have, such as MGUCell.
        TypeError: not a dict of floating arrays of one dtype, or a dtype that JAX would narrow.

    Source: https://flax.readthedocs.io/en/latest/api_reference/flax.linen/layers.html

    >>> import jax.numpy as jnp
    >>> kernel = {"kernel": jnp.ones((1, 1))}
    >>> from_linen({"i": kernel | {"bias": jnp.ones(1)}, "h": kernel})["bias_ih"]
    Array([1.], dtype=float32)
    """
    return read(LINEN, nested(LINEN, weights))


def to_linen(params: Mapping[str, ArrayLike]) -> dict[str, Any]:
    """The inverse of `from_linen`: bias = b_ih + b_hh, except in a GRU's n; without biases, zeros.

    Args:
        params: the parameters of one of torch's cells.

    Raises:
        ValueError: `params` are not a cell's, or are projected or layer-normalised, which flax does
            not have.
        TypeError: not a dict of floating arrays of one dtype, or a dtype that JAX would narrow.

    Source: https://flax.readthedocs.io/en/latest/api_reference/flax.linen/layers.html

    >>> import jax.numpy as jnp
    >>> list(to_linen({"weight_ih": jnp.ones((3, 1)), "weight_hh": jnp.ones((3, 1))}))
    ['ir', 'iz', 'in', 'hr', 'hz', 'hn']
    """
    return from_state_dict(write(LINEN, params))
