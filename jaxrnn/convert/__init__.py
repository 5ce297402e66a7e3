"""Weights of other frameworks' cells as torch's parameters, and back; imports none of them.

A framework's cell becomes one of torch; `stack` makes a layer of cells, `cells` takes it apart::

    cell = convert.from_keras(layer.get_weights())          # for jaxrnn.lstm_cell(cell, x, state)
    params = convert.stack([forward, backward], bidirectional=True)     # for jaxrnn.lstm(params, x)
    weights = [convert.to_keras(cell) for cell in convert.cells(params)]

What is the same function is converted, and can be differentiated; what is not is refused, with the
reason. Where a framework has one bias, it becomes `bias_ih`, beside a `bias_hh` of zeros; the other
way, both are added. Weights say nothing of activations: these must be the framework's defaults, and
of an RNN the same on both sides.

Under `jit` no value can be refused: where one is not 0 that must be, what comes out is NaN.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from .layouts import (
    RESETS,
    Layout,
    arrays_of,
    check_shape,
    items,
    layout_of,
    nested,
    read,
    shown,
    write,
    zero,
)
from .._params import from_state_dict, listed, structure


_KEYWORD = {"if": "if_", "if_": "if"}  # which nnx cannot have as an attribute
DIRECTIONS = {"forward": 1, "bidirectional": 2}
HARMLESS = ("direction", "hidden_size", "layout", "output_sequence")  # attributes of ONNX
OTHERS = ("activations", "activation_alpha", "activation_beta", "clip", "input_forget")
ACTIVATIONS = {
    "rnn": [["tanh"], ["relu"]],
    "gru": [["sigmoid", "tanh"]],
    "lstm": [["sigmoid", "tanh", "tanh"]],
}


def cells(params: Mapping[str, ArrayLike]) -> list[dict[str, Any]]:
    """The cells of a layer, under the names of torch's cells: layer by layer, forward, backward.

    Raises:
        ValueError, TypeError: `params` are no layer's, as `jaxrnn.structure` says.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html, under Variables

    >>> ones = {"weight_ih": jnp.ones((3, 3)), "weight_hh": jnp.ones((3, 3))}
    >>> [list(cell) for cell in cells(stack([ones, ones]))]
    [['weight_ih', 'weight_hh'], ['weight_ih', 'weight_hh']]
    """
    s = structure(params)
    own = lambda end: [name for name in s.shapes if name.endswith(end)]
    return [{name.removesuffix(end): params[name] for name in own(end)} for end in s.suffixes]


def stack(
    cells: Sequence[Mapping[str, ArrayLike]], *, bidirectional: bool = False
) -> dict[str, Any]:
    """A layer of cells, for `jaxrnn.rnn`, `lstm` or `gru`; the inverse of `cells`.

    Args:
        cells: parameters of torch's cells, layer by layer.
        bidirectional: they come in pairs, forward and backward.

    Raises:
        ValueError: they do not fit on one another, or are no pairs.
        TypeError: `cells` is no list.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html, under Variables

    >>> ones = {"weight_ih": jnp.ones((3, 3)), "weight_hh": jnp.ones((3, 3))}
    >>> list(stack([ones, ones], bidirectional=True))[2:]
    ['weight_ih_l0_reverse', 'weight_hh_l0_reverse']
    """
    _check_list(cells)
    ways = ["", "_reverse"][: 1 + bidirectional]
    if not cells or len(cells) % len(ways):
        wanted = "pairs of cells, forward and backward" if bidirectional else "at least one cell"
        raise ValueError(f"`cells` must be {wanted}, got {len(cells)}")
    params = {
        f"{name}_l{k // len(ways)}{ways[k % len(ways)]}": value
        for k, cell in enumerate(cells)
        for name, value in cell.items()
    }
    structure(params)
    return params


def _check_list(cells: Any) -> None:
    listed = isinstance(cells, Sequence)
    odd = [cell for cell in cells if not isinstance(cell, Mapping)] if listed else [cells]
    if odd:
        raise TypeError(
            "`cells` must be a list of cells' parameters, each of them a dict, got "
            f"{'one with a ' if listed else ''}{type(odd[0]).__name__}"
        )


def from_linen(weights: Mapping[str, Any]) -> dict[str, Array]:
    """A cell of `flax.linen`: LSTMCell, OptimizedLSTMCell, GRUCell, SimpleCell.

    For each gate, W_ih = kernelᵀ of `i…`, W_hh = kernelᵀ of `h…`, b_ih = bias, b_hh = 0; in a GRU's
    n, b_in = bias of `in`, b_hn = bias of `hn`.

    Args:
        weights: the cell's own dict, such as `variables["params"]["cell"]`: for each gate `ii`,
            `hi`, … with a `kernel` and, some of them, a `bias`.

    Returns:
        `weight_ih`, `weight_hh`, `bias_ih`, `bias_hh`: torch's, of a cell.

    Raises:
        ValueError: a key is missing, unexpected or misshapen, or they are of another cell, such as
            MGUCell, which torch has not.
        TypeError: no dict of floating arrays of one dtype, or of one that JAX would narrow.

    Source: https://flax.readthedocs.io/en/latest/api_reference/flax.linen/layers.html

    >>> kernel = {"kernel": jnp.ones((1, 1))}
    >>> from_linen({"i": kernel | {"bias": jnp.ones(1)}, "h": kernel})["bias_ih"]
    Array([1.], dtype=float32)
    """
    return read("linen", nested("linen", weights))


def to_linen(params: Mapping[str, ArrayLike]) -> dict[str, Any]:
    """The inverse of `from_linen`: bias = b_ih + b_hh, but for a GRU's n; without biases, zeros.

    Args:
        params: of a cell of torch.

    Raises:
        ValueError: it is no cell's, or is projected or layer-normalised, which flax has not.
        TypeError: no dict of floating arrays of one dtype, or of one that JAX would narrow.

    Source: https://flax.readthedocs.io/en/latest/api_reference/flax.linen/layers.html

    >>> list(to_linen({"weight_ih": jnp.ones((3, 1)), "weight_hh": jnp.ones((3, 1))}))
    ['ir', 'iz', 'in', 'hr', 'hz', 'hn']
    """
    return from_state_dict(write("linen", params))


def from_nnx(weights: Mapping[str, Any]) -> dict[str, Array]:
    """A cell of `flax.nnx`: OptimizedLSTMCell, LSTMCell, GRUCell, SimpleCell.

    W_ih = kernelᵀ of `dense_i`, W_hh = kernelᵀ of `dense_h`, b_ih = bias, b_hh = 0: nnx's GRUCell
    has no b_hn.

    Args:
        weights: the cell's state, `nnx.to_pure_dict(nnx.state(cell))`; of an RNN, its `["cell"]`.

    Returns:
        As of `from_linen`.

    Raises:
        ValueError, TypeError: as of `from_linen`.

    Source: https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/recurrent.html

    >>> dense = {"kernel": jnp.ones((1, 3))}
    >>> from_nnx({"dense_i": dense | {"bias": jnp.ones(3)}, "dense_h": dense})["bias_hh"]
    Array([0., 0., 0.], dtype=float32)
    """
    return read("nnx", nested("nnx", {_KEYWORD.get(n, n): a for n, a in items(weights)}))


def to_nnx(params: Mapping[str, ArrayLike], *, optimized: bool = True) -> dict[str, Any]:
    """The inverse of `from_nnx`: bias = b_ih + b_hh; without biases, zeros.

    Args:
        params: of a cell of torch.
        optimized: an LSTM becomes an OptimizedLSTMCell, else an LSTMCell.

    Raises:
        ValueError: a GRU with a b_hn that is not 0, which nnx cannot represent, and as of
            `to_linen`.
        TypeError: as of `to_linen`.

    Source: https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/recurrent.html

    >>> list(to_nnx({"weight_ih": jnp.ones((3, 1)), "weight_hh": jnp.ones((3, 1))}))
    ['dense_i', 'dense_h']
    """
    weights = from_state_dict(write("nnx", params, 0 if optimized else -1))
    return {_KEYWORD.get(name, name): a for name, a in weights.items()}


def from_haiku(weights: Mapping[str, Any]) -> dict[str, Array]:
    """A core of haiku: LSTM, VanillaRNN.

    An LSTM: [W_ih W_hh] = wᵀ, of i, g, f, o; b_ih = b; b_hh = 0, but 1 for f, which is what
    haiku adds to it at every step. A VanillaRNN: W_ih, b_ih of `linear`, W_hh, b_hh of `linear_1`;
    it is one of relu: `jaxrnn.rnn(params, x, nonlinearity="relu")`.

    Args:
        weights: the modules of one core by name, `{"net/~/lstm/linear": {"w": …, "b": …}}`.

    Returns:
        As of `from_linen`.

    Raises:
        ValueError: a GRU, whose reset comes before the product, and as of `from_linen`.
        TypeError: as of `from_linen`.

    Source: https://dm-haiku.readthedocs.io/en/latest/api.html#recurrent

    >>> from_haiku({"lstm/linear": {"w": jnp.ones((2, 4)), "b": jnp.zeros(4)}})["bias_hh"]
    Array([0., 1., 0., 0.], dtype=float32)
    """
    paths = {path: path.rpartition("/")[::2] for path, _ in items(weights)}
    if len(cores := {core for core, _ in paths.values()}) > 1:
        raise ValueError(f"`weights` must be those of one core, got the modules {listed(weights)}")
    arrays = nested("haiku", {module: weights[path] for path, (_, module) in paths.items()})
    if any(name.endswith("w_h") for name in arrays):
        raise ValueError(f"`weights` are of haiku's GRU: {RESETS}")
    if not cores.isdisjoint(("", "~")) or any(core.endswith("/~") for core in cores):
        raise ValueError(
            f"`weights` must be those of a core, such as `lstm/linear`, got {listed(weights)}: a "
            "plain hk.Linear is none"
        )
    if "linear_1.w" in arrays and "linear.b" in arrays:  # without double_bias it has no other
        arrays = {"linear_1.b": jnp.zeros_like(arrays["linear.b"])} | arrays
    elif "linear.w" in arrays:
        arrays |= _halves(arrays.pop("linear.w"), arrays.get("linear.b"))
    return read("haiku", arrays)


def _halves(w: Array, b: Array | None) -> dict[str, Array]:
    """Those of an LSTM's weight that x and h are multiplied by."""
    columns = w.shape[-1] if b is None else b.size
    size = columns // 4
    if w.ndim != 2 or w.shape[1] != columns or columns % 4 or not 0 < size <= len(w):
        wanted = ("input_size + hidden_size", "4 · hidden_size" if b is None else columns)
        raise ValueError(
            f"`linear.w` has shape {w.shape}, wanted {shown(wanted)} for haiku's LSTM: is it "
            "transposed, or from another cell?"
        )
    return {"linear.w[:-H]": w[:-size], "linear.w[-H:]": w[-size:]}


