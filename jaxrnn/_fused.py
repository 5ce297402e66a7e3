"""The implementation "fused": one direction of one layer, its derivative written down once.

Three things make gradients faster than the plain scan's, and change them by rounding only:

- The derivative is a linear loop over what the forward loop has kept, which is less than autodiff
  would keep. JAX transposes it to the backward loop and differentiates it again for second order,
  so that every transformation works. For this a cell's equations stand here once more, beside
  their derivatives.
- Weights have no place in that loop: what a change of theirs does to the gates is one product for
  each chunk of time, before its steps. Transposed, their gradients are one product after them.
- A step's arrays and products are laid out as they are fastest, see `_layout`.
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
# Of the weights, elements: of more, a transposed copy forwards costs more than it saves.
LARGE = 2**18


class Cell(NamedTuple):
    """A step without its products.

    Attributes:
        step: (inputs of the gates, state) → the next state, and what is kept for the derivative.
        tangent: (what is kept, h, tangents of inputs and state) → the tangent of the next state,
            linear in the latter two.
        start: from W x, the inputs of the gates.
        enter: adds U h to them. Where this is plain addition, one product may serve for both.
    """

    step: Callable[[Any, Any], tuple[Any, Any]]
    tangent: Callable[[Any, Array, Any, Any], Any]
    start: Callable[[Array], Any] = lambda gates: gates
    enter: Callable[[Any, Array], Any] = operator.add


def _split(a: Array, parts: Any) -> list[Array]:
    """Splits the features, as matrices.

    The transpose of this is a concatenation. XLA for CPUs would fuse a concatenation of vectors
    with its inputs, and then run it number by number.
    """
    split = jnp.split(jnp.atleast_2d(a), parts, -1)
    return [part.reshape(*a.shape[:-1], part.shape[-1]) for part in split]


def _lstm(inputs: Array, state: LSTMState) -> tuple[LSTMState, Any]:
    i, f, g, o = _split(inputs, 4)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    c = f * state.c + i * g
    return LSTMState(o * jnp.tanh(c), c), (i, f, g, o, state.c)


def _lstm_tangent(kept: Any, h: Array, inputs: Array, state: LSTMState) -> LSTMState:
    i, f, g, o, c = kept
    squashed = jnp.tanh(f * c + i * g)
    d_i, d_f, d_g, d_o = _split(inputs, 4)
    d_c = f * state.c + g * i * (1 - i) * d_i + c * f * (1 - f) * d_f + i * (1 - g * g) * d_g
    return LSTMState(squashed * o * (1 - o) * d_o + o * (1 - squashed * squashed) * d_c, d_c)


def _gru_start(gates: Array) -> Any:
    return *_split(gates, [2 * gates.shape[-1] // 3]), None


def _gru_enter(inputs: Any, gates: Array) -> Any:
    rz, x_n, h_n = inputs
    more_rz, more_n = _split(gates, [rz.shape[-1]])
    return rz + more_rz, x_n, more_n if h_n is None else h_n + more_n


def _gru(inputs: Any, h: Array) -> tuple[Array, Any]:
    rz, x_n, h_n = inputs
    r, z = _split(jax.nn.sigmoid(rz), 2)
    n = jnp.tanh(x_n + r * h_n)
    return n + z * (h - n), (r, z, n, h_n)


def _gru_tangent(kept: Any, h: Array, inputs: Any, d_h: Array) -> Array:
    r, z, n, h_n = kept
    d_rz, d_x_n, d_h_n = inputs
    d_r, d_z = _split(d_rz, 2)
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


CELLS: dict[Step, Cell] = {
    tanh_step: Cell(_tanh, _tanh_tangent),
    relu_step: Cell(_relu, _relu_tangent),
    lstm_step: Cell(_lstm, _lstm_tangent),
    gru_step: Cell(_gru, _gru_tangent, _gru_start, _gru_enter),
}


class How(NamedTuple):
    """What is known when tracing."""

    cell: Cell
    batch: int | None  # an array of a step is flat, (features × batch,); None: (batch, features)
    merged: bool  # one product for x and h, not two
    reverse: bool
    return_all_states: bool

    def turned(self, tree: Any) -> Any:
        """Arrays (…, batch, features) in the layout of a step."""
        if self.batch is None:
            return tree
        return jax.tree.map(lambda a: a.mT.reshape(*a.shape[:-2], -1), tree)

    def returned(self, tree: Any) -> Any:
        """And back."""
        if self.batch is None:
            return tree
        return jax.tree.map(lambda a: a.reshape(*a.shape[:-1], -1, self.batch).mT, tree)

    def bias(self, bias: Array) -> Array:
        """Flat, repeated for each sequence, so that XLA does not look it up by division."""
        return bias if self.batch is None else jnp.repeat(bias, self.batch)

    def ends(self, ends: Array | None, state: Any) -> Array | None:
        """For each number of a state, the `ends` of its sequence."""
        if ends is None or self.batch is None:
            return ends
        return jnp.tile(ends[:, 0], hidden(state).size // self.batch)

    def product(self, weight: Array, a: Array, contracted: int) -> Array:
        """W a of a step, the sum over this axis of W."""
        if self.batch is None:
            return _dot(a, weight, 1, contracted)
        return _dot(weight, a.reshape(-1, self.batch), contracted, 0).reshape(-1)

    def shown(self, state: Any) -> Any:
        return state if self.return_all_states else hidden(state)


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
    batch, merged = _layout(CELLS[step], params, x)
    how = How(CELLS[step], batch, merged, reverse, return_all_states)
    params, state = jax.tree.map(widen, (dict(params), state))
    ends = None if valid is None else jnp.sum(valid, 0)  # `run` promises that the first are valid
    every, final = _run(how, params, x, how.turned(state), ends)
    return every, _cast(how.returned(final), x.dtype)


def _layout(cell: Cell, params: Mapping[str, Array], x: Array) -> tuple[int | None, bool]:
    """How the arrays of a step lie, and whether to merge: as measured with XLA for CPUs, jax 0.10.

    Flat, a step forwards takes torch's weights as they are, (features of the gates, others) times
    (others, batch), and all but its products runs over one long axis. That is faster for large
    weights, which rows would transpose first; and for batches of 32 if a row does not fill XLA's
    vectors, of 8 numbers. Merging copies the weights; flat, that must cost no more than it saves,
    the gates of a step.
    """
    batch, hidden_size = x.shape[1], params["weight_hh"].shape[1]
    large = params["weight_ih"].size + params["weight_hh"].size > LARGE
    uneven = hidden_size % 8 != 0 and batch % 32 == 0
    flat = batch > 0 and (large or uneven)
    merged = cell.enter is operator.add and (not flat or x.shape[2] + hidden_size <= batch)
    return batch if flat else None, merged


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _run(how: How, params: Any, x: Array, state: Any, ends: Array | None) -> tuple[Any, Any]:
    """The loop; `state` and `final` are in the layout of a step, all else as outside.

    `ends` (B, 1) are the numbers of valid steps of each sequence.
    """
    return _forward(how, params, x, state, ends)[:2]


def _forward(how: How, params: Any, x: Array, state: Any, ends: Array | None) -> Any:
    cell, mask = how.cell, how.turned(params.get("mask_hh"))
    weights = [params["weight_ih"], params["weight_hh"]]
    weights = [jnp.concatenate(weights, 1)] if how.merged else weights
    weights = _weights(x.dtype, weights, transposed=how.batch is None)
    product = functools.partial(how.product, contracted=0 if how.batch is None else 1)
    b_x, b_h = (how.bias(params[n]) if n in params else 0 for n in ("bias_ih", "bias_hh"))
    if cell.enter is operator.add:
        b_x, b_h = b_x + b_h, 0
    ends_of_state = how.ends(ends, state)

    def body(state: Any, inputs: Any) -> tuple[Any, Any]:
        x, time = inputs
        x = how.turned(masked(_valid(time, ends), x))
        valid = _valid(time, ends_of_state)
        before = masked(valid, state)
        h = _dropped(mask, hidden(before)).astype(x.dtype)
        gates = cell.start(product(weights[0], _joined(x, h) if how.merged else x) + b_x)
        if not how.merged:
            gates = cell.enter(gates, product(weights[1], h) + b_h)
        new, kept = cell.step(gates, before)
        state = chosen(valid, new, state)
        return state, (_cast(how.returned(how.shown(state)), x.dtype), kept)

    steps = x, jnp.arange(len(x))
    final, (every, kept) = jax.lax.scan(body, state, steps, reverse=how.reverse)
    return every, final, kept


@functools.partial(_run.defjvp, symbolic_zeros=True)
def _run_jvp(how: How, primals: Any, tangents: Any) -> tuple[Any, Any]:
    params, x, state, ends = primals
    every, final, kept = _forward(how, params, x, state, ends)
    cell, mask = how.cell, params.get("mask_hh")
    present = lambda d: None if isinstance(d, SymbolicZero) else d
    d_params, d_x, d_state = jax.tree.map(present, tangents[:3])
    d_state = jax.tree.map(lambda a, d: jnp.zeros_like(a) if d is None else d, state, d_state)
    # Transposed, unlike in `_forward`, because the transpose of the product will run.
    [u] = _weights(x.dtype, [params["weight_hh"]], transposed=how.batch is not None)
    product = functools.partial(how.product, u, contracted=1 if how.batch is None else 0)
    entering = functools.partial(_entering, how, params, d_params)
    ends_of_state = how.ends(ends, state)

    # `jax.checkpoint`, for a chunk here and for all time below: JAX must not compute and store
    # beforehand what needs no tangent.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def body(d_state: Any, inputs: Any) -> tuple[Any, Any]:
        d_gates, kept, h, time = inputs
        valid = _valid(time, ends_of_state)
        before = masked(valid, d_state)
        d_h = _dropped(how.turned(mask), hidden(before)).astype(x.dtype)
        d_gates = cell.enter(d_gates, product(d_h))
        new = cell.tangent(kept, widen(h), d_gates, before)
        d_state = chosen(valid, new, d_state)
        return d_state, how.shown(d_state)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def chunk(d_state: Any, inputs: Any) -> tuple[Any, Any]:
        x, d_x, h, kept, time, border = inputs
        h = jnp.concatenate((h[1:], border) if how.reverse else (border, h[:-1]))
        x, d_x, h = masked(_valid(time[:, None, None], ends), (x, d_x, h))
        d_gates = cell.start(entering("ih", x, d_x))
        d_gates = cell.enter(d_gates, entering("hh", _dropped(mask, h), None))
        inputs = d_gates, kept, how.turned(h), time
        d_state, d_every = jax.lax.scan(body, d_state, inputs, reverse=how.reverse)
        return d_state, _cast(how.returned(d_every), x.dtype)

    size = _chunk_size(len(x), x.shape[1])
    cut = lambda a: a.reshape(len(a) // size, size, *a.shape[1:])
    join = lambda a: a.reshape(len(x), *a.shape[2:])
    inputs = jax.tree.map(cut, (x, d_x, hidden(every), kept, jnp.arange(len(x))))
    inputs = *inputs, _borders(how, size, hidden(every), hidden(state))
    d_final, d_every = jax.lax.scan(chunk, d_state, inputs, reverse=how.reverse)
    return (every, final), (jax.tree.map(join, d_every), d_final)


def _entering(how: How, params: Any, d_params: Any, end: str, a: Array, d_a: Any) -> Array:
    """The tangent of W a + b over many steps, each in the layout of a step."""
    weight, d_weight = params["weight_" + end], d_params["weight_" + end]
    d_bias = d_params.get("bias_" + end)
    total = jnp.zeros((*a.shape[:2], len(weight)), wide(a.dtype))
    for factor, w in ((a, d_weight), (d_a, weight)):
        if factor is not None and w is not None:
            total += _dot(factor, w.astype(a.dtype), 2, 1)
    return how.turned(total if d_bias is None else total + d_bias)


def _borders(how: How, size: int, every: Array, initial: Array) -> Array:
    """The h before the first step of each chunk of so many steps; backwards, after its last."""
    initial = how.returned(initial)[None].astype(every.dtype)
    others = every[size::size] if how.reverse else every[size - 1 : -1 : size]
    return jnp.concatenate((others, initial) if how.reverse else (initial, others))[:, None]


def _chunk_size(steps: int, batch: int) -> int:
    """The fewest steps that divide all and give a product `ROWS` rows."""
    wanted = min(steps, -(-ROWS // max(batch, 1)))
    return next(size for size in range(wanted, steps + 1) if steps % size == 0)


def _weights(dtype: Any, weights: list[Array], transposed: bool) -> list[Array]:
    """Transposed once, here, since a product with a transpose is slower than one without."""
    weights = [weight.astype(dtype) for weight in weights]
    return jax.lax.optimization_barrier([w.T for w in weights]) if transposed else weights


def _joined(x: Array, h: Array) -> Array:
    """Over the features, as matrices: see `_split`."""
    joined = jnp.concatenate([jnp.atleast_2d(x), jnp.atleast_2d(h)], -1)
    return joined.reshape(*x.shape[:-1], joined.shape[-1])


def _dot(a: Array, b: Array, of_a: int, of_b: int) -> Array:
    axes = ((of_a,), (of_b,)), ((), ())
    return jax.lax.dot_general(a, b, axes, preferred_element_type=wide(a.dtype))


def _valid(time: Array, ends: Array | None) -> Array | None:
    return None if ends is None else time < ends


def _dropped(mask: Array | None, h: Array) -> Array:
    return h if mask is None else h * mask.astype(h.dtype)


def _cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda a: a.astype(dtype), tree)
