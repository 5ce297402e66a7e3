"""Law: windows, scales, batches and chunks are what plain loops make of the same data."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers import assert_refused
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import jaxrnn
from jaxrnn.data import (
    Scale,
    batches,
    batches_by_length,
    chunks,
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


# windows


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


# scales


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


# batches


def padding(lengths, found):
    return 1 - lengths.sum() / sum(len(i) * lengths[i].max() for i in found)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("n", "batch_size"), [(10, 3), (9, 3), (3, 3), (7, 1)])
def test_batches_are_torchs(n, batch_size, drop_last):
    loader = torch.utils.data.DataLoader(range(n), batch_size, drop_last=drop_last)
    in_order = batches(n, batch_size, drop_last=drop_last)
    assert [i.tolist() for i in in_order] == [i.tolist() for i in loader]
    shuffled = batches(n, batch_size, drop_last=drop_last, rng=rng())
    assert [*map(len, shuffled)] == [*map(len, in_order)]
    every = np.concatenate(shuffled)
    assert set(every) <= set(range(n))
    assert len(set(every)) == len(every)
    again = batches(n, batch_size, drop_last=drop_last, rng=rng())
    np.testing.assert_array_equal(np.concatenate(again), every)


def test_shuffling_shuffles():
    one = rng()
    first, second = (np.concatenate(batches(100, 8, rng=one)) for _ in range(2))
    assert not np.array_equal(first, np.arange(100))
    assert not np.array_equal(first, second)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(1, 8), st.booleans())
@random_cases
def test_batches_by_length_cut_the_sorted_lengths(lengths, batch_size, shuffled):
    found = batches_by_length(lengths, batch_size, rng=rng() if shuffled else None)
    assert sorted(np.concatenate(found)) == list(range(len(lengths)))
    lengths = np.array(lengths)
    ordered = np.sort(lengths)
    cut = [ordered[i : i + batch_size].tolist() for i in range(0, len(lengths), batch_size)]
    lists = [lengths[i].tolist() for i in found]
    assert sorted(lists) == sorted(cut)
    if not shuffled:
        assert lists == cut
        assert np.concatenate(found).tolist() == sorted(
            range(len(lengths)), key=lengths.__getitem__
        )


@pytest.mark.parametrize("seed", range(5))
def test_batches_by_length_save_padding(seed):
    lengths = rng(seed).geometric(0.03, size=500)
    by_length = padding(lengths, batches_by_length(lengths, 16, rng=rng(seed)))
    assert by_length < 0.2 * padding(lengths, batches(500, 16, rng=rng(seed)))


def test_batches_by_length_are_drawn():
    """The order of the batches, and which of the equally long go together."""
    lengths, one = np.repeat([3, 1, 2], 40), rng()
    first, second = (batches_by_length(lengths, 8, rng=one) for _ in range(2))
    longest = [lengths[i].max() for i in first]
    assert longest != sorted(longest)
    assert longest != [lengths[i].max() for i in second]
    together = [{frozenset(i.tolist()) for i in found} for found in (first, second)]
    assert together[0] != together[1]


# chunks


@pytest.mark.parametrize("make", [np.asarray, jnp.asarray])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("size", [1, 3, 7, 50])
def test_chunks(size, batch_first, make):
    x, axis = make(rng().normal(size=(4, 7, 2) if batch_first else (7, 4, 2))), int(batch_first)
    found = chunks(x, size, batch_first=batch_first)
    assert all(type(chunk) is type(x) for chunk in found)
    assert [chunk.shape[axis] for chunk in found[:-1]] == [size] * (len(found) - 1)
    assert 1 <= found[-1].shape[axis] <= size
    np.testing.assert_array_equal(np.concatenate(found, axis), x, strict=True)


def test_chunks_take_any_axes():
    assert [chunk.tolist() for chunk in chunks(np.arange(5), 3)] == [[0, 1, 2], [3, 4]]
    ids = np.arange(10).reshape(2, 5)
    first, second = chunks(ids, 4, batch_first=True)
    np.testing.assert_array_equal(first, ids[:, :4])
    np.testing.assert_array_equal(second, ids[:, 4:])


@pytest.mark.parametrize("batch_first", [False, True])
def test_chunks_with_the_state_carried_over_are_the_whole(batch_first):
    """Lengths too, as the docstring has them; an exhausted sequence's state passes through."""
    params = jaxrnn.init_lstm(jax.random.key(0), 3, 4, num_layers=2)
    x, lengths = rng().normal(size=(11, 5, 3)), np.array([11, 4, 0, 8, 5])
    x = x.swapaxes(0, 1) if batch_first else x
    options = {"batch_first": batch_first}
    wanted, wanted_state = jaxrnn.lstm(params, x, lengths=lengths, **options)

    @jax.jit
    def by_chunks(params, x):
        state, outputs = None, []
        for i, chunk in enumerate(chunks(x, 4, **options)):
            rest = (lengths - 4 * i).clip(0, 4)
            y, state = jaxrnn.lstm(params, chunk, state, lengths=rest, **options)
            outputs.append(y)
        return jnp.concatenate(outputs, int(batch_first)), state

    found, state = by_chunks(params, x)
    np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-14)
    for one, other in zip(state, wanted_state, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-14)


# complaints


def row(name, error, message, function, *args, **options):
    return pytest.param(functools.partial(function, *args, **options), error, message, id=name)


X = np.ones((4, 3))
BAD = np.where(np.arange(12).reshape(4, 3) == 7, np.inf, X)
SCALE = Scale(np.zeros(3), np.ones(3))
# What a message must hold, as a plain string, `...` standing for anything.
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
    # batches
    row("n-zero", ValueError, "`n` must be a positive integer, got 0", batches, 0, 3),
    row("n-array", ValueError, "`n` must be a positive integer, got array", batches, X[0], 3),
    row("batch-size", ValueError, "`batch_size` must be a positive integer, got -1",
        batches, 3, -1),
    row("seed", TypeError, "`rng` must be a numpy Generator...got int", batches, 3, 1, rng=0),
    row("key", TypeError, "`rng` must be a numpy Generator...got ArrayImpl",
        batches_by_length, [3], 1, rng=jnp.zeros(2)),
    row("drop-all", ValueError, "`drop_last` leaves no batch of 4 among 3 examples",
        batches, 3, 4, drop_last=True),
    row("lengths-none", ValueError, "`lengths` must have the shape (n,), n at least 1, got (0,)",
        batches_by_length, [], 1),
    row("lengths-integer", ValueError, "`lengths` must have the shape (n,)...got ()",
        batches_by_length, 5, 1),
    row("lengths-float", TypeError, "`lengths` must be integers, got float64",
        batches_by_length, X[0], 1),
    row("lengths-negative", ValueError, "`lengths` must not be negative, got -2",
        batches_by_length, [3, -2], 1),
    row("lengths-batch-size", ValueError, "`batch_size` must be a positive integer, got 0",
        batches_by_length, [3], 0),
    # chunks
    row("chunk-size", ValueError, "`size` must be a positive integer, got 0", chunks, X, 0),
    row("chunk-scalar", ValueError, "`x` must be (T, …) with at least one time step, got shape ()",
        chunks, np.array(1.0), 1),
    row("chunk-axes", ValueError, "`x` must be (B, T, …)...got shape (3,)",
        chunks, X[0], 1, batch_first=True),
    row("chunk-no-steps", ValueError, "`x` must be (T, …)...got shape (0, 3)", chunks, X[:0], 1),
]  # fmt: skip


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(("call", "error", "message"), ERRORS)
def test_raises(call, error, message):
    assert_refused(call, error, message)
