"""`parity.compare` on users' own modules: what agrees, and what is caught."""

import functools
import re

import equinox
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from ported import Tied, differing, linear
from torch import nn

import jaxrnn
import parity


pytestmark = pytest.mark.usefixtures("seeded")


class Normed(nn.Module):
    """Statistics as buffers, and one that a `state_dict` does not have."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)
        self.register_buffer("scale", torch.rand(3), persistent=False)

    def forward(self, x):
        return self.norm(x) * self.scale


def test_buffers_are_not_parameters():
    module = Normed().eval()
    scale = module.scale.double().numpy()

    def port(params, x):
        p = params["norm"]
        scaled = (x - p["running_mean"]) / jnp.sqrt(p["running_var"] + 1e-5)
        return (scaled * p["weight"] + p["bias"]) * scale

    report = parity.compare(module, port, inputs=[(5, 3)])
    assert report.passed, report
    assert [*report.shapes] == ["y", "grad norm.weight", "grad norm.bias", "grad x"]
    off = lambda params, x: port(params, x) * 1.0001
    assert not parity.compare(module, off, inputs=[(5, 3)]).passed


def test_the_module_is_left_as_it_is():
    """Also one that keeps statistics, results and random numbers."""

    class Keeping(Normed):
        def forward(self, x):
            self.last = super().forward(x)
            torch.rand(())
            return self.last

    module = Keeping()
    before = {name: a.clone() for name, a in module.state_dict().items()}
    state, default = torch.random.get_rng_state(), torch.get_default_dtype()
    port = lambda params, x: x
    report = parity.compare(module, port, inputs=[(5, 3)], gradients=False)
    assert "in train mode, where it takes the batch's statistics: norm" in report.remarks
    assert not hasattr(module, "last")
    assert all(torch.equal(a, before[name]) for name, a in module.state_dict().items())
    assert all(a.grad is None and a.dtype == torch.float32 for a in module.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_default_dtype() == default
    module(torch.ones(5, 3))
    parity.compare(module, port, inputs=[(5, 3)], gradients=False)  # its result is no leaf


def test_tied_weights():
    both = lambda p, ids: linear(p["out"], p["embedding"]["weight"][ids])
    report = parity.compare(Tied(), both, inputs=[np.array([1, 2, 6])])
    assert report.passed, report
    assert [*report.shapes] == ["y", "grad embedding.weight", "grad out.bias"]
    [remark] = report.remarks
    assert remark.endswith("gradients add up: out.weight = embedding.weight")

    def half(p, ids):
        return linear(jax.lax.stop_gradient(p["out"]), p["embedding"]["weight"][ids])

    report = parity.compare(Tied(), half, inputs=[np.array([1, 2, 6])])
    assert differing(report) == ["grad embedding.weight", "grad out.bias"]


def test_states_made_in_forward():
    """`torch.zeros` without a dtype, in a float64 run."""

    class Looped(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRUCell(3, 4)

        def forward(self, x):
            h = torch.zeros(x.shape[1], 4)
            for x_t in x:
                h = self.cell(x_t, h)
            return h

    def port(params, x):
        h = jnp.zeros((x.shape[1], 4))
        return jax.lax.scan(lambda h, t: (jaxrnn.gru_cell(params["cell"], t, h), None), h, x)[0]

    for dtype in ("float64", "float32"):  # JAX's zeros, too, are what is compared
        report = parity.compare(Looped(), port, inputs=[(5, 2, 3)], dtype=dtype)
        assert report.passed, report
    assert [*report.shapes][-1] == "grad x"


def test_time_first_states_and_trees():
    module = nn.LSTM(3, 5, num_layers=2)
    port = lambda params, x, hx: jaxrnn.lstm(params, x, hx)
    state = ((2, 4, 5), torch.ones(2, 4, 5))
    report = parity.compare(module, port, inputs=[(6, 4, 3), state])
    assert report.passed, report
    assert [*report.shapes][:3] == ["y", "h_n", "c_n"]
    assert [*report.shapes][-3:] == ["grad input", "grad hx.0", "grad hx.1"]
    labels = lambda name: [b.label for b in report.blocks if b.tensor == name][1:]
    assert labels("y") == labels("grad input") == [f"step {t}" for t in range(6)]
    assert labels("c_n") == labels("grad hx.0") == ["layer 0", "layer 1"]
    ignoring = lambda params, x, hx: jaxrnn.lstm(params, x, (0 * hx[0], hx[1]))
    report = parity.compare(module, ignoring, inputs=[(6, 4, 3), state])
    assert report.first.startswith("y, step 0, batch row ")
    assert "grad hx.0" in differing(report)


def test_layers_and_directions_of_a_state_are_named():
    module = nn.LSTM(3, 4, 2, bidirectional=True)
    port = lambda p, x: jax.tree.map(lambda a: a * 1.001, jaxrnn.lstm(p, x))
    report = parity.compare(module, port, inputs=[(5, 2, 3)], gradients=False)
    labels = [block.label for block in report.blocks if block.tensor == "h_n" and block.label]
    ways = ("forward", "backward")
    assert labels == [f"layer {k} {way}" for k in (0, 1) for way in ways]


def test_inputs_by_keyword_and_other_than_arrays():
    class Scaled(nn.Linear):
        def forward(self, x, *, by, how, lengths):
            y = super().forward(x) * by["much"]
            return y.relu() if how == "relu" else y[: lengths[0]]

    def port(params, x, *, by, how, lengths):
        y = linear(params, x) * by["much"]
        return jax.nn.relu(y) if how == "relu" else y[: lengths[0]]

    inputs = {"x": jnp.ones((4, 3)), "by": {"much": (4, 2)}, "lengths": [3, 2]}
    for how in ("relu", "cut"):
        report = parity.compare(Scaled(3, 2), port, inputs=inputs | {"how": how})
        assert report.passed, report
        assert {"grad x", "grad by.much"} < {*report.shapes}


def test_a_function_of_values_is_not_compiled():
    lengths = np.array([3, 1])
    pick = lambda m: lambda params, x, n: m(params, x)[: int(n[0])]
    module = pick(lambda params, x: x @ params["w"].T)
    port = pick(lambda params, x: x @ params["w"].T)
    report = parity.compare(module, port, inputs=[(4, 3), lengths], params={"w": np.eye(3)[:2]})
    assert report.passed, report
    assert report.shapes["y"] == (3, 2)


def test_whole_numbers_among_outputs():
    class Both(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            return {"logits": y, "best": y.argmax(1)}

    def port(params, x, best=jnp.argmax):
        y = linear(params, x)
        return {"best": best(y, axis=1), "logits": y}

    report = parity.compare(Both(3, 5), port, inputs=[(4, 3)])
    assert report.passed, report
    assert [*report.shapes][:2] == ["output best", "output logits"]
    worst = functools.partial(port, best=jnp.argmin)
    [wrong] = parity.compare(Both(3, 5), worst, inputs=[(4, 3)]).wrong
    assert re.fullmatch(r"output best: \d where torch has \d, at \[0\]", wrong)


def test_missing_gradients_are_a_remark():
    class Idle(nn.Linear):
        def forward(self, x):
            return super().forward(x).detach() + x[:, :2]

    port = lambda params, x: jax.lax.stop_gradient(linear(params, x)) + x[:, :2]
    report = parity.compare(Idle(3, 2), port, inputs=[(4, 3)])
    assert report.passed, report
    assert report.remarks == [
        "no gradient in torch, so that comparing it says nothing: weight, bias"
    ]
    flowing = lambda params, x: linear(params, x) + x[:, :2]
    assert differing(parity.compare(Idle(3, 2), flowing, inputs=[(4, 3)])) == [
        "grad weight", "grad bias", "grad x",
    ]  # fmt: skip


def test_constant_parameters_are_a_remark():
    norm = lambda params, x: jaxrnn.layer_norm(params, x)
    report = parity.compare(nn.LayerNorm(3), norm, inputs=[(4, 3)])
    assert report.passed, report
    assert report.remarks[0].endswith("better at random: weight, bias")


# Mappings and other frameworks.


class Linen(flax.linen.Module):
    @flax.linen.compact
    def __call__(self, x):
        x = jax.nn.tanh(flax.linen.Dense(4)(x))
        return flax.linen.Dense(2)(x)


MLP = [nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)]
DENSE = {
    "params.Dense_0.kernel": lambda p: p["0.weight"].T,
    "params.Dense_0.bias": "0.bias",
    "params.Dense_1.kernel": lambda p: p["2.weight"].T,
    "params.Dense_1.bias": "2.bias",
}


@pytest.mark.parametrize("form", ["dict", "function"])
def test_flax_linen(form):
    mapping = DENSE
    if form == "function":
        dense = lambda p, i: {"kernel": p[f"{i}.weight"].T, "bias": p[f"{i}.bias"]}
        mapping = lambda p: {"params": {"Dense_0": dense(p, 0), "Dense_1": dense(p, 2)}}
    module = nn.Sequential(*MLP)
    report = parity.compare(module, Linen().apply, mapping=mapping, inputs=[(5, 3)])
    assert report.passed, report
    assert [*report.shapes] == ["y", *(f"grad {n}" for n in module.state_dict()), "grad input"]
    assert report.remarks == []


def test_a_mapping_that_forgets():
    forgets = DENSE | {"params.Dense_1.bias": lambda p: jnp.zeros(2, p["0.bias"].dtype)}
    report = parity.compare(nn.Sequential(*MLP), Linen().apply, mapping=forgets, inputs=[(5, 3)])
    assert {"y", "grad 2.bias"} <= {*differing(report)}
    assert "not used by `mapping`: 2.bias" in report.remarks


def test_equinox():
    def mapping(p):
        cell = equinox.nn.GRUCell(3, 4, key=jax.random.key(0))
        where = lambda c: (c.weight_ih, c.weight_hh, c.bias, c.bias_n)
        ih, hh = p["bias_ih"], p["bias_hh"]
        bias = jnp.concatenate([ih[:8] + hh[:8], ih[8:]])
        return equinox.tree_at(where, cell, (p["weight_ih"], p["weight_hh"], bias, hh[8:]))

    port = lambda cell, x, h: jax.vmap(cell)(x, h)
    options = {"mapping": mapping, "inputs": [(5, 3), (5, 4)], "outputs": ["h"]}
    report = parity.compare(nn.GRUCell(3, 4), port, **options)
    assert report.passed, report
    assert "grad hx" in report.shapes
    swapped = lambda cell, x, h: port(cell, x, h) * 0 + h - port(cell, x, h)
    report = parity.compare(nn.GRUCell(3, 4), swapped, **options)
    assert report.first.startswith("h, batch row ")


def test_a_torch_function():
    params = {"a.w": np.random.default_rng(0).normal(size=(2, 3)), "b": torch.ones(2)}
    port = lambda p, x: jnp.tanh(x @ p["a"]["w"].T + p["b"])
    module = lambda p, x: torch.tanh(x @ p["a.w"].T + p["b"])
    report = parity.compare(module, port, params=params, inputs=[(4, 3)])
    assert report.passed, report
    assert [*report.shapes] == ["y", "grad a.w", "grad b", "grad x"]
    assert report.name.endswith(" and <lambda>")


def test_params_in_place_of_the_modules_own():
    module = nn.Linear(3, 2)
    params = {"weight": np.ones((2, 3)), "bias": np.arange(2.0)}
    sums = []
    port = lambda params, x: sums.append(params["weight"].sum()) or linear(params, x)
    report = parity.compare(module, port, params=params, inputs=[np.ones((4, 3))], gradients=False)
    assert report.passed
    assert float(sums[0]) == 6


def test_cotangents_of_some_outputs():
    two = lambda p, x: (p["w"] * x, p["v"] * x)
    options = {"params": {"w": np.ones(3), "v": np.ones(3)}, "inputs": [np.arange(3.0) + 1]}
    options |= {"outputs": ["a", "b"], "cotangents": {"a": np.ones(3)}}
    report = parity.compare(two, two, **options)
    assert report.passed
    assert "no gradient in torch, so that comparing it says nothing: v" in report.remarks
