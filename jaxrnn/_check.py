"""Checks of a call's arguments other than its parameters: `x`, states and options.

Errors are raised at trace time, in one sentence: the argument, what was wanted, what came, the
likely cause.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Integer, PRNGKeyArray

from ._params import LSTMState, Structure, is_tensor, structure


Arrays = dict[str, Array]
Lengths = Integer[ArrayLike, "*B"] | Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options that `rnn`, `lstm` and `gru` share: their names, types and defaults."""

    batch_first: bool = False
    lengths: Lengths | None = None
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    key: PRNGKeyArray | None = None
    masks: Bool[ArrayLike, "..."] | None = None
    recurrent_masks: Bool[ArrayLike, "..."] | None = None
    return_all_states: bool = False
    checkpoint_every: int | None = None
    implementation: str | None = None


def check_cell(
    kind: str, params: Mapping[str, Any], x: Any, state: Any
) -> tuple[Arrays, Array, Any]:
    """The arguments of a cell as arrays, the state an array or `LSTMState`, zeros by default."""
    s = structure(params, kind)
    params, x = _arrays(params), _floating("x", x)
    if x.ndim not in (1, 2):
        raise ValueError(
            f"`x` must have 1 axis (features) or 2 (batch, features), got shape {x.shape}: a cell "
            f"takes one time step; `{kind[:-5]}` takes a sequence"
        )
    _check_features(s, x, "")
    state = _check_state(s, state, x.shape[:-1], "batch", x)
    _check_dtypes(params, x, state)
    return params, x, state


def check_layer(
    kind: str, params: Mapping[str, Any], x: Any, state: Any, batch_first: bool
) -> tuple[Structure, Arrays, Array, Any]:
    """The structure and the arguments of `rnn`, `lstm` or `gru`, as `check_cell` returns them."""
    s = structure(params, kind)
    params, x = _arrays(params), _floating("x", x)
    if x.ndim not in (2, 3):
        axes = "batch, time" if batch_first else "time, batch"
        raise ValueError(
            f"`x` must have 2 axes (time, features) or 3 ({axes}, features), got shape {x.shape}"
            + (f": `{kind}_cell` takes a single time step" if x.ndim == 1 else "")
        )
    _check_features(s, x, "_l0")
    if x.shape[time_axis(x, batch_first)] == 0:
        raise ValueError(f"`x` must have at least one time step, got shape {x.shape}")
    batch = batch_shape(x, batch_first)
    cells = (s.num_layers * s.num_directions,)
    axes = "num_layers · num_directions" + (", batch" if batch else "")
    state = _check_state(s, state, cells + batch, axes, x)
    _check_dtypes(params, x, state)
    return s, params, x, state


def check_lengths(lengths: Any, x: Array, batch_first: bool) -> Array:
    """`lengths` as (batch,) integers, () for unbatched `x`; their values too, where known."""
    steps = x.shape[time_axis(x, batch_first)]
    shape = batch_shape(x, batch_first)
    lengths = as_known("lengths", lengths)
    if lengths.size == 0:
        lengths = lengths.astype(np.int32)  # an empty list says nothing of its dtype
    cause = ": a mask? Then pass its sum over time" if lengths.dtype == bool else ""
    check_dtype("lengths", lengths.dtype, jnp.integer, "integers", cause)
    if lengths.shape != shape:
        cause = "is `batch_first` right?" if shape else "unbatched `x` takes a single integer"
        raise ValueError(
            f"`lengths` must have the shape {shape}, one for each sequence in the batch, got "
            f"{lengths.shape}: {cause}"
        )
    if not is_traced(lengths) and lengths.size and not 0 <= lengths.min() <= lengths.max() <= steps:
        wrong = lengths.min() if lengths.min() < 0 else lengths.max()
        raise ValueError(
            f"`lengths` must lie between 0 and the {steps} time steps of `x`, got {wrong}"
            + ("" if wrong < 0 else ": is `batch_first` right?")
        )
    # Clamped before the cast, which would wrap.
    clamped = lengths.clip(0, min(steps, jnp.iinfo(lengths.dtype).max)).astype(np.int32)
    return jnp.asarray(clamped)


def check_dropout(dropout: Any, name: str = "dropout") -> None:
    if not is_number(dropout) or not 0 <= float(dropout) <= 1:
        raise ValueError(
            f"`{name}` must be a Python number between 0 and 1, the probability of dropping, got "
            f"{dropout!r}"
        )


def check_key(key: Any) -> None:
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    raw = isinstance(key, jax.Array | np.ndarray) and key.dtype == np.uint32
    # Raw keys have 2 numbers, or 4 with the generator "rbg".
    if not (typed and key.shape == ()) and not (raw and key.shape in ((2,), (4,))):
        got = f"shape {key.shape}" if typed or raw else type(key).__name__
        raise TypeError(f"`key` must be one jax.random key, such as jax.random.key(0), got {got}")


def check_masks(
    prefix: str, masks: Any, shape: tuple[int, ...], dropout: float, spare_key: bool
) -> Array:
    """`masks`, or with a prefix `recurrent_masks`; a key is spare if it has no others to draw."""
    name = f"{prefix}masks"
    if dropout == 0 or spare_key:
        raise ValueError(
            f"`{name}` come instead of `key`, with the `{prefix}dropout` rate that they were drawn "
            f"with, got {prefix}dropout={dropout}{' and a key' if spare_key else ''}"
        )
    masks = as_array(name, masks)
    check_dtype(name, masks.dtype, jnp.bool_, "boolean, True where a value is kept")
    if masks.shape != shape:
        axes = "num_layers - 1, the axes of `x`, features of a layer's output"
        if prefix:
            axes = "num_layers · num_directions, batch, features of h"
        raise ValueError(f"`{name}` must have the shape {shape} ({axes}), got {masks.shape}")
    return masks


