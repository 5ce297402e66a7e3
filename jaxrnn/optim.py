"""torch.optim's optimisers as optax transformations: the same names, defaults and trajectories.

Import this module by name: it needs optax, which the rest of jaxrnn does not. They chain with
optax's own, and with `clip_grad_norm` in front:

>>> optimizer = optax.chain(clip_grad_norm(1.0), adam(1e-3))

Everywhere `lr` is a number, an array (traced, too: `jax.vmap` over it) or an optax schedule, such
as `step_lr`. A number or an array is no part of the optimiser's state, so that each step may build
the optimiser anew with another one. Numbers that torch refuses, a negative `lr` for one, raise a
`ValueError`.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ._schedules import (
    Plateau,
    PlateauState,
    check_rates,
    check_scalars,
    cosine_annealing_lr,
    exponential_lr,
    reduce_lr_on_plateau,
    step_lr,
)
from ._trees import norm


__all__ = [
    "Plateau",
    "PlateauState",
    "adagrad",
    "adam",
    "adamw",
    "clip_grad_norm",
    "clip_grad_value",
    "cosine_annealing_lr",
    "exponential_lr",
    "nadam",
    "radam",
    "reduce_lr_on_plateau",
    "rmsprop",
    "sgd",
    "step_lr",
]

Number = Float[ArrayLike, ""]
Rate = Number | optax.Schedule


def sgd(
    lr: Rate = 1e-3,
    *,
    momentum: Number = 0.0,
    dampening: Number = 0.0,
    weight_decay: Number = 0.0,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    r"""Gradient descent: `torch.optim.SGD`.

    .. math::
        g &= \nabla + \lambda \theta \\
        b &= \mu b + (1 - \tau) g \qquad \text{at first } b = g \\
        \theta' &= \theta - \eta b \qquad \text{or, with nesterov, } \theta - \eta (g + \mu b)

    It is `optax.sgd`, but for weight_decay λ and dampening τ, which that has not.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html

    >>> optimizer = sgd(0.5)
    >>> optimizer.update(jnp.ones(1), optimizer.init(jnp.ones(1)))[0]
    Array([-0.5], dtype=float32)
    """
    check_rates(momentum=momentum)
    if nesterov and (not _used(momentum) or (isinstance(dampening, float) and dampening)):
        raise ValueError(
            "`nesterov` needs a momentum and no dampening, got "
            f"momentum={momentum} and dampening={dampening}"
        )
    links = []
    if _used(momentum) and _used(dampening):
        links = [optax.scale_by_schedule(lambda step: jnp.where(step == 0, 1.0, 1 - dampening))]
    if _used(momentum):
        links += [optax.trace(momentum, nesterov)]
    return _chain(lr, weight_decay, *links)


def adam(
    lr: Rate = 1e-3,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: Number = 1e-8,
    weight_decay: Number = 0.0,
) -> optax.GradientTransformation:
    r"""Adaptive moments: `torch.optim.Adam`.

    .. math::
        g &= \nabla + \lambda \theta \\
        m &= \beta_1 m + (1 - \beta_1) g, \quad v = \beta_2 v + (1 - \beta_2) g^2 \\
        \theta' &= \theta - \eta \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    The decay is L2, not AdamW's. In float64 it is `optax.adam` after `optax.add_decayed_weights`;
    in float32 that rounds 1 - β to 5 digits, and under strict promotion it does not run.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html; Kingma & Ba
    (2014), https://arxiv.org/abs/1412.6980.

    >>> optimizer = adam(0.5)
    >>> updates, _ = optimizer.update(jnp.full(1, 7.0), optimizer.init(jnp.ones(1)))
    >>> updates.round(3)
    Array([-0.5], dtype=float32)
    """
    return _chain(lr, weight_decay, _scale_by_adam(betas, eps))


def adamw(
    lr: Rate = 1e-3,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: Number = 1e-8,
    weight_decay: Number = 1e-2,
) -> optax.GradientTransformation:
    r"""Adam with decoupled decay: `torch.optim.AdamW`.

    .. math::
        \theta' = \theta - \eta \left(
        \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon} + \lambda \theta \right)

    with m and v as in `adam`, of the gradient alone. It is `optax.adamw`, whose default decay is
    1e-4; how that rounds is said in `adam`.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html; Loshchilov &
    Hutter (2017), https://arxiv.org/abs/1711.05101.

    >>> optimizer = adamw(0.5, weight_decay=0.1)
    >>> updates, _ = optimizer.update(jnp.full(1, 7.0), optimizer.init(jnp.ones(1)), jnp.ones(1))
    >>> updates.round(3)
    Array([-0.55], dtype=float32)
    """
    return _chain(lr, weight_decay, _scale_by_adam(betas, eps), decoupled=True)


def nadam(
    lr: Rate = 2e-3,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: Number = 1e-8,
    weight_decay: Number = 0.0,
    momentum_decay: Number = 4e-3,
    decoupled_weight_decay: bool = False,
) -> optax.GradientTransformation:
    r"""Adam with Nesterov momentum that grows: `torch.optim.NAdam`.

    .. math::
        \mu_t &= \beta_1 (1 - 0.96^{t \psi} / 2) \\
        d &= \frac{1 - \mu_t}{1 - \prod_{i \le t} \mu_i} g
            + \frac{\mu_{t+1}}{1 - \prod_{i \le t+1} \mu_i} m \\
        \theta' &= \theta - \eta \frac{d}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    with g, m and v as in `adam`, ψ the momentum decay, and weight decay as there or, decoupled, as
    in `adamw`. The product is kept in float32, as torch does by default. `optax.nadam` has a
    constant momentum, which is another algorithm.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.optim.NAdam.html; Dozat (2016),
    https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ.

    >>> optimizer = nadam(0.5)
    >>> updates, _ = optimizer.update(jnp.full(1, 7.0), optimizer.init(jnp.ones(1)))
    >>> updates.round(3)
    Array([-0.528], dtype=float32)
    """
    link = _scale_by_nadam(betas, eps, momentum_decay)
    return _chain(lr, weight_decay, link, decoupled=decoupled_weight_decay)


def radam(
    lr: Rate = 1e-3,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: Number = 1e-8,
    weight_decay: Number = 0.0,
    decoupled_weight_decay: bool = False,
) -> optax.GradientTransformation:
    r"""Adam that trusts v as far as it has averaged: `torch.optim.RAdam`.

    .. math::
        \rho &= \rho_\infty - 2 t \beta_2^t / (1 - \beta_2^t), \quad
        \rho_\infty = 2 / (1 - \beta_2) - 1 \\
        r &= \sqrt{\frac{(\rho - 4) (\rho - 2) \rho_\infty}
            {(\rho_\infty - 4) (\rho_\infty - 2) \rho}} \\
        \theta' &= \theta - \eta \frac{m}{1 - \beta_1^t} \cdot
            \begin{cases} r \sqrt{1 - \beta_2^t} / (\sqrt{v} + \epsilon) & \rho > 5 \\
            1 & \text{else} \end{cases}

    with m and v as in `adam`, and weight decay as there or, decoupled, as in `adamw`. `optax.radam`
    adds ε after it has corrected v's bias, and takes ρ = 5 for enough.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.optim.RAdam.html; Liu et al.
    (2019), https://arxiv.org/abs/1908.03265.

    >>> optimizer = radam(0.5)
    >>> updates, _ = optimizer.update(jnp.full(1, 7.0), optimizer.init(jnp.ones(1)))
    >>> updates.round(1)
    Array([-3.5], dtype=float32)
    """
    link = _scale_by_radam(betas, eps)
    return _chain(lr, weight_decay, link, decoupled=decoupled_weight_decay)


def adagrad(
    lr: Rate = 1e-2,
    *,
    lr_decay: Number = 0.0,
    weight_decay: Number = 0.0,
    initial_accumulator_value: Number = 0.0,
    eps: Number = 1e-10,
) -> optax.GradientTransformation:
    r"""Steps scaled by all gradients so far: `torch.optim.Adagrad`.

    .. math::
        g &= \nabla + \lambda \theta, \quad s = s + g^2 \\
        \theta' &= \theta - \frac{\eta}{1 + (t - 1) \tau} \frac{g}{\sqrt{s} + \epsilon}

    where τ is `lr_decay`. `optax.adagrad` has ε inside the root, other defaults and no decays.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.optim.Adagrad.html; Duchi et al.
    (2011), https://jmlr.org/papers/v12/duchi11a.html.

    >>> optimizer = adagrad(0.5)
    >>> updates, _ = optimizer.update(jnp.full(1, 7.0), optimizer.init(jnp.ones(1)))
    >>> updates.round(3)
    Array([-0.5], dtype=float32)
    """
    check_rates(lr_decay=lr_decay, initial_accumulator_value=initial_accumulator_value, eps=eps)
    links = [_scale_by_rss(initial_accumulator_value, eps)]
    if _used(lr_decay):
        links += [
            optax.scale_by_schedule(lambda step: 1 / (1 + jnp.asarray(step, float) * lr_decay))
        ]
    return _chain(lr, weight_decay, *links)


def rmsprop(
    lr: Rate = 1e-2,
    *,
    alpha: Number = 0.99,
    eps: Number = 1e-8,
    weight_decay: Number = 0.0,
    momentum: Number = 0.0,
    centered: bool = False,
) -> optax.GradientTransformation:
    r"""Steps scaled by a running root mean square: `torch.optim.RMSprop`.

    .. math::
        g &= \nabla + \lambda \theta, \quad
        v = \alpha v + (1 - \alpha) g^2, \quad
        m = \alpha m + (1 - \alpha) g \\
        b &= \mu b + g / (\sqrt{v} + \epsilon)
        \qquad \text{or, centered, } \mu b + g / (\sqrt{v - m^2} + \epsilon) \\
        \theta' &= \theta - \eta b

    It is `optax.rmsprop(eps_in_sqrt=False)` with decay 0.99, whose defaults (True, 0.9) differ.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.optim.RMSprop.html; Hinton, Lecture
    6e (2012); centered: Graves (2013), https://arxiv.org/abs/1308.0850.

    >>> optimizer = rmsprop(0.5)
    >>> updates, _ = optimizer.update(jnp.full(1, 7.0), optimizer.init(jnp.ones(1)))
    >>> updates.round(3)
    Array([-5.], dtype=float32)
    """
    check_rates(alpha=alpha, eps=eps, momentum=momentum)
    scale = optax.scale_by_stddev if centered else optax.scale_by_rms
    links = [optax.trace(momentum)] if _used(momentum) else []
    return _chain(lr, weight_decay, scale(alpha, eps, eps_in_sqrt=False), *links)


def clip_grad_norm(max_norm: Number) -> optax.GradientTransformation:
    r"""Scales all gradients down to a norm: `torch.nn.utils.clip_grad_norm_`.

    .. math:: g' = g \min(1, m / (\lVert g \rVert + 10^{-6}))

    over all parameters together, the norm in float32 at least. Unlike
    `optax.clip_by_global_norm` it shrinks by 1e-6 more, also what is just below the maximum; a norm
    of NaN makes every gradient NaN, one of inf every finite gradient 0.

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


