"""Pooling: a window slides over the spatial axes of (N,C,*) and leaves one number of each place.

Where windows lie is told in `ops.windows`. Padding counts as nothing: it is below everything for a maximum and no
element of an average, unless `count_include_pad` says so; then it is zeros. What a window sees behind the padded end
(only under `ceil_mode`) never counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.ir import DimLike
from gesher.ir.types import print_shape
from gesher.primitives import Builder, Expr
from gesher.symbolic import maximum

from ..arithmetic import computed, lowered, widen
from ..rules import InferNode, Run
from ..schema import BF16, FLOATS, REQUIRED, Attr, Input, Output, op, tensors
from ..windows import Windows, lay, pairs, whole

INT64 = tensors("int64")
BYTES = tensors("int8 uint8")

_AT = (Attr("auto_pad", "string", "NOTSET"), Attr("kernel_shape", "ints", REQUIRED), Attr("strides", "ints"),
       Attr("pads", "ints"))
_CEIL, _DILATIONS = Attr("ceil_mode", "int", 0), Attr("dilations", "ints")

MaxPool = (op("MaxPool", Input("X"), Output("Y"), *_AT, T=FLOATS)
           .since(8, Output("Indices", "I", optional=True), Attr("storage_order", "int", 0), I=INT64)
           .since(10, _CEIL, _DILATIONS)
           .since(11)
           .since(12, T=FLOATS | BYTES)
           .since(22, T=FLOATS | BYTES | BF16))

AveragePool = (op("AveragePool", Input("X"), Output("Y"), *_AT, T=FLOATS)
               .since(7, Attr("count_include_pad", "int", 0))
               .since(10, _CEIL)
               .since(11)
               .since(19, _DILATIONS)
               .since(22, T=FLOATS | BF16))

LpPool = (op("LpPool", Input("X"), Output("Y"), *_AT[:1], Attr("kernel_shape", "ints"), *_AT[2:],
             Attr("p", "float", 2.0), T=FLOATS)
          .since(2, Attr("p", "int", 2), Attr("kernel_shape", "ints", REQUIRED), behaviour="p is an integer")
          .since(11)
          .since(18, _CEIL, _DILATIONS)
          .since(22, T=FLOATS | BF16))

GlobalAveragePool = op("GlobalAveragePool", Input("X"), Output("Y"), T=FLOATS).since(22, T=FLOATS | BF16)
GlobalMaxPool = op("GlobalMaxPool", Input("X"), Output("Y"), T=FLOATS).since(22, T=FLOATS | BF16)
GlobalLpPool = (op("GlobalLpPool", Input("X"), Output("Y"), Attr("p", "float", 2.0), T=FLOATS)
                .since(2, Attr("p", "int", 2), behaviour="p is an integer")
                .since(22, T=FLOATS | BF16))


# Inference

def _infer_pool(node: InferNode) -> None:
    x = node.shape(0)
    kernel = node["kernel_shape"]
    if not kernel:
        node.fail("it needs kernel_shape")
    written = node.schema.attributes
    if x is None:
        shape: tuple[DimLike | None, ...] = (None,) * (len(kernel) + 2)
    else:
        if len(x) < 3:
            node.fail(f"x has a batch, channels and at least one spatial axis, not {print_shape(x)}")
        try:
            at = lay(x[2:], kernel, strides=node["strides"], pads=node["pads"], auto_pad=node["auto_pad"],
                     dilations=node["dilations"] if "dilations" in written else None,
                     ceil_mode=node["ceil_mode"] if "ceil_mode" in written else 0)
        except ModelError as e:
            node.fail(e.what, e.advice)
        shape = (*x[:2], *at.counts)
    node.set(0, node.dtype(0), shape, why="the shape of x is unknown")
    node.set(1, dtypes.INT64, shape, why="the shape of x is unknown")


def _infer_global(node: InferNode) -> None:
    x = node.shape(0)
    if x is not None and len(x) < 2:
        node.fail(f"x has at least a batch and channels, not {print_shape(x)}")
    node.set(0, node.dtype(0), None if x is None else (*x[:2], *(1,) * (len(x) - 2)))


for _o in (MaxPool, AveragePool, LpPool):
    _o.infer(_infer_pool)
for _o in (GlobalAveragePool, GlobalMaxPool, GlobalLpPool):
    _o.infer(_infer_global)


# Reference

def _lay(x: Any, kernel_shape: Any, at: dict[str, Any]) -> Windows:
    if not kernel_shape:
        raise ModelError("LpPool: it needs kernel_shape", rule="windows")
    return lay(x.shape[2:], kernel_shape, **at)


def _seen(x: Any, at: Windows, padding: Any) -> Iterator[Any]:
    """What each tap sees of x, one element a window, in row-major order of the taps."""
    padded: Any = np.pad(x, [(0, 0), (0, 0), *pairs(at.filled)], constant_values=padding)
    return (padded[(..., *at.slices(tap))] for tap in at.taps())


def _flat_index(shape: tuple[int, ...], storage_order: int) -> Any:
    """The place of each element in memory; `storage_order` 1 lays the spatial axes out in column-major order."""
    spatial = shape[2:]
    within = np.arange(math.prod(spatial)).reshape(spatial[::-1] if storage_order else spatial)
    within = within.transpose() if storage_order else within
    rows = np.arange(math.prod(shape[:2])).reshape(*shape[:2], *(1,) * len(spatial))
    return rows * math.prod(spatial) + within


@MaxPool.reference
def max_pool(x: Any, *, kernel_shape: Any, storage_order: int = 0, run: Run | None = None, **at: Any) -> Any:
    laid = _lay(x, kernel_shape, at)
    low = -np.inf if dtypes.from_numpy(x.dtype).is_float else np.iinfo(x.dtype).min
    dtype, x = x.dtype, widen(x)
    y: Any = None
    if run is None or not (len(run.wanted) > 1 and run.wanted[1]):
        for seen in _seen(x, laid, low):
            y = seen if y is None else np.maximum(y, seen)
        return y.astype(dtype)
    places: Any = None
    for seen, place in zip(_seen(x, laid, low), _seen(_flat_index(x.shape, storage_order), laid, -1)):
        if y is None:
            y, places = seen.copy(), place.copy()
            continue
        # The first of equals wins, a number over padding, NaN over all.
        better = (seen > y) | ((places < 0) & (place >= 0)) | ((seen != seen) & (y == y))
        y[better], places[better] = seen[better], place[better]
    return y.astype(dtype), places.astype(np.int64)


def _count(at: Windows, include_pad: int) -> Any:
    """How many elements each window averages over, shaped as the spatial axes of the output."""
    count: Any = np.ones((), np.float32)
    for i, (size, (low, high)) in enumerate(zip(whole(at.sizes), pairs(at.pads))):
        first = np.arange(whole(at.counts)[i])[:, None] * at.strides[i] - low
        place = first + np.arange(whole(at.kernel)[i]) * at.dilations[i]  # (windows, taps)
        start, stop = (-low, size + high) if include_pad else (0, size)
        count = np.multiply.outer(count, ((place >= start) & (place < stop)).sum(1, dtype=np.float32))
    return count


def windows_summed(x: Any, *, kernel_shape: Any, count_include_pad: int = 0, **at: Any) -> tuple[Any, Any]:
    """The sum of every window, and how many elements it averages over (float32, of the spatial shape)."""
    laid = _lay(x, kernel_shape, at)
    return sum(_seen(x, laid, 0)), _count(laid, count_include_pad)


@computed
def average_pool(x: Any, **at: Any) -> Any:
    summed, count = windows_summed(x, **at)
    return summed / count.astype(x.dtype)


@computed
def lp_pool(x: Any, *, kernel_shape: Any, p: float, **at: Any) -> Any:
    return sum(np.abs(seen) ** p for seen in _seen(x, _lay(x, kernel_shape, at), 0)) ** (1 / p)


def _spatial(x: Any) -> tuple[int, ...]:
    return tuple(range(2, len(x.shape)))


@computed
def global_average_pool(x: Any) -> Any:
    return x.mean(_spatial(x), keepdims=True)


@computed
def global_max_pool(x: Any) -> Any:
    return x.max(_spatial(x), keepdims=True)


@computed
def global_lp_pool(x: Any, *, p: float) -> Any:
    return (np.abs(x) ** p).sum(_spatial(x), keepdims=True) ** (1 / p)


AveragePool.reference(average_pool)
LpPool.reference(lp_pool)
GlobalAveragePool.reference(global_average_pool)
GlobalMaxPool.reference(global_max_pool)
GlobalLpPool.reference(global_lp_pool)


# Lowering

def _window(p: Builder, x: Expr, op_: str, at: Windows) -> Expr:
    # Where nothing hangs over, the written pads give the same windows and a shape in fewer words.
    floor = all(n == (size + low + high - reach) // s + 1 for n, size, (low, high), reach, s in
                zip(at.counts, at.sizes, at.pads, at.reach, at.strides))
    y = p.window(x, op_, whole(at.kernel), at.strides, at.pads if floor else at.filled, at.dilations)
    return p.hold(p.reshape(y, (*x.shape[:2], *at.counts)), "pooling", *at.demands)


@MaxPool.lower
def _(p: Builder, x: Expr, *, kernel_shape: Any, storage_order: int = 0, **at: Any) -> Any:
    laid = _lay(x, kernel_shape, at)
    y = _window(p, x, "max", laid)
    return (y, _max_places(p, x, y, laid, storage_order)) if p.outputs > 1 else y


def _max_places(p: Builder, x: Expr, y: Expr, at: Windows, storage_order: int) -> Expr:
    """Where each maximum stands in memory: of all taps that see it, the first."""
    rows: DimLike = 1
    place: Expr | None = None
    axes = (*range(2, x.rank), 1, 0) if storage_order else range(x.rank - 1, -1, -1)
    for axis in axes:
        term = p.iota(x.shape, axis) * p.size(rows)
        place = term if place is None else place + term
        rows = rows * x.shape[axis]
    assert place is not None
    low, high = zip(*at.filled)
    place = p.pad(place, (0, 0, *low), (0, 0, *high), -1)
    padded = p.pad(x, (0, 0, *low), (0, 0, *high), 0)
    found = p.full(y.shape, -1, dtypes.INT64)
    for tap in reversed(list(at.taps())):
        starts = [t * d for t, d in zip(tap, at.dilations)]
        stops = [start + s * (n - 1) + 1 for start, s, n in zip(starts, at.strides, at.counts)]
        cut = ([0, 0, *starts], [*x.shape[:2], *stops], [1, 1, *at.strides])
        seen, here = (p.reshape(p.slice(e, *cut), y.shape) for e in (padded, place))
        is_max = p.eq(seen, y)
        if x.dtype.is_float:
            is_max = p.or_(is_max, p.and_(p.is_nan(seen), p.is_nan(y)))
        found = p.select(p.and_(is_max, p.ge(here, 0)), here, found)
    return found


def windows_summed_expr(p: Builder, x: Expr, *, kernel_shape: Any, count_include_pad: int = 0, **at: Any
                        ) -> tuple[Expr, Expr]:
    """As `windows_summed`, of expressions."""
    laid = _lay(x, kernel_shape, at)
    y = _window(p, x, "sum", laid)
    if _all_known(laid):
        return y, p.constant(np.broadcast_to(_count(laid, count_include_pad), whole(laid.counts)))
    box, boxes = _boxes(p, laid, count_include_pad, dtypes.FLOAT, x.rank)
    return y, p.scalar(box, dtypes.FLOAT) if boxes is None else boxes * box


def _all_known(laid: Windows) -> bool:
    return all(isinstance(d, int) for d in (*laid.sizes, *laid.counts))


def _boxes(p: Builder, laid: Windows, include_pad: int, dtype: dtypes.DType, rank: int) -> tuple[float, Expr | None]:
    """How many elements the windows count, axis by axis: a factor of all, and one of each place (None: 1)."""
    box, boxes = 1.0, None
    for i, (size, (low, high), (_, filled)) in enumerate(zip(laid.sizes, laid.pads, laid.filled)):
        k, s, d = whole(laid.kernel)[i], laid.strides[i], laid.dilations[i]
        n, reach = laid.counts[i], laid.reach[i]
        all_counts = low == filled == 0 if not include_pad else n == (size + low + high - reach) // s + 1
        if all_counts:
            box *= k
            continue
        counted = size + low + high if include_pad else size
        around = (0, maximum(filled - high, 0)) if include_pad else (low, filled)
        count = p.window(p.full((counted,), 1, dtype), "sum", [k], [s], [around], [d])
        # Windows that start in the padding behind have been left out, those counted here not.
        along = p.reshape(p.take(count, 0, 0, n), (n, *(1,) * (rank - 3 - i)))
        boxes = along if boxes is None else boxes * along
    return box, boxes


@AveragePool.lower
@lowered
def _(p: Builder, x: Expr, *, kernel_shape: Any, count_include_pad: int = 0, **at: Any) -> Expr:
    laid = _lay(x, kernel_shape, at)
    y = _window(p, x, "sum", laid)
    if _all_known(laid) and x.dtype is not dtypes.DOUBLE:
        # A quotient a place, not one a channel: divisions cost ten times what products do.
        counts = np.broadcast_to(_count(laid, count_include_pad), whole(laid.counts))
        return y * p.constant((1 / counts.astype(np.float64)).astype(np.float32))
    # The windows of a box are counted axis by axis, and their sum divided once.
    box, boxes = _boxes(p, laid, count_include_pad, x.dtype, x.rank)
    return y / box if boxes is None else y / (boxes if box == 1 else boxes * box)


def _power(p: Builder, x: Expr, exponent: float) -> Expr:
    if exponent == 1:
        return x
    return x * x if exponent == 2 else p.sqrt(x) if exponent == 0.5 else p.pow(x, float(exponent))


@LpPool.lower
@lowered
def _(builder: Builder, x: Expr, *, kernel_shape: Any, p: float, **at: Any) -> Expr:
    summed = _window(builder, _power(builder, builder.abs(x), p), "sum", _lay(x, kernel_shape, at))
    return _power(builder, summed, 1 / p)


@GlobalAveragePool.lower
@lowered
def _(p: Builder, x: Expr) -> Expr:
    return p.mean(x, _spatial(x), keepdims=True)


@GlobalMaxPool.lower
def _(p: Builder, x: Expr) -> Expr:
    y = p.amax(x, _spatial(x), keepdims=True)
    return p.hold(y, "the largest of a plane", *(("most", 1, x.shape[a]) for a in _spatial(x)))


@GlobalLpPool.lower
@lowered
def _(builder: Builder, x: Expr, *, p: float) -> Expr:
    return _power(builder, builder.sum(_power(builder, builder.abs(x), p), _spatial(x), keepdims=True), 1 / p)
