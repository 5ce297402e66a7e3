"""Law: decoding reports the scores of what it reports, and a wide beam finds the best there is.

The referee is teacher forcing: every sequence there is, scored by `seq2seq`.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers import assert_close, assert_equal, assert_refused

from jaxrnn import models, to_state_dict
from jaxrnn.models import beam_search, greedy
from parity.texts import modules as documents


# Words and steps so few that all sequences can be listed: those that end in EOS, or never end.
WORDS, STEPS, SOS, EOS = 4, 4, 0, 1
OPTIONS = {"sos": SOS, "eos": EOS, "max_length": STEPS}
LISTS = [word for word in itertools.product(range(WORDS), repeat=STEPS)]
EVERY = np.array(
    sorted({(*word[: (*word, EOS).index(EOS)], *[EOS] * STEPS)[:STEPS] for word in LISTS})
)
ENDS = np.where((EVERY == EOS).any(1), (EVERY == EOS).argmax(1), STEPS)
COUNTS = np.minimum(ENDS + 1, STEPS)  # EOS included
LENGTHS = np.array([3, 6, 0, 5])
SOURCE = np.random.default_rng(0).integers(0, 9, (4, 6))
# Kind, attention, bidirectional; and a seed with which sequences of different lengths come out.
MODELS = [
    ("rnn", None, False, 1),
    ("rnn", "dot", True, 4),
    ("lstm", "additive", True, 5),
    ("gru", None, False, 2),
    ("gru", "general", False, 0),
]
every_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{model[0]} {model[1]}")
LSTM, SEEDS = MODELS[2], (0, 5, 6)
several_seeds = pytest.mark.parametrize("seed", SEEDS)
TRACES = []


@functools.cache
def draw(model, seed=None, dtype=float):
    """Random parameters, larger than `init_seq2seq`'s: hypotheses are to differ in score."""
    kind, attention, bidirectional, usual = model
    options = {"kind": kind, "attention": attention, "bidirectional": bidirectional}
    init = functools.partial(models.init_seq2seq, jax.random.key(0), 9, WORDS, 3, 4, **options)
    rng = np.random.default_rng(usual if seed is None else seed)
    scale = {1: 0.2, 2: 1.5}  # of biases, which favour the same words in every state, and weights
    normal = lambda a: jnp.asarray(scale[a.ndim] * rng.standard_normal(a.shape), dtype)
    return jax.tree.map(normal, jax.eval_shape(init))


@functools.cache
def greedily(**options):
    def search(params, source, lengths=None):
        TRACES.append(source)
        return greedy(params, source, lengths=lengths, **OPTIONS | options)

    return jax.jit(search)


@functools.cache
def beam(width, **options):
    """(params, source, lengths, penalty) → Decoded, compiled once."""

    def search(params, source, lengths=None, alpha=0.0):
        TRACES.append(source)
        given = OPTIONS | {"beam_width": width, "length_penalty": alpha} | options
        return beam_search(params, source, lengths=lengths, **given)

    return jax.jit(search)


@jax.jit
def log_p(params, source, tokens, lengths):
    """(B, N, T, V): what the model gives to every word after each prefix of the (N, T) tokens."""
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


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@several_seeds
def test_wide_beam_is_exhaustive(seed, alpha):
    """All sequences in the order of their scores; where none is left, -inf."""
    params = draw(LSTM, seed)
    found = beam(len(EVERY) + 4)(params, SOURCE, LENGTHS, alpha)
    scores = every_score(params) / penalty(COUNTS, alpha)
    order = np.argsort(-scores)
    first = lambda a: np.asarray(a)[:, : len(EVERY)]
    assert_close(first(found.scores), np.take_along_axis(scores, order, 1))
    assert_equal(first(found.tokens), EVERY[order].astype(np.int32))
    assert_equal(first(found.lengths), ENDS[order].astype(np.int32))
    assert np.all(np.asarray(found.scores)[:, len(EVERY) :] == -np.inf)
    assert found.weights is None
    ended = np.arange(STEPS) >= np.asarray(found.lengths)[..., None]
    assert np.all(np.asarray(found.tokens)[ended] == EOS)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@several_seeds
