"""Names the precision that a port computes in, by its errors' size and, where it tells, direction.

The digits themselves cannot be predicted: what is rounded depends on the order of summation.
"""

from collections.abc import Iterable, Sequence

import jax.numpy as jnp
import numpy as np

from ..backends.data import DTYPES
from ..criterion import Arrays
from .conventions import Convention
from .conventions.rounding import losses, returned
from .predict import LARGE, Evidence, Explanation, errors, judge_by, predict, truth


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
        for loss in losses(evidence.problem.dtype):
            alike = _likeness(evidence, chosen, true, loss)
            if alike >= ALIKE:
                worst = judge_by(evidence, chosen, true).worst
                ranked.append((alike, Explanation((*chosen, loss), worst)))
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
            loss = returned(f"{', '.join(other)} in {next(iter(other.values())).dtype}")
            return [Explanation((*chosen, loss), verdict.worst)]
    return []


def _likeness(
    evidence: Evidence, chosen: Sequence[Convention], true: Arrays, loss: Convention
) -> float:
    """Compares the port's errors with the simulated ones: 1 if alike, 0 if not of their size."""
    leaves, results = evidence.problem.data.leaves, evidence.results
    simulated = predict(evidence, (*chosen, loss), leaves, np.float32) or {}
    of_port, of_simulation = errors(results, true), errors(simulated, true)
    ratios = [
        of_port[name] / error if error else np.inf
        for name, error in of_simulation.items()
        if of_port[name] or error
    ]
    if not ratios or not 1 / WITHIN <= min(ratios) <= max(ratios) <= WITHIN:
        return 0.0
    if not loss.how:  # errors of summation go any way, but results have no more digits
        return float(all((a == a.astype(np.float32)).all() for a in results.values()))
    if sum(a.size for a in results.values()) < FEW:
        return 0.0
    a, b = (
        np.concatenate([np.ravel(arrays[n].astype(np.longdouble) - true[n]) for n in results])
        for arrays in (results, simulated)
    )
    return float(np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b) or 1))
