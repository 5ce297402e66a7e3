"""What ports do otherwise than torch: each convention as a change to the right computation.

Ordered from the usual to the rare, for where two explain the same numbers the first is named first.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from .cases import Case
from .tensors import GATES
from .truth import Leaves, anp
from .variants import How, outputs


Run = Callable[..., Leaves]  # fields of `How` → the outputs of the same network


class Convention(NamedTuple):
    """A way to go wrong.

    Attributes:
        what: completes "the port …".
        slot: what it is about; of one slot a port can have one convention only.
        change: what to do about it.
        how: fields of `How` that differ.
        case: what the port takes the case for.
        leaves: how it reads the weights, `x` and initial states.
        results: what it makes of its outputs; may call `run` for those of another convention.
    """

    what: str
    slot: str
    change: str
    how: Mapping[str, Any] = MappingProxyType({})
    case: Callable[[Case], Case] = lambda case: case
    leaves: Callable[[Leaves], Leaves] = lambda leaves: leaves
    results: Callable[[Leaves, Run], Leaves] = lambda results, run: results


def predict(
    chosen: Sequence[Convention], case: Case, leaves: Leaves, masks: np.ndarray | None, **how: Any
) -> Leaves:
    """The outputs of a port that has these conventions, and is otherwise right."""
    taken = case
    for convention in chosen:
        taken, leaves = convention.case(taken), convention.leaves(leaves)
        how |= convention.how
    run = lambda **more: outputs(taken, leaves, masks, How(**(how | more)))
    results = run()
    for convention in chosen:
        results = convention.results(results, run)
    return results


def conventions(case: Case, masks: bool = False) -> list[Convention]:
    """Every one that means something for this case."""
    found = [*_orders(case), *_weights(case), *_cells(case)]
    if case.structure.bias:
        found += _biases(case)
    if case.state:
        found += _initial(case)
    found += [*_final(case), *_directions(case), *_layers(case)]
    if not case.cell:
        found += [*_layout(case), *_time(case), *_lengths(case), *_dropout(case, masks)]
    return found


def compatible(pair: Sequence[Convention]) -> bool:
    return len({convention.slot for convention in pair}) == len(pair)


# Changes to arrays by name.


def _on(names: Sequence[str], change: Callable[[Any], Any]) -> Callable[..., Leaves]:
    """Of the arrays of these names, as far as there are any, the changed ones in their place."""
    return lambda arrays, run=None: arrays | {n: change(arrays[n]) for n in names if n in arrays}


def _matrices(case: Case, kind: str) -> list[str]:
    return [f"{kind}{suffix}" for suffix in case.structure.suffixes]


INITIAL, FINAL = ("h_0", "c_0"), ("h_n", "c_n")


def _blocks(gates: int, change: Callable[[list[Any]], list[Any]]) -> Callable[[Any], Any]:
    return lambda a: anp.concatenate(change([*anp.split(a, gates)]))


# Weights.


def _orders(case: Case) -> Iterator[Convention]:
    names = GATES[case.structure.gates]
    rows = [name for name in case.structure.shapes if not name.startswith("weight_hr")]
    known = {"igfo": "haiku", "iofg": "ONNX", "zrn": "keras, ONNX"}
    for taken in sorted(itertools.permutations(range(len(names))), key=_moved):
        if list(taken) == sorted(taken):
            continue
        stands = "".join(names[int(k)] for k in np.argsort(taken))
        whose = f" ({known[stands]})" if stands in known else ""
        permute = [int(k) for k in np.argsort(taken)]
        yield Convention(
            f"takes the rows of the gates for {', '.join(stands)}{whose}; in torch they are "
            f"{', '.join(names)}",
            "order",
            "before you load a weight_ih, weight_hh or bias w: np.concatenate([np.split(w, "
            f"{len(names)})[k] for k in {tuple(permute)}])",
            leaves=_on(
                rows, _blocks(len(names), lambda parts, taken=taken: [parts[k] for k in taken])
            ),
        )


def _moved(permutation: tuple[int, ...]) -> int:
    """How many gates are out of place: orders with few of them come first."""
    return sum(k != i for i, k in enumerate(permutation))


def _weights(case: Case) -> Iterator[Convention]:
    s = case.structure
    for end in ("hh", "ih"):
        names = [f"weight_{end}{suffix}" for suffix in s.suffixes]
        for some in [names, *([name] for name in names if len(names) > 1)]:
            yield from _misread(case, end, some)
    yield Convention(
        "joins the weights as [hh, ih], but x and h as [x, h]",
        "hh",
        "joined as x and h are: np.hstack([weight_ih, weight_hh]) goes with [x, h]",
        leaves=lambda leaves: leaves | _joined(case, leaves),
    )
    if s.proj_size:
        names = [f"weight_hr{suffix}" for suffix in s.suffixes]
        yield Convention(
            "reshapes `weight_hr` where it should transpose it",
            "hr",
            "w.T, not w.reshape(w.shape[::-1])",
            leaves=_on(names, lambda a: anp.reshape(a, a.shape[::-1]).T),
        )


def _misread(case: Case, end: str, names: Sequence[str]) -> Iterator[Convention]:
    """What is done to all weights of a kind, or to a single one."""
    gates = case.structure.gates
    what = f"`weight_{end}`" if len(names) == len(case.structure.suffixes) else f"`{names[0]}`"
    shapes = [case.structure.shapes[name] for name in names]
    if all(rows == gates * columns for rows, columns in shapes):
        yield Convention(
            f"takes the block of each gate in {what} transposed",
            end,
            f"x @ w.T with torch's w: transpose {what} once, as a whole",
            leaves=_on(names, _blocks(gates, lambda parts: [part.T for part in parts])),
        )
    if gates > 1:
        yield Convention(
            f"reshapes {what} where it should transpose it",
            end,
            "w.T, not w.reshape(w.shape[::-1])",
            leaves=_on(names, lambda a: anp.reshape(a, a.shape[::-1]).T),
        )
    if case.cell and end == "hh":  # the same as an initial h of 0
        return
    yield Convention(
        f"leaves out {what}", end, "multiply x and h by their weights", leaves=_on(names, _zeros)
    )


def _zeros(a: Any) -> Any:
    return anp.zeros_like(a)


def _joined(case: Case, leaves: Leaves) -> Leaves:
    """Columns of each cell's two weights, as if both had been joined the other way round."""
    new: Leaves = {}
    for suffix in case.structure.suffixes:
        names = f"weight_ih{suffix}", f"weight_hh{suffix}"
        both = anp.concatenate([leaves[names[1]], leaves[names[0]]], 1)
        width = leaves[names[0]].shape[1]
        new |= {names[0]: both[:, :width], names[1]: both[:, width:]}
    return new


