"""Training: a step as a pure function, and the loop around it.

Import this module by name: it needs optax, rich and, for checkpoints, orbax, which the rest of
jaxrnn does not.
"""

import functools
import hashlib
import math
import operator
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .._check import check_key, check_positive
from .._schedules import check_rates
from .._trees import describe, difference, norm
from ..optim import Plateau
from ._history import History, Seen


class Metrics(NamedTuple):
    """A step's loss, the norm of its gradient before any clipping, and what else the loss gave."""

    loss: Float[Array, ""]
    grad_norm: Float[Array, ""]
    aux: Any = None


def train_step(
    loss: Callable[..., Any], optimizer: optax.GradientTransformation, *, has_aux: bool = False
) -> Callable[..., tuple[Any, Any, Metrics]]:
    """A step from a loss and an optimiser: what `zero_grad`, `backward` and `step` do in torch.

    The function that it returns is jitted, and computes::

        value, gradient = jax.value_and_grad(loss)(params, *batch)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        params = optax.apply_updates(params, updates)

    It is pure: scan over it, `vmap` it, or give it arrays that are split over a mesh.

    Args:
        loss: `loss(params, *batch, **options)`, a scalar, or with `has_aux` a scalar and anything
            else, as in `jax.value_and_grad`; batch and options are arrays.
        optimizer: of `jaxrnn.optim` or optax; clipping is a link of its chain.
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


class Fitted(NamedTuple):
    """The last parameters, those after the best epoch, and the history.

    The best epoch is that of the lowest `validation`, or without it the lowest `epoch_loss`.
    """

    params: Any
    best: Any
    history: History


def fit(
    loss: Callable[..., Any],
    optimizer: optax.GradientTransformation | Callable[[Any], optax.GradientTransformation],
    params: Any,
    batches: Iterable[Any] | Callable[[int], Iterable[Any]],
    *,
    epochs: int,
    lr: Float[ArrayLike, ""] | optax.Schedule | Plateau | None = None,
    key: PRNGKeyArray | None = None,
    state: Any = None,
    validate: Callable[[Any], Any] | None = None,
    patience: int | None = None,
    checkpoints: str | PathLike[str] | None = None,
    keep: int = 3,
    save_every: int | None = None,
    progress: bool = True,
) -> Fitted:
    """Trains for some epochs: the loop around `train_step`.

    The loop that this replaces, in its plainest form::

        step, opt_state = train_step(loss, optimizer), optimizer.init(params)
        for epoch in range(epochs):
            for batch in batches:
                params, opt_state, metrics = step(params, opt_state, *batch)

    It is compiled once, and again only for a batch of other sizes.

    Args:
        loss: `loss(params, *batch)`, a scalar.
        optimizer: of `jaxrnn.optim` or optax; or, with `lr`, a function of the rate, such as
            `optim.adam` itself.
        params: where to start; a tree of arrays, which stays as it is.
        batches: tuples of arrays (or trees of them), in an iterable that can be gone through once
            an epoch, such as a list or torch's `DataLoader`; or a function of the epoch, from 0,
            that returns one. All have the same tree, dtypes and numbers of axes.
        epochs: how many, those before a checkpoint included.
        lr: the rate; a schedule, which is called with the epoch, from 0; or
            `optim.reduce_lr_on_plateau`, which is stepped after every epoch with its validation, or
            without `validate` its loss.
        key: the loss is then called with `key=`, at every step another; and never without it.
        state: carried from batch to batch, for back-propagation that is truncated between them. The
            loss is then called with `state=` and returns `(value, state)`. Every epoch starts with
            this one.
        validate: `validate(params)`, a number after every epoch, lower is better. It is called as
            it is: `jax.jit` it.
        patience: stop after more than so many epochs in a row without a lower validation, or
            without `validate` loss.
        checkpoints: a folder. If there are checkpoints in it, the training goes on after the last
            one, and given the same arguments it becomes, bit for bit, the training that was never
            stopped; for that, a function of the epoch can shuffle, a generator or a `DataLoader`
            that has a state of its own cannot. A warning tells what of `params`, `key` and the
            first rate is not what it began with; another loss, state or data are not seen.
        keep: how many checkpoints to keep, each with the best parameters so far.
        save_every: how many steps there are between checkpoints, at least; they are saved after
            every epoch by default, and always at the end.
        progress: whether to show a bar, with the mean of the epoch's loss so far.

    Raises:
        FloatingPointError: the loss or the parameters became NaN or infinite; which step and batch
            it was, and the last good checkpoint.
        ValueError: no batches, or one that differs from the first in more than sizes; checkpoints
            of which none can be used; an argument outside its range.
        TypeError: `lr` with an optimiser that has its own, or neither.

    Source: https://docs.pytorch.org/tutorials/beginner/introyt/trainingyt.html

    >>> loss = lambda w, x: ((w - x) ** 2).mean()
    >>> fitted = fit(loss, optax.sgd(0.5), jnp.zeros(()), [np.ones(4)], epochs=2, progress=False)
    >>> fitted.params, fitted.history.loss
    (Array(1., dtype=float32), array([1., 0.]))
    """
    check_positive(epochs=epochs, keep=keep)
    _check_options(optimizer, lr, key, patience, checkpoints, save_every)
    params, plateau = _copy(params), _plateau(lr)
    rate = _rate(lr, plateau, 0)
    # On the parameters' devices, though it does not depend on their values: or it would be moved
    # there by the first step, and the second be compiled anew.
    opt_state = jax.jit(_made(optimizer, rate).init, keep_unused=True)(params)
    run = _Run(params, opt_state, _copy(state), plateau, _copy(params))
    seen = Seen(begun=_fingerprints(params=params, key=key, lr=rate))
    if checkpoints is not None and (found := _checkpoints().restore(checkpoints, run)):
        run, seen = found.tree, _resumed(found.record, seen, lr, validate, checkpoints)
    loop = _Loop(run, seen, _step(loss, optimizer), checkpoints, keep, save_every or 0)
    with _bar(progress, epochs) as show:
        show(seen, None)
        while seen.epoch < epochs and (patience is None or seen.stale <= patience):
            rate = _rate(lr, loop.run.plateau, seen.epoch)
            given = batches(seen.epoch) if callable(batches) else batches
            loop.epoch(given, state, rate, key, show)
            params = _copy(loop.run.params)
            seen.end_epoch(
                None if rate is None else float(rate),
                None if validate is None else _number(validate(params)),
            )
            if seen.stale == 0:
                loop.run = loop.run._replace(best=params)
            if isinstance(lr, Plateau):
                after = jax.device_get(lr.step(loop.run.plateau, seen.scores[-1]))
                loop.run = loop.run._replace(plateau=after)
            show(seen, given)
            if len(seen.loss) >= seen.saved + loop.save_every:
                loop.save()
    if seen.saved < len(seen.loss):
        loop.save()
    return Fitted(loop.run.params, loop.run.best, seen.history())


class _Run(NamedTuple):
    """The arrays of a training: what a checkpoint holds."""

    params: Any
    opt_state: Any
    state: Any
    plateau: Any  # numpy's numbers, which are at home in every process
    best: Any


class _Loop:
    """A training under way: its arrays, what it has seen, and the steps that still run."""

    def __init__(
        self, run: _Run, seen: Seen, step: Any, folder: Any, keep: int, save_every: int
    ) -> None:
        self.run, self.seen, self.step = run, seen, step
        self.folder, self.keep, self.save_every = folder, keep, save_every
        self.resumed, self.pending, self.first = len(seen.loss), [], {}

    def epoch(self, batches: Iterable[Any], state: Any, rate: Any, key: Any, show: Any) -> None:
        """All of its batches, but for those that a checkpoint has gone through."""
        seen, n = self.seen, self.seen.start - 1
        if self.resumed <= seen.start:
            self.run = self.run._replace(state=_copy(state))
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
            _checkpoints().save(self.folder, self.seen.saved, self.run, record, keep=self.keep)


def _copy(tree: Any) -> Any:
    """For a step that consumes what it is given; strongly typed, as what it returns will be."""
    return jax.tree.map(lambda a: jnp.array(a, jnp.asarray(a).dtype), tree)


def _step(loss: Callable[..., Any], optimizer: Any) -> Callable[..., Any]:
    """`train_step` with a rate, the step's own key, and a state that is carried."""

    @functools.partial(jax.jit, donate_argnums=0)
    def step(run: tuple[Any, Any, Any], rate: Any, key: Any, n: Any, batch: Any) -> Any:
        params, opt_state, state = run
        options = {} if key is None else {"key": jax.random.fold_in(key, n)}
        options |= {} if state is None else {"state": state}
        one = train_step(loss, _made(optimizer, rate), has_aux=state is not None)
        params, opt_state, metrics = one(params, opt_state, *batch, **options)
        # Of the same leaves: an LSTM's may have been given as a pair.
        leaves = jax.tree.leaves(metrics.aux)
        if wrong := difference(describe(leaves), describe(jax.tree.leaves(state))):
            raise ValueError(f"the `state` that `loss` returns must be like the one given: {wrong}")
        state = jax.tree.unflatten(jax.tree.structure(state), leaves)
        new = {"params": params, "opt_state": opt_state, "state": state}
        return new, metrics._replace(aux=None)

    return step


