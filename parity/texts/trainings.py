"""Trainings side by side: the same start, batches and dropout masks in both frameworks.

A training is a function of its start, which lets `systems` judge it: its outputs are the loss, the
gradient's norm and the learning rate of every step, and the parameters at the end.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import torch
from torch import nn
from torch.nn import functional

import jaxrnn
from jaxrnn import data, losses, models, optim, search
from jaxrnn.training import fit, train_step

from ..pair import System
from . import modules as d


OPTIMIZERS = {
    "SGD": (optim.sgd, torch.optim.SGD),
    "Adam": (optim.adam, torch.optim.Adam),
    "AdamW": (optim.adamw, torch.optim.AdamW),
    "NAdam": (optim.nadam, torch.optim.NAdam),
    "RAdam": (optim.radam, torch.optim.RAdam),
    "Adagrad": (optim.adagrad, torch.optim.Adagrad),
    "RMSprop": (optim.rmsprop, torch.optim.RMSprop),
}


class Recipe(NamedTuple):
    """How to train. `batches` holds the indices of every batch of every epoch.

    Both losses take the model's output and the targets; both models what follows the targets in a
    batch, such as masks, as keywords.
    """

    batches: Sequence[Sequence[np.ndarray]]
    ours: Callable[..., Any]
    our_loss: Callable[..., Any]
    loss: Callable[..., Any]
    theirs: Callable[..., Any] = lambda module, x, **masks: module(x, **masks)
    optimizer: str = "Adam"
    lr: float = 1e-3
    options: Mapping[str, Any] = MappingProxyType({"betas": (0.9, 0.999)})
    max_norm: float | None = None
    plateau: Mapping[str, Any] | None = None


def training(
    row: str,
    name: str,
    module: nn.Module,
    inputs: Mapping[str, np.ndarray],
    recipe: Recipe,
    **options: Any,
) -> System:
    """The system of a training on `inputs`: `x`, `y`, and per step what else the models take.

    The optimiser's numbers are inputs like others, which are moved by an ulp, too: Adam's 1 - βᵗ
    makes 1e-13 of it.
    """
    names = [f"final {name}" for name in module.state_dict()]
    numbers = {"lr": recipe.lr, **recipe.options}
    return System(
        *(row, name, module, {**inputs, **{n: np.asarray(a) for n, a in numbers.items()}}),
        functools.partial(train_jax, recipe),
        ["loss", "grad_norm", "lr", *names],
        functools.partial(_train_torch, recipe),
        differentiate=False,
        dtypes=("float64",),
        steps=sum(map(len, recipe.batches)),
        **options,
    )


def number(a: Any) -> Any:
    """A float, or a tuple of them, out of an array or tensor."""
    return tuple(a.tolist()) if a.ndim else a.item()


def train_jax(recipe: Recipe, params: Any, x: Any, y: Any, lr: Any, **given: Any) -> Any:
    options = {name: number(given.pop(name)) for name in recipe.options}
    make = functools.partial(OPTIMIZERS[recipe.optimizer][0], **options)
    clip = [] if recipe.max_norm is None else [optim.clip_grad_norm(recipe.max_norm)]

    def batches(epoch: int) -> Iterator[Any]:
        for b, i in enumerate(recipe.batches[epoch]):
            yield x[i], y[i], {name: mask[epoch, b] for name, mask in given.items()}

    fitted = fit(
        lambda params, x, y, masks: recipe.our_loss(recipe.ours(params, x, **masks), y),
        lambda lr: optax.chain(*clip, make(lr)),
        params,
        batches,
        epochs=len(recipe.batches),
        lr=optim.reduce_lr_on_plateau(lr, **recipe.plateau) if recipe.plateau else lr,
        progress=False,
    )
    history, final = fitted.history, jaxrnn.to_state_dict(fitted.params)
    rates = np.repeat(history.lr, [len(epoch) for epoch in recipe.batches])
    return [history.loss, history.grad_norm, rates], [
        final[n] for n in jaxrnn.to_state_dict(params)
    ]


def _train_torch(recipe: Recipe, module: nn.Module, x: Any, y: Any, **given: Any) -> Any:
    options = {name: number(given.pop(name)) for name in ("lr", *recipe.options)}
    _, make = OPTIMIZERS[recipe.optimizer]
    # What is trained are copies, under the names that the module's parameters have here.
    params = {n: p.detach().clone().requires_grad_() for n, p in module.named_parameters()}
    optimizer = make(params.values(), **options)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **(recipe.plateau or {}))
    history = []

    class Called(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.it = module

        def forward(self, *inputs: Any, **masks: Any) -> Any:
            return recipe.theirs(self.it, *inputs, **masks)

    for e, batches in enumerate(recipe.batches):
        seen = []
        for b, i in enumerate(map(torch.as_tensor, batches)):
            masks = {name: mask[e, b] for name, mask in given.items()}
            named = {f"it.{name}": p for name, p in params.items()}
            out = torch.func.functional_call(Called(), named, (x[i],), masks)
            loss = recipe.loss(out, y[i])
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(params.values(), recipe.max_norm or torch.inf)
            seen.append(loss.detach())
            history.append([loss.detach(), norm, loss.new_tensor(optimizer.param_groups[0]["lr"])])
            optimizer.step()
        if recipe.plateau is not None:
            plateau.step(torch.stack(seen).mean())
    return [torch.stack(column) for column in zip(*history, strict=True)], list(params.values())


def systems() -> list[System]:
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
            *_ingredients(),
        ]


def whole() -> list[System]:
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


def _last_step(**options: Any) -> dict[str, Any]:
    """`fc` on the last step and the mean squared error, for a `Recipe`."""
    ours = lambda params, x, masks=None: models.sequence_model(
        *(params, x),
        pool="last_step",
        masks=None if masks is None else models.DropoutMasks(layers=masks),
        **options,
    )[0][:, 0]
    theirs = lambda module, x, **masks: module(x, **masks)[0][:, 0]
    return {
        "ours": ours,
        "theirs": theirs,
        "our_loss": losses.mse_loss,
        "loss": functional.mse_loss,
    }


def sines(n: int, steps: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Windows over one period of a sine that starts anywhere, and the value that follows."""
    start = rng.uniform(0, 2 * np.pi, (n, 1))
    waves = np.sin(start + np.linspace(0, 2 * np.pi, steps + 1))
    return {"x": waves[:, :-1, None], "y": waves[:, -1]}


