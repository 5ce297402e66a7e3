"""Checkpoints of a training: orbax writes them whole or not at all, and reading verifies them.

Import this module by name: it needs orbax, which the rest of jaxrnn does not. `training.fit` calls
it, and your own loop can too.
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
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from ._check import check_positive
from ._trees import describe, difference


class Checkpoint(NamedTuple):
    """The step at which it was saved, the arrays, and the record saved with them."""

    step: int
    tree: Any
    record: Any


def save(folder: str | PathLike[str], step: int, tree: Any, record: Any, *, keep: int) -> None:
    """Writes a checkpoint and removes all but the last `keep`.

    If the process is killed, the checkpoint is either complete or not there. Several processes must
    all call this, with a `folder` that they share.

    Args:
        folder: the folder of the training, which is made if missing; each checkpoint is a folder in
            it, named `step`.
        step: a number above the steps of the other checkpoints.
        tree: JAX's arrays, or numpy's, which every process has whole; also keys of `jax.random`.
        record: anything that JSON can hold; numbers keep every digit, also NaN and inf.
        keep: how many checkpoints to keep, including this one.

    Raises:
        ValueError: `step` is not above the others, or `keep` is not a positive integer.

    Source: https://orbax.readthedocs.io/en/stable/api_reference/checkpoint.checkpoint_manager.html
    """
    check_positive(keep=keep)
    arrays = list(map(_array, jax.tree.leaves(tree)))
    about = {"leaves": describe(tree), "sums": _checksums(arrays, record), "record": record}
    items = {"about": ocp.args.JsonSave(about), "leaves": ocp.args.StandardSave(_filled(arrays))}
    with _open(folder, keep) as manager:
        if not manager.save(step, args=ocp.args.Composite(**items)):
            raise ValueError(f"`step` must be above {manager.latest_step()}, got {step}")


def restore(folder: str | PathLike[str], like: Any) -> Checkpoint | None:
    """Reads the last checkpoint that is sound; returns None if there are no checkpoints.

    Arrays and record are verified with the checksums that were saved with them. A checkpoint that
    is damaged, or belongs to another training, is skipped with a warning, and moved to a folder
    `<step>.refused.…`.

    Args:
        folder: the folder of `save`.
        like: a tree with the shapes, dtypes and shardings of the tree to read.

    Raises:
        ValueError: there are checkpoints, but none is sound and has this tree.
        OSError: the file system cannot read them.

    Source: as for `save`.
    """
    if not Path(folder).is_dir():
        return None
    refused: dict[int, str] = {}
    with _open(folder) as manager:
        for step in sorted(manager.all_steps(), reverse=True):
            try:
                checkpoint = _read(manager, step, like)
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
        warnings.warn(f"checkpoint {step} in {folder} {why}; using {checkpoint.step}", stacklevel=3)
        if jax.process_index() == 0:
            aside = tempfile.mkdtemp(prefix=f"{step}.refused.", dir=folder)
            Path(folder, str(step)).rename(Path(aside, str(step)))
    multihost_utils.sync_global_devices("refused checkpoints are renamed")
    return checkpoint


def _array(leaf: Any) -> Any:
    """Returns an array that orbax can hold; numpy's, unless JAX has committed it to a device."""
    if _is_key(leaf):
        leaf = jax.random.key_data(leaf)
    return leaf if isinstance(leaf, jax.Array) and leaf.committed else np.asarray(leaf)


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _filled(arrays: list[Any]) -> dict[str, Any]:
    """Leaves out empty arrays, which orbax refuses; adds one, since it needs at least one."""
    return {"": np.zeros(1), **{str(i): a for i, a in enumerate(arrays) if a.size}}


def _checksums(arrays: list[Any], record: Any) -> list[int]:
    parts = [np.asarray(a).tobytes() for a in arrays]
    return [zlib.crc32(part) for part in [*parts, json.dumps(record).encode()]]


def _read(manager: ocp.CheckpointManager, step: int, like: Any) -> Checkpoint:
    leaves, tree = jax.tree.flatten(like)
    arrays = list(map(_array, leaves))
    item = lambda **args: manager.restore(step, args=ocp.args.Composite(**args))
    try:
        about = item(about=ocp.args.JsonRestore())["about"]
        if wrong := difference(about["leaves"], describe(like)):
            why = f"is of another training: {wrong}"
        else:
            targets = jax.tree.map(ocp.utils.to_shape_dtype_struct, _filled(arrays))
            restored = item(leaves=ocp.args.StandardRestore(targets))["leaves"]
            arrays = [restored.get(str(i), a) for i, a in enumerate(arrays)]
            whole = _checksums(arrays, about["record"]) == about["sums"]
            why = "" if whole else "is damaged (a checksum is wrong)"
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _RefusedError(f"is damaged: {_first_line(error)}") from error
    except (OSError, MemoryError):  # the next attempt may succeed
        raise
    except Exception as error:  # each part of orbax raises another one for damaged files
        raise _RefusedError(f"is damaged, or not jaxrnn's: {_first_line(error)}") from error
    if why:
        raise _RefusedError(why)
    wrap = lambda leaf, a: (
        jax.random.wrap_key_data(a, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else a
    )
    return Checkpoint(step, tree.unflatten(map(wrap, leaves, arrays)), about["record"])


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:120]


@contextmanager
def _open(folder: str | PathLike[str], keep: int | None = None) -> Iterator[ocp.CheckpointManager]:
    """Opens the folder, to write with `keep`, else to read."""
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        # Left by killed processes. Orbax removes them in a thread, for which only `save` waits.
        cleanup_tmp_directories=keep is not None,
        enable_async_checkpointing=False,
    )
    logger = logging.getLogger("absl")  # orbax would log pages about each refused checkpoint
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with ocp.CheckpointManager(Path(folder).absolute(), options=options) as manager:
            yield manager
    finally:
        logger.setLevel(level)


class _RefusedError(Exception):
    """The fault of a checkpoint, as the rest of a sentence about it."""
