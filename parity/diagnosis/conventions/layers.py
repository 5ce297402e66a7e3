"""Conventions of directions and layers."""

import itertools
from collections.abc import Iterator

from ...backends.numpy import anp
from ...cases import Case
from .convention import Convention, each, on, taken


def directions(case: Case) -> Iterator[Convention]:
    if not case.structure.bidirectional:
        return
    ways = {
        "runs the backward direction forward": {"backward": "forward"},
        "does not reverse the backward direction's outputs again": {"backward": "unflipped"},
    }
    yield from each("backward", "reverse x for it, and reverse its outputs again", "how", ways)
    if case.lengths is not None:
        ways = {
            "starts the backward direction in the padding": {"backward": "padding first"},
            "counts the lengths of the backward direction from the end of the padding": {
                "backward": "flipped lengths"
            },
        }
        own_end = "it starts at each sequence's own end, with its initial state"
        yield from each("backward", own_end, "how", ways)
    forward = [name for name in case.structure.shapes if not name.endswith("_reverse")]
    of_backward = {name: name + "_reverse" for name in forward}
    of_forward = {name + "_reverse": name for name in forward}
    weights = {
        "has the weights of both directions swapped": taken(of_backward | of_forward),
        "uses the forward weights in both directions": taken(of_forward),
        "uses the backward weights in both directions": taken(of_backward),
    }
    names = "names with _reverse belong to the backward direction"
    yield from each("directions", names, "leaves", weights)
    half = lambda y: anp.split(y, 2, axis=-1)
    halves = {
        "returns y with the backward half first": lambda y: anp.concatenate(half(y)[::-1], -1),
        "adds both directions up": lambda y: sum(half(y)),
        "averages both directions": lambda y: sum(half(y)) / 2,
    }
    changes = {what: on(["y"], change) for what, change in halves.items()}
    yield from each("halves", "y is [forward, backward] along the features", "results", changes)


def layers(case: Case) -> Iterator[Convention]:
    s = case.structure
    if s.num_layers == 1:
        return
    layer_of = lambda name: name.partition("_l")[2].partition("_")[0]
    names = [[name for name in s.shapes if layer_of(name) == str(k)] for k in range(s.num_layers)]
    shapes = [[s.shapes[name] for name in of_layer] for of_layer in names]
    for k, l in itertools.combinations(range(s.num_layers), 2):
        if shapes[k] == shapes[l]:
            of_k = dict(zip(names[l], names[k], strict=True))
            of_l = dict(zip(names[k], names[l], strict=True))
            weights = {
                f"has the weights of layers {k} and {l} swapped": taken(of_l | of_k),
                f"uses layer {k}'s weights in layer {l} too": taken(of_k),
            }
            digits = "the digits of a name are its layer's number"
            yield from each("layers", digits, "leaves", weights)
    yield Convention(
        "returns the first layer's outputs as y", "y", "y is the last layer's", {"layer": 0}
    )
