"""Pictures and volumes at given points, for opsets whose GridSample does not take them: gathered and weighted.

As PyTorch does it: between places a border repeats and a mirror reflects the points, for cubic weights the places that
they reach. Points that are no numbers count as -1.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from gesher.base import dtypes
from gesher.ir import DimLike, Value
from gesher.symbolic import product as times

from .translation import Translation


def keys_cubic(t: Translation, d: Value, a: float) -> tuple[Value, Value]:
    """Keys' cubic of the distances up to 1, and of those from 1 to 2."""
    def polynomial(*factors: float) -> Value:
        made = t.scalar(factors[0], d)
        for f in factors[1:]:
            made = t.b.Add(t.b.Mul(made, d), t.scalar(f, d))
        return made

    return polynomial(a + 2, -(a + 3), 0, 1), polynomial(a, -5 * a, 8 * a, -4 * a)


def _within(t: Translation, place: Value, size: Value, padding: int, align: bool) -> Value:
    """Places (in floats) moved into the picture: onto its border (1), or mirrored at it (2)."""
    one, zero = t.scalar(1, place), t.scalar(0, place)
    last = t.b.Sub(size, one)
    if padding == 2:
        # The mirror stands in the middle of the last places, or at the edge behind them.
        low = zero if align else t.scalar(-0.5, place)
        span = t.b.Max(last, one) if align else size
        way = t.b.Abs(t.b.Sub(place, low))
        turns = t.b.Floor(t.b.Div(way, span))
        rest = t.b.Sub(way, t.b.Mul(turns, span))
        odd = t.b.Sub(turns, t.b.Mul(t.b.Floor(t.b.Mul(turns, t.scalar(0.5, place))), t.scalar(2, place)))
        place = t.b.Add(t.b.Where(t.b.Greater(odd, zero), t.b.Sub(span, rest), rest), low)
    return t.b.Max(t.b.Min(place, last), zero)


def _taps(t: Translation, place: Value, mode: int) -> list[tuple[Value, Value | None]]:
    """The whole places that a point between them is made of, and the weight of each (None: 1)."""
    if mode == 1:
        return [(t.b.Round(place), None)]
    one = t.scalar(1, place)
    floor = t.b.Floor(place)
    part = t.b.Sub(place, floor)
    if mode == 0:
        return [(floor, t.b.Sub(one, part)), (t.b.Add(floor, one), part)]
    found: list[tuple[Value, Value | None]] = []
    for step in (-1, 0, 1, 2):
        near, far = keys_cubic(t, t.b.Abs(t.b.Sub(part, t.scalar(step, place))), -0.75)
        found.append((t.b.Add(floor, t.scalar(step, place)), near if step in (0, 1) else far))
    return found


def sampled(t: Translation, x: Value, grid: Value, mode: int, padding: int, align: bool) -> Value:
    """x (N, C, ...spatial) at the points of grid (N, ...out, axes), the last axis first: (N, C, ...out).

    Args:
        mode: 0 linear, 1 nearest, 2 cubic.
        padding: what lies outside: 0 zeros, 1 the border, 2 the mirror image.
    """
    batch, channels, *spatial = t.shape(x)
    out = t.shape(grid)[1:-1]
    points: DimLike = times(out)
    rank = len(spatial)
    grid = t.cast(grid, t.dtype(x))
    grid = t.b.Where(t.b.IsNaN(grid), t.scalar(-1, grid), grid)
    flat = t.transpose(t.reshape(x, (batch, channels, times(spatial))), [0, 2, 1])
    sizes = [t.value(s, t.dtype(x)) for s in spatial]
    axes: list[list[tuple[Value, Value | None]]] = []
    for axis, size in enumerate(sizes):
        place = t.reshape(t.b.Gather(grid, t.constant(rank - 1 - axis, dtypes.INT64), axis=rank + 1), (batch, points))
        half, one = t.scalar(0.5, place), t.scalar(1, place)
        place = t.b.Mul(t.b.Add(place, one), half)
        place = t.b.Mul(place, t.b.Sub(size, one)) if align else t.b.Sub(t.b.Mul(place, size), half)
        if padding and mode != 2:
            place = _within(t, place, size, padding, align)
        axes.append([_reached(t, tap, weight, size, padding if mode == 2 else 0, align)
                     for tap, weight in _taps(t, place, mode)])
    total: Value | None = None
    for corner in product(*axes):
        index: Any = None
        share: Value | None = None
        for (tap, weight), length in zip(corner, spatial):
            index = tap if index is None else t.b.Add(t.b.Mul(index, t.value(length, dtypes.INT64)), tap)
            share = weight if share is None or weight is None else t.b.Mul(share, weight)
        part = t.b.GatherND(flat, t.unsqueeze(index, [2]), batch_dims=1)
        assert share is not None
        part = t.b.Mul(part, t.unsqueeze(share, [2]))
        total = part if total is None else t.b.Add(total, part)
    assert total is not None
    return t.reshape(t.transpose(total, [0, 2, 1]), (batch, channels, *out))


def _reached(t: Translation, tap: Value, weight: Value | None, size: Value, padding: int, align: bool
             ) -> tuple[Value, Value]:
    """A whole place as an index that is surely there, and its weight: 0 where it lies outside."""
    zero, one = t.scalar(0, tap), t.scalar(1, tap)
    last = t.b.Sub(size, one)
    if padding:
        inside = _within(t, tap, size, padding, align)
        assert weight is not None
        return t.cast(inside, dtypes.INT64), weight
    there = t.cast(t.b.And(t.b.GreaterOrEqual(tap, zero), t.b.LessOrEqual(tap, last)), t.dtype(tap))
    index = t.cast(t.b.Max(t.b.Min(tap, last), zero), dtypes.INT64)
    return index, there if weight is None else t.b.Mul(weight, there)
