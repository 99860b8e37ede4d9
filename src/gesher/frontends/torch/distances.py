"""Distances between rows, products of three, and bags of embeddings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import Value

from .strides import count
from .translation import Translation, aten, dtype_of


def _norm(t: Translation, gap: Value, p: float, axis: int) -> Value:
    """The p-norm along one axis."""
    if p == 2:
        return t.reduce("ReduceL2", gap, [axis], False)
    size = t.b.Abs(gap)
    if p == 1:
        return t.reduce("ReduceSum", size, [axis], False)
    if p == 0:
        return t.reduce("ReduceSum", t.cast(t.b.Greater(size, t.scalar(0, size)), t.dtype(size)), [axis], False)
    if p == math.inf:
        return t.reduce("ReduceMax", size, [axis], False)
    total = t.reduce("ReduceSum", t.b.Pow(size, t.scalar(p, size)), [axis], False)
    return t.b.Pow(total, t.scalar(1 / p, total))


@aten("_cdist_forward")
def _(t: Translation, a: Value, b: Value, p: float, mode: int | None = None) -> Value:
    """(..., m, d) and (..., n, d) to (..., m, n). Of many rows PyTorch too takes euclidean distances by a product."""
    a, b = t.cast(a, t.out_dtype), t.cast(b, t.out_dtype)
    if 0 in t.out_shape or t.shape(a)[-1] == 0:
        return t.expand(t.constant(0, t.out_dtype), t.out_shape)
    rank = len(t.out_shape)
    rows, columns = t.shape(a)[-2], t.shape(b)[-2]
    # Of free sizes the differences themselves are taken: they are right for few rows too, where a product loses digits.
    many = isinstance(rows, int) and isinstance(columns, int) and max(rows, columns) > 25
    if p == 2 and (mode == 1 or (mode != 2 and many)):
        square_a = t.reduce("ReduceSumSquare", a, [t.rank(a) - 1], True)
        square_b = t.unsqueeze(t.reduce("ReduceSumSquare", b, [t.rank(b) - 1], False), [t.rank(b) - 2])
        turned = t.transpose(b, [*range(t.rank(b) - 2), t.rank(b) - 1, t.rank(b) - 2])
        product = t.b.Mul(t.b.MatMul(a, turned), t.scalar(-2, a))
        total = t.b.Add(t.b.Add(product, square_a), square_b)
        return t.b.Sqrt(t.b.Max(total, t.scalar(0, total)))
    gap = t.b.Sub(t.unsqueeze(a, [t.rank(a) - 1]), t.unsqueeze(b, [t.rank(b) - 2]))
    return _norm(t, gap, p, rank)


@aten("_pdist_forward")
def _(t: Translation, x: Value, p: float = 2.0) -> Value:
    """Between all pairs of rows, the first of a pair before the second."""
    n = t.shape(x)[0]
    if isinstance(n, int):
        if n < 2:
            return t.expand(t.scalar(0, x), t.out_shape)
        first, second = np.triu_indices(n, 1)
        a, b = t.constant(first, dtypes.INT64), t.constant(second, dtypes.INT64)
    else:
        each = count(t, n)
        pairs = t.b.NonZero(t.b.Less(t.unsqueeze(each, [1]), each))
        a, b = (t.b.Gather(pairs, t.constant(i, dtypes.INT64), axis=0) for i in (0, 1))
    return _norm(t, t.b.Sub(t.b.Gather(x, a, axis=0), t.b.Gather(x, b, axis=0)), p, 1)


@aten("_trilinear")
def _(t: Translation, a: Value, b: Value, c: Value, expand_a: Sequence[int], expand_b: Sequence[int],
      expand_c: Sequence[int], summed: Sequence[int], unroll: int = 1) -> Value:
    """The product of three, each with new axes, summed over some."""
    rank = t.rank(a) + len(expand_a)
    letters = "abcdefghijklmnop"[:rank]
    given = ["".join(s for i, s in enumerate(letters) if i not in new) for new in (expand_a, expand_b, expand_c)]
    out = "".join(s for i, s in enumerate(letters) if i not in summed)
    return t.b.Einsum(a, b, c, equation=",".join(given) + "->" + out)


@aten("addbmm")
def _(t: Translation, c: Value, a: Value, b: Value, *, beta: Any = 1, alpha: Any = 1) -> Value:
    total = t.reduce("ReduceSum", t.b.MatMul(a, b), [0], False)
    total = total if alpha == 1 else t.b.Mul(total, t.scalar(alpha, total))
    if beta == 0:
        return total
    return t.b.Add(c if beta == 1 else t.b.Mul(c, t.scalar(beta, c)), total)


@aten("_embedding_bag", "_embedding_bag_forward_only")
def _(t: Translation, weight: Value, indices: Value, offsets: Value, scale_by_freq: bool = False, mode: int = 0,
      sparse: bool = False, shares: Value | None = None, last_offset: bool = False, padding: int = -1
      ) -> tuple[Value | None, ...]:
    """Rows of the weight, of which those of one bag are summed (mode 0), averaged (1), or the largest taken (2)."""
    indices, offsets = t.cast(indices, dtypes.INT64), t.cast(offsets, dtypes.INT64)
    bags = t.out_shape[0]
    begins = t.slice(offsets, 0, 0, bags) if last_offset else offsets
    each = count(t, t.shape(indices)[0])
    # Bag i holds what lies from its own offset to the next one's.
    started = t.cast(t.b.LessOrEqual(t.unsqueeze(begins, [0]), t.unsqueeze(each, [1])), dtypes.INT64)
    bag = t.b.Sub(t.reduce("ReduceSum", started, [1], False), t.constant(1, dtypes.INT64))
    member = t.b.Equal(t.unsqueeze(count(t, bags), [1]), t.unsqueeze(bag, [0]))    # (bags, indices)
    if last_offset:
        member = t.b.And(member, t.b.Less(t.unsqueeze(each, [0]), t.slice(offsets, 0, bags, bags + 1)))
    if padding >= 0:
        member = t.b.And(member, t.unsqueeze(t.b.Not(t.b.Equal(indices, t.constant(padding, dtypes.INT64))), [0]))
    rows = t.b.Gather(weight, indices, axis=0)
    sizes = t.reduce("ReduceSum", t.cast(member, dtypes.INT64), [1], False)
    if mode == 2:
        seen = t.b.Where(t.unsqueeze(member, [2]), t.unsqueeze(rows, [0]), t.scalar(-math.inf, rows))
        y = t.reduce("ReduceMax", seen, [1], False)
        empty = t.unsqueeze(t.b.Equal(sizes, t.constant(0, dtypes.INT64)), [1])
        y = t.b.Where(empty, t.scalar(0, rows), y)
    else:
        if shares is not None:
            rows = t.b.Mul(rows, t.unsqueeze(shares, [1]))
        y = t.b.MatMul(t.cast(member, t.dtype(rows)), rows)
        if mode == 1:
            many = t.b.Max(sizes, t.constant(1, dtypes.INT64))
            y = t.b.Div(y, t.unsqueeze(t.cast(many, t.dtype(y)), [1]))
    # PyTorch gives the others only where its own backward pass wants them.
    others: list[Value | None] = []
    for fake, v in zip(t.out[1:3], (bag, sizes)):
        kind = dtype_of(fake.dtype)
        same = t.sizes.shape(fake.shape) == t.shape(v)
        others.append(t.cast(v, kind) if same else t.constant(np.zeros(0), kind) if fake.shape[0] == 0 else None)
    return y, *others, None


@aten("multilabel_margin_loss_forward")
def _(t: Translation, x: Value, target: Value, reduction: int) -> tuple[Value, Value]:
    """Every class that is no target, against every target before the first -1. (PyTorch's own decomposition mixes up
    the rows of a batch.)"""
    single = t.rank(x) < 2
    if single:
        x, target = (t.b.Reshape(v, t.ints([1, -1])) for v in (x, target))
    dtype = t.dtype(x)
    classes = t.shape(x)[1]
    zero, minus = t.constant(0, dtypes.INT64), t.constant(-1, dtypes.INT64)
    ended = t.b.CumSum(t.cast(t.b.Equal(target, minus), dtypes.INT64), t.constant(1, dtypes.INT64))
    counts = t.b.Equal(ended, zero)
    targets = t.b.Where(counts, target, zero)
    each = t.b.Range(zero, t.value(classes, dtypes.INT64), t.constant(1, dtypes.INT64))
    hits = t.b.And(t.b.Equal(t.unsqueeze(targets, [2]), each), t.unsqueeze(counts, [2]))    # (rows, targets, classes)
    wanted = t.cast(t.reduce("ReduceMax", t.cast(hits, dtypes.INT32), [1], False), dtypes.BOOL)
    gap = t.b.Sub(t.unsqueeze(x, [1]), t.unsqueeze(t.b.GatherElements(x, targets, axis=1), [2]))
    loss = t.b.Max(t.b.Add(gap, t.scalar(1, gap)), t.scalar(0, gap))
    taken = t.b.And(t.unsqueeze(counts, [2]), t.unsqueeze(t.b.Not(wanted), [1]))
    loss = t.reduce("ReduceSum", t.b.Where(taken, loss, t.scalar(0, loss)), [1, 2], False)
    loss = t.b.Div(loss, t.value(classes, dtype))
    if reduction:
        loss = t.reduce("ReduceMean" if reduction == 1 else "ReduceSum", loss, [0], False)
    elif single:
        loss = t.squeeze(loss, [0])
    return loss, t.reshape(t.cast(wanted, dtype), t.sizes.shape(t.out[1].shape))
