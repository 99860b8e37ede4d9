"""Looking up and putting in: embedding, gather, index, scatter, where things are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.ir import Value

from .translation import Translation, aten


@aten("embedding")
def _(t: Translation, weight: Value, indices: Value, *_: Any) -> Value:
    return t.b.Gather(weight, indices, axis=0)


@aten("index_select")
def _(t: Translation, x: Value, dim: int, index: Value) -> Value:
    return t.b.Gather(x, index, axis=t.axis(dim, t.rank(x)))


@aten("gather")
def _(t: Translation, x: Value, dim: int, index: Value, *, sparse_grad: bool = False) -> Value:
    if t.rank(x) == 0:
        return x
    return t.b.GatherElements(x, index, axis=t.axis(dim, t.rank(x)))


def _indexed(t: Translation, x: Value, indices: Sequence[Value | None]
             ) -> tuple[Value, list[int], list[Value], bool]:
    """The operand with its indexed axes in front, those axes, their indices, and whether they stood side by side."""
    axes = [i for i, v in enumerate(indices) if v is not None]
    used: list[Value] = []
    for v in indices:
        if v is not None:
            if t.dtype(v) is dtypes.BOOL:
                raise UnsupportedError("an index by a mask among other indices has no way to ONNX yet", who="torch",
                                       advice="torch.where or masked_select may say the same")
            used.append(t.cast(v, dtypes.INT64))
    rank = t.rank(x)
    perm = [*axes, *(i for i in range(rank) if i not in axes)]
    side_by_side = axes == list(range(axes[0], axes[-1] + 1))
    return t.transpose(x, perm), axes, used, side_by_side


def _stacked(t: Translation, used: Sequence[Value]) -> Value:
    """The indices broadcast together, one column each: (..., number of indices)."""
    if len(used) == 1:
        return t.unsqueeze(used[0], [t.rank(used[0])])
    total = used[0]
    for v in used[1:]:
        total = t.b.Add(total, v)
    shape = t.shape(total)
    return t.b.Concat(*(t.unsqueeze(t.expand(v, shape), [len(shape)]) for v in used), axis=len(shape))


@aten("index.Tensor", "_unsafe_index.Tensor")
def _(t: Translation, x: Value, indices: Sequence[Value | None]) -> Value:
    given = [i for i, v in enumerate(indices) if v is not None]
    if len(given) == 1:
        only, axis = indices[given[0]], given[0]
        assert only is not None
        if t.dtype(only) is dtypes.BOOL:
            return _by_mask(t, x, only, axis)
        return t.b.Gather(x, t.cast(only, dtypes.INT64), axis=axis)
    front, axes, used, side_by_side = _indexed(t, x, indices)
    made = t.b.GatherND(front, _stacked(t, used))
    if not side_by_side or axes[0] == 0:
        return made
    # Where the indexed axes stood side by side, what they become goes back to where they stood.
    index_rank = t.rank(made) - (t.rank(x) - len(axes))
    order = [*range(index_rank, index_rank + axes[0]), *range(index_rank), *range(index_rank + axes[0], t.rank(made))]
    return t.transpose(made, order)


def _by_mask(t: Translation, x: Value, mask: Value, axis: int) -> Value:
    """`x[..., mask]`: the elements where it is true; a mask of several axes flattens them."""
    rank = t.rank(mask)
    if rank == 1:
        return t.b.Compress(x, mask, axis=axis)
    if axis != 0:
        raise UnsupportedError("a mask of several axes behind a slice has no way to ONNX yet", who="torch")
    return t.b.GatherND(x, t.transpose(t.b.NonZero(mask), [1, 0]))


@aten("masked_select")
def _(t: Translation, x: Value, mask: Value) -> Value:
    both = t.b.Shape(t.b.Where(mask, x, x))
    return t.b.Compress(t.b.Reshape(t.b.Expand(x, both), t.ints([-1])), t.b.Reshape(t.b.Expand(mask, both),
                                                                               t.ints([-1])))


@aten("nonzero")
def _(t: Translation, x: Value) -> Value:
    return t.transpose(t.b.NonZero(x), [1, 0])


@aten("scatter.src", "scatter.value")
def _(t: Translation, x: Value, dim: int, index: Value, source: Any) -> Value:
    return _scatter(t, x, dim, index, source, None)


@aten("scatter_add")
def _(t: Translation, x: Value, dim: int, index: Value, source: Any) -> Value:
    return _scatter(t, x, dim, index, source, "add")


@aten("scatter.reduce", "scatter.value_reduce")
def _(t: Translation, x: Value, dim: int, index: Value, source: Any, *, reduce: str) -> Value:
    return _scatter(t, x, dim, index, source, {"add": "add", "multiply": "mul"}[reduce])


@aten("scatter_reduce.two")
def _(t: Translation, x: Value, dim: int, index: Value, source: Any, reduce: str, *, include_self: bool = True
      ) -> Value:
    names = {"sum": "add", "prod": "mul", "amax": "max", "amin": "min"}
    if reduce not in names or not include_self:
        raise UnsupportedError(f"scatter_reduce({reduce!r}, include_self={include_self}) has no way to ONNX yet",
                               who="torch")
    return _scatter(t, x, dim, index, source, names[reduce])


def _scatter(t: Translation, x: Value, dim: int, index: Value, source: Any, reduction: str | None) -> Value:
    if isinstance(source, Value) and t.rank(source) == t.rank(index):
        # PyTorch reads only as much of the source as the index covers.
        ours, theirs = t.shape(source), t.shape(index)
        for axis, (a, b) in enumerate(zip(ours, theirs)):
            if a != b:
                source = t.slice(source, axis, 0, b)
    else:
        source = t.expand(t.value(source, t.dtype(x)), t.shape(index))
    return t.b.ScatterElements(x, index, t.cast(source, t.dtype(x)), axis=t.axis(dim, t.rank(x)), reduction=reduction)


@aten("index_put", "_unsafe_index_put")
def _(t: Translation, x: Value, indices: Sequence[Value | None], values: Value, accumulate: bool = False) -> Value:
    given = [i for i, v in enumerate(indices) if v is not None]
    first = indices[given[0]]
    assert first is not None
    if len(given) == 1 and t.dtype(first) is dtypes.BOOL:
        if t.rank(values) == 0 and given[0] == 0 and not accumulate:
            mask = t.unsqueeze(first, range(t.rank(first), t.rank(x)))
            return t.b.Where(mask, t.cast(values, t.dtype(x)), x)
        raise UnsupportedError("putting several values in by a mask has no way to ONNX yet", who="torch",
                               advice="torch.where may say the same")
    front, axes, used, _ = _indexed(t, x, indices)
    index = _stacked(t, used)
    rest = t.shape(front)[len(axes):]
    updates = t.expand(t.cast(values, t.dtype(x)), (*t.shape(index)[:-1], *rest))
    if given[0] != 0 and t.rank(values) > len(rest):
        raise UnsupportedError("putting values in behind a slice has no way to ONNX yet", who="torch")
    made = t.b.ScatterND(front, index, updates, reduction="add" if accumulate else None)
    perm = [*axes, *(i for i in range(t.rank(x)) if i not in axes)]
    return t.transpose(made, [perm.index(i) for i in range(len(perm))])


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
    return t.b.Where(mask, t.unsqueeze(t.cast(source, t.dtype(x)), [axis]), x)


@aten("one_hot")
def _(t: Translation, x: Value, classes: int = -1) -> Value:
    return t.b.OneHot(x, t.ints([int(t.out_shape[-1])]), t.ints([0, 1]), axis=-1)    # type: ignore[arg-type]
