"""Did the critic like the film? Two classifiers of sentences, and what they think word by word.

The idea is what is kept of a bidirectional LSTM's outputs: the final states, or the maximum over
time, each with the head that a text gives it. By `lengths` padding takes part in neither, and a
trained model can be asked after every word. With so few sentences to learn from, naive Bayes on
words and pairs of words does better than both.

Data: Rotten Tomatoes (Pang & Lee 2005), 10,605 snippets of reviews, as 20 readers rated each (Hutto
& Gilbert 2014). A tenth is tested with, drawn at random, since the data do not say which film a
snippet is on: others on the same film may be trained on. So few snippets leave an error of 1.3 %.

    pip install -e ".[examples]" && python examples/sentiment.py
"""

import functools
import pathlib
import re
from collections.abc import Iterator, Sequence

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
from command import parser, save
from datasets import ROTTEN_TOMATOES, read
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from jaxrnn import data, losses, models, optim, text
from jaxrnn.training import fit


SIZES, BATCH, UNKNOWN = (100, 64), 64, 1  # embedding and hidden; sentences; the unknown word's id


def load(data_dir: pathlib.Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Snippets; their mean ratings between -4 and 4, without those of 0."""
    name = "movieReviewSnippets_GroundTruth.txt"
    lines = read(ROTTEN_TOMATOES, name, data_dir)[name].decode().splitlines()
    _, ratings, snippets = np.array([line.split("\t") for line in lines]).T
    ratings = ratings.astype(float)
    return snippets[ratings != 0], ratings[ratings != 0]


def tokens(snippet: str) -> list[str]:
    return re.findall(r"\w+(?:'\w+)*|[^\w\s]+", snippet.lower())


def final_states(params, ids, lengths, key=None):
    return models.sentiment_classifier(params, ids, lengths, key=key)


def maximum(params, ids, lengths, key=None):
    return jax.nn.softmax(models.text_classifier(params, ids, lengths=lengths, key=key))[:, 1]


def loss(probability, params, ids, lengths, liked, key):
    return losses.binary_cross_entropy(probability(params, ids, lengths, key), liked)


def error(network, ids, lengths, liked, params) -> float:
    return float(np.mean((network(params, ids, lengths) > 0.5) != (liked > 0.5)))


def picture(path: pathlib.Path, titles: list, words: list, curves: dict) -> None:
    figure, rows = plt.subplots(len(words), figsize=(8, 9), layout="constrained", squeeze=False)
    ends = np.cumsum([len(each) for each in words])
    for i, axes in enumerate(rows[:, 0]):
        for (name, curve), style in zip(curves.items(), ("0.7", "C0.-", "C1.-"), strict=True):
            axes.plot(np.split(curve, ends)[i], style, label=name)
        axes.axhline(0.5, color="0.6", ls=":")
        axes.set(title=titles[i], ylim=(-0.05, 1.05))
        axes.set_xticks(range(len(words[i])), words[i], rotation=35, ha="right")
    figure.supylabel("probability that the rating is positive, after each word")
    figure.legend(*rows[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    save(figure, path)


def main(argv: Sequence[str] | None = None) -> None:
    options = parser(__doc__, data=True, epochs=6).parse_args(argv)

    snippets, ratings = load(options.data_dir)
    liked, n = (ratings > 0).astype(float), len(ratings)
    test, dev, train = np.split(np.random.default_rng(0).permutation(n), [n // 10, n // 5])
    vocabulary = text.build_vocabulary(snippets[train], min_count=2, tokenize=tokens)
    ids = [text.encode(vocabulary, snippet, tokenize=tokens) for snippet in snippets]
    lengths = np.array([len(each) for each in ids])

    def batch(i: np.ndarray) -> tuple[np.ndarray, ...]:
        """Padded to a multiple of 24 steps, since every new shape is compiled for."""
        steps = -(-int(lengths[i].max()) // 24) * 24
        return *text.collate([ids[j] for j in i], max_length=steps), liked[i]

    def batches(epoch: int) -> Iterator[tuple[np.ndarray, ...]]:
        """A fifth of the words, drawn anew, is unknown, so that none decides alone."""
        rng = np.random.default_rng(epoch)
        for i in data.batches_by_length(lengths[train], BATCH, rng=rng):
            padded, *rest = batch(train[i])
            yield np.where(rng.random(padded.shape) < 0.2, np.int32(UNKNOWN), padded), *rest

    # Sentences that turn round at a "but", and all that they begin with.
    shown = [i for i in test if "but" in tokens(snippets[i])[3:-3] and lengths[i] < 20][:4]
    words = [tokens(snippets[i]) for i in shown]
    begun = text.collate([ids[i] for i in shown for _ in ids[i]])[0]
    steps = np.concatenate([np.arange(len(each)) + 1 for each in words])

    bayes = make_pipeline(
        CountVectorizer(tokenizer=tokens, token_pattern=None, binary=True, ngram_range=(1, 2)),
        MultinomialNB(),
    )
    bayes.fit(snippets[train], liked[train])
    right = {"naive Bayes, words and pairs": bayes.score(snippets[test], liked[test])}
    beginnings = [" ".join(each[: k + 1]) for each in words for k in range(len(each))]
    curves = {"naive Bayes, words and pairs": bayes.predict_proba(beginnings)[:, 1]}
    init = jax.random.key(0), len(vocabulary), *SIZES
    for name, probability, start in (
        ("BiLSTM, final states", final_states, models.init_sentiment_classifier(*init)),
        ("BiLSTM, maximum over time", maximum, models.init_text_classifier(*init, 2)),
    ):
        network = jax.jit(probability)
        params = fit(
            functools.partial(loss, probability),
            optax.chain(optim.clip_grad_norm(1.0), optim.adam(2e-3)),
            start,
            batches,
            epochs=options.epochs,
            key=jax.random.key(1),
            validate=functools.partial(error, network, *batch(dev)),
        ).best
        right[name] = 1 - error(network, *batch(test), params)
        curves[name] = network(params, begun, steps)

    for name, share in right.items():
        print(f"{name}: {100 * share:.1f} % of {len(test)} snippets right")
    titles = [f"rated {ratings[i]:+.1f}" for i in shown]
    picture(options.folder / "sentiment.png", titles, words, curves)


if __name__ == "__main__":
    main()
