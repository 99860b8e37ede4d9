"""MaxUnpool and Col2Im put what came from windows back into a picture."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base.errors import ModelError
from gesher.ir import DimLike
from gesher.ir.types import print_shape
from gesher.primitives import Builder, CannotLower, Expr
from gesher.symbolic import decide_eq, maximum, minimum, product

from ..arithmetic import wide, widen
from ..rules import InferNode
from ..schema import BF16, BOOL, COMPLEX, FLOATS, NUMBERS, REQUIRED, STRING, Attr, Input, Output, op, tensors
from ..windows import Windows, explicit_pads, lay, pairs, per_axis, whole

_INT64 = tensors("int64")
_LIST = "tensor(int64)"

MaxUnpool = (op("MaxUnpool", Input("X", "T1"), Input("I", "T2"), Input("output_shape", "T2", optional=True),
                Output("output", "T1"), Attr("kernel_shape", "ints", REQUIRED), Attr("strides", "ints"),
                Attr("pads", "ints"), since=9, T1=FLOATS, T2=_INT64)
             .since(11)
             .since(22, T1=FLOATS | BF16))

Col2Im = op("Col2Im", Input("input"), Input("image_shape", _LIST), Input("block_shape", _LIST), Output("output"),
            Attr("dilations", "ints"), Attr("pads", "ints"), Attr("strides", "ints"), since=18,
            T=NUMBERS | BOOL | STRING | COMPLEX | BF16)


# MaxUnpool

def _pooled_from(shape: Any, kernel: Any, strides: Any, pads: Any) -> tuple[DimLike, ...]:
    """The smallest shape whose pooling gives `shape`.

    Raises:
        ModelError: the attributes do not fit the rank.
    """
    rank = len(shape) - 2
    if len(kernel) != rank:
        raise ModelError(f"the kernel has {len(kernel)} spatial axes, the data {rank}", rule="windows")
    return (*shape[:2], *((d - 1) * s - low - high + k for d, k, s, (low, high) in zip(
        shape[2:], kernel, per_axis("strides", strides, rank), explicit_pads(pads, rank))))


@MaxUnpool.infer
def _(node: InferNode) -> None:
    x, places = node.shape(0), node.shape(1)
    if x is not None and places is not None:
        if len(x) != len(places):
            node.fail(f"X {print_shape(x)} and the indices {print_shape(places)} have different ranks")
        for i, (a, b) in enumerate(zip(x, places)):
            node.unify(a, b, f"axis {i} of X and of the indices")
    if x is not None and len(x) < 3:
        node.fail(f"X has a batch, channels and at least one spatial axis, not {print_shape(x)}")
    rank = len(node["kernel_shape"]) + 2 if x is None else len(x)
    if node.has(2):
        wanted = node.ints(2)
        if wanted is not None and len(wanted) != rank:
            node.fail(f"output_shape has {len(wanted)} entries for {rank} axes")
        node.set(0, node.dtype(0), (None,) * rank if wanted is None else wanted, why="output_shape is not known")
        return
    try:
        node.set(0, node.dtype(0), (None,) * rank if x is None else _pooled_from(
            x, node["kernel_shape"], node["strides"], node["pads"]), why="the shape of X is unknown")
    except ModelError as e:
        node.fail(e.what, e.advice)


@MaxUnpool.reference
def max_unpool(x: Any, indices: Any, output_shape: Any = None, *, kernel_shape: Any, strides: Any, pads: Any) -> Any:
    # The indices count in the shape that was pooled, even where a larger one is asked for.
    shape = whole(_pooled_from(x.shape, kernel_shape, strides, pads))
    flat = np.zeros(int(np.prod(shape)), x.dtype)
    if indices.size and not (indices.min() >= 0 and indices.max() < flat.size):
        raise ModelError(f"MaxUnpool: the indices run from {indices.min()} to {indices.max()}, the picture "
                         f"{print_shape(shape)} has {flat.size} elements", rule="indices")
    flat[indices.reshape(-1)] = x.reshape(-1)
    y = flat.reshape(shape)
    if output_shape is None:
        return y
    wanted = output_shape.tolist()
    larger = np.zeros(wanted, x.dtype)
    both: Any = tuple(slice(0, min(a, b)) for a, b in zip(shape, wanted))
    larger[both] = y[both]
    return larger


@MaxUnpool.lower
def _(p: Builder, x: Expr, indices: Expr, output_shape: Expr | None = None, *, kernel_shape: Any, strides: Any,
      pads: Any) -> Expr:
    shape = _pooled_from(x.shape, kernel_shape, strides, pads)
    flat = p.full((product(shape),), 0, x.dtype)
    count = product(x.shape)
    y = p.reshape(p.scatter_along(flat, p.reshape(indices, (count,)), p.reshape(x, (count,)), 0), shape)
    if output_shape is None:
        return y
    known = p.known(output_shape)
    if known is None:
        raise CannotLower("output_shape is not known before running")
    wanted = known.reshape(-1).tolist()
    y = p.slice(y, [0] * y.rank, [minimum(a, b) for a, b in zip(shape, wanted)])
    return p.reshape(p.pad(y, [0] * y.rank, [maximum(b - a, 0) for a, b in zip(shape, wanted)]), wanted)


# Col2Im

def _blocks(image: Any, block: Any, strides: Any, dilations: Any, pads: Any) -> Windows:
    return lay(image, block, strides=strides, dilations=dilations, pads=pads)


@Col2Im.infer
def _(node: InferNode) -> None:
    x, image, block = node.shape(0), node.ints(1), node.ints(2)
    if x is not None and len(x) != 3:
        node.fail(f"the input is (N, C * block, blocks), not {print_shape(x)}")
    if image is None or block is None:
        given = node.shape(1) or node.shape(2)
        rank = given[0] if given is not None and isinstance(given[0], int) else None
        node.set(0, node.dtype(0), None if rank is None else (None if x is None else x[0], None, *(image or
                                                                                                  (None,) * rank)),
                 why="the shape of the image or of a block is not known")
        return
    try:
        at = _blocks(image, block, node["strides"], node["dilations"], node["pads"])
    except ModelError as e:
        node.fail(e.what, e.advice)
    taps = product(block)
    channels: DimLike | None = None
    if x is not None:
        if decide_eq(x[1] % taps, 0) is False:
            node.fail(f"{x[1]} rows do not divide into blocks of {taps}", f"the input is {print_shape(x)}")
        node.unify(x[2], product(at.counts), "the blocks given and those of the image")
        channels = x[1] // taps
    node.set(0, node.dtype(0), (None if x is None else x[0], channels, *image), why="the shape of the input is unknown")


@Col2Im.reference
def col2im(x: Any, image_shape: Any, block_shape: Any, *, strides: Any, dilations: Any, pads: Any) -> Any:
    image, block = image_shape.tolist(), block_shape.tolist()
    at = _blocks(image, block, strides, dilations, pads)
    counts, around = whole(at.counts), pairs(at.pads)
    n = len(x)
    if x.shape[2] != int(np.prod(counts)):
        raise ModelError(f"Col2Im: {x.shape[2]} blocks are given, the image has {int(np.prod(counts))}", rule="windows")
    columns = widen(x).reshape(n, -1, *block, *counts)
    padded = np.zeros((n, columns.shape[1], *(d + low + high for d, (low, high) in zip(image, around))), columns.dtype)
    for tap in at.taps():
        place: Any = (..., *at.slices(tap))
        padded[place] += columns[(slice(None), slice(None), *tap)]
    inside: Any = (..., *(slice(low, low + d) for d, (low, _) in zip(image, around)))
    return padded[inside].astype(x.dtype)


@Col2Im.lower
def _(p: Builder, x: Expr, image_shape: Expr, block_shape: Expr, *, strides: Any, dilations: Any, pads: Any) -> Expr:
    image, block = p.known(image_shape), p.known(block_shape)
    if image is None or block is None or not all(isinstance(k, int) for k in block.reshape(-1).tolist()):
        raise CannotLower("the shape of the image or of a block is not known before running")
    if not x.dtype.is_float:
        raise CannotLower(f"adding up blocks of {x.dtype.name}")
    at = _blocks(image.reshape(-1).tolist(), block.reshape(-1).tolist(), strides, dilations, pads)
    taps = int(np.prod(whole(at.kernel)))
    channels = x.shape[1] // taps
    columns = wide(p, x)
    assert columns is not None
    rows = p.reshape(columns, (x.shape[0] * channels, taps, *at.counts))
    y = p.composite("col2im", _put_back, rows, kernel=whole(at.kernel), sizes=tuple(at.sizes), reach=tuple(at.reach),
                    strides=tuple(at.strides), dilations=tuple(at.dilations), pads=tuple(map(tuple, at.pads)))
    return p.cast(p.reshape(y, (x.shape[0], channels, *at.sizes)), x.dtype)


def _put_back(p: Builder, rows: Expr, kernel: Any, sizes: Any, reach: Any, strides: Any, dilations: Any, pads: Any
              ) -> Expr:
    """rows (planes, taps, *windows) as pictures (planes, 1, *sizes), by a transposed convolution whose kernel for each
    tap is a single one at its place."""
    taps = int(np.prod(kernel))
    ones = p.constant(np.eye(taps, dtype=rows.dtype.numpy).reshape(taps, 1, *kernel))
    extra = [size + low + high - ((n - 1) * s + r) for size, (low, high), n, s, r in
             zip(sizes, pads, rows.shape[2:], strides, reach)]
    y = p.convolve_transposed(rows, ones, strides, [(0, 0)] * len(extra), dilations, 1)
    y = p.pad(y, [0] * y.rank, [0, 0, *extra])
    ends = [low + d for d, (low, _) in zip(sizes, pads)]
    return p.slice(y, [0, 0, *(low for low, _ in pads)], [*y.shape[:2], *ends])
