"""Convolution, plain, transposed and on integers.

ONNX's convolution is what others call correlation: the kernel is not turned around. Channels are the second axis, and
`group` cuts them into as many separate convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.ir import DimLike
from gesher.ir.types import print_shape
from gesher.primitives import Builder, Expr
from gesher.symbolic import decide_eq

from ..arithmetic import computed, lowered
from ..beside import check, is_list, is_one, require
from ..quantized import convolve_integers, less_zero, quantize, quantize_expr
from ..rules import InferNode
from ..schema import BF16, FLOATS, Attr, Input, Output, op, tensors
from ..windows import Spread, Windows, lay, pairs, spread, whole

INT8S = tensors("int8 uint8")

_AT = (Attr("auto_pad", "string", "NOTSET"), Attr("kernel_shape", "ints"), Attr("dilations", "ints"),
       Attr("strides", "ints"), Attr("pads", "ints"), Attr("group", "int", 1))

Conv = (op("Conv", Input("X"), Input("W"), Input("B", optional=True), Output("Y"), *_AT, T=FLOATS)
        .since(11)
        .since(22, T=FLOATS | BF16))

ConvTranspose = (op("ConvTranspose", Input("X"), Input("W"), Input("B", optional=True), Output("Y"), *_AT,
                    Attr("output_shape", "ints"), Attr("output_padding", "ints"), T=FLOATS)
                 .since(11)
                 .since(22, T=FLOATS | BF16))

ConvInteger = op("ConvInteger", Input("x", "T1"), Input("w", "T2"), Input("x_zero_point", "T1", optional=True),
                 Input("w_zero_point", "T2", optional=True), Output("y", "T3"), *_AT, since=10,
                 T1=INT8S, T2=INT8S, T3=tensors("int32"))

QLinearConv = op("QLinearConv", Input("x", "T1"), Input("x_scale", "tensor(float)"), Input("x_zero_point", "T1"),
                 Input("w", "T2"), Input("w_scale", "tensor(float)"), Input("w_zero_point", "T2"),
                 Input("y_scale", "tensor(float)"), Input("y_zero_point", "T3"), Input("B", "T4", optional=True),
                 Output("y", "T3"), *_AT, since=10, T1=INT8S, T2=INT8S, T3=INT8S, T4=tensors("int32"))


# Inference

def _shapes(node: InferNode, x_at: int, w_at: int) -> tuple[tuple[DimLike, ...], tuple[DimLike, ...]] | None:
    """The shapes of the data and the weight, checked as far as ranks go; None where one is unknown."""
    x, w = node.shape(x_at), node.shape(w_at)
    known = x if x is not None else w
    if known is not None and len(known) < 3:
        node.fail(f"x and the weight have a batch, channels and at least one spatial axis, not {print_shape(known)}")
    if x is None or w is None:
        return None
    if len(x) != len(w):
        node.fail("x and the weight have different ranks", f"x is {print_shape(x)}, w is {print_shape(w)}")
    kernel = node["kernel_shape"]
    if kernel:
        if len(kernel) != len(w) - 2:
            node.fail(f"kernel_shape is {list(kernel)}", f"w is {print_shape(w)}")
        for i, k in enumerate(kernel):
            node.unify(w[2 + i], k, f"kernel_shape {list(kernel)} and the weight {print_shape(w)}")
    if node["group"] < 1:
        node.fail(f"group must be at least 1, not {node['group']}")
    return x, w


def _unknown(node: InferNode, x_at: int, w_at: int, dtype: dtypes.DType) -> None:
    shape = node.shape(x_at) or node.shape(w_at)
    why = "the shape of x or of the weight is unknown"
    node.set(0, dtype, None if shape is None else (None,) * len(shape), why=why)


def _infer_conv(node: InferNode, x_at: int, w_at: int, b_at: int, dtype: dtypes.DType) -> None:
    both = _shapes(node, x_at, w_at)
    if both is None:
        return _unknown(node, x_at, w_at, dtype)
    (x, w), group = both, node["group"]
    takes = w[1] * group
    if decide_eq(x[1], takes) is False:
        node.fail(f"x has {x[1]} channels, the weight takes {takes}",
                  f"x is {print_shape(x)}, w is {print_shape(w)}" + (f", group is {group}" if group != 1 else "")
                  + ("; is the picture RGBA?" if (x[1], takes) == (4, 3) else ""))
    node.unify(x[1], takes, "channels of x and of the weight")
    if decide_eq(w[0] % group, 0) is False:
        node.fail(f"{w[0]} output channels do not divide into {group} groups", f"w is {print_shape(w)}")
    if (b := node.shape(b_at)) is not None:
        _check_bias(node, b, w[0])
    try:
        at = lay(x[2:], w[2:], strides=node["strides"], dilations=node["dilations"], pads=node["pads"],
                 auto_pad=node["auto_pad"])
    except ModelError as e:
        node.fail(e.what, e.advice)
    node.set(0, dtype, (x[0], w[0], *at.counts))
    return None


def _check_bias(node: InferNode, b: tuple[DimLike, ...], channels: DimLike) -> None:
    if len(b) != 1:
        node.fail(f"the bias has one axis, not {print_shape(b)}")
    node.unify(b[0], channels, "the bias and the output channels")


Conv.infer(lambda node: _infer_conv(node, 0, 1, 2, node.dtype(0)))


@ConvInteger.infer
def _(node: InferNode) -> None:
    w, zeros = node.shape(1), [node.shape(i) if node.has(i) else None for i in (2, 3)]
    if zeros[0] is not None:
        check(node, 2, is_one(zeros[0]), "one number")
    if zeros[1] is not None and w:
        check(node, 3, is_list(zeros[1], w[0]), "one number, or one for each output channel")
    _infer_conv(node, 0, 1, 4, dtypes.INT32)


QLinearConv.infer(lambda node: _infer_conv(node, 0, 3, 8, node.dtype(7)))


@ConvTranspose.infer
def _(node: InferNode) -> None:
    both = _shapes(node, 0, 1)
    if both is None:
        return _unknown(node, 0, 1, node.dtype(0))
    (x, w), group = both, node["group"]
    if decide_eq(x[1], w[0]) is False:
        node.fail(f"x has {x[1]} channels, the weight takes {w[0]}", f"x is {print_shape(x)}, w is {print_shape(w)}")
    node.unify(x[1], w[0], "channels of x and of the weight")
    if decide_eq(w[0] % group, 0) is False:
        node.fail(f"{w[0]} channels do not divide into {group} groups", f"w is {print_shape(w)}")
    if (b := node.shape(2)) is not None:
        _check_bias(node, b, w[1] * group)
    try:
        at = spread(x[2:], w[2:], strides=node["strides"], dilations=node["dilations"], pads=node["pads"],
                    auto_pad=node["auto_pad"], output_padding=node["output_padding"],
                    output_shape=node["output_shape"])
    except ModelError as e:
        node.fail(e.what, e.advice)
    node.set(0, node.dtype(0), (x[0], w[1] * group, *at.counts))
    return None


# Reference

def convolve(x: Any, w: Any, at: Windows, groups: int) -> Any:
    """What the taps of the kernel see, times the kernel: x (N,C,*), w (M,C/groups,*) give (N,M,*) in their own type."""
    n, m, each, kernel = x.shape[0], w.shape[0], x.shape[1] // groups, w.shape[2:]
    x = np.pad(x, [(0, 0), (0, 0), *pairs(at.pads)]) if any(map(any, at.pads)) else x
    x = x.reshape(n, groups, each, *x.shape[2:])
    places, taps = math.prod(whole(at.counts)), math.prod(kernel)
    seen = (x[(..., *at.slices(tap))].reshape(n, groups, each, places) for tap in at.taps())
    if each > 1 and n * groups * each * taps * places * x.itemsize <= _COLUMNS:
        columns = np.stack(list(seen), 3).reshape(n, groups, each * taps, places)
        return (w.reshape(groups, m // groups, each * taps) @ columns).reshape(n, m, *whole(at.counts))
    # The taps first, so that what each multiplies with lies together.
    w = np.ascontiguousarray(np.moveaxis(w, (0, 1), (-2, -1))).reshape(taps, groups, m // groups, each)
    y = np.zeros((n, groups, m // groups, places), x.dtype)
    for of_tap, column in zip(w, seen):
        # Depthwise: BLAS is slow at a thousand products of 1 by 1.
        y += of_tap * column if each == 1 else of_tap @ column
    return y.reshape(n, m, *whole(at.counts))


# Up to so many bytes, what all taps see is laid out at once for a single product; beyond, tap by tap.
_COLUMNS = 64 << 20


def _per_channel(b: Any, rank: int) -> Any:
    return b.reshape(-1, *(1,) * (rank - 2))


@computed
def conv(x: Any, w: Any, b: Any = None, *, group: int, kernel_shape: Any = None, **at: Any) -> Any:
    _check_channels("Conv", x, w, w.shape[1] * group)
    # Sums in float64: in float32 BLAS adds in another order at the edges of its tiles, and equal filters would give
    # unequal channels. One of onnx's models (squeezenet with constant weights) takes a softmax of such at 1e10.
    y = convolve(x.astype(np.float64), w.astype(np.float64), lay(x.shape[2:], w.shape[2:], **at), group)
    y = y.astype(x.dtype)
    return y if b is None else y + _per_channel(b, y.ndim)


Conv.reference(conv)


def _check_channels(name: str, x: Any, w: Any, takes: int) -> None:
    if x.ndim != w.ndim or x.shape[1] != takes:
        raise ModelError(f"{name}: x has {x.shape[1]} channels, the weight takes {takes}", rule="channels",
                         advice=f"x is {print_shape(x.shape)}, w is {print_shape(w.shape)}")


@computed
def conv_transpose(x: Any, w: Any, b: Any = None, *, group: int, kernel_shape: Any = None, **at: Any) -> Any:
    _check_channels("ConvTranspose", x, w, w.shape[0])
    laid = spread(x.shape[2:], w.shape[2:], **at)
    y = _spread(x, w, laid, group)
    return y if b is None else y + _per_channel(b, y.ndim)


def _spread(x: Any, w: Any, at: Spread, groups: int) -> Any:
    """Every element prints the kernel, scaled, at its place; prints add up."""
    (n, c), sizes, m, kernel = x.shape[:2], x.shape[2:], w.shape[1], w.shape[2:]
    w = w.reshape(groups, c // groups, m, *kernel).swapaxes(1, 2)  # (groups, M/groups, C/groups, *)
    x = x.reshape(n, groups, c // groups, math.prod(sizes))
    full = [(d - 1) * s + dilation * (k - 1) + 1 + e
            for d, s, k, dilation, e in zip(sizes, at.strides, kernel, at.dilations, whole(at.extra))]
    y: Any = np.zeros((n, groups, m, *full), x.dtype)
    for tap in np.ndindex(*kernel):
        place = tuple(slice(t * d, t * d + s * (size - 1) + 1, s) if size else slice(0)
                      for t, d, s, size in zip(tap, at.dilations, at.strides, sizes))
        y[(..., *place)] += (w[(..., *tap)] @ x).reshape(n, groups, m, *sizes)
    counts = whole(at.counts)
    kept = tuple(slice(low, low + count) for (low, _), count in zip(pairs(at.pads), counts))
    return y[(..., *kept)].reshape(n, groups * m, *counts)


ConvTranspose.reference(conv_transpose)


def _convolve_exactly(x: Any, w: Any, group: int, at: dict[str, Any]) -> Any:
    """A convolution of small integers as int64: in float64, which holds every sum below 2**53 and has a BLAS."""
    laid = lay(x.shape[2:], w.shape[2:], **at)
    return np.rint(convolve(x.astype(np.float64), w.astype(np.float64), laid, group)).astype(np.int64)


def _by_row(v: Any, rank: int) -> Any:
    """A zero point of a weight: one number, or one for each place on its first axis."""
    return v if v is None else v.reshape(()) if v.size == 1 else v.reshape(-1, *(1,) * (rank - 1))


@ConvInteger.reference
def conv_integer(x: Any, w: Any, x_zero_point: Any = None, w_zero_point: Any = None, *, group: int,
                 kernel_shape: Any = None, **at: Any) -> Any:
    _check_channels("ConvInteger", x, w, w.shape[1] * group)
    if x_zero_point is not None:
        require("x_zero_point", x_zero_point.shape, is_one(x_zero_point.shape), "one number")
    if w_zero_point is not None:
        require("w_zero_point", w_zero_point.shape, is_list(w_zero_point.shape, w.shape[0]),
                "one number, or one for each output channel")
    y = _convolve_exactly(less_zero(x, _by_row(x_zero_point, x.ndim)), less_zero(w, _by_row(w_zero_point, w.ndim)),
                          group, at)
    # Sums that leave 32 bits wrap around.
    return y.astype(np.int32)


@QLinearConv.reference
def qlinear_conv(x: Any, x_scale: Any, x_zero_point: Any, w: Any, w_scale: Any, w_zero_point: Any, y_scale: Any,
                 y_zero_point: Any, b: Any = None, *, group: int, kernel_shape: Any = None, **at: Any) -> Any:
    _check_channels("QLinearConv", x, w, w.shape[1] * group)
    y = _convolve_exactly(less_zero(x, x_zero_point.reshape(())), less_zero(w, _by_row(w_zero_point, w.ndim)), group,
                          at)
    if b is not None:
        y = y + _per_channel(b.astype(np.int64), y.ndim)
    scale = _by_row(x_scale.reshape(()) * w_scale / y_scale.reshape(()), y.ndim - 1)
    return quantize(y.astype(np.float32) * scale, y_zero_point.reshape(()), dtypes.from_numpy(y_zero_point.dtype))


# Lowering

def _bias(p: Builder, y: Expr, b: Expr | None) -> Expr:
    return y if b is None else y + p.reshape(b, (b.shape[0], *(1,) * (y.rank - 2)))


@Conv.lower
@lowered
def _(p: Builder, x: Expr, w: Expr, b: Expr | None = None, *, group: int, kernel_shape: Any = None, **at: Any) -> Expr:
    laid = lay(x.shape[2:], w.shape[2:], **at)
    y = p.hold(p.convolve(x, w, laid.strides, laid.pads, laid.dilations, group), "convolution", *laid.demands)
    return _bias(p, y, b)


@ConvTranspose.lower
@lowered
def _(p: Builder, x: Expr, w: Expr, b: Expr | None = None, *, group: int, kernel_shape: Any = None, **at: Any) -> Expr:
    laid = spread(x.shape[2:], w.shape[2:], **at)
    known = all(isinstance(e, int) for e in laid.extra)
    y = p.convolve_transposed(x, w, laid.strides, laid.pads, laid.dilations, group,
                              laid.extra if known else None)  # type: ignore[arg-type]
    if not known:
        y = p.pad(y, (0,) * y.rank, (0, 0, *laid.extra))
    # The sizes are the same, but these say it in fewer words.
    return _bias(p, p.reshape(y, (*y.shape[:2], *laid.counts)), b)


def _by_row_expr(p: Builder, v: Expr, rank: int) -> Expr:
    return p.reshape(v, () if all(d == 1 for d in v.shape) else (v.shape[0], *(1,) * (rank - 1)))


def _convolve_integers(p: Builder, x: Expr, x_zero: Expr | None, w: Expr, w_zero: Expr | None, group: int,
                       at: dict[str, Sequence[int] | None]) -> Expr:
    laid = lay(x.shape[2:], w.shape[2:], **at)  # type: ignore[arg-type]
    y = convolve_integers(p, x, None if x_zero is None else p.reshape(x_zero, ()), w,
                          None if w_zero is None else _by_row_expr(p, w_zero, w.rank), laid.strides, laid.pads,
                          laid.dilations, group)
    return p.hold(y, "convolution", *laid.demands)


@ConvInteger.lower
def _(p: Builder, x: Expr, w: Expr, x_zero_point: Expr | None = None, w_zero_point: Expr | None = None, *,
      group: int, kernel_shape: Any = None, **at: Any) -> Expr:
    return _convolve_integers(p, x, x_zero_point, w, w_zero_point, group, at)


@QLinearConv.lower
def _(p: Builder, x: Expr, x_scale: Expr, x_zero_point: Expr, w: Expr, w_scale: Expr, w_zero_point: Expr,
      y_scale: Expr, y_zero_point: Expr, b: Expr | None = None, *, group: int, kernel_shape: Any = None,
      **at: Any) -> Expr:
    x_scale, x_zero_point, y_scale, y_zero_point = (p.reshape(e, ()) for e in (x_scale, x_zero_point, y_scale,
                                                                              y_zero_point))
    # The bias is counted in the scale of the products, so the sum is scaled at once.
    y = _bias(p, _convolve_integers(p, x, x_zero_point, w, w_zero_point, group, at), b)
    scale = _by_row_expr(p, x_scale * w_scale / y_scale, y.rank - 1)
    return quantize_expr(p, p.cast(y, dtypes.FLOAT) * scale, y_zero_point, y_zero_point.dtype)
