"""The implementation "scan", the reference: one direction of one layer, step after step."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ._cells import Step, hidden, widen


def scan(
    step: Step,
    params: Mapping[str, Array],
    x: Float[Array, "T B I"],
    state: Any,
    valid: Bool[Array, "T B 1"] | None,
    *,
    reverse: bool,
    return_all_states: bool,
) -> tuple[Any, Any]:
    """`run` for any step.

    Where `valid` is false, the step sees zeros instead of `x` and the state: a mask after the step
    would still let NaN into gradients.
    """
    dtype = x.dtype
    # Widened outside the loop, so that bfloat16 weights gather their gradient over time in float32.
    params = jax.tree.map(widen, dict(params))

    def body(state: Any, inputs: tuple[Array, Array | None]) -> tuple[Any, Any]:
        x, valid = inputs
        state = chosen(valid, step(params, *masked(valid, (x, state))), state)
        kept = state if return_all_states else hidden(state)
        return state, jax.tree.map(lambda a: a.astype(dtype), kept)

    state, every = jax.lax.scan(body, jax.tree.map(widen, state), (x, valid), reverse=reverse)
    return every, jax.tree.map(lambda a: a.astype(dtype), state)


def masked(valid: Array | None, tree: Any) -> Any:
    """Zeros where a step does not count."""
    return chosen(valid, tree, jax.tree.map(jnp.zeros_like, tree))


def chosen(valid: Array | None, new: Any, old: Any) -> Any:
    """`new` where a step counts, `old` where it does not; without `valid`, all do."""
    if valid is None:
        return new
    return jax.tree.map(lambda a, b: jnp.where(valid, a, b), new, old)
