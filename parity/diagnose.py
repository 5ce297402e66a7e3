"""Which convention of torch's a port does not keep: a search by the error that is left.

A known mistake is not recognised by what it looks like. It is made, in numpy, on the port's own
numbers (`conventions`, `variants`), and it is named only if what then remains is no more than
rounding may leave: the allowance of `compare`, with numpy in the place of torch.
"""

import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import torch_side, truth, variants
from .compare import Arrays, Block, Cut, Verdict, judge
from .conventions import Convention, compatible, conventions, predict
from .diagnosis import Diagnosis, Explanation
from .problem import Port, Problem, state_problem
from .tensors import DTYPES, Data, cut, output_shapes, perturb
from .verify import PERTURBED, SATURATED, tanh_factor
from .whereabouts import patterns, where


PATIENCE = 60.0  # seconds after which no further pairs are tried; large layers take long
NEAR = 1e4  # times eps: what is further from a prediction than this is not judged by it
RUNS = 3  # of numpy, with every input moved by an ulp, for a prediction's own error


def diagnose(
    kind: str | None,
    weights: Mapping[str, Any],
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any] | Port,
    *,
    nonlinearity: str = "tanh",
    batch_first: bool | None = None,
    dropout: float = 0.0,
) -> Diagnosis:
    """Says whether a recurrent layer computes what torch's does, and if not, what is wrong with it.

    Args:
        kind: `"rnn"`, `"lstm"`, `"gru"` or a cell; None: read off the weights.
        weights: torch's, as arrays or tensors under the names of its state_dict.
        inputs: `x`, and where the port was given them `h0`, `c0`, `lengths`, and for dropout
            `masks` (True where a value is kept), in torch's shapes. Random ones show most.
        outputs: what the port made of them, any of `y`, `hn`, `cn`; or the port itself, a JAX
            function called as `port(weights, x=x, h0=…)` with those inputs that there are, which
            returns `(y, hn)` or `(y, (hn, cn))`, a cell `hn` or `(hn, cn)`, or a dict. Then its
            gradients are compared too, and it is tried step by step on torch's own states.
        nonlinearity: of an RNN in torch.
        batch_first: of `x` and `y`; None: read off the shapes where they tell, else False.
        dropout: torch's rate; without `masks` the port was evaluated.

    Returns:
        A `Diagnosis`, which prints; `.verdict` is "agrees", "named", "precision" or "unknown".

    Raises:
        ValueError: names or shapes that do not go together.
        TypeError: what is no array, is not floating, or is too narrow to be judged.
    """
    problem = state_problem(kind, weights, inputs, outputs, nonlinearity, batch_first, dropout)
    torch, slack = _against_torch(problem)
    named, tried, verdict = [], "", "agrees"
    if torch.wrong:
        named, tried = _search(problem, slack)
        verdict = named[0].kind if named else _unexplained(torch, problem)
    return Diagnosis(
        problem,
        verdict,
        torch,
        where(problem, torch) if torch.wrong else [],
        patterns(problem, torch) if torch.wrong else [],
        named,
        tried,
    )


def _unexplained(torch: Verdict, problem: Problem) -> str:
    """Whether what no convention explains is of the size of rounding."""
    errors = {block.tensor: block.error for block in reversed(torch.blocks)}
    wrong = {line.replace(":", ",").partition(",")[0] for line in torch.wrong}
    small = lambda name: errors.get(name, np.inf) < NEAR / 10 * problem.eps
    return "precision" if all(map(small, wrong)) else "unknown"


# What is compared, and with what.


