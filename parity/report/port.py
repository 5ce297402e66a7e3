"""What was found of one port: it prints, and goes into JSON and into a page with pictures."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..criterion import (
    Arrays,
    Block,
    Cut,
    Verdict,
    parts,
    rms,
)
from ..pair import Pair, Reference, cuts_of, judge_run
from . import tables as report


ROWS = 24  # of a printed table


class Map(NamedTuple):
    """Where in a tensor the error is, in parts of what is allowed: `used`, (rows, columns).

    Of time steps, layers and states the largest of the batch. `labels` are those of its blocks,
    which lie along the rows, the tensor's `axis`.
    """

    tensor: str
    used: np.ndarray
    axis: int
    axes: tuple[str, str]
    labels: list[str]


class Row(NamedTuple):
    """Of a tensor the block that used most of its allowance; None if it was not judged."""

    tensor: str
    shape: tuple[int, ...]
    block: Block | None
    wrong: bool


class Report(NamedTuple):
    """Whether a port agrees, and where it does not.

    `outputs` and `gradients` hold every block that was judged, what is wrong and what could not be
    judged; `remarks` what may explain it; `about` versions and settings.
    """

    name: str
    outputs: Verdict
    gradients: Verdict
    shapes: Mapping[str, tuple[int, ...]]
    remarks: Sequence[str]
    about: Mapping[str, str]
    maps: Sequence[Map]

    @property
    def wrong(self) -> list[str]:
        return self.outputs.wrong + self.gradients.wrong

    @property
    def unjudged(self) -> list[str]:
        return self.outputs.unjudged + self.gradients.unjudged

    @property
    def passed(self) -> bool:
        """All agrees, and all could be judged."""
        return not self.wrong and not self.unjudged

    @property
    def blocks(self) -> list[Block]:
        return self.outputs.blocks + self.gradients.blocks

    @property
    def first(self) -> str | None:
        """The first disagreement: outputs in their order, each in the order of time; gradients."""
        return next(iter(self.wrong), None)

    @property
    def headline(self) -> str:
        """How many tensors agree."""
        bad, count = sum(row.wrong for row in self.rows()), len(self.shapes)
        if self.passed:
            return f"{count} of {count} tensors agree"
        told = [f"{bad} of {count} tensors differ"] if bad else []
        told = told or [f"the outputs are not torch's ({self.first})"] if self.wrong else []
        told += [f"cannot be judged in full: {', '.join(self.unjudged)}"] if self.unjudged else []
        return "; ".join(told)

    def rows(self) -> list[Row]:
        """Every tensor, in the order of outputs and parameters."""
        worst: dict[str, Block] = {}
        for block in self.blocks:
            if block.tensor not in worst or block.used > worst[block.tensor].used:
                worst[block.tensor] = block
        wrong = lambda name: any(line.startswith((f"{name}:", f"{name},")) for line in self.wrong)
        return [Row(n, shape, worst.get(n), wrong(n)) for n, shape in self.shapes.items()]

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    def to_json(self) -> str:
        """Everything but the maps; what is infinite or no number is null."""
        fields = ("name", "headline", "passed", "first", "wrong", "unjudged", "remarks", "about")
        plain = {field: getattr(self, field) for field in fields}
        plain["shapes"] = {name: list(shape) for name, shape in self.shapes.items()}
        plain["blocks"] = [report.plain_block(block) for block in self.blocks]
        return json.dumps(plain, indent=1, allow_nan=False)

    def to_html(self) -> str:
        """One page with pictures, that needs nothing else; takes matplotlib."""
        from .pictures import page

        return page([self])


def report_of(pair: Pair, reference: Reference, found: Arrays, remarks: Sequence[str]) -> Report:
    """Judges what JAX found."""
    outputs, gradients, _ = judge_run(pair, reference, found)
    plain = reference.runs[0]
    cut = cuts_of(pair, reference)
    shapes = {name: a.shape for name, a in plain.items()}
    bare = Report(pair.name, outputs, gradients, shapes, remarks, _about(reference), [])
    shown = [
        row.tensor
        for row in bare.rows()
        if row.block is not None and len(row.shape) > 1
        if row.wrong or row.tensor in pair.outputs or cut(row.tensor).labels[:1] == ["step 0"]
    ]
    shown.sort(key=lambda name: name.removeprefix("grad ") in reference.data.params)  # come last
    blocks = lambda name: [block for block in bare.blocks if block.tensor == name]
    return bare._replace(
        maps=[_map(reference.truth[n], found[n], cut(n), blocks(n)) for n in shown]
    )


def _map(truth: np.ndarray, found: np.ndarray, cut: Cut, blocks: Sequence[Block]) -> Map:
    error = np.abs(found.astype(np.longdouble) - truth)
    used, places = np.full(truth.shape, np.nan), parts(truth.shape, cut)
    for block in blocks[:1] if len(places) == 1 else [b for b in blocks if b.label]:
        at = places[1 + cut.labels.index(block.label) if block.label else 0]
        used[at] = error[at] / (block.allowed * (rms(truth[at]) or 1.0))
    tensor, kind = blocks[0].tensor, cut.labels[0].partition(" ")[0] if len(places) > 1 else ""
    rows = cut.axis if kind else truth.ndim - 2
    others = tuple(axis for axis in range(truth.ndim - 1) if axis != rows)
    names = {"step": "time step", "layer": "layer", "gate": "row"}
    is_weight = kind == "gate" or (cut.batch_axis is None and truth.ndim == 2)
    axes = (
        names.get(kind, "row" if is_weight else "batch row"),
        "column" if is_weight else "feature",
    )
    return Map(tensor, used.max(axis=others), rows, axes, cut.labels if kind else [])


def _lines(of: Report) -> Iterator[str]:
    """The verdict, the first disagreement, a table, what is not in it, and what it was run with."""
    yield f"{of.name}: {of.headline}"
    if of.first:
        yield f"first: {of.first}"
    rows = of.rows()
    kept = sorted(rows, key=lambda row: (row.wrong, row.block.used if row.block else 0))[-ROWS:]
    table = [[*HEAD], *(cells(row) for row in rows if row in kept)]
    widths = [max(len(line[i]) for line in table) for i in range(len(HEAD))]
    yield ""
    for line in table:
        padded = [f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)]
        yield "  ".join([line[0].ljust(widths[0]), *padded[1:-1], line[-1]]).rstrip()
    if len(rows) > len(kept):
        yield f"… and {len(rows) - len(kept)} more, none nearer to what is allowed"
    yield ""
    told = {str(block) for block in of.blocks} | {of.first}
    yield from (f"wrong: {line}" for line in of.wrong if line not in told)
    yield from (f"not judged: {name}" for name in of.unjudged)
    yield from (f"note: {line}" for line in of.remarks)
    yield ", ".join(f"{name} {value}" for name, value in of.about.items())


HEAD = ("", "shape", "JAX's error", "torch's own", "allowed", "ratio", "worst at", "")


def cells(row: Row) -> list[str]:
    shape, mark = str(list(row.shape)), "differs" if row.wrong else ""
    if row.block is None:
        return [row.tensor, shape, *[""] * 5, mark]
    tensor, label, error, own, allowed, worst, _ = row.block
    name = f"{tensor}, {label}" if label else tensor
    figures = [f"{figure:.1e}" for figure in (error, own, allowed)]
    ratio = f"{error / own:.2g}" if own else "–" if error == 0 else "∞"
    return [name, shape, *figures, ratio, str(list(worst)), mark]


def _about(reference: Reference) -> dict[str, str]:
    return {
        "dtype": reference.dtype,
        **report.versions(reference.device, report.TRUTH_OF_TEXTS),
        "jax_enable_x64": "on" if reference.dtype == "float64" else "off",
        "matmul precision": "highest",
    }
