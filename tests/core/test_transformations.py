"""Law: every transformation of JAX takes every layer, and none changes what is computed."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    LENGTHS,
    assert_close,
    draw,
    every_layer,
    gradients,
    outputs,
    score,
    typical_layers,
)
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxrnn._implementations import run


@typical_layers
def test_jit(layer):
    leaves = draw(layer)
    assert_close(outputs(layer)(leaves, jnp.array(LENGTHS)), layer(*leaves, lengths=LENGTHS))


@every_layer
def test_derivatives_are_differences(layer):
    """Forward and reverse mode against a central difference in one random direction."""
    f = functools.partial(outputs(layer), lengths=jnp.array(LENGTHS))
    leaves, tangents = draw(layer), draw(layer, seed=1)
    step = 1e-5
    moved = lambda by: f(jax.tree.map(lambda a, b: a + by * b, leaves, tangents))
    difference = jax.tree.map(lambda a, b: (a - b) / (2 * step), moved(step), moved(-step))

    forward = jax.jit(lambda *both: jax.jvp(f, *both)[1])((leaves,), (tangents,))
    assert_close(forward, difference, "difference")

    gradient = gradients(layer)(leaves, jnp.array(LENGTHS))
    assert gradient[0].keys() == leaves[0].keys()
    assert all(jnp.any(g != 0) for g in jax.tree.leaves(gradient))
    along = jax.tree.reduce(jnp.add, jax.tree.map(jnp.vdot, gradient, tangents))
    assert_close(along, score(forward))


@typical_layers
def test_jacobians(layer):
    layer = layer.replace(num_layers=1, bidirectional=False)
    leaves, f = draw(layer, time=3, batch=2), lambda leaves: layer(*leaves)
    assert_close(jax.jit(jax.jacfwd(f))(leaves), jax.jit(jax.jacrev(f))(leaves))


@every_layer
def test_hessian(layer):
    """It is symmetric, and its products are derivatives of the gradient."""
    layer = layer.replace(bidirectional=False)
    flat, unravel = ravel_pytree(draw(layer, time=3, batch=2))
    v = jnp.cos(jnp.arange(len(flat), dtype=float))
    gradient = jax.grad(lambda flat: score(layer(*unravel(flat))))
    hessian = jax.jit(jax.hessian(lambda flat: score(layer(*unravel(flat)))))(flat)
    assert jnp.any(hessian != 0)
    assert_close(hessian, hessian.T)
    assert_close(jax.jit(lambda v: jax.jvp(gradient, (flat,), (v,))[1])(v), hessian @ v)


@every_layer
def test_vmap_is_batch(layer):
    """Over data, states and lengths at once."""
    params, x, state = draw(layer)
    one = lambda x, state, length: layer(params, x, state, lengths=length)
    mapped = jax.jit(jax.vmap(one, in_axes=(1, 1, 0), out_axes=1))(x, state, jnp.array(LENGTHS))
    assert_close(mapped, outputs(layer)((params, x, state), jnp.array(LENGTHS)))


@pytest.mark.parametrize("which", range(4), ids=["params", "x", "state", "lengths"])
@typical_layers
def test_vmap_over_one_argument(layer, which):
    """It equals a loop; over parameters it is an ensemble."""
    f = lambda *args: outputs(layer)(args[:3], args[3])
    args = (*draw(layer), jnp.array(LENGTHS))
    others = [(*draw(layer, seed=seed), jnp.array(LENGTHS[::-1])) for seed in (1, 2)]
    each = [(*args[:which], other[which], *args[which + 1 :]) for other in [args, *others]]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *[one[which] for one in each])
    axes = [0 if i == which else None for i in range(4)]
    mapped = jax.jit(jax.vmap(f, in_axes=axes))(*args[:which], stacked, *args[which + 1 :])
    assert_close(mapped, jax.tree.map(lambda *a: jnp.stack(a), *[f(*one) for one in each]))


@typical_layers
def test_scan_around(layer):
    """Chunks of a sequence, the state carried between them, are the sequence."""
    layer = layer.replace(bidirectional=False)
    params, x, state = draw(layer, time=6)
    chunks = x.reshape(3, 2, *x.shape[1:])
    feed = lambda state, chunk: layer(params, chunk, state)[::-1]
    final, y = jax.lax.scan(feed, state, chunks)
    assert_close((y.reshape(*x.shape[:2], -1), final), layer(params, x, state))


@typical_layers
def test_checkpoint(layer):
    leaves, lengths = draw(layer), jnp.array(LENGTHS)
    f = jax.checkpoint(lambda leaves: score(layer(*leaves, lengths=lengths)))
    value, gradient = jax.jit(jax.value_and_grad(f))(leaves)
    assert_close(value, score(outputs(layer)(leaves, lengths)))
    assert_close(gradient, gradients(layer)(leaves, lengths))


@typical_layers
def test_shard_map(layer):
    """Over the batch, from the zero state; no loop sums weights' gradients over the devices."""
    layer = layer.replace(num_layers=1)
    params, x, _ = draw(layer)
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    gradient = jax.grad(lambda *args: score(layer(*args[:2], lengths=args[2])), (0, 1))
    specs = P(), P(None, "data"), P("data")
    shared = jax.shard_map(gradient, mesh=mesh, in_specs=specs, out_specs=specs[:2])
    args = params, x, jnp.array(LENGTHS)
    assert_close(jax.jit(shared)(*args), jax.jit(gradient)(*args))
    jaxpr = jax.make_jaxpr(shared)(*args)
    inside = [
        e
        for loop in equations(jaxpr)
        if loop.primitive.name == "scan"
        for e in equations(loop.params["jaxpr"])
    ]
    sums = lambda es: sum(e.primitive.name.startswith("psum") for e in es)
    assert sums(equations(jaxpr)) > 0 == sums(inside)


