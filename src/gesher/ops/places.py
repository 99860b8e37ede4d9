"""Pictures seen at any places, as GridSample, RoiAlign and DeformConv do: sums of weighted elements, whose places and
weights are the same for all channels. And elements mixed along an axis, as Resize does with its filters.

What a reader would guess wrong: an index below 0 stands for an element that is 0, whatever the weight.
"""

from __future__ import annotations

from typing import Literal

from gesher.base import dtypes
from gesher.primitives import Builder, Expr


def _meaning(p: Builder, x: Expr, rows: Expr | None, index: Expr, weights: Expr, *, fold: str) -> Expr:
    batches, taps, places = index.shape
    assert isinstance(taps, int)
    channels_last = p.transpose(x, (0, 2, 1))
    if rows is not None:
        picture = p.broadcast_to(p.reshape(rows, (batches, 1, 1)), (batches, places, 1))
    y: Expr | None = None
    for t in range(taps):
        at, weight = (p.reshape(p.take(e, 1, t, t + 1), (batches, places, 1)) for e in (index, weights))
        safe = p.cast(p.max(at, 0), dtypes.INT64)
        seen = (p.gather_nd(channels_last, safe, 1) if rows is None
                else p.gather_nd(channels_last, p.concat([picture, safe], 2)))
        seen = p.select(at < 0, p.scalar(0, x.dtype), seen) * weight
        y = seen if y is None else y + seen if fold == "sum" else p.max(y, seen)
    assert y is not None
    return p.transpose(y, (0, 2, 1))


def seen(p: Builder, x: Expr, index: Expr, weights: Expr, rows: Expr | None = None,
         fold: Literal["sum", "max"] = "sum") -> Expr:
    """(B,C,places): of each place the sum or maximum of its taps, weight times element.

    Args:
        x: pictures (N,C,M) in floating point, their elements in a row.
        index: (B,taps,places) int32, within M; below 0 for an element that is 0.
        weights: (B,taps,places), of the type of x.
        rows: (B,) int64: which picture each batch sees; None: its own, and B is N.
        fold: what is made of the taps.
    """
    if rows is not None:
        # The numbers of the pictures, so that a wrong one is found whoever reads them.
        rows = p.gather(p.iota((x.shape[0],), 0, dtypes.INT64), rows)
    p_index = p.hold(index, "places in a picture", ("most", x.shape[2], 2**31 - 1))
    return p.composite("seen_at", _meaning, x, rows, p_index, weights, fold=fold)


def _mixed(p: Builder, x: Expr, index: Expr, weights: Expr, *, axis: int) -> Expr:
    matrix = p.scatter_along(p.full((index.shape[0], x.shape[axis]), 0, x.dtype), index, weights, 1, "add")
    y = p.contract(x, matrix, [axis], [1])
    return p.transpose(y, [*range(axis), y.rank - 1, *range(axis, y.rank - 1)])


def mixed(p: Builder, x: Expr, index: Expr, weights: Expr, axis: int) -> Expr:
    """x with the elements along an axis replaced by sums: element i of elements index[i, t], times weights[i, t].

    Args:
        x: any shape, in floating point.
        index: (count,taps) int64, moved to the nearest that the axis has.
        weights: (count,taps), of the type of x.
        axis: counted from the front.
    """
    # Of a place that is no number, as a region may have, the index could be any.
    index = p.max(p.min(index, p.size(x.shape[axis]) - 1), 0)
    return p.composite("mixed", _mixed, x, index, weights, axis=axis)