def test_narrow_beam(seed, alpha):
    """What the plain loop finds: true scores, the best first, none twice."""
    params = draw(LSTM, seed)
    found = beam(2)(params, SOURCE, LENGTHS, alpha)
    scores = every_score(params) / penalty(COUNTS, alpha)
    each = np.asarray(log_p(params, SOURCE, EVERY, LENGTHS))
    for b in range(len(SOURCE)):
        tokens, score = np.asarray(found.tokens[b]), np.asarray(found.scores[b])
        places = [int(np.flatnonzero((row == EVERY).all(1))[0]) for row in tokens]
        assert len(set(places)) == 2
        assert_close(score, scores[b, places])
        assert_equal(np.asarray(found.lengths[b]), ENDS[places].astype(np.int32))
        assert list(score) == sorted(score, reverse=True)
        assert places == plain_beam(each[b], 2, alpha)


def test_narrow_beam_can_miss():
    """Else the test before would show no more than the exhaustive one."""
    params = [draw(LSTM, seed) for seed in SEEDS]
    found = [np.asarray(beam(2)(p, SOURCE, LENGTHS, 0.6).scores[:, 0]) for p in params]
    best = [(every_score(p) / penalty(COUNTS, 0.6)).max(1) for p in params]
    missed = np.array(best) - found > 1e-9
    assert np.all(np.array(found) <= np.array(best) + 1e-9)
    assert np.any(missed)
    assert not np.all(missed)


@every_model
def test_beam_of_one_is_greedy(model):
    params = draw(model)
    one, wanted = beam(1)(params, SOURCE, LENGTHS), greedily()(params, SOURCE, LENGTHS)
    assert_close(jax.tree.map(lambda a: a[:, 0], one), wanted._replace(weights=None))
    assert len(set(np.asarray(wanted.lengths).tolist())) > 1
    penalised = beam(1)(params, SOURCE, LENGTHS, 0.6)
    counts = np.minimum(wanted.lengths + 1, STEPS)
    assert_equal(penalised.tokens, one.tokens)
    assert_close(penalised.scores[:, 0], wanted.scores / penalty(counts, 0.6))


@every_model
def test_greedy_is_torchs_loop(model):
    kind, attention, bidirectional, _ = model
    params = draw(model)
    size = 8 if bidirectional else 4
    options = {"kind": kind, "score": attention, "values_size": size if attention else 0}
    encoder = documents.Encoder(9, 3, 4, 1, kind=kind, bidirectional=bidirectional).double()
    decoder = documents.Decoder(WORDS, 3, size, 1, **options).double()
    for module, name in (encoder, "encoder"), (decoder, "decoder"):
        state = {k: torch.tensor(np.asarray(a)) for k, a in to_state_dict(params[name]).items()}
        module.load_state_dict(state)

    source, lengths = torch.tensor(SOURCE), torch.tensor([3, 6, 1, 5])  # torch packs none empty
    with torch.no_grad():
        values, state = encoder(source, lengths)
        valid = torch.arange(6) < lengths[:, None]
        token, score, every = torch.full((4,), SOS), torch.zeros(4, dtype=torch.float64), []
        ended = torch.zeros(4, dtype=torch.bool)
        for _ in range(STEPS):
            logits, state, weights = decoder(token, state, values, valid)
            token = torch.where(ended, EOS, logits.argmax(1))
            score += torch.where(ended, 0.0, logits.log_softmax(1)[range(4), token])
            ended |= token == EOS
            every.append((token, weights))
    tokens = torch.stack([token for token, _ in every], 1).numpy()
    found = greedily()(params, SOURCE, lengths.numpy())
    assert_equal(np.asarray(found.tokens), tokens.astype(np.int32))
    assert_close(np.asarray(found.scores), score.numpy())
    wanted = [row.index(EOS) if EOS in row else STEPS for row in tokens.tolist()]
    assert found.lengths.tolist() == wanted
    if attention:
        weights = torch.stack([weights for _, weights in every], 1).numpy()
        assert_close(np.asarray(found.weights), weights)
    else:
        assert found.weights is None


@pytest.mark.parametrize("search", [greedily(), beam(2)], ids=["greedy", "beam"])
def test_padding(search):
    """Neither what stands there, nor how much of it, nor the other sequences change anything."""
    params = draw(LSTM)
    wanted = search(params, SOURCE, LENGTHS)
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(wanted))
    padding = np.arange(6) >= LENGTHS[:, None]
    assert_equal(search(params, np.where(padding, 8 - SOURCE, SOURCE), LENGTHS), wanted)
    longer = search(params, np.pad(SOURCE, ((0, 0), (0, 3)), constant_values=5), LENGTHS)
    if wanted.weights is not None:
        assert np.all((np.asarray(wanted.weights) == 0) == padding[:, None])
        assert not np.any(longer.weights[..., 6:])
        longer = longer._replace(weights=longer.weights[..., :6])
        sums = wanted.weights.sum(-1)
        assert_close(sums, jnp.broadcast_to(jnp.where(LENGTHS > 0, 1.0, 0.0)[:, None], sums.shape))
    assert_close(longer, wanted)
    for b in range(4):
        one = search(params, SOURCE[b : b + 1], LENGTHS[b : b + 1])
        assert_close(one, jax.tree.map(lambda a, b=b: a[b : b + 1], wanted))


