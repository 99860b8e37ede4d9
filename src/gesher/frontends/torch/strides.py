"""What PyTorch says by strides, said by places: diagonals, windows, `as_strided`.

ONNX has no strides. A view by strides reads places of the flat memory under a tensor; where that memory is known to be
the whole tensor and nothing else, the places are computed, or known, and gathered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.ir import DimLike, Value
from gesher.symbolic import Dim

from .translation import Translation, aten


def count(t: Translation, n: DimLike) -> Value:
    """0, 1, ... n - 1."""
    if isinstance(n, int) and n <= 1024:
        return t.constant(np.arange(n), dtypes.INT64)
    return t.b.Range(t.constant(0, dtypes.INT64), t.value(n, dtypes.INT64), t.constant(1, dtypes.INT64))


def places(t: Translation, sizes: Sequence[DimLike], strides: Sequence[DimLike], offset: DimLike = 0) -> Value:
    """The flat index of each element of a view: offset + sum of index times stride, in the shape `sizes`."""
    if all(isinstance(v, int) for v in (*sizes, *strides, offset)):
        made = np.full([int(s) for s in sizes], offset, np.int64)    # type: ignore[arg-type]
        for axis, (n, step) in enumerate(zip(sizes, strides)):
            after = [1] * (len(sizes) - 1 - axis)
            made = made + (np.arange(int(n)) * step).reshape(-1, *after)    # type: ignore[operator, arg-type]
        return t.constant(made, dtypes.INT64)
    total = t.value(offset, dtypes.INT64)
    for axis, (n, step) in enumerate(zip(sizes, strides)):
        along = t.b.Mul(count(t, n), t.value(step, dtypes.INT64))
        total = t.b.Add(total, t.unsqueeze(along, range(1, len(sizes) - axis)))
    return total


def memory(t: Translation, x: Value, fake: Any) -> Value:
    """The elements of a dense tensor, flat, in the order in which they lie in memory.

    Raises:
        UnsupportedError: it has gaps or overlaps, or it is not known to have none.
    """
    strides = [t.sizes.dim(s) for s in fake.stride()]
    rank = len(strides)
    if not fake.is_contiguous():
        if any(isinstance(s, Dim) for s in strides):
            raise UnsupportedError("a view by strides of a tensor of free dims that does not lie in order has no way "
                                   "to ONNX", who="torch", advice="call contiguous() before")
        order = sorted(range(rank), key=lambda i: (-int(strides[i]), i))    # type: ignore[arg-type]
        step: Any = 1
        for i in reversed(order):
            size = t.shape(x)[i]
            if size != 1 and strides[i] != step:
                raise UnsupportedError("a view by strides of a tensor with gaps has no way to ONNX", who="torch",
                                       advice="call contiguous() before")
            step = step * size
        x = t.transpose(x, order)
    return t.b.Reshape(x, t.ints([-1]))


@aten("as_strided", "as_strided_copy")
def _(t: Translation, x: Value, size: Sequence[DimLike], stride: Sequence[DimLike], offset: Any = None) -> Value:
    flat = memory(t, x, t.fakes[0])
    start = t.sizes.dim(t.fakes[0].storage_offset()) if offset is None else offset
    return t.b.Gather(flat, places(t, size, stride, start), axis=0)


@aten("as_strided_scatter")
def _(t: Translation, x: Value, source: Value, size: Sequence[DimLike], stride: Sequence[DimLike], offset: Any = None
      ) -> Value:
    if not t.fakes[0].is_contiguous():
        raise UnsupportedError("as_strided_scatter into a tensor that does not lie in order has no way to ONNX",
                               who="torch", advice="call contiguous() before")
    flat = memory(t, x, t.fakes[0])
    index = t.b.Reshape(places(t, size, stride, 0 if offset is None else offset), t.ints([-1]))
    values = t.b.Reshape(t.cast(source, t.dtype(x)), t.ints([-1]))
    return t.reshape(t.b.ScatterElements(flat, index, values, axis=0), t.out_shape)


def _diagonal_places(t: Translation, shape: Sequence[DimLike], offset: int, a: int, b: int, length: DimLike) -> Value:
    """Where the diagonal of the axes a and b lies in both of them laid flat."""
    columns = shape[b]
    start = offset if offset >= 0 else -offset * columns
    return places(t, [length], [columns + 1], start)


def _front(rank: int, a: int, b: int) -> list[int]:
    return [i for i in range(rank) if i not in (a, b)] + [a, b]


@aten("linalg_diagonal")
def _(t: Translation, x: Value, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Value:
    return diagonal(t, x, offset, dim1, dim2, t.out_shape[-1])


@aten("diagonal", "diagonal_copy")
def _(t: Translation, x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    return diagonal(t, x, offset, dim1, dim2, t.out_shape[-1])


def diagonal(t: Translation, x: Value, offset: int, dim1: int, dim2: int, length: DimLike) -> Value:
    """The diagonal of two axes, as a last axis of `length`."""
    rank = t.rank(x)
    a, b = dim1 % rank, dim2 % rank
    index = _diagonal_places(t, t.shape(x), offset, a, b, length)
    return t.b.Gather(_flat(t, x, a, b), index, axis=rank - 2)


def _flat(t: Translation, x: Value, a: int, b: int) -> Value:
    """The axes a and b, last and as one."""
    rank = t.rank(x)
    turned = t.transpose(x, _front(rank, a, b))
    shape = t.shape(turned)
    return t.reshape(turned, (*shape[:-2], shape[-2] * shape[-1]))


@aten("diagonal_scatter")
def _(t: Translation, x: Value, source: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    rank = t.rank(x)
    a, b = dim1 % rank, dim2 % rank
    order = _front(rank, a, b)
    turned = t.transpose(x, order)
    flat = _flat(t, x, a, b)
    index = _diagonal_places(t, t.shape(x), offset, a, b, t.shape(source)[-1])
    index = t.expand(index, t.shape(source))
    made = t.b.ScatterElements(flat, index, t.cast(source, t.dtype(x)), axis=rank - 2)
    return t.transpose(t.reshape(made, t.shape(turned)), [order.index(i) for i in range(rank)])


@aten("diag_embed")
def _(t: Translation, x: Value, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Value:
    rank = t.rank(x) + 1
    a, b = dim1 % rank, dim2 % rank
    length = t.shape(x)[-1]
    on = t.b.Equal(t.unsqueeze(count(t, length), [1]), count(t, length))
    bools = t.dtype(x) is dtypes.BOOL
    # Chosen, not multiplied: an infinity next to the diagonal would leave NaN.
    values = t.cast(x, dtypes.INT32) if bools else x
    square = t.b.Where(on, t.unsqueeze(values, [rank - 1]), t.scalar(0, values))
    if offset:
        low, right = max(-offset, 0), max(offset, 0)
        pads = [0] * (rank - 2) + [low, right] + [0] * (rank - 2) + [right, low]
        square = t.b.Pad(square, t.ints(pads), t.scalar(0, square))
    square = t.cast(square, dtypes.BOOL) if bools else square
    order = _front(rank, a, b)
    return t.transpose(square, [order.index(i) for i in range(rank)])


@aten("unfold", "unfold_copy")
def _(t: Translation, x: Value, dim: int, size: int, step: int) -> Value:
    """Windows of one axis, each as a last axis: (..., n, ...) to (..., windows, ..., size)."""
    if t.rank(x) == 0:
        return t.unsqueeze(x, [0])
    axis = t.axis(dim, t.rank(x))
    windows = t.out_shape[axis]
    made = t.b.Gather(x, places(t, [windows, size], [step, 1]), axis=axis)
    rank = t.rank(made)
    return t.transpose(made, [i for i in range(rank) if i != axis + 1] + [axis + 1])
