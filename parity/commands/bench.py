"""`bench`: jaxrnn, torch and the JAX peers in turn."""

import argparse
import os
import pathlib
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from ..cases import Case
from ..frameworks import bench
from ..frameworks.bench_worker import Settings
from ..frameworks.peers import DISTRIBUTIONS
from ..report import bench as report
from .common import (
    add_device,
    add_filter,
    add_json,
    check_matplotlib,
    check_options,
    print_missing,
    progress_bar,
)


def run(console: Console, command: str, arguments: Sequence[str]) -> int:
    options, cases, before = _options(arguments)
    peers = options.peer or bench.usual(options.device)
    names = bench.installed(["jaxrnn", *peers])
    print_missing(console, peers, names)
    start = time.perf_counter()
    machine, rows = _measure(console, options, cases, names)
    peak = max(machine["gflops"], machine["at_end"]["gflops"])
    rows = [row._replace(of_peak=row.gflops and row.gflops / peak) for row in rows]
    report.show(console, rows)
    if before:
        report.show_changes(console, before, machine, rows)
    for warning in report.warnings(machine):
        console.print(f"[bold red]WARNING[/] {warning}")
    console.print(f"{len(rows)} rows ({time.perf_counter() - start:.0f} s)")
    if options.json:
        report.write(options.json, machine, rows)
    if options.plot:
        report.plot(options.plot, rows)
    return int(any(row.remark.startswith("failed") for row in rows))


def _measure(
    console: Console, options: argparse.Namespace, cases: Sequence[Case], names: Sequence[str]
) -> tuple[report.Machine, list[bench.Row]]:
    """Measures all cases; the file of --json is complete after each of them."""
    settings = Settings(options.device, options.threads, options.small_loops)
    machine, rows, modes = report.machine(settings, names), [], options.mode or bench.MODES
    with (
        # A thread that refreshes the bar would disturb what is timed.
        progress_bar(console, auto_refresh=False) as bar,
        bench.workers(names, settings) as pools,
    ):
        machine |= bench.calibrate(pools)
        console.print(report.about(machine))
        task = bar.add_task("", total=len(cases) * len(modes) * (len(names) + bench.TURNS))
        between = lambda: bar.update(task, advance=1, refresh=True)
        for case in cases:
            truth = bench.truth(pools, case)
            for mode in modes:
                bar.update(task, description=f"{case.structure.kind} {case.group} {mode}")
                rows += bench.measure(pools, names, case, mode, truth, between)
            if options.json:
                report.write(options.json, machine, rows)
        machine["at_end"] = bench.calibrate(pools)
    return machine, rows


def _options(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[Case], Any]:
    """Returns the options, the networks that they name, and the earlier run to compare with."""
    parser = _parser()
    options = parser.parse_args(arguments)
    default = bench.GRID if options.full else None
    try:
        cases = [
            bench.case_of(cell, shape)
            for cell in options.cell or bench.CELLS
            for shape in options.shape or default or bench.CROSS_SECTION[cell]
        ]
        before = options.compare and report.read(options.compare)
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
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # all processes share a GPU
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
    others = [name for name in DISTRIBUTIONS if name != "jaxrnn"]
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
