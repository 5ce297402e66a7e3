"""The README's tour runs as it stands, and its numbers are the tree's."""

import pathlib
import re
import subprocess
import sys


README = pathlib.Path(__file__).parent.parent / "README.md"


def test_tours(tmp_path: pathlib.Path) -> None:
    for tour in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL):
        assert len(tour.splitlines()) <= 32
        # In a process of its own, because a reader has neither x64 nor strict promotion on.
        subprocess.run([sys.executable, "-W", "error", "-c", tour], cwd=tmp_path, check=True)
    assert (tmp_path / "model.safetensors").exists()


def test_number_of_mistakes() -> None:
    from parity.mistakes import MISTAKES

    assert f"And {len(MISTAKES)} mistakes" in README.read_text()
