"""Matrix products: MatMul, Gemm, and those of quantised matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.ir.types import print_shape
from gesher.primitives import Builder, Expr

from ..arithmetic import computed, lowered
from ..beside import check, of_columns, of_rows, require
from ..broadcasting import broadcast_into, broadcast_shapes
from ..quantized import less_zero, less_zero_expr, matmul_integers, quantize, quantize_expr
from ..rules import InferNode
from ..schema import BF16, FLOAT8, FLOATS, Attr, Drop, Input, Output, op, tensors

WORDS = tensors("int32 uint32 int64 uint64")
BYTES = tensors("int8 uint8")

MatMul = (op("MatMul", Input("A"), Input("B"), Output("Y"), T=FLOATS)
          .since(9, T=FLOATS | WORDS)
          .since(13, T=FLOATS | WORDS | BF16))

Gemm = (op("Gemm", Input("A"), Input("B"), Input("C"), Output("Y"), Attr("transA", "int", 0),
           Attr("transB", "int", 0), Attr("alpha", "float", 1.0), Attr("beta", "float", 1.0),
           Attr("broadcast", "int", 0), T=FLOATS)
        .since(6)
        .since(7, Drop("broadcast"), behaviour="C broadcasts as numpy does, instead of by an attribute")
        .since(9, T=FLOATS | WORDS)
        .since(11, Input("C", optional=True))
        .since(13, T=FLOATS | WORDS | BF16))

MatMulInteger = op("MatMulInteger", Input("A", "T1"), Input("B", "T2"), Input("a_zero_point", "T1", optional=True),
                   Input("b_zero_point", "T2", optional=True), Output("Y", "T3"), since=10,
                   T1=BYTES, T2=BYTES, T3=tensors("int32"))

_FLOAT = "tensor(float)"
QLinearMatMul = (op("QLinearMatMul", Input("a", "T1"), Input("a_scale", _FLOAT), Input("a_zero_point", "T1"),
                    Input("b", "T2"), Input("b_scale", _FLOAT), Input("b_zero_point", "T2"),
                    Input("y_scale", _FLOAT), Input("y_zero_point", "T3"), Output("y", "T3"), since=10,
                    T1=BYTES, T2=BYTES, T3=BYTES)
                 .since(21, Input("a_scale", "TS"), Input("b_scale", "TS"), Input("y_scale", "TS"),
                        T1=BYTES | FLOAT8, T2=BYTES | FLOAT8, T3=BYTES | FLOAT8,
                        TS=tensors("float float16 bfloat16")))


# Inference

def infer_matmul(node: InferNode, a_at: int, b_at: int, dtype: dtypes.DType) -> None:
    """numpy's matmul: a vector is a row on the left and a column on the right, and its axis goes."""
    a, b = node.shape(a_at), node.shape(b_at)
    for shape in (a, b):
        if shape == ():
            node.fail("a scalar has no axis to multiply over")
    if a is None or b is None:
        node.set(0, dtype, None, why="the rank of an input is unknown")
        return
    inner = a[-1], b[-2] if len(b) > 1 else b[0]
    node.unify(*inner, f"{inner[0]} columns of {print_shape(a)} meet {inner[1]} rows of {print_shape(b)}")
    lead = broadcast_shapes(node, [a[:-2], b[:-2]])
    assert lead is not None
    node.set(0, dtype, (*lead, *a[-2:-1], *(b[-1:] if len(b) > 1 else ())))


MatMul.infer(lambda node: infer_matmul(node, 0, 1, node.dtype(0)))

_BY_ROW = "one number, or one for each row of the left matrix"
_BY_COLUMN = "one number, or one for each column of the right matrix"


def _check_beside(node: InferNode, a_at: int, b_at: int, rows: Sequence[int], columns: Sequence[int]) -> None:
    """Refuse scales and zero points, inputs at `rows` and `columns`, that fit no rows and no columns."""
    for at, places, fit, what in ((a_at, rows, of_rows, _BY_ROW), (b_at, columns, of_columns, _BY_COLUMN)):
        matrix = node.shape(at)
        for i in places:
            shape = node.shape(i) if node.has(i) else None
            if matrix is not None and shape is not None:
                check(node, i, fit(shape, matrix), what)


@MatMulInteger.infer
def _(node: InferNode) -> None:
    _check_beside(node, 0, 1, (2,), (3,))
    infer_matmul(node, 0, 1, dtypes.INT32)


