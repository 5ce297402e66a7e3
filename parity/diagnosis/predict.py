"""A port's tensors as a target for predictions: what conventions make of its numbers, and how near.

The allowance is that of `compare`, with numpy in the place of torch: a prediction's own error is
what it is off by in the port's dtype, on the numbers as they are and on copies moved by an ulp.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..backends import numpy as truth
from ..backends.data import DTYPES, cut, layout, output_shapes, perturb
from ..criterion import Arrays, Cut, Verdict, judge
from .conventions import Convention, predict
from .problem import Problem


NEAR = 1e4  # times eps: what is further from a prediction than this is not judged by it
RUNS = 3  # of numpy, with every input moved by an ulp, for a prediction's own error


class Target(NamedTuple):
    """Tensors of a port that predictions are held against; `slack` is a factor on the allowance."""

    problem: Problem
    found: Arrays
    slack: float

    def truth(self, chosen: Sequence[Convention]) -> Arrays | None:
        """What these conventions make of the port's numbers, in a higher precision.

        None where that has other shapes than the port's results.
        """
        return self.predict(chosen, self.problem.data.leaves, wide(self.problem))

    def predict(
        self, chosen: Sequence[Convention], leaves: Arrays, dtype: Any, **how: Any
    ) -> Arrays | None:
        """Likewise, of some leaves in some dtype; `how` adds to the conventions."""
        case, data = self.problem.case, self.problem.data
        # A dict of its own, since autograd's knows no union.
        own = lambda leaves: {name: leaves[name] for name in data.leaves}
        run = lambda leaves: predict(chosen, case, own(leaves), data.masks, **how)
        leaves = cast(dtype, leaves)
        with np.errstate(all="ignore"):
            try:
                results = run(leaves)
            except (IndexError, ValueError):
                if len(chosen) < 2:
                    raise
                return None  # each changes a shape that the other counts on
            shapes = {name: a.shape for name, a in self.problem.found.items()}
            if any(results[n].shape != shapes[n] for n in results if n in shapes):
                return None
            if any(name.startswith("grad ") for name in self.found):
                weights = {n: data.cotangents[n] for n in results if n in shapes}
                score = lambda leaves: truth.dot(cast(dtype, weights), run(leaves))
                results |= {f"grad {n}": g for n, g in truth.grad(score)(leaves).items()}
        return {name: results[name] for name in self.found}

    def judge(self, chosen: Sequence[Convention], true: Arrays) -> Verdict:
        """The target by the criterion of `compare`, of which `true` is the truth."""
        leaves, rng = self.problem.data.leaves, np.random.default_rng(0)
        moved = [perturb(self.problem.data, rng).leaves for _ in range(RUNS)]
        dtype, how = DTYPES[self.problem.dtype], {}
        if self.problem.dtype == "bfloat16":  # numpy would round at every addition
            dtype, how = np.float32, {"product": "state"}
        runs = [self.predict(chosen, each, dtype, **how) or {} for each in [leaves, *moved]]
        narrow = lambda arrays: cast(DTYPES[self.problem.dtype], arrays)
        return judge(
            *(true, [narrow(run) for run in runs], narrow(self.found)),
            *(cuts(self.problem), self.problem.eps, self.slack),
        )


def wide(problem: Problem) -> Any:
    """The precision of truths: float64, and more where that is what is judged."""
    return np.longdouble if problem.dtype == "float64" else np.float64


def cast(dtype: Any, arrays: Arrays) -> Arrays:
    return {name: np.asarray(a).astype(dtype) for name, a in arrays.items()}


def cuts(problem: Problem) -> Callable[[str], Cut]:
    """Blocks as the case says, but for what has not the case's shape."""
    case, shapes = problem.case, output_shapes(problem.case)

    def of(name: str) -> Cut:
        right = name not in shapes or problem.found[name].shape == shapes[name]
        shape = problem.found[name].shape
        return cut(layout(case), problem.data.params, name, shape) if right else Cut(0, [""])

    return of


def errors(found: Arrays, true: Arrays) -> dict[str, float]:
    """Relative rms of each difference; infinite where only one of both is finite."""
    result = {}
    for name, a in found.items():
        a, b = a.astype(np.longdouble), np.asarray(true[name])
        both = np.isfinite(a) & np.isfinite(b)
        if (both != (np.isfinite(a) | np.isfinite(b))).any():
            result[name] = np.inf
            continue
        rms = lambda a, both=both: float(np.sqrt(np.mean(a[both] ** 2))) if both.any() else 0.0
        result[name] = rms(a - b) / (rms(b) or 1.0)
    return result
