"""Bad arguments of the other functions, and what the error must say: a table."""

import pathlib
import pickle

import jax
import numpy as np
import torch
from call_errors import KEY, LSTM, H, I, X, row

from jaxrnn import (
    from_state_dict,
    init_gru,
    init_gru_cell,
    init_lstm,
    init_lstm_cell,
    init_rnn,
    init_rnn_cell,
    load,
    pack_padded_sequence,
    pad_packed_sequence,
    pad_sequence,
    save,
    to_state_dict,
)


def load_bytes(name, content):
    pathlib.Path(name).write_bytes(content)
    return load(name)


def load_saved(value):
    torch.save(value, "a.pt")
    return load("a.pt")


def load_objects():
    np.savez("a.npz", a=np.array([{}], object))
    return load("a.npz")


def without_x64(state_dict):
    with jax.enable_x64(False):
        return from_state_dict(state_dict)


def pack_traced(lengths):
    return jax.jit(lambda n: pack_padded_sequence(X, n))(np.array(lengths))


OTHERS = [
    # init
    row("init-input-0", ValueError, "`input_size` must be a positive integer, got 0",
        init_lstm, KEY, 0, H),
    row("init-hidden-negative", ValueError, "`hidden_size` must be a positive integer, got -4",
        init_gru_cell, KEY, I, -4),
    row("init-hidden-float", ValueError, "`hidden_size` must be a positive integer, got 4.0",
        init_rnn, KEY, I, 4.0),
    row("init-layers-bool", ValueError, "`num_layers` must be a positive integer, got True",
        init_gru, KEY, I, H, num_layers=True),
    row("init-proj-equal", ValueError, "`proj_size` must be...below hidden_size = 4, got 4",
        init_lstm, KEY, I, H, proj_size=H),
    row("init-proj-negative", ValueError, "`proj_size` must be...got -1",
        init_lstm, KEY, I, H, proj_size=-1),
    row("init-proj-float", ValueError, "`proj_size` must be...got 2.0",
        init_lstm, KEY, I, H, proj_size=2.0),
    row("init-forget-bias", ValueError, "`forget_bias` needs biases, but bias=False",
        init_lstm, KEY, I, H, bias=False, forget_bias=1.0),
    row("init-forget-bias-cell", ValueError, "`forget_bias` needs biases",
        init_lstm_cell, KEY, I, H, bias=False, forget_bias=0.0),
    row("init-key", TypeError, "`key` must be one jax.random key...got int", init_lstm, 0, I, H),
    row("init-keys", TypeError, "`key` must be one...got shape (2,)",
        init_rnn_cell, jax.random.split(KEY), I, H),
    row("init-dtype", TypeError, "`dtype` must be floating, got <class 'int'>",
        init_gru, KEY, I, H, dtype=int),
    # files and state_dicts
    row("load-suffix", ValueError, "`path` must end in .safetensors, .npz, .pt, .pth...a.h5",
        load_bytes, "a.h5", b""),
    row("load-missing", FileNotFoundError, "`path` names no file: a.pt", load, "a.pt"),
    row("load-damaged-safetensors", ValueError, "`path` a.safetensors cannot...it is damaged",
        load_bytes, "a.safetensors", b"\xff" * 99),
    row("load-damaged-npz", ValueError, "`path` a.npz cannot be read as .npz",
        load_bytes, "a.npz", b"PK\x03\x04" + bytes(99)),
    row("load-damaged-pt", ValueError, "`path` a.pt cannot be read as .pt",
        load_bytes, "a.pt", b"PK\x03\x04" + bytes(99)),
    row("load-pickle-pt", ValueError, "`path` a.pth...read as .pth: it holds more than tensors",
        load_bytes, "a.pth", pickle.dumps(pathlib.Path("a"), protocol=2)),
    row("load-module", ValueError, "it holds more than tensors...not a whole module",
        load_saved, torch.nn.GRU(I, H)),
    row("load-tensor", TypeError, "`path` a.pt must hold a state_dict, got Tensor",
        load_saved, torch.ones(1)),
    row("load-checkpoint", TypeError, "`epoch` is no tensor...training checkpoint? Pass",
        load_saved, {"epoch": 3, "model": {"a": torch.ones(1)}}),
    row("load-objects", ValueError, "`path` a.npz cannot...holds more than tensors", load_objects),
    row("no-x64", TypeError, "`a` is float64, which JAX would store as float32...jax_enable_x64",
        without_x64, {"a": torch.ones(1, dtype=torch.float64)}),
    row("no-x64-int", TypeError, "`a` is int64, which JAX would store as int32",
        without_x64, {"a": np.array([2**40])}),
    row("from-module", TypeError, "`state_dict` must be a dict...got GRU: pass module.state_dict()",
        from_state_dict, torch.nn.GRU(I, H)),
    row("from-nested", TypeError, "`model` is no tensor but of type dict",
        from_state_dict, {"model": {"a": np.ones(1)}}),
    row("from-clash", ValueError, "`a.b` stands in the state_dict beside a tensor",
        from_state_dict, {"a": np.ones(1), "a.b": np.ones(1)}),
    row("from-clash-after", ValueError, "`a` stands in the state_dict beside",
        from_state_dict, {"a.b": np.ones(1), "a": np.ones(1)}),
    row("from-strings", TypeError, "`a` of dtype <U1 cannot become a JAX array",
        from_state_dict, {"a": np.array("x")}),
    row("from-meta", TypeError, "`a` of dtype torch.float32 cannot become",
        from_state_dict, {"a": torch.ones(1, device="meta")}),
    row("from-empty-name", ValueError, "`state_dict` has the key 'a..b'",
        from_state_dict, {"a..b": np.ones(1)}),
    row("to-dotted", ValueError, "`params` has the key 'a.b': keys are strings without dots",
        to_state_dict, {"m": {"a.b": np.ones(1)}}),
    row("to-integer", ValueError, "`params` has the key 0", to_state_dict, {0: np.ones(1)}),
    row("to-array", TypeError, "`params` must be nested dicts of arrays, got ndarray",
        to_state_dict, X),
    row("save-suffix", ValueError, "`path` must end in .safetensors, .npz, .pt, .pth, got a.bin",
        save, "a.bin", LSTM),
    row("save-none", TypeError, "`m.a` must be an array of numbers, got dtype object",
        save, "a.npz", {"m": {"a": None}}),
    # sequences
    row("pack-unsorted", ValueError, "`lengths` must not increase, got [1, 2, 3]: pass",
        pack_padded_sequence, X, [1, 2, 3]),
    row("pack-zero", ValueError, "`lengths` must lie between 1 and the 7...no empty sequence",
        pack_padded_sequence, X, [2, 1, 0]),
    row("pack-beyond", ValueError, "`lengths` must lie between 1 and the 7...got [8, 1, 1]",
        pack_padded_sequence, X, [8, 1, 1]),
    row("pack-shape", ValueError, "`lengths` must have the shape (7,), got (3,)...batch_first",
        pack_padded_sequence, X, [3, 2, 1], batch_first=True),
    row("pack-float", TypeError, "`lengths` must be integers, got float64",
        pack_padded_sequence, X, [3.0, 2.0, 1.0]),
    row("pack-traced", TypeError, "`lengths` must be concrete...got a traced array",
        pack_traced, [3, 2, 1]),
    row("pack-rank", ValueError, "`x` must have axes of time and batch, got shape (5,)",
        pack_padded_sequence, X[0, 0], [3]),
    row("pad-none", ValueError, "`sequences` must hold at least one sequence", pad_sequence, []),
    row("pad-scalar", ValueError, "`sequences` must have a time axis, got a scalar at 1",
        pad_sequence, [np.ones(1), np.ones(())]),
    row("pad-features", ValueError, "`sequences` must agree...(1, 3) at 1 after float64 (1, 2)",
        pad_sequence, [np.ones((1, 2)), np.ones((1, 3))]),
    row("pad-dtypes", ValueError, "`sequences` must agree in dtype...got float32",
        pad_sequence, [np.ones(1), np.ones(1, np.float32)]),
    row("pad-packed-short", ValueError, "`total_length` must be...longest length 2, got 1",
        pad_packed_sequence, pack_padded_sequence(X, [2, 2, 1]), total_length=1),
]  # fmt: skip
