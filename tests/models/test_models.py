"""Laws of the models and of what they are made of, beside the layers: one table of models.

That outputs and gradients equal torch's for any weights is `parity`'s; here that fresh parameters
are torch's, that padding is inert, that dropout is what its key says, and what is complained about.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers import assert_close, assert_equal, assert_refused, score

import jaxrnn
from jaxrnn import _nn, dropout_masks, embedding, layer_norm, linear, lstm, models, to_state_dict
from jaxrnn.models import DropoutMasks, _seq2seq, attention, memory, seq2seq, sequence_model
from parity.texts import modules as documents


KEY = jax.random.key(0)
RATE = 0.37
BATCH, TIME, WORDS, CLASSES = 5, 6, 11, 3
LENGTHS = np.array([3, 6, 1, 5, 2])  # none is 0: torch packs no empty sequence
rng = np.random.default_rng(0)
IDS = rng.integers(0, WORDS, (BATCH, TIME))
X = rng.standard_normal((BATCH, TIME, 4))
TARGET = rng.integers(0, WORDS, (BATCH, 4))
PADDING = np.arange(TIME) >= LENGTHS[:, None]


class Model(NamedTuple):
    """A model on both sides: fresh parameters, torch's class; how both are called."""

    init: Callable[..., Any]
    module: Callable[[], torch.nn.Module]
    call: Callable[..., Any]  # params, inputs, lengths
    torch: Callable[..., Any] = lambda module, x, n: module(x, n)
    inputs: Any = IDS
    lengths: bool = True


MODELS = {
    "last_step": Model(
        functools.partial(models.init_sequence_model, KEY, "rnn", 4, 6, CLASSES, num_layers=2),
        lambda: documents.LastStep("rnn", 4, 6, CLASSES, num_layers=2),
        lambda p, x, n: sequence_model(p, x, pool="last_step")[0],
        lambda module, x, n: module(x)[0],
        X,
        lengths=False,
    ),
    "last_state": Model(
        functools.partial(
            *(models.init_sequence_model, KEY, "gru", 4, 6, CLASSES),
            vocab_size=WORDS,
            bidirectional=True,
        ),
        lambda: documents.Classifier("gru", 4, 6, CLASSES, vocab_size=WORDS, bidirectional=True),
        lambda p, x, n: sequence_model(p, x, lengths=n, dropout=0.3, head_dropout=0.5)[0],
    ),
    "text": Model(
        functools.partial(models.init_text_classifier, KEY, WORDS, 4, 6, CLASSES),
        lambda: documents.TextClassificationRNN(WORDS, 4, 6, CLASSES),
        lambda p, x, n: models.text_classifier(p, x, lengths=n),
    ),
    "sentiment": Model(
        functools.partial(models.init_sentiment_classifier, KEY, WORDS, 4, 6),
        lambda: documents.SentimentLSTM(WORDS, 4, 6),
        lambda p, x, n: models.sentiment_classifier(p, x, n),
    ),
    "cell": Model(
        functools.partial(models.init_cell_model, KEY, 4, 6, CLASSES),
        lambda: documents.RNNWithCell(4, 6, CLASSES),
        lambda p, x, n: models.cell_model(p, x),
        lambda module, x, n: module(x),
        X,
        lengths=False,
    ),
    "cells": Model(
        functools.partial(models.init_cell_model, KEY, 4, 6, CLASSES, num_layers=2),
        lambda: documents.MultiLayerRNNCell(4, 6, CLASSES, 2),
        lambda p, x, n: models.cell_model(p, x),
        lambda module, x, n: module(x),
        X,
        lengths=False,
    ),
    "simple cell": Model(
        functools.partial(models.init_simple_rnn_cell, KEY, 4, 6),
        lambda: documents.SimpleRNNCell(4, 6),
        lambda p, x, n: models.simple_rnn_cell(p, x[:, 0]),
        lambda module, x, n: module(x[:, 0], x.new_zeros(BATCH, 6)),
        X,
        lengths=False,
    ),
    "norm": Model(
        functools.partial(models.init_layer_norm_lstm, KEY, 4, 6, num_layers=2),
        lambda: documents.LSTMWithLayerNorm(4, 6, 2),
        lambda p, x, n: models.layer_norm_lstm(p, x, lengths=n)[0],
        # Torch's is not packed; in one direction the valid outputs are the same.
        lambda module, x, n: module(x)[0] * ~torch.tensor(PADDING)[..., None],
        X,
    ),
} | {
    f"seq2seq {score}": Model(
        functools.partial(
            *(models.init_seq2seq, KEY, WORDS, WORDS, 4, 6),
            kind=kind,
            bidirectional=True,
            attention=score,
        ),
        lambda kind=kind, score=score: documents.Seq2Seq(
            documents.Encoder(WORDS, 4, 6, 1, kind=kind, bidirectional=True),
            documents.Decoder(
                *(WORDS, 4, 12, 1), kind=kind, score=score, values_size=12 if score else 0
            ),
        ),
        lambda p, x, n: seq2seq(p, x, TARGET, lengths=n, coins=np.array([True, False, True])),
        lambda module, x, n: module(x, torch.tensor(TARGET), [True, False, True], n),
    )
    for kind, score in [("lstm", "additive"), ("gru", "general"), ("rnn", "dot"), ("rnn", None)]
}
every_model = pytest.mark.parametrize("name", MODELS)
PADDED = ("last_state", "text", "sentiment", "norm", "seq2seq dot")
padded_models = pytest.mark.parametrize("name", PADDED)


@functools.cache
def outputs(name):
    return jax.jit(MODELS[name].call)


@functools.cache
def fresh(name):
    return MODELS[name].init()


