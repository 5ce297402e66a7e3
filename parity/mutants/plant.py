"""A known mistake, how it is planted in a pair, and the ways in which functions go wrong."""

import functools
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple
from unittest import mock

from ..pair import Pair


Function = Callable[..., Any]
Change = Callable[[Function], Function]


class Mistake(NamedTuple):
    """A known mistake: what makes a wrong function of the right one, and where it is planted."""

    wrong: Change  # takes the right JAX function, returns the wrong one
    pair: Hashable  # the Case, or (row, name) of a text's pair, in which it is planted
    dtype: str = "float64"
    named: str = ""  # for ports of diagnose: what `diagnose` must say of it, first


def plant(mistake: Mistake, pair: Pair) -> Pair:
    """The pair with the mistake in its JAX function."""
    return pair._replace(jax=mistake.wrong(pair.jax), locate=None)


def written(function: Function) -> Change:
    """Another function in its place, written by hand."""
    return lambda right: function


def with_params(change: Function) -> Change:
    """Parameters read wrongly."""
    return lambda right: lambda params, *args, **options: right(change(params), *args, **options)


def with_inputs(**changes: Function) -> Change:
    """Some inputs replaced, each by a function of all of them."""

    def wrong(right: Function) -> Function:
        def call(params: Any, **inputs: Any) -> Any:
            changed = {name: change(**inputs) for name, change in changes.items()}
            return right(params, **inputs | changed)

        return call

    return wrong


def returned(change: Function) -> Change:
    """The result changed."""
    return lambda right: lambda params, **inputs: change(right(params, **inputs))


def instead(module: Any, name: str, part: Function) -> Change:
    """Another part of the library; `part` takes the right one first."""

    def wrong(right: Function) -> Function:
        def call(params: Any, **inputs: Any) -> Any:
            other = functools.partial(part, getattr(module, name))
            with mock.patch.object(module, name, other):
                return right(params, **inputs)

        return call

    return wrong
