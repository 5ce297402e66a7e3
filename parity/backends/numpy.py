"""The same networks in plain numpy at a higher precision than either framework's.

Loops over time, and over sequences where there are lengths; no scan, no mask, nothing shared with
jaxrnn. Derivatives by autograd, which differentiates numpy in whatever precision it is given:
`numpy.longdouble` has 64 bits of mantissa on x86, 113 on some other machines; where it is no wider
than float64, float64 is judged against itself, and the report says so.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import autograd.numpy
import numpy as np
from autograd import grad as _grad
from autograd.extend import defvjp, primitive

from ..cases import Case
from ..criterion import Arrays
from .data import Data


# Type checkers see nothing in the one, and too much in the other.
anp: Any = autograd.numpy
grad: Any = _grad
EPS = float(np.finfo(np.longdouble).eps)
Leaves = dict[str, Any]


def run(case: Case, data: Data) -> Arrays:
    """Outputs, gradients and, if the case has it, the Hessian-vector product, by name."""
    leaves, cotangents, tangents = (
        {name: a.astype(np.longdouble) for name, a in arrays.items()}
        for arrays in (data.leaves, data.cotangents, data.tangents)
    )
    scalar = lambda leaves: dot(cotangents, _outputs(case, leaves, data.masks))
    along = lambda leaves: dot(tangents, grad(scalar)(leaves))
    result = dict(_outputs(case, leaves, data.masks))
    with warnings.catch_warnings():
        # Where there is no sequence, or none longer than 0, nothing depends on the weights.
        warnings.filterwarnings("ignore", message="Output seems independent of input")
        result |= {f"grad {name}": g for name, g in grad(scalar)(leaves).items()}
        if case.second_order:
            result |= {f"hvp {name}": g for name, g in grad(along)(leaves).items()}
    return result


def states(case: Case, data: Data) -> list[np.ndarray]:
    """`h` after every step (for an LSTM also `c`), as (T, layers · directions, B, features).

    Beyond a sequence's length stands NaN.
    """
    leaves = {name: a.astype(np.longdouble) for name, a in data.leaves.items()}
    x, initial = time_major(case, leaves)
    masks = time_major_masks(case, data.masks)
    traces = [np.full((case.time, *a.shape), np.nan, np.longdouble) for a in initial]
    whole = [(slice(None), case.time)]
    rows = [(slice(row, row + 1), length) for row, length in enumerate(case.lengths or ())]
    for one, length in rows or whole:
        if length:
            kept = None if masks is None else masks[:, :length, one]
            *_, passed = _layers(case, leaves, x[:length, one], [a[:, one] for a in initial], kept)
            for k, trace in enumerate(traces):
                trace[:length, :, one] = np.array([[s[k] for s in way] for way in passed]).swapaxes(
                    0, 1
                )
    return traces


def saturation(case: Case, data: Data) -> float:
    """The largest input of any gate at any step; 0 for relu, which does not saturate."""
    if case.nonlinearity == "relu":
        return 0.0
    s, largest = case.structure, 0.0
    leaves = {name: a.astype(np.longdouble) for name, a in data.leaves.items()}
    x, initial = time_major(case, leaves)
    h = states(case, data)[0]
    for i, suffix in enumerate(s.suffixes):
        first = i - i % s.num_directions
        below = [h[:, j] for j in range(first - s.num_directions, first)] if first else [x]
        start = initial[0][i][None]
        back = suffix.endswith("_reverse")
        before = np.concatenate([h[1:, i], start] if back else [start, h[:-1, i]])
        a = np.dot(np.concatenate(below, -1), leaves["weight_ih" + suffix].T)
        b = np.dot(before, leaves["weight_hh" + suffix].T)
        biases = [leaves[name + suffix] for name in ("bias_ih", "bias_hh") if s.bias]
        gates = np.abs(a + b + sum(biases))
        largest = max(largest, float(np.max(gates, where=np.isfinite(gates), initial=0)))
    return largest


def dot(a: Leaves, b: Leaves) -> Any:
    return sum(anp.sum(a[name] * b[name]) for name in a)


def _outputs(case: Case, leaves: Leaves, masks: np.ndarray | None) -> Leaves:
    x, initial = time_major(case, leaves)
    masks = time_major_masks(case, masks)
    if case.lengths is None:
        y, final, _ = _layers(case, leaves, x, initial, masks)
    else:
        runs = []
        for row, length in enumerate(case.lengths):
            one = slice(row, row + 1)
            state = [a[:, one] for a in initial]
            padding = np.zeros((case.time - length, 1, _width(case)), np.longdouble)
            if length == 0:
                runs.append((padding, state))
                continue
            kept = None if masks is None else masks[:, :length, one]
            y, state, _ = _layers(case, leaves, x[:length, one], state, kept)
            runs.append((anp.concatenate([y, padding], 0), state))
        y = anp.concatenate([y for y, _ in runs], 1)
        final = [anp.concatenate(parts, 1) for parts in zip(*(s for _, s in runs), strict=True)]
    return named(case, y, final)


def _width(case: Case) -> int:
    return case.structure.num_directions * case.structure.output_size


def time_major(case: Case, leaves: Leaves) -> tuple[Any, list[Any]]:
    """`x` as (T, B, I), the initial state as arrays (layers · directions, B, size)."""
    x, s = leaves["x"], case.structure
    given = [leaves[name] for name in ("h_0", "c_0") if name in leaves]
    if case.cell:
        x, given = x[None], [a[None] for a in given]
    elif case.batch_first and case.batch is not None:
        x = anp.swapaxes(x, 0, 1)
    if case.batch is None:
        x, given = anp.expand_dims(x, 1), [anp.expand_dims(a, 1) for a in given]
    sizes = [s.output_size, s.hidden_size][: 2 if s.kind.startswith("lstm") else 1]
    shape = (len(s.suffixes), x.shape[1])
    return x, given or [np.zeros((*shape, size), x.dtype) for size in sizes]


def time_major_masks(case: Case, masks: np.ndarray | None) -> np.ndarray | None:
    if masks is None or case.batch is None:
        return masks if masks is None else masks[:, :, None]
    return np.swapaxes(masks, 1, 2) if case.batch_first else masks


def named(case: Case, y: Any, final: Sequence[Any]) -> Leaves:
    """Outputs by name and in the case's layout, of `y` as (T, B, D · P) and of the final states."""
    names = ["h_n", "c_n"]
    if case.cell:
        final = [a[0, 0] if case.batch is None else a[0] for a in final]
        return dict(zip(names, final, strict=False))
    if case.batch is None:
        y, final = y[:, 0], [a[:, 0] for a in final]
    elif case.batch_first:
        y = anp.swapaxes(y, 0, 1)
    return {"y": y, **dict(zip(names, final, strict=False))}


