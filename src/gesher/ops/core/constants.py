"""Operators that make tensors from nothing but sizes and numbers: Constant, ConstantOfShape, EyeLike, Range, OneHot."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import RunError
from gesher.ir import DimLike, SparseTensor, Tensor
from gesher.ir.tensor import count
from gesher.primitives import CannotLower
from gesher.symbolic import Dim, bounds, ceil_div, decide_gt, decide_lt, maximum

from ..axes import axis_of
from ..fact import VALUE_LIMIT, Fact
from ..rules import InferNode, Run
from ..schema import (
    ALL,
    BF16,
    BOOL,
    E8M0,
    FLOAT4,
    FLOAT8,
    FLOATS,
    INT2,
    INT4,
    NUMBERS,
    REQUIRED,
    Attr,
    Input,
    Output,
    every,
    op,
    tensors,
)
from ..sizes import is_small, known_int, known_ints, length_of, print_sizes, scalar_of

if TYPE_CHECKING:
    from gesher.primitives import Builder, Expr

# Constant

Constant = (op("Constant", Output("output"), Attr("value", "tensor", REQUIRED), T=FLOATS)
            .since(9, T=ALL)
            .since(11, Attr("value", "tensor"), Attr("sparse_value", "sparse_tensor"))
            .since(12, Attr("value_int", "int"), Attr("value_ints", "ints"), Attr("value_float", "float"),
                   Attr("value_floats", "floats"), Attr("value_string", "string"), Attr("value_strings", "strings"))
            .since(13, T=every(13)))
for _v in (19, 21, 23, 24, 25):
    Constant.since(_v, T=every(_v))

# The attributes beside `value` and `sparse_value`, with the type that each makes.
_PLAIN: dict[str, DType] = {
    "value_int": dtypes.INT64, "value_ints": dtypes.INT64, "value_float": dtypes.FLOAT, "value_floats": dtypes.FLOAT,
    "value_string": dtypes.STRING, "value_strings": dtypes.STRING,
}


def constant_of(attributes: dict[str, Any]) -> Tensor | SparseTensor | None:
    """The one tensor that the attributes of a Constant give; None where they are none, or several."""
    given = {name: value for name, value in attributes.items() if value is not None}
    if len(given) != 1:
        return None
    (name, value), = given.items()
    if name in ("value", "sparse_value"):
        return value
    dtype = _PLAIN[name]
    array = np.empty(len(value) if name.endswith("s") else (), dtype.numpy)
    array[...] = value
    return Tensor.of(array, dtype=dtype)


@Constant.infer
def _(node: InferNode) -> None:
    tensor = constant_of({name: node[name] for name in node.schema.attributes})
    if tensor is None:
        node.fail("exactly one of its attributes must give the value")
    if isinstance(tensor, SparseTensor):
        if count(tensor.shape) <= VALUE_LIMIT:
            node.set(0, tensor.values.dtype, tensor.shape, tensor.numpy())
        else:
            node.set(0, tensor.values.dtype, tensor.shape)
    else:
        node.set_fact(0, Fact.of(tensor))


@Constant.reference
def constant(*, run: Run, **attributes: Any) -> Any:
    tensor = constant_of(attributes)
    if tensor is None:
        raise RunError("Constant: exactly one of its attributes must give the value")
    if isinstance(tensor, SparseTensor):
        run.allow(tensor.shape, tensor.values.dtype.numpy)
    return tensor.numpy()


@Constant.lower
def _(p: Builder, **attributes: Any) -> Expr:
    tensor = constant_of(attributes)
    if tensor is None:
        raise CannotLower("it does not have exactly one value")
    return p.constant(tensor.numpy() if isinstance(tensor, SparseTensor) else tensor)


# ConstantOfShape

ConstantOfShape = op("ConstantOfShape", Input("input", "T1"), Output("output", "T2"), Attr("value", "tensor"), since=9,
                     T1=tensors("int64"), T2=NUMBERS | BOOL)
_kinds = NUMBERS | BOOL
for _v, _more in ((20, BF16 | FLOAT8), (21, INT4), (23, FLOAT4), (24, E8M0), (25, INT2)):
    _kinds = _kinds | _more
    ConstantOfShape.since(_v, T2=_kinds)


def _fill(value: Tensor | None) -> tuple[Any, DType]:
    """The element, as a scalar array, and its type."""
    if value is None:
        return np.zeros((), np.float32), dtypes.FLOAT
    if value.size != 1:
        raise RunError(f"ConstantOfShape: the value holds {value.size} elements, it must hold one")
    return value.numpy().reshape(()), value.dtype


@ConstantOfShape.infer
def _(node: InferNode) -> None:
    value = node["value"]
    if value is not None and value.size != 1:
        node.fail(f"the value holds {value.size} elements, it must hold one")
    fill, dtype = _fill(value)
    sizes = node.ints(0)
    if sizes is None:
        length = length_of(node, 0)
        node.set(0, dtype, None if length is None else [None] * length, why="the wanted shape is not known")
        return
    if any(decide_lt(d, 0) for d in sizes):
        node.fail(f"the shape {print_sizes(sizes)} has a negative size")
    node.set(0, dtype, sizes, np.full(sizes, fill, fill.dtype) if is_small(sizes) else None)


@ConstantOfShape.reference
def constant_of_shape(shape: Any, *, value: Tensor | None, run: Run) -> Any:
    fill, _ = _fill(value)
    run.allow(shape.tolist(), fill.dtype)
    return np.full(shape.tolist(), fill, fill.dtype)


@ConstantOfShape.lower
def _(p: Builder, shape: Expr, *, value: Tensor | None) -> Expr:
    fill, dtype = _fill(value)
    return p.broadcast_to(p.constant(fill, dtype), known_ints(p, shape, "the wanted shape"))


# EyeLike

EyeLike = (op("EyeLike", Input("input", "T1"), Output("output", "T2"), Attr("dtype", "int"), Attr("k", "int", 0),
              since=9, T1=NUMBERS | BOOL, T2=NUMBERS | BOOL)
           .since(22, T1=NUMBERS | BF16 | BOOL, T2=NUMBERS | BF16 | BOOL))


@EyeLike.infer
def _(node: InferNode) -> None:
    shape = node.shape(0)
    if shape is not None and len(shape) != 2:
        node.fail(f"the input is no matrix, its shape is {print_sizes(shape)}")
    dtype = node.dtype(0) if node["dtype"] is None else dtypes.BY_CODE.get(node["dtype"])
    if dtype is None:
        node.fail(f"there is no data type {node['dtype']}")
    value = None
    if shape is not None and is_small(shape) and dtype is not dtypes.UNDEFINED:
        value = np.eye(shape[0], shape[1], node["k"], dtype=dtype.numpy)
    node.set(0, dtype, (None, None) if shape is None else shape, value)


@EyeLike.reference
def eye_like(x: Any, *, dtype: int | None, k: int) -> Any:
    rows, columns = x.shape
    return np.eye(rows, columns, k, dtype=x.dtype if dtype is None else dtypes.by_code(dtype).numpy)


@EyeLike.lower
def _(p: Builder, x: Expr, *, dtype: int | None, k: int) -> Expr:
    on_diagonal = p.eq(p.iota(x.shape, 1), p.iota(x.shape, 0) + k)
    return p.cast(on_diagonal, x.dtype if dtype is None else dtypes.by_code(dtype))


# Range

Range = (op("Range", Input("start"), Input("limit"), Input("delta"), Output("output"), since=11,
            T=tensors("float double int16 int32 int64"))
         .since(27, Attr("stash_type", "int", 1), T=FLOATS | BF16 | tensors("int16 int32 int64")))


def range_length(start: Any, limit: Any, delta: Any) -> DimLike | None:
    """max(ceil((limit - start) / delta), 0) of numbers or sizes; None where it cannot be told.

    Raises:
        ZeroDivisionError: the step is the number 0.
    """
    if any(isinstance(x, Dim) for x in (start, limit, delta)):
        if decide_gt(delta, 0) or decide_lt(delta, 0):
            return maximum(ceil_div(limit - start, delta), 0)
        return None
    if isinstance(start, int):
        return max(-((start - limit) // delta), 0)
    # Counted in double, whatever the type: rounded to float32, (-1.6 - 0.8) / -0.1 would be more than 24.
    return max(math.ceil((float(limit) - float(start)) / float(delta)), 0)


class _Steps:
    """A Range of known numbers (scalar arrays of one type): how long it is, then what is in it.

    Raises:
        RunError: the step is 0, or an end is not finite.
    """

    def __init__(self, start: Any, limit: Any, delta: Any, stash_type: int | None):
        self.dtype = start.dtype
        if self.dtype.kind == "i":
            plain = [int(x) for x in (start, limit, delta)]
        else:
            if self.dtype.itemsize == 2:
                stash = dtypes.by_code(stash_type or dtypes.FLOAT.code).numpy
                start, limit, delta = (x.astype(stash) for x in (start, limit, delta))
            plain = [start, limit, delta]
        if not plain[2] or not all(math.isfinite(x) for x in (*plain, float(plain[1]) - float(plain[0]))):
            raise RunError(f"Range: from {start} to {limit} by {delta} has no length")
        self.start, self.delta, self.length = start, delta, range_length(*plain)

    def values(self) -> Any:
        with np.errstate(all="ignore"):
            counted = np.arange(self.length).astype(self.start.dtype)  # type: ignore[arg-type]
            return (self.start + counted * self.delta).astype(self.dtype)


@Range.infer
def _(node: InferNode) -> None:
    given = [v for i in range(3) if (v := node.value(i)) is not None and v.size == 1]
    dtype = next((d for i in range(3) if (d := node.dtype(i)) is not dtypes.UNDEFINED), dtypes.UNDEFINED)
    if len(given) < 3:
        node.set(0, dtype, (None,), why="start, limit and delta are not all known")
        return
    numbers = [n.reshape(()) for i in range(3) if (n := node.numbers(i)) is not None]
    if len(numbers) < 3:
        length = range_length(*(v.reshape(-1).tolist()[0] for v in given))
        node.set(0, dtype, (length,), why="the sign of the step is open")
        return
    try:
        steps = _Steps(numbers[0], numbers[1], numbers[2], node["stash_type"] if node.version >= 27 else None)
    except RunError as e:
        node.fail(e.what.removeprefix("Range: "))
    node.set(0, dtype, (steps.length,), steps.values() if is_small((steps.length,)) else None)


@Range.reference
def range_(start: Any, limit: Any, delta: Any, *, stash_type: int | None = None, run: Run) -> Any:
    steps = _Steps(start.reshape(()), limit.reshape(()), delta.reshape(()), stash_type)
    run.allow([steps.length], steps.dtype)  # type: ignore[list-item]
    return steps.values()


@Range.lower
def _(p: Builder, start: Expr, limit: Expr, delta: Expr, *, stash_type: int | None = None) -> Expr:
    dtype = start.dtype
    start, limit, delta = (p.reshape(x, ()) for x in (start, limit, delta))
    values = [p.known(x) for x in (start, limit, delta)]
    if any(v is None for v in values):
        raise CannotLower("start, limit and delta are not all known at compile time")
    wide = dtype if dtype.bits > 16 or dtype.is_integer else dtypes.by_code(stash_type or dtypes.FLOAT.code)
    ends = [v.reshape(-1).tolist()[0] if dtype.is_integer else v.reshape(()).astype(wide.numpy)
            for v in values if v is not None]
    if not isinstance(ends[2], Dim) and not ends[2]:
        raise CannotLower("the step is 0")
    length = range_length(*ends)
    if length is None:
        raise CannotLower("the sign of the step is open")
    start, delta = p.cast(start, wide), p.cast(delta, wide)
    return p.cast(p.iota((length,), 0, wide) * delta + start, dtype)


# OneHot

OneHot = (op("OneHot", Input("indices", "T1"), Input("depth", "T2"), Input("values", "T3"), Output("output", "T3"),
             Attr("axis", "int", -1), since=9, T1=NUMBERS, T2=NUMBERS, T3=ALL)
          .since(11, behaviour="negative indices count from the end")
          .since(28, T3=every(13)))


@OneHot.infer
def _(node: InferNode) -> None:
    shape, numbers = node.shape(0), node.numbers(1)
    depth = int(numbers.reshape(-1)[0]) if numbers is not None and numbers.size == 1 else scalar_of(node, 1)
    if depth is not None and bounds(depth)[1] is not None and bounds(depth)[1] < 1:  # type: ignore[operator]
        node.fail(f"the depth is {depth}, it must be positive")
    sizes, values = node.shape(1), node.shape(2)
    if sizes is not None and (len(sizes) > 1 or any(isinstance(d, int) and d != 1 for d in sizes)):
        node.fail(f"the depth is one number, not of shape {print_sizes(sizes)}")
    if values is not None:
        if len(values) != 1:
            node.fail(f"the values are two numbers, off and on, not of shape {print_sizes(values)}")
        node.unify(values[0], 2, "the values are two numbers, off and on")
    if shape is None:
        node.set(0, node.dtype(2), None, why="the rank of the indices is unknown")
        return
    axis = axis_of(node["axis"], len(shape) + 1, node)
    node.set(0, node.dtype(2), (*shape[:axis], depth, *shape[axis:]), why="" if depth is not None else
             "the depth is not known")


def _one_hot(indices: Any, depth: Any, values: Any, axis: int, wrap: bool, run: Run) -> Any:
    size = int(depth.reshape(-1)[0])
    if size < 1:
        raise RunError(f"OneHot: the depth is {size}, it must be positive")
    run.allow((*indices.shape, size), values.dtype)
    with np.errstate(all="ignore"):
        at = indices.astype(np.int64)
    if wrap:
        at = np.where(at < 0, at + size, at)
    axis = axis_of(axis, indices.ndim + 1)
    lane = np.arange(size).reshape([size if i == axis else 1 for i in range(indices.ndim + 1)])
    return np.where(np.expand_dims(at, axis) == lane, values[1], values[0]).astype(values.dtype)


@OneHot.reference
def one_hot_9(indices: Any, depth: Any, values: Any, *, axis: int, run: Run) -> Any:
    return _one_hot(indices, depth, values, axis, False, run)


@OneHot.reference(since=11)
def one_hot_11(indices: Any, depth: Any, values: Any, *, axis: int, run: Run) -> Any:
    return _one_hot(indices, depth, values, axis, True, run)


@OneHot.lower
def _(p: Builder, indices: Expr, depth: Expr, values: Expr, *, axis: int) -> Expr:
    size = known_int(p, depth, "the depth")
    at = p.cast(indices, dtypes.INT64)
    if p.version >= 11:
        at = p.select(at < 0, at + size, at)
    axis = axis_of(axis, len(indices.shape) + 1)
    shape = (*indices.shape[:axis], size, *indices.shape[axis:])
    hot = p.eq(p.broadcast_to(p.expand_dims(at, axis), shape), p.iota(shape, axis))
    off, on = (p.reshape(p.take(values, 0, i, i + 1), ()) for i in (0, 1))
    return p.select(hot, on, off)

