"""A recurrent layer in numpy, as torch has it and as ports get it wrong.

`How` has a field for each convention of the computation itself; the defaults are torch's. The layer
runs in the precision of its arguments, over all sequences at once, and autograd differentiates it.
The other conventions (weights read in another order, states in another order) are in `conventions`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from autograd.extend import defvjp, primitive

from ..backends.numpy import (
    Leaves,
    anp,
    dot,
    grad,
    named,
    sigmoid,
    tanh,
    time_major,
    time_major_masks,
)
from ..cases import Case
from ..criterion import Arrays


class How(NamedTuple):
    """The conventions of the computation; each field's first value is torch's."""

    sigmoid: str = "sigmoid"  # "hard, slope 0.2", "hard, slope 1/6"
    candidate: str = ""  # the RNN's nonlinearity, n's, g's; "": tanh, or what the RNN has
    squash: str = "tanh"  # an LSTM's c on its way to h: any of ACTIVATIONS
    forget: float = 0.0  # what is added to f before its sigmoid
    reset: str = "after"  # r is multiplied with W_hn h + b_hn; "before": with h; "product": W_hn h
    update: str = "keeps"  # z keeps h; "takes": it takes n
    backward: str = "reverse"  # "forward", "unflipped", "padding first", "flipped lengths"
    start: str = "given"  # "below": the layer below's final state; "forward": the direction's
    padding: str = "skipped"  # "run": the state runs through it
    beyond: str = "zero"  # y there; "state": h
    emits: str = "h"  # y; "c"; "before": h before the step
    layer: int = -1  # whose output y is
    masks: str = "in order"  # dropout's; "reversed", "none"
    scale: float | None = None  # of what dropout keeps; None: 1 / (1 - p)
    between: float = 1.0  # a factor on what goes from layer to layer
    detached: str = ""  # what gradients do not pass through from step to step: "h", "c" or "hc"
    product: str = ""  # operands are rounded to "TF32" or "bfloat16", or cut; "state": h and c are


TORCH = How()


@primitive
def _constant(a: Any) -> Any:
    return a


defvjp(_constant, None)


@primitive
def _bfloat16(a: Any) -> Any:
    return np.asarray(a).astype(ml_dtypes.bfloat16).astype(a.dtype)


@primitive
def _tf32(a: Any, half: int) -> Any:
    """Keeps ten bits behind the point, as NVIDIA's tensor cores do; cuts if `half` is 0."""
    bits = np.asarray(a, np.float32).view(np.uint32)
    return ((bits + np.uint32(half)) & np.uint32(0xFFFFE000)).view(np.float32).astype(a.dtype)


defvjp(_bfloat16, lambda y, a: lambda g: g)
defvjp(_tf32, lambda y, a, half: lambda g: g, argnums=[0])

ROUND = {
    "": lambda a: a,
    "state": lambda a: a,
    "TF32": lambda a: _tf32(a, 0x1000),
    "TF32, cut": lambda a: _tf32(a, 0),
    "bfloat16": _bfloat16,
}
_hard = lambda slope: lambda a: anp.clip(slope * a + 0.5, 0, 1)
SIGMOIDS = {
    "sigmoid": sigmoid,
    "hard, slope 0.2": _hard(0.2),
    "hard, slope 1/6": _hard(1 / 6),
}
ACTIVATIONS = {
    "tanh": tanh,
    "relu": lambda a: a * (a > 0),
    "maximum": lambda a: anp.maximum(a, 0),  # relu, but with a derivative of 1/2 at 0
    "sigmoid": sigmoid,
    "identity": lambda a: a,
    "hard tanh": lambda a: anp.clip(a, -1, 1),
}
State = list[Any]


def outputs(case: Case, leaves: Leaves, masks: np.ndarray | None, how: How = TORCH) -> Leaves:
    """Returns `y`, `h_n` and `c_n` of parameters, `x` and initial states."""
    s = case.structure
    x, initial = time_major(case, leaves)
    masks, valid = time_major_masks(case, masks), _valid(case)
    if masks is not None:
        masks = {"in order": masks, "reversed": masks[::-1], "none": masks[:0]}[how.masks]
    finals: list[State] = []
    ys: list[Any] = []
    for layer in range(s.num_layers):
        halves, states, below = [], [], finals[-s.num_directions :]
        for direction in range(s.num_directions):
            i = layer * s.num_directions + direction
            state = [a[i] for a in initial]
            if how.start == "below" and layer:
                state = below[direction]
            if how.start == "forward" and direction:
                state = states[0]
            cell = _cell(leaves, s.suffixes[i])
            y, state = _direction(case, how, cell, x, state, valid, direction == 1)
            halves.append(y)
            states.append(state)
        finals += states
        x = anp.concatenate(halves, -1)
        if valid is not None and how.beyond == "zero":
            x = anp.where(valid, x, anp.zeros_like(x))
        ys.append(x)
        x = x * how.between
        if masks is not None and layer < len(masks):
            kept = 1 - x.dtype.type(case.dropout)
            scale = how.scale if how.scale is not None else 1 / kept if kept else 0.0
            x = x * masks[layer] * x.dtype.type(scale)
    return named(case, ys[how.layer], [anp.stack(parts) for parts in zip(*finals, strict=True)])