@functools.cache
def both(name):
    """Outputs and gradients for many parameters at once."""

    def run(params, x, lengths):
        found, back = jax.vjp(lambda params: MODELS[name].call(params, x, lengths), params)
        weights = lambda a: jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape)
        return found, back(jax.tree.map(weights, found))

    return jax.jit(jax.vmap(run, (0, None, None)))


@every_model
def test_fresh_parameters_are_torchs(name):
    """In names, shapes and distribution; and the outputs from them, also for many at once."""
    model, params = MODELS[name], fresh(name)
    torch.manual_seed(0)
    many = [model.module().double() for _ in range(20)]
    module, ours = many[0], {key: np.asarray(a) for key, a in to_state_dict(params).items()}
    for key, one in ours.items():
        theirs = np.stack([other.state_dict()[key].numpy() for other in many])
        assert one.shape == theirs.shape[1:]
        if "embedding" in key:
            assert 0.7 < one.std() / theirs.std() < 1.4
        elif one.size >= 20:  # uniform
            assert 0.8 < np.abs(one).max() / np.abs(theirs).max() < 1.02, key
    module.load_state_dict({key: torch.tensor(a) for key, a in ours.items()})
    lengths = torch.tensor(LENGTHS) if model.lengths else None
    with torch.no_grad():
        wanted = jax.tree.map(
            lambda a: a.numpy(), model.torch(module, torch.tensor(model.inputs), lengths)
        )
    found = outputs(name)(params, model.inputs, LENGTHS)
    assert_close(jax.tree.map(np.asarray, found), wanted)


@padded_models
def test_padding(name):
    """What stands there, NaN and ids of other words, changes no value and no gradient; under vmap
    over parameters, which gives what each of them gives.
    """
    model, draws = MODELS[name], np.random.default_rng(0)
    shapes = jax.eval_shape(functools.partial(model.init, num_layers=1))
    params = jax.tree.map(lambda a: jnp.array(0.5 * draws.standard_normal(a.shape)), shapes)
    stacked = jax.tree.map(lambda a: jnp.stack([a, 1.5 * a + 0.1]), params)
    wanted = both(name)(stacked, model.inputs, LENGTHS)
    assert_close(
        jax.tree.map(lambda a: a[0], wanted[0]), outputs(name)(params, model.inputs, LENGTHS)
    )
    larger = jax.tree.map(lambda a: 1.5 * a + 0.1, params)
    assert_close(
        jax.tree.map(lambda a: a[1], wanted[0]), outputs(name)(larger, model.inputs, LENGTHS)
    )
    if model.inputs is X:
        other = np.where(PADDING[..., None], np.nan, X)
    else:
        other = np.where(PADDING, (IDS + 5) % WORDS, IDS)
    assert_equal(both(name)(stacked, other, LENGTHS), wanted)
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(wanted))
    if name == "norm":
        assert not np.any(wanted[0][:, PADDING])
    if "embedding" in params:  # 0 is a token that is read, but learns nothing
        assert np.any(IDS[~PADDING] == 0)
        assert not np.any(wanted[1][0]["embedding"]["weight"][:, 0])
    # Traced lengths beyond the end are clamped; an empty sequence is nothing special.
    wild = both(name)(stacked, other, LENGTHS * [1, 3, -1, 1, 1])
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(wild))
    assert_equal(
        jax.tree.map(lambda a: a[:, :2], wild[0]), jax.tree.map(lambda a: a[:, :2], wanted[0])
    )


def test_dtypes():
    """Parameters are of the `dtype` asked for; bfloat16 runs, and nothing is promoted."""
    for name in "last_state", "seq2seq additive":
        params = jax.eval_shape(functools.partial(MODELS[name].init, dtype=jnp.bfloat16))
        assert {a.dtype.name for a in jax.tree.leaves(params)} == {"bfloat16"}
        found = jax.eval_shape(MODELS[name].call, params, IDS, LENGTHS)
        assert {a.dtype.name for a in jax.tree.leaves(found)} == {"bfloat16"}
    for name in MODELS.keys() - {"seq2seq additive", "last_state"}:
        params = jax.eval_shape(functools.partial(MODELS[name].init, dtype=jnp.float32))
        assert {a.dtype.name for a in jax.tree.leaves(params)} == {"float32"}


def test_padding_row_is_zero():
    """Of models whose embedding has one; a sequence to sequence model's has not."""
    for name in "last_state", "text", "sentiment":
        weight = fresh(name)["embedding"]["weight"]
        assert not np.any(weight[0])
        assert np.all(np.any(weight[1:], axis=1))
    for part in fresh("seq2seq dot").values():
        assert np.all(np.any(part["embedding"]["weight"], axis=1))


def test_keys_are_used_once():
    """No two arrays are one draw, scaled."""
    for name in MODELS:
        leaves = [np.asarray(a)[a != 0] for a in jax.tree.leaves(fresh(name))]
        ratios = [round(float(a[1] / a[0]), 9) for a in leaves if a.size > 1 and a.std()]
        assert len(ratios) > 2
        assert len(set(ratios)) == len(ratios)


# Pooling


def plain_pool(how, y, h, lengths):
    """For every sequence on its own, by NumPy."""
    pooled = []
    for b, length in enumerate(lengths):
        steps = y[b, :length]
        if how == "last_state":
            pooled.append(np.concatenate([h[-2, b], h[-1, b]]))
        elif not length:
            pooled.append(np.zeros(y.shape[-1]))
        else:
            pools = {
                "last_step": lambda s: s[-1],
                "max": lambda s: s.max(0),
                "mean": lambda s: s.mean(0),
            }
            pooled.append(pools[how](steps))
    return np.stack(pooled)


