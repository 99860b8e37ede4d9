"""What floating-point numbers are made of: signs, exponents, neighbours; and bitwise shifts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.ir import Value

from .translation import Translation, aten


def negative(t: Translation, x: Value) -> Value:
    """True where the sign is set, that of -0.0 too."""
    zero = t.scalar(0, x)
    if not t.dtype(x).is_float:
        return t.b.Less(x, zero)
    wide = x if t.dtype(x) in (dtypes.FLOAT, dtypes.DOUBLE) else t.cast(x, dtypes.FLOAT)
    zero = t.scalar(0, wide)
    return t.b.Or(t.b.Less(wide, zero), t.b.Less(t.b.Div(t.scalar(1, wide), wide), zero))


@aten("signbit")
def _(t: Translation, x: Value) -> Value:
    if t.dtype(x).kind not in ("int", "float"):
        return t.expand(t.constant(False, dtypes.BOOL), t.out_shape)
    return negative(t, x)


@aten("copysign.Tensor", "copysign.Scalar")
def _(t: Translation, x: Value, sign: Any) -> Value:
    size = t.b.Abs(t.cast(x, t.out_dtype))
    return t.b.Where(negative(t, t.value(sign, t.out_dtype)), t.b.Neg(size), size)


def _exponent(t: Translation, x: Value) -> Value:
    """e with 2^(e-1) <= |x| < 2^e, for float64 x that is not 0: the logarithm, set right where it rounded over."""
    e = t.b.Add(t.b.Floor(t.b.Mul(t.b.Log(t.b.Abs(x)), t.scalar(1 / math.log(2), x))), t.scalar(1, x))
    share = t.b.Mul(t.b.Abs(x), t.b.Pow(t.scalar(2, x), t.b.Neg(e)))
    e = t.b.Where(t.b.GreaterOrEqual(share, t.scalar(1, x)), t.b.Add(e, t.scalar(1, x)), e)
    return t.b.Where(t.b.Less(share, t.scalar(0.5, x)), t.b.Sub(e, t.scalar(1, x)), e)


def _not_double(t: Translation, x: Value, what: str) -> Value:
    if t.dtype(x) is dtypes.DOUBLE:
        raise UnsupportedError(f"{what} of float64 has no way to ONNX", who="torch", advice="float32 has")
    return t.cast(x, dtypes.DOUBLE)


@aten("frexp.Tensor")
def _(t: Translation, x: Value) -> tuple[Value, Value]:
    wide = _not_double(t, x, "frexp")
    plain = t.b.Or(t.b.Equal(wide, t.scalar(0, wide)), t.b.Or(t.b.IsNaN(wide), t.b.IsInf(wide)))
    safe = t.b.Where(plain, t.scalar(0.5, wide), wide)
    e = _exponent(t, safe)
    mantissa = t.b.Where(plain, wide, t.b.Mul(safe, t.b.Pow(t.scalar(2, wide), t.b.Neg(e))))
    return t.cast(mantissa, t.dtype(x)), t.cast(t.b.Where(plain, t.scalar(0, wide), e), dtypes.INT32)


@aten("nextafter")
def _(t: Translation, x: Value, y: Value) -> Value:
    """One unit in the last place towards y: half a unit where x is a power of two that is left for 0."""
    if t.out_dtype is not dtypes.FLOAT:
        raise UnsupportedError(f"nextafter of {t.out_dtype.name} has no way to ONNX", who="torch", advice="float32 has")
    a, b = t.cast(x, dtypes.DOUBLE), t.cast(y, dtypes.DOUBLE)
    zero, tiny = t.scalar(0, a), t.scalar(2.0 ** -149, a)
    rests = t.b.Or(t.b.Equal(a, b), t.b.Equal(a, zero))
    safe = t.b.Where(t.b.Or(rests, t.b.Or(t.b.IsNaN(a), t.b.IsInf(a))), t.scalar(1, a), a)
    e = _exponent(t, safe)
    inwards = t.b.Less(t.b.Mul(safe, t.b.Sub(b, a)), zero)
    power = t.b.Equal(t.b.Abs(safe), t.b.Pow(t.scalar(2, a), t.b.Sub(e, t.scalar(1, a))))
    e = t.b.Where(t.b.And(inwards, power), t.b.Sub(e, t.scalar(1, a)), e)
    unit = t.b.Max(t.b.Pow(t.scalar(2, a), t.b.Sub(e, t.scalar(24, a))), tiny)
    step = t.b.Where(t.b.Greater(b, a), unit, t.b.Neg(unit))
    largest = t.scalar(float(np.finfo(np.float32).max), a)
    moved = t.b.Where(t.b.IsInf(a), t.b.Mul(t.b.Sign(a), largest), t.b.Add(a, step))
    from_zero = t.b.Mul(t.b.Sign(b), tiny)
    made = t.b.Where(t.b.Equal(a, b), b, t.b.Where(t.b.Equal(a, zero), from_zero, moved))
    nan = t.b.Or(t.b.IsNaN(a), t.b.IsNaN(b))
    return t.cast(t.b.Where(nan, t.scalar(math.nan, a), made), dtypes.FLOAT)


@aten("fmax", "fmin")
def _(t: Translation, x: Any, y: Any) -> Value:
    """The larger or smaller, NaN only where both are."""
    a, b = t.value(x, t.out_dtype), t.value(y, t.out_dtype)
    op = "Max" if "fmax" in t.target else "Min"
    if t.out_dtype is dtypes.BOOL:
        return t.b.Or(a, b) if op == "Max" else t.b.And(a, b)
    if not t.out_dtype.is_float:
        return t.b.op(op, a, b)
    return t.b.Where(t.b.IsNaN(a), b, t.b.Where(t.b.IsNaN(b), a, t.b.op(op, a, b)))


@aten("hypot")
def _(t: Translation, x: Value, y: Value) -> Value:
    # Scaled by the larger, so that squares neither overflow nor vanish.
    a, b = t.b.Abs(t.cast(x, t.out_dtype)), t.b.Abs(t.cast(y, t.out_dtype))
    large, small = t.b.Max(a, b), t.b.Min(a, b)
    zero, one = t.scalar(0, a), t.scalar(1, a)
    ratio = t.b.Div(small, t.b.Where(t.b.Equal(large, zero), one, large))
    made = t.b.Mul(large, t.b.Sqrt(t.b.Add(t.b.Mul(ratio, ratio), one)))
    return t.b.Where(t.b.IsInf(large), large, made)


@aten("angle")
def _(t: Translation, x: Value) -> Value:
    wide = t.cast(x, t.out_dtype)
    turned = t.b.Where(t.b.Less(wide, t.scalar(0, wide)), t.scalar(math.pi, wide), t.scalar(0, wide))
    return t.b.Where(t.b.IsNaN(wide), wide, turned)


def _shift(t: Translation, x: Any, n: Any, left: bool) -> Value:
    """Times or, rounded down, through a power of two, where the shift is within the type."""
    a, count = t.value(x, t.out_dtype), t.value(n, t.out_dtype)
    bits = t.out_dtype.bits
    inside = t.b.And(t.b.GreaterOrEqual(count, t.scalar(0, count)), t.b.Less(count, t.scalar(bits, count)))
    # Powers that the type itself cannot hold wrap as shifts do: the highest bit is the sign.
    table = [np.array(1).astype(t.out_dtype.numpy) << np.array(i).astype(t.out_dtype.numpy) for i in range(bits)]
    place = t.cast(t.b.Where(inside, count, t.scalar(0, count)), dtypes.INT64)
    power = t.b.Gather(t.constant(np.array(table), t.out_dtype), place, axis=0)
    zero = t.scalar(0, a)
    if left:
        return t.b.Where(inside, t.b.Mul(a, power), zero)
    if t.out_dtype.kind == "uint":
        return t.b.Where(inside, t.b.Div(a, power), zero)
    minus = t.scalar(-1, a)
    sign = t.b.Where(t.b.Less(a, zero), minus, zero)
    # The power of the last bit is negative: only the sign is left by then.
    last = t.b.Or(t.b.Not(inside), t.b.Equal(count, t.scalar(bits - 1, count)))
    safe = t.b.Where(last, t.scalar(1, a), power)
    return t.b.Where(last, sign, t.b.Div(t.b.Sub(a, t.b.Mod(a, safe)), safe))


@aten("bitwise_left_shift.Tensor", "bitwise_left_shift.Tensor_Scalar", "bitwise_left_shift.Scalar_Tensor",
      "__lshift__.Tensor", "__lshift__.Scalar")
def _(t: Translation, x: Any, n: Any) -> Value:
    return _shift(t, x, n, True)


@aten("bitwise_right_shift.Tensor", "bitwise_right_shift.Tensor_Scalar", "bitwise_right_shift.Scalar_Tensor",
      "__rshift__.Tensor", "__rshift__.Scalar")
def _(t: Translation, x: Any, n: Any) -> Value:
    return _shift(t, x, n, False)


# Divisors

def _greatest_divisor(t: Translation, x: Value, y: Value) -> Value:
    """Euclid's algorithm on whole tensors, until nothing is left anywhere; 91 rounds are the most of 64 bits."""
    shape = t.out_shape
    a, b = (t.expand(t.b.Abs(t.cast(v, dtypes.INT64)), shape) for v in (x, y))
    body = t.b.subgraph("euclid", [("round", dtypes.INT64, []), ("going", dtypes.BOOL, []), ("a", dtypes.INT64, shape),
                                   ("b", dtypes.INT64, shape)])
    _, _, large, small = body.graph.inputs
    zero, one = (body.constant(np.array(n, np.int64)) for n in (0, 1))
    done = body.Equal(small, zero)
    rest = body.Where(done, zero, body.Mod(large, body.Where(done, one, small)))
    larger = body.Where(done, large, small)
    inner = t.within(body)
    left = inner.reduce("ReduceMax", rest, None, False)
    body.output(body.Greater(left, zero))
    body.output(larger)
    body.output(rest)
    # The last round leaves a remainder of 0 beside the divisor that it was by.
    made = t.b.op("Loop", t.constant(92, dtypes.INT64), t.constant(True, dtypes.BOOL), a, b, body=body, outputs=2)
    return t.cast(made[0], t.out_dtype)


@aten("gcd", "prims::gcd")
def _(t: Translation, x: Value, y: Value) -> Value:
    if 0 in t.out_shape:
        return t.expand(t.constant(0, t.out_dtype), t.out_shape)
    return _greatest_divisor(t, t.value(x), t.value(y))


@aten("lcm")
def _(t: Translation, x: Value, y: Value) -> Value:
    if 0 in t.out_shape:
        return t.expand(t.constant(0, t.out_dtype), t.out_shape)
    both = _greatest_divisor(t, x, y)
    x, y, both = (t.cast(v, dtypes.INT64) for v in (x, y, both))
    some = t.b.Max(both, t.constant(1, dtypes.INT64))    # of two zeros it is 0
    return t.cast(t.b.Abs(t.b.Mul(t.b.Div(x, some), y)), t.out_dtype)
