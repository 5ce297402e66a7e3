"""The judge of the parity package: what passes, what fails, and what is said; plain numpy."""

import functools

import numpy as np
import pytest

from jaxrnn import Structure
from parity.backends.data import DTYPES, cut, draw, layout
from parity.cases import Case
from parity.criterion import Cut
from parity.criterion import judge as judge_by


# Of a made-up dtype, so that the rounding of float64, in which the tensors are, does not count.
EPS = 1e-6
OWN = 1e-4

DEEP = Case("test", Structure("lstm", 7, 5, num_layers=2, bidirectional=True))
FIRST = DEEP._replace(batch_first=True)
ALONE = DEEP._replace(batch=None)
GRU = Case("test", Structure("gru", 7, 5))
RNN = Case("test", Structure("rnn", 7, 5))
PROJECTED = Case("test", Structure("lstm", 7, 5, proj_size=3))
CELL = Case("test", Structure("lstm_cell", 7, 5), time=1)
CELL_ALONE = CELL._replace(batch=None)


def truth_of(case):
    """A value for every tensor that the case's name may be about: outputs and gradients."""
    data = draw(case, "float64")
    return data.cotangents | {f"grad {name}": value for name, value in data.leaves.items()}


def cut_by(case):
    """How the case's tensors are cut, by name."""
    shapes = {name.removeprefix("grad "): a.shape for name, a in truth_of(case).items()}
    params = draw(case, "float64").params
    return lambda name: cut(layout(case), params, name, shapes[name.split()[-1]])


def judge(truth, jax, runs=None, case=DEEP, cuts=None, **options):
    return judge_by(truth, runs or [truth], jax, cuts or cut_by(case), EPS, **options)


def times(tensors, factor, name=None, at=...):
    """A copy in which what stands `at` some place of a tensor, or of all, has a factor."""
    copy = {key: value.copy() for key, value in tensors.items()}
    for key in copy if name is None else [name]:
        copy[key][at] *= factor
    return copy


def off_by(truth, own):
    """Two runs whose rms distance from the truth is `own`, though the plain one is exact."""
    return [truth, times(truth, 1 + own * np.sqrt(2))]


@pytest.mark.parametrize("own", [0, OWN])
@pytest.mark.parametrize("slack", [1, 3])
@pytest.mark.parametrize("sign", [-1, 1])
def test_allowance_of_a_tensor(own, slack, sign):
    truth = truth_of(DEEP)
    allowed = slack * (5 * own + 4 * EPS)
    for part, passes in [(0.99, True), (1.01, False)]:
        jax = times(truth, 1 + sign * part * allowed)
        verdict = judge(truth, jax, off_by(truth, own), slack=slack)
        assert (verdict.wrong == []) == passes
        assert verdict.unjudged == []
        np.testing.assert_allclose(verdict.worst.used, part, rtol=1e-6)
        np.testing.assert_allclose(verdict.worst.error, part * allowed, rtol=1e-6)
        np.testing.assert_allclose(verdict.worst.own, own, rtol=1e-6)
        np.testing.assert_allclose(verdict.worst.allowed, allowed, rtol=1e-6)
    assert len(verdict.wrong) == len(truth)  # each tensor is judged on its own


BLOCKS = [
    (DEEP, "grad weight_ih_l0", "gate i", np.s_[:5]),
    (DEEP, "grad weight_hh_l1_reverse", "gate g", np.s_[10:15]),
    (DEEP, "grad bias_hh_l1", "gate o", np.s_[15:]),
    (DEEP, "y", "step 4", np.s_[4]),
    (DEEP, "grad x", "step 0", np.s_[0]),
    (DEEP, "h_n", "layer 1 forward", np.s_[2]),
    (DEEP, "grad c_0", "layer 0 backward", np.s_[1]),
    (FIRST, "y", "step 5", np.s_[:, 5]),
    (FIRST, "grad h_0", "layer 1 backward", np.s_[3]),
    (ALONE, "grad x", "step 2", np.s_[2]),
    (ALONE, "c_n", "layer 1 backward", np.s_[3]),
    (GRU, "grad weight_hh_l0", "gate r", np.s_[:5]),
    (GRU, "grad bias_ih_l0", "gate n", np.s_[10:]),
    (CELL, "grad weight_ih", "gate f", np.s_[5:10]),
]


