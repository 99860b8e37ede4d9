"""Concat and Tile: tensors put behind one another, or one tensor behind itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import DimLike
from gesher.primitives import CannotLower
from gesher.symbolic import decide_lt, fresh, total

from ..axes import axis_of
from ..rules import InferNode, Run
from ..schema import ALL, FLOATS, REQUIRED, Attr, Drop, Input, Inputs, Output, every, op, tensors
from ..sizes import is_plain, is_small, known_ints, length_of, print_sizes

if TYPE_CHECKING:
    from gesher.primitives import Builder, Expr

INT64 = tensors("int64")

# Concat

Concat = (op("Concat", Input("inputs", variadic=True), Output("concat_result"), Attr("axis", "int"), T=FLOATS)
          .since(4, Attr("axis", "int", REQUIRED), T=ALL, behaviour="the axis, 1 where it was not written, is required")
          .since(11, note="an axis may be counted from the end")
          .since(13, T=every(13)))


@Concat.infer
def _(node: InferNode) -> None:
    dtype = next((d for i in range(len(node.inputs)) if (d := node.dtype(i)) is not dtypes.UNDEFINED),
                 dtypes.UNDEFINED)
    shapes = [node.shape(i) for i in range(len(node.inputs))]
    known = next((s for s in shapes if s is not None), None)
    if known is None:
        node.set(0, dtype, None, why="the rank of no input is known")
        return
    axis = axis_of(1 if node["axis"] is None else node["axis"], len(known), node)
    sizes: list[DimLike | None] = list(known)
    for i, shape in enumerate(shapes):
        if shape is None:
            continue
        if len(shape) != len(known):
            node.fail(f"input {i} has the rank {len(shape)}, another has {len(known)}")
        for a, size in enumerate(shape):
            if a != axis:
                sizes[a] = node.unify(sizes[a], size, f"axis {a} of what is joined along axis {axis}")
    parts = [s[axis] for s in shapes if s is not None]
    sizes[axis] = total(parts) if len(parts) == len(shapes) else None
    node.set(0, dtype, sizes, _joined(node, axis) if is_small(sizes) else None, why="" if sizes[axis] is not None else
             "the shape of an input is unknown")


def _joined(node: InferNode, axis: int) -> Any:
    """The known values put together; unknown sizes among known ones become symbols, so that the others are kept."""
    values: list[Any] = [node.value(i) for i in range(len(node.inputs))]
    if all(v is None for v in values):
        return None
    for i, value in enumerate(values):
        if value is None:
            shape, dtype = node.shape(i), node.dtype(i)
            # Lists of sizes only: a symbol for each element of a large tensor would help nobody.
            if shape is None or len(shape) != 1 or not isinstance(shape[0], int) or shape[0] > 8 or \
                    not dtype.is_integer or dtype.bits < 32:
                return None
            array = np.empty(shape[0], object)
            array[:] = [fresh(f"Concat: element {k} of input {i} is not known", min=None) for k in range(shape[0])]
            values[i] = array
    return np.concatenate(values, axis)


@Concat.reference
def concat_1(*inputs: Any, axis: int | None) -> Any:
    return np.concatenate(inputs, 1 if axis is None else axis)


@Concat.reference(since=4)
def concat_4(*inputs: Any, axis: int) -> Any:
    return np.concatenate(inputs, axis)


@Concat.lower
def _(p: Builder, *inputs: Expr, axis: int | None) -> Expr:
    return p.concat(inputs, 1 if axis is None else axis)


# Tile

Tile = (op("Tile", Input("input"), Input("tiles"), Input("axis"), Output("output"), T=FLOATS, T1=INT64)
        .since(6, Drop("tiles"), Drop("axis"), Inputs(Input("input"), Input("repeats", "T1")), T=ALL,
               behaviour="one count for each axis, instead of an axis and its count")
        .since(13, T=every(13)))


def _infer_tile(node: InferNode, repeats: Sequence[DimLike]) -> None:
    dtype, shape = node.dtype(0), node.shape(0)
    if shape is None:
        node.set(0, dtype, [None] * len(repeats), why="the rank of the input is unknown")
        return
    if len(repeats) != len(shape):
        node.fail(f"there are {len(repeats)} repeats for an input of rank {len(shape)}")
    if any(decide_lt(r, 0) for r in repeats):
        node.fail(f"the repeats {print_sizes(repeats)} have a negative count")
    sizes = [d * r for d, r in zip(shape, repeats)]
    value = node.value(0)
    tiled = np.tile(value, repeats) if value is not None and is_plain(repeats) and is_small(sizes) else None
    node.set(0, dtype, sizes, tiled)


@Tile.infer
def _(node: InferNode) -> None:
    tiles, axis, shape = node.numbers(1), node.numbers(2), node.shape(0)
    if shape is None or tiles is None or axis is None:
        node.set(0, node.dtype(0), None if shape is None else [None] * len(shape), why="tiles or axis is not known")
        return
    repeats: list[DimLike] = [1] * len(shape)
    repeats[axis_of(int(axis.reshape(-1)[0]), len(shape), node)] = int(tiles.reshape(-1)[0])
    _infer_tile(node, repeats)


@Tile.infer(since=6)
def _(node: InferNode) -> None:
    repeats = node.ints(1)
    if repeats is None:
        rank = node.rank(0) if node.rank(0) is not None else length_of(node, 1)
        node.set(0, node.dtype(0), None if rank is None else [None] * rank, why="the repeats are not known")
        return
    _infer_tile(node, repeats)


@Tile.reference
def tile_1(x: Any, tiles: Any, axis: Any) -> Any:
    repeats = [1] * x.ndim
    repeats[int(axis.reshape(-1)[0])] = int(tiles.reshape(-1)[0])
    return np.tile(x, repeats)


@Tile.reference(since=6)
def tile_6(x: Any, repeats: Any, *, run: Run) -> Any:
    run.allow([d * r for d, r in zip(x.shape, repeats.tolist())], x.dtype)
    return np.tile(x, repeats.tolist())


@Tile.lower
def _(p: Builder, x: Expr, tiles: Expr, axis: Expr) -> Expr:
    count, at = p.known(tiles), p.known(axis)
    if count is None or at is None:
        raise CannotLower("tiles or axis is not known at compile time")
    repeats: list[DimLike] = [1] * len(x.shape)
    repeats[axis_of(int(at.reshape(-1)[0]), len(x.shape))] = int(count.reshape(-1)[0])
    return _lower_tile(p, x, repeats)


@Tile.lower(since=6)
def _(p: Builder, x: Expr, repeats: Expr) -> Expr:
    return _lower_tile(p, x, known_ints(p, repeats, "the list of repeats"))


def _lower_tile(p: Builder, x: Expr, repeats: Sequence[DimLike]) -> Expr:
    # Each axis gets an axis of repeats before it, and is then joined with that.
    split: list[DimLike] = [s for d in x.shape for s in (1, d)]
    spread = [s for d, r in zip(x.shape, repeats) for s in (r, d)]
    joined = [d * r for d, r in zip(x.shape, repeats)]
    return p.reshape(p.broadcast_to(p.reshape(x, split), spread), joined)
