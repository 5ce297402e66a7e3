"""`python -m parity`: jaxrnn against torch.nn over the whole option surface."""

import argparse
import fnmatch
import time
from collections.abc import Sequence

from rich.console import Console

from ..cases import table
from ..mutants.layers import MISTAKES
from ..workers import jobs, run_all
from . import COMMANDS
from .common import add_device, add_dtype, add_json, check_options, progress, show_layers


def run(console: Console, command: str, arguments: Sequence[str]) -> int:
    """Runs the command with these arguments, and returns its exit status."""
    parser = argparse.ArgumentParser(
        "python -m parity",
        description="Holds jaxrnn against torch.nn over the whole option surface. Exit status 1 on "
        "any disagreement.",
        epilog=f"There are other commands, each with its own --help: {', '.join(COMMANDS)}.",
    )
    parser.add_argument("pattern", nargs="?", help="only cases whose names match, such as 'gru*bi'")
    add_dtype(parser, "instead of each case's")
    add_device(parser)
    add_json(parser)
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--quick", action="store_true", help="a cross-section, under 45 s")
    options = parser.parse_args(arguments)

    cases = [case for case in table() if _matches(case.name, options.pattern)]
    planted = [name for name in MISTAKES if _matches(f"mistakes/{name}", options.pattern)]
    if options.quick:
        cases, planted = cases[::16], planted[::2]
    if options.list:
        print(*(case.name for case in cases), *(f"mistakes/{name}" for name in planted), sep="\n")
        return 0
    if not cases and not planted:
        parser.error(f"no case matches {options.pattern!r}; --list prints their names")
    check_options(parser, options)
    work = jobs(cases, options.dtype, planted)
    total = sum(len(job.mistakes or job.keys) for job in work)
    start = time.perf_counter()
    results = progress(console, run_all(work, options.device), total)
    return show_layers(console, results, start, options)


def _matches(name: str, pattern: str | None) -> bool:
    return pattern is None or fnmatch.fnmatchcase(name.lower(), f"*{pattern.lower()}*")