def _biases(case: Case) -> Iterator[Convention]:
    s = case.structure
    add = "add it to the gates" + ("; only r's and z's may be merged" if s.gates == 3 else "")
    for name in ("bias_hh", "bias_ih"):
        yield Convention(
            f"leaves out `{name}`", "bias", add, leaves=_on(_matrices(case, name), _zeros)
        )
    if s.gates == 3:
        n = slice(2 * s.hidden_size, None)
        inside = lambda ih, hh: (_with(ih, n, 0 * ih[n]), _with(hh, n, ih[n] + hh[n]))
        yield Convention(
            "has b_hn outside of the reset (both biases merged, perhaps)",
            "reset",
            "n = tanh(W_in x + b_in + r * (W_hn h + b_hn)): keep b_hn apart from b_in",
            {"reset": "product"},
        )
        yield Convention(
            "has b_in inside of the reset",
            "bias",
            "n = tanh(W_in x + b_in + r * (W_hn h + b_hn)): keep b_in outside",
            leaves=_biases_by(case, inside),
        )
    yield Convention(
        "leaves out both biases",
        "bias",
        add,
        leaves=_on(_matrices(case, "bias_ih") + _matrices(case, "bias_hh"), _zeros),
    )
    for used, unused in (("bias_ih", "bias_hh"), ("bias_hh", "bias_ih")):
        twice = lambda ih, hh, used=used: (ih, ih) if used == "bias_ih" else (hh, hh)
        yield Convention(
            f"uses `{used}` in the place of `{unused}` too",
            "bias",
            f"load `{unused}` under its own name",
            leaves=_biases_by(case, twice),
        )
    if len(s.suffixes) > 1:
        for suffix in s.suffixes:
            both = [f"bias_ih{suffix}", f"bias_hh{suffix}"]
            for names in ([both[0]], [both[1]], both):
                shown = " and ".join(f"`{name}`" for name in names)
                yield Convention(f"leaves out {shown}", "bias", add, leaves=_on(names, _zeros))


