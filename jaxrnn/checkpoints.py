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
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from ._check import check_positive
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
        tree: JAX's arrays, or numpy's, which every process has whole; keys of `jax.random`, too.
        record: what JSON can hold; numbers come back with every digit, NaN and inf too.
        keep: how many to keep, this one included.

    Raises:
        ValueError: `step` is not above the others, or `keep` no positive integer.

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
    """Reads the last checkpoint that is sound, or None where there is none at all.

    Arrays and record are held against the checksums that were saved with them. A checkpoint that is
    damaged, or of another training, is passed over with a warning, and moved to a folder
    `<step>.refused.…`.

    Args:
        folder: as of `save`.
        like: the tree that is wanted, with the same shapes, dtypes and shardings.

    Raises:
        ValueError: there are checkpoints, but not one that is sound and has this tree.
        OSError: the file system does not let them be read.

    Source: that of `save`.
    """
    if not Path(folder).is_dir():
        return None
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


def _array(leaf: Any) -> Any:
    """What orbax can hold; numpy's where JAX has not been told a place, lest it be tied to one."""
    if _is_key(leaf):
        leaf = jax.random.key_data(leaf)
    return leaf if isinstance(leaf, jax.Array) and leaf.committed else np.asarray(leaf)


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _filled(arrays: list[Any]) -> dict[str, Any]:
    """Those that are not empty, which orbax refuses; and one more, since it wants at least one."""
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
            found = item(leaves=ocp.args.StandardRestore(targets))["leaves"]
            arrays = [found.get(str(i), a) for i, a in enumerate(arrays)]
            whole = _checksums(arrays, about["record"]) == about["sums"]
            why = "" if whole else "is damaged (a checksum is wrong)"
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _RefusedError(f"is damaged: {_first_line(error)}") from error
    except (OSError, MemoryError):  # which may be over the next time
        raise
    except Exception as error:  # each part of orbax has its own for what it cannot read
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
    """To write, with `keep`, or to read."""
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        # What a killed process has left. Orbax does it in a thread, which only `save` waits for.
        cleanup_tmp_directories=keep is not None,
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
