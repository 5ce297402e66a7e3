"""torch.optim's optimisers as optax transformations: the same names, defaults and trajectories.

Import this module by name: it needs optax, which the rest of jaxrnn does not. They chain with
optax's own, and with `clip_grad_norm` in front:

>>> optimizer = optax.chain(clip_grad_norm(1.0), adam(1e-3))

Everywhere `lr` is a number, an array (traced, too: `jax.vmap` over it) or an optax schedule. A
number or an array is no part of the optimiser's state, so that each step may build the optimiser
anew with another one. Numbers that torch refuses, a negative `lr` for one, raise a `ValueError`.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int


Rate = float | Float[Array, ""] | optax.Schedule


def sgd(
    lr: Rate = 1e-3,
    *,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
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
    _check(momentum=momentum)
    if nesterov and (momentum == 0 or dampening != 0):
        raise ValueError(
            "`nesterov` needs a momentum and no dampening, got "
            f"momentum={momentum} and dampening={dampening}"
        )
    links = []
    if momentum and dampening:
        links = [optax.scale_by_schedule(lambda step: jnp.where(step == 0, 1.0, 1 - dampening))]
    if momentum:
        links += [optax.trace(momentum, nesterov)]
    return _chain(lr, weight_decay, *links)


def adam(
    lr: Rate = 1e-3,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
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
    _check(eps=eps)
    if not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"`betas` must lie in [0, 1), got {betas}")
    return _chain(lr, weight_decay, _scale_by_adam(*betas, eps))


def rmsprop(
    lr: Rate = 1e-2,
    *,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
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
    _check(alpha=alpha, eps=eps, momentum=momentum)
    scale = optax.scale_by_stddev if centered else optax.scale_by_rms
    links = [optax.trace(momentum)] if momentum else []
    return _chain(lr, weight_decay, scale(alpha, eps, eps_in_sqrt=False), *links)


def clip_grad_norm(max_norm: float | Float[Array, ""]) -> optax.GradientTransformation:
    r"""Scales all gradients down to a norm: `torch.nn.utils.clip_grad_norm_`.

    .. math:: g' = g \min(1, m / (\lVert g \rVert + 10^{-6}))

    over all parameters together; the norm itself is `optax.tree.norm(gradients)`. Unlike
    `optax.clip_by_global_norm` it shrinks by 1e-6 more, also what is just below the maximum; a norm
    of NaN makes every gradient NaN, one of inf every finite gradient 0.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html;
    Pascanu et al. (2012), https://arxiv.org/abs/1211.5063.

    >>> clip_grad_norm(1.0).update(jnp.array([3.0, 4.0]), optax.EmptyState())[0]
    Array([0.5999999 , 0.79999983], dtype=float32)
    """

    def clip(updates: Any, _: Any) -> Any:
        norm = optax.tree.norm(updates)
        coefficient = jnp.minimum(jnp.asarray(max_norm, norm.dtype) / (norm + 1e-6), 1)
        return jax.tree.map(lambda g: g * coefficient.astype(g.dtype), updates)

    return optax.stateless(clip)


def clip_grad_value(clip_value: float) -> optax.GradientTransformation:
    """Clips each element to ±`clip_value`: `torch.nn.utils.clip_grad_value_`, and `optax.clip`.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_value_.html

    >>> clip_grad_value(1.0).update(jnp.array([-3.0, 0.5]), optax.EmptyState())[0]
    Array([-1. ,  0.5], dtype=float32)
    """
    return optax.clip(clip_value)


class PlateauState(NamedTuple):
    """The learning rate, and what `torch.optim.lr_scheduler.ReduceLROnPlateau` remembers."""

    lr: Float[Array, ""]
    best: Float[Array, ""]
    num_bad_epochs: Int[Array, ""]
    cooldown_counter: Int[Array, ""]


class Plateau(NamedTuple):
    """A pair of pure functions, as optax's transformations are."""

    init: Callable[[Any], PlateauState]
    step: Callable[[PlateauState, Any], PlateauState]


