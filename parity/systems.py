"""Any system on both sides: a torch module and a JAX function on the same parameters and inputs.

The criterion is that of `compare`. For float32 the truth is torch in float64. For float64 there is
mostly no third computation: torch is the truth, and its own error is what moving every input by an
ulp does to it. What such a system is made of, its recurrent layers, is judged more strictly by
`verify`.
"""

import re
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import torch
from torch.func import functional_call

import jaxrnn

from .compare import Arrays, Block, Cut, judge
from .tensors import DTYPES, GATES, move
from .torch_side import array, exactly, tensor
from .verify import PERTURBED, torch_device


_GATED = re.compile(r"\b(weight|bias)_[ih]h")


class System(NamedTuple):
    """A torch module and a JAX function that claim to compute the same.

    `torch(module, **inputs)` and `jax(params, **inputs)` return trees whose leaves, in order, are
    called `outputs`. Parameters are drawn, one array for each name in the module's state_dict; a
    training, which is not differentiated, starts from the module's own. Floating inputs take part
    in rounding, perturbing and differentiating; others are passed on.
    """

    row: str
    name: str
    module: torch.nn.Module
    inputs: Arrays
    jax: Callable[..., Any]
    outputs: Sequence[str]
    torch: Callable[..., Any] = lambda module, **inputs: module(**inputs)
    differentiate: bool = True  # a training's outputs hold its gradients already
    dtypes: Sequence[str] = ("float64", "float32")
    idle: Sequence[str] = ()  # parameters that have no gradient, as the text would have it
    steps: int = 1  # of a training: each rounds anew, and errors add up as in a random walk
    truth: Callable[..., Arrays] | None = None  # of some outputs, better than torch in float64


class Compared(NamedTuple):
    """Of outputs and of gradients the block nearest to its allowance, and all that is wrong.

    `mistake` is what was planted, if anything.
    """

    row: str
    name: str
    dtype: str
    output: Block
    gradient: Block | None
    wrong: list[str]
    unjudged: list[str]
    seconds: float
    steps: int = 1
    mistake: str | None = None

    @property
    def passed(self) -> bool:
        return not self.wrong and not self.unjudged


class Data(NamedTuple):
    """Numbers for both sides; floating `inputs` and `params` are what is differentiated by."""

    params: Arrays
    inputs: Arrays
    cotangents: Arrays


class Reference(NamedTuple):
    """What torch computed of a system: on the data, on copies moved by an ulp, and the truth."""

    data: Data
    runs: list[Arrays]
    truth: Arrays
    dtype: str
    device: str
    seconds: float


def verify_system(
    system: System,
    dtype: str,
    jax_function: Callable[..., Any] | None = None,
    params: Mapping[str, np.ndarray] | None = None,
    device: str = "cpu",
) -> Compared:
    """Whether both sides agree.

    Args:
        system: what to compare.
        dtype: `"float64"` or `"float32"`.
        jax_function: what to judge in place of `system.jax`.
        params: the parameters; random by default.
        device: JAX's; torch's is CUDA for a GPU where it has one.
    """
    return judge_system(system, run_reference(system, dtype, params, device), jax_function)


def run_reference(
    system: System,
    dtype: str,
    params: Mapping[str, np.ndarray] | None = None,
    device: str = "cpu",
) -> Reference:
    """Torch's part of `verify_system`, which several functions may be judged by."""
    start, on = time.perf_counter(), torch_device(device)
    data, rng = _draw(system, dtype, params), np.random.default_rng(0)
    inputs = [data, *(_moved(data, rng) for _ in range(PERTURBED))]
    runs = [_run_torch(system, each, on) for each in inputs]
    truth = runs[0] if dtype == "float64" else _run_torch(system, _widen(data), on)
    if system.truth is not None:
        truth = truth | system.truth(**data.inputs)
    return Reference(data, runs, truth, dtype, device, time.perf_counter() - start)


