"""Every example runs, shortened, on a little data of our own, learns it, and leaves its picture."""

import functools
import importlib
import itertools
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable

import jax
import matplotlib as mpl
import numpy as np
import pytest

from jaxrnn import models


EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))
pytestmark = pytest.mark.slow


@pytest.fixture
def run(tmp_path, capsys) -> Callable[..., str]:
    """Runs an example as the command line would, in float32, and returns what it printed."""
    mpl.use("agg")

    def run(name: str, *options: str) -> str:
        with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
            importlib.import_module(name).main([*options, f"--folder={tmp_path}"])
        return capsys.readouterr().out

    return run


def numbers(pattern: str, printed: str) -> list[float]:
    """What the groups of a pattern matched, all of its matches one after another."""
    found = re.findall(pattern, printed)
    assert found, f"{pattern!r} is not in:\n{printed}"
    return [float(each) for match in found for each in np.atleast_1d(match)]


def start(name: str, *options: str) -> str:
    """Runs an example in a process of its own, with what JAX settles when it starts."""
    command = [sys.executable, EXAMPLES / f"{name}.py", *options]
    env = os.environ | {"MPLBACKEND": "agg"}
    return subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True, text=True).stdout


def assert_pictures(folder: pathlib.Path, *names: str) -> None:
    for name in names:
        assert (folder / f"{name}.png").stat().st_size > 5000


@pytest.mark.usefixtures("optimized")
def test_port_torch_checkpoint(tmp_path) -> None:
    """In full, as users run it: only trained gates are saturated enough for XLA's tanh to tell."""
    printed = start("port_torch_checkpoint", f"--folder={tmp_path}")
    assert "'lstm', float32: pass" in printed
    assert "'lstm', float64: pass" in printed
    assert printed.endswith("verified\n")
    assert_pictures(tmp_path, "sunspots")
    assert (tmp_path / "sunspots.pt").stat().st_size > 1000


