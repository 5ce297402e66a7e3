"""An LSTM with a layer norm over its outputs."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from .._check import check_lengths
from .._init import (
    init_layer_norm,
    init_lstm,
)
from .._layers import Lengths, lstm
from .._nn import (
    check_parts,
    layer_norm,
    valid_steps,
)
from .._params import LSTMState


Params = Mapping[str, Any]


def init_layer_norm_lstm(
    key: PRNGKeyArray,
    input_size: int,
    hidden_size: int,
    *,
    num_layers: int = 1,
    dtype: Any = float,
) -> dict[str, Any]:
    """Parameters for `layer_norm_lstm`; gains are 1, their biases 0.

    Args and errors are those of `init_lstm`.

    Source: that of `layer_norm_lstm`.

    >>> sorted(init_layer_norm_lstm(jax.random.key(0), 3, 4))
    ['layer_norm', 'lstm']
    """
    layers = init_lstm(key, input_size, hidden_size, num_layers=num_layers, dtype=dtype)
    return {"lstm": layers, "layer_norm": init_layer_norm(hidden_size, dtype=dtype)}


def layer_norm_lstm(
    params: Params,
    x: Float[ArrayLike, "B T I"],
    state: Any = None,
    *,
    lengths: Lengths | None = None,
) -> tuple[Float[Array, "B T H"], LSTMState]:
    """An LSTM whose outputs are normalised at every step, its states not: `LSTMWithLayerNorm`.

    Normalisation inside the recurrence is another thing: `init_lstm(..., layer_norm=True)`.

    Args:
        params: `lstm` and `layer_norm`.
        x: the inputs.
        state: a pair h, c; zeros by default.
        lengths: (B,) how many steps are valid; beyond them the output is 0.

    Returns:
        `(y, LSTMState(h, c))`.

    Raises:
        ValueError, TypeError: those of `lstm` and `layer_norm`.

    Source: a text's class of that name; Ba, Kiros & Hinton (2016),
    https://arxiv.org/abs/1607.06450.

    >>> params = init_layer_norm_lstm(jax.random.key(0), 3, 4)
    >>> y, _ = layer_norm_lstm(params, jnp.ones((1, 2, 3)))
    >>> jnp.abs(y.mean(-1)) < 1e-6
    Array([[ True,  True]], dtype=bool)
    """
    check_parts(params, "lstm", "layer_norm")
    y, state = lstm(params["lstm"], x, state, batch_first=True, lengths=lengths)
    normal = layer_norm(params["layer_norm"], y)
    if lengths is not None:
        valid = valid_steps(check_lengths(lengths, y, True), y.shape[1])
        normal = jnp.where(valid[..., None], normal, jnp.zeros_like(normal))
    return normal, state
