"""What the flax modules of `nnx` and `linen` share: torch's arguments as fields, and their use.

There is no flax here. Those two add where parameters are kept, and where keys come from.
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
    """A cell, or what layers have in common with it; `kind` names the function that it calls."""

    kind: ClassVar[str]
    input_size: int
    hidden_size: int
    _: KW_ONLY
    bias: bool = True
    param_dtype: Any = jnp.float32

    @property
    def structure(self) -> Structure:
        """What its parameters must be."""
        return Structure(**self._having(Structure._fields))

    def draw(self, key: PRNGKeyArray) -> dict[str, Array]:
        """New parameters, of torch's distribution."""
        return draw_params(key, self.structure, self.param_dtype)

    def run(self, params: Mapping[str, Array], x: Any, state: Any, **options: Any) -> Any:
        """Its function, on parameters that have been loaded perhaps, and so may be another's."""
        found = structure(params, self.kind)
        for name, wanted in self.structure._asdict().items():
            if (came := getattr(found, name)) != wanted:
                raise ValueError(
                    f"this {type(self).__name__} was made with {name}={wanted!r}, but has got the "
                    f"parameters of one with {name}={came!r}: make it with what they have"
                )
        own = self._having(("nonlinearity", "batch_first", "dropout", "recurrent_dropout"))
        return FUNCTIONS[self.kind](params, x, state, **own, **options)

    def _having(self, names: tuple[str, ...]) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names if hasattr(self, name)}


@dataclass(eq=False, repr=False)
class Layers(Module):
    """What all three kinds of layers have."""

    num_layers: int = 1
    _: KW_ONLY
    batch_first: bool = False
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    bidirectional: bool = False

    @property
    def drops(self) -> bool:
        # Between layers, so on a single one `dropout` does nothing, but for the functions' warning.
        return bool((self.dropout and self.num_layers != 1) or self.recurrent_dropout)

    def check_call(self, options: Mapping[str, Any], keys: str) -> None:
        """Refuses those of a call's options that are the functions', but here have another place.

        Args:
            options: the call's.
            keys: where those for dropout come from.
        """
        name = type(self).__name__
        if "key" in options:
            raise TypeError(f"`key` is an argument of `jaxrnn.{self.kind}`: here, {keys}")
        for own in (field.name for field in fields(self) if field.name in options):
            raise TypeError(f"`{own}` is an argument of `{name}(…)` itself, not of its call")


@dataclass(eq=False, repr=False)
class Elman(Module):
    """What an RNN and its cell have in common."""

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
