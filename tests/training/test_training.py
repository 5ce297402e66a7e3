"""Laws: `fit` is the loop that it says it is, and one that was killed and resumed, bit for bit."""

import functools
import random
import signal
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_refused
from rich.console import Console

import jaxrnn
from jaxrnn import checkpoints, data, losses, optim, training
from jaxrnn.training import _progress


RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(24, 5, 3)), RNG.normal(size=(24, 2))
KEY = jax.random.key(1)


def start():
    return {"fc": jaxrnn.init_linear(jax.random.key(3), 3, 2, dtype=float)}


def loss(params, x, y, key=None):
    """Without recurrence, which takes seconds to compile and is nothing to a loop."""
    last = x[:, -1]
    if key is not None:
        last = jnp.where(jax.random.bernoulli(key, 0.7, last.shape), last, 0.0)
    return losses.mse_loss(jaxrnn.linear(params["fc"], last), y)


def batches(epoch):
    """Three of 8 examples, in another order in each epoch."""
    for i in data.batches(len(X), 8, rng=np.random.default_rng(epoch)):
        yield X[i], Y[i]


@jax.jit
def validate(params):
    return loss(params, X[:5], Y[:5])


@pytest.fixture(autouse=True)
def no_bar(monkeypatch):
    """But where it is asked for."""
    hidden = functools.partial(training.fit)
    monkeypatch.setattr(training, "fit", hidden)


def fit(loss=loss, batches=batches, **options):
    given = {"epochs": 4, "lr": 0.1, "key": KEY} | options
    return training.fit(loss, optim.adam, start(), batches, **given)


def assert_same(found, wanted):
    """Bit for bit."""
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_fit_is_the_loop():
    """With dropout, a rate that plateaus cut, validation, the best parameters and the history."""
    plateau = optim.reduce_lr_on_plateau(0.1, patience=0, threshold=0.5, factor=0.5)
    params, rate = start(), plateau.init()
    state = optim.adam(0.1).init(params)
    step = jax.jit(
        lambda lr, *given, key: training.train_step(loss, optim.adam(lr))(*given, key=key)
    )
    seen, epochs, best, n = [], [], (np.inf, None), 0
    for epoch in range(4):
        for batch in batches(epoch):
            key = jax.random.fold_in(KEY, n)
            params, state, metrics = step(rate.lr, params, state, *batch, key=key)
            seen.append((float(metrics.loss), float(metrics.grad_norm)))
            n += 1
        score = float(validate(params))
        best = min(best, (score, params), key=lambda each: each[0])
        epochs.append((*np.mean(seen[-3:], axis=0), float(rate.lr), score))
        rate = plateau.step(rate, score)
    found = fit(lr=plateau, validate=validate)
    assert_same(found.params, params)
    assert_same(found.best, best[1])
    np.testing.assert_array_equal(found.history[:2], np.transpose(seen))
    np.testing.assert_allclose(found.history[2:], np.transpose(epochs), 1e-15)
    assert len(set(found.history.lr)) > 1


def test_it_is_traced_once_for_each_shape():
    traces = []

    def counted(params, x, y, key=None):
        traces.append(x.shape)
        return loss(params, x, y, key)

    given = [(X[i], Y[i]) for i in data.batches(22, 8)]  # the last one is smaller
    training.fit(counted, optim.adam, start(), given, epochs=4, lr=optim.step_lr(0.1, 2))
    assert [shape[0] for shape in traces] == [8, 6]


def test_weak_types_are_not_traced_again():
    """Neither of Python's numbers nor of what is made of them; nor is anything consumed."""
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
    """Chunks of one sequence; every epoch begins with the state given."""
    x, y = RNG.normal(size=(12, 2, 3)), RNG.normal(size=(12, 2, 4))
    params = jaxrnn.init_rnn(jax.random.key(2), 3, 4, num_layers=2, dtype=float)
    h0 = jnp.asarray(RNG.normal(size=(2, 2, 4)))
    chunks = list(zip(data.chunks(x, 5), data.chunks(y, 5), strict=True))

    def chunk_loss(params, x, y, *, state):
        out, state = jaxrnn.rnn(params, x, state)
        return losses.mse_loss(out, y), state

    found = training.fit(
        chunk_loss, optax.sgd(0.1), params, chunks, epochs=2, state=h0, progress=False
    )
    for _ in range(2):
        h = h0
        for each in chunks:
            h = jax.lax.stop_gradient(h)
            gradient, h = jax.grad(chunk_loss, has_aux=True)(params, *each, state=h)
            params = jax.tree.map(lambda a, g: a - 0.1 * g, params, gradient)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-13), found.params, params)


