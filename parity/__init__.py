"""Does a JAX network compute what its torch original computes? The answer, with evidence.

`python -m parity` holds jaxrnn against torch.nn. As a library: `check` verifies a checkpoint,
`verify` one configuration, `judge` any two sets of tensors against a third; `diagnose` says what is
wrong with a recurrent layer.
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
    from .verify import Result, verify

__all__ = ["Case", "Diagnosis", "Result", "check", "diagnose", "judge", "verify"]

# Imported when asked for: pytest loads the plugin of this package in each of its runs, where torch
# and jax may not be wanted, or not yet.
_HOMES = {
    "Case": "cases",
    "Diagnosis": "diagnosis",
    "Result": "verify",
    "check": "check",
    "diagnose": "diagnose",
    "judge": "compare",
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
