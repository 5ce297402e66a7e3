"""Next month's sea temperature off Peru, and what normalisation does to the forecast.

The idea: a `data.Scale` is fitted on the training years, and taken back with `denormalise`. One GRU
is trained in one way on three scales: degrees as they are; with mean 0 and deviation 1; and as
deviations from the mean of each month of the year, so that the season is taken out. Beside it
stands a linear model of the same values, fitted by least squares; without the season, its two
months are as good as the GRU's 24.

Data: El Niño, monthly means of sea surface temperature in the region Niño 1+2 (NOAA; in
statsmodels), 1950-1989 to train on, 1990-2010 to forecast.

    pip install -e ".[examples]" && python examples/elnino.py
"""

import pathlib
from collections.abc import Sequence

import jax
import matplotlib.pyplot as plt
import numpy as np
from baselines import least_squares
from command import parser, save
from statsmodels.datasets import elnino

from jaxrnn import data, losses, models, optim
from jaxrnn.training import fit


FIRST_TEST_YEAR = 1990
MONTHS = 24  # that a forecast sees
ORDERS = (2, 12, 24)  # months that the linear forecast sees
SEEDS = 3  # of the network, whose errors differ somewhat


def forecast(params, x):
    return models.sequence_model(params, x[..., None])[0][:, 0]


def loss(params, x, y):
    return losses.mse_loss(forecast(params, x), y)


def network(known: np.ndarray, x: np.ndarray, seed: int, epochs: int) -> jax.Array:
    """Forecasts after the windows `x`, by a GRU that is trained on the values before them."""
    train_x, train_y = data.windows(known, MONTHS)

    def batches(epoch):
        rng = np.random.default_rng([seed, epoch])
        for i in data.batches(len(train_x), 32, rng=rng, drop_last=True):
            yield train_x[i], train_y[i]

    params = models.init_sequence_model(jax.random.key(seed), "gru", 1, 32, 1)
    rate = optim.cosine_annealing_lr(3e-3, epochs)
    return forecast(fit(loss, optim.adam, params, batches, epochs=epochs, lr=rate).params, x)


def linear(known: np.ndarray, x: np.ndarray, order: int) -> np.ndarray:
    """Likewise, by the autoregression that fits those values best."""
    return least_squares(*data.windows(known, order), x[:, -order:])


def picture(path: pathlib.Path, years, observed: np.ndarray, forecasts: dict) -> None:
    figure, axes = plt.subplots(figsize=(9, 3.8), layout="constrained")
    axes.plot(years, observed, color="0.75", lw=4, label="observed")
    for name, each in forecasts.items():
        axes.plot(years, each, lw=1, label=f"GRU, {name}")
    axes.set(xlabel="year", ylabel="sea temperature (°C)", xlim=(1995, 2001), ylim=(18.5, 32))
    axes.annotate("El Niño", (1998.15, 29.5), ha="center")
    axes.legend(frameon=False, ncols=2, loc="upper center", fontsize=8)
    save(figure, path)


def main(argv: Sequence[str] | None = None) -> None:
    options = parser(__doc__, epochs=60).parse_args(argv)
    table = elnino.load_pandas().data.to_numpy(np.float32)
    years, degrees = table[:, 0], table[:, 1:]  # (years, months)
    known, observed = degrees[years < FIRST_TEST_YEAR], degrees[years >= FIRST_TEST_YEAR]
    rmse = lambda forecast: np.sqrt(np.mean((forecast - observed) ** 2))
    before = degrees.ravel()[known.size - 1 : -1].reshape(observed.shape)
    print(f"as in the month before: rms error {rmse(before):.3f} °C")
    print(f"as that month is on average: {rmse(known.mean(0)):.3f} °C")

    season = known.mean(0)
    scales = {
        "degrees": data.Scale(np.float32(0), np.float32(1)),
        "normalised": data.fit_z_score(known.ravel()),
        "season taken out": data.Scale(season, np.full_like(season, (known - season).std())),
    }
    forecasts = {}
    for name, scale in scales.items():
        series = data.normalise(scale, degrees).ravel()
        past, (x, _) = series[: known.size], data.windows(series[known.size - MONTHS :], MONTHS)
        in_degrees = lambda values, scale=scale: data.denormalise(scale, values.reshape(-1, 12))
        trained = [in_degrees(network(past, x, seed, options.epochs)) for seed in range(SEEDS)]
        fitted = [in_degrees(linear(past, x, order)) for order in ORDERS]
        print(f"{name}: GRU {', '.join(f'{rmse(each):.3f}' for each in trained)}", end="; linear, ")
        print(*(f"{k} months {rmse(each):.3f}" for k, each in zip(ORDERS, fitted, strict=True)))
        forecasts[name] = trained[0].ravel()
    months = FIRST_TEST_YEAR + np.arange(observed.size) / 12
    picture(options.folder / "elnino.png", months, observed.ravel(), forecasts)


if __name__ == "__main__":
    main()
