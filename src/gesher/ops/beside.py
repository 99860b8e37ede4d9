"""What stands beside a tensor: scales, zero points and biases, and which shapes they may have.

Each question is answered True, False, or None where symbols leave it open. Inference refuses what is False, the
reference rules, which see plain sizes, what is not True.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gesher.base.errors import RunError
from gesher.ir import DimLike
from gesher.ir.types import print_shape
from gesher.symbolic import decide_eq

from .rules import InferNode

Sizes = Sequence[DimLike]


def every(answers: Iterable[bool | None]) -> bool | None:
    """True where all are, False where one is."""
    found: bool | None = True
    for answer in answers:
        if answer is False:
            return False
        found = None if answer is None else found
    return found


def either(*answers: bool | None) -> bool | None:
    """True where one is, False where all are."""
    if any(a is True for a in answers):
        return True
    return None if None in answers else False


def is_one(shape: Sizes) -> bool | None:
    """Whether it holds one number, in whatever rank."""
    return every(decide_eq(d, 1) for d in shape)


def same(a: Sizes, b: Sizes) -> bool | None:
    return every(decide_eq(x, y) for x, y in zip(a, b)) if len(a) == len(b) else False


def is_list(shape: Sizes, size: DimLike) -> bool | None:
    """Whether it holds one number, or a list of `size`."""
    return either(is_one(shape), len(shape) == 1 and decide_eq(shape[0], size))


def of_rows(shape: Sizes, matrix: Sizes) -> bool | None:
    """Whether it holds one number, or one for each row of a matrix on the left: a list, or (..., rows, 1)."""
    if len(matrix) < 2:
        return is_one(shape)
    return either(is_list(shape, matrix[-2]), same(shape, (*matrix[:-1], 1)))


def of_columns(shape: Sizes, matrix: Sizes, *, listed: bool = False) -> bool | None:
    """Whether it holds one number, or one for each column of a matrix on the right: a list, or (..., 1, columns); with
    `listed` also a list under each batch, (..., columns)."""
    if len(matrix) < 2:
        return is_one(shape)
    lists = same(shape, (*matrix[:-2], matrix[-1])) if listed else False
    return either(is_list(shape, matrix[-1]), same(shape, (*matrix[:-2], 1, matrix[-1])), lists)


def check(node: InferNode, index: int, fits: bool | None, what: str) -> None:
    """Refuse input `index` in inference where it surely does not fit; `what` says what it should be."""
    if fits is False:
        node.fail(f"{node.schema.input(index).name} {print_shape(node.shape(index) or ())} is not {what}")


def require(name: str, shape: Sizes, fits: bool | None, what: str) -> None:
    """Refuse an input that does not fit in a reference rule.

    Raises:
        RunError: with what it should be.
    """
    if fits is not True:
        raise RunError(f"{name} {print_shape(tuple(shape))} is not {what}")
