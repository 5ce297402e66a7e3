"""Known mistakes, written in JAX with random sizes, are each named first; right ports are not."""

import functools
import json
import pathlib
import subprocess
import sys
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers import assert_refused

import jaxrnn
from jaxrnn import Structure
from jaxrnn._cells import lstm_step, rnn_step
from parity import diagnose
from parity.__main__ import main
from parity.backends import jax as jax_backend
from parity.backends.data import draw
from parity.cases import table
from parity.diagnosis.script import write_script
from parity.mutants import layers as m


class Planted(NamedTuple):
    """A port with a mistake: what has to be said of it, the layer, and how it is called."""

    said: tuple[str, ...]
    port: Callable[..., Any]
    kind: str = "lstm"
    structure: dict[str, Any] = {}  # noqa: RUF012
    lengths: bool = False
    state: bool = True
    batch_first: bool = False
    dropout: float = 0.0
    nonlinearity: str = "tanh"
    dtype: str = "float32"
    gradients: bool = False


class Given(NamedTuple):
    """Numbers for a port: torch's weights, and what else it is called with."""

    weights: dict[str, np.ndarray]
    inputs: dict[str, np.ndarray]


def given(planted: Planted, name: str) -> Given:
    """All sizes at random and different, so that no mistake fits by chance."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    time, batch, inputs, hidden = rng.permutation([3, 4, 5, 6, 7, 8, 9])[:4]
    s = Structure(planted.kind, int(inputs), int(hidden), **planted.structure)
    draw = lambda *shape: (0.8 * rng.standard_normal(shape)).astype(planted.dtype)
    weights = {name: draw(*shape) for name, shape in s.shapes.items()}
    if planted.kind.endswith("_cell"):
        leading, cells = (batch,), (batch,)
    else:
        leading = (batch, time) if planted.batch_first else (time, batch)
        cells = (len(s.suffixes), batch)
    numbers = {"x": draw(*leading, s.input_size)}
    if planted.state:
        numbers["h0"] = draw(*cells, s.output_size)
        if s.gates == 4:
            numbers["c0"] = draw(*cells, s.hidden_size)
    if planted.lengths:
        lengths = rng.integers(1, time, batch)
        lengths[[0, 2]] = time - 1, 1  # none of them full, and not sorted
        numbers["lengths"] = lengths
    if planted.dropout:
        shape = (s.num_layers - 1, *leading, s.num_directions * s.output_size)
        numbers["masks"] = rng.random(shape) >= planted.dropout
    return Given(weights, numbers)


def call(planted: Planted, weights: Any, inputs: Any) -> Any:
    """The port, on `(params, x, state, **options)` as jaxrnn's own functions."""
    options: dict[str, Any] = {}
    if not planted.kind.endswith("_cell"):
        options = {"batch_first": planted.batch_first, "lengths": inputs.get("lengths")}
    if planted.dropout:
        options |= {"dropout": planted.dropout, "masks": inputs["masks"]}
    if planted.kind.startswith("rnn"):
        options["nonlinearity"] = planted.nonlinearity
    state = None
    if "h0" in inputs:
        state = (inputs["h0"], inputs["c0"]) if "c0" in inputs else inputs["h0"]
    found = planted.port(weights, inputs["x"], state, **options)
    y, state = (None, found) if planted.kind.endswith("_cell") else found
    names = ["hn", "cn"]
    return ({} if y is None else {"y": y}) | dict(zip(names, jax.tree.leaves(state), strict=False))


def diagnosed(planted: Planted, name: str, scale: float = 1.0) -> Any:
    """Of a function where gradients count, of its numbers otherwise; `scale` is of the weights."""
    weights, inputs = given(planted, name)
    weights = {n: a * a.dtype.type(scale) for n, a in weights.items()}
    outputs: Any = jax.jit(lambda weights, **inputs: call(planted, weights, inputs))
    if not planted.gradients:
        outputs = jax.tree.map(np.asarray, outputs(weights, **inputs))
    return diagnose(
        planted.kind if planted.kind.endswith("_cell") else None,
        weights,
        inputs,
        outputs,
        nonlinearity=planted.nonlinearity,
        batch_first=planted.batch_first,
        dropout=planted.dropout,
    )


# Ports.


def with_params(change, function=jaxrnn.lstm):
    return lambda params, x, state, **options: function(change(params), x, state, **options)


def with_gates(order, function=jaxrnn.lstm):
    return with_params(m.reorder(len(order), order), function)


def on(part, change):
    """Weights whose names have `part`, changed."""
    return lambda params: {n: change(a) if part in n else a for n, a in params.items()}


def lstm_with(sigmoid=jax.nn.sigmoid, act=jnp.tanh, squash=jnp.tanh, forget=0.0):
    def step(params, x, state):
        gates = x @ params["weight_ih"].T + state.h @ params["weight_hh"].T
        i, f, g, o = jnp.split(gates + params["bias_ih"] + params["bias_hh"], 4, axis=-1)
        c = sigmoid(f + forget) * state.c + sigmoid(i) * act(g)
        return jaxrnn.LSTMState(sigmoid(o) * squash(c), c)

    return m.with_step("lstm", step)


def gru_with(mix):
    """A GRU whose n is `tanh(mix(r, W_in x, b_in, W_hn h, b_hn))`."""

    def step(params, x, h):
        size = h.shape[-1]
        a, b = x @ params["weight_ih"].T, h @ params["weight_hh"].T
        whole = a + b + params["bias_ih"] + params["bias_hh"]
        r, z = (jax.nn.sigmoid(whole[..., k * size : (k + 1) * size]) for k in (0, 1))
        n = slice(2 * size, None)
        new = jnp.tanh(mix(r, a[..., n], params["bias_ih"][n], b[..., n], params["bias_hh"][n]))
        return (1 - z) * new + z * h

    return m.with_step("gru", step)