@pytest.mark.parametrize("own", [0, OWN])
@pytest.mark.parametrize(
    ("case", "name", "label", "at"), BLOCKS, ids=lambda value: value if type(value) is str else ""
)
def test_a_small_wrong_block_does_not_hide_in_a_large_tensor(case, name, label, at, own):
    truth = times(truth_of(case), 1e-3, name, at)
    allowed = 10 * own + 8 * EPS
    for part, passes in [(0.99, True), (1.01, False)]:
        jax = times(truth, 1 + part * allowed, name, at)
        verdict = judge(truth, jax, off_by(truth, own), case)
        assert (verdict.wrong == []) == passes
    [text] = verdict.wrong
    assert text.startswith(f"{name}, {label}")
    assert (verdict.worst.tensor, verdict.worst.label) == (name, label)
    whole = judge(truth, jax, off_by(truth, own), cuts=lambda name: Cut(0, [""]))
    assert whole.wrong == []  # the tensor as a whole would have passed


PLACES = [
    (DEEP, "y", (3, 6, 9), "y, step 3, batch row 6"),
    (DEEP, "grad x", (0, 7, 2), "grad x, step 0, batch row 7"),
    (DEEP, "h_n", (2, 1, 4), "h_n, layer 1 forward, batch row 1"),
    (DEEP, "grad c_0", (1, 5, 0), "grad c_0, layer 0 backward, batch row 5"),
    (DEEP, "hvp weight_hh_l1", (12, 3), "hvp weight_hh_l1, gate g"),
    (DEEP, "grad bias_ih_l0_reverse", (6,), "grad bias_ih_l0_reverse, gate f"),
    (FIRST, "y", (6, 3, 9), "y, step 3, batch row 6"),
    (FIRST, "grad x", (7, 0, 2), "grad x, step 0, batch row 7"),
    (FIRST, "c_n", (3, 2, 4), "c_n, layer 1 backward, batch row 2"),
    (ALONE, "y", (3, 9), "y, step 3"),
    (ALONE, "grad h_0", (3, 2), "grad h_0, layer 1 backward"),
    (GRU, "grad weight_ih_l0", (9, 6), "grad weight_ih_l0, gate z"),
    (GRU, "h_n", (0, 3, 2), "h_n, batch row 3"),
    (RNN, "grad weight_hh_l0", (4, 4), "grad weight_hh_l0"),
    (PROJECTED, "grad weight_hr_l0", (2, 4), "grad weight_hr_l0"),
    (CELL, "c_n", (6, 3), "c_n, batch row 6"),
    (CELL, "grad x", (4, 1), "grad x, batch row 4"),
    (CELL, "hvp bias_hh", (19,), "hvp bias_hh, gate o"),
    (CELL_ALONE, "grad x", (1,), "grad x"),
    (CELL_ALONE, "h_n", (4,), "h_n"),
]


@pytest.mark.parametrize(("case", "name", "index", "text"), PLACES)
def test_the_text_names_the_place(case, name, index, text):
    truth = truth_of(case)
    truth |= {name.replace("grad", "hvp"): value for name, value in truth.items()}
    jax = times(truth, -1.0, name, index)
    [wrong] = judge(truth, jax, case=case).wrong
    assert wrong.startswith(f"{text}: error ")
    assert wrong.endswith(f"worst at index {list(index)}")


def test_own_error_is_the_rms_over_all_runs():
    truth = truth_of(DEEP)
    runs = [times(truth, 1 + factor * OWN) for factor in (0, 1, -2, 3)]
    own = OWN * np.sqrt((0 + 1 + 4 + 9) / 4)
    worst = judge(truth, times(truth, 1 - 5 * own), runs).worst
    np.testing.assert_allclose([worst.own, worst.error], [own, 5 * own], rtol=1e-6)
    assert judge(truth, times(truth, 1 - 5.5 * own), runs).wrong


def test_jax_may_be_more_accurate():
    truth = truth_of(DEEP)
    verdict = judge(truth, truth, [times(truth, 1 + OWN)])
    assert verdict.wrong == []
    assert verdict.worst.error == 0 < verdict.worst.own


