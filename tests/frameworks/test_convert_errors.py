"""Weights of a cell that the other side does not have are refused, and whatever is no cell."""

import jax
import numpy as np
import pytest
from helpers import HIDDEN, LAYERS, assert_refused, draw, row

from jaxrnn.convert import (
    from_haiku,
    from_keras,
    from_linen,
    from_nnx,
    from_onnx,
    stack,
    to_equinox,
    to_haiku,
    to_keras,
    to_linen,
    to_nnx,
    to_onnx,
)


LSTM, GRU, RNN = (draw(LAYERS[name].cell)[0] for name in ("lstm", "gru", "rnn tanh"))
LSTM_LAYER = stack([LSTM])
ONNX_LSTM, ONNX_GRU, ONNX_RNN = (to_onnx([cell]) for cell in (LSTM, GRU, RNN))
KERAS = to_keras(GRU)
PROJECTED = LSTM | {"weight_hh": np.ones((20, 2)), "weight_hr": np.ones((2, 5))}
ones = lambda *shape: np.ones(shape)
SEEDS = {"count": np.zeros((), np.uint32), "key": np.zeros(2, np.uint32)}
DENSE = {"kernel": ones(HIDDEN, HIDDEN)}
RESETS = "it resets before the product with the hidden weights, torch's after it"
LINEAR = {"w": ones(7, 8), "b": ones(8)}
MODEL = {"seeds": SEEDS, "rnns": {0: {"cell": to_nnx(LSTM)}}}
NARROW = {"kernel": ones(4, 5), "bias": ones(5)}

