"""Running sums and products along an axis, which is an input: from either end, with the element itself or without."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base.errors import RunError
from gesher.primitives import CannotLower
from gesher.symbolic import Dim

from ..arithmetic import computed
from ..axes import axis_of
from ..known import symbolic_value
from ..rules import InferNode
from ..schema import BF16, FLOATS, Attr, Input, Operator, Output, op, tensors

_SIZED = tensors("int32 int64 uint32 uint64")
_FLAGS = (Attr("exclusive", "int", 0), Attr("reverse", "int", 0))
_AXIS = tensors("int32 int64")

CumSum = (op("CumSum", Input("x"), Input("axis", "T2"), Output("y"), *_FLAGS, since=11,
             T=_SIZED | tensors("float double"), T2=_AXIS)
          .since(14, T=_SIZED | FLOATS | BF16))
CumProd = op("CumProd", Input("x"), Input("axis", "T2"), Output("y"), *_FLAGS, since=26, T=_SIZED | FLOATS | BF16,
             T2=_AXIS)


def _running(x: Any, axis: Any, ufunc: Any, exclusive: int, reverse: int) -> Any:
    """Along one axis, on numbers or on objects."""
    if axis.size != 1:
        raise RunError(f"the axis of a running sum or product is a scalar, not of shape {axis.shape}")
    at = axis_of(int(axis.item()), x.ndim)
    x = np.flip(x, at) if reverse else x
    # Types stay: numpy would widen sums of small integers.
    result = ufunc.accumulate(x, at, **({} if x.dtype == object else {"dtype": x.dtype}))
    if exclusive and x.shape[at]:
        first = np.full_like(np.take(x, [0], at), ufunc.identity)
        result = np.concatenate([first, np.take(result, range(x.shape[at] - 1), at)], at)
    return np.flip(result, at) if reverse else result


def _give_rules(operator: Operator, ufunc: Any, fold: str) -> None:
    @operator.infer
    def _(node: InferNode) -> None:
        fact, axis = node.input(0), node.ints(1)
        if fact is None or fact.type is None:
            return
        if fact.rank is not None and axis is not None and len(axis) == 1 and isinstance(axis[0], int):
            axis_of(axis[0], fact.rank, node)

        def on_sizes(x: Any, axis: Any) -> Any:
            if isinstance(axis.item(), Dim):
                return None
            return _running(x, axis, ufunc, node["exclusive"], node["reverse"])

        node.set(0, fact.dtype, fact.shape, symbolic_value(node, fact.shape, on_sizes))

    @operator.reference
    @computed
    def _(x: Any, axis: Any, *, exclusive: int, reverse: int) -> Any:
        return _running(x, axis, ufunc, exclusive, reverse)

    @operator.lower
    def _(p: Any, x: Any, axis: Any, *, exclusive: int, reverse: int) -> Any:
        known = p.known(axis)
        if known is None or isinstance(known.reshape(-1)[0], Dim):
            raise CannotLower("the axis is only known in a run")
        return p.cumulate(x, axis_of(int(known.reshape(-1)[0]), x.rank), fold, bool(exclusive), bool(reverse))


_give_rules(CumSum, np.add, "sum")
_give_rules(CumProd, np.multiply, "prod")
