"""The report of `parity.compare`: what it says, its JSON, and its page with pictures."""

import html.parser
import json
import math
import re

import jax
import jax.numpy as jnp
import pytest
import torch
from ported import IDS, NAMES, Classifier, classify, linear
from torch import nn

import parity
from parity.criterion import Block, Verdict
from parity.pair import Result
from parity.report.port import Report, page


pytestmark = pytest.mark.usefixtures("seeded")


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
    # The other direction, with its own weights, and the gradient that depends on no weight.
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
        written = json.loads(report.to_json(), parse_constant=pytest.fail)  # no NaN, no Infinity
        assert written["passed"] == report.passed
        assert written["first"] == report.first
        assert len(written["blocks"]) == len(report.blocks)
        assert written["shapes"]["y"] == [3, 4, 10]
        assert {"tensor", "label", "error", "own", "allowed", "used"} < written["blocks"][0].keys()


def test_json_of_infinite_errors():
    block = Block("y", "", math.inf, math.nan, math.nan, (0,), None)
    none = Verdict([], [], [])
    result = Result("", "it", "float64", Verdict([block], ["y: inf"], []), none)
    report = Report(result, {"y": (1,)}, [], {}, [])
    written = json.loads(report.to_json(), parse_constant=pytest.fail)
    assert written["blocks"][0]["error"] is None


class Parsed(html.parser.HTMLParser):
    """A page's open tags, all tags, references and text."""

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


def test_a_page_of_one_report(agreeing):
    result = agreeing.result._replace(name="<script>alert(1)</script>")
    text = agreeing._replace(result=result, maps=[]).to_html()
    assert Parsed(text).tags.count("section") == 1
    assert "<script>" not in text


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
