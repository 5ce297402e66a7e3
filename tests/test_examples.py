"""Every example runs from the command line, says what it should, and leaves its picture."""

import os
import pathlib
import subprocess
import sys

import pytest


ROOT = pathlib.Path(__file__).parent.parent


@pytest.mark.slow
def test_port_torch_checkpoint(tmp_path: pathlib.Path) -> None:
    """In full, since only trained gates are saturated enough for XLA's tanh to tell."""
    run = subprocess.run(
        [sys.executable, ROOT / "examples/port_torch_checkpoint.py", "--folder=."],
        cwd=tmp_path,
        env=os.environ | {"MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "'lstm', float32: pass" in run.stdout
    assert "'lstm', float64: pass" in run.stdout
    assert run.stdout.endswith("verified\n")
    for name in ("sunspots.pt", "sunspots.safetensors", "sunspots.png"):
        assert (tmp_path / name).stat().st_size > 1000
