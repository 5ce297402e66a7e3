"""Sequence to sequence: an encoder, and a decoder that may attend to its outputs.

The parameters determine the cells, the layers, one direction or two, and whether and how the
decoder attends. `_decode` searches with the same `decoder_step`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer, PRNGKeyArray

from .._check import check_dtype, check_key, check_lengths, check_positive, is_number
from .._init import init_embedding, init_linear, init_of
from .._layers import Lengths
from .._nn import (
    LAYERS,
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
from ._attention import Memory, attention, memory


def init_seq2seq(
    key: PRNGKeyArray,
    source_size: int,
    target_size: int,
    embedding_dim: int,
    hidden_size: int,
    *,
    kind: str = "lstm",
    num_layers: int = 1,
    bidirectional: bool = False,
    attention: str | None = None,
    dtype: Any = float,
) -> dict[str, Any]:
    """Returns parameters for `seq2seq`, distributed as torch's are.

    Args:
        key: a `jax.random` key.
        source_size: number of tokens in the source vocabulary.
        target_size: number of tokens in the target vocabulary.
        embedding_dim: features of both embeddings.
        hidden_size: features of h in the encoder, for each direction. The decoder has as many, or
            twice as many if the encoder is bidirectional.
        kind: `"rnn"`, `"lstm"` or `"gru"`.
        num_layers: number of layers of the encoder and of the decoder.
        bidirectional: whether the encoder runs both ways.
        attention: `None`, `"additive"`, `"general"` or `"dot"`.
        dtype: of the parameters.

    Returns:
        `{"encoder": {"embedding", kind}, "decoder": {"embedding", kind, "fc"}}`; the decoder also
        has `"attention"` if that is additive or general.

    Raises:
        ValueError: a size is not a positive integer, or `kind` or `attention` is unknown.
        TypeError: `key` is not a key, or `dtype` is not floating.

    Source: as for `seq2seq`.

    >>> params = init_seq2seq(jax.random.key(0), 9, 8, 4, 5, attention="additive")
    >>> params["decoder"]["lstm"]["weight_ih_l0"].shape, sorted(params["decoder"])
    ((20, 9), ['attention', 'embedding', 'fc', 'lstm'])
    """
    init = init_of(kind)
    if attention not in (None, "additive", "general", "dot"):
        raise ValueError(
            f"`attention` must be None, 'additive', 'general' or 'dot', got {attention!r}"
        )
    check_key(key)
    check_positive(source_size=source_size, target_size=target_size)
    keys = iter(jax.random.split(key, 7))
    size = 2 * hidden_size if bidirectional else hidden_size
    encoder = {
        "embedding": init_embedding(next(keys), source_size, embedding_dim, dtype=dtype),
        kind: init(
            next(keys),
            embedding_dim,
            hidden_size,
            num_layers=num_layers,
            bidirectional=bidirectional,
            dtype=dtype,
        ),
    }
    context = size if attention else 0
    decoder = {
        "embedding": init_embedding(next(keys), target_size, embedding_dim, dtype=dtype),
        kind: init(next(keys), embedding_dim + context, size, num_layers=num_layers, dtype=dtype),
        "fc": init_linear(next(keys), size, target_size, dtype=dtype),
    }
    if attention == "additive":
        decoder["attention"] = {
            "attn": init_linear(next(keys), 2 * size, size, dtype=dtype),
            "v": init_linear(next(keys), size, 1, bias=False, dtype=dtype),
        }
    if attention == "general":
        attn = init_linear(next(keys), size, size, bias=False, dtype=dtype)
        decoder["attention"] = {"attn": attn}
    return {"encoder": encoder, "decoder": decoder}


def encoder(
    params: Mapping[str, Any], source: Integer[ArrayLike, "B S"], *, lengths: Lengths | None = None
) -> tuple[Float[Array, "B S E"], Any]:
    """Embeds and reads the source: the texts' `Encoder`.

    Args:
        params: `embedding`, and `rnn`, `lstm` or `gru` of any layers, in one direction or two.
        source: tokens.
        lengths: (B,) how many tokens of each sequence are valid.

    Returns:
        `(outputs, state)`: the last layer's output at every step, and each layer's final state,
        both directions of a bidirectional layer side by side, (L, B, D·H), as a decoder takes it.

    Raises:
        ValueError, TypeError: as `embedding` and `lstm`.

    Source: Sutskever, Vinyals & Le (2014), https://arxiv.org/abs/1409.3215.

    >>> params = init_seq2seq(jax.random.key(0), 9, 8, 4, 5, bidirectional=True)
    >>> outputs, (h, c) = encoder(params["encoder"], jnp.array([[1, 2, 3]]))
    >>> outputs.shape, h.shape
    ((1, 3, 10), (1, 1, 10))
    """
    check_parts(params, "embedding", optional=LAYERS)
    source = check_ids("source", source, rows(params["embedding"]), ndim=2)
    x = embedding(params["embedding"], source)
    outputs, state = recurrent(params, x, lengths=lengths)
    directions = structure(recurrent_layers(params)).num_directions
    join = lambda a: jnp.concatenate([a[d::directions] for d in range(directions)], axis=-1)
    return outputs, jax.tree.map(join, state)


def decoder_step(
    params: Mapping[str, Any],
    token: Integer[ArrayLike, " B"],
    state: Any,
    memory: Memory | None = None,
) -> tuple[Float[Array, "B V"], Any, Float[Array, "B S"] | None]:
    r"""Predicts one token: the texts' `Decoder`, or `AttentionDecoder` if it attends.

    .. math::
        c &= \operatorname{attention}(h_{t-1}, e) \\
        h_t &= \operatorname{RNN}([\operatorname{embedding}(\text{token}); c], h_{t-1}) \\
        \text{logits} &= W_{fc} h_t + b_{fc}

    The query is the last layer's h. The decoder attends if its recurrent layer takes more features
    than the embedding has.

    Args:
        params: `embedding`, `rnn`, `lstm` or `gru`, `fc`, and for an additive or general score
            `attention`.
        token: the previous token.
        state: the previous state, (L, B, H).
        memory: from `memory(params.get("attention", {}), encoder_outputs)`, to attend to.

    Returns:
        `(logits, state, weights)`; `weights` are None without attention.

    Raises:
        ValueError: sizes do not fit, or a decoder that attends has no `memory`.

    Source: Bahdanau, Cho & Bengio (2015), https://arxiv.org/abs/1409.0473.
    """
    check_parts(params, "embedding", "fc", optional=[*LAYERS, "attention"])
    token = check_ids("token", token, rows(params["embedding"]), ndim=1)
    x, weights = embedding(params["embedding"], token), None
    kind, wanted, *_ = structure(recurrent_layers(params))
    if wanted != x.shape[-1]:
        memory = _check_memory(memory, kind, wanted, x.shape[-1])
        if state is None:
            raise ValueError("`state` must be the encoder's, because attention asks with it")
        h = state[0] if isinstance(state, tuple | list) else state
        context, weights = attention(params.get("attention", {}), h[-1], memory)
        x = jnp.concatenate([x, context], axis=-1)
    elif "attention" in params:
        raise ValueError(
            f"the decoder has `attention`, but its `{kind}` takes the {wanted} features of the "
            "embedding alone, and no context"
        )
    y, state = recurrent(params, x[:, None], state)
    return linear(params["fc"], y[:, 0]), state, weights


def _check_memory(memory: Any, kind: str, wanted: int, embedded: int) -> Memory:
    """Returns a memory that, with the embedding, has the features the recurrent layer takes."""
    width = memory.values.shape[-1] if isinstance(memory, Memory) else 0
    if not isinstance(memory, Memory) or wanted != embedded + width:
        other = f"`memory` {width}" if width else "there is no `memory`"
        raise ValueError(
            f"the decoder's `{kind}` takes {wanted} features, but the embedding has {embedded}, "
            f"and {other}: pass memory(params.get('attention', {{}}), outputs) of the encoder's "
            "outputs"
        )
    return memory


def seq2seq(
    params: Mapping[str, Any],
    source: Integer[ArrayLike, "B S"],
    target: Integer[ArrayLike, "B T"],
    *,
    lengths: Lengths | None = None,
    teacher_forcing_ratio: float = 0.5,
    key: PRNGKeyArray | None = None,
    coins: Bool[ArrayLike, " T-1"] | None = None,
) -> tuple[Float[Array, "B T V"], Float[Array, "B T S"] | None]:
    """Reads a source and predicts a target: the texts' `Seq2Seq`, with attention or without.

    A loss leaves out step 0: ``cross_entropy(jnp.moveaxis(outputs[:, 1:], -1, 1), target[:, 1:],
    ignore_index=0)``. The nonlinearity of an `rnn` is tanh.

    It replaces this loop::

        token, outputs[:, 0] = target[:, 0], 0
        for t in range(1, T):
            outputs[:, t], state, _ = decoder_step(params["decoder"], token, state, memory)
            token = target[:, t] if coins[t - 1] else outputs[:, t].argmax(1)

    Args:
        params: `{"encoder": …, "decoder": …}`, as `init_seq2seq` makes them.
        source: tokens.
        target: tokens; the first one starts the decoder.
        lengths: (B,) how many tokens of each source are valid. Padding changes nothing, and its
            attention weight is 0.
        teacher_forcing_ratio: the probability that the next step gets the true token instead of
            the most likely one. 0 and 1 need no key.
        key: a `jax.random` key, with which one coin is tossed for every step.
        coins: the coins, True for the true token, instead of a ratio and a key. The last one has
            no effect.

    Returns:
        `(outputs, weights)`: logits, zeros at step 0; and the attention weights, zeros at step 0,
        or None without attention.

    Raises:
        ValueError: `key` and `coins` are both missing, the ratio is outside [0, 1], or sizes do
            not fit.
        TypeError: tokens are not integers, or coins are not boolean.

    Source: Sutskever, Vinyals & Le (2014), https://arxiv.org/abs/1409.3215; teacher forcing:
    Williams & Zipser (1989); the coins: Bengio et al. (2015), https://arxiv.org/abs/1506.03099.

    >>> params = init_seq2seq(jax.random.key(0), 9, 8, 4, 5, attention="dot")
    >>> source, target = jnp.array([[1, 2, 3]]), jnp.array([[1, 4, 2, 0]])
    >>> outputs, weights = seq2seq(params, source, target, teacher_forcing_ratio=1.0)
    >>> outputs.shape, weights.shape
    ((1, 4, 8), (1, 4, 3))
    """
    target = check_ids("target", target, vocabulary_size(params), ndim=2)
    if target.shape[1] == 0:
        raise ValueError("`target` must have at least its first token, which starts the decoder")
    coins = _coins(target.shape[1] - 1, teacher_forcing_ratio, key, coins)
    state, encoded = read(params, source, lengths)
    if len(target) != len(encoded.values):
        raise ValueError(f"`source` has {len(encoded.values)} sequences, `target` {len(target)}")

    def step(carry: Any, inputs: Any) -> Any:
        token, state = carry
        true, coin = inputs
        logits, state, weights = decoder_step(params["decoder"], token, state, encoded)
        token = jnp.where(coin, true, logits.argmax(-1).astype(true.dtype))
        return (token, state), (logits, weights)

    _, steps = jax.lax.scan(step, (target[:, 0], state), (target.T[1:], coins))
    pad = lambda a: jnp.pad(jnp.swapaxes(a, 0, 1), ((0, 0), (1, 0), (0, 0)))
    return jax.tree.map(pad, steps)


def read(params: Mapping[str, Any], source: Any, lengths: Any) -> tuple[Any, Memory]:
    """Encodes the source: returns the decoder's first state, and what it attends to."""
    outputs, state = encoder(params["encoder"], source, lengths=lengths)
    valid = None
    if lengths is not None:
        valid = valid_steps(check_lengths(lengths, outputs, True), outputs.shape[1])
    return state, memory(params["decoder"].get("attention", {}), outputs, valid)


