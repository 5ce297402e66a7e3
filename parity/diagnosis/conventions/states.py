"""Conventions of initial and of final states."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...backends.numpy import Leaves, anp
from ...cases import Case
from .convention import FINAL, INITIAL, Convention, each, on, taken


BY_LAYER = "torch's order is layer by layer: index = layer * 2 + direction"
FIRST_LAYER = "the first layer's state comes first"


def initial(case: Case) -> Iterator[Convention]:
    s, lstm = case.structure, case.structure.gates == 4
    of = lambda change, values: each("initial", change, "leaves", values)
    yield from of(
        "pass the initial state on",
        {
            f"ignores the initial {what}": on(names, anp.zeros_like)
            for what, names in {"state": INITIAL, "c": ["c_0"], "h": ["h_0"]}.items()
            if lstm or what == "state"
        },
    )
    if lstm and not s.proj_size:
        swapped = taken({"h_0": "c_0", "c_0": "h_0"})
        what = "takes the initial state for (c, h) (flax's carry)"
        yield from of("torch's state is (h, c)", {what: swapped})
    if s.num_layers > 1 and s.bidirectional:
        turned = on(INITIAL, lambda a: a[np.argsort(_turned(case))])
        yield from of(BY_LAYER, {"takes the initial states direction by direction": turned})
    if s.num_layers > 1:
        yield Convention(
            "starts each layer from the final state of the layer below",
            "initial",
            "every layer starts from its own row of the initial state",
            {"start": "below"},
        )
        reverse = on(INITIAL, lambda a: _by_layer(case, a, slice(None, None, -1)))
        first = on(INITIAL, lambda a: _by_layer(case, a, [0] * s.num_layers))
        what = "takes the initial states in the reverse order of the layers"
        yield from of(FIRST_LAYER, {what: reverse})
        what = "starts every layer from the first layer's initial state"
        yield from of("every layer has its own row of the initial state", {what: first})
    if s.bidirectional:
        both = lambda a, back: anp.reshape(anp.stack([a[::2], back], 1), a.shape)
        start = "starts the backward direction from"
        values = {
            f"{start} zeros": on(INITIAL, lambda a: both(a, 0 * a[1::2])),
            f"{start} the forward's initial state": on(INITIAL, lambda a: both(a, a[::2])),
        }
        yield from of("index of its state: layer * 2 + 1", values)
        yield Convention(
            f"{start} the forward's final state",
            "initial",
            "the backward direction has an initial state of its own",
            {"start": "forward"},
        )


def final(case: Case) -> Iterator[Convention]:
    s, directions = case.structure, case.structure.num_directions
    of = lambda change, values: each("final", change, "results", values)
    if s.gates == 4 and not s.proj_size:
        swapped = taken({"h_n": "c_n", "c_n": "h_n"})
        what = "returns the final state as (c, h) (flax's carry)"
        yield from of("torch's state is (h, c)", {what: swapped})
    if case.cell:
        return
    if s.num_layers > 1 and s.bidirectional:
        turned = on(FINAL, lambda a: a[_turned(case)])
        yield from of(BY_LAYER, {"returns the final states direction by direction": turned})
    if s.num_layers > 1:
        reverse = on(FINAL, lambda a: _by_layer(case, a, slice(None, None, -1)))
        what = "returns the final states in the reverse order of the layers"
        yield from of(FIRST_LAYER, {what: reverse})
    yield Convention(
        "takes the last layer's h_n from the last step of y",
        "final",
        "each direction's h_n is after its own last step: of the backward one y[0], and with "
        "lengths each sequence's own end",
        results=lambda results, run: _last_of_y(case, results),
    )
    shapes = {
        "returns the last layer's final state only": lambda a: a[-directions:],
        "returns the last row of the final states only": lambda a: a[-1:],
        "returns final states without the axis of layers and directions": lambda a: a[0],
    }
    if case.batch is not None:
        shapes["returns final states batch first"] = lambda a: anp.swapaxes(a, 0, 1)
    if s.bidirectional:
        aside = lambda a: anp.concatenate([a[::2], a[1::2]], -1)
        shapes["returns final states of both directions side by side"] = aside
    yield from of(
        "h_n is (num_layers * num_directions, batch, features), whatever batch_first",
        {what: on(FINAL, change) for what, change in shapes.items()},
    )


def _turned(case: Case) -> np.ndarray:
    """Returns the indices of torch's states in the order direction by direction."""
    s = case.structure
    return np.arange(len(s.suffixes)).reshape(s.num_layers, s.num_directions).T.ravel()


def _by_layer(case: Case, a: Any, index: Any) -> Any:
    layers = anp.reshape(a, (case.structure.num_layers, -1, *a.shape[1:]))
    return anp.reshape(layers[index], a.shape)


def _last_of_y(case: Case, results: Leaves) -> Leaves:
    first = case.batch_first and case.batch is not None
    last = results["y"][:, -1] if first else results["y"][-1]
    directions = case.structure.num_directions
    halves = anp.stack(anp.split(last, directions, axis=-1))
    return results | {"h_n": anp.concatenate([results["h_n"][:-directions], halves])}