def _with(a: Any, at: slice, value: Any) -> Any:
    return anp.concatenate([a[: at.start], value])


def _biases_by(case: Case, change: Callable[[Any, Any], tuple[Any, Any]]) -> Any:
    def leaves(arrays: Leaves) -> Leaves:
        new = dict(arrays)
        for suffix in case.structure.suffixes:
            names = f"bias_ih{suffix}", f"bias_hh{suffix}"
            new |= dict(zip(names, change(*(arrays[name] for name in names)), strict=True))
        return new

    return leaves


# One step.


def _cells(case: Case) -> Iterator[Convention]:
    s = case.structure
    if s.gates == 1:
        for name in ("relu", "tanh", "identity", "sigmoid", "hard tanh"):
            if name != case.nonlinearity:
                yield Convention(
                    f"has {name} for {case.nonlinearity}",
                    "candidate",
                    f"h' = {case.nonlinearity}(…); torch has tanh and relu, by nonlinearity=",
                    {"candidate": name},
                )
        return
    if s.gates == 3:
        yield Convention(
            "resets h before the product with W_hn (keras' reset_after=False, haiku, ONNX)",
            "reset",
            "n = tanh(W_in x + b_in + r * (W_hn h + b_hn)); no weights make up for it",
            {"reset": "before"},
        )
        yield Convention(
            "swaps the roles of z and 1 - z (haiku): h' = (1 - z) h + z n",
            "update",
            "h' = (1 - z) n + z h; or negate the rows of z in every weight and bias",
            {"update": "takes"},
        )
    if s.gates == 4:
        yield Convention(
            "adds 1 to the forget gate (haiku; keras has that in fresh biases only)",
            "forget",
            "nothing is added in torch"
            + ("; or subtract 1 from the rows of f in one of the biases" * s.bias),
            {"forget": 1.0},
        )
        for name in ("identity", "relu"):
            without = "does not squash c by tanh" if name == "identity" else "has relu(c) for tanh"
            yield Convention(without, "squash", "h' = o * tanh(c')", {"squash": name})
    for slope in ("0.2", "1/6"):
        yield Convention(
            f"has a hard sigmoid of slope {slope} (keras' hard_sigmoid)",
            "sigmoid",
            "sigmoid(a) = 1 / (1 + exp(-a))",
            {"sigmoid": f"hard, slope {slope}"},
        )
    gate = "g" if s.gates == 4 else "n"
    for name in ("relu", "sigmoid", "identity", "hard tanh"):
        yield Convention(
            f"has {name} for tanh in {gate}", "candidate", f"{gate} = tanh(…)", {"candidate": name}
        )
    if s.gates == 4:
        yield Convention(
            "has relu for tanh, in g and for c",
            "candidate",
            "g = tanh(…), h' = o * tanh(c')",
            {"candidate": "relu", "squash": "relu"},
        )


# States.


def _turned(case: Case) -> tuple[list[int], list[int]]:
    """From torch's order of states (layer by layer) to direction by direction, and back."""
    s = case.structure
    index = np.arange(len(s.suffixes)).reshape(s.num_layers, s.num_directions)
    return index.T.ravel().tolist(), np.argsort(index.T.ravel()).tolist()