ERRORS = [
    # haiku
    row("haiku's GRU, from", ValueError, f"`weights` are of haiku's GRU: {RESETS}",
        from_haiku, {"gru": {"w_i": KERAS[0], "w_h": KERAS[1], "b": KERAS[0][0]}}),
    row("haiku's GRU, to", ValueError, f"haiku has no GRU like torch's: {RESETS}", to_haiku, GRU),
    row("haiku's RNN of tanh", ValueError, "`nonlinearity` is 'tanh', but haiku's VanillaRNN",
        to_haiku, RNN),
    row("haiku, two cores", ValueError, "must be those of one core, got the modules `a/linear`, `b",
        from_haiku, to_haiku(LSTM, "a") | to_haiku(LSTM, "b")),
    row("haiku, a weight transposed", ValueError,
        "`linear.w` has shape (20, 8), wanted (input_size + hidden_size, 20) for haiku's LSTM",
        from_haiku, {"lstm/linear": {"w": ones(20, 8), "b": ones(20)}}),
    row("haiku, a weight too low", ValueError,
        "`linear.w` has shape (1, 8), wanted (input_size + hidden_size, 4 · hidden_size)",
        from_haiku, {"lstm/linear": {"w": ones(1, 8)}}),
    row("haiku, a plain Linear", ValueError,
        "must be those of a core, such as `lstm/linear`, got `linear`: a plain hk.Linear is none",
        from_haiku, {"linear": LINEAR}),
    row("haiku, a plain Linear of a module", ValueError,
        "must be those of a core, such as `lstm/linear`, got `net/~/linear`",
        from_haiku, {"net/~/linear": LINEAR}),
    row("haiku, no nonlinearity", ValueError, "`nonlinearity` must be 'tanh' or 'relu', got 'junk'",
        to_haiku, LSTM, nonlinearity="junk"),
    row("haiku, no names", TypeError, "`weights` has the key 1: keys are names, strings",
        from_haiku, {1: LINEAR}),
    # equinox
    row("equinox's RNN", ValueError,
        "equinox has no RNN like torch's: it has an LSTMCell and a GRUCell only", to_equinox, RNN),
    # keras
    row("keras's GRU, from its bias", ValueError,
        f"`weights` are of a GRU with reset_after=False: {RESETS}",
        from_keras, [*KERAS[:2], KERAS[2][0]]),
    row("keras's GRU, from", ValueError, f"`weights` are of a GRU with reset_after=False: {RESETS}",
        from_keras, KERAS[:2], reset_after=False),
    row("keras's GRU, to", ValueError, f"`reset_after` is False, of a GRU: {RESETS}",
        to_keras, GRU, reset_after=False),
    row("keras, a Bidirectional", ValueError, "a bias, got 6 arrays: convert layer by layer",
        from_keras, [*KERAS, *KERAS]),
    row("keras, a weight transposed", ValueError,
        "`recurrent_kernel` has shape (15, 5), wanted (hidden_size, k · hidden_size), where k is "
        "4 (LSTM), 3 (GRU), 1 (SimpleRNN): is it transposed?", from_keras, [KERAS[0], KERAS[1].T]),
    row("keras, of another size", ValueError,
        "`kernel` has shape (3, 12), wanted (input_size, 15) for keras's GRU with hidden_size=5",
        from_keras, [ones(3, 12), KERAS[1]]),
    row("keras, a kernel transposed", ValueError,
        "`kernel` has shape (15, 3), wanted (input_size, 15) for keras's GRU with hidden_size=5",
        from_keras, [ones(15, 3), *KERAS[1:]]),
    row("keras, a bias of 3 rows", ValueError,
        "`bias` has shape (3, 15), wanted (2, 15) for keras's GRU",
        from_keras, [*KERAS[:2], ones(3, 15)]),
    row("keras, a number", ValueError, "`bias` must be an array, got a single number",
        from_keras, [KERAS[0], KERAS[1], np.float64(0)]),
    row("keras, integers", TypeError, "`kernel` must be floating, got int64",
        from_keras, [np.ones((3, 15), int), KERAS[1]]),
    row("keras, mixed dtypes", TypeError,
        "`bias_hh` is float32, but `weight_ih` is float64: cast one of them",
        to_keras, GRU | {"bias_hh": np.ones(15, np.float32)}),
    row("keras, no arrays", TypeError, "`kernel` must be an array, got list",
        from_keras, [[1.0], [2.0]]),
    row("keras, nothing", TypeError,
        "`weights` must be a list of arrays, as of `layer.get_weights()`, ... got NoneType",
        from_keras, None),
    # nnx
    row("nnx's GRU", ValueError,
        "`bias_hh` is not 0, but nnx's GRU has no b_hn, the last third of it", to_nnx, GRU),
    row("nnx, a whole RNN", ValueError,
        "`weights` are of a whole model, got ... such as weights['cell']",
        from_nnx, {"cell": to_nnx(RNN), "rngs": SEEDS}),
    row("nnx, a whole model", ValueError,
        "`weights` are of a whole model, got ... such as weights['rnns'][0]['cell']",
        from_nnx, MODEL),
    # linen
    row("linen, one gate of another size", ValueError,
        "`iz.kernel` has shape (4, 5), wanted (3, 5) for linen's GRUCell",
        from_linen, to_linen(GRU) | {"iz": NARROW}),
    row("linen, one level too high", ValueError,
        "`weights` are of a whole model, got `cell.ii.kernel`, ... such as weights['cell']",
        from_linen, {"cell": to_linen(LSTM)}),
    row("linen's MGUCell", ValueError,
        "got `if.kernel`, `in.kernel`, `hf.kernel`, `hn.kernel`: ... a cell that torch has not?",
        from_linen, dict.fromkeys(("if", "in", "hf", "hn"), DENSE)),
    row("linen, without a bias", ValueError,
        "`weights` has no `hn.bias`, which linen's GRUCell has",
        from_linen, to_linen(GRU) | {"hn": DENSE}),
    row("linen, with another", ValueError,
        "`weights` has the unexpected key `out.kernel`, which linen's GRUCell has not",
        from_linen, to_linen(GRU) | {"out": DENSE}),
    row("linen, no dict", TypeError, "`weights` must be a dict of arrays, got list",
        from_linen, [1]),
    # ONNX
    row("ONNX's GRU", ValueError, f"`linear_before_reset` is 0, as it is by default: {RESETS}",
        from_onnx, ONNX_GRU),
    row("ONNX's peepholes", ValueError, "`P` is not 0, but torch's LSTM has no peepholes",
        from_onnx, ONNX_LSTM | {"P": ones(1, 15)}),
    row("ONNX, only backwards", ValueError,
        "`direction` is reverse, but no layer of torch only goes backwards",
        from_onnx, ONNX_LSTM, direction="reverse"),
    row("ONNX, clipped", ValueError, "`clip` is 3.0: another function than torch's LSTM",
        from_onnx, ONNX_LSTM, clip=3.0),
    row("ONNX, other activations", ValueError,
        "`activations` is ['Elu']: another function than torch's RNN",
        from_onnx, ONNX_RNN, activations=[b"Elu"]),
    row("ONNX, one name", TypeError, "`activations` must be a list of names, got 'Relu'",
        from_onnx, ONNX_RNN, activations="Relu"),
    row("ONNX, no directions", ValueError,
        "`W` has shape (20, 3), wanted 3 axes, of which the first is the 1 or 2 directions",
        from_onnx, ONNX_LSTM | {"W": ONNX_LSTM["W"][0]}),
    row("ONNX, half a bias", ValueError, "`B` has shape (1, 20), wanted (1, 40) for ONNX's LSTM",
        from_onnx, ONNX_LSTM | {"B": ones(1, 20)}),
    row("ONNX, without W", ValueError, "`weights` has no `W`, only `R`, `B`",
        from_onnx, {name: ONNX_LSTM[name] for name in "RB"}),
    row("ONNX, R transposed", ValueError,
        "`R` has shape (1, 5, 20), wanted (1, k · hidden_size, hidden_size), where k is",
        from_onnx, ONNX_LSTM | {"R": ones(1, 5, 20)}),
    row("ONNX, W of another size", ValueError,
        "`W` has shape (1, 16, 3), wanted (1, 20, input_size) for ONNX's LSTM with 1 directions",
        from_onnx, ONNX_LSTM | {"W": ones(1, 16, 3)}),
    row("ONNX, half a node", ValueError,
        "`W` has shape (2, 20, 3), wanted (1, 20, input_size)",
        from_onnx, ONNX_LSTM | {"W": ones(2, 20, 3)}),
    row("ONNX, zeros in a wrong shape", ValueError,
        "`P` has shape (1, 20), wanted (1, 15) for ONNX's LSTM",
        from_onnx, ONNX_LSTM | {"P": np.zeros((1, 20))}),
    row("ONNX, a GRU's peepholes", ValueError,
        "`weights` has the unexpected key `P`, which ONNX's GRU has not",
        from_onnx, ONNX_GRU | {"P": np.zeros((1, 15))}),
    row("ONNX, three cells", ValueError,
        "`cells` must be one cell, or two, forward and backward, got 3: a node has one layer",
        to_onnx, [LSTM] * 3),
    row("ONNX, unlike cells", ValueError,
        "`cells` must be alike, forward and backward, got kind lstm_cell and gru_cell",
        to_onnx, [LSTM, GRU]),
    row("ONNX, cells of two layers", ValueError,
        "`cells` must be alike, forward and backward, got input_size 3 and 5: layers on one",
        to_onnx, [LSTM, LSTM | {"weight_ih": ones(20, 5)}]),
    row("ONNX, one cell", TypeError,
        "`cells` must be a list of cells' parameters, each of them a dict, got dict",
        to_onnx, LSTM),
    # cells and layers
    row("a layer", ValueError,
        "`params` must be a cell's, such as `weight_ih`, got `weight_ih_l0`, ... with `cells`",
        to_keras, LSTM_LAYER),
    row("a projection", ValueError, "`params` are of a projected LSTM, which linen has not",
        to_linen, PROJECTED),
    row("half a pair", ValueError,
        "`cells` must be pairs of cells, forward and backward, got 1",
        stack, [LSTM], bidirectional=True),
    row("no cells", ValueError, "`cells` must be at least one cell, got 0", stack, []),
    row("cells that do not fit", ValueError, "`weight_ih_l1` has shape (20, 3), wanted (20, 5)",
        stack, [LSTM, LSTM]),
    row("one dict of a cell", TypeError, "`cells` must be a list of cells' parameters, each of",
        stack, LSTM),
    row("a generator of cells", TypeError,
        "`cells` must be a list of cells' parameters, each of them a dict, got generator",
        stack, (cell for cell in [LSTM])),
    row("a list of names", TypeError,
        "`cells` must be a list of cells' parameters, each of them a dict, got one with a str",
        stack, [*LSTM]),
]  # fmt: skip


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(("call", "error", "message"), ERRORS)
def test_raises(call, error, message):
    assert_refused(call, error, message)


def test_nothing_is_narrowed():
    with jax.enable_x64(False):
        wide = {name: np.asarray(a) for name, a in LSTM.items()}
        assert_refused(lambda: to_keras(wide), TypeError, "which JAX would store as float32")
