"""The flax modules: by the case table as torch's, else as the functions, and at home in flax."""

import dataclasses

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
import torch
from case_options import CELL_WANTED, WANTED, kind
from flax import linen, nnx
from flax.training.train_state import TrainState
from helpers import (
    HIDDEN,
    INPUT,
    LAYERS,
    LENGTHS,
    LSTM,
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


either = pytest.mark.parametrize("ours", [jaxrnn.linen, jaxrnn.nnx], ids=["linen", "nnx"])
X = np.random.default_rng(0).normal(size=(7, 6, INPUT)).astype(np.float32)
KEY = jax.random.key(3)


def make(ours, structure, **options):
    """A module of this structure; in nnx without values, since to draw them takes a program."""
    name, cell, _ = structure.kind.partition("_cell")
    module = getattr(ours, name.upper() + ("Cell" if cell else ""))
    has = {field.name for field in dataclasses.fields(module)}
    options |= {name: value for name, value in structure._asdict().items() if name in has}
    if ours is jaxrnn.linen:
        return module(**options)
    return nnx.eval_shape(lambda: module(**options, rngs=nnx.Rngs(0, dropout=1)))


def run(module, params, *args, **call):
    """Loads parameters and calls."""
    if isinstance(module, linen.Module):
        return module.apply({"params": params}, *args, **call)
    nnx.update(module, params)
    return module(*args, **call)


def handed_out(name):
    """The key that a linen module is given if it asks for its first of this name."""

    class Asks(linen.Module):
        @linen.compact
        def __call__(self):
            return self.make_rng(name)

    return Asks().apply({}, rngs={name: KEY})


def in_place_of_functions(ours):
    """What takes jaxrnn's parameters and options, and makes a module with torch's arguments."""

    def apply(params, x, state=None, **options):
        call = {name: options.pop(name) for name in ("lengths", "masks") if name in options}
        call |= {"deterministic": True} if "masks" in call else {}
        return run(make(ours, jaxrnn.structure(params), **options), params, x, state, **call)

    return apply


def features(case):
    wanted = CELL_WANTED if case.cell else WANTED
    return {kind(case), case.group} | {(case.cell, name) for name in wanted if wanted[name](case)}


def cross_section():
    """A few cases in which every kind, group and option of the table occurs."""
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


@pytest.mark.usefixtures("bare")
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


@pytest.mark.usefixtures("bare")
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


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("message", WRONG)
def test_parameters_of_another_layer(message):
    """Where flax would read those that it knows, and leave the others."""
    loaded, options = WRONG[message]
    sizes = {"input_size": INPUT, "hidden_size": HIDDEN}
    params = jaxrnn.init_lstm(KEY, **sizes | loaded, dtype=X.dtype)
    module = jaxrnn.linen.LSTM(INPUT, HIDDEN, **options)
    assert_refused(lambda: module.apply({"params": params}, X), ValueError, message)


@pytest.mark.usefixtures("bare")
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


@pytest.mark.usefixtures("bare")
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


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("rngs", [0, KEY], ids=["number", "key"])
def test_no_rngs(rngs):
    message = "`rngs` must be nnx.Rngs, such as nnx.Rngs(0), got "
    assert_refused(lambda: jaxrnn.nnx.LSTM(4, 5, rngs=rngs), TypeError, message)
    assert_refused(lambda: jaxrnn.nnx.RNNCell(4, 5, rngs=rngs), TypeError, message)


@pytest.mark.usefixtures("bare")
def test_sizes():
    """When parameters are drawn."""
    message = "`proj_size` must be 0 or a positive integer below hidden_size = 5, got 5"
    options = {"proj_size": HIDDEN}
    new = lambda: jaxrnn.nnx.LSTM(INPUT, HIDDEN, **options, rngs=nnx.Rngs(0))
    assert_refused(new, ValueError, message)
    module = jaxrnn.linen.LSTM(INPUT, HIDDEN, **options)
    assert_refused(lambda: module.init(KEY, X), ValueError, message)
    assert_refused(lambda: module.apply({}, X), ValueError, "`weight_ih_l0` and so on, got nothing")


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


# In flax's training loops, beside its own layers.


@pytest.fixture
def as_users_do():
    """Neither flax's metrics nor optax's losses know strict promotion."""
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        yield


class Flaxs(nnx.Module):
    """flax's own LSTM, called as ours."""

    def __init__(self, input_size, hidden_size, *, rngs):
        cell = nnx.OptimizedLSTMCell(input_size, hidden_size, rngs=rngs)
        self.rnn = nnx.RNN(cell, return_carry=True, rngs=rngs)

    def __call__(self, x):
        carry, y = self.rnn(x)
        return y, carry


class Classifier(nnx.Module):
    def __init__(self, recurrent, *, rngs):
        self.recurrent = recurrent
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.linear = nnx.Linear(16, 2, rngs=rngs)

    def __call__(self, x):
        return self.linear(self.dropout(self.recurrent(x)[0][:, -1]))


def classify_loss(model, batch):
    logits = model(batch["x"])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
    return losses.mean(), logits


@nnx.jit
def classify_step(model, optimizer, metrics, batch):
    (loss, logits), grads = nnx.value_and_grad(classify_loss, has_aux=True)(model, batch)
    metrics.update(loss=loss, logits=logits, labels=batch["label"])
    optimizer.update(model, grads)


@nnx.jit
def classify_evaluate(model, metrics, batch):
    loss, logits = classify_loss(model, batch)
    metrics.update(loss=loss, logits=logits, labels=batch["label"])


NNX_LAYERS = {
    "flax": lambda rngs: Flaxs(1, 16, rngs=rngs),
    "ours": lambda rngs: jaxrnn.nnx.LSTM(1, 16, batch_first=True, rngs=rngs),
    "stacked": lambda rngs: jaxrnn.nnx.GRU(1, 16, 2, dropout=0.1, batch_first=True, rngs=rngs),
}


@pytest.mark.usefixtures("as_users_do")
@pytest.mark.parametrize("layer", NNX_LAYERS)
def test_nnx_loop(layer):
    """The loop of flax's MNIST tutorial: was the first of six numbers positive?"""
    rng = np.random.default_rng(0)
    draw = lambda n: rng.normal(size=(n, 6, 1)).astype(np.float32)
    labelled = lambda x: {"x": x, "label": (x[:, 0, 0] > 0).astype(np.int32)}
    rngs = nnx.Rngs(0, dropout=1)
    model = Classifier(NNX_LAYERS[layer](rngs), rngs=rngs)
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
    metrics = nnx.MultiMetric(accuracy=nnx.metrics.Accuracy(), loss=nnx.metrics.Average("loss"))
    for _ in range(120):
        classify_step(model, optimizer, metrics, labelled(draw(64)))
    metrics.reset()
    classify_evaluate(nnx.view(model, deterministic=True), metrics, labelled(draw(1000)))
    assert metrics.compute()["accuracy"] > 0.95


class LinenFlaxs(linen.Module):
    """flax's own LSTM, called as ours."""

    hidden_size: int

    @linen.compact
    def __call__(self, x, state=None, *, lengths=None):
        rnn = linen.RNN(linen.OptimizedLSTMCell(self.hidden_size), return_carry=True)
        carry, y = rnn(x, initial_carry=state, seq_lengths=lengths)
        return y, carry


LINEN_LAYERS = {
    "flax": lambda size, name: LinenFlaxs(32, name=name),
    "ours": lambda size, name: jaxrnn.linen.LSTM(size, 32, batch_first=True, name=name),
}


class Seq2seq(linen.Module):
    layer: str

    @linen.compact
    def __call__(self, source, target, lengths):
        _, state = LINEN_LAYERS[self.layer](6, "encoder")(source, lengths=lengths)
        y, _ = LINEN_LAYERS[self.layer](6, "decoder")(target, state)
        return linen.Dense(6)(y)


@pytest.mark.usefixtures("as_users_do")
@pytest.mark.parametrize("layer", LINEN_LAYERS)
def test_linen_loop(layer):
    """The loop of flax's seq2seq example, with its teacher forcing: say it backwards."""
    rng, lengths = np.random.default_rng(0), np.full(64, 3, np.int32)
    model = Seq2seq(layer)

    def batch():
        words = rng.integers(1, 6, (64, 3))
        source = np.eye(6, dtype=np.float32)[np.pad(words, ((0, 0), (0, 2)))]
        target = np.eye(6, dtype=np.float32)[np.pad(words[:, ::-1], ((0, 0), (1, 0)))]
        return source, target[:, :-1], words[:, ::-1]

    source, target, _ = batch()
    params = model.init(KEY, source, target, lengths)["params"]
    state = TrainState.create(apply_fn=model.apply, params=params, tx=optax.adam(1e-2))

    @jax.jit
    def train_step(state, source, target, labels):
        def loss_fn(params):
            logits = state.apply_fn({"params": params}, source, target, lengths)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), jnp.all(logits.argmax(-1) == labels, axis=-1).mean()

        (loss, accuracy), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        return state.apply_gradients(grads=grads), loss, accuracy

    for _ in range(250):
        state, loss, accuracy = train_step(state, *batch())
    assert accuracy > 0.9, loss


