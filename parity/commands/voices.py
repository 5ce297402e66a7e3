"""`voices`: everyone who is installed computes the same networks."""

import argparse
import pathlib
import time
from collections.abc import Sequence

from rich.console import Console

from .. import report, voices
from ..run import run_voices
from .common import check_file, progress


def run(console: Console, command: str, arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        "python -m parity voices",
        description="Has jaxrnn, torch, numpy and every other framework that is installed compute "
        "the same networks; of those who disagree, says who stands alone. Exit status 1 on any "
        "disagreement.",
    )
    for name, known, of in (
        ("--cell", voices.KINDS, "only this; again for more"),
        ("--dtype", voices.WIDTHS, "only this; again for more"),
        ("--voice", voices.VOICES, "only this; again for more"),
    ):
        parser.add_argument(name, choices=known, action="append", help=of)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write everything there")
    options = parser.parse_args(arguments)

    asked = options.voice or [*voices.VOICES]
    names = voices.installed(asked)
    if missing := [name for name in asked if name not in names]:
        console.print(f"not installed, and left out: {', '.join(missing)}")
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
    results = progress(console, run_voices(work), len(work) * len(names))
    results.sort(key=lambda r: (order[r.network, r.dtype], names.index(r.voice)))
    report.show_voices(console, results)
    console.print(report.versions_line("cpu"))
    console.print(report.voices_verdict(results, time.perf_counter() - start))
    if options.json:
        report.write_voices(options.json, results)
    return int(any(result.status in voices.APART for result in results))
