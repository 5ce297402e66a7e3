"""A case in jaxrnn: the same keys as `torch_side`'s, one jitted program for each shape of case."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn

from ..cases import Case
from ..criterion import Arrays
from .data import Data


Apply = Callable[..., Any]
Program = Callable[[Case, Data], Arrays]


def run(case: Case, data: Data, apply: Apply | None = None) -> Arrays:
    """Outputs, gradients and, if the case has it, the Hessian-vector product, by name.

    `apply` takes the place of `jaxrnn.lstm` (or whichever function the case is about).
    """
    return program(case, apply)(case, data)


def program(shape: Case, apply: Apply | None = None) -> Program:
    """`run`, compiled once for all cases whose `Case.program` is the same as `shape`'s."""

    @jax.jit
    def compute(
        leaves: Any, lengths: Any, masks: Any, cotangents: Any, tangents: Any
    ) -> dict[str, Any]:
        outputs = lambda leaves: _named(_call(shape, apply, leaves, lengths, masks))
        result, pullback = jax.vjp(outputs, leaves)
        if jax.tree.map(jnp.shape, result) != jax.tree.map(jnp.shape, cotangents):
            return result  # no scalar to differentiate; the comparison will say what is wrong
        cotangents = jax.tree.map(lambda a, b: a.astype(b.dtype), cotangents, result)
        result = dict(result)
        result |= {f"grad {name}": g for name, g in pullback(cotangents)[0].items()}
        if shape.second_order:
            gradient = lambda leaves: jax.vjp(outputs, leaves)[1](cotangents)[0]
            second = jax.jvp(gradient, (leaves,), (tangents,))[1]
            result |= {f"hvp {name}": g for name, g in second.items()}
        return result

    return lambda case, data: jax.tree.map(np.asarray, compute(*_arguments(case, data)))


def states(case: Case, data: Data, apply: Apply | None = None) -> list[np.ndarray]:
    """`h` after every step (for an LSTM also `c`), as (T, layers · directions, B, features)."""
    leaves, lengths, masks, *_ = _arguments(case, data)
    _, state = jax.jit(functools.partial(_call, case, apply, return_all_states=True))(
        leaves, lengths, masks
    )
    batched = lambda a: a if case.batch is not None else a[:, :, None]
    return [np.asarray(batched(a)) for a in jax.tree.leaves(state)]


def _arguments(case: Case, data: Data) -> tuple[Any, ...]:
    lengths = None
    if case.lengths is not None:
        lengths = np.array(case.lengths[0] if case.batch is None else case.lengths)
    leaves, cotangents, tangents, masks = data
    # Not by jnp.asarray, which takes a program for each shape.
    return jax.device_put((leaves, lengths, masks, cotangents, tangents))


def _call(
    case: Case, apply: Apply | None, leaves: Any, lengths: Any, masks: Any, **options: Any
) -> Any:
    function: Apply = apply or getattr(jaxrnn, case.structure.kind)
    params = {name: a for name, a in leaves.items() if name not in ("x", "h_0", "c_0")}
    state = None
    if case.state:
        state = (leaves["h_0"], leaves["c_0"]) if "c_0" in leaves else leaves["h_0"]
    if case.structure.kind.startswith("rnn"):
        options["nonlinearity"] = case.nonlinearity
    if case.cell:
        return None, function(params, leaves["x"], state, **options)
    if case.dropout:
        options |= {"dropout": case.dropout, "masks": masks}
    return function(
        params, leaves["x"], state, batch_first=case.batch_first, lengths=lengths, **options
    )


def _named(result: Any) -> dict[str, Any]:
    y, state = result
    named: dict[str, Any] = {} if y is None else {"y": y}
    return named | dict(zip(("h_n", "c_n"), jax.tree.leaves(state), strict=False))
