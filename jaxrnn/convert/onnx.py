"""Nodes of ONNX."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from .._params import listed, structure
from .layers import check_list
from .layouts import (
    RESETS,
    Framework,
    Layout,
    arrays_of,
    check_shape,
    items,
    layout_of,
    read,
    write,
    zero,
)


ARRAYS = {"W": "weight_ih", "R": "weight_hh", "bias[0]": "bias_ih", "bias[1]": "bias_hh"}
AS_TORCH: Any = {"transposed": False, "needs_bias": False}
ONNX = Framework(
    "ONNX",
    [
        Layout("LSTM", "lstm", "iofg", ARRAYS, **AS_TORCH),
        Layout("GRU", "gru", "zrn", ARRAYS, **AS_TORCH),
        Layout("RNN", "rnn", "h", ARRAYS, **AS_TORCH),
    ],
)
DIRECTIONS = {"forward": 1, "bidirectional": 2}
# Attributes that leave the function as it is, and those that do so only if empty or usual.
HARMLESS = ("direction", "hidden_size", "layout", "output_sequence")
OTHERS = ("activations", "activation_alpha", "activation_beta", "clip", "input_forget")
ACTIVATIONS = {
    "rnn": [["tanh"], ["relu"]],
    "gru": [["sigmoid", "tanh"]],
    "lstm": [["sigmoid", "tanh", "tanh"]],
}


def from_onnx(
    weights: Mapping[str, ArrayLike], *, linear_before_reset: int = 0, **attributes: Any
) -> list[dict[str, Array]]:
    """Reads a node of ONNX: LSTM, GRU, RNN.

    For each direction, W_ih = W, W_hh = R, [b_ih b_hh] = B, with the gates in another order: i, o,
    f, g of an LSTM, z, r, n of a GRU.

    Args:
        weights: its tensors `W`, `R` and, if it has them, `B` and `P`; `None` is none.
        linear_before_reset: of a GRU: 0, which is ONNX's default, is another function.
        attributes: the node's others, which may make it another function too, or not fit the
            weights: `direction`, `activations`, `clip`, `input_forget`, …

    Returns:
        A cell, as of `from_equinox`, for each direction, as `stack` takes them.

    Raises:
        ValueError: a GRU that resets before the product; peepholes that are not 0; a node that only
            goes backwards, which no layer of torch does; an attribute that makes it another
            function, that contradicts the weights, or that no node has; and as `from_linen`.
        TypeError: as `from_linen`.

    Source: https://onnx.ai/onnx/operators/onnx__LSTM.html

    >>> [cell] = from_onnx({"W": jnp.ones((1, 4, 3)), "R": jnp.ones((1, 4, 1))})
    >>> cell["weight_ih"].shape
    (4, 3)
    """
    arrays = arrays_of({name: a for name, a in items(weights) if a is not None})
    layout = _check_arrays(arrays)
    plain = {name: _plain(value) for name, value in attributes.items() if value is not None}
    directions, _, hidden = arrays["R"].shape
    _check_fit(layout, directions, hidden, plain)
    _check_function(layout, directions, plain)
    if layout.kind == "gru" and not linear_before_reset:
        raise ValueError(f"`linear_before_reset` is 0, as it is by default: {RESETS}")
    if "P" in arrays:
        poison = zero("P", arrays.pop("P"), "torch's LSTM has no peepholes")
        arrays = {name: a + poison for name, a in arrays.items()}
    if "B" in arrays:
        arrays["bias[0]"], arrays["bias[1]"] = jnp.split(arrays.pop("B"), 2, axis=1)
    return [read(ONNX, {name: a[k] for name, a in arrays.items()}) for k in range(directions)]


def to_onnx(cells: Sequence[Mapping[str, ArrayLike]]) -> dict[str, Array]:
    """The inverse of `from_onnx`: `W`, `R` and, unless there is none, `B`.

    A GRU's node needs `linear_before_reset=1`, an RNN's of relu `activations=["Relu"]` for each
    direction.

    Args:
        cells: one of torch's cells, or two, forward and backward.

    Raises:
        ValueError: more cells, or two that differ in their shapes; and as `to_linen`.
        TypeError: as `to_linen`.

    Source: https://onnx.ai/onnx/operators/onnx__LSTM.html

    >>> cell = {"weight_ih": jnp.ones((4, 3)), "weight_hh": jnp.ones((4, 1))}
    >>> to_onnx([cell, cell])["W"].shape
    (2, 4, 3)
    """
    check_list(cells)
    if len(cells) not in (1, 2):
        raise ValueError(
            "`cells` must be one cell, or two, forward and backward, got "
            f"{len(cells)}: a node has one layer"
        )
    first, last = structure(cells[0])._asdict(), structure(cells[-1])._asdict()
    for field in first:
        if first[field] != last[field]:
            raise ValueError(
                f"`cells` must be alike, forward and backward, got {field} {first[field]} and "
                f"{last[field]}: layers on one another are a node each"
            )
    ways = [write(ONNX, cell) for cell in cells]
    for way in ways:
        if "bias[0]" in way:
            way["B"] = jnp.concatenate([way.pop("bias[0]"), way.pop("bias[1]")])
    return {name: jnp.stack([way[name] for way in ways]) for name in ways[0]}


def _check_arrays(arrays: Mapping[str, Array]) -> Layout:
    """Returns the layout of a node's arrays; each must have its shape."""
    if missing := [name for name in ("W", "R") if name not in arrays]:
        raise ValueError(f"`weights` has no `{missing[0]}`, only {listed(arrays)}")
    for name in "WR":
        if (a := arrays[name]).ndim != 3 or len(a) not in (1, 2):
            raise ValueError(
                f"`{name}` has shape {a.shape}, wanted 3 axes, of which the first is the 1 or 2 "
                "directions"
            )
    layout = layout_of(ONNX, arrays)
    directions, rows, hidden = arrays["R"].shape
    wanted = {"W": (rows, "input_size"), "R": (rows, hidden), "B": (2 * rows,)}
    wanted |= {"P": (3 * hidden,)} if layout.kind == "lstm" else {}
    what = f"ONNX's {layout.name} with {directions} directions and hidden_size={hidden}"
    for name, a in arrays.items():
        if name not in wanted:
            raise ValueError(
                f"`weights` has the unexpected key `{name}`, which ONNX's {layout.name} has not"
            )
        check_shape(name, a, (directions, *wanted[name]), what)
    return layout


