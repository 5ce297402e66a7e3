"""What the commands share: devices, files that can be written, a progress bar, a report."""

import argparse
import pathlib
import time
from collections.abc import Iterable
from typing import Any

import jax
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from ..cases import table
from ..pair import Result
from ..report import tables as report


DEVICES = ("cpu", "gpu", "tpu")


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Before minutes of work, not after."""
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


def progress(console: Console, results: Iterable[Any], total: int) -> list[Any]:
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
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
