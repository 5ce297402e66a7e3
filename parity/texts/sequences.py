"""Layers as the texts use them, long sequences in chunks, sequence to sequence, as pairs."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

import jaxrnn
from jaxrnn import data, models

from ..pair import Pair, of_module
from . import inputs
from . import modules as m
from .inputs import B, H, I, S, T, V


def pairs() -> list[Pair]:
    """Layers, chunks of long sequences, encoders, decoders and attention."""
    return [*_layers(), *_long_sequences(), *_seq2seq()]


def _layers() -> list[Pair]:
    """Layers as they are, on the texts' own shapes, and what stands around them."""
    long = {"x": inputs.normal(32, 100, 10)}
    states = {"h_0": inputs.normal(2, 32, 20), "c_0": inputs.normal(2, 32, 20, seed=1)}
    layer = lambda function, **o: lambda params, x: function(params, x, batch_first=True, **o)
    given = lambda module, x, h_0, c_0: module(x, (h_0, c_0))
    lstm = lambda params, x, h_0, c_0: jaxrnn.lstm(params, x, (h_0, c_0), batch_first=True)
    torch_rnn = lambda f: nn.RNN(I, H, 1, nonlinearity=f, batch_first=True)
    plain = lambda module, x: module(x)
    x, y = {"x": inputs.normal(B, T, I)}, ["y", "h_n"]
    return [
        of_module("1.1", "nn.RNN", nn.RNN(10, 20, 2, batch_first=True), long, layer(jaxrnn.rnn), y,
               plain),
        of_module("1.2", "the text's shapes", nn.LSTM(10, 20, 2, batch_first=True), long | states,
               lstm, ["y", "h_n", "c_n"], given),
        of_module("1.5", "nn.GRU", nn.GRU(10, 20, 2, batch_first=True), long, layer(jaxrnn.gru), y,
               plain),
        of_module("1.12", "2 layers", m.LSTMWithLayerNorm(I, H, 2), x, models.layer_norm_lstm,
               ["y", "h_n", "c_n"]),
        of_module("3.1", "tanh", torch_rnn("tanh"), x, layer(jaxrnn.rnn), y, plain),
        of_module("3.1", "relu", torch_rnn("relu"), x, layer(jaxrnn.rnn, nonlinearity="relu"), y,
               plain),
    ]  # fmt: skip


def jax_chunks(hand_over: Any, run: Any = jaxrnn.lstm) -> Any:
    """An LSTM, chunk by chunk; what `hand_over` makes of a state goes into the next one."""

    def call(params: Any, x: Any) -> Any:
        state, outputs = None, []
        for chunk in data.chunks(x, 6, batch_first=True):
            y, state = run(params, chunk, state, batch_first=True)
            state = hand_over(state)
            outputs.append(y)
        return jnp.concatenate(outputs, axis=1), state

    return call


def _long_sequences() -> list[Pair]:
    """Chunk by chunk with the state carried over, truncated or not, and recomputed in chunks."""
    x, module = {"x": inputs.normal(B, 20, I)}, nn.LSTM(I, H, batch_first=True)

    def torch_chunks(hand_over: Any, run: Any = lambda module, *inputs: module(*inputs)) -> Any:
        def call(module: Any, x: Any) -> Any:
            state, outputs = None, []
            for chunk in x.split(6, dim=1):
                y, state = run(module, chunk, state)
                state = hand_over(state)
                outputs.append(y)
            return torch.cat(outputs, dim=1), state

        return call

    keep, names = lambda state: state, ["y", "h_n", "c_n"]
    detach = lambda state: tuple(a.detach() for a in state)

    def recompute(module: Any, *inputs: Any) -> Any:
        # The weights of now, because it runs again when others may be in their place.
        again = functools.partial(functional_call, module, dict(module.named_parameters()))
        return checkpoint(again, inputs, use_reentrant=False)

    remat = jax.checkpoint(lambda *inputs: jaxrnn.lstm(*inputs, batch_first=True))
    again = lambda *inputs, batch_first: remat(*inputs)
    return [
        of_module("0.11", "chunks, state carried", module, x, jax_chunks(keep), names,
               torch_chunks(keep)),
        of_module("0.11", "chunks, truncated", module, x, jax_chunks(jax.lax.stop_gradient), names,
               torch_chunks(detach)),
        of_module("0.11", "chunks, recomputed", module, x, jax_chunks(keep, again), names,
               torch_chunks(keep, recompute)),
        of_module("0.11", "cut to 8 steps", module, x,
               lambda params, x: jaxrnn.lstm(params, x[:, :8], batch_first=True), names,
               lambda module, x: module(x[:, :8])),
    ]  # fmt: skip


