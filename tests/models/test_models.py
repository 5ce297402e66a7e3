"""Laws of the models, over one table of them.

`parity` shows that outputs and gradients equal torch's for any weights. Here: fresh parameters are
torch's, padding is inert, vmap over parameters works, and dtypes are kept.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers import assert_close, assert_equal, score
from model_cases import IDS, LENGTHS, MODELS, PADDING, WORDS, X, every_model, fresh

from jaxrnn import to_state_dict


PADDED = ("last_state", "text", "sentiment", "norm", "seq2seq dot")


@every_model
def test_fresh_parameters_are_torchs(name):
    """In names, shapes and distribution. (That outputs are equal, `parity` shows.)"""
    params = {key: np.asarray(a) for key, a in to_state_dict(fresh(name)).items()}
    torch.manual_seed(0)
    modules = [MODELS[name].module().double() for _ in range(20)]
    for key, a in params.items():
        draws = np.stack([module.state_dict()[key].numpy() for module in modules])
        assert a.shape == draws.shape[1:]
        if "embedding" in key:
            assert 0.7 < a.std() / draws.std() < 1.4
        elif a.size >= 20:  # uniform
            assert 0.8 < np.abs(a).max() / np.abs(draws).max() < 1.02, key
    modules[0].load_state_dict({key: torch.tensor(a) for key, a in params.items()})


@functools.cache
def gradient(name):
    """(params, inputs, lengths) → the gradient of the outputs' score, and the outputs."""

    def loss(params, inputs, lengths):
        outputs = MODELS[name].call(params, inputs, lengths)
        return score(outputs), outputs

    return jax.jit(jax.grad(loss, has_aux=True))


def draw(name):
    """Random parameters, of a single layer."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(functools.partial(MODELS[name].init, num_layers=1))
    return jax.tree.map(lambda a: jnp.array(0.5 * rng.standard_normal(a.shape)), shapes)


@pytest.mark.parametrize("name", PADDED)
def test_padding(name):
    """Changes no value and no gradient, even if it is NaN or ids of other words."""
    run, params, inputs = gradient(name), draw(name), MODELS[name].inputs
    grads, outputs = wanted = run(params, inputs, LENGTHS)
    if inputs is X:
        other = np.where(PADDING[..., None], np.nan, X)
    else:
        other = np.where(PADDING, (IDS + 5) % WORDS, IDS)
    assert_equal(run(params, other, LENGTHS), wanted)
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(wanted))
    if name == "norm":
        assert not np.any(outputs[PADDING])
    if "embedding" in params:  # 0 is a token that is read, but learns nothing
        assert np.any(IDS[~PADDING] == 0)
        assert not np.any(grads["embedding"]["weight"][0])
    # Traced lengths beyond the end are clamped; an empty sequence is nothing special.
    grads, clamped = run(params, other, LENGTHS * [1, 3, -1, 1, 1])
    assert all(np.isfinite(a).all() for a in jax.tree.leaves((grads, clamped)))
    first_two = lambda tree: jax.tree.map(lambda a: a[:2], tree)
    assert_equal(first_two(clamped), first_two(outputs))


@pytest.mark.parametrize("name", ["last_state", "seq2seq dot"])
def test_vmap_over_parameters(name):
    params, inputs = draw(name), MODELS[name].inputs
    larger = jax.tree.map(lambda a: 1.5 * a + 0.1, params)
    stack = functools.partial(jax.tree.map, lambda *a: jnp.stack(a))
    wanted = stack(*(gradient(name)(each, inputs, LENGTHS) for each in (params, larger)))
    batched = jax.vmap(gradient(name), (0, None, None))(stack(params, larger), inputs, LENGTHS)
    assert_close(batched, wanted)


def test_dtypes():
    """Parameters are of the `dtype` asked for, and so are outputs: nothing is promoted."""
    for model in MODELS.values():
        inputs = IDS if model.inputs is IDS else jax.ShapeDtypeStruct(X.shape, jnp.bfloat16)
        params = jax.eval_shape(functools.partial(model.init, dtype=jnp.bfloat16))
        outputs = jax.eval_shape(model.call, params, inputs, LENGTHS)
        assert {a.dtype.name for a in jax.tree.leaves((params, outputs))} == {"bfloat16"}


def test_padding_row_is_zero():
    """In models whose embedding has such a row; a sequence to sequence model's has none."""
    for name in "last_state", "text", "sentiment":
        weight = fresh(name)["embedding"]["weight"]
        assert not np.any(weight[0])
        assert np.all(np.any(weight[1:], axis=1))
    for part in fresh("seq2seq dot").values():
        assert np.all(np.any(part["embedding"]["weight"], axis=1))


def test_keys_are_used_once():
    """No two arrays are one draw, scaled."""
    for name in MODELS:
        leaves = [np.asarray(a) for a in jax.tree.leaves(fresh(name))]
        leaves = [a[a != 0] for a in leaves]
        ratios = [round(float(a[1] / a[0]), 9) for a in leaves if a.size > 1 and a.std()]
        assert len(ratios) > 2
        assert len(set(ratios)) == len(ratios)
