"""Resize and its forerunner Upsample.

Every axis is resampled on its own; `ops.interpolation` tells where an output element lies and what it is made of.
What a reader would guess wrong: ONNX's text multiplies the output size by the extent of the region of interest; onnx's
own shape inference and every implementation do not, and neither do we.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.ir import DimLike
from gesher.ir.types import print_shape
from gesher.primitives import Builder, CannotLower, Expr
from gesher.symbolic import ceil_div, maximum

from ..arithmetic import widen
from ..axes import axes_of
from ..interpolation import (
    Method,
    Sampling,
    coordinates,
    coordinates_expr,
    filter_expr,
    index_expr,
    nearest_expr,
    outside,
    scale_expr,
    taps,
    whole_enlargement,
)
from ..places import mixed
from ..rules import InferNode
from ..schema import ALL, BF16, BOOL, FLOATS, REQUIRED, Attr, Drop, Input, Inputs, Output, op, tensors

_SCALES = "tensor(float)"
_MODE = Attr("mode", "string", "nearest")

Upsample = (op("Upsample", Input("X"), Output("Y"), _MODE, Attr("height_scale", "float", REQUIRED),
               Attr("width_scale", "float", REQUIRED), T=FLOATS | BOOL | tensors("int32 int64"))
            .since(7, Drop("height_scale"), Drop("width_scale"), Attr("scales", "floats", REQUIRED), T=ALL,
                   behaviour="one list of scales for all axes; the mode bilinear is called linear")
            .since(9, Drop("scales"), Input("scales", _SCALES), behaviour="the scales are an input")
            .since(10, deprecated=True, behaviour="Resize has taken its place"))

Resize = (op("Resize", Input("X"), Input("scales", _SCALES), Output("Y"), _MODE, since=10, T=ALL)
          .since(11, Inputs(Input("X", "T1"), Input("roi", "T2"), Input("scales", _SCALES),
                            Input("sizes", "tensor(int64)", optional=True)),
                 Output("Y", "T1"), Attr("coordinate_transformation_mode", "string", "half_pixel"),
                 Attr("nearest_mode", "string", "round_prefer_floor"), Attr("cubic_coeff_a", "float", -0.75),
                 Attr("exclude_outside", "int", 0), Attr("extrapolation_value", "float", 0.0),
                 T=None, T1=ALL, T2=FLOATS,
                 behaviour="coordinates are half_pixel unless told; before, they were asymmetric and rounded down")
          .since(13, Input("roi", "T2", optional=True), Input("scales", _SCALES, optional=True), T1=ALL | BF16,
                 behaviour="the transformation tf_half_pixel_for_nn is gone")
          .since(18, Attr("antialias", "int", 0), Attr("axes", "ints"),
                 Attr("keep_aspect_ratio_policy", "string", "stretch"))
          .since(19, note="coordinate_transformation_mode may be half_pixel_symmetric"))


# Sizes

# A dim times a numerator of so many bits is exact in float32 for every dim that a picture has.
_EXACT_BITS = 8


def scaled(size: DimLike, scale: float) -> DimLike | None:
    """floor(size * scale), computed in float32 as runtimes do; None where that is no expression of a symbolic size."""
    exact = Fraction(float(scale))
    if exact.numerator.bit_length() <= _EXACT_BITS:
        return size * exact.numerator // exact.denominator
    if not isinstance(size, int):
        return None
    return int(np.floor(np.float32(size) * np.float32(scale)))


def plan(shape: Sequence[DimLike], axes: Sequence[int] | None, scales: Any, sizes: Sequence[DimLike] | None,
         policy: str = "stretch") -> list[Sampling] | None:
    """How each axis named is resampled, from known scales or sizes; None where a size is no expression.

    Raises:
        ModelError: neither or both are given, or they do not fit the axes.
    """
    over = axes_of(axes, len(shape)) if axes is not None else list(range(len(shape)))
    if (scales is None) == (sizes is None):
        raise ModelError("one of scales and sizes must be given" if scales is None else
                         "scales and sizes are given, only one of them may be", rule="resize")
    given = scales if sizes is None else sizes
    if len(given) != len(over):
        raise ModelError(f"there are {len(given)} {'scales' if sizes is None else 'sizes'} for {len(over)} axes",
                         rule="resize", advice=f"X is {print_shape(tuple(shape))}")
    if sizes is None:
        found = []
        for axis, scale in zip(over, np.asarray(scales, np.float32).tolist()):
            if not scale > 0:
                raise ModelError(f"the scale of axis {axis} is {scale}, it must be above 0", rule="resize")
            count = scaled(shape[axis], scale)
            if count is None:
                return None
            found.append(Sampling(axis, shape[axis], count, scale))
        return found
    if policy == "stretch":
        return [Sampling(axis, shape[axis], size) for axis, size in zip(over, sizes)]
    if policy not in ("not_larger", "not_smaller"):
        raise ModelError(f"keep_aspect_ratio_policy cannot be '{policy}'", rule="resize",
                         advice="it is stretch, not_larger or not_smaller")
    if not all(isinstance(d, int) for d in (*sizes, *(shape[a] for a in over))):
        return None
    choose = min if policy == "not_larger" else max
    scale = choose(np.float32(s) / np.float32(shape[a]) for s, a in zip(sizes, over))  # type: ignore[arg-type]
    # Halves are rounded up.
    return [Sampling(a, shape[a], int(np.floor(scale * np.float32(shape[a]) + np.float32(0.5))),  # type: ignore[arg-type]
                     float(scale)) for a in over]


# Inference

def _method(attributes: Any) -> Method:
    """The method that a node's attributes ask for, from 11 on."""
    return Method(attributes["mode"], attributes["coordinate_transformation_mode"], attributes["nearest_mode"],
                  attributes["cubic_coeff_a"], bool(attributes["exclude_outside"]),
                  bool(attributes.get("antialias")), attributes["extrapolation_value"])