def test_patience_and_the_best():
    """More than `patience` epochs in a row without a lower score; NaN counts as the highest."""
    scores = iter([np.nan, 3.0, np.nan, 2.0, 2.0, np.nan, 9.0, 1.0])
    kept = []
    validate = lambda params: (kept.append(params), next(scores))[1]
    found = fit(epochs=9, validate=validate, patience=2)
    np.testing.assert_array_equal(found.history.validation, [np.nan, 3, np.nan, 2, 2, np.nan, 9])
    assert_same(found.best, kept[3])
    assert_same(found.params, kept[6])


def test_history_without_rate_or_validation():
    found = training.fit(
        loss, optim.adam(0.1), start(), [(X, Y)], epochs=3, patience=0, progress=False
    )
    assert found.history.lr.shape == found.history.validation.shape == (0,)
    np.testing.assert_array_equal(found.history.loss, found.history.epoch_loss)
    assert np.all(np.diff(found.history.loss) < 0)
    assert_same(found.best, found.params)


def test_torch_batches():
    """A `DataLoader` of tensors, whose batches are lists."""
    torch = pytest.importorskip("torch")
    tensors = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    given = torch.utils.data.DataLoader(tensors, 8)
    found = training.fit(loss, optim.sgd(0.1), start(), given, epochs=2)
    same = [(X[i], Y[i]) for i in data.batches(len(X), 8)]
    wanted = training.fit(loss, optim.sgd(0.1), start(), same, epochs=2)
    assert_same(found, wanted)


@pytest.mark.parametrize("terminal", [True, False])
def test_progress(capsys, monkeypatch, terminal):
    """A bar, on a terminal; else a line for each epoch."""
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setattr(_progress, "Console", functools.partial(Console, force_terminal=terminal))
    scores = iter([3.0, 2.0])
    found = fit(epochs=2, progress=True, validate=lambda params: next(scores))
    shown = capsys.readouterr().err
    losses = list(enumerate(found.history.epoch_loss))
    for epoch, value in losses[terminal:]:  # of a bar, what it ends with
        assert f"epoch {epoch + 1}/2  loss {value:.4g}  validation {3 - epoch}" in shown
    assert ("3/3" in shown) == terminal
    if terminal:
        unlike = lambda epoch: (each for each in [(X, Y), (X, Y), ()])
        with pytest.raises(ValueError, match="must be alike"):
            fit(batches=unlike, progress=True)
        assert "1/?" in capsys.readouterr().err  # of a generator nobody knows how many


def carrying(params, x, y, *, key, state):
    """A loss that depends on all batches of an epoch so far."""
    return loss(params, x, y, key) + state * params["fc"]["bias"].sum(), state / 2 + y.mean()


# A rate that is cut, dropout, shuffling, a state, validation, saved within epochs: all counts.
OPTIONS = {
    "state": jnp.ones(()),
    "epochs": 6,
    "lr": optim.reduce_lr_on_plateau(0.1, patience=0, threshold=0.3),
    "validate": validate,
    "save_every": 2,
}


class KilledError(Exception):
    pass


@pytest.mark.parametrize("stops", [[1], [7], [3, 9, 10, 16]])
def test_resumed_is_never_stopped(tmp_path, monkeypatch, stops):
    """Stopped between any two steps."""
    wanted = fit(carrying, **OPTIONS)
    for stop in stops:

        def killing(epoch, stop=stop):
            for i, batch in enumerate(batches(epoch)):
                if 3 * epoch + i == stop:
                    raise KilledError
                yield batch

        with pytest.raises(KilledError):
            fit(carrying, killing, **OPTIONS, checkpoints=tmp_path)
    assert_same(fit(carrying, **OPTIONS, checkpoints=tmp_path), wanted)
    assert_same(
        fit(carrying, **OPTIONS, checkpoints=tmp_path), wanted
    )  # and there is nothing left to do
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 3  # `keep`


