"""torch.optim's optimisers as optax transformations: the same names, defaults and trajectories.

Import this module by name: it needs optax, which the rest of jaxrnn does not. The optimisers chain
with optax's own, and with `clip_grad_norm` in front:

>>> optimizer = optax.chain(clip_grad_norm(1.0), adam(1e-3))

Everywhere `lr` is a number, an array (also a traced one: `jax.vmap` over it) or an optax schedule,
such as `step_lr`. A number or an array is not part of the optimiser's state, so each step may make
the optimiser again with a new rate. Numbers that torch refuses, such as a negative `lr`, raise a
`ValueError`.
"""

from ._clipping import clip_grad_norm, clip_grad_value
from ._optimisers import adagrad, adam, adamw, nadam, radam, rmsprop, sgd
from ._schedules import (
    Plateau,
    PlateauState,
    cosine_annealing_lr,
    exponential_lr,
    reduce_lr_on_plateau,
    step_lr,
)


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
