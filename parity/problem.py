"""What a diagnosis is about: a layer of torch, numbers for it, and what a port made of them.

Names are those of a state_dict for weights; `x`, `h0`, `c0`, `lengths`, `masks` for inputs; `y`,
`hn`, `cn` for outputs.
"""

import zlib
from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from jaxrnn._files import read
from jaxrnn._params import is_tensor

from .cases import Case
from .compare import Arrays
from .remarks import on_inputs, on_loaded, on_settings
from .tensors import DTYPES, Data, output_shapes
from .torch_side import array


INPUTS = ("x", "h0", "c0", "lengths", "masks")
OUTPUTS = {"y": "y", "hn": "h_n", "cn": "c_n"}
Port = Callable[..., Any]


class Problem(NamedTuple):
    """A case, its numbers, and the port's results by name, with gradients if it is a function."""

    case: Case
    data: Data
    dtype: str
    found: Arrays
    port: Port | None
    remarks: list[str]

    @property
    def eps(self) -> float:
        return float(jnp.finfo(DTYPES[self.dtype]).eps)


def state_problem(
    kind: str | None,
    weights: Mapping[str, Any],
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any] | Port,
    nonlinearity: str,
    batch_first: bool | None,
    dropout: float,
    loaded: Mapping[str, Any] | None,
) -> Problem:
    """Checks the arguments of `diagnose`, and runs the port if it is a function."""
    params = {name: _array(f"weights[{name!r}]", a) for name, a in weights.items()}
    found = jaxrnn.structure(params, kind)
    _ = found.torch_name  # refuses what torch has not
    if unknown := [name for name in inputs if name not in INPUTS]:
        raise ValueError(f"`inputs` has {unknown[0]!r}: it may have {', '.join(INPUTS)}")
    if "x" not in inputs:
        raise ValueError(f"`inputs` has no 'x', only {', '.join(inputs) or 'nothing'}")
    given = {name: _array(f"inputs[{name!r}]", a) for name, a in inputs.items()}
    results: Arrays = {}
    if isinstance(outputs, Mapping):
        if not outputs or not outputs.keys() <= OUTPUTS.keys():
            raise ValueError(
                f"`outputs` must have some of {', '.join(OUTPUTS)}, the port's wrong results, got "
                f"{', '.join(outputs) or 'nothing'}"
            )
        results = {OUTPUTS[n]: _array(f"outputs[{n!r}]", a) for n, a in outputs.items()}
    elif not callable(outputs):
        raise TypeError(
            "`outputs` must be a dict of the port's results, or the port itself, called as "
            f"port(weights, x=x, …), got a {type(outputs).__name__}"
        )
    case = _case(found, given, results, nonlinearity, batch_first, dropout)
    floats = [*params.values(), given["x"], *results.values()]
    dtypes = {a.dtype.name: a.dtype for a in floats}
    if strange := [name for name in dtypes if name not in DTYPES]:
        known = ", ".join(DTYPES)
        raise TypeError(f"there are numbers of {strange[0]}: only {known} are judged; cast them")
    dtype = max(dtypes, key=lambda name: jnp.finfo(dtypes[name]).eps)
    data = _data(case, params, given, dtype)
    remarks = on_inputs(case, data, params, results)
    if loaded is not None:
        own = {name: _array(f"loaded[{name!r}]", a) for name, a in loaded.items()}
        remarks += on_loaded(params, own, found.gates)
    port = outputs if callable(outputs) else None
    if port is not None:
        data, results = run_port(port, case, data)
        other = {a.dtype.name for a in results.values()} - {dtype}
        remarks += [f"the port returns {name} where x is {dtype}" for name in sorted(other)]
        remarks += on_settings()
    else:
        results = {n: results[n].astype(DTYPES[dtype]) for n in OUTPUTS.values() if n in results}
    return Problem(case, data, dtype, results, port, remarks)


def run_port(port: Port, case: Case, data: Data) -> tuple[Data, Arrays]:
    """Outputs and gradients of a port, and the data with cotangents of its outputs' shapes."""
    constants: dict[str, Any] = {}
    if case.lengths is not None:
        constants["lengths"] = np.array(case.lengths[0] if case.batch is None else case.lengths)
    if data.masks is not None:
        constants["masks"] = data.masks

    def call(leaves: Any) -> Arrays:
        leaves = {name: leaves[name] for name in data.leaves}  # in torch's order: JAX sorts them
        params = {n: a for n, a in leaves.items() if n.startswith(("weight", "bias"))}
        inputs = {n.replace("_", ""): a for n, a in leaves.items() if n not in params}
        return _named(case, port(params, **inputs, **constants))

    with jax.enable_x64(True):
        leaves = {name: jnp.asarray(a) for name, a in data.leaves.items()}
        results, pullback = jax.vjp(call, leaves)
        rng = np.random.default_rng(1)
        cotangents = {
            name: rng.standard_normal(a.shape).astype(a.dtype) for name, a in results.items()
        }
        grads = pullback({name: jnp.asarray(a) for name, a in cotangents.items()})[0]
        found = {name: results[name] for name in OUTPUTS.values() if name in results}
        found |= {f"grad {name}": grads[name] for name in data.leaves}
    return data._replace(cotangents=cotangents), {n: np.asarray(a) for n, a in found.items()}


def _named(case: Case, results: Any) -> dict[str, Any]:
    if isinstance(results, Mapping):
        if not results or not results.keys() <= OUTPUTS.keys():
            raise ValueError(
                f"the port returned {', '.join(results) or 'nothing'}: wanted some of "
                f"{', '.join(OUTPUTS)}"
            )
        return {OUTPUTS[name]: a for name, a in results.items()}
    names = list(output_shapes(case))
    leaves = jax.tree.leaves(results)
    if not 0 < len(leaves) <= len(names):
        raise ValueError(
            f"the port returned {len(leaves)} arrays: wanted {', '.join(names)}, in this order"
        )
    return dict(zip(names, leaves, strict=False))


