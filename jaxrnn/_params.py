"""Parameters and states: torch's, with its names, shapes, gate orders and both biases.

Parameters are torch's `state_dict`, unflattened on its dots. A single layer or cell has no dots, so
its parameters are a flat dict. `structure` reads off names and shapes what torch keeps in a
module's attributes: sizes, layers, directions, bias.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


GATES = {"rnn": 1, "gru": 3, "lstm": 4}


class LSTMState(NamedTuple):
    """An LSTM's state: `h` (torch's `h_n`) and `c` (`c_n`). RNN and GRU have one array, `h`."""

    h: Array
    c: Array


class Structure(NamedTuple):
    """A layer or cell, going by its parameters, in the words of `torch.nn.LSTM`'s arguments.

    `kind` is the jaxrnn function that takes them: `"rnn"`, `"lstm"`, `"gru"`, or one of these with
    `"_cell"`. With `layer_norm`, which torch does not have, the biases are those of the norms.
    """

    kind: str
    input_size: int
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    bidirectional: bool = False
    proj_size: int = 0
    layer_norm: bool = False

    @property
    def torch_name(self) -> str:
        """The class in `torch.nn`, such as LSTM or GRUCell."""
        if self.layer_norm:
            raise ValueError(f"torch.nn has no counterpart of a layer-normalised `{self.kind}`")
        cell, end, _ = self.kind.partition("_cell")
        return cell.upper() + ("Cell" if end else "")

    @property
    def gates(self) -> int:
        return GATES[self.kind.removesuffix("_cell")]

    @property
    def num_directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """Features of `h`: `proj_size` where there is a projection, else `hidden_size`."""
        return self.proj_size or self.hidden_size

    @property
    def suffixes(self) -> list[str]:
        """The ends of the names, one for each layer and direction, in the order of the states."""
        if self.kind.endswith("_cell"):
            return [""]
        ways = ["", "_reverse"][: self.num_directions]
        return [f"_l{layer}{way}" for layer in range(self.num_layers) for way in ways]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every parameter's name and shape, in torch's order."""
        rows, shapes = self.gates * self.hidden_size, {}
        norms = {"ln_ih": rows, "ln_hh": rows, "ln_c": self.hidden_size} if self.layer_norm else {}
        biases = (norms or {"ih": rows, "hh": rows}) if self.bias else {}
        for i, suffix in enumerate(self.suffixes):
            first = i < self.num_directions
            columns = self.input_size if first else self.num_directions * self.output_size
            shapes["weight_ih" + suffix] = (rows, columns)
            shapes["weight_hh" + suffix] = (rows, self.output_size)
            shapes |= {f"weight_{end}{suffix}": (size,) for end, size in norms.items()}
            shapes |= {f"bias_{end}{suffix}": (size,) for end, size in biases.items()}
            if self.proj_size:
                shapes["weight_hr" + suffix] = (self.proj_size, self.hidden_size)
        return shapes


def structure(params: Mapping[str, Any], kind: str | None = None) -> Structure:
    """Reads a layer's structure off its parameters; every name and shape must agree with it.

    Args:
        params: arrays under the names of `torch.nn.RNN`, `LSTM`, `GRU` or one of their cells; an
            LSTM that also has `weight_ln_ih` and so on is layer-normalised.
        kind: the kind that they must be (`"lstm"`, `"gru_cell"`, …). Without it, it is inferred:
            `weight_hh` has 1, 3 or 4 times hidden_size rows.

    Raises:
        TypeError: `params` is not a dict of arrays.
        ValueError: a key is missing, unexpected or misshapen, or they are of another kind.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html, under Variables

    >>> structure({"weight_ih_l0": np.ones((12, 5)), "weight_hh_l0": np.ones((12, 3))})[:4]
    ('lstm', 5, 3, 1)
    """
    if kind is not None and kind.removesuffix("_cell") not in GATES:
        raise ValueError(f"`kind` must be 'rnn', 'lstm', 'gru' or one of their cells, got {kind!r}")
    _check_arrays(params)
    numbers = [re.search(r"_l(\d+)(_reverse)?$", name) for name in params]
    layers = [int(match[1]) for match in numbers if match]
    if kind and kind.endswith("_cell") == bool(layers):
        raise ValueError(
            f"`{kind}` takes the parameters of a {'cell' if layers else 'layer'}, "
            f"`weight_ih{'' if layers else '_l0'}` and so on, got {listed(params)}"
        )
    s = _infer(params, "_l0" if layers else "", kind)._replace(
        num_layers=max(layers, default=0) + 1,
        bias=any(name.startswith("bias") for name in params),
        bidirectional=any(name.endswith("_reverse") for name in params),
    )
    wanted = s.shapes
    what = "the layer-normalised LSTM" if s.layer_norm else f"torch.nn.{s.torch_name}"
    missing = [name for name in wanted if name not in params]
    unexpected = [name for name in params if name not in wanted]
    if missing:
        raise ValueError(
            f"`params` has no `{missing[0]}`, which {what} with the other keys that were "
            f"given must have: {listed(params)}"
        )
    if unexpected:
        raise ValueError(
            f"`params` has the unexpected key `{unexpected[0]}`, which {what} has not: is it "
            "from another layer of the model?"
        )
    for name, shape in wanted.items():
        if params[name].shape != shape:
            raise ValueError(
                f"`{name}` has shape {params[name].shape}, wanted {shape} for {what} with "
                f"input_size={s.input_size}, hidden_size={s.hidden_size}, "
                f"proj_size={s.proj_size}: is it transposed, or from another layer?"
            )
    return s


