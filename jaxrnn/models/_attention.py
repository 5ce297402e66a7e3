"""Attention over an encoder's outputs: scores, a softmax without the padding, the context."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from .._check import check_same_dtype
from .._nn import check_parts, linear


class Memory(NamedTuple):
    """The `values` to attend to, the `keys` made from them, and which of them are `valid`.

    If `valid` is None, all are. Where it is false, `values` are 0.
    """

    values: Float[Array, "B S E"]
    keys: Float[Array, "B S A"]
    valid: Bool[Array, "B S"] | None


def memory(
    params: Mapping[str, Any],
    values: Float[ArrayLike, "B S E"],
    valid: Bool[ArrayLike, "B S"] | None = None,
) -> Memory:
    """Computes once what `attention` needs of an encoder's outputs, whatever the query.

    Args:
        params: as for `attention`.
        values: the encoder's outputs.
        valid: False where `values` are padding, whatever they hold there.

    Raises:
        ValueError: the parameters belong to none of the scores or do not fit, or `valid` is
            misshapen.

    Source: as for `attention`.
    """
    values = jnp.asarray(values)
    if valid is not None:
        valid = jnp.asarray(valid)
        if valid.shape != values.shape[:2] or valid.dtype != bool:
            raise ValueError(
                f"`valid` must be boolean of the shape {values.shape[:2]}, (batch, source steps), "
                f"got {valid.dtype} {valid.shape}"
            )
        values = jnp.where(valid[..., None], values, jnp.zeros_like(values))
    keys = values
    _check_score(params)
    if "attn" in params:
        keys = linear(_split(params, values.shape[-1])[1], values)
    return Memory(values, keys, valid)


def attention(
    params: Mapping[str, Any], query: Float[ArrayLike, "B Q"], memory: Memory
) -> tuple[Float[Array, "B E"], Float[Array, "B S"]]:
    r"""Returns the mean of the encoder's outputs e_s, weighted by how well each fits the query q.

    .. math::
        c = \sum_s a_s e_s, \qquad a = \operatorname{softmax}(\text{score}(q, e_s))

    over the valid source steps. The weight of padding is exactly 0; if all steps are padding, the
    context is 0 too. The parameters determine the score:

    ========  ================================  ================================================
    score     equation                          `params`
    ========  ================================  ================================================
    additive  v · tanh(W [q; e] + b)            `attn` with `weight` (A, Q + E) and `bias` (A,);
                                                `v` with `weight` (1, A)
    general   q · (W e + b)                     `attn` with `weight` (Q, E) and optionally `bias`
                                                (Q,)
    dot       q · e                             none: `{}`
    ========  ================================  ================================================

    Args:
        params: as above, under the names of the texts' `Attention` module.
        query: a decoder's hidden state.
        memory: from `memory(params, encoder_outputs)`, with the same `params`.

    Returns:
        `(context, weights)`.

    Raises:
        ValueError: the sizes of the parameters or the query do not fit.
        TypeError: dtypes are mixed, or `memory` is not a `Memory`.

    Source: Bahdanau, Cho & Bengio (2015), https://arxiv.org/abs/1409.0473, for the additive score;
    Luong, Pham & Manning (2015), https://arxiv.org/abs/1508.04025, for the others.

    >>> values = jnp.array([[[0.0, 1.0], [2.0, 0.0], [9.0, 9.0]]])
    >>> valid = jnp.array([[True, True, False]])
    >>> attention({}, jnp.zeros((1, 2)), memory({}, values, valid))
    (Array([[1. , 0.5]], dtype=float32), Array([[0.5, 0.5, 0. ]], dtype=float32))
    """
    _check_score(params)
    if not isinstance(memory, Memory):
        raise TypeError(
            f"`memory` must be a Memory, got {type(memory).__name__}: pass memory(params, "
            "outputs), of the same parameters"
        )
    query, query_part, size = jnp.asarray(query), {}, memory.keys.shape[-1]
    if "v" in params:
        query_part, _ = _split(params, memory.values.shape[-1])
        size = query_part["weight"].shape[-1]
    check_same_dtype("`query`", query, "the memory", memory.values)
    if query.shape != (len(memory.values), size):
        raise ValueError(
            f"`query` must have the shape {(len(memory.values), size)}, (batch, features), got "
            f"{query.shape}: a dot score needs a decoder as wide as the encoder's outputs, the "
            "others have a weight between them"
        )
    if query_part:
        energy = jnp.tanh(linear(query_part, query)[:, None] + memory.keys)
        scores = linear(params["v"], energy)[..., 0]
    else:
        scores = jnp.einsum("bq,bsq->bs", query, memory.keys)
    weights = _softmax(scores, memory.valid)
    return jnp.einsum("bs,bse->be", weights, memory.values), weights


def _check_score(params: Mapping[str, Any]) -> None:
    if not isinstance(params, Mapping) or set(params) not in (set(), {"attn"}, {"attn", "v"}):
        raise ValueError(
            "the parameters of attention must be `attn` and `v` (additive), `attn` (general) or "
            f"none (dot: an empty dict), got {params if params is None else ', '.join(params)}"
        )


def _split(
    params: Mapping[str, Any], values_size: int
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Splits W [q; e] + b, of an additive score, into linear layers of q (with the bias) and e.

    A general score has W e + b only, and no layer of q.
    """
    attn = params["attn"]
    check_parts(attn, "weight", optional=["bias"], of="attn")
    weight = jnp.asarray(attn["weight"])
    query_size = weight.shape[-1] - values_size
    if query_size < 0 or (query_size and "v" not in params):
        raise ValueError(
            f"`attn.weight` has shape {weight.shape}, but the encoder's outputs have {values_size} "
            "features: an additive score, which has `v`, takes the query's beside them, a general "
            "one takes them alone"
        )
    if "v" not in params:
        return {}, attn
    return {**attn, "weight": weight[:, :query_size]}, {"weight": weight[:, query_size:]}


def _softmax(scores: Array, valid: Array | None) -> Array:
    if valid is None:
        return jax.nn.softmax(scores, axis=-1)
    # A row without any valid step has no finite maximum, and no weights.
    scores = jnp.where(valid, scores, jnp.full_like(scores, -jnp.inf))
    some = valid.any(-1, keepdims=True)
    weights = jax.nn.softmax(jnp.where(some, scores, jnp.zeros_like(scores)), axis=-1)
    return jnp.where(valid, weights, jnp.zeros_like(weights))
