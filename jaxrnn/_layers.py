"""`rnn`, `lstm` and `gru`: directions side by side, layers upon layers."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ._cells import Step, gru_step, hidden, layer_norm_lstm_step, lstm_step, rnn_step, wide
from ._check import Lengths, Options, check_layer, check_lengths, check_positive, time_axis
from ._dropout import choose_masks, drop, scale
from ._implementations import run
from ._params import LSTMState, structure


Layer = TypeVar("Layer", bound=Callable[..., Any])


class Keywords(TypedDict, total=False):
    """The fields of `Options` again: type checkers take keywords from a `TypedDict` only."""

    batch_first: bool
    lengths: Lengths | None
    dropout: float
    recurrent_dropout: float
    key: PRNGKeyArray | None
    masks: Bool[ArrayLike, "..."] | None
    recurrent_masks: Bool[ArrayLike, "..."] | None
    return_all_states: bool
    checkpoint_every: int | None
    implementation: str | None


def _with_options(layer: Layer) -> Layer:
    """Shows the fields of `Options` in the layer's signature, in place of `**options`."""
    signature = inspect.signature(layer)
    arguments = list(signature.parameters.values())[:-1]
    options = inspect.signature(Options).parameters.values()
    layer.__signature__ = signature.replace(parameters=[*arguments, *options])
    return layer


@_with_options
def rnn(
    params: Mapping[str, ArrayLike],
    x: Float[ArrayLike, "*TB I"],
    state: Float[ArrayLike, "LD *B H"] | None = None,
    *,
    nonlinearity: str = "tanh",
    **options: Unpack[Keywords],
) -> tuple[Float[Array, "*TB DH"], Float[Array, "... H"]]:
    r"""An Elman RNN over a sequence, of any layers and directions: `torch.nn.RNN`.

    .. math:: h_t = \tanh(W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh})

    Arguments, shapes and errors are those of `lstm`, except that the state is one array h, that
    there is no projection, and that there is one extra argument, which cannot be inferred from the
    parameters:

    Args:
        nonlinearity: `"tanh"` or `"relu"`.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html

    >>> params = {"weight_ih_l0": jnp.ones((1, 1)), "weight_hh_l0": jnp.ones((1, 1))}
    >>> y, h = rnn(params, jnp.ones((3, 1)), nonlinearity="relu")
    >>> y[:, 0], h[0]
    (Array([1., 2., 3.], dtype=float32), Array([3.], dtype=float32))
    """
    return stack("rnn", rnn_step(nonlinearity), params, x, state, Options(**options))


