"""How things are spelled in C: index expressions, literals, conversions, types."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import numpy as np

from gesher.base.dtypes import BOOL, DType
from gesher.base.errors import CompileError
from gesher.symbolic import Dim, DimLike, bounds
from gesher.symbolic import walk as parts_of

SUFFIX = {"float": "f32", "double": "f64", "int8": "i8", "uint8": "u8", "int16": "i16", "uint16": "u16", "int32": "i32",
          "uint32": "u32", "int64": "i64", "uint64": "u64", "bool": "u8"}
NARROW = {"float16": "f16", "bfloat16": "bf16"}


def c_type(dtype: DType) -> str:
    """How a buffer of this type is declared."""
    return dtype.c


def scalar_type(dtype: DType) -> str:
    """How a variable of this type is declared: narrow floats are floats."""
    return "float" if dtype.name in NARROW else dtype.c


class Spelling:
    """Spells index expressions with the C names of their symbols."""

    def __init__(self, names: dict[Dim, str]):
        self.names = names

    def __call__(self, d: DimLike) -> str:
        if not isinstance(d, Dim):
            return _integer(d)
        done: dict[Dim, str] = {}
        for part in parts_of(d):
            xs = [_integer(x) if not isinstance(x, Dim) else done[x] for x in part.args]
            match part.op:
                case "sym":
                    if part not in self.names:
                        raise CompileError(f"the size {part} ({part.reason}) in {d} has no name in C")
                    text = self.names[part]
                case "add":
                    text = "(" + " + ".join(xs).replace("+ -", "- ") + ")"
                case "mul":
                    text = "(" + " * ".join(xs) + ")" if xs[0] != "-1" else "(-" + " * ".join(xs[1:]) + ")"
                case "floordiv":
                    text = f"({xs[0]} / {xs[1]})" if self._plain(part) else f"gs_quotient({xs[0]}, {xs[1]})"
                case "mod":
                    text = f"({xs[0]} % {xs[1]})" if self._plain(part) else f"gs_remainder({xs[0]}, {xs[1]})"
                case "min" | "max":
                    text = reduce(lambda x, y, op=part.op: f"gs_{op}_i64({x}, {y})", xs)  # type: ignore[misc]
                case "bcast":
                    text = reduce(lambda y, x: f"gs_broadcast_i64({x}, {y})", reversed(xs))
                case _:
                    raise CompileError(f"the index operator {part.op} has no C spelling")
            done[part] = text
        return done[d]

    @staticmethod
    def _plain(part: Dim) -> bool:
        """Whether C's own division does the same: nothing negative, no zero below."""
        (low, _), (divisor, _) = bounds(part.args[0]), bounds(part.args[1])
        return low is not None and low >= 0 and divisor is not None and divisor >= 1


def _integer(n: int) -> str:
    if not -(1 << 63) <= n < (1 << 63):
        raise CompileError(f"the size {n} does not fit 64 bits")
    return str(n) if abs(n) < 1 << 31 else f"INT64_C({n})" if n > -(1 << 63) else "INT64_MIN"


def number(value: Any, dtype: DType) -> str:
    """A literal of the type in which scalars of `dtype` are computed."""
    if dtype.is_float:
        value = float(value)
        single = dtype.name != "double"
        if math.isnan(value):
            return "NAN" if single else "((double)NAN)"
        if math.isinf(value):
            text = "INFINITY" if single else "((double)INFINITY)"
            return text if value > 0 else f"(-{text})"
        if single:
            shown = np.format_float_scientific(np.float32(value), unique=True, trim="0") if value and not (
                1e-4 <= abs(value) < 1e7) else np.format_float_positional(np.float32(value), unique=True, trim="0")
        else:
            shown = repr(value)
        text = shown + ("f" if single else "")
        return f"({text})" if text.startswith("-") else text
    value = int(value)
    if dtype.name == "uint64":
        return f"UINT64_C({value})"
    if dtype.name == "uint32":
        return f"UINT32_C({value})"
    if dtype.name == "int64":
        return f"INT64_C({value})" if value > -(1 << 63) else "INT64_MIN"
    if dtype.name == "int32" and value == -(1 << 31):
        return "INT32_MIN"
    return str(value) if value >= 0 else f"({value})"


def cast(text: str, source: DType, target: DType) -> str:
    """The C of a conversion; see `primitives.interpret.convert`."""
    if target is BOOL:
        return f"({text} != 0)"
    if target.is_float:
        narrow = NARROW.get(target.name)
        if narrow is None:
            return f"({target.c}){text}"
        if source.name == "double":
            # Rounding twice would be wrong by one where the first rounding makes a tie.
            text = f"gs_f32_odd_of_f64({text})"
        elif not source.is_float:
            text = f"(float){text}"
        return f"gs_round_{narrow}({text})"
    if not source.is_float:
        return f"({target.c}){text}"
    if target.name == "uint64":
        return f"gs_u64_of_f64({text})"
    if target.bits == 64 or target.name == "uint32":
        return f"({target.c})gs_i64_of_f64({text})"
    return f"({target.c})gs_i32_of_{'f64' if source.name == 'double' else 'f32'}({text})"


def bitcast(text: str, source: DType, target: DType) -> str:
    """The same bits as another type."""
    bits = text
    if source.is_float:
        narrow = NARROW.get(source.name)
        bits = f"gs_{narrow}_of_f32({text})" if narrow else f"gs_bits_of_{SUFFIX[source.name]}({text})"
    if not target.is_float:
        return f"({target.c}){bits}"
    narrow = NARROW.get(target.name)
    if narrow:
        return f"gs_f32_of_{narrow}((uint16_t){bits})"
    return f"gs_{SUFFIX[target.name]}_of_bits((uint{target.bits}_t){bits})"


def bare(text: str) -> str:
    """Without the outermost parentheses."""
    if not (text.startswith("(") and text.endswith(")")):
        return text
    depth = 0
    for i, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth == 0 and i < len(text) - 1:
            return text
    return text[1:-1]
