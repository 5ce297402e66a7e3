"""Conventions of weights and biases: orders of gates, transposed, merged, missing."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ...backends.data import GATES
from ...backends.numpy import Leaves, anp
from ...cases import Case
from .convention import Convention, blocks, each, on


def orders(case: Case) -> Iterator[Convention]:
    names = GATES[case.structure.gates]
    rows = [name for name in case.structure.shapes if not name.startswith("weight_hr")]
    known = {"igfo": " (haiku)", "iofg": " (ONNX)", "zrn": " (keras, ONNX)"}
    # Orders with few gates out of place come first, torch's own before all.
    moved = lambda order: sum(k != i for i, k in enumerate(order))
    _, *others = sorted(itertools.permutations(range(len(names))), key=moved)
    for order in others:
        index = tuple(int(k) for k in np.argsort(order))
        gates = "".join(names[k] for k in index)
        yield Convention(
            f"takes the rows of the gates for {', '.join(gates)}{known.get(gates, '')}; in torch "
            f"they are {', '.join(names)}",
            "order",
            "before you load a weight_ih, weight_hh or bias w: np.concatenate([np.split(w, "
            f"{len(names)})[k] for k in {index}])",
            leaves=on(
                rows, blocks(len(names), lambda parts, order=order: [parts[k] for k in order])
            ),
        )


def weights(case: Case) -> Iterator[Convention]:
    suffixes = case.structure.suffixes
    for end in ("hh", "ih"):
        yield from _misread(case, end, f"weight_{end}", [f"weight_{end}{s}" for s in suffixes])
        for suffix in suffixes if len(suffixes) > 1 else []:
            yield from _misread(case, end, f"weight_{end}{suffix}", [f"weight_{end}{suffix}"])
    yield Convention(
        "joins the weights as [hh, ih], but x and h as [x, h]",
        "hh",
        "joined as x and h are: np.hstack([weight_ih, weight_hh]) goes with [x, h]",
        leaves=_pairs(case, "weight", _joined),
    )
    if case.structure.proj_size:
        yield _reshaped("hr", "weight_hr", [f"weight_hr{suffix}" for suffix in suffixes])


def _misread(case: Case, end: str, what: str, names: Sequence[str]) -> Iterator[Convention]:
    """All weights of a kind, or a single one, called `what`."""
    gates = case.structure.gates
    shapes = [case.structure.shapes[name] for name in names]
    if all(rows == gates * columns for rows, columns in shapes):
        yield Convention(
            f"takes the block of each gate in `{what}` transposed",
            end,
            f"x @ w.T with torch's w: transpose `{what}` once, as a whole",
            leaves=on(names, blocks(gates, lambda parts: [part.T for part in parts])),
        )
    if gates > 1:
        yield _reshaped(end, what, names)
    if not case.cell or end != "hh":  # else the same as an initial h of 0
        leaves = {f"leaves out `{what}`": on(names, anp.zeros_like)}
        yield from each(end, "multiply x and h by their weights", "leaves", leaves)


def _reshaped(slot: str, what: str, names: Sequence[str]) -> Convention:
    return Convention(
        f"reshapes `{what}` where it should transpose it",
        slot,
        "w.T, not w.reshape(w.shape[::-1])",
        leaves=on(names, lambda a: anp.reshape(a, a.shape[::-1]).T),
    )


def biases(case: Case) -> Iterator[Convention]:
    s = case.structure
    every = {name: [name + suffix for suffix in s.suffixes] for name in ("bias_hh", "bias_ih")}
    add = "add it to the gates" + ("; only r's and z's may be merged" if s.gates == 3 else "")
    missing = lambda what, names: each(
        "bias", add, "leaves", {f"leaves out {what}": on(names, anp.zeros_like)}
    )
    for name, names in every.items():
        yield from missing(f"`{name}`", names)
    if s.gates == 3:
        n = 2 * s.hidden_size
        with_n = lambda a, rows: anp.concatenate([a[:n], rows])
        inside = lambda ih, hh: (with_n(ih, 0 * ih[n:]), with_n(hh, ih[n:] + hh[n:]))
        yield Convention(
            "has b_hn outside of the reset (both biases merged, perhaps)",
            "reset",
            "n = tanh(W_in x + b_in + r * (W_hn h + b_hn)): keep b_hn apart from b_in",
            {"reset": "product"},
        )
        yield Convention(
            "has b_in inside of the reset",
            "bias",
            "n = tanh(W_in x + b_in + r * (W_hn h + b_hn)): keep b_in outside",
            leaves=_pairs(case, "bias", inside),
        )
    yield from missing("both biases", every["bias_ih"] + every["bias_hh"])
    for used, unused, twice in (
        ("bias_ih", "bias_hh", lambda ih, hh: (ih, ih)),
        ("bias_hh", "bias_ih", lambda ih, hh: (hh, hh)),
    ):
        what = f"uses `{used}` in the place of `{unused}` too"
        change = f"load `{unused}` under its own name"
        yield Convention(what, "bias", change, leaves=_pairs(case, "bias", twice))
    for suffix in s.suffixes if len(s.suffixes) > 1 else []:
        ih, hh = f"bias_ih{suffix}", f"bias_hh{suffix}"
        for names in ([ih], [hh], [ih, hh]):
            yield from missing(" and ".join(f"`{name}`" for name in names), names)


def _joined(ih: Any, hh: Any) -> tuple[Any, Any]:
    """Splits the columns of [hh, ih] as if they were [ih, hh]."""
    both, width = anp.concatenate([hh, ih], 1), ih.shape[1]
    return both[:, :width], both[:, width:]


def _pairs(case: Case, kind: str, change: Callable[[Any, Any], tuple[Any, Any]]) -> Any:
    """Changes each cell's two arrays of a kind, ih and hh, together."""

    def leaves(arrays: Leaves) -> Leaves:
        new = dict(arrays)
        for suffix in case.structure.suffixes:
            ih, hh = f"{kind}_ih{suffix}", f"{kind}_hh{suffix}"
            new[ih], new[hh] = change(arrays[ih], arrays[hh])
        return new

    return leaves
