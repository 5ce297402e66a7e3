"""The command: what it prints, what it writes, and how it exits."""

import json

import jax
import numpy as np
import pytest
import torch
from commands import refused

import jaxrnn
from parity.__main__ import main
from parity.cases import table
from parity.commands import COMMANDS
from parity.mutants.layers import MISTAKES


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """A terminal in which no table is folded."""
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def wrong_cell(monkeypatch):
    """A GRU cell that errs by some millionths."""
    right = jaxrnn.gru_cell
    monkeypatch.setattr(jaxrnn, "gru_cell", lambda *args: right(*args) * (1 + 3e-6))


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
    matching = capsys.readouterr().out.splitlines()
    assert matching == [name for name in names if wanted(name)]
    assert matching


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


def test_help_mentions_the_other_commands(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["--help"])
    assert exit.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    for command in COMMANDS:
        assert command in out.partition("other commands")[2]


def test_check_declines(capsys, tmp_path, model):
    sentence = lambda *arguments: refused(capsys, "check", *arguments)
    assert "names no file" in sentence(str(tmp_path / "none.pt"))
    assert "must end in .safetensors, .npz, .pt, .pth" in sentence(__file__)
    assert "under the prefix 'decoder'" in sentence(model, "--prefix", "decoder")
    (tmp_path / "damaged.pt").write_bytes(b"nothing")
    assert "cannot be read as .pt" in sentence(str(tmp_path / "damaged.pt"))
    np.save(tmp_path / "x.npy", np.ones((2, 5)))
    assert "last of 3 features" in sentence(model, "--input", str(tmp_path / "x.npy"))
    (tmp_path / "y.npy").write_bytes(b"nothing")
    assert sentence(model, "--input", str(tmp_path / "y.npy"))
    torch.save([torch.ones(3)], tmp_path / "list.pt")
    assert "must hold a state_dict, got list" in sentence(str(tmp_path / "list.pt"))
