"""Decoding with a sequence-to-sequence model: greedily, or by beam search."""

from collections.abc import Mapping
from numbers import Real
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer

from .._cells import widen
from .._check import check_positive, is_integer, is_traced
from .._layers import Lengths
from .._nn import valid_steps
from ._seq2seq import decoder_step, read, vocabulary_size


Params = Mapping[str, Any]


class Decoded(NamedTuple):
    """What decoding found.

    `tokens` are those after the first, up to `lengths`; from there on stands `eos`. A length of
    `max_length` means that no `eos` came. `scores` are log-probabilities, `eos` included, under a
    length penalty divided by it. Beam search has an axis for its hypotheses after the batch's, the
    best first; greedy decoding has the attention `weights` of every step.
    """

    tokens: Integer[Array, "B *K T"]
    lengths: Integer[Array, "B *K"]
    scores: Float[Array, "B *K"]
    weights: Float[Array, "B T S"] | None


def greedy(
    params: Params,
    source: Integer[ArrayLike, "B S"],
    *,
    sos: int,
    eos: int,
    max_length: int,
    lengths: Lengths | None = None,
) -> Decoded:
    """Decodes by the most likely token at every step.

    Args:
        params: as for `seq2seq`.
        source: tokens.
        sos: the token that starts the decoder.
        eos: the token that ends a sequence.
        max_length: steps of the decoder; static.
        lengths: (B,) how many tokens of each source are valid.

    Returns:
        `Decoded(tokens, lengths, scores, weights)`.

    Raises:
        ValueError: `sos` or `eos` not in the vocabulary, `max_length` not positive.

    Source: Sutskever, Vinyals & Le (2014), https://arxiv.org/abs/1409.3215.
    """
    sos, eos = _check_decoding(params, sos, eos, max_length)
    state, seen = read(params, source, lengths)

    def step(carry: Any, _: None) -> Any:
        token, state, ended, score = carry
        logits, state, weights = decoder_step(params["decoder"], token, state, seen)
        token = jnp.where(ended, eos, logits.argmax(-1).astype(token.dtype))
        log_p = jax.nn.log_softmax(widen(logits))[jnp.arange(len(token)), token]
        score = jnp.where(ended, score, score + log_p)
        ended = ended | (token == eos)
        return (token, state, ended, score), (token, weights)

    start = jnp.full(len(seen.values), sos, jnp.int32)
    score = jnp.zeros(start.shape, widen(seen.values).dtype)
    carry = (start, state, start != start, score)
    (_, _, _, score), every = jax.lax.scan(step, carry, length=max_length)
    tokens, weights = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), every)
    return Decoded(tokens, _lengths(tokens, eos), score, weights)


