"""A training step as a pure function, and the step that `fit` repeats."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import Array, Float

from .._trees import describe, difference, norm


class Metrics(NamedTuple):
    """A step's loss, the norm of its gradient before clipping, and the loss's other results."""

    loss: Float[Array, ""]
    grad_norm: Float[Array, ""]
    aux: Any = None


def train_step(
    loss: Callable[..., Any], optimizer: optax.GradientTransformation, *, has_aux: bool = False
) -> Callable[..., tuple[Any, Any, Metrics]]:
    """Makes a step from a loss and an optimiser: torch's `zero_grad`, `backward` and `step`.

    The function that it returns is jitted, and computes::

        value, gradient = jax.value_and_grad(loss)(params, *batch)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        params = optax.apply_updates(params, updates)

    It is pure: scan over it, `vmap` it, or pass it arrays that are split over a mesh.

    Args:
        loss: `loss(params, *batch, **options)` returns a scalar, or with `has_aux` a scalar and
            anything else, as for `jax.value_and_grad`; batch and options are arrays.
        optimizer: from `jaxrnn.optim` or optax; clipping is a link of its chain.
        has_aux: whether the loss returns more than the scalar.

    Returns:
        `step(params, opt_state, *batch, **options)`, which returns `(params, opt_state,
        Metrics(loss, grad_norm, aux))`; the first `opt_state` is `optimizer.init(params)`.

    Source: https://docs.pytorch.org/tutorials/beginner/basics/optimization_tutorial.html

    >>> step = train_step(lambda w, x: (w - x) ** 2 / 2, optax.sgd(0.5))
    >>> w = jnp.ones(())
    >>> w, _, metrics = step(w, optax.sgd(0.5).init(w), 3.0)
    >>> [float(value) for value in (w, metrics.loss, metrics.grad_norm)]
    [2.0, 2.0, 2.0]
    """

    @jax.jit
    def step(params: Any, opt_state: Any, *batch: Any, **options: Any) -> tuple[Any, Any, Metrics]:
        grad = jax.value_and_grad(loss, has_aux=has_aux)
        value, gradient = grad(params, *batch, **options)
        value, aux = value if has_aux else (value, None)
        update = optax.with_extra_args_support(optimizer).update  # optax's linesearches want it
        updates, opt_state = update(gradient, opt_state, params, value=value)
        metrics = Metrics(value, norm(gradient), aux)
        return optax.apply_updates(params, updates), opt_state, metrics

    return step


def loop_step(loss: Callable[..., Any], optimizer: Any) -> Callable[..., Any]:
    """Makes the step of `fit`: `train_step` with a rate, a key for each step, a carried state."""

    @functools.partial(jax.jit, donate_argnums=0)
    def step(run: tuple[Any, Any, Any], rate: Any, key: Any, n: Any, batch: Any) -> Any:
        params, opt_state, state = run
        options = {} if key is None else {"key": jax.random.fold_in(key, n)}
        options |= {} if state is None else {"state": state}
        bare = train_step(loss, optimizer_at(optimizer, rate), has_aux=state is not None)
        params, opt_state, metrics = bare(params, opt_state, *batch, **options)
        # Only leaves are compared: the first state of an LSTM may be a pair.
        leaves = jax.tree.leaves(metrics.aux)
        if wrong := difference(describe(leaves), describe(jax.tree.leaves(state))):
            raise ValueError(f"the `state` that `loss` returns must be like the one given: {wrong}")
        state = jax.tree.unflatten(jax.tree.structure(state), leaves)
        new = {"params": params, "opt_state": opt_state, "state": state}
        return new, metrics._replace(aux=None)

    return step


def optimizer_at(optimizer: Any, rate: Any) -> optax.GradientTransformation:
    """Returns the optimiser; with a rate, `optimizer` is the function that makes it."""
    return optimizer if rate is None else optimizer(rate)
