"""Fresh parameters: torch's default distribution, or initialisers of your choice."""

import functools
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, PRNGKeyArray

from ._check import check_dtype, check_key, check_padding_idx, check_positive, is_integer
from ._params import Structure, from_state_dict, to_state_dict


def init_lstm(
    key: PRNGKeyArray,
    input_size: int,
    hidden_size: int,
    *,
    num_layers: int = 1,
    bias: bool = True,
    bidirectional: bool = False,
    proj_size: int = 0,
    dtype: Any = float,
    weight_ih_init: Initializer | None = None,
    weight_hh_init: Initializer | None = None,
    bias_init: Initializer | None = None,
    forget_bias: float | None = None,
    layer_norm: bool = False,
) -> dict[str, Array]:
    r"""Parameters for `lstm`, distributed like those of a new `torch.nn.LSTM`.

    .. math:: W, b \sim U(-1 / \sqrt{H}, 1 / \sqrt{H})

    for all weights and biases, where H is `hidden_size`, with a projection too.

    Args:
        key: a `jax.random` key.
        input_size: features of `x`.
        hidden_size: features of the cell state.
        num_layers: layers on top of each other.
        bias: whether there are `bias_ih` and `bias_hh`.
        bidirectional: whether every layer also runs backwards.
        proj_size: features of `h`, if smaller than `hidden_size`; 0 for no projection.
        dtype: of the parameters; `float` is JAX's default, float32 unless x64 is on.
        weight_ih_init: an initialiser for every `weight_ih`, such as
            `jax.nn.initializers.glorot_uniform()`. As in torch's `nn.init`, it gets the stacked
            matrix of all gates, so Xavier's fan-out is 4H.
        weight_hh_init: an initialiser for every `weight_hh` and `weight_hr`, such as
            `jax.nn.initializers.orthogonal()`.
        bias_init: an initialiser for both biases, such as `jax.nn.initializers.zeros`.
        forget_bias: the sum of the forget gate's two biases: `bias_ih` gets it, `bias_hh` gets 0.
        layer_norm: whether the gate inputs and the cell's output are normalised; torch has no such
            LSTM, see `lstm_cell` for the equations. All gains, `weight_ln_ih` and so on, are 1; the
            biases are those of the norms, `bias_ln_ih` and so on, 0 by default.

    Returns:
        A dict under torch's names, like `torch.nn.LSTM(...).state_dict()`.

    Raises:
        ValueError: a size is not a positive integer, `proj_size` is not below `hidden_size`, or
            there is a `forget_bias` without biases.
        TypeError: `key` is not a key, or `dtype` is not floating.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html; Glorot & Bengio
    (2010); Saxe et al. (2014) for orthogonal; Jozefowicz et al. (2015) for a forget bias of 1.

    >>> params = init_lstm(jax.random.key(0), 10, 20, bias=False)
    >>> {name: value.shape for name, value in params.items()}
    {'weight_ih_l0': (80, 10), 'weight_hh_l0': (80, 20)}
    """
    s = Structure("lstm", input_size, hidden_size, num_layers, bias, bidirectional)
    s = s._replace(proj_size=proj_size, layer_norm=layer_norm)
    return draw_params(key, s, dtype, weight_ih_init, weight_hh_init, bias_init, forget_bias)


def init_rnn(
    key: PRNGKeyArray,
    input_size: int,
    hidden_size: int,
    *,
    num_layers: int = 1,
    bias: bool = True,
    bidirectional: bool = False,
    dtype: Any = float,
    weight_ih_init: Initializer | None = None,
    weight_hh_init: Initializer | None = None,
    bias_init: Initializer | None = None,
) -> dict[str, Array]:
    """Parameters for `rnn`, distributed like those of a new `torch.nn.RNN`; see `init_lstm`.

    >>> init_rnn(jax.random.key(0), 10, 20)["weight_hh_l0"].shape
    (20, 20)
    """
    s = Structure("rnn", input_size, hidden_size, num_layers, bias, bidirectional)
    return draw_params(key, s, dtype, weight_ih_init, weight_hh_init, bias_init)


def init_gru(
    key: PRNGKeyArray,
    input_size: int,
    hidden_size: int,
    *,
    num_layers: int = 1,
    bias: bool = True,
    bidirectional: bool = False,
    dtype: Any = float,
    weight_ih_init: Initializer | None = None,
    weight_hh_init: Initializer | None = None,
    bias_init: Initializer | None = None,
) -> dict[str, Array]:
    """Parameters for `gru`, distributed like those of a new `torch.nn.GRU`; see `init_lstm`.

    >>> init_gru(jax.random.key(0), 10, 20)["weight_hh_l0"].shape
    (60, 20)
    """
    s = Structure("gru", input_size, hidden_size, num_layers, bias, bidirectional)
    return draw_params(key, s, dtype, weight_ih_init, weight_hh_init, bias_init)


