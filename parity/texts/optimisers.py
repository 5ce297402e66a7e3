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

from ..backends.data import Data, Layout
from ..criterion import Arrays
from ..pair import Pair, of_module
from . import recipe, trainings


# A row's description; optimisers and schedulers have torch's names and need none.
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
FIELDS: dict[str, Any] = {
    "differentiate": False,
    "dtypes": ("float64",),
    "layout": Layout(steps=STEPS),
}
CLIPS = {
    "": (),
    ", clipped by norm": ("clip_grad_norm", nn.utils.clip_grad_norm_, 2.0),
    ", clipped by value": ("clip_grad_value", nn.utils.clip_grad_value_, 0.5),
}


def pairs() -> list[Pair]:
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
    order, every = list(TRAININGS), [*steps, *rates, *under, *trainings.whole()]
    return sorted(every, key=lambda pair: order.index(pair.group))


def words(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items())


def _numbers(options: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The floating options, which are inputs of the pair."""
    return {n: a for n, v in options.items() if (a := np.asarray(v)).dtype == np.float64}


def _merged(options: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The options, with their numbers as they are among the inputs: maybe moved by an ulp."""
    return {**options, **{n: recipe.number(a) for n, a in inputs.items() if n in options}}


def _steps(
    row: str,
    name: str,
    optimizer: str,
    options: Mapping[str, Any],
    clip: tuple[Any, ...],
    scheduler: str | None = None,
) -> Pair:
    """An optimiser's steps on gradients that are inputs."""
    schedule = SCHEDULES[scheduler][-1] if scheduler else {}
    rng = np.random.default_rng(0)
    start = {name: torch.tensor(rng.normal(size=shape)) for name, shape in SHAPES.items()}

    def draw_gradients(*shape: int) -> np.ndarray:
        """Gradients of very different sizes, a few of them exactly 0."""
        sizes = 10.0 ** rng.integers(-4, 2, shape) * (rng.uniform(size=shape) < 0.95)
        return sizes * rng.normal(size=shape)

    inputs = {f"gradient of {n}": draw_gradients(STEPS, *shape) for n, shape in SHAPES.items()}
    inputs |= _numbers({**options, **schedule})
    gradients = lambda inputs: {name: inputs[f"gradient of {name}"] for name in SHAPES}

    def jax_steps(params: Any, **inputs: Any) -> Any:
        numbers = _merged(options, inputs)
        if scheduler:
            rates = getattr(optim, SCHEDULERS[scheduler])
            numbers["lr"] = rates(numbers["lr"], **_merged(schedule, inputs))
        make, _ = recipe.OPTIMIZERS[optimizer]
        links = [getattr(optim, clip[0])(clip[2])] if clip else []
        chain = optax.chain(*links, make(**numbers))

        def step(carry: Any, gradient: Any) -> Any:
            params, state = carry
            updates, state = chain.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        run = jax.jit(lambda p, g: jax.lax.scan(step, (p, chain.init(p)), g)[1])
        history = run(params, gradients(inputs))
        return [history[name] for name in SHAPES]

    def torch_steps(module: Any, **inputs: Any) -> Any:
        params = {n: p.detach().clone().requires_grad_() for n, p in module.named_parameters()}
        _, make = recipe.OPTIMIZERS[optimizer]
        stepper, rates, history = make(params.values(), **_merged(options, inputs)), None, []
        if scheduler:
            rates = getattr(lr_scheduler, scheduler)(stepper, **_merged(schedule, inputs))
        for i in range(STEPS):
            for name, gradient in gradients(inputs).items():
                params[name].grad = gradient[i].detach().clone()
            if clip:
                clip[1](params.values(), clip[2])
            stepper.step()
            history.append([params[name].detach().clone() for name in SHAPES])
            if rates:
                rates.step()
        return [torch.stack(column) for column in zip(*history, strict=True)]

    module, outputs = nn.ParameterDict(start), list(SHAPES)
    return of_module(row, name, module, inputs, jax_steps, outputs, torch_steps, **FIELDS)


def _rates(name: str, options: Mapping[str, Any]) -> Pair:
    """A scheduler's rates, epoch by epoch."""
    # Whole numbers: nothing moves them, and many are equal to the best.
    metrics = np.random.default_rng(0).integers(-20, 20, STEPS).cumsum() % 97
    plateau = name == "ReduceLROnPlateau"

    def jax_rates(params: Any, metrics: Any, lr: Any, **inputs: Any) -> Any:
        schedule = getattr(optim, SCHEDULERS[name])(jnp.asarray(lr), **_merged(options, inputs))
        if not plateau:
            return schedule(jnp.arange(STEPS))
        step = lambda state, metric: (schedule.step(state, metric), state.lr)
        return jax.lax.scan(step, schedule.init(), jnp.asarray(metrics, float))[1]

    def torch_rates(module: Any, metrics: Any, lr: Any, **inputs: Any) -> Any:
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr.item())
        schedule = getattr(lr_scheduler, name)(optimizer, **_merged(options, inputs))
        rates = []
        for metric in metrics:
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step(metric) if plateau else schedule.step()
        return lr.new_tensor(rates)

    # Torch steps from rate to rate, and loses T_max² eps where the cosine is flat.
    def cosine(data: Data) -> Arrays:
        lr, low = data.inputs["lr"], data.inputs.get("eta_min", 0.0)
        angle = np.arange(STEPS) * np.arccos(np.longdouble(-1)) / options["T_max"]
        return {"lr": low + (lr - low) * (1 + np.cos(angle)) / 2}

    inputs = {"metrics": metrics, "lr": np.asarray(0.5), **_numbers(options)}
    pair = of_module(
        name, words(options), nn.Identity(), inputs, jax_rates, ["lr"], torch_rates, **FIELDS
    )
    return pair._replace(truth=cosine) if name == "CosineAnnealingLR" else pair