def _chain(
    lr: Rate, weight_decay: Any, *links: optax.GradientTransformation, decoupled: bool = False
) -> optax.GradientTransformation:
    """L2 decay, the links, decay if it is decoupled, and a step of minus `lr`."""
    check_rates(weight_decay=weight_decay)
    decay = [optax.add_decayed_weights(weight_decay)] if _used(weight_decay) else []
    links = (*links, *decay) if decoupled else (*decay, *links)
    if callable(lr):
        return optax.chain(*links, optax.scale_by_learning_rate(lr))
    check_rates(lr=lr)
    # Not optax's: an array is cast to the dtype of each gradient here.
    move = lambda updates, _: jax.tree.map(lambda g: -jnp.asarray(lr, g.dtype) * g, updates)
    return optax.chain(*links, optax.stateless(move))


class NAdamState(NamedTuple):
    """Adam's state, and the product of all momenta so far."""

    adam: optax.ScaleByAdamState
    mu_product: Float[Array, ""]


def _scale_by_adam(betas: tuple[float, float], eps: Number) -> optax.GradientTransformation:
    _check_moments(betas, eps)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        t, m, v = state = _moments(updates, state, betas)
        c1, c2 = (_bias_correction(beta, t) for beta in betas)
        f = lambda m, v: m / c1.astype(m.dtype) / (jnp.sqrt(v / c2.astype(v.dtype)) + eps)
        return jax.tree.map(f, m, v), state

    return optax.GradientTransformation(_no_moments, update)


