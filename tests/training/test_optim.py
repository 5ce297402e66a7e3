"""Law: the trajectories are torch's, for every parameter after every step."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, ReduceLROnPlateau, StepLR

from jaxrnn import optim
from jaxrnn.optim import (
    adagrad,
    adam,
    adamw,
    clip_grad_norm,
    clip_grad_value,
    cosine_annealing_lr,
    exponential_lr,
    nadam,
    radam,
    reduce_lr_on_plateau,
    rmsprop,
    sgd,
    step_lr,
)


TORCH = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
}
STEPS, EPOCHS = 200, 120
SHAPES = {"weight": (3, 2), "bias": (4,), "scale": ()}
# Both sides round each step to 1e-16 of a parameter of about 1, in other orders (torch multiplies
# and adds at once, divides where optax multiplies with the reciprocal): 200 steps of that, which
# the optimisers' averages carry on, measured at 8e-15 at most.
RTOL = 1e-13


def draw(*leading, seed, dtype=float):
    """Parameters, or gradients of very different sizes, a few of them exactly 0."""
    rng = np.random.default_rng(seed)
    tree = {name: rng.normal(size=(*leading, *shape)) for name, shape in SHAPES.items()}
    if leading:
        tree = {
            name: a * 10.0 ** rng.integers(-4, 2, a.shape) * (rng.uniform(size=a.shape) < 0.95)
            for name, a in tree.items()
        }
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), tree)


def ours(optimizer, params, gradients):
    """Every parameter after every step: (steps, …)."""

    def step(carry, gradient):
        params, state = carry
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    return jax.lax.scan(step, (params, optimizer.init(params)), gradients)[1]


def theirs(make, params, gradients, before=lambda tensors: None, rate=None):
    tensors = {name: torch.tensor(np.asarray(a)).requires_grad_() for name, a in params.items()}
    optimizer = make(tensors.values(), foreach=False)
    gradients = {name: torch.tensor(np.asarray(a)) for name, a in gradients.items()}
    history = {name: [] for name in params}
    for i in range(STEPS):
        for name, a in tensors.items():
            a.grad = gradients[name][i].clone()
        before(tensors.values())
        if rate is not None:
            optimizer.param_groups[0]["lr"] = rate(i)
        optimizer.step()
        for name, a in tensors.items():
            history[name].append(a.detach().numpy().copy())
    return {name: np.stack(a) for name, a in history.items()}


def assert_close(found, wanted):
    assert found.keys() == wanted.keys()
    for name in found:
        np.testing.assert_allclose(found[name], wanted[name], RTOL, RTOL, err_msg=name)


OPTIMIZERS = [
    ("sgd", {}),
    ("sgd", {"lr": 0.1, "weight_decay": 0.1}),
    ("sgd", {"lr": 0.1, "momentum": 0.9}),
    ("sgd", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}),
    ("sgd", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.05}),
    ("sgd", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05}),
    ("sgd", {"lr": 0.1, "momentum": 0.8, "dampening": 1.0}),
    ("sgd", {"lr": 0.1, "dampening": 0.5}),
    ("adam", {}),
    ("adam", {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-2}),
    ("adam", {"lr": 0.1, "weight_decay": 0.1}),
    ("adam", {"lr": 0.1, "betas": (0.0, 0.0)}),
    ("adamw", {}),
    ("adamw", {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-2, "weight_decay": 0.3}),
    ("nadam", {}),
    ("nadam", {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-2, "momentum_decay": 0.5}),
    ("nadam", {"lr": 0.1, "weight_decay": 0.1, "momentum_decay": 0.0}),
    ("nadam", {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("radam", {}),
    ("radam", {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-2, "weight_decay": 0.1}),
    ("radam", {"lr": 0.1, "betas": (0.9, 0.66), "weight_decay": 0.1}),
    ("radam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("adagrad", {}),
    ("adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1}),
    ("adagrad", {"lr": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-2}),
    ("rmsprop", {}),
    ("rmsprop", {"lr": 0.1, "alpha": 0.9, "eps": 1e-2}),
    ("rmsprop", {"momentum": 0.9, "weight_decay": 0.1}),
    ("rmsprop", {"centered": True}),
    ("rmsprop", {"centered": True, "momentum": 0.5, "alpha": 0.8, "weight_decay": 0.1}),
]


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=str)
def test_trajectory(name, options):
    params, gradients = draw(seed=0), draw(STEPS, seed=1)
    found = jax.jit(functools.partial(ours, getattr(optim, name)(**options)))(params, gradients)
    assert_close(found, theirs(functools.partial(TORCH[name], **options), params, gradients))


@pytest.mark.parametrize("name", TORCH)
def test_rates(name):
    """By a schedule, and one for each of a batch of trainings."""
    params, gradients = draw(seed=0), draw(STEPS, seed=1)
    run = lambda lr: ours(getattr(optim, name)(lr), params, gradients)
    wanted = lambda rate: theirs(TORCH[name], params, gradients, rate=rate)
    rate = lambda step: 0.5 ** (1 + step // 50).astype(float)
    assert_close(jax.jit(lambda: run(rate))(), wanted(lambda i: float(rate(np.int64(i)))))
    each = jax.jit(jax.vmap(run))(jnp.array([0.3, 0.1]))
    assert_close(jax.tree.map(lambda a: a[1], each), wanted(lambda i: 0.1))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_rates_of_other_kinds(name):
    """As an array that is a constant of jit, and injected."""
    params, gradients = draw(seed=0), draw(20, seed=1)
    make = getattr(optim, name)
    run = lambda lr: ours(make(lr), params, gradients)
    wanted = jax.jit(lambda: run(0.1))()
    assert_close(jax.jit(lambda: run(jnp.array(0.1)))(), wanted)
    injected = optax.inject_hyperparams(lambda lr: make(lr))(lr=0.1)
    assert_close(jax.jit(functools.partial(ours, injected))(params, gradients), wanted)


def test_state_does_not_hold_the_rate():
    """Each step may build the optimiser with another one."""
    params = draw(seed=0)
    for name in TORCH:
        states = [getattr(optim, name)(lr).init(params) for lr in (0.1, 1.0, jnp.array(0.1))]
        assert len({str(state) for state in states}) == 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "options"), [each for each in OPTIMIZERS if each[1]], ids=str)
def test_dtype_is_kept(name, options, dtype):
    """By parameters and state, whatever the dtype of the rate."""
    params, gradients = draw(seed=0, dtype=dtype), draw(3, seed=1, dtype=dtype)
    for lr in (0.1, np.float64(0.1), jnp.array(0.1), jnp.array(0.1, dtype), lambda step: 0.1):
        make = getattr(optim, name)(**options | {"lr": lr})
        chain = optax.chain(clip_grad_norm(0.5), clip_grad_value(0.2), make)
        shapes = jax.eval_shape(functools.partial(ours, chain), params, gradients)
        assert {a.dtype.name for a in jax.tree.leaves(shapes)} == {dtype}
        state = jax.tree.leaves_with_path(chain.init(params))
        dtypes = {a.dtype.name for path, a in state if "mu_product" not in str(path)}
        assert dtypes <= {dtype, "int32"}


@pytest.mark.parametrize("name", ["adam", "nadam", "radam", "adagrad"])
def test_without_x64(name):
    """As near to float64 as float32 comes, although 1 - βᵗ and RAdam's ρ are small differences."""
    options = {"lr": 0.1} if name == "adagrad" else {"lr": 0.1, "betas": (0.9, 0.9999)}
    params, gradients = draw(seed=0), draw(20, seed=1)
    run = lambda *trees: ours(getattr(optim, name)(**options), *trees)
    moved = lambda found: np.concatenate([
        (np.asarray(found[name], float) - np.asarray(params[name])).ravel() for name in params
    ])  # fmt: skip
    wanted = moved(jax.jit(run)(params, gradients))
    with jax.enable_x64(False):
        narrow = jax.tree.map(lambda a: np.asarray(a, np.float32), (params, gradients))
        found = moved(jax.jit(run)(*narrow))
    np.testing.assert_allclose(found, wanted, 0, 3e-6 * abs(wanted).max())


