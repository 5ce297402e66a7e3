"""Searches for the conventions of torch that a port does not keep, by the error that is left.

A known mistake is not recognised by its looks. It is made, in numpy, on the port's own numbers
(`conventions`, `predict`), and named only if the error that then remains is within the allowance.
Lost precision is known by the size of the errors (`precision`).
"""

import functools
import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..backends.data import Data, output_shapes
from ..criterion import Arrays, Verdict
from ..layers import pair_of
from ..pair import judge_run, run_reference
from . import layer
from .call import Port
from .conventions import Convention, compatible, conventions, lost_gradients
from .conventions.rounding import returned
from .locate import patterns, where
from .precision import by_dtype, by_precision
from .predict import Evidence, Explanation, cast, explain, wide
from .problem import Problem, state_problem
from .report import Diagnosis


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
        inputs: `x`, and `h0`, `c0`, `lengths` if the port takes them, and for dropout `masks`
            (True where a value is kept, (num_layers - 1, *y's shape)), in torch's shapes.
        outputs: the port's results, any of `y`, `hn`, `cn`; or the port itself, a JAX function
            called as `port(weights, x=x, h0=…)` with the inputs that there are. It returns
            `(y, hn)` or `(y, (hn, cn))`, a cell `hn` or `(hn, cn)`, or a dict. A function's
            gradients are compared too, and if it takes sequences of a single step, it is tried
            on torch's own state at each.
        nonlinearity: of an RNN in torch, `"tanh"` or `"relu"`.
        batch_first: of `x` and `y`; None: as initial states or lengths say it, else False.
        dropout: torch's rate; without `masks` the port was evaluated.
        loaded: the weights as the port has loaded them, under torch's names, if it has them so.

    Returns:
        A `Diagnosis`, which prints; `.verdict` is "agrees", "named", "precision" or "unknown".

    Raises:
        ValueError: names or shapes do not go together, or the port returns something else.
        TypeError: an argument is of another type, or its numbers are not floating.
        Exception: whatever the port raises, with a note on the arguments of the call.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html and the pages next
    to it; the documented differences of flax, haiku, keras and ONNX.
    """
    problem = state_problem(
        kind,
        weights,
        inputs,
        outputs,
        nonlinearity=nonlinearity,
        batch_first=batch_first,
        dropout=dropout,
        loaded=loaded,
    )
    return examine(problem)


def examine(problem: Problem) -> Diagnosis:
    """Diagnoses arguments that have been checked."""
    right, torch, slack = _against_torch(problem)
    diagnosis = Diagnosis(problem, "agrees", torch, slack, [], [], [], "")
    if torch.wrong:
        explanations, tried = _search(Evidence(problem, right, problem.outputs, slack))
        return diagnosis._replace(
            verdict=_verdict(problem, torch, explanations),
            where=where(problem, right, torch),
            patterns=patterns(problem, right, torch),
            explanations=explanations,
            tried=tried,
        )
    if problem.returned:  # right numbers, in another dtype
        names = ", ".join(f"{name} in {dtype}" for name, dtype in problem.returned.items())
        wrong = [f"{name}: {dtype}" for name, dtype in problem.returned.items()]
        return diagnosis._replace(
            verdict="precision",
            torch=torch._replace(wrong=wrong),
            explanations=[Explanation((returned(names),), torch.worst)],
        )
    return diagnosis


def _against_torch(problem: Problem) -> tuple[Arrays, Verdict, float]:
    """Judges the port by the criterion itself; returns the true outputs, the verdict, the slack."""
    case, known = problem.case, problem.comparable.keys()
    zeros = {name: np.zeros(shape) for name, shape in output_shapes(case).items()}
    cotangents = zeros | {n: a for n, a in problem.data.cotangents.items() if n in known}
    # Without cotangents for an output of another shape, torch has other gradients.
    names = [*problem.outputs, *(problem.gradients if known == problem.outputs.keys() else [])]
    differentiate = len(names) > len(problem.outputs)
    data = problem.data._replace(cotangents=cotangents, differentiate=differentiate)
    data = data.astype(problem.dtype)
    truth = functools.partial(_truth, problem)
    pair = pair_of(case)._replace(draw=lambda _: data, truth=truth, locate=None)
    reference = run_reference(pair, problem.dtype)
    pick = lambda results: {name: results[name] for name in names}
    runs = [pick(run) for run in reference.runs]
    compared = reference._replace(runs=runs, truth=pick(reference.truth))
    result = judge_run(pair, compared, pick(problem.results))
    return {name: reference.truth[name] for name in zeros}, result.verdict, result.slack


def _truth(problem: Problem, data: Data) -> Arrays:
    """Returns what torch's conventions make of the numbers, in higher precision."""
    run = lambda leaves: layer.outputs(problem.case, leaves, data.masks)
    leaves, cotangents = (cast(wide(problem), arrays) for arrays in (data.leaves, data.cotangents))
    outputs = run(leaves)
    return outputs | (layer.gradients(run, leaves, cotangents) if data.differentiate else {})


def _verdict(problem: Problem, torch: Verdict, explanations: Sequence[Explanation]) -> str:
    if explanations:
        named = any(c.slot != "precision" for c in explanations[0].conventions)
        return "named" if named else "precision"
    # What no convention explains may be of the size of rounding.
    errors = {block.tensor: block.error for block in reversed(torch.blocks)}  # the whole comes last
    small = all(errors.get(name, np.inf) < problem.far for name in torch.wrong_tensors)
    return "precision" if small else "unknown"


def _search(evidence: Evidence) -> tuple[list[Explanation], str]:
    """Returns all that explains the results equally well, the likeliest first, and what was tried.

    An explanation of the outputs is held against the gradients too, if there are any.
    """
    if nothing := _explain(evidence, [()]):  # as far as outputs go, nothing is wrong
        explanations, tried = nothing, "no convention of the outputs"
    else:
        explanations, tried = _of_outputs(evidence)
    if evidence.problem.port is not None:
        explanations = [_with_gradients(evidence, each) for each in explanations]
    return [explanation for explanation in explanations if explanation.conventions], tried


def _of_outputs(evidence: Evidence) -> tuple[list[Explanation], str]:
    """By one convention, a precision, two conventions, a convention and a precision, in turn."""
    problem = evidence.problem
    singles = conventions(problem.case, problem.data.masks is not None)
    alone = [(convention,) for convention in singles]
    pairs = [pair for pair in itertools.combinations(singles, 2) if compatible(pair)]
    tried = f"{len(singles)} conventions"
    if explanations := by_dtype(evidence, [(), *alone]) or _explain(evidence, alone):
        return explanations, tried
    if explanations := by_precision(evidence, [()]):
        return explanations, tried
    end, count = time.monotonic() + PATIENCE, 0
    while count < len(pairs) and time.monotonic() < end:
        explanations += _explain(evidence, pairs[count : count + 1])
        count += 1
    cut = "" if count == len(pairs) else f", cut off after {PATIENCE:.0f} s: try a smaller layer"
    tried += f", {count} of their {len(pairs)} pairs{cut}"
    return explanations or by_precision(evidence, alone), tried


def _explain(evidence: Evidence, candidates: Iterable[Sequence[Convention]]) -> list[Explanation]:
    explanations = (explain(evidence, chosen) for chosen in candidates)
    return [explanation for explanation in explanations if explanation is not None]


def _with_gradients(evidence: Evidence, explanation: Explanation) -> Explanation:
    """Does what explains the outputs explain the gradients, with a way to lose them perhaps?"""
    chosen = explanation.conventions
    if any(convention.slot == "precision" for convention in chosen):
        return explanation
    results = evidence.problem.gradients
    zero = [name for name, a in results.items() if not a.any()]
    names = [name.removeprefix("grad ") for name in zero]
    for more in [(), *((lost,) for lost in lost_gradients(evidence.problem.case, names))]:
        # A tensor that is said to have no gradient at all is not compared.
        left_out = zero if any(convention.slot == "constant" for convention in more) else []
        kept = {name: a for name, a in results.items() if name not in left_out}
        if better := explain(evidence._replace(results=kept), (*chosen, *more)):
            return better
    return explanation._replace(gradients=False)
