"""What a test run wants of the comparisons in it; set by the pytest plugin, and light to import."""

from typing import Any


dtype: str = "float64"
reports: list[Any] | None = None  # since the last test, if anybody wants them


def record(report: Any) -> None:
    if reports is not None:
        reports.append(report)
