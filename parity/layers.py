"""One case: both frameworks and the truth, brought together."""

import functools
import time
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import torch

from .backends import jax as jax_side
from .backends import numpy as truth
from .backends import torch as torch_side
from .backends.data import DTYPES, Data, cut, draw, perturb
from .backends.jax import Apply, Program
from .cases import Case
from .criterion import Block, judge


PERTURBED = 6  # runs of torch with every input moved by an ulp
SATURATED = 4.0  # inputs of tanh beyond this: 1 - tanh² is below 0.0014, and an ulp there matters


class Result(NamedTuple):
    """The verdict on one case in one dtype; `mistake` is what was planted in it, if anything."""

    case: Case
    dtype: str
    mistake: str | None
    worst: Block
    wrong: list[str]
    unjudged: list[str]
    slack: float
    seconds: float

    @property
    def status(self) -> str:
        if self.wrong:
            return "FAIL"
        return f"not compared: {', '.join(self.unjudged)}" if self.unjudged else "pass"


def verify(
    case: Case,
    dtype: str = "float64",
    *,
    params: Mapping[str, np.ndarray] | None = None,
    x: np.ndarray | None = None,
    apply: Apply | None = None,
    program: Program | None = None,
    device: str = "cpu",
) -> Result:
    """Whether jaxrnn computes what torch.nn computes on `case`, by the criterion of `compare`.

    Args:
        case: the configuration.
        dtype: `"float64"`, `"float32"` or `"bfloat16"`.
        params: torch's parameters as arrays; random ones by default.
        x: the input; random by default.
        apply: what to judge in place of `jaxrnn.rnn`, `lstm`, `gru` or a cell.
        program: `jax_side.program` of this case and `apply`, to be used for several cases.
        device: JAX's: `"cpu"`, `"gpu"` or `"tpu"`; torch's is CUDA for a GPU where it has one.
    """
    start = time.perf_counter()
    eps = float(ml_dtypes.finfo(DTYPES[dtype]).eps)
    data, rng = draw(case, dtype, params, x), np.random.default_rng(0)
    inputs = [data, *(perturb(data, rng) for _ in range(PERTURBED))]
    runs = [torch_side.run(case, moved, torch_device(device)) for moved in inputs]
    true, slack = truth.run(case, data), 1.0
    with (
        jax.enable_x64(True),
        jax.default_device(jax.devices(device)[0]),
        jax.default_matmul_precision("highest"),
    ):
        ours = program(case, data) if program else jax_side.run(case, data, apply)
        judged = functools.partial(judge, true, runs, ours, functools.partial(cut, case), eps)
        verdict = judged()
        if verdict.wrong and truth.saturation(case, data) > SATURATED:
            slack = tanh_factor(dtype, device)
            verdict = judged(slack)
        wrong = verdict.wrong
        if wrong and apply is None and not case.cell:
            wrong = [*wrong, first_wrong_state(case, data, eps)]
    seconds = time.perf_counter() - start
    return Result(case, dtype, None, verdict.worst, wrong, verdict.unjudged, slack, seconds)


def torch_device(device: str) -> str:
    return "cuda" if device == "gpu" and torch.cuda.is_available() else "cpu"


@functools.cache
def tanh_factor(dtype: str, device: str) -> float:
    """How many times further from the truth XLA's tanh strays than torch's, as measured here.

    Where units are saturated, derivatives are differences like 1 - tanh², in which the last bits of
    tanh are all there is; no moving of inputs by an ulp shows how far those bits may be off.
    """
    x = np.linspace(-8, 8, 20001).astype(DTYPES[dtype])
    true = np.tanh(x.astype(np.longdouble))
    ulp = np.spacing(np.abs(true).astype(DTYPES[dtype])).astype(np.longdouble)
    strays = lambda y: float(np.max(np.abs(y.astype(np.longdouble) - true) / ulp))
    theirs = torch_side.array(torch_side.tensor(x, torch_device(device)).tanh())
    return max(1.0, strays(np.asarray(jax.jit(jnp.tanh)(x))) / strays(theirs))


def first_wrong_state(case: Case, data: Data, eps: float, apply: Apply | None = None) -> str:
    """Where the state first leaves the truth: layer by layer, each in the order of its own time.

    A locator, no judge: it calls wrong what is off by more than 1000 eps, or by a tenth.
    """
    s, bound = case.structure, min(1000 * eps, 0.1)
    ours, true = jax_side.states(case, data, apply), truth.states(case, data)
    for i in range(len(s.suffixes)):
        backward = i % s.num_directions
        for t in reversed(range(case.time)) if backward else range(case.time):
            for name, a, b in zip("hc", ours, true, strict=False):
                error = np.abs(a[t, i].astype(np.longdouble) - b[t, i]) / (1 + np.abs(b[t, i]))
                error = np.where(np.isnan(error), np.inf, error)
                error[np.isnan(b[t, i])] = 0  # beyond a sequence's end
                if error.max(initial=0) > bound:
                    row, unit = np.unravel_index(int(error.argmax()), error.shape)
                    return (
                        f"first wrong state: {name} of layer {i // s.num_directions}, "
                        f"{'backward' if backward else 'forward'}, step {t}, batch row {row}, "
                        f"unit {unit}: off by {error[row, unit]:.1e}"
                    )
    return f"no state on the way is off by more than {bound:.1e}"
