"""The numpy network with torch's conventions is the truth, and each other convention is not."""

import jax
import numpy as np
import pytest

from parity.backends import numpy as truth
from parity.backends.data import draw
from parity.cases import GRU, LSTM, PROJECTED, RAGGED, RNN, Case, table
from parity.diagnosis import layer as variants
from parity.diagnosis.conventions import compatible, conventions, predict


def wide(arrays):
    return {name: a.astype(np.longdouble) for name, a in arrays.items()}


@pytest.mark.filterwarnings("ignore:Output seems independent of input")
def test_torchs_conventions_are_the_truth():
    """On every seventh case, outputs and gradients, to the last bits of a longdouble."""
    for case in [case for case in table() if case.group != "chaotic"][::7]:
        case = case._replace(second_order=False)
        data, true = draw(case, "float64"), truth.run(case, draw(case, "float64"))
        leaves, cotangents = wide(data.leaves), wide(data.cotangents)
        found = variants.outputs(case, leaves, data.masks)
        found |= variants.gradients(case, leaves, cotangents, data.masks)
        assert found.keys() == true.keys()
        for name, a in found.items():
            scale = np.abs(true[name]).max(initial=0) or 1
            assert np.abs(a - true[name]).max(initial=0) <= 1e-16 * scale, (case.name, name)


DEEP = {"num_layers": 3, "bidirectional": True}
CASES = [
    Case("conventions", LSTM._replace(**DEEP), dropout=0.3),
    Case("conventions", LSTM._replace(bidirectional=True), lengths=RAGGED, padding=0.5),
    Case("conventions", GRU._replace(**DEEP), batch_first=True, state=False),
    Case("conventions", GRU),
    Case("conventions", RNN._replace(num_layers=2), lengths=(4,), batch=None, padding=0.5),
    Case("conventions", RNN, "relu"),
    Case("conventions", PROJECTED._replace(**DEEP)),
    Case("conventions", LSTM._replace(kind="lstm_cell"), time=1),
]
NOTHING = "last layer's final state only", "last row of the final states", "h_n from the last step"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_convention_is_another(case):
    """None gives torch's results, and no two of them give the same."""
    data = draw(case, "float64")
    masks = data.masks is not None
    results = {"torch": predict((), case, data.leaves, data.masks)}
    for convention in conventions(case, masks):
        results[convention.what] = predict((convention,), case, data.leaves, data.masks)
    same = lambda a, b: jax.tree.all(jax.tree.map(np.array_equal, a, b))
    names = list(results)
    assert len(names) == len(conventions(case, masks)) + 1
    for i, name in enumerate(names):
        for other in names[:i]:
            if not any(part in name for part in NOTHING):  # of a single layer or direction
                assert not same(results[name], results[other]), (name, other)


def test_conventions_of_one_slot_exclude_one_another():
    first, second, *_ = conventions(CASES[0])
    assert first.slot == second.slot
    assert not compatible((first, second))
