"""What a diagnosis is about: a layer of torch, numbers for it, and what a port made of them.

Names are those of a state_dict for weights; `x`, `h0`, `c0`, `lengths`, `masks` for inputs; `y`,
`hn`, `cn` for outputs.
"""

from collections.abc import Callable, Collection, Mapping
from os import PathLike
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from jaxrnn._files import read
from jaxrnn._params import is_tensor

from ..backends.data import DTYPES, Data, generator, output_shapes
from ..backends.torch import array
from ..cases import Case
from ..criterion import Arrays
from .inputs import on_inputs, on_loaded, on_settings


INPUTS = ("x", "h0", "c0", "lengths", "masks")
OUTPUTS = {"y": "y", "hn": "h_n", "cn": "c_n"}
Port = Callable[..., Any]


class Problem(NamedTuple):
    """A case, its numbers, and the port's results by name, with gradients if it is a function.

    `returned` are those dtypes of its outputs that are not the inputs' and weights'.
    """

    case: Case
    data: Data
    dtype: str
    found: Arrays
    port: Port | None
    remarks: list[str]
    returned: dict[str, str]

    @property
    def eps(self) -> float:
        return float(jnp.finfo(DTYPES[self.dtype]).eps)

    @property
    def far(self) -> float:
        """What is off by more than this, relative, is no rounding; for where there is no judge."""
        return min(1000 * self.eps, 0.05)


def state_problem(
    kind: str | None,
    weights: Mapping[str, Any],
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any] | Port,
    *,
    nonlinearity: str = "tanh",
    batch_first: bool | None = None,
    dropout: float = 0.0,
    loaded: Mapping[str, Any] | None = None,
) -> Problem:
    """Checks these arguments of `diagnose`, and runs the port if it is a function."""
    params = _arrays("weights", weights, "pass module.state_dict()")
    found = jaxrnn.structure(params, kind)
    if found.layer_norm:
        raise ValueError("`weights` are of a layer-normalised LSTM, which torch.nn has not")
    given = _arrays("inputs", inputs, "{'x': …}", INPUTS)
    if "x" not in given:
        raise ValueError(f"`inputs` has no 'x', only {', '.join(given) or 'nothing'}")
    results: Arrays = {}
    if isinstance(outputs, Mapping):
        results = _arrays("outputs", outputs, "the port's results", OUTPUTS)
        results = {key: results[name] for name, key in OUTPUTS.items() if name in results}
    elif not callable(outputs):
        raise TypeError(
            "`outputs` must be a dict of the port's results, or the port itself, called as "
            f"port(weights, x=x, …), got a {type(outputs).__name__}"
        )
    case = _case(found, given, nonlinearity, batch_first, dropout)
    _check_outputs(case, outputs, results)
    floats = {**params, **{n: a for n, a in given.items() if n not in ("lengths", "masks")}}
    wanted = _narrowest({f"`{name}`": a for name, a in floats.items()})
    dtype = _narrowest({wanted: np.empty(0, DTYPES[wanted]), **results})
    data = _data(case, params, given, dtype)
    remarks = on_inputs(case, data, params, batch_first is None)
    if loaded is not None:
        own = _arrays("loaded", loaded, "the port's weights, under torch's names")
        remarks += on_loaded(params, own, found.gates)
    port = outputs if callable(outputs) else None
    if port is not None:
        data, results = run_port(port, case, data)
        remarks += on_settings(dtype)
    returned = {n: a.dtype.name for n, a in results.items() if n in OUTPUTS.values()}
    returned = {name: came for name, came in returned.items() if came != wanted}
    remarks += [f"{n} comes back in {came}, x is {wanted}" for n, came in returned.items()]
    if port is None:
        results = {name: a.astype(DTYPES[dtype]) for name, a in results.items()}
    return Problem(case, data, dtype, results, port, remarks, returned)


