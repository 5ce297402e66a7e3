"""The losses, norms, rates and scores of a training: as it goes on, and at its end."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class History(NamedTuple):
    """Losses, norms, rates and scores of a training; an epoch's losses are means over its steps.

    `lr` and `validation` are empty if `fit` had no such argument.
    """

    loss: Float[np.ndarray, " steps"]
    grad_norm: Float[np.ndarray, " steps"]
    epoch_loss: Float[np.ndarray, " epochs"]
    epoch_grad_norm: Float[np.ndarray, " epochs"]
    lr: Float[np.ndarray, " epochs"]
    validation: Float[np.ndarray, " epochs"]


@dataclass
class Record:
    """The same as lists, which grow and which a checkpoint holds as JSON. All counts start at 0."""

    loss: list[float] = field(default_factory=list)
    grad_norm: list[float] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)  # the number of steps when each epoch ended
    epoch_loss: list[float] = field(default_factory=list)
    epoch_grad_norm: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best: int = 0  # the epoch
    saved: int = 0  # the step of the last checkpoint
    begun: dict[str, str] = field(default_factory=dict)  # fingerprints of the first arguments

    @property
    def epoch(self) -> int:
        return len(self.ends)

    @property
    def start(self) -> int:
        """The first step of this epoch."""
        return self.ends[-1] if self.ends else 0

    @property
    def scores(self) -> list[float]:
        return self.validation or self.epoch_loss

    @property
    def stale(self) -> int:
        """How many epochs have passed since the best one."""
        return max(self.epoch - 1 - self.best, 0)

    def where(self, n: int) -> str:
        """Names a step of this epoch in words."""
        return f"step {n}, batch {n - self.start} of epoch {self.epoch} (all from 0)"

    def end_epoch(self, lr: float | None, validation: float | None) -> None:
        self.epoch_loss.append(float(np.mean(self.loss[self.start :])))
        self.epoch_grad_norm.append(float(np.mean(self.grad_norm[self.start :])))
        self.ends.append(len(self.loss))
        self.lr += [] if lr is None else [lr]
        self.validation += [] if validation is None else [validation]
        best, score = self.scores[self.best], self.scores[-1]
        if score < best or (math.isnan(best) and not math.isnan(score)):
            self.best = self.epoch - 1

    def history(self) -> History:
        return History(*(np.array(getattr(self, name)) for name in History._fields))