def test_pool():
    """With lengths, of which one is 0, and without."""
    sizes = {"num_layers": 2, "bidirectional": True}
    params = models.init_sequence_model(KEY, "lstm", 4, 6, CLASSES, **sizes)
    weight, bias = np.asarray(params["fc"]["weight"]), np.asarray(params["fc"]["bias"])

    @jax.jit
    def every_pool(lengths=None):
        run = lambda how: sequence_model(params, X, pool=how, lengths=lengths)
        layers = lstm(params["lstm"], X, lengths=lengths, batch_first=True)
        return layers, {how: run(how) for how in _nn.POOLS}, run(None)

    for lengths in np.array([3, 6, 0, 5, 1]), np.full(BATCH, TIME):
        (y, state), pooled, (unpooled, same) = every_pool(lengths)
        assert_equal(same, state)
        valid = np.arange(TIME)[None, :, None] < lengths[:, None, None]
        assert_close(np.asarray(unpooled), np.where(valid, np.asarray(y) @ weight.T + bias, 0))
        for how, (found, same) in pooled.items():
            features = plain_pool(how, np.asarray(y), np.asarray(state.h), lengths)
            assert_close(np.asarray(found), features @ weight.T + bias)
            assert_equal(same, state)
    assert_close(every_pool()[1:], every_pool(np.full(BATCH, TIME))[1:])


def test_layers_under_another_kinds_name():
    """`self.rnn = nn.LSTM(…)` is common; the shapes say what it is."""
    lstm_under_rnn = {"rnn": TEXT["lstm"], "fc": {"weight": np.eye(12)}}
    y, _ = sequence_model(lstm_under_rnn, X, pool=None)
    assert_close(y, lstm(TEXT["lstm"], X, batch_first=True)[0])


def test_gradient_of_the_padding_row():
    params = FEATURES | {"embedding": WORDED["embedding"]}

    @jax.jit
    def gradients(params):
        run = lambda i: lambda params: score(sequence_model(params, IDS, padding_idx=i)[0])
        return [jax.grad(run(i))(params)["embedding"]["weight"] for i in (None, 0, 3)]

    whole, *others = map(np.asarray, gradients(params))
    assert (whole != 0).any(1).all()
    for row, found in zip((0, 3), others, strict=True):
        assert_equal(found, np.where(np.arange(WORDS)[:, None] == row, 0, whole))


def test_reinitialise():
    ones, twos = jax.nn.initializers.ones, jax.nn.initializers.constant(2.0)
    flat = to_state_dict(jaxrnn.reinitialise(KEY, DROPPED, weight_init=ones, bias_init=twos))
    assert list(flat) == list(to_state_dict(DROPPED))
    assert all((a == (2 if "bias" in name else 1)).all() for name, a in flat.items())
    normal = jax.nn.initializers.normal()
    flat = to_state_dict(jaxrnn.reinitialise(KEY, DROPPED, weight_init=normal))
    assert_equal(flat["fc.bias"], DROPPED["fc"]["bias"])
    assert len({float(a.ravel()[0]) for name, a in flat.items() if "weight" in name}) == 5


def test_maximum_of_ties():
    """The gradient goes to one step, the first, as torch's `max(dim=1)` has it; none to padding."""
    y = np.array(
        [[[1.0, -2.0], [1.0, -3.0], [0.0, -2.0]], [[-1.0, -1.0], [-1.0, -1.0], [0.0, 0.0]]]
    )
    gradient = jax.grad(lambda y: score(_nn.pool("max", y, None, np.array([3, 2]))))(jnp.array(y))
    leaf = torch.tensor(y, requires_grad=True)
    beyond = torch.tensor([[False] * 3, [False, False, True]])
    best = leaf.masked_fill(beyond[..., None], -torch.inf).max(dim=1).values
    (best * torch.tensor(np.cos(np.arange(4)).reshape(2, 2))).sum().backward()
    assert_close(np.asarray(gradient), leaf.grad.numpy())


# Embedding, linear, layer norm


def test_embedding():
    weight = np.random.default_rng(1).standard_normal((WORDS, 3))
    for ids in IDS, IDS[0], IDS[0, 0], IDS[None, :0]:
        assert_equal(np.asarray(embedding({"weight": weight}, ids)), weight[ids])
    for padding_idx in 2, 2 - WORDS:
        of = lambda w, ids, i=padding_idx: embedding({"weight": w}, ids, padding_idx=i)
        assert_equal(np.asarray(of(weight, IDS)), weight[IDS])  # it is read like any other
        gradient = jax.grad(lambda w, of=of: of(w, IDS).sum())(jnp.array(weight))
        counts = np.bincount(IDS.ravel(), minlength=WORDS).astype(float)
        counts[2] = 0
        assert_equal(np.asarray(gradient), np.repeat(counts[:, None], 3, 1))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64"])
@pytest.mark.parametrize("words", [11, 200, 300])
def test_ids_out_of_range(words, dtype):
    """Known ones raise, traced ones give NaN: negative, too large, or such as would wrap."""
    weight = {"weight": jnp.arange(1.0, words + 1)[:, None]}
    low, high = int(jnp.iinfo(dtype).min), int(jnp.iinfo(dtype).max)
    wild = [low, high, min(high, 2**32 + 1), -1 if low else 1, words if words <= high else 1, 1, 0]
    ids = np.array(wild, dtype)
    wanted = np.where((ids >= 0) & (ids < words), ids + 1.0, np.nan)
    found = jax.jit(lambda ids: embedding(weight, ids, padding_idx=words - 1))(ids)
    assert_equal(np.asarray(found[:, 0]), wanted)
    for one in wild:
        if not 0 <= one < words:
            with pytest.raises(ValueError, match=rf"must lie in \[0, {words}\).*got {one}"):
                embedding(weight, np.array([1, one], dtype))


