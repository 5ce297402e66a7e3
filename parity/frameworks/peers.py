"""The same networks in other frameworks, each written as its own users would write it.

A peer takes torch's parameters, converted, so it computes the same network wherever it can. Where
it cannot, `DIFFERS` says why. A peer that lacks something raises NotImplementedError.
"""

import functools
import importlib.metadata
import itertools
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from jaxrnn import Structure, convert
from jaxrnn._cells import gru_step, lstm_step, tanh_step
from jaxrnn._implementations import IMPLEMENTATIONS, choose

from ..cases import Case


Cell = Mapping[str, Any]  # torch's parameters of one layer in one direction, without suffix
Layer = Callable[..., tuple[Any, Any]]  # (weights, x, lengths, reverse) → y, final h or (h, c)


class Network(NamedTuple):
    """A network as a peer computes it.

    `convert` turns torch's parameters into the peer's weights. It is differentiable, so gradients
    can be pulled back to torch's names. `forward(weights, x, lengths)` returns `y` and the final
    states `h_n` and `c_n`, each as one array or as a list, cell by cell.
    """

    convert: Callable[[Mapping[str, Any]], Any]
    forward: Callable[[Any, Any, Any], dict[str, Any]]
    batch_first: bool = False

    def turned(self, a: Any) -> Any:
        """Turns a time-first array into the peer's order of axes, or back."""
        return a.swapaxes(0, 1) if self.batch_first else a


def named(y: Any, states: Iterable[Any]) -> dict[str, Any]:
    """Returns outputs under torch's names; only an LSTM has `c_n`."""
    return dict(zip(("y", "h_n", "c_n"), [y, *states], strict=False))


def lengths_of(case: Case) -> np.ndarray | None:
    return None if case.lengths is None else np.array(case.lengths, np.int32)


def is_installed(distribution: str) -> bool:
    return any(importlib.metadata.distributions(name=distribution))


def first_line(error: Exception) -> str:
    """Returns the error in one line."""
    return f"{type(error).__name__}: {str(error).partition(os.linesep)[0]}"


def jaxrnn_layers(s: Structure, **options: Any) -> Network:
    def forward(params: Any, x: Any, lengths: Any) -> dict[str, Any]:
        y, state = getattr(jaxrnn, s.kind)(params, x, lengths=lengths, **options)
        return named(y, jax.tree.leaves(state))

    return Network(dict, forward)


def linen(s: Structure) -> Network:
    """Uses `OptimizedLSTMCell`, as in nnx: it computes the same as `LSTMCell`, and is faster."""
    from flax import linen

    cells = {"lstm": linen.OptimizedLSTMCell, "gru": linen.GRUCell, "rnn": linen.SimpleCell}
    # The carry starts in the dtype of the parameters that the cell would draw.
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

    def module(size: int) -> Any:
        # The other cells take their dtype from the input.
        options = {"dtype": jnp.result_type(float)} if s.kind == "rnn" else {}
        cell = cells[s.kind](size, s.hidden_size, rngs=nnx.Rngs(0), **options)
        return nnx.RNN(cell, time_major=True, return_carry=True, rngs=False)

    # The modules without their numbers.
    graphs = {n: nnx.split(nnx.eval_shape(lambda n=n: module(n)))[0] for n in _widths(s)}

    def weights_of(cell: Cell) -> Any:
        if s.kind == "gru":  # `convert` refuses the bias that nnx lacks
            bias = jnp.asarray(cell["bias_hh"]).at[2 * s.hidden_size :].set(0)
            cell = {**cell, "bias_hh": bias}
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
        # `convert` refuses haiku's GRU. This is the nearest one; its z is 1 - z in torch.
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
    # Zeros, since keras would draw numbers, which are replaced anyway.
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
        # Backwards, keras returns outputs in the order in which it computes them.
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
        sizes = {"input_size": s.input_size, "hidden_size": s.hidden_size}
        options = {"num_layers": s.num_layers, "dropout": 0.0, "bidirectional": s.bidirectional}
        outputs: Any = rnn.lstm(x, zeros, zeros, weights, lengths, **sizes, **options)
        return named(outputs[0], outputs[1:])

    return Network(weights_of, forward, batch_first=True)


def picked(s: Structure, time: int, batch: int) -> tuple[str, str]:
    """Returns the implementation that jaxrnn picks for the first layer, and why."""
    step = {"lstm": lstm_step, "gru": gru_step, "rnn": tanh_step}[s.kind]
    array = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
    cell: Any = {n[:-3]: array(*shape) for n, shape in s.shapes.items() if n.endswith("_l0")}
    x: Any = array(time, batch, s.input_size)
    return choose(None, step, cell, x), f"the first of {', '.join(IMPLEMENTATIONS)} that can run it"


PEERS: dict[str, Callable[[Structure], Network]] = {
    "jaxrnn": jaxrnn_layers,
    "jaxrnn scan": functools.partial(jaxrnn_layers, implementation="scan"),
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
    """Returns the input sizes of the first layer and of the others."""
    return {s.input_size, s.num_directions * s.hidden_size}


def _stacked(
    s: Structure, weights_of: Callable[[Cell], Any], layer: Layer, batch_first: bool = False
) -> Network:
    """The loop that users of a peer without stacks write: layers, each in its directions."""

    def forward(weights: list[Any], x: Any, lengths: Any) -> dict[str, Any]:
        outputs, finals = [], []
        for k, cell in enumerate(weights):
            y, final = layer(cell, x, lengths, k % s.num_directions == 1)
            outputs.append(y)
            finals.append(final if isinstance(final, tuple) else (final,))
            if len(outputs) == s.num_directions:
                x, outputs = jnp.concatenate(outputs, -1) if s.bidirectional else y, []
        return named(x, (list(parts) for parts in zip(*finals, strict=True)))

    converted = lambda params: [weights_of(cell) for cell in convert.cells(params)]
    return Network(converted, forward, batch_first)
