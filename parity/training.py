"""Trainings side by side: the same start, batches and dropout masks in both frameworks.

A training is a function of its start, which lets `systems` judge it: its outputs are the loss, the
gradient's norm and the learning rate of every step, and the parameters at the end.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch import nn
from torch.nn import functional

import jaxrnn
from jaxrnn import data, losses, models, optim, search
from jaxrnn.training import train_step

from . import documents as d
from .systems import System


OPTIMIZERS = {
    "SGD": (optim.sgd, torch.optim.SGD),
    "Adam": (optim.adam, torch.optim.Adam),
    "RMSprop": (optim.rmsprop, torch.optim.RMSprop),
}


class Recipe(NamedTuple):
    """How to train. `batches` holds indices, (epochs, batches of an epoch, examples).

    Both losses take the model's output and the targets; both models what follows the targets in a
    batch, such as masks, as keywords.
    """

    batches: np.ndarray
    ours: Callable[..., Any]
    our_loss: Callable[..., Any]
    loss: Callable[..., Any]
    theirs: Callable[..., Any] = lambda module, x, **masks: module(x, **masks)
    optimizer: str = "Adam"
    lr: float = 1e-3
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
    """The system of a training on `inputs`: `x`, `y`, and per step what else the models take."""
    names = [f"final {name}" for name in module.state_dict()]
    return System(
        *(row, name, module, dict(inputs)),
        functools.partial(train_jax, recipe),
        ["loss", "grad_norm", "lr", *names],
        functools.partial(_train_torch, recipe),
        differentiate=False,
        dtypes=("float64",),
        steps=recipe.batches.shape[0] * recipe.batches.shape[1],
        **options,
    )


def train_jax(recipe: Recipe, params: Any, x: Any, y: Any, **masks: Any) -> Any:
    make, _ = OPTIMIZERS[recipe.optimizer]
    x, y = jnp.asarray(x), jnp.asarray(y)
    clip = [] if recipe.max_norm is None else [optim.clip_grad_norm(recipe.max_norm)]
    plateau = optim.reduce_lr_on_plateau(**(recipe.plateau or {}))
    loss = lambda params, x, y, masks: recipe.our_loss(recipe.ours(params, x, **masks), y)

    def epoch(carry: Any, given: Any) -> Any:
        *carry, rate = carry
        step = train_step(loss, optax.chain(*clip, make(rate.lr)))

        def batch(carry: Any, given: Any) -> Any:
            i, masks = given
            params, state, metrics = step(*carry, x[i], y[i], masks)
            return (params, state), metrics

        carry, metrics = jax.lax.scan(batch, tuple(carry), given)
        after = rate if recipe.plateau is None else plateau.step(rate, metrics.loss.mean())
        return (*carry, after), (*metrics, jnp.full_like(metrics.loss, rate.lr))

    @jax.jit
    def run(params: Any) -> Any:
        start = (params, optax.chain(*clip, make(recipe.lr)).init(params), plateau.init(recipe.lr))
        (params, *_), history = jax.lax.scan(epoch, start, (recipe.batches, masks))
        return [each.ravel() for each in history], jaxrnn.to_state_dict(params)

    history, final = run(params)
    return history, [final[name] for name in jaxrnn.to_state_dict(params)]


def _train_torch(recipe: Recipe, module: nn.Module, x: Any, y: Any, **masks: Any) -> Any:
    _, make = OPTIMIZERS[recipe.optimizer]
    # What is trained are copies, under the names that the module's parameters have here.
    params = {n: p.detach().clone().requires_grad_() for n, p in module.named_parameters()}
    optimizer = make(params.values(), lr=recipe.lr)
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
        for b, i in enumerate(torch.as_tensor(batches)):
            given = {name: mask[e, b] for name, mask in masks.items()}
            named = {f"it.{name}": p for name, p in params.items()}
            out = torch.func.functional_call(Called(), named, (x[i],), given)
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
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [*_regressions(), *_classifications(), *_ingredients()]


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


def _regressions() -> list[System]:
    rng = np.random.default_rng(0)
    wave, small = sines(1000, 20, rng), sines(24, 20, rng)
    recipe = Recipe(np.arange(1000).reshape(1, 1, -1).repeat(10, 0), **_last_step())
    shuffled = np.stack([data.batches(24, 8, rng=rng) for _ in range(8)])
    masks = lambda rate: rng.random((*shuffled.shape[:2], 1, 8, 20, 5)) >= rate
    deep = lambda rate: d.LastStep("lstm", 1, 5, 1, num_layers=2, dropout=rate)
    # What halves the loss in every epoch counts as better: the rate is cut after 6 bad ones.
    plateau = {"factor": 0.5, "patience": 5, "threshold": 0.5}
    forecast = noisy_sine(rng)
    x, y = data.windows(forecast[:800], 3)
    in_order = np.stack(data.batches(len(x), 32, drop_last=True))[None]
    one_step = {"x": x[:, None], "y": y}
    idle = ["rnn.weight_hh_l0"]  # after a single step from a state of 0
    noisy = Recipe(in_order, lr=1e-4, **_last_step())
    return [
        training("0.3", "10 epochs", d.LastStep("rnn", 1, 32, 1), wave, recipe),
        training(
            *("0.10", "shuffled, dropout, plateau", deep(0.3)),
            small | {"masks": masks(0.3)},
            Recipe(shuffled, plateau=plateau, **_last_step(dropout=0.3)),
        ),
        training(
            *("0.12", "2 epochs", d.LastStep("rnn", 1, 5, 1), small),
            Recipe(shuffled[:2], **_last_step()),
        ),
        training(
            *("1.9", "the training function, 2 epochs", deep(0.2)),
            small | {"masks": masks(0.2)[:2]},
            Recipe(shuffled[:2], **_last_step(dropout=0.2)),
        ),
        training(
            "4.1",
            "1 epoch of full batches",
            d.LastStep("rnn", 3, 128, 1),
            one_step,
            noisy,
            idle=idle,
        ),
        _plotted(forecast),
    ]


def _plotted(series: np.ndarray) -> System:
    """What the text draws: the test part's truth and predictions, and where that part begins."""

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


