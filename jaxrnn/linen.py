"""`torch.nn.RNN`, `LSTM`, `GRU` and their cells as flax linen modules.

They are thin: flax keeps the parameters and hands out keys, `jaxrnn.lstm` and so on compute. Import
this module by name: it needs flax.

The parameters are torch's, under its names. So `variables["params"]` is what
`jaxrnn.from_state_dict` returns; in a larger model, the part of it under this module's `name` is::

    params = {**variables["params"], "encoder": jaxrnn.from_state_dict(module.state_dict())}

and that is also how they come from `jaxrnn.init_lstm`, if other initialisers are wanted.
"""

from collections.abc import Mapping
from typing import Any

from flax import linen
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from . import _modules
from ._layers import Lengths


__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]


class _Module(_modules.Module, linen.Module, kw_only=True):
    def _params(self) -> Mapping[str, Array]:
        if self.is_initializing() and not self.variables.get("params"):
            for name, value in self.draw(self.make_rng("params")).items():
                self.param(name, lambda key, value=value: value)
        # All that there are, and not by `self.param`, which would not see those that are too many.
        return self.variables.get("params", {})


class _Cell(_Module, kw_only=True):
    @linen.compact
    def __call__(self, x: Float[ArrayLike, "*B I"], state: Any = None) -> Any:
        """One step: `h = cell(x, h)`, of an LSTM `h, c = cell(x, (h, c))`; zeros by default."""
        return self.run(self._params(), x, state)


class _Layers(_modules.Layers, _Module, kw_only=True):
    deterministic: bool | None = None

    @linen.compact
    def __call__(
        self,
        x: Float[ArrayLike, "*TB I"],
        state: Any = None,
        *,
        lengths: Lengths | None = None,
        deterministic: bool | None = None,
        **options: Any,
    ) -> tuple[Float[Array, "*TB DP"], Any]:
        """`y, state = lstm(x, state)`, as `jaxrnn.lstm` does.

        Args:
            x: (T, B, I), or (B, T, I) with `batch_first`, or (T, I).
            state: that of the chunk before; zeros by default.
            lengths: how many steps of each sequence are valid.
            deterministic: whether nothing is dropped. Where there is dropout, it must be given
                either here or to the module; otherwise it does not matter.
            options: the others of `jaxrnn.lstm`, such as `return_all_states` or `implementation`;
                `masks` with `deterministic=True`, since nothing is drawn then.
        """
        self.check_call(options, 'it comes from the rng "dropout", as in `rngs={"dropout": key}`')
        key = None
        if self.drops and not linen.merge_param("deterministic", self.deterministic, deterministic):
            key = self.make_rng("dropout")
        return self.run(self._params(), x, state, lengths=lengths, key=key, **options)


class RNN(_modules.RNN, _Layers, kw_only=True):
    """`torch.nn.RNN` as a linen module: `LSTM` without `proj_size` and `layer_norm`, but with

    Args:
        nonlinearity: `"tanh"` or `"relu"`.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html

    >>> RNN(10, 20, nonlinearity="relu").structure.kind
    'rnn'
    """


class LSTM(_modules.LSTM, _Layers, kw_only=True):
    """`torch.nn.LSTM` as a linen module: `jaxrnn.lstm` on parameters that flax keeps.

    Sizes are given, as in torch, and not inferred from `x`. Nothing is promoted: `x` and `state`
    have the parameters' dtype.

    Args:
        input_size: features of `x`.
        hidden_size: features of the cell state.
        num_layers: layers on top of each other.
        bias: whether there are `bias_ih` and `bias_hh`.
        batch_first: whether `x` and `y` have the batch before time. The state never has.
        dropout: the probability of dropping, between layers; keys come from the rng `"dropout"`.
        bidirectional: whether every layer also runs backwards.
        proj_size: features of `h`, if smaller than `hidden_size`; 0 for no projection.
        recurrent_dropout: that on the way into `weight_hh`, which torch has not.
        layer_norm: whether it is layer-normalised, which torch has not: see `jaxrnn.init_lstm`.
        param_dtype: of new parameters.
        deterministic: whether nothing is dropped, unless the call says it.

    Raises:
        ValueError: sizes that are no positive integers, `proj_size` not below `hidden_size`,
            parameters that have another structure; at the first call, as all of `jaxrnn.lstm`.
        TypeError: a key, or an argument of the module, given to the call.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html;
    https://flax-linen.readthedocs.io

    >>> import jax
    >>> lstm, x = LSTM(10, 20, num_layers=2), jax.numpy.ones((7, 3, 10))
    >>> variables = lstm.init(jax.random.key(0), x)
    >>> y, (h, c) = lstm.apply(variables, x, lengths=[7, 0, 4])
    >>> variables["params"]["weight_ih_l0"].shape, h.shape
    ((80, 10), (2, 3, 20))
    """


class GRU(_modules.GRU, _Layers, kw_only=True):
    """`torch.nn.GRU` as a linen module: `LSTM` without `proj_size` and `layer_norm`.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html

    >>> sorted(GRU(10, 20, bias=False).structure.shapes)
    ['weight_hh_l0', 'weight_ih_l0']
    """


class RNNCell(_modules.RNNCell, _Cell, kw_only=True):
    """`torch.nn.RNNCell` as a linen module: `h = cell(x, h)`.

    Args:
        input_size: features of `x`.
        hidden_size: features of `h`.
        bias: whether there are `bias_ih` and `bias_hh`.
        nonlinearity: `"tanh"` or `"relu"`.
        param_dtype: of new parameters.

    It is called as torch's is, so it is no `linen.RNNCellBase`, whose carry comes first.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.RNNCell.html
    """


class LSTMCell(_modules.LSTMCell, _Cell, kw_only=True):
    """`torch.nn.LSTMCell` as a linen module: `h, c = cell(x, (h, c))`.

    Arguments are those of `RNNCell`, but `layer_norm` in place of `nonlinearity`.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTMCell.html
    """


class GRUCell(_modules.GRUCell, _Cell, kw_only=True):
    """`torch.nn.GRUCell` as a linen module: `h = cell(x, h)`; `RNNCell` without `nonlinearity`.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.GRUCell.html
    """
