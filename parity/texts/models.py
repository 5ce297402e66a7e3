"""The texts' cells and models with a head, as pairs."""

from typing import Any

import numpy as np
from torch import nn

import jaxrnn
from jaxrnn import models

from ..pair import Pair, of_module
from . import inputs
from . import modules as m
from .inputs import LENGTHS, B, H, I, O, T, V


def pairs() -> list[Pair]:
    """Cells, models on the last step, classifiers."""
    return [*_cells(), *_last_steps(), *_classifiers()]


def _cells() -> list[Pair]:
    one, sequence = (
        {"x": inputs.normal(B, I), "h": inputs.normal(B, H)},
        {"x": inputs.normal(B, T, I)},
    )
    cell = lambda params, x, h: jaxrnn.rnn_cell(params, x, h)
    wide = {"x": inputs.normal(32, 10), "h": inputs.normal(32, 20)}
    positional = lambda module, x, h: module(x, h)
    return [
        of_module("0.1", "a step", m.SimpleRNNCell(I, H), one, models.simple_rnn_cell, ["h_n"]),
        of_module("1.1", "nn.RNNCell", nn.RNNCell(10, 20), wide, cell, ["h_n"], positional),
        of_module("2.2", "a loop", m.RNNWithCell(I, H, O), sequence, models.cell_model, ["out"]),
        of_module("2.3", "a loop over 3 cells", m.MultiLayerRNNCell(I, H, O, 3), sequence,
               models.cell_model, ["out"]),
    ]  # fmt: skip


def _last_steps() -> list[Pair]:
    """`fc` on `out[:, -1]`."""
    x = {"x": inputs.normal(B, T, I)}

    def last_step(row: str, name: str, kind: str, **options: Any) -> Pair:
        predict = lambda params, x: models.sequence_model(params, x, pool="last_step")[0]
        module = m.LastStep(kind, I, H, O, **options)
        return of_module(row, name, module, x, predict, ["out"], lambda module, x: module(x)[0])

    def with_state(params: Any, x: Any, h_0: Any) -> Any:
        return models.sequence_model(params, x, h_0, pool="last_step")

    def dropped(params: Any, x: Any, masks: Any) -> Any:
        masks = models.DropoutMasks(layers=masks)
        return models.sequence_model(params, x, pool="last_step", dropout=0.2, masks=masks)[0]

    both = m.Classifier("lstm", I, H, O, bidirectional=True)
    final = lambda params, x: models.sequence_model(params, x)[0]
    return [
        of_module(
            "0.2",
            "with a state",
            m.LastStep("rnn", I, H, O, num_layers=2),
            x | {"h_0": inputs.normal(2, B, H)},
            with_state,
            ["out", "h_n"],
            lambda module, x, h_0: module(x, [h_0]),
        ),
        last_step("0.2", "without a state", "rnn"),
        last_step("0.4", "2 layers", "lstm", num_layers=2),
        last_step("0.5", "2 layers", "gru", num_layers=2),
        # Its backward half has seen a single step, from a state of 0.
        last_step("0.6", "as written: the last step", "lstm", bidirectional=True)._replace(
            idle=["lstm.weight_hh_l0_reverse"]
        ),
        of_module("0.6", "as meant: both final states", both, x, final, ["out"]),
        last_step("1.9", "evaluated", "lstm", num_layers=2),
        of_module(
            "1.9",
            "trained",
            m.LastStep("lstm", I, H, 1, num_layers=2, dropout=0.2),
            x | {"masks": inputs.keep(0.2, 1, B, T, H)},
            dropped,
            ["out"],
            lambda module, x, masks: module(x, masks=masks)[0],
        ),
        last_step("2.1", "SimpleRNN", "rnn"),
        last_step("2.1", "MultiLayerRNN", "rnn", num_layers=3),
    ]


def _classifiers() -> list[Pair]:
    """`fc` on final states or on a maximum, of ids mostly."""
    ids, lengths = {"x": inputs.padded(inputs.ids(B, T))}, {"lengths": LENGTHS}

    def drawn(hidden: int, head: int, rate: float) -> dict[str, np.ndarray]:
        return {"masks": inputs.keep(rate, 1, B, T, hidden), "head": inputs.keep(0.5, B, head)}

    def model(function: Any, **options: Any) -> Any:
        def call(params: Any, x: Any, masks: Any = None, head: Any = None, **inputs: Any) -> Any:
            kept = None if masks is None and head is None else models.DropoutMasks(masks, head)
            out = function(params, x, masks=kept, **options, **inputs)
            return out[0] if isinstance(out, tuple) else out

        return call

    plain = model(models.sequence_model, dropout=0.3, head_dropout=0.5)
    lstm = m.Classifier("lstm", I, H, O, vocab_size=V, dropout=0.3)
    deep = m.Classifier("lstm", I, H, O, num_layers=2, vocab_size=V, dropout=0.3)
    both = {"vocab_size": V, "num_layers": 2, "bidirectional": True, "dropout": 0.3}
    bi = m.Classifier("lstm", I, H, O, **both)
    gru = m.Classifier("gru", I, H, O, num_layers=2, dropout=0.3)
    packed = m.Classifier("lstm", I, H, O, vocab_size=V)
    maximum = model(models.text_classifier)
    text_classifier = m.TextClassificationRNN(V, I, H, O)
    sentiment = model(models.sentiment_classifier)
    sentiment_lstm = m.SentimentLSTM(V, I, H)
    x, out = {"x": inputs.normal(B, T, I)}, ["out"]
    return [
        of_module("0.8", "as written: padding in the maximum", text_classifier, ids, maximum, out),
        of_module("0.8", "as meant: with lengths", text_classifier, ids | lengths, maximum, out),
        of_module("0.8", "trained", text_classifier, ids | drawn(2 * H, 64, 0.3), maximum, out),
        of_module("1.3", "evaluated", lstm, ids, plain, out),
        of_module("1.3", "trained", lstm, ids | {"head": inputs.keep(0.5, B, H)}, plain, out),
        of_module("1.3", "2 layers, trained", deep, ids | drawn(H, H, 0.3), plain, out),
        of_module("1.4", "evaluated", bi, ids, plain, out),
        of_module("1.4", "trained", bi, ids | drawn(2 * H, 2 * H, 0.3), plain, out),
        of_module("1.5", "GRUClassifier, evaluated", gru, x, plain, out),
        of_module("1.5", "GRUClassifier, trained", gru,
                  x | {"masks": inputs.keep(0.3, 1, B, T, H)}, plain, out),
        of_module("1.10", "packed", packed, ids | lengths, plain, out),
        of_module("1.13", "evaluated", sentiment_lstm, ids | lengths, sentiment, ["probability"]),
        of_module("1.13", "trained", sentiment_lstm, ids | lengths | drawn(2 * H, 2 * H, 0.5),
               sentiment, ["probability"]),
    ]  # fmt: skip
