"""The data preparation of the texts, as pairs: whole numbers must be equal, not near."""

from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from jaxrnn import data, text

from ..pair import Pair, of_module
from . import inputs
from . import modules as m
from .inputs import I


SEQUENCES = [[5, 6, 7], [8], [9, 10]]
TEXTS = ["The film is good , the cast is good", "a film", "", "Bad bad BAD film of the year"]


def pairs() -> list[Pair]:
    """Vocabularies, padding, datasets, normalisation."""

    def host(
        row: str, name: str, jaxrnns: Any, texts: Any, outputs: list[str], **inputs: Any
    ) -> Pair:
        jax = lambda params, **inputs: jaxrnns(**inputs)
        torch = lambda module, **inputs: texts(**inputs)
        return of_module(row, name, nn.Identity(), inputs, jax, outputs, torch, differentiate=False)

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

    series = 3 + 2 * inputs.normal(50, I)
    names = ["min-max", "z-score", "min-max inverted", "z-score inverted"]
    return [
        host(
            "0.7",
            "vocabulary, encoding, padding",
            preprocessed,
            lambda: m.preprocessed(TEXTS, 9, 6),
            ["ids"],
        ),
        host("1.11", "pad_sequence and lengths", collated, torch_collated, ["ids", "lengths"]),
        host(
            "1.13",
            "SentimentDataset",
            dataset,
            lambda: m.dataset(TEXTS, 4),
            [f"text {i}" for i in range(4)],
        ),
        host(
            "3.2",
            "normalisation",
            normalised,
            torch_normalised,
            names,
            x=series,
        ),
    ]
