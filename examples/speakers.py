"""Which of nine men says "ae"? Sequences of 7 to 29 steps, padded in a batch, classified.

The idea is `lengths`: padding takes part in nothing. So a batch holds sequences of any length, and
shorter lengths are all that it takes to train on beginnings, and to ask after every step. Half of
the utterances are cut somewhere, every epoch anew. Linear models of an utterance's mean, first and
last step do as well on beginnings, and better on what is whole.

Data: Japanese Vowels (Kudo, Toyama & Shimbo 1999), 270 utterances to train on and 370 to be tested
with, at every step 12 coefficients of the spectrum's envelope.

    pip install -e ".[examples]" && python examples/speakers.py
"""

import pathlib
from collections.abc import Sequence

import jax
import matplotlib.pyplot as plt
import numpy as np
from command import parser, save
from datasets import JAPANESE_VOWELS, read
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from jaxrnn import data, losses, models, optim, pad_sequence
from jaxrnn.training import fit


SPEAKERS, CHANNELS, BATCH = 9, 12, 30


def load(data_dir: pathlib.Path | None) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """To train on and to test with: normalised utterances (N, T, 12), lengths, speakers from 0."""
    parts = []
    for name in ("JapaneseVowels_TRAIN.ts", "JapaneseVowels_TEST.ts"):
        text = read(JAPANESE_VOWELS, name, data_dir)[name].decode()
        rows = [row.split(":") for row in text.split("@data")[1].split()]  # channels, speaker
        xs = [np.array([row.split(",") for row in each[:-1]], np.float32).T for each in rows]
        lengths, speaker = [len(x) for x in xs], [int(each[-1]) - 1 for each in rows]
        x = np.asarray(pad_sequence(xs, batch_first=True))
        parts.append((x, np.array(lengths), np.array(speaker)))
    x, lengths, _ = parts[0]
    scale = data.fit_z_score(x[np.arange(x.shape[1]) < lengths[:, None]])
    return [(data.normalise(scale, x), *rest) for x, *rest in parts]


def logits(params, x, lengths, key=None):
    return models.sequence_model(params, x, lengths=lengths, head_dropout=0.5, key=key)[0]


def loss(params, x, lengths, speaker, key):
    return losses.cross_entropy(logits(params, x, lengths, key), speaker)


def summary(x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Mean, first and last step of each utterance, which is all that a linear model sees."""
    rows = zip(x, lengths, strict=True)
    return np.array([[*each[:n].mean(0), *each[0], *each[n - 1]] for each, n in rows])


def picture(path: pathlib.Path, steps: np.ndarray, curves: dict[str, np.ndarray]) -> None:
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for label, right in curves.items():
        axes.plot(steps, right, ".-", label=label)
    axes.axhline(100 / SPEAKERS, color="0.6", ls=":", label="guessing")
    axes.set(xlabel="steps heard, at most", ylabel="test utterances recognised (%)")
    axes.legend(frameon=False)
    save(figure, path)


def main(argv: Sequence[str] | None = None) -> None:
    options = parser(__doc__, data=True, epochs=80).parse_args(argv)
    (x, lengths, speaker), (test_x, test_lengths, test_speaker) = load(options.data_dir)
    longest = x.shape[1]

    def batches(epoch):
        rng = np.random.default_rng(epoch)
        for i in data.batches(len(x), BATCH, rng=rng):
            cut = np.where(
                rng.random(len(i)) < 0.5, longest, rng.integers(longest, size=len(i)) + 1
            )
            yield x[i], np.minimum(lengths[i], cut), speaker[i]

    params = models.init_sequence_model(
        jax.random.key(0), "lstm", CHANNELS, 100, SPEAKERS, bidirectional=True
    )
    fitted = fit(
        loss,
        optim.adam,
        params,
        batches,
        epochs=options.epochs,
        lr=optim.cosine_annealing_lr(3e-3, options.epochs),
        key=jax.random.key(1),
    )

    beginnings = [summary(x, np.minimum(lengths, k)) for k in range(1, longest + 1)]
    begun = LinearDiscriminantAnalysis().fit(np.concatenate(beginnings), np.tile(speaker, longest))
    whole = LinearDiscriminantAnalysis().fit(beginnings[-1], speaker)
    answers = {
        "BiLSTM": jax.jit(lambda n: logits(fitted.params, test_x, n).argmax(-1)),
        "linear, of all beginnings": lambda n: begun.predict(summary(test_x, n)),
        "linear, of whole utterances": lambda n: whole.predict(summary(test_x, n)),
    }
    steps, curves = np.arange(1, test_lengths.max() + 1), {}
    for name, answer in answers.items():
        right = [answer(np.minimum(test_lengths, k)) == test_speaker for k in steps]
        curves[name] = 100 * np.mean(right, axis=1)
        print(f"{name}: {curves[name][-1]:.1f} % right, {curves[name][6]:.1f} % after 7 steps")
    picture(options.folder / "speakers.png", steps, curves)


if __name__ == "__main__":
    main()
