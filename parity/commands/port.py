"""`compare` and `trace`: a user's torch module and JAX function, as a file defines them."""

import argparse
import pathlib
import runpy
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from ..ports.port import compare
from ..ports.trace import trace
from .common import add_device, add_dtype, add_json, check_matplotlib, check_options


COMPARED = ("cotangents", "gradients", "outputs")  # arguments of `compare` that `trace` has not


def run(console: Console, command: str, arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        f"python -m parity {command}",
        description="Holds your own JAX function against your own torch module"
        + (": outputs and gradients." if command == "compare" else ", layer by layer.")
        + " Exit status 1 on any disagreement.",
        epilog="The function in FILE.py returns a dict: the module as `torch`, the function as "
        f"`jax`, `inputs`, and other arguments of parity.{command} if there are any.",
    )
    parser.add_argument("source", metavar="FILE.py[:NAME]", help="a function, by default `port`")
    add_dtype(parser, "default: the dict's own, or float64", action="store")
    add_device(parser)
    add_json(parser)
    parser.add_argument("--html", type=pathlib.Path, metavar="FILE", help="likewise, as pictures")
    options = parser.parse_args(arguments)

    check_options(parser, options)
    if options.html:
        check_matplotlib(parser, "--html")
    given = _given(parser, options.source)
    sides = given.pop("torch"), given.pop("jax")
    given |= {"device": options.device} | ({"dtype": options.dtype} if options.dtype else {})
    if command == "trace":  # one file serves both commands
        given = {key: a for key, a in given.items() if key not in COMPARED}
    try:
        result = {"compare": compare, "trace": trace}[command](*sides, **given)
    except (TypeError, ValueError) as error:
        if hasattr(error, "__notes__"):  # the user's own, which a traceback explains better
            raise
        parser.error(str(error))
    print(result)
    if options.json:
        options.json.write_text(result.to_json())
    if options.html:
        options.html.write_text(result.to_html())
    return int(not result.passed)


def _given(parser: argparse.ArgumentParser, source: str) -> dict[str, Any]:
    """What the function in the file returns."""
    file, _, name = source.partition(".py:")
    path, name = pathlib.Path(f"{file}.py" if name else file), name or "port"
    if not path.is_file():
        parser.error(f"there is no file {path}")
    sys.path.insert(0, str(path.parent.absolute()))  # for what lies beside it, as python has it
    found = runpy.run_path(str(path)).get(name)
    if not callable(found):
        parser.error(f"{path} defines no function `{name}`")
    given: Any = found()
    if missing := [key for key in ("torch", "jax", "inputs") if key not in given]:
        parser.error(f"the dict of `{name}` has no {missing[0]!r}")
    return dict(given)
