"""`parity.check`: whatever checkpoint holds a recurrent layer, it is found, run and judged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxrnn
from jaxrnn._cells import lstm_step
from parity import check
from parity import pair as pair_module
from parity.pair import judge_pair
from parity.ports.checkpoint import layers


NN = torch.nn


class Model(NN.Module):
    """Layers and cells at different depths, and much that is no recurrent layer."""

    def __init__(self):
        super().__init__()
        self.embedding = NN.Embedding(9, 4)
        self.encoder = NN.Module()
        self.encoder.lstm = NN.LSTM(4, 5, 2, proj_size=2)
        rnn = NN.RNN(4, 3, bias=False, bidirectional=True)
        self.decoders = NN.ModuleList([NN.GRUCell(4, 3), rnn])
        self.norm = NN.BatchNorm1d(4)
        self.attention = NN.MultiheadAttention(4, 1)


FOUND = {
    "encoder.lstm": ("lstm", 4, 5, 2, True, False, 2),
    "decoders.0": ("gru_cell", 4, 3, 1, True, False, 0),
    "decoders.1": ("rnn", 4, 3, 1, False, True, 0),
}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def structures(results):
    return {result.case.group: tuple(result.case.structure)[:7] for result in results}


def statuses(results):
    return {(result.case.group, result.dtype): result.status for result in results}


def save(path, module):
    """As a user would, in the format of the suffix."""
    if path.suffix in (".pt", ".pth"):
        torch.save(module.state_dict(), path)
    else:
        jaxrnn.save(path, jaxrnn.from_state_dict(module.state_dict()))
    return path


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors", ".npz"])
def test_files(tmp_path, suffix):
    module = NN.RNN(3, 4)
    results = check(save(tmp_path / f"model{suffix}", module), dtypes=("float32",))
    assert statuses(results) == {("top", "float32"): "pass"}
    assert structures(results) == {"top": ("rnn", 3, 4, 1, True, False, 0)}


def test_several_layers_in_a_model(tmp_path):
    results = check(save(tmp_path / "model.pt", Model()))
    assert structures(results) == FOUND
    assert statuses(results) == {
        (name, dtype): "pass" for name in FOUND for dtype in ("float32", "float64")
    }


def test_a_whole_training_checkpoint(tmp_path):
    model = Model()
    optimizer = torch.optim.Adam(model.parameters())
    sum(parameter.sum() for parameter in model.parameters()).backward()
    optimizer.step()
    checkpoint = {
        "epoch": 7,
        "loss": 0.25,
        "history": [1.0, 0.5],
        "config": {"cell": "lstm", "sizes": (4, 5)},
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    torch.save(checkpoint, tmp_path / "last.pt")
    results = check(tmp_path / "last.pt", dtypes=("float32",))
    assert structures(results) == {f"model.{name}": found for name, found in FOUND.items()}
    assert {result.status for result in results} == {"pass"}


def test_prefix():
    state_dict, one = Model().state_dict(), ("float64",)
    assert [*structures(check(state_dict, prefix="encoder", dtypes=one))] == ["encoder.lstm"]
    assert [*structures(check(state_dict, prefix="decoders.0", dtypes=one))] == ["decoders.0"]
    with pytest.raises(ValueError, match=r"under the prefix 'decoder', .* it has encoder\.lstm, "):
        check(state_dict, prefix="decoder")  # a part of a name is none


def test_the_weights_are_the_checkpoints_own():
    """Bit for bit, none left out."""
    state_dict = Model().state_dict()
    for name, params in layers(state_dict).items():
        wanted = {k.removeprefix(f"{name}."): v for k, v in state_dict.items() if name in k}
        assert params.keys() == wanted.keys()
        assert all((params[key] == value.numpy()).all() for key, value in wanted.items())


@pytest.mark.parametrize("kind", [NN.RNN, NN.RNNCell])
def test_relu(kind):
    [result] = check(kind(3, 4).state_dict(), nonlinearity="relu", dtypes=("float64",))
    assert (result.status, result.case.nonlinearity) == ("pass", "relu")


def test_nonlinearity_is_of_rnns_only():
    options = {"prefix": "decoders", "dtypes": ("float64",)}
    results = check(Model().state_dict(), nonlinearity="relu", **options)
    assert {r.case.group: r.case.nonlinearity for r in results} == {
        "decoders.0": "tanh", "decoders.1": "relu",
    }  # fmt: skip
    assert {result.status for result in results} == {"pass"}


@pytest.mark.parametrize(
    ("dtype", "wanted"),
    [
        ("float64", ["float64"]),
        ("float32", ["float32", "float64"]),
        ("bfloat16", ["bfloat16", "float64"]),
        ("float16", ["float32", "float64"]),  # which torch has no kernels for on every CPU
    ],
)
@pytest.mark.parametrize("x64", [True, False])
def test_dtypes(tmp_path, dtype, wanted, x64):
    module = NN.RNN(3, 4).to(getattr(torch, dtype))
    torch.save(module.state_dict(), tmp_path / "model.pt")
    with jax.enable_x64(x64):
        assert layers(tmp_path / "model.pt")[""]["weight_ih_l0"].dtype == dtype
        results = check(tmp_path / "model.pt")
    assert statuses(results) == {("top", name): "pass" for name in wanted}


INPUTS = {
    "(T, B, I)": (NN.LSTM, (4, 2, 3), {}, dict(time=4, batch=2, batch_first=False)),
    "(B, T, I)": (NN.LSTM, (4, 2, 3), {"batch_first": True},
                  dict(time=2, batch=4, batch_first=True)),
    "(T, I)": (NN.GRU, (4, 3), {}, dict(time=4, batch=None, batch_first=False)),
    "(T, I), batch first": (NN.GRU, (4, 3), {"batch_first": True},
                            dict(time=4, batch=None, batch_first=False)),
    "cell, (B, I)": (NN.GRUCell, (4, 3), {}, dict(time=1, batch=4)),
    "cell, (B, I), batch first": (NN.LSTMCell, (4, 3), {"batch_first": True},
                                  dict(time=1, batch=4)),
    "cell, (I,)": (NN.LSTMCell, (3,), {}, dict(time=1, batch=None)),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "shape", "options", "read"), INPUTS.values(), ids=INPUTS)
def test_given_x(monkeypatch, kind, shape, options, read):
    """It is what both sides see, in its layout, with zero initial states."""
    x = np.random.default_rng(0).standard_normal(shape)
    data = []

    def judge(pair, reference, program):
        data.append(reference.data)
        return judge_pair(pair, reference, program)

    monkeypatch.setattr(pair_module, "judge_pair", judge)
    [result] = check(kind(3, 5).state_dict(), x=x, dtypes=("float64",), **options)
    assert result.status == "pass"
    assert not result.case.state
    assert {field: getattr(result.case, field) for field in read} == read
    assert (data[0].inputs["x"] == x).all()
    assert data[0].inputs.keys().isdisjoint({"h_0", "c_0"})


def without(state_dict, key):
    return {name: value for name, value in state_dict.items() if name != key}


LSTM = NN.LSTM(3, 4).state_dict()
ERRORS = {
    "no layer": (lambda: check(NN.Linear(3, 4).state_dict()), "it has none$"),
    "nothing": (lambda: check({}), "it has none$"),
    "features": (lambda: check(LSTM, x=np.ones((5, 2, 4))),
                 r"2 or 3 axes, none empty and the last of 3 features.*got shape \(5, 2, 4\)"),
    "axes": (lambda: check(LSTM, x=np.ones(3)), r"must have 2 or 3 axes.*got shape \(3,\)"),
    "no steps": (lambda: check(LSTM, x=np.ones((0, 3))), r"none empty.*got shape \(0, 3\)"),
    "diverged": (lambda: check(LSTM | {"bias_hh_l0": torch.full((16,), torch.nan)}),
                 "`bias_hh_l0` of layer `top` is not finite"),
    "infinite x": (lambda: check(LSTM, x=np.full((2, 3), np.inf)), "`x` is not finite"),
    "dtype": (lambda: check(LSTM, dtypes=("float16",)), "`dtypes` must be among.*got 'float16'"),
    "nonlinearity": (lambda: check(LSTM, nonlinearity="sin"), "must be 'tanh' or 'relu'"),
    "which layer": (lambda: check({"dec.weight_ih_l0": torch.ones(16, 3)}), "layer `dec`: .*hh_l0"),
    "axes of a cell": (lambda: check(NN.GRUCell(3, 4).state_dict(), x=np.ones((2, 2, 3))),
                       "must have 1 or 2 axes"),
    "missing key": (lambda: check(without(LSTM, "weight_hh_l0")), "weight_hh_l0"),
    "no counterpart": (lambda: check(jaxrnn.init_lstm(jax.random.key(0), 3, 4, layer_norm=True)),
                       "torch.nn has no counterpart of a layer-normalised `lstm`"),
    "one bias only": (lambda: check(without(LSTM, "bias_hh_l0")), "bias_hh_l0"),
    "shape": (lambda: check(LSTM | {"weight_hh_l0": torch.ones(16, 5)}), "weight_hh_l0"),
}  # fmt: skip


TYPE_ERRORS = {
    "a module": (lambda: check(NN.LSTM(3, 4)), "got a LSTM: pass module.state_dict()"),
    "integer x": (lambda: check(LSTM, x=np.ones((2, 3), int)), "`x` must be floating, got int64"),
    "complex x": (lambda: check(LSTM, x=np.ones((2, 3), complex)), "`x` must be floating"),
    "a list": (lambda: check(LSTM, x=[[1.0]]), "`x` must be a numpy array, got a list"),
    "mixed dtypes": (lambda: check(LSTM | {"bias_hh_l0": torch.ones(16).double()}),
                     "layer `top` mixes dtypes"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "text"), TYPE_ERRORS.values(), ids=TYPE_ERRORS)
def test_type_errors(call, text):
    with pytest.raises(TypeError, match=text):
        call()


@pytest.mark.parametrize(("call", "text"), ERRORS.values(), ids=ERRORS)
def test_errors(call, text):
    with pytest.raises(ValueError, match=text):
        call()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".npz"])
def test_damaged_file(tmp_path, suffix):
    path = save(tmp_path / f"model{suffix}", NN.GRU(3, 4))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="is damaged"):
        check(path)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="names no file"):
        check(tmp_path / "model.pt")


@pytest.fixture
def plant(monkeypatch):
    """Puts a mistake into jaxrnn itself."""
    return monkeypatch.setattr


def test_a_wrong_equation_is_seen(plant):
    def leaky(params, x, state):
        h, c = lstm_step(params, x, state)
        return jaxrnn.LSTMState(h, c + 1e-6 * state.c)

    plant(jaxrnn._layers, "lstm_step", leaky)
    results = check(Model().state_dict(), dtypes=("float64",))
    assert statuses(results) == {
        ("encoder.lstm", "float64"): "FAIL",
        ("decoders.0", "float64"): "pass",
        ("decoders.1", "float64"): "pass",
    }
    # The first step's h is still right, and its c is not; y shows it one step later.
    wrong = results[0].wrong
    assert wrong[0].startswith("y, step 1, batch row ")
    assert wrong[-1].startswith("first wrong state: c of layer 0, forward, step 0, batch row ")


def test_a_wrong_place_is_named(plant):
    """Layer 1, backward, unit 4 of c from step 3 down, in batch row 2."""
    lstm = jaxrnn.lstm

    def wrong(params, x, state=None, *, return_all_states=False, **options):
        y, states = lstm(params, x, state, return_all_states=True, **options)
        c = states.c.at[:4, 3, 2, 4].add(1e-5)
        states = jaxrnn.LSTMState(states.h, c)
        if return_all_states:
            return y, states
        end = jnp.array([-1, 0, -1, 0])
        return y, jax.tree.map(lambda a: a[end, jnp.arange(4)], states)

    plant(jaxrnn, "lstm", wrong)
    state_dict = NN.LSTM(3, 5, 2, bidirectional=True).state_dict()
    [result] = check(state_dict, dtypes=("float64",))
    place, first = result.wrong
    assert place.startswith("c_n, layer 1 backward, batch row 2: error ")
    assert place.endswith("worst at index [3, 2, 4]")
    assert first.startswith(
        "first wrong state: c of layer 1, backward, step 3, batch row 2, unit 4: off by "
    )


def test_a_wrong_gradient_is_named(plant):
    """Of one gate of one layer's bias in one direction."""
    lstm = jaxrnn.lstm

    def wrong(params, *args, **options):
        bias = params["bias_hh_l1_reverse"]
        stopped = jnp.where(jnp.arange(20) // 5 == 1, jax.lax.stop_gradient(bias), bias)
        return lstm(dict(params) | {"bias_hh_l1_reverse": stopped}, *args, **options)

    plant(jaxrnn, "lstm", wrong)
    state_dict = NN.LSTM(3, 5, 2, bidirectional=True).state_dict()
    for result in check(state_dict):
        place, first = result.wrong
        assert place.startswith("grad bias_hh_l1_reverse, gate f: error 1.0e+00")
        assert first.startswith("no state on the way is off by more than ")


def test_the_wrong_nonlinearity_is_seen(plant):
    """As if a checkpoint of a relu RNN were run by a tanh RNN."""
    rnn = jaxrnn.rnn
    tanh = {"nonlinearity": "tanh"}
    plant(jaxrnn, "rnn", lambda *args, **options: rnn(*args, **options | tanh))
    [result] = check(NN.RNN(3, 4).state_dict(), nonlinearity="relu", dtypes=("float64",))
    assert result.wrong[0].startswith("y: must be exactly 0 at [0, 0, 0], got -")
    assert result.wrong[-1].startswith("first wrong state: h of layer 0, forward, step 0, ")


@pytest.mark.parametrize("size", [20.0, 3e4])
def test_inputs_that_nobody_normalised(size):
    """Every gate is saturated, and the truth does not overflow."""
    x = np.random.default_rng(0).standard_normal((5, 2, 3)) * size
    for kind in (NN.GRU, NN.RNN):
        assert [r.wrong for r in check(kind(3, 4).state_dict(), x=x)] == [[], []]
