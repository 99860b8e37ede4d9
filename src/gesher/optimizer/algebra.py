"""Arithmetic that does nothing, or can be done with fewer operations.

What a reader would guess wrong: x + 0.0 is not x (it turns -0.0 into 0.0), x * 0 is not 0 (a NaN stays one), and sums
are not put together where a large term shall eat the small ones, which is how some models round.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.rewriter import Known, Rewrite, Rule, op


def _finite_product(a: Known, b: Known) -> bool | str:
    """Whether a * b of two scalar constants can be made ahead: no overflow, nothing lost below the smallest number."""
    if not a.dtype.is_float or a.scalar is None or b.scalar is None:
        return "they are no scalar constants of a float type"
    with np.errstate(all="ignore"):
        product = np.abs(_product(a, b))
    # The type's own functions: numpy has none for the narrow types of ml_dtypes.
    smallest = 2.0 ** -14 if a.dtype.bits == 16 and a.dtype.name == "float16" else 2.0 ** -126
    return bool(np.isfinite(product) and product >= smallest) or "the product would overflow or lose its digits"


def _product(a: Known, b: Known) -> Any:
    return float(np.asarray(a.scalar * b.scalar).astype(a.dtype.numpy))


def _scalar(like: Known, number: float, *shapes: Known) -> np.ndarray:
    """`number` as a constant of the type of `like`, of the highest rank among `shapes`: a rank may show."""
    rank = max((s.rank or 0 for s in shapes), default=0)
    return np.asarray(number).astype(like.dtype.numpy).reshape((1,) * rank)


def _power_of_two(c: Known) -> bool | str:
    x = c.scalar
    if x is None or not c.dtype.is_float or c.dtype.bits < 32:
        return "the divisor is no scalar constant of float32 or float64"
    mantissa, exponent = np.frexp(x)
    return bool(abs(mantissa) == 0.5 and abs(exponent) < 100) or "its inverse is not exact"


RULES: tuple[Rewrite, ...] = (
    Rule("mul_by_one", find=lambda x, c: x * c, make=lambda x, c: x, shared=True,
         when=lambda x, c: c.is_scalar(1) or "the factor is not the scalar 1"),     # ones(3,1) would reshape x
    Rule("div_by_one", find=lambda x, c: x / c, make=lambda x, c: x, shared=True,
         when=lambda x, c: c.is_scalar(1) or "the divisor is not the scalar 1"),
    Rule("sub_zero", find=lambda x, c: x - c, make=lambda x, c: x, shared=True,
         when=lambda x, c: c.is_scalar(0) or "what is taken away is not the scalar 0.0"),
    # Adding 0.0 is not nothing: it turns -0.0 into 0.0. Adding -0.0 is.
    Rule("add_zero", find=lambda x, c: x + c, make=lambda x, c: x, shared=True,
         when=lambda x, c: c.is_scalar(-0.0 if c.dtype.is_float else 0) or "what is added is not -0.0"),
    Rule("pow_one", find=lambda x, c: x ** c, make=lambda x, c: x, shared=True,
         when=lambda x, c: c.is_scalar(1) or "the exponent is not 1"),
    Rule("pow_two", find=lambda x, c: x ** c, make=lambda x, c: x * x, shared=True,
         when=lambda x, c: (c.is_scalar(2) and x.dtype.is_float) or "the exponent is not 2, or x is not a float"),
    Rule("negate_twice", find=lambda x: op.Neg(op.Neg(x)), make=lambda x: x, shared=True),
    Rule("not_twice", find=lambda x: op.Not(op.Not(x)), make=lambda x: x, shared=True),
    Rule("div_by_power_of_two", find=lambda x, c: x / c, make=lambda x, c: x * _scalar(c, 1 / c.scalar, c),
         when=lambda x, c: _power_of_two(c), shared=True),
    Rule("scale_twice", find=lambda x, a, b: x * a * b, make=lambda x, a, b: x * _scalar(a, _product(a, b), a, b),
         when=lambda x, a, b: _finite_product(a, b)),
    # Terms of opposite signs stay: (x + 12582912) - 12582912 rounds x to an integer.
    Rule("shift_twice", find=lambda x, a, b: x + a + b, make=lambda x, a, b: x + _scalar(a, a.scalar + b.scalar, a, b),
         when=lambda x, a, b: (a.scalar is not None and b.scalar is not None and a.dtype.is_float
                               and a.scalar * b.scalar > 0 and np.isfinite(a.scalar + b.scalar))
         or "they are no scalar constants of one sign"),
)

# After wholes were recognised, among whose pieces are cubes.
LATE: tuple[Rewrite, ...] = (
    # A narrow float would be rounded in between.
    Rule("pow_three", find=lambda x, c: x ** c, make=lambda x, c: x * x * x, shared=True,
         when=lambda x, c: (c.is_scalar(3) and x.dtype.is_float and x.dtype.bits >= 32)
         or "the exponent is not 3, or x is no float of 32 bits or more"),
)
