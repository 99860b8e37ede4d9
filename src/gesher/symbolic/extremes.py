"""`minimum` and `maximum` of any number of sizes.

What is surely not the smallest (largest) is dropped, and what all have in common stands outside: `max(n+1, m+1)` is
`max(n, m) + 1` and `max(2*n, 4)` is `2*max(n, 2)`. So `max(n - 1, 0)`, the length of `x[1:]`, prints as
`max(n, 1) - 1`.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd

from .dim import Dim, DimLike, Terms, _node, dimlike
from .intervals import interval
from .polynomial import content, from_terms, scaled, terms_of

# Every pair is compared, so a hostile list of thousands is compared with its constant only.
_MOST_COMPARED = 24
_DUAL = {"min": "max", "max": "min"}


def minimum(*xs: DimLike) -> DimLike:
    """The smallest of one or more."""
    return _extreme("min", tuple(map(dimlike, xs)))


def maximum(*xs: DimLike) -> DimLike:
    """The largest of one or more.

    Example:
        >>> maximum(sym("n") + 1, sym("n") + 3, 0)
        Dim('n + 3')
    """
    return _extreme("max", tuple(map(dimlike, xs)))


@lru_cache(maxsize=4096)
def _extreme(op: str, xs: tuple[DimLike, ...]) -> DimLike:
    best = max if op == "max" else min
    candidates: dict[Dim, None] = {}
    number: int | None = None
    pending = list(reversed(xs))
    if not pending:
        raise TypeError(f"{op}imum needs at least one argument")
    while pending:
        x = pending.pop()
        if not isinstance(x, Dim):
            number = x if number is None else best(number, x)
        elif (parts := _opened(op, x)) is not None:
            pending.extend(reversed(parts))
        else:
            candidates[x] = None
    kept = _undominated(op, list(candidates), number)
    if len(kept) == 1:
        return kept[0]
    return _outside_common(op, kept)


def _opened(op: str, x: Dim) -> list[DimLike] | None:
    """The arguments of `x` where it is the same operator inside: 2*max(a, b) + 1 is max(2*a + 1, 2*b + 1)."""
    terms = terms_of(x)
    plus = terms.get((), 0)
    if len(terms) != (2 if plus else 1):
        return None
    m, c = next((m, c) for m, c in terms.items() if m)
    if len(m) != 1 or m[0].op != (op if c > 0 else _DUAL[op]):
        return None
    return [c * y + plus for y in m[0].args]


def _undominated(op: str, candidates: list[Dim], number: int | None) -> list[DimLike]:
    """Without what another candidate surely reaches; equals leave one."""
    def reaches(x: DimLike, y: DimLike) -> bool:
        return interval(x - y if op == "max" else y - x)[0] >= 0

    kept: list[DimLike] = []
    inputs: list[DimLike] = [*candidates] if number is None else [number, *candidates]
    for x in inputs:
        if len(kept) <= _MOST_COMPARED:
            if any(reaches(y, x) for y in kept):
                continue
            kept = [y for y in kept if not reaches(x, y)]
        elif number is not None and reaches(number, x):
            continue
        kept.append(x)
    return kept


def _outside_common(op: str, xs: list[DimLike]) -> DimLike:
    polynomials = [terms_of(x) for x in xs]
    common: Terms = dict(polynomials[0])
    for terms in polynomials[1:]:
        common = {m: c for m, c in common.items() if terms.get(m) == c}
        if not common:
            break
    common.pop((), None)
    # The parts without constants and common divisor decide on sign and order, so that neither depends on what stands
    # outside already.
    parts = [{m: c for m, c in terms.items() if m and m not in common} for terms in polynomials]
    g = max(gcd(*(content(part) for part in parts)), 1)
    upright = [from_terms(scaled(part, 1, g)) for part in parts]
    # min(-a, -b) is -max(a, b): of the two, the one with fewer minus signs.
    opposite = [-x for x in upright]
    sign = 1
    if _weight(opposite) < _weight(upright):
        upright, sign, op = opposite, -1, _DUAL[op]
    by_part = sorted(zip(upright, polynomials), key=lambda pair: order(pair[0]))
    # The constant that goes outside is that of the first argument.
    constants = [sign * terms.get((), 0) for _, terms in by_part]
    shift = constants[0]
    constants = [c - shift for c in constants]
    divisor = gcd(g, *constants)
    args = [x * (g // divisor) + c // divisor for (x, _), c in zip(by_part, constants)]
    if any(isinstance(x, Dim) and _opened(op, x) for x in args):
        inner = _extreme(op, tuple(args))
    else:
        inner = _node(op, tuple(args))
    return from_terms(common) + sign * (divisor * inner + shift)


def order(x: DimLike) -> tuple[object, ...]:
    return (0, *x._key) if isinstance(x, Dim) else (1, x)


def _weight(xs: list[DimLike]) -> tuple[object, ...]:
    negative = sum(c < 0 for x in xs for c in terms_of(x).values())
    return negative, sorted(map(order, xs))
