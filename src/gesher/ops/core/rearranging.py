"""Operators that put elements elsewhere: Transpose, DepthToSpace, SpaceToDepth, ReverseSequence, Trilu."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import RunError
from gesher.symbolic import exact_div

from ..axes import axes_of
from ..fact import VALUE_LIMIT
from ..rules import InferNode
from ..schema import ALL, REQUIRED, Attr, Input, Output, every, op
from ..sizes import numbers_of, print_sizes

if TYPE_CHECKING:
    from gesher.primitives import Builder, Expr

# Transpose

Transpose = (op("Transpose", Input("data"), Output("transposed"), Attr("perm", "ints"), T=ALL)
             .since(13, T=every(13)))
for _v in (21, 23, 24, 25):
    Transpose.since(_v, T=every(_v))


@Transpose.infer
def _(node: InferNode) -> None:
    shape, perm = node.shape(0), node["perm"]
    if shape is None:
        node.set(0, node.dtype(0), None if perm is None else [None] * len(perm), why="the rank of the input is unknown")
        return
    order = list(range(len(shape)))[::-1] if perm is None else axes_of(perm, len(shape), node)
    if len(order) != len(shape):
        node.fail(f"perm {list(perm)} does not order {len(shape)} axes")
    value = node.value(0)
    node.set(0, node.dtype(0), [shape[a] for a in order], None if value is None else value.transpose(order))


@Transpose.reference
def transpose(x: Any, *, perm: Sequence[int] | None) -> Any:
    return x.transpose(perm)


@Transpose.lower
def _(p: Builder, x: Expr, *, perm: Sequence[int] | None) -> Expr:
    return p.transpose(x, perm)


# DepthToSpace and SpaceToDepth

DepthToSpace = (op("DepthToSpace", Input("input"), Output("output"), Attr("blocksize", "int", REQUIRED), T=ALL)
                .since(11, Attr("mode", "string", "DCR"))
                .since(13, T=every(13))
                .since(28))
SpaceToDepth = (op("SpaceToDepth", Input("input"), Output("output"), Attr("blocksize", "int", REQUIRED), T=ALL)
                .since(13, T=every(13))
                .since(28, Attr("mode", "string", "DCR")))


def _blocks(node: InferNode) -> tuple[Any, int]:
    """The shape of the picture and the size of its blocks, both seen to be fit."""
    shape, block = node.shape(0), node["blocksize"]
    if block < 1:
        node.fail(f"the blocksize is {block}, it must be positive")
    if shape is not None and len(shape) != 4:
        node.fail(f"the input is (N,C,H,W), not of shape {print_sizes(shape)}")
    mode = node["mode"] if "mode" in node.schema.attributes else "DCR"
    if mode not in ("DCR", "CRD"):
        node.fail(f"there is no mode {mode!r}")
    return shape, block


@DepthToSpace.infer
def _(node: InferNode) -> None:
    shape, block = _blocks(node)
    if shape is None:
        node.set(0, node.dtype(0), [None] * 4, why="the shape of the input is unknown")
        return
    n, c, h, w = shape
    if isinstance(c, int) and c % block**2:
        node.fail(f"{c} channels do not divide into blocks of {block} by {block}")
    node.set(0, node.dtype(0), (n, exact_div(c, block**2), h * block, w * block))


@SpaceToDepth.infer
def _(node: InferNode) -> None:
    shape, block = _blocks(node)
    if shape is None:
        node.set(0, node.dtype(0), [None] * 4, why="the shape of the input is unknown")
        return
    n, c, h, w = shape
    if any(isinstance(d, int) and d % block for d in (h, w)):
        node.fail(f"a picture of {h} by {w} does not divide into blocks of {block} by {block}")
    node.set(0, node.dtype(0), (n, c * block**2, exact_div(h, block), exact_div(w, block)))


@DepthToSpace.reference
def depth_to_space(x: Any, *, blocksize: int, mode: str = "DCR") -> Any:
    n, c, h, w = x.shape
    b, depth = blocksize, c // blocksize**2
    if mode == "CRD":
        split = x.reshape(n, depth, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    else:
        split = x.reshape(n, b, b, depth, h, w).transpose(0, 3, 4, 1, 5, 2)
    return split.reshape(n, depth, h * b, w * b)


@SpaceToDepth.reference
def space_to_depth(x: Any, *, blocksize: int, mode: str = "DCR") -> Any:
    n, c, h, w = x.shape
    b = blocksize
    split = x.reshape(n, c, h // b, b, w // b, b)
    order = (0, 1, 3, 5, 2, 4) if mode == "CRD" else (0, 3, 5, 1, 2, 4)
    return split.transpose(order).reshape(n, c * b * b, h // b, w // b)


@DepthToSpace.lower
def _(p: Builder, x: Expr, *, blocksize: int, mode: str = "DCR") -> Expr:
    n, c, h, w = x.shape
    b, depth = blocksize, exact_div(c, blocksize**2)
    split, order = ((n, depth, b, b, h, w), (0, 1, 4, 2, 5, 3)) if mode == "CRD" else \
        ((n, b, b, depth, h, w), (0, 3, 4, 1, 5, 2))
    return p.reshape(p.transpose(p.reshape(x, split), order), (n, depth, h * b, w * b))


@SpaceToDepth.lower
def _(p: Builder, x: Expr, *, blocksize: int, mode: str = "DCR") -> Expr:
    n, c, h, w = x.shape
    b = blocksize
    rows, columns = exact_div(h, b), exact_div(w, b)
    split = p.reshape(x, (n, c, rows, b, columns, b))
    order = (0, 1, 3, 5, 2, 4) if mode == "CRD" else (0, 3, 5, 1, 2, 4)
    return p.reshape(p.transpose(split, order), (n, c * b * b, rows, columns))


# ReverseSequence

ReverseSequence = (op("ReverseSequence", Input("input"), Input("sequence_lens", "tensor(int64)"), Output("Y"),
                      Attr("batch_axis", "int", 1), Attr("time_axis", "int", 0), since=10, T=ALL)
                   .since(28, T=every(13)))


@ReverseSequence.infer
def _(node: InferNode) -> None:
    shape, lengths = node.shape(0), node.shape(1)
    axes = (node["batch_axis"], node["time_axis"])
    if sorted(axes) != [0, 1]:
        node.fail(f"batch_axis and time_axis are {axes[0]} and {axes[1]}, they must be 0 and 1 or 1 and 0")
    if shape is not None and len(shape) < 2:
        node.fail(f"the input has the rank {len(shape)}, it needs a time axis and a batch axis")
    if shape is not None and lengths is not None:
        if len(lengths) != 1:
            node.fail(f"the lengths are a list, not of shape {print_sizes(lengths)}")
        node.unify(shape[axes[0]], lengths[0], "a length for each sequence of the batch")
    node.set(0, node.dtype(0), shape)


@ReverseSequence.reference
def reverse_sequence(x: Any, lengths: Any, *, batch_axis: int, time_axis: int) -> Any:
    size = x.shape[time_axis]
    if np.any((lengths < 0) | (lengths > size)):
        raise RunError(f"ReverseSequence: a length is not within [0, {size}]")
    out = x.copy()
    rows, source = np.moveaxis(out, (batch_axis, time_axis), (0, 1)), np.moveaxis(x, (batch_axis, time_axis), (0, 1))
    for i, n in enumerate(lengths.tolist()):
        rows[i, :n] = source[i, :n][::-1]
    return out


@ReverseSequence.lower
def _(p: Builder, x: Expr, lengths: Expr, *, batch_axis: int, time_axis: int) -> Expr:
    both = (x.shape[0], x.shape[1])
    place = p.iota(both, time_axis)
    ends = p.broadcast_to(p.expand_dims(lengths, time_axis), both)
    source = p.select(place < ends, ends - 1 - place, place)
    # A length below 0 would leave all in place; it points outside instead, so that the run is refused.
    source = p.select(ends < 0, p.size(both[time_axis]), source)
    # Everything behind the two axes moves as one, along the time axis.
    rest = x.shape[2:]
    indices = p.reshape(source, (*both, *[1] * len(rest)))
    return p.gather_along(x, p.broadcast_to(indices, x.shape), time_axis)


# Trilu

Trilu = op("Trilu", Input("input"), Input("k", "tensor(int64)", optional=True), Output("output"),
           Attr("upper", "int", 1), since=14, T=every(13))


@Trilu.infer
def _(node: InferNode) -> None:
    shape = node.shape(0)
    if shape is not None and len(shape) < 2:
        node.fail(f"the input has the rank {len(shape)}, it is no matrix")
    k = numbers_of(node, 1) if node.has(1) else [0]
    value = node.numbers(0)
    known = None
    if shape is not None and value is not None and k is not None and value.size <= VALUE_LIMIT:
        known = trilu(value, np.array(k, np.int64), upper=node["upper"])
    node.set(0, node.dtype(0), shape, known)


@Trilu.reference
def trilu(x: Any, k: Any = None, *, upper: int) -> Any:
    # A shift beyond the matrix means all or nothing, but numpy would count with it in 64 bits.
    shift = 0 if k is None else max(min(int(k.reshape(-1)[0]), x.shape[-1]), -x.shape[-2])
    column, row = np.arange(x.shape[-1]), np.arange(x.shape[-2])[:, None]
    keep = column - row >= shift if upper else column - row <= shift
    return np.where(keep, x, "" if x.dtype == object else x.dtype.type(0))


@Trilu.lower
def _(p: Builder, x: Expr, k: Expr | None = None, *, upper: int) -> Expr:
    rows, columns = x.shape[-2:]
    offset = p.iota((rows, columns), 1) - p.iota((rows, columns), 0)
    shift = p.scalar(0, dtypes.INT64) if k is None else p.reshape(k, ())
    return p.select(offset >= shift if upper else offset <= shift, x, p.scalar(0, x.dtype))
