"""Arithmetic, comparison, logic, casts: one value at a time, with PyTorch's type promotion."""

from __future__ import annotations

import math
from typing import Any

import torch

from gesher.base import dtypes
from gesher.ir import Value

from .translation import TABLE, Translation, aten

# ATen name -> ONNX operator, for maps of one argument that keep floats and make integers floats.
_FLOAT_MAPS = {
    "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "sin": "Sin", "cos": "Cos", "tan": "Tan", "asin": "Asin",
    "acos": "Acos", "atan": "Atan", "sinh": "Sinh", "cosh": "Cosh", "tanh": "Tanh", "asinh": "Asinh", "acosh": "Acosh",
    "atanh": "Atanh", "erf": "Erf", "sigmoid": "Sigmoid", "reciprocal": "Reciprocal",
}
_SAME_MAPS = {"abs": "Abs", "neg": "Neg", "sign": "Sign", "sgn": "Sign"}
_ROUNDINGS = {"floor": "Floor", "ceil": "Ceil", "round": "Round"}


def _float_map(op: str) -> Any:
    def translate(t: Translation, x: Value) -> Value:
        return t.b.op(op, t.cast(x, t.out_dtype))

    return translate


def _rounding(op: str) -> Any:
    def translate(t: Translation, x: Value, *, decimals: int = 0) -> Value:
        return t.b.op(op, x) if t.dtype(x).is_float else x

    return translate


for _name, _op in _FLOAT_MAPS.items():
    TABLE[f"aten.{_name}.default"] = _float_map(_op)
for _name, _op in _SAME_MAPS.items():
    TABLE[f"aten.{_name}.default"] = lambda t, x, _op=_op: t.b.op(_op, x)
for _name, _op in _ROUNDINGS.items():
    TABLE[f"aten.{_name}.default"] = _rounding(_op)


@aten("rsqrt")
def _(t: Translation, x: Value) -> Value:
    return t.b.Reciprocal(t.b.Sqrt(t.cast(x, t.out_dtype)))


@aten("square")
def _(t: Translation, x: Value) -> Value:
    x = t.cast(x, t.out_dtype)
    return t.b.Mul(x, x)


@aten("exp2")
def _(t: Translation, x: Value) -> Value:
    x = t.cast(x, t.out_dtype)
    return t.b.Pow(t.scalar(2, x), x)


@aten("expm1")
def _(t: Translation, x: Value) -> Value:
    # exp(x) - 1 loses everything near 0, where 2 h / (1 - h) with h = tanh(x / 2), which is the same, keeps it. Far out
    # h is 1 and the plain form is right.
    x = t.cast(x, t.out_dtype)
    h = t.b.Tanh(t.b.Mul(x, t.scalar(0.5, x)))
    near = t.b.Div(t.b.Mul(h, t.scalar(2, x)), t.b.Sub(t.scalar(1, x), h))
    small = t.b.Less(t.b.Abs(x), t.scalar(1, x))
    return t.b.Where(small, near, t.b.Sub(t.b.Exp(x), t.scalar(1, x)))


@aten("log1p")
def _(t: Translation, x: Value) -> Value:
    # Kahan's correction: with u = 1 + x rounded, log(u) * x / (u - 1) is right to the last bits where u is not 1.
    x = t.cast(x, t.out_dtype)
    one = t.scalar(1, x)
    u = t.b.Add(x, one)
    step = t.b.Sub(u, one)
    exact = t.b.Equal(step, t.scalar(0, x))
    plain = t.b.Equal(t.b.Abs(u), t.scalar(math.inf, x))
    ratio = t.b.Div(t.b.Mul(t.b.Log(u), x), t.b.Where(t.b.Or(exact, plain), one, step))
    return t.b.Where(exact, x, t.b.Where(plain, t.b.Log(u), ratio))


@aten("log2")
def _(t: Translation, x: Value) -> Value:
    x = t.cast(x, t.out_dtype)
    return t.b.Mul(t.b.Log(x), t.scalar(1 / math.log(2), x))


@aten("log10")
def _(t: Translation, x: Value) -> Value:
    x = t.cast(x, t.out_dtype)
    return t.b.Mul(t.b.Log(x), t.scalar(1 / math.log(10), x))


@aten("trunc", "fix")
def _(t: Translation, x: Value) -> Value:
    if not t.dtype(x).is_float:
        return x
    return t.b.Mul(t.b.Sign(x), t.b.Floor(t.b.Abs(x)))


