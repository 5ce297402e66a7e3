"""Laws of dropout in models: the key determines it, it is fair, and all may be dropped."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, assert_equal, score
from model_cases import BATCH, KEY, X

from jaxrnn import dropout_masks, models
from jaxrnn.models import DropoutMasks, sequence_model


RATE = 0.37
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
