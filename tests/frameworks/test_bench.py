"""The bench: its figures follow from times, its command refuses nonsense, one tiny run."""

import json

import jax
import numpy as np
import pytest
from commands import refused

import jaxrnn
from jaxrnn import Structure
from parity.__main__ import main
from parity.frameworks import bench, bench_worker, peers
from parity.frameworks.bench_worker import Settings
from parity.report import bench as bench_report


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("cell", bench.CELLS)
def test_flops(cell, training):
    """As XLA counts them for one step, of which the products are more than 99%."""
    case = bench.case_of(cell, "64,1,200,300")
    spec = lambda *shape: jax.ShapeDtypeStruct(shape, np.float32)
    params = {name[:-3]: spec(*shape) for name, shape in case.structure.shapes.items()}
    h = spec(64, 300)

    def step(params, x, state):
        return jax.tree.leaves(getattr(jaxrnn, f"{cell}_cell")(params, x, state))[0].sum()

    program = jax.jit(jax.grad(step, argnums=(0, 1, 2)) if training else step)
    cost = program.lower(params, spec(64, 200), (h, h) if cell == "lstm" else h).cost_analysis()
    assert 1 < cost["flops"] / bench.flops(case, training) < 1.01


def test_flops_of_layers_directions_and_lengths():
    count = lambda shape: bench.flops(bench.case_of("lstm", shape), False)
    assert count("2,3,5,7,bi2") == 6 * 2 * 2 * 4 * 7 * ((5 + 7) + (14 + 7))
    lengths = bench.case_of("lstm", "9,30,5,7,ragged").lengths
    assert lengths is not None
    assert len(lengths) == 9
    assert max(lengths) == 30 > min(lengths) >= 1
    assert count("9,30,5,7,ragged") == sum(lengths) * 2 * 4 * 7 * (5 + 7)


def test_grid():
    """Every shape can be read, the cross-section is a part of it."""
    for cell in bench.CELLS:
        names = [bench.case_of(cell, shape).group for shape in bench.GRID]
        assert names == list(bench.GRID)
        assert {*bench.CROSS_SECTION[cell]} < {*bench.GRID}
    case = bench.case_of("gru", "2,3,5,7,ragged,bi2")
    assert (case.batch, case.time, case.state) == (2, 3, False)
    assert case.structure == Structure("gru", 5, 7, num_layers=2, bidirectional=True)


def test_spread():
    assert bench.spread(list(range(101))) == (10, 50, 90)
    np.testing.assert_allclose(bench.geometric_mean([0.5, 8]), 2)


def test_error_is_that_of_the_worst_tensor():
    case = bench.case_of("gru", "2,3,5,7,ragged")._replace(lengths=(3, 1))
    truth = {"y": np.ones((3, 2, 7)), "h_n": np.full((1, 2, 7), 2.0)}
    arrays = {name: a.astype(np.float32) for name, a in truth.items()}
    arrays["y"][1:, 1] = 9  # beyond the length
    assert bench.error_of(case, truth, arrays) == 0
    arrays["y"][0] += 0.1
    arrays["h_n"] += 0.5
    np.testing.assert_allclose(bench.error_of(case, truth, arrays), 0.25)
    arrays["y"][0] = np.nan
    assert np.isnan(bench.error_of(case, truth, arrays))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--shape", "1,2,3"], "'1,2,3' is no B,T,I,H of positive integers"),
        (["--shape", "1,2,3,0"], "'1,2,3,0' is no B,T,I,H"),
        (["--shape", "1,2,3,-4"], "'1,2,3,-4' is no B,T,I,H"),
        (["--shape", "1,2,3,4,bi3"], "'1,2,3,4,bi3' is no B,T,I,H"),
        (["--shape", "1,2,3,4,bi2,bi2"], "'1,2,3,4,bi2,bi2' is no B,T,I,H"),
        (["--threads", "0"], "--threads 0: there are"),
        (["--threads", "10000"], "--threads 10000: there are"),
        (["--small-loops", "-1"], "--small-loops -1: must be at least 0"),
        (["--cell", "transformer"], "argument --cell: invalid choice"),
        (["--peer", "mxnet"], "argument --peer: invalid choice"),
        (["--compare", "none.json"], "No such file or directory: 'none.json'"),
        (["--compare", __file__], "was not written by --json of this command"),
        (["--json", "no/such.json"], "--json no/such.json: there is no such folder"),
        (["--json", "/"], "--json /: is a folder"),
        (["--plot", "no/such.png"], "--plot no/such.png: must be a .png in a folder that there is"),
        (["--plot", "such.txt"], "--plot such.txt: must be a .png"),
        (["--full", "--shape", "1,2,3,4"], "--full is the whole grid: not with --shape"),
    ],
)
def test_nonsense(capsys, arguments, sentence):
    assert sentence in refused(capsys, "bench", *arguments)


