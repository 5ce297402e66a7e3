"""The case table: which layers, on which shapes, with which options. Data only.

Sizes are pairwise different, so that no transposition goes unseen, and small, so that compiling is
nearly all the time it takes. Cases that differ only in values (lengths, gain, cotangents) share one
compiled program.
"""

import itertools
import math
from typing import NamedTuple

from jaxrnn import Structure


class Case(NamedTuple):
    """One configuration; `structure` holds what the parameters say, the rest what they do not."""

    group: str
    structure: Structure
    nonlinearity: str = "tanh"
    time: int = 6
    batch: int | None = 8  # None: unbatched
    batch_first: bool = False
    state: bool = True  # whether an initial state is given
    lengths: tuple[int, ...] | None = None
    padding: float = math.nan  # what stands in `x` beyond the lengths
    dropout: float = 0.0
    gain: float = 1.0  # factor on all weights: 30 saturates every gate
    input_scale: float = 1.0
    cotangents: tuple[str, ...] = ("y", "h_n", "c_n")
    second_order: bool = False
    dtypes: tuple[str, ...] = ("float64", "float32")

    @property
    def cell(self) -> bool:
        return self.structure.kind.endswith("_cell")

    @property
    def name(self) -> str:
        """The group, the structure, and every option that is not the default."""
        s = self.structure
        sizes = [f"{s.num_layers}x", f"{s.input_size}-{s.hidden_size}"]
        flags = {
            "relu": self.nonlinearity == "relu",
            f"proj{s.proj_size}": s.proj_size,
            "bi": s.bidirectional,
            "nobias": not s.bias,
        }
        words = [s.kind, "".join(sizes[self.cell :]), *(word for word, on in flags.items() if on)]
        for field, default in Case._field_defaults.items():
            value = getattr(self, field)
            if field in ("nonlinearity", "second_order", "dtypes") or repr(value) == repr(default):
                continue
            if isinstance(value, tuple):
                value = ",".join(str(item) for item in value)
            words.append(f"{field}={value}")
        return f"{self.group}/{'-'.join(words[:2])}" + "".join(f" {word}" for word in words[2:])

    @property
    def program(self) -> "Case":
        """The case without what is data: all cases with the same one share a compiled program."""
        lengths = None if self.lengths is None else ()
        return self._replace(
            group="",
            lengths=lengths,
            padding=0.0,
            gain=1.0,
            input_scale=1.0,
            cotangents=(),
            dtypes=(),
        )


I, H, P = 7, 5, 3
RNN, GRU, LSTM = (Structure(kind, I, H) for kind in ("rnn", "gru", "lstm"))
PROJECTED = LSTM._replace(proj_size=P)
VARIANTS = [(RNN, "tanh"), (RNN, "relu"), (LSTM, "tanh"), (PROJECTED, "tanh"), (GRU, "tanh")]
CELLS = [(s._replace(kind=s.kind + "_cell"), f) for s, f in VARIANTS if not s.proj_size]
TWO_DTYPES = ("float64", "float32")
ALL_DTYPES = (*TWO_DTYPES, "bfloat16")
RAGGED = (3, 6, 1, 5, 2, 6, 4, 1)


def table() -> list[Case]:
    """Every case, in the order in which they run."""
    return [*_layers(), *_layouts(), *_lengths(), *_dropout(), *_cells(), *_edges()]


def _layers() -> list[Case]:
    one = itertools.product(VARIANTS, (1,), (False, True), (True, False))
    two = itertools.product(VARIANTS, (2,), (True,), (True, False))
    return [
        Case(
            "layers",
            s._replace(num_layers=layers, bidirectional=both, bias=bias),
            f,
            second_order=layers == 1 and both and bias,
            dtypes=ALL_DTYPES if layers == 2 and bias else TWO_DTYPES,
        )
        for (s, f), layers, both, bias in itertools.chain(one, two)
    ]


def _layouts() -> list[Case]:
    options = [
        {"batch_first": True, "state": False},
        {"batch_first": True},
        {"batch": None},
        {"batch": None, "batch_first": True, "state": False},
        {"batch": None, "state": False, "lengths": (4,)},
    ]
    return [
        Case("layouts", s._replace(bidirectional=True), f, **option)
        for (s, f), option in itertools.product(VARIANTS, options)
    ]


def _lengths() -> list[Case]:
    patterns = {
        RAGGED: math.nan,
        (0, 4, 0, 6, 1, 0, 3, 2): math.inf,  # with empty sequences
        (5, 5, 4, 3, 3, 2, 1, 1): -math.inf,  # sorted, none of them full
        (6,) * 8: math.nan,  # full
        (1,) * 8: 1e3,
        (0,) * 8: math.nan,  # nothing at all
    }
    crossed = itertools.product(VARIANTS, (False, True), patterns.items())
    cases = [
        Case(
            "lengths",
            s._replace(num_layers=1 + both, bidirectional=both),
            f,
            lengths=lengths,
            padding=padding,
            second_order=both,
            dtypes=ALL_DTYPES if both and lengths == RAGGED else TWO_DTYPES,
        )
        for (s, f), both, (lengths, padding) in crossed
    ]
    return cases + [
        Case("lengths", s, f, lengths=RAGGED, batch_first=True, state=False) for s, f in VARIANTS
    ]


def _dropout() -> list[Case]:
    three = [(s._replace(num_layers=3), f) for s, f in VARIANTS]
    return [
        *(Case("dropout", s, f, dropout=0.3) for s, f in three),
        *(Case("dropout", s, f, dropout=1.0) for s, f in three[::2]),
        *(
            Case(
                "dropout",
                s._replace(num_layers=2),
                f,
                dropout=0.6,
                lengths=RAGGED,
                batch_first=True,
            )
            for s, f in VARIANTS
        ),
    ]


def _cells() -> list[Case]:
    crossed = itertools.product(CELLS, (True, False), (True, False), (8, None))
    return [
        Case(
            "cells",
            s._replace(bias=bias),
            f,
            time=1,
            batch=batch,
            state=state,
            second_order=bias and state,
            dtypes=ALL_DTYPES if bias and state else TWO_DTYPES,
        )
        for (s, f), bias, state, batch in crossed
    ]


def _edges() -> list[Case]:
    cases = []
    for s, f in VARIANTS:
        cases += [
            Case("edges", s, f, time=1),
            Case("edges", s, f, batch=1),
            Case("edges", s, f, batch=4),  # as wide as a float64 vector; 8 is for float32
            Case("edges", s, f, batch=0),
            Case("edges", s, f, time=100),
        ]
        cases += [Case("cotangents", s, f, cotangents=(name,)) for name in ("y", "h_n")]
    cases += [Case("cotangents", s, cotangents=("c_n",)) for s in (LSTM, PROJECTED)]
    for s in (RNN, LSTM, GRU):
        cases.append(Case("edges", s._replace(hidden_size=1, input_size=2)))
        cases.append(Case("edges", s._replace(num_layers=3, bidirectional=True)))
    # Without bias, input or state, relu sees exactly 0, where its derivative is a convention.
    zero = RNN._replace(bias=False)
    cases.append(Case("edges", zero, "relu", state=False, input_scale=0.0))
    for s in (RNN, LSTM, PROJECTED, GRU):
        cases.append(Case("saturated", s, gain=30.0, input_scale=3.0))
    # With a recurrent gain this far above 1 neither framework keeps a digit to the end.
    cases.append(Case("chaotic", RNN._replace(hidden_size=32), time=100, batch=2, gain=4.0))
    return cases
