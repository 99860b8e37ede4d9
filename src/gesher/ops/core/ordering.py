"""Operators that compare elements and keep some: TopK, Unique, NonMaxSuppression.

Among equals the first one, by its place, always comes first. NaN counts as the largest number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import RunError
from gesher.ir import DimLike
from gesher.symbolic import bounds, decide_gt, decide_lt, fresh, product

from ..arithmetic import widen
from ..axes import axis_of
from ..rules import InferNode
from ..schema import ALL, BF16, FLOATS, NUMBERS, REQUIRED, Attr, Drop, Input, Inputs, Output, every, op, tensors
from ..sizes import known_int, print_sizes, scalar_of

if TYPE_CHECKING:
    from gesher.primitives import Builder, Expr

INT64 = tensors("int64")

# TopK

TopK = (op("TopK", Input("X"), Output("Values"), Output("Indices", "I"), Attr("k", "int", REQUIRED),
           Attr("axis", "int", -1), T=FLOATS, I=INT64)
        .since(10, Drop("k"), Inputs(Input("X"), Input("K", "tensor(int64)")), behaviour="k is an input")
        .since(11, Attr("largest", "int", 1), Attr("sorted", "int", 1), T=NUMBERS)
        .since(24, T=NUMBERS | BF16))


def _infer_top_k(node: InferNode, k: DimLike | None) -> None:
    shape, sizes = node.shape(0), None
    if shape is not None:
        axis = axis_of(node["axis"], len(shape), node)
        if k is not None and decide_lt(k, 0):
            node.fail(f"k is {k}, it must not be negative")
        if k is not None and decide_gt(k, shape[axis]):
            node.fail(f"k is {k}, but axis {axis} has only {shape[axis]} elements")
        if k is None:
            k = fresh("TopK: k is not known", max=bounds(shape[axis])[1])
        sizes = (*shape[:axis], k, *shape[axis + 1:])
    node.set(0, node.dtype(0), sizes, why="" if shape is not None else "the rank of the input is unknown")
    node.set(1, dtypes.INT64, sizes, why="" if shape is not None else "the rank of the input is unknown")


@TopK.infer
def _(node: InferNode) -> None:
    _infer_top_k(node, node["k"])


@TopK.infer(since=10)
def _(node: InferNode) -> None:
    _infer_top_k(node, scalar_of(node, 1))


def _order(x: Any, axis: int, descending: bool) -> Any:
    """The places of the elements of each row in order, equals by place."""
    x = widen(x)
    if not descending:
        return np.argsort(x, axis, kind="stable")
    # Sorted from behind and turned round, equals stand by place again.
    return x.shape[axis] - 1 - np.flip(np.argsort(np.flip(x, axis), axis, kind="stable"), axis)


@TopK.reference
def top_k_1(x: Any, *, k: int, axis: int) -> Any:
    return top_k_10(x, np.array([k], np.int64), axis=axis)


@TopK.reference(since=10)
def top_k_10(x: Any, k: Any, *, axis: int, largest: int = 1, sorted: int = 1) -> Any:
    count, axis = int(k.reshape(-1)[0]), axis_of(axis, x.ndim)
    if not 0 <= count <= x.shape[axis]:
        raise RunError(f"TopK: k is {count}, the axis has {x.shape[axis]} elements")
    # Where `sorted` is 0 any order will do, so also this one.
    places = np.take(_order(x, axis, bool(largest)), np.arange(count), axis)
    return np.take_along_axis(x, places, axis), places.astype(np.int64)


@TopK.lower
def _(p: Builder, x: Expr, *, k: int, axis: int) -> tuple[Expr, Expr]:
    return p.top_k(x, k, axis)


@TopK.lower(since=10)
def _(p: Builder, x: Expr, k: Expr, *, axis: int, largest: int = 1, sorted: int = 1) -> tuple[Expr, Expr]:
    return p.top_k(x, known_int(p, k, "k"), axis, bool(largest))


# Unique

Unique = (op("Unique", Input("X"), Output("Y"), Output("indices", "tensor(int64)", optional=True),
             Output("inverse_indices", "tensor(int64)", optional=True),
             Output("counts", "tensor(int64)", optional=True), Attr("axis", "int"), Attr("sorted", "int", 1),
             since=11, T=ALL)
          .since(28, T=every(13)))


@Unique.infer
def _(node: InferNode) -> None:
    shape = node.shape(0)
    if shape is None:
        node.set(0, node.dtype(0), (None,) if node["axis"] is None else None, why="the shape of the input is unknown")
        for i in (1, 2, 3):
            node.set(i, dtypes.INT64, (None,))
        return
    axis = None if node["axis"] is None else axis_of(node["axis"], len(shape), node)
    size = product(shape) if axis is None else shape[axis]
    found = fresh("Unique: how many differ depends on the data", max=bounds(size)[1])
    node.set(0, node.dtype(0), (found,) if axis is None else (*shape[:axis], found, *shape[axis + 1:]))
    node.set(1, dtypes.INT64, (found,))
    node.set(2, dtypes.INT64, (size,))
    node.set(3, dtypes.INT64, (found,))


@Unique.reference
def unique(x: Any, *, axis: int | None, sorted: int) -> Any:
    if axis is None:
        rows = x.reshape(-1, 1)
    else:
        rows = np.moveaxis(x, axis, 0)
        rows = rows.reshape(len(rows), int(np.prod(rows.shape[1:])))
    numbers: dict[tuple[Any, ...], int] = {}
    places: list[int] = []
    inverse = np.empty(len(rows), np.int64)
    for i, row in enumerate(map(tuple, rows.tolist())):
        if row not in numbers:
            numbers[row] = len(numbers)
            places.append(i)
        inverse[i] = numbers[row]
    if sorted:
        # Rows compare by their first element, then their second ...
        order = _ascending(list(numbers))
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        places, inverse = [places[i] for i in order], rank[inverse]
    first = np.array(places, np.int64)
    y = x.reshape(-1)[first] if axis is None else np.take(x, first, axis)
    return y, first, inverse, np.bincount(inverse, minlength=len(first)).astype(np.int64)


def _ascending(rows: list[tuple[Any, ...]]) -> list[int]:
    """The places of rows in ascending order; NaN, which is not even itself, behind all numbers."""
    def key(i: int) -> list[tuple[bool, Any]]:
        return [(v != v, 0 if v != v else (v.real, v.imag) if isinstance(v, complex) else v) for v in rows[i]]

    return sorted(range(len(rows)), key=key)


# NonMaxSuppression

NonMaxSuppression = (op("NonMaxSuppression", Input("boxes", "tensor(float)"), Input("scores", "tensor(float)"),
                        Input("max_output_boxes_per_class", "tensor(int64)", optional=True),
                        Input("iou_threshold", "tensor(float)", optional=True),
                        Input("score_threshold", "tensor(float)", optional=True),
                        Output("selected_indices", "tensor(int64)"), Attr("center_point_box", "int", 0), since=10)
                     .since(11))


@NonMaxSuppression.infer
def _(node: InferNode) -> None:
    boxes, scores, most = node.shape(0), node.shape(1), scalar_of(node, 2)
    for what, shape in (("boxes", boxes), ("scores", scores)):
        if shape is not None and len(shape) != 3:
            node.fail(f"the {what} have three axes, not the shape {print_sizes(shape)}")
    if boxes is not None:
        node.unify(boxes[2], 4, "four numbers make a box")
    if boxes is not None and scores is not None:
        node.unify(boxes[0], scores[0], "the batch of boxes and scores")
        node.unify(boxes[1], scores[2], "a score for each box")
    if not node.has(2):
        most = 0
    limit = None
    if scores is not None:
        each = bounds(scores[2])[1]
        if isinstance(most, int):
            each = max(most, 0) if each is None else min(each, max(most, 0))
        rows = bounds(scores[0] * scores[1])[1]
        limit = 0 if each == 0 else None if rows is None or each is None else rows * each
    found = 0 if limit == 0 else fresh("NonMaxSuppression: how many boxes stay depends on the data", max=limit)
    node.set(0, dtypes.INT64, (found, 3))


def _corners(boxes: Any, center_point_box: int) -> Any:
    """Boxes as (low y, low x, high y, high x), shape (N,4)."""
    if center_point_box:
        x, y, w, h = boxes.T
        a, b = np.stack([y - h / 2, x - w / 2], 1), np.stack([y + h / 2, x + w / 2], 1)
    else:
        a, b = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([np.minimum(a, b), np.maximum(a, b)], 1)


@NonMaxSuppression.reference
def non_max_suppression(boxes: Any, scores: Any, max_output_boxes_per_class: Any = None, iou_threshold: Any = None,
                        score_threshold: Any = None, *, center_point_box: int) -> Any:
    most = 0 if max_output_boxes_per_class is None else int(max_output_boxes_per_class.reshape(-1)[0])
    overlap = np.float32(0) if iou_threshold is None else iou_threshold.reshape(-1)[0]
    found: list[tuple[int, int, int]] = []
    for n in range(scores.shape[0]):
        corners = _corners(boxes[n], center_point_box)
        areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
        for c in range(scores.shape[1]):
            row = scores[n, c]
            waiting = np.argsort(-row, kind="stable")
            if score_threshold is not None:
                waiting = waiting[row[waiting] > score_threshold.reshape(-1)[0]]
            kept = 0
            while len(waiting) and kept < most:
                best, waiting = waiting[0], waiting[1:]
                found.append((n, c, int(best)))
                kept += 1
                sides = np.minimum(corners[waiting, 2:], corners[best, 2:]) - \
                    np.maximum(corners[waiting, :2], corners[best, :2])
                shared = np.where((sides > 0).all(1), sides[:, 0] * sides[:, 1], np.float32(0))
                union = areas[waiting] + areas[best] - shared
                # Boxes without an area overlap nothing.
                with np.errstate(all="ignore"):
                    iou = np.where((areas[waiting] > 0) & (areas[best] > 0) & (shared > 0), shared / union, 0)
                waiting = waiting[~(iou > overlap)]
    return np.array(found, np.int64).reshape(-1, 3)
