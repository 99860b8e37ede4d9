"""QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear.

The shape of the scale tells how finely it holds: a scalar (or one element) for the whole tensor, a list for the places
along `axis`, and, with `block_size`, a tensor like x whose every element holds for a block along `axis`.

What a reader would guess wrong: the division happens in the type of the *scale* (or what `precision` says), not of x;
and the quantised type is that of the zero point, `output_dtype` only where there is none, and else uint8.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import ModelError
from gesher.ir import DimLike
from gesher.ir.types import print_shape
from gesher.primitives import Builder, Expr
from gesher.symbolic import ceil_div, decide_eq

from ..arithmetic import widen
from ..axes import axis_of
from ..quantized import less_zero, less_zero_expr, quantize, quantize_expr
from ..rules import InferNode
from ..schema import (
    BF16,
    E8M0,
    FLOAT4,
    FLOAT6,
    FLOAT8,
    INT2,
    INT4,
    Attr,
    Input,
    Output,
    op,
    tensors,
)

_FLOAT = "tensor(float)"
BYTES = tensors("int8 uint8")
SHORTS = tensors("int16 uint16")
HALVES = tensors("float float16") | BF16
INT32 = tensors("int32")

QuantizeLinear = (op("QuantizeLinear", Input("x", "T1"), Input("y_scale", _FLOAT),
                     Input("y_zero_point", "T2", optional=True), Output("y", "T2"), since=10,
                     T1=tensors("float int32"), T2=BYTES)
                  .since(13, Attr("axis", "int", 1))
                  .since(19, Input("y_scale", "T1"), Attr("saturate", "int", 1), T1=HALVES | INT32, T2=BYTES | FLOAT8,
                         behaviour="x and its scale have one type")
                  .since(21, Attr("block_size", "int", 0), Attr("output_dtype", "int", 0),
                         T2=BYTES | SHORTS | INT4 | FLOAT8)
                  .since(23, Input("y_scale", "T2"), Input("y_zero_point", "T3", optional=True), Output("y", "T3"),
                         Attr("precision", "int", 0), T2=HALVES | INT32, T3=BYTES | SHORTS | INT4 | FLOAT8 | FLOAT4)
                  .since(24, T2=HALVES | INT32 | E8M0)
                  .since(25, T3=BYTES | SHORTS | INT4 | INT2 | FLOAT8 | FLOAT4)
                  .since(28, T3=BYTES | SHORTS | INT4 | INT2 | FLOAT8 | FLOAT6 | FLOAT4))

_QUANTIZED = BYTES | SHORTS | INT32 | INT4 | FLOAT8
DequantizeLinear = (op("DequantizeLinear", Input("x"), Input("x_scale", _FLOAT),
                       Input("x_zero_point", optional=True), Output("y", _FLOAT), since=10, T=BYTES | INT32)
                    .since(13, Attr("axis", "int", 1))
                    .since(19, Input("x", "T1"), Input("x_scale", "T2"), Input("x_zero_point", "T1", optional=True),
                           Output("y", "T2"), T=None, T1=BYTES | INT32 | FLOAT8, T2=HALVES)
                    .since(21, Attr("block_size", "int", 0), T1=_QUANTIZED)
                    .since(23, Output("y", "T3"), Attr("output_dtype", "int", 0), T1=_QUANTIZED | FLOAT4, T3=HALVES)
                    .since(24, T2=HALVES | E8M0)
                    .since(25, T1=_QUANTIZED | FLOAT4 | INT2)
                    .since(28, T1=_QUANTIZED | FLOAT4 | INT2 | FLOAT6))

DynamicQuantizeLinear = op("DynamicQuantizeLinear", Input("x", "T1"), Output("y", "T2"), Output("y_scale", _FLOAT),
                           Output("y_zero_point", "T2"), since=11, T1=tensors("float"), T2=tensors("uint8"))


# Inference

def _attribute(node: InferNode, name: str, default: int) -> int:
    given = node[name] if name in node.schema.attributes else None
    return default if given is None else given


def check_granularity(node: InferNode, scale_name: str) -> None:
    """Refuse scales and zero points that surely do not fit x."""
    x, scale, zero = node.shape(0), node.shape(1), node.shape(2)
    if scale is not None and zero is not None and scale != zero and not (_single(scale) and _single(zero)):
        if len(scale) != len(zero):
            if _may_be_single(scale) and _may_be_single(zero):
                return
            node.fail(f"the zero point {print_shape(zero)} does not have the shape of the scale {print_shape(scale)}")
        for a, b in zip(scale, zero):
            node.unify(a, b, f"the scale {print_shape(scale)} and the zero point {print_shape(zero)}")
    if x is None or scale is None or _may_be_single(scale):
        return
    axis = axis_of(_attribute(node, "axis", 1), len(x), node)
    block = _attribute(node, "block_size", 0)
    if block < 0:
        node.fail(f"block_size is {block}")
    if not block:
        if len(scale) != 1:
            node.fail(f"{scale_name} is a scalar or a list, not {print_shape(scale)}",
                      "a scale for each block needs block_size" if "block_size" in node.schema.attributes else None)
        if isinstance(scale[0], int):
            node.unify(x[axis], scale[0], f"axis {axis} of x and {scale_name}")
        return
    if len(scale) != len(x):
        node.fail(f"{scale_name} {print_shape(scale)} must have the rank of x {print_shape(x)} where there are blocks")
    for i, (a, b) in enumerate(zip(x, scale)):
        node.unify(ceil_div(a, block) if i == axis else a, b, f"axis {i} of x, in blocks, and of {scale_name}")


def _single(shape: tuple[DimLike, ...]) -> bool:
    """True where a scale of this shape holds for the whole tensor."""
    return all(d == 1 for d in shape)


def _may_be_single(shape: tuple[DimLike, ...]) -> bool:
    return all(decide_eq(d, 1) is not False for d in shape)


@QuantizeLinear.infer
def _(node: InferNode) -> None:
    check_granularity(node, "y_scale")
    asked = _attribute(node, "output_dtype", 0)
    zero = node.dtype(2) if node.has(2) else None
    if zero is not None and asked and zero.code not in (0, asked):
        node.fail(f"output_dtype is {dtypes.BY_CODE.get(asked, asked)}, the zero point is {zero.name}")
    dtype = zero if zero is not None else dtypes.BY_CODE.get(asked, dtypes.UINT8) if asked else dtypes.UINT8
    x = node.input(0)
    node.set(0, dtype, None if x is None else x.shape, why="the shape of x is unknown")


@DequantizeLinear.infer
def _(node: InferNode) -> None:
    check_granularity(node, "x_scale")
    dtype = dtypes.FLOAT if node.version < 19 else node.dtype(1)
    if asked := _attribute(node, "output_dtype", 0):
        dtype = dtypes.BY_CODE.get(asked, dtypes.UNDEFINED)
    if dtype is dtypes.FLOAT8E8M0:
        node.fail("a scale of float8e8m0 is no type for the result", "write output_dtype")
    x = node.input(0)
    node.set(0, dtype, None if x is None else x.shape, why="the shape of x is unknown")


@DynamicQuantizeLinear.infer
def _(node: InferNode) -> None:
    x = node.input(0)
    node.set(0, dtypes.UINT8, None if x is None else x.shape, why="the shape of x is unknown")
    node.set(1, dtypes.FLOAT, ())
    node.set(2, dtypes.UINT8, ())


# Reference

def _spread(v: Any, x: Any, axis: int, block_size: int) -> Any:
    """A scale or zero point as it broadcasts against x."""
    if v is None or v.size == 1:
        return None if v is None else v.reshape(())
    axis = axis_of(axis, x.ndim)
    if block_size:
        v = np.repeat(v, block_size, axis)
        return v[(slice(None),) * axis + (slice(0, x.shape[axis]),)]
    if v.ndim != 1:
        raise ModelError(f"a scale of {print_shape(v.shape)} needs block_size", rule="quantization")
    return v.reshape(-1, *(1,) * (x.ndim - axis - 1))


def _dividing(scale: DType, precision: int) -> DType:
    """The type in which x is divided by its scale."""
    if precision:
        return dtypes.by_code(precision)
    # A power of two or an integer is a scale, not a type to divide in.
    return scale if scale.is_float and scale is not dtypes.FLOAT8E8M0 else dtypes.FLOAT


@QuantizeLinear.reference
def quantize_linear(x: Any, y_scale: Any, y_zero_point: Any = None, *, axis: int = 1, saturate: int = 1,
                    block_size: int = 0, output_dtype: int = 0, precision: int = 0) -> Any:
    dtype = dtypes.from_numpy(y_zero_point.dtype) if y_zero_point is not None else dtypes.by_code(
        output_dtype) if output_dtype else dtypes.UINT8
    divide_in = _dividing(dtypes.from_numpy(y_scale.dtype), precision).numpy
    scale = _spread(y_scale, x, axis, block_size)
    with np.errstate(all="ignore"):
        real = x.astype(divide_in) / scale.astype(divide_in)
    return quantize(widen(np.asarray(real)), _spread(y_zero_point, x, axis, block_size), dtype, bool(saturate))


@DequantizeLinear.reference
def dequantize_linear(x: Any, x_scale: Any, x_zero_point: Any = None, *, axis: int = 1, block_size: int = 0,
                      output_dtype: int = 0) -> Any:
    dtype = dtypes.by_code(output_dtype).numpy if output_dtype else x_scale.dtype
    less = less_zero(x, _spread(x_zero_point, x, axis, block_size)).astype(np.float32)
    with np.errstate(all="ignore"):
        return (less * _spread(x_scale, x, axis, block_size).astype(np.float32)).astype(dtype)


@DynamicQuantizeLinear.reference
def dynamic_quantize_linear(x: Any) -> Any:
    low, high = np.minimum(x.min(initial=0), 0), np.maximum(x.max(initial=0), 0)
    # Zeros alone would make the scale 0 and divide by it; any other does, and ONNX Runtime takes 1 too.
    scale = np.float32(1) if low == high else np.float32((high - low) / np.float32(255))
    zero = np.rint(np.clip(-low / scale, 0, 255)).astype(np.uint8)
    return quantize(x / scale, np.asarray(zero), dtypes.UINT8), np.asarray(scale), np.asarray(zero)


# Lowering

def _spread_expr(p: Builder, v: Expr, x: Expr, axis: int, block_size: int) -> Expr:
    if _single(v.shape):
        return p.reshape(v, ())
    axis = axis_of(axis, x.rank)
    if not block_size:
        return p.reshape(v, (v.shape[0], *(1,) * (x.rank - axis - 1)))
    before, count, after = v.shape[:axis], v.shape[axis], v.shape[axis + 1:]
    v = p.hold(p.reshape(v, (*before, count, 1, *after)), "scales of blocks",
               ("same", count, ceil_div(x.shape[axis], block_size)),
               *(("same", a, b) for i, (a, b) in enumerate(zip(x.shape, v.shape)) if i != axis))
    v = p.broadcast_to(v, (*before, count, block_size, *after))
    return p.take(p.reshape(v, (*before, count * block_size, *after)), axis, 0, x.shape[axis])


@QuantizeLinear.lower
def _(p: Builder, x: Expr, y_scale: Expr, y_zero_point: Expr | None = None, *, axis: int = 1, saturate: int = 1,
      block_size: int = 0, output_dtype: int = 0, precision: int = 0) -> Expr:
    dtype = y_zero_point.dtype if y_zero_point is not None else dtypes.by_code(
        output_dtype) if output_dtype else dtypes.UINT8
    divide_in = _dividing(y_scale.dtype, precision)
    real = p.cast(x, divide_in) / p.cast(_spread_expr(p, y_scale, x, axis, block_size), divide_in)
    zero = None if y_zero_point is None else _spread_expr(p, y_zero_point, x, axis, block_size)
    if real.dtype.bits < 32:
        real = p.cast(real, dtypes.FLOAT)
    return quantize_expr(p, real, zero, dtype, bool(saturate))


@DequantizeLinear.lower
def _(p: Builder, x: Expr, x_scale: Expr, x_zero_point: Expr | None = None, *, axis: int = 1, block_size: int = 0,
      output_dtype: int = 0) -> Expr:
    dtype = dtypes.by_code(output_dtype) if output_dtype else x_scale.dtype
    zero = None if x_zero_point is None else _spread_expr(p, x_zero_point, x, axis, block_size)
    less = p.cast(less_zero_expr(p, x, zero), dtypes.FLOAT)
    return p.cast(less * p.cast(_spread_expr(p, x_scale, x, axis, block_size), dtypes.FLOAT), dtype)


def _range(p: Builder, x: Expr) -> Expr:
    """The least and the largest number, 0 among them, as a list of two."""
    return p.concat([p.reshape(e, (1,)) for e in (p.min(p.amin(x), 0.0), p.max(p.amax(x), 0.0))], 0)


@DynamicQuantizeLinear.lower
def _(p: Builder, x: Expr) -> tuple[Expr, Expr, Expr]:
    both = p.composite("range", _range, x)
    low, high = (p.reshape(p.take(both, 0, i, i + 1), ()) for i in (0, 1))
    scale = p.select(p.eq(low, high), 1.0, (high - low) / 255.0)
    zero = p.cast(p.round(p.min(p.max(-low / scale, 0.0), 255.0)), dtypes.UINT8)
    return quantize_expr(p, x / scale, zero, dtypes.UINT8), scale, zero
