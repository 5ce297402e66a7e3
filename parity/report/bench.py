"""The bench's results: tables, JSON, a comparison with an earlier run, a picture."""

import importlib.metadata
import json
import math
import os
import pathlib
import platform
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import jax
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..frameworks.bench import Row, geometric_mean
from ..frameworks.bench_worker import Settings, xla_flags
from ..frameworks.peers import DISTRIBUTIONS
from .tables import processor


OURS = ("jaxrnn", "jaxrnn scan")
TORCHES = ("torch", "torch.compile")
BUSY = 0.3  # load before the start, in cores, that calls for a warning
DRIFT = 0.1  # how much the calibration may change from start to end

Machine = dict[str, Any]


def machine(settings: Settings, names: Sequence[str]) -> Machine:
    """Describes the machine and the packages; its load is that before anything is started."""
    cpu = settings.device == "cpu"
    packages = sorted({DISTRIBUTIONS[name] for name in names} | {"jaxlib", "numpy"})
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "device": processor() if cpu else jax.devices(settings.device)[0].device_kind,
        "cores": os.cpu_count(),
        "threads": settings.threads,
        "load": os.getloadavg()[0],
        "xla_flags": xla_flags(settings),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }


def about(machine: Machine) -> str:
    """Returns the lines above all tables."""
    versions = {"python": machine["python"], **machine["versions"]}
    flags = f", XLA_FLAGS={machine['xla_flags']}" if machine["xla_flags"] else ""
    return (
        f"{machine['date']}: {machine['device']}, {machine['cores']} cores, "
        f"{machine['threads']} threads each, load {machine['load']:.2f}{flags}\n"
        f"measured here: a product reaches {machine['gflops']:.0f} GFLOP/s, a copy "
        f"{machine['gb_per_s']:.0f} GB/s\n" + ", ".join(f"{k} {v}" for k, v in versions.items())
    )


def warnings(machine: Machine) -> list[str]:
    """Returns what may have disturbed the figures."""
    lines = []
    if machine["load"] > BUSY:
        lines.append(f"the machine was busy before the start: load {machine['load']:.2f}")
    for name, what, unit in (("gflops", "product", "GFLOP/s"), ("gb_per_s", "copy", "GB/s")):
        before, after = machine[name], machine["at_end"][name]
        if _drifted(before, after):
            lines.append(f"a {what} went from {before:.0f} to {after:.0f} {unit}: repeat this idle")
    return lines


def _drifted(before: float, after: float) -> bool:
    return abs(math.log(after / before)) > math.log1p(DRIFT)


def show(console: Console, rows: Sequence[Row]) -> None:
    """Prints all figures, then how many times faster jaxrnn is."""
    for mode, cell in dict.fromkeys((row.mode, row.cell) for row in rows):
        _print(console, _figures([r for r in rows if (r.mode, r.cell) == (mode, cell)]))
    for line in _notes(rows):
        console.print(escape(line))
    for mode in dict.fromkeys(row.mode for row in rows):
        if any(row.ratio for row in rows if row.mode == mode):
            _print(console, _ratios([row for row in rows if row.mode == mode]))


def _figures(rows: Sequence[Row]) -> Table:
    """A line for each implementation, shape by shape."""
    heads = "trace s", "compile s", "first ms", "median ms", "p10–p90 ms", "µs/step"
    heads = "", *heads, "seqs /s", "GFLOP /s", "of peak", "temp MB", "error"
    table = _table(f"{rows[0].cell}, {rows[0].mode}", heads)
    for shape in dict.fromkeys(row.shape for row in rows):
        table.add_row(shape, style="bold")
        for row in (row for row in rows if row.shape == shape):
            name = f"{row.implementation} ({row.picked})" if row.picked else row.implementation
            table.add_row(
                f"  {name}",
                _figure(row.trace),
                _figure(row.compile),
                _ms(row.first),
                _ms(row.median),
                "–" if row.p10 is None else f"{_ms(row.p10)}–{_ms(row.p90)}",
                *map(_figure, (row.us_per_step, row.sequences_per_s, row.gflops)),
                "–" if row.of_peak is None else f"{row.of_peak:.0%}",
                _figure(None if row.temp_bytes is None else row.temp_bytes / 1e6),
                "–" if row.error is None else f"{row.error:.0e}",
            )
    return table


def _ratios(rows: Sequence[Row]) -> Table:
    """A line for each network, a column for each other; the geometric means last."""
    names = [name for name in dict.fromkeys(r.implementation for r in rows) if name != "jaxrnn"]
    table = _table(f"{rows[0].mode}: × faster than", ["", "jaxrnn ms", *names, "best JAX"])
    columns: dict[str, list[float]] = {name: [] for name in (*names, "best JAX")}
    for cell, shape in dict.fromkeys((row.cell, row.shape) for row in rows):
        line = {r.implementation: r for r in rows if (r.cell, r.shape) == (cell, shape)}
        ratios = {name: row.ratio for name, row in line.items() if row.ratio}
        peers = [ratio for name, ratio in ratios.items() if name not in (*OURS, *TORCHES)]
        texts = []
        for name, column in columns.items():
            ratio = ratios.get(name) if name in line else min(peers, default=None)
            column += [ratio] if ratio else []
            star = "*" if name in line and line[name].remark else ""
            texts.append(f"{ratio:.2f}{star}" if ratio else "–")
        table.add_row(f"{cell} {shape}", _ms(line["jaxrnn"].median), *texts)
    means = [f"{geometric_mean(column):.2f}" if column else "–" for column in columns.values()]
    table.add_row("geometric mean", "", *means, style="bold")
    return table


