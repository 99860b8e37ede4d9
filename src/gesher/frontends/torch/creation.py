"""Tensors out of nothing: filled, counted, triangular."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import DimLike, Tensor, Value
from gesher.symbolic import Dim

from .translation import Translation, aten


def _filled(t: Translation, value: Any) -> Value:
    """`value` in the shape and type that PyTorch says."""
    shape, dtype = t.out_shape, t.out_dtype
    if isinstance(value, (Value, Dim)):
        return t.expand(t.value(value, dtype), shape)
    if math.prod(s if isinstance(s, int) else 2048 for s in shape) <= 1024:
        return t.constant(np.full(shape, value), dtype)
    return t.b.ConstantOfShape(t.sizes.vector(shape), value=Tensor.of(np.array([value]).astype(dtype.numpy)))


@aten("zeros", "zeros_like", "new_zeros", "empty.memory_format", "empty_like", "new_empty", "empty_strided",
      "new_empty_strided", "empty_permuted")
def _(t: Translation, *_: Any, **_kw: Any) -> Value:
    # What `empty` holds is anybody's guess, so zero is as right as any.
    return _filled(t, 0)


@aten("ones", "ones_like", "new_ones")
def _(t: Translation, *_: Any, **_kw: Any) -> Value:
    return _filled(t, 1)


@aten("full", "full_like")
def _(t: Translation, _size: Any, value: Any, *_: Any, **_kw: Any) -> Value:
    return _filled(t, value)


@aten("new_full")
def _(t: Translation, _x: Value, _size: Any, value: Any, **_kw: Any) -> Value:
    return _filled(t, value)


@aten("fill.Scalar", "fill.Tensor")
def _(t: Translation, _x: Value, value: Any) -> Value:
    return _filled(t, value)


@aten("scalar_tensor")
def _(t: Translation, value: Any, **_kw: Any) -> Value:
    return t.value(value, t.out_dtype)


def _range(t: Translation, start: Any, end: Any, step: Any) -> Value:
    dtype = t.out_dtype
    if all(isinstance(v, (int, float)) for v in (start, end, step)) and all(
            isinstance(s, int) for s in t.out_shape) and t.out_shape[0] <= 1024:    # type: ignore[operator]
        n = t.out_shape[0]
        assert isinstance(n, int)
        return t.constant(start + step * np.arange(n, dtype=np.float64 if dtype.is_float else np.int64), dtype)
    wide = dtype if dtype in (dtypes.INT64, dtypes.INT32, dtypes.FLOAT, dtypes.DOUBLE, dtypes.INT16) else (
        dtypes.FLOAT if dtype.is_float else dtypes.INT64)
    made = t.b.Range(t.value(start, wide), t.value(end, wide), t.value(step, wide))
    return t.cast(made, dtype)


@aten("arange")
def _(t: Translation, end: Any, **_kw: Any) -> Value:
    return _range(t, 0, end, 1)


@aten("arange.start")
def _(t: Translation, start: Any, end: Any, **_kw: Any) -> Value:
    return _range(t, start, end, 1)


@aten("arange.start_step")
def _(t: Translation, start: Any, end: Any, step: Any = 1, **_kw: Any) -> Value:
    return _range(t, start, end, step)


@aten("linspace")
def _(t: Translation, start: Any, end: Any, steps: Any, **_kw: Any) -> Value:
    if isinstance(steps, int):
        return t.constant(np.linspace(start, end, steps), t.out_dtype)
    count = t.value(steps, dtypes.FLOAT)
    index = t.b.Range(t.constant(0.0, dtypes.FLOAT), count, t.constant(1.0, dtypes.FLOAT))
    gap = t.b.Div(t.value(end - start, dtypes.FLOAT), t.b.Max(t.b.Sub(count, t.constant(1.0, dtypes.FLOAT)),
                                                           t.constant(1.0, dtypes.FLOAT)))
    return t.cast(t.b.Add(t.b.Mul(index, gap), t.constant(start, dtypes.FLOAT)), t.out_dtype)


@aten("eye", "eye.m")
def _(t: Translation, *_: Any, **_kw: Any) -> Value:
    rows, columns = t.out_shape
    if isinstance(rows, int) and isinstance(columns, int):
        return t.constant(np.eye(rows, columns), t.out_dtype)
    return t.b.EyeLike(t.b.ConstantOfShape(t.sizes.vector([rows, columns])), dtype=t.out_dtype.code)


@aten("tril")
def _(t: Translation, x: Value, diagonal: DimLike = 0) -> Value:
    return _triangle(t, x, diagonal, upper=0)


@aten("triu")
def _(t: Translation, x: Value, diagonal: DimLike = 0) -> Value:
    return _triangle(t, x, diagonal, upper=1)


def _triangle(t: Translation, x: Value, diagonal: DimLike, upper: int) -> Value:
    # Some engines know no triangle of bools.
    narrow = t.dtype(x) is dtypes.BOOL
    y = t.cast(x, dtypes.INT64) if narrow else x
    made = t.b.Trilu(y, None if diagonal == 0 else t.value(diagonal, dtypes.INT64), upper=upper)
    return t.cast(made, dtypes.BOOL) if narrow else made
