"""A training under way: its arrays, and the steps of an epoch."""

import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._trees import describe, difference
from ._history import Record


class Run(NamedTuple):
    """The arrays of a training, as a checkpoint holds them."""

    params: Any
    opt_state: Any
    state: Any
    plateau: Any  # numpy's numbers, which every process has
    best: Any


class Loop:
    """The arrays of a training, its record, and the metrics of steps that still run."""

    def __init__(
        self, run: Run, record: Record, step: Any, folder: Any, keep: int, save_every: int
    ) -> None:
        self.run, self.record, self.step = run, record, step
        self.folder, self.keep, self.save_every = folder, keep, save_every
        self.resumed, self.pending, self.first = len(record.loss), [], {}

    def epoch(self, batches: Iterable[Any], state: Any, rate: Any, key: Any, show: Any) -> None:
        """Goes through an epoch's batches, after those that a checkpoint has been through."""
        record, n = self.record, self.record.start - 1
        if self.resumed <= record.start:
            self.run = self.run._replace(state=copy(state))
        for n, batch in enumerate(map(_arrays, batches), record.start):
            self.first = self.first or describe(batch)
            if wrong := difference(describe(batch), self.first, sizes=False):
                raise ValueError(f"`batches` must be alike, but in {record.where(n)} {wrong}")
            if n < self.resumed:
                continue
            if self.save_every and n >= record.saved + self.save_every:
                self.check()
                self.save()
            try:
                new, metrics = self.step(self.run[:3], rate, key, np.uint32(n), batch)
            except (TypeError, ValueError) as error:
                if wrong := difference(describe(batch), self.first):
                    error.add_note(f"{record.where(n)}: {wrong} as in the first batch")
                raise
            self.run = self.run._replace(**new)
            self.pending.append(metrics[:2])
            self.settle(ahead=1)
            show(record, batches, n - record.start)
        _check_count(n + 1 - record.start, self.resumed - record.start, record, self.folder)
        self.check()

    def settle(self, ahead: int = 0) -> None:
        """Records the metrics of all steps but the last `ahead`, which may still run."""
        while len(self.pending) > ahead:
            value, norm = map(float, self.pending.pop(0))
            if not math.isfinite(value):
                raise self.stop(f"the loss is {value}", len(self.record.loss))
            self.record.loss.append(value)
            self.record.grad_norm.append(norm)

    def check(self) -> None:
        self.settle()
        if not _finite(self.run.params):
            raise self.stop("the parameters are no longer finite", len(self.record.loss) - 1)

    def stop(self, why: str, n: int) -> FloatingPointError:
        """Returns an error that names the step, an earlier cause, and the last checkpoint."""
        record = self.record
        norms = enumerate(record.grad_norm[record.start :], record.start)
        first = next((i for i, norm in norms if not math.isfinite(norm)), n)
        cause = "" if first == n else f", the gradient not finite in {record.where(first)}"
        last = f"{record.saved} in {self.folder}" if record.saved else "none"
        return FloatingPointError(
            f"{why} after {record.where(n)}{cause}; the last good checkpoint: {last}"
        )

    def save(self) -> None:
        if self.folder is not None:
            from .. import checkpoints  # not before it is needed: orbax takes a second to load

            self.record.saved = len(self.record.loss)
            record = asdict(self.record)
            checkpoints.save(self.folder, self.record.saved, self.run, record, keep=self.keep)


def copy(tree: Any) -> Any:
    """Copies arrays, for a step that consumes its arguments; with strong types, as steps return."""
    return jax.tree.map(lambda a: jnp.array(a, jnp.asarray(a).dtype), tree)


def _arrays(batch: Any) -> tuple[Any, ...]:
    """Returns the loss's arguments; other arrays than JAX's, such as torch's, become numpy's."""
    batch = tuple(batch) if isinstance(batch, tuple | list) else (batch,)
    return jax.tree.map(lambda a: a if isinstance(a, jax.Array) else np.asarray(a), batch)


@jax.jit
def _finite(tree: Any) -> Any:
    return jnp.array([jnp.isfinite(a).all() for a in jax.tree.leaves(tree)]).all()


def _check_count(count: int, before: int, record: Record, folder: Any) -> None:
    """An epoch must have batches, and at least as many as `before` its checkpoint."""
    if count == 0:
        again = ": can they be gone through only once, as a generator's?" if record.epoch else ""
        raise ValueError(f"`batches` gave none in epoch {record.epoch}{again}")
    if count < before:
        raise ValueError(
            f"`batches` gave {count} in epoch {record.epoch}, but the checkpoint in {folder} has "
            f"gone through {before}: are they other ones?"
        )
