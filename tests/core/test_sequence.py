"""Law: padding and packing give exactly what torch's functions give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn.utils import rnn

import jaxrnn


random_cases = settings(max_examples=6, deadline=None, derandomize=True)


def numbers(*shape, dtype=np.float64):
    return np.arange(1, 1 + np.prod(shape, dtype=int)).reshape(shape).astype(dtype)


def assert_same(ours, theirs):
    """Arrays, tensors, None and tuples of them, exactly; dtypes too."""
    if isinstance(theirs, tuple):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    elif theirs is None:
        assert ours is None
    else:
        assert str(ours.dtype) == str(theirs.dtype).removeprefix("torch.")
        np.testing.assert_array_equal(ours, theirs.numpy(), strict=True)


@pytest.mark.parametrize(
    ("dtype", "features"),
    [(np.float64, ()), (np.float32, (3,)), (np.int64, (3, 2)), (np.bool_, (3,))],
)
@pytest.mark.parametrize("batch_first", [False, True])
def test_pad_sequence(batch_first, dtype, features):
    sequences = [numbers(n, *features, dtype=dtype) for n in (2, 5, 1, 0, 5)]
    tensors = [torch.from_numpy(sequence) for sequence in sequences]
    for options in ({}, {"padding_value": 1.0 if dtype is np.bool_ else -7.0}):
        ours = jaxrnn.pad_sequence(sequences, batch_first=batch_first, **options)
        assert_same(ours, rnn.pad_sequence(tensors, batch_first=batch_first, **options))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(
    ("lengths", "enforce_sorted", "features"),
    [
        ([5, 3, 2, 1], True, (3,)),
        ([5, 5, 5, 5], True, ()),
        ([3, 3, 1, 1], True, (3, 2)),
        ([2], True, (3,)),
        ([2, 5, 1, 3], False, (3, 2)),
        ([4, 3, 2, 1], False, (3,)),
        ([6, 1, 3], False, ()),
    ],
)
def test_pack_and_pad_again(lengths, enforce_sorted, features, batch_first):
    layout = (len(lengths), 6) if batch_first else (6, len(lengths))  # longer than the longest
    x = numbers(*layout, *features)
    options = {"batch_first": batch_first, "enforce_sorted": enforce_sorted}
    ours = jaxrnn.pack_padded_sequence(x, lengths, **options)
    theirs = rnn.pack_padded_sequence(torch.from_numpy(x), torch.tensor(lengths), **options)
    assert_same(tuple(ours), tuple(theirs))
    for again in (
        {},
        {"batch_first": True},
        {"padding_value": -7.0},
        {"total_length": 9, "batch_first": True, "padding_value": 1.5},
    ):
        assert_same(
            jaxrnn.pad_packed_sequence(ours, **again), rnn.pad_packed_sequence(theirs, **again)
        )


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6, unique=True), st.booleans())
@random_cases
def test_random_lengths(lengths, batch_first):
    x = numbers(12, len(lengths), 2)
    x = x.swapaxes(0, 1) if batch_first else x
    ours = jaxrnn.pack_padded_sequence(x, lengths, batch_first=batch_first, enforce_sorted=False)
    theirs = rnn.pack_padded_sequence(
        torch.from_numpy(x), lengths, batch_first=batch_first, enforce_sorted=False
    )
    assert_same(tuple(ours), tuple(theirs))
    assert_same(
        jaxrnn.pad_packed_sequence(ours, batch_first=batch_first),
        rnn.pad_packed_sequence(theirs, batch_first=batch_first),
    )


@given(st.lists(st.integers(1, 3), min_size=2, max_size=6))
@example([1, 2] * 20)
@random_cases
def test_ties(lengths):
    """Equal lengths keep their order, which torch does not promise; yet both unpack the same."""
    x = numbers(3, len(lengths), 2)
    packed = jaxrnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    assert packed.sorted_indices.tolist() == sorted(range(len(lengths)), key=lambda i: -lengths[i])
    wanted = np.where(np.arange(3)[:, None, None] < np.array(lengths)[:, None], x, 0)
    wanted = wanted[: max(lengths)]
    padded, found = jaxrnn.pad_packed_sequence(packed)
    np.testing.assert_array_equal(padded, wanted, strict=True)
    np.testing.assert_array_equal(found, lengths)
    tensors = (torch.from_numpy(np.array(field)) for field in packed)
    padded, found = rnn.pad_packed_sequence(rnn.PackedSequence(*tensors))
    np.testing.assert_array_equal(padded, wanted, strict=True)
    assert found.tolist() == lengths


def test_pads_what_torch_packed():
    x = numbers(5, 3, 2)
    theirs = rnn.pack_padded_sequence(torch.from_numpy(x), [1, 5, 2], enforce_sorted=False)
    packed = jaxrnn.PackedSequence(*(field.numpy() for field in theirs))
    assert_same(jaxrnn.pad_packed_sequence(packed), rnn.pad_packed_sequence(theirs))


def test_gradient_is_exact():
    """Each valid step's cotangent comes back to it, and exactly 0 to the padding."""
    lengths = [2, 5, 1, 5]
    x, cotangent = numbers(6, 4, 3), -numbers(5, 4, 3)

    def again(x):
        packed = jaxrnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        return jaxrnn.pad_packed_sequence(packed)[0]

    gradient = jax.vjp(again, jnp.asarray(x))[1](jnp.asarray(cotangent))[0]
    valid = np.arange(6)[:, None, None] < np.array(lengths)[:, None]
    wanted = np.where(valid, np.pad(cotangent, [(0, 1), (0, 0), (0, 0)]), 0)
    np.testing.assert_array_equal(gradient, wanted, strict=True)


def test_gradient_of_padding_is_exact():
    sequences = [jnp.asarray(numbers(n, 2)) for n in (2, 4, 1)]
    cotangent = jnp.asarray(-numbers(4, 3, 2))
    pad = lambda *sequences: jaxrnn.pad_sequence(sequences)
    gradients = jax.vjp(pad, *sequences)[1](cotangent)
    for i, (sequence, gradient) in enumerate(zip(sequences, gradients, strict=True)):
        np.testing.assert_array_equal(gradient, cotangent[: len(sequence), i], strict=True)
