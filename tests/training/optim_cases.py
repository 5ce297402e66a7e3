"""Trajectories of parameters under an optimiser, by optax and by torch, which tests compare."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch


TORCH = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
}
STEPS = 200
SHAPES = {"weight": (3, 2), "scale": ()}
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


def trajectory(optimizer, params, gradients):
    """Every parameter after every step: (steps, …)."""

    def step(carry, gradient):
        params, state = carry
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    return jax.lax.scan(step, (params, optimizer.init(params)), gradients)[1]


def torch_trajectory(make, params, gradients, before=lambda tensors: None, rate=None):
    """The same of a torch optimiser; `before` is called before each step."""
    tensors = {name: torch.tensor(np.asarray(a)).requires_grad_() for name, a in params.items()}
    optimizer = make(tensors.values(), foreach=False)
    gradients = {name: torch.tensor(np.asarray(a)) for name, a in gradients.items()}
    history = {name: [] for name in params}
    for i in range(len(gradients["scale"])):
        for name, a in tensors.items():
            a.grad = gradients[name][i].clone()
        before(tensors.values())
        if rate is not None:
            optimizer.param_groups[0]["lr"] = rate(i)
        optimizer.step()
        for name, a in tensors.items():
            history[name].append(a.detach().numpy().copy())
    return {name: np.stack(a) for name, a in history.items()}


def assert_near(history, wanted):
    assert history.keys() == wanted.keys()
    for name in history:
        np.testing.assert_allclose(history[name], wanted[name], RTOL, RTOL, err_msg=name)
