"""The parts of the texts' trainings: clipping, initialising, losses, optimisers, a search."""

import functools
from typing import Any

import jax
import numpy as np
import torch
from torch import nn
from torch.nn import functional

import jaxrnn
from jaxrnn import losses, models, optim, search
from jaxrnn.training import train_step

from ..backends.data import Layout
from ..pair import Pair, of_module
from . import modules as m
from .recipe import Recipe, last_step, number, sines, train_torch, training


def pairs() -> list[Pair]:
    """Losses with optimisers, clipping, Xavier's initialisation, and searches."""
    rng = np.random.default_rng(2)
    x, classes = rng.standard_normal((6, 4, 3)), rng.integers(0, 3, 6)
    module = m.LastStep("gru", 3, 5, 3)
    # JAX's loss, torch's, and the targets.
    objectives = {
        "cross-entropy": (losses.cross_entropy, functional.cross_entropy, classes),
        "MSE": (losses.mse_loss, functional.mse_loss, rng.standard_normal((6, 3))),
    }
    optimizers = {"SGD": {}, "Adam": {"betas": (0.9, 0.999)}, "RMSprop": {"alpha": 0.99}}

    def trained(row: str, name: str, loss: str, y: Any, optimizer: str, lr: float, **how: Any):
        jax_loss, torch_loss, _ = objectives[loss]
        recipe = Recipe(
            batches=[[np.arange(6)]] * 5,
            jax=lambda params, x: models.sequence_model(params, x, pool="last_step")[0],
            jax_loss=jax_loss,
            torch_loss=torch_loss,
            torch=lambda module, x: module(x)[0],
            optimizer=optimizer,
            lr=lr,
            options=optimizers[optimizer],
            **how,
        )
        return training(row, name, module, {"x": x, "y": y}, recipe)

    steps = [
        trained("3.3", f"{loss} with {optimizer}", loss, objectives[loss][2], optimizer, 0.01)
        for loss in objectives
        for optimizer in optimizers
    ]
    far = 100 * rng.standard_normal((6, 3))
    clipped = trained("0.9", "clipped at 5", "MSE", far, "SGD", 0.1, max_norm=5.0)
    return [*steps, clipped, _xavier(), *_search()]


def _xavier() -> Pair:
    """How far Xavier's uniform distribution reaches, of every weight; and biases, which are 0."""
    module = m.LastStep("rnn", 3, 5, 2)
    weights, biases = ([n for n in module.state_dict() if part in n] for part in ("weight", "bias"))

    # The same draws from Xavier's distribution and from U(-1, 1): their ratio is the bound.
    def jax_reach(params: Any) -> Any:
        def draw(weight_init: Any) -> dict[str, Any]:
            inits = {"weight_init": weight_init, "bias_init": jax.nn.initializers.zeros}
            return jaxrnn.to_state_dict(jaxrnn.reinitialise(jax.random.key(0), params, **inits))

        xavier = draw(jax.nn.initializers.glorot_uniform())
        unit = draw(functools.partial(jax.random.uniform, minval=-1))
        reach = [abs(xavier[name]).max() / abs(unit[name]).max() for name in weights]
        return reach, [xavier[name] for name in biases]

    def torch_reach(module: nn.Module) -> Any:
        params = {name: a.detach().clone() for name, a in module.named_parameters()}

        def draw(initialize: Any, name: str) -> torch.Tensor:
            same = torch.Generator().manual_seed(0)
            return initialize(params[name], generator=same).abs().max()

        unit = functools.partial(nn.init.uniform_, a=-1)
        reach = [draw(nn.init.xavier_uniform_, name) / draw(unit, name) for name in weights]
        return reach, [nn.init.zeros_(params[name]) for name in biases]

    return of_module(
        "0.9",
        "Xavier's bounds",
        module,
        {},
        jax_reach,
        [*weights, *biases],
        torch_reach,
        differentiate=False,
        dtypes=("float64",),
    )


def _search() -> list[Pair]:
    """A grid and a random search over learning rates and hidden sizes, and their winners."""
    sizes, recipe = ("4", "8"), Recipe([[np.arange(16)]] * 4, **last_step())
    inputs = sines(16, 8, np.random.default_rng(3)) | {"betas": np.array([0.9, 0.999])}
    rate = lambda rng: 10 ** rng.uniform(-3, -1)
    searches = {
        "grid": search.grid(size=sizes, lr=[1e-3, 1e-2, 1e-1]),
        "random": search.sample(np.random.default_rng(4), 5, size=sizes, lr=rate),
    }

    def pair(name: str, configurations: list[Any]) -> Pair:
        def jax_scores(params: Any, x: Any, y: Any, betas: Any) -> Any:
            def final_loss(size: str, lr: Any) -> Any:
                optimizer = optim.adam(lr, betas=number(betas))
                loss = lambda params, x, y: recipe.jax_loss(recipe.jax(params, x), y)
                step = train_step(loss, optimizer)
                state, losses = optimizer.init(params[size]), []
                weights = params[size]
                for _ in recipe.batches:  # of which each is all there is
                    weights, state, metrics = step(weights, state, x, y)
                    losses.append(metrics.loss)
                return losses[-1]

            scores = search.search(final_loss, configurations, static=["size"])
            return scores, scores.argmin()

        def torch_scores(module: Any, x: Any, y: Any, betas: Any) -> Any:
            def final_loss(size: str, lr: float) -> Any:
                numbers = {"lr": x.new_tensor(lr), "betas": betas}
                [loss, *_], _ = train_torch(recipe, module[size], x, y, **numbers)
                return loss[-1]

            scores = torch.stack([final_loss(**each) for each in configurations])
            return scores, scores.argmin()

        return of_module(
            "3.4",
            name,
            nn.ModuleDict({size: m.LastStep("rnn", 1, int(size), 1) for size in sizes}),
            inputs,
            jax_scores,
            ["final losses", "the best"],
            torch_scores,
            differentiate=False,
            dtypes=("float64",),
            layout=Layout(steps=len(recipe.batches)),
        )

    return [pair(name, configurations) for name, configurations in searches.items()]
