"""Trees of arrays: their leaves in words, where two differ, and the norm."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._cells import widen


Leaves = dict[str, list[Any]]


def describe(tree: Any) -> Leaves:
    """Returns the dtype and sizes of each leaf under its name, as JSON can hold them."""
    dtype = lambda a: a.dtype if hasattr(a, "dtype") else np.asarray(a).dtype
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): [str(dtype(a)), *np.shape(a)] for path, a in leaves}


def difference(leaves: Leaves, wanted: Leaves, *, sizes: bool = True) -> str | None:
    """Names the first leaf that differs; without `sizes`, only in dtype or number of axes."""
    for name in [*wanted, *leaves]:
        leaf = f"leaf {name}" if name else "it"
        if name not in leaves:
            return f"{leaf} is missing"
        if name not in wanted:
            return f"{leaf} is unexpected"
        (dtype, *shape), (wanted_dtype, *wanted_shape) = leaves[name], wanted[name]
        same = shape == wanted_shape if sizes else len(shape) == len(wanted_shape)
        if dtype != wanted_dtype or not same:
            expected = f"{wanted_dtype} {tuple(wanted_shape)}"
            return f"{leaf} is {dtype} {tuple(shape)}, not {expected}"
    return None


def norm(tree: Any) -> Float[Array, ""]:
    """Returns the Euclidean norm over all leaves, squared in float32 at least."""
    squares = [jnp.square(jnp.abs(widen(a))).sum() for a in jax.tree.leaves(tree)]
    widest = max((a.dtype for a in squares), key=lambda dtype: dtype.itemsize)
    return jnp.sqrt(jnp.stack([a.astype(widest) for a in squares]).sum())