def _early(mode: str) -> Method:
    """The method of Upsample, and of Resize 10."""
    return Method({"bilinear": "linear"}.get(mode, mode), "asymmetric", "simple")


def _set(node: InferNode, found: list[Sampling] | None, over: Sequence[int] | None = None) -> None:
    x = node.shape(0)
    assert x is not None
    shape: list[DimLike | None] = list(x)
    for s in found or ():
        shape[s.axis] = s.count
    if found is None:
        for axis in range(len(x)) if over is None else over:
            shape[axis] = node.fresh(f"its scale or size for axis {axis} is not known")
    node.set(0, node.dtype(0), shape)


def _infer_by_scales(node: InferNode, scales: Any) -> None:
    x = node.shape(0)
    if x is None:
        node.set(0, node.dtype(0), None, why="the rank of X is unknown")
        return
    try:
        _early(node["mode"])
        _set(node, None if scales is None else plan(x, None, scales, None))
    except ModelError as e:
        node.fail(e.what, e.advice)


@Upsample.infer
def _(node: InferNode) -> None:
    x = node.shape(0)
    if x is not None and len(x) != 4:
        node.fail(f"X has the four axes of pictures, not {print_shape(x)}")
    _infer_by_scales(node, [1, 1, node["height_scale"], node["width_scale"]])


Upsample.infer(since=7)(lambda node: _infer_by_scales(node, node["scales"]))
Upsample.infer(since=9)(lambda node: _infer_by_scales(node, node.numbers(1)))
Resize.infer(lambda node: _infer_by_scales(node, node.numbers(1)))


def _given(node: InferNode, index: int) -> bool:
    """Whether an input is there and not the empty tensor that stood for nothing in version 11."""
    return node.has(index) and node.shape(index) != (0,)


