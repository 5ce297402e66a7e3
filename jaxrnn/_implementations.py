"""The ways to run one direction of one layer, and the rule by which one is picked."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ._cells import Step
from ._fused import fused, fused_refuses
from ._scan import scan


Run = Callable[..., tuple[Any, Any]]


class Implementation(NamedTuple):
    """A way to run a step over time, called as `scan` is.

    Attributes:
        run: `(step, params, x, state, valid, *, reverse, return_all_states)` → every, final.
        refuses: `(step, params, x)` → what it cannot run; None if it can.
    """

    run: Run
    refuses: Callable[[Step, Mapping[str, Array], Array], str | None]


# In the order of preference: the last one refuses nothing.
IMPLEMENTATIONS = {
    "fused": Implementation(fused, fused_refuses),
    "scan": Implementation(scan, lambda step, params, x: None),
}


def choose(implementation: str | None, step: Step, params: Mapping[str, Array], x: Array) -> str:
    """The name of the implementation to run: this one, or for None the first that applies."""
    if implementation is None:
        ways = IMPLEMENTATIONS.items()
        return next(name for name, way in ways if not way.refuses(step, params, x))
    if implementation not in IMPLEMENTATIONS:
        names = ", ".join(map(repr, IMPLEMENTATIONS))
        raise ValueError(f"`implementation` must be None or one of {names}, got {implementation!r}")
    if why := IMPLEMENTATIONS[implementation].refuses(step, params, x):
        raise ValueError(f"`implementation` {implementation!r} cannot run {why}: leave it None")
    return implementation


# Jitted, so that outside of jit the same step on the same shapes is compiled once, not every time.
@functools.partial(
    jax.jit,
    static_argnames=("implementation", "step", "reverse", "return_all_states", "checkpoint_every"),
)
def run(
    implementation: str | None,
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

    `valid` is true for the first steps of each sequence, as many as it is long; in the others the
    state passes through. A reverse run therefore carries the initial state through the padding and
    starts at each sequence's own end; nothing is flipped.
    """
    way = IMPLEMENTATIONS[choose(implementation, step, params, x)]
    params, x, state, valid = _alike(params, x, state, valid)
    options = {"reverse": reverse, "return_all_states": return_all_states}
    over = functools.partial(way.run, step, params, **options)
    if checkpoint_every is None:
        return over(x, state, valid)
    return _by_chunks(over, min(checkpoint_every, len(x)), reverse, state, (x, valid))


def _alike(*trees: Any) -> Any:
    """Under `shard_map`, lets all vary over the same mesh axes, as the carry of a loop must.

    Weights, which vary over none, are cast here and not at every time step, so that their gradients
    are summed over the devices once.
    """
    varying = lambda a: jax.typeof(a).manual_axis_type.varying
    axes = frozenset().union(*map(varying, jax.tree.leaves(trees)))
    vary = lambda a: jax.lax.pcast(a, tuple(axes - varying(a)), to="varying")
    return jax.tree.map(vary, trees)


def _by_chunks(
    over: Run, size: int, reverse: bool, state: Any, inputs: tuple[Array, Array | None]
) -> tuple[Any, Any]:
    """Chunks of `size` steps: the gradient keeps the state before each, and no more.

    The rest of what a chunk's gradient needs is computed again from there. Steps left over from
    whole chunks come last and are run as they are, because keeping them costs less than a chunk.
    """
    number, rest = divmod(len(inputs[0]), size)

    # Each chunk is cut out where it is used: cut beforehand, all of `inputs` would be copied.
    def part(state: Any, start: Any, size: int) -> tuple[Any, Any]:
        cut = lambda a: jax.lax.dynamic_slice_in_dim(a, start, size)
        x, valid = jax.tree.map(cut, inputs)
        every, state = over(x, state, valid)
        return state, every

    # `prevent_cse` is not needed: XLA merges nothing across the border of a loop.
    chunk = jax.checkpoint(lambda state, start: part(state, start, size), prevent_cse=False)
    starts = size * jnp.arange(number) + (rest if reverse else 0)
    state, every = jax.lax.scan(chunk, state, starts, reverse=reverse)
    every = jax.tree.map(lambda a: a.reshape(number * size, *a.shape[2:]), every)
    if rest:
        state, last = part(state, 0 if reverse else number * size, rest)
        both = (last, every) if reverse else (every, last)
        every = jax.tree.map(lambda *a: jnp.concatenate(a), *both)
    return every, state
