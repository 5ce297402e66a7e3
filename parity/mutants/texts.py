"""Mistakes that ports of the texts' models are known to make, each of which must be seen."""

import functools
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import optax

from jaxrnn import _nn, data, models, optim, rnn_cell, text
from jaxrnn.models import _attention, _layer_norm_lstm, _seq2seq, _sequence_model

from ..texts import recipe as recipes
from ..texts import sequences
from .plant import Change, Function, Mistake, instead, returned, with_inputs, with_params, written


def planted(row: str, name: str, wrong: Change) -> Mistake:
    return Mistake(wrong, (row, name))


def optimizer(name: str, make: Function) -> Change:
    """`make` takes the optimiser's rate and options."""

    def wrong(right: Function) -> Function:
        def call(params: Any, **inputs: Any) -> Any:
            # optax does not run under strict promotion, which tests set.
            other = mock.patch.dict(recipes.OPTIMIZERS, {name: (make, None)})
            with other, jax.numpy_dtype_promotion("standard"):
                return right(params, **inputs)

        return call

    return wrong


def recipe(**changes: Any) -> Change:
    """A training by another recipe, which is the first argument of the right one."""

    def wrong(right: Any) -> Function:
        return functools.partial(right.func, right.args[0]._replace(**changes))

    return wrong


# Pooling, dropout, embedding, normalisation.


def pool(change: Function) -> Change:
    return instead(_nn, "pool", lambda right, how, y, state, lengths=None: change(y, state[0]))


def dropped_before_fc1(params: Any, x: Any, masks: Any, head: Any) -> Any:
    layers = {"embedding": params["embedding"], "lstm": params["lstm"]}
    features = 2 * params["lstm"]["weight_hh_l0"].shape[1]
    masks = models.DropoutMasks(masks, head[:, :features])
    options = {"pool": "max", "dropout": 0.3, "head_dropout": 0.5, "masks": masks}
    y, _ = models.sequence_model(layers | {"fc": params["fc1"]}, x, **options)
    return _nn.linear(params["fc2"], jax.nn.relu(y))


def variance(ddof: int) -> Change:
    """In the layer norm."""

    def normal(right: Any, params: Any, y: Any) -> Any:
        width = jnp.sqrt(y.var(-1, keepdims=True, ddof=ddof) + 1e-5)
        return (y - y.mean(-1, keepdims=True)) / width * params["weight"] + params["bias"]

    return instead(_layer_norm_lstm, "layer_norm", normal)


def normalised_state(result: Any) -> Any:
    y, (h, c) = result
    return y, (h.at[-1].set(y[:, -1]), c)


def no_sigmoid(params: Any, x: Any, lengths: Any) -> Any:
    params = {**params, "fc": params["fc"]["1"]}
    return models.sequence_model(params, x, lengths=lengths)[0][:, 0]


def late_below(params: Any, x: Any) -> Any:
    """Each cell sees the state that the one below had before this step."""
    cells = list(params["cells"].values())
    states = [jnp.zeros((len(x), len(params["fc"]["weight"][0])))] * len(cells)
    for x_t in x.swapaxes(0, 1):
        below = [x_t, *states[:-1]]
        states = [rnn_cell(*each) for each in zip(cells, below, states, strict=True)]
    return _nn.linear(params["fc"], states[-1])


# Attention, and sequence to sequence.


def softmax(change: Function) -> Change:
    return instead(_attention, "_softmax", change)


def halves_swapped(params: Any) -> Any:
    weight = jnp.roll(params["attn"]["weight"], params["attn"]["weight"].shape[0], axis=1)
    return {**params, "attn": {**params["attn"], "weight": weight}}


def context_from_keys(right: Any, params: Any, query: Any, memory: Any) -> Any:
    _, weights = right(params, query, memory)
    return jnp.einsum("bs,bsk->bk", weights, memory.keys), weights


def first_layer_asks(right: Function) -> Function:
    def call(params: Any, **inputs: Any) -> Any:
        ask = lambda right, params, query, memory: right(params, inputs["h_0"][0], memory)
        return instead(_seq2seq, "attention", ask)(right)(params, **inputs)

    return call


def state_kept(right: Any, params: Any, token: Any, state: Any, memory: Any) -> Any:
    logits, _, weights = right(params, token, state, memory)
    return logits, state, weights