@Resize.infer(since=11)
def _(node: InferNode) -> None:
    x = node.shape(0)
    attributes = {name: node[name] for name in node.schema.attributes}
    try:
        _method(attributes)
        if x is None:
            node.set(0, node.dtype(0), None, why="the rank of X is unknown")
            return
        axes = attributes.get("axes")
        over = axes_of(axes, len(x), node) if axes is not None else None
        by_scales, by_sizes = _given(node, 2), _given(node, 3)
        scales = node.numbers(2) if by_scales else None
        sizes = node.ints(3) if by_sizes else None
        if (by_scales and scales is None and not by_sizes) or (by_sizes and sizes is None and not by_scales):
            _set(node, None, over)
            return
        _set(node, plan(x, axes, scales, sizes, attributes.get("keep_aspect_ratio_policy", "stretch")), over)
    except ModelError as e:
        node.fail(e.what, e.advice)


# Reference

def resample(x: Any, found: Sequence[Sampling], method: Method, roi: Sequence[tuple[Any, Any]] | None = None) -> Any:
    """x resampled along some axes; `roi` has the start and end of the region for each of them."""
    dtype, y = x.dtype, _interpolable(x, method.mode)
    lies_outside: Any = False
    for i, s in enumerate(found):
        region = (0, 1) if roi is None else roi[i]
        if s.is_identity and (not method.crops or tuple(region) == (0, 1)):
            continue
        places = coordinates(s, method, region)
        index, weights = taps(s, places, method)
        if method.crops:
            lies_outside = lies_outside | outside(s, places).reshape(-1, *(1,) * (x.ndim - s.axis - 1))
        if weights is None:
            y = y.take(index[:, 0], s.axis)
            continue
        by_axis = (-1, *(1,) * (x.ndim - s.axis - 1))
        y = sum(y.take(index[:, k], s.axis) * weights[:, k].astype(_real(y)).reshape(by_axis)
                for k in range(index.shape[1]))
    if lies_outside is not False:
        y = np.where(lies_outside, np.asarray(method.extrapolation).astype(y.dtype), y)
    return _back(y, dtype)


def _interpolable(x: Any, mode: str) -> Any:
    """x in a type to interpolate in: integers as float64, which holds those of 32 bits."""
    if mode == "nearest" or x.dtype.kind in "fc":
        return widen(x) if mode != "nearest" else x
    dtype = dtypes.from_numpy(x.dtype)
    if dtype.is_float:
        return widen(x)
    if not dtype.is_integer:
        raise ModelError(f"Resize: {dtype.name} cannot be interpolated, only taken from the nearest", rule="resize")
    return x.astype(np.float64)


def _real(y: Any) -> Any:
    return np.float64 if y.dtype in (np.float64, np.complex128) else np.float32


def _back(y: Any, dtype: Any) -> Any:
    if y.dtype == dtype or dtypes.from_numpy(dtype).is_float:
        return y.astype(dtype)
    # Interpolated integers are rounded, and clipped where a cubic overshoots.
    limits = np.iinfo(dtype)
    return np.clip(np.rint(y), limits.min, limits.max).astype(dtype)


def _planned(shape: Sequence[int], axes: Any, scales: Any, sizes: Any, policy: str = "stretch") -> list[Sampling]:
    found = plan(shape, axes, scales, sizes, policy)
    assert found is not None  # plain numbers always give a plan
    return found


@Upsample.reference
def upsample_1(x: Any, *, mode: str, height_scale: float, width_scale: float) -> Any:
    return resample(x, _planned(x.shape, None, [1, 1, height_scale, width_scale], None), _early(mode))


@Upsample.reference(since=7)
def upsample_7(x: Any, *, mode: str, scales: Sequence[float]) -> Any:
    return resample(x, _planned(x.shape, None, scales, None), _early(mode))


@Upsample.reference(since=9)
def upsample_9(x: Any, scales: Any, *, mode: str) -> Any:
    return resample(x, _planned(x.shape, None, scales, None), _early(mode))


@Resize.reference
def resize_10(x: Any, scales: Any, *, mode: str) -> Any:
    return resample(x, _planned(x.shape, None, scales, None), _early(mode))