def check_positive(**sizes: Any) -> None:
    for name, size in sizes.items():
        if not is_integer(size) or int(size) < 1:
            raise ValueError(f"`{name}` must be a positive integer, got {size!r}")


def check_padding_idx(padding_idx: Any, count: int) -> None:
    if not is_integer(padding_idx) or not -count <= int(padding_idx) < count:
        raise ValueError(f"`padding_idx` must be one of {count} ids, got {padding_idx!r}")


def time_axis(x: Array, batch_first: bool) -> int:
    """Unbatched input has time first whatever `batch_first` says, as in torch."""
    return 1 if batch_first and x.ndim == 3 else 0


def batch_shape(x: Array, batch_first: bool) -> tuple[int, ...]:
    return () if x.ndim == 2 else (x.shape[1 - time_axis(x, batch_first)],)


def _arrays(params: Mapping[str, Any]) -> Arrays:
    return {name: _floating(name, value) for name, value in params.items()}


def is_number(value: Any, kind: type = Real) -> bool:
    """Whether this is a number, known to Python, and not a boolean."""
    return isinstance(value, kind) and not isinstance(value, bool)


def is_integer(value: Any) -> bool:
    return is_number(value, Integral)


def is_traced(tree: Any) -> bool:
    """Whether any value in it is unknown, because JAX is tracing."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


def check_dtype(name: str, dtype: Any, kind: Any, wanted: str, cause: str = "") -> None:
    """The dtype must be of a kind such as `jnp.integer`, which `wanted` says in words."""
    if not jnp.issubdtype(dtype, kind):
        raise TypeError(f"`{name}` must be {wanted}, got {dtype}{cause}")


def check_same_dtype(name: str, array: Any, other_name: str, other: Any) -> None:
    """Both names come with their backticks."""
    if array.dtype != other.dtype:
        raise TypeError(
            f"{name} is {array.dtype}, but {other_name} is {other.dtype}: cast one of them; "
            "nothing is promoted silently"
        )


def as_array(name: str, value: Any, convert: Callable[[Any], Any] = jnp.asarray) -> Any:
    try:
        return convert(value)
    except (TypeError, ValueError, OverflowError):
        what = type(value).__name__
        raise TypeError(f"`{name}` must be an array of numbers, got a {what}") from None


def as_known(name: str, value: Any) -> Any:
    """A numpy array, whose values can be checked; a JAX array if the value is traced."""
    # Under jit, jnp.asarray would make a tracer of a constant too.
    return as_array(name, value, jnp.asarray if is_traced(value) else np.asarray)


def as_integers(name: str, values: Any) -> np.ndarray:
    array = as_array(name, values, np.asarray)
    if array.size:  # an empty list says nothing of its dtype
        check_dtype(name, array.dtype, jnp.integer, "integers")
    return array


def _floating(name: str, value: Any) -> Array:
    if is_tensor(value):
        raise TypeError(
            f"`{name}` is a torch tensor: pass jnp.from_dlpack(tensor.detach()) instead"
        )
    array = as_array(name, value)
    cause = ": embed token ids first" if jnp.issubdtype(array.dtype, jnp.integer) else ""
    check_dtype(name, array.dtype, jnp.floating, "floating", cause)
    return array


def _check_features(s: Structure, x: Array, suffix: str) -> None:
    if x.shape[-1] != s.input_size:
        raise ValueError(
            f"`x` has {x.shape[-1]} features in its last axis (shape {x.shape}), but "
            f"`weight_ih{suffix}` expects {s.input_size}"
        )


def _check_state(
    s: Structure, state: Any, leading: tuple[int, ...], axes: str, x: Array
) -> Array | LSTMState:
    lstm = s.kind.startswith("lstm")
    wanted = [("h", "proj_size" if s.proj_size else "hidden_size", s.output_size)]
    if lstm:
        wanted.append(("c", "hidden_size", s.hidden_size))
    if state is None:
        zeros = [jnp.zeros((*leading, size), x.dtype) for _, _, size in wanted]
        return LSTMState(*zeros) if lstm else zeros[0]
    many = isinstance(state, tuple | list)
    if lstm and not (many and len(state) == 2):
        one = "one array" if hasattr(state, "shape") else f"a {type(state).__name__}"
        got = f"{len(state)} of them" if many else one
        raise ValueError(f"`state` of `{s.kind}` must be a pair of arrays (h, c), got {got}")
    if many and not lstm:
        raise ValueError(
            f"`state` of `{s.kind}` must be one array h, got a {type(state).__name__} of "
            f"{len(state)}: only an LSTM has a c"
        )
    arrays = []
    values = {"state[0]": state[0], "state[1]": state[1]} if lstm else {"state": state}
    for (name, size_name, size), (where, value) in zip(wanted, values.items(), strict=True):
        array = _floating(where, value)
        if array.shape != (*leading, size):
            raise ValueError(
                f"`state` has a {name} of shape {array.shape}, wanted {(*leading, size)}, that is "
                f"({axes}, {size_name}): states are never batch-first"
            )
        arrays.append(array)
    return LSTMState(*arrays) if lstm else arrays[0]


def _check_dtypes(params: Arrays, x: Array, state: Array | LSTMState) -> None:
    states = state if isinstance(state, LSTMState) else (state,)
    for name, array in [*params.items(), *(("state", array) for array in states)]:
        check_same_dtype(f"`{name}`", array, "`x`", x)
