"""A node of ONNX has attributes, which may make it another function."""

import numpy as np
import pytest
from helpers import HIDDEN, LAYERS, assert_equal, assert_refused, draw

from jaxrnn import convert


def test_both_directions_of_a_node():
    cells = convert.cells(draw(LAYERS["gru"])[0])
    weights = convert.to_onnx(cells[:2])
    assert {name: a.shape for name, a in weights.items()} == {
        "W": (2, 15, 3), "R": (2, 15, 5), "B": (2, 30),
    }  # fmt: skip
    attributes = {"direction": b"bidirectional", "hidden_size": 5, "activations": None, "clip": 0.0}
    assert_equal(convert.from_onnx(weights, linear_before_reset=1, **attributes), cells[:2])


KINDS = {"lstm": LAYERS["lstm"], "gru": LAYERS["gru"], "rnn": LAYERS["rnn tanh"]}
NODES = {kind: convert.cells(draw(layer)[0])[:2] for kind, layer in KINDS.items()}
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