@_with_options
def lstm(
    params: Mapping[str, ArrayLike],
    x: Float[ArrayLike, "*TB I"],
    state: tuple[Float[ArrayLike, "LD *B P"], Float[ArrayLike, "LD *B H"]] | None = None,
    **options: Unpack[Keywords],
) -> tuple[Float[Array, "*TB DP"], LSTMState]:
    r"""An LSTM over a sequence, of any layers and directions, projected or not: `torch.nn.LSTM`.

    The equations are those of `lstm_cell`. One layer in one direction computes::

        for t in range(T):  # from T - 1 down to 0 for the second direction
            h, c = lstm_cell(cell, x[t], (h, c))
            y[t] = h

    The directions' outputs are concatenated over features and are the next layer's input.

    Args:
        params: torch's `state_dict`; layers L, directions D, sizes, bias, projection and layer
            normalisation (which torch does not have) are read off it (see `structure`).
        x: (T, B, I), or (B, T, I) with `batch_first`, or (T, I); of the parameters' dtype, any
            floating one. Below float32 the state is carried in float32.
        state: a pair h_0, c_0 of the shapes (L·D, B, P) and (L·D, B, H), or without B; never
            batch-first; at index `layer · D + direction`. Zeros by default. P is `proj_size`
            where there is a projection, else H.
        batch_first: whether `x` and `y` have the batch before time; ignored for unbatched `x`.
        lengths: (B,) integers, or () for unbatched `x`: how many steps of each sequence are valid,
            in any order, 0 allowed. The results are those of a packed sequence in torch: final
            states from each sequence's own end, where the backward direction starts; `y` is 0
            beyond. The values of `x` beyond, NaN included, change no value and no derivative.
            Traced lengths are clamped to [0, T].
        dropout: the probability of dropping, applied to the output of every layer but the last, to
            each step, sequence and feature independently; survivors are scaled by
            1 / (1 - dropout).
        recurrent_dropout: the probability of dropping a feature of h on its way into `weight_hh`,
            drawn once for each layer, direction and sequence and the same at every time step;
            survivors are scaled by 1 / (1 - recurrent_dropout). The outputs and c stay as they are.
        key: a `jax.random` key, from which the masks are drawn. Without a key and masks there is no
            dropout, as after torch's `eval()`.
        masks: the masks of `dropout`, as `dropout_masks` returns them, instead of a key.
        recurrent_masks: the masks of `recurrent_dropout`, as `recurrent_dropout_masks` returns
            them, of the shape (L·D, B, P). With the same masks, the chunks of a sequence equal the
            whole; each chunk's key then draws for `dropout` only.
        return_all_states: return the state after every step instead of the final one, on a leading
            time axis. For the second direction, entry t is the state after `x[t]` on the way down.
            Beyond a sequence's length the state passes through, so the final state is entry T - 1
            of the first direction and entry 0 of the second.
        checkpoint_every: k, for the gradient of long sequences: each layer stores its state at
            every k-th step only, and computes the k steps from there again when the gradient needs
            them. This takes the memory of about T / k states and k steps instead of T steps, least
            for a divisor of T near √T, and one more forward pass. Values and gradients stay the
            same, to rounding. Arrays as long as `x` are still stored: `y`, where anything uses it,
            and the time-first copy of `x`.
        implementation: how it is computed, which changes values and derivatives by rounding only.
            `"scan"` is one `lax.scan` over the cell, differentiated by JAX. `"fused"` has its
            derivative written out: gradients are faster and need less memory, but forward mode
            alone is slower and needs more. It has no projection, no layer normalisation, and no
            sizes that are unknown when tracing. None picks `"fused"` where it applies, else
            `"scan"`.

    Returns:
        `(y, state)`: `y` of the shape (T, B, D·P), laid out as `x` is, forward features first;
        the final `LSTMState(h, c)` shaped like `state`, or `(T, *that)` with
        `return_all_states`.

    Raises:
        ValueError: a key or shape does not fit, there is no time step, or a value is outside its
            range.
        TypeError: dtypes are mixed or not floating, or lengths are not integers.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html; recurrent dropout:
    Gal & Ghahramani (2016), https://arxiv.org/abs/1512.05287; `checkpoint_every`: Chen et al.
    (2016), https://arxiv.org/abs/1604.06174; Griewank & Walther (2000),
    https://doi.org/10.1145/347837.347846.

    >>> params = {"weight_ih_l0": jnp.zeros((4, 1)), "weight_hh_l0": jnp.zeros((4, 1))}
    >>> y, (h, c) = lstm(params, jnp.ones((3, 1)), (jnp.zeros((1, 1)), jnp.ones((1, 1))))
    >>> c[0]
    Array([0.125], dtype=float32)
    """
    step = layer_norm_lstm_step if structure(params, "lstm").layer_norm else lstm_step
    return stack("lstm", step, params, x, state, Options(**options))


@_with_options
def gru(
    params: Mapping[str, ArrayLike],
    x: Float[ArrayLike, "*TB I"],
    state: Float[ArrayLike, "LD *B H"] | None = None,
    **options: Unpack[Keywords],
) -> tuple[Float[Array, "*TB DH"], Float[Array, "... H"]]:
    """A GRU over a sequence, of any layers and directions: `torch.nn.GRU`.

    The equations are those of `gru_cell`. Arguments, shapes and errors are those of `lstm`,
    except that the state is one array h and that there is no projection.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html

    >>> params = {"weight_ih_l0": jnp.zeros((3, 1)), "weight_hh_l0": jnp.zeros((3, 1))}
    >>> y, h = gru(params, jnp.ones((3, 1)), jnp.ones((1, 1)))
    >>> y[:, 0]
    Array([0.5  , 0.25 , 0.125], dtype=float32)
    """
    return stack("gru", gru_step, params, x, state, Options(**options))


