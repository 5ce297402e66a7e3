"""torch.optim's optimisers, each as a chain of optax's transformations."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from ._moments import Betas, Number, scale_by_adam, scale_by_nadam, scale_by_radam
from ._schedules import check_rates


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

    It is `optax.sgd` with a weight_decay λ and a dampening τ, which that does not have.

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
    betas: Betas = (0.9, 0.999),
    eps: Number = 1e-8,
    weight_decay: Number = 0.0,
) -> optax.GradientTransformation:
    r"""Adaptive moments: `torch.optim.Adam`.

    .. math::
        g &= \nabla + \lambda \theta \\
        m &= \beta_1 m + (1 - \beta_1) g, \quad v = \beta_2 v + (1 - \beta_2) g^2 \\
        \theta' &= \theta - \eta \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    The decay is L2, not AdamW's. In float64 it is `optax.adam` after `optax.add_decayed_weights`.
    In float32 optax rounds 1 - β to 5 digits, and under strict promotion it does not run.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html; Kingma & Ba
    (2014), https://arxiv.org/abs/1412.6980.

    >>> optimizer = adam(0.5)
    >>> updates, _ = optimizer.update(jnp.full(1, 7.0), optimizer.init(jnp.ones(1)))
    >>> updates.round(3)
    Array([-0.5], dtype=float32)
    """
    return _chain(lr, weight_decay, scale_by_adam(betas, eps))


def adamw(
    lr: Rate = 1e-3,
    *,
    betas: Betas = (0.9, 0.999),
    eps: Number = 1e-8,
    weight_decay: Number = 1e-2,
) -> optax.GradientTransformation:
    r"""Adam with decoupled decay: `torch.optim.AdamW`.

    .. math::
        \theta' = \theta - \eta \left(
        \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon} + \lambda \theta \right)

    with m and v as in `adam`, of the gradient alone. It is `optax.adamw`, whose default decay is
    1e-4, and which rounds as `adam` says.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html; Loshchilov &
    Hutter (2017), https://arxiv.org/abs/1711.05101.

    >>> optimizer = adamw(0.5, weight_decay=0.1)
    >>> updates, _ = optimizer.update(jnp.full(1, 7.0), optimizer.init(jnp.ones(1)), jnp.ones(1))
    >>> updates.round(3)
    Array([-0.55], dtype=float32)
    """
    return _chain(lr, weight_decay, scale_by_adam(betas, eps), decoupled=True)


def nadam(
    lr: Rate = 2e-3,
    *,
    betas: Betas = (0.9, 0.999),
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
    link = scale_by_nadam(betas, eps, momentum_decay)
    return _chain(lr, weight_decay, link, decoupled=decoupled_weight_decay)


def radam(
    lr: Rate = 1e-3,
    *,
    betas: Betas = (0.9, 0.999),
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
    adds ε after it has corrected v's bias, and treats ρ = 5 like ρ > 5.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.optim.RAdam.html; Liu et al.
    (2019), https://arxiv.org/abs/1908.03265.

    >>> optimizer = radam(0.5)
    >>> updates, _ = optimizer.update(jnp.full(1, 7.0), optimizer.init(jnp.ones(1)))
    >>> updates.round(1)
    Array([-3.5], dtype=float32)
    """
    link = scale_by_radam(betas, eps)
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

    It is `optax.rmsprop` with `eps_in_sqrt=False` and decay 0.99; its defaults are True and 0.9.

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


def _chain(
    lr: Rate, weight_decay: Any, *links: optax.GradientTransformation, decoupled: bool = False
) -> optax.GradientTransformation:
    """Chains L2 decay, the links, decay if it is decoupled, and a step of minus `lr`."""
    check_rates(weight_decay=weight_decay)
    decay = [optax.add_decayed_weights(weight_decay)] if _used(weight_decay) else []
    links = (*links, *decay) if decoupled else (*decay, *links)
    if callable(lr):
        return optax.chain(*links, optax.scale_by_learning_rate(lr))
    check_rates(lr=lr)
    # Unlike optax's own link, it casts an array to the dtype of each gradient.
    move = lambda updates, _: jax.tree.map(lambda g: -jnp.asarray(lr, g.dtype) * g, updates)
    return optax.chain(*links, optax.stateless(move))


def _scale_by_rss(initial: Number, eps: Number) -> optax.GradientTransformation:
    def init(params: Any) -> optax.ScaleByRssState:
        return optax.ScaleByRssState(optax.tree.full_like(params, initial))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        s = jax.tree.map(lambda s, g: s + g * g, state.sum_of_squares, updates)
        f = lambda g, s: g / (jnp.sqrt(s) + eps)
        return jax.tree.map(f, updates, s), optax.ScaleByRssState(s)

    return optax.GradientTransformation(init, update)


def _used(number: Any) -> bool:
    """Whether a number may differ from 0; an array, traced or not, always may."""
    return not isinstance(number, int | float) or number != 0
