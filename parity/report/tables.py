"""Results for people (a table and a verdict) and for programs (JSON)."""

import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Sequence
from typing import Any

import jax
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..backends import numpy as truth
from ..backends.data import DTYPES
from ..criterion import Block
from ..layers import Result, torch_device
from ..pair import Compared
from ..texts.models import DOCUMENTS
from ..texts.optimisers import TRAININGS
from .blocks import plain_block, ratio


TRUTH_OF_LAYERS = f"numpy longdouble, eps {truth.EPS:.1e}" + (
    "" if truth.EPS < 2.0**-52 else ", no better than float64"
)
TRUTH_OF_SYSTEMS = "torch in float64"
ALLOWED_OF_TRAININGS = (
    "in float64, after every step: losses, gradient norms, rates, and parameters (of the texts' "
    "trainings at the end); allowed: (5 · own + 4 eps) · √steps for a tensor, (10 · own + 8 eps) · "
    "√steps for one of its steps or gates, since each step rounds anew; own: what an ulp in "
    "weights, data, gradients and the optimiser's numbers does to torch"
)
NOT_SEEN = "the mistake was not seen, or its case fails without it"


def versions(device: str, of: str = TRUTH_OF_LAYERS) -> dict[str, str]:
    """What the figures were measured with; `of` is the truth."""
    packages = {name: importlib.metadata.version(name) for name in ("jax", "torch", "numpy")}
    return {
        "python": platform.python_version(),
        **packages,
        "device": jax.devices(device)[0].device_kind if device != "cpu" else processor(),
        "torch on": torch_device(device),
        "cores": str(os.cpu_count()),
        "truth": of,
    }


def versions_line(device: str, of: str = TRUTH_OF_LAYERS) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions(device, of).items())


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
        for line in result.wrong[:12] or [NOT_SEEN]:
            console.print(f"    {escape(line)}")
        if len(result.wrong) > 12:
            console.print(f"    … and {len(result.wrong) - 12} more")


def show_documents(console: Console, rows: Sequence[str], results: Sequence[Compared]) -> None:
    """A line for each row of the texts' systems, and every disagreement with its places."""
    heads = ("id", "text", "system", "cases", "outputs", "gradients", "verdict")
    narrow: Any = {"box": box.SIMPLE, "padding": 0, "pad_edge": False}
    table = Table(*heads, **narrow, show_edge=False)
    table.columns[2].overflow = "fold"
    for column in (*table.columns[:2], *table.columns[3:]):
        column.no_wrap = True
    for column in table.columns[3:6]:
        column.justify = "right"
    for row in rows:
        found, status = _cases(row, results), row_status(row, results)
        table.add_row(
            *(
                row,
                f"00{row[0]}",
                escape(DOCUMENTS[row]),
                str(len({result.name for result in found})),
            ),
            _nearest([result.output for result in found]),
            _nearest([result.gradient for result in found if result.gradient]),
            *[status],
            style=None if status == "agrees" else "red",
        )
    table.caption = "JAX's error, torch's own: of the part that used most of its allowance"
    console.print(table)
    _show_failures(console, results)


def show_training(console: Console, rows: Sequence[str], results: Sequence[Compared]) -> None:
    """A line for each optimiser, scheduler and training, what is allowed, and disagreements."""
    heads = ("training", "cases", "steps", "error", "torch's own", "of allowance", "verdict")
    table = Table(*heads, box=box.SIMPLE, padding=0, pad_edge=False, show_edge=False)
    table.columns[0].overflow = "fold"
    for column in table.columns[1:6]:
        column.justify = "right"
    for row in rows:
        found, status = _cases(row, results), row_status(row, results)
        worst = max((case.output for case in found), key=lambda block: block.used, default=None)
        figures = ["–"] * 3
        if worst is not None:
            figures = [f"{worst.error:.1e}", f"{worst.own:.1e}", f"{worst.used:.0%}"]
        table.add_row(
            *(f"{row} {TRAININGS[row]}", str(len(found))),
            str(max((case.steps for case in found), default=0)),
            *(*figures, status),
            style=None if status == "agrees" else "red",
        )
    table.caption = "error, torch's own: of the part that used most of its allowance"
    console.print(table)
    console.print(ALLOWED_OF_TRAININGS)
    _show_failures(console, results)


def _show_failures(console: Console, results: Sequence[Compared]) -> None:
    for result in results:
        wrong = [*result.wrong, *(f"not compared: {name}" for name in result.unjudged)]
        where = f"{result.row} {result.name} [{result.dtype}]"
        if result.mistake is not None:
            wrong = [NOT_SEEN] if unseen(result) else []
            where += f", planted: {result.mistake}"
        for line in wrong:
            console.print(f"[bold red]FAIL[/] {escape(where)}: {escape(line)}")


def _cases(row: str, results: Sequence[Compared]) -> list[Compared]:
    return [result for result in results if result.row == row and result.mistake is None]


def _nearest(blocks: Sequence[Block]) -> str:
    worst = max(blocks, key=lambda block: block.used, default=None)
    return "–" if worst is None else f"{worst.error:.1e} {worst.own:.1e}"


def row_status(row: str, results: Sequence[Compared]) -> str:
    """A row without any case is as bad as one that disagrees."""
    found = _cases(row, results)
    if not found:
        return "MISSING"
    return "agrees" if all(result.passed for result in found) else "DISAGREES"


def unseen(result: Compared) -> bool:
    """A planted mistake in which nothing was found wrong."""
    return result.mistake is not None and not result.wrong


def documents_verdict(rows: Sequence[str], results: Sequence[Compared], seconds: float) -> str:
    """The closing line."""
    statuses = [row_status(row, results) for row in rows]
    cases = [result for result in results if result.mistake is None]
    systems = {(result.row, result.name) for result in cases}
    planted = [result for result in results if result.mistake is not None]
    seen = sum(not unseen(result) for result in planted)
    counts = ", ".join(
        f"{statuses.count(status)} {word}"
        for status, word in {
            "agrees": "agree",
            "DISAGREES": "disagree",
            "MISSING": "missing",
        }.items()
    )
    return (
        f"{len(rows)} rows, {len(systems)} cases, {len(cases)} comparisons: of the rows {counts}"
        + (f", {seen} of {len(planted)} known mistakes are seen" if planted else "")
        + f" ({seconds:.0f} s)"
    )


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


def write(path: pathlib.Path, results: Sequence[Result], device: str) -> None:
    """Everything, as JSON."""
    write_json(path, [_plain(result) for result in results], versions(device))


def write_documents(path: pathlib.Path, results: Sequence[Compared], device: str) -> None:
    """Likewise, of the texts' systems."""
    plain = [
        result._asdict()
        | {"output": plain_block(result.output)}
        | {"gradient": result.gradient and plain_block(result.gradient)}
        | {"failed": unseen(result) if result.mistake else not result.passed}
        for result in results
    ]
    write_json(path, plain, versions(device, TRUTH_OF_SYSTEMS))


def write_json(path: pathlib.Path, results: list[dict[str, Any]], versions: dict[str, Any]) -> None:
    path.write_text(json.dumps({"versions": versions, "results": results}, indent=1))


def _plain(result: Result) -> dict[str, Any]:
    return {
        "case": result.case.name,
        "dtype": result.dtype,
        "mistake": result.mistake,
        "status": result.status,
        "failed": failed(result),
        "wrong": result.wrong,
        "unjudged": result.unjudged,
        "worst": plain_block(result.worst),
        "slack": result.slack,
        "seconds": round(result.seconds, 3),
    }
