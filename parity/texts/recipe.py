"""A training on both sides: the same start, batches and dropout masks in both frameworks.

A training is a function of its start, so a `Pair` can hold it: its outputs are the loss, the
gradient's norm and the learning rate of every step, and the parameters at the end.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import optax
import torch
from torch import nn
from torch.nn import functional

import jaxrnn
from jaxrnn import losses, models, optim
from jaxrnn.training import fit

from ..backends import torch as torch_backend
from ..backends.data import Layout
from ..pair import Pair, of_module


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
    jax: Callable[..., Any]
    jax_loss: Callable[..., Any]
    torch_loss: Callable[..., Any]
    torch: Callable[..., Any] = lambda module, x, **masks: module(x, **masks)
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
) -> Pair:
    """The pair of a training on `x`, `y` and, for every step, what else the models take.

    The optimiser's numbers are inputs too, which are moved by an ulp: Adam's 1 - βᵗ makes 1e-13 of
    it.
    """
    names = [f"final {name}" for name in module.state_dict()]
    numbers = {n: np.asarray(a) for n, a in {"lr": recipe.lr, **recipe.options}.items()}
    return of_module(
        row,
        name,
        module,
        {**inputs, **numbers},
        functools.partial(train_jax, recipe),
        ["loss", "grad_norm", "lr", *names],
        functools.partial(train_torch, recipe),
        differentiate=False,
        dtypes=("float64",),
        layout=Layout(steps=sum(map(len, recipe.batches))),
        **options,
    )


def number(a: Any) -> Any:
    """A float, or a tuple of them, out of an array or tensor."""
    return tuple(a.tolist()) if a.ndim else a.item()


def train_jax(recipe: Recipe, params: Any, x: Any, y: Any, lr: Any, **inputs: Any) -> Any:
    """Trains by `jaxrnn.training.fit`; `inputs` are the optimiser's numbers and masks."""
    options = {name: number(inputs.pop(name)) for name in recipe.options}
    make = functools.partial(OPTIMIZERS[recipe.optimizer][0], **options)
    clip = [] if recipe.max_norm is None else [optim.clip_grad_norm(recipe.max_norm)]

    def batches(epoch: int) -> Iterator[Any]:
        for b, i in enumerate(recipe.batches[epoch]):
            yield x[i], y[i], {name: mask[epoch, b] for name, mask in inputs.items()}

    fitted = fit(
        lambda params, x, y, masks: recipe.jax_loss(recipe.jax(params, x, **masks), y),
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


def train_torch(recipe: Recipe, module: nn.Module, x: Any, y: Any, **inputs: Any) -> Any:
    """Trains by a loop as torch's users write it."""
    options = {name: number(inputs.pop(name)) for name in ("lr", *recipe.options)}
    _, make = OPTIMIZERS[recipe.optimizer]
    # What is trained are copies, under the names that the module's parameters have here.
    params = {n: p.detach().clone().requires_grad_() for n, p in module.named_parameters()}
    optimizer = make(params.values(), **options)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **(recipe.plateau or {}))
    history = []

    for e, batches in enumerate(recipe.batches):
        epoch = []
        for b, i in enumerate(map(torch.as_tensor, batches)):
            masks = {name: mask[e, b] for name, mask in inputs.items()}
            out = torch_backend.call(recipe.torch, module, params, x[i], **masks)
            loss = recipe.torch_loss(out, y[i])
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(params.values(), recipe.max_norm or torch.inf)
            epoch.append(loss.detach())
            history.append([loss.detach(), norm, loss.new_tensor(optimizer.param_groups[0]["lr"])])
            optimizer.step()
        if recipe.plateau is not None:
            plateau.step(torch.stack(epoch).mean())
    return [torch.stack(column) for column in zip(*history, strict=True)], list(params.values())


def last_step(**options: Any) -> dict[str, Any]:
    """The functions of a `Recipe` for `fc` on the last step and the mean squared error."""

    def predict(params: Any, x: Any, masks: Any = None) -> Any:
        masks = None if masks is None else models.DropoutMasks(layers=masks)
        y, _ = models.sequence_model(params, x, pool="last_step", masks=masks, **options)
        return y[:, 0]

    return {
        "jax": predict,
        "torch": lambda module, x, **masks: module(x, **masks)[0][:, 0],
        "jax_loss": losses.mse_loss,
        "torch_loss": functional.mse_loss,
    }


def sines(n: int, steps: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Windows over one period of a sine that starts anywhere, and the value that follows."""
    start = rng.uniform(0, 2 * np.pi, (n, 1))
    waves = np.sin(start + np.linspace(0, 2 * np.pi, steps + 1))
    return {"x": waves[:, :-1, None], "y": waves[:, -1]}


def noisy_sine(rng: np.random.Generator, n: int = 1000) -> np.ndarray:
    """sin(0.02 t) + 2 U(0, 1)."""
    return np.sin(0.02 * np.arange(n)) + 2 * rng.random(n)