def init_of(kind: str) -> Callable[..., dict[str, Any]]:
    """Returns the function that makes parameters for layers of this kind."""
    inits = {"rnn": init_rnn, "lstm": init_lstm, "gru": init_gru}
    if kind not in inits:
        raise ValueError(f"`kind` must be 'rnn', 'lstm' or 'gru', got {kind!r}")
    return inits[kind]


def init_lstm_cell(
    key: PRNGKeyArray,
    input_size: int,
    hidden_size: int,
    *,
    bias: bool = True,
    dtype: Any = float,
    weight_ih_init: Initializer | None = None,
    weight_hh_init: Initializer | None = None,
    bias_init: Initializer | None = None,
    forget_bias: float | None = None,
    layer_norm: bool = False,
) -> dict[str, Array]:
    """Parameters for `lstm_cell`, like those of a new `torch.nn.LSTMCell`; see `init_lstm`.

    >>> sorted(init_lstm_cell(jax.random.key(0), 10, 20))
    ['bias_hh', 'bias_ih', 'weight_hh', 'weight_ih']
    """
    s = Structure("lstm_cell", input_size, hidden_size, bias=bias, layer_norm=layer_norm)
    return draw_params(key, s, dtype, weight_ih_init, weight_hh_init, bias_init, forget_bias)


def init_rnn_cell(
    key: PRNGKeyArray,
    input_size: int,
    hidden_size: int,
    *,
    bias: bool = True,
    dtype: Any = float,
    weight_ih_init: Initializer | None = None,
    weight_hh_init: Initializer | None = None,
    bias_init: Initializer | None = None,
) -> dict[str, Array]:
    """Parameters for `rnn_cell`, like those of a new `torch.nn.RNNCell`; see `init_lstm`.

    >>> init_rnn_cell(jax.random.key(0), 10, 20)["weight_ih"].shape
    (20, 10)
    """
    s = Structure("rnn_cell", input_size, hidden_size, bias=bias)
    return draw_params(key, s, dtype, weight_ih_init, weight_hh_init, bias_init)


def init_gru_cell(
    key: PRNGKeyArray,
    input_size: int,
    hidden_size: int,
    *,
    bias: bool = True,
    dtype: Any = float,
    weight_ih_init: Initializer | None = None,
    weight_hh_init: Initializer | None = None,
    bias_init: Initializer | None = None,
) -> dict[str, Array]:
    """Parameters for `gru_cell`, like those of a new `torch.nn.GRUCell`; see `init_lstm`.

    >>> init_gru_cell(jax.random.key(0), 10, 20)["weight_ih"].shape
    (60, 10)
    """
    s = Structure("gru_cell", input_size, hidden_size, bias=bias)
    return draw_params(key, s, dtype, weight_ih_init, weight_hh_init, bias_init)


def draw_params(
    key: PRNGKeyArray,
    s: Structure,
    dtype: Any,
    weight_ih: Initializer | None = None,
    weight_hh: Initializer | None = None,
    bias: Initializer | None = None,
    forget_bias: float | None = None,
) -> dict[str, Array]:
    """Parameters of this structure, which all of the above return."""
    check_key(key)
    check_dtype("dtype", dtype, jnp.floating, "floating")
    check_positive(input_size=s.input_size, hidden_size=s.hidden_size, num_layers=s.num_layers)
    if not is_integer(s.proj_size) or not 0 <= s.proj_size < s.hidden_size:
        raise ValueError(
            f"`proj_size` must be 0 or a positive integer below hidden_size = {s.hidden_size}, "
            f"got {s.proj_size!r}"
        )
    chosen = {"weight_ih": weight_ih, "weight_hh": weight_hh, "weight_hr": weight_hh}
    if s.layer_norm:
        chosen["weight_ln"], bias = jax.nn.initializers.ones, bias or jax.nn.initializers.zeros
    inits = {name: chosen.get(name[:9], bias) for name in s.shapes}
    k_uniform, k_chosen = jax.random.split(key)
    shapes = {name: shape for name, shape in s.shapes.items() if inits[name] is None}
    drawn = _uniform(k_uniform, tuple(shapes.values()), s.hidden_size**-0.5, dtype)
    params = dict(zip(shapes, drawn, strict=True))
    for i, (name, init) in enumerate(inits.items()):
        if init is not None:
            params[name] = init(jax.random.fold_in(k_chosen, i), s.shapes[name], dtype)
    params = {name: params[name] for name in s.shapes}
    return params if forget_bias is None else _with_forget_bias(params, s, forget_bias)


