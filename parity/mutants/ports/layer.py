"""Layers of random sizes in which users' mistakes are planted, and how mistakes are made of them.

A function of a layer is called like `jaxrnn.lstm`: `(params, x, state, **options) → (y, state)`.
"""

import functools
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn

from ...backends.data import DTYPES, output_shapes
from ...cases import GRU, LSTM, RNN, Case
from ...criterion import Arrays
from ..layers import Params
from ..plant import Function, Mistake


Wrong = Callable[[Function], Function]

# `numbers` draws the sizes. Without cotangents `diagnose` is given results, and no gradients.
_case = functools.partial(Case, "ports", cotangents=())
ONE = _case(LSTM)
TWO = _case(LSTM._replace(num_layers=2))
THREE = _case(LSTM._replace(num_layers=3))
BOTH = _case(LSTM._replace(bidirectional=True))
STACKED = _case(LSTM._replace(num_layers=2, bidirectional=True))
PADDED = _case(LSTM, lengths=())
BOTH_PADDED = BOTH._replace(lengths=())
GATED = _case(GRU)
GATED_BOTH = _case(GRU._replace(bidirectional=True))
PLAIN = _case(RNN)
GRADIENTS = Case("ports", LSTM)


def numbers(name: str, case: Case, dtype: str = "float32") -> tuple[Case, Arrays, Arrays]:
    """The case with sizes drawn by `name`, torch's weights, and inputs by `diagnose`'s names.

    All sizes are different, so that no mistake fits by chance.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    time, batch, inputs, hidden = rng.permutation([3, 4, 5, 6, 7, 8, 9])[:4].tolist()
    s = case.structure._replace(input_size=inputs, hidden_size=hidden)
    case = case._replace(structure=s, time=1 if case.cell else time, batch=batch)
    shapes = output_shapes(case)
    leading = (batch,) if case.cell else shapes["y"][:-1]
    draw = lambda *shape: (0.8 * rng.standard_normal(shape)).astype(DTYPES[dtype])
    weights = {name: draw(*shape) for name, shape in s.shapes.items()}
    arrays = {"x": draw(*leading, inputs)}
    if case.state:
        arrays |= {f"{n[0]}0": draw(*shape) for n, shape in shapes.items() if n != "y"}
    if case.lengths is not None:
        lengths = rng.integers(1, time, batch)
        lengths[[0, 2]] = time - 1, 1  # none of them full, and not sorted
        arrays["lengths"] = lengths
    if case.dropout:
        arrays["masks"] = rng.random((s.num_layers - 1, *shapes["y"])) >= case.dropout
    return case, weights, arrays


def port(case: Case, wrong: Wrong) -> Function:
    """The wrong function, called as `diagnose` calls ports; its results by `diagnose`'s names."""
    function = wrong(getattr(jaxrnn, case.structure.kind))
    always: dict[str, Any] = {}
    if not case.cell:
        always = {"batch_first": case.batch_first, "lengths": None}
    if case.dropout:
        always["dropout"] = case.dropout
    if case.structure.gates == 1:
        always["nonlinearity"] = case.nonlinearity

    def call(weights: Params, x: Any, h0: Any = None, c0: Any = None, **options: Any) -> Params:
        state = h0 if c0 is None else (h0, c0)
        results = jax.tree.leaves(function(weights, x, state, **always | options))
        return dict(zip(["y", "hn", "cn"][case.cell :], results, strict=False))

    return call


# How to go wrong.


def planted(named: str, wrong: Wrong, case: Case = ONE, dtype: str = "float32") -> Mistake:
    return Mistake(wrong, case, dtype, named)


def itself(right: Function) -> Function:
    return right


def anew(function: Function) -> Wrong:
    """The whole layer is written by hand."""
    return lambda right: function


def both(first: Wrong, second: Wrong) -> Wrong:
    return lambda right: second(first(right))


def with_params(change: Callable[[Params], Params]) -> Wrong:
    return lambda right: lambda params, *args, **options: right(change(params), *args, **options)


def with_initial(change: Function) -> Wrong:
    """Each array of the initial state is changed."""
    return lambda right: (
        lambda params, x, state, **options: right(params, x, jax.tree.map(change, state), **options)
    )


def with_results(change: Function) -> Wrong:
    """`change` takes y and the final state."""
    return lambda right: lambda *args, **options: change(*right(*args, **options))


def with_final(change: Function) -> Wrong:
    """Each array of the final state is changed."""
    return with_results(lambda y, final: (y, jax.tree.map(change, final)))


def on(part: str, change: Function) -> Callable[[Params], Params]:
    """Weights whose names have `part`, changed."""
    return lambda params: {n: change(a) if part in n else a for n, a in params.items()}


def layer(params: Params, k: int) -> Params:
    """The weights of layer `k`, under the names of a single one."""
    return {n.replace(f"_l{k}", "_l0"): a for n, a in params.items() if n.endswith(f"_l{k}")}


def row(state: Any, k: int) -> Any:
    """The state of one layer or direction."""
    return jax.tree.map(lambda a: a[k : k + 1], state)


def joined(states: Any) -> Any:
    """States of layers or directions, one after another."""
    return jax.tree.map(lambda *a: jnp.concatenate(a), *states)
