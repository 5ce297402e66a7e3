"""A torch function and a JAX function on the same numbers, judged by the criterion.

A case of the table, a system of the texts, a training and a user's port are all a `Pair`. It is
drawn, run in torch (also on copies moved by an ulp), run in JAX, and judged here, in this order.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import ml_dtypes
import numpy as np
import torch

import jaxrnn

from .backends import jax as jax_backend
from .backends import torch as torch_backend
from .backends.data import DTYPES, Data, Layout, cut, generator, perturb
from .backends.jax import Program
from .cases import Case
from .criterion import Arrays, Block, Cut, Verdict, judge


PERTURBED = 6  # runs of torch with every input moved by an ulp
NO_GRADIENTS = Verdict([], ["gradients: none, where outputs differ in number or shape"], [])


class Pair(NamedTuple):
    """A torch function and a JAX function that claim to compute the same.

    `torch(params, **inputs)` and `call(jax, params, **inputs)` return trees whose leaves, in order,
    are called `outputs`. `draw(dtype)` gives the numbers.
    """

    group: str  # of the case table, or the row of a text
    name: str
    torch: Callable[..., Any]
    jax: Callable[..., Any]
    outputs: Sequence[str]
    draw: Callable[[str], Data]
    call: Callable[..., Any] = lambda jax, params, **inputs: jax(
        jaxrnn.from_state_dict(params), **inputs
    )
    dtypes: Sequence[str] = ("float64", "float32")
    layout: Layout = Layout()
    # Better than torch in float64, or than torch itself where float64 is what is judged.
    truth: Callable[[Data], Arrays] | None = None
    # A factor on the allowance if anything is wrong without it, by numbers, dtype and device.
    slack: Callable[[Data, str, str], float] | None = None
    # Where the state first leaves the truth, by numbers and the dtype's eps.
    locate: Callable[[Data, float], str] | None = None
    # Parameters that may have no gradient; None: any may.
    idle: Sequence[str] | None = ()
    case: Case | None = None

    def program(self) -> Program:
        """JAX's side as a program, compiled once for pairs of the same function and shapes."""
        return jax_backend.program(
            lambda params, **inputs: self.call(self.jax, params, **inputs), self.outputs
        )


class Reference(NamedTuple):
    """Torch's results for a pair: on the data, on copies moved by an ulp, and the truth."""

    data: Data
    runs: list[Arrays]
    truth: Arrays
    dtype: str
    device: str
    seconds: float

    @property
    def eps(self) -> float:
        """The distance from 1 to the next number in the dtype that is compared."""
        return float(ml_dtypes.finfo(DTYPES[self.dtype]).eps)


class Result(NamedTuple):
    """The verdict on one pair in one dtype; `mistake` names the one planted in it, if any."""

    group: str
    name: str
    dtype: str
    outputs: Verdict
    gradients: Verdict
    slack: float = 1.0
    seconds: float = 0.0
    steps: int = 1
    case: Any = None  # the Case, of a layer
    mistake: str | None = None

    @property
    def verdict(self) -> Verdict:
        """The verdict on outputs and gradients together."""
        a, b = self.outputs, self.gradients
        return Verdict(a.blocks + b.blocks, a.wrong + b.wrong, a.unjudged + b.unjudged)

    @property
    def wrong(self) -> list[str]:
        return self.verdict.wrong

    @property
    def unjudged(self) -> list[str]:
        return self.verdict.unjudged

    @property
    def worst(self) -> Block:
        """The block that used most of its allowance."""
        return self.verdict.worst

    @property
    def passed(self) -> bool:
        """Whether all agrees and all could be judged."""
        return not self.wrong and not self.unjudged

    @property
    def failed(self) -> bool:
        """A pair fails if anything in it is wrong, a planted mistake if nothing is."""
        return bool(self.wrong) if self.mistake is None else not self.wrong

    @property
    def status(self) -> str:
        if self.wrong:
            return "FAIL"
        return f"not compared: {', '.join(self.unjudged)}" if self.unjudged else "pass"


def of_module(
    group: str,
    name: str,
    module: torch.nn.Module,
    inputs: Mapping[str, np.ndarray],
    jax: Callable[..., Any],
    outputs: Sequence[str],
    torch: Callable[..., Any] = lambda module, **inputs: module(**inputs),
    *,
    differentiate: bool = True,
    **fields: Any,
) -> Pair:
    """A pair of a torch module, called as `torch(module, **inputs)`, and a JAX function.

    Parameters are drawn, one array for each name of the module's state_dict. A pair that is not
    differentiated, such as a training, starts from the module's own.
    """
    function = lambda params, **inputs: torch_backend.call(torch, module, params, **inputs)

    def draw(dtype: str) -> Data:
        rng, state = generator(f"{group} {name}"), module.state_dict()
        if not differentiate:
            params = {n: a.numpy() for n, a in state.items()}
            return Data(params, dict(inputs), {}, {}, differentiate=False).astype(dtype)
        shapes = {n: tuple(a.shape) for n, a in state.items()}
        params = {n: rng.standard_normal(shape) / shape[-1] ** 0.5 for n, shape in shapes.items()}
        data = Data(params, dict(inputs), {}, {}).astype(dtype)
        results = torch_backend.run(function, outputs, data._replace(differentiate=False))
        cotangents = {n: rng.standard_normal(a.shape) for n, a in results.items()}
        return data._replace(cotangents=cotangents).astype(dtype)

    return Pair(group, name, function, jax, outputs, draw, **fields)


