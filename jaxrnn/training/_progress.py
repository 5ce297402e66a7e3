"""What a training shows while it runs."""

import operator
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ._history import Seen


@contextmanager
def show_progress(progress: bool, epochs: int) -> Iterator[Callable[..., None]]:
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
