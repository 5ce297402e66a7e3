"""Law: schedules and plateaus give torch's rates at every count."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from optim_cases import STEPS, assert_near, draw, torch_trajectory
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    ReduceLROnPlateau,
    StepLR,
)

from jaxrnn.optim import (
    adam,
    cosine_annealing_lr,
    exponential_lr,
    reduce_lr_on_plateau,
    step_lr,
)


EPOCHS = 120
SCHEDULES = [
    (step_lr, StepLR, {"step_size": 30}),
    (step_lr, StepLR, {"step_size": 7, "gamma": 0.9}),
    (step_lr, StepLR, {"step_size": 70, "gamma": 0.0}),
    (step_lr, StepLR, {"step_size": 50, "gamma": -1.5}),
    (exponential_lr, ExponentialLR, {"gamma": 0.95}),
    (exponential_lr, ExponentialLR, {"gamma": 1.01}),
    (cosine_annealing_lr, CosineAnnealingLR, {"T_max": 20}),
    (cosine_annealing_lr, CosineAnnealingLR, {"T_max": 21, "eta_min": 0.1}),
    (cosine_annealing_lr, CosineAnnealingLR, {"T_max": 300, "eta_min": 0.7}),
    (cosine_annealing_lr, CosineAnnealingLR, {"T_max": 1}),
]


@pytest.mark.parametrize(("make", "torch_make", "options"), SCHEDULES)
def test_schedule(make, torch_make, options):
    """At every count, as a number or within jit, and with rates that are traced."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    scheduler = torch_make(optimizer, **options)
    wanted = []
    for _ in range(STEPS):
        wanted.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    counts = jnp.arange(STEPS, dtype=jnp.int32)
    values = jax.jit(jax.vmap(lambda lr: make(lr, **options)(counts)))(jnp.array([2.0, 0.5]))[1]
    # Torch steps from rate to rate, and close to the cosine's minimum in steps of 1 / T_max².
    np.testing.assert_allclose(values, wanted, 1e-13, 1e-16)
    schedule = make(jnp.array(0.5, "float32"), **options)
    np.testing.assert_allclose(
        [schedule(t) for t in range(0, STEPS, 19)], wanted[::19], 1e-13, 1e-16
    )


def rates(plateau, metrics):
    """The rate after every epoch."""

    def step(state, metric):
        state = plateau.step(state, metric)
        return state, state.lr

    return jax.lax.scan(step, plateau.init(), metrics)[1]


def metrics_of(seed):
    """Noise, plateaus, ties, NaN and infinities, of either sign."""
    rng = np.random.default_rng(seed)
    metrics = rng.normal(size=EPOCHS) if seed % 2 else rng.normal(size=EPOCHS).cumsum()
    metrics = np.where(rng.uniform(size=EPOCHS) < 0.5, metrics.round(1), metrics) + seed % 3 - 1
    metrics[rng.uniform(size=EPOCHS) < 0.1] = math.nan
    if seed % 4 == 0:
        metrics[rng.integers(0, EPOCHS)] = rng.choice([math.inf, -math.inf])
    return metrics


def options_of(seed):
    """Random options."""
    rng = np.random.default_rng(1000 + seed)
    return {
        "factor": float(rng.choice([0.1, 0.5, 0.9, 0.0])),
        "patience": int(rng.integers(0, 4)),
        "threshold": float(rng.choice([0.0, 1e-4, 0.1, 0.5])),
        "cooldown": int(rng.integers(0, 4)),
        "min_lr": float(rng.choice([0.0, 1e-3, 0.4])),
        "eps": float(rng.choice([0.0, 1e-8, 1e-2])),
    }


def torch_rates(options, metrics, lr):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr)
    scheduler = ReduceLROnPlateau(optimizer, **options)
    wanted = []
    for metric in metrics:
        scheduler.step(metric)
        wanted.append(optimizer.param_groups[0]["lr"])
    return wanted


def assert_plateaus(*cases, lr=0.5):
    """Compares all cases of options and metrics in one program; returns torch's rates."""
    every_rate = jax.jit(
        lambda every, lr: [
            rates(reduce_lr_on_plateau(lr, **options), metrics)
            for (options, _), metrics in zip(cases, every, strict=True)
        ]
    )
    results = every_rate([np.asarray(metrics, float) for _, metrics in cases], lr)
    wanted = [torch_rates(*case, lr) for case in cases]
    # In float64 both sides compute the same numbers.
    np.testing.assert_array_equal(results, wanted)
    return wanted


@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_plateau(mode, threshold_mode):
    modes = {"mode": mode, "threshold_mode": threshold_mode}
    wanted = assert_plateaus(*((modes | options_of(seed), metrics_of(seed)) for seed in range(12)))
    assert sum(len(set(rates)) - 1 for rates in wanted) > 20


