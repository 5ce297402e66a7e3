"""The bench: its peers compute what torch computes, its figures follow from times, one tiny run."""

import io
import json

import jax
import numpy as np
import pytest
from rich.console import Console

import jaxrnn
from jaxrnn import Structure
from parity.__main__ import main
from parity.frameworks import bench, bench_worker, peers
from parity.frameworks.bench import Row
from parity.frameworks.bench_worker import Settings
from parity.report import bench as bench_report


OTHERS = ["linen", "nnx", "haiku", "equinox", "keras"]


@pytest.fixture
def as_in_a_worker(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        yield


def refused(capsys, *arguments):
    """The sentence with which the command declines."""
    with pytest.raises(SystemExit) as exit:
        main(["bench", *arguments])
    assert exit.value.code == 2
    return " ".join(capsys.readouterr().err.partition("error: ")[2].split())


def strays(name, cell, shape, mode):
    """The error of an implementation, as the bench measures it."""
    case = bench.case_of(cell, shape)
    _, arrays = bench_worker.prepare(name, case, mode == "training")
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


def row(name, median, **others):
    """One whose times spread by 10% to both sides."""
    times = {"median": median, "p10": 0.9 * median, "p90": 1.1 * median}
    return Row("gru", "training", "2,3,5,7", name, **times, **others)


@pytest.mark.parametrize(
    ("now", "verdict"),
    [(1.0, "within noise"), (1.13, "within noise"), (1.16, "slower"), (0.89, "within noise"),
     (0.86, "faster")],
)  # fmt: skip
def test_change(now, verdict):
    """Beyond √2 · 10%."""
    ratio, found = bench_report.change(row("linen", 1.0), row("linen", now))
    assert (ratio, found) == (1 / now, verdict)


def test_change_of_what_was_not_measured():
    assert bench_report.change(row("linen", 1.0)._replace(median=None), row("linen", 1.0))[1] == (
        "not measured"
    )


MACHINE = {
    "date": "2026-01-01T00:00:00+00:00", "device": "a processor", "cores": 2, "threads": 2,
    "load": 0.1, "xla_flags": "", "gflops": 300.0, "gb_per_s": 20.0, "python": "3.11.0",
    "versions": {"jax": "0.10.2", "torch": "2.13.0"}, "at_end": {"gflops": 290, "gb_per_s": 21},
}  # fmt: skip


def test_warnings():
    assert bench_report.warnings(MACHINE) == []
    busy = {"load": 1.5, "at_end": {"gflops": 200.0, "gb_per_s": 20.0}}
    assert bench_report.warnings(MACHINE | busy) == [
        "the machine was busy before the start: load 1.50",
        "a product went from 300 to 200 GFLOP/s: repeat this idle",
    ]


def printed(show, *arguments):
    out = io.StringIO()
    show(Console(file=out, width=80, soft_wrap=True), *arguments)
    return out.getvalue()


def test_tables():
    rows = [
        row("jaxrnn", 0.002, picked="fused", why="it is first", error=2e-7, ratio=1.0),
        row("torch", 0.008, ratio=4.0),
        row("linen", 0.004, ratio=2.0, temp_bytes=3_000_000),
        row("nnx", 0.003, ratio=1.5, remark="nnx's GRU has no b_hn"),
        Row("gru", "training", "2,3,5,7", "haiku", remark="haiku has no lengths"),
    ]
    more = [each._replace(shape="1,1,1,1", ratio=each.ratio and each.ratio * 4) for each in rows]
    lines = printed(bench_report.show, rows + more).splitlines()
    words = [line.split() for line in lines]
    assert ["jaxrnn", "(fused)", "–", "–", "–", "2", "1.8–2.2"] in [each[:7] for each in words]
    assert ["gru", "2,3,5,7", "2", "4.00", "2.00", "1.50*", "–", "1.50"] in words
    assert ["geometric", "mean", "8.00", "4.00", "3.00", "–", "3.00"] in words
    assert "jaxrnn picked fused: it is first (gru 2,3,5,7; gru 1,1,1,1)" in lines
    assert "* nnx: nnx's GRU has no b_hn (gru 2,3,5,7; gru 1,1,1,1)" in lines
    assert "haiku: haiku has no lengths (gru 2,3,5,7; gru 1,1,1,1)" in lines


def test_changes(tmp_path):
    path = tmp_path / "old.json"
    bench_report.write(path, MACHINE, [row("jaxrnn", 0.004), row("linen", 0.002)])
    before = bench_report.read(path)
    assert before == (MACHINE, [row("jaxrnn", 0.004), row("linen", 0.002)])
    now = MACHINE | {"threads": 1, "versions": {"jax": "0.11.0"}, "gflops": 200.0}
    rows = [row("jaxrnn", 0.002), row("linen", 0.002), row("keras", 0.002)]
    lines = printed(bench_report.show_changes, before, now, rows).splitlines()
    words = [line.split() for line in lines]
    assert ["gru", "training", "2,3,5,7", "jaxrnn", "4", "2", "2.00", "faster"] in words
    assert ["linen", "2", "2", "1.00", "within", "noise"] in [each[3:] for each in words]
    assert "keras" not in " ".join(lines)
    assert lines[-3:] == [
        "not the same: threads was 2, is 1",
        "not the same: jax was 0.10.2, is 0.11.0",
        "not as fast: a product reached 300 GFLOP/s, now 200",
    ]


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
    assert sentence in refused(capsys, *arguments)


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


def test_a_run(capsys, tmp_path, monkeypatch):
    """In real processes."""
    monkeypatch.setattr(bench, "TURNS", 2)
    path, picture = tmp_path / "bench.json", tmp_path / "bench.png"
    what = ["--cell", "gru", "--mode", "training", "--shape", "3,4,5,6,ragged", "--threads", "1"]
    others = ["--peer", "torch", "--peer", "linen"]
    assert main(["bench", *what, *others, "--json", str(path), "--plot", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "× faster than" in out
    machine, rows = bench_report.read(path)
    assert machine["threads"] == 1
    assert machine["gflops"] > 1
    assert {"jax", "torch", "flax"} <= machine["versions"].keys()
    assert [r.implementation for r in rows] == ["jaxrnn", "torch", "linen"]
    ours, torch, linen = rows
    assert (ours.picked, bool(ours.why), ours.ratio) == ("fused", True, 1.0)
    for r in rows:
        assert 0 < r.p10 <= r.median <= r.p90 < r.first * 100
        assert r.calls >= 4
        assert r.error < 1e-6
        np.testing.assert_allclose(r.ratio, r.median / ours.median)
        np.testing.assert_allclose(r.us_per_step, r.median * 1e6 / 4)
        np.testing.assert_allclose(r.sequences_per_s, 3 / r.median)
        count = bench.flops(bench.case_of("gru", "3,4,5,6,ragged"), True)
        np.testing.assert_allclose(r.gflops, count / r.median / 1e9)
        peak = max(machine["gflops"], machine["at_end"]["gflops"])
        np.testing.assert_allclose(r.of_peak, r.gflops / peak)
    assert torch.trace is torch.temp_bytes is None
    assert min(ours.trace, ours.compile, linen.trace, linen.compile, linen.temp_bytes) > 0
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
    ours = rows[0]
    assert (ours.median, ours.error, ours.trace, ours.calls) == (0.5, 0.0, 1.0, bench.TURNS)
    assert [(row.median, row.remark) for row in rows[1:]] == [
        (None, "failed: RuntimeError: out of"),
        (None, "no such cell"),
        (None, "failed: RuntimeError: killed"),
    ]
    assert len(steps) == len(pools) + bench.TURNS
