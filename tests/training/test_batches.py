"""Law: batches and chunks hold all of the data once, and are what torch and plain loops make."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers import assert_refused, row
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxrnn
from jaxrnn.data import (
    batches,
    batches_by_length,
    chunks,
)


def rng(seed=0):
    return np.random.default_rng(seed)


random_cases = settings(max_examples=50, deadline=None, derandomize=True)


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
    params = jaxrnn.init_lstm(jax.random.key(0), 3, 4)
    x, lengths = rng().normal(size=(11, 5, 3)), np.array([11, 4, 0, 8, 5])
    x = x.swapaxes(0, 1) if batch_first else x
    options = {"batch_first": batch_first}
    whole = jax.jit(functools.partial(jaxrnn.lstm, lengths=lengths, **options))
    wanted, wanted_state = whole(params, x)

    @jax.jit
    def by_chunks(params, x):
        state, outputs = None, []
        for i, chunk in enumerate(chunks(x, 4, **options)):
            rest = (lengths - 4 * i).clip(0, 4)
            y, state = jaxrnn.lstm(params, chunk, state, lengths=rest, **options)
            outputs.append(y)
        return jnp.concatenate(outputs, int(batch_first)), state

    y, state = by_chunks(params, x)
    np.testing.assert_allclose(y, wanted, rtol=1e-13, atol=1e-14)
    for one, other in zip(state, wanted_state, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-14)


X = np.ones((4, 3))
# Each message as a plain string, where `...` matches anything.
ERRORS = [
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