def rnn_of(function):
    return m.with_step("rnn", lambda params, x, h: function(m.linear(params, x, h)))


def with_states(before=lambda a: a, after=lambda a: a, function=jaxrnn.lstm):
    def port(params, x, state, **options):
        y, final = function(params, x, jax.tree.map(before, state), **options)
        return y, jax.tree.map(after, final)

    return port


def with_y(change, function=jaxrnn.lstm):
    def port(params, x, state, **options):
        y, final = function(params, x, state, **options)
        return change(y), final

    return port


def joined(params):
    """[W_hh, W_ih] for [x, h]."""
    both = jnp.hstack([params["weight_hh_l0"], params["weight_ih_l0"]])
    width = params["weight_ih_l0"].shape[1]
    return params | {"weight_ih_l0": both[:, :width], "weight_hh_l0": both[:, width:]}


def layer(params, k, *ways):
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return {f"{n}_l0{way}": params[f"{n}_l{k}{way}"] for n in names for way in ways or ("",)}


def from_below(params, x, state, **options):
    """One variable for the state of all layers."""
    own, finals = (state[0][:1], state[1][:1]), []
    for k in (0, 1):
        x, own = jaxrnn.lstm(layer(params, k), x, own, **options)
        finals.append(own)
    return x, jax.tree.map(lambda *a: jnp.concatenate(a), *finals)


def first_layer(params, x, state, **options):
    _, final = jaxrnn.lstm(params, x, state, **options)
    below = jax.tree.map(lambda a: a[:1], state)
    return jaxrnn.lstm(layer(params, 0), x, below, **options)[0], final


def carried_back(params, x, state, **options):
    one = lambda k: jax.tree.map(lambda a: a[k : k + 1], state)
    fore = {name: a for name, a in params.items() if not name.endswith("_reverse")}
    back = {name: params[name + "_reverse"] for name in fore}
    y, final = jaxrnn.lstm(fore, x, one(0))
    z, other = jaxrnn.lstm(back, x[::-1], final)
    state = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), final, other)
    return jnp.concatenate([y, z[::-1]], -1), state


def lengths_from_the_wrong_end(params, x, state, lengths):
    y, final = jaxrnn.lstm(params, x[::-1], state, lengths=lengths)
    return y[::-1], final


def last_of_y(params, x, state, **options):
    y, _ = jaxrnn.gru(params, x, state, **options)
    return y, jnp.stack(jnp.split(y[-1], 2, axis=-1))


def before_the_step(params, x, state, **options):
    y, final = jaxrnn.gru(params, x, state, **options)
    return jnp.concatenate([state, y[:-1]]), final


def sorted_without_states(params, x, state, lengths, **options):
    order = jnp.argsort(-lengths)
    back = jnp.argsort(order)
    y, final = jaxrnn.gru(params, x[:, order], state, lengths=lengths[order])
    return y[:, back], final[:, back]


def confused(params, x, state, **options):
    y, final = jaxrnn.gru(params, x.swapaxes(0, 1), state)
    return y.swapaxes(0, 1), final


def unscaled(params, x, state, *, masks, dropout, **options):
    finals = []
    for k in range(len(masks) + 1):
        x, final = jaxrnn.lstm(
            layer(params, k), x, jax.tree.map(lambda a, k=k: a[k : k + 1], state)
        )
        finals.append(final)
        x = jnp.where(masks[k], x, 0) if k < len(masks) else x
    return x, jax.tree.map(lambda *a: jnp.concatenate(a), *finals)


def evaluated(params, x, state, *, masks, dropout, **options):
    return jaxrnn.lstm(params, x, state, **options)


def inside(dtype):
    def port(params, x, state, **options):
        narrow = lambda tree: jax.tree.map(lambda a: a.astype(dtype), tree)
        found = jaxrnn.lstm(narrow(params), narrow(x), narrow(state), **options)
        return jax.tree.map(lambda a: a.astype(x.dtype), found)

    return port


def rounded_products(bits):
    """Operands cut to so many bits behind the point, to the nearest."""

    def step(params, x, state):
        r = lambda a: jax.lax.reduce_precision(a, exponent_bits=8, mantissa_bits=bits)
        gates = r(x) @ r(params["weight_ih"]).T + r(state.h) @ r(params["weight_hh"]).T
        i, f, g, o = jnp.split(gates + params["bias_ih"] + params["bias_hh"], 4, axis=-1)
        c = jax.nn.sigmoid(f) * state.c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jaxrnn.LSTMState(jax.nn.sigmoid(o) * jnp.tanh(c), c)

    return m.with_step("lstm", step)


def detached(change):
    return m.with_step("lstm", lambda params, x, state: lstm_step(params, x, change(state)))


stop = jax.lax.stop_gradient
only_c = lambda state: jaxrnn.LSTMState(state.h, stop(state.c))
BI = {"bidirectional": True}
DEEP = {"num_layers": 2}
BOTH = DEEP | BI
halved = lambda y: jnp.concatenate(jnp.split(y, 2, axis=-1)[::-1], -1)
merged = lambda r, a, a_bias, b, b_bias: a + a_bias + r * b + b_bias
indoors = lambda r, a, a_bias, b, b_bias: a + r * (b + a_bias + b_bias)
swap = lambda function: lambda params, x, state, **o: function(params, x, state[::-1], **o)
by_hand = m.backward_by_hand
blocks = lambda gates: lambda a: jnp.concatenate([part.T for part in jnp.split(a, gates)])
turned = lambda a: a.reshape(a.shape[::-1]).T
no = jnp.zeros_like
one = lambda said, *rest, **options: Planted((said,), *rest, **options)

