"""Lengths, layout, time and dropout."""

from typing import Any

import jax.numpy as jnp

import jaxrnn

from .. import layers
from ..layers import Params, with_lengths
from .layer import BOTH_PADDED, GATED, ONE, PADDED, THREE, anew, joined, layer, planted, row


def sorted_without_states(params: Params, x: Any, state: Any, lengths: Any, **options: Any) -> Any:
    order = jnp.argsort(-lengths)
    back = jnp.argsort(order)
    y, final = jaxrnn.gru(params, x[:, order], state, lengths=lengths[order])
    return y[:, back], final[:, back]


def batch_for_time(params: Params, x: Any, state: Any, **options: Any) -> Any:
    y, final = jaxrnn.gru(params, x.swapaxes(0, 1), state)
    return y.swapaxes(0, 1), final


def before_the_step(params: Params, x: Any, state: Any, **options: Any) -> Any:
    y, final = jaxrnn.gru(params, x, state, **options)
    return jnp.concatenate([state, y[:-1]]), final


def unscaled(params: Params, x: Any, state: Any, *, masks: Any, **options: Any) -> Any:
    finals = []
    for k in range(len(masks) + 1):
        x, final = jaxrnn.lstm(layer(params, k), x, row(state, k))
        finals.append(final)
        x = jnp.where(masks[k], x, 0) if k < len(masks) else x
    return x, joined(finals)


evaluated = lambda params, x, state, **options: jaxrnn.lstm(params, x, state)
IGNORED, LONGER, SHORTER = (
    anew(with_lengths(change)) for change in (lambda n: None, lambda n: n + 1, lambda n: n - 1)
)
STATES_OF_THE_PADDING = anew(layers.final_state_of_the_padding)
DROPPED = THREE._replace(dropout=0.4)
PORTS = {
    "lengths ignored": planted("ignores the lengths", IGNORED, PADDED),
    "lengths + 1": planted("one too long", LONGER, BOTH_PADDED),
    "lengths - 1": planted("one too short", SHORTER, PADDED),
    "states of the padding": planted(
        "final states of the padding", STATES_OF_THE_PADDING, BOTH_PADDED
    ),
    "y not zeroed": planted("zero y beyond", anew(layers.output_not_zeroed), PADDED),
    "states left sorted": planted(
        "final states sorted by length", anew(layers.left_sorted), PADDED
    ),
    "states not sorted": planted(
        "but not their initial states", anew(sorted_without_states), GATED._replace(lengths=())
    ),
    "batch first": planted(
        "takes x for (batch, time)", anew(batch_for_time), GATED._replace(state=False)
    ),
    "reshaped x": planted("reshapes x", anew(layers.reshaped), ONE._replace(batch_first=True)),
    "y a step late": planted("state before each step", anew(before_the_step), GATED),
    "dropout unscaled": planted("does not scale", anew(unscaled), DROPPED),
    "dropout forgotten": planted("drops nothing", anew(evaluated), DROPPED),
}
