"""Laws: `fit` is its loop, traced once, with histories, states and progress."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fit_cases import KEY, RNG, X, Y, assert_same, batches, fit, loss, start, validate
from rich.console import Console

import jaxrnn
from jaxrnn import data, losses, optim, training
from jaxrnn.training import _progress


def test_fit_is_the_loop():
    """With dropout, a rate that a plateau cuts, validation, the best parameters and the history."""
    plateau = optim.reduce_lr_on_plateau(0.1, patience=0, threshold=0.5, factor=0.5)
    params, rate = start(), plateau.init()
    state = optim.adam(0.1).init(params)
    step = jax.jit(
        lambda lr, *arguments, key: training.train_step(loss, optim.adam(lr))(*arguments, key=key)
    )
    steps, epochs, best, n = [], [], (np.inf, None), 0
    for epoch in range(4):
        for batch in batches(epoch):
            key = jax.random.fold_in(KEY, n)
            params, state, metrics = step(rate.lr, params, state, *batch, key=key)
            steps.append((float(metrics.loss), float(metrics.grad_norm)))
            n += 1
        score = float(validate(params))
        best = min(best, (score, params), key=lambda each: each[0])
        epochs.append((*np.mean(steps[-3:], axis=0), float(rate.lr), score))
        rate = plateau.step(rate, score)
    fitted = fit(lr=plateau, validate=validate)
    assert_same(fitted.params, params)
    assert_same(fitted.best, best[1])
    np.testing.assert_array_equal(fitted.history[:2], np.transpose(steps))
    np.testing.assert_allclose(fitted.history[2:], np.transpose(epochs), 1e-15)
    assert len(set(fitted.history.lr)) > 1


def test_it_is_traced_once_for_each_shape():
    traces = []

    def counted(params, x, y, key=None):
        traces.append(x.shape)
        return loss(params, x, y, key)

    sizes = [(X[i], Y[i]) for i in data.batches(22, 8)]  # the last one is smaller
    training.fit(counted, optim.adam, start(), sizes, epochs=4, lr=optim.step_lr(0.1, 2))
    assert [shape[0] for shape in traces] == [8, 6]


def test_weak_types_are_not_traced_again():
    """Python's numbers, and arrays made of them, are traced once; and no argument is consumed."""
    traces, params = [], {"a": jnp.full(3, 0.5), "b": 0.5, "c": np.ones(2)}

    def counted(params, state):
        traces.append(None)
        return sum((a * a).sum() for a in jax.tree.leaves(params)) + state, state * 2

    state = jnp.full((), 1.0)
    for _ in range(2):
        training.fit(counted, optax.sgd(0.1), params, [()] * 3, epochs=2, state=state)
    assert len(traces) == 2
    assert (float(state), float(params["a"][0])) == (1.0, 0.5)


def test_another_fit_sees_a_loss_that_has_changed():
    scale = 1.0
    changing = lambda w: scale * (w * w).sum()
    run = lambda: training.fit(changing, optax.sgd(0.1), jnp.ones(2), [()], epochs=1)
    first, scale = run(), 3.0
    assert (first.history.loss[0], run().history.loss[0]) == (2.0, 6.0)


def test_carried_state_is_truncated_back_propagation():
    """Chunks of one sequence; every epoch begins with the same state."""
    x, y = RNG.normal(size=(10, 2, 3)), RNG.normal(size=(10, 2, 4))
    params = jaxrnn.init_rnn(jax.random.key(2), 3, 4, dtype=float)
    h0 = jnp.asarray(RNG.normal(size=(1, 2, 4)))
    chunks = list(zip(data.chunks(x, 5), data.chunks(y, 5), strict=True))

    def chunk_loss(params, x, y, *, state):
        out, state = jaxrnn.rnn(params, x, state)
        return losses.mse_loss(out, y), state

    fitted = training.fit(
        chunk_loss, optax.sgd(0.1), params, chunks, epochs=2, state=h0, progress=False
    )
    step = jax.jit(jax.grad(chunk_loss, has_aux=True))
    for _ in range(2):
        h = h0
        for x, y in chunks:
            gradient, h = step(params, x, y, state=jax.lax.stop_gradient(h))
            params = jax.tree.map(lambda a, g: a - 0.1 * g, params, gradient)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-13), fitted.params, params)


def test_an_lstm_takes_a_pair():
    """And returns an `LSTMState`."""
    params, zeros = jaxrnn.init_lstm(KEY, 3, 2, dtype=float), jnp.zeros((1, 24, 2))

    def carried(params, x, state):
        y, state = jaxrnn.lstm(params, x, state, batch_first=True)
        return y.sum(), state

    pair, named = (
        training.fit(carried, optim.sgd(0.1), params, [(X,)] * 2, epochs=1, state=state)
        for state in ((zeros, zeros), jaxrnn.LSTMState(zeros, zeros))
    )
    assert_same(pair, named)


def test_patience_and_the_best():
    """More than `patience` epochs in a row without a lower score; NaN counts as the highest."""
    scores = iter([np.nan, 3.0, np.nan, 2.0, 2.0, np.nan, 9.0, 1.0])
    kept = []
    validate = lambda params: (kept.append(params), next(scores))[1]
    fitted = fit(epochs=9, validate=validate, patience=2)
    np.testing.assert_array_equal(fitted.history.validation, [np.nan, 3, np.nan, 2, 2, np.nan, 9])
    assert_same(fitted.best, kept[3])
    assert_same(fitted.params, kept[6])


def test_history_without_rate_or_validation():
    fitted = training.fit(
        loss, optim.adam(0.1), start(), [(X, Y)], epochs=3, patience=0, progress=False
    )
    assert fitted.history.lr.shape == fitted.history.validation.shape == (0,)
    np.testing.assert_array_equal(fitted.history.loss, fitted.history.epoch_loss)
    assert np.all(np.diff(fitted.history.loss) < 0)
    assert_same(fitted.best, fitted.params)


def test_torch_batches():
    """A `DataLoader` of tensors, whose batches are lists."""
    torch = pytest.importorskip("torch")
    tensors = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    loader = torch.utils.data.DataLoader(tensors, 8)
    fitted = training.fit(loss, optim.sgd(0.1), start(), loader, epochs=2)
    same = [(X[i], Y[i]) for i in data.batches(len(X), 8)]
    wanted = training.fit(loss, optim.sgd(0.1), start(), same, epochs=2)
    assert_same(fitted, wanted)


@pytest.mark.parametrize("terminal", [True, False])
def test_progress(capsys, monkeypatch, terminal):
    """A bar, on a terminal; else a line for each epoch."""
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setattr(_progress, "Console", functools.partial(Console, force_terminal=terminal))
    scores = iter([3.0, 2.0])
    fitted = fit(epochs=2, progress=True, validate=lambda params: next(scores))
    shown = capsys.readouterr().err
    losses = list(enumerate(fitted.history.epoch_loss))
    for epoch, value in losses[terminal:]:  # a bar shows only the last
        assert f"epoch {epoch + 1}/2  loss {value:.4g}  validation {3 - epoch}" in shown
    assert ("3/3" in shown) == terminal
    if terminal:
        unlike = lambda epoch: (each for each in [(X, Y), (X, Y), ()])
        with pytest.raises(ValueError, match="must be alike"):
            fit(batches=unlike, progress=True)
        assert "1/?" in capsys.readouterr().err  # a generator has no length
