"""Where other frameworks keep the weights of their cells, as tables read in both directions."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._check import check_dtype, check_same_dtype, is_traced
from .._params import Structure, listed, structure, to_jax


Parts = dict[tuple[str, str], Array]  # the rows of one gate, by tensor and gate
Shape = tuple[Any, ...]  # of numbers, and of words where any number is right

TORCH = {"rnn": "h", "gru": "rzn", "lstm": "ifgo"}  # its gates, in its order
RESETS = "it resets before the product with the hidden weights, torch's after it: another function"


class Layout(NamedTuple):
    """The arrays of a framework's cell: which of torch's tensors each is, and how it is stored.

    A name with braces stands for one array for each gate; without, one array has all gates in the
    order of `gates`. `bias` is the sum of torch's two, except for the b_hn of a GRU, which the
    reset gate multiplies; that alone is `bias_n`.
    """

    name: str
    kind: str
    gates: str
    arrays: dict[str, str]
    transposed: bool = True  # weights are (features, gates · hidden_size)
    needs_bias: bool = True
    forget: float = 0.0  # what the cell itself adds to its forget gate

    @property
    def slots(self) -> dict[str, tuple[str, str]]:
        """Every array's name, with its tensor and gates."""
        slots = {}
        for name, tensor in self.arrays.items():
            for gates in self.gates if "{}" in name else [self.gates]:
                alone = tensor == "bias_n"
                slots[name.format(gates)] = ("bias_hh", "n") if alone else (tensor, gates)
        return slots

    def slots_of(self, biased: bool) -> dict[str, tuple[str, str]]:
        """The slots of a cell with or without biases."""
        return {n: slot for n, slot in self.slots.items() if biased or slot[0].startswith("weight")}

    def turned(self, shape: Shape) -> Shape:
        """Torch's shape as the framework's, and back."""
        return shape[::-1] if self.transposed else shape

    def of(self, tensor: str) -> list[str]:
        """The names of a tensor's arrays, or of all tensors whose names begin so."""
        return [name for name, (found, _) in self.slots.items() if found.startswith(tensor)]


class Framework(NamedTuple):
    """A framework's cells that compute what torch's do.

    Attributes:
        name: the framework, in messages.
        cells: of several cells of a kind, the first is the one to write.
        absent: the kinds without such a cell, and why.
    """

    name: str
    cells: list[Layout]
    absent: Mapping[str, str] = {}


def items(weights: Any) -> Any:
    if not isinstance(weights, Mapping):
        raise TypeError(f"`weights` must be a dict of arrays, got {type(weights).__name__}")
    if odd := [name for name in weights if not isinstance(name, str)]:
        raise TypeError(f"`weights` has the key {odd[0]!r}: keys are names, strings")
    return weights.items()


def nested(framework: Framework, weights: Any) -> dict[str, Array]:
    """The arrays of one cell by their path, joined by dots."""
    paths = {".".join(map(str, path)): (path, a) for path, a in _leaves(dict(items(weights)))}
    if not _named(framework, paths):  # before the dtypes of whatever else a model holds
        for name, (path, _) in paths.items():
            for weight in {layout.of("weight_ih")[0] for layout in framework.cells}:
                if name.endswith(f".{weight}"):
                    cell = "".join(f"[{key!r}]" for key in path[: -len(weight.split("."))])
                    raise ValueError(
                        f"`weights` are of a whole model, got {listed(paths)}: pass those of one "
                        f"cell, such as weights{cell}"
                    )
    return arrays_of({name: a for name, (_, a) in paths.items()})


