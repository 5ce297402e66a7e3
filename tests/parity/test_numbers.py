"""The numbers that both sides compute on: how they are drawn, and moved by an ulp."""

import ml_dtypes
import numpy as np
import pytest

from jaxrnn import Structure
from parity.backends.data import DTYPES, beyond, draw, output_shapes, perturb
from parity.cases import Case


DEEP = Case("test", Structure("lstm", 7, 5, num_layers=2, bidirectional=True))
CASES = {
    "time first": Case("test", Structure("lstm", 7, 5), lengths=(3, 6, 1, 0, 2, 6, 4, 1)),
    "batch first": Case("test", Structure("lstm", 7, 5), lengths=(3, 6, 1, 0, 2, 6, 4, 1),
                        batch_first=True),
    "unbatched": Case("test", Structure("lstm", 7, 5), lengths=(4,), batch=None),
    "unbatched, batch first": Case("test", Structure("lstm", 7, 5), lengths=(4,), batch=None,
                                   batch_first=True),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_padding_is_beyond_the_lengths(case):
    x = draw(case, "float64").leaves["x"]
    steps_first = x.swapaxes(0, 1) if case.batch_first and case.batch else x
    for row, length in enumerate(case.lengths):
        sequence = steps_first[:, row] if case.batch else steps_first
        assert np.isfinite(sequence[:length]).all()
        assert np.isnan(sequence[length:]).all()
    assert (np.isnan(x).all(-1) == beyond(case)).all()
    assert (draw(case._replace(padding=0.5), "float64").leaves["x"][beyond(case)] == 0.5).all()


def test_draw():
    case = DEEP._replace(dropout=0.3, second_order=True)
    data, again = draw(case, "float64"), draw(case, "float64")
    drawn = lambda data: (data.leaves, data.cotangents, data.tangents)
    for one, other in zip(drawn(data), drawn(again), strict=True):
        assert one.keys() == other.keys()
        assert all((one[name] == other[name]).all() for name in one)
    assert (data.masks == again.masks).all()
    assert (draw(case._replace(group="another"), "float64").leaves["x"] != data.leaves["x"]).any()
    values = np.concatenate([a.ravel() for arrays in drawn(data) for a in arrays.values()])
    assert len(np.unique(values)) == len(values)
    assert np.isfinite(values).all()
    assert (values != 0).all()
    assert data.leaves.keys() == data.tangents.keys() == {*case.structure.shapes, "x", "h_0", "c_0"}
    shapes = {name: a.shape for name, a in data.cotangents.items()}
    assert shapes == {"y": (6, 8, 10), "h_n": (4, 8, 5), "c_n": (4, 8, 5)} == output_shapes(case)
    assert data.masks.shape == (1, *shapes["y"])
    assert 0.6 < data.masks.mean() < 0.8


@pytest.mark.parametrize("dtype", DTYPES)
def test_draw_takes_what_it_is_given(dtype):
    """And draws in every dtype the same numbers, rounded."""
    x = np.ones((6, 8, 7))
    params = {name: np.ones(shape) for name, shape in DEEP.structure.shapes.items()}
    data, own = draw(DEEP, dtype, params, x), draw(DEEP._replace(state=False), dtype)
    assert all(a.dtype == DTYPES[dtype] for a in (data.leaves | data.cotangents).values())
    assert all((data.leaves[name] == 1).all() for name in ("x", *params))
    assert own.leaves.keys() == {*params, "x"}
    wide = draw(DEEP._replace(state=False), "float64")
    assert all((own.leaves[n] == a.astype(DTYPES[dtype])).all() for n, a in wide.leaves.items())


def test_cotangents_on_one_output_only():
    data = draw(DEEP._replace(cotangents=("h_n",)), "float64")
    assert {name: bool(a.any()) for name, a in data.cotangents.items()} == {
        "y": False, "h_n": True, "c_n": False,
    }  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_perturb_moves_by_an_ulp(dtype):
    signed = {8: np.int64, 4: np.int32, 2: np.int16}[np.dtype(DTYPES[dtype]).itemsize]
    data = draw(DEEP, dtype)
    data.leaves["x"][0] = 0
    moved = perturb(data, np.random.default_rng(0))
    assert moved.leaves.keys() == data.leaves.keys()
    for name, a in data.leaves.items():
        b = moved.leaves[name]
        assert b.dtype == a.dtype == DTYPES[dtype]
        # As integers, positive numbers stand in their own order, negative ones in the reverse.
        ulps = (b.view(signed).astype(np.int64) - a.view(signed)) * np.sign(a).astype(np.int64)
        assert set(np.unique(ulps)) == {-1, 0, 1}
        assert (b[a == 0] == 0).all()
        assert (np.abs(b.astype(np.longdouble) - a) <= ml_dtypes.finfo(a.dtype).eps * abs(a)).all()
    assert moved.cotangents is data.cotangents
    assert moved.tangents is data.tangents


def test_perturb_leaves_padding_alone():
    data = draw(CASES["time first"]._replace(padding=np.inf), "float32")
    x = perturb(data, np.random.default_rng(0)).leaves["x"]
    assert (x[beyond(CASES["time first"])] == np.inf).all()
