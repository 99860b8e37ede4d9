"""Casts: the same numbers in another type (Cast, CastLike), or the same bits (BitCast).

What a reader would guess wrong:

- Integers that do not fit lose their high bits; floats are cut toward zero, but rounded to even for 4- and 2-bit
  integers (as ONNX describes these types), which then take the low bits. A float beyond a wider integer is undefined.
- The 8-bit floats saturate by default: infinity becomes the largest number. float4 and float6 always saturate, and make
  a zero of NaN, as `ml_dtypes` and the conformance cases do.
- float8e8m0 has neither zero nor sign: only powers of two, found by `round_mode`; what is below becomes the smallest.
- To the narrow floats everything goes by way of float32, as engines do it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import RunError
from gesher.ir.tensor import pack, unpack
from gesher.primitives import CannotLower

from ..arithmetic import wide, widen
from ..known import is_symbolic
from ..rules import InferNode
from ..schema import BOOL, COMPLEX, NUMBERS, REQUIRED, STRING, Attr, Input, Output, every, op

_FLOAT8 = frozenset((dtypes.FLOAT8E4M3FN, dtypes.FLOAT8E4M3FNUZ, dtypes.FLOAT8E5M2, dtypes.FLOAT8E5M2FNUZ))


def cast(x: Any, target: DType, saturate: bool = True, round_mode: str = "up") -> Any:
    """An array as another data type; see the module.

    Raises:
        RunError: a string is no number.
    """
    source = dtypes.from_numpy(x.dtype)
    if source is target:
        return x
    with np.errstate(all="ignore"):
        if target is dtypes.STRING:
            return _map_to_objects(x, _spelled(source))
        if source is dtypes.STRING:
            return _parsed(x, target, saturate, round_mode)
        # ml_dtypes has no casts between its own types.
        x = widen(x) if source.is_float else x.astype(np.int8 if source.kind == "int" else np.uint8) \
            if source.packed else x
        if target is dtypes.BOOL:
            return x != 0
        if target.packed and target.is_integer:
            return _low_bits(np.rint(x).astype(np.int64) if source.is_float else x.astype(np.int64), target)
        if target is dtypes.FLOAT8E8M0:
            return _to_e8m0(x.astype(np.float64), saturate, round_mode)
        if target.is_float and target.bits < 16:
            return _to_narrow(x.astype(np.float32), target, saturate)
        if target is dtypes.BFLOAT16:
            x = x.astype(np.float32)
        return x.astype(target.numpy)


def _low_bits(x: Any, target: DType) -> Any:
    low = x & ((1 << target.bits) - 1)
    if target.kind == "int":
        low = low - ((low >> (target.bits - 1)) << target.bits)
    return low.astype(np.int8 if target.kind == "int" else np.uint8).astype(target.numpy)


def _to_narrow(x: Any, target: DType, saturate: bool) -> Any:
    if saturate and target in _FLOAT8:
        import ml_dtypes

        largest = np.float32(ml_dtypes.finfo(target.numpy).max)
        x = np.clip(x, -largest, largest)
    return x.astype(target.numpy)


def _to_e8m0(x: Any, saturate: bool, round_mode: str) -> Any:
    """Powers of two from 2**-127 to 2**127, held as the exponent's bits; 255 is NaN."""
    mantissa, exponent = np.frexp(x)  # x = mantissa * 2**exponent, mantissa in [0.5, 1)
    if round_mode == "up":
        up = mantissa > 0.5
    elif round_mode == "nearest":
        up = mantissa >= 0.75
    elif round_mode == "down":
        up = np.zeros(x.shape, bool)
    else:
        raise RunError(f"Cast: round_mode is {round_mode!r}, not up, down or nearest")
    bits = exponent.astype(np.int64) - 1 + up + 127
    bits = np.where(x == 0, -1, np.where(np.isposinf(x), 255, bits))
    bits = np.clip(bits, 0, 254) if saturate else np.where((bits < 0) | (bits > 254), 255, bits)
    return np.where(np.isnan(x) | (x < 0), 255, bits).astype(np.uint8).view(dtypes.FLOAT8E8M0.numpy)


# Strings

def _map_to_objects(x: Any, function: Any) -> Any:
    result = np.empty(x.shape, object)
    for at in np.ndindex(*x.shape):
        result[at] = function(x[at])
    return result


