"""The implementation "fused": one direction of one layer, its derivative written down once.

Three things make it faster than the plain scan, and none of them changes what is computed:

- The state is kept feature-major, (H, B), so that a step is W @ [x; h] and gates are whole rows.
- The derivative is written as a linear loop over the kept that the forward loop leaves
  behind, which are fewer than what autodiff would keep. JAX transposes it to the backward loop and
  differentiates it again for second order, so that every transformation works.
- Weights have no place in that loop: what a change of theirs does to the gates is one product over
  many time steps, before it. Transposed, their gradients are one product after it.
"""

import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Bool, Float

from ._cells import Step, gru_step, hidden, lstm_step, relu_step, tanh_step, wide, widen
from ._params import LSTMState


COLUMNS = 256  # of a product over many time steps; more give it no speed, and cost memory


class Cell(NamedTuple):
    """A step after its products, for arrays of the shape (features, B).

    Attributes:
        start: from W x, the gates' inputs.
        enter: adds U h to them. Where this is plain addition, one product serves for both.
        step: (inputs, state) → the next state, and what its derivative needs.
        tangent: (what the derivative needs, h, tangents of inputs and state) → the tangent of the
            next state, linear in the latter two.
    """

    start: Callable[[Array], Any]
    enter: Callable[[Any, Array], Any]
    step: Callable[[Any, Any], tuple[Any, Any]]
    tangent: Callable[[Any, Array, Any, Any], Any]


def _lstm(inputs: Array, state: LSTMState) -> tuple[LSTMState, Any]:
    i, f, g, o = jnp.split(inputs, 4)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    c = f * state.c + i * g
    return LSTMState(o * jnp.tanh(c), c), (i, f, g, o, state.c)


def _lstm_tangent(kept: Any, h: Array, inputs: Array, state: LSTMState) -> LSTMState:
    i, f, g, o, c = kept
    squashed = jnp.tanh(f * c + i * g)
    d_i, d_f, d_g, d_o = jnp.split(inputs, 4)
    d_c = f * state.c + g * i * (1 - i) * d_i + c * f * (1 - f) * d_f + i * (1 - g * g) * d_g
    return LSTMState(squashed * o * (1 - o) * d_o + o * (1 - squashed * squashed) * d_c, d_c)


