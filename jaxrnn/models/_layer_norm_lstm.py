"""An LSTM with a layer norm after it."""

from collections.abc import Mapping
from typing import Any

from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from .._init import init_layer_norm, init_lstm
from .._layers import Lengths, lstm
from .._nn import check_parts, layer_norm
from .._params import LSTMState
from ._sequence_model import zero_padding


def init_layer_norm_lstm(
    key: PRNGKeyArray,
    input_size: int,
    hidden_size: int,
    *,
    num_layers: int = 1,
    dtype: Any = float,
) -> dict[str, Any]:
    """Returns parameters for `layer_norm_lstm`; gains are 1 and their biases 0.

    Takes the arguments of `init_lstm` and raises its errors.

    Source: as for `layer_norm_lstm`.

    >>> sorted(init_layer_norm_lstm(jax.random.key(0), 3, 4))
    ['layer_norm', 'lstm']
    """
    layers = init_lstm(key, input_size, hidden_size, num_layers=num_layers, dtype=dtype)
    return {"lstm": layers, "layer_norm": init_layer_norm(hidden_size, dtype=dtype)}


def layer_norm_lstm(
    params: Mapping[str, Any],
    x: Float[ArrayLike, "B T I"],
    state: Any = None,
    *,
    lengths: Lengths | None = None,
) -> tuple[Float[Array, "B T H"], LSTMState]:
    """Normalises an LSTM's outputs at every step, but not its states: `LSTMWithLayerNorm`.

    For normalisation inside the recurrence, see `init_lstm(..., layer_norm=True)`.

    Args:
        params: `lstm` and `layer_norm`.
        x: the inputs.
        state: a pair h, c; zeros by default.
        lengths: (B,) how many steps of each sequence are valid; beyond them the output is 0.

    Returns:
        `(y, LSTMState(h, c))`.

    Raises:
        ValueError, TypeError: as `lstm` and `layer_norm`.

    Source: a text's class of that name; Ba, Kiros & Hinton (2016),
    https://arxiv.org/abs/1607.06450.

    >>> params = init_layer_norm_lstm(jax.random.key(0), 3, 4)
    >>> y, _ = layer_norm_lstm(params, jnp.ones((1, 2, 3)))
    >>> jnp.abs(y.mean(-1)) < 1e-6
    Array([[ True,  True]], dtype=bool)
    """
    check_parts(params, "lstm", "layer_norm")
    y, state = lstm(params["lstm"], x, state, batch_first=True, lengths=lengths)
    return zero_padding(layer_norm(params["layer_norm"], y), lengths), state
