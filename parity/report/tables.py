"""Results for people (a table and a verdict) and for programs (JSON)."""

import importlib.metadata
import itertools
import json
import os
import pathlib
import platform
from collections.abc import Iterable, Sequence
from typing import Any

import jax
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..backends import numpy as truth
from ..backends.data import DTYPES
from ..criterion import Block
from ..pair import Result, torch_device
from ..texts.optimisers import TRAININGS
from ..texts.rows import TEXTS
from .blocks import plain_block, ratio


TRUTH_OF_LAYERS = f"numpy longdouble, eps {truth.EPS:.1e}" + (
    "" if truth.EPS < 2.0**-52 else ", no better than float64"
)
TRUTH_OF_TEXTS = "torch in float64"
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
    """The case table, the pairs that were judged in part only, and every failure."""
    pairs = _right(results)
    if pairs:
        console.print(_table(pairs))
    for result in pairs:
        if result.slack > 1:
            console.print(
                f"{escape(name(result))}: allowed × {result.slack:.1f}, because it is saturated "
                "and XLA's tanh strays that much further than torch's here"
            )
        if result.unjudged and not result.wrong:
            console.print(f"{escape(name(result))}: {escape(result.status)}")
    _show_failures(console, [result for result in results if result.failed])


def show_texts(console: Console, rows: Sequence[str], results: Sequence[Result]) -> None:
    """A line for each row of the texts, and every disagreement with its places."""
    heads = ("id", "text", "system", "cases", "outputs", "gradients", "verdict")
    table = _narrow(heads, fold=2, right=range(3, 6))
    for column in (*table.columns[:2], *table.columns[3:]):
        column.no_wrap = True
    for row in rows:
        pairs, status = _of_row(row, results), row_status(row, results)
        table.add_row(
            row,
            f"00{row[0]}",
            escape(TEXTS[row]),
            str(len({result.name for result in pairs})),
            _nearest(block for result in pairs for block in result.outputs.blocks),
            _nearest(block for result in pairs for block in result.gradients.blocks),
            status,
            style=None if status == "agrees" else "red",
        )
    table.caption = "JAX's error, torch's own: of the part that used most of its allowance"
    console.print(table)
    _show_failures(console, [result for result in results if not good(result)])


def show_training(console: Console, rows: Sequence[str], results: Sequence[Result]) -> None:
    """A line for each optimiser, scheduler and training, what is allowed, and disagreements."""
    heads = ("training", "cases", "steps", "error", "torch's own", "of allowance", "verdict")
    table = _narrow(heads, fold=0, right=range(1, 6))
    for row in rows:
        pairs, status = _of_row(row, results), row_status(row, results)
        worst = max((pair.worst for pair in pairs), key=lambda block: block.used, default=None)
        figures = ["–"] * 3
        if worst is not None:
            figures = [f"{worst.error:.1e}", f"{worst.own:.1e}", f"{worst.used:.0%}"]
        steps = str(max((pair.steps for pair in pairs), default=0))
        style = None if status == "agrees" else "red"
        head = f"{row} {TRAININGS[row]}"
        table.add_row(head, str(len(pairs)), steps, *figures, status, style=style)
    table.caption = "error, torch's own: of the part that used most of its allowance"
    console.print(table)
    console.print(ALLOWED_OF_TRAININGS)
    _show_failures(console, [result for result in results if not good(result)])


def _narrow(heads: Sequence[str], fold: int, right: Iterable[int]) -> Table:
    """A table for 80 columns."""
    table = Table(*heads, box=box.SIMPLE, padding=0, pad_edge=False, show_edge=False)
    table.columns[fold].overflow = "fold"
    for i in right:
        table.columns[i].justify = "right"
    return table


def _show_failures(console: Console, results: Sequence[Result]) -> None:
    for result in results:
        console.print(f"[bold red]FAIL[/] {escape(name(result))}")
        lines = [*result.wrong, *(f"not compared: {tensor}" for tensor in result.unjudged)]
        for line in lines[:12] if result.mistake is None else [NOT_SEEN]:
            console.print(f"    {escape(line)}")
        if result.mistake is None and len(lines) > 12:
            console.print(f"    … and {len(lines) - 12} more")


def _right(results: Sequence[Result]) -> list[Result]:
    """Those in which no mistake was planted."""
    return [result for result in results if result.mistake is None]


def _of_row(row: str, results: Sequence[Result]) -> list[Result]:
    return [result for result in _right(results) if result.group == row]


def good(result: Result) -> bool:
    """Of a text: passed in full, or a mistake that was seen."""
    return result.passed if result.mistake is None else not result.failed