class Target(NamedTuple):
    """Tensors of the port that predictions are held against, and how far they may be off."""

    problem: Problem
    found: Arrays
    slack: float

    @property
    def gradients(self) -> bool:
        return any(name.startswith("grad ") for name in self.found)

    def predict(
        self, chosen: Sequence[Convention], data: Data, dtype: Any, **how: Any
    ) -> Arrays | None:
        """What a port with these conventions makes of the data; None where it makes nothing."""
        case, to = self.problem.case, functools.partial(_to, dtype)
        leaves, cotangents = to(data.leaves), to(data.cotangents)
        # A dict of its own, since autograd's knows no union.
        own = lambda leaves: {name: leaves[name] for name in data.leaves}
        run = lambda leaves: predict(chosen, case, own(leaves), data.masks, **how)
        with np.errstate(all="ignore"):
            results = run(leaves)
            shapes = {name: a.shape for name, a in self.problem.found.items()}
            if any(results[n].shape != shapes[n] for n in self.found if n in results):
                return None
            if self.gradients:
                score = lambda leaves: truth.dot(
                    {name: cotangents[name] for name in results if name in shapes}, run(leaves)
                )
                grads = truth.grad(score)(leaves)
                results |= {f"grad {name}": g for name, g in grads.items()}
        return {name: results[name] for name in self.found}

    def judge(self, chosen: Sequence[Convention], true: Arrays, **how: Any) -> Verdict:
        """Numpy in the place of torch; its own error is that of the port's dtype."""
        data, rng = self.problem.data, np.random.default_rng(0)
        narrow = DTYPES[self.problem.dtype]
        if self.problem.dtype == "bfloat16":  # numpy would round at every addition
            how |= {"product": "state"}
        working = np.float32 if self.problem.dtype == "bfloat16" else narrow
        runs = []
        for moved in [data, *(perturb(data, rng) for _ in range(RUNS))]:
            predicted = self.predict(chosen, moved, working, **how) or {}
            runs.append(_to(narrow, predicted))
        found = _to(narrow, self.found)
        return judge(true, runs, found, _cut(self.problem), self.problem.eps, self.slack)


def _to(dtype: Any, arrays: Arrays) -> Arrays:
    return {name: np.asarray(a).astype(dtype) for name, a in arrays.items()}


def _wide(problem: Problem) -> Any:
    """The precision of predictions: float64, and more where that is what is judged."""
    return np.longdouble if problem.dtype == "float64" else np.float64


def _cut(problem: Problem) -> Callable[[str], Cut]:
    """As the case says, but for what has not the case's shape."""
    case, shapes = problem.case, output_shapes(problem.case)

    def of(name: str) -> Cut:
        right = name not in shapes or problem.found[name].shape == shapes[name]
        return cut(case, name) if right else Cut(0, [""])

    return of


def _against_torch(problem: Problem) -> tuple[Verdict, float]:
    """The criterion itself: torch's runs, and a truth in higher precision."""
    case, found = problem.case, problem.found
    shapes = output_shapes(case)
    known = {name for name in found if name in shapes and found[name].shape == shapes[name]}
    cotangents = {
        name: problem.data.cotangents[name] if name in known else np.zeros(shape)
        for name, shape in shapes.items()
    }
    data = problem.data._replace(cotangents=_to(DTYPES[problem.dtype], cotangents))
    # Without some outputs' cotangents torch has other gradients.
    names = [
        n
        for n in found
        if n in shapes or (n.startswith("grad ") and known >= found.keys() & shapes.keys())
    ]
    rng = np.random.default_rng(0)
    moved = [data, *(perturb(data, rng) for _ in range(PERTURBED))]
    pick = lambda results: {name: results[name] for name in names}
    runs = [pick(torch_side.run(case, each)) for each in moved]
    leaves, cotangents = _to(_wide(problem), data.leaves), _to(_wide(problem), data.cotangents)
    true = variants.outputs(case, leaves, data.masks)
    if any(name.startswith("grad ") for name in names):
        true |= variants.gradients(case, leaves, cotangents, data.masks)
    judged = functools.partial(judge, pick(true), runs, pick(found), _cut(problem), problem.eps)
    verdict, slack = judged(), 1.0
    if verdict.wrong and truth.saturation(case, data) > SATURATED:
        with jax.enable_x64(True):
            slack = tanh_factor(problem.dtype, "cpu")
        verdict = judged(slack)
    return verdict, slack


# The search.


def _search(problem: Problem, slack: float) -> tuple[list[Explanation], str]:
    """All that explains the port's results equally well, the likeliest first, and what was tried.

    Outputs first, then, of a function that has them right, gradients: by one convention, by a
    precision, by a convention and a precision, by two conventions.
    """
    outputs = {n: a for n, a in problem.found.items() if not n.startswith("grad ")}
    target = Target(problem, outputs, slack)
    singles = conventions(problem.case, problem.data.masks is not None)
    right = target.predict((), problem.data, _wide(problem))
    if _explain(target, [()], None):  # as far as outputs go, nothing is wrong
        found, tried = [_NOTHING], "no convention"
    else:
        found, tried = _of_outputs(target, singles, right)
    if problem.port is not None and found:
        found = _with_gradients(problem, slack, found)
    return [explanation for explanation in found if explanation.conventions], tried


