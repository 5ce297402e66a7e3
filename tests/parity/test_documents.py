"""The texts' systems: each has its row, each row agrees, each known mistake in one is seen."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch import nn

import parity.__main__
import parity.workers
from jaxrnn import optim
from parity.backends import torch as torch_backend
from parity.mutants.plant import instead, returned, with_inputs, with_params
from parity.mutants.texts import (
    MISTAKES,
    fed_back,
    halves_swapped,
    optimizer,
    pool,
    recipe,
    softmax,
    variance,
)
from parity.pair import of_module, verify_pair
from parity.texts import rows
from parity.texts.rows import TEXTS
from parity.workers import run, text_jobs


PAIRS = {(pair.group, pair.name): pair for pair in rows.pairs()}
INPUTS = {at: pair.draw("float64").inputs for at, pair in PAIRS.items()}
TRAININGS = {at: pair for at, pair in PAIRS.items() if "loss" in pair.outputs}
# The number of systems that each of the five texts describes.
COUNTS = {0: 12, 1: 13, 2: 4, 3: 4, 4: 2}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """As in the command's workers: small tensors, and other tests beside them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def torch_outputs(at, **inputs):
    """torch's outputs, on other inputs if there are any."""
    pair, data = PAIRS[at], PAIRS[at].draw("float64")
    data = data._replace(inputs=data.inputs | inputs, differentiate=False)
    return torch_backend.run(pair.torch, pair.outputs, data)


def test_rows_are_the_documents():
    assert list(TEXTS) == [f"{k}.{i + 1}" for k, count in COUNTS.items() for i in range(count)]
    assert list(dict.fromkeys(row for row, _ in PAIRS)) == list(TEXTS)


def test_names_are_unique():
    assert len(PAIRS) == len(rows.pairs())


# Where nothing but gradients is wrong: exactly the tensors that the mistake reaches.
LAYER = {f"grad {kind}_{end}_l0" for kind in ("weight", "bias") for end in ("ih", "hh")}
REACHED = {
    "a gradient for the padding's embedding": {"grad embedding.weight"},
    "encoder without a gradient from attention": {"grad values"},
    "gradient cut between chunks": LAYER | {"grad x"},
    "gradient not cut between chunks": LAYER | {"grad x"},
}


@pytest.mark.slow
@pytest.mark.parametrize("row", TEXTS)
def test_row(row):
    """Cases agree, and what is planted in them is seen, as something that is wrong in them.

    In float32, which the command compares everywhere, only sequence to sequence with attention:
    for time's sake.
    """
    dtypes = ("float64", "float32") if row == "1.8" else ("float64",)
    jobs = [job for job in text_jobs("documents", [row]) if job.dtype in dtypes]
    results = [result for job in jobs for result in run(job)]
    cases = [result for result in results if result.mistake is None]
    own = lambda system: [dtype for dtype in system.dtypes if dtype in dtypes]
    wanted = [(name, d) for (r, name), s in PAIRS.items() if r == row for d in own(s)]
    assert sorted((case.name, case.dtype) for case in cases) == sorted(wanted)
    assert [line for case in cases for line in case.wrong + case.unjudged] == []
    planted = {result.mistake for result in results} - {None}
    assert planted == {name for name, mistake in MISTAKES.items() if mistake.pair[0] == row}
    assert [r.mistake for r in results if r.mistake and not r.wrong] == []
    assert [r.mistake for r in results if r.mistake and r.unjudged] == []
    for result in results:
        if result.mistake in REACHED:
            assert {line.replace(":", ",").split(",")[0] for line in result.wrong} == (
                REACHED[result.mistake]
            )


# What carries the mistakes, carrying none, is right.
CONTROLS = {
    "inputs": ("1.3", "trained", with_inputs(head=lambda x, head: ~~head)),
    "results": ("1.12", "2 layers", returned(lambda result: result)),
    "layer norm": ("1.12", "2 layers", variance(ddof=0)),
    "pooling": ("0.6", "as meant: both final states",
                pool(lambda y, h: jnp.concatenate([h[-2], h[-1]], axis=1))),
    "softmax": ("1.7", "additive, padded", softmax(lambda right, *inputs: right(*inputs))),
    "score": ("1.7", "additive", with_params(lambda p: halves_swapped(halves_swapped(p)))),
    "loop": ("1.6", "Seq2Seq, coins mixed", fed_back(
        lambda logits, t, target, coin: jnp.where(coin, target[:, t], logits.argmax(1)))),
    "optimiser": ("3.3", "MSE with Adam", optimizer("Adam",
                                                      lambda lr, betas: optax.adam(lr, *betas))),
    "recipe": ("3.3", "MSE with SGD",
               recipe(jax_loss=lambda x, y: jnp.square(x - y).mean())),
    "clipping": ("0.9", "clipped at 5", instead(optim, "clip_grad_norm",
                                                lambda right, max_norm: right(max_norm))),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("row", "name", "unharmed"), CONTROLS.values(), ids=CONTROLS)
