"""Converted weights come back alike; a layer is its cells."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from converting import FRAMEWORKS, FROM, HIDDEN, TO, draw, every_cell
from helpers import assert_equal, every_layer_of_torch
from helpers import draw as draw_layer

import jaxrnn
from jaxrnn import convert
from jaxrnn.convert.layouts import TORCH


@every_cell
@pytest.mark.parametrize("bias", [True, False])
def test_there_and_back(framework, kind, bias):
    """Of the framework's own weights to the last bit; of torch's, the biases added."""
    params, *_ = draw(framework, kind, bias=bias)
    weights = TO[framework](params)
    rng = np.random.default_rng(1)
    random = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), weights)
    back = FROM[framework](random)
    assert_equal(TO[framework](back), random)
    assert_equal(FROM[framework](TO[framework](back)), back)
    needs_bias = framework in ("linen", "nnx", "nnx split", "haiku")
    assert [*back] == [*draw(framework, kind, bias=bias or needs_bias)[0]]
    mine = FROM[framework](weights)
    for end in "ih", "hh":
        assert_equal(mine[f"weight_{end}"], params[f"weight_{end}"])
    if bias and framework in ("keras", "ONNX") and kind == "gru":
        assert_equal(mine, params)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@every_cell
def test_dtypes_stay(framework, kind, dtype):
    weights = TO[framework](draw(framework, kind, jnp.dtype(dtype))[0])
    assert {a.dtype.name for a in jax.tree.leaves([weights, FROM[framework](weights)])} == {dtype}


def test_table():
    """Every gate of every tensor has one place, in an order that is one of its gates."""
    for framework in FRAMEWORKS.values():
        for layout in framework.cells:
            assert sorted(layout.gates) == sorted(TORCH[layout.kind])
            parts = [(tensor, g) for tensor, gates in layout.slots.values() for g in gates]
            assert len({*parts}) == len(parts)
            wanted = {(end, g) for end in ("weight_ih", "weight_hh") for g in layout.gates}
            assert wanted < {*parts}


@every_layer_of_torch
def test_a_layer_is_its_cells(layer):
    params, *_ = draw_layer(layer)
    cells = convert.cells(params)
    assert [{*cell} for cell in cells] == [{*layer.cell.structure.shapes}] * 4
    assert_equal(convert.stack(cells, bidirectional=True), params)
    forward = convert.stack(cells[::2][:1])
    assert jaxrnn.structure(forward)[3:6] == (1, True, False)


def test_a_cell_is_its_own():
    cell, *_ = draw("keras", "gru")
    [same] = convert.cells(cell)
    assert_equal(same, cell)


def test_names_and_forms_of_frameworks():
    """Other than those that come out: haiku's paths, equinox's sizes, keras's names, one bias."""
    lstm, rnn, gru = (draw("keras", kind)[0] for kind in ("lstm", "rnn", "gru"))
    named = convert.to_haiku(lstm, "net/~/core")
    assert [*named] == ["net/~/core/linear"]
    assert_equal(convert.from_haiku(named), convert.from_haiku(convert.to_haiku(lstm)))
    single = convert.to_haiku(rnn, nonlinearity="relu")
    del single["vanilla_rnn/linear_1"]["b"]
    assert_equal(convert.from_haiku(single), rnn | {"bias_hh": jnp.zeros(HIDDEN)})
    variables = convert.to_equinox(lstm) | {"input_size": 3, "hidden_size": 5, "use_bias": True}
    assert_equal(convert.from_equinox(variables), convert.from_equinox(convert.to_equinox(lstm)))
    names = ("kernel", "recurrent_kernel", "bias")
    assert_equal(convert.from_keras(dict(zip(names, convert.to_keras(gru), strict=True))), gru)
    silent = convert.to_onnx([lstm]) | {"P": np.zeros((1, 3 * HIDDEN))}
    assert_equal(convert.from_onnx(silent), [lstm])


def test_what_only_running_shows():
    """Under jit, NaN stands for the refusal."""
    gru, *_ = draw("keras", "gru")
    assert np.isnan(jax.jit(convert.to_nnx)(gru)["dense_i"]["bias"][-HIDDEN:]).all()
    right, *_ = draw("nnx", "gru")
    assert_equal(jax.jit(convert.to_nnx)(right), convert.to_nnx(right))
    lstm = convert.to_onnx([draw("keras", "lstm")[0]])
    peepholes = {"P": jnp.ones((1, 3 * HIDDEN))}
    assert np.isnan(jax.jit(convert.from_onnx)(lstm | peepholes)[0]["weight_ih"]).all()