@aten("frac")
def _(t: Translation, x: Value) -> Value:
    return t.b.Sub(x, t.b.Mul(t.b.Sign(x), t.b.Floor(t.b.Abs(x))))


@aten("round.decimals")
def _(t: Translation, x: Value, *, decimals: int) -> Value:
    scale = t.scalar(10.0 ** decimals, x)
    return t.b.Div(t.b.Round(t.b.Mul(x, scale)), scale)


# Arithmetic of two

def _scaled(t: Translation, other: Any, alpha: Any) -> Any:
    if alpha == 1:
        return other
    if isinstance(other, Value):
        return t.b.Mul(other, t.scalar(alpha, other))
    return other * alpha


@aten("add.Tensor", "add.Scalar")
def _(t: Translation, x: Any, y: Any, alpha: Any = 1) -> Value:
    a, b = t.value(x, t.out_dtype), t.value(_scaled(t, y, alpha), t.out_dtype)
    return t.b.Or(a, b) if t.out_dtype is dtypes.BOOL else t.b.Add(a, b)


@aten("sub.Tensor", "sub.Scalar")
def _(t: Translation, x: Any, y: Any, alpha: Any = 1) -> Value:
    return t.b.Sub(t.value(x, t.out_dtype), t.value(_scaled(t, y, alpha), t.out_dtype))


@aten("rsub.Tensor", "rsub.Scalar")
def _(t: Translation, x: Any, y: Any, alpha: Any = 1) -> Value:
    return t.b.Sub(t.value(y, t.out_dtype), t.value(_scaled(t, x, alpha), t.out_dtype))


@aten("mul.Tensor", "mul.Scalar")
def _(t: Translation, x: Any, y: Any) -> Value:
    a, b = t.value(x, t.out_dtype), t.value(y, t.out_dtype)
    return t.b.And(a, b) if t.out_dtype is dtypes.BOOL else t.b.Mul(a, b)


@aten("div.Tensor", "div.Scalar")
def _(t: Translation, x: Any, y: Any) -> Value:
    return t.b.Div(t.value(x, t.out_dtype), t.value(y, t.out_dtype))


def _floor_div(t: Translation, a: Value, b: Value) -> Value:
    if t.dtype(a).is_float:
        return t.b.Floor(t.b.Div(a, b))
    # Python's Mod takes the divisor's sign, so what is left divides evenly, downwards.
    return t.b.Div(t.b.Sub(a, t.b.Mod(a, b)), b)


@aten("div.Tensor_mode", "div.Scalar_mode")
def _(t: Translation, x: Any, y: Any, *, rounding_mode: str | None) -> Value:
    a, b = t.value(x, t.out_dtype), t.value(y, t.out_dtype)
    if rounding_mode is None:
        return t.b.Div(a, b)
    if rounding_mode == "floor":
        return _floor_div(t, a, b)
    q = t.b.Div(a, b)
    return t.b.Mul(t.b.Sign(q), t.b.Floor(t.b.Abs(q))) if t.out_dtype.is_float else q


@aten("floor_divide", "floor_divide.Scalar")
def _(t: Translation, x: Any, y: Any) -> Value:
    return _floor_div(t, t.value(x, t.out_dtype), t.value(y, t.out_dtype))


@aten("remainder.Tensor", "remainder.Scalar", "remainder.Scalar_Tensor")
def _(t: Translation, x: Any, y: Any) -> Value:
    a, b = t.value(x, t.out_dtype), t.value(y, t.out_dtype)
    if not t.out_dtype.is_float:
        return t.b.Mod(a, b)
    # Mod of floats takes the dividend's sign (fmod); Python's takes the divisor's.
    r = t.b.Mod(a, b, fmod=1)
    zero = t.scalar(0, r)
    off = t.b.And(t.b.Not(t.b.Equal(r, zero)), t.b.Xor(t.b.Less(r, zero), t.b.Less(b, zero)))
    return t.b.Where(off, t.b.Add(r, b), r)


@aten("fmod.Tensor", "fmod.Scalar")
def _(t: Translation, x: Any, y: Any) -> Value:
    return t.b.Mod(t.value(x, t.out_dtype), t.value(y, t.out_dtype), fmod=1)


