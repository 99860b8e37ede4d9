"""Operators that ask for a shape or give the same elements another one, in the same order.

Sizes travel through models as small integer tensors (Shape, Gather, Concat, Reshape). Their known values are carried
along as arrays of `int` and `Dim`, so that a Reshape to `[Shape(x)[0], -1, 768]` has an exact symbolic shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import RunError
from gesher.ir import DimLike, print_shape
from gesher.ir.tensor import count
from gesher.primitives import CannotLower
from gesher.primitives import shapes as primitive_shapes
from gesher.symbolic import Dim, bounds, decide_eq, decide_gt, exact_div, product

from ..axes import axes_of
from ..broadcasting import broadcast_shapes
from ..rules import InferNode, Run
from ..schema import ALL, FLOATS, REQUIRED, Attr, Drop, Input, Inputs, Output, every, op, tensors
from ..sizes import is_plain, is_small, known_ints, length_of, numbers_of, plain_ints, print_sizes, same_elements

if TYPE_CHECKING:
    from gesher.primitives import Builder, Expr

INT64 = tensors("int64")


# Shape and Size

Shape = op("Shape", Input("data"), Output("shape", "T1"), T=ALL, T1=INT64)
Shape.since(13, T=every(13))
Shape.since(15, Attr("start", "int", 0), Attr("end", "int"))
Size = op("Size", Input("data"), Output("size", "T1"), T=ALL, T1=INT64)
Size.since(13, T=every(13))
for _v in (19, 21, 23, 24, 25):
    Shape.since(_v, T=every(_v))
    Size.since(_v, T=every(_v))


@Shape.infer
def _(node: InferNode) -> None:
    shape = node.shape(0)
    if shape is None:
        # Without a cut the length is the rank, whatever that is.
        node.set(0, dtypes.INT64, (None,), why="the rank of the input is unknown")
        return
    if node.version >= 15:
        shape = shape[node["start"]:node["end"]]
    node.set(0, dtypes.INT64, (len(shape),), list(shape))


@Shape.reference
def shape(data: Any, *, start: int = 0, end: int | None = None) -> Any:
    # Python's slices clamp both ends to [0, rank] just as the operator does.
    return np.array(data.shape[start:end], np.int64)


@Shape.lower
def _(p: Builder, data: Expr, *, start: int = 0, end: int | None = None) -> Expr:
    return sizes_as_tensor(p, data.shape[start:end])


@Size.infer
def _(node: InferNode) -> None:
    shape = node.shape(0)
    node.set(0, dtypes.INT64, (), None if shape is None else product(shape))


@Size.reference
def size(data: Any) -> Any:
    return np.array(data.size, np.int64)


@Size.lower
def _(p: Builder, data: Expr) -> Expr:
    return p.size(product(data.shape))


def sizes_as_tensor(p: Builder, sizes: Sequence[DimLike]) -> Expr:
    """Sizes as an int64 list in the graph."""
    if is_plain(sizes):
        return p.constant(np.array(sizes, np.int64))
    return p.concat([p.reshape(p.size(d), (1,)) for d in sizes], 0)


# Reshape

Reshape = (op("Reshape", Input("data"), Output("reshaped"), Attr("consumed_inputs", "ints"), Attr("shape", "ints"),
              T=FLOATS)
           .since(5, Drop("consumed_inputs"), Drop("shape"), Inputs(Input("data"), Input("shape", "tensor(int64)")),
                  T=ALL, behaviour="the shape is an input")
           .since(13, T=every(13))
           .since(14, Attr("allowzero", "int", 0)))
for _v in (19, 21, 23, 24, 25):
    Reshape.since(_v, T=every(_v))


def reshaped(shape: Sequence[DimLike] | None, wanted: Sequence[DimLike], keep_zero: bool,
             node: InferNode | None = None) -> list[DimLike | None]:
    """The shape that `wanted` asks for, None for a dim that cannot be told.

    A 0 stands for the input's dim at that place (unless `keep_zero`), one -1 for what is left. A `Dim` is meant as a
    size, but for a bare unknown symbol that might be -1 as well: alone, it is what is left in either case.
    """
    sizes: list[DimLike | None] = []
    left: list[int] = []
    unknown: list[int] = []
    for i, d in enumerate(wanted):
        if isinstance(d, Dim):
            sizes.append(d)
            if d.op == "sym" and (bounds(d)[0] is None or bounds(d)[0] < 0):  # type: ignore[operator]
                unknown.append(i)
        elif d == -1:
            left.append(i)
            sizes.append(None)
        elif d < -1:
            _refuse(node, f"the shape {print_sizes(wanted)} has the size {d}")
        elif d == 0 and not keep_zero:
            if shape is not None and i >= len(shape):
                _refuse(node, f"the shape {print_sizes(wanted)} copies dim {i} of an input of rank {len(shape)}")
            sizes.append(None if shape is None else shape[i])
        else:
            sizes.append(d)
    if len(left) > 1:
        _refuse(node, f"the shape {print_sizes(wanted)} has more than one -1")
    open_ones = left + unknown
    if shape is None or len(open_ones) > 1:
        for i in open_ones:
            sizes[i] = None
        return sizes
    total = product(shape)
    others = product(d for i, d in enumerate(sizes) if i not in open_ones and d is not None)
    if not open_ones:
        if decide_eq(total, others) is False:
            _refuse(node, f"{print_sizes(shape)} has {total} elements, the shape {print_sizes(wanted)} has {others}")
        return sizes
    if isinstance(others, int) and (others == 0 or (isinstance(total, int) and total % others)):
        if unknown:
            sizes[unknown[0]] = None
            return sizes
        _refuse(node, f"the {total} elements of {print_sizes(shape)} do not divide into {print_sizes(wanted)}")
    sizes[open_ones[0]] = exact_div(total, others)
    return sizes


def _refuse(node: InferNode | None, what: str) -> None:
    if node is not None:
        node.fail(what)
    raise CannotLower(what)


def _set_reshaped(node: InferNode, wanted: Sequence[DimLike] | None, length: int | None, keep_zero: bool) -> None:
    if wanted is None:
        node.set(0, node.dtype(0), None if length is None else [None] * length, why="the wanted shape is not known")
        return
    sizes = [node.fresh(f"size {i} of the wanted shape {print_sizes(wanted)} cannot be told") if d is None else d
             for i, d in enumerate(reshaped(node.shape(0), wanted, keep_zero, node))]
    node.set(0, node.dtype(0), sizes, same_elements(node.value(0), sizes))


@Reshape.infer
def _(node: InferNode) -> None:
    wanted = node["shape"]
    if wanted is None:
        node.fail("the attribute 'shape' is missing")
    _set_reshaped(node, wanted, len(wanted), False)


@Reshape.infer(since=5)
def _(node: InferNode) -> None:
    _set_reshaped(node, node.ints(1), length_of(node, 1), node.version >= 14 and bool(node["allowzero"]))


@Reshape.reference
def reshape_1(data: Any, *, shape: Sequence[int], consumed_inputs: object = None) -> Any:
    return reshape(data, np.array(shape, np.int64))


@Reshape.reference(since=5)
def reshape(data: Any, shape: Any, *, allowzero: int = 0) -> Any:
    sizes = shape.reshape(-1).tolist()
    if not allowzero:
        sizes = [data.shape[i] if d == 0 else d for i, d in enumerate(sizes)]
    return data.reshape(sizes)


@Reshape.lower
def _(p: Builder, data: Expr, *, shape: Sequence[int], consumed_inputs: object = None) -> Expr:
    return _lower_reshape(p, data, shape, False)


@Reshape.lower(since=5)
def _(p: Builder, data: Expr, shape: Expr, *, allowzero: int = 0) -> Expr:
    return _lower_reshape(p, data, known_ints(p, shape, "the wanted shape"), bool(allowzero))


def _lower_reshape(p: Builder, data: Expr, wanted: Sequence[DimLike], keep_zero: bool) -> Expr:
    sizes = [d for d in reshaped(data.shape, wanted, keep_zero) if d is not None]
    if len(sizes) != len(wanted):
        raise CannotLower(f"the shape {print_sizes(wanted)} is not known at compile time")
    # A number that a run may bring as 0 would copy the input's dim; only what fits in any case is surely a size.
    unsure = not keep_zero and -1 not in wanted and any(
        isinstance(d, Dim) and d.is_fresh and not decide_gt(d, 0) for d in wanted)
    if unsure and not decide_eq(product(data.shape), product(sizes)):
        raise CannotLower(f"a size of {print_sizes(wanted)} may be 0, which copies")
    return p.reshape(data, tuple(sizes))


# Flatten

Flatten = (op("Flatten", Input("input"), Output("output"), Attr("axis", "int", 1), T=FLOATS)
           .since(9, T=ALL)
           .since(11, note="an axis may be counted from the end")
           .since(13, T=every(13)))
for _v in (21, 23, 24, 25):
    Flatten.since(_v, T=every(_v))


@Flatten.infer
def _(node: InferNode) -> None:
    shape = node.shape(0)
    if shape is None:
        node.set(0, node.dtype(0), (node.fresh("the rank of the input is unknown"),
                                    node.fresh("the rank of the input is unknown")))
        return
    axis = node["axis"]
    # Unlike other axes this one may stand behind the last.
    if not (-len(shape) if node.version >= 11 else 0) <= axis <= len(shape):
        node.fail(f"axis {axis} does not cut an input of rank {len(shape)}")
    axis = axis + len(shape) if axis < 0 else axis
    sizes = (product(shape[:axis]), product(shape[axis:]))
    node.set(0, node.dtype(0), sizes, same_elements(node.value(0), sizes))


@Flatten.reference
def flatten(x: Any, *, axis: int) -> Any:
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(count(x.shape[:axis]), count(x.shape[axis:]))


@Flatten.lower
def _(p: Builder, x: Expr, *, axis: int) -> Expr:
    axis = axis + len(x.shape) if axis < 0 else axis
    return p.reshape(x, (product(x.shape[:axis]), product(x.shape[axis:])))


# Squeeze and Unsqueeze

Squeeze = (op("Squeeze", Input("data"), Output("squeezed"), Attr("axes", "ints"), T=ALL)
           .since(11, note="an axis may be counted from the end")
           .since(13, Input("data"), Drop("axes"), Input("axes", "tensor(int64)", optional=True), T=every(13),
                  behaviour="the axes are an input"))
Unsqueeze = (op("Unsqueeze", Input("data"), Output("expanded"), Attr("axes", "ints", REQUIRED), T=ALL)
             .since(11, note="an axis may be counted from the end")
             .since(13, Drop("axes"), Input("axes", "tensor(int64)"), T=every(13), behaviour="the axes are an input"))
for _v in (21, 23, 24, 25):
    Squeeze.since(_v, T=every(_v))
    Unsqueeze.since(_v, T=every(_v))


def _given_axes(node: InferNode) -> list[int] | None:
    """The axes of a Squeeze or Unsqueeze, by attribute or input; None where they are not known."""
    if node.version < 13:
        return None if node["axes"] is None else list(node["axes"])
    return numbers_of(node, 1)


@Squeeze.infer
def _(node: InferNode) -> None:
    dtype, shape = node.dtype(0), node.shape(0)
    given = node["axes"] is not None if node.version < 13 else node.has(1)
    if not given:
        if shape is None or any(decide_eq(d, 1) is None for d in shape):
            node.set(0, dtype, None, why="which dims are 1 depends on sizes that are not known")
            return
        sizes = [d for d in shape if decide_eq(d, 1) is False]
    else:
        axes = _given_axes(node)
        if shape is None:
            node.set(0, dtype, None, why="the rank of the input is unknown")
            return
        if axes is None:
            count = length_of(node, 1)
            node.set(0, dtype, None if count is None else [None] * (len(shape) - count), why="the axes are not known")
            return
        gone = axes_of(axes, len(shape), node)
        for a in gone:
            node.unify(shape[a], 1, f"dim {a} is squeezed away, so it is 1")
        sizes = [d for i, d in enumerate(shape) if i not in gone]
    node.set(0, dtype, sizes, same_elements(node.value(0), sizes))


@Squeeze.reference
def squeeze(data: Any, axes: Any = None, **attribute: Any) -> Any:
    axes = attribute.get("axes", axes)
    return data.squeeze(None if axes is None else tuple(np.asarray(axes, np.int64).reshape(-1).tolist()))


@Squeeze.lower
def _(p: Builder, data: Expr, *, axes: Sequence[int] | None) -> Expr:
    return _lower_squeeze(p, data, axes)


@Squeeze.lower(since=13)
def _(p: Builder, data: Expr, axes: Expr | None = None) -> Expr:
    return _lower_squeeze(p, data, None if axes is None else plain_ints(p, axes, "the list of axes"))


def _lower_squeeze(p: Builder, data: Expr, axes: Sequence[int] | None) -> Expr:
    if axes is None:
        ones = [decide_eq(d, 1) for d in data.shape]
        if None in ones:
            raise CannotLower("which dims are 1 depends on symbolic sizes")
        gone = [i for i, one in enumerate(ones) if one]
    else:
        gone = axes_of(axes, len(data.shape))
    return p.reshape(data, tuple(d for i, d in enumerate(data.shape) if i not in gone))


@Unsqueeze.infer
def _(node: InferNode) -> None:
    dtype, shape, axes = node.dtype(0), node.shape(0), _given_axes(node)
    if shape is None:
        node.set(0, dtype, None, why="the rank of the input is unknown")
        return
    if axes is None:
        count = length_of(node, 1)
        node.set(0, dtype, None if count is None else [None] * (len(shape) + count), why="the axes are not known")
        return
    sizes = unsqueezed(shape, axes_of(axes, len(shape) + len(axes), node))
    node.set(0, dtype, sizes, same_elements(node.value(0), sizes))


def unsqueezed(shape: Sequence[DimLike], axes: Sequence[int]) -> list[DimLike]:
    """`shape` with a 1 at each of `axes`, which count places of the result."""
    rest = iter(shape)
    return [1 if i in axes else next(rest) for i in range(len(shape) + len(axes))]


@Unsqueeze.reference
def unsqueeze(data: Any, axes: Any = None, **attribute: Any) -> Any:
    axes = np.asarray(attribute.get("axes", axes), np.int64).reshape(-1).tolist()
    return np.expand_dims(data, tuple(axes))


@Unsqueeze.lower
def _(p: Builder, data: Expr, *, axes: Sequence[int]) -> Expr:
    return _lower_unsqueeze(p, data, axes)


@Unsqueeze.lower(since=13)
def _(p: Builder, data: Expr, axes: Expr) -> Expr:
    return _lower_unsqueeze(p, data, plain_ints(p, axes, "the list of axes"))


def _lower_unsqueeze(p: Builder, data: Expr, axes: Sequence[int]) -> Expr:
    return p.reshape(data, tuple(unsqueezed(data.shape, axes_of(axes, len(data.shape) + len(axes)))))


# Expand

Expand = (op("Expand", Input("input"), Input("shape", "tensor(int64)"), Output("output"), since=8, T=ALL)
          .since(13, T=every(13)))


@Expand.infer
def _(node: InferNode) -> None:
    dtype, shape, wanted = node.dtype(0), node.shape(0), node.ints(1)
    if wanted is None:
        length = length_of(node, 1)
        known = shape is not None and length is not None
        rank = max(len(shape), length) if shape is not None and length is not None else 0
        node.set(0, dtype, [None] * rank if known else None, why="the wanted shape is not known")
        return
    if shape is None:
        node.set(0, dtype, None, why="the rank of the input is unknown")
        return
    if any(isinstance(d, int) and d < 0 for d in wanted):
        node.fail(f"the shape {print_sizes(wanted)} has a negative size")
    sizes = broadcast_shapes(node, [shape, wanted])
    assert sizes is not None  # both ranks are known
    value = node.value(0)
    node.set(0, dtype, sizes, np.broadcast_to(value, sizes) if value is not None and is_small(sizes) else None)


@Expand.reference
def expand(x: Any, shape: Any, *, run: Run) -> Any:
    wanted = tuple(shape.tolist())
    if min(wanted, default=0) < 0:
        raise RunError(f"Expand: the shape {print_shape(wanted)} has a negative size")
    try:
        sizes = np.broadcast_shapes(x.shape, wanted)
    except ValueError as e:
        raise RunError(f"Expand: {print_shape(x.shape)} does not broadcast with {print_shape(wanted)}") from e
    run.allow(sizes, x.dtype)
    return np.broadcast_to(x, sizes).copy()


@Expand.lower
def _(p: Builder, x: Expr, shape: Expr) -> Expr:
    wanted = tuple(known_ints(p, shape, "the wanted shape"))
    y = p.broadcast_to(x, primitive_shapes.broadcast("expand", x.shape, wanted))
    return p.hold(y, "expand", *(("repeats", d, size) for d, size in zip(wanted, y.shape[y.rank - len(wanted):])))
