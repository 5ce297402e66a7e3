"""Losses of precision: float32 throughout, with how operands or states are rounded in it."""

from .convention import Convention, each


SLOT = "precision"
RETURN = "return the outputs in the dtype of x: is there an astype, or x64 off?"
HIGHEST = "jax.default_matmul_precision('highest')"
IN_FLOAT32 = Convention(
    "computes in float32 inside of float64",
    SLOT,
    "jax.config.update('jax_enable_x64', True), and no array of float32 on the way",
)
ROUNDED_STATE = Convention(
    "carries its state in bfloat16", SLOT, "carry h and c in float32", {"product": "state"}
)
ROUNDED = [
    *each(
        SLOT,
        f"{HIGHEST}, or precision= where a product is taken",
        "how",
        {
            "rounds the operands of products to TF32": {"product": "TF32"},
            "cuts the operands of products to TF32": {"product": "TF32, cut"},
        },
    ),
    Convention(
        "rounds the operands of products to bfloat16",
        SLOT,
        f"{HIGHEST}: bfloat16 is a TPU's default",
        {"product": "bfloat16"},
    ),
    ROUNDED_STATE,
]


def losses(dtype: str) -> list[Convention]:
    """Returns the precisions that are a loss for numbers of this dtype."""
    return {"float64": [IN_FLOAT32, *ROUNDED], "float32": ROUNDED}.get(dtype, [])


def returned(outputs: str) -> Convention:
    """`outputs`, which are right, and the dtype that they come back in."""
    return Convention(f"returns {outputs}", SLOT, RETURN)
