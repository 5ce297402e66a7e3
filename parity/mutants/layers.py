"""Mistakes that ports of recurrent layers are known to make, each of which must be seen.

A wrong function is called like `jaxrnn.lstm`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jaxrnn
from jaxrnn._cells import gru_step, lstm_step
from jaxrnn._check import Options
from jaxrnn._layers import stack

from ..cases import GRU, LSTM, RAGGED, RNN, Case
from .plant import Change, Mistake, with_params, written


Params = dict[str, Any]


ONE = Case("mistakes", LSTM)
TWO = Case("mistakes", LSTM._replace(num_layers=2, bidirectional=True))
THREE = Case("mistakes", LSTM._replace(num_layers=3))
BOTH = Case("mistakes", LSTM._replace(bidirectional=True))
PADDED = Case("mistakes", LSTM._replace(bidirectional=True), lengths=RAGGED, padding=0.5)
DROPPED = Case("mistakes", LSTM._replace(num_layers=3), dropout=0.3)
GATED = Case("mistakes", GRU)
PLAIN = Case("mistakes", RNN)
AT_ZERO = Case("mistakes", RNN._replace(bias=False), "relu", state=False, input_scale=0.0, batch=1)
CURVED = Case("mistakes", RNN, second_order=True)


# Parameters read wrongly.


def reorder(gates: int, order: list[int]) -> Callable[[Params], Params]:
    move = lambda a: jnp.concatenate([jnp.split(a, gates)[k] for k in order])
    return lambda params: {name: move(a) for name, a in params.items()}


def transpose_recurrent(params: Params) -> Params:
    """Every gate's square block of `weight_hh`, on its own."""
    turn = lambda a: jnp.concatenate([block.T for block in jnp.split(a, 4)])
    return {name: turn(a) if "weight_hh" in name else a for name, a in params.items()}


def scale(name: str, factor: float) -> Callable[[Params], Params]:
    return lambda params: params | {name: params[name] * factor}


def add(name: str, value: float, index: Any = slice(None)) -> Callable[[Params], Params]:
    return lambda params: params | {name: params[name].at[index].add(value)}


def rename(change: Callable[[str], str]) -> Callable[[Params], Params]:
    return lambda params: {name: params[change(name)] for name in params}


def other_layer(name: str) -> str:
    return name.translate(str.maketrans("12", "21"))


def other_direction(name: str) -> str:
    return name.removesuffix("_reverse") if name.endswith("_reverse") else name + "_reverse"


def merge_biases(params: Params) -> Params:
    both = params["bias_ih_l0"] + params["bias_hh_l0"]
    return params | {"bias_ih_l0": both, "bias_hh_l0": jnp.zeros_like(both)}


def stop_bias(params: Params) -> Params:
    return params | {"bias_hh_l0": jax.lax.stop_gradient(params["bias_hh_l0"])}


def round_products(params: Params) -> Params:
    """As TF32 and bfloat16 products do, the weights lose their last bits on the way."""
    return {name: a + jax.lax.stop_gradient(a.astype(jnp.bfloat16).astype(a.dtype) - a)
            for name, a in params.items()}  # fmt: skip


# Equations of one step.


def with_step(kind: str, step: Any) -> Change:
    def apply(params: Params, x: Any, state: Any, *, nonlinearity: str = "", **options: Any) -> Any:
        return stack(kind, step, params, x, state, Options(**options))

    return written(apply)


def gru_reset_before(params: Params, x: Any, h: Any) -> Any:
    size = h.shape[-1]
    rz = jax.nn.sigmoid(
        x @ params["weight_ih"][: 2 * size].T
        + params["bias_ih"][: 2 * size]
        + h @ params["weight_hh"][: 2 * size].T
        + params["bias_hh"][: 2 * size]
    )
    r, z = jnp.split(rz, 2, axis=-1)
    new = x @ params["weight_ih"][2 * size :].T + params["bias_ih"][2 * size :]
    old = (r * h) @ params["weight_hh"][2 * size :].T + params["bias_hh"][2 * size :]
    return (1 - z) * jnp.tanh(new + old) + z * h


