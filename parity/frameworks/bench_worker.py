"""What the processes of `bench` do: make a program ready, say what it gives, time it."""

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


# For 7 ms after torch's last call libgomp's threads spin, on the cores that others are to have.
PAUSE = 0.01


class Settings(NamedTuple):
    """What holds for all processes alike."""

    device: str = "cpu"
    threads: int = 1
    small_loops: int | None = None  # bytes below which XLA makes one kernel of a loop


class Program(NamedTuple):
    """What is timed; `arrays` gives torch's names to what `call` returns, `temp` its memory."""

    call: Callable[[], Any]
    arrays: Callable[[Any], Arrays]
    temp: Callable[[], int | None]
    costs: dict[str, Any]


_settings = Settings()
_program: Any = None


def start(settings: Settings) -> None:
    """Before any library has its threads, or JAX its devices."""
    global _settings
    _settings = settings
    os.environ |= {"KERAS_BACKEND": "jax", "PJRT_NPROC": str(settings.threads)}
    os.environ["XLA_FLAGS"] = xla_flags(settings)
    jax.config.update("jax_enable_compilation_cache", False)
    if settings.device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    torch.set_num_threads(settings.threads)


def xla_flags(settings: Settings) -> str:
    """The user's own, and the limit on loops, which XLA has for a whole process only."""
    flags = os.environ.get("XLA_FLAGS", "")
    if settings.small_loops is not None:
        option = "xla_cpu_small_while_loop_byte_threshold"
        flags += f" --xla_backend_extra_options={option}={settings.small_loops}"
    return flags.strip()


def prepare(name: str, case: Case, training: bool) -> tuple[dict[str, Any], Arrays]:
    """Makes the program of an implementation; what that and its first call took, and its results.

    Raises:
        NotImplementedError: it has no such thing.
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
    """How long its calls take, the first of which is not counted."""
    time.sleep(PAUSE)
    _program.call()
    times: list[float] = []
    while sum(times) < seconds:
        begin = time.perf_counter()
        _program.call()
        times.append(time.perf_counter() - begin)
    return times


def truth(case: Case) -> Arrays:
    """Outputs and gradients by torch in float64."""
    return torch_backend.run_case(case, _draw(case).astype("float64"))


def calibrate(name: str) -> dict[str, float]:
    """What a large product and a large copy reach here."""
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
    """Random weights, input and cotangents, these 0 beyond lengths, where peers differ."""
    data = draw(case, "float32")
    data.cotangents["y"] *= ~beyond(case)[..., None]
    return data


@functools.lru_cache(1)
def _converted(name: str, case: Case) -> tuple[Data, peers.Network, Any]:
    """The same for both modes."""
    data, network = _draw(case), peers.PEERS[name](case.structure)
    params = {key: a for key, a in data.leaves.items() if key != "x"}
    return data, network, jax.jit(network.convert)(params)


def _jax(name: str, case: Case, training: bool) -> Program:
    device = jax.devices(_settings.device)[0]
    data, network, weights = _converted(name, case)
    turned = lambda a: a.swapaxes(0, 1) if network.batch_first else a
    x = turned(data.leaves["x"])
    lengths = None if case.lengths is None else np.array(case.lengths, np.int32)
    given = jax.device_put((weights, x, lengths), device)

    def value(weights: Any, x: Any, lengths: Any, cotangents: Any) -> Any:
        outputs = network.forward(weights, x, lengths)
        return sum(map(jnp.vdot, jax.tree.leaves(outputs), jax.tree.leaves(cotangents)))

    program = jax.jit(network.forward)
    if training:
        cotangents = data.cotangents | {"y": turned(data.cotangents["y"])}
        like = jax.eval_shape(network.forward, *given)
        cotangents = {n: [*a] if isinstance(like[n], list) else a for n, a in cotangents.items()}
        program = jax.jit(jax.value_and_grad(value, argnums=(0, 1)))
        given = (*given, jax.device_put(cotangents, device))
    jax.clear_caches()  # of what has been traced already
    times = [time.perf_counter()]
    lowered = program.lower(*given)
    times.append(time.perf_counter())
    compiled = lowered.compile()
    times.append(time.perf_counter())

    def named(result: Any) -> Arrays:
        if not training:
            outputs = {key: np.asarray(a) for key, a in result.items()}
            return outputs | {"y": turned(outputs["y"])}
        _, (by_weights, by_x) = result
        params = {key: a for key, a in data.leaves.items() if key != "x"}
        by_params = jax.jit(lambda g: jax.vjp(network.convert, params)[1](g)[0])(by_weights)
        gradients = by_params | {"x": turned(by_x)}
        return {f"grad {key}": np.asarray(a) for key, a in gradients.items()}

    return Program(
        lambda: jax.block_until_ready(compiled(*given)),
        named,
        lambda: getattr(compiled.memory_analysis(), "temp_size_in_bytes", None),
        {"trace": times[1] - times[0], "compile": times[2] - times[1]},
    )


def _torch_device() -> str:
    device = torch_device(_settings.device)
    if (device == "cpu") != (_settings.device == "cpu"):
        raise NotImplementedError(f"this torch has no {_settings.device}")
    return device


def _torch(name: str, case: Case, training: bool) -> Program:
    data, device, s = _draw(case), _torch_device(), case.structure
    tensors = {key: torch_backend.tensor(a, device) for key, a in data.leaves.items()}
    cotangents = {key: torch_backend.tensor(a, device) for key, a in data.cotangents.items()}
    x = tensors.pop("x").requires_grad_(training)
    sizes = s.input_size, s.hidden_size, s.num_layers
    module = getattr(torch.nn, s.torch_name)(*sizes, bidirectional=s.bidirectional, device=device)
    module.load_state_dict(tensors)
    module.train(training)
    run, lengths = module, torch.tensor(case.lengths) if case.lengths else None
    if name == "torch.compile":
        if lengths is not None:
            raise NotImplementedError("torch.compile takes no packed sequence whole")
        torch._dynamo.config.allow_rnn = True  # else it runs them as they are
        run = torch.compile(module, fullgraph=True)

    def forward() -> dict[str, torch.Tensor]:
        if lengths is None:
            y, state = run(x)
        else:
            packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
            packed, state = run(packed)
            y, _ = pad_packed_sequence(packed, total_length=case.time)
        state = state if isinstance(state, tuple) else (state,)
        return dict(zip(("y", "h_n", "c_n"), (y, *state), strict=False))

    leaves = {f"grad {key}": a for key, a in [*module.named_parameters(), ("x", x)]}

    def gradients() -> dict[str, torch.Tensor]:
        value: Any = sum((a * cotangents[key]).sum() for key, a in forward().items())
        found = torch.autograd.grad(value, list(leaves.values()))
        return dict(zip(leaves, found, strict=True))

    call = gradients if training else torch.inference_mode()(forward)
    named = lambda result: {key: torch_backend.array(a) for key, a in result.items()}

    def temp() -> int | None:
        if device == "cpu":
            return None  # torch does not know
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        _wait(call())
        return torch.cuda.max_memory_allocated() - before

    return Program(lambda: _wait(call()), named, temp, {})


def _wait(result: Any) -> Any:
    """For a GPU's, which comes later; torch on a CPU returns when it is done."""
    if _settings.device != "cpu":
        torch.cuda.synchronize()
    return result