PLANTED = {
    # Gates and weights.
    "LSTM i g f o": one("i, g, f, o (haiku)", with_gates([0, 2, 1, 3])),
    "LSTM i o f g": one("i, o, f, g (ONNX)", with_gates([0, 2, 3, 1]), dtype="float64"),
    "LSTM f i o g": one("f, i, o, g;", with_gates([1, 0, 3, 2])),
    "GRU z r n": one("z, r, n (keras, ONNX)", with_gates([1, 0, 2], jaxrnn.gru), "gru"),
    "GRU n z r": one("n, z, r;", with_gates([2, 1, 0], jaxrnn.gru), "gru", BI, dtype="float64"),
    "LSTMCell i g f o": one(
        "i, g, f, o", with_gates([0, 2, 1, 3], jaxrnn.lstm_cell), "lstm_cell"
    ),
    "hh transposed": one("`weight_hh` transposed", with_params(on("weight_hh", blocks(4)))),
    "RNN hh transposed": one(
        "`weight_hh` transposed", with_params(on("weight_hh", blocks(1)), jaxrnn.rnn), "rnn"
    ),
    "one hh transposed": one(
        "`weight_hh_l1` transposed", with_params(on("weight_hh_l1", blocks(4))), "lstm", DEEP
    ),
    "no hh": one("leaves out `weight_hh`", with_params(on("weight_hh", no))),
    "joined otherwise": one("joins the weights as [hh, ih]", with_params(lambda p: joined(p))),
    "hh reshaped": one("reshapes `weight_hh`", with_params(on("weight_hh", turned))),
    "ih reshaped": one(
        "reshapes `weight_ih`", with_params(on("weight_ih", turned), jaxrnn.gru), "gru"
    ),
    # Biases.
    "no bias_hh": one("leaves out `bias_hh`", with_params(on("bias_hh", no))),
    "no bias_ih": one("leaves out `bias_ih`", with_params(on("bias_ih", no)), "lstm", BOTH),
    "no bias": one("leaves out both biases", with_params(on("bias", no), jaxrnn.gru), "gru"),
    "one bias lost": one(
        "leaves out `bias_hh_l0_reverse`", with_params(on("bias_hh_l0_reverse", no)), "lstm", BOTH
    ),
    "bias_ih twice": one(
        "uses `bias_ih` in the place of `bias_hh`",
        with_params(lambda p: p | {"bias_hh_l0": p["bias_ih_l0"]}),
    ),
    "GRU biases merged": one("b_hn outside", gru_with(merged), "gru"),
    "GRU b_in inside": one("b_in inside", gru_with(indoors), "gru", dtype="float64"),
    # Steps.
    "GRU reset before": one("resets h before", m.with_step("gru", m.gru_reset_before), "gru"),
    "GRU other z": one("swaps the roles of z", m.with_step("gru", m.gru_other_z), "gru", BI),
    "forget + 1": one("adds 1 to the forget gate", lstm_with(forget=1.0)),
    "hard sigmoid": one(
        "hard sigmoid of slope 0.2", lstm_with(lambda a: jnp.clip(0.2 * a + 0.5, 0, 1))
    ),
    "jax.nn.hard_sigmoid": one("hard sigmoid of slope 1/6", lstm_with(jax.nn.hard_sigmoid)),
    "relu in g": one("relu for tanh in g", lstm_with(act=jax.nn.relu)),
    "sigmoid in g": one("sigmoid for tanh in g", lstm_with(act=jax.nn.sigmoid)),
    "relu in g and for c": one(
        "relu for tanh, in g and", lstm_with(act=jax.nn.relu, squash=jax.nn.relu)
    ),
    "c not squashed": one("does not squash c", lstm_with(squash=lambda c: c), "lstm", BOTH),
    "RNN relu": one("has relu for tanh", rnn_of(jax.nn.relu), "rnn"),
    "RNN tanh": one("has tanh for relu", rnn_of(jnp.tanh), "rnn", DEEP, nonlinearity="relu"),
    # States.
    "h0 ignored": one("ignores the initial state", with_states(before=no)),
    "c0 ignored": one("ignores the initial c", m.no_initial_c, "lstm", BI),
    "initial c, h": one("initial state for (c, h)", swap(jaxrnn.lstm)),
    "initial states by direction": one(
        "takes the initial states direction by direction",
        with_states(before=lambda a: a.reshape(2, 3, *a.shape[1:]).swapaxes(0, 1).reshape(a.shape)),
        "lstm", {"num_layers": 3} | BI,
    ),
    "state of the layer below": one("final state of the layer below", from_below, "lstm", DEEP),
    "state carried back": one("from the forward's final state", carried_back, "lstm", BI),
    "final c, h": one("returns the final state as (c, h)", m.swapped_final, "lstm", DEEP),
    "final states by direction": one(
        "returns the final states direction by direction", m.direction_major, "lstm", BOTH
    ),
    "h_n from y": one("h_n from the last step of y", last_of_y, "gru", BI),
    "final states batch first": one(
        "final states batch first",
        with_states(after=lambda a: a.swapaxes(0, 1), function=jaxrnn.gru), "gru", BI,
    ),
    "last layer's state only": one(
        "last layer's final state only", with_states(after=lambda a: a[-1:]), "lstm", DEEP
    ),
    # Directions and layers.
    "backward forward": one("backward direction forward", by_hand(m.not_flipped), "lstm", BI),
    "backward unflipped": one(
        "reverse the backward direction's outputs", by_hand(m.not_flipped_back), "lstm", BI
    ),
    "backward in the padding": one(
        "starts the backward direction in the padding", by_hand(m.from_the_padding), "lstm", BI,
        lengths=True,
    ),
    "backward lengths": one(
        "from the end of the padding", by_hand(lengths_from_the_wrong_end), "lstm", BI,
        lengths=True,
    ),
    "directions swapped": one(
        "weights of both directions swapped", with_params(m.rename(m.other_direction)), "lstm", BI
    ),
    "forward weights twice": one(
        "uses the forward weights in both",
        with_params(m.rename(lambda name: name.removesuffix("_reverse")), jaxrnn.gru), "gru", BI,
    ),
    "halves swapped": one("backward half first", with_y(halved), "lstm", BOTH),
    "layers swapped": one(
        "layers 1 and 2 swapped", with_params(m.rename(m.other_layer)), "lstm", {"num_layers": 3}
    ),
    "layer 1 twice": one(
        "uses layer 1's weights in layer 2 too",
        with_params(m.rename(lambda name: name.replace("_l2", "_l1"))), "lstm", {"num_layers": 3},
    ),
    "y of layer 0": one("first layer's outputs", first_layer, "lstm", DEEP),
    # Lengths, layout, time, dropout.
    "lengths ignored": one("ignores the lengths", m.with_lengths(lambda n: None), lengths=True),
    "lengths + 1": one("one too long", m.with_lengths(lambda n: n + 1), "lstm", BI, lengths=True),
    "lengths - 1": one("one too short", m.with_lengths(lambda n: n - 1), lengths=True),
    "states of the padding": one(
        "final states of the padding", m.final_state_of_the_padding, "lstm", BI, lengths=True
    ),
    "y not zeroed": one("zero y beyond", m.output_not_zeroed, lengths=True),
    "states left sorted": one("final states sorted by length", m.left_sorted, lengths=True),
    "states not sorted": one(
        "but not their initial states", sorted_without_states, "gru", lengths=True
    ),
    "batch first": one("takes x for (batch, time)", confused, "gru", state=False),
    "reshaped x": one("reshapes x", m.reshaped, batch_first=True),
    "y a step late": one("state before each step", before_the_step, "gru"),
    "dropout unscaled": one("does not scale", unscaled, "lstm", {"num_layers": 3}, dropout=0.4),
    "dropout forgotten": one("drops nothing", evaluated, "lstm", {"num_layers": 3}, dropout=0.4),
    # Precision.
    "float32 inside": one("float32 inside of float64", inside(jnp.float32), dtype="float64"),
    "TF32": one("TF32", rounded_products(10)),
    "bfloat16 products": one("products to bfloat16", rounded_products(7)),
    "float32 returned": one(
        "returns y in float32", with_y(lambda y: y.astype(jnp.float32)), dtype="float64",
        gradients=True,
    ),
    # Gradients.
    "state detached": one(
        "passes no gradient back from step to step through h and c", detached(stop),
        dtype="float64", gradients=True,
    ),
    "c detached": one("through c", detached(only_c), dtype="float64", gradients=True),
    "bias detached": one(
        "passes no gradient back to `bias_hh_l0`", with_params(on("bias_hh", stop)), gradients=True
    ),
    "h0 detached": one(
        "passes no gradient back to `h_0`",
        lambda p, x, h, **o: jaxrnn.gru(p, x, stop(h), **o), "gru", gradients=True,
    ),
    # Two at once.
    "gates and bias": Planted(
        ("i, g, f, o (haiku)", "leaves out `bias_hh`"),
        lambda p, x, s, **o: with_gates([0, 2, 1, 3])(on("bias_hh", no)(p), x, s, **o),
    ),
    "z r n and b_hn": Planted(
        ("z, r, n (keras, ONNX)", "b_hn outside"),
        lambda p, x, s, **o: gru_with(merged)(m.reorder(3, [1, 0, 2])(p), x, s, **o),
        "gru",
    ),
    "transposed, states swapped": Planted(
        ("`weight_hh` transposed", "final state as (c, h)"),
        lambda p, x, s, **o: m.swapped_final(on("weight_hh", blocks(4))(p), x, s, **o),
    ),
    "gates, state detached": Planted(
        ("i, g, f, o (haiku)", "passes no gradient back from step to step"),
        lambda p, x, s, **o: detached(stop)(m.reorder(4, [0, 2, 1, 3])(p), x, s, **o),
        dtype="float64", gradients=True,
    ),
    "gates and TF32": Planted(
        ("i, g, f, o (haiku)", "TF32"),
        lambda p, x, s, **o: rounded_products(10)(m.reorder(4, [0, 2, 1, 3])(p), x, s, **o),
    ),
}  # fmt: skip


