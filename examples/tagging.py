"""Parts of speech: what is it worth to read on, before saying what a word is?

The idea is `bidirectional`: "her" is a pronoun or a determiner, which the next word decides. One
LSTM reads forwards; another has as many outputs, half of them from reading backwards. What decides
is near: a linear model that sees the neighbours of a word does as well as the better LSTM, and does
better at words that do not occur in training.

Data: the Brown corpus (Francis & Kučera 1964), 500 documents in lower case, their tags mapped
to the twelve of Petrov, Das & McDonald (2012). Every tenth document is tested with as a whole: the
words that a document repeats would otherwise be known from its other sentences.

    pip install -e ".[examples]" && python examples/tagging.py
"""

import functools
import pathlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import jax
import matplotlib.pyplot as plt
import numpy as np
from command import parser, save
from datasets import BROWN, read
from sklearn.feature_extraction import FeatureHasher
from sklearn.linear_model import SGDClassifier

from jaxrnn import data, losses, models, optim, text
from jaxrnn.training import fit


EMBEDDING, OUTPUTS, BATCH = 64, 128, 64
RULES = {  # what Brown's tags begin with; the first that fits
    "X": r"fw-|nil",
    "PRT": r"ab[ln]|ex|rp|to|uh|(?!be|do|hv|md|vb).*\+(be|do|hv|md|vb)|(ap|jj|rb)\$",
    "NOUN": r"n[npr]|pn|cd\$",
    "VERB": r"be|do|hv|md|vb",
    "ADJ": r"ap|jj|od",
    "ADV": r"\*|ql|r[bn]|w[qr]",
    "PRON": r"pp\$\$|pp[los]|wp[os]",
    "DET": r"abx|at|dt|pp\$|w[dp]",
    "ADP": r"cs|in",
    "NUM": r"cd",
    "CONJ": r"cc",
    ".": r"[.,:()'`-]",
}
TAGS = {tag: i for i, tag in enumerate(RULES, start=1)}  # 0 is padding, as in ids

Sentences = list[tuple[list[str], list[int]]]  # words and tags of each


@functools.cache
def universal(brown: str) -> int:
    return next(TAGS[tag] for tag, rule in RULES.items() if re.match(rule, brown))


def load(data_dir: pathlib.Path | None) -> tuple[Sentences, Sentences]:
    """Those to train on, and those to test with, the shortest first."""
    train, test = [], []
    for n, document in enumerate(read(BROWN, "c[a-r][0-9][0-9]", data_dir).values()):
        for line in filter(str.strip, document.decode().lower().splitlines()):
            words, _, tags = zip(*(each.rpartition("/") for each in line.split()), strict=True)
            (test if n % 10 == 9 else train).append((words, [universal(tag) for tag in tags]))
    return train, sorted(test, key=lambda sentence: len(sentence[0]))


def batches(ids: list, tags: list, rng=None) -> Iterator[tuple[np.ndarray, ...]]:
    """Padded ids, lengths, tags; as long as a power of 2, since every shape is compiled for."""
    for i in data.batches_by_length([len(each) for each in ids], BATCH, rng=rng):
        steps = 2 ** (len(ids[i[-1]]) - 1).bit_length()
        padded, lengths = text.collate([ids[j] for j in i], max_length=steps)
        yield padded, lengths, text.collate([tags[j] for j in i], max_length=steps)[0]


def logits(params, ids, lengths, key=None):
    options = {"pool": None, "lengths": lengths, "head_dropout": 0.3, "key": key}
    return models.sequence_model(params, ids, **options)[0]


def loss(params, ids, lengths, tags, key):
    found = logits(params, ids, lengths, key).swapaxes(1, 2)  # classes on axis 1, as in torch
    return losses.cross_entropy(found, tags, ignore_index=0)


def features(sentences: Sentences) -> Iterator[list[str]]:
    """What the linear model sees of a word: its neighbours, itself, and how it ends."""
    for words, _ in sentences:
        padded = ["", *words, ""]
        for before, word, after in zip(padded, words, padded[2:], strict=False):
            pairs = f"{before} {word}", f"{word} {after}"
            seen = before, word, after, *pairs, word[-2:], word[-3:]
            yield [f"{place} {each}" for place, each in enumerate(seen)]


