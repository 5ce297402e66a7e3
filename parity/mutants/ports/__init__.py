"""Ports as users write them, of layers of random sizes: wrong ones, and right ones.

`diagnose` must name what is wrong with `PORTS`, and must not accuse those that are `RIGHT`, though
they are written otherwise than torch's.
"""

import jax

from ...cases import GRU, LSTM
from ..plant import Mistake
from . import directions, precision, sequences, states, steps, weights
from .layer import GATED, GRADIENTS, PLAIN, STACKED, TWO, both, itself, planted


HAIKU = weights.gates(0, 2, 1, 3)
TWO_AT_ONCE = {
    "gates and bias": planted(
        "i, g, f, o (haiku), and leaves out `bias_hh`", both(HAIKU, weights.without("bias_hh"))
    ),
    "z r n and b_hn": planted(
        "z, r, n (keras, ONNX), and b_hn outside",
        both(steps.B_HN_OUTSIDE, weights.gates(1, 0, 2)),
        GATED,
    ),
    "transposed, states swapped": planted(
        "`weight_hh` transposed, and final state as (c, h)",
        both(states.SWAPPED_FINAL, weights.transposed("weight_hh")),
    ),
    "gates, state detached": planted(
        "i, g, f, o (haiku), and passes no gradient back from step to step",
        both(precision.DETACHED, HAIKU),
        GRADIENTS,
        "float64",
    ),
    "gates and TF32": planted("i, g, f, o (haiku), and TF32", both(precision.TF32, HAIKU)),
}
SUBJECTS = (weights, steps, states, directions, sequences, precision)
PORTS: dict[str, Mistake] = {
    name: mistake for subject in SUBJECTS for name, mistake in subject.PORTS.items()
} | TWO_AT_ONCE

GRU_BY_HAND = steps.gru(lambda r, a, b_in, b, b_hn: a + b_in + r * (b + b_hn))
THERE_AND_BACK = both(weights.gates(0, 2, 3, 1), weights.gates(0, 3, 1, 2))
PROJECTED = GRADIENTS._replace(structure=LSTM._replace(proj_size=2), batch_first=True)
CELL = GRADIENTS._replace(structure=GRU._replace(kind="gru_cell"))
RIGHT: dict[str, Mistake] = {
    "LSTM by hand": planted("", steps.lstm()),
    "LSTM by hand, gradients": planted("", steps.lstm(), GRADIENTS, "float64"),
    "GRU by hand": planted("", GRU_BY_HAND, GATED),
    "gates there and back": planted("", THERE_AND_BACK, STACKED._replace(lengths=())),
    "RNN relu": planted("", steps.rnn(jax.nn.relu), PLAIN._replace(nonlinearity="relu")),
    "projected": planted("", itself, PROJECTED),
    "a cell": planted("", itself, CELL),
    "dropout": planted("", itself, TWO._replace(dropout=0.3, lengths=())),
    "in bfloat16": planted("", itself, dtype="bfloat16"),
}
