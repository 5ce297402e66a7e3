"""The flax modules in flax's own training loops."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from flax.training.train_state import TrainState
from flax_modules import KEY

import jaxrnn.linen
import jaxrnn.nnx


@pytest.fixture
def as_users_do():
    """Neither flax's metrics nor optax's losses know strict promotion."""
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        yield


class Classifier(nnx.Module):
    def __init__(self, recurrent, *, rngs):
        self.recurrent = recurrent
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.linear = nnx.Linear(16, 2, rngs=rngs)

    def __call__(self, x):
        return self.linear(self.dropout(self.recurrent(x)[0][:, -1]))


def classify_loss(model, batch):
    logits = model(batch["x"])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
    return losses.mean(), logits


@nnx.jit
def classify_step(model, optimizer, metrics, batch):
    (loss, logits), grads = nnx.value_and_grad(classify_loss, has_aux=True)(model, batch)
    metrics.update(loss=loss, logits=logits, labels=batch["label"])
    optimizer.update(model, grads)


@nnx.jit
def classify_evaluate(model, metrics, batch):
    loss, logits = classify_loss(model, batch)
    metrics.update(loss=loss, logits=logits, labels=batch["label"])


NNX_LAYERS = {
    "single": lambda rngs: jaxrnn.nnx.LSTM(1, 16, batch_first=True, rngs=rngs),
    "stacked": lambda rngs: jaxrnn.nnx.GRU(1, 16, 2, dropout=0.1, batch_first=True, rngs=rngs),
}


@pytest.mark.usefixtures("as_users_do")
@pytest.mark.parametrize("layer", NNX_LAYERS)
def test_nnx_loop(layer):
    """The loop of flax's MNIST tutorial: was the first of six numbers positive?"""
    rng = np.random.default_rng(0)
    draw = lambda n: rng.normal(size=(n, 6, 1)).astype(np.float32)
    labelled = lambda x: {"x": x, "label": (x[:, 0, 0] > 0).astype(np.int32)}
    rngs = nnx.Rngs(0, dropout=1)
    model = Classifier(NNX_LAYERS[layer](rngs), rngs=rngs)
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
    metrics = nnx.MultiMetric(accuracy=nnx.metrics.Accuracy(), loss=nnx.metrics.Average("loss"))
    for _ in range(120):
        classify_step(model, optimizer, metrics, labelled(draw(64)))
    metrics.reset()
    classify_evaluate(nnx.view(model, deterministic=True), metrics, labelled(draw(1000)))
    assert metrics.compute()["accuracy"] > 0.95


class Seq2seq(linen.Module):
    @linen.compact
    def __call__(self, source, target, lengths):
        encoder, decoder = (jaxrnn.linen.LSTM(6, 32, batch_first=True) for _ in range(2))
        _, state = encoder(source, lengths=lengths)
        y, _ = decoder(target, state)
        return linen.Dense(6)(y)


@pytest.mark.usefixtures("as_users_do")
def test_linen_loop():
    """The loop of flax's seq2seq example, with its teacher forcing: say it backwards."""
    rng, lengths = np.random.default_rng(0), np.full(64, 3, np.int32)
    model = Seq2seq()

    def batch():
        words = rng.integers(1, 6, (64, 3))
        source = np.eye(6, dtype=np.float32)[np.pad(words, ((0, 0), (0, 2)))]
        target = np.eye(6, dtype=np.float32)[np.pad(words[:, ::-1], ((0, 0), (1, 0)))]
        return source, target[:, :-1], words[:, ::-1]

    source, target, _ = batch()
    params = model.init(KEY, source, target, lengths)["params"]
    state = TrainState.create(apply_fn=model.apply, params=params, tx=optax.adam(1e-2))

    @jax.jit
    def train_step(state, source, target, labels):
        def loss_fn(params):
            logits = state.apply_fn({"params": params}, source, target, lengths)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), jnp.all(logits.argmax(-1) == labels, axis=-1).mean()

        (loss, accuracy), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        return state.apply_gradients(grads=grads), loss, accuracy

    for _ in range(250):
        state, loss, accuracy = train_step(state, *batch())
    assert accuracy > 0.9, loss


class Previous(linen.Module):
    """What came a step before?"""

    @linen.compact
    def __call__(self, x, state, deterministic):
        layers = jaxrnn.linen.GRU(1, 16, 2, dropout=0.1, batch_first=True)
        y, state = layers(x, state, deterministic=deterministic)
        return linen.Dense(1)(y), state


@pytest.mark.usefixtures("as_users_do")
@pytest.mark.parametrize("carried", [True, False])
def test_state_is_carried(carried):
    """At the beginning of a chunk only the state of the one before knows it."""
    bits = np.random.default_rng(0).integers(0, 2, (16, 481, 1)).astype(np.float32)
    model = Previous()
    params = model.init(KEY, bits[:, :4], None, deterministic=True)["params"]
    state = TrainState.create(apply_fn=model.apply, params=params, tx=optax.adam(2e-2))

    @jax.jit
    def train_step(state, carry, x, y, key):
        def loss_fn(params):
            rngs = {"dropout": jax.random.fold_in(key, state.step)}
            logits, carried = state.apply_fn({"params": params}, x, carry, False, rngs=rngs)
            losses = optax.sigmoid_binary_cross_entropy(logits, y)
            return losses.mean(), (carried, losses[:, 0].mean())

        grads, (carried, first) = jax.grad(loss_fn, has_aux=True)(state.params)
        return state.apply_gradients(grads=grads), carried, first

    carry, firsts = jnp.zeros((2, 16, 16)), []
    for t in range(1, 481, 4):
        state, new, first = train_step(
            state, carry, bits[:, t : t + 4], bits[:, t - 1 : t + 3], KEY
        )
        carry = new if carried else carry
        firsts.append(first)
    last = np.mean(firsts[-20:])
    assert last < 0.1 if carried else last > 0.6