def _spelled(source: DType) -> Any:
    if source is dtypes.BOOL:
        return lambda v: "1" if v else "0"
    if source.is_float:
        return lambda v: "NaN" if v != v else ("INF" if v > 0 else "-INF") if np.isinf(np.float64(v)) else str(v)
    return lambda v: str(int(v))


def _number(text: Any) -> Any:
    """The number that a string spells: an int where it is written as one, else a float."""
    spelled = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    for read in (int, float):
        try:
            # Python reads 1_000 as a number; nobody else does.
            if "_" not in spelled:
                return read(spelled)
        except ValueError:
            continue
    raise RunError(f"Cast: the string {spelled!r} is no number")


def _parsed(x: Any, target: DType, saturate: bool, round_mode: str) -> Any:
    if target.is_integer:
        bits = _map_to_objects(x, lambda v: _whole(_number(v)) & (2**64 - 1)).astype(np.uint64)
        return cast(bits, target)
    if target is dtypes.BOOL:
        words = {"true": True, "false": False}
        return _map_to_objects(x, lambda v: words.get(str(v).lower()) if str(v).lower() in words
                               else _number(v) != 0).astype(np.bool_)
    return cast(_map_to_objects(x, lambda v: float(_number(v))).astype(np.float64), target, saturate, round_mode)


def _whole(v: Any) -> int:
    if v != v or v in (float("inf"), float("-inf")):
        raise RunError(f"Cast: {v} is no integer")
    return int(v)


# Cast and CastLike

_FIRST = NUMBERS | BOOL
_SATURATE = Attr("saturate", "int", 1)
_ROUND_MODE = Attr("round_mode", "string", "up")

Cast = (op("Cast", Input("input", "T1"), Output("output", "T2"), Attr("to", "string", REQUIRED), T1=_FIRST, T2=_FIRST)
        .since(6, Attr("to", "int", REQUIRED), behaviour="the type is named by its number")
        .since(9, T1=_FIRST | STRING, T2=_FIRST | STRING))
CastLike = op("CastLike", Input("input", "T1"), Input("target_type", "T2"), Output("output", "T2"), since=15,
              T1=every(13) - COMPLEX, T2=every(13) - COMPLEX)
for _version in (13, 19, 21, 23, 24, 25, 28):
    _types = every(_version) - COMPLEX
    _change = {19: (_SATURATE,), 24: (_ROUND_MODE,)}.get(_version, ())
    Cast.since(_version, *_change, T1=_types, T2=_types)
    if 15 < _version < 28:
        CastLike.since(_version, *_change, T1=_types, T2=_types)


def _target(to: Any, version: int) -> DType | None:
    """The data type that the attribute `to` names; None for none."""
    if version < 6:
        return dtypes.BY_NAME.get(to.lower())
    return dtypes.BY_CODE.get(to) if to else None


def _infer_cast(node: InferNode, target: DType) -> None:
    fact = node.input(0)
    if fact is None:
        node.set(0, target, None)
        return
    # Sizes stay what they are in a type that is wide enough for them.
    passes = is_symbolic(fact) and fact.dtype.is_integer and target.is_integer and target.bits >= 32
    node.set(0, target, fact.shape, fact.value if passes else None)


@Cast.infer
def _(node: InferNode) -> None:
    target = _target(node["to"], node.version)
    if target is None or target is dtypes.UNDEFINED:
        node.fail(f"to is {node['to']!r}, which names no data type")
    _infer_cast(node, target)


@CastLike.infer
def _(node: InferNode) -> None:
    target = node.dtype(1)
    if target is dtypes.UNDEFINED:
        node.set(0, target, None if (fact := node.input(0)) is None else fact.shape, why="the wanted type is unknown")
    else:
        _infer_cast(node, target)


def _checked_target(to: Any, version: int) -> DType:
    target = _target(to, version)
    if target is None:
        raise RunError(f"Cast: to is {to!r}, which names no data type")
    return target


@Cast.reference
def _(x: Any, *, to: str) -> Any:
    return cast(x, _checked_target(to, 1))


@Cast.reference(since=6)
def _(x: Any, *, to: int, saturate: int = 1, round_mode: str = "up") -> Any:
    return cast(x, _checked_target(to, 6), bool(saturate), round_mode)


