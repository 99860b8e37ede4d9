"""MoE and QMoE: a router sends every row to k of many experts, each two layers with an activation between.

The router gives scores; their softmax over *all* experts weighs the k highest, or over those k alone where
`normalize_routing_weights` says so. Weights are (experts, outputs, inputs). In SwiGLU, gates and values stand in turn
(swiglu_fusion 1): gate * sigmoid(alpha * gate) * (value + beta), both clipped before by `swiglu_limit`.

What a reader would guess wrong: QMoE weighs among the k chosen in any case, whatever `normalize_routing_weights` says,
unless `router_weights` are given; so ONNX Runtime's CPU build has it.

Only what ONNX Runtime's CPU build runs is here, since no text tells the rest apart: no third layer, no other fusion, no
sparse mixer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError, UnsupportedError
from gesher.ir.types import print_shape
from gesher.ops.arithmetic import widen, widened
from gesher.ops.rules import InferNode
from gesher.ops.schema import E8M0, Attr, Input, Output, op, tensors
from gesher.primitives import Builder, CannotLower, Expr
from gesher.symbolic import product

from .blockwise import check_bits, unpack, unpack_expr
from .types import FLOAT, MS, REALS

_ROUTING = (Attr("k", "int", 1), Attr("normalize_routing_weights", "int", 0), Attr("use_sparse_mixer", "int", 0))
_ACTIVATION = (Attr("activation_type", "string", "relu"), Attr("activation_alpha", "float", 1.0),
               Attr("activation_beta", "float", 0.0), Attr("swiglu_fusion", "int", 0), Attr("swiglu_limit", "float"),
               Attr("swiglu_limit_after_activation", "int", 0))

MoE = op("MoE", Input("input"), Input("router_probs"), Input("fc1_experts_weights"),
         Input("fc1_experts_bias", optional=True), Input("fc2_experts_weights"),
         Input("fc2_experts_bias", optional=True), Input("fc3_experts_weights", optional=True),
         Input("fc3_experts_bias", optional=True), Output("output"), *_ROUTING, *_ACTIVATION, domain=MS, T=REALS)

_E4M3 = tensors("float8e4m3fn")
QMoE = op("QMoE", Input("input"), Input("router_probs"), Input("fc1_experts_weights", "T1"),
          Input("fc1_scales", "T2", optional=True), Input("fc1_experts_bias", optional=True),
          Input("fc2_experts_weights", "T1"), Input("fc2_scales", "T2", optional=True),
          Input("fc2_experts_bias", optional=True), Input("fc3_experts_weights", "T1", optional=True),
          Input("fc3_scales", "T2", optional=True), Input("fc3_experts_bias", optional=True),
          Input("fc1_zero_points", "T1", optional=True), Input("fc2_zero_points", "T1", optional=True),
          Input("fc3_zero_points", "T1", optional=True), Input("router_weights", optional=True),
          Input("fc1_global_scale", "T4", optional=True), Input("fc2_global_scale", "T4", optional=True),
          Input("fc1_act_scale", "T4", optional=True), Input("fc2_act_scale", "T4", optional=True),
          Input("fc1_act_block_scale", "T2", optional=True), Input("fc2_act_block_scale", "T2", optional=True),
          Output("output"), *_ROUTING, *_ACTIVATION, Attr("expert_weight_bits", "int", 4),
          Attr("fc1_expert_weight_bits", "int"), Attr("fc2_expert_weight_bits", "int"),
          Attr("fc3_expert_weight_bits", "int"), Attr("block_size", "int"), Attr("quant_type", "string", "int"),
          Attr("accuracy_level", "int", 0), Attr("weights_prepacked", "int", -1), domain=MS, T=REALS,
          T1=tensors("uint8") | _E4M3, T2=REALS | E8M0 | _E4M3, T4=FLOAT)

Act = Callable[[Any], Any]


@MoE.infer
@QMoE.infer
def _(node: InferNode) -> None:
    x, scores = node.shape(0), node.shape(1)
    if x is not None and len(x) not in (2, 3):
        node.fail(f"the input is (rows, features) or (batch, length, features), not {print_shape(x)}")
    if scores is not None and len(scores) != 2:
        node.fail(f"the scores are (rows, experts), not {print_shape(scores)}")
    weights = node.shape(2)
    if scores is not None and weights is not None:
        node.unify(scores[1], weights[0], "the experts of the router and of the weights")
    if x is not None and scores is not None:
        node.unify(product(x[:-1]), scores[0], "the rows of the input and of the router")
    node.set(0, node.dtype(0), x)


def _check(name: str, attributes: dict[str, Any], third: Any) -> None:
    """Refuse what only other engines run.

    Raises:
        UnsupportedError: with the reason.
    """
    kind = attributes["activation_type"]
    if kind not in ("relu", "gelu", "silu", "identity", "swiglu"):
        raise ModelError(f"{name}: the activation cannot be '{kind}'", rule="activation",
                         advice="it is relu, gelu, silu, identity or swiglu")
    reason = "a third layer" if third is not None else "a sparse mixer" if attributes["use_sparse_mixer"] else \
        "SwiGLU whose gates and values do not stand in turn" if kind == "swiglu" and attributes["swiglu_fusion"] != 1 \
        else "a limit after the activation" if attributes["swiglu_limit_after_activation"] else ""
    if reason:
        raise UnsupportedError(f"{name} with {reason}", who="reference", advice="ONNX Runtime has it for GPUs only")


def _activation(attributes: dict[str, Any]) -> Act:
    kind, limit = attributes["activation_type"], attributes["swiglu_limit"]
    alpha, beta = np.float32(attributes["activation_alpha"]), np.float32(attributes["activation_beta"])

    def sigmoid(x: Any) -> Any:
        return 1 / (1 + np.exp(-x))

    def swiglu(x: Any) -> Any:
        gate, value = x[..., 0::2], x[..., 1::2]
        if limit is not None:
            gate, value = np.minimum(gate, np.float32(limit)), np.clip(value, -np.float32(limit), np.float32(limit))
        return gate * sigmoid(alpha * gate) * (value + beta)

    acts: dict[str, Act] = {
        "relu": lambda x: np.maximum(x, 0), "identity": lambda x: x, "silu": lambda x: x * sigmoid(x),
        "gelu": lambda x: 0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x ** 3))), "swiglu": swiglu}
    return acts[kind]


def _routed(scores: Any, k: int, normalize: int, given: Any) -> tuple[Any, Any]:
    """For each row the k experts with the highest scores, and their weights; equal ones go to the lower number."""
    chosen = np.argsort(-scores, 1, kind="stable")[:, :k]
    if given is not None:
        weights = np.take_along_axis(given, chosen, 1)
    else:
        e = np.exp(scores - scores.max(1, keepdims=True))
        weights = np.take_along_axis(e / e.sum(1, keepdims=True), chosen, 1)
    return chosen, weights / weights.sum(1, keepdims=True) if normalize else weights


def _mixed(x: Any, scores: Any, w1: Any, b1: Any, w2: Any, b2: Any, given: Any, attributes: dict[str, Any]) -> Any:
    rows = widen(x).reshape(-1, x.shape[-1])
    chosen, weights = _routed(widen(scores), attributes["k"], attributes["normalize_routing_weights"],
                              None if given is None else widen(given))
    act = _activation(attributes)
    y = np.zeros_like(rows)
    with np.errstate(over="ignore"):
        for expert in range(len(w1)):
            row, place = np.nonzero(chosen == expert)
            if not len(row):
                continue
            inner = rows[row] @ w1[expert].T
            inner = act(inner if b1 is None else inner + widen(b1[expert]))
            out = inner @ w2[expert].T
            # A row has an expert at most once, so that no sum is lost.
            y[row] += weights[row, place, None] * (out if b2 is None else out + widen(b2[expert]))
    return y.reshape(x.shape).astype(x.dtype)


@MoE.reference
def moe(x: Any, scores: Any, w1: Any, b1: Any, w2: Any, b2: Any = None, w3: Any = None, b3: Any = None,
        **attributes: Any) -> Any:
    _check("MoE", attributes, w3)
    return _mixed(x, scores, widen(w1), b1, widen(w2), b2, None, attributes)


def _real_weight(w: Any, scales: Any, zeros: Any, bits: int) -> Any:
    """(experts, outputs, inputs) from packed counts; scales (experts, outputs) or (experts, outputs, blocks)."""
    counts = unpack(w, bits).astype(np.float32)
    scales = widen(scales)
    scales = scales[..., None] if scales.ndim == 2 else scales
    blocks = scales.shape[2]
    if zeros is None:
        zero: Any = np.full(scales.shape, 1 << (bits - 1), np.float32)
    else:
        # One for each row stands packed along the rows, else those of a row's blocks.
        flat = zeros if zeros.ndim == 2 else zeros.reshape(*scales.shape[:2], -1)
        zero = unpack(flat, bits).astype(np.float32)
        zero = zero[:, :scales.shape[1], None] if zeros.ndim == 2 else zero[..., :blocks]
    each = -(-counts.shape[2] // blocks)
    spread = [np.repeat(v, each, 2)[..., :counts.shape[2]] for v in (zero, scales)]
    return (counts - spread[0]) * spread[1]


@QMoE.reference
def qmoe(x: Any, scores: Any, w1: Any, s1: Any, b1: Any, w2: Any, s2: Any, b2: Any = None, w3: Any = None,
         s3: Any = None, b3: Any = None, z1: Any = None, z2: Any = None, z3: Any = None, given: Any = None,
         *scaled: Any, expert_weight_bits: int, fc1_expert_weight_bits: int | None,
         fc2_expert_weight_bits: int | None, fc3_expert_weight_bits: int | None, block_size: int | None,
         quant_type: str, accuracy_level: int, weights_prepacked: int, **attributes: Any) -> Any:
    _check("QMoE", attributes, w3)
    if quant_type != "int" or any(s is not None for s in scaled) or s1 is None or s2 is None:
        raise UnsupportedError(f"QMoE with weights of '{quant_type}', or scales of its inputs", who="reference")
    bits = fc1_expert_weight_bits or expert_weight_bits, fc2_expert_weight_bits or expert_weight_bits
    for b in bits:
        check_bits(b)
    if given is None:
        attributes["normalize_routing_weights"] = 1
    return _mixed(x, scores, _real_weight(w1, s1, z1, bits[0]), b1, _real_weight(w2, s2, z2, bits[1]), b2, given,
                  attributes)


# Lowering: every expert sees every row, and the weights of those that were not chosen are zeros

def _act_expr(p: Builder, x: Expr, attributes: dict[str, Any]) -> Expr:
    kind, limit = attributes["activation_type"], attributes["swiglu_limit"]
    if kind == "swiglu":
        pairs = p.reshape(x, (*x.shape[:-1], x.shape[-1] // 2, 2))
        gate, value = (p.squeeze(p.take(pairs, x.rank, i, i + 1), [x.rank]) for i in (0, 1))
        if limit is not None:
            gate, value = p.min(gate, float(limit)), p.max(p.min(value, float(limit)), -float(limit))
        return gate * p.sigmoid(gate * float(attributes["activation_alpha"])) * (
            value + float(attributes["activation_beta"]))
    if kind == "gelu":
        return (p.tanh((x * x * 0.044715 + 1.0) * x * 0.7978845608) + 1.0) * (x * 0.5)
    return p.max(x, 0.0) if kind == "relu" else x * p.sigmoid(x) if kind == "silu" else x


def _mixed_expr(p: Builder, x: Expr, scores: Expr, w1: Expr, b1: Expr | None, w2: Expr, b2: Expr | None,
                given: Expr | None, attributes: dict[str, Any]) -> Expr:
    rows = p.reshape(widened(p, x), (product(x.shape[:-1]), x.shape[-1]))
    logits = widened(p, scores)
    _, chosen = p.top_k(logits, attributes["k"], 1)
    if given is None:
        e = p.exp(logits - p.amax(logits, [1], keepdims=True))
        weights = p.gather_along(e / p.sum(e, [1], keepdims=True), chosen, 1)
    else:
        weights = p.gather_along(widened(p, given), chosen, 1)
    if attributes["normalize_routing_weights"]:
        weights = weights / p.sum(weights, [1], keepdims=True)
    spread = p.scatter_along(p.full(logits.shape, 0.0, dtypes.FLOAT), chosen, weights, 1)
    inner = p.transpose(p.contract(w1, rows, [2], [1]), (0, 2, 1))  # (experts, rows, inner)
    inner = _act_expr(p, inner if b1 is None else inner + p.expand_dims(widened(p, b1), [1]), attributes)
    out = p.contract(inner, w2, [2], [2], [0], [0])
    out = out if b2 is None else out + p.expand_dims(widened(p, b2), [1])
    y = p.sum(out * p.expand_dims(p.transpose(spread, (1, 0)), [2]), [0])
    return p.cast(p.reshape(y, x.shape), x.dtype)


@MoE.lower
def _(p: Builder, x: Expr, scores: Expr, w1: Expr, b1: Expr | None, w2: Expr, b2: Expr | None = None,
      w3: Expr | None = None, b3: Expr | None = None, **attributes: Any) -> Expr:
    _cannot("MoE", attributes, w3)
    return _mixed_expr(p, x, scores, widened(p, w1), b1, widened(p, w2), b2, None, attributes)


def _cannot(name: str, attributes: dict[str, Any], third: Any) -> None:
    try:
        _check(name, attributes, third)
    except UnsupportedError as e:
        raise CannotLower(e.what) from e


def _real_weight_expr(p: Builder, w: Expr, scales: Expr, bits: int) -> Expr:
    counts = p.cast(unpack_expr(p, w, bits), dtypes.FLOAT) - float(1 << (bits - 1))
    scales = widened(p, scales)
    scales = p.expand_dims(scales, [2]) if scales.rank == 2 else scales
    experts, outputs, inputs = counts.shape
    blocks = scales.shape[2]
    if blocks == 1:
        return counts * scales
    parts = p.reshape(counts, (experts, outputs, blocks, inputs // blocks))
    return p.reshape(parts * p.expand_dims(scales, [3]), counts.shape)


@QMoE.lower
def _(p: Builder, x: Expr, scores: Expr, w1: Expr, s1: Expr | None, b1: Expr | None, w2: Expr, s2: Expr | None,
      b2: Expr | None = None, w3: Expr | None = None, s3: Expr | None = None, b3: Expr | None = None,
      z1: Expr | None = None, z2: Expr | None = None, z3: Expr | None = None, given: Expr | None = None,
      *scaled: Expr | None, expert_weight_bits: int, fc1_expert_weight_bits: int | None,
      fc2_expert_weight_bits: int | None, fc3_expert_weight_bits: int | None, block_size: int | None, quant_type: str,
      accuracy_level: int, weights_prepacked: int, **attributes: Any) -> Expr:
    _cannot("QMoE", attributes, w3)
    if quant_type != "int" or z1 is not None or z2 is not None or any(s is not None for s in scaled):
        raise CannotLower("QMoE with zero points, scales of its inputs or weights that are no integers")
    if s1 is None or s2 is None:
        raise CannotLower("QMoE without scales")
    if given is None:
        attributes["normalize_routing_weights"] = 1
    first, second = (bits or expert_weight_bits for bits in (fc1_expert_weight_bits, fc2_expert_weight_bits))
    return _mixed_expr(p, x, scores, _real_weight_expr(p, w1, s1, first), b1, _real_weight_expr(p, w2, s2, second), b2,
                       given, attributes)