def _seq2seq() -> list[Pair]:
    source, target = inputs.ids(B, S, high=9), inputs.ids(B, T)
    long = np.array([3, 7, 1, 5])
    coins = np.array([True, False, False, True, False])

    def seq2seq_pair(
        row: str,
        name: str,
        kind: str = "lstm",
        score: str | None = None,
        both: bool = False,
        inputs: dict[str, np.ndarray] | None = None,
    ) -> Pair:
        size = 2 * H if both else H
        module = m.Seq2Seq(
            m.Encoder(9, I, H, 2, kind=kind, bidirectional=both),
            m.Decoder(V, I, size, 2, kind=kind, score=score, values_size=size),
        )
        numbers = {"source": source, "target": target, "coins": coins} | (inputs or {})
        outputs = ["logits", "attention"] if score else ["logits"]
        return of_module(row, name, module, numbers, models.seq2seq, outputs)

    values, h, c = inputs.normal(B, S, H), inputs.normal(2, B, H), inputs.normal(2, B, H, seed=1)
    state, token = {"h_0": h, "c_0": c}, {"token": inputs.ids(B)}
    step = lambda params, token, h_0, c_0, values=None: models.decoder_step(
        params,
        token,
        (h_0, c_0),
        None if values is None else models.memory(params["attention"], values),
    )
    torch_step = lambda module, token, h_0, c_0, values=None: module(token, (h_0, c_0), values)
    stepped = ["logits", "h_n", "c_n"]
    query = {"query": inputs.normal(B, H), "values": values}
    weights = lambda params, query, values: models.attention(
        params, query, models.memory(params, values)
    )[1]
    padded = lambda params, query, values, valid: models.attention(
        params, query, models.memory(params, values, valid)
    )[1]
    valid = {"valid": np.arange(S) < long[:, None]}
    decoder = m.Decoder(V, I, H, 2, score="additive", values_size=H)
    return [
        of_module("1.6", "Encoder", m.Encoder(9, I, H, 2), {"source": source}, models.encoder,
               ["y", "h_n", "c_n"]),
        of_module("1.6", "Decoder, a step", m.Decoder(V, I, H, 2), token | state, step, stepped,
               torch_step),
        seq2seq_pair("1.6", "Seq2Seq, coins mixed"),
        seq2seq_pair("1.6", "Seq2Seq, argmax fed back", inputs={"coins": np.zeros(T - 1, bool)}),
        seq2seq_pair("1.6", "Seq2Seq, GRU, lengths", "gru", inputs={"lengths": long}),
        of_module("1.7", "additive", m.Attention(H, H), query, weights, ["attention"]),
        of_module("1.7", "additive, padded", m.Attention(H, H), query | valid, padded,
                  ["attention"]),
        of_module("1.7", "general", m.Attention(H, H, "general"), query, weights, ["attention"]),
        of_module("1.7", "dot, padded", m.Attention(H, H, "dot"), query | valid, padded,
               ["attention"]),
        of_module("1.8", "a step", decoder, token | state | {"values": values}, step,
               [*stepped, "attention"], torch_step),
        seq2seq_pair("1.8", "Seq2Seq, coins mixed", score="additive"),
        seq2seq_pair("1.8", "Seq2Seq, BiLSTM, lengths", score="additive", both=True,
               inputs={"lengths": long}),
        seq2seq_pair("1.8", "Seq2Seq, BiGRU, general score", "gru", "general", True),
        seq2seq_pair("1.8", "Seq2Seq, RNN, dot score", "rnn", "dot"),
    ]  # fmt: skip
