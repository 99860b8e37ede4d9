"""Axes as operators name them: by number, counted from either end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gesher.base.errors import ModelError

if TYPE_CHECKING:
    from .rules import InferNode


def axis_of(axis: int, rank: int, node: InferNode | None = None, what: str = "axis") -> int:
    """`axis` counted from the front. `node` gives the error its place.

    Raises:
        ModelError: a tensor of that rank has no such axis.

    >>> axis_of(-1, 4)
    3
    """
    if not -rank <= axis < rank:
        said = f"{what} {axis} is not within [{-rank}, {rank - 1}]" if rank else f"{what} {axis}: a scalar has no axes"
        if node is not None:
            node.fail(said)
        raise ModelError(said, rule="axis-range")
    return int(axis) + rank if axis < 0 else int(axis)


def axes_of(axes: Sequence[Any], rank: int, node: InferNode | None = None) -> list[int]:
    """Several axes counted from the front, in the order given.

    Raises:
        ModelError: one is out of range, or comes twice.
    """
    found = [axis_of(int(a), rank, node, "axes:") for a in axes]
    if len(set(found)) != len(found):
        said = f"axes {[int(a) for a in axes]} name an axis twice"
        if node is not None:
            node.fail(said)
        raise ModelError(said, rule="axis-range")
    return found
