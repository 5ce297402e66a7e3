"""Search: every configuration once, as one by one, in as few programs as there are shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn.search import grid, sample, search


def test_grid_is_nested_loops():
    found = grid(size=[2, 3], lr=[0.1, 0.2, 0.3])
    assert found == [{"size": size, "lr": lr} for size in (2, 3) for lr in (0.1, 0.2, 0.3)]


def test_sample_draws_each_option_on_its_own():
    found = sample(np.random.default_rng(0), 400, size=[2, 3], lr=lambda rng: rng.uniform(1, 2))
    assert len(found) == 400
    assert all(1 <= each["lr"] < 2 for each in found)
    assert len({each["lr"] for each in found}) == 400
    for low in (True, False):  # sizes are as frequent among low rates as among high ones
        sizes = [each["size"] for each in found if (each["lr"] < 1.5) == low]
        assert 0.35 < np.mean(np.array(sizes) == 2) < 0.65
    assert found == sample(np.random.default_rng(0), 400, size=[2, 3], lr=lambda r: r.uniform(1, 2))


def evaluate(size, lr, seed):
    """Gradient descent on a quadratic whose size decides shapes."""
    start = jax.random.normal(jax.random.key(seed), (size,))
    weights = jnp.arange(1.0, size + 1)
    loss = lambda x: (weights * x**2).sum()
    end, _ = jax.lax.scan(lambda x, _: (x - lr * jax.grad(loss)(x), None), start, length=5)
    return loss(end)


def test_search_is_one_after_another():
    some = grid(seed=[0, 1], size=[2, 5], lr=[0.01, 0.05])
    scores = search(evaluate, some, static=["size"])
    alone = [float(jax.jit(evaluate, static_argnames="size")(**each)) for each in some]
    assert len(set(alone)) == len(some)
    np.testing.assert_allclose(scores, alone, rtol=1e-12)


def test_one_trace_for_each_shape():
    traces = []

    def counted(**options):
        traces.append(options["size"])
        return evaluate(**options)

    search(counted, grid(lr=[0.01, 0.02, 0.03], size=[2, 5], seed=[0, 1, 2]), static=["size"])
    assert sorted(traces) == [2, 5]


def test_all_static():
    assert search(
        lambda size: jnp.sum(jnp.ones(size)), grid(size=[3, 1]), static=["size"]
    ).tolist() == [3, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grid(), "`grid` needs options with at least one value each"),
        (lambda: grid(lr=[]), "`grid` needs options with at least one value each"),
        (lambda: sample(np.random.default_rng(0), 2, lr=[]), "`sample` needs options"),
        (lambda: sample(np.random.default_rng(0), 0, lr=[1]), "`n` must be a positive integer"),
        (lambda: search(evaluate, []), "`configurations` must hold at least one, got none"),
        (
            lambda: search(evaluate, [{"lr": 1}, {"size": 2}]),
            r"`configurations` must have the same options, got \['size'\] at 1 after \['lr'\]",
        ),
        (
            lambda: search(evaluate, [{"lr": 1}], static=["size"]),
            r"`static` names 'size', but the options are \['lr'\]",
        ),
        (
            lambda: search(lambda lr: lr * jnp.ones(3), [{"lr": 1.0}]),
            r"`evaluate` must return a scalar, got shape \(3,\)",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