# One training in a process of its own, so that it can be killed: it saves all that it ends with.
PROGRAM = """
import sys
import jax, numpy as np
from jaxrnn import init_linear, linear, data, losses, optim, training

folder, out = sys.argv[1:]
x = np.random.default_rng(0).normal(size=(64, 5, 3)).astype(np.float32)

def loss(params, x, key=None):
    kept = x * jax.random.bernoulli(key, 0.7, x.shape).astype(x.dtype)
    return losses.mse_loss(linear(params, kept), x)

def batches(epoch):
    print(epoch, flush=True)
    for i in data.batches(len(x), 4, rng=np.random.default_rng(epoch)):
        yield x[i]

fitted = training.fit(
    loss, optim.adam, init_linear(jax.random.key(0), 3, 3), batches, epochs=8,
    lr=optim.reduce_lr_on_plateau(0.1, patience=0, threshold=0.1), key=jax.random.key(1),
    checkpoints=folder, save_every=3, progress=False,
)
leaves = jax.tree.leaves(fitted)
np.savez(out, *leaves)
"""


def run(folder, out, kill_after=np.inf):
    """Runs the program; kills it so many seconds after its first epoch began.

    Returns how many seconds that epoch and the others took, or None where it was killed.
    """
    command = [sys.executable, "-W", "error", "-c", PROGRAM, str(folder), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        begin = time.monotonic()
        timer = threading.Timer(min(kill_after, threading.TIMEOUT_MAX), process.kill)
        timer.start()
        process.stdout.read()
        timer.cancel()
        seconds = time.monotonic() - begin
        assert process.wait() in (0, -signal.SIGKILL)
        return seconds if process.returncode == 0 else None


def kill_and_resume(tmp_path, kills):
    """Kills trainings at random moments, and resumes them, until there were so many kills.

    Returns what was found after each: the last checkpoint, and what was being written.
    """
    found, folder, rng = [], 0, random.Random(0)
    span = run(tmp_path / "whole", tmp_path / "wanted.npz")
    assert span is not None
    wanted = np.load(tmp_path / "wanted.npz")
    while len(found) < kills:
        folder += 1
        while run(tmp_path / f"{folder}", tmp_path / "found.npz", rng.uniform(0, span)) is None:
            names = [path.name for path in (tmp_path / f"{folder}").glob("*")]  # if it is there
            steps = [int(name) for name in names if name.isdecimal()]
            found.append((max(steps, default=0), [name for name in names if "tmp" in name]))
        resumed = np.load(tmp_path / "found.npz")
        assert resumed.files == wanted.files
        for name in wanted.files:
            np.testing.assert_array_equal(resumed[name], wanted[name])
    return found


@pytest.mark.slow
def test_killed_and_resumed(tmp_path):
    assert len(kill_and_resume(tmp_path, 1)) >= 1


def sound(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def break_array(folder):
    """One bit in the middle of the largest file, where the arrays are."""
    path = max((p for p in folder.rglob("*") if p.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_damaged_checkpoint(tmp_path):
    """It is refused in a sentence, kept aside, and the one before is used."""
    wanted = fit(carrying, **OPTIONS, checkpoints=tmp_path)
    before, last = sound(tmp_path)[-2:]
    break_array(tmp_path / str(last))
    with pytest.warns(
        UserWarning, match=rf"^checkpoint {last} in .* is damaged.*; using {before}$"
    ):
        assert_same(fit(carrying, **OPTIONS, checkpoints=tmp_path), wanted)
    assert sound(tmp_path)[-2:] == [before, last]
    assert len(list(tmp_path.glob(f"{last}.refused.*/{last}"))) == 1
    for path in (tmp_path / str(last)).rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(
        UserWarning, match=rf"^checkpoint {last} in .* is damaged.*; using {before}$"
    ):
        assert_same(fit(carrying, **OPTIONS, checkpoints=tmp_path), wanted)


def test_every_bit_counts(tmp_path):
    """What orbax itself would read without a word."""
    tree = {"a": jnp.asarray(RNG.normal(size=300))}
    checkpoints.save(tmp_path, 1, tree, None, keep=1)
    break_array(tmp_path / "1")
    with pytest.raises(ValueError, match=r"and 1 is damaged \(a checksum is wrong\)"):
        checkpoints.restore(tmp_path, tree)
    checkpoints.save(tmp_path, 2, tree, {"seen": 12.5}, keep=1)
    for path in (tmp_path / "2" / "about").iterdir():
        path.write_text(path.read_text().replace("12.5", "13.5"))
    with pytest.raises(ValueError, match=r"and 2 is damaged \(a checksum is wrong\)"):
        checkpoints.restore(tmp_path, tree)
    assert_refused(
        lambda: checkpoints.save(tmp_path, 1, tree, None, keep=1),
        ValueError,
        "`step` must be above 2, got 1",
    )


def test_foreign_checkpoints(tmp_path):
    """The first leaf that differs is named; where no other is left, nothing is touched."""
    checkpoints.save(tmp_path, 1, {"a": jnp.ones(3), "b": np.zeros(2)}, {"x": [np.inf]}, keep=2)
    for like, message in [
        ({"a": jnp.ones(4), "b": jnp.zeros(2)}, "leaf ['a'] is float64 (3,), not float64 (4,)"),
        ({"a": jnp.ones(3), "b": jnp.zeros(2, int)}, "leaf ['b'] is float64 (2,), not int64 (2,)"),
        ({"a": jnp.ones(3)}, "leaf ['b'] is unexpected"),
        ({"a": jnp.ones(3), "b": jnp.zeros(2), "c": jnp.ones(1)}, "leaf ['c'] is missing"),
    ]:
        assert_refused(
            lambda like=like: checkpoints.restore(tmp_path, like),
            ValueError,
            f"no checkpoint in {tmp_path} can be used, and 1 is of another training: {message}",
        )
    assert sound(tmp_path) == [1]
    right = {"a": jnp.zeros(3), "b": jnp.zeros(2)}
    assert checkpoints.restore(tmp_path, right).record == {"x": [np.inf]}
    checkpoints.save(tmp_path, 2, {"a": jnp.ones(5)}, None, keep=2)
    with pytest.warns(UserWarning, match="checkpoint 2 in .* is of another training: .*; using 1$"):
        assert checkpoints.restore(tmp_path, right).step == 1
    assert checkpoints.restore(tmp_path / "nothing", right) is None


def bad_batches(epoch):
    """NaN in the second batch of the third epoch, which is step 7."""
    for i, (x, y) in enumerate(batches(epoch)):
        yield (x, y * np.nan) if (epoch, i) == (2, 1) else (x, y)


def test_loss_that_is_not_finite(tmp_path):
    run = lambda **options: training.fit(
        loss, optim.sgd(0.1), start(), bad_batches, epochs=4, **options
    )
    where = (
        "the loss is nan after step 7, batch 1 of epoch 2 (all from 0); the last good checkpoint"
    )
    with pytest.raises(FloatingPointError) as raised:
        run()
    assert str(raised.value) == f"{where}: none"
    with pytest.raises(FloatingPointError) as raised:
        run(checkpoints=tmp_path)
    assert str(raised.value) == f"{where}: 6 in {tmp_path}"
    assert sound(tmp_path)[-1] == 6


def test_parameters_that_are_not_finite(tmp_path):
    """A gradient of infinity at a finite loss: what comes of it is not saved, nor returned."""
    square_root = lambda w: jnp.sqrt(w).sum()
    for folder in (None, tmp_path / "other"):
        with pytest.raises(FloatingPointError) as raised:
            training.fit(
                *(square_root, optim.sgd(0.1), jnp.zeros(2), [()]), epochs=1, checkpoints=folder
            )
        assert str(raised.value) == (
            "the parameters are no longer finite after step 0, batch 0 of epoch 0 (all from 0); "
            "the last good checkpoint: none"
        )
    assert not (tmp_path / "other").exists()


def test_keep_and_the_end_are_saved(tmp_path):
    fit(epochs=2, checkpoints=tmp_path, keep=1, save_every=4)
    assert sound(tmp_path) == [6]
    fit(epochs=3, checkpoints=tmp_path, keep=1, save_every=100)
    assert sound(tmp_path) == [9]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({}, {"validate": validate}, "cannot go on: one of the two was without `validate`"),
        ({"validate": validate}, {}, "cannot go on: one of the two was without `validate`"),
        ({}, {"lr": None, "optimizer": 0}, "one of the two was without `lr`"),
    ],
)
def test_other_arguments_than_the_checkpoint_had(tmp_path, before, after, message):
    fit(epochs=1, checkpoints=tmp_path, **before)
    optimizer = optim.adam(0.1) if after.pop("optimizer", None) == 0 else optim.adam
    given = {"lr": 0.1} | after
    with pytest.raises(ValueError, match=message):
        training.fit(loss, optimizer, start(), batches, epochs=2, checkpoints=tmp_path, **given)


def test_what_checkpoints_hold(tmp_path):
    """Keys, nothing at all, numpy's numbers, and on which device they were not told."""
    tree = {
        "key": jax.random.key(3),
        "rbg": jax.random.key(3, impl="rbg"),
        "empty": jnp.zeros((0, 3)),
        "number": np.float32(2.5),
        "half": jnp.ones(3, jnp.bfloat16),
    }
    checkpoints.save(tmp_path, 1, tree, None, keep=1)
    found = checkpoints.restore(tmp_path, tree).tree
    assert jax.tree.structure(found) == jax.tree.structure(tree)
    for name in ("key", "rbg"):
        assert found[name] == tree[name]
    for name in ("empty", "number", "half"):
        np.testing.assert_array_equal(found[name], tree[name])
        assert (found[name].dtype, found[name].shape) == (tree[name].dtype, tree[name].shape)
    assert not any(isinstance(leaf, jax.Array) for name, leaf in found.items() if name == "half")


def test_what_a_killed_process_left_is_in_nobodys_way(tmp_path):
    """Orbax removes it in a thread of its own."""
    tree = {"a": jnp.ones(3)}
    for step in (1, 2):
        checkpoints.save(tmp_path, step, tree, None, keep=3)
        left = tmp_path / f"{step + 1}.orbax-checkpoint-tmp"
        left.mkdir()
        for i in range(3000):
            (left / f"{i}").touch()
        assert checkpoints.restore(tmp_path, tree).step == step
    (tmp_path / "9.orbax-checkpoint-tmp").mkdir()  # nor of a step that is not saved again
    checkpoints.save(tmp_path, 3, tree, None, keep=3)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["1", "2", "3"]


def test_an_error_that_may_be_over_soon_is_no_damage(tmp_path, monkeypatch):
    fit(epochs=1, checkpoints=tmp_path)

    def fails(*_, **__):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("orbax.checkpoint.CheckpointManager.restore", fails)
    with pytest.raises(OSError, match="Too many open files"):
        fit(epochs=2, checkpoints=tmp_path)
    assert sound(tmp_path) == [3]


ERRORS = [
    ({"epochs": 0}, ValueError, "`epochs` must be"),
    ({"keep": 0}, ValueError, "`keep` must be"),
    ({"save_every": 0}, ValueError, "`save_every` must be"),
    ({"patience": -1}, ValueError, "`patience` must be an integer of at least 0, got -1"),
    ({"lr": None}, TypeError, "`optimizer` is a function of the rate, so it needs `lr`"),
    ({"lr": -1.0}, ValueError, "`lr` must be at least 0, got -1.0"),
    ({"key": 3}, TypeError, "`key` must be one jax.random key"),
    ({"optimizer": "adam"}, TypeError, "`optimizer` must be an optax transformation or a function"),
    ({"checkpoints": ""}, ValueError, "`checkpoints` must name a folder"),
    ({"lr": lambda epoch: -1.0}, ValueError, "`lr` must be at least 0, got -1.0"),
    (
        {"validate": lambda params: [1, 2]},
        TypeError,
        "must return one number, got list of shape (2,)",
    ),
    ({"validate": lambda params: None}, TypeError, "must return one number, got NoneType"),
    (
        {"lr": optim.reduce_lr_on_plateau(0.1, mode="max")},
        ValueError,
        "`lr` must be a plateau of mode 'min'",
    ),
    ({"batches": lambda epoch: [(X, Y)][epoch:]}, ValueError, "`batches` gave none in epoch 1"),
    ({"optimizer": optim.adam(0.1)}, TypeError, "`lr` needs an `optimizer` that is a function of"),
    ({"batches": []}, ValueError, "`batches` gave none in epoch 0"),
    (
        {"batches": (each for each in [(X, Y)])},
        ValueError,
        "`batches` gave none in epoch 1: can they be gone through only once, as a generator's?",
    ),
    (
        {"batches": [(X, Y), (X, Y.astype("float32"))]},
        ValueError,
        "`batches` must be alike, but in step 1, batch 1 of epoch 0 (all from 0) leaf [1] is "
        "float32 (24, 2), not float64 (24, 2)",
    ),
    ({"batches": [(X, Y), (X[0], Y)]}, ValueError, "[0] is float64 (5, 3), not float64 (24, 5, 3)"),
    ({"batches": [(X, Y), (X,)]}, ValueError, "(all from 0) leaf [1] is missing"),
    ({"batches": [(X, Y), (X, Y, Y)]}, ValueError, "(all from 0) leaf [2] is unexpected"),
]


@pytest.mark.parametrize(("options", "error", "message"), ERRORS)
@pytest.mark.usefixtures("bare")
def test_bad_input(options, error, message):
    given = {"optimizer": optim.adam, "batches": [(X, Y)], "epochs": 2, "lr": 0.1} | options
    with pytest.raises(error) as raised:
        training.fit(loss, params=start(), **given)
    assert message in str(raised.value)


def test_a_batch_of_other_sizes_that_does_not_fit_is_named():
    given = [(X, Y), (X[..., :2], Y)]
    with pytest.raises(ValueError, match="`x` must have 3 features") as raised:
        training.fit(loss, optim.sgd, start(), given, epochs=1, lr=0.1)
    assert raised.value.__notes__[-1] == (
        "step 1, batch 1 of epoch 0 (all from 0): leaf [0] is float64 (24, 5, 2), not float64 "
        "(24, 5, 3) as in the first batch"
    )


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


def test_another_training_in_the_same_folder(tmp_path):
    fit(epochs=1, checkpoints=tmp_path)
    with pytest.warns(UserWarning, match=r"goes on after step 3, began with other `key` and `lr`:"):
        fit(epochs=2, checkpoints=tmp_path, lr=0.2, key=jax.random.key(7))
    other = jax.tree.map(lambda a: a + 1, start())
    with pytest.warns(UserWarning, match="after step 6, began with other `params`:"):
        training.fit(
            *(loss, optim.adam, other, batches), epochs=3, lr=0.1, key=KEY, checkpoints=tmp_path
        )


def test_the_gradient_that_was_not_finite_is_named():
    """It is what made the next loss NaN."""
    bends = lambda w, x: jnp.sqrt(jnp.abs(w * x)).sum()
    given = [(np.ones(2),), (np.zeros(2),), (np.ones(2),), (np.ones(2),)]
    with pytest.raises(
        FloatingPointError, match=r"nan after step 2, .*, the gradient not finite in step 1"
    ):
        training.fit(bends, optim.sgd(0.1), jnp.ones(2), given, epochs=1)


def test_a_state_that_changes_is_named():
    changing = lambda params, x, y, state: (loss(params, x, y), jnp.ones(3))
    with pytest.raises(ValueError, match=r"must be like the one given: leaf \[0\] is"):
        training.fit(
            *(changing, optim.sgd, start(), [(X, Y)]),
            epochs=1, lr=0.1, state=jnp.ones(2),
        )  # fmt: skip


def test_batches_that_end_before_the_checkpoint(tmp_path):
    options = {"lr": 0.1, "checkpoints": tmp_path, "save_every": 5}

    def killing(epoch):
        if epoch == 2:
            raise KilledError
        return [(X, Y)] * 3

    with pytest.raises(KilledError):
        training.fit(loss, optim.sgd, start(), killing, epochs=3, **options)
    fewer = lambda epoch: [(X, Y)] * (3 - 2 * epoch)
    with pytest.raises(ValueError, match=r"gave 1 in epoch 1, but the checkpoint in .* through 2"):
        training.fit(loss, optim.sgd, start(), fewer, epochs=3, **options)
