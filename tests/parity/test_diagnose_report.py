"""The report of `diagnose`: unexplained errors, ties, remarks, changes, JSON, and its command."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diagnosing import diagnosed, outputs_of, result

import jaxrnn
from jaxrnn._cells import rnn_step
from parity import diagnose
from parity.__main__ import main
from parity.mutants.layers import reorder, transpose_recurrent
from parity.mutants.ports import PORTS, RIGHT
from parity.mutants.ports.layer import (
    GATED,
    ONE,
    PLAIN,
    STACKED,
    both,
    itself,
    numbers,
    on,
    planted,
    with_params,
)
from parity.mutants.ports.weights import gates


def test_other_weights_are_not_a_convention():
    upside_down = with_params(on("weight_hh", lambda a: a[::-1]))
    diagnosis = diagnosed(planted("", upside_down), "rows turned")
    assert (diagnosis.verdict, diagnosis.explanations) == ("unknown", [])
    assert "none of what is known explains it" in str(diagnosis)
    assert "of their" in diagnosis.tried  # pairs were tried


@pytest.mark.parametrize(("by", "verdict"), [(1e-3, "unknown"), (1e-5, "precision")])
def test_a_small_difference_is_not_taken_for_a_convention(by, verdict):
    slipped = planted("", with_params(on("bias_ih", lambda a: a + by)))
    diagnosis = diagnosed(slipped, "a little off", 0.3)
    assert (diagnosis.verdict, diagnosis.explanations) == (verdict, []), str(diagnosis)
    assert ("the size of rounding" in str(diagnosis)) == (verdict == "precision")


@pytest.mark.parametrize(("dtype", "by"), [("float32", 3e-5), ("float64", 1e-13)])
def test_a_convention_and_a_slip_are_not_that_convention(dtype, by):
    """Some ten times the allowance is left, and so nothing is named."""
    slipped = with_params(on("bias_ih", lambda a: a + np.asarray(by, dtype)))
    both_wrong = both(gates(0, 2, 1, 3), slipped)
    diagnosis = diagnosed(planted("", both_wrong, dtype=dtype), "one slip", 0.3)
    assert diagnosis.explanations == [], str(diagnosis)
    assert diagnosis.verdict == "unknown"


def test_bfloat16_is_not_taken_for_torchs():
    upside_down = with_params(on("weight_hh", lambda a: a[::-1]))
    diagnosis = diagnosed(planted("", upside_down, dtype="bfloat16"), "bfloat")
    assert (diagnosis.verdict, diagnosis.explanations) == ("unknown", [])
    assert not any("is torch's" in pattern for pattern in diagnosis.patterns)


def test_pairs_that_do_not_go_together_are_passed_over():
    """One convention halves the features of y, the other looks beyond the lengths in it."""
    s = PLAIN.structure._replace(bidirectional=True)
    _, weights, inputs = numbers("halves", PLAIN._replace(structure=s, lengths=()))
    y = np.full((*inputs["x"].shape[:2], 2 * len(weights["weight_hh_l0"])), 7, np.float32)
    assert diagnose(None, weights, inputs, {"y": y}).verdict == "unknown"


def test_ties_are_listed():
    """If both biases are the same, nobody can tell which one is missing."""
    case, weights, inputs = numbers("tied", PORTS["no bias_hh"].pair)
    weights["bias_ih_l0"] = weights["bias_hh_l0"]
    outputs = outputs_of(PORTS["no bias_hh"], case, weights, inputs)
    diagnosis = diagnose(None, weights, inputs, outputs)
    explanations = [str(explanation) for explanation in diagnosis.explanations]
    assert explanations == ["leaves out `bias_hh`", "leaves out `bias_ih`"]
    assert "as well explained: the port leaves out `bias_ih`" in str(diagnosis)
    assert "`bias_ih_l0` and `bias_hh_l0` are the same" in str(diagnosis)


# Remarks on the inputs, and how they are read.


def test_inputs_come_first():
    _, weights, inputs = numbers("inputs", GATED._replace(state=False))
    weights["bias_hh_l0"] = weights["bias_ih_l0"]
    x = np.ones_like(inputs["x"][:2])
    y, hn = jaxrnn.gru(weights, x)
    remarks = diagnose(None, weights, {"x": x}, {"y": y, "hn": hn}).problem.remarks
    assert remarks == [
        "`x` is 1 everywhere, which hides mistakes: draw it",
        "`bias_ih_l0` and `bias_hh_l0` are the same",
        "no initial state is given: what happens to it cannot be seen",
        "with 2 steps, little of what happens over time can be seen",
    ]


def test_weights_as_loaded():
    """The report says what was done to them, by name."""
    _, weights, inputs = numbers("loaded", ONE)
    y, _ = jaxrnn.lstm(weights, inputs["x"])
    remarks = lambda **loaded: diagnose(
        None, weights, {"x": inputs["x"]}, {"y": y}, loaded=weights | loaded
    ).problem.remarks[1:]
    hh, bias = weights["weight_hh_l0"], weights["bias_ih_l0"]
    assert remarks() == ["the weights as loaded are torch's"]
    assert remarks(weight_hh_l0=hh.T) == [
        f"`weight_hh_l0` as loaded has shape {hh.T.shape}, torch's {hh.shape}: it is torch's "
        "transposed"
    ]
    for changed, what in [
        (reorder(4, [0, 2, 1, 3])({"w": hh})["w"], "its gates are in the order i, g, f, o"),
        (
            transpose_recurrent({"weight_hh": hh})["weight_hh"],
            "the block of each gate is transposed",
        ),
        (0 * hh, "not loaded"),
    ]:
        [line] = remarks(weight_hh_l0=np.asarray(changed))
        assert line.startswith("`weight_hh_l0` as loaded is off by up to ")
        assert line.endswith(what)
    assert remarks(bias_ih_l0=bias + 0.5) == ["`bias_ih_l0` as loaded is off by up to 5.0e-01"]
    assert remarks(extra=bias) == ["`extra` was loaded, but is not torch's"]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("names", [("x", "h0", "c0"), ("x", "lengths")])
def test_batch_first_is_read_off_the_inputs(first, names):
    case = ONE._replace(state="h0" in names, batch_first=first)
    case = case._replace(lengths=() if "lengths" in names else None)
    case, weights, inputs = numbers("layout", case)
    outputs = outputs_of(planted("", itself), case, weights, inputs)
    diagnosis = diagnose(None, weights, inputs, outputs)
    assert diagnosis.passed, str(diagnosis)
    assert diagnosis.problem.case.batch_first == first
    assert any("x is taken to be batch first" in r for r in diagnosis.problem.remarks) == first


def test_batch_first_is_not_read_off_wrong_results():
    """The final state of the port has T rows, as if x were (batch, time)."""
    case, weights, inputs = numbers("batch first", PORTS["batch first"].pair)
    outputs = outputs_of(PORTS["batch first"], case, weights, inputs)
    diagnosis = diagnose(None, weights, inputs, outputs)
    assert "takes x for (batch, time)" in str(diagnosis.explanations[0])


def test_another_dtype_does_not_agree():
    case, weights, inputs = numbers("dtype", ONE, "float64")
    y = outputs_of(planted("", itself), case, weights, inputs)["y"]
    diagnosis = diagnose(None, weights, inputs, {"y": y.astype(np.float32)})
    assert (diagnosis.verdict, diagnosis.passed) == ("precision", False)
    assert "the port returns y in float32" in str(diagnosis)


def test_a_port_that_makes_zeros_runs_without_x64():
    """Under x64 `jnp.zeros` would be float64, and the port wrong."""

    def port(weights, x):
        step = lambda h, x: (rnn_step("tanh")(cell, x, h),) * 2
        cell = {name[:-3]: a for name, a in weights.items()}
        h, y = jax.lax.scan(step, jnp.zeros((x.shape[1], len(cell["weight_hh"]))), x)
        return y, h[None]

    _, weights, inputs = numbers("zeros", PLAIN._replace(state=False))
    with jax.enable_x64(False):
        assert diagnose(None, weights, inputs, port).passed


def test_empty_sequences_only():
    for batch, lengths in ((3, [0, 0, 0]), (None, 0)):
        _, weights, inputs = numbers("empty", GATED._replace(state=False))
        x = inputs["x"][:, :3] if batch else inputs["x"][:, 0]
        inputs = {"x": x, "lengths": np.array(lengths)}
        port = jax.jit(lambda weights, x, lengths: jaxrnn.gru(weights, x, lengths=lengths))
        y, hn = port(weights, **inputs)
        assert diagnose(None, weights, inputs, {"y": y, "hn": hn}).passed
        assert diagnose(None, weights, inputs, port).passed


# The report and the command.


def test_report_and_json():
    diagnosis = result("LSTM i g f o")
    text = str(diagnosis)
    assert text.startswith("torch.nn.LSTM(")
    for part in ("inputs", "verdict", "where", "what", "change"):
        assert f"\n{part} " in text
    assert "np.concatenate([np.split(w, 4)[k] for k in (0, 2, 1, 3)])" in text
    written = json.loads(diagnosis.to_json(), parse_constant=pytest.fail)
    assert written["verdict"] == "named"
    assert "(haiku)" in written["explanations"][0]["conventions"][0]
    assert {tensor["tensor"] for tensor in written["tensors"]} == {"y", "hn", "cn"}
    assert written["slack"] == diagnosis.slack
    assert (f"allowed × {diagnosis.slack:.1f}" in text) == (diagnosis.slack > 1)


def haiku_projected(params):
    gated = {name: a for name, a in params.items() if "weight_hr" not in name}
    return params | reorder(4, [0, 2, 1, 3])(gated)


GRU_STACKED = STACKED._replace(structure=STACKED.structure._replace(kind="gru"))
PROJECTED = ONE._replace(structure=ONE.structure._replace(proj_size=3))


@pytest.mark.parametrize(
    "mistake",
    [
        PORTS["LSTM f i o g"],
        planted("", gates(1, 2, 0), GRU_STACKED),
        planted("", with_params(haiku_projected), PROJECTED),
    ],
    ids=["LSTM", "GRU", "projected"],
)
def test_the_change_mends_the_port(mistake):
    """After the change that is printed, word for word, the port agrees."""
    case, weights, inputs = numbers("mended", mistake.pair)
    outputs = outputs_of(mistake, case, weights, inputs)
    diagnosis = diagnose(None, weights, inputs, outputs)
    names, _, code = diagnosis.explanations[0].conventions[0].change.partition(": ")
    assert names == "before you load a weight_ih, weight_hh or bias w"
    parts = ("weight_ih", "weight_hh", "bias")
    change = lambda w: eval(code, {"np": np, "w": w})
    changed = {n: change(w) if n.startswith(parts) else w for n, w in weights.items()}
    outputs = outputs_of(mistake, case, changed, inputs)
    assert diagnose(None, weights, inputs, outputs).passed


def save(path, mistake, name):
    case, weights, inputs = numbers(name, mistake.pair)
    outputs = outputs_of(mistake, case, weights, inputs)
    named = {f"w/{n}": a for n, a in weights.items()} | inputs | outputs
    np.savez(path, **named)
    return str(path)


def test_command(tmp_path, capsys):
    file = save(tmp_path / "port.npz", PORTS["LSTM i g f o"], "LSTM i g f o")
    written, script = tmp_path / "report.json", tmp_path / "again.py"
    assert main(["diagnose", file, "--json", str(written), "--script", str(script)]) == 1
    assert "the port takes the rows of the gates for i, g, f, o (haiku)" in capsys.readouterr().out
    assert json.loads(written.read_text())["verdict"] == "named"
    assert script.exists()
    before = np.load(file).files
    next_to_it = tmp_path / "port.py"  # whose numbers must not take the place of the user's
    assert main(["diagnose", file, "--script", str(next_to_it)]) == 1
    assert np.load(file).files == before
    capsys.readouterr()
    right = save(tmp_path / "right.npz", RIGHT["RNN relu"], "relu")
    assert main(["diagnose", right, "--nonlinearity", "relu"]) == 0
    assert "the port agrees with torch" in capsys.readouterr().out
    assert main(["diagnose", right]) == 1
    assert "the port has relu for tanh" in capsys.readouterr().out
