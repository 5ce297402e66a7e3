"""The systems that the PyTorch texts describe, as torch modules: their architecture and names.

A `state_dict` of the texts' class loads into the module here, and into jaxrnn's function. Beyond
the texts, `forward` takes what makes two runs comparable: dropout masks (True where a value is
kept; no masks, no dropout) and the coins of teacher forcing.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ..backends.torch import with_masks


LAYERS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def drop(x: Tensor, mask: Tensor | None, rate: float) -> Tensor:
    return x if mask is None else x * mask / (1 - rate)


def run(layer: Any, x: Tensor, state: Any, lengths: Tensor | None) -> tuple[Tensor, Any]:
    """A recurrent layer, on a packed sequence where there are lengths."""
    state = state[0] if isinstance(state, list) and len(state) == 1 else state
    state = tuple(state) if isinstance(state, list) else state
    if lengths is None:
        return layer(x, state)
    packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
    y, state = layer(packed, state)
    return pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])[0], state


class Recurrent(nn.Module):
    """What the texts' models share: an embedding if there is a vocabulary, and recurrent layers.

    These lie under `rnn`, `lstm` or `gru`. `features` gives their output and final state.
    """

    def __init__(
        self,
        kind: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        vocab_size: int = 0,
        bidirectional: bool = False,
        dropout: float = 0.0,
        nonlinearity: str = "tanh",
    ) -> None:
        super().__init__()
        if vocab_size:
            self.embedding = nn.Embedding(vocab_size, input_size, padding_idx=0)
        options = {"nonlinearity": nonlinearity} if kind == "rnn" else {}
        self.kind, self.rate = kind, dropout
        self.width = hidden_size * (2 if bidirectional else 1)
        layer = LAYERS[kind](
            *(input_size, hidden_size, num_layers),
            batch_first=True,
            bidirectional=bidirectional,
            **options,
        )
        self.add_module(kind, layer)

    def features(
        self, x: Tensor, state: Any = None, lengths: Tensor | None = None, masks: Any = None
    ) -> tuple[Tensor, Any]:
        x = self.embedding(x) if hasattr(self, "embedding") else x
        layer = getattr(self, self.kind)
        if masks is None:
            return run(layer, x, state, lengths)
        packing = lambda layer, x, state: run(layer, x, state, lengths)
        return with_masks(layer, packing, x, state, masks, self.rate)

    def last_state(self, state: Any) -> Tensor:
        """The last layer's final h: `hidden[-1]`, or `cat([hidden[-2], hidden[-1]])`."""
        h = state[0] if isinstance(state, tuple) else state
        return torch.cat([h[-2], h[-1]], dim=1) if self.width == 2 * h.shape[-1] else h[-1]


class LastStep(Recurrent):
    """`fc` on the output of the last step.

    `BasicRNN`, `SimpleRNN`, `MultiLayerRNN`, `LSTMModel`, `GRUModel`, `BidirectionalRNN` and
    `LSTMForecaster`; of all of them `BasicRNN` takes and returns a state.
    """

    def __init__(self, kind: str, input_size: int, hidden_size: int, output_size: int, **o: Any):
        super().__init__(kind, input_size, hidden_size, **o)
        self.fc = nn.Linear(self.width, output_size)

    def forward(self, x: Tensor, state: Any = None, masks: Any = None) -> tuple[Tensor, Any]:
        y, state = self.features(x, state, None, masks)
        return self.fc(y[:, -1]), state


class Classifier(Recurrent):
    """`fc` on the last layer's final state, after dropout.

    `LSTMClassifier`, `BiLSTMClassifier`, `GRUClassifier` and `PackedLSTM`.
    """

    def __init__(self, kind: str, input_size: int, hidden_size: int, num_classes: int, **o: Any):
        super().__init__(kind, input_size, hidden_size, **o)
        self.fc = nn.Linear(self.width, num_classes)

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, masks: Any = None, head: Any = None
    ) -> Tensor:
        _, state = self.features(x, None, lengths, masks)
        return self.fc(drop(self.last_state(state), head, 0.5))


