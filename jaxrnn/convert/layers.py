"""A layer of cells, and the cells of a layer."""

from collections.abc import Mapping, Sequence
from typing import Any

from jax.typing import ArrayLike

from .._params import structure


def cells(params: Mapping[str, ArrayLike]) -> list[dict[str, Any]]:
    """The cells of a layer, under the names of torch's cells: layer by layer, forward, backward.

    Raises:
        ValueError, TypeError: `params` are not a layer's, as `jaxrnn.structure` says.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html, under Variables

    >>> import jax.numpy as jnp
    >>> ones = {"weight_ih": jnp.ones((3, 3)), "weight_hh": jnp.ones((3, 3))}
    >>> [list(cell) for cell in cells(stack([ones, ones]))]
    [['weight_ih', 'weight_hh'], ['weight_ih', 'weight_hh']]
    """
    s = structure(params)
    names = lambda suffix: [name for name in s.shapes if name.endswith(suffix)]
    return [{n.removesuffix(end): params[n] for n in names(end)} for end in s.suffixes]


def stack(
    cells: Sequence[Mapping[str, ArrayLike]], *, bidirectional: bool = False
) -> dict[str, Any]:
    """A layer of cells, for `jaxrnn.rnn`, `lstm` or `gru`; the inverse of `cells`.

    Args:
        cells: parameters of torch's cells, layer by layer.
        bidirectional: whether they come in pairs, forward and backward.

    Raises:
        ValueError: the cells do not fit on one another, or are not pairs.
        TypeError: `cells` is not a list.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html, under Variables

    >>> import jax.numpy as jnp
    >>> ones = {"weight_ih": jnp.ones((3, 3)), "weight_hh": jnp.ones((3, 3))}
    >>> list(stack([ones, ones], bidirectional=True))[2:]
    ['weight_ih_l0_reverse', 'weight_hh_l0_reverse']
    """
    check_list(cells)
    ways = ["", "_reverse"][: 1 + bidirectional]
    if not cells or len(cells) % len(ways):
        wanted = "pairs of cells, forward and backward" if bidirectional else "at least one cell"
        raise ValueError(f"`cells` must be {wanted}, got {len(cells)}")
    params = {
        f"{name}_l{k // len(ways)}{ways[k % len(ways)]}": value
        for k, cell in enumerate(cells)
        for name, value in cell.items()
    }
    structure(params)
    return params


def check_list(cells: Any) -> None:
    listed = isinstance(cells, Sequence)
    odd = [cell for cell in cells if not isinstance(cell, Mapping)] if listed else [cells]
    if odd:
        raise TypeError(
            "`cells` must be a list of cells' parameters, each of them a dict, got "
            f"{'one with a ' if listed else ''}{type(odd[0]).__name__}"
        )