def judge_system(
    system: System, reference: Reference, jax_function: Callable[..., Any] | None = None
) -> Compared:
    """JAX's part of `verify_system`."""
    start, (data, runs, truth, dtype, device, seconds) = time.perf_counter(), reference
    eps = float(ml_dtypes.finfo(DTYPES[dtype]).eps)
    with (
        jax.enable_x64(True),
        jax.default_device(jax.devices(device)[0]),
        jax.default_matmul_precision("highest"),
    ):
        found = _run_jax(system, data, jax_function or system.jax)
    cut = _cut(data, truth, system.steps)
    verdicts = []
    for part in ("outputs", "gradients"):
        pick = lambda run, part=part: {
            name: a for name, a in run.items() if name.startswith("grad ") == (part == "gradients")
        }
        verdicts.append(
            judge(
                *(pick(truth), [pick(run) for run in runs], pick(found), cut, eps),
                slack=system.steps**0.5,
            )
        )
    outputs, gradients = verdicts
    return Compared(
        *(system.row, system.name, dtype, outputs.worst),
        gradients.worst if system.differentiate else None,
        outputs.wrong + gradients.wrong + _idle(system, data, truth),
        outputs.unjudged + gradients.unjudged,
        seconds + time.perf_counter() - start,
        system.steps,
    )


def _draw(system: System, dtype: str, params: Mapping[str, np.ndarray] | None) -> Data:
    rng = np.random.default_rng(zlib.crc32(f"{system.row} {system.name}".encode()))
    to = lambda a: np.asarray(a).astype(DTYPES[dtype]) if _floating(np.asarray(a)) else a
    if params is None and not system.differentiate:
        params = {name: a.numpy() for name, a in system.module.state_dict().items()}
    elif params is None:
        shapes = {name: tuple(a.shape) for name, a in system.module.state_dict().items()}
        params = {
            name: rng.standard_normal(shape) / np.sqrt(shape[-1]) for name, shape in shapes.items()
        }
    data = Data(
        {name: to(a) for name, a in params.items()},
        {name: to(a) for name, a in system.inputs.items()},
        {},
    )
    if not system.differentiate:
        return data
    results = _torch_outputs(system, *_tensors(data, "cpu"))
    cotangents = {name: to(rng.standard_normal(a.shape)) for name, a in results.items()}
    return data._replace(cotangents=cotangents)


def _idle(system: System, data: Data, truth: Arrays) -> list[str]:
    """What has gradients of 0 only, or is not moved by training: comparing it says nothing."""
    start = {f"final {name}": a for name, a in data.params.items()}
    start |= {name: np.zeros(()) for name in truth if name.startswith("grad ")}
    return [
        f"{name}: torch itself has no gradient for it"
        for name, a in truth.items()
        if name in start and (a == start[name]).all() and name.split()[-1] not in system.idle
    ]


def _moved(data: Data, rng: np.random.Generator) -> Data:
    """Cotangents too: the gradient is a function of them, and may be a sum that cancels."""
    return _floats(data, lambda a: move(a, rng))


def _widen(data: Data) -> Data:
    return _floats(data, lambda a: a.astype(np.float64))


def _floats(data: Data, change: Callable[[np.ndarray], np.ndarray]) -> Data:
    one = lambda a: change(a) if _floating(a) else a
    return Data(*({name: one(a) for name, a in arrays.items()} for arrays in data))


def _floating(a: np.ndarray) -> bool:
    return jnp.issubdtype(a.dtype, jnp.floating)


def _tensors(data: Data, device: str) -> tuple[Any, Any]:
    params, inputs = (
        {name: tensor(a, device).requires_grad_(_floating(a)) for name, a in arrays.items()}
        for arrays in (data.params, data.inputs)
    )
    return params, inputs


