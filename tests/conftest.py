"""What every test stands on: x64, strict promotion, warnings as errors (in pyproject.toml)."""

import os
import tempfile

import jax
import jaxtyping
import pytest


jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
# A test runs a program once or twice: XLA takes longer to optimise it than to run it as it is. So
# LLVM takes its short way, and fusions the older emitter; XLA's algebra stays as users have it.
# Processes that tests start inherit it, unless `optimized` is asked for, and
# `JAX_DISABLE_MOST_OPTIMIZATIONS=0 XLA_FLAGS= pytest` tests all as users run it.
FLAGS = ["--xla_cpu_parallel_codegen_split_count=1"]
if jax.__version_info__ < (0, 11):  # later ones have no older emitter, and no such flag
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
FAST = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "XLA_FLAGS": " ".join(FLAGS)}
os.environ |= FAST | os.environ
# JAX has been imported; XLA reads its flags when it starts.
jax.config.update(
    "jax_disable_most_optimizations", os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1"
)


def pytest_configure(config):
    """What this process has compiled once, it finds on disk, also where caches were cleared.

    No other process does: one that is killed, or writes at the moment, leaves half a program.
    """
    folder = tempfile.TemporaryDirectory()
    config.add_cleanup(folder.cleanup)
    jax.config.update("jax_compilation_cache_dir", folder.name)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(autouse=True, scope="module")
def clear_caches():
    """Hundreds of programs in one process exhaust LLVM's memory."""
    yield
    jax.clear_caches()


@pytest.fixture
def optimized(monkeypatch):
    """Processes that are started from here compile as they do for users."""
    for name in FAST:
        monkeypatch.delenv(name)


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """Our own complaints, not those of jaxtyping's hook, which would come first."""
    monkeypatch.chdir(tmp_path)
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
