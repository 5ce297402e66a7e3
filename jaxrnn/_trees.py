"""Trees of arrays: where two differ, in words, and how large one is."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._cells import widen


Leaves = dict[str, list[Any]]


def describe(tree: Any) -> Leaves:
    """Under each leaf's name its dtype and sizes, as JSON can hold them."""
    dtype = lambda a: a.dtype if hasattr(a, "dtype") else np.asarray(a).dtype
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): [str(dtype(a)), *np.shape(a)] for path, a in leaves}


def difference(found: Leaves, wanted: Leaves, *, sizes: bool = True) -> str | None:
    """The first leaf that differs; without `sizes`, in its number of axes or dtype. Or None."""
    for name in [*wanted, *found]:
        leaf = f"leaf {name}" if name else "it"
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


def norm(tree: Any) -> Float[Array, ""]:
    """The Euclidean norm over all leaves, whose squares float16 could not hold."""
    squares = [jnp.square(jnp.abs(widen(a))).sum() for a in jax.tree.leaves(tree)]
    widest = max((a.dtype for a in squares), key=lambda dtype: dtype.itemsize)
    return jnp.sqrt(jnp.stack([a.astype(widest) for a in squares]).sum())
