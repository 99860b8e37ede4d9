"""Softmax and its sisters: a row of scores becomes a row of weights.

Until opset 12 the input was cut at `axis` into a matrix whose rows hold all axes from there on; from 13 the problem
runs along `axis` alone. A row of nothing gives nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gesher.symbolic import product

from ..arithmetic import computed, lowered
from ..axes import axis_of
from ..rules import InferNode
from ..schema import BF16, FLOATS, Attr, Input, Operator, Output, op

ALONG_ONE_AXIS = "runs along one axis, instead of over all axes from it on"


def _cut(axis: int, rank: int) -> int:
    # A cut behind the last axis makes rows of one element, and is allowed.
    return rank if axis == rank else axis_of(axis, rank)


def _row_operator(name: str, compute: Callable[[Any, int], Any], lower: Callable[[Any, Any, int], Any]) -> Operator:
    operator = (op(name, Input("input"), Output("output"), Attr("axis", "int", 1), T=FLOATS)
                .since(11, note="an axis may be counted from the end")
                .since(13, Attr("axis", "int", -1), T=FLOATS | BF16, behaviour=ALONG_ONE_AXIS))

    @operator.infer
    def _(node: InferNode) -> None:
        rank = node.rank(0)
        if rank is not None and not (node.version < 13 and node["axis"] == rank):
            axis_of(node["axis"], rank, node)
        infer_same_type(node)

    @operator.reference
    @computed
    def _(x: Any, *, axis: int) -> Any:
        at = _cut(axis, x.ndim)
        rows = x.reshape(int(np.prod(x.shape[:at])), int(np.prod(x.shape[at:])))
        return compute(rows, 1).reshape(x.shape)

    @operator.reference(since=13)
    @computed
    def _(x: Any, *, axis: int) -> Any:
        return compute(x, axis_of(axis, x.ndim))

    @operator.lower
    @lowered
    def _(p: Any, x: Any, *, axis: int) -> Any:
        at = _cut(axis, x.rank)
        if at == x.rank - 1:
            return lower(p, x, at)
        return p.reshape(lower(p, p.reshape(x, (product(x.shape[:at]), product(x.shape[at:]))), 1), x.shape)

    @operator.lower(since=13)
    @lowered
    def _(p: Any, x: Any, *, axis: int) -> Any:
        return lower(p, x, axis_of(axis, x.rank))

    return operator


def infer_same_type(node: InferNode) -> None:
    fact = node.input(0)
    if fact is not None and fact.type is not None:
        node.set(0, fact.dtype, fact.shape)


def _softmax(x: Any, axis: int) -> Any:
    e = np.exp(x - np.max(x, axis, keepdims=True, initial=-np.inf))
    return e / e.sum(axis, keepdims=True)


def _log_softmax(x: Any, axis: int) -> Any:
    shifted = x - np.max(x, axis, keepdims=True, initial=-np.inf)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def _hardmax(x: Any, axis: int) -> Any:
    result = np.zeros_like(x)
    if x.size:
        np.put_along_axis(result, np.expand_dims(np.argmax(x, axis), axis), x.dtype.type(1), axis)
    return result


def softmax_meaning(p: Any, x: Any, *, axis: int) -> Any:
    """Softmax along one axis in primitives, on float32 or wider."""
    e = p.exp(x - p.amax(x, axis, keepdims=True))
    return e / p.sum(e, axis, keepdims=True)


def log_softmax_meaning(p: Any, x: Any, *, axis: int) -> Any:
    shifted = x - p.amax(x, axis, keepdims=True)
    return shifted - p.log(p.sum(p.exp(shifted), axis, keepdims=True))


def _lower_hardmax(p: Any, x: Any, axis: int) -> Any:
    first = p.argmax(x, axis, keepdims=True)
    return p.cast(p.eq(p.iota(x.shape, axis), first), x.dtype)


Softmax = _row_operator("Softmax", _softmax, lambda p, x, axis: p.composite("softmax", softmax_meaning, x, axis=axis))
LogSoftmax = _row_operator("LogSoftmax", _log_softmax,
                           lambda p, x, axis: p.composite("log_softmax", log_softmax_meaning, x, axis=axis))
Hardmax = _row_operator("Hardmax", _hardmax, _lower_hardmax)
