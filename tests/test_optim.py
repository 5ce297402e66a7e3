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
from torch.optim.lr_scheduler import ReduceLROnPlateau

from jaxrnn import optim
from jaxrnn.optim import (
    adam,
    clip_grad_norm,
    clip_grad_value,
    reduce_lr_on_plateau,
    rmsprop,
    sgd,
)


TORCH = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}
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
    """As a number, an array, a schedule; injected; and one for each of a batch of trainings."""
    params, gradients = draw(seed=0), draw(STEPS, seed=1)
    make = getattr(optim, name)
    run = lambda lr: ours(make(lr), params, gradients)
    wanted = jax.jit(lambda: run(0.1))()
    assert_close(jax.jit(run)(0.1), wanted)
    assert_close(jax.jit(lambda: run(lambda step: 0.1))(), wanted)
    injected = optax.inject_hyperparams(lambda lr: make(lr))(lr=0.1)
    assert_close(jax.jit(functools.partial(ours, injected))(params, gradients), wanted)
    each = jax.jit(jax.vmap(run))(jnp.array([0.3, 0.1]))
    assert_close(jax.tree.map(lambda a: a[1], each), wanted)
    rate = lambda step: 0.5 ** (1 + step // 50).astype(float)
    found = jax.jit(lambda: run(rate))()
    assert_close(
        found, theirs(TORCH[name], params, gradients, rate=lambda i: float(rate(np.int64(i))))
    )


def test_state_does_not_hold_the_rate():
    """Each step may build the optimiser with another one."""
    params = draw(seed=0)
    trees = [jax.tree.structure(adam(lr).init(params)) for lr in (0.1, 1.0, jnp.array(0.1))]
    assert len(set(trees)) == 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "options"), OPTIMIZERS[4:7] + OPTIMIZERS[-6:], ids=str)
def test_dtype_is_kept(name, options, dtype):
    """By parameters and state, whatever the dtype of the rate."""
    params, gradients = draw(seed=0, dtype=dtype), draw(3, seed=1, dtype=dtype)
    for lr in (0.1, np.float64(0.1), jnp.array(0.1), jnp.array(0.1, dtype), lambda step: 0.1):
        make = getattr(optim, name)(**options | {"lr": lr})
        chain = optax.chain(clip_grad_norm(0.5), clip_grad_value(0.2), make)
        shapes = jax.eval_shape(functools.partial(ours, chain), params, gradients)
        assert {a.dtype.name for a in jax.tree.leaves(shapes)} == {dtype}
        floats = [a.dtype for a in jax.tree.leaves(chain.init(params)) if a.dtype != jnp.int32]
        assert {a.name for a in floats} <= {dtype}


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


def rates(plateau, lr, metrics):
    """The rate after every epoch."""

    def step(state, metric):
        state = plateau.step(state, metric)
        return state, state.lr

    return jax.lax.scan(step, plateau.init(lr), metrics)[1]


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
    found = jax.jit(lambda m: rates(reduce_lr_on_plateau(**options), lr, m))(jnp.asarray(metrics))
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
    plateau = reduce_lr_on_plateau(patience=1, factor=0.5)

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
    start = params, adam().init(params), plateau.init(0.1)
    history = jax.jit(lambda *data: jax.lax.scan(epoch, start, data)[1])(split, jnp.array(metrics))
    found = jax.tree.map(lambda a: a.reshape(STEPS, *a.shape[2:]), history)

    scheduled = [0.1, *assert_plateau({"patience": 1, "factor": 0.5}, metrics, 0.1)]
    assert len(set(scheduled)) > 3
    rate = lambda step: scheduled[step // batches]
    assert_close(found, theirs(torch.optim.Adam, params, gradients, rate=rate))


def test_plateau_without_x64():
    """It is scanned over, so that its state must keep its dtypes; and takes a float32 metric."""
    plateau = reduce_lr_on_plateau(patience=0)
    with jax.enable_x64(False):
        found = rates(plateau, 0.5, jnp.ones(3))
    np.testing.assert_allclose(found, [0.5, 0.05, 0.005], 1e-6)
    assert plateau.init(1).lr.dtype == float
    state = plateau.init(jnp.float32(0.5))
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
    (adam, {"betas": (1.0, 0.9)}, "`betas` must lie in [0, 1), got (1.0, 0.9)"),
    (adam, {"betas": (0.9, -0.1)}, "`betas` must lie in [0, 1), got (0.9, -0.1)"),
    (adam, {"weight_decay": -1.0}, "`weight_decay` must be at least 0, got -1.0"),
    (rmsprop, {"lr": -1.0}, "`lr` must be at least 0, got -1.0"),
    (rmsprop, {"alpha": -0.1}, "`alpha` must be at least 0, got -0.1"),
    (rmsprop, {"eps": -1.0}, "`eps` must be at least 0, got -1.0"),
    (rmsprop, {"momentum": -1.0}, "`momentum` must be at least 0, got -1.0"),
    (rmsprop, {"weight_decay": -1.0}, "`weight_decay` must be at least 0, got -1.0"),
    (reduce_lr_on_plateau, {"factor": 1.0}, "`factor` must be below 1, got 1.0"),
    (reduce_lr_on_plateau, {"mode": "mean"}, "`mode` must be 'min' or 'max', got 'mean'"),
    (reduce_lr_on_plateau, {"threshold_mode": "x"}, "`threshold_mode` must be 'rel' or 'abs', got"),
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
    parameter = torch.zeros(1)
    if function is reduce_lr_on_plateau:
        call = functools.partial(ReduceLROnPlateau, torch.optim.SGD([parameter]), **options)
    else:
        call = functools.partial(TORCH[function.__name__], [parameter], **options)
    with pytest.raises(ValueError):  # noqa: PT011
        call()


def test_plateau_refuses_a_negative_rate():
    with pytest.raises(ValueError, match="`lr` must be at least 0, got -1"):
        reduce_lr_on_plateau().init(-1.0)
