"""Law: losses and their gradients are torch's, for every option, dtype and shape."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import torch.nn.functional as F
from helpers import assert_refused

from jaxrnn import losses
from jaxrnn.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    mse_loss,
)


# A few units in the last place: the two sides sum in other orders. In float32 torch's own softmax
# vectorises its exponential.
RTOL = {"float64": 1e-13, "float32": 2e-6, "bfloat16": 2**-7}
DTYPES = ["float64", "float32"]
REDUCTIONS = ["mean", "sum", "none"]
C = 5
# The shapes of the class targets; logits have C more on axis 1.
SHAPES = [(), (7,), (3, 4), (2, 3, 2), (0,)]
# All shapes in float64; in float32 one of them.
every_shape = pytest.mark.parametrize(
    ("dtype", "shape"), [*(("float64", shape) for shape in SHAPES), ("float32", (3, 4))], ids=str
)


def normal(*shape, seed=0, dtype="float64"):
    return np.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def uniform(*shape, seed=0, dtype="float64"):
    return np.asarray(np.random.default_rng(seed).uniform(size=shape), dtype)


def with_classes(shape):
    return (*shape[:1], C, *shape[1:])


def tensor(a):
    return torch.from_numpy(np.array(a)) if isinstance(a, np.ndarray | np.generic) else a


def cotangent_of(value):
    return np.asarray(normal(*value.shape, seed=9), value.dtype)


def assert_same(name, differentiated, fixed=(), reductions=REDUCTIONS, **options):
    """Compares values, and gradients with respect to `differentiated`, for some reductions."""

    @jax.jit
    def run(*args):
        results = []
        for reduction in reductions:
            loss = functools.partial(getattr(losses, name), reduction=reduction, **options)
            value, vjp = jax.vjp(lambda *args: loss(*args, *fixed), *args)  # noqa: B023
            results.append((value, *vjp(jnp.asarray(cotangent_of(value)))))
        return results

    tensors = {key: tensor(option) for key, option in options.items()}
    for results, reduction in zip(run(*differentiated), reductions, strict=True):
        leaves = [tensor(a).requires_grad_() for a in differentiated]
        value = getattr(F, name)(*leaves, *map(tensor, fixed), reduction=reduction, **tensors)
        value.backward(tensor(cotangent_of(results[0])))
        wanted = [value.detach(), *(leaf.grad for leaf in leaves)]
        rtol = RTOL[results[0].dtype.name]
        for one, other in zip(results, map(np.asarray, wanted), strict=True):
            scale = np.abs(np.nan_to_num(other)).max(initial=0)
            np.testing.assert_allclose(one, other, rtol, rtol * scale, strict=True)


def targets_of(shape, *others):
    """Random classes, with two of each of the others among them."""
    targets = np.random.default_rng(1).integers(0, C, shape)
    places = np.random.default_rng(2).permutation(targets.size)[: 2 * len(others)]
    targets.flat[places] = np.repeat(others, 2)[: len(places)]
    return targets


WEIGHT = np.array([0.3, 2.0, 1.0, 0.0, 0.7])


@pytest.mark.parametrize("ignore_index", [-100, 3])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "weight"])
def test_options_of_cross_entropy(weight, label_smoothing, ignore_index):
    logits, targets = 3 * normal(3, C, 4), targets_of((3, 4), ignore_index)
    options = {"label_smoothing": label_smoothing, "ignore_index": ignore_index, "weight": weight}
    # The mean depends on the options most: it divides by the weights of the targets that count.
    assert_same("cross_entropy", [logits], [targets], reductions=["mean"], **options)


@every_shape
def test_shapes_of_cross_entropy(dtype, shape):
    logits, targets = normal(*with_classes(shape), dtype=dtype), targets_of(shape)
    options = {"label_smoothing": 0.1, "ignore_index": 1, "weight": WEIGHT.astype(dtype)}
    assert_same("cross_entropy", [logits], [targets], **options)
    if shape == (7,):
        assert_same("cross_entropy", [logits], [targets])


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("shape", [(), (2, 3)], ids=str)
def test_cross_entropy_with_all_ignored(shape, label_smoothing):
    """The mean is NaN, the gradient 0, as in torch."""
    logits, targets = normal(*with_classes(shape)), np.full(shape, -100)
    assert_same("cross_entropy", [logits], [targets], label_smoothing=label_smoothing)


@every_shape
def test_cross_entropy_of_probabilities(dtype, shape):
    """Gradients with respect to the probabilities, too."""
    logits = normal(*with_classes(shape), dtype=dtype)
    targets = np.abs(normal(*with_classes(shape), seed=1, dtype=dtype))
    bare = shape == (7,)
    options = {} if bare else {"weight": WEIGHT.astype(dtype), "label_smoothing": 0.1}
    assert_same("cross_entropy", [logits, targets], **options)


def test_cross_entropy_far_out():
    """Large logits, classes ruled out by -inf, and small integers for targets."""
    logits, targets = 1e4 * normal(7, C, dtype="float32"), targets_of(7)
    assert_same("cross_entropy", [logits], [targets])
    masked = np.where(np.arange(C) == targets[:, None] - 1, -np.inf, normal(7, C))
    assert_same("cross_entropy", [masked], [targets])
    # Outside of jit, too: within, XLA makes of 0 · -inf a 0.
    assert np.isfinite(cross_entropy(jnp.asarray(masked), targets))
    loss = jax.jit(cross_entropy)
    for dtype in (np.uint8, np.int8, np.int32):
        narrow = loss(logits, targets.astype(dtype))
        np.testing.assert_array_equal(narrow, loss(logits, targets), strict=True)


def test_ignored_logits_of_cross_entropy_change_nothing():
    logits, targets = jnp.asarray(normal(3, C)), np.array([1, -100, 2])
    for label_smoothing in (0.0, 0.1):
        f = functools.partial(cross_entropy, targets=targets, label_smoothing=label_smoothing)
        f = jax.jit(jax.value_and_grad(f))
        clean = f(logits)
        dirty = f(logits.at[1].set(jnp.array([np.nan, np.inf, 0, 1, -np.inf])))
        jax.tree.map(np.testing.assert_array_equal, dirty, clean)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_cross_entropy_of_traced_targets_out_of_range(label_smoothing):
    f = functools.partial(cross_entropy, label_smoothing=label_smoothing)
    value = jax.jit(functools.partial(f, reduction="none"))
    mean, total = (jax.jit(jax.grad(functools.partial(f, reduction=r))) for r in ("mean", "sum"))
    logits = jnp.asarray(normal(3, C))
    for target in (-1, C, 99, -101):
        targets = np.array([1, target, 2])
        assert np.isnan(value(logits, targets)).tolist() == [False, True, False]
        assert np.isnan(mean(logits, targets)).all()
        assert np.isnan(total(logits, targets)).all(1).tolist() == [False, True, False]
        assert np.isfinite(total(logits, targets)[::2]).all()


def test_optax_agrees():
    """In the bare case; but of logits some 1e4 large float32 keeps 1e-3, and so does optax."""
    bare = jax.jit(optax.softmax_cross_entropy_with_integer_labels)
    logits, targets = normal(7, C), targets_of(7)
    found = jax.jit(functools.partial(cross_entropy, reduction="none"))(logits, targets)
    np.testing.assert_allclose(found, bare(logits, targets), 1e-13)
    logits, targets = np.array([[1e4, 1e4 - 0.01, 1e4 + 3]], np.float32), np.array([0])
    exact = jax.jit(cross_entropy)(logits.astype(float), targets)
    assert abs(jax.jit(cross_entropy)(logits, targets).astype(float) - exact) < 1e-6
    assert abs(bare(logits, targets)[0].astype(float) - exact) > 1e-5


@every_shape
def test_mse_loss(dtype, shape):
    pair = [normal(*shape, seed=seed, dtype=dtype) for seed in (0, 1)]
    assert_same("mse_loss", pair)


BROADCAST = {"float64": [(3, 4), (4,), (3, 1)], "float32": [(3, 1)]}


@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_cross_entropy(dtype):
    """Inside (0, 1); gradients with respect to the target, too."""
    x, y = uniform(3, 4, dtype=dtype), uniform(3, 4, seed=1, dtype=dtype)
    assert_same("binary_cross_entropy", [x, y])
    for shape in BROADCAST[dtype]:
        weight = normal(*shape, seed=2, dtype=dtype)
        assert_same("binary_cross_entropy", [x, y], reductions=["mean"], weight=weight)


TINY = [0.0, 1e-30, 1e-13, 1e-7, 0.3, 1 - 1e-7, 1 - 1e-13, 1.0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_cross_entropy_at_the_edges(dtype):
    """Values clamped at 100, gradients up to ±1e12, each right by its own size."""
    x, y = np.array(list(itertools.product(TINY, [0.0, 0.5, 1.0])), dtype).T
    assert_same("binary_cross_entropy", [x], [y])
    leaf = tensor(x).requires_grad_()
    F.binary_cross_entropy(leaf, tensor(y), reduction="sum").backward()
    for slope in (jax.grad, jax.jacfwd):
        found = jax.jit(jax.vmap(slope(binary_cross_entropy)))(x, y)
        np.testing.assert_allclose(found, leaf.grad, RTOL[dtype], strict=True)


def test_second_derivatives_of_binary_cross_entropy():
    x, y = (torch.tensor(uniform(50, seed=seed), requires_grad=True) for seed in (0, 1))
    loss = F.binary_cross_entropy(x, y, reduction="sum")
    first = torch.autograd.grad(loss, [x, y], create_graph=True)
    (xx, xy), (yx,) = (
        torch.autograd.grad(g.sum(), by, retain_graph=True)
        for g, by in zip(first, [[x, y], [x]], strict=True)
    )
    x, y = (jnp.asarray(a.detach().numpy()) for a in (x, y))
    found = jax.jit(jax.vmap(jax.hessian(binary_cross_entropy, argnums=(0, 1))))(x, y)
    # Here torch adds 1e-12 to x and to 1 - x.
    assert np.all(np.abs(found[0][0] / xx.numpy() - 1) < 3e-12 / (x * (1 - x)))
    np.testing.assert_allclose(found[0][1], xy.numpy(), 1e-12)
    np.testing.assert_allclose(found[1][0], yx.numpy(), 1e-12)
    np.testing.assert_array_equal(found[1][1], 0)


def test_traced_improbabilities_are_nan():
    x, y = jnp.array([0.5, 1.1, -0.1, 0.5, np.nan]), jnp.array([0.5, 1.0, 0.0, 1.5, 1.0])
    value = jax.jit(lambda x, y: binary_cross_entropy(x, y, reduction="none"))(x, y)
    gradient = jax.jit(jax.grad(lambda x, y: binary_cross_entropy(x, y, reduction="sum")))(x, y)
    for found in (value, gradient):
        assert np.isnan(found).tolist() == [False, True, True, True, True]


@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_cross_entropy_with_logits(dtype):
    name = "binary_cross_entropy_with_logits"
    x, y = 3 * normal(3, 4, dtype=dtype), uniform(3, 4, seed=1, dtype=dtype)
    assert_same(name, [x, y])
    for shape in BROADCAST[dtype]:
        weight, pos_weight = normal(*shape, seed=2, dtype=dtype), uniform(*shape, dtype=dtype)
        weights = {"weight": weight, "pos_weight": 4 * pos_weight}
        assert_same(name, [x, y], reductions=["mean"], **weights)
    assert_same(name, [x, y], reductions=["mean"], pos_weight=pos_weight)
    far = np.array([-1e4, -700, -40, 0, 40, 700, 1e4], dtype)
    for y in (np.zeros(7, dtype), np.ones(7, dtype)):
        assert_same(name, [far], [y])


X = uniform(3, 4)
PAIRS = {
    "cross_entropy": (normal(7, C), targets_of(7, -100)),
    "mse_loss": (X, normal(3, 4)),
    "binary_cross_entropy": (X, uniform(3, 4, seed=1)),
    "binary_cross_entropy_with_logits": (X, uniform(3, 4, seed=1)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_bfloat16_is_rounded_once(name):
    """Results and gradients have that dtype, but not the numbers between."""
    cast = lambda a: jnp.asarray(a, None if a.dtype.kind == "i" else jnp.bfloat16)
    x, y = map(cast, PAIRS[name])
    loss = jax.jit(getattr(losses, name))
    found, gradient = jax.value_and_grad(loss)(x, y)
    wanted = loss(x.astype("float32"), y if y.dtype == int else y.astype("float32"))
    assert found.dtype == gradient.dtype == jnp.bfloat16
    assert found == wanted.astype(jnp.bfloat16)


@pytest.mark.parametrize("name", PAIRS)
def test_vmap_is_a_loop(name):
    loss = getattr(losses, name)
    x, y = map(jnp.asarray, PAIRS[name])
    found = jax.jit(jax.vmap(jax.value_and_grad(loss)))(x, y)
    wanted = [jax.jit(jax.value_and_grad(loss))(*each) for each in zip(x, y, strict=True)]
    wanted = jax.tree.map(lambda *a: jnp.stack(a), *wanted)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-13, 1e-15), found, wanted)


I = np.ones
ERRORS = [
    (cross_entropy, (I((2, C)), [1, 5]), {}, ValueError, "`targets` must lie between 0 and 4...5"),
    (cross_entropy, (I((2, C)), [1, -1]), {}, ValueError, "ignore_index` -100, got -1"),
    (cross_entropy, (I((2, 4, C)), I((2, 4), int)), {}, ValueError,
        "`targets` must have the shape (2, 5)...got (2, 4): classes are on axis 1"),
    (cross_entropy, (I((2, C)), I(3, int)), {}, ValueError, "the shape (2,) for...got (3,)"),
    (cross_entropy, (I((2, C)), I((2, 3))), {}, ValueError, "`targets` must have the shape (2, 5)"),
    (cross_entropy, (I((2, C)), I(2, bool)), {}, TypeError, "`targets` must be integers, or"),
    (cross_entropy, (I((2, C)), I((2, C), "float32")), {}, TypeError, "`targets` is float32, but"),
    (cross_entropy, (I((2, C), int), I(2, int)), {}, TypeError, "`logits` must be floating"),
    (cross_entropy, (I(()), I((), int)), {}, ValueError, "`logits` must have an axis of classes"),
    (cross_entropy, (I((2, C)), None), {}, TypeError, "`targets` must be integers, or"),
    (cross_entropy, (I((2, C)), [1, 2]), {"weight": I(4)}, ValueError, "`weight`...(5,), got (4,)"),
    (cross_entropy, (I((2, C)), [1, 2]), {"weight": I(C, "float32")}, TypeError, "`weight` is flo"),
    (cross_entropy, (I((2, C)), [1, 2]), {"label_smoothing": 1.1}, ValueError, "`label_smoothing`"),
    (cross_entropy, (I((2, C)), [1, 2]), {"label_smoothing": -0.1}, ValueError, "got -0.1"),
    (mse_loss, (I((3, 1)), I(3)), {}, ValueError, "the shape (3, 1), got (3,): (N, 1) against"),
    (mse_loss, (I(3), I(2)), {}, ValueError, "`target` must have the shape (3,), got (2,)"),
    (mse_loss, (I(3), I(3, int)), {}, TypeError, "`target` is int64, but `input` is float64"),
    (binary_cross_entropy, (I(2) * 3, I(2)), {}, ValueError, "`input`...1, got 3.0: binary"),
    (binary_cross_entropy, (-I(2), I(2)), {}, ValueError, "`input` must lie...got -1.0"),
    (binary_cross_entropy, (I(2) * np.nan, I(2)), {}, ValueError, "`input` must lie...got nan"),
    (binary_cross_entropy, (I(2), I(2) * 1.5), {}, ValueError, "`target` must lie...got 1.5"),
    (binary_cross_entropy, (I(2), I(2, int)), {}, TypeError, "`target` is int64"),
    (binary_cross_entropy, (I((2, 1)), I(2)), {}, ValueError, "would broadcast to (N, N)"),
    (binary_cross_entropy, (I(2), I(2)), {"weight": I(3)}, ValueError, "`weight` must broadcast"),
    (binary_cross_entropy, (I(2), I(2)), {"weight": I((3, 2))}, ValueError, "the shape (2,), got"),
    (binary_cross_entropy_with_logits, (I(2), I(3)), {}, ValueError, "`target` must have the sh"),
    (binary_cross_entropy_with_logits, (I(2), I(2, int)), {}, TypeError, "`target` is int64"),
    (binary_cross_entropy_with_logits, (I(2), I(2)), {"pos_weight": I((3, 1))}, ValueError,
        "`pos_weight` must broadcast to the shape (2,), got (3, 1)"),
]  # fmt: skip
ERRORS += [
    (getattr(losses, name), pair, {"reduction": "batchmean"}, ValueError, "`reduction` must be 'me")
    for name, pair in PAIRS.items()
]


@pytest.mark.parametrize(("loss", "args", "options", "error", "message"), ERRORS)
@pytest.mark.usefixtures("bare")
def test_raises(loss, args, options, error, message):
    assert_refused(functools.partial(loss, *args, **options), error, message)


REFUSED = [
    lambda: F.cross_entropy(torch.ones(2, C), torch.tensor([1, 5])),
    lambda: F.cross_entropy(torch.ones(2, C), torch.tensor([1, -1])),
    lambda: F.cross_entropy(torch.ones(2, 4, C), torch.ones(2, 4, dtype=int)),
    lambda: F.cross_entropy(torch.ones(2, C), torch.tensor([1, 2]), label_smoothing=1.1),
    lambda: F.cross_entropy(torch.ones(2, C), torch.ones(2, C), reduction="batchmean"),
    lambda: F.binary_cross_entropy(torch.ones(2) * 3, torch.ones(2)),
    lambda: F.binary_cross_entropy(torch.ones(2) * torch.nan, torch.ones(2)),
    lambda: F.binary_cross_entropy(torch.ones(2), torch.ones(2) * 1.5),
    lambda: F.binary_cross_entropy(torch.ones(2, 1), torch.ones(2)),
    lambda: F.binary_cross_entropy_with_logits(torch.ones(2), torch.ones(3)),
]


@pytest.mark.parametrize("call", REFUSED)
def test_torch_refuses_too(call):
    with pytest.raises((ValueError, RuntimeError, IndexError)):
        call()
