"""What the flax modules of `nnx` and `linen` share: torch's arguments as fields, and their use.

There is no flax here: `nnx` and `linen` keep the parameters and provide the keys.
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ._cells import gru_cell, lstm_cell, rnn_cell, rnn_step
from ._init import draw_params
from ._layers import gru, lstm, rnn
from ._params import Structure, structure


FUNCTIONS = {f.__name__: f for f in (rnn, lstm, gru, rnn_cell, lstm_cell, gru_cell)}


@dataclass(eq=False, repr=False)
class Module:
    """A cell, or what layers share with it; `kind` names the function that it calls."""

    kind: ClassVar[str]
    input_size: int
    hidden_size: int
    _: KW_ONLY
    bias: bool = True
    param_dtype: Any = jnp.float32

    @property
    def structure(self) -> Structure:
        """The structure that its parameters must have."""
        return Structure(**self._having(Structure._fields))

    def draw(self, key: PRNGKeyArray) -> dict[str, Array]:
        """New parameters, with torch's distribution."""
        return draw_params(key, self.structure, self.param_dtype)

    def run(self, params: Mapping[str, Array], x: Any, state: Any, **options: Any) -> Any:
        """Calls its function. Loaded parameters may be of another structure, and are refused."""
        loaded = structure(params, self.kind)
        for name, wanted in self.structure._asdict().items():
            if (value := getattr(loaded, name)) != wanted:
                raise ValueError(
                    f"this {type(self).__name__} was made with {name}={wanted!r}, but has got the "
                    f"parameters of one with {name}={value!r}: make it with what they have"
                )
        arguments = self._having(("nonlinearity", "batch_first", "dropout", "recurrent_dropout"))
        return FUNCTIONS[self.kind](params, x, state, **arguments, **options)

    def _having(self, names: tuple[str, ...]) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names if hasattr(self, name)}


@dataclass(eq=False, repr=False)
class Layers(Module):
    """The fields that all three kinds of layers share."""

    num_layers: int = 1
    _: KW_ONLY
    batch_first: bool = False
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    bidirectional: bool = False

    @property
    def drops(self) -> bool:
        # `dropout` works between layers: on a single layer the function only warns.
        return bool((self.dropout and self.num_layers != 1) or self.recurrent_dropout)

    def check_call(self, options: Mapping[str, Any], keys: str) -> None:
        """Refuses options of the functions that do not belong in a module's call.

        Args:
            options: of the call.
            keys: where the keys for dropout come from.
        """
        if "key" in options:
            raise TypeError(f"`key` is an argument of `jaxrnn.{self.kind}`: here, {keys}")
        made = type(self).__name__
        for name in (field.name for field in fields(self) if field.name in options):
            raise TypeError(f"`{name}` is an argument of `{made}(…)` itself, not of its call")


@dataclass(eq=False, repr=False)
class Elman(Module):
    """The field that an RNN and its cell share."""

    _: KW_ONLY
    nonlinearity: str = "tanh"

    def __post_init__(self, *rest: Any) -> None:
        rnn_step(self.nonlinearity)  # refuses an unknown one
        super().__post_init__(*rest)  # pyright: ignore[reportAttributeAccessIssue]  # it is flax's


@dataclass(eq=False, repr=False)
class RNN(Elman, Layers):
    kind = "rnn"


@dataclass(eq=False, repr=False)
class LSTM(Layers):
    kind = "lstm"
    _: KW_ONLY
    proj_size: int = 0
    layer_norm: bool = False


@dataclass(eq=False, repr=False)
class GRU(Layers):
    kind = "gru"


@dataclass(eq=False, repr=False)
class RNNCell(Elman):
    kind = "rnn_cell"


@dataclass(eq=False, repr=False)
class LSTMCell(Module):
    kind = "lstm_cell"
    _: KW_ONLY
    layer_norm: bool = False


@dataclass(eq=False, repr=False)
class GRUCell(Module):
    kind = "gru_cell"
