"""Law: a vocabulary is what a plain count gives, and every text comes back from its ids."""

import json
import pathlib

import numpy as np
import pytest
import torch
from helpers import assert_refused, row
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils import rnn

from jaxrnn.text import (
    build_vocabulary,
    collate,
    decode,
    encode,
    load_vocabulary,
    save_vocabulary,
    words,
)


TEXTS = [
    "The film was good , the end was not",
    "A good\tfilm !\n\nThe END",
    "",
    "not a good END but AN end",
    "straße <PAD> Straße \u00a0 STRASSE",
]
VOCABULARY = {"<PAD>": 0, "<UNK>": 1, "a": 2, "b": 3}
SPECIALS = ["<PAD>", "<UNK>", "<SOS>", "<EOS>"]
random_cases = settings(max_examples=50, deadline=None, derandomize=True)
few_words = st.lists(st.sampled_from(["a", "b", "c", "d", "<UNK>", "<PAD>"]), max_size=8)


def counted(texts, max_size, min_count=1, specials=SPECIALS[:2]):
    """The same vocabulary, slowly: by the count, then by where a word first stands."""
    every = [word for text in texts for word in text.lower().split()]
    candidates = sorted(set(every) - set(specials), key=lambda w: (-every.count(w), every.index(w)))
    kept = [word for word in candidates if every.count(word) >= min_count]
    return (list(specials) + kept)[:max_size]


@pytest.mark.parametrize("specials", [SPECIALS[:2], SPECIALS, ["0", "1", "the"]], ids=len)
@pytest.mark.parametrize("min_count", [1, 2, 3])
@pytest.mark.parametrize("max_size", [5, 8, 9, 10000])
def test_vocabulary_is_that_of_a_plain_count(max_size, min_count, specials):
    options = {"max_size": max_size, "min_count": min_count, "specials": specials}
    vocabulary = build_vocabulary(iter(TEXTS), **options)
    assert list(vocabulary) == counted(TEXTS, **options)
    assert list(vocabulary.values()) == list(range(len(vocabulary)))


@given(st.lists(few_words, min_size=1, max_size=5), st.integers(3, 6))
@random_cases
def test_random_vocabularies(texts, max_size):
    texts = ["g", *map(" ".join, texts)]
    wanted = counted(texts, max_size, specials=["<pad>", "<unk>"])  # met in the texts, too
    assert list(build_vocabulary(texts, max_size=max_size, specials=["<pad>", "<unk>"])) == wanted


def test_special_in_a_text_shifts_nothing():
    texts = ["<PAD> b <UNK> <UNK> <UNK> a b"]
    vocabulary = build_vocabulary(texts, tokenize=str.split)
    assert vocabulary == {"<PAD>": 0, "<UNK>": 1, "b": 2, "a": 3}
    ids = encode(vocabulary, "<PAD> <UNK> a", tokenize=str.split)
    np.testing.assert_array_equal(ids, [0, 1, 3])


def test_characters_and_split_texts():
    assert [*build_vocabulary(["ab b"], tokenize=list)] == ["<PAD>", "<UNK>", "b", "a", " "]
    split = [["New York", "is"], ["big"], []]
    vocabulary = build_vocabulary(split, tokenize=list)
    assert encode(vocabulary, ["is", "New York"], tokenize=list).tolist() == [3, 2]


@pytest.mark.parametrize("max_length", [None, 1, 3, 7, 8, 20])
@pytest.mark.parametrize("text", [*TEXTS, "never seen"])
def test_encode(text, max_length):
    vocabulary = build_vocabulary(TEXTS, max_size=8)
    ids = encode(vocabulary, text, max_length=max_length)
    listed = counted(TEXTS, 8)
    wanted = [listed.index(word) if word in listed else 1 for word in text.lower().split()]
    np.testing.assert_array_equal(ids, np.array(wanted[:max_length], np.int32), strict=True)


@given(st.text())
@random_cases
def test_decode_takes_back_encode(text):
    vocabulary = build_vocabulary([text, "more"])
    assert decode(vocabulary, encode(vocabulary, text)) == words(text)


@given(st.text(min_size=1))
@random_cases
def test_decode_takes_back_encode_by_characters(text):
    vocabulary = build_vocabulary([text], tokenize=list, max_size=2000)
    assert "".join(decode(vocabulary, encode(vocabulary, text, tokenize=list))) == text


def test_decode_reads_a_vocabulary_in_any_order():
    assert decode({"a": 2, "<PAD>": 0, "<UNK>": 1}, np.array([2, 0, 1])) == ["a", "<PAD>", "<UNK>"]
    assert decode(VOCABULARY, []) == []


