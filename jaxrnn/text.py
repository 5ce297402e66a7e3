"""From texts to padded ids, with a vocabulary of the most frequent words.

A vocabulary is a dict from word to id: `len(vocabulary)` is the size of the embedding and
`vocabulary["<SOS>"]` is an id. Id 0 is always padding, and 1 the unknown word.
"""

import json
import pathlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Int, Int32

from ._check import as_integers, check_positive


Tokenize = Callable[[Any], Iterable[str]]
_KIND = "jaxrnn vocabulary, version 1"


def words(text: str) -> list[str]:
    """Lower-cases a text and splits it on white space.

    Raises:
        TypeError: `text` is not a string.

    Source: a text-preprocessing class as in many PyTorch tutorials.

    >>> words("The film,  the FILM")
    ['the', 'film,', 'the', 'film']
    """
    if not isinstance(text, str):
        raise TypeError(
            f"`text` must be a string, got a {type(text).__name__}: pass tokenize=list if it is "
            "split already"
        )
    return text.lower().split()


def build_vocabulary(
    texts: Iterable[Any],
    *,
    max_size: int = 10000,
    min_count: int = 1,
    specials: Sequence[str] = ("<PAD>", "<UNK>"),
    tokenize: Tokenize = words,
) -> dict[str, int]:
    """Numbers the most frequent words of some texts, after the specials, by falling frequency.

    Equally frequent words are in the order of their first occurrence.

    Args:
        texts: an iterable of texts.
        max_size: how many entries to keep, including the specials.
        min_count: how often a word must occur to be kept.
        specials: the first entries: padding, the unknown word, then any others, such as `"<SOS>"`
            and `"<EOS>"`. A word of the texts that equals one of them gets its id.
        tokenize: splits a text into words; `list` takes characters, or texts already split.

    Returns:
        A dict from word to id, in the order of the ids.

    Raises:
        ValueError: there are fewer than two specials, or one twice; there is no room for a word
            after them; or no word occurs often enough (everything would be unknown).
        TypeError: `texts` is a single string, or `tokenize` does not split one into strings.

    Source: a text-preprocessing class as in many PyTorch tutorials.

    >>> build_vocabulary(["a good film", "A bad film"], max_size=5)
    {'<PAD>': 0, '<UNK>': 1, 'a': 2, 'film': 3, 'good': 4}
    """
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        raise TypeError(
            f"`texts` must be an iterable of texts, got a {type(texts).__name__}: put a single "
            "text in brackets"
        )
    apart = not isinstance(specials, str) and all(isinstance(word, str) for word in specials)
    if not apart or len(specials) < 2 or len(set(specials)) < len(specials):
        raise ValueError(
            "`specials` must be at least two different strings, padding and the unknown word "
            f"first, got {specials!r}"
        )
    check_positive(min_count=min_count, max_size=max_size)
    if max_size <= len(specials):
        raise ValueError(
            f"`max_size` must exceed the {len(specials)} specials, which it counts, got {max_size}"
        )
    counts = Counter(word for text in texts for word in _tokens(tokenize, text))
    kept = [word for word, n in counts.most_common() if n >= min_count and word not in specials]
    if not kept:
        raise ValueError(
            f"`texts` must hold a word that occurs at least {min_count} times, got {len(counts)} "
            f"different words, none of them that often: everything would be {specials[1]}"
        )
    return {word: i for i, word in enumerate([*specials, *kept][:max_size])}


def encode(
    vocabulary: Mapping[str, int],
    text: Any,
    *,
    max_length: int | None = None,
    tokenize: Tokenize = words,
) -> Int32[np.ndarray, " T"]:
    """Returns the ids of a text's words, 1 for a word that is not in the vocabulary.

    Args:
        vocabulary: from `build_vocabulary`.
        text: a text for `tokenize`; if it is empty, T is 0.
        max_length: how many words to keep at most; `collate` pads.
        tokenize: as in `build_vocabulary`.

    Raises:
        ValueError: `max_length` is not a positive integer.
        TypeError: `vocabulary` is not a dict, or `tokenize` does not split `text` into strings.

    Source: a text-preprocessing class as in many PyTorch tutorials.

    >>> encode({"<PAD>": 0, "<UNK>": 1, "good": 2}, "Good grief")
    array([2, 1], dtype=int32)
    """
    _check_vocabulary(vocabulary)
    if max_length is not None:
        check_positive(max_length=max_length)
    tokens = _tokens(tokenize, text)[:max_length]
    return np.array([vocabulary.get(token, 1) for token in tokens], np.int32)


def decode(vocabulary: Mapping[str, int], ids: Int[ArrayLike, " T"] | Sequence[int]) -> list[str]:
    """Returns the words of some ids, including specials.

    Raises:
        ValueError: `ids` does not have one axis, or has an id that is not in the vocabulary.
        TypeError: `vocabulary` is not a dict, or `ids` are not integers.

    Source: a text-preprocessing class as in many PyTorch tutorials.

    >>> decode({"<PAD>": 0, "<UNK>": 1, "good": 2}, [2, 1, 0])
    ['good', '<UNK>', '<PAD>']
    """
    _check_vocabulary(vocabulary)
    array = as_integers("ids", ids)
    if array.ndim != 1:
        raise ValueError(f"`ids` must have one axis, time, got shape {array.shape}")
    words = {i: word for word, i in vocabulary.items()}
    for position, i in enumerate(array.tolist()):
        if i not in words:
            raise ValueError(
                f"`ids` must be among the {len(words)} of `vocabulary`, got {i} at {position}"
            )
    return [words[i] for i in array.tolist()]


