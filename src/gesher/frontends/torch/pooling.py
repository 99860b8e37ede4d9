"""Pools: the largest or the average of windows, of fixed sizes, of sizes that divide an axis into so many, or drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import DimLike, Value

from .layers import each_axis
from .strides import count
from .translation import Translation, aten


def _batched(t: Translation, x: Value, spatial: int) -> tuple[Value, bool]:
    single = t.rank(x) == spatial + 1
    return (t.unsqueeze(x, [0]) if single else x), single


def _max_pool(t: Translation, x: Value, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool,
              spatial: int, indices: bool) -> Any:
    x, single = _batched(t, x, spatial)
    size = each_axis(kernel, spatial)
    strides = each_axis(stride, spatial) if not isinstance(stride, (list, tuple)) or len(stride) else size
    made = t.b.MaxPool(x, kernel_shape=size, strides=strides, pads=each_axis(padding, spatial) * 2,
                       dilations=each_axis(dilation, spatial), ceil_mode=int(ceil), outputs=2 if indices else 1)
    if not indices:
        return t.squeeze(made, [0]) if single else made
    y, where = made
    # ONNX counts over the whole tensor, PyTorch over one picture.
    shape = t.shape(x)
    area: Any = 1
    for d in shape[2:]:
        area = area * d
    where = t.b.Mod(where, t.value(area, dtypes.INT64))
    return (t.squeeze(y, [0]), t.squeeze(where, [0])) if single else (y, where)


@aten("max_pool1d")
def _(t: Translation, x: Value, k: Any, s: Any = (), p: Any = 0, d: Any = 1, ceil: bool = False) -> Value:
    return _max_pool(t, x, k, s, p, d, ceil, 1, False)


@aten("max_pool2d")
def _(t: Translation, x: Value, k: Any, s: Any = (), p: Any = 0, d: Any = 1, ceil: bool = False) -> Value:
    return _max_pool(t, x, k, s, p, d, ceil, 2, False)


@aten("max_pool3d")
def _(t: Translation, x: Value, k: Any, s: Any = (), p: Any = 0, d: Any = 1, ceil: bool = False) -> Value:
    return _max_pool(t, x, k, s, p, d, ceil, 3, False)


@aten("max_pool1d_with_indices")
def _(t: Translation, x: Value, k: Any, s: Any = (), p: Any = 0, d: Any = 1, ceil: bool = False) -> Any:
    return _max_pool(t, x, k, s, p, d, ceil, 1, True)


@aten("max_pool2d_with_indices")
def _(t: Translation, x: Value, k: Any, s: Any = (), p: Any = 0, d: Any = 1, ceil: bool = False) -> Any:
    return _max_pool(t, x, k, s, p, d, ceil, 2, True)


@aten("max_pool3d_with_indices")
def _(t: Translation, x: Value, k: Any, s: Any = (), p: Any = 0, d: Any = 1, ceil: bool = False) -> Any:
    return _max_pool(t, x, k, s, p, d, ceil, 3, True)


def _average_pool(t: Translation, x: Value, kernel: Any, stride: Any, padding: Any, ceil: bool, count_pads: bool,
                  divisor: int | None, spatial: int) -> Value:
    x, single = _batched(t, x, spatial)
    size = each_axis(kernel, spatial)
    strides = each_axis(stride, spatial) if not isinstance(stride, (list, tuple)) or len(stride) else size
    pads = each_axis(padding, spatial)
    if not ceil and divisor is None:
        y = t.b.AveragePool(x, kernel_shape=size, strides=strides, pads=pads * 2, count_include_pad=int(count_pads))
        return t.squeeze(y, [0]) if single else y
    # Sums of windows, as averages times their size: zeros are put around by hand, with as many more behind as the last
    # window may want, and what PyTorch does not count is cut off again.
    rank = t.rank(x)
    out = t.out_shape if not single else (1, *t.out_shape)
    more = [s - 1 if ceil else 0 for s in strides]
    around = [0, 0, *pads, 0, 0, *(p + m for p, m in zip(pads, more))]

    def sums(v: Value, margin: Sequence[int]) -> Value:
        v = t.b.Pad(v, t.ints(margin), t.scalar(0, v)) if any(margin) else v
        mean = t.b.AveragePool(v, kernel_shape=size, strides=strides)
        for axis in range(2, rank):
            if more[axis - 2]:
                mean = t.slice(mean, axis, 0, out[axis])
        return t.b.Mul(mean, t.scalar(math.prod(size), mean))

    total = sums(x, around)
    if divisor is not None:
        y = t.b.Div(total, t.scalar(divisor, total))
    else:
        # How many places of each window count: those of the picture, with its margin or without, along each axis.
        ones = t.expand(t.scalar(1, x), (1, 1, *t.shape(x)[2:]))
        if count_pads and any(pads):
            inner = [0, 0, *pads, 0, 0, *pads]
            ones = t.b.Pad(ones, t.ints(inner), t.scalar(1, x))
            around = [0, 0, *[0] * spatial, 0, 0, *more]
        y = t.b.Div(total, sums(ones, around))
    return t.squeeze(y, [0]) if single else y


@aten("avg_pool1d")
def _(t: Translation, x: Value, k: Any, s: Any = (), p: Any = 0, ceil: bool = False, count: bool = True) -> Value:
    return _average_pool(t, x, k, s, p, ceil, count, None, 1)


@aten("avg_pool2d")
def _(t: Translation, x: Value, k: Any, s: Any = (), p: Any = 0, ceil: bool = False, count: bool = True,
      divisor: int | None = None) -> Value:
    return _average_pool(t, x, k, s, p, ceil, count, divisor, 2)


@aten("avg_pool3d")
def _(t: Translation, x: Value, k: Any, s: Any = (), p: Any = 0, ceil: bool = False, count: bool = True,
      divisor: int | None = None) -> Value:
    return _average_pool(t, x, k, s, p, ceil, count, divisor, 3)


def _adaptive(t: Translation, x: Value, size: Any, spatial: int, average: bool) -> Value:
    x, single = _batched(t, x, spatial)
    wanted = each_axis(size, spatial)
    have = t.shape(x)[2:]
    if all(w == 1 for w in wanted):
        y = t.b.GlobalAveragePool(x) if average else t.b.GlobalMaxPool(x)
    else:
        y = x
        for i in range(spatial):
            y = _adaptive_axis(t, y, 2 + i, have[i], wanted[i], average)
    return t.squeeze(y, [0]) if single else y


def _edges(have: int, want: int) -> list[tuple[int, int]]:
    """Window i of one axis goes from floor(i n / w) to ceil((i + 1) n / w)."""
    return [(i * have // want, -(-(i + 1) * have // want)) for i in range(want)]


def _inside(t: Translation, have: DimLike, want: DimLike) -> tuple[Value, Value]:
    """Which places each window holds, (have, want), and how many, (want): for sizes known when running."""
    first, n, w = count(t, want), t.value(have, dtypes.INT64), t.value(want, dtypes.INT64)
    low = t.b.Div(t.b.Mul(first, n), w)
    high = t.b.Div(t.b.Add(t.b.Mul(t.b.Add(first, t.constant(1, dtypes.INT64)), n),
                           t.b.Sub(w, t.constant(1, dtypes.INT64))), w)
    each = t.unsqueeze(count(t, have), [1])
    return t.b.And(t.b.GreaterOrEqual(each, low), t.b.Less(each, high)), t.b.Sub(high, low)


def _adaptive_axis(t: Translation, x: Value, axis: int, have: Any, want: Any, average: bool) -> Value:
    """One axis cut into `want` windows: an average is a product with a matrix."""
    if type(have) is type(want) and have == want:
        return x
    if not average:
        return _largest_of(t, x, None, axis, have, want)[0]
    if isinstance(have, int) and isinstance(want, int):
        weights = np.zeros((have, want))
        for i, (a, b) in enumerate(_edges(have, want)):
            weights[a:b, i] = 1 / (b - a)
        matrix = t.constant(weights, t.dtype(x))
    else:
        inside, many = _inside(t, have, want)
        matrix = t.b.Div(t.cast(inside, t.dtype(x)), t.cast(many, t.dtype(x)))
    rank = t.rank(x)
    perm = [*(i for i in range(rank) if i != axis), axis]
    y = t.b.MatMul(t.transpose(x, perm), matrix)
    return t.transpose(y, [perm.index(i) for i in range(rank)])


def _largest_of(t: Translation, x: Value, where: Value | None, axis: int, have: Any, want: Any
                ) -> tuple[Value, Value]:
    """The largest of each window along one axis, and its place, or what `where` says there; the first of equal ones."""
    rank = t.rank(x)
    if isinstance(have, int) and isinstance(want, int):
        values, places_found = [], []
        for a, b in _edges(have, want):
            part = t.slice(x, axis, a, b)
            at = t.b.ArgMax(part, axis=axis, keepdims=1)
            values.append(t.reduce("ReduceMax", part, [axis], True))
            places_found.append(t.b.Add(at, t.constant(a, dtypes.INT64)) if where is None else
                                t.b.GatherElements(t.slice(where, axis, a, b), at, axis=axis))
        return t.b.Concat(*values, axis=axis), t.b.Concat(*places_found, axis=axis)
    inside, _ = _inside(t, have, want)
    perm = [*(i for i in range(rank) if i != axis), axis]
    back = [perm.index(i) for i in range(rank)]
    line = t.unsqueeze(t.transpose(x, perm), [rank - 1])
    seen = t.b.Where(t.transpose(inside, [1, 0]), line, t.scalar(-math.inf, line))    # (..., want, have)
    at = t.b.ArgMax(seen, axis=rank, keepdims=0)
    value = t.reduce("ReduceMax", seen, [rank], False)
    if where is not None:
        at = t.b.GatherElements(t.transpose(where, perm), at, axis=rank - 1)
    return t.transpose(value, back), t.transpose(at, back)


def _adaptive_max(t: Translation, x: Value, size: Any, spatial: int) -> tuple[Value, Value]:
    x, single = _batched(t, x, spatial)
    wanted = [w if w is not None else h for w, h in zip(each_axis(size, spatial), t.shape(x)[2:])]
    have = t.shape(x)[2:]
    # From the last axis on, so that of equal ones the first in the order of memory is told.
    value, where = x, None
    after: Any = 1
    for i in reversed(range(spatial)):
        axis = 2 + i
        if where is None:
            value, where = _largest_of(t, value, None, axis, have[i], wanted[i])
        else:
            rows = t.b.Mul(count(t, have[i]), t.value(after, dtypes.INT64))
            flat = t.b.Add(t.unsqueeze(rows, range(1, t.rank(value) - axis)), where)
            value, where = _largest_of(t, value, flat, axis, have[i], wanted[i])
        after = after * have[i]
    assert where is not None
    return (t.squeeze(value, [0]), t.squeeze(where, [0])) if single else (value, where)


@aten("adaptive_max_pool1d")
def _(t: Translation, x: Value, size: Any) -> tuple[Value, Value]:
    return _adaptive_max(t, x, size, 1)


@aten("adaptive_max_pool2d")
def _(t: Translation, x: Value, size: Any) -> tuple[Value, Value]:
    return _adaptive_max(t, x, size, 2)


@aten("adaptive_max_pool3d")
def _(t: Translation, x: Value, size: Any) -> tuple[Value, Value]:
    return _adaptive_max(t, x, size, 3)


@aten("adaptive_avg_pool1d")
def _(t: Translation, x: Value, size: Any) -> Value:
    return _adaptive(t, x, size, 1, True)


@aten("adaptive_avg_pool2d", "_adaptive_avg_pool2d")
def _(t: Translation, x: Value, size: Any) -> Value:
    return _adaptive(t, x, size, 2, True)


@aten("adaptive_avg_pool3d", "_adaptive_avg_pool3d")
def _(t: Translation, x: Value, size: Any) -> Value:
    return _adaptive(t, x, size, 3, True)


def _fractional(t: Translation, x: Value, kernel: Any, out: Any, samples: Value, spatial: int) -> tuple[Value, Value]:
    """Windows whose places the samples (n, c, axes) move: Graham 2014, as PyTorch rounds them."""
    x, single = _batched(t, x, spatial)
    size, wanted, shape = each_axis(kernel, spatial), each_axis(out, spatial), t.shape(x)
    samples = t.cast(samples, t.dtype(x))
    if single and t.rank(samples) == 2:
        samples = t.unsqueeze(samples, [0])
    lead = shape[:2]
    value, flat = x, None
    for i in range(spatial):
        axis, n = 2 + i, shape[2 + i]
        # PyTorch draws in the order of width, height for pictures, and of time, height, width for volumes.
        which = spatial - 1 - i if spatial == 2 else i
        share = t.slice(samples, 2, which, which + 1)    # (n, c, 1)
        starts: Value
        if wanted[i] == 1:
            starts = t.expand(t.value(n - size[i], dtypes.INT64), (*lead, 1))
        else:
            step = t.b.Div(t.value(n - size[i], t.dtype(x)), t.scalar(wanted[i] - 1, x))
            number = t.constant(np.arange(wanted[i]), t.dtype(x))
            moved = t.cast(t.b.Mul(t.b.Add(number, share), step), dtypes.INT64)
            starts = t.b.Sub(moved, t.cast(t.b.Mul(share, step), dtypes.INT64))
            last = t.expand(t.value(n - size[i], dtypes.INT64), (*lead, 1))
            starts = t.b.Concat(t.slice(starts, 2, 0, wanted[i] - 1), last, axis=2)
        window = t.b.Add(t.unsqueeze(starts, [3]), t.constant(np.arange(size[i]), dtypes.INT64))
        index = t.reshape(window, (*lead, wanted[i] * size[i]))
        spread = t.unsqueeze(index, [*range(2, axis), *range(axis + 1, 2 + spatial)])
        now = t.shape(value)
        value = t.b.GatherElements(value, t.expand(spread, (*now[:axis], wanted[i] * size[i], *now[axis + 1:])),
                                   axis=axis)
        here = t.unsqueeze(t.reshape(index, (*lead, wanted[i], size[i])), [
            2 + j for j in range(2 * spatial) if j not in (2 * i, 2 * i + 1)])
        flat = here if flat is None else t.b.Add(t.b.Mul(flat, t.value(n, dtypes.INT64)), here)
    assert flat is not None
    cut = [d for w, k in zip(wanted, size) for d in (w, k)]
    order = [0, 1, *range(2, 2 + 2 * spatial, 2), *range(3, 3 + 2 * spatial, 2)]
    area = math.prod(size)
    windows = t.reshape(t.transpose(t.reshape(value, (*lead, *cut)), order), (*lead, *wanted, area))
    flat = t.reshape(t.transpose(t.expand(flat, (*lead, *cut)), order), (*lead, *wanted, area))
    rank = 2 + spatial
    at = t.b.ArgMax(windows, axis=rank, keepdims=1)
    y = t.reduce("ReduceMax", windows, [rank], False)
    where = t.squeeze(t.b.GatherElements(flat, at, axis=rank), [rank])
    return (t.squeeze(y, [0]), t.squeeze(where, [0])) if single else (y, where)


@aten("fractional_max_pool2d")
def _(t: Translation, x: Value, kernel: Any, out: Any, samples: Value) -> tuple[Value, Value]:
    return _fractional(t, x, kernel, out, samples, 2)


@aten("fractional_max_pool3d")
def _(t: Translation, x: Value, kernel: Any, out: Any, samples: Value) -> tuple[Value, Value]:
    return _fractional(t, x, kernel, out, samples, 3)