def _initial(case: Case) -> Iterator[Convention]:
    s, pass_ = case.structure, "pass the initial state on"
    lstm = s.gates == 4
    yield Convention(
        "ignores the initial state", "initial", pass_, leaves=_on(INITIAL, anp.zeros_like)
    )
    if lstm:
        yield Convention(
            "ignores the initial c", "initial", pass_, leaves=_on(["c_0"], anp.zeros_like)
        )
        yield Convention(
            "ignores the initial h", "initial", pass_, leaves=_on(["h_0"], anp.zeros_like)
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
            leaves=_on(INITIAL, lambda a: a[_turned(case)[1]]),
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
            leaves=_on(INITIAL, lambda a: _by_layer(case, a, slice(None, None, -1))),
        )
        yield Convention(
            "starts every layer from the first layer's initial state",
            "initial",
            "every layer has its own row of the initial state",
            leaves=_on(INITIAL, lambda a: _by_layer(case, a, [0] * s.num_layers)),
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
                leaves=_on(
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


def _by_layer(case: Case, a: Any, index: Any) -> Any:
    layers = anp.reshape(a, (case.structure.num_layers, -1, *a.shape[1:]))
    return anp.reshape(layers[index], a.shape)


def _final(case: Case) -> Iterator[Convention]:
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
            results=_on(FINAL, lambda a: a[_turned(case)[0]]),
        )
    if s.num_layers > 1:
        yield Convention(
            "returns the final states in the reverse order of the layers",
            "final",
            "the first layer's state comes first",
            results=_on(FINAL, lambda a: _by_layer(case, a, slice(None, None, -1))),
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
                results=_on(FINAL, change),
            )


def _last_of_y(case: Case, results: Leaves) -> Leaves:
    first = case.batch_first and case.batch is not None
    last = results["y"][:, -1] if first else results["y"][-1]
    directions = case.structure.num_directions
    halves = anp.stack(anp.split(last, directions, axis=-1))
    return results | {"h_n": anp.concatenate([results["h_n"][:-directions], halves])}


# Directions and layers.


def _directions(case: Case) -> Iterator[Convention]:
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
            results=_on(["y"], change),
        )


def _layers(case: Case) -> Iterator[Convention]:
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


# Time and batch.


def _time(case: Case) -> Iterator[Convention]:
    s = case.structure
    if s.gates == 4 and not s.proj_size:
        yield Convention("returns c as y", "y", "y is h", {"emits": "c"})
    yield Convention(
        "returns in y the state before each step",
        "y",
        "y[t] is h after step t: in lax.scan, return the new state as the output",
        {"emits": "before"},
    )
    if s.bidirectional or case.lengths is not None:
        return
    axis = 1 if case.batch_first and case.batch is not None else 0
    flip = lambda a: anp.flip(a, axis)
    for end, results in (("", _on(["y"], flip)), (", and leaves y so", _on([], flip))):
        yield Convention(
            f"runs back through time{end}",
            "time",
            "from the first step to the last",
            leaves=_on(["x"], flip),
            results=results,
        )


def _layout(case: Case) -> Iterator[Convention]:
    if case.batch is None or case.lengths is not None:
        return
    first = case.batch_first
    turn = lambda a: anp.swapaxes(a, 0, 1)
    if not case.state or case.time == case.batch:
        yield Convention(
            f"takes x for {'(time, batch)' if first else '(batch, time)'}",
            "layout",
            f"x is {'(batch, time, features)' if first else '(time, batch, features)'}: "
            f"batch_first is {first}",
            case=lambda case: case._replace(time=case.batch, batch=case.time),
            leaves=_on(["x"], turn),
            results=_on(["y"], turn),
        )
    reshape = lambda a: turn(anp.reshape(a, (a.shape[1], a.shape[0], a.shape[2])))
    back = lambda a: anp.reshape(turn(a), a.shape)
    yield Convention(
        "reshapes x where it should swap its first two axes",
        "layout",
        "x.swapaxes(0, 1), not x.reshape",
        leaves=_on(["x"], reshape),
        results=_on(["y"], back),
    )
    yield Convention(
        f"returns y {'time' if first else 'batch'} first",
        "layout",
        f"y has x's layout: batch_first is {first}",
        results=_on(["y"], turn),
    )