def _narrowest(arrays: Arrays) -> str:
    """The dtype with the largest eps; all must be floating, and known."""
    for name, a in arrays.items():
        if a.dtype.name not in DTYPES:
            raise TypeError(f"{name} has numbers of {a.dtype}: only {', '.join(DTYPES)} are judged")
    return max((a.dtype for a in arrays.values()), key=lambda dtype: jnp.finfo(dtype).eps).name


def run_port(port: Port, case: Case, data: Data, gradients: bool = True) -> tuple[Data, Arrays]:
    """Outputs and gradients of a port, and the data with cotangents of its outputs' shapes."""
    constants: dict[str, Any] = {}
    if case.lengths is not None:
        constants["lengths"] = np.array(case.lengths[0] if case.batch is None else case.lengths)
    if data.masks is not None:
        constants["masks"] = data.masks

    def call(leaves: Any) -> Arrays:
        leaves = {name: leaves[name] for name in data.leaves}  # in torch's order: JAX sorts them
        params = {n: a for n, a in leaves.items() if n.startswith(("weight", "bias"))}
        inputs = {n.replace("_", ""): a for n, a in leaves.items() if n not in params} | constants
        try:
            results = port(params, **inputs)
        except Exception as error:
            shapes = ", ".join(f"{n}={a.dtype}{list(a.shape)}" for n, a in inputs.items())
            error.add_note(f"raised by the port, which was called as port(weights, {shapes})")
            raise
        return _named(case, results)

    # As users have it, but that float64 is nothing without x64.
    with jax.enable_x64(bool(cast(Any, jax.config).jax_enable_x64) or _has_float64(data)):
        leaves = {name: jnp.asarray(a) for name, a in data.leaves.items()}
        if not gradients:
            return data, {name: np.asarray(a) for name, a in call(leaves).items()}
        results, pullback = jax.vjp(call, leaves)
        rng = np.random.default_rng(1)
        cotangents = {
            name: rng.standard_normal(a.shape).astype(a.dtype) for name, a in results.items()
        }
        grads = pullback({name: jnp.asarray(a) for name, a in cotangents.items()})[0]
        found = {name: results[name] for name in OUTPUTS.values() if name in results}
        found |= {f"grad {name}": grads[name] for name in data.leaves}
    return data._replace(cotangents=cotangents), {n: np.asarray(a) for n, a in found.items()}


def _has_float64(data: Data) -> bool:
    return any(a.dtype == np.float64 for a in data.leaves.values())


def _named(case: Case, results: Any) -> dict[str, Any]:
    """A port's results by name."""
    names = list(output_shapes(case))
    if isinstance(results, Mapping):
        named = {OUTPUTS.get(str(name), str(name)): a for name, a in results.items()}
    elif not case.cell and isinstance(results, tuple | list) and len(results) == 2:
        y, state = results
        named = {} if y is None else {"y": y}
        named |= dict(zip(names[1:], jax.tree.leaves(state), strict=False))
    else:
        named = dict(zip(names, jax.tree.leaves(results), strict=False))
    if (
        not named
        or not named.keys() <= {*names}
        or not all(hasattr(a, "shape") for a in named.values())
    ):
        kind = "nothing" if not named else ", ".join(named)
        its = ", ".join(n for n, key in OUTPUTS.items() if key in names)
        raise ValueError(
            f"the port returned {kind}: wanted (y, hn), (y, (hn, cn)) or, of a cell, the state; or "
            f"a dict of arrays, some of {its}"
        )
    return named


def _arrays(what: str, given: Any, example: str, known: Collection[str] | None = None) -> Arrays:
    """A dict of arrays, under known names."""
    if not isinstance(given, Mapping):
        raise TypeError(f"`{what}` must be a dict, got a {type(given).__name__}: {example}")
    if known is not None and (not given or not given.keys() <= {*known}):
        strange = [name for name in given if name not in known]
        came = repr(strange[0]) if strange else "nothing"
        raise ValueError(f"`{what}` has {came}: it may have {', '.join(known)}")
    arrays = {}
    for name, value in given.items():
        a = array(value) if is_tensor(value) else np.asarray(value)
        if a.dtype.kind not in "fiubV":
            raise TypeError(f"`{what}[{name!r}]` must be an array of numbers, got {a.dtype}")
        arrays[name] = a
    return arrays


