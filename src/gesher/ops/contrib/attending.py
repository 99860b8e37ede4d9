"""What the attentions of com.microsoft share: heads taken apart, masks made into sums, and the attention itself.

A mask of zeros and ones becomes a number that is added to the scores: `mask_filter_value` (-10000 where none is
written), which is no infinity, so that a query whose keys are all masked still sees them, all alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.ir import DimLike
from gesher.ir.types import print_shape
from gesher.ops.core.attention import attention_meaning
from gesher.ops.rules import InferNode
from gesher.primitives import Builder, CannotLower, Expr
from gesher.symbolic import decide_eq

FILTER = -10000.0


def apart(x: Any, heads: int) -> Any:
    """(batch, heads, length, size) from (batch, length, heads * size)."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def together(x: Any) -> Any:
    """(batch, length, heads * size) from (batch, heads, length, size)."""
    return x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)


def softmax(x: Any) -> Any:
    e = np.exp(x - x.max(-1, keepdims=True, initial=-np.inf))
    return e / e.sum(-1, keepdims=True)


def attend(q: Any, k: Any, v: Any, added: Any, scale: float | None) -> tuple[Any, Any]:
    """The result with heads apart, and the scores before the softmax. q (B,N,S,H), k (B,N,T,H), v (B,N,T,E)."""
    factor = np.float32(scale if scale else 1 / np.sqrt(q.shape[3]))
    scores = (q @ k.swapaxes(2, 3)) * factor
    if added is not None:
        scores = scores + added
    return softmax(scores) @ v, scores


def mask_of(mask: Any, batch: int, queries: int, keys: int, past: int, causal: bool, fill: float | None) -> Any:
    """What a mask adds to the scores, (batch, 1, queries, keys).

    `mask` holds the number of keys of each sample; or their ends and then their starts (2 * batch); or zeros and ones
    for (batch, keys), (batch, queries, keys) or (batch, 1, longest, longest), of which the queries' rows are cut out.
    """
    filtered = np.float32(FILTER if fill is None else fill)
    key = np.arange(keys)
    hidden: Any = np.zeros((batch, 1, queries, keys), np.bool_)
    if mask is not None:
        if mask.ndim == 1 and len(mask) in (batch, 2 * batch):
            ends = mask[:batch].reshape(-1, 1, 1, 1)
            hidden = hidden | (key >= ends)
            if len(mask) == 2 * batch and batch:
                hidden = hidden | (key < mask[batch:].reshape(-1, 1, 1, 1))
        elif mask.ndim == 2:
            hidden = hidden | (mask[:, None, None] <= 0)
        elif mask.ndim == 3:
            hidden = hidden | (mask[:, None] <= 0)
        elif mask.ndim == 4:
            hidden = hidden | (mask[:, :, past:past + queries, :keys] <= 0)
        else:
            raise ModelError(f"a mask of {print_shape(mask.shape)} fits no batch of {batch}", rule="attention",
                             advice="it holds (batch), (2 * batch), (batch, keys) or (batch, queries, keys)")
    added = np.where(hidden, filtered, np.float32(0))
    if causal and queries > 1:
        added = np.where(key > past + np.arange(queries)[:, None], np.finfo(np.float32).min, added)
    return added


# In inference

def check_mask(node: InferNode, index: int, batch: DimLike | None, queries: DimLike | None, keys: DimLike | None
               ) -> None:
    """Refuse a mask that surely fits none of the forms that `mask_of` knows."""
    mask = node.shape(index) if node.has(index) else None
    if mask is None or batch is None:
        return
    if len(mask) > 4 or not mask:
        node.fail(f"the mask has 1 to 4 axes, not {len(mask)}")
    if len(mask) == 1:
        if decide_eq(mask[0], batch) is False and decide_eq(mask[0], batch * 2) is False:
            node.fail(f"a mask of {mask[0]} lengths fits no batch of {batch}")
        return
    node.unify(mask[0], batch, "the batches of the mask and of the input")
    if len(mask) == 2:
        node.unify(mask[1], keys, "the keys and the mask")
    elif len(mask) == 3:
        node.unify(mask[1], queries, "the queries and the rows of the mask")
        node.unify(mask[2], keys, "the keys and the mask")


# In lowerings

def apart_expr(p: Builder, x: Expr, heads: int) -> Expr:
    return p.transpose(p.reshape(x, (x.shape[0], x.shape[1], heads, x.shape[2] // heads)), (0, 2, 1, 3))


def together_expr(p: Builder, x: Expr) -> Expr:
    moved = p.transpose(x, (0, 2, 1, 3))
    return p.reshape(moved, (moved.shape[0], moved.shape[1], moved.shape[2] * moved.shape[3]))


def mask_expr(p: Builder, mask: Expr | None, batch: DimLike, queries: DimLike, keys: DimLike, past: DimLike,
              fill: float | None) -> Expr | None:
    """As `mask_of` without its causal part, broadcast against (batch, heads, queries, keys)."""
    if mask is None:
        return None
    if mask.rank == 1:
        key = p.iota((1, 1, 1, keys), 3, dtypes.INT32)
        ends = p.reshape(p.take(mask, 0, 0, batch), (batch, 1, 1, 1))
        hidden = p.ge(key, ends)
        if decide_eq(mask.shape[0], batch * 2):
            starts = p.reshape(p.take(mask, 0, batch, batch * 2), (batch, 1, 1, 1))
            hidden = p.or_(hidden, p.lt(key, starts))
        elif not decide_eq(mask.shape[0], batch):
            raise CannotLower("a mask of lengths whose number is not that of the batch")
    elif mask.rank == 4:
        hidden = p.le(p.take(p.take(mask, 2, past, past + queries), 3, 0, keys), 0)
    else:
        hidden = p.le(p.expand_dims(mask, [1] if mask.rank == 3 else [1, 2]), 0)
    zero = p.scalar(0.0, dtypes.FLOAT)
    return p.select(hidden, p.scalar(FILTER if fill is None else fill, dtypes.FLOAT), zero)


def attend_expr(p: Builder, q: Expr, k: Expr, v: Expr, added: Expr | None, scale: float | None, *,
                causal: bool = False, past: DimLike = 0, left: int = -1, softcap: float = 0.0,
                nonpad: Expr | None = None, shows: int = -1) -> Any:
    """The attention as the composite that ONNX's own lowers to; k and v may have fewer heads than q."""
    return p.composite("attention", attention_meaning, q, k, v, added, nonpad, scale=scale or None, softcap=softcap,
                       causal=causal, past=past, left=left, right=-1, precision=None, shows=shows)


def sum_expr(a: Expr | None, b: Expr | None) -> Expr | None:
    return b if a is None else a if b is None else a + b
