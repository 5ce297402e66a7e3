"""What a training has seen so far, and what it gives back of it."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class History(NamedTuple):
    """What a training went through, step by step; an epoch's losses are the means of its steps.

    `lr` and `validation` are empty where `fit` was given none.
    """

    loss: Float[np.ndarray, " steps"]
    grad_norm: Float[np.ndarray, " steps"]
    epoch_loss: Float[np.ndarray, " epochs"]
    epoch_grad_norm: Float[np.ndarray, " epochs"]
    lr: Float[np.ndarray, " epochs"]
    validation: Float[np.ndarray, " epochs"]


@dataclass
class Seen:
    """Lists, since they grow, and since a checkpoint holds them as JSON. All is counted from 0."""

    loss: list[float] = field(default_factory=list)
    grad_norm: list[float] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)  # the number of steps when each epoch ended
    epoch_loss: list[float] = field(default_factory=list)
    epoch_grad_norm: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best: int = 0  # the epoch
    saved: int = 0  # the step of the last checkpoint
    begun: dict[str, str] = field(default_factory=dict)  # fingerprints of what it began with

    @property
    def epoch(self) -> int:
        return len(self.ends)

    @property
    def start(self) -> int:
        """The step with which the epoch began."""
        return self.ends[-1] if self.ends else 0

    @property
    def scores(self) -> list[float]:
        return self.validation or self.epoch_loss

    @property
    def stale(self) -> int:
        """For how many epochs none was better than the best."""
        return max(self.epoch - 1 - self.best, 0)

    def where(self, n: int) -> str:
        """For a step of the epoch that is under way."""
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