def gru_other_z(params: Params, x: Any, h: Any) -> Any:
    """z where 1 - z belongs: h' = h + z (n - h), and gru_step gives n + z (h - n)."""
    flip = jnp.where(jnp.arange(params["bias_ih"].size) // h.shape[-1] == 1, -1.0, 1.0)
    flipped = {k: a * (flip if a.ndim == 1 else flip[:, None]) for k, a in params.items()}
    return gru_step(flipped, x, h)


def lstm_without_squashing(params: Params, x: Any, state: Any) -> Any:
    h, c = lstm_step(params, x, state)
    return jaxrnn.LSTMState(h / jnp.tanh(c) * c, c)


def lstm_hard(params: Params, x: Any, state: Any) -> Any:
    gates = x @ params["weight_ih"].T + params["bias_ih"]
    gates = gates + state.h @ params["weight_hh"].T + params["bias_hh"]
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    hard = lambda a: jnp.clip(0.2 * a + 0.5, 0.0, 1.0)
    c = hard(f) * state.c + hard(i) * jnp.tanh(g)
    return jaxrnn.LSTMState(hard(o) * jnp.tanh(c), c)


def lstm_detached(params: Params, x: Any, state: Any) -> Any:
    return lstm_step(params, x, jax.lax.stop_gradient(state))


def linear(params: Params, x: Any, h: Any) -> Any:
    a = x @ params["weight_ih"].T + h @ params["weight_hh"].T
    return a + params["bias_ih"] + params["bias_hh"] if "bias_ih" in params else a


def rnn_with_maximum(params: Params, x: Any, h: Any) -> Any:
    return jnp.maximum(linear(params, x, h), 0.0)


@jax.custom_jvp
def flat_tanh(a: Any) -> Any:
    return jnp.tanh(a)


@flat_tanh.defjvp
def _(primals: Any, tangents: Any) -> Any:
    y = jnp.tanh(primals[0])
    return y, tangents[0] * (1 - jax.lax.stop_gradient(y) ** 2)


# States and directions.


def swapped_initial(params: Params, x: Any, state: Any, **options: Any) -> Any:
    return jaxrnn.lstm(params, x, state[::-1], **options)


def swapped_final(params: Params, x: Any, state: Any, **options: Any) -> Any:
    y, (h, c) = jaxrnn.lstm(params, x, state, **options)
    return y, (c, h)


def no_initial(params: Params, x: Any, state: Any, **options: Any) -> Any:
    return jaxrnn.lstm(params, x, None, **options)


def no_initial_c(params: Params, x: Any, state: Any, **options: Any) -> Any:
    return jaxrnn.lstm(params, x, (state[0], jnp.zeros_like(state[1])), **options)


def direction_major(params: Params, x: Any, state: Any, **options: Any) -> Any:
    y, final = jaxrnn.lstm(params, x, state, **options)
    return y, jax.tree.map(lambda a: a[jnp.array([0, 2, 1, 3])], final)


def last_layer_only(params: Params, x: Any, state: Any, **options: Any) -> Any:
    y, (h, c) = jaxrnn.lstm(params, x, state, **options)
    return y, (h[-1:], c[-1:])


def backward_by_hand(run: Callable[..., tuple[Any, Any]]) -> Change:
    """One bidirectional layer whose second direction is `run`'s doing."""

    def apply(params: Params, x: Any, state: Any, *, batch_first: bool, lengths: Any) -> Any:
        one = lambda k: jax.tree.map(lambda a: a[k : k + 1], state)
        fore = {name: a for name, a in params.items() if not name.endswith("_reverse")}
        back = {name: params[name + "_reverse"] for name in fore}
        y, final = jaxrnn.lstm(fore, x, one(0), lengths=lengths)
        z, other = run(back, x, one(1), lengths)
        if lengths is not None:
            z = jnp.where(jnp.arange(len(z))[:, None, None] < lengths[:, None], z, 0.0)
        state = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), final, other)
        return jnp.concatenate([y, z], -1), state

    return written(apply)


