"""What every test stands on: x64, strict promotion, warnings as errors (in pyproject.toml)."""

import jax
import jaxtyping
import pytest


jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(autouse=True, scope="module")
def clear_caches():
    """Hundreds of programs in one process exhaust LLVM's memory."""
    yield
    jax.clear_caches()


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """Our own complaints, not those of jaxtyping's hook, which would come first."""
    monkeypatch.chdir(tmp_path)
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