def _coins(steps: int, ratio: Any, key: Any, coins: Any) -> Array:
    """Returns a coin for every step after the first, True for the true token."""
    if coins is not None:
        coins = jnp.asarray(coins)
        if key is not None:
            raise ValueError("`coins` come instead of `key`, got both")
        if coins.size:
            check_dtype("coins", coins.dtype, jnp.bool_, "boolean, True for the true token")
        if coins.shape != (steps,):
            raise ValueError(
                f"`coins` must have the shape {(steps,)}, one for every step after the first, got "
                f"{coins.shape}"
            )
        return coins
    if not is_number(ratio) or not 0 <= float(ratio) <= 1:
        raise ValueError(
            f"`teacher_forcing_ratio` must be between 0 and 1, got {ratio!r}: a Python number"
        )
    if key is None:
        if 0 < float(ratio) < 1:
            raise ValueError(
                f"`teacher_forcing_ratio` {ratio} needs a `key` to toss coins with: pass key=, or "
                "coins=, or a ratio of 0 (never the true token) or 1 (always)"
            )
        return jnp.full(steps, float(ratio) == 1)
    check_key(key)
    return jax.random.bernoulli(key, jnp.float32(ratio), (steps,))


def vocabulary_size(params: Mapping[str, Any]) -> int:
    """Returns how many tokens the target's vocabulary has."""
    check_parts(params, "encoder", "decoder")
    decoder = params["decoder"]
    check_parts(decoder, "embedding", "fc", optional=[*LAYERS, "attention"], of="decoder")
    words, known = rows(decoder["fc"]), rows(decoder["embedding"])
    if known < words:
        raise ValueError(
            f"the decoder's `fc` gives {words} tokens, but its `embedding` knows {known}"
        )
    return words