def _check_arrays(params: Any) -> None:
    if not isinstance(params, Mapping):
        raise TypeError(
            f"`params` must be a dict of arrays under torch's names, got {type(params).__name__}: "
            "the arguments are (params, x, state)"
        )
    for name, value in params.items():
        if not isinstance(name, str):
            raise TypeError(f"`params` has the key {name!r}: keys are torch's names, strings")
        if isinstance(value, Mapping):
            layers = [key for key in params if _has_weights(params[key])]
            raise ValueError(
                f"`params` holds a dict under {name!r}, but a layer's parameters are arrays: pass "
                f"the layer's own dict, such as params[{(layers or [name])[0]!r}]"
            )
        if is_tensor(value):
            raise TypeError(f"`{name}` is a torch tensor: use jaxrnn.from_state_dict first")
        if not (hasattr(value, "shape") and hasattr(value, "dtype")):
            raise TypeError(f"`{name}` must be an array, got {type(value).__name__}")


def _has_weights(node: Any) -> bool:
    return isinstance(node, Mapping) and not {"weight_ih", "weight_ih_l0"}.isdisjoint(node)


def _infer(params: Mapping[str, Any], suffix: str, kind: str | None) -> Structure:
    """The kind and the sizes, as the first layer's weights suggest."""
    for name in ("weight_ih" + suffix, "weight_hh" + suffix):
        if name not in params:
            raise ValueError(f"`params` has no `{name}`, only {listed(params)}")
    for name in (f"weight_{end}{suffix}" for end in ("ih", "hh", "hr")):
        if name in params and len(params[name].shape) != 2:
            raise ValueError(f"`{name}` must have 2 axes, got shape {params[name].shape}")
    rows, columns = params["weight_hh" + suffix].shape
    proj_size, hidden_size = 0, columns
    if (projection := params.get("weight_hr" + suffix)) is not None:
        proj_size, hidden_size = projection.shape
        if not 0 < proj_size < hidden_size:
            raise ValueError(
                f"`weight_hr{suffix}` has shape {projection.shape}, that is (proj_size, "
                "hidden_size), but proj_size must be smaller than hidden_size: is it transposed?"
            )
    kinds = {gates * hidden_size: name for name, gates in GATES.items()}
    cell = kinds.get(rows)
    if cell is None or (proj_size and cell != "lstm"):
        raise ValueError(
            f"`weight_hh{suffix}` has shape {(rows, columns)}, but its rows must be 1 (RNN), 3 "
            f"(GRU) or 4 (LSTM) times hidden_size = {hidden_size}, and only an LSTM is projected: "
            f"is it transposed, or is `weight_hr{suffix}` missing?"
        )
    inferred = cell if suffix else cell + "_cell"
    if kind not in (None, inferred):
        raise ValueError(
            f"`{kind}` got the parameters of `{inferred}`: `weight_hh{suffix}` has shape "
            f"{(rows, columns)}, that is {GATES[cell]} × hidden_size rows"
        )
    input_size = params["weight_ih" + suffix].shape[1]
    norms = cell == "lstm" and any(name.startswith("weight_ln") for name in params)
    return Structure(inferred, input_size, hidden_size, proj_size=proj_size, layer_norm=norms)


