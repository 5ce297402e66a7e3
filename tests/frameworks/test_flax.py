"""The flax modules: by the case table as torch's, else as the functions, and at home in flax."""

import flax.errors
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import torch
from case_options import CELL_WANTED, WANTED, kind
from flax import linen, nnx
from flax_modules import KEY, X, either, handed_out, make, run
from helpers import (
    HIDDEN,
    INPUT,
    LAYERS,
    LENGTHS,
    PROJ,
    assert_close,
    assert_equal,
    assert_refused,
    draw,
    score,
)

import jaxrnn
import jaxrnn.linen
import jaxrnn.nnx
from parity.cases import table
from parity.layers import verify


def in_place_of_functions(ours):
    """What takes jaxrnn's parameters and options, and makes a module with torch's arguments."""

    def apply(params, x, state=None, **options):
        call = {name: options.pop(name) for name in ("lengths", "masks") if name in options}
        call |= {"deterministic": True} if "masks" in call else {}
        return run(make(ours, jaxrnn.structure(params), **options), params, x, state, **call)

    return apply


# A module has no such arguments.
OTHERS = ("one step", "one sequence", "no sequence", "many steps", "only y", "only h_n")


def features(case):
    wanted = CELL_WANTED if case.cell else WANTED
    options = {(case.cell, name) for name in wanted if wanted[name](case)}
    return {kind(case)} | {option for option in options if option[1] not in OTHERS}


def cross_section():
    """A few cases in which every kind and option of the table occurs."""
    cases, chosen = {case: features(case) for case in table()}, []
    missing = set().union(*cases.values())
    while missing:
        chosen.append(max(cases, key=lambda case: len(cases[case] & missing)))
        missing -= cases[chosen[-1]]
    return chosen


@either
@pytest.mark.parametrize("case", cross_section(), ids=lambda case: case.name)
def test_torch(ours, case):
    assert verify(case, apply=in_place_of_functions(ours)).wrong == []


@either
def test_what_torch_has_not(ours):
    """Layer normalisation, and options of the call: values and gradients are the function's."""
    layer = LAYERS["lstm norm"].replace(num_layers=1, bidirectional=False)
    leaves = draw(layer)
    call = {"return_all_states": True, "lengths": np.array(LENGTHS)}

    def loss(leaves):
        return score(run(make(ours, layer.structure), *leaves, **call))

    wanted = jax.jit(jax.grad(lambda leaves: score(layer(*leaves, **call))))(leaves)
    assert_close(jax.jit(jax.grad(loss))(leaves), wanted)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_new_parameters(dtype):
    """They are what `init_lstm` draws, from a key that flax hands out."""
    options = {"num_layers": 2, "bidirectional": True, "proj_size": PROJ}
    wanted = jaxrnn.init_lstm(nnx.Rngs(0).params(), INPUT, HIDDEN, dtype=dtype, **options)
    options["param_dtype"] = dtype
    found = jaxrnn.nnx.LSTM(INPUT, HIDDEN, rngs=nnx.Rngs(0), **options)
    assert_equal(found.params, wanted)
    assert set(nnx.state(found)) == set(wanted)  # and no keys, since there is no dropout
    module = jaxrnn.linen.LSTM(INPUT, HIDDEN, **options)
    wanted = jaxrnn.init_lstm(
        handed_out("params"), INPUT, HIDDEN, **{"dtype": options.pop("param_dtype")} | options
    )
    assert_equal(module.init(KEY, X.astype(dtype))["params"], wanted)