@functools.cache
def result(name: str) -> Any:
    return diagnosed(PLANTED[name], name)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTED)
def test_it_is_named_first(name):
    found = result(name)
    assert found.explanations, str(found)
    first = [convention.what for convention in found.explanations[0].conventions]
    assert len(first) == len(PLANTED[name].said), str(found)
    for said in PLANTED[name].said:
        assert any(said in what for what in first), str(found)
    assert found.explanations[0].gradients
    assert not found.passed


def test_there_are_enough():
    assert len(PLANTED) >= 40
    readme = pathlib.Path(__file__).parents[2] / "README.md"
    assert f"plants {len(PLANTED)} mistakes" in readme.read_text()


# Right ports, each written otherwise than torch's, and none of them accused.
scaled = lambda p: {n: a / 3 if n.startswith("weight") else a for n, a in p.items()}
unscaled_weights = lambda p: {n: a * 3 if n.startswith("weight") else a for n, a in p.items()}
RIGHT = {
    "LSTM by hand": (lstm_with(), {}),
    "LSTM by hand, gradients": (lstm_with(), {"gradients": True, "dtype": "float64"}),
    "GRU by hand": (gru_with(lambda r, a, i, b, h: a + i + r * (b + h)), {"kind": "gru"}),
    "gates there and back": (
        with_gates([0, 3, 1, 2], with_gates([0, 2, 3, 1])),
        {"structure": BOTH, "lengths": True},
    ),
    "RNN relu": (rnn_of(jax.nn.relu), {"kind": "rnn", "nonlinearity": "relu"}),
    "projected": (
        jaxrnn.lstm,
        {"structure": {"proj_size": 2}, "gradients": True, "batch_first": True},
    ),
    "a cell": (jaxrnn.gru_cell, {"kind": "gru_cell", "gradients": True}),
    "dropout": (jaxrnn.lstm, {"structure": DEEP, "dropout": 0.3, "lengths": True}),
    "in bfloat16": (jaxrnn.lstm, {"dtype": "bfloat16"}),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_port_is_not_accused(name):
    port, options = RIGHT[name]
    found = diagnosed(Planted((), port, **options), name)
    assert found.passed, str(found)
    assert found.torch.unjudged == []
    assert "the port agrees with torch" in str(found)


@pytest.mark.slow
def test_no_case_of_the_table_is_accused():
    """Every twentieth, and two in which all gates are saturated."""
    whole = [case for case in table() if case.batch != 0]
    saturated = [case for case in whole if case.group == "saturated"]
    for case in whole[::20] + saturated[:2]:
        data = draw(case._replace(second_order=False), "float32")
        results = jax_backend.run_case(case._replace(second_order=False), data)
        weights = {n: a for n, a in data.leaves.items() if n.startswith(("weight", "bias"))}
        inputs = {n.replace("_", ""): a for n, a in data.leaves.items() if n not in weights}
        if case.lengths is not None:
            inputs["lengths"] = np.array(case.lengths)
        if data.masks is not None:
            inputs["masks"] = data.masks
        names = {"y": "y", "h_n": "hn", "c_n": "cn"}
        outputs = {names[n]: a for n, a in results.items() if n in names}
        options = {"nonlinearity": case.nonlinearity, "dropout": case.dropout}
        first = case.batch_first and case.batch is not None
        found = diagnose(None, weights, inputs, outputs, batch_first=first, **options)
        assert found.passed, f"{case.name}: {found}"


# What is said where no convention explains it.


def test_other_weights_are_no_convention():
    planted = Planted((), with_params(lambda p: p | {"weight_hh_l0": p["weight_hh_l0"][::-1]}))
    found = diagnosed(planted, "unknown")
    assert (found.verdict, found.explanations) == ("unknown", [])
    assert "none of what is known explains it" in str(found)
    assert "of their" in found.tried  # pairs were tried


@pytest.mark.parametrize(("by", "verdict"), [(1e-3, "unknown"), (1e-5, "precision")])
def test_a_small_difference_is_not_taken_for_a_convention(by, verdict):
    planted = Planted((), with_params(lambda p: p | {"bias_ih_l0": p["bias_ih_l0"] + by}))
    found = diagnosed(planted, "small", 0.3)
    assert (found.verdict, found.explanations) == (verdict, []), str(found)
    assert ("the size of rounding" in str(found)) == (verdict == "precision")


@pytest.mark.parametrize(("dtype", "by"), [("float32", 3e-5), ("float64", 1e-13)])
def test_a_convention_and_a_slip_are_not_that_convention(dtype, by):
    """Some ten times the allowance is left, and so nothing is named."""
    slipped = lambda p: p | {"bias_ih_l0": p["bias_ih_l0"] + np.asarray(by, dtype)}
    port = lambda p, x, s, **o: with_gates([0, 2, 1, 3])(slipped(p), x, s, **o)
    found = diagnosed(Planted((), port, dtype=dtype), "slip", 0.3)
    assert found.explanations == [], str(found)
    assert found.verdict == "unknown"


def test_in_bfloat16_nothing_is_said_that_is_not_so():
    planted = Planted((), with_params(on("weight_hh", lambda a: a[::-1])), dtype="bfloat16")
    found = diagnosed(planted, "bfloat16")
    assert (found.verdict, found.explanations) == ("unknown", [])
    assert not any("is torch's" in pattern for pattern in found.patterns)


def test_pairs_that_do_not_go_together_are_passed_over():
    """One halves the features of y, the other one looks beyond the lengths in it."""
    planted = Planted((), jaxrnn.gru, "gru", BI, lengths=True)
    weights, inputs = given(planted, "halves")
    y = np.full((*inputs["x"].shape[:2], 2 * len(weights["weight_hh_l0"][0])), 7, np.float32)
    assert diagnose(None, weights, inputs, {"y": y}).verdict == "unknown"


def test_ties_are_listed():
    """Of two biases that are the same nobody can tell which one is missing."""
    planted = Planted((), with_params(on("bias_hh", no)))
    weights, inputs = given(planted, "tied")
    weights["bias_ih_l0"] = weights["bias_hh_l0"]
    outputs = jax.tree.map(np.asarray, call(planted, weights, inputs))
    found = diagnose(None, weights, inputs, outputs)
    told = [str(explanation) for explanation in found.explanations]
    assert told == ["leaves out `bias_hh`", "leaves out `bias_ih`"]
    assert "as well explained: the port leaves out `bias_ih`" in str(found)
    assert "`bias_ih_l0` and `bias_hh_l0` are the same" in str(found)


# Where, and what it looks like.

TOLD = {
    "GRU reset before": "y is first wrong at step 0",
    "h0 ignored": "y is first wrong at step 0",
    "halves swapped": "y is torch's y with its halves swapped",
    "y a step late": "y is torch's y a step late",
    "final c, h": "h_n is torch's c_n, and c_n its h_n",
    "final states by direction": "only final states are wrong, y is right",
    "last layer's state only": "c_n has shape (1, ",
    "layers swapped": "the first final state that is wrong is h_n of layer 1 forward",
    "backward forward": "the forward half of y is right",
    "state detached": "only gradients are wrong, all outputs are right",
    "float32 inside": "as it would be in float32: is x64 on?",
    "TF32": "as it would be by TF32 or bfloat16 products",
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "line"), TOLD.items(), ids=TOLD)
def test_where_and_patterns(name, line):
    found = result(name)
    assert any(line in told for told in found.where + found.patterns), str(found)


