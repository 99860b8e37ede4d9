"""Elementwise maps in PyTorch: a row each, with the meaning that `primitives.table` states in numpy.

What a reader would guess wrong: integer division truncates and by zero gives 0, a shift beyond the width gives 0, and
`sign` keeps NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Map = Callable[..., torch.Tensor]


def _sign(x: torch.Tensor) -> torch.Tensor:
    return torch.where(torch.isnan(x), x, torch.sign(x)) if x.is_floating_point() else torch.sign(x)


def _divide(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    if a.is_floating_point():
        return a / b
    # The lowest integer by -1 traps on some processors; it is its own negative.
    special = (b == 0) | (b == -1) if a.dtype is not torch.uint8 else b == 0
    quotient = torch.div(a, torch.where(special, 1, b), rounding_mode="trunc").to(a.dtype)
    quotient = torch.where(b == -1, -a, quotient) if a.dtype is not torch.uint8 else quotient
    return torch.where(b == 0, 0, quotient)


def _remainder(function: Map) -> Map:
    def remainder(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if a.is_floating_point():
            return function(a, b)
        special = (b == 0) | (b == -1) if a.dtype is not torch.uint8 else b == 0
        return torch.where(special, 0, function(a, torch.where(special, 1, b)))

    return remainder


def _power(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    if a.is_floating_point():
        return torch.pow(a, b)
    unsigned = a.dtype is torch.uint8
    negative = torch.zeros_like(b, dtype=torch.bool) if unsigned else b < 0
    result, base, exponent = torch.ones_like(a), a, torch.where(negative, 0, b)
    for _ in range(8 * a.element_size()):
        result = torch.where(exponent & 1 == 1, result * base, result)
        base, exponent = base * base, exponent >> 1
    if unsigned:
        return result
    # 1 / a**|b|, cut toward zero: only 1 and -1 leave something.
    inverse = torch.where(a == 1, 1, torch.where(a == -1, torch.where(b & 1 == 1, -1, 1), 0)).to(a.dtype)
    return torch.where(negative, inverse, result)


def _shift(function: Map) -> Map:
    def shifted(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        far = b >= 8 * a.element_size()
        return torch.where(far, 0, function(a, torch.where(far, 0, b)))

    return shifted


MAPS: dict[str, Map] = {
    "neg": torch.neg, "abs": torch.abs, "sign": _sign, "exp": torch.exp, "expm1": torch.expm1, "log": torch.log,
    "log1p": torch.log1p, "sqrt": torch.sqrt, "reciprocal": torch.reciprocal, "sin": torch.sin, "cos": torch.cos,
    "tan": torch.tan, "asin": torch.asin, "acos": torch.acos, "atan": torch.atan, "sinh": torch.sinh,
    "cosh": torch.cosh, "tanh": torch.tanh, "asinh": torch.asinh, "acosh": torch.acosh, "atanh": torch.atanh,
    "erf": torch.erf, "sigmoid": torch.sigmoid, "floor": torch.floor, "ceil": torch.ceil, "round": torch.round,
    "trunc": torch.trunc, "not_": torch.logical_not, "bit_not": torch.bitwise_not, "is_nan": torch.isnan,
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": _divide, "pow": _power,
    "mod": _remainder(torch.remainder), "fmod": _remainder(torch.fmod), "atan2": torch.atan2,
    "min": torch.minimum, "max": torch.maximum, "and_": torch.logical_and, "or_": torch.logical_or,
    "xor": torch.logical_xor, "bit_and": torch.bitwise_and, "bit_or": torch.bitwise_or, "bit_xor": torch.bitwise_xor,
    "shift_left": _shift(torch.bitwise_left_shift), "shift_right": _shift(torch.bitwise_right_shift),
    "eq": torch.eq, "ne": torch.ne, "lt": torch.lt, "le": torch.le, "gt": torch.gt, "ge": torch.ge,
}


def apply(name: str, *xs: Any) -> torch.Tensor:
    """One map on tensors of one type and shape. Narrow floats are computed in float32 and rounded by the caller."""
    return MAPS[name](*xs)
