"""Law: bad input raises at trace time, in one sentence that names what was wanted and what came."""

import functools
import pathlib
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers import assert_refused

import jaxrnn
from jaxrnn import (
    dropout_masks,
    from_state_dict,
    gru,
    gru_cell,
    init_gru,
    init_gru_cell,
    init_lstm,
    init_lstm_cell,
    init_rnn,
    init_rnn_cell,
    load,
    lstm,
    lstm_cell,
    pack_padded_sequence,
    pad_packed_sequence,
    pad_sequence,
    recurrent_dropout_masks,
    rnn,
    rnn_cell,
    save,
    structure,
    to_state_dict,
)


T, B, I, H, L = 7, 3, 5, 4, 2
KEY = jax.random.key(0)
TRACEABLE = (rnn, lstm, gru, rnn_cell, lstm_cell, gru_cell)


def weights(kind, *options, **named):
    shapes = jaxrnn.Structure(kind, I, H, *options, **named).shapes
    return {name: np.ones(shape) for name, shape in shapes.items()}


LSTM, GRU, RNN = weights("lstm", L), weights("gru", L), weights("rnn")
LSTM_CELL, GRU_CELL, RNN_CELL = weights("lstm_cell"), weights("gru_cell"), weights("rnn_cell")
X, X_T, H_0 = np.ones((T, B, I)), np.ones((B, I)), np.ones((L, B, H))
MASKS, RECURRENT = np.ones((L - 1, T, B, H), bool), np.ones((L, B, H), bool)
NORM = weights("lstm", L, layer_norm=True)


def without(params, name):
    return {key: value for key, value in params.items() if key != name}


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


def row(name, error, message, function, *args, **options):
    return pytest.param(functools.partial(function, *args, **options), error, message, id=name)