@Resize.reference(since=11)
def resize_11(x: Any, roi: Any = None, scales: Any = None, sizes: Any = None, *, axes: Any = None,
              keep_aspect_ratio_policy: str = "stretch", **attributes: Any) -> Any:
    scales = None if scales is None or scales.size == 0 else scales
    found = _planned(x.shape, axes, scales, None if sizes is None or sizes.size == 0 else sizes.tolist(),
                     keep_aspect_ratio_policy)
    method = _method(attributes)
    regions = None
    if method.crops:
        if roi is None or roi.size != 2 * len(found):
            raise ModelError(f"Resize: tf_crop_and_resize needs a roi of {2 * len(found)} numbers", rule="resize")
        roi = widen(roi)
        regions = list(zip(roi[:len(found)].tolist(), roi[len(found):].tolist()))
    return resample(x, found, method, regions)


# Lowering

def _meaning(p: Builder, x: Expr, roi: Expr | None, *, found: Sequence[Sampling], method: Method) -> Expr:
    """x resampled along some axes, one after the other: gathered where a place takes few elements, a product with a
    matrix of weights where it takes many."""
    y, lies_outside = x, None
    for i, s in enumerate(found):
        region: tuple[Any, Any] = (0.0, 1.0)
        if roi is not None:
            known = p.known(roi)
            ends = (i, len(found) + i)
            region = tuple(float(known[j]) if known is not None else p.squeeze(p.take(roi, 0, j, j + 1))  # type: ignore[assignment]
                           for j in ends)
        if s.is_identity and region == (0.0, 1.0):
            continue
        places = coordinates_expr(p, s, method, region)
        if method.crops:
            here = p.or_(places < 0.0, places > p.size(s.size, dtypes.FLOAT) - 1.0)
            here = p.reshape(here, (s.count, *(1,) * (x.rank - s.axis - 1)))
            lies_outside = here if lies_outside is None else p.or_(lies_outside, here)
        if method.mode == "nearest":
            times = whole_enlargement(s, method)
            taken = p.iota((s.count,), 0, dtypes.INT64) / times if times else nearest_expr(p, s, places, method.nearest)
            y = p.gather(y, taken, s.axis)
        elif method.antialias and not _grows(s):
            y = _by_matrix(p, y, s, places, method)
        else:
            y = _by_taps(p, y, s, places, method)
    if lies_outside is not None:
        y = p.select(lies_outside, p.scalar(method.extrapolation, y.dtype), y)
    return y


def _grows(s: Sampling) -> bool:
    """True where the axis surely does not shrink, so that filters need not be stretched."""
    if s.scale is not None:
        return s.scale >= 1
    return isinstance(s.size, int) and isinstance(s.count, int) and s.count >= s.size


def _by_taps(p: Builder, y: Expr, s: Sampling, places: Expr, method: Method) -> Expr:
    if method.mode == "linear":
        places = p.max(p.min(places, p.size(s.size, dtypes.FLOAT) - 1.0), 0.0)
    low = p.floor(places)
    indices = [low + float(k) for k in ((0, 1) if method.mode == "linear" else (-1, 0, 1, 2))]
    weights = [filter_expr(p, index - places, method) for index in indices]
    if method.mode == "cubic" and method.exclude_outside:
        weights = [p.select(_inside(p, s, index), w, 0.0) for index, w in zip(indices, weights)]
        total = sum(weights[1:], weights[0])
        weights = [w / p.select(p.eq(total, 0.0), 1.0, total) for w in weights]
    if y.dtype is dtypes.FLOAT:
        index, weight = (p.concat([p.reshape(e, (s.count, 1)) for e in es], 1) for es in (indices, weights))
        return mixed(p, y, index_expr(p, s, index), weight, s.axis)
    shape = (s.count, *(1,) * (y.rank - s.axis - 1))
    parts = [p.gather(y, index_expr(p, s, index), s.axis) * p.reshape(p.cast(w, y.dtype), shape)
             for index, w in zip(indices, weights)]
    return sum(parts[1:], parts[0])


def _inside(p: Builder, s: Sampling, index: Expr) -> Expr:
    return p.and_(index >= 0.0, index < p.size(s.size, dtypes.FLOAT))


