"""Law: dropout acts between layers only, and its masks are what `dropout_masks` says.

That with the same masks it is torch's, the table of cases says, in which it is a group of its own.

Recurrent dropout, which torch has not, is one mask a sequence on what `weight_hh` sees.
"""

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
    score,
    typical_layers,
)

import jaxrnn


RATE = 0.37
KEY = jax.random.key(0)


@pytest.mark.parametrize("shape", [(TIME, BATCH), (BATCH, TIME), (TIME,)], ids=str)
@typical_layers
def test_key_is_masks(layer, shape):
    """What a key gives, the masks drawn from it give too, in every layout."""
    params, x, state = draw(layer, batch=BATCH if len(shape) == 2 else None)
    x = x.reshape(*shape, -1)
    masks = jaxrnn.dropout_masks(KEY, params, x, RATE)
    assert masks.shape == (1, *shape, 2 * layer.structure.output_size)
    options = {"dropout": RATE, "batch_first": shape[0] == BATCH}
    wanted = layer(params, x, state, masks=masks, **options)
    assert_close(layer(params, x, state, key=KEY, **options), wanted)
    legacy = jaxrnn.dropout_masks(jax.random.PRNGKey(0), params, x, RATE)
    assert_equal(legacy, masks)


@pytest.mark.parametrize(
    "options",
    [{"dropout": RATE, "recurrent_dropout": RATE}, {"key": KEY}, {"dropout": 0.0, "key": KEY}],
)
@typical_layers
def test_none(layer, options):
    """Without a key, torch's `eval()`, or without a rate there is no dropout."""
    leaves = draw(layer)
    assert_equal(jax.jit(lambda leaves: layer(*leaves, **options))(leaves), outputs(layer)(leaves))


def test_masks_are_fair():
    """Kept at 1 - rate, to five standard deviations, in the whole and along each axis."""
    layer = LAYERS["lstm"].replace(num_layers=4)
    params, x, _ = draw(layer, time=40, batch=30)
    masks = np.asarray(jaxrnn.dropout_masks(KEY, params, x, RATE))
    for axes in (0, 1, 2, 3), (1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2):
        kept = masks.mean(axes)
        deviation = np.sqrt(RATE * (1 - RATE) * kept.size / masks.size)
        np.testing.assert_allclose(kept, 1 - RATE, rtol=0, atol=5 * deviation)


@pytest.mark.parametrize("axis", range(4), ids=["layer", "step", "sequence", "feature"])
def test_masks_are_all_different(axis):
    layer = LAYERS["lstm"].replace(num_layers=4)
    masks = np.asarray(jaxrnn.dropout_masks(KEY, *draw(layer)[:2], RATE))
    assert np.unique(masks, axis=axis).shape == masks.shape


def test_survivors_are_scaled():
    """A second layer that repeats its input shows what it gets: 0, or 1 / (1 - rate) times y."""
    layer = LAYERS["rnn relu"].replace(bidirectional=False, input_size=5, bias=False)
    params, x, _ = draw(layer)
    params |= {"weight_ih_l1": jnp.eye(5), "weight_hh_l1": jnp.zeros((5, 5))}
    masks = jaxrnn.dropout_masks(KEY, params, x, RATE)
    y, _ = layer(params, x)
    assert jnp.any(y > 0)
    dropped, _ = layer(params, x, dropout=RATE, key=KEY)
    assert_close(dropped, jnp.where(masks[0], y / (1 - RATE), 0.0))


@typical_layers
def test_where_it_acts(layer):
    """States are taken before it; the last layer's output is not dropped."""
    leaves = draw(layer)
    y, state = layer(*leaves, dropout=RATE, key=KEY)
    _, wanted = outputs(layer)(leaves)
    assert jnp.all(y != 0)
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(wanted), strict=True):
        assert_close(one[:2], other[:2])
        assert not np.any(one[2:] == other[2:])


@typical_layers
def test_transformations(layer):
    """Gradients, compiled and mapped over keys, are those of one key after the other."""
    layer = layer.replace(bidirectional=False)
    params, x, state = draw(layer)
    keys = jax.random.split(KEY, 3)

    @jax.jit
    @jax.grad
    def gradient(params, key):
        return score(layer(params, x, state, dropout=RATE, key=key, lengths=LENGTHS))

    each = [gradient(params, key) for key in keys]
    mapped = jax.vmap(gradient, in_axes=(None, 0))(params, keys)
    assert_close(mapped, jax.tree.map(lambda *a: jnp.stack(a), *each))
    assert np.any(each[0]["weight_ih_l0"] != each[1]["weight_ih_l0"])


@typical_layers
def test_one_layer_warns(layer):
    one = layer.replace(num_layers=1)
    leaves = draw(one)
    with pytest.warns(UserWarning, match="between layers"):
        found = one(*leaves, dropout=RATE, key=KEY)
    assert_close(found, outputs(one)(leaves))


@typical_layers
def test_a_key_means_the_same_with_and_without_x64(layer):
    params, x, _ = draw(layer)
    with jax.enable_x64(False):
        narrow = jaxrnn.dropout_masks(
            KEY, jax.tree.map(np.float32, params), np.asarray(x, np.float32), RATE
        )
    assert_equal(narrow, jaxrnn.dropout_masks(KEY, params, x, RATE))


