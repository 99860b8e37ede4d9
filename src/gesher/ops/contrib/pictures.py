"""Pictures: CropAndResize, MaxpoolWithMask, and a transposed convolution whose pads are an input."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.ir import DimLike
from gesher.ir.types import print_shape
from gesher.ops.borrowing import rule_of
from gesher.ops.core.convolution import ConvTranspose, conv_transpose
from gesher.ops.core.pooling import MaxPool
from gesher.ops.rules import InferNode
from gesher.ops.schema import FLOATS, Attr, Input, Output, op
from gesher.ops.sizes import numbers_of, plain_ints
from gesher.ops.windows import lay
from gesher.primitives import Builder, CannotLower, Expr

from .types import FLOAT, INT32, MS

CropAndResize = op("CropAndResize", Input("X", "T1"), Input("rois", "T1"), Input("batch_indices", "T2"),
                   Input("crop_size", "T2"), Output("Y", "T1"), Attr("mode", "string", "bilinear"),
                   Attr("extrapolation_value", "float", 0.0), domain=MS, T1=FLOATS, T2=INT32)

MaxpoolWithMask = op("MaxpoolWithMask", Input("X"), Input("M", "tensor(int32)"), Output("Y"),
                     Attr("auto_pad", "string", "NOTSET"), Attr("kernel_shape", "ints"), Attr("pads", "ints"),
                     Attr("strides", "ints"), Attr("storage_order", "int", 0), domain=MS, T=FLOAT)

ConvTransposeWithDynamicPads = op("ConvTransposeWithDynamicPads", Input("X"), Input("W"),
                                  Input("Pads", "tensor(int64)", optional=True), Input("B", optional=True),
                                  Output("Y"), Attr("kernel_shape", "ints"), Attr("output_padding", "ints"),
                                  Attr("dilations", "ints"), Attr("strides", "ints"),
                                  Attr("auto_pad", "string", "NOTSET"), Attr("group", "int", 1), domain=MS, T=FLOATS)


# CropAndResize: boxes (y1, x1, y2, x2), in parts of the picture, stretched to one size

@CropAndResize.infer
def _(node: InferNode) -> None:
    x, rois = node.shape(0), node.shape(1)
    if node["mode"] not in ("bilinear", "nearest"):
        node.fail(f"mode cannot be '{node['mode']}'", "it is bilinear or nearest")
    if x is not None and len(x) != 4:
        node.fail(f"X is (N,C,H,W), not {print_shape(x)}")
    count = None
    if rois is not None:
        if len(rois) != 2:
            node.fail(f"rois is (boxes, 4), not {print_shape(rois)}")
        node.unify(rois[1], 4, "the corners of a box")
        count = rois[0]
    if (samples := node.shape(2)) is not None:
        count = node.unify(count, samples[0], "the boxes and their pictures")
    size: list[DimLike | None] = list(node.ints(3) or (None, None))
    if len(size) != 2:
        node.fail(f"crop_size is a height and a width, it has {len(size)} numbers")
    node.set(0, node.dtype(0), (count, None if x is None else x[1], *size), why="the size of a crop is not known")


def _places(low: Any, high: Any, count: int, size: int) -> Any:
    """Where `count` samples of each box lie along an axis of `size` elements: (boxes, count)."""
    one = np.float32(size - 1)
    if count == 1:
        return (np.float32(0.5) * (low + high) * one)[:, None]
    step = (high - low) * one / np.float32(count - 1)
    places = low[:, None] * one + np.arange(count, dtype=np.float32) * step[:, None]
    places[:, -1] = high * one
    return places


def _half_away(x: Any) -> Any:
    return np.floor(x + np.float32(0.5))


@CropAndResize.reference
def crop_and_resize(x: Any, rois: Any, batch_indices: Any, crop_size: Any, *, mode: str,
                    extrapolation_value: float) -> Any:
    (height, width), (rows, columns) = crop_size.tolist(), x.shape[2:]
    ys, xs = _places(rois[:, 0], rois[:, 2], height, rows), _places(rois[:, 1], rois[:, 3], width, columns)
    y = np.full((len(rois), x.shape[1], height, width), extrapolation_value, x.dtype)
    for n, sample in enumerate(batch_indices.tolist()):
        picture = x[sample]
        inside_y, inside_x = ((v >= 0) & (v <= size - 1) for v, size in ((ys[n], rows), (xs[n], columns)))
        at_y, at_x = ys[n][inside_y], xs[n][inside_x]
        if mode == "nearest":
            found = picture[:, _half_away(at_y).astype(int)[:, None], _half_away(at_x).astype(int)]
        else:
            top, left = np.floor(at_y).astype(int), np.floor(at_x).astype(int)
            bottom, right = np.ceil(at_y).astype(int), np.ceil(at_x).astype(int)
            part_y, part_x = (at_y - top)[:, None], at_x - left
            upper = picture[:, top[:, None], left] * (1 - part_x) + picture[:, top[:, None], right] * part_x
            lower = picture[:, bottom[:, None], left] * (1 - part_x) + picture[:, bottom[:, None], right] * part_x
            found = upper * (1 - part_y) + lower * part_y
        y[n][np.ix_(np.arange(x.shape[1]), np.flatnonzero(inside_y), np.flatnonzero(inside_x))] = found
    return y


@CropAndResize.lower
def _(p: Builder, x: Expr, rois: Expr, batch_indices: Expr, crop_size: Expr, *, mode: str,
      extrapolation_value: float) -> Expr:
    sizes = plain_ints(p, crop_size, "the size of a crop")
    boxes, channels = rois.shape[0], x.shape[1]
    places, inside = [], []
    for axis, count in enumerate(sizes):
        low, high = (p.take(rois, 1, i, i + 1) for i in (axis, axis + 2))
        last = p.size(x.shape[2 + axis], x.dtype) - 1.0
        if count == 1:
            at = (low + high) * 0.5 * last
        else:
            step = p.iota((1, count), 1, x.dtype)
            at = low * last + step * ((high - low) * last / float(count - 1))
            at = p.select(p.eq(step, float(count - 1)), high * last, at)
        places.append(at)
        inside.append(p.and_(p.ge(at, 0.0), p.le(at, last)))
    shape = (boxes, *sizes)
    sample = p.broadcast_to(p.reshape(batch_indices, (boxes, 1, 1)), shape)
    channels_behind = p.transpose(x, (0, 2, 3, 1))
    ends = [p.size(x.shape[2 + i], x.dtype) - 1.0 for i in (0, 1)]

    def seen(at_y: Expr, at_x: Expr) -> Expr:
        parts = [sample]
        for axis, at in enumerate((at_y, at_x)):
            clipped = p.cast(p.max(p.min(at, ends[axis]), 0.0), batch_indices.dtype)
            parts.append(p.broadcast_to(p.expand_dims(clipped, [2 - axis]), shape))
        return p.gather_nd(channels_behind, p.concat([p.expand_dims(e, [3]) for e in parts], 3))

    at_y, at_x = places
    if mode == "nearest":
        y = seen(p.floor(at_y + 0.5), p.floor(at_x + 0.5))
    else:
        top, left = p.floor(at_y), p.floor(at_x)
        part_y, part_x = p.expand_dims(at_y - top, [2, 3]), p.expand_dims(at_x - left, [1, 3])
        upper, lower = (seen(row, left) * (1.0 - part_x) + seen(row, p.ceil(at_x)) * part_x
                        for row in (top, p.ceil(at_y)))
        y = upper * (1.0 - part_y) + lower * part_y
    both = p.and_(p.expand_dims(inside[0], [2, 3]), p.expand_dims(inside[1], [1, 3]))
    y = p.select(both, y, float(extrapolation_value))
    return p.reshape(p.transpose(y, (0, 3, 1, 2)), (boxes, channels, *sizes))


# MaxpoolWithMask: along the last axis a window ends at the first element whose mask is 0

@MaxpoolWithMask.infer
def _(node: InferNode) -> None:
    x, mask = node.shape(0), node.shape(1)
    if x is not None and mask is not None:
        if len(x) != len(mask):
            node.fail(f"the mask {print_shape(mask)} has another rank than X {print_shape(x)}")
        for i in range(2, len(x)):
            node.unify(x[i], mask[i], f"axis {i} of X and of the mask")
    rule_of(MaxPool, "infer", 1)(node)


@MaxpoolWithMask.reference
def maxpool_with_mask(x: Any, mask: Any, *, kernel_shape: Any, storage_order: int, **at: Any) -> Any:
    """A window that sees nothing gives the lowest number. The first element of a plane of two or more axes counts even
    where it is masked, and the planes of the mask repeat, as ONNX Runtime has it."""
    laid = lay(x.shape[2:], kernel_shape, **at)
    planes = x.shape[0] * x.shape[1]
    # Which plane of the mask a plane of X has: the place of its first element, in elements, modulo the planes.
    step = int(np.prod(x.shape[2:]))
    flat, rows = mask.reshape(-1), x.reshape(planes, -1)
    y = np.full((planes, *laid.counts), np.finfo(x.dtype).min, x.dtype)
    spatial = x.shape[2:]
    for plane in range(planes):
        begin = plane * step % (mask.shape[0] * mask.shape[1])
        hides = flat[begin:begin + step].reshape(spatial) == 0
        if len(spatial) > 1:
            hides[(0,) * len(spatial)] = False
        values = rows[plane].reshape(spatial)
        for window in np.ndindex(*y.shape[1:]):
            low = [w * s - pad[0] for w, s, pad in zip(window, laid.strides, laid.pads)]
            cut = tuple(slice(max(lo, 0), min(lo + k, d)) for lo, k, d in zip(low, laid.kernel, spatial))
            here = values[cut].reshape(-1, values[cut].shape[-1])
            open_ = np.logical_and.accumulate(~hides[cut].reshape(here.shape), 1)
            if open_.any():
                y[(plane, *window)] = here[open_].max()
    return y.reshape(*x.shape[:2], *laid.counts)


# ConvTransposeWithDynamicPads

@ConvTransposeWithDynamicPads.infer
def _(node: InferNode) -> None:
    if not node.has(2):
        pads: Any = ()
    else:
        pads = numbers_of(node, 2)
    if pads is None:
        rank = node.rank(0)
        x, w = node.shape(0), node.shape(1)
        channels = None if w is None else w[1] * node["group"]
        shape = None if rank is None else (None if x is None else x[0], channels, *(None,) * (rank - 2))
        node.set(0, node.dtype(0), shape, why="the pads are not known")
        return
    seen = _Padded(node, tuple(pads))
    rule_of(ConvTranspose, "infer", 11)(seen)
    node.outputs = seen.outputs


class _Padded(InferNode):
    """The node as ConvTranspose's rule wants it: with its pads as an attribute, and its bias third."""

    __slots__ = ("pads",)

    def __init__(self, node: InferNode, pads: tuple[int, ...]):
        inputs = [node.input(0), node.input(1), node.input(3)]
        super().__init__(node.node, node.operator, node.schema, inputs, node.equalities, node.infer_body)
        self.pads = pads

    def __getitem__(self, attribute: str) -> Any:
        if attribute == "pads":
            return self.pads
        return None if attribute == "output_shape" else super().__getitem__(attribute)


@ConvTransposeWithDynamicPads.reference
def conv_transpose_with_dynamic_pads(x: Any, w: Any, pads: Any = None, b: Any = None, **at: Any) -> Any:
    return conv_transpose(x, w, b, pads=None if pads is None else pads.tolist(), output_shape=None, **at)


@ConvTransposeWithDynamicPads.lower
def _(p: Builder, x: Expr, w: Expr, pads: Expr | None = None, b: Expr | None = None, **at: Any) -> Any:
    if pads is not None and p.known(pads) is None:
        raise CannotLower("pads that are not known at compile time")
    known = None if pads is None else plain_ints(p, pads, "the pads")
    return rule_of(ConvTranspose, "lower", 11)(p, x, w, b, pads=known, output_shape=None, **at)
