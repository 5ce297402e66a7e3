"""The loop around a training step: epochs, rates, validation, checkpoints."""

import hashlib
import warnings
from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Float, PRNGKeyArray

from .._check import check_key, check_positive, is_integer
from ..optim import Plateau
from ..optim._schedules import check_rates
from ._history import History, Record
from ._loop import Loop, Run, copy
from ._progress import show_progress
from ._step import loop_step, optimizer_at


class Fitted(NamedTuple):
    """The last parameters, the parameters after the best epoch, and the history.

    The best epoch has the lowest `validation`, or without it the lowest `epoch_loss`.
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

    In its plainest form it replaces this loop::

        step, opt_state = train_step(loss, optimizer), optimizer.init(params)
        for epoch in range(epochs):
            for batch in batches:
                params, opt_state, metrics = step(params, opt_state, *batch)

    A step is compiled once, and again only for a batch of other sizes.

    Args:
        loss: `loss(params, *batch)` returns a scalar.
        optimizer: an optimiser from `jaxrnn.optim` or optax; or, with `lr`, a function of the rate,
            such as `optim.adam` itself.
        params: the first parameters, a tree of arrays, which is not changed.
        batches: tuples of arrays (or trees of them), in an iterable that can be iterated over in
            every epoch, such as a list or torch's `DataLoader`; or a function of the epoch, from 0,
            that returns an iterable. All have the same tree, dtypes and numbers of axes.
        epochs: how many epochs, including those before a checkpoint.
        lr: the rate; a schedule, which is called with the epoch, from 0; or
            `optim.reduce_lr_on_plateau`, which is stepped after every epoch with its validation, or
            without `validate` its loss.
        key: if given, the loss is called with a new `key=` at every step.
        state: carried from batch to batch, for back-propagation that is truncated between them. The
            loss is then called with `state=` and returns `(value, state)`. Every epoch starts with
            this state.
        validate: `validate(params)` returns a number after every epoch; lower is better. It is
            called as it is: `jax.jit` it.
        patience: stop after more than this many epochs in a row without a lower validation, or
            without `validate` a lower loss.
        checkpoints: a folder. If it holds checkpoints, the training goes on after the last one.
            With the same arguments it gives the same result, bit for bit, as an uninterrupted one;
            for that, shuffle with a function of the epoch, not with a generator or a `DataLoader`
            that has a state of its own. A warning says which of `params`, `key` and the first rate
            have changed; changes of the loss, the state and the data are not detected.
        keep: how many checkpoints to keep, each with the best parameters so far.
        save_every: the least number of steps between checkpoints; by default one is saved after
            every epoch. One is always saved at the end.
        progress: whether to show a bar, with the mean of the epoch's loss so far.

    Raises:
        FloatingPointError: the loss or the parameters became NaN or infinite; the message names the
            step, the batch and the last good checkpoint.
        ValueError: there are no batches, or one differs from the first in more than sizes; no
            checkpoint can be used; an argument is outside its range.
        TypeError: there is an `lr` and the optimiser has its own, or both are missing.

    Source: https://docs.pytorch.org/tutorials/beginner/introyt/trainingyt.html

    >>> loss = lambda w, x: ((w - x) ** 2).mean()
    >>> fitted = fit(loss, optax.sgd(0.5), jnp.zeros(()), [np.ones(4)], epochs=2, progress=False)
    >>> fitted.params, fitted.history.loss
    (Array(1., dtype=float32), array([1., 0.]))
    """
    check_positive(epochs=epochs, keep=keep)
    _check_options(optimizer, lr, key, patience, checkpoints, save_every)
    params, plateau = copy(params), _plateau(lr)
    rate = _rate(lr, plateau, 0)
    # On the parameters' devices, though it does not depend on their values: otherwise the first
    # step would move it there, and the second step would be compiled again.
    opt_state = jax.jit(optimizer_at(optimizer, rate).init, keep_unused=True)(params)
    run = Run(params, opt_state, copy(state), plateau, copy(params))
    record = Record(begun=_fingerprints(params, key, rate))
    if checkpoints is not None:
        from ..checkpoints import restore  # not before it is needed: orbax takes a second to load

        if last := restore(checkpoints, run):
            run, record = last.tree, _resumed(last.record, record, lr, validate, checkpoints)
    loop = Loop(run, record, loop_step(loss, optimizer), checkpoints, keep, save_every or 0)
    with show_progress(progress, epochs) as show:
        show(record, None)
        while record.epoch < epochs and (patience is None or record.stale <= patience):
            rate = _rate(lr, loop.run.plateau, record.epoch)
            epoch_batches = batches(record.epoch) if callable(batches) else batches
            loop.epoch(epoch_batches, state, rate, key, show)
            params = copy(loop.run.params)
            record.end_epoch(
                None if rate is None else float(rate),
                None if validate is None else _number(validate(params)),
            )
            if record.stale == 0:
                loop.run = loop.run._replace(best=params)
            if isinstance(lr, Plateau):
                plateau = jax.device_get(lr.step(loop.run.plateau, record.scores[-1]))
                loop.run = loop.run._replace(plateau=plateau)
            show(record, epoch_batches)
            if len(record.loss) >= record.saved + loop.save_every:
                loop.save()
    if record.saved < len(record.loss):
        loop.save()
    return Fitted(loop.run.params, loop.run.best, record.history())


