"""Converted weights compute the same in the frameworks that they are for, and come back alike."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import LAYERS, assert_close, assert_equal, assert_refused, every_layer_of_torch, score
from helpers import draw as draw_layer

import jaxrnn
from jaxrnn import Structure, convert
from jaxrnn.convert import layouts as _layouts


INPUT, HIDDEN, BATCH = 3, 5, 4
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
CELLS = [
    (framework, kind)
    for framework in TO
    for kind in ("lstm", "gru", "rnn")
    if (framework, kind) not in _layouts.ABSENT and (framework == "nnx split") <= (kind == "lstm")
]
every_cell = pytest.mark.parametrize(("framework", "kind"), CELLS, ids=map(" ".join, CELLS))
# Of these the real cell runs, differentiated; ONNX Runtime in test_voices, without gradients.
RUN = [cell for cell in CELLS if cell[0] != "ONNX"]


@pytest.fixture(autouse=True)
def keras_on_jax(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")


def draw(framework, kind, dtype=float, bias=True, seed=0):
    """Parameters of a cell, both biases random, but for the b_hn that nnx has not; x; the state."""
    rng = np.random.default_rng(seed)
    array = lambda *shape: jnp.asarray(rng.normal(size=shape).astype(dtype))
    shapes = Structure(f"{kind}_cell", INPUT, HIDDEN, bias=bias).shapes
    params = {name: array(*shape) for name, shape in shapes.items()}
    if (framework, kind) == ("nnx", "gru") and bias:
        params["bias_hh"] = params["bias_hh"].at[2 * HIDDEN :].set(0)
    state = [array(BATCH, HIDDEN) for _ in range(1 + (kind == "lstm"))]
    return params, array(BATCH, INPUT), state


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


@every_cell
@pytest.mark.parametrize("bias", [True, False])
def test_there_and_back(framework, kind, bias):
    """Of the framework's own weights to the last bit; of torch's, the biases added."""
    params, *_ = draw(framework, kind, bias=bias)
    weights = TO[framework](params)
    rng = np.random.default_rng(1)
    random = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), weights)
    back = FROM[framework](random)
    assert_equal(TO[framework](back), random)
    assert_equal(FROM[framework](TO[framework](back)), back)
    needs_bias = framework in ("linen", "nnx", "nnx split", "haiku")
    assert [*back] == [*draw(framework, kind, bias=bias or needs_bias)[0]]
    mine = FROM[framework](weights)
    for end in "ih", "hh":
        assert_equal(mine[f"weight_{end}"], params[f"weight_{end}"])
    if bias and framework in ("keras", "ONNX") and kind == "gru":
        assert_equal(mine, params)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@every_cell
def test_dtypes_stay(framework, kind, dtype):
    weights = TO[framework](draw(framework, kind, jnp.dtype(dtype))[0])
    assert {a.dtype.name for a in jax.tree.leaves([weights, FROM[framework](weights)])} == {dtype}


def test_table():
    """Every gate of every tensor has one place, in an order that is one of its gates."""
    for layouts in _layouts.LAYOUTS.values():
        for layout in layouts:
            assert sorted(layout.gates) == sorted(_layouts.TORCH[layout.kind])
            parts = [(tensor, g) for tensor, gates in layout.slots.values() for g in gates]
            assert len({*parts}) == len(parts)
            wanted = {(end, g) for end in ("weight_ih", "weight_hh") for g in layout.gates}
            assert wanted < {*parts}


MISTAKES = {
    "gates as in torch": (("keras", "gru"), {"gates": "rzn"}),
    "gates as in ONNX": (("equinox", "lstm"), {"gates": "iofg"}),
    "forget bias forgotten": (("haiku", "lstm"), {"forget": 0.0}),
    "one bias left out": (
        ("linen", "gru"),
        {"arrays": _layouts._GATES | {"i{}.bias": "bias_ih", "hn.bias": "bias_n"}},
    ),
    "one bias twice": (
        ("haiku", "rnn"),
        {"arrays": _layouts._FIRST | _layouts._SECOND | {"linear_1.b": "bias_ih"}},
    ),
}


@pytest.mark.parametrize(("cell", "mistake"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_seen(monkeypatch, cell, mistake):
    framework, kind = cell
    wrong = [a._replace(**mistake) if a.kind == kind else a for a in _layouts.LAYOUTS[framework]]
    monkeypatch.setitem(_layouts.LAYOUTS, framework, wrong)
    with pytest.raises(AssertionError):
        test_values_and_gradients(framework, kind)


@every_layer_of_torch
def test_a_layer_is_its_cells(layer):
    params, *_ = draw_layer(layer)
    cells = convert.cells(params)
    assert [{*cell} for cell in cells] == [{*layer.cell.structure.shapes}] * 4
    assert_equal(convert.stack(cells, bidirectional=True), params)
    forward = convert.stack(cells[::2][:1])
    assert jaxrnn.structure(forward)[3:6] == (1, True, False)


def test_a_cell_is_its_own():
    cell, *_ = draw("keras", "gru")
    [same] = convert.cells(cell)
    assert_equal(same, cell)


def test_both_directions_of_a_node():
    cells = convert.cells(draw_layer(LAYERS["gru"])[0])
    weights = convert.to_onnx(cells[:2])
    assert {name: a.shape for name, a in weights.items()} == {
        "W": (2, 15, 3), "R": (2, 15, 5), "B": (2, 30),
    }  # fmt: skip
    attributes = {"direction": b"bidirectional", "hidden_size": 5, "activations": None, "clip": 0.0}
    assert_equal(convert.from_onnx(weights, linear_before_reset=1, **attributes), cells[:2])


NODES = {
    kind: [draw("ONNX", kind, seed=seed)[0] for seed in (0, 1)] for kind in ("lstm", "gru", "rnn")
}
THREE = [b"Sigmoid", b"Tanh", b"Tanh"]


@pytest.mark.parametrize(
    ("kind", "ways", "attributes"),
    [
        ("lstm", 1, {"activations": THREE}),
        ("lstm", 2, {"activations": THREE * 2, "direction": "bidirectional"}),
        ("lstm", 1, {"activations": ["sigmoid", "TANH", "tanh"], "direction": b"forward"}),
        ("lstm", 1, {"input_forget": 0, "clip": None, "layout": 1, "hidden_size": HIDDEN}),
        ("lstm", 1, {"activations": np.array(THREE), "clip": np.array(0.0)}),
        ("lstm", 1, {"activation_alpha": [], "activation_beta": (), "layout": np.int64(0)}),
        ("gru", 1, {"activations": ["Sigmoid", "Tanh"], "linear_before_reset": 1}),
        ("gru", 2, {"activations": ["Sigmoid", "Tanh"] * 2, "linear_before_reset": 1}),
        ("gru", 2, {"hidden_size": np.array(HIDDEN), "linear_before_reset": 1}),
        ("rnn", 1, {"activations": ["Relu"], "output_sequence": 1}),
        ("rnn", 1, {"activations": ["Tanh"], "direction": None}),
        ("rnn", 2, {"activations": [b"Relu", b"relu"]}),
    ],
)
def test_attributes_of_the_same_function(kind, ways, attributes):
    node = convert.to_onnx(NODES[kind][:ways]) | {"P": None}
    assert_equal(convert.from_onnx(node, **attributes), NODES[kind][:ways])


@pytest.mark.parametrize(
    ("kind", "ways", "attributes", "message"),
    [
        ("lstm", 1, {"activations": ["Tanh", "Tanh", "Tanh"]}, "`activations` is ['Tanh', "),
        ("lstm", 1, {"activations": ["Sigmoid", "Tanh", "Relu"]}, "`activations` is"),
        ("lstm", 2, {"activations": THREE}, "`activations` is ['Sigmoid', 'Tanh', 'Tanh']: "),
        ("lstm", 2, {"activations": [*THREE, "Tanh", "Tanh", "Tanh"]}, "`activations` is"),
        ("lstm", 1, {"activations": THREE * 2}, "`activations` is"),
        ("lstm", 1, {"activations": np.array(["Tanh"] * 3)}, "`activations` is ['Tanh', "),
        ("lstm", 1, {"input_forget": 1}, "`input_forget` is 1: another function than torch's LSTM"),
        ("lstm", 1, {"clip": np.array([3.0])}, "`clip` is [3.0]: another function"),
        ("lstm", 1, {"activation_alpha": [0.5]}, "`activation_alpha` is [0.5]: another function"),
        ("gru", 1, {"activations": ["HardSigmoid", "Tanh"]}, "`activations` is"),
        ("gru", 2, {"activations": ["Sigmoid", "Tanh"]}, "`activations` is"),
        ("rnn", 1, {"activations": ["Sigmoid"]}, "`activations` is ['Sigmoid']: another function"),
        ("rnn", 2, {"activations": ["Relu", "Tanh"]}, "`activations` is ['Relu', 'Tanh']: another"),
        (
            "rnn",
            1,
            {"direction": "sideways"},
            "must be 'forward' or 'bidirectional', got 'sideways'",
        ),
        ("rnn", 2, {"direction": b"forward"}, "`direction` is forward, but `W` and `R` have 2"),
        ("rnn", 1, {"direction": "bidirectional"}, "`direction` is bidirectional, but `W` and `R`"),
        ("rnn", 1, {"direction": b"reverse"}, "leave it out, and flip x and y over time"),
        ("rnn", 1, {"hidden_size": 4}, "`hidden_size` is 4, but `R` has that of 5"),
        ("rnn", 1, {"layout": 2}, "`layout` must be 0 or 1, got 2"),
        ("rnn", 1, {"colour": 0}, "`colour` is no attribute of ONNX's RNN"),
    ],
)
def test_attributes_of_another_function(kind, ways, attributes, message):
    node = convert.to_onnx(NODES[kind][:ways])
    before = {"linear_before_reset": 1} if kind == "gru" else {}
    assert_refused(lambda: convert.from_onnx(node, **before, **attributes), ValueError, message)


def test_names_and_forms_of_frameworks():
    """Other than those that come out: haiku's paths, equinox's sizes, keras's names, one bias."""
    lstm, rnn, gru = (draw("keras", kind)[0] for kind in ("lstm", "rnn", "gru"))
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
    gru, *_ = draw("keras", "gru")
    assert np.isnan(jax.jit(convert.to_nnx)(gru)["dense_i"]["bias"][-HIDDEN:]).all()
    right, *_ = draw("nnx", "gru")
    assert_equal(jax.jit(convert.to_nnx)(right), convert.to_nnx(right))
    lstm = convert.to_onnx([draw("keras", "lstm")[0]])
    peepholes = {"P": jnp.ones((1, 3 * HIDDEN))}
    assert np.isnan(jax.jit(convert.from_onnx)(lstm | peepholes)[0]["weight_ih"]).all()


