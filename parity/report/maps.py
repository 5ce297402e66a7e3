"""Where in a tensor the error is: the numbers behind a picture."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..criterion import Block, Cut, parts, rms


class Map(NamedTuple):
    """The error of each number in parts of the allowance of its block: `used`, (rows, columns).

    Of time steps, layers and states it holds the largest of the batch. `labels` name the blocks,
    which lie along the rows, the tensor's `axis`.
    """

    tensor: str
    used: np.ndarray
    axis: int
    axes: tuple[str, str]
    labels: list[str]


def map_of(truth: np.ndarray, jax: np.ndarray, cut: Cut, blocks: Sequence[Block]) -> Map:
    """Returns the map of the tensor that was judged by these blocks."""
    error = np.abs(jax.astype(np.longdouble) - truth)
    used, places = np.full(truth.shape, np.nan), parts(truth.shape, cut)
    for block in blocks[:1] if len(places) == 1 else [b for b in blocks if b.label]:
        place = places[1 + cut.labels.index(block.label) if block.label else 0]
        used[place] = error[place] / (block.allowed * (rms(truth[place]) or 1.0))
    kind = cut.labels[0].partition(" ")[0] if len(places) > 1 else ""
    axis = cut.axis if kind else truth.ndim - 2
    others = tuple(i for i in range(truth.ndim - 1) if i != axis)
    is_weight = kind == "gate" or (cut.batch_axis is None and truth.ndim == 2)
    names = {"step": "time step", "layer": "layer", "gate": "row"}
    rows = names.get(kind, "row" if is_weight else "batch row")
    columns = "column" if is_weight else "feature"
    labels = cut.labels if kind else []
    return Map(blocks[0].tensor, used.max(axis=others), axis, (rows, columns), labels)
