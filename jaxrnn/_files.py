"""Parameters in files: `.safetensors`, `.npz`, and torch's `.pt`."""

import pathlib
import pickle
import zipfile
from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ._params import from_state_dict, to_state_dict


class Format(NamedTuple):
    read: Callable[[pathlib.Path], Mapping[str, Any]]
    write: Callable[[pathlib.Path, dict[str, Any]], None]


def load(path: str | PathLike[str]) -> dict[str, Any]:
    """Parameters from a file, bit for bit; the format follows the suffix.

    Args:
        path: `.safetensors` (needs safetensors), `.npz`, or `.pt` or `.pth` holding a `state_dict`
            (needs torch, and reads with `weights_only`, so that no code in the file is run).

    Returns:
        Parameters as of `from_state_dict`.

    Raises:
        ValueError: the suffix is unknown, or the file is damaged or of another format.
        TypeError: a value is not a tensor, or JAX would narrow its dtype because x64 is off.
        FileNotFoundError: the file does not exist.

    Source: https://docs.pytorch.org/docs/stable/notes/serialization.html;
    https://huggingface.co/docs/safetensors
    """
    return from_state_dict(read(path))


def read(path: str | PathLike[str]) -> Mapping[str, Any]:
    """A file's contents, before they become parameters; the errors are those of `load`."""
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"`path` names no file: {path}")
    chosen = _format(path)
    try:
        state_dict = chosen.read(path)
    except (ImportError, OSError, TypeError):
        raise
    except Exception as error:  # each format has its own exceptions for a damaged file
        pickled = isinstance(error, pickle.UnpicklingError) or "allow_pickle" in str(error)
        what = "holds more than tensors" if pickled else "is damaged"
        raise ValueError(
            f"`path` {path} cannot be read as {path.suffix}: it {what}, or is of another format "
            f"({type(error).__name__}); save a state_dict, not a whole module"
        ) from error
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            f"`path` {path} must hold a state_dict, got {type(state_dict).__name__}: save "
            "module.state_dict()"
        )
    return state_dict


def save(path: str | PathLike[str], params: Mapping[str, Any]) -> None:
    """Writes parameters to a file that `load`, or torch, reads; the format follows the suffix.

    Args:
        path: `.safetensors`, `.npz`, or `.pt` or `.pth` (a `state_dict` for `torch.load`).
        params: nested dicts of arrays.

    Raises:
        ValueError: the suffix is unknown, or a key is not a string, is empty or has a dot.
        TypeError: a value is not an array of numbers, or of a dtype that not every format has.
        FileNotFoundError: the folder does not exist.
    """
    path = pathlib.Path(path)
    arrays = {name: np.asarray(value) for name, value in to_state_dict(params).items()}
    for name, array in arrays.items():
        # One of numpy's own numbers, or bfloat16: other dtypes are not in every format.
        if array.dtype != jnp.bfloat16 and array.dtype.char not in "?bBhHiIlLqQefdFD":
            raise TypeError(f"`{name}` must be an array of numbers, got dtype {array.dtype}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"`path` lies in a folder that does not exist: {path}")
    _format(path).write(path, arrays)


def _format(path: pathlib.Path) -> Format:
    if path.suffix not in _FORMATS:
        raise ValueError(f"`path` must end in {', '.join(_FORMATS)}, got {path}")
    return _FORMATS[path.suffix]


def _read_safetensors(path: pathlib.Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return load_file(path)


def _write_safetensors(path: pathlib.Path, arrays: dict[str, Any]) -> None:
    from safetensors.numpy import save_file

    # safetensors writes the memory as it lies, so it must lie in C order.
    save_file({name: np.asarray(value, order="C") for name, value in arrays.items()}, path)


def _read_npz(path: pathlib.Path) -> dict[str, Any]:
    # Open it here, because np.load leaves a damaged file open.
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        # numpy does not know bfloat16, and writes it as two nameless bytes.
        return {
            name: file[name].view(jnp.bfloat16) if file[name].dtype == "V2" else file[name]
            for name in file
        }


def _write_npz(path: pathlib.Path, arrays: dict[str, Any]) -> None:
    # Not np.savez, for which names like `file` are arguments of its own.
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _read_pt(path: pathlib.Path) -> Any:
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


def _write_pt(path: pathlib.Path, arrays: dict[str, Any]) -> None:
    import torch

    def tensor(array: np.ndarray) -> torch.Tensor:
        array = np.array(array)  # torch wants to be able to write
        if array.dtype != jnp.bfloat16:
            return torch.from_numpy(array)
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)

    torch.save({name: tensor(array) for name, array in arrays.items()}, path)


_PT = Format(_read_pt, _write_pt)
_FORMATS = {
    ".safetensors": Format(_read_safetensors, _write_safetensors),
    ".npz": Format(_read_npz, _write_npz),
    ".pt": _PT,
    ".pth": _PT,
}