def test_plateau_by_default():
    same = np.ones(EPOCHS)
    cuts, *_ = assert_plateaus(
        ({}, same),
        ({}, [math.nan] * EPOCHS),
        ({"patience": 1, "min_lr": 1.0}, same),  # never raises the rate
        ({"factor": 0.5, "eps": 0.25}, same),  # a change of eps is none
    )
    assert len(set(cuts)) == 9  # then the change is below eps


def test_training_on_plateaus():
    """Epochs of several batches in one program, the rate cut between them: torch's trajectory."""
    epochs, batches = 20, STEPS // 20
    params, gradients = draw(seed=0), draw(STEPS, seed=1)
    metrics = np.random.default_rng(3).normal(size=epochs)
    plateau = reduce_lr_on_plateau(0.1, patience=1, factor=0.5)

    def epoch(carry, data):
        params, state, scheduler = carry

        def step(carry, gradient):
            params, state = carry
            updates, state = adam(scheduler.lr).update(gradient, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        (params, state), history = jax.lax.scan(step, (params, state), data[0])
        return (params, state, plateau.step(scheduler, data[1])), history

    split = jax.tree.map(lambda a: a.reshape(epochs, batches, *a.shape[1:]), gradients)
    start = params, adam().init(params), plateau.init()
    history = jax.jit(lambda *data: jax.lax.scan(epoch, start, data)[1])(split, jnp.array(metrics))
    history = jax.tree.map(lambda a: a.reshape(STEPS, *a.shape[2:]), history)

    scheduled = [0.1, *torch_rates({"patience": 1, "factor": 0.5}, metrics, 0.1)]
    assert len(set(scheduled)) > 3
    rate = lambda step: scheduled[step // batches]
    assert_near(history, torch_trajectory(torch.optim.Adam, params, gradients, rate=rate))


def test_plateau_without_x64():
    """A scan needs a state that keeps its dtypes; a metric may be float32."""
    plateau = reduce_lr_on_plateau(jnp.float32(0.5), patience=0)
    with jax.enable_x64(False):
        narrow = rates(plateau, jnp.ones(3))
    np.testing.assert_allclose(narrow, [0.5, 0.05, 0.005], 1e-6)
    assert reduce_lr_on_plateau(1.0).init().lr.dtype == float
    state = plateau.init()
    dtypes = lambda state: [a.dtype for a in state]
    assert dtypes(plateau.step(state, np.float32(1))) == dtypes(state)


SCHEDULER_ERRORS = [
    (reduce_lr_on_plateau, {"factor": 1.0}, "`factor` must be below 1, got 1.0"),
    (reduce_lr_on_plateau, {"mode": "mean"}, "`mode` must be 'min' or 'max', got 'mean'"),
    (reduce_lr_on_plateau, {"threshold_mode": "x"}, "`threshold_mode` must be 'rel' or 'abs', got"),
    (reduce_lr_on_plateau, {"lr": -0.1}, "`lr` must be at least 0, got -0.1"),
    (step_lr, {"step_size": 0}, "`step_size` must be a positive integer, got 0"),
    (step_lr, {"lr": -0.1, "step_size": 1}, "`lr` must be at least 0, got -0.1"),
    (exponential_lr, {"lr": -0.1, "gamma": 0.1}, "`lr` must be at least 0, got -0.1"),
    (exponential_lr, {"gamma": jnp.ones(2)}, "`gamma` must be one number, got shape (2,)"),
    (cosine_annealing_lr, {"T_max": 0}, "`T_max` must be a positive integer, got 0"),
    (cosine_annealing_lr, {"lr": -0.1, "T_max": 1}, "`lr` must be at least 0, got -0.1"),
    (cosine_annealing_lr, {"T_max": 1, "eta_min": jnp.ones(2)}, "`eta_min` must be one number"),
]
TORCH_SCHEDULERS = {
    "reduce_lr_on_plateau": ReduceLROnPlateau,
    "step_lr": StepLR,
    "exponential_lr": ExponentialLR,
    "cosine_annealing_lr": CosineAnnealingLR,
}


@pytest.mark.parametrize(("function", "options", "message"), SCHEDULER_ERRORS)
@pytest.mark.usefixtures("bare")
def test_schedulers_raise_as_torch_does(function, options, message):
    """Torch may notice only with its optimiser's rate, or at the first step."""
    with pytest.raises(ValueError, match=re.escape(message)):
        function(**{"lr": 0.1} | options)
    options = {
        name: torch.ones(2) if isinstance(option, jax.Array) else option
        for name, option in options.items()
    }
    with pytest.raises((ValueError, ZeroDivisionError, RuntimeError)):  # noqa: PT012
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=options.pop("lr", 0.1))
        scheduler = TORCH_SCHEDULERS[function.__name__](optimizer, **options)
        optimizer.step()
        scheduler.step()
        float(optimizer.param_groups[0]["lr"])
