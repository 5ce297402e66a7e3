"""The parts around recurrent layers: embedding, linear, layer_norm, dropout and pooling."""

from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer, PRNGKeyArray

from ._cells import normalise, widen
from ._check import (
    Lengths,
    as_known,
    check_dropout,
    check_dtype,
    check_key,
    check_lengths,
    check_padding_idx,
    check_same_dtype,
    is_traced,
)
from ._dropout import draw, drop
from ._layers import gru, lstm, rnn
from ._params import structure


LAYERS = ("rnn", "lstm", "gru")  # the names under which a model has its recurrent layers
POOLS = ("last_step", "last_state", "max", "mean")


def linear(
    params: Mapping[str, ArrayLike], x: Float[ArrayLike, "*lead I"]
) -> Float[Array, "*lead O"]:
    r"""An affine map of the last axis: `torch.nn.Linear`.

    .. math:: y = W x + b

    Args:
        params: `weight` (O, I) and, unless `bias=False`, `bias` (O,).
        x: (…, I), of the parameters' dtype.

    Raises:
        ValueError: a key or shape does not fit.
        TypeError: dtypes are mixed.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html

    >>> linear({"weight": jnp.ones((1, 2)), "bias": jnp.ones(1)}, jnp.array([1.0, 2.0]))
    Array([4.], dtype=float32)
    """
    params, x = _arrays("linear", params, 2), jnp.asarray(x)
    _check_last_axis(params["weight"], x)
    return x @ params["weight"].T + params.get("bias", jnp.zeros((), x.dtype))


def embedding(
    params: Mapping[str, ArrayLike],
    ids: Integer[ArrayLike, "*lead"],
    *,
    padding_idx: int | None = None,
) -> Float[Array, "*lead E"]:
    """A row of `weight` for every id: `torch.nn.Embedding`.

    Args:
        params: `weight` (V, E).
        ids: integers in [0, V), of any shape. Traced ones outside that range give NaN.
        padding_idx: the id whose row gets no gradient; it is read like any other.

    Raises:
        ValueError: known ids are outside [0, V), or `params` are misshapen.
        TypeError: ids are not integers.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.Embedding.html

    >>> embedding({"weight": jnp.array([[0.0], [10.0]])}, jnp.array([1, 0, 1]))[:, 0]
    Array([10.,  0., 10.], dtype=float32)
    """
    weight = _arrays("embedding", params, 2)["weight"]
    ids = check_ids("ids", ids, len(weight))
    # Negative ids would count from the end, and those beyond int32 would wrap.
    inside = (ids >= 0) & (ids <= min(len(weight) - 1, jnp.iinfo(ids.dtype).max))
    ids = jnp.where(inside, ids.astype(jnp.int32), len(weight))
    taken = jnp.take(weight, ids, axis=0, mode="fill")
    if padding_idx is None:
        return taken
    check_padding_idx(padding_idx, len(weight))
    padding = (ids == padding_idx % len(weight))[..., None]
    return jnp.where(padding, jax.lax.stop_gradient(taken), taken)


def layer_norm(
    params: Mapping[str, ArrayLike], x: Float[ArrayLike, "*lead I"], *, eps: float = 1e-5
) -> Float[Array, "*lead I"]:
    r"""Normalises the last axis: `torch.nn.LayerNorm`.

    .. math:: y = \gamma \odot (x - \bar x) / \sqrt{\operatorname{var}(x) + \epsilon} + \beta

    The variance is the biased one.

    Args:
        params: `weight` γ and `bias` β, both (I,).
        x: (…, I), of the parameters' dtype.
        eps: torch's, 1e-5; flax has 1e-6.

    Raises:
        ValueError: a key or shape does not fit.
        TypeError: dtypes are mixed.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LayerNorm.html; Ba, Kiros &
    Hinton (2016), https://arxiv.org/abs/1607.06450.

    >>> layer_norm({"weight": jnp.ones(2), "bias": jnp.zeros(2)}, jnp.array([1.0, 3.0]), eps=0.0)
    Array([-1.,  1.], dtype=float32)
    """
    params, x = _arrays("layer_norm", params, 1), jnp.asarray(x)
    _check_last_axis(params["weight"], x)
    normal = normalise(widen(x), eps).astype(x.dtype)
    return normal * params["weight"] + params.get("bias", jnp.zeros((), x.dtype))


