"""How ports lose gradients though their outputs are right."""

from collections.abc import Iterator, Sequence

from ...cases import Case
from .convention import Convention


def gradients(case: Case, zero: Sequence[str]) -> Iterator[Convention]:
    """`zero` names what the port has gradients of 0 for."""
    through = "no stop_gradient on what the loop carries; jax.checkpoint, where memory is short"
    states = ["hc", "h", "c"] if case.structure.gates == 4 else ["h"]
    for names in [] if case.cell else states:
        yield Convention(
            f"passes no gradient back from step to step through {' and '.join(names)}",
            "gradient",
            through,
            {"detached": names},
        )
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