def not_flipped(params: Params, x: Any, state: Any, lengths: Any) -> Any:
    return jaxrnn.lstm(params, x, state, lengths=lengths)


def not_flipped_back(params: Params, x: Any, state: Any, lengths: Any) -> Any:
    return jaxrnn.lstm(params, x[::-1], state, lengths=lengths)


def from_the_padding(params: Params, x: Any, state: Any, lengths: Any) -> Any:
    y, final = jaxrnn.lstm(params, x[::-1], state)
    return y[::-1], final


# Lengths.


def with_lengths(change: Callable[[Any], Any]) -> Change:
    return lambda right: (
        lambda params, x, state, lengths, **options: right(
            params, x, state, lengths=change(lengths), **options
        )
    )


def final_state_of_the_padding(params: Params, x: Any, state: Any, lengths: Any, **_: Any) -> Any:
    y, _final = jaxrnn.lstm(params, x, state, lengths=lengths)
    return y, jaxrnn.lstm(params, x, state)[1]


def output_not_zeroed(params: Params, x: Any, state: Any, lengths: Any, **_: Any) -> Any:
    y, final = jaxrnn.lstm(params, x, state, lengths=lengths)
    beyond = jnp.arange(len(x))[:, None] >= lengths
    return jnp.where(beyond[..., None], jaxrnn.lstm(params, x, state)[0], y), final


def left_sorted(params: Params, x: Any, state: Any, lengths: Any, **_: Any) -> Any:
    y, final = jaxrnn.lstm(params, x, state, lengths=lengths)
    return y, jax.tree.map(lambda a: a[:, jnp.argsort(-lengths)], final)


def masked_after(params: Params, x: Any, state: Any, lengths: Any, **_: Any) -> Any:
    """Right in value, but the step sees the padding, and NaN there reaches the gradients."""
    cell = {name.removesuffix("_l0"): a for name, a in params.items()}
    state, ys = jaxrnn.LSTMState(*(a[0] for a in state)), []
    for t in range(len(x)):
        valid = (t < lengths)[:, None]
        new = lstm_step(cell, x[t], state)
        state = jax.tree.map(lambda a, b, valid=valid: jnp.where(valid, a, b), new, state)
        ys.append(jnp.where(valid, state.h, 0.0))
    return jnp.stack(ys), jax.tree.map(lambda a: a[None], state)


# Layout, dropout, precision.


def reshaped(params: Params, x: Any, state: Any, **options: Any) -> Any:
    """Batch and time confused: reshaped where it should be transposed."""
    options["batch_first"] = False
    y, final = jaxrnn.lstm(params, x.reshape(x.shape[1], x.shape[0], -1), state, **options)
    return y.reshape(x.shape[0], x.shape[1], -1), final


def unscaled(params: Params, x: Any, state: Any, **options: Any) -> Any:
    options["dropout"] = 1e-12  # masks with a rate of 0 are refused
    return jaxrnn.lstm(params, x, state, **options)


def other_masks(params: Params, x: Any, state: Any, *, masks: Any, **options: Any) -> Any:
    return jaxrnn.lstm(params, x, state, masks=masks[::-1], **options)


def dropout_at_the_end(params: Params, x: Any, state: Any, *, masks: Any, **options: Any) -> Any:
    y, final = jaxrnn.lstm(params, x, state, masks=masks, **options)
    return jnp.where(masks[0], y / (1 - options["dropout"]), 0.0), final


def inside_float32(params: Params, x: Any, state: Any, **options: Any) -> Any:
    narrow = lambda tree: jax.tree.map(lambda a: a.astype(jnp.float32), tree)
    result = jaxrnn.lstm(narrow(params), narrow(x), narrow(state), **options)
    return jax.tree.map(lambda a: a.astype(jnp.float64), result)


def returned_narrow(params: Params, x: Any, state: Any, **options: Any) -> Any:
    y, final = jaxrnn.lstm(params, x, state, **options)
    return y.astype(jnp.float32), final


def relu(params: Params, x: Any, state: Any, **options: Any) -> Any:
    options["nonlinearity"] = "relu"
    return jaxrnn.rnn(params, x, state, **options)