def test_without_a_mistake_nothing_is_wrong(row, name, unharmed):
    pair = PAIRS[row, name]
    assert verify_pair(pair._replace(jax=unharmed(pair.jax)), "float64").wrong == []


def test_there_are_enough_mistakes():
    assert len(MISTAKES) >= 16
    assert {mistake.pair for mistake in MISTAKES.values()} <= PAIRS.keys()


@pytest.mark.parametrize("at", PAIRS, ids=" ".join)
def test_every_input_matters(at):
    """Gradients show that of floating ones, where there are any."""
    plain = torch_outputs(at)
    for name, a in INPUTS[at].items():
        other = 2 * a if a.size == 1 else ~a if a.dtype == bool else a[::-1].copy()
        assert (other != a).any()
        if name == "lengths":
            other = np.maximum(a - 1, 1)
        changed = torch_outputs(at, **{name: other})
        assert any((changed[out] != plain[out]).any() for out in plain), name


# What the texts say of their systems, in torch; that jaxrnn does the same is what the rows say.


def test_text_classification_learns_by_heart():
    """From about 0.68 to about 0.02, on random data and torch's own initial weights."""
    loss = torch_outputs(("2.4", "10 epochs"))["loss"]
    assert 0.6 < loss[0] < 0.85
    assert (np.diff(loss) < 0).all()
    assert 0.005 < loss[-1] < 0.1


def test_the_plateau_cuts_the_rate():
    lr = torch_outputs(("0.10", "shuffled, dropout, plateau"))["lr"]
    assert list(np.unique(lr)) == [0.0005, 0.001]
    assert (np.diff(lr) <= 0).all()


@pytest.mark.parametrize(
    ("at", "most"), [(("0.9", "clipped at 5"), 5), (("1.13", "the training loop, 2 epochs"), 1)]
)
def test_clipping_acts(at, most):
    assert PAIRS[at].jax.args[0].max_norm == most
    assert (torch_outputs(at)["grad_norm"] > most).any()


def test_argmax_is_fed_back():
    at = ("1.6", "Seq2Seq, argmax fed back")
    free, forced = (torch_outputs(at, coins=np.full(5, coin))["logits"] for coin in (False, True))
    assert (free == torch_outputs(at)["logits"]).all()
    assert (free[:, :2] == forced[:, :2]).all()
    assert (free[:, 2:] != forced[:, 2:]).any(axis=(0, 2)).all()


@pytest.mark.parametrize("at", [at for at in PAIRS if {"masks", "head"} & {*INPUTS[at]}])
def test_masks_drop(at):
    masks = {name: INPUTS[at][name] for name in {"masks", "head"} & {*INPUTS[at]}}
    for name, mask in masks.items():
        assert 0 < mask.mean() < 1
        kept, plain = torch_outputs(at, **{name: np.ones_like(mask)}), torch_outputs(at)
        assert any((kept[out] != plain[out]).any() for out in plain)


def test_masks_of_a_training_are_drawn_anew():
    for at in TRAININGS:
        for name in {"masks", "layers", "head"} & {*INPUTS[at]}:
            every = INPUTS[at][name].reshape(-1, *INPUTS[at][name].shape[2:])
            assert len({mask.tobytes() for mask in every}) == len(every)


def test_padding_is_there():
    """Pairs of ids have some, and all their lengths differ."""
    for lengths in (inputs["lengths"] for inputs in INPUTS.values() if "lengths" in inputs):
        assert len({*lengths}) == len(lengths)
        assert list(lengths) not in (sorted(lengths), sorted(lengths)[::-1])


# What would have to be found wrong, is.


def linear(params, x):
    return x @ params["weight"].T + params["bias"]


