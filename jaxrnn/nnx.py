"""`torch.nn.RNN`, `LSTM`, `GRU` and their cells as flax nnx modules.

They are thin: flax keeps the parameters and hands out keys, `jaxrnn.lstm` and so on compute. Import
this module by name: it needs flax.

The parameters are torch's, under its names. So they are loaded by::

    nnx.update(lstm, jaxrnn.from_state_dict(module.state_dict()))

and likewise the nested ones of a whole model, or those of `jaxrnn.init_lstm`, if other initialisers
are wanted. `lstm.params` is that dict again. What is too much or misshapen is refused at the next
call; what is missing keeps its value, as in all of nnx: `jaxrnn.structure(params) ==
lstm.structure` says beforehand whether it fits.
"""

from dataclasses import KW_ONLY, InitVar, dataclass
from typing import Any

from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from . import _modules
from ._layers import Lengths


__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]

Keys = nnx.Rngs | nnx.RngStream | PRNGKeyArray


@dataclass(eq=False, repr=False)
class _Module(_modules.Module, nnx.Module):
    _: KW_ONLY
    rngs: InitVar[nnx.Rngs]

    def __post_init__(self, rngs: nnx.Rngs) -> None:
        for name, value in self.draw(rngs.params()).items():
            setattr(self, name, nnx.Param(value))

    @property
    def params(self) -> dict[str, Array]:
        """What `jaxrnn.lstm` and so on take."""
        own = vars(self).items()
        return {name: a[...] for name, a in own if name.startswith(("weight_", "bias_"))}


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
        # Only where there is dropout, so that else parameters are all that there is to split.
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
        """`y, state = lstm(x, state)`, as `jaxrnn.lstm` does.

        Args:
            x: (T, B, I), or (B, T, I) with `batch_first`, or (T, I).
            state: that of the chunk before; zeros by default.
            lengths: how many steps of each sequence are valid.
            deterministic: whether nothing is dropped; by default what `train()` and `eval()` said.
            rngs: where the key for dropout comes from, in place of the module's own.
            options: the others of `jaxrnn.lstm`, such as `return_all_states` or `implementation`;
                `masks` with `deterministic=True`, since nothing is drawn then.
        """
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

    Nothing is promoted: `x` and `state` have the parameters' dtype.

    Args:
        input_size: features of `x`.
        hidden_size: features of the cell state.
        num_layers: layers on top of each other.
        bias: whether there are `bias_ih` and `bias_hh`.
        batch_first: whether `x` and `y` have the batch before time. The state never has.
        dropout: the probability of dropping, between layers.
        bidirectional: whether every layer also runs backwards.
        proj_size: features of `h`, if smaller than `hidden_size`; 0 for no projection.
        recurrent_dropout: that on the way into `weight_hh`, which torch has not.
        layer_norm: whether it is layer-normalised, which torch has not: see `jaxrnn.init_lstm`.
        param_dtype: of new parameters.
        deterministic: whether nothing is dropped; `train()`, `eval()` and `nnx.view` set it.
        rngs: its `params` draws the parameters, its `dropout` is forked for dropout.

    Raises:
        ValueError: sizes that are no positive integers, or `proj_size` not below `hidden_size`; at
            the call, parameters that have another structure, and all that `jaxrnn.lstm` refuses.

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
    """`torch.nn.RNNCell` as an nnx module: `h = cell(x, h)`.

    Args:
        input_size: features of `x`.
        hidden_size: features of `h`.
        bias: whether there are `bias_ih` and `bias_hh`.
        nonlinearity: `"tanh"` or `"relu"`.
        param_dtype: of new parameters.
        rngs: its `params` draws the parameters.

    It is called as torch's is, so it is no `nnx.RNNCellBase`, whose carry comes first.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.RNNCell.html
    """


@dataclass(eq=False, repr=False)
class LSTMCell(_modules.LSTMCell, _Cell):
    """`torch.nn.LSTMCell` as an nnx module: `h, c = cell(x, (h, c))`.

    Arguments are those of `RNNCell`, but `layer_norm` in place of `nonlinearity`.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTMCell.html
    """


@dataclass(eq=False, repr=False)
class GRUCell(_modules.GRUCell, _Cell):
    """`torch.nn.GRUCell` as an nnx module: `h = cell(x, h)`; `RNNCell` without `nonlinearity`.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.GRUCell.html
    """
