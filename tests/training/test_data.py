"""Law: windows and scales are what plain loops make of the same data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers import assert_refused, row
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxrnn.data import (
    Scale,
    denormalise,
    fit_min_max,
    fit_z_score,
    normalise,
    windows,
)


FITS = [fit_min_max, fit_z_score]
DTYPES = [np.float64, np.float32, np.float16]
random_cases = settings(max_examples=50, deadline=None, derandomize=True)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("features", [(), (1,), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("horizon", [1, 2, 4])
@pytest.mark.parametrize("size", [1, 3, 6])
def test_windows(size, horizon, features):
    for n in (size + horizon, size + horizon + 1, 17):
        series = rng().normal(size=(n, *features)).astype(np.float32)
        x, y = windows(series, size, horizon=horizon)
        starts = range(n - size - horizon + 1)
        loop = np.array([series[i : i + size] for i in starts])
        labels = np.array([series[i + size - 1 + horizon] for i in starts])
        np.testing.assert_array_equal(x, loop, strict=True)
        np.testing.assert_array_equal(y, labels, strict=True)


def test_windows_are_views_that_cannot_be_written():
    series = np.arange(6.0)
    for part in windows(series, 2):
        assert np.shares_memory(part, series)
        assert not part.flags.writeable
    assert series.flags.writeable


@pytest.mark.parametrize("shape", [(50,), (50, 3), (5, 10, 3)], ids=str)
@pytest.mark.parametrize("dtype", [*DTYPES, np.int32, bool, jnp.bfloat16])
def test_fits(dtype, shape):
    x = rng().integers(0, 2 if dtype is bool else 100, size=shape).astype(dtype)
    wide, wanted_dtype = x.astype(float), np.dtype(dtype if x.dtype.kind in "fV" else float)
    columns = [wide] if wide.ndim == 1 else [wide[..., i] for i in range(3)]
    shift, scale = fit_min_max(x)
    assert shift.dtype == scale.dtype == wanted_dtype
    assert shift.shape == scale.shape == (() if wide.ndim == 1 else (3,))
    np.testing.assert_array_equal(shift.reshape(-1), [c.min() for c in columns])
    np.testing.assert_array_equal(scale.reshape(-1), [c.max() - c.min() for c in columns])
    # What a plain sum gives, but for the rounding to the dtype, and its own.
    shift, scale = (found.astype(float).reshape(-1) for found in fit_z_score(x))
    means = [sum(c.ravel()) / c.size for c in columns]
    centred = [c.ravel() - mean for c, mean in zip(columns, means, strict=True)]
    biased = [(sum(c**2) / c.size) ** 0.5 for c in centred]
    rounding = max(float(jnp.finfo(wanted_dtype).eps), 1e-14)
    np.testing.assert_allclose(shift, means, rtol=rounding)
    np.testing.assert_allclose(scale, biased, rtol=rounding)


def test_z_score_is_torchs_biased_deviation():
    x = rng().normal(3, 2, size=(9, 4))
    scale = fit_z_score(x).scale
    np.testing.assert_allclose(scale, torch.from_numpy(x).std(0, correction=0).numpy(), rtol=1e-14)
    unbiased = torch.from_numpy(x).std(0).numpy()
    np.testing.assert_allclose(unbiased / scale, np.full(4, (9 / 8) ** 0.5), rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_what_is_fitted_is_normalised(dtype):
    x = rng().normal([1e3, -5, 0], [1, 2, 1e-3], size=(40, 7, 3)).astype(dtype)
    near = 1e5 * np.finfo(dtype).eps  # the shift loses what 1e3 leaves of the digits
    y = normalise(fit_z_score(x), x)
    np.testing.assert_allclose(y.mean((0, 1)), np.zeros(3), atol=near)
    np.testing.assert_allclose(y.std((0, 1)), np.ones(3), atol=near)
    y = normalise(fit_min_max(x), x)
    np.testing.assert_array_equal(y.min((0, 1)), np.zeros(3, dtype), strict=True)
    np.testing.assert_array_equal(y.max((0, 1)), np.ones(3, dtype), strict=True)


def test_fit_does_not_drift_in_float32():
    """100,000 rows summed one by one in float32 would be off in the third digit."""
    x = np.full((100_000, 2), 1000.1, np.float32)
    x[::2] += 1
    scale = fit_z_score(x)
    wide = x.astype(float)
    np.testing.assert_allclose(scale.shift, wide.mean(0), rtol=1e-7)
    np.testing.assert_allclose(scale.scale, wide.std(0), rtol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fit", FITS)
def test_constant_feature_becomes_zero(fit, dtype):
    # 0.1: its mean over 10 is not 0.1. 6e-8: float16's smallest, its deviation rounds to 0.
    x = np.stack([np.full(10, 0.1), np.arange(10), np.full(10, -3)], 1).astype(dtype)
    scale = fit(x)
    np.testing.assert_array_equal(scale.scale[[0, 2]], np.ones(2, dtype), strict=True)
    np.testing.assert_array_equal(normalise(scale, x)[:, [0, 2]], np.zeros((10, 2), dtype))
    np.testing.assert_array_equal(denormalise(scale, normalise(scale, x))[:, 0], x[:, 0])
    tiny = np.array([0, np.finfo(dtype).smallest_subnormal], dtype)
    assert np.all(np.isfinite(normalise(fit(tiny), tiny)))


@given(
    hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=1, max_dims=3, max_side=5),
        elements=st.floats(-1e100, 1e100, allow_subnormal=False),
    ),
    st.sampled_from(FITS),
)
@random_cases
def test_denormalise_takes_back_normalise(x, fit):
    scale = fit(x)
    y = normalise(scale, x)
    assert np.all(np.isfinite(y))
    if fit is fit_min_max:
        assert np.all((y >= 0) & (y <= 1))
    np.testing.assert_allclose(denormalise(scale, y), x, rtol=0, atol=1e-14 * abs(x).max())


@pytest.mark.parametrize("fit", FITS)
def test_scales_inside_jit(fit):
    """With the scale a constant or an argument; float32 throughout, under strict promotion."""
    x = rng().normal(size=(6, 4, 3)).astype(np.float32)
    scale, (y, back) = fit(x), (normalise(fit(x), x), denormalise(fit(x), x))
    for found, wanted in [
        (jax.jit(lambda x: normalise(scale, x))(x), y),
        (jax.jit(normalise)(scale, x), y),
        (jax.jit(denormalise)(scale, x), back),
        (jax.vmap(lambda x: denormalise(scale, x))(x), back),
    ]:
        assert found.dtype == wanted.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    gradient = jax.grad(lambda x: normalise(scale, x).sum())(jnp.asarray(x))
    np.testing.assert_allclose(gradient, np.broadcast_to(1 / scale.scale, x.shape), rtol=1e-6)


X = np.ones((4, 3))
BAD = np.where(np.arange(12).reshape(4, 3) == 7, np.inf, X)
SCALE = Scale(np.zeros(3), np.ones(3))
# Each message as a plain string, where `...` matches anything.
ERRORS = [
    row("series-short", ValueError, "`series` has 4 time steps...size 3 and a horizon of 2 need 5",
        windows, X, 3, horizon=2),
    row("series-scalar", ValueError, "`series` must have a time axis, got a scalar",
        windows, np.array(1.0), 3),
    row("series-ragged", TypeError, "`series` must be an array of numbers, got a list",
        windows, [[1.0], [1.0, 2.0]], 1),
    row("size-zero", ValueError, "`size` must be a positive integer, got 0", windows, X, 0),
    row("size-float", ValueError, "`size` must be a positive integer, got 2.0", windows, X, 2.0),
    row("horizon-zero", ValueError, "`horizon` must be a positive integer, got 0",
        windows, X, 2, horizon=0),
    row("horizon-bool", ValueError, "`horizon` must be a positive integer, got True",
        windows, X, 2, horizon=True),
    # scales
    row("fit-inf", ValueError, "`x` must be finite, got inf at [2, 1]", fit_min_max, BAD),
    row("fit-nan", ValueError, "`x` must be finite, got nan at [1]", fit_z_score, [0.0, np.nan]),
    row("fit-empty", ValueError, "`x` must hold at least one value to fit, got shape (0, 3)",
        fit_z_score, X[:0]),
    row("fit-scalar", ValueError, "`x` must hold at least one value to fit, got shape ()",
        fit_min_max, 1.0),
    row("fit-complex", TypeError, "`x` must hold real numbers, got complex128",
        fit_min_max, X.astype(complex)),
    row("fit-strings", TypeError, "`x` must hold real numbers, got <U1", fit_z_score, ["a"]),
    row("fit-none", TypeError, "`x` must hold real numbers, got object", fit_z_score, None),
    row("fit-traced", TypeError, "`x` must be an array of numbers, got a...Tracer",
        jax.jit(fit_z_score), X),
    row("normalise-features", ValueError, "`x` of shape (4, 1) must have 3 features",
        normalise, SCALE, X[:, :1]),
    row("denormalise-features", ValueError, "`x` of shape () must have 3 features",
        denormalise, SCALE, 1.0),
    row("normalise-swapped", TypeError, "`scale` must be a Scale...ndarray...are (scale, x)",
        normalise, X, SCALE),
    row("denormalise-swapped", TypeError, "`scale` must be a Scale", denormalise, X, SCALE),
]  # fmt: skip


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(("call", "error", "message"), ERRORS)
def test_raises(call, error, message):
    assert_refused(call, error, message)