def to_haiku(
    params: Mapping[str, ArrayLike], name: str | None = None, *, nonlinearity: str = "tanh"
) -> dict[str, Any]:
    """The inverse of `from_haiku`: b = b_ih + b_hh, of an LSTM's f less haiku's own 1.

    Args:
        params: of a cell of torch.
        name: the core's, `"lstm"` or `"vanilla_rnn"` by default.
        nonlinearity: of an RNN: must be `"relu"`, since haiku has no other.

    Raises:
        ValueError: a GRU or a tanh RNN, which haiku has not, an unknown `nonlinearity`, and as of
            `to_linen`.
        TypeError: as of `to_linen`.

    Source: https://dm-haiku.readthedocs.io/en/latest/api.html#recurrent

    >>> cell = {"weight_ih": jnp.ones((4, 1)), "weight_hh": jnp.ones((4, 1))}
    >>> to_haiku(cell)["lstm/linear"]["b"]
    Array([ 0.,  0., -1.,  0.], dtype=float32)
    """
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"`nonlinearity` must be 'tanh' or 'relu', got {nonlinearity!r}")
    arrays = write("haiku", params)
    relu = "linear_1.w" in arrays
    if relu and nonlinearity != "relu":
        raise ValueError(
            f"`nonlinearity` is {nonlinearity!r}, but haiku's VanillaRNN is one of relu: another "
            "function, unless this RNN is one too"
        )
    if not relu:
        both = [arrays.pop("linear.w[:-H]"), arrays.pop("linear.w[-H:]")]
        arrays["linear.w"] = jnp.concatenate(both)
    name = name or ("vanilla_rnn" if relu else "lstm")
    return {f"{name}/{module}": a for module, a in from_state_dict(arrays).items()}


