"""`compare` and `trace`: a torch module and a JAX function that a user's file defines."""

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


COMPARED = ("cotangents", "gradients", "outputs")  # arguments of `compare` that `trace` lacks


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
    port = _port(parser, options.source)
    module, function = port.pop("torch"), port.pop("jax")
    port |= {"device": options.device} | ({"dtype": options.dtype} if options.dtype else {})
    if command == "trace":  # one file serves both commands
        port = {key: a for key, a in port.items() if key not in COMPARED}
    try:
        report = {"compare": compare, "trace": trace}[command](module, function, **port)
    except (TypeError, ValueError) as error:
        if hasattr(error, "__notes__"):  # an error in the user's code: the traceback explains it
            raise
        parser.error(str(error))
    print(report)
    if options.json:
        options.json.write_text(report.to_json())
    if options.html:
        options.html.write_text(report.to_html())
    return int(not report.passed)


def _port(parser: argparse.ArgumentParser, source: str) -> dict[str, Any]:
    """Returns the dict that the function in the file returns."""
    file, _, name = source.partition(".py:")
    path, name = pathlib.Path(f"{file}.py" if name else file), name or "port"
    if not path.is_file():
        parser.error(f"there is no file {path}")
    sys.path.insert(0, str(path.parent.absolute()))  # as python does for a script's neighbours
    function = runpy.run_path(str(path)).get(name)
    if not callable(function):
        parser.error(f"{path} defines no function `{name}`")
    port: Any = function()
    if missing := [key for key in ("torch", "jax", "inputs") if key not in port]:
        parser.error(f"the dict of `{name}` has no {missing[0]!r}")
    return dict(port)
