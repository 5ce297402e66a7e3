"""Where two trees of arrays differ, in words."""

from typing import Any

import jax
import numpy as np


Leaves = dict[str, list[Any]]


def describe(tree: Any) -> Leaves:
    """Under each leaf's name its dtype and sizes, as JSON can hold them."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): [str(a.dtype), *np.shape(a)] for path, a in leaves}


def difference(found: Leaves, wanted: Leaves, *, sizes: bool = True) -> str | None:
    """The first leaf that differs; without `sizes`, in its number of axes or dtype. Or None."""
    for name in [*wanted, *found]:
        leaf = name or "it"
        if name not in found:
            return f"{leaf} is missing"
        if name not in wanted:
            return f"{leaf} is unexpected"
        (dtype, *shape), (wanted_dtype, *wanted_shape) = found[name], wanted[name]
        same = shape == wanted_shape if sizes else len(shape) == len(wanted_shape)
        if dtype != wanted_dtype or not same:
            came, want = f"{dtype} {tuple(shape)}", f"{wanted_dtype} {tuple(wanted_shape)}"
            return f"{leaf} is {came}, not {want}"
    return None
