"""Elementwise maps: one row each, with the numpy meaning and the C spelling.

In C spellings `{0} {1}` are the operands, `{f}` the suffix of the C math library ("f" for float, "" for double), `{T}`
the C type and `{U}` the unsigned type in which integer arithmetic wraps around without being undefined. Names that
begin with `gs_` are functions of the compiler's runtime; `{t}` is their suffix by type (f32, f64, i8 ... u64).

What a reader would guess wrong:

- Types narrower than 32 bits (float16, bfloat16, int4...) are computed in float32 or int8 and rounded once per map.
- Integer division truncates, and division or remainder by zero is 0: a primitive is total, so that it may be computed
  ahead of the condition that guards it.
- `min` and `max` keep NaN, unlike C's fmin and fmax.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType


@dataclass(frozen=True, slots=True)
class Map:
    """An elementwise primitive.

    Attributes:
        name: of the primitive and of the builder's method.
        arity: how many operands.
        takes: the kinds of operands: f floats, i integers (signed or not), b bool.
        gives: `same` as the operands, or `bool`.
        numpy: the meaning on arrays of the computing type.
        c_float, c_int: the C spelling; "" where the kind is not taken. Bools are integers 0 and 1.
        cost: roughly, in additions; fusion does not compute expensive ones twice.
    """

    name: str
    arity: int
    takes: str
    gives: str
    numpy: Callable[..., Any]
    c_float: str
    c_int: str
    cost: int


def computing(dtype: DType) -> DType:
    """The type in which maps of `dtype` are computed: float32 for narrow floats, (u)int8 for 4- and 2-bit integers."""
    if dtype.kind == "float" and dtype.bits < 32:
        return dtypes.FLOAT
    if dtype.is_integer and dtype.bits < 8:
        return dtypes.INT8 if dtype.kind == "int" else dtypes.UINT8
    return dtype


def _divide(a: Any, b: Any) -> Any:
    if a.dtype.kind == "f":
        return np.divide(a, b)
    zero = b == 0
    safe = np.where(zero, b.dtype.type(1), b)
    quotient = np.floor_divide(a, safe)
    if a.dtype.kind == "i":
        # floor_divide rounds down; one more where signs differ and something is left over.
        quotient = quotient + ((quotient * safe != a) & ((a < 0) != (safe < 0))).astype(a.dtype)
    return np.where(zero, a.dtype.type(0), quotient)


def _modulo(a: Any, b: Any) -> Any:
    if a.dtype.kind == "f":
        return np.mod(a, b)
    zero = b == 0
    return np.where(zero, a.dtype.type(0), np.mod(a, np.where(zero, b.dtype.type(1), b)))


def _fmod(a: Any, b: Any) -> Any:
    if a.dtype.kind == "f":
        return np.fmod(a, b)
    zero = b == 0
    return np.where(zero, a.dtype.type(0), np.fmod(a, np.where(zero, b.dtype.type(1), b)))


def _power(a: Any, b: Any) -> Any:
    if a.dtype.kind == "f":
        return np.power(a, b)
    result, base, exponent = np.ones_like(a), a.copy(), np.where(b < 0, b.dtype.type(0), b)
    while np.any(exponent):
        result = np.where(exponent & 1, result * base, result)
        base = base * base
        exponent = exponent >> 1
    # 1 / a**|b|, truncated: only 1 and -1 leave something.
    inverse = np.where(a == 1, a.dtype.type(1), a.dtype.type(0))
    if a.dtype.kind == "i":
        inverse = np.where(a == -1, np.where(b & 1, a.dtype.type(-1), a.dtype.type(1)), inverse)
    return np.where(b < 0, inverse, result)


def _erf(x: Any) -> Any:
    flat = np.asarray(x, np.float64).reshape(-1)
    return np.array([math.erf(v) for v in flat.tolist()], np.float64).reshape(np.shape(x)).astype(x.dtype)


def _sigmoid(x: Any) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(x.dtype)


def _shift(function: Callable[..., Any]) -> Callable[..., Any]:
    def shifted(a: Any, b: Any) -> Any:
        width = a.dtype.itemsize * 8
        far = b >= width
        return np.where(far, a.dtype.type(0), function(a, np.where(far, b.dtype.type(0), b)))

    return shifted


_ROWS: tuple[tuple[Any, ...], ...] = (
   # name          n  takes  gives   numpy                  C on floats              C on integers                  cost
    ("neg",         1, "fi",  "same", np.negative,           "-{0}",                  "({T})(0 - ({U}){0})",         1),
    ("abs",         1, "fi",  "same", np.abs,                "fabs{f}({0})",          "gs_abs_{t}({0})",             1),
   ("sign",      1, "fi",  "same", np.sign,               "gs_sign_{t}({0})",      "({T})(({0} > 0) - ({0} < 0))", 2),
   ("exp",       1, "f",   "same", np.exp,                "gs_exp_{t}({0})",       "",                            16),
   ("expm1",     1, "f",   "same", np.expm1,              "gs_expm1_{t}({0})",     "",                            20),
   ("log",       1, "f",   "same", np.log,                "gs_log_{t}({0})",       "",                            16),
   ("log1p",     1, "f",   "same", np.log1p,              "gs_log1p_{t}({0})",     "",                            20),
    ("sqrt",        1, "f",   "same", np.sqrt,               "sqrt{f}({0})",          "",                            4),
    ("reciprocal",  1, "f",   "same", np.reciprocal,         "(1 / {0})",             "",                            4),
   ("sin",       1, "f",   "same", np.sin,                "gs_sin_{t}({0})",       "",                            20),
   ("cos",       1, "f",   "same", np.cos,                "gs_cos_{t}({0})",       "",                            20),
   ("tan",       1, "f",   "same", np.tan,                "gs_tan_{t}({0})",       "",                            30),
   ("asin",      1, "f",   "same", np.arcsin,             "gs_asin_{t}({0})",      "",                            30),
   ("acos",      1, "f",   "same", np.arccos,             "gs_acos_{t}({0})",      "",                            30),
   ("atan",      1, "f",   "same", np.arctan,             "gs_atan_{t}({0})",      "",                            30),
   ("sinh",      1, "f",   "same", np.sinh,               "gs_sinh_{t}({0})",      "",                            30),
   ("cosh",      1, "f",   "same", np.cosh,               "gs_cosh_{t}({0})",      "",                            30),
   ("tanh",      1, "f",   "same", np.tanh,               "gs_tanh_{t}({0})",      "",                            20),
   ("asinh",     1, "f",   "same", np.arcsinh,            "gs_asinh_{t}({0})",     "",                            30),
   ("acosh",     1, "f",   "same", np.arccosh,            "gs_acosh_{t}({0})",     "",                            30),
   ("atanh",     1, "f",   "same", np.arctanh,            "gs_atanh_{t}({0})",     "",                            30),
   ("erf",       1, "f",   "same", _erf,                  "gs_erf_{t}({0})",       "",                            20),
   ("sigmoid",   1, "f",   "same", _sigmoid,              "gs_sigmoid_{t}({0})",   "",                            20),
    ("floor",       1, "f",   "same", np.floor,              "floor{f}({0})",         "",                            1),
    ("ceil",        1, "f",   "same", np.ceil,               "ceil{f}({0})",          "",                            1),
    ("round",       1, "f",   "same", np.rint,               "rint{f}({0})",          "",                            1),
    ("trunc",       1, "f",   "same", np.trunc,              "trunc{f}({0})",         "",                            1),
    ("not_",        1, "b",   "same", np.logical_not,        "",                      "!{0}",                        1),
    ("bit_not",     1, "i",   "same", np.invert,             "",                      "({T})~{0}",                   1),
    ("is_nan",      1, "f",   "bool", np.isnan,              "({0} != {0})",          "",                            1),
    ("add",         2, "fi",  "same", np.add,                "({0} + {1})",           "({T})(({U}){0} + ({U}){1})",  1),
    ("sub",         2, "fi",  "same", np.subtract,           "({0} - {1})",           "({T})(({U}){0} - ({U}){1})",  1),
    ("mul",         2, "fi",  "same", np.multiply,           "({0} * {1})",           "({T})(({U}){0} * ({U}){1})",  1),
    ("div",         2, "fi",  "same", _divide,               "({0} / {1})",           "gs_div_{t}({0}, {1})",        4),
   ("pow",       2, "fi",  "same", _power,                "gs_pow_{t}({0}, {1})",  "gs_pow_{t}({0}, {1})",        40),
    ("mod",         2, "fi",  "same", _modulo,               "gs_mod_{t}({0}, {1})",  "gs_mod_{t}({0}, {1})",        8),
    ("fmod",        2, "fi",  "same", _fmod,                 "gs_fmod{f}({0}, {1})",  "gs_rem_{t}({0}, {1})",        8),
   ("atan2",     2, "f",   "same", np.arctan2,            "atan2{f}({0}, {1})",    "",                            40),
    ("min",         2, "fi",  "same", np.minimum,            "gs_min_{t}({0}, {1})",  "({0} < {1} ? {0} : {1})",     1),
    ("max",         2, "fi",  "same", np.maximum,            "gs_max_{t}({0}, {1})",  "({0} > {1} ? {0} : {1})",     1),
    ("and_",        2, "b",   "same", np.logical_and,        "",                      "({0} & {1})",                 1),
    ("or_",         2, "b",   "same", np.logical_or,         "",                      "({0} | {1})",                 1),
    ("xor",         2, "b",   "same", np.logical_xor,        "",                      "({0} ^ {1})",                 1),
    ("bit_and",     2, "i",   "same", np.bitwise_and,        "",                      "({T})({0} & {1})",            1),
    ("bit_or",      2, "i",   "same", np.bitwise_or,         "",                      "({T})({0} | {1})",            1),
    ("bit_xor",     2, "i",   "same", np.bitwise_xor,        "",                      "({T})({0} ^ {1})",            1),
    ("shift_left",  2, "u",   "same", _shift(np.left_shift), "",                      "gs_shl_{t}({0}, {1})",        1),
   ("shift_right", 2, "u", "same", _shift(np.right_shift), "",                      "gs_shr_{t}({0}, {1})",        1),
    ("eq",          2, "fib", "bool", np.equal,              "({0} == {1})",          "({0} == {1})",                1),
    ("ne",          2, "fib", "bool", np.not_equal,          "({0} != {1})",          "({0} != {1})",                1),
    ("lt",          2, "fi",  "bool", np.less,               "({0} < {1})",           "({0} < {1})",                 1),
    ("le",          2, "fi",  "bool", np.less_equal,         "({0} <= {1})",          "({0} <= {1})",                1),
    ("gt",          2, "fi",  "bool", np.greater,            "({0} > {1})",           "({0} > {1})",                 1),
    ("ge",          2, "fi",  "bool", np.greater_equal,      "({0} >= {1})",          "({0} >= {1})",                1),
)

MAPS: dict[str, Map] = {row[0]: Map(*row) for row in _ROWS}
"""Every elementwise map by name. `select`, `cast`, `bitcast` and `is_inf` have operands or parameters of their own."""

# Maps for which f(a, b) is f(b, a), bit for bit but for the payload of NaN.
COMMUTATIVE = frozenset(("add", "mul", "min", "max", "and_", "or_", "xor", "bit_and", "bit_or", "bit_xor", "eq", "ne"))


def takes(row: Map, dtype: DType) -> bool:
    """Whether a map is defined on a type."""
    return (("f" in row.takes and dtype.kind == "float") or ("i" in row.takes and dtype.is_integer)
            or ("u" in row.takes and dtype.kind == "uint") or ("b" in row.takes and dtype.kind == "bool"))


@dataclass(frozen=True, slots=True)
class Reduction:
    """An associative operation that a reduction, a window or a cumulative scan folds with.

    `ufunc` is numpy's, `map` the elementwise map that folds two. `identity(name, dtype)` is what folding nothing gives.
    """

    name: str
    takes: str
    ufunc: Any
    map: str


REDUCTIONS: dict[str, Reduction] = {r.name: r for r in (
    Reduction("sum", "fi", np.add, "add"),
    Reduction("prod", "fi", np.multiply, "mul"),
    Reduction("max", "fi", np.maximum, "max"),
    Reduction("min", "fi", np.minimum, "min"),
    Reduction("any", "b", np.logical_or, "or_"),
    Reduction("all", "b", np.logical_and, "and_"),
)}


def identity(op: str, dtype: DType) -> Any:
    """What folding nothing gives, as a Python number: 0, 1, the lowest or highest value of the type."""
    if op == "sum":
        return 0
    if op == "prod":
        return 1
    if op in ("any", "all"):
        return op == "all"
    low = op == "max"
    if dtype.is_float:
        return -math.inf if low else math.inf
    if dtype.kind == "int":
        return -(1 << (dtype.bits - 1)) if low else (1 << (dtype.bits - 1)) - 1
    return 0 if low else (1 << dtype.bits) - 1
