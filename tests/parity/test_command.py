"""The command: what it prints, what it writes, and how it exits; and the words of a report."""

import io
import json
import math

import jax
import numpy as np
import pytest
import torch
from rich.console import Console

import jaxrnn
import parity.workers
from jaxrnn import Structure, optim
from parity.__main__ import main
from parity.cases import Case, table
from parity.commands import COMMANDS
from parity.criterion import Block
from parity.layers import Result
from parity.mutants.layers import MISTAKES
from parity.mutants.trainings import MISTAKES as TRAINING_MISTAKES
from parity.pair import Compared, run_reference
from parity.report import tables as report
from parity.texts import optimisers as trajectories
from parity.texts import trainings as training
from parity.texts.models import DOCUMENTS
from parity.texts.optimisers import TRAININGS


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """A terminal in which no table is folded."""
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def wrong_cell(monkeypatch):
    """A GRU cell that errs by some millionths."""
    right = jaxrnn.gru_cell
    monkeypatch.setattr(jaxrnn, "gru_cell", lambda *args: right(*args) * (1 + 3e-6))


def refused(capsys, *arguments):
    """The sentence with which the command declines."""
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return " ".join(err.partition("error: ")[2].split())


def test_list(capsys):
    assert main(["--list"]) == 0
    names = capsys.readouterr().out.splitlines()
    assert names == [case.name for case in table()] + [f"mistakes/{name}" for name in MISTAKES]


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("lstm*bi", lambda n: n.partition("lstm")[2].find("bi") >= 0),
        ("edges/gru", lambda n: n.startswith("edges/gru")),
        ("cells/gru_cell-7-5 time=1", lambda n: n.startswith("cells/gru_cell-7-5 time=1")),
        ("mistakes/*haiku", lambda n: n == "mistakes/gates i g f o (haiku)"),
    ],
)
def test_list_of_a_pattern(capsys, pattern, wanted):
    main(["--list"])
    names = capsys.readouterr().out.splitlines()
    assert main([pattern, "--list"]) == 0
    found = capsys.readouterr().out.splitlines()
    assert found == [name for name in names if wanted(name)]
    assert found


def test_quick_is_a_cross_section(capsys):
    main(["--list"])
    names = capsys.readouterr().out.splitlines()
    assert main(["--list", "--quick"]) == 0
    quick = capsys.readouterr().out.splitlines()
    assert 0 < len(quick) < len(names) / 4
    assert set(quick) < set(names)
    assert sum(name.startswith("mistakes/") for name in quick) >= 20
    kinds = {"rnn-", "lstm-", "gru-", "rnn_cell-", "gru_cell-"}
    missing = [kind for kind in kinds if not any(f"/{kind}" in name for name in quick)]
    assert not missing


ONE = "cells/gru_cell-7-5 time=1"  # and its unbatched and stateless variants


def test_a_pattern_with_dtype_and_json(capsys, tmp_path):
    path = tmp_path / "report.json"
    assert main([f"{ONE} batch=None", "--dtype", "float64", "--json", str(path)]) == 0
    out = capsys.readouterr().out
    assert "cells" in out
    assert "FAIL" not in out
    last = out.splitlines()[-1]
    assert last.startswith("2 configurations, 2 comparisons: 2 agree, 0 disagree (")
    written = json.loads(path.read_text(), parse_constant=pytest.fail)  # no NaN, no Infinity
    assert {
        "python",
        "jax",
        "torch",
        "numpy",
        "device",
        "torch on",
        "cores",
        "truth",
    } == set(written["versions"])
    assert written["versions"]["jax"] == jax.__version__
    assert [result["case"] for result in written["results"]] == [
        f"{ONE} batch=None", f"{ONE} batch=None state=False",
    ]  # fmt: skip
    for result in written["results"]:
        assert (result["dtype"], result["status"]) == ("float64", "pass")
        assert (result["failed"], result["mistake"], result["wrong"]) == (False, None, [])
        worst = result["worst"]
        assert worst["tensor"].startswith(("h_n", "grad ", "hvp "))
        assert 0 <= worst["error"] <= worst["allowed"] < 1e-14
        np.testing.assert_allclose(worst["used"], worst["error"] / worst["allowed"])


def test_two_dtypes(capsys):
    assert main([f"{ONE} state", "--dtype", "float32", "--dtype", "bfloat16"]) == 0
    out = capsys.readouterr().out
    assert "1 configuration, 2 comparisons: 2 agree, 0 disagree" in out.splitlines()[-1]
    assert "float64" not in out
    assert out.index("float32") < out.index("bfloat16")


