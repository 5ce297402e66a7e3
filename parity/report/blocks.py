"""The blocks of a verdict, as reports of every kind print and store them."""

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from ..criterion import Block


def worst_blocks(blocks: Iterable[Block]) -> dict[str, Block]:
    """Returns the block of each tensor that used most of its allowance."""
    worst: dict[str, Block] = {}
    for block in blocks:
        if block.tensor not in worst or block.used > worst[block.tensor].used:
            worst[block.tensor] = block
    return worst


def ratio(error: float, own: float, spec: str | None = None) -> str:
    """Formats JAX's error as a multiple of torch's own."""
    if not own:
        return "–" if error == 0 else "∞"
    spec = spec or (".1f" if error < 1000 * own else ".0e")
    return f"{error / own:{spec}}"


def text_table(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """Returns the lines of a table; columns are aligned to the left, those in `right` not."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    pad = lambda i, cell: cell.rjust(widths[i]) if i in right else cell.ljust(widths[i])
    return ["  ".join(pad(i, cell) for i, cell in enumerate(row)).rstrip() for row in rows]


def plain_block(block: Block) -> dict[str, Any]:
    """Returns the fields of a block for JSON."""
    return finite(block._asdict() | {"used": block.used})


def finite(values: dict[str, Any]) -> dict[str, Any]:
    """Replaces infinity and NaN, which JSON does not have, by None."""
    plain = lambda v: None if isinstance(v, float) and not math.isfinite(v) else v
    return {name: plain(v) for name, v in values.items()}