def from_equinox(weights: Mapping[str, Any]) -> dict[str, Array]:
    """A cell of `equinox.nn`: LSTMCell, GRUCell.

    W_ih, W_hh as they are; b_ih = bias; b_hh = 0, but of a GRU b_hn = bias_n.

    Args:
        weights: `vars(cell)`, or its arrays only: `weight_ih`, `weight_hh` and, unless
            `use_bias=False`, `bias` and a GRU's `bias_n`.

    Returns:
        As of `from_linen`, without biases where there are none.

    Raises:
        ValueError, TypeError: as of `from_linen`.

    Source: https://docs.kidger.site/equinox/api/nn/rnn/

    >>> cell = {"weight_ih": jnp.ones((3, 1)), "weight_hh": jnp.ones((3, 1)), "bias": None}
    >>> list(from_equinox(cell))
    ['weight_ih', 'weight_hh']
    """
    static = ("input_size", "hidden_size", "use_bias")
    arrays = {n: a for n, a in items(weights) if n not in static and a is not None}
    return read("equinox", arrays_of(arrays))


def to_equinox(params: Mapping[str, ArrayLike]) -> dict[str, Any]:
    """The inverse of `from_equinox`: bias = b_ih + b_hh, but for a GRU's n.

    Into a cell by `equinox.tree_at`.

    Args:
        params: of a cell of torch.

    Raises:
        ValueError: an RNN, which equinox has not, and as of `to_linen`.
        TypeError: as of `to_linen`.

    Source: https://docs.kidger.site/equinox/api/nn/rnn/

    >>> list(to_equinox({"weight_ih": jnp.ones((4, 1)), "weight_hh": jnp.ones((4, 1))}))
    ['weight_ih', 'weight_hh']
    """
    return write("equinox", params)