def test_a_disagreement(capsys, tmp_path, wrong_cell):
    path = tmp_path / "report.json"
    arguments = [f"{ONE} state", "--dtype", "float64", "--dtype", "bfloat16"]
    assert main([*arguments, "--json", str(path)]) == 1
    out = capsys.readouterr().out
    # What is off by 3e-6 is right to all of bfloat16's digits.
    assert "1 configuration, 2 comparisons: 1 agree, 1 disagree" in out.splitlines()[-1]
    assert f"FAIL {ONE} state=False [float64]" in out
    assert out.count("FAIL") == 1
    assert "h_n, batch row " in out
    results = {r["dtype"]: r for r in json.loads(path.read_text())["results"]}
    assert {dtype: r["failed"] for dtype, r in results.items()} == {
        "float64": True, "bfloat16": False,
    }  # fmt: skip
    assert results["float64"]["status"] == "FAIL"
    assert results["float64"]["wrong"][0].startswith("h_n, batch row ")
    assert 2e-6 < results["float64"]["worst"]["error"] < 1e-4
    assert results["float64"]["worst"]["used"] > 1e8


def test_a_known_mistake(capsys):
    assert main(["mistakes/bias_hh without"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "1 of 1 known mistakes are seen" in last
    assert last.startswith("1 of 1 known mistakes are seen")


def test_a_mistake_that_is_not_seen(capsys, monkeypatch):
    name = "bias_hh without gradient"
    monkeypatch.setitem(MISTAKES, name, MISTAKES[name]._replace(apply=jaxrnn.lstm))
    assert main([f"mistakes/{name}"]) == 1
    out = capsys.readouterr().out
    assert f"planted: {name}" in out
    assert "the mistake was not seen" in out
    assert "0 of 1 known mistakes are seen" in out.splitlines()[-1]


def test_no_match(capsys):
    sentence = refused(capsys, "transformer")
    assert sentence == "no case matches 'transformer'; --list prints their names"


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="there is such a device")
@pytest.mark.parametrize("command", [[ONE], ["check", "model.pt"]])
def test_no_such_device(capsys, command):
    sentence = refused(capsys, *command, "--device", "gpu")
    assert sentence.startswith("--device gpu: JAX has no such device here (")


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Module()
    model.encoder = torch.nn.GRUCell(3, 4)
    model.head = torch.nn.Linear(4, 2)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    return str(tmp_path / "model.pt")


def test_check(capsys, tmp_path, model):
    path = tmp_path / "report.json"
    assert main(["check", model, "--json", str(path)]) == 0
    out = capsys.readouterr().out
    assert "encoder: gru_cell, input_size=3, hidden_size=4, num_layers=1, bias=True" in out
    last = out.splitlines()[-1]
    assert last.startswith("1 configuration, 2 comparisons: 2 agree, 0 disagree (")
    results = json.loads(path.read_text())["results"]
    assert {result["dtype"] for result in results} == {"float32", "float64"}


def test_check_with_options(capsys, tmp_path, model):
    np.save(tmp_path / "x.npy", np.ones((2, 3)))
    options = ["--prefix", "encoder", "--input", str(tmp_path / "x.npy"), "--dtype", "float64"]
    assert main(["check", model, *options]) == 0
    assert "1 configuration, 1 comparison: 1 agree" in capsys.readouterr().out.splitlines()[-1]


def test_check_finds_a_disagreement(capsys, model, wrong_cell):
    assert main(["check", model, "--dtype", "float64"]) == 1
    out = capsys.readouterr().out
    assert "FAIL encoder/gru_cell-3-4" in out
    assert "h_n, batch row " in out
    assert "1 configuration, 1 comparison: 0 agree, 1 disagree" in out.splitlines()[-1]


def test_documents(capsys, tmp_path):
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
    assert [(r["row"], r["name"]) for r in results if r["mistake"] is None] == [
        *[("0.1", "a step")] * 2, *[("0.7", "vocabulary, encoding, padding")] * 2,
    ]  # fmt: skip
    assert {r["mistake"] for r in results} == {
        None, "one of two biases dropped", "returned in float32",
    }  # fmt: skip
    for r in results:
        assert (r["failed"], bool(r["wrong"]), r["unjudged"]) == (False, bool(r["mistake"]), [])
        assert r["output"]["tensor"] in ("h_n", "ids", "nothing")
        assert (r["gradient"] is None) == (r["row"] == "0.7")


def test_documents_of_no_such_row(capsys):
    assert refused(capsys, "documents", "0.1", "5.1") == (
        f"there is no row 5.1; the rows are {', '.join(DOCUMENTS)}"
    )


@pytest.mark.parametrize("width", [80, 100])
def test_documents_fit_the_terminal(width):
    results = [Compared(row, "a case", "float64", BLOCK, BLOCK, [], [], 0.5) for row in DOCUMENTS]
    out = io.StringIO()
    report.show_documents(Console(file=out, width=width), list(DOCUMENTS), results)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert sum("2.0e-07 1.0e-07 2.0e-07 1.0e-07" in line for line in lines) == len(DOCUMENTS)
    words = {word for line in lines for word in line.split()}
    assert {word for name in DOCUMENTS.values() for word in name.split()} <= words


@pytest.fixture
def few(monkeypatch):
    """An optimiser and a short training: few enough for this process."""
    short = training.systems()
    found = [system for system in trajectories.systems() if system.row == "AdamW"][::3]
    found += [system for system in short if system.row == "0.12"]
    monkeypatch.setattr(parity.workers, "_systems", lambda command: found)


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
    assert {(r["row"], r["steps"], r["failed"]) for r in results} == {
        ("AdamW", 200, False), ("0.12", 6, False),
    }  # fmt: skip


def test_training_finds_a_disagreement(capsys, monkeypatch, few):
    monkeypatch.setitem(training.OPTIMIZERS, "AdamW", (optim.adam, torch.optim.AdamW))
    assert main(["training", "AdamW"]) == 1
    out = capsys.readouterr().out
    assert "FAIL AdamW lr=0.001, betas=(0.9, 0.999) [float64]: weight, step 0: error " in out
    assert "of the rows 0 agree, 1 disagree" in out
    assert "0 of 2 known mistakes are seen (" in out.splitlines()[-1]


def test_training_of_no_such_row(capsys):
    assert refused(capsys, "training", "Rprop") == (
        f"there is no row Rprop; the rows are {', '.join(TRAININGS)}"
    )


def test_trainings():
    """Each row is there, each name once, and each mistake is planted in one of them."""
    systems = trajectories.systems()
    assert list(dict.fromkeys(system.row for system in systems)) == list(TRAININGS)
    names = [(system.row, system.name) for system in systems]
    assert len({*names}) == len(names)
    assert {mistake[:2] for mistake in TRAINING_MISTAKES.values()} <= {*names}
    assert {row for row in TRAININGS if row[0].isdigit()} <= {*DOCUMENTS}


def test_schedulers_cut():
    """Several times in what is compared."""
    for system in trajectories.systems():
        if system.outputs == ["lr"]:
            rates = run_reference(system, "float64").truth["lr"]
            assert len(np.unique(rates)) > 3


def test_help_mentions_the_other_commands(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["--help"])
    assert exit.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    for command in COMMANDS:
        assert command in out.partition("other commands")[2]


def test_check_declines(capsys, tmp_path, model):
    said = lambda *arguments: refused(capsys, "check", *arguments)
    assert "names no file" in said(str(tmp_path / "none.pt"))
    assert "must end in .safetensors, .npz, .pt, .pth" in said(__file__)
    assert "under the prefix 'decoder'" in said(model, "--prefix", "decoder")
    (tmp_path / "damaged.pt").write_bytes(b"nothing")
    assert "cannot be read as .pt" in said(str(tmp_path / "damaged.pt"))
    np.save(tmp_path / "x.npy", np.ones((2, 5)))
    assert "last of 3 features" in said(model, "--input", str(tmp_path / "x.npy"))
    (tmp_path / "y.npy").write_bytes(b"nothing")
    assert said(model, "--input", str(tmp_path / "y.npy"))
    torch.save([torch.ones(3)], tmp_path / "list.pt")
    assert "must hold a state_dict, got list" in said(str(tmp_path / "list.pt"))


# Made-up results: what the report says of them.

CASE = Case("group [0]", Structure("lstm", 7, 5))
BLOCK = Block("y", "step 1", 2e-7, 1e-7, 4e-7, (1, 0, 0), 0)


def result(case=CASE, dtype="float64", mistake=None, worst=BLOCK, wrong=(), unjudged=(), slack=1.0):
    return Result(case, dtype, mistake, worst, list(wrong), list(unjudged), slack, 0.5)


OTHER = CASE._replace(time=9)
GOOD, BAD = result(), result(OTHER, wrong=["y: unexpected"])
LOST = result(OTHER, unjudged=["y from step 4 on", "h_n"])
LOST_AND_BAD = LOST._replace(wrong=["y: missing"])
SEEN, MISSED = result(mistake="one", wrong=["y: missing"]), result(mistake="two")


def test_failed():
    assert [report.failed(r) for r in (GOOD, BAD, LOST, LOST_AND_BAD)] == [False, True, False, True]
    assert [report.failed(r) for r in (SEEN, MISSED)] == [False, True]
    # A mistake excused as ill-conditioned is not seen.
    assert report.failed(MISSED._replace(unjudged=["y"]))


def test_status():
    assert [r.status for r in (GOOD, BAD, LOST, LOST_AND_BAD)] == [
        "pass", "FAIL", "not compared: y from step 4 on, h_n", "FAIL",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("results", "line"),
    [
        ([GOOD], "1 configuration, 1 comparison: 1 agree, 0 disagree (3 s)"),
        ([GOOD, GOOD._replace(dtype="float32")],
         "1 configuration, 2 comparisons: 2 agree, 0 disagree (3 s)"),
        ([GOOD, BAD], "2 configurations, 2 comparisons: 1 agree, 1 disagree (3 s)"),
        ([GOOD, LOST], "2 configurations, 2 comparisons: 1 agree, 0 disagree, "
                       "1 compared in part (3 s)"),
        ([LOST_AND_BAD], "1 configuration, 1 comparison: 0 agree, 1 disagree (3 s)"),
        ([GOOD, SEEN, MISSED], "1 configuration, 1 comparison: 1 agree, 0 disagree, "
                               "1 of 2 known mistakes are seen (3 s)"),
    ],
)  # fmt: skip
def test_verdict(results, line):
    assert report.verdict(results, 3.2) == line


def test_ratio():
    assert report.ratio(3.0, 2.0) == "1.5"
    assert report.ratio(0.0, 2.0) == "0.0"
    assert report.ratio(0.0, 0.0) == "–"
    assert report.ratio(1.0, 0.0) == "∞"


def shown(*results):
    out = io.StringIO()
    report.show(Console(file=out, width=120, soft_wrap=True), results)
    return out.getvalue()


def test_show():
    out = shown(GOOD, BAD, LOST, SEEN, MISSED, GOOD._replace(dtype="float32", slack=3.25))
    rows = [line for line in out.splitlines() if "group [0]" in line and "float" in line]
    assert "2.0e-07" in rows[0]
    assert "1.0e-07" in rows[0]
    assert "50%" in rows[0]
    assert f"{CASE.name} [float32]: allowed × 3.2, because it is saturated" in out
    assert f"{OTHER.name} [float64]: not compared: y from step 4 on, h_n" in out
    assert f"FAIL {OTHER.name} [float64]" in out
    assert f"FAIL {CASE.name} [float64], planted: two\n    the mistake was not seen" in out
    assert "planted: one" not in out


def test_show_names_the_worst_of_a_group():
    worse = GOOD._replace(worst=BLOCK._replace(error=3e-7))
    [row] = [line for line in shown(GOOD, worse, GOOD).splitlines() if "float64" in line]
    assert " 3 " in row
    assert "3.0e-07" in row
    assert "75%" in row


def test_show_says_when_it_leaves_something_out():
    out = shown(BAD._replace(wrong=[f"tensor {k}: missing" for k in range(15)]))
    assert "tensor 11: missing" in out
    assert "tensor 12: missing" not in out
    assert "… and 3 more" in out


def test_json_has_no_nan(tmp_path):
    nothing = Block("nothing", "", 0.0, 0.0, math.inf, (), None)
    broken = Block("y", "", math.nan, 1.0, 2.0, (0,), None)
    path = tmp_path / "report.json"
    report.write(path, [result(worst=nothing), result(worst=broken, wrong=["y"])], "cpu")
    first, second = json.loads(path.read_text(), parse_constant=pytest.fail)["results"]
    assert first["worst"] == {
        "tensor": "nothing", "label": "", "error": 0.0, "own": 0.0, "allowed": None,
        "worst": [], "row": None, "used": 0.0,
    }  # fmt: skip
    assert (second["worst"]["error"], second["worst"]["used"]) == (None, None)
