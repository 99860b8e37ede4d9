"""Maps on quantised tensors: QLinearAdd and its like take counts and give counts, of one scale for each tensor.

The numbers that the counts stand for go through the operator in float32, and the result is counted anew. ONNX Runtime
looks most of them up in tables of 256 entries; answers differ by one count where a result lies within float32's error
of a half.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ops.axes import axis_of
from gesher.ops.borrowing import rule_of
from gesher.ops.broadcasting import broadcast_inputs
from gesher.ops.core.quantization import DequantizeLinear as Dequantize
from gesher.ops.core.quantization import QuantizeLinear as Quantize
from gesher.ops.core.quantization import (
    check_granularity,
    dequantize_linear,
    quantize_linear,
)
from gesher.ops.core.softmax import Softmax
from gesher.ops.elementwise import infer_same
from gesher.ops.gates import ACTIVATIONS
from gesher.ops.quantized import count_expr, count_of, quantize, quantize_expr, real_expr, real_of
from gesher.ops.rules import InferNode
from gesher.ops.schema import BOOL, REQUIRED, Attr, Input, Operator, Output, op, tensors
from gesher.primitives import Builder, Expr

from .types import BYTES, FLOAT, HALVES, MS

_FLOAT = "tensor(float)"
_COUNTS = tensors("int8 uint8 int16 uint16 int4 uint4")

QuantizeLinear = op("QuantizeLinear", Input("x", "T1"), Input("y_scale", "T1"),
                    Input("y_zero_point", "T2", optional=True), Output("y", "T2"), Attr("axis", "int"), domain=MS,
                    T1=HALVES, T2=_COUNTS)

DequantizeLinear = op("DequantizeLinear", Input("x", "T1"), Input("x_scale", "T2"),
                      Input("x_zero_point", "T1", optional=True), Output("y", "T2"), Attr("axis", "int"), domain=MS,
                      T1=_COUNTS | tensors("int32"), T2=HALVES)


# QuantizeLinear and DequantizeLinear: as in ONNX before blocks, with an axis of 1 where none is written

@QuantizeLinear.infer
def _(node: InferNode) -> None:
    check_granularity(node, "y_scale")
    x = node.input(0)
    node.set(0, node.dtype(2) if node.has(2) else dtypes.UINT8, None if x is None else x.shape)


@DequantizeLinear.infer
def _(node: InferNode) -> None:
    check_granularity(node, "x_scale")
    x = node.input(0)
    node.set(0, node.dtype(1), None if x is None else x.shape)


def _axis(axis: int | None) -> int:
    return 1 if axis is None else axis


@QuantizeLinear.reference
def quantize_linear_ms(x: Any, y_scale: Any, y_zero_point: Any = None, *, axis: int | None) -> Any:
    return quantize_linear(x, y_scale, y_zero_point, axis=_axis(axis))


@DequantizeLinear.reference
def dequantize_linear_ms(x: Any, x_scale: Any, x_zero_point: Any = None, *, axis: int | None) -> Any:
    return dequantize_linear(x, x_scale, x_zero_point, axis=_axis(axis))


@QuantizeLinear.lower
def _(p: Builder, x: Expr, y_scale: Expr, y_zero_point: Expr | None = None, *, axis: int | None) -> Any:
    return rule_of(Quantize, "lower", 13)(p, x, y_scale, y_zero_point, axis=_axis(axis))


@DequantizeLinear.lower
def _(p: Builder, x: Expr, x_scale: Expr, x_zero_point: Expr | None = None, *, axis: int | None) -> Any:
    return rule_of(Dequantize, "lower", 13)(p, x, x_scale, x_zero_point, axis=_axis(axis))


# Two operands: the zero point is added before the sum or product is rounded, so that halves go to an even *count*

_TWO = (Input("A"), Input("A_scale", _FLOAT), Input("A_zero_point", optional=True), Input("B"),
        Input("B_scale", _FLOAT), Input("B_zero_point", optional=True), Input("C_scale", _FLOAT),
        Input("C_zero_point", optional=True), Output("C"))

QLinearAdd = op("QLinearAdd", *_TWO, domain=MS, T=BYTES)
QLinearMul = op("QLinearMul", *_TWO, domain=MS, T=BYTES)

for _operator in (QLinearAdd, QLinearMul):
    _operator.infer(lambda node: node.set(0, node.dtype(0), broadcast_inputs(node, 0, 3)))


def _zero(zero: Any) -> Any:
    return np.float32(0) if zero is None else zero.reshape(()).astype(np.float32)


@QLinearAdd.reference
def qlinear_add(a: Any, a_scale: Any, a_zero: Any, b: Any, b_scale: Any, b_zero: Any, c_scale: Any,
                c_zero: Any = None) -> Any:
    a_part, b_part = (s.reshape(()) / c_scale.reshape(()) for s in (a_scale, b_scale))
    fixed = _zero(c_zero) - (a_part * _zero(a_zero) + b_part * _zero(b_zero))
    counted = a_part * a.astype(np.float32) + (b_part * b.astype(np.float32) + fixed)
    return quantize(counted, None, dtypes.from_numpy(a.dtype))


@QLinearMul.reference
def qlinear_mul(a: Any, a_scale: Any, a_zero: Any, b: Any, b_scale: Any, b_zero: Any, c_scale: Any,
                c_zero: Any = None) -> Any:
    scale = a_scale.reshape(()) * b_scale.reshape(()) / c_scale.reshape(())
    counted = (a.astype(np.float32) - _zero(a_zero)) * (b.astype(np.float32) - _zero(b_zero)) * scale
    return quantize(counted + _zero(c_zero), None, dtypes.from_numpy(a.dtype))


def _float(p: Builder, x: Expr | None) -> Expr:
    """A scale or zero point as a scalar float."""
    return p.scalar(0.0, dtypes.FLOAT) if x is None else p.cast(p.reshape(x, ()), dtypes.FLOAT)


@QLinearAdd.lower
def _(p: Builder, a: Expr, a_scale: Expr, a_zero: Expr | None, b: Expr, b_scale: Expr, b_zero: Expr | None,
      c_scale: Expr, c_zero: Expr | None = None) -> Expr:
    a_part, b_part = (_float(p, s) / _float(p, c_scale) for s in (a_scale, b_scale))
    fixed = _float(p, c_zero) - (a_part * _float(p, a_zero) + b_part * _float(p, b_zero))
    counted = p.cast(a, dtypes.FLOAT) * a_part + (p.cast(b, dtypes.FLOAT) * b_part + fixed)
    return quantize_expr(p, counted, None, a.dtype)


@QLinearMul.lower
def _(p: Builder, a: Expr, a_scale: Expr, a_zero: Expr | None, b: Expr, b_scale: Expr, b_zero: Expr | None,
      c_scale: Expr, c_zero: Expr | None = None) -> Expr:
    scale = _float(p, a_scale) * _float(p, b_scale) / _float(p, c_scale)
    counted = (p.cast(a, dtypes.FLOAT) - _float(p, a_zero)) * (p.cast(b, dtypes.FLOAT) - _float(p, b_zero)) * scale
    return quantize_expr(p, counted + _float(p, c_zero), None, a.dtype)


# One operand

_ONE = (Input("X"), Input("X_scale", _FLOAT), Input("X_zero_point", optional=True), Input("Y_scale", _FLOAT),
        Input("Y_zero_point", optional=True), Output("Y"))

QLinearSigmoid = op("QLinearSigmoid", *_ONE, domain=MS, T=BYTES)
QLinearLeakyRelu = op("QLinearLeakyRelu", *_ONE, Attr("alpha", "float", 0.01), domain=MS, T=BYTES)


def _unary(operator: Operator, activation: str) -> None:
    row = ACTIVATIONS[activation]
    operator.infer(infer_same)

    @operator.reference
    def _(x: Any, x_scale: Any, x_zero: Any, y_scale: Any, y_zero: Any = None, *, alpha: float = 0.0) -> Any:
        real = row.compute(real_of(x, x_scale, x_zero), np.float32(alpha), 0.0)  # type: ignore[arg-type]
        return count_of(real, y_scale, y_zero, dtypes.from_numpy(x.dtype))

    @operator.lower
    def _(p: Builder, x: Expr, x_scale: Expr, x_zero: Expr | None, y_scale: Expr, y_zero: Expr | None = None, *,
          alpha: float = 0.0) -> Expr:
        return count_expr(p, row.lower(p, real_expr(p, x, x_scale, x_zero), alpha, 0.0), y_scale, y_zero, x.dtype)


_unary(QLinearSigmoid, "sigmoid")
_unary(QLinearLeakyRelu, "leakyrelu")


# Softmax: `opset` says which of ONNX's two is meant; before 13 the axes from `axis` on are one

QLinearSoftmax = op("QLinearSoftmax", Input("X"), Input("X_scale", _FLOAT), Input("x_zero_point", optional=True),
                    Input("y_scale", _FLOAT), Input("y_zero_point"), Output("Y"), Attr("opset", "int", REQUIRED),
                    Attr("axis", "int", -1), domain=MS, T=BYTES)
QLinearSoftmax.infer(infer_same)


@QLinearSoftmax.reference
def qlinear_softmax(x: Any, x_scale: Any, x_zero: Any, y_scale: Any, y_zero: Any, *, opset: int, axis: int) -> Any:
    # The zero point moves all scores alike, and says nothing.
    real = rule_of(Softmax, "reference", opset)(real_of(x, x_scale, None), axis=axis)
    return count_of(real, y_scale, y_zero, dtypes.from_numpy(x.dtype))


@QLinearSoftmax.lower
def _(p: Builder, x: Expr, x_scale: Expr, x_zero: Expr | None, y_scale: Expr, y_zero: Expr, *, opset: int,
      axis: int) -> Expr:
    real = rule_of(Softmax, "lower", opset)(p, real_expr(p, x, x_scale, None), axis=axis)
    return count_expr(p, real, y_scale, y_zero, x.dtype)


# Where

QLinearWhere = op("QLinearWhere", Input("condition", "B"), Input("X"), Input("x_scale", "TF"), Input("x_zero_point"),
                  Input("Y"), Input("y_scale", "TF"), Input("y_zero_point"), Input("z_scale", "TF"),
                  Input("z_zero_point"), Output("Z"), domain=MS, B=BOOL, TF=FLOAT, T=BYTES)
QLinearWhere.infer(lambda node: node.set(0, node.dtype(1), broadcast_inputs(node, 0, 1, 4)))


@QLinearWhere.reference
def qlinear_where(condition: Any, x: Any, x_scale: Any, x_zero: Any, y: Any, y_scale: Any, y_zero: Any, z_scale: Any,
                  z_zero: Any) -> Any:
    real = np.where(condition, real_of(x, x_scale, x_zero), real_of(y, y_scale, y_zero))
    return count_of(real, z_scale, z_zero, dtypes.from_numpy(x.dtype))


@QLinearWhere.lower
def _(p: Builder, condition: Expr, x: Expr, x_scale: Expr, x_zero: Expr, y: Expr, y_scale: Expr, y_zero: Expr,
      z_scale: Expr, z_zero: Expr) -> Expr:
    # Both are counted anew before the choice, as tables would do it.
    return p.select(condition, count_expr(p, real_expr(p, x, x_scale, x_zero), z_scale, z_zero, x.dtype),
                    count_expr(p, real_expr(p, y, y_scale, y_zero), z_scale, z_zero, x.dtype))


# Concat: after the scale and zero point of the result, three inputs for each part: counts, scale, zero point

QLinearConcat = op("QLinearConcat", Input("Y_scale", "TF"), Input("Y_zero_point", "T8"),
                   Input("inputs", "TV", variadic=True, homogeneous=False), Output("Y", "T8"),
                   Attr("axis", "int", REQUIRED), domain=MS, T8=BYTES, TF=FLOAT, TV=tensors("uint8 int8 float"))


@QLinearConcat.infer
def _(node: InferNode) -> None:
    if len(node.inputs) < 5 or (len(node.inputs) - 2) % 3:
        node.fail(f"counts, scales and zero points come in threes, not {len(node.inputs) - 2}")
    if any(f is None or f.shape is None for f in node.inputs[2::3]):
        node.set(0, node.dtype(1), None, why="the shape of an input is unknown")
        return
    first, *others = (node.shape(i) for i in range(2, len(node.inputs), 3))
    assert first is not None
    axis = axis_of(node["axis"], len(first), node)
    sizes = list(first)
    for other in others:
        assert other is not None
        if len(other) != len(first):
            node.fail(f"the parts have the ranks {len(first)} and {len(other)}")
        for i, d in enumerate(other):
            sizes[i] = sizes[i] + d if i == axis else node.unify(sizes[i], d, f"axis {i} of the parts")  # type: ignore[assignment]
    node.set(0, node.dtype(1), sizes)


@QLinearConcat.reference
def qlinear_concat(y_scale: Any, y_zero: Any, *inputs: Any, axis: int) -> Any:
    dtype = dtypes.from_numpy(y_zero.dtype)
    return np.concatenate([count_of(real_of(*inputs[i:i + 3]), y_scale, y_zero, dtype)
                           for i in range(0, len(inputs), 3)], axis)


@QLinearConcat.lower
def _(p: Builder, y_scale: Expr, y_zero: Expr, *inputs: Expr, axis: int) -> Expr:
    return p.concat([count_expr(p, real_expr(p, *inputs[i:i + 3]), y_scale, y_zero, y_zero.dtype)
                     for i in range(0, len(inputs), 3)], axis)
