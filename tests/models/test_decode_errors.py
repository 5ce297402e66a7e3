"""Complaints about the arguments of decoding name the argument and what is wrong with it."""

import functools

import jax.numpy as jnp
import pytest
from decode_cases import LSTM, OPTIONS, SOURCE, draw
from helpers import assert_refused

from jaxrnn.models import beam_search, greedy


def without(*path):
    params = draw(LSTM)
    cut = lambda tree, name, *rest: (
        {**tree, name: cut(tree[name], *rest)}
        if rest
        else {key: value for key, value in tree.items() if key != name}
    )
    return cut(params, *path)


def fewer_rows():
    params = draw(LSTM)
    few = {"weight": params["decoder"]["embedding"]["weight"][:3]}
    return {**params, "decoder": {**params["decoder"], "embedding": few}}


# Wrong arguments, and the message for each.
ERRORS = {
    "sos-beyond": (ValueError, "`sos` must be one of the target's 4 tokens, got 4", {"sos": 4}),
    "sos-bool": (ValueError, "`sos` must be one of...got True", {"sos": True}),
    "eos-negative": (ValueError, "`eos` must be one of the target's 4 tokens, got -1", {"eos": -1}),
    "eos-word": (ValueError, "`eos` must be one of...got '<EOS>'", {"eos": "<EOS>"}),
    "steps-zero": (ValueError, "`max_length` must be a positive integer, got 0", {"max_length": 0}),
    "steps-float": (ValueError, "`max_length` must be...got 4.0", {"max_length": 4.0}),
    "beam-zero": (ValueError, "`beam_width` must be a positive integer, got 0", {"beam_width": 0}),
    "penalty-negative": (
        ValueError,
        "`length_penalty` must be a number, 0 or more, got -0.5",
        {"length_penalty": -0.5},
    ),
    "penalty-nan": (ValueError, "`length_penalty`...got nan", {"length_penalty": float("nan")}),
    "penalty-array": (ValueError, "`length_penalty`...got Array", {"length_penalty": jnp.ones(1)}),
    "penalty-word": (ValueError, "`length_penalty`...got 'mean'", {"length_penalty": "mean"}),
    "source-float": (TypeError, "`source` must be integers...float64", {"source": SOURCE / 2}),
    "source-rank": (
        ValueError,
        "`source` must have the shape (batch, time), got (6,)",
        {"source": SOURCE[0]},
    ),
    "source-beyond": (
        ValueError,
        "`source` must lie in [0, 9)...got 10: is the vocabulary another",
        {"source": SOURCE + 2},
    ),
    "lengths-shape": (ValueError, "`lengths` must have the shape (4,)", {"lengths": [1, 2]}),
    "lengths-beyond": (
        ValueError,
        "`lengths` must lie between 0 and the 6 time steps...got 7",
        {"lengths": [7, 1, 1, 1]},
    ),
    "params-decoder": (
        ValueError,
        "`params` must have `encoder` and `decoder`, got fc",
        {"params": {"fc": {}}},
    ),
    "params-list": (TypeError, "`params` must be a dict...got list", {"params": [1]}),
    "params-fc": (
        ValueError,
        "the model's `decoder` must have `embedding` and `fc`, got attention, embedding, lstm",
        {"params": without("decoder", "fc")},
    ),
    "params-weight": (
        ValueError,
        "must have `weight`",
        {"params": without("decoder", "fc", "weight")},
    ),
    "params-source": (
        ValueError,
        "must have `embedding`, got lstm",
        {"params": without("encoder", "embedding")},
    ),
    "params-layer": (
        ValueError,
        "must have one of `rnn`, `lstm` and `gru`",
        {"params": without("decoder", "lstm")},
    ),
    "params-attention": (
        ValueError,
        "the decoder's `lstm` takes 11 features, but the embedding has 3, and `memory` 4",
        {"params": {**without("encoder"), "encoder": draw(("lstm", None, False, 0))["encoder"]}},
    ),
    "params-rows": (
        ValueError,
        "the decoder's `fc` gives 4 tokens, but its `embedding` knows 3",
        {"params": fewer_rows()},
    ),
}


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(("error", "message", "wrong"), ERRORS.values(), ids=ERRORS)
def test_raises(error, message, wrong):
    """By both searches, unless the argument is beam search's own."""
    options = {"params": draw(LSTM), "source": SOURCE} | OPTIONS | wrong
    if not wrong.keys() & {"beam_width", "length_penalty"}:
        assert_refused(functools.partial(greedy, **options), error, message)
    options = {"beam_width": 2} | options
    assert_refused(functools.partial(beam_search, **options), error, message)