def wrong_c(params, x, state, **options):
    return lstm_with(squash=lambda c: c)(params, x, state, **options)


@pytest.mark.slow
def test_steps_from_torchs_own_state():
    formula = diagnosed(Planted((), wrong_c, gradients=True), "fed")
    told = " ".join(formula.where)
    assert "with torch's state fed at every step, the first that is wrong is h of layer 0" in told
    assert "there c is right, and h is not: it is o, or how c becomes h" in told
    padded = Planted((), by_hand(m.from_the_padding), "lstm", BI, lengths=True, gradients=True)
    joined = diagnosed(padded, "fed")
    assert "no state is off by more than" in " ".join(joined.where)
    own = diagnosed(Planted((), m.with_step("gru", m.gru_other_z), "gru"), "fed")
    assert "with the port's own state before each step, the first that is wrong" in str(own)


def test_inputs_come_first():
    weights, inputs = given(Planted((), jaxrnn.gru, "gru", state=False), "inputs")
    weights["bias_hh_l0"] = weights["bias_ih_l0"]
    x = np.ones_like(inputs["x"][:2])
    y, hn = jaxrnn.gru(weights, x)
    remarks = diagnose(None, weights, {"x": x}, {"y": y, "hn": hn}).problem.notes
    assert remarks == [
        "`x` is 1 everywhere, which hides mistakes: draw it",
        "`bias_ih_l0` and `bias_hh_l0` are the same",
        "no initial state is given: what happens to it cannot be seen",
        "with 2 steps, little of what happens over time can be seen",
    ]