def test_without_lengths():
    params = draw(LSTM)
    wanted = greedily()(params, SOURCE, LENGTHS)
    full, cut = greedily()(params, SOURCE), greedily()(params, SOURCE[:1, :3])
    assert_close(jax.tree.map(lambda a: a[1], full), jax.tree.map(lambda a: a[1], wanted))
    wanted = wanted._replace(weights=wanted.weights[..., :3])
    assert_close(cut, jax.tree.map(lambda a: a[:1], wanted))


def test_compiled_once():
    """For all sources and lengths of one shape, and all penalties."""
    for search, penalties in (greedily(), [(), ()]), (beam(2), [(0.0,), (0.5,)]):
        first = search(draw(LSTM), SOURCE, LENGTHS, *penalties[0])
        before = len(TRACES)
        other = search(draw(LSTM, 0), SOURCE[::-1].copy(), LENGTHS + 1, *penalties[1])
        assert len(TRACES) == before
        assert np.any(first.tokens != other.tokens)


def test_traced_lengths_are_clamped():
    """To the source; known ones raise, below."""
    found = greedily()(draw(LSTM), SOURCE, np.array([3, 70, -2, 5]))
    assert_equal(found, greedily()(draw(LSTM), SOURCE, LENGTHS))


def test_over_parameters():
    draws = [draw(LSTM, seed) for seed in SEEDS[:2]]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *draws)
    wanted = [beam(2)(params, SOURCE, LENGTHS) for params in draws]
    found = jax.vmap(beam(2), (0, None, None))(stacked, SOURCE, LENGTHS)
    assert_close(found, jax.tree.map(lambda *a: jnp.stack(a), *wanted))


def with_bias(value):
    params = draw(LSTM)
    bias = params["decoder"]["fc"]["bias"].at[EOS].set(value)
    decoder = {**params["decoder"], "fc": {**params["decoder"]["fc"], "bias": bias}}
    return {**params, "decoder": decoder}


@pytest.mark.parametrize("search", [greedily(), beam(2)], ids=["greedy", "beam"])
def test_ends(search):
    """At once: a length of 0, and the score of EOS alone. Never: a length of `max_length`."""
    at_once, never = (search(with_bias(value), SOURCE, LENGTHS) for value in (50.0, -50.0))
    best = at_once if at_once.tokens.ndim == 2 else jax.tree.map(lambda a: a[:, 0], at_once)
    assert np.all(best.tokens == EOS)
    assert not np.any(best.lengths)
    wanted = every_score(with_bias(50.0))[:, ENDS == 0][:, 0]
    np.testing.assert_allclose(best.scores, wanted, rtol=1e-3, atol=1e-14)
    assert not np.any(never.tokens == EOS)
    assert np.all(never.lengths == STEPS)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dtypes(dtype):
    """Scores are summed in float32 at least, and are those of the tokens found."""
    params = draw(LSTM, dtype=dtype)
    exact = every_score(jax.tree.map(lambda a: a.astype(float), params))
    one, several = greedily()(params, SOURCE, LENGTHS), beam(2)(params, SOURCE, LENGTHS)
    assert one.weights.dtype == dtype
    for found in one, jax.tree.map(lambda a: a[:, 0], several):
        assert (found.tokens.dtype, found.lengths.dtype) == (np.int32, np.int32)
        assert found.scores.dtype == np.float32
        same = (np.asarray(found.tokens)[:, None] == EVERY).all(-1)
        assert_close(found.scores, exact[same].astype(np.float32), dtype)


@pytest.mark.usefixtures("bare")
def test_numpy_integers():
    options = {name: np.int64(value) for name, value in OPTIONS.items()}
    for search in greedily, functools.partial(beam, np.int64(2)):
        found, wanted = (
            jax.eval_shape(f, draw(LSTM), SOURCE) for f in (search(**options), search())
        )
        assert found == wanted


def without(*path):
    params = draw(LSTM)
    cut = lambda tree, name, *rest: (
        {**tree, name: cut(tree[name], *rest)}
        if rest
        else {key: value for key, value in tree.items() if key != name}
    )
    return cut(params, *path)


