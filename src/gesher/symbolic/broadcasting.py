"""Sizes that meet in an elementwise operation: equal, or one of them is 1.

Neither `max(a, b)` (wrong for 1 and 0, which give 0) nor a guess that two symbols are equal will do. The result is an
expression of its own, `bcast(a, b)`: the first of the two that is not 1, else 1; in C, `a == 1 ? b : a`. It is exact
for every pair that may legally meet, its order does not matter there, and it goes as soon as either side is known.
`evaluate` refuses a pair that may not meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .decide import decide_eq
from .dim import Dim, DimLike, _node, dimlike
from .extremes import _order

if TYPE_CHECKING:
    from .equalities import Equalities


def never_one(x: DimLike) -> bool:
    """Whether `x` is surely not 1."""
    return decide_eq(x, 1) is False


def bcast(*xs: DimLike) -> DimLike:
    """The size that `xs` broadcast to, taking for granted that they do. `broadcast` also checks that."""
    candidates: dict[DimLike, None] = {}
    pending = [dimlike(x) for x in reversed(xs)]
    while pending:
        x = pending.pop()
        if isinstance(x, Dim) and x.op == "bcast":
            pending.extend(reversed(x.args))
        elif x != 1 or isinstance(x, Dim):
            candidates[x] = None
    if not candidates:
        return 1
    # What is not 1 settles it; of several the simplest, since they are equal.
    settled = [x for x in candidates if never_one(x)]
    if settled:
        return min(settled, key=lambda x: (isinstance(x, Dim), _order(x)))
    kept: list[DimLike] = []
    for x in sorted(candidates, key=_order):
        if not any(decide_eq(x, y) for y in kept):
            kept.append(x)
    if len(kept) == 1:
        return kept[0]
    return _node("bcast", tuple(kept))


def broadcast(a: DimLike, b: DimLike, equalities: Equalities | None = None, why: str = "broadcast") -> DimLike:
    """The size that `a` and `b` broadcast to.

    1 with x gives x; equal ones give that; a number other than 1 with a symbol gives the number (the symbol is it, or
    1); two symbols give `bcast(a, b)`. With `equalities`, what is known there counts, and two sizes that both cannot
    be 1 are recorded as equal, for the reason `why`.

    Raises:
        Contradiction: they surely differ and neither can be 1.

    Example:
        >>> broadcast(sym("n"), 5), broadcast(sym("n"), sym("m"))
        (5, Dim('bcast(m, n)'))
    """
    a, b = dimlike(a), dimlike(b)
    if equalities is not None:
        a, b = equalities.resolve(a), equalities.resolve(b)
    if never_one(a) and never_one(b):
        if equalities is not None:
            return equalities.unify(a, b, why)
        if decide_eq(a, b) is False:
            from .equalities import Contradiction
            raise Contradiction(a, b, (why,))
    return bcast(a, b)


def same_shape(a: Sequence[DimLike], b: Sequence[DimLike]) -> bool | None:
    """Whether two shapes are the same: True, False, or None where that depends on the symbols."""
    if len(a) != len(b):
        return False
    answers = [decide_eq(x, y) for x, y in zip(a, b)]
    if False in answers:
        return False
    return None if None in answers else True