def scaled(norm):
    """Gradients of this norm: for torch, and for us."""
    gradients = draw(seed=2)
    size = math.sqrt(sum(float((a * a).sum()) for a in gradients.values()))
    gradients = {name: a * (norm / size) for name, a in gradients.items()}
    tensors = [torch.zeros(a.shape, dtype=torch.float64) for a in gradients.values()]
    for tensor, a in zip(tensors, gradients.values(), strict=True):
        tensor.grad = torch.tensor(np.asarray(a))
    return gradients, tensors


@pytest.mark.parametrize("max_norm", [0.0, 1e-3, 1.0, 3.9])
@pytest.mark.parametrize(
    "ratio", [0.0, 0.5, 1 - 1e-5, 1 - 1e-7, 1.0, 1 + 1e-7, 1.1, 1e10, math.nan, math.inf]
)
def test_clip_grad_norm(ratio, max_norm):
    gradients, tensors = scaled(ratio * max_norm if max_norm else 1.0)
    found, _ = clip_grad_norm(max_norm).update(gradients, optax.EmptyState())
    clip_grad_norm_(tensors, max_norm)
    for one, other in zip(found.values(), tensors, strict=True):
        np.testing.assert_allclose(one, other.grad, 1e-14, strict=True)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_clip_grad_norm_of_one_bad_value(bad):
    """NaN makes all NaN; inf makes the others 0."""
    gradients, tensors = scaled(1.0)
    gradients["bias"] = gradients["bias"].at[0].set(bad)
    tensors[0].grad[0] = bad
    found, _ = clip_grad_norm(0.5).update(gradients, optax.EmptyState())
    clip_grad_norm_(tensors, 0.5)
    for one, other in zip(found.values(), tensors, strict=True):
        np.testing.assert_array_equal(one, other.grad)