@QLinearMatMul.infer
def _(node: InferNode) -> None:
    _check_beside(node, 0, 3, (1, 2, 6, 7), (4, 5))
    infer_matmul(node, 0, 3, node.dtype(7))


@Gemm.infer
def _(node: InferNode) -> None:
    a, b, c = node.shape(0), node.shape(1), node.shape(2)
    for name, shape in (("A", a), ("B", b)):
        if shape is not None and len(shape) != 2:
            node.fail(f"{name} is a matrix, not {print_shape(shape)}")
    a = a[::-1] if a is not None and node["transA"] else a
    b = b[::-1] if b is not None and node["transB"] else b
    if a is not None and b is not None:
        node.unify(a[1], b[0], f"{a[1]} columns of A (transposed: {bool(node['transA'])}) meet {b[0]} rows of B "
                               f"(transposed: {bool(node['transB'])})")
    y = (None if a is None else a[0], None if b is None else b[1])
    if c is not None and a is not None and b is not None:
        if node.version < 7 and not node["broadcast"]:
            if len(c) != 2:
                node.fail(f"C is {print_shape(c)}, not {print_shape(y)}, and broadcast is 0")
            for i, (have, want) in enumerate(zip(c, y)):
                node.unify(want, have, f"axis {i} of C {print_shape(c)} and of the product {print_shape(y)}")
        broadcast_into(node, y, c, "C")
    node.set(0, node.dtype(0), y, why="the shape of a matrix is unknown")


# Reference

MatMul.reference(computed(np.matmul))


def _gemm(a: Any, b: Any, c: Any, alpha: float, beta: float, trans_a: int, trans_b: int) -> Any:
    y = (a.T if trans_a else a) @ (b.T if trans_b else b)
    # Integers stay integers as long as nothing is scaled; a C that beta takes away is not looked at.
    y = y if alpha == 1 else y * _number(alpha, y)
    if c is None or beta == 0:
        return y
    return y + (c if beta == 1 else c * _number(beta, c))


def _number(value: float, like: Any) -> Any:
    return like.dtype.type(value) if like.dtype.kind == "f" else np.float64(value)


@Gemm.reference
@computed
def gemm_1(a: Any, b: Any, c: Any, *, alpha: float, beta: float, transA: int, transB: int, broadcast: int) -> Any:
    y = _gemm(a, b, None, alpha, beta, transA, transB)
    if not broadcast and c.shape != y.shape:
        raise ModelError(f"Gemm: C is {print_shape(c.shape)}, not {print_shape(y.shape)}, and broadcast is 0",
                         rule="shape-inference")
    return y + _gemm_rest(c, beta)


def _gemm_rest(c: Any, beta: float) -> Any:
    return np.zeros((), c.dtype) if beta == 0 else c * _number(beta, c)


@Gemm.reference(since=7)
@computed
def gemm_7(a: Any, b: Any, c: Any = None, *, alpha: float, beta: float, transA: int, transB: int) -> Any:
    return _gemm(a, b, c, alpha, beta, transA, transB)


def _rows(v: Any, rank: int) -> Any:
    """A scale or zero point of the left matrix: one number, or a list of one for each row, or as it broadcasts."""
    if v is None or v.size == 1:
        return None if v is None else v.reshape(())
    return v.reshape(-1, 1) if v.ndim == 1 and rank > 1 else v


def _columns(v: Any) -> Any:
    """A scale or zero point of the right matrix: one number, or one for each column, which broadcasts by itself."""
    return v.reshape(()) if v is not None and v.size == 1 else v


def exact_product(a: Any, b: Any) -> Any:
    """Exact for integers: float64 holds every sum below 2**53, and has a BLAS."""
    if a.dtype.kind == "f" or b.dtype.kind == "f":
        return a.astype(np.float32) @ b.astype(np.float32)
    return np.rint(a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)


def _require_beside(a: Any, b: Any, rows: dict[str, Any], columns: dict[str, Any]) -> None:
    """As `_check_beside`, of arrays by name."""
    for matrix, named, fit, what in ((a, rows, of_rows, _BY_ROW), (b, columns, of_columns, _BY_COLUMN)):
        for name, v in named.items():
            if v is not None:
                require(name, v.shape, fit(v.shape, matrix.shape), what)