LSTM_CELL, GRU_CELL, RNN_CELL = (draw("keras", kind)[0] for kind in ("lstm", "gru", "rnn"))
LSTM_LAYER = convert.stack([LSTM_CELL])
ONNX_LSTM, ONNX_GRU, ONNX_RNN = (
    convert.to_onnx([cell]) for cell in (LSTM_CELL, GRU_CELL, RNN_CELL)
)
KERAS = convert.to_keras(GRU_CELL)
PROJECTED = LSTM_CELL | {"weight_hh": np.ones((20, 2)), "weight_hr": np.ones((2, 5))}
without = lambda weights, name: {key: a for key, a in weights.items() if key != name}
SEEDS = {"count": np.zeros((), np.uint32), "key": np.zeros(2, np.uint32)}
DENSE = {"kernel": np.ones((HIDDEN, HIDDEN))}
RESETS = "resets before the product with the hidden weights, torch's after it"
REFUSALS = {
    "haiku's GRU, from": (
        lambda: convert.from_haiku({"gru": {"w_i": KERAS[0], "w_h": KERAS[1], "b": KERAS[0][0]}}),
        f"`weights` are of haiku's GRU: it {RESETS}",
    ),
    "haiku's GRU, to": (
        lambda: convert.to_haiku(GRU_CELL),
        f"haiku has no GRU like torch's: it {RESETS}",
    ),
    "haiku's RNN of tanh": (
        lambda: convert.to_haiku(RNN_CELL),
        "`nonlinearity` is 'tanh', but haiku's VanillaRNN",
    ),
    "haiku, two cores": (
        lambda: convert.from_haiku(
            convert.to_haiku(LSTM_CELL, "a") | convert.to_haiku(LSTM_CELL, "b")
        ),
        "`weights` must be those of one core, got the modules `a/linear`, `b/linear`",
    ),
    "haiku, a weight transposed": (
        lambda: convert.from_haiku({"lstm/linear": {"w": np.ones((20, 8)), "b": np.ones(20)}}),
        "`linear.w` has shape (20, 8), wanted (input_size + hidden_size, 20) for haiku's LSTM",
    ),
    "equinox's RNN": (
        lambda: convert.to_equinox(RNN_CELL),
        "equinox has no RNN like torch's: it has an LSTMCell and a GRUCell only",
    ),
    "keras's GRU, from its bias": (
        lambda: convert.from_keras([*KERAS[:2], KERAS[2][0]]),
        f"`weights` are of a GRU with reset_after=False: it {RESETS}",
    ),
    "keras's GRU, from": (
        lambda: convert.from_keras(KERAS[:2], reset_after=False),
        f"`weights` are of a GRU with reset_after=False: it {RESETS}",
    ),
    "keras's GRU, to": (
        lambda: convert.to_keras(GRU_CELL, reset_after=False),
        f"`reset_after` is False, of a GRU: it {RESETS}",
    ),
    "keras, a Bidirectional": (
        lambda: convert.from_keras([*KERAS, *KERAS]),
        "a bias, got 6 arrays: convert layer by layer",
    ),
    "keras, a weight transposed": (
        lambda: convert.from_keras([KERAS[0], KERAS[1].T]),
        "`recurrent_kernel` has shape (15, 5), wanted (hidden_size, k · hidden_size), where k is "
        "4 (LSTM), 3 (GRU), 1 (SimpleRNN): is it transposed?",
    ),
    "keras, of another size": (
        lambda: convert.from_keras([np.ones((3, 12)), KERAS[1]]),
        "`kernel` has shape (3, 12), wanted (input_size, 15) for keras's GRU with hidden_size=5",
    ),
    "nnx's GRU": (
        lambda: convert.to_nnx(GRU_CELL),
        "`bias_hh` is not 0, but nnx's GRU has no b_hn, the last third of it",
    ),
    "ONNX's GRU": (
        lambda: convert.from_onnx(ONNX_GRU),
        f"`linear_before_reset` is 0, as it is by default: it {RESETS}",
    ),
    "ONNX's peepholes": (
        lambda: convert.from_onnx(ONNX_LSTM | {"P": np.ones((1, 15))}),
        "`P` is not 0, but torch's LSTM has no peepholes",
    ),
    "ONNX, only backwards": (
        lambda: convert.from_onnx(ONNX_LSTM, direction="reverse"),
        "`direction` is reverse, but no layer of torch only goes backwards",
    ),
    "ONNX, clipped": (
        lambda: convert.from_onnx(ONNX_LSTM, clip=3.0),
        "`clip` is 3.0: another function than torch's LSTM",
    ),
    "ONNX, other activations": (
        lambda: convert.from_onnx(ONNX_RNN, activations=[b"Elu"]),
        "`activations` is ['Elu']: another function than torch's RNN",
    ),
    "ONNX, no directions": (
        lambda: convert.from_onnx(ONNX_LSTM | {"W": ONNX_LSTM["W"][0]}),
        "`W` has shape (20, 3), wanted 3 axes, of which the first is the 1 or 2 directions",
    ),
    "ONNX, half a bias": (
        lambda: convert.from_onnx(ONNX_LSTM | {"B": np.ones((1, 20))}),
        "`B` has shape (1, 20), wanted (1, 40) for ONNX's LSTM",
    ),
    "ONNX, without W": (
        lambda: convert.from_onnx(without(ONNX_LSTM, "W")),
        "`weights` has no `W`, only `R`, `B`",
    ),
    "ONNX, three cells": (
        lambda: convert.to_onnx([LSTM_CELL] * 3),
        "`cells` must be one cell, or two, forward and backward, got 3: a node has one layer",
    ),
    "ONNX, unlike cells": (
        lambda: convert.to_onnx([LSTM_CELL, GRU_CELL]),
        "`cells` must be alike, forward and backward, got kind lstm_cell and gru_cell",
    ),
    "ONNX, cells of two layers": (
        lambda: convert.to_onnx([LSTM_CELL, LSTM_CELL | {"weight_ih": np.ones((20, 5))}]),
        "`cells` must be alike, forward and backward, got input_size 3 and 5: layers on one",
    ),
    "ONNX, R transposed": (
        lambda: convert.from_onnx(ONNX_LSTM | {"R": np.ones((1, 5, 20))}),
        "`R` has shape (1, 5, 20), wanted (1, k · hidden_size, hidden_size), where k is",
    ),
    "ONNX, W of another size": (
        lambda: convert.from_onnx(ONNX_LSTM | {"W": np.ones((1, 16, 3))}),
        "`W` has shape (1, 16, 3), wanted (1, 20, input_size) for ONNX's LSTM with 1 directions",
    ),
    "ONNX, zeros in a wrong shape": (
        lambda: convert.from_onnx(ONNX_LSTM | {"P": np.zeros((1, 20))}),
        "`P` has shape (1, 20), wanted (1, 15) for ONNX's LSTM",
    ),
    "ONNX, a GRU's peepholes": (
        lambda: convert.from_onnx(ONNX_GRU | {"P": np.zeros((1, 15))}),
        "`weights` has the unexpected key `P`, which ONNX's GRU has not",
    ),
    "ONNX, half a node": (
        lambda: convert.from_onnx(ONNX_LSTM | {"W": np.ones((2, 20, 3))}),
        "`W` has shape (2, 20, 3), wanted (1, 20, input_size)",
    ),
    "haiku, a plain Linear": (
        lambda: convert.from_haiku({"linear": {"w": np.ones((7, 8)), "b": np.ones(8)}}),
        "must be those of a core, such as `lstm/linear`, got `linear`: a plain hk.Linear is none",
    ),
    "haiku, a plain Linear of a module": (
        lambda: convert.from_haiku({"net/~/linear": {"w": np.ones((7, 8)), "b": np.ones(8)}}),
        "must be those of a core, such as `lstm/linear`, got `net/~/linear`",
    ),
    "haiku, a weight too low": (
        lambda: convert.from_haiku({"lstm/linear": {"w": np.ones((1, 8))}}),
        "`linear.w` has shape (1, 8), wanted (input_size + hidden_size, 4 · hidden_size)",
    ),
    "haiku, no nonlinearity": (
        lambda: convert.to_haiku(LSTM_CELL, nonlinearity="junk"),
        "`nonlinearity` must be 'tanh' or 'relu', got 'junk'",
    ),
    "keras, a kernel transposed": (
        lambda: convert.from_keras([np.ones((15, 3)), *KERAS[1:]]),
        "`kernel` has shape (15, 3), wanted (input_size, 15) for keras's GRU with hidden_size=5",
    ),
    "keras, a bias of 3 rows": (
        lambda: convert.from_keras([*KERAS[:2], np.ones((3, 15))]),
        "`bias` has shape (3, 15), wanted (2, 15) for keras's GRU",
    ),
    "linen, one gate of another size": (
        lambda: convert.from_linen(
            convert.to_linen(GRU_CELL) | {"iz": {"kernel": np.ones((4, 5)), "bias": np.ones(5)}}
        ),
        "`iz.kernel` has shape (4, 5), wanted (3, 5) for linen's GRUCell",
    ),
    "nnx, a whole RNN": (
        lambda: convert.from_nnx({"cell": convert.to_nnx(RNN_CELL), "rngs": SEEDS}),
        "`weights` are of a whole model, got ... such as weights['cell']",
    ),
    "nnx, a whole model": (
        lambda: convert.from_nnx(
            {"seeds": SEEDS, "rnns": {0: {"cell": convert.to_nnx(LSTM_CELL)}}}
        ),
        "`weights` are of a whole model, got ... such as weights['rnns'][0]['cell']",
    ),
    "linen, one level too high": (
        lambda: convert.from_linen({"cell": convert.to_linen(LSTM_CELL)}),
        "`weights` are of a whole model, got `cell.ii.kernel`, ... such as weights['cell']",
    ),
    "linen's MGUCell": (
        lambda: convert.from_linen({name: DENSE for name in ("if", "in", "hf", "hn")}),
        "got `if.kernel`, `in.kernel`, `hf.kernel`, `hn.kernel`: ... a cell that torch has not?",
    ),
    "linen, without a bias": (
        lambda: convert.from_linen(convert.to_linen(GRU_CELL) | {"hn": DENSE}),
        "`weights` has no `hn.bias`, which linen's GRUCell has",
    ),
    "linen, with another": (
        lambda: convert.from_linen(convert.to_linen(GRU_CELL) | {"out": DENSE}),
        "`weights` has the unexpected key `out.kernel`, which linen's GRUCell has not",
    ),
    "a layer": (
        lambda: convert.to_keras(LSTM_LAYER),
        "`params` must be a cell's, such as `weight_ih`, got `weight_ih_l0`, ... with `cells`",
    ),
    "a projection": (
        lambda: convert.to_linen(PROJECTED),
        "`params` are of a projected LSTM, which linen has not",
    ),
    "half a pair": (
        lambda: convert.stack([LSTM_CELL], bidirectional=True),
        "`cells` must be pairs of cells, forward and backward, got 1",
    ),
    "no cells": (lambda: convert.stack([]), "`cells` must be at least one cell, got 0"),
    "cells that do not fit": (
        lambda: convert.stack([LSTM_CELL, LSTM_CELL]),
        "`weight_ih_l1` has shape (20, 3), wanted (20, 5)",
    ),
    "a number": (
        lambda: convert.from_keras([KERAS[0], KERAS[1], np.float64(0)]),
        "`bias` must be an array, got a single number",
    ),
}
TYPES = {
    "no dict": (lambda: convert.from_linen([1]), "`weights` must be a dict of arrays, got list"),
    "one dict of a cell": (
        lambda: convert.stack(LSTM_CELL),
        "`cells` must be a list of cells' parameters, each of",
    ),
    "integers": (
        lambda: convert.from_keras([np.ones((3, 15), int), KERAS[1]]),
        "`kernel` must be floating, got int64",
    ),
    "mixed dtypes": (
        lambda: convert.to_keras(GRU_CELL | {"bias_hh": np.ones(15, np.float32)}),
        "`bias_hh` is float32, but `weight_ih` is float64: cast one of them",
    ),
    "no arrays": (
        lambda: convert.from_keras([[1.0], [2.0]]),
        "`kernel` must be an array, got list",
    ),
    "nothing for keras": (
        lambda: convert.from_keras(None),
        "`weights` must be a list of arrays, as of `layer.get_weights()`, ... got NoneType",
    ),
    "a generator of cells": (
        lambda: convert.stack(cell for cell in [LSTM_CELL]),
        "`cells` must be a list of cells' parameters, each of them a dict, got generator",
    ),
    "a list of names": (
        lambda: convert.stack([*LSTM_CELL]),
        "`cells` must be a list of cells' parameters, each of them a dict, got one with a str",
    ),
    "one cell for ONNX": (
        lambda: convert.to_onnx(LSTM_CELL),
        "`cells` must be a list of cells' parameters, each of them a dict, got dict",
    ),
    "no names": (
        lambda: convert.from_haiku({1: {"w": np.ones((7, 8))}}),
        "`weights` has the key 1: keys are names, strings",
    ),
    "ONNX, one name": (
        lambda: convert.from_onnx(ONNX_RNN, activations="Relu"),
        "`activations` must be a list of names, got 'Relu'",
    ),
}


@pytest.mark.parametrize(("call", "message"), REFUSALS.values(), ids=REFUSALS)
def test_refusals(call, message):
    assert_refused(call, ValueError, message)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(("call", "message"), TYPES.values(), ids=TYPES)
def test_wrong_types(call, message):
    assert_refused(call, TypeError, message)


def test_nothing_is_narrowed():
    with jax.enable_x64(False):
        wide = {name: np.asarray(a) for name, a in LSTM_CELL.items()}
        assert_refused(
            lambda: convert.to_keras(wide), TypeError, "which JAX would store as float32"
        )