def verify_pair(pair: Pair, dtype: str, device: str = "cpu") -> Result:
    """Whether both sides of a pair agree in a dtype."""
    return judge_pair(pair, run_reference(pair, dtype, device))


def run_reference(pair: Pair, dtype: str, device: str = "cpu") -> Reference:
    """Torch's part, by which several JAX functions may be judged."""
    start, on = time.perf_counter(), torch_device(device)
    data, rng = pair.draw(dtype), np.random.default_rng(0)
    # A gradient is a function of the cotangents too, and may be a sum of them that cancels.
    moved = [perturb(data, rng, cotangents=pair.case is None) for _ in range(PERTURBED)]
    run = lambda data: torch_backend.run(pair.torch, pair.outputs, data, on)
    runs = [run(each) for each in (data, *moved)]
    if pair.truth is not None:
        truth = pair.truth(data)
    else:
        truth = runs[0] if dtype == "float64" else run(data.astype("float64"))
    return Reference(data, runs, truth, dtype, device, time.perf_counter() - start)


def run_jax(pair: Pair, reference: Reference, program: Program | None = None) -> Arrays:
    """JAX's part; x64 is on for float64 only, so that arrays made on the way are no wider."""
    with (
        jax.enable_x64(reference.dtype == "float64"),
        jax.default_device(jax.devices(reference.device)[0]),
        jax.default_matmul_precision("highest"),
    ):
        return (program or pair.program())(reference.data)


def judge_pair(pair: Pair, reference: Reference, program: Program | None = None) -> Result:
    """Runs JAX's side, by `program` if it is compiled already, and judges it."""
    start = time.perf_counter()
    result = judge_run(pair, reference, run_jax(pair, reference, program))
    return result._replace(seconds=result.seconds + time.perf_counter() - start)


def judge_run(pair: Pair, reference: Reference, results: Arrays) -> Result:
    """Judges the arrays that JAX's side has computed."""
    outputs, gradients, slack = _verdicts(pair, reference, results)
    if pair.idle is not None:
        idle = [f"{name}: torch itself has no gradient for it" for name in still(pair, reference)]
        gradients = gradients._replace(wrong=gradients.wrong + idle)
    if pair.locate is not None and (outputs.wrong or gradients.wrong):
        place = pair.locate(reference.data, reference.eps)
        gradients = gradients._replace(wrong=[*gradients.wrong, place])
    return Result(
        group=pair.group,
        name=pair.name,
        dtype=reference.dtype,
        outputs=outputs,
        gradients=gradients,
        slack=slack,
        seconds=reference.seconds,
        steps=pair.layout.steps,
        case=pair.case,
    )


def _verdicts(pair: Pair, reference: Reference, results: Arrays) -> tuple[Verdict, Verdict, float]:
    """The verdicts on outputs and on gradients, and the factor on what was allowed."""
    outputs, gradients = _allowing(1.0, pair, reference, results)
    if pair.slack is not None and (outputs.wrong or gradients.wrong):
        slack = pair.slack(reference.data, reference.dtype, reference.device)
        return *_allowing(slack, pair, reference, results), slack
    return outputs, gradients, 1.0


def _allowing(
    slack: float, pair: Pair, reference: Reference, results: Arrays
) -> tuple[Verdict, Verdict]:
    # A training's steps round anew, and errors add up as in a random walk.
    slack, cuts = slack * pair.layout.steps**0.5, cuts_of(pair, reference)

    def verdict(*, derivatives: bool) -> Verdict:
        kinds = ("grad ", "hvp ")
        pick = lambda run: {n: a for n, a in run.items() if n.startswith(kinds) == derivatives}
        runs, picked = [pick(run) for run in reference.runs], pick(results)
        if runs[0] and derivatives and not picked:
            return NO_GRADIENTS
        return judge(pick(reference.truth), runs, picked, cuts, reference.eps, slack)

    return verdict(derivatives=False), verdict(derivatives=True)


def cuts_of(pair: Pair, reference: Reference) -> Callable[[str], Cut]:
    """How each of the truth's tensors falls into blocks."""
    truth, params = reference.truth, reference.data.params
    return lambda name: cut(pair.layout, params, name, truth[name].shape)


def still(pair: Pair, reference: Reference) -> list[str]:
    """Names whose gradients are all 0 or that training does not move; comparing them is idle."""
    start = {f"final {name}": a for name, a in reference.data.params.items()}
    start |= {name: np.zeros(()) for name in reference.truth if name.startswith("grad ")}
    idle = pair.idle or ()
    return [
        name
        for name, a in reference.truth.items()
        if name in start and (a == start[name]).all() and name.split()[-1] not in idle
    ]


def torch_device(device: str) -> str:
    """Torch's device for JAX's: CUDA for a GPU where torch has one."""
    return "cuda" if device == "gpu" and torch.cuda.is_available() else "cpu"