@MatMulInteger.reference
def matmul_integer(a: Any, b: Any, a_zero_point: Any = None, b_zero_point: Any = None) -> Any:
    _require_beside(a, b, {"a_zero_point": a_zero_point}, {"b_zero_point": b_zero_point})
    y = exact_product(less_zero(a, _rows(a_zero_point, a.ndim)), less_zero(b, _columns(b_zero_point)))
    # Sums that leave 32 bits wrap around.
    return y.astype(np.int32)


@QLinearMatMul.reference
def qlinear_matmul(a: Any, a_scale: Any, a_zero_point: Any, b: Any, b_scale: Any, b_zero_point: Any, y_scale: Any,
                   y_zero_point: Any) -> Any:
    _require_beside(a, b, {"a_scale": a_scale, "a_zero_point": a_zero_point, "y_scale": y_scale,
                           "y_zero_point": y_zero_point}, {"b_scale": b_scale, "b_zero_point": b_zero_point})
    y = exact_product(less_zero(a, _rows(a_zero_point, a.ndim)), less_zero(b, _columns(b_zero_point)))
    scale = (_rows(a_scale, a.ndim).astype(np.float32) * _columns(b_scale).astype(np.float32)
             / _rows(y_scale, a.ndim).astype(np.float32))
    return quantize(y.astype(np.float32) * scale, _rows(y_zero_point, a.ndim), dtypes.from_numpy(y_zero_point.dtype))


# Lowering

MatMul.lower(lowered(lambda p, a, b: p.matmul(a, b)))


@Gemm.lower
@lowered
def _(p: Builder, a: Expr, b: Expr, c: Expr | None = None, *, alpha: float, beta: float, transA: int, transB: int,
      broadcast: int = 0) -> Expr:
    dtype = a.dtype
    y = p.contract(a, b, [0 if transA else 1], [1 if transB else 0])
    parts = [_scaled(p, y, alpha)]
    if c is not None and beta != 0:
        parts.append(_scaled(p, c, beta))
    if any(e.dtype is not dtype for e in parts):
        parts = [p.cast(e, dtypes.DOUBLE) for e in parts]
    return p.cast(sum(parts[1:], parts[0]), dtype)


def _scaled(p: Builder, x: Expr, factor: float) -> Expr:
    if factor == 1:
        return x
    return x * factor if x.dtype.is_float else p.cast(x, dtypes.DOUBLE) * factor


def _row_expr(p: Builder, v: Expr, rank: int) -> Expr:
    if all(d == 1 for d in v.shape):
        return p.reshape(v, ())
    return p.reshape(v, (v.shape[0], 1)) if v.rank == 1 and rank > 1 else v


def _column_expr(p: Builder, v: Expr) -> Expr:
    return p.reshape(v, ()) if all(d == 1 for d in v.shape) else v


def integer_product(p: Builder, a: Expr, a_zero: Expr | None, b: Expr, b_zero: Expr | None) -> Expr:
    a_zero = None if a_zero is None else _row_expr(p, a_zero, a.rank)
    b_zero = None if b_zero is None else _column_expr(p, b_zero)
    if a.dtype.is_integer and b.dtype.is_integer:
        return matmul_integers(p, a, a_zero, b, b_zero)
    real = (p.cast(less_zero_expr(p, e, zero), dtypes.FLOAT) for e, zero in ((a, a_zero), (b, b_zero)))
    return p.matmul(*real)


@MatMulInteger.lower
def _(p: Builder, a: Expr, b: Expr, a_zero_point: Expr | None = None, b_zero_point: Expr | None = None) -> Expr:
    return integer_product(p, a, a_zero_point, b, b_zero_point)


@QLinearMatMul.lower
def _(p: Builder, a: Expr, a_scale: Expr, a_zero_point: Expr, b: Expr, b_scale: Expr, b_zero_point: Expr,
      y_scale: Expr, y_zero_point: Expr) -> Expr:
    y = integer_product(p, a, a_zero_point, b, b_zero_point)
    row, column, out = (p.cast(e, dtypes.FLOAT) for e in (
        _row_expr(p, a_scale, a.rank), _column_expr(p, b_scale), _row_expr(p, y_scale, a.rank)))
    return quantize_expr(p, p.cast(y, dtypes.FLOAT) * (row * column / out), _row_expr(p, y_zero_point, a.rank),
                         y_zero_point.dtype)