@pytest.mark.parametrize("value", [0.0, 0.1, 0.7, 100.0])
def test_clip_grad_value(value):
    gradients, tensors = scaled(2.0)
    gradients["bias"] = gradients["bias"].at[0].set(math.nan)
    tensors[0].grad[0] = math.nan
    found, _ = clip_grad_value(value).update(gradients, optax.EmptyState())
    clip_grad_value_(tensors, value)
    for one, other in zip(found.values(), tensors, strict=True):
        np.testing.assert_array_equal(one, other.grad, strict=True)


def test_clipped_trajectory():
    params, gradients = draw(seed=0), draw(STEPS, seed=1)
    chain = optax.chain(clip_grad_norm(2.0), adam(0.1))
    found = jax.jit(functools.partial(ours, chain))(params, gradients)
    make = functools.partial(torch.optim.Adam, lr=0.1)
    before = lambda tensors: clip_grad_norm_(tensors, 2.0)
    assert_close(found, theirs(make, params, gradients, before))


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
    found = jax.jit(jax.vmap(lambda lr: make(lr, **options)(counts)))(jnp.array([2.0, 0.5]))[1]
    # Torch steps from rate to rate, and close to the cosine's minimum in steps of 1 / T_max².
    np.testing.assert_allclose(found, wanted, 1e-13, 1e-16)
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


@pytest.mark.parametrize("name", TORCH)
@jax.numpy_dtype_promotion("standard")  # without which optax's own do not run in float64
def test_composes_with_optax(name):
    """Options injected, so that they are traced; and steps with NaN left out."""
    params, gradients = draw(seed=0), draw(20, seed=1)
    make = getattr(optim, name)
    wanted = jax.jit(functools.partial(ours, make(0.1)))(params, gradients)
    injected = optax.inject_hyperparams(make, hyperparam_dtype=jnp.float64)(lr=0.1)
    assert_close(jax.jit(functools.partial(ours, injected))(params, gradients), wanted)
    bad = jax.tree.map(lambda a: jnp.insert(a, 5, jnp.nan, axis=0), gradients)
    found = jax.jit(functools.partial(ours, optax.apply_if_finite(make(0.1), 1)))(params, bad)
    assert_close(jax.tree.map(lambda a: jnp.delete(a, 5, axis=0), found), wanted)


