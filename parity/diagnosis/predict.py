"""Predicts what a port with certain conventions returns, and judges how near the port comes.

The allowance is the one of `compare`, with numpy in the place of torch: a prediction's own error is
how far it is off in the port's dtype, on the numbers as they are and on copies moved by an ulp.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..backends.data import DTYPES, cut, layout, perturb
from ..backends.numpy import Leaves
from ..cases import Case
from ..criterion import Arrays, Block, Cut, Verdict, judge, rms
from .conventions import Convention
from .conventions.rounding import ROUNDED_STATE
from .layer import How, gradients, outputs
from .problem import Problem


NEAR = 1e4  # times eps: what is further from a prediction than this is not judged by it
LARGE = 0.05  # relative errors beyond this come from no precision
RUNS = 3  # of numpy, with every input moved by an ulp, for a prediction's own error


class Explanation(NamedTuple):
    """Conventions that together explain the port's results, and the block nearest to its limit.

    `gradients` is False where the outputs are explained, but not all of the gradients.
    """

    conventions: tuple[Convention, ...]
    worst: Block
    gradients: bool = True

    def __str__(self) -> str:
        return ", and ".join(convention.what for convention in self.conventions)


class Evidence(NamedTuple):
    """Tensors of a port that an explanation must account for.

    Attributes:
        problem: the layer, its numbers and all results of the port.
        right: the outputs of torch's layer, in higher precision.
        results: the tensors: outputs or gradients of the port.
        slack: a further factor on what is allowed.
    """

    problem: Problem
    right: Arrays
    results: Arrays
    slack: float


def explain(evidence: Evidence, chosen: Sequence[Convention]) -> Explanation | None:
    """Returns an explanation if these conventions leave an error within the allowance."""
    true = truth(evidence, chosen)
    if true is None or (chosen and true and _same(true, evidence.right)):
        return None
    limit = min(NEAR * evidence.problem.eps, LARGE) * evidence.slack
    if any(error > limit for error in errors(evidence.results, true).values()):
        return None
    verdict = judge_by(evidence, chosen, true)
    return None if verdict.wrong else Explanation(tuple(chosen), verdict.worst)


def truth(evidence: Evidence, chosen: Sequence[Convention]) -> Arrays | None:
    """Returns what these conventions make of the numbers, in higher precision.

    None where they give other shapes than the port's results have.
    """
    problem, right = evidence.problem, evidence.right
    if chosen or not evidence.results.keys() <= right.keys():
        return predict(evidence, chosen, problem.data.leaves, wide(problem))
    return {name: right[name] for name in evidence.results} if _fits(problem, right) else None


def predict(
    evidence: Evidence, chosen: Sequence[Convention], leaves: Arrays, dtype: Any
) -> Arrays | None:
    """Returns what these conventions make of some leaves in some dtype."""
    problem, names = evidence.problem, evidence.results
    # A plain dict, since autograd's has no union.
    plain = lambda leaves: {name: leaves[name] for name in problem.data.leaves}
    run = lambda leaves: outputs_of(chosen, problem.case, plain(leaves), problem.data.masks)
    leaves = cast(dtype, leaves)
    with np.errstate(all="ignore"):
        try:
            results = run(leaves)
        except (IndexError, ValueError):
            if len(chosen) < 2:
                raise
            return None  # each changes a shape that the other counts on
        if not _fits(problem, results):
            return None
        if any(name.startswith("grad ") for name in names):
            cotangents = {name: problem.data.cotangents[name] for name in problem.outputs}
            results |= gradients(run, leaves, cast(dtype, cotangents))
    return {name: results[name] for name in names}


def _fits(problem: Problem, outputs: Arrays) -> bool:
    """Says whether these outputs have the shapes of the port's."""
    return all(a.shape == outputs[name].shape for name, a in problem.outputs.items())


def outputs_of(
    chosen: Sequence[Convention], case: Case, leaves: Leaves, masks: np.ndarray | None
) -> Leaves:
    """Returns the outputs of a port that has these conventions, and is otherwise right."""
    read, how = case, How()
    for convention in chosen:
        read, leaves = convention.case(read), convention.leaves(leaves)
        how = how._replace(**convention.how)
    run = lambda **changes: outputs(read, leaves, masks, how._replace(**changes))
    results = run()
    for convention in chosen:
        results = convention.results(results, run)
    return results


def judge_by(evidence: Evidence, chosen: Sequence[Convention], true: Arrays) -> Verdict:
    """Judges the tensors by the criterion of `judge`, with `true` for the truth."""
    problem, rng = evidence.problem, np.random.default_rng(0)
    data = [problem.data, *(perturb(problem.data, rng) for _ in range(RUNS))]
    dtype = DTYPES[problem.dtype]
    if problem.dtype == "bfloat16":  # numpy would round at every addition
        dtype, chosen = np.float32, (*chosen, ROUNDED_STATE)
    runs = [predict(evidence, chosen, each.leaves, dtype) or {} for each in data]
    narrow = lambda arrays: cast(DTYPES[problem.dtype], arrays)
    return judge(
        truth=true,
        torch_runs=[narrow(run) for run in runs],
        jax=narrow(evidence.results),
        cut=cuts(problem),
        eps=problem.eps,
        slack=evidence.slack,
    )


def wide(problem: Problem) -> Any:
    """Returns the precision of truths: float64, and more where float64 is judged."""
    return np.longdouble if problem.dtype == "float64" else np.float64


def cast(dtype: Any, arrays: Arrays) -> Arrays:
    return {name: np.asarray(a).astype(dtype) for name, a in arrays.items()}


def cuts(problem: Problem) -> Callable[[str], Cut]:
    """Cuts tensors as the case says; outputs of another shape stay whole."""
    whole = problem.outputs.keys() - problem.comparable
    shape = lambda name: problem.results[name].shape
    cut_case = lambda name: cut(layout(problem.case), problem.data.params, name, shape(name))
    return lambda name: Cut(0, [""]) if name in whole else cut_case(name)


def errors(results: Arrays, true: Arrays) -> dict[str, float]:
    """Returns the relative rms of each difference; infinite where only one of both is finite."""
    return {
        name: _error(a.astype(np.longdouble), np.asarray(true[name])) for name, a in results.items()
    }


def _error(a: np.ndarray, true: np.ndarray) -> float:
    finite = np.isfinite(a)
    if (finite != np.isfinite(true)).any():
        return np.inf
    return float(rms(a[finite] - true[finite]) / (rms(true[finite]) or 1.0))


def _same(a: Arrays, b: Arrays) -> bool:
    return all(n in b and np.array_equal(a[n], b[n], equal_nan=True) for n in a)
