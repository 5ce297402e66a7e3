"""The command `python -m parity`, and the commands that it has by name."""

import importlib
import sys
from collections.abc import Sequence

from rich.console import Console

from .commands import COMMANDS


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command = arguments.pop(0) if arguments and arguments[0] in COMMANDS else ""
    home = importlib.import_module(f"parity.commands.{COMMANDS.get(command, 'layers')}")
    return home.run(Console(soft_wrap=True), command, arguments)


if __name__ == "__main__":
    sys.exit(main())
