"""The same networks by everyone who is installed; of those who disagree, it says who stands alone.

All voices count alike: jaxrnn, torch, numpy at a higher precision, the JAX peers, and ONNX Runtime,
whose kernels are its own. Each is held against each by the criterion of `compare`, with what an ulp
in every weight and input does to the network as the allowance, since no voice's own error may be
trusted here. The majority is the largest group around one voice with which all the others agree.
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

from jaxrnn import convert

from ..backends import numpy as truth
from ..backends import torch as torch_backend
from ..backends.data import DTYPES, Data, beyond, cut, draw, layout, output_shapes, perturb
from ..cases import GRU, LSTM, RAGGED, RNN, Case
from ..criterion import Arrays, Block, Verdict, judge
from . import peers


KINDS = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
WIDTHS = ("float64", "float32")
STATES = ("h_n", "c_n")
PERTURBED = 6
APART = ("DIFFERS", "failed")
FLOAT32_ONLY = {
    "keras": "keras on JAX computes tanh in float32",
    "onnxruntime": "ONNX Runtime has LSTM, GRU and RNN in float32 only",
}


class Job(NamedTuple):
    """One network in one dtype, and whom to listen to."""

    case: Case
    dtype: str
    voices: tuple[str, ...]


class Voiced(NamedTuple):
    """What one voice said of one network; `error` is the distance from the majority's first.

    `status` is "agrees", "DIFFERS", "other" (it has no such network, or computes another function),
    or "failed".
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
    """Of each kind one layer, two in both directions, and these with lengths."""
    found = []
    for s in (KINDS[kind] for kind in kinds):
        one, two = s, s._replace(num_layers=2, bidirectional=True)
        found += [
            Case(f"{s.kind}, one layer", one, state=False),
            Case(f"{s.kind}, two bidirectional", two, state=False),
            Case(f"{s.kind}, with lengths", two, state=False, lengths=RAGGED, padding=0.0),
        ]
    return found


def version_of(name: str) -> str:
    """That of the distribution which computes."""
    return importlib.metadata.version(VOICES[name].distributions[0])


def installed(names: Sequence[str]) -> list[str]:
    """Those voices that are there."""
    found = {each.name.lower() for each in importlib.metadata.distributions()}
    return [name for name in names if {*VOICES[name].distributions} <= found]


def listen(job: Job, device: str = "cpu") -> list[Voiced]:
    """What all voices say of one network."""
    os.environ["KERAS_BACKEND"] = "jax"
    case, dtype, names = job
    kind, data = case.structure.kind, draw(case, dtype)
    said: dict[str, Arrays] = {}
    found: dict[str, Voiced] = {}
    for name in names:
        status, why = "other", peers.DIFFERS.get((name, kind), "")
        if dtype != "float32":
            why = why or FLOAT32_ONLY.get(name, "")
        try:
            if not why:
                said[name] = VOICES[name].compute(case, data)
        except NotImplementedError as error:
            why = str(error)
        except Exception as error:  # who breaks does not silence the others
            status, why = "failed", f"{type(error).__name__}: {str(error).partition(os.linesep)[0]}"
        found[name] = Voiced(case.group, kind, dtype, name, status, why)
    for name, (wrong, verdict) in weigh(case, dtype, data, said).items():
        status, worst = "DIFFERS" if wrong else "agrees", verdict.worst
        found[name] = Voiced(case.group, kind, dtype, name, status, wrong, worst.error, worst.used)
    jax.clear_caches()
    return list(found.values())


def weigh(
    case: Case, dtype: str, data: Data, said: Mapping[str, Arrays]
) -> dict[str, tuple[str, Verdict]]:
    """What is wrong with each voice, if anything, and how far it is from the majority's first."""
    plain = truth.run(case, data)
    held = _holder(case, dtype, data, plain)
    # Who has no gradients cannot vouch for those of others.
    shapes = lambda arrays: {name: a.shape for name, a in arrays.items()}
    whole = [one for one in said if shapes(said[one]) == shapes(plain)]
    rows = {one: {other: held(said[one], said[other]) for other in said} for one in whole}
    if not rows:
        nothing = Block("nothing", "", np.nan, np.nan, np.nan, (), None)
        return {name: ("no majority", Verdict([nothing], [], [])) for name in said}
    agree = lambda one: [n for n, v in rows[one].items() if not (v.wrong or v.unjudged)]
    first = max(rows, key=lambda one: len(agree(one)))
    majority = 2 * len(agree(first)) > len(said)
    wrong = lambda verdict: _wrong(verdict, first) if majority else "no majority"
    return {name: (wrong(verdict), verdict) for name, verdict in rows[first].items()}


def _holder(
    case: Case, dtype: str, data: Data, plain: Arrays
) -> Callable[[Arrays, Arrays], Verdict]:
    """Holds one voice's arrays against another's, allowing what an ulp in every input does.

    In what both have, and in all outputs in any case.
    """
    rng, eps = np.random.default_rng(0), float(ml_dtypes.finfo(DTYPES[dtype]).eps)
    moved = [truth.run(case, perturb(data, rng)) for _ in range(PERTURBED)]
    cuts = lambda name: cut(layout(case), data.params, name, plain[name].shape)
    shifts = [{name: run[name] - a for name, a in plain.items()} for run in moved]

    def held(one: Arrays, other: Arrays) -> Verdict:
        names = [name for name in one if name in other or name in output_shapes(case)]
        wide = {name: one[name].astype(np.longdouble) for name in names}
        runs = [{name: wide[name] + shift[name] for name in names} for shift in shifts]
        first = {name: one[name] for name in names}
        shared = {name: a for name, a in other.items() if name in names}
        return judge(wide, [first, *runs], shared, cuts, eps)

    return held


