"""Forecasts of a sine, clean and noisy: the two first trainings of many an RNN tutorial.

The idea: a series becomes windows (`data.windows`), a model and a loss are functions, and `fit` is
the loop. The noisy sine is forecast twice, as the texts write it and as they probably meant it:
a window that is given as one step of 3 features leaves the network nothing to recur over.

    pip install -e ".[examples]" && python examples/sine.py
"""

import argparse
import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from jaxrnn import data, losses, models, optim
from jaxrnn.training import fit


PERIOD = 20  # steps of the clean sine
FORECAST_START = 800  # of 1000 steps of the noisy one
WINDOWS = {  # of the noisy one: their size, and how they are given to the network
    "as written: 1 step of 3 features": (3, lambda x: x[:, None, :]),
    "as meant: 40 steps of 1 feature": (40, lambda x: x[:, :, None]),
}


def forecast(params, x):
    return models.sequence_model(params, x, pool="last_step")[0][:, 0]


def loss(params, x, y):
    return losses.mse_loss(forecast(params, x), y)


def sines(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Windows (n, 20, 1) over one period that starts anywhere, and the value that follows."""
    start = rng.uniform(0, 2 * np.pi, (n, 1))
    waves = np.sin(start + np.linspace(0, 2 * np.pi, PERIOD + 1)).astype(np.float32)
    return waves[:, :-1, None], waves[:, -1]


@jax.jit
def continued(params, window):
    """Three periods more, each forecast being the next input."""

    def step(window, _):
        value = forecast(params, window[None])
        return jnp.concatenate([window[1:], value[None]]), value[0]

    return jax.lax.scan(step, window, length=3 * PERIOD)[1]


def clean_sine(epochs: int, folder: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    params = models.init_sequence_model(jax.random.key(0), "rnn", 1, 32, 1)
    fitted = fit(loss, optim.adam(1e-3), params, [sines(1000, rng)], epochs=epochs)
    x, y = sines(1000, rng)
    # sin(t + d) = 2 cos(d) sin(t) - sin(t - d): two values determine the next.
    exact = 2 * np.cos(2 * np.pi / PERIOD) * x[:, -1, 0] - x[:, -2, 0]
    print(
        f"sine, 1000 new windows: mean squared error {loss(fitted.params, x, y):.1e}; "
        f"{np.mean((exact - y) ** 2):.0e} by the linear rule, which is exact"
    )

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    left.semilogy(1 + np.arange(epochs), fitted.history.loss)
    left.set(xlabel="epoch", ylabel="mean squared error", title="training")
    t = np.arange(4 * PERIOD) * 2 * np.pi / PERIOD
    right.plot(t, np.sin(t), color="0.75", lw=3, label="sin t")
    right.plot(t[:PERIOD], np.sin(t[:PERIOD]), "k.", label="given")
    window = np.sin(t[:PERIOD, None]).astype(np.float32)
    right.plot(t[PERIOD:], continued(fitted.params, window), label="RNN, on its own forecasts")
    right.set(xlabel="t (rad)", ylim=(-1.2, 1.9), title="forecast")
    right.legend(ncols=3, frameon=False, fontsize=8)
    save(figure, folder / "sine.png")


def noisy_sine(epochs: int, folder: pathlib.Path) -> None:
    t, rng = np.arange(1000), np.random.default_rng(0)
    series = (np.sin(0.02 * t) + 2 * rng.random(len(t))).astype(np.float32)
    known, ahead = series[:FORECAST_START], series[FORECAST_START:]

    forecasts = {}
    for name, (size, given) in WINDOWS.items():
        x, y = data.windows(known, size)
        test_x, _ = data.windows(series[FORECAST_START - size :], size)
        params = models.init_sequence_model(jax.random.key(0), "rnn", given(x).shape[-1], 128, 1)
        batches = [(given(x[i]), y[i]) for i in data.batches(len(x), 32)]
        fitted = fit(loss, optim.adam(1e-4), params, batches, epochs=epochs)
        forecasts[f"RNN, {name}"] = forecast(fitted.params, given(test_x))
        forecasts[f"linear, of {size} values"] = autoregression(x, y, test_x)
    forecasts["the sine itself, without its noise"] = np.sin(0.02 * t[FORECAST_START:]) + 1
    for name, values in forecasts.items():
        print(f"noisy sine: mean squared error {np.mean((values - ahead) ** 2):.3f}, {name}")

    figure, axes = plt.subplots(figsize=(9, 3), layout="constrained")
    axes.plot(t, series, lw=0.8)
    axes.axvline(FORECAST_START, color="r", label="forecast start")
    axes.set(xlabel="t (steps)", ylabel="sin(0.02 t) + 2 U(0, 1)")
    axes.legend(frameon=False, loc="lower left")
    save(figure, folder / "noisy_sine.png")

    figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
    axes.plot(t[FORECAST_START:], ahead, color="0.75", label="ground truth")
    for name in ("the sine itself, without its noise", *(f"RNN, {name}" for name in WINDOWS)):
        axes.plot(t[FORECAST_START:], forecasts[name], label=name)
    axes.set(xlabel="t (steps)", ylabel="value, and its forecast one step ahead", ylim=(-1.2, 3.6))
    axes.legend(frameon=False, ncols=2, fontsize=8, loc="upper center")
    save(figure, folder / "noisy_sine_forecast.png")


def autoregression(x: np.ndarray, y: np.ndarray, test_x: np.ndarray) -> np.ndarray:
    """The forecasts of the linear model that fits the windows best."""
    with_one = lambda x: np.column_stack([x, np.ones(len(x))])
    weights, *_ = np.linalg.lstsq(with_one(x), y)
    return with_one(test_x) @ weights


def save(figure: plt.Figure, path: pathlib.Path) -> None:
    figure.savefig(path, dpi=110)
    plt.close(figure)
    print(f"picture: {path}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("out"))
    options = parser.parse_args(argv)
    options.folder.mkdir(parents=True, exist_ok=True)
    clean_sine(options.epochs, options.folder)
    noisy_sine(options.epochs, options.folder)


if __name__ == "__main__":
    main()
