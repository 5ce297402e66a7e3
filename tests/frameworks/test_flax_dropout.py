"""Dropout of the flax modules is that of the functions, which is torch's, with the keys of flax."""

import flax
import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from flax_modules import KEY, X, either, handed_out, make, run
from helpers import HIDDEN, INPUT, assert_close, assert_equal, assert_refused

import jaxrnn
import jaxrnn.linen
import jaxrnn.nnx


BOTH = {"dropout": 0.4, "recurrent_dropout": 0.3}
each_rate = pytest.mark.parametrize("rates", [{"dropout": 0.4}, {"recurrent_dropout": 0.3}, BOTH])
TWO = jaxrnn.init_gru(jax.random.key(0), INPUT, HIDDEN, num_layers=2, dtype=jnp.float32)


@each_rate
def test_dropout_of_linen(rates):
    module = jaxrnn.linen.GRU(INPUT, HIDDEN, 2, **rates)
    call = lambda **options: module.apply({"params": TWO}, X, **options)
    dropped = call(deterministic=False, rngs={"dropout": KEY})
    assert_equal(dropped, jaxrnn.gru(TWO, X, **rates, key=handed_out("dropout")))
    assert_equal(call(deterministic=True), jaxrnn.gru(TWO, X))
    module = jaxrnn.linen.GRU(INPUT, HIDDEN, 2, **rates, deterministic=False)
    assert_equal(call(rngs={"dropout": KEY}), dropped)
    with pytest.raises(flax.errors.InvalidRngError, match="dropout"):
        call()
    module = jaxrnn.linen.GRU(INPUT, HIDDEN, 2, **rates)
    with pytest.raises(ValueError, match="deterministic"):
        call()


@each_rate
def test_dropout_of_nnx(rates):
    model = jaxrnn.nnx.GRU(INPUT, HIDDEN, 2, **rates, rngs=nnx.Rngs(0, dropout=1))
    stream = nnx.Rngs(dropout=1).dropout.fork()
    wanted = lambda key: jaxrnn.gru(model.params, X, **rates, key=key)
    keys = [stream() for _ in range(4)]
    assert_equal(model(X), wanted(keys[0]))  # as in torch, a new one trains
    assert_close(nnx.jit(lambda model, x: model(x))(model, X), wanted(keys[1]))
    view = nnx.view(model, deterministic=True)
    for whole in model(X, deterministic=True), view(X):
        assert_equal(whole, jaxrnn.gru(model.params, X))
    model.eval()
    assert_equal(model(X), view(X))
    assert_equal(nnx.view(model, deterministic=False)(X), wanted(keys[2]))
    assert_equal(nnx.view(model)(X), view(X))
    model.train()
    assert_equal(model(X), wanted(keys[3]))
    assert_equal(model(X, rngs=KEY), wanted(KEY))
    for rngs in nnx.Rngs(KEY), nnx.Rngs(dropout=KEY), nnx.Rngs(dropout=KEY).dropout:
        assert_equal(model(X, rngs=rngs), wanted(nnx.Rngs(KEY).dropout()))
    assert "deterministic" in nnx.view_info(model)


@either
def test_dropout_on_a_single_layer(ours):
    """It drops nothing, so it asks for nothing; that it does not, the function says."""
    params = jaxrnn.init_gru(KEY, INPUT, HIDDEN, dtype=jnp.float32)
    module = make(ours, jaxrnn.structure(params), dropout=0.5)
    with pytest.warns(UserWarning, match=r"dropout=0\.5 has no effect on a single layer"):
        found = run(module, params, X)
    assert_equal(found, jaxrnn.gru(params, X))
    assert not isinstance(module, nnx.Module) or set(nnx.state(module)) == set(params)


@pytest.mark.usefixtures("bare")
def test_dropout_without_keys():
    model = jaxrnn.nnx.GRU(INPUT, HIDDEN, 2, rngs=nnx.Rngs(0))
    model.dropout = 0.5
    assert_refused(lambda: model(X), ValueError, "pass `rngs` to the call")
    assert model(X, rngs=nnx.Rngs(0))[0].shape == (7, 6, HIDDEN)