def _scale_by_nadam(
    betas: tuple[float, float], eps: Number, momentum_decay: Number
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


def _scale_by_radam(betas: tuple[float, float], eps: Number) -> optax.GradientTransformation:
    _check_moments(betas, eps)
    limit = (1 + betas[1]) / (1 - betas[1])

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        t, m, v = state = _moments(updates, state, betas)
        c1, c2 = (_bias_correction(beta, t) for beta in betas)
        mean = jax.tree.map(lambda m: m / c1.astype(m.dtype), m)
        if limit <= 5:  # and so is every ρ
            return mean, state
        rho = _average_length(betas[1], t)
        enough = rho > 5
        rho = jnp.maximum(rho, 5)
        r = jnp.sqrt((rho - 4) * (rho - 2) / rho * (limit / (limit - 4) / (limit - 2)) * c2)
        f = lambda m, v: jnp.where(enough, r.astype(m.dtype) * m / (jnp.sqrt(v) + eps), m)
        return jax.tree.map(f, mean, v), state

    return optax.GradientTransformation(_no_moments, update)


def _scale_by_rss(initial: Number, eps: Number) -> optax.GradientTransformation:
    def init(params: Any) -> optax.ScaleByRssState:
        return optax.ScaleByRssState(optax.tree.full_like(params, initial))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        s = jax.tree.map(lambda s, g: s + g * g, state.sum_of_squares, updates)
        f = lambda g, s: g / (jnp.sqrt(s) + eps)
        return jax.tree.map(f, updates, s), optax.ScaleByRssState(s)

    return optax.GradientTransformation(init, update)


def _no_moments(params: Any) -> optax.ScaleByAdamState:
    zeros = optax.tree.zeros_like(params)
    return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), zeros, zeros)


