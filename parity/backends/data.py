"""The numbers that both sides compute on, and how the tensors that come out are cut into blocks."""

import re
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax.numpy as jnp
import ml_dtypes
import numpy as np

from ..cases import Case
from ..criterion import Arrays, Cut


DTYPES = {"float64": np.float64, "float32": np.float32, "bfloat16": ml_dtypes.bfloat16}
GATES = {1: ["h"], 3: ["r", "z", "n"], 4: ["i", "f", "g", "o"]}
GATED = re.compile(r"\b(weight|bias)_[ih]h")


class Data(NamedTuple):
    """Numbers for `f(params, **inputs)` on both sides.

    `cotangents` are the outputs' weights in the scalar that is differentiated, if it is. `tangents`
    are the direction of the Hessian-vector product; empty: there is none. `constant` names
    parameters, such as buffers, that are not differentiated by.
    """

    params: Arrays
    inputs: Arrays
    cotangents: Arrays
    tangents: Arrays
    constant: Collection[str] = ()
    differentiate: bool = True

    @property
    def leaves(self) -> Arrays:
        """The arrays that are differentiated by."""
        arrays = {**self.params, **self.inputs}
        return {name: a for name, a in arrays.items() if self.varies(name, a)}

    @property
    def masks(self) -> np.ndarray | None:
        """A layer's dropout masks, if there are any."""
        return self.inputs.get("masks")

    def varies(self, name: str, a: Any) -> bool:
        """Whether an array is differentiated by."""
        return floating(a) and name not in self.constant

    def map(self, change: Callable[[np.ndarray], np.ndarray]) -> "Data":
        """The same data with every floating array changed."""
        each = lambda arrays: {n: change(a) if floating(a) else a for n, a in arrays.items()}
        return self._replace(
            params=each(self.params),
            inputs=each(self.inputs),
            cotangents=each(self.cotangents),
            tangents=each(self.tangents),
        )

    def astype(self, dtype: str) -> "Data":
        """The same data with floating arrays of this dtype."""
        return self.map(lambda a: np.asarray(a).astype(DTYPES[dtype]))


def floating(a: Any) -> bool:
    """Whether an array holds floating numbers, bfloat16 included."""
    return jnp.issubdtype(a.dtype, jnp.floating)


def widened(a: np.ndarray) -> np.ndarray:
    """Integers as int64: how wide they are is not what is compared."""
    return a.astype(np.int64) if jnp.issubdtype(a.dtype, jnp.integer) else a


def generator(name: str) -> np.random.Generator:
    """A random generator for each name, the same in every process."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def draw(
    case: Case,
    dtype: str,
    params: Mapping[str, np.ndarray] | None = None,
    x: np.ndarray | None = None,
) -> Data:
    """Draws a case's numbers, all distinct and none zero: constants and zero states hide mistakes.

    `params` and `x` take the place of what would be drawn.
    """
    rng, s, shapes = generator(case.name), case.structure, output_shapes(case)
    to = lambda a: np.asarray(a).astype(DTYPES[dtype])
    if params is None:
        scale = case.gain / np.sqrt(s.input_size + s.output_size)
        params = {name: scale * rng.standard_normal(shape) for name, shape in s.shapes.items()}
    if x is None:
        x = case.input_scale * rng.standard_normal((*_leading(case), s.input_size))
    params, inputs = {name: to(a) for name, a in params.items()}, {"x": to(x)}
    if case.lengths is not None:
        inputs["x"][beyond(case)] = case.padding
    if case.state:
        states = {f"{name[0]}_0": shape for name, shape in shapes.items() if name != "y"}
        inputs |= {name: rng.standard_normal(shape) for name, shape in states.items()}
    cotangents = {
        name: rng.standard_normal(shape) * (name in case.cotangents)
        for name, shape in shapes.items()
    }
    leaves = {**params, **inputs}
    tangents = {name: rng.standard_normal(np.shape(value)) for name, value in leaves.items()}
    if case.lengths is not None:
        inputs["lengths"] = np.array(case.lengths[0] if case.batch is None else case.lengths)
    if case.dropout:
        inputs["masks"] = rng.random((s.num_layers - 1, *shapes["y"])) >= case.dropout
    data = Data(params, inputs, cotangents, tangents if case.second_order else {})
    return data.astype(dtype)


def perturb(data: Data, rng: np.random.Generator, *, cotangents: bool = False) -> Data:
    """Moves every weight and floating input, and maybe every cotangent, by up to an ulp."""
    moved = data._replace(cotangents=data.cotangents if cotangents else {}, tangents={})
    moved = moved.map(lambda a: move(a, rng))
    return moved._replace(
        cotangents=moved.cotangents if cotangents else data.cotangents, tangents=data.tangents
    )


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


def _leading(case: Case) -> tuple[int, ...]:
    """The axes of `x` but the last."""
    batch = () if case.batch is None else (case.batch,)
    if case.cell:
        return batch
    return (*batch, case.time) if case.batch_first else (case.time, *batch)


class Layout(NamedTuple):
    """The axes of tensors: (batch, time, features) or (time, batch, features), or unbatched.

    `states` maps a state, (layers · directions, batch, features), to its number of directions;
    `stacked` are time-first whatever `batch_first` says; `steps` counts a training's.
    """

    batch_first: bool = True
    batched: bool = True
    states: Mapping[str, int] = MappingProxyType({})
    stacked: Collection[str] = ()
    steps: int = 1


def layout(case: Case) -> Layout:
    """The axes of a case's tensors."""
    ways = case.structure.num_directions
    names = [] if case.cell else ["h_0", "c_0", "h_n", "c_n"]
    batched = case.batch is not None
    return Layout(case.batch_first and batched, batched, dict.fromkeys(names, ways))


def cut(of: Layout, params: Mapping[str, Any], name: str, shape: Sequence[int]) -> Cut:
    """Cuts a tensor: a weight's gates, a state's layers, time steps, a training's steps."""
    if of.steps > 1 and shape[:1] == (of.steps,) and not name.startswith("final "):
        return Cut(0, [f"step {t}" for t in range(of.steps)])
    tensor = re.sub("^(grad|hvp|final) ", "", name)
    if tensor in params and tensor != name:
        return Cut(0, [f"gate {gate}" for gate in _gates(params, tensor)] or [""])
    if len(shape) != 2 + of.batched:
        return Cut(0, [""], 0 if len(shape) and of.batched else None)
    if tensor in of.states or tensor.startswith(("h_", "c_")):
        return Cut(0, _cells(shape[0], of.states.get(tensor, 1)), 1 if of.batched else None)
    axis = int(of.batch_first and tensor not in of.stacked)
    return Cut(axis, [f"step {t}" for t in range(shape[axis])], 1 - axis if of.batched else None)


def _cells(count: int, directions: int) -> list[str]:
    """The labels of a state's rows."""
    ways = [""] if directions == 1 else [" forward", " backward"]
    return [f"layer {k // directions}{ways[k % directions]}" for k in range(count)]


def _gates(params: Mapping[str, Any], name: str) -> list[str]:
    """The gates that are stacked in a recurrent weight or bias of torch's."""
    recurrent = params.get(GATED.sub("weight_hh", name))
    if not GATED.search(name) or recurrent is None or recurrent.ndim != 2:
        return []
    rows, size = recurrent.shape
    size = params.get(GATED.sub("weight_hr", name), recurrent).shape[1]  # projected
    return GATES.get(rows // size, [])
