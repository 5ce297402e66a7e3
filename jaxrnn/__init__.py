"""RNN, LSTM and GRU as pure JAX functions on torch's own parameters.

A tour of the files: `_params` (names, shapes and structure, and their errors), `_check` (errors of
the other arguments), `_cells` (the equations), `_implementations` (one direction of one layer over
time, by `_scan` or `_fused`), `_layers` (layers, directions, lengths), `_dropout` (masks), `_init`
(fresh parameters), `_sequence` (padding and packing), `_files` (loading and saving), `_nn`
(embedding, linear, layer norm, pooling).

Imported by name: `jaxrnn.models` (whole models), `jaxrnn.text` and `jaxrnn.data` (text and series
before the network), `jaxrnn.search` (of hyper-parameters) and `jaxrnn.convert` (other frameworks'
weights). `jaxrnn.losses`, `jaxrnn.optim`, `jaxrnn.training` and `jaxrnn.checkpoints` need optax or
orbax; `jaxrnn.nnx` and `jaxrnn.linen` (modules, over `_modules`) need flax.
"""

from ._cells import gru_cell, lstm_cell, rnn_cell
from ._dropout import dropout_masks, recurrent_dropout_masks
from ._files import load, save
from ._init import (
    init_embedding,
    init_gru,
    init_gru_cell,
    init_layer_norm,
    init_linear,
    init_lstm,
    init_lstm_cell,
    init_rnn,
    init_rnn_cell,
    reinitialise,
)
from ._layers import gru, lstm, rnn
from ._nn import embedding, layer_norm, linear
from ._params import LSTMState, Structure, from_state_dict, structure, to_state_dict
from ._sequence import PackedSequence, pack_padded_sequence, pad_packed_sequence, pad_sequence


__all__ = [
    "LSTMState",
    "PackedSequence",
    "Structure",
    "dropout_masks",
    "embedding",
    "from_state_dict",
    "gru",
    "gru_cell",
    "init_embedding",
    "init_gru",
    "init_gru_cell",
    "init_layer_norm",
    "init_linear",
    "init_lstm",
    "init_lstm_cell",
    "init_rnn",
    "init_rnn_cell",
    "layer_norm",
    "linear",
    "load",
    "lstm",
    "lstm_cell",
    "pack_padded_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "recurrent_dropout_masks",
    "reinitialise",
    "rnn",
    "rnn_cell",
    "save",
    "structure",
    "to_state_dict",
]
