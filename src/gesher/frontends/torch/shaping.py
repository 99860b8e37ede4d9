"""Views, permutations, joins and parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gesher.base import dtypes
from gesher.ir import DimLike, Value
from gesher.symbolic import Dim

from .translation import Translation, aten


@aten("view", "reshape", "_unsafe_view", "flatten.using_ints", "unflatten.int", "_reshape_alias")
def _(t: Translation, x: Value, *_: Any) -> Value:
    # Whatever was asked for, PyTorch has worked out the shape.
    return t.reshape(x, t.out_shape)


@aten("view.dtype")
def _(t: Translation, x: Value, dtype: Any) -> Value:
    if t.dtype(x) is t.out_dtype:
        return x
    return t.b.BitCast(x, to=t.out_dtype.code)


@aten("transpose.int", "swapaxes")
def _(t: Translation, x: Value, a: int, b: int) -> Value:
    rank = t.rank(x)
    if rank == 0:
        return x
    perm = list(range(rank))
    a, b = a % rank, b % rank
    perm[a], perm[b] = perm[b], perm[a]
    return t.transpose(x, perm)


@aten("t", "numpy_T")
def _(t: Translation, x: Value) -> Value:
    return t.transpose(x, list(reversed(range(t.rank(x)))))


@aten("permute")
def _(t: Translation, x: Value, dims: Sequence[int]) -> Value:
    return t.transpose(x, [d % t.rank(x) for d in dims]) if dims else x


@aten("movedim.int", "movedim.intlist")
def _(t: Translation, x: Value, source: Any, destination: Any) -> Value:
    rank = t.rank(x)
    sources = [s % rank for s in ([source] if isinstance(source, int) else source)]
    targets = [d % rank for d in ([destination] if isinstance(destination, int) else destination)]
    perm = [-1] * rank
    for s, d in zip(sources, targets):
        perm[d] = s
    rest = iter(i for i in range(rank) if i not in sources)
    return t.transpose(x, [next(rest) if p < 0 else p for p in perm])


@aten("unsqueeze")
def _(t: Translation, x: Value, dim: int) -> Value:
    return t.unsqueeze(x, [dim % (t.rank(x) + 1)])


@aten("squeeze", "squeeze.dim", "squeeze.dims")
def _(t: Translation, x: Value, dims: Any = None) -> Value:
    shape = t.shape(x)
    listed = range(len(shape)) if dims is None else [dims] if isinstance(dims, int) else dims
    for d in {d % len(shape) for d in listed if shape}:
        if isinstance(shape[d], Dim):
            t.assume("!=", shape[d], 1)    # PyTorch would drop it
    return t.squeeze(x, [d % len(shape) for d in listed if shape and shape[d % len(shape)] == 1])


@aten("expand", "broadcast_to", "expand_as")
def _(t: Translation, x: Value, *_: Any, implicit: bool = False) -> Value:
    return t.expand(x, t.out_shape)


@aten("repeat", "tile")
def _(t: Translation, x: Value, repeats: Sequence[DimLike]) -> Value:
    missing = len(repeats) - t.rank(x)
    if missing > 0:
        x = t.unsqueeze(x, range(missing))
    repeats = [1] * max(-missing, 0) + list(repeats)
    return t.b.Tile(x, t.sizes.vector(repeats)) if any(r != 1 for r in repeats) else x


@aten("cat", "concat")
def _(t: Translation, tensors: Sequence[Value], dim: int = 0) -> Value:
    # PyTorch lets empty vectors of any rank take part, and forgets them.
    kept = [v for v in tensors if not (t.rank(v) == 1 and t.shape(v)[0] == 0 and len(t.out_shape) != 1)]
    kept = [t.cast(v, t.out_dtype) for v in kept]
    return kept[0] if len(kept) == 1 else t.b.Concat(*kept, axis=t.axis(dim, len(t.out_shape)))


@aten("stack")
def _(t: Translation, tensors: Sequence[Value], dim: int = 0) -> Value:
    axis = t.axis(dim, t.rank(tensors[0]) + 1)
    return t.b.Concat(*(t.unsqueeze(t.cast(v, t.out_dtype), [axis]) for v in tensors), axis=axis)


def _split(t: Translation, x: Value, sizes: Sequence[DimLike], axis: int) -> tuple[Value, ...]:
    if len(sizes) == 1:
        return (x,)
    if t.b.opsets[""] >= 13:
        return t.b.Split(x, t.sizes.vector(sizes), axis=axis, outputs=len(sizes))
    return t.b.Split(x, split=list(sizes), axis=axis, outputs=len(sizes))


@aten("split.Tensor", "split_with_sizes", "split.sizes", "chunk", "tensor_split.sections", "tensor_split.indices",
      "split_copy.Tensor", "split_with_sizes_copy")
def _(t: Translation, x: Value, _size: Any, dim: int = 0) -> tuple[Value, ...]:
    axis = t.axis(dim, t.rank(x))
    return _split(t, x, [t.sizes.dim(o.shape[axis]) for o in t.out], axis)


@aten("unbind.int", "unbind_copy.int")
def _(t: Translation, x: Value, dim: int = 0) -> tuple[Value, ...]:
    axis = t.axis(dim, t.rank(x))
    parts = _split(t, x, [1] * len(t.out), axis)
    return tuple(t.squeeze(p, [axis]) for p in parts)


_FAR = (1 << 63) - 1


@aten("slice.Tensor", "slice_copy.Tensor")
def _(t: Translation, x: Value, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Value:
    axis = t.axis(dim, t.rank(x))
    start = 0 if start is None else start
    end = _FAR if end is None else end
    size = t.shape(x)[axis]
    whole = isinstance(end, int) and (end == _FAR or (isinstance(size, int) and end >= size))
    same = isinstance(end, Dim) and isinstance(size, Dim) and end == size
    if start == 0 and (whole or same) and step == 1:
        return x
    return t.slice(x, axis, start, end, step)


@aten("narrow")
def _(t: Translation, x: Value, dim: int, start: Any, length: Any) -> Value:
    return t.slice(x, t.axis(dim, t.rank(x)), start, start + length)


@aten("select.int", "select_copy.int")
def _(t: Translation, x: Value, dim: int, index: Any) -> Value:
    return t.b.Gather(x, t.value(index, dtypes.INT64), axis=t.axis(dim, t.rank(x)))


@aten("flip")
def _(t: Translation, x: Value, dims: Sequence[int]) -> Value:
    axes = [d % t.rank(x) for d in dims]
    if not axes:
        return x
    return t.b.Slice(x, t.ints([-1] * len(axes)), t.ints([-_FAR] * len(axes)), t.ints(axes), t.ints([-1] * len(axes)))


@aten("roll")
def _(t: Translation, x: Value, shifts: Any, dims: Any = ()) -> Value:
    shifts = [shifts] if isinstance(shifts, (int, Dim)) else list(shifts)
    dims = [dims] if isinstance(dims, int) else list(dims)
    if not dims:
        total = t.out_shape
        return t.reshape(_roll(t, t.b.Reshape(x, t.ints([-1])), shifts[0], 0), total)
    for shift, dim in zip(shifts, dims):
        x = _roll(t, x, shift, t.axis(dim, t.rank(x)))
    return x


def _roll(t: Translation, x: Value, shift: Any, axis: int) -> Value:
    size = t.shape(x)[axis]
    if isinstance(shift, int) and isinstance(size, int):
        if size == 0 or shift % size == 0:
            return x
        cut: DimLike = size - shift % size
    else:
        cut = size - shift % size
    return t.b.Concat(t.slice(x, axis, cut, _FAR), t.slice(x, axis, 0, cut), axis=axis)


@aten("pixel_shuffle")
def _(t: Translation, x: Value, factor: int) -> Value:
    return t.b.DepthToSpace(x, blocksize=factor, mode="CRD")


@aten("pixel_unshuffle")
def _(t: Translation, x: Value, factor: int) -> Value:
    n, c, h, w = t.shape(x)
    cut = t.reshape(x, (n, c, h // factor, factor, w // factor, factor))
    return t.reshape(t.transpose(cut, [0, 1, 3, 5, 2, 4]), t.out_shape)


@aten("constant_pad_nd")
def _(t: Translation, x: Value, pads: Sequence[Any], value: Any = 0) -> Value:
    return _pad(t, x, pads, "constant", value)


@aten("pad")
def _(t: Translation, x: Value, pads: Sequence[Any], mode: str = "constant", value: Any = None) -> Value:
    names = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    return _pad(t, x, pads, names[mode], value)


@aten("reflection_pad1d", "reflection_pad2d", "reflection_pad3d")
def _(t: Translation, x: Value, pads: Sequence[Any]) -> Value:
    return _pad(t, x, pads, "reflect", None)


@aten("replication_pad1d", "replication_pad2d", "replication_pad3d")
def _(t: Translation, x: Value, pads: Sequence[Any]) -> Value:
    return _pad(t, x, pads, "edge", None)


def _pad(t: Translation, x: Value, pads: Sequence[Any], mode: str, value: Any) -> Value:
    """PyTorch lists (low, high) from the last axis on; ONNX all lows, then all highs, from the first."""
    rank = t.rank(x)
    low: list[DimLike] = [0] * rank
    high: list[DimLike] = [0] * rank
    for i in range(len(pads) // 2):
        low[rank - 1 - i], high[rank - 1 - i] = pads[2 * i], pads[2 * i + 1]
    if all(isinstance(p, int) and p == 0 for p in (*low, *high)):
        return x
    if mode in ("edge", "reflect") and any(isinstance(p, int) and p < 0 for p in (*low, *high)):
        # The border and the mirror image are those of the whole: what is cut off is cut off afterwards.
        more = [[0 if isinstance(p, int) and p < 0 else p for p in side] for side in (low, high)]
        wide = x if all(isinstance(p, int) and p == 0 for side in more for p in side) else \
            t.b.Pad(x, t.sizes.vector([*more[0], *more[1]]), mode=mode)
        for axis in range(rank):
            cut_low, cut_high = (-p if isinstance(p, int) and p < 0 else 0 for p in (low[axis], high[axis]))
            if cut_low or cut_high:
                wide = t.slice(wide, axis, cut_low, t.shape(wide)[axis] - cut_high)
        return wide
    if mode == "wrap":
        # ONNX has it from opset 19 on, but ONNX Runtime's fails on some shapes; parts of the tensor are right anywhere.
        for axis in range(rank):
            before, after = low[axis], high[axis]
            cut_low, cut_high = (-p if isinstance(p, int) and p < 0 else 0 for p in (before, after))
            if cut_low or cut_high:
                x = t.slice(x, axis, cut_low, t.shape(x)[axis] - cut_high)
            parts = [x]
            if before != 0 and not cut_low:
                parts.insert(0, t.slice(x, axis, t.shape(x)[axis] - before, _FAR))
            if after != 0 and not cut_high:
                parts.append(t.slice(x, axis, 0, after))
            x = x if len(parts) == 1 else t.b.Concat(*parts, axis=axis)
        return x
    fill = t.scalar(value or 0, x) if mode == "constant" else None
    return t.b.Pad(x, t.sizes.vector([*low, *high]), fill, mode=mode)