def reduce_lr_on_plateau(
    *,
    mode: str = "min",
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    threshold_mode: str = "rel",
    cooldown: int = 0,
    min_lr: float = 0.0,
    eps: float = 1e-8,
) -> Plateau:
    r"""Cuts the rate when a metric stops improving: `torch.optim.lr_scheduler.ReduceLROnPlateau`.

    After more than `patience` epochs that are not better than the best by `threshold`, :math:`\eta'
    = \max(\eta \cdot factor, min\_lr)`, unless that is a change of `eps` or less. The `cooldown`
    epochs after it count as none.

    It is called once an epoch, as in torch, and its state holds the rate, which each step hands to
    its optimiser: ``adam(plateau_state.lr).update(…)``, within jit and scan. (The optimiser's own
    state does not depend on the rate.) `optax.contrib.reduce_on_plateau` instead is a link of the
    chain, called with every batch, and knows a scale only: neither `min_lr` nor `eps` can be said
    in it; its patience is torch's plus one.

    Args:
        mode: whether `"min"` or `"max"` is better.
        threshold_mode: better than best · (1 ∓ threshold) with `"rel"`, best ∓ threshold with
            `"abs"`. NaN is never better.

    Returns:
        `init(lr)`, a `PlateauState`, and `step(state, metric)`, the next.

    Raises:
        ValueError: an unknown mode, a factor of 1 or more, or a negative `lr`.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.ReduceLROnPlateau.html

    >>> plateau = reduce_lr_on_plateau(patience=0)
    >>> state = plateau.step(plateau.init(0.5), 3.0)
    >>> plateau.step(state, 3.0).lr
    Array(0.05, dtype=float32)
    """
    if mode not in ("min", "max"):
        raise ValueError(f"`mode` must be 'min' or 'max', got {mode!r}")
    if threshold_mode not in ("rel", "abs"):
        raise ValueError(f"`threshold_mode` must be 'rel' or 'abs', got {threshold_mode!r}")
    if factor >= 1:
        raise ValueError(f"`factor` must be below 1, got {factor}")
    sign = 1 if mode == "min" else -1

    def init(lr: Any) -> PlateauState:
        _check(lr=lr)
        zero = jnp.zeros((), jnp.int32)
        return PlateauState(jnp.asarray(lr, float), jnp.asarray(sign * jnp.inf, float), zero, zero)

    def is_better(metric: Array, best: Array) -> Bool[Array, ""]:
        slack = sign * threshold
        goal = best * (1 - slack) if threshold_mode == "rel" else best - slack
        return sign * metric < sign * goal

    def step(state: PlateauState, metric: Any) -> PlateauState:
        lr, best, bad, cooling = state
        metric = jnp.asarray(metric).astype(best.dtype)
        better = is_better(metric, best)
        bad = jnp.where(better | (cooling > 0), 0, bad + 1)
        cut = bad > patience
        new = jnp.maximum(lr * factor, min_lr)
        return PlateauState(
            jnp.where(cut & (lr - new > eps), new, lr),
            jnp.where(better, metric, best),
            jnp.where(cut, 0, bad),
            jnp.where(cut, cooldown, jnp.maximum(cooling - 1, 0)),
        )

    return Plateau(init, step)


def _chain(
    lr: Rate, weight_decay: float, *links: optax.GradientTransformation
) -> optax.GradientTransformation:
    """L2 decay, the links, and a step of minus `lr`."""
    _check(weight_decay=weight_decay)
    decay = [optax.add_decayed_weights(weight_decay)] if weight_decay else []
    if callable(lr):
        return optax.chain(*decay, *links, optax.scale_by_learning_rate(lr))
    _check(lr=lr)
    # Not optax's: an array is cast to the dtype of each gradient here.
    move = lambda updates, _: jax.tree.map(lambda g: -jnp.asarray(lr, g.dtype) * g, updates)
    return optax.chain(*decay, *links, optax.stateless(move))


def _scale_by_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    def init(params: Any) -> optax.ScaleByAdamState:
        zeros = optax.tree.zeros_like(params)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        t = jnp.asarray(optax.safe_increment(state.count))
        m = optax.tree.update_moment(updates, state.mu, b1, 1)
        v = optax.tree.update_moment(updates, state.nu, b2, 2)
        c1, c2 = _bias_correction(b1, t), _bias_correction(b2, t)
        f = lambda m, v: m / c1.astype(m.dtype) / (jnp.sqrt(v / c2.astype(v.dtype)) + eps)
        return jax.tree.map(f, m, v), optax.ScaleByAdamState(t, m, v)

    return optax.GradientTransformation(init, update)


def _bias_correction(beta: float, t: Array) -> Array:
    """1 - βᵗ, whose digits float32 would cancel."""
    return -jnp.expm1(t.astype(float) * (math.log(beta) if beta else -math.inf))


def _check(**numbers: Any) -> None:
    for name, number in numbers.items():
        if jnp.ndim(number) > 0:
            raise ValueError(f"`{name}` must be one number, got shape {jnp.shape(number)}")
        if not isinstance(number, Tracer) and not number >= 0:
            raise ValueError(f"`{name}` must be at least 0, got {number}")
