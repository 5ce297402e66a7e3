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


class Decoded(NamedTuple):
    """The tokens that decoding chose, and how likely they are.

    `tokens` start after `sos`; from `lengths` on they are `eos`. A length of `max_length` means
    that there is no `eos`. `scores` are log-probabilities, `eos` included, divided by the length
    penalty if there is one. Beam search has an axis of hypotheses after the batch axis, the best
    first; greedy decoding has the attention `weights` of every step.
    """

    tokens: Integer[Array, "B *K T"]
    lengths: Integer[Array, "B *K"]
    scores: Float[Array, "B *K"]
    weights: Float[Array, "B T S"] | None


def greedy(
    params: Mapping[str, Any],
    source: Integer[ArrayLike, "B S"],
    *,
    sos: int,
    eos: int,
    max_length: int,
    lengths: Lengths | None = None,
) -> Decoded:
    """Decodes with the most likely token at every step.

    Args:
        params: as for `seq2seq`.
        source: tokens.
        sos: the token that starts the decoder.
        eos: the token that ends a sequence.
        max_length: how many steps the decoder makes; static.
        lengths: (B,) how many tokens of each source are valid.

    Returns:
        `Decoded(tokens, lengths, scores, weights)`.

    Raises:
        ValueError: `sos` or `eos` is not in the vocabulary, or `max_length` is not positive.

    Source: Sutskever, Vinyals & Le (2014), https://arxiv.org/abs/1409.3215.
    """
    sos, eos = _check_decoding(params, sos, eos, max_length)
    state, encoded = read(params, source, lengths)

    def step(carry: Any, _: None) -> Any:
        token, state, ended, score = carry
        logits, state, weights = decoder_step(params["decoder"], token, state, encoded)
        token = jnp.where(ended, eos, logits.argmax(-1).astype(token.dtype))
        log_p = jax.nn.log_softmax(widen(logits))[jnp.arange(len(token)), token]
        score = jnp.where(ended, score, score + log_p)
        ended = ended | (token == eos)
        return (token, state, ended, score), (token, weights)

    start = jnp.full(len(encoded.values), sos, jnp.int32)
    score = jnp.zeros(start.shape, widen(encoded.values).dtype)
    carry = (start, state, start != start, score)
    (_, _, _, score), steps = jax.lax.scan(step, carry, length=max_length)
    tokens, weights = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), steps)
    return Decoded(tokens, _lengths(tokens, eos), score, weights)


