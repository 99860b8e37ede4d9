"""DecoderMaskedMultiHeadAttention: one new token of every sample, against a cache that is longer than what it holds.

With `past_present_share_buffer` the cache has room for `past_sequence_length` keys and more: the new one goes to that
place, and what is behind it is not looked at. Beams that were swapped are not moved in the cache: `cache_indirection`
(batch, beams, places) tells from which beam each key and value is. Keys with their heads apart and no past are those of
another sequence, and are used as they are. Without a shared buffer this is MultiHeadAttention; ONNX Runtime's CPU build
does not run that form.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import DimLike
from gesher.ir.types import print_shape
from gesher.ops.arithmetic import widen, widened
from gesher.ops.rules import InferNode
from gesher.ops.schema import REQUIRED, Attr, Input, Output, op
from gesher.ops.sizes import scalar_of
from gesher.primitives import Builder, CannotLower, Expr

from .attending import apart, apart_expr, attend, attend_expr, mask_expr, mask_of, sum_expr, together, together_expr
from .types import HALVES, INT32, MS

DecoderMaskedMultiHeadAttention = op(
    "DecoderMaskedMultiHeadAttention", Input("query"), Input("key", optional=True), Input("value", optional=True),
    Input("mask_index", "M", optional=True), Input("attention_bias", optional=True), Input("past_key", optional=True),
    Input("past_value", optional=True), Input("past_sequence_length", "M", optional=True),
    Input("beam_width", "M", optional=True), Input("cache_indirection", "M", optional=True),
    Input("bias", optional=True), Output("output"), Output("present_key", optional=True),
    Output("present_value", optional=True), Output("qk", "QK", optional=True), Attr("num_heads", "int", REQUIRED),
    Attr("past_present_share_buffer", "int"), Attr("scale", "float"), Attr("mask_filter_value", "float"),
    Attr("output_qk", "int"), domain=MS, T=HALVES, QK=HALVES, M=INT32)


@DecoderMaskedMultiHeadAttention.infer
def _(node: InferNode) -> None:
    q, k, v = node.shape(0), node.shape(1), node.shape(2)
    heads, shared = node["num_heads"], bool(node["past_present_share_buffer"])
    if shared and not (node.has(5) and node.has(6) and node.has(7)):
        node.fail("a shared buffer needs past_key, past_value and past_sequence_length")
    why = "the shape of the query, the key or the past is unknown"
    past = node.shape(5) if node.has(5) else None
    if q is None or k is None or v is None or (node.has(5) and past is None):
        for i, rank in ((0, 3), (1, 4), (2, 4), (3, 4)):
            node.set(i, node.dtype(0), (None,) * rank, why=why)
        return
    if len(q) != 3:
        node.fail(f"the query is (batch, 1, features), not {print_shape(q)}")
    batch = q[0]
    size: DimLike = q[2] // heads
    value_size: DimLike = v[2] // heads if len(v) == 3 else v[3]
    total: DimLike | None
    if shared:
        before = scalar_of(node, 7)
        total = None if before is None else before + 1
        cache: DimLike | None = None if past is None else past[2]
    else:
        new = k[1] if len(k) == 3 else k[2]
        total = cache = new if past is None else past[2] + new
    node.set(0, node.dtype(0), (batch, q[1], value_size * heads))
    node.set(1, node.dtype(0), (batch, heads, cache, size), why=why)
    node.set(2, node.dtype(0), (batch, heads, cache, value_size), why=why)
    node.set(3, node.dtype(0), (batch, heads, q[1], total), why="past_sequence_length is not known")


def _of_beams(cache: Any, indirection: Any, length: int) -> Any:
    """The first `length` places of a cache (batch * beams, heads, places, size), each from the beam that made it."""
    batch, beams = indirection.shape[:2]
    parts = cache.reshape(batch, beams, *cache.shape[1:])
    rows = np.arange(batch)[:, None, None]
    places = np.arange(length)
    taken = parts[rows, indirection[:, :, :length], :, places]  # (batch, beams, length, heads, size)
    return taken.reshape(-1, *taken.shape[2:]).transpose(0, 2, 1, 3)


@DecoderMaskedMultiHeadAttention.reference
def decoder_masked_multi_head_attention(
        query: Any, key: Any = None, value: Any = None, mask_index: Any = None, attention_bias: Any = None,
        past_key: Any = None, past_value: Any = None, past_sequence_length: Any = None, beam_width: Any = None,
        cache_indirection: Any = None, bias: Any = None, *, num_heads: int, past_present_share_buffer: int | None,
        scale: float | None, mask_filter_value: float | None, output_qk: int | None) -> Any:
    dtype, width = query.dtype, query.shape[2]
    biases: Any = (0.0, 0.0, 0.0) if bias is None else np.split(widen(bias), [width, 2 * width])
    q = apart(widen(query) + biases[0], num_heads)
    if key.ndim == 4:
        k, v = widen(key), widen(value)
    else:
        k, v = apart(widen(key) + biases[1], num_heads), apart(widen(value) + biases[2], num_heads)
    if past_present_share_buffer:
        before = int(past_sequence_length.reshape(-1)[0])
        present_k, present_v = widen(past_key).copy(), widen(past_value).copy()
        present_k[:, :, before:before + 1], present_v[:, :, before:before + 1] = k, v
        seen = []
        for cache, new in ((present_k, k), (present_v, v)):
            old = cache[:, :, :before] if cache_indirection is None else _of_beams(cache, cache_indirection, before)
            seen.append(np.concatenate([old, new], 2))
        k, v = seen
    else:
        if past_key is not None:
            k, v = np.concatenate([widen(past_key), k], 2), np.concatenate([widen(past_value), v], 2)
        present_k, present_v = k, v
    added = mask_of(mask_index, q.shape[0], q.shape[2], k.shape[2], k.shape[2] - q.shape[2], False, mask_filter_value)
    if attention_bias is not None:
        added = added + widen(attention_bias)
    y, scores = attend(q, k, v, added, scale)
    return tuple(e.astype(dtype) for e in (together(y), present_k, present_v, scores))


@DecoderMaskedMultiHeadAttention.lower
def _(p: Builder, query: Expr, key: Expr | None = None, value: Expr | None = None, mask_index: Expr | None = None,
      attention_bias: Expr | None = None, past_key: Expr | None = None, past_value: Expr | None = None,
      past_sequence_length: Expr | None = None, beam_width: Expr | None = None,
      cache_indirection: Expr | None = None, bias: Expr | None = None, *, num_heads: int,
      past_present_share_buffer: int | None, scale: float | None, mask_filter_value: float | None,
      output_qk: int | None) -> tuple[Expr, ...]:
    shared = bool(past_present_share_buffer)
    if cache_indirection is not None or key is None or value is None:
        raise CannotLower("a cache of beams")
    if shared and (mask_index is not None or attention_bias is not None or p.outputs > 3):
        raise CannotLower("a mask as long as what the cache holds, which only the run knows")
    width = query.shape[2]
    parts = None if bias is None else p.split(widened(p, bias), [width, width, bias.shape[0] - width * 2], 0)
    q, k, v = widened(p, query), widened(p, key), widened(p, value)
    if parts is not None:
        q = q + parts[0]
        k, v = (k, v) if k.rank == 4 else (k + parts[1], v + parts[2])
    q = apart_expr(p, q, num_heads)
    k, v = (e if e.rank == 4 else apart_expr(p, e, num_heads) for e in (k, v))
    nonpad: Expr | None = None
    if shared:
        assert past_key is not None and past_value is not None and past_sequence_length is not None
        before = p.cast(p.reshape(past_sequence_length, ()), dtypes.INT64)
        here = p.eq(p.iota((1, 1, past_key.shape[2], 1), 2), before)
        k, v = p.select(here, k, widened(p, past_key)), p.select(here, v, widened(p, past_value))
        nonpad = p.broadcast_to(p.reshape(before + 1, (1,)), (query.shape[0],))
    elif past_key is not None and past_value is not None:
        k, v = p.concat([widened(p, past_key), k], 2), p.concat([widened(p, past_value), v], 2)
    keys = k.shape[2]
    added = sum_expr(mask_expr(p, mask_index, query.shape[0], query.shape[1], keys, keys - query.shape[1],
                               mask_filter_value), None if attention_bias is None else widened(p, attention_bias))
    found = attend_expr(p, q, k, v, added, scale, nonpad=nonpad, shows=2 if p.outputs > 3 else -1)
    y, *scores = found if isinstance(found, tuple) else (found,)
    return tuple(p.cast(e, query.dtype) for e in (together_expr(p, y), k, v, *scores))[:p.outputs]
