"""Maps of two tensors, and `Where` of three.

Integers wrap around as the type does; integer division cuts toward zero, and division by zero gives 0 (ONNX leaves it
open; every part of this house says 0). `Mod` has the sign of the divisor, with `fmod=1` that of the dividend.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import RunError
from gesher.ir.types import print_shape
from gesher.primitives import CannotLower
from gesher.symbolic import Dim, mod, trunc_div

from ..arithmetic import computed, lowered
from ..beside import is_one
from ..broadcasting import broadcast_inputs, broadcast_into, same_shapes
from ..elementwise import (
    LAYING,
    NUMPY_BROADCASTING,
    add_binary_rules,
    binary,
    infer_broadcast,
    infer_same,
)
from ..known import each, symbolic_value
from ..rules import InferNode
from ..schema import (
    ALL,
    BF16,
    BOOL,
    FLOATS,
    INTS,
    NUMBERS,
    REQUIRED,
    UINTS,
    Attr,
    Drop,
    Input,
    Output,
    op,
    tensors,
)

# The integers that arithmetic took before opset 14: those of 32 and 64 bits.
WIDE_INTS = tensors("int32 int64 uint32 uint64")


def divide(a: Any, b: Any) -> Any:
    """Division; of integers cut toward zero, and 0 for a zero divisor."""
    if a.dtype.kind == "f":
        return np.divide(a, b)
    # What is left after fmod divides evenly, so that rounding down does no harm.
    return np.floor_divide(a - np.fmod(a, b), b)


_ARITHMETIC = {1: FLOATS, 6: FLOATS | WIDE_INTS, 7: FLOATS | WIDE_INTS, 13: FLOATS | WIDE_INTS | BF16,
               14: NUMBERS | BF16}

for row in (
    # name   types        numpy        primitive
    ("Add", _ARITHMETIC, np.add,      "add"),
    ("Sub", _ARITHMETIC, np.subtract, "sub"),
    ("Mul", _ARITHMETIC, np.multiply, "mul"),
    ("Div", _ARITHMETIC, divide,      "div"),
):
    binary(*row, symbolic={"Add": lambda a, b: a + b, "Sub": lambda a, b: a - b, "Mul": lambda a, b: a * b,
                           "Div": trunc_div}[row[0]])

for name, function, primitive in (
    ("BitwiseAnd", np.bitwise_and, "bit_and"),
    ("BitwiseOr",  np.bitwise_or,  "bit_or"),
    ("BitwiseXor", np.bitwise_xor, "bit_xor"),
):
    binary(name, {18: INTS | UINTS}, function, primitive)


# Mod

Mod = (op("Mod", Input("A"), Input("B"), Output("C"), Attr("fmod", "int", 0), since=10, T=NUMBERS)
       .since(13, T=NUMBERS | BF16)
       .since(28))


def _mod_refusal(is_float: bool, fmod: int) -> str | None:
    return "of floats needs fmod=1 before opset 28" if is_float and not fmod else None


@Mod.infer
def _(node: InferNode) -> None:
    refusal = _mod_refusal(node.dtype(0).is_float, node["fmod"])
    if node.version < 28 and refusal:
        node.fail(refusal)
    infer_broadcast(node, symbolic=each(lambda a, b: a - trunc_div(a, b) * b if node["fmod"] else mod(a, b)))


@computed
def _remainder(a: Any, b: Any, *, fmod: int) -> Any:
    return np.fmod(a, b) if fmod else np.mod(a, b)


@Mod.reference
def _(a: Any, b: Any, *, fmod: int) -> Any:
    if refusal := _mod_refusal(dtypes.from_numpy(a.dtype).is_float, fmod):
        raise RunError(f"Mod {refusal}")
    return _remainder(a, b, fmod=fmod)


Mod.reference(since=28)(_remainder)


@Mod.lower
@lowered
def _(p: Any, a: Any, b: Any, *, fmod: int) -> Any:
    if p.version < 28 and (refusal := _mod_refusal(a.dtype.is_float, fmod)):
        raise CannotLower(refusal)
    return p.fmod(a, b) if fmod else p.mod(a, b)


# Pow. The result has the type of the base; from 12 on the exponent may be of any numeric type.

Pow = (op("Pow", Input("X"), Input("Y"), Output("Z"), *LAYING, T=FLOATS)
       .since(7, Drop("axis"), Drop("broadcast"), behaviour=NUMPY_BROADCASTING)
       .since(12, Input("Y", "T1"), T=FLOATS | tensors("int32 int64"), T1=NUMBERS)
       .since(13, T=FLOATS | tensors("int32 int64") | BF16)
       .since(15, T1=NUMBERS | BF16))


def power(x: Any, y: Any) -> Any:
    """x**y; integers to integers wrap around, and 1 / n is cut to 0."""
    if x.dtype.kind not in "iu":
        return np.power(x, y)
    if y.dtype.kind not in "iu":
        return np.power(x.astype(np.float64), y)
    x, y = np.broadcast_arrays(x, y.astype(np.int64))
    result = np.power(x.astype(np.int64), np.maximum(y, 0))
    odd = (y & 1).astype(bool)
    inverse = np.where(x == 1, 1, np.where(x == -1, np.where(odd, -1, 1), 0))
    return np.where(y < 0, inverse, result)


def _power_of_sizes(x: Any, y: Any) -> Any:
    return x**y if not isinstance(y, Dim) and y >= 0 else None


def _lower_power(p: Any, x: Any, y: Any) -> Any:
    if x.dtype is y.dtype:
        return p.pow(x, y)
    exponents = p.known(y)
    if exponents is not None and exponents.dtype != object and np.all(np.trunc(exponents) == exponents) \
            and np.all(np.abs(exponents.astype(np.float64)) < 128):
        return p.pow(x, p.cast(y, x.dtype))  # a small whole number is the same in every type
    if x.dtype.is_integer and y.dtype.is_integer:
        return p.cast(p.pow(p.cast(x, dtypes.INT64), p.cast(y, dtypes.INT64)), x.dtype)
    # An exponent of 2**24 + 1 is odd, and in float32 it would not be.
    return p.cast(p.pow(p.cast(x, dtypes.DOUBLE), p.cast(y, dtypes.DOUBLE)), x.dtype)


add_binary_rules(Pow, power, lowered(_lower_power), symbolic=each(_power_of_sizes))


# BitShift. What is shifted by as many bits as the type has, or more, is gone; a negative shift counts as too far.

BitShift = (op("BitShift", Input("X"), Input("Y"), Output("Z"), Attr("direction", "string", REQUIRED), since=11,
               T=UINTS)
            .since(28, T=INTS | UINTS))


@BitShift.infer
def _(node: InferNode) -> None:
    if node["direction"] not in ("LEFT", "RIGHT"):
        node.fail(f"direction is {node['direction']!r}, not LEFT or RIGHT")
    infer_broadcast(node)


@BitShift.reference
@computed
def _(x: Any, y: Any, *, direction: str) -> Any:
    if direction not in ("LEFT", "RIGHT"):
        raise RunError(f"BitShift: direction is {direction!r}, not LEFT or RIGHT")
    bits = 8 * x.dtype.itemsize
    far = (y < 0) | (y >= bits)
    y = np.where(far, 0, y).astype(x.dtype)
    if direction == "LEFT":
        return np.where(far, 0, np.left_shift(x, y))
    return np.where(far, np.where(x < 0, -1, 0) if x.dtype.kind == "i" else 0, np.right_shift(x, y))


@BitShift.lower
def _(p: Any, x: Any, y: Any, *, direction: str) -> Any:
    if x.dtype.kind == "uint":
        return p.shift_left(x, y) if direction == "LEFT" else p.shift_right(x, y)
    unsigned = dtypes.BY_NAME["u" + x.dtype.name]
    # A negative shift is a huge one when read without its sign.
    bits, by = p.bitcast(x, unsigned), p.bitcast(y, unsigned)
    if direction == "LEFT":
        return p.bitcast(p.shift_left(bits, by), x.dtype)
    # Of a negative number the zeros are shifted, so that what comes in from the left is ones.
    negative = p.lt(x, 0)
    bits = p.select(negative, p.bit_not(bits), bits)
    shifted = p.shift_right(bits, by)
    return p.bitcast(p.select(negative, p.bit_not(shifted), shifted), x.dtype)


# PRelu. From 7 on the slope is laid into x as numpy would; before, it was one number or one for each channel.

PRelu = (op("PRelu", Input("X"), Input("slope"), Output("Y"), Attr("consumed_inputs", "ints"), T=FLOATS)
         .since(6, Drop("consumed_inputs"))
         .since(7, behaviour="a vector of slopes lies along the last axis, not along the channels")
         .since(9, T=FLOATS | WIDE_INTS)
         .since(16, T=FLOATS | WIDE_INTS | BF16))


def _by_channel(shape: tuple[Any, ...], slope: tuple[Any, ...]) -> tuple[Any, ...]:
    """The shape of a slope of before opset 7, made fit for numpy."""
    if all(isinstance(d, int) and d == 1 for d in slope):
        return ()
    return (*slope, *(1,) * (len(shape) - 2)) if len(slope) == 1 and len(shape) > 1 else slope


@PRelu.infer
def _(node: InferNode) -> None:
    shape, slope = node.shape(0), node.shape(1)
    if shape is not None and slope is not None:
        if node.version >= 7:
            broadcast_into(node, shape, slope, "the slope")
        elif is_one(slope) is False or len(slope) <= len(shape):
            broadcast_into(node, shape, _by_channel(shape, slope), "the slope")
        else:
            # More axes than X has are one number, or a mistake.
            for i, d in enumerate(slope):
                node.unify(d, 1, f"axis {i} of a slope with more axes than {print_shape(shape)}")
    infer_same(node)


@computed
def _prelu(x: Any, slope: Any) -> Any:
    return np.where(x < 0, np.broadcast_to(slope, x.shape) * x, x)


def _lower_prelu(p: Any, x: Any, slope: Any) -> Any:
    return p.select(p.lt(x, 0), x * p.broadcast_to(slope, x.shape), x)


@PRelu.reference
def _(x: Any, slope: Any, **_: Any) -> Any:
    return _prelu(x, slope.reshape(_by_channel(x.shape, slope.shape)))


PRelu.reference(since=7)(_prelu)


@PRelu.lower
@lowered
def _(p: Any, x: Any, slope: Any) -> Any:
    return _lower_prelu(p, x, p.reshape(slope, _by_channel(x.shape, slope.shape)))


PRelu.lower(since=7)(lowered(_lower_prelu))


# Where

Where = (op("Where", Input("condition", "B"), Input("X"), Input("Y"), Output("output"), since=9, B=BOOL, T=ALL)
         .since(16, T=ALL | BF16))


@Where.infer
def _(node: InferNode) -> None:
    shape = broadcast_inputs(node)
    dtype = node.dtype(2) if node.dtype(1) is dtypes.UNDEFINED else node.dtype(1)
    node.set(0, dtype, shape, symbolic_value(node, shape, each(lambda c, x, y: x if c else y)))


@Where.reference
def _(condition: Any, x: Any, y: Any) -> Any:
    return np.where(condition, x, y)


@Where.lower
def _(p: Any, condition: Any, x: Any, y: Any) -> Any:
    return p.select(condition, x, y)


# SwiGLU: a gate and a value of the same shape.

SwiGLU = op("SwiGLU", Input("A"), Input("B"), Output("Y"), Attr("alpha", "float", 1.0), since=28, T=FLOATS | BF16)


@SwiGLU.infer
def _(node: InferNode) -> None:
    node.set(0, node.dtype(1) if node.dtype(0) is dtypes.UNDEFINED else node.dtype(0), same_shapes(node))


@SwiGLU.reference
@computed
def _(a: Any, b: Any, *, alpha: float) -> Any:
    if a.shape != b.shape:
        raise RunError(f"SwiGLU: the gate has the shape {a.shape}, the value {b.shape}; they must be the same")
    return a / (1 + np.exp(-a * a.dtype.type(alpha))) * b


@SwiGLU.lower
@lowered
def _(p: Any, a: Any, b: Any, *, alpha: float) -> Any:
    return a * p.sigmoid(a * alpha) * b


