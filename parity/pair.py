"""Any system on both sides: a torch module and a JAX function on the same parameters and inputs.

The criterion is that of `compare`. For float32 the truth is torch in float64. For float64 there is
mostly no third computation: torch is the truth, and its own error is what moving every input by an
ulp does to it. What such a system is made of, its recurrent layers, is judged more strictly by
`verify`; what users bring is made a system by `port`.
"""

import re
import time
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import torch
from torch.func import functional_call

import jaxrnn

from .backends.data import DTYPES, GATES, move
from .backends.torch import array, exactly, tensor
from .criterion import Arrays, Block, Cut, Verdict, judge
from .layers import PERTURBED, torch_device


_GATED = re.compile(r"\b(weight|bias)_[ih]h")


class System(NamedTuple):
    """A torch module and a JAX function that claim to compute the same.

    `torch(module, **inputs)` and `jax(params, **inputs)` return trees whose leaves, in order, are
    called `outputs`. Parameters are drawn, one array for each name in the module's state_dict; a
    training, which is not differentiated, starts from the module's own. Without a module they must
    be given, and `torch(params, **inputs)` takes them by name. Floating inputs take part in
    rounding, perturbing and differentiating; others are passed on.
    """

    row: str
    name: str
    module: torch.nn.Module | None
    inputs: Arrays
    jax: Callable[..., Any]
    outputs: Sequence[str]
    torch: Callable[..., Any] = lambda module, **inputs: module(**inputs)
    differentiate: bool = True  # a training's outputs hold its gradients already
    dtypes: Sequence[str] = ("float64", "float32")
    idle: Sequence[str] = ()  # parameters that have no gradient, as the text would have it
    steps: int = 1  # of a training: each rounds anew, and errors add up as in a random walk
    truth: Callable[..., Arrays] | None = None  # of some outputs, better than torch in float64
    nest: Callable[[Any], Any] = jaxrnn.from_state_dict  # from the parameters to JAX's
    constant: Collection[str] = ()  # buffers, which are not differentiated by
    batch_first: bool = True
    # Of what is (layers · directions, batch, features), like h_… and c_…, the directions.
    states: Mapping[str, int] = MappingProxyType({})
    stacked: Collection[str] = ()  # (time, batch, features), whatever `batch_first` says


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
    cotangents: Mapping[str, np.ndarray] | None = None,
) -> Reference:
    """Torch's part of `verify_system`, which several functions may be judged by."""
    start, on = time.perf_counter(), torch_device(device)
    data, rng = draw(system, dtype, params, cotangents), np.random.default_rng(0)
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
    start = time.perf_counter()
    outputs, gradients = judge_run(system, reference, run_jax(system, reference, jax_function))
    idle = [f"{name}: torch itself has no gradient for it" for name in still(system, reference)]
    return Compared(
        *(system.row, system.name, reference.dtype, outputs.worst),
        gradients.worst if system.differentiate else None,
        outputs.wrong + gradients.wrong + idle,
        outputs.unjudged + gradients.unjudged,
        reference.seconds + time.perf_counter() - start,
        system.steps,
    )


def run_jax(
    system: System, reference: Reference, jax_function: Callable[..., Any] | None = None
) -> Arrays:
    """JAX's outputs and gradients; x64 is on for float64 only, lest arrays it makes be wider."""
    with (
        jax.enable_x64(reference.dtype == "float64"),
        jax.default_device(jax.devices(reference.device)[0]),
        jax.default_matmul_precision("highest"),
    ):
        return _run_jax(system, reference.data, jax_function or system.jax)


def judge_run(system: System, reference: Reference, found: Arrays) -> tuple[Verdict, Verdict]:
    """On its outputs, and on its gradients."""
    eps = float(ml_dtypes.finfo(DTYPES[reference.dtype]).eps)
    cut = cut_of(system, reference.data, reference.truth)

    def verdict(gradients: bool) -> Verdict:
        pick = lambda run: {n: a for n, a in run.items() if n.startswith("grad ") == gradients}
        runs = [pick(run) for run in reference.runs]
        if runs[0] and gradients and not pick(found):
            return Verdict([], ["gradients: none, where outputs differ in number or shape"], [])
        return judge(pick(reference.truth), runs, pick(found), cut, eps, system.steps**0.5)

    return verdict(gradients=False), verdict(gradients=True)