@aten("pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar")
def _(t: Translation, x: Any, y: Any) -> Value:
    a = t.value(x, t.out_dtype)
    if not isinstance(y, Value) and y == 2:
        return t.b.Mul(a, a)
    if not isinstance(y, Value) and y == 0.5 and t.out_dtype.is_float:
        # pow(-0.0, 0.5) is 0.0 where sqrt(-0.0) is -0.0; adding 0.0 settles it.
        return t.b.Add(t.b.Sqrt(a), t.scalar(0, a))
    return t.b.Pow(a, t.value(y, t.out_dtype))


@aten("maximum", "max.other")
def _(t: Translation, x: Any, y: Any) -> Value:
    return t.b.Max(t.value(x, t.out_dtype), t.value(y, t.out_dtype))


@aten("minimum", "min.other")
def _(t: Translation, x: Any, y: Any) -> Value:
    return t.b.Min(t.value(x, t.out_dtype), t.value(y, t.out_dtype))


@aten("clamp", "clamp.Tensor", "clip")
def _(t: Translation, x: Value, low: Any = None, high: Any = None) -> Value:
    x = t.cast(x, t.out_dtype)
    # Max then Min, as PyTorch: where low > high the answer is high.
    if low is not None:
        x = t.b.Max(x, t.value(low, t.out_dtype))
    return x if high is None else t.b.Min(x, t.value(high, t.out_dtype))


@aten("clamp_min", "clamp_min.Tensor")
def _(t: Translation, x: Value, low: Any) -> Value:
    return t.b.Max(t.cast(x, t.out_dtype), t.value(low, t.out_dtype))


@aten("clamp_max", "clamp_max.Tensor")
def _(t: Translation, x: Value, high: Any) -> Value:
    return t.b.Min(t.cast(x, t.out_dtype), t.value(high, t.out_dtype))


@aten("lerp.Scalar", "lerp.Tensor")
def _(t: Translation, x: Value, y: Value, weight: Any) -> Value:
    return t.b.Add(x, t.b.Mul(t.value(weight, t.out_dtype), t.b.Sub(y, x)))


@aten("addcmul")
def _(t: Translation, x: Value, a: Value, b: Value, *, value: Any = 1) -> Value:
    product = t.b.Mul(t.cast(a, t.out_dtype), t.cast(b, t.out_dtype))
    return t.b.Add(t.cast(x, t.out_dtype), _scaled(t, product, value))


@aten("addcdiv")
def _(t: Translation, x: Value, a: Value, b: Value, *, value: Any = 1) -> Value:
    ratio = t.b.Div(t.cast(a, t.out_dtype), t.cast(b, t.out_dtype))
    return t.b.Add(t.cast(x, t.out_dtype), _scaled(t, ratio, value))


@aten("atan2")
def _(t: Translation, y: Value, x: Value) -> Value:
    return arctangent(t, t.cast(y, t.out_dtype), t.cast(x, t.out_dtype))


def arctangent(t: Translation, y: Value, x: Value) -> Value:
    """The angle of the point (x, y), from -pi to pi."""
    zero = t.scalar(0, x)
    angle = t.b.Atan(t.b.Div(y, x))
    turn = t.b.Where(t.b.Less(y, zero), t.scalar(-math.pi, x), t.scalar(math.pi, x))
    side = t.b.Where(t.b.Less(x, zero), t.b.Add(angle, turn), angle)
    return t.b.Where(t.b.And(t.b.Equal(x, zero), t.b.Equal(y, zero)), zero, side)


# Comparison

def _compare(op: str) -> Any:
    def translate(t: Translation, x: Any, y: Any) -> Value:
        a, b = t.promoted(x, y)
        if t.dtype(a) is dtypes.BOOL and op != "Equal":
            a, b = t.cast(a, dtypes.INT32), t.cast(b, dtypes.INT32)
        return t.b.op(op, a, b)

    return translate


for _name, _op in {"eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual"}.items():
    for _overload in ("Tensor", "Scalar"):
        TABLE[f"aten.{_name}.{_overload}"] = _compare(_op)


@aten("ne.Tensor", "ne.Scalar")
def _(t: Translation, x: Any, y: Any) -> Value:
    return t.b.Not(t.b.Equal(*t.promoted(x, y)))


@aten("isnan")
def _(t: Translation, x: Value) -> Value:
    return t.b.IsNaN(x) if t.dtype(x).is_float else t.b.Not(t.b.Equal(x, x))


@aten("isinf")
def _(t: Translation, x: Value) -> Value:
    return t.b.IsInf(x) if t.dtype(x).is_float else t.b.Not(t.b.Equal(x, x))