def _of_outputs(
    target: Target, singles: Sequence[Convention], right: Arrays | None
) -> tuple[list[Explanation], str]:
    alone = [(convention,) for convention in singles]
    pairs = [pair for pair in itertools.combinations(singles, 2) if compatible(pair)]
    tried = f"{len(singles)} conventions"
    if found := _narrowed(target, [(), *alone]):
        return found, tried
    if found := _explain(target, alone, right) or _precisions(target, [()]):
        return found, tried
    found, count = _patiently(target, pairs, right)
    tried += f", {count} of their {len(pairs)} pairs"
    return found or _precisions(target, alone), tried


def _explain(
    target: Target, candidates: Iterable[Sequence[Convention]], right: Arrays | None
) -> list[Explanation]:
    """Those candidates that change something and leave an error within the allowance."""
    found = []
    for chosen in candidates:
        true = target.predict(chosen, target.problem.data, _wide(target.problem))
        if true is None or (right is not None and _same(true, right)):
            continue
        if _near(target, true) and not (verdict := target.judge(chosen, true)).wrong:
            found.append(Explanation("named", tuple(chosen), verdict.worst))
    return found


def _same(a: Arrays, b: Arrays) -> bool:
    return all(
        a[name].shape == b[name].shape and np.array_equal(a[name], b[name], equal_nan=True)
        for name in a
    )


def _near(target: Target, true: Arrays) -> bool:
    """Whether it is worth while to judge."""
    return all(
        error <= NEAR * target.problem.eps * max(1.0, target.slack)
        for error in _errors(target.found, true).values()
    )


def _errors(found: Arrays, true: Arrays) -> dict[str, float]:
    """Relative rms of the difference; infinite where only one of them is finite."""
    errors = {}
    for name, a in found.items():
        a, b = a.astype(np.longdouble), np.asarray(true[name])
        both = np.isfinite(a) & np.isfinite(b)
        if a.shape != b.shape or (both != (np.isfinite(a) | np.isfinite(b))).any():
            errors[name] = np.inf
            continue
        rms = lambda a, both=both: float(np.sqrt(np.mean(np.square(a[both])))) if a.size else 0.0
        errors[name] = rms(a - b) / (rms(b) or 1.0)
    return errors


def _patiently(
    target: Target, pairs: Sequence[Sequence[Convention]], right: Arrays | None
) -> tuple[list[Explanation], int]:
    """As many pairs as there is time for."""
    end, found = time.monotonic() + PATIENCE, []
    for count, pair in enumerate(pairs):
        if time.monotonic() > end:
            return found, count
        found += _explain(target, [pair], right)
    return found, len(pairs)


# Precision: what cannot be predicted digit by digit, but in size and, mostly, in direction.


_NOTHING = Explanation("named", (), Block("nothing", "", 0.0, 0.0, np.inf, (), None))


class Precision(NamedTuple):
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
        "rounds the operands of products to bfloat16",
        "jax.default_matmul_precision('highest'): bfloat16 is a TPU's default",
        np.float32,
        "bfloat16",
    ),
    Precision(
        "carries its state in bfloat16",
        "carry h and c in float32",
        np.float32,
        "state",
    ),
]


def _narrowed(target: Target, candidates: Iterable[Sequence[Convention]]) -> list[Explanation]:
    """Where some outputs come back in a narrower dtype: right in it, and the others altogether?"""
    width = np.dtype(DTYPES[target.problem.dtype]).itemsize
    narrow = {n: a for n, a in target.found.items() if a.dtype.itemsize < width}
    rest = target._replace(found={n: a for n, a in target.found.items() if n not in narrow})
    for chosen in candidates if narrow else ():
        true = target.predict(chosen, target.problem.data, _wide(target.problem))
        if true is None:
            continue
        off = _errors(narrow, true)
        if any(off[n] > 4 * jnp.finfo(a.dtype).eps for n, a in narrow.items()):
            continue
        left = {name: true[name] for name in rest.found}
        if not (verdict := rest.judge(chosen, left)).wrong:
            shown = f"returns {', '.join(narrow)} in {next(iter(narrow.values())).dtype}"
            change = "return the outputs in the dtype of x: is there an astype, or x64 off?"
            kind = "named" if chosen else "precision"
            conventions = (*chosen, Convention(shown, "precision", change))
            return [Explanation(kind, conventions, verdict.worst)]
    return []


WITHIN = 4.0  # the error may be so many times larger or smaller than the simulated one