def _by_matrix(p: Builder, y: Expr, s: Sampling, places: Expr, method: Method) -> Expr:
    """A filter that is stretched over many elements; what it sees outside counts for the element at the edge."""
    reach = 1 if method.mode == "linear" else 2
    shrink = p.min(scale_expr(p, s), 1.0)
    if s.scale is not None:
        taps_: DimLike = int(np.ceil(2 * reach / np.float32(min(s.scale, 1)))) + 1
    else:
        taps_ = maximum(ceil_div(2 * reach * s.size, s.count), 2 * reach) + 1
    shape = (s.count, taps_)
    first = p.floor(places - float(reach) / shrink) + 1.0
    index = p.reshape(first, (s.count, 1)) + p.iota(shape, 1, dtypes.FLOAT)
    weights = filter_expr(p, (index - p.reshape(places, (s.count, 1))) * shrink, method)
    if method.exclude_outside:
        weights = p.select(_inside(p, s, index), weights, 0.0)
    weights = weights / p.sum(weights, [1], keepdims=True)
    return mixed(p, y, index_expr(p, s, index), p.cast(weights, y.dtype), s.axis)


def _lower(p: Builder, x: Expr, found: list[Sampling] | None, method: Method, roi: Expr | None = None) -> Expr:
    if found is None:
        raise CannotLower("the output sizes are no expressions of the input sizes")
    dtype = x.dtype
    if method.mode != "nearest":
        if dtype.kind not in ("float", "int", "uint"):
            raise CannotLower(f"interpolation of {dtype.name}")
        x = p.cast(x, dtypes.DOUBLE if not dtype.is_float or dtype is dtypes.DOUBLE else dtypes.FLOAT)
    y = p.composite("resize", _meaning, x, roi, found=tuple(found), method=method)
    if y.dtype is dtype or dtype.is_float:
        return p.cast(y, dtype)
    limits = np.iinfo(dtype.numpy)
    return p.cast(p.max(p.min(p.round(y), float(limits.max)), float(limits.min)), dtype)


def _known(p: Builder, x: Expr | None) -> Any:
    """The numbers of an input that may be left out, or be the empty tensor that stands for nothing."""
    if x is None or x.shape == (0,):
        return None
    value = p.known(x)
    if value is None:
        raise CannotLower("the output sizes are not known before running")
    return value


@Upsample.lower
def _(p: Builder, x: Expr, *, mode: str, height_scale: float, width_scale: float) -> Expr:
    return _lower(p, x, plan(x.shape, None, [1, 1, height_scale, width_scale], None), _early(mode))


@Upsample.lower(since=7)
def _(p: Builder, x: Expr, *, mode: str, scales: Sequence[float]) -> Expr:
    return _lower(p, x, plan(x.shape, None, scales, None), _early(mode))


@Upsample.lower(since=9)
def _(p: Builder, x: Expr, scales: Expr, *, mode: str) -> Expr:
    return _lower(p, x, plan(x.shape, None, _known(p, scales), None), _early(mode))


@Resize.lower
def _(p: Builder, x: Expr, scales: Expr, *, mode: str) -> Expr:
    return _lower(p, x, plan(x.shape, None, _known(p, scales), None), _early(mode))


@Resize.lower(since=11)
def _(p: Builder, x: Expr, roi: Expr | None = None, scales: Expr | None = None, sizes: Expr | None = None, *,
      axes: Any = None, keep_aspect_ratio_policy: str = "stretch", **attributes: Any) -> Expr:
    wanted = _known(p, sizes)
    found = plan(x.shape, axes, _known(p, scales), None if wanted is None else wanted.reshape(-1).tolist(),
                 keep_aspect_ratio_policy)
    method = _method(attributes)
    if method.crops and roi is not None:
        known = p.known(roi)
        roi = p.cast(roi, dtypes.FLOAT) if known is None else p.constant(known.astype(np.float32))
    return _lower(p, x, found, method, roi if method.crops else None)
