"""Laws of a sequence model's ends: pooling over time, and the embedding's row for padding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers import assert_close, assert_equal, score
from model_cases import BATCH, CLASSES, IDS, KEY, TIME, WORDS, X, fresh

import jaxrnn
from jaxrnn import _nn, lstm, models
from jaxrnn.models import sequence_model


SOME, FULL = np.array([3, 6, 0, 5, 1]), np.full(BATCH, TIME)


def valid(lengths):
    return np.arange(TIME)[None, :, None] < lengths[:, None, None]


def plain_pool(how, y, h, lengths):
    """Pools every sequence on its own, in NumPy."""
    pools = {
        "last_step": lambda steps, h: steps[-1],
        "last_state": lambda steps, h: np.concatenate([h[-2], h[-1]]),
        "max": lambda steps, h: steps.max(0),
        "mean": lambda steps, h: steps.mean(0),
    }
    pooled = [
        pools[how](y[b, :length], h[:, b])
        if length or how == "last_state"
        else np.zeros(y.shape[-1])
        for b, length in enumerate(lengths)
    ]
    return np.stack(pooled)


@pytest.mark.parametrize("how", _nn.POOLS)
def test_pool(how):
    """With lengths, one of which is 0, and without."""
    rng = np.random.default_rng(0)
    y, h = rng.standard_normal((BATCH, TIME, 12)), rng.standard_normal((4, BATCH, 6))
    pool = jax.jit(functools.partial(_nn.pool, how))
    for lengths in SOME, FULL:
        zeros_beyond = np.where(valid(lengths), y, 0)  # as layers return
        pooled = pool(zeros_beyond, (h, h), lengths)
        assert_close(np.asarray(pooled), plain_pool(how, y, h, lengths))
    assert_close(pool(y, (h, h)), pool(y, (h, h), FULL))
    assert_equal(pool(y, h), pool(y, (h, h)))  # the state of an LSTM, and of the others


def test_sequence_model():
    """Pools what its layers return, and applies `fc`; without pooling, `fc` at every step."""
    params = models.init_sequence_model(KEY, "rnn", 4, 6, CLASSES, bidirectional=True)
    weight, bias = np.asarray(params["fc"]["weight"]), np.asarray(params["fc"]["bias"])

    @jax.jit
    def run(lengths):
        layers = jaxrnn.rnn(params["rnn"], X, lengths=lengths, batch_first=True)
        call = functools.partial(sequence_model, params, X, lengths=lengths)
        return layers, call(pool=None), {how: call(pool=how) for how in _nn.POOLS}

    (y, h), (unpooled, state), pooled = run(SOME)
    y, h = np.asarray(y), np.asarray(h)
    assert_close(np.asarray(unpooled), np.where(valid(SOME), y @ weight.T + bias, 0))
    assert_equal(np.asarray(state), h)
    for how, (outputs, state) in pooled.items():
        assert_close(np.asarray(outputs), plain_pool(how, y, h, SOME) @ weight.T + bias)
        assert_equal(np.asarray(state), h)


def test_layers_under_another_kinds_name():
    """`self.rnn = nn.LSTM(…)` is common; the shapes determine the kind."""
    layers = fresh("text")["lstm"]
    y, _ = sequence_model({"rnn": layers, "fc": {"weight": np.eye(12)}}, X, pool=None)
    assert_close(y, lstm(layers, X, batch_first=True)[0])


def test_gradient_of_the_padding_row():
    params = fresh("last_step") | {"embedding": fresh("last_state")["embedding"]}

    @jax.jit
    def gradients(params):
        loss = lambda i: lambda params: score(sequence_model(params, IDS, padding_idx=i)[0])
        return [jax.grad(loss(i))(params)["embedding"]["weight"] for i in (None, 0, 3)]

    whole, *others = map(np.asarray, gradients(params))
    assert (whole != 0).any(1).all()
    for row, weight in zip((0, 3), others, strict=True):
        assert_equal(weight, np.where(np.arange(WORDS)[:, None] == row, 0, whole))


def test_maximum_of_ties():
    """The gradient goes to the first step, as in torch's `max(dim=1)`, and never to padding."""
    y = np.array(
        [[[1.0, -2.0], [1.0, -3.0], [0.0, -2.0]], [[-1.0, -1.0], [-1.0, -1.0], [0.0, 0.0]]]
    )
    gradient = jax.grad(lambda y: score(_nn.pool("max", y, None, np.array([3, 2]))))(jnp.array(y))
    leaf = torch.tensor(y, requires_grad=True)
    beyond = torch.tensor([[False] * 3, [False, False, True]])
    best = leaf.masked_fill(beyond[..., None], -torch.inf).max(dim=1).values
    (best * torch.tensor(np.cos(np.arange(4)).reshape(2, 2))).sum().backward()
    assert_close(np.asarray(gradient), leaf.grad.numpy())
