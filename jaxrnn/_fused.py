"""The implementation "fused": one direction of one layer, its derivative written down once.

Three things make gradients faster than the plain scan's, and change them by rounding only:

- The derivative is a linear loop over what the forward loop has kept, which is less than autodiff
  would keep. JAX transposes it to the backward loop and differentiates it again for second order,
  so that every transformation works. For this a cell's equations stand here once more, beside
  their derivatives.
- Weights have no place in that loop: what a change of theirs does to the gates is one product for
  each chunk of time, before its steps. Transposed, their gradients are one product after them.
- The products of a step are laid out as they are fastest, see `_layout`.
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
from ._scan import chosen, masked


# Of a product over many time steps, rows: more give it no speed, and cost memory.
ROWS = 256
# Of the weights, elements for each sequence of a batch: with more, a product is wide and flat.
FLAT = 2**17


class Cell(NamedTuple):
    """A step but for its products; the first argument is always the axis of the features.

    Attributes:
        start: from W x, the inputs of the gates.
        enter: adds U h to them. Where this is plain addition, one product may serve for both.
        step: (inputs, state) → the next state, and what is kept for the derivative.
        tangent: (what was kept, h, tangents of inputs and state) → the tangent of the next state,
            linear in the latter two.
    """

    start: Callable[[int, Array], Any]
    enter: Callable[[int, Any, Array], Any]
    step: Callable[[int, Any, Any], tuple[Any, Any]]
    tangent: Callable[[int, Any, Array, Any, Any], Any]


def _same(axis: int, gates: Array) -> Array:
    return gates


def _add(axis: int, inputs: Array, gates: Array) -> Array:
    return inputs + gates


def _lstm(axis: int, inputs: Array, state: LSTMState) -> tuple[LSTMState, Any]:
    i, f, g, o = jnp.split(inputs, 4, axis)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    c = f * state.c + i * g
    return LSTMState(o * jnp.tanh(c), c), (i, f, g, o, state.c)


def _lstm_tangent(axis: int, kept: Any, h: Array, inputs: Array, state: LSTMState) -> LSTMState:
    i, f, g, o, c = kept
    squashed = jnp.tanh(f * c + i * g)
    d_i, d_f, d_g, d_o = jnp.split(inputs, 4, axis)
    d_c = f * state.c + g * i * (1 - i) * d_i + c * f * (1 - f) * d_f + i * (1 - g * g) * d_g
    return LSTMState(squashed * o * (1 - o) * d_o + o * (1 - squashed * squashed) * d_c, d_c)


def _gru_start(axis: int, gates: Array) -> Any:
    return *jnp.split(gates, [2 * gates.shape[axis] // 3], axis), None


def _gru_enter(axis: int, inputs: Any, gates: Array) -> Any:
    rz, x_n, h_n = inputs
    more_rz, more_n = jnp.split(gates, [rz.shape[axis]], axis)
    return rz + more_rz, x_n, more_n if h_n is None else h_n + more_n


def _gru(axis: int, inputs: Any, h: Array) -> tuple[Array, Any]:
    rz, x_n, h_n = inputs
    r, z = jnp.split(jax.nn.sigmoid(rz), 2, axis)
    n = jnp.tanh(x_n + r * h_n)
    return n + z * (h - n), (r, z, n, h_n)


def _gru_tangent(axis: int, kept: Any, h: Array, inputs: Any, d_h: Array) -> Array:
    r, z, n, h_n = kept
    d_rz, d_x_n, d_h_n = inputs
    d_r, d_z = jnp.split(d_rz, 2, axis)
    d_n = (1 - z) * (1 - n * n) * (d_x_n + r * d_h_n + h_n * r * (1 - r) * d_r)
    return d_n + z * d_h + (h - n) * z * (1 - z) * d_z


def _tanh(axis: int, inputs: Array, h: Array) -> tuple[Array, Array]:
    h = jnp.tanh(inputs)
    return h, h


def _tanh_tangent(axis: int, new: Array, h: Array, inputs: Array, d_h: Array) -> Array:
    return (1 - new * new) * inputs


def _relu(axis: int, inputs: Array, h: Array) -> tuple[Array, Array]:
    return jax.nn.relu(inputs), inputs > 0


def _relu_tangent(axis: int, positive: Array, h: Array, inputs: Array, d_h: Array) -> Array:
    return jnp.where(positive, inputs, jnp.zeros_like(inputs))


CELLS: dict[Step, Cell] = {
    tanh_step: Cell(_same, _add, _tanh, _tanh_tangent),
    relu_step: Cell(_same, _add, _relu, _relu_tangent),
    lstm_step: Cell(_same, _add, _lstm, _lstm_tangent),
    gru_step: Cell(_gru_start, _gru_enter, _gru, _gru_tangent),
}


class How(NamedTuple):
    """What is known when tracing."""

    cell: Cell
    features: int  # their axis in a step: -1 is (B, features), -2 is (features, B)
    merged: bool  # one product for x and h, not two
    reverse: bool
    return_all_states: bool

    def turned(self, tree: Any) -> Any:
        """Arrays (…, B, features) as a step wants them, or back."""
        return jax.tree.map(lambda a: a.mT, tree) if self.features == -2 else tree


def fused_refuses(step: Step, params: Mapping[str, Array], x: Array) -> str | None:
    if step not in CELLS:
        return "a layer-normalised LSTM"
    if not all(isinstance(size, int) for a in (x, *params.values()) for size in a.shape):
        return "sizes that are unknown when tracing"  # chunks are cut and laid out by them
    return "an LSTM with a projection" if "weight_hr" in params else None


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
    how = How(CELLS[step], *_layout(CELLS[step], params, x.shape[1]), reverse, return_all_states)
    params, state = jax.tree.map(widen, (dict(params), state))
    every, final = _run(how, params, x, how.turned(state), how.turned(valid))
    return every, jax.tree.map(lambda a: a.astype(x.dtype), how.turned(final))


def _layout(cell: Cell, params: Mapping[str, Array], batch: int) -> tuple[int, bool]:
    """The axis of the features, and whether to merge: as measured with XLA for CPUs, jax 0.10.

    A product of few rows and many columns would run on one thread only, unless its operands are
    swapped, which needs no copy of the weights either. Else the axis that is contiguous should be a
    multiple of 8 numbers.
    """
    size = params["weight_ih"].size + params["weight_hh"].size
    if size > FLAT * batch:
        return -2, False
    uneven = params["weight_hh"].shape[1] % 8 != 0 and batch % 8 == 0
    return -2 if uneven else -1, cell.enter is _add


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _run(how: How, params: Any, x: Array, state: Any, valid: Array | None) -> tuple[Any, Any]:
    """The loop; `state`, `final` and `valid` are as a step wants them, all else is as outside."""
    every, final, _ = _forward(how, params, x, state, valid)
    return every, final


def _forward(how: How, params: Any, x: Array, state: Any, valid: Array | None) -> Any:
    cell, axis, mask = how.cell, how.features, how.turned(params.get("mask_hh"))
    weights = _weights(params, x.dtype, merged=how.merged, transposed=axis == -1)
    product = lambda w, a: _product(how, w, a, (0 if axis == -1 else 1, axis % 2))
    b_x, b_h = (how.turned(params[n][None]) if n in params else 0 for n in ("bias_ih", "bias_hh"))

    def body(state: Any, inputs: Any) -> tuple[Any, Any]:
        x, valid = inputs
        seen = masked(valid, state)
        x = masked(valid, how.turned(x))
        h = _dropped(mask, hidden(seen)).astype(x.dtype)
        if how.merged:
            gates = product(weights[0], jnp.concatenate([x, h], axis)) + (b_x + b_h)
        else:
            gates = cell.start(axis, product(weights[0], x) + b_x)
            gates = cell.enter(axis, gates, product(weights[1], h) + b_h)
        new, kept = cell.step(axis, gates, seen)
        state = chosen(valid, new, state)
        return state, (_shown(how, state, x.dtype), kept)

    final, (every, kept) = jax.lax.scan(body, state, (x, valid), reverse=how.reverse)
    return every, final, kept


@functools.partial(_run.defjvp, symbolic_zeros=True)
def _run_jvp(how: How, primals: Any, tangents: Any) -> tuple[Any, Any]:
    params, x, state, valid = primals
    every, final, kept = _forward(how, *primals)
    cell, axis, mask = how.cell, how.features, params.get("mask_hh")
    d_params, d_x, d_state = map(_present, tangents[:3])
    d_state = jax.tree.map(lambda a, d: jnp.zeros_like(a) if d is None else d, state, d_state)
    # The other way round than forwards, for it is the transposes of products that will run.
    w, u = _weights(params, x.dtype, merged=False, transposed=axis == -2)
    entering = functools.partial(_entering, how, d_params)
    product = lambda a: _product(how, u, a, (0 if axis == -2 else 1, axis % 2))

    # Both are checkpointed, lest what needs no tangents be formed beforehand and kept, here over a
    # chunk and below over all time.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def body(d_state: Any, inputs: Any) -> tuple[Any, Any]:
        d_gates, kept, h, valid = inputs
        seen = masked(valid, d_state)
        d_h = _dropped(how.turned(mask), hidden(seen)).astype(x.dtype)
        d_gates = cell.enter(axis, d_gates, product(d_h))
        new = cell.tangent(axis, kept, widen(how.turned(h)), d_gates, seen)
        d_state = chosen(valid, new, d_state)
        return d_state, _shown(how, d_state, x.dtype)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def chunk(d_state: Any, inputs: Any) -> tuple[Any, Any]:
        x, d_x, h, kept, valid, border = inputs
        h = jnp.concatenate((h[1:], border) if how.reverse else (border, h[:-1]))
        x, d_x, h = masked(how.turned(valid), (x, d_x, h))
        d_gates = cell.start(axis, entering("ih", x, w, d_x))
        d_gates = cell.enter(axis, d_gates, entering("hh", _dropped(mask, h), u, None))
        return jax.lax.scan(body, d_state, (d_gates, kept, h, valid), reverse=how.reverse)

    size = _chunk_size(*x.shape[:2])
    cut = lambda a: a.reshape(len(a) // size, size, *a.shape[1:])
    join = lambda a: a.reshape(len(x), *a.shape[2:])
    inputs = jax.tree.map(cut, (x, d_x, hidden(every), kept, valid))
    inputs = *inputs, _borders(how, size, hidden(every), hidden(state))
    d_final, d_every = jax.lax.scan(chunk, d_state, inputs, reverse=how.reverse)
    return (every, final), (jax.tree.map(join, d_every), d_final)


def _entering(how: How, d_params: Any, end: str, a: Array, weight: Array, d_a: Any) -> Array:
    """The tangent of W a + b over many steps, of which each is as a step wants it."""
    terms = []
    if (d_weight := d_params["weight_" + end]) is not None:
        terms.append(_product(how, d_weight.astype(a.dtype), a, (1, 2)))
    if d_a is not None:
        terms.append(_product(how, weight, d_a, (0 if how.features == -2 else 1, 2)))
    if how.features == -2:
        terms = [term.swapaxes(0, 1) for term in terms]
    if (d_bias := d_params.get("bias_" + end)) is not None:
        terms.append(how.turned(d_bias[None]))
    gates = weight.shape[how.features + 1]
    zeros = how.turned(jnp.zeros((*a.shape[:2], gates), wide(a.dtype)))
    return functools.reduce(operator.add, terms, zeros)


def _borders(how: How, size: int, every: Array, initial: Array) -> Array:
    """The h before the first step of each chunk of so many steps; backwards, after its last."""
    initial = how.turned(initial)[None].astype(every.dtype)
    others = every[size::size] if how.reverse else every[size - 1 : -1 : size]
    return jnp.concatenate((others, initial) if how.reverse else (initial, others))[:, None]


def _chunk_size(steps: int, batch: int) -> int:
    """The fewest steps that divide all and give a product `ROWS` rows."""
    wanted = min(steps, -(-ROWS // max(batch, 1)))
    return next(size for size in range(wanted, steps + 1) if steps % size == 0)


def _weights(params: Any, dtype: Any, merged: bool, transposed: bool) -> list[Array]:
    """Both; transposed once, here, since a product with a transpose is slower than one without."""
    weights = [params[name].astype(dtype) for name in ("weight_ih", "weight_hh")]
    weights = [jnp.concatenate(weights, 1)] if merged else weights
    return jax.lax.optimization_barrier([w.T for w in weights]) if transposed else weights


def _product(how: How, weight: Array, a: Array, contracted: tuple[int, int]) -> Array:
    """W a, the sum over one axis of each, laid out as a step wants it."""
    one, other = contracted
    first = how.features == -2
    pair, axes = ((weight, a), ((one,), (other,))) if first else ((a, weight), ((other,), (one,)))
    return jax.lax.dot_general(*pair, (axes, ((), ())), preferred_element_type=wide(a.dtype))


def _present(tangents: Any) -> Any:
    """None where nothing changes."""
    missing = lambda a: isinstance(a, SymbolicZero)
    return jax.tree.map(lambda a: None if missing(a) else a, tangents, is_leaf=missing)


def _dropped(mask: Array | None, h: Array) -> Array:
    return h if mask is None else h * mask.astype(h.dtype)


def _shown(how: How, state: Any, dtype: Any) -> Any:
    state = state if how.return_all_states else hidden(state)
    return jax.tree.map(lambda a: a.astype(dtype), how.turned(state))