def _layers(
    case: Case, leaves: Leaves, x: Any, initial: Sequence[Any], masks: np.ndarray | None
) -> tuple[Any, list[Any], list[list[Any]]]:
    """Layer upon layer over (T, B, I) without padding: `y`, final states, all states on the way."""
    s, final, trace, outputs = case.structure, [], [], []
    for i, suffix in enumerate(s.suffixes):
        backward = suffix.endswith("_reverse")
        state, passed = [a[i] for a in initial], []
        for x_t in reversed(list(x)) if backward else x:
            state = _step(case, leaves, suffix, x_t, state)
            passed.append(state)
        final.append(state)
        trace.append(passed[::-1] if backward else passed)
        outputs.append(anp.stack([state[0] for state in trace[-1]]))
        if len(outputs) == s.num_directions:
            x, outputs = anp.concatenate(outputs, 2), []
            layer = i // s.num_directions
            if masks is not None and layer < len(masks):
                kept = 1 - np.longdouble(case.dropout)
                x = x * masks[layer] * (1 / kept if kept else 0)
    return x, [anp.stack(parts) for parts in zip(*final, strict=True)], trace


def _step(case: Case, leaves: Leaves, suffix: str, x: Any, state: list[Any]) -> list[Any]:
    def linear(end: str, x: Any) -> Any:
        product = anp.dot(x, leaves[f"weight_{end}{suffix}"].T)
        return product + leaves[f"bias_{end}{suffix}"] if case.structure.bias else product

    a, b = linear("ih", x), linear("hh", state[0])
    size = case.structure.hidden_size
    gate = lambda a, k: a[:, k * size : (k + 1) * size]
    if case.structure.gates == 1:
        return [tanh(a + b) if case.nonlinearity == "tanh" else (a + b) * (a + b > 0)]
    if case.structure.gates == 3:
        r, z = (sigmoid(gate(a, k) + gate(b, k)) for k in (0, 1))
        n = tanh(gate(a, 2) + r * gate(b, 2))
        return [(1 - z) * n + z * state[0]]
    i, f, g, o = (gate(a + b, k) for k in range(4))
    c = sigmoid(f) * state[1] + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    if case.structure.proj_size:
        h = anp.dot(h, leaves[f"weight_hr{suffix}"].T)
    return [h, c]


def _bell(a: Any) -> Any:
    """The derivative of the sigmoid, which overflows for no `a`, and never cancels."""
    e = anp.exp(-anp.abs(a))
    return e / (1 + e) ** 2


@primitive
@np.errstate(over="ignore")  # 1 / (1 + inf) is 0
def sigmoid(a: Any) -> Any:
    return 1 / (1 + np.exp(-a))


tanh = primitive(np.tanh)
defvjp(sigmoid, lambda y, a: lambda g: g * _bell(a))
defvjp(tanh, lambda y, a: lambda g: g * 4 * _bell(2 * a))
