"""The table of models that the tests here share: on both sides, with their inputs."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import torch

from jaxrnn import models
from jaxrnn.models import seq2seq, sequence_model
from parity.texts import modules as documents


KEY = jax.random.key(0)
BATCH, TIME, WORDS, CLASSES = 5, 6, 11, 3
LENGTHS = np.array([3, 6, 1, 5, 2])  # none is 0: torch packs no empty sequence
rng = np.random.default_rng(0)
IDS = rng.integers(0, WORDS, (BATCH, TIME))
X = rng.standard_normal((BATCH, TIME, 4))
TARGET = rng.integers(0, WORDS, (BATCH, 4))
COINS = np.array([True, False, True])
PADDING = np.arange(TIME) >= LENGTHS[:, None]


class Model(NamedTuple):
    """Fresh parameters, torch's class, the model and its inputs."""

    init: Callable[..., Any]
    module: Callable[[], torch.nn.Module]
    call: Callable[..., Any]  # params, inputs, lengths
    inputs: Any = IDS


def seq2seq_model(kind, attention):
    """A bidirectional encoder, and a decoder with attention or without."""
    values_size = 12 if attention else 0
    options = {"kind": kind, "bidirectional": True}
    return Model(
        functools.partial(
            models.init_seq2seq, KEY, WORDS, WORDS, 4, 6, attention=attention, **options
        ),
        lambda: documents.Seq2Seq(
            documents.Encoder(WORDS, 4, 6, 1, **options),
            documents.Decoder(WORDS, 4, 12, 1, kind=kind, score=attention, values_size=values_size),
        ),
        lambda p, x, n: seq2seq(p, x, TARGET, lengths=n, coins=COINS),
    )


MODELS = {
    "last_step": Model(
        functools.partial(models.init_sequence_model, KEY, "rnn", 4, 6, CLASSES, num_layers=2),
        lambda: documents.LastStep("rnn", 4, 6, CLASSES, num_layers=2),
        lambda p, x, n: sequence_model(p, x, pool="last_step")[0],
        X,
    ),
    "last_state": Model(
        functools.partial(
            models.init_sequence_model,
            KEY,
            "gru",
            4,
            6,
            CLASSES,
            vocab_size=WORDS,
            bidirectional=True,
        ),
        lambda: documents.Classifier("gru", 4, 6, CLASSES, vocab_size=WORDS, bidirectional=True),
        lambda p, x, n: sequence_model(p, x, lengths=n, dropout=0.3, head_dropout=0.5)[0],
    ),
    "text": Model(
        functools.partial(models.init_text_classifier, KEY, WORDS, 4, 6, CLASSES),
        lambda: documents.TextClassificationRNN(WORDS, 4, 6, CLASSES),
        lambda p, x, n: models.text_classifier(p, x, lengths=n),
    ),
    "sentiment": Model(
        functools.partial(models.init_sentiment_classifier, KEY, WORDS, 4, 6),
        lambda: documents.SentimentLSTM(WORDS, 4, 6),
        lambda p, x, n: models.sentiment_classifier(p, x, n),
    ),
    "cell": Model(
        functools.partial(models.init_cell_model, KEY, 4, 6, CLASSES),
        lambda: documents.RNNWithCell(4, 6, CLASSES),
        lambda p, x, n: models.cell_model(p, x),
        X,
    ),
    "cells": Model(
        functools.partial(models.init_cell_model, KEY, 4, 6, CLASSES, num_layers=2),
        lambda: documents.MultiLayerRNNCell(4, 6, CLASSES, 2),
        lambda p, x, n: models.cell_model(p, x),
        X,
    ),
    "simple cell": Model(
        functools.partial(models.init_simple_rnn_cell, KEY, 4, 6),
        lambda: documents.SimpleRNNCell(4, 6),
        lambda p, x, n: models.simple_rnn_cell(p, x[:, 0]),
        X,
    ),
    "norm": Model(
        functools.partial(models.init_layer_norm_lstm, KEY, 4, 6, num_layers=2),
        lambda: documents.LSTMWithLayerNorm(4, 6, 2),
        lambda p, x, n: models.layer_norm_lstm(p, x, lengths=n)[0],
        X,
    ),
    "seq2seq additive": seq2seq_model("lstm", "additive"),
    "seq2seq general": seq2seq_model("gru", "general"),
    "seq2seq dot": seq2seq_model("rnn", "dot"),
    "seq2seq": seq2seq_model("rnn", None),
}
every_model = pytest.mark.parametrize("name", MODELS)


@functools.cache
def fresh(name):
    return MODELS[name].init()


@functools.cache
def zeros(name):
    """Parameters of the same shapes, where values do not matter."""
    return jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), jax.eval_shape(MODELS[name].init))