def test_clip_grad_norm_of_narrow_gradients():
    """In float16 their squares overflow; and they may be of several dtypes."""
    gradients = {"a": jnp.full(1000, 1e3, jnp.float16), "b": jnp.ones(3, jnp.bfloat16)}
    found, _ = clip_grad_norm(1.0).update(gradients, optax.EmptyState())
    np.testing.assert_allclose(found["a"].astype(float), 1 / math.sqrt(1000), 1e-3)
    assert {name: a.dtype for name, a in found.items()} == {
        name: a.dtype for name, a in gradients.items()
    }


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
    """Each option in turn at random."""
    rng = np.random.default_rng(1000 + seed)
    return {
        "factor": float(rng.choice([0.1, 0.5, 0.9, 0.0])),
        "patience": int(rng.integers(0, 4)),
        "threshold": float(rng.choice([0.0, 1e-4, 0.1, 0.5])),
        "cooldown": int(rng.integers(0, 4)),
        "min_lr": float(rng.choice([0.0, 1e-3, 0.4])),
        "eps": float(rng.choice([0.0, 1e-8, 1e-2])),
    }


def assert_plateau(options, metrics, lr=0.5):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr)
    scheduler = ReduceLROnPlateau(optimizer, **options)
    wanted = []
    for metric in metrics:
        scheduler.step(metric)
        wanted.append(optimizer.param_groups[0]["lr"])
    run = lambda lr, metrics: rates(reduce_lr_on_plateau(lr, **options), metrics)
    found = jax.jit(run)(lr, jnp.asarray(metrics))
    np.testing.assert_array_equal(found, wanted)  # in float64 both sides compute the same numbers
    return wanted


@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_plateau(mode, threshold_mode):
    cuts = 0
    for seed in range(12):
        options = {"mode": mode, "threshold_mode": threshold_mode, **options_of(seed)}
        cuts += len(set(assert_plateau(options, metrics_of(seed)))) - 1
    assert cuts > 20