def test_linear():
    """Any leading axes, none too; with and without bias."""
    weight, bias = X[0, :3], X[1, 0, :3]
    for x in X, X[0], X[0, 0], X[:, :0]:
        assert_close(np.asarray(linear({"weight": weight, "bias": bias}, x)), x @ weight.T + bias)
        assert_close(np.asarray(linear({"weight": weight}, x)), x @ weight.T)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_layer_norm(dtype):
    weight, bias = X[0, 0], X[1, 1]
    x = 3.0 + X  # the mean is not 0
    given = [jnp.asarray(a, dtype) for a in (x, weight, bias)]
    theirs = [torch.tensor(np.asarray(a, float)).to(getattr(torch, dtype)) for a in given]
    for eps in 1e-5, 0.1:
        wanted = torch.nn.functional.layer_norm(theirs[0], (4,), *theirs[1:], eps=eps)
        found = layer_norm({"weight": given[1], "bias": given[2]}, given[0], eps=eps)
        assert found.dtype == dtype
        assert_close(np.asarray(found, float), wanted.double().numpy(), dtype)


# Dropout


DROPPED = models.init_sequence_model(KEY, "rnn", 4, 12, 12, num_layers=2)
DROPPED["fc"] = {"weight": jnp.eye(12), "bias": jnp.full(12, 7.0)}  # to see what the head gets


@functools.cache
def dropping(dropout=RATE, head_dropout=RATE):
    rates = {"dropout": dropout, "head_dropout": head_dropout}
    return jax.jit(
        lambda key=None, masks=None: sequence_model(DROPPED, X, key=key, masks=masks, **rates)[0]
    )


def test_dropout_by_key():
    """The same key gives the same, another one another; half of it draws the layers' masks, the
    other half the head's; without a key there is no dropout.
    """
    found = dropping()(KEY)
    assert_equal(dropping()(KEY), found)
    assert np.any(dropping()(jax.random.key(1)) != found)
    between, before_head = jax.random.split(KEY)
    masks = DropoutMasks(
        dropout_masks(between, DROPPED["rnn"], X, RATE),
        jax.random.bernoulli(before_head, jnp.float32(1 - RATE), (BATCH, 12)),
    )
    assert_close(dropping()(masks=masks), found)
    plain = dropping()()
    only = masks._replace(layers=None)
    survivors = np.where(masks.head, (plain - 7) / (1 - RATE), 0) + 7
    assert_close(np.asarray(dropping()(masks=only)), survivors)


def test_dropout_is_fair():
    """The head's, seen in what comes out, and the layers', in what is left of the first one."""
    keys = jax.random.split(KEY, 200)
    many = np.asarray(jax.vmap(dropping(0.0, RATE))(keys))
    dropped = many == 7
    plain = dropping()()
    kept = np.broadcast_to((np.asarray(plain) - 7) / (1 - RATE) + 7, many.shape)
    assert_close(many[~dropped], kept[~dropped])
    for axes in (0, 1, 2), (0, 1), (0, 2), (1, 2):
        mean = dropped.mean(axes)
        deviation = np.sqrt(RATE * (1 - RATE) * mean.size / many.size)
        np.testing.assert_allclose(mean, RATE, rtol=0, atol=5 * deviation)


@pytest.mark.parametrize(("layers_rate", "head_rate"), [(1.0, 0.0), (0.0, 1.0)])
def test_dropping_all(layers_rate, head_rate):
    """The head then sees zeros, or the second layer does; nothing is NaN, no gradient either."""
    run = lambda params: sequence_model(
        params, X, dropout=layers_rate, head_dropout=head_rate, key=KEY
    )[0]
    found, gradient = jax.jit(lambda p: (run(p), jax.grad(lambda p: score(run(p)))(p)))(DROPPED)
    assert all(np.isfinite(a).all() for a in jax.tree.leaves((found, gradient)))
    first = {name for name in DROPPED["rnn"] if "_l0" in name}
    for name, a in gradient["rnn"].items():
        assert np.any(a) == (
            head_rate == 0 and name not in first and not name.startswith("weight_ih_l1")
        )
    if head_rate:
        assert_equal(found, jnp.full((BATCH, 12), 7.0))


# Attention

SCORES = {
    "additive": {"attn": {"weight": (6, 9), "bias": (6,)}, "v": {"weight": (1, 6)}},
    "general": {"attn": {"weight": (5, 4)}},
    "general biased": {"attn": {"weight": (5, 4), "bias": (5,)}},
    "dot": {},
}
every_score = pytest.mark.parametrize("name", SCORES)
VALID = np.arange(TIME) < np.array([3, 6, 0, 5, 1])[:, None]


def attend(name):
    """Parameters, a query and values."""
    draws = np.random.default_rng(1)
    shapes = lambda tree: (
        {key: shapes(value) for key, value in tree.items()}
        if isinstance(tree, dict)
        else jnp.array(draws.standard_normal(tree))
    )
    query = draws.standard_normal((BATCH, 4 if name == "dot" else 5))
    return shapes(SCORES[name]), jnp.array(query), jnp.array(X)