def _torch_outputs(system: System, params: Any, inputs: Any) -> dict[str, torch.Tensor]:
    # functional_call knows nothing but forward.
    class Called(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.it = system.module

        def forward(self, **inputs: Any) -> Any:
            return system.torch(self.it, **inputs)

    named = {f"it.{name}": a for name, a in params.items()}
    result = functional_call(Called(), named, (), inputs, strict=True)
    return dict(zip(system.outputs, jax.tree.leaves(result), strict=True))


def _run_torch(system: System, data: Data, device: str) -> Arrays:
    with exactly():
        return _results(system, data, device)


def _results(system: System, data: Data, device: str) -> Arrays:
    params, inputs = _tensors(data, device)
    outputs = _torch_outputs(system, params, inputs)
    results = {name: _wide(array(a)) for name, a in outputs.items()}
    if system.differentiate:
        leaves = params | {name: a for name, a in inputs.items() if a.requires_grad}
        cotangents = {name: tensor(a, device) for name, a in data.cotangents.items()}
        score = torch.stack([(outputs[name] * g).sum() for name, g in cotangents.items()]).sum()
        grads = torch.autograd.grad(score, list(leaves.values()), materialize_grads=True)
        results |= {f"grad {n}": array(g) for n, g in zip(leaves, grads, strict=True)}
    return results


def _run_jax(system: System, data: Data, function: Callable[..., Any]) -> Arrays:
    constants = {name: a for name, a in data.inputs.items() if not _floating(a)}
    inputs = {name: a for name, a in data.inputs.items() if _floating(a)}

    def outputs(params: Any, inputs: Any, constants: Any) -> dict[str, Any]:
        nested = jaxrnn.from_state_dict(params) if params else {}
        leaves = jax.tree.leaves(function(nested, **inputs, **constants))
        more = [f"output {i}" for i in range(len(system.outputs), len(leaves))]
        return dict(zip([*system.outputs, *more], leaves, strict=False))

    @jax.jit
    def compute(params: Any, inputs: Any, constants: Any, cotangents: Any) -> dict[str, Any]:
        result, pullback = jax.vjp(lambda p, i: outputs(p, i, constants), params, inputs)
        shapes = lambda arrays: {name: a.shape for name, a in arrays.items()}
        if shapes(result) != shapes(cotangents):
            return result  # nothing to differentiate; the comparison will say what is wrong
        cotangents = jax.tree.map(lambda a, b: a.astype(b.dtype), cotangents, result)
        grads = pullback(cotangents)
        return result | {f"grad {n}": g for tree in grads for n, g in tree.items()}

    if system.differentiate:
        found = compute(data.params, inputs, constants, data.cotangents)
    else:  # some of it may be the host's work
        found = outputs(data.params, inputs, constants)
    return {name: _wide(np.asarray(a)) for name, a in found.items()}


def _wide(a: np.ndarray) -> np.ndarray:
    """Integers as int64: how wide they are is not what is compared."""
    return a.astype(np.int64) if jnp.issubdtype(a.dtype, jnp.integer) else a


def _cut(data: Data, truth: Arrays, steps: int) -> Callable[[str], Cut]:
    """Gates of recurrent weights, layers of a state, steps of what has (batch, time, features).

    And the steps of a training, of what is there for each of them.
    """

    def cut(name: str) -> Cut:
        if steps > 1 and truth[name].shape[:1] == (steps,) and not name.startswith("final "):
            return Cut(0, [f"step {t}" for t in range(steps)])
        tensor = name.removeprefix("grad ").removeprefix("final ")
        if tensor in data.params:
            if _GATED.search(tensor):
                rows, size = data.params[_GATED.sub("weight_hh", tensor)].shape
                return Cut(0, [f"gate {gate}" for gate in GATES[rows // size]])
            return Cut(0, [""])
        shape = data.inputs[tensor].shape if tensor in data.inputs else ()
        shape = shape or data.cotangents.get(tensor, np.empty(())).shape
        if len(shape) != 3:
            return Cut(0, [""], 0 if len(shape) else None)
        if tensor.startswith(("h_", "c_")):
            return Cut(0, [f"layer {k}" for k in range(shape[0])], 1)
        return Cut(1, [f"step {t}" for t in range(shape[1])], 0)

    return cut