def _classifications() -> list[System]:
    rng = np.random.default_rng(1)
    everything = np.arange(32).reshape(1, 1, -1).repeat(10, 0)
    ce = {"our_loss": losses.cross_entropy, "loss": functional.cross_entropy}
    last = _last_step() | ce
    last |= {
        "ours": lambda params, x: models.sequence_model(params, x, pool="last_step")[0],
        "theirs": lambda module, x: module(x)[0],
    }
    random = {"x": rng.standard_normal((32, 50, 100)), "y": rng.integers(0, 2, 32)}
    lengths = rng.integers(1, 7, 12)
    ids = np.where(np.arange(6) < lengths[:, None], rng.integers(1, 11, (12, 6)), 0)
    order = np.stack([data.batches(12, 4, rng=rng) for _ in range(2)])
    drawn = {
        "layers": rng.random((2, 3, 1, 4, 6, 10)) >= 0.5,
        "head": rng.random((2, 3, 4, 10)) >= 0.5,
    }
    sentiment = lambda params, x, layers, head: models.sentiment_classifier(
        params, x[:, 1:], x[:, 0], masks=models.DropoutMasks(layers, head)
    )
    torch_sentiment = lambda module, x, layers, head: module(x[:, 1:], x[:, 0], layers, head)
    # One array of inputs, so that an index takes a text and its length.
    texts = {"x": np.concatenate([lengths[:, None], ids], 1), "y": rng.integers(0, 2, 12)}
    bce = {
        "our_loss": lambda p, y: losses.binary_cross_entropy(p, y.astype(p.dtype)),
        "loss": lambda p, y: functional.binary_cross_entropy(p, y.to(p.dtype)),
    }
    sentiment_lstm = d.SentimentLSTM(11, 3, 5)
    nn.init.normal_(
        sentiment_lstm.get_parameter("fc.1.weight"), std=5.0
    )  # or there is little to be clipped
    clipped = Recipe(order, sentiment, theirs=torch_sentiment, max_norm=1.0, **bce)
    return [
        training("2.4", "10 epochs", d.LastStep("rnn", 100, 128, 2, num_layers=2), random,
                 Recipe(everything, **last)),
        training("1.13", "the training loop, 2 epochs", sentiment_lstm, texts | drawn,
                 clipped),
    ]  # fmt: skip


def _ingredients() -> list[System]:
    """Clipping and initialising, losses with optimisers, and a search."""
    rng = np.random.default_rng(2)
    x, classes = rng.standard_normal((6, 4, 3)), rng.integers(0, 3, 6)
    steps = np.arange(6).reshape(1, 1, -1).repeat(5, 0)
    module = d.LastStep("gru", 3, 5, 3)
    ours = lambda params, x: models.sequence_model(params, x, pool="last_step")[0]
    theirs = lambda module, x: module(x)[0]
    pairs = {
        "cross-entropy": (losses.cross_entropy, functional.cross_entropy, classes),
        "MSE": (losses.mse_loss, functional.mse_loss, rng.standard_normal((6, 3))),
    }
    found = [
        training(
            *("3.3", f"{loss} with {name}", module, {"x": x, "y": y}),
            Recipe(steps, ours, our_loss, their_loss, theirs, optimizer=name, lr=0.01),
        )
        for loss, (our_loss, their_loss, y) in pairs.items()
        for name in OPTIMIZERS
    ]
    far = {"x": x, "y": 100 * rng.standard_normal((6, 3))}
    clip = Recipe(steps, ours, losses.mse_loss, functional.mse_loss, theirs, "SGD", 0.1, 5.0)
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
    sizes, wave = ("4", "8"), sines(16, 8, np.random.default_rng(3))
    recipe = Recipe(np.arange(16).reshape(1, 1, -1).repeat(4, 0), **_last_step())
    rate = lambda rng: 10 ** rng.uniform(-3, -1)
    searches = {
        "grid": search.grid(size=sizes, lr=[1e-3, 1e-2, 1e-1]),
        "random": search.sample(np.random.default_rng(4), 5, size=sizes, lr=rate),
    }

    def system(name: str, configurations: list[Any]) -> System:
        def ours(params: Any, x: Any, y: Any) -> Any:
            def final_loss(size: str, lr: Any) -> Any:
                return train_jax(recipe._replace(lr=lr), params[size], x, y)[0][0][-1]

            scores = search.search(final_loss, configurations, static=["size"])
            return scores, scores.argmin()

        def theirs(module: Any, x: Any, y: Any) -> Any:
            scores = torch.stack([
                _train_torch(recipe._replace(lr=each["lr"]), module[each["size"]], x, y)[0][0][-1]
                for each in configurations
            ])  # fmt: skip
            return scores, scores.argmin()

        modules = nn.ModuleDict({size: d.LastStep("rnn", 1, int(size), 1) for size in sizes})
        return System(
            *("3.4", name, modules, wave, ours, ["final losses", "the best"], theirs),
            differentiate=False,
            dtypes=("float64",),
            steps=len(recipe.batches),
        )

    return [system(*each) for each in searches.items()]