@aten("isfinite")
def _(t: Translation, x: Value) -> Value:
    return t.b.Not(t.b.Or(t.b.IsInf(x), t.b.IsNaN(x))) if t.dtype(x).is_float else t.b.Equal(x, x)


# Logic and bits

@aten("logical_and")
def _(t: Translation, x: Value, y: Value) -> Value:
    return t.b.And(t.cast(x, dtypes.BOOL), t.cast(y, dtypes.BOOL))


@aten("logical_or")
def _(t: Translation, x: Value, y: Value) -> Value:
    return t.b.Or(t.cast(x, dtypes.BOOL), t.cast(y, dtypes.BOOL))


@aten("logical_xor")
def _(t: Translation, x: Value, y: Value) -> Value:
    return t.b.Xor(t.cast(x, dtypes.BOOL), t.cast(y, dtypes.BOOL))


@aten("logical_not")
def _(t: Translation, x: Value) -> Value:
    return t.b.Not(t.cast(x, dtypes.BOOL))


def _bitwise(logic: str, bits: str) -> Any:
    def translate(t: Translation, x: Any, y: Any) -> Value:
        a, b = t.value(x, t.out_dtype), t.value(y, t.out_dtype)
        return t.b.op(logic if t.out_dtype is dtypes.BOOL else bits, a, b)

    return translate


for _names, _logic, _bits in ((("bitwise_and", "__and__"), "And", "BitwiseAnd"),
                              (("bitwise_or", "__or__"), "Or", "BitwiseOr"),
                              (("bitwise_xor", "__xor__"), "Xor", "BitwiseXor")):
    for _name in _names:
        for _overload in ("Tensor", "Scalar"):
            TABLE[f"aten.{_name}.{_overload}"] = _bitwise(_logic, _bits)


@aten("bitwise_not")
def _(t: Translation, x: Value) -> Value:
    return t.b.Not(x) if t.dtype(x) is dtypes.BOOL else t.b.BitwiseNot(x)


@aten("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def _(t: Translation, condition: Value, x: Any, y: Any) -> Value:
    return choose(t, t.cast(condition, dtypes.BOOL), t.value(x, t.out_dtype), t.value(y, t.out_dtype))


def choose(t: Translation, condition: Value, x: Value, y: Value) -> Value:
    """`x` where the condition holds, `y` elsewhere; of bools by logic, for ONNX Runtime's Where takes none."""
    if t.dtype(x) is not dtypes.BOOL:
        return t.b.Where(condition, x, y)
    return t.b.Or(t.b.And(condition, x), t.b.And(t.b.Not(condition), y))


@aten("masked_fill.Scalar", "masked_fill.Tensor")
def _(t: Translation, x: Value, mask: Value, value: Any) -> Value:
    return choose(t, mask, t.value(value, t.out_dtype), t.cast(x, t.out_dtype))


@aten("nan_to_num")
def _(t: Translation, x: Value, nan: Any = None, posinf: Any = None, neginf: Any = None) -> Value:
    if not t.dtype(x).is_float:
        return x
    info = torch.finfo(t.out.dtype)
    x = t.b.Where(t.b.IsNaN(x), t.scalar(nan or 0.0, x), x)
    x = t.b.Where(t.b.IsInf(x, detect_negative=0), t.scalar(info.max if posinf is None else posinf, x), x)
    return t.b.Where(t.b.IsInf(x, detect_positive=0), t.scalar(info.min if neginf is None else neginf, x), x)


# Casts and copies

@aten("_to_copy", "to.dtype", "to.dtype_layout", "to.device", "to.other", "prims::convert_element_type")
def _(t: Translation, x: Value, *_: Any, dtype: Any = None, **_kw: Any) -> Value:
    return t.cast(x, t.out_dtype)


@aten("type_as")
def _(t: Translation, x: Value, other: Value) -> Value:
    return t.cast(x, t.dtype(other))


@aten("clone", "alias", "detach", "contiguous", "lift_fresh_copy", "lift_fresh", "positive", "real", "resolve_conj",
      "resolve_neg")
def _(t: Translation, x: Value, *, memory_format: Any = None) -> Value:
    return x


@aten("copy")
def _(t: Translation, x: Value, source: Value, non_blocking: bool = False) -> Value:
    return t.expand(t.cast(source, t.out_dtype), t.out_shape)


@aten("item", "_local_scalar_dense")
def _(t: Translation, x: Value) -> Value:
    return x


