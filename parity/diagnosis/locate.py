"""Where a port first leaves torch, and what the difference looks like; neither needs a theory."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..backends import numpy as truth
from ..backends.data import GATES, Data, beyond, cut, layout, output_shapes
from ..cases import Case
from ..criterion import Arrays, Verdict, rms
from . import layer as variants
from .problem import Problem, run_port


def where(problem: Problem, verdict: Verdict) -> list[str]:
    """The first wrong layer, direction, step and batch row: as it runs, and step by step."""
    return [*_free_running(problem, verdict), *_fed(problem), *_gates(problem, verdict)]


def _free_running(problem: Problem, verdict: Verdict) -> Iterator[str]:
    case = problem.case
    for name in ("h_n", "c_n"):
        wrong = {block.label for block in verdict.blocks if block.tensor == name and block.used > 1}
        if first := [label for label in _state_labels(case, name) if label and label in wrong]:
            yield f"running freely, the first final state that is wrong is {name} of {first[0]}"
            break
    if "y" not in problem.found or problem.found["y"].shape != output_shapes(case).get("y"):
        return
    allowed = {block.label: block.allowed for block in verdict.blocks if block.tensor == "y"}
    ours, true = (_halves(case, y) for y in (problem.found["y"], _right(problem)["y"]))
    ways = ["forward", "backward"] if case.structure.bidirectional else [""]
    for way, a, b in zip(ways, ours, true, strict=True):
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


def _state_labels(case: Case, name: str) -> list[str]:
    return cut(layout(case), {}, name, output_shapes(case).get(name, ())).labels


def _used(a: np.ndarray, b: np.ndarray, allowed: float) -> float:
    """The part of what is allowed of a step that one half of it uses."""
    used = float(rms(a - b) / ((rms(b) or 1.0) * allowed))
    return np.inf if np.isnan(used) else used


def _worst(error: np.ndarray) -> tuple[int, ...]:
    error = np.where(np.isnan(error), np.inf, error)
    return tuple(int(i) for i in np.unravel_index(int(error.argmax()), error.shape))


def _fed(problem: Problem) -> Iterator[str]:
    """Each step on its own, from the right state; from the port's own where only y is known."""
    case = problem.case
    if case.cell:
        return
    if problem.port is not None and case.state:
        states, whose = truth.states(case, problem.data), "torch's state fed at every step"
    elif problem.port is None and (own := _own_states(problem)):
        states, whose = own, "the port's own state before each step"
    else:
        why = "y alone does not show the states at every step"
        why = "the port is given no initial state" if problem.port else why
        yield f"no single step can be tried: {why}"
        return
    wrong: list[tuple[int, str, str]] = []
    for t, one, data in _steps(case, problem.data, states):
        try:
            results = _step(problem, one, data)
        except Exception as error:  # whatever the port makes of a sequence of one step
            yield f"no single step can be tried: the port raises {type(error).__name__}: {error}"
            return
        wrong += _wrong_in(problem, states, t, results)
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


def _step(problem: Problem, one: Case, data: Data) -> Arrays:
    if problem.port is not None:
        return run_port(problem.port, one, data, gradients=False)[1]
    return variants.outputs(one, data.leaves, data.masks)


def _wrong_in(
    problem: Problem, states: list[np.ndarray], t: int, results: Arrays
) -> Iterator[tuple[int, str, str]]:
    """Layer and direction, state and place of what a step makes wrong of the states before it."""
    s = problem.case.structure
    for i in range(len(s.suffixes)):
        way = "backward" if i % s.num_directions else "forward"
        for name, every in zip(("h_n", "c_n"), states, strict=False):
            if name not in results or results[name].size != every[t].size:
                continue
            a, b = results[name].reshape(every[t].shape).astype(np.longdouble)[i], every[t, i]
            error = np.where(np.isnan(b), 0, np.abs(a - b) / (1 + np.abs(b)))
            row, unit = _worst(error)
            if not error[row, unit] <= problem.far:
                place = f"{name[0]} of layer {i // s.num_directions} {way} at step {t}"
                size = f"batch row {row}, unit {unit}, off by {error[row, unit]:.1e}"
                yield i, name, f"{place}, {size}"


def _own_states(problem: Problem) -> list[np.ndarray] | None:
    """The port's states at every step, where y shows them: those of a single RNN or GRU layer."""
    case, s = problem.case, problem.case.structure
    right = "y" in problem.found and problem.found["y"].shape == output_shapes(case)["y"]
    if not right or s.gates == 4 or s.num_layers > 1 or case.lengths is not None:
        return None
    return [np.stack(_halves(case, problem.found["y"]), axis=1)]


