"""What a run of pytest wants of `assert_parity`; the plugin sets it. Imports no framework."""

from typing import Any


dtype: str = "float64"  # where a test names none
reports: list[Any] | None = None  # since the last test; None where nobody reads them


def set_to(new_dtype: str, new_reports: list[Any] | None) -> None:
    global dtype, reports
    dtype, reports = new_dtype, new_reports


def record(report: Any) -> None:
    if reports is not None:
        reports.append(report)
