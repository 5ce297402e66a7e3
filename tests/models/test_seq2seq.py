"""Laws of sequence to sequence: what coins decide, the shortest target, second derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from helpers import assert_close, assert_equal, score
from model_cases import BATCH, IDS, KEY, LENGTHS, TARGET, TIME, WORDS, fresh

from jaxrnn import models
from jaxrnn.models import _seq2seq, seq2seq


@functools.cache
def forced():
    run = lambda coins, target: seq2seq(fresh("seq2seq dot"), IDS, target, coins=coins)
    return jax.jit(run)


def test_coins():
    """True as often as the ratio says; at 0 and 1 always the same, without a key."""
    toss = functools.partial(seq2seq, fresh("seq2seq dot"), IDS, TARGET, teacher_forcing_ratio=0.4)
    coins = jax.random.bernoulli(KEY, jnp.float32(0.4), (3,))
    assert_close(jax.jit(lambda key: toss(key=key))(KEY), forced()(coins, TARGET))
    for ratio in 0.0, 1.0:
        assert_equal(_seq2seq._coins(9, ratio, None, None), jnp.full(9, ratio == 1))
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

    twice = lambda theta, n: (gradient := jax.grad(loss)(theta, n), gradient)
    hessian_and_gradient = jax.jacfwd(twice, has_aux=True)
    each = jax.vmap(jax.vmap(hessian_and_gradient, (0, None)), (None, 0))
    steps = 1e-5 * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])[:, None]
    hessians, gradients = jax.jit(each)(theta + steps, jnp.stack([LENGTHS, LENGTHS[::-1]]))
    for g, hessian in zip(gradients[:, :, 0], hessians[:, 0].reshape(2, 2, 2), strict=True):
        assert_close(hessian, hessian.T)
        assert_close(hessian, (g[1::2] - g[2::2]) / 2e-5, "difference")
        assert np.all(hessian != 0)
