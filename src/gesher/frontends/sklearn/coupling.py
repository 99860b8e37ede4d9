"""Probabilities of several classes from the scores of their duels, as libsvm has them.

Each duel's score is a probability under a sigmoid; those of the classes are what contradicts the duels least. Wu, Lin
and Weng, Probability estimates for multi-class classification by pairwise coupling (JMLR 5, 2004), algorithm 2. It goes
round until nothing changes by more than 0.005 / classes, so that what it ends with hangs on the rounds: a loop in which
each row stands still once it has come there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import Value
from gesher.ops.build import Builder

from .translation import Translation

_LEAST = 1e-7
_ROUNDS = 100


def coupled(t: Translation, duels: Value, steep: Any, start: Any, pairs: list[tuple[int, int]], n: int) -> Value:
    """The probabilities (rows, n) of classes whose pairs have the scores `duels` (rows, pairs)."""
    fitted = t.b.Add(t.b.Mul(duels, t.constant(np.asarray(steep, float))), t.constant(np.asarray(start, float)))
    first = t.b.Clip(t.b.Sigmoid(t.b.Neg(fitted)), t.constant(_LEAST), t.constant(1 - _LEAST))
    # r[i, j] is what class i has against class j, a row of n * n numbers; its own place is empty.
    one, two, base = np.zeros((len(pairs), n * n)), np.zeros((len(pairs), n * n)), np.zeros(n * n)
    for k, (i, j) in enumerate(pairs):
        one[k, i * n + j], one[k, j * n + i], base[j * n + i] = 1, -1, 1
        two[k, j * n + i], two[k, i * n + j] = 1, -1
    won = t.affine(first, one, base, "duels")
    lost = t.affine(first, two, base.reshape(n, n).T.reshape(-1), "duels")
    # Q[i, i] is the sum of r[j, i] squared, Q[i, j] is -r[j, i] r[i, j].
    inside = np.zeros((n * n, n * n))
    for i in range(n):
        inside[i * n:(i + 1) * n, i * n + i] = 1
    apart = (1 - np.eye(n)).reshape(-1)
    whole = t.b.Sub(t.b.MatMul(t.b.Mul(lost, lost), t.constant(inside)),
                    t.b.Mul(t.b.Mul(won, lost), t.constant(apart)))
    rows = [t.b.Slice(whole, t.axes(i * n), t.axes((i + 1) * n), t.axes(1)) for i in range(n)]
    start_at = t.b.Add(t.b.Mul(t.column(duels, 0), t.constant(0)), t.constant(np.full((1, n), 1 / n)))
    return _loop(t, start_at, rows, n)


def _loop(t: Translation, start: Value, rows: list[Value], n: int) -> Value:
    body: Builder = t.b.subgraph("rounds", [("round", dtypes.INT64, []), ("going", dtypes.BOOL, []),
                                            ("p", dtypes.DOUBLE, t.b.shape(start))])
    p, inner = body.graph.inputs[2], Translation(body, t.dtype)
    b = inner.b
    products = inner.join([inner.total(b.Mul(row, p)) for row in rows])
    whole = inner.total(b.Mul(p, products))
    far = inner.largest(b.Abs(b.Sub(products, whole)))
    done = b.Less(far, inner.constant(0.005 / n))
    after = p
    for i, row in enumerate(rows):
        own, mine = inner.column(row, i), inner.column(products, i)
        step = b.Div(b.Sub(whole, mine), own)
        size = b.Add(step, inner.constant(1))
        after = b.Div(b.Add(after, b.Mul(step, inner.constant(np.eye(n)[i:i + 1]))), size)
        grown = b.Add(whole, b.Mul(step, b.Add(b.Mul(step, own), b.Mul(mine, inner.constant(2)))))
        whole = b.Div(b.Div(grown, size), size)
        products = b.Div(b.Add(products, b.Mul(step, row)), size)
    open_rows = b.Cast(b.Not(done), to=dtypes.INT32.code)
    body.output(b.Cast(b.ReduceMax(open_rows, keepdims=0), to=dtypes.BOOL.code))
    body.output(b.Where(done, p, after))
    rounds = t.b.constant(np.array(max(_ROUNDS, n), np.int64))
    made: Value = t.b.op("Loop", rounds, t.b.constant(np.array(True)), start, body=body)
    return made
