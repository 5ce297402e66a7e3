"""From series and sequences to batches: windows, normalisation, batches, chunks.

Work of the host, in numpy; `normalise`, `denormalise` and `chunks` take JAX's arrays too, and run
inside `jit`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Shaped

from ._check import as_array, as_integers, check_positive


Real = Array | np.ndarray | np.number | float


class Scale(NamedTuple):
    """What `normalise` subtracts and divides by: one number, or one for each feature."""

    shift: Float[Real, "*features"]
    scale: Float[Real, "*features"]


def windows(
    series: Shaped[ArrayLike, "N *features"] | Sequence[Any], size: int, *, horizon: int = 1
) -> tuple[Shaped[np.ndarray, "windows size *features"], Shaped[np.ndarray, "windows *features"]]:
    r"""Every window of a series, and the value that is to be forecast from it.

    .. math:: x_i = s_{i : i + size}, \quad y_i = s_{i + size + horizon - 1}

    Split the series into training and test part first: windows overlap.

    Args:
        series: (N,) or (N, features).
        size: the steps in a window.
        horizon: how many steps after the window's last one its `y` stands.

    Returns:
        ``(x, y)`` of the shapes (N - size - horizon + 1, size[, features]) and (N - size - horizon
        + 1[, features]), batch-first. Both are views of the series, which cannot be written to.

    Raises:
        ValueError: a series too short for a single window, or a size or horizon that is no positive
            integer.

    Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.stride_tricks.sliding_window_view.html

    >>> windows([1, 2, 3, 4, 5], 3)
    (array([[1, 2, 3],
           [2, 3, 4]]), array([4, 5]))
    """
    array = as_array("series", series, np.asarray)
    check_positive(size=size, horizon=horizon)
    if array.ndim == 0:
        raise ValueError("`series` must have a time axis, got a scalar")
    if len(array) < size + horizon:
        raise ValueError(
            f"`series` has {len(array)} time steps, but a window of size {size} and a horizon of "
            f"{horizon} need {size + horizon}"
        )
    spans = np.lib.stride_tricks.sliding_window_view(array, size + horizon, axis=0)
    spans = np.moveaxis(spans, -1, 1)
    return spans[:, :size], spans[:, -1]


def fit_min_max(x: Shaped[ArrayLike, "*_ features"] | Sequence[Any]) -> Scale:
    r"""The scale on which `x` runs from 0 to 1.

    .. math:: shift = \min x, \quad scale = \max x - \min x

    For each feature, over all axes but the last; over everything if there is but one axis. A
    feature that is constant gets the scale 1, and normalises to 0. Fit on the training part only.

    Args:
        x: (N,) or (…, features).

    Returns:
        A `Scale` in the dtype of `x`, float64 for integers.

    Raises:
        ValueError: `x` is a scalar, is empty, or holds a NaN or an infinity.
        TypeError: `x` does not hold real numbers.

    Source: https://scikit-learn.org/stable/modules/generated/sklearn.preprocessing.MinMaxScaler.html

    >>> scale = fit_min_max(np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> normalise(scale, np.array([[2.0, 5.0]]))
    array([[0.5, 0. ]])
    """
    return _fit(x, lambda x, low, high: (low, high - low))


def fit_z_score(x: Shaped[ArrayLike, "*_ features"] | Sequence[Any]) -> Scale:
    r"""The scale on which `x` has mean 0 and standard deviation 1; otherwise as `fit_min_max`.

    .. math:: shift = \bar x, \quad scale = \sqrt{\overline{(x - \bar x)^2}}

    The standard deviation is the population's (biased), as numpy's and that of scikit-learn's
    StandardScaler; `torch.std` divides by N - 1 instead.

    Source: https://scikit-learn.org/stable/modules/generated/sklearn.preprocessing.StandardScaler.html

    >>> normalise(fit_z_score(np.array([1.0, 3.0])), np.array([1.0, 3.0, 4.0]))
    array([-1.,  1.,  2.])
    """
    return _fit(x, lambda x, low, high: (x.mean(0), x.std(0)))


def normalise(scale: Scale, x: Shaped[Real, "*shape"]) -> Float[Real, "*shape"]:
    """``(x - shift) / scale``, in the dtype that numpy, or JAX, gives to it.

    Args:
        scale: as of `fit_min_max` or `fit_z_score`.
        x: numpy's or JAX's array, its last axis the features, if `scale` was fitted on features.

    Raises:
        ValueError: `x` has another number of features than what `scale` was fitted on.
        TypeError: `scale` is no `Scale`.

    Source: https://scikit-learn.org/stable/modules/preprocessing.html

    >>> normalise(Scale(shift=10.0, scale=2.0), np.array([10.0, 14.0]))
    array([0., 2.])
    """
    _check_scale(scale, x)
    return (x - scale.shift) / scale.scale


def denormalise(scale: Scale, x: Shaped[Real, "*shape"]) -> Float[Real, "*shape"]:
    """``x * scale + shift``: takes back `normalise`, whose arguments and errors it has.

    Source: https://scikit-learn.org/stable/modules/preprocessing.html

    >>> denormalise(Scale(shift=10.0, scale=2.0), np.array([0.0, 2.0]))
    array([10., 14.])
    """
    _check_scale(scale, x)
    return x * scale.scale + scale.shift


def batches(
    n: int, batch_size: int, *, rng: np.random.Generator | None = None, drop_last: bool = False
) -> list[Int[np.ndarray, "_"]]:
    """The indices 0 to n - 1 in batches: one epoch of `torch.utils.data.DataLoader`.

    Args:
        n: the number of examples.
        batch_size: how many make a batch; the last may be smaller.
        rng: shuffles them; call again for the next epoch. Without it they come in order.
        drop_last: whether to leave out a last batch that is smaller, so that `jit` sees one shape.

    Returns:
        A list of index arrays, for `x[i], y[i]`.

    Raises:
        ValueError: `n` or `batch_size` is no positive integer, or `drop_last` leaves no batch.
        TypeError: `rng` is no numpy Generator.

    Source: https://docs.pytorch.org/docs/stable/data.html#torch.utils.data.DataLoader

    >>> batches(5, 2)
    [array([0, 1]), array([2, 3]), array([4])]
    """
    check_positive(n=n, batch_size=batch_size)
    if drop_last and n < batch_size:
        raise ValueError(f"`drop_last` leaves no batch of {batch_size} among {n} examples")
    return _cut(_order(n, rng)[: n - n % batch_size if drop_last else n], batch_size)


def batches_by_length(
    lengths: Int[ArrayLike, " n"] | Sequence[int],
    batch_size: int,
    *,
    rng: np.random.Generator | None = None,
) -> list[Int[np.ndarray, "_"]]:
    """The indices of sequences in batches of similar length, so that there is little to pad.

    The share of padding in some batches is
    ``1 - lengths.sum() / sum(len(i) * lengths[i].max() for i in batches)``.

    Args:
        lengths: (n,) the length of each sequence.
        batch_size: how many make a batch; the one of the longest may be smaller.
        rng: draws which of the equally long go together, and the order of the batches. Without it
            both are as given, the shortest first.

    Returns:
        A list of index arrays that hold every index once, each by growing length.

    Raises:
        ValueError: `lengths` has not one axis, is empty or holds a negative length, or `batch_size`
            is no positive integer.
        TypeError: `lengths` are traced or no integers, or `rng` is no numpy Generator.

    Source: Khomenko et al. (2016), sequence bucketing, https://arxiv.org/abs/1708.05604

    >>> batches_by_length([3, 1, 2, 1], 2)
    [array([1, 3]), array([2, 0])]
    """
    array = as_integers("lengths", lengths)
    check_positive(batch_size=batch_size)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"`lengths` must have the shape (n,), n at least 1, got {array.shape}")
    if array.min() < 0:
        raise ValueError(f"`lengths` must not be negative, got {array.min()}")
    order = _order(len(array), rng)
    found = _cut(order[np.argsort(array[order], kind="stable")], batch_size)
    return [found[i] for i in _order(len(found), rng)]


def chunks(
    x: Shaped[Array | np.ndarray, "..."], size: int, *, batch_first: bool = False
) -> list[Any]:
    """Cuts a long batch along time, for back-propagation that is truncated at the cuts.

    The state is carried over from chunk to chunk; ``jax.lax.stop_gradient`` on it truncates. The
    chunk that starts at ``t`` has the lengths ``(lengths - t).clip(0, size)``.

    Args:
        x: (T, …), or (B, T, …) with `batch_first`; numpy's or JAX's array.
        size: the time steps in a chunk; the last may have fewer.
        batch_first: whether time is the second axis.

    Returns:
        A list of arrays, whose concatenation over time is `x`.

    Raises:
        ValueError: `size` is no positive integer, or `x` has no time axis or no time step.

    Source: Williams & Peng (1990), https://doi.org/10.1162/neco.1990.2.4.490

    >>> chunks(np.arange(5), 2)
    [array([0, 1]), array([2, 3]), array([4])]
    """
    check_positive(size=size)
    shape, axis = np.shape(x), int(batch_first)
    if len(shape) <= axis or shape[axis] == 0:
        axes = "(B, T, …)" if batch_first else "(T, …)"
        raise ValueError(f"`x` must be {axes} with at least one time step, got shape {shape}")
    return _cut(x, size, axis)


def _cut(x: Any, size: int, axis: int = 0) -> list[Any]:
    before = (slice(None),) * axis
    return [x[*before, start : start + size] for start in range(0, x.shape[axis], size)]


def _fit(x: Any, measure: Callable[..., tuple[Any, Any]]) -> Scale:
    array = as_array("x", x, np.asarray)
    if not np.can_cast(array.dtype, np.float64):
        raise TypeError(f"`x` must hold real numbers, got {array.dtype}")
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"`x` must hold at least one value to fit, got shape {array.shape}")
    # In float64 whatever the dtype: a mean over many float32 rows would drift.
    wide = array.astype(np.float64)
    bad = np.argwhere(~np.isfinite(wide))
    if bad.size:
        raise ValueError(f"`x` must be finite, got {wide[*bad[0]]} at {bad[0].tolist()}")
    wide = wide.reshape(-1, *array.shape[1:][-1:])
    low, high = wide.min(0), wide.max(0)
    shift, scale = measure(wide, low, high)
    dtype = np.float64 if array.dtype.kind in "biu" else array.dtype
    # Not by the scale alone: a constant's mean, and so its deviation, may be off by a rounding.
    flat = (low == high) | (scale.astype(dtype) == 0)
    return Scale(np.where(flat, low, shift).astype(dtype), np.where(flat, 1, scale).astype(dtype))


def _check_scale(scale: Any, x: Any) -> None:
    if not isinstance(scale, Scale):
        raise TypeError(
            "`scale` must be a Scale, as of fit_min_max or fit_z_score, got a "
            f"{type(scale).__name__}: the arguments are (scale, x)"
        )
    features, shape = np.shape(scale.shift), np.shape(x)
    if features and shape[-1:] != features:
        raise ValueError(
            f"`x` of shape {shape} must have {features[0]} features in its last axis, as what "
            "`scale` was fitted on"
        )


def _order(n: int, rng: np.random.Generator | None) -> np.ndarray:
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise TypeError(
            "`rng` must be a numpy Generator, such as np.random.default_rng(0), got "
            f"{type(rng).__name__}"
        )
    return np.arange(n) if rng is None else rng.permutation(n)