class TextClassificationRNN(Recurrent):
    """The maximum over time, then `fc1`, ReLU, dropout and `fc2`."""

    def __init__(self, vocab_size: int, embedding_dim: int, hidden_size: int, num_classes: int):
        options = {"vocab_size": vocab_size, "bidirectional": True, "dropout": 0.3}
        super().__init__("lstm", embedding_dim, hidden_size, 2, **options)
        self.fc1 = nn.Linear(self.width, 64)
        self.fc2 = nn.Linear(64, num_classes)

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, masks: Any = None, head: Any = None
    ) -> Tensor:
        y, _ = self.features(x, None, lengths, masks)
        if lengths is not None:
            beyond = torch.arange(y.shape[1], device=y.device) >= lengths[:, None]
            y = y.masked_fill(beyond[..., None], -torch.inf)
        return self.fc2(drop(self.fc1(y.max(dim=1).values).relu(), head, 0.5))


class SentimentLSTM(Recurrent):
    """Packed two-layer BiLSTM, both final states, and dropout, linear, sigmoid as `fc`."""

    def __init__(self, vocab_size: int, embedding_dim: int = 100, hidden_size: int = 256):
        options = {"vocab_size": vocab_size, "bidirectional": True, "dropout": 0.5}
        super().__init__("lstm", embedding_dim, hidden_size, 2, **options)
        self.fc = nn.Sequential(nn.Identity(), nn.Linear(self.width, 1), nn.Sigmoid())

    def forward(self, x: Tensor, lengths: Tensor, masks: Any = None, head: Any = None) -> Tensor:
        _, state = self.features(x, None, lengths, masks)
        return self.fc(drop(self.last_state(state), head, 0.5)).squeeze(1)


class SimpleRNNCell(nn.Module):
    """A cell out of two linear layers."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.W_xh = nn.Linear(input_size, hidden_size)
        self.W_hh = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.W_xh(x) + self.W_hh(h))


class RNNWithCell(nn.Module):
    """A loop over time, and `fc` on the last state."""

    def __init__(self, input_size: int, hidden_size: int, output_size: int) -> None:
        super().__init__()
        self.rnn_cell = nn.RNNCell(input_size, hidden_size)
        self.fc = nn.Linear(hidden_size, output_size)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), self.rnn_cell.hidden_size)
        for x_t in x.unbind(1):
            h = self.rnn_cell(x_t, h)
        return self.fc(h)


class MultiLayerRNNCell(nn.Module):
    """A loop over time and, in every step, over `cells`; `fc` on the top one's last state."""

    def __init__(self, input_size: int, hidden_size: int, output_size: int, num_layers: int):
        super().__init__()
        widths = [input_size] + [hidden_size] * (num_layers - 1)
        self.cells = nn.ModuleList([nn.RNNCell(width, hidden_size) for width in widths])
        self.fc = nn.Linear(hidden_size, output_size)

    def forward(self, x: Tensor) -> Tensor:
        states = [x.new_zeros(len(x), self.fc.in_features) for _ in self.cells]
        for below in x.unbind(1):
            for k, cell in enumerate(self.cells):
                states[k] = below = cell(below, states[k])
        return self.fc(states[-1])


