"""Most models of the texts: embedding, recurrent layers, pooling over time, a linear layer."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer, PRNGKeyArray

from .. import _nn
from .._check import check_dropout, check_key, check_lengths, check_positive
from .._init import init_embedding, init_linear, init_of
from .._layers import Lengths
from .._nn import (
    check_ids,
    check_parts,
    embedding,
    linear,
    recurrent,
    recurrent_layers,
    rows,
    valid_steps,
)
from .._params import structure


class DropoutMasks(NamedTuple):
    """Masks for both dropouts, True where a value is kept: with them torch can drop the same.

    The recurrent layers take `layers` as their `masks`, (L - 1, B, T, D·H); `head` is applied
    before the last linear layer, (B, its features). None means that nothing is dropped.
    """

    layers: Bool[ArrayLike, "..."] | None = None
    head: Bool[ArrayLike, "..."] | None = None


def init_sequence_model(
    key: PRNGKeyArray,
    kind: str,
    input_size: int,
    hidden_size: int,
    output_size: int,
    *,
    vocab_size: int | None = None,
    num_layers: int = 1,
    bidirectional: bool = False,
    dtype: Any = float,
) -> dict[str, Any]:
    """Returns parameters for `sequence_model`, distributed as torch's are.

    Args:
        key: a `jax.random` key.
        kind: `"rnn"`, `"lstm"` or `"gru"`.
        input_size: features of `x`, or of the embedding where there is one.
        hidden_size: features of h in the recurrent layers.
        output_size: classes, or values to predict.
        vocab_size: rows of the embedding, for a model of ids; row 0 belongs to the padding.
        num_layers: number of recurrent layers.
        bidirectional: whether every layer also runs backwards.
        dtype: of the parameters.

    Returns:
        A dict of `embedding` (with a `vocab_size`), `rnn`, `lstm` or `gru`, and `fc`.

    Raises:
        ValueError: `kind` is unknown, or a size is not a positive integer.
        TypeError: `key` is not a key, or `dtype` is not floating.

    Source: the classes in the table of `jaxrnn.models`.

    >>> params = init_sequence_model(jax.random.key(0), "gru", 3, 8, 2, bidirectional=True)
    >>> sorted(params), params["fc"]["weight"].shape
    (['fc', 'gru'], (2, 16))
    """
    init = init_of(kind)
    check_key(key)
    check_positive(output_size=output_size)
    if vocab_size is not None:
        check_positive(vocab_size=vocab_size)
    k_embedding, k_layers, k_head = jax.random.split(key, 3)
    params = {}
    if vocab_size is not None:
        params["embedding"] = init_embedding(
            k_embedding, vocab_size, input_size, padding_idx=0, dtype=dtype
        )
    sizes = {"num_layers": num_layers, "bidirectional": bidirectional}
    params[kind] = init(k_layers, input_size, hidden_size, **sizes, dtype=dtype)
    features = 2 * hidden_size if bidirectional else hidden_size
    return params | {"fc": init_linear(k_head, features, output_size, dtype=dtype)}


def sequence_model(
    params: Mapping[str, Any],
    inputs: Float[ArrayLike, "B T I"] | Integer[ArrayLike, "B T"],
    state: Any = None,
    *,
    pool: str | None = "last_state",
    lengths: Lengths | None = None,
    padding_idx: int | None = 0,
    nonlinearity: str = "tanh",
    dropout: float = 0.0,
    head_dropout: float = 0.0,
    key: PRNGKeyArray | None = None,
    masks: DropoutMasks | None = None,
    checkpoint_every: int | None = None,
) -> tuple[Float[Array, "B *T O"], Any]:
    """Applies recurrent layers to a sequence, then a linear layer: most models of the texts.

    Args:
        params: layers of any kind under `rnn`, `lstm` or `gru`; `fc`; and `embedding`, if the
            inputs are ids. Rename parts that have other names in torch, as in
            ``{"lstm": params["encoder"], "fc": params["out"]}``.
        inputs: (B, T, I) features, or (B, T) ids.
        state: the initial state of the recurrent layers; zeros by default.
        pool: the part of the sequence that the head sees: `"last_state"`, the last layer's final h
            of every direction; `"last_step"`, the output at the last step, where the backward
            direction has seen that step only; `"max"` or `"mean"` over time; None for an output at
            every step.
        lengths: (B,) how many steps of each sequence are valid. Padding changes nothing, and
            without pooling the output there is 0.
        padding_idx: the id whose embedding gets no gradient, as in torch's `nn.Embedding`, or None.
        nonlinearity: `"tanh"` or `"relu"`, for an RNN.
        dropout: the rate between recurrent layers.
        head_dropout: the rate before `fc`.
        key: the key of both dropouts; without `key` and `masks` nothing is dropped.
        masks: the masks of both dropouts, instead of a key.
        checkpoint_every: as in `lstm`, for long sequences; it saves most with `"last_state"`.

    Returns:
        `(outputs, state)`: (B, O), or (B, T, O) without pooling; the layers' final state.

    Raises:
        ValueError: `pool` is unknown, sizes do not fit, or there are both `masks` and a key.
        TypeError: dtypes are mixed, or ids are not integers.

    Source: the classes in the table of `jaxrnn.models`; Graves, *Supervised sequence labelling*
    (2012), for the bidirectional ones.

    >>> params = init_sequence_model(jax.random.key(0), "lstm", 4, 8, 2, vocab_size=10)
    >>> logits, (h, c) = sequence_model(params, jnp.array([[5, 3, 0], [2, 7, 1]]), lengths=[2, 3])
    >>> logits.shape
    (2, 2)
    """
    check_parts(params, "fc", optional=["embedding", *_nn.LAYERS])
    between, before_head = randomness(key, masks, dropout=dropout, head_dropout=head_dropout)
    y, state = layers(
        params,
        inputs,
        state=state,
        lengths=lengths,
        padding_idx=padding_idx,
        nonlinearity=nonlinearity,
        dropout=dropout,
        checkpoint_every=checkpoint_every,
        **between,
    )
    features = y if pool is None else _nn.pool(pool, y, state, lengths)
    out = linear(params["fc"], _nn.dropout(features, head_dropout, **before_head))
    return zero_padding(out, lengths) if pool is None else out, state


def layers(
    params: Mapping[str, Any],
    inputs: Any,
    *,
    dropout: float,
    padding_idx: int | None = 0,
    **options: Any,
) -> tuple[Float[Array, "B T DP"], Any]:
    """Applies the embedding, if there is one, and the recurrent layers."""
    if "embedding" in params:
        ids = check_ids("ids", inputs, rows(params["embedding"]), ndim=2)
        inputs = embedding(params["embedding"], ids, padding_idx=padding_idx)
    elif jnp.ndim(inputs) != 3:
        raise ValueError(
            f"a model without `embedding` takes inputs (batch, time, features), got shape "
            f"{jnp.shape(inputs)}"
        )
    if structure(recurrent_layers(params)).num_layers == 1:
        if options.get("masks") is not None:
            raise ValueError("`masks.layers` are those between layers, but the model has one only")
        dropout = 0.0
    return recurrent(params, inputs, dropout=dropout, **options)


def zero_padding(y: Float[Array, "B T O"], lengths: Lengths | None) -> Float[Array, "B T O"]:
    """Returns `y` with zeros at steps beyond the lengths."""
    if lengths is None:
        return y
    valid = valid_steps(check_lengths(lengths, y, True), y.shape[1])
    return jnp.where(valid[..., None], y, jnp.zeros_like(y))


def randomness(
    key: PRNGKeyArray | None, masks: DropoutMasks | None, **rates: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the options with which the recurrent layers and the head's dropout draw."""
    for name, rate in rates.items():
        check_dropout(rate, name)
    if masks is not None:
        if not isinstance(masks, DropoutMasks):
            raise TypeError(f"`masks` must be DropoutMasks, got {type(masks).__name__}")
        if key is not None:
            raise ValueError("`masks` come instead of `key`, got both")
        return {"masks": masks.layers}, {"mask": masks.head}
    if key is None:
        return {}, {}
    check_key(key)
    between, before_head = jax.random.split(key)
    return {"key": between}, {"key": before_head}
