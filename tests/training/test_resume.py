"""Law: a training that is killed and resumed gives the same bits as an uninterrupted one."""

import functools
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

import jax
import numpy as np
import pytest
from fit_cases import (
    KEY,
    OPTIONS,
    KilledError,
    X,
    Y,
    assert_same,
    batches,
    carrying,
    fit,
    loss,
    sound,
    start,
    validate,
)

from jaxrnn import optim, training


@functools.cache
def uninterrupted():
    return fit(carrying, **OPTIONS)


@pytest.mark.parametrize("stops", [[1], [3, 7, 16]])
def test_resumed_is_the_same_as_uninterrupted(tmp_path, stops):
    """Stopped between any two steps."""
    for stop in stops:

        def killing(epoch, stop=stop):
            for i, batch in enumerate(batches(epoch)):
                if 3 * epoch + i == stop:
                    raise KilledError
                yield batch

        with pytest.raises(KilledError):
            fit(carrying, killing, **OPTIONS, checkpoints=tmp_path)
    for _ in range(2):  # the second time there is nothing left to do
        assert_same(fit(carrying, **OPTIONS, checkpoints=tmp_path), uninterrupted())
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 3  # `keep`


# A training in a process of its own, which can be killed; it saves all its results.
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
    loss, optim.adam, init_linear(jax.random.key(0), 3, 3), batches, epochs=4,
    lr=optim.reduce_lr_on_plateau(0.1, patience=0, threshold=0.1), key=jax.random.key(1),
    checkpoints=folder, save_every=5, progress=False,
)
leaves = jax.tree.leaves(fitted)
np.savez(out, *leaves)
"""


def run(folder, out, kill_after=np.inf):
    """Runs the program and kills it some seconds after its first epoch begins.

    Returns how many seconds the epochs took, or None if it was killed.
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


@pytest.mark.slow
def test_killed_and_resumed(tmp_path):
    """Killed at random moments, and run again until it ends."""
    span = run(tmp_path / "whole", tmp_path / "wanted.npz")
    assert span is not None
    wanted, moments, kills = np.load(tmp_path / "wanted.npz"), random.Random(0), 0
    while not kills:  # the first one may come too late
        folder = tempfile.mkdtemp(dir=tmp_path)
        while run(folder, tmp_path / "resumed.npz", moments.uniform(0, span)) is None:
            kills += 1
        resumed = np.load(tmp_path / "resumed.npz")
        assert resumed.files == wanted.files
        for name in wanted.files:
            np.testing.assert_array_equal(resumed[name], wanted[name])


def test_keep_and_the_end_are_saved(tmp_path):
    fit(epochs=2, checkpoints=tmp_path, keep=1, save_every=4)
    assert sound(tmp_path) == [6]
    fit(epochs=3, checkpoints=tmp_path, keep=1, save_every=100)
    assert sound(tmp_path) == [9]


@pytest.mark.parametrize("changed", ["validate", "lr"])
def test_other_arguments_than_the_checkpoint_had(tmp_path, changed):
    """With or without `validate` and `lr`: a training cannot change that."""
    fixed = {"optimizer": optim.adam(0.1), "lr": None}
    arguments = [{}, {"validate": validate}] if changed == "validate" else [{}, fixed]
    message = f"cannot go on: one of the two was without `{changed}`"
    for i, (before, after) in enumerate([arguments, arguments[::-1]]):
        folder = tmp_path / f"{i}"
        run = lambda epochs, options, folder=folder: training.fit(
            loss, params=start(), batches=batches, epochs=epochs, checkpoints=folder,
            **{"optimizer": optim.adam, "lr": 0.1} | options,
        )  # fmt: skip
        run(1, before)
        with pytest.raises(ValueError, match=message):
            run(2, after)


def test_another_training_in_the_same_folder(tmp_path):
    fit(epochs=1, checkpoints=tmp_path)
    with pytest.warns(UserWarning, match=r"goes on after step 3, began with other `key` and `lr`:"):
        fit(epochs=2, checkpoints=tmp_path, lr=0.2, key=jax.random.key(7))
    other = jax.tree.map(lambda a: a + 1, start())
    with pytest.warns(UserWarning, match="after step 6, began with other `params`:"):
        training.fit(
            loss, optim.adam, other, batches, epochs=3, lr=0.1, key=KEY, checkpoints=tmp_path
        )


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
