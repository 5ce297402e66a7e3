"""Law: the trajectories are torch's, for every parameter after every step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optim_cases import STEPS, TORCH, assert_near, draw, torch_trajectory, trajectory

from jaxrnn import optim
from jaxrnn.optim import clip_grad_norm, clip_grad_value


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
every_optimizer = pytest.mark.parametrize("name", TORCH)


def run(optimizer, params, gradients):
    return jax.jit(functools.partial(trajectory, optimizer))(params, gradients)


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=str)
def test_trajectory(name, options):
    params, gradients = draw(seed=0), draw(STEPS, seed=1)
    history = run(getattr(optim, name)(**options), params, gradients)
    make = functools.partial(TORCH[name], **options)
    assert_near(history, torch_trajectory(make, params, gradients))


@every_optimizer
def test_rates(name):
    """A schedule, and one rate for each of a batch of trainings."""
    params, gradients = draw(seed=0), draw(STEPS, seed=1)
    make = getattr(optim, name)
    wanted = lambda rate: torch_trajectory(TORCH[name], params, gradients, rate=rate)
    rate = lambda step: 0.5 ** (1 + step // 50).astype(float)
    history = run(make(rate), params, gradients)
    assert_near(history, wanted(lambda i: float(rate(np.int64(i)))))
    each = jax.jit(jax.vmap(lambda lr: trajectory(make(lr), params, gradients)))
    histories = each(jnp.array([0.3, 0.1]))
    assert_near(jax.tree.map(lambda a: a[1], histories), wanted(lambda i: 0.1))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_rates_of_other_kinds(name):
    """An array that is a constant of jit, and an injected rate."""
    params, gradients = draw(seed=0), draw(20, seed=1)
    make = getattr(optim, name)
    wanted = torch_trajectory(functools.partial(TORCH[name], lr=0.1), params, gradients)
    constant = jax.jit(lambda: trajectory(make(jnp.array(0.1)), params, gradients))
    assert_near(constant(), wanted)
    injected = optax.inject_hyperparams(lambda lr: make(lr))(lr=0.1)
    assert_near(run(injected, params, gradients), wanted)


@every_optimizer
@jax.numpy_dtype_promotion("standard")  # without which optax's own do not run in float64
def test_options_can_be_injected(name):
    """All options are then traced."""
    params, gradients = draw(seed=0), draw(20, seed=1)
    make = optax.inject_hyperparams(getattr(optim, name), hyperparam_dtype=jnp.float64)
    wanted = torch_trajectory(functools.partial(TORCH[name], lr=0.1), params, gradients)
    assert_near(run(make(lr=0.1), params, gradients), wanted)


@every_optimizer
@jax.numpy_dtype_promotion("standard")
def test_steps_with_nan_can_be_left_out(name):
    params, gradients = draw(seed=0), draw(20, seed=1)
    bad = jax.tree.map(lambda a: np.insert(a, 5, np.nan, axis=0), gradients)
    history = run(optax.apply_if_finite(getattr(optim, name)(0.1), 1), params, bad)
    wanted = torch_trajectory(functools.partial(TORCH[name], lr=0.1), params, gradients)
    assert_near(jax.tree.map(lambda a: np.delete(a, 5, axis=0), history), wanted)


def test_state_does_not_hold_the_rate():
    """Each step may build the optimiser with another one."""
    params = draw(seed=0)
    for name in TORCH:
        states = [getattr(optim, name)(lr).init(params) for lr in (0.1, 1.0, jnp.array(0.1))]
        assert len({str(state) for state in states}) == 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=str)
def test_dtype_is_kept(name, options, dtype):
    """By parameters and state, whatever the dtype of the rate."""
    params = draw(seed=0, dtype=dtype)
    rates = [0.1, np.float64(0.1), jnp.array(0.1), jnp.array(0.1, dtype), lambda step: 0.1]
    for lr in rates if not options else rates[2:3]:
        optimizer = getattr(optim, name)(**options | {"lr": lr})
        chain = optax.chain(clip_grad_norm(0.5), clip_grad_value(0.2), optimizer)
        state = jax.eval_shape(chain.init, params)
        updates, after = jax.eval_shape(chain.update, params, state, params)
        assert {a.dtype.name for a in jax.tree.leaves(updates)} == {dtype}
        assert jax.tree.map(lambda a: a.dtype, after) == jax.tree.map(lambda a: a.dtype, state)
        leaves = jax.tree.leaves_with_path(state)
        dtypes = {a.dtype.name for path, a in leaves if "mu_product" not in str(path)}
        assert dtypes <= {dtype, "int32"}


@pytest.mark.parametrize("name", ["adam", "nadam", "radam", "adagrad"])
def test_without_x64(name):
    """As near to float64 as float32 comes, although 1 - βᵗ and RAdam's ρ are small differences."""
    options = {"lr": 0.1} if name == "adagrad" else {"lr": 0.1, "betas": (0.9, 0.9999)}
    params, gradients = draw(seed=0), draw(20, seed=1)
    optimizer = getattr(optim, name)(**options)
    moved = lambda history: np.concatenate([
        (np.asarray(history[name], float) - np.asarray(params[name])).ravel() for name in params
    ])  # fmt: skip
    wanted = moved(run(optimizer, params, gradients))
    with jax.enable_x64(False):
        narrow = jax.tree.map(lambda a: np.asarray(a, np.float32), (params, gradients))
        history = moved(run(optimizer, *narrow))
    np.testing.assert_allclose(history, wanted, 0, 3e-6 * abs(wanted).max())
