"""Finds where a port first leaves torch, and what the difference looks like; needs no theory."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..backends import numpy as truth
from ..backends.data import GATES, Data, beyond
from ..cases import Case
from ..criterion import Arrays, Verdict, rms
from . import layer
from .call import port_outputs
from .problem import Problem


def where(problem: Problem, right: Arrays, verdict: Verdict) -> list[str]:
    """Names the first wrong layer, direction, step and batch row: as it runs, and step by step."""
    lines = [*_final_states(verdict), *_steps_of_y(problem, right, verdict)]
    return [*lines, *_single_steps(problem), *_gates(problem, verdict)]


def _final_states(verdict: Verdict) -> Iterator[str]:
    for name in ("h_n", "c_n"):
        blocks = [block for block in verdict.blocks if block.tensor == name and block.label]
        if wrong := [block.label for block in blocks if block.used > 1]:
            yield f"running freely, the first final state that is wrong is {name} of {wrong[0]}"
            return


def _steps_of_y(problem: Problem, right: Arrays, verdict: Verdict) -> Iterator[str]:
    case, y = problem.case, problem.comparable.get("y")
    if y is None:
        return
    allowed = {block.label: block.allowed for block in verdict.blocks if block.tensor == "y"}
    ways = ["forward", "backward"] if case.structure.bidirectional else [""]
    for way, a, b in zip(ways, _halves(case, y), _halves(case, right["y"]), strict=True):
        half = f"the {way} half of y" if way else "y"
        used = [_used(a[t], b[t], allowed.get(f"step {t}", problem.far)) for t in range(case.time)]
        wrong = [t for t in range(case.time) if used[t] > 1]
        if not wrong and way:
            yield f"running freely, {half} is right"
        for t in [wrong[-1] if way == "backward" else wrong[0]] if wrong else []:
            row, unit = _worst(np.abs(a[t] - b[t]))
            yield (
                f"running freely, {half} is first wrong at step {t}, batch row {row}, feature "
                f"{unit}: {float(a[t][row, unit]):.9g}, torch has {float(b[t][row, unit]):.9g}"
            )


def _used(a: np.ndarray, b: np.ndarray, allowed: float) -> float:
    """Returns the part of a step's allowance that one half of it uses."""
    used = float(rms(a - b) / ((rms(b) or 1.0) * allowed))
    return np.inf if np.isnan(used) else used


def _worst(error: np.ndarray) -> tuple[int, ...]:
    error = np.where(np.isnan(error), np.inf, error)
    return tuple(int(i) for i in np.unravel_index(int(error.argmax()), error.shape))


# Step by step.


def _single_steps(problem: Problem) -> Iterator[str]:
    """Tries each step by itself, from the right state; without a port from its own, if y has it."""
    case = problem.case
    if case.cell:
        return
    if problem.port is not None and case.state:
        states, whose = truth.states(case, problem.data), "torch's state fed at every step"
    elif problem.port is None and (states := _states_in_y(problem)):
        whose = "the port's own state before each step"
    else:
        why = "y alone does not show the states at every step"
        why = "the port is given no initial state" if problem.port else why
        yield f"no single step can be tried: {why}"
        return
    wrong: list[tuple[int, str, str]] = []
    for t, case_of_step, data in _steps(case, problem.data, states):
        try:
            results = _step(problem, case_of_step, data)
        except Exception as error:  # whatever the port makes of a sequence of one step
            yield f"no single step can be tried: the port raises {type(error).__name__}: {error}"
            return
        wrong += _wrong_states(problem, states, t, results)
    if not wrong:
        yield (
            f"with {whose}, no state is off by more than {problem.far:.1e}: unless the difference "
            "is smaller, the formulas of a step are right, and what differs is how steps are "
            "joined (states, lengths, directions, layout) or gradients"
        )
        return
    cell, _, place = min(wrong, key=lambda each: each[0])
    yield f"with {whose}, the first that is wrong is {place}"
    if case.structure.gates == 4 and "c_n" not in {name for i, name, _ in wrong if i == cell}:
        yield "there c is right, and h is not: it is o, or how c becomes h"


