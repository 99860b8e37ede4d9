"""The determinant of square matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base.errors import RunError
from gesher.symbolic import decide_eq

from ..arithmetic import computed, lowered
from ..rules import InferNode
from ..schema import BF16, FLOATS, Input, Output, op

Det = op("Det", Input("X"), Output("Y"), since=11, T=FLOATS).since(22, T=FLOATS | BF16)


@Det.infer
def _(node: InferNode) -> None:
    shape = node.shape(0)
    if shape is None:
        node.set(0, node.dtype(0), None)
        return
    if len(shape) < 2:
        node.fail(f"a matrix has two axes, the input has {len(shape)}")
    node.unify(shape[-2], shape[-1], "rows and columns of a square matrix")
    node.set(0, node.dtype(0), shape[:-2])


@Det.reference
@computed
def _(x: Any) -> Any:
    # x (..., M, M)
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise RunError(f"Det: matrices of shape {x.shape} are not square")
    return np.linalg.det(x.astype(np.float64))


@Det.lower
@lowered
def _(p: Any, x: Any) -> Any:
    """Elimination: each turn the largest of a column is brought up, and its row taken off those below."""
    size, last = x.shape[-1], x.rank - 1
    if decide_eq(size, 0):
        return p.full(x.shape[:-2], 1.0, x.dtype)
    rows = p.iota((size, 1), 0)
    line = p.iota((size,), 0)

    def turn(p: Any, i: Any, carried: Any, slices: Any) -> Any:
        a, product = carried
        column = p.gather(a, i, last)
        place = p.argmax(p.select(p.ge(line, i), p.abs(column), -1.0), last - 1, keepdims=True)
        pivot = p.gather_along(column, place, last - 1)
        place = p.expand_dims(place, [last])
        chosen = p.gather_along(a, p.broadcast_to(place, (*a.shape[:-2], 1, size)), last - 1)
        other = p.expand_dims(p.gather(a, i, last - 1), [last - 1])
        a = p.select(p.eq(rows, place), other, a)
        # A column of zeros makes the determinant zero; what is then divided by does not matter.
        divisor = p.expand_dims(p.select(p.eq(pivot, 0.0), 1.0, pivot), [last])
        factor = p.expand_dims(p.gather(a, i, last), [last]) / divisor
        a = p.select(p.gt(rows, i), a - factor * chosen, a)
        pivot, stays = (p.reshape(e, product.shape) for e in (pivot, p.eq(place, i)))
        return [a, product * p.select(stays, pivot, -pivot)], []

    [_, result], _ = p.loop(size, [x, p.full(x.shape[:-2], 1.0, x.dtype)], turn)
    return result

