"""What a planted mistake is, whatever it is planted in."""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple


Function = Callable[..., Any]


class Mistake(NamedTuple):
    """A known mistake: what makes a wrong function of the right one, and where it is planted."""

    wrong: Callable[[Function], Function]  # takes the right JAX function, returns the wrong one
    pair: Hashable  # the Case, or (row, name) of a text's system, in which it is planted
    dtype: str = "float64"
    named: str = ""  # for ports of diagnose: what `diagnose` must say of it, first
