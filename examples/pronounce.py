"""How is a word pronounced? Letters to phones, with attention and beam search.

No letter has a sound of its own. So an encoder reads the whole word, forwards and backwards, and a
decoder that writes one phone after another attends, at each, to the letters that it needs.

Data: CMUdict, 126,052 words, a tenth of which is tested with. Phones are without stress, and the
nearest of a word's pronunciations counts: PER is the share of wrong phones, WER that of words with
any. Published on other splits of it, not measured here: WER 39 and 31 for CMUSphinx's LSTMs of 2 x
64 and 2 x 512, 33.9 for Phonetisaurus, a transducer.

    pip install -e ".[examples]" && python examples/pronounce.py
    python examples/pronounce.py any words          # by what has been trained
"""

import functools
import pathlib
import sys
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from command import parser, save
from datasets import CMUDICT, read
from rapidfuzz.distance import Levenshtein

import jaxrnn
from jaxrnn import data, losses, models, optim, text
from jaxrnn.training import fit


BATCH, EMBEDDING, HIDDEN, BEAM = 128, 64, 128, 4
STEPS = 7, 9, 13  # to which words are padded, or to the longest: every shape compiles anew
SHOWN = "breakthrough", "knights", "righteous", "physics"  # words that are tested with
ARPABET = """AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH
             UW V W Y Z ZH"""
SPECIALS = "<PAD>", "<UNK>", "<SOS>", "<EOS>"
LETTERS = text.build_vocabulary(["abcdefghijklmnopqrstuvwxyz'-."], tokenize=list)
PHONES = text.build_vocabulary([ARPABET], specials=SPECIALS, tokenize=str.split)
DECODING = {"sos": PHONES["<SOS>"], "eos": PHONES["<EOS>"], "max_length": 40}

greedy = jax.jit(functools.partial(models.greedy, **DECODING))
beam_search = functools.partial(models.beam_search, **DECODING)
beam_search = jax.jit(beam_search, static_argnames="beam_width")


def load(data_dir: pathlib.Path | None) -> dict[str, list[str]]:
    """The pronunciations of every word, such as "K AE T", each once."""
    dictionary: dict[str, list[str]] = {}
    for line in read(CMUDICT, "cmudict.dict", data_dir)["cmudict.dict"].decode().splitlines():
        word, *phones = line.partition("#")[0].split()
        known = dictionary.setdefault(word.partition("(")[0], [])  # cat(2) is another one of cat
        spoken = " ".join(phone.rstrip("012") for phone in phones)
        if spoken not in known:
            known.append(spoken)
    return dictionary


def spell(words):
    return text.collate([text.encode(LETTERS, word, tokenize=list) for word in words])


def batches(lengths, rng=None):
    """Indices, and to how many steps to pad; the last batch repeats itself until it is full."""
    steps = np.array([*STEPS, lengths.max()])[np.searchsorted(STEPS, lengths)]
    for i in data.batches_by_length(steps, BATCH, rng=rng):
        yield np.resize(i, BATCH), steps[i].max()


def loss(params, source, target, lengths):
    logits, _ = models.seq2seq(params, source, target, lengths=lengths, teacher_forcing_ratio=1.0)
    return losses.cross_entropy(jnp.moveaxis(logits, -1, 1)[..., 1:], target[:, 1:], ignore_index=0)


def pronounce(params, words: Sequence[str], beam_width: int) -> list[list[tuple[str, float]]]:
    """For each word a beam of pronunciations, the best first, and their probabilities."""
    (source, lengths), beams = spell(words), [[]] * len(words)
    for i, steps in batches(lengths):
        found = beam_search(params, source[i, :steps], beam_width=beam_width, lengths=lengths[i])
        for n, *beam in zip(i, *jax.device_get(found)[:3], strict=True):
            beams[n] = [
                (" ".join(text.decode(PHONES, tokens[:length])), np.exp(score))
                for tokens, length, score in zip(*beam, strict=True)
            ]
    return beams


def error_rates(params, words, dictionary, beam_width=1) -> np.ndarray:
    """PER and WER in %; a beam of 1 is greedy."""
    nearest = []
    for word, [(best, _), *_] in zip(words, pronounce(params, words, beam_width), strict=True):
        known = [spoken.split() for spoken in dictionary[word]]
        found = best.split()
        nearest.append(min((Levenshtein.distance(found, each), len(each)) for each in known))
    wrong, phones = np.transpose(nearest)
    return 100 * np.array([wrong.sum() / phones.sum(), np.mean(wrong > 0)])


