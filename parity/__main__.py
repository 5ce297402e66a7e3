"""The command: `python -m parity`, its `check FILE`, `documents`, `training`, `bench`, `voices`."""

import argparse
import fnmatch
import importlib.util
import io
import os
import pathlib
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from . import bench, bench_report, peers, report, voices
from .bench_worker import Settings
from .cases import Case, table
from .check import check
from .mistakes import MISTAKES
from .rows import DOCUMENTS
from .run import jobs, run_all, run_systems, run_voices, system_jobs
from .tensors import DTYPES
from .trajectories import TRAININGS
from .verify import Result


DEVICES = ("cpu", "gpu", "tpu")


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    console = Console(soft_wrap=True)
    commands = {
        "check": _check,
        "documents": _documents,
        "training": _training,
        "bench": _bench,
        "voices": _voices,
    }
    if arguments and arguments[0] in commands:
        return commands[arguments[0]](console, arguments[1:])
    return _run(console, arguments)


def _run(console: Console, arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        "python -m parity",
        description="Holds jaxrnn against torch.nn over the whole option surface. Exit status 1 on "
        "any disagreement. See also: python -m parity check --help, … documents --help, … training "
        "--help, … bench --help, … voices --help",
    )
    parser.add_argument("pattern", nargs="?", help="only cases whose names match, such as 'gru*bi'")
    parser.add_argument("--dtype", choices=DTYPES, action="append", help="instead of each case's")
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write everything there")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--quick", action="store_true", help="a cross-section, under 45 s")
    options = parser.parse_args(arguments)

    cases = [case for case in table() if _matches(case.name, options.pattern)]
    planted = [name for name in MISTAKES if _matches(f"mistakes/{name}", options.pattern)]
    if options.quick:
        cases, planted = cases[::16], planted[::2]
    if options.list:
        print(*(case.name for case in cases), *(f"mistakes/{name}" for name in planted), sep="\n")
        return 0
    if not cases and not planted:
        parser.error(f"no case matches {options.pattern!r}; --list prints their names")
    _check_options(parser, options)
    work = jobs(cases, options.dtype, planted)
    total = sum(len(job.mistakes or job.cases) for job in work)
    start = time.perf_counter()
    results = _progress(console, run_all(work, options.device), total)
    return _report(console, results, start, options)


def _check(console: Console, arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        "python -m parity check",
        description="Verifies every nn.RNN, nn.LSTM, nn.GRU and cell in a torch checkpoint: the "
        "same weights in torch and in jaxrnn, outputs and gradients compared.",
    )
    parser.add_argument("file", type=pathlib.Path, help=".pt, .pth, .safetensors or .npz")
    parser.add_argument("--prefix", help="only layers under this name, such as encoder.lstm")
    parser.add_argument("--nonlinearity", choices=("tanh", "relu"), default="tanh", help="of RNNs")
    parser.add_argument("--input", type=pathlib.Path, metavar="FILE.npy", help="instead of random")
    parser.add_argument("--batch-first", action="store_true", help="the input is (B, T, I)")
    parser.add_argument("--dtype", choices=DTYPES, action="append", help="default: own and float64")
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write everything there")
    options = parser.parse_args(arguments)

    _check_options(parser, options)
    start = time.perf_counter()
    try:
        x = None if options.input is None else _read_input(options.input)
        with console.status("verifying"):
            results = check(
                options.file,
                prefix=options.prefix,
                nonlinearity=options.nonlinearity,
                x=x,
                batch_first=options.batch_first,
                dtypes=options.dtype,
                device=options.device,
            )
    except (OSError, TypeError, ValueError) as error:
        parser.error(str(error))
    for case in {result.case.name: result.case for result in results}.values():
        found = dict(zip(case.structure._fields, case.structure, strict=True))
        kind = found.pop("kind")
        console.print(f"{case.group}: {kind}, " + ", ".join(f"{k}={v}" for k, v in found.items()))
    return _report(console, results, start, options)


def _documents(console: Console, arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        "python -m parity documents",
        description="Holds jaxrnn against every system of the PyTorch texts: models, sequence to "
        "sequence, data, short trainings; and plants known mistakes in them. Exit status 1 on any "
        "disagreement, missing row or mistake that is not seen.",
    )
    parser.add_argument("row", nargs="*", help="only these rows, such as 0.8 1.6")
    return _compare(console, parser, arguments, "documents", DOCUMENTS, report.show_documents)


def _training(console: Console, arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        "python -m parity training",
        description="Holds jaxrnn's optimisers and schedulers against torch's, step by step, and "
        "whole trainings of the PyTorch texts; and plants known mistakes in them. Exit status 1 on "
        "any disagreement or mistake that is not seen.",
    )
    parser.add_argument("row", nargs="*", help="only these rows, such as AdamW 0.3")
    return _compare(console, parser, arguments, "training", TRAININGS, report.show_training)


