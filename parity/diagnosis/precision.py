"""Names the precision that a port computes in, by its errors' size and, where it tells, direction.

The digits themselves cannot be predicted: what is rounded depends on the order of summation.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ..backends.data import DTYPES
from ..criterion import Arrays
from .conventions import Convention
from .predict import LARGE, Evidence, Explanation, errors, judge_by, predict, truth


class Precision(NamedTuple):
    """A loss of precision, simulated by a dtype throughout and by how operands or states round."""

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
FEW = 20  # so few numbers have no direction
WITHIN = 4.0  # the errors may be so many times larger or smaller than the simulated ones
ALIKE = 0.7  # the least cosine between both, where operands are rounded; mostly it is above 0.99


def by_precision(
    evidence: Evidence, candidates: Iterable[Sequence[Convention]]
) -> list[Explanation]:
    """Returns the convention, or none, and the precision whose errors are most like the rest."""
    ranked = []
    for chosen in candidates:
        true = truth(evidence, chosen)
        if true is None or max(errors(evidence.results, true).values()) > LARGE:
            continue
        for precision in _coarser(evidence.problem.dtype):
            alike = _likeness(evidence, chosen, true, precision)
            if alike >= ALIKE:
                convention = _convention(precision.what, precision.change)
                worst = judge_by(evidence, chosen, true).worst
                ranked.append((alike, Explanation((*chosen, convention), worst)))
    return [max(ranked, key=lambda entry: entry[0])[1]] if ranked else []


def by_dtype(evidence: Evidence, candidates: Iterable[Sequence[Convention]]) -> list[Explanation]:
    """Explains outputs that come back in another dtype, where they are right in it."""
    problem, wanted = evidence.problem, np.dtype(DTYPES[evidence.problem.dtype])
    other = {name: a for name, a in evidence.results.items() if a.dtype != wanted}
    rest = {name: a for name, a in evidence.results.items() if name not in other}
    for chosen in candidates if other else ():
        true = truth(evidence, chosen)
        if true is None:
            continue
        eps = lambda a: max(jnp.finfo(a.dtype).eps, problem.eps)
        if any(error > 4 * eps(other[name]) for name, error in errors(other, true).items()):
            continue
        true = {name: true[name] for name in rest}
        if not (verdict := judge_by(evidence._replace(results=rest), chosen, true)).wrong:
            dtype = next(iter(other.values())).dtype
            convention = returned(f"{', '.join(other)} in {dtype}")
            return [Explanation((*chosen, convention), verdict.worst)]
    return []


def returned(outputs: str) -> Convention:
    """`outputs`, which are right, and the dtype that they come back in."""
    change = "return the outputs in the dtype of x: is there an astype, or x64 off?"
    return _convention(f"returns {outputs}", change)


def _convention(what: str, change: str) -> Convention:
    return Convention(what, "precision", change)


def _coarser(dtype: str) -> list[Precision]:
    """Returns the precisions that are a loss for numbers of this dtype."""
    return {"float64": PRECISIONS, "float32": PRECISIONS[1:]}.get(dtype, [])


def _likeness(
    evidence: Evidence, chosen: Sequence[Convention], true: Arrays, precision: Precision
) -> float:
    """Compares the port's errors with the simulated ones: 1 if alike, 0 if not of their size."""
    how = {"product": precision.product} if precision.product else {}
    leaves = evidence.problem.data.leaves
    simulated = predict(evidence, chosen, leaves, precision.dtype, **how) or {}
    of_port, of_simulation = errors(evidence.results, true), errors(simulated, true)
    ratios = [
        of_port[name] / error if error else np.inf
        for name, error in of_simulation.items()
        if of_port[name] or error
    ]
    if not ratios or not 1 / WITHIN <= min(ratios) <= max(ratios) <= WITHIN:
        return 0.0
    if not precision.product:  # errors of summation go any way, but results have no more digits
        exact = ((a == a.astype(precision.dtype)).all() for a in evidence.results.values())
        return float(all(exact))
    return _cosine(evidence.results, simulated, true)


def _cosine(results: Arrays, simulated: Arrays, true: Arrays) -> float:
    if sum(a.size for a in results.values()) < FEW:
        return 0.0
    a, b = (
        np.concatenate([np.ravel(arrays[n].astype(np.longdouble) - true[n]) for n in results])
        for arrays in (results, simulated)
    )
    return float(np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b) or 1))
