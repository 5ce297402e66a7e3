"""The command: `python -m parity`, and its `check FILE`, `documents` and `training`."""

import argparse
import fnmatch
import io
import pathlib
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from . import report
from .cases import table
from .check import check
from .mistakes import MISTAKES
from .rows import DOCUMENTS
from .run import jobs, run_all, run_systems, system_jobs
from .tensors import DTYPES
from .trajectories import TRAININGS
from .verify import Result


DEVICES = ("cpu", "gpu", "tpu")


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    console = Console(soft_wrap=True)
    commands = {"check": _check, "documents": _documents, "training": _training}
    if arguments and arguments[0] in commands:
        return commands[arguments[0]](console, arguments[1:])
    return _run(console, arguments)


def _run(console: Console, arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        "python -m parity",
        description="Holds jaxrnn against torch.nn over the whole option surface. Exit status 1 on "
        "any disagreement. See also: python -m parity check --help, … documents --help, … training "
        "--help",
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
