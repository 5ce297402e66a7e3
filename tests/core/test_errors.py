"""Law: bad input raises at trace time, in one sentence that names what was wanted and what came."""

import jax
import numpy as np
import pytest
import torch
from call_errors import CALLS, B, H, I, L, T
from helpers import assert_refused
from other_errors import OTHERS

from jaxrnn import gru, gru_cell, lstm, lstm_cell, rnn, rnn_cell


ERRORS = CALLS + OTHERS
TRACEABLE = (rnn, lstm, gru, rnn_cell, lstm_cell, gru_cell)
pytestmark = pytest.mark.usefixtures("bare")


def traced(call):
    """The same call inside a trace, with tracers for its arrays."""
    leaves, tree = jax.tree.flatten((call.args, call.keywords))
    arrays = {i: leaf for i, leaf in enumerate(leaves) if isinstance(leaf, np.ndarray)}

    def function(arrays):
        args, options = tree.unflatten(arrays.get(i, leaf) for i, leaf in enumerate(leaves))
        return call.func(*args, **options)

    return jax.eval_shape(function, arrays)


@pytest.mark.parametrize(("call", "error", "message"), ERRORS)
def test_raises(call, error, message):
    assert_refused(call, error, message)


@pytest.mark.parametrize(
    ("call", "error", "message"), [row for row in ERRORS if row.values[0].func in TRACEABLE]
)
def test_raises_under_trace(call, error, message):
    assert_refused(lambda: traced(call), error, message)


def torch_lstm(*shape, state=None, dtype=torch.float32):
    return torch.nn.LSTM(I, H, L)(torch.ones(*shape, dtype=dtype), state)


def torch_pack(lengths):
    return torch.nn.utils.rnn.pack_padded_sequence(torch.ones(T, B, I), torch.tensor(lengths))


AS_TORCH = {
    "x-features": lambda: torch_lstm(T, B, 4),
    "x-rank-4": lambda: torch_lstm(1, T, B, I),
    "x-rank-1": lambda: torch.nn.GRU(I, H, L)(torch.ones(I)),
    "x-no-steps": lambda: torch.nn.GRU(I, H, L)(torch.ones(0, B, I)),
    "x-dtype": lambda: torch.nn.GRU(I, H, L)(torch.ones(T, B, I, dtype=torch.bfloat16)),
    "state-layers": lambda: torch_lstm(T, B, I, state=(torch.ones(1, B, H), torch.ones(L, B, H))),
    "state-batch-first": lambda: torch.nn.GRU(I, H, L)(torch.ones(T, B, I), torch.ones(B, L, H)),
    "cell-x-features": lambda: torch.nn.GRUCell(I, H)(torch.ones(B, 4)),
    "cell-state": lambda: torch.nn.GRUCell(I, H)(torch.ones(B, I), torch.ones(B, I)),
    "dropout-percent": lambda: torch.nn.GRU(I, H, L, dropout=50),
    "dropout-bool": lambda: torch.nn.LSTM(I, H, L, dropout=True),
    "init-proj-equal": lambda: torch.nn.LSTM(I, H, proj_size=H),
    "init-hidden-negative": lambda: torch.nn.GRUCell(I, -4),
    "init-hidden-float": lambda: torch.nn.RNN(I, 4.0),
    "nonlinearity": lambda: torch.nn.RNN(I, H, nonlinearity="ReLU"),
    "pack-unsorted": lambda: torch_pack([1, 2, 3]),
    "pack-zero": lambda: torch_pack([2, 1, 0]),
}


@pytest.mark.parametrize("name", AS_TORCH)
def test_raises_where_torch_raises(name):
    """The table holds what torch refuses, under the same description."""
    assert name in {row.id for row in ERRORS}
    with pytest.raises((ValueError, RuntimeError, TypeError)):
        AS_TORCH[name]()
