"""The same networks in every framework that is installed, and which of them stands alone.

All voices count the same: jaxrnn, torch, numpy at a higher precision, the JAX peers, and ONNX
Runtime, which has kernels of its own. Each is compared with each by the criterion of `compare`. The
allowance is what an ulp in every weight and input does to the network, since no voice's own error
can be trusted here. The majority is the largest group around one voice that all its members agree
with.
"""

import functools
import importlib.metadata
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from ..backends import numpy as truth
from ..backends import torch as torch_backend
from ..backends.data import DTYPES, Data, beyond, cut, draw, layout, output_shapes, perturb
from ..cases import GRU, LSTM, RAGGED, RNN, Case
from ..criterion import Arrays, Block, Verdict, judge
from . import onnx_runtime, peers


KINDS = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
WIDTHS = ("float64", "float32")
PERTURBED = 6
APART = ("DIFFERS", "failed")
FLOAT32_ONLY = {
    "keras": "keras on JAX computes tanh in float32",
    "onnxruntime": "ONNX Runtime has LSTM, GRU and RNN in float32 only",
}


class Job(NamedTuple):
    """One network in one dtype, and the voices that compute it."""

    case: Case
    dtype: str
    voices: tuple[str, ...]


class Answer(NamedTuple):
    """The verdict on one voice and one network; `error` is the distance from the majority's first.

    `status` is "agrees", "DIFFERS", "other" (the voice lacks the network or computes another
    function) or "failed".
    """

    network: str
    kind: str
    dtype: str
    voice: str
    status: str
    why: str = ""
    error: float | None = None
    used: float | None = None  # of what is allowed

    @property
    def where(self) -> str:
        return f"{self.network} [{self.dtype}]"


def networks(kinds: Sequence[str]) -> list[Case]:
    """Returns for each kind one layer, two bidirectional layers, and these with lengths."""
    cases = []
    for one in (KINDS[kind] for kind in kinds):
        two = one._replace(num_layers=2, bidirectional=True)
        cases += [
            Case(f"{one.kind}, one layer", one, state=False),
            Case(f"{one.kind}, two bidirectional", two, state=False),
            Case(f"{one.kind}, with lengths", two, state=False, lengths=RAGGED, padding=0.0),
        ]
    return cases


def version_of(name: str) -> str:
    """Returns the version of the distribution that computes."""
    return importlib.metadata.version(VOICES[name].distributions[0])


def installed(names: Sequence[str]) -> list[str]:
    return [name for name in names if all(map(peers.is_installed, VOICES[name].distributions))]


def run(job: Job, device: str = "cpu") -> list[Answer]:
    """Computes one network in all voices and judges them."""
    os.environ["KERAS_BACKEND"] = "jax"
    case, dtype, names = job
    kind, data = case.structure.kind, draw(case, dtype)
    answers: dict[str, Arrays] = {}
    results: dict[str, Answer] = {}
    for name in names:
        status, why = "other", peers.DIFFERS.get((name, kind), "")
        if dtype != "float32":
            why = why or FLOAT32_ONLY.get(name, "")
        try:
            if not why:
                answers[name] = VOICES[name].compute(case, data)
        except NotImplementedError as error:
            why = str(error)
        except Exception as error:  # the other voices still count
            status, why = "failed", peers.first_line(error)
        results[name] = Answer(case.group, kind, dtype, name, status, why)
    for name, (wrong, verdict) in weigh(case, dtype, data, answers).items():
        worst = verdict.worst
        results[name] = results[name]._replace(
            status="DIFFERS" if wrong else "agrees", why=wrong, error=worst.error, used=worst.used
        )
    jax.clear_caches()
    return list(results.values())


def weigh(
    case: Case, dtype: str, data: Data, answers: Mapping[str, Arrays]
) -> dict[str, tuple[str, Verdict]]:
    """Returns what is wrong with each voice, if anything, and its distance from the majority."""
    plain = truth.run(case, data)
    verdict_of = _judge(case, dtype, data, plain)
    # A voice without gradients cannot vouch for the gradients of others.
    shapes = lambda arrays: {name: a.shape for name, a in arrays.items()}
    whole = {name: a for name, a in answers.items() if shapes(a) == shapes(plain)}
    rows = {
        one: {other: verdict_of(a, b) for other, b in answers.items()} for one, a in whole.items()
    }
    if not rows:
        nothing = Block("nothing", "", np.nan, np.nan, np.nan, (), None)
        return {name: ("no majority", Verdict([nothing], [], [])) for name in answers}
    agree = lambda one: [n for n, v in rows[one].items() if not (v.wrong or v.unjudged)]
    first = max(rows, key=lambda one: len(agree(one)))
    majority = 2 * len(agree(first)) > len(answers)
    wrong = lambda verdict: _wrong(verdict, first) if majority else "no majority"
    return {name: (wrong(verdict), verdict) for name, verdict in rows[first].items()}