def wrong(function, *, outputs=("y",), torch=lambda module, x: module(x), **fields):
    module, x = nn.Linear(3, 2), np.ones((4, 3))
    pair = of_module("0.1", "scaled", module, {"x": x}, function, outputs, torch, **fields)
    result = verify_pair(pair, "float64")
    assert result.passed == (not result.wrong)
    return result.wrong


def test_nothing_wrong():
    assert wrong(linear) == []


def test_outputs_missing_swapped_and_too_many():
    two = {"outputs": ["y", "z"], "torch": lambda module, x: (module(x), 2 * module(x))}
    both = lambda params, x: (linear(params, x), 2 * linear(params, x))
    assert wrong(both, **two) == []
    assert wrong(lambda params, x: both(params, x)[::-1], **two)
    assert wrong(linear, **two) == [
        "z: missing",
        "gradients: none, where outputs differ in number or shape",
    ]
    assert "output 1: unexpected" in wrong(both)
    assert wrong(lambda params, x: linear(params, x)[None])[0].startswith("y: float64[1, 4, 2]")
    [first, *_] = wrong(lambda params, x: linear(params, x).astype(jnp.float32))
    assert first.startswith("y: float32[4, 2], wanted float64")


def test_what_has_no_gradient_is_not_compared():
    deaf = {"torch": lambda module, x: module(0 * x)}
    told = lambda name: f"grad {name}: torch itself has no gradient for it"
    assert wrong(lambda params, x: linear(params, 0 * x), **deaf) == [told("weight"), told("x")]
    assert wrong(lambda params, x: linear(params, 0 * x), **deaf, idle=["weight", "x"]) == []


def test_a_training_that_moves_nothing():
    names = {"outputs": ["final weight", "final bias"], "differentiate": False}
    idle = {"torch": lambda module, x: [module.weight, module.bias + 1]}
    told = wrong(lambda params, x: [params["weight"], params["bias"] + 1], **names, **idle)
    assert told == ["final weight: torch itself has no gradient for it"]


def test_whole_numbers_have_to_be_the_same():
    """However large they are."""
    host = {"torch": lambda module, x: torch.tensor(2**60), "differentiate": False}
    assert wrong(lambda params, x: jnp.asarray(2**60), **host) == []
    assert wrong(lambda params, x: jnp.asarray(2**60 + 1), **host)


def report_of(monkeypatch, capsys, change):
    """The command's exit status and words, of two rows whose pairs are changed."""
    right = [PAIRS["0.7", "vocabulary, encoding, padding"], PAIRS["0.1", "a step"]]
    pairs = change([pair._replace(dtypes=["float64"]) for pair in right])
    pairs = {(pair.group, pair.name): pair for pair in pairs}
    monkeypatch.setattr(parity.workers, "pairs_of", lambda _: pairs)  # too few for other processes
    monkeypatch.setenv("COLUMNS", "100")
    status = parity.__main__.main(["documents", "0.1", "0.7"])
    return status, capsys.readouterr().out


def test_a_missing_row(monkeypatch, capsys):
    status, out = report_of(monkeypatch, capsys, lambda pairs: pairs[:1])
    assert status == 1
    assert "MISSING" in next(line for line in out.splitlines() if "SimpleRNNCell" in line)
    assert "of the rows 1 agree, 0 disagree, 1 missing (" in out


def test_a_row_that_disagrees(monkeypatch, capsys):
    off = lambda params, x, h: PAIRS["0.1", "a step"].jax(params, x, h) * (1 + 1e-9)
    change = lambda pairs: [pairs[0], pairs[1]._replace(jax=off)]
    status, out = report_of(monkeypatch, capsys, change)
    assert status == 1
    assert "DISAGREES" in next(line for line in out.splitlines() if "SimpleRNNCell" in line)
    assert "FAIL 0.1 a step [float64]\n    h_n, batch row " in out
    # With its control failing, no mistake counts as seen.
    assert "1 agree, 1 disagree, 0 missing, 0 of 2 known mistakes are seen (" in out


def test_a_mistake_that_is_not_seen(monkeypatch, capsys):
    name = "one of two biases dropped"
    monkeypatch.setitem(MISTAKES, name, MISTAKES[name]._replace(wrong=lambda right: right))
    status, out = report_of(monkeypatch, capsys, lambda pairs: pairs)
    assert status == 1
    assert f"FAIL 0.1 a step [float64], planted: {name}\n    the mistake was not seen" in out
    assert "2 agree, 0 disagree, 0 missing, 1 of 2 known mistakes are seen (" in out
