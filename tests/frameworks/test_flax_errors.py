"""The flax modules refuse what the functions refuse, and parameters of another module."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from flax_modules import KEY, X, either, make, run
from helpers import HIDDEN, INPUT, LSTM, assert_equal, assert_refused, draw

import jaxrnn
import jaxrnn.linen
import jaxrnn.nnx


pytestmark = pytest.mark.usefixtures("bare")
H = "weight_hh_l0"
NOT_LOADED = {
    "no ['a']['weight_hh_l0'], which the model has: is it": lambda p: {
        "a": {name: p["a"][name] for name in p["a"] if name != H}
    },
    "`params` has ['a']['weight_hh'], which the model has not": lambda p: {
        "a": p["a"] | {"weight_hh": p["a"][H]}
    },
    "no ['a'][...['a.bias_hh_l0']...nested by jaxrnn.from_state_dict first": jaxrnn.to_state_dict,
    "no ['a'][...has ['b']['a'][...from another level": lambda p: {"b": p},
    "no ['a'][...has ['bias_hh_l0'], which...from another level": lambda p: p["a"],
    "['a']['weight_hh_l0'] of `params` has shape (5, 20), but in the model (20, 5)": lambda p: {
        "a": p["a"] | {H: p["a"][H].T}
    },
    "['a']['bias_hh_l0'] of `params` is float64, but in the model float32": lambda p: jax.tree.map(
        lambda a: np.asarray(a, float), p
    ),
    "is torch.float32, but...from_state_dict": lambda p: jax.tree.map(
        lambda a: torch.tensor(np.asarray(a)), p
    ),
    "['a']['bias_hh_l0'] of `params` is no array": lambda p: {
        "a": p["a"] | {"bias_hh_l0": [0.0] * 4 * HIDDEN}
    },
    "must be nested dicts of arrays, got list": lambda p: [p],
}


@pytest.mark.parametrize("message", NOT_LOADED)
def test_not_loaded(message):
    """Where `nnx.update` would say nothing; and what would fit is not loaded either."""
    model = nnx.Dict(a=jaxrnn.nnx.LSTM(INPUT, HIDDEN, rngs=nnx.Rngs(0)))
    before = nnx.to_pure_dict(nnx.state(model))
    params = NOT_LOADED[message](jax.tree.map(lambda a: a + 1, before))
    error = TypeError if "is float64" in message or "array" in message else ValueError
    error = TypeError if "torch.float32" in message else error
    assert_refused(lambda: jaxrnn.nnx.load(model, params), error, message)
    assert_equal(nnx.to_pure_dict(nnx.state(model)), before)


def test_other_attributes():
    """Of a module: they do not matter, unless they are arrays, as strays of `nnx.update` are."""
    model = jaxrnn.nnx.GRU(INPUT, HIDDEN, rngs=nnx.Rngs(0))
    model.weight_decay, model.count = 0.1, nnx.Variable(jnp.zeros(()))
    params = model.params
    assert jaxrnn.structure(params) == model.structure
    nnx.update(model, {"wieght_hh_l0": params["weight_hh_l0"]})
    assert_refused(lambda: model(X), ValueError, "the unexpected key `wieght_hh_l0`")


# What a module is refused that was made with the second options and got parameters of the first.
WRONG = {
    "num_layers=2, but has got the parameters of one with num_layers=1": ({}, {"num_layers": 2}),
    "num_layers=1, but has got the parameters of one with num_layers=2": ({"num_layers": 2}, {}),
    "bias=False, but has got the parameters of one with bias=True": ({}, {"bias": False}),
    "proj_size=0, but has got the parameters of one with proj_size=2": ({"proj_size": 2}, {}),
    "hidden_size=5, but has got the parameters of one with hidden_size=4": ({"hidden_size": 4}, {}),
    "layer_norm=False, but has got the parameters of one with layer_norm=True": (
        {"layer_norm": True},
        {},
    ),
    "layer_norm=True, but has got the parameters of one with layer_norm=False": (
        {},
        {"layer_norm": True},
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_parameters_of_another_layer(message):
    """Where flax would read those that it knows, and leave the others."""
    loaded, options = WRONG[message]
    sizes = {"input_size": INPUT, "hidden_size": HIDDEN}
    params = jaxrnn.init_lstm(KEY, **sizes | loaded, dtype=X.dtype)
    module = jaxrnn.linen.LSTM(INPUT, HIDDEN, **options)
    assert_refused(lambda: module.apply({"params": params}, X), ValueError, message)


@either
def test_errors(ours):
    """In the words of the functions, with none of their checks lost."""
    params, x, state = draw(LSTM)
    h = state.h[0]

    def refused(message, params=params, state=state, error=ValueError, **options):
        module = make(ours, LSTM.structure, **options)
        assert_refused(lambda: run(module, params, x, state), error, message)

    refused("`dropout` must be a Python number between 0 and 1", dropout=1.5, deterministic=True)
    refused("`state` has a h of shape (6, 5), wanted (4, 6, 5)", state=(h, h))
    refused("`params` has no `weight_hh_l2`", params | {"weight_ih_l2": params["weight_ih_l1"]})
    refused("is it transposed", params | {"weight_ih_l1": params["weight_ih_l1"].T})
    refused(
        "`bias_hh_l0` is float32, but `x` is float64",
        params | {"bias_hh_l0": np.float32(params["bias_hh_l0"])},
        error=TypeError,
    )
    for cell in ours.LSTM, ours.LSTMCell:
        with pytest.raises(TypeError, match="positional argument"):
            cell(INPUT, HIDDEN, 1, True)
    with pytest.raises(TypeError, match="unexpected keyword argument 'proj_size'"):
        ours.GRU(INPUT, HIDDEN, proj_size=2)
    for module in ours.RNN, ours.RNNCell:
        options = {"rngs": nnx.Rngs(0)} if ours is jaxrnn.nnx else {}
        new = lambda module=module, options=options: module(3, 5, nonlinearity="gelu", **options)
        assert_refused(new, ValueError, "`nonlinearity` must be 'tanh' or 'relu', got 'gelu'")


@either
@pytest.mark.parametrize("name", ["key", "batch_first", "dropout", "nonlinearity"])
def test_options_in_another_place(ours, name):
    """The functions' options that are not those of a module's call."""
    layer = LSTM.replace(kind="rnn")
    params, x, _ = draw(layer)
    module = make(ours, layer.structure, dropout=0.5)
    message = f"`{name}` is an argument of `RNN(…)` itself, not of its call"
    if name == "key":
        where = {jaxrnn.nnx: "`rngs`, the call's or", jaxrnn.linen: 'the rng "dropout"'}[ours]
        message = f"`key` is an argument of `jaxrnn.rnn`: here, it comes from {where}"
    assert_refused(lambda: run(module, params, x, **{name: None}), TypeError, message)


@pytest.mark.parametrize("rngs", [0, KEY], ids=["number", "key"])
def test_no_rngs(rngs):
    message = "`rngs` must be nnx.Rngs, such as nnx.Rngs(0), got "
    assert_refused(lambda: jaxrnn.nnx.LSTM(4, 5, rngs=rngs), TypeError, message)
    assert_refused(lambda: jaxrnn.nnx.RNNCell(4, 5, rngs=rngs), TypeError, message)


def test_sizes():
    """When parameters are drawn."""
    message = "`proj_size` must be 0 or a positive integer below hidden_size = 5, got 5"
    options = {"proj_size": HIDDEN}
    new = lambda: jaxrnn.nnx.LSTM(INPUT, HIDDEN, **options, rngs=nnx.Rngs(0))
    assert_refused(new, ValueError, message)
    module = jaxrnn.linen.LSTM(INPUT, HIDDEN, **options)
    assert_refused(lambda: module.init(KEY, X), ValueError, message)
    assert_refused(lambda: module.apply({}, X), ValueError, "`weight_ih_l0` and so on, got nothing")
