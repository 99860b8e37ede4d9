"""Questions about two sizes, answered True, False, or None where it depends on the symbols (or is beyond us)."""

from __future__ import annotations

from .dim import Dim, DimLike, dimlike
from .intervals import interval
from .polynomial import content, terms_of


def decide_eq(a: DimLike, b: DimLike) -> bool | None:
    """Whether a == b for all values of the symbols (True), for none (False), or neither is known (None).

    Example:
        >>> n = sym("n")
        >>> decide_eq(2 * n, n + n), decide_eq(2 * n, 2 * n + 1), decide_eq(n, 4)
        (True, False, None)
    """
    difference = dimlike(a) - dimlike(b)
    if not isinstance(difference, Dim):
        return difference == 0
    lo, hi = interval(difference)
    if lo > 0 or hi < 0:
        return False
    if lo == hi == 0:
        return True
    terms = terms_of(difference)
    # 2*n + 4*m is never 1.
    if terms.get((), 0) % max(content(terms, constant=False), 1):
        return False
    return None


def decide_ge(a: DimLike, b: DimLike) -> bool | None:
    """Whether a >= b: for all values (True), for none (False), or not known (None)."""
    lo, hi = interval(dimlike(a) - dimlike(b))
    if lo >= 0:
        return True
    return False if hi < 0 else None


def decide_gt(a: DimLike, b: DimLike) -> bool | None:
    """Whether a > b: for all values (True), for none (False), or not known (None)."""
    return _negated(decide_ge(b, a))


def decide_le(a: DimLike, b: DimLike) -> bool | None:
    """Whether a <= b: for all values (True), for none (False), or not known (None)."""
    return decide_ge(b, a)


def decide_lt(a: DimLike, b: DimLike) -> bool | None:
    """Whether a < b: for all values (True), for none (False), or not known (None)."""
    return _negated(decide_ge(a, b))


def _negated(answer: bool | None) -> bool | None:
    return None if answer is None else not answer
