"""The problem that a diagnosis is about: a layer of torch, numbers for it, and a port's results.

Weights have the names of a state_dict. Inputs and outputs have users' names in arguments and files,
and torch's names (`h_0`, `h_n`) inside.
"""

from collections.abc import Collection, Mapping
from os import PathLike
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import jaxrnn
from jaxrnn._files import read
from jaxrnn._params import is_tensor

from ..backends.data import DTYPES, Data, generator, output_shapes
from ..backends.torch import array
from ..cases import Case
from ..criterion import Arrays
from .call import INPUTS, OUTPUTS, Port, port_results
from .inputs import on_inputs, on_loaded, on_settings


class Problem(NamedTuple):
    """A case, its numbers, and the port's results by name, with gradients if it is a function.

    `notes` say what is unusual in the arguments. `returned` has the dtypes of those outputs that
    do not come back in the dtype of the inputs and weights.
    """

    case: Case
    data: Data
    dtype: str
    results: Arrays
    port: Port | None
    notes: list[str]
    returned: dict[str, str]

    @property
    def outputs(self) -> Arrays:
        return {name: a for name, a in self.results.items() if not name.startswith("grad ")}

    @property
    def gradients(self) -> Arrays:
        return {name: a for name, a in self.results.items() if name.startswith("grad ")}

    @property
    def comparable(self) -> Arrays:
        """The outputs that have torch's shapes."""
        shapes = output_shapes(self.case)
        return {name: a for name, a in self.outputs.items() if a.shape == shapes[name]}

    @property
    def eps(self) -> float:
        return float(jnp.finfo(DTYPES[self.dtype]).eps)

    @property
    def far(self) -> float:
        """The relative error beyond which a number is wrong, in places that have no judge."""
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
    structure = jaxrnn.structure(params, kind)
    if structure.layer_norm:
        raise ValueError("`weights` are of a layer-normalised LSTM, which torch.nn has not")
    arrays = _arrays("inputs", inputs, "{'x': …}", INPUTS)
    if "x" not in arrays:
        raise ValueError(f"`inputs` has no 'x', only {', '.join(arrays) or 'nothing'}")
    results = _results(outputs)
    case = _case(structure, arrays, nonlinearity, batch_first, dropout)
    _check_names(case, outputs, results)
    floats = {n: a for n, a in (params | arrays).items() if n not in ("lengths", "masks")}
    wanted = _narrowest({f"`{name}`": a for name, a in floats.items()})
    dtype = _narrowest({wanted: np.empty(0, DTYPES[wanted]), **results})
    data = _data(case, params, arrays, dtype)
    notes = on_inputs(case, data, params, batch_first is None)
    if loaded is not None:
        example = "the port's weights, under torch's names"
        notes += on_loaded(params, _arrays("loaded", loaded, example), structure.gates)
    port = outputs if callable(outputs) else None
    if port is not None:
        data, results = port_results(port, case, data)
        notes += on_settings(dtype)
    returned = {n: results[n].dtype.name for n in OUTPUTS.values() if n in results}
    returned = {name: other for name, other in returned.items() if other != wanted}
    notes += [f"{name} comes back in {other}, x is {wanted}" for name, other in returned.items()]
    if port is None:
        results = {name: a.astype(DTYPES[dtype]) for name, a in results.items()}
    return Problem(case, data, dtype, results, port, notes, returned)


# Arguments as arrays.


def _arrays(
    argument: str, value: Any, example: str, names: Collection[str] | None = None
) -> Arrays:
    """Returns a dict of arrays, under known names if there are `names`."""
    if not isinstance(value, Mapping):
        raise TypeError(f"`{argument}` must be a dict, got a {type(value).__name__}: {example}")
    if names is not None and (not value or not value.keys() <= {*names}):
        strange = [name for name in value if name not in names]
        first = repr(strange[0]) if strange else "nothing"
        raise ValueError(f"`{argument}` has {first}: it may have {', '.join(names)}")
    arrays = {}
    for name, element in value.items():
        a = array(element) if is_tensor(element) else np.asarray(element)
        if a.dtype.kind not in "fiubV":
            raise TypeError(f"`{argument}[{name!r}]` must be an array of numbers, got {a.dtype}")
        arrays[name] = a
    return arrays


def _results(outputs: Mapping[str, Any] | Port) -> Arrays:
    """Returns the results under torch's names; none yet if `outputs` is the port itself."""
    if isinstance(outputs, Mapping):
        arrays = _arrays("outputs", outputs, "the port's results", OUTPUTS)
        return {key: arrays[name] for name, key in OUTPUTS.items() if name in arrays}
    if not callable(outputs):
        raise TypeError(
            "`outputs` must be a dict of the port's results, or the port itself, called as "
            f"port(weights, x=x, …), got a {type(outputs).__name__}"
        )
    return {}


def _check_names(case: Case, outputs: Any, results: Arrays) -> None:
    shapes = output_shapes(case)
    if extra := results.keys() - shapes:
        names = [name for name, key in OUTPUTS.items() if key in shapes]
        raise ValueError(
            f"`outputs` has {', '.join(n for n in outputs if OUTPUTS[n] in extra)}, but a "
            f"{case.structure.torch_name} has {' and '.join(names)}"
        )


