"""Conventions of time, batch, lengths and dropout."""

from collections.abc import Iterator

import numpy as np

from ...backends.data import beyond
from ...backends.numpy import anp
from ...cases import Case
from .convention import FINAL, INITIAL, Convention, each, on


def time(case: Case) -> Iterator[Convention]:
    s = case.structure
    if s.gates == 4 and not s.proj_size:
        yield Convention("returns c as y", "y", "y is h", {"emits": "c"})
    yield Convention(
        "returns in y the state before each step",
        "y",
        "y[t] is h after step t: in lax.scan, return the new state as the output",
        {"emits": "before"},
    )
    if s.bidirectional or case.lengths is not None:
        return
    axis = 1 if case.batch_first and case.batch is not None else 0
    flip = lambda a: anp.flip(a, axis)
    for end, names in {"": ["y"], ", and leaves y so": []}.items():
        yield Convention(
            f"runs back through time{end}",
            "time",
            "from the first step to the last",
            leaves=on(["x"], flip),
            results=on(names, flip),
        )


def layout(case: Case) -> Iterator[Convention]:
    if case.batch is None or case.lengths is not None:
        return
    first = case.batch_first
    turn = lambda a: anp.swapaxes(a, 0, 1)
    if not case.state or case.time == case.batch:
        yield Convention(
            f"takes x for {'(time, batch)' if first else '(batch, time)'}",
            "layout",
            f"x is {'(batch, time, features)' if first else '(time, batch, features)'}: "
            f"batch_first is {first}",
            case=lambda case: case._replace(time=case.batch, batch=case.time),
            leaves=on(["x"], turn),
            results=on(["y"], turn),
        )
    reshape = lambda a: turn(anp.reshape(a, (a.shape[1], a.shape[0], a.shape[2])))
    back = lambda a: anp.reshape(turn(a), a.shape)
    yield Convention(
        "reshapes x where it should swap its first two axes",
        "layout",
        "x.swapaxes(0, 1), not x.reshape",
        leaves=on(["x"], reshape),
        results=on(["y"], back),
    )
    yield Convention(
        f"returns y {'time' if first else 'batch'} first",
        "layout",
        f"y has x's layout: batch_first is {first}",
        results=on(["y"], turn),
    )


def lengths(case: Case) -> Iterator[Convention]:
    if case.lengths is None:
        return
    lengths = np.array(case.lengths)
    ignored = {
        "ignores the lengths": {"padding": "run", "beyond": "state"},
        "lets the state run through the padding": {"padding": "run"},
    }
    end = "a sequence ends at its length: its state passes on, its outputs are 0"
    yield from each("lengths", end, "how", ignored)
    if case.structure.bidirectional:  # else this is the one before
        yield Convention(
            "returns the final states of the padding",
            "final",
            "h_n and c_n are after each sequence's own last step",
            results=lambda results, run: (
                results | {name: a for name, a in run(padding="run").items() if name in FINAL}
            ),
        )
    moved = lambda by: tuple((lengths + by).clip(0, case.time).tolist())
    other = {
        "takes the lengths one too long": lambda case: case._replace(lengths=moved(1)),
        "takes the lengths one too short": lambda case: case._replace(lengths=moved(-1)),
    }
    yield from each("lengths", "the last step of a sequence is t = length - 1", "case", other)
    yield Convention(
        "does not zero y beyond the lengths, where the last state stands",
        "beyond",
        "y is 0 there",
        {"beyond": "state"},
    )
    padding = beyond(case)[..., None]
    runs_on = lambda y, run: anp.where(padding, run(padding="run", beyond="state")["y"], y)
    yield Convention(
        "does not zero y beyond the lengths, where the state runs on",
        "beyond",
        "y is 0 there",
        results=lambda results, run: results | {"y": runs_on(results["y"], run)},
    )
    if case.batch is not None:
        yield from _sorting(case, np.argsort(-lengths, kind="stable"))


def _sorting(case: Case, order: np.ndarray) -> Iterator[Convention]:
    """`order`: as packing sorts the sequences, by falling length."""
    if np.array_equal(order, np.arange(len(order))):
        return
    sort = lambda axis: lambda a: anp.swapaxes(anp.swapaxes(a, 0, axis)[order], 0, axis)
    states, y = on(FINAL, sort(1)), on(["y"], sort(0 if case.batch_first else 1))
    left = {
        "leaves the final states sorted by length": states,
        "leaves y and states sorted by length": lambda results, run: y(states(results)),
    }
    back = "what was sorted by length has to be put back: index with argsort of the order"
    yield from each("final", back, "results", left)
    if case.state:
        yield Convention(
            "sorts the sequences, but not their initial states",
            "initial",
            "sort the initial states along with x",
            leaves=on(INITIAL, lambda a: a[:, np.argsort(order)]),
        )


def dropout(case: Case, masks: bool) -> Iterator[Convention]:
    if not case.dropout or case.structure.num_layers == 1:
        return
    kept = 1 - case.dropout
    if not masks:
        end = "by 1 - p between the layers, though nothing is dropped"
        factors = {
            f"multiplies {end}": {"between": kept},
            f"divides {end}": {"between": 1 / kept if kept else 1.0},
        }
        yield from each("dropout", "in evaluation dropout does nothing", "how", factors)
        return
    scales = {
        "does not scale what dropout keeps": {"scale": 1.0},
        "scales what dropout keeps by 1 - p": {"scale": kept},
    }
    yield from each("dropout", "what is kept is divided by 1 - p", "how", scales)
    yield Convention("drops nothing", "dropout", "apply the masks", {"masks": "none"})
    yield Convention(
        "takes the dropout masks in the reverse order of the layers",
        "dropout",
        "the mask after the first layer comes first",
        {"masks": "reversed"},
    )
