"""`parity.compare` on users' own modules: what agrees, what is caught, where, and what is said."""

import functools
import html.parser
import json
import math
import re

import equinox
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

import jaxrnn
import parity
from parity.__main__ import main
from parity.criterion import Block, Verdict
from parity.report.port import Report, page


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small tensors, and other tests beside them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


class Classifier(nn.Module):
    """An embedding, a bidirectional LSTM, and a linear layer on its final states."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.embedding = nn.Embedding(11, 4, padding_idx=0)
        self.lstm = nn.LSTM(4, 5, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(10, 3)

    def forward(self, ids):
        y, (h, _) = self.lstm(self.embedding(ids))
        return self.fc(self.dropout(torch.cat([h[0], h[1]], dim=1))), y


IDS = np.array([[1, 2, 3, 4], [5, 6, 0, 0], [7, 8, 9, 0]])
NAMES = ["logits", "y"]


def classify(params, ids):
    x = jaxrnn.embedding(params["embedding"], ids, padding_idx=0)
    y, (h, _) = jaxrnn.lstm(params["lstm"], x, batch_first=True)
    return jaxrnn.linear(params["fc"], jnp.concatenate([h[0], h[1]], axis=1)), y


def linear(params, x):
    return x @ params["weight"].T + params["bias"]


def compare_linear(function=linear, module=None, **options):
    options = {"inputs": [(4, 3)], "gradients": False} | options
    return parity.compare(module or nn.Linear(3, 2), function, **options)


def differing(report):
    return [row.tensor for row in report.rows() if row.wrong]


@pytest.fixture(scope="module")
def agreeing():
    torch.manual_seed(0)
    return parity.compare(Classifier(), classify, inputs=[IDS], outputs=NAMES)


@pytest.fixture(scope="module")
def failing():
    """With the recurrent gates of the forward direction moved on by one."""
    torch.manual_seed(0)

    def port(params, ids):
        turned = {"weight_hh_l0": jnp.roll(params["lstm"]["weight_hh_l0"], 5, 0)}
        return classify(params | {"lstm": params["lstm"] | turned}, ids)

    return parity.compare(Classifier(), port, inputs=[IDS], outputs=NAMES, dtype="float32")


def test_a_port_that_agrees(agreeing):
    assert agreeing.passed
    assert agreeing.first is None
    assert agreeing.wrong == agreeing.unjudged == agreeing.remarks == []
    weights = [f"grad {name}" for name in Classifier().state_dict()]
    assert [*agreeing.shapes] == [*NAMES, *weights]  # ids are not differentiated by
    labels = {(block.tensor, block.label) for block in agreeing.blocks}
    assert {("y", "step 3"), ("grad lstm.weight_hh_l0_reverse", "gate g")} < labels
    assert all(block.error < 1e-14 for block in agreeing.blocks)


def test_a_port_that_does_not(failing):
    assert not failing.passed
    same = [row.tensor for row in failing.rows() if not row.wrong]
    # The other direction, which has weights of its own, and what does not depend on any.
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    assert same == [*(f"grad lstm.{kind}_l0_reverse" for kind in kinds), "grad fc.bias"]
    assert failing.first.startswith("logits, batch row ")
    places = [b.label for b in failing.outputs.blocks if b.tensor == "y" and b.used > 1]
    assert places == ["", "step 1", "step 2", "step 3"]  # the first state is 0, and hides it
    assert failing.about["jax_enable_x64"] == "off"


def test_the_words_of_a_report(agreeing, failing):
    first, *_, last = str(agreeing).splitlines()
    assert first == "Classifier and classify: 13 of 13 tensors agree"
    for word in ("float64", "jax ", "torch ", "jax_enable_x64 on", "matmul precision highest"):
        assert word in last
    lines = str(failing).splitlines()
    assert lines[0] == "Classifier and port: 8 of 13 tensors differ"
    assert lines[1] == f"first: {failing.first}"
    assert lines[3].split() == ["shape", "JAX's", "error", "torch's", "own", "allowed", "ratio",
                                "worst", "at"]  # fmt: skip
    table = lines[4:17]
    assert [line.split("  ")[0].split(",")[0] for line in table] == [*failing.shapes]
    assert sum(line.endswith("differs") for line in table) == 8
    assert any(line.startswith("grad lstm.weight_hh_l0, gate f") for line in table)


def test_a_long_table_shows_what_is_wrong():
    module = nn.Sequential(*(nn.Linear(2, 2) for _ in range(20)))

    def port(params, x):
        for i in range(20):
            x = linear(params[str(i)], x)
        return x + 0 * jax.lax.stop_gradient(x) + (x - jax.lax.stop_gradient(x)) * 1e-9

    lines = str(parity.compare(module, port, inputs=[(3, 2)])).splitlines()
    assert "… and 18 more, none nearer to what is allowed" in lines
    assert len([line for line in lines if line.startswith("grad ")]) == 24


def test_json(agreeing, failing):
    for report in (agreeing, failing):
        found = json.loads(report.to_json(), parse_constant=pytest.fail)  # no NaN, no Infinity
        assert found["passed"] == report.passed
        assert found["first"] == report.first
        assert len(found["blocks"]) == len(report.blocks)
        assert found["shapes"]["y"] == [3, 4, 10]
        assert {"tensor", "label", "error", "own", "allowed", "used"} < found["blocks"][0].keys()


def test_json_of_what_is_infinite():
    block = Block("y", "", math.inf, math.nan, math.nan, (0,), None)
    none = Verdict([], [], [])
    report = Report(
        Result("", "it", "float64", Verdict([block], ["y: inf"], []), none), {"y": (1,)}, [], {}, []
    )
    found = json.loads(report.to_json(), parse_constant=pytest.fail)
    assert found["blocks"][0]["error"] is None


class Parsed(html.parser.HTMLParser):
    """Which tags are open, what refers elsewhere, and all text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.refers, self.text = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.refers += [value for name, value in attrs if name in ("href", "src")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_whole_and_stands_alone(agreeing, failing):
    text = page([agreeing, failing])
    parsed = Parsed(text)
    assert parsed.open == []
    assert not {"script", "link", "iframe"} & {*parsed.tags}
    assert all(value.startswith(("#r", "data:image/svg+xml;base64,")) for value in parsed.refers)
    assert "@import" not in text
    assert "url(" not in text
    assert not re.search(r"https?://", text)
    words = "".join(parsed.text)
    assert "2 comparisons, 1 differs" in words
    assert failing.first in words
    pictures = 1 + len(agreeing.maps) + 1 + len(failing.maps)
    assert parsed.tags.count("img") == pictures
    assert Parsed(agreeing.to_html()).tags.count("section") == 1


def test_what_the_pictures_show(agreeing, failing):
    assert [m.tensor for m in agreeing.maps] == NAMES
    logits, y = agreeing.maps
    assert (logits.axes, logits.used.shape) == (("batch row", "feature"), (3, 3))
    assert (y.axes, y.used.shape) == (("time step", "feature"), (4, 10))
    assert [m.tensor for m in failing.maps] == [
        *NAMES, *(f"grad {n}.weight" for n in ("embedding",)),
        "grad lstm.weight_ih_l0", "grad lstm.weight_hh_l0", "grad fc.weight",
    ]  # fmt: skip
    wrong = failing.maps[1].used > 1
    assert wrong[1:, :5].all()  # the forward half, from its second step
    assert not wrong[0].any()
    assert not wrong[:, 5:].any()


def test_names_in_a_page_are_escaped(agreeing):
    text = agreeing._replace(name="<script>alert(1)</script>").to_html()
    assert "<script>" not in text


# What real modules have.


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


def test_buffers_are_no_parameters():
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


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.out = nn.Embedding(7, 3), nn.Linear(3, 7)
        self.out.weight = self.embedding.weight

    def forward(self, ids):
        return self.out(self.embedding(ids))


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


def test_inputs_by_keyword_and_what_is_no_array():
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


def test_what_looks_at_values_is_not_compiled():
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


def test_what_has_no_gradient_is_a_remark():
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


def test_a_function_of_torchs():
    params = {"a.w": np.random.default_rng(0).normal(size=(2, 3)), "b": torch.ones(2)}
    port = lambda p, x: jnp.tanh(x @ p["a"]["w"].T + p["b"])
    theirs = lambda p, x: torch.tanh(x @ p["a.w"].T + p["b"])
    report = parity.compare(theirs, port, params=params, inputs=[(4, 3)])
    assert report.passed, report
    assert [*report.shapes] == ["y", "grad a.w", "grad b", "grad x"]
    assert report.name.endswith(" and <lambda>")


def test_parameters_that_are_given():
    module = nn.Linear(3, 2)
    given = {"weight": np.ones((2, 3)), "bias": np.arange(2.0)}
    seen = []
    port = lambda params, x: seen.append(params["weight"].sum()) or linear(params, x)
    report = parity.compare(module, port, params=given, inputs=[np.ones((4, 3))], gradients=False)
    assert report.passed
    assert float(seen[0]) == 6


def test_cotangents_that_are_given():
    two = lambda p, x: (p["w"] * x, p["v"] * x)
    options = {"params": {"w": np.ones(3), "v": np.ones(3)}, "inputs": [np.arange(3.0) + 1]}
    options |= {"outputs": ["a", "b"], "cotangents": {"a": np.ones(3)}}
    report = parity.compare(two, two, **options)
    assert report.passed
    assert "no gradient in torch, so that comparing it says nothing: v" in report.remarks


# What disagrees before any number does.


def test_shapes_dtypes_and_counts():
    wrong = lambda function, **o: compare_linear(function, gradients=True, **o).wrong
    none = "gradients: none, where outputs differ in number or shape"
    assert wrong(lambda p, x: linear(p, x).T) == ["y: float64[2, 4], wanted float64[4, 2]", none]
    assert wrong(lambda p, x: (linear(p, x), x)) == ["output 1: unexpected", none]
    assert wrong(lambda p, x: ()) == ["y: missing", none]
    report = compare_linear(lambda p, x: linear(p, x).astype(jnp.float32))
    assert report.wrong == ["y: float32[4, 2], wanted float64[4, 2]"]
    assert report.remarks == ["not float64, so that a dtype must stand in the JAX function: y"]
    assert str(report).count("wanted float64") == 1


def test_not_finite_in_torch_is_no_pass():
    bad = {"weight": np.full((2, 3), np.nan), "bias": np.zeros(2)}
    report = compare_linear(params=bad)
    assert report.wrong == []
    assert not report.passed
    assert "not judged: y (not finite)" in str(report)


def refused(error, message, *args, **options):
    with pytest.raises(error, match=re.escape(message)) as caught:
        compare_linear(*args, **options)
    return caught.value


def test_dropout_in_train_mode():
    module = Classifier(dropout=0.5)
    with pytest.raises(ValueError, match=re.escape(
        "torch gives two different results for the same input (in train mode and dropping: dropout"
        "): call `.eval()` on the module"
    )):  # fmt: skip
        parity.compare(module, classify, inputs=[IDS])
    assert parity.compare(module.eval(), classify, inputs=[IDS], gradients=False).passed


def test_errors_of_arguments():
    refused(TypeError, "`inputs` must be a list or dict of arrays or shapes, such as [(3, 7, 10)] "
            "for a single one, got (4, 3)", inputs=(4, 3))  # fmt: skip
    refused(TypeError, "for a single one, got ndarray", inputs=np.ones((4, 3)))
    refused(ValueError, "`dtype` must be one of float64, float32, bfloat16, got 'half'",
            dtype="half")  # fmt: skip
    refused(ValueError, "`outputs` must be 1 different names", outputs=["a", "b"])
    refused(ValueError, "`cotangents` has z [3], wanted among y [4, 2]",
            cotangents={"z": np.ones(3)}, gradients=True)  # fmt: skip
    refused(TypeError, "`params` is needed beside a torch function", module=lambda p, x: x)


def test_errors_of_parameters():
    given = {"weight": np.ones((2, 3)), "bias": np.ones(2)}
    refused(ValueError, "`params` names `wieght`, which torch does not have: is `weight` meant?",
            params=given | {"wieght": 1})  # fmt: skip
    refused(ValueError, "`params` has no `bias`, which the module has",
            params={"weight": given["weight"]})  # fmt: skip
    refused(ValueError, "`params` has `bias` of shape (3,), wanted (2,)",
            params=given | {"bias": np.ones(3)})  # fmt: skip
    refused(TypeError, "`params` must be flat, by torch's names", params={"fc": given})
    tied = {name: a.detach() + i for i, (name, a) in enumerate(Tied().state_dict().items())}
    with pytest.raises(ValueError, match=r"two values for `embedding\.weight`"):
        parity.compare(Tied(), linear, params=tied, inputs=[IDS])


def test_errors_of_mappings():
    refused(ValueError, "`mapping` names `wieght`, which torch does not have: is `weight` meant?",
            mapping={"w": "wieght"})  # fmt: skip
    refused(ValueError, "`mapping` names `x`, which torch does not have, which has weight, bias",
            mapping={"w": "x"})  # fmt: skip
    refused(TypeError, "`mapping` must be a function or a dict, got list", mapping=[1])
    error = refused(KeyError, "wieght", mapping=lambda p: p["wieght"])
    assert "raised by `mapping`; torch's names are weight, bias" in error.__notes__


def test_errors_of_the_users_own_come_with_a_note():
    error = refused(KeyError, "kernel", lambda params, x: x @ params["kernel"])
    [note] = [n for n in error.__notes__ if n.startswith("raised by the JAX function")]
    assert "params['weight']: float64[2, 3]" in note
    assert "input: float64[4, 3]" in note

    class Fixed(nn.Module):
        def forward(self, x):
            return x @ torch.zeros(3, 3, dtype=torch.float32)

    error = refused(RuntimeError, "dtype", module=Fixed())
    assert "raised by the torch side, run in torch.float64" in error.__notes__[0]
    assert "x.new_zeros" in error.__notes__[0]


def test_a_float32_of_the_functions_own_is_named_as_the_cause():
    def fixed(params, x):
        step = lambda c, a: (c + a, c)
        return jax.lax.scan(step, jnp.zeros(3, jnp.float32), x)[1] @ params["weight"].T

    with jax.numpy_dtype_promotion("standard"):  # as users have it
        error = refused(TypeError, "float32", fixed)
    assert any("or compare with dtype='float32'" in note for note in error.__notes__)


def test_sides_that_are_none():
    said = "`torch_side` is the class Linear: pass a module, made of it"
    with pytest.raises(TypeError, match=said):
        parity.compare(nn.Linear, linear, inputs=[(4, 3)])
    with pytest.raises(TypeError, match="`jax_function` must be a function, got a NoneType"):
        parity.compare(nn.Linear(3, 2), None, inputs=[(4, 3)])
    with pytest.raises(TypeError, match="the torch side comes first, and the JAX function second"):
        parity.compare(linear, nn.Linear(3, 2), inputs=[(4, 3)])


def test_one_output_too_many():
    module = nn.Linear(3, 2)
    report = parity.compare(module, lambda p, x: (linear(p, x), 1), inputs=[(4, 3)])
    assert not report.passed
    assert report.headline == "the outputs are not torch's (output 1: unexpected)"


def test_layers_and_directions_of_a_state_are_named():
    module = nn.LSTM(3, 4, 2, bidirectional=True)
    port = lambda p, x: jax.tree.map(lambda a: a * 1.001, jaxrnn.lstm(p, x))
    report = parity.compare(module, port, inputs=[(5, 2, 3)])
    labels = [block.label for block in report.blocks if block.tensor == "h_n" and block.label]
    ways = ("forward", "backward")
    assert labels == [f"layer {k} {way}" for k in (0, 1) for way in ways]


def test_outputs_that_are_no_tensors():
    class Odd(nn.Module):
        def forward(self, x):
            return {"y": x, "config": "fast"}

    refused(TypeError, "torch's output config is a str: let a function or module around it return",
            module=Odd())  # fmt: skip
    refused(ValueError, "torch returns no tensor", module=lambda p, x: None, params={})


# The command.

FILE = """
import torch
from beside import port as function

def port():
    torch.manual_seed(0)
    return {"torch": torch.nn.Linear(3, 2), "jax": function, "inputs": [(4, 3)], "outputs": ["out"]}

def off():
    return port() | {"jax": lambda params, x: function(params, x) * 1.001}

def short():
    return {"torch": torch.nn.Linear(3, 2)}

def dropping():
    return port() | {"torch": torch.nn.Sequential(torch.nn.Dropout(0.5))}
"""
BESIDE = "def port(params, x): return x @ params['weight'].T + params['bias']"


@pytest.fixture
def file(tmp_path, monkeypatch):
    (tmp_path / "beside.py").write_text(BESIDE)
    (tmp_path / "mine.py").write_text(FILE)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    return str(tmp_path / "mine.py")


def test_the_command(capsys, file, tmp_path):
    assert main(["compare", file]) == 0
    assert capsys.readouterr().out.startswith("Linear and port: 4 of 4 tensors agree\n")
    written = tmp_path / "report.json", tmp_path / "report.html"
    options = ["--json", str(written[0]), "--html", str(written[1]), "--dtype", "float32"]
    assert main(["compare", f"{file}:off", *options]) == 1
    out = capsys.readouterr().out
    assert "first: out, batch row" in out
    assert json.loads(written[0].read_text())["about"]["dtype"] == "float32"
    assert "4 of 4 tensors differ" in written[1].read_text()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{}:nothing", "mine.py defines no function `nothing`"),
        ("{}:short", "the dict of `short` has no 'jax'"),
        ("{}:dropping", "call `.eval()` on the module"),
        ("no{}", "there is no file no"),
    ],
)
def test_the_command_declines(capsys, file, source, message):
    with pytest.raises(SystemExit) as exit:
        main(["compare", source.format(file)])
    assert exit.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
