"""Sizes that meet: broadcasting one with another, comparing two shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .broadcasting import bcast
from .contradiction import Contradiction
from .decide import decide_eq
from .dim import DimLike, dimlike

if TYPE_CHECKING:
    from .equalities import Equalities


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
    same = decide_eq if equalities is None else equalities.decide_eq
    if same(a, 1) is False and same(b, 1) is False:
        if equalities is not None:
            return equalities.unify(a, b, why)
        if same(a, b) is False:
            raise Contradiction(a, b, (why,), what=f"sizes {a} and {b} do not broadcast")
    size = bcast(a, b)
    return size if equalities is None else equalities.resolve(size)


def same_shape(a: Sequence[DimLike], b: Sequence[DimLike]) -> bool | None:
    """Whether two shapes are the same: True, False, or None where that depends on the symbols."""
    if len(a) != len(b):
        return False
    answers = [decide_eq(x, y) for x, y in zip(a, b)]
    if False in answers:
        return False
    return None if None in answers else True
