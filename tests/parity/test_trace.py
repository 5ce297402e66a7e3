"""`parity.trace`: values on the way, by name, and the first layer that differs."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.ad_checkpoint import checkpoint_name as tag
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import jaxrnn
import parity
from parity.__main__ import main
from parity.ports.jaxpr import Tags


class Model(nn.Module):
    """An embedding, an LSTM, and a loop over a cell and a head, which the last layer overwrites."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 4)
        self.encoder = nn.ModuleDict({"lstm": nn.LSTM(4, 5, batch_first=True)})
        self.cell, self.fc = nn.GRUCell(5, 6), nn.Linear(6, 2)
        self.act = nn.ReLU(inplace=True)

    def forward(self, ids):
        y, _ = self.encoder["lstm"](self.embedding(ids))
        h, outputs = torch.zeros(len(ids), 6), []
        for y_t in y.unbind(1):
            h = self.cell(y_t, h)
            outputs.append(self.act(self.fc(h)))
        return torch.stack(outputs)


IDS = np.array([[1, 2, 3, 4], [5, 6, 0, 0], [7, 8, 9, 10]])


def port(params, ids, loop=True, cell=lambda p: p):
    """With a Python loop, as in torch, or a scan in a jitted function."""
    x = tag(params["embedding"]["weight"][ids], "embedding")
    y, _ = tag(jaxrnn.lstm(params["encoder"]["lstm"], x, batch_first=True), "encoder.lstm")

    def step(h, y_t):
        h = tag(jaxrnn.gru_cell(cell(params["cell"]), y_t, h), "cell")
        out = tag(jaxrnn.linear(params["fc"], h), "fc")
        return h, tag(jax.nn.relu(out), "act")

    h, outputs = jnp.zeros((len(ids), 6)), []
    if not loop:
        scan = lambda h, y: jax.lax.scan(jax.checkpoint(step), h, y.swapaxes(0, 1))[1]
        return jax.jit(scan)(h, y)
    for t in range(y.shape[1]):
        h, out = step(h, y[:, t])
        outputs.append(out)
    return jnp.stack(outputs)


NAMES = ["embedding", "encoder.lstm", "encoder.lstm.1.0", "encoder.lstm.1.1", "cell", "fc", "act"]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Model()


@pytest.mark.parametrize("loop", [True, False], ids=["loop", "scan"])
def test_values_on_the_way(model, loop):
    report = parity.trace(model, functools.partial(port, loop=loop), inputs=[IDS])
    assert report.passed, report
    assert [*report.shapes] == NAMES  # in torch's order
    assert report.shapes["encoder.lstm.1.0"] == (1, 3, 5)
    assert report.shapes["fc"] == (4, 3, 2)  # four calls
    assert report.remarks == []
    labels = lambda name: [b.label for b in report.blocks if b.tensor == name][1:]
    assert labels("encoder.lstm") == labels("fc") == [f"step {t}" for t in range(4)]
    assert str(report).startswith("Model and port, traced: 7 of 7 tensors agree")


@pytest.mark.parametrize("loop", [True, False], ids=["loop", "scan"])
def test_the_first_layer_that_differs(model, loop):
    def off(params):
        return params | {"bias_hh": params["bias_hh"].at[12:].mul(1.001)}

    report = parity.trace(model, functools.partial(port, loop=loop, cell=off), inputs=[IDS])
    assert [row.tensor for row in report.rows() if row.wrong] == ["cell", "fc", "act"]
    assert report.first.startswith("cell, step 0, batch row ")
    assert f"first: {report.first}" in str(report)


def test_float32(model):
    scan = functools.partial(port, loop=False)
    report = parity.trace(model, scan, inputs=[IDS], dtype="float32")
    assert report.passed, report
    assert report.about["dtype"] == "float32"


def test_names_that_one_side_lacks(model):
    def some(params, ids):
        x = tag(params["embedding"]["weight"][ids], "embeddings")
        y, (h, _) = jaxrnn.lstm(params["encoder"]["lstm"], x, batch_first=True)
        h = tag(h, "encoder.lstm.1.0")  # the second tensor that it returns
        return jax.lax.cond(ids[0, 0] > 0, lambda h: tag(h, "fc"), lambda h: h, h), y

    report = parity.trace(model, some, inputs=[IDS])
    assert [*report.shapes] == ["encoder.lstm.1.0"]
    assert report.remarks == [
        "not tagged in JAX: embedding, cell, fc, act",
        "tagged in JAX, but no name of torch's: embeddings",
        "tagged where it cannot be read, inside a `cond` or `while`: fc",
    ]


