"""Hyper-parameter search: many trainings in one program, if they differ only in numbers.

A configuration is a dict of options. `grid` and `sample` make lists of them, `search` evaluates
them.
"""

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ._check import check_positive


Configuration = dict[str, Any]


def grid(**values: Sequence[Any]) -> list[Configuration]:
    """Returns every combination of some values; the last option varies fastest.

    Args:
        values: for each option, the values to try.

    Raises:
        ValueError: there are no options, or one has no values.

    Source: `sklearn.model_selection.ParameterGrid`.

    >>> grid(hidden_size=[32, 64], lr=[0.1, 0.01])[1]
    {'hidden_size': 32, 'lr': 0.01}
    """
    if not values or not all(len(each) for each in values.values()):
        raise ValueError(f"`grid` needs options with at least one value each, got {values}")
    return [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())]


def sample(
    rng: np.random.Generator,
    n: int,
    **values: Sequence[Any] | Callable[[np.random.Generator], Any],
) -> list[Configuration]:
    """Draws `n` configurations, each option independently of the others.

    Args:
        rng: the generator that draws.
        n: the number of configurations.
        values: for each option, values of equal probability, or a function of `rng` that draws one.

    Raises:
        ValueError: there are no options, one has no values, or `n` is not positive.

    Source: Bergstra & Bengio, *Random search for hyper-parameter optimization* (2012).

    >>> rate = lambda rng: 10 ** rng.uniform(-4, -1)
    >>> some = sample(np.random.default_rng(0), 2, hidden_size=[32, 64], lr=rate)
    >>> [sorted(each) for each in some]
    [['hidden_size', 'lr'], ['hidden_size', 'lr']]
    """
    if not values or not all(callable(each) or len(each) for each in values.values()):
        raise ValueError(f"`sample` needs options with at least one value each, got {values}")
    check_positive(n=n)
    one = lambda each: each(rng) if callable(each) else each[rng.integers(len(each))]
    return [{name: one(each) for name, each in values.items()} for _ in range(n)]


def search(
    evaluate: Callable[..., Array],
    configurations: Sequence[Mapping[str, Any]],
    *,
    static: Collection[str] = (),
) -> np.ndarray:
    """Evaluates configurations; all that differ only in numbers run in one vmapped program.

    It replaces this loop::

        for i, configuration in enumerate(configurations):
            scores[i] = evaluate(**configuration)

    Args:
        evaluate: a function that JAX can trace, which takes a configuration's options as keywords
            and returns a scalar, such as the loss after a training.
        configurations: dicts with the same options.
        static: the options that are not numbers, or that shapes depend on, such as `"hidden_size"`.
            Each combination of their values is compiled once; the other options are traced.

    Returns:
        The scores, in the order of the configurations. The best is at ``scores.argmin()``, or, if
        some are NaN, at ``np.nanargmin(scores)``.

    Raises:
        ValueError: there are no configurations, they have different options, `static` names another
            option, or a score is not a scalar.

    Source: as for `grid` and `sample`.

    >>> scores = search(lambda lr, power: (lr - 2.0) ** power, grid(power=[2, 4], lr=[1.0, 4.0]),
    ...                 static=["power"])
    >>> scores
    array([ 1.,  4.,  1., 16.], dtype=float32)
    """
    if not configurations:
        raise ValueError("`configurations` must hold at least one, got none")
    names = set(configurations[0])
    for i, each in enumerate(configurations):
        if set(each) != names:
            raise ValueError(
                f"`configurations` must have the same options, got {sorted(each)} at {i} after "
                f"{sorted(names)}"
            )
    if unknown := set(static) - names:
        raise ValueError(f"`static` names {unknown.pop()!r}, but the options are {sorted(names)}")
    groups: dict[Any, list[int]] = {}
    for i, each in enumerate(configurations):
        groups.setdefault(tuple((name, each[name]) for name in static), []).append(i)
    scores: dict[int, Any] = {}
    for fixed, members in groups.items():
        traced = {
            name: jnp.array([configurations[i][name] for i in members])
            for name in names - set(static)
        }
        one = lambda options, fixed=fixed: evaluate(**dict(fixed), **options)
        group = np.asarray(jax.jit(jax.vmap(one, axis_size=len(members)))(traced))
        if group.ndim != 1:
            raise ValueError(f"`evaluate` must return a scalar, got shape {group.shape[1:]}")
        scores |= dict(zip(members, group, strict=True))
    return np.array([scores[i] for i in range(len(configurations))])
