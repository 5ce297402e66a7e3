"""Sequences of unequal length: padding and torch's packed form, for interchange.

`rnn`, `lstm` and `gru` take padded sequences with `lengths`; nothing in jaxrnn needs packing.
Shapes here depend on the values of the lengths, so these functions run outside `jit`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Int, Shaped

from ._check import as_integers, is_traced


class PackedSequence(NamedTuple):
    """`torch.nn.utils.rnn.PackedSequence`: all valid steps, time by time, longest sequence first.

    The two index arrays are None after `enforce_sorted=True`, as in torch.
    """

    data: Shaped[Array, "steps *features"]
    batch_sizes: Int[np.ndarray, " T"]
    sorted_indices: Int[np.ndarray, " B"] | None
    unsorted_indices: Int[np.ndarray, " B"] | None


def pad_sequence(
    sequences: Sequence[Shaped[ArrayLike, "_ *features"]],
    *,
    batch_first: bool = False,
    padding_value: float = 0.0,
) -> Shaped[Array, "..."]:
    """Stacks sequences of unequal length: `torch.nn.utils.rnn.pad_sequence`.

    Args:
        sequences: arrays of the shapes (T_i, …), where only T_i differs.
        batch_first: whether the result is (B, T, …) instead of (T, B, …).
        padding_value: the value after each sequence's end.

    Raises:
        ValueError: there are no sequences, or shapes or dtypes differ beyond the first axis.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pad_sequence.html

    >>> pad_sequence([jnp.array([1, 2, 3]), jnp.array([4])], batch_first=True)
    Array([[1, 2, 3],
           [4, 0, 0]], dtype=int32)
    """
    arrays = [jnp.asarray(sequence) for sequence in sequences]
    if not arrays:
        raise ValueError("`sequences` must hold at least one sequence, got none")
    for i, array in enumerate(arrays):
        if array.ndim == 0:
            raise ValueError(f"`sequences` must have a time axis, got a scalar at {i}")
        if (array.shape[1:], array.dtype) != (arrays[0].shape[1:], arrays[0].dtype):
            raise ValueError(
                f"`sequences` must agree in dtype and in all axes but the first, got {array.dtype} "
                f"{array.shape} at {i} after {arrays[0].dtype} {arrays[0].shape}"
            )
    longest = max(len(array) for array in arrays)
    rest = [(0, 0)] * (arrays[0].ndim - 1)
    padded = [
        jnp.pad(array, [(0, longest - len(array)), *rest], constant_values=padding_value)
        for array in arrays
    ]
    return jnp.stack(padded, axis=0 if batch_first else 1)


def pack_padded_sequence(
    x: Shaped[ArrayLike, "..."],
    lengths: Int[ArrayLike, " B"] | Sequence[int],
    *,
    batch_first: bool = False,
    enforce_sorted: bool = True,
) -> PackedSequence:
    """Packs a padded batch: `torch.nn.utils.rnn.pack_padded_sequence`.

    Args:
        x: (T, B, …), or (B, T, …) with `batch_first`.
        lengths: (B,) concrete integers from 1 to T. Equal lengths keep their order.
        enforce_sorted: whether lengths must not increase; otherwise they are sorted here.

    Returns:
        A `PackedSequence`; its `data` has the shape (sum of lengths, …).

    Raises:
        ValueError: lengths are of the wrong number, below 1, beyond T (which torch accepts), or
            increase despite `enforce_sorted`.
        TypeError: lengths are traced or not integers.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pack_padded_sequence.html

    >>> packed = pack_padded_sequence(jnp.array([[1, 2], [3, 0]]), [2, 1])
    >>> packed.data, packed.batch_sizes
    (Array([1, 2, 3], dtype=int32), array([2, 1]))
    """
    x, lengths = jnp.asarray(x), _concrete("lengths", lengths)
    if x.ndim < 2:
        raise ValueError(f"`x` must have axes of time and batch, got shape {x.shape}")
    x = jnp.swapaxes(x, 0, 1) if batch_first else x
    steps, batch = x.shape[:2]
    if lengths.shape != (batch,):
        raise ValueError(
            f"`lengths` must have the shape {(batch,)}, got {lengths.shape}: is `batch_first` "
            "right?"
        )
    if batch and not 1 <= lengths.min() <= lengths.max() <= steps:
        raise ValueError(
            f"`lengths` must lie between 1 and the {steps} time steps of `x`, got "
            f"{lengths.tolist()}: torch packs no empty sequence"
        )
    order = None
    if enforce_sorted and np.any(np.diff(lengths) > 0):
        raise ValueError(
            f"`lengths` must not increase, got {lengths.tolist()}: pass enforce_sorted=False"
        )
    if not enforce_sorted:
        order = np.argsort(-lengths, kind="stable")
        lengths = lengths[order]
        x = jnp.take(x, order, axis=1)
    valid = np.arange(lengths.max(initial=0))[:, None] < lengths
    time, row = np.nonzero(valid)
    return PackedSequence(
        x[time, row], valid.sum(1), order, None if order is None else np.argsort(order)
    )


def pad_packed_sequence(
    packed: PackedSequence,
    *,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Shaped[Array, "..."], Int[np.ndarray, " B"]]:
    """Pads a packed batch again: `torch.nn.utils.rnn.pad_packed_sequence`.

    Args:
        packed: a `PackedSequence`, or torch's with its tensors as arrays.
        batch_first: whether the result is (B, T, …) instead of (T, B, …).
        padding_value: the value after each sequence's end.
        total_length: T, by default the longest sequence's length.

    Returns:
        ``(x, lengths)`` in the order of `pack_padded_sequence`'s arguments.

    Raises:
        ValueError: `total_length` is shorter than the longest sequence.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pad_packed_sequence.html

    >>> packed = pack_padded_sequence(jnp.array([[1, 2], [3, 0]]), [2, 1])
    >>> pad_packed_sequence(packed, total_length=3)
    (Array([[1, 2],
           [3, 0],
           [0, 0]], dtype=int32), array([2, 1]))
    """
    data, batch_sizes = jnp.asarray(packed.data), _concrete("batch_sizes", packed.batch_sizes)
    steps, batch = len(batch_sizes), int(batch_sizes.max(initial=0))
    total_length = steps if total_length is None else total_length
    if total_length < steps:
        raise ValueError(
            f"`total_length` must be at least the longest length {steps}, got {total_length}"
        )
    valid = np.arange(batch) < batch_sizes[:, None]
    shape = (total_length, batch, *data.shape[1:])
    x = jnp.full(shape, padding_value, data.dtype).at[np.nonzero(valid)].set(data)
    lengths = valid.sum(0)
    if packed.unsorted_indices is not None:
        order = _concrete("unsorted_indices", packed.unsorted_indices)
        x, lengths = jnp.take(x, order, axis=1), lengths[order]
    return jnp.swapaxes(x, 0, 1) if batch_first else x, lengths


def _concrete(name: str, values: ArrayLike | Sequence[int]) -> np.ndarray:
    if is_traced(values):
        raise TypeError(
            f"`{name}` must be concrete here, because the result's shape depends on them, got a "
            "traced array: under jit, pass padded sequences and `lengths` to rnn, lstm or gru"
        )
    return as_integers(name, values).astype(np.int64)
