"""Floats that become counts of a scale and bytes: which steps of quantisation a loop nest does as one.

A quantiser divides, rounds, adds a zero point, clips and casts; a dequantiser casts, takes the zero point away and
multiplies. Bounds are whole numbers, so clipping may come before rounding; then the number is small, and adding
1.5 * 2^23 leaves it rounded (half to even, as `round` does) in the lowest bits. The results are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Container

import numpy as np

from gesher.base.dtypes import FLOAT, INT8, INT32, UINT8
from gesher.primitives import Expr
from gesher.symbolic import decide_eq, product


def number_of(e: Expr) -> float | None:
    """The one number that a constant, perhaps repeated, holds; None for anything else."""
    while e.prim in ("broadcast", "reshape"):
        e = e.args[0]
    if e.prim != "constant" or decide_eq(product(e.shape), 1) is not True:
        return None
    value = e.params["value"]
    return float((value if isinstance(value, np.ndarray) else value.numpy()).reshape(-1)[0])


def clipped(e: Expr, held: Container[Expr]) -> tuple[Expr, float, float] | None:
    """What a cast to bytes clips before, and where: together they are a few instructions. (NaN becomes `low`.)

    Args:
        held: what is there already, and is not computed again.
    """
    if e.prim != "cast" or e.dtype not in (INT8, UINT8) or e.args[0].dtype is not FLOAT:
        return None
    inner, bounds = e.args[0], []
    for prim in ("min", "max"):
        if inner.prim != prim or inner in held:
            return None
        inner, bound = inner.args
        bounds.append(number_of(bound))
    high, low = bounds
    lowest, highest = (0, 255) if e.dtype is UINT8 else (-128, 127)
    if low is None or high is None or not lowest <= low <= high <= highest:
        return None
    return inner, low, high


def rounded(e: Expr, held: Container[Expr]) -> tuple[Expr, int] | None:
    """Where `e` is a rounded number and a zero point: the number before it was rounded, and the zero point."""
    if e in held:
        return None
    if e.prim == "round":
        return e.args[0], 0
    if e.prim == "add":
        for x, other in (e.args, e.args[::-1]):
            zero = number_of(other)
            if x.prim == "round" and x not in held and zero is not None and zero == int(zero) and abs(zero) <= 255:
                return x.args[0], int(zero)
    return None


def taken_apart(e: Expr, held: Container[Expr]) -> tuple[Expr, float, float] | None:
    """Where `e` is a byte less the zero point that it was just made with, as a float: the number before it was rounded,
    and between which bounds it is kept."""
    if e.prim != "cast" or e.dtype is not FLOAT or e.args[0] in held:
        return None
    whole, less = e.args[0], 0.0
    if whole.prim == "sub" and whole.dtype is INT32:
        whole, by = whole.args
        number = number_of(by)
        if number is None:
            return None
        less = number
    if whole.prim == "cast" and whole.dtype is INT32 and whole not in held:
        whole = whole.args[0]
    found = clipped(whole, held) if whole not in held else None
    inner = rounded(found[0], held) if found is not None else None
    if found is None or inner is None or inner[1] != less:
        return None
    return inner[0], found[1] - less, found[2] - less
