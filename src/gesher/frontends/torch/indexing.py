"""Looking up and putting in: embedding, gather, index, scatter, where things are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.ir import Value

from .elementwise import choose
from .translation import Translation, aten, narrow_float


@aten("embedding")
def _(t: Translation, weight: Value, indices: Value, *_: Any) -> Value:
    return t.b.Gather(weight, indices, axis=0)


@aten("index_select")
def _(t: Translation, x: Value, dim: int, index: Value) -> Value:
    if t.rank(x) == 0:
        return x
    return t.b.Gather(x, index, axis=t.axis(dim, t.rank(x)))


@aten("gather")
def _(t: Translation, x: Value, dim: int, index: Value, *, sparse_grad: bool = False) -> Value:
    if t.rank(x) == 0:
        return t.reshape(x, t.out_shape)
    return t.b.GatherElements(x, index, axis=t.axis(dim, t.rank(x)))


def _integers(t: Translation, indices: Sequence[Value | None]) -> list[Value | None]:
    """The indices with every mask as the places where it is true, one index for each of its axes."""
    found: list[Value | None] = []
    for v in indices:
        if v is None:
            found.append(None)
        elif t.dtype(v) in (dtypes.BOOL, dtypes.UINT8):
            where = t.b.NonZero(t.cast(v, dtypes.BOOL))
            found += [t.b.Gather(where, t.constant(i, dtypes.INT64), axis=0) for i in range(t.rank(v))]
        else:
            found.append(t.cast(v, dtypes.INT64))
    return found


def _axes(indices: Sequence[Value | None]) -> tuple[list[int], bool]:
    """The indexed axes, and whether what they become stays where they stood: they stand side by side."""
    axes = [i for i, v in enumerate(indices) if v is not None]
    return axes, axes == list(range(axes[0], axes[-1] + 1))


def _stacked(t: Translation, used: Sequence[Value]) -> Value:
    """The indices broadcast together, one column each: (..., number of indices)."""
    if len(used) == 1:
        return t.unsqueeze(used[0], [t.rank(used[0])])
    if all(t.shape(v) == t.shape(used[0]) and all(isinstance(s, int) for s in t.shape(v)) for v in used):
        spread = list(used)
    else:
        # Their common shape may be known only when running: it is that of their sum.
        total = used[0]
        for v in used[1:]:
            total = t.b.Add(total, v)
        shape = t.b.Shape(total)
        spread = [t.b.Expand(v, shape) for v in used]
    rank = max(t.rank(v) for v in used)
    return t.b.Concat(*(t.unsqueeze(v, [rank]) for v in spread), axis=rank)


def _order(index_rank: int, first: int, rank: int) -> list[int]:
    """The permutation that puts the axes of indices back behind the `first` axes that stood before them."""
    return [*range(index_rank, index_rank + first), *range(index_rank), *range(index_rank + first, rank)]


@aten("index.Tensor", "_unsafe_index.Tensor")
def _(t: Translation, x: Value, indices: Sequence[Value | None]) -> Value:
    given = [i for i, v in enumerate(indices) if v is not None]
    if not given:
        return x
    if len(given) == 1:
        only, axis = indices[given[0]], given[0]
        assert only is not None
        if t.dtype(only) not in (dtypes.BOOL, dtypes.UINT8):
            return t.b.Gather(x, t.cast(only, dtypes.INT64), axis=axis)
        if t.rank(only) == 1:
            return t.b.Compress(x, t.cast(only, dtypes.BOOL), axis=axis)
    whole = _integers(t, indices)
    axes, side_by_side = _axes(whole)
    rank = t.rank(x)
    if not axes:    # a mask without axes takes all or nothing
        only = indices[given[0]]
        assert only is not None
        return t.b.Compress(t.unsqueeze(x, [0]), t.unsqueeze(t.cast(only, dtypes.BOOL), [0]), axis=0)
    front = t.transpose(x, [*axes, *(i for i in range(rank) if i not in axes)])
    made = t.b.GatherND(front, _stacked(t, [v for v in whole if v is not None]))
    if not side_by_side or axes[0] == 0:
        return made
    index_rank = t.rank(made) - (rank - len(axes))
    return t.transpose(made, _order(index_rank, axes[0], t.rank(made)))


@aten("masked_select")
def _(t: Translation, x: Value, mask: Value) -> Value:
    if t.shape(x) != t.shape(mask):
        both = t.b.Shape(t.b.Where(mask, x, x))
        x, mask = t.b.Expand(x, both), t.b.Expand(mask, both)
    return t.b.Compress(t.b.Reshape(x, t.ints([-1])), t.b.Reshape(mask, t.ints([-1])))


@aten("nonzero")
def _(t: Translation, x: Value) -> Value:
    if t.rank(x) == 0:
        # (1, 0) or (0, 0): there are no axes to name, but a place may be found.
        found = t.unsqueeze(t.cast(x, dtypes.BOOL), [0])
        return t.b.Compress(t.constant(np.zeros((1, 0)), dtypes.INT64), found, axis=0)
    return t.transpose(t.b.NonZero(x), [1, 0])


@aten("nonzero_static")
def _(t: Translation, x: Value, *, size: int, fill_value: int = -1) -> Value:
    if t.rank(x) == 0:
        return t.constant(np.zeros((size, 0)), dtypes.INT64)
    found = t.transpose(t.b.NonZero(x), [1, 0])
    blank = t.constant(np.full((size, t.rank(x)), fill_value), dtypes.INT64)
    return t.slice(t.b.Concat(found, blank, axis=0), 0, 0, size)


@aten("masked_scatter")
def _(t: Translation, x: Value, mask: Value, source: Value) -> Value:
    # The n-th true place gets the n-th element of the source.
    shape = t.out_shape
    wide = t.expand(mask, shape)
    flat = t.cast(t.b.Reshape(wide, t.ints([-1])), dtypes.INT64)
    nth = t.b.Max(t.b.Sub(t.b.CumSum(flat, t.constant(0, dtypes.INT64)), t.constant(1, dtypes.INT64)),
                  t.constant(0, dtypes.INT64))
    taken = t.reshape(t.b.Gather(t.b.Reshape(source, t.ints([-1])), nth, axis=0), shape)
    return choose(t, wide, taken, t.expand(x, shape))


@aten("put")
def _(t: Translation, x: Value, index: Value, source: Value, accumulate: bool = False) -> Value:
    flat = t.b.Reshape(x, t.ints([-1]))
    made = scatter(t, flat, 0, t.b.Reshape(index, t.ints([-1])), t.b.Reshape(source, t.ints([-1])),
                   "add" if accumulate else None)
    return t.reshape(made, t.shape(x))


@aten("take")
def _(t: Translation, x: Value, index: Value) -> Value:
    return t.b.Gather(t.b.Reshape(x, t.ints([-1])), index, axis=0)


@aten("scatter.src", "scatter.value")
def _(t: Translation, x: Value, dim: int, index: Value, source: Any) -> Value:
    return scatter(t, x, dim, index, source, None)


@aten("scatter_add")
def _(t: Translation, x: Value, dim: int, index: Value, source: Any) -> Value:
    return scatter(t, x, dim, index, source, "add")


@aten("scatter.reduce", "scatter.value_reduce")
def _(t: Translation, x: Value, dim: int, index: Value, source: Any, *, reduce: str) -> Value:
    return scatter(t, x, dim, index, source, {"add": "add", "multiply": "mul"}[reduce])


@aten("scatter_reduce.two")
def _(t: Translation, x: Value, dim: int, index: Value, source: Any, reduce: str, *, include_self: bool = True
      ) -> Value:
    return _scatter_reduce(t, x, dim, index, source, reduce, include_self)


@aten("index_reduce")
def _(t: Translation, x: Value, dim: int, index: Value, source: Value, reduce: str, *, include_self: bool = True
      ) -> Value:
    if t.rank(x) == 0:
        x1, source1 = t.unsqueeze(x, [0]), t.b.Reshape(source, t.ints([-1]))
        made = _scatter_reduce(t, x1, 0, t.b.Reshape(index, t.ints([-1])), source1, reduce, include_self)
        return t.squeeze(made, [0])
    axis, rank = t.axis(dim, t.rank(x)), t.rank(x)
    index = t.b.Reshape(index, t.ints([-1]))
    spread = t.expand(t.unsqueeze(index, range(1, rank - axis)), t.shape(source))
    return _scatter_reduce(t, x, dim, spread, source, reduce, include_self)


def _scatter_reduce(t: Translation, x: Value, dim: int, index: Value, source: Any, reduce: str, include_self: bool
                    ) -> Value:
    op = {"sum": "add", "prod": "mul", "multiply": "mul", "amax": "max", "amin": "min", "mean": "add"}[reduce]
    if t.dtype(x) is dtypes.BOOL:
        whole = _scatter_reduce(t, t.cast(x, dtypes.INT32), dim, index, t.cast(source, dtypes.INT32), reduce,
                                include_self)
        return t.cast(whole, dtypes.BOOL)
    base = x
    dtype = t.dtype(x)
    if not include_self:
        low, high = (-math.inf, math.inf) if dtype.is_float else (np.iinfo(dtype.numpy).min, np.iinfo(dtype.numpy).max)
        neutral = {"add": 0, "mul": 1, "max": low, "min": high}[op]
        base = scatter(t, x, dim, index, neutral, None)
    total = scatter(t, base, dim, index, source, op)
    if reduce != "mean":
        return total
    start = t.expand(t.scalar(int(include_self), x), t.shape(x))
    times = scatter(t, start, dim, index, 1, "add")
    times = t.b.Max(times, t.scalar(1, times))
    if dtype.is_float:
        return t.b.Div(total, times)
    return t.b.Div(t.b.Sub(total, t.b.Mod(total, times)), times)


def scatter(t: Translation, x: Value, dim: int, index: Value, source: Any, reduction: str | None) -> Value:
    """`x` with the source's elements put where `index` says along one axis, or gathered into what is there."""
    if t.rank(x) == 0 or t.rank(index) == 0:
        # A scalar counts as a vector of one.
        flat = t.b.Reshape(x, t.ints([-1])) if t.rank(x) == 0 else x
        given = t.b.Reshape(source, t.ints([-1])) if isinstance(source, Value) else source
        made = scatter(t, flat, 0, t.b.Reshape(index, t.ints([-1])), given, reduction)
        return t.reshape(made, t.shape(x))
    if t.shape(index).count(0):
        return x
    if isinstance(source, Value) and t.rank(source) == t.rank(index):
        # PyTorch reads only as much of the source as the index covers.
        ours, theirs = t.shape(source), t.shape(index)
        for axis, (a, b) in enumerate(zip(ours, theirs)):
            if a != b:
                source = t.slice(source, axis, 0, b)
    else:
        source = t.expand(t.value(source, t.dtype(x)), t.shape(index))
    if t.dtype(x) is dtypes.BOOL and reduction is not None:
        wide = t.b.ScatterElements(t.cast(x, dtypes.INT32), index, t.cast(source, dtypes.INT32),
                                   axis=t.axis(dim, t.rank(x)), reduction=reduction)
        return t.cast(wide, dtypes.BOOL)
    if narrow_float(t.dtype(x)) and reduction is not None:
        # Summed in float32 and rounded once; ONNX Runtime gathers no narrow floats.
        wide = t.b.ScatterElements(t.cast(x, dtypes.FLOAT), index, t.cast(source, dtypes.FLOAT),
                                   axis=t.axis(dim, t.rank(x)), reduction=reduction)
        return t.cast(wide, t.dtype(x))
    return t.b.ScatterElements(x, index, t.cast(source, t.dtype(x)), axis=t.axis(dim, t.rank(x)), reduction=reduction)


