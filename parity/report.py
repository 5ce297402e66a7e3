"""Results for people (a table and a verdict) and for programs (JSON)."""

import importlib.metadata
import json
import math
import os
import pathlib
import platform
from collections.abc import Sequence
from typing import Any

import jax
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from . import truth
from .tensors import DTYPES
from .verify import Result, torch_device


def versions(device: str) -> dict[str, str]:
    """What the figures were measured with."""
    packages = {name: importlib.metadata.version(name) for name in ("jax", "torch", "numpy")}
    return {
        "python": platform.python_version(),
        **packages,
        "device": jax.devices(device)[0].device_kind if device != "cpu" else processor(),
        "torch on": torch_device(device),
        "cores": str(os.cpu_count()),
        "truth": f"numpy longdouble, eps {truth.EPS:.1e}"
        + ("" if truth.EPS < 2.0**-52 else ", no better than float64"),
    }


def processor() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def show(console: Console, results: Sequence[Result]) -> None:
    """The table, what stands behind it in part only, and every failure with its places."""
    cases = [result for result in results if result.mistake is None]
    if cases:
        console.print(_table(cases))
    for result in cases:
        if result.slack > 1:
            console.print(
                f"{escape(name(result))}: allowed × {result.slack:.1f}, because it is saturated "
                "and XLA's tanh strays that much further than torch's here"
            )
        if result.unjudged and not result.wrong:
            console.print(f"{escape(name(result))}: {escape(result.status)}")
    for result in filter(failed, results):
        console.print(f"[bold red]FAIL[/] {escape(name(result))}")
        for line in result.wrong[:12] or ["the mistake was not seen, or its case fails without it"]:
            console.print(f"    {escape(line)}")
        if len(result.wrong) > 12:
            console.print(f"    … and {len(result.wrong) - 12} more")


def _table(cases: Sequence[Result]) -> Table:
    """A row for each group and dtype, with the tensor or block nearest to its allowance."""
    table = Table("group", "dtype", "cases", "error", "torch's own", "ratio", "of allowance")
    table.columns[0].overflow = "fold"
    for column in table.columns[2:]:
        column.justify = "right"
    rows: dict[tuple[str, str], list[Result]] = {}
    for group in dict.fromkeys(result.case.group for result in cases):
        for dtype in DTYPES:
            if found := [r for r in cases if (r.case.group, r.dtype) == (group, dtype)]:
                rows[group, dtype] = found
    for (group, dtype), found in rows.items():
        worst = max((result.worst for result in found), key=lambda block: block.used)
        table.add_row(
            *(escape(group), dtype, str(len(found))),
            *(f"{worst.error:.1e}", f"{worst.own:.1e}", ratio(worst.error, worst.own)),
            f"{worst.used:.0%}",
            style="red" if any(result.wrong for result in found) else None,
        )
    table.caption = "error, torch's own: of the part that used most of its allowance"
    return table


def verdict(results: Sequence[Result], seconds: float) -> str:
    """The closing line."""
    cases = [result for result in results if result.mistake is None]
    planted = [result for result in results if result.mistake is not None]
    many = lambda count, noun: f"{count} {noun}{'s' * (count != 1)}"
    words = []
    if cases:
        disagree = sum(failed(result) for result in cases)
        partly = sum(bool(result.unjudged) for result in cases if not result.wrong)
        names = {result.case.name for result in cases}
        words += [
            f"{many(len(names), 'configuration')}, {many(len(cases), 'comparison')}: "
            f"{len(cases) - disagree - partly} agree, {disagree} disagree"
        ]
        words += [f"{partly} compared in part"] if partly else []
    if planted:
        seen = sum(not failed(result) for result in planted)
        words += [f"{seen} of {len(planted)} known mistakes are seen"]
    return f"{', '.join(words)} ({seconds:.0f} s)"


def failed(result: Result) -> bool:
    """A case fails if anything in it is wrong, a planted mistake if nothing is."""
    return bool(result.wrong) if result.mistake is None else not result.wrong


def name(result: Result) -> str:
    planted = "" if result.mistake is None else f", planted: {result.mistake}"
    return f"{result.case.name} [{result.dtype}]{planted}"


def ratio(error: float, own: float) -> str:
    return f"{error / own:.1f}" if own else "–" if error == 0 else "∞"


def write(path: pathlib.Path, results: Sequence[Result], device: str) -> None:
    """Everything, as JSON."""
    path.write_text(
        json.dumps(
            {"versions": versions(device), "results": [_plain(r) for r in results]}, indent=1
        )
    )


def _plain(result: Result) -> dict[str, Any]:
    worst = result.worst._asdict() | {"used": result.worst.used}
    return {
        "case": result.case.name,
        "dtype": result.dtype,
        "mistake": result.mistake,
        "status": result.status,
        "failed": failed(result),
        "wrong": result.wrong,
        "unjudged": result.unjudged,
        "worst": {
            k: None if isinstance(v, float) and not math.isfinite(v) else v
            for k, v in worst.items()
        },
        "slack": result.slack,
        "seconds": round(result.seconds, 3),
    }