@every_score
def test_attention(name):
    """A plain loop; weights that sum to 1 and are 0 on padding; where all is padding, zeros."""
    params, query, values = attend(name)
    with jax.debug_nans(True):  # not even on the way
        context, weights = attention(params, query, memory(params, values, VALID))
    wanted_context, wanted = np.zeros((BATCH, 4)), np.zeros((BATCH, TIME))
    w = jax.tree.map(np.asarray, params)
    for b in range(BATCH):
        scores = []
        for e in np.asarray(values[b])[VALID[b]]:
            q = np.asarray(query[b])
            if "v" in w:
                energy = np.tanh(w["attn"]["weight"] @ np.concatenate([q, e]) + w["attn"]["bias"])
                scores.append(w["v"]["weight"][0] @ energy)
            else:
                key = w["attn"]["weight"] @ e + w["attn"].get("bias", 0) if w else e
                scores.append(q @ key)
        if scores:
            p = np.exp(scores) / np.exp(scores).sum()
            wanted[b, : len(p)], wanted_context[b] = p, p @ np.asarray(values[b])[VALID[b]]
    assert_close(np.asarray(weights), wanted)
    assert_close(np.asarray(context), wanted_context)
    assert np.all((np.asarray(weights) == 0) == ~VALID)
    full = VALID.all(1)
    _, plain = attention(params, query, memory(params, values))
    assert_close(plain[full], weights[full])
    assert_close(plain.sum(1), jnp.ones(BATCH))


@every_score
def test_attention_gradients(name):
    """Reach every parameter, the query and the valid values, and nothing that is padding; what
    stands there, NaN too, changes none of them.
    """
    leaves = attend(name)
    run = lambda params, query, values: score(
        attention(params, query, memory(params, values, VALID))
    )
    gradient = jax.jit(jax.grad(run, (0, 1, 2)))
    wanted = gradient(*leaves)
    params_bar, query_bar, values_bar = wanted
    for path, a in jax.tree_util.tree_leaves_with_path(params_bar):
        # A bias of the keys moves all scores of a query alike.
        shift = name == "general biased" and "bias" in jax.tree_util.keystr(path)
        assert np.all(np.isfinite(a))
        assert np.abs(a).max() < 1e-12 if shift else np.all(np.any(a, axis=-1))
    assert np.all(np.any(query_bar, axis=1) == (VALID.sum(1) > 1))
    assert np.all(np.any(values_bar, axis=2) == VALID)
    for content in np.nan, np.inf, 1e300:
        other = jnp.where(VALID[..., None], leaves[2], content)
        assert_equal(gradient(*leaves[:2], other), wanted)


# Sequence to sequence


@functools.cache
def forced():
    run = lambda coins, target: seq2seq(fresh("seq2seq dot"), IDS, target, coins=coins)
    return jax.jit(run)


def test_coins():
    """By key as often as the ratio says; at 0 and 1 always the same, and without a key."""
    params = fresh("seq2seq dot")

    @jax.jit
    def all_(key):
        run = lambda ratio, **key: seq2seq(params, IDS, TARGET, teacher_forcing_ratio=ratio, **key)
        return run(0.0), run(1.0), run(0.4, key=key)

    never, always, tossed = all_(KEY)
    assert_close(never, forced()(np.zeros(3, bool), TARGET))
    assert_close(always, forced()(np.ones(3, bool), TARGET))
    assert_equal(all_(KEY)[2], tossed)
    coins = jax.random.bernoulli(KEY, jnp.float32(0.4), (3,))
    assert_close(tossed, forced()(coins, TARGET))
    many = np.asarray(
        jax.vmap(lambda key: _seq2seq._coins(9, 0.4, key, None))(jax.random.split(KEY, 500))
    )
    np.testing.assert_allclose(many.mean(0), 0.4, rtol=0, atol=5 * np.sqrt(0.24 / 500))


def test_what_coins_do():
    """The true token is fed where they say so, and only there; the last one decides nothing."""
    outputs, weights = forced()(np.array([False, True, False]), TARGET)
    assert not np.any(outputs[:, 0])
    assert not np.any(weights[:, 0])
    assert_close(weights[:, 1:].sum(-1), jnp.ones((BATCH, 3)))
    assert_equal(forced()(np.array([False, True, True]), TARGET), (outputs, weights))
    for step, first in (1, 4), (2, 3), (3, 4):
        target = TARGET.copy()
        target[:, step] = (target[:, step] + 1) % WORDS
        other, _ = forced()(np.array([False, True, False]), target)
        assert_equal(other[:, :first], outputs[:, :first])
        assert np.all(np.any(other[:, first:] != outputs[:, first:], axis=(1, 2))) == (first < 4)


def test_target_of_one_token():
    outputs, weights = forced()(np.zeros(0, bool), TARGET[:, :1])
    assert_equal((outputs, weights), (jnp.zeros((BATCH, 1, WORDS)), jnp.zeros((BATCH, 1, TIME))))


def test_transformations():
    """Hessians of attention's parameters, forward over reverse, under vmap over them and over
    lengths, which are traced: symmetric, and what differences of gradients say.
    """
    params = models.init_seq2seq(KEY, WORDS, WORDS, 2, 2, kind="rnn", attention="additive")
    theta = params["decoder"]["attention"]["v"]["weight"]

    def loss(theta, lengths):
        inner = {**params["decoder"]["attention"], "v": {"weight": theta}}
        whole = {**params, "decoder": {**params["decoder"], "attention": inner}}
        return score(seq2seq(whole, IDS, TARGET, lengths=lengths, teacher_forcing_ratio=1.0))

    both = lambda theta, n: (jax.grad(loss)(theta, n), jax.jacfwd(jax.grad(loss))(theta, n))
    each = jax.vmap(jax.vmap(both, (0, None)), (None, 0))
    steps = 1e-5 * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])[:, None]
    gradients, hessians = jax.jit(each)(theta + steps, jnp.stack([LENGTHS, LENGTHS[::-1]]))
    for g, hessian in zip(gradients[:, :, 0], hessians[:, 0].reshape(2, 2, 2), strict=True):
        assert_close(hessian, hessian.T)
        assert_close(hessian, (g[1::2] - g[2::2]) / 2e-5, "difference")
        assert np.all(hessian != 0)


