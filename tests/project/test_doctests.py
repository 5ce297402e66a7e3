"""The examples in the docstrings are true, as a reader sees them: without x64."""

import doctest
import importlib
import pkgutil

import jax
import pytest

import jaxrnn


MODULES = [module.name for module in pkgutil.walk_packages(jaxrnn.__path__, "jaxrnn.")]


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name: str) -> None:
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples() -> None:
    finder, modules = doctest.DocTestFinder(), map(importlib.import_module, MODULES)
    examples = [test for module in modules for test in finder.find(module) if test.examples]
    assert len(examples) >= 15
