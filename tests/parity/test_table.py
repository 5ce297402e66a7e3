"""The case table covers the whole option surface, and jaxrnn agrees on a cross-section of it."""

import collections
import math

import pytest
from case_options import CELL_WANTED, WANTED, kind

from parity.backends.data import DTYPES
from parity.cases import RAGGED, VARIANTS, table
from parity.workers import jobs, run_all


TABLE = table()
LAYERS = [case for case in TABLE if not case.cell]
CELLS = [case for case in TABLE if case.cell]
# torch's five layers, by what tells them apart; and three of the four cells likewise.
KINDS = {(s.kind, f, bool(s.proj_size)) for s, f in VARIANTS}
CELL_KINDS = {(f"{kind}_cell", f, False) for kind, f, projected in KINDS if not projected}


def test_names_are_unique():
    repeated = [n for n, k in collections.Counter(case.name for case in TABLE).items() if k > 1]
    assert not repeated


def test_size_and_dtypes():
    assert len(TABLE) >= 150
    for case in TABLE:
        assert {"float64", "float32"} <= set(case.dtypes) <= set(DTYPES), case.name
        assert len(set(case.dtypes)) == len(case.dtypes), case.name


def test_kinds():
    assert {
        ("rnn", "tanh", False),
        ("rnn", "relu", False),
        ("lstm", "tanh", False),
        ("lstm", "tanh", True),
        ("gru", "tanh", False),
    } == KINDS
    assert {kind(case) for case in LAYERS} == KINDS
    assert {kind(case) for case in CELLS} == CELL_KINDS


@pytest.mark.parametrize("wanted", WANTED.values(), ids=WANTED)
def test_every_layer_with(wanted):
    assert {kind(case) for case in LAYERS if wanted(case)} == KINDS


@pytest.mark.parametrize("wanted", CELL_WANTED.values(), ids=CELL_WANTED)
def test_every_cell_with(wanted):
    assert {kind(case) for case in CELLS if wanted(case)} == CELL_KINDS


def varied():
    """Few programs with every option, and for every kind with every group; greedily taken."""
    pairs = sorted({(kind(case), case.group) for case in TABLE})
    missing = [lambda case, pair=pair: (kind(case), case.group) == pair for pair in pairs]
    for asked, cells in (WANTED, False), (CELL_WANTED, True):
        missing += [lambda c, w=w, cells=cells: c.cell == cells and w(c) for w in asked.values()]
    found = set()
    while missing:
        best = max(TABLE, key=lambda case, left=tuple(missing): sum(bool(w(case)) for w in left))
        found.add(best.program)
        taken = [case for case in TABLE if case.program in found]
        left = [wanted for wanted in missing if not any(map(wanted, taken))]
        if len(left) == len(missing):  # an option that no case has; the tests say which
            break
        missing = left
    return found


# Compared here, as users run them; the command compares all.
PROGRAMS = varied()
COMPARED = [case for case in TABLE if case.program in PROGRAMS]


def test_what_not_every_layer_needs():
    kinds = lambda wanted: {case.structure.kind for case in LAYERS if wanted(case)}
    assert kinds(lambda c: c.dropout == 1) == {"rnn", "lstm", "gru"}
    assert kinds(lambda c: c.structure.hidden_size == 1) == {"rnn", "lstm", "gru"}
    assert kinds(lambda c: c.structure.num_layers == 3 and c.structure.bidirectional) == {
        "rnn", "lstm", "gru",
    }  # fmt: skip
    saturated = {kind(case) for case in LAYERS if case.gain >= 10}
    assert saturated == KINDS - {("rnn", "relu", False)}  # which nothing saturates
    assert {kind(c) for c in LAYERS if c.cotangents == ("c_n",)} == {
        kind for kind in KINDS if kind[0] == "lstm"
    }
    [chaotic] = [case for case in LAYERS if case.group == "chaotic"]
    assert chaotic.gain > 1
    assert chaotic.time >= 100
    at_zero = [c for c in LAYERS if c.nonlinearity == "relu" and c.input_scale == 0 and not c.state]
    assert at_zero
    assert not any(case.structure.bias for case in at_zero)


PATTERNS = {
    "unsorted": lambda n, time: list(n) not in (sorted(n), sorted(n)[::-1]),
    "sorted": lambda n, time: n == tuple(sorted(n)[::-1]) and len(set(n)) > 1,
    "none full": lambda n, time: 0 < max(n) < time,
    "full": lambda n, time: set(n) == {time},
    "ones": lambda n, time: set(n) == {1},
    "some empty": lambda n, time: 0 in n and any(n),
    "first empty, last not": lambda n, time: n[0] == 0 < n[-1],
    "all empty": lambda n, time: not any(n),
    "ties": lambda n, time: len(set(n)) < len(n),
}


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
@pytest.mark.parametrize("both", [False, True], ids=["forward", "bidirectional"])
def test_lengths(pattern, both):
    cases = [c for c in LAYERS if c.lengths and c.structure.bidirectional == both]
    assert {kind(case) for case in cases if pattern(case.lengths, case.time)} == KINDS


def test_padding_holds_all_that_is_bad():
    values = {str(case.padding) for case in LAYERS if case.lengths}
    assert {"nan", "inf", "-inf"} < values
    assert any(math.isfinite(float(value)) and float(value) for value in values)


def test_lengths_fit():
    for case in TABLE:
        if case.lengths is not None:
            assert len(case.lengths) == (1 if case.batch is None else case.batch), case.name
            assert 0 <= min(case.lengths) <= max(case.lengths) <= case.time, case.name
    assert len(set(RAGGED)) > 3


def test_sizes_differ():
    """So that no two axes can be mistaken for each other."""
    for case in TABLE:
        s = case.structure
        sizes = [s.input_size, s.hidden_size]
        sizes += [s.proj_size] if s.proj_size else []
        sizes += [case.batch] if case.batch else []
        sizes += [] if case.cell else [case.time]
        assert len(set(sizes)) == len(sizes), case.name


@pytest.mark.slow
def test_jaxrnn_agrees_on_a_cross_section(optimized):
    """With every option, and for every kind with every group; `python -m parity` compares all."""
    results = list(run_all(jobs(COMPARED, None, [])))
    assert {(result.name, result.dtype) for result in results} == {
        (case.name, dtype) for case in COMPARED for dtype in case.dtypes
    }
    assert [line for result in results for line in result.wrong] == []
    assert {result.group for result in results if result.unjudged} == {"chaotic"}
    assert len(results) == sum(len(case.dtypes) for case in COMPARED)
