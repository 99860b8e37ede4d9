"""Older forms of operators that ONNX took in later, and others that move data: Trilu, GatherND, Pad, Range, Unique,
ExpandDims, UnfoldTensor, GridSample.

What a reader would guess wrong: `Unique` lists values in the order of their first places (`idx` tells, for every
element, which it is), ExpandDims takes its axis as an input, and GridSample calls its modes as opset 16 did.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ops.axes import axis_of
from gesher.ops.borrowing import borrow, rule_of
from gesher.ops.core.constants import Range as Count
from gesher.ops.core.indexing import GatherND as Gather
from gesher.ops.core.indexing import gather_nd
from gesher.ops.core.ordering import unique as unique_of
from gesher.ops.core.padding import Pad as Padding
from gesher.ops.core.padding import pad_11
from gesher.ops.core.rearranging import Trilu as Triangle
from gesher.ops.core.sampling import GridSample as Sample
from gesher.ops.rules import InferNode, Run
from gesher.ops.schema import ALL, BF16, BOOL, FLOATS, NUMBERS, REQUIRED, Attr, Input, Output, op, tensors
from gesher.ops.sizes import known_int, scalar_of
from gesher.primitives import Builder, CannotLower, Expr
from gesher.symbolic import bounds, fresh

from .types import INDEX, MS

Trilu = op("Trilu", Input("X"), Input("k", "tensor(int64)", optional=True), Output("Y"), Attr("upper", "int", 1),
           domain=MS, T=NUMBERS | BF16 | BOOL)
borrow(Trilu, Triangle, 14)

GatherND = op("GatherND", Input("data"), Input("indices", "Tind"), Output("output"), domain=MS, T=ALL, Tind=INDEX)
borrow(GatherND, Gather, 11, ("infer", "lower"))


@GatherND.reference
def gather_nd_ms(data: Any, indices: Any) -> Any:
    return gather_nd(data, indices)


GridSample = op("GridSample", Input("X", "T1"), Input("Grid", "T1"), Output("Y", "T2"),
                Attr("align_corners", "int", 0), Attr("padding_mode", "string", "zeros"),
                Attr("mode", "string", "bilinear"), domain=MS, T1=ALL, T2=FLOATS)
borrow(GridSample, Sample, 16)

UnfoldTensor = op("UnfoldTensor", Input("input"), Output("output"), Attr("dim", "int", -1), Attr("step", "int", 1),
                  Attr("size", "int", REQUIRED), domain=MS, T=ALL | BF16)
ExpandDims = op("ExpandDims", Input("X"), Input("axis", "tensor(int32)"), Output("Y"), domain=MS, T=ALL)
Range = op("Range", Input("start"), Input("limit"), Input("delta", optional=True), Output("Y"), domain=MS,
           T=tensors("float double int16 int32 int64"))
Pad = op("Pad", Input("data"), Input("pads", "tensor(int64)"), Input("value", optional=True), Output("output"),
         Attr("mode", "string", "constant"), domain=MS, T=FLOATS)
Unique = op("Unique", Input("x"), Output("y"), Output("idx", "tensor(int64)"), Output("counts", "tensor(int64)"),
            domain=MS, T=ALL)


# Pad: as opset 11, with pads that may stand in a row of a matrix

@Pad.infer
def _(node: InferNode) -> None:
    seen = InferNode(node.node, node.operator, Padding.versions[2], node.inputs, node.equalities)
    shape = node.shape(1)
    if shape is not None and len(shape) == 2:
        node.unify(shape[0], 1, "the rows of pads")
    rule_of(Padding, "infer", 11)(seen)
    node.outputs = seen.outputs


@Pad.reference
def pad_ms(data: Any, pads: Any, value: Any = None, *, mode: str, run: Run) -> Any:
    return pad_11(data, pads.reshape(-1), value, mode=mode, run=run)


@Pad.lower
def _(p: Builder, data: Expr, pads: Expr, value: Expr | None = None, *, mode: str) -> Any:
    return rule_of(Padding, "lower", 11)(p, data, pads, value, mode=mode)


# Range: a step of 1 where none is given

@Range.infer
def _(node: InferNode) -> None:
    if node.has(2):
        rule_of(Count, "infer", 11)(node)
        return
    start, limit = scalar_of(node, 0), scalar_of(node, 1)
    size = None
    if isinstance(start, int) and isinstance(limit, int):
        size = max(limit - start, 0)
    elif (low := node.numbers(0)) is not None and (high := node.numbers(1)) is not None:
        size = max(int(np.ceil(float(high.reshape(())) - float(low.reshape(())))), 0)
    node.set(0, node.dtype(0), (size,), why="start and limit are not both known")


@Range.reference
def range_ms(start: Any, limit: Any, delta: Any = None, *, run: Run) -> Any:
    step = np.ones((), start.dtype) if delta is None else delta
    return rule_of(Count, "reference", 11)(start, limit, step, run=run)


@Range.lower
def _(p: Builder, start: Expr, limit: Expr, delta: Expr | None = None) -> Any:
    step = p.scalar(1, start.dtype) if delta is None else delta
    return rule_of(Count, "lower", 11)(p, start, limit, step)


# ExpandDims

@ExpandDims.infer
def _(node: InferNode) -> None:
    x, axis = node.shape(0), scalar_of(node, 1)
    if x is None or not isinstance(axis, int):
        node.set(0, node.dtype(0), None if x is None else (None,) * (len(x) + 1), why="the axis is not known")
        return
    at = axis_of(axis, len(x) + 1, node)
    node.set(0, node.dtype(0), (*x[:at], 1, *x[at:]))


@ExpandDims.reference
def expand_dims(x: Any, axis: Any) -> Any:
    return np.expand_dims(x, axis_of(int(axis.reshape(())), x.ndim + 1))


@ExpandDims.lower
def _(p: Builder, x: Expr, axis: Expr) -> Expr:
    at = known_int(p, axis, "the axis")
    if not isinstance(at, int):
        raise CannotLower("an axis that depends on sizes")
    return p.expand_dims(x, [axis_of(at, x.rank + 1)])


# UnfoldTensor: windows of `size` along an axis, `step` apart, in a new last axis

def _windows(size: Any, length: int, step: int) -> Any:
    return (size - length) // step + 1


@UnfoldTensor.infer
def _(node: InferNode) -> None:
    x = node.shape(0)
    if node["size"] < 1 or node["step"] < 1:
        node.fail(f"the size {node['size']} and the step {node['step']} must be positive")
    if x is None:
        node.set(0, node.dtype(0), None, why="the shape of the input is unknown")
        return
    axis = axis_of(node["dim"], len(x), node, "dim")
    size = x[axis]
    if isinstance(size, int) and size < node["size"]:
        node.fail(f"a window of {node['size']} does not fit into {size} elements")
    node.set(0, node.dtype(0), (*x[:axis], _windows(size, node["size"], node["step"]), *x[axis + 1:], node["size"]))


@UnfoldTensor.reference
def unfold_tensor(x: Any, *, dim: int, step: int, size: int) -> Any:
    axis = axis_of(dim, x.ndim)
    count = _windows(x.shape[axis], size, step)
    places = np.arange(count)[:, None] * step + np.arange(size)
    return np.moveaxis(np.take(x, places, axis), axis + 1, -1)


@UnfoldTensor.lower
def _(p: Builder, x: Expr, *, dim: int, step: int, size: int) -> Expr:
    axis = axis_of(dim, x.rank)
    count = _windows(x.shape[axis], size, step)
    parts = [p.expand_dims(p.take(x, axis, i, i + (count - 1) * step + 1, step), [x.rank]) for i in range(size)]
    return p.reshape(p.concat(parts, x.rank), (*x.shape[:axis], count, *x.shape[axis + 1:], size))


# Unique

@Unique.infer
def _(node: InferNode) -> None:
    x = node.shape(0)
    if x is not None and len(x) != 1:
        node.fail(f"x is a list, it has {len(x)} axes")
    size = None if x is None else x[0]
    found = fresh("Unique: how many differ depends on the data", max=None if size is None else bounds(size)[1])
    node.set(0, node.dtype(0), (found,))
    node.set(1, dtypes.INT64, (size,))
    node.set(2, dtypes.INT64, (found,))


@Unique.reference
def unique(x: Any) -> Any:
    y, _, inverse, counts = unique_of(x, axis=None, sorted=0)
    return y, inverse, counts