@aten("segment_reduce")
def _(t: Translation, x: Value, reduce: str, *, lengths: Value | None = None, indices: Value | None = None,
      offsets: Value | None = None, axis: int = 0, unsafe: bool = False, initial: Any = None) -> Value:
    """Runs of rows to one row each; `lengths` (..., runs), or where they begin, with the end of the last."""
    if indices is not None:
        raise UnsupportedError("segment_reduce by indices is not there in PyTorch", who="torch")
    if lengths is not None:
        ends = t.b.CumSum(t.cast(lengths, dtypes.INT64), t.constant(axis, dtypes.INT64))
        begins = t.b.Sub(ends, t.cast(lengths, dtypes.INT64))
    else:
        assert offsets is not None
        whole = t.cast(offsets, dtypes.INT64)
        begins, ends = t.slice(whole, axis, 0, -1), t.slice(whole, axis, 1, (1 << 63) - 1)
    one, zero = t.constant(1, dtypes.INT64), t.constant(0, dtypes.INT64)
    rows, runs = t.shape(x)[axis], t.shape(ends)[axis]
    places = t.b.Range(zero, t.value(rows, dtypes.INT64), one)
    # Which run a row is of: as many as end at it or before. Those behind all runs go to one run more, that is cut off.
    past = t.cast(t.b.LessOrEqual(t.unsqueeze(ends, [axis + 1]), places), dtypes.INT64)
    run = t.reduce("ReduceSum", past, [axis], False)    # (..., rows)
    index = t.expand(t.unsqueeze(run, range(axis + 1, t.rank(x))), t.shape(x))
    op, neutral = {"sum": ("add", 0), "mean": ("add", 0), "prod": ("mul", 1), "max": ("max", -math.inf),
                   "min": ("min", math.inf)}[reduce]
    start = t.scalar(neutral if initial is None else initial, x)
    shape = list(t.shape(x))
    base = t.expand(start, [*shape[:axis], runs + 1, *shape[axis + 1:]])
    made = t.slice(scatter(t, base, axis, index, x, op), axis, 0, runs)
    if reduce != "mean":
        return made
    many = t.unsqueeze(t.b.Sub(ends, begins), range(axis + 1, t.rank(x)))
    mean = t.b.Div(made, t.cast(t.b.Max(many, one), t.dtype(x)))
    nothing = t.scalar(math.nan if initial is None else initial, x)
    return t.b.Where(t.b.Greater(many, zero), mean, nothing)


