"""Precisions that ports compute in: known by their errors' size and, where it tells, direction.

Digit by digit they cannot be predicted, since what is rounded depends on the order of summation.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ..backends.data import DTYPES
from ..criterion import Arrays
from .conventions import Convention
from .predict import Target, errors
from .report import Explanation


class Precision(NamedTuple):
    """What to simulate it by: a dtype throughout, and how operands or states are rounded."""

    what: str
    change: str
    dtype: Any
    product: str = ""


PRECISIONS = [
    Precision(
        "computes in float32 inside of float64",
        "jax.config.update('jax_enable_x64', True), and no array of float32 on the way",
        np.float32,
    ),
    Precision(
        "rounds the operands of products to TF32",
        "jax.default_matmul_precision('highest'), or precision= where a product is taken",
        np.float32,
        "TF32",
    ),
    Precision(
        "cuts the operands of products to TF32",
        "jax.default_matmul_precision('highest'), or precision= where a product is taken",
        np.float32,
        "TF32, cut",
    ),
    Precision(
        "rounds the operands of products to bfloat16",
        "jax.default_matmul_precision('highest'): bfloat16 is a TPU's default",
        np.float32,
        "bfloat16",
    ),
    Precision("carries its state in bfloat16", "carry h and c in float32", np.float32, "state"),
]
RETURN = "return the outputs in the dtype of x: is there an astype, or x64 off?"
FEW = 20  # numbers, of which no direction can be told
LARGE = 0.05  # relative errors beyond this are no precision's
WITHIN = 4.0  # the errors may be so many times larger or smaller than the simulated ones
ALIKE = 0.7  # the least cosine between both, where operands are rounded; mostly it is above 0.99


def by_precision(target: Target, candidates: Iterable[Sequence[Convention]]) -> list[Explanation]:
    """A convention, or none, with the precision whose errors are most like what is left."""
    ranked = []
    for chosen in candidates:
        true = target.truth(chosen)
        if true is None or max(errors(target.found, true).values()) > LARGE:
            continue
        for precision in _coarser(target.problem.dtype):
            how = {"product": precision.product} if precision.product else {}
            leaves = target.problem.data.leaves
            simulated = target.predict(chosen, leaves, precision.dtype, **how) or {}
            theirs, ours = errors(target.found, true), errors(simulated, true)
            ratios = [
                theirs[n] / ours[n] if ours[n] else np.inf for n in ours if theirs[n] or ours[n]
            ]
            ratios = ratios or [np.inf]
            alike = _alike(precision, target.found, simulated, true)
            if 1 / WITHIN <= min(ratios) <= max(ratios) <= WITHIN and alike >= ALIKE:
                ranked.append((alike, _explanation(target, chosen, true, precision)))
    return [max(ranked, key=lambda entry: entry[0])[1]] if ranked else []


def by_dtype(target: Target, candidates: Iterable[Sequence[Convention]]) -> list[Explanation]:
    """Where some outputs come back in another dtype: right in it, and the others altogether?"""
    wanted = np.dtype(DTYPES[target.problem.dtype])
    other = {n: a for n, a in target.found.items() if a.dtype != wanted}
    rest = target._replace(found={n: a for n, a in target.found.items() if n not in other})
    for chosen in candidates if other else ():
        true = target.truth(chosen)
        if true is None:
            continue
        eps = lambda a: max(jnp.finfo(a.dtype).eps, target.problem.eps)
        if any(off > 4 * eps(other[n]) for n, off in errors(other, true).items()):
            continue
        left = {name: true[name] for name in rest.found}
        if not (verdict := rest.judge(chosen, left)).wrong:
            dtype = next(iter(other.values())).dtype
            returned = Precision(f"returns {', '.join(other)} in {dtype}", RETURN, dtype)
            return [Explanation((*chosen, _convention(returned)), verdict.worst)]
    return []


def _coarser(dtype: str) -> list[Precision]:
    """Those that are a loss where numbers are of this dtype."""
    return {"float64": PRECISIONS, "float32": PRECISIONS[1:]}.get(dtype, [])


def _convention(precision: Precision) -> Convention:
    return Convention(precision.what, "precision", precision.change)


def _explanation(
    target: Target, chosen: Sequence[Convention], true: Arrays, precision: Precision
) -> Explanation:
    return Explanation((*chosen, _convention(precision)), target.judge(chosen, true).worst)


def _alike(precision: Precision, found: Arrays, simulated: Arrays, true: Arrays) -> float:
    """How far the port's errors go the way of the simulated ones: 1 all the way, 0 not at all."""
    if not precision.product:  # errors of summation go any way, but results have no more digits
        return float(all((a == a.astype(precision.dtype)).all() for a in found.values()))
    if not simulated or sum(a.size for a in found.values()) < FEW:
        return 0.0
    a, b = (
        np.concatenate([np.ravel(arrays[n].astype(np.longdouble) - true[n]) for n in found])
        for arrays in (found, simulated)
    )
    return float(np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b) or 1))
