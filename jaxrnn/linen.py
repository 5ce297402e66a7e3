"""`torch.nn.RNN`, `LSTM`, `GRU` and their cells as flax linen modules.

They are thin: flax keeps the parameters and hands out keys, `jaxrnn.lstm` and so on compute. Import
this module by name: it needs flax.

The parameters are torch's, under its names: `variables["params"]` is what `jaxrnn.from_state_dict`
and `jaxrnn.init_lstm` return. In a larger model, the part under this module's `name` is::

    params = {**variables["params"], "encoder": jaxrnn.from_state_dict(module.state_dict())}
"""

from collections.abc import Mapping
from typing import Any

from flax import linen
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from . import _modules
from ._check import Lengths


__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]


class _Module(_modules.Module, linen.Module, kw_only=True):
    def _params(self) -> Mapping[str, Array]:
        if self.is_initializing() and not self.variables.get("params"):
            for name, value in self.draw(self.make_rng("params")).items():
                self.param(name, lambda key, value=value: value)
        # All of them, and not by `self.param`, which would not see unexpected ones.
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
        """`y, state = lstm(x, state)`, with `x`, `state` and `lengths` as in `jaxrnn.lstm`.

        Args:
            deterministic: whether nothing is dropped. With dropout, set it either here or for the
                module.
            options: other options of `jaxrnn.lstm`, such as `return_all_states`; `masks` need
                `deterministic=True`, so that no others are drawn.
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

    Sizes are arguments, as in torch, and not inferred from `x`. Nothing is promoted: `x` and
    `state` have the parameters' dtype. Arguments that are not listed here are those
    of `torch.nn.LSTM`, as `jaxrnn.init_lstm` and `jaxrnn.lstm` describe them.

    Args:
        dropout: the keys come from the rng `"dropout"`.
        recurrent_dropout: the probability of dropping on the way into `weight_hh`; torch has none.
        layer_norm: whether it is layer-normalised; torch has no such LSTM.
        param_dtype: the dtype of new parameters.
        deterministic: whether nothing is dropped, unless the call sets it.

    Raises:
        ValueError: in a call: sizes that are not positive integers, `proj_size` not below
            `hidden_size`, parameters of another structure, and whatever `jaxrnn.lstm` refuses.
        TypeError: a call with a key, or with an argument of the module.

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
    """`torch.nn.RNNCell` as a linen module: `h = cell(x, h)`, with torch's arguments.

    Args:
        param_dtype: the dtype of new parameters.

    It is called like torch's cell, so it is not a `linen.RNNCellBase`, whose carry comes first.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.RNNCell.html
    """


class LSTMCell(_modules.LSTMCell, _Cell, kw_only=True):
    """`torch.nn.LSTMCell` as a linen module: `h, c = cell(x, (h, c))`.

    Its arguments are those of `RNNCell`, with `layer_norm` instead of `nonlinearity`.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTMCell.html
    """


class GRUCell(_modules.GRUCell, _Cell, kw_only=True):
    """`torch.nn.GRUCell` as a linen module: `h = cell(x, h)`; `RNNCell` without `nonlinearity`.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.GRUCell.html
    """
