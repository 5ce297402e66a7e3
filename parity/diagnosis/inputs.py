"""Notes that come first in a diagnosis: weights as loaded, inputs that hide mistakes, settings."""

import itertools
from collections.abc import Iterator
from typing import Any, cast

import jax
import numpy as np

from ..backends.data import GATES, Data
from ..cases import Case
from ..criterion import Arrays


def on_inputs(case: Case, data: Data, params: Arrays, inferred: bool) -> list[str]:
    """Says what is unusual in the inputs, and which mistakes they cannot show."""
    notes = []
    dtypes = sorted({a.dtype.name for a in params.values()})
    if len(dtypes) > 1:
        notes.append(f"the weights mix {' and '.join(dtypes)}: torch would not run them")
    if inferred and case.batch_first:
        notes.append("x is taken to be batch first, since the states or lengths say so")
    notes += _on_numbers(case, data)
    if case.lengths is not None and min(case.lengths) == case.time:
        notes.append("all lengths are full: what happens in the padding cannot be seen")
    if not case.state:
        notes.append("no initial state is given: what happens to it cannot be seen")
    if case.time < 3 and not case.cell:
        notes.append(f"with {case.time} steps, little of what happens over time can be seen")
    if case.time == case.batch:
        notes.append(f"there are as many steps as sequences ({case.time}): axes can be confused")
    return notes


def _on_numbers(case: Case, data: Data) -> Iterator[str]:
    for name, a in data.leaves.items():
        real = a.astype(np.float64)
        padded = name == "x" and case.lengths is not None
        if not padded and not np.isfinite(real).all():
            yield f"`{name}` is not finite"
        elif a.size > 1 and (real == real.flat[0]).all():
            yield f"`{name}` is {real.flat[0] + 0:g} everywhere, which hides mistakes: draw it"
    for suffix in case.structure.suffixes if case.structure.bias else []:
        if np.array_equal(data.leaves[f"bias_ih{suffix}"], data.leaves[f"bias_hh{suffix}"]):
            yield f"`bias_ih{suffix}` and `bias_hh{suffix}` are the same"


def on_loaded(weights: Arrays, loaded: Arrays, gates: int) -> list[str]:
    """Says where the port's weights differ from torch's of the same name, and how."""
    notes = [f"`{name}` is not among the loaded weights" for name in weights if name not in loaded]
    notes += [f"`{name}` was loaded, but is not torch's" for name in loaded if name not in weights]
    for name in (name for name in weights if name in loaded):
        a, b = weights[name], loaded[name]
        if a.shape != b.shape:
            shapes = f"has shape {b.shape}, torch's {a.shape}"
            notes.append(f"`{name}` as loaded {shapes}{_change(a, b, gates)}")
        elif not np.array_equal(a, b):
            error = np.abs(a.astype(float) - b.astype(float)).max()
            notes.append(f"`{name}` as loaded is off by up to {error:.1e}{_change(a, b, gates)}")
    return notes or ["the weights as loaded are torch's"]


def _change(a: np.ndarray, b: np.ndarray, gates: int) -> str:
    """Says what makes `b` of `a`, if it is simple."""
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
    """Says which of JAX's settings cost precision, as the user has them."""
    notes, config = [], cast(Any, jax.config)
    if dtype == "float64" and not config.jax_enable_x64:
        notes.append("jax_enable_x64 is off, without which there is no float64; here it was on")
    if precision := config.jax_default_matmul_precision:
        notes.append(f"jax_default_matmul_precision is {precision}")
    elif (backend := jax.default_backend()) != "cpu":
        notes.append(f"jax_default_matmul_precision is not set, which means less on a {backend}")
    return notes
