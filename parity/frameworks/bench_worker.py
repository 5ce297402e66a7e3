"""The work of the bench's processes: to prepare a program, return its results and time it."""

import functools
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ..backends import torch as torch_backend
from ..backends.data import Data, beyond, draw
from ..cases import Case
from ..criterion import Arrays
from ..layers import torch_device
from . import peers


# After torch's last call, libgomp's threads spin for 7 ms on cores that other processes need.
PAUSE = 0.01


class Settings(NamedTuple):
    """The settings of all processes."""

    device: str = "cpu"
    threads: int = 1
    small_loops: int | None = None  # bytes below which XLA makes one kernel of a loop


class Program(NamedTuple):
    """A program to time: `arrays` names the results of `call` as torch does, `temp` is its memory.

    `costs` are the seconds that tracing and compiling took.
    """

    call: Callable[[], Any]
    arrays: Callable[[Any], Arrays]
    temp: Callable[[], int | None]
    costs: dict[str, Any]


_settings = Settings()
_program: Any = None


def start(settings: Settings) -> None:
    """Applies the settings, before any library has its threads or JAX its devices."""
    global _settings
    _settings = settings
    os.environ |= {"KERAS_BACKEND": "jax", "PJRT_NPROC": str(settings.threads)}
    os.environ["XLA_FLAGS"] = xla_flags(settings)
    jax.config.update("jax_enable_compilation_cache", False)
    if settings.device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    torch.set_num_threads(settings.threads)


def xla_flags(settings: Settings) -> str:
    """Returns the user's flags and the limit on loops, which XLA takes per process only."""
    flags = os.environ.get("XLA_FLAGS", "")
    if settings.small_loops is not None:
        option = "xla_cpu_small_while_loop_byte_threshold"
        flags += f" --xla_backend_extra_options={option}={settings.small_loops}"
    return flags.strip()


def prepare(name: str, case: Case, training: bool) -> tuple[dict[str, Any], Arrays]:
    """Prepares the program of an implementation; returns the costs of that and its results.

    Raises:
        NotImplementedError: the implementation lacks such a network.
    """
    global _program
    _program = None
    make = _torch if name.startswith("torch") else _jax
    _program = make(name, case, training)
    begin = time.perf_counter()
    result = _program.call()
    costs = _program.costs | {"first": time.perf_counter() - begin}
    if name == "jaxrnn":
        picked, why = peers.picked(case.structure, case.time, case.batch or 1)
        costs |= {"picked": picked, "why": why}
    return costs | {"temp_bytes": _program.temp()}, _program.arrays(result)


def turn(seconds: float) -> list[float]:
    """Returns the times of its calls; a first one is not counted."""
    time.sleep(PAUSE)
    _program.call()
    times: list[float] = []
    while sum(times) < seconds:
        times.append(_time(_program.call))
    return times


def truth(case: Case) -> Arrays:
    """Returns outputs and gradients by torch in float64."""
    return torch_backend.run_case(case, _draw(case).astype("float64"))


def calibrate(name: str) -> dict[str, float]:
    """Returns the speed of a large product and of a large copy."""
    size, length = (1536, 2**24) if _settings.device == "cpu" else (8192, 2**28)
    if name.startswith("torch"):
        device = _torch_device()
        a, b = torch.randn(size, size, device=device), torch.randn(length, device=device)
        c = torch.empty_like(b)
        multiply, copy = lambda: _wait(a @ a), lambda: _wait(c.copy_(b))
    else:
        with jax.default_device(jax.devices(_settings.device)[0]):
            a = jax.random.normal(jax.random.key(0), (size, size))
            b = jnp.ones(length)
        product, add = jax.jit(jnp.matmul), jax.jit(lambda b: b + 1)
        multiply = lambda: jax.block_until_ready(product(a, a))
        copy = lambda: jax.block_until_ready(add(b))
    best = lambda call: min(_time(call) for _ in range(6))
    return {"gflops": 2 * size**3 / best(multiply) / 1e9, "gb_per_s": 8 * length / best(copy) / 1e9}


