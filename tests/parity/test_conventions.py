"""The numpy layer with torch's conventions is the truth, and each other convention differs."""

import numpy as np
import pytest

from parity.backends import numpy as truth
from parity.backends.data import draw
from parity.cases import (
    GRU,
    LSTM,
    PROJECTED,
    RAGGED,
    RNN,
    Case,
    table,
)
from parity.diagnosis import layer
from parity.diagnosis.conventions import compatible, conventions
from parity.diagnosis.predict import cast, outputs_of


@pytest.mark.filterwarnings("ignore:Output seems independent of input")
def test_torchs_conventions_are_the_truth():
    """On every seventh case, outputs and gradients, to the last bits of a longdouble."""
    for case in [case for case in table() if case.group != "chaotic"][::7]:
        case = case._replace(second_order=False)
        data = draw(case, "float64")
        true = truth.run(case, data)
        leaves, cotangents = (cast(np.longdouble, a) for a in (data.leaves, data.cotangents))
        run = lambda leaves, case=case, masks=data.masks: layer.outputs(case, leaves, masks)
        results = run(leaves) | layer.gradients(run, leaves, cotangents)
        assert results.keys() == true.keys()
        for name, a in results.items():
            scale = np.abs(true[name]).max(initial=0) or 1
            assert np.abs(a - true[name]).max(initial=0) <= 1e-16 * scale, (case.name, name)


DEEP = {"num_layers": 3, "bidirectional": True}
CASES = [
    Case("conventions", LSTM._replace(**DEEP), time=3, dropout=0.3),
    Case("conventions", LSTM._replace(bidirectional=True), lengths=RAGGED, padding=0.5),
    Case("conventions", GRU._replace(**DEEP), time=3, batch_first=True, state=False),
    Case("conventions", GRU),
    Case("conventions", RNN._replace(num_layers=2), lengths=(4,), batch=None, padding=0.5),
    Case("conventions", RNN, "relu"),
    Case("conventions", PROJECTED._replace(**DEEP), time=3),
    Case("conventions", LSTM._replace(kind="lstm_cell"), time=1),
]
NOTHING = "last layer's final state only", "last row of the final states", "h_n from the last step"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_convention_is_another(case):
    """None gives torch's results, and no two of them give the same."""
    data = draw(case, "float64")
    every = conventions(case, data.masks is not None)
    assert len({convention.what for convention in every}) == len(every)
    names = {}
    for name, chosen in {"torch": (), **{c.what: (c,) for c in every}}.items():
        results = outputs_of(chosen, case, data.leaves, data.masks)
        numbers = tuple((n, a.shape, (a + 0.0).tobytes()) for n, a in sorted(results.items()))
        if not any(part in name for part in NOTHING):  # of a single layer or direction
            assert numbers not in names, (name, names[numbers])
        names.setdefault(numbers, name)


def test_conventions_of_one_slot_exclude_each_other():
    first, second, *_ = conventions(CASES[0])
    assert first.slot == second.slot
    assert not compatible((first, second))
