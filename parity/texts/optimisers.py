"""What `parity training` compares: optimisers and schedulers, and the texts' whole trainings.

An optimiser is handed the same start and the same gradients in both frameworks, and each parameter
is compared after each step; a scheduler's rate is, in each epoch. A training goes its own way from
the same start, batches and dropout masks: loss, gradient norm and learning rate are compared at
each step, the parameters at the end.

The bound is the criterion's own, 5 · own + 4 eps for a tensor and 10 · own + 8 eps for a step or a
gate of it, times √steps: each step rounds anew, in whichever direction, so that errors add up as in
a random walk. Torch is the truth, and its own error is what moving everything that goes in by an
ulp does to it: weights, data, gradients, and the optimiser's numbers, since torch makes 1e-13 of
such an ulp where it computes 1 - βᵗ. Only of the cosine's rates the truth is their equation in
numpy's longdouble, since torch steps from one rate to the next.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch import nn
from torch.optim import lr_scheduler

from jaxrnn import optim

from ..pair import System
from . import trainings as training


# What stands beside a row's name; optimisers and schedulers have torch's.
TRAININGS = {
    **dict.fromkeys(("SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adagrad", "RMSprop"), ""),
    **dict.fromkeys(("StepLR", "ExponentialLR", "CosineAnnealingLR", "ReduceLROnPlateau"), ""),
    "0.3": "sine-wave prediction",
    "0.10": "LR schedule, dropout",
    "0.12": "monitored training",
    "1.9": "forecaster",
    "1.13": "sentiment",
    "2.4": "text classification",
    "4.1": "noisy-sine forecasting",
}

STEPS = 200
SHAPES = {"weight": (3, 2), "bias": (4,), "scale": ()}
BETAS = {"betas": (0.9, 0.999)}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "SGD": [
        {"lr": 0.1, "weight_decay": 0.1},
        {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05},
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.3},
        {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    ],
    "Adam": [
        {"lr": 1e-3, **BETAS},
        {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-2},
        {"lr": 0.1, "weight_decay": 0.1, **BETAS},
    ],
    "AdamW": [
        {"lr": 1e-3, **BETAS},
        {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-2, "weight_decay": 0.3},
    ],
    "NAdam": [
        {"lr": 2e-3, **BETAS},
        {"lr": 0.1, "betas": (0.8, 0.95), "weight_decay": 0.1, "momentum_decay": 0.5},
        {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True, **BETAS},
    ],
    "RAdam": [
        {"lr": 1e-3, **BETAS},
        {"lr": 0.1, "betas": (0.9, 0.66), "weight_decay": 0.1},
        {"lr": 0.1, "eps": 1e-2, "weight_decay": 0.1, "decoupled_weight_decay": True, **BETAS},
    ],
    "Adagrad": [
        {"lr": 1e-2},
        {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1},
        {"lr": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-2},
    ],
    "RMSprop": [
        {"lr": 1e-2, "alpha": 0.99},
        {"lr": 1e-2, "alpha": 0.9, "eps": 1e-2, "momentum": 0.9, "weight_decay": 0.1},
        {"lr": 1e-2, "alpha": 0.99, "centered": True},
    ],
}
SCHEDULERS = {
    "StepLR": "step_lr",
    "ExponentialLR": "exponential_lr",
    "CosineAnnealingLR": "cosine_annealing_lr",
    "ReduceLROnPlateau": "reduce_lr_on_plateau",
}
SCHEDULES: dict[str, list[dict[str, Any]]] = {
    "StepLR": [{"step_size": 30, "gamma": 0.1}, {"step_size": 7, "gamma": 0.9}],
    "ExponentialLR": [{"gamma": 0.95}],
    "CosineAnnealingLR": [{"T_max": 20}, {"T_max": 50, "eta_min": 1e-3}, {"T_max": 300}],
    "ReduceLROnPlateau": [
        {"factor": 0.5, "patience": 5},
        {"mode": "max", "patience": 2, "threshold": 0.1, "cooldown": 3, "min_lr": 1e-4},
        {"factor": 0.9, "patience": 0, "threshold": 0.5, "threshold_mode": "abs", "eps": 1e-3},
    ],
}
CLIPS = {
    "": (),
    ", clipped by norm": ("clip_grad_norm", nn.utils.clip_grad_norm_, 2.0),
    ", clipped by value": ("clip_grad_value", nn.utils.clip_grad_value_, 0.5),
}


def systems() -> list[System]:
    """All of `TRAININGS`, row by row."""
    steps = [
        _steps(name, words(options) + how, name, options, clip)
        for name, sets in OPTIONS.items()
        for i, options in enumerate(sets)
        for how, clip in CLIPS.items()
        if i == 0 or not clip
    ]
    rates = [_rates(name, options) for name, sets in SCHEDULES.items() for options in sets]
    under = [
        _steps(name, f"Adam under {words(sets[-1])}", "Adam", {"lr": 0.1, **BETAS}, (), name)
        for name, sets in SCHEDULES.items()
        if name != "ReduceLROnPlateau"
    ]
    order = list(TRAININGS)
    return sorted([*steps, *rates, *under, *training.whole()], key=lambda s: order.index(s.row))


def words(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items())


def _numbers(options: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The floating ones, which are a system's inputs."""
    return {n: a for n, v in options.items() if (a := np.asarray(v)).dtype == np.float64}


