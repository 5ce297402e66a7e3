"""The equation of a step: where r comes in, what z keeps, other activations."""

from typing import Any

import jax
import jax.numpy as jnp

import jaxrnn

from ..layers import Params, gru_other_z, gru_reset_before, linear, with_step
from ..plant import Function
from .layer import GATED, GATED_BOTH, PLAIN, STACKED, Wrong, anew, planted


def lstm(
    sigmoid: Function = jax.nn.sigmoid,
    act: Function = jnp.tanh,
    squash: Function = jnp.tanh,
    forget: float = 0.0,
    rounded: Function = lambda a: a,
) -> Wrong:
    """An LSTM by hand; `rounded` changes the operands of products."""

    def step(params: Params, x: Any, state: Any) -> Any:
        product = lambda a, weight: rounded(a) @ rounded(weight).T
        a = product(x, params["weight_ih"]) + product(state.h, params["weight_hh"])
        i, f, g, o = jnp.split(a + params["bias_ih"] + params["bias_hh"], 4, axis=-1)
        c = sigmoid(f + forget) * state.c + sigmoid(i) * act(g)
        return jaxrnn.LSTMState(sigmoid(o) * squash(c), c)

    return anew(with_step("lstm", step))


def gru(mix: Function) -> Wrong:
    """A GRU by hand, whose n is `tanh(mix(r, W_in x, b_in, W_hn h, b_hn))`."""

    def step(params: Params, x: Any, h: Any) -> Any:
        size = h.shape[-1]
        a, b = x @ params["weight_ih"].T, h @ params["weight_hh"].T
        whole = a + b + params["bias_ih"] + params["bias_hh"]
        r, z = (jax.nn.sigmoid(whole[..., k * size : (k + 1) * size]) for k in (0, 1))
        n = slice(2 * size, None)
        new = jnp.tanh(mix(r, a[..., n], params["bias_ih"][n], b[..., n], params["bias_hh"][n]))
        return (1 - z) * new + z * h

    return anew(with_step("gru", step))


def rnn(act: Function) -> Wrong:
    return anew(with_step("rnn", lambda params, x, h: act(linear(params, x, h))))


RELU_TWICE = PLAIN._replace(structure=PLAIN.structure._replace(num_layers=2), nonlinearity="relu")
B_HN_OUTSIDE = gru(lambda r, a, b_in, b, b_hn: a + b_in + r * b + b_hn)
B_IN_INSIDE = gru(lambda r, a, b_in, b, b_hn: a + r * (b + b_in + b_hn))
RESET_BEFORE = anew(with_step("gru", gru_reset_before))
OTHER_Z = anew(with_step("gru", gru_other_z))
HARD = lstm(lambda a: jnp.clip(0.2 * a + 0.5, 0, 1))
PORTS = {
    "GRU biases merged": planted("b_hn outside", B_HN_OUTSIDE, GATED),
    "GRU b_in inside": planted("b_in inside", B_IN_INSIDE, GATED, "float64"),
    "GRU reset before": planted("resets h before", RESET_BEFORE, GATED),
    "GRU other z": planted("swaps the roles of z", OTHER_Z, GATED_BOTH),
    "forget + 1": planted("adds 1 to the forget gate", lstm(forget=1.0)),
    "hard sigmoid": planted("hard sigmoid of slope 0.2", HARD),
    "jax.nn.hard_sigmoid": planted("hard sigmoid of slope 1/6", lstm(jax.nn.hard_sigmoid)),
    "relu in g": planted("relu for tanh in g", lstm(act=jax.nn.relu)),
    "sigmoid in g": planted("sigmoid for tanh in g", lstm(act=jax.nn.sigmoid)),
    "relu in g and for c": planted(
        "relu for tanh, in g and", lstm(act=jax.nn.relu, squash=jax.nn.relu)
    ),
    "c not squashed": planted("does not squash c", lstm(squash=lambda c: c), STACKED),
    "RNN relu": planted("has relu for tanh", rnn(jax.nn.relu), PLAIN),
    "RNN tanh": planted("has tanh for relu", rnn(jnp.tanh), RELU_TWICE),
}
