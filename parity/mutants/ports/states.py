"""States ignored, swapped or in another order, on their way in and out."""

from typing import Any

import jax.numpy as jnp

import jaxrnn

from ..layers import Params, no_initial_c, swapped_initial
from .layer import (
    BOTH,
    GATED_BOTH,
    STACKED,
    THREE,
    TWO,
    anew,
    joined,
    layer,
    planted,
    row,
    with_final,
    with_initial,
    with_results,
)


def from_below(params: Params, x: Any, state: Any, **options: Any) -> Any:
    """One variable for the state of all layers."""
    state, finals = row(state, 0), []
    for k in (0, 1):
        x, state = jaxrnn.lstm(layer(params, k), x, state, **options)
        finals.append(state)
    return x, joined(finals)


def carried_back(params: Params, x: Any, state: Any, **options: Any) -> Any:
    forward = {name: a for name, a in params.items() if not name.endswith("_reverse")}
    backward = {name: params[name + "_reverse"] for name in forward}
    y, middle = jaxrnn.lstm(forward, x, row(state, 0))
    z, final = jaxrnn.lstm(backward, x[::-1], middle)
    return jnp.concatenate([y, z[::-1]], -1), joined([middle, final])


# The rows of two layers in both directions, and of three, direction by direction.
two_by_direction = lambda a: a[jnp.array([0, 2, 1, 3])]
three_by_direction = lambda a: a[jnp.array([0, 3, 1, 4, 2, 5])]
last_of_y = lambda y, final: (y, jnp.stack(jnp.split(y[-1], 2, axis=-1)))
THREE_BOTH = THREE._replace(structure=THREE.structure._replace(bidirectional=True))
SWAPPED_FINAL = with_results(lambda y, final: (y, final[::-1]))
PORTS = {
    "h0 ignored": planted("ignores the initial state", with_initial(jnp.zeros_like)),
    "c0 ignored": planted("ignores the initial c", anew(no_initial_c), BOTH),
    "initial c, h": planted("initial state for (c, h)", anew(swapped_initial)),
    "initial states by direction": planted(
        "takes the initial states direction by direction",
        with_initial(three_by_direction),
        THREE_BOTH,
    ),
    "state of the layer below": planted("final state of the layer below", anew(from_below), TWO),
    "state carried back": planted("from the forward's final state", anew(carried_back), BOTH),
    "final c, h": planted("returns the final state as (c, h)", SWAPPED_FINAL, TWO),
    "final states by direction": planted(
        "returns the final states direction by direction", with_final(two_by_direction), STACKED
    ),
    "h_n from y": planted("h_n from the last step of y", with_results(last_of_y), GATED_BOTH),
    "final states batch first": planted(
        "final states batch first", with_final(lambda a: a.swapaxes(0, 1)), GATED_BOTH
    ),
    "last layer's state only": planted(
        "last layer's final state only", with_final(lambda a: a[-1:]), TWO
    ),
}