def draw(
    system: System,
    dtype: str,
    params: Mapping[str, np.ndarray] | None,
    given: Mapping[str, np.ndarray] | None = None,
) -> Data:
    rng = np.random.default_rng(zlib.crc32(f"{system.row} {system.name}".encode()))
    to = lambda a: np.asarray(a).astype(DTYPES[dtype]) if floating(np.asarray(a)) else a
    own = system.module.state_dict() if system.module is not None else {}
    if params is None and not system.differentiate:
        params = {name: a.numpy() for name, a in own.items()}
    elif params is None:
        shapes = {name: tuple(a.shape) for name, a in own.items()}
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
    if given is not None:
        return data._replace(cotangents={name: to(a) for name, a in given.items()})
    results = _torch_outputs(system, *tensors(system, data, "cpu"))
    cotangents = {name: to(rng.standard_normal(a.shape)) for name, a in results.items()}
    return data._replace(cotangents=cotangents)


def still(system: System, reference: Reference) -> list[str]:
    """What has gradients of 0 only, or is not moved by training: comparing it says nothing."""
    start = {f"final {name}": a for name, a in reference.data.params.items()}
    start |= {name: np.zeros(()) for name in reference.truth if name.startswith("grad ")}
    return [
        name
        for name, a in reference.truth.items()
        if name in start and (a == start[name]).all() and name.split()[-1] not in system.idle
    ]


def _moved(data: Data, rng: np.random.Generator) -> Data:
    """Cotangents too: the gradient is a function of them, and may be a sum that cancels."""
    return _floats(data, lambda a: move(a, rng))


def _widen(data: Data) -> Data:
    return _floats(data, lambda a: a.astype(np.float64))


def _floats(data: Data, change: Callable[[np.ndarray], np.ndarray]) -> Data:
    one = lambda a: change(a) if floating(a) else a
    return Data(*({name: one(a) for name, a in arrays.items()} for arrays in data))


def floating(a: Any) -> bool:
    return jnp.issubdtype(a.dtype, jnp.floating)


def _varies(system: System, name: str, a: np.ndarray) -> bool:
    """Whether it is differentiated by."""
    return floating(a) and name not in system.constant


