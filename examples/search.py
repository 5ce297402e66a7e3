"""A hundred and fifty trainings as three programs: size, rate and seed of a forecaster.

The idea: a training is a function that can be traced, `final_error(hidden_size, lr, seed)`, so
`search` trains all configurations that differ in numbers only in one vmapped program. Here that is
done beside the same trainings one after another, compiled once for each size.

Data: yearly sunspot numbers 1700-2008 (in statsmodels). Trained to 1880, chosen on 1881-1920,
trained again to 1920, tested on 1921-1955; the error is the mean square, divided by 1535, the
literature's variance (Weigend, Huberman & Rumelhart 1990).

    pip install -e ".[examples]" && python examples/search.py
"""

import pathlib
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from baselines import least_squares
from command import parser, save
from rich.progress import track
from statsmodels.datasets import sunspots

from jaxrnn import data, losses, models, optim
from jaxrnn.search import grid, search
from jaxrnn.training import train_step


YEARS = 12  # that a forecast sees
BATCH = 8
VARIANCE = 1535.0
SIZES, RATES, SEEDS = [8, 16, 32], [1e-4, 3e-4, 1e-3, 3e-3, 1e-2], range(10)


def split(last: int, until: int) -> tuple[data.Scale, tuple, tuple]:
    """The scale; windows and what follows them, to the year `last`; those after, to `until`."""
    years, numbers = sunspots.load_pandas().data.to_numpy(np.float32).T
    known, new = (years <= last).sum(), (years <= until).sum()
    scale = data.fit_z_score(numbers[:known])
    series = data.normalise(scale, numbers[:new])
    return scale, data.windows(series[:known], YEARS), data.windows(series[known - YEARS :], YEARS)


def loss(params, x, y):
    return losses.mse_loss(models.sequence_model(params, x[..., None])[0][:, 0], y)


def final_error(last: int, until: int, steps: int) -> Callable:
    """The error of the years after `last`, as a function of a configuration."""
    scale, (x, y), new = jax.tree.map(jnp.asarray, split(last, until))

    def error(hidden_size, lr, seed):
        k_params, k_batches = jax.random.split(jax.random.key(seed))
        params = models.init_sequence_model(k_params, "gru", 1, hidden_size, 1)
        optimizer = optim.adam(lr)
        step = train_step(loss, optimizer)
        batches = jax.random.randint(k_batches, (steps, BATCH), 0, len(x))
        advance = lambda carry, i: (step(*carry, x[i], y[i])[:2], None)
        (params, _), _ = jax.lax.scan(advance, (params, optimizer.init(params)), batches)
        return loss(params, *new) * scale.scale**2 / VARIANCE

    return error


def linear_error(last: int, until: int) -> float:
    """That of an autoregression of as many years, fitted by least squares."""
    scale, (x, y), (new_x, new_y) = split(last, until)
    off = least_squares(x, y, new_x) - new_y
    return np.mean(off**2) * scale.scale**2 / VARIANCE


def picture(path: pathlib.Path, errors: np.ndarray, linear: float) -> None:
    figure, axes = plt.subplots(figsize=(7, 3.8), layout="constrained")
    for i, (size, each) in enumerate(zip(SIZES, errors, strict=True)):
        at = np.array(RATES) * 1.1 ** (i - 1)  # side by side
        axes.semilogx(at, each, ".", color=f"C{i}")
        axes.semilogx(
            at, each.mean(1), color=f"C{i}", label=f"GRU-{size}, mean of {len(SEEDS)} seeds"
        )
    axes.axhline(linear, color="0.6", ls=":", label=f"linear, {YEARS} years")
    axes.set(xlabel="learning rate", ylabel="error, 1881-1920 (share of variance)")
    axes.legend(frameon=False, fontsize=8)
    save(figure, path)


def main(argv: Sequence[str] | None = None) -> None:
    options = parser(__doc__, steps=2000).parse_args(argv)
    error = final_error(1880, 1920, options.steps)
    one = jax.jit(error, static_argnames="hidden_size")
    errors, in_turn, seconds = [], [], np.zeros(2)
    for size in track(SIZES, description="searching"):
        configurations = grid(hidden_size=[size], lr=RATES, seed=SEEDS)
        start = time.perf_counter()
        errors.append(search(error, configurations, static=["hidden_size"]))
        middle = time.perf_counter()
        in_turn.append([float(one(**each)) for each in configurations])
        seconds += middle - start, time.perf_counter() - middle
    apart = np.median(np.abs(np.divide(errors, in_turn) - 1))
    print(
        f"{np.size(errors)} trainings: {seconds[0]:.1f} s at once, {seconds[1]:.1f} s one after "
        f"another, to compile {len(SIZES)} programs included; "
        f"the median error differs by {apart:.0e}"
    )

    errors = np.reshape(errors, (len(SIZES), len(RATES), len(SEEDS)))
    errors[np.isnan(errors)] = np.inf
    i, j = np.unravel_index(errors.mean(2).argmin(), errors.shape[:2])
    chosen = grid(hidden_size=[SIZES[i]], lr=[RATES[j]], seed=SEEDS)
    tested = search(final_error(1920, 1955, options.steps), chosen, static=["hidden_size"])
    linear = [linear_error(1880, 1920), linear_error(1920, 1955)]
    print(
        f"chosen: GRU-{SIZES[i]} at {RATES[j]}, with errors of {errors[i, j].round(3)} on 1881-1920"
    )
    print(f"trained again, on 1921-1955: {tested.round(3)}; the linear model {linear[1]:.3f}")
    picture(options.folder / "search.png", errors, linear[0])


if __name__ == "__main__":
    main()
