"""Law: clipped gradients are torch's, also at the edges."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from optim_cases import STEPS, assert_near, draw, torch_trajectory, trajectory
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from jaxrnn.optim import (
    adam,
    clip_grad_norm,
    clip_grad_value,
)


def scaled(norm):
    """Returns gradients of this norm, and torch's tensors that have them."""
    gradients = draw(seed=2)
    size = math.sqrt(sum(float((a * a).sum()) for a in gradients.values()))
    gradients = {name: a * (norm / size) for name, a in gradients.items()}
    tensors = [torch.zeros(a.shape, dtype=torch.float64) for a in gradients.values()]
    for tensor, a in zip(tensors, gradients.values(), strict=True):
        tensor.grad = torch.tensor(np.asarray(a))
    return gradients, tensors


@pytest.mark.parametrize("max_norm", [0.0, 1e-3, 1.0, 3.9])
@pytest.mark.parametrize(
    "ratio", [0.0, 0.5, 1 - 1e-5, 1 - 1e-7, 1.0, 1 + 1e-7, 1.1, 1e10, math.nan, math.inf]
)
def test_clip_grad_norm(ratio, max_norm):
    gradients, tensors = scaled(ratio * max_norm if max_norm else 1.0)
    clipped, _ = clip_grad_norm(max_norm).update(gradients, optax.EmptyState())
    clip_grad_norm_(tensors, max_norm)
    for one, other in zip(clipped.values(), tensors, strict=True):
        np.testing.assert_allclose(one, other.grad, 1e-14, strict=True)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_clip_grad_norm_of_one_bad_value(bad):
    """NaN makes all NaN; inf makes the others 0."""
    gradients, tensors = scaled(1.0)
    gradients["weight"] = gradients["weight"].at[0, 0].set(bad)
    tensors[1].grad[0, 0] = bad
    clipped, _ = clip_grad_norm(0.5).update(gradients, optax.EmptyState())
    clip_grad_norm_(tensors, 0.5)
    for one, other in zip(clipped.values(), tensors, strict=True):
        np.testing.assert_array_equal(one, other.grad)


@pytest.mark.parametrize("value", [0.0, 0.1, 0.7, 100.0])
def test_clip_grad_value(value):
    gradients, tensors = scaled(2.0)
    gradients["weight"] = gradients["weight"].at[0, 0].set(math.nan)
    tensors[1].grad[0, 0] = math.nan
    clipped, _ = clip_grad_value(value).update(gradients, optax.EmptyState())
    clip_grad_value_(tensors, value)
    for one, other in zip(clipped.values(), tensors, strict=True):
        np.testing.assert_array_equal(one, other.grad, strict=True)


def test_clipped_trajectory():
    params, gradients = draw(seed=0), draw(STEPS, seed=1)
    chain = optax.chain(clip_grad_norm(2.0), adam(0.1))
    history = jax.jit(functools.partial(trajectory, chain))(params, gradients)
    make = functools.partial(torch.optim.Adam, lr=0.1)
    before = lambda tensors: clip_grad_norm_(tensors, 2.0)
    assert_near(history, torch_trajectory(make, params, gradients, before))


def test_clip_grad_norm_of_narrow_gradients():
    """In float16 their squares overflow; and they may be of several dtypes."""
    gradients = {"a": jnp.full(1000, 1e3, jnp.float16), "b": jnp.ones(3, jnp.bfloat16)}
    clipped, _ = clip_grad_norm(1.0).update(gradients, optax.EmptyState())
    np.testing.assert_allclose(clipped["a"].astype(float), 1 / math.sqrt(1000), 1e-3)
    assert {name: a.dtype for name, a in clipped.items()} == {
        name: a.dtype for name, a in gradients.items()
    }


@pytest.mark.parametrize(
    ("clip", "torch_clip", "name"),
    [
        (clip_grad_norm, clip_grad_norm_, "max_norm"),
        (clip_grad_value, clip_grad_value_, "clip_value"),
    ],
)
@pytest.mark.usefixtures("bare")
def test_clipping_raises_as_torch_does(clip, torch_clip, name):
    with pytest.raises(ValueError, match=rf"`{name}` must be one number, got shape \(3,\)"):
        clip(jnp.ones(3))
    with pytest.raises((ValueError, RuntimeError)):
        torch_clip([], torch.ones(3))
