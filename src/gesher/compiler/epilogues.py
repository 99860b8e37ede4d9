"""What follows a convolution and that its kernel can do itself, while the sums are in registers or in L1.

Read from the end backwards: a sum of the convolution, biases and one picture of the same shape (a residual), kept
between bounds; or the silu of convolution and biases, to which a residual may be added. Whatever else follows is the
business of loops of its own (`Kernel.tile`).
"""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass

from gesher.primitives import Expr
from gesher.symbolic import decide_eq, product

from .packed import array_of


@dataclass(frozen=True, slots=True)
class Epilogue:
    """y = clamp(convolution + biases + residual), or silu(convolution + biases) + residual.

    Attributes:
        biases: constants of one number for each lane of each block, two at the most.
        residual: a tensor of the result's shape that lies in memory, or None.
        clamp: the bounds, or None.
        silu: which of the two it is; there is no clamp then.
    """

    biases: tuple[Expr, ...] = ()
    residual: Expr | None = None
    clamp: tuple[float, float] | None = None
    silu: bool = False


def epilogue_of(end: Expr, start: Expr, lanes: int, held: Container[Expr]) -> Epilogue | None:
    """How `end` comes of the convolution `start` over blocks of `lanes`, None where that is no such epilogue; `held` is
    what lies in memory."""
    if end.prim == "add":
        for x, other in (end.args, end.args[::-1]):
            inner = silu_of(x)
            if inner is not None and x not in held and other in held and other.shape == end.shape:
                return _summed(inner, start, lanes, held, residual=other, silu=True)
    inner = silu_of(end)
    if inner is not None:
        return _summed(inner, start, lanes, held, silu=True)
    low, high, e = -math.inf, math.inf, end
    while e.prim in ("max", "min") and e not in held:
        x, bound = e.args if e.args[1].prim == "broadcast" else e.args[::-1]
        number = _number(bound)
        # Only the outermost bounds of each kind: the order of more than one counts.
        if number is None or (low > -math.inf if e.prim == "max" else high < math.inf):
            return None
        low, high, e = (number, high, x) if e.prim == "max" else (low, number, x)
    if low > high:
        return None
    return _summed(e, start, lanes, held, clamp=(low, high) if (low, high) != (-math.inf, math.inf) else None)


def silu_of(e: Expr) -> Expr | None:
    """x where `e` is x * sigmoid(x)."""
    if e.prim == "mul":
        for x, gate in (e.args, e.args[::-1]):
            if gate.prim == "sigmoid" and gate.args[0] is x:
                return x
    return None


def _number(e: Expr) -> float | None:
    """The one number that a constant repeats; None for anything else, NaN too."""
    if e.prim != "broadcast" or e.args[0].prim != "constant" or decide_eq(product(e.args[0].shape), 1) is not True:
        return None
    number = float(array_of(e.args[0].params["value"]).reshape(-1)[0])
    return None if number != number else number


def _summed(e: Expr, start: Expr, lanes: int, held: Container[Expr], *, residual: Expr | None = None,
            clamp: tuple[float, float] | None = None, silu: bool = False) -> Epilogue | None:
    biases: list[Expr] = []
    times, terms = 0, [e]
    while terms:
        t = terms.pop()
        if t is start:
            times += 1
        elif t in held and t.shape == start.shape:
            if residual is not None or silu:
                return None
            residual = t
        elif t.prim == "add":
            terms += t.args
        elif t.prim == "broadcast" and _is_bias(t.args[0], start, lanes):
            biases.append(t.args[0])
        else:
            return None
    return Epilogue(tuple(biases), residual, clamp, silu) if times == 1 and len(biases) <= 2 else None


def _is_bias(e: Expr, start: Expr, lanes: int) -> bool:
    """Whether a constant has one number for each lane of each block, and for nothing else."""
    return e.prim == "constant" and e.rank >= start.rank - 1 and e.shape[1 - start.rank] == start.shape[1] \
        and e.shape[-1] == lanes and product(e.shape) == product((start.shape[1], lanes))
