"""Checkpoints of a training: orbax writes them whole or not at all, and what is read is checked.

Import this module by name: it needs orbax, which the rest of jaxrnn does not. `training.fit` calls
it; a loop of one's own can, too.
"""

import json
import logging
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from ._trees import describe, difference


class Checkpoint(NamedTuple):
    """The step it was saved at, the arrays, and what was recorded beside them."""

    step: int
    tree: Any
    record: Any


def save(folder: str | PathLike[str], step: int, tree: Any, record: Any, *, keep: int) -> None:
    """Writes a checkpoint and removes all but the last `keep`.

    A process that is killed leaves the checkpoint complete or not there. Where there are several
    processes, all of them call this, and `folder` is one that they share.

    Args:
        folder: is made where it does not exist; each checkpoint is a folder in it, named `step`.
        step: above that of the other checkpoints there.
        tree: JAX's arrays, or numpy's, which are the same in all processes.
        record: what JSON can hold; numbers come back with every digit, NaN and inf too.
        keep: how many to keep, this one included.

    Raises:
        ValueError: `step` is not above the others.

    Source: https://orbax.readthedocs.io/en/stable/api_reference/checkpoint.checkpoint_manager.html
    """
    leaves = jax.tree.leaves(tree)
    about = {"leaves": describe(tree), "sums": _checksums(leaves, record), "record": record}
    items = {"leaves": ocp.args.StandardSave(leaves), "about": ocp.args.JsonSave(about)}
    with _open(folder, keep) as manager:
        if not manager.save(step, args=ocp.args.Composite(**items)):
            raise ValueError(f"`step` must be above {manager.latest_step()}, got {step}")


def restore(folder: str | PathLike[str], like: Any) -> Checkpoint | None:
    """Reads the last checkpoint that is sound, or None where there is none at all.

    Arrays and record are held against the checksums that were saved with them. A checkpoint that is
    damaged, or of another training, is passed over with a warning, and moved to a folder
    `<step>.refused.…`.

    Args:
        folder: as of `save`.
        like: the tree that is wanted, with the same shapes, dtypes and shardings.

    Raises:
        ValueError: there are checkpoints, but not one that is sound and has this tree.

    Source: that of `save`.
    """
    refused: dict[int, str] = {}
    with _open(folder) as manager:
        for step in sorted(manager.all_steps(), reverse=True):
            try:
                found = _read(manager, step, like)
                break
            except _RefusedError as error:
                refused[step] = str(error)
        else:
            if refused:
                step, why = next(iter(refused.items()))
                raise ValueError(
                    f"no checkpoint in {folder} can be used, and {step} {why}; to start anew, "
                    "name another folder or remove this one"
                )
            return None
    for step, why in refused.items():
        warnings.warn(f"checkpoint {step} in {folder} {why}; using {found.step}", stacklevel=3)
        if jax.process_index() == 0:
            aside = tempfile.mkdtemp(prefix=f"{step}.refused.", dir=folder)
            Path(folder, str(step)).rename(Path(aside, str(step)))
    multihost_utils.sync_global_devices("refused checkpoints are renamed")
    return found


def _checksums(leaves: list[Any], record: Any) -> list[int]:
    arrays = [np.asarray(leaf).tobytes() for leaf in leaves]
    return [zlib.crc32(part) for part in [*arrays, json.dumps(record).encode()]]


def _read(manager: ocp.CheckpointManager, step: int, like: Any) -> Checkpoint:
    leaves, tree = jax.tree.flatten(like)
    item = lambda **args: manager.restore(step, args=ocp.args.Composite(**args))
    try:
        about = item(about=ocp.args.JsonRestore())["about"]
        if wrong := difference(about["leaves"], describe(like)):
            why = f"is of another training: {wrong}"
        else:
            targets = jax.tree.map(ocp.utils.to_shape_dtype_struct, leaves)
            leaves = item(leaves=ocp.args.StandardRestore(targets))["leaves"]
            whole = _checksums(leaves, about["record"]) == about["sums"]
            why = "" if whole else "is damaged (a checksum is wrong)"
    except Exception as error:  # each part of orbax has its own for what it cannot read
        raise _RefusedError(f"is damaged, or not jaxrnn's ({type(error).__name__})") from error
    if why:
        raise _RefusedError(why)
    return Checkpoint(step, jax.tree.unflatten(tree, leaves), about["record"])


@contextmanager
def _open(folder: str | PathLike[str], keep: int | None = None) -> Iterator[ocp.CheckpointManager]:
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        cleanup_tmp_directories=True,  # what a killed process has left
        enable_async_checkpointing=False,
    )
    logger = logging.getLogger("absl")  # or orbax logs pages about what is refused in a sentence
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with ocp.CheckpointManager(Path(folder).absolute(), options=options) as manager:
            yield manager
    finally:
        logger.setLevel(level)


class _RefusedError(Exception):
    """What is wrong with a checkpoint, as the rest of a sentence about it."""
