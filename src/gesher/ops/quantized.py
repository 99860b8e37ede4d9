"""Quantised numbers: an integer (or 8-bit float) q stands for (q - zero) * scale.

What a reader would guess wrong: a real number is rounded to the nearest even *before* the zero point is added, so that
0.5 with the zero point 1 becomes 1, not 2; and what does not fit is clipped, never wrapped around.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.primitives import Builder, Expr
from gesher.symbolic import DimLike


def limits(dtype: DType) -> tuple[int, int]:
    """The lowest and the highest number of an integer type.

    >>> limits(dtypes.INT4)
    (-8, 7)
    """
    if dtype.kind == "uint":
        return 0, (1 << dtype.bits) - 1
    return -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1


def quantize(real: Any, zero: Any, dtype: DType, saturate: bool = True) -> Any:
    """Numbers already divided by their scale as `dtype`: rounded, shifted by `zero` (or None) and clipped.

    Floats of 8 bits that do not fit become infinity or NaN without `saturate`; narrower ones have neither.
    """
    real = np.asarray(real)
    real = real if real.dtype == np.float64 else real.astype(np.float32)
    with np.errstate(all="ignore"):
        if dtype.is_integer:
            shifted = np.rint(real) if zero is None else np.rint(real) + zero.astype(real.dtype)
            return np.clip(shifted, *limits(dtype)).astype(dtype.numpy)
        shifted = real if zero is None else real + zero.astype(real.dtype)
        if saturate or dtype.bits < 8:
            import ml_dtypes

            most = float(ml_dtypes.finfo(dtype.numpy).max)
            shifted = np.clip(shifted, -most, most)
        return shifted.astype(dtype.numpy)


def quantize_expr(p: Builder, real: Expr, zero: Expr | None, dtype: DType, saturate: bool = True) -> Expr:
    """As `quantize`, of expressions."""
    if dtype.is_integer:
        shifted = p.round(real) if zero is None else p.round(real) + p.cast(zero, real.dtype)
        low, high = limits(dtype)
        return p.cast(p.min(p.max(shifted, float(low)), float(high)), dtype)
    return p.cast(real if zero is None else real + p.cast(zero, real.dtype), dtype, saturate or dtype.bits < 8)


def less_zero(x: Any, zero: Any) -> Any:
    """x without its zero point (None: it has none), where the difference fits: int32, or float32 for 8-bit floats."""
    wide = np.int32 if dtypes.from_numpy(x.dtype).is_integer else np.float32
    return x.astype(wide) if zero is None else x.astype(wide) - zero.astype(wide)


def less_zero_expr(p: Builder, x: Expr, zero: Expr | None) -> Expr:
    """As `less_zero`, of expressions."""
    wide = dtypes.INT32 if x.dtype.is_integer else dtypes.FLOAT
    return p.cast(x, wide) if zero is None else p.cast(x, wide) - p.cast(zero, wide)


def real_of(x: Any, scale: Any, zero: Any = None) -> Any:
    """The numbers that x stands for, in float32; of a scale and a zero point for the whole tensor."""
    return less_zero(x, None if zero is None else zero.reshape(())).astype(np.float32) * scale.reshape(())


def real_expr(p: Builder, x: Expr, scale: Expr, zero: Expr | None = None) -> Expr:
    """As `real_of`, of expressions."""
    less = less_zero_expr(p, x, None if zero is None else p.reshape(zero, ()))
    return p.cast(less, dtypes.FLOAT) * p.reshape(scale, ())


def count_of(real: Any, scale: Any, zero: Any, dtype: DType) -> Any:
    """Real numbers as counts of one scale, for the whole tensor."""
    with np.errstate(all="ignore"):
        return quantize(real / scale.reshape(()), None if zero is None else zero.reshape(()), dtype)


def count_expr(p: Builder, real: Expr, scale: Expr, zero: Expr | None, dtype: DType) -> Expr:
    """As `count_of`, of expressions."""
    return quantize_expr(p, real / p.reshape(scale, ()), None if zero is None else p.reshape(zero, ()), dtype)


# Sums of products, exact in 32 bits. They are composites, because their meaning alone does not tell that the operands
# are bytes once the weights' zero points have been taken away.

def matmul_integers(p: Builder, a: Expr, a_zero: Expr | None, b: Expr, b_zero: Expr | None) -> Expr:
    """(a - a_zero) @ (b - b_zero) of integers in int32; the zero points broadcast as they stand."""
    if _are_bytes(a, b):
        found: Expr = p.composite("integer_matmul", _matmul_meaning, a, a_zero, b, b_zero)
        return found
    return _matmul_meaning(p, a, a_zero, b, b_zero)


def convolve_integers(p: Builder, x: Expr, x_zero: Expr | None, w: Expr, w_zero: Expr | None, strides: Sequence[int],
                      pads: Sequence[tuple[DimLike, DimLike]], dilations: Sequence[int], groups: int) -> Expr:
    """The convolution of x - x_zero (N,C,*) with w - w_zero (M,C/groups,*) in int32; x_zero is one number, w_zero one
    or M of shape (M,1,...). Padding counts as x_zero."""
    at: dict[str, Any] = {"strides": tuple(strides), "pads": tuple(map(tuple, pads)), "dilations": tuple(dilations),
                          "groups": groups}
    known = all(isinstance(n, int) for row in pads for n in row)
    if known and _are_bytes(x, w):
        found: Expr = p.composite("integer_conv", convolve_meaning, x, x_zero, w, w_zero, **at)
        return found
    return convolve_meaning(p, x, x_zero, w, w_zero, **at)


def _are_bytes(*operands: Expr) -> bool:
    return all(e.dtype is dtypes.INT8 or e.dtype is dtypes.UINT8 for e in operands)


def _matmul_meaning(p: Builder, a: Expr, a_zero: Expr | None, b: Expr, b_zero: Expr | None) -> Expr:
    return p.matmul(less_zero_expr(p, a, a_zero), less_zero_expr(p, b, b_zero))


def convolve_meaning(p: Builder, x: Expr, x_zero: Expr | None, w: Expr, w_zero: Expr | None, *, strides: Any, pads: Any,
                     dilations: Any, groups: int) -> Expr:
    """What `convolve_integers` means."""
    return p.convolve(less_zero_expr(p, x, x_zero), less_zero_expr(p, w, w_zero), strides, pads, dilations, groups)
