"""Hashes of n-grams answer as ONNX Runtime's do, in rows and in requests one behind the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.contrib.nodes import ms
from tests.ops.single_node import check

from gesher.base.errors import ModelError, RunError

RNG = np.random.default_rng(31)
DTYPES = pytest.mark.parametrize("dtype", [np.int32, np.int64])
END, PAD = 7, 3


def ids(*shape: int, dtype: Any) -> Any:
    """Few different ids, so that ends of sequences are among them."""
    return RNG.integers(0, 10, shape).astype(dtype)


def counts(most: int, each: int, dtype: Any) -> tuple[Any, Any]:
    wide = np.iinfo(dtype).max
    return (RNG.integers(-wide, wide, most + 1).astype(dtype),
            RNG.choice([101, 103, 997, 7919], (most - 1) * each).astype(dtype))


def optional(given: bool, value: Any) -> Any:
    return value if given else None


@DTYPES
@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize(("end", "reset"), [(False, 0), (True, 0), (True, 1), (False, 1)])
@pytest.mark.parametrize("parts", [False, True])
def test_ngram_hash_mapping(parts: bool, end: bool, reset: int, past: bool, dtype: Any) -> None:
    multipliers, sizes = counts(3, 2, dtype)
    segments = np.sort(RNG.integers(0, 3, (2, 12)), 1).astype(np.int32)
    check(ms("NGramHashMapping", ids(2, 12, dtype=dtype), multipliers, sizes, optional(past, ids(2, 2, dtype=dtype)),
             optional(past, np.arange(4, dtype=dtype) * 1000), optional(end, np.array(END, dtype)),
             optional(parts, segments), max_ngram_size=3, n_head_per_ngram=2, pad_id=PAD, reset_on_eos=reset,
             outputs=2), rtol=0, atol=0, symbols={(0, 0): "b", (0, 1): "n"} if not past and not parts else None)


@pytest.mark.parametrize(("most", "length"), [(2, 1), (4, 1), (5, 3)])
def test_calls_shorter_than_the_window(most: int, length: int) -> None:
    multipliers, sizes = counts(most, 1, np.int64)
    check(ms("NGramHashMapping", ids(2, length, dtype=np.int64), multipliers, sizes,
             ids(2, most - 1, dtype=np.int64), max_ngram_size=most, n_head_per_ngram=1, pad_id=PAD, outputs=2),
          rtol=0, atol=0)


def test_a_bigram_by_hand() -> None:
    # 5 * 3 xor 2 * 7 = 15 xor 14 = 1; before the first, the padding: 2 * 3 xor 0 * 7 = 6.
    case = ms("NGramHashMapping", np.array([[2, 5]]), np.array([3, 7]), np.array([5]), max_ngram_size=2,
              n_head_per_ngram=1, pad_id=0, outputs=2)
    hashes, present = case.reference()
    assert hashes.tolist() == [[[1], [1]]]
    assert present.tolist() == [[5]]


@DTYPES
@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize(("end", "reset"), [(False, 0), (True, 0), (True, 1)])
@pytest.mark.parametrize("parts", [0, 1, 2])
def test_varlen_ngram_hash_mapping(parts: int, end: bool, reset: int, past: bool, dtype: Any) -> None:
    if parts == 2 and not past:
        pytest.skip("segments of the past go with its ids")
    multipliers, sizes = counts(4, 2, dtype)
    ends = np.array([0, 1, 8, 12], np.int32)
    segments = np.sort(RNG.integers(0, 3, 12)).astype(np.int32)
    check(ms("VarlenNGramHashMapping", ids(12, dtype=dtype), multipliers, sizes, ends,
             optional(past, ids(3, 3, dtype=dtype)), optional(past, np.arange(6, dtype=dtype) * 1000),
             optional(end, np.array(END, dtype)), optional(parts > 0, segments),
             optional(parts > 1, np.sort(RNG.integers(0, 2, (3, 3)), 1).astype(np.int32)),
             np.array([5, 2, -1], np.int32), max_ngram_size=4, n_head_per_ngram=2, pad_id=PAD, reset_on_eos=reset,
             state_update_capacity=3, outputs=4 if parts else [True, True, False, True]), rtol=0, atol=0,
          symbols={(0, 0): "n", **({(7, 0): "n"} if parts else {})})


def test_what_does_not_fit_is_refused() -> None:
    ids, multipliers = np.ones((1, 4), np.int64), np.ones(3, np.int64)
    few = ms("NGramHashMapping", ids, multipliers, np.ones(3, np.int64), max_ngram_size=3, n_head_per_ngram=2, pad_id=0)
    with pytest.raises(ModelError, match="vocab_sizes and the heads"):
        few.infer()
    empty = ms("NGramHashMapping", ids, multipliers, np.zeros(2, np.int64), max_ngram_size=3, n_head_per_ngram=1,
               pad_id=0)
    with pytest.raises(RunError, match="has no rest"):
        empty.reference()
    loose = ms("VarlenNGramHashMapping", ids[0], multipliers, np.ones(2, np.int64), np.array([0, 3], np.int32),
               max_ngram_size=3, n_head_per_ngram=1, pad_id=0)
    with pytest.raises(RunError, match="do not cut 4 tokens"):
        loose.reference()