def _lengths(case: Case) -> Iterator[Convention]:
    if case.lengths is None:
        return
    lengths, last = np.array(case.lengths), case.time
    to = lambda new: lambda case: case._replace(lengths=tuple(int(n) for n in new))
    own = "a sequence ends at its length: its state passes on, its outputs are 0"
    yield Convention("ignores the lengths", "lengths", own, {"padding": "run", "beyond": "state"})
    yield Convention("lets the state run through the padding", "lengths", own, {"padding": "run"})
    if case.structure.bidirectional:  # else this is the one before
        yield Convention(
            "returns the final states of the padding",
            "final",
            "h_n and c_n are after each sequence's own last step",
            results=lambda results, run: (
                results | {name: a for name, a in run(padding="run").items() if name in FINAL}
            ),
        )
    for what, by in (("long", 1), ("short", -1)):
        yield Convention(
            f"takes the lengths one too {what}",
            "lengths",
            "the last step of a sequence is t = length - 1",
            case=to((lengths + by).clip(0, last)),
        )
    yield Convention(
        "does not zero y beyond the lengths, where the last state stands",
        "beyond",
        "y is 0 there",
        {"beyond": "state"},
    )
    beyond = (np.arange(last)[:, None] >= lengths)[..., None]
    if case.batch is None:
        beyond = beyond[:, 0]
    elif case.batch_first:
        beyond = beyond.swapaxes(0, 1)
    yield Convention(
        "does not zero y beyond the lengths, where the state runs on",
        "beyond",
        "y is 0 there",
        results=lambda results, run: (
            results
            | {"y": anp.where(beyond, run(padding="run", beyond="state")["y"], results["y"])}
        ),
    )
    if case.batch is not None:
        yield from _sorting(case, np.argsort(-lengths, kind="stable"))


def _sorting(case: Case, order: np.ndarray) -> Iterator[Convention]:
    """`order`: as packing sorts the sequences, by falling length."""
    if np.array_equal(order, np.arange(len(order))):
        return
    rows = 0 if case.batch_first else 1
    back = "what was sorted by length has to be put back: index with argsort of the order"
    sort = lambda axis: lambda a: anp.swapaxes(anp.swapaxes(a, 0, axis)[order], 0, axis)
    yield Convention(
        "leaves the final states sorted by length", "final", back, results=_on(FINAL, sort(1))
    )
    both = lambda results, run: _on(["y"], sort(rows))(_on(FINAL, sort(1))(results))
    yield Convention("leaves y and states sorted by length", "final", back, results=both)
    if case.state:
        unsort = lambda a: a[:, np.argsort(order)]
        yield Convention(
            "sorts the sequences, but not their initial states",
            "initial",
            "sort the initial states along with x",
            leaves=_on(INITIAL, unsort),
        )


def _dropout(case: Case, masks: bool) -> Iterator[Convention]:
    if not case.dropout or case.structure.num_layers == 1:
        return
    kept = 1 - case.dropout
    if not masks:  # in evaluation
        for what, factor in (("multiplies", kept), ("divides", 1 / kept if kept else 1.0)):
            yield Convention(
                f"{what} by 1 - p between the layers, though nothing is dropped",
                "dropout",
                "in evaluation dropout does nothing",
                {"between": factor},
            )
        return
    for what, factor in {
        "does not scale what dropout keeps": 1.0,
        "scales what dropout keeps by 1 - p": kept,
    }.items():
        yield Convention(what, "dropout", "what is kept is divided by 1 - p", {"scale": factor})
    yield Convention("drops nothing", "dropout", "apply the masks", {"masks": "none"})
    yield Convention(
        "takes the dropout masks in the reverse order of the layers",
        "dropout",
        "the mask after the first layer comes first",
        {"masks": "reversed"},
    )
