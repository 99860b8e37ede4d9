"""The shape that each structural primitive gives, and the questions about sizes that must be asked on the way.

Every function refuses what surely does not fit, with a `ModelError` that names the primitive; what depends on symbols
is taken for granted, and the engine checks it when numbers are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NoReturn

from gesher.base.errors import ModelError
from gesher.symbolic import (
    Contradiction,
    ceil_div,
    decide_eq,
    decide_ge,
    decide_le,
    decide_lt,
    maximum,
    product,
)
from gesher.symbolic import broadcast as broadcast_sizes

from .expr import CannotLower, DimLike, Shape


def fail(prim: str, what: str) -> NoReturn:
    """Refuse operands that do not fit."""
    raise ModelError(f"{prim}: {what}", rule="primitive-type")


def told(shape: Sequence[DimLike]) -> str:
    return "(" + ",".join(map(str, shape)) + ")"


Kind = Literal["same", "most", "repeats"]
Demanded = tuple[Kind, DimLike, DimLike]

DEMANDS: dict[Kind, str] = {
    "same": "must be equal", "most": "must not be larger", "repeats": "cannot be repeated to it"}
"""What two sizes must be to each other, in the words that tell that they are not."""


def demanded(kind: Kind, a: DimLike, b: DimLike) -> bool | None:
    """Whether two sizes are to each other as demanded; None where that depends on the symbols."""
    if kind == "most":
        return decide_le(a, b)
    equal = decide_eq(a, b)
    if equal or kind == "same":
        return equal
    one = decide_eq(a, 1)
    return one if equal is False or one else None


def axis_of(prim: str, axis: int, rank: int) -> int:
    """The axis counted from the front."""
    if not -rank <= axis < rank:
        fail(prim, f"axis {axis} does not exist in rank {rank}")
    return axis % rank if rank else 0


def axes_of(prim: str, axes: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """Axes counted from the front, ascending; None means all."""
    if axes is None:
        return tuple(range(rank))
    found = [axis_of(prim, a, rank) for a in ([axes] if isinstance(axes, int) else axes)]
    if len(set(found)) != len(found):
        fail(prim, f"an axis comes twice in {list(found)}")
    return tuple(sorted(found))


def broadcast(prim: str, *shapes: Shape) -> Shape:
    """The shape that shapes broadcast to, by numpy's rule."""
    rank = max(map(len, shapes))
    result: list[DimLike] = [1] * rank
    for shape in shapes:
        for i, d in enumerate(shape, rank - len(shape)):
            try:
                result[i] = broadcast_sizes(result[i], d)
            except Contradiction:
                fail(prim, f"the shapes {', '.join(told(s) for s in shapes)} do not broadcast")
    return tuple(result)


def check_broadcast_to(source: Shape, target: Shape) -> None:
    """Refuse a source that surely cannot be repeated to the target."""
    if len(source) > len(target):
        fail("broadcast_to", f"{told(source)} has more axes than {told(target)}")
    for d, t in zip(source, target[len(target) - len(source):]):
        if decide_eq(d, t) is False and decide_eq(d, 1) is False:
            fail("broadcast_to", f"{told(source)} cannot be repeated to {told(target)}")


def check_reshape(source: Shape, target: Shape) -> None:
    for d in target:
        if decide_lt(d, 0):
            fail("reshape", f"a size is negative in {told(target)}")
    if decide_eq(product(source), product(target)) is False:
        fail("reshape", f"{told(source)} has {product(source)} elements, {told(target)} has {product(target)}")


def reduced(shape: Shape, axes: tuple[int, ...]) -> Shape:
    return tuple(d for i, d in enumerate(shape) if i not in axes)


def slice_size(start: DimLike, stop: DimLike, step: DimLike) -> DimLike:
    """How many elements a normalised slice takes."""
    if decide_lt(step, 0):
        return maximum(ceil_div(start - stop, -step), 0)
    if decide_lt(0, step):
        return maximum(ceil_div(stop - start, step), 0)
    raise CannotLower(f"the sign of the slice step {step} is not known")


def sliced(shape: Shape, starts: Sequence[DimLike], stops: Sequence[DimLike], steps: Sequence[DimLike]) -> Shape:
    if not len(shape) == len(starts) == len(stops) == len(steps):
        fail("slice", f"{told(shape)} needs one start, stop and step an axis, not {told(starts)} {told(stops)} "
                      f"{told(steps)}")
    result = []
    for d, start, stop, step in zip(shape, starts, stops, steps):
        size = slice_size(start, stop, step)
        if decide_eq(size, 0) is not True:
            # The first and the last index that are touched.
            backward = decide_lt(step, 0)
            low, high = (stop, start) if backward else (start, stop)
            if decide_lt(low, -1 if backward else 0) or decide_le(high, d - 1 if backward else d) is False:
                fail("slice", f"{start}:{stop}:{step} reaches outside a size of {d}")
        result.append(size)
    return tuple(result)


def padded(shape: Shape, low: Sequence[DimLike], high: Sequence[DimLike]) -> Shape:
    if not len(shape) == len(low) == len(high):
        fail("pad", f"{told(shape)} needs a low and a high an axis, not {told(low)} {told(high)}")
    for p in (*low, *high):
        if decide_lt(p, 0):
            fail("pad", f"a padding is negative in {told(low)} {told(high)}")
    return tuple(d + lo + hi for d, lo, hi in zip(shape, low, high))


def concatenated(shapes: Sequence[Shape], axis: int) -> Shape:
    first = shapes[0]
    size: DimLike = 0
    for s in shapes:
        if len(s) != len(first) or any(decide_eq(a, b) is False for i, (a, b) in enumerate(zip(s, first)) if i != axis):
            fail("concat", f"the shapes {', '.join(told(s) for s in shapes)} differ beside axis {axis}")
        size = size + s[axis]
    # A size known in any of them is known in the result.
    dims = [next((s[i] for s in shapes if isinstance(s[i], int)), d) for i, d in enumerate(first)]
    dims[axis] = size
    return tuple(dims)


def same(prim: str, a: DimLike, b: DimLike, what: str) -> DimLike:
    """One size for two that must be equal."""
    if decide_eq(a, b) is False:
        fail(prim, f"{what}: {a} and {b} differ")
    return a if isinstance(a, int) else b if isinstance(b, int) else a


def window_size(prim: str, size: DimLike, kernel: DimLike, stride: int, low: DimLike, high: DimLike,
                dilation: int) -> DimLike:
    """How often a window fits: floor((size + low + high - reach) / stride) + 1."""
    free = size + low + high - ((kernel - 1) * dilation + 1)
    if decide_lt(free, 0):
        fail(prim, f"a window of {(kernel - 1) * dilation + 1} is larger than {size} padded by {low}, {high}")
    if decide_ge(free, 0):
        return free // stride + 1
    # Below zero nothing fits; rounding down would give zero or less there.
    return maximum(free // stride + 1, 0)