def _time(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _draw(case: Case) -> Data:
    """Returns random numbers; cotangents are 0 beyond lengths, where peers differ."""
    data = draw(case, "float32")
    data.cotangents["y"] *= ~beyond(case)[..., None]
    return data


@functools.lru_cache(1)
def _converted(name: str, case: Case) -> tuple[Data, peers.Network, Any]:
    """Returns numbers, network and its weights, which are the same in both modes."""
    data, network = _draw(case), peers.PEERS[name](case.structure)
    return data, network, jax.jit(network.convert)(data.params)


def _jax(name: str, case: Case, training: bool) -> Program:
    data, network, weights = _converted(name, case)
    device, x = jax.devices(_settings.device)[0], network.turned(data.inputs["x"])
    arguments = jax.device_put((weights, x, peers.lengths_of(case)), device)
    function, named = network.forward, _named_outputs
    if training:
        cotangents = data.cotangents | {"y": network.turned(data.cotangents["y"])}
        like = jax.eval_shape(function, *arguments)
        cotangents = {n: [*a] if isinstance(like[n], list) else a for n, a in cotangents.items()}
        arguments = (*arguments, jax.device_put(cotangents, device))
        function, named = jax.value_and_grad(_score(network), argnums=(0, 1)), _named_gradients
    jax.clear_caches()  # of what has been traced already
    begin = time.perf_counter()
    lowered = jax.jit(function).lower(*arguments)
    traced = time.perf_counter()
    compiled = lowered.compile()
    end = time.perf_counter()
    return Program(
        call=lambda: jax.block_until_ready(compiled(*arguments)),
        arrays=functools.partial(named, network, data),
        temp=lambda: getattr(compiled.memory_analysis(), "temp_size_in_bytes", None),
        costs={"trace": traced - begin, "compile": end - traced},
    )


def _score(network: peers.Network) -> Callable[..., Any]:
    def score(weights: Any, x: Any, lengths: Any, cotangents: Any) -> Any:
        outputs = network.forward(weights, x, lengths)
        return sum(map(jnp.vdot, jax.tree.leaves(outputs), jax.tree.leaves(cotangents)))

    return score


def _named_outputs(network: peers.Network, data: Data, result: Any) -> Arrays:
    outputs = {name: np.asarray(a) for name, a in result.items()}
    return outputs | {"y": network.turned(outputs["y"])}


def _named_gradients(network: peers.Network, data: Data, result: Any) -> Arrays:
    _, (by_weights, by_x) = result
    by_params = jax.jit(lambda g: jax.vjp(network.convert, data.params)[1](g)[0])(by_weights)
    gradients = by_params | {"x": network.turned(by_x)}
    return {f"grad {name}": np.asarray(a) for name, a in gradients.items()}


def _torch_device() -> str:
    device = torch_device(_settings.device)
    if (device == "cpu") != (_settings.device == "cpu"):
        raise NotImplementedError(f"this torch has no {_settings.device}")
    return device


def _torch(name: str, case: Case, training: bool) -> Program:
    data, device, s = _draw(case), _torch_device(), case.structure
    tensors = lambda arrays: {key: torch_backend.tensor(a, device) for key, a in arrays.items()}
    x = torch_backend.tensor(data.inputs["x"], device).requires_grad_(training)
    cotangents = tensors(data.cotangents)
    options = {"num_layers": s.num_layers, "bidirectional": s.bidirectional, "device": device}
    module = getattr(torch.nn, s.torch_name)(s.input_size, s.hidden_size, **options)
    module.load_state_dict(tensors(data.params))
    run = _runner(name, case, module.train(training))
    leaves = {f"grad {key}": a for key, a in [*module.named_parameters(), ("x", x)]}

    def forward() -> dict[str, torch.Tensor]:
        y, state = run(x)
        return peers.named(y, state if isinstance(state, tuple) else (state,))

    def gradients() -> dict[str, torch.Tensor]:
        value: Any = sum((a * cotangents[key]).sum() for key, a in forward().items())
        return dict(zip(leaves, torch.autograd.grad(value, list(leaves.values())), strict=True))

    call = gradients if training else torch.inference_mode()(forward)
    return Program(
        call=lambda: _wait(call()),
        arrays=lambda result: {key: torch_backend.array(a) for key, a in result.items()},
        temp=functools.partial(_torch_memory, call, device),
        costs={},
    )


def _runner(name: str, case: Case, module: torch.nn.Module) -> Callable[..., Any]:
    """Returns the module as a function of padded sequences."""
    if case.lengths is None and name == "torch.compile":
        torch._dynamo.config.allow_rnn = True  # otherwise recurrent modules run uncompiled
        return torch.compile(module, fullgraph=True)
    if case.lengths is None:
        return module
    if name == "torch.compile":
        raise NotImplementedError("torch.compile takes no packed sequence whole")
    lengths = torch.tensor(case.lengths)

    def run(x: torch.Tensor) -> tuple[torch.Tensor, Any]:
        packed, state = module(pack_padded_sequence(x, lengths, enforce_sorted=False))
        return pad_packed_sequence(packed, total_length=case.time)[0], state

    return run


def _torch_memory(call: Callable[[], Any], device: str) -> int | None:
    if device == "cpu":
        return None  # torch does not know
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    _wait(call())
    return torch.cuda.max_memory_allocated() - before


def _wait(result: Any) -> Any:
    """Waits for the result of a GPU; torch on a CPU returns when it is done."""
    if _settings.device != "cpu":
        torch.cuda.synchronize()
    return result
