"""Models that the texts build from cells, and step through time by hand."""

from collections.abc import Mapping
from typing import Any

import jax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from .._cells import rnn_cell
from .._check import check_key, check_positive
from .._init import init_linear, init_rnn_cell
from .._layers import rnn
from .._nn import check_parts, linear
from .._params import structure


def init_cell_model(
    key: PRNGKeyArray,
    input_size: int,
    hidden_size: int,
    output_size: int,
    *,
    num_layers: int | None = None,
    dtype: Any = float,
) -> dict[str, Any]:
    """Returns parameters for `cell_model`: one `rnn_cell`, or with `num_layers` several `cells`.

    Takes the arguments of `init_sequence_model` and raises its errors.

    Source: as for `cell_model`.

    >>> init_cell_model(jax.random.key(0), 3, 4, 2, num_layers=2)["cells"]["1"]["weight_ih"].shape
    (4, 4)
    """
    check_key(key)
    count = 1 if num_layers is None else num_layers
    check_positive(hidden_size=hidden_size, output_size=output_size, num_layers=count)
    keys = jax.random.split(key, 1 + count)
    head = {"fc": init_linear(keys[0], hidden_size, output_size, dtype=dtype)}
    widths = [input_size] + [hidden_size] * (count - 1)
    cells = {
        str(i): init_rnn_cell(key, width, hidden_size, dtype=dtype)
        for i, (key, width) in enumerate(zip(keys[1:], widths, strict=True))
    }
    return head | ({"rnn_cell": cells["0"]} if num_layers is None else {"cells": cells})


def cell_model(
    params: Mapping[str, Any], x: Float[ArrayLike, "B T I"], *, nonlinearity: str = "tanh"
) -> Float[Array, "B O"]:
    """Steps cells through time, then applies a linear layer: `RNNWithCell`, `MultiLayerRNNCell`.

    The texts' loop over time is `rnn`, with the cells as its layers.

    Args:
        params: `rnn_cell`, or `cells` with `0`, `1`, …, from the first layer on; and `fc`.
        x: the inputs.
        nonlinearity: `"tanh"` or `"relu"`.

    Raises:
        ValueError: `rnn_cell` and `cells` are both missing, or sizes do not fit.

    Source: two texts' classes of these names.

    >>> params = init_cell_model(jax.random.key(0), 3, 4, 2)
    >>> cell_model(params, jnp.ones((5, 6, 3))).shape
    (5, 2)
    """
    check_parts(params, "cells" if "cells" in params else "rnn_cell", "fc")
    cells = params.get("cells", {"0": params.get("rnn_cell")})
    check_parts(cells, *map(str, range(len(cells))), of="cells")
    for name, cell in cells.items():
        structure(cell, "rnn_cell") if isinstance(cell, Mapping) else check_parts(cell, of=name)
    layers = {f"{name}_l{i}": a for i, cell in cells.items() for name, a in cell.items()}
    _, h = rnn(layers, x, nonlinearity=nonlinearity, batch_first=True)
    return linear(params["fc"], h[-1])


def init_simple_rnn_cell(
    key: PRNGKeyArray, input_size: int, hidden_size: int, *, dtype: Any = float
) -> dict[str, Any]:
    """Returns parameters for `simple_rnn_cell`; each layer is distributed as `torch.nn.Linear`.

    Source: as for `simple_rnn_cell`.

    >>> init_simple_rnn_cell(jax.random.key(0), 3, 4)["W_xh"]["weight"].shape
    (4, 3)
    """
    check_key(key)
    check_positive(input_size=input_size, hidden_size=hidden_size)
    k_x, k_h = jax.random.split(key)
    return {
        "W_xh": init_linear(k_x, input_size, hidden_size, dtype=dtype),
        "W_hh": init_linear(k_h, hidden_size, hidden_size, dtype=dtype),
    }


def simple_rnn_cell(
    params: Mapping[str, Any], x: Float[ArrayLike, "B I"], h: Float[ArrayLike, "B H"] | None = None
) -> Float[Array, "B H"]:
    r"""Steps a cell made of two linear layers: `SimpleRNNCell`.

    .. math:: h' = \tanh(W_{xh} x + b_{xh} + W_{hh} h + b_{hh})

    It is `rnn_cell` with other names for its parameters.

    Args:
        params: `W_xh` and `W_hh`, each with `weight` and `bias`.
        x: one step.
        h: the state; zeros by default.

    Raises:
        ValueError, TypeError: as `rnn_cell`.

    Source: a text's class of that name; Elman, *Finding structure in time* (1990).

    >>> params = init_simple_rnn_cell(jax.random.key(0), 3, 4)
    >>> simple_rnn_cell(params, jnp.ones((5, 3))).shape
    (5, 4)
    """
    check_parts(params, "W_xh", "W_hh")
    for name in ("W_xh", "W_hh"):
        check_parts(params[name], "weight", optional=["bias"], of=name)
    ends = {"W_xh": "_ih", "W_hh": "_hh"}
    cell = {part + ends[name]: a for name in ends for part, a in params[name].items()}
    return rnn_cell(cell, x, h)