def dropout(
    x: Float[Array, "*shape"],
    rate: float,
    *,
    key: PRNGKeyArray | None = None,
    mask: Bool[ArrayLike, "*shape"] | None = None,
) -> Float[Array, "*shape"]:
    """Drops values and scales the survivors by 1 / (1 - rate): `torch.nn.Dropout`.

    Args:
        x: of any shape.
        rate: the probability of dropping.
        key: the mask is drawn from it; without `key` and `mask`, `x` is returned as it is.
        mask: True where a value is kept.

    Raises:
        ValueError: `rate` is not a number between 0 and 1, or `mask` is misshapen.
        TypeError: `key` is not a key, or `mask` is not boolean.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.Dropout.html

    >>> dropout(jnp.ones(2), 0.5, mask=jnp.array([True, False]))
    Array([2., 0.], dtype=float32)
    """
    check_dropout(rate)
    if mask is not None and rate == 0:
        raise ValueError("`mask` comes with the rate that it was drawn with, got a rate of 0")
    if mask is None:
        if key is None:
            return x
        check_key(key)
        mask = draw(key, rate, x.shape)
    mask = jnp.asarray(mask)
    check_dtype("mask", mask.dtype, jnp.bool_, "boolean, True where a value is kept")
    if mask.shape != x.shape:
        raise ValueError(f"`mask` must have the shape of `x`, {x.shape}, got {mask.shape}")
    return drop(x, mask, rate)


def recurrent(
    params: Mapping[str, Any],
    x: Float[ArrayLike, "B T I"],
    state: Any = None,
    *,
    nonlinearity: str = "tanh",
    **options: Any,
) -> tuple[Float[Array, "B T DP"], Any]:
    """Calls the layers that a model has under `rnn`, `lstm` or `gru`, batch first."""
    layers = recurrent_layers(params)
    kind = structure(layers).kind
    if kind == "rnn":
        options["nonlinearity"] = nonlinearity
    elif nonlinearity != "tanh":
        raise ValueError(f"`nonlinearity` is an option of `rnn`, but the model has `{kind}`")
    layer = {"rnn": rnn, "lstm": lstm, "gru": gru}[kind]
    return layer(layers, x, state, batch_first=True, **options)


