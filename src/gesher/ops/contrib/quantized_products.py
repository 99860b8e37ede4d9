"""Products of quantised matrices that give real numbers, or counts of another scale.

Sums of products are exact integers in all of them; what differs is which operand comes quantised, and where scales
stand. Only two things round: the quantisation of a matrix that comes as real numbers, and the scaling at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ops.beside import check, is_one, of_columns, require
from gesher.ops.borrowing import rule_of
from gesher.ops.broadcasting import broadcast_into
from gesher.ops.core.products import exact_product, infer_matmul, integer_product
from gesher.ops.core.quantization import DynamicQuantizeLinear, dynamic_quantize_linear
from gesher.ops.quantized import less_zero, matmul_integers, quantize, quantize_expr
from gesher.ops.rules import InferNode
from gesher.ops.schema import Attr, Input, Output, op, tensors
from gesher.primitives import Builder, Expr
from gesher.symbolic import decide_eq

from .types import BYTES, FLOAT, HALVES, INT32, MS

DynamicQuantizeMatMul = op("DynamicQuantizeMatMul", Input("A", "T1"), Input("B", "T2"), Input("b_scale", "T1"),
                           Input("b_zero_point", "T2", optional=True), Input("bias", "T1", optional=True),
                           Output("Y", "T1"), domain=MS, T1=FLOAT, T2=BYTES)

MatMulIntegerToFloat = op("MatMulIntegerToFloat", Input("A", "T1"), Input("B", "T2"), Input("a_scale", "T3"),
                          Input("b_scale", "T3"), Input("a_zero_point", "T1", optional=True),
                          Input("b_zero_point", "T2", optional=True), Input("bias", "T3", optional=True),
                          Output("Y", "T3"), domain=MS, T1=BYTES, T2=BYTES, T3=HALVES)

QGemm = op("QGemm", Input("A", "TA"), Input("a_scale"), Input("a_zero_point", "TA"), Input("B", "TB"),
           Input("b_scale"), Input("b_zero_point", "TB"), Input("C", "TC", optional=True),
           Input("y_scale", optional=True), Input("y_zero_point", "TYZ", optional=True), Output("Y", "TY"),
           Attr("transB", "int", 0), Attr("alpha", "float", 1.0), Attr("transA", "int", 0), domain=MS, T=FLOAT,
           TA=BYTES, TB=BYTES, TC=INT32, TYZ=BYTES, TY=tensors("float uint8 int8"))

_SHORTS = tensors("int16 uint16")
MatMulInteger16 = op("MatMulInteger16", Input("A", "T1"), Input("B", "T2"), Output("Y", "T3"), domain=MS, T1=_SHORTS,
                     T2=_SHORTS, T3=tensors("int32 uint32"))


# Inference

_ONE = "one number"
_BY_COLUMN = "one number, or one for each column of B"
_BIAS = "a list of one number for each column of B"


def _is_bias(shape: Any, b: Any) -> bool | None:
    return len(b) > 1 and len(shape) == 1 and decide_eq(shape[0], b[-1])


def _check_beside(node: InferNode, ones: Sequence[int], columns: Sequence[int], bias: int) -> None:
    """Refuse scales, zero points and a bias that do not fit."""
    b = node.shape(1)
    for i in (*ones, *columns, bias):
        shape = node.shape(i) if node.has(i) else None
        if shape is None:
            continue
        if i in ones:
            check(node, i, is_one(shape), _ONE)
        elif b is not None and i == bias:
            check(node, i, _is_bias(shape, b), _BIAS)
        elif b is not None:
            check(node, i, of_columns(shape, b, listed=True), _BY_COLUMN)


@DynamicQuantizeMatMul.infer
def _(node: InferNode) -> None:
    _check_beside(node, (), (2, 3), 4)
    infer_matmul(node, 0, 1, dtypes.FLOAT)


@MatMulIntegerToFloat.infer
def _(node: InferNode) -> None:
    _check_beside(node, (2, 4), (3, 5), 6)
    infer_matmul(node, 0, 1, node.dtype(2))


@MatMulInteger16.infer
def _(node: InferNode) -> None:
    signed = dtypes.INT16 in (node.dtype(0), node.dtype(1))
    infer_matmul(node, 0, 1, dtypes.INT32 if signed else dtypes.UINT32)


@QGemm.infer
def _(node: InferNode) -> None:
    a, b, c = node.shape(0), node.shape(3), node.shape(6)
    for name, shape in (("A", a), ("B", b)):
        if shape is not None and len(shape) != 2:
            node.fail(f"{name} is a matrix, it has rank {len(shape)}")
    a = a[::-1] if a is not None and node["transA"] else a
    b = b[::-1] if b is not None and node["transB"] else b
    if a is not None and b is not None:
        node.unify(a[1], b[0], f"{a[1]} columns of A (transposed: {bool(node['transA'])}) meet {b[0]} rows of B "
                               f"(transposed: {bool(node['transB'])})")
        broadcast_into(node, (a[0], b[1]), c, "C")
    node.set(0, node.dtype(8) if node.has(8) else dtypes.FLOAT,
             (None if a is None else a[0], None if b is None else b[1]), why="the shape of a matrix is unknown")


# Reference

def _columns(v: Any) -> Any:
    """A scale or zero point of the right matrix: one number, or one for each column, alone or under batch axes."""
    if v is None or v.size == 1:
        return None if v is None else v.reshape(())
    return v if v.ndim < 2 else np.expand_dims(v, -2) if v.shape[-2] != 1 else v


def _scaled_product(a: Any, a_scale: Any, a_zero: Any, b: Any, b_scale: Any, b_zero: Any, bias: Any) -> Any:
    for name, v in (("a_scale", a_scale), ("a_zero_point", a_zero)):
        if v is not None:
            require(name, v.shape, is_one(v.shape), _ONE)
    for name, v in (("b_scale", b_scale), ("b_zero_point", b_zero)):
        if v is not None:
            require(name, v.shape, of_columns(v.shape, b.shape, listed=True), _BY_COLUMN)
    if bias is not None:
        require("bias", bias.shape, _is_bias(bias.shape, b.shape), _BIAS)
    y = exact_product(less_zero(a, None if a_zero is None else a_zero.reshape(())), less_zero(b, _columns(b_zero)))
    y = y.astype(np.float32) * (a_scale.reshape(()).astype(np.float32) * _columns(b_scale).astype(np.float32))
    return (y if bias is None else y + bias).astype(b_scale.dtype)


@DynamicQuantizeMatMul.reference
def dynamic_quantize_matmul(a: Any, b: Any, b_scale: Any, b_zero_point: Any = None, bias: Any = None) -> Any:
    counts, scale, zero = dynamic_quantize_linear(a)
    return _scaled_product(counts, scale, zero, b, b_scale, b_zero_point, bias)


@MatMulIntegerToFloat.reference
def matmul_integer_to_float(a: Any, b: Any, a_scale: Any, b_scale: Any, a_zero_point: Any = None,
                            b_zero_point: Any = None, bias: Any = None) -> Any:
    return _scaled_product(a, a_scale, a_zero_point, b, b_scale, b_zero_point, bias)


@MatMulInteger16.reference
def matmul_integer_16(a: Any, b: Any) -> Any:
    signed = np.int16 in (a.dtype.type, b.dtype.type)
    # Sums of full 16-bit products leave 32 bits, and wrap around.
    return np.matmul(a.astype(np.int64), b.astype(np.int64)).astype(np.int32 if signed else np.uint32)


@QGemm.reference
def qgemm(a: Any, a_scale: Any, a_zero: Any, b: Any, b_scale: Any, b_zero: Any, c: Any = None, y_scale: Any = None,
          y_zero: Any = None, *, transA: int, transB: int, alpha: float) -> Any:
    a = less_zero(a, a_zero.reshape(()))
    # Before the transposition, zero points of B stand along the axis that will be its columns.
    b = less_zero(b.T if transB else b, _columns(b_zero))
    y = exact_product(a.T if transA else a, b)
    y = y if c is None else y + c
    scale = np.float32(alpha) * a_scale.reshape(()) * _columns(b_scale)
    if y_scale is None:
        return (y.astype(np.float32) * scale).astype(np.float32)
    assert y_zero is not None
    return quantize(y.astype(np.float32) * (scale / y_scale.reshape(())), y_zero.reshape(()),
                    dtypes.from_numpy(y_zero.dtype))


# Lowering

def _column_expr(p: Builder, v: Expr) -> Expr:
    if all(d == 1 for d in v.shape):
        return p.reshape(v, ())
    return p.expand_dims(v, [-2]) if v.rank > 1 and v.shape[-2] != 1 else v


def scaled_product_expr(p: Builder, a: Expr, a_scale: Expr, a_zero: Expr | None, b: Expr, b_scale: Expr,
                        b_zero: Expr | None, bias: Expr | None) -> Expr:
    """The product of counts, scaled to real numbers, and a bias."""
    if b_zero is not None:
        b_zero = _column_expr(p, b_zero)
    y = p.cast(integer_product(p, a, a_zero, b, b_zero), dtypes.FLOAT)
    y = y * (p.cast(p.reshape(a_scale, ()), dtypes.FLOAT) * p.cast(_column_expr(p, b_scale), dtypes.FLOAT))
    return p.cast(y if bias is None else y + p.cast(bias, dtypes.FLOAT), b_scale.dtype)


@DynamicQuantizeMatMul.lower
def _(p: Builder, a: Expr, b: Expr, b_scale: Expr, b_zero_point: Expr | None = None, bias: Expr | None = None) -> Expr:
    counts, scale, zero = rule_of(DynamicQuantizeLinear, "lower", 11)(p, a)
    return scaled_product_expr(p, counts, scale, zero, b, b_scale, b_zero_point, bias)


@MatMulIntegerToFloat.lower
def _(p: Builder, a: Expr, b: Expr, a_scale: Expr, b_scale: Expr, a_zero_point: Expr | None = None,
      b_zero_point: Expr | None = None, bias: Expr | None = None) -> Expr:
    return scaled_product_expr(p, a, a_scale, a_zero_point, b, b_scale, b_zero_point, bias)


@MatMulInteger16.lower
def _(p: Builder, a: Expr, b: Expr) -> Expr:
    gives = dtypes.INT32 if dtypes.INT16 in (a.dtype, b.dtype) else dtypes.UINT32
    return p.matmul(p.cast(a, gives), p.cast(b, gives))


@QGemm.lower
def _(p: Builder, a: Expr, a_scale: Expr, a_zero: Expr, b: Expr, b_scale: Expr, b_zero: Expr, c: Expr | None = None,
      y_scale: Expr | None = None, y_zero: Expr | None = None, *, transA: int, transB: int, alpha: float) -> Expr:
    y = matmul_integers(p, p.transpose(a, (1, 0)) if transA else a, p.reshape(a_zero, ()),
                        p.transpose(b, (1, 0)) if transB else b, _column_expr(p, b_zero))
    y = p.cast(y if c is None else y + c, dtypes.FLOAT)
    scale = p.reshape(a_scale, ()) * _column_expr(p, b_scale) * alpha
    if y_scale is None:
        return y * scale
    assert y_zero is not None
    return quantize_expr(p, y * (scale / p.reshape(y_scale, ())), p.reshape(y_zero, ()), y_zero.dtype)
