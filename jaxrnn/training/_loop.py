"""A training under way: its arrays, and the steps of an epoch."""

import math
from collections.abc import Iterable
from dataclasses import asdict
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._trees import describe, difference
from ._history import Seen


class Run(NamedTuple):
    """The arrays of a training: what a checkpoint holds."""

    params: Any
    opt_state: Any
    state: Any
    plateau: Any  # numpy's numbers, which are at home in every process
    best: Any


class Loop:
    """A training under way: its arrays, what it has seen, and the steps that still run."""

    def __init__(
        self, run: Run, seen: Seen, step: Any, folder: Any, keep: int, save_every: int
    ) -> None:
        self.run, self.seen, self.step = run, seen, step
        self.folder, self.keep, self.save_every = folder, keep, save_every
        self.resumed, self.pending, self.first = len(seen.loss), [], {}

    def epoch(self, batches: Iterable[Any], state: Any, rate: Any, key: Any, show: Any) -> None:
        """All of its batches, but for those that a checkpoint has gone through."""
        seen, n = self.seen, self.seen.start - 1
        if self.resumed <= seen.start:
            self.run = self.run._replace(state=copy(state))
        for n, batch in enumerate(map(_arrays, batches), seen.start):
            self.first = self.first or describe(batch)
            if wrong := difference(describe(batch), self.first, sizes=False):
                raise ValueError(f"`batches` must be alike, but in {seen.where(n)} {wrong}")
            if n < self.resumed:
                continue
            if self.save_every and n >= seen.saved + self.save_every:
                self.check()
                self.save()
            try:
                new, metrics = self.step(self.run[:3], rate, key, np.uint32(n), batch)
            except (TypeError, ValueError) as error:
                if wrong := difference(describe(batch), self.first):
                    error.add_note(f"{seen.where(n)}: {wrong} as in the first batch")
                raise
            self.run = self.run._replace(**new)
            self.pending.append(metrics[:2])
            self.settle(ahead=1)
            show(seen, batches, n - seen.start)
        _check_number(n + 1 - seen.start, self.resumed - seen.start, seen, self.folder)
        self.check()

    def settle(self, ahead: int = 0) -> None:
        """Takes down what the steps gave, but for the last `ahead`, which may still run."""
        while len(self.pending) > ahead:
            value, norm = map(float, self.pending.pop(0))
            if not math.isfinite(value):
                raise self.stop(f"the loss is {value}", len(self.seen.loss))
            self.seen.loss.append(value)
            self.seen.grad_norm.append(norm)

    def check(self) -> None:
        self.settle()
        if not _finite(self.run.params):
            raise self.stop("the parameters are no longer finite", len(self.seen.loss) - 1)

    def stop(self, why: str, n: int) -> FloatingPointError:
        """Says where, what the cause was if it lies in an earlier step, and what is saved."""
        seen = self.seen
        norms = enumerate(seen.grad_norm[seen.start :], seen.start)
        first = next((i for i, norm in norms if not math.isfinite(norm)), n)
        cause = "" if first == n else f", the gradient not finite in {seen.where(first)}"
        last = f"{seen.saved} in {self.folder}" if seen.saved else "none"
        return FloatingPointError(
            f"{why} after {seen.where(n)}{cause}; the last good checkpoint: {last}"
        )

    def save(self) -> None:
        if self.folder is not None:
            self.seen.saved = len(self.seen.loss)
            record = asdict(self.seen)
            checkpoints_module().save(
                self.folder, self.seen.saved, self.run, record, keep=self.keep
            )


def copy(tree: Any) -> Any:
    """For a step that consumes what it is given; strongly typed, as what it returns will be."""
    return jax.tree.map(lambda a: jnp.array(a, jnp.asarray(a).dtype), tree)


def checkpoints_module() -> ModuleType:
    from .. import checkpoints  # not before it is needed: orbax takes a second to load

    return checkpoints


def _arrays(batch: Any) -> tuple[Any, ...]:
    """The loss's arguments; what is no JAX array, a tensor of torch's for one, as numpy's."""
    batch = tuple(batch) if isinstance(batch, tuple | list) else (batch,)
    return jax.tree.map(lambda a: a if isinstance(a, jax.Array) else np.asarray(a), batch)


@jax.jit
def _finite(tree: Any) -> Any:
    return jnp.array([jnp.isfinite(a).all() for a in jax.tree.leaves(tree)]).all()


def _check_number(given: int, before: int, seen: Seen, folder: Any) -> None:
    """Of an epoch's batches; `before` were there when the checkpoint was saved."""
    if given == 0:
        again = ": can they be gone through only once, as a generator's?" if seen.epoch else ""
        raise ValueError(f"`batches` gave none in epoch {seen.epoch}{again}")
    if given < before:
        raise ValueError(
            f"`batches` gave {given} in epoch {seen.epoch}, but the checkpoint in {folder} has "
            f"gone through {before}: are they other ones?"
        )