def from_keras(
    weights: Sequence[ArrayLike] | Mapping[str, ArrayLike], *, reset_after: bool = True
) -> dict[str, Array]:
    """A layer or cell of keras: LSTM, GRU, SimpleRNN; of a Bidirectional, either half.

    W_ih = kernelᵀ, W_hh = recurrent_kernelᵀ, b_ih = bias, b_hh = 0; of a GRU, whose gates are in
    the order z, r, n there, b_ih and b_hh are the bias's two rows.

    Args:
        weights: `layer.get_weights()`, or its arrays under `kernel`, `recurrent_kernel`, `bias`.
        reset_after: of a GRU, as keras has it.

    Returns:
        As of `from_equinox`.

    Raises:
        ValueError: a GRU of `reset_after=False`, which is another function, and as of `from_linen`.
        TypeError: as of `from_linen`.

    Source: https://keras.io/api/layers/recurrent_layers/

    >>> from_keras([jnp.ones((1, 1)), jnp.ones((1, 1)), jnp.ones(1)])["bias_ih"]
    Array([1.], dtype=float32)
    """
    if not isinstance(weights, Mapping):
        if not isinstance(weights, Sequence):
            raise TypeError(
                "`weights` must be a list of arrays, as of `layer.get_weights()`, or a dict of "
                f"them, got {type(weights).__name__}"
            )
        if len(weights) not in (2, 3):
            raise ValueError(
                "`weights` must be a kernel, a recurrent kernel and, if there is one, a bias, got "
                f"{len(weights)} arrays: convert layer by layer, a Bidirectional in two halves"
            )
        weights = dict(zip(("kernel", "recurrent_kernel", "bias"), weights, strict=False))
    arrays = arrays_of(weights)
    if layout_of("keras", arrays).kind == "gru":
        bias = arrays.pop("bias", None)
        if not reset_after or (bias is not None and bias.ndim == 1):
            raise ValueError(f"`weights` are of a GRU with reset_after=False: {RESETS}")
        if bias is not None:
            check_shape("bias", bias, (2, arrays["recurrent_kernel"].shape[-1]), "keras's GRU")
            arrays |= {"bias[0]": bias[0], "bias[1]": bias[1]}
    return read("keras", arrays)


def to_keras(params: Mapping[str, ArrayLike], *, reset_after: bool = True) -> list[Array]:
    """The inverse of `from_keras`, for `layer.set_weights`: bias = b_ih + b_hh, a GRU's both.

    Args:
        params: of a cell of torch.
        reset_after: of the GRU that they are for, as keras has it.

    Returns:
        `[kernel, recurrent_kernel, bias]`, the last one unless there is none.

    Raises:
        ValueError: `reset_after=False` for a GRU, and as of `to_linen`.
        TypeError: as of `to_linen`.

    Source: https://keras.io/api/layers/recurrent_layers/

    >>> to_keras({"weight_ih": jnp.ones((3, 1)), "weight_hh": jnp.ones((3, 1))})[0].shape
    (1, 3)
    """
    arrays = write("keras", params)
    if not reset_after and structure(params).gates == 3:
        raise ValueError(f"`reset_after` is False, of a GRU: {RESETS}")
    if "bias[0]" in arrays:
        arrays["bias"] = jnp.stack([arrays.pop("bias[0]"), arrays.pop("bias[1]")])
    return list(arrays.values())


