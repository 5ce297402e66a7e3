"""Converted weights compute the same in the frameworks that they are for, and come back alike."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    HIDDEN,
    INPUT,
    LAYERS,
    assert_close,
    assert_equal,
    draw,
    every_layer_of_torch,
    score,
)

import jaxrnn
from jaxrnn import convert
from jaxrnn.convert.equinox import EQUINOX
from jaxrnn.convert.haiku import FIRST, HAIKU, SECOND
from jaxrnn.convert.keras import KERAS
from jaxrnn.convert.layouts import TORCH
from jaxrnn.convert.linen import GATES, LINEN
from jaxrnn.convert.nnx import NNX
from jaxrnn.convert.onnx import ONNX


FRAMEWORKS = {each.name: each for each in (LINEN, NNX, HAIKU, EQUINOX, KERAS, ONNX)}
TO = {
    "linen": convert.to_linen,
    "nnx": convert.to_nnx,
    "nnx split": functools.partial(convert.to_nnx, optimized=False),
    "haiku": functools.partial(convert.to_haiku, nonlinearity="relu"),
    "equinox": convert.to_equinox,
    "keras": convert.to_keras,
    "ONNX": lambda cell: convert.to_onnx([cell]),
}
FROM = {
    "linen": convert.from_linen,
    "nnx": convert.from_nnx,
    "nnx split": convert.from_nnx,
    "haiku": convert.from_haiku,
    "equinox": convert.from_equinox,
    "keras": convert.from_keras,
    "ONNX": lambda weights: convert.from_onnx(weights, linear_before_reset=1)[0],
}
KINDS = {"lstm": LAYERS["lstm"].cell, "gru": LAYERS["gru"].cell, "rnn": LAYERS["rnn tanh"].cell}
CELLS = [
    (name, kind)
    for name in TO
    for kind in KINDS
    if (name == "nnx split") <= (kind == "lstm")
    and kind not in FRAMEWORKS[name.removesuffix(" split")].absent
]
every_cell = pytest.mark.parametrize(("framework", "kind"), CELLS, ids=map(" ".join, CELLS))
# Of these the real cell runs, differentiated; ONNX Runtime in test_voices, without gradients.
RUN = [cell for cell in CELLS if cell[0] != "ONNX"]


@pytest.fixture(autouse=True)
def keras_on_jax(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")


def draw_cell(framework, kind, bias=True, **options):
    """Parameters, x and the state; nnx's GRU has no b_hn."""
    params, x, state = draw(KINDS[kind].replace(bias=bias), **options)
    if (framework, kind) == ("nnx", "gru") and bias:
        params["bias_hh"] = params["bias_hh"].at[2 * HIDDEN :].set(0)
    return params, x, state


def run_linen(kind):
    """OptimizedLSTMCell, with the same weights, is what test_bench and test_voices run."""
    from flax import linen

    cell = {"lstm": linen.LSTMCell, "gru": linen.GRUCell, "rnn": linen.SimpleCell}[kind](HIDDEN)
    return lambda weights, x, state: _returned(*cell.apply({"params": weights}, _carry(state), x))


def run_nnx(kind, optimized=True):
    from flax import nnx

    lstm = nnx.OptimizedLSTMCell if optimized else nnx.LSTMCell
    cell = {"lstm": lstm, "gru": nnx.GRUCell, "rnn": nnx.SimpleCell}[kind]
    graph, fresh = nnx.split(cell(INPUT, HIDDEN, dtype=float, param_dtype=float, rngs=nnx.Rngs(0)))

    def run(weights, x, state):
        assert jax.tree.map(jnp.shape, nnx.to_pure_dict(fresh)) == jax.tree.map(jnp.shape, weights)
        return _returned(*nnx.merge(graph, nnx.State(weights))(_carry(state), x))

    return run


def run_haiku(kind):
    import haiku

    cores = {"lstm": haiku.LSTM, "rnn": haiku.VanillaRNN}
    step = haiku.without_apply_rng(haiku.transform(lambda x, state: cores[kind](HIDDEN)(x, state)))

    def run(weights, x, state):
        state = haiku.LSTMState(state.h, state.c) if kind == "lstm" else state
        return step.apply(weights, x, state)[1]

    return run


