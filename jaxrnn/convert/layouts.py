"""Where other frameworks keep the weights of their cells, as one table, read in both directions."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._check import check_dtype, check_same_dtype, is_traced
from .._params import listed, structure, to_jax


Parts = dict[tuple[str, str], Array]  # by tensor and gate

TORCH = {"rnn": "h", "gru": "rzn", "lstm": "ifgo"}  # its gates, in its order


class Layout(NamedTuple):
    """The arrays of a framework's cell: which of torch's tensors each is, and how it lies there.

    A name with braces stands for one array for each gate; without, one has all gates in the order
    of `gates`. `bias` is both of torch's in one, but for the b_hn of a GRU, which the reset gate
    multiplies; that alone is `bias_n`.
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
        found = {}
        for name, tensor in self.arrays.items():
            gates = self.gates if "{}" in name else [self.gates]
            found |= {name.format(gate): (tensor, gate) for gate in gates}
        alone = {name: ("bias_hh", "n") for name, (of, _) in found.items() if of == "bias_n"}
        return found | alone

    def slots_of(self, biased: bool) -> dict[str, tuple[str, str]]:
        """Those that a cell with or without biases has."""
        biases = self.of("bias")
        return {name: slot for name, slot in self.slots.items() if biased or name not in biases}

    def turned(self, shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """Torch's shape as the framework's, and back."""
        return shape[::-1] if self.transposed else shape

    def of(self, tensor: str) -> list[str]:
        """The names of the arrays of a tensor, or of all whose names begin so."""
        return [name for name, (found, _) in self.slots.items() if found.startswith(tensor)]


_GATES = {"i{}.kernel": "weight_ih", "h{}.kernel": "weight_hh"}
_SIMPLE = {"i.kernel": "weight_ih", "h.kernel": "weight_hh", "i.bias": "bias"}
_DENSE = {"dense_i.kernel": "weight_ih", "dense_h.kernel": "weight_hh"}
_LINEAR = {"linear.w[:-H]": "weight_ih", "linear.w[-H:]": "weight_hh", "linear.b": "bias"}
_FIRST = {"linear.w": "weight_ih", "linear.b": "bias_ih"}
_SECOND = {"linear_1.w": "weight_hh", "linear_1.b": "bias_hh"}
_TORCH = {"weight_ih": "weight_ih", "weight_hh": "weight_hh", "bias": "bias"}
_KERAS = {"kernel": "weight_ih", "recurrent_kernel": "weight_hh"}
_ONNX = {"W": "weight_ih", "R": "weight_hh"}
_BOTH = {"bias[0]": "bias_ih", "bias[1]": "bias_hh"}
_PLAIN: Any = {"transposed": False, "needs_bias": False}

LAYOUTS = {
    "linen": [
        Layout("LSTMCell", "lstm", "ifgo", _GATES | {"h{}.bias": "bias"}),
        Layout("GRUCell", "gru", "rzn", _GATES | {"i{}.bias": "bias", "hn.bias": "bias_n"}),
        Layout("SimpleCell", "rnn", "h", _SIMPLE),
    ],
    "nnx": [
        Layout("OptimizedLSTMCell", "lstm", "ifgo", _DENSE | {"dense_h.bias": "bias"}),
        Layout("LSTMCell", "lstm", "ifgo", _GATES | {"h{}.bias": "bias"}),
        Layout("GRUCell", "gru", "rzn", _DENSE | {"dense_i.bias": "bias"}),
        Layout("SimpleCell", "rnn", "h", _DENSE | {"dense_i.bias": "bias"}),
    ],
    "haiku": [
        Layout("LSTM", "lstm", "igfo", _LINEAR, forget=1.0),
        Layout("VanillaRNN", "rnn", "h", _FIRST | _SECOND),
    ],
    "equinox": [
        Layout("LSTMCell", "lstm", "ifgo", _TORCH, **_PLAIN),
        Layout("GRUCell", "gru", "rzn", _TORCH | {"bias_n": "bias_n"}, **_PLAIN),
    ],
    "keras": [
        Layout("LSTM", "lstm", "ifgo", _KERAS | {"bias": "bias"}, needs_bias=False),
        Layout("GRU", "gru", "zrn", _KERAS | _BOTH, needs_bias=False),
        Layout("SimpleRNN", "rnn", "h", _KERAS | {"bias": "bias"}, needs_bias=False),
    ],
    "ONNX": [
        Layout("LSTM", "lstm", "iofg", _ONNX | _BOTH, **_PLAIN),
        Layout("GRU", "gru", "zrn", _ONNX | _BOTH, **_PLAIN),
        Layout("RNN", "rnn", "h", _ONNX | _BOTH, **_PLAIN),
    ],
}
RESETS = "it resets before the product with the hidden weights, torch's after it: another function"
ABSENT = {("haiku", "gru"): RESETS, ("equinox", "rnn"): "it has an LSTMCell and a GRUCell only"}


def items(weights: Any) -> Any:
    if not isinstance(weights, Mapping):
        raise TypeError(f"`weights` must be a dict of arrays, got {type(weights).__name__}")
    if odd := [name for name in weights if not isinstance(name, str)]:
        raise TypeError(f"`weights` has the key {odd[0]!r}: keys are names, strings")
    return weights.items()


def nested(framework: str, weights: Any) -> dict[str, Array]:
    """Arrays of one cell by their path, joined by dots."""
    paths = {".".join(map(str, path)): (path, a) for path, a in _leaves(dict(items(weights)))}
    if not _named(framework, paths):  # rather than of the dtypes of what else a model holds
        for name, (path, _) in paths.items():
            for weight in {each.of("weight_ih")[0] for each in LAYOUTS[framework]}:
                if name.endswith(f".{weight}"):
                    own = "".join(f"[{key!r}]" for key in path[: -len(weight.split("."))])
                    raise ValueError(
                        f"`weights` are of a whole model, got {listed(paths)}: pass those of one "
                        f"cell, such as weights{own}"
                    )
    return arrays_of({name: a for name, (_, a) in paths.items()})


def _leaves(node: Mapping[Any, Any]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    for key, value in node.items():
        inner = _leaves(value) if isinstance(value, Mapping) else [((), value)]
        yield from (((key, *path), a) for path, a in inner)


def _named(framework: str, names: Mapping[str, Any]) -> list[Layout]:
    """Those whose weights are there."""
    return [each for each in LAYOUTS[framework] if names.keys() >= {*each.of("weight")}]


def arrays_of(weights: Any) -> dict[str, Array]:
    """As JAX's, of one floating dtype."""
    for name, a in items(weights):
        if not hasattr(a, "dtype"):
            raise TypeError(f"`{name}` must be an array, got {type(a).__name__}")
    found = {name: to_jax(name, a) for name, a in weights.items()}
    for name, a in found.items():
        first, b = next(iter(found.items()))
        check_dtype(name, a.dtype, jnp.floating, "floating")
        check_same_dtype(f"`{name}`", a, f"`{first}`", b)
        if a.ndim == 0:
            raise ValueError(f"`{name}` must be an array, got a single number")
    return found


def zero(name: str, a: Array, why: str) -> Array:
    """0, but NaN if `a` is not 0 and its values are traced, so that they cannot be refused."""
    if not is_traced(a) and np.any(np.asarray(a) != 0):
        raise ValueError(f"`{name}` is not 0, but {why}")
    return jnp.where(jnp.any(a != 0), jnp.nan, 0).astype(a.dtype)


def layout_of(framework: str, arrays: Mapping[str, Array]) -> Layout:
    """That of the cell whose arrays they are, as names and shapes tell."""
    named = _named(framework, arrays)
    if not named:
        names = ", ".join(each.name for each in LAYOUTS[framework])
        raise ValueError(
            f"`weights` must be the arrays of one cell of {framework} ({names}), got "
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
    times = ", ".join(f"{len(each.gates)} ({each.name})" for each in named)
    raise ValueError(
        f"`{name}` has shape {arrays[name].shape}, wanted {shown(wanted)}, where k is {times}: is "
        "it transposed?"
    )


def shown(shape: tuple[Any, ...]) -> str:
    """A shape of numbers and of words."""
    return f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"


def check_shape(name: str, a: Array, wanted: tuple[Any, ...], what: str) -> None:
    """Of `wanted`, words stand for any number."""
    sizes = zip(a.shape, wanted, strict=False)
    if a.ndim != len(wanted) or any(n != size and not isinstance(size, str) for n, size in sizes):
        raise ValueError(
            f"`{name}` has shape {a.shape}, wanted {shown(wanted)} for {what}: is it transposed, "
            "or from another cell?"
        )


def read(framework: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """A framework's arrays as torch's."""
    layout = layout_of(framework, arrays)
    biased = layout.needs_bias or not arrays.keys().isdisjoint(layout.of("bias"))
    slots = layout.slots_of(biased)
    what = f"{framework}'s {layout.name}"
    if missing := [name for name in slots if name not in arrays]:
        raise ValueError(f"`weights` has no `{missing[0]}`, which {what} has: {listed(arrays)}")
    if unexpected := [name for name in arrays if name not in slots]:
        raise ValueError(
            f"`weights` has the unexpected key `{unexpected[0]}`, which {what} has not"
        )
    columns = lambda tensor: layout.turned(arrays[layout.of(tensor)[0]].shape)[-1]
    hidden, dtype = columns("weight_hh"), next(iter(arrays.values())).dtype
    own = {("bias_hh", gate): layout.forget * (gate == "f") for gate in layout.gates}
    parts: Parts = {part: jnp.full(hidden, value, dtype) for part, value in own.items()}
    first = layout.of("weight_ih")[0]
    sizes = {"weight_ih": [columns("weight_ih")], "weight_hh": [hidden]}
    for name, (tensor, gates) in slots.items():
        size = ["input_size"] if name == first else sizes.get(tensor, [])
        wanted = layout.turned((len(gates) * hidden, *size))
        check_shape(name, arrays[name], wanted, f"{what} with hidden_size={hidden}")
        a = arrays[name].T if layout.transposed else arrays[name]
        parts |= _split("bias_ih" if tensor == "bias" else tensor, gates, a)
    tensors = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if biased else [])]
    return {name: _join(parts, name, TORCH[layout.kind]) for name in tensors}


def write(framework: str, params: Mapping[str, Any], choice: int = 0) -> dict[str, Array]:
    """Torch's arrays as a framework's, of whose cells of that kind `choice` is one."""
    s = structure(params)
    kind, cell, _ = s.kind.partition("_cell")
    if not cell:
        raise ValueError(
            f"`params` must be a cell's, such as `weight_ih`, got {listed(params)}: take the layer "
            "apart with `cells`"
        )
    if s.proj_size or s.layer_norm:
        what = "projected" if s.proj_size else "layer-normalised"
        raise ValueError(f"`params` are of a {what} LSTM, which {framework} has not")
    layouts = [layout for layout in LAYOUTS[framework] if layout.kind == kind]
    if not layouts:
        name = kind.upper()
        raise ValueError(f"{framework} has no {name} like torch's: {ABSENT[framework, kind]}")
    layout, arrays = layouts[choice], arrays_of(params)
    zeros = jnp.zeros(s.gates * s.hidden_size, arrays["weight_hh"].dtype)
    parts: Parts = {}
    for name, a in ({"bias_ih": zeros, "bias_hh": zeros} | arrays).items():
        parts |= _split(name, TORCH[kind], a)
    for gate in layout.gates:
        # In this order, so that a bias that `read` has taken apart comes back to the last bit.
        rest = parts["bias_hh", gate] - layout.forget * (gate == "f")
        parts["bias", gate] = parts["bias_ih", gate] + (0 if gate == "n" else rest)
    if kind == "gru" and not layout.of("bias_hh"):
        why = f"{framework}'s GRU has no b_hn, the last third of it"
        parts["bias", "n"] += zero("bias_hh", parts["bias_hh", "n"], why)
    slots = layout.slots_of(s.bias or layout.needs_bias)
    found = {name: _join(parts, *slot) for name, slot in slots.items()}
    return {name: a.T if layout.transposed else a for name, a in found.items()}


def _split(tensor: str, gates: str, a: Array) -> Parts:
    return dict(zip(((tensor, gate) for gate in gates), jnp.split(a, len(gates)), strict=True))


def _join(parts: Parts, tensor: str, gates: str) -> Array:
    return jnp.concatenate([parts[tensor, gate] for gate in gates])
