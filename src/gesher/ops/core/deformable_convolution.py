"""DeformConv: a convolution whose taps are each moved by an offset of their own, and weighted by a mask.

A tap that lies between elements takes their linear interpolation; what lies outside counts as zero. Channels divide
into `offset_group` groups that share offsets, and, apart from that, into `group` groups of the convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.ir import DimLike
from gesher.ir.types import print_shape
from gesher.primitives import Builder, CannotLower, Expr
from gesher.symbolic import decide_eq
from gesher.symbolic import product as total

from ..arithmetic import computed, lowered
from ..places import seen
from ..rules import InferNode
from ..schema import BF16, FLOATS, Attr, Input, Output, op
from ..windows import Windows, lay, pairs, whole

DeformConv = (op("DeformConv", Input("X"), Input("W"), Input("offset"), Input("B", optional=True),
                 Input("mask", optional=True), Output("Y"), Attr("group", "int", 1), Attr("offset_group", "int", 1),
                 Attr("kernel_shape", "ints"), Attr("strides", "ints"), Attr("dilations", "ints"),
                 Attr("pads", "ints"), since=19, T=FLOATS)
              .since(22, T=FLOATS | BF16))


@DeformConv.infer
def _(node: InferNode) -> None:
    x, w, offset, bias, mask = (node.shape(i) for i in range(5))
    if x is None or w is None:
        known = x or w
        node.set(0, node.dtype(0), None if known is None else (None,) * len(known), why="a shape is unknown")
        return
    if len(x) != len(w) or len(x) < 3:
        node.fail(f"X {print_shape(x)} and W {print_shape(w)} do not fit")
    group, shared = node["group"], node["offset_group"]
    if decide_eq(x[1], w[1] * group) is False:
        node.fail(f"x has {x[1]} channels, the weight takes {w[1] * group}",
                  f"x is {print_shape(x)}, w is {print_shape(w)}, group is {group}")
    node.unify(x[1], w[1] * group, "channels of x and of the weight")
    for channels, parts, what in ((w[0], group, "output channels"), (x[1], shared, "channels")):
        if parts < 1 or decide_eq(channels % parts, 0) is False:
            node.fail(f"{channels} {what} do not divide into {parts} groups")
    try:
        at = lay(x[2:], w[2:], strides=node["strides"], dilations=node["dilations"], pads=node["pads"])
    except ModelError as e:
        node.fail(e.what, e.advice)
    taps = total(w[2:])
    for shape, rows, name in ((offset, shared * taps * (len(x) - 2), "the offsets"), (mask, shared * taps, "the mask")):
        if shape is None:
            continue
        if len(shape) != len(x):
            node.fail(f"{name} have {len(x)} axes, not {print_shape(shape)}")
        for i, (want, have) in enumerate(zip((x[0], rows, *at.counts), shape)):
            node.unify(want, have, f"axis {i} of {name} {print_shape(shape)}")
    if bias is not None:
        if len(bias) != 1:
            node.fail(f"the bias has one axis, not {print_shape(bias)}")
        node.unify(bias[0], w[0], "the bias and the output channels")
    node.set(0, node.dtype(0), (x[0], w[0], *at.counts))


# Reference

def _moved(x: Any, places: list[Any], shared: int) -> Any:
    """x (N,C,*) at the places (N,shared,*out) along each spatial axis, interpolated: (N,C,*out)."""
    n, c, *sizes = x.shape
    grouped = np.moveaxis(x.reshape(n, shared, c // shared, *sizes), 2, -1)
    lead = (np.arange(n).reshape(-1, 1, *(1,) * len(sizes)), np.arange(shared).reshape(1, -1, *(1,) * len(sizes)))
    y: Any = 0
    for corner in product((0, 1), repeat=len(sizes)):
        index: list[Any] = []
        weight: Any = np.float32(1)
        inside: Any = np.True_
        for step, place, size in zip(corner, places, sizes):
            low = np.floor(place)
            rest = place - low
            weight = weight * (rest if step else 1 - rest)
            inside = inside & (low + step >= 0) & (low + step < size)
            index.append(np.clip(low + step, 0, size - 1).astype(np.int64))
        seen_ = np.where(inside[..., None], grouped[(*lead, *index)], x.dtype.type(0))
        y = y + seen_ * np.where(inside, weight, 0)[..., None]
    return np.moveaxis(y, -1, 2).reshape(n, c, *y.shape[2:-1])


@DeformConv.reference
@computed
def deform_conv(x: Any, w: Any, offset: Any, b: Any = None, mask: Any = None, *, group: int, offset_group: int,
                kernel_shape: Any = None, **at: Any) -> Any:
    laid = lay(x.shape[2:], w.shape[2:], **at)
    counts, kernel = whole(laid.counts), whole(laid.kernel)
    n, m = len(x), w.shape[0]
    taps = int(np.prod(kernel))
    offset = offset.reshape(n, offset_group, taps, len(kernel), *counts)
    mask = None if mask is None else mask.reshape(n, offset_group, taps, *counts)
    y = np.zeros((n, group, m // group, *counts), x.dtype)
    weights = w.reshape(group, m // group, w.shape[1], taps)
    for k, tap in enumerate(laid.taps()):
        places = []
        for i, (low, _) in enumerate(pairs(laid.pads)):
            start = np.arange(counts[i], dtype=x.dtype) * laid.strides[i] + (tap[i] * laid.dilations[i] - low)
            places.append(start.reshape(-1, *(1,) * (len(kernel) - 1 - i)) + offset[:, :, k, i])
        seen = _moved(x, places, offset_group)
        if mask is not None:
            seen = seen * mask[:, :, k].repeat(x.shape[1] // offset_group, 1)
        seen = seen.reshape(n, group, -1, *counts)
        y = y + np.einsum("gmc,ngc...->ngm...", weights[..., k], seen)
    y = y.reshape(n, m, *counts).astype(x.dtype)
    return y if b is None else y + b.reshape(-1, *(1,) * len(kernel))


# Lowering

def _taps(p: Builder, places: list[Expr], sizes: Sequence[DimLike]) -> tuple[list[Expr], list[Expr]]:
    """The elements around places along each axis: indices among all of a plane, below 0 for none, and weights."""
    indices, weights = [], []
    for corner in product((0, 1), repeat=len(sizes)):
        index, weight, inside = None, None, None
        for step, place, size in zip(corner, places, sizes):
            low = p.floor(place)
            rest = place - low
            part = rest if step else 1.0 - rest
            weight = part if weight is None else weight * part
            at = low + float(step)
            here = p.and_(p.ge(at, 0.0), p.lt(at, p.size(size, at.dtype)))
            inside = here if inside is None else p.and_(inside, here)
            last = p.size(size, at.dtype) - 1.0
            whole_ = p.cast(p.max(p.min(at, last), 0.0), dtypes.INT32)
            index = whole_ if index is None else index * p.size(size, dtypes.INT32) + whole_
        assert index is not None and weight is not None and inside is not None
        indices.append(p.select(inside, index, -1))
        weights.append(p.select(inside, weight, 0.0))
    return indices, weights


def _meaning(p: Builder, x: Expr, w: Expr, offset: Expr, mask: Expr | None, *, at: Windows, group: int, shared: int
             ) -> Expr:
    n, c, *sizes = x.shape
    kernel, rank = whole(at.kernel), len(at.kernel)
    taps, m = int(np.prod(kernel)), w.shape[0]
    out: tuple[DimLike, ...] = at.counts
    offset = p.reshape(offset, (n, shared, taps, rank, *out))
    mask = None if mask is None else p.reshape(mask, (n, shared, taps, *out))
    # (N,shared,taps,*out): where each tap of the kernel looks along each axis.
    places = []
    for i in range(rank):
        steps = np.array([tap[i] * at.dilations[i] for tap in at.taps()], np.int64)
        start = p.cast(p.iota(out, i), x.dtype) * float(at.strides[i]) - p.size(at.pads[i][0], x.dtype)
        tap = p.reshape(p.constant(steps.astype(x.dtype.numpy)), (taps, *(1,) * rank))
        places.append(start + tap + _one(p, offset, 3, i))
    indices, weights_ = _taps(p, places, sizes)
    if mask is not None:
        weights_ = [weight * mask for weight in weights_]
    index, weight = (p.concat([p.reshape(e, (n * shared, 1, taps * total(out))) for e in es], 1)
                     for es in (indices, weights_))
    columns = seen(p, p.reshape(x, (n * shared, c // shared, total(sizes))), index, weight)
    rows = p.reshape(columns, (n, group, c // group * taps, *out))
    weights = p.reshape(w, (group, m // group, c // group * taps))
    y = p.contract(weights, rows, [2], [2], [0], [1])  # (group, M/group, N, *out)
    return p.reshape(p.transpose(y, (2, 0, 1, *range(3, rank + 3))), (n, m, *out))


def _one(p: Builder, x: Expr, axis: int, index: int) -> Expr:
    return p.squeeze(p.take(x, axis, index, index + 1), [axis])


@DeformConv.lower
@lowered
def _(p: Builder, x: Expr, w: Expr, offset: Expr, b: Expr | None = None, mask: Expr | None = None, *, group: int,
      offset_group: int, kernel_shape: Any = None, **at: Any) -> Expr:
    if not all(isinstance(k, int) for k in w.shape[2:]):
        raise CannotLower("the shape of the kernel is not known before running")
    laid = lay(x.shape[2:], w.shape[2:], **at)
    y = p.composite("deform_conv", _meaning, x, w, offset, mask, at=laid, group=group, shared=offset_group)
    y = p.hold(y, "deformable convolution", *laid.demands)
    return y if b is None else y + p.reshape(b, (b.shape[0], *(1,) * (y.rank - 2)))