def run_equinox(kind):
    import equinox

    make = {"lstm": equinox.nn.LSTMCell, "gru": equinox.nn.GRUCell}[kind]
    cell = make(INPUT, HIDDEN, key=jax.random.key(0))

    def run(weights, x, state):
        leaves = lambda cell: [getattr(cell, name) for name in weights]
        loaded = equinox.tree_at(leaves, cell, [*weights.values()])
        return jax.vmap(loaded)(x, tuple(state) if kind == "lstm" else state)

    return run


def run_keras(kind):
    import keras

    layers = keras.layers
    kinds = {"lstm": layers.LSTMCell, "gru": layers.GRUCell, "rnn": layers.SimpleRNNCell}
    cell = kinds[kind](HIDDEN, dtype="float64")
    cell.build((None, INPUT))
    rest = [variable.value for variable in cell.non_trainable_variables]

    def run(weights, x, state):
        (_, new), _ = cell.stateless_call(weights, rest, x, jax.tree.leaves(state))
        return new

    return run


RUNNERS = {
    "linen": run_linen,
    "nnx": run_nnx,
    "nnx split": functools.partial(run_nnx, optimized=False),
    "haiku": run_haiku,
    "equinox": run_equinox,
    "keras": run_keras,
}


def _carry(state):
    """flax's carry is (c, h)."""
    return (state.c, state.h) if isinstance(state, tuple) else state


def _returned(carry, y):
    return [y, carry[0]] if isinstance(carry, tuple) else y


def with_gradients(step):
    """(params, x, state) → the gradients and the new state, as a list of arrays, compiled."""

    def scored(leaves):
        new = jax.tree.leaves(step(*leaves))
        return score(new), new

    return jax.jit(lambda *leaves: jax.grad(scored, has_aux=True)(leaves))


@functools.cache
def by_jaxrnn(kind, nonlinearity):
    return with_gradients(KINDS[kind]._replace(nonlinearity=nonlinearity))


@pytest.mark.parametrize(("framework", "kind"), RUN, ids=map(" ".join, RUN))
def test_values_and_gradients(framework, kind):
    leaves, run = draw_cell(framework, kind), RUNNERS[framework](kind)
    by_framework = with_gradients(lambda params, x, state: run(TO[framework](params), x, state))
    with jax.numpy_dtype_promotion("standard"):
        found = by_framework(*leaves)
    wanted = by_jaxrnn(kind, "relu" if framework == "haiku" else "tanh")(*leaves)
    if (framework, kind) == ("nnx", "gru"):  # which has no b_hn, hence no gradient of it
        (params, _, _), _ = wanted
        params["bias_hh"] = params["bias_hh"].at[2 * HIDDEN :].set(0)
    # keras's tanh is one of float32.
    wide = functools.partial(jax.tree.map, lambda a: a.astype(float))
    assert_close(wide(found), wide(wanted), "float32" if framework == "keras" else None)


MISTAKES = {
    "gates as in torch": (("keras", "gru"), {"gates": "rzn"}),
    "gates as in ONNX": (("equinox", "lstm"), {"gates": "iofg"}),
    "forget bias forgotten": (("haiku", "lstm"), {"forget": 0.0}),
    "one bias left out": (
        ("linen", "gru"),
        {"arrays": GATES | {"i{}.bias": "bias_ih", "hn.bias": "bias_n"}},
    ),
    "one bias twice": (("haiku", "rnn"), {"arrays": FIRST | SECOND | {"linear_1.b": "bias_ih"}}),
}


