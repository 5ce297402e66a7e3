"""From series and sequences to batches: windows, normalisation, batches, chunks.

These functions run on the host, in numpy; `normalise`, `denormalise` and `chunks` also take JAX's
arrays, and run inside `jit`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Shaped

from ._check import as_array, as_integers, check_positive


Real = Array | np.ndarray | np.number | float


class Scale(NamedTuple):
    """The `shift` that `normalise` subtracts, and the `scale` it divides by, for each feature."""

    shift: Float[Real, "*features"]
    scale: Float[Real, "*features"]


def windows(
    series: Shaped[ArrayLike, "N *features"] | Sequence[Any], size: int, *, horizon: int = 1
) -> tuple[Shaped[np.ndarray, "windows size *features"], Shaped[np.ndarray, "windows *features"]]:
    r"""Returns every window of a series, and the value to forecast from it.

    .. math:: x_i = s_{i : i + size}, \quad y_i = s_{i + size + horizon - 1}

    Split the series into training and test parts first: windows overlap.

    Args:
        series: (N,) or (N, features).
        size: the number of steps in a window.
        horizon: how many steps after the window's last step `y` comes.

    Returns:
        ``(x, y)`` of the shapes (N - size - horizon + 1, size[, features]) and (N - size - horizon
        + 1[, features]), batch-first. Both are read-only views of the series.

    Raises:
        ValueError: the series is too short for a single window, or a size or horizon is not a
            positive integer.

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
    r"""Returns the scale on which `x` runs from 0 to 1.

    .. math:: shift = \min x, \quad scale = \max x - \min x

    It is fitted for each feature, over all axes but the last; with one axis, over everything. A
    constant feature gets the scale 1, and normalises to 0. Fit on the training part only.

    Args:
        x: (N,) or (…, features).

    Returns:
        A `Scale` in the dtype of `x`, float64 for integers.

    Raises:
        ValueError: `x` is a scalar, is empty, or has a NaN or an infinity.
        TypeError: `x` does not have real numbers.

    Source: https://scikit-learn.org/stable/modules/generated/sklearn.preprocessing.MinMaxScaler.html

    >>> scale = fit_min_max(np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> normalise(scale, np.array([[2.0, 5.0]]))
    array([[0.5, 0. ]])
    """
    return _fit(x, lambda x, low, high: (low, high - low))


def fit_z_score(x: Shaped[ArrayLike, "*_ features"] | Sequence[Any]) -> Scale:
    r"""Returns the scale on which `x` has mean 0 and standard deviation 1, as `fit_min_max` does.

    .. math:: shift = \bar x, \quad scale = \sqrt{\overline{(x - \bar x)^2}}

    The standard deviation is biased (the population's), as in numpy and scikit-learn's
    StandardScaler; `torch.std` divides by N - 1.

    Source: https://scikit-learn.org/stable/modules/generated/sklearn.preprocessing.StandardScaler.html

    >>> normalise(fit_z_score(np.array([1.0, 3.0])), np.array([1.0, 3.0, 4.0]))
    array([-1.,  1.,  2.])
    """
    return _fit(x, lambda x, low, high: (x.mean(0), x.std(0)))


def normalise(scale: Scale, x: Shaped[Real, "*shape"]) -> Float[Real, "*shape"]:
    """Returns ``(x - shift) / scale``, in the dtype that numpy or JAX gives it.

    Args:
        scale: from `fit_min_max` or `fit_z_score`.
        x: an array of numpy or JAX; if `scale` was fitted on features, they are its last axis.

    Raises:
        ValueError: `scale` was fitted on another number of features than `x` has.
        TypeError: `scale` is not a `Scale`.

    Source: https://scikit-learn.org/stable/modules/preprocessing.html

    >>> normalise(Scale(shift=10.0, scale=2.0), np.array([10.0, 14.0]))
    array([0., 2.])
    """
    _check_scale(scale, x)
    return (x - scale.shift) / scale.scale


def denormalise(scale: Scale, x: Shaped[Real, "*shape"]) -> Float[Real, "*shape"]:
    """Returns ``x * scale + shift``, the inverse of `normalise`, with its arguments and errors.

    Source: https://scikit-learn.org/stable/modules/preprocessing.html

    >>> denormalise(Scale(shift=10.0, scale=2.0), np.array([0.0, 2.0]))
    array([10., 14.])
    """
    _check_scale(scale, x)
    return x * scale.scale + scale.shift


def batches(
    n: int, batch_size: int, *, rng: np.random.Generator | None = None, drop_last: bool = False
) -> list[Int[np.ndarray, "_"]]:
    """Splits the indices 0 to n - 1 into batches: one epoch of `torch.utils.data.DataLoader`.

    Args:
        n: the number of examples.
        batch_size: the number of examples in a batch; the last batch may be smaller.
        rng: shuffles them; call again for the next epoch. Without it they are in order.
        drop_last: whether to leave out a smaller last batch, so that `jit` sees one shape.

    Returns:
        A list of index arrays, for `x[i], y[i]`.

    Raises:
        ValueError: `n` or `batch_size` is not a positive integer, or `drop_last` leaves no batch.
        TypeError: `rng` is not a numpy Generator.

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
    """Splits sequences into batches of similar length, which need little padding.

    The share of padding in such batches is
    ``1 - lengths.sum() / sum(len(i) * lengths[i].max() for i in batches)``.

    Args:
        lengths: (n,) the length of each sequence.
        batch_size: the number of sequences in a batch; the batch of the longest may be smaller.
        rng: shuffles sequences of equal length, and the batches. Without it sequences are in order,
            and the shortest batch is first.

    Returns:
        A list of index arrays with every index once, each by growing length.

    Raises:
        ValueError: `lengths` does not have one axis, is empty or has a negative length, or
            `batch_size` is not a positive integer.
        TypeError: `lengths` are traced or not integers, or `rng` is not a numpy Generator.

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
    sorted_batches = _cut(order[np.argsort(array[order], kind="stable")], batch_size)
    return [sorted_batches[i] for i in _order(len(sorted_batches), rng)]


def chunks(
    x: Shaped[Array | np.ndarray, "..."], size: int, *, batch_first: bool = False
) -> list[Any]:
    """Cuts a long batch along time, for back-propagation that is truncated at the cuts.

    Carry the state from chunk to chunk, with ``jax.lax.stop_gradient`` to truncate. The chunk that
    starts at ``t`` has the lengths ``(lengths - t).clip(0, size)``.

    Args:
        x: (T, …), or (B, T, …) with `batch_first`; an array of numpy or JAX.
        size: the number of time steps in a chunk; the last chunk may have fewer.
        batch_first: whether time is the second axis.

    Returns:
        A list of arrays, whose concatenation over time is `x`.

    Raises:
        ValueError: `size` is not a positive integer, or `x` has no time axis or no time step.

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
    # The scale alone does not show it: a constant's mean, and so its deviation, may be rounded.
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
