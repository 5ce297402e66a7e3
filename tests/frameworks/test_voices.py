"""The voices: all agree, and a wrong one is named, whichever it is."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from parity.__main__ import main
from parity.backends import torch as torch_backend
from parity.backends.data import draw
from parity.commands import voices as command
from parity.frameworks import voices
from parity.frameworks.voices import Answer, Job, Voice, alone, networks, run, weigh


def short(kinds):
    """The networks of these kinds on three short sequences; numpy takes long for long ones."""
    return [
        case._replace(time=3, batch=3, lengths=case.lengths and (2, 3, 1))
        for case in networks(kinds)
    ]


[RNN_ONE, RNN_TWO, RNN_LENGTHS] = short(["rnn"])
[LSTM_ONE, LSTM_TWO, LSTM_LENGTHS] = short(["lstm"])


@pytest.fixture(autouse=True)
def usual(monkeypatch):
    """A usual terminal; and the variable that a worker sets is restored."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("KERAS_BACKEND", "jax")


def statuses(case, dtype, *names):
    return {r.voice: r.status for r in run(Job(case, dtype, names))}


def swapped(case, data):
    """Swaps gates."""
    first, *others = np.split(data.params["weight_ih_l0"], case.structure.gates)
    turned = {"weight_ih_l0": np.concatenate([*others, first])}
    return torch_backend.run_case(case, data._replace(params=data.params | turned))


def without_gradients(arrays):
    return {name: a for name, a in arrays.items() if not name.startswith("grad")}


