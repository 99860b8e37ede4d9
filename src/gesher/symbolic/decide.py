"""Questions about two sizes, answered True, False, or None where it depends on the symbols (or is beyond us).

Two sizes are compared by their difference: by its bounds, by its common divisor (2*n is never 2*m + 1), and where
quotients and remainders by constants stand in it, case by case: with n//2, once for n = 2*t and once for n = 2*t + 1.
That last step decides what no canonical form shows, such as `n//2 + (n + 1)//2 == n`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import product as combinations
from math import lcm

from .contradiction import Contradiction
from .dim import Dim, DimLike, dimlike, stand_in, walk
from .evaluation import substitute
from .intervals import INFINITY, interval, zero_at_sight

_MOST_CASES = 64
_LARGEST_TREE = 200


def decide_eq(a: DimLike, b: DimLike) -> bool | None:
    """Whether a == b for all values of the symbols (True), for none (False), or neither is known (None).

    Example:
        >>> n = sym("n")
        >>> decide_eq(2 * n, n + n), decide_eq(2 * n, 2 * n + 1), decide_eq(n, 4)
        (True, False, None)
    """
    return is_zero(dimlike(a) - dimlike(b))


def decide_ge(a: DimLike, b: DimLike) -> bool | None:
    """Whether a >= b: for all values (True), for none (False), or not known (None)."""
    return is_not_negative(dimlike(a) - dimlike(b))


def decide_gt(a: DimLike, b: DimLike) -> bool | None:
    """Whether a > b: for all values (True), for none (False), or not known (None)."""
    return negated(decide_ge(b, a))


def decide_le(a: DimLike, b: DimLike) -> bool | None:
    """Whether a <= b: for all values (True), for none (False), or not known (None)."""
    return decide_ge(b, a)


def decide_lt(a: DimLike, b: DimLike) -> bool | None:
    """Whether a < b: for all values (True), for none (False), or not known (None)."""
    return negated(decide_ge(a, b))


def negated(answer: bool | None) -> bool | None:
    """Not, with None for not known."""
    return None if answer is None else not answer


def is_zero(d: DimLike) -> bool | None:
    """Whether `d` is 0 for all values (True), for none (False), or not known (None)."""
    return _decide(d, zero_at_sight)


def is_not_negative(d: DimLike) -> bool | None:
    """Whether `d` is 0 or more for all values (True), for none (False), or not known (None)."""
    return _decide(d, _not_negative)


@lru_cache(maxsize=4096)
def _decide(d: DimLike, question: Callable[[DimLike], bool | None]) -> bool | None:
    answer = question(d)
    if answer is not None or not isinstance(d, Dim):
        return answer
    for case in _cases(d):
        here = question(case)
        if here is None or (answer is not None and here is not answer):
            return None
        answer = here
    return answer


def _not_negative(d: DimLike) -> bool | None:
    lo, hi = interval(d)
    if lo >= 0:
        return True
    return False if hi < 0 else None


def _cases(d: Dim) -> Iterator[DimLike]:
    """`d` for each residue of the symbols that are divided by constants; nothing where that would not help.

    A case that no value of a symbol falls into is left out.
    """
    if d.size > _LARGEST_TREE:
        return
    periods: dict[Dim, int] = {}
    for part in walk(d):
        if part.op in ("floordiv", "mod"):
            x, k = part.args
            if isinstance(x, Dim) and not isinstance(k, Dim):
                for symbol in x.symbols():
                    periods[symbol] = lcm(periods.get(symbol, 1), k)
    count = 1
    for k in periods.values():
        count *= k
        if count > _MOST_CASES:
            return
    if count == 1:
        return
    for residues in combinations(*map(range, periods.values())):
        case: dict[Dim, DimLike] = {}
        for (symbol, k), r in zip(periods.items(), residues):
            lo, hi = interval(symbol)
            # lo <= k*t + r <= hi
            low = None if lo == -INFINITY else -(-(int(lo) - r) // k)
            high = None if hi == INFINITY else (int(hi) - r) // k
            if low is not None and high is not None and low > high:
                break
            case[symbol] = k * stand_in(low, high) + r
        else:
            # No value of this case is legal where it divides by zero or broadcasts what does not broadcast.
            with suppress(ZeroDivisionError, Contradiction):
                yield substitute(d, case)
