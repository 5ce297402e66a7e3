"""Laws of attention: the plain loop's weights and context, and no influence of the padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, assert_equal, score
from model_cases import BATCH, TIME, X

from jaxrnn.models import attention, memory


SCORES = {
    "additive": {"attn": {"weight": (6, 9), "bias": (6,)}, "v": {"weight": (1, 6)}},
    "general": {"attn": {"weight": (5, 4)}},
    "general biased": {"attn": {"weight": (5, 4), "bias": (5,)}},
    "dot": {},
}
every_score = pytest.mark.parametrize("name", SCORES)
VALID = np.arange(TIME) < np.array([3, 6, 0, 5, 1])[:, None]


def attend(name):
    """Parameters, a query and values."""
    draws = np.random.default_rng(1)
    shapes = lambda tree: (
        {key: shapes(value) for key, value in tree.items()}
        if isinstance(tree, dict)
        else jnp.array(draws.standard_normal(tree))
    )
    query = draws.standard_normal((BATCH, 4 if name == "dot" else 5))
    return shapes(SCORES[name]), jnp.array(query), jnp.array(X)


@every_score
def test_attention(name):
    """A plain loop; weights that sum to 1 and are 0 on padding; where all is padding, zeros."""
    params, query, values = attend(name)
    with jax.debug_nans(True):  # not even on the way
        context, weights = attention(params, query, memory(params, values, VALID))
    wanted_context, wanted = np.zeros((BATCH, 4)), np.zeros((BATCH, TIME))
    w = jax.tree.map(np.asarray, params)
    for b in range(BATCH):
        scores = []
        for e in np.asarray(values[b])[VALID[b]]:
            q = np.asarray(query[b])
            if "v" in w:
                energy = np.tanh(w["attn"]["weight"] @ np.concatenate([q, e]) + w["attn"]["bias"])
                scores.append(w["v"]["weight"][0] @ energy)
            else:
                key = w["attn"]["weight"] @ e + w["attn"].get("bias", 0) if w else e
                scores.append(q @ key)
        if scores:
            p = np.exp(scores) / np.exp(scores).sum()
            wanted[b, : len(p)], wanted_context[b] = p, p @ np.asarray(values[b])[VALID[b]]
    assert_close(np.asarray(weights), wanted)
    assert_close(np.asarray(context), wanted_context)
    assert np.all((np.asarray(weights) == 0) == ~VALID)
    full = VALID.all(1)
    _, plain = attention(params, query, memory(params, values))
    assert_close(plain[full], weights[full])
    assert_close(plain.sum(1), jnp.ones(BATCH))


@every_score
def test_attention_gradients(name):
    """Reach every parameter, the query and the valid values, and nothing that is padding; what
    stands there, NaN too, changes none of them.
    """
    leaves = attend(name)
    run = lambda params, query, values: score(
        attention(params, query, memory(params, values, VALID))
    )
    gradient = jax.jit(jax.grad(run, (0, 1, 2)))
    wanted = gradient(*leaves)
    params_bar, query_bar, values_bar = wanted
    for path, a in jax.tree_util.tree_leaves_with_path(params_bar):
        # A bias of the keys moves all scores of a query alike.
        shift = name == "general biased" and "bias" in jax.tree_util.keystr(path)
        assert np.all(np.isfinite(a))
        assert np.abs(a).max() < 1e-12 if shift else np.all(np.any(a, axis=-1))
    assert np.all(np.any(query_bar, axis=1) == (VALID.sum(1) > 1))
    assert np.all(np.any(values_bar, axis=2) == VALID)
    for content in np.nan, np.inf, 1e300:
        other = jnp.where(VALID[..., None], leaves[2], content)
        assert_equal(gradient(*leaves[:2], other), wanted)