def _wrong(verdict: Verdict, first: str) -> str:
    """The first thing; `judge` speaks of torch, whose place `first` has here."""
    for line in (*verdict.wrong, *verdict.unjudged):
        line = line.replace("torch's own", "an ulp's").replace("torch", first)
        return f"{line}, against {first}"
    return ""


def alone(results: Sequence[Voiced]) -> list[str]:
    """A line for each network on which not all agree, with the names of those who do not."""
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
    dtype = data.leaves["x"].dtype
    return {name: a.astype(dtype) for name, a in truth.run(case, data).items()}


def _jax(name: str, case: Case, data: Data) -> Arrays:
    """jaxrnn or a peer; gradients by torch's names are pulled back through the conversion."""
    wide = data.leaves["x"].dtype == np.float64
    with (
        jax.enable_x64(wide),
        jax.numpy_dtype_promotion("standard"),
        jax.default_matmul_precision("highest"),
        jax.default_device(jax.devices("cpu")[0]),
    ):
        network = peers.PEERS[name](case.structure)
        turned = lambda a: a.swapaxes(0, 1) if network.batch_first else a
        lengths = None if case.lengths is None else np.array(case.lengths, np.int32)

        def outputs(leaves: Mapping[str, Any]) -> dict[str, Any]:
            params = {name: a for name, a in leaves.items() if name != "x"}
            found = network.forward(network.convert(params), turned(leaves["x"]), lengths)
            y = jnp.where(beyond(case)[..., None], 0, turned(found.pop("y")))
            return {"y": y} | {name: jnp.asarray(a) for name, a in found.items()}

        @jax.jit
        def run(leaves: Any, cotangents: Any) -> dict[str, Any]:
            found, pullback = jax.vjp(outputs, leaves)
            return found | {f"grad {name}": g for name, g in pullback(cotangents)[0].items()}

        return jax.tree.map(np.asarray, run(data.leaves, data.cotangents))


def _onnxruntime(case: Case, data: Data) -> Arrays:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = onnx_model(case, data).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    returned: Any = session.run(None, {"x": data.leaves["x"]})
    y, *states = returned
    found = {"y": y * ~beyond(case)[..., None]}
    k = len(states) // case.structure.num_layers
    return found | {name: np.concatenate(states[i::k]) for i, name in enumerate(STATES[:k])}


def onnx_model(case: Case, data: Data) -> Any:
    """A node for each layer; between two of them, directions become features."""
    from onnx import helper, numpy_helper

    s = case.structure
    params = {name: a for name, a in data.leaves.items() if name != "x"}
    cells, ways = convert.cells(params), s.num_directions
    options: Any = {"hidden_size": s.hidden_size}
    options["direction"] = "bidirectional" if s.bidirectional else "forward"
    options |= {"linear_before_reset": 1} if s.kind == "gru" else {}
    tensors = {"flat": np.array([0, 0, ways * s.hidden_size])}
    lengths = [] if case.lengths is None else ["lengths"]
    tensors |= {name: np.array(case.lengths, np.int32) for name in lengths}
    nodes, outputs, x = [], [], "x"
    for layer in range(s.num_layers):
        weights = convert.to_onnx(cells[layer * ways : (layer + 1) * ways])
        tensors |= {f"{name}{layer}": np.asarray(a) for name, a in weights.items()}
        states = [f"{name}{layer}" for name in STATES[: 1 + (s.kind == "lstm")]]
        inputs = [x, *(f"{name}{layer}" for name in "WRB"), *lengths]
        nodes += [
            helper.make_node(s.kind.upper(), inputs, [f"ways{layer}", *states], **options),
            helper.make_node("Transpose", [f"ways{layer}"], [f"side{layer}"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", [f"side{layer}", "flat"], [f"y{layer}"]),
        ]
        x, outputs = f"y{layer}", [*outputs, *states]
    dtype = helper.np_dtype_to_tensor_dtype(data.leaves["x"].dtype)
    value = lambda name: helper.make_tensor_value_info(name, dtype, [None] * 3)
    graph = helper.make_graph(
        nodes,
        case.group,
        [value("x")],
        [value(name) for name in (x, *outputs)],
        [numpy_helper.from_array(a, name) for name, a in tensors.items()],
    )
    # Not the newest that onnx knows, which ONNX Runtime may not know yet.
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


class Voice(NamedTuple):
    """How it computes, and whose distributions it needs, the one whose version counts first."""

    compute: Callable[[Case, Data], Arrays]
    distributions: tuple[str, ...]


VOICES = {
    "numpy": Voice(_numpy, ("numpy",)),
    "torch": Voice(torch_backend.run_case, ("torch",)),
    **{
        name: Voice(functools.partial(_jax, name), (peers.DISTRIBUTIONS[name],))
        for name in ("jaxrnn", "linen", "nnx", "haiku", "equinox", "keras")
    },
    "onnxruntime": Voice(_onnxruntime, ("onnxruntime", "onnx")),
}
