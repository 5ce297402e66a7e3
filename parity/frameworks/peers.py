"""How others compute the networks that `bench` times, each as its own users would write it.

A peer takes torch's parameters, converted, so that it computes the same network wherever it can;
where it cannot, `DIFFERS` says why, and what it has not at all it refuses by NotImplementedError.
"""

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxrnn
from jaxrnn import Structure, convert
from jaxrnn._cells import gru_step, lstm_step, tanh_step
from jaxrnn._implementations import IMPLEMENTATIONS, choose


Cell = Mapping[str, Any]  # torch's parameters of one layer in one direction, without suffix
Layer = Callable[..., tuple[Any, Any]]  # (weights, x, lengths, reverse) → y, final h or (h, c)


class Network(NamedTuple):
    """A network, as a peer computes it.

    `convert` makes the peer's own weights of torch's parameters. It is differentiable, so that
    gradients can be pulled back to torch's names. `forward(weights, x, lengths)` gives `y` and the
    final states `h_n` and `c_n`, each as one array or as a list, cell by cell.
    """

    convert: Callable[[Mapping[str, Any]], Any]
    forward: Callable[[Any, Any, Any], dict[str, Any]]
    batch_first: bool = False


def ours(s: Structure, **options: Any) -> Network:
    def forward(params: Any, x: Any, lengths: Any) -> dict[str, Any]:
        y, state = getattr(jaxrnn, s.kind)(params, x, lengths=lengths, **options)
        return dict(zip(("y", "h_n", "c_n"), (y, *jax.tree.leaves(state)), strict=False))

    return Network(dict, forward)


def linen(s: Structure) -> Network:
    """With `OptimizedLSTMCell`, as in nnx: of the two that compute the same, it is the faster."""
    from flax import linen

    cells = {"lstm": linen.OptimizedLSTMCell, "gru": linen.GRUCell, "rnn": linen.SimpleCell}
    # The carry begins in the dtype of parameters that the cell would have drawn.
    cell = cells[s.kind](s.hidden_size, param_dtype=jnp.result_type(float))
    rnn = linen.RNN(cell, time_major=True, return_carry=True)

    def layer(weights: Any, x: Any, lengths: Any, reverse: bool) -> tuple[Any, Any]:
        options = {"reverse": reverse, "keep_order": reverse, "seq_lengths": lengths}
        carry, y = rnn.apply({"params": {"cell": weights}}, x, **options)
        return y, carry[::-1] if s.kind == "lstm" else carry

    return _stacked(s, convert.to_linen, layer)


