"""The numbers that the texts' models are given: small, all sizes different."""

import numpy as np


B, T, I, H, O = 4, 6, 3, 5, 2
V, S = 11, 7  # words of the target, steps of the source
LENGTHS = np.array([3, 6, 1, 5])


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def ids(*shape: int, high: int = V, low: int = 1) -> np.ndarray:
    return np.random.default_rng([high, *shape]).integers(low, high, shape)


def padded(ids: np.ndarray) -> np.ndarray:
    """Ids with 0 beyond `LENGTHS`."""
    return np.where(np.arange(ids.shape[1]) < LENGTHS[:, None], ids, 0)


def keep(rate: float, *shape: int) -> np.ndarray:
    """A dropout mask: True where a value is kept."""
    return np.random.default_rng(shape).random(shape) >= rate
