"""SoftmaxAttention: softmax(Q K' * scale + mask) V, exactly as models write it out of pieces.

It is what ONNX's Attention is but for one thing: a query that sees nothing (its row of the mask is all false or -inf)
gives NaN, as a softmax of -inf does, where Attention gives zeros. And the mask has a column for every key. With
`is_causal`, query i sees the keys 0 to i. What a mask of bools or causality hides may be NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.ir.types import print_shape
from gesher.primitives import Builder, Expr
from gesher.symbolic import decide_eq

from ..arithmetic import widen
from ..broadcasting import broadcast_into
from ..core.attention import attention_meaning
from ..rules import InferNode
from ..schema import BOOL, FLOATS, REQUIRED, Attr, Input, Output, op

SoftmaxAttention = op("SoftmaxAttention", Input("Q"), Input("K"), Input("V"), Input("attn_mask", "U", optional=True),
                      Output("Y"), Attr("scale", "float", REQUIRED), Attr("is_causal", "int", 0), domain="gesher",
                      T=FLOATS, U=FLOATS | BOOL)


@SoftmaxAttention.infer
def _(node: InferNode) -> None:
    q, k, v = (node.shape(i) for i in range(3))
    if q is None or k is None or v is None:
        node.set(0, node.dtype(0), (None,) * 4, why="the shape of an input is unknown")
        return
    for shape, name in ((q, "Q"), (k, "K"), (v, "V")):
        if len(shape) != 4:
            node.fail(f"{name} has 4 axes, not {print_shape(shape)}")
    for a, b, what in ((q[0], k[0], "the batches of Q and K"), (k[0], v[0], "the batches of K and V"),
                       (q[3], k[3], "the head sizes of Q and K"), (k[1], v[1], "the heads of K and V"),
                       (k[2], v[2], "the lengths of K and V")):
        node.unify(a, b, what)
    if decide_eq(q[1] % k[1], 0) is False:
        node.fail(f"{q[1]} heads of queries do not share {k[1]} heads of keys evenly")
    mask = node.shape(3)
    if mask:
        broadcast_into(node, (q[0], q[1], q[2], k[2]), mask, "attn_mask")
        node.unify(mask[-1], k[2], "the columns of the mask and the keys")
    node.set(0, node.dtype(0), (q[0], q[1], q[2], v[3]))


@SoftmaxAttention.reference
def softmax_attention(q: Any, k: Any, v: Any, attn_mask: Any = None, *, scale: float, is_causal: int) -> Any:
    groups = q.shape[1] // k.shape[1]
    with np.errstate(all="ignore"):
        scores = widen(q) @ widen(k).repeat(groups, 1).swapaxes(2, 3)
        scores = scores * scores.dtype.type(scale)
        if attn_mask is not None:
            scores = np.where(attn_mask, scores, -np.inf) if attn_mask.dtype == np.bool_ else scores + widen(attn_mask)
        if is_causal:
            scores = np.where(np.tri(*scores.shape[2:], dtype=np.bool_), scores, -np.inf)
        e = np.exp(scores - scores.max(-1, keepdims=True, initial=-np.inf))
        y = (e / e.sum(-1, keepdims=True)) @ widen(v).repeat(groups, 1)
    return y.astype(q.dtype)


@SoftmaxAttention.lower
def _(p: Builder, q: Expr, k: Expr, v: Expr, attn_mask: Expr | None = None, *, scale: float,
      is_causal: int) -> Any:
    return p.composite("attention", attention_meaning, q, k, v, attn_mask, None, scale=scale, softcap=0.0,
                       causal=bool(is_causal), past=0, left=-1, right=-1, precision=None, shows=-1, blind_is_nan=True)