def _plain(value: Any) -> Any:
    """A node's attribute as text, a number, or a list of these."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value.decode() if isinstance(value, bytes) else value


def _check_fit(layout: Layout, directions: int, hidden: int, attributes: dict[str, Any]) -> None:
    """A node's attributes must be known, and fit its weights."""
    for name in attributes:
        if name not in HARMLESS + OTHERS:
            raise ValueError(f"`{name}` is no attribute of ONNX's {layout.name}")
    if (way := attributes.get("direction")) == "reverse":
        raise ValueError(
            "`direction` is reverse, but no layer of torch only goes backwards: leave it out, and "
            "flip x and y over time"
        )
    if way is not None and way not in [*DIRECTIONS]:
        raise ValueError(f"`direction` must be 'forward' or 'bidirectional', got {way!r}")
    if way is not None and DIRECTIONS[way] != directions:
        raise ValueError(f"`direction` is {way}, but `W` and `R` have {directions} of them")
    if (size := attributes.get("hidden_size", hidden)) != hidden:
        raise ValueError(f"`hidden_size` is {size}, but `R` has that of {hidden}")
    if attributes.get("layout", 0) not in (0, 1):
        raise ValueError(f"`layout` must be 0 or 1, got {attributes['layout']}")


def _check_function(layout: Layout, directions: int, attributes: dict[str, Any]) -> None:
    """A node's attributes must not make it another function than torch's."""
    for name, value in attributes.items():
        usual = name in HARMLESS or not value
        if name == "activations" and value:
            if not (isinstance(value, list) and all(isinstance(each, str) for each in value)):
                raise TypeError(f"`activations` must be a list of names, got {value!r}")
            names = [each.lower() for each in value]
            usual = names in [directions * each for each in ACTIVATIONS[layout.kind]]
        if not usual:
            raise ValueError(
                f"`{name}` is {value}: another function than torch's {layout.kind.upper()}"
            )