def _checkpoints() -> ModuleType:
    from .. import checkpoints  # not before it is needed: orbax takes a second to load

    return checkpoints


def _made(optimizer: Any, rate: Any) -> optax.GradientTransformation:
    return optimizer if rate is None else optimizer(rate)


def _rate(lr: Any, plateau: Any, epoch: int) -> Any:
    if lr is None:
        return None
    rate = plateau.lr if plateau else lr(epoch) if callable(lr) else lr
    check_rates(lr=rate)
    return jnp.asarray(rate, float)


def _plateau(lr: Any) -> Any:
    if not isinstance(lr, Plateau):
        return None
    state = jax.device_get(lr.init())
    if state.best < 0:
        raise ValueError(
            "`lr` must be a plateau of mode 'min', since `fit` takes a lower validation for a "
            "better one: let `validate` return 1 - accuracy, for one"
        )
    return state


def _fingerprints(**given: Any) -> dict[str, str]:
    """By which one training is told from another."""
    given["key"] = None if given["key"] is None else jax.random.key_data(given["key"])
    bits = lambda tree: b"".join(np.asarray(a).tobytes() for a in jax.tree.leaves(tree))
    return {name: hashlib.sha256(bits(tree)).hexdigest() for name, tree in given.items()}


def _resumed(record: dict[str, Any], new: Seen, lr: Any, validate: Any, folder: Any) -> Seen:
    """What a checkpoint has recorded, if it can be gone on with."""
    seen = Seen(**record)
    if seen.epoch and bool(seen.lr) != (lr is not None):
        raise ValueError(f"the training in {folder} cannot go on: one of the two was without `lr`")
    if seen.epoch and bool(seen.validation) != (validate is not None):
        raise ValueError(
            f"the training in {folder} cannot go on: one of the two was without `validate`"
        )
    other = [f"`{name}`" for name, sum in seen.begun.items() if sum != new.begun[name]]
    if other:
        warnings.warn(
            f"the training in {folder}, which goes on after step {seen.saved}, began with other "
            f"{' and '.join(other)}: for a new training, name another folder",
            stacklevel=3,
        )
    return seen