def noisy_sine(rng: np.random.Generator, n: int = 1000) -> np.ndarray:
    """sin(0.02 t) + 2 U(0, 1)."""
    return np.sin(0.02 * np.arange(n)) + 2 * rng.random(n)


STEPS = 20  # of a sine


def _sine_wave(epochs: int) -> System:
    recipe = Recipe([[np.arange(1000)]] * epochs, **_last_step())
    given = sines(1000, STEPS, np.random.default_rng(0))
    return training("0.3", f"{epochs} epochs", d.LastStep("rnn", 1, 32, 1), given, recipe)


def _masks(
    sizes: Sizes, rate: float, batches: Sequence[Any], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Between two layers, for each batch of each epoch; all batches are of one size."""
    shape = (len(batches), len(batches[0]), 1, sizes.batch, STEPS, sizes.hidden)
    return {"masks": rng.random(shape) >= rate}


def _scheduled(sizes: Sizes, epochs: int, **plateau: Any) -> System:
    rng = np.random.default_rng(1)
    batches = sizes.shuffled(epochs, rng)
    return training(
        *("0.10", "shuffled, dropout, plateau"),
        d.LastStep("lstm", 1, sizes.hidden, 1, num_layers=2, dropout=0.3),
        sines(sizes.examples, STEPS, rng) | _masks(sizes, 0.3, batches, rng),
        Recipe(
            batches, plateau={"factor": 0.5, "patience": 5} | plateau, **_last_step(dropout=0.3)
        ),
    )


def _monitored(sizes: Sizes, epochs: int) -> System:
    rng = np.random.default_rng(2)
    return training(
        *("0.12", f"{epochs} epochs", d.LastStep("rnn", 1, sizes.hidden, 1)),
        sines(sizes.examples, STEPS, rng),
        Recipe(sizes.shuffled(epochs, rng), **_last_step()),
    )


def _forecaster(sizes: Sizes, epochs: int) -> System:
    rng = np.random.default_rng(3)
    batches = sizes.shuffled(epochs, rng)
    return training(
        *("1.9", f"the training function, {epochs} epochs"),
        d.LastStep("lstm", 1, sizes.hidden, 1, num_layers=2, dropout=0.2),
        sines(sizes.examples, STEPS, rng) | _masks(sizes, 0.2, batches, rng),
        Recipe(batches, **_last_step(dropout=0.2)),
    )


def _noisy_sine(epochs: int) -> System:
    x, y = data.windows(noisy_sine(np.random.default_rng(0))[:800], 3)
    return training(
        *("4.1", f"{epochs} epoch{'s' * (epochs > 1)}", d.LastStep("rnn", 3, 128, 1)),
        {"x": x[:, None], "y": y},
        Recipe([data.batches(len(x), 32)] * epochs, lr=1e-4, **_last_step()),
        idle=["rnn.weight_hh_l0"],  # after a single step from a state of 0
    )


def _plotted() -> System:
    """What the text draws: the test part's truth and predictions, and where that part begins."""
    series = noisy_sine(np.random.default_rng(0))

    def ours(params: Any, series: Any) -> Any:
        x, y = data.windows(series[800:], 3)
        predicted, _ = models.sequence_model(params, x[:, None], pool="last_step")
        return predicted[:, 0], y, len(series) - len(y) - 3

    def theirs(module: nn.Module, series: Any) -> Any:
        test = series[800:]
        predicted, _ = module(test.unfold(0, 3, 1)[:-1, None])
        return predicted[:, 0], test[3:], torch.tensor(800)

    names = ["predicted", "ground truth", "forecast start"]
    return System(
        *("4.2", "the two curves", d.LastStep("rnn", 3, 128, 1), {"series": series}),
        *(ours, names, theirs),
        differentiate=False,
    )


def _memorised() -> System:
    rng = np.random.default_rng(4)
    return training(
        *("2.4", "10 epochs", d.LastStep("rnn", 100, 128, 2, num_layers=2)),
        {"x": rng.standard_normal((32, 50, 100)), "y": rng.integers(0, 2, 32)},
        Recipe(
            [[np.arange(32)]] * 10,
            lambda params, x: models.sequence_model(params, x, pool="last_step")[0],
            losses.cross_entropy,
            functional.cross_entropy,
            lambda module, x: module(x)[0],
        ),
    )


def _sentiment(sizes: Sizes, epochs: int, *, vocabulary: int, embedding: int) -> System:
    rng = np.random.default_rng(5)
    longest, n = 6, sizes.examples
    lengths = rng.integers(1, longest + 1, n)
    words = rng.integers(1, vocabulary, (n, longest))
    ids = np.where(np.arange(longest) < lengths[:, None], words, 0)
    order = sizes.shuffled(epochs, rng)
    each, width = (epochs, len(order[0])), 2 * sizes.hidden
    module = d.SentimentLSTM(vocabulary, embedding, sizes.hidden)
    # Or there is little to be clipped.
    nn.init.normal_(module.get_parameter("fc.1.weight"), std=5.0)
    given = {
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
    return training("1.13", f"the training loop, {epochs} epochs", module, given, recipe)


def _ingredients() -> list[System]:
    """Clipping and initialising, losses with optimisers, and a search."""
    rng = np.random.default_rng(2)
    x, classes = rng.standard_normal((6, 4, 3)), rng.integers(0, 3, 6)
    steps = [[np.arange(6)]] * 5
    module = d.LastStep("gru", 3, 5, 3)
    ours = lambda params, x: models.sequence_model(params, x, pool="last_step")[0]
    theirs = lambda module, x: module(x)[0]
    pairs = {
        "cross-entropy": (losses.cross_entropy, functional.cross_entropy, classes),
        "MSE": (losses.mse_loss, functional.mse_loss, rng.standard_normal((6, 3))),
    }
    adam = {"betas": (0.9, 0.999)}
    optimizers = {"SGD": {}, "Adam": adam, "RMSprop": {"alpha": 0.99}}
    found = [
        training(
            *("3.3", f"{loss} with {name}", module, {"x": x, "y": y}),
            Recipe(steps, ours, our_loss, their_loss, theirs, name, 0.01, options),
        )
        for loss, (our_loss, their_loss, y) in pairs.items()
        for name, options in optimizers.items()
    ]
    far = {"x": x, "y": 100 * rng.standard_normal((6, 3))}
    clip = Recipe(steps, ours, losses.mse_loss, functional.mse_loss, theirs, "SGD", 0.1, {}, 5.0)
    return [*found, training("0.9", "clipped at 5", module, far, clip), _xavier(), *_search()]


def _xavier() -> System:
    """How far Xavier's uniform distribution reaches, of every weight; and biases, which are 0."""
    module = d.LastStep("rnn", 3, 5, 2)
    weights, biases = ([n for n in module.state_dict() if part in n] for part in ("weight", "bias"))

    # The same draws from Xavier's distribution and from U(-1, 1): their ratio is the bound.
    def ours(params: Any) -> Any:
        def draw(weight_init: Any) -> dict[str, Any]:
            inits = {"weight_init": weight_init, "bias_init": jax.nn.initializers.zeros}
            return jaxrnn.to_state_dict(jaxrnn.reinitialise(jax.random.key(0), params, **inits))

        xavier = draw(jax.nn.initializers.glorot_uniform())
        unit = draw(functools.partial(jax.random.uniform, minval=-1))
        reach = [abs(xavier[name]).max() / abs(unit[name]).max() for name in weights]
        return reach, [xavier[name] for name in biases]

    def theirs(module: nn.Module) -> Any:
        params = {name: a.detach().clone() for name, a in module.named_parameters()}

        def draw(initialize: Any, name: str) -> torch.Tensor:
            same = torch.Generator().manual_seed(0)
            return initialize(params[name], generator=same).abs().max()

        unit = functools.partial(nn.init.uniform_, a=-1)
        reach = [draw(nn.init.xavier_uniform_, name) / draw(unit, name) for name in weights]
        return reach, [nn.init.zeros_(params[name]) for name in biases]

    return System(
        *("0.9", "Xavier's bounds", module, {}, ours, [*weights, *biases], theirs),
        differentiate=False,
        dtypes=("float64",),
    )


def _search() -> list[System]:
    """A grid and a random search over learning rates and hidden sizes, and their winners."""
    sizes, recipe = ("4", "8"), Recipe([[np.arange(16)]] * 4, **_last_step())
    inputs = sines(16, 8, np.random.default_rng(3)) | {"betas": np.array([0.9, 0.999])}
    rate = lambda rng: 10 ** rng.uniform(-3, -1)
    searches = {
        "grid": search.grid(size=sizes, lr=[1e-3, 1e-2, 1e-1]),
        "random": search.sample(np.random.default_rng(4), 5, size=sizes, lr=rate),
    }

    def system(name: str, configurations: list[Any]) -> System:
        def ours(params: Any, x: Any, y: Any, **given: Any) -> Any:
            def final_loss(size: str, lr: Any) -> Any:
                optimizer = optim.adam(lr, betas=number(given["betas"]))
                loss = lambda params, x, y: recipe.our_loss(recipe.ours(params, x), y)
                step = train_step(loss, optimizer)
                carry, seen = (params[size], optimizer.init(params[size])), []
                for _ in recipe.batches:  # of which each is all there is
                    *carry, metrics = step(*carry, x, y)
                    seen.append(metrics.loss)
                return seen[-1]

            scores = search.search(final_loss, configurations, static=["size"])
            return scores, scores.argmin()

        def theirs(module: Any, x: Any, y: Any, **given: Any) -> Any:
            def final_loss(size: str, lr: float) -> Any:
                given["lr"] = x.new_tensor(lr)
                return _train_torch(recipe, module[size], x, y, **given)[0][0][-1]

            scores = torch.stack([final_loss(**each) for each in configurations])
            return scores, scores.argmin()

        modules = nn.ModuleDict({size: d.LastStep("rnn", 1, int(size), 1) for size in sizes})
        return System(
            *("3.4", name, modules, inputs, ours, ["final losses", "the best"], theirs),
            differentiate=False,
            dtypes=("float64",),
            steps=len(recipe.batches),
        )

    return [system(*each) for each in searches.items()]
