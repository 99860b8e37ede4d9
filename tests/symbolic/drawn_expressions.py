"""Random expressions, each with the plain Python function that says what it must evaluate to."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from gesher.symbolic import (
    Dim,
    DimLike,
    ceil_div,
    floordiv,
    maximum,
    minimum,
    mod,
    sym,
    trunc_div,
)

Values = dict[str, int]

# Of every kind of bounds; the range is what values are drawn from.
SYMBOLS: dict[Dim, tuple[int, int]] = {
    sym("a"): (0, 9),
    sym("b", min=1): (1, 9),
    sym("c", min=None): (-9, 9),
    sym("d", min=2, max=6): (2, 6),
    sym("e", min=-3, max=4): (-3, 4),
    sym("f"): (0, 3),
}
BY_NAME = {symbol.name: symbol for symbol in SYMBOLS}


@dataclass(frozen=True)
class Drawn:
    """An expression, and its meaning by Python's own arithmetic; raises ZeroDivisionError where it has none."""

    dim: DimLike
    meaning: Callable[[Values], int]


def truncated(x: int, y: int) -> int:
    """x / y toward zero."""
    quotient = abs(x) // abs(y)
    return quotient if (x < 0) == (y < 0) else -quotient


# Operator: what builds it, what it means.
BINARY: dict[str, tuple[Callable[[DimLike, DimLike], DimLike], Callable[[int, int], int]]] = {
    "+":     (lambda x, y: x + y, lambda x, y: x + y),
    "-":     (lambda x, y: x - y, lambda x, y: x - y),
    "*":     (lambda x, y: x * y, lambda x, y: x * y),
    "//":    (floordiv,           lambda x, y: x // y),
    "%":     (mod,                lambda x, y: x % y),
    "ceil":  (ceil_div,           lambda x, y: -(-x // y)),
    "trunc": (trunc_div,          truncated),
    "min":   (minimum,            min),
    "max":   (maximum,            max),
}
# As they come in real shapes: mostly sums, products, and division by constants.
WEIGHTS = {"+": 3, "-": 2, "*": 2, "//": 1, "%": 1, "ceil": 1, "trunc": 1, "min": 2, "max": 2}
FACTORS = (2, 3, 4, 6, -1, -2)
DIVISORS = (1, 2, 3, 4, 6, 8, -2, -3)
CONSTANTS = (0, 1, 2, 3, 4, 6, 8, 12, -1, -2, -3, -5)


def draw(rng: random.Random, depth: int) -> Drawn:
    """A random expression of at most that depth.

    Raises:
        ZeroDivisionError: it divides by a constant zero.
    """
    if depth == 0 or rng.random() < 0.15:
        if rng.random() < 0.3:
            constant = rng.choice(CONSTANTS)
            return Drawn(constant, lambda v: constant)
        symbol = rng.choice(list(SYMBOLS))
        return Drawn(symbol, lambda v: v[symbol.name])
    x = draw(rng, depth - 1)
    kind = rng.random()
    if kind < 0.12:
        k = rng.choice(FACTORS)
        return Drawn(k * x.dim, lambda v: k * x.meaning(v))
    if kind < 0.27:
        k = rng.choice(DIVISORS)
        return Drawn(x.dim // k, lambda v: x.meaning(v) // k)
    if kind < 0.38:
        k = rng.choice(DIVISORS)
        return Drawn(x.dim % k, lambda v: x.meaning(v) % k)
    y = draw(rng, depth - 1)
    build, meaning = BINARY[rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]]
    return Drawn(build(x.dim, y.dim), lambda v: meaning(x.meaning(v), y.meaning(v)))


def draw_values(rng: random.Random) -> Values:
    """Values within the bounds; the smallest, the largest, 0 and 1 more often than others."""
    values = {}
    for symbol, (lo, hi) in SYMBOLS.items():
        values[symbol.name] = rng.choice((lo, lo, hi, max(lo, min(hi, 0)), max(lo, min(hi, 1)), rng.randint(lo, hi),
                                          rng.randint(lo, hi)))
    return values