def refused(error, message, *args):
    with pytest.raises(error, match=re.escape(message)):
        parity.trace(*args, inputs=[IDS])


def test_no_tag_at_all(model):
    untagged = lambda params, ids: params["embedding"]["weight"][ids]
    message = "`jax_function` tags no value: with jax.ad_checkpoint.checkpoint_name write "
    refused(ValueError, message + '`y = checkpoint_name(y, "embedding")` where', model, untagged)
    unknown = lambda params, ids: tag(params["fc"]["bias"], "head")
    refused(ValueError, "no tag of `jax_function` is a name of torch's (embedding, encoder.lstm, "
            "cell, fc, act): head", model, unknown)  # fmt: skip
    refused(TypeError, "`torch_module` must be a torch.nn.Module", untagged, untagged)


def test_shapes_that_differ(model):
    turned = lambda params, ids: tag(params["embedding"]["weight"][ids].swapaxes(0, 1), "embedding")
    [wrong] = parity.trace(model, turned, inputs=[IDS]).wrong
    assert wrong == "embedding: float64[4, 3, 4], wanted float64[3, 4, 4]"


def test_packed_sequences():
    """A packed result is compared as the padded one."""

    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(3, 4, batch_first=True)

        def forward(self, x):
            return self.gru(pack_padded_sequence(x, [5, 2], batch_first=True))[1]

    def port(params, x):
        y, h = jaxrnn.gru(params["gru"], x, lengths=np.array([5, 2]), batch_first=True)
        return tag((y, h), "gru")

    report = parity.trace(Packed(), port, inputs=[(2, 5, 3)])
    assert report.passed, report
    assert report.shapes == {"gru": (2, 5, 4), "gru.1": (1, 2, 4)}


@jax.custom_jvp
def doubled(x):
    return tag(2 * x, "in custom_jvp")


doubled.defjvp(lambda primals, tangents: (doubled(*primals), 2 * tangents[0]))


@jax.custom_vjp
def tripled(x):
    return tag(3 * x, "in custom_vjp")


tripled.defvjp(lambda x: (tripled(x), None), lambda _, g: (3 * g,))


def test_where_tags_are_read():
    """In every call of a program, and in loops in loops; not in a branch that may not run."""

    def function(x):
        inner = lambda c, t: (c + tag(t, "in scans"), tag(t, "in both"))
        outer = lambda c, row: (
            jax.lax.scan(inner, c, row)[0],
            (tag(row, "in scan"), tag(row, "in both")),
        )
        total, _ = jax.lax.scan(outer, 0.0, x, reverse=True)
        tag(x, "result not used")
        each = jax.vmap(lambda row: tag(row + 1, "in vmap"))(x)
        jitted = jax.jit(lambda a: tag(a, "in jit"))(each)
        again = jax.checkpoint(lambda a: tag(a * jnp.sin(a), "in remat"))(jitted)
        loop = jax.lax.while_loop(lambda a: a.sum() < 0, lambda a: tag(a, "in while"), again)
        return doubled(loop) + tripled(x) + total

    x = np.arange(6.0).reshape(2, 3)
    tags = Tags(function)
    tagged = {key: [np.asarray(a) for a in values] for key, values in tags(x).items()}
    assert len(tagged.pop(("in both", True))) == 2
    once = {"in vmap": x + 1, "in jit": x + 1, "in remat": (x + 1) * np.sin(x + 1)}
    once |= {"in custom_jvp": 2 * once["in remat"], "in custom_vjp": 3 * x, "result not used": x}
    wanted = {(name, False): a for name, a in once.items()}
    wanted |= {("in scan", True): x, ("in scans", True): x}
    assert tagged.keys() == wanted.keys()
    for key, a in wanted.items():
        [value] = tagged[key]
        np.testing.assert_allclose(value, a, rtol=1e-12)
    assert tags.hidden == ["in while"]


def test_the_command(capsys, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import jax.ad_checkpoint, torch\n"
        "def function(params, x):\n"
        "    y = x @ params['0']['weight'].T + params['0']['bias']\n"
        "    return jax.ad_checkpoint.checkpoint_name(y, '0')\n"
        "def both():\n"
        "    module = torch.nn.Sequential(torch.nn.Linear(3, 2))\n"
        "    return {'torch': module, 'jax': function, 'inputs': [(4, 3)], 'outputs': ['y']}\n"
    )
    assert main(["trace", f"{file}:both"]) == 0
    assert "function, traced: 1 of 1 tensors agree" in capsys.readouterr().out
