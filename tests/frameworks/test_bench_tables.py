"""The tables of the bench: figures, ratios, changes, warnings."""

import io

import pytest
from rich.console import Console

from parity.frameworks.bench import Row
from parity.report import bench as bench_report


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
    change = bench_report.change(row("linen", 1.0), row("linen", now))
    assert change == (1 / now, verdict)


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