def _array(what: str, value: Any) -> np.ndarray:
    a = array(value) if is_tensor(value) else np.asarray(value)
    if a.dtype == object:
        raise TypeError(f"`{what}` must be an array, got a {type(value).__name__}")
    return a


def _case(
    found: jaxrnn.Structure,
    given: Arrays,
    results: Arrays,
    nonlinearity: str,
    batch_first: bool | None,
    dropout: float,
) -> Case:
    x, cell = given["x"], found.kind.endswith("_cell")
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"`nonlinearity` must be 'tanh' or 'relu', got {nonlinearity!r}")
    if x.ndim not in ((1, 2) if cell else (2, 3)) or x.shape[-1] != found.input_size:
        raise ValueError(
            f"`x` has shape {x.shape}: wanted {1 if cell else 2} or {2 if cell else 3} axes, the "
            f"last of {found.input_size} features, as the weights have it"
        )
    if 0 in x.shape:
        raise ValueError(f"`x` has shape {x.shape}: there is nothing in it to compare")
    batched = x.ndim == (2 if cell else 3)
    if batch_first is None:
        batch_first = batched and not cell and _batch_first(x, given, results)
    if cell:
        time, batch = 1, len(x) if batched else None
    elif not batched:
        time, batch = len(x), None
    else:
        time, batch = x.shape[:2][::-1] if batch_first else x.shape[:2]
    lengths = None
    if "lengths" in given:
        lengths = tuple(int(n) for n in np.ravel(given["lengths"]))
        if len(lengths) != (batch or 1) or not 0 <= min(lengths) <= max(lengths) <= time:
            raise ValueError(
                f"`lengths` must be {batch or 1} numbers from 0 to {time}, one for each sequence, "
                f"got {list(lengths)}: is `batch_first` right?"
            )
    return Case(
        *("diagnosis", found, nonlinearity if found.gates == 1 else "tanh", time, batch),
        batch_first=batch_first,
        state="h0" in given,
        lengths=lengths,
        dropout=dropout,
    )


def _batch_first(x: np.ndarray, given: Arrays, results: Arrays) -> bool:
    """What is said by those arrays that have the batch on one axis only; if none does, torch's."""
    sizes = [
        a.shape[1] for name in ("h0", "c0") if (a := given.get(name)) is not None and a.ndim == 3
    ]
    sizes += [a.size for name in ("lengths",) if (a := given.get(name)) is not None and a.ndim]
    sizes += [
        a.shape[1] for n in ("h_n", "c_n") if (a := results.get(n)) is not None and a.ndim == 3
    ]
    said = [x.shape[0] == size for size in sizes if (x.shape[0] == size) != (x.shape[1] == size)]
    return bool(said) and said[0]


def _data(case: Case, params: Arrays, given: Arrays, dtype: str) -> Data:
    to = lambda a: a.astype(DTYPES[dtype])
    leaves = {name: to(a) for name, a in params.items()} | {"x": to(given["x"])}
    shapes = output_shapes(case)
    if "c0" in given and ("h0" not in given or "c_n" not in shapes):
        raise ValueError("`inputs` has 'c0' without 'h0', or for a layer that has no c")
    if "h0" in given and "c_n" in shapes and "c0" not in given:
        raise ValueError("`inputs` has 'h0' but no 'c0': an LSTM starts from both")
    for name in ("h0", "c0"):
        if name in given:
            wanted = shapes[f"{name[0]}_n"]
            if given[name].shape != wanted:
                raise ValueError(f"`{name}` has shape {given[name].shape}, wanted {wanted}")
            leaves[f"{name[0]}_0"] = to(given[name])
    masks = given.get("masks")
    if masks is not None:
        wanted = (case.structure.num_layers - 1, *shapes.get("y", ()))
        if masks.shape != wanted or masks.dtype != bool or not case.dropout:
            raise ValueError(
                f"`masks` must be booleans of shape {wanted}, True where a value is kept, together "
                f"with `dropout`, got {masks.dtype}{list(masks.shape)} and dropout={case.dropout}"
            )
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    cotangents = {name: to(rng.standard_normal(shape)) for name, shape in shapes.items()}
    return Data(leaves, cotangents, {}, masks)


def read_npz(path: str | PathLike[str]) -> tuple[Arrays, Arrays, Arrays, Arrays | None]:
    """The first arguments of `diagnose`, and `loaded`, from a file.

    It has `w/<torch name>`, perhaps `loaded/<torch name>`, `x`, `h0` and so on, `y`, `hn`, `cn`.
    """
    arrays = {name: np.asarray(a) for name, a in read(path).items()}
    under = lambda start: {
        name.removeprefix(start): a for name, a in arrays.items() if name.startswith(start)
    }
    weights, loaded = under("w/"), under("loaded/")
    rest = {n: a for n, a in arrays.items() if not n.startswith(("w/", "loaded/"))}
    if unknown := [name for name in rest if name not in (*INPUTS, *OUTPUTS)]:
        raise ValueError(
            f"{path} has {unknown[0]!r}: it may have w/<torch name>, loaded/<torch name>, "
            f"{', '.join(INPUTS)} and {', '.join(OUTPUTS)}"
        )
    if not weights:
        raise ValueError(f"{path} has no weights: save them as 'w/weight_ih_l0' and so on")
    inputs, outputs = ({n: rest[n] for n in names if n in rest} for names in (INPUTS, OUTPUTS))
    return weights, inputs, outputs, loaded or None