def test_plateau_by_default():
    assert len(set(assert_plateau({}, np.ones(EPOCHS)))) == 9  # then the change is below eps
    assert_plateau({}, [math.nan] * EPOCHS)
    assert_plateau({"patience": 1, "min_lr": 1.0}, np.ones(EPOCHS))  # never raises the rate
    assert_plateau({"factor": 0.5, "eps": 0.25}, np.ones(EPOCHS))  # a change of eps is none


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
    found = jax.tree.map(lambda a: a.reshape(STEPS, *a.shape[2:]), history)

    scheduled = [0.1, *assert_plateau({"patience": 1, "factor": 0.5}, metrics, 0.1)]
    assert len(set(scheduled)) > 3
    rate = lambda step: scheduled[step // batches]
    assert_close(found, theirs(torch.optim.Adam, params, gradients, rate=rate))


def test_plateau_without_x64():
    """It is scanned over, so that its state must keep its dtypes; and takes a float32 metric."""
    plateau = reduce_lr_on_plateau(jnp.float32(0.5), patience=0)
    with jax.enable_x64(False):
        found = rates(plateau, jnp.ones(3))
    np.testing.assert_allclose(found, [0.5, 0.05, 0.005], 1e-6)
    assert reduce_lr_on_plateau(1.0).init().lr.dtype == float
    state = plateau.init()
    dtypes = lambda state: [a.dtype for a in state]
    assert dtypes(plateau.step(state, np.float32(1))) == dtypes(state)


ERRORS = [
    (sgd, {"lr": -0.1}, "`lr` must be at least 0, got -0.1"),
    (sgd, {"lr": jnp.array(-0.5)}, "`lr` must be at least 0, got -0.5"),
    (sgd, {"lr": jnp.ones(3)}, "`lr` must be one number, got shape (3,)"),
    (sgd, {"momentum": -0.1}, "`momentum` must be at least 0, got -0.1"),
    (sgd, {"weight_decay": -0.1}, "`weight_decay` must be at least 0, got -0.1"),
    (sgd, {"nesterov": True}, "`nesterov` needs a momentum and no dampening, got momentum=0.0"),
    (sgd, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "and dampening=0.1"),
    (adam, {"lr": math.nan}, "`lr` must be at least 0, got nan"),
    (adam, {"eps": -1e-8}, "`eps` must be at least 0, got -1e-08"),
    (adam, {"betas": (1.0, 0.9)}, "`betas` must be two numbers in [0, 1), got (1.0, 0.9)"),
    (adam, {"betas": (0.9, -0.1)}, "`betas` must be two numbers in [0, 1), got (0.9, -0.1)"),
    (adam, {"weight_decay": -1.0}, "`weight_decay` must be at least 0, got -1.0"),
    (adamw, {"lr": -1.0}, "`lr` must be at least 0, got -1.0"),
    (adamw, {"eps": -1.0}, "`eps` must be at least 0, got -1.0"),
    (adamw, {"betas": (1.0, 0.9)}, "`betas` must be two numbers in [0, 1), got (1.0, 0.9)"),
    (adamw, {"weight_decay": -1.0}, "`weight_decay` must be at least 0, got -1.0"),
    (nadam, {"lr": -1.0}, "`lr` must be at least 0, got -1.0"),
    (nadam, {"eps": -1.0}, "`eps` must be at least 0, got -1.0"),
    (nadam, {"betas": (0.9, math.nan)}, "`betas` must be two numbers in [0, 1), got (0.9, nan)"),
    (nadam, {"weight_decay": -1.0}, "`weight_decay` must be at least 0, got -1.0"),
    (nadam, {"momentum_decay": -1.0}, "`momentum_decay` must be at least 0, got -1.0"),
    (radam, {"lr": -1.0}, "`lr` must be at least 0, got -1.0"),
    (radam, {"eps": -1.0}, "`eps` must be at least 0, got -1.0"),
    (radam, {"betas": (-0.1, 0.9)}, "`betas` must be two numbers in [0, 1), got (-0.1, 0.9)"),
    (radam, {"weight_decay": -1.0}, "`weight_decay` must be at least 0, got -1.0"),
    (adagrad, {"lr": -1.0}, "`lr` must be at least 0, got -1.0"),
    (adagrad, {"lr_decay": -1.0}, "`lr_decay` must be at least 0, got -1.0"),
    (adagrad, {"weight_decay": -1.0}, "`weight_decay` must be at least 0, got -1.0"),
    (adagrad, {"eps": -1.0}, "`eps` must be at least 0, got -1.0"),
    (adagrad, {"initial_accumulator_value": -1.0}, "`initial_accumulator_value` must be at least"),
    (rmsprop, {"lr": -1.0}, "`lr` must be at least 0, got -1.0"),
    (rmsprop, {"alpha": -0.1}, "`alpha` must be at least 0, got -0.1"),
    (rmsprop, {"eps": -1.0}, "`eps` must be at least 0, got -1.0"),
    (rmsprop, {"momentum": -1.0}, "`momentum` must be at least 0, got -1.0"),
    (rmsprop, {"weight_decay": -1.0}, "`weight_decay` must be at least 0, got -1.0"),
]


@pytest.mark.parametrize(("function", "options", "message"), ERRORS)
@pytest.mark.usefixtures("bare")
def test_raises_as_torch_does(function, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        function(**options)
    options = {
        name: torch.tensor(np.asarray(option)) if isinstance(option, jax.Array) else option
        for name, option in options.items()
    }
    with pytest.raises(ValueError):  # noqa: PT011
        TORCH[function.__name__]([torch.zeros(1)], **options)


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
    """Which finds out with its optimiser's rate, or at the first step."""
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


@pytest.mark.parametrize(
    ("clip", "torch_clip", "name"),
    [
        (clip_grad_norm, clip_grad_norm_, "max_norm"),
        (clip_grad_value, clip_grad_value_, "clip_value"),
    ],
)
@pytest.mark.usefixtures("bare")
def test_clipping_raises_as_torch_does(clip, torch_clip, name):
    with pytest.raises(ValueError, match=rf"`{name}` must be one number, got shape \(3,\)"):
        clip(jnp.ones(3))
    with pytest.raises((ValueError, RuntimeError)):
        torch_clip([], torch.ones(3))
