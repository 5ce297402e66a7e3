"""torch.nn.functional's losses: its names, options, values and gradients.

Below float32 they are computed in float32, and rounded once at the end. Import this module by name:
it needs optax, which the rest of jaxrnn does not.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Shaped

from ._cells import wide
from ._check import as_array, as_known, check_dtype, check_same_dtype, is_traced


def cross_entropy(
    logits: Float[ArrayLike, "..."],
    targets: Shaped[ArrayLike, "..."],
    *,
    weight: Float[ArrayLike, " C"] | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Float[Array, "..."]:
    r"""The negative log-likelihood of classes: `torch.nn.functional.cross_entropy`.

    .. math::
        q_{nc} &= (1 - \epsilon) [c = y_n] + \epsilon / C \\
        l_n &= -\sum_c w_c q_{nc} \log \mathrm{softmax}(x_n)_c \\
        \mathrm{mean} &= \sum_n l_n / \sum_n w_{y_n}

    The sums leave out the n whose y is `ignore_index`: their logits, even NaN, change neither value
    nor gradient (torch's gradient there is NaN). Without options it is
    `optax.softmax_cross_entropy_with_integer_labels`, which subtracts the logit from the logarithm
    of the sum and so loses digits where logits are large.

    Args:
        logits: x of shape (C,), (N, C) or (N, C, d1, …): classes on axis 1, as in torch.
        targets: y, integers of the shape (), (N,) or (N, d1, …); or floating probabilities with
            the shape of `logits`, which replace [c = y_n], and whose mean divides by N · d1 · ….
        weight: w, of shape (C,); 1 by default.
        ignore_index: the class of targets that do not count, such as padding.
        label_smoothing: ε, from 0 to 1.
        reduction: `"mean"`, `"sum"` or `"none"`.

    Returns:
        A scalar, or without reduction an array of the shape of the class targets. The mean of
        nothing is NaN, and its gradient is 0.

    Raises:
        ValueError: shapes do not fit, a target is out of range, or an option is unknown. A traced
            target out of range makes its loss and gradient NaN instead.
        TypeError: dtypes are mixed, or not numbers.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html;
    label smoothing: Szegedy et al. (2015), https://arxiv.org/abs/1512.00567.

    >>> cross_entropy(jnp.zeros((3, 4)), jnp.array([0, 3, -100]))
    Array(1.3862944, dtype=float32)
    """
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"`label_smoothing` must lie between 0 and 1, got {label_smoothing}")
    logits, weight = _floats(logits=logits, weight=weight)
    if logits.ndim == 0:
        raise ValueError("`logits` must have an axis of classes, got a scalar")
    axis = min(1, logits.ndim - 1)
    classes = logits.shape[axis]
    if weight.shape not in ((), (classes,)):
        raise ValueError(f"`weight` must have the shape {(classes,)}, got {weight.shape}")
    x = jnp.moveaxis(logits, axis, -1).astype(wide(logits.dtype))
    w = weight.astype(x.dtype)

    # As a constant of jit, too, targets are known, until jnp makes tracers of them.
    y = as_known("targets", targets)
    if jnp.issubdtype(y.dtype, jnp.floating):
        _, y = _floats(logits=logits, targets=y)
        _check_shape("targets", y, logits.shape)
        q = optax.smooth_labels(jnp.moveaxis(y, axis, -1).astype(x.dtype), label_smoothing)
        return _reduce(optax.softmax_cross_entropy(x, w * q), reduction, logits.dtype)

    _check_classes(y, logits.shape, axis, ignore_index)
    y = jnp.asarray(y).astype(int)[..., None]
    used, valid = y != ignore_index, _is_class(y, classes)
    q = jax.nn.one_hot(y[..., 0], classes, dtype=x.dtype)
    q = jnp.where(valid | ~used, q, jnp.nan)
    count = jnp.sum(w * q, where=used)
    # "Safe" lets a logit be -inf where q is 0, as torch's class targets do.
    loss = optax.safe_softmax_cross_entropy(
        jnp.where(used, x, 0), w * optax.smooth_labels(q, label_smoothing)
    )
    return _reduce(jnp.where(used[..., 0], loss, 0), reduction, logits.dtype, count)


def mse_loss(
    input: Float[ArrayLike, "*shape"],
    target: Float[ArrayLike, "*shape"],
    *,
    reduction: str = "mean",
) -> Float[Array, "..."]:
    r"""The squared error: `torch.nn.functional.mse_loss`, and `optax.squared_error`.

    .. math:: l = (x - y)^2

    Args:
        input: x, of any shape.
        target: y, of the same shape and dtype.
        reduction: `"mean"`, `"sum"` or `"none"`.

    Returns:
        A scalar, or without reduction an array of the shape of `input`.

    Raises:
        ValueError: shapes differ (torch warns and broadcasts), or `reduction` is unknown.
        TypeError: dtypes are mixed or not floating.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.mse_loss.html

    >>> mse_loss(jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0]))
    Array(2., dtype=float32)
    """
    input, target = _floats(input=input, target=target)
    _check_shape("target", target, input.shape)
    dtype = wide(input.dtype)
    loss = optax.squared_error(input.astype(dtype), target.astype(dtype))
    return _reduce(loss, reduction, input.dtype)


def binary_cross_entropy(
    input: Float[ArrayLike, "*shape"],
    target: Float[ArrayLike, "*shape"],
    *,
    weight: Float[ArrayLike, "..."] | None = None,
    reduction: str = "mean",
) -> Float[Array, "..."]:
    r"""The negative log-likelihood of probabilities: `torch.nn.functional.binary_cross_entropy`.

    .. math::
        l &= -w \left(y \max(\log x, -100) + (1 - y) \max(\log(1 - x), -100)\right) \\
        \partial l / \partial x &= w (x - y) / \max(x (1 - x), 10^{-12})

    The derivative with respect to x is torch's, not the derivative of the clamped value: it is
    ±1e12 where x is 0 and y is 1, or the other way round. The derivative with respect to y is the
    clamped value's (±100 where x is 0 or 1; torch has ±inf). Optax has no such loss.

    Args:
        input: x, probabilities of any shape.
        target: y, probabilities, of the same shape and dtype.
        weight: w, broadcast to that shape; the mean still divides by the number of elements.
        reduction: as in `mse_loss`.

    Returns:
        As `mse_loss`.

    Raises:
        ValueError: shapes do not fit, `reduction` is unknown, or a value is not a probability. A
            traced value out of [0, 1] makes its loss and gradient NaN instead.
        TypeError: dtypes are mixed or not floating.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.binary_cross_entropy.html

    >>> binary_cross_entropy(jnp.array([0.5, 0.0]), jnp.array([1.0, 1.0]), reduction="none")
    Array([  0.6931472, 100.       ], dtype=float32)
    """
    input, target, weight = _floats(input=input, target=target, weight=weight)
    _check_shape("target", target, input.shape)
    loss = _binary(_probabilities("input", input), _probabilities("target", target))
    return _reduce(_weigh(loss, "weight", weight), reduction, input.dtype)


def binary_cross_entropy_with_logits(
    input: Float[ArrayLike, "*shape"],
    target: Float[ArrayLike, "*shape"],
    *,
    weight: Float[ArrayLike, "..."] | None = None,
    pos_weight: Float[ArrayLike, "..."] | None = None,
    reduction: str = "mean",
) -> Float[Array, "..."]:
    r"""The same of logits: `torch.nn.functional.binary_cross_entropy_with_logits`.

    .. math:: l = -w \left(p y \log \sigma(x) + (1 - y) \log \sigma(-x)\right)

    Without w and p it is `optax.sigmoid_binary_cross_entropy`. For a confident and right x it keeps
    the digits that torch's form of the equation cancels.

    Args:
        input: x, logits of any shape.
        target: y, of the same shape and dtype, from 0 to 1; not checked, as in torch.
        pos_weight: p, broadcast to that shape.

    `weight`, `reduction`, results and errors are those of `binary_cross_entropy`.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.binary_cross_entropy_with_logits.html

    >>> binary_cross_entropy_with_logits(jnp.zeros(2), jnp.array([1.0, 0.0]), reduction="none")
    Array([0.6931472, 0.6931472], dtype=float32)
    """
    input, target, weight, pos_weight = _floats(
        input=input, target=target, weight=weight, pos_weight=pos_weight
    )
    _check_shape("target", target, input.shape)
    x, y = input.astype(wide(input.dtype)), target.astype(wide(input.dtype))
    loss = optax.sigmoid_binary_cross_entropy(x, y)
    loss -= _weigh(y * jax.nn.log_sigmoid(x), "pos_weight", pos_weight - 1)
    return _reduce(_weigh(loss, "weight", weight), reduction, input.dtype)


@jax.custom_jvp
def _binary(x: Array, y: Array) -> Array:
    return -(y * jnp.maximum(jnp.log(x), -100) + (1 - y) * jnp.maximum(jnp.log1p(-x), -100))


@_binary.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (x, y), (dx, dy) = primals, tangents
    for_x = (x - y) / jnp.maximum(x * (1 - x), float(np.float32(1e-12)))  # in torch it is a float
    for_y = jnp.maximum(jnp.log1p(-x), -100) - jnp.maximum(jnp.log(x), -100)
    return _binary(x, y), for_x * dx + for_y * dy


def _floats(**arguments: Any) -> list[Array]:
    """Returns the arguments as arrays of the first one's dtype, which is floating; None is 1."""
    arrays: list[Array] = []
    for name, value in arguments.items():
        array = as_array(name, np.ones((), arrays[0].dtype) if value is None else value)
        arrays.append(array)
        check_dtype(name, arrays[0].dtype, jnp.floating, "floating")
        check_same_dtype(f"`{name}`", array, f"`{next(iter(arguments))}`", arrays[0])
    return arrays


