"""A small training that the tests of `fit` and its checkpoints share."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from jaxrnn import data, losses, optim, training


RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(24, 5, 3)), RNG.normal(size=(24, 2))
KEY = jax.random.key(1)


def start():
    return {"fc": jaxrnn.init_linear(jax.random.key(3), 3, 2, dtype=float)}


def loss(params, x, y, key=None):
    """Without recurrence, which takes seconds to compile and makes no difference to a loop."""
    last = x[:, -1]
    if key is not None:
        last = jnp.where(jax.random.bernoulli(key, 0.7, last.shape), last, 0.0)
    return losses.mse_loss(jaxrnn.linear(params["fc"], last), y)


def batches(epoch):
    """Three batches of 8 examples, in a new order for each epoch."""
    for i in data.batches(len(X), 8, rng=np.random.default_rng(epoch)):
        yield X[i], Y[i]


@jax.jit
def validate(params):
    return loss(params, X[:5], Y[:5])


def fit(loss=loss, batches=batches, **options):
    options = {"epochs": 4, "lr": 0.1, "key": KEY} | options
    return training.fit(loss, optim.adam, start(), batches, **options)


def assert_same(result, wanted):
    """Bit for bit."""
    assert jax.tree.structure(result) == jax.tree.structure(wanted)
    jax.tree.map(np.testing.assert_array_equal, result, wanted)


def carrying(params, x, y, *, key, state):
    """A loss that depends on all batches of an epoch so far."""
    return loss(params, x, y, key) + state * params["fc"]["bias"].sum(), state / 2 + y.mean()


# A rate that is cut, dropout, shuffling, a state, validation, checkpoints within epochs.
OPTIONS = {
    "state": jnp.ones(()),
    "epochs": 6,
    "lr": optim.reduce_lr_on_plateau(0.1, patience=0, threshold=0.3),
    "validate": validate,
    "save_every": 2,
}


class KilledError(Exception):
    pass


def sound(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
