"""What comes first in a diagnosis: weights as loaded, inputs that hide mistakes, settings."""

import itertools
from typing import Any, cast

import jax
import numpy as np

from ..backends.data import GATES, Data
from ..cases import Case
from ..criterion import Arrays


def on_inputs(case: Case, data: Data, params: Arrays, inferred: bool) -> list[str]:
    """What is unusual in the inputs, and which mistakes they cannot show."""
    remarks = []
    dtypes = sorted({a.dtype.name for a in params.values()})
    if len(dtypes) > 1:
        remarks.append(f"the weights mix {' and '.join(dtypes)}: torch would not run them")
    if inferred and case.batch_first:
        remarks.append("x is taken to be batch first, since the states or lengths say so")
    for name, a in data.leaves.items():
        real = a.astype(np.float64)
        padded = name == "x" and case.lengths is not None
        if not padded and not np.isfinite(real).all():
            remarks.append(f"`{name}` is not finite")
        elif a.size > 1 and (real == real.flat[0]).all():
            remarks.append(
                f"`{name}` is {real.flat[0] + 0:g} everywhere, which hides mistakes: draw it"
            )
    for suffix in case.structure.suffixes if case.structure.bias else []:
        if np.array_equal(data.leaves[f"bias_ih{suffix}"], data.leaves[f"bias_hh{suffix}"]):
            remarks.append(f"`bias_ih{suffix}` and `bias_hh{suffix}` are the same")
    if case.lengths is not None and min(case.lengths) == case.time:
        remarks.append("all lengths are full: what happens in the padding cannot be seen")
    if not case.state:
        remarks.append("no initial state is given: what happens to it cannot be seen")
    if case.time < 3 and not case.cell:
        remarks.append(f"with {case.time} steps, little of what happens over time can be seen")
    if case.time == case.batch:
        remarks.append(f"there are as many steps as sequences ({case.time}): axes can be confused")
    return remarks


def on_loaded(weights: Arrays, loaded: Arrays, gates: int) -> list[str]:
    """Where the port's weights, under torch's names, are not torch's; and what was done to them."""
    remarks = [
        f"`{name}` is not among the loaded weights" for name in weights if name not in loaded
    ]
    remarks += [
        f"`{name}` was loaded, but is not torch's" for name in loaded if name not in weights
    ]
    for name in (name for name in weights if name in loaded):
        a, b = weights[name], loaded[name]
        if a.shape == b.shape and np.array_equal(a, b):
            continue
        if a.shape == b.shape:
            off = np.abs(a.astype(float) - b.astype(float)).max()
            remarks.append(f"`{name}` as loaded is off by up to {off:.1e}{_done(a, b, gates)}")
        else:
            shapes = f"has shape {b.shape}, torch's {a.shape}"
            remarks.append(f"`{name}` as loaded {shapes}{_done(a, b, gates)}")
    return remarks or ["the weights as loaded are torch's"]


def _done(a: np.ndarray, b: np.ndarray, gates: int) -> str:
    """What makes the one of the other, if it is simple."""
    if np.array_equal(a.T, b):
        return ": it is torch's transposed"
    if a.shape != b.shape:
        return ": reshaped" if a.size == b.size and np.array_equal(a.ravel(), b.ravel()) else ""
    if len(a) % gates:  # a projection
        return ": not loaded" if not b.any() else ""
    blocks, names = np.split(a, gates), GATES[gates]
    for order in itertools.permutations(range(gates)):
        if np.array_equal(np.concatenate([blocks[k] for k in order]), b):
            return f": its gates are in the order {', '.join(names[k] for k in order)}"
    turned = [block.T for block in blocks] if a.ndim == 2 and len(blocks[0]) == a.shape[1] else []
    if turned and np.array_equal(np.concatenate(turned), b):
        return ": the block of each gate is transposed"
    return ": not loaded" if not b.any() else ""


def on_settings(dtype: str) -> list[str]:
    """JAX's, as the user has them, where they cost precision."""
    remarks, config = [], cast(Any, jax.config)
    if dtype == "float64" and not config.jax_enable_x64:
        remarks.append("jax_enable_x64 is off, without which there is no float64; here it was on")
    if precision := config.jax_default_matmul_precision:
        remarks.append(f"jax_default_matmul_precision is {precision}")
    elif (backend := jax.default_backend()) != "cpu":
        remarks.append(f"jax_default_matmul_precision is not set, which means less on a {backend}")
    return remarks