def beam_search(
    params: Mapping[str, Any],
    source: Integer[ArrayLike, "B S"],
    *,
    sos: int,
    eos: int,
    max_length: int,
    beam_width: int,
    length_penalty: float | Float[Array, ""] = 0.0,
    lengths: Lengths | None = None,
) -> Decoded:
    r"""Decodes with the `beam_width` best hypotheses of every step: beam search.

    .. math:: \text{score}(y) = \log p(y) / ((5 + |y|) / 6)^\alpha

    where α is the `length_penalty` and |y| counts `eos`. A hypothesis that has ended keeps its
    place and its score until better ones push it out. With `beam_width=1` this is `greedy`; with a
    beam as wide as there are sequences it is an exhaustive search.

    Args:
        params: as for `seq2seq`.
        source: tokens.
        sos: the token that starts the decoder.
        eos: the token that ends a sequence.
        max_length: how many steps the decoder makes; static.
        beam_width: K, how many hypotheses to keep; static.
        length_penalty: α ≥ 0; 0 prefers short sequences, 1 is close to the mean log-probability.
        lengths: (B,) how many tokens of each source are valid.

    Returns:
        `Decoded(tokens, lengths, scores, None)` with K hypotheses for every source, the best first.
        If there are fewer sequences than K, the rest has the score -inf and the length 0. There is
        no derivative in reverse mode; to differentiate a sequence's score, use `seq2seq`.

    Raises:
        ValueError: a token is not in the vocabulary, a size is not positive, or the penalty is
            negative.

    Source: Graves (2012), https://arxiv.org/abs/1211.3711; the penalty: Wu et al. (2016),
    https://arxiv.org/abs/1609.08144, equation 14.
    """
    sos, eos = _check_decoding(params, sos, eos, max_length)
    check_positive(beam_width=beam_width)
    scalar = isinstance(length_penalty, Real | jax.Array) and jnp.ndim(length_penalty) == 0
    if not scalar or not (is_traced(length_penalty) or 0 <= float(length_penalty) < float("inf")):
        raise ValueError(f"`length_penalty` must be a number, 0 or more, got {length_penalty!r}")
    state, encoded = read(params, source, lengths)
    batch, width, words = len(encoded.values), int(beam_width), vocabulary_size(params)
    # Every hypothesis is a row of one large batch, the K of a source next to one another.
    repeat = lambda axis: lambda a: jnp.repeat(a, width, axis)
    state, encoded = jax.tree.map(repeat(1), state), jax.tree.map(repeat(0), encoded)

    def step(t: Any, beams: _Beams) -> _Beams:
        last = jnp.where(t == 0, sos, beams.tokens[:, :, t - 1]).reshape(-1)
        logits, state, _ = decoder_step(params["decoder"], last, beams.state, encoded)
        log_p = jax.nn.log_softmax(widen(logits)).reshape(batch, width, words)
        return _extend(beams._replace(state=state), log_p, t, eos, length_penalty)

    def going(carry: tuple[Any, _Beams]) -> Any:
        t, beams = carry
        return (t < max_length) & ~(beams.tokens == eos).any(-1).all()

    tokens = jnp.full((batch, width, max_length), -1, jnp.int32)
    # At first all hypotheses are the same one: only the first may go on.
    log_p = jnp.where(jnp.arange(width) == 0, 0.0, -jnp.inf).astype(widen(encoded.values).dtype)
    log_p = jnp.broadcast_to(log_p, (batch, width))
    beams = _Beams(tokens, state, log_p, jnp.zeros((batch, width), jnp.int32))
    onward = lambda carry: (carry[0] + 1, step(*carry))
    _, beams = jax.lax.while_loop(going, onward, (0, beams))
    scores = beams.log_p / _penalty(beams.counts, length_penalty, beams.log_p.dtype)
    ends = jnp.where(jnp.isneginf(scores), 0, _lengths(beams.tokens, eos))
    tokens = jnp.where(valid_steps(ends, max_length), beams.tokens, eos)
    return Decoded(tokens, ends, scores, None)


class _Beams(NamedTuple):
    """The K hypotheses of every source; states are those of one large batch."""

    tokens: Integer[Array, "B K T"]
    state: Any
    log_p: Float[Array, "B K"]
    counts: Integer[Array, "B K"]  # of tokens, `eos` included


def _extend(beams: _Beams, log_p: Array, t: Any, eos: int, length_penalty: Any) -> _Beams:
    """Keeps the best of all hypotheses that one more token makes; `log_p` is (B, K, V)."""
    batch, width, words = log_p.shape
    ended = (beams.tokens == eos).any(-1)
    # A hypothesis that has ended goes on in one way only, at no cost.
    stay = jnp.where(jnp.arange(words) == eos, 0.0, -jnp.inf).astype(log_p.dtype)
    total = beams.log_p[..., None] + jnp.where(ended[..., None], stay, log_p)
    counts = jnp.where(ended, beams.counts, beams.counts + 1)
    rank = total / _penalty(counts, length_penalty, log_p.dtype)[..., None]
    _, best = jax.lax.top_k(rank.reshape(batch, width * words), width)
    parent, word = best // words, (best % words).astype(beams.tokens.dtype)
    rows = jnp.arange(batch, dtype=jnp.int32)[:, None]
    return _Beams(
        tokens=beams.tokens[rows, parent].at[:, :, t].set(word),
        state=jax.tree.map(lambda a: a[:, (rows * width + parent).reshape(-1)], beams.state),
        log_p=total.reshape(batch, width * words)[rows, best],
        counts=counts[rows, parent],
    )


def _check_decoding(
    params: Mapping[str, Any], sos: int, eos: int, max_length: int
) -> tuple[int, int]:
    """Returns `sos` and `eos` as Python's integers."""
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
    """Returns the number of tokens before the first `eos`."""
    ended = tokens == eos
    return jnp.where(ended.any(-1), ended.argmax(-1), tokens.shape[-1]).astype(jnp.int32)


def _penalty(count: Array, alpha: ArrayLike, dtype: Any) -> Array:
    return ((5 + count.astype(dtype)) / 6) ** jnp.asarray(alpha, dtype)
