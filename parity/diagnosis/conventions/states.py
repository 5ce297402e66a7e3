"""What ports make otherwise of initial and of final states."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...backends.numpy import Leaves, anp
from ...cases import Case
from .convention import FINAL, INITIAL, Convention, on


def initial(case: Case) -> Iterator[Convention]:
    s, pass_ = case.structure, "pass the initial state on"
    lstm = s.gates == 4
    yield Convention(
        "ignores the initial state", "initial", pass_, leaves=on(INITIAL, anp.zeros_like)
    )
    if lstm:
        yield Convention(
            "ignores the initial c", "initial", pass_, leaves=on(["c_0"], anp.zeros_like)
        )
        yield Convention(
            "ignores the initial h", "initial", pass_, leaves=on(["h_0"], anp.zeros_like)
        )
    if lstm and not s.proj_size:
        yield Convention(
            "takes the initial state for (c, h) (flax's carry)",
            "initial",
            "torch's state is (h, c)",
            leaves=lambda leaves: leaves | {"h_0": leaves["c_0"], "c_0": leaves["h_0"]},
        )
    if s.num_layers > 1 and s.bidirectional:
        yield Convention(
            "takes the initial states direction by direction",
            "initial",
            "torch's order is layer by layer: index = layer * 2 + direction",
            leaves=on(INITIAL, lambda a: a[_turned(case)[1]]),
        )
    if s.num_layers > 1:
        yield Convention(
            "starts each layer from the final state of the layer below",
            "initial",
            "every layer starts from its own row of the initial state",
            {"start": "below"},
        )
        yield Convention(
            "takes the initial states in the reverse order of the layers",
            "initial",
            "the first layer's state comes first",
            leaves=on(INITIAL, lambda a: _by_layer(case, a, slice(None, None, -1))),
        )
        yield Convention(
            "starts every layer from the first layer's initial state",
            "initial",
            "every layer has its own row of the initial state",
            leaves=on(INITIAL, lambda a: _by_layer(case, a, [0] * s.num_layers)),
        )
    if s.bidirectional:
        backward = slice(1, None, 2)
        for what, change in {
            "starts the backward direction from zeros": lambda a: 0 * a[backward],
            "starts the backward direction from the forward's initial state": lambda a: a[::2],
        }.items():
            yield Convention(
                what,
                "initial",
                "index of its state: layer * 2 + 1",
                leaves=on(
                    INITIAL,
                    lambda a, change=change: anp.reshape(
                        anp.stack([a[::2], change(a)], 1), a.shape
                    ),
                ),
            )
    if s.bidirectional and not case.cell:
        yield Convention(
            "starts the backward direction from the forward's final state",
            "initial",
            "the backward direction has an initial state of its own",
            {"start": "forward"},
        )


def final(case: Case) -> Iterator[Convention]:
    s = case.structure
    if s.gates == 4 and not s.proj_size:
        yield Convention(
            "returns the final state as (c, h) (flax's carry)",
            "final",
            "torch's state is (h, c)",
            results=lambda results, run: results | {"h_n": results["c_n"], "c_n": results["h_n"]},
        )
    if case.cell:
        return
    if s.num_layers > 1 and s.bidirectional:
        yield Convention(
            "returns the final states direction by direction",
            "final",
            "torch's order is layer by layer: index = layer * 2 + direction",
            results=on(FINAL, lambda a: a[_turned(case)[0]]),
        )
    if s.num_layers > 1:
        yield Convention(
            "returns the final states in the reverse order of the layers",
            "final",
            "the first layer's state comes first",
            results=on(FINAL, lambda a: _by_layer(case, a, slice(None, None, -1))),
        )
    yield Convention(
        "takes the last layer's h_n from the last step of y",
        "final",
        "each direction's h_n is after its own last step: of the backward one y[0], and with "
        "lengths each sequence's own end",
        results=lambda results, run: _last_of_y(case, results),
    )
    directions, batched = s.num_directions, case.batch is not None
    for what, change in {
        "returns the last layer's final state only": lambda a: a[-directions:],
        "returns the last row of the final states only": lambda a: a[-1:],
        "returns final states without the axis of layers and directions": lambda a: a[0],
        "returns final states batch first": lambda a: anp.swapaxes(a, 0, 1),
        "returns final states of both directions side by side": lambda a: anp.concatenate(
            [a[::2], a[1::2]], -1
        ),
    }.items():
        if (s.bidirectional or "both" not in what) and (batched or "batch" not in what):
            yield Convention(
                what,
                "final",
                "h_n is (num_layers * num_directions, batch, features), whatever batch_first",
                results=on(FINAL, change),
            )


def _turned(case: Case) -> tuple[list[int], list[int]]:
    """From torch's order of states (layer by layer) to direction by direction, and back."""
    s = case.structure
    index = np.arange(len(s.suffixes)).reshape(s.num_layers, s.num_directions)
    return index.T.ravel().tolist(), np.argsort(index.T.ravel()).tolist()


def _by_layer(case: Case, a: Any, index: Any) -> Any:
    layers = anp.reshape(a, (case.structure.num_layers, -1, *a.shape[1:]))
    return anp.reshape(layers[index], a.shape)


def _last_of_y(case: Case, results: Leaves) -> Leaves:
    first = case.batch_first and case.batch is not None
    last = results["y"][:, -1] if first else results["y"][-1]
    directions = case.structure.num_directions
    halves = anp.stack(anp.split(last, directions, axis=-1))
    return results | {"h_n": anp.concatenate([results["h_n"][:-directions], halves])}