def test_weights_as_loaded():
    """What was done to them is said, by name."""
    planted = Planted((), jaxrnn.lstm)
    weights, inputs = given(planted, "loaded")
    y, _ = jaxrnn.lstm(weights, inputs["x"])
    told = lambda **loaded: diagnose(
        None, weights, {"x": inputs["x"]}, {"y": y}, loaded=weights | loaded
    ).problem.notes[1:]
    hh, bias = weights["weight_hh_l0"], weights["bias_ih_l0"]
    assert told() == ["the weights as loaded are torch's"]
    assert told(weight_hh_l0=hh.T) == [
        f"`weight_hh_l0` as loaded has shape {hh.T.shape}, torch's {hh.shape}: it is torch's "
        "transposed"
    ]
    for changed, what in [
        (m.reorder(4, [0, 2, 1, 3])({"w": hh})["w"], "its gates are in the order i, g, f, o"),
        (blocks(4)(hh), "the block of each gate is transposed"),
        (0 * hh, "not loaded"),
    ]:
        [line] = told(weight_hh_l0=np.asarray(changed))
        assert line.startswith("`weight_hh_l0` as loaded is off by up to ")
        assert line.endswith(what)
    assert told(bias_ih_l0=bias + 0.5) == ["`bias_ih_l0` as loaded is off by up to 5.0e-01"]
    assert told(extra=bias) == ["`extra` was loaded, but is not torch's"]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("names", [("x", "h0", "c0"), ("x", "lengths")])
def test_batch_first_is_read_off_the_inputs(first, names):
    planted = Planted((), jaxrnn.lstm, lengths="lengths" in names, batch_first=first)
    weights, inputs = given(planted._replace(state="h0" in names), "layout")
    outputs = call(planted, weights, inputs)
    found = diagnose(None, weights, inputs, jax.tree.map(np.asarray, outputs))
    assert found.passed, str(found)
    assert found.problem.case.batch_first == first
    assert any("x is taken to be batch first" in r for r in found.problem.notes) == first


def test_batch_first_is_not_read_off_what_is_wrong():
    """The final state of a port that takes time for the batch would say that it is right."""
    planted = PLANTED["batch first"]
    weights, inputs = given(planted, "batch first")
    outputs = jax.tree.map(np.asarray, call(planted, weights, inputs))
    found = diagnose(None, weights, inputs, outputs)
    assert "takes x for (batch, time)" in str(found.explanations[0])