def _step(problem: Problem, case: Case, data: Data) -> Arrays:
    if problem.port is not None:
        return port_outputs(problem.port, case, data)
    return layer.outputs(case, data.leaves, data.masks)


def _wrong_states(
    problem: Problem, states: list[np.ndarray], t: int, results: Arrays
) -> Iterator[tuple[int, str, str]]:
    """Yields cell, state and place of what step `t` makes wrong of the states before it."""
    s = problem.case.structure
    for i in range(len(s.suffixes)):
        way = "backward" if i % s.num_directions else "forward"
        for name, trace in zip(("h_n", "c_n"), states, strict=False):
            if name not in results or results[name].size != trace[t].size:
                continue
            a, b = results[name].reshape(trace[t].shape).astype(np.longdouble)[i], trace[t, i]
            error = np.where(np.isnan(b), 0, np.abs(a - b) / (1 + np.abs(b)))
            row, unit = _worst(error)
            if not error[row, unit] <= problem.far:
                place = f"{name[0]} of layer {i // s.num_directions} {way} at step {t}"
                size = f"batch row {row}, unit {unit}, off by {error[row, unit]:.1e}"
                yield i, name, f"{place}, {size}"


def _states_in_y(problem: Problem) -> list[np.ndarray] | None:
    """Returns the port's states at every step where y shows them: of a single RNN or GRU layer."""
    case, s, y = problem.case, problem.case.structure, problem.comparable.get("y")
    if y is None or s.gates == 4 or s.num_layers > 1 or case.lengths is not None:
        return None
    return [np.stack(_halves(case, y), axis=1)]


def _steps(case: Case, data: Data, states: list[np.ndarray]) -> Iterator[tuple[int, Case, Data]]:
    """Yields cases of a single step, each from the states before it in every cell."""
    ends = None if case.lengths is None else (1,) * len(case.lengths)
    axis = int(case.batch_first and case.batch is not None)
    _, initial = truth.time_major(case, data.leaves)
    for t in range(case.time):
        x = np.take(data.inputs["x"], [t], axis)
        if case.lengths is not None:  # beyond a sequence's end nothing is compared
            x = np.where(np.isfinite(x), x, 0)
        inputs = data.inputs | {"x": x}
        for name, trace, start in zip(("h_0", "c_0"), states, initial, strict=False):
            state = _state_before(case, trace, start, t).astype(x.dtype)
            inputs[name] = state if case.batch is not None else state[:, 0]
        if data.masks is not None:
            inputs["masks"] = np.take(data.masks, [t], axis + 1)
        one = case._replace(time=1, state=True, lengths=ends)
        yield t, one, data._replace(inputs=inputs)


def _state_before(case: Case, trace: np.ndarray, start: np.ndarray, t: int) -> np.ndarray:
    """Returns each cell's state before step `t`: one of `trace`, or where it begins `start`.

    `trace` has NaN beyond a sequence's end, which the backward direction begins at.
    """
    rows = []
    for i in range(len(case.structure.suffixes)):
        before = t + 1 if i % case.structure.num_directions else t - 1
        state = trace[before, i] if 0 <= before < case.time else start[i]
        rows.append(np.where(np.isnan(state), start[i], state))
    return np.stack(rows)


def _gates(problem: Problem, verdict: Verdict) -> list[str]:
    """Names the gates whose rows alone have wrong gradients."""
    names = [f"gate {name}" for name in GATES[problem.case.structure.gates]]
    wrong = {block.label for block in verdict.blocks if block.label in names and block.used > 1}
    if not wrong or len(wrong) == len(names):
        return []
    shown = ", ".join(label.removeprefix("gate ") for label in names if label in wrong)
    return [f"of the weights' gradients, only those of gate {shown} are wrong"]


# What it looks like.


