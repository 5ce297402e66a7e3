"""What the tests of the flax modules share: modules of any structure, called in either flavour."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import linen, nnx
from helpers import INPUT

import jaxrnn.linen
import jaxrnn.nnx


either = pytest.mark.parametrize("ours", [jaxrnn.linen, jaxrnn.nnx], ids=["linen", "nnx"])
X = np.random.default_rng(0).normal(size=(7, 6, INPUT)).astype(np.float32)
KEY = jax.random.key(3)


def make(ours, structure, **options):
    """A module of this structure; in nnx without values, since to draw them takes a program."""
    name, cell, _ = structure.kind.partition("_cell")
    module = getattr(ours, name.upper() + ("Cell" if cell else ""))
    has = {field.name for field in dataclasses.fields(module)}
    options |= {name: value for name, value in structure._asdict().items() if name in has}
    if ours is jaxrnn.linen:
        return module(**options)
    return nnx.eval_shape(lambda: module(**options, rngs=nnx.Rngs(0, dropout=1)))


def run(module, params, *args, **call):
    """Loads parameters and calls."""
    if isinstance(module, linen.Module):
        return module.apply({"params": params}, *args, **call)
    nnx.update(module, params)
    return module(*args, **call)


def handed_out(name):
    """The key that a linen module is given if it asks for its first of this name."""

    class Asks(linen.Module):
        @linen.compact
        def __call__(self):
            return self.make_rng(name)

    return Asks().apply({}, rngs={name: KEY})