def _judge(
    case: Case, dtype: str, data: Data, plain: Arrays
) -> Callable[[Arrays, Arrays], Verdict]:
    """Returns a function that judges one voice's arrays by another's.

    It allows what an ulp in every input does, in all outputs and in what else both have.
    """
    rng, eps = np.random.default_rng(0), float(ml_dtypes.finfo(DTYPES[dtype]).eps)
    moved = [truth.run(case, perturb(data, rng)) for _ in range(PERTURBED)]
    cuts = lambda name: cut(layout(case), data.params, name, plain[name].shape)
    shifts = [{name: run[name] - a for name, a in plain.items()} for run in moved]

    def verdict_of(one: Arrays, other: Arrays) -> Verdict:
        names = [name for name in one if name in other or name in output_shapes(case)]
        wide = {name: one[name].astype(np.longdouble) for name in names}
        runs = [{name: wide[name] + shift[name] for name in names} for shift in shifts]
        first = {name: one[name] for name in names}
        shared = {name: a for name, a in other.items() if name in names}
        return judge(wide, [first, *runs], shared, cuts, eps)

    return verdict_of


def _wrong(verdict: Verdict, first: str) -> str:
    """Returns the first disagreement; `judge` writes "torch" for the voice `first`."""
    for line in (*verdict.wrong, *verdict.unjudged):
        line = line.replace("torch's own", "an ulp's").replace("torch", first)
        return f"{line}, against {first}"
    return ""


def alone(results: Sequence[Answer]) -> list[str]:
    """Returns a line for each network on which not all agree, which names those that differ."""
    lines = []
    for where in dict.fromkeys(result.where for result in results):
        here = [result for result in results if result.where == where]
        names = [result.voice for result in here if result.status == "DIFFERS"]
        others = sum(result.status == "agrees" for result in here)
        if names and not others:
            lines.append(f"{where}: no majority among {', '.join(names)}")
        elif len(names) == 1:
            lines.append(f"{where}: {names[0]} stands alone, the other {others} agree")
        elif names:
            lines.append(f"{where}: {', '.join(names)} differ from the {others} that agree")
    return lines


def _numpy(case: Case, data: Data) -> Arrays:
    dtype = data.inputs["x"].dtype
    return {name: a.astype(dtype) for name, a in truth.run(case, data).items()}


def _jax(name: str, case: Case, data: Data) -> Arrays:
    """Runs jaxrnn or a peer; gradients are pulled back through the conversion to torch's names."""
    wide = data.inputs["x"].dtype == np.float64
    with (
        jax.enable_x64(wide),
        jax.numpy_dtype_promotion("standard"),
        jax.default_matmul_precision("highest"),
        jax.default_device(jax.devices("cpu")[0]),
    ):
        network = peers.PEERS[name](case.structure)
        lengths = peers.lengths_of(case)

        def outputs(params: Any, x: Any) -> dict[str, Any]:
            arrays = network.forward(network.convert(params), network.turned(x), lengths)
            y = jnp.where(beyond(case)[..., None], 0, network.turned(arrays.pop("y")))
            return {"y": y} | {name: jnp.asarray(a) for name, a in arrays.items()}

        @jax.jit
        def run(params: Any, x: Any, cotangents: Any) -> dict[str, Any]:
            results, pullback = jax.vjp(outputs, params, x)
            by_params, by_x = pullback(cotangents)
            gradients = by_params | {"x": by_x}
            return results | {f"grad {name}": g for name, g in gradients.items()}

        return jax.tree.map(np.asarray, run(data.params, data.inputs["x"], data.cotangents))


class Voice(NamedTuple):
    """How a voice computes, and the distributions it needs; the first one's version is shown."""

    compute: Callable[[Case, Data], Arrays]
    distributions: tuple[str, ...]


VOICES = {
    "numpy": Voice(_numpy, ("numpy",)),
    "torch": Voice(torch_backend.run_case, ("torch",)),
    **{
        name: Voice(functools.partial(_jax, name), (peers.DISTRIBUTIONS[name],))
        for name in ("jaxrnn", "linen", "nnx", "haiku", "equinox", "keras")
    },
    "onnxruntime": Voice(onnx_runtime.compute, ("onnxruntime", "onnx")),
}
