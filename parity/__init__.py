"""Does a JAX network compute what its torch original computes? The answer, with evidence.

`python -m parity` holds jaxrnn against torch.nn. As a library: `check` verifies a checkpoint,
`verify` one configuration, `compare` any two sets of tensors against a third.
"""

from .cases import Case
from .check import check
from .compare import compare
from .verify import Result, verify


__all__ = ["Case", "Result", "check", "compare", "verify"]
