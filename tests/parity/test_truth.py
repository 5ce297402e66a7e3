"""Both sides are measured against the truth in numpy, which must be right, and wider than both."""

import functools

import jax
import numpy as np
import pytest

import jaxrnn
from jaxrnn import Structure
from parity.backends import jax as jax_backend
from parity.backends import numpy as truth
from parity.backends import torch as torch_backend
from parity.backends.data import draw
from parity.cases import Case
from parity.layers import first_wrong_state
from parity.mutants.layers import add


EPS = 2.0**-52
RAGGED = (3, 6, 0, 5, 2, 6, 4, 1)
LSTM, GRU, RNN = (Structure(kind, 7, 5) for kind in ("lstm", "gru", "rnn"))
DEEP = LSTM._replace(num_layers=2, bidirectional=True)

CASES = [
    Case("truth", DEEP, second_order=True),
    Case("truth", DEEP._replace(proj_size=3), lengths=RAGGED, batch_first=True, second_order=True),
    Case("truth", GRU._replace(bidirectional=True), lengths=RAGGED, state=False, second_order=True),
    Case("truth", GRU._replace(num_layers=3), dropout=0.3, lengths=RAGGED, batch_first=True),
    Case("truth", RNN._replace(num_layers=2, bias=False), "relu", batch_first=True),
    Case("truth", RNN._replace(bidirectional=True), lengths=(4,), batch=None),
    Case("truth", LSTM._replace(num_layers=3), dropout=1.0),
    Case("truth", LSTM._replace(kind="lstm_cell"), time=1, second_order=True),
    Case("truth", GRU._replace(kind="gru_cell", bias=False), time=1, batch=None, state=False),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
# Those that have states on the way.
every_layer = pytest.mark.parametrize("case", CASES[:6], ids=lambda case: case.name)


@functools.cache
def truth_of(case):
    return truth.run(case, draw(case, "float64"))


@every_case
def test_torch_in_float64_is_near(case):
    """Outputs, gradients and Hessian-vector products, each within some roundings."""
    true, results = truth_of(case), torch_backend.run_case(case, draw(case, "float64"))
    assert true.keys() == results.keys()
    assert any(name.startswith("hvp") for name in true) == case.second_order
    for name, a in results.items():
        assert a.shape == true[name].shape
        assert np.abs(a - true[name]).max() <= 1e-14 * np.abs(true[name]).max(), name


@every_case
def test_everything_is_longdouble(case):
    """And where that is wider than float64, nothing was rounded to it: its last bits are used."""
    for name, value in truth_of(case).items():
        assert value.dtype == np.longdouble
        if truth.EPS < EPS and value.any():
            used = value != value.astype(np.float64)
            assert used[value != 0].mean() > 0.8, name  # where length is 0, h_0 passes through


@pytest.mark.skipif(truth.EPS >= EPS, reason="longdouble is no wider than float64 here")
@pytest.mark.parametrize(
    "case", [CASES[0], CASES[1], CASES[2], CASES[7]], ids=lambda case: case.name
)
def test_gradients_keep_every_digit(case):
    """Along a direction v the gradient is Im f(leaves + i h v) / h, without any cancellation."""
    data = draw(case, "float64")
    step = np.longdouble(1e-100)
    moved = {
        name: a.astype(np.clongdouble) + 1j * step * data.tangents[name]
        for name, a in data.leaves.items()
    }
    outputs = truth._outputs(case, moved, data.masks)
    along = sum(np.sum(data.cotangents[name] * a) for name, a in outputs.items()).imag / step
    parts = [truth_of(case)[f"grad {name}"] * v for name, v in data.tangents.items()]
    size = sum(np.abs(part).sum() for part in parts)
    assert abs(sum(np.sum(part) for part in parts) - along) < 10 * truth.EPS * size


@every_layer
def test_states_on_the_way(case):
    """In both, and their ends are the final states: each sequence's own, of either direction."""
    data = draw(case, "float64")
    states, true = jax_backend.states(case, data), truth.states(case, data)
    final = truth_of(case)
    names = ("h_n", "c_n")[: len(true)]
    assert len(states) == len(true) == sum(name in final for name in names)
    lengths = case.lengths or [case.time] * (case.batch or 1)
    for name, a, b in zip(names, states, true, strict=True):
        assert a.shape == b.shape
        assert b.dtype == np.longdouble
        last = final[name][:, None] if case.batch is None else final[name]
        for row, length in enumerate(lengths):
            np.testing.assert_allclose(
                a[:length, :, row], b[:length, :, row].astype(float), rtol=0, atol=1e-14
            )
            assert np.isnan(b[length:, :, row]).all()
            for cell, end in enumerate(last[:, row] if length else []):
                backward = case.structure.bidirectional and cell % 2
                assert (b[0 if backward else length - 1, cell, row] == end).all()


@every_layer
def test_no_wrong_state(case):
    message = first_wrong_state(case, draw(case, "float64"), EPS)
    assert message == "no state on the way is off by more than 2.2e-13"


PADDED = Case("truth", DEEP, lengths=RAGGED)


def message_about(field, at, value):
    """What is said of jaxrnn's LSTM with a value added to some of its states.

    What is added comes with the parameters, so that one compiled program serves all places.
    """
    data = draw(PADDED, "float64")
    states = [f"{name}_n" for name in "hc"]
    added = {name: np.zeros((PADDED.time, *data.cotangents[name].shape)) for name in states}
    added[f"{field}_n"][at] = value
    data = data._replace(params=data.params | added)
    return first_wrong_state(PADDED, data, EPS, with_added_states)


def with_added_states(params, x, state, **options):
    params = dict(params)
    added = jaxrnn.LSTMState(params.pop("h_n"), params.pop("c_n"))
    y, states = jaxrnn.lstm(params, x, state, **options)
    return y, jax.tree.map(jax.numpy.add, states, added)


PLACES = {
    # A cell that is wrong from a step on: in its own time, and so is all that comes after it.
    "layer 0, forward": ("h", np.s_[3:, 0, 6, 1],
                         "h of layer 0, forward, step 3, batch row 6, unit 1"),
    "layer 0, backward": ("c", np.s_[:3, 1, 1, 4],
                          "c of layer 0, backward, step 2, batch row 1, unit 4"),
    "layer 1, forward": ("c", np.s_[5:, 2, 5, 0],
                         "c of layer 1, forward, step 5, batch row 5, unit 0"),
    "layer 1, backward": ("h", np.s_[:2, 3, 0, 2],
                          "h of layer 1, backward, step 1, batch row 0, unit 2"),
    # Backward begins at a sequence's own end; beyond it there is no truth to leave.
    "from the padding": ("h", np.s_[:, 3, 4, 0],
                         "h of layer 1, backward, step 1, batch row 4, unit 0"),
    "lower layers first": ("h", np.s_[0, 1:3, 0, 0],
                           "h of layer 0, backward, step 0, batch row 0, unit 0"),
}  # fmt: skip


@pytest.mark.parametrize(("field", "at", "text"), PLACES.values(), ids=PLACES)
def test_first_wrong_state_is_found(field, at, text):
    assert message_about(field, at, 1e-6).startswith(f"first wrong state: {text}: off by ")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_are_wrong(value):
    field, at, text = PLACES["layer 1, backward"]
    assert message_about(field, at, value).startswith(f"first wrong state: {text}: off by ")


def test_only_padding_is_wrong():
    assert message_about("h", np.s_[4:, :, 4], 1.0).startswith("no state on the way")


def test_a_wrong_parameter_shows_where_it_is_first_used():
    """In the second layer's backward cell: at its first step, which is the last in time."""
    case = Case("truth", DEEP)
    forget_gate_of_unit_3 = (5 + 3, 1)
    change = add("weight_hh_l1_reverse", 1e-6, forget_gate_of_unit_3)
    apply = lambda params, *args, **options: jaxrnn.lstm(change(params), *args, **options)
    message = first_wrong_state(case, draw(case, "float64"), EPS, apply)
    assert message.startswith("first wrong state: h of layer 1, backward, step 5, batch row ")
    assert ", unit 3: off by " in message
    case = case._replace(lengths=(4, 3, 2, 1, 4, 0, 2, 3))
    message = first_wrong_state(case, draw(case, "float64"), EPS, apply)
    assert message.startswith("first wrong state: h of layer 1, backward, step 3, batch row ")
    assert message.partition("batch row ")[2][0] in "04"
