"""What several commands share: options and their checks, a progress bar, a report."""

import argparse
import importlib.util
import pathlib
import time
from collections.abc import Collection, Iterable
from typing import Any

import jax
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from ..backends.data import DTYPES
from ..cases import table
from ..pair import Result
from ..report import tables as report


DEVICES = ("cpu", "gpu", "tpu")


def add_dtype(parser: argparse.ArgumentParser, text: str, action: str = "append") -> None:
    parser.add_argument("--dtype", choices=DTYPES, action=action, help=text)


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=DEVICES, default="cpu")


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write everything there")


def add_filter(
    parser: argparse.ArgumentParser,
    option: str,
    choices: Collection[str] | None = None,
    metavar: str | None = None,
) -> None:
    """Adds an option that narrows the work down and can be repeated."""
    text = "only this; again for more"
    parser.add_argument(option, choices=choices, metavar=metavar, action="append", help=text)


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Checks --device and --json before minutes of work, not after."""
    try:
        jax.devices(options.device)
    except RuntimeError as error:
        parser.error(f"--device {options.device}: JAX has no such device here ({error})")
    check_file(parser, "--json", options.json)


def check_file(parser: argparse.ArgumentParser, option: str, path: pathlib.Path | None) -> None:
    if path and not path.parent.is_dir():
        parser.error(f"{option} {path}: there is no such folder")
    if path and path.is_dir():
        parser.error(f"{option} {path}: is a folder")


def print_missing(console: Console, names: Iterable[str], installed: Collection[str]) -> None:
    if missing := [name for name in names if name not in installed]:
        console.print(f"not installed, and left out: {', '.join(missing)}")


def check_matplotlib(parser: argparse.ArgumentParser, option: str) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        parser.error(f"{option} needs matplotlib, which comes with the extra `parity`")


def progress_bar(console: Console, auto_refresh: bool = True) -> Progress:
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, auto_refresh=auto_refresh)


def progress(console: Console, results: Iterable[Any], total: int) -> list[Any]:
    with progress_bar(console) as bar:
        return list(bar.track(results, total=total, description="comparing"))


def show_layers(
    console: Console, results: list[Result], start: float, options: argparse.Namespace
) -> int:
    order = {case.name: i for i, case in enumerate(table())}
    results.sort(key=lambda result: order.get(result.name, len(order)))
    report.show(console, results)
    console.print(report.versions_line(options.device))
    console.print(report.verdict(results, time.perf_counter() - start))
    if options.json:
        report.write(options.json, results, options.device)
    return int(any(result.failed for result in results))
