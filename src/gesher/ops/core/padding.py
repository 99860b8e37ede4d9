"""Pad and CenterCropPad: more or fewer elements at the ends of axes.

A negative pad takes elements away, in every mode, and before anything is added: an edge is then repeated from the first
element that is left. Modes other than `constant` may reach beyond the whole input, which is then walked to and fro
(reflect) or round and round (wrap).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import RunError
from gesher.ir import DimLike
from gesher.primitives import CannotLower
from gesher.symbolic import bounds, decide_eq, decide_lt, maximum

from ..axes import axes_of
from ..rules import InferNode, Run
from ..schema import FLOATS, NUMBERS, REQUIRED, Attr, Drop, Input, Inputs, Output, every, op, tensors
from ..sizes import is_plain, is_small, known_ints, numbers_of, plain_ints, print_sizes

if TYPE_CHECKING:
    from gesher.primitives import Builder, Expr

TIND = tensors("int32 int64")

# Pad

Pad = (op("Pad", Input("data"), Output("output"), Attr("mode", "string", "constant"),
          Attr("paddings", "ints", REQUIRED), Attr("value", "float", 0.0), T=FLOATS)
       .since(2, Drop("paddings"), Attr("pads", "ints", REQUIRED), behaviour="paddings is called pads")
       .since(11, Drop("pads"), Drop("value"),
              Inputs(Input("data"), Input("pads", "tensor(int64)"), Input("constant_value", optional=True)), T=NUMBERS,
              behaviour="the pads and the value are inputs")
       .since(13, T=every(13))
       .since(18, Input("axes", "Tind", optional=True), Tind=TIND)
       .since(19, note="mode may be wrap"))
for _v in (21, 23, 24, 25):
    Pad.since(_v, T=every(_v))


def _per_axis(pads: Sequence[Any], axes: Sequence[int] | None, rank: int, node: InferNode | None = None,
              ) -> tuple[list[Any], list[Any]]:
    """What is put before and behind each axis, from a flat list of pads of some axes."""
    places = list(range(rank)) if axes is None else axes_of(axes, rank, node)
    if len(pads) != 2 * len(places):
        said = f"there are {len(pads)} pads for {len(places)} axes, {2 * len(places)} are needed"
        if node is not None:
            node.fail(said)
        raise RunError(f"Pad: {said}")
    low, high = [0] * rank, [0] * rank
    for i, a in enumerate(places):
        low[a], high[a] = pads[i], pads[i + len(places)]
    return low, high


def _infer_pad(node: InferNode, pads: Sequence[DimLike] | None, axes: Sequence[int] | None, fill: Any) -> None:
    dtype, shape, mode = node.dtype(0), node.shape(0), node["mode"]
    if shape is None:
        node.set(0, dtype, None, why="the rank of the input is unknown")
        return
    if pads is None:
        touched = range(len(shape)) if axes is None else axes_of(axes, len(shape), node)
        node.set(0, dtype, [None if i in touched else d for i, d in enumerate(shape)], why="the pads are not known")
        return
    low, high = _per_axis(pads, axes, len(shape), node)
    sizes = [d + lo + hi for d, lo, hi in zip(shape, low, high)]
    if any(decide_lt(d, 0) for d in sizes):
        node.fail(f"the pads {print_sizes(pads)} take more than all of {print_sizes(shape)}")
    for d, size in zip(shape, sizes):
        if mode != "constant" and decide_eq(d, 0) and (bounds(size)[0] or 0) > 0:
            node.fail(f"there is nothing to pad an empty axis with in mode {mode}")
    value = node.value(0)
    padded = None
    if value is not None and is_small(sizes) and is_plain(pads) and (mode != "constant" or fill is not None):
        padded = pad(value, low, high, mode, fill)
    node.set(0, dtype, sizes, padded)


def _check_mode(node: InferNode) -> None:
    if node["mode"] not in ("constant", "reflect", "edge", *(("wrap",) if node.version >= 19 else ())):
        node.fail(f"there is no mode {node['mode']!r} in opset {node.version}")


@Pad.infer
def _(node: InferNode) -> None:
    _check_mode(node)
    _infer_pad(node, node["pads" if node.version >= 2 else "paddings"], None, node["value"])


@Pad.infer(since=11)
def _(node: InferNode) -> None:
    _check_mode(node)
    axes = numbers_of(node, 3)
    if node.has(3) and axes is None:
        shape = node.shape(0)
        node.set(0, node.dtype(0), None if shape is None else [None] * len(shape), why="the axes are not known")
        return
    value = node.value(2)
    fill = value.reshape(-1).tolist()[0] if value is not None and value.size == 1 else None
    if not node.has(2):
        fill = "" if node.dtype(0) is dtypes.STRING else 0
    _infer_pad(node, node.ints(1), axes if node.has(3) else None, fill)


def pad(x: Any, low: Sequence[int], high: Sequence[int], mode: str, fill: Any) -> Any:
    """numpy's meaning, with negative pads and pads beyond the input."""
    x = x[tuple(slice(max(-lo, 0), max(d - max(-hi, 0), 0)) for d, lo, hi in zip(x.shape, low, high))]
    low, high = [max(lo, 0) for lo in low], [max(hi, 0) for hi in high]
    if mode == "constant":
        out = np.empty([lo + d + hi for lo, d, hi in zip(low, x.shape, high)], x.dtype)
        out[...] = fill
        out[tuple(slice(lo, lo + d) for lo, d in zip(low, x.shape))] = x
        return out
    for axis, (lo, d, hi) in enumerate(zip(low, x.shape, high)):
        if lo or hi:
            if not d:
                raise RunError(f"Pad: there is nothing to pad an empty axis with in mode {mode}")
            x = np.take(x, _source(np.arange(-lo, d + hi), d, mode), axis)
    return x


