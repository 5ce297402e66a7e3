"""Every system of the texts as a row: what it is called there, and its cases on both sides.

`DOCUMENTS` lists the rows; `systems()` has at least one case for each of them.
"""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

import jaxrnn
from jaxrnn import data, models, text

from ..pair import System
from . import modules as d
from . import trainings as training


DOCUMENTS = {
    "0.1": "SimpleRNNCell",
    "0.2": "BasicRNN",
    "0.3": "sine-wave prediction",
    "0.4": "LSTMModel",
    "0.5": "GRUModel",
    "0.6": "BidirectionalRNN",
    "0.7": "TextPreprocessor",
    "0.8": "TextClassificationRNN",
    "0.9": "gradient clipping, Xavier init",
    "0.10": "batching, shuffling, LR schedule",
    "0.11": "long sequences",
    "0.12": "monitored training",
    "1.1": "nn.RNNCell and a 2-layer nn.RNN",
    "1.2": "nn.LSTM with (h0, c0)",
    "1.3": "LSTMClassifier",
    "1.4": "BiLSTMClassifier",
    "1.5": "nn.GRU, GRUClassifier",
    "1.6": "Encoder, Decoder, Seq2Seq",
    "1.7": "Attention",
    "1.8": "AttentionDecoder",
    "1.9": "LSTMForecaster, its training function",
    "1.10": "PackedLSTM",
    "1.11": "variable-length collate",
    "1.12": "LSTMWithLayerNorm",
    "1.13": "SentimentDataset, SentimentLSTM, its training loop",
    "2.1": "SimpleRNN, MultiLayerRNN",
    "2.2": "RNNWithCell",
    "2.3": "MultiLayerRNNCell",
    "2.4": "text-classification training",
    "3.1": "nn.RNN(nonlinearity=)",
    "3.2": "data preparation",
    "3.3": "losses and optimisers",
    "3.4": "hyper-parameter search",
    "4.1": "noisy-sine forecasting",
    "4.2": "plots",
}

B, T, I, H, O = 4, 6, 3, 5, 2
V, S = 11, 7  # words of the target, steps of the source
LENGTHS = np.array([3, 6, 1, 5])


def systems() -> list[System]:
    """All cases, row by row in the order of `DOCUMENTS`."""
    makers = (_cells, _last_steps, _classifiers, _layers, _seq2seq, _data, training.systems)
    found = itertools.chain.from_iterable(make() for make in makers)
    order = list(DOCUMENTS)
    return sorted(found, key=lambda system: order.index(system.row))


def _normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def _ids(*shape: int, high: int = V, low: int = 1) -> np.ndarray:
    return np.random.default_rng([high, *shape]).integers(low, high, shape)


def _padded(ids: np.ndarray) -> np.ndarray:
    return np.where(np.arange(ids.shape[1]) < LENGTHS[:, None], ids, 0)


def _keep(rate: float, *shape: int) -> np.ndarray:
    return np.random.default_rng(shape).random(shape) >= rate


def _cells() -> list[System]:
    one, sequence = {"x": _normal(B, I), "h": _normal(B, H)}, {"x": _normal(B, T, I)}
    cell = lambda params, x, h: jaxrnn.rnn_cell(params, x, h)
    wide = {"x": _normal(32, 10), "h": _normal(32, 20)}
    positional = lambda module, x, h: module(x, h)
    return [
        System("0.1", "a step", d.SimpleRNNCell(I, H), one, models.simple_rnn_cell, ["h_n"]),
        System("1.1", "nn.RNNCell", nn.RNNCell(10, 20), wide, cell, ["h_n"], positional),
        System("2.2", "a loop", d.RNNWithCell(I, H, O), sequence, models.cell_model, ["out"]),
        System("2.3", "a loop over 3 cells", d.MultiLayerRNNCell(I, H, O, 3), sequence,
               models.cell_model, ["out"]),
    ]  # fmt: skip


