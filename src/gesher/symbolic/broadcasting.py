"""Sizes that meet in an elementwise operation: equal, or one of them is 1.

Neither `max(a, b)` (wrong for 1 and 0, which give 0) nor a guess that two symbols are equal will do. The result is an
expression of its own, `bcast(a, b)`: the first of the two that is not 1, else 1; in C, `a == 1 ? b : a`. It is exact
for every pair that may legally meet, its order does not matter there, and it goes as soon as either side is known.
`evaluate` refuses a pair that may not meet.
"""

from __future__ import annotations

from .contradiction import Contradiction
from .dim import Dim, DimLike, _node, dimlike
from .extremes import order
from .intervals import zero_at_sight

# Every pair is compared, so of a hostile list of thousands only the first.
_MOST_COMPARED = 24


def bcast(*xs: DimLike) -> DimLike:
    """The size that `xs` broadcast to, taking for granted that they do unless they surely do not.

    Raises:
        Contradiction: two of them surely differ and neither can be 1.
    """
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
    settled = [x for x in candidates if zero_at_sight(x - 1) is False]
    if settled:
        for x in settled[1:]:
            if zero_at_sight(x - settled[0]) is False:
                raise Contradiction(settled[0], x, what=f"sizes {settled[0]} and {x} do not broadcast")
        return min(settled, key=lambda x: (isinstance(x, Dim), order(x)))
    kept: list[DimLike] = []
    for x in sorted(candidates, key=order):
        if len(kept) > _MOST_COMPARED or not any(zero_at_sight(x - y) for y in kept):
            kept.append(x)
    if len(kept) == 1:
        return kept[0]
    return _node("bcast", tuple(kept))
