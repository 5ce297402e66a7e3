"""The simplest forecast: linear in the values of a window."""

import numpy as np


def least_squares(x: np.ndarray, y: np.ndarray, test_x: np.ndarray) -> np.ndarray:
    """What the linear model that fits the windows (N, steps) best says of others."""
    with_one = lambda x: np.column_stack([x, np.ones(len(x), x.dtype)])
    weights, *_ = np.linalg.lstsq(with_one(x), y)
    return with_one(test_x) @ weights
