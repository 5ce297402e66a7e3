"""A progress bar for a training."""

import operator
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ._history import Record


@contextmanager
def show_progress(progress: bool, epochs: int) -> Iterator[Callable[..., None]]:
    """Shows a bar over an epoch's batches, or without a terminal prints a line for each epoch.

    Only the first process shows anything.
    """
    console, shown = Console(stderr=True), 0.0
    visible = progress and jax.process_index() == 0
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    hidden = not (visible and console.is_terminal)
    with Progress(*columns, TimeElapsedColumn(), console=console, disable=hidden) as bar:
        task = bar.add_task("", total=None)

        def show(record: Record, batches: Any, n: int | None = None) -> None:
            """Updates the bar after batch `n`; without `n`, after an epoch or before the first."""
            nonlocal shown
            # Not at every step: the mean is over all steps of the epoch.
            if not visible or (n is not None and (hidden or time.monotonic() < shown + 0.1)):
                return
            shown = time.monotonic()
            ended = n is None
            losses = record.epoch_loss[-1:] if ended else record.loss[record.start :]
            text = f"epoch {record.epoch + (not ended)}/{epochs}"
            text += f"  loss {np.mean(losses):.4g}" if losses else ""
            text += f"  validation {record.validation[-1]:.4g}" if record.validation else ""
            before, end = [0, 0, *record.ends][-2:]
            done = end - before if ended else n + 1
            total = done if ended else operator.length_hint(batches)
            if hidden:
                console.print(text)
            else:
                bar.tasks[0].total = total or None  # `update` would take None for no change
                bar.update(task, description=text, completed=done)

        yield show
