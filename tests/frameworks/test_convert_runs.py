"""Converted weights compute the same in the frameworks that they are for."""

import functools

import jax
import jax.numpy as jnp
import pytest
from converting import CELLS, FRAMEWORKS, HIDDEN, INPUT, TO, draw
from helpers import assert_close, score

import jaxrnn
from jaxrnn.convert.haiku import FIRST, SECOND
from jaxrnn.convert.linen import GATES


# Of these the real cell runs, differentiated; ONNX Runtime in test_voices, without gradients.
RUN = [cell for cell in CELLS if cell[0] != "ONNX"]


@pytest.fixture(autouse=True)
def keras_on_jax(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")


def ours(framework, kind, params, x, state):
    options = {"nonlinearity": "relu"} if (framework, kind) == ("haiku", "rnn") else {}
    state = tuple(state) if kind == "lstm" else state[0]
    return jax.tree.leaves(getattr(jaxrnn, f"{kind}_cell")(params, x, state, **options))


def run_linen(kind):
    """OptimizedLSTMCell, with the same weights, is what test_bench and test_voices run."""
    from flax import linen

    cell = {"lstm": linen.LSTMCell, "gru": linen.GRUCell, "rnn": linen.SimpleCell}[kind](HIDDEN)

    def run(weights, x, state):
        carry, y = cell.apply({"params": weights}, *_carried(state), x)
        return _returned(carry, y)

    return run


def run_nnx(kind, optimized=True):
    from flax import nnx

    lstm = nnx.OptimizedLSTMCell if optimized else nnx.LSTMCell
    cell = {"lstm": lstm, "gru": nnx.GRUCell, "rnn": nnx.SimpleCell}[kind]
    graph, fresh = nnx.split(cell(INPUT, HIDDEN, dtype=float, param_dtype=float, rngs=nnx.Rngs(0)))

    def run(weights, x, state):
        assert jax.tree.map(jnp.shape, nnx.to_pure_dict(fresh)) == jax.tree.map(jnp.shape, weights)
        carry, y = nnx.merge(graph, nnx.State(weights))(*_carried(state), x)
        return _returned(carry, y)

    return run


def run_haiku(kind):
    import haiku

    cores = {"lstm": haiku.LSTM, "rnn": haiku.VanillaRNN}
    step = haiku.without_apply_rng(haiku.transform(lambda x, state: cores[kind](HIDDEN)(x, state)))

    def run(weights, x, state):
        state = haiku.LSTMState(*state) if kind == "lstm" else state[0]
        return jax.tree.leaves(step.apply(weights, x, state)[1])

    return run


def run_equinox(kind):
    import equinox

    make = {"lstm": equinox.nn.LSTMCell, "gru": equinox.nn.GRUCell}[kind]
    cell = make(INPUT, HIDDEN, key=jax.random.key(0))

    def run(weights, x, state):
        leaves = lambda cell: [getattr(cell, name) for name in weights]
        own = equinox.tree_at(leaves, cell, [*weights.values()])
        return jax.tree.leaves(jax.vmap(own)(x, tuple(state) if kind == "lstm" else state[0]))

    return run


def run_keras(kind):
    import keras

    layers = keras.layers
    kinds = {"lstm": layers.LSTMCell, "gru": layers.GRUCell, "rnn": layers.SimpleRNNCell}
    cell = kinds[kind](HIDDEN, dtype="float64")
    cell.build((None, INPUT))
    rest = [variable.value for variable in cell.non_trainable_variables]

    def run(weights, x, state):
        (_, new), _ = cell.stateless_call(weights, rest, x, state)
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


def _carried(state):
    """flax's carry is (c, h)."""
    return [tuple(state[::-1])] if len(state) == 2 else state


def _returned(carry, y):
    return [y, carry[0]] if isinstance(carry, tuple) else [y]


def both(framework, kind):
    """Values and gradients of a step by the framework, on converted weights, and by jaxrnn."""
    params, x, state = draw(framework, kind)
    run = RUNNERS[framework](kind)
    theirs = lambda params, *rest: run(TO[framework](params), *rest)
    mine = functools.partial(ours, framework, kind)
    loss = lambda step: jax.jit(
        jax.value_and_grad(lambda *leaves: (score(y := step(*leaves)), y), (0, 1, 2), has_aux=True)
    )
    with jax.numpy_dtype_promotion("standard"):
        return loss(theirs)(params, x, state), loss(mine)(params, x, state)


@pytest.mark.parametrize(("framework", "kind"), RUN, ids=map(" ".join, RUN))
def test_values_and_gradients(framework, kind):
    theirs, mine = both(framework, kind)
    if (framework, kind) == ("nnx", "gru"):  # which has no b_hn, hence no gradient of it
        bias = mine[1][0]["bias_hh"]
        mine[1][0]["bias_hh"] = bias.at[2 * HIDDEN :].set(0)
    wide = functools.partial(jax.tree.map, lambda a: a.astype(float))
    # keras's tanh is one of float32.
    assert_close(wide(theirs), wide(mine), "float32" if framework == "keras" else None)


MISTAKES = {
    "gates as in torch": (("keras", "gru"), {"gates": "rzn"}),
    "gates as in ONNX": (("equinox", "lstm"), {"gates": "iofg"}),
    "forget bias forgotten": (("haiku", "lstm"), {"forget": 0.0}),
    "one bias left out": (
        ("linen", "gru"),
        {"arrays": GATES | {"i{}.bias": "bias_ih", "hn.bias": "bias_n"}},
    ),
    "one bias twice": (
        ("haiku", "rnn"),
        {"arrays": FIRST | SECOND | {"linear_1.b": "bias_ih"}},
    ),
}


@pytest.mark.parametrize(("cell", "mistake"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_seen(monkeypatch, cell, mistake):
    framework, kind = cell
    layouts = FRAMEWORKS[framework].cells
    for i, layout in enumerate(layouts):
        if layout.kind == kind:
            monkeypatch.setitem(layouts, i, layout._replace(**mistake))
    with pytest.raises(AssertionError):
        test_values_and_gradients(framework, kind)
