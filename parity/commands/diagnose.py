"""`diagnose`: what is wrong with a recurrent layer, from the numbers in a file."""

import argparse
import pathlib
from collections.abc import Sequence

from rich.console import Console

from ..diagnosis.problem import read_npz, state_problem
from ..diagnosis.script import write_script
from ..diagnosis.search import examine
from .common import add_json, check_file


def run(console: Console, command: str, arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        "python -m parity diagnose",
        description="Says what is wrong with a recurrent layer whose results are not torch's. Exit "
        "status 1 if they are not.",
        epilog="FILE.npz holds torch's weights as w/weight_ih_l0 and so on; x; h0, c0, lengths and "
        "masks where the layer was given them; what it returned, any of y, hn, cn; and perhaps the "
        "weights as it has loaded them, as loaded/weight_ih_l0 and so on.",
    )
    parser.add_argument("file", type=pathlib.Path, metavar="FILE.npz")
    kinds = [kind + end for end in ("", "_cell") for kind in ("rnn", "lstm", "gru")]
    parser.add_argument("--kind", choices=kinds, help="default: read off the weights")
    parser.add_argument("--nonlinearity", choices=("tanh", "relu"), default="tanh", help="torch's")
    parser.add_argument(
        "--batch-first",
        action=argparse.BooleanOptionalAction,
        help="of x and y; default: read off the shapes where they tell, else no",
    )
    parser.add_argument("--dropout", type=float, default=0.0, metavar="P", help="torch's rate")
    add_json(parser)
    parser.add_argument(
        "--script",
        type=pathlib.Path,
        metavar="FILE.py",
        help="write torch's side of it there, and the numbers as FILE_numbers.npz",
    )
    options = parser.parse_args(arguments)
    check_file(parser, "--json", options.json)
    check_file(parser, "--script", options.script)
    try:
        weights, inputs, outputs, loaded = read_npz(options.file)
        problem = state_problem(
            options.kind,
            weights,
            inputs,
            outputs,
            nonlinearity=options.nonlinearity,
            batch_first=options.batch_first,
            dropout=options.dropout,
            loaded=loaded,
        )
    except (OSError, TypeError, ValueError) as error:
        parser.error(str(error))
    with console.status("diagnosing"):
        diagnosis = examine(problem)
    console.print(str(diagnosis), markup=False, highlight=False)
    if options.json:
        options.json.write_text(diagnosis.to_json())
    if options.script:
        write_script(problem, options.script)
    return int(not diagnosis.passed)
