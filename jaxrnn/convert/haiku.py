"""Cores of haiku."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from .._cells import rnn_step
from .._params import from_state_dict, listed
from .layouts import RESETS, Framework, Layout, items, nested, read, shown, write


# An LSTM has one weight for x and h, which is stacked here from its halves.
HALVES = {"linear.w[:-H]": "weight_ih", "linear.w[-H:]": "weight_hh", "linear.b": "bias"}
FIRST = {"linear.w": "weight_ih", "linear.b": "bias_ih"}
SECOND = {"linear_1.w": "weight_hh", "linear_1.b": "bias_hh"}
HAIKU = Framework(
    "haiku",
    [
        Layout("LSTM", "lstm", "igfo", HALVES, forget=1.0),
        Layout("VanillaRNN", "rnn", "h", FIRST | SECOND),
    ],
    absent={"gru": RESETS},
)


def from_haiku(weights: Mapping[str, Any]) -> dict[str, Array]:
    """Reads a core of haiku: LSTM, VanillaRNN.

    An LSTM: [W_ih W_hh] = wᵀ, of i, g, f, o; b_ih = b; b_hh = 0, but 1 for f, which is what
    haiku adds to it at every step. A VanillaRNN: W_ih, b_ih of `linear`, W_hh, b_hh of `linear_1`;
    its nonlinearity is relu: `jaxrnn.rnn(params, x, nonlinearity="relu")`.

    Args:
        weights: the modules of one core by name, `{"net/~/lstm/linear": {"w": …, "b": …}}`.

    Returns:
        As `from_linen`.

    Raises:
        ValueError: a GRU, whose reset comes before the product, and as `from_linen`.
        TypeError: as `from_linen`.

    Source: https://dm-haiku.readthedocs.io/en/latest/api.html#recurrent

    >>> from_haiku({"lstm/linear": {"w": jnp.ones((2, 4)), "b": jnp.zeros(4)}})["bias_hh"]
    Array([0., 1., 0., 0.], dtype=float32)
    """
    paths = {path: path.rpartition("/")[::2] for path, _ in items(weights)}
    if len(cores := {core for core, _ in paths.values()}) > 1:
        raise ValueError(f"`weights` must be those of one core, got the modules {listed(weights)}")
    arrays = nested(HAIKU, {module: weights[path] for path, (_, module) in paths.items()})
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
    return read(HAIKU, arrays)


def _halves(w: Array, b: Array | None) -> dict[str, Array]:
    """The halves of an LSTM's weight that x and h are multiplied by."""
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
        params: the parameters of one of torch's cells.
        name: the core's, `"lstm"` or `"vanilla_rnn"` by default.
        nonlinearity: of an RNN; it must be `"relu"`, since haiku has no other.

    Raises:
        ValueError: a GRU or a tanh RNN, which haiku does not have, an unknown `nonlinearity`, and
            as `to_linen`.
        TypeError: as `to_linen`.

    Source: https://dm-haiku.readthedocs.io/en/latest/api.html#recurrent

    >>> cell = {"weight_ih": jnp.ones((4, 1)), "weight_hh": jnp.ones((4, 1))}
    >>> to_haiku(cell)["lstm/linear"]["b"]
    Array([ 0.,  0., -1.,  0.], dtype=float32)
    """
    rnn_step(nonlinearity)  # refuses an unknown one
    arrays = write(HAIKU, params)
    relu = "linear_1.w" in arrays
    if relu and nonlinearity != "relu":
        raise ValueError(
            f"`nonlinearity` is {nonlinearity!r}, but haiku's VanillaRNN is one of relu: another "
            "function, unless this RNN is one too"
        )
    if not relu:
        halves = [arrays.pop("linear.w[:-H]"), arrays.pop("linear.w[-H:]")]
        arrays["linear.w"] = jnp.concatenate(halves)
    name = name or ("vanilla_rnn" if relu else "lstm")
    return {f"{name}/{module}": a for module, a in from_state_dict(arrays).items()}
