"""What every test stands on: x64, strict promotion, warnings as errors (in pyproject.toml)."""

import jax
import pytest


jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(autouse=True, scope="module")
def clear_caches():
    """Hundreds of programs in one process exhaust LLVM's memory."""
    yield
    jax.clear_caches()