@typical_layers
def test_numpy_arrays(layer):
    leaves = draw(layer)
    params, x, state = jax.tree.map(np.asarray, leaves)
    state = tuple(state) if layer.structure.gates == 4 else state  # any pair will do
    found = layer(params, x, state, lengths=list(LENGTHS))
    assert_close(found, outputs(layer)(leaves, jnp.array(LENGTHS)))


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("layers", [1, 3])
@typical_layers
def test_program_does_not_grow_with_time(layer, layers, directions):
    layer = layer.replace(num_layers=layers, bidirectional=directions == 2)
    f = lambda leaves: layer(*leaves, lengths=jnp.array(LENGTHS))
    # Backwards, "fused" has a loop over chunks around the loop over time.
    scanned = layer.implementation == "scan" or layer.structure.proj_size
    for program, scans in (f, 1), (jax.grad(lambda leaves: score(f(leaves))), 2 if scanned else 3):
        jaxprs = [jax.make_jaxpr(program)(draw(layer, time=time)) for time in (7, 200)]
        # A scan may be unrolled, but not further for a longer sequence.
        short, long = (
            [(e.primitive.name, e.params.get("unroll")) for e in equations(jaxpr)]
            for jaxpr in jaxprs
        )
        assert short == long
        names = [name for name, _ in short]
        assert names.count("scan") == scans * layers * directions
        assert "while" not in names


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("cell", [False, True], ids=["layer", "cell"])
@every_layer
def test_dtype_is_kept(layer, cell, dtype):
    """By outputs and gradients; and nothing on the way is wider than a state must be."""
    layer = layer.replace(bidirectional=False)
    f = lambda leaves: layer(*leaves, lengths=jnp.array(LENGTHS))
    if cell:
        f = lambda leaves: layer.cell(*leaves)
    leaves = draw(layer.cell if cell else layer, dtype=dtype)
    for program in f, jax.grad(lambda leaves: score(f(leaves))):
        jaxpr, out = jax.make_jaxpr(program, return_shape=True)(leaves)
        assert {a.dtype.name for a in jax.tree.leaves(out)} == {dtype}
        inside = {v.aval.dtype for e in equations(jaxpr) for v in e.outvars}
        widest = max(d.itemsize for d in inside if jnp.issubdtype(d, jnp.floating))
        assert widest == max(4, jnp.dtype(dtype).itemsize)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@typical_layers
def test_dtypes_agree(layer, dtype):
    """Gradients in float32 and bfloat16 are those of float64, rounded."""
    leaves, lengths = draw(layer, dtype=dtype), jnp.array(LENGTHS)
    to = lambda tree, dtype: jax.tree.map(lambda a: a.astype(dtype), tree)
    wanted = gradients(layer)(to(leaves, float), lengths)
    assert_close(gradients(layer)(leaves, lengths), to(wanted, dtype))


def equations(jaxpr: Any) -> Iterator[Any]:
    """Those of a program and of all programs within."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(list(equation.params.values())):
            if hasattr(inner, "eqns"):
                yield from equations(inner)


@typical_layers
def test_outside_of_jit_nothing_is_compiled_twice(layer):
    leaves = draw(layer)
    call = lambda: jax.block_until_ready(layer(*leaves, lengths=LENGTHS))
    call()
    compiled = run._cache_size()
    call()
    assert compiled > 0
    assert run._cache_size() == compiled
