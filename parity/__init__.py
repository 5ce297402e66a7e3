"""Does a JAX network compute what its torch original computes? The answer, with evidence.

`python -m parity` holds jaxrnn against torch.nn. As a library: `compare` holds any JAX function
against any torch module, `assert_parity` does so in tests, `trace` finds the first layer that
differs, `diagnose` says what is wrong with a recurrent layer; `check` verifies a checkpoint,
`verify` one configuration, `judge` any two sets of tensors against a third.
"""

import importlib
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from .cases import Case
    from .criterion import judge
    from .diagnosis.report import Diagnosis
    from .diagnosis.search import diagnose
    from .layers import verify
    from .pair import Result
    from .ports.checkpoint import check
    from .ports.port import assert_parity, compare
    from .ports.trace import trace
    from .report.port import Report

__all__ = [
    "Case",
    "Diagnosis",
    "Report",
    "Result",
    "assert_parity",
    "check",
    "compare",
    "diagnose",
    "judge",
    "trace",
    "verify",
]

# Imported when asked for: pytest loads the plugin of this package in each of its runs, where torch
# and jax may not be wanted, or not yet.
_HOMES = {
    "Case": "cases",
    "Diagnosis": "diagnosis.report",
    "Report": "report.port",
    "Result": "pair",
    "assert_parity": "ports.port",
    "check": "ports.checkpoint",
    "compare": "ports.port",
    "diagnose": "diagnosis.search",
    "judge": "criterion",
    "trace": "ports.trace",
    "verify": "layers",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
