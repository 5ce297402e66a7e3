"""Conventions that lose gradients, though the outputs are right."""

from collections.abc import Iterator, Sequence

from ...cases import Case
from .convention import Convention, each


def lost_gradients(case: Case, zero: Sequence[str]) -> Iterator[Convention]:
    """`zero` names the arrays that the port's gradients are 0 for."""
    states = ["hc", "h", "c"] if case.structure.gates == 4 else ["h"]
    ways = {
        f"passes no gradient back from step to step through {' and '.join(s)}": {"detached": s}
        for s in ([] if case.cell else states)
    }
    change = "no stop_gradient on what the loop carries; jax.checkpoint, where memory is short"
    yield from each("gradient", change, "how", ways)
    if case.nonlinearity == "relu":
        yield Convention(
            "has a derivative of 1/2 where relu's argument is 0 (jnp.maximum)",
            "gradient",
            "jax.nn.relu, whose derivative there is 0, as torch's",
            {"candidate": "maximum"},
        )
    if zero:
        yield Convention(
            f"passes no gradient back to {', '.join(f'`{name}`' for name in zero)}",
            "constant",
            "no stop_gradient on it, and no copy made outside of what is differentiated",
        )
