"""Quantised convolution and pooling; with `channels_last` the data (not the weight) is (N,*,C) and so is the result.

Averages are exact sums of integers, scaled once. What a reader would guess wrong: QLinearAveragePool adds the zero
point of its result before it rounds, QLinearGlobalAveragePool afterwards, as ONNX Runtime does; halves tell.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ops.borrowing import channels_first, channels_last, infer_channels_last, rule_of
from gesher.ops.core.convolution import QLinearConv as Convolve
from gesher.ops.core.pooling import (
    AveragePool,
    GlobalAveragePool,
    MaxPool,
    max_pool,
    windows_summed,
    windows_summed_expr,
)
from gesher.ops.quantized import less_zero, less_zero_expr, quantize, quantize_expr
from gesher.ops.rules import InferNode
from gesher.ops.schema import REQUIRED, Attr, Input, Output, op
from gesher.primitives import Builder, Expr
from gesher.symbolic import product

from .types import BYTES, INT32, MS

_FLOAT = "tensor(float)"
_LAST = Attr("channels_last", "int", 0)
_PLACES = (Attr("auto_pad", "string", "NOTSET"), Attr("strides", "ints"), Attr("pads", "ints"))

QLinearConv = op("QLinearConv", Input("x", "T1"), Input("x_scale", _FLOAT), Input("x_zero_point", "T1"),
                 Input("w", "T2"), Input("w_scale", _FLOAT), Input("w_zero_point", "T2"), Input("y_scale", _FLOAT),
                 Input("y_zero_point", "T3"), Input("B", "T4", optional=True), Output("y", "T3"), *_PLACES,
                 Attr("dilations", "ints"), Attr("kernel_shape", "ints"), Attr("group", "int", 1), _LAST, domain=MS,
                 T1=BYTES, T2=BYTES, T3=BYTES, T4=INT32)

QLinearAveragePool = op("QLinearAveragePool", Input("X"), Input("x_scale", _FLOAT),
                        Input("x_zero_point", optional=True), Input("y_scale", _FLOAT),
                        Input("y_zero_point", optional=True), Output("Y"), *_PLACES, Attr("ceil_mode", "int", 0),
                        Attr("kernel_shape", "ints", REQUIRED), Attr("count_include_pad", "int", 0), _LAST, domain=MS,
                        T=BYTES)

QLinearGlobalAveragePool = op("QLinearGlobalAveragePool", Input("X"), Input("x_scale", _FLOAT), Input("x_zero_point"),
                              Input("y_scale", _FLOAT), Input("y_zero_point"), Output("Y"), _LAST, domain=MS, T=BYTES)

NhwcMaxPool = op("NhwcMaxPool", Input("x"), Output("y"), *_PLACES, Attr("ceil_mode", "int", 0),
                 Attr("dilations", "ints"), Attr("kernel_shape", "ints", REQUIRED), domain=MS, T=BYTES)


# Inference

def _infer(node: InferNode, rule: Any) -> None:
    if "channels_last" not in node.schema.attributes or node["channels_last"]:
        infer_channels_last(node, rule, 0)
    else:
        rule(node)


QLinearConv.infer(lambda node: _infer(node, rule_of(Convolve, "infer", 10)))
QLinearAveragePool.infer(lambda node: _infer(node, rule_of(AveragePool, "infer", 10)))
QLinearGlobalAveragePool.infer(lambda node: _infer(node, rule_of(GlobalAveragePool, "infer", 1)))
NhwcMaxPool.infer(lambda node: _infer(node, rule_of(MaxPool, "infer", 12)))


# Reference

def _first(x: Any, last: int) -> Any:
    return x.transpose(channels_first(x.ndim)) if last else x


def _back(y: Any, last: int) -> Any:
    return y.transpose(channels_last(y.ndim)) if last else y


@QLinearConv.reference
def qlinear_conv(x: Any, *rest: Any, channels_last: int, **at: Any) -> Any:
    return _back(rule_of(Convolve, "reference", 10)(_first(x, channels_last), *rest, **at), channels_last)


@QLinearAveragePool.reference
def qlinear_average_pool(x: Any, x_scale: Any, x_zero: Any, y_scale: Any, y_zero: Any = None, *, channels_last: int,
                         **at: Any) -> Any:
    less = _first(less_zero(x, None if x_zero is None else x_zero.reshape(())), channels_last).astype(np.int64)
    summed, count = windows_summed(less, **at)
    zero = np.zeros((), x.dtype) if y_zero is None else y_zero.reshape(())
    with np.errstate(all="ignore"):
        real = summed.astype(np.float32) * (x_scale.reshape(()) / (y_scale.reshape(()) * count))
        y = quantize(real + zero.astype(np.float32), None, dtypes.from_numpy(x.dtype))
    return _back(y, channels_last)


@QLinearGlobalAveragePool.reference
def qlinear_global_average_pool(x: Any, x_scale: Any, x_zero: Any, y_scale: Any, y_zero: Any, *,
                                channels_last: int) -> Any:
    less = _first(less_zero(x, x_zero.reshape(())), channels_last).astype(np.int64)
    axes = tuple(range(2, x.ndim))
    size = int(np.prod([less.shape[a] for a in axes]))
    scale = x_scale.reshape(()) / (y_scale.reshape(()) * np.float32(size))
    y = quantize(less.sum(axes, keepdims=True).astype(np.float32) * scale, y_zero.reshape(()),
                 dtypes.from_numpy(x.dtype))
    return _back(y, channels_last)


@NhwcMaxPool.reference
def nhwc_max_pool(x: Any, **at: Any) -> Any:
    return _back(max_pool(_first(x, 1), **at), 1)


# Lowering

def _first_expr(p: Builder, x: Expr, last: int) -> Expr:
    return p.transpose(x, channels_first(x.rank)) if last else x


def _back_expr(p: Builder, y: Expr, last: int) -> Expr:
    return p.transpose(y, channels_last(y.rank)) if last else y


@QLinearConv.lower
def _(p: Builder, x: Expr, *rest: Expr | None, channels_last: int, **at: Any) -> Expr:
    return _back_expr(p, rule_of(Convolve, "lower", 10)(p, _first_expr(p, x, channels_last), *rest, **at),
                      channels_last)


@QLinearAveragePool.lower
def _(p: Builder, x: Expr, x_scale: Expr, x_zero: Expr | None, y_scale: Expr, y_zero: Expr | None = None, *,
      channels_last: int, **at: Any) -> Expr:
    less = _first_expr(p, less_zero_expr(p, x, None if x_zero is None else p.reshape(x_zero, ())), channels_last)
    # Sums of bytes are exact in float, in any order, as long as the windows are no whole pictures.
    exact = prod(at["kernel_shape"]) <= 1 << 16
    summed, count = windows_summed_expr(p, p.cast(less, dtypes.FLOAT if exact else dtypes.INT64), **at)
    y = p.cast(summed, dtypes.FLOAT) * (p.reshape(x_scale, ()) / (p.reshape(y_scale, ()) * count))
    if y_zero is not None:
        y = y + p.cast(p.reshape(y_zero, ()), dtypes.FLOAT)
    return _back_expr(p, quantize_expr(p, y, None, x.dtype), channels_last)


@QLinearGlobalAveragePool.lower
def _(p: Builder, x: Expr, x_scale: Expr, x_zero: Expr, y_scale: Expr, y_zero: Expr, *, channels_last: int) -> Expr:
    less = _first_expr(p, less_zero_expr(p, x, p.reshape(x_zero, ())), channels_last)
    axes = range(2, x.rank)
    size = p.size(product([less.shape[a] for a in axes]), dtypes.FLOAT)
    summed = p.cast(p.sum(less, list(axes), keepdims=True), dtypes.FLOAT)
    y = summed * (p.reshape(x_scale, ()) / (p.reshape(y_scale, ()) * size))
    return _back_expr(p, quantize_expr(p, y, p.reshape(y_zero, ()), x.dtype), channels_last)


@NhwcMaxPool.lower
def _(p: Builder, x: Expr, **at: Any) -> Expr:
    return _back_expr(p, rule_of(MaxPool, "lower", 12)(p, _first_expr(p, x, 1), **at), 1)
