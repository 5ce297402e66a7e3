"""`voices`: every installed framework computes the same networks."""

import argparse
import pathlib
import time
from collections import Counter
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..frameworks import voices
from ..frameworks.voices import APART, Answer, alone, version_of
from ..report.blocks import finite
from ..report.tables import versions, versions_line, write_json
from ..workers import spread
from .common import add_filter, add_json, check_file, print_missing, progress


WORDS = {"agrees": "agree", "DIFFERS": "differ", "failed": "failed"}


def run(console: Console, command: str, arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        "python -m parity voices",
        description="Has jaxrnn, torch, numpy and every other framework that is installed compute "
        "the same networks; of those who disagree, says who stands alone. Exit status 1 on any "
        "disagreement.",
    )
    add_filter(parser, "--cell", voices.KINDS)
    add_filter(parser, "--dtype", voices.WIDTHS)
    add_filter(parser, "--voice", voices.VOICES)
    add_json(parser)
    options = parser.parse_args(arguments)

    asked = options.voice or [*voices.VOICES]
    names = voices.installed(asked)
    print_missing(console, asked, names)
    if len(names) < 3:
        parser.error(f"a majority takes at least 3 voices, got {', '.join(names) or 'none'}")
    check_file(parser, "--json", options.json)
    work = [
        voices.Job(case, dtype, tuple(names))
        for case in voices.networks(options.cell or [*voices.KINDS])
        for dtype in options.dtype or voices.WIDTHS
    ]
    start = time.perf_counter()
    order = {(job.case.group, job.dtype): i for i, job in enumerate(work)}
    results = progress(console, spread(voices.run, work), len(work) * len(names))
    results.sort(key=lambda r: (order[r.network, r.dtype], names.index(r.voice)))
    _show(console, results)
    console.print(versions_line("cpu"))
    console.print(_verdict(results, time.perf_counter() - start))
    if options.json:
        _write(options.json, results)
    return int(any(result.status in voices.APART for result in results))


def _show(console: Console, results: Sequence[Answer]) -> None:
    """Prints a line for each voice, why some are silent, and which stand alone."""
    console.print(_table(results))
    for voice, answers in _by_voice(results).items():
        if reasons := Counter(answer.why for answer in answers if answer.status == "other"):
            listed = "; ".join(f"{why} ({n})" for why, n in reasons.items())
            console.print(escape(f"{voice} is silent: {listed}"))
    lines = lambda status: [
        escape(f"{r.voice}, {r.where}: {r.why}") for r in results if r.status == status
    ]
    for line in lines("failed"):
        console.print(f"[bold red]FAILED[/] {line}")
    for line in alone(results):
        console.print(f"[bold red]DISAGREE[/] {escape(line)}")
    for line in lines("DIFFERS"):
        console.print(f"    {line}")


def _by_voice(results: Sequence[Answer]) -> dict[str, list[Answer]]:
    voices = dict.fromkeys(result.voice for result in results)
    return {voice: [r for r in results if r.voice == voice] for voice in voices}


def _table(results: Sequence[Answer]) -> Table:
    """Makes a table of a row for each voice, with a line for each dtype; it fits 80 columns."""
    kinds = list(dict.fromkeys(result.kind for result in results))
    dtypes = list(dict.fromkeys(result.dtype for result in results))
    heads = ("voice", "version", *kinds, "of allowed", "verdict")
    table = Table(*heads, box=box.SIMPLE, padding=(0, 1, 0, 0))
    for column in table.columns:
        column.overflow = "fold"
    for voice, answers in _by_voice(results).items():
        figures = ["\n".join(_error(answers, kind, dtype) for dtype in dtypes) for kind in kinds]
        counts = Counter(WORDS[r.status] for r in answers if r.status in WORDS)
        status = "\n".join(f"{n} {word}" for word, n in counts.items()) or "silent"
        style = "red" if any(r.status in APART for r in answers) else None
        most = max((r.used for r in answers if r.used is not None), default=None)
        used = "–" if most is None else f"{most:.0%}"
        table.add_row(voice, version_of(voice), *figures, used, status, style=style)
    table.caption = f"errors of what used most of its allowance, in {', then '.join(dtypes)}"
    return table


def _error(results: Sequence[Answer], kind: str, dtype: str) -> str:
    """The error of the part that used most of its allowance."""
    judged = [r for r in results if (r.kind, r.dtype) == (kind, dtype) and r.used is not None]
    worst = max(judged, key=lambda r: r.used or 0, default=None)
    return "–" if worst is None else f"{worst.error:.1e}"


def _verdict(results: Sequence[Answer], seconds: float) -> str:
    """The closing line."""
    where = lambda *statuses: {result.where for result in results if result.status in statuses}
    apart = len(where(*APART))
    return (
        f"{len({result.voice for result in results})} voices, {len(where('agrees', 'DIFFERS'))} "
        f"networks, {sum(result.status == 'agrees' for result in results)} answers that agree, "
        f"{apart} networks in which any differs or fails ({seconds:.0f} s)"
    )


def _write(path: pathlib.Path, results: Sequence[Answer]) -> None:
    """Writes everything as JSON."""
    packages = {"voices": {result.voice: version_of(result.voice) for result in results}}
    write_json(path, [finite(r._asdict()) for r in results], versions("cpu") | packages)