def _nearest(blocks: Iterable[Block]) -> str:
    """The errors of the block that used most of its allowance."""
    worst = max(blocks, key=lambda block: block.used, default=None)
    return "–" if worst is None else f"{worst.error:.1e} {worst.own:.1e}"


def row_status(row: str, results: Sequence[Result]) -> str:
    """A row without any pair is as bad as one that disagrees."""
    pairs = _of_row(row, results)
    if not pairs:
        return "MISSING"
    return "agrees" if all(pair.passed for pair in pairs) else "DISAGREES"


def texts_verdict(rows: Sequence[str], results: Sequence[Result], seconds: float) -> str:
    """The closing line of the texts and trainings."""
    statuses, pairs = [row_status(row, results) for row in rows], _right(results)
    words = {"agrees": "agree", "DISAGREES": "disagree", "MISSING": "missing"}
    counts = ", ".join(f"{statuses.count(status)} {word}" for status, word in words.items())
    names = {(pair.group, pair.name) for pair in pairs}
    return (
        f"{len(rows)} rows, {len(names)} cases, {len(pairs)} comparisons: of the rows {counts}"
        f"{_planted(results)} ({seconds:.0f} s)"
    )


def _planted(results: Sequence[Result]) -> str:
    planted = [result for result in results if result.mistake is not None]
    seen = sum(not result.failed for result in planted)
    return f", {seen} of {len(planted)} known mistakes are seen" if planted else ""


def _table(pairs: Sequence[Result]) -> Table:
    """A row for each group and dtype, with the tensor or block nearest to its allowance."""
    table = Table("group", "dtype", "cases", "error", "torch's own", "ratio", "of allowance")
    table.columns[0].overflow = "fold"
    for column in table.columns[2:]:
        column.justify = "right"
    groups = dict.fromkeys(pair.group for pair in pairs)
    for group, dtype in itertools.product(groups, DTYPES):
        row = [pair for pair in pairs if (pair.group, pair.dtype) == (group, dtype)]
        if not row:
            continue
        worst = max((pair.worst for pair in row), key=lambda block: block.used)
        errors = (f"{worst.error:.1e}", f"{worst.own:.1e}", ratio(worst.error, worst.own))
        style = "red" if any(pair.wrong for pair in row) else None
        head = (escape(group), dtype, str(len(row)))
        table.add_row(*head, *errors, f"{worst.used:.0%}", style=style)
    table.caption = "error, torch's own: of the part that used most of its allowance"
    return table


def verdict(results: Sequence[Result], seconds: float) -> str:
    """The closing line of the case table."""
    pairs, words = _right(results), ""
    if pairs:
        many = lambda count, noun: f"{count} {noun}{'s' * (count != 1)}"
        disagree = sum(pair.failed for pair in pairs)
        partly = sum(bool(pair.unjudged) for pair in pairs if not pair.wrong)
        configurations = many(len({pair.name for pair in pairs}), "configuration")
        words = (
            f"{configurations}, {many(len(pairs), 'comparison')}: "
            f"{len(pairs) - disagree - partly} agree, {disagree} disagree"
        )
        words += f", {partly} compared in part" if partly else ""
    return f"{(words + _planted(results)).removeprefix(', ')} ({seconds:.0f} s)"


def name(result: Result) -> str:
    """The pair, its dtype and the mistake."""
    row = "" if result.case else f"{result.group} "
    planted = "" if result.mistake is None else f", planted: {result.mistake}"
    return f"{row}{result.name} [{result.dtype}]{planted}"


def write(
    path: pathlib.Path, results: Sequence[Result], device: str, truth: str = TRUTH_OF_LAYERS
) -> None:
    """Everything, as JSON."""
    write_json(path, [_plain(result) for result in results], versions(device, truth))


def write_json(path: pathlib.Path, results: list[dict[str, Any]], versions: dict[str, Any]) -> None:
    path.write_text(json.dumps({"versions": versions, "results": results}, indent=1))


def _plain(result: Result) -> dict[str, Any]:
    judged = {"output": result.outputs, "gradient": result.gradients}
    return {
        "group": result.group,
        "name": result.name,
        "dtype": result.dtype,
        "mistake": result.mistake,
        "status": result.status,
        "failed": result.failed if result.case else not good(result),
        "wrong": result.wrong,
        "unjudged": result.unjudged,
        **{n: plain_block(v.worst) if v.blocks else None for n, v in judged.items()},
        "slack": result.slack,
        "steps": result.steps,
        "seconds": round(result.seconds, 3),
    }