class LSTMWithLayerNorm(nn.Module):
    """Outputs normalised at every step, states not."""

    def __init__(self, input_dim: int, hidden_dim: int, num_layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_dim, hidden_dim, num_layers, batch_first=True)
        self.layer_norm = nn.LayerNorm(hidden_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        y, state = self.lstm(x)
        return self.layer_norm(y), state


class Encoder(Recurrent):
    """Reads a source; in one direction as in the text, or in two, their states side by side."""

    def __init__(self, vocab_size: int, embedding_dim: int, hidden_size: int, num_layers: int, **o):
        kind = o.pop("kind", "lstm")
        super().__init__(kind, embedding_dim, hidden_size, num_layers, **o)
        self.embedding = nn.Embedding(vocab_size, embedding_dim)

    def forward(self, source: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        outputs, state = self.features(source, None, lengths)
        if getattr(self, self.kind).bidirectional:
            beside = lambda a: torch.cat([a[0::2], a[1::2]], dim=2)
            state = tuple(map(beside, state)) if isinstance(state, tuple) else beside(state)
        return outputs, state


class Attention(nn.Module):
    """Weights over the source steps; `score` is additive in the text."""

    def __init__(self, query_size: int, values_size: int, score: str = "additive") -> None:
        super().__init__()
        self.score = score
        if score == "additive":
            self.attn = nn.Linear(query_size + values_size, query_size)
            self.v = nn.Linear(query_size, 1, bias=False)
        elif score == "general":
            self.attn = nn.Linear(values_size, query_size, bias=False)

    def forward(self, query: Tensor, values: Tensor, valid: Tensor | None = None) -> Tensor:
        if self.score == "additive":
            queries = query[:, None].expand(-1, values.shape[1], -1)
            energy = torch.tanh(self.attn(torch.cat([queries, values], dim=2)))
            scores = self.v(energy).squeeze(2)
        else:
            keys = self.attn(values) if self.score == "general" else values
            scores = torch.bmm(keys, query[:, :, None]).squeeze(2)
        if valid is not None:
            scores = scores.masked_fill(~valid, -torch.inf)
        return scores.softmax(dim=1)


class Decoder(nn.Module):
    """One step from a token to the next one's logits, with attention (`score`) or without."""

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int,
        hidden_size: int,
        num_layers: int,
        *,
        kind: str = "lstm",
        score: str | None = None,
        values_size: int = 0,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        if score:
            self.attention = Attention(hidden_size, values_size, score)
            embedding_dim += values_size
        layer = LAYERS[kind](embedding_dim, hidden_size, num_layers, batch_first=True)
        self.add_module(kind, layer)
        self.fc = nn.Linear(hidden_size, vocab_size)

    def forward(
        self, token: Tensor, state: Any, values: Tensor | None = None, valid: Tensor | None = None
    ) -> tuple[Tensor, Any, Tensor | None]:
        x, weights = self.embedding(token[:, None]), None
        if values is not None and hasattr(self, "attention"):
            h = state[0] if isinstance(state, tuple) else state
            weights = self.attention(h[-1], values, valid)
            x = torch.cat([x, torch.bmm(weights[:, None], values)], dim=2)
        y, state = getattr(self, self.kind)(x, state)
        return self.fc(y.squeeze(1)), state, weights


class Seq2Seq(nn.Module):
    """An encoder and a decoder; `outputs[:, 0]` stays 0."""

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(
        self, source: Tensor, target: Tensor, coins: Sequence[bool], lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        values, state = self.encoder(source, lengths)
        valid = None
        if lengths is not None:
            valid = torch.arange(source.shape[1], device=source.device) < lengths[:, None]
        token, outputs, weights = target[:, 0], [], []
        for true, coin in zip(target.unbind(1)[1:], coins, strict=True):
            logits, state, attended = self.decoder(token, state, values, valid)
            token = true if coin else logits.argmax(1)
            outputs.append(logits)
            weights.append(attended)
        late = lambda steps: torch.stack([torch.zeros_like(steps[0]), *steps], dim=1)
        return late(outputs), None if weights[0] is None else late(weights)


def vocabulary(texts: Sequence[str], size: int) -> dict[str, int]:
    """The words of lower-cased texts by falling frequency, after padding and the unknown word."""
    words = [word for text in texts for word in text.lower().split()]
    ranked = sorted(dict.fromkeys(words), key=lambda word: -words.count(word))
    return {word: i for i, word in enumerate(["<PAD>", "<UNK>", *ranked][:size])}


def preprocessed(texts: Sequence[str], size: int, max_length: int) -> Tensor:
    """`TextPreprocessor`: every text as `max_length` ids, padded or cut."""
    ids = vocabulary(texts, size)
    rows = [[ids.get(word, 1) for word in text.lower().split()] for text in texts]
    return torch.tensor([(row + [0] * max_length)[:max_length] for row in rows])


def dataset(texts: Sequence[str], max_length: int) -> list[Tensor]:
    """`SentimentDataset`: the ids of every text's first words, which it does not lower-case."""
    ids = vocabulary(texts, 10000)
    rows = [[ids.get(word, 1) for word in text.split()[:max_length]] for text in texts]
    return [torch.tensor(row, dtype=torch.long) for row in rows]
