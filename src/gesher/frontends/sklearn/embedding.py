"""New rows in an embedding that was learnt: each as the same mixture of its neighbours' places as of its neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.ir import Value

from .distances import nearest, points_of
from .loops import repeat
from .translation import Outputs, Translation, in_double, translates


def solved(t: Translation, systems: Value, n: int) -> Value:
    """(rows, n) from systems (rows, n, n + 1) with their right sides: Gauss and Jordan's elimination, which needs no
    exchange of rows where a matrix is symmetric and positive definite."""
    def body(t: Translation, i: Value, held: list[Value]) -> tuple[Value, list[Value]]:
        b, (a,) = t.b, held
        row, column = b.Gather(a, i, axis=1), b.Gather(a, i, axis=2)
        row = b.Div(row, t.upright(b.Gather(column, i, axis=1)))
        column = b.Sub(column, b.Gather(t.constant(np.eye(n)), i, axis=0))
        change = b.Mul(b.Unsqueeze(column, t.axes(2)), b.Unsqueeze(row, t.axes(1)))
        return b.constant(np.array(True)), [b.Sub(a, change)]

    (done,) = repeat(t, n, [systems], body)
    return t.b.Gather(done, t.b.constant(np.array(n, np.int64)), axis=2)


@translates("manifold.LocallyLinearEmbedding")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    b, n = t.b, int(model.n_neighbors)
    _, index = nearest(t, model.nbrs_, x, n)
    gaps = b.Sub(b.Gather(t.constant(points_of(model.nbrs_), "points"), index, axis=0), b.Unsqueeze(x, t.axes(1)))
    products = b.MatMul(gaps, b.Transpose(gaps, perm=[0, 2, 1]))
    trace = b.ReduceSum(b.Mul(gaps, gaps), t.axes(1, 2), keepdims=1)
    some = b.Greater(trace, t.constant(0))
    ridge = b.Mul(b.Where(some, trace, t.constant(1)), t.constant(model.reg))
    products = b.Add(products, b.Mul(ridge, t.constant(np.eye(n))))
    ones = b.Add(b.Mul(b.Slice(products, t.axes(0), t.axes(1), t.axes(2)), t.constant(0)), t.constant(1))
    weights = solved(t, b.Concat(products, ones, axis=2), n)
    weights = b.Div(weights, t.total(weights))
    places = b.Gather(t.constant(model.embedding_, "embedding"), index, axis=0)
    return Outputs(transformed=t.total(b.Mul(places, b.Unsqueeze(weights, t.axes(2))), 1, False), in_float64=True)