def test_another_dtype_is_no_agreement():
    weights, inputs = given(Planted((), jaxrnn.lstm, dtype="float64"), "dtype")
    y, _ = jaxrnn.lstm(weights, inputs["x"], (inputs["h0"], inputs["c0"]))
    found = diagnose(None, weights, inputs, {"y": np.asarray(y, np.float32)})
    assert (found.verdict, found.passed) == ("precision", False)
    assert "the port returns y in float32" in str(found)


def test_a_port_with_zeros_of_its_own_runs_as_its_user_runs_it():
    """Under x64 `jnp.zeros` would be float64: without it, as here, nothing is wrong."""

    def port(weights, x):
        step = lambda h, x: (rnn_step("tanh")(cell, x, h),) * 2
        cell = {name[:-3]: a for name, a in weights.items()}
        h, y = jax.lax.scan(step, jnp.zeros((x.shape[1], len(cell["weight_hh"]))), x)
        return y, h[None]

    weights, inputs = given(Planted((), port, "rnn", state=False), "zeros")
    with jax.enable_x64(False):
        assert diagnose(None, weights, inputs, port).passed


def test_what_a_port_raises_is_passed_on():
    def port(weights, x):
        raise KeyError("kernel")

    weights, inputs = given(Planted((), port, state=False), "raises")
    with pytest.raises(KeyError, match="kernel") as caught:
        diagnose(None, weights, inputs, port)
    assert "raised by the port, which was called as port(weights, x=float32[" in str(
        caught.value.__notes__
    )


def test_empty_sequences_only():
    for batch, lengths in ((3, [0, 0, 0]), (None, 0)):
        weights, inputs = given(Planted((), jaxrnn.gru, "gru", state=False), "empty")
        x = inputs["x"][:, :3] if batch else inputs["x"][:, 0]
        y, hn = jaxrnn.gru(weights, x, lengths=np.array(lengths))
        given_ = {"x": x, "lengths": np.array(lengths)}
        assert diagnose(None, weights, given_, {"y": y, "hn": hn}).passed
        port = lambda w, x, lengths: jaxrnn.gru(w, x, lengths=lengths)
        assert diagnose(None, weights, given_, port).passed


# The report, the script and the command.


def test_report_and_json():
    found = result("LSTM i g f o")
    text = str(found)
    assert text.startswith("torch.nn.LSTM(")
    for part in ("inputs", "verdict", "where", "what", "change"):
        assert f"\n{part} " in text
    assert "np.concatenate([np.split(w, 4)[k] for k in (0, 2, 1, 3)])" in text
    written = json.loads(found.to_json(), parse_constant=pytest.fail)
    assert written["verdict"] == "named"
    assert "(haiku)" in written["explanations"][0]["conventions"][0]
    assert {tensor["tensor"] for tensor in written["tensors"]} == {"y", "hn", "cn"}
    assert written["slack"] == found.slack
    assert (f"allowed × {found.slack:.1f}" in text) == (found.slack > 1)


GRU_ORDER = with_gates([1, 2, 0], jaxrnn.gru)
PROJECTED = {"proj_size": 3}


@pytest.mark.parametrize(
    "planted",
    [
        Planted((), with_gates([1, 0, 3, 2])),
        Planted((), GRU_ORDER, "gru", BOTH),
        Planted((), lambda p, *a, **o: jaxrnn.lstm(reordered(p), *a, **o), "lstm", PROJECTED),
    ],
    ids=["LSTM", "GRU", "projected"],
)
def test_the_change_mends_the_port(planted):
    """What is printed is done, word for word, and the port agrees."""
    found = diagnosed(planted, "mended")
    weights, inputs = given(planted, "mended")
    names, _, code = found.explanations[0].conventions[0].change.partition(": ")
    assert names == "before you load a weight_ih, weight_hh or bias w"
    parts = ("weight_ih", "weight_hh", "bias")
    change = lambda w: eval(code, {"np": np, "w": w})
    moved = {n: change(w) if n.startswith(parts) else w for n, w in weights.items()}
    outputs = jax.tree.map(np.asarray, call(planted, moved, inputs))
    assert diagnose(None, weights, inputs, outputs).passed


def reordered(params):
    gated = {name: a for name, a in params.items() if "weight_hr" not in name}
    return params | m.reorder(4, [0, 2, 1, 3])(gated)


SCRIPTS = {
    "LSTMCell i g f o": "hn is off by",
    "lengths + 1": "y is off by",
    "dropout unscaled": "y is off by",
    "final states batch first": "hn is [",
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "told"), SCRIPTS.items(), ids=SCRIPTS)
def test_script(tmp_path, name, told):
    """It runs by itself, and finds what was found."""
    write_script(result(name).problem, tmp_path / "again.py")
    command = [sys.executable, "-W", "error", str(tmp_path / "again.py")]  # from anywhere
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    lines = run.stdout.splitlines()
    assert len(lines) == len(result(name).problem.results)
    [line] = [line for line in lines if line.startswith(told)]
    if "off by" in told:
        assert float(line.split()[-1]) > 1e-3


def save(path, planted, name):
    weights, inputs = given(planted, name)
    outputs = jax.tree.map(np.asarray, call(planted, weights, inputs))
    named = {f"w/{n}": a for n, a in weights.items()} | inputs | outputs
    np.savez(path, **named)
    return str(path)


