"""Reports with pictures, for an HTML page."""

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from matplotlib import colors, ticker
from matplotlib.figure import Figure

from ..criterion import Block
from .html import BAD, GOOD, frame
from .port import HEAD, Map, Report, cells


GREY = "#8a8a8a"
WITHIN_AND_BEYOND = colors.LinearSegmentedColormap.from_list(
    "within and beyond", ["#08519c", "#6baed6", "#f2f2f2", "#f4a261", "#b34700"]
)
MAPS = 10  # of a report
COLOURS = (
    "Colours: the error of each number, in parts of what is allowed on the average of its tensor, "
    "gate, layer or step; blue within, orange beyond. Of a batch the largest."
)


def page(reports: Sequence[Report]) -> str:
    """One page of reports."""
    return frame([(report.name, report.passed, section(report)) for report in reports])


def section(report: Report) -> str:
    """The verdict, the table, the pictures, and what it was run with."""
    known = {str(block) for block in report.blocks} | {report.first}
    told = [f"first: {report.first}"] if report.first else []
    told += [line for line in report.wrong if line not in known]
    notes = [*(f"not judged: {name}" for name in report.unjudged), *report.remarks]
    pictures = [(_scatter(report), "JAX's error against torch's own, of every block")]
    pictures += [(_heat(report, m), f"error within {m.tensor}") for m in report.maps[:MAPS]]
    about = ", ".join(f"{name} {value}" for name, value in report.about.items())
    paragraph = lambda line, kind="": f'<p class="{kind}">{html.escape(line)}</p>'
    return "".join(
        [
            f'<div class="verdict {"" if report.passed else "differs"}">',
            f"<p><b>{html.escape(report.headline)}</b></p>",
            *(paragraph(line) for line in told),
            "</div>",
            *(paragraph(line, "note") for line in notes),
            f'<h3>Every tensor, by its worst part</h3><div class="scroll">{_table(report)}</div>',
            "<h3>Where</h3>",
            paragraph(COLOURS, "note"),
            *('<div class="pictures">', *(_image(*picture) for picture in pictures), "</div>"),
            f"<footer>{paragraph(about)}</footer>",
        ]
    )


def _table(report: Report) -> str:
    line = lambda cells, tag: "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
    rows = [
        f'<tr class="{"differs" if row.wrong else ""}">{line(cells(row), "td")}</tr>'
        for row in report.rows()
    ]
    return f"<table><tr>{line(['tensor', *HEAD[1:]], 'th')}</tr>{''.join(rows)}</table>"


def _image(figure: Figure, alt: str) -> str:
    """As SVG: sharp at any size, and within an `<img>` no name in it meets another's."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/svg+xml;base64,{data}">'


def _scatter(report: Report) -> Figure:
    """JAX's error over torch's own, a mark for each block; beyond the line is what differs."""
    figure = Figure(figsize=(5.2, 4.2))
    axes = figure.subplots()
    blocks = [block for block in report.blocks if np.isfinite(block.error) and block.allowed > 0]
    least = min((block.allowed for block in blocks), default=1.0) / 1e3  # where 0 is drawn
    place = lambda block: (max(block.own, least), max(block.error, least))
    for beyond, colour, mark in [(False, GOOD, "o"), (True, BAD, "X")]:
        if some := [place(block) for block in blocks if (block.used > 1) == beyond]:
            label = f"{len(some)} {'beyond' if beyond else 'within'} what is allowed"
            axes.scatter(*zip(*some, strict=True), s=30 + 14 * beyond, c=colour, marker=mark,
                         alpha=0.75, linewidths=0, label=label)  # fmt: skip
    several = [block for block in blocks if block.label] or blocks
    if line := sorted((max(block.own, least), block.allowed) for block in several):
        axes.plot(*zip(*line, strict=True), color="#333", linewidth=1, label="allowed")
    for block in _first(report):
        axes.plot(*place(block), "o", ms=13, mfc="none", mec="black", mew=1.6,
                  label=f"first difference: {block.tensor}{_label(block)}")  # fmt: skip
    owns = [place(block)[0] for block in blocks] or [1.0]
    axes.set(xscale="log", yscale="log", xlim=(min(owns) / 3, max(owns) * 3))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes.set(xlabel="torch's own error, relative", ylabel="JAX's error, relative")
    axes.set_title("Each tensor, gate, layer and step", loc="left", fontsize=11)
    axes.legend(frameon=False, fontsize=9)
    axes.grid(color="#eee")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _heat(report: Report, shown: Map) -> Figure:
    """Time goes to the right, rows and layers downwards; zero is drawn as a thousandth."""
    steps = shown.axes[0] == "time step"
    used, (down, right) = shown.used, shown.axes
    if steps:
        used, down, right = used.T, right, down
    decades = np.log10(np.maximum(used.astype(float), 1e-3))
    most = max(3, *(np.nanmax(each.used, initial=0) for each in report.maps))
    (height, width), top = used.shape, int(np.ceil(np.log10(min(float(most), 1e30))))
    size = (min(max(3.6, 0.2 * width + 1.6), 9), min(max(2.2, 0.14 * height + 1.2), 4.5))
    figure = Figure(figsize=size)
    axes = figure.subplots()
    scale = colors.TwoSlopeNorm(0, -3, max(top, 3))
    picture = axes.imshow(decades, cmap=WITHIN_AND_BEYOND, norm=scale, aspect="auto",
                          interpolation="nearest")  # fmt: skip
    axes.set_facecolor(GREY)  # of what was not judged
    ticks = {-3: "1/1000", 0: "allowed", scale.vmax: f"× $10^{{{scale.vmax:.0f}}}$"}
    bar = figure.colorbar(picture)
    bar.ax.set_yscale("linear")  # a decade is as long on both sides
    bar.set_ticks([*ticks], labels=[*ticks.values()], fontsize=8)
    bar.outline.set_visible(False)
    axes.set_title(shown.tensor, loc="left", fontsize=11)
    axes.set(xlabel=right, ylabel=down)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(ticker.MaxNLocator("auto", integer=True))
    if shown.labels and not steps:
        edges = np.linspace(0, height, len(shown.labels) + 1) - 0.5
        axes.set_yticks((edges[1:] + edges[:-1]) / 2, shown.labels)
        axes.hlines(edges[1:-1], -0.5, width - 0.5, "#333", lw=0.8)
    axes.spines[:].set_visible(False)
    for block in _first(report):
        if block.tensor == shown.tensor:
            at = (block.worst[shown.axis], block.worst[-1])
            axes.plot(*(at if steps else at[::-1]), "o", ms=11, mfc="none", mec="black", mew=1.6)
            axes.set_title(f"○ first difference{_label(block)}", loc="right", fontsize=9)
    return figure


def _first(report: Report) -> list[Block]:
    """The block in which the first difference is, if it is in one."""
    return [block for block in report.blocks if str(block) == report.first]


def _label(block: Block) -> str:
    return f", {block.label}" if block.label else ""
