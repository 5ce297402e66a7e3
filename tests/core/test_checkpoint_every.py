"""Law: `checkpoint_every` changes no value and no derivative, only the memory of the gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import LAYERS, LENGTHS, TIME, assert_close, draw, score
from jax.flatten_util import ravel_pytree

from jaxrnn import models


RNN, GRU, LSTM = (LAYERS[name].replace(num_layers=1) for name in ("rnn tanh", "gru", "lstm proj"))
GRU, LSTM = GRU.replace(bidirectional=False), LSTM.replace(bidirectional=False)


@functools.cache
def program(layer, every=None, **options):
    """(leaves, lengths) → the outputs' score, the outputs, the gradient; compiled once."""

    def scored(leaves, lengths):
        values = layer(*leaves, lengths=lengths, checkpoint_every=every, **options)
        return score(values), values

    return jax.jit(jax.value_and_grad(scored, has_aux=True))


@pytest.mark.parametrize(
    ("layer", "every", "options"),
    [
        *((RNN, every, {}) for every in (1, 3, TIME)),
        (GRU, 3, {}),
        (LSTM, 2, {"return_all_states": True}),
    ],
    ids=["rnn-1", "rnn-3", "rnn-all", "gru-3", "lstm-2"],
)
def test_values_and_gradients(layer, every, options):
    """Sequences end within chunks, and 2 and 3 leave a step over that is in no whole chunk."""
    args = draw(layer), jnp.array(LENGTHS)
    assert_close(program(layer, every, **options)(*args), program(layer, **options)(*args))


def test_more_than_all_steps_are_all_steps():
    trace = lambda every: str(jax.make_jaxpr(program(GRU, every))(draw(GRU), np.array(LENGTHS)))
    assert trace(TIME + 1) == trace(TIME) != trace(None)


def test_hessian():
    """Forward over reverse mode, each under vmap, of an unbatched sequence."""
    layer = RNN.replace(bidirectional=False)
    flat, unravel = ravel_pytree(draw(layer, time=5, batch=None))
    hessian = lambda every: jax.jit(
        jax.hessian(lambda flat: score(layer(*unravel(flat), checkpoint_every=every)))
    )
    assert_close(hessian(2)(flat), hessian(None)(flat))


def test_memory_grows_as_the_root_of_time():
    """Sixteen times the steps take four times what they took; without, sixteen times."""

    def temporary(time, every):
        """Bytes for the gradient of a loss on the final state."""
        params, x, _ = draw(RNN.replace(input_size=32, hidden_size=64), time=time)
        final = lambda params, x: score(RNN(params, x, checkpoint_every=every)[1])
        compiled = jax.jit(jax.grad(final)).lower(params, x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    # With steps left over, lest `x` be copied for the sake of the chunks.
    short, long = 16**2 + 5, 64**2 + 9
    assert temporary(long, 64) < 5 * temporary(short, 16)
    assert temporary(long, None) > 12 * temporary(short, None)


def test_sequence_model():
    """It hands the option on."""
    layers, x, _ = draw(GRU)
    params = {"gru": layers, "fc": {"weight": np.ones((2, 5))}}
    model = lambda params, every: models.sequence_model(params, x, checkpoint_every=every)
    trace = lambda every: str(jax.make_jaxpr(functools.partial(model, every=every))(params))
    assert trace(2) != trace(None)
