"""One direction of one layer over time."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ._cells import Step, hidden, widen


Run = Callable[[Any, Any], tuple[Any, Any]]


# Jitted, so that outside of jit the same step on the same shapes is compiled once, not every time.
@functools.partial(
    jax.jit, static_argnames=("step", "reverse", "return_all_states", "checkpoint_every")
)
def scan(
    step: Step,
    params: Mapping[str, Array],
    x: Float[Array, "T B I"],
    state: Any,
    valid: Bool[Array, "T B 1"] | None,
    *,
    reverse: bool,
    return_all_states: bool,
    checkpoint_every: int | None,
) -> tuple[Any, Any]:
    """Runs `step` over time; returns h, or the whole state, after every step, and the final state.

    The loop that this replaces, forward and without `valid`::

        for t in range(T):
            state = step(params, x[t], state)
            every[t] = state.h

    Where `valid` is false the state passes through, and the step sees zeros instead of `x` and the
    state: a mask after the step would still let NaN into gradients. A reverse scan therefore
    carries the initial state through the padding and starts at each sequence's own end; nothing is
    flipped.
    """
    dtype = x.dtype
    # Widened outside the loop, so that bfloat16 weights gather their gradient over time in float32.
    params = jax.tree.map(widen, dict(params))

    def body(state: Any, inputs: tuple[Array, Array | None]) -> tuple[Any, Any]:
        x, valid = inputs
        if valid is None:
            state = step(params, x, state)
        else:
            choose = lambda a, b: jnp.where(valid, a, b)
            seen = jax.tree.map(lambda a: choose(a, jnp.zeros_like(a)), (x, state))
            state = jax.tree.map(choose, step(params, *seen), state)
        kept = state if return_all_states else hidden(state)
        return state, jax.tree.map(lambda a: a.astype(dtype), kept)

    run = functools.partial(jax.lax.scan, body, reverse=reverse)
    if checkpoint_every is not None:
        run = functools.partial(_by_chunks, run, min(checkpoint_every, len(x)), reverse)
    state, every = run(jax.tree.map(widen, state), (x, valid))
    return every, jax.tree.map(lambda a: a.astype(dtype), state)


def _by_chunks(run: Run, size: int, reverse: bool, state: Any, inputs: Any) -> tuple[Any, Any]:
    """`run` over chunks of `size` steps: its gradient keeps the state before each, and no more.

    Whatever else a chunk's gradient needs is computed again from there. The steps that make no
    whole chunk come last and are run as they are, because keeping them costs less than a chunk.
    """
    number, rest = divmod(len(inputs[0]), size)
    # A chunk is cut out where it is needed: cut beforehand, all of `inputs` would be copied.
    cut = lambda start, size: jax.tree.map(
        lambda a: jax.lax.dynamic_slice_in_dim(a, start, size), inputs
    )
    # XLA merges nothing across the border of a loop, so that it need not be kept from doing so.
    chunk = jax.checkpoint(lambda state, start: run(state, cut(start, size)), prevent_cse=False)
    starts = size * jnp.arange(number) + (rest if reverse else 0)
    state, every = jax.lax.scan(chunk, state, starts, reverse=reverse)
    every = jax.tree.map(lambda a: a.reshape(number * size, *a.shape[2:]), every)
    if rest:
        state, last = run(state, cut(0 if reverse else number * size, rest))
        both = (last, every) if reverse else (every, last)
        every = jax.tree.map(lambda *a: jnp.concatenate(a), *both)
    return state, every
