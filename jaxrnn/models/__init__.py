"""Whole models: embedding, recurrent layers, pooling over time, a head; and sequence to sequence.

Parameters lie under the names that PyTorch texts give their modules (`embedding`, `lstm`, `fc`), so
that a `state_dict` loads as it is. Everything is batch first, as there. What a class of the texts
is called here:

=========================================  =======================================================
in torch                                   in jaxrnn, after `from_state_dict`
=========================================  =======================================================
`SimpleRNN`, `BasicRNN`, `MultiLayerRNN`,  `sequence_model(params, x, pool="last_step")`
`LSTMModel`, `GRUModel`, `LSTMForecaster`
`BidirectionalRNN` with `out[:, -1]`       `sequence_model(params, x, pool="last_step")`;
                                           `pool="last_state"` is what was probably meant
`LSTMForecaster` in training               likewise, and `dropout=0.2, key=key`
`GRUClassifier`: `hidden[-1]`              `sequence_model(params, x, dropout=0.3, key=key)`
`LSTMClassifier`, `BiLSTMClassifier`       `sequence_model(params, ids, dropout=0.3,
                                           head_dropout=0.5, key=key)`; with `lengths=lengths`
                                           padding takes no part, as was probably meant
`PackedLSTM`                               `sequence_model(params, ids, lengths=lengths)`
`TextClassificationRNN`                    `text_classifier(params, ids, lengths=lengths, key=key)`
`SentimentLSTM`                            `sentiment_classifier(params, ids, lengths, key=key)`
`RNNWithCell`, `MultiLayerRNNCell`         `cell_model(params, x)`
`SimpleRNNCell`                            `simple_rnn_cell(params, x, h)`
`LSTMWithLayerNorm`                        `layer_norm_lstm(params, x)`
`Encoder`, `Decoder`, `AttentionDecoder`   `encoder`, `decoder_step`
`Seq2Seq`, `Attention`                     `seq2seq`, `memory` and `attention`; then `greedy`,
                                           `beam_search`
=========================================  =======================================================

Without a `key` there is no dropout, which is torch's `eval()`. With `lengths`, padding takes no
part in anything; a text's model without packing is had by leaving them out.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer, PRNGKeyArray

from .. import _nn
from .._cells import rnn_cell
from .._check import check_dropout, check_key, check_lengths, check_positive
from .._init import (
    init_embedding,
    init_layer_norm,
    init_linear,
    init_lstm,
    init_of,
    init_rnn_cell,
)
from .._layers import Lengths, lstm, rnn
from .._nn import (
    check_ids,
    check_parts,
    embedding,
    layer_norm,
    linear,
    recurrent,
    recurrent_layers,
    rows,
    valid_steps,
)
from .._params import LSTMState, structure
from ._attention import Memory, attention, memory
from ._decode import Decoded, beam_search, greedy
from ._seq2seq import decoder_step, encoder, init_seq2seq, seq2seq


__all__ = [
    "Decoded",
    "DropoutMasks",
    "Memory",
    "attention",
    "beam_search",
    "cell_model",
    "decoder_step",
    "encoder",
    "greedy",
    "init_cell_model",
    "init_layer_norm_lstm",
    "init_sentiment_classifier",
    "init_seq2seq",
    "init_sequence_model",
    "init_simple_rnn_cell",
    "init_text_classifier",
    "layer_norm_lstm",
    "memory",
    "sentiment_classifier",
    "seq2seq",
    "sequence_model",
    "simple_rnn_cell",
    "text_classifier",
]

Params = Mapping[str, Any]


class DropoutMasks(NamedTuple):
    """Dropout decided beforehand, True where a value is kept: to have the same in torch.

    `layers` are what the recurrent layers take as `masks`, (L - 1, B, T, D·H); `head` is applied
    before the last linear layer, (B, its features). None where nothing is dropped.
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
    """Parameters for `sequence_model`, distributed as torch's would be.

    Args:
        key: a `jax.random` key.
        kind: `"rnn"`, `"lstm"` or `"gru"`.
        input_size: features of `x`; those of the embedding where there is one.
        hidden_size: of the recurrent layers.
        output_size: classes, or values to predict.
        vocab_size: rows of the embedding, for a model of ids; row 0 is the padding's.
        num_layers: recurrent layers.
        bidirectional: whether every layer also runs backwards.
        dtype: of the parameters.

    Returns:
        A dict of `embedding` (with a `vocab_size`), `rnn`, `lstm` or `gru`, and `fc`.

    Raises:
        ValueError: an unknown `kind`, or a size that is no positive integer.
        TypeError: `key` is no key, or `dtype` not floating.

    Source: that of `sequence_model`.

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
    params: Params,
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
    """Recurrent layers over a sequence, then a linear layer: most models of the texts.

    Args:
        params: layers of any kind under `rnn`, `lstm` or `gru`; `fc`; and `embedding`, if the
            inputs are ids. Parts that torch has under other names are renamed so, as in
            ``{"lstm": params["encoder"], "fc": params["out"]}``.
        inputs: (B, T, I) features, or (B, T) ids.
        state: the initial state of the recurrent layers; zeros by default.
        pool: what of the sequence the head sees: `"last_state"`, the last layer's final h of every
            direction; `"last_step"`, the output at the last step, of which the backward half has
            seen that step only; `"max"` or `"mean"` over time; None for an output at every step.
        lengths: (B,) how many steps of each sequence are valid. Padding takes part in nothing, and
            without pooling the output there is 0.
        padding_idx: the id whose embedding gets no gradient, that of `nn.Embedding` in torch; None
            where that has none.
        nonlinearity: of an RNN.
        dropout: between recurrent layers.
        head_dropout: before `fc`.
        key: from which both dropouts are drawn; without it and `masks` there is none.
        masks: the dropouts' masks themselves.
        checkpoint_every: as of `lstm`, for long sequences; saves most with the pool `"last_state"`.

    Returns:
        `(outputs, state)`: (B, O), or (B, T, O) without pooling; the layers' final state.

    Raises:
        ValueError: an unknown `pool`, sizes that do not fit, `masks` as well as a key.
        TypeError: dtypes that are mixed, ids that are no integers.

    Source: the classes named at the head of this module; Graves, *Supervised sequence labelling*
    (2012), for the bidirectional ones.

    >>> params = init_sequence_model(jax.random.key(0), "lstm", 4, 8, 2, vocab_size=10)
    >>> logits, (h, c) = sequence_model(params, jnp.array([[5, 3, 0], [2, 7, 1]]), lengths=[2, 3])
    >>> logits.shape
    (2, 2)
    """
    check_parts(params, "fc", optional=["embedding", *_nn.LAYERS])
    between, before_head = _randomness(key, masks, dropout=dropout, head_dropout=head_dropout)
    y, state = _layers(
        *(params, inputs, state),
        lengths=lengths,
        padding_idx=padding_idx,
        nonlinearity=nonlinearity,
        dropout=dropout,
        checkpoint_every=checkpoint_every,
        **between,
    )
    features = y if pool is None else _nn.pool(pool, y, state, lengths)
    out = linear(params["fc"], _nn.dropout(features, head_dropout, **before_head))
    if pool is None and lengths is not None:
        valid = valid_steps(check_lengths(lengths, y, True), y.shape[1])
        out = jnp.where(valid[..., None], out, jnp.zeros_like(out))
    return out, state


def init_text_classifier(
    key: PRNGKeyArray,
    vocab_size: int,
    embedding_dim: int,
    hidden_size: int,
    num_classes: int,
    *,
    num_layers: int = 2,
    fc1_size: int = 64,
    dtype: Any = float,
) -> dict[str, Any]:
    """Parameters for `text_classifier`: embedding, bidirectional LSTM, `fc1` and `fc2`.

    Args and errors are those of `init_sequence_model`; `fc1_size` are the features between the two
    linear layers.

    Source: that of `text_classifier`.

    >>> params = init_text_classifier(jax.random.key(0), 10, 4, 8, 2)
    >>> params["fc1"]["weight"].shape, params["fc2"]["weight"].shape
    ((64, 16), (2, 64))
    """
    check_key(key)
    check_positive(vocab_size=vocab_size, num_classes=num_classes, fc1_size=fc1_size)
    key, k_head = jax.random.split(key)
    sizes = (embedding_dim, hidden_size, fc1_size)
    options = {"vocab_size": vocab_size, "num_layers": num_layers, "dtype": dtype}
    params = init_sequence_model(key, "lstm", *sizes, bidirectional=True, **options)
    params["fc1"] = params.pop("fc")
    return params | {"fc2": init_linear(k_head, fc1_size, num_classes, dtype=dtype)}


def text_classifier(
    params: Params,
    ids: Integer[ArrayLike, "B T"],
    *,
    lengths: Lengths | None = None,
    dropout: float = 0.3,
    head_dropout: float = 0.5,
    key: PRNGKeyArray | None = None,
    masks: DropoutMasks | None = None,
) -> Float[Array, "B C"]:
    """The largest output over time, then two linear layers: `TextClassificationRNN`.

    Without `lengths` the padding, a token like any other, takes part in the maximum, as in the
    text; with them it does not.

    Args:
        params: `embedding`, `lstm` (or `rnn`, `gru`), `fc1` and `fc2`.
        ids: tokens, 0 being padding.
        lengths: (B,) how many of each sequence are valid.
        dropout: between recurrent layers.
        head_dropout: after the ReLU of `fc1`.
        key: from which both dropouts are drawn; without it and `masks` there is none.
        masks: the dropouts' masks themselves.

    Returns:
        Logits.

    Raises:
        ValueError, TypeError: those of `sequence_model`.

    Source: a text's class of that name; the maximum: Conneau et al. (2017),
    https://arxiv.org/abs/1705.02364.

    >>> params = init_text_classifier(jax.random.key(0), 10, 4, 8, 2)
    >>> short, long = jnp.array([[5, 3]]), jnp.array([[5, 3, 0, 0]])
    >>> jnp.allclose(text_classifier(params, short), text_classifier(params, long, lengths=[2]))
    Array(True, dtype=bool)
    """
    check_parts(params, "fc1", "fc2", optional=["embedding", *_nn.LAYERS])
    between, before_head = _randomness(key, masks, dropout=dropout, head_dropout=head_dropout)
    y, state = _layers(params, ids, None, lengths=lengths, dropout=dropout, **between)
    features = jax.nn.relu(linear(params["fc1"], _nn.pool("max", y, state, lengths)))
    return linear(params["fc2"], _nn.dropout(features, head_dropout, **before_head))


def init_sentiment_classifier(
    key: PRNGKeyArray,
    vocab_size: int,
    embedding_dim: int = 100,
    hidden_size: int = 256,
    *,
    num_layers: int = 2,
    dtype: Any = float,
) -> dict[str, Any]:
    """Parameters for `sentiment_classifier`; the linear layer is `fc.1`, as in a `Sequential`.

    Args and errors are those of `init_sequence_model`.

    Source: that of `sentiment_classifier`.

    >>> init_sentiment_classifier(jax.random.key(0), 10, 4, 8)["fc"]["1"]["weight"].shape
    (1, 16)
    """
    options = {"vocab_size": vocab_size, "num_layers": num_layers, "dtype": dtype}
    params = init_sequence_model(
        key, "lstm", embedding_dim, hidden_size, 1, bidirectional=True, **options
    )
    return params | {"fc": {"1": params["fc"]}}


def sentiment_classifier(
    params: Params,
    ids: Integer[ArrayLike, "B T"],
    lengths: Lengths | None = None,
    *,
    dropout: float = 0.5,
    head_dropout: float = 0.5,
    key: PRNGKeyArray | None = None,
    masks: DropoutMasks | None = None,
) -> Float[Array, " B"]:
    """The probability of one of two classes from both directions' final states: `SentimentLSTM`.

    For training, `jaxrnn.losses.binary_cross_entropy` takes it as the text does. Far from 0 that
    loss has no gradient left; more stable is `sequence_model` with `fc.1` as `fc`, whose logits
    `binary_cross_entropy_with_logits` takes.

    Args, errors: those of `text_classifier`; `head_dropout` is before the linear layer.

    Returns:
        Probabilities.

    Source: a text's class of that name.

    >>> params = init_sentiment_classifier(jax.random.key(0), 10, 4, 8)
    >>> sentiment_classifier(params, jnp.array([[5, 3, 0]]), [2]).shape
    (1,)
    """
    check_parts(params, "fc", optional=["embedding", *_nn.LAYERS])
    check_parts(params["fc"], "1", of="fc")
    params = {**params, "fc": params["fc"]["1"]}
    logits, _ = sequence_model(
        *(params, ids),
        lengths=lengths,
        dropout=dropout,
        head_dropout=head_dropout,
        key=key,
        masks=masks,
    )
    return jax.nn.sigmoid(logits[:, 0])


def init_cell_model(
    key: PRNGKeyArray,
    input_size: int,
    hidden_size: int,
    output_size: int,
    *,
    num_layers: int | None = None,
    dtype: Any = float,
) -> dict[str, Any]:
    """Parameters for `cell_model`: one `rnn_cell`, or `cells` where `num_layers` is given.

    Args and errors are those of `init_sequence_model`.

    Source: that of `cell_model`.

    >>> init_cell_model(jax.random.key(0), 3, 4, 2, num_layers=2)["cells"]["1"]["weight_ih"].shape
    (4, 4)
    """
    check_key(key)
    count = 1 if num_layers is None else num_layers
    check_positive(hidden_size=hidden_size, output_size=output_size, num_layers=count)
    keys = jax.random.split(key, 1 + count)
    head = {"fc": init_linear(keys[0], hidden_size, output_size, dtype=dtype)}
    widths = [input_size] + [hidden_size] * (count - 1)
    cells = {
        str(i): init_rnn_cell(key, width, hidden_size, dtype=dtype)
        for i, (key, width) in enumerate(zip(keys[1:], widths, strict=True))
    }
    return head | ({"rnn_cell": cells["0"]} if num_layers is None else {"cells": cells})


def cell_model(
    params: Params, x: Float[ArrayLike, "B T I"], *, nonlinearity: str = "tanh"
) -> Float[Array, "B O"]:
    """Cells stepped through time by hand, then a linear layer: `RNNWithCell`, `MultiLayerRNNCell`.

    That loop is what `rnn` computes: cells become its layers.

    Args:
        params: `rnn_cell`, or `cells` with `0`, `1`, …, from the first layer on; and `fc`.
        x: the inputs.
        nonlinearity: `"tanh"` or `"relu"`.

    Raises:
        ValueError: neither `rnn_cell` nor `cells`, or sizes that do not fit.

    Source: two texts' classes of these names.

    >>> params = init_cell_model(jax.random.key(0), 3, 4, 2)
    >>> cell_model(params, jnp.ones((5, 6, 3))).shape
    (5, 2)
    """
    check_parts(params, "cells" if "cells" in params else "rnn_cell", "fc")
    cells = params.get("cells", {"0": params.get("rnn_cell")})
    check_parts(cells, *map(str, range(len(cells))), of="cells")
    for name, cell in cells.items():
        structure(cell, "rnn_cell") if isinstance(cell, Mapping) else check_parts(cell, of=name)
    layers = {f"{name}_l{i}": a for i, cell in cells.items() for name, a in cell.items()}
    _, h = rnn(layers, x, nonlinearity=nonlinearity, batch_first=True)
    return linear(params["fc"], h[-1])


def init_simple_rnn_cell(
    key: PRNGKeyArray, input_size: int, hidden_size: int, *, dtype: Any = float
) -> dict[str, Any]:
    """Parameters for `simple_rnn_cell`, each linear layer with torch's distribution of its own.

    Source: that of `simple_rnn_cell`.

    >>> init_simple_rnn_cell(jax.random.key(0), 3, 4)["W_xh"]["weight"].shape
    (4, 3)
    """
    check_key(key)
    check_positive(input_size=input_size, hidden_size=hidden_size)
    k_x, k_h = jax.random.split(key)
    return {
        "W_xh": init_linear(k_x, input_size, hidden_size, dtype=dtype),
        "W_hh": init_linear(k_h, hidden_size, hidden_size, dtype=dtype),
    }


def simple_rnn_cell(
    params: Params, x: Float[ArrayLike, "B I"], h: Float[ArrayLike, "B H"] | None = None
) -> Float[Array, "B H"]:
    r"""A cell made of two linear layers: `SimpleRNNCell`.

    .. math:: h' = \tanh(W_{xh} x + b_{xh} + W_{hh} h + b_{hh})

    It is `rnn_cell` under other names.

    Args:
        params: `W_xh` and `W_hh`, each with `weight` and `bias`.
        x: one step.
        h: the state; zeros by default.

    Raises:
        ValueError, TypeError: those of `rnn_cell`.

    Source: a text's class of that name; Elman, *Finding structure in time* (1990).

    >>> params = init_simple_rnn_cell(jax.random.key(0), 3, 4)
    >>> simple_rnn_cell(params, jnp.ones((5, 3))).shape
    (5, 4)
    """
    check_parts(params, "W_xh", "W_hh")
    for name in ("W_xh", "W_hh"):
        check_parts(params[name], "weight", optional=["bias"], of=name)
    ends = {"W_xh": "_ih", "W_hh": "_hh"}
    cell = {part + ends[name]: a for name in ends for part, a in params[name].items()}
    return rnn_cell(cell, x, h)


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


def _layers(
    params: Params,
    inputs: Any,
    state: Any,
    *,
    dropout: float,
    padding_idx: int | None = 0,
    **options: Any,
) -> tuple[Float[Array, "B T DP"], Any]:
    """Embedding, if there is one, and recurrent layers."""
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
    return recurrent(params, inputs, state, dropout=dropout, **options)


def _randomness(
    key: PRNGKeyArray | None, masks: DropoutMasks | None, **rates: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the recurrent layers, and what the head's dropout are to draw from."""
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
