"""Histograms over one axis and over several, with bins of equal width or between given edges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import DimLike, Value

from .ordering import counted, place
from .translation import Translation, aten


def _edges(t: Translation, x: Value, bins: int, between: Sequence[float] | None) -> Value:
    """The edges of equal bins: between two numbers, or over all that is there, (n,) to (bins + 1,)."""
    if between is not None:
        low, high = float(between[0]), float(between[1])
        low, high = (low - 0.5, high + 0.5) if low == high else (low, high)
        return t.constant(np.linspace(low, high, bins + 1), t.dtype(x))
    if 0 in t.shape(x):
        return t.constant(np.linspace(0, 1, bins + 1), t.dtype(x))
    least, most = (t.reduce(op, x, None, False) for op in ("ReduceMin", "ReduceMax"))
    same, half = t.b.Equal(least, most), t.scalar(0.5, x)
    least, most = t.b.Where(same, t.b.Sub(least, half), least), t.b.Where(same, t.b.Add(most, half), most)
    # From both ends, as PyTorch's linspace has it: both are met exactly.
    step = t.b.Div(t.b.Sub(most, least), t.scalar(bins, x))
    middle = (bins + 1) // 2
    first = t.b.Add(least, t.b.Mul(step, t.constant(np.arange(middle), t.dtype(x))))
    last = t.b.Sub(most, t.b.Mul(step, t.constant(np.arange(bins - middle, -1, -1), t.dtype(x))))
    return t.b.Concat(first, last, axis=0)


def _histogram(t: Translation, x: Value, edges: Sequence[Value], weight: Value | None, density: bool) -> Value:
    """(n, axes) and the edges of each axis to counts: a bin has its lower edge, the last one both."""
    n = t.shape(x)[0]
    sizes: list[DimLike] = [t.shape(e)[0] - 1 for e in edges]
    at, inside = t.expand(t.constant(0, dtypes.INT64), [n]), None
    for axis, (e, size) in enumerate(zip(edges, sizes)):
        line = t.squeeze(t.slice(x, 1, axis, axis + 1), [1])
        most = t.b.Gather(e, t.ints([-1]), axis=0)
        here = t.b.And(t.b.GreaterOrEqual(line, t.b.Gather(e, t.ints([0]), axis=0)), t.b.LessOrEqual(line, most))
        inside = here if inside is None else t.b.And(inside, here)
        bin_of = t.b.Sub(place(t, e, line, True, False), t.constant(1, dtypes.INT64))
        last = t.b.Sub(t.value(size, dtypes.INT64), t.constant(1, dtypes.INT64))
        bin_of = t.b.Max(t.b.Min(bin_of, last), t.constant(0, dtypes.INT64))
        at = t.b.Add(t.b.Mul(at, t.value(size, dtypes.INT64)), bin_of)
    assert inside is not None
    each = t.expand(t.scalar(1, x), [n]) if weight is None else t.cast(t.b.Reshape(weight, t.ints([-1])), t.dtype(x))
    each = t.b.Where(inside, each, t.scalar(0, x))
    made = t.reshape(counted(t, at, each, t.sizes.vector([math.prod(sizes)])), sizes)
    if not density:
        return made
    made = t.b.Div(made, t.reduce("ReduceSum", made, None, False))
    for axis, e in enumerate(edges):
        width = t.b.Sub(t.slice(e, 0, 1, (1 << 63) - 1), t.slice(e, 0, 0, -1))
        made = t.b.Div(made, t.unsqueeze(width, [i for i in range(len(edges)) if i != axis]))
    return made


def _rows(t: Translation, x: Value) -> Value:
    """(..., axes) to (n, axes)."""
    shape = t.shape(x)
    return t.reshape(x, [math.prod(shape[:-1]), shape[-1]])


@aten("histogram.bin_ct")
def _(t: Translation, x: Value, bins: int = 100, *, range: Any = None, weight: Value | None = None,
      density: bool = False) -> tuple[Value, Value]:
    flat = t.b.Reshape(x, t.ints([-1]))
    edges = _edges(t, flat, bins, range)
    return _histogram(t, t.unsqueeze(flat, [1]), [edges], weight, density), edges


@aten("histogram.bins_tensor")
def _(t: Translation, x: Value, bins: Value, *, weight: Value | None = None, density: bool = False
      ) -> tuple[Value, Value]:
    flat = t.b.Reshape(x, t.ints([-1]))
    return _histogram(t, t.unsqueeze(flat, [1]), [bins], weight, density), bins


def _all_edges(t: Translation, x: Value, bins: Sequence[int], between: Sequence[float] | None) -> list[Value]:
    rows = _rows(t, x)
    return [_edges(t, t.squeeze(t.slice(rows, 1, i, i + 1), [1]), n,
                   None if between is None else between[2 * i:2 * i + 2]) for i, n in enumerate(bins)]


@aten("_histogramdd_bin_edges")
def _(t: Translation, x: Value, bins: Sequence[int], *, range: Any = None, weight: Value | None = None,
      density: bool = False) -> list[Value]:
    return _all_edges(t, x, bins, range)


@aten("_histogramdd_from_bin_cts")
def _(t: Translation, x: Value, bins: Sequence[int], *, range: Any = None, weight: Value | None = None,
      density: bool = False) -> Value:
    return _histogram(t, _rows(t, x), _all_edges(t, x, bins, range), weight, density)


@aten("_histogramdd_from_bin_tensors")
def _(t: Translation, x: Value, bins: Sequence[Value], *, weight: Value | None = None, density: bool = False) -> Value:
    return _histogram(t, _rows(t, x), bins, weight, density)
