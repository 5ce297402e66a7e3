"""Verifies a torch checkpoint: torch.nn and jaxrnn run every recurrent layer in it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from jaxrnn._files import read
from jaxrnn._params import is_tensor

from ..backends.data import DTYPES
from ..cases import Case
from ..layers import verify
from ..pair import Result


NAME = re.compile(r"(weight_((ln_)?(ih|hh)|ln_c|hr)|bias_((ln_)?(ih|hh)|ln_c))(_l\d+(_reverse)?)?")


def check(
    source: str | PathLike[str] | Mapping[str, Any],
    *,
    prefix: str | None = None,
    nonlinearity: str = "tanh",
    x: np.ndarray | None = None,
    batch_first: bool = False,
    dtypes: Sequence[str] | None = None,
    device: str = "cpu",
) -> list[Result]:
    """Verifies every RNN, LSTM, GRU and cell of a checkpoint, by the criterion of `compare`.

    Args:
        source: a `.pt`, `.safetensors` or `.npz` file, or a `state_dict`; a whole training
            checkpoint will do. Names and shapes determine kind, sizes and options.
        prefix: verify only the layers under this name, such as `"encoder.lstm"`.
        nonlinearity: of RNNs, whose weights do not show it: `"tanh"` or `"relu"`.
        x: the input, (T, B, I) or (T, I), for a cell (B, I) or (I,), with zero initial states; by
            default random input and states.
        batch_first: whether `x` is (B, T, I).
        dtypes: by default the checkpoint's own (float32 for float16, which is not judged) and
            float64.
        device: `"cpu"`, `"gpu"` or `"tpu"`.

    Returns:
        A `Result` for every layer and dtype; `result.case.group` is the layer's name.

    Raises:
        ValueError: there is no recurrent layer, or one whose names and shapes do not agree, or that
            is not finite; or `x`, or an option, does not fit.
        TypeError: `source` is neither a file nor a `state_dict`, or numbers are not floating.
    """
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"`nonlinearity` must be 'tanh' or 'relu', got {nonlinearity!r}")
    if unknown := set(dtypes or ()) - set(DTYPES):
        raise ValueError(f"`dtypes` must be among {', '.join(DTYPES)}, got {unknown.pop()!r}")
    everything = layers(source)
    under = lambda name: prefix is None or f"{name}.".startswith(f"{prefix}.")
    if not (chosen := {name: layer for name, layer in everything.items() if under(name)}):
        raise ValueError(
            "`source` holds no weights of a torch.nn RNN, LSTM, GRU or cell"
            + ("" if prefix is None else f" under the prefix {prefix!r}")
            + f", that is, no weight_ih_l0 or weight_ih: it has {', '.join(everything) or 'none'}"
        )
    cases = {
        name: _case(name, params, nonlinearity, x, batch_first) for name, params in chosen.items()
    }
    return [
        verify(cases[name], dtype, params=params, x=x, device=device)
        for name, params in chosen.items()
        for dtype in dtypes or _dtypes(params)
    ]


def _dtypes(params: Mapping[str, np.ndarray]) -> list[str]:
    """The parameters' own dtype, or float32 if that is not judged, and float64."""
    dtype = next(iter(params.values())).dtype.name
    return [*dict.fromkeys([dtype if dtype in DTYPES else "float32", "float64"])]


def layers(source: str | PathLike[str] | Mapping[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    """The parameters of every recurrent layer in a checkpoint, as numpy arrays, by its name."""
    if not isinstance(source, Mapping | str | PathLike):
        raise TypeError(
            f"`source` must be a file or a state_dict, got a {type(source).__name__}: pass "
            "module.state_dict()"
        )
    params: dict[str, dict[str, np.ndarray]] = {}
    for name, value in _tensors(source if isinstance(source, Mapping) else read(source), ""):
        path, _, last = name.rpartition(".")
        if NAME.fullmatch(last):
            with jax.enable_x64(True):
                array = np.asarray(jaxrnn.from_state_dict({last: value})[last])
            params.setdefault(path, {})[last] = array
    return params


def _tensors(node: Mapping[Any, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Names and tensors, however deep in a training checkpoint, and nothing else."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _tensors(value, f"{path}{key}.")
        elif is_tensor(value) or hasattr(value, "dtype"):
            yield f"{path}{key}", value


def _case(
    name: str,
    params: Mapping[str, np.ndarray],
    nonlinearity: str,
    x: np.ndarray | None,
    batch_first: bool,
) -> Case:
    """The configuration that the weights and the input make together."""
    where = f"layer `{name or 'top'}`"
    try:
        structure = jaxrnn.structure(params)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    for key, value in params.items():
        _check_numbers(f"`{key}` of {where}", value)
    if len({value.dtype for value in params.values()}) > 1:
        raise TypeError(f"{where} mixes dtypes: torch would not run it")
    cell = structure.kind.endswith("_cell")
    time, batch = (1 if cell else 10), 3
    if x is not None:
        time, batch = _check_input(where, structure, x, batch_first)
    return Case(
        name or "top",
        structure,
        nonlinearity if structure.kind.startswith("rnn") else "tanh",
        time=time,
        batch=batch,
        batch_first=batch_first and batch is not None and not cell,
        state=x is None,
    )


def _check_input(
    where: str, structure: jaxrnn.Structure, x: np.ndarray, batch_first: bool
) -> tuple[int, int | None]:
    """The number of steps and sequences in `x`, which must fit the layer."""
    if not isinstance(x, np.ndarray):
        raise TypeError(f"`x` must be a numpy array, got a {type(x).__name__}")
    _check_numbers("`x`", x)
    cell = structure.kind.endswith("_cell")
    axes = (1, 2) if cell else (2, 3)
    if x.ndim not in axes or x.shape[-1] != structure.input_size or 0 in x.shape:
        raise ValueError(
            f"`x` must have {axes[0]} or {axes[1]} axes, none empty and the last of "
            f"{structure.input_size} features, for {where}, got shape {x.shape}"
        )
    if cell:
        return 1, len(x) if x.ndim == 2 else None
    if x.ndim == 2:
        return len(x), None
    return (x.shape[1], x.shape[0]) if batch_first else (x.shape[0], x.shape[1])


def _check_numbers(what: str, a: np.ndarray) -> None:
    if not jnp.issubdtype(a.dtype, jnp.floating):
        raise TypeError(f"{what} must be floating, got {a.dtype}")
    if not np.isfinite(a).all():
        raise ValueError(f"{what} is not finite, so that nothing can be compared: did it diverge?")