def _bench_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m parity bench",
        description="Times jaxrnn, torch and those JAX peers that are installed, in turn and each "
        "in a process of its own, on the same networks. By default on a cross-section of the grid, "
        "under 6 minutes on 2 idle cores; on all of it 9. torch.compile, and on a GPU only "
        "jax.experimental.rnn, must be asked for. Exit status 1 if any of them fails.",
        epilog="A shape is B,T,I,H; with ,bi2 two layers in both directions, with ,ragged lengths "
        f"drawn from 1 to T. The grid: {' '.join(bench.GRID)}",
    )
    others = [name for name in peers.DISTRIBUTIONS if name != "jaxrnn"]
    parser.add_argument(
        "--cell", choices=bench.CELLS, action="append", help="only this; again for more"
    )
    parser.add_argument(
        "--mode", choices=bench.MODES, action="append", help="only this; again for more"
    )
    parser.add_argument(
        "--shape", metavar="B,T,I,H", action="append", help="only this; again for more"
    )
    parser.add_argument("--full", action="store_true", help="the whole grid for every cell")
    parser.add_argument("--peer", choices=others, action="append", help="only this; again for more")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), metavar="N", help="for each")
    parser.add_argument(
        "--small-loops",
        type=int,
        metavar="BYTES",
        help="XLA makes one kernel of a loop on a CPU whose body touches less; its option "
        "xla_cpu_small_while_loop_byte_threshold holds for a whole process: here for all of JAX's",
    )
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write everything there")
    parser.add_argument("--compare", type=pathlib.Path, metavar="OLD.json", help="what has changed")
    parser.add_argument("--plot", type=pathlib.Path, metavar="FILE.png", help="draw the ratios")
    return parser


def _bench_options(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[Case], Any]:
    """The options, the networks that they ask for, and the earlier run to compare with."""
    parser = _bench_parser()
    options = parser.parse_args(arguments)
    default = bench.GRID if options.full else None
    try:
        cases = [
            bench.case_of(cell, shape)
            for cell in options.cell or bench.CELLS
            for shape in options.shape or default or bench.CROSS_SECTION[cell]
        ]
        before = options.compare and bench_report.read(options.compare)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if not 1 <= options.threads <= (os.cpu_count() or 1):
        parser.error(f"--threads {options.threads}: there are {os.cpu_count()} cores")
    if options.small_loops is not None and options.small_loops < 0:
        parser.error(f"--small-loops {options.small_loops}: must be at least 0")
    if options.full and options.shape:
        parser.error("--full is the whole grid: not with --shape")
    if options.plot and (options.plot.suffix != ".png" or not options.plot.parent.is_dir()):
        parser.error(f"--plot {options.plot}: must be a .png in a folder that there is")
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib, which comes with the extra `bench`")
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # others need the GPU's memory
    _check_options(parser, options)
    return options, cases, before


def _bench(console: Console, arguments: Sequence[str]) -> int:
    options, cases, before = _bench_options(arguments)
    asked = options.peer or bench.usual(options.device)
    names = bench.installed(["jaxrnn", *asked])
    if missing := [name for name in asked if name not in names]:
        console.print(f"not installed, and left out: {', '.join(missing)}")
    settings = Settings(options.device, options.threads, options.small_loops)
    machine = bench_report.machine(settings, names)
    start, rows, modes = time.perf_counter(), [], options.mode or bench.MODES
    # Drawn between what is timed, not by a thread of its own.
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=console, transient=True, auto_refresh=False) as progress,
        bench.workers(names, settings) as pools,
    ):
        machine |= bench.calibrate(pools)
        console.print(bench_report.about(machine))
        total = len(cases) * len(modes) * (len(names) + bench.TURNS)
        task = progress.add_task("", total=total)
        between = lambda: progress.update(task, advance=1, refresh=True)
        for case in cases:
            truth = bench.truth(pools, case)
            for mode in modes:
                progress.update(task, description=f"{case.structure.kind} {case.group} {mode}")
                rows += bench.measure(pools, names, case, mode, truth, between)
            if options.json:  # lest a run that is interrupted leave nothing
                bench_report.write(options.json, machine, rows)
        machine["at_end"] = bench.calibrate(pools)
    peak = max(machine["gflops"], machine["at_end"]["gflops"])
    rows = [row._replace(of_peak=row.gflops and row.gflops / peak) for row in rows]
    bench_report.show(console, rows)
    if before:
        bench_report.show_changes(console, before, machine, rows)
    for warning in bench_report.warnings(machine):
        console.print(f"[bold red]WARNING[/] {warning}")
    console.print(f"{len(rows)} rows ({time.perf_counter() - start:.0f} s)")
    if options.json:
        bench_report.write(options.json, machine, rows)
    if options.plot:
        bench_report.plot(options.plot, rows)
    return int(any(row.remark.startswith("failed") for row in rows))