@every_layer
def test_recurrent_dropout_is_on_weight_hh(layer):
    """With one mask for the whole batch it is the layer with the columns of `weight_hh` scaled, at
    rate 1 by zero: nothing else sees the mask, and every step sees the same.
    """
    layer = layer.replace(num_layers=1)
    params, x, state = draw(layer)
    for rate in RATE, 1.0:
        masks = jaxrnn.recurrent_dropout_masks(KEY, params, x[:, 0], rate)
        assert masks.shape == (2, layer.structure.output_size)
        scaled = dict(params)
        for suffix, mask in zip(layer.structure.suffixes, np.asarray(masks), strict=True):
            scaled["weight_hh" + suffix] *= mask / (1 - RATE)
        batch = jnp.broadcast_to(masks[:, None], (2, BATCH, masks.shape[1]))
        options = {"recurrent_dropout": rate, "recurrent_masks": batch}
        found = layer(params, x, state, lengths=LENGTHS, **options)
        assert_close(found, outputs(layer)((scaled, x, state), jnp.array(LENGTHS)))


@pytest.mark.parametrize("shape", [(TIME, BATCH), (BATCH, TIME), (TIME,)], ids=str)
@typical_layers
def test_recurrent_key_is_masks(layer, shape):
    """What a key gives for both dropouts, both masks give too, and each of them with the key."""
    layer = layer.replace(bidirectional=False)
    params, x, state = draw(layer, batch=BATCH if len(shape) == 2 else None)
    x, batch_first = x.reshape(*shape, -1), shape[0] == BATCH
    recurrent = jaxrnn.recurrent_dropout_masks(KEY, params, x, RATE, batch_first=batch_first)
    assert recurrent.shape == jax.tree.leaves(state)[0].shape
    given = {"masks": jaxrnn.dropout_masks(KEY, params, x, RATE), "recurrent_masks": recurrent}
    options = {"dropout": RATE, "recurrent_dropout": RATE, "batch_first": batch_first}
    wanted = layer(params, x, state, key=KEY, **options)
    assert_close(layer(params, x, state, **given, **options), wanted)
    for name in given:
        assert_close(layer(params, x, state, key=KEY, **{name: given[name]}, **options), wanted)


def test_recurrent_masks_are_fair():
    """And all different, from each other and from those between layers."""
    layer = LAYERS["lstm"].replace(num_layers=4, hidden_size=20)
    params, x, _ = draw(layer, time=1, batch=40)
    masks = np.asarray(jaxrnn.recurrent_dropout_masks(KEY, params, x, RATE))
    for axes in (0, 1, 2), (1, 2), (0, 2), (0, 1):
        kept = masks.mean(axes)
        deviation = np.sqrt(RATE * (1 - RATE) * kept.size / masks.size)
        np.testing.assert_allclose(kept, 1 - RATE, rtol=0, atol=5 * deviation)
    between = np.asarray(jaxrnn.dropout_masks(KEY, params, x, RATE)).reshape(-1, 40, 20)
    rows = np.concatenate([masks, between]).reshape(-1, 20)
    assert len(np.unique(rows, axis=0)) > 0.95 * len(rows)


@typical_layers
def test_recurrent_dropout_over_chunks(layer):
    """The same masks for every chunk make of them one sequence, as the same key does."""
    layer = layer.replace(num_layers=1, bidirectional=False)
    params, x, state = draw(layer)
    options = {"recurrent_dropout": RATE}
    masks = jaxrnn.recurrent_dropout_masks(KEY, params, x, RATE)
    wanted = layer(params, x, state, key=KEY, **options)
    y, between = layer(params, x[:3], state, recurrent_masks=masks, **options)
    rest, final = layer(params, x[3:], between, key=KEY, **options)
    assert_close((jnp.concatenate([y, rest]), final), wanted)


def test_recurrent_dropout_is_transformed():
    """Its gradients, compiled and mapped over keys, are those of one key after the other; padding
    reaches none of them; in bfloat16 they are those of float64, rounded.
    """
    layer = LAYERS["lstm proj"].replace(num_layers=1, bidirectional=False)

    def gradient(leaves, key):
        options = {"recurrent_dropout": RATE, "key": key, "lengths": jnp.array(LENGTHS)}
        return jax.grad(lambda leaves: score(layer(*leaves, **options)))(leaves)

    params, x, state = draw(layer, dtype="bfloat16")
    beyond = (np.arange(TIME)[:, None] >= np.array(LENGTHS))[..., None]
    leaves = params, jnp.where(beyond, jnp.nan, x.astype(float)).astype(x.dtype), state
    to = lambda tree, dtype: jax.tree.map(lambda a: a.astype(dtype), tree)
    keys = jax.random.split(KEY, 3)
    compiled = jax.jit(gradient)
    each = [compiled(to(leaves, float), key) for key in keys]
    mapped = jax.jit(jax.vmap(gradient, in_axes=(None, 0)))(to(leaves, float), keys)
    assert_close(mapped, jax.tree.map(lambda *a: jnp.stack(a), *each))
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(each))
    assert np.any(each[0][0]["weight_ih_l0"] != each[1][0]["weight_ih_l0"])
    assert_close(compiled(leaves, keys[0]), to(each[0], "bfloat16"))