def _source(places: Any, size: int, mode: str) -> Any:
    """From which index of an axis each place of the padded axis takes its element."""
    if mode == "edge":
        return np.clip(places, 0, size - 1)
    if mode == "wrap":
        return places % size
    if mode == "reflect":
        period = max(2 * (size - 1), 1)
        there = places % period
        return np.minimum(there, period - there) if size > 1 else np.zeros_like(places)
    raise RunError(f"Pad: there is no mode {mode!r}")


@Pad.reference
def pad_1(data: Any, *, paddings: Sequence[int], mode: str, value: float, run: Run) -> Any:
    return pad_2(data, pads=paddings, mode=mode, value=value, run=run)


@Pad.reference(since=2)
def pad_2(data: Any, *, pads: Sequence[int], mode: str, value: float, run: Run) -> Any:
    return pad_11(data, np.array(pads, np.int64), np.array(value, data.dtype), mode=mode, run=run)


@Pad.reference(since=11)
def pad_11(data: Any, pads: Any, constant_value: Any = None, axes: Any = None, *, mode: str, run: Run) -> Any:
    low, high = _per_axis(pads.tolist(), None if axes is None else axes.tolist(), data.ndim)
    sizes = [d + lo + hi for d, lo, hi in zip(data.shape, low, high)]
    if min(sizes, default=0) < 0:
        raise RunError(f"Pad: the pads {pads.tolist()} take more than all of {list(data.shape)}")
    run.allow(sizes, data.dtype)
    if constant_value is not None:
        fill = constant_value.reshape(-1)[0]
    else:
        fill = "" if data.dtype == object else data.dtype.type(0)
    return pad(data, low, high, mode, fill)


@Pad.lower
def _(p: Builder, data: Expr, *, paddings: Sequence[int], mode: str, value: float) -> Expr:
    return _lower_pad(p, data, *_per_axis(paddings, None, len(data.shape)), mode, value)


@Pad.lower(since=2)
def _(p: Builder, data: Expr, *, pads: Sequence[int], mode: str, value: float) -> Expr:
    return _lower_pad(p, data, *_per_axis(pads, None, len(data.shape)), mode, value)


@Pad.lower(since=11)
def _(p: Builder, data: Expr, pads: Expr, constant_value: Expr | None = None, axes: Expr | None = None, *,
      mode: str) -> Expr:
    low, high = _per_axis(known_ints(p, pads, "the list of pads"),
                          None if axes is None else plain_ints(p, axes, "the list of axes"), len(data.shape))
    return _lower_pad(p, data, low, high, mode, 0 if constant_value is None else p.reshape(constant_value, ()))


