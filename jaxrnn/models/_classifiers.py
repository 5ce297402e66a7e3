"""Two classifiers of the texts, on bidirectional LSTMs, with heads of their own."""

from collections.abc import Mapping
from typing import Any

import jax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from .. import _nn
from .._check import check_key, check_positive
from .._init import init_linear
from .._layers import Lengths
from .._nn import check_parts, linear
from ._sequence_model import DropoutMasks, init_sequence_model, layers, randomness, sequence_model


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
    """Returns parameters for `text_classifier`: embedding, bidirectional LSTM, `fc1` and `fc2`.

    Takes the arguments of `init_sequence_model` and raises its errors; `fc1_size` is the number of
    features between the two linear layers.

    Source: as for `text_classifier`.

    >>> params = init_text_classifier(jax.random.key(0), 10, 4, 8, 2)
    >>> params["fc1"]["weight"].shape, params["fc2"]["weight"].shape
    ((64, 16), (2, 64))
    """
    check_key(key)
    check_positive(vocab_size=vocab_size, num_classes=num_classes, fc1_size=fc1_size)
    key, k_head = jax.random.split(key)
    params = init_sequence_model(
        key,
        "lstm",
        input_size=embedding_dim,
        hidden_size=hidden_size,
        output_size=fc1_size,
        vocab_size=vocab_size,
        num_layers=num_layers,
        bidirectional=True,
        dtype=dtype,
    )
    params["fc1"] = params.pop("fc")
    return params | {"fc2": init_linear(k_head, fc1_size, num_classes, dtype=dtype)}


def text_classifier(
    params: Mapping[str, Any],
    ids: Integer[ArrayLike, "B T"],
    *,
    lengths: Lengths | None = None,
    dropout: float = 0.3,
    head_dropout: float = 0.5,
    key: PRNGKeyArray | None = None,
    masks: DropoutMasks | None = None,
) -> Float[Array, "B C"]:
    """Applies two linear layers to the maximum over time: `TextClassificationRNN`.

    Without `lengths` padding is a token like any other and takes part in the maximum, as in the
    text; with them it does not.

    Args:
        params: `embedding`, `lstm` (or `rnn`, `gru`), `fc1` and `fc2`.
        ids: tokens; 0 is padding.
        lengths: (B,) how many tokens of each sequence are valid.
        dropout: the rate between recurrent layers.
        head_dropout: the rate after the ReLU of `fc1`.
        key: the key of both dropouts; without `key` and `masks` nothing is dropped.
        masks: the masks of both dropouts, instead of a key.

    Returns:
        Logits.

    Raises:
        ValueError, TypeError: as `sequence_model`.

    Source: a text's class of that name; the maximum: Conneau et al. (2017),
    https://arxiv.org/abs/1705.02364.

    >>> params = init_text_classifier(jax.random.key(0), 10, 4, 8, 2)
    >>> short, long = jnp.array([[5, 3]]), jnp.array([[5, 3, 0, 0]])
    >>> jnp.allclose(text_classifier(params, short), text_classifier(params, long, lengths=[2]))
    Array(True, dtype=bool)
    """
    check_parts(params, "fc1", "fc2", optional=["embedding", *_nn.LAYERS])
    between, before_head = randomness(key, masks, dropout=dropout, head_dropout=head_dropout)
    y, state = layers(params, ids, lengths=lengths, dropout=dropout, **between)
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
    """Returns parameters for `sentiment_classifier`; its linear layer is `fc.1`, of a `Sequential`.

    Takes the arguments of `init_sequence_model` and raises its errors.

    Source: as for `sentiment_classifier`.

    >>> init_sentiment_classifier(jax.random.key(0), 10, 4, 8)["fc"]["1"]["weight"].shape
    (1, 16)
    """
    params = init_sequence_model(
        key,
        "lstm",
        input_size=embedding_dim,
        hidden_size=hidden_size,
        output_size=1,
        vocab_size=vocab_size,
        num_layers=num_layers,
        bidirectional=True,
        dtype=dtype,
    )
    return params | {"fc": {"1": params["fc"]}}


def sentiment_classifier(
    params: Mapping[str, Any],
    ids: Integer[ArrayLike, "B T"],
    lengths: Lengths | None = None,
    *,
    dropout: float = 0.5,
    head_dropout: float = 0.5,
    key: PRNGKeyArray | None = None,
    masks: DropoutMasks | None = None,
) -> Float[Array, " B"]:
    """Predicts one of two classes from both directions' final states: `SentimentLSTM`.

    The text trains it with `jaxrnn.losses.binary_cross_entropy`, whose gradient vanishes where the
    logits are large. It is more stable to call `sequence_model` with `fc.1` as `fc`, and to give
    its logits to `binary_cross_entropy_with_logits`.

    Takes the arguments of `text_classifier` and raises its errors; `head_dropout` is the rate
    before the linear layer.

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
        params,
        ids,
        lengths=lengths,
        dropout=dropout,
        head_dropout=head_dropout,
        key=key,
        masks=masks,
    )
    return jax.nn.sigmoid(logits[:, 0])