def tensors(system: System, data: Data, device: str) -> tuple[Any, Any]:
    params, inputs = (
        {n: tensor(a, device).requires_grad_(_varies(system, n, a)) for n, a in arrays.items()}
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

    if system.module is None:
        result = system.torch(params, **inputs)
    else:
        named = {f"it.{name}": a for name, a in params.items()}
        result = functional_call(Called(), named, (), inputs, strict=True)
    return dict(zip(system.outputs, jax.tree.leaves(result), strict=True))


def _run_torch(system: System, data: Data, device: str) -> Arrays:
    with exactly():
        return _results(system, data, device)


def _results(system: System, data: Data, device: str) -> Arrays:
    params, inputs = tensors(system, data, device)
    outputs = _torch_outputs(system, params, inputs)
    results = {name: _wide(array(a)) for name, a in outputs.items()}
    if system.differentiate:
        leaves = {n: a for group in (params, inputs) for n, a in group.items() if a.requires_grad}
        cotangents = {name: tensor(a, device) for name, a in data.cotangents.items()}
        score = sum((outputs[name] * g).sum() for name, g in cotangents.items())
        grads: Any = [torch.zeros_like(a) for a in leaves.values()]
        if isinstance(score, torch.Tensor) and score.requires_grad:
            grads = torch.autograd.grad(score, list(leaves.values()), materialize_grads=True)
        results |= {f"grad {n}": array(g) for n, g in zip(leaves, grads, strict=True)}
    return results


def _run_jax(system: System, data: Data, function: Callable[..., Any]) -> Arrays:
    pick = lambda arrays, wanted: {
        name: a for name, a in arrays.items() if _varies(system, name, a) == wanted
    }
    varying, constant = ([pick(a, wanted) for a in data[:2]] for wanted in (True, False))

    def outputs(varying: Any, constant: Any) -> dict[str, Any]:
        params, inputs = (one | other for one, other in zip(varying, constant, strict=True))
        leaves = jax.tree.leaves(function(system.nest(params), **inputs))
        more = [f"output {i}" for i in range(len(system.outputs), len(leaves))]
        return dict(zip([*system.outputs, *more], leaves, strict=False))

    def sorted_out(varying: Any, constant: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        found = {name: jnp.asarray(a) for name, a in outputs(varying, constant).items()}
        smooth = {name: a for name, a in found.items() if floating(a)}
        return smooth, {name: a for name, a in found.items() if name not in smooth}

    def compute(varying: Any, constant: Any, cotangents: Any) -> dict[str, Any]:
        result, pullback, rest = jax.vjp(lambda v: sorted_out(v, constant), varying, has_aux=True)
        shapes = lambda arrays: {name: a.shape for name, a in arrays.items()}
        if shapes(result) != shapes(cotangents):
            return result | rest  # nothing to differentiate; the verdict will say what is wrong
        cotangents = jax.tree.map(lambda a, b: a.astype(b.dtype), cotangents, result)
        [grads] = pullback(cotangents)
        return result | rest | {f"grad {n}": g for tree in grads for n, g in tree.items()}

    if system.differentiate:
        try:
            found = jax.jit(compute)(varying, constant, data.cotangents)
        except jax.errors.JAXTypeError:  # it looks at values, such as lengths: not to be compiled
            varying, constant, given = jax.device_put((varying, constant, data.cotangents))
            found = compute(varying, constant, given)
    else:  # some of it may be the host's work
        found = outputs(varying, constant)
    return {name: _wide(np.asarray(a)) for name, a in found.items()}


def _wide(a: np.ndarray) -> np.ndarray:
    """Integers as int64: how wide they are is not what is compared."""
    return a.astype(np.int64) if jnp.issubdtype(a.dtype, jnp.integer) else a


def cut_of(system: System, data: Data, truth: Arrays) -> Callable[[str], Cut]:
    """Gates of recurrent weights, layers of a state, steps of what has (batch, time, features).

    And the steps of a training, of what is there for each of them.
    """
    steps = system.steps

    def cut(name: str) -> Cut:
        shape = truth[name].shape
        if steps > 1 and shape[:1] == (steps,) and not name.startswith("final "):
            return Cut(0, [f"step {t}" for t in range(steps)])
        tensor = name.removeprefix("grad ").removeprefix("final ")
        if tensor in data.params and name != tensor:
            return Cut(0, [f"gate {gate}" for gate in _gates(data.params, tensor)] or [""])
        if len(shape) != 3:
            return Cut(0, [""], 0 if len(shape) else None)
        if tensor in system.states or tensor.startswith(("h_", "c_")):
            return Cut(0, _cells(shape[0], system.states.get(tensor, 1)), 1)
        axis = int(system.batch_first and tensor not in system.stacked)
        return Cut(axis, [f"step {t}" for t in range(shape[axis])], 1 - axis)

    return cut


def _cells(count: int, directions: int) -> list[str]:
    """Of the rows of a state."""
    ways = ["", ""] if directions == 1 else [" forward", " backward"]
    return [f"layer {k // directions}{ways[k % directions]}" for k in range(count)]


def _gates(params: Arrays, name: str) -> list[str]:
    """Of a recurrent weight or bias of torch's, the gates that lie on one another in it."""
    recurrent = params.get(_GATED.sub("weight_hh", name))
    if not _GATED.search(name) or recurrent is None or recurrent.ndim != 2:
        return []
    rows, size = recurrent.shape
    size = params.get(_GATED.sub("weight_hr", name), recurrent).shape[1]  # projected
    return GATES.get(rows // size, [])