@given(st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=6), min_size=1, max_size=5))
@random_cases
def test_collate_is_torchs_pad_sequence(sequences):
    ids, lengths = collate(sequences)
    theirs = rnn.pad_sequence(
        [torch.tensor(s, dtype=torch.int32) for s in sequences], batch_first=True
    )
    if not any(sequences):  # a layer wants a step
        theirs = torch.zeros(len(sequences), 1, dtype=torch.int32)
    np.testing.assert_array_equal(ids, theirs.numpy(), strict=True)
    np.testing.assert_array_equal(lengths, np.array([*map(len, sequences)], np.int32), strict=True)


@pytest.mark.parametrize("max_length", [1, 2, 3, 5, 9])
def test_collate_pads_or_truncates(max_length):
    sequences = [np.arange(1, n + 1) for n in (3, 0, 5, 1)]
    ids, lengths = collate(iter(sequences), max_length=max_length)
    wanted = [(s.tolist() + [0] * max_length)[:max_length] for s in sequences]
    np.testing.assert_array_equal(ids, np.array(wanted, np.int32), strict=True)
    np.testing.assert_array_equal(lengths, np.array([3, 0, 5, 1], np.int32).clip(max=max_length))
    for sequence, line, length in zip(sequences, ids, lengths, strict=True):
        np.testing.assert_array_equal(line[:length], sequence[:length])


odd_text = st.text(st.characters(exclude_categories=()), max_size=4)


@given(st.lists(odd_text, min_size=2, max_size=6, unique=True))
@random_cases
def test_file_round_trip(tmp_path_factory, listed):
    path = tmp_path_factory.getbasetemp() / "vocabulary.json"
    vocabulary = {word: i for i, word in enumerate(listed)}
    save_vocabulary(path, vocabulary)
    assert list(load_vocabulary(path).items()) == list(vocabulary.items())


def test_file_of_odd_characters(tmp_path):
    odd = ["<PAD>", "<UNK>", "", "\n", "\r\n", "\u2028", "\0", '"', "\\", "\ud83d\ude00", "😀", "ß"]
    odd += ["\ud800", "ſ", "e\u0301", "é", "中文", "\ufeff"]
    vocabulary = {word: i for i, word in enumerate(odd)}
    path = tmp_path / "vocabulary"
    save_vocabulary(path, dict(reversed(vocabulary.items())))
    assert list(load_vocabulary(str(path)).items()) == list(vocabulary.items())


def test_file_is_plain_json(tmp_path):
    save_vocabulary(tmp_path / "a.json", VOCABULARY)
    content = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert content == {"kind": "jaxrnn vocabulary, version 1", "words": list(VOCABULARY)}


def load_content(content):
    path = pathlib.Path("a.json")
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return load_vocabulary(path)


def load_words(listed):
    return load_content({"kind": "jaxrnn vocabulary, version 1", "words": listed})


