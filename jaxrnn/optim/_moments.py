"""Links of an optimiser's chain that average gradients and their squares: Adam, NAdam, RAdam.

`optim` has their equations.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ._schedules import check_rates


Betas = tuple[float, float]
Number = Float[ArrayLike, ""]


class NAdamState(NamedTuple):
    """Adam's state, and the product of all momenta so far."""

    adam: optax.ScaleByAdamState
    mu_product: Float[Array, ""]


def scale_by_adam(betas: Betas, eps: Number) -> optax.GradientTransformation:
    def direction(t: Array) -> Callable[[Array, Array], Array]:
        c1, c2 = (_bias_correction(beta, t) for beta in betas)
        return lambda m, v: m / c1.astype(m.dtype) / (jnp.sqrt(v / c2.astype(v.dtype)) + eps)

    return _scale_by_moments(betas, eps, direction)


def scale_by_radam(betas: Betas, eps: Number) -> optax.GradientTransformation:
    def direction(t: Array) -> Callable[[Array, Array], Array]:
        c1, c2 = (_bias_correction(beta, t) for beta in betas)
        limit = (1 + betas[1]) / (1 - betas[1])
        if limit <= 5:  # and so is every ρ
            return lambda m, v: m / c1.astype(m.dtype)
        rho = _average_length(betas[1], t)
        enough = rho > 5
        rho = jnp.maximum(rho, 5)
        r = jnp.sqrt((rho - 4) * (rho - 2) / rho * (limit / (limit - 4) / (limit - 2)) * c2)

        def f(m: Array, v: Array) -> Array:
            mean = m / c1.astype(m.dtype)
            return jnp.where(enough, r.astype(m.dtype) * mean / (jnp.sqrt(v) + eps), mean)

        return f

    return _scale_by_moments(betas, eps, direction)


def scale_by_nadam(
    betas: Betas, eps: Number, momentum_decay: Number
) -> optax.GradientTransformation:
    _check_moments(betas, eps)
    check_rates(momentum_decay=momentum_decay)
    momentum = lambda t: betas[0] * (1 - 0.5 * 0.96 ** (t.astype(float) * momentum_decay))

    def init(params: Any) -> NAdamState:
        return NAdamState(_no_moments(params), jnp.ones((), jnp.float32))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        t, m, v = adam = _moments(updates, state.adam, betas)
        mu, after, c2 = momentum(t), momentum(t + 1), _bias_correction(betas[1], t)
        product = state.mu_product * mu.astype(jnp.float32)
        a = (1 - mu) / (1 - product.astype(float))
        b = after / (1 - product.astype(float) * after)

        def f(g: Array, m: Array, v: Array) -> Array:
            d = a.astype(g.dtype) * g + b.astype(g.dtype) * m
            return d / (jnp.sqrt(v / c2.astype(v.dtype)) + eps)

        return jax.tree.map(f, updates, m, v), NAdamState(adam, product)

    return optax.GradientTransformation(init, update)


def _scale_by_moments(
    betas: Betas, eps: Number, direction: Callable[[Array], Callable[[Array, Array], Array]]
) -> optax.GradientTransformation:
    """Replaces gradients with `direction(t)` of their moments m and v."""
    _check_moments(betas, eps)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        t, m, v = state = _moments(updates, state, betas)
        return jax.tree.map(direction(t), m, v), state

    return optax.GradientTransformation(_no_moments, update)


def _check_moments(betas: Betas, eps: Number) -> None:
    check_rates(eps=eps)
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"`betas` must be two numbers in [0, 1), got {betas}")


def _no_moments(params: Any) -> optax.ScaleByAdamState:
    zeros = optax.tree.zeros_like(params)
    return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), zeros, zeros)


def _moments(updates: Any, state: Any, betas: Betas) -> Any:
    """Adds a gradient to t, m and v, the parts of a ScaleByAdamState."""
    return optax.ScaleByAdamState(
        jnp.asarray(optax.safe_increment(state.count)),
        optax.tree.update_moment(updates, state.mu, betas[0], 1),
        optax.tree.update_moment(updates, state.nu, betas[1], 2),
    )


def _bias_correction(beta: float, t: Array) -> Array:
    """Returns 1 - βᵗ without the cancellation that float32 would suffer."""
    return -jnp.expm1(t.astype(float) * (math.log(beta) if beta else -math.inf))


def _average_length(beta: float, t: Array) -> Array:
    """Returns RAdam's ρ; its plain form loses all digits in float32, and five in float64.

    With λ = -log β it is L(λ / 2) + t (1 - L(t λ / 2)), where L(y) = coth y - 1 / y; for small y, L
    is the continued fraction y / (3 + y² / (5 + y² / …)).
    """

    def rest(y: Array) -> Array:  # 1 - L(y)
        below = functools.reduce(lambda below, k: k + y * y / below, range(15, 1, -2), 17.0)
        return jnp.where(y < 1, 1 - y / below, 1 / y - 2 / jnp.expm1(2 * y))

    half = jnp.asarray(-math.log(beta) / 2, float)
    steps = t.astype(float)
    return 1 - rest(half) + steps * rest(steps * half)
