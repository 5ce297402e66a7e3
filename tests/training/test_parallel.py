"""Law: the README's recipe for several devices gives what one device does, and shares the work."""

import os
import pathlib
import pickle
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from helpers import assert_close, assert_equal
from parallel import CLASSES, ROWS, task, work

from jaxrnn import losses, optim, training


SCRIPT = pathlib.Path(__file__).parent / "parallel.py"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def alone():
    """The same training without a mesh, and the work of one step."""
    params, loss, batches = task().values()
    options = {"lr": 1e-2, "key": jax.random.key(1), "progress": False}
    fitted = training.fit(loss, optim.adam, params, batches, epochs=2, **options)
    return {"fitted": fitted, "work": work(loss, params, next(batches(0)))}


def train(folder, devices, processes=1):
    """Returns the results of each process."""
    options = {"NUM_CPU_DEVICES": devices, "ENABLE_X64": 1, "NUMPY_DTYPE_PROMOTION": "strict"}
    environment = os.environ | {f"JAX_{name}": str(value) for name, value in options.items()}
    with socket.socket() as port, ThreadPoolExecutor() as pool:
        # Bound until the end, so that no other program gets it; gRPC shares it.
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        port.bind(("127.0.0.1", 0))

        def start(k):
            numbers = map(str, (k, processes, port.getsockname()[1]))
            command = [sys.executable, "-W", "error", SCRIPT, *numbers, folder]
            subprocess.run(command, env=environment, check=True, timeout=120)
            return pickle.loads((folder / f"{k}").read_bytes())

        return list(pool.map(start, range(processes)))


@pytest.mark.parametrize(("devices", "processes"), [(8, 1), (2, 2)])
def test_results_are_those_of_one_device(alone, tmp_path, devices, processes):
    results, *others = train(tmp_path, devices, processes)
    assert_close(results["fitted"], alone["fitted"])
    assert_equal(results["resumed"], results["fitted"])
    for other in others:
        assert_equal(other, results)
    assert results["whole"]
    assert set(results["rows"]) == {ROWS // (devices * processes)}
    assert len(results["programs"]) == 1
    assert results["work"]["sums"] > 0 == alone["work"]["sums"]
    assert results["work"]["flops"] < 2 * alone["work"]["flops"] / (devices * processes)


def test_a_mean_of_means_would_be_seen():
    _, _, labels = next(task()["batches"](0))
    logits = np.random.default_rng(0).normal(size=(ROWS, CLASSES))
    mean_of_each = jax.jit(jax.vmap(losses.cross_entropy))
    means = mean_of_each(logits.reshape(8, -1, CLASSES), labels.reshape(8, -1))
    assert abs(means.mean() - losses.cross_entropy(logits, labels)) > 1e-3