def patterns(problem: Problem, right: Arrays, verdict: Verdict) -> list[str]:
    """Says which results are right, and which simple change makes the others right."""
    results, wrong = problem.results, verdict.wrong_tensors
    lines = []
    if wrong and all(name.startswith("grad ") for name in wrong):
        lines.append("only gradients are wrong, all outputs are right")
    if "y" in results and "y" not in wrong and wrong & {"h_n", "c_n"}:
        lines.append("only final states are wrong, y is right")
    if nan := [name for name, a in results.items() if np.isnan(a).any() and name in wrong]:
        padded = ": the padding reaches them" if problem.case.lengths is not None else ""
        lines.append(f"there is NaN in {', '.join(nan)}{padded}")
    if "y" in wrong and "y" in problem.comparable:
        lines += _of_y(problem, np.asarray(results["y"], np.longdouble), right["y"])
    for name, a in problem.outputs.items():
        if name in wrong and name not in problem.comparable:
            lines.append(f"{name} has shape {a.shape}, torch's {right[name].shape}")
    if {"h_n", "c_n"} <= results.keys() & wrong:
        swapped = {"h_n": "c_n", "c_n": "h_n"}
        if all(_same(problem, results[name], right[other]) for name, other in swapped.items()):
            lines.append("h_n is torch's c_n, and c_n its h_n")
    return lines


def _of_y(problem: Problem, y: np.ndarray, true: np.ndarray) -> Iterator[str]:
    case = problem.case
    axis = int(case.batch_first and case.batch is not None)
    padding = beyond(case)
    if case.lengths is not None and padding.any() and _same(problem, y[~padding], true[~padding]):
        yield "y is wrong beyond the lengths only, where it has to be 0"
    if not y.any():
        yield "y is 0 everywhere"
        return
    yield from _rearranged(problem, y, true, axis)
    with np.errstate(all="ignore"):
        ratio = np.median(y[true != 0] / true[true != 0]) if (true != 0).any() else 1.0
    if abs(ratio - 1) > problem.far and _same(problem, y, ratio * true):
        yield f"y is {float(ratio):.6g} times torch's y"
    if case.batch is not None:
        rows = np.moveaxis(y - true, 1 - axis, 0).reshape(case.batch, -1)
        wrong = [k for k, row in enumerate(rows) if not np.abs(row).max() <= problem.far]
        if 0 < len(wrong) < case.batch:
            yield f"y is wrong in batch rows {', '.join(map(str, wrong))} only"
    error = rms(y - true) / (rms(true) or 1.0)
    if 1e-4 < error < 5e-3:
        yield f"y is off by {error:.1e} of its size, as it would be by TF32 or bfloat16 products"
    if problem.dtype == "float64" and 1e-9 < error < 1e-6:
        yield f"y is off by {error:.1e} of its size, as it would be in float32: is x64 on?"


def _rearranged(problem: Problem, y: np.ndarray, true: np.ndarray, axis: int) -> Iterator[str]:
    """Compares `y` with torch's in other orders; `axis` is the axis of time."""
    case = problem.case
    orders = {"turned round in time": np.flip(true, axis), "a step late": np.roll(true, 1, axis)}
    if case.structure.bidirectional:
        orders["with its halves swapped"] = np.concatenate(np.split(true, 2, -1)[::-1], -1)
    if case.batch is not None and case.time == case.batch:
        orders["with its first two axes swapped"] = true.swapaxes(0, 1)
    late = (*[slice(None)] * axis, slice(1, None))
    for what, other in orders.items():
        part = late if what == "a step late" else slice(None)
        if _same(problem, y[part], other[part]):
            yield f"y is torch's y {what}"


def _same(problem: Problem, a: Any, b: Any) -> bool:
    if a.shape != b.shape:
        return False
    difference = np.abs(np.asarray(a, np.longdouble) - b)
    return bool((difference <= problem.far * (1 + np.abs(b))).all())


def _halves(case: Case, y: np.ndarray) -> list[np.ndarray]:
    """Returns each direction's part of y as (T, B, features)."""
    y = np.asarray(y, np.longdouble)
    if case.batch is None:
        y = y[:, None]
    elif case.batch_first:
        y = y.swapaxes(0, 1)
    return np.split(y, case.structure.num_directions, axis=-1)