@aten("index_put", "_unsafe_index_put")
def _(t: Translation, x: Value, indices: Sequence[Value | None], values: Value, accumulate: bool = False) -> Value:
    values = t.cast(values, t.dtype(x))
    masks = [v for v in indices if v is not None]
    if len(masks) == 1 and t.dtype(masks[0]) is dtypes.BOOL and t.rank(values) == 0 and not accumulate:
        first = next(i for i, v in enumerate(indices) if v is not None)
        return choose(t, t.unsqueeze(masks[0], range(t.rank(masks[0]), t.rank(x) - first)), values, x)
    whole = _integers(t, indices)
    axes, side_by_side = _axes(whole)
    rank = t.rank(x)
    perm = [*axes, *(i for i in range(rank) if i not in axes)]
    front = t.transpose(x, perm)
    index = _stacked(t, [v for v in whole if v is not None])
    index_rank, rest = t.rank(index) - 1, rank - len(axes)
    # What x[indices] would look like, which the values broadcast to, with the indices' axes where they stand in it.
    lead = t.b.Slice(t.b.Shape(index), t.ints([0]), t.ints([index_rank]), t.ints([0]))
    shape = t.b.Concat(lead, t.sizes.vector(t.shape(front)[len(axes):]), axis=0) if rest else lead
    total = index_rank + rest
    if side_by_side and axes[0] != 0 and t.rank(values):
        order = _order(index_rank, axes[0], total)
        back = [order.index(i) for i in range(total)]
        wide = t.unsqueeze(values, range(total - t.rank(values)))
        updates = t.b.Expand(t.transpose(wide, back), shape)
    else:
        updates = t.b.Expand(values, shape)
    summed = dtypes.INT32 if t.dtype(x) is dtypes.BOOL else dtypes.FLOAT if narrow_float(t.dtype(x)) else t.dtype(x)
    if accumulate:
        front, updates = t.cast(front, summed), t.cast(updates, summed)
    made = t.b.ScatterND(front, index, updates, reduction="add" if accumulate else None)
    made = t.cast(made, t.dtype(x))
    return t.transpose(made, [perm.index(i) for i in range(len(perm))])


