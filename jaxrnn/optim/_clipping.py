"""torch.nn.utils' clipping of gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from .._trees import norm
from ._moments import Number
from ._schedules import check_scalars


def clip_grad_norm(max_norm: Number) -> optax.GradientTransformation:
    r"""Scales all gradients down to a norm: `torch.nn.utils.clip_grad_norm_`.

    .. math:: g' = g \min(1, m / (\lVert g \rVert + 10^{-6}))

    over all parameters together; the norm is computed in float32 at least. Unlike
    `optax.clip_by_global_norm` it shrinks by 1e-6 more, also norms just below the maximum. A norm
    of NaN makes every gradient NaN; a norm of inf makes every finite gradient 0.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html;
    Pascanu et al. (2012), https://arxiv.org/abs/1211.5063.

    >>> clip_grad_norm(1.0).update(jnp.array([3.0, 4.0]), optax.EmptyState())[0]
    Array([0.5999999 , 0.79999983], dtype=float32)
    """
    check_scalars(max_norm=max_norm)

    def clip(updates: Any, _: Any) -> Any:
        total = norm(updates)
        coefficient = jnp.minimum(jnp.asarray(max_norm, total.dtype) / (total + 1e-6), 1)
        return jax.tree.map(lambda g: g * coefficient.astype(g.dtype), updates)

    return optax.stateless(clip)


def clip_grad_value(clip_value: Number) -> optax.GradientTransformation:
    """Clips each element to ±`clip_value`: `torch.nn.utils.clip_grad_value_`, and `optax.clip`.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_value_.html

    >>> clip_grad_value(1.0).update(jnp.array([-3.0, 0.5]), optax.EmptyState())[0]
    Array([-1. ,  0.5], dtype=float32)
    """
    check_scalars(clip_value=clip_value)
    return optax.clip(clip_value)
