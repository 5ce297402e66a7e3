"""`documents` and `training`: the PyTorch texts, by rows."""

import argparse
import time
from collections.abc import Sequence

from rich.console import Console

from ..report import tables
from ..texts.optimisers import TRAININGS
from ..texts.rows import TEXTS
from ..workers import run_all, text_jobs
from .common import add_device, add_json, check_options, progress


DESCRIPTIONS = {
    "documents": "Holds jaxrnn against every system of the PyTorch texts: models, sequence to "
    "sequence, data, short trainings; and plants known mistakes in them. Exit status 1 on any "
    "disagreement, missing row or mistake that is not seen.",
    "training": "Holds jaxrnn's optimisers and schedulers against torch's, step by step, and "
    "whole trainings of the PyTorch texts; and plants known mistakes in them. Exit status 1 on "
    "any disagreement or mistake that is not seen.",
}
KNOWN = {"documents": TEXTS, "training": TRAININGS}
SHOW = {"documents": tables.show_texts, "training": tables.show_training}


def run(console: Console, command: str, arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        f"python -m parity {command}", description=DESCRIPTIONS[command]
    )
    example = {"documents": "0.8 1.6", "training": "AdamW 0.3"}[command]
    parser.add_argument("row", nargs="*", help=f"only these rows, such as {example}")
    add_device(parser)
    add_json(parser)
    options = parser.parse_args(arguments)

    known = KNOWN[command]
    if unknown := [row for row in options.row if row not in known]:
        parser.error(f"there is no row {unknown[0]}; the rows are {', '.join(known)}")
    check_options(parser, options)
    rows = [row for row in known if not options.row or row in options.row]
    work = text_jobs(command, rows)
    total = sum(1 + len(job.mistakes) for job in work)
    start = time.perf_counter()
    results = progress(console, run_all(work, options.device), total)
    results.sort(key=lambda result: (rows.index(result.group), result.name, result.mistake or ""))
    SHOW[command](console, rows, results)
    console.print(tables.versions_line(options.device, tables.TRUTH_OF_TEXTS))
    console.print(tables.texts_verdict(rows, results, time.perf_counter() - start))
    if options.json:
        tables.write(options.json, results, options.device, tables.TRUTH_OF_TEXTS)
    agree = all(tables.row_status(row, results) == "agrees" for row in rows)
    return int(not agree or not all(map(tables.good, results)))