def _lower_pad(p: Builder, x: Expr, low: Sequence[DimLike], high: Sequence[DimLike], mode: str, fill: Any) -> Expr:
    x = p.slice(x, [maximum(-lo, 0) for lo in low], [d - maximum(-hi, 0) for d, hi in zip(x.shape, high)])
    low, high = [maximum(lo, 0) for lo in low], [maximum(hi, 0) for hi in high]
    if mode == "constant":
        if x.dtype is dtypes.STRING:
            raise CannotLower("strings are padded by the reference rule")
        return p.pad(x, low, high, fill)
    for axis, (lo, d, hi) in enumerate(zip(low, x.shape, high)):
        if decide_eq(lo, 0) and decide_eq(hi, 0):
            continue
        if isinstance(d, int) and isinstance(lo, int) and isinstance(hi, int) and d:
            x = p.gather(x, p.constant(_source(np.arange(-lo, d + hi), d, mode)), axis)
            continue
        place = p.iota((lo + d + hi,), 0) - lo
        if mode == "edge":
            source = p.min(p.max(place, 0), d - 1)
        elif mode == "wrap":
            source = p.mod(place, d)
        elif mode == "reflect":
            # For an axis of one element the period is 1, and the only index 0.
            there = p.mod(place, maximum(2 * d - 2, 1))
            source = p.select(there < d, there, (2 * d - 2) - there)
        else:
            raise CannotLower(f"there is no mode {mode!r}")
        x = p.gather(x, source, axis)
    return x


# CenterCropPad

CenterCropPad = op("CenterCropPad", Input("input_data"), Input("shape", "Tind"), Output("output_data"),
                   Attr("axes", "ints"), since=18, T=every(13), Tind=TIND)


@CenterCropPad.infer
def _(node: InferNode) -> None:
    dtype, shape, wanted = node.dtype(0), node.shape(0), node.ints(1)
    if shape is None:
        node.set(0, dtype, None, why="the rank of the input is unknown")
        return
    places = list(range(len(shape))) if node["axes"] is None else axes_of(node["axes"], len(shape), node)
    if wanted is not None and len(wanted) != len(places):
        node.fail(f"the shape {print_sizes(wanted)} is not one of {len(places)} axes")
    sizes: list[DimLike | None] = list(shape)
    for i, a in enumerate(places):
        sizes[a] = None if wanted is None else wanted[i]
    node.set(0, dtype, sizes, why="" if wanted is not None else "the wanted shape is not known")


@CenterCropPad.reference
def center_crop_pad(x: Any, shape: Any, *, axes: Sequence[int] | None, run: Run) -> Any:
    places = range(x.ndim) if axes is None else axes_of(axes, x.ndim)
    wanted = list(x.shape)
    for a, size in zip(places, shape.tolist()):
        wanted[a] = size
    run.allow(wanted, x.dtype)
    # A crop drops the odd one behind, a pad adds it behind.
    x = x[tuple(slice((d - w) // 2, (d - w) // 2 + w) if d > w else slice(None) for d, w in zip(x.shape, wanted))]
    low = [(w - d) // 2 for d, w in zip(x.shape, wanted)]
    return pad(x, low, [w - d - lo for d, w, lo in zip(x.shape, wanted, low)], "constant",
               "" if x.dtype == object else x.dtype.type(0))


@CenterCropPad.lower
def _(p: Builder, x: Expr, shape: Expr, *, axes: Sequence[int] | None) -> Expr:
    places = range(len(x.shape)) if axes is None else axes_of(axes, len(x.shape))
    low: list[DimLike] = [0] * len(x.shape)
    high: list[DimLike] = [0] * len(x.shape)
    for a, wanted in zip(places, known_ints(p, shape, "the wanted shape")):
        extra, missing = maximum(x.shape[a] - wanted, 0), maximum(wanted - x.shape[a], 0)
        low[a] = missing // 2 - extra // 2
        high[a] = (missing - missing // 2) - (extra - extra // 2)
    return _lower_pad(p, x, low, high, "constant", 0)