def collate(
    sequences: Iterable[Int[ArrayLike, "_"] | Sequence[int]], *, max_length: int | None = None
) -> tuple[Int32[np.ndarray, "B T"], Int32[np.ndarray, " B"]]:
    """Stacks id sequences of unequal length, padded with 0, and returns their lengths too.

    Args:
        sequences: B sequences of ids, each of any length, also 0.
        max_length: T; longer sequences are cut to it. By default it is the longest length, but at
            least 1, because a layer needs a time step.

    Returns:
        ``(ids, lengths)`` of the shapes (B, T), batch-first, for an embedding and the models, and
        (B,), for the `lengths` of layers.

    Raises:
        ValueError: there are no sequences, one does not have one axis, an id is negative or beyond
            int32, or `max_length` is not a positive integer.
        TypeError: a sequence does not consist of integers.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pad_sequence.html

    >>> collate([[5, 6, 7], [8]], max_length=2)
    (array([[5, 6],
           [8, 0]], dtype=int32), array([2, 1], dtype=int32))
    """
    arrays = [as_integers("sequences", sequence) for sequence in sequences]
    if not arrays:
        raise ValueError("`sequences` must hold at least one sequence, got none")
    for i, array in enumerate(arrays):
        if array.ndim != 1:
            cause = ": put a single sequence in brackets" if array.ndim == 0 else ""
            raise ValueError(
                f"`sequences` must have one axis each, time, got shape {array.shape} at {i}{cause}"
            )
        if array.size and not 0 <= array.min() <= array.max() <= np.iinfo(np.int32).max:
            wrong = array.min() if array.min() < 0 else array.max()
            raise ValueError(f"`sequences` must hold ids from 0 to 2³¹ - 1, got {wrong} at {i}")
    if max_length is not None:
        check_positive(max_length=max_length)
    steps = max_length or max(1, *map(len, arrays))
    ids = np.zeros((len(arrays), steps), np.int32)
    for row, array in zip(ids, arrays, strict=True):
        row[: len(array)] = array[:steps]
    return ids, np.array([min(len(array), steps) for array in arrays], np.int32)


def save_vocabulary(path: str | PathLike[str], vocabulary: Mapping[str, int]) -> None:
    """Writes a vocabulary to a JSON file (UTF-8) that `load_vocabulary` reads.

    Raises:
        ValueError: the ids are not 0, 1, 2, …, each once, or there are fewer than two.
        TypeError: `vocabulary` is not a dict.
        FileNotFoundError: there is no such folder.

    Source: https://docs.python.org/3/library/json.html
    """
    _check_vocabulary(vocabulary)
    words = {i: word for word, i in vocabulary.items()}
    strings = all(isinstance(word, str) for word in vocabulary)
    if not strings or len(vocabulary) < 2 or set(words) != set(range(len(vocabulary))):
        raise ValueError(
            "`vocabulary` must give strings the ids 0, 1, 2, …, each once and at least two, got "
            f"{len(vocabulary)} words and {len(words)} different ids"
        )
    path = pathlib.Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"`path` lies in a folder that does not exist: {path}")
    content = {"kind": _KIND, "words": [words[i] for i in range(len(words))]}
    # A str may legally hold half a surrogate pair.
    text = json.dumps(content, ensure_ascii=False, indent=0)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))


def load_vocabulary(path: str | PathLike[str]) -> dict[str, int]:
    """Reads a vocabulary that `save_vocabulary` wrote, in the order of the ids.

    Raises:
        ValueError: the file is damaged, or `save_vocabulary` did not write it.
        FileNotFoundError: there is no such file.

    Source: https://docs.python.org/3/library/json.html
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"`path` names no file: {path}")
    try:
        content = json.loads(path.read_bytes().decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        content = None
    match content:
        case {"kind": kind, "words": [_, _, *_] as words} if kind == _KIND:
            if all(isinstance(word, str) for word in words) and len(set(words)) == len(words):
                return {word: i for i, word in enumerate(words)}
    raise ValueError(f"`path` {path} is damaged, or is no file of save_vocabulary")


def _check_vocabulary(vocabulary: Any) -> None:
    if not isinstance(vocabulary, Mapping):
        raise TypeError(
            "`vocabulary` must be a dict from word to id, as of build_vocabulary, got a "
            f"{type(vocabulary).__name__}"
        )


def _tokens(tokenize: Tokenize, text: Any) -> list[str]:
    result = tokenize(text)
    tokens = list(result)
    if isinstance(result, str) or not all(isinstance(token, str) for token in tokens):
        raise TypeError(f"`tokenize` must give a list of strings, got {str(result)[:60]!r}")
    return tokens
