"""Two classifiers of the texts whose heads are not a single linear layer."""

from collections.abc import Mapping
from typing import Any

import jax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from .. import _nn
from .._check import check_key, check_positive
from .._init import (
    init_linear,
)
from .._layers import Lengths
from .._nn import (
    check_parts,
    linear,
)
from ._sequence_model import DropoutMasks, init_sequence_model, layers, randomness, sequence_model


Params = Mapping[str, Any]


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
    between, before_head = randomness(key, masks, dropout=dropout, head_dropout=head_dropout)
    y, state = layers(params, ids, None, lengths=lengths, dropout=dropout, **between)
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