def _moments(updates: Any, state: Any, betas: tuple[float, float]) -> Any:
    """A ScaleByAdamState, t, m and v, with one gradient more."""
    return optax.ScaleByAdamState(
        jnp.asarray(optax.safe_increment(state.count)),
        optax.tree.update_moment(updates, state.mu, betas[0], 1),
        optax.tree.update_moment(updates, state.nu, betas[1], 2),
    )


def _bias_correction(beta: float, t: Array) -> Array:
    """1 - βᵗ, whose digits float32 would cancel."""
    return -jnp.expm1(t.astype(float) * (math.log(beta) if beta else -math.inf))


def _average_length(beta: float, t: Array) -> Array:
    """RAdam's ρ, whose digits float32 would cancel, and float64 five of them.

    With λ = -log β it is L(λ / 2) + t (1 - L(t λ / 2)), where L(y) = coth y - 1 / y, for small y as
    the continued fraction y / (3 + y² / (5 + y² / …)).
    """

    def rest(y: Array) -> Array:  # 1 - L(y)
        below = functools.reduce(lambda below, k: k + y * y / below, range(15, 1, -2), 17.0)
        return jnp.where(y < 1, 1 - y / below, 1 / y - 2 / jnp.expm1(2 * y))

    half = jnp.asarray(-math.log(beta) / 2, float)
    steps = t.astype(float)
    return 1 - rest(half) + steps * rest(steps * half)


def _used(number: Any) -> bool:
    """Whether it may be anything but 0, which of an array, traced or not, depends on the call."""
    return not isinstance(number, int | float) or number != 0


def _check_moments(betas: tuple[float, float], eps: Number) -> None:
    check_rates(eps=eps)
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"`betas` must be two numbers in [0, 1), got {betas}")