@functools.partial(jax.jit, static_argnames=("shapes", "bound", "dtype"))
def _uniform(
    key: PRNGKeyArray, shapes: tuple[tuple[int, ...], ...], bound: float, dtype: Any
) -> list[Array]:
    """All of a layer in one draw, because XLA takes a quarter of a second to compile each."""
    ends = list(itertools.accumulate(map(math.prod, shapes), initial=0))
    values = jax.random.uniform(key, ends[-1:], dtype, -bound, bound)
    parts = jnp.split(values, ends[1:-1]) if shapes else []
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _with_forget_bias(params: dict[str, Array], s: Structure, value: float) -> dict[str, Array]:
    if not s.bias:
        raise ValueError("`forget_bias` needs biases, but bias=False was given")
    forget, values = slice(s.hidden_size, 2 * s.hidden_size), {"bias_ih": value, "bias_hh": 0.0}
    for name, a in params.items():
        if (end := name.replace("_ln", "")[:7]) in values:
            params[name] = a.at[forget].set(values[end])
    return params


def reinitialise(
    key: PRNGKeyArray,
    params: Mapping[str, Any],
    *,
    weight_init: Initializer | None = None,
    bias_init: Initializer | None = None,
) -> dict[str, Any]:
    """Draws every weight of a whole model from one initialiser, every bias from another.

    Many torch scripts do so in a loop over `named_parameters()`, for Xavier's weights and zeros.

    Args:
        key: a `jax.random` key.
        params: a model's parameters; those called `weight…` and `bias…` are drawn anew, with the
            same shape and dtype.
        weight_init: such as `jax.nn.initializers.glorot_uniform()`; None leaves weights as they
            are. It gets the stacked matrix of all gates, as in torch, and embeddings too.
        bias_init: such as `jax.nn.initializers.zeros`; None leaves biases as they are.

    Raises:
        TypeError: `key` is not a key, or `params` is not a dict.

    Source: https://docs.pytorch.org/docs/stable/nn.init.html

    >>> zeros = reinitialise(jax.random.key(0), init_gru(jax.random.key(0), 1, 1),
    ...                      bias_init=jax.nn.initializers.zeros)
    >>> zeros["bias_ih_l0"]
    Array([0., 0., 0.], dtype=float32)
    """
    check_key(key)
    flat = to_state_dict(params)
    inits = {"weight": weight_init, "bias": bias_init}
    keys = iter(jax.random.split(key, len(flat)))
    for name, value in flat.items():
        init = inits.get(name.rpartition(".")[2].partition("_")[0])
        flat[name] = value if init is None else init(next(keys), value.shape, value.dtype)
    return from_state_dict(flat)


def init_linear(
    key: PRNGKeyArray,
    in_features: int,
    out_features: int,
    *,
    bias: bool = True,
    dtype: Any = float,
) -> dict[str, Array]:
    r"""Parameters for `linear`, distributed like those of a new `torch.nn.Linear`.

    .. math:: W, b \sim U(-1 / \sqrt{I}, 1 / \sqrt{I})

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html

    >>> {name: value.shape for name, value in init_linear(jax.random.key(0), 10, 2).items()}
    {'weight': (2, 10), 'bias': (2,)}
    """
    check_key(key)
    check_positive(in_features=in_features, out_features=out_features)
    check_dtype("dtype", dtype, jnp.floating, "floating")
    shapes = {"weight": (out_features, in_features)} | ({"bias": (out_features,)} if bias else {})
    drawn = _uniform(key, tuple(shapes.values()), in_features**-0.5, dtype)
    return dict(zip(shapes, drawn, strict=True))


def init_embedding(
    key: PRNGKeyArray,
    num_embeddings: int,
    embedding_dim: int,
    *,
    padding_idx: int | None = None,
    dtype: Any = float,
) -> dict[str, Array]:
    """Parameters for `embedding`, from N(0, 1), like those of a new `torch.nn.Embedding`.

    The row of `padding_idx` is 0.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.Embedding.html

    >>> init_embedding(jax.random.key(0), 3, 2, padding_idx=0)["weight"][0]
    Array([0., 0.], dtype=float32)
    """
    check_key(key)
    check_positive(num_embeddings=num_embeddings, embedding_dim=embedding_dim)
    check_dtype("dtype", dtype, jnp.floating, "floating")
    if padding_idx is not None:
        check_padding_idx(padding_idx, num_embeddings)
    weight = jax.random.normal(key, (num_embeddings, embedding_dim), dtype)
    return {"weight": weight if padding_idx is None else weight.at[padding_idx].set(0)}


def init_layer_norm(normalized_shape: int, *, dtype: Any = float) -> dict[str, Array]:
    """Parameters for `layer_norm`: gains of 1, biases of 0.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LayerNorm.html

    >>> init_layer_norm(2)["weight"]
    Array([1., 1.], dtype=float32)
    """
    check_positive(normalized_shape=normalized_shape)
    check_dtype("dtype", dtype, jnp.floating, "floating")
    return {"weight": jnp.ones(normalized_shape, dtype), "bias": jnp.zeros(normalized_shape, dtype)}
