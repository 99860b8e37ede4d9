"""Tokens and characters: Tokenizer, MurmurHash3, WordConvEmbedding, NGramRepeatBlock, BifurcationDetector."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError, RunError
from gesher.ir.types import print_shape
from gesher.ops.beside import check, is_one, require
from gesher.ops.rules import InferNode
from gesher.ops.schema import REQUIRED, STRING, Attr, Input, Output, op, tensors
from gesher.primitives import Builder, Expr
from gesher.symbolic import bounds, fresh

from .types import FLOAT, INT32, MS

_INT64 = tensors("int64")

Tokenizer = op("Tokenizer", Input("X"), Output("Y"), Attr("mark", "int", REQUIRED),
               Attr("pad_value", "string", REQUIRED), Attr("tokenexp", "string"), Attr("separators", "strings"),
               Attr("mincharnum", "int", REQUIRED), domain=MS, T=STRING)

MurmurHash3 = op("MurmurHash3", Input("X", "T1"), Output("Y", "T2"), Attr("seed", "int", 0),
                 Attr("positive", "int", 1), domain=MS, T1=tensors("uint32 int32 uint64 int64 float double string"),
                 T2=tensors("uint32 int32"))

WordConvEmbedding = op("WordConvEmbedding", Input("Sequence"), Input("W", "T1"), Input("B", "T1"), Input("C", "T1"),
                       Output("Y", "T1"), Attr("embedding_size", "int"), Attr("conv_window_size", "int"),
                       Attr("char_embedding_size", "int"), domain=MS, T=INT32, T1=FLOAT)

NGramRepeatBlock = op("NGramRepeatBlock", Input("input_ids", "Tid"), Input("scores"), Output("scores_out"),
                      Attr("ngram_size", "int", REQUIRED), domain=MS, Tid=_INT64, T=FLOAT)

BifurcationDetector = op("BifurcationDetector", Input("src_tokens"), Input("cur_tokens"),
                         Input("prev_suffix_match_idx"), Input("pred_tokens", optional=True), Output("tokens"),
                         Output("suffix_match_idx"), Attr("min_ngram_size", "int", 1),
                         Attr("max_ngram_size", "int", 3), domain=MS, T=_INT64)


# Tokenizer: every string becomes a row of its tokens, with the marks around them, padded at the end

_START, _END = "\x02", "\x03"


@Tokenizer.infer
def _(node: InferNode) -> None:
    x = node.shape(0)
    if (node["tokenexp"] is None) == (node["separators"] is None):
        node.fail("one of separators and tokenexp must be written, and only one")
    if x is not None and len(x) not in (1, 2):
        node.fail(f"X is (C) or (N,C), not {print_shape(x)}")
    tokens = node.fresh("how many tokens there are depends on the text")
    node.set(0, dtypes.STRING, None if x is None else (*x, tokens), why="the rank of X is unknown")


def _separated(text: str, separators: list[str], least: int) -> list[str]:
    """What stands between separators; of those that overlap the one written first wins, then the one further left."""
    found: list[tuple[int, int, int]] = []  # start, end, rank
    for rank, separator in enumerate(separators):
        for start in (m.start() for m in re.finditer(f"(?={re.escape(separator)})", text)):
            found.append((start, start + len(separator), rank))
    kept: list[tuple[int, int]] = []
    for start, end, _ in sorted(found, key=lambda f: (f[2], f[0])):
        if all(end <= s or e <= start for s, e in kept):
            kept.append((start, end))
    tokens, place = [], 0
    for start, end in [*sorted(kept), (len(text), len(text))]:
        if start - place >= max(least, 1):
            tokens.append(text[place:start])
        place = end
    return tokens


@Tokenizer.reference
def tokenizer(x: Any, *, mark: int, pad_value: str, tokenexp: str | None, separators: Any, mincharnum: int) -> Any:
    if tokenexp is not None:
        pattern = re.compile(tokenexp)
        rows = [[t for t in (m.group() for m in pattern.finditer(text)) if len(t) >= max(mincharnum, 1)]
                for text in x.reshape(-1)]
    elif list(separators) == [""]:
        if mincharnum > 1:
            raise ModelError(f"Tokenizer: mincharnum is {mincharnum}, and tokens are single characters",
                             rule="tokenizer")
        rows = [list(text) for text in x.reshape(-1)]
    else:
        rows = [_separated(text, list(separators), mincharnum) for text in x.reshape(-1)]
    most = max(map(len, rows), default=0)
    if not most:
        return np.empty((*x.shape, 0), object)
    y = np.empty((len(rows), most + 2 * bool(mark)), object)
    for i, row in enumerate(rows):
        y[i] = [*([_START, *row, _END] if mark else row), *[pad_value] * (most - len(row))]
    return y.reshape(*x.shape, -1)


# MurmurHash3: the 32-bit hash (Austin Appleby, 2011) of the bytes of each element

@MurmurHash3.infer
def _(node: InferNode) -> None:
    x = node.input(0)
    node.set(0, dtypes.UINT32 if node["positive"] else dtypes.INT32, None if x is None else x.shape)


def murmur3(data: bytes, seed: int) -> int:
    """The 32-bit hash of some bytes.

    >>> hex(murmur3(b"", 1))
    '0x514e28b7'
    """
    mask, h = 0xFFFFFFFF, seed & 0xFFFFFFFF

    def mixed(k: int) -> int:
        k = k * 0xCC9E2D51 & mask
        return (k << 15 | k >> 17) * 0x1B873593 & mask

    whole = len(data) // 4 * 4
    for i in range(0, whole, 4):
        h ^= mixed(int.from_bytes(data[i:i + 4], "little"))
        h = ((h << 13 | h >> 19) & mask) * 5 + 0xE6546B64 & mask
    if whole < len(data):
        h ^= mixed(int.from_bytes(data[whole:], "little"))
    h ^= len(data)
    h = (h ^ h >> 16) * 0x85EBCA6B & mask
    h = (h ^ h >> 13) * 0xC2B2AE35 & mask
    return h ^ h >> 16


@MurmurHash3.reference
def murmur_hash_3(x: Any, *, seed: int, positive: int) -> Any:
    of = (lambda v: v.encode()) if x.dtype == object else (lambda v: v.tobytes())
    hashes = np.array([murmur3(of(v), seed) for v in x.reshape(-1)], np.uint32).reshape(x.shape)
    return hashes if positive else hashes.view(np.int32)


# WordConvEmbedding: characters to vectors, a convolution along each word, tanh, the largest of each filter

@WordConvEmbedding.infer
def _(node: InferNode) -> None:
    words, w, table = node.shape(0), node.shape(1), node.shape(3)
    if words is not None and len(words) != 2:
        node.fail(f"Sequence is (words, characters), not {print_shape(words)}")
    if w is not None and len(w) != 4:
        node.fail(f"W is (filters, 1, window, features), not {print_shape(w)}")
    if w is not None:
        for at, attribute in ((0, "embedding_size"), (2, "conv_window_size"), (3, "char_embedding_size")):
            node.unify(w[at], node[attribute], f"axis {at} of W and {attribute}")
        if table is not None:
            node.unify(w[3], table[1], "the features of W and of C")
    node.set(0, dtypes.FLOAT, (None if words is None else words[0], None if w is None else w[0]))


@WordConvEmbedding.reference
def word_conv_embedding(words: Any, w: Any, b: Any, table: Any, **sizes: int | None) -> Any:
    """A word ends at its padding, zeros; one that is all padding (or begins with it) gives zeros."""
    window = w.shape[2]
    filters = w.reshape(len(w), -1)
    y = np.zeros((len(words), len(w)), np.float32)
    for i, word in enumerate(words):
        length = int((word > 0).sum()) if len(word) and word[0] > 0 else 0
        if not length:
            continue
        vectors = table[word[:max(length, window)]]
        unfolded = np.stack([vectors[k:k + window].reshape(-1) for k in range(len(vectors) - window + 1)])
        y[i] = np.tanh(unfolded @ filters.T + b).max(0)
    return y


# NGramRepeatBlock: the score of a token that would repeat an n-gram becomes minus infinity

@NGramRepeatBlock.infer
def _(node: InferNode) -> None:
    ids, scores = node.shape(0), node.shape(1)
    for name, shape in (("input_ids", ids), ("scores", scores)):
        if shape is not None and len(shape) != 2:
            node.fail(f"{name} is a matrix, not {print_shape(shape)}")
    if ids is not None and scores is not None:
        node.unify(ids[0], scores[0], "the rows of input_ids and of the scores")
    if node["ngram_size"] < 1:
        node.fail(f"ngram_size is {node['ngram_size']}")
    node.set(0, node.dtype(1), scores)


@NGramRepeatBlock.reference
def ngram_repeat_block(ids: Any, scores: Any, *, ngram_size: int) -> Any:
    y, before = scores.copy(), ngram_size - 1
    for row, tokens in zip(y, ids.tolist()):
        suffix = tokens[len(tokens) - before:]
        for start in range(len(tokens) - before):
            if tokens[start:start + before] == suffix:
                row[tokens[start + before]] = -np.inf
    return y


@NGramRepeatBlock.lower
def _(p: Builder, ids: Expr, scores: Expr, *, ngram_size: int) -> Expr:
    length, before = ids.shape[1], ngram_size - 1
    count = length - before
    repeats: Expr | None = None
    for i in range(before):
        same = p.eq(p.take(ids, 1, i, i + count), p.take(ids, 1, count + i, count + i + 1))
        repeats = same if repeats is None else p.and_(repeats, same)
    blocked = p.take(ids, 1, before, length)
    blow = p.full(blocked.shape, float("-inf"), scores.dtype)
    if repeats is not None:
        blow = p.select(repeats, blow, float("inf"))
    # The least of the score and what its repetitions say.
    return p.scatter_along(scores, blocked, blow, 1, "min")


# BifurcationDetector: how far a prediction agrees with the source, and where the source may go on

@BifurcationDetector.infer
def _(node: InferNode) -> None:
    current = node.shape(1)
    if node["min_ngram_size"] < 1 or node["max_ngram_size"] < node["min_ngram_size"]:
        node.fail(f"n-grams of {node['min_ngram_size']} to {node['max_ngram_size']} tokens")
    for i in (0, 1, *([3] if node.has(3) else [])):
        shape = node.shape(i)
        if shape is not None and len(shape) != 1:
            node.fail(f"{node.schema.input(i).name} is a list, not {print_shape(shape)}")
    index = node.shape(2)
    if index is not None:
        check(node, 2, is_one(index), "one number")
    if node.has(3) and current is not None:
        predicted = node.shape(3)
        low, most = bounds(current[0])[1], None if predicted is None else bounds(predicted[0])[1]
        limit = None if low is None or most is None else low + most
        node.set(0, node.dtype(0), (fresh("how far the prediction agrees depends on the data", max=limit),))
    else:
        node.set(0, node.dtype(0), current, why="the shape of cur_tokens is unknown")
    node.set(1, node.dtype(0), node.shape(2), why="the shape of prev_suffix_match_idx is unknown")


def _find(tokens: list[int], gram: list[int], start: int) -> int:
    """The first place of `gram` in `tokens` from `start` on, or the end."""
    return next((i for i in range(start, len(tokens) - len(gram) + 1) if tokens[i:i + len(gram)] == gram), len(tokens))


@BifurcationDetector.reference
def bifurcation_detector(source: Any, current: Any, index: Any, predicted: Any = None, *, min_ngram_size: int,
                         max_ngram_size: int) -> Any:
    for name, x in (("src_tokens", source), ("cur_tokens", current), ("pred_tokens", predicted)):
        if x is not None:
            require(name, x.shape, x.ndim == 1, "a list")
    require("prev_suffix_match_idx", index.shape, index.size == 1, "one number")
    source_list, tokens = source.tolist(), current.tolist()
    if predicted is not None:
        begin = int(index.reshape(-1)[0])
        if not 0 <= begin <= len(source_list) or len(predicted) != len(source_list) + 1 - begin:
            raise RunError(f"BifurcationDetector: {len(predicted)} predicted tokens do not go with {len(source_list)} "
                           f"of the source from {begin} on")
        agree = 0
        while agree < len(source_list) - begin and predicted[agree] == source_list[begin + agree]:
            agree += 1
        tokens = [*tokens, *predicted[:agree + 1].tolist()]
    found = -1
    for size in range(min_ngram_size, max_ngram_size + 1):
        if size > len(tokens):
            break
        gram = tokens[len(tokens) - size:]
        place = _find(source_list, gram, 0)
        if place == len(source_list):
            break
        found = place + size
        if found >= len(source_list):
            break
        # A place that is not the only one says nothing; a longer n-gram may.
        if _find(source_list, gram, place + 1) < len(source_list):
            found = -1
    suffix = np.array(index)
    suffix.reshape(-1)[0] = found
    return np.array(tokens, np.int64), suffix