def test_command(tmp_path, capsys):
    file = save(tmp_path / "port.npz", PLANTED["LSTM i g f o"], "LSTM i g f o")
    written, script = tmp_path / "report.json", tmp_path / "again.py"
    assert main(["diagnose", file, "--json", str(written), "--script", str(script)]) == 1
    assert "the port takes the rows of the gates for i, g, f, o (haiku)" in capsys.readouterr().out
    assert json.loads(written.read_text())["verdict"] == "named"
    assert script.exists()
    before = np.load(file).files
    beside = tmp_path / "port.py"  # whose numbers must not take the place of the user's
    assert main(["diagnose", file, "--script", str(beside)]) == 1
    assert np.load(file).files == before
    capsys.readouterr()
    right = save(tmp_path / "right.npz", Planted((), rnn_of(jax.nn.relu), "rnn"), "relu")
    assert main(["diagnose", right, "--nonlinearity", "relu"]) == 0
    assert "the port agrees with torch" in capsys.readouterr().out
    assert main(["diagnose", right]) == 1
    assert "the port has relu for tanh" in capsys.readouterr().out


# What is refused.

GOOD = given(Planted((), jaxrnn.lstm), "refused")
Y = {"y": np.zeros((2, 2, 2), np.float32)}
x = GOOD.inputs["x"]
REFUSED = {
    "no x": (GOOD.weights, {}, Y, {}, ValueError, "`inputs` has nothing: it may have x"),
    "unknown input": (
        GOOD.weights, {"x": x, "h": x}, Y, {}, ValueError, "`inputs` has 'h': it may have x, h0"
    ),
    "no outputs": (GOOD.weights, {"x": x}, {}, {}, ValueError, "`outputs` has nothing: it may"),
    "unknown output": (GOOD.weights, {"x": x}, {"h": x}, {}, ValueError, "`outputs` has 'h'"),
    "no function": (GOOD.weights, {"x": x}, 3, {}, TypeError, "`outputs` must be a dict ... int"),
    "features": (
        GOOD.weights, {"x": x[..., :2]}, Y, {}, ValueError, "`x` has shape ... as the weights"
    ),
    "axes": (GOOD.weights, {"x": x[0, 0]}, Y, {}, ValueError, "wanted 2 or 3 axes"),
    "h0 alone": (
        GOOD.weights, {"x": x, "h0": GOOD.inputs["h0"]}, Y, {}, ValueError, "'h0' but no 'c0'"
    ),
    "h0's shape": (
        GOOD.weights, GOOD.inputs | {"h0": GOOD.inputs["h0"][0]}, Y, {}, ValueError,
        "`h0` has shape ... wanted (1, ",
    ),
    "lengths": (
        GOOD.weights, {"x": x, "lengths": np.array([99] * x.shape[1])}, Y, {}, ValueError,
        "`lengths` must be ... whole numbers from 0 to",
    ),
    "masks without a rate": (
        GOOD.weights, {"x": x, "masks": np.ones((0, 2), bool)}, Y, {}, ValueError,
        "`masks` must be booleans ... dropout=0.0",
    ),
    "nonlinearity": (
        GOOD.weights, {"x": x}, Y, {"nonlinearity": "selu"}, ValueError,
        "`nonlinearity` must be 'tanh' or 'relu', got 'selu'",
    ),
    "a module": (torch.nn.LSTM(3, 4), {"x": x}, Y, {}, TypeError, "`weights` must be a dict, got"),
    "an array": (GOOD.weights, x, Y, {}, TypeError, "`inputs` must be a dict, got a ndarray"),
    "no c": (
        {n: a[: len(a) // 4 * 3] for n, a in GOOD.weights.items()}, {"x": x}, {"cn": x}, {},
        ValueError, "`outputs` has cn, but a GRU has y and hn",
    ),
    "a cell's lengths": (
        {n[:-3]: a for n, a in GOOD.weights.items()}, {"x": x[0], "lengths": np.array([1])},
        {"hn": x}, {}, ValueError, "a cell takes no `batch_first`",
    ),
    "words": (GOOD.weights, {"x": np.array(["a"])}, Y, {}, TypeError, "must be an array of num"),
    "no weights": ({}, {"x": x}, Y, {}, ValueError, "`params` has no `weight_ih`"),
    "half precision": (
        GOOD.weights, {"x": x.astype(np.float16)}, Y, {}, TypeError, "`x` has numbers of float16"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_bad_arguments(name):
    weights, inputs, outputs, options, error, message = REFUSED[name]
    assert_refused(lambda: diagnose(None, weights, inputs, outputs, **options), error, message)


def test_a_port_that_returns_something_else():
    port = lambda weights, **inputs: {"z": inputs["x"]}
    message = "the port returned z: wanted (y, hn), (y, (hn, cn)) ... some of y, hn, cn"
    assert_refused(lambda: diagnose(None, *GOOD, port), ValueError, message)


def test_command_refuses(tmp_path, capsys):
    def refused(*arguments):
        with pytest.raises(SystemExit) as exit:
            main(["diagnose", *map(str, arguments)])
        assert exit.value.code == 2
        return " ".join(capsys.readouterr().err.partition("error: ")[2].split())

    assert "names no file" in refused(tmp_path / "none.npz")
    np.savez(tmp_path / "empty.npz", x=x)
    assert "has no weights: save them as 'w/weight_ih_l0'" in refused(tmp_path / "empty.npz")
    np.savez(tmp_path / "other.npz", x=x, z=x)
    assert "has 'z': it may have w/<torch name>, loaded/<torch name>, x" in refused(
        tmp_path / "other.npz"
    )
    folder = tmp_path / "no" / "report.json"
    assert "there is no such folder" in refused(tmp_path / "other.npz", "--json", folder)
