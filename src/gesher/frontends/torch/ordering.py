"""Order and counting: running extremes and products, medians, modes, unique elements, histograms, sorted rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import UnsupportedError
from gesher.ir import Tensor, Value
from gesher.ops.build import Builder

from .translation import Translation, aten, narrow_float

# Running


def _running(t: Translation, x: Value, dim: int, starts: list[tuple[DType, Any]], step: Any, several: bool = False
             ) -> Any:
    """A Scan along one axis: `step(b, states, slice, place)` gives the next states, of which all are collected.

    Args:
        starts: the type and first number of each state.
        several: whether to hand out all collected states, or the first alone.
    """
    axis, shape = t.axis(dim, t.rank(x)), t.shape(x)
    rest = [s for i, s in enumerate(shape) if i != axis]
    vector = t.sizes.vector(rest) if rest else t.ints([])
    initial = [t.b.ConstantOfShape(vector, value=Tensor.of(np.array([n]).astype(d.numpy))) for d, n in starts]
    places = t.b.Range(t.constant(0, dtypes.INT64), t.value(shape[axis], dtypes.INT64), t.constant(1, dtypes.INT64))
    inputs = [(f"state_{i}", d, rest) for i, (d, _) in enumerate(starts)]
    body: Builder = t.b.subgraph("running", [*inputs, ("slice", t.dtype(x), rest), ("place", dtypes.INT64, [])])
    *states, part, place = body.graph.inputs
    after = step(body, states, part, place)
    for v in (*after, *(body.Identity(v) for v in after)):
        body.output(v)
    made = t.b.op("Scan", *initial, x, places, body=body, num_scan_inputs=2, scan_input_axes=[axis, 0],
                  scan_output_axes=[axis] * len(starts), outputs=2 * len(starts))
    collected = made[len(starts):]
    return collected if several else collected[0]


def _running_extreme(t: Translation, x: Value, dim: int, better: str) -> tuple[Value, Value]:
    if t.rank(x) == 0:
        return x, t.constant(0, dtypes.INT64)
    if 0 in t.shape(x):
        return x, t.expand(t.constant(0, dtypes.INT64), t.shape(x))
    dtype = t.dtype(x)
    wide = dtype if dtype.is_float or dtype in (dtypes.INT32, dtypes.INT64) else dtypes.INT32
    far = math.inf if wide.is_float else np.iinfo(wide.numpy).max
    start = -far if better == "GreaterOrEqual" else far

    def step(b: Builder, states: Any, part: Value, place: Value) -> list[Value]:
        best, at = states
        # The last of equal ones is told; NaN, once met, stays.
        new = b.op(better, part, best)
        if wide.is_float:
            new = b.Or(b.And(new, b.Not(b.IsNaN(best))), b.IsNaN(part))
        return [b.Where(new, part, best), b.Where(new, place, at)]

    values, places = _running(t, t.cast(x, wide), dim, [(wide, start), (dtypes.INT64, 0)], step, several=True)
    return t.cast(values, dtype), places


@aten("cummax")
def _(t: Translation, x: Value, dim: int) -> tuple[Value, Value]:
    return _running_extreme(t, x, dim, "GreaterOrEqual")


@aten("cummin")
def _(t: Translation, x: Value, dim: int) -> tuple[Value, Value]:
    return _running_extreme(t, x, dim, "LessOrEqual")


@aten("cumprod")
def _(t: Translation, x: Value, dim: int, *, dtype: Any = None) -> Value:
    x = t.cast(x, t.out_dtype)
    if t.rank(x) == 0 or 0 in t.shape(x):
        return x
    return _running(t, x, dim, [(t.out_dtype, 1)], lambda b, s, part, _: [b.Mul(s[0], part)])


@aten("logcumsumexp")
def _(t: Translation, x: Value, dim: int) -> Value:
    if t.rank(x) == 0 or 0 in t.shape(x):
        return x

    def step(b: Builder, states: Any, part: Value, _: Value) -> list[Value]:
        total = states[0]
        high, low = b.Max(total, part), b.Min(total, part)
        # Equal infinities have no difference.
        gap = b.Where(b.Equal(high, low), 0.0, b.Sub(low, high))
        return [b.Add(high, b.Log(b.Add(b.Exp(gap), 1.0)))]

    return _running(t, x, dim, [(t.dtype(x), -math.inf)], step)


# Sorted

def sortable(t: Translation, x: Value) -> Value:
    """In a type that engines sort: small integers and bools as int32."""
    narrow = (dtypes.BOOL, dtypes.INT8, dtypes.UINT8, dtypes.INT16, dtypes.UINT16)
    return t.cast(x, dtypes.INT32) if t.dtype(x) in narrow else x


def _line(t: Translation, x: Value, dim: int | None) -> tuple[Value, int]:
    """`x` along one axis: a scalar as a vector of one, all of it where no dim is given."""
    if dim is None or t.rank(x) == 0:
        return t.b.Reshape(x, t.ints([-1])), 0
    return x, t.axis(dim, t.rank(x))


def _settled(t: Translation, v: Value, x: Value, axis: int, keepdim: bool) -> Value:
    """One element of an axis, with the axis kept or dropped as the result has it."""
    return v if keepdim and t.rank(x) else t.squeeze(v, [axis])


@aten("kthvalue")
def _(t: Translation, x: Value, k: Any, dim: int = -1, keepdim: bool = False) -> tuple[Value, Value]:
    line, axis = _line(t, x, dim)
    values, places = t.b.TopK(sortable(t, line), t.sizes.vector([k]), axis=axis, largest=0, sorted=1, outputs=2)
    return tuple(_settled(t, t.slice(t.cast(v, d), axis, k - 1, k), x, axis, keepdim)
                 for v, d in ((values, t.dtype(x)), (places, dtypes.INT64)))    # type: ignore[return-value]


def _median(t: Translation, x: Value, dim: int | None, keepdim: bool, skip_nan: bool) -> tuple[Value, Value]:
    """The lower of the middle ones. NaN is larger than all: the median is NaN where one is there, or it is skipped."""
    line, axis = _line(t, x, dim)
    n = t.shape(line)[axis]
    dtype = t.dtype(x)
    nan = t.b.IsNaN(line) if dtype.is_float else None
    plain = sortable(t, line)
    if nan is not None:
        plain = t.b.Where(nan, t.scalar(math.inf, plain), plain)
    values, places = t.b.TopK(plain, t.sizes.vector([n]), axis=axis, largest=0, sorted=1, outputs=2)
    if nan is None or not skip_nan:
        middle: Any = (n - 1) // 2
        value, place = (t.slice(v, axis, middle, middle + 1) for v in (values, places))
    else:
        many = t.reduce("ReduceSum", t.cast(t.b.Not(nan), dtypes.INT64), [axis], True)
        at = t.b.Div(t.b.Max(t.b.Sub(many, t.constant(1, dtypes.INT64)), t.constant(0, dtypes.INT64)),
                     t.constant(2, dtypes.INT64))
        value, place = t.b.GatherElements(values, at, axis=axis), t.b.GatherElements(places, at, axis=axis)
    if nan is not None:
        some = t.cast(nan, dtypes.INT32)
        spoilt = t.cast(t.reduce("ReduceMin" if skip_nan else "ReduceMax", some, [axis], True), dtypes.BOOL)
        value = t.b.Where(spoilt, t.scalar(math.nan, value), value)
        place = t.b.Where(spoilt, t.b.ArgMax(some, axis=axis, keepdims=1), place)
    value = t.cast(value, dtype)
    return _settled(t, value, x, axis, keepdim), _settled(t, place, x, axis, keepdim)


@aten("median")
def _(t: Translation, x: Value) -> Value:
    return _median(t, x, None, False, False)[0]


@aten("median.dim")
def _(t: Translation, x: Value, dim: int, keepdim: bool = False) -> tuple[Value, Value]:
    return _median(t, x, dim, keepdim, False)


@aten("nanmedian")
def _(t: Translation, x: Value) -> Value:
    return _median(t, x, None, False, True)[0]


@aten("nanmedian.dim")
def _(t: Translation, x: Value, dim: int, keepdim: bool = False) -> tuple[Value, Value]:
    return _median(t, x, dim, keepdim, True)


@aten("mode")
def _(t: Translation, x: Value, dim: int = -1, keepdim: bool = False) -> tuple[Value, Value]:
    """The smallest of the most frequent values, and where it stands last."""
    line, axis = _line(t, x, dim)
    rank = t.rank(line)
    last = t.transpose(line, [i for i in range(rank) if i != axis] + [axis])
    plain = sortable(t, last)
    same = t.b.Equal(t.unsqueeze(plain, [rank]), t.unsqueeze(plain, [rank - 1]))
    often = t.reduce("ReduceSum", t.cast(same, dtypes.INT32), [rank], False)
    most = t.b.Equal(often, t.reduce("ReduceMax", often, [rank - 1], True))
    far = math.inf if t.dtype(plain).is_float else np.iinfo(t.dtype(plain).numpy).max
    value = t.reduce("ReduceMin", t.b.Where(most, plain, t.scalar(far, plain)), [rank - 1], True)
    place = t.b.ArgMax(t.cast(t.b.Equal(plain, value), dtypes.INT32), axis=rank - 1, keepdims=1, select_last_index=1)
    back = [*range(axis), rank - 1, *range(axis, rank - 1)]
    value, place = (t.transpose(v, back) for v in (t.cast(value, t.dtype(x)), place))
    return _settled(t, value, x, axis, keepdim), _settled(t, place, x, axis, keepdim)


# Unique

def _nothing(t: Translation) -> Value:
    return t.constant(np.zeros(0), dtypes.INT64)


@aten("_unique2")
def _(t: Translation, x: Value, sorted: bool = True, inverse: bool = False, counts: bool = False) -> tuple[Value, ...]:
    wide = sortable(t, x)
    values, _, places, often = t.b.Unique(wide, sorted=1, outputs=4)
    where = t.reshape(places, t.shape(x)) if inverse else _nothing(t)
    return t.cast(values, t.dtype(x)), where, often if counts else _nothing(t)


@aten("unique_dim")
def _(t: Translation, x: Value, dim: int, sorted: bool = True, inverse: bool = False, counts: bool = False
      ) -> tuple[Value, ...]:
    values, _, places, often = t.b.Unique(sortable(t, x), axis=t.axis(dim, t.rank(x)), sorted=1, outputs=4)
    return t.cast(values, t.dtype(x)), places, often


@aten("unique_consecutive")
def _(t: Translation, x: Value, inverse: bool = False, counts: bool = False, dim: int | None = None
      ) -> tuple[Value, ...]:
    """What differs from its neighbour before it; which run each element is of; how long the runs are."""
    if dim is not None and dim < 0:
        # PyTorch's own shape function forgets to count such a dim from the front.
        raise UnsupportedError(f"torch.export gives unique_consecutive along the dim {dim} a wrong shape", who="torch",
                               advice=f"say {t.rank(x) + dim} instead of {dim}")
    line, axis = _line(t, x, dim)
    plain = sortable(t, line)
    others = [i for i in range(t.rank(line)) if i != axis]
    before, after = t.slice(plain, axis, 0, -1), t.slice(plain, axis, 1, (1 << 63) - 1)
    differs = t.cast(t.b.Not(t.b.Equal(before, after)), dtypes.INT64)
    differs = t.reduce("ReduceMax", differs, others, False) if others else differs
    n = t.shape(line)[axis]
    if n == 0:
        return x, t.constant(np.zeros(tuple(t.shape(x)) if dim is None else 0), dtypes.INT64), _nothing(t)
    starts = t.b.Concat(t.ints([1]), differs, axis=0)
    flags = t.cast(starts, dtypes.BOOL)
    values = t.b.Compress(line, flags, axis=axis)
    run = t.b.Sub(t.b.CumSum(starts, t.constant(0, dtypes.INT64)), t.constant(1, dtypes.INT64))
    where = (t.reshape(run, t.shape(x)) if dim is None else run) if inverse else _nothing(t)
    if not counts:
        return values, where, _nothing(t)
    begins = t.b.Reshape(t.b.NonZero(flags), t.ints([-1]))
    ends = t.b.Concat(t.slice(begins, 0, 1, (1 << 63) - 1), t.sizes.vector([n]), axis=0)
    return values, where, t.b.Sub(ends, begins)


# Counted

def counted(t: Translation, index: Value, weights: Value, bins: Value) -> Value:
    """Sums of weights by bin; (n,) indices below `bins`, a 1-D value of one element."""
    wide = t.cast(weights, dtypes.FLOAT) if narrow_float(t.dtype(weights)) else weights
    zeros = t.b.Expand(t.scalar(0, wide), bins)
    return t.cast(t.b.ScatterElements(zeros, index, wide, axis=0, reduction="add"), t.dtype(weights))


@aten("histc")
def _(t: Translation, x: Value, bins: int = 100, low: Any = 0, high: Any = 0) -> Value:
    flat = t.b.Reshape(x, t.ints([-1]))
    if low == high == 0:
        least, most = (t.reduce(op, flat, None, False) for op in ("ReduceMin", "ReduceMax"))
    else:
        least, most = t.scalar(low, x), t.scalar(high, x)
    # Where there is no width, PyTorch takes one on either side.
    none = t.b.Equal(least, most)
    least, most = (t.b.Where(none, t.b.op(op, v, t.scalar(1, x)), v) for op, v in (("Sub", least), ("Add", most)))
    inside = t.b.And(t.b.GreaterOrEqual(flat, least), t.b.LessOrEqual(flat, most))
    scaled = t.b.Div(t.b.Mul(t.b.Sub(flat, least), t.scalar(bins, x)), t.b.Sub(most, least))
    # What is not counted must be a number before it is cast.
    place = t.cast(t.b.Where(inside, scaled, t.scalar(0, x)), dtypes.INT64)
    place = t.b.Min(place, t.constant(bins - 1, dtypes.INT64))
    return counted(t, place, t.cast(inside, t.dtype(x)), t.ints([bins]))


@aten("bincount")
def _(t: Translation, x: Value, weights: Value | None = None, least: Any = 0) -> Value:
    index = t.cast(x, dtypes.INT64)
    size = t.b.Add(t.reduce("ReduceMax", t.b.Concat(index, t.ints([-1]), axis=0), [0], True), t.ints([1]))
    size = t.b.Max(size, t.sizes.vector([least])) if least != 0 else size
    ones = t.b.Expand(t.constant(1, dtypes.INT64), t.b.Shape(index))
    made = counted(t, index, ones if weights is None else weights, size)
    return t.cast(made, t.out_dtype)


def place(t: Translation, rows: Value, x: Value, right: bool, int32: bool) -> Value:
    """How many of the sorted last axis of `rows` lie before each element: (..., n) and (..., m) to (..., m)."""
    rows, x = t.promoted(rows, x)
    row = t.unsqueeze(rows, [t.rank(rows) - 1])
    below = t.b.op("LessOrEqual" if right else "Less", row, t.unsqueeze(x, [t.rank(x)]))
    made = t.reduce("ReduceSum", t.cast(below, dtypes.INT64), [t.rank(below) - 1], False)
    return t.cast(made, dtypes.INT32) if int32 else made


@aten("searchsorted.Tensor", "searchsorted.Scalar")
def _(t: Translation, rows: Value, x: Any, *, out_int32: bool = False, right: bool = False, side: str | None = None,
      sorter: Value | None = None) -> Value:
    if sorter is not None:
        rows = t.b.GatherElements(rows, sorter, axis=t.rank(rows) - 1)
    scalar = not isinstance(x, Value) or t.rank(x) == 0
    x = t.value(x) if not isinstance(x, Value) else x
    if scalar and t.rank(rows) == 1:
        made = place(t, rows, t.b.Reshape(x, t.ints([1])), right or side == "right", out_int32)
        return t.squeeze(made, [0])
    if t.rank(rows) == 1 and t.rank(x) != 1:
        flat = place(t, rows, t.b.Reshape(x, t.ints([-1])), right or side == "right", out_int32)
        return t.reshape(flat, t.shape(x))
    return place(t, rows, x, right or side == "right", out_int32)


@aten("bucketize.Tensor", "bucketize.Scalar")
def _(t: Translation, x: Any, boundaries: Value, *, out_int32: bool = False, right: bool = False) -> Value:
    x = x if isinstance(x, Value) else t.value(x)
    flat = place(t, boundaries, t.b.Reshape(x, t.ints([-1])), right, out_int32)
    return t.reshape(flat, t.shape(x))