WRONG = {
    "gates": swapped,
    "a gradient": lambda case, data: torch_backend.run_case(case, data) | {
        "grad x": torch_backend.run_case(case, data)["grad x"] * (1 + 1e-4)
    },
    "a number that is none": lambda case, data: torch_backend.run_case(case, data) | {
        "h_n": torch_backend.run_case(case, data)["h_n"] * np.nan
    },
    "a shape": lambda case, data: torch_backend.run_case(case, data) | {
        "y": torch_backend.run_case(case, data)["y"][:-1]
    },
    "no states": lambda case, data: {"y": torch_backend.run_case(case, data)["y"]},
    "a dtype": lambda case, data: {
        name: a.astype(np.float32) for name, a in torch_backend.run_case(case, data).items()
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_all_agree():
    """In float64; the tests of the peers compare them with torch in float32."""
    results = statuses(LSTM_TWO, "float64", *voices.VOICES)
    assert results == dict.fromkeys(voices.VOICES, "agrees") | dict.fromkeys(
        voices.FLOAT32_ONLY, "other"
    )


@pytest.mark.parametrize("kind", voices.KINDS)
def test_onnxruntime(kind):
    *_, lengths = short([kind])
    names = ("numpy", "torch", "onnxruntime")
    assert statuses(lengths, "float32", *names) == dict.fromkeys(names, "agrees")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_keras_is_rightly_silent(monkeypatch):
    """Once keras computes tanh in float64, it should be compared."""
    monkeypatch.delitem(voices.FLOAT32_ONLY, "keras")
    job = Job(LSTM_ONE, "float64", ("numpy", "torch", "keras"))
    results = run(job)
    assert alone(results) == ["lstm, one layer [float64]: keras stands alone, the other 2 agree"]
    assert 1e-9 < results[-1].error < 1e-6


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("name", ["numpy", "torch", "linen"])
def test_a_wrong_voice_is_named(monkeypatch, name, wrong):
    """Even where it is the truth itself; ONNX Runtime has no gradients and cannot judge them."""
    for voice in "numpy", "torch", "linen":
        monkeypatch.setitem(voices.VOICES, voice, Voice(torch_backend.run_case, ("torch",)))
    silent = lambda case, data: without_gradients(torch_backend.run_case(case, data))
    monkeypatch.setitem(voices.VOICES, "onnxruntime", Voice(silent, ("torch",)))
    monkeypatch.setitem(voices.VOICES, name, Voice(wrong, ("torch",)))
    monkeypatch.setattr(voices, "FLOAT32_ONLY", {})
    results = run(Job(LSTM_ONE, "float64", ("onnxruntime", "numpy", "torch", "linen")))
    [line] = alone(results)
    assert line == f"lstm, one layer [float64]: {name} stands alone, the other 3 agree"


def test_no_majority():
    data = draw(RNN_ONE, "float64")
    right = torch_backend.run_case(RNN_ONE, data)
    wrong = {name: a * 1.01 for name, a in right.items()}
    answers = {"one": right, "two": right, "three": wrong, "four": wrong}
    assert {why for why, _ in weigh(RNN_ONE, "float64", data, answers).values()} == {"no majority"}
    silent = {name: without_gradients(right) for name in answers}
    assert {why for why, _ in weigh(RNN_ONE, "float64", data, silent).values()} == {"no majority"}
    assert weigh(RNN_ONE, "float64", data, {}) == {}


def test_what_nobody_can_judge_has_no_majority():
    data = draw(RNN_ONE, "float64")
    right = torch_backend.run_case(RNN_ONE, data)
    broken = right | {"h_n": right["h_n"] * np.nan}
    answers = dict.fromkeys(["one", "two", "three"], broken)
    assert {why for why, _ in weigh(RNN_ONE, "float64", data, answers).values()} == {"no majority"}


def test_many_differ():
    result = lambda voice, status: voices.Answer("rnn", "rnn", "float32", voice, status)
    apart = [result("a", "DIFFERS"), result("b", "DIFFERS")]
    others = [result(name, "agrees") for name in "cde"]
    assert alone([*apart, *others]) == ["rnn [float32]: a, b differ from the 3 that agree"]
    assert alone(apart) == ["rnn [float32]: no majority among a, b"]
    assert alone(others) == []


def test_who_breaks_does_not_silence_the_others(monkeypatch):
    def broken(case, data):
        raise RuntimeError("out of\nmemory")

    monkeypatch.setitem(voices.VOICES, "linen", Voice(broken, ("flax",)))
    results = run(Job(RNN_ONE, "float32", ("numpy", "torch", "linen")))
    assert [r.status for r in results] == ["agrees", "agrees", "failed"]
    assert results[-1].why == "RuntimeError: out of"


COMMAND = ["voices", "--cell", "rnn", "--dtype", "float32"]
NAMES = ["numpy", "torch", "haiku", "onnxruntime"]
ASKED = [word for name in NAMES for word in ("--voice", name)]


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(voices, "networks", short)


def test_command(capsys, tmp_path, few):
    path = tmp_path / "voices.json"
    assert main([*COMMAND, *ASKED, "--json", str(path)]) == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    assert ["3", "agree"] in [line[-2:] for line in lines if line[:1] == ["onnxruntime"]]
    assert ["–", "silent"] in [line[-2:] for line in lines if line[:1] == ["haiku"]]
    assert "haiku is silent: haiku's RNN is one of relu (3)" in out
    assert "errors of what used most of its allowance, in float32\n" in out
    assert "4 voices, 3 networks, 9 answers that agree, 0 networks in which" in out
    written = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert [*written["versions"]["voices"]] == NAMES
    assert len(written["results"]) == 12


def test_command_names_who_is_wrong(capsys, monkeypatch, few):
    monkeypatch.setitem(voices.VOICES, "onnxruntime", Voice(swapped_rnn, ("onnxruntime",)))
    assert main([*COMMAND, *ASKED]) == 1
    out = " ".join(capsys.readouterr().out.split())  # however the lines are folded
    for network in "one layer", "two bidirectional", "with lengths":
        line = f"DISAGREE rnn, {network} [float32]: onnxruntime stands alone, the other 2 agree"
        assert line in out
    assert "onnxruntime, rnn, one layer [float32]: y, step 0" in out
    assert "3 networks in which any differs or fails" in out


def test_command_names_who_breaks(capsys, monkeypatch):
    def broken(case, data):
        raise RuntimeError("out of memory")

    monkeypatch.setitem(voices.VOICES, "onnxruntime", Voice(broken, ("onnxruntime",)))
    monkeypatch.setattr(voices, "networks", lambda kinds: [RNN_ONE])
    assert main([*COMMAND, *ASKED]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "FAILED onnxruntime, rnn, one layer [float32]: RuntimeError: out of memory" in out
    assert "1 networks in which any differs or fails" in out


@pytest.mark.parametrize("dtypes", [voices.WIDTHS, ["float32"]])
def test_nothing_is_cut(dtypes):
    """The widest table: every kind, dtype and verdict."""
    statuses = ("agrees", "DIFFERS", "failed", "other")
    results = [
        Answer(case.group, case.structure.kind, dtype, voice, status, "it has none", 1.5e-16, 1.2)
        for case in networks([*voices.KINDS])
        for dtype in dtypes
        for voice in voices.VOICES
        for status in statuses
    ]
    console = Console(width=80, file=io.StringIO(), soft_wrap=True)  # as in __main__
    command._show(console, results)
    lines = console.file.getvalue().splitlines()
    assert "…" not in "".join(lines)
    caption = f"errors of what used most of its allowance, in {', then '.join(dtypes)}"
    [end] = [i for i, line in enumerate(lines) if line.strip() == caption]
    assert max(map(len, lines[: end + 1])) <= 80
    heads = ["voice", "version", *voices.KINDS, "of", "allowed", "verdict"]
    assert heads in [line.split() for line in lines]
    each = 9 * len(dtypes)
    last = [line.split() for line in lines if line.startswith(" onnxruntime ")]
    assert [line[2:] for line in last] == [[*["1.5e-16"] * 3, "120%", str(each), "agree"]]
    assert sum("onnxruntime is silent: it has none" in line for line in lines) == 1


def swapped_rnn(case, data):
    """The input's features are in the wrong order."""
    turned = {"weight_ih_l0": data.params["weight_ih_l0"][:, ::-1].copy()}
    data = data._replace(params=data.params | turned)
    return without_gradients(torch_backend.run_case(case, data))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--voice", "numpy", "--voice", "torch"], "a majority takes at least 3 voices, got numpy"),
        (["--voice", "mxnet"], "argument --voice: invalid choice"),
        (["--cell", "transformer"], "argument --cell: invalid choice"),
        (["--json", "no/such.json"], "--json no/such.json: there is no such folder"),
    ],
)
def test_nonsense(capsys, arguments, sentence):
    with pytest.raises(SystemExit) as exit:
        main(["voices", *arguments])
    assert exit.value.code == 2
    assert sentence in capsys.readouterr().err


def test_what_is_not_installed(monkeypatch):
    missing = voices.VOICES["onnxruntime"]._replace(distributions=("onnxruntime", "not-installed"))
    monkeypatch.setitem(voices.VOICES, "onnxruntime", missing)
    assert voices.installed(["numpy", "onnxruntime", "keras"]) == ["numpy", "keras"]
    assert voices.version_of("numpy") == np.__version__