def _voices(console: Console, arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        "python -m parity voices",
        description="Has jaxrnn, torch, numpy and every other framework that is installed compute "
        "the same networks; of those who disagree, says who stands alone. Exit status 1 on any "
        "disagreement.",
    )
    for name, known, of in (
        ("--cell", voices.KINDS, "only this; again for more"),
        ("--dtype", voices.WIDTHS, "only this; again for more"),
        ("--voice", voices.VOICES, "only this; again for more"),
    ):
        parser.add_argument(name, choices=known, action="append", help=of)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write everything there")
    options = parser.parse_args(arguments)

    asked = options.voice or [*voices.VOICES]
    names = voices.installed(asked)
    if missing := [name for name in asked if name not in names]:
        console.print(f"not installed, and left out: {', '.join(missing)}")
    if len(names) < 3:
        parser.error(f"a majority takes at least 3 voices, got {', '.join(names) or 'none'}")
    options.device = "cpu"
    _check_options(parser, options)
    work = [
        voices.Job(case, dtype, tuple(names))
        for case in voices.networks(options.cell or [*voices.KINDS])
        for dtype in options.dtype or voices.WIDTHS
    ]
    start = time.perf_counter()
    order = {(job.case.group, job.dtype): i for i, job in enumerate(work)}
    results = _progress(console, run_voices(work), len(work) * len(names))
    results.sort(key=lambda r: (order[r.network, r.dtype], names.index(r.voice)))
    report.show_voices(console, results)
    console.print(report.versions_line("cpu"))
    console.print(report.voices_verdict(results, time.perf_counter() - start))
    if options.json:
        report.write_voices(options.json, results)
    return int(any(result.status in voices.APART for result in results))


def _compare(
    console: Console,
    parser: argparse.ArgumentParser,
    arguments: Sequence[str],
    command: str,
    known: Collection[str],
    show: Callable[..., None],
) -> int:
    """Systems, by rows."""
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write everything there")
    options = parser.parse_args(arguments)

    if unknown := [row for row in options.row if row not in known]:
        parser.error(f"there is no row {unknown[0]}; the rows are {', '.join(known)}")
    _check_options(parser, options)
    rows = [row for row in known if not options.row or row in options.row]
    work = system_jobs(command, rows)
    total = sum(1 + len(job.mistakes) for job in work)
    start = time.perf_counter()
    results = _progress(console, run_systems(work, options.device), total)
    results.sort(key=lambda result: (rows.index(result.row), result.name, result.mistake or ""))
    show(console, rows, results)
    console.print(report.versions_line(options.device, report.TRUTH_OF_SYSTEMS))
    console.print(report.documents_verdict(rows, results, time.perf_counter() - start))
    if options.json:
        report.write_documents(options.json, results, options.device)
    agree = all(report.row_status(row, results) == "agrees" for row in rows)
    return int(not agree or any(report.unseen(result) for result in results))


def _read_input(path: pathlib.Path) -> np.ndarray:
    try:
        return np.lib.format.read_array(io.BytesIO(path.read_bytes()), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"--input {path} is no .npy file of numbers: {error}") from error


def _matches(name: str, pattern: str | None) -> bool:
    return pattern is None or fnmatch.fnmatchcase(name.lower(), f"*{pattern.lower()}*")


def _check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Before minutes of work, not after."""
    try:
        jax.devices(options.device)
    except RuntimeError as error:
        parser.error(f"--device {options.device}: JAX has no such device here ({error})")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json {options.json}: there is no such folder")
    if options.json and options.json.is_dir():
        parser.error(f"--json {options.json}: is a folder")


def _progress(console: Console, results: Iterable[Any], total: int) -> list[Any]:
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        return list(progress.track(results, total=total, description="comparing"))


def _report(
    console: Console, results: list[Result], start: float, options: argparse.Namespace
) -> int:
    order = {case.name: i for i, case in enumerate(table())}
    results.sort(key=lambda result: order.get(result.case.name, len(order)))
    report.show(console, results)
    console.print(report.versions_line(options.device))
    console.print(report.verdict(results, time.perf_counter() - start))
    if options.json:
        report.write(options.json, results, options.device)
    return int(any(report.failed(result) for result in results))


if __name__ == "__main__":
    sys.exit(main())
