"""NGramHashMapping and VarlenNGramHashMapping: for each token, hashes of the n-grams that end there.

For n from 2 to `max_ngram_size` the last n ids, each times a multiplier of its own, are folded by exclusive or; for
each head the rest by its vocabulary is the hash. Integers wrap around in their type.

What a reader would guess wrong:

- What stands before a sequence is `past_ids`, else `eos_token_id` where that is given, else `pad_id`.
- With `reset_on_eos` an id is replaced once an end of sequence stands between it and the current token, or at its own
  place; the current token itself is never replaced. Where segments differ, what is further back is replaced likewise.
- In the varlen form all sequences stand one behind the other, and `past_segment_ids` count too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError, RunError
from gesher.ir import DimLike
from gesher.ir.types import print_shape
from gesher.ops.rules import InferNode
from gesher.ops.schema import REQUIRED, Attr, Input, Output, op
from gesher.primitives import Builder, Expr
from gesher.symbolic import decide_le

from .ragged import check_capacity, ends_of, places_of, requests_of
from .types import INDEX, INT32, MS

_IDS = (Input("input_ids", "M"), Input("multipliers", "M"), Input("vocab_sizes", "M"))
_COUNTS = (Attr("max_ngram_size", "int", REQUIRED), Attr("n_head_per_ngram", "int", REQUIRED),
           Attr("pad_id", "int", REQUIRED), Attr("reset_on_eos", "int", 0))

NGramHashMapping = op("NGramHashMapping", *_IDS, Input("past_ids", "M", optional=True),
                      Input("head_offsets", "M", optional=True), Input("eos_token_id", "M", optional=True),
                      Input("segment_ids", "tensor(int32)", optional=True), Output("hash_ids", "M"),
                      Output("present_ids", "M", optional=True), *_COUNTS, domain=MS, M=INDEX)

VarlenNGramHashMapping = op("VarlenNGramHashMapping", *_IDS, Input("cumulative_sequence_length", "S"),
                            Input("past_ids", "M", optional=True), Input("head_offsets", "M", optional=True),
                            Input("eos_token_id", "M", optional=True),
                            Input("segment_ids", "tensor(int32)", optional=True),
                            Input("past_segment_ids", "S", optional=True), Input("capture_count", "S", optional=True),
                            Output("hash_ids", "M"), Output("present_ids", "M", optional=True),
                            Output("present_segment_ids", "S", optional=True),
                            Output("state_update", "M", optional=True), *_COUNTS,
                            Attr("state_update_capacity", "int", 0), domain=MS, M=INDEX, S=INT32)


# Inference

def _check_counts(node: InferNode) -> tuple[int, int]:
    """How many ids stand before a sequence, and how many hashes a token has."""
    most, each = node["max_ngram_size"], node["n_head_per_ngram"]
    if most < 2 or each < 1:
        node.fail(f"max_ngram_size is {most} and n_head_per_ngram {each}", "n-grams begin at 2, heads at 1")
    heads = (most - 1) * each
    multipliers, sizes = node.shape(1), node.shape(2)
    if multipliers is not None and (len(multipliers) != 1 or decide_le(most, multipliers[0]) is False):
        node.fail(f"the multipliers are a list of at least {most}, not {print_shape(multipliers)}")
    for shape, name in ((sizes, "vocab_sizes"), (_offsets(node), "head_offsets")):
        if shape is not None:
            if len(shape) != 1:
                node.fail(f"{name} is a list, not {print_shape(shape)}")
            node.unify(shape[0], heads, f"the elements of {name} and the heads of all n-grams")
    return most - 1, heads


def _offsets(node: InferNode) -> tuple[DimLike, ...] | None:
    return node.shape(4 if node.operator is NGramHashMapping else 5)


def _check_shape(node: InferNode, index: int, want: tuple[DimLike | None, ...], name: str) -> None:
    shape = node.shape(index)
    if shape is None:
        return
    if len(shape) != len(want):
        node.fail(f"{name} is {print_shape(want)}, not {print_shape(shape)}")
    for i, (a, b) in enumerate(zip(shape, want)):
        node.unify(a, b, f"axis {i} of {name}")


@NGramHashMapping.infer
def _(node: InferNode) -> None:
    before, heads = _check_counts(node)
    ids = node.shape(0)
    if ids is not None and len(ids) != 2:
        node.fail(f"input_ids is (batch, length), not {print_shape(ids)}")
    batch, length = ids or (None, None)
    _check_shape(node, 3, (batch, before), "past_ids")
    _check_shape(node, 6, (batch, length), "segment_ids")
    node.set(0, node.dtype(0), (batch, length, heads), why="the shape of input_ids is unknown")
    node.set(1, node.dtype(0), (batch, before), why="the shape of input_ids is unknown")


@VarlenNGramHashMapping.infer
def _(node: InferNode) -> None:
    before, heads = _check_counts(node)
    capacity = check_capacity(node, node.has(9))
    ids = node.shape(0)
    if ids is not None and len(ids) != 1:
        node.fail(f"input_ids is a list, not {print_shape(ids)}")
    batch = requests_of(node, 3)
    total = None if ids is None else ids[0]
    _check_shape(node, 4, (batch, before), "past_ids")
    _check_shape(node, 7, (total,), "segment_ids")
    _check_shape(node, 8, (batch, before), "past_segment_ids")
    _check_shape(node, 9, (batch,), "capture_count")
    node.set(0, node.dtype(0), (total, heads), why="the shape of input_ids is unknown")
    node.set(1, node.dtype(0), (batch, before), why="how many requests there are is unknown")
    node.set(2, dtypes.INT32, (batch, before), why="how many requests there are is unknown")
    node.set(3, node.dtype(0), (batch, capacity, before), why="how many requests there are is unknown")


# Reference

@dataclass(frozen=True, slots=True)
class _Hashing:
    """What all sequences share: multipliers, vocabularies, what is missing, and whether an end resets."""

    most: int
    each: int
    multipliers: Any
    sizes: Any
    offsets: Any
    missing: int
    end: int | None

    def hashes(self, ids: Any, segments: Any, first: int) -> Any:
        """(tokens, heads) of the tokens from `first` on; what stands before them is history.

        `segments` are those of `ids`; None where nothing parts them.
        """
        with np.errstate(over="ignore"):
            rows = []
            for t in range(first, len(ids)):
                row: list[Any] = []
                mix, cut = ids[t] * self.multipliers[0], False
                for k in range(1, self.most):
                    cut = cut or (self.end is not None and int(ids[t - k]) == self.end)
                    cut = cut or (segments is not None and segments[t - k + 1] != segments[t - k])
                    mix = mix ^ (ids.dtype.type(self.missing if cut else ids[t - k]) * self.multipliers[k])
                    row += [mix] * self.each
                rows.append(row)
            mixed = np.array(rows, ids.dtype).reshape(len(rows), (self.most - 1) * self.each)
            found = np.mod(mixed, self.sizes)
            return found if self.offsets is None else found + self.offsets


def _hashing(ids: Any, multipliers: Any, sizes: Any, offsets: Any, end: Any, *, max_ngram_size: int,
             n_head_per_ngram: int, pad_id: int, reset_on_eos: int) -> _Hashing:
    if (sizes <= 0).any():
        raise RunError(f"a vocabulary of {int(sizes.min())} has no rest", advice="every vocab_sizes is positive")
    given = None if end is None else int(end.reshape(()))
    low, high = np.iinfo(ids.dtype).min, np.iinfo(ids.dtype).max
    if not low <= pad_id <= high:
        raise ModelError(f"pad_id {pad_id} is no {ids.dtype}", rule="ngram-hash")
    return _Hashing(max_ngram_size, n_head_per_ngram, multipliers, sizes, offsets,
                    pad_id if given is None else given, given if reset_on_eos else None)


def _history(past: Any, row: int, before: int, missing: int, dtype: Any) -> Any:
    return np.full(before, missing, dtype) if past is None else past[row]


@NGramHashMapping.reference
def ngram_hash_mapping(ids: Any, multipliers: Any, sizes: Any, past: Any = None, offsets: Any = None, end: Any = None,
                       segments: Any = None, **attributes: int) -> Any:
    how = _hashing(ids, multipliers, sizes, offsets, end, **attributes)
    before = how.most - 1
    found, kept = [], []
    for b, row in enumerate(ids):
        whole = np.concatenate([_history(past, b, before, how.missing, ids.dtype), row])
        # The past counts as of the first token's segment.
        parts = None if segments is None else np.concatenate([np.repeat(segments[b, :1], before), segments[b]])
        found.append(how.hashes(whole, parts, before))
        kept.append(whole[len(whole) - before:])
    heads = before * how.each
    return (np.array(found, ids.dtype).reshape(*ids.shape, heads), np.array(kept, ids.dtype).reshape(len(ids), before))


@VarlenNGramHashMapping.reference
def varlen_ngram_hash_mapping(ids: Any, multipliers: Any, sizes: Any, ends: Any, past: Any = None, offsets: Any = None,
                              end: Any = None, segments: Any = None, past_segments: Any = None, captured: Any = None, *,
                              state_update_capacity: int, **attributes: int) -> Any:
    how = _hashing(ids, multipliers, sizes, offsets, end, **attributes)
    before = how.most - 1
    found, kept, parts_kept = [np.zeros((0, before * how.each), ids.dtype)], [], []
    batch = len(ends) - 1
    update = np.full((batch, state_update_capacity, before), attributes["pad_id"], ids.dtype)
    for b, (start, stop) in enumerate(ends_of(ends, len(ids))):
        whole = np.concatenate([_history(past, b, before, how.missing, ids.dtype), ids[start:stop]])
        parts = None
        if segments is not None:
            old = np.repeat(segments[start:start + 1], before) if past_segments is None else past_segments[b]
            parts = np.concatenate([old, segments[start:stop]])
        found.append(how.hashes(whole, parts, before))
        kept.append(whole[len(whole) - before:])
        parts_kept.append(np.zeros(before, np.int32) if parts is None else parts[len(parts) - before:])
        count = 0 if captured is None else min(int(captured[b]), state_update_capacity, stop - start)
        for i in range(count):
            update[b, i] = whole[i + 1:i + 1 + before]
    shape = (batch, before)
    return (np.concatenate(found), np.array(kept, ids.dtype).reshape(shape),
            np.array(parts_kept, np.int32).reshape(shape), update)


# Lowering: one gather for each distance back

def _fold(p: Builder, at: Callable[[int], Expr], parted: Callable[[int], Expr] | None, multipliers: Expr, sizes: Expr,
          offsets: Expr | None, missing: Expr, end: Expr | None, most: int, each: int) -> Expr:
    """Hashes along a new last axis: `at(k)` are the ids k back, `parted(k)` where ids k and k - 1 back lie in different
    segments."""
    def times(x: Expr, k: int) -> Expr:
        return x * p.squeeze(p.take(multipliers, 0, k, k + 1), [0])

    mix, cut = times(at(0), 0), None
    rows = []
    for k in range(1, most):
        ids = at(k)
        new = [p.eq(ids, end)] if end is not None else []
        new += [parted(k)] if parted is not None else []
        for mask in new:
            cut = mask if cut is None else p.or_(cut, mask)
        mix = p.bit_xor(mix, times(ids if cut is None else p.select(cut, missing, ids), k))
        rows += [p.expand_dims(mix, [mix.rank])] * each
    found = p.mod(p.concat(rows, rows[0].rank - 1), sizes)
    return found if offsets is None else found + offsets


@NGramHashMapping.lower
def _(p: Builder, ids: Expr, multipliers: Expr, sizes: Expr, past: Expr | None = None, offsets: Expr | None = None,
      end: Expr | None = None, segments: Expr | None = None, *, max_ngram_size: int, n_head_per_ngram: int,
      pad_id: int, reset_on_eos: int) -> tuple[Expr, ...]:
    (batch, length), before = ids.shape, max_ngram_size - 1
    last = None if end is None else p.reshape(end, ())
    missing = p.scalar(pad_id, ids.dtype) if last is None else last
    history = p.broadcast_to(missing, (batch, before)) if past is None else past
    whole = p.concat([history, ids], 1)

    def at(k: int) -> Expr:
        return p.take(whole, 1, before - k, before - k + length)

    parted = None
    if segments is not None:
        # False in front: the past is of the first token's segment.
        moved = p.ne(p.take(segments, 1, 1, length), p.take(segments, 1, 0, length - 1))
        edges = p.pad(moved, (0, before), (0, 0), False)

        def parted(k: int) -> Expr:
            return p.take(edges, 1, before - k, before - k + length)

    y = _fold(p, at, parted, multipliers, sizes, offsets, missing, last if reset_on_eos else None, max_ngram_size,
              n_head_per_ngram)
    return (y, p.take(whole, 1, length, length + before))[:p.outputs]


@VarlenNGramHashMapping.lower
def _(p: Builder, ids: Expr, multipliers: Expr, sizes: Expr, ends: Expr, past: Expr | None = None,
      offsets: Expr | None = None, end: Expr | None = None, segments: Expr | None = None,
      past_segments: Expr | None = None, captured: Expr | None = None, *, max_ngram_size: int, n_head_per_ngram: int,
      pad_id: int, reset_on_eos: int, state_update_capacity: int) -> tuple[Expr, ...]:
    total, before, batch = ids.shape[0], max_ngram_size - 1, ends.shape[0] - 1
    last = None if end is None else p.reshape(end, ())
    missing = p.scalar(pad_id, ids.dtype) if last is None else last
    history = p.broadcast_to(missing, (batch, before)) if past is None else past
    request, start = places_of(p, ends, total)  # of each token

    def seen(row: Expr, first: Expr, place: Expr, new: Expr, old: Expr) -> Expr:
        """The element at `place` of what is new, or of the request's old ones where that is before `first`."""
        back = p.max(place - first + before, 0)
        older = p.gather(p.reshape(old, (batch * before,)), row * before + p.min(back, before - 1), 0)
        return p.select(p.ge(place, first), p.gather(new, p.max(place, 0), 0), older)

    here = p.iota((total,), 0)

    def at(k: int) -> Expr:
        return seen(request, start, here - k, ids, history) if k else ids

    starts, stops = (p.cast(p.take(ends, 0, i, batch + i), dtypes.INT64) for i in (0, 1))
    parted, old_parts = None, None
    if segments is not None:
        old_parts = past_segments
        if old_parts is None:
            old_parts = p.broadcast_to(p.expand_dims(p.gather(segments, starts, 0), [1]), (batch, before))

        def parted(k: int, old: Expr = old_parts) -> Expr:
            near = segments if k == 1 else seen(request, start, here - (k - 1), segments, old)
            return p.ne(near, seen(request, start, here - k, segments, old))

    y = _fold(p, at, parted, multipliers, sizes, offsets, missing, last if reset_on_eos else None, max_ngram_size,
              n_head_per_ngram)
    rows, firsts = p.iota((batch, 1), 0), p.expand_dims(starts, [1])
    tail = p.expand_dims(stops, [1]) - before + p.iota((1, before), 1)
    present = seen(rows, firsts, tail, ids, history)
    parts = p.full((batch, before), 0, dtypes.INT32) if segments is None or old_parts is None else \
        seen(rows, firsts, tail, segments, old_parts)
    results = [y, present, parts]
    if p.outputs > 3:
        slots = p.iota((1, state_update_capacity, 1), 1)
        window = p.expand_dims(firsts, [2]) + slots + 1 - before + p.iota((1, 1, before), 2)
        count = p.full((batch,), 0, dtypes.INT64) if captured is None else p.cast(captured, dtypes.INT64)
        count = p.min(count, stops - starts)
        state = seen(p.expand_dims(rows, [2]), p.expand_dims(firsts, [2]), p.min(window, p.size(total) - 1), ids,
                     history)
        taken = p.lt(slots, p.expand_dims(count, [1, 2]))
        results.append(p.select(taken, state, p.scalar(pad_id, ids.dtype)))
    return tuple(results[:p.outputs])
