"""The commands `documents` and `training`: what they print and write, and how they exit."""

import json
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
import torch
from commands import refused

import parity.workers
from jaxrnn import optim
from parity.__main__ import main
from parity.mutants.trainings import MISTAKES as TRAINING_MISTAKES
from parity.pair import run_reference
from parity.texts import optimisers, recipe, trainings
from parity.texts.optimisers import TRAININGS
from parity.texts.rows import TEXTS


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """A terminal in which no table is folded."""
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def here(monkeypatch):
    """All work is done in this process; the case table is tested in several."""
    monkeypatch.setattr(parity.workers, "ProcessPoolExecutor", lambda *_: ThreadPoolExecutor(1))


def test_documents(capsys, tmp_path, here):
    path = tmp_path / "report.json"
    assert main(["documents", "0.7", "0.1", "--json", str(path)]) == 0
    *lines, versions, last = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines if line.startswith("0.")]
    assert [(*row[:4], row[-1]) for row in rows] == [
        ("0.1", "000", "SimpleRNNCell", "1", "agrees"),
        ("0.7", "000", "TextPreprocessor", "1", "agrees"),
    ]
    assert f"jax {jax.__version__}" in versions
    assert versions.endswith("truth torch in float64")
    assert last.startswith(
        "2 rows, 2 cases, 4 comparisons: of the rows 2 agree, 0 disagree, 0 missing, "
        "2 of 2 known mistakes are seen ("
    )
    written = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert written["versions"]["truth"] == "torch in float64"
    results = written["results"]
    assert [(r["group"], r["name"]) for r in results if r["mistake"] is None] == [
        *[("0.1", "a step")] * 2, *[("0.7", "vocabulary, encoding, padding")] * 2,
    ]  # fmt: skip
    assert {r["mistake"] for r in results} == {
        None, "one of two biases dropped", "returned in float32",
    }  # fmt: skip
    for r in results:
        assert (r["failed"], bool(r["wrong"]), r["unjudged"]) == (False, bool(r["mistake"]), [])
        if r["mistake"] is None:
            assert r["output"]["tensor"] in ("h_n", "ids")
            assert (r["gradient"] is None) == (r["group"] == "0.7")


def test_documents_of_no_such_row(capsys):
    assert refused(capsys, "documents", "0.1", "5.1") == (
        f"there is no row 5.1; the rows are {', '.join(TEXTS)}"
    )


@pytest.fixture
def few(monkeypatch):
    """An optimiser and a short training: few enough for this process."""
    pairs = [pair for pair in optimisers.pairs() if pair.group == "AdamW"][::3]
    pairs += [pair for pair in trainings.pairs() if pair.group == "0.12"]
    pairs = {(pair.group, pair.name): pair for pair in pairs}
    monkeypatch.setattr(parity.workers, "pairs_of", lambda command: pairs)


def test_training(capsys, tmp_path, few):
    path = tmp_path / "report.json"
    assert main(["training", "0.12", "AdamW", "--json", str(path)]) == 0
    *lines, _, last = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines if line.endswith(" agrees ")]
    assert [(row[0], *row[-6:-4]) for row in rows] == [("AdamW", "2", "200"), ("0.12", "1", "6")]
    assert "allowed: (5 · own + 4 eps) · √steps for a tensor" in "".join(lines)
    assert last.startswith(
        "2 rows, 3 cases, 3 comparisons: of the rows 2 agree, 0 disagree, 0 missing, "
        "2 of 2 known mistakes are seen ("
    )
    results = json.loads(path.read_text(), parse_constant=pytest.fail)["results"]
    assert {r["mistake"] for r in results} == {
        None, "AdamW's decay as L2", "AdamW with optax's default decay",
    }  # fmt: skip
    assert {(r["group"], r["steps"], r["failed"]) for r in results} == {
        ("AdamW", 200, False), ("0.12", 6, False),
    }  # fmt: skip


def test_training_finds_a_disagreement(capsys, monkeypatch, few):
    monkeypatch.setitem(recipe.OPTIMIZERS, "AdamW", (optim.adam, torch.optim.AdamW))
    assert main(["training", "AdamW"]) == 1
    out = capsys.readouterr().out
    assert "FAIL AdamW lr=0.001, betas=(0.9, 0.999) [float64]\n    weight, step 0: error " in out
    assert "of the rows 0 agree, 1 disagree" in out
    assert "0 of 2 known mistakes are seen (" in out.splitlines()[-1]


def test_training_of_no_such_row(capsys):
    assert refused(capsys, "training", "Rprop") == (
        f"there is no row Rprop; the rows are {', '.join(TRAININGS)}"
    )


def test_trainings():
    """Each row is there, each name once, and each mistake is planted in one of them."""
    names = [(pair.group, pair.name) for pair in optimisers.pairs()]
    assert list(dict.fromkeys(group for group, _ in names)) == list(TRAININGS)
    assert len({*names}) == len(names)
    assert {mistake.pair for mistake in TRAINING_MISTAKES.values()} <= {*names}
    assert {row for row in TRAININGS if row[0].isdigit()} <= {*TEXTS}


def test_schedulers_cut():
    """The rate that is compared falls several times."""
    for pair in optimisers.pairs():
        if pair.outputs == ["lr"]:
            rates = run_reference(pair, "float64").truth["lr"]
            assert len(np.unique(rates)) > 3
