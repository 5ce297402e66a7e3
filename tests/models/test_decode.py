"""Law: decoding returns the true scores of its sequences, and a wide beam finds the best ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from decode_cases import (
    COUNTS,
    ENDS,
    EOS,
    EVERY,
    LENGTHS,
    LSTM,
    MODELS,
    OPTIONS,
    SOS,
    SOURCE,
    STEPS,
    TRACES,
    WORDS,
    beam,
    draw,
    every_score,
    greedily,
    log_p,
    penalty,
    plain_beam,
)
from helpers import assert_close, assert_equal

from jaxrnn import to_state_dict
from jaxrnn.models import beam_search, greedy
from parity.texts import modules as documents


every_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{model[0]} {model[1]}")
both_searches = pytest.mark.parametrize("search", [greedily, beam(2)], ids=["greedy", "beam"])
SEEDS = (0, 5, 6)
several_seeds = pytest.mark.parametrize("seed", SEEDS)


def best(decoded):
    """The first hypothesis of every source."""
    return jax.tree.map(lambda a: a[:, 0], decoded) if decoded.tokens.ndim == 3 else decoded


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@several_seeds
def test_wide_beam_is_exhaustive(seed, alpha):
    """All sequences in the order of their scores; beyond them the score is -inf."""
    params = draw(LSTM, seed)
    decoded = beam(len(EVERY) + 4)(params, SOURCE, LENGTHS, alpha)
    scores = every_score(params) / penalty(COUNTS, alpha)
    order = np.argsort(-scores)
    first = lambda a: np.asarray(a)[:, : len(EVERY)]
    assert_close(first(decoded.scores), np.take_along_axis(scores, order, 1))
    assert_equal(first(decoded.tokens), EVERY[order].astype(np.int32))
    assert_equal(first(decoded.lengths), ENDS[order].astype(np.int32))
    assert np.all(np.asarray(decoded.scores)[:, len(EVERY) :] == -np.inf)
    assert decoded.weights is None
    ended = np.arange(STEPS) >= np.asarray(decoded.lengths)[..., None]
    assert np.all(np.asarray(decoded.tokens)[ended] == EOS)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@several_seeds
def test_narrow_beam(seed, alpha):
    """The plain loop's sequences, with their true scores, the best first, none twice."""
    params = draw(LSTM, seed)
    decoded = beam(2)(params, SOURCE, LENGTHS, alpha)
    scores = every_score(params) / penalty(COUNTS, alpha)
    each = np.asarray(log_p(params, SOURCE, EVERY, LENGTHS))
    for b in range(len(SOURCE)):
        tokens, score = np.asarray(decoded.tokens[b]), np.asarray(decoded.scores[b])
        places = [int(np.flatnonzero((row == EVERY).all(1))[0]) for row in tokens]
        assert len(set(places)) == 2
        assert_close(score, scores[b, places])
        assert_equal(np.asarray(decoded.lengths[b]), ENDS[places].astype(np.int32))
        assert list(score) == sorted(score, reverse=True)
        assert places == plain_beam(each[b], 2, alpha)


def test_narrow_beam_can_miss():
    """Otherwise the test before would show no more than the exhaustive one."""
    params = [draw(LSTM, seed) for seed in SEEDS]
    scores = np.array([beam(2)(p, SOURCE, LENGTHS, 0.6).scores[:, 0] for p in params])
    highest = np.array([(every_score(p) / penalty(COUNTS, 0.6)).max(1) for p in params])
    missed = highest - scores > 1e-9
    assert np.all(scores <= highest + 1e-9)
    assert np.any(missed)
    assert not np.all(missed)


@every_model
def test_beam_of_one_is_greedy(model):
    params = draw(model)
    one, wanted = beam(1)(params, SOURCE, LENGTHS), greedily(params, SOURCE, LENGTHS)
    assert_close(best(one), wanted._replace(weights=None))
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
        token, score, steps = torch.full((4,), SOS), torch.zeros(4, dtype=torch.float64), []
        ended = torch.zeros(4, dtype=torch.bool)
        for _ in range(STEPS):
            logits, state, weights = decoder(token, state, values, valid)
            token = torch.where(ended, EOS, logits.argmax(1))
            score += torch.where(ended, 0.0, logits.log_softmax(1)[range(4), token])
            ended |= token == EOS
            steps.append((token, weights))
    tokens = torch.stack([token for token, _ in steps], 1).numpy()
    decoded = greedily(params, SOURCE, lengths.numpy())
    assert_equal(np.asarray(decoded.tokens), tokens.astype(np.int32))
    assert_close(np.asarray(decoded.scores), score.numpy())
    wanted = [row.index(EOS) if EOS in row else STEPS for row in tokens.tolist()]
    assert decoded.lengths.tolist() == wanted
    if attention:
        weights = torch.stack([weights for _, weights in steps], 1).numpy()
        assert_close(np.asarray(decoded.weights), weights)
    else:
        assert decoded.weights is None