def test_the_difference_counts_and_not_the_distance_between_both():
    """Torch off one way, JAX the other: each is measured against the truth."""
    truth = truth_of(DEEP)
    assert judge(truth, times(truth, 1 - 4 * OWN), [times(truth, 1 + OWN)]).wrong == []
    assert judge(truth, times(truth, 1 + 6 * OWN), [times(truth, 1 + OWN)]).wrong


def test_names_shapes_and_dtypes():
    truth = truth_of(DEEP)
    wrong = lambda **changes: judge(truth, truth | changes).wrong
    assert wrong(z_n=truth["y"]) == ["z_n: unexpected"]
    assert wrong(y=truth["y"].astype(np.float32)) == [
        "y: float32[6, 8, 10], wanted float64[6, 8, 10]"
    ]
    assert wrong(h_n=truth["h_n"][:2]) == ["h_n: float64[2, 8, 5], wanted float64[4, 8, 5]"]
    assert wrong(h_n=truth["h_n"][0]) == ["h_n: float64[8, 5], wanted float64[4, 8, 5]"]
    left = {name: value for name, value in truth.items() if name != "grad x"}
    assert judge(truth, left).wrong == ["grad x: missing"]
    assert judge(truth, {}).wrong == [f"{name}: missing" for name in truth]


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_finite_must_be_the_same(dtype):
    values = np.array([0.5, np.nan, np.inf, -np.inf, -0.5]).astype(DTYPES[dtype])
    truth, plain = {"h_n": values.astype(np.longdouble)}, {"h_n": values}
    judged = functools.partial(judge, truth, runs=[plain], case=CELL_ALONE)
    assert judged(plain)[1:] == ([], ["h_n (not finite)"])
    for index, value, text in [
        (0, np.nan, "nan where torch has 0.5, at [0]"),
        (0, np.inf, "inf where torch has 0.5, at [0]"),
        (1, 1.0, "1.0 where torch has nan, at [1]"),
        (1, np.inf, "inf where torch has nan, at [1]"),
        (2, np.nan, "nan where torch has inf, at [2]"),
        (3, np.inf, "inf where torch has -inf, at [3]"),
    ]:
        jax = {"h_n": values.copy()}
        jax["h_n"][index] = value
        assert judged(jax).wrong == [f"h_n: {text}"]


def test_what_cannot_be_judged_does_not_pass():
    truth = truth_of(DEEP)
    for value in (np.nan, np.inf):
        broken = truth | {"h_n": np.full_like(truth["h_n"], value)}
        assert judge(broken, truth, [truth]).unjudged == ["h_n (not finite)"]
        assert judge(truth, broken, [broken]).unjudged == ["h_n (not finite)"]
        assert judge(broken, broken, [broken]).unjudged == ["h_n (not finite)"]
        assert judge(truth, broken, [truth]).wrong


def test_exact_zeros():
    """Zero in torch's runs and the truth is zero in JAX, to the last bit, sign apart."""
    truth = times(truth_of(DEEP), 0.0, "y", np.s_[4:, 2])
    tiny = {"y": truth["y"].copy()}
    tiny["y"][5, 2, 7] = 1e-300
    assert judge(truth, truth | tiny).wrong == ["y: must be exactly 0 at [5, 2, 7], got 1e-300"]
    assert judge(truth, times(truth, -1.0, "y", np.s_[4:, 2])).wrong == []
    # What only one run of torch or the truth has as zero is no law.
    assert judge(truth, truth | tiny, [truth, truth | tiny]).wrong == []
    assert judge(truth | tiny, truth | tiny, [truth]).wrong == []


def test_what_is_wrong_without_an_error_has_one_all_the_same():
    """For tables and pictures; unless it has no size, or another shape or dtype."""
    truth = times(truth_of(DEEP), 0.0, "y", np.s_[4:, 2])
    off = judge(truth, truth | {"y": truth["y"] + 0.5})
    assert off.wrong == ["y: must be exactly 0 at [4, 2, 0], got 0.5"]
    assert off.worst.tensor == "y"
    assert off.wrong_tensors == {"y"}
    for other in (truth["y"] * np.nan, truth["y"][:2], truth["y"].astype(np.float32)):
        found = judge(truth, truth | {"y": other})
        assert found.wrong_tensors == {"y"}
        assert not any(block.tensor == "y" for block in found.blocks)