@aten("repeat_interleave.Tensor")
def _(t: Translation, repeats: Value, *, output_size: Any = None) -> Value:
    # Element i is where i lies among the running sums.
    ends = t.b.CumSum(t.cast(repeats, dtypes.INT64), t.constant(0, dtypes.INT64))
    total = t.reduce("ReduceSum", t.cast(repeats, dtypes.INT64), None, False)
    each = t.b.Range(t.constant(0, dtypes.INT64), total, t.constant(1, dtypes.INT64))
    before = t.cast(t.b.GreaterOrEqual(t.unsqueeze(each, [1]), t.unsqueeze(ends, [0])), dtypes.INT64)
    return t.cast(t.reduce("ReduceSum", before, [1], False), t.out_dtype)


@aten("slice_scatter")
def _(t: Translation, x: Value, source: Value, dim: int = 0, start: Any = None, end: Any = None, step: Any = 1
      ) -> Value:
    axis = t.axis(dim, t.rank(x))
    size = t.shape(x)[axis]
    # The places of the slice are those that slicing a count of all places gives.
    places = t.b.Range(t.constant(0, dtypes.INT64), t.value(size, dtypes.INT64), t.constant(1, dtypes.INT64))
    far = (1 << 63) - 1
    chosen = t.slice(places, 0, 0 if start is None else start, far if end is None else end, step)
    index = t.unsqueeze(chosen, [1])
    if axis == 0:
        return t.b.ScatterND(x, index, t.cast(source, t.dtype(x)))
    perm = [axis, *(i for i in range(t.rank(x)) if i != axis)]
    back = [perm.index(i) for i in range(len(perm))]
    made = t.b.ScatterND(t.transpose(x, perm), index, t.transpose(t.cast(source, t.dtype(x)), perm))
    return t.transpose(made, back)


@aten("select_scatter")
def _(t: Translation, x: Value, source: Value, dim: int, index: Any) -> Value:
    axis = t.axis(dim, t.rank(x))
    size = t.shape(x)[axis]
    at = index + size if isinstance(index, int) and index < 0 else index
    places = t.b.Range(t.constant(0, dtypes.INT64), t.value(size, dtypes.INT64), t.constant(1, dtypes.INT64))
    here = t.b.Equal(places, t.value(at, dtypes.INT64))
    mask = t.unsqueeze(here, range(1, t.rank(x) - axis))
    return choose(t, mask, t.unsqueeze(t.cast(source, t.dtype(x)), [axis]), x)


@aten("one_hot")
def _(t: Translation, x: Value, classes: int = -1) -> Value:
    return t.b.OneHot(x, t.ints([int(t.out_shape[-1])]), t.ints([0, 1]), axis=-1)    # type: ignore[arg-type]
