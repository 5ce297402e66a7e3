"""Shakespeare, character by character: long texts in chunks, the state carried over every cut.

The idea is `state`. A text of millions of steps is learned from a chunk at a time: `fit` hands the
state in which one chunk ends to the next; the gradient stops at the cut, the memory does not.

Data: Shakespeare's 42 works as of Project Gutenberg. Four plays are held out.

    pip install -e ".[examples]" && python examples/shakespeare.py
"""

import bz2
import functools
import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from command import parser, save
from datasets import SHAKESPEARE, read

from jaxrnn import data, losses, models, optim, text
from jaxrnn.training import fit


HELD_OUT = "as_you_like_it", "hamlet", "henry_v", "tempest"
STREAMS, CHUNK, HIDDEN, LR = 32, 32, 192, 5e-3
ORDER, DISCOUNT = 7, 0.9  # of the n-grams, which do better than the network


def load(data_dir: pathlib.Path | None) -> tuple[str, str]:
    """What to train on, and what is held out; the package also has seven files by Milton."""
    files = read(SHAKESPEARE, "*_gut.txt", data_dir).items()
    works = {name.removesuffix("_gut.txt"): work.decode("latin-1") for name, work in files}
    works = {name: work for name, work in works.items() if "by William Shakespeare" in work}
    held_out = [works.pop(name) for name in HELD_OUT]
    return "\n".join(works.values()), "\n".join(held_out)


def streams(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parts of a text side by side, in whole chunks; and what comes next at every step."""
    steps = (len(ids) - 1) // (STREAMS * CHUNK) * CHUNK
    return tuple(each[: STREAMS * steps].reshape(STREAMS, steps) for each in (ids, ids[1:]))


@jax.jit
def bits(params, x, y, state=None):
    """What each next character costs, and the state after the last."""
    logits, state = models.sequence_model(params, x, state, pool=None)
    return losses.cross_entropy(logits.swapaxes(1, 2), y, reduction="none") / np.log(2), state


def loss(params, x, y, state):
    cost, state = bits(params, x, y, state)
    return cost.mean(), state


@functools.partial(jax.jit, static_argnames="length")
def sample(params, prompt, length, key):
    """Ids drawn one after another, each as probable as the network holds it to be."""

    def step(carry, key):
        logits, state = carry
        ids = jax.random.categorical(key, logits)
        return models.sequence_model(params, ids[:, None], state), ids[0]

    start = models.sequence_model(params, prompt[None])
    return jax.lax.scan(step, start, jax.random.split(key, length))[1]


def tally(keys: np.ndarray, counts: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The sum of the counts of those keys that are what is asked."""
    _, i = np.unique(np.concatenate([keys, asked]), return_inverse=True)
    return np.bincount(i[: len(keys)], counts, i.max() + 1)[i[len(keys) :]]


def kneser_ney(grams, counts, asked, size: int, order: int) -> np.ndarray:
    """P of the last character given those before, by counting n-grams, numbers to base `size`.

    Kneser & Ney (1995), interpolated as by Chen & Goodman (1999): n-grams that are rare make way
    for shorter ones, and of these it counts after how many different characters they occur.
    """
    if order == 0:
        return np.full(len(asked), 1 / size)
    rest = size ** (order - 1)
    p = kneser_ney(*np.unique(grams % rest, return_counts=True), asked % rest, size, order - 1)
    total = tally(grams // size, counts, asked // size)
    kinds = tally(grams // size, np.ones_like(counts), asked // size)
    kept = np.maximum(tally(grams, counts, asked) - DISCOUNT, 0)
    return np.where(total, (kept + DISCOUNT * kinds * p) / np.maximum(total, 1), p)


def n_gram_bits(train: np.ndarray, test: np.ndarray, size: int, order: int) -> float:
    span, base = np.lib.stride_tricks.sliding_window_view, size ** np.arange(order)[::-1]
    grams, counts = np.unique(span(train, order) @ base, return_counts=True)
    return -np.log2(kneser_ney(grams, counts, span(test, order) @ base, size, order)).mean()


def picture(path, history, baselines: dict[str, float], positions: dict[str, np.ndarray]) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    smooth = [part.mean() for part in np.array_split(history.loss, min(200, len(history.loss)))]
    millions, epochs = STREAMS * CHUNK * len(history.loss) / 1e6, len(history.validation)
    left.plot(millions * np.arange(1, len(smooth) + 1) / len(smooth), smooth, label="training")
    ends = millions * np.arange(1, epochs + 1) / epochs
    left.plot(ends, history.validation, "o", label="held out")
    for (name, value), style in zip(baselines.items(), (":", "--"), strict=True):
        left.axhline(value, color="0.4", ls=style, label=f"{name}, held out")
    left.set(xlabel="characters read in training (millions)", ylabel="bits a character")
    for (name, cost), colour in zip(positions.items(), ("C1", "C2"), strict=True):
        right.plot(np.arange(CHUNK), cost, colour, label=f"{name}, held out")
    right.set(xlabel="characters since the cut", ylabel="bits a character")
    for axes in (left, right):
        axes.legend(frameon=False)
    save(figure, path)


def main(argv: Sequence[str] | None = None) -> None:
    options = parser(__doc__, data=True, epochs=3).parse_args(argv)

    train_text, test_text = load(options.data_dir)
    vocabulary = text.build_vocabulary([train_text], tokenize=list)
    train, test = (text.encode(vocabulary, each, tokenize=list) for each in (train_text, test_text))
    chunks = [data.chunks(each, CHUNK, batch_first=True) for each in streams(train)]
    batches, test_xy = list(zip(*chunks, strict=True)), streams(test)

    rate = optim.cosine_annealing_lr(LR, options.epochs * len(batches))
    fitted = fit(
        loss,
        optax.chain(optim.clip_grad_norm(1.0), optim.adam(rate)),
        models.init_sequence_model(
            jax.random.key(0), "gru", 64, HIDDEN, len(vocabulary), vocab_size=len(vocabulary)
        ),
        batches,
        epochs=options.epochs,
        state=jnp.zeros((1, STREAMS, HIDDEN)),
        validate=lambda params: bits(params, *test_xy)[0].mean(),
    )

    # bzip2 begins anew every 900 kB: as much of the training text goes before as makes a block.
    before = train_text[len(test_text) - 899_000 :]
    compressed = lambda text: len(bz2.compress(text.encode("latin-1")))
    baselines = {
        "bzip2": 8 * (compressed(before + test_text) - compressed(before)) / len(test_text),
        f"{ORDER}-grams": n_gram_bits(train, test, len(vocabulary), ORDER),
    }
    cut = (each.reshape(-1, CHUNK) for each in test_xy)
    positions = {
        "state carried": bits(fitted.params, *test_xy)[0].reshape(-1, CHUNK).mean(0),
        "state zero at each cut when tested": bits(fitted.params, *cut)[0].mean(0),
    }
    for name, value in baselines.items():
        print(f"{name}: {value:.3f} bits a character")
    for name, cost in positions.items():
        print(f"GRU, {name}: {cost.mean():.3f} bits a character")
    prompt = text.encode(vocabulary, "\nHAMLET.\n", tokenize=list)
    ids = sample(fitted.params, prompt, 500, jax.random.key(1))
    print("HAMLET.", "".join(text.decode(vocabulary, ids)), sep="\n")
    picture(options.folder / "shakespeare.png", fitted.history, baselines, positions)


if __name__ == "__main__":
    main()