def listed(names: Mapping[str, Any]) -> str:
    shown = ", ".join(f"`{name}`" for name in list(names)[:4])
    return (shown or "nothing") + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def from_state_dict(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """A torch module's `state_dict()` as parameters: copies, bit for bit, under the same names.

    Args:
        state_dict: names to torch tensors (of any device) or arrays. The array named
            `encoder.lstm.weight_ih_l0` is then `params["encoder"]["lstm"]["weight_ih_l0"]`.

    Returns:
        A dict of `jax.Array`, nested where names have dots.

    Raises:
        TypeError: a value is not a tensor (as in a whole training checkpoint), or JAX would store
            it in a narrower dtype because x64 is off.
        ValueError: a name is both a tensor's and the prefix of another, or is not a string.

    Source: https://docs.pytorch.org/docs/stable/notes/serialization.html

    >>> from_state_dict({"lstm.weight_ih_l0": np.ones(2, np.float32)})
    {'lstm': {'weight_ih_l0': Array([1., 1.], dtype=float32)}}
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            f"`state_dict` must be a dict of names to tensors, got {type(state_dict).__name__}: "
            "pass module.state_dict()"
        )
    params: dict[str, Any] = {}
    for name, value in state_dict.items():
        if not isinstance(name, str) or "" in name.split("."):
            raise ValueError(f"`state_dict` has the key {name!r}: keys are names joined by dots")
        *path, last = name.split(".")
        node = params
        for part in path:
            node = node.setdefault(part, {}) if isinstance(node, dict) else node
        if not isinstance(node, dict) or last in node:
            raise ValueError(f"`{name}` stands in the state_dict beside a tensor of the same path")
        node[last] = to_jax(name, value)
    return params


def to_state_dict(params: Mapping[str, Any]) -> dict[str, Any]:
    """Flattens parameters to torch's names; the inverse of `from_state_dict`.

    The arrays are passed on as they are. Into a torch module, bit for bit::

        state_dict = jaxrnn.to_state_dict(params)
        module.load_state_dict({k: torch.from_dlpack(v) for k, v in state_dict.items()})

    Raises:
        TypeError: `params` is not a dict.
        ValueError: a key is not a string, is empty, or has a dot.

    >>> to_state_dict({"fc": {"bias": 1.0}, "scale": 2.0})
    {'fc.bias': 1.0, 'scale': 2.0}
    """
    if not isinstance(params, Mapping):
        raise TypeError(f"`params` must be nested dicts of arrays, got {type(params).__name__}")
    return dict(_flatten(params, ""))


def is_tensor(value: Any) -> bool:
    """Whether this is a torch tensor, without importing torch."""
    return any(base.__module__.partition(".")[0] == "torch" for base in type(value).__mro__)


def _flatten(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if not isinstance(key, str) or not key or "." in key:
            raise ValueError(f"`params` has the key {key!r}: keys are strings without dots")
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def to_jax(name: str, value: Any) -> Array:
    if not hasattr(value, "dtype"):
        raise TypeError(
            f"`{name}` is no tensor but of type {type(value).__name__}: is this a training "
            "checkpoint? Pass the state_dict in it, such as checkpoint['model_state_dict']"
        )
    try:
        value = _to_numpy(value) if is_tensor(value) else value
        array = jnp.array(value)  # a copy, because torch's optimisers write in place
    except (TypeError, NotImplementedError) as error:
        raise TypeError(
            f"`{name}` of dtype {value.dtype} cannot become a JAX array: cast it, or leave it out"
        ) from error
    whole = jnp.issubdtype(array.dtype, jnp.integer) and np.array_equal(array, value)
    if array.dtype != value.dtype and not whole:
        raise TypeError(
            f"`{name}` is {value.dtype}, which JAX would store as {array.dtype}: call "
            "jax.config.update('jax_enable_x64', True) first, or cast it yourself"
        )
    return array


def _to_numpy(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().cpu()
    if str(tensor.dtype) != "torch.bfloat16":
        return tensor.numpy()
    # numpy cannot take torch's bfloat16, but its bits as int16: no cast that might alter a NaN.
    return tensor.view(tensor.short().dtype).numpy().view(jnp.bfloat16)
