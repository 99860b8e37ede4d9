"""Attention, MultiHeadAttention and QAttention of com.microsoft: whole blocks of a transformer as one operator.

Attention makes queries, keys and values from one input by one matrix, whose columns are theirs side by side (QAttention
from quantised ones); MultiHeadAttention is given them, each perhaps without its bias. What a reader would guess wrong:

- `past` of Attention holds keys and values in one tensor (2, batch, heads, length, size), and so does `present`.
- Keys and values of MultiHeadAttention may have their heads apart already; then they get no bias.
- The fourth output of MultiHeadAttention is the scores before the softmax, masks and biases included.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.ir import DimLike
from gesher.ir.types import print_shape
from gesher.ops.arithmetic import widen, widened
from gesher.ops.broadcasting import broadcast_into
from gesher.ops.rules import InferNode
from gesher.ops.schema import REQUIRED, Attr, Input, Output, op
from gesher.primitives import Builder, CannotLower, Expr

from .attending import (
    apart,
    apart_expr,
    attend,
    attend_expr,
    check_mask,
    mask_expr,
    mask_of,
    sum_expr,
    together,
    together_expr,
)
from .quantized_products import matmul_integer_to_float, scaled_product_expr
from .types import BYTES, HALVES, INT32, MS, REALS

_HEADS = Attr("num_heads", "int", REQUIRED)
_SCALES = (Attr("scale", "float"), Attr("mask_filter_value", "float"))
_UNIDIRECTIONAL = Attr("unidirectional", "int", 0)
_BUFFER = (Attr("past_present_share_buffer", "int"), Attr("do_rotary", "int"))

Attention = op("Attention", Input("input"), Input("weights"), Input("bias", optional=True),
               Input("mask_index", "M", optional=True), Input("past", optional=True),
               Input("attention_bias", optional=True), Input("past_sequence_length", "M", optional=True),
               Output("output"), Output("present", optional=True), _HEADS, _UNIDIRECTIONAL, *_SCALES, *_BUFFER,
               Attr("qkv_hidden_sizes", "ints"), Attr("rotary_embedding_dim", "int"), domain=MS, T=REALS, M=INT32)

QAttention = op("QAttention", Input("input", "T1"), Input("weight", "T2"), Input("bias", "T3"),
                Input("input_scale", "T3"), Input("weight_scale", "T3"), Input("mask_index", "T4", optional=True),
                Input("input_zero_point", "T1", optional=True), Input("weight_zero_point", "T2", optional=True),
                Input("past", "T3", optional=True), Output("output", "T3"), Output("present", "T3", optional=True),
                _HEADS, _UNIDIRECTIONAL, *_SCALES, *_BUFFER, domain=MS, T1=BYTES, T2=BYTES, T3=HALVES, T4=INT32)

MultiHeadAttention = op("MultiHeadAttention", Input("query"), Input("key", optional=True),
                        Input("value", optional=True), Input("bias", optional=True),
                        Input("key_padding_mask", "M", optional=True), Input("attention_bias", optional=True),
                        Input("past_key", optional=True), Input("past_value", optional=True),
                        Input("past_sequence_length", "M", optional=True),
                        Input("cache_indirection", "M", optional=True), Output("output"),
                        Output("present_key", optional=True), Output("present_value", optional=True),
                        Output("qk", "QK", optional=True), _HEADS, _UNIDIRECTIONAL, *_SCALES, domain=MS, T=REALS,
                        QK=REALS, M=INT32)


# Attention and QAttention

def _infer_block(node: InferNode, dtype: dtypes.DType, mask_at: int, past_at: int) -> None:
    x, w, bias = node.shape(0), node.shape(1), node.shape(2)
    heads = node["num_heads"]
    if heads < 1:
        node.fail(f"num_heads is {heads}")
    if x is not None and len(x) != 3:
        node.fail(f"the input is (batch, length, features), not {print_shape(x)}")
    if x is not None and w is not None:
        node.unify(x[2], w[0], "the features of the input and the rows of the weights")
    if w is not None and bias is not None:
        node.unify(w[1], bias[0], "the columns of the weights and the bias")
    batch, length = (None, None) if x is None else x[:2]
    sizes = node["qkv_hidden_sizes"] if "qkv_hidden_sizes" in node.schema.attributes else None
    if sizes and (len(sizes) != 3 or any(s % heads for s in sizes)):
        node.fail(f"qkv_hidden_sizes {list(sizes)} are not three that divide into {heads} heads")
    out: DimLike | None = sizes[2] if sizes else None if w is None else w[1] // 3
    past = node.shape(past_at) if node.has(past_at) else None
    total = length
    if past is not None:
        if len(past) != 5:
            node.fail(f"past is (2, batch, heads, length, size), not {print_shape(past)}")
        total = None if length is None else length + past[3]
        node.unify(past[1], batch, "the batches of past and of the input")
    elif node.has(past_at):
        total = None
    check_mask(node, mask_at, batch, length, total)
    why = "the shape of the input, of the weights or of past is unknown"
    node.set(0, dtype, (batch, length, out), why=why)
    node.set(1, dtype, (2, batch, heads, total, None if out is None else out // heads), why=why)


Attention.infer(lambda node: _infer_block(node, node.dtype(0), 3, 4))
QAttention.infer(lambda node: _infer_block(node, node.dtype(4), 5, 8))


def _refuse(name: str, **features: Any) -> None:
    """Raise UnsupportedError for what no CPU of ONNX Runtime does and no text explains."""
    for feature, value in features.items():
        if value is not None and not (isinstance(value, int) and value == 0):
            raise UnsupportedError(f"{name} with {feature.replace('_', ' ')}", who="reference",
                                   advice="ONNX Runtime has it for GPUs only")


def _block(made: Any, heads: int, sizes: Any, mask: Any, past: Any, bias: Any, causal: bool, scale: float | None,
           fill: float | None) -> tuple[Any, Any]:
    """Attention on queries, keys and values side by side: (batch, length, their features)."""
    batch, length = made.shape[:2]
    cuts = np.cumsum(sizes)[:2] if sizes else 3
    q, k, v = (apart(x, heads) for x in np.split(made, cuts, 2))
    if past is not None:
        k, v = np.concatenate([widen(past[0]), k], 2), np.concatenate([widen(past[1]), v], 2)
    keys = k.shape[2]
    added = mask_of(mask, batch, length, keys, keys - length, causal, fill)
    if bias is not None:
        added = added + widen(bias)
    y, _ = attend(q, k, v, added, scale)
    # Where values are narrower than keys, there is no one tensor for both.
    present = np.stack([k, v]) if k.shape == v.shape else np.zeros((2, 0), np.float32)
    return together(y), present


@Attention.reference
def attention(x: Any, weights: Any, bias: Any = None, mask_index: Any = None, past: Any = None,
              attention_bias: Any = None, past_sequence_length: Any = None, *, num_heads: int, unidirectional: int,
              scale: float | None, mask_filter_value: float | None, past_present_share_buffer: int | None,
              do_rotary: int | None, qkv_hidden_sizes: Any, rotary_embedding_dim: int | None) -> Any:
    _refuse("Attention", do_rotary=do_rotary, past_present_share_buffer=past_present_share_buffer)
    made = widen(x) @ widen(weights)
    made = made if bias is None else made + widen(bias)
    y, present = _block(made, num_heads, qkv_hidden_sizes, mask_index, past, attention_bias, bool(unidirectional),
                        scale, mask_filter_value)
    return y.astype(x.dtype), present.astype(x.dtype)


@QAttention.reference
def qattention(x: Any, weight: Any, bias: Any, input_scale: Any, weight_scale: Any, mask_index: Any = None,
               input_zero_point: Any = None, weight_zero_point: Any = None, past: Any = None, *, num_heads: int,
               unidirectional: int, scale: float | None, mask_filter_value: float | None,
               past_present_share_buffer: int | None, do_rotary: int | None) -> Any:
    _refuse("QAttention", do_rotary=do_rotary, past_present_share_buffer=past_present_share_buffer)
    made = matmul_integer_to_float(x, weight, input_scale, weight_scale, input_zero_point, weight_zero_point, bias)
    y, present = _block(widen(made), num_heads, None, mask_index, past, None, bool(unidirectional), scale,
                        mask_filter_value)
    return y.astype(bias.dtype), present.astype(bias.dtype)


def _block_expr(p: Builder, made: Expr, heads: int, sizes: Any, mask: Expr | None, past: Expr | None,
                bias: Expr | None, causal: bool, scale: float | None, fill: float | None) -> tuple[Expr, ...]:
    batch, length, width = made.shape
    parts = list(sizes) if sizes else [width // 3] * 3
    q, k, v = (apart_expr(p, e, heads) for e in p.split(made, parts, 2))
    before: DimLike = 0
    if past is not None:
        before = past.shape[3]
        old_k, old_v = (widened(p, p.squeeze(p.take(past, 0, i, i + 1), [0])) for i in (0, 1))
        k, v = p.concat([old_k, k], 2), p.concat([old_v, v], 2)
    added = sum_expr(mask_expr(p, mask, batch, length, k.shape[2], before, fill),
                     None if bias is None else widened(p, bias))
    y = together_expr(p, attend_expr(p, q, k, v, added, scale, causal=causal, past=before))
    if p.outputs < 2:
        return (y,)
    return y, p.concat([p.expand_dims(k, [0]), p.expand_dims(v, [0])], 0)


@Attention.lower
def _(p: Builder, x: Expr, weights: Expr, bias: Expr | None = None, mask_index: Expr | None = None,
      past: Expr | None = None, attention_bias: Expr | None = None, past_sequence_length: Expr | None = None, *,
      num_heads: int, unidirectional: int, scale: float | None, mask_filter_value: float | None,
      past_present_share_buffer: int | None, do_rotary: int | None, qkv_hidden_sizes: Any,
      rotary_embedding_dim: int | None) -> tuple[Expr, ...]:
    if do_rotary or past_present_share_buffer:
        raise CannotLower("rotary embedding or a shared buffer within Attention")
    made = p.matmul(widened(p, x), widened(p, weights))
    made = made if bias is None else made + widened(p, bias)
    return tuple(p.cast(e, x.dtype) for e in _block_expr(
        p, made, num_heads, qkv_hidden_sizes, mask_index, past, attention_bias, bool(unidirectional), scale,
        mask_filter_value))


@QAttention.lower
def _(p: Builder, x: Expr, weight: Expr, bias: Expr, input_scale: Expr, weight_scale: Expr,
      mask_index: Expr | None = None, input_zero_point: Expr | None = None, weight_zero_point: Expr | None = None,
      past: Expr | None = None, *, num_heads: int, unidirectional: int, scale: float | None,
      mask_filter_value: float | None, past_present_share_buffer: int | None, do_rotary: int | None
      ) -> tuple[Expr, ...]:
    if do_rotary or past_present_share_buffer:
        raise CannotLower("rotary embedding or a shared buffer within QAttention")
    made = scaled_product_expr(p, x, input_scale, input_zero_point, weight, weight_scale, weight_zero_point, bias)
    return tuple(p.cast(e, bias.dtype) for e in _block_expr(
        p, widened(p, made), num_heads, None, mask_index, past, None, bool(unidirectional), scale, mask_filter_value))


# MultiHeadAttention

def _infer_heads(node: InferNode) -> None:
    q, k, v = node.shape(0), node.shape(1), node.shape(2)
    heads = node["num_heads"]
    why = "the shape of the query, the key or the value is unknown"
    packed = q is not None and len(q) == 5
    if q is not None and len(q) == 3 and not node.has(1) and not node.has(6):
        node.fail("a query that is not packed needs a key and a value")
    if q is None or (node.has(1) and k is None) or (node.has(2) and v is None):
        for i, rank in ((0, 3), (1, 4), (2, 4), (3, 4)):
            node.set(i, node.dtype(0), (None,) * rank, why=why)
        return
    batch, length = q[:2]
    if packed:
        size = value_size = q[4]
        new: DimLike = length
    else:
        size = q[2] // heads
        if k is None:
            new, value_size = 0, size
        elif len(k) == 5:
            new, value_size = k[1], k[4]
        else:
            new = k[1] if len(k) == 3 else k[2]
            assert v is not None
            value_size = v[2] // heads if len(v) == 3 else v[3]
            node.unify(batch, k[0], "the batches of query and key")
            node.unify(new, v[1] if len(v) == 3 else v[2], "the lengths of key and value")
    past = node.shape(6) if node.has(6) else None
    total = new if past is None else new + past[2]
    check_mask(node, 4, batch, length, total)
    if node.has(5):
        broadcast_into(node, (batch, heads, length, total), node.shape(5), "attention_bias")
    node.set(0, node.dtype(0), (batch, length, value_size * heads))
    node.set(1, node.dtype(0), (batch, heads, total, size))
    node.set(2, node.dtype(0), (batch, heads, total, value_size))
    node.set(3, node.dtype(0), (batch, heads, length, total))


MultiHeadAttention.infer(_infer_heads)


def _parts(query: Any, key: Any, value: Any, bias: Any, heads: int) -> tuple[Any, Any, Any]:
    """Queries, keys and values with their heads apart and their biases added; keys may be None."""
    if query.ndim == 5:
        return tuple(widen(query[:, :, :, i]).transpose(0, 2, 1, 3) for i in range(3))
    width = query.shape[2]
    biases = (0.0, 0.0, 0.0)
    if bias is not None:
        biases = tuple(np.split(widen(bias), [width, 2 * width]))  # type: ignore[assignment]
    q = apart(widen(query) + biases[0], heads)
    if key is None:
        return q, None, None
    if key.ndim == 5:
        return q, *(widen(key[:, :, :, i]).transpose(0, 2, 1, 3) for i in range(2))
    if key.ndim == 4:
        return q, widen(key), widen(value)
    return q, apart(widen(key) + biases[1], heads), apart(widen(value) + biases[2], heads)


@MultiHeadAttention.reference
def multi_head_attention(query: Any, key: Any = None, value: Any = None, bias: Any = None,
                         key_padding_mask: Any = None, attention_bias: Any = None, past_key: Any = None,
                         past_value: Any = None, past_sequence_length: Any = None, cache_indirection: Any = None, *,
                         num_heads: int, unidirectional: int, scale: float | None,
                         mask_filter_value: float | None) -> Any:
    _refuse("MultiHeadAttention", a_length_of_the_past=past_sequence_length, a_cache_of_beams=cache_indirection)
    q, k, v = _parts(query, key, value, bias, num_heads)
    before = 0
    if past_key is not None:
        before = past_key.shape[2]
        k = widen(past_key) if k is None else np.concatenate([widen(past_key), k], 2)
        v = widen(past_value) if v is None else np.concatenate([widen(past_value), v], 2)
    batch, length, keys = q.shape[0], q.shape[2], k.shape[2]
    added = mask_of(key_padding_mask, batch, length, keys, before, bool(unidirectional), mask_filter_value)
    if attention_bias is not None:
        added = added + widen(attention_bias)
    y, scores = attend(q, k, v, added, scale)
    return tuple(e.astype(query.dtype) for e in (together(y), k, v, scores))


def _parts_expr(p: Builder, query: Expr, key: Expr | None, value: Expr | None, bias: Expr | None, heads: int
                ) -> tuple[Expr, Expr | None, Expr | None]:
    def member(x: Expr, i: int) -> Expr:
        return p.transpose(p.squeeze(p.take(widened(p, x), 3, i, i + 1), [3]), (0, 2, 1, 3))

    if query.rank == 5:
        return member(query, 0), member(query, 1), member(query, 2)
    q, k, v = widened(p, query), key, value
    parts: list[Expr] | None = None
    if bias is not None:
        width = query.shape[2]
        parts = p.split(widened(p, bias), [width, width, bias.shape[0] - width * 2], 0)
        q = q + parts[0]
    q = apart_expr(p, q, heads)
    if k is None:
        return q, None, None
    if k.rank == 5:
        return q, member(k, 0), member(k, 1)
    assert v is not None
    k, v = widened(p, k), widened(p, v)
    if k.rank == 4:
        return q, k, v
    if parts is not None:
        k, v = k + parts[1], v + parts[2]
    return q, apart_expr(p, k, heads), apart_expr(p, v, heads)


@MultiHeadAttention.lower
def _(p: Builder, query: Expr, key: Expr | None = None, value: Expr | None = None, bias: Expr | None = None,
      key_padding_mask: Expr | None = None, attention_bias: Expr | None = None, past_key: Expr | None = None,
      past_value: Expr | None = None, past_sequence_length: Expr | None = None, cache_indirection: Expr | None = None,
      *, num_heads: int, unidirectional: int, scale: float | None, mask_filter_value: float | None
      ) -> tuple[Expr, ...]:
    if past_sequence_length is not None or cache_indirection is not None:
        raise CannotLower("a shared buffer or beams within MultiHeadAttention")
    q, k, v = _parts_expr(p, query, key, value, bias, num_heads)
    before: DimLike = 0
    if past_key is not None and past_value is not None:
        before = past_key.shape[2]
        old_k, old_v = widened(p, past_key), widened(p, past_value)
        k = old_k if k is None else p.concat([old_k, k], 2)
        v = old_v if v is None else p.concat([old_v, v], 2)
    assert k is not None and v is not None
    batch, length, keys = q.shape[0], q.shape[2], k.shape[2]
    added = sum_expr(mask_expr(p, key_padding_mask, batch, length, keys, before, mask_filter_value),
                     None if attention_bias is None else widened(p, attention_bias))
    shows = 2 if p.outputs > 3 else -1
    if shows >= 0 and unidirectional:
        raise CannotLower("the scores of a causal MultiHeadAttention, whose hidden ones are no infinities")
    found = attend_expr(p, q, k, v, added, scale, causal=bool(unidirectional), past=before, shows=shows)
    y, *scores = found if isinstance(found, tuple) else (found,)
    return tuple(p.cast(e, query.dtype) for e in (together_expr(p, y), k, v, *scores))[:p.outputs]