def test_all_zeros_are_judged_in_absolute_terms():
    zero = {name: np.zeros_like(value) for name, value in truth_of(DEEP).items()}
    runs = [zero, {name: value + EPS for name, value in zero.items()}]
    assert judge(zero, {name: value + 3 * EPS for name, value in zero.items()}, runs).wrong == []
    assert judge(zero, {name: value + 10 * EPS for name, value in zero.items()}, runs).wrong


def test_whole_numbers_are_the_same_or_wrong():
    ids = {"ids": np.array([2**40, 3])}
    label = lambda name: Cut(0, [""])
    judge = lambda found: judge_by(ids, [ids], {"ids": np.array(found)}, label, EPS)
    assert judge([2**40, 3]).wrong == []
    told = f"ids: {2**40 + 1} where torch has {2**40}, at [0]"
    assert judge([2**40 + 1, 3]).wrong == [told]


def test_nothing_to_compare():
    empty = truth_of(Case("test", DEEP.structure, batch=0))
    verdict = judge({"y": empty["y"]}, {"y": empty["y"]})
    assert verdict.wrong == []
    assert verdict.worst.used == 0


def test_the_worst_is_what_used_most_of_its_allowance():
    truth = truth_of(DEEP)
    jax = times(times(truth, 1 + 2 * EPS, "h_n"), 1 + 7 * EPS, "y", np.s_[3])
    worst = judge(truth, jax).worst
    assert (worst.tensor, worst.label) == ("y", "step 3")


# Torch's own error grows by a factor of 30 with every step: from step 3 on it is above 1e4 eps.
GROWTH = 30.0 ** np.arange(6)


def chaotic(case):
    """The truth, and torch's runs: a plain one that is exact, and one that strays."""
    truth = truth_of(case)
    shape = (1, -1, 1) if case.batch_first else (-1, 1, 1)
    moved = times(truth, 1 + np.sqrt(2) * EPS * GROWTH.reshape(shape), "y")
    return truth, [truth, moved]


@pytest.mark.parametrize("case", [DEEP, FIRST], ids=["time first", "batch first"])
def test_ill_conditioned(case):
    truth, runs = chaotic(case)
    step = lambda t: np.s_[:, t] if case.batch_first else np.s_[t]
    judged = lambda jax: judge(truth, jax, runs, case)
    assert judged(truth)[1:] == ([], ["y from step 3 on"])
    # Beyond the last step that is compared anything goes.
    lost = times(truth, 7, "y", step(3))
    assert judged(lost)[1:] == ([], ["y from step 3 on"])
    within = lambda t: 10 * GROWTH[t] * EPS + 8 * EPS
    for t in range(3):
        assert judged(times(truth, 1 + 0.99 * within(t), "y", step(t))).wrong == []
        verdict = judged(times(lost, 1 + 1.01 * within(t), "y", step(t)))
        [text] = verdict.wrong
        assert text.startswith(f"y, step {t}, batch row ")
    # All other tensors are judged as ever, and what needs no tolerance is still asked for.
    assert judged(times(lost, 1 + 1e-3, "h_n")).wrong
    assert judged(times(lost, 1 + 1e-3, "grad x")).wrong
    assert judged(truth | {"y": truth["y"].astype(np.float32)}).wrong


def test_ill_conditioned_elsewhere():
    """A gradient of which torch has lost every digit is left out, and it is said; no more is."""
    truth = truth_of(DEEP)
    runs = [truth, times(truth, 1.5, "grad x")]
    assert judge(truth, times(truth, 7, "grad x"), runs)[1:] == ([], ["grad x"])
    for name in ("y", "h_n", "grad h_0"):
        assert judge(truth, times(truth, 1.01, name), runs).wrong
    just = lambda part: [truth, times(truth, 1 + part * np.sqrt(2) * 1e4 * EPS, "grad x")]
    assert judge(truth, truth, just(0.99)).unjudged == []
    assert judge(truth, truth, just(1.01)).unjudged == ["grad x"]


def test_torch_itself_must_be_near_the_truth():
    """A wrong torch or a wrong truth is no ill-conditioning, which moves with the inputs."""
    truth = truth_of(DEEP)
    wrong = times(truth, 2.0)
    verdict = judge(truth, truth, [wrong, times(wrong, 1 + EPS)])
    assert len(verdict.wrong) == len(truth)
    assert verdict.wrong[0].startswith("y: torch itself is 1.0e+00 from the truth")