def state_of_the_padding(right: Any, params: Any, source: Any, lengths: Any) -> Any:
    return right(params, source, lengths=lengths)[0], right(params, source)[1]


def fed_back(choose: Function) -> Change:
    """The loop in plain Python; `choose(logits, t, target, coin)` is what is fed next."""

    def function(params: Any, source: Any, target: Any, coins: Any) -> Any:
        values, state = models.encoder(params["encoder"], source)
        seen, token = models.memory({}, values), target[:, 0]
        outputs = []
        for t in range(1, target.shape[1]):
            logits, state, _ = models.decoder_step(params["decoder"], token, state, seen)
            token = choose(logits, t, target, coins[t - 1])
            outputs.append(logits)
        return jnp.stack([jnp.zeros_like(outputs[0]), *outputs], axis=1)

    return written(function)


def over_the_batch(logits: Any, t: int, target: Any, coin: Any) -> Any:
    return jnp.where(coin, target[:, t], logits.argmax(0)[: len(target)])


def token_before(logits: Any, t: int, target: Any, coin: Any) -> Any:
    return jnp.where(coin, target[:, t - 1], logits.argmax(1))


# Trainings and data.


def adam_without_correction(lr: Any, **options: Any) -> Any:
    return optax.chain(optax.scale_by_rms(0.999, 1e-8, eps_in_sqrt=False), optim.sgd(lr))


def clip_each(right: Any, max_norm: float) -> Any:
    one = lambda g: right(max_norm).update(g, optax.EmptyState())[0]
    return optax.stateless(lambda updates, _: jax.tree.map(one, updates))


def clip_without_eps(right: Any, max_norm: float) -> Any:
    return optax.clip_by_global_norm(max_norm)


def less_patient(right: Any, lr: Any, **options: Any) -> Any:
    return right(lr, **options | {"patience": options["patience"] - 1})


def mean_over_the_batch(x: Any, y: Any) -> Any:
    return jnp.square(x - y).sum(-1).mean()


def sample_deviation(right: Any, x: Any) -> Any:
    return right(x)._replace(scale=x.std(0, ddof=1))


def padded_on_the_left(right: Any, ids: Any, **options: Any) -> Any:
    padded, lengths = right(ids, **options)
    rows = zip(padded, lengths, strict=True)
    return jnp.stack([jnp.roll(row, len(row) - n) for row, n in rows]), lengths


