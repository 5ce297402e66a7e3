"""torch.optim.lr_scheduler's schedulers: schedules from a count to a rate, and a plateau."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from .._check import check_positive, is_traced


Schedule = Callable[[Any], Array]


def step_lr(lr: Float[ArrayLike, ""], step_size: int, *, gamma: float = 0.1) -> Schedule:
    r"""Cuts the rate every `step_size` counts: `torch.optim.lr_scheduler.StepLR`.

    .. math:: \eta_t = \eta \gamma^{\lfloor t / size \rfloor}

    An optimiser calls the schedule with the number of its updates t;
    ``jaxrnn.training.fit(lr=…)`` calls it with the epoch, as most loops in torch do. It is
    `optax.exponential_decay` with ``staircase=True``, which ignores a γ of 0.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.StepLR.html

    >>> schedule = step_lr(0.5, 30)
    >>> [round(float(schedule(t)), 4) for t in (0, 29, 30, 60)]
    [0.5, 0.5, 0.05, 0.005]
    """
    check_rates(lr=lr)
    check_scalars(gamma=gamma)
    check_positive(step_size=step_size)
    return lambda count: jnp.asarray(lr, float) * gamma ** jnp.asarray(count // step_size, float)


def exponential_lr(lr: Float[ArrayLike, ""], gamma: float) -> Schedule:
    r"""Cuts the rate at every count: `torch.optim.lr_scheduler.ExponentialLR`.

    .. math:: \eta_t = \eta \gamma^t

    It is `step_lr` with a step size of 1, which says what t counts.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.ExponentialLR.html

    >>> exponential_lr(0.5, 0.1)(2)
    Array(0.005, dtype=float32)
    """
    return step_lr(lr, 1, gamma=gamma)


def cosine_annealing_lr(lr: Float[ArrayLike, ""], T_max: int, *, eta_min: float = 0.0) -> Schedule:
    r"""Moves the rate along a cosine: `torch.optim.lr_scheduler.CosineAnnealingLR`.

    .. math:: \eta_t = \eta_{min} + (\eta - \eta_{min}) (1 + \cos(\pi t / T_{max})) / 2

    `optax.cosine_decay_schedule` stays at its minimum after T_max. `step_lr` says what t counts.
    Torch steps from rate to rate instead, and loses T_max² eps on the way up.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.CosineAnnealingLR.html;
    Loshchilov & Hutter (2016), https://arxiv.org/abs/1608.03983.

    >>> schedule = cosine_annealing_lr(0.5, 10)
    >>> [round(float(schedule(t)), 4) for t in (0, 5, 10, 15, 20)]
    [0.5, 0.25, 0.0, 0.25, 0.5]
    """
    check_rates(lr=lr)
    check_scalars(eta_min=eta_min)
    check_positive(T_max=T_max)

    def schedule(count: Any) -> Array:
        angle = jnp.asarray(count % (2 * T_max), float) * (math.pi / T_max)
        return eta_min + (jnp.asarray(lr, float) - eta_min) * (1 + jnp.cos(angle)) / 2

    return schedule


class PlateauState(NamedTuple):
    """The learning rate, and the state of `torch.optim.lr_scheduler.ReduceLROnPlateau`."""

    lr: Float[Array, ""]
    best: Float[Array, ""]
    num_bad_epochs: Int[Array, ""]
    cooldown_counter: Int[Array, ""]


class Plateau(NamedTuple):
    """A pair of pure functions, like optax's transformations."""

    init: Callable[[], PlateauState]
    step: Callable[[PlateauState, Any], PlateauState]


def reduce_lr_on_plateau(
    lr: Float[ArrayLike, ""],
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
    = \max(\eta \cdot factor, min\_lr)`, unless that changes the rate by `eps` or less. The
    `cooldown` epochs after a cut do not count.

    It is called once an epoch, as in torch. Its state holds the rate, which each step passes to its
    optimiser: ``adam(plateau_state.lr).update(…)``, also within jit and scan. (The optimiser's own
    state does not depend on the rate.) `optax.contrib.reduce_on_plateau` is a link of the chain,
    which is called with every batch and has a scale instead of a rate. It has no `min_lr` and no
    `eps`, and its patience is torch's plus one.

    Args:
        lr: the first rate.
        mode: whether `"min"` or `"max"` is better.
        threshold_mode: with `"rel"`, a metric is better if it beats best · (1 ∓ threshold), with
            `"abs"`, best ∓ threshold. NaN is never better.

    Returns:
        Functions `init()`, which returns a `PlateauState`, and `step(state, metric)`, which returns
        the next one.

    Raises:
        ValueError: a mode is unknown, the factor is 1 or more, or `lr` is negative.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.ReduceLROnPlateau.html

    >>> plateau = reduce_lr_on_plateau(0.5, patience=0)
    >>> state = plateau.step(plateau.init(), 3.0)
    >>> plateau.step(state, 3.0).lr
    Array(0.05, dtype=float32)
    """
    if mode not in ("min", "max"):
        raise ValueError(f"`mode` must be 'min' or 'max', got {mode!r}")
    if threshold_mode not in ("rel", "abs"):
        raise ValueError(f"`threshold_mode` must be 'rel' or 'abs', got {threshold_mode!r}")
    if factor >= 1:
        raise ValueError(f"`factor` must be below 1, got {factor}")
    check_rates(lr=lr)
    sign = 1 if mode == "min" else -1

    def init() -> PlateauState:
        zero = jnp.zeros((), jnp.int32)
        return PlateauState(jnp.asarray(lr, float), jnp.asarray(sign * jnp.inf, float), zero, zero)

    def is_better(metric: Array, best: Any) -> Bool[Array, ""]:
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


def check_rates(**numbers: Any) -> None:
    check_scalars(**numbers)
    for name, number in numbers.items():
        # In numpy, because under jit JAX would make a tracer of a constant, too.
        if not is_traced(number) and not np.asarray(number) >= 0:
            raise ValueError(f"`{name}` must be at least 0, got {number}")


def check_scalars(**numbers: Any) -> None:
    for name, number in numbers.items():
        if jnp.ndim(number) > 0:
            raise ValueError(f"`{name}` must be one number, got shape {jnp.shape(number)}")
