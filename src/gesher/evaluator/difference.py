"""How far two answers lie apart, and whether that is within what their type can promise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gesher.base import dtypes

# Relative differences allowed by default: about a thousand roundings of each type. float32 sums of a few thousand
# products in another order differ by 1e-4 of their largest term, so float32 gets 1e-3.
RTOL = {"double": 1e-7, "float": 1e-3, "float16": 1e-2, "bfloat16": 5e-2, "complex64": 1e-3, "complex128": 1e-7}

# Absolute differences that are always allowed by default: a few roundings of a value near 1. A probability of 1e-7 was
# made from numbers of that size, and carries their rounding.
FLOOR = {"double": 1e-14, "float": 1e-6, "float16": 5e-3, "bfloat16": 4e-2, "complex64": 1e-6, "complex128": 1e-14}



@dataclass(frozen=True, slots=True)
class Difference:
    """How far one output of one engine lies from the first engine's.

    Attributes:
        max_abs: the largest |a - b|; NaN against NaN and equal infinities count 0, otherwise infinity.
        max_rel: the largest |a - b| / |b| where b is not 0.
        mismatches: elements outside the tolerance, out of `size`.
        ok: no element is.
        why: what differs, where numbers cannot tell it (a shape, a type).
    """

    engine: str
    output: str
    max_abs: float
    max_rel: float
    mismatches: int
    size: int
    ok: bool
    why: str = ""


def difference(a: Any, b: Any, *, rtol: float | None = None, atol: float | None = None, engine: str = "",
               output: str = "") -> Difference:
    """Hold `a` against `b`.

    Floats agree where |a - b| <= rtol |b| + atol; by default rtol goes by the type (`RTOL`) and atol is a tenth of
    rtol times the largest |b|, because a sum's rounding error scales with its largest term, not with its result; it is
    never less than `FLOOR`. Integers, bools and strings must be equal.
    With an infinite atol only type and shape are held.
    """
    if isinstance(b, (list, tuple)):
        return _sequence_difference(a, b, rtol, atol, engine, output)
    if isinstance(b, Mapping):
        if not isinstance(a, Mapping) or set(a) != set(b):
            return Difference(engine, output, np.inf, np.inf, 1, 1, False, "the maps have different keys")
        return _sequence_difference([a[k] for k in b], list(b.values()), rtol, atol, engine, output)
    if a is None or b is None:
        same = a is None and b is None
        return Difference(engine, output, 0.0 if same else np.inf, 0.0, int(not same), 1, same,
                          "" if same else "one of them is empty")
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        return Difference(engine, output, np.inf, np.inf, b.size, b.size, False,
                          f"shape {a.shape} instead of {b.shape}")
    if a.dtype != b.dtype and (a.dtype.kind in "OUS") + (b.dtype.kind in "OUS") != 2:
        return Difference(engine, output, np.inf, np.inf, b.size, b.size, False, f"{a.dtype} instead of {b.dtype}")
    dtype = dtypes.from_numpy(b.dtype)
    if not b.size or atol == np.inf:    # whatever the numbers are: they are drawn anew at every run
        return Difference(engine, output, 0.0, 0.0, 0, b.size, True)
    if dtype is dtypes.STRING or dtype is dtypes.BOOL:
        wrong = int(np.sum(a != b))
        return Difference(engine, output, float(wrong > 0), float(wrong > 0), wrong, b.size, wrong == 0)
    if dtype.is_integer:
        gap = np.abs(a.astype(object) - b.astype(object)) if dtype.bits == 64 else \
            np.abs(a.astype(np.int64) - b.astype(np.int64))
        rel = gap.astype(float) / np.maximum(np.abs(b.astype(float)), 1)
        wrong = int(np.sum(gap != 0))
        return Difference(engine, output, float(gap.max()), float(rel.max()), wrong, b.size, wrong == 0)
    wide = np.complex128 if dtype.kind == "complex" else np.float64
    x, y = a.astype(wide).reshape(-1), b.astype(wide).reshape(-1)    # a scalar too is an array then
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        gap = np.abs(x - y)
        gap[(x == y) | (np.isnan(x) & np.isnan(y))] = 0
        gap[np.isnan(gap)] = np.inf
        size = np.abs(y)
        finite = size[np.isfinite(size)]
        scale = float(finite.max()) if finite.size else 0.0
        r = RTOL.get(dtype.name, 0.1) if rtol is None else rtol
        t = max(r * 0.1 * scale, FLOOR.get(dtype.name, 0.0)) if atol is None else atol
        bad = ~(gap <= r * np.where(np.isfinite(size), size, 0) + t)
        rel = np.where(size > 0, gap / size, 0)
        rel = rel[np.isfinite(rel)]
    wrong = int(bad.sum())
    return Difference(engine, output, float(gap.max()), float(rel.max()) if rel.size else 0.0, wrong, b.size,
                      wrong == 0)


def _sequence_difference(a: Any, b: Sequence[Any], rtol: float | None, atol: float | None, engine: str,
                         output: str) -> Difference:
    if not isinstance(a, (list, tuple)) or len(a) != len(b):
        return Difference(engine, output, np.inf, np.inf, 1, 1, False, "the sequences have different lengths")
    parts = [difference(x, y, rtol=rtol, atol=atol) for x, y in zip(a, b)]
    bad = next((p for p in parts if not p.ok), None)
    return Difference(engine, output, max((p.max_abs for p in parts), default=0.0),
                      max((p.max_rel for p in parts), default=0.0), sum(p.mismatches for p in parts),
                      sum(p.size for p in parts), bad is None, bad.why if bad else "")
