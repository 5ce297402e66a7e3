"""Gates in another order, weights read otherwise, biases lost or doubled."""

import jax.numpy as jnp

from ...cases import LSTM
from ..layers import Params, reorder
from ..plant import Function
from .layer import GATED, GATED_BOTH, ONE, PLAIN, STACKED, TWO, Wrong, on, planted, with_params


def gates(*order: int) -> Wrong:
    return with_params(reorder(len(order), [*order]))


def changed(part: str, change: Function) -> Wrong:
    return with_params(on(part, change))


def without(part: str) -> Wrong:
    return changed(part, jnp.zeros_like)


def transposed(part: str, gates: int = 4) -> Wrong:
    """Every gate's block on its own."""
    turn = lambda a: jnp.concatenate([block.T for block in jnp.split(a, gates)])
    return changed(part, turn)


def recurrent_first(params: Params) -> Params:
    """[W_hh, W_ih] for [x, h]."""
    both = jnp.hstack([params["weight_hh_l0"], params["weight_ih_l0"]])
    width = params["weight_ih_l0"].shape[1]
    return params | {"weight_ih_l0": both[:, :width], "weight_hh_l0": both[:, width:]}


reshaped = lambda a: a.reshape(a.shape[::-1]).T
bias_ih_twice = lambda params: params | {"bias_hh_l0": params["bias_ih_l0"]}
CELL = ONE._replace(structure=LSTM._replace(kind="lstm_cell"))
PORTS = {
    "LSTM i g f o": planted("i, g, f, o (haiku)", gates(0, 2, 1, 3)),
    "LSTM i o f g": planted("i, o, f, g (ONNX)", gates(0, 2, 3, 1), dtype="float64"),
    "LSTM f i o g": planted("f, i, o, g;", gates(1, 0, 3, 2)),
    "GRU z r n": planted("z, r, n (keras, ONNX)", gates(1, 0, 2), GATED),
    "GRU n z r": planted("n, z, r;", gates(2, 1, 0), GATED_BOTH, "float64"),
    "LSTMCell i g f o": planted("i, g, f, o", gates(0, 2, 1, 3), CELL),
    "hh transposed": planted("`weight_hh` transposed", transposed("weight_hh")),
    "RNN hh transposed": planted("`weight_hh` transposed", transposed("weight_hh", 1), PLAIN),
    "one hh transposed": planted("`weight_hh_l1` transposed", transposed("weight_hh_l1"), TWO),
    "no hh": planted("leaves out `weight_hh`", without("weight_hh")),
    "joined otherwise": planted("joins the weights as [hh, ih]", with_params(recurrent_first)),
    "hh reshaped": planted("reshapes `weight_hh`", changed("weight_hh", reshaped)),
    "ih reshaped": planted("reshapes `weight_ih`", changed("weight_ih", reshaped), GATED),
    "no bias_hh": planted("leaves out `bias_hh`", without("bias_hh")),
    "no bias_ih": planted("leaves out `bias_ih`", without("bias_ih"), STACKED),
    "no bias": planted("leaves out both biases", without("bias"), GATED),
    "one bias lost": planted(
        "leaves out `bias_hh_l0_reverse`", without("bias_hh_l0_reverse"), STACKED
    ),
    "bias_ih twice": planted(
        "uses `bias_ih` in the place of `bias_hh`", with_params(bias_ih_twice)
    ),
}
