"""Conventions of torch that ports do not keep, each as a change to the right computation.

Ordered from the usual to the rare: where two explain the same numbers, the first is named first.
"""

from collections.abc import Sequence

from ...cases import Case
from .convention import Convention
from .gradients import lost_gradients
from .layers import directions, layers
from .sequences import dropout, layout, lengths, time
from .states import final, initial
from .steps import steps
from .weights import biases, orders, weights


__all__ = ["Convention", "compatible", "conventions", "lost_gradients"]


def conventions(case: Case, masks: bool = False) -> list[Convention]:
    """Returns the conventions of the outputs that mean something for this case."""
    results = [*orders(case), *weights(case), *steps(case)]
    if case.structure.bias:
        results += biases(case)
    if case.state:
        results += initial(case)
    results += [*final(case), *directions(case), *layers(case)]
    if not case.cell:
        results += [*layout(case), *time(case), *lengths(case), *dropout(case, masks)]
    return results


def compatible(pair: Sequence[Convention]) -> bool:
    return len({convention.slot for convention in pair}) == len(pair)
