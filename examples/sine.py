"""Forecasts of a sine, clean and noisy: the two first trainings of many an RNN tutorial.

The idea: a series becomes windows (`data.windows`), a model and a loss are functions, and `fit` is
the loop. A window can be given as one step of many features, as a text does it, so that nothing
recurs, or as many steps of one. In the noisy sine its size matters, and the layout does not.

    pip install -e ".[examples]" && python examples/sine.py
"""

import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from baselines import least_squares
from command import parser, save

from jaxrnn import data, losses, models, optim
from jaxrnn.training import fit


PERIOD = 20  # steps of the clean sine
FORECAST_START = 800  # of 1000 steps of the noisy one
SIZES = 3, 40  # of the windows of the noisy one
LAYOUTS = {
    "1 step of {} features": lambda x: x[:, None, :],
    "{} steps of 1 feature": lambda x: x[:, :, None],
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
    again = x[:, 0, 0]  # a window is a period
    print(
        f"sine, 1000 new windows: mean squared error {loss(fitted.params, x, y):.1e}; "
        f"{np.mean((again - y) ** 2):.0e} by saying the window's first value again"
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
    for size in SIZES:
        x, y = data.windows(known, size)
        test_x, _ = data.windows(series[FORECAST_START - size :], size)
        for name, given in LAYOUTS.items():
            inputs = given(x)
            params = models.init_sequence_model(jax.random.key(0), "rnn", inputs.shape[-1], 128, 1)
            batches = [(inputs[i], y[i]) for i in data.batches(len(x), 32)]
            fitted = fit(loss, optim.adam(1e-4), params, batches, epochs=epochs)
            forecasts[f"RNN, {name.format(size)}"] = forecast(fitted.params, given(test_x))
        forecasts[f"linear, of {size} values"] = least_squares(x, y, test_x)
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
    few, many = (f"RNN, {layout.format(n)}" for n, layout in zip(SIZES, LAYOUTS, strict=True))
    for name in ("the sine itself, without its noise", few, many):
        axes.plot(t[FORECAST_START:], forecasts[name], label=name)
    axes.set(xlabel="t (steps)", ylabel="value, and its forecast one step ahead", ylim=(-1.2, 3.6))
    axes.legend(frameon=False, ncols=2, fontsize=8, loc="upper center")
    save(figure, folder / "noisy_sine_forecast.png")


def main(argv: Sequence[str] | None = None) -> None:
    options = parser(__doc__, epochs=100).parse_args(argv)
    clean_sine(options.epochs, options.folder)
    noisy_sine(options.epochs, options.folder)


if __name__ == "__main__":
    main()