def _rate(lr: Any, plateau: Any, epoch: int) -> Any:
    """Returns the rate of an epoch as an array, None if the optimiser has its own."""
    if lr is None:
        return None
    rate = plateau.lr if plateau else lr(epoch) if callable(lr) else lr
    check_rates(lr=rate)
    return jnp.asarray(rate, float)


def _plateau(lr: Any) -> Any:
    """Returns the first state of a plateau, None if `lr` is anything else."""
    if not isinstance(lr, Plateau):
        return None
    state = jax.device_get(lr.init())
    if state.best < 0:
        raise ValueError(
            "`lr` must be a plateau of mode 'min', since `fit` takes a lower validation for a "
            "better one: let `validate` return 1 - accuracy, for one"
        )
    return state


def _fingerprints(params: Any, key: Any, lr: Any) -> dict[str, str]:
    """Returns a hash of each argument, by which a checkpoint tells one training from another."""
    key = None if key is None else jax.random.key_data(key)
    bits = lambda tree: b"".join(np.asarray(a).tobytes() for a in jax.tree.leaves(tree))
    trees = {"params": params, "key": key, "lr": lr}
    return {name: hashlib.sha256(bits(tree)).hexdigest() for name, tree in trees.items()}


def _resumed(saved: dict[str, Any], new: Record, lr: Any, validate: Any, folder: Any) -> Record:
    """Returns the record of a checkpoint, from which the training can go on."""
    record = Record(**saved)
    for name, values, argument in [
        ("lr", record.lr, lr),
        ("validate", record.validation, validate),
    ]:
        if record.epoch and bool(values) != (argument is not None):
            raise ValueError(
                f"the training in {folder} cannot go on: one of the two was without `{name}`"
            )
    changed = [f"`{name}`" for name, hash in record.begun.items() if hash != new.begun[name]]
    if changed:
        warnings.warn(
            f"the training in {folder}, which goes on after step {record.saved}, began with other "
            f"{' and '.join(changed)}: for a new training, name another folder",
            stacklevel=3,
        )
    return record


def _number(validation: Any) -> float:
    """Returns the result of `validate` as a float."""
    try:
        return float(np.asarray(validation).item())
    except (TypeError, ValueError):
        raise TypeError(
            f"`validate` must return one number, got {type(validation).__name__} of shape "
            f"{np.shape(validation)}"
        ) from None


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
    if patience is not None and not (is_integer(patience) and patience >= 0):
        raise ValueError(f"`patience` must be an integer of at least 0, got {patience}")
    if checkpoints is not None and (checkpoints == "" or Path(checkpoints).is_file()):
        raise ValueError(f"`checkpoints` must name a folder, got {str(checkpoints)!r}")
