"""Training as a pure function: one step, with what there is to monitor.

Import this module by name: it needs optax, which the rest of jaxrnn does not.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import Array, Float


class Metrics(NamedTuple):
    """A step's loss, and the norm of its gradient over all parameters, before any clipping."""

    loss: Float[Array, ""]
    grad_norm: Float[Array, ""]


def train_step(
    loss: Callable[..., Float[Array, ""]], optimizer: optax.GradientTransformation
) -> Callable[..., tuple[Any, Any, Metrics]]:
    """A step from a loss and an optimiser: what `zero_grad`, `backward` and `step` do in torch.

    The function that it returns computes::

        value, gradient = jax.value_and_grad(loss)(params, *batch)
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)

    It is pure and not jitted: wrap it in `jax.jit`, or scan over it.

    Args:
        loss: `loss(params, *batch)`, a scalar.
        optimizer: of `jaxrnn.optim` or optax; clipping is a link of its chain.

    Returns:
        `step(params, state, *batch)`, which returns `(params, state, Metrics(loss, grad_norm))`;
        the first state is `optimizer.init(params)`.

    Source: https://docs.pytorch.org/tutorials/beginner/basics/optimization_tutorial.html

    >>> step = train_step(lambda w, x: (w - x) ** 2 / 2, optax.sgd(0.5))
    >>> w = jax.numpy.ones(())
    >>> w, _, metrics = step(w, optax.sgd(0.5).init(w), 3.0)
    >>> [float(value) for value in (w, metrics.loss, metrics.grad_norm)]
    [2.0, 2.0, 2.0]
    """

    def step(params: Any, state: Any, *batch: Any) -> tuple[Any, Any, Metrics]:
        value, gradient = jax.value_and_grad(loss)(params, *batch)
        updates, state = optimizer.update(gradient, state, params)
        metrics = Metrics(value, optax.tree.norm(gradient))
        return optax.apply_updates(params, updates), state, metrics

    return step
