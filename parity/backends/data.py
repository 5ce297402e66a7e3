"""The numbers that a case is computed on, and how the tensors that come out are cut into blocks."""

import zlib
from collections.abc import Mapping
from typing import NamedTuple

import ml_dtypes
import numpy as np

from ..cases import Case
from ..criterion import Arrays, Cut


DTYPES = {"float64": np.float64, "float32": np.float32, "bfloat16": ml_dtypes.bfloat16}
GATES = {1: ["h"], 3: ["r", "z", "n"], 4: ["i", "f", "g", "o"]}


class Data(NamedTuple):
    """Everything that both frameworks are handed.

    `leaves` are what is differentiated by: the parameters under their names, `x`, and `h_0`, `c_0`
    where given. `cotangents` are the outputs' weights in the scalar whose gradient is taken,
    `tangents` the direction of the Hessian-vector product.
    """

    leaves: Arrays
    cotangents: Arrays
    tangents: Arrays
    masks: np.ndarray | None


def draw(
    case: Case,
    dtype: str,
    params: Mapping[str, np.ndarray] | None = None,
    x: np.ndarray | None = None,
) -> Data:
    """Random numbers, all distinct and none zero: mistakes hide behind constants and zero states.

    `params` and `x` take the place of what would be drawn.
    """
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    to = lambda a: np.asarray(a).astype(DTYPES[dtype])
    s, shapes = case.structure, output_shapes(case)
    if params is None:
        scale = case.gain / np.sqrt(s.input_size + s.output_size)
        params = {name: scale * rng.standard_normal(shape) for name, shape in s.shapes.items()}
    leaves = {name: to(value) for name, value in params.items()}
    if x is None:
        x = case.input_scale * rng.standard_normal((*_leading(case), s.input_size))
    leaves["x"] = to(x)
    if case.lengths is not None:
        leaves["x"][beyond(case)] = case.padding
    if case.state:
        states = {f"{name[0]}_0": shape for name, shape in shapes.items() if name != "y"}
        leaves |= {name: to(rng.standard_normal(shape)) for name, shape in states.items()}
    cotangents = {
        name: to(rng.standard_normal(shape) * (name in case.cotangents))
        for name, shape in shapes.items()
    }
    tangents = {name: to(rng.standard_normal(value.shape)) for name, value in leaves.items()}
    masks = None
    if case.dropout:
        masks = rng.random((s.num_layers - 1, *shapes["y"])) >= case.dropout
    return Data(leaves, cotangents, tangents, masks)


def perturb(data: Data, rng: np.random.Generator) -> Data:
    """Moves every weight, input and initial state."""
    return data._replace(leaves={name: move(value, rng) for name, value in data.leaves.items()})


def move(a: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Moves every number by −1, 0 or +1 ulp; 0 and infinity stay."""
    way = rng.integers(-1, 2, a.shape)
    moved = np.nextafter(a, np.where(way < 0, -np.inf, np.inf).astype(a.dtype))
    return np.where((way == 0) | (a == 0) | np.isinf(a), a, moved)


def output_shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """The outputs' shapes by name; the same for every framework."""
    s, lead = case.structure, _leading(case)
    cells = lead if case.cell else (len(s.suffixes), *([] if case.batch is None else [case.batch]))
    shapes = {} if case.cell else {"y": (*lead, s.num_directions * s.output_size)}
    shapes["h_n"] = (*cells, s.output_size)
    if s.kind.startswith("lstm"):
        shapes["c_n"] = (*cells, s.hidden_size)
    return shapes


def beyond(case: Case) -> np.ndarray:
    """Where `x` and `y` are padding: a mask over their leading axes."""
    mask = np.arange(case.time)[:, None] >= np.array(case.lengths or (case.time,))
    if case.batch is None:
        return mask[:, 0]
    return mask.T if case.batch_first else mask


def cut(case: Case, name: str) -> Cut:
    """Gates of a weight, layers and directions of a state, time steps of `x` and `y`."""
    s, tensor = case.structure, name.split()[-1]
    batch = case.batch is not None
    if tensor.startswith(("weight", "bias")):
        whole = tensor.startswith("weight_hr")
        return Cut(0, [""] if whole else [f"gate {gate}" for gate in GATES[s.gates]])
    if case.cell:
        return Cut(0, [""], 0 if batch else None)
    if tensor in ("x", "y"):
        swapped = batch and case.batch_first
        steps = [f"step {t}" for t in range(case.time)]
        return Cut(int(swapped), steps, int(not swapped) if batch else None)
    ways = ["forward", "backward"][: s.num_directions]
    labels = [f"layer {layer} {way}" for layer in range(s.num_layers) for way in ways]
    return Cut(0, labels, 1 if batch else None)


def _leading(case: Case) -> tuple[int, ...]:
    """The axes of `x` but the last."""
    batch = () if case.batch is None else (case.batch,)
    if case.cell:
        return batch
    return (*batch, case.time) if case.batch_first else (case.time, *batch)
