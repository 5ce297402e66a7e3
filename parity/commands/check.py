"""`check`: every recurrent layer in a torch checkpoint."""

import argparse
import io
import pathlib
import time
from collections.abc import Sequence

import numpy as np
from rich.console import Console

from ..ports.checkpoint import check
from .common import add_device, add_dtype, add_json, check_options, show_layers


def run(console: Console, command: str, arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        "python -m parity check",
        description="Verifies every nn.RNN, nn.LSTM, nn.GRU and cell in a torch checkpoint: the "
        "same weights in torch and in jaxrnn, outputs and gradients compared.",
    )
    parser.add_argument("file", type=pathlib.Path, help=".pt, .pth, .safetensors or .npz")
    parser.add_argument("--prefix", help="only layers under this name, such as encoder.lstm")
    parser.add_argument("--nonlinearity", choices=("tanh", "relu"), default="tanh", help="of RNNs")
    parser.add_argument("--input", type=pathlib.Path, metavar="FILE.npy", help="instead of random")
    parser.add_argument("--batch-first", action="store_true", help="the input is (B, T, I)")
    add_dtype(parser, "default: own and float64")
    add_device(parser)
    add_json(parser)
    options = parser.parse_args(arguments)

    check_options(parser, options)
    start = time.perf_counter()
    try:
        x = None if options.input is None else _read_input(options.input)
        with console.status("verifying"):
            results = check(
                options.file,
                prefix=options.prefix,
                nonlinearity=options.nonlinearity,
                x=x,
                batch_first=options.batch_first,
                dtypes=options.dtype,
                device=options.device,
            )
    except (OSError, TypeError, ValueError) as error:
        parser.error(str(error))
    for case in {result.case.name: result.case for result in results}.values():
        found = dict(zip(case.structure._fields, case.structure, strict=True))
        kind = found.pop("kind")
        console.print(f"{case.group}: {kind}, " + ", ".join(f"{k}={v}" for k, v in found.items()))
    return show_layers(console, results, start, options)


def _read_input(path: pathlib.Path) -> np.ndarray:
    try:
        return np.lib.format.read_array(io.BytesIO(path.read_bytes()), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"--input {path} is no .npy file of numbers: {error}") from error
