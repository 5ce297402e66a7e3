"""Any JAX function on a pair's numbers, differentiated and jitted; and a case's function."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn

from ..cases import Case
from ..criterion import Arrays
from .data import Data, floating, output_shapes, widened


Function = Callable[..., Any]
Program = Callable[[Data], Arrays]


def program(function: Function, outputs: Sequence[str]) -> Program:
    """`function(params, **inputs)` as a program from data to outputs and derivatives by name.

    The program is jitted, and compiled once for data of the same shapes. Data that is
    not to be differentiated is not jitted: some of the function may be the host's work.
    """

    def named(varying: Any, constant: Any) -> dict[str, Any]:
        params, inputs = (one | other for one, other in zip(varying, constant, strict=True))
        leaves = jax.tree.leaves(function(params, **inputs))
        unknown = [f"output {i}" for i in range(len(outputs), len(leaves))]
        return dict(zip([*outputs, *unknown], leaves, strict=False))

    def split(varying: Any, constant: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        results = {name: jnp.asarray(a) for name, a in named(varying, constant).items()}
        smooth = {name: a for name, a in results.items() if floating(a)}
        return smooth, {name: a for name, a in results.items() if name not in smooth}

    def compute(varying: Any, constant: Any, cotangents: Any, tangents: Any) -> dict[str, Any]:
        smooth = lambda varying: split(varying, constant)
        results, pullback, rest = jax.vjp(smooth, varying, has_aux=True)
        if jax.tree.map(jnp.shape, results) != jax.tree.map(jnp.shape, cotangents):
            return results | rest  # nothing to differentiate; the verdict will say what is wrong
        cotangents = jax.tree.map(lambda a, b: a.astype(b.dtype), cotangents, results)
        arrays = results | rest | _flat("grad", pullback(cotangents)[0])
        if any(tangents):
            gradient = lambda varying: jax.vjp(smooth, varying, has_aux=True)[1](cotangents)[0]
            arrays |= _flat("hvp", jax.jvp(gradient, (varying,), (tangents,))[1])
        return arrays

    jitted = jax.jit(compute)

    def run(data: Data) -> Arrays:
        varying, constant = (_pick(data, varies) for varies in (True, False))
        if not data.differentiate:
            arrays = named(varying, constant)
        else:
            tangents = [{n: data.tangents[n] for n in part if data.tangents} for part in varying]
            arguments = (varying, constant, dict(data.cotangents), tangents)
            try:
                arrays = jitted(*arguments)
            except jax.errors.JAXTypeError:  # it looks at values, such as lengths: not to be jitted
                arrays = compute(*jax.device_put(arguments))
        return {name: widened(np.asarray(a)) for name, a in arrays.items()}

    return run


def _pick(data: Data, varies: bool) -> list[Arrays]:
    """The parameters and the inputs that are differentiated by, or those that are not."""
    groups = (data.params, data.inputs)
    return [{n: a for n, a in group.items() if data.varies(n, a) == varies} for group in groups]


def _flat(kind: str, groups: Any) -> dict[str, Any]:
    return {f"{kind} {name}": a for group in groups for name, a in group.items()}


def function(case: Case) -> Function:
    """The function of jaxrnn that a case is about: `jaxrnn.lstm` and so on."""
    return getattr(jaxrnn, case.structure.kind)


def call(
    case: Case,
    apply: Function,
    params: Any,
    x: Any,
    lengths: Any = None,
    masks: Any = None,
    **states: Any,
) -> Any:
    """Calls a function like `jaxrnn.lstm` with a case's options."""
    state = None
    if case.state:
        state = (states["h_0"], states["c_0"]) if "c_0" in states else states["h_0"]
    options: dict[str, Any] = {}
    if case.structure.kind.startswith("rnn"):
        options["nonlinearity"] = case.nonlinearity
    if case.cell:
        return apply(params, x, state, **options)
    if case.dropout:
        options |= {"dropout": case.dropout, "masks": masks}
    return apply(params, x, state, batch_first=case.batch_first, lengths=lengths, **options)


def run_case(case: Case, data: Data, apply: Function | None = None) -> Arrays:
    """A case in jaxrnn, or in a function like it: outputs and derivatives by name."""
    layer = functools.partial(call, case, apply or function(case))
    return program(layer, list(output_shapes(case)))(data)


def states(case: Case, data: Data, apply: Function | None = None) -> list[np.ndarray]:
    """`h` after every step (for an LSTM also `c`), as (T, layers · directions, B, features)."""
    every = functools.partial(apply or function(case), return_all_states=True)
    run = jax.jit(lambda params, inputs: call(case, every, params, **inputs)[1])
    batched = lambda a: a if case.batch is not None else a[:, :, None]
    arrays = jax.tree.leaves(run(*jax.device_put((data.params, data.inputs))))
    return [np.asarray(batched(a)) for a in arrays]
