"""`torch.nn.RNN`, `LSTM`, `GRU` and their cells as flax nnx modules.

They are thin: flax keeps the parameters and hands out keys, `jaxrnn.lstm` and so on compute. Import
this module by name: it needs flax.

The parameters are torch's, under its names. Load them by::

    jaxrnn.nnx.load(lstm, jaxrnn.from_state_dict(module.state_dict()))

This also loads the nested parameters of a whole model, or those of `jaxrnn.init_lstm`, to use other
initialisers. `lstm.params` is that dict again.
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY, InitVar, dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from . import _modules
from ._check import Lengths


__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell", "load"]


def load(model: nnx.Module, params: Mapping[str, Any]) -> None:
    """A strict `nnx.update`, like torch's `load_state_dict`: no key is missing or unexpected.

    Args:
        model: any nnx module, such as one that holds ours and flax's own layers.
        params: nested dicts of arrays, with the names, shapes and dtypes of its `nnx.Param`s; those
            in an `nnx.List` are under their numbers, `"0"` as in torch or `0`.

    Raises:
        ValueError: a parameter is missing, unexpected or misshapen; then nothing is loaded.
        TypeError: a parameter has another dtype, or `params` is not a dict.

    Source: https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/state.html;
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html

    >>> cell, a = GRUCell(1, 1, bias=False, rngs=nnx.Rngs(0)), np.ones((3, 1), np.float32)
    >>> load(cell, {"weight_ih": a, "weight_hh": a})
    >>> float(cell.weight_hh.sum())
    3.0
    """
    if not isinstance(params, Mapping):
        raise TypeError(f"`params` must be nested dicts of arrays, got {type(params).__name__}")
    state = {_named(path): (path, a) for path, a in nnx.to_flat_state(nnx.state(model, nnx.Param))}
    arrays = {_named(path): a for path, a in nnx.traversals.flatten_mapping(params).items()}
    missing = [f"has no {name}, which the model has" for name in state if name not in arrays]
    unexpected = [f"has {name}, which the model has not" for name in arrays if name not in state]
    if wrong := missing[:1] + unexpected[:1]:
        dots = any("." in name for name in arrays)
        cause = "a state_dict is nested by jaxrnn.from_state_dict first"
        cause = cause if dots else "is it from another module, or from another level of one?"
        raise ValueError(f"`params` {', and '.join(wrong)}: {cause}")
    for name, (_, a) in state.items():
        if np.shape(arrays[name]) != a.shape:
            raise ValueError(
                f"{name} of `params` has shape {np.shape(arrays[name])}, but in the model "
                f"{a.shape}: is it transposed, or from another layer?"
            )
        if (dtype := str(getattr(arrays[name], "dtype", "no array"))) != str(a.dtype):
            raise TypeError(
                f"{name} of `params` is {dtype}, but in the model {a.dtype}: cast it, or make the "
                "model with that `param_dtype`; torch's tensors go through jaxrnn.from_state_dict"
            )
    loaded = {path: arrays[name] for name, (path, _) in state.items()}
    nnx.update(model, nnx.from_flat_state(loaded))


def _named(path: tuple[Any, ...]) -> str:
    return "".join(f"[{str(key)!r}]" for key in path)


Keys = nnx.Rngs | nnx.RngStream | PRNGKeyArray


@dataclass(eq=False, repr=False)
class _Module(_modules.Module, nnx.Module):
    _: KW_ONLY
    rngs: InitVar[nnx.Rngs]

    def __post_init__(self, rngs: nnx.Rngs) -> None:
        if not isinstance(rngs, nnx.Rngs):
            raise TypeError(
                f"`rngs` must be nnx.Rngs, such as nnx.Rngs(0), got {type(rngs).__name__}"
            )
        for name, value in self.draw(rngs.params()).items():
            setattr(self, name, nnx.Param(value))

    @property
    def params(self) -> dict[str, Array]:
        """The parameters as `jaxrnn.lstm` and so on take them."""
        # Arrays, too: `nnx.update` stores unexpected parameters as such, for `structure` to refuse.
        kept = nnx.Param | jax.Array | np.ndarray
        return {name: a[...] for name, a in vars(self).items() if isinstance(a, kept)}


@dataclass(eq=False, repr=False)
class _Cell(_Module):
    def __call__(self, x: Float[ArrayLike, "*B I"], state: Any = None) -> Any:
        """One step: `h = cell(x, h)`, of an LSTM `h, c = cell(x, (h, c))`; zeros by default."""
        return self.run(self.params, x, state)


@dataclass(eq=False, repr=False)
class _Layers(_modules.Layers, _Module):
    _: KW_ONLY
    deterministic: bool = False

    def __post_init__(self, rngs: nnx.Rngs) -> None:
        super().__post_init__(rngs)
        # Only with dropout: without, a module holds parameters and nothing else.
        self.stream = rngs.dropout.fork() if self.drops else nnx.data(None)

    def __call__(
        self,
        x: Float[ArrayLike, "*TB I"],
        state: Any = None,
        *,
        lengths: Lengths | None = None,
        deterministic: bool | None = None,
        rngs: Keys | None = None,
        **options: Any,
    ) -> tuple[Float[Array, "*TB DP"], Any]:
        """`y, state = lstm(x, state)`, with `x`, `state` and `lengths` as in `jaxrnn.lstm`.

        Args:
            deterministic: whether nothing is dropped; by default as `train()` and `eval()` set it.
            rngs: where the key for dropout comes from, instead of the module's own.
            options: other options of `jaxrnn.lstm`, such as `return_all_states`; `masks` need
                `deterministic=True`, so that no others are drawn.
        """
        self.check_call(options, "it comes from `rngs`, the call's or the module's")
        if deterministic is None:
            deterministic = self.deterministic
        key = None if deterministic or not self.drops else self._key(rngs)
        return self.run(self.params, x, state, lengths=lengths, key=key, **options)

    def set_view(self, deterministic: bool | None = None) -> None:
        """For `nnx.view`.

        Args:
          deterministic: whether nothing is dropped.
        """
        if deterministic is not None:
            self.deterministic = deterministic

    def _key(self, rngs: Keys | None) -> PRNGKeyArray:
        keys = self.stream if rngs is None else rngs
        if keys is None:
            raise ValueError(
                f"this {type(self).__name__} was made without dropout, so it has no keys for it: "
                "pass `rngs` to the call"
            )
        keys = keys.dropout if isinstance(keys, nnx.Rngs) else keys
        return keys() if isinstance(keys, nnx.RngStream) else keys


@dataclass(eq=False, repr=False)
class RNN(_modules.RNN, _Layers):
    """`torch.nn.RNN` as an nnx module: `LSTM` without `proj_size` and `layer_norm`, but with

    Args:
        nonlinearity: `"tanh"` or `"relu"`.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html

    >>> RNN(10, 20, nonlinearity="relu", rngs=nnx.Rngs(0)).params["weight_hh_l0"].shape
    (20, 20)
    """


@dataclass(eq=False, repr=False)
class LSTM(_modules.LSTM, _Layers):
    """`torch.nn.LSTM` as an nnx module: `jaxrnn.lstm` on parameters that flax keeps.

    Nothing is promoted: `x` and `state` have the parameters' dtype. Arguments that are not
    listed here are those of `torch.nn.LSTM`, as `jaxrnn.init_lstm` and `jaxrnn.lstm` describe them.

    Args:
        recurrent_dropout: the probability of dropping on the way into `weight_hh`; torch has none.
        layer_norm: whether it is layer-normalised; torch has no such LSTM.
        param_dtype: the dtype of new parameters.
        deterministic: whether nothing is dropped; `train()`, `eval()` and `nnx.view` set it.
        rngs: its `params` draws the parameters, its `dropout` is forked for dropout.

    Raises:
        ValueError: sizes that are not positive integers, or `proj_size` not below `hidden_size`; in
            a call, parameters of another structure, and whatever `jaxrnn.lstm` refuses.
        TypeError: `rngs` is not `nnx.Rngs`; a call with a key, or with an argument of the module.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html;
    https://flax.readthedocs.io

    >>> import jax
    >>> lstm = LSTM(10, 20, num_layers=2, rngs=nnx.Rngs(0))
    >>> y, (h, c) = lstm(jax.numpy.ones((7, 3, 10)), lengths=[7, 0, 4])
    >>> lstm.weight_ih_l0.shape, h.shape
    ((80, 10), (2, 3, 20))
    """


@dataclass(eq=False, repr=False)
class GRU(_modules.GRU, _Layers):
    """`torch.nn.GRU` as an nnx module: `LSTM` without `proj_size` and `layer_norm`.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html

    >>> sorted(GRU(10, 20, bias=False, rngs=nnx.Rngs(0)).params)
    ['weight_hh_l0', 'weight_ih_l0']
    """


@dataclass(eq=False, repr=False)
class RNNCell(_modules.RNNCell, _Cell):
    """`torch.nn.RNNCell` as an nnx module: `h = cell(x, h)`, with torch's arguments.

    Args:
        param_dtype: the dtype of new parameters.
        rngs: its `params` draws the parameters.

    It is called like torch's cell, so it is not an `nnx.RNNCellBase`, whose carry comes first.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.RNNCell.html
    """


@dataclass(eq=False, repr=False)
class LSTMCell(_modules.LSTMCell, _Cell):
    """`torch.nn.LSTMCell` as an nnx module: `h, c = cell(x, (h, c))`.

    Its arguments are those of `RNNCell`, with `layer_norm` instead of `nonlinearity`.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTMCell.html
    """


@dataclass(eq=False, repr=False)
class GRUCell(_modules.GRUCell, _Cell):
    """`torch.nn.GRUCell` as an nnx module: `h = cell(x, h)`; `RNNCell` without `nonlinearity`.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.GRUCell.html
    """
