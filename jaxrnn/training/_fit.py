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

from .._check import check_key, check_positive
from .._schedules import Plateau, check_rates
from ._history import History, Seen
from ._loop import Loop, Run, checkpoints_module, copy
from ._progress import show_progress
from ._step import loop_step, made


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
    params, plateau = copy(params), _plateau(lr)
    rate = _rate(lr, plateau, 0)
    # On the parameters' devices, though it does not depend on their values: or it would be moved
    # there by the first step, and the second be compiled anew.
    opt_state = jax.jit(made(optimizer, rate).init, keep_unused=True)(params)
    run = Run(params, opt_state, copy(state), plateau, copy(params))
    seen = Seen(begun=_fingerprints(params=params, key=key, lr=rate))
    if checkpoints is not None and (found := checkpoints_module().restore(checkpoints, run)):
        run, seen = found.tree, _resumed(found.record, seen, lr, validate, checkpoints)
    loop = Loop(run, seen, loop_step(loss, optimizer), checkpoints, keep, save_every or 0)
    with show_progress(progress, epochs) as show:
        show(seen, None)
        while seen.epoch < epochs and (patience is None or seen.stale <= patience):
            rate = _rate(lr, loop.run.plateau, seen.epoch)
            given = batches(seen.epoch) if callable(batches) else batches
            loop.epoch(given, state, rate, key, show)
            params = copy(loop.run.params)
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


def _number(validation: Any) -> float:
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
    if patience is not None and not (isinstance(patience, int) and patience >= 0):
        raise ValueError(f"`patience` must be an integer of at least 0, got {patience}")
    if checkpoints is not None and (checkpoints == "" or Path(checkpoints).is_file()):
        raise ValueError(f"`checkpoints` must name a folder, got {str(checkpoints)!r}")
