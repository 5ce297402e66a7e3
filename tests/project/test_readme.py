"""The README's tour runs as it stands, and its numbers are the tree's."""

import pathlib
import re
import subprocess
import sys


README = pathlib.Path(__file__).parents[2] / "README.md"


def test_tours(tmp_path: pathlib.Path) -> None:
    text = README.read_text()
    # What is for several devices runs on several, in test_parallel.
    text = re.sub(r"\n### More than one device\n.*?(?=\n## )", "", text, flags=re.DOTALL)
    sections = [re.findall(r"```python\n(.*?)```", s, re.DOTALL) for s in text.split("\n## ")]
    assert all(len(tour.splitlines()) <= 32 for tours in sections for tour in tours)
    # In a process of its own, because a reader has neither x64 nor strict promotion on; what comes
    # later in a section goes on from what comes before, and knows no other section.
    run = "import sys\nfor section in sys.argv[1:]: exec(section, {})"
    command = [sys.executable, "-W", "error", "-c", run, *map("".join, sections)]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / "model.safetensors").exists()


def test_number_of_mistakes() -> None:
    from parity.mutants.layers import MISTAKES

    assert f"And {len(MISTAKES)} mistakes" in README.read_text()
