"""Index arithmetic between shapes: where an element of one shape lies in another.

All expressions are `symbolic.Dim`s. Reshapes are cut into groups of axes with equal products, so that only axes that
were really merged or split need a division.
"""

from __future__ import annotations

from collections.abc import Sequence

from gesher.symbolic import Dim, DimLike, decide_eq, decide_ge, decide_le, minimum, product

Shape = Sequence[DimLike]


def linear(shape: Shape, index: Shape) -> DimLike:
    """The row-major position of an index."""
    at: DimLike = 0
    stride: DimLike = 1
    for size, i in zip(reversed(shape), reversed(index)):
        at = at + i * stride
        stride = stride * size
    return at


def unravel(shape: Shape, at: DimLike) -> list[DimLike]:
    """The index of a row-major position; of a shape without elements, which has none, zeros."""
    index: list[DimLike] = [0] * len(shape)
    if any(decide_eq(d, 0) for d in shape):
        return index
    axes = [a for a, d in enumerate(shape) if decide_eq(d, 1) is not True]
    for n, axis in enumerate(reversed(axes)):
        if n == len(axes) - 1:
            index[axis] = at
        else:
            index[axis] = at % shape[axis]
            at = at // shape[axis]
    return index


def groups(a: Shape, b: Shape) -> list[tuple[range, range]]:
    """Runs of axes of `a` and `b` that surely hold equally many elements, as short as can be, in order."""
    found = []
    i = j = 0
    while i < len(a) or j < len(b):
        i0, j0 = i, j
        pa: DimLike = 1
        pb: DimLike = 1
        i, j = min(i + 1, len(a)), min(j + 1, len(b))
        pa, pb = product(a[i0:i]), product(b[j0:j])
        while decide_eq(pa, pb) is not True:
            if i == len(a) and j == len(b):
                break
            # Take more of the smaller side; where that is not known, of the one that divides less.
            if j == len(b) or (i < len(a) and _smaller(pa, pb)):
                i += 1
                pa = product(a[i0:i])
            else:
                j += 1
                pb = product(b[j0:j])
        # Trailing axes of size 1 belong to the group that is closed here.
        if i == len(a) or j == len(b):
            rest_a, rest_b = product(a[i:]), product(b[j:])
            if (decide_eq(rest_a, 1) and decide_eq(rest_b, 1)) or decide_eq(rest_a, rest_b) is not True:
                i, j = len(a), len(b)
        found.append((range(i0, i), range(j0, j)))
    return found


def _smaller(x: DimLike, y: DimLike) -> bool:
    if isinstance(x, int) and isinstance(y, int):
        return x < y
    if decide_le(x, y):
        return True
    if decide_ge(x, y):
        return False
    # Of two products of sizes the one with fewer factors is still growing.
    return _degree(x) <= _degree(y)


def _degree(x: DimLike) -> int:
    from gesher.symbolic.polynomial import terms_of

    return max((len(m) for m in terms_of(x)), default=0)


def through_reshape(source: Shape, target: Shape, index: Shape) -> list[DimLike]:
    """Where the element at `index` of the target stands in the source."""
    found: list[DimLike] = [0] * len(source)
    for a, b in groups(source, target):
        axes = [i for i in a if decide_eq(source[i], 1) is not True]
        if not axes:
            continue
        places = [j for j in b if decide_eq(target[j], 1) is not True]
        if len(axes) == 1 and len(places) == 1:
            found[axes[0]] = index[places[0]]
            continue
        at = linear([target[j] for j in b], [index[j] for j in b])
        for i, x in zip(a, unravel([source[i] for i in a], at)):
            found[i] = x
    return found


def through_broadcast(source: Shape, target: Shape, index: Shape) -> list[DimLike]:
    """Where the element at `index` of the target stands in the source that is repeated."""
    found: list[DimLike] = []
    skip = len(target) - len(source)
    for d, t, i in zip(source, target[skip:], index[skip:]):
        if decide_eq(d, 1):
            found.append(0)
        elif decide_eq(d, t) or decide_eq(d, 1) is False:
            found.append(i)
        else:
            # 0 where d turns out to be 1, i where it turns out to be t.
            found.append(minimum(i, d - 1))
    return found


def symbols(index: Sequence[DimLike]) -> frozenset[Dim]:
    """The symbols of an index."""
    found: frozenset[Dim] = frozenset()
    for d in index:
        if isinstance(d, Dim):
            found |= d.symbols()
    return found
