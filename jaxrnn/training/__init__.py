"""Training: a step as a pure function, and the loop around it.

Import this module by name: it needs optax, rich and, for checkpoints, orbax, which the rest of
jaxrnn does not.
"""

from ._fit import Fitted, fit
from ._history import History
from ._step import Metrics, train_step


__all__ = ["Fitted", "History", "Metrics", "fit", "train_step"]