DAMAGED = "`path` a.json is damaged, or is no file of save_vocabulary"
# Each message as a plain string, where `...` matches anything.
ERRORS = [
    row("words", TypeError, "`text` must be a string, got a list...tokenize=list", words, ["a"]),
    row("words-bytes", TypeError, "`text` must be a string, got a bytes", words, b"a"),
    # build_vocabulary
    row("one-text", TypeError, "`texts` must be an iterable of texts, got a str...brackets",
        build_vocabulary, "a b"),
    row("texts-none", TypeError, "`texts` must be an iterable of texts, got a NoneType",
        build_vocabulary, None),
    row("split-texts", TypeError, "`text` must be a string, got a list: pass tokenize=list",
        build_vocabulary, [["a"]]),
    row("no-text", ValueError, "`texts` must hold a word...got 0 diff...everything would be <UNK>",
        build_vocabulary, []),
    row("no-word", ValueError, "`texts` must hold a word", build_vocabulary, ["", " \n"]),
    row("only-specials", ValueError, "`texts` must hold a word",
        build_vocabulary, ["<UNK>"], tokenize=str.split),
    row("rare-words", ValueError, "a word that occurs at least 2 times, got 3 different words",
        build_vocabulary, ["a b c"], min_count=2),
    row("max-size", ValueError, "`max_size` must exceed the 2 specials, which it counts, got 2",
        build_vocabulary, ["a"], max_size=2),
    row("max-size-float", ValueError, "`max_size` must be a positive integer, got 10000.0",
        build_vocabulary, ["a"], max_size=1e4),
    row("min-count", ValueError, "`min_count` must be a positive integer, got 0",
        build_vocabulary, ["a"], min_count=0),
    row("one-special", ValueError, "`specials` must be at least two...got ['<PAD>']",
        build_vocabulary, ["a"], specials=["<PAD>"]),
    row("special-twice", ValueError, "`specials` must be at least two different strings",
        build_vocabulary, ["a"], specials=["<PAD>", "<UNK>", "<PAD>"]),
    row("special-string", ValueError, "`specials` must be at least two...got '<PAD>'",
        build_vocabulary, ["a"], specials="<PAD>"),
    row("special-integer", ValueError, "`specials` must be...got (0, 1)",
        build_vocabulary, ["a"], specials=(0, 1)),
    row("tokenize-integers", TypeError, "`tokenize` must give a list of strings, got '[97]'",
        build_vocabulary, [b"a"], tokenize=list),
    row("tokenize-string", TypeError, "`tokenize` must give a list of strings, got 'a b'",
        build_vocabulary, ["A b"], tokenize=str.lower),
    # encode, decode
    row("encode-swapped", TypeError, "`vocabulary` must be a dict...build_vocabulary, got a str",
        encode, "a", VOCABULARY),
    row("encode-split", TypeError, "`text` must be a string", encode, VOCABULARY, ["a"]),
    row("encode-length", ValueError, "`max_length` must be a positive integer, got 0",
        encode, VOCABULARY, "a", max_length=0),
    row("decode-beyond", ValueError, "`ids` must be among the 4 of `vocabulary`, got 4 at 1",
        decode, VOCABULARY, [3, 4]),
    row("decode-negative", ValueError, "`ids` must be among...got -1 at 0",
        decode, VOCABULARY, [-1]),
    row("decode-float", TypeError, "`ids` must be integers, got float64",
        decode, VOCABULARY, [1.0]),
    row("decode-batch", ValueError, "`ids` must have one axis, time, got shape (1, 2)",
        decode, VOCABULARY, [[1, 2]]),
    row("decode-swapped", TypeError, "`vocabulary` must be a dict", decode, [1], VOCABULARY),
    # collate
    row("collate-none", ValueError, "`sequences` must hold at least one", collate, []),
    row("collate-flat", ValueError, "got shape () at 0: put a single sequence in brackets",
        collate, [1, 2]),
    row("collate-batch", ValueError, "`sequences` must have one axis each, time, got shape (1, 1)",
        collate, [[1], [[2]]]),
    row("collate-float", TypeError, "`sequences` must be integers, got float64",
        collate, [[1], [2.0]]),
    row("collate-bool", TypeError, "`sequences` must be integers, got bool", collate, [[True]]),
    row("collate-texts", TypeError, "`sequences` must be integers, got <U3", collate, ["a b"]),
    row("collate-ragged", TypeError, "`sequences` must be an array of numbers, got a list",
        collate, [[[1], [2, 3]]]),
    row("collate-negative", ValueError, "`sequences` must hold ids from 0...got -3 at 1",
        collate, [[1], [4, -3]]),
    row("collate-wide", ValueError, "`sequences` must hold ids...got 2147483648 at 0",
        collate, [[2**31]]),
    row("collate-length", ValueError, "`max_length` must be a positive integer, got -1",
        collate, [[1]], max_length=-1),
    # files
    row("save-holes", ValueError, "`vocabulary` must give strings the ids 0, 1, 2, …",
        save_vocabulary, "a.json", {"a": 0, "b": 2}),
    row("save-twice", ValueError, "got 3 words and 2 different ids",
        save_vocabulary, "a.json", {"a": 0, "b": 1, "c": 1}),
    row("save-integers", ValueError, "must give strings", save_vocabulary, "a", {0: 0, 1: 1}),
    row("save-empty", ValueError, "got 0 words", save_vocabulary, "a.json", {}),
    row("save-list", TypeError, "`vocabulary` must be a dict", save_vocabulary, "a.json", ["a"]),
    row("save-folder", FileNotFoundError, "`path` lies in a folder that does not exist: b",
        save_vocabulary, "b/a.json", VOCABULARY),
    row("load-missing", FileNotFoundError, "`path` names no file: a", load_vocabulary, "a"),
    row("load-empty", ValueError, DAMAGED, load_content, b""),
    row("load-cut", ValueError, DAMAGED, load_content, b'{"kind": "jaxrnn vocab'),
    row("load-binary", ValueError, DAMAGED, load_content, b"\xff\xfe\x00"),
    row("load-deep", ValueError, DAMAGED, load_content, b"[" * 200_000),
    row("load-foreign", ValueError, DAMAGED, load_content, {"words": ["a", "b"]}),
    row("load-foreign-list", ValueError, DAMAGED, load_content, ["a", "b"]),
    row("load-version", ValueError, DAMAGED,
        load_content, {"kind": "jaxrnn vocabulary, version 2", "words": ["a", "b"]}),
    row("load-twice", ValueError, DAMAGED, load_words, ["a", "a"]),
    row("load-integers", ValueError, DAMAGED, load_words, ["a", 1]),
    row("load-string", ValueError, DAMAGED, load_words, "ab"),
    row("load-short", ValueError, DAMAGED, load_words, ["a"]),
]  # fmt: skip


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(("call", "error", "message"), ERRORS)
def test_raises(call, error, message):
    assert_refused(call, error, message)
