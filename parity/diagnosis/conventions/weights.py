"""How ports read weights and biases otherwise: orders of gates, transposed, merged, missing."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ...backends.data import GATES
from ...backends.numpy import Leaves, anp
from ...cases import Case
from .convention import Convention, blocks, matrices, on, zeros


def orders(case: Case) -> Iterator[Convention]:
    names = GATES[case.structure.gates]
    rows = [name for name in case.structure.shapes if not name.startswith("weight_hr")]
    known = {"igfo": "haiku", "iofg": "ONNX", "zrn": "keras, ONNX"}
    for taken in sorted(itertools.permutations(range(len(names))), key=_moved):
        if list(taken) == sorted(taken):
            continue
        stands = "".join(names[int(k)] for k in np.argsort(taken))
        whose = f" ({known[stands]})" if stands in known else ""
        permute = [int(k) for k in np.argsort(taken)]
        yield Convention(
            f"takes the rows of the gates for {', '.join(stands)}{whose}; in torch they are "
            f"{', '.join(names)}",
            "order",
            "before you load a weight_ih, weight_hh or bias w: np.concatenate([np.split(w, "
            f"{len(names)})[k] for k in {tuple(permute)}])",
            leaves=on(
                rows, blocks(len(names), lambda parts, taken=taken: [parts[k] for k in taken])
            ),
        )


def _moved(permutation: tuple[int, ...]) -> int:
    """How many gates are out of place: orders with few of them come first."""
    return sum(k != i for i, k in enumerate(permutation))


def weights(case: Case) -> Iterator[Convention]:
    s = case.structure
    for end in ("hh", "ih"):
        names = [f"weight_{end}{suffix}" for suffix in s.suffixes]
        for some in [names, *([name] for name in names if len(names) > 1)]:
            yield from _misread(case, end, some)
    yield Convention(
        "joins the weights as [hh, ih], but x and h as [x, h]",
        "hh",
        "joined as x and h are: np.hstack([weight_ih, weight_hh]) goes with [x, h]",
        leaves=lambda leaves: leaves | _joined(case, leaves),
    )
    if s.proj_size:
        names = [f"weight_hr{suffix}" for suffix in s.suffixes]
        yield Convention(
            "reshapes `weight_hr` where it should transpose it",
            "hr",
            "w.T, not w.reshape(w.shape[::-1])",
            leaves=on(names, lambda a: anp.reshape(a, a.shape[::-1]).T),
        )


def _misread(case: Case, end: str, names: Sequence[str]) -> Iterator[Convention]:
    """What is done to all weights of a kind, or to a single one."""
    gates = case.structure.gates
    what = f"`weight_{end}`" if len(names) == len(case.structure.suffixes) else f"`{names[0]}`"
    shapes = [case.structure.shapes[name] for name in names]
    if all(rows == gates * columns for rows, columns in shapes):
        yield Convention(
            f"takes the block of each gate in {what} transposed",
            end,
            f"x @ w.T with torch's w: transpose {what} once, as a whole",
            leaves=on(names, blocks(gates, lambda parts: [part.T for part in parts])),
        )
    if gates > 1:
        yield Convention(
            f"reshapes {what} where it should transpose it",
            end,
            "w.T, not w.reshape(w.shape[::-1])",
            leaves=on(names, lambda a: anp.reshape(a, a.shape[::-1]).T),
        )
    if case.cell and end == "hh":  # the same as an initial h of 0
        return
    yield Convention(
        f"leaves out {what}", end, "multiply x and h by their weights", leaves=on(names, zeros)
    )


def _joined(case: Case, leaves: Leaves) -> Leaves:
    """Columns of each cell's two weights, as if both had been joined the other way round."""
    new: Leaves = {}
    for suffix in case.structure.suffixes:
        names = f"weight_ih{suffix}", f"weight_hh{suffix}"
        both = anp.concatenate([leaves[names[1]], leaves[names[0]]], 1)
        width = leaves[names[0]].shape[1]
        new |= {names[0]: both[:, :width], names[1]: both[:, width:]}
    return new


def biases(case: Case) -> Iterator[Convention]:
    s = case.structure
    add = "add it to the gates" + ("; only r's and z's may be merged" if s.gates == 3 else "")
    for name in ("bias_hh", "bias_ih"):
        yield Convention(
            f"leaves out `{name}`", "bias", add, leaves=on(matrices(case, name), zeros)
        )
    if s.gates == 3:
        n = slice(2 * s.hidden_size, None)
        inside = lambda ih, hh: (_with(ih, n, 0 * ih[n]), _with(hh, n, ih[n] + hh[n]))
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
            leaves=_biases_by(case, inside),
        )
    yield Convention(
        "leaves out both biases",
        "bias",
        add,
        leaves=on(matrices(case, "bias_ih") + matrices(case, "bias_hh"), zeros),
    )
    for used, unused in (("bias_ih", "bias_hh"), ("bias_hh", "bias_ih")):
        twice = lambda ih, hh, used=used: (ih, ih) if used == "bias_ih" else (hh, hh)
        yield Convention(
            f"uses `{used}` in the place of `{unused}` too",
            "bias",
            f"load `{unused}` under its own name",
            leaves=_biases_by(case, twice),
        )
    if len(s.suffixes) > 1:
        for suffix in s.suffixes:
            both = [f"bias_ih{suffix}", f"bias_hh{suffix}"]
            for names in ([both[0]], [both[1]], both):
                shown = " and ".join(f"`{name}`" for name in names)
                yield Convention(f"leaves out {shown}", "bias", add, leaves=on(names, zeros))


def _with(a: Any, at: slice, value: Any) -> Any:
    return anp.concatenate([a[: at.start], value])


def _biases_by(case: Case, change: Callable[[Any, Any], tuple[Any, Any]]) -> Any:
    def leaves(arrays: Leaves) -> Leaves:
        new = dict(arrays)
        for suffix in case.structure.suffixes:
            names = f"bias_ih{suffix}", f"bias_hh{suffix}"
            new |= dict(zip(names, change(*(arrays[name] for name in names)), strict=True))
        return new

    return leaves
