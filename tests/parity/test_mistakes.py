"""The tester, tested: every known mistake is seen, for its own sake and as what it is."""

import jax
import jax.numpy as jnp
import pytest

import jaxrnn
from jaxrnn._cells import gru_step, lstm_step, rnn_step
from parity.layers import pair_of
from parity.mutants.layers import (
    AT_ZERO,
    BOTH,
    CURVED,
    DROPPED,
    GATED,
    MISTAKES,
    ONE,
    PADDED,
    PLAIN,
    THREE,
    TWO,
    backward_by_hand,
    linear,
    masked_after,
    rename,
    reorder,
    swapped_final,
    swapped_initial,
    with_lengths,
    with_step,
)
from parity.mutants.plant import Mistake, plant, with_params, written
from parity.pair import verify_pair
from parity.workers import jobs, run_all


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results():
    return {result.mistake: result for result in run_all(jobs([], None, list(MISTAKES)))}


def test_there_are_enough(results):
    assert results.keys() == MISTAKES.keys()
    assert len(results) >= 20


@pytest.mark.parametrize("name", MISTAKES)
def test_it_is_seen(results, name):
    assert results[name].wrong
    assert results[name].unjudged == []  # and not excused as ill-conditioned


OUTPUTS = {"y", "h_n", "c_n"}
WEIGHTS = {f"grad {name}" for name in ONE.structure.shapes}
BACKWARD = {f"grad {name}" for name in BOTH.structure.shapes if name.endswith("_reverse")}
INPUTS = {"grad x", "grad h_0", "grad c_0"}
# Exactly the tensors that the mistake reaches. Where cotangents stand on what is wrong, all
# gradients are.
REACHED = {
    "bias_hh without gradient": {"grad bias_hh_l0"},
    "state without gradient": WEIGHTS | INPUTS,
    "padding masked after the step": WEIGHTS | INPUTS,
    "final h and c swapped": {"h_n", "c_n"} | WEIGHTS | INPUTS,
    "float32 returned": {"y"} | WEIGHTS | INPUTS,
    "output not zeroed beyond the lengths": {"y"} | WEIGHTS | BACKWARD | INPUTS,
    "final states left sorted": {"h_n", "c_n"} | WEIGHTS | BACKWARD | INPUTS,
    "final state of the padding": {"h_n", "c_n"} | WEIGHTS | BACKWARD | INPUTS,
    "backward not flipped back": {"y"} | BACKWARD | INPUTS,
    "backward run forward": OUTPUTS | BACKWARD | INPUTS,
    "backward started in the padding": OUTPUTS | BACKWARD | INPUTS,
    "initial c ignored": OUTPUTS | WEIGHTS | INPUTS,
    "relu'(0) = 1/2": {"grad x"},
    "second derivative wrong": {f"hvp {name}" for name in CURVED.structure.shapes}
    | {"hvp x", "hvp h_0"},
}


def reached(result):
    return {line.replace(":", ",").partition(",")[0] for line in result.wrong}


@pytest.mark.parametrize(("name", "tensors"), REACHED.items(), ids=REACHED)
def test_only_what_it_reaches_is_wrong(results, name, tensors):
    assert reached(results[name]) == tensors


# Of each mistake a line, by its beginning: where it shows, and how.
TOLD = {
    "bias_hh without gradient": "grad bias_hh_l0, gate i: error 1.0e+00",
    "initial state ignored": "y, step 0, batch row ",
    "initial c ignored": "grad c_0, batch row ",
    "float32 returned": "y: float32[6, 8, 5], wanted float64[6, 8, 5]",
    "final state of the last layer only": "h_n: float64[1, 8, 5], wanted float64[4, 8, 5]",
    "final states direction-major": "h_n, layer 0 backward, ",
    "output not zeroed beyond the lengths": "y: must be exactly 0 at [1, 2, ",
    "lengths ignored": "y: must be exactly 0 at [1, 2, ",
    "backward started in the padding": "grad x: must be exactly 0 at [1, 2, ",
    "padding masked after the step": "grad weight_hh_l0: nan where torch has ",
    "relu'(0) = 1/2": "grad x: must be exactly 0 at [0, 0, 0]",
    "TF32-like products": "y, step 0, batch row ",
}


@pytest.mark.parametrize(("name", "line"), TOLD.items(), ids=TOLD)
def test_the_report_tells_it(results, name, line):
    assert any(told.startswith(line) for told in results[name].wrong), results[name].wrong


