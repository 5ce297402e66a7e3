"""Law: optimisers refuse the numbers that torch refuses, and name the argument."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from optim_cases import TORCH

from jaxrnn.optim import (
    adagrad,
    adam,
    adamw,
    nadam,
    radam,
    rmsprop,
    sgd,
)


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
