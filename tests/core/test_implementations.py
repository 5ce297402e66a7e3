"""Every implementation computes what "scan" does, in all derivatives; and what "fused" saves."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import HIDDEN, INPUT, LAYERS, LSTM, assert_close, assert_equal, draw, score

from jaxrnn import _fused
from jaxrnn._cells import gru_step, lstm_step, relu_step, tanh_step
from jaxrnn._implementations import IMPLEMENTATIONS, run


STEPS = {"rnn tanh": tanh_step, "rnn relu": relu_step, "lstm": lstm_step, "gru": gru_step}
TIME, BATCH = 6, 4


def over_time(implementation, name, reverse=False, return_all_states=False):
    """(params, x, state, valid) → every, final."""
    options = {"reverse": reverse, "return_all_states": return_all_states}
    return functools.partial(IMPLEMENTATIONS[implementation].run, STEPS[name], **options)


def derivatives(implementation, name, ragged):
    """Values with tangents, gradients with tangents; ragged, reversed, masked and all states."""

    def f(leaves):
        params, x, state = leaves
        params = params | {"mask_hh": mask} if ragged else params
        return over_time(implementation, name, ragged, ragged)(params, x, state, valid)

    rng = np.random.default_rng(0)
    cell = LAYERS[name].cell.replace(bias=ragged)
    params, _, state = draw(cell, batch=BATCH)
    x = jnp.asarray(rng.standard_normal((TIME, BATCH, INPUT)))
    mask = jnp.asarray(rng.integers(3, size=(BATCH, HIDDEN)), float)
    valid = jnp.arange(TIME)[:, None, None] < jnp.array([4, 0, TIME, 1])[:, None]
    valid = valid if ragged else None
    d_params, _, d_state = draw(cell, batch=BATCH, seed=1)
    leaves, tangents = (params, x, state), (d_params, jnp.sin(x), d_state)
    gradient = jax.grad(lambda leaves: score(f(leaves)))

    @jax.jit
    def both(leaves, tangents):
        return jax.jvp(f, (leaves,), (tangents,)), jax.jvp(gradient, (leaves,), (tangents,))

    return both(leaves, tangents)


scanned = functools.cache(functools.partial(derivatives, "scan"))


# A GRU's products cannot be merged; an LSTM stands for the others in all layouts.
LAYOUTS = [
    *((name, flat, name != "gru") for name in STEPS for flat in (None, BATCH)),
    ("lstm", BATCH, False),
]


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize(("name", "flat", "merged"), LAYOUTS)
def test_derivatives(name, flat, merged, ragged, monkeypatch):
    """Forward mode, reverse mode and one over the other, by every leaf, over chunks of time."""
    monkeypatch.setattr(_fused, "_layout", lambda cell, params, x: (flat, merged))
    monkeypatch.setattr(_fused, "ROWS", 2 * BATCH)
    assert_close(derivatives("fused", name, ragged), scanned(name, ragged))


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize(
    ("batch", "large", "flat"), [(4, 2**18, None), (32, 2**18, 32), (4, 1, 4), (0, 1, None)]
)
def test_layout(name, batch, large, flat, monkeypatch):
    """Flat for large weights and for wide batches of uneven rows."""
    monkeypatch.setattr(_fused, "LARGE", large)
    params, x, _ = draw(LAYERS[name].cell, batch=batch)
    assert _fused._layout(_fused.CELLS[STEPS[name]], params, x[None])[0] == flat


@pytest.mark.parametrize("name", ["lstm", "gru"])
@pytest.mark.parametrize("batch", [0, 32])
def test_layout_that_is_picked(name, batch, monkeypatch):
    """With lengths, over chunks."""
    monkeypatch.setattr(_fused, "ROWS", 8)
    params, x, state = draw(LAYERS[name].cell, batch=batch)
    x = jnp.stack([x, jnp.sin(x), jnp.cos(x), -x])
    valid = jnp.arange(4)[:, None, None] < (jnp.arange(batch) % 5)[:, None]

    def both(implementation):
        f = lambda *leaves: over_time(implementation, name)(*leaves, valid)
        gradient = jax.grad(lambda *leaves: score(f(*leaves)), (0, 1, 2))
        return jax.jit(lambda *leaves: (f(*leaves), gradient(*leaves)))(params, x, state)

    assert_close(both("fused"), both("scan"))


def loss(implementation, name, time, batch):
    """A function of params, x and state, and these."""
    params, _, state = draw(LAYERS[name].cell, batch=batch)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((time, batch, INPUT)))
    f = over_time(implementation, name)
    squares = lambda *leaves: jax.tree.map(jnp.square, f(*leaves, None))
    return lambda *leaves: score(squares(*leaves)), (params, x, state)


def test_gradient_by_one_argument(monkeypatch):
    """Is that part of the whole gradient, and no product is spent on the other arguments."""
    monkeypatch.setattr(_fused, "ROWS", 2 * BATCH)
    f, leaves = loss("fused", "gru", TIME, BATCH)
    part = lambda i: jax.grad(f, i)(*leaves)
    found, wanted = jax.jit(lambda: (tuple(map(part, range(3))), jax.grad(f, (0, 1, 2))(*leaves)))()
    assert_close(found, wanted)
    # Two in the loop forwards, one backwards, and those of the two weights or of x.
    products = [str(jax.make_jaxpr(lambda i=i: part(i))()).count("dot_general") for i in range(3)]
    assert products == [5, 4, 3]


@pytest.mark.parametrize("name", STEPS)
def test_memory_of_gradients(name):
    """It is less than that of the plain scan."""
    scan, fused = (
        jax.jit(jax.grad(f, (0, 1, 2))).lower(*leaves).compile().memory_analysis()
        for f, leaves in (loss(way, name, time=64, batch=64) for way in ("scan", "fused"))
    )
    assert fused.temp_size_in_bytes < scan.temp_size_in_bytes


@pytest.mark.parametrize(("name", "flat", "merged"), LAYOUTS)
def test_what_is_not_valid_is_inert(name, flat, merged, monkeypatch):
    """NaN in the padding, and in the state of an empty sequence, reaches no gradient."""
    monkeypatch.setattr(_fused, "_layout", lambda cell, params, x: (flat, merged))
    params, _, state = draw(LAYERS[name].cell, batch=BATCH)
    x = np.random.default_rng(0).standard_normal((TIME, BATCH, INPUT))
    valid = jnp.arange(TIME)[:, None, None] < jnp.array([4, 0, TIME, 1])[:, None]

    def f(params, x, state):
        y, _ = over_time("fused", name)(params, x, state, valid)
        return score(jnp.where(valid, y, 0.0))

    @jax.jit
    def gradients(content):
        given = jnp.where(valid, x, content), jax.tree.map(lambda a: a.at[1].set(content), state)
        leaves = params, *given
        tangent = lambda *primals: jax.jvp(f, primals, leaves)[1]
        return jax.grad(f, (0, 1, 2))(*leaves), jax.grad(tangent)(*leaves)

    assert_equal(gradients(jnp.nan), gradients(0.0))


@pytest.mark.parametrize("name", STEPS)
def test_sizes_unknown_when_tracing(name):
    """`jax.export` for any number of steps and of sequences."""
    params, x, _ = draw(LAYERS[name].cell, batch=BATCH)
    x = jnp.stack([x, jnp.sin(x)])
    sizes = jax.tree.map(lambda a: a.shape[1], draw(LAYERS[name].cell)[2])

    def f(params, x):
        state = jax.tree.map(lambda size: jnp.zeros((x.shape[1], size), x.dtype), sizes)
        options = {"reverse": False, "return_all_states": False, "checkpoint_every": None}
        _, final = run(None, STEPS[name], params, x, state, None, **options)
        return sum(jnp.sum(jnp.sin(a)) for a in jax.tree.leaves(final))

    gradient = jax.jit(jax.grad(f))
    steps, batch = jax.export.symbolic_shape("t, b")
    shapes = jax.eval_shape(lambda: params), jax.ShapeDtypeStruct((steps, batch, INPUT), x.dtype)
    assert_close(jax.export.export(gradient)(*shapes).call(params, x), gradient(params, x))


@pytest.mark.parametrize("name", ["lstm proj", "lstm norm"])
def test_none_picks_what_can_run(name):
    layer = LAYERS[name]
    trace = lambda way: str(
        jax.make_jaxpr(lambda leaves: layer(*leaves, implementation=way))(draw(layer))
    )
    assert trace(None) == trace("scan")
    assert "custom_jvp" in str(jax.make_jaxpr(lambda leaves: LSTM(*leaves))(draw(LSTM)))
