"""The pictures of a report."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib import colors, ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..criterion import Block
from .html import BAD, GOOD
from .maps import Map


GREY = "#8a8a8a"
WITHIN_AND_BEYOND = colors.LinearSegmentedColormap.from_list(
    "within and beyond", ["#08519c", "#6baed6", "#f2f2f2", "#f4a261", "#b34700"]
)
MAPS = 10  # of a report
COLOURS = (
    "Colours: the error of each number, in parts of what is allowed on the average of its tensor, "
    "gate, layer or step; blue within, orange beyond. Of a batch the largest."
)


def pictures(
    blocks: Sequence[Block], maps: Sequence[Map], first: Block | None
) -> Iterator[tuple[Figure, str]]:
    """Yields figures and their descriptions; `first` is the block of the first difference."""
    yield _scatter(blocks, first), "JAX's error against torch's own, of every block"
    largest = max([3.0, *(float(np.nanmax(each.used, initial=0)) for each in maps)])
    decades = int(np.ceil(np.log10(min(largest, 1e30))))
    for each in maps[:MAPS]:
        mark = first if first is not None and first.tensor == each.tensor else None
        yield _heat(each, max(decades, 3), mark), f"error within {each.tensor}"


def _scatter(blocks: Sequence[Block], first: Block | None) -> Figure:
    """JAX's error over torch's own, a mark for each block; blocks above the line differ."""
    figure = Figure(figsize=(5.2, 4.2))
    axes = figure.subplots()
    blocks = [block for block in blocks if np.isfinite(block.error) and block.allowed > 0]
    least = min((block.allowed for block in blocks), default=1.0) / 1e3  # where 0 is drawn
    place = lambda block: (max(block.own, least), max(block.error, least))
    for beyond, colour, mark in [(False, GOOD, "o"), (True, BAD, "X")]:
        if points := [place(block) for block in blocks if (block.used > 1) == beyond]:
            label = f"{len(points)} {'beyond' if beyond else 'within'} what is allowed"
            owns, errors = zip(*points, strict=True)
            axes.scatter(owns, errors, s=30 + 14 * beyond, c=colour, marker=mark, alpha=0.75,
                         linewidths=0, label=label)  # fmt: skip
    several = [block for block in blocks if block.label] or blocks
    if line := sorted((max(block.own, least), block.allowed) for block in several):
        owns, allowed = zip(*line, strict=True)
        axes.plot(owns, allowed, color="#333", linewidth=1, label="allowed")
    if first is not None:
        own, error = place(first)
        _circle(axes, own, error, 13, f"first difference: {first.tensor}{_label(first)}")
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


def _heat(shown: Map, decades: int, first: Block | None) -> Figure:
    """Time goes to the right, rows and layers downwards; zero is drawn as a thousandth."""
    steps = shown.axes[0] == "time step"
    used, (down, right) = shown.used, shown.axes
    if steps:
        used, down, right = used.T, right, down
    height, width = used.shape
    size = (min(max(3.6, 0.2 * width + 1.6), 9), min(max(2.2, 0.14 * height + 1.2), 4.5))
    figure = Figure(figsize=size)
    axes = figure.subplots()
    scale = colors.TwoSlopeNorm(0, -3, decades)
    exponents = np.log10(np.maximum(used.astype(float), 1e-3))
    picture = axes.imshow(exponents, cmap=WITHIN_AND_BEYOND, norm=scale, aspect="auto",
                          interpolation="nearest")  # fmt: skip
    axes.set_facecolor(GREY)  # of what was not judged
    ticks = {-3: "1/1000", 0: "allowed", decades: f"× $10^{{{decades}}}$"}
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
    if first is not None:
        row, column = first.worst[shown.axis], first.worst[-1]
        x, y = (row, column) if steps else (column, row)
        _circle(axes, x, y, 11)
        axes.set_title(f"○ first difference{_label(first)}", loc="right", fontsize=9)
    return figure


def _circle(axes: Axes, x: float, y: float, size: float, label: str | None = None) -> None:
    axes.plot(x, y, "o", ms=size, mfc="none", mec="black", mew=1.6, label=label)


def _label(block: Block) -> str:
    return f", {block.label}" if block.label else ""
