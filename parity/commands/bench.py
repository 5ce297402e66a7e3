"""`bench`: jaxrnn, torch and the JAX peers in turn."""

import argparse
import os
import pathlib
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from ..cases import Case
from ..frameworks import bench, peers
from ..frameworks.bench_worker import Settings
from ..report import bench as bench_report
from .common import add_device, add_filter, add_json, check_matplotlib, check_options, progress_bar


def run(console: Console, command: str, arguments: Sequence[str]) -> int:
    options, cases, before = _options(arguments)
    asked = options.peer or bench.usual(options.device)
    names = bench.installed(["jaxrnn", *asked])
    if missing := [name for name in asked if name not in names]:
        console.print(f"not installed, and left out: {', '.join(missing)}")
    settings = Settings(options.device, options.threads, options.small_loops)
    machine = bench_report.machine(settings, names)
    start, rows, modes = time.perf_counter(), [], options.mode or bench.MODES
    with (
        # A thread that refreshes the bar would disturb what is timed.
        progress_bar(console, auto_refresh=False) as progress,
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


def _options(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[Case], Any]:
    """The options, the networks that they ask for, and the earlier run to compare with."""
    parser = _parser()
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
    if options.plot:
        check_matplotlib(parser, "--plot")
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # others need the GPU's memory
    check_options(parser, options)
    return options, cases, before


def _parser() -> argparse.ArgumentParser:
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
    add_filter(parser, "--cell", bench.CELLS)
    add_filter(parser, "--mode", bench.MODES)
    add_filter(parser, "--shape", metavar="B,T,I,H")
    parser.add_argument("--full", action="store_true", help="the whole grid for every cell")
    add_filter(parser, "--peer", others)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), metavar="N", help="for each")
    parser.add_argument(
        "--small-loops",
        type=int,
        metavar="BYTES",
        help="XLA makes one kernel of a loop on a CPU whose body touches less; its option "
        "xla_cpu_small_while_loop_byte_threshold holds for a whole process: here for all of JAX's",
    )
    add_device(parser)
    add_json(parser)
    parser.add_argument("--compare", type=pathlib.Path, metavar="OLD.json", help="what has changed")
    parser.add_argument("--plot", type=pathlib.Path, metavar="FILE.png", help="draw the ratios")
    return parser