def _narrowest(arrays: Arrays) -> str:
    """Returns the dtype with the largest eps; all must be floating, and known."""
    for name, a in arrays.items():
        if a.dtype.name not in DTYPES:
            raise TypeError(f"{name} has numbers of {a.dtype}: only {', '.join(DTYPES)} are judged")
    return max((a.dtype for a in arrays.values()), key=lambda dtype: jnp.finfo(dtype).eps).name


# The case and its numbers.


def _case(
    structure: jaxrnn.Structure,
    inputs: Arrays,
    nonlinearity: str,
    batch_first: bool | None,
    dropout: float,
) -> Case:
    """Returns the configuration that the weights and the inputs make together."""
    x, cell = inputs["x"], structure.kind.endswith("_cell")
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"`nonlinearity` must be 'tanh' or 'relu', got {nonlinearity!r}")
    _check_x(x, cell, structure.input_size)
    if cell and (batch_first or dropout or {"lengths", "masks"} & inputs.keys()):
        raise ValueError(
            "a cell takes no `batch_first`, `dropout`, `lengths` or `masks`: these are a layer's"
        )
    *leading, _ = x.shape
    if batch_first is None:
        batch_first = len(leading) == 2 and says_batch_first(x, inputs)
    sizes = [1, *leading] if cell else leading
    time, batch = sizes[::-1] if batch_first and len(sizes) == 2 else [*sizes, None][:2]
    return Case(
        group="diagnosis",
        structure=structure,
        nonlinearity=nonlinearity if structure.gates == 1 else "tanh",
        time=time,
        batch=batch,
        batch_first=batch_first,
        state="h0" in inputs,
        lengths=_lengths(inputs["lengths"], time, batch) if "lengths" in inputs else None,
        dropout=dropout if structure.num_layers > 1 else 0.0,  # else it does nothing
    )


def _check_x(x: np.ndarray, cell: bool, features: int) -> None:
    if x.ndim not in ((1, 2) if cell else (2, 3)) or x.shape[-1] != features:
        raise ValueError(
            f"`x` has shape {x.shape}: wanted {1 if cell else 2} or {2 if cell else 3} axes, the "
            f"last of {features} features, as the weights have it"
        )
    if 0 in x.shape:
        raise ValueError(f"`x` has shape {x.shape}: there is nothing in it to compare")


def _lengths(a: np.ndarray, time: int, batch: int | None) -> tuple[int, ...]:
    lengths = a.ravel().tolist()
    whole = a.dtype.kind in "iu" and len(lengths) == (1 if batch is None else batch)
    if not whole or not 0 <= min(lengths) <= max(lengths) <= time:
        raise ValueError(
            f"`lengths` must be {batch or 1} whole numbers from 0 to {time}, one for each "
            f"sequence, got {lengths}: is `batch_first` right?"
        )
    return tuple(lengths)


def says_batch_first(x: np.ndarray, inputs: Arrays) -> bool:
    """Reads the layout of `x` off inputs that have the batch on a known axis; else torch's."""
    states = [inputs[name] for name in ("h0", "c0") if name in inputs]
    sizes = [a.shape[1] for a in states if a.ndim == 3]
    sizes += [inputs["lengths"].size] if "lengths" in inputs else []
    first = [x.shape[0] == size for size in sizes if (x.shape[0] == size) != (x.shape[1] == size)]
    return bool(first) and first[0]


def _data(case: Case, params: Arrays, inputs: Arrays, dtype: str) -> Data:
    """Returns the numbers in this dtype, with cotangents at random."""
    shapes, masks = output_shapes(case), inputs.get("masks")
    _check_states(inputs, shapes)
    _check_masks(case, masks)
    rng = generator(case.name)
    names = [name for name in ("x", "h0", "c0", "masks") if name in inputs]
    arrays = {INPUTS[name]: inputs[name] for name in names}
    cotangents = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    return Data(dict(params), arrays, cotangents, {}).astype(dtype)


def _check_states(inputs: Arrays, shapes: Mapping[str, tuple[int, ...]]) -> None:
    if "c0" in inputs and ("h0" not in inputs or "c_n" not in shapes):
        raise ValueError("`inputs` has 'c0' without 'h0', or for a layer that has no c")
    if "h0" in inputs and "c_n" in shapes and "c0" not in inputs:
        raise ValueError("`inputs` has 'h0' but no 'c0': an LSTM starts from both")
    for name, final in {"h0": "h_n", "c0": "c_n"}.items():
        if name in inputs and inputs[name].shape != shapes[final]:
            raise ValueError(f"`{name}` has shape {inputs[name].shape}, wanted {shapes[final]}")


def _check_masks(case: Case, masks: np.ndarray | None) -> None:
    wanted = (case.structure.num_layers - 1, *output_shapes(case).get("y", ()))
    if masks is not None and (masks.shape != wanted or masks.dtype != bool or not case.dropout):
        raise ValueError(
            f"`masks` must be booleans of shape {wanted}, True where a value is kept, together "
            f"with `dropout`, got {masks.dtype}{list(masks.shape)} and dropout={case.dropout}"
        )


# Files.


def read_npz(path: str | PathLike[str]) -> tuple[Arrays, Arrays, Arrays, Arrays | None]:
    """Reads the first arguments of `diagnose`, and `loaded`, from a file.

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
