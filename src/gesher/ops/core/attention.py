"""Attention, and the rotary embedding of positions.

Queries, keys and values are (batch, heads, length, head size), or have their heads side by side in the last axis. What
a reader would guess wrong:

- The scale is split: queries and keys are both multiplied by its square root, so that narrow floats do not overflow.
- A causal query sees the keys up to its own place counted from the end of the cache: `past_key` shifts it, and so does
  `nonpad_kv_seqlen`, for each sample.
- A query that sees nothing (all of its mask is false or -inf) gives zeros, not NaN.
- Every step is rounded to the type of Q, those of the softmax to `softmax_precision`; only sums are kept in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.ir import DimLike
from gesher.ir.types import print_shape
from gesher.primitives import Builder, Expr
from gesher.symbolic import decide_eq

from ..arithmetic import widen
from ..broadcasting import broadcast_into
from ..rules import InferNode
from ..schema import BF16, BOOL, FLOATS, NUMBERS, Attr, Input, Output, op, tensors

_REALS = FLOATS | BF16

Attention = (op("Attention", Input("Q", "T1"), Input("K", "T1"), Input("V", "T2"),
                Input("attn_mask", "U", optional=True), Input("past_key", "T1", optional=True),
                Input("past_value", "T2", optional=True), Output("Y", "T1"),
                Output("present_key", "T1", optional=True), Output("present_value", "T2", optional=True),
                Output("qk_matmul_output", "T1", optional=True), Attr("is_causal", "int", 0), Attr("scale", "float"),
                Attr("q_num_heads", "int"), Attr("kv_num_heads", "int"), Attr("softmax_precision", "int"),
                Attr("softcap", "float", 0.0), Attr("qk_matmul_output_mode", "int", 0), since=23,
                T1=_REALS, T2=_REALS, U=NUMBERS | BF16 | BOOL)
             .since(24, Input("nonpad_kv_seqlen", "tensor(int64)", optional=True),
                    behaviour="a mask may be shorter than the keys, whose valid number an input may tell")
             .since(25, Attr("left_window_size", "int", -1), Attr("right_window_size", "int", -1)))

RotaryEmbedding = op("RotaryEmbedding", Input("X"), Input("cos_cache"), Input("sin_cache"),
                     Input("position_ids", "M", optional=True), Output("Y"), Attr("interleaved", "int", 0),
                     Attr("rotary_embedding_dim", "int", 0), Attr("num_heads", "int"), since=23,
                     T=tensors("float float16") | BF16, M=tensors("int64"))


# Attention: inference

def _heads_shape(node: InferNode, index: int, heads: int | None) -> tuple[DimLike, ...] | None:
    """The shape of Q, K or V with its heads apart; None where it is unknown."""
    name, shape = "QKV"[index], node.shape(index)
    if shape is None:
        return None
    if len(shape) == 4:
        return shape
    if len(shape) != 3:
        node.fail(f"{name} has 3 or 4 axes, not {print_shape(shape)}")
    attribute = "q_num_heads" if index == 0 else "kv_num_heads"
    if not heads:
        node.fail(f"{name} {print_shape(shape)} has its heads side by side, so {attribute} must be written")
    if decide_eq(shape[2] % heads, 0) is False:
        node.fail(f"{shape[2]} features of {name} do not divide into {heads} heads")
    return shape[0], heads, shape[1], shape[2] // heads


@Attention.infer
def _(node: InferNode) -> None:
    q = _heads_shape(node, 0, node["q_num_heads"])
    k = _heads_shape(node, 1, node["kv_num_heads"])
    v = _heads_shape(node, 2, node["kv_num_heads"])
    past_k, past_v = node.shape(4), node.shape(5)
    if node.has(4) != node.has(5):
        node.fail("past_key and past_value come together or not at all")
    if node.has(6) and node.has(4):
        node.fail("nonpad_kv_seqlen tells of a cache outside, past_key of one inside: one of them")
    if q is None or k is None or v is None or (node.has(4) and (past_k is None or past_v is None)):
        given = node.rank(0)
        why = "the shape of an input is unknown"
        node.set(0, node.dtype(0), None if given is None else (None,) * given, why=why)
        for i, dtype in ((1, node.dtype(1)), (2, node.dtype(2)), (3, node.dtype(0))):
            node.set(i, dtype, (None,) * 4, why=why)
        return
    for a, b, what in ((q[0], k[0], "the batches of Q and K"), (k[0], v[0], "the batches of K and V"),
                       (q[3], k[3], "the head sizes of Q and K"), (k[1], v[1], "the heads of K and V"),
                       (k[2], v[2], "the lengths of K and V")):
        node.unify(a, b, what)
    if decide_eq(q[1] % k[1], 0) is False:
        node.fail(f"{q[1]} heads of queries do not share {k[1]} heads of keys evenly")
    total = k[2]
    for past, new, name in ((past_k, k, "key"), (past_v, v, "value")):
        if past is None:
            continue
        if len(past) != 4:
            node.fail(f"past_{name} has 4 axes, not {print_shape(past)}")
        for i in (0, 1, 3):
            node.unify(past[i], new[i], f"axis {i} of past_{name} {print_shape(past)} and of what is new")
    if past_k is not None and past_v is not None:
        node.unify(past_k[2], past_v[2], "the lengths of past_key and past_value")
        total = total + past_k[2]
    mask = node.shape(3)
    if mask:
        # A mask may end before the keys do.
        broadcast_into(node, (q[0], q[1], q[2], mask[-1]), mask, "attn_mask")
    y = (q[0], q[1], q[2], v[3]) if node.rank(0) == 4 else (q[0], q[2], q[1] * v[3])
    node.set(0, node.dtype(0), y)
    node.set(1, node.dtype(1), (k[0], k[1], total, k[3]))
    node.set(2, node.dtype(2), (v[0], v[1], total, v[3]))
    node.set(3, node.dtype(0), (q[0], q[1], q[2], total))


# Attention: reference

def _apart(x: Any, heads: int | None) -> Any:
    """(batch, heads, length, size) from (batch, length, heads * size)."""
    if x.ndim == 4:
        return x
    if not heads or x.shape[2] % heads:
        raise ModelError(f"Attention: {print_shape(x.shape)} does not divide into {heads} heads", rule="attention")
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def _bias(mask: Any, shape: tuple[int, int, int], nonpad: Any, past: int, causal: bool, left: int, right: int) -> Any:
    """What is added to the scores (batch, heads, queries, keys), broadcast: 0, -inf, or as the mask says."""
    _, queries, keys = shape
    bias: Any = np.zeros((1, 1, queries, keys), np.float32)
    if mask is not None:
        given = np.where(mask, np.float32(0), np.float32(-np.inf)) if mask.dtype == np.bool_ else widen(mask)
        given = given if given.dtype.kind == "f" else given.astype(np.float32)
        given = np.pad(given, [(0, 0)] * (given.ndim - 1) + [(0, keys - given.shape[-1])], constant_values=-np.inf)
        bias = bias + given
    offset = np.array([past]) if nonpad is None else nonpad.reshape(-1) - queries
    place = np.arange(queries)[:, None] + offset.reshape(-1, 1, 1, 1)  # of each query among the keys
    key = np.arange(keys)
    seen = np.ones((1, 1, queries, keys), np.bool_)
    if causal:
        seen = seen & (key <= place)
    if left >= 0:
        seen = seen & (key >= place - left)
    if right >= 0:
        seen = seen & (key <= place + right)
    if nonpad is not None:
        seen = seen & (key < nonpad.reshape(-1, 1, 1, 1))
    return np.where(seen, bias, np.float32(-np.inf))


@Attention.reference
def attention(q: Any, k: Any, v: Any, attn_mask: Any = None, past_key: Any = None, past_value: Any = None,
              nonpad_kv_seqlen: Any = None, *, is_causal: int, scale: float | None, q_num_heads: int | None,
              kv_num_heads: int | None, softmax_precision: int | None, softcap: float, qk_matmul_output_mode: int,
              left_window_size: int = -1, right_window_size: int = -1) -> Any:
    side_by_side, dtype = q.ndim == 3, q.dtype
    q, k, v = _apart(q, q_num_heads), _apart(k, kv_num_heads), _apart(v, kv_num_heads)
    past = 0 if past_key is None else past_key.shape[2]
    if past_key is not None:
        k, v = np.concatenate([past_key, k], 2), np.concatenate([past_value, v], 2)
    root = np.asarray(np.sqrt(1 / np.sqrt(q.shape[3]) if scale is None else scale)).astype(dtype)

    def rounded(x: Any) -> Any:
        return widen(x.astype(dtype))

    with np.errstate(all="ignore"):
        groups = q.shape[1] // k.shape[1]
        queries, keys = rounded(widen(q) * widen(root)), rounded(widen(k) * widen(root)).repeat(groups, 1)
        scores = rounded(queries @ keys.swapaxes(2, 3))
        capped = scores if softcap <= 0 else rounded(np.tanh(rounded(scores / softcap)) * softcap)
        bias = _bias(attn_mask, (q.shape[0], q.shape[2], k.shape[2]), nonpad_kv_seqlen, past, bool(is_causal),
                     left_window_size, right_window_size)
        biased = rounded(capped + bias)
        inside = dtypes.by_code(softmax_precision).numpy if softmax_precision else dtype
        x = widen(biased.astype(inside))
        blind = np.isneginf(bias.max(-1, keepdims=True, initial=-np.inf))
        less = widen((x - np.where(blind, 0, x.max(-1, keepdims=True, initial=-np.inf))).astype(inside))
        e = widen(np.exp(less).astype(inside))
        total = widen(e.sum(-1, keepdims=True).astype(inside))
        weights = np.where(blind, 0, e / np.where(total == 0, 1, total)).astype(inside)
        weights = rounded(widen(weights))
        y = weights @ widen(v).repeat(groups, 1)
    y = y.astype(dtype)
    if side_by_side:
        y = y.transpose(0, 2, 1, 3).reshape(y.shape[0], y.shape[2], -1)
    shown = {0: scores, 1: capped, 2: biased, 3: weights}[qk_matmul_output_mode]
    return y, k, v, shown.astype(dtype)


# Attention: lowering

def _apart_expr(p: Builder, x: Expr, heads: int | None) -> Expr:
    if x.rank == 4:
        return x
    assert heads
    return p.transpose(p.reshape(x, (x.shape[0], x.shape[1], heads, x.shape[2] // heads)), (0, 2, 1, 3))


def _seen(p: Builder, queries: DimLike, keys: DimLike, nonpad: Expr | None, past: DimLike, causal: bool, left: int,
          right: int) -> Expr | None:
    """Which keys each query may see, (batch or 1, 1, queries, keys); None where all."""
    shape = (1, 1, queries, keys)
    key = p.iota(shape, 3)
    place = p.iota(shape, 2)
    column = None if nonpad is None else p.reshape(nonpad, (nonpad.shape[0], 1, 1, 1))
    place = place + (p.size(past) if column is None else column - p.size(queries))
    parts = []
    if causal:
        parts.append(key <= place)
    if left >= 0:
        parts.append(key >= place - left)
    if right >= 0:
        parts.append(key <= place + right)
    if column is not None:
        parts.append(key < column)
    seen = parts[0] if parts else None
    for part in parts[1:]:
        seen = p.and_(seen, part)
    return seen


def attention_meaning(p: Builder, q: Expr, k: Expr, v: Expr, mask: Expr | None, nonpad: Expr | None, *,
                      scale: float | None, softcap: float, causal: bool, past: DimLike, left: int, right: int,
                      precision: int | None, shows: int, blind_is_nan: bool = False) -> Any:
    """Attention on heads apart: q (B,H,S,D), k (B,G,T,D), v (B,G,T,E), where H/G heads of q share one of k and v.

    `past` is how many keys were there before the queries. `shows` below 0: only the result, else also the scores of
    that stage. A row that sees nothing gives zeros, or NaN where `blind_is_nan`, as a plain softmax does.
    """
    (batch, heads, queries, size), (_, groups, keys, _) = q.shape, k.shape
    if scale is None:
        root: Any = p.sqrt(p.reciprocal(p.sqrt(p.size(size, dtypes.FLOAT))))
        if isinstance(size, int):
            root = p.scalar(np.sqrt(1 / np.sqrt(size)), dtypes.DOUBLE if q.dtype is dtypes.DOUBLE else dtypes.FLOAT)
        root = p.cast(root, q.dtype)
    else:
        root = p.scalar(np.sqrt(scale), q.dtype)
    each = heads // groups
    rows = p.reshape(q * root, (batch, groups, each, queries, size))
    scores = p.reshape(p.contract(rows, k * root, [4], [3], [0, 1], [0, 1]), (batch, heads, queries, keys))
    capped = scores if softcap <= 0 else p.tanh(scores / softcap) * softcap
    seen = _seen(p, queries, keys, nonpad, past, causal, left, right)
    biased = capped
    blind: Expr | None = None
    if mask is not None:
        low = [0] * mask.rank
        high: list[DimLike] = [*low[1:], keys - mask.shape[-1]]
        if mask.dtype is dtypes.BOOL:
            mask = p.pad(mask, low, high, False)
            seen = mask if seen is None else p.and_(seen, mask)
        else:
            mask = p.pad(p.cast(mask, q.dtype), low, high, float("-inf"))
            biased = capped + mask
            if not blind_is_nan:
                open_ = mask > float("-inf")
                seen = open_ if seen is None else p.and_(seen, open_)
    if seen is not None:
        biased = p.select(seen, biased, float("-inf"))
    if seen is not None and not blind_is_nan:
        blind = p.not_(p.any(seen, [-1], keepdims=True))
    inside = dtypes.by_code(precision) if precision else q.dtype
    x = p.cast(biased, inside)
    top = p.amax(x, [-1], keepdims=True)
    e = p.exp(x - (top if blind is None else p.select(blind, 0.0, top)))
    total = p.sum(e, [-1], keepdims=True)
    weights = e / total if blind is None else p.select(blind, 0.0, e / p.select(blind, 1.0, total))
    weights = p.cast(weights, q.dtype)
    columns = p.reshape(weights, (batch, groups, each, queries, keys))
    columns, v = _same(p, columns, v)
    y = p.reshape(p.contract(columns, v, [4], [2], [0, 1], [0, 1]), (batch, heads, queries, v.shape[3]))
    y = p.cast(y, q.dtype)
    return y if shows < 0 else (y, (scores, capped, biased, weights)[shows])


def _same(p: Builder, a: Expr, b: Expr) -> tuple[Expr, Expr]:
    if a.dtype is b.dtype:
        return a, b
    both = dtypes.DOUBLE if dtypes.DOUBLE in (a.dtype, b.dtype) else dtypes.FLOAT
    return p.cast(a, both), p.cast(b, both)


@Attention.lower
def _(p: Builder, q: Expr, k: Expr, v: Expr, attn_mask: Expr | None = None, past_key: Expr | None = None,
      past_value: Expr | None = None, nonpad_kv_seqlen: Expr | None = None, *, is_causal: int, scale: float | None,
      q_num_heads: int | None, kv_num_heads: int | None, softmax_precision: int | None, softcap: float,
      qk_matmul_output_mode: int, left_window_size: int = -1, right_window_size: int = -1) -> tuple[Expr, ...]:
    side_by_side = q.rank == 3
    q, k, v = _apart_expr(p, q, q_num_heads), _apart_expr(p, k, kv_num_heads), _apart_expr(p, v, kv_num_heads)
    past: DimLike = 0
    if past_key is not None and past_value is not None:
        past = past_key.shape[2]
        k, v = p.concat([past_key, k], 2), p.concat([past_value, v], 2)
    found = p.composite("attention", attention_meaning, q, k, v, attn_mask, nonpad_kv_seqlen, scale=scale,
                        softcap=softcap, causal=bool(is_causal), past=past, left=left_window_size,
                        right=right_window_size, precision=softmax_precision,
                        shows=qk_matmul_output_mode if p.outputs > 3 else -1)
    y, *shown = found if isinstance(found, tuple) else (found,)
    if side_by_side:
        y = p.transpose(y, (0, 2, 1, 3))
        y = p.reshape(y, (y.shape[0], y.shape[1], y.shape[2] * y.shape[3]))
    return (y, k, v, *shown)[:p.outputs]


# Rotary embedding

def _rotated_shape(x: Any, num_heads: int | None) -> tuple[DimLike, ...]:
    """The shape of X with its heads apart, (batch, length, heads, size), whatever its rank.

    Raises:
        ModelError: it has another rank, or its heads do not divide it.
    """
    if len(x) == 4:
        return x[0], x[2], x[1], x[3]
    if len(x) != 3:
        raise ModelError(f"X has 3 or 4 axes, not {print_shape(tuple(x))}", rule="rotary-embedding")
    if not num_heads:
        raise ModelError(f"X {print_shape(tuple(x))} has its heads side by side, so num_heads must be written",
                         rule="rotary-embedding")
    if decide_eq(x[2] % num_heads, 0) is False:
        raise ModelError(f"{x[2]} features do not divide into {num_heads} heads", rule="rotary-embedding")
    return x[0], x[1], num_heads, x[2] // num_heads


@RotaryEmbedding.infer
def _(node: InferNode) -> None:
    x, positions = node.shape(0), node.shape(3)
    node.set(0, node.dtype(0), x, why="the shape of X is unknown")
    if x is None:
        return
    try:
        batch, length, _, size = _rotated_shape(x, node["num_heads"])
    except ModelError as e:
        node.fail(e.what, e.advice)
    turned = node["rotary_embedding_dim"] or size
    if positions is not None:
        if len(positions) != 2:
            node.fail(f"position_ids has 2 axes, not {print_shape(positions)}")
        node.unify(positions[0], batch, "the batch of X and of position_ids")
        node.unify(positions[1], length, "the length of X and of position_ids")
    for i, name in ((1, "cos_cache"), (2, "sin_cache")):
        cache = node.shape(i)
        if cache is None:
            continue
        rank = 2 if node.has(3) else 3
        if len(cache) != rank:
            how = "with" if rank == 2 else "without"
            node.fail(f"{name} has {rank} axes {how} position_ids, not {print_shape(cache)}")
        node.unify(cache[-1], turned // 2, f"the angles of {name} and half of what is turned")
        for j, of in enumerate((batch, length) if rank == 3 else ()):
            node.unify(cache[j], of, f"axis {j} of {name} and of X")


@RotaryEmbedding.reference
def rotary_embedding(x: Any, cos_cache: Any, sin_cache: Any, position_ids: Any = None, *, interleaved: int,
                     rotary_embedding_dim: int, num_heads: int | None) -> Any:
    shape = _rotated_shape(x.shape, num_heads)
    y = (x.swapaxes(1, 2) if x.ndim == 4 else x).reshape(shape).copy()
    turned = rotary_embedding_dim or shape[3]
    cos, sin = (c if position_ids is None else c[position_ids] for c in (cos_cache, sin_cache))
    cos, sin = (widen(c)[:, :, None] for c in (cos, sin))  # (batch, length, 1, turned / 2)
    pairs = (slice(0, turned, 2), slice(1, turned, 2)) if interleaved else (
        slice(0, turned // 2), slice(turned // 2, turned))
    a, b = (widen(y[..., part]).copy() for part in pairs)
    dtype = x.dtype

    def rounded(v: Any) -> Any:
        return widen(v.astype(dtype))

    y[..., pairs[0]] = (rounded(cos * a) - rounded(sin * b)).astype(dtype)
    y[..., pairs[1]] = (rounded(sin * a) + rounded(cos * b)).astype(dtype)
    return y.swapaxes(1, 2) if x.ndim == 4 else y.reshape(x.shape)


@RotaryEmbedding.lower
def _(p: Builder, x: Expr, cos_cache: Expr, sin_cache: Expr, position_ids: Expr | None = None, *, interleaved: int,
      rotary_embedding_dim: int, num_heads: int | None) -> Expr:
    shape = _rotated_shape(x.shape, num_heads)
    y = p.reshape(p.transpose(x, (0, 2, 1, 3)) if x.rank == 4 else x, shape)
    turned = rotary_embedding_dim or shape[3]
    cos, sin = (c if position_ids is None else p.gather(c, position_ids, 0) for c in (cos_cache, sin_cache))
    cos, sin = (p.expand_dims(c, [2]) for c in (cos, sin))
    half = turned // 2
    lead = shape[:3]
    kept = p.take(y, 3, turned, shape[3])
    y = p.take(y, 3, 0, turned)
    member = 4 if interleaved else 3  # the axis along which the two of a pair stand
    y = p.reshape(y, (*lead, half, 2) if interleaved else (*lead, 2, half))
    a, b = (p.squeeze(p.take(y, member, i, i + 1), [member]) for i in (0, 1))
    both = [p.expand_dims(e, [member]) for e in (cos * a - sin * b, sin * a + cos * b)]
    y = p.reshape(p.concat(both, member), (*lead, turned))
    y = p.concat([y, kept], 3)
    return p.transpose(y, (0, 2, 1, 3)) if x.rank == 4 else p.reshape(y, x.shape)