class Previous(linen.Module):
    """What came a step before?"""

    @linen.compact
    def __call__(self, x, state, deterministic):
        layers = jaxrnn.linen.GRU(1, 16, 2, dropout=0.1, batch_first=True)
        y, state = layers(x, state, deterministic=deterministic)
        return linen.Dense(1)(y), state


@pytest.mark.usefixtures("as_users_do")
@pytest.mark.parametrize("carried", [True, False])
def test_state_is_carried(carried):
    """At the beginning of a chunk only the state of the one before knows it."""
    bits = np.random.default_rng(0).integers(0, 2, (16, 481, 1)).astype(np.float32)
    model = Previous()
    params = model.init(KEY, bits[:, :4], None, deterministic=True)["params"]
    state = TrainState.create(apply_fn=model.apply, params=params, tx=optax.adam(2e-2))

    @jax.jit
    def train_step(state, carry, x, y, key):
        def loss_fn(params):
            rngs = {"dropout": jax.random.fold_in(key, state.step)}
            logits, carried = state.apply_fn({"params": params}, x, carry, False, rngs=rngs)
            losses = optax.sigmoid_binary_cross_entropy(logits, y)
            return losses.mean(), (carried, losses[:, 0].mean())

        grads, (carried, first) = jax.grad(loss_fn, has_aux=True)(state.params)
        return state.apply_gradients(grads=grads), carried, first

    carry, firsts = jnp.zeros((2, 16, 16)), []
    for t in range(1, 481, 4):
        state, new, first = train_step(
            state, carry, bits[:, t : t + 4], bits[:, t - 1 : t + 3], KEY
        )
        carry = new if carried else carry
        firsts.append(first)
    last = np.mean(firsts[-20:])
    assert last < 0.1 if carried else last > 0.6
