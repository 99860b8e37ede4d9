"""Nodes whose results have sizes that hang on the data, or whose work does: not part of a segment, but not slow either.

Each stands in for the reference rule of its operator and answers the same to the last bit (RoiAlign's means: up to the
order of their sums); where it does not fit (other types), the reference rule runs.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from gesher.ir import Node

from . import cpu
from .build import build
from .library import Library, address

Native = Callable[..., Any]


def _flat(x: np.ndarray) -> np.ndarray:
    """The array, or a copy of it, with its elements side by side."""
    flags = x.flags
    return x if flags.c_contiguous and flags.aligned else np.require(x, requirements=["C", "A"])


def _number(x: np.ndarray) -> Any:
    """The first element, as Python has it."""
    return x.item() if x.size == 1 else x.reshape(-1)[0].item()


class _Nms(ctypes.Structure):
    """The C struct `GsNms`."""

    _fields_ = (("images", ctypes.c_int64), ("classes", ctypes.c_int64), ("boxes", ctypes.c_int64),
                ("most", ctypes.c_int64), ("box", ctypes.c_void_p), ("score", ctypes.c_void_p),
                ("centred", ctypes.c_int), ("limited", ctypes.c_int), ("overlap", ctypes.c_float),
                ("least", ctypes.c_float), ("y", ctypes.c_void_p), ("scratch", ctypes.c_void_p))


_NMS = """#include "gs_nms.h"
GS_EXPORT int64_t nms(const GsNms* v) { return gs_nms(v); }
GS_EXPORT int64_t nms_scratch(const GsNms* v) { return gs_nms_scratch(v); }
"""


@cache
def _functions(isa: cpu.Isa | None = None) -> tuple[Any, Any]:
    """The kernel and what tells its scratch; `isa` None: for exactly this processor."""
    library = Library(build(_NMS, isa=isa).library)
    kernel, scratch = (library.function(name, ctypes.c_int64, ctypes.POINTER(_Nms)) for name in ("nms", "nms_scratch"))
    return kernel, scratch


def _non_max_suppression(boxes: Any, scores: Any, most: Any = None, overlap: Any = None, least: Any = None, *,
                         center_point_box: int, isa: cpu.Isa | None = None) -> np.ndarray | None:
    if boxes.dtype != np.float32 or scores.dtype != np.float32 or boxes.ndim != 3 or scores.ndim != 3 \
            or boxes.shape != (scores.shape[0], scores.shape[2], 4) or boxes.shape[1] >= 1 << 31:
        return None
    each = 0 if most is None else max(int(_number(most)), 0)
    images, classes, count = scores.shape
    found = np.empty((images * classes * min(each, count), 3), np.int64)
    if not len(found):
        return found
    box, score = _flat(boxes), _flat(scores)
    call = _Nms(images, classes, count, each, address(box), address(score), center_point_box, least is not None,
                0 if overlap is None else _number(overlap), 0 if least is None else _number(least),
                address(found), 0)
    kernel, scratch = _functions(isa)
    room = np.empty(scratch(call) + 64, np.uint8)
    call.scratch = -(-address(room) // 64) * 64
    return found[:kernel(call)].copy()


class _Unique(ctypes.Structure):
    """The C struct `GsUnique`."""

    _fields_ = (("rows", ctypes.c_int64), ("columns", ctypes.c_int64), ("type", ctypes.c_int), ("sorted", ctypes.c_int),
                ("x", ctypes.c_void_p), ("first", ctypes.c_void_p), ("inverse", ctypes.c_void_p),
                ("counts", ctypes.c_void_p), ("scratch", ctypes.c_void_p))


_UNIQUE = """#include "gs_unique.h"
GS_EXPORT int64_t unique(const GsUnique* v) { return gs_unique(v); }
"""
# As the enum of gs_select.h counts them.
_KEYS = {name: i for i, name in enumerate(("float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32",
                                           "int64", "uint64", "float16", "bfloat16"))} | {"bool": 3}


@cache
def _unique_function(isa: cpu.Isa | None = None) -> Any:
    return Library(build(_UNIQUE, isa=isa).library).function("unique", ctypes.c_int64, ctypes.POINTER(_Unique))


def _unique(x: Any, *, axis: int | None, sorted: int, isa: cpu.Isa | None = None) -> tuple[np.ndarray, ...] | None:
    if axis is None:
        rows = x.reshape(-1, 1)
    else:
        # Called 500 times a second on small tensors, this counts: numpy's moveaxis takes five microseconds.
        axis %= x.ndim
        rows = x if axis == 0 else x.transpose(axis, *(i for i in range(x.ndim) if i != axis))
        if x.ndim != 2:
            rows = rows.reshape(len(rows), math.prod(rows.shape[1:]))
    if x.dtype.name not in _KEYS or len(rows) >= 1 << 32:
        return None
    held, count = _flat(rows), len(rows)
    first, inverse, counts = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, np.int64)
    room = np.empty(4 * count, np.uint64)
    call = _Unique(count, held.shape[1], _KEYS[x.dtype.name], sorted, address(held), address(first), address(inverse),
                   address(counts), address(room))
    found = _unique_function(isa)(call)
    if found != count:
        first, counts = first[:found].copy(), counts[:found].copy()
    y = x.reshape(-1)[first] if axis is None else x.take(first, axis)
    return y, first, inverse, counts


class _Regions(ctypes.Structure):
    """The C struct `GsRegions`."""

    _fields_ = (("regions", ctypes.c_int64), ("channels", ctypes.c_int64), ("in", ctypes.c_int64 * 2),
                ("out", ctypes.c_int64 * 2), ("half", ctypes.c_int), ("largest", ctypes.c_int),
                ("scale", ctypes.c_float), ("x", ctypes.c_void_p), ("region", ctypes.c_void_p),
                ("batch", ctypes.c_void_p), ("y", ctypes.c_void_p), ("scratch", ctypes.c_void_p),
                ("samples", ctypes.c_int64))


_REGIONS = """#include "gs_regions.h"
GS_EXPORT int64_t roi_align(const GsRegions* v) { return gs_roi_align(v); }
GS_EXPORT int64_t max_roi_pool(const GsRegions* v) { return gs_max_roi_pool(v); }
GS_EXPORT int64_t regions_samples(const GsRegions* v) { return gs_regions_samples(v); }
GS_EXPORT int64_t regions_scratch(const GsRegions* v) { return gs_regions_scratch(v); }
"""
# Further away no region is pooled natively: numbers of places could be too large, or take forever.
_FAR = 1e6


@cache
def _regions_functions(isa: cpu.Isa | None = None) -> dict[str, Any]:
    library = Library(build(_REGIONS, isa=isa).library)
    return {name: library.function(name, ctypes.c_int64, ctypes.POINTER(_Regions))
            for name in ("roi_align", "max_roi_pool", "regions_samples", "regions_scratch")}


def _pool_regions(name: str, x: Any, regions: Any, batch: Any, out: tuple[int, int], scale: float,
                  isa: cpu.Isa | None, half: bool = False, largest: bool = False) -> np.ndarray | None:
    if x.ndim != 4 or 0 in x.shape or x.dtype.itemsize > 4 or min(out) < 1 or regions.shape != (len(batch), 4):
        return None
    data, regions = (np.require(a, np.float32, ["C", "A"]) for a in (x, regions))
    batch = np.require(batch, np.int64, ["C", "A"])
    with np.errstate(all="ignore"):
        if not np.all(np.abs(regions * np.float32(scale)) < _FAR) or not np.all((batch >= 0) & (batch < len(x))):
            return None
    y = np.empty((len(regions), x.shape[1], *out), np.float32)
    call = _Regions(len(regions), x.shape[1], x.shape[2:], out, half, largest, scale,
                    *map(address, (data, regions, batch, y)))
    functions = _regions_functions(isa)
    call.samples = functions["regions_samples"](call)
    room = np.empty(functions["regions_scratch"](call), np.float32)
    call.scratch = address(room)
    functions[name](call)
    return y.astype(x.dtype, copy=False)


def _roi_align(x: Any, regions: Any, batch: Any, *, mode: str, output_height: int, output_width: int,
               sampling_ratio: int, spatial_scale: float, coordinate_transformation_mode: str = "output_half_pixel",
               isa: cpu.Isa | None = None) -> np.ndarray | None:
    if sampling_ratio > 0 or mode not in ("avg", "max") \
            or coordinate_transformation_mode not in ("half_pixel", "output_half_pixel") or batch.ndim != 1:
        return None
    return _pool_regions("roi_align", x, regions, batch, (output_height, output_width), spatial_scale, isa,
                         coordinate_transformation_mode == "half_pixel", mode == "max")


def _max_roi_pool(x: Any, rois: Any, *, pooled_shape: Any, spatial_scale: float, isa: cpu.Isa | None = None
                  ) -> np.ndarray | None:
    if rois.ndim != 2 or rois.shape[1] != 5 or not np.all(np.abs(rois[:, 0]) < _FAR):
        return None
    return _pool_regions("max_roi_pool", x, rois[:, 1:], rois[:, 0].astype(np.int64), tuple(pooled_shape),
                         spatial_scale, isa)


NATIVES: dict[tuple[str, str], Native] = {("", "NonMaxSuppression"): _non_max_suppression, ("", "Unique"): _unique,
                                           ("", "RoiAlign"): _roi_align, ("", "MaxRoiPool"): _max_roi_pool}


def run(node: Node, rule: Callable[..., Any], inputs: list[Any], attributes: dict[str, Any]) -> Any:
    """The node's result: natively where that can be, else by its reference rule."""
    native = NATIVES.get((node.domain, node.op_type))
    result = native(*inputs, **attributes) if native is not None else None
    return rule(*inputs, **attributes) if result is None else result
