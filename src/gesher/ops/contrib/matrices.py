"""Inverse, CDist, DynamicTimeWarping and SampleOp: single matrices and pairs of rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.ir.types import print_shape
from gesher.ops.arithmetic import computed
from gesher.ops.elementwise import infer_same
from gesher.ops.rules import InferNode
from gesher.ops.schema import FLOATS, Attr, Input, Output, op, tensors
from gesher.primitives import Builder, Expr
from gesher.symbolic import product

from .types import FLOAT, INT32, MS

Inverse = op("Inverse", Input("X"), Output("Y"), domain=MS, T=FLOATS)
CDist = op("CDist", Input("A"), Input("B"), Output("C"), Attr("metric", "string", "sqeuclidean"), domain=MS,
           T=tensors("float double"))
DynamicTimeWarping = op("DynamicTimeWarping", Input("input", "F"), Output("output", "I"), domain=MS, F=FLOAT, I=INT32)
SampleOp = op("SampleOp", Input("X"), Output("Y"), domain=MS,
              T=FLOATS | tensors("int32 int64 uint32 uint64"))

# SampleOp shows how an operator is written, and gives back what it gets.
SampleOp.infer(infer_same)
SampleOp.reference(lambda x: x)
SampleOp.lower(lambda p, x: x)


# Inverse

@Inverse.infer
def _(node: InferNode) -> None:
    x = node.shape(0)
    if x is not None:
        if len(x) < 2:
            node.fail(f"X ends in square matrices, it is {print_shape(x)}")
        node.unify(x[-2], x[-1], "the rows and columns of a matrix with an inverse")
    infer_same(node)


@Inverse.reference
@computed
def inverse(x: Any) -> Any:
    """A singular matrix has no inverse; what stands in its place is infinities and NaN."""
    flat = x.reshape(-1, *x.shape[-2:])
    y = np.empty_like(flat)
    for i, matrix in enumerate(flat):
        try:
            y[i] = np.linalg.inv(matrix)
        except np.linalg.LinAlgError:
            y[i] = np.nan
    return y.reshape(x.shape)


def _eliminated(p: Builder, x: Expr) -> Expr:
    """The inverse of x (...,n,n) by elimination in (...,n,2n), each column by its largest element from the diagonal on;
    NaN where that is 0."""
    n, square = x.shape[-1], x.shape
    x = p.reshape(x, (product(square[:-2]), n, n))
    both = (x.shape[0], n, 2 * n)
    rows = p.iota((n,), 0)
    beside = p.cast(p.eq(p.iota((n, n), 0), p.iota((n, n), 1)), x.dtype)

    def turn(p: Builder, k: Expr, carried: tuple[Expr, ...], _: Any) -> tuple[list[Expr], list[Expr]]:
        y, whole = carried
        below = p.select(rows >= k, p.abs(p.gather(y, k, 2)), p.scalar(-1, x.dtype))
        pivot = p.argmax(below, 1, keepdims=True)
        from_row = p.select(p.eq(rows, k), pivot, p.select(p.eq(rows, pivot), k, rows))
        y = p.gather_along(y, p.broadcast_to(p.expand_dims(from_row, [2]), both), 1)
        row, column = p.expand_dims(p.gather(y, k, 1), [1]), p.expand_dims(p.gather(y, k, 2), [2])
        by = p.expand_dims(p.gather(p.gather(y, k, 2), k, 1), [1, 2])
        here = p.expand_dims(p.eq(rows, k), [1])
        y = p.select(here, row / by, y - column * (row / by))
        return [y, p.and_(whole, p.ne(p.reshape(by, (x.shape[0],)), p.scalar(0, x.dtype)))], []

    start = [p.concat([x, p.broadcast_to(beside, x.shape)], 2), p.full((x.shape[0],), True, dtypes.BOOL)]
    (y, whole), _ = p.loop(n, start, turn)
    y = p.select(p.expand_dims(whole, [1, 2]), p.take(y, 2, n, 2 * n), p.scalar(float("nan"), x.dtype))
    return p.reshape(y, square)


@Inverse.lower
def _(p: Builder, x: Expr) -> Expr:
    # Sums that nearly cancel are all that some inverses are of.
    y = p.composite("inverse", _eliminated, p.cast(x, dtypes.DOUBLE))
    return p.cast(y, x.dtype)


# CDist: the distance of every row of A to every row of B

def _metric(metric: str) -> str:
    if metric not in ("euclidean", "sqeuclidean"):
        raise ModelError(f"the metric cannot be '{metric}'", rule="cdist", advice="it is euclidean or sqeuclidean")
    return metric


@CDist.infer
def _(node: InferNode) -> None:
    a, b = node.shape(0), node.shape(1)
    try:
        _metric(node["metric"])
    except ModelError as e:
        node.fail(e.what, e.advice)
    for name, shape in (("A", a), ("B", b)):
        if shape is not None and len(shape) != 2:
            node.fail(f"{name} is a matrix, not {print_shape(shape)}")
    if a is not None and b is not None:
        node.unify(a[1], b[1], "the columns of A and of B")
    node.set(0, node.dtype(0), (None if a is None else a[0], None if b is None else b[0]))


@CDist.reference
def cdist(a: Any, b: Any, *, metric: str) -> Any:
    less = a[:, None].astype(np.float64) - b[None].astype(np.float64)
    squared = (less * less).sum(2)
    return (np.sqrt(squared) if _metric(metric) == "euclidean" else squared).astype(a.dtype)


@CDist.lower
def _(p: Builder, a: Expr, b: Expr, *, metric: str) -> Expr:
    # |a - b|² = |a|² - 2ab + |b|², in which rounding may leave less than nothing.
    rows, columns = p.sum(a * a, [1], keepdims=True), p.sum(b * b, [1])
    squared = p.max(rows + columns - p.contract(a, b, [1], [1]) * 2.0, 0.0)
    return p.sqrt(squared) if _metric(metric) == "euclidean" else squared


# DynamicTimeWarping: the cheapest walk through a matrix of costs, as its rows and columns

@DynamicTimeWarping.infer
def _(node: InferNode) -> None:
    x = node.shape(0)
    if x is not None and len(x) not in (2, 3):
        node.fail(f"the input is (rows, columns) or (1, rows, columns), not {print_shape(x)}")
    if x is not None and len(x) == 3:
        node.unify(x[0], 1, "the matrices of the input")
    node.set(0, dtypes.INT32, (2, node.fresh("how long the walk is depends on the data")))


@DynamicTimeWarping.reference
def dynamic_time_warping(x: Any) -> Any:
    costs = x.reshape(x.shape[-2:])
    rows, columns = costs.shape
    total = np.full((rows + 1, columns + 1), np.inf, np.float32)
    total[0, 0] = 0
    came = np.full((rows + 1, columns + 1), -1, np.int8)
    for j in range(1, columns + 1):
        for i in range(1, rows + 1):
            diagonal, up, left = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
            way, least = (0, diagonal) if diagonal < up and diagonal < left else (
                (1, up) if up < diagonal and up < left else (2, left))
            total[i, j], came[i, j] = costs[i - 1, j - 1] + least, way
    came[0, :], came[:, 0] = 2, 1
    i, j = rows, columns
    walk = []
    while i > 0 or j > 0:
        walk.append((i - 1, j - 1))
        way = came[i, j]
        i, j = (i - 1, j - 1) if way == 0 else (i - 1, j) if way == 1 else (i, j - 1)
    return np.array(walk[::-1], np.int32).reshape(-1, 2).T.copy()
