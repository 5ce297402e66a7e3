"""Laws that need no other framework: what a layer is made of, and what must not matter to it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    BATCH,
    LAYERS,
    LENGTHS,
    TIME,
    assert_close,
    assert_equal,
    draw,
    every_layer,
    outputs,
    typical_layers,
)


leaves_of = jax.tree.leaves
valid = (np.arange(TIME)[:, None] < np.array(LENGTHS))[..., None]  # (T, B, 1)


@every_layer
def test_loop_over_the_cell(layer):
    leaves = draw(layer)
    assert_close(outputs(layer)(leaves), loop(layer, *leaves))


@every_layer
def test_lengths_are_one_by_one(layer):
    """A padded batch gives what each of its sequences gives on its own; an empty one, its state."""
    params, x, state = draw(layer)
    y, final = outputs(layer)((params, x, state), jnp.array(LENGTHS))
    for b, length in enumerate(LENGTHS):
        initial, last = (jax.tree.map(lambda a, b=b: a[:, b], tree) for tree in (state, final))
        if length:
            alone = loop(layer, params, x[:length, b], initial)
            assert_close((y[:length, b], last), alone)
        else:
            assert_equal(last, initial)
    assert not np.any(np.where(valid, 0, y))


@typical_layers
def test_both_directions(layer):
    """Bidirectional is one layer forward, and one on the flipped sequence, its output flipped."""
    layer = layer.replace(num_layers=1)
    params, x, state = draw(layer)
    one = layer.replace(bidirectional=False)
    forward = {name: a for name, a in params.items() if not name.endswith("_reverse")}
    reverse = {name: params[name + "_reverse"] for name in forward}
    y, final = one(forward, x, jax.tree.map(lambda a: a[:1], state))
    flipped, other = one(reverse, x[::-1], jax.tree.map(lambda a: a[1:], state))
    both = lambda a, b, axis: jnp.concatenate([a, b], axis)
    wanted = both(y, flipped[::-1], -1), jax.tree.map(lambda a, b: both(a, b, 0), final, other)
    assert_close(layer(params, x, state), wanted)


@typical_layers
def test_typical_layers(layer):
    """Two layers are one on the other."""
    one = outputs(layer.replace(num_layers=1))
    params, x, state = draw(layer)
    y, finals = x, []
    for i in range(2):
        own = {name.replace(f"_l{i}", "_l0"): a for name, a in params.items() if f"_l{i}" in name}
        initial = jax.tree.map(lambda a, i=i: a[2 * i : 2 * i + 2], state)
        y, final = one((own, y, initial), jnp.array(LENGTHS))
        finals.append(final)
    wanted = y, jax.tree.map(lambda *a: jnp.concatenate(a), *finals)
    assert_close(outputs(layer)((params, x, state), jnp.array(LENGTHS)), wanted)


@typical_layers
def test_split_in_time(layer):
    """The state carries all that later steps need, also of sequences that end before the cut."""
    layer = layer.replace(bidirectional=False)
    params, x, state = draw(layer)
    first = np.minimum(LENGTHS, 3)
    y, between = layer(params, x[:3], state, lengths=first)
    rest, final = layer(params, x[3:], between, lengths=np.array(LENGTHS) - first)
    wanted = outputs(layer)((params, x, state), jnp.array(LENGTHS))
    assert_close((jnp.concatenate([y, rest]), final), wanted)


@every_layer
def test_order_in_the_batch(layer):
    params, x, state = draw(layer)
    order = np.array([4, 2, 0, 5, 1, 3])
    reorder = lambda a: a[:, order]
    y, final = outputs(layer)((params, x, state), jnp.array(LENGTHS))
    found = outputs(layer)(
        (params, reorder(x), jax.tree.map(reorder, state)), jnp.array(LENGTHS)[order]
    )
    assert_close(found, (reorder(y), jax.tree.map(reorder, final)))


@every_layer
def test_order_of_hidden_units(layer):
    """Hidden units have names, not places: permute the weights' rows and columns, and the outputs
    are permuted.
    """
    layer = layer.replace(num_layers=2, bidirectional=False)
    s = layer.structure
    hidden = np.array([3, 0, 4, 1, 2])
    out = np.array([1, 0]) if s.proj_size else hidden
    blocks = lambda order, number: np.concatenate([order + len(order) * i for i in range(number)])
    rows, columns = blocks(hidden, s.gates), out

    def reorder(name, a):
        if a.ndim == 1:
            return a[hidden if "_ln_c" in name else rows]
        if name.startswith("weight_hr"):
            return a[out][:, hidden]
        if name.startswith("weight_hh"):
            return a[rows][:, out]
        return a[rows] if "_l0" in name else a[rows][:, columns]

    states = lambda tree: jax.tree.unflatten(
        jax.tree.structure(tree),
        [a[..., order] for a, order in zip(leaves_of(tree), (out, hidden), strict=False)],
    )
    params, x, state = draw(layer)
    y, final = outputs(layer)((params, x, state))
    reordered = {name: reorder(name, a) for name, a in params.items()}
    found = outputs(layer)((reordered, x, states(state)))
    assert_close(found, (y[..., columns], states(final)))


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint8, jnp.int32, jnp.uint32, jnp.int64])
def test_traced_lengths_are_clamped(dtype):
    """Also those that would wrap in a narrower integer."""
    layer, leaves = LAYERS["gru"], draw(LAYERS["gru"])
    low, high = jnp.iinfo(dtype).min, jnp.iinfo(dtype).max
    found = outputs(layer)(leaves, jnp.array([3, high, low, 1, 8, 5], dtype))
    assert_equal(found, outputs(layer)(leaves, jnp.array(LENGTHS)))


@every_layer
def test_state_is_zero_by_default(layer):
    params, x, state = draw(layer)
    zeros = jax.tree.map(jnp.zeros_like, state)
    assert_equal(outputs(layer)((params, x)), outputs(layer)((params, x, zeros)))
    step, state = x[0], jax.tree.map(lambda a: jnp.zeros_like(a[0]), state)
    cell = {name.removesuffix("_l0"): a for name, a in params.items() if name.endswith("_l0")}
    assert_equal(layer.cell(cell, step), layer.cell(cell, step, state))


@typical_layers
def test_layouts(layer):
    """`batch_first` moves the axes of `x` and `y`, not of states; without a batch it is ignored."""
    layer = layer.replace(num_layers=1)
    params, x, state = draw(layer)
    options = {"return_all_states": True}
    y, final = outputs(layer, **options)((params, x, state), jnp.array(LENGTHS))
    swapped = outputs(layer, batch_first=True, **options)
    found = swapped((params, x.swapaxes(0, 1), state), jnp.array(LENGTHS))
    assert_close(found, (y.swapaxes(0, 1), final))
    first = jax.tree.map(lambda a: a[:, 0], state)
    found = swapped((params, x[:, 0], first), jnp.array(LENGTHS[0]))
    assert_close(found, (y[:, 0], jax.tree.map(lambda a: a[..., 0, :], final)))


@typical_layers
def test_all_states(layer):
    """The last entry is the final state (in the second direction the first); beyond its end a
    sequence's state stands still; every `h` is what that layer puts out.
    """
    params, x, state = draw(layer)
    y, final = outputs(layer)((params, x, state), jnp.array(LENGTHS))
    all_states = outputs(layer, return_all_states=True)
    same, every = all_states((params, x, state), jnp.array(LENGTHS))
    assert_close(same, y)
    for all_, initial, last in zip(*map(leaves_of, (every, state, final)), strict=True):
        assert_close(all_[-1, 0::2], last[0::2])
        assert_close(all_[0, 1::2], last[1::2])
        for i, still in enumerate([last, initial] * 2):
            assert_equal(np.where(valid, 0, all_[:, i]), np.where(valid, 0, still[i]))
    h = leaves_of(every)[0]
    masked = lambda i: jnp.where(valid, jnp.concatenate([h[:, i], h[:, i + 1]], -1), 0.0)
    assert_close(masked(2), y)
    first = {name: a for name, a in params.items() if "_l0" in name}
    below, _ = layer(first, x, jax.tree.map(lambda a: a[:2], state), lengths=LENGTHS)
    assert_close(masked(0), below)


@typical_layers
def test_all_states_are_those_of_prefixes(layer):
    layer = layer.replace(bidirectional=False)
    params, x, state = draw(layer)
    _, every = outputs(layer, return_all_states=True)((params, x, state))
    for t in range(TIME):
        _, wanted = outputs(layer)((params, x, state), jnp.full(BATCH, t + 1))
        assert_close(jax.tree.map(lambda a, t=t: a[t], every), wanted)


def loop(layer, params, x, state):
    """The layer as plain loops over its cell."""
    s, cell, finals = layer.structure, compiled_cell(layer), []
    suffixes = iter(s.suffixes)
    for _ in range(s.num_layers):
        outs = []
        for order in [range(len(x)), range(len(x))[::-1]][: s.num_directions]:
            suffix = next(suffixes)
            own = {k.removesuffix(suffix): a for k, a in params.items() if k.endswith(suffix)}
            now = jax.tree.map(lambda a: a[len(finals)], state)
            out = [None] * len(x)
            for t in order:
                now = cell(own, x[t], now)
                out[t] = leaves_of(now)[0]
            outs.append(jnp.stack(out))
            finals.append(now)
        x = jnp.concatenate(outs, -1)
    return x, jax.tree.map(lambda *a: jnp.stack(a), *finals)


@functools.cache
def compiled_cell(layer):
    return jax.jit(lambda *args: layer.cell(*args))
