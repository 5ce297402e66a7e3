"""Runs `diagnose` on planted ports, for the tests of what it names and reports."""

import functools
from typing import Any

import jax
import numpy as np

from parity import diagnose
from parity.mutants.plant import Mistake
from parity.mutants.ports import PORTS
from parity.mutants.ports.layer import numbers, port


def outputs_of(mistake: Mistake, case: Any, weights: Any, inputs: Any) -> dict[str, np.ndarray]:
    """What the port returns, by the names that `diagnose` knows."""
    outputs = jax.jit(port(case, mistake.wrong))(weights, **inputs)
    return jax.tree.map(np.asarray, outputs)


def diagnosed(mistake: Mistake, name: str, scale: float = 1.0) -> Any:
    """The diagnosis of a function if its case has cotangents, else of a function's results."""
    case, weights, inputs = numbers(name, mistake.pair, mistake.dtype)
    weights = {n: a * a.dtype.type(scale) for n, a in weights.items()}
    outputs: Any = jax.jit(port(case, mistake.wrong))
    if not case.cotangents:
        outputs = outputs_of(mistake, case, weights, inputs)
    return diagnose(
        case.structure.kind if case.cell else None,
        weights,
        inputs,
        outputs,
        nonlinearity=case.nonlinearity,
        batch_first=case.batch_first,
        dropout=case.dropout,
    )


@functools.cache
def result(name: str) -> Any:
    """The diagnosis of a port of the catalogue."""
    return diagnosed(PORTS[name], name)
