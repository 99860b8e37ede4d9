"""TfIdfVectorizer: counts of n-grams, of words or of numbers, with gaps between their parts.

It stays with the reference rule.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import RunError

from ..rules import InferNode
from ..schema import REQUIRED, STRING, Attr, Input, Output, op, tensors
from ..sizes import print_sizes

TfIdfVectorizer = op("TfIdfVectorizer", Input("X"), Output("Y", "T1"), Attr("max_gram_length", "int", REQUIRED),
                     Attr("max_skip_count", "int", REQUIRED), Attr("min_gram_length", "int", REQUIRED),
                     Attr("mode", "string", REQUIRED), Attr("ngram_counts", "ints", REQUIRED),
                     Attr("ngram_indexes", "ints", REQUIRED), Attr("pool_int64s", "ints"),
                     Attr("pool_strings", "strings"), Attr("weights", "floats"), since=9,
                     T=STRING | tensors("int32 int64"), T1=tensors("float"))


@TfIdfVectorizer.infer
def _(node: InferNode) -> None:
    shape = node.shape(0)
    if (node["pool_int64s"] is None) == (node["pool_strings"] is None):
        node.fail("exactly one of pool_int64s and pool_strings must hold the n-grams")
    if node["mode"] not in ("TF", "IDF", "TFIDF"):
        node.fail(f"there is no mode {node['mode']!r}")
    if not node["ngram_indexes"] or min(node["ngram_indexes"]) < 0:
        node.fail("ngram_indexes must name a place of the output for each n-gram")
    if shape is not None and len(shape) > 2:
        node.fail(f"the input is (C,) or (N, C), not of shape {print_sizes(shape)}")
    width = max(node["ngram_indexes"]) + 1
    node.set(0, dtypes.FLOAT, None if shape is None else (*shape[:-1], width), why="the rank of the input is unknown")


def pool_of(pool: Sequence[Hashable], counts: Sequence[int]) -> dict[tuple[Hashable, ...], int]:
    """The n-grams of a pool and their numbers. `counts` says where those of each length begin.

    Raises:
        RunError: the pool does not divide into n-grams.
    """
    found: dict[tuple[Hashable, ...], int] = {}
    number = 0
    for n, (start, end) in enumerate(zip(counts, (*counts[1:], len(pool))), 1):
        if not 0 <= start <= end <= len(pool) or (end - start) % n:
            raise RunError(f"TfIdfVectorizer: the pool from {start} to {end} does not divide into {n}-grams")
        for at in range(start, end, n):
            found.setdefault(tuple(pool[at:at + n]), number)
            number += 1
    return found


def _grams(row: Sequence[Hashable], least: int, most: int, skips: int) -> Iterator[tuple[Hashable, ...]]:
    """Every n-gram of `least` to `most` parts that stand 1 to `skips` + 1 apart, always as far."""
    for n in range(least, most + 1):
        # A single part has no gaps, so it comes once.
        for step in range(1, (1 if n == 1 else skips + 1) + 1):
            for start in range(len(row) - (n - 1) * step):
                yield tuple(row[start:start + (n - 1) * step + 1:step])


@TfIdfVectorizer.reference
def tf_idf_vectorizer(x: Any, *, max_gram_length: int, max_skip_count: int, min_gram_length: int, mode: str,
                      ngram_counts: Sequence[int], ngram_indexes: Sequence[int], pool_int64s: Sequence[int] | None,
                      pool_strings: Sequence[str] | None, weights: Sequence[float] | None) -> Any:
    pool = pool_of(pool_int64s if pool_int64s is not None else pool_strings or (), ngram_counts)
    if len(ngram_indexes) < len(pool):
        raise RunError(f"TfIdfVectorizer: there are {len(pool)} n-grams and {len(ngram_indexes)} ngram_indexes")
    rows = x.reshape(1, -1) if x.ndim < 2 else x
    out = np.zeros((len(rows), max(ngram_indexes) + 1), np.float32)
    for line, row in zip(out, rows.tolist()):
        for gram in _grams(row, min_gram_length, max_gram_length, max_skip_count):
            if gram in pool:
                line[ngram_indexes[pool[gram]]] += 1
    if mode == "IDF":
        out = np.minimum(out, 1)
    if mode != "TF" and weights is not None:
        scale = np.ones(out.shape[1], np.float32)
        scale[list(ngram_indexes)] = np.asarray(weights, np.float32)
        out = out * scale
    return out.reshape(*x.shape[:-1], -1)
