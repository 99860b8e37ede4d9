"""Operators that write elements into a copy of a tensor: Scatter and its sisters, TensorScatter.

Where several updates meet in one place, `reduction` says what becomes of them. With "none" ONNX leaves it open; here
the last one wins, in the order of the indices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gesher.base.errors import RunError
from gesher.primitives import CannotLower
from gesher.symbolic import decide_gt

from ..arithmetic import is_narrow
from ..axes import axis_of
from ..rules import InferNode
from ..schema import ALL, Attr, Input, Output, every, op, tensors
from ..sizes import from_front, is_small, print_sizes
from .indexing import along, within

if TYPE_CHECKING:
    from gesher.primitives import Builder, Expr

TIND = tensors("int32 int64")

_REDUCTIONS: dict[str, Any] = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _check_reduction(node: InferNode) -> None:
    if node.version < 16:
        return
    allowed = ("none", "add", "mul", *(("max", "min") if node.version >= 18 else ()))
    if node["reduction"] not in allowed:
        node.fail(f"there is no reduction {node['reduction']!r} in opset {node.version}",
                  f"it may be {', '.join(allowed)}")


def _written(data: Any, places: tuple[Any, ...], updates: Any, reduction: str) -> Any:
    """A copy of `data` with `updates` at `places`, combined by `reduction`; narrow floats are rounded once."""
    if reduction == "none":
        out = data.copy()
        out[places] = updates
        return out
    if reduction not in _REDUCTIONS:
        raise RunError(f"there is no reduction {reduction!r}")
    if data.dtype == bool:
        # Of truth values, adding is or, and multiplying is and.
        function = np.logical_or if reduction in ("add", "max") else np.logical_and
    else:
        function = _REDUCTIONS[reduction]
    narrow = is_narrow(data.dtype)
    out = data.astype(np.float32) if narrow else data.copy()
    with np.errstate(all="ignore"):
        function.at(out, places, updates.astype(np.float32) if narrow else updates)
        return out.astype(data.dtype)


# Scatter and ScatterElements

Scatter = (op("Scatter", Input("data"), Input("indices", "Tind"), Input("updates"), Output("output"),
              Attr("axis", "int", 0), since=9, T=ALL, Tind=TIND)
           .since(11, deprecated=True, behaviour="it is called ScatterElements"))
ScatterElements = (op("ScatterElements", Input("data"), Input("indices", "Tind"), Input("updates"), Output("output"),
                      Attr("axis", "int", 0), since=11, T=ALL, Tind=TIND)
                   .since(13, T=every(13))
                   .since(16, Attr("reduction", "string", "none"))
                   .since(18, note="reduction may be min or max"))


@Scatter.infer
@ScatterElements.infer
def _(node: InferNode) -> None:
    shape, places, updates = node.shape(0), node.shape(1), node.shape(2)
    _check_reduction(node)
    if shape is not None:
        axis = axis_of(node["axis"], len(shape), node)
        if places is not None and len(places) != len(shape):
            node.fail(f"the indices have the rank {len(places)}, the data has {len(shape)}")
        for i, (d, n) in enumerate(zip(shape, places or ())):
            if i != axis and decide_gt(n, d):
                node.fail(f"indices of shape {print_sizes(places or ())} reach beyond data of {print_sizes(shape)}")
    if places is not None and updates is not None:
        if len(places) != len(updates):
            node.fail(f"the updates have the rank {len(updates)}, the indices have {len(places)}")
        for i, (n, u) in enumerate(zip(places, updates)):
            node.unify(n, u, f"axis {i} of indices and updates")
    known = _all_known(node)
    written = None
    if known is not None:
        written = _written(known[0], along(known[1], node["axis"], known[0].shape, node.node.op_type), known[2],
                           node["reduction"] if node.version >= 16 else "none")
    node.set(0, node.dtype(0), shape, written)


def _all_known(node: InferNode) -> tuple[Any, Any, Any] | None:
    """Data, indices and updates, where all are known and sizes are only moved."""
    shape, values = node.shape(0), [node.value(i) for i in range(3)]
    if shape is None or not is_small(shape) or any(v is None for v in values) or \
            (node.version >= 16 and node["reduction"] != "none"):
        return None
    data, indices, updates = values[0], node.numbers(1), values[2]
    assert data is not None and updates is not None
    if indices is None:
        return None
    if updates.dtype == object:
        data = data.astype(object)
    return data, indices, updates


@Scatter.reference
@ScatterElements.reference
def scatter_elements(data: Any, indices: Any, updates: Any, *, axis: int, reduction: str = "none") -> Any:
    return _written(data, along(indices, axis, data.shape, "ScatterElements"), updates, reduction)


@Scatter.lower
@ScatterElements.lower
def _(p: Builder, data: Expr, indices: Expr, updates: Expr, *, axis: int, reduction: str = "none") -> Expr:
    return p.scatter_along(data, indices, updates, axis, reduction)


# ScatterND

ScatterND = (op("ScatterND", Input("data"), Input("indices", "tensor(int64)"), Input("updates"), Output("output"),
                since=11, T=ALL)
             .since(13, T=every(13))
             .since(16, Attr("reduction", "string", "none"))
             .since(18, note="reduction may be min or max"))


@ScatterND.infer
def _(node: InferNode) -> None:
    shape, places, updates = node.shape(0), node.shape(1), node.shape(2)
    _check_reduction(node)
    if shape is not None and places is not None:
        if not places or not shape:
            node.fail("neither the data nor the indices may be a scalar")
        depth = places[-1]
        if isinstance(depth, int):
            if not 0 <= depth <= len(shape):
                node.fail(f"an index names {depth} axes of data of rank {len(shape)}")
            want = (*places[:-1], *shape[depth:])
            if updates is not None:
                if len(updates) != len(want):
                    node.fail(f"the updates are {print_sizes(updates)}, they must be {print_sizes(want)}")
                for i, (w, u) in enumerate(zip(want, updates)):
                    node.unify(w, u, f"axis {i} of the updates")
    known = _all_known(node)
    written = None
    if known is not None:
        written = _written(known[0], _coordinates(known[1], known[0].shape), known[2], "none")
    node.set(0, node.dtype(0), shape, written)


def _coordinates(indices: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(within(indices[..., i], shape[i], "ScatterND") for i in range(indices.shape[-1]))


@ScatterND.reference
def scatter_nd(data: Any, indices: Any, updates: Any, *, reduction: str = "none") -> Any:
    return _written(data, _coordinates(indices, data.shape), updates, reduction)


@ScatterND.lower
def _(p: Builder, data: Expr, indices: Expr, updates: Expr, *, reduction: str = "none") -> Expr:
    if not indices.shape or not indices.shape[-1]:
        raise CannotLower("an index names no axis")
    return p.scatter_nd(data, indices, updates, reduction)


# TensorScatter

TensorScatter = op("TensorScatter", Input("past_cache"), Input("update"),
                   Input("write_indices", "tensor(int64)", optional=True), Output("present_cache"),
                   Attr("mode", "string", "linear"), Attr("axis", "int", -2), since=24, T=every(24))


@TensorScatter.infer
def _(node: InferNode) -> None:
    cache, update, starts = node.shape(0), node.shape(1), node.shape(2)
    if node["mode"] not in ("linear", "circular"):
        node.fail(f"there is no mode {node['mode']!r}")
    if cache is not None:
        axis = axis_of(node["axis"], len(cache), node)
        if axis == 0:
            node.fail("the axis is the batch axis, 0")
        if update is not None:
            if len(update) != len(cache):
                node.fail(f"the update has the rank {len(update)}, the cache has {len(cache)}")
            for i, (c, u) in enumerate(zip(cache, update)):
                if i != axis:
                    node.unify(c, u, f"axis {i} of cache and update")
                elif decide_gt(u, c):
                    node.fail(f"the update has {u} places on axis {axis}, the cache has {c}")
        if starts is not None:
            if len(starts) != 1:
                node.fail(f"write_indices is a list, not of shape {print_sizes(starts)}")
            node.unify(cache[0], starts[0], "one write index for each sample")
    node.set(0, node.dtype(0), cache)


@TensorScatter.reference
def tensor_scatter(cache: Any, update: Any, write_indices: Any = None, *, mode: str, axis: int) -> Any:
    axis = axis_of(axis, cache.ndim)
    size, length = cache.shape[axis], update.shape[axis]
    out = cache.copy()
    for b in range(cache.shape[0]):
        places = (0 if write_indices is None else int(write_indices[b])) + np.arange(length)
        if mode == "circular":
            places = places % size
        elif length and (places[0] < 0 or places[-1] >= size):
            raise RunError(f"TensorScatter: sample {b} is written to {places[0]} ... {places[-1]} of {size} places")
        # Without the batch axis, the axis is one further to the front.
        np.moveaxis(out[b], axis - 1, 0)[places] = np.moveaxis(update[b], axis - 1, 0)
    return out


@TensorScatter.lower
def _(p: Builder, cache: Expr, update: Expr, write_indices: Expr | None = None, *, mode: str, axis: int) -> Expr:
    axis = axis_of(axis, len(cache.shape))
    places = p.iota(update.shape, axis)
    if write_indices is not None:
        starts = p.reshape(write_indices, (update.shape[0], *[1] * (len(update.shape) - 1)))
        places = places + p.broadcast_to(starts if mode == "circular" else from_front(p, starts, cache.shape[axis]),
                                         update.shape)
    if mode == "circular":
        places = p.mod(places, cache.shape[axis])
    return p.scatter_along(cache, places, update, axis)