def test_flags_of_xla(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_a=1")
    assert bench_worker.xla_flags(Settings()) == "--xla_a=1"
    assert bench_worker.xla_flags(Settings(small_loops=4096)) == (
        "--xla_a=1 --xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=4096"
    )


def test_what_is_not_installed(monkeypatch):
    assert "torch.compile" not in bench.usual("cpu")
    assert {*bench.usual("gpu")} - {*bench.usual("cpu")} == {"jax.experimental.rnn"}
    monkeypatch.setitem(peers.DISTRIBUTIONS, "haiku", "not-installed")
    assert bench.installed(["jaxrnn", "haiku", "linen"]) == ["jaxrnn", "linen"]


@pytest.mark.slow
def test_a_run(capsys, tmp_path, monkeypatch):
    """In real processes."""
    monkeypatch.setattr(bench, "TURNS", 2)
    path, picture = tmp_path / "bench.json", tmp_path / "bench.png"
    what = ["--cell", "gru", "--mode", "training", "--shape", "3,4,5,6,ragged", "--threads", "1"]
    files = ["--json", str(path), "--plot", str(picture)]
    assert main(["bench", *what, "--peer", "torch", *files]) == 0
    out = capsys.readouterr().out
    assert "× faster than" in out
    machine, rows = bench_report.read(path)
    assert machine["threads"] == 1
    assert machine["gflops"] > 1
    assert {"jax", "torch"} <= machine["versions"].keys()
    assert [r.implementation for r in rows] == ["jaxrnn", "torch"]
    own, torch = rows
    assert (own.picked, bool(own.why), own.ratio) == ("fused", True, 1.0)
    for r in rows:
        assert 0 < r.p10 <= r.median <= r.p90 < r.first * 100
        assert r.calls >= 4
        assert r.error < 1e-6
        np.testing.assert_allclose(r.ratio, r.median / own.median)
        np.testing.assert_allclose(r.us_per_step, r.median * 1e6 / 4)
        np.testing.assert_allclose(r.sequences_per_s, 3 / r.median)
        count = bench.flops(bench.case_of("gru", "3,4,5,6,ragged"), True)
        np.testing.assert_allclose(r.gflops, count / r.median / 1e9)
        peak = max(machine["gflops"], machine["at_end"]["gflops"])
        np.testing.assert_allclose(r.of_peak, r.gflops / peak)
    assert torch.trace is torch.temp_bytes is None
    assert min(own.trace, own.compile, own.temp_bytes) > 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    json.loads(path.read_text(), parse_constant=pytest.fail)


class Pool:
    """A process that answers at once, whatever it is asked."""

    def __init__(self, *answers):
        self.answers = iter(answers)

    def submit(self, function, *arguments):
        return self

    def result(self):
        answer = next(self.answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_who_fails_is_left_out():
    """With the reason, while the others are measured all the same."""
    truth = {"y": np.ones((4, 3, 6))}
    prepared = {"trace": 1.0}, truth
    pools = {
        "jaxrnn": Pool(prepared, *[[0.5]] * bench.TURNS),
        "linen": Pool(RuntimeError("out of\nmemory")),
        "equinox": Pool(NotImplementedError("no such cell")),
        "keras": Pool(prepared, [0.5], RuntimeError("killed")),
    }
    case, steps = bench.case_of("gru", "3,4,5,6"), []
    rows = bench.measure(pools, [*pools], case, "training", truth, lambda: steps.append(None))
    own = rows[0]
    assert (own.median, own.error, own.trace, own.calls) == (0.5, 0.0, 1.0, bench.TURNS)
    assert [(row.median, row.remark) for row in rows[1:]] == [
        (None, "failed: RuntimeError: out of"),
        (None, "no such cell"),
        (None, "failed: RuntimeError: killed"),
    ]
    assert len(steps) == len(pools) + bench.TURNS
