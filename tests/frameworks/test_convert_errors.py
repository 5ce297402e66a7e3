"""Weights that are of no cell of torch, or of none that a framework has, are refused."""

import jax
import numpy as np
import pytest
from converting import HIDDEN, draw
from helpers import assert_refused

from jaxrnn import convert


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
