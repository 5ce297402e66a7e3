"""The equations of one time step, line for line, and the public cells over them.

A step takes the parameters of one cell under torch's names without suffix, `x` of shape (B, I),
and the state, and returns the next state. Below float32 the products run in the dtype of `x`, and
everything else, the state included, in float32, as in torch's fused kernels: a step is handed its
state and parameters in `wide(x.dtype)`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ._check import check_cell
from ._params import LSTMState, structure


Step = Callable[[Mapping[str, Array], Array, Any], Any]


def hidden(state: Any) -> Array:
    """A state's `h`, which is a layer's output."""
    return state.h if isinstance(state, LSTMState) else state


def wide(dtype: Any) -> Any:
    """The dtype in which a state of `dtype` is carried: at least float32."""
    return jnp.dtype(jnp.float32) if dtype.itemsize < 4 else dtype


def widen(a: Array) -> Array:
    return a.astype(wide(a.dtype))


def _linear(params: Mapping[str, Array], end: str, x: Array, dtype: Any) -> Array:
    """x Wᵀ + b, the product in `dtype`, summed and returned in the dtype of the parameters.

    Recurrent dropout is one more parameter: the scaled mask that x is multiplied by.
    """
    weight = params["weight_" + end]
    x = x * params["mask_" + end] if "mask_" + end in params else x
    y = jnp.matmul(x.astype(dtype), weight.astype(dtype).T, preferred_element_type=weight.dtype)
    return y + params["bias_" + end] if "bias_" + end in params else y


def normalise(x: Array, eps: float) -> Array:
    """x with mean 0 and (biased) variance 1 over its last axis."""
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + eps)


def _norm(params: Mapping[str, Array], end: str, x: Array) -> Array:
    """Layer normalisation of x, with gain and bias."""
    y = normalise(x, 1e-5) * params["weight_ln_" + end]
    return y + params["bias_ln_" + end] if "bias_ln_" + end in params else y


def tanh_step(params: Mapping[str, Array], x: Array, h: Array) -> Array:
    return jnp.tanh(_linear(params, "ih", x, x.dtype) + _linear(params, "hh", h, x.dtype))


def relu_step(params: Mapping[str, Array], x: Array, h: Array) -> Array:
    # jax.nn.relu has the derivative 0 at 0, as in torch; that of jnp.maximum is 1/2.
    return jax.nn.relu(_linear(params, "ih", x, x.dtype) + _linear(params, "hh", h, x.dtype))


def rnn_step(nonlinearity: str) -> Step:
    """The step of this name: the same object every time, so that `jit` finds it in its cache."""
    if nonlinearity == "tanh":
        return tanh_step
    if nonlinearity == "relu":
        return relu_step
    raise ValueError(f"`nonlinearity` must be 'tanh' or 'relu', got {nonlinearity!r}")


def lstm_step(params: Mapping[str, Array], x: Array, state: LSTMState) -> LSTMState:
    h, c = state
    gates = _linear(params, "ih", x, x.dtype) + _linear(params, "hh", h, x.dtype)
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return LSTMState(_linear(params, "hr", h, x.dtype) if "weight_hr" in params else h, c)


def layer_norm_lstm_step(params: Mapping[str, Array], x: Array, state: LSTMState) -> LSTMState:
    h, c = state
    a, b = _linear(params, "ih", x, x.dtype), _linear(params, "hh", h, x.dtype)
    i, f, g, o = jnp.split(_norm(params, "ih", a) + _norm(params, "hh", b), 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(_norm(params, "c", c))
    return LSTMState(_linear(params, "hr", h, x.dtype) if "weight_hr" in params else h, c)


def gru_step(params: Mapping[str, Array], x: Array, h: Array) -> Array:
    # r and z in one block: as three, XLA for CPUs (jax 0.10.2, float64, batch 4) gets the gradient
    # of weight_ih wrong.
    x_rz, x_n = jnp.split(_linear(params, "ih", x, x.dtype), [2 * h.shape[-1]], axis=-1)
    h_rz, h_n = jnp.split(_linear(params, "hh", h, x.dtype), [2 * h.shape[-1]], axis=-1)
    r, z = jnp.split(jax.nn.sigmoid(x_rz + h_rz), 2, axis=-1)
    n = jnp.tanh(x_n + r * h_n)
    return n + z * (h - n)


def rnn_cell(
    params: Mapping[str, ArrayLike],
    x: Float[ArrayLike, "*B I"],
    state: Float[ArrayLike, "*B H"] | None = None,
    *,
    nonlinearity: str = "tanh",
) -> Float[Array, "*B H"]:
    r"""One step of an Elman RNN: `torch.nn.RNNCell`.

    .. math:: h' = \tanh(W_{ih} x + b_{ih} + W_{hh} h + b_{hh})

    Args:
        params: `weight_ih` (H, I), `weight_hh` (H, H) and, unless `bias=False`, `bias_ih` and
            `bias_hh` (H,).
        x: (B, I) or (I,), of the parameters' dtype.
        state: h, of shape (B, H) or (H,); zeros by default.
        nonlinearity: `"tanh"` or `"relu"`.

    Returns:
        h' of the shape (B, H) or (H,).

    Raises:
        ValueError: a key or shape does not fit, or `nonlinearity` is unknown.
        TypeError: dtypes are mixed or not floating.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.RNNCell.html; Elman, *Finding
    structure in time* (1990).

    >>> params = {"weight_ih": jnp.ones((1, 1)), "weight_hh": jnp.ones((1, 1))}
    >>> rnn_cell(params, jnp.ones(1), nonlinearity="relu")
    Array([1.], dtype=float32)
    """
    return _run("rnn_cell", rnn_step(nonlinearity), params, x, state)


def lstm_cell(
    params: Mapping[str, ArrayLike],
    x: Float[ArrayLike, "*B I"],
    state: tuple[Float[ArrayLike, "*B P"], Float[ArrayLike, "*B H"]] | None = None,
) -> LSTMState:
    r"""One step of an LSTM: `torch.nn.LSTMCell`.

    .. math::
        i &= \sigma(W_{ii} x + b_{ii} + W_{hi} h + b_{hi}) \\
        f &= \sigma(W_{if} x + b_{if} + W_{hf} h + b_{hf}) \\
        g &= \tanh(W_{ig} x + b_{ig} + W_{hg} h + b_{hg}) \\
        o &= \sigma(W_{io} x + b_{io} + W_{ho} h + b_{ho}) \\
        c' &= f \odot c + i \odot g \\
        h' &= o \odot \tanh(c')

    With a `weight_hr`, as one direction of a projected `torch.nn.LSTM` has, h' = W_hr (o ⊙ tanh
    c'). With a `weight_ln_ih` and so on, which torch does not have, it is layer-normalised:

    .. math::
        (i, f, g, o) &= \mathrm{LN}_{ih}(W_{ih} x) + \mathrm{LN}_{hh}(W_{hh} h) \\
        c' &= \sigma(f) \odot c + \sigma(i) \odot \tanh(g) \\
        h' &= \sigma(o) \odot \tanh(\mathrm{LN}_c(c')) \\
        \mathrm{LN}(a) &= \gamma \odot (a - \bar a) / \sqrt{\overline{(a - \bar a)^2} + 10^{-5}}
            + \beta

    where LN takes all 4H gate inputs together, and the c' that is carried is not normalised.

    Args:
        params: `weight_ih` (4H, I), `weight_hh` (4H, P) and, unless `bias=False`, `bias_ih` and
            `bias_hh` (4H,), gates in the order i f g o; `weight_hr` (P, H) where there is a
            projection, else P = H. Layer-normalised, it also has the gains γ `weight_ln_ih`,
            `weight_ln_hh` (4H,) and `weight_ln_c` (H,), and instead of both biases the β
            `bias_ln_ih`, `bias_ln_hh` (4H,) and `bias_ln_c` (H,).
        x: (B, I) or (I,), of the parameters' dtype.
        state: a pair h, c of the shapes (B, P) and (B, H), or without B; zeros by default.

    Returns:
        `LSTMState(h', c')`.

    Raises:
        ValueError: a key or shape does not fit, or `state` is not a pair.
        TypeError: dtypes are mixed or not floating.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTMCell.html; Hochreiter &
    Schmidhuber, *Long short-term memory* (1997); the projection: Sak, Senior & Beaufays (2014);
    the norms: Ba, Kiros & Hinton (2016), https://arxiv.org/abs/1607.06450, equations 20 to 22.

    >>> params = {"weight_ih": jnp.zeros((4, 1)), "weight_hh": jnp.zeros((4, 1))}
    >>> lstm_cell(params, jnp.ones(1), (jnp.zeros(1), jnp.ones(1))).c
    Array([0.5], dtype=float32)
    """
    step = layer_norm_lstm_step if structure(params, "lstm_cell").layer_norm else lstm_step
    return _run("lstm_cell", step, params, x, state)


def gru_cell(
    params: Mapping[str, ArrayLike],
    x: Float[ArrayLike, "*B I"],
    state: Float[ArrayLike, "*B H"] | None = None,
) -> Float[Array, "*B H"]:
    r"""One step of a GRU: `torch.nn.GRUCell`.

    .. math::
        r &= \sigma(W_{ir} x + b_{ir} + W_{hr} h + b_{hr}) \\
        z &= \sigma(W_{iz} x + b_{iz} + W_{hz} h + b_{hz}) \\
        n &= \tanh(W_{in} x + b_{in} + r \odot (W_{hn} h + b_{hn})) \\
        h' &= (1 - z) \odot n + z \odot h

    The reset gate works after the product, as in cuDNN; Cho's original resets h before it, which is
    another function.

    Args:
        params: `weight_ih` (3H, I), `weight_hh` (3H, H) and, unless `bias=False`, `bias_ih` and
            `bias_hh` (3H,), gates in the order r z n.
        x: (B, I) or (I,), of the parameters' dtype.
        state: h, of shape (B, H) or (H,); zeros by default.

    Returns:
        h' of the shape (B, H) or (H,).

    Raises:
        ValueError: a key or shape does not fit.
        TypeError: dtypes are mixed or not floating.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.GRUCell.html; Cho et al. (2014),
    https://arxiv.org/abs/1406.1078.

    >>> params = {"weight_ih": jnp.zeros((3, 1)), "weight_hh": jnp.zeros((3, 1))}
    >>> gru_cell(params, jnp.ones(1), jnp.ones(1))
    Array([0.5], dtype=float32)
    """
    return _run("gru_cell", gru_step, params, x, state)


def _run(kind: str, step: Step, params: Mapping[str, Any], x: Any, state: Any) -> Any:
    arrays, x, state = check_cell(kind, params, x, state)
    new = step(jax.tree.map(widen, arrays), x, jax.tree.map(widen, state))
    return jax.tree.map(lambda a: a.astype(x.dtype), new)