def _notes(rows: Sequence[Row]) -> list[str]:
    """Returns why jaxrnn picked its implementations, and why others lack figures."""
    notes: dict[str, list[str]] = {}
    for row in rows:
        where = f"{row.cell} {row.shape}"
        if row.why:
            notes.setdefault(f"jaxrnn picked {row.picked}: {row.why}", []).append(where)
        if row.remark:
            star = "* " if row.median else ""
            notes.setdefault(f"{star}{row.implementation}: {row.remark}", []).append(where)
    return [f"{note} ({'; '.join(dict.fromkeys(where))})" for note, where in notes.items()]


def _table(title: str, heads: Sequence[str]) -> Table:
    """Makes a table whose lines are never folded, since a file has no width."""
    table = Table(title=title, box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for head in heads:
        table.add_column(
            head.replace(" ", "\n"), no_wrap=True, justify="right" if table.columns else "left"
        )
    return table


def _print(console: Console, table: Table) -> None:
    options = console.options.update(max_width=1000)
    table.width = console.measure(table, options=options).maximum
    console.print(table)


def _figure(value: float | None) -> str:
    """Formats a number with three digits, or with all before the point."""
    return "–" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _ms(seconds: float | None) -> str:
    return _figure(seconds and seconds * 1e3)


def write(path: pathlib.Path, machine: Machine, rows: Iterable[Row]) -> None:
    """Writes everything as JSON."""
    plain = {"machine": machine, "rows": [row._asdict() for row in rows]}
    path.write_text(json.dumps(plain, indent=1))


def read(path: pathlib.Path) -> tuple[Machine, list[Row]]:
    """Reads what `write` wrote.

    Raises:
        ValueError: the file is another one.
    """
    try:
        plain = json.loads(path.read_text())
        if not {"date", "device", "threads", "gflops"} <= plain["machine"].keys():
            raise ValueError("no machine in it")
        return plain["machine"], [Row(**row) for row in plain["rows"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} was not written by --json of this command: {error}") from None


def change(old: Row, new: Row) -> tuple[float, str]:
    """Returns how many times faster `new` is, and whether that exceeds the spread of both runs."""
    if not old.median or not new.median:
        return math.nan, "not measured"
    spread = lambda row: (row.p90 - row.p10) / 2 / row.median
    ratio, noise = old.median / new.median, 1 + math.hypot(spread(old), spread(new))
    return ratio, "faster" if ratio > noise else "slower" if ratio < 1 / noise else "within noise"


def show_changes(
    console: Console, before: tuple[Machine, list[Row]], machine: Machine, rows: Sequence[Row]
) -> None:
    """Prints a line for each row that both runs have, and what else has changed."""
    key = lambda row: (row.cell, row.mode, row.shape, row.implementation)
    earlier, old = before[0], {key(row): row for row in before[1]}
    rows = [row for row in rows if key(row) in old]
    if not rows:
        console.print(f"nothing of this was measured on {earlier['date']}")
        return
    table = _table(f"since {earlier['date']}", ["", "ms", "now", "× faster", ""])
    for row in rows:
        ratio, verdict = change(old[key(row)], row)
        style = {"faster": "green", "slower": "red"}.get(verdict)
        times = (_ms(old[key(row)].median), _ms(row.median))
        table.add_row(" ".join(key(row)), *times, f"{ratio:.2f}", verdict, style=style)
    _print(console, table)
    for name in ("device", "threads", "xla_flags", "python"):
        if earlier[name] != machine[name]:
            console.print(f"not the same: {name} was {earlier[name]}, is {machine[name]}")
    versions = machine["versions"]
    for name, version in earlier["versions"].items():
        if version != versions.get(name, version):
            console.print(f"not the same: {name} was {version}, is {versions[name]}")
    speed, now = earlier["gflops"], machine["gflops"]
    if _drifted(speed, now):
        console.print(f"not as fast: a product reached {speed:.0f} GFLOP/s, now {now:.0f}")


def plot(path: pathlib.Path, rows: Sequence[Row]) -> None:
    """Draws the ratios over the grid."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    modes = list(dict.fromkeys(row.mode for row in rows))
    networks = list(dict.fromkeys(f"{row.cell} {row.shape}" for row in rows))
    others = [name for name in dict.fromkeys(r.implementation for r in rows) if name != "jaxrnn"]
    figure = Figure((4 + 0.5 * len(networks), 3.5 * len(modes)), layout="constrained")
    panels = figure.subplots(len(modes), sharex=True, squeeze=False)[:, 0]
    for axes, mode in zip(panels, modes, strict=True):
        for name in others:
            timed = [r for r in rows if (r.mode, r.implementation) == (mode, name) and r.ratio]
            places = [networks.index(f"{row.cell} {row.shape}") for row in timed]
            axes.plot(places, [row.ratio for row in timed], "o", label=name, markersize=4)
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set(yscale="log", title=mode, ylabel="its time by jaxrnn's")
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(ScalarFormatter())
        axes.set_xticks(range(len(networks)), networks, rotation=45, ha="right")
        axes.legend(ncols=2, fontsize=7)
    panels[-1].set_xlabel("cell B,T,I,H")
    figure.savefig(path, dpi=150)
