"""From a torch checkpoint to JAX, verified on the way: yearly sunspot numbers.

1. torch trains an LSTM to say next year's sunspot number, and saves its `state_dict`.
2. jaxrnn loads the file: the same names, the same arrays; nothing is converted.
3. parity runs the same weights in both and compares outputs and gradients.
4. JAX makes the same forecasts, and goes on where the data end, each forecast the next input.

    pip install -e ".[examples]" && python examples/port_torch_checkpoint.py --folder out
"""

import argparse
import pathlib
import sys

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import torch
from rich.progress import track
from safetensors.torch import save_file
from statsmodels.datasets import sunspots

import jaxrnn
import parity


LAST_TRAINING_YEAR = 1920  # as in the literature on this series
AHEAD = 22  # years beyond the data: two cycles of the sun


class Forecaster(torch.nn.Module):
    """Next year's value, said at every year of a series (T, 1)."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.lstm = torch.nn.LSTM(1, hidden_size)
        self.fc = torch.nn.Linear(hidden_size, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.lstm(x)
        return self.fc(y)


def train(model: Forecaster, series: torch.Tensor, epochs: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in track(range(epochs), description="training in torch"):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(series[:-1]), series[1:])
        loss.backward()
        optimizer.step()


def forecast(params: dict, x: jax.Array, state: jaxrnn.LSTMState | None = None):
    """`Forecaster` in JAX, on torch's own parameters; the state comes along."""
    y, state = jaxrnn.lstm(params["lstm"], x, state)
    return y @ params["fc"]["weight"].T + params["fc"]["bias"], state


@jax.jit
def forecast_beyond(params: dict, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Every year's forecast, then `AHEAD` more years, each forecast being the next input."""
    said, state = forecast(params, x)

    def one_year(carry, _):
        value, state = carry
        value, state = forecast(params, value, state)
        return (value, state), value[0]

    # The last forecast is of the first year beyond the data already.
    _, beyond = jax.lax.scan(one_year, (said[-1:], state), length=AHEAD - 1)
    return said, jnp.concatenate([said[-1:], beyond])


def picture(path, years, numbers, by_torch, by_jax, beyond) -> None:
    figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
    shown = years >= 1850
    ahead = np.arange(years[-1] + 1, years[-1] + 1 + AHEAD)
    axes.plot(years[shown], numbers[shown], color="0.75", lw=3, label="observed")
    # What is said in one year is about the next.
    axes.plot(years[shown][1:], by_torch[shown][:-1], label="torch, a year ahead")
    axes.plot(years[shown][1:], by_jax[shown][:-1], "k.", ms=3, label="jaxrnn, a year ahead")
    axes.plot(ahead, beyond, "k--", lw=1, label="jaxrnn, on its own forecasts")
    axes.axvline(LAST_TRAINING_YEAR + 0.5, ymax=0.87, color="0.6", lw=0.8, ls=":")
    axes.annotate(" not trained on", (LAST_TRAINING_YEAR + 1, 180), color="0.4", fontsize=8)
    axes.set(xlabel="year", ylabel="sunspot number (yearly mean)", ylim=(-10, 225))
    axes.legend(ncols=4, fontsize=8, loc="upper center", frameon=False)
    figure.savefig(path, dpi=110)
    print(f"picture: {path}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--hidden-size", type=int, default=16)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("out"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)

    table = sunspots.load_pandas().data.to_numpy()
    years, numbers = table[:, 0].astype(int), table[:, 1].astype(np.float32)
    training = years <= LAST_TRAINING_YEAR
    mean, scale = numbers[training].mean(), numbers[training].std()
    series = torch.tensor((numbers - mean) / scale)[:, None]

    torch.set_num_threads(1)  # the network is too small for more to help
    torch.manual_seed(0)
    model = Forecaster(options.hidden_size)
    train(model, series[: training.sum()], options.epochs)
    with torch.no_grad():
        by_torch = model(series)[:, 0].numpy() * scale + mean
    checkpoint = options.folder / "sunspots.safetensors"
    save_file(model.state_dict(), checkpoint)
    torch.save(model.state_dict(), checkpoint.with_suffix(".pt"))

    params, same = (jaxrnn.load(checkpoint.with_suffix(end)) for end in (".safetensors", ".pt"))
    equal = jax.tree.all(jax.tree.map(jnp.array_equal, params, same))
    print(f"both files hold the same arrays: {equal}")
    results = parity.check(checkpoint, x=series.numpy())
    for result in results:
        print(f"nn.LSTM at {result.case.group!r}, {result.dtype}: {result.status}, {result.worst}")

    said, beyond = forecast_beyond(params, jnp.asarray(series.numpy()))
    by_jax, beyond = (np.asarray(a)[:, 0] * scale + mean for a in (said, beyond))
    off = np.abs(by_jax - by_torch).max()
    print(f"torch's and JAX's forecasts differ by at most {off:.1e} sunspots")
    rms = lambda forecasts: np.sqrt(np.mean((forecasts - numbers[1:])[~training[1:]] ** 2))
    print(
        f"one year ahead, {LAST_TRAINING_YEAR + 1}-{years[-1]}: rms error {rms(by_jax[:-1]):.1f} "
        f"sunspots, {rms(numbers[:-1]):.1f} if every year were like the last"
    )
    picture(options.folder / "sunspots.png", years, numbers, by_torch, by_jax, beyond)
    verified = equal and all(result.status == "pass" for result in results)
    print("verified" if verified else "NOT VERIFIED: see the lines on nn.LSTM above")
    return int(not verified)


if __name__ == "__main__":
    sys.exit(main())