def stack(
    kind: str, step: Step, params: Mapping[str, Any], x: Any, state: Any, options: Options
) -> tuple[Array, Any]:
    """Checks everything, brings it to (time, batch, features), runs layer upon layer."""
    s, params, x, state = check_layer(kind, params, x, state, options.batch_first)
    between, recurrent = choose_masks(s, x, options)
    valid = _valid(x, options)
    if options.checkpoint_every is not None:
        check_positive(checkpoint_every=options.checkpoint_every)

    unbatched, batch_first = x.ndim == 2, options.batch_first
    x = _time_first(x, unbatched, batch_first)
    state = jax.tree.map(lambda a: _time_first(a, unbatched), state)
    between = [] if between is None else _time_first(between, unbatched, batch_first)
    cells = [_cell_params(params, suffix) for suffix in s.suffixes]
    if recurrent is not None:
        masks = _time_first(recurrent, unbatched).astype(wide(x.dtype))
        scaled = masks * scale(options.recurrent_dropout)
        cells = [cell | {"mask_hh": mask} for cell, mask in zip(cells, scaled, strict=True)]

    states = []
    for layer in range(s.num_layers):
        rows = slice(layer * s.num_directions, (layer + 1) * s.num_directions)
        initial = jax.tree.map(lambda a, rows=rows: a[rows], state)
        x, new = _layer(step, cells[rows], x, initial, valid, options)
        states.append(new)
        if layer < len(between):
            x = drop(x, between[layer], options.dropout)
    # The last three axes of a state are (layer · directions + direction, batch, features).
    whole = lambda *layers: _as_given(jnp.concatenate(layers, axis=-3), unbatched)
    state = jax.tree.map(whole, *states)
    return _as_given(x, unbatched, batch_first), state


def _layer(
    step: Step,
    cells: Sequence[Mapping[str, Array]],
    x: Float[Array, "T B I"],
    state: Any,
    valid: Bool[Array, "T B 1"] | None,
    options: Options,
) -> tuple[Float[Array, "T B DP"], Any]:
    """One layer in its directions, over which `cells` and the leading axis of `state` run."""
    outputs, states = [], []
    for direction, cell in enumerate(cells):
        every, final = run(
            options.implementation,
            step,
            cell,
            x,
            jax.tree.map(lambda a, i=direction: a[i], state),
            valid,
            reverse=direction == 1,
            return_all_states=options.return_all_states,
            checkpoint_every=options.checkpoint_every,
        )
        outputs.append(hidden(every))
        states.append(every if options.return_all_states else final)
    y = jnp.concatenate(outputs, axis=-1)
    y = y if valid is None else jnp.where(valid, y, jnp.zeros_like(y))
    return y, jax.tree.map(lambda *directions: jnp.stack(directions, axis=-3), *states)


def _time_first(a: Array, unbatched: bool, batch_first: bool = False) -> Array:
    """Brings the last axes of an array to (time, batch, features)."""
    if unbatched:
        return jnp.expand_dims(a, -2)
    return jnp.swapaxes(a, -3, -2) if batch_first else a


def _as_given(a: Array, unbatched: bool, batch_first: bool = False) -> Array:
    """The inverse of `_time_first`."""
    if unbatched:
        return jnp.squeeze(a, -2)
    return jnp.swapaxes(a, -3, -2) if batch_first else a


def _valid(x: Array, options: Options) -> Bool[Array, "T B 1"] | None:
    """True where a step lies within its sequence's length; None if all do."""
    if options.lengths is None:
        return None
    lengths = check_lengths(options.lengths, x, options.batch_first).reshape(1, -1)
    steps = jnp.arange(x.shape[time_axis(x, options.batch_first)], dtype=lengths.dtype)
    return (steps[:, None] < lengths)[..., None]


def _cell_params(params: Mapping[str, Array], suffix: str) -> dict[str, Array]:
    """One direction of one layer under the names of its cell: without `_l0_reverse`."""
    return {name.removesuffix(suffix): a for name, a in params.items() if name.endswith(suffix)}
