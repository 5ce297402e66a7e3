"""The trainings of the texts, as pairs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from jaxrnn import data, losses, models

from ..pair import Pair, of_module
from . import ingredients
from . import modules as m
from .recipe import Recipe, last_step, noisy_sine, sines, training


def pairs() -> list[Pair]:
    """The texts' trainings, shortened where a text takes a hundred epochs."""
    small = Sizes(examples=24, batch=8, hidden=5)
    with _seeded():
        return [
            _sine_wave(10),
            _scheduled(small, 8, threshold=0.5),
            _monitored(small, 2),
            _forecaster(small, 2),
            _noisy_sine(1),
            _plotted(),
            _memorised(),
            _sentiment(Sizes(examples=12, batch=4, hidden=5), 2, vocabulary=11, embedding=3),
            *ingredients.pairs(),
        ]


def whole() -> list[Pair]:
    """The texts' trainings over all of their epochs, each with hundreds of steps or the text's."""
    with _seeded():
        return [
            _sine_wave(100),
            _scheduled(Sizes(examples=192, batch=32, hidden=16), 50),
            _monitored(Sizes(examples=1000, batch=32, hidden=32), 20),
            _forecaster(Sizes(examples=320, batch=32, hidden=16), 40),
            _sentiment(Sizes(examples=240, batch=8, hidden=16), 10, vocabulary=100, embedding=8),
            _memorised(),
            _noisy_sine(100),
        ]


@contextmanager
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


class Sizes(NamedTuple):
    """How much data a training has, and how wide its model is."""

    examples: int
    batch: int
    hidden: int

    def shuffled(self, epochs: int, rng: np.random.Generator) -> list[list[np.ndarray]]:
        return [data.batches(self.examples, self.batch, rng=rng) for _ in range(epochs)]


STEPS = 20  # of a sine


def _sine_wave(epochs: int) -> Pair:
    recipe = Recipe([[np.arange(1000)]] * epochs, **last_step())
    windows = sines(1000, STEPS, np.random.default_rng(0))
    return training("0.3", f"{epochs} epochs", m.LastStep("rnn", 1, 32, 1), windows, recipe)


def _masks(
    sizes: Sizes, rate: float, batches: Sequence[Any], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Between two layers, for each batch of each epoch; all batches are of one size."""
    shape = (len(batches), len(batches[0]), 1, sizes.batch, STEPS, sizes.hidden)
    return {"masks": rng.random(shape) >= rate}


def _scheduled(sizes: Sizes, epochs: int, **plateau: Any) -> Pair:
    rng = np.random.default_rng(1)
    batches = sizes.shuffled(epochs, rng)
    return training(
        "0.10",
        "shuffled, dropout, plateau",
        m.LastStep("lstm", 1, sizes.hidden, 1, num_layers=2, dropout=0.3),
        sines(sizes.examples, STEPS, rng) | _masks(sizes, 0.3, batches, rng),
        Recipe(batches, plateau={"factor": 0.5, "patience": 5} | plateau, **last_step(dropout=0.3)),
    )


def _monitored(sizes: Sizes, epochs: int) -> Pair:
    rng = np.random.default_rng(2)
    return training(
        "0.12",
        f"{epochs} epochs",
        m.LastStep("rnn", 1, sizes.hidden, 1),
        sines(sizes.examples, STEPS, rng),
        Recipe(sizes.shuffled(epochs, rng), **last_step()),
    )


def _forecaster(sizes: Sizes, epochs: int) -> Pair:
    rng = np.random.default_rng(3)
    batches = sizes.shuffled(epochs, rng)
    return training(
        "1.9",
        f"the training function, {epochs} epochs",
        m.LastStep("lstm", 1, sizes.hidden, 1, num_layers=2, dropout=0.2),
        sines(sizes.examples, STEPS, rng) | _masks(sizes, 0.2, batches, rng),
        Recipe(batches, **last_step(dropout=0.2)),
    )


def _noisy_sine(epochs: int) -> Pair:
    x, y = data.windows(noisy_sine(np.random.default_rng(0))[:800], 3)
    return training(
        "4.1",
        f"{epochs} epoch{'s' * (epochs > 1)}",
        m.LastStep("rnn", 3, 128, 1),
        {"x": x[:, None], "y": y},
        Recipe([data.batches(len(x), 32)] * epochs, lr=1e-4, **last_step()),
        idle=["rnn.weight_hh_l0"],  # after a single step from a state of 0
    )


def _plotted() -> Pair:
    """What the text draws: the test part's truth and predictions, and where that part begins."""
    series = noisy_sine(np.random.default_rng(0))

    def jax_curves(params: Any, series: Any) -> Any:
        x, y = data.windows(series[800:], 3)
        predicted, _ = models.sequence_model(params, x[:, None], pool="last_step")
        return predicted[:, 0], y, len(series) - len(y) - 3

    def torch_curves(module: nn.Module, series: Any) -> Any:
        test = series[800:]
        predicted, _ = module(test.unfold(0, 3, 1)[:-1, None])
        return predicted[:, 0], test[3:], torch.tensor(800)

    names = ["predicted", "ground truth", "forecast start"]
    return of_module(
        "4.2",
        "the two curves",
        m.LastStep("rnn", 3, 128, 1),
        {"series": series},
        jax_curves,
        names,
        torch_curves,
        differentiate=False,
    )


def _memorised() -> Pair:
    rng = np.random.default_rng(4)
    return training(
        "2.4",
        "10 epochs",
        m.LastStep("rnn", 100, 128, 2, num_layers=2),
        {"x": rng.standard_normal((32, 50, 100)), "y": rng.integers(0, 2, 32)},
        Recipe(
            [[np.arange(32)]] * 10,
            lambda params, x: models.sequence_model(params, x, pool="last_step")[0],
            losses.cross_entropy,
            functional.cross_entropy,
            lambda module, x: module(x)[0],
        ),
    )


def _sentiment(sizes: Sizes, epochs: int, *, vocabulary: int, embedding: int) -> Pair:
    rng = np.random.default_rng(5)
    longest, n = 6, sizes.examples
    lengths = rng.integers(1, longest + 1, n)
    words = rng.integers(1, vocabulary, (n, longest))
    ids = np.where(np.arange(longest) < lengths[:, None], words, 0)
    order = sizes.shuffled(epochs, rng)
    each, width = (epochs, len(order[0])), 2 * sizes.hidden
    module = m.SentimentLSTM(vocabulary, embedding, sizes.hidden)
    # Or there is little to be clipped.
    nn.init.normal_(module.get_parameter("fc.1.weight"), std=5.0)
    inputs = {
        # One array of inputs, so that an index takes a text and its length.
        "x": np.concatenate([lengths[:, None], ids], 1),
        "y": rng.integers(0, 2, n),
        "layers": rng.random((*each, 1, sizes.batch, longest, width)) >= 0.5,
        "head": rng.random((*each, sizes.batch, width)) >= 0.5,
    }
    recipe = Recipe(
        order,
        lambda params, x, layers, head: models.sentiment_classifier(
            params, x[:, 1:], x[:, 0], masks=models.DropoutMasks(layers, head)
        ),
        lambda p, y: losses.binary_cross_entropy(p, y.astype(p.dtype)),
        lambda p, y: functional.binary_cross_entropy(p, y.to(p.dtype)),
        lambda module, x, layers, head: module(x[:, 1:], x[:, 0], layers, head),
        max_norm=1.0,
    )
    return training("1.13", f"the training loop, {epochs} epochs", module, inputs, recipe)
