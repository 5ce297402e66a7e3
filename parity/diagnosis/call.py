"""Calls a port: under users' names for inputs and outputs, with or without its gradients."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from ..backends.data import Data, output_shapes
from ..cases import Case
from ..criterion import Arrays


# Users' names, and torch's.
INPUTS = {"x": "x", "h0": "h_0", "c0": "c_0", "lengths": "lengths", "masks": "masks"}
OUTPUTS = {"y": "y", "hn": "h_n", "cn": "c_n"}
Port = Callable[..., Any]


def port_arguments(case: Case, data: Data, leaves: Mapping[str, Any]) -> tuple[Any, Any]:
    """Returns the weights and the inputs that a port is called with, under users' names."""
    params = {name: leaves[name] for name in data.params}
    inputs = {name: leaves[leaf] for name, leaf in INPUTS.items() if leaf in leaves}
    if case.lengths is not None:
        inputs["lengths"] = np.array(case.lengths[0] if case.batch is None else case.lengths)
    if data.masks is not None:
        inputs["masks"] = data.masks
    return params, inputs


def port_outputs(port: Port, case: Case, data: Data) -> Arrays:
    """Returns the outputs of a port by name."""
    with _x64(data):
        outputs = _call(port, case, data, _to_jax(data.leaves))
        return {name: np.asarray(a) for name, a in outputs.items()}


def port_results(port: Port, case: Case, data: Data) -> tuple[Data, Arrays]:
    """Returns the data with cotangents of the outputs' shapes; the port's outputs and gradients."""
    rng = np.random.default_rng(1)
    with _x64(data):
        call = functools.partial(_call, port, case, data)
        outputs, pullback = jax.vjp(call, _to_jax(data.leaves))
        draw = lambda a: rng.standard_normal(a.shape).astype(a.dtype)
        cotangents = {name: draw(a) for name, a in outputs.items()}
        [grads] = pullback(_to_jax(cotangents))
        results = {name: outputs[name] for name in OUTPUTS.values() if name in outputs}
        results |= {f"grad {name}": grads[name] for name in data.leaves}
    return data._replace(cotangents=cotangents), {n: np.asarray(a) for n, a in results.items()}


def _x64(data: Data) -> Any:
    """Leaves x64 as users have it, but turns it on where a number needs it."""
    needed = any(a.dtype == np.float64 for a in data.leaves.values())
    return jax.enable_x64(bool(cast(Any, jax.config).jax_enable_x64) or needed)


def _to_jax(arrays: Arrays) -> dict[str, jax.Array]:
    return {name: jnp.asarray(a) for name, a in arrays.items()}


def _call(port: Port, case: Case, data: Data, leaves: Mapping[str, Any]) -> dict[str, Any]:
    params, inputs = port_arguments(case, data, leaves)
    try:
        results = port(params, **inputs)
    except Exception as error:
        shapes = ", ".join(f"{name}={a.dtype}{list(a.shape)}" for name, a in inputs.items())
        error.add_note(f"raised by the port, which was called as port(weights, {shapes})")
        raise
    return _named(case, results)


def _named(case: Case, results: Any) -> dict[str, Any]:
    """Returns a port's results under torch's names."""
    names = list(output_shapes(case))
    if isinstance(results, Mapping):
        named = {OUTPUTS.get(str(name), str(name)): a for name, a in results.items()}
    elif not case.cell and isinstance(results, tuple | list) and len(results) == 2:
        y, state = results
        named = {} if y is None else {"y": y}
        named |= dict(zip(names[1:], jax.tree.leaves(state), strict=False))
    else:
        named = dict(zip(names, jax.tree.leaves(results), strict=False))
    arrays = all(hasattr(a, "shape") for a in named.values())
    if not named or not named.keys() <= {*names} or not arrays:
        wanted = ", ".join(name for name, key in OUTPUTS.items() if key in names)
        raise ValueError(
            f"the port returned {', '.join(named) or 'nothing'}: wanted (y, hn), (y, (hn, cn)) or, "
            f"of a cell, the state; or a dict of arrays, some of {wanted}"
        )
    return named