MISTAKES = {
    "one of two biases dropped": planted("0.1", "a step", with_params(
        lambda p: {**p, "W_hh": {**p["W_hh"], "bias": 0 * p["W_hh"]["bias"]}})),
    "returned in float32": planted("0.1", "a step", returned(lambda h: h.astype(jnp.float32))),
    "initial state ignored": planted("0.2", "with a state",
        with_inputs(h_0=lambda x, h_0: 0 * h_0)),
    "last step for the final states": planted("0.6", "as meant: both final states",
        pool(lambda y, h: y[:, -1])),
    "forward direction twice": planted("0.6", "as meant: both final states",
        pool(lambda y, h: jnp.concatenate([h[-2], h[-2]], axis=1))),
    "directions swapped": planted("0.6", "as meant: both final states",
        pool(lambda y, h: jnp.concatenate([h[-1], h[-2]], axis=1))),
    "zeros of the padding in the maximum": planted("0.8", "as meant: with lengths",
        pool(lambda y, h: y.max(1))),
    "dropout before fc1": planted("0.8", "trained", written(dropped_before_fc1)),
    "dropout without its scale": planted("1.3", "trained", instead(_nn, "dropout",
        lambda right, x, rate, mask: right(x, 1e-12, mask=mask))),
    "dropout keeps what it should drop": planted("1.3", "trained",
        with_inputs(head=lambda x, head: ~head)),
    "a gradient for the padding's embedding": planted("1.3", "evaluated",
        instead(_sequence_model, "embedding",
                lambda right, params, ids, padding_idx: right(params, ids))),
    "first layer's final state": planted("1.5", "GRUClassifier, evaluated", instead(_nn, "pool",
        lambda right, how, y, state, lengths: state[0])),
    "lengths ignored": planted("1.10", "packed", lambda right: lambda params, x, lengths: right(
        params, x=x)),
    "layer norm with eps 1e-6": planted("1.12", "2 layers", instead(_layer_norm_lstm, "layer_norm",
        lambda right, params, y: right(params, y, eps=1e-6))),
    "layer norm with the unbiased variance": planted("1.12", "2 layers", variance(ddof=1)),
    "final state normalised, too": planted("1.12", "2 layers", returned(normalised_state)),
    "sigmoid missing": planted("1.13", "evaluated", written(no_sigmoid)),
    "layers one step behind": planted("2.3", "a loop over 3 cells", written(late_below)),
    "tanh for relu": planted("3.1", "relu", written(
        lambda params, x: _nn.recurrent({"rnn": params}, x))),
    "state not carried from chunk to chunk": planted("0.11", "chunks, state carried", written(
        sequences.jax_chunks(lambda state: None))),
    "gradient cut between chunks": planted("0.11", "chunks, state carried",
        written(sequences.jax_chunks(jax.lax.stop_gradient))),
    "gradient not cut between chunks": planted("0.11", "chunks, truncated",
        written(sequences.jax_chunks(lambda state: state))),
    "softmax over the padding": planted("1.7", "additive, padded", softmax(
        lambda right, scores, valid: right(scores, None))),
    "padding masked after the softmax": planted("1.7", "additive, padded", softmax(
        lambda right, scores, valid: jnp.where(valid, right(scores, None), 0.0))),
    "dot score divided by the root of its size": planted("1.7", "dot, padded",
        with_inputs(query=lambda query, **_: query / query.shape[-1] ** 0.5)),
    "query and values swapped in the score": planted("1.7", "additive",
        with_params(halves_swapped)),
    "general score transposed": planted("1.7", "general",
        with_params(lambda p: {"attn": {"weight": p["attn"]["weight"].T}})),
    "context made of the keys": planted("1.8", "a step",
        instead(_seq2seq, "attention", context_from_keys)),
    "query of the first layer": planted("1.8", "a step", first_layer_asks),
    "encoder without a gradient from attention": planted("1.8", "a step",
        with_inputs(values=lambda values, **_: jax.lax.stop_gradient(values))),
    "coins one step early": planted("1.6", "Seq2Seq, coins mixed",
        with_inputs(coins=lambda coins, **_: jnp.roll(coins, -1))),
    "outputs one step early": planted("1.6", "Seq2Seq, coins mixed",
        returned(lambda result: jnp.roll(result[0], -1, axis=1))),
    "decoder's state not carried": planted("1.6", "Seq2Seq, coins mixed",
        instead(_seq2seq, "decoder_step", state_kept)),
    "argmax over the batch": planted("1.6", "Seq2Seq, coins mixed", fed_back(over_the_batch)),
    "true token one step late": planted("1.6", "Seq2Seq, coins mixed", fed_back(token_before)),
    "encoder's final state of the padding": planted("1.6", "Seq2Seq, GRU, lengths",
        instead(_seq2seq, "encoder", state_of_the_padding)),
    "clipping without its 1e-6": planted("0.9", "clipped at 5",
        instead(optim, "clip_grad_norm", clip_without_eps)),
    "each parameter clipped by its own norm": planted("0.9", "clipped at 5",
        instead(optim, "clip_grad_norm", clip_each)),
    "Xavier by the fan-in only": planted("0.9", "Xavier's bounds", instead(
        jax.nn.initializers, "glorot_uniform", lambda _: jax.nn.initializers.lecun_uniform())),
    "plateau one epoch less patient": planted("0.10", "shuffled, dropout, plateau",
        instead(optim, "reduce_lr_on_plateau", less_patient)),
    "Adam's eps in the root": planted("3.3", "MSE with Adam",
        optimizer("Adam", lambda lr, betas: optax.adam(lr, *betas, eps=0.0, eps_root=1e-8))),
    "Adam without bias correction": planted("3.3", "MSE with Adam",
        optimizer("Adam", adam_without_correction)),
    "RMSprop with optax's defaults": planted("3.3", "MSE with RMSprop",
        optimizer("RMSprop", lambda lr, **_: optax.rmsprop(lr))),
    "loss averaged over the batch only": planted("3.3", "MSE with SGD",
        recipe(jax_loss=mean_over_the_batch)),
    "deviation of a sample": planted("3.2", "normalisation",
        instead(data, "fit_z_score", sample_deviation)),
    "padded on the left": planted("1.11", "pad_sequence and lengths",
        instead(text, "collate", padded_on_the_left)),
}  # fmt: skip
