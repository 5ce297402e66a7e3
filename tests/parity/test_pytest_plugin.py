"""The pytest plugin, in test runs of their own: messages, options, a page of all processes."""

import re
import subprocess
import sys

import pytest

# All that a run in this process imports must be here before it: a run forgets what it imports, and
# torch cannot be imported twice.
from parity.ports import port, pytest_state  # noqa: F401
from parity.report import pictures  # noqa: F401


pytest_plugins = ["pytester"]

TESTS = """
import parity, pytest, torch

torch.manual_seed(0)
MODULE = torch.nn.Linear(3, 2)

def port(params, x):
    return x @ params["weight"].T + params["bias"]

def off(params, x):
    return port(params, x) * 1.001

def test_right(assert_parity):
    report = assert_parity(MODULE, port, inputs=[(4, 3)])
    assert report.passed and report.about["dtype"] == "{dtype}"

def test_wrong(assert_parity):
    assert_parity(MODULE, off, inputs=[(4, 3)])

def test_plain_function():
    parity.assert_parity(MODULE, port, inputs=[(4, 3)], dtype="float32")

def test_nothing_to_do_with_it():
    pass
"""


@pytest.fixture
def run(pytester):
    def run(*options, dtype="float64", process=pytester.runpytest_inprocess):
        pytester.makepyfile(TESTS.replace("{dtype}", dtype))
        return process("-p", "no:jaxtyping", "-p", "no:cacheprovider", *options)

    return run


def test_the_message_is_the_report(run):
    result = run()
    result.assert_outcomes(passed=3, failed=1)
    lines = [line[1:].strip() for line in result.outlines if line.startswith("E")]
    assert lines[0] == "AssertionError: Linear and off: 4 of 4 tensors differ"
    assert lines[1].startswith("first: y, batch row ")
    assert any(re.match(r"grad weight +\[2, 3\] .* differs$", line) for line in lines)
    assert "float64" in lines[-1]
    text = result.stdout.str()
    assert "assert_parity(MODULE, off, inputs=[(4, 3)])" in text  # the user's own line
    assert "raise AssertionError" not in text  # and no line of the package
    assert (pytest_state.dtype, pytest_state.reports) == ("float64", None)


def test_options(run, pytester):
    result = run("--parity-dtype=float32", "--parity-report=all.html", dtype="float32")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["parity: 3 comparisons in *all.html"])
    text = (pytester.path / "all.html").read_text()
    assert "parity: 3 comparisons, 1 differs" in text
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    assert [title.partition("::")[2] for title in titles] == [
        "test_plain_function: Linear and port [float32]",
        "test_right: Linear and port [float32]",
        "test_wrong: Linear and off [float32]",
    ]
    assert pytest_state.reports is None


def test_with_xdist(run, pytester):
    """Workers compare, and one process writes their reports."""
    process = pytester.runpytest_subprocess
    result = run("-n1", "--dist=load", "--parity-report=all.html", process=process)
    result.assert_outcomes(passed=3, failed=1)
    text = (pytester.path / "all.html").read_text()
    assert "parity: 3 comparisons, 1 differs" in text
    assert text.count("<section ") == 3


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--parity-report=no/all.html", "*--parity-report no?all.html: there is no such folder"),
        ("--parity-dtype=half", "*argument --parity-dtype: invalid choice: 'half'*"),
    ],
)
def test_options_that_cannot_be(run, option, message):
    result = run(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_a_run_that_compares_nothing_imports_nothing(pytester):
    """Every pytest of the environment loads the plugin."""
    pytester.makepyfile(
        "import sys\n"
        "def test():\n"
        "    assert 'parity.pytest_plugin' in sys.modules\n"
        "    assert not {'jax', 'jaxrnn', 'matplotlib', 'torch'} & {*sys.modules}\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:jaxtyping", "-W", "error"]
    done = subprocess.run(command, cwd=pytester.path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
