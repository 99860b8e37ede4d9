"""Tokens and characters answer as ONNX Runtime does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.contrib.nodes import ms
from tests.ops.single_node import check

from gesher.base.errors import ModelError, RunError

RNG = np.random.default_rng(14)
TEXTS = np.array([["a bc  d", "", " x-y,z "], ["äö ü", "-,-", "one-two three"]], object)


@pytest.mark.parametrize("mark", [0, 1])
@pytest.mark.parametrize(("separators", "least"), [
    ([" "], 1), ([" ", "-", ","], 1), ([""], 1), (["-,", ","], 1), (["wo", "one-t", " "], 1), ([" "], 2)])
def test_tokenizer_by_separators(separators: Any, least: int, mark: int) -> None:
    for x in (TEXTS, TEXTS[0]):
        check(ms("Tokenizer", x, mark=mark, pad_value="#", separators=separators, mincharnum=least), exact=False,
              lowers=False)


@pytest.mark.parametrize("expression", ["[a-z]+", "[^ -]", r"\w\w"])
def test_tokenizer_by_an_expression(expression: str) -> None:
    ascii_only = np.array(["a bc  d", "", " x-y,z ", "one-two three"], object)
    check(ms("Tokenizer", ascii_only, mark=1, pad_value="", tokenexp=expression, mincharnum=1), exact=False,
          lowers=False)


def test_text_without_tokens_gives_no_columns() -> None:
    check(ms("Tokenizer", np.array(["", ""], object), mark=1, pad_value="#", separators=[""], mincharnum=1),
          exact=False, lowers=False)


def test_a_tokenizer_needs_one_way() -> None:
    with pytest.raises(ModelError, match="only one"):
        ms("Tokenizer", TEXTS, mark=0, pad_value="", mincharnum=1).infer()


@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize("seed", [0, 42])
@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64", "float32", "float64"])
def test_murmur_hash_of_numbers(dtype: str, seed: int, positive: int) -> None:
    x = (RNG.normal(0, 1000, (3, 4)) if "float" in dtype else RNG.integers(0, 1 << 31, (3, 4))).astype(dtype)
    check(ms("MurmurHash3", x, seed=seed, positive=positive), rtol=0, atol=0, lowers=False, symbols={(0, 0): "n"})


def test_murmur_hash_of_text() -> None:
    x = np.array(["", "a", "ab", "abc", "abcd", "äöü", "hello world"], object)
    check(ms("MurmurHash3", x), rtol=0, atol=0, lowers=False)


def test_word_conv_embedding() -> None:
    # A word shorter than the window, a whole one, and padding alone (whose row ONNX Runtime leaves unwritten).
    words = np.array([[1, 2, 0, 0, 0], [3, 1, 4, 1, 5], [2, 2, 2, 0, 0]], np.int32)
    w, b, table = (RNG.normal(0, 0.5, s).astype(np.float32) for s in ((6, 1, 3, 4), (6,), (7, 4)))
    check(ms("WordConvEmbedding", words, w, b, table, embedding_size=6, conv_window_size=3, char_embedding_size=4),
          lowers=False)
    padding = ms("WordConvEmbedding", np.zeros((1, 5), np.int32), w, b, table)
    assert not padding.reference()[0].any()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_ngrams_that_would_repeat_are_blocked(size: int) -> None:
    ids = RNG.integers(0, 4, (3, 9))
    check(ms("NGramRepeatBlock", ids, RNG.normal(0, 1, (3, 6)).astype(np.float32), ngram_size=size),
          symbols={(0, 0): "n", (1, 0): "n"})


def test_bifurcation_by_hand() -> None:
    source = np.array([1, 5, 3, 4, 2])
    # The prediction agrees at 5 and parts at 7; nothing of the source ends as the tokens do.
    case = ms("BifurcationDetector", source, np.array([9, 8]), np.array([1]), np.array([5, 7, 3, 4, 2]), outputs=2)
    assert [o.tolist() for o in case.reference()] == [[9, 8, 5, 7], [-1]]
    check(case, exact=False, lowers=False)


@pytest.mark.parametrize("begin", [0, 2, 5])
@pytest.mark.parametrize("trial", range(6))
def test_bifurcation_detector(trial: int, begin: int) -> None:
    rng = np.random.default_rng([trial, begin])
    source = rng.integers(0, 4, 8)
    predicted = np.append(source[begin:], 1)
    predicted[rng.integers(0, len(predicted))] = rng.integers(0, 4)
    check(ms("BifurcationDetector", source, rng.integers(0, 4, 5), np.array([begin]), predicted, outputs=2,
             max_ngram_size=4), exact=False, lowers=False)
    check(ms("BifurcationDetector", source, rng.integers(0, 4, 5), np.array([begin]), outputs=2), lowers=False)


def test_a_prediction_of_another_length_is_refused() -> None:
    with pytest.raises(RunError, match="do not go with"):
        ms("BifurcationDetector", np.arange(5), np.arange(2), np.array([1]), np.arange(9), outputs=2).reference()
