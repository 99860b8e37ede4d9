"""TfIdfVectorizer: onnx's cases, ONNX Runtime on random sequences, and one by hand."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.single_node import Case, check, onnx_cases

from gesher.base.errors import ModelError, RunError


@pytest.mark.parametrize(("case", "want", "rtol", "atol"), [
    pytest.param(*c, id=c[0].name) for c in onnx_cases("TfIdfVectorizer")])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    check(case, want, rtol=rtol, atol=atol, symbols={(0, a): f"d{a}" for a in range(case.inputs[0].ndim)}, lowers=False)


def drawn(rng: np.random.Generator, words: bool) -> Case:
    letters = list("abcde") if words else [1, 2, 3, 4, 5]
    ones = [[x] for x in rng.permutation(5)[:3]]
    twos = [list(p) for p in dict.fromkeys(tuple(rng.integers(0, 5, 2)) for _ in range(6))]
    threes = [list(p) for p in dict.fromkeys(tuple(rng.integers(0, 5, 3)) for _ in range(4))]
    pool = [letters[int(i)] for gram in (*ones, *twos, *threes) for i in gram]
    counts = [0, len(ones), len(ones) + 2 * len(twos)]
    grams = len(ones) + len(twos) + len(threes)
    least = int(rng.integers(1, 4))
    shape = [12] if rng.random() < 0.4 else [int(rng.integers(1, 4)), 9]
    x = np.array([letters[int(i)] for i in rng.integers(0, 5, int(np.prod(shape)))],
                 object if words else rng.choice([np.int32, np.int64])).reshape(shape)
    attributes = {
        "mode": str(rng.choice(["TF", "IDF", "TFIDF"])), "min_gram_length": least,
        "max_gram_length": int(rng.integers(least, 4)), "max_skip_count": int(rng.integers(0, 4)),
        "ngram_counts": counts, "ngram_indexes": [int(i) for i in rng.permutation(grams)],
        "pool_strings" if words else "pool_int64s": pool}
    if rng.random() < 0.6:
        attributes["weights"] = [float(w) for w in rng.uniform(0.5, 2, grams).astype(np.float32)]
    return Case("TfIdfVectorizer", 9, [x], attributes)


@pytest.mark.parametrize("seed", range(24))
def test_counts_agree_with_onnxruntime(seed: int) -> None:
    case = drawn(np.random.default_rng(seed), seed % 2 == 0)
    check(case, symbols={(0, 0): "n"} if case.inputs[0].ndim == 2 else None, lowers=False)


def test_gaps_by_hand() -> None:
    # Of 94 17 36 12 28 with two skipped, the pairs are (94, 12) and (17, 28).
    x = np.array([94, 17, 36, 12, 28])
    attributes = {"mode": "TF", "min_gram_length": 2, "max_gram_length": 2, "max_skip_count": 2,
                  "ngram_counts": [0, 0], "ngram_indexes": [1, 0, 2], "pool_int64s": [94, 12, 17, 28, 28, 17]}
    check(Case("TfIdfVectorizer", 9, [x], attributes), [np.array([1, 1, 0], np.float32)], lowers=False)


def test_a_pool_must_be_one_and_whole() -> None:
    attributes = {"mode": "TF", "min_gram_length": 2, "max_gram_length": 2, "max_skip_count": 0, "ngram_counts": [0, 0],
                  "ngram_indexes": [0]}
    with pytest.raises(ModelError, match="exactly one"):
        Case("TfIdfVectorizer", 9, [np.array([1])], attributes).infer()
    with pytest.raises(RunError, match="does not divide into 2-grams"):
        Case("TfIdfVectorizer", 9, [np.array([1])], {**attributes, "pool_int64s": [1, 2, 3]}).reference()