def _check_outputs(case: Case, outputs: Any, results: Arrays) -> None:
    known = output_shapes(case)
    if isinstance(outputs, Mapping) and (extra := results.keys() - known):
        its = [name for name, key in OUTPUTS.items() if key in known]
        raise ValueError(
            f"`outputs` has {', '.join(n for n in outputs if OUTPUTS[n] in extra)}, but a "
            f"{case.structure.torch_name} has {' and '.join(its)}"
        )


def _case(
    found: jaxrnn.Structure,
    given: Arrays,
    nonlinearity: str,
    batch_first: bool | None,
    dropout: float,
) -> Case:
    """The configuration that the weights and the inputs make together."""
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
    if cell and (batch_first or dropout or {"lengths", "masks"} & given.keys()):
        raise ValueError(
            "a cell takes no `batch_first`, `dropout`, `lengths` or `masks`: these are a layer's"
        )
    batched = x.ndim == (2 if cell else 3)
    if batch_first is None:
        batch_first = batched and not cell and says_batch_first(x, given)
    lead = [*x.shape[:-1]]
    time, batch = (1, lead[0]) if cell and batched else (1, None)
    if not cell:
        time, batch = (lead[::-1] if batch_first else lead) if batched else (lead[0], None)
    lengths = None
    if "lengths" in given:
        lengths = _lengths(given["lengths"], time, batch)
    return Case(
        *("diagnosis", found, nonlinearity if found.gates == 1 else "tanh", time, batch),
        batch_first=batch_first,
        state="h0" in given,
        lengths=lengths,
        dropout=dropout if found.num_layers > 1 else 0.0,  # else it does nothing
    )


def _lengths(a: np.ndarray, time: int, batch: int | None) -> tuple[int, ...]:
    lengths = a.ravel().tolist()
    whole = a.dtype.kind in "iu" and len(lengths) == (1 if batch is None else batch)
    if not whole or not 0 <= min(lengths) <= max(lengths) <= time:
        raise ValueError(
            f"`lengths` must be {batch or 1} whole numbers from 0 to {time}, one for each "
            f"sequence, got {lengths}: is `batch_first` right?"
        )
    return tuple(lengths)


def says_batch_first(x: np.ndarray, given: Arrays) -> bool:
    """What those inputs say that have the batch on a known axis; if none does, torch's default."""
    states = [given[name] for name in ("h0", "c0") if name in given]
    sizes = [a.shape[1] for a in states if a.ndim == 3]
    sizes += [given["lengths"].size] if "lengths" in given else []
    said = [x.shape[0] == size for size in sizes if (x.shape[0] == size) != (x.shape[1] == size)]
    return bool(said) and said[0]


def _data(case: Case, params: Arrays, given: Arrays, dtype: str) -> Data:
    to = lambda a: a.astype(DTYPES[dtype])
    inputs = {"x": to(given["x"])}
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
            inputs[f"{name[0]}_0"] = to(given[name])
    masks = given.get("masks")
    if masks is not None:
        wanted = (case.structure.num_layers - 1, *shapes.get("y", ()))
        if masks.shape != wanted or masks.dtype != bool or not case.dropout:
            raise ValueError(
                f"`masks` must be booleans of shape {wanted}, True where a value is kept, together "
                f"with `dropout`, got {masks.dtype}{list(masks.shape)} and dropout={case.dropout}"
            )
        inputs["masks"] = masks
    rng = generator(case.name)
    cotangents = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    return Data(dict(params), inputs, cotangents, {}).astype(dtype)


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
