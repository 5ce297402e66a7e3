"""Layers and cells of keras."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from .._params import structure
from .layouts import RESETS, Framework, Layout, arrays_of, check_shape, layout_of, read, write


KERNELS = {"kernel": "weight_ih", "recurrent_kernel": "weight_hh"}
BOTH = {"bias[0]": "bias_ih", "bias[1]": "bias_hh"}  # the two rows of a GRU's bias
KERAS = Framework(
    "keras",
    [
        Layout("LSTM", "lstm", "ifgo", KERNELS | {"bias": "bias"}, needs_bias=False),
        Layout("GRU", "gru", "zrn", KERNELS | BOTH, needs_bias=False),
        Layout("SimpleRNN", "rnn", "h", KERNELS | {"bias": "bias"}, needs_bias=False),
    ],
)


def from_keras(
    weights: Sequence[ArrayLike] | Mapping[str, ArrayLike], *, reset_after: bool = True
) -> dict[str, Array]:
    """Reads a layer or cell of keras: LSTM, GRU, SimpleRNN; of a Bidirectional, either half.

    W_ih = kernelᵀ, W_hh = recurrent_kernelᵀ, b_ih = bias, b_hh = 0; of a GRU, whose gates are in
    the order z, r, n there, b_ih and b_hh are the bias's two rows.

    Args:
        weights: `layer.get_weights()`, or its arrays under `kernel`, `recurrent_kernel`, `bias`.
        reset_after: of a GRU, as keras has it.

    Returns:
        As `from_equinox`.

    Raises:
        ValueError: a GRU of `reset_after=False`, which is another function, and as `from_linen`.
        TypeError: as `from_linen`.

    Source: https://keras.io/api/layers/recurrent_layers/

    >>> from_keras([jnp.ones((1, 1)), jnp.ones((1, 1)), jnp.ones(1)])["bias_ih"]
    Array([1.], dtype=float32)
    """
    arrays = arrays_of(_named(weights))
    if layout_of(KERAS, arrays).kind == "gru":
        bias = arrays.pop("bias", None)
        if not reset_after or (bias is not None and bias.ndim == 1):
            raise ValueError(f"`weights` are of a GRU with reset_after=False: {RESETS}")
        if bias is not None:
            check_shape("bias", bias, (2, arrays["recurrent_kernel"].shape[-1]), "keras's GRU")
            arrays |= {"bias[0]": bias[0], "bias[1]": bias[1]}
    return read(KERAS, arrays)


def _named(weights: Any) -> Any:
    """The list that `layer.get_weights()` returns as a dict."""
    if isinstance(weights, Mapping):
        return weights
    if not isinstance(weights, Sequence):
        raise TypeError(
            "`weights` must be a list of arrays, as of `layer.get_weights()`, or a dict of "
            f"them, got {type(weights).__name__}"
        )
    if len(weights) not in (2, 3):
        raise ValueError(
            "`weights` must be a kernel, a recurrent kernel and, if there is one, a bias, got "
            f"{len(weights)} arrays: convert layer by layer, a Bidirectional in two halves"
        )
    return dict(zip(("kernel", "recurrent_kernel", "bias"), weights, strict=False))


def to_keras(params: Mapping[str, ArrayLike], *, reset_after: bool = True) -> list[Array]:
    """The inverse of `from_keras`, for `layer.set_weights`: bias = b_ih + b_hh, a GRU's both.

    Args:
        params: the parameters of one of torch's cells.
        reset_after: of the GRU that they are for, as keras has it.

    Returns:
        `[kernel, recurrent_kernel, bias]`, the last one only if there is a bias.

    Raises:
        ValueError: `reset_after=False` for a GRU, and as `to_linen`.
        TypeError: as `to_linen`.

    Source: https://keras.io/api/layers/recurrent_layers/

    >>> to_keras({"weight_ih": jnp.ones((3, 1)), "weight_hh": jnp.ones((3, 1))})[0].shape
    (1, 3)
    """
    arrays = write(KERAS, params)
    if not reset_after and structure(params).gates == 3:
        raise ValueError(f"`reset_after` is False, of a GRU: {RESETS}")
    if "bias[0]" in arrays:
        arrays["bias"] = jnp.stack([arrays.pop("bias[0]"), arrays.pop("bias[1]")])
    return list(arrays.values())
