"""What a convention is, and the changes to arrays by name that most of them are."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from ...backends.numpy import Leaves, anp
from ...cases import Case


Run = Callable[..., Leaves]  # fields of `How` → the outputs of the same network
INITIAL, FINAL = ("h_0", "c_0"), ("h_n", "c_n")


class Convention(NamedTuple):
    """A way to go wrong.

    Attributes:
        what: completes "the port …".
        slot: what it is about; of one slot a port can have one convention only.
        change: what to do about it.
        how: fields of `How` that differ.
        case: what the port takes the case for.
        leaves: how it reads the weights, `x` and initial states.
        results: what it makes of its outputs; may call `run` for those of another convention.
    """

    what: str
    slot: str
    change: str
    how: Mapping[str, Any] = MappingProxyType({})
    case: Callable[[Case], Case] = lambda case: case
    leaves: Callable[[Leaves], Leaves] = lambda leaves: leaves
    results: Callable[[Leaves, Run], Leaves] = lambda results, run: results


def on(names: Sequence[str], change: Callable[[Any], Any]) -> Callable[..., Leaves]:
    """Of the arrays of these names, as far as there are any, the changed ones in their place."""
    return lambda arrays, run=None: arrays | {n: change(arrays[n]) for n in names if n in arrays}


def matrices(case: Case, kind: str) -> list[str]:
    return [f"{kind}{suffix}" for suffix in case.structure.suffixes]


def blocks(gates: int, change: Callable[[list[Any]], list[Any]]) -> Callable[[Any], Any]:
    return lambda a: anp.concatenate(change([*anp.split(a, gates)]))


def zeros(a: Any) -> Any:
    return anp.zeros_like(a)
