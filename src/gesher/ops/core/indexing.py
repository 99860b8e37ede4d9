"""Operators that pick elements by their places: Gather and its sisters, Compress, NonZero.

Gather is how a model takes one size out of a shape, so known values pass through it, symbols included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import RunError
from gesher.ir import DimLike
from gesher.primitives import CannotLower
from gesher.symbolic import bounds, fresh, minimum, product

from ..axes import axis_of
from ..rules import InferNode, Run
from ..schema import ALL, BOOL, Attr, Input, Output, every, op, tensors
from ..sizes import is_small, numbers_of, print_sizes

if TYPE_CHECKING:
    from gesher.primitives import Builder, Expr

TIND = tensors("int32 int64")


def within(indices: Any, size: int, name: str) -> Any:
    """Indices into an axis of `size` elements, counted from the front.

    Raises:
        RunError: one is out of range.
    """
    if indices.size and (indices.min() < -size or indices.max() >= size):
        raise RunError(f"{name}: an index is not within [{-size}, {size - 1}]",
                       advice=f"the indices go from {indices.min()} to {indices.max()}")
    return np.where(indices < 0, indices + size, indices)


def _known_indices(node: InferNode) -> Any:
    """The second input, where it is known and small, as plain numbers."""
    return None if node.value(1) is None else node.numbers(1)


# Gather

Gather = (op("Gather", Input("data"), Input("indices", "Tind"), Output("output"), Attr("axis", "int", 0),
             T=ALL, Tind=TIND)
          .since(11, note="an axis may be counted from the end")
          .since(13, T=every(13)))


@Gather.infer
def _(node: InferNode) -> None:
    shape, places = node.shape(0), node.shape(1)
    if shape is None or places is None:
        node.set(0, node.dtype(0), None, why="the rank of the data or of the indices is unknown")
        return
    axis = axis_of(node["axis"], len(shape), node)
    numbers = numbers_of(node, 1)
    size = shape[axis]
    if numbers and isinstance(size, int) and not all(-size <= i < size for i in numbers):
        node.fail(f"an index of {numbers} is not within [{-size}, {size - 1}]")
    sizes = (*shape[:axis], *places, *shape[axis + 1:])
    value, indices = node.value(0), _known_indices(node)
    taken = None
    if value is not None and indices is not None and is_small(sizes):
        taken = np.asarray(np.take(value, indices, axis))
    node.set(0, node.dtype(0), sizes, taken)


@Gather.reference
def gather(data: Any, indices: Any, *, axis: int, run: Run) -> Any:
    axis = axis_of(axis, data.ndim)
    run.allow((*data.shape[:axis], *indices.shape, *data.shape[axis + 1:]), data.dtype)
    return np.asarray(np.take(data, within(indices, data.shape[axis], "Gather"), axis))


@Gather.lower
def _(p: Builder, data: Expr, indices: Expr, *, axis: int) -> Expr:
    return p.gather(data, indices, axis)


# GatherElements

GatherElements = (op("GatherElements", Input("data"), Input("indices", "Tind"), Output("output"),
                     Attr("axis", "int", 0), since=11, T=ALL, Tind=TIND)
                  .since(13, T=every(13)))


@GatherElements.infer
def _(node: InferNode) -> None:
    shape, places = node.shape(0), node.shape(1)
    if shape is not None and places is not None:
        axis = axis_of(node["axis"], len(shape), node)
        if len(places) != len(shape):
            node.fail(f"the indices have the rank {len(places)}, the data has {len(shape)}")
        for i, (d, n) in enumerate(zip(shape, places)):
            if i != axis and isinstance(d, int) and isinstance(n, int) and n > d:
                node.fail(f"indices of shape {print_sizes(places)} reach beyond data of shape {print_sizes(shape)}")
    value, indices = node.value(0), _known_indices(node)
    taken = None
    if shape is not None and places is not None and value is not None and indices is not None:
        taken = gather_elements(value, indices, axis=node["axis"])
    node.set(0, node.dtype(0), places, taken)


def along(indices: Any, axis: int, shape: Any, name: str) -> tuple[Any, ...]:
    """The coordinates that `indices` name in an array of `shape`: their own places, but for `axis`.

    Raises:
        RunError: an index is out of range.
    """
    axis = axis_of(axis, len(shape))
    if any(n > d for i, (n, d) in enumerate(zip(indices.shape, shape)) if i != axis):
        raise RunError(f"{name}: indices of shape {list(indices.shape)} reach beyond data of shape {list(shape)}")
    places = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    places[axis] = within(indices, shape[axis], name)
    return tuple(places)


@GatherElements.reference
def gather_elements(data: Any, indices: Any, *, axis: int) -> Any:
    return data[along(indices, axis, data.shape, "GatherElements")]


@GatherElements.lower
def _(p: Builder, data: Expr, indices: Expr, *, axis: int) -> Expr:
    return p.gather_along(data, indices, axis)


# GatherND

GatherND = (op("GatherND", Input("data"), Input("indices", "tensor(int64)"), Output("output"), since=11, T=ALL)
            .since(12, Attr("batch_dims", "int", 0))
            .since(13, T=every(13)))


@GatherND.infer
def _(node: InferNode) -> None:
    shape, places = node.shape(0), node.shape(1)
    batch = node["batch_dims"] if node.version >= 12 else 0
    if shape is None or places is None or (places and not isinstance(places[-1], int)):
        node.set(0, node.dtype(0), None, why="how many axes an index names is unknown")
        return
    if not places or not shape:
        node.fail("neither the data nor the indices may be a scalar")
    depth = places[-1]
    assert isinstance(depth, int)
    if not 0 <= batch < min(len(shape), len(places)):
        node.fail(f"batch_dims {batch} does not leave axes of {print_sizes(shape)} and {print_sizes(places)}")
    if not 1 <= depth <= len(shape) - batch:
        node.fail(f"an index names {depth} axes of the {len(shape) - batch} that the data has behind the batch")
    for i in range(batch):
        node.unify(shape[i], places[i], f"batch axis {i} of data and indices")
    sizes = (*places[:-1], *shape[batch + depth:])
    value, indices = node.value(0), _known_indices(node)
    taken = None
    if value is not None and indices is not None and is_small(sizes):
        taken = gather_nd(value, indices, batch_dims=batch)
    node.set(0, node.dtype(0), sizes, taken)


@GatherND.reference
def gather_nd(data: Any, indices: Any, *, batch_dims: int = 0) -> Any:
    lead, depth = indices.ndim - 1, indices.shape[-1]
    own = [np.arange(n).reshape([n if i == a else 1 for i in range(lead)])
           for a, n in enumerate(data.shape[:batch_dims])]
    named = [within(indices[..., i], data.shape[batch_dims + i], "GatherND") for i in range(depth)]
    return np.asarray(data[(*own, *named)])


@GatherND.lower
def _(p: Builder, data: Expr, indices: Expr, *, batch_dims: int = 0) -> Expr:
    return p.gather_nd(data, indices, batch_dims)


# Compress

Compress = (op("Compress", Input("input"), Input("condition", "T1"), Output("output"), Attr("axis", "int"),
               since=9, T=ALL, T1=BOOL)
            .since(11, note="an axis may be counted from the end")
            .since(28, T=every(13)))


@Compress.infer
def _(node: InferNode) -> None:
    shape, lengths, condition = node.shape(0), node.shape(1), _known_indices(node)
    if shape is None:
        node.set(0, node.dtype(0), (None,) if node["axis"] is None else None, why="the shape of the input is unknown")
        return
    if lengths is not None and len(lengths) != 1:
        node.fail(f"the condition is a list, not of shape {print_sizes(lengths)}")
    axis = None if node["axis"] is None else axis_of(node["axis"], len(shape), node)
    size = product(shape) if axis is None else shape[axis]
    count: DimLike
    if condition is not None and (isinstance(size, int) or not condition.any()):
        # What the condition says beyond the end does not count, so the end must be known.
        count = int(np.count_nonzero(condition[:size] if isinstance(size, int) else condition))
    else:
        most = bounds(size if lengths is None else minimum(size, lengths[0]))[1]
        count = fresh("Compress: how many are selected depends on the data", max=most)
    sizes = (count,) if axis is None else (*shape[:axis], count, *shape[axis + 1:])
    value = node.value(0)
    known = None if value is None or condition is None else compress(value, condition, axis=axis)
    node.set(0, node.dtype(0), sizes, known)


@Compress.reference
def compress(x: Any, condition: Any, *, axis: int | None) -> Any:
    size = x.size if axis is None else x.shape[axis]
    return np.compress(condition[:size], x, axis)


# NonZero

NonZero = (op("NonZero", Input("X"), Output("Y", "tensor(int64)"), since=9, T=ALL)
           .since(13, T=every(13)))


@NonZero.infer
def _(node: InferNode) -> None:
    shape = node.shape(0)
    if shape is None:
        node.set(0, dtypes.INT64, (None, None), why="the rank of the input is unknown")
        return
    value = node.numbers(0) if is_small(shape) else None
    if value is not None:
        places = nonzero(value)
        node.set(0, dtypes.INT64, places.shape, places)
        return
    if _filled_with_something(node):
        node.set(0, dtypes.INT64, (len(shape), product(shape)))
        return
    most = bounds(product(shape))[1]
    node.set(0, dtypes.INT64, (len(shape), fresh("NonZero: how many there are depends on the data", max=most)))


def _filled_with_something(node: InferNode) -> bool:
    """Whether the input is a ConstantOfShape of a number other than 0.

    Exporters count so, 0, 1, 2 ... n - 1, where there is no Range yet: every place of n ones.
    """
    given = node.node.inputs[0]
    made = None if given is None else given.producer
    if made is None or made.op_type != "ConstantOfShape" or made.domain not in ("", "ai.onnx"):
        return False
    fill = made.attr("value")
    return fill is not None and fill.size == 1 and bool(fill.numpy().reshape(-1)[0])


@NonZero.reference
def nonzero(x: Any) -> Any:
    if x.ndim == 0:
        # Such an element has no coordinates, only a number: the result is (0, 1) or (0, 0).
        return np.zeros((0, int(bool(x))), np.int64)
    return np.array(np.nonzero(x), np.int64).reshape(x.ndim, -1)


@NonZero.lower
def _(p: Builder, x: Expr) -> Expr:
    filled = x
    while filled.prim in ("broadcast", "reshape"):
        filled = filled.args[0]
    value = p.known(filled) if filled.prim == "constant" and x.shape else None
    if value is None or not value.all():
        raise CannotLower("how many there are depends on the data")
    total = product(x.shape)
    return p.concat([p.reshape(p.iota(x.shape, axis), (1, total)) for axis in range(len(x.shape))], 0)