@both_searches
def test_padding(search):
    """Its content and its amount change nothing, nor do the other sequences."""
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
        alone = np.arange(4) == b
        source = np.where(alone[:, None], SOURCE, 8 - SOURCE[::-1])
        decoded = search(params, source, np.where(alone, LENGTHS, LENGTHS[::-1]))
        only = lambda a, b=b: a[b]
        assert_close(jax.tree.map(only, decoded), jax.tree.map(only, wanted))


def test_without_lengths():
    """A single source of three steps is the same as one of the others, cut by its length."""
    params = draw(LSTM)
    wanted = greedily(params, SOURCE, LENGTHS)
    wanted = wanted._replace(weights=wanted.weights[..., :3])
    assert_close(greedily(params, SOURCE[:1, :3]), jax.tree.map(lambda a: a[:1], wanted))


def test_compiled_once():
    """For all sources and lengths of one shape, and all penalties."""
    for search, penalties in (greedily, [(), ()]), (beam(2), [(0.0,), (0.5,)]):
        first = search(draw(LSTM), SOURCE, LENGTHS, *penalties[0])
        before = len(TRACES)
        other = search(draw(LSTM, 0), SOURCE[::-1].copy(), LENGTHS + 1, *penalties[1])
        assert len(TRACES) == before
        assert np.any(first.tokens != other.tokens)


def test_traced_lengths_are_clamped():
    """To the source's steps. (Known ones raise an error.)"""
    decoded = greedily(draw(LSTM), SOURCE, np.array([3, 70, -2, 5]))
    assert_equal(decoded, greedily(draw(LSTM), SOURCE, LENGTHS))


def test_over_parameters():
    draws = [draw(LSTM, seed) for seed in SEEDS[:2]]
    stack = functools.partial(jax.tree.map, lambda *a: jnp.stack(a))
    wanted = stack(*(beam(2)(params, SOURCE, LENGTHS) for params in draws))
    assert_close(jax.vmap(beam(2), (0, None, None))(stack(*draws), SOURCE, LENGTHS), wanted)


def with_bias(value):
    params = draw(LSTM)
    bias = params["decoder"]["fc"]["bias"].at[EOS].set(value)
    decoder = {**params["decoder"], "fc": {**params["decoder"]["fc"], "bias": bias}}
    return {**params, "decoder": decoder}


@both_searches
def test_ends(search):
    """At once: a length of 0, and the score of EOS alone. Never: a length of `max_length`."""
    at_once, never = (search(with_bias(value), SOURCE, LENGTHS) for value in (50.0, -50.0))
    assert np.all(best(at_once).tokens == EOS)
    assert not np.any(best(at_once).lengths)
    wanted = every_score(with_bias(50.0))[:, ENDS == 0][:, 0]
    np.testing.assert_allclose(best(at_once).scores, wanted, rtol=1e-3, atol=1e-14)
    assert not np.any(never.tokens == EOS)
    assert np.all(never.lengths == STEPS)


def test_dtypes():
    """Scores are summed in float32 at least, and are the scores of the tokens."""
    for dtype in "float32", "bfloat16":
        for search in greedily, beam(2):
            decoded = jax.eval_shape(search, draw(LSTM, dtype=dtype), SOURCE, LENGTHS)
            assert decoded.weights is None or decoded.weights.dtype == dtype
            dtypes = {
                name: getattr(decoded, name).dtype for name in ("tokens", "lengths", "scores")
            }
            assert dtypes == {"tokens": np.int32, "lengths": np.int32, "scores": np.float32}
    params = draw(LSTM, dtype="bfloat16")
    exact = every_score(jax.tree.map(lambda a: a.astype(float), params))
    for search in greedily, beam(2):
        decoded = best(search(params, SOURCE, LENGTHS))
        same = (np.asarray(decoded.tokens)[:, None] == EVERY).all(-1)
        assert_close(decoded.scores, exact[same].astype(np.float32), "bfloat16")


@pytest.mark.usefixtures("bare")
def test_numpy_integers():
    params, options = draw(LSTM), {"beam_width": 2, **OPTIONS}
    integers = {name: np.int64(value) for name, value in options.items()}
    decoded, wanted = (
        jax.eval_shape(functools.partial(beam_search, **each), params, SOURCE)
        for each in (integers, options)
    )
    assert decoded == wanted


def test_no_source():
    decoded = jax.eval_shape(
        functools.partial(beam_search, beam_width=3, **OPTIONS), draw(LSTM), SOURCE[:0]
    )
    assert decoded.tokens.shape == (0, 3, OPTIONS["max_length"])
    decoded = jax.eval_shape(functools.partial(greedy, **OPTIONS), draw(LSTM), SOURCE[:0])
    assert decoded.scores.shape == (0,)