def _precisions(target: Target, candidates: Iterable[Sequence[Convention]]) -> list[Explanation]:
    """A convention, or none, with a precision whose error is of the size of what is left."""
    coarser = [
        precision
        for precision in PRECISIONS
        if precision.product or target.problem.dtype == "float64"
    ]
    if target.problem.dtype == "bfloat16":
        return []
    ranked = []
    for chosen in candidates:
        true = target.predict(chosen, target.problem.data, _wide(target.problem))
        if true is None or max(_errors(target.found, true).values()) > 0.05:
            continue
        for precision in coarser:
            data = target.problem.data
            how = {"product": precision.product} if precision.product else {}
            simulated = target.predict(chosen, data, precision.dtype, **how)
            if simulated is None:
                continue
            theirs, ours = _errors(target.found, true), _errors(simulated, true)
            ratios = [theirs[n] / ours[n] for n in ours if ours[n]] or [np.inf]
            if not 1 / WITHIN <= min(ratios) <= max(ratios) <= WITHIN:
                continue
            alike = _alike(target.found, simulated, true)
            as_convention = Convention(precision.what, "precision", precision.change)
            verdict = target.judge(chosen, true)
            kind = "named" if chosen else "precision"
            explanation = Explanation(kind, (*chosen, as_convention), verdict.worst)
            ranked.append((-round(alike, 1), max(max(ratios), 1 / min(ratios)), explanation))
    # Many are of the size; that whose errors go the port's way is named.
    return [min(ranked, key=lambda entry: entry[:2])[2]] if ranked else []


def _alike(found: Arrays, simulated: Arrays, true: Arrays) -> float:
    """The cosine between the port's errors and the simulated ones."""
    flat = lambda arrays: np.concatenate(
        [np.ravel(arrays[name].astype(np.longdouble) - true[name]) for name in found]
    )
    a, b = flat(found), flat(simulated)
    a, b = np.nan_to_num(a), np.nan_to_num(b)
    return float(np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b) or 1))


# Gradients of a port whose outputs are explained.


def _with_gradients(problem: Problem, slack: float, found: list[Explanation]) -> list[Explanation]:
    """For what explains the outputs: does it explain the gradients, or what does besides?"""
    grads = {name: a for name, a in problem.found.items() if name.startswith("grad ")}
    better = []
    for explanation in found:
        if explanation.kind == "precision" or any(
            convention.slot == "precision" for convention in explanation.conventions
        ):
            better.append(explanation)
            continue
        for more in _gradients(problem, grads):
            chosen = (*explanation.conventions, *more)
            some = Target(problem, _reaching(grads, more), slack)
            true = some.predict(chosen, problem.data, _wide(problem))
            if true is None:
                continue
            if _near(some, true) and not (verdict := some.judge(chosen, true)).wrong:
                if chosen:
                    better.append(Explanation("named", chosen, verdict.worst))
                break
        else:
            if explanation.conventions:
                better.append(explanation._replace(gradients=False))
    return better


def _reaching(grads: Arrays, more: Sequence[Convention]) -> Arrays:
    """Without what a convention says has no gradient at all."""
    if more and more[0].slot == "constant":
        return {name: a for name, a in grads.items() if a.any()}
    return grads


def _gradients(problem: Problem, grads: Arrays) -> Iterator[tuple[Convention, ...]]:
    """Nothing else, or one of the ways in which a gradient is lost."""
    yield ()
    through = "no stop_gradient on what the loop carries; jax.checkpoint, where memory is short"
    states = ["hc", "h", "c"] if problem.case.structure.gates == 4 else ["h"]
    for names in [] if problem.case.cell else states:
        shown = " and ".join(names)
        yield (
            Convention(
                f"passes no gradient back from step to step through {shown}",
                "gradient",
                through,
                {"detached": names},
            ),
        )
    if problem.case.nonlinearity == "relu":
        yield (
            Convention(
                "has a derivative of 1/2 where relu's argument is 0 (jnp.maximum)",
                "gradient",
                "jax.nn.relu, whose derivative there is 0, as torch's",
                {"candidate": "maximum"},
            ),
        )
    if lost := [name.removeprefix("grad ") for name, a in grads.items() if not a.any()]:
        shown = ", ".join(f"`{name}`" for name in lost)
        yield (
            Convention(
                f"passes no gradient back to {shown}",
                "constant",
                "no stop_gradient on it, and no copy of it made outside of what is differentiated",
            ),
        )
