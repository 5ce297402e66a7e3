"""Law: padding is inert: its content changes no value and no derivative.

All are, to the last bit, what they are with zeros in its place.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    BATCH,
    LENGTHS,
    TIME,
    assert_close,
    assert_equal,
    draw,
    every_layer,
    gradients,
    outputs,
    score,
    typical_layers,
)


@functools.cache
def everything(layer):
    """(leaves, tangents) → values, gradients, tangents and a Hessian-vector product."""
    f = lambda leaves: layer(*leaves, lengths=jnp.array(LENGTHS))

    def program(leaves, tangents):
        values, pushed = jax.jvp(f, (leaves,), (tangents,))
        gradient = jax.grad(lambda leaves: score(f(leaves)))
        first, second = jax.jvp(gradient, (leaves,), (tangents,))
        return values, pushed, first, second

    return jax.jit(program)


@pytest.mark.parametrize("content", [1.0, 1e30, np.inf, -np.inf, np.nan])
@every_layer
def test_content(layer, content):
    """Nor do tangents in the padding reach anything, whatever they are."""
    leaves, tangents = draw(layer), draw(layer, seed=1)
    wanted = everything(layer)(fill(leaves, 0.0), fill(tangents, 0.0))
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(wanted))
    for other in 0.0, content:
        found = everything(layer)(fill(leaves, content), fill(tangents, other))
        assert_equal(found, wanted)


@every_layer
def test_padding_is_zero(layer):
    """In `y` and its tangent, and in the gradient and second derivative by `x`."""
    leaves, tangents = fill(draw(layer), np.nan), draw(layer, seed=1)
    (y, _), (y_dot, _), (_, x_bar, _), (_, x_second, _) = everything(layer)(leaves, tangents)
    for array in y, y_dot, x_bar, x_second:
        assert not np.any(array[beyond(LENGTHS)])
        assert np.all(np.any(array, axis=-1) | beyond(LENGTHS))  # nothing else is


@typical_layers
def test_amount(layer):
    """Three more steps of padding change nothing."""
    params, x, state = fill(draw(layer), np.nan)
    longer = jnp.concatenate([x, jnp.full((3, *x.shape[1:]), jnp.nan)])
    lengths = jnp.array(LENGTHS)
    y, final = outputs(layer)((params, longer, state), lengths)
    assert not np.any(y[TIME:])
    assert_equal((y[:TIME], final), outputs(layer)((params, x, state), lengths))

    # `y` is cut off, so that the score weighs its values as before.
    cut = lambda y, final: score((y[:TIME], final))
    gradient = jax.jit(jax.grad(lambda leaves: cut(*layer(*leaves, lengths=lengths))))
    by_params, by_x, by_state = gradient((params, longer, state))
    assert not np.any(by_x[TIME:])
    assert_close((by_params, by_x[:TIME], by_state), gradients(layer)((params, x, state), lengths))


@typical_layers
def test_two_batch_axes(layer):
    """Lengths of two axes, one of them under vmap, are as good as one after the other."""
    lengths = [LENGTHS, LENGTHS[::-1], (0,) * BATCH]
    draws = [fill(draw(layer, seed=i), np.nan, lengths[i]) for i in range(3)]
    stack = lambda trees: jax.tree.map(lambda *a: jnp.stack(a), *trees)
    for f in outputs(layer), gradients(layer):
        each = [f(leaves, jnp.array(n)) for leaves, n in zip(draws, lengths, strict=True)]
        assert_close(jax.vmap(f)(stack(draws), jnp.array(lengths)), stack(each))
        assert all(np.isfinite(a).all() for a in jax.tree.leaves(each))


def beyond(lengths):
    return np.arange(TIME)[:, None] >= np.array(lengths)  # (T, B)


def fill(leaves, content, lengths=LENGTHS):
    """The leaves, with `content` in the padding of `x`."""
    params, x, state = leaves
    return params, jnp.where(beyond(lengths)[..., None], content, x), state
