"""Slice and Split: parts of a tensor along its axes.

What a reader would guess wrong: Slice's ends are clamped as Python clamps them, but for one case. With a negative step
a start before the first element means the first element, where Python would give nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gesher.base.errors import RunError
from gesher.ir import DimLike
from gesher.primitives import CannotLower
from gesher.symbolic import (
    bounds,
    ceil_div,
    decide_eq,
    decide_ge,
    decide_lt,
    exact_div,
    fresh,
    maximum,
    minimum,
    total,
)

from ..axes import axes_of, axis_of
from ..rules import InferNode, Run
from ..schema import ALL, FLOATS, REQUIRED, Attr, Drop, Input, Inputs, Output, Outputs, every, op, tensors
from ..sizes import is_plain, known_ints, length_of, numbers_of, plain_ints, print_sizes

if TYPE_CHECKING:
    from gesher.primitives import Builder, Expr

TIND = tensors("int32 int64")

# Slice

Slice = (op("Slice", Input("data"), Output("output"), Attr("axes", "ints"), Attr("starts", "ints", REQUIRED),
            Attr("ends", "ints", REQUIRED), T=ALL)
         .since(10, Drop("axes"), Drop("starts"), Drop("ends"),
                Inputs(Input("data"), Input("starts", "Tind"), Input("ends", "Tind"),
                       Input("axes", "Tind", optional=True), Input("steps", "Tind", optional=True)),
                Tind=TIND, behaviour="starts, ends and axes are inputs, and there are steps")
         .since(11, note="an axis may be counted from the end")
         .since(13, T=every(13)))

# "To the end", said for an axis of unknown size: the largest int32 or int64, and their opposites for backward steps.
_FAR = (1 << 31) - 1


class Cut:
    """A slice of one axis with its ends clamped to the axis: what it takes, `size` elements.

    Going forward, 0 <= start and 0 <= stop <= the axis; going backward, start < the axis and stop >= -1. Where nothing
    is taken, start may stand behind stop.
    """

    __slots__ = ("size", "start", "step", "stop")

    def __init__(self, start: DimLike, stop: DimLike, step: int, size: DimLike):
        self.start, self.stop, self.step, self.size = start, stop, step, size


def cut(start: DimLike, stop: DimLike, step: int, size: DimLike) -> Cut | None:
    """Clamp the ends of a slice of an axis of `size` elements; None where the sign of a symbolic end is open."""
    first, last = _from_front(start, size), _from_front(stop, size)
    if first is None or last is None:
        return None
    if step > 0:
        last = minimum(last, size)
        # last - max(first, 0), written so that x[-5:] is min(n, 5) long
        taken = minimum(last - first, last)
        return Cut(maximum(first, 0), maximum(last, 0), step, maximum(ceil_div(taken, step), 0))
    # An empty axis has no first element to clamp to: then the start is -1, too, and nothing is taken.
    first, last = minimum(maximum(first, 0), size - 1), maximum(last, -1)
    return Cut(first, last, step, maximum(ceil_div(first - last, -step), 0))


def _from_front(end: DimLike, size: DimLike) -> DimLike | None:
    """An end counted from the front, not clamped; None where its sign is open."""
    if isinstance(end, int) and not isinstance(size, int):
        if end >= _FAR:
            return size
        if end <= -_FAR:
            return -1
    if decide_ge(end, 0):
        return end
    if decide_lt(end, 0):
        return end + size
    # Of an axis of n, n - 1 is negative only where the axis is empty, and then adding 0 changes nothing.
    return end if decide_eq(end + 1, size) else None


def _infer_slice(node: InferNode, starts: Sequence[DimLike] | None, ends: Sequence[DimLike] | None,
                 axes: Sequence[int] | None, steps: Sequence[int] | None) -> None:
    dtype, shape = node.dtype(0), node.shape(0)
    if shape is None:
        node.set(0, dtype, None, why="the rank of the input is unknown")
        return
    if axes is None:
        node.set(0, dtype, [_part_of(d, "the axes are not known") for d in shape])
        return
    places = axes_of(axes, len(shape), node)
    for what, given in (("starts", starts), ("ends", ends), ("steps", steps)):
        if given is not None and len(given) != len(places):
            node.fail(f"there are {len(given)} {what} for {len(places)} axes")
    sizes, cuts = list(shape), [slice(None)] * len(shape)
    value = node.value(0)
    for i, a in enumerate(places):
        found = None
        if starts is not None and ends is not None and steps is not None:
            if steps[i] == 0:
                node.fail("a step is 0")
            found = cut(starts[i], ends[i], steps[i], shape[a])
        if found is None:
            sizes[a] = _part_of(shape[a], f"the ends of the slice of axis {a} are not known")
            value = None
            continue
        sizes[a] = found.size
        if is_plain((found.start, found.stop)):
            cuts[a] = slice(found.start, None if found.step < 0 and found.stop == -1 else found.stop, found.step)
        else:
            value = None
    node.set(0, dtype, sizes, None if value is None else value[tuple(cuts)])


def _part_of(size: DimLike, reason: str) -> DimLike:
    return fresh(f"Slice: {reason}", max=bounds(size)[1])


@Slice.infer
def _(node: InferNode) -> None:
    starts, ends, axes = node["starts"], node["ends"], node["axes"]
    _infer_slice(node, starts, ends, range(len(starts)) if axes is None else axes, [1] * len(starts))


@Slice.infer(since=10)
def _(node: InferNode) -> None:
    starts, ends = node.ints(1), node.ints(2)
    length = next((n for n in (length_of(node, 1), length_of(node, 2)) if n is not None), None)
    axes = numbers_of(node, 3) if node.has(3) else None if length is None else range(length)
    if axes is not None and length is None:
        length = len(axes)
    steps = numbers_of(node, 4) if node.has(4) else None if length is None else [1] * length
    _infer_slice(node, starts, ends, axes, steps)


def _sliced(data: Any, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int]) -> Any:
    cuts = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps):
        if step == 0:
            raise RunError("Slice: a step is 0")
        if step < 0 and start < -data.shape[axis]:
            start = 0
        cuts[axis] = slice(start, end, step)
    return data[tuple(cuts)]


@Slice.reference
def slice_1(data: Any, *, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None) -> Any:
    return _sliced(data, starts, ends, range(len(starts)) if axes is None else axes, [1] * len(starts))


@Slice.reference(since=10)
def slice_10(data: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    return _sliced(data, starts.tolist(), ends.tolist(), range(len(starts)) if axes is None else axes.tolist(),
                   [1] * len(starts) if steps is None else steps.tolist())


@Slice.lower
def _(p: Builder, data: Expr, *, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None) -> Expr:
    return _lower_slice(p, data, starts, ends, range(len(starts)) if axes is None else axes, [1] * len(starts))


@Slice.lower(since=10)
def _(p: Builder, data: Expr, starts: Expr, ends: Expr, axes: Expr | None = None, steps: Expr | None = None) -> Expr:
    first = known_ints(p, starts, "the list of starts")
    return _lower_slice(p, data, first, known_ints(p, ends, "the list of ends"),
                        range(len(first)) if axes is None else plain_ints(p, axes, "the list of axes"),
                        [1] * len(first) if steps is None else plain_ints(p, steps, "the list of steps"))


def _lower_slice(p: Builder, data: Expr, starts: Sequence[DimLike], ends: Sequence[DimLike], axes: Sequence[int],
                 steps: Sequence[int]) -> Expr:
    first: list[DimLike] = [0] * len(data.shape)
    last, by = list(data.shape), [1] * len(data.shape)
    for start, end, a, step in zip(starts, ends, axes_of(axes, len(data.shape)), steps):
        found = cut(start, end, step, data.shape[a])
        if found is None:
            raise CannotLower(f"the sign of the slice {start}:{end} is open")
        if decide_eq(found.size, 0):
            first[a], last[a], by[a] = 0, 0, 1
        else:
            first[a], last[a], by[a] = found.start, found.stop, found.step
    return p.slice(data, first, last, by)


# Split

Split = (op("Split", Input("input"), Input("split", optional=True), Output("outputs...", variadic=True),
            Attr("axis", "int"), Attr("split", "ints"), T=FLOATS)
         .since(2, Inputs(Input("input")), Outputs(Output("outputs", variadic=True)), Attr("axis", "int", 0), T=ALL,
                behaviour="the sizes are an attribute only")
         .since(11, note="an axis may be counted from the end")
         .since(13, Drop("split"), Inputs(Input("input"), Input("split", "tensor(int64)", optional=True)), T=every(13),
                behaviour="the sizes are an input")
         .since(18, Attr("num_outputs", "int"), behaviour="equal parts are asked for, and the last may be smaller"))


def equal_parts(size: Any, count: int, uneven: bool) -> list[Any]:
    """The sizes of `count` equal parts of an axis; where `uneven`, the last one may be smaller."""
    if not uneven:
        return [exact_div(size, count)] * count
    part = ceil_div(size, count)
    return [part] * (count - 1) + [size - part * (count - 1)]


def _infer_split(node: InferNode, sizes: Sequence[DimLike] | None, given: bool, uneven: bool) -> None:
    dtype, shape, count = node.dtype(0), node.shape(0), len(node.outputs)
    if shape is None:
        for i in range(count):
            node.set(i, dtype, None, why="the rank of the input is unknown")
        return
    axis = axis_of(node["axis"] or 0, len(shape), node)
    size = shape[axis]
    if not given:
        if isinstance(size, int) and not uneven and size % count:
            node.fail(f"an axis of {size} does not split into {count} equal parts")
        sizes = equal_parts(size, count, uneven)
        if decide_lt(sizes[-1], 0):
            node.fail(f"an axis of {size} has nothing left for part {count}")
    elif sizes is None:
        for i in range(count):
            part = fresh(f"Split: the size of part {i} is not known", max=bounds(size)[1])
            node.set(i, dtype, (*shape[:axis], part, *shape[axis + 1:]))
        return
    assert sizes is not None  # given or worked out
    if len(sizes) != count:
        node.fail(f"there are {len(sizes)} sizes for {count} outputs")
    node.unify(total(sizes), size, f"the parts {print_sizes(sizes)} fill axis {axis}")
    value = node.value(0)
    start = 0
    for i, part in enumerate(sizes):
        piece = None
        if value is not None and isinstance(part, int):
            piece = value.take(range(start, start + part), axis)
            start += part
        node.set(i, dtype, (*shape[:axis], part, *shape[axis + 1:]), piece)


@Split.infer
def _(node: InferNode) -> None:
    by_input = node.version < 2 and node.has(1)
    values = node.numbers(1) if by_input else None
    sizes = node["split"] if not by_input else None if values is None else [int(s) for s in values.reshape(-1)]
    _infer_split(node, sizes, by_input or node["split"] is not None, False)


@Split.infer(since=13)
def _(node: InferNode) -> None:
    if node.version >= 18 and not node.has(1) and node["num_outputs"] not in (None, len(node.outputs)):
        node.fail(f"num_outputs is {node['num_outputs']}, but the node has {len(node.outputs)} outputs")
    _infer_split(node, node.ints(1), node.has(1), node.version >= 18)


def _pieces(x: Any, sizes: Sequence[int], axis: int) -> tuple[Any, ...]:
    if sum(sizes) != x.shape[axis] or min(sizes, default=0) < 0:
        raise RunError(f"Split: the parts {list(sizes)} do not fill an axis of {x.shape[axis]}")
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis))


@Split.reference
def split_1(x: Any, sizes: Any = None, *, axis: int | None, split: Sequence[int] | None, run: Run) -> Any:
    if sizes is not None:
        split = [int(s) for s in sizes.reshape(-1)]
    return split_2(x, axis=axis or 0, split=split, run=run)


@Split.reference(since=2)
def split_2(x: Any, *, axis: int, split: Sequence[int] | None, run: Run) -> Any:
    return _pieces(x, equal_parts(x.shape[axis], len(run.wanted), False) if split is None else split, axis)


@Split.reference(since=13)
def split_13(x: Any, split: Any = None, *, axis: int, num_outputs: int | None = None, run: Run) -> Any:
    if split is None:
        sizes = equal_parts(x.shape[axis], num_outputs or len(run.wanted), run.version >= 18)
    else:
        sizes = split.tolist()
    return _pieces(x, sizes, axis)


def _lower_split(p: Builder, x: Expr, sizes: Sequence[DimLike] | None, axis: int) -> tuple[Expr, ...]:
    axis = axis_of(axis, len(x.shape))
    if sizes is None:
        sizes = equal_parts(x.shape[axis], p.outputs, p.version >= 18)
    parts: list[Expr] = []
    start: DimLike = 0
    for size in sizes:
        parts.append(p.take(x, axis, start, start + size))
        start = start + size
    # Equal parts of 18 and later fill the axis, but the last may be less than nothing.
    return tuple(p.hold(part, "split", ("same", start, x.shape[axis]), ("most", 0, size))
                 for part, size in zip(parts, sizes))


@Split.lower
def _(p: Builder, x: Expr, sizes: Expr | None = None, *, axis: int | None, split: Sequence[int] | None) -> Any:
    if sizes is not None:
        raise CannotLower("the sizes are an input of floats")
    return _lower_split(p, x, split, axis or 0)


@Split.lower(since=13)
def _(p: Builder, x: Expr, split: Expr | None = None, *, axis: int, num_outputs: int | None = None) -> Any:
    return _lower_split(p, x, None if split is None else known_ints(p, split, "the list of sizes"), axis)