_steps = lambda function: lambda params, x, h: function(linear(params, x, h))

MISTAKES = {
    "gates i f o g": Mistake(with_params(reorder(4, [0, 1, 3, 2])), ONE),
    "gates i g f o (haiku)": Mistake(with_params(reorder(4, [0, 2, 1, 3])), ONE),
    "gates i o f g (ONNX)": Mistake(with_params(reorder(4, [0, 2, 3, 1])), ONE),
    "gates z r n (keras)": Mistake(with_params(reorder(3, [1, 0, 2])), GATED),
    "weight_hh transposed": Mistake(with_params(transpose_recurrent), ONE),
    "bias_hh dropped": Mistake(with_params(scale("bias_hh_l0", 0.0)), ONE),
    "bias_hh without gradient": Mistake(with_params(stop_bias), ONE),
    "GRU biases merged": Mistake(with_params(merge_biases), GATED),
    "forget bias + 1": Mistake(with_params(add("bias_ih_l0", 1.0, slice(5, 10))), ONE),
    "one bias off by 1e-5": Mistake(with_params(add("bias_ih_l0", 1e-5, 3)), ONE),
    "one weight off by 1e-12": Mistake(with_params(add("weight_hh_l0", 1e-12, (2, 3))), ONE),
    "layers swapped": Mistake(with_params(rename(other_layer)), THREE),
    "directions swapped": Mistake(with_params(rename(other_direction)), BOTH),
    "GRU reset before the product": Mistake(with_step("gru", gru_reset_before), GATED),
    "GRU z in the other sense": Mistake(with_step("gru", gru_other_z), GATED),
    "c not squashed": Mistake(with_step("lstm", lstm_without_squashing), ONE),
    "hard sigmoid": Mistake(with_step("lstm", lstm_hard), ONE),
    "relu for tanh": Mistake(written(relu), PLAIN),
    "relu'(0) = 1/2": Mistake(with_step("rnn", rnn_with_maximum), AT_ZERO),
    "state without gradient": Mistake(with_step("lstm", lstm_detached), ONE),
    "second derivative wrong": Mistake(with_step("rnn", _steps(flat_tanh)), CURVED),
    "initial h and c swapped": Mistake(written(swapped_initial), ONE),
    "final h and c swapped": Mistake(written(swapped_final), ONE),
    "initial state ignored": Mistake(written(no_initial), ONE),
    "initial c ignored": Mistake(written(no_initial_c), ONE),
    "final states direction-major": Mistake(written(direction_major), TWO),
    "final state of the last layer only": Mistake(written(last_layer_only), TWO),
    "backward run forward": Mistake(backward_by_hand(not_flipped), BOTH),
    "backward not flipped back": Mistake(backward_by_hand(not_flipped_back), BOTH),
    "backward started in the padding": Mistake(backward_by_hand(from_the_padding), PADDED),
    "lengths one too long": Mistake(with_lengths(lambda n: n + 1), PADDED),
    "lengths one too short": Mistake(with_lengths(lambda n: n - 1), PADDED),
    "lengths ignored": Mistake(with_lengths(lambda n: None), PADDED),
    "final state of the padding": Mistake(written(final_state_of_the_padding), PADDED),
    "output not zeroed beyond the lengths": Mistake(written(output_not_zeroed), PADDED),
    "final states left sorted": Mistake(written(left_sorted), PADDED),
    "padding masked after the step": Mistake(
        written(masked_after), ONE._replace(lengths=RAGGED, padding=float("nan"))
    ),
    "batch_first by reshape": Mistake(written(reshaped), ONE._replace(batch_first=True)),
    "dropout without its scale": Mistake(written(unscaled), DROPPED),
    "dropout masks in the other order": Mistake(written(other_masks), DROPPED),
    "dropout after the last layer": Mistake(written(dropout_at_the_end), DROPPED),
    "float32 inside float64": Mistake(written(inside_float32), ONE),
    "float32 returned": Mistake(written(returned_narrow), ONE),
    "TF32-like products": Mistake(with_params(round_products), ONE, "float32"),
}
