"""The frame of an example: its options, and its picture."""

import argparse
import pathlib

import matplotlib.pyplot as plt


def parser(
    doc: str, *, folder: str = "out", data: bool = False, **steps: int
) -> argparse.ArgumentParser:
    """`--epochs` or `--steps`, with what they are by default; `--folder`; for data `--data-dir`."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    for name, default in steps.items():
        parser.add_argument(f"--{name}", type=positive, default=default, help="%(default)s")
    parser.add_argument("--folder", type=made, default=folder, help="for what is left behind")
    if data:
        parser.add_argument("--data-dir", type=existing, help="a copy of the data")
    return parser


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {text}")
    return int(text)


def made(text: str) -> pathlib.Path:
    try:
        pathlib.Path(text).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return pathlib.Path(text)


def existing(text: str) -> pathlib.Path:
    if not pathlib.Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text}")
    return pathlib.Path(text)


def save(figure: plt.Figure, path: pathlib.Path) -> None:
    figure.savefig(path, dpi=110)
    plt.close(figure)
    print(f"picture: {path}")