def _last_steps() -> list[System]:
    """`fc` on `out[:, -1]`."""
    x = {"x": _normal(B, T, I)}

    def last_step(row: str, name: str, kind: str, **options: Any) -> System:
        predict = lambda params, x: models.sequence_model(params, x, pool="last_step")[0]
        module = d.LastStep(kind, I, H, O, **options)
        return System(row, name, module, x, predict, ["out"], lambda module, x: module(x)[0])

    def with_state(params: Any, x: Any, h_0: Any) -> Any:
        return models.sequence_model(params, x, h_0, pool="last_step")

    def dropped(params: Any, x: Any, masks: Any) -> Any:
        masks = models.DropoutMasks(layers=masks)
        return models.sequence_model(params, x, pool="last_step", dropout=0.2, masks=masks)[0]

    both = d.Classifier("lstm", I, H, O, bidirectional=True)
    final = lambda params, x: models.sequence_model(params, x)[0]
    return [
        System(
            *("0.2", "with a state", d.LastStep("rnn", I, H, O, num_layers=2)),
            x | {"h_0": _normal(2, B, H)},
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
        System("0.6", "as meant: both final states", both, x, final, ["out"]),
        last_step("1.9", "evaluated", "lstm", num_layers=2),
        System(
            *("1.9", "trained", d.LastStep("lstm", I, H, 1, num_layers=2, dropout=0.2)),
            x | {"masks": _keep(0.2, 1, B, T, H)},
            dropped,
            ["out"],
            lambda module, x, masks: module(x, masks=masks)[0],
        ),
        last_step("2.1", "SimpleRNN", "rnn"),
        last_step("2.1", "MultiLayerRNN", "rnn", num_layers=3),
    ]


def _classifiers() -> list[System]:
    """`fc` on final states or on a maximum, of ids mostly."""
    ids, lengths = {"x": _padded(_ids(B, T))}, {"lengths": LENGTHS}

    def drawn(hidden: int, head: int, rate: float) -> dict[str, np.ndarray]:
        return {"masks": _keep(rate, 1, B, T, hidden), "head": _keep(0.5, B, head)}

    def model(function: Any, **options: Any) -> Any:
        def call(params: Any, x: Any, masks: Any = None, head: Any = None, **inputs: Any) -> Any:
            given = None if masks is None and head is None else models.DropoutMasks(masks, head)
            out = function(params, x, masks=given, **options, **inputs)
            return out[0] if isinstance(out, tuple) else out

        return call

    plain = model(models.sequence_model, dropout=0.3, head_dropout=0.5)
    lstm = d.Classifier("lstm", I, H, O, vocab_size=V, dropout=0.3)
    deep = d.Classifier("lstm", I, H, O, num_layers=2, vocab_size=V, dropout=0.3)
    both = {"vocab_size": V, "num_layers": 2, "bidirectional": True, "dropout": 0.3}
    bi = d.Classifier("lstm", I, H, O, **both)
    gru = d.Classifier("gru", I, H, O, num_layers=2, dropout=0.3)
    packed = d.Classifier("lstm", I, H, O, vocab_size=V)
    maximum = model(models.text_classifier)
    text_classifier = d.TextClassificationRNN(V, I, H, O)
    sentiment = model(models.sentiment_classifier)
    sentiment_lstm = d.SentimentLSTM(V, I, H)
    x, out = {"x": _normal(B, T, I)}, ["out"]
    return [
        System("0.8", "as written: padding in the maximum", text_classifier, ids, maximum, out),
        System("0.8", "as meant: with lengths", text_classifier, ids | lengths, maximum, out),
        System("0.8", "trained", text_classifier, ids | drawn(2 * H, 64, 0.3), maximum, out),
        System("1.3", "evaluated", lstm, ids, plain, out),
        System("1.3", "trained", lstm, ids | {"head": _keep(0.5, B, H)}, plain, out),
        System("1.3", "2 layers, trained", deep, ids | drawn(H, H, 0.3), plain, out),
        System("1.4", "evaluated", bi, ids, plain, out),
        System("1.4", "trained", bi, ids | drawn(2 * H, 2 * H, 0.3), plain, out),
        System("1.5", "GRUClassifier, evaluated", gru, x, plain, out),
        System("1.5", "GRUClassifier, trained", gru, x | {"masks": _keep(0.3, 1, B, T, H)}, plain,
               out),
        System("1.10", "packed", packed, ids | lengths, plain, out),
        System("1.13", "evaluated", sentiment_lstm, ids | lengths, sentiment, ["probability"]),
        System("1.13", "trained", sentiment_lstm, ids | lengths | drawn(2 * H, 2 * H, 0.5),
               sentiment, ["probability"]),
    ]  # fmt: skip


def _layers() -> list[System]:
    """Layers as they are, on the texts' own shapes, and what stands around them."""
    long = {"x": _normal(32, 100, 10)}
    states = {"h_0": _normal(2, 32, 20), "c_0": _normal(2, 32, 20, seed=1)}
    layer = lambda function, **o: lambda params, x: function(params, x, batch_first=True, **o)
    given = lambda module, x, h_0, c_0: module(x, (h_0, c_0))
    lstm = lambda params, x, h_0, c_0: jaxrnn.lstm(params, x, (h_0, c_0), batch_first=True)
    torch_rnn = lambda f: nn.RNN(I, H, 1, nonlinearity=f, batch_first=True)
    plain = lambda module, x: module(x)
    x, y = {"x": _normal(B, T, I)}, ["y", "h_n"]
    return [
        System("1.1", "nn.RNN", nn.RNN(10, 20, 2, batch_first=True), long, layer(jaxrnn.rnn), y,
               plain),
        System("1.2", "the text's shapes", nn.LSTM(10, 20, 2, batch_first=True), long | states,
               lstm, ["y", "h_n", "c_n"], given),
        System("1.5", "nn.GRU", nn.GRU(10, 20, 2, batch_first=True), long, layer(jaxrnn.gru), y,
               plain),
        System("1.12", "2 layers", d.LSTMWithLayerNorm(I, H, 2), x, models.layer_norm_lstm,
               ["y", "h_n", "c_n"]),
        System("3.1", "tanh", torch_rnn("tanh"), x, layer(jaxrnn.rnn), y, plain),
        System("3.1", "relu", torch_rnn("relu"), x, layer(jaxrnn.rnn, nonlinearity="relu"), y,
               plain),
        *_long_sequences(),
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


def _long_sequences() -> list[System]:
    """Chunk by chunk with the state carried over, truncated or not, and recomputed in chunks."""
    x, module = {"x": _normal(B, 20, I)}, nn.LSTM(I, H, batch_first=True)

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
        System("0.11", "chunks, state carried", module, x, jax_chunks(keep), names,
               torch_chunks(keep)),
        System("0.11", "chunks, truncated", module, x, jax_chunks(jax.lax.stop_gradient), names,
               torch_chunks(detach)),
        System("0.11", "chunks, recomputed", module, x, jax_chunks(keep, again), names,
               torch_chunks(keep, recompute)),
        System("0.11", "cut to 8 steps", module, x,
               lambda params, x: jaxrnn.lstm(params, x[:, :8], batch_first=True), names,
               lambda module, x: module(x[:, :8])),
    ]  # fmt: skip


def _seq2seq() -> list[System]:
    source, target = _ids(B, S, high=9), _ids(B, T)
    long = np.array([3, 7, 1, 5])
    coins = np.array([True, False, False, True, False])

    def system(
        row: str,
        name: str,
        kind: str = "lstm",
        score: str | None = None,
        both: bool = False,
        inputs: dict[str, np.ndarray] | None = None,
    ) -> System:
        size = 2 * H if both else H
        module = d.Seq2Seq(
            d.Encoder(9, I, H, 2, kind=kind, bidirectional=both),
            d.Decoder(V, I, size, 2, kind=kind, score=score, values_size=size),
        )
        given = {"source": source, "target": target, "coins": coins} | (inputs or {})
        outputs = ["logits", "attention"] if score else ["logits"]
        return System(row, name, module, given, models.seq2seq, outputs)

    values, h, c = _normal(B, S, H), _normal(2, B, H), _normal(2, B, H, seed=1)
    state, token = {"h_0": h, "c_0": c}, {"token": _ids(B)}
    step = lambda params, token, h_0, c_0, values=None: models.decoder_step(
        params,
        token,
        (h_0, c_0),
        None if values is None else models.memory(params["attention"], values),
    )
    torch_step = lambda module, token, h_0, c_0, values=None: module(token, (h_0, c_0), values)
    stepped = ["logits", "h_n", "c_n"]
    query = {"query": _normal(B, H), "values": values}
    weights = lambda params, query, values: models.attention(
        params, query, models.memory(params, values)
    )[1]
    padded = lambda params, query, values, valid: models.attention(
        params, query, models.memory(params, values, valid)
    )[1]
    valid = {"valid": np.arange(S) < long[:, None]}
    decoder = d.Decoder(V, I, H, 2, score="additive", values_size=H)
    return [
        System("1.6", "Encoder", d.Encoder(9, I, H, 2), {"source": source}, models.encoder,
               ["y", "h_n", "c_n"]),
        System("1.6", "Decoder, a step", d.Decoder(V, I, H, 2), token | state, step, stepped,
               torch_step),
        system("1.6", "Seq2Seq, coins mixed"),
        system("1.6", "Seq2Seq, argmax fed back", inputs={"coins": np.zeros(T - 1, bool)}),
        system("1.6", "Seq2Seq, GRU, lengths", "gru", inputs={"lengths": long}),
        System("1.7", "additive", d.Attention(H, H), query, weights, ["attention"]),
        System("1.7", "additive, padded", d.Attention(H, H), query | valid, padded, ["attention"]),
        System("1.7", "general", d.Attention(H, H, "general"), query, weights, ["attention"]),
        System("1.7", "dot, padded", d.Attention(H, H, "dot"), query | valid, padded,
               ["attention"]),
        System("1.8", "a step", decoder, token | state | {"values": values}, step,
               [*stepped, "attention"], torch_step),
        system("1.8", "Seq2Seq, coins mixed", score="additive"),
        system("1.8", "Seq2Seq, BiLSTM, lengths", score="additive", both=True,
               inputs={"lengths": long}),
        system("1.8", "Seq2Seq, BiGRU, general score", "gru", "general", True),
        system("1.8", "Seq2Seq, RNN, dot score", "rnn", "dot"),
    ]  # fmt: skip


SEQUENCES = [[5, 6, 7], [8], [9, 10]]
TEXTS = ["The film is good , the cast is good", "a film", "", "Bad bad BAD film of the year"]


def _data() -> list[System]:
    """What comes before the network; whole numbers have to be the same, not near."""

    def host(
        row: str, name: str, ours: Any, theirs: Any, outputs: list[str], **inputs: Any
    ) -> System:
        call = lambda params, **inputs: ours(**inputs)
        twin = lambda module, **inputs: theirs(**inputs)
        return System(row, name, nn.Identity(), inputs, call, outputs, twin, differentiate=False)

    def preprocessed() -> Any:
        vocabulary = text.build_vocabulary(TEXTS, max_size=9)
        encoded = [text.encode(vocabulary, each) for each in TEXTS]
        return text.collate(encoded, max_length=6)[0]

    def collated() -> Any:
        return text.collate(SEQUENCES)

    def torch_collated() -> Any:
        lengths = torch.tensor([len(ids) for ids in SEQUENCES])
        padded = [torch.tensor(ids, dtype=torch.long) for ids in SEQUENCES]
        return pad_sequence(padded, batch_first=True), lengths

    def dataset() -> Any:
        vocabulary = text.build_vocabulary(TEXTS)
        keep = lambda each: text.encode(vocabulary, each, max_length=4, tokenize=str.split)
        return [keep(each) for each in TEXTS]

    def normalised(x: Any) -> Any:
        scales = data.fit_min_max(x[:40]), data.fit_z_score(x[:40])
        scaled = [data.normalise(scale, x) for scale in scales]
        return scaled, [data.denormalise(*pair) for pair in zip(scales, scaled, strict=True)]

    def torch_normalised(x: Any) -> Any:
        low, high = x[:40].amin(0), x[:40].amax(0)
        mean, std = x[:40].mean(0), x[:40].std(0, correction=0)
        return [(x - low) / (high - low), (x - mean) / std], [x, x]

    names = ["min-max", "z-score", "min-max inverted", "z-score inverted"]
    return [
        host(
            "0.7",
            "vocabulary, encoding, padding",
            preprocessed,
            lambda: d.preprocessed(TEXTS, 9, 6),
            ["ids"],
        ),
        host("1.11", "pad_sequence and lengths", collated, torch_collated, ["ids", "lengths"]),
        host(
            "1.13",
            "SentimentDataset",
            dataset,
            lambda: d.dataset(TEXTS, 4),
            [f"text {i}" for i in range(4)],
        ),
        host("3.2", "normalisation", normalised, torch_normalised, names, x=3 + 2 * _normal(50, I)),
    ]
