"""Reductions, running sums, order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gesher.base import dtypes
from gesher.ir import Value

from .ordering import sortable
from .translation import Translation, aten, narrow_float


@aten("sum", "sum.dim_IntList")
def _(t: Translation, x: Value, dims: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    return t.reduce("ReduceSum", t.cast(x, t.out_dtype), dims, keepdim)


@aten("mean", "mean.dim")
def _(t: Translation, x: Value, dims: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    return t.reduce("ReduceMean", t.cast(x, t.out_dtype), dims, keepdim)


@aten("prod", "prod.dim_int")
def _(t: Translation, x: Value, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    return t.reduce("ReduceProd", t.cast(x, t.out_dtype), None if dim is None else [dim], keepdim)


def _extreme(t: Translation, op: str, x: Value, dims: Sequence[int] | None, keepdim: bool) -> Value:
    if t.dtype(x) is dtypes.BOOL:
        return t.cast(t.reduce(op, t.cast(x, dtypes.INT32), dims, keepdim), dtypes.BOOL)
    return t.reduce(op, x, dims, keepdim)


@aten("amax", "max")
def _(t: Translation, x: Value, dims: Any = None, keepdim: bool = False) -> Value:
    return _extreme(t, "ReduceMax", x, dims, keepdim)


@aten("amin", "min")
def _(t: Translation, x: Value, dims: Any = None, keepdim: bool = False) -> Value:
    return _extreme(t, "ReduceMin", x, dims, keepdim)


@aten("max.dim")
def _(t: Translation, x: Value, dim: int, keepdim: bool = False) -> tuple[Value, Value]:
    return _extreme(t, "ReduceMax", x, [dim], keepdim), _arg(t, "ArgMax", x, dim, keepdim)


@aten("min.dim")
def _(t: Translation, x: Value, dim: int, keepdim: bool = False) -> tuple[Value, Value]:
    return _extreme(t, "ReduceMin", x, [dim], keepdim), _arg(t, "ArgMin", x, dim, keepdim)


def _arg(t: Translation, op: str, x: Value, dim: int | None, keepdim: bool) -> Value:
    rank = t.rank(x)
    if rank == 0:
        return t.constant(0, dtypes.INT64)
    if dim is None:
        flat = t.b.op(op, t.b.Reshape(x, t.ints([-1])), axis=0, keepdims=0)
        return t.unsqueeze(flat, range(rank)) if keepdim else flat
    return t.b.op(op, x, axis=t.axis(dim, rank), keepdims=int(keepdim))


@aten("argmax")
def _(t: Translation, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
    return _arg(t, "ArgMax", x, dim, keepdim)


@aten("argmin")
def _(t: Translation, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
    return _arg(t, "ArgMin", x, dim, keepdim)


def _truth(t: Translation, op: str, x: Value, dims: Any, keepdim: bool) -> Value:
    whole = t.cast(t.cast(x, dtypes.BOOL), dtypes.INT32)
    listed = None if dims is None else [dims] if isinstance(dims, int) else dims
    return t.cast(t.reduce(op, whole, listed, keepdim), dtypes.BOOL)


@aten("any", "any.dim", "any.dims", "_is_any_true")
def _(t: Translation, x: Value, dims: Any = None, keepdim: bool = False) -> Value:
    return _truth(t, "ReduceMax", x, dims, keepdim)


@aten("all", "all.dim", "all.dims", "_is_all_true")
def _(t: Translation, x: Value, dims: Any = None, keepdim: bool = False) -> Value:
    return _truth(t, "ReduceMin", x, dims, keepdim)


@aten("logsumexp")
def _(t: Translation, x: Value, dims: Any, keepdim: bool = False) -> Value:
    listed = [dims] if isinstance(dims, int) else dims
    return t.reduce("ReduceLogSumExp", t.cast(x, t.out_dtype), listed, keepdim)


def _variance(t: Translation, x: Value, dims: Any, correction: Any, keepdim: bool) -> Value:
    if narrow_float(t.dtype(x)):    # whose squares overflow
        return t.cast(_variance(t, t.cast(x, dtypes.FLOAT), dims, correction, keepdim), t.dtype(x))
    rank = t.rank(x)
    axes = list(range(rank)) if dims is None or not len(dims) else [t.axis(d, rank) for d in dims]
    mean = t.reduce("ReduceMean", x, axes, True)
    gap = t.b.Sub(x, mean)
    total = t.reduce("ReduceSum", t.b.Mul(gap, gap), axes, keepdim)
    count: Any = 1
    for a in axes:
        count = count * t.shape(x)[a]
    divisor = t.value(count, t.dtype(x))
    if correction:
        divisor = t.b.Max(t.b.Sub(divisor, t.scalar(correction, x)), t.scalar(0, x))
    return t.b.Div(total, divisor)


@aten("var.correction", "var", "var.dim")
def _(t: Translation, x: Value, dims: Any = None, unbiased: Any = True, keepdim: bool = False, *,
      correction: Any = None) -> Value:
    return _variance(t, *_var_arguments(x, dims, unbiased, correction), keepdim)


@aten("std.correction", "std", "std.dim")
def _(t: Translation, x: Value, dims: Any = None, unbiased: Any = True, keepdim: bool = False, *,
      correction: Any = None) -> Value:
    return t.b.Sqrt(_variance(t, *_var_arguments(x, dims, unbiased, correction), keepdim))


@aten("var_mean.correction")
def _(t: Translation, x: Value, dims: Any = None, *, correction: Any = None, keepdim: bool = False
      ) -> tuple[Value, Value]:
    var = _variance(t, x, dims, 1 if correction is None else correction, keepdim)
    return var, t.reduce("ReduceMean", x, dims, keepdim)


def _var_arguments(x: Value, dims: Any, unbiased: Any, correction: Any) -> tuple[Value, Any, Any]:
    # The overload without dims has `unbiased` in their place.
    if isinstance(dims, bool):
        dims, unbiased = None, dims
    return x, dims, (int(bool(unbiased)) if correction is None else correction)


@aten("linalg_vector_norm")
def _(t: Translation, x: Value, order: Any = 2, dims: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    x = t.cast(x, t.out_dtype)
    if narrow_float(t.dtype(x)):    # whose powers overflow
        return t.cast(_norm(t, t.cast(x, dtypes.FLOAT), order, dims, keepdim), t.dtype(x))
    return _norm(t, x, order, dims, keepdim)


def _norm(t: Translation, x: Value, order: Any, dims: Any, keepdim: bool) -> Value:
    if order == 2:
        return t.reduce("ReduceL2", x, dims, keepdim)
    if order == 1:
        return t.reduce("ReduceL1", x, dims, keepdim)
    size = t.b.Abs(x)
    if order == float("inf"):
        return t.reduce("ReduceMax", size, dims, keepdim)
    if order == float("-inf"):
        return t.reduce("ReduceMin", size, dims, keepdim)
    if order == 0:
        return t.reduce("ReduceSum", t.cast(t.b.Greater(size, t.scalar(0, x)), t.dtype(x)), dims, keepdim)
    total = t.reduce("ReduceSum", t.b.Pow(size, t.scalar(order, x)), dims, keepdim)
    return t.b.Pow(total, t.scalar(1 / order, x))


@aten("cumsum")
def _(t: Translation, x: Value, dim: int, *, dtype: Any = None) -> Value:
    x = t.cast(x, t.out_dtype)
    if t.rank(x) == 0:
        return x
    narrow = t.out_dtype in (dtypes.INT8, dtypes.INT16, dtypes.UINT8)
    if narrow:
        x = t.cast(x, dtypes.INT32)
    made = t.b.CumSum(x, t.constant(t.axis(dim, t.rank(x)), dtypes.INT64))
    return t.cast(made, t.out_dtype)


@aten("topk")
def _(t: Translation, x: Value, k: Any, dim: int = -1, largest: bool = True, sorted: bool = True
      ) -> tuple[Value, Value]:
    if t.rank(x) == 0:
        return x, t.constant(0, dtypes.INT64)
    return _top(t, x, k, t.axis(dim, t.rank(x)), largest)


def _top(t: Translation, x: Value, k: Any, axis: int, largest: bool) -> tuple[Value, Value]:
    values, places = t.b.TopK(sortable(t, x), t.sizes.vector([k]), axis=axis, largest=int(largest), sorted=1, outputs=2)
    return t.cast(values, t.dtype(x)), places


@aten("sort", "sort.stable")
def _(t: Translation, x: Value, *arguments: Any, stable: Any = None, dim: int = -1, descending: bool = False
      ) -> tuple[Value, Value]:
    if arguments:
        dim, descending = arguments[0], arguments[1] if len(arguments) > 1 else descending
    if t.rank(x) == 0:
        return x, t.constant(0, dtypes.INT64)
    axis = t.axis(dim, t.rank(x))
    return _top(t, x, t.shape(x)[axis], axis, descending)


@aten("argsort", "argsort.stable")
def _(t: Translation, x: Value, *arguments: Any, stable: bool = False, dim: int = -1, descending: bool = False
      ) -> Value:
    if arguments:
        dim, descending = arguments[0], arguments[1] if len(arguments) > 1 else descending
    if t.rank(x) == 0:
        return t.constant(0, dtypes.INT64)
    axis = t.axis(dim, t.rank(x))
    return _top(t, x, t.shape(x)[axis], axis, descending)[1]