def _check_shape(name: str, array: Array, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        cause = ": (N, 1) against (N,) would broadcast to (N, N)"
        raise ValueError(
            f"`{name}` must have the shape {shape}, got {array.shape}"
            + (cause if array.ndim != len(shape) else "")
        )


def _is_class(y: Any, classes: int) -> Any:
    return (y >= 0) & (y < classes)


def _check_classes(y: Any, logits: tuple[int, ...], axis: int, ignore_index: int) -> None:
    """Targets must be integers of the logits' shape without classes, in range if not traced."""
    check_dtype("targets", y.dtype, jnp.integer, "integers, or floating probabilities")
    shape, classes = logits[:axis] + logits[axis + 1 :], logits[axis]
    if y.shape != shape:
        cause = ": classes are on axis 1, as in torch; pass jnp.moveaxis(logits, -1, 1)"
        raise ValueError(
            f"`targets` must have the shape {shape} for `logits` {logits}, got {y.shape}"
            + (cause if y.shape == logits[:-1] else "")
        )
    if is_traced(y):
        return
    for wrong in y[(y != ignore_index) & ~_is_class(y, classes)]:
        raise ValueError(
            f"`targets` must lie between 0 and {classes - 1}, or be `ignore_index` "
            f"{ignore_index}, got {wrong}"
        )


def _probabilities(name: str, x: Array) -> Array:
    """Returns `x` in at least float32; NaN, with a gradient of NaN, where not a probability."""
    if not is_traced(x):
        known = np.asarray(x)
        for wrong in known[~((known >= 0) & (known <= 1))]:
            cause = ": binary_cross_entropy_with_logits takes logits" if name == "input" else ""
            raise ValueError(f"`{name}` must lie between 0 and 1, got {wrong}{cause}")
    x = x.astype(wide(x.dtype))
    return x * jnp.where((x >= 0) & (x <= 1), 1, jnp.nan).astype(x.dtype)


def _weigh(loss: Array, name: str, weight: Array) -> Array:
    try:
        return loss * jnp.broadcast_to(weight.astype(loss.dtype), loss.shape)
    except ValueError:
        raise ValueError(
            f"`{name}` must broadcast to the shape {loss.shape}, got {weight.shape}"
        ) from None


def _reduce(loss: Array, reduction: str, dtype: Any, count: Array | None = None) -> Array:
    if reduction == "mean":
        loss = loss.sum() / (loss.size if count is None else count)
    elif reduction == "sum":
        loss = loss.sum()
    elif reduction != "none":
        raise ValueError(f"`reduction` must be 'mean', 'sum' or 'none', got {reduction!r}")
    return loss.astype(dtype)