def beam_search(
    params: Params,
    source: Integer[ArrayLike, "B S"],
    *,
    sos: int,
    eos: int,
    max_length: int,
    beam_width: int,
    length_penalty: float | Float[Array, ""] = 0.0,
    lengths: Lengths | None = None,
) -> Decoded:
    r"""Decodes by keeping the `beam_width` best hypotheses at every step.

    .. math:: \text{score}(y) = \log p(y) / ((5 + |y|) / 6)^\alpha

    where α is the `length_penalty` and |y| counts `eos`. A hypothesis that has ended keeps its
    place and its score as long as no better ones push it out. With `beam_width=1` this is `greedy`;
    with a beam as wide as there are sequences it is an exhaustive search.

    Args:
        params: as for `seq2seq`.
        source: tokens.
        sos: the token that starts the decoder.
        eos: the token that ends a sequence.
        max_length: steps of the decoder; static.
        beam_width: K, how many hypotheses are kept; static.
        length_penalty: α ≥ 0; 0 prefers short sequences, 1 comes near the mean log-probability.
        lengths: (B,) how many tokens of each source are valid.

    Returns:
        `Decoded(tokens, lengths, scores, None)` with K hypotheses for every source, the best first.
        Where there are fewer sequences than K, the rest has the score -inf and the length 0.
        There is no derivative in reverse mode; that of a decoded sequence's score is `seq2seq`'s.

    Raises:
        ValueError: a token not in the vocabulary, a size that is not positive, a negative penalty.

    Source: Graves (2012), https://arxiv.org/abs/1211.3711; the penalty: Wu et al. (2016),
    https://arxiv.org/abs/1609.08144, equation 14.
    """
    sos, eos = _check_decoding(params, sos, eos, max_length)
    check_positive(beam_width=beam_width)
    scalar = isinstance(length_penalty, Real | jax.Array) and jnp.ndim(length_penalty) == 0
    if not scalar or not (is_traced(length_penalty) or 0 <= float(length_penalty) < float("inf")):
        raise ValueError(f"`length_penalty` must be a number, 0 or more, got {length_penalty!r}")
    state, seen = read(params, source, lengths)
    batch, width, words = len(seen.values), int(beam_width), vocabulary_size(params)
    rows = jnp.arange(batch, dtype=jnp.int32)[:, None]
    # Every hypothesis is a row of one large batch, the K of a source next to one another.
    repeat = lambda axis: lambda a: jnp.repeat(a, width, axis)
    state, seen = jax.tree.map(repeat(1), state), jax.tree.map(repeat(0), seen)

    def step(t: Any, carry: Any) -> Any:
        tokens, state, log_p, count = carry
        ended = (tokens == eos).any(-1)
        last = jnp.where(t == 0, sos, tokens[:, :, t - 1]).reshape(-1)
        logits, state, _ = decoder_step(params["decoder"], last, state, seen)
        each = jax.nn.log_softmax(widen(logits)).reshape(batch, width, words)
        # What has ended goes on in one way only, at no cost.
        stay = jnp.where(jnp.arange(words) == eos, 0.0, -jnp.inf).astype(each.dtype)
        log_p = log_p[..., None] + jnp.where(ended[..., None], stay, each)
        count = jnp.where(ended, count, count + 1)
        rank = log_p / _penalty(count, length_penalty, each.dtype)[..., None]
        _, best = jax.lax.top_k(rank.reshape(batch, width * words), width)
        parent, word = best // words, (best % words).astype(tokens.dtype)
        tokens = tokens[rows, parent].at[:, :, t].set(word)
        state = jax.tree.map(lambda a: a[:, (rows * width + parent).reshape(-1)], state)
        return tokens, state, log_p.reshape(batch, width * words)[rows, best], count[rows, parent]

    def going(carry: Any) -> Any:
        t, (tokens, *_) = carry
        return (t < max_length) & ~(tokens == eos).any(-1).all()

    tokens = jnp.full((batch, width, max_length), -1, jnp.int32)
    # At first all hypotheses are the same one: only the first may go on.
    log_p = jnp.where(jnp.arange(width) == 0, 0.0, -jnp.inf).astype(widen(seen.values).dtype)
    count = jnp.zeros((batch, width), jnp.int32)
    carry = (0, (tokens, state, jnp.broadcast_to(log_p, (batch, width)), count))
    onward = lambda carry: (carry[0] + 1, step(*carry))
    _, (tokens, _, log_p, count) = jax.lax.while_loop(going, onward, carry)
    scores = log_p / _penalty(count, length_penalty, log_p.dtype)
    ends = jnp.where(jnp.isneginf(scores), 0, _lengths(tokens, eos))
    tokens = jnp.where(valid_steps(ends, max_length), tokens, eos)
    return Decoded(tokens, ends, scores, None)


def _check_decoding(params: Params, sos: int, eos: int, max_length: int) -> tuple[int, int]:
    words = vocabulary_size(params)
    for name, token in (("sos", sos), ("eos", eos)):
        if not is_integer(token) or not 0 <= int(token) < words:
            raise ValueError(
                f"`{name}` must be one of the target's {words} tokens, got {token!r}: a Python "
                "integer, static under jit"
            )
    check_positive(max_length=max_length)
    return int(sos), int(eos)


def _lengths(tokens: Array, eos: int) -> Array:
    ended = tokens == eos
    return jnp.where(ended.any(-1), ended.argmax(-1), tokens.shape[-1]).astype(jnp.int32)


def _penalty(count: Array, alpha: ArrayLike, dtype: Any) -> Array:
    return ((5 + count.astype(dtype)) / 6) ** jnp.asarray(alpha, dtype)