def train(words, dictionary, epochs, validate):
    pairs = [(word, spoken) for word in words for spoken in dictionary[word]]
    source, lengths = spell([word for word, _ in pairs])
    target, ends = text.collate(
        [text.encode(PHONES, f"<SOS> {spoken} <EOS>", tokenize=str.split) for _, spoken in pairs]
    )

    def epoch(number):
        drawn = batches(np.maximum(lengths, ends - 1), np.random.default_rng(number))
        return [(source[i, :steps], target[i, : steps + 1], lengths[i]) for i, steps in drawn]

    rate = optim.cosine_annealing_lr(5e-3, epochs * len(epoch(0)))
    params = models.init_seq2seq(
        *(jax.random.key(0), len(LETTERS), len(PHONES), EMBEDDING, HIDDEN),
        bidirectional=True,
        attention="additive",
    )
    optimizer = optax.chain(optim.clip_grad_norm(1.0), optim.adam(rate))
    return fit(loss, optimizer, params, epoch, epochs=epochs, validate=validate).best


def picture(path: pathlib.Path, params, words: Sequence[str], dictionary) -> None:
    """To which letters greedy decoding attends for each phone; right or wrong, its own phones."""
    source, lengths = spell(words)
    decoded = jax.device_get(greedy(params, source, lengths=lengths))
    figure, panels = plt.subplots(2, 2, figsize=(8, 7.5), layout="constrained")
    for axes, word, phones, n, _, weights in zip(panels.flat, words, *decoded, strict=True):
        known, said = dictionary.get(word, []), " ".join(text.decode(PHONES, phones[:n]))
        image = axes.imshow(weights[: n + 1, : len(word)], cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(word)), word)
        axes.set_yticks(range(n + 1), [*said.split(), "end"])
        title = f"{'right' if said in known else 'wrong'}; CMUdict: {', '.join(known) or '-'}"
        axes.set(title=title, xlabel="letters read", ylabel="phones written")
    figure.colorbar(image, ax=panels, shrink=0.5, label="attention, which adds up to 1 in each row")
    save(figure, path)


def say(path: pathlib.Path, words: Sequence[str], data_dir: pathlib.Path | None) -> None:
    if unknown := [word for word in words if not word or set(word) - set(LETTERS)]:
        sys.exit(f"words are of the letters a to z, ' - and ., not {unknown[0]!r}")
    if not path.exists():
        sys.exit(f"there is no {path.resolve()} yet: without words, this script trains it")
    dictionary = load(data_dir)
    for word, beam in zip(words, pronounce(jaxrnn.load(path), words, BEAM), strict=True):
        print(f"{word}; CMUdict: {', '.join(dictionary.get(word, ['not in it']))}")
        for spoken, probability in beam:
            print(f"{probability:7.1%}  {spoken}")


def main(argv: Sequence[str] | None = None) -> None:
    command = parser(__doc__, data=True, epochs=2)
    command.add_argument("words", nargs="*", type=str.lower, help="to be pronounced, once trained")
    options = command.parse_args(argv)
    path = options.folder / "pronounce.safetensors"
    if options.words:
        say(path, options.words, options.data_dir)
        return

    dictionary = load(options.data_dir)
    words = np.random.default_rng(0).permutation(list(dictionary))
    test, dev, rest = np.split(words, [len(words) // 10, len(words) // 9])
    started = time.perf_counter()
    dev_wer = lambda params: error_rates(params, dev, dictionary)[1]
    params = train(rest, dictionary, options.epochs, validate=dev_wer)
    jaxrnn.save(path, params)
    print(f"trained on {len(rest):,} words in {time.perf_counter() - started:.0f} s: {path}")
    for width in (1, BEAM):
        per, wer = error_rates(params, test, dictionary, width)
        print(f"{len(test):,} test words, beam of {width}: PER {per:.1f} %, WER {wer:.1f} %")
    picture(options.folder / "pronounce.png", params, SHOWN, dictionary)


if __name__ == "__main__":
    main()
