"""Laws: checkpoints return what they were given, and damage is noticed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fit_cases import OPTIONS, RNG, assert_same, carrying, fit, sound
from helpers import assert_refused

from jaxrnn import checkpoints


def break_array(folder):
    """One bit in the middle of the largest file, where the arrays are."""
    path = max((p for p in folder.rglob("*") if p.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_damaged_checkpoint(tmp_path):
    """It is skipped with a warning, moved away, and the one before is used."""
    wanted = fit(carrying, **OPTIONS, checkpoints=tmp_path)
    before, last = sound(tmp_path)[-2:]
    break_array(tmp_path / str(last))
    with pytest.warns(
        UserWarning, match=rf"^checkpoint {last} in .* is damaged.*; using {before}$"
    ):
        assert_same(fit(carrying, **OPTIONS, checkpoints=tmp_path), wanted)
    assert sound(tmp_path)[-2:] == [before, last]
    assert len(list(tmp_path.glob(f"{last}.refused.*/{last}"))) == 1
    for path in (tmp_path / str(last)).rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(
        UserWarning, match=rf"^checkpoint {last} in .* is damaged.*; using {before}$"
    ):
        assert_same(fit(carrying, **OPTIONS, checkpoints=tmp_path), wanted)


def test_every_bit_counts(tmp_path):
    """Damage that orbax itself does not notice."""
    tree = {"a": jnp.asarray(RNG.normal(size=300))}
    checkpoints.save(tmp_path, 1, tree, None, keep=1)
    break_array(tmp_path / "1")
    with pytest.raises(ValueError, match=r"and 1 is damaged \(a checksum is wrong\)"):
        checkpoints.restore(tmp_path, tree)
    checkpoints.save(tmp_path, 2, tree, {"seen": 12.5}, keep=1)
    for path in (tmp_path / "2" / "about").iterdir():
        path.write_text(path.read_text().replace("12.5", "13.5"))
    with pytest.raises(ValueError, match=r"and 2 is damaged \(a checksum is wrong\)"):
        checkpoints.restore(tmp_path, tree)
    assert_refused(
        lambda: checkpoints.save(tmp_path, 1, tree, None, keep=1),
        ValueError,
        "`step` must be above 2, got 1",
    )


def test_foreign_checkpoints(tmp_path):
    """The first leaf that differs is named; where no other is left, nothing is touched."""
    checkpoints.save(tmp_path, 1, {"a": jnp.ones(3), "b": np.zeros(2)}, {"x": [np.inf]}, keep=2)
    for like, message in [
        ({"a": jnp.ones(4), "b": jnp.zeros(2)}, "leaf ['a'] is float64 (3,), not float64 (4,)"),
        ({"a": jnp.ones(3), "b": jnp.zeros(2, int)}, "leaf ['b'] is float64 (2,), not int64 (2,)"),
        ({"a": jnp.ones(3)}, "leaf ['b'] is unexpected"),
        ({"a": jnp.ones(3), "b": jnp.zeros(2), "c": jnp.ones(1)}, "leaf ['c'] is missing"),
    ]:
        assert_refused(
            lambda like=like: checkpoints.restore(tmp_path, like),
            ValueError,
            f"no checkpoint in {tmp_path} can be used, and 1 is of another training: {message}",
        )
    assert sound(tmp_path) == [1]
    right = {"a": jnp.zeros(3), "b": jnp.zeros(2)}
    assert checkpoints.restore(tmp_path, right).record == {"x": [np.inf]}
    checkpoints.save(tmp_path, 2, {"a": jnp.ones(5)}, None, keep=2)
    with pytest.warns(UserWarning, match="checkpoint 2 in .* is of another training: .*; using 1$"):
        assert checkpoints.restore(tmp_path, right).step == 1
    assert checkpoints.restore(tmp_path / "nothing", right) is None


def test_what_checkpoints_hold(tmp_path):
    """Keys, empty arrays and numpy's numbers; arrays that are committed to no device stay so."""
    tree = {
        "key": jax.random.key(3),
        "rbg": jax.random.key(3, impl="rbg"),
        "empty": jnp.zeros((0, 3)),
        "number": np.float32(2.5),
        "half": jnp.ones(3, jnp.bfloat16),
    }
    checkpoints.save(tmp_path, 1, tree, None, keep=1)
    restored = checkpoints.restore(tmp_path, tree).tree
    assert jax.tree.structure(restored) == jax.tree.structure(tree)
    for name in ("key", "rbg"):
        assert restored[name] == tree[name]
    for name in ("empty", "number", "half"):
        np.testing.assert_array_equal(restored[name], tree[name])
        assert (restored[name].dtype, restored[name].shape) == (tree[name].dtype, tree[name].shape)
    assert not any(isinstance(leaf, jax.Array) for name, leaf in restored.items() if name == "half")


def test_what_a_killed_process_left_is_removed(tmp_path):
    """Orbax removes it in a thread of its own, while others read and write."""
    tree = {"a": jnp.ones(3)}
    for step in (1, 2):
        checkpoints.save(tmp_path, step, tree, None, keep=3)
        left = tmp_path / f"{step + 1}.orbax-checkpoint-tmp"
        left.mkdir()
        for i in range(1000):
            (left / f"{i}").touch()
        assert checkpoints.restore(tmp_path, tree).step == step
    (tmp_path / "9.orbax-checkpoint-tmp").mkdir()  # nor of a step that is not saved again
    checkpoints.save(tmp_path, 3, tree, None, keep=3)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["1", "2", "3"]


def test_an_error_of_the_file_system_is_no_damage(tmp_path, monkeypatch):
    fit(epochs=1, checkpoints=tmp_path)

    def fails(*_, **__):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("orbax.checkpoint.CheckpointManager.restore", fails)
    with pytest.raises(OSError, match="Too many open files"):
        fit(epochs=2, checkpoints=tmp_path)
    assert sound(tmp_path) == [3]