def baselines(train: Sentences, test: Sentences, counts: dict[str, Counter]) -> dict:
    usual = {word: found.most_common(1)[0][0] for word, found in counts.items()}
    hashed = FeatureHasher(2**20, input_type="string", alternate_sign=False).transform
    linear = SGDClassifier(loss="log_loss", alpha=1e-6, max_iter=2, tol=None, random_state=0)
    linear.fit(hashed(features(train)), [tag for _, tags in train for tag in tags])
    return {
        "the word's most frequent tag": np.array(
            [usual.get(word, TAGS["NOUN"]) for words, _ in test for word in words]
        ),
        "linear, on three words and endings": linear.predict(hashed(features(test))),
    }


def picture(path: pathlib.Path, words: np.ndarray, wrong: dict[str, np.ndarray]) -> None:
    """The words at which the first of the systems errs most often."""
    first, *_ = wrong.values()
    rows = [word for word, _ in Counter(words[first]).most_common(15)]
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    for (name, errors), marker in zip(wrong.items(), "x+.o", strict=True):
        axes.plot([100 * errors[words == word].mean() for word in rows], rows, marker, label=name)
    axes.invert_yaxis()
    axes.grid(axis="y", color="0.92")
    axes.set(xlabel="tagged wrongly, of the word's occurrences in the test part (%)")
    axes.legend(frameon=False)
    save(figure, path)


def main(argv: Sequence[str] | None = None) -> None:
    options = parser(__doc__, data=True, epochs=3).parse_args(argv)

    train, test = load(options.data_dir)
    tags, test_tags = [tags for _, tags in train], [tags for _, tags in test]
    words = np.array([word for words, _ in test for word in words])
    counts = defaultdict(Counter)
    for sentence in train:
        for word, tag in zip(*sentence, strict=True):
            counts[word][tag] += 1
    answers = baselines(train, test, counts)

    # Rare words are read as their endings, so that the network has seen those of unknown ones.
    often = {word for word, found in counts.items() if found.total() > 2}
    spell = lambda words: [word if word in often else "-" + word[-3:] for word in words]
    vocabulary = text.build_vocabulary(
        [words for words, _ in train], max_size=50000, tokenize=spell
    )
    ids, test_ids = (
        [text.encode(vocabulary, words, tokenize=spell) for words, _ in part]
        for part in (train, test)
    )
    tagged = jax.jit(lambda *arguments: logits(*arguments).argmax(-1))
    for name, bidirectional in {"LSTM, forwards": False, "LSTM, both directions": True}.items():
        sizes = EMBEDDING, OUTPUTS // 2 if bidirectional else OUTPUTS, len(TAGS) + 1
        params = models.init_sequence_model(
            *(jax.random.key(0), "lstm", *sizes),
            vocab_size=len(vocabulary),
            bidirectional=bidirectional,
        )
        fitted = fit(
            loss,
            optim.adam,
            params,
            lambda epoch: batches(ids, tags, np.random.default_rng(epoch)),
            epochs=options.epochs,
            lr=optim.cosine_annealing_lr(4e-3, options.epochs),
            key=jax.random.key(1),
        )
        answers[name] = np.concatenate(
            [
                np.asarray(tagged(fitted.params, *batch))[wanted > 0]
                for *batch, wanted in batches(test_ids, test_tags)
            ]
        )

    unknown = np.array([word not in counts for word in words])
    wrong = {name: answer != np.concatenate(test_tags) for name, answer in answers.items()}
    print(f"{len(words)} words, of which {unknown.sum()} do not occur in the training part")
    for name, errors in wrong.items():
        of_all, of_unknown = 100 * errors.mean(), 100 * errors[unknown].mean()
        print(f"{name}: {of_all:.2f} % wrong, of the unknown {of_unknown:.1f} %")
    picture(options.folder / "tagging.png", words, wrong)


if __name__ == "__main__":
    main()
