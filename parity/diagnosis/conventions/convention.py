"""Defines a convention, and the changes to arrays by name that most of them are."""

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
        slot: what it is about; a port can have one convention of a slot only.
        change: what to do about it.
        how: fields of `How` that differ.
        case: what the port takes the case for.
        leaves: how it reads the weights, `x` and initial states.
        results: what it makes of its outputs; may call `run` for the outputs of another convention.
    """

    what: str
    slot: str
    change: str
    how: Mapping[str, Any] = MappingProxyType({})
    case: Callable[[Case], Case] = lambda case: case
    leaves: Callable[[Leaves], Leaves] = lambda leaves: leaves
    results: Callable[[Leaves, Run], Leaves] = lambda results, run: results


def each(slot: str, change: str, field: str, values: Mapping[str, Any]) -> list[Convention]:
    """Returns conventions that differ in one field; `values` has it by what they are."""
    return [Convention(what, slot, change, **{field: value}) for what, value in values.items()]


def on(names: Sequence[str], change: Callable[[Any], Any]) -> Callable[..., Leaves]:
    """Changes the arrays of these names, as far as there are any."""
    return lambda arrays, run=None: arrays | {n: change(arrays[n]) for n in names if n in arrays}


def taken(names: Mapping[str, str]) -> Callable[..., Leaves]:
    """Takes for each of these names the array of another."""
    return lambda arrays, run=None: arrays | {a: arrays[b] for a, b in names.items()}


def blocks(gates: int, change: Callable[[list[Any]], list[Any]]) -> Callable[[Any], Any]:
    return lambda a: anp.concatenate(change([*anp.split(a, gates)]))