def _arrays(batch: Any) -> tuple[Any, ...]:
    """The loss's arguments; what is no JAX array, a tensor of torch's for one, as numpy's."""
    batch = tuple(batch) if isinstance(batch, tuple | list) else (batch,)
    return jax.tree.map(lambda a: a if isinstance(a, jax.Array) else np.asarray(a), batch)


def _number(validation: Any) -> float:
    try:
        return float(np.asarray(validation).item())
    except (TypeError, ValueError):
        raise TypeError(
            f"`validate` must return one number, got {type(validation).__name__} of shape "
            f"{np.shape(validation)}"
        ) from None


@jax.jit
def _finite(tree: Any) -> Any:
    return jnp.array([jnp.isfinite(a).all() for a in jax.tree.leaves(tree)]).all()


def _check_options(
    optimizer: Any, lr: Any, key: Any, patience: Any, checkpoints: Any, save_every: Any
) -> None:
    fixed = hasattr(optimizer, "init") and hasattr(optimizer, "update")
    if not fixed and not callable(optimizer):
        raise TypeError(
            "`optimizer` must be an optax transformation or a function of the rate, got "
            f"{type(optimizer).__name__}"
        )
    if fixed and lr is not None:
        raise TypeError(
            "`lr` needs an `optimizer` that is a function of it, such as optim.adam, but the one "
            "given has a rate already"
        )
    if not fixed and lr is None:
        raise TypeError("`optimizer` is a function of the rate, so it needs `lr`, which is missing")
    if key is not None:
        check_key(key)
    if save_every is not None:
        check_positive(save_every=save_every)
    if patience is not None and not (isinstance(patience, int) and patience >= 0):
        raise ValueError(f"`patience` must be an integer of at least 0, got {patience}")
    if checkpoints is not None and (checkpoints == "" or Path(checkpoints).is_file()):
        raise ValueError(f"`checkpoints` must name a folder, got {str(checkpoints)!r}")


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


@contextmanager
def _bar(progress: bool, epochs: int) -> Iterator[Callable[..., None]]:
    """A bar over the batches of an epoch, or where no terminal is, a line for each epoch.

    On the first process only.
    """
    console, shown = Console(stderr=True), 0.0
    visible = progress and jax.process_index() == 0
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    hidden = not (visible and console.is_terminal)
    with Progress(*columns, TimeElapsedColumn(), console=console, disable=hidden) as bar:
        task = bar.add_task("", total=None)

        def show(seen: Seen, batches: Any, n: int | None = None) -> None:
            """After batch `n` of an epoch, or after an epoch, or before the first."""
            nonlocal shown
            # A mean over many steps is not for every step.
            if not visible or (n is not None and (hidden or time.monotonic() < shown + 0.1)):
                return
            shown = time.monotonic()
            ended = n is None
            losses = seen.epoch_loss[-1:] if ended else seen.loss[seen.start :]
            text = f"epoch {seen.epoch + (not ended)}/{epochs}"
            text += f"  loss {np.mean(losses):.4g}" if losses else ""
            text += f"  validation {seen.validation[-1]:.4g}" if seen.validation else ""
            before, end = [0, 0, *seen.ends][-2:]
            done = end - before if ended else n + 1
            total = done if ended else operator.length_hint(batches)
            if hidden:
                console.print(text)
            else:
                bar.tasks[0].total = total or None  # which `update` would take for no change
                bar.update(task, description=text, completed=done)

        yield show
