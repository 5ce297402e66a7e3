"""Laws of the layers around the recurrent ones: embedding, linear and layer norm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers import assert_close, assert_equal
from model_cases import IDS, KEY, WORDS, X, zeros

import jaxrnn
from jaxrnn import embedding, layer_norm, linear, to_state_dict


def test_embedding():
    weight = np.random.default_rng(1).standard_normal((WORDS, 3))
    for ids in IDS, IDS[0], IDS[0, 0], IDS[None, :0]:
        assert_equal(np.asarray(embedding({"weight": weight}, ids)), weight[ids])
    for padding_idx in 2, 2 - WORDS:
        of = lambda w, ids, i=padding_idx: embedding({"weight": w}, ids, padding_idx=i)
        assert_equal(np.asarray(of(weight, IDS)), weight[IDS])  # it is read like any other
        gradient = jax.grad(lambda w, of=of: of(w, IDS).sum())(jnp.array(weight))
        counts = np.bincount(IDS.ravel(), minlength=WORDS).astype(float)
        counts[2] = 0
        assert_equal(np.asarray(gradient), np.repeat(counts[:, None], 3, 1))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64"])
def test_ids_out_of_range(dtype):
    """Known ones raise, traced ones give NaN: negative, too large, or such as would wrap."""
    low, high = int(jnp.iinfo(dtype).min), int(jnp.iinfo(dtype).max)
    sizes = (11, 200, 300)
    weights = [{"weight": np.arange(1.0, words + 1)[:, None]} for words in sizes]
    wild = [low, high, min(high, 2**32 + 1), -1 if low else 1, 1, 0]
    wild += [words for words in sizes if words <= high]
    ids = np.array(wild, dtype)

    @jax.jit
    def every_embedding(ids):
        return [
            embedding(weight, ids, padding_idx=words - 1)[:, 0]
            for weight, words in zip(weights, sizes, strict=True)
        ]

    for weight, words, rows in zip(weights, sizes, every_embedding(ids), strict=True):
        inside = (ids >= 0) & (ids < words)
        assert_equal(np.asarray(rows), np.where(inside, ids + 1.0, np.nan))
        for wrong in ids[~inside].tolist():
            with pytest.raises(ValueError, match=rf"must lie in \[0, {words}\).*got {wrong}"):
                embedding(weight, np.array([1, wrong], dtype))


def test_linear():
    """Any leading axes, none too; with and without bias."""
    weight, bias = X[0, :3], X[1, 0, :3]
    for x in X, X[0], X[0, 0], X[:, :0]:
        assert_close(np.asarray(linear({"weight": weight, "bias": bias}, x)), x @ weight.T + bias)
        assert_close(np.asarray(linear({"weight": weight}, x)), x @ weight.T)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_layer_norm(dtype):
    weight, bias = X[0, 0], X[1, 1]
    x = 3.0 + X  # the mean is not 0
    given = [jnp.asarray(a, dtype) for a in (x, weight, bias)]
    theirs = [torch.tensor(np.asarray(a, float)).to(getattr(torch, dtype)) for a in given]
    for eps in 1e-5, 0.1:
        wanted = torch.nn.functional.layer_norm(theirs[0], (4,), *theirs[1:], eps=eps)
        found = layer_norm({"weight": given[1], "bias": given[2]}, given[0], eps=eps)
        assert found.dtype == dtype
        assert_close(np.asarray(found, float), wanted.double().numpy(), dtype)


def test_reinitialise():
    params = jax.tree.map(lambda a: a + 3, zeros("last_step"))
    ones, twos = jax.nn.initializers.ones, jax.nn.initializers.constant(2.0)
    flat = to_state_dict(jaxrnn.reinitialise(KEY, params, weight_init=ones, bias_init=twos))
    assert list(flat) == list(to_state_dict(params))
    assert all((a == (2 if "bias" in name else 1)).all() for name, a in flat.items())
    normal = jax.nn.initializers.normal()
    flat = to_state_dict(jaxrnn.reinitialise(KEY, params, weight_init=normal))
    assert_equal(flat["fc.bias"], params["fc"]["bias"])
    assert len({float(a.ravel()[0]) for name, a in flat.items() if "weight" in name}) == 5