# The controls: what carries the mistakes, carrying none, is right on the same cases.


def same(value, *_):
    return value


def lstm_by_hand(params, x, state):
    gates = x @ params["weight_ih"].T + params["bias_ih"]
    gates = gates + state.h @ params["weight_hh"].T + params["bias_hh"]
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = jax.nn.sigmoid(f) * state.c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jaxrnn.LSTMState(jax.nn.sigmoid(o) * jnp.tanh(c), c)


@jax.custom_jvp
def tanh(a):
    return jnp.tanh(a)


@tanh.defjvp
def _(primals, tangents):
    y = tanh(primals[0])
    return y, tangents[0] * (1 - y**2)


def turned(a, lengths):
    """Every sequence back to front, its padding where it was."""
    if lengths is None:
        return a[::-1]
    t = jnp.arange(len(a))[:, None]
    return jnp.take_along_axis(a, jnp.where(t < lengths, lengths - 1 - t, t)[..., None], 0)


def backward(params, x, state, lengths):
    y, final = jaxrnn.lstm(params, turned(x, lengths), state, lengths=lengths)
    return turned(y, lengths), final


def masked_before(params, x, state, lengths, **options):
    valid = jnp.arange(len(x))[:, None] < lengths
    return masked_after(params, jnp.where(valid[..., None], x, 0.0), state, lengths)


def transposed(params, x, state, *, batch_first, **options):
    y, final = jaxrnn.lstm(params, x.swapaxes(0, 1), state, **options)
    return y.swapaxes(0, 1), final


def swapped_twice(function):
    """h and c change places on the way, and back."""
    if function is swapped_initial:
        return lambda params, x, state, **options: function(params, x, state[::-1], **options)
    return lambda *args, **options: (lambda y, s: (y, s[::-1]))(*function(*args, **options))


def through_float64(params, x, state, **options):
    wide = lambda tree: jax.tree.map(lambda a: a.astype(jnp.float64), tree)
    return wide(jaxrnn.lstm(wide(params), wide(x), wide(state), **options))


step_of = lambda f: lambda params, x, h: f(linear(params, x, h))
there_and_back = lambda params: reorder(4, [0, 3, 1, 2])(reorder(4, [0, 2, 3, 1])(params))
CONTROLS = {
    "parameters": (with_params(same), ONE),
    "parameters, float32": (with_params(same), ONE, "float32"),
    "GRU parameters": (with_params(same), GATED),
    "gates there and back": (with_params(there_and_back), ONE),
    "names": (with_params(rename(same)), THREE),
    "names of both directions": (with_params(rename(same)), BOTH),
    "LSTM step": (with_step("lstm", lstm_step), ONE),
    "LSTM step by hand": (with_step("lstm", lstm_by_hand), ONE),
    "GRU step": (with_step("gru", gru_step), GATED),
    "RNN step": (with_step("rnn", rnn_step("tanh")), PLAIN),
    "relu at 0": (with_step("rnn", step_of(jax.nn.relu)), AT_ZERO),
    "tanh with its own derivative": (with_step("rnn", step_of(tanh)), CURVED),
    "initial states": (written(swapped_twice(swapped_initial)), ONE),
    "final states": (written(swapped_twice(swapped_final)), ONE),
    "final states of layers": (written(jaxrnn.lstm), TWO),
    "backward": (backward_by_hand(backward), BOTH),
    "backward with lengths": (backward_by_hand(backward), PADDED),
    "lengths": (with_lengths(same), PADDED),
    "masked before the step": (
        written(masked_before),
        MISTAKES["padding masked after the step"].pair,
    ),
    "transposed": (written(transposed), MISTAKES["batch_first by reshape"].pair),
    "dropout": (written(jaxrnn.lstm), DROPPED),
    "float64 all the way": (written(through_float64), ONE),
}


@pytest.mark.parametrize("control", CONTROLS.values(), ids=CONTROLS)
def test_without_a_mistake_nothing_is_wrong(control):
    mistake = Mistake(*control)
    result = verify_pair(plant(mistake, pair_of(mistake.pair)), mistake.dtype)
    assert result.status == "pass", result.wrong


def test_every_case_with_a_mistake_has_a_control():
    controlled = {case for _, case, *_ in CONTROLS.values()}
    assert {mistake.pair for mistake in MISTAKES.values()} <= controlled
