"""Which of torch's conventions a port does not keep: a search by the error that is left.

A known mistake is not recognised by what it looks like. It is made, in numpy, on the port's own
numbers (`conventions`, `variants`), and it is named only if what then remains is no more than
rounding may leave (`target`). What is lost by precision is known by its size (`precision`).
"""

import functools
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..backends import torch as torch_side
from ..backends.data import DTYPES, output_shapes, perturb
from ..criterion import Arrays, Block, Verdict, judge
from ..layers import saturation_slack
from ..pair import PERTURBED
from . import layer as variants
from .conventions import Convention, compatible, conventions
from .locate import patterns, where
from .precision import LARGE, RETURN, by_dtype, by_precision
from .predict import (
    NEAR,
    Target,
    cast,
    cuts,
    errors,
    wide,
)
from .problem import Port, Problem, state_problem
from .report import Diagnosis, Explanation


PATIENCE = 60.0  # seconds after which no further pairs are tried


def diagnose(
    kind: str | None,
    weights: Mapping[str, Any],
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any] | Port,
    *,
    nonlinearity: str = "tanh",
    batch_first: bool | None = None,
    dropout: float = 0.0,
    loaded: Mapping[str, Any] | None = None,
) -> Diagnosis:
    """Says whether a recurrent layer computes what torch's does, and if not, what is wrong with it.

    Small layers show as much as large ones, and are searched in seconds: a few sequences, ten steps
    or so, some ten units, all sizes different, everything at random.

    Args:
        kind: `"rnn"`, `"lstm"`, `"gru"` or a cell; None: read off the weights.
        weights: torch's, as arrays or tensors under the names of its state_dict.
        inputs: `x`, and where the port was given them `h0`, `c0`, `lengths`, and for dropout
            `masks` (True where a value is kept, (num_layers - 1, *y's shape)), in torch's shapes.
        outputs: what the port made of them, any of `y`, `hn`, `cn`; or the port itself, a JAX
            function called as `port(weights, x=x, h0=…)` with those inputs that there are, which
            returns `(y, hn)` or `(y, (hn, cn))`, a cell `hn` or `(hn, cn)`, or a dict. Then its
            gradients are compared too, and where it takes sequences of a single step, it is tried
            on torch's own state at each.
        nonlinearity: of an RNN in torch, `"tanh"` or `"relu"`.
        batch_first: of `x` and `y`; None: as initial states or lengths say it, else False.
        dropout: torch's rate; without `masks` the port was evaluated.
        loaded: the weights as the port has loaded them, under torch's names, if it has them so.

    Returns:
        A `Diagnosis`, which prints; `.verdict` is "agrees", "named", "precision" or "unknown".

    Raises:
        ValueError: names or shapes that do not go together, or an unusual result of the port.
        TypeError: an argument is not of its kind, or its numbers are not floating.
        Exception: what the port raises is passed on, with a note on what it was called with.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html and its neighbours,
    and what flax, haiku, keras and ONNX do otherwise.
    """
    problem = state_problem(
        *(kind, weights, inputs, outputs),
        nonlinearity=nonlinearity,
        batch_first=batch_first,
        dropout=dropout,
        loaded=loaded,
    )
    return examine(problem)


def examine(problem: Problem) -> Diagnosis:
    """`diagnose`, of arguments that have been checked."""
    torch, slack = _against_torch(problem)
    if not torch.wrong and problem.returned:  # right numbers, in another dtype
        told = ", ".join(f"{name} in {dtype}" for name, dtype in problem.returned.items())
        returned = Convention(f"returns {told}", "precision", RETURN)
        torch = torch._replace(wrong=[f"{name}: {d}" for name, d in problem.returned.items()])
        found = [Explanation((returned,), torch.worst)]
        return Diagnosis(problem, "precision", torch, slack, [], [], found, "")
    if not torch.wrong:
        return Diagnosis(problem, "agrees", torch, slack, [], [], [], "")
    found, tried = _search(problem, slack)
    if found:
        only = all(c.slot == "precision" for c in found[0].conventions)
        verdict = "precision" if only else "named"
    else:
        verdict = "precision" if _small(torch, problem) else "unknown"
    seen = where(problem, torch), patterns(problem, torch)
    return Diagnosis(problem, verdict, torch, slack, *seen, found, tried)


def _against_torch(problem: Problem) -> tuple[Verdict, float]:
    """The criterion itself: torch's runs, and a truth in higher precision."""
    case, found, shapes = problem.case, problem.found, output_shapes(problem.case)
    known = {name for name in found if found[name].shape == shapes.get(name)}
    zeros = {name: np.zeros(shape) for name, shape in shapes.items()}
    given = {name: a for name, a in problem.data.cotangents.items() if name in known}
    data = problem.data._replace(cotangents=cast(DTYPES[problem.dtype], zeros | given))
    # Without cotangents for an output of another shape, torch has other gradients.
    outputs = {name for name in found if name in shapes}
    names = [name for name in found if name in outputs or known == outputs]
    gradients = len(names) > len(outputs)
    rng = np.random.default_rng(0)
    moved = [data, *(perturb(data, rng) for _ in range(PERTURBED))]
    pick = lambda results: {name: results[name] for name in names}
    moved = [each._replace(differentiate=gradients) for each in moved]
    runs = [pick(torch_side.run_case(case, each)) for each in moved]
    leaves, cotangents = (cast(wide(problem), a) for a in (data.leaves, data.cotangents))
    true = variants.outputs(case, leaves, data.masks)
    if gradients:
        true |= variants.gradients(case, leaves, cotangents, data.masks)
    judged = functools.partial(judge, pick(true), runs, pick(found), cuts(problem), problem.eps)
    verdict, slack = judged(), 1.0
    if verdict.wrong:
        slack = saturation_slack(case, data, problem.dtype, "cpu")
        verdict = judged(slack)
    return verdict, slack


