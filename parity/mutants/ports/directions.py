"""Directions run otherwise, and the weights or outputs of directions and layers mixed up."""

from typing import Any

import jax.numpy as jnp

import jaxrnn

from .. import layers
from ..layers import Params, rename
from .layer import (
    BOTH,
    BOTH_PADDED,
    GATED_BOTH,
    STACKED,
    THREE,
    TWO,
    anew,
    layer,
    planted,
    row,
    with_params,
    with_results,
)


def lengths_from_the_wrong_end(params: Params, x: Any, state: Any, lengths: Any) -> Any:
    y, final = jaxrnn.lstm(params, x[::-1], state, lengths=lengths)
    return y[::-1], final


def y_of_layer_0(params: Params, x: Any, state: Any, **options: Any) -> Any:
    _, final = jaxrnn.lstm(params, x, state, **options)
    return jaxrnn.lstm(layer(params, 0), x, row(state, 0), **options)[0], final


backward = lambda run: anew(layers.backward_by_hand(run))
halves_swapped = lambda y, final: (jnp.concatenate(jnp.split(y, 2, axis=-1)[::-1], -1), final)
IN_THE_PADDING = backward(layers.from_the_padding)
FORWARD_TWICE = with_params(rename(lambda name: name.removesuffix("_reverse")))
LAYER_1_TWICE = with_params(rename(lambda name: name.replace("_l2", "_l1")))
PORTS = {
    "backward forward": planted("backward direction forward", backward(layers.not_flipped), BOTH),
    "backward unflipped": planted(
        "reverse the backward direction's outputs", backward(layers.not_flipped_back), BOTH
    ),
    "backward in the padding": planted(
        "starts the backward direction in the padding", IN_THE_PADDING, BOTH_PADDED
    ),
    "backward lengths": planted(
        "from the end of the padding", backward(lengths_from_the_wrong_end), BOTH_PADDED
    ),
    "directions swapped": planted(
        "weights of both directions swapped", with_params(rename(layers.other_direction)), BOTH
    ),
    "forward weights twice": planted("uses the forward weights in both", FORWARD_TWICE, GATED_BOTH),
    "halves swapped": planted("backward half first", with_results(halves_swapped), STACKED),
    "layers swapped": planted(
        "layers 1 and 2 swapped", with_params(rename(layers.other_layer)), THREE
    ),
    "layer 1 twice": planted("uses layer 1's weights in layer 2 too", LAYER_1_TWICE, THREE),
    "y of layer 0": planted("first layer's outputs", anew(y_of_layer_0), TWO),
}
