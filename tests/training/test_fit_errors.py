"""Law: `fit` names the argument, the batch or the step that is wrong."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from fit_cases import X, Y, batches, loss, sound, start

from jaxrnn import optim, training


def bad_batches(epoch):
    """NaN in the second batch of the third epoch, which is step 7."""
    for i, (x, y) in enumerate(batches(epoch)):
        yield (x, y * np.nan) if (epoch, i) == (2, 1) else (x, y)


def test_loss_that_is_not_finite(tmp_path):
    run = lambda **options: training.fit(
        loss, optim.sgd(0.1), start(), bad_batches, epochs=4, **options
    )
    where = (
        "the loss is nan after step 7, batch 1 of epoch 2 (all from 0); the last good checkpoint"
    )
    with pytest.raises(FloatingPointError) as raised:
        run()
    assert str(raised.value) == f"{where}: none"
    with pytest.raises(FloatingPointError) as raised:
        run(checkpoints=tmp_path)
    assert str(raised.value) == f"{where}: 6 in {tmp_path}"
    assert sound(tmp_path)[-1] == 6


def test_parameters_that_are_not_finite(tmp_path):
    """The gradient is infinite at a finite loss: the result is neither saved nor returned."""
    square_root = lambda w: jnp.sqrt(w).sum()
    for folder in (None, tmp_path / "other"):
        with pytest.raises(FloatingPointError) as raised:
            training.fit(
                square_root, optim.sgd(0.1), jnp.zeros(2), [()], epochs=1, checkpoints=folder
            )
        assert str(raised.value) == (
            "the parameters are no longer finite after step 0, batch 0 of epoch 0 (all from 0); "
            "the last good checkpoint: none"
        )
    assert not (tmp_path / "other").exists()


def test_the_gradient_that_was_not_finite_is_named():
    """It makes the next loss NaN."""
    bends = lambda w, x: jnp.sqrt(jnp.abs(w * x)).sum()
    xs = [(np.ones(2),), (np.zeros(2),), (np.ones(2),), (np.ones(2),)]
    with pytest.raises(
        FloatingPointError, match=r"nan after step 2, .*, the gradient not finite in step 1"
    ):
        training.fit(bends, optim.sgd(0.1), jnp.ones(2), xs, epochs=1)


def test_a_state_that_changes_is_named():
    changing = lambda params, x, y, state: (loss(params, x, y), jnp.ones(3))
    run = functools.partial(training.fit, changing, optim.sgd, start(), [(X, Y)], epochs=1, lr=0.1)
    with pytest.raises(ValueError, match=r"must be like the one given: leaf \[0\] is"):
        run(state=jnp.ones(2))


def test_a_batch_of_other_sizes_that_does_not_fit_is_named():
    sizes = [(X, Y), (X[..., :2], Y)]
    with pytest.raises(ValueError, match="`x` must have 3 features") as raised:
        training.fit(loss, optim.sgd, start(), sizes, epochs=1, lr=0.1)
    assert raised.value.__notes__[-1] == (
        "step 1, batch 1 of epoch 0 (all from 0): leaf [0] is float64 (24, 5, 2), not float64 "
        "(24, 5, 3) as in the first batch"
    )


ERRORS = [
    ({"epochs": 0}, ValueError, "`epochs` must be"),
    ({"keep": 0}, ValueError, "`keep` must be"),
    ({"save_every": 0}, ValueError, "`save_every` must be"),
    ({"patience": -1}, ValueError, "`patience` must be an integer of at least 0, got -1"),
    ({"lr": None}, TypeError, "`optimizer` is a function of the rate, so it needs `lr`"),
    ({"lr": -1.0}, ValueError, "`lr` must be at least 0, got -1.0"),
    ({"key": 3}, TypeError, "`key` must be one jax.random key"),
    ({"optimizer": "adam"}, TypeError, "`optimizer` must be an optax transformation or a function"),
    ({"checkpoints": ""}, ValueError, "`checkpoints` must name a folder"),
    ({"lr": lambda epoch: -1.0}, ValueError, "`lr` must be at least 0, got -1.0"),
    (
        {"validate": lambda params: [1, 2]},
        TypeError,
        "must return one number, got list of shape (2,)",
    ),
    ({"validate": lambda params: None}, TypeError, "must return one number, got NoneType"),
    (
        {"lr": optim.reduce_lr_on_plateau(0.1, mode="max")},
        ValueError,
        "`lr` must be a plateau of mode 'min'",
    ),
    ({"batches": lambda epoch: [(X, Y)][epoch:]}, ValueError, "`batches` gave none in epoch 1"),
    ({"optimizer": optim.adam(0.1)}, TypeError, "`lr` needs an `optimizer` that is a function of"),
    ({"batches": []}, ValueError, "`batches` gave none in epoch 0"),
    (
        {"batches": (each for each in [(X, Y)])},
        ValueError,
        "`batches` gave none in epoch 1: can they be gone through only once, as a generator's?",
    ),
    (
        {"batches": [(X, Y), (X, Y.astype("float32"))]},
        ValueError,
        "`batches` must be alike, but in step 1, batch 1 of epoch 0 (all from 0) leaf [1] is "
        "float32 (24, 2), not float64 (24, 2)",
    ),
    ({"batches": [(X, Y), (X[0], Y)]}, ValueError, "[0] is float64 (5, 3), not float64 (24, 5, 3)"),
    ({"batches": [(X, Y), (X,)]}, ValueError, "(all from 0) leaf [1] is missing"),
    ({"batches": [(X, Y), (X, Y, Y)]}, ValueError, "(all from 0) leaf [2] is unexpected"),
]


@pytest.mark.parametrize(("options", "error", "message"), ERRORS)
@pytest.mark.usefixtures("bare")
def test_bad_input(options, error, message):
    options = {"optimizer": optim.adam, "batches": [(X, Y)], "epochs": 2, "lr": 0.1} | options
    with pytest.raises(error) as raised:
        training.fit(loss, params=start(), **options)
    assert message in str(raised.value)
