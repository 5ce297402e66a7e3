"""The tables of the commands, of made-up results."""

import io
import json
import math

import pytest
from rich.console import Console

from jaxrnn import Structure
from parity.cases import Case
from parity.criterion import Block, Verdict
from parity.pair import Result
from parity.report import tables as report
from parity.report.blocks import ratio
from parity.texts.rows import TEXTS


CASE = Case("group [0]", Structure("lstm", 7, 5))
BLOCK = Block("y", "step 1", 2e-7, 1e-7, 4e-7, (1, 0, 0), 0)


def result(case=CASE, mistake=None, block=BLOCK, wrong=(), unjudged=()):
    """A made-up result: all is in its outputs, nothing in its gradients."""
    outputs, nothing = Verdict([block], list(wrong), list(unjudged)), Verdict([], [], [])
    name = case.name
    return Result(case.group, name, "float64", outputs, nothing, case=case, mistake=mistake)


OTHER = CASE._replace(time=9)
GOOD, BAD = result(), result(OTHER, wrong=["y: unexpected"])
LOST = result(OTHER, unjudged=["y from step 4 on", "h_n"])
LOST_AND_BAD = result(OTHER, wrong=["y: missing"], unjudged=["y from step 4 on", "h_n"])
SEEN, MISSED = result(mistake="one", wrong=["y: missing"]), result(mistake="two")


def test_failed():
    assert [r.failed for r in (GOOD, BAD, LOST, LOST_AND_BAD)] == [False, True, False, True]
    assert [r.failed for r in (SEEN, MISSED)] == [False, True]
    # A mistake excused as ill-conditioned is not seen.
    assert result(mistake="two", unjudged=["y"]).failed


def test_status():
    assert [r.status for r in (GOOD, BAD, LOST, LOST_AND_BAD)] == [
        "pass", "FAIL", "not compared: y from step 4 on, h_n", "FAIL",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("results", "line"),
    [
        ([GOOD], "1 configuration, 1 comparison: 1 agree, 0 disagree (3 s)"),
        ([GOOD, GOOD._replace(dtype="float32")],
         "1 configuration, 2 comparisons: 2 agree, 0 disagree (3 s)"),
        ([GOOD, BAD], "2 configurations, 2 comparisons: 1 agree, 1 disagree (3 s)"),
        ([GOOD, LOST], "2 configurations, 2 comparisons: 1 agree, 0 disagree, "
                       "1 compared in part (3 s)"),
        ([LOST_AND_BAD], "1 configuration, 1 comparison: 0 agree, 1 disagree (3 s)"),
        ([GOOD, SEEN, MISSED], "1 configuration, 1 comparison: 1 agree, 0 disagree, "
                               "1 of 2 known mistakes are seen (3 s)"),
    ],
)  # fmt: skip
def test_verdict(results, line):
    assert report.verdict(results, 3.2) == line


def test_ratio():
    assert ratio(3.0, 2.0) == "1.5"
    assert ratio(0.0, 2.0) == "0.0"
    assert ratio(0.0, 0.0) == "–"
    assert ratio(1.0, 0.0) == "∞"


def shown(*results):
    out = io.StringIO()
    report.show(Console(file=out, width=120, soft_wrap=True), results)
    return out.getvalue()


def test_show():
    out = shown(GOOD, BAD, LOST, SEEN, MISSED, GOOD._replace(dtype="float32", slack=3.25))
    rows = [line for line in out.splitlines() if "group [0]" in line and "float" in line]
    assert "2.0e-07" in rows[0]
    assert "1.0e-07" in rows[0]
    assert "50%" in rows[0]
    assert f"{CASE.name} [float32]: allowed × 3.2, because it is saturated" in out
    assert f"{OTHER.name} [float64]: not compared: y from step 4 on, h_n" in out
    assert f"FAIL {OTHER.name} [float64]" in out
    assert f"FAIL {CASE.name} [float64], planted: two\n    the mistake was not seen" in out
    assert "planted: one" not in out


def test_show_names_the_worst_of_a_group():
    worse = result(block=BLOCK._replace(error=3e-7))
    [row] = [line for line in shown(GOOD, worse, GOOD).splitlines() if "float64" in line]
    assert " 3 " in row
    assert "3.0e-07" in row
    assert "75%" in row


def test_show_says_when_it_leaves_something_out():
    out = shown(result(OTHER, wrong=[f"tensor {k}: missing" for k in range(15)]))
    assert "tensor 11: missing" in out
    assert "tensor 12: missing" not in out
    assert "… and 3 more" in out


def test_json_has_no_nan(tmp_path):
    endless = Block("y", "", 0.0, 0.0, math.inf, (), None)
    broken = Block("y", "", math.nan, 1.0, 2.0, (0,), None)
    path = tmp_path / "report.json"
    report.write(path, [result(block=endless), result(block=broken, wrong=["y"])], "cpu")
    first, second = json.loads(path.read_text(), parse_constant=pytest.fail)["results"]
    assert first["output"] == {
        "tensor": "y", "label": "", "error": 0.0, "own": 0.0, "allowed": None,
        "worst": [], "row": None, "used": 0.0,
    }  # fmt: skip
    assert (second["output"]["error"], second["output"]["used"]) == (None, None)
    assert first["gradient"] is None


@pytest.mark.parametrize("width", [80, 100])
def test_documents_fit_the_terminal(width):
    judged = Verdict([BLOCK], [], [])
    results = [Result(row, "a case", "float64", judged, judged) for row in TEXTS]
    out = io.StringIO()
    report.show_texts(Console(file=out, width=width), list(TEXTS), results)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert sum("2.0e-07 1.0e-07 2.0e-07 1.0e-07" in line for line in lines) == len(TEXTS)
    words = {word for line in lines for word in line.split()}
    assert {word for name in TEXTS.values() for word in name.split()} <= words
