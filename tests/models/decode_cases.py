"""Models so small that all target sequences can be listed, and searches that are compiled once.

The referee is teacher forcing: `seq2seq` scores every sequence there is.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import models
from jaxrnn.models import beam_search, greedy


WORDS, STEPS, SOS, EOS = 4, 4, 0, 1
OPTIONS = {"sos": SOS, "eos": EOS, "max_length": STEPS}
LISTS = [word for word in itertools.product(range(WORDS), repeat=STEPS)]
# Those that end in EOS, or never end.
EVERY = np.array(
    sorted({(*word[: (*word, EOS).index(EOS)], *[EOS] * STEPS)[:STEPS] for word in LISTS})
)
ENDS = np.where((EVERY == EOS).any(1), (EVERY == EOS).argmax(1), STEPS)
COUNTS = np.minimum(ENDS + 1, STEPS)  # EOS included
LENGTHS = np.array([3, 6, 0, 5])
SOURCE = np.random.default_rng(0).integers(0, 9, (4, 6))
# Kind, attention, bidirectional; and a seed with which sequences of different lengths come out.
LSTM = ("lstm", "additive", True, 5)
MODELS = [LSTM, ("rnn", None, False, 1), ("gru", "general", False, 0)]
TRACES = []


@functools.cache
def draw(model, seed=None, dtype=float):
    """Random parameters, larger than `init_seq2seq`'s, so that hypotheses differ in score."""
    kind, attention, bidirectional, usual = model
    options = {"kind": kind, "attention": attention, "bidirectional": bidirectional}
    init = functools.partial(models.init_seq2seq, jax.random.key(0), 9, WORDS, 3, 4, **options)
    rng = np.random.default_rng(usual if seed is None else seed)
    scale = {1: 0.2, 2: 1.5}  # of biases, which favour the same words in every state, and weights
    normal = lambda a: jnp.asarray(scale[a.ndim] * rng.standard_normal(a.shape), dtype)
    return jax.tree.map(normal, jax.eval_shape(init))


@jax.jit
def greedily(params, source, lengths=None):
    TRACES.append(source)
    return greedy(params, source, lengths=lengths, **OPTIONS)


@functools.cache
def beam(width):
    """(params, source, lengths, penalty) → Decoded."""

    @jax.jit
    def search(params, source, lengths, penalty):
        TRACES.append(source)
        options = OPTIONS | {"beam_width": width, "length_penalty": penalty}
        return beam_search(params, source, lengths=lengths, **options)

    return lambda params, source, lengths, penalty=0.0: search(params, source, lengths, penalty)


@jax.jit
def log_p(params, source, tokens, lengths):
    """(B, N, T, V): the model's log-probabilities after each prefix of the (N, T) tokens."""
    number = len(tokens)
    target = jnp.pad(tokens, ((0, 0), (1, 0)), constant_values=SOS)
    source, lengths = jnp.repeat(source, number, 0), jnp.repeat(lengths, number)
    target = jnp.tile(target, (len(source) // number, 1))
    outputs, _ = models.seq2seq(params, source, target, lengths=lengths, teacher_forcing_ratio=1.0)
    return jax.nn.log_softmax(outputs[:, 1:]).reshape(-1, number, STEPS, WORDS)


def every_score(params):
    """(B, N): the log-probability of every sequence."""
    each = np.take_along_axis(
        np.asarray(log_p(params, SOURCE, EVERY, LENGTHS)), EVERY[None, :, :, None], -1
    )
    return np.where(np.arange(STEPS) < COUNTS[:, None], each[..., 0], 0).sum(-1)


def penalty(counts, alpha):
    return ((5 + counts) / 6) ** alpha


def plain_beam(each, width, alpha):
    """Beam search as a plain loop, on the (N, T, V) log-probabilities of EVERY: places there."""
    place = lambda words: int(np.flatnonzero((EVERY[:, : len(words)] == words).all(1))[0])
    beams = [((), 0.0)]
    for t in range(STEPS):
        grown = []
        for words, score in beams:
            if EOS in words:
                grown.append((words, score))
                continue
            after = each[place(words), t]
            grown += [((*words, word), score + after[word]) for word in range(WORDS)]
        rank = lambda hypothesis: hypothesis[1] / penalty(len(hypothesis[0]), alpha)
        beams = sorted(grown, key=rank, reverse=True)[:width]
    full = lambda words: (*words, *[EOS] * STEPS)[:STEPS]
    return [place(full(words)) for words, _ in beams]
