"""The peers compute what torch computes, or differ as `DIFFERS` says."""

import jax
import numpy as np
import pytest

import jaxrnn
from jaxrnn import Structure
from parity.frameworks import bench, bench_worker, peers


OTHERS = ["linen", "nnx", "haiku", "equinox", "keras"]


@pytest.fixture
def as_in_a_worker(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        yield


def strays(name, cell, shape, mode):
    """The error of an implementation, as the bench measures it."""
    case = bench.case_of(cell, shape)
    costs, arrays = bench_worker.prepare(name, case, mode == "training")
    assert min(costs["trace"], costs["compile"], costs["temp_bytes"]) > 0
    return bench.error_of(case, bench_worker.truth(case), arrays)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("cell", "mode"),
    [("lstm", "training"), ("gru", "training"), ("gru", "inference"), ("rnn", "inference")],
)
@pytest.mark.parametrize("name", OTHERS)
def test_peers_compute_the_same(as_in_a_worker, name, cell, mode):
    if (name, cell) == ("equinox", "rnn"):
        with pytest.raises(NotImplementedError, match="no such cell"):
            strays(name, cell, "3,4,5,6", mode)
    elif (name, cell) in peers.DIFFERS:
        assert strays(name, cell, "3,4,5,6", mode) > 0.03
    else:
        assert strays(name, cell, "3,4,5,6", mode) < 1e-6


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", OTHERS)
def test_layers_directions_and_lengths(as_in_a_worker, name):
    shape = "3,4,5,6,bi2,ragged"
    if name in ("haiku", "equinox"):
        with pytest.raises(NotImplementedError, match="no lengths"):
            strays(name, "lstm", shape, "inference")
        shape = "3,4,5,6,bi2"
    assert strays(name, "lstm", shape, "inference") < 1e-6


@pytest.mark.parametrize(
    ("name", "cell", "absent", "options"),
    [
        ("nnx", "gru", ["bias_hh"], {}),
        ("haiku", "gru", ["bias_hh", "weight_hh"], {}),
        ("haiku", "rnn", [], {"nonlinearity": "relu"}),
    ],
)
def test_peers_that_differ(as_in_a_worker, name, cell, absent, options):
    """They differ in what `DIFFERS` says, and in nothing else."""
    structure, rng = Structure(cell, 5, 6), np.random.default_rng(0)
    params = {
        key: rng.normal(size=shape).astype(np.float32) for key, shape in structure.shapes.items()
    }
    for key in absent:
        params[f"{key}_l0"][-6:] = 0  # of n only
    x = rng.normal(size=(4, 3, 5)).astype(np.float32)
    network = peers.PEERS[name](structure)
    y = network.forward(network.convert(params), x, None)["y"]
    np.testing.assert_allclose(
        y, getattr(jaxrnn, cell)(params, x, **options)[0], rtol=1e-5, atol=1e-5
    )


def test_every_difference_is_tested():
    assert {*peers.DIFFERS} == {("nnx", "gru"), ("haiku", "gru"), ("haiku", "rnn")}
    assert {*OTHERS, "jaxrnn", "jaxrnn scan", "jax.experimental.rnn"} == {*peers.PEERS}