# Errors


def row(name, error, message, function, *args, **options):
    return pytest.param(functools.partial(function, *args, **options), error, message, id=name)


def without(params, *names):
    return {key: value for key, value in params.items() if key not in names}


FEATURES, TEXT, SENTIMENT = fresh("last_step"), fresh("text"), fresh("sentiment")
WORDED, NORM, GENERAL = fresh("last_state"), fresh("norm"), fresh("seq2seq general")
ADDITIVE, DOT, PLAIN = (fresh(f"seq2seq {name}") for name in ("additive", "dot", None))
STATE = jnp.zeros((1, BATCH, 12))
VALUES = jnp.zeros((BATCH, TIME, 12))
EYE = {"weight": np.eye(4), "bias": np.zeros(4)}
MASK = np.ones((BATCH, 6), bool)
# fmt: off
ERRORS = [
    # parts
    row("sequence-fc", ValueError, "`params` must have `fc`, got rnn (there may be `embedding`",
        sequence_model, without(FEATURES, "fc"), X),
    row("sequence-none", ValueError, "`params` must have `fc`, got none", sequence_model, {}, X),
    row("sequence-list", TypeError, "`params` must be a dict of a model's parts, got list",
        sequence_model, [FEATURES], X),
    row("sequence-layer", ValueError, "must have one of `rnn`, `lstm` and `gru`, got fc",
        sequence_model, without(FEATURES, "rnn"), X),
    row("sequence-two", ValueError, "must have one of `rnn`, `lstm` and `gru`, got rnn, fc, gru",
        sequence_model, FEATURES | {"gru": WORDED["gru"]}, X),
    row("sequence-flat", ValueError, "`params` must have `fc`...fc.bias...from_state_dict",
        sequence_model, to_state_dict(FEATURES), X),
    row("fc-weight", ValueError, "`linear` must be a dict with `weight`, got one with 'bias'",
        sequence_model, FEATURES | {"fc": {"bias": np.zeros(3)}}, X),
    row("fc-more", ValueError, "`params` of `linear` have the unexpected key 'biass'",
        sequence_model, FEATURES | {"fc": FEATURES["fc"] | {"biass": np.zeros(3)}}, X),
    row("fc-mixed", TypeError, "`bias` of `linear` is float32, but `weight` is float64",
        sequence_model, FEATURES | {"fc": FEATURES["fc"] | {"bias": np.zeros(3, np.float32)}}, X),
    row("sequence-more", ValueError, "`params` must have `fc`, got rnn, fc, layer_norm (there may",
        sequence_model, FEATURES | {"layer_norm": EYE}, X),
    row("masks-single", ValueError, "`masks.layers` are those between layers, but the model",
        sequence_model, WORDED, IDS, dropout=0.3, masks=DropoutMasks(layers=MASK)),
    row("mask-rate", ValueError, "`mask` comes with the rate that it was drawn with, got a rate",
        sequence_model, FEATURES, X, masks=DropoutMasks(head=MASK)),
    row("padding-idx", ValueError, "`padding_idx` must be one of 11 ids, got 11",
        sequence_model, WORDED, IDS, padding_idx=11),
    row("query-dtype", TypeError, "`query` is float32, but the memory is float64",
        attention, {}, np.ones((BATCH, 12), np.float32), memory({}, VALUES)),
    row("memory-type", TypeError, "`memory` must be a Memory, got",
        attention, {}, np.ones((BATCH, 12)), VALUES),
    row("decoder-renamed", ValueError, "the model's `decoder` must have `embedding`...attn",
        seq2seq, DOT | {"decoder": DOT["decoder"] | {"attn": {}}}, IDS, TARGET),
    row("init-padding", ValueError, "`padding_idx` must be one of 3 ids, got 7",
        jaxrnn.init_embedding, KEY, 3, 2, padding_idx=7),
    row("embedding-weight", ValueError, "must have `weight`, got none",
        sequence_model, WORDED | {"embedding": {}}, IDS),
    row("text-fc1", ValueError, "`params` must have `fc1` and `fc2`, got embedding, lstm, fc2",
        models.text_classifier, without(TEXT, "fc1"), IDS),
    row("text-other", ValueError, "`params` must have `fc1` and `fc2`, got embedding, gru, fc",
        models.text_classifier, WORDED, IDS),
    row("sentiment-fc", ValueError, "`params` must have `fc`",
        models.sentiment_classifier, without(SENTIMENT, "fc"), IDS, LENGTHS),
    row("sentiment-fc-1", ValueError, "the model's `fc` must have `1`, got weight, bias",
        models.sentiment_classifier, WORDED, IDS, LENGTHS),
    row("cell-none", ValueError, "`params` must have `rnn_cell` and `fc`, got rnn, fc",
        models.cell_model, FEATURES, X),
    row("cell-fc", ValueError, "`params` must have `cells` and `fc`",
        models.cell_model, without(fresh("cells"), "fc"), X),
    row("simple-W_hh", ValueError, "`params` must have `W_xh` and `W_hh`, got W_xh",
        models.simple_rnn_cell, without(fresh("simple cell"), "W_hh"), X[:, 0]),
    row("norm-norm", ValueError, "`params` must have `lstm` and `layer_norm`, got lstm",
        models.layer_norm_lstm, without(NORM, "layer_norm"), X),
    row("seq2seq-decoder", ValueError, "`params` must have `encoder` and `decoder`, got encoder",
        seq2seq, without(PLAIN, "decoder"), IDS, TARGET, teacher_forcing_ratio=1),
    row("encoder-embedding", ValueError, "`params` must have `embedding`, got rnn",
        models.encoder, without(PLAIN["encoder"], "embedding"), IDS),
    row("step-fc", ValueError, "`params` must have `embedding` and `fc`, got embedding, rnn",
        models.decoder_step, without(PLAIN["decoder"], "fc"), TARGET[:, 0], STATE),
    # inputs
    row("x-rank", ValueError, "a model without `embedding` takes inputs (batch, time, features)",
        sequence_model, FEATURES, X[0]),
    row("x-features", ValueError, "`x` has 3 features...`weight_ih_l0` expects 4",
        sequence_model, FEATURES, X[..., :3]),
    row("ids-features", TypeError, "`ids` must be integers, the ids of tokens, got float64",
        sequence_model, WORDED, X),
    row("ids-rank", ValueError, "`ids` must have the shape (batch, time), got (6,)",
        models.text_classifier, TEXT, IDS[0]),
    row("ids-beyond", ValueError, "`ids` must lie in [0, 11)...is the vocabulary another one",
        sequence_model, WORDED, IDS + 1),
    row("ids-constant", ValueError, "`ids` must lie in [0, 11)",
        jax.jit(lambda params: sequence_model(params, IDS + 1)), WORDED),
    row("ids-negative", ValueError, "`ids` must lie in [0, 11)...got -1", embedding, EYE
        | {"weight": np.ones((11, 2)), "bias": np.ones(11)}, [-1]),
    row("embedding-padding", ValueError, "`padding_idx` must be one of 4 ids, got 4",
        embedding, EYE, [1], padding_idx=4),
    row("linear-features", ValueError, "`x` must have 4 features in its last axis...got shape (2,)",
        linear, EYE, np.ones(2)),
    row("linear-scalar", ValueError, "`x` must have 4 features", linear, EYE, 1.0),
    row("linear-dtype", TypeError, "`weight` is float64, but `x` is float32: cast one of them",
        linear, EYE, np.ones(4, np.float32)),
    row("linear-misshapen", ValueError, "`params` of `linear` are misshapen",
        linear, {"weight": np.eye(4), "bias": np.zeros(3)}, np.ones(4)),
    row("norm-misshapen", ValueError, "`params` of `layer_norm` are misshapen",
        layer_norm, EYE, np.ones(4)),
    row("norm-array", ValueError, "`params` of `layer_norm` must be a dict with `weight`, got n",
        layer_norm, np.ones(4), np.ones(4)),
    row("pool", ValueError, "`pool` must be one of 'last_step', 'last_state'...got 'last'",
        sequence_model, FEATURES, X, pool="last"),
    row("nonlinearity", ValueError, "`nonlinearity` is an option of `rnn`, but the model has `gru`",
        sequence_model, WORDED, IDS, nonlinearity="relu"),
    row("lengths-beyond", ValueError, "`lengths` must lie between 0 and the 6 time steps",
        sequence_model, WORDED, IDS, lengths=LENGTHS + 1),
    row("lengths-shape", ValueError, "`lengths` must have the shape (5,)",
        models.text_classifier, TEXT, IDS, lengths=LENGTHS[:2]),
    # dropout
    row("dropout", ValueError, "`dropout` must be a Python number between 0 and 1...got 30",
        sequence_model, WORDED, IDS, dropout=30),
    row("head-dropout", ValueError, "`head_dropout` must be a Python number...got 50",
        sequence_model, FEATURES, X, head_dropout=50, key=KEY),
    row("key", TypeError, "`key` must be one jax.random key", sequence_model, FEATURES, X, key=0),
    row("masks-key", ValueError, "`masks` come instead of `key`, got both",
        sequence_model, FEATURES, X, key=KEY, masks=DropoutMasks()),
    row("masks-array", TypeError, "`masks` must be DropoutMasks, got ndarray",
        sequence_model, FEATURES, X, masks=MASK),
    row("masks-float", TypeError, "`mask` must be boolean...got float64",
        sequence_model, FEATURES, X, head_dropout=0.5, masks=DropoutMasks(head=MASK + 0.0)),
    row("masks-shape", ValueError, "`mask` must have the shape of `x`, (5, 6), got (5, 5)",
        sequence_model, FEATURES, X, head_dropout=0.5, masks=DropoutMasks(head=MASK[:, :5])),
    # attention
    row("attention-names", ValueError, "must be `attn` and `v` (additive)...got v",
        memory, without(ADDITIVE["decoder"]["attention"], "attn"), VALUES),
    row("attention-additive", ValueError, "`attn.weight` has shape (12, 24)...12 features",
        memory, without(ADDITIVE["decoder"]["attention"], "v"), VALUES),
    row("attention-values", ValueError, "`attn.weight` has shape (12, 12)...have 4 features",
        memory, GENERAL["decoder"]["attention"], X),
    row("attention-dot", ValueError, "`query` must have the shape (5, 4)...got (5, 3): a dot score",
        attention, {}, X[:, 0, :3], memory({}, X)),
    row("attention-query", ValueError, "`query` must have the shape (5, 12)",
        attention, ADDITIVE["decoder"]["attention"], X[:, 0],
        memory(ADDITIVE["decoder"]["attention"], VALUES)),
    row("attention-batch", ValueError, "`query` must have the shape (5, 4)...got (1, 4)",
        attention, {}, X[:1, 0], memory({}, X)),
    row("valid-shape", ValueError, "`valid` must be boolean of the shape (5, 6)",
        memory, {}, X, ~PADDING[:2]),
    row("valid-dtype", ValueError, "`valid` must be boolean...got int64",
        memory, {}, X, 1 - PADDING),
    row("step-memory", ValueError, "takes 16 features, but the embedding has 4, and there is no",
        models.decoder_step, DOT["decoder"], TARGET[:, 0], STATE),
    row("step-width", ValueError, "takes 16 features, but the embedding has 4, and `memory` 4",
        models.decoder_step, DOT["decoder"], TARGET[:, 0], STATE, memory({}, X)),
    row("step-token", ValueError, "`token` must have the shape (batch,), got (5, 4)",
        models.decoder_step, PLAIN["decoder"], TARGET, STATE),
    row("step-unattended", ValueError, "the decoder has `attention`, but its `rnn` takes the 4",
        models.decoder_step, PLAIN["decoder"] | {"attention": {}}, TARGET[:, 0], STATE),
    # sequence to sequence
    row("ratio-key", ValueError, "`teacher_forcing_ratio` 0.5 needs a `key` to toss coins with",
        seq2seq, DOT, IDS, TARGET),
    row("ratio", ValueError, "`teacher_forcing_ratio` must be between 0 and 1, got 1.5",
        seq2seq, DOT, IDS, TARGET, teacher_forcing_ratio=1.5),
    row("ratio-bool", ValueError, "`teacher_forcing_ratio`...got True",
        seq2seq, DOT, IDS, TARGET, teacher_forcing_ratio=True),
    row("ratio-key-type", TypeError, "`key` must be one jax.random key",
        seq2seq, DOT, IDS, TARGET, key=0),
    row("coins-float", TypeError, "`coins` must be boolean, True for the true token, got float64",
        seq2seq, DOT, IDS, TARGET, coins=np.ones(3)),
    row("coins-shape", ValueError, "`coins` must have the shape (3,)...got (4,)",
        seq2seq, DOT, IDS, TARGET, coins=np.ones(4, bool)),
    row("coins-key", ValueError, "`coins` come instead of `key`, got both",
        seq2seq, DOT, IDS, TARGET, coins=np.ones(3, bool), key=KEY),
    row("target-empty", ValueError, "`target` must have at least its first token",
        seq2seq, DOT, IDS, TARGET[:, :0], teacher_forcing_ratio=1),
    row("target-beyond", ValueError, "`target` must lie in [0, 11)...got 11",
        seq2seq, DOT, IDS, TARGET + 11 - TARGET.max(), teacher_forcing_ratio=1),
    row("target-float", TypeError, "`target` must be integers",
        seq2seq, DOT, IDS, TARGET / 2, teacher_forcing_ratio=1),
    row("target-batch", ValueError, "`source` has 5 sequences, `target` 2",
        seq2seq, DOT, IDS, TARGET[:2], teacher_forcing_ratio=1),
    row("source-beyond", ValueError, "`source` must lie in [0, 11)",
        seq2seq, DOT, IDS + 11, TARGET, teacher_forcing_ratio=1),
    row("source-rank", ValueError, "`source` must have the shape (batch, time), got (6,)",
        models.encoder, DOT["encoder"], IDS[0]),
    # init
    row("init-kind", ValueError, "`kind` must be 'rnn', 'lstm' or 'gru', got 'LSTM'",
        models.init_sequence_model, KEY, "LSTM", 4, 6, 2),
    row("init-output", ValueError, "`output_size` must be a positive integer, got 0",
        models.init_sequence_model, KEY, "gru", 4, 6, 0),
    row("init-vocabulary", ValueError, "`vocab_size` must be a positive integer, got 0",
        models.init_sequence_model, KEY, "gru", 4, 6, 2, vocab_size=0),
    row("init-hidden", ValueError, "`hidden_size` must be a positive integer, got 6.0",
        models.init_sequence_model, KEY, "gru", 4, 6.0, 2),
    row("init-key", TypeError, "`key` must be one jax.random key",
        models.init_sequence_model, 0, "gru", 4, 6, 2),
    row("init-dtype", TypeError, "`dtype` must be floating",
        models.init_sequence_model, KEY, "gru", 4, 6, 2, dtype=int),
    row("init-classes", ValueError, "`num_classes` must be a positive integer, got -1",
        models.init_text_classifier, KEY, 9, 4, 6, -1),
    row("init-fc1", ValueError, "`fc1_size` must be a positive integer, got 0",
        models.init_text_classifier, KEY, 9, 4, 6, 2, fc1_size=0),
    row("init-words", ValueError, "`vocab_size` must be a positive integer, got 0",
        models.init_sentiment_classifier, KEY, 0),
    row("init-cells", ValueError, "`num_layers` must be a positive integer, got 0",
        models.init_cell_model, KEY, 4, 6, 2, num_layers=0),
    row("init-simple", ValueError, "`input_size` must be a positive integer, got 0",
        models.init_simple_rnn_cell, KEY, 0, 6),
    row("init-norm", ValueError, "`hidden_size` must be a positive integer, got 0",
        models.init_layer_norm_lstm, KEY, 4, 0),
    row("init-source", ValueError, "`source_size` must be a positive integer, got 0",
        models.init_seq2seq, KEY, 0, 8, 4, 5),
    row("init-target", ValueError, "`target_size` must be a positive integer, got 0",
        models.init_seq2seq, KEY, 9, 0, 4, 5),
    row("init-attention", ValueError, "`attention` must be None, 'additive'...got 'bahdanau'",
        models.init_seq2seq, KEY, 9, 8, 4, 5, attention="bahdanau"),
    row("init-seq2seq-kind", ValueError, "`kind` must be 'rnn', 'lstm' or 'gru', got None",
        models.init_seq2seq, KEY, 9, 8, 4, 5, kind=None),
]
# fmt: on


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(("call", "error", "message"), ERRORS)
def test_raises(call, error, message):
    assert_refused(call, error, message)
