"""Weights of other frameworks' cells as torch's parameters, and back; imports none of them.

A framework's cell becomes one of torch's; `stack` makes a layer of cells, `cells` takes it apart::

    cell = convert.from_keras(layer.get_weights())          # for jaxrnn.lstm_cell(cell, x, state)
    params = convert.stack([forward, backward], bidirectional=True)     # for jaxrnn.lstm(params, x)
    weights = [convert.to_keras(cell) for cell in convert.cells(params)]

Cells that compute the same function are converted (differentiably); others raise an error that says
why. Where a framework has one bias, it becomes `bias_ih`, and `bias_hh` is 0; in the other
direction, the two are added. Weights do not show the activations: these must be the framework's
defaults, and an RNN's must be the same on both sides.

Under `jit` values cannot be checked: a value that must be 0 and is not gives NaN.
"""

from .equinox import from_equinox, to_equinox
from .haiku import from_haiku, to_haiku
from .keras import from_keras, to_keras
from .layers import cells, stack
from .linen import from_linen, to_linen
from .nnx import from_nnx, to_nnx
from .onnx import from_onnx, to_onnx


__all__ = [
    "cells", "from_equinox", "from_haiku", "from_keras", "from_linen", "from_nnx", "from_onnx",
    "stack", "to_equinox", "to_haiku", "to_keras", "to_linen", "to_nnx", "to_onnx",
]  # fmt: skip