@CastLike.reference
def _(x: Any, like: Any, *, saturate: int = 1, round_mode: str = "up") -> Any:
    return cast(x, dtypes.from_numpy(like.dtype), bool(saturate), round_mode)


def _lower_e8m0(p: Any, x: Any, saturate: bool, round_mode: str) -> Any:
    """Powers of two by the bits of a double, whose exponent has room for all others'."""
    if round_mode not in ("up", "down", "nearest"):
        raise CannotLower(f"round_mode {round_mode}")
    real = p.cast(x, dtypes.DOUBLE)
    word = p.bitcast(real, dtypes.UINT64)
    power = p.cast(p.bit_and(p.shift_right(word, 52), 0x7FF), dtypes.INT64) - (1023 - 127)
    rest = p.bit_and(word, (1 << 52) - 1)
    if round_mode != "down":
        up = p.gt(rest, 0) if round_mode == "up" else p.ge(rest, 1 << 51)
        power = power + p.cast(up, dtypes.INT64)
    if saturate:
        power = p.min(p.max(power, 0), 254)
    none = p.or_(p.is_nan(real), p.lt(real, 0.0))
    if not saturate:
        none = p.or_(none, p.or_(p.lt(power, 0), p.gt(power, 254)))
    return p.bitcast(p.cast(p.select(none, 255, power), dtypes.UINT8), dtypes.FLOAT8E8M0)


def lower_cast(p: Any, x: Any, target: DType, saturate: bool, round_mode: str = "up") -> Any:
    """`cast` in primitives."""
    if target is dtypes.FLOAT8E8M0 and x.dtype is not target:
        return _lower_e8m0(p, x, saturate, round_mode)
    if target.packed and target.is_integer and x.dtype.is_float:
        x = p.round(wide(p, x))
    return p.cast(x, target, saturate)


@Cast.lower
def _(p: Any, x: Any, *, to: str) -> Any:
    return lower_cast(p, x, _checked_target(to, 1), True)


@Cast.lower(since=6)
def _(p: Any, x: Any, *, to: int, saturate: int = 1, round_mode: str = "up") -> Any:
    return lower_cast(p, x, _checked_target(to, 6), bool(saturate), round_mode)


@CastLike.lower
def _(p: Any, x: Any, like: Any, *, saturate: int = 1, round_mode: str = "up") -> Any:
    return lower_cast(p, x, like.dtype, bool(saturate), round_mode)


# BitCast

_BITS = every(25) - STRING

BitCast = op("BitCast", Input("input", "T1"), Output("output", "T2"), Attr("to", "int", REQUIRED), since=26, T1=_BITS,
             T2=_BITS)


@BitCast.infer
def _(node: InferNode) -> None:
    target, source = _target(node["to"], node.version), node.dtype(0)
    if target is None or target is dtypes.STRING:
        node.fail(f"to is {node['to']!r}, which names no type with bits")
    if source is not dtypes.UNDEFINED and source.bits != target.bits:
        node.fail(f"{source.name} has {source.bits} bits, {target.name} has {target.bits}")
    node.set(0, target, None if (fact := node.input(0)) is None else fact.shape)


def _same_bits(x: Any, target: DType) -> Any:
    source = dtypes.from_numpy(x.dtype)
    if source.bits != target.bits or not target.bits:
        raise RunError(f"BitCast: {source.name} has {source.bits} bits, {target.name} has {target.bits}")
    if target is dtypes.BOOL:
        return unpack(pack(x, source), dtypes.UINT8, x.shape) != 0  # a numpy bool of 2 would be neither
    return unpack(pack(x, source), target, x.shape)


@BitCast.reference
def _(x: Any, *, to: int) -> Any:
    return _same_bits(x, _checked_target(to, 26))


@BitCast.lower
def _(p: Any, x: Any, *, to: int) -> Any:
    target = _checked_target(to, 26)
    if "complex" in (x.dtype.kind, target.kind):
        raise CannotLower("primitives have no complex numbers")
    if x.dtype is dtypes.BOOL:
        x = p.cast(x, dtypes.UINT8)
    if target is dtypes.BOOL:
        return p.ne(p.bitcast(x, dtypes.UINT8), 0)
    return p.bitcast(x, target)
