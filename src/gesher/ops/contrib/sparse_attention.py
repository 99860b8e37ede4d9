"""SparseAttention: the attention of a decoder, whose heads see some blocks of keys only.

`block_row_indices` and `block_col_indices` say, for each layout, which blocks of keys a block of queries sees, as a
sparse matrix is stored row by row; heads take the layouts in turn. Within what is seen, no query sees behind itself.

What a reader would guess wrong: the cache comes out as it went in, but for the new keys and values, which go behind
each sample's own past; where the queries are as many as `total_sequence_length` there is no past. ONNX Runtime wants
input and output of the cache in the same memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import RunError
from gesher.ir.types import print_shape
from gesher.ops.arithmetic import widen, widened
from gesher.ops.borrowing import rule_of
from gesher.ops.core.attention import RotaryEmbedding as Rotary
from gesher.ops.core.attention import rotary_embedding
from gesher.ops.rules import InferNode, Run
from gesher.ops.schema import REQUIRED, Attr, Input, Output, op
from gesher.ops.sizes import known_int, scalar_of
from gesher.primitives import Builder, CannotLower, Expr
from gesher.symbolic import decide_eq, decide_le

from .attending import apart, apart_expr, attend_expr, softmax, together, together_expr
from .types import INT32, MS, REALS

SparseAttention = op("SparseAttention", Input("query"), Input("key", optional=True), Input("value", optional=True),
                     Input("past_key"), Input("past_value"), Input("block_row_indices", "M"),
                     Input("block_col_indices", "M"), Input("total_sequence_length", "M"),
                     Input("key_total_sequence_lengths", "M"), Input("cos_cache", optional=True),
                     Input("sin_cache", optional=True), Output("output"), Output("present_key"),
                     Output("present_value"), Attr("num_heads", "int", REQUIRED), Attr("kv_num_heads", "int", REQUIRED),
                     Attr("scale", "float"), Attr("sparse_block_size", "int", REQUIRED), Attr("do_rotary", "int"),
                     Attr("rotary_interleaved", "int"), domain=MS, T=REALS, M=INT32)

_LOWEST = float(np.finfo(np.float32).min)


@SparseAttention.infer
def _(node: InferNode) -> None:
    q, past = node.shape(0), node.shape(3)
    heads, groups, block = node["num_heads"], node["kv_num_heads"], node["sparse_block_size"]
    if heads < 1 or groups < 1 or heads % groups:
        node.fail(f"{heads} heads of queries do not share {groups} heads of keys evenly")
    if block not in (16, 32, 64, 128):
        node.fail(f"sparse_block_size is {block}", "it is 16, 32, 64 or 128")
    if node.has(1) != node.has(2):
        node.fail("key and value come together or not at all")
    if node["do_rotary"] and not (node.has(9) and node.has(10)):
        node.fail("do_rotary asks for cos_cache and sin_cache")
    rows, columns = node.shape(5), node.shape(6)
    for name, shape in (("block_row_indices", rows), ("block_col_indices", columns)):
        if shape is not None and len(shape) != 2:
            node.fail(f"{name} is (layouts, places), not {print_shape(shape)}")
    if rows is not None:
        if isinstance(rows[0], int) and (rows[0] < 1 or heads % rows[0]):
            node.fail(f"{heads} heads do not take {rows[0]} layouts in turn")
        if columns is not None:
            node.unify(rows[0], columns[0], "the layouts of block_row_indices and of block_col_indices")
        total = scalar_of(node, 7)
        if total is not None and decide_le(total, (rows[1] - 1) * block) is False:
            node.fail(f"blocks of {(rows[1] - 1) * block} keys do not hold {total}")
    if q is None:
        node.set(0, node.dtype(0), (None,) * 3, why="the shape of the query is unknown")
    else:
        if len(q) != 3:
            node.fail(f"the query is (batch, length, features), not {print_shape(q)}")
        parts = heads if node.has(1) else heads + 2 * groups
        if decide_eq(q[2] % parts, 0) is False:
            node.fail(f"{q[2]} features do not divide into {parts} heads")
        size = q[2] // parts
        for i, name in ((1, "key"), (2, "value")):
            if node.has(i) and (other := node.shape(i)) is not None:
                for axis, (a, b) in enumerate(zip(other, (*q[:2], groups * size))):
                    node.unify(a, b, f"axis {axis} of the {name}, of which the query asks {b}")
        if past is not None:
            for axis, (a, b) in enumerate(zip(past, (q[0], groups, past[2], size))):
                node.unify(a, b, f"axis {axis} of past_key, of which the query asks {b}")
        if (lengths := node.shape(8)) is not None:
            node.unify(q[0], lengths[0] if lengths else None, "the batch and key_total_sequence_lengths")
        node.set(0, node.dtype(0), (*q[:2], heads * size))
    for i in (3, 4):
        node.set(i - 2, node.dtype(0), node.shape(i))


def _seen(rows: Any, columns: Any, blocks: int) -> Any:
    """(layouts, blocks of queries, blocks of keys): which are seen."""
    seen = np.zeros((len(rows), blocks, blocks), np.bool_)
    for layout, (row, column) in enumerate(zip(rows, columns)):
        for q in range(blocks):
            seen[layout, q, column[row[q]:row[q + 1]]] = True
    return seen


@SparseAttention.reference
def sparse_attention(query: Any, key: Any, value: Any, past_key: Any, past_value: Any, rows: Any, columns: Any,
                     total_length: Any, lengths: Any, cos_cache: Any = None, sin_cache: Any = None, *, num_heads: int,
                     kv_num_heads: int, scale: float | None, sparse_block_size: int, do_rotary: int | None,
                     rotary_interleaved: int | None, run: Run) -> Any:
    dtype, (batch, length) = query.dtype, query.shape[:2]
    if key is None:
        size = query.shape[2] // (num_heads + 2 * kv_num_heads)
        query, key, value = np.split(query, [num_heads * size, (num_heads + kv_num_heads) * size], 2)
    total, blocks = int(total_length.reshape(())), rows.shape[1] - 1
    if total > blocks * sparse_block_size or total > past_key.shape[2]:
        raise RunError(f"{total} keys do not fit {blocks} blocks of {sparse_block_size} and a cache of "
                       f"{past_key.shape[2]}")
    q, k, v = apart(query, num_heads), apart(key, kv_num_heads), apart(value, kv_num_heads)
    pasts = np.zeros(batch, np.int64) if length == total else lengths.astype(np.int64) - length
    if do_rotary:
        turned = {"interleaved": rotary_interleaved or 0, "rotary_embedding_dim": 2 * cos_cache.shape[1],
                  "num_heads": None}
        q, k = (rotary_embedding(x, cos_cache, sin_cache, pasts[:, None] + np.arange(length), **turned)
                for x in (q, k))
    seen = _seen(rows, columns, blocks)
    layout = np.arange(num_heads) % len(rows)
    present_key, present_value = past_key.copy(), past_value.copy()
    y = np.zeros((batch, num_heads, length, v.shape[3]), np.float32)
    factor = np.float32(scale if scale else 1 / np.sqrt(q.shape[3]))
    for b, past in enumerate(pasts.tolist()):
        present_key[b, :, past:past + length], present_value[b, :, past:past + length] = k[b], v[b]
        keys = past + length
        wide_k, wide_v = (np.repeat(widen(x[b, :, :keys]), num_heads // kv_num_heads, 0)
                          for x in (present_key, present_value))
        scores = (widen(q[b]) @ wide_k.swapaxes(1, 2)) * factor
        place, at = past + np.arange(length)[:, None], np.arange(keys)
        block = seen[layout][:, place // sparse_block_size, at // sparse_block_size]
        scores = np.where(at > place, -np.inf, np.where(block, scores, np.float32(_LOWEST)))
        y[b] = softmax(scores) @ wide_v
    return together(y).astype(dtype), present_key, present_value


@SparseAttention.lower
def _(p: Builder, query: Expr, key: Expr | None, value: Expr | None, past_key: Expr, past_value: Expr, rows: Expr,
      columns: Expr, total_length: Expr, lengths: Expr, cos_cache: Expr | None = None, sin_cache: Expr | None = None, *,
      num_heads: int, kv_num_heads: int, scale: float | None, sparse_block_size: int, do_rotary: int | None,
      rotary_interleaved: int | None) -> tuple[Expr, ...]:
    dtype, (batch, length, width) = query.dtype, query.shape
    layouts, blocks = rows.shape[0], rows.shape[1] - 1
    if not isinstance(layouts, int):
        raise CannotLower("the number of layouts is not known")
    total = known_int(p, total_length, "total_sequence_length")
    if key is None or value is None:
        size = width // (num_heads + 2 * kv_num_heads)
        query, key, value = p.split(query, [num_heads * size, kv_num_heads * size, kv_num_heads * size], 2)
    first = p.eq(p.size(length), p.size(total))
    ends = p.cast(p.reshape(lengths, (batch, 1, 1, 1)), dtypes.INT64)
    pasts = p.select(first, p.scalar(0, dtypes.INT64), ends - p.size(length))
    q, k, v = (apart_expr(p, e, n) for e, n in ((query, num_heads), (key, kv_num_heads), (value, kv_num_heads)))
    if do_rotary:
        assert cos_cache is not None and sin_cache is not None
        places = p.reshape(pasts, (batch, 1)) + p.iota((1, length), 1)
        turn = rule_of(Rotary, "lower", 23)
        q, k = (turn(p, e, cos_cache, sin_cache, places, interleaved=rotary_interleaved or 0,
                     rotary_embedding_dim=2 * cos_cache.shape[1], num_heads=None) for e in (q, k))
    room = past_key.shape[2]

    def cached(old: Expr, new: Expr) -> Expr:
        """The cache with what is new behind each sample's past."""
        place = p.iota((1, 1, room, 1), 2) - pasts
        fits = p.and_(p.ge(place, 0), p.lt(place, p.size(length)))
        at = p.broadcast_to(p.min(p.max(place, 0), p.size(length) - 1), old.shape)
        return p.select(fits, p.gather_along(new, at, 2), old)

    present_k, present_v = cached(past_key, k), cached(past_value, v)
    # A list of marks for each layout, with one slot at the end for what stands behind its last row.
    stored = p.iota((1, columns.shape[1], 1), 1)
    stops = p.expand_dims(p.cast(p.take(rows, 1, 1, blocks + 1), dtypes.INT64), [1])
    row = p.sum(p.cast(p.ge(stored, stops), dtypes.INT64), [2])
    slot = p.min(row * p.size(blocks) + p.max(p.cast(columns, dtypes.INT64), 0), p.size(blocks * blocks))
    marks = p.scatter_along(p.full((layouts, blocks * blocks + 1), 0.0, dtypes.FLOAT), slot,
                            p.full(columns.shape, 1.0, dtypes.FLOAT), 1)
    at, place = p.iota((1, 1, 1, room), 3), pasts + p.iota((1, 1, length, 1), 2)
    # Places behind the last block are behind every query as well.
    inside = p.min(p.div(at, sparse_block_size), p.size(blocks) - 1)
    pair = p.div(place, sparse_block_size) * p.size(blocks) + inside
    flat = p.reshape(pair, (1, batch * length * room))
    found = p.gather_along(marks, p.broadcast_to(flat, (layouts, batch * length * room)), 1)
    seen = p.gt(p.transpose(p.reshape(found, (layouts, batch, length, room)), (1, 0, 2, 3)), 0.0)
    seen = p.concat([seen] * (num_heads // layouts), 1)  # (batch, heads, length, room)
    hidden = p.broadcast_to(p.gt(at, place), seen.shape)
    mask = p.select(hidden, float("-inf"), p.select(seen, p.scalar(0.0, dtypes.FLOAT), _LOWEST))
    y = attend_expr(p, widened(p, q), widened(p, present_k), widened(p, present_v), mask, scale)
    return tuple(p.cast(e, dtype) for e in (together_expr(p, y), present_k, present_v))[:p.outputs]