def _leaves(node: Mapping[Any, Any]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    for key, value in node.items():
        inner = _leaves(value) if isinstance(value, Mapping) else [((), value)]
        yield from (((key, *path), a) for path, a in inner)


def _named(framework: Framework, names: Mapping[str, Any]) -> list[Layout]:
    """The layouts whose weights are all there."""
    return [layout for layout in framework.cells if names.keys() >= {*layout.of("weight")}]


def arrays_of(weights: Any) -> dict[str, Array]:
    """JAX arrays of one floating dtype."""
    for name, a in items(weights):
        if not hasattr(a, "dtype"):
            raise TypeError(f"`{name}` must be an array, got {type(a).__name__}")
    arrays = {name: to_jax(name, a) for name, a in weights.items()}
    for name, a in arrays.items():
        first = next(iter(arrays))
        check_dtype(name, a.dtype, jnp.floating, "floating")
        check_same_dtype(f"`{name}`", a, f"`{first}`", arrays[first])
        if a.ndim == 0:
            raise ValueError(f"`{name}` must be an array, got a single number")
    return arrays


def zero(name: str, a: Array, why: str) -> Array:
    """0; NaN if `a` is not 0 and traced, so that it cannot be refused."""
    if not is_traced(a) and np.any(np.asarray(a) != 0):
        raise ValueError(f"`{name}` is not 0, but {why}")
    return jnp.where(jnp.any(a != 0), jnp.nan, 0).astype(a.dtype)


def layout_of(framework: Framework, arrays: Mapping[str, Array]) -> Layout:
    """The layout of the cell that has these arrays, going by names and shapes."""
    named = _named(framework, arrays)
    if not named:
        names = ", ".join(layout.name for layout in framework.cells)
        raise ValueError(
            f"`weights` must be the arrays of one cell of {framework.name} ({names}), got "
            f"{listed(arrays)}: are they of another layer, or of a cell that torch has not?"
        )
    if len(named) == 1:
        return named[0]
    name = named[0].of("weight_hh")[0]
    lead, shape = arrays[name].shape[:-2], arrays[name].shape[-2:]  # ONNX's directions lead
    for layout in named:
        if shape == layout.turned((len(layout.gates) * min(shape), min(shape))):
            return layout
    wanted = (*lead, *named[0].turned(("k · hidden_size", "hidden_size")))
    times = ", ".join(f"{len(layout.gates)} ({layout.name})" for layout in named)
    raise ValueError(
        f"`{name}` has shape {arrays[name].shape}, wanted {shown(wanted)}, where k is {times}: is "
        "it transposed?"
    )


def shown(shape: Shape) -> str:
    return f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"


def check_shape(name: str, a: Array, wanted: Shape, what: str) -> None:
    sizes = zip(a.shape, wanted, strict=False)
    if a.ndim != len(wanted) or any(n != size and not isinstance(size, str) for n, size in sizes):
        raise ValueError(
            f"`{name}` has shape {a.shape}, wanted {shown(wanted)} for {what}: is it transposed, "
            "or from another cell?"
        )


def read(framework: Framework, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """A framework's arrays as torch's."""
    layout = layout_of(framework, arrays)
    biased = layout.needs_bias or not arrays.keys().isdisjoint(layout.of("bias"))
    slots, what = layout.slots_of(biased), f"{framework.name}'s {layout.name}"
    if missing := [name for name in slots if name not in arrays]:
        raise ValueError(f"`weights` has no `{missing[0]}`, which {what} has: {listed(arrays)}")
    if unexpected := [name for name in arrays if name not in slots]:
        raise ValueError(
            f"`weights` has the unexpected key `{unexpected[0]}`, which {what} has not"
        )
    weight = arrays[layout.of("weight_hh")[0]]
    hidden = layout.turned(weight.shape)[-1]
    for name, wanted in _shapes(layout, slots, arrays, hidden).items():
        check_shape(name, arrays[name], wanted, f"{what} with hidden_size={hidden}")
    constants = {("bias_hh", gate): layout.forget * (gate == "f") for gate in layout.gates}
    parts: Parts = {slot: jnp.full(hidden, c, weight.dtype) for slot, c in constants.items()}
    for name, (tensor, gates) in slots.items():
        a = arrays[name].T if layout.transposed else arrays[name]
        parts |= _split("bias_ih" if tensor == "bias" else tensor, gates, a)
    tensors = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if biased else [])]
    return {name: _join(parts, name, TORCH[layout.kind]) for name in tensors}


def _shapes(
    layout: Layout, slots: Mapping[str, Any], arrays: Mapping[str, Array], hidden: int
) -> dict[str, Shape]:
    """The shapes that a cell's arrays must have; the first `weight_ih` sets the input size."""
    first = layout.of("weight_ih")[0]
    columns = {"weight_ih": [layout.turned(arrays[first].shape)[-1]], "weight_hh": [hidden]}
    shapes = {}
    for name, (tensor, gates) in slots.items():
        size = ["input_size"] if name == first else columns.get(tensor, [])
        shapes[name] = layout.turned((len(gates) * hidden, *size))
    return shapes


def write(framework: Framework, params: Mapping[str, Any]) -> dict[str, Array]:
    """Torch's arrays as a framework's."""
    s = _cell_structure(framework, params)
    kind = s.kind.removesuffix("_cell")
    layouts = [layout for layout in framework.cells if layout.kind == kind]
    if not layouts:
        why = framework.absent[kind]
        raise ValueError(f"{framework.name} has no {kind.upper()} like torch's: {why}")
    layout, arrays = layouts[0], arrays_of(params)
    zeros = jnp.zeros(s.gates * s.hidden_size, arrays["weight_hh"].dtype)
    parts: Parts = {}
    for name, a in ({"bias_ih": zeros, "bias_hh": zeros} | arrays).items():
        parts |= _split(name, TORCH[kind], a)
    for gate in layout.gates:
        # In this order, so that a bias that `read` has taken apart comes back to the last bit.
        rest = parts["bias_hh", gate] - layout.forget * (gate == "f")
        parts["bias", gate] = parts["bias_ih", gate] + (0 if gate == "n" else rest)
    if kind == "gru" and not layout.of("bias_hh"):
        why = f"{framework.name}'s GRU has no b_hn, the last third of it"
        parts["bias", "n"] += zero("bias_hh", parts["bias_hh", "n"], why)
    slots = layout.slots_of(s.bias or layout.needs_bias)
    joined = {name: _join(parts, tensor, gates) for name, (tensor, gates) in slots.items()}
    return {name: a.T if layout.transposed else a for name, a in joined.items()}


def _cell_structure(framework: Framework, params: Mapping[str, Any]) -> Structure:
    s = structure(params)
    if not s.kind.endswith("_cell"):
        raise ValueError(
            f"`params` must be a cell's, such as `weight_ih`, got {listed(params)}: take the layer "
            "apart with `cells`"
        )
    if s.proj_size or s.layer_norm:
        what = "projected" if s.proj_size else "layer-normalised"
        raise ValueError(f"`params` are of a {what} LSTM, which {framework.name} has not")
    return s


def _split(tensor: str, gates: str, a: Array) -> Parts:
    return dict(zip(((tensor, gate) for gate in gates), jnp.split(a, len(gates)), strict=True))


def _join(parts: Parts, tensor: str, gates: str) -> Array:
    return jnp.concatenate([parts[tensor, gate] for gate in gates])