class Torchs(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(11, INPUT)
        self.encoder = torch.nn.LSTM(INPUT, HIDDEN, 2, bidirectional=True, batch_first=True)
        self.cell = torch.nn.GRUCell(2 * HIDDEN, HIDDEN)

    def forward(self, ids):
        return self.cell(self.encoder(self.embedding(ids))[0][:, -1])


class Nnxs(nnx.Module):
    def __init__(self, rngs):
        options = {"bidirectional": True, "batch_first": True, "rngs": rngs}
        self.embedding = nnx.Embed(11, INPUT, rngs=rngs)
        self.encoder = jaxrnn.nnx.LSTM(INPUT, HIDDEN, 2, **options)
        self.cell = jaxrnn.nnx.GRUCell(2 * HIDDEN, HIDDEN, rngs=rngs)

    def __call__(self, ids):
        return self.cell(self.encoder(self.embedding(ids))[0][:, -1])


class Linens(linen.Module):
    @linen.compact
    def __call__(self, ids):
        encoder = jaxrnn.linen.LSTM(
            INPUT, HIDDEN, 2, bidirectional=True, batch_first=True, name="encoder"
        )
        x = linen.Embed(11, INPUT, name="embedding")(ids)
        return jaxrnn.linen.GRUCell(2 * HIDDEN, HIDDEN, name="cell")(encoder(x)[0][:, -1])


def test_state_dict_of_a_whole_model():
    """Names of layers, too, are torch's; and it goes back as it came."""
    module, ids = Torchs(), np.arange(12).reshape(2, 6) % 11
    wanted = module(torch.tensor(ids)).detach().numpy()
    params = jaxrnn.from_state_dict(module.state_dict())
    params["embedding"] = {"embedding": params["embedding"]["weight"]}
    model = Nnxs(nnx.Rngs(0))
    jaxrnn.nnx.load(model, params)
    np.testing.assert_allclose(model(ids), wanted, atol=1e-6)
    assert_equal(nnx.to_pure_dict(nnx.state(model, nnx.Param)), params)
    assert jax.tree.structure(Linens().init(KEY, ids)["params"]) == jax.tree.structure(params)
    np.testing.assert_allclose(Linens().apply({"params": params}, ids), wanted, atol=1e-6)


class Listed(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List(
            [nnx.Linear(2, INPUT, rngs=rngs), jaxrnn.nnx.GRU(INPUT, 4, rngs=rngs)]
        )
        self.norm = nnx.BatchNorm(4, rngs=rngs)


@pytest.mark.parametrize("number", [int, str])
def test_loaded(number):
    """Also into lists, which torch numbers in words; and what is no parameter stays."""
    like = lambda seed: nnx.to_pure_dict(nnx.state(Listed(nnx.Rngs(seed)), nnx.Param))
    model, wanted = Listed(nnx.Rngs(0)), like(1)
    layers = {number(i): layer for i, layer in wanted["layers"].items()}
    jaxrnn.nnx.load(model, wanted | {"layers": layers})
    assert_equal(nnx.to_pure_dict(nnx.state(model, nnx.Param)), wanted)
    jaxrnn.nnx.load(model, nnx.state(Listed(nnx.Rngs(0)), nnx.Param))
    assert_equal(nnx.to_pure_dict(nnx.state(model, nnx.Param)), like(0))


# Dropout is that of the functions, which is torch's, with the keys of flax.

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


# In flax's transformations.


def test_many_networks():
    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def new(rngs):
        return jaxrnn.nnx.GRU(INPUT, HIDDEN, rngs=rngs)

    models = new(nnx.Rngs(0))
    assert models.weight_ih_l0.shape == (3, 3 * HIDDEN, INPUT)
    assert not np.allclose(models.weight_ih_l0[0], models.weight_ih_l0[1])
    ys, _ = nnx.vmap(lambda model, x: model(x), in_axes=(0, None))(models, X)
    assert_close(ys, jax.vmap(jaxrnn.gru, in_axes=(0, None))(models.params, X)[0])
    module = jaxrnn.linen.GRU(INPUT, HIDDEN)
    variables = jax.vmap(module.init, in_axes=(0, None))(jax.random.split(KEY, 3), X)
    ys, _ = jax.vmap(module.apply, in_axes=(0, None))(variables, X)
    assert_close(ys, jax.vmap(jaxrnn.gru, in_axes=(0, None))(variables["params"], X)[0])


def test_split_and_merge():
    model = jaxrnn.nnx.LSTM(INPUT, HIDDEN, 2, dropout=0.5, rngs=nnx.Rngs(0))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    assert_equal(nnx.to_pure_dict(params), model.params)
    again = nnx.merge(graph, params, rest)
    assert_equal(again(X, deterministic=True), model(X, deterministic=True))
    grads = nnx.jit(nnx.grad(lambda model: score(model(X, deterministic=True))))(model)
    wanted = jax.grad(lambda params: score(jaxrnn.lstm(params, X)))(model.params)
    assert_close(nnx.to_pure_dict(grads), wanted)


def test_saved_and_restored(tmp_path):
    """By orbax, and by flax's own serialisation."""
    model = jaxrnn.nnx.LSTM(INPUT, HIDDEN, 2, dropout=0.5, rngs=nnx.Rngs(0))
    graph, state = nnx.split(model)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        abstract = nnx.state(nnx.eval_shape(lambda: nnx.merge(graph, state)))
        restored = checkpointer.restore(tmp_path / "state", abstract)
    assert_equal(nnx.merge(graph, restored)(X), model(X))
    params = model.params
    empty = jax.tree.map(jnp.zeros_like, params)
    assert_equal(flax.serialization.from_bytes(empty, flax.serialization.to_bytes(params)), params)
