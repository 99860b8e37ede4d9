"""GroupQueryAttention: the attention of decoders, whose heads of queries share heads of keys, with its own cache.

What a reader would guess wrong:

- The samples of a batch may have pasts of different lengths: `seqlens_k` holds, for each, how many keys it has with the
  new ones, less one. New keys go behind the sample's own past, not to the end of the cache.
- The cache that comes out is as long as the one that came in, or as `total_sequence_length` where that is more; what is
  behind a sample's keys is zeros. Where the queries are as many as `total_sequence_length` there is no past at all.
- A window of `local_window_size` keys ends at the query's own.
- `smooth_softmax` adds a one to the denominator, and `head_sink` the exponential of a number of each head.
- With `query_seqlens` the queries of a sample are filled up on the right, and its past is what its keys have more than
  its own queries. Rows of what fills up are zeros here; nobody promises them.
- A quantised cache holds counts of `k_scale` and `v_scale`, of 8 bits or two of 4 in a byte, which stand for 8 less.
  What is new is counted before it is looked at.
- With `sliding_window_cache` the cache holds the newest keys only, from its first place on, at least a window of them;
  what is older goes when there is no room, as many at once as the cache has more room than the window, and one.
- With norms, each head of queries and of keys is divided by its root mean square before it turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError, RunError
from gesher.ir import DimLike
from gesher.ir.types import print_shape
from gesher.ops.arithmetic import widen, widened
from gesher.ops.borrowing import rule_of
from gesher.ops.core.attention import RotaryEmbedding as Rotary
from gesher.ops.core.attention import rotary_embedding
from gesher.ops.rules import InferNode
from gesher.ops.schema import REQUIRED, Attr, Input, Output, op, tensors
from gesher.ops.sizes import known_int, scalar_of
from gesher.primitives import Builder, CannotLower, Expr
from gesher.symbolic import ceil_div, decide_eq, decide_le, maximum

from .attending import apart, apart_expr, attend_expr, together, together_expr
from .types import FLOAT, INT32, MS, REALS

GroupQueryAttention = op("GroupQueryAttention", Input("query"), Input("key", optional=True),
                         Input("value", optional=True), Input("past_key", "T_CACHE", optional=True),
                         Input("past_value", "T_CACHE", optional=True), Input("seqlens_k", "M"),
                         Input("total_sequence_length", "M"), Input("cos_cache", optional=True),
                         Input("sin_cache", optional=True), Input("position_ids", "tensor(int64)", optional=True),
                         Input("attention_bias", optional=True), Input("head_sink", optional=True),
                         Input("k_scale", "T_KV_SCALE", optional=True), Input("v_scale", "T_KV_SCALE", optional=True),
                         Input("q_norm_weight", optional=True), Input("k_norm_weight", optional=True),
                         Input("query_seqlens", "M", optional=True), Output("output"),
                         Output("present_key", "T_CACHE", optional=True),
                         Output("present_value", "T_CACHE", optional=True), Output("output_qk", optional=True),
                         Attr("num_heads", "int", REQUIRED), Attr("kv_num_heads", "int", REQUIRED),
                         Attr("scale", "float"), Attr("softcap", "float"), Attr("causal", "int", 1),
                         Attr("local_window_size", "int", -1), Attr("smooth_softmax", "int", -1),
                         Attr("do_rotary", "int"), Attr("rotary_interleaved", "int"), Attr("qk_output", "int", 0),
                         Attr("q_norm_epsilon", "float"), Attr("k_norm_epsilon", "float"),
                         Attr("qk_norm_epsilon", "float", 1e-6), Attr("kv_cache_bit_width", "int"),
                         Attr("k_quant_type", "string", "NONE"), Attr("v_quant_type", "string", "NONE"),
                         Attr("sliding_window_cache", "int", 0), domain=MS, T=REALS,
                         T_CACHE=REALS | tensors("uint8 int8 float8e4m3fn"), T_KV_SCALE=FLOAT, M=INT32)


@GroupQueryAttention.infer
def _(node: InferNode) -> None:
    q, k = node.shape(0), node.shape(1) if node.has(1) else None
    heads, groups = node["num_heads"], node["kv_num_heads"]
    if heads < 1 or groups < 1 or heads % groups:
        node.fail(f"{heads} heads of queries do not share {groups} heads of keys evenly")
    if node.has(1) != node.has(2) or node.has(3) != node.has(4):
        node.fail("key and value come together or not at all, and so do past_key and past_value")
    why = "the shape of the query or of the past is unknown"
    past = node.shape(3) if node.has(3) else None
    if q is None:
        node.set(0, node.dtype(0), (None,) * 3, why=why)
        for i in (1, 2, 3):
            node.set(i, node.dtype(3) if i < 3 and node.has(3) else node.dtype(0), (None,) * 4, why=why)
        return
    if node.has(14) != node.has(15):
        node.fail("q_norm_weight and k_norm_weight come together or not at all")
    if node.has(16) and not node.has(3):
        node.fail("query_seqlens asks for past_key and past_value")
    if len(q) != 3:
        node.fail(f"the query is (batch, length, features), not {print_shape(q)}")
    batch, length, width = q
    parts = heads if node.has(1) else heads + 2 * groups
    if decide_eq(width % parts, 0) is False:
        node.fail(f"{width} features do not divide into {parts} heads")
    size = width // parts
    if k is not None:
        for i, (a, b) in enumerate(zip(k, (batch, length, groups * size))):
            node.unify(a, b, f"axis {i} of the key, of which the query asks {b}")
    if (lengths := node.shape(5)) is not None:
        node.unify(batch, lengths[0] if lengths else None, "the batch and seqlens_k")
    stored: DimLike = size
    if node["k_quant_type"] != "NONE" or node["v_quant_type"] != "NONE":
        if not (node.has(3) and node.has(12) and node.has(13)):
            node.fail("a quantised cache asks for past_key, past_value, k_scale and v_scale")
        if node["kv_cache_bit_width"] == 4:
            stored = ceil_div(size, 2)
    for i, name in ((14, "q_norm_weight"), (15, "k_norm_weight")):
        if node.has(i) and (weight := node.shape(i)) is not None:
            node.unify(weight[0] if len(weight) == 1 else None, size, f"{name} and the size of a head")
    total: DimLike | None = scalar_of(node, 6)
    before: DimLike | None = 0
    if node.has(3):
        before = None if past is None else past[2]
        if past is not None:
            for i, (a, b) in enumerate(zip(past, (batch, groups, past[2], stored))):
                node.unify(a, b, f"axis {i} of past_key, of which the query asks {b}")
    cache = None if total is None or before is None else maximum(total, before)
    if node["sliding_window_cache"]:
        if not node.has(3) or node["local_window_size"] < 1:
            node.fail("sliding_window_cache asks for past_key, past_value and a local_window_size")
        if before is not None and decide_le(node["local_window_size"], before) is False:
            node.fail(f"a window of {node['local_window_size']} keys does not fit a cache of {before}")
        cache = before
    dtype = node.dtype(3) if node.has(3) else node.dtype(0)
    reason = "total_sequence_length is not known"
    node.set(0, node.dtype(0), (batch, length, heads * size))
    node.set(1, dtype, (batch, groups, cache, stored), why=reason)
    node.set(2, dtype, (batch, groups, cache, stored), why=reason)
    node.set(3, node.dtype(0), (batch, heads, length, total), why=reason)


@dataclass(frozen=True, slots=True)
class _Store:
    """How a cache holds keys, or values: as they are, or as counts of a scale."""

    scale: Any
    bits: int | None

    def put(self, x: Any, dtype: Any) -> Any:
        """(heads, length, size) as the cache holds it."""
        if self.scale is None:
            return x.astype(dtype)
        low, high = (-8, 7) if self.bits == 4 else (-128, 127)
        counts = np.clip(np.rint(widen(x) / self.scale), low, high).astype(np.int64)
        if self.bits != 4:
            return counts.astype(dtype)
        pairs = np.pad(counts + 8, ((0, 0), (0, 0), (0, counts.shape[2] % 2)), constant_values=8)
        return (pairs[..., 0::2] | pairs[..., 1::2] << 4).astype(dtype)

    def get(self, stored: Any, size: int) -> Any:
        """What it holds, wide."""
        if self.scale is None:
            return widen(stored)
        if self.bits == 4:
            halves = np.stack([stored & 15, stored >> 4], -1).reshape(*stored.shape[:-1], -1)[..., :size]
            return (halves.astype(np.float32) - 8) * self.scale
        return stored.astype(np.float32) * self.scale


def _resident(keys: int, room: int, window: int) -> int:
    """How many of the newest keys a cache of a window holds: what is older goes in batches, when there is no room."""
    batch = room - window + 1
    return keys if keys <= room else keys + (room - keys) // batch * batch


def _store(kind: str, scale: Any, bits: int | None, heads: int) -> _Store:
    """How a cache is held; the scale is (heads or 1, 1, size or 1).

    Raises:
        ModelError: the kind, the width or the scale does not fit. UnsupportedError: the width is not here.
    """
    if kind == "NONE":
        return _Store(None, None)
    if kind not in ("PER_TENSOR", "PER_CHANNEL") or bits not in (None, 4, 8) or scale is None:
        raise ModelError(f"a cache cannot be quantised as '{kind}' to {bits} bits", rule="attention",
                         advice="it is NONE, PER_TENSOR or PER_CHANNEL, to 4 or 8 bits, with its scale")
    if scale.size == 1:
        return _Store(np.float32(scale.reshape(())), bits)
    if scale.size % heads:
        raise RunError(f"a scale {print_shape(scale.shape)} is not one for each of {heads} heads and their channels")
    return _Store(scale.astype(np.float32).reshape(heads, 1, -1), bits)


def _normed(x: Any, weight: Any, epsilon: float) -> Any:
    """Each head divided by its root mean square."""
    if weight is None:
        return x
    wide = widen(x)
    return (wide / np.sqrt((wide * wide).mean(-1, keepdims=True) + np.float32(epsilon)) * widen(weight)).astype(x.dtype)


@GroupQueryAttention.reference
def group_query_attention(query: Any, key: Any = None, value: Any = None, past_key: Any = None, past_value: Any = None,
                          seqlens_k: Any = None, total_sequence_length: Any = None, cos_cache: Any = None,
                          sin_cache: Any = None, position_ids: Any = None, attention_bias: Any = None,
                          head_sink: Any = None, k_scale: Any = None, v_scale: Any = None, q_norm_weight: Any = None,
                          k_norm_weight: Any = None, query_seqlens: Any = None, *, num_heads: int, kv_num_heads: int,
                          scale: float | None, softcap: float | None, causal: int, local_window_size: int,
                          smooth_softmax: int, do_rotary: int | None, rotary_interleaved: int | None, qk_output: int,
                          q_norm_epsilon: float | None, k_norm_epsilon: float | None, qk_norm_epsilon: float,
                          kv_cache_bit_width: int | None, k_quant_type: str, v_quant_type: str,
                          sliding_window_cache: int) -> Any:
    dtype, (batch, length) = query.dtype, query.shape[:2]
    if key is None:
        size = query.shape[2] // (num_heads + 2 * kv_num_heads)
        query, key, value = np.split(query, [num_heads * size, (num_heads + kv_num_heads) * size], 2)
    total = int(total_sequence_length.reshape(()))
    keys_of = seqlens_k.reshape(-1).astype(np.int64) + 1
    if query_seqlens is not None:
        own = query_seqlens.reshape(-1).astype(np.int64)
        if (own < 0).any() or (own > np.minimum(length, keys_of)).any() or (keys_of > total).any():
            raise RunError(f"query_seqlens {own.tolist()} do not fit {length} queries and {keys_of.tolist()} keys")
        pasts = keys_of - own
    else:
        own = np.full(batch, length)
        pasts = np.zeros(batch, np.int64) if length == total else keys_of - length
    q, k, v = apart(query, num_heads), apart(key, kv_num_heads), apart(value, kv_num_heads)
    q = _normed(q, q_norm_weight, qk_norm_epsilon if q_norm_epsilon is None else q_norm_epsilon)
    k = _normed(k, k_norm_weight, qk_norm_epsilon if k_norm_epsilon is None else k_norm_epsilon)
    if do_rotary:
        places = pasts[:, None] + np.arange(length) if position_ids is None else position_ids.reshape(batch, length)
        places = np.minimum(places, len(cos_cache) - 1) if query_seqlens is not None else places
        turned = {"interleaved": rotary_interleaved or 0, "rotary_embedding_dim": 2 * cos_cache.shape[1],
                  "num_heads": None}
        q, k = (rotary_embedding(x, cos_cache, sin_cache, places, **turned) for x in (q, k))
    stores = (_store(k_quant_type, k_scale, kv_cache_bit_width, kv_num_heads),
              _store(v_quant_type, v_scale, kv_cache_bit_width, kv_num_heads))
    buffer = max(total, 0 if past_key is None else past_key.shape[2])
    if sliding_window_cache:
        if past_key is None or not 0 < local_window_size <= past_key.shape[2]:
            raise RunError(f"a window of {local_window_size} keys asks for a cache of as many")
        buffer = past_key.shape[2]
    held = dtype if past_key is None else past_key.dtype
    presents = [np.zeros((batch, kv_num_heads, buffer, x.shape[3] if past is None else past.shape[3]), held)
                for x, past in ((k, past_key), (v, past_value))]
    y = np.zeros((batch, num_heads, length, v.shape[3]), np.float32)
    shown = np.zeros((batch, num_heads, length, total), np.float32)
    each = num_heads // kv_num_heads
    factor = np.float32(scale if scale else 1 / np.sqrt(q.shape[3]))
    for b in range(batch):
        past, keys, rows = int(pasts[b]), int(keys_of[b]), int(own[b])
        old_rows = _resident(past, buffer, local_window_size) if sliding_window_cache else past
        start, seen = past - old_rows, []
        for present, old, new, store in zip(presents, (past_key, past_value), (k, v), stores):
            there = store.put(new[b, :, :rows], held)
            there = there if old is None else np.concatenate([old[b, :, :old_rows], there], 1)
            kept = _resident(keys, buffer, local_window_size) if sliding_window_cache else old_rows + rows
            present[b, :, :kept] = there[:, there.shape[1] - kept:]
            seen.append(np.repeat(store.get(there[:, :keys - start], new.shape[3]), each, 0))
        seen_k, seen_v = seen
        scores = (widen(q[b, :, :rows]) @ seen_k.swapaxes(1, 2)) * factor
        if softcap:
            scores = np.tanh(scores / np.float32(softcap)) * np.float32(softcap)
        if attention_bias is not None:
            scores = scores + widen(attention_bias[b % len(attention_bias)])[..., :rows, start:keys]
        place, at = past + np.arange(rows)[:, None], np.arange(start, keys)
        hidden = np.zeros((rows, len(at)), np.bool_)
        if causal:
            hidden = hidden | (at > place)
        if local_window_size >= 0:
            hidden = hidden | (at <= place - local_window_size)
        scores = np.where(hidden, np.float32(-np.inf), scores)
        weights = _softmax(scores, smooth_softmax == 1, head_sink)
        y[b, :, :rows] = weights @ seen_v
        if qk_output:
            shown[b, :, :rows, start:keys] = np.where(hidden, 0, scores) if qk_output == 1 else weights
    return together(y).astype(dtype), *presents, shown.astype(dtype)


def _softmax(scores: Any, smooth: bool, sink: Any) -> Any:
    """Weights of keys, (heads, queries, keys); a sink or a one takes its part and goes."""
    extra = None
    if sink is not None:
        extra = widen(sink).reshape(-1, 1, 1)
    elif smooth:
        extra = np.zeros((1, 1, 1), np.float32)
    top = scores.max(-1, keepdims=True, initial=-np.inf)
    top = top if extra is None else np.maximum(top, extra)
    e = np.exp(scores - top)
    total = e.sum(-1, keepdims=True)
    return e / (total if extra is None else total + np.exp(extra - top))


# Lowering: the cache is put together by place, and one mask tells what each query sees of it

def _cache(p: Builder, old: Expr | None, new: Expr, pasts: Expr, own: Expr, room: DimLike) -> Expr:
    """(batch, heads, room, size): of each sample its past, then what is new, then zeros. pasts and own, how many are
    new, (batch, 1, 1, 1)."""
    batch, heads, length, size = new.shape
    shape = (batch, heads, room, size)
    place = p.iota((1, 1, room, 1), 2) - pasts  # among what is new
    at = p.broadcast_to(p.min(p.max(place, 0), p.size(length) - 1), shape)
    made = p.select(p.lt(place, own), p.gather_along(new, at, 2), 0.0)
    if old is None:
        return made
    zeros = (0, 0, 0, 0)
    return p.select(p.lt(place, 0), p.pad(old, zeros, (0, 0, room - old.shape[2], 0)), made)


def _normed_expr(p: Builder, x: Expr, weight: Expr, epsilon: float) -> Expr:
    wide = widened(p, x)
    mean = p.mean(wide * wide, [x.rank - 1], keepdims=True)
    return p.cast(wide / p.sqrt(mean + float(epsilon)) * widened(p, weight), x.dtype)


@GroupQueryAttention.lower
def _(p: Builder, query: Expr, key: Expr | None = None, value: Expr | None = None, past_key: Expr | None = None,
      past_value: Expr | None = None, seqlens_k: Expr | None = None, total_sequence_length: Expr | None = None,
      cos_cache: Expr | None = None, sin_cache: Expr | None = None, position_ids: Expr | None = None,
      attention_bias: Expr | None = None, head_sink: Expr | None = None, k_scale: Expr | None = None,
      v_scale: Expr | None = None, q_norm_weight: Expr | None = None, k_norm_weight: Expr | None = None,
      query_seqlens: Expr | None = None, *, num_heads: int, kv_num_heads: int, scale: float | None,
      softcap: float | None, causal: int, local_window_size: int, smooth_softmax: int, do_rotary: int | None,
      rotary_interleaved: int | None, **attributes: Any) -> tuple[Expr, ...]:
    if attributes["sliding_window_cache"] or attributes["k_quant_type"] != "NONE" \
            or attributes["v_quant_type"] != "NONE":
        raise CannotLower("a quantised or sliding cache")
    if head_sink is not None or smooth_softmax == 1 or p.outputs > 3:
        raise CannotLower("a softmax with a sink, or one that is shown")
    assert seqlens_k is not None and total_sequence_length is not None
    dtype, (batch, length, width) = query.dtype, query.shape
    total = known_int(p, total_sequence_length, "total_sequence_length")
    if key is None or value is None:
        size = width // (num_heads + 2 * kv_num_heads)
        query, key, value = p.split(query, [num_heads * size, kv_num_heads * size, kv_num_heads * size], 2)
    keys = p.cast(p.reshape(seqlens_k, (batch, 1, 1, 1)), dtypes.INT64) + 1
    if query_seqlens is not None:
        own = p.cast(p.reshape(query_seqlens, (batch, 1, 1, 1)), dtypes.INT64)
        pasts = keys - own
    else:
        own = p.broadcast_to(p.size(length), (batch, 1, 1, 1))
        first = p.eq(p.size(length), p.size(total))
        pasts = p.select(first, p.scalar(0, dtypes.INT64), keys - p.size(length))
    q, k, v = (apart_expr(p, e, n) for e, n in ((query, num_heads), (key, kv_num_heads), (value, kv_num_heads)))
    if q_norm_weight is not None and k_norm_weight is not None:
        near = attributes["qk_norm_epsilon"]
        q, k = (_normed_expr(p, x, w, near if attributes[name] is None else attributes[name]) for x, w, name in (
            (q, q_norm_weight, "q_norm_epsilon"), (k, k_norm_weight, "k_norm_epsilon")))
    if do_rotary:
        assert cos_cache is not None and sin_cache is not None
        places = p.reshape(position_ids, (batch, length)) if position_ids is not None else \
            p.reshape(pasts, (batch, 1)) + p.iota((1, length), 1)
        if query_seqlens is not None:
            places = p.min(places, p.size(cos_cache.shape[0]) - 1)
        turn = rule_of(Rotary, "lower", 23)
        q, k = (turn(p, e, cos_cache, sin_cache, places, interleaved=rotary_interleaved or 0,
                     rotary_embedding_dim=2 * cos_cache.shape[1], num_heads=None) for e in (q, k))
    room = total if past_key is None else maximum(total, past_key.shape[2])
    present_k, present_v = (_cache(p, *pair, pasts, own, room) for pair in ((past_key, k), (past_value, v)))
    at, place = p.iota((1, 1, 1, room), 3), pasts + p.iota((1, 1, length, 1), 2)
    seen = p.lt(at, keys)
    if causal:
        seen = p.and_(seen, p.le(at, place))
    if local_window_size >= 0:
        seen = p.and_(seen, p.gt(at, place - local_window_size))
    mask = p.broadcast_to(seen, (batch, 1, length, room))
    if attention_bias is not None:
        bias = p.pad(widened(p, attention_bias), (0, 0, 0, 0), (0, 0, 0, room - attention_bias.shape[3]))
        mask = p.select(mask, bias, float("-inf"))
    y = attend_expr(p, widened(p, q), widened(p, present_k), widened(p, present_v), mask, scale, softcap=softcap or 0.0)
    if query_seqlens is not None:
        y = p.select(p.lt(p.iota((1, 1, length, 1), 2), own), y, 0.0)
    return tuple(p.cast(e, dtype) for e in (together_expr(p, y), present_k, present_v))[:p.outputs]