def _steps(case: Case, data: Data, states: list[np.ndarray]) -> Iterator[tuple[int, Case, Data]]:
    """Cases of a single step, each from the states before it, in every layer and direction."""
    s = case.structure
    ends = None if case.lengths is None else (1,) * len(case.lengths)
    one = case._replace(time=1, state=True, lengths=ends)
    axis = int(case.batch_first and case.batch is not None)
    _, initial = truth.time_major(case, data.leaves)
    for t in range(case.time):
        inputs = dict(data.inputs)
        inputs["x"] = np.take(data.inputs["x"], [t], axis)
        for name, every, start in zip(("h_0", "c_0"), states, initial, strict=False):
            rows = []
            for i in range(len(s.suffixes)):
                back = i % s.num_directions == 1
                before = t + 1 if back else t - 1
                inside = 0 <= before < case.time
                state = every[before, i] if inside else start[i]
                rows.append(np.where(np.isnan(state), start[i], state))
            full = np.stack(rows).astype(inputs["x"].dtype)
            inputs[name] = full if case.batch is not None else full[:, 0]
        if case.lengths is not None:  # beyond a sequence's end nothing is compared
            inputs["x"] = np.where(np.isfinite(inputs["x"]), inputs["x"], 0)
        if data.masks is not None:
            inputs["masks"] = np.take(data.masks, [t], axis + 1)
        yield t, one, data._replace(inputs=inputs)


def _gates(problem: Problem, verdict: Verdict) -> list[str]:
    """Where only some gates' rows have wrong gradients."""
    names = [f"gate {name}" for name in GATES[problem.case.structure.gates]]
    wrong = {block.label for block in verdict.blocks if block.label in names and block.used > 1}
    if not wrong or len(wrong) == len(names):
        return []
    shown = ", ".join(label.removeprefix("gate ") for label in names if label in wrong)
    return [f"of the weights' gradients, only those of gate {shown} are wrong"]


# What it looks like.


def patterns(problem: Problem, verdict: Verdict) -> list[str]:
    """What is seen before any theory: what is right, and what makes the rest right."""
    found, case = problem.found, problem.case
    true = _right(problem)
    wrong = verdict.wrong_tensors
    outputs = [name for name in true if name in found]
    lines = []
    if wrong and all(name.startswith("grad ") for name in wrong):
        lines.append("only gradients are wrong, all outputs are right")
    if "y" in found and "y" not in wrong and wrong & {"h_n", "c_n"}:
        lines.append("only final states are wrong, y is right")
    nan = [n for n, a in found.items() if np.isnan(a).any() and n in wrong]
    if nan:
        padded = ": the padding reaches them" if case.lengths is not None else ""
        lines.append(f"there is NaN in {', '.join(nan)}{padded}")
    if "y" in wrong and found["y"].shape == true["y"].shape:
        lines += _of_y(problem, np.asarray(found["y"], np.longdouble), true["y"])
    for name in outputs:
        if name in wrong and found[name].shape != true[name].shape:
            lines.append(f"{name} has shape {found[name].shape}, torch's {true[name].shape}")
    if {"h_n", "c_n"} <= found.keys() & wrong:
        swapped = [("h_n", "c_n"), ("c_n", "h_n")]
        if all(_same(problem, found[name], true[other]) for name, other in swapped):
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
    ways = {"turned round in time": np.flip(true, axis), "a step late": np.roll(true, 1, axis)}
    if case.structure.bidirectional:
        ways["with its halves swapped"] = np.concatenate(np.split(true, 2, -1)[::-1], -1)
    if case.batch is not None and case.time == case.batch:
        ways["with its first two axes swapped"] = true.swapaxes(0, 1)
    late = slice(1, None) if axis == 0 else (slice(None), slice(1, None))
    for what, other in ways.items():
        part = late if what == "a step late" else slice(None)
        if _same(problem, y[part], other[part]):
            yield f"y is torch's y {what}"
    with np.errstate(all="ignore"):
        ratio = np.median(y[true != 0] / true[true != 0]) if (true != 0).any() else 1.0
    if abs(ratio - 1) > problem.far and _same(problem, y, ratio * true):
        yield f"y is {float(ratio):.6g} times torch's y"
    if case.batch is not None:
        rows = np.moveaxis(y - true, 1 - axis, 0).reshape(case.batch, -1)
        bad = [k for k, row in enumerate(rows) if not np.abs(row).max() <= problem.far]
        if 0 < len(bad) < case.batch:
            yield f"y is wrong in batch rows {', '.join(map(str, bad))} only"
    error = rms(y - true) / (rms(true) or 1.0)
    if 1e-4 < error < 5e-3:
        yield f"y is off by {error:.1e} of its size, as it would be by TF32 or bfloat16 products"
    if problem.dtype == "float64" and 1e-9 < error < 1e-6:
        yield f"y is off by {error:.1e} of its size, as it would be in float32: is x64 on?"


def _right(problem: Problem) -> Arrays:
    wide = {name: a.astype(np.longdouble) for name, a in problem.data.leaves.items()}
    return variants.outputs(problem.case, wide, problem.data.masks)


def _same(problem: Problem, a: Any, b: Any) -> bool:
    if a.shape != b.shape:
        return False
    difference = np.abs(np.asarray(a, np.longdouble) - b)
    return bool((difference <= problem.far * (1 + np.abs(b))).all())


def _halves(case: Case, y: np.ndarray) -> list[np.ndarray]:
    """Each direction's part of y as (T, B, features)."""
    y = np.asarray(y, np.longdouble)
    if case.batch is None:
        y = y[:, None]
    elif case.batch_first:
        y = y.swapaxes(0, 1)
    return np.split(y, case.structure.num_directions, axis=-1)