def fewer_rows():
    params = draw(LSTM)
    few = {"weight": params["decoder"]["embedding"]["weight"][:3]}
    return {**params, "decoder": {**params["decoder"], "embedding": few}}


# What a call may be given instead, and what is said of it.
ERRORS = {
    "sos-beyond": (ValueError, "`sos` must be one of the target's 4 tokens, got 4", {"sos": 4}),
    "sos-bool": (ValueError, "`sos` must be one of...got True", {"sos": True}),
    "eos-negative": (ValueError, "`eos` must be one of the target's 4 tokens, got -1", {"eos": -1}),
    "eos-word": (ValueError, "`eos` must be one of...got '<EOS>'", {"eos": "<EOS>"}),
    "steps-zero": (ValueError, "`max_length` must be a positive integer, got 0", {"max_length": 0}),
    "steps-float": (ValueError, "`max_length` must be...got 4.0", {"max_length": 4.0}),
    "beam-zero": (ValueError, "`beam_width` must be a positive integer, got 0", {"beam_width": 0}),
    "penalty-negative": (
        ValueError,
        "`length_penalty` must be a number, 0 or more, got -0.5",
        {"length_penalty": -0.5},
    ),
    "penalty-nan": (ValueError, "`length_penalty`...got nan", {"length_penalty": float("nan")}),
    "penalty-array": (ValueError, "`length_penalty`...got Array", {"length_penalty": jnp.ones(1)}),
    "penalty-word": (ValueError, "`length_penalty`...got 'mean'", {"length_penalty": "mean"}),
    "source-float": (TypeError, "`source` must be integers...float64", {"source": SOURCE / 2}),
    "source-rank": (
        ValueError,
        "`source` must have the shape (batch, time), got (6,)",
        {"source": SOURCE[0]},
    ),
    "source-beyond": (
        ValueError,
        "`source` must lie in [0, 9)...got 10: is the vocabulary another",
        {"source": SOURCE + 2},
    ),
    "lengths-shape": (ValueError, "`lengths` must have the shape (4,)", {"lengths": [1, 2]}),
    "lengths-beyond": (
        ValueError,
        "`lengths` must lie between 0 and the 6 time steps...got 7",
        {"lengths": [7, 1, 1, 1]},
    ),
    "params-decoder": (
        ValueError,
        "`params` must have `encoder` and `decoder`, got fc",
        {"params": {"fc": {}}},
    ),
    "params-list": (TypeError, "`params` must be a dict...got list", {"params": [1]}),
    "params-fc": (
        ValueError,
        "the model's `decoder` must have `embedding` and `fc`, got attention, embedding, lstm",
        {"params": without("decoder", "fc")},
    ),
    "params-weight": (
        ValueError,
        "must have `weight`",
        {"params": without("decoder", "fc", "weight")},
    ),
    "params-source": (
        ValueError,
        "must have `embedding`, got lstm",
        {"params": without("encoder", "embedding")},
    ),
    "params-layer": (
        ValueError,
        "must have one of `rnn`, `lstm` and `gru`",
        {"params": without("decoder", "lstm")},
    ),
    "params-attention": (
        ValueError,
        "the decoder's `lstm` takes 11 features, but the embedding has 3, and `memory` 4",
        {"params": {**without("encoder"), "encoder": draw(("lstm", None, False, 0))["encoder"]}},
    ),
    "params-rows": (
        ValueError,
        "the decoder's `fc` gives 4 tokens, but its `embedding` knows 3",
        {"params": fewer_rows()},
    ),
}


def test_no_source():
    found = beam_search(draw(LSTM), SOURCE[:0], **OPTIONS, beam_width=3)
    assert found.tokens.shape == (0, 3, OPTIONS["max_length"])
    assert greedy(draw(LSTM), SOURCE[:0], **OPTIONS).scores.shape == (0,)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(("error", "message", "given"), ERRORS.values(), ids=ERRORS)
def test_raises(error, message, given):
    of_beam = {"beam_width": 2, "length_penalty": 0.0}
    given = {"params": draw(LSTM), "source": SOURCE} | OPTIONS | of_beam | given
    params, source = given.pop("params"), given.pop("source")
    plain = {name: value for name, value in given.items() if name not in of_beam}
    calls = [functools.partial(beam_search, params, source, **given)]
    if all(given[name] == value for name, value in of_beam.items()):
        calls.append(functools.partial(greedy, params, source, **plain))
    for call in calls:
        assert_refused(call, error, message)


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