def gradients(run: Callable[[Leaves], Leaves], leaves: Leaves, cotangents: Arrays) -> Arrays:
    """Returns the gradient, by every leaf, of the product of `run`'s outputs with `cotangents`."""
    score = lambda leaves: dot(cotangents, run(leaves))
    return {f"grad {name}": g for name, g in grad(score)(leaves).items()}


def _cell(leaves: Mapping[str, Any], suffix: str) -> Leaves:
    arrays = {n: a for n, a in leaves.items() if n.startswith(("weight", "bias"))}
    return {n.removesuffix(suffix): a for n, a in arrays.items() if n.endswith(suffix)}


def _valid(case: Case) -> np.ndarray | None:
    """Says which steps of which sequence count, as (T, B, 1)."""
    if case.lengths is None:
        return None
    return (np.arange(case.time)[:, None] < np.array(case.lengths))[..., None]


def _direction(
    case: Case,
    how: How,
    cell: Leaves,
    x: Any,
    state: State,
    valid: np.ndarray | None,
    backward: bool,
) -> tuple[Any, State]:
    """Returns `y` over (T, B, features), and the final state."""
    way = how.backward if backward else "forward"
    order = range(len(x)) if way == "forward" else range(len(x))[::-1]
    counts: Any = [True] * len(x)
    if valid is not None and how.padding != "run" and way != "padding first":
        counts = list(valid[::-1] if way == "flipped lengths" else valid)
    emitted: list[Any] = [None] * len(x)
    step = functools.partial(_step, case, how, cell)
    for k, t in enumerate(order):
        old = state
        read = [_constant(a) if n in how.detached else a for n, a in zip("hc", old, strict=False)]
        if counts[t] is True:
            state = step(x[t], read)
        else:
            mask = lambda a, m=counts[t]: anp.where(m, a, anp.zeros_like(a))
            new = step(mask(x[t]), [mask(a) for a in read])
            state = [anp.where(counts[t], a, b) for a, b in zip(new, old, strict=True)]
        y = {"h": state[0], "c": state[-1], "before": old[0]}[how.emits]
        if way == "flipped lengths" and counts[t] is not True:
            y = anp.where(counts[t], y, anp.zeros_like(y))
        emitted[k if way == "unflipped" else t] = y
    return anp.stack(emitted), state


def _step(case: Case, how: How, cell: Leaves, x: Any, state: State) -> State:
    """Returns the next state."""
    s, bias = case.structure, case.structure.bias
    size, shut = s.hidden_size, SIGMOIDS[how.sigmoid]
    rounded = ROUND[how.product]
    act = ACTIVATIONS[how.candidate or (case.nonlinearity if s.gates == 1 else "tanh")]
    product = lambda end, x: anp.dot(rounded(x), rounded(cell[f"weight_{end}"]).T)
    linear = lambda end, x: product(end, x) + (cell[f"bias_{end}"] if bias else 0)
    gate = lambda a, k: a[:, k * size : (k + 1) * size]
    h = state[0]
    a, b = linear("ih", x), linear("hh", h)
    if s.gates == 1:
        new = [act(a + b)]
    elif s.gates == 3:
        r, z = (shut(gate(a, k) + gate(b, k)) for k in (0, 1))
        z = z if how.update == "keeps" else 1 - z
        old = r * gate(b, 2)
        if how.reset != "after":
            w = rounded(cell["weight_hh"][2 * size :]).T
            apart = lambda h: anp.dot(rounded(h), w)
            old = apart(r * h) if how.reset == "before" else r * apart(h)
            old = old + (cell["bias_hh"][2 * size :] if bias else 0)
        new = [(1 - z) * act(gate(a, 2) + old) + z * h]
    else:
        i, f, g, o = (gate(a + b, k) for k in range(4))
        c = shut(f + how.forget) * state[1] + shut(i) * act(g)
        h = shut(o) * ACTIVATIONS[how.squash](c)
        if s.proj_size:
            h = anp.dot(rounded(h), rounded(cell["weight_hr"]).T)
        new = [h, c]
    return [_bfloat16(a) for a in new] if how.product == "state" else new