def recurrent_layers(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Their parameters. Only shapes tell the kind: `rnn` is a common name for all of them."""
    check_parts(params)
    names = [name for name in LAYERS if name in params]
    if len(names) != 1:
        raise ValueError(
            f"`params` must have one of `rnn`, `lstm` and `gru`, got {', '.join(params) or 'none'}"
            ": is this the model's own dict? A layer under another name must be renamed"
        )
    return params[names[0]]


def pool(
    how: str, y: Float[Array, "B T DP"], state: Any, lengths: Lengths | None = None
) -> Float[Array, "B DP"]:
    """One vector for each sequence.

    `last_step` is y at the last step, where the backward half of a bidirectional layer has seen
    that one step only; `last_state` is the last layer's final h of every direction; `max` and
    `mean` run over time. With `lengths` all of them see valid steps only, and an empty sequence
    gives zeros (`last_state`: its initial state).
    """
    if how not in POOLS:
        raise ValueError(f"`pool` must be one of {', '.join(map(repr, POOLS))}, got {how!r}")
    if how == "last_state":
        h = state[0] if isinstance(state, tuple) else state
        return jnp.concatenate(list(h[-(y.shape[-1] // h.shape[-1]) :]), axis=-1)
    steps = y.shape[1]
    counts = jnp.full(len(y), steps) if lengths is None else check_lengths(lengths, y, True)
    if how == "last_step":
        last = jnp.maximum(counts, 1) - 1
        return jnp.take_along_axis(y, last[:, None, None], axis=1)[:, 0]
    valid = valid_steps(counts, steps)
    if how == "mean":
        total = jnp.where(valid[..., None], y, jnp.zeros_like(y)).sum(1)
        return total / jnp.maximum(counts, 1)[:, None].astype(y.dtype)
    # Like torch.max, the gradient goes to one step; that of jnp.max is shared out among ties.
    best = jnp.where(valid[..., None], y, jnp.full_like(y, -jnp.inf)).argmax(1, keepdims=True)
    return jnp.take_along_axis(y, best, axis=1)[:, 0]


def check_parts(params: Any, *wanted: str, optional: Collection[str] = (), of: str = "") -> None:
    """A model, or its part `of`, must be a dict with the parts wanted, if any, and no others."""
    name = f"the model's `{of}`" if of else "`params`"
    if not isinstance(params, Mapping):
        raise TypeError(f"{name} must be a dict of a model's parts, got {type(params).__name__}")
    missing = any(part not in params for part in wanted)
    if missing or (wanted and not set(params) <= {*wanted, *optional}):
        named = [f"`{part}`" for part in wanted]
        more = "".join(f", `{part}`" for part in optional)
        raise ValueError(
            f"{name} must have {' and '.join(named)}, got {', '.join(map(str, params)) or 'none'}"
            + (f" (there may be{more[1:]} besides)" if more else "")
            + ": pass this model's own dict, as from_state_dict gives it, its parts under these "
            "names, as in {'fc': params['out']}"
        )


def rows(part: Mapping[str, ArrayLike]) -> int:
    """The number of an embedding's ids, or of a linear layer's outputs."""
    check_parts(part, "weight", optional=["bias"])
    return len(jnp.asarray(part["weight"]))


def valid_steps(lengths: Integer[Array, "*B"], steps: int) -> Bool[Array, "*B T"]:
    """True before each sequence's end."""
    return jnp.arange(steps, dtype=lengths.dtype) < lengths[..., None]


def check_ids(name: str, ids: Any, vocabulary: int | None = None, ndim: int | None = None) -> Array:
    """Ids as an integer array; their values too, where they and the vocabulary are known."""
    ids = as_known(name, ids)
    check_dtype(name, ids.dtype, jnp.integer, "integers, the ids of tokens")
    if ndim is not None and ids.ndim != ndim:
        axes = {1: "(batch,)", 2: "(batch, time)"}[ndim]
        raise ValueError(f"`{name}` must have the shape {axes}, got {ids.shape}")
    known = vocabulary is not None and not is_traced(ids)
    if known and ids.size and not 0 <= ids.min() <= ids.max() < vocabulary:
        wrong = ids.min() if ids.min() < 0 else ids.max()
        raise ValueError(
            f"`{name}` must lie in [0, {vocabulary}), the rows of the embedding's `weight`, got "
            f"{wrong}: is the vocabulary another one?"
        )
    return jnp.asarray(ids)


def _arrays(name: str, params: Mapping[str, Any], ndim: int) -> dict[str, Array]:
    if not isinstance(params, Mapping) or "weight" not in params:
        got = type(params).__name__
        if isinstance(params, Mapping):
            got = f"one with {', '.join(map(repr, params)) or 'nothing'}"
        raise ValueError(
            f"`params` of `{name}` must be a dict with `weight`, got {got}: of a Sequential, pass "
            "the part, such as params['1']"
        )
    if unknown := set(params) - {"weight", "bias"}:
        raise ValueError(f"`params` of `{name}` have the unexpected key {unknown.pop()!r}")
    arrays = {name: jnp.asarray(value) for name, value in params.items()}
    weight, bias = arrays["weight"], arrays.get("bias")
    if bias is not None:
        check_same_dtype(f"`bias` of `{name}`", bias, "`weight`", weight)
    if weight.ndim != ndim or (bias is not None and bias.shape != weight.shape[:1]):
        shapes = {name: array.shape for name, array in arrays.items()}
        raise ValueError(f"`params` of `{name}` are misshapen: {shapes}")
    return arrays


def _check_last_axis(weight: Array, x: Array) -> None:
    if not x.ndim or x.shape[-1] != weight.shape[-1]:
        raise ValueError(
            f"`x` must have {weight.shape[-1]} features in its last axis, as `weight` "
            f"{weight.shape} expects, got shape {x.shape}"
        )
    check_same_dtype("`weight`", weight, "`x`", x)