def _small(torch: Verdict, problem: Problem) -> bool:
    """Whether what no convention explains is of the size of rounding."""
    off = {block.tensor: block.error for block in reversed(torch.blocks)}  # the whole comes last
    return all(off.get(name, np.inf) < problem.far for name in torch.wrong_tensors)


# Outputs.


def _search(problem: Problem, slack: float) -> tuple[list[Explanation], str]:
    """All that explains the port's results equally well, the likeliest first, and what was tried.

    What explains the outputs is held against the gradients too, where there are any.
    """
    outputs = {n: a for n, a in problem.found.items() if not n.startswith("grad ")}
    target = Target(problem, outputs, slack)
    if _explain(target, [()], None):  # as far as outputs go, nothing is wrong
        found, tried = [_NOTHING], "no convention of the outputs"
    else:
        found, tried = _of_outputs(target)
    if problem.port is not None:
        found = [better for each in found for better in _with_gradients(problem, slack, each)]
    return [explanation for explanation in found if explanation.conventions], tried


_NOTHING = Explanation((), Block("nothing", "", 0.0, 0.0, np.inf, (), None))


def _of_outputs(target: Target) -> tuple[list[Explanation], str]:
    """By one convention, a precision, two conventions, a convention and a precision, in turn."""
    singles = conventions(target.problem.case, target.problem.data.masks is not None)
    alone = [(convention,) for convention in singles]
    pairs = [pair for pair in itertools.combinations(singles, 2) if compatible(pair)]
    right, tried = target.truth(()), f"{len(singles)} conventions"
    if found := by_dtype(target, [(), *alone]) or _explain(target, alone, right):
        return found, tried
    if found := by_precision(target, [()]):
        return found, tried
    end, count = time.monotonic() + PATIENCE, 0
    while count < len(pairs) and time.monotonic() < end:
        found += _explain(target, pairs[count : count + 1], right)
        count += 1
    cut = "" if count == len(pairs) else f", cut off after {PATIENCE:.0f} s: try a smaller layer"
    tried += f", {count} of their {len(pairs)} pairs{cut}"
    return found or by_precision(target, alone), tried


def _explain(
    target: Target, candidates: Iterable[Sequence[Convention]], right: Arrays | None
) -> list[Explanation]:
    """Those candidates that change what is `right`, and leave an error within the allowance."""
    found, limit = [], min(NEAR * target.problem.eps, LARGE) * target.slack
    for chosen in candidates:
        true = target.truth(chosen)
        if true is None or (right is not None and _same(true, right)):
            continue
        near = all(error <= limit for error in errors(target.found, true).values())
        if near and not (verdict := target.judge(chosen, true)).wrong:
            found.append(Explanation(tuple(chosen), verdict.worst))
    return found


def _same(a: Arrays, b: Arrays) -> bool:
    return all(np.array_equal(a[name], b[name], equal_nan=True) for name in a)


# Gradients.


def _with_gradients(
    problem: Problem, slack: float, explanation: Explanation
) -> Iterator[Explanation]:
    """What explains the outputs: does it explain the gradients, or what does besides?"""
    chosen = explanation.conventions
    if any(convention.slot == "precision" for convention in chosen):
        yield explanation
        return
    grads = {name: a for name, a in problem.found.items() if name.startswith("grad ")}
    for more in [(), *_lost(problem, grads)]:
        # What is said to have no gradient at all is not compared.
        constant = any(convention.slot == "constant" for convention in more)
        kept = {name: a for name, a in grads.items() if a.any() or not constant}
        found = _explain(Target(problem, kept, slack), [(*chosen, *more)], None)
        if found:
            yield found[0]
            return
    yield explanation._replace(gradients=False)


def _lost(problem: Problem, grads: Arrays) -> Iterator[tuple[Convention, ...]]:
    """The ways in which gradients are lost."""
    through = "no stop_gradient on what the loop carries; jax.checkpoint, where memory is short"
    states = ["hc", "h", "c"] if problem.case.structure.gates == 4 else ["h"]
    for names in [] if problem.case.cell else states:
        shown = f"passes no gradient back from step to step through {' and '.join(names)}"
        yield (Convention(shown, "gradient", through, {"detached": names}),)
    if problem.case.nonlinearity == "relu":
        half = "has a derivative of 1/2 where relu's argument is 0 (jnp.maximum)"
        relu = "jax.nn.relu, whose derivative there is 0, as torch's"
        yield (Convention(half, "gradient", relu, {"candidate": "maximum"}),)
    if lost := [f"`{name[5:]}`" for name, a in grads.items() if not a.any()]:
        constant = "no stop_gradient on it, and no copy made outside of what is differentiated"
        yield (Convention(f"passes no gradient back to {', '.join(lost)}", "constant", constant),)
