"""RoiAlign and MaxRoiPool pool regions of interest, each to the same small size.

What a reader would guess wrong: RoiAlign's mode `max` takes the largest *weighted corner* of a sample, not the largest
interpolated value; onnx and ONNX Runtime agree on that. Without half_pixel, a region is at least one element wide.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.ir.types import print_shape
from gesher.primitives import Builder, CannotLower, Expr

from ..arithmetic import wide, widen
from ..places import seen
from ..rules import InferNode
from ..schema import BF16, FLOATS, REQUIRED, Attr, Input, Output, op, tensors

RoiAlign = (op("RoiAlign", Input("X", "T1"), Input("rois", "T1"), Input("batch_indices", "T2"), Output("Y", "T1"),
               Attr("mode", "string", "avg"), Attr("output_height", "int", 1), Attr("output_width", "int", 1),
               Attr("sampling_ratio", "int", 0), Attr("spatial_scale", "float", 1.0), since=10,
               T1=FLOATS, T2=tensors("int64"))
            .since(16, Attr("coordinate_transformation_mode", "string", "half_pixel"),
                   behaviour="coordinates are shifted by half an element unless told")
            .since(22, T1=FLOATS | BF16))

MaxRoiPool = (op("MaxRoiPool", Input("X"), Input("rois"), Output("Y"), Attr("pooled_shape", "ints", REQUIRED),
                 Attr("spatial_scale", "float", 1.0), T=FLOATS)
              .since(22, T=FLOATS | BF16))


def _check(node: InferNode, columns: int) -> None:
    x, rois = node.shape(0), node.shape(1)
    if x is not None and len(x) != 4:
        node.fail(f"X is (N,C,H,W), not {print_shape(x)}")
    if rois is not None:
        if len(rois) != 2:
            node.fail(f"the regions are a list of {columns} numbers each, not {print_shape(rois)}")
        node.unify(rois[1], columns, "the numbers of a region")


@RoiAlign.infer
def _(node: InferNode) -> None:
    _check(node, 4)
    x, rois, batch = node.shape(0), node.shape(1), node.shape(2)
    try:
        _check_modes(node["mode"], _half_pixel(node))
    except ModelError as e:
        node.fail(e.what, e.advice)
    count = None if rois is None else rois[0]
    if batch is not None:
        if len(batch) != 1:
            node.fail(f"batch_indices is a list, not {print_shape(batch)}")
        count = node.unify(count, batch[0], "the regions and batch_indices")
    node.set(0, node.dtype(0), (count, None if x is None else x[1], node["output_height"], node["output_width"]),
             why="the shape of X or of the regions is unknown")


def _half_pixel(node: InferNode) -> str:
    name = "coordinate_transformation_mode"
    return node[name] if name in node.schema.attributes else "output_half_pixel"


def _check_modes(mode: str, how: str) -> None:
    if mode not in ("avg", "max"):
        raise ModelError(f"mode cannot be '{mode}'", rule="roi-align", advice="it is avg or max")
    if how not in ("half_pixel", "output_half_pixel"):
        raise ModelError(f"coordinate_transformation_mode cannot be '{how}'", rule="roi-align",
                         advice="it is half_pixel or output_half_pixel")


@MaxRoiPool.infer
def _(node: InferNode) -> None:
    _check(node, 5)
    x, rois, pooled = node.shape(0), node.shape(1), node["pooled_shape"]
    if len(pooled) != 2 or min(pooled) < 1:
        node.fail(f"pooled_shape is a height and a width, not {list(pooled)}")
    node.set(0, node.dtype(0), (None if rois is None else rois[0], None if x is None else x[1], *pooled),
             why="the shape of X or of the regions is unknown")


# Reference

def _corners(place: Any, size: int) -> tuple[Any, Any, Any, Any]:
    """For places along an axis: the elements before and behind, and their weights, all 0 for places far outside."""
    outside = (place < -1) | (place > size)
    place = np.maximum(place, 0)
    low = np.floor(place).astype(np.int64)
    last = low >= size - 1
    low = np.where(last, size - 1, low)
    high = np.where(last, size - 1, low + 1)
    rest = np.where(last, 0, place - low)
    return low, high, np.where(outside, 0, 1 - rest), np.where(outside, 0, rest)


@RoiAlign.reference
def roi_align(x: Any, rois: Any, batch_indices: Any, *, mode: str, output_height: int, output_width: int,
              sampling_ratio: int, spatial_scale: float, coordinate_transformation_mode: str = "output_half_pixel"
              ) -> Any:
    _check_modes(mode, coordinate_transformation_mode)
    data, regions = widen(x), widen(rois)
    half = coordinate_transformation_mode == "half_pixel"
    real = data.dtype.type
    y = np.zeros((len(rois), x.shape[1], output_height, output_width), data.dtype)
    for i, (region, batch) in enumerate(zip(regions * real(spatial_scale) - real(0.5 if half else 0), batch_indices)):
        axes = []
        # A region is (x1, y1, x2, y2).
        for start, end, count, size in ((region[1], region[3], output_height, x.shape[2]),
                                        (region[0], region[2], output_width, x.shape[3])):
            extent = end - start if half else max(end - start, real(1))
            bin_size = extent / real(count)
            samples = sampling_ratio if sampling_ratio > 0 else int(np.ceil(extent / count))
            steps = (np.arange(max(samples, 0), dtype=data.dtype) + real(0.5)) * bin_size / real(max(samples, 1))
            places = start + np.arange(count, dtype=data.dtype)[:, None] * bin_size + steps  # (bins, samples)
            axes.append(_corners(places, size))
        (top, bottom, above, below), (left, right, before, behind) = axes
        seen: Any = []
        for (rows, by_row), (columns, by_column) in product(((top, above), (bottom, below)),
                                                            ((left, before), (right, behind))):
            weight = by_row[:, :, None, None] * by_column[None, None]
            seen.append(data[batch][:, rows[:, :, None, None], columns[None, None]] * weight.astype(data.dtype))
        if 0 in (top.shape[1], left.shape[1]):
            continue  # an empty region stays zero
        pooled = sum(seen).mean((2, 4)) if mode == "avg" else np.max(seen, 0).max((2, 4))
        y[i] = pooled
    return y.astype(x.dtype)


@MaxRoiPool.reference
def max_roi_pool(x: Any, rois: Any, *, pooled_shape: Any, spatial_scale: float) -> Any:
    data, regions = widen(x), widen(rois)
    y = np.zeros((len(rois), x.shape[1], *pooled_shape), data.dtype)
    for i, region in enumerate(regions):
        # Halves go away from zero, as in C's round.
        edges = region[1:] * data.dtype.type(spatial_scale)
        left, top, right, bottom = (int(np.trunc(v + np.copysign(0.5, v))) for v in edges.tolist())
        spans = []
        for start, end, count, size in ((top, bottom, pooled_shape[0], x.shape[2]),
                                        (left, right, pooled_shape[1], x.shape[3])):
            bin_size = np.float32(max(end - start + 1, 1)) / np.float32(count)
            spans.append([(min(max(int(np.floor(np.float32(k) * bin_size)) + start, 0), size),
                           min(max(int(np.ceil(np.float32(k + 1) * bin_size)) + start, 0), size))
                          for k in range(count)])
        for (r, (a, b)), (c, (d, e)) in product(enumerate(spans[0]), enumerate(spans[1])):
            if a < b and d < e:  # an empty bin stays zero
                y[i, :, r, c] = data[int(region[0]), :, a:b, d:e].max((1, 2))
    return y.astype(x.dtype)


# Lowering

@RoiAlign.lower
def _(p: Builder, x: Expr, rois: Expr, batch_indices: Expr, *, mode: str, output_height: int, output_width: int,
      sampling_ratio: int, spatial_scale: float, coordinate_transformation_mode: str = "output_half_pixel") -> Expr:
    _check_modes(mode, coordinate_transformation_mode)
    if sampling_ratio <= 0:
        raise CannotLower("how many samples a bin takes depends on its region")
    data, regions = wide(p, x), wide(p, rois)
    assert data is not None and regions is not None
    half, count = coordinate_transformation_mode == "half_pixel", rois.shape[0]
    regions = regions * spatial_scale - (0.5 if half else 0.0)
    axes = []
    for at, bins, size in ((1, output_height, x.shape[2]), (0, output_width, x.shape[3])):
        start, end = (p.reshape(p.take(regions, 1, j, j + 1), (count, 1)) for j in (at, at + 2))
        extent = end - start if half else p.max(end - start, 1.0)
        bin_size = extent / float(bins)
        shape = (1, bins * sampling_ratio)
        index = p.iota(shape, 1)
        sample = p.cast(p.mod(index, sampling_ratio), data.dtype)
        bin_ = p.cast(p.div(index, sampling_ratio), data.dtype)
        place = start + bin_ * bin_size + (sample + 0.5) * bin_size / float(sampling_ratio)
        limit = p.size(size, data.dtype)
        outside = p.or_(place < -1.0, p.gt(place, limit))
        place = p.max(place, 0.0)
        last = p.ge(p.floor(place), limit - 1.0)
        low = p.select(last, limit - 1.0, p.floor(place))
        high = p.select(last, limit - 1.0, low + 1.0)
        rest = p.select(last, 0.0, place - low)
        weights = [p.select(outside, 0.0, w) for w in (1.0 - rest, rest)]
        # (regions, samples of a bin and then its ends, bins)
        index, weight = (p.concat([p.transpose(p.reshape(e, (count, bins, sampling_ratio)), (0, 2, 1)) for e in es], 1)
                         for es in ([p.cast(e, dtypes.INT32) for e in (low, high)], weights))
        axes.append((index, weight))
    (rows, by_row), (columns, by_column) = axes
    each = 2 * sampling_ratio

    def both(row: Expr, column: Expr) -> tuple[Expr, Expr]:
        """Every end of a row with every end of a column, in every bin."""
        return (p.reshape(row, (count, each, 1, output_height, 1)),
                p.reshape(column, (count, 1, each, 1, output_width)))

    row, column = both(rows, columns)
    index = p.reshape(row * p.size(x.shape[3], dtypes.INT32) + column,
                      (count, each * each, output_height * output_width))
    row, column = both(by_row, by_column)
    weight = p.reshape(row * column, index.shape)
    if mode == "avg":
        weight = weight / float(sampling_ratio * sampling_ratio)
    flat = p.reshape(data, (*x.shape[:2], x.shape[2] * x.shape[3]))
    y = seen(p, flat, index, weight, batch_indices, "sum" if mode == "avg" else "max")
    return p.cast(p.reshape(y, (count, x.shape[1], output_height, output_width)), x.dtype)


@MaxRoiPool.lower
def _(p: Builder, x: Expr, rois: Expr, *, pooled_shape: Any, spatial_scale: float) -> Expr:
    raise CannotLower("how many elements a bin takes depends on its region")
