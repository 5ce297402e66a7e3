"""The pytest plugin: the fixture `assert_parity`, and a page of all comparisons of a run.

Every run of pytest in the environment loads it, so it imports neither torch nor jax.
"""

import importlib.util
import pathlib
from collections.abc import Callable, Generator
from typing import Any

import pytest

from .ports import pytest_state
from .report import html


DTYPES = ("float64", "float32", "bfloat16")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("parity", "JAX against torch")
    group.addoption(
        "--parity-dtype",
        choices=DTYPES,
        default="float64",
        help="in which assert_parity compares, where a test does not say (default: float64)",
    )
    group.addoption(
        "--parity-report",
        type=pathlib.Path,
        metavar="FILE.html",
        help="write all that assert_parity compares there, on one page with pictures",
    )


def pytest_configure(config: pytest.Config) -> None:
    dtype, reports = pytest_state.dtype, pytest_state.reports
    config.add_cleanup(lambda: pytest_state.set_to(dtype, reports))
    pytest_state.set_to(config.option.parity_dtype, None)
    if (path := config.option.parity_report) is not None:
        if not path.absolute().parent.is_dir():
            raise pytest.UsageError(f"--parity-report {path}: there is no such folder")
        if importlib.util.find_spec("matplotlib") is None:
            raise pytest.UsageError("--parity-report needs matplotlib, of the extra `parity`")
        pytest_state.set_to(config.option.parity_dtype, [])
        if not hasattr(config, "workerinput"):  # of pytest-xdist, whose workers only compare
            config.pluginmanager.register(Page(path.absolute()))


@pytest.fixture
def assert_parity() -> Callable[..., Any]:
    """`parity.assert_parity(torch_side, jax_function, *, inputs, …)`, which returns the report."""
    from .ports.port import assert_parity

    return assert_parity


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds what the test compared to its report, as plain text, which other processes can read."""
    report = yield
    if pytest_state.reports:
        from .report.port import section

        title = lambda r: f"{item.nodeid}: {r.name} [{r.about['dtype']}]"
        vars(report)["parity"] = [(title(r), r.passed, section(r)) for r in pytest_state.reports]
        pytest_state.reports.clear()
    return report


class Page:
    """Collects the comparisons of all processes and writes them when the run ends."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path, self.sections = path, []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.sections += getattr(report, "parity", [])

    def pytest_sessionfinish(self) -> None:
        sections = sorted(map(tuple, self.sections), key=lambda section: section[0])
        self.path.write_text(html.page(sections))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(f"parity: {len(self.sections)} comparisons in {self.path}")