def test_sine(run, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("sine.SIZES", (3, 20))
    printed = run("sine", "--epochs=30")
    [error] = numbers(r"mean squared error (\S+); \S+ by saying", printed)
    assert error < 0.4  # where a forecast that is always 0 has 0.5
    one_3, three, linear_3, one_20, twenty, linear_20, sine = numbers(r"error (\S+), ", printed)
    assert 0.25 < sine < linear_20 < linear_3 < 0.45
    assert max(one_20, twenty) < min(one_3, three) < 0.5
    assert_pictures(tmp_path, "sine", "noisy_sine", "noisy_sine_forecast")


def test_elnino(run, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("elnino.SEEDS", 1)
    printed = run("elnino", "--epochs=5")
    persistence, *_ = numbers(r"rms error (\S+)", printed)
    degrees, normalised, without_season = numbers(r"GRU ([\d.]+)", printed)
    assert without_season < normalised < persistence < degrees
    assert_pictures(tmp_path, "elnino")


def test_search(run, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("search.SIZES", [4])
    monkeypatch.setattr("search.RATES", [1e-5, 1e-2])
    monkeypatch.setattr("search.SEEDS", range(4))
    printed = run("search", "--steps=400")
    assert "8 trainings" in printed
    assert numbers(r"the median error differs by (\S+)", printed)[0] < 1e-3
    assert "chosen: GRU-4 at 0.01" in printed
    errors = numbers(r"[\d.]+", re.search(r"trained again.*\[(.*)\]", printed)[1])
    assert max(errors) < 0.5  # of the variance
    assert_pictures(tmp_path, "search")


@pytest.fixture
def vowels(tmp_path):
    """Nine speakers, whose utterances begin alike and then go each to a place of its own."""
    rng = np.random.default_rng(0)
    places = rng.normal(size=(9, 12))
    for name in ("TRAIN", "TEST"):
        rows = []
        for speaker in range(9):
            for _ in range(6):
                t = np.linspace(0, 1, rng.integers(7, 15))[:, None]
                x = t * places[speaker] + rng.normal(0, 0.05, (len(t), 12))
                channels = [",".join(f"{value:.4f}" for value in each) for each in x.T]
                rows.append(":".join([*channels, str(speaker + 1)]))
        (tmp_path / f"JapaneseVowels_{name}.ts").write_text("\n".join(["@data", *rows]))
    return f"--data-dir={tmp_path}"


def test_speakers(run, tmp_path, vowels) -> None:
    printed = run("speakers", "--epochs=20", vowels)
    whole, early = numbers(r"BiLSTM: (\S+) % right, (\S+) % after 7", printed)
    assert whole > 90
    assert early > 50
    assert_pictures(tmp_path, "speakers")


def test_data_parallel(tmp_path, vowels) -> None:
    for devices in ([], ["--processes=2"]):
        printed = start("data_parallel", "--epochs=1", *devices, vowels, f"--folder={tmp_path}")
    [off] = numbers(
        r"2 devices of 2 processes: .* differ from those of one device by (\S+)", printed
    )
    assert off < 1e-4
    assert_pictures(tmp_path, "data_parallel")


def test_sentiment(run, tmp_path, monkeypatch) -> None:
    """Of two opinions the last one counts, which is not to be seen in words and pairs of words."""
    rng = np.random.default_rng(0)
    lines = []
    for i in range(600):
        first, last = rng.permutation(["fine", "dull"])
        sentence = f"the {first} film , {'very ' * rng.integers(1, 4)}but the {last} film"
        lines.append(f"{i}\t{1.5 if last == 'fine' else -1.5}\t{sentence}")
    lines.append("600\t0\tneither here nor there")
    (tmp_path / "movieReviewSnippets_GroundTruth.txt").write_text("\n".join(lines))
    for init in ("init_sentiment_classifier", "init_text_classifier"):
        monkeypatch.setattr(models, init, functools.partial(getattr(models, init), num_layers=1))
    monkeypatch.setattr("sentiment.SIZES", (8, 8))
    monkeypatch.setattr("sentiment.BATCH", 20)
    printed = run("sentiment", f"--data-dir={tmp_path}", "--epochs=4")
    bayes, final_states, maximum = numbers(r": (\S+) % of 60 snippets right", printed)
    assert bayes < 70
    assert min(final_states, maximum) > 90
    assert_pictures(tmp_path, "sentiment")


UNIVERSAL = {
    "abx": "DET", "abn": "PRT", "at-tl": "DET", "be": "VERB", "cd$": "NOUN", "cd": "NUM",
    "cs": "ADP",
    "ex+bez": "PRT", "fw-nn": "X", "jj$": "PRT", "nn+bez": "PRT", "np$": "NOUN", "pp$": "DET",
    "pp$$": "PRON", "pps+bez": "PRT", "ql": "ADV", "rb": "ADV", "to": "PRT", "vbg+to": "VERB",
    "wp$": "DET", "wps": "PRON", "*": "ADV", "``": ".", "--": ".",
}  # fmt: skip


def test_universal_tags() -> None:
    """Some that are easily confused, as Petrov, Das & McDonald map them."""
    tagging = importlib.import_module("tagging")
    assert {tag: tagging.universal(tag) for tag in UNIVERSAL} == {
        tag: tagging.TAGS[wanted] for tag, wanted in UNIVERSAL.items()
    }


def test_tagging(run, tmp_path, monkeypatch) -> None:
    """Where the next word decides, reading forwards is no better than guessing."""
    rng = np.random.default_rng(0)
    followed = {"her/pp$": "dog/nn", "her/ppo": "twice/rb"}
    for n in range(20):
        lines = []
        for k in range(12):
            her = rng.choice(list(followed))
            the = "The/at-tl " * rng.integers(1, 3)
            lines += ["", f"\t{the}{n}-{k}er/nn saw/vbd {her} {followed[her]} ./."]
        (tmp_path / f"ca{n:02}").write_text("\n".join(lines))
    monkeypatch.setattr("tagging.BATCH", 24)
    printed = run("tagging", f"--data-dir={tmp_path}", "--epochs=4")
    usual, linear, forwards, both = numbers(r": (\S+) % wrong", printed)
    assert max(linear, both) < 1
    assert min(usual, forwards) > 5
    assert_pictures(tmp_path, "tagging")


def test_pronounce(run, tmp_path, monkeypatch) -> None:
    """A language of our own, in which two letters may be one phone; then words of it are said."""
    monkeypatch.setattr("pronounce.BATCH", 32)
    monkeypatch.setattr("pronounce.HIDDEN", 64)
    brought = f"--data-dir={tmp_path}"
    phones = {"a": "AA1", "e": "EH0", "n": "N", "t": "T", "sh": "SH"}
    spelt = [each for n in (2, 3, 4, 5) for each in itertools.product(phones, repeat=n)]
    spelt = [each for each in spelt if len("".join(each)) <= 5]
    spelt = [spelt[i] for i in np.random.default_rng(0).permutation(len(spelt))[:400]]
    entries = [f"{''.join(each)} {' '.join(map(phones.get, each))}" for each in spelt]
    alternate = entries[1].split()[0] + "(2) ZH UH2"
    dictionary = [f"{entries[0]} # place, invented", entries[1], alternate, *entries[2:]]
    (tmp_path / "cmudict.dict").write_text("\n".join(dictionary))

    with pytest.raises(SystemExit, match="without words, this script trains it"):
        run("pronounce", "neshe", brought)
    printed = run("pronounce", "--epochs=15", brought)
    assert max(numbers(r"test words, beam of [14]: PER .* %, WER (\S+) %", printed)) < 20
    assert_pictures(tmp_path, "pronounce")

    said = ["".join(each) for each in spelt[:2]]
    printed = run("pronounce", "Neshe", *said, brought)
    assert re.search(r"neshe; CMUdict: .*\n +\d+\.\d%  N EH SH EH\n", printed)
    first, second = (re.sub(r"\d", "", each.partition(" ")[2]) for each in entries[:2])
    assert f"{said[0]}; CMUdict: {first}\n" in printed
    assert f"{said[1]}; CMUdict: {second}, ZH UH\n" in printed
    with pytest.raises(SystemExit, match="not 'naïve'"):
        run("pronounce", "naïve", brought)


LINES = (
    "Good morrow, cousin; how goes the mill?\n",
    "The miller sleeps, my lord, and wheat is dear.\n",
    "Then wake him with a bell, or with a bill!\n",
    "[Exit, pursued by a creditor.]\n",
)


def test_shakespeare(run, tmp_path, monkeypatch) -> None:
    """On lines drawn at random, of two bits each, so that it is known what can be learned."""
    shakespeare = importlib.import_module("shakespeare")
    rng = np.random.default_rng(0)

    def play(lines: int) -> str:
        return "by William Shakespeare\n" + "".join(LINES[i] for i in rng.integers(4, size=lines))

    works = {name: play(150) for name in shakespeare.HELD_OUT} | {"lear": play(5000)}
    works["comus"] = "Milton é\n" * 9999
    for name, work in works.items():
        (tmp_path / f"{name}_gut.txt").write_text(work, "latin-1", newline="\n")
    assert "Milton" not in "".join(shakespeare.load(tmp_path))

    histories, picture = [], shakespeare.picture
    record = lambda path, history, *rest: histories.append(history) or picture(path, history, *rest)
    monkeypatch.setattr(shakespeare, "picture", record)
    monkeypatch.setattr(shakespeare, "HIDDEN", 80)
    printed = run("shakespeare", "--epochs=1", f"--data-dir={tmp_path}")
    bzip2, n_grams, carried, cut = numbers(r": (\S+) bits a character", printed)
    entropy = 2 / np.mean([len(line) for line in LINES])
    assert 0.9 * entropy < n_grams < 2 * entropy
    assert 0.9 * entropy < bzip2 < 2 * entropy
    assert 0.9 * entropy < carried < 4 * entropy
    # Without the state, the first character after a cut may be any; so it is in training, too.
    assert carried + 3 / shakespeare.CHUNK < cut
    assert histories[0].loss[-20:].mean() + 4 / shakespeare.CHUNK < cut
    drawn = printed.partition("HAMLET.\n")[2].splitlines(keepends=True)[1:-3]
    assert sum(line in LINES for line in drawn) > len(drawn) / 4 > 2
    assert_pictures(tmp_path, "shakespeare")
