"""How ports mix up directions and layers."""

import itertools
from collections.abc import Iterator

from ...backends.numpy import anp
from ...cases import Case
from .convention import Convention, on


def directions(case: Case) -> Iterator[Convention]:
    if not case.structure.bidirectional:
        return
    flip = "reverse x for it, and reverse its outputs again"
    yield Convention(
        "runs the backward direction forward", "backward", flip, {"backward": "forward"}
    )
    yield Convention(
        "does not reverse the backward direction's outputs again",
        "backward",
        flip,
        {"backward": "unflipped"},
    )
    if case.lengths is not None:
        own = "it starts at each sequence's own end, with its initial state"
        yield Convention(
            "starts the backward direction in the padding",
            "backward",
            own,
            {"backward": "padding first"},
        )
        yield Convention(
            "counts the lengths of the backward direction from the end of the padding",
            "backward",
            own,
            {"backward": "flipped lengths"},
        )
    names = [name for name in case.structure.shapes if not name.endswith("_reverse")]
    swap = {name: name + "_reverse" for name in names}
    for what, taken in {
        "has the weights of both directions swapped": swap | {b: a for a, b in swap.items()},
        "uses the forward weights in both directions": {b: a for a, b in swap.items()},
        "uses the backward weights in both directions": swap,
    }.items():
        yield Convention(
            what,
            "directions",
            "names with _reverse belong to the backward direction",
            leaves=lambda leaves, taken=taken: leaves | {a: leaves[b] for a, b in taken.items()},
        )
    half = lambda y: anp.split(y, 2, axis=-1)
    for what, change in {
        "returns y with the backward half first": lambda y: anp.concatenate(half(y)[::-1], -1),
        "adds both directions up": lambda y: sum(half(y)),
        "averages both directions": lambda y: sum(half(y)) / 2,
    }.items():
        yield Convention(
            what,
            "halves",
            "y is [forward, backward] along the features",
            results=on(["y"], change),
        )


def layers(case: Case) -> Iterator[Convention]:
    s = case.structure
    if s.num_layers == 1:
        return
    alike = [
        [name for name in s.shapes if name.partition("_l")[2].partition("_")[0] == str(layer)]
        for layer in range(s.num_layers)
    ]
    shape = lambda names: [s.shapes[name] for name in names]
    for k, l in itertools.combinations(range(s.num_layers), 2):
        if shape(alike[k]) != shape(alike[l]):
            continue
        there = dict(zip(alike[k], alike[l], strict=True))
        for what, taken in {
            f"has the weights of layers {k} and {l} swapped": there
            | {b: a for a, b in there.items()},
            f"uses layer {k}'s weights in layer {l} too": {b: a for a, b in there.items()},
        }.items():
            yield Convention(
                what,
                "layers",
                "the digits of a name are its layer's number",
                leaves=lambda leaves, taken=taken: (
                    leaves | {a: leaves[b] for a, b in taken.items()}
                ),
            )
    yield Convention(
        "returns the first layer's outputs as y", "y", "y is the last layer's", {"layer": 0}
    )
