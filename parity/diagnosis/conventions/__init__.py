"""What ports do otherwise than torch: each convention as a change to the right computation.

Ordered from the usual to the rare, for where two explain the same numbers the first is named first.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backends.numpy import Leaves
from ...cases import Case
from ..layer import How, outputs
from .convention import Convention
from .layers import directions, layers
from .sequences import dropout, layout, lengths, time
from .states import final, initial
from .steps import steps
from .weights import biases, orders, weights


__all__ = ["Convention", "compatible", "conventions", "predict"]


def conventions(case: Case, masks: bool = False) -> list[Convention]:
    """Every one that means something for this case."""
    found = [*orders(case), *weights(case), *steps(case)]
    if case.structure.bias:
        found += biases(case)
    if case.state:
        found += initial(case)
    found += [*final(case), *directions(case), *layers(case)]
    if not case.cell:
        found += [*layout(case), *time(case), *lengths(case), *dropout(case, masks)]
    return found


def compatible(pair: Sequence[Convention]) -> bool:
    return len({convention.slot for convention in pair}) == len(pair)


def predict(
    chosen: Sequence[Convention], case: Case, leaves: Leaves, masks: np.ndarray | None, **how: Any
) -> Leaves:
    """The outputs of a port that has these conventions, and is otherwise right."""
    taken = case
    for convention in chosen:
        taken, leaves = convention.case(taken), convention.leaves(leaves)
        how |= convention.how
    run = lambda **more: outputs(taken, leaves, masks, How(**(how | more)))
    results = run()
    for convention in chosen:
        results = convention.results(results, run)
    return results