def _gru_start(gates: Array) -> Any:
    return *jnp.split(gates, [2 * len(gates) // 3]), None


def _gru_enter(inputs: Any, gates: Array) -> Any:
    rz, x_n, h_n = inputs
    more_rz, more_n = jnp.split(gates, [len(rz)])
    return rz + more_rz, x_n, more_n if h_n is None else h_n + more_n


def _gru(inputs: Any, h: Array) -> tuple[Array, Any]:
    rz, x_n, h_n = inputs
    r, z = jnp.split(jax.nn.sigmoid(rz), 2)
    n = jnp.tanh(x_n + r * h_n)
    return n + z * (h - n), (r, z, n, h_n)


def _gru_tangent(kept: Any, h: Array, inputs: Any, d_h: Array) -> Array:
    r, z, n, h_n = kept
    d_rz, d_x_n, d_h_n = inputs
    d_r, d_z = jnp.split(d_rz, 2)
    d_n = (1 - z) * (1 - n * n) * (d_x_n + r * d_h_n + h_n * r * (1 - r) * d_r)
    return d_n + z * d_h + (h - n) * z * (1 - z) * d_z


def _tanh(inputs: Array, h: Array) -> tuple[Array, Array]:
    h = jnp.tanh(inputs)
    return h, h


def _tanh_tangent(new: Array, h: Array, inputs: Array, d_h: Array) -> Array:
    return (1 - new * new) * inputs


def _relu(inputs: Array, h: Array) -> tuple[Array, Array]:
    return jax.nn.relu(inputs), inputs > 0


def _relu_tangent(positive: Array, h: Array, inputs: Array, d_h: Array) -> Array:
    return jnp.where(positive, inputs, jnp.zeros_like(inputs))


def _same(inputs: Array) -> Array:
    return inputs


CELLS: dict[Step, Cell] = {
    tanh_step: Cell(_same, operator.add, _tanh, _tanh_tangent),
    relu_step: Cell(_same, operator.add, _relu, _relu_tangent),
    lstm_step: Cell(_same, operator.add, _lstm, _lstm_tangent),
    gru_step: Cell(_gru_start, _gru_enter, _gru, _gru_tangent),
}


class How(NamedTuple):
    """What is known when tracing."""

    cell: Cell
    reverse: bool
    return_all_states: bool


def fused(
    step: Step,
    params: Mapping[str, Array],
    x: Float[Array, "T B I"],
    state: Any,
    valid: Bool[Array, "T B 1"] | None,
    *,
    reverse: bool,
    return_all_states: bool,
) -> tuple[Any, Any]:
    """`run` for the steps that have a `Cell`."""
    how = How(CELLS[step], reverse, return_all_states)
    params, x = jax.tree.map(widen, dict(params)), _masked(valid, x)
    state = jax.tree.map(lambda a: widen(a.T), state)
    every, final = _run(how, params, x, state, _turned(valid))
    return every, jax.tree.map(lambda a: a.T.astype(x.dtype), final)


def fused_refuses(step: Step, params: Mapping[str, Array]) -> str | None:
    if step not in CELLS:
        return "a layer-normalised LSTM"
    return "an LSTM with a projection" if "weight_hr" in params else None


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _run(how: How, params: Any, x: Array, state: Any, valid: Array | None) -> tuple[Any, Any]:
    """The loop; `state`, `final` and `valid` have the batch last, all else is as outside."""
    every, final, _ = _forward(how, params, x, state, valid)
    return every, final


def _forward(how: How, params: Any, x: Array, state: Any, valid: Array | None) -> Any:
    cell, mask = how.cell, params.get("mask_hh")
    w, u = (params[name].astype(x.dtype) for name in ("weight_ih", "weight_hh"))
    b_x, b_h = (params[name][:, None] if name in params else 0 for name in ("bias_ih", "bias_hh"))
    merged = jnp.concatenate([w, u], axis=1) if cell.enter is operator.add else None

    def body(state: Any, inputs: Any) -> tuple[Any, Any]:
        x, valid = inputs
        seen = _masked(valid, state)
        h = _dropped(_turned(mask), hidden(seen)).astype(x.dtype)
        if merged is not None:
            gates = _product(merged, jnp.concatenate([x.T, h])) + (b_x + b_h)
        else:
            gates = cell.enter(cell.start(_product(w, x.T) + b_x), _product(u, h) + b_h)
        new, kept = cell.step(gates, seen)
        state = _chosen(valid, new, state)
        return state, (_shown(how, state, x.dtype), kept)

    final, (every, kept) = jax.lax.scan(body, state, (x, valid), reverse=how.reverse)
    return every, final, kept


@functools.partial(_run.defjvp, symbolic_zeros=True)
def _run_jvp(how: How, primals: Any, tangents: Any) -> tuple[Any, Any]:
    params, x, state, valid = primals
    every, final, kept = _forward(how, *primals)
    mask = params.get("mask_hh")
    d_params, d_x, d_state = map(_present, tangents[:3])
    d_state = jax.tree.map(lambda a, d: jnp.zeros_like(a) if d is None else d, state, d_state)
    # Transposed here, so that the transpose of a product with them is a plain product.
    w, u = (
        jax.lax.optimization_barrier(params[name].astype(x.dtype).T)
        for name in ("weight_ih", "weight_hh")
    )

    # Checkpointed, lest what is known without tangents be formed beforehand and kept over all time.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def body(d_state: Any, inputs: Any) -> tuple[Any, Any]:
        d_gates, kept, h, valid = inputs
        seen = _masked(valid, d_state)
        d_h = _dropped(_turned(mask), hidden(seen)).astype(x.dtype)
        d_gates = how.cell.enter(d_gates, _product(u, d_h, (0, 0)))
        d_state = _chosen(valid, how.cell.tangent(kept, widen(h.T), d_gates, seen), d_state)
        return d_state, _shown(how, d_state, x.dtype)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def chunk(d_state: Any, inputs: Any) -> tuple[Any, Any]:
        x, d_x, h, kept, valid, border = inputs
        h = jnp.concatenate((h[1:], border) if how.reverse else (border, h[:-1]))
        h = _masked(_turned(valid), h)
        d_gates = how.cell.enter(
            how.cell.start(_entering("ih", d_params, x, w, d_x)),
            _entering("hh", d_params, _dropped(mask, h), u, None),
        )
        by_step = jax.tree.map(lambda a: a.swapaxes(0, 1), d_gates)
        return jax.lax.scan(body, d_state, (by_step, kept, h, valid), reverse=how.reverse)

    size = _chunk_size(*x.shape[:2])
    cut = lambda a: a.reshape(len(a) // size, size, *a.shape[1:])
    join = lambda a: a.reshape(len(x), *a.shape[2:])
    inputs = jax.tree.map(cut, (x, d_x, hidden(every), kept, valid))
    inputs = *inputs, _borders(how, size, hidden(every), hidden(state))
    d_final, d_every = jax.lax.scan(chunk, d_state, inputs, reverse=how.reverse)
    return (every, final), (jax.tree.map(join, d_every), d_final)


def _entering(end: str, d_params: Any, a: Array, weight: Array, d_a: Array | None) -> Array:
    """The tangent of W a + b over many steps, of the shape (gates, steps, B)."""
    terms = []
    if (d_weight := d_params["weight_" + end]) is not None:
        terms.append(_product(d_weight.astype(a.dtype), a, (1, 2)))
    if d_a is not None:
        terms.append(_product(weight, d_a, (0, 2)))
    shape = weight.shape[1], *a.shape[:2]
    if (d_bias := d_params.get("bias_" + end)) is not None:
        terms.append(jnp.broadcast_to(d_bias[:, None, None], shape))
    return functools.reduce(operator.add, terms) if terms else jnp.zeros(shape, wide(a.dtype))


def _borders(how: How, size: int, every: Array, initial: Array) -> Array:
    """The h before the first step of each chunk of so many steps; backwards, after its last."""
    initial = initial.T[None].astype(every.dtype)
    others = every[size::size] if how.reverse else every[size - 1 : -1 : size]
    return jnp.concatenate((others, initial) if how.reverse else (initial, others))[:, None]


def _chunk_size(steps: int, batch: int) -> int:
    """The fewest steps that divide all and give a product `COLUMNS` columns."""
    wanted = min(steps, -(-COLUMNS // max(batch, 1)))
    return next(size for size in range(wanted, steps + 1) if steps % size == 0)


def _present(tangents: Any) -> Any:
    missing = lambda a: isinstance(a, SymbolicZero)
    return jax.tree.map(lambda a: None if missing(a) else a, tangents, is_leaf=missing)


def _product(a: Array, b: Array, contracted: tuple[int, int] = (1, 0)) -> Array:
    axes = ((contracted[0],), (contracted[1],)), ((), ())
    return jax.lax.dot_general(a, b, axes, preferred_element_type=wide(a.dtype))


def _turned(a: Array | None) -> Array | None:
    return None if a is None else a.mT


def _dropped(mask: Array | None, h: Array) -> Array:
    return h if mask is None else h * mask.astype(h.dtype)


def _masked(valid: Array | None, state: Any) -> Any:
    return _chosen(valid, state, jax.tree.map(jnp.zeros_like, state))


def _chosen(valid: Array | None, new: Any, old: Any) -> Any:
    if valid is None:
        return new
    return jax.tree.map(lambda a, b: jnp.where(valid, a, b), new, old)


def _shown(how: How, state: Any, dtype: Any) -> Any:
    state = state if how.return_all_states else hidden(state)
    return jax.tree.map(lambda a: a.T.astype(dtype), state)
