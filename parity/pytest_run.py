"""What a test run wants of the comparisons in it; set by the pytest plugin, and light to import."""

from typing import Any


dtype: str = "float64"
reports: list[Any] | None = None  # since the last test, if anybody wants them


def set_to(new_dtype: str, new_reports: list[Any] | None) -> None:
    global dtype, reports
    dtype, reports = new_dtype, new_reports


def record(report: Any) -> None:
    if reports is not None:
        reports.append(report)
