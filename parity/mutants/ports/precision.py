"""Precision that is lost, and gradients that are stopped."""

import jax
import jax.numpy as jnp

import jaxrnn
from jaxrnn._cells import lstm_step

from ...cases import GRU
from ..layers import inside_float32, with_step
from ..plant import Function
from .layer import GRADIENTS, Wrong, anew, on, planted, with_initial, with_params, with_results
from .steps import lstm


def rounded_products(bits: int) -> Wrong:
    """Operands are rounded to so many bits behind the point, to the nearest."""
    return lstm(rounded=lambda a: jax.lax.reduce_precision(a, 8, bits))


def detached(change: Function) -> Wrong:
    """`change` stops gradients of the state before each step."""
    step = lambda params, x, state: lstm_step(params, x, change(state))
    return anew(with_step("lstm", step))


only_c = lambda state: jaxrnn.LSTMState(state.h, stop(state.c))
stop = jax.lax.stop_gradient
DETACHED, TF32 = detached(stop), rounded_products(10)
NARROW_Y = with_results(lambda y, final: (y.astype(jnp.float32), final))
PORTS = {
    "float32 inside": planted("float32 inside of float64", anew(inside_float32), dtype="float64"),
    "TF32": planted("TF32", TF32),
    "bfloat16 products": planted("products to bfloat16", rounded_products(7)),
    "float32 returned": planted("returns y in float32", NARROW_Y, GRADIENTS, "float64"),
    "state detached": planted(
        "passes no gradient back from step to step through h and c", DETACHED, GRADIENTS, "float64"
    ),
    "c detached": planted("through c", detached(only_c), GRADIENTS, "float64"),
    "bias detached": planted(
        "passes no gradient back to `bias_hh_l0`", with_params(on("bias_hh", stop)), GRADIENTS
    ),
    "h0 detached": planted(
        "passes no gradient back to `h_0`", with_initial(stop), GRADIENTS._replace(structure=GRU)
    ),
}