# What a message must hold, as a plain string, `...` standing for anything.
ERRORS = [
    # x
    row("x-rank-4", ValueError, "`x` must have 2 axes...got shape (1, 7, 3, 5)",
        lstm, LSTM, X[None]),
    row("x-rank-1", ValueError, "`x` must...`gru_cell` takes a single", gru, GRU, X[0, 0]),
    row("x-rank-batch-first", ValueError, "(batch, time, features)",
        rnn, RNN, X[0, 0], batch_first=True),
    row("cell-x-rank-3", ValueError, "`x` must...`lstm` takes a sequence", lstm_cell, LSTM_CELL, X),
    row("cell-x-rank-0", ValueError, "`x` must have 1 axis...shape ()",
        rnn_cell, RNN_CELL, np.ones(())),
    row("x-features", ValueError, "`x` has 4 features...`weight_ih_l0` expects 5",
        lstm, LSTM, X[..., :4]),
    row("cell-x-features", ValueError, "`x` has 4 features...`weight_ih` expects 5",
        gru_cell, GRU_CELL, X_T[:, :4]),
    row("x-no-steps", ValueError, "`x` must have at least one time step...(0, 3, 5)",
        gru, GRU, X[:0]),
    row("x-no-steps-batch-first", ValueError, "`x` must have at least one time",
        lstm, LSTM, X[:, :0], batch_first=True),
    row("x-integer", TypeError, "`x` must be floating, got int64...embed",
        lstm, LSTM, X.astype(int)),
    row("cell-x-integer", TypeError, "`x` must be floating, got int64",
        rnn_cell, RNN_CELL, X_T.astype(int)),
    row("x-torch", TypeError, "`x` is a torch tensor", lstm, LSTM, torch.ones(T, B, I)),
    row("x-none", TypeError, "`x` must be an array of numbers, got a NoneType", gru, GRU, None),
    row("x-ragged", TypeError, "`x` must be an array of numbers, got a list",
        gru, GRU, [[1.0], [1.0, 2.0]]),
    # the state
    row("state-batch-first", ValueError, "`state` has a h of shape (3, 2, 4)...never batch-first",
        gru, GRU, X, H_0.swapaxes(0, 1)),
    row("state-layers", ValueError, "`state`...shape (1, 3, 4), wanted (2, 3, 4)",
        lstm, LSTM, X, (H_0[:1], H_0)),
    row("state-c", ValueError, "`state` has a c of shape (2, 3, 3)",
        lstm, LSTM, X, (H_0, H_0[..., :3])),
    row("state-batched", ValueError, "shape (2, 3, 4), wanted (2, 4)", gru, GRU, X[:, 0], H_0),
    row("cell-state", ValueError, "`state`...shape (3, 5), wanted (3, 4)",
        gru_cell, GRU_CELL, X_T, X_T),
    row("state-single", ValueError, "`state` of `lstm` must be a pair...got one array",
        lstm, LSTM, X, H_0),
    row("state-triple", ValueError, "`state` of `lstm` must be a pair...got 3 of them",
        lstm, LSTM, X, (H_0,) * 3),
    row("state-pair", ValueError, "`state` of `gru` must be one array h, got a tuple of 2",
        gru, GRU, X, (H_0, H_0)),
    row("cell-state-single", ValueError, "`lstm_cell` must be a pair",
        lstm_cell, LSTM_CELL, X_T, X_T[:, :H]),
    row("cell-state-pair", ValueError, "`rnn_cell` must be one array h",
        rnn_cell, RNN_CELL, X_T, (X_T, X_T)),
    row("state-dtype", TypeError, "`state` is float32, but `x` is float64",
        gru, GRU, X, H_0.astype(np.float32)),
    row("state-c-dtype", TypeError, "`state` is float32, but `x` is float64",
        lstm, LSTM, X, (H_0, H_0.astype(np.float32))),
    row("state-torch", TypeError, "`state` is a torch tensor", gru, GRU, X, torch.ones(L, B, H)),
    row("state-none", TypeError, "`state[1]` must be an array of numbers, got a NoneType",
        lstm, LSTM, X, (H_0, None)),
    # params
    row("key-missing", ValueError, "`params` has no `bias_hh_l1`, which torch.nn.LSTM",
        lstm, without(LSTM, "bias_hh_l1"), X),
    row("key-missing-first", ValueError, "`params` has no `weight_ih_l0`, only",
        lstm, without(LSTM, "weight_ih_l0"), X),
    row("key-missing-cell", ValueError, "`params` has no `bias_ih`",
        gru_cell, without(GRU_CELL, "bias_ih"), X_T),
    row("key-missing-reverse", ValueError, "`params` has no `weight_ih_l0_reverse`",
        gru, GRU | {"bias_hh_l1_reverse": np.ones(3 * H)}, X),
    row("key-unexpected", ValueError, "unexpected key `fc`, which torch.nn.GRU has not",
        gru, GRU | {"fc": np.ones(1)}, X),
    row("key-unexpected-cell", ValueError, "unexpected key `fc`, which torch.nn.RNNCell has not",
        rnn_cell, RNN_CELL | {"fc": np.ones(1)}, X_T),
    row("key-integer", TypeError, "`params` has the key 0", gru, {0: np.ones(1)}, X),
    row("params-empty", ValueError, "`params` has no `weight_ih`, only nothing", structure, {}),
    row("norm-missing", ValueError, "`params` has no `bias_ln_c_l1`, which the layer-normalised",
        lstm, without(NORM, "bias_ln_c_l1"), X),
    row("norm-and-bias", ValueError, "unexpected key `bias_ih_l0`, which the layer-normalised LSTM",
        lstm, NORM | {"bias_ih_l0": np.ones(4 * H)}, X),
    row("norm-shape", ValueError, "`weight_ln_c_l1` has shape (16,), wanted (4,) for the layer",
        lstm, NORM | {"weight_ln_c_l1": np.ones(4 * H)}, X),
    row("norm-gru", ValueError, "unexpected key `weight_ln_hh`, which torch.nn.GRUCell has not",
        gru_cell, GRU_CELL | {"weight_ln_hh": np.ones(3 * H)}, X_T),
    row("norm-torch-name", ValueError, "torch.nn has no counterpart of a layer-normalised `lstm`",
        lambda: structure(NORM).torch_name),
    row("shape", ValueError, "`bias_ih_l1` has shape (15,), wanted (16,) for torch.nn.LSTM with",
        lstm, LSTM | {"bias_ih_l1": np.ones(15)}, X),
    row("shape-second-layer", ValueError, "`weight_ih_l1` has shape (12, 5), wanted (12, 4)",
        gru, GRU | {"weight_ih_l1": np.ones((3 * H, I))}, X),
    row("shape-rank", ValueError, "`weight_hh_l0` must have 2 axes, got shape (16,)",
        lstm, LSTM | {"weight_hh_l0": np.ones(4 * H)}, X),
    row("transposed-hh", ValueError, "`weight_hh_l0` has shape (4, 16)...transposed",
        lstm, LSTM | {"weight_hh_l0": np.ones((H, 4 * H))}, X),
    row("transposed-ih", ValueError, "`weight_ih_l0` has shape (5, 16), wanted...transposed",
        lstm, LSTM | {"weight_ih_l0": np.ones((I, 4 * H))}, X),
    row("transposed-cell", ValueError, "`weight_hh` has shape (4, 12)...transposed",
        gru_cell, GRU_CELL | {"weight_hh": np.ones((H, 3 * H))}, X_T),
    row("proj-too-large", ValueError, "`weight_hr_l0` has shape (4, 4)...proj_size must be smaller",
        lstm, weights("lstm", proj_size=2) | {"weight_hr_l0": np.ones((H, H))}, X),
    row("proj-missing", ValueError, "`weight_hr_l0` missing",
        lstm, without(weights("lstm", proj_size=2), "weight_hr_l0"), X),
    row("proj-gru", ValueError, "only an LSTM is projected",
        gru, GRU | {"weight_hh_l0": np.ones((12, 2)), "weight_hr_l0": np.ones((2, 4))}, X),
    row("lstm-to-gru", ValueError, "`gru` got the parameters of `lstm`", gru, LSTM, X),
    row("gru-to-rnn", ValueError, "`rnn` got the parameters of `gru`", rnn, GRU, X),
    row("gru-cell-to-lstm-cell", ValueError, "`lstm_cell` got the parameters of `gru_cell`",
        lstm_cell, GRU_CELL, X_T),
    row("layer-to-cell", ValueError, "`lstm_cell` takes the parameters of a cell, `weight_ih` and",
        lstm_cell, LSTM, X_T),
    row("cell-to-layer", ValueError, "`lstm` takes the parameters of a layer, `weight_ih_l0` and",
        lstm, LSTM_CELL, X),
    row("nested", ValueError, "dict under 'encoder'...params['encoder']",
        lstm, {"encoder": LSTM}, X),
    row("params-torch", TypeError, "l0` is a torch tensor: use jaxrnn.from_state_dict first",
        gru, dict(torch.nn.GRU(I, H).state_dict()), X),
    row("params-array", TypeError, "`params` must be a dict...the arguments are (params, x, state)",
        lstm, X, LSTM),
    row("params-list", TypeError, "`params` must be a dict...got list", gru, list(GRU.values()), X),
    row("values-list", TypeError, "`weight_hh_l1` must be an array, got list",
        gru, GRU | {"weight_hh_l1": GRU["weight_hh_l1"].tolist()}, X),
    row("param-dtype", TypeError, "`bias_ih_l0` is float32, but `x` is float64",
        lstm, LSTM | {"bias_ih_l0": np.ones(4 * H, np.float32)}, X),
    row("x-dtype", TypeError, "l0` is float64, but `x` is bfloat16",
        gru, GRU, X.astype(jnp.bfloat16)),
    row("cell-dtype", TypeError, "h` is float64, but `x` is float32",
        lstm_cell, LSTM_CELL, X_T.astype(np.float32)),
    row("weights-integer", TypeError, "`bias_hh_l0` must be floating, got int64",
        gru, GRU | {"bias_hh_l0": np.ones(3 * H, int)}, X),
    # dropout, key, masks
    row("dropout-negative", ValueError, "`dropout` must be...between 0 and 1...got -0.1",
        lstm, LSTM, X, dropout=-0.1),
    row("dropout-percent", ValueError, "`dropout` must be...between 0 and 1...got 50",
        gru, GRU, X, dropout=50),
    row("dropout-nan", ValueError, "`dropout` must be...got nan",
        gru, GRU, X, dropout=float("nan")),
    row("dropout-bool", ValueError, "`dropout` must be a Python number...got True",
        lstm, LSTM, X, dropout=True),
    row("dropout-string", ValueError, "`dropout` must be a Python number...got '0.5'",
        lstm, LSTM, X, dropout="0.5"),
    row("key-int", TypeError, "`key` must be one jax.random key...got int",
        lstm, LSTM, X, dropout=0.5, key=0),
    row("key-float", TypeError, "`key` must be one jax.random key",
        lstm, LSTM, X, dropout=0.5, key=np.ones(2)),
    row("keys", TypeError, "`key` must be one...got shape (3,)",
        gru, GRU, X, dropout=0.5, key=jax.random.split(KEY, 3)),
    row("keys-raw", TypeError, "`key` must be one...got shape (3, 2)",
        gru, GRU, X, dropout=0.5, key=np.zeros((3, 2), np.uint32)),
    row("masks-dtype", TypeError, "`masks` must be boolean...got float64",
        lstm, LSTM, X, dropout=0.5, masks=MASKS * 1.0),
    row("masks-shape", ValueError, "`masks` must have the shape (1, 7, 3, 4)...got (7, 3, 4)",
        lstm, LSTM, X, dropout=0.5, masks=MASKS[0]),
    row("masks-string", TypeError, "`masks` must be an array of numbers, got a str",
        lstm, LSTM, X, dropout=0.5, masks="all"),
    row("masks-and-key", ValueError, "`masks` come instead of `key`...and a key",
        lstm, LSTM, X, dropout=0.5, masks=MASKS, key=KEY),
    row("masks-alone", ValueError, "`masks` come...with the `dropout` rate...got dropout=0",
        lstm, LSTM, X, masks=MASKS),
    row("recurrent-dropout-percent", ValueError, "`recurrent_dropout` must be...0 and 1...got 50",
        gru, GRU, X, recurrent_dropout=50),
    row("recurrent-dropout-bool", ValueError, "`recurrent_dropout` must be a Python...got True",
        lstm, LSTM, X, recurrent_dropout=True),
    row("recurrent-key", TypeError, "`key` must be one jax.random key...got int",
        rnn, RNN, X, recurrent_dropout=0.5, key=0),
    row("recurrent-masks-dtype", TypeError, "`recurrent_masks` must be boolean...got float64",
        lstm, LSTM, X, recurrent_dropout=0.5, recurrent_masks=RECURRENT * 1.0),
    row("recurrent-masks-shape", ValueError,
        "`recurrent_masks` must have the shape (2, 3, 4) (num_layers · num_dir...got (1, 3, 4)",
        gru, GRU, X, recurrent_dropout=0.5, recurrent_masks=RECURRENT[:1]),
    row("recurrent-masks-and-key", ValueError, "`recurrent_masks` come instead of `key`...a key",
        lstm, LSTM, X, recurrent_dropout=0.5, recurrent_masks=RECURRENT, key=KEY),
    row("recurrent-masks-alone", ValueError, "`recurrent_dropout` rate...got recurrent_dropout=0",
        lstm, LSTM, X, dropout=0.5, recurrent_masks=RECURRENT, key=KEY),
    row("both-masks-and-key", ValueError, "`masks` come instead of `key`...and a key",
        gru, GRU, X, dropout=0.5, masks=MASKS, recurrent_dropout=0.5, recurrent_masks=RECURRENT,
        key=KEY),
    row("recurrent-dropout-masks-key", TypeError, "`key` must be one jax.random key...got int",
        recurrent_dropout_masks, 0, LSTM, X, 0.5),
    row("recurrent-dropout-masks-rate", ValueError, "`recurrent_dropout` must be...got 2",
        recurrent_dropout_masks, KEY, LSTM, X, 2),
    row("recurrent-dropout-masks-cell", ValueError, "`params` are those of a cell, but dropout is",
        recurrent_dropout_masks, KEY, GRU_CELL, X_T, 0.5),
    row("dropout-masks-key", TypeError, "`key` must be one jax.random key...got int",
        dropout_masks, 0, LSTM, X, 0.5),
    row("dropout-masks-rate", ValueError, "`dropout` must be...got 2",
        dropout_masks, KEY, LSTM, X, 2),
    # checkpoint_every
    row("checkpoint-every-zero", ValueError, "`checkpoint_every` must be a positive integer, got 0",
        lstm, LSTM, X, checkpoint_every=0),
    row("checkpoint-every-root", ValueError, "`checkpoint_every` must be a positive...got 2.6",
        gru, GRU, X, checkpoint_every=T**0.5),
    row("checkpoint-every-bool", ValueError, "`checkpoint_every` must be a positive...got True",
        rnn, RNN, X, checkpoint_every=True),
    # implementation
    row("implementation", ValueError, "`implementation` must be None or one of...got 'cudnn'",
        gru, GRU, X, implementation="cudnn"),
    row("fused-projection", ValueError, "`implementation` 'fused' cannot run an LSTM with a proj",
        lstm, weights("lstm", proj_size=2), X, implementation="fused"),
    # lengths
    row("lengths-negative", ValueError, "`lengths` must lie between 0 and the 7 time...got -1",
        lstm, LSTM, X, lengths=[1, -1, 3]),
    row("lengths-beyond", ValueError, "`lengths` must lie...got 8: is `batch_first` right?",
        gru, GRU, X, lengths=(1, 8, 3)),
    row("lengths-unbatched", ValueError, "`lengths` must lie...got 8",
        gru, GRU, X[:, 0], lengths=8),
    row("lengths-float", TypeError, "`lengths` must be integers, got float64",
        gru, GRU, X, lengths=np.ones(B)),
    row("lengths-bool", TypeError, "`lengths` must be integers, got bool: a mask?",
        lstm, LSTM, X, lengths=np.ones(B, bool)),
    row("lengths-string", TypeError, "`lengths` must be integers, got <U",
        lstm, LSTM, X, lengths="777"),
    row("lengths-shape", ValueError, "`lengths` must have the shape (3,)...got (7,)",
        rnn, RNN, X, lengths=np.ones(T, int)),
    row("lengths-scalar", ValueError, "`lengths` must have the shape (3,)...got ()",
        lstm, LSTM, X, lengths=np.array(2)),
    row("lengths-for-unbatched", ValueError, "`lengths` must have the shape ()...got (3,)",
        lstm, LSTM, X[:, 0], lengths=np.ones(B, int)),
    row("nonlinearity", ValueError, "`nonlinearity` must be 'tanh' or 'relu', got 'ReLU'",
        rnn, RNN, X, nonlinearity="ReLU"),
    row("nonlinearity-cell", ValueError, "`nonlinearity` must be...got ['relu']",
        rnn_cell, RNN_CELL, X_T, nonlinearity=["relu"]),
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


@pytest.mark.parametrize(("layer", "params"), [(rnn, RNN), (lstm, LSTM), (gru, GRU)])
def test_traced_lengths_are_clamped(layer, params):
    """To [0, T], whatever their dtype: a cast to int32 would make 2³² + 1 out to be 1."""
    params = {
        name: np.cos(np.arange(value.size)).reshape(value.shape) for name, value in params.items()
    }
    x = np.random.default_rng(0).normal(size=(T, 5, I))
    run = jax.jit(lambda lengths: layer(params, x, lengths=lengths))
    lengths = np.array([-2, 3, T + 4, 2**32 + 1, -(2**32) + 1])
    wild, clipped = run(lengths), run(np.clip(lengths, 0, T))
    jax.tree.map(np.testing.assert_array_equal, wild, clipped)
    assert not np.any(wild[0][:, 0])
    assert np.all(wild[0][-1, 2:4])


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
