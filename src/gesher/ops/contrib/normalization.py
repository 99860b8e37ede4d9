"""Layer normalizations of transformers: with the residual sum in front, without the mean, over embeddings.

"Simplified" is the root mean square alone, without a mean. SimplifiedLayerNormalization stands in ONNX's own domain
though ONNX never had it: ONNX Runtime's fusions write it there. Everything is computed in float32 (or double) and
rounded once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ops.arithmetic import widen, widened
from gesher.ops.axes import axis_of
from gesher.ops.broadcasting import broadcast_into
from gesher.ops.core.normalization import standardized, standardized_expr
from gesher.ops.quantized import real_expr, real_of
from gesher.ops.rules import InferNode
from gesher.ops.schema import BF16, FLOATS, Attr, Input, Output, op, tensors
from gesher.primitives import Builder, Expr

from .types import BYTES, FLOAT, HALVES, INT32, MS, REALS

_EPSILON = Attr("epsilon", "float", 1e-12)
_STATISTICS = (Output("mean", "U", optional=True), Output("inv_std_var", "U", optional=True),
               Output("input_skip_bias_sum", optional=True))

SkipLayerNormalization = op("SkipLayerNormalization", Input("input"), Input("skip"), Input("gamma"),
                            Input("beta", optional=True), Input("bias", optional=True), Output("output"),
                            *_STATISTICS, _EPSILON, domain=MS, T=REALS, U=FLOAT)

SkipSimplifiedLayerNormalization = op("SkipSimplifiedLayerNormalization", Input("input"), Input("skip"),
                                      Input("gamma"), Input("bias", optional=True), Output("output"), *_STATISTICS,
                                      _EPSILON, domain=MS, T=REALS, U=FLOAT)

SimplifiedLayerNormalization = op("SimplifiedLayerNormalization", Input("X"), Input("scale", "V"), Output("Y", "V"),
                                  Output("inv_std_var", "U", optional=True), Attr("axis", "int", -1),
                                  Attr("epsilon", "float", 1e-5), Attr("stash_type", "int", 1), T=FLOATS | BF16,
                                  U=tensors("float double"), V=FLOATS | BF16)

EmbedLayerNormalization = op("EmbedLayerNormalization", Input("input_ids", "T1"),
                             Input("segment_ids", "T1", optional=True), Input("word_embedding"),
                             Input("position_embedding"), Input("segment_embedding", optional=True), Input("gamma"),
                             Input("beta"), Input("mask", "T1", optional=True),
                             Input("position_ids", "T1", optional=True), Output("output"),
                             Output("mask_index", "T1", optional=True), Output("embedding_sum", optional=True),
                             Attr("mask_index_type", "int"), _EPSILON, domain=MS, T1=INT32, T=HALVES)

QEmbedLayerNormalization = op("QEmbedLayerNormalization", Input("input_ids", "T1"),
                              Input("segment_ids", "T1", optional=True), Input("word_embedding_quant", "T2"),
                              Input("position_embedding_quant", "T2"), Input("segment_embedding", "T2", optional=True),
                              Input("gamma_quant", "T2"), Input("beta_quant", "T2"),
                              Input("mask", "T1", optional=True), Input("word_embedding_scale"),
                              Input("position_embedding_scale"), Input("segment_embedding_scale", optional=True),
                              Input("gamma_scale"), Input("beta_scale"), Input("word_embedding_zero_point", "T2"),
                              Input("position_embedding_zero_point", "T2"),
                              Input("segment_embedding_zero_point", "T2", optional=True),
                              Input("gamma_zero_point", "T2"), Input("beta_zero_point", "T2"), Output("layernorm_out"),
                              Output("mask_index_out", "T1"), _EPSILON, domain=MS, T1=INT32, T2=BYTES, T=FLOAT)


def _normalized(x: Any, gamma: Any, beta: Any, epsilon: float, simplified: bool, axis: int = -1
                ) -> tuple[Any, Any, Any]:
    """x over the axes from `axis` on, the mean, and 1 / the deviation, all wide."""
    axes = tuple(range(axis_of(axis, x.ndim), x.ndim))
    if simplified:
        mean = np.zeros((), x.dtype)
        inverse = 1 / np.sqrt((x * x).mean(axes, keepdims=True) + x.dtype.type(epsilon))
        y = x * inverse
    else:
        y, mean, inverse = standardized(x, axes, epsilon, dtypes.from_numpy(x.dtype))
    y = y * widen(gamma)
    return y if beta is None else y + widen(beta), mean, inverse


def _normalized_expr(p: Builder, x: Expr, gamma: Expr, beta: Expr | None, epsilon: float, simplified: bool,
                     axis: int = -1) -> tuple[Expr, Expr | None, Expr]:
    axes = list(range(axis_of(axis, x.rank), x.rank))
    mean: Expr | None = None
    if simplified:
        inverse = p.reciprocal(p.sqrt(p.mean(x * x, axes, keepdims=True) + float(epsilon)))
        y = x * inverse
    else:
        y, mean, inverse = standardized_expr(p, x, axes, epsilon, x.dtype)
    y = y * widened(p, gamma)
    return y if beta is None else y + widened(p, beta), mean, inverse


# With a residual sum; `skip` may lack the batch axis, or have one of 1

def _infer_skip(node: InferNode) -> None:
    x = node.shape(0)
    if x is not None and len(x) not in (2, 3):
        node.fail(f"the input has 2 or 3 axes, not {len(x)}")
    broadcast_into(node, x, node.shape(1), "skip")
    for i in range(2, len(node.node.inputs)):
        shape = node.shape(i) if node.has(i) else None
        if shape is not None and x is not None:
            if len(shape) != 1:
                node.fail(f"input {i} is a list, it has {len(shape)} axes")
            node.unify(x[-1], shape[0], f"the features of the input and of input {i}")
    statistics = None if x is None else (*x[:-1], 1)
    node.set(0, node.dtype(0), x)
    node.set(1, dtypes.FLOAT, statistics)
    node.set(2, dtypes.FLOAT, statistics)
    node.set(3, node.dtype(0), x)


SkipLayerNormalization.infer(_infer_skip)
SkipSimplifiedLayerNormalization.infer(_infer_skip)


def _skip(x: Any, skip: Any, gamma: Any, beta: Any, bias: Any, epsilon: float, simplified: bool) -> Any:
    dtype = x.dtype
    total = widen(x) + widen(skip)
    if bias is not None:
        total = total + widen(bias)
    y, mean, inverse = _normalized(total, gamma, beta, epsilon, simplified)
    mean = np.broadcast_to(mean, inverse.shape)
    return y.astype(dtype), mean.astype(np.float32), inverse.astype(np.float32), total.astype(dtype)


@SkipLayerNormalization.reference
def skip_layer_normalization(x: Any, skip: Any, gamma: Any, beta: Any = None, bias: Any = None, *,
                             epsilon: float) -> Any:
    return _skip(x, skip, gamma, beta, bias, epsilon, False)


@SkipSimplifiedLayerNormalization.reference
def skip_simplified_layer_normalization(x: Any, skip: Any, gamma: Any, bias: Any = None, *, epsilon: float) -> Any:
    return _skip(x, skip, gamma, None, bias, epsilon, True)


def _skip_expr(p: Builder, x: Expr, skip: Expr, gamma: Expr, beta: Expr | None, bias: Expr | None, epsilon: float,
               simplified: bool) -> tuple[Expr, ...]:
    total = widened(p, x) + widened(p, skip)
    if bias is not None:
        total = total + widened(p, bias)
    y, mean, inverse = _normalized_expr(p, total, gamma, beta, epsilon, simplified)
    mean = p.full(inverse.shape, 0.0, inverse.dtype) if mean is None else mean
    return (p.cast(y, x.dtype), p.cast(mean, dtypes.FLOAT), p.cast(inverse, dtypes.FLOAT),
            p.cast(total, x.dtype))[:p.outputs]


@SkipLayerNormalization.lower
def _(p: Builder, x: Expr, skip: Expr, gamma: Expr, beta: Expr | None = None, bias: Expr | None = None, *,
      epsilon: float) -> tuple[Expr, ...]:
    return _skip_expr(p, x, skip, gamma, beta, bias, epsilon, False)


@SkipSimplifiedLayerNormalization.lower
def _(p: Builder, x: Expr, skip: Expr, gamma: Expr, bias: Expr | None = None, *, epsilon: float) -> tuple[Expr, ...]:
    return _skip_expr(p, x, skip, gamma, None, bias, epsilon, True)


# SimplifiedLayerNormalization

@SimplifiedLayerNormalization.infer
def _(node: InferNode) -> None:
    x = node.shape(0)
    broadcast_into(node, x, node.shape(1), "the scale")
    node.set(0, node.dtype(1), x)
    at = None if x is None else axis_of(node["axis"], len(x), node)
    node.set(1, dtypes.FLOAT, None if x is None or at is None else (*x[:at], *(1,) * (len(x) - at)))


@SimplifiedLayerNormalization.reference
def simplified_layer_normalization(x: Any, scale: Any, *, axis: int, epsilon: float, stash_type: int) -> Any:
    y, _, inverse = _normalized(widen(x), scale, None, epsilon, True, axis)
    return y.astype(scale.dtype), inverse.astype(np.float32)


@SimplifiedLayerNormalization.lower
def _(p: Builder, x: Expr, scale: Expr, *, axis: int, epsilon: float, stash_type: int) -> tuple[Expr, ...]:
    y, _, inverse = _normalized_expr(p, widened(p, x), scale, None, epsilon, True, axis)
    return (p.cast(y, scale.dtype), p.cast(inverse, dtypes.FLOAT))[:p.outputs]


# Embeddings: words, positions and segments summed, then normalized; `mask_index` counts the ones of each row's mask

def _infer_embed(node: InferNode, gamma_at: int) -> None:
    ids, gamma = node.shape(0), node.shape(gamma_at)
    if ids is not None and len(ids) != 2:
        node.fail(f"input_ids is (batch, length), it has {len(ids)} axes")
    batch, length = (None, None) if ids is None else ids
    hidden = None
    for i, name in ((2, "word_embedding"), (3, "position_embedding"), (4, "segment_embedding")):
        table = node.shape(i) if node.has(i) else None
        if table is not None:
            if len(table) != 2:
                node.fail(f"{name} is a matrix, it has {len(table)} axes")
            hidden = node.unify(hidden, table[1], f"the features of {name} and of the other embeddings")
    if gamma is not None:
        hidden = node.unify(hidden, gamma[0], "the features of gamma and of the embeddings")
    why = "the shape of input_ids or of the embeddings is unknown"
    dtype = dtypes.FLOAT if gamma_at == 5 and node.operator is QEmbedLayerNormalization else node.dtype(2)
    node.set(0, dtype, (batch, length, hidden), why=why)
    node.set(1, dtypes.INT32, (batch,), why=why)
    node.set(2, dtype, (batch, length, hidden), why=why)


EmbedLayerNormalization.infer(lambda node: _infer_embed(node, 5))
QEmbedLayerNormalization.infer(lambda node: _infer_embed(node, 5))


def _counted(mask: Any, batch: int) -> Any:
    return np.zeros(batch, np.int32) if mask is None else (mask == 1).sum(1).astype(np.int32)


@EmbedLayerNormalization.reference
def embed_layer_normalization(ids: Any, segments: Any, words: Any, places: Any, kinds: Any, gamma: Any, beta: Any,
                              mask: Any = None, position_ids: Any = None, *, epsilon: float,
                              mask_index_type: int | None = None) -> Any:
    at = np.arange(ids.shape[1])[None] if position_ids is None else position_ids
    total = widen(words[ids]) + widen(places[at])
    if segments is not None and kinds is not None:
        total = total + widen(kinds[segments])
    y, _, _ = _normalized(total, gamma, beta, epsilon, False)
    return y.astype(words.dtype), _counted(mask, len(ids)), total.astype(words.dtype)


def _embed_expr(p: Builder, ids: Expr, segments: Expr | None, words: Expr, places: Expr, kinds: Expr | None,
                gamma: Expr, beta: Expr, mask: Expr | None, position_ids: Expr | None, epsilon: float
                ) -> tuple[Expr, ...]:
    at = p.take(places, 0, 0, ids.shape[1]) if position_ids is None else p.gather(places, position_ids, 0)
    total = widened(p, p.gather(words, ids, 0)) + widened(p, at)
    if segments is not None and kinds is not None:
        total = total + widened(p, p.gather(kinds, segments, 0))
    y, _, _ = _normalized_expr(p, total, gamma, beta, epsilon, False)
    ones = p.full((ids.shape[0],), 0, dtypes.INT32) if mask is None else \
        p.sum(p.cast(p.eq(mask, 1), dtypes.INT32), [1])
    return p.cast(y, words.dtype), ones, p.cast(total, words.dtype)


@EmbedLayerNormalization.lower
def _(p: Builder, ids: Expr, segments: Expr | None, words: Expr, places: Expr, kinds: Expr | None, gamma: Expr,
      beta: Expr, mask: Expr | None = None, position_ids: Expr | None = None, *, epsilon: float,
      mask_index_type: int | None = None) -> tuple[Expr, ...]:
    return _embed_expr(p, ids, segments, words, places, kinds, gamma, beta, mask, position_ids, epsilon)[:p.outputs]


@QEmbedLayerNormalization.reference
def qembed_layer_normalization(ids: Any, segments: Any, words: Any, places: Any, kinds: Any, gamma: Any, beta: Any,
                               mask: Any, word_scale: Any, place_scale: Any, kind_scale: Any, gamma_scale: Any,
                               beta_scale: Any, word_zero: Any, place_zero: Any, kind_zero: Any, gamma_zero: Any,
                               beta_zero: Any, *, epsilon: float) -> Any:
    real_kinds = None if kinds is None else real_of(kinds, kind_scale, kind_zero)
    return embed_layer_normalization(ids, segments, real_of(words, word_scale, word_zero),
                                     real_of(places, place_scale, place_zero), real_kinds,
                                     real_of(gamma, gamma_scale, gamma_zero), real_of(beta, beta_scale, beta_zero),
                                     mask, epsilon=epsilon)[:2]


@QEmbedLayerNormalization.lower
def _(p: Builder, ids: Expr, segments: Expr | None, words: Expr, places: Expr, kinds: Expr | None, gamma: Expr,
      beta: Expr, mask: Expr | None, word_scale: Expr, place_scale: Expr, kind_scale: Expr | None, gamma_scale: Expr,
      beta_scale: Expr, word_zero: Expr, place_zero: Expr, kind_zero: Expr | None, gamma_zero: Expr, beta_zero: Expr,
      *, epsilon: float) -> tuple[Expr, ...]:
    real_kinds = None if kinds is None or kind_scale is None else real_expr(p, kinds, kind_scale, kind_zero)
    return _embed_expr(p, ids, segments, real_expr(p, words, word_scale, word_zero),
                       real_expr(p, places, place_scale, place_zero), real_kinds,
                       real_expr(p, gamma, gamma_scale, gamma_zero), real_expr(p, beta, beta_scale, beta_zero), mask,
                       None, epsilon)[:2]