def _merged(options: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options, with those of their numbers that are given, which may have been moved."""
    return {**options, **{n: training.number(a) for n, a in given.items() if n in options}}


def _steps(
    row: str,
    name: str,
    optimizer: str,
    options: Mapping[str, Any],
    clip: tuple[Any, ...],
    scheduler: str | None = None,
) -> System:
    """An optimiser's steps with given gradients."""
    schedule = SCHEDULES[scheduler][-1] if scheduler else {}
    rng = np.random.default_rng(0)
    start = {name: torch.tensor(rng.normal(size=shape)) for name, shape in SHAPES.items()}

    def gradients(*shape: int) -> np.ndarray:
        """Of very different sizes, a few of them exactly 0."""
        sizes = 10.0 ** rng.integers(-4, 2, shape) * (rng.uniform(size=shape) < 0.95)
        return sizes * rng.normal(size=shape)

    inputs = {f"gradient of {name}": gradients(STEPS, *shape) for name, shape in SHAPES.items()}
    inputs |= _numbers({**options, **schedule})
    of = lambda given: {name: given[f"gradient of {name}"] for name in SHAPES}

    def ours(params: Any, **given: Any) -> Any:
        chosen = _merged(options, given)
        if scheduler:
            rates = getattr(optim, SCHEDULERS[scheduler])
            chosen["lr"] = rates(chosen["lr"], **_merged(schedule, given))
        make, _ = training.OPTIMIZERS[optimizer]
        links = [getattr(optim, clip[0])(clip[2])] if clip else []
        chain = optax.chain(*links, make(**chosen))

        def step(carry: Any, gradient: Any) -> Any:
            params, state = carry
            updates, state = chain.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        run = jax.jit(lambda p, g: jax.lax.scan(step, (p, chain.init(p)), g)[1])
        found = run(params, of(given))
        return [found[name] for name in SHAPES]

    def theirs(module: Any, **given: Any) -> Any:
        params = {n: p.detach().clone().requires_grad_() for n, p in module.named_parameters()}
        make, history = training.OPTIMIZERS[optimizer][1], []
        made = make(params.values(), **_merged(options, given))
        rates = None
        if scheduler:
            rates = getattr(lr_scheduler, scheduler)(made, **_merged(schedule, given))
        for i in range(STEPS):
            for name, gradient in of(given).items():
                params[name].grad = gradient[i].detach().clone()
            if clip:
                clip[1](params.values(), clip[2])
            made.step()
            history.append([params[name].detach().clone() for name in SHAPES])
            if rates:
                rates.step()
        return [torch.stack(column) for column in zip(*history, strict=True)]

    return System(
        *(row, name, nn.ParameterDict(start), inputs, ours, list(SHAPES), theirs),
        differentiate=False,
        dtypes=("float64",),
        steps=STEPS,
    )


def _rates(name: str, options: Mapping[str, Any]) -> System:
    """A scheduler's rates, epoch by epoch."""
    # Whole numbers: nothing moves them, and many are equal to the best.
    metrics = np.random.default_rng(0).integers(-20, 20, STEPS).cumsum() % 97
    plateau = name == "ReduceLROnPlateau"

    def ours(params: Any, metrics: Any, lr: Any, **given: Any) -> Any:
        made = getattr(optim, SCHEDULERS[name])(jnp.asarray(lr), **_merged(options, given))
        if not plateau:
            return made(jnp.arange(STEPS))
        step = lambda state, metric: (made.step(state, metric), state.lr)
        return jax.lax.scan(step, made.init(), jnp.asarray(metrics, float))[1]

    def theirs(module: Any, metrics: Any, lr: Any, **given: Any) -> Any:
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr.item())
        made = getattr(lr_scheduler, name)(optimizer, **_merged(options, given))
        rates = []
        for metric in metrics:
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            made.step(metric) if plateau else made.step()
        return lr.new_tensor(rates)

    # Torch steps from rate to rate, and loses T_max² eps where the cosine is flat.
    def cosine(metrics: Any, lr: Any, eta_min: Any = 0.0) -> Any:
        angle = np.arange(STEPS) * np.arccos(np.longdouble(-1)) / options["T_max"]
        return {"lr": eta_min + (lr - eta_min) * (1 + np.cos(angle)) / 2}

    inputs = {"metrics": metrics, "lr": np.asarray(0.5), **_numbers(options)}
    return System(
        *(name, words(options), nn.Identity(), inputs, ours, ["lr"], theirs),
        differentiate=False,
        dtypes=("float64",),
        steps=STEPS,
        truth=cosine if name == "CosineAnnealingLR" else None,
    )