@pytest.mark.parametrize(("cell", "mistake"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_seen(monkeypatch, cell, mistake):
    framework, kind = cell
    layouts = FRAMEWORKS[framework].cells
    [i] = [i for i, layout in enumerate(layouts) if layout.kind == kind]
    monkeypatch.setitem(layouts, i, layouts[i]._replace(**mistake))
    with pytest.raises(AssertionError):
        test_values_and_gradients(framework, kind)


@every_cell
@pytest.mark.parametrize("bias", [True, False])
def test_there_and_back(framework, kind, bias):
    """Of the framework's own weights to the last bit; of torch's, the biases added."""
    params, *_ = draw_cell(framework, kind, bias=bias)
    weights = TO[framework](params)
    rng = np.random.default_rng(1)
    random = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), weights)
    back = FROM[framework](random)
    assert_equal(TO[framework](back), random)
    assert_equal(FROM[framework](TO[framework](back)), back)
    needs_bias = framework in ("linen", "nnx", "nnx split", "haiku")
    assert [*back] == [*draw_cell(framework, kind, bias=bias or needs_bias)[0]]
    same = FROM[framework](weights)
    for end in "ih", "hh":
        assert_equal(same[f"weight_{end}"], params[f"weight_{end}"])
    if bias and framework in ("keras", "ONNX") and kind == "gru":
        assert_equal(same, params)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@every_cell
def test_dtypes_stay(framework, kind, dtype):
    weights = TO[framework](draw_cell(framework, kind, dtype=jnp.dtype(dtype))[0])
    assert {a.dtype.name for a in jax.tree.leaves([weights, FROM[framework](weights)])} == {dtype}


def test_table():
    """Every gate of every tensor has one place, in an order that is one of its gates."""
    for framework in FRAMEWORKS.values():
        for layout in framework.cells:
            assert sorted(layout.gates) == sorted(TORCH[layout.kind])
            parts = [(tensor, g) for tensor, gates in layout.slots.values() for g in gates]
            assert len({*parts}) == len(parts)
            wanted = {(end, g) for end in ("weight_ih", "weight_hh") for g in layout.gates}
            assert wanted < {*parts}


@every_layer_of_torch
def test_a_layer_is_its_cells(layer):
    params, *_ = draw(layer)
    cells = convert.cells(params)
    assert [{*cell} for cell in cells] == [{*layer.cell.structure.shapes}] * 4
    assert_equal(convert.stack(cells, bidirectional=True), params)
    forward = convert.stack(cells[::2][:1])
    assert jaxrnn.structure(forward)[3:6] == (1, True, False)


def test_a_cell_is_its_own():
    cell, *_ = draw_cell("keras", "gru")
    [same] = convert.cells(cell)
    assert_equal(same, cell)


def test_names_and_forms_of_frameworks():
    """Other than those that come out: haiku's paths, equinox's sizes, keras's names, one bias."""
    lstm, rnn, gru = (draw_cell("keras", kind)[0] for kind in ("lstm", "rnn", "gru"))
    named = convert.to_haiku(lstm, "net/~/core")
    assert [*named] == ["net/~/core/linear"]
    assert_equal(convert.from_haiku(named), convert.from_haiku(convert.to_haiku(lstm)))
    single = convert.to_haiku(rnn, nonlinearity="relu")
    del single["vanilla_rnn/linear_1"]["b"]
    assert_equal(convert.from_haiku(single), rnn | {"bias_hh": jnp.zeros(HIDDEN)})
    variables = convert.to_equinox(lstm) | {"input_size": 3, "hidden_size": 5, "use_bias": True}
    assert_equal(convert.from_equinox(variables), convert.from_equinox(convert.to_equinox(lstm)))
    names = ("kernel", "recurrent_kernel", "bias")
    assert_equal(convert.from_keras(dict(zip(names, convert.to_keras(gru), strict=True))), gru)
    silent = convert.to_onnx([lstm]) | {"P": np.zeros((1, 3 * HIDDEN))}
    assert_equal(convert.from_onnx(silent), [lstm])


def test_what_only_running_shows():
    """Under jit, NaN stands for the refusal."""
    gru, *_ = draw_cell("keras", "gru")
    assert np.isnan(jax.jit(convert.to_nnx)(gru)["dense_i"]["bias"][-HIDDEN:]).all()
    right, *_ = draw_cell("nnx", "gru")
    assert_equal(jax.jit(convert.to_nnx)(right), convert.to_nnx(right))
    lstm = convert.to_onnx([draw_cell("keras", "lstm")[0]])
    peepholes = {"P": jnp.ones((1, 3 * HIDDEN))}
    assert np.isnan(jax.jit(convert.from_onnx)(lstm | peepholes)[0]["weight_ih"]).all()
