"""Sizes as rules meet them: lists of numbers and symbols, known or not, plain or not, carried along or too many.

In inference they come from `InferNode`, in a lowering from the builder, which must know them to make an expression.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from gesher.ir import DimLike
from gesher.ir.tensor import count
from gesher.primitives import CannotLower
from gesher.symbolic import Dim

from .fact import VALUE_LIMIT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gesher.primitives import Builder, Expr

    from .rules import InferNode


def is_plain(sizes: Sequence[DimLike | None]) -> TypeGuard[Sequence[int]]:
    """Whether every size is a number."""
    return all(isinstance(d, int) for d in sizes)


def is_small(shape: Sequence[DimLike | None]) -> TypeGuard[Sequence[int]]:
    """Whether a value of this shape may be carried along."""
    return is_plain(shape) and count(shape) <= VALUE_LIMIT


def print_sizes(sizes: Sequence[DimLike | None]) -> str:
    return "[" + ", ".join("?" if d is None else str(d) for d in sizes) + "]"


# In inference


def numbers_of(node: InferNode, index: int) -> list[int] | None:
    """The plain integers of input `index`, flat; None where they are not known, or are symbolic."""
    ints = node.ints(index)
    return list(ints) if ints is not None and is_plain(ints) else None


def scalar_of(node: InferNode, index: int) -> DimLike | None:
    """The one integer that input `index` holds; None where it is not known."""
    ints = node.ints(index)
    return ints[0] if ints is not None and len(ints) == 1 else None


def length_of(node: InferNode, index: int) -> int | None:
    """How many elements the list that is input `index` holds, where that is known; a scalar counts as one."""
    shape = None if (f := node.input(index)) is None else f.shape
    if shape is None or len(shape) > 1:
        return None
    if not shape:
        return 1
    return shape[0] if isinstance(shape[0], int) else None


def same_elements(value: NDArray[Any] | None, shape: Sequence[DimLike | None]) -> NDArray[Any] | None:
    """A known value in another shape; None where either is not known."""
    if value is None or not is_plain(shape) or value.size != count(shape):
        return None
    return value.reshape(tuple(shape))


# In lowerings


def known_ints(p: Builder, x: Expr, what: str) -> list[DimLike]:
    """The known integers of `x`, flat.

    Raises:
        CannotLower: they are not known at compile time.
    """
    value = p.known(x)
    if value is None:
        raise CannotLower(f"{what} is not known at compile time")
    return [d if isinstance(d, Dim) else int(d) for d in np.asarray(value).reshape(-1).tolist()]


def plain_ints(p: Builder, x: Expr, what: str) -> list[int]:
    """As `known_ints`, where symbols will not do (axes, counts)."""
    found = known_ints(p, x, what)
    if not is_plain(found):
        raise CannotLower(f"{what} depends on symbolic sizes")
    return list(found)


def from_front(p: Builder, indices: Expr, size: DimLike) -> Expr:
    """`indices` into an axis of `size`, for operators that do not count from the end: a negative one is put outside, so
    that the run that brings it is refused."""
    return p.select(p.lt(indices, 0), p.size(size, indices.dtype), indices)


def known_int(p: Builder, x: Expr, what: str) -> DimLike:
    """The one known integer of `x`."""
    found = known_ints(p, x, what)
    if len(found) != 1:
        raise CannotLower(f"{what} is not one number")
    return found[0]
