"""The report on one port: as text, as JSON, and as an HTML page with pictures."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ..criterion import Arrays, Block, Verdict
from ..pair import Pair, Reference, Result, cuts_of, judge_run
from . import html, tables
from .blocks import plain_block, ratio, text_table, worst_blocks
from .maps import Map, map_of


ROWS = 24  # of a printed table
HEAD = ("", "shape", "JAX's error", "torch's own", "allowed", "ratio", "worst at", "")


class Row(NamedTuple):
    """A tensor, and its block that used most of its allowance; None if it was not judged."""

    tensor: str
    shape: tuple[int, ...]
    block: Block | None
    wrong: bool


class Report(NamedTuple):
    """Whether a port agrees, and where it does not.

    `result` holds the verdicts on `outputs` and `gradients`: every block that was judged, what is
    wrong and what could not be judged. `remarks` may explain it; `about` has versions and settings.
    """

    result: Result
    shapes: Mapping[str, tuple[int, ...]]
    remarks: Sequence[str]
    about: Mapping[str, str]
    maps: Sequence[Map]

    @property
    def name(self) -> str:
        return self.result.name

    @property
    def outputs(self) -> Verdict:
        return self.result.outputs

    @property
    def gradients(self) -> Verdict:
        return self.result.gradients

    @property
    def wrong(self) -> list[str]:
        return self.result.wrong

    @property
    def unjudged(self) -> list[str]:
        return self.result.unjudged

    @property
    def passed(self) -> bool:
        """Whether all agrees and all could be judged."""
        return self.result.passed

    @property
    def blocks(self) -> list[Block]:
        return self.result.verdict.blocks

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
        parts = [f"{bad} of {count} tensors differ"] if bad else []
        parts = parts or [f"the outputs are not torch's ({self.first})"] if self.wrong else []
        parts += [f"cannot be judged in full: {', '.join(self.unjudged)}"] if self.unjudged else []
        return "; ".join(parts)

    def rows(self) -> list[Row]:
        """Every tensor, in the order of outputs and parameters."""
        worst = worst_blocks(self.blocks)
        wrong = lambda name: any(line.startswith((f"{name}:", f"{name},")) for line in self.wrong)
        return [Row(n, shape, worst.get(n), wrong(n)) for n, shape in self.shapes.items()]

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    def to_json(self) -> str:
        """Everything but the maps; what is infinite or no number is null."""
        fields = ("name", "headline", "passed", "first", "wrong", "unjudged", "remarks", "about")
        plain = {field: getattr(self, field) for field in fields}
        plain["shapes"] = {name: list(shape) for name, shape in self.shapes.items()}
        plain["blocks"] = [plain_block(block) for block in self.blocks]
        return json.dumps(plain, indent=1, allow_nan=False)

    def to_html(self) -> str:
        """One page with pictures, that needs nothing else; takes matplotlib."""
        return page([self])


def report_of(pair: Pair, reference: Reference, results: Arrays, remarks: Sequence[str]) -> Report:
    """Judges the arrays of the JAX side, and says where they differ."""
    result = judge_run(pair, reference, results)
    plain = reference.runs[0]
    cut = cuts_of(pair, reference)
    shapes = {name: a.shape for name, a in plain.items()}
    bare = Report(result, shapes, remarks, _about(reference), [])
    shown = [
        row.tensor
        for row in bare.rows()
        if row.block is not None and len(row.shape) > 1
        if row.wrong or row.tensor in pair.outputs or cut(row.tensor).labels[:1] == ["step 0"]
    ]
    shown.sort(key=lambda name: name.removeprefix("grad ") in reference.data.params)  # come last
    blocks = lambda name: [block for block in bare.blocks if block.tensor == name]
    return bare._replace(
        maps=[map_of(reference.truth[n], results[n], cut(n), blocks(n)) for n in shown]
    )


def _about(reference: Reference) -> dict[str, str]:
    return {
        "dtype": reference.dtype,
        **tables.versions(reference.device, tables.TRUTH_OF_TEXTS),
        "jax_enable_x64": "on" if reference.dtype == "float64" else "off",
        "matmul precision": "highest",
    }


def page(reports: Sequence[Report]) -> str:
    """Returns one HTML page of all reports."""
    return html.page([(report.name, report.passed, section(report)) for report in reports])


def section(report: Report) -> str:
    """Returns the verdict, the table, the pictures and the settings as HTML."""
    from .pictures import COLOURS, pictures  # takes matplotlib

    first = next((block for block in report.blocks if str(block) == report.first), None)
    wrong = [f"first: {report.first}"] if report.first else []
    notes = [*(f"not judged: {name}" for name in report.unjudged), *report.remarks]
    rows = [(_cells(row), row.wrong) for row in report.rows()]
    figures = pictures(report.blocks, report.maps, first)
    return "".join(
        [
            html.verdict(report.passed, report.headline, [*wrong, *_not_in_table(report)]),
            *(html.paragraph(note, "note") for note in notes),
            "<h3>Every tensor, by its worst part</h3>",
            html.table(["tensor", *HEAD[1:]], rows),
            "<h3>Where</h3>",
            html.paragraph(COLOURS, "note"),
            '<div class="pictures">',
            *(html.image(figure, description) for figure, description in figures),
            "</div>",
            f"<footer>{html.paragraph(_settings(report))}</footer>",
        ]
    )


def _lines(report: Report) -> Iterator[str]:
    """The verdict, the first disagreement, a table, what is not in it, and the settings."""
    yield f"{report.name}: {report.headline}"
    if report.first:
        yield f"first: {report.first}"
    rows = report.rows()
    kept = sorted(rows, key=lambda row: (row.wrong, row.block.used if row.block else 0))[-ROWS:]
    yield ""
    table = [HEAD, *(_cells(row) for row in rows if row in kept)]
    yield from text_table(table, right=range(1, len(HEAD) - 1))
    if len(rows) > len(kept):
        yield f"… and {len(rows) - len(kept)} more, none nearer to what is allowed"
    yield ""
    yield from (f"wrong: {line}" for line in _not_in_table(report))
    yield from (f"not judged: {name}" for name in report.unjudged)
    yield from (f"note: {line}" for line in report.remarks)
    yield _settings(report)


def _not_in_table(report: Report) -> list[str]:
    """What is wrong, without blocks and the first disagreement, which stand elsewhere."""
    shown = {str(block) for block in report.blocks} | {report.first}
    return [line for line in report.wrong if line not in shown]


def _settings(report: Report) -> str:
    return ", ".join(f"{name} {value}" for name, value in report.about.items())


def _cells(row: Row) -> list[str]:
    shape, mark = str(list(row.shape)), "differs" if row.wrong else ""
    if row.block is None:
        return [row.tensor, shape, *[""] * 5, mark]
    tensor, label, error, own, allowed, worst, _ = row.block
    name = f"{tensor}, {label}" if label else tensor
    figures = [f"{figure:.1e}" for figure in (error, own, allowed)]
    return [name, shape, *figures, ratio(error, own, ".2g"), str(list(worst)), mark]