def nnx(s: Structure) -> Network:
    from flax import nnx

    cells = {"lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell, "rnn": nnx.SimpleCell}

    def made(size: int) -> Any:
        # Which only SimpleCell does not take from what comes in.
        options = {"dtype": jnp.result_type(float)} if s.kind == "rnn" else {}
        cell = cells[s.kind](size, s.hidden_size, rngs=nnx.Rngs(0), **options)
        return nnx.RNN(cell, time_major=True, return_carry=True, rngs=False)

    # Only what is no number of it.
    graphs = {n: nnx.split(nnx.eval_shape(lambda n=n: made(n)))[0] for n in _widths(s)}

    def weights_of(cell: Cell) -> Any:
        if s.kind == "gru":  # without what nnx has not, and refuses
            without = jnp.asarray(cell["bias_hh"]).at[2 * s.hidden_size :].set(0)
            cell = {**cell, "bias_hh": without}
        return convert.to_nnx(cell)

    def layer(weights: Any, x: Any, lengths: Any, reverse: bool) -> tuple[Any, Any]:
        rnn = nnx.merge(graphs[x.shape[-1]], nnx.State({"cell": weights}))
        h = jnp.zeros((x.shape[1], s.hidden_size), x.dtype)
        initial = (h, h) if s.kind == "lstm" else h
        options = {"reverse": reverse, "keep_order": reverse, "seq_lengths": lengths}
        carry, y = rnn(x, initial_carry=initial, **options)
        return y, carry[::-1] if s.kind == "lstm" else carry

    return _stacked(s, weights_of, layer)


def haiku(s: Structure) -> Network:
    import haiku

    cores = {"lstm": haiku.LSTM, "gru": haiku.GRU, "rnn": haiku.VanillaRNN}

    @haiku.without_apply_rng
    @haiku.transform
    def unroll(x: Any, reverse: bool) -> Any:
        core = cores[s.kind](s.hidden_size)
        return haiku.dynamic_unroll(core, x, core.initial_state(x.shape[1]), reverse=reverse)

    def weights_of(cell: Cell) -> Any:
        if s.kind != "gru":
            return convert.to_haiku(cell, nonlinearity="relu")
        # Which it refuses: the nearest that there is, whose z is 1 - z in torch.
        arrays = {"w_i": cell["weight_ih"].T, "w_h": cell["weight_hh"].T}
        arrays["b"] = cell["bias_ih"] + cell["bias_hh"]
        gates = {name: jnp.split(a, 3, axis=-1) for name, a in arrays.items()}
        return {"gru": {name: jnp.hstack([-z, r, n]) for name, (r, z, n) in gates.items()}}

    def layer(weights: Any, x: Any, lengths: Any, reverse: bool) -> tuple[Any, Any]:
        if lengths is not None:
            raise NotImplementedError("haiku has no lengths")
        y, state = unroll.apply(weights, x, reverse)
        return y, tuple(state) if s.kind == "lstm" else state

    return _stacked(s, weights_of, layer)


def equinox(s: Structure) -> Network:
    import equinox

    if s.kind == "rnn":
        raise NotImplementedError("equinox has no such cell")
    make = {"lstm": equinox.nn.LSTMCell, "gru": equinox.nn.GRUCell}[s.kind]

    def weights_of(cell: Cell) -> Any:
        old = make(cell["weight_ih"].shape[1], s.hidden_size, key=jax.random.key(0))
        new = convert.to_equinox(cell)
        return equinox.tree_at(lambda m: [getattr(m, name) for name in new], old, [*new.values()])

    def layer(cell: Any, x: Any, lengths: Any, reverse: bool) -> tuple[Any, Any]:
        if lengths is not None:
            raise NotImplementedError("equinox has no lengths")

        def step(state: Any, x: Any) -> tuple[Any, Any]:
            state = jax.vmap(cell)(x, state)
            return state, state[0] if s.kind == "lstm" else state

        zeros = jnp.zeros((x.shape[1], s.hidden_size), x.dtype)
        initial = (zeros, zeros) if s.kind == "lstm" else zeros
        final, y = jax.lax.scan(step, initial, x, reverse=reverse)
        return y, final

    return _stacked(s, weights_of, layer)


def keras(s: Structure) -> Network:
    import keras

    kinds = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}
    # Zeros, since others would be drawn, and then replaced.
    options: Any = {"kernel_initializer": "zeros", "recurrent_initializer": "zeros"}
    options |= {"return_sequences": True, "return_state": True}
    options["dtype"] = jnp.result_type(float).name
    layers = {}
    for size, back in itertools.product(_widths(s), (False, True)):
        layers[size, back] = kinds[s.kind](s.hidden_size, go_backwards=back, **options)
        layers[size, back].build((None, None, size))

    def layer(weights: Any, x: Any, lengths: Any, reverse: bool) -> tuple[Any, Any]:
        rnn = layers[x.shape[-1], reverse]
        mask = None if lengths is None else jnp.arange(x.shape[1]) < lengths[:, None]
        rest = [variable.value for variable in rnn.non_trainable_variables]
        returned: Any = rnn.stateless_call(weights, rest, x, mask=mask)
        y, *state = returned[0]
        # Going backwards, it returns its outputs in the order in which it made them.
        return jnp.flip(y, 1) if reverse else y, tuple(state)

    return _stacked(s, convert.to_keras, layer, batch_first=True)


