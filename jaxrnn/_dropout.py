"""Dropout: its masks, in all places, and their application."""

import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ._check import Options, batch_shape, check_dropout, check_key, check_layer, check_masks
from ._params import Structure, structure


def dropout_masks(
    key: PRNGKeyArray, params: Mapping[str, ArrayLike], x: Float[ArrayLike, "*TB I"], dropout: float
) -> Bool[Array, "between *TB DP"]:
    """The masks that `rnn`, `lstm` and `gru` draw for `dropout`: True where a value is kept.

    Pass them as `masks`, or to another framework, to get the same dropout twice.

    Args:
        key: a `jax.random` key.
        params: the layers' parameters.
        x: their input; only its shape counts.
        dropout: the probability of dropping.

    Returns:
        Booleans of the shape (L - 1, axes of `x` but the last, D·P), for any `batch_first`.

    Raises:
        ValueError: `dropout` is not a number between 0 and 1, or `params` and `x` fit no layer.
        TypeError: `key` is not a key, or dtypes are mixed or not floating.

    >>> params = {name + layer: jnp.zeros((4, 1)) for name in ("weight_ih", "weight_hh")
    ...           for layer in ("_l0", "_l1")}
    >>> dropout_masks(jax.random.key(0), params, jnp.zeros((2, 1)), 1.0)
    Array([[[False],
            [False]]], dtype=bool)
    """
    check_dropout(dropout)
    check_key(key)
    s, x = _layer_of(params, x, batch_first=False)
    return draw(key, dropout, _between(s, x))


def recurrent_dropout_masks(
    key: PRNGKeyArray,
    params: Mapping[str, ArrayLike],
    x: Float[ArrayLike, "*TB I"],
    recurrent_dropout: float,
    *,
    batch_first: bool = False,
) -> Bool[Array, "LD *B P"]:
    """The masks that layers draw for `recurrent_dropout`, to pass as `recurrent_masks`.

    They are independent of the masks that `dropout_masks` returns for the same key.

    Args:
        key: a `jax.random` key.
        params: the layers' parameters.
        x: their input; only its shape counts.
        recurrent_dropout: the probability of dropping.
        batch_first: whether `x` is (B, T, I).

    Returns:
        Booleans of the shape (L·D, B, P), or (L·D, P) for unbatched `x`.

    Raises:
        ValueError, TypeError: as `dropout_masks`.

    Source: Gal & Ghahramani, *A theoretically grounded application of dropout in recurrent neural
    networks* (2016), https://arxiv.org/abs/1512.05287.

    >>> params = {"weight_ih_l0": jnp.zeros((4, 1)), "weight_hh_l0": jnp.zeros((4, 1))}
    >>> recurrent_dropout_masks(jax.random.key(0), params, jnp.zeros((2, 1)), 1.0)
    Array([[False]], dtype=bool)
    """
    check_dropout(recurrent_dropout, "recurrent_dropout")
    check_key(key)
    s, x = _layer_of(params, x, batch_first)
    return draw(_recurrent_key(key), recurrent_dropout, _within(s, x, batch_first))


def drop(x: Float[Array, "..."], mask: Bool[Array, "..."], dropout: float) -> Float[Array, "..."]:
    """Zeros where the mask is false; survivors are scaled by 1 / (1 - dropout)."""
    return jnp.where(mask, x * jnp.asarray(scale(dropout), x.dtype), jnp.zeros_like(x))


def scale(dropout: float) -> float:
    """The factor of the survivors; 0 if there are none."""
    return 1 / (1 - dropout) if dropout < 1 else 0.0


def draw(key: PRNGKeyArray, dropout: float, shape: tuple[int, ...]) -> Bool[Array, "..."]:
    """Booleans that are false with the probability `dropout`."""
    return jax.random.bernoulli(key, jnp.float32(1 - dropout), shape)


def choose_masks(s: Structure, x: Array, options: Options) -> tuple[Array | None, Array | None]:
    """The masks between layers, in the layout of `x`, and within; None for no dropout."""
    dropout, recurrent, key = options.dropout, options.recurrent_dropout, options.key
    check_dropout(dropout)
    check_dropout(recurrent, "recurrent_dropout")
    if dropout > 0 and s.num_layers == 1:
        warnings.warn(
            f"`dropout` works between layers: dropout={dropout} has no effect on a single layer",
            stacklevel=4,
        )
    if key is not None:
        check_key(key)
    masks, within = options.masks, options.recurrent_masks
    draws = (dropout > 0 and masks is None) or (recurrent > 0 and within is None)
    spare = key is not None and not draws  # masks come instead of a key, or of one half of it
    shape = _within(s, x, options.batch_first)
    masks = _masks("", masks, _between(s, x), dropout, key, spare)
    return masks, _masks("recurrent_", within, shape, recurrent, key, spare)


def _masks(
    prefix: str, masks: Any, shape: tuple[int, ...], dropout: float, key: Any, spare: bool
) -> Array | None:
    """Checks masks, or draws them if there is a key."""
    if masks is not None:
        return check_masks(prefix, masks, shape, dropout, spare)
    if key is None or dropout == 0:
        return None
    return draw(_recurrent_key(key) if prefix else key, dropout, shape)


def _layer_of(params: Mapping[str, Any], x: Any, batch_first: bool) -> tuple[Structure, Array]:
    """The structure and the input of a layer of any kind."""
    kind = structure(params).kind
    if kind.endswith("_cell"):
        raise ValueError("`params` are those of a cell, but dropout is an option of layers")
    s, _, x, _ = check_layer(kind, params, x, None, batch_first)
    return s, x


def _between(s: Structure, x: Array) -> tuple[int, ...]:
    """The shape of masks between layers."""
    return (s.num_layers - 1, *x.shape[:-1], s.num_directions * s.output_size)


def _within(s: Structure, x: Array, batch_first: bool) -> tuple[int, ...]:
    """The shape of recurrent masks."""
    return (len(s.suffixes), *batch_shape(x, batch_first), s.output_size)


def _recurrent_key(key: PRNGKeyArray) -> PRNGKeyArray:
    """A key of its own, so that the masks between layers stay the same."""
    return jax.random.fold_in(key, 1)