def from_onnx(
    weights: Mapping[str, ArrayLike], *, linear_before_reset: int = 0, **attributes: Any
) -> list[dict[str, Array]]:
    """A node of ONNX: LSTM, GRU, RNN.

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
            function, that contradicts the weights, or that no node has; and as of `from_linen`.
        TypeError: as of `from_linen`.

    Source: https://onnx.ai/onnx/operators/onnx__LSTM.html

    >>> [cell] = from_onnx({"W": jnp.ones((1, 4, 3)), "R": jnp.ones((1, 4, 1))})
    >>> cell["weight_ih"].shape
    (4, 3)
    """
    arrays = arrays_of({name: a for name, a in items(weights) if a is not None})
    layout = _check_node(arrays)
    given = {name: _plain(value) for name, value in attributes.items() if value is not None}
    directions, _, hidden = arrays["R"].shape
    _check_fit(layout, directions, hidden, given)
    _check_function(layout, directions, given)
    if layout.kind == "gru" and not linear_before_reset:
        raise ValueError(f"`linear_before_reset` is 0, as it is by default: {RESETS}")
    if "P" in arrays:
        poison = zero("P", arrays.pop("P"), "torch's LSTM has no peepholes")
        arrays = {name: a + poison for name, a in arrays.items()}
    if "B" in arrays:
        arrays["bias[0]"], arrays["bias[1]"] = jnp.split(arrays.pop("B"), 2, axis=1)
    return [read("ONNX", {name: a[k] for name, a in arrays.items()}) for k in range(directions)]


def to_onnx(cells: Sequence[Mapping[str, ArrayLike]]) -> dict[str, Array]:
    """The inverse of `from_onnx`: `W`, `R` and, unless there is none, `B`.

    A GRU's node needs `linear_before_reset=1`, an RNN's of relu `activations=["Relu"]` for each
    direction.

    Args:
        cells: one cell of torch, or two, forward and backward.

    Raises:
        ValueError: more cells, or two that differ in their shapes; and as of `to_linen`.
        TypeError: as of `to_linen`.

    Source: https://onnx.ai/onnx/operators/onnx__LSTM.html

    >>> cell = {"weight_ih": jnp.ones((4, 3)), "weight_hh": jnp.ones((4, 1))}
    >>> to_onnx([cell, cell])["W"].shape
    (2, 4, 3)
    """
    _check_list(cells)
    if len(cells) not in (1, 2):
        raise ValueError(
            "`cells` must be one cell, or two, forward and backward, got "
            f"{len(cells)}: a node has one layer"
        )
    first, last = structure(cells[0]), structure(cells[-1])
    unlike = [
        f"{field} {one} and {other}"
        for field, one, other in zip(first._fields, first, last, strict=True)
        if one != other
    ]
    if unlike:
        raise ValueError(
            f"`cells` must be alike, forward and backward, got {unlike[0]}: layers on one another "
            "are a node each"
        )
    ways = [write("ONNX", cell) for cell in cells]
    for way in ways:
        if "bias[0]" in way:
            way["B"] = jnp.concatenate([way.pop("bias[0]"), way.pop("bias[1]")])
    return {name: jnp.stack([way[name] for way in ways]) for name in ways[0]}


def _check_node(arrays: Mapping[str, Array]) -> Layout:
    """What a node's arrays are of; each must have its shape."""
    if missing := [name for name in ("W", "R") if name not in arrays]:
        raise ValueError(f"`weights` has no `{missing[0]}`, only {listed(arrays)}")
    for name in "WR":
        if (a := arrays[name]).ndim != 3 or len(a) not in (1, 2):
            raise ValueError(
                f"`{name}` has shape {a.shape}, wanted 3 axes, of which the first is the 1 or 2 "
                "directions"
            )
    layout = layout_of("ONNX", arrays)
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
    """A node's attributes are known, and what they say of its weights is true."""
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
    if attributes.get("hidden_size", hidden) != hidden:
        given = attributes["hidden_size"]
        raise ValueError(f"`hidden_size` is {given}, but `R` has that of {hidden}")
    if attributes.get("layout", 0) not in (0, 1):
        raise ValueError(f"`layout` must be 0 or 1, got {attributes['layout']}")


def _check_function(layout: Layout, directions: int, attributes: dict[str, Any]) -> None:
    """None of a node's attributes may make it another function than torch's."""
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