def experimental(s: Structure) -> Network:
    from jax.experimental import rnn

    if s.kind != "lstm":
        raise NotImplementedError("jax.experimental.rnn has no such layer")

    def weights_of(params: Mapping[str, Any]) -> Any:
        kinds = ("weight_ih", "weight_hh"), ("bias_ih", "bias_hh")
        names = [kind + end for pair in kinds for end in s.suffixes for kind in pair]
        return jnp.concatenate([params[name].ravel() for name in names])

    def forward(weights: Any, x: Any, lengths: Any) -> dict[str, Any]:
        zeros = jnp.zeros((len(s.suffixes), len(x), s.hidden_size), x.dtype)
        if lengths is None:
            lengths = jnp.full(len(x), x.shape[1], jnp.int32)
        sizes = s.input_size, s.hidden_size, s.num_layers
        found: Any = rnn.lstm(x, zeros, zeros, weights, lengths, *sizes, 0.0, s.bidirectional)
        return dict(zip(("y", "h_n", "c_n"), found, strict=True))

    return Network(weights_of, forward, batch_first=True)


def picked(s: Structure, time: int, batch: int) -> tuple[str, str]:
    """Which implementation jaxrnn runs of itself on the first layer, and why."""
    step = {"lstm": lstm_step, "gru": gru_step, "rnn": tanh_step}[s.kind]
    array = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
    cell: Any = {n[:-3]: array(*shape) for n, shape in s.shapes.items() if n.endswith("_l0")}
    x: Any = array(time, batch, s.input_size)
    return choose(None, step, cell, x), f"the first of {', '.join(IMPLEMENTATIONS)} that can run it"


PEERS: dict[str, Callable[[Structure], Network]] = {
    "jaxrnn": ours,
    "jaxrnn scan": functools.partial(ours, implementation="scan"),
    "linen": linen,
    "nnx": nnx,
    "haiku": haiku,
    "equinox": equinox,
    "keras": keras,
    "jax.experimental.rnn": experimental,
}
DISTRIBUTIONS = {
    "jaxrnn": "jax",
    "jaxrnn scan": "jax",
    "torch": "torch",
    "torch.compile": "torch",
    "linen": "flax",
    "nnx": "flax",
    "haiku": "dm-haiku",
    "equinox": "equinox",
    "keras": "keras",
    "jax.experimental.rnn": "jax",
}
DIFFERS = {
    ("nnx", "gru"): "nnx's GRU has no b_hn",
    ("haiku", "gru"): "haiku's GRU resets before the product",
    ("haiku", "rnn"): "haiku's RNN is one of relu",
}


def _widths(s: Structure) -> set[int]:
    """How many features come into a layer: the first, and the others."""
    return {s.input_size, s.num_directions * s.hidden_size}


def _stacked(
    s: Structure, weights_of: Callable[[Cell], Any], layer: Layer, batch_first: bool = False
) -> Network:
    """The loop that users of a peer without stacks write: layers, each in its directions."""

    def converted(params: Mapping[str, Any]) -> list[Any]:
        return [weights_of(cell) for cell in convert.cells(params)]

    def forward(weights: list[Any], x: Any, lengths: Any) -> dict[str, Any]:
        outputs, finals = [], []
        for k, cell in enumerate(weights):
            y, final = layer(cell, x, lengths, k % s.num_directions == 1)
            outputs.append(y)
            finals.append(final if isinstance(final, tuple) else (final,))
            if len(outputs) == s.num_directions:
                x, outputs = jnp.concatenate(outputs, -1) if s.bidirectional else y, []
        states = (list(parts) for parts in zip(*finals, strict=True))
        return {"y": x, **dict(zip(("h_n", "c_n"), states, strict=False))}

    return Network(converted, forward, batch_first)
