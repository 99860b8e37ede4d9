"""The error for sizes that cannot all be what is asked of them."""

from __future__ import annotations

from gesher.base.errors import ModelError

from .dim import DimLike

_MOST_TOLD = 6


class Contradiction(ModelError):  # noqa: N818 - it is what happened, as in the calls that raise it
    """Two sizes that must be equal surely differ.

    Attributes:
        left, right: the two, as they were given.
        reasons: why they must be equal, then why each is what it is.
    """

    def __init__(self, left: DimLike, right: DimLike, reasons: tuple[str, ...] = (), *,
                 found: tuple[DimLike, DimLike] | None = None, what: str | None = None):
        if what is None:
            what = f"dimensions {left} and {right} must be equal, but they differ"
            if found is not None and found != (left, right):
                what += f": they are {found[0]} and {found[1]}"
        told = [r for r in reasons if r]
        more = f"; and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
        super().__init__(what, rule="dim-contradiction",
                         advice="because of: " + "; ".join(told[:_MOST_TOLD]) + more if told else None)
        self.left = left
        self.right = right
        self.reasons = tuple(told)
