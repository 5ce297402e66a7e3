"""Law: dropout is torch's, between layers only, and its masks are what `dropout_masks` says."""

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
    two_layers,
)

import jaxrnn
from parity import jax_side, tensors, torch_side
from parity.cases import Case


RATE = 0.37
KEY = jax.random.key(0)


@every_layer
def test_torch_given_the_masks(layer):
    """Values and gradients are those of torch's single layers with the same masks between."""
    s = layer.structure._replace(num_layers=3, bidirectional=False)
    case = Case("dropout", s, layer.nonlinearity, TIME, BATCH, lengths=LENGTHS, dropout=RATE)
    data = tensors.draw(case, "float64")
    assert_close(jax_side.run(case, data), torch_side.run(case, data))


@two_layers
def test_torch_dropping_all(layer):
    """At rate 1 torch needs no masks: zeros, and no NaN in the gradients."""
    case = Case("dropout", layer.structure, layer.nonlinearity, TIME, BATCH, dropout=1.0)
    data = tensors.draw(case, "float64")
    found = jax_side.run(case, data)
    assert_close(found, torch_side.run(case, data))
    assert not np.any(found["grad weight_ih_l1"])


@pytest.mark.parametrize("shape", [(TIME, BATCH), (BATCH, TIME), (TIME,)], ids=str)
@two_layers
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


@pytest.mark.parametrize("options", [{"dropout": RATE}, {"key": KEY}, {"dropout": 0.0, "key": KEY}])
@two_layers
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


@two_layers
def test_where_it_acts(layer):
    """States are taken before it; the last layer's output is not dropped."""
    leaves = draw(layer)
    y, state = layer(*leaves, dropout=RATE, key=KEY)
    _, wanted = outputs(layer)(leaves)
    assert jnp.all(y != 0)
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(wanted), strict=True):
        assert_close(one[:2], other[:2])
        assert not np.any(one[2:] == other[2:])


@two_layers
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


@two_layers
def test_one_layer_warns(layer):
    one = layer.replace(num_layers=1)
    leaves = draw(one)
    with pytest.warns(UserWarning, match="between layers"):
        found = one(*leaves, dropout=RATE, key=KEY)
    assert_close(found, outputs(one)(leaves))


@two_layers
def test_a_key_means_the_same_with_and_without_x64(layer):
    params, x, _ = draw(layer)
    with jax.enable_x64(False):
        narrow = jaxrnn.dropout_masks(
            KEY, jax.tree.map(np.float32, params), np.asarray(x, np.float32), RATE
        )
    assert_equal(narrow, jaxrnn.dropout_masks(KEY, params, x, RATE))
