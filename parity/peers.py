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
from jaxrnn import Structure
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
    rnn = linen.RNN(cells[s.kind](s.hidden_size), time_major=True, return_carry=True)

    def convert(cell: Cell) -> Any:
        names = {"lstm": "ifgo", "gru": "rzn", "rnn": [""]}[s.kind]
        gates = lambda a: zip(names, jnp.split(a, s.gates), strict=True)
        bias, bias_n = _merged(s, cell)
        weights = {
            end + name: {"kernel": w.T}
            for end in "ih"
            for name, w in gates(cell["weight_hh" if end == "h" else "weight_ih"])
        }
        for name, b in gates(bias):
            weights[("h" if s.kind == "lstm" else "i") + name]["bias"] = b
        if s.kind == "gru":
            weights["hn"]["bias"] = bias_n
        return {"params": {"cell": weights}}

    def layer(weights: Any, x: Any, lengths: Any, reverse: bool) -> tuple[Any, Any]:
        options = {"reverse": reverse, "keep_order": reverse, "seq_lengths": lengths}
        carry, y = rnn.apply(weights, x, **options)
        return y, carry[::-1] if s.kind == "lstm" else carry

    return _stacked(s, convert, layer)


def nnx(s: Structure) -> Network:
    from flax import nnx

    cells = {"lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell, "rnn": nnx.SimpleCell}

    def made(size: int) -> Any:
        cell = cells[s.kind](size, s.hidden_size, rngs=nnx.Rngs(0))
        return nnx.RNN(cell, time_major=True, return_carry=True, rngs=False)

    # Only what is no number of it.
    graphs = {n: nnx.split(nnx.eval_shape(lambda n=n: made(n)))[0] for n in _widths(s)}

    def convert(cell: Cell) -> Any:
        weights = {f"dense_{end[0]}": {"kernel": cell[f"weight_{end}"].T} for end in ("ih", "hh")}
        weights["dense_h" if s.kind == "lstm" else "dense_i"]["bias"] = _merged(s, cell)[0]
        return {"cell": weights}

    def layer(weights: Any, x: Any, lengths: Any, reverse: bool) -> tuple[Any, Any]:
        rnn = nnx.merge(graphs[x.shape[-1]], nnx.State(weights))
        h = jnp.zeros((x.shape[1], s.hidden_size), x.dtype)
        initial = (h, h) if s.kind == "lstm" else h
        options = {"reverse": reverse, "keep_order": reverse, "seq_lengths": lengths}
        carry, y = rnn(x, initial_carry=initial, **options)
        return y, carry[::-1] if s.kind == "lstm" else carry

    return _stacked(s, convert, layer)


def haiku(s: Structure) -> Network:
    import haiku

    cores = {"lstm": haiku.LSTM, "gru": haiku.GRU, "rnn": haiku.VanillaRNN}

    @haiku.without_apply_rng
    @haiku.transform
    def unroll(x: Any, reverse: bool) -> Any:
        core = cores[s.kind](s.hidden_size)
        return haiku.dynamic_unroll(core, x, core.initial_state(x.shape[1]), reverse=reverse)

    def convert(cell: Cell) -> Any:
        bias, _ = _merged(s, cell)
        w_i, w_h = cell["weight_ih"].T, cell["weight_hh"].T
        if s.kind == "lstm":
            i, f, g, o = jnp.split(jnp.concatenate([w_i, w_h]), 4, axis=1)
            b_i, b_f, b_g, b_o = jnp.split(bias, 4)
            biases = [b_i, b_g, b_f - 1, b_o]  # haiku adds the 1 at every step
            return {"lstm/linear": {"w": jnp.hstack([i, g, f, o]), "b": jnp.hstack(biases)}}
        if s.kind == "gru":  # whose z is 1 - z in torch
            arrays = {"w_i": w_i, "w_h": w_h, "b": bias}
            gates = {name: jnp.split(a, 3, axis=-1) for name, a in arrays.items()}
            return {"gru": {name: jnp.hstack([-z, r, n]) for name, (r, z, n) in gates.items()}}
        return {
            "vanilla_rnn/linear": {"w": w_i, "b": cell["bias_ih"]},
            "vanilla_rnn/linear_1": {"w": w_h, "b": cell["bias_hh"]},
        }

    def layer(weights: Any, x: Any, lengths: Any, reverse: bool) -> tuple[Any, Any]:
        if lengths is not None:
            raise NotImplementedError("haiku has no lengths")
        y, state = unroll.apply(weights, x, reverse)
        return y, tuple(state) if s.kind == "lstm" else state

    return _stacked(s, convert, layer)


def equinox(s: Structure) -> Network:
    import equinox

    if s.kind == "rnn":
        raise NotImplementedError("equinox has no such cell")
    make = {"lstm": equinox.nn.LSTMCell, "gru": equinox.nn.GRUCell}[s.kind]

    def convert(cell: Cell) -> Any:
        bias, bias_n = _merged(s, cell)
        new = [cell["weight_ih"], cell["weight_hh"], bias, *([bias_n] if s.kind == "gru" else [])]
        old = make(cell["weight_ih"].shape[1], s.hidden_size, key=jax.random.key(0))
        leaves = lambda m: [
            m.weight_ih,
            m.weight_hh,
            m.bias,
            *([m.bias_n] if s.kind == "gru" else []),
        ]
        return equinox.tree_at(leaves, old, new)

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

    return _stacked(s, convert, layer)


def keras(s: Structure) -> Network:
    import keras

    kinds = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}
    # Zeros, since others would be drawn, and then replaced.
    options: Any = {"kernel_initializer": "zeros", "recurrent_initializer": "zeros"}
    options |= {"return_sequences": True, "return_state": True}
    layers = {}
    for size, back in itertools.product(_widths(s), (False, True)):
        layers[size, back] = kinds[s.kind](s.hidden_size, go_backwards=back, **options)
        layers[size, back].build((None, None, size))

    def convert(cell: Cell) -> Any:
        w_i, w_h = cell["weight_ih"].T, cell["weight_hh"].T
        if s.kind != "gru":
            return [w_i, w_h, cell["bias_ih"] + cell["bias_hh"]]
        zrn = lambda a: jnp.hstack([jnp.split(a, 3, axis=-1)[k] for k in (1, 0, 2)])
        return [zrn(w_i), zrn(w_h), zrn(jnp.stack([cell["bias_ih"], cell["bias_hh"]]))]

    def layer(weights: Any, x: Any, lengths: Any, reverse: bool) -> tuple[Any, Any]:
        rnn = layers[x.shape[-1], reverse]
        mask = None if lengths is None else jnp.arange(x.shape[1]) < lengths[:, None]
        rest = [variable.value for variable in rnn.non_trainable_variables]
        returned: Any = rnn.stateless_call(weights, rest, x, mask=mask)
        y, *state = returned[0]
        # Going backwards, it returns its outputs in the order in which it made them.
        return jnp.flip(y, 1) if reverse else y, tuple(state)

    return _stacked(s, convert, layer, batch_first=True)


def experimental(s: Structure) -> Network:
    from jax.experimental import rnn

    if s.kind != "lstm":
        raise NotImplementedError("jax.experimental.rnn has no such layer")

    def convert(params: Mapping[str, Any]) -> Any:
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

    return Network(convert, forward, batch_first=True)


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


def _merged(s: Structure, cell: Cell) -> tuple[Any, Any]:
    """Both biases in one; that of a GRU's n, which is multiplied by r, for itself."""
    if s.kind != "gru":
        return cell["bias_ih"] + cell["bias_hh"], None
    *rz, n = jnp.split(cell["bias_hh"], 3)
    return cell["bias_ih"] + jnp.concatenate([*rz, jnp.zeros_like(n)]), n


def _stacked(
    s: Structure, convert: Callable[[Cell], Any], layer: Layer, batch_first: bool = False
) -> Network:
    """The loop that users of a peer without stacks write: layers, each in its directions."""

    def cells(params: Mapping[str, Any]) -> list[Any]:
        own = lambda end: [name for name in params if name.endswith(end)]
        return [convert({n.removesuffix(end): params[n] for n in own(end)}) for end in s.suffixes]

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

    return Network(cells, forward, batch_first)
