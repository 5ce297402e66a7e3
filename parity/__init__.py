"""Does a JAX network compute what its torch original computes? The answer, with evidence.

`python -m parity` holds jaxrnn against torch.nn. As a library: `compare` holds any JAX function
against any torch module, `assert_parity` does so in tests, `trace` finds the first layer that
differs, `diagnose` says what is wrong with a recurrent layer; `check` verifies a checkpoint,
`verify` one configuration, `judge` any two sets of tensors against a third.
"""

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from .cases import Case
    from .check import check
    from .compare import judge
    from .diagnose import diagnose
    from .diagnosis import Diagnosis
    from .port import assert_parity, compare
    from .port_report import Report
    from .trace import trace
    from .verify import Result, verify

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
    "Diagnosis": "diagnosis",
    "Report": "port_report",
    "Result": "verify",
    "assert_parity": "port",
    "check": "check",
    "compare": "port",
    "diagnose": "diagnose",
    "judge": "compare",
    "trace": "trace",
    "verify": "verify",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(types.ModuleType):
    """A function may be called as the module that it is in: once imported, that is not in its way.

    The import system binds a submodule under its own name in the package.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
