"""Normalizations: over a group of elements, mean 0 and variance 1 (or a norm of 1), then a scale and a shift.

Which elements make a group tells them apart: all of one channel (batch), one channel of one sample (instance), some
channels of one sample (group), the last axes (layer, RMS), neighbouring channels (local response).

`stash_type` is the type in which the statistics are computed; its result is rounded to the type of X *before* the scale
and the shift, and each of these rounds again. Types narrower than float32 are stashed in float32 and then rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import ModelError
from gesher.ir.types import print_shape
from gesher.primitives import Builder, Expr
from gesher.symbolic import decide_eq, product

from ..arithmetic import computed, lowered, widen, widened
from ..axes import axes_of, axis_of
from ..broadcasting import broadcast_into
from ..elementwise import infer_same
from ..rules import InferNode
from ..schema import BF16, FLOATS, REQUIRED, Attr, Drop, Input, Output, op, tensors

EPSILON = Attr("epsilon", "float", 1e-5)
STASH = Attr("stash_type", "int", 1)

InstanceNormalization = (op("InstanceNormalization", Input("input"), Input("scale"), Input("B"), Output("output"),
                            EPSILON, Attr("consumed_inputs", "ints"), T=FLOATS)
                         .since(6, Drop("consumed_inputs"))
                         .since(22, T=FLOATS | BF16))

GroupNormalization = (op("GroupNormalization", Input("X"), Input("scale"), Input("bias"), Output("Y"), EPSILON,
                         Attr("num_groups", "int", REQUIRED), since=18, deprecated=True, T=FLOATS | BF16)
                      .since(21, STASH, behaviour="one scale and bias for each channel instead of each group"))

LayerNormalization = op("LayerNormalization", Input("X"), Input("Scale"), Input("B", optional=True), Output("Y"),
                        Output("Mean", "U", optional=True), Output("InvStdDev", "U", optional=True), EPSILON, STASH,
                        Attr("axis", "int", -1), since=17, T=FLOATS | BF16, U=tensors("float") | BF16)

RMSNormalization = op("RMSNormalization", Input("X"), Input("scale", "V"), Output("Y", "V"), EPSILON, STASH,
                      Attr("axis", "int", -1), since=23, T=FLOATS | BF16, V=FLOATS | BF16)

LRN = (op("LRN", Input("X"), Output("Y"), Attr("size", "int", REQUIRED), Attr("alpha", "float", 1e-4),
          Attr("beta", "float", 0.75), Attr("bias", "float", 1.0), T=FLOATS)
       .since(13, T=FLOATS | BF16))

LpNormalization = (op("LpNormalization", Input("input"), Output("output"), Attr("axis", "int", -1),
                      Attr("p", "int", 2), T=FLOATS)
                   .since(22, T=FLOATS | BF16))

MeanVarianceNormalization = (op("MeanVarianceNormalization", Input("X"), Output("Y"),
                                Attr("axes", "ints", (0, 2, 3)), since=9, T=FLOATS)
                             .since(13, T=FLOATS | BF16))


def standardized(x: Any, axes: tuple[int, ...], epsilon: float, stash: DType) -> tuple[Any, Any, Any]:
    """x with mean 0 and variance 1 over `axes`, the mean, and 1 / the standard deviation, in at least float32."""
    x = widen(x.astype(stash.numpy))
    mean = x.mean(axes, keepdims=True)
    less = x - mean
    inverse = 1 / np.sqrt((less * less).mean(axes, keepdims=True) + x.dtype.type(epsilon))
    return less * inverse, mean, inverse


def standardized_expr(p: Builder, x: Expr, axes: Sequence[int], epsilon: float, stash: DType
                      ) -> tuple[Expr, Expr, Expr]:
    """As `standardized`, of expressions."""
    x = widened(p, p.cast(x, stash))
    mean = p.mean(x, axes, keepdims=True)
    less = x - mean
    inverse = p.reciprocal(p.sqrt(p.mean(less * less, axes, keepdims=True) + float(epsilon)))
    return less * inverse, mean, inverse


def _spatial(x: Any) -> tuple[int, ...]:
    return tuple(range(2, len(x.shape)))


# Instance and group: some channels of one sample

def _check_channels(node: InferNode, least: int) -> None:
    """The scale and the bias are lists of one number for each channel (or group)."""
    x = node.shape(0)
    if x is not None and len(x) < least:
        node.fail(f"the data has a batch and channels{' and spatial axes' if least > 2 else ''}, not {print_shape(x)}")
    for i, name in ((1, "scale"), (2, "bias")):
        shape = node.shape(i)
        if shape is not None and len(shape) != 1:
            node.fail(f"the {name} is a list, not {print_shape(shape)}")
        if shape is not None and x is not None:
            by_group = node.operator is GroupNormalization and node.version < 21
            node.unify(node["num_groups"] if by_group else x[1], shape[0],
                       f"the {'groups' if by_group else 'channels'} of the data and the {name}")


@InstanceNormalization.infer
def _(node: InferNode) -> None:
    _check_channels(node, 3)
    infer_same(node)


@GroupNormalization.infer
def _(node: InferNode) -> None:
    _check_channels(node, 2)
    x, groups = node.shape(0), node["num_groups"]
    if groups < 1:
        node.fail(f"num_groups is {groups}")
    if x is not None and decide_eq(x[1] % groups, 0) is False:
        node.fail(f"{x[1]} channels do not divide into {groups} groups")
    infer_same(node)


@InstanceNormalization.reference
@computed
def instance_normalization(x: Any, scale: Any, b: Any, *, epsilon: float) -> Any:
    y, _, _ = standardized(x, _spatial(x), epsilon, dtypes.from_numpy(x.dtype))
    shape = (-1, *(1,) * (x.ndim - 2))
    return y * scale.reshape(shape) + b.reshape(shape)


@InstanceNormalization.lower
@lowered
def _(p: Builder, x: Expr, scale: Expr, b: Expr, *, epsilon: float) -> Expr:
    def meaning(p: Builder, x: Expr, scale: Expr, b: Expr, *, epsilon: float) -> Expr:
        y, _, _ = standardized_expr(p, x, _spatial(x), epsilon, x.dtype)
        shape = (x.shape[1], *(1,) * (x.rank - 2))
        return y * p.reshape(scale, shape) + p.reshape(b, shape)

    return p.composite("instance_norm", meaning, x, scale, b, epsilon=epsilon)


def _grouped(x: Any, num_groups: int) -> Any:
    if x.shape[1] % num_groups:
        raise ModelError(f"GroupNormalization: {x.shape[1]} channels do not divide into {num_groups} groups",
                         rule="channels")
    return x.reshape(x.shape[0], num_groups, -1)


@GroupNormalization.reference
@computed
def group_normalization_18(x: Any, scale: Any, bias: Any, *, epsilon: float, num_groups: int) -> Any:
    y, _, _ = standardized(_grouped(x, num_groups), (2,), epsilon, dtypes.from_numpy(x.dtype))
    return (y * scale.reshape(-1, 1) + bias.reshape(-1, 1)).reshape(x.shape)


@GroupNormalization.reference(since=21)
def group_normalization_21(x: Any, scale: Any, bias: Any, *, epsilon: float, num_groups: int,
                           stash_type: int) -> Any:
    y, _, _ = standardized(_grouped(x, num_groups), (2,), epsilon, dtypes.by_code(stash_type))
    shape = (-1, *(1,) * (x.ndim - 2))
    with np.errstate(all="ignore"):
        return y.reshape(x.shape).astype(x.dtype) * scale.reshape(shape) + bias.reshape(shape)


@GroupNormalization.lower
def _(p: Builder, x: Expr, scale: Expr, bias: Expr, *, epsilon: float, num_groups: int, stash_type: int = 0) -> Expr:
    def meaning(p: Builder, x: Expr, scale: Expr, bias: Expr, *, epsilon: float, num_groups: int, stash_type: int,
                by_group: bool) -> Expr:
        stash = dtypes.by_code(stash_type) if stash_type else x.dtype
        rows = (x.shape[0], num_groups, product([x.shape[1] // num_groups, *x.shape[2:]]))
        y, _, _ = standardized_expr(p, p.reshape(x, rows), [2], epsilon, stash)
        if by_group:
            scale, bias = (widened(p, p.reshape(v, (num_groups, 1))) for v in (scale, bias))
            return p.cast(p.reshape(y * scale + bias, x.shape), x.dtype)
        shape = (x.shape[1], *(1,) * (x.rank - 2))
        return p.cast(p.reshape(y, x.shape), x.dtype) * p.reshape(scale, shape) + p.reshape(bias, shape)

    return p.composite("group_norm", meaning, x, scale, bias, epsilon=epsilon, num_groups=num_groups,
                       stash_type=stash_type, by_group=p.version < 21)


# Layer and RMS: the last axes

def _check_last_axes(node: InferNode) -> int | None:
    x = node.shape(0)
    for i in (1, 2):
        if node.has(i):
            broadcast_into(node, x, node.shape(i), "the scale" if i == 1 else "the bias")
    return None if x is None else axis_of(node["axis"], len(x), node)


@LayerNormalization.infer
def _(node: InferNode) -> None:
    axis = _check_last_axes(node)
    infer_same(node)
    x = node.shape(0)
    statistics = None if x is None or axis is None else (*x[:axis], *(1,) * (len(x) - axis))
    for i in (1, 2):
        node.set(i, dtypes.by_code(node["stash_type"]), statistics, why="the rank of X is unknown")


@RMSNormalization.infer
def _(node: InferNode) -> None:
    _check_last_axes(node)
    node.set(0, node.dtype(1), node.shape(0), why="the rank of X is unknown")


@LayerNormalization.reference
def layer_normalization(x: Any, scale: Any, b: Any = None, *, axis: int, epsilon: float, stash_type: int) -> Any:
    axes = tuple(range(axis_of(axis, x.ndim), x.ndim))
    stash = dtypes.by_code(stash_type)
    with np.errstate(all="ignore"):
        y, mean, inverse = standardized(x, axes, epsilon, stash)
        y = y.astype(x.dtype) * scale
        y = y if b is None else y + b
    return y, mean.astype(stash.numpy), inverse.astype(stash.numpy)


@LayerNormalization.lower
def _(p: Builder, x: Expr, scale: Expr, b: Expr | None = None, *, axis: int, epsilon: float,
      stash_type: int) -> tuple[Expr, ...]:
    def meaning(p: Builder, x: Expr, scale: Expr, b: Expr | None, *, axis: int, epsilon: float,
                stash_type: int) -> tuple[Expr, ...]:
        stash = dtypes.by_code(stash_type)
        y, mean, inverse = standardized_expr(p, x, range(axis, x.rank), epsilon, stash)
        y = p.cast(y, x.dtype) * scale
        return y if b is None else y + b, p.cast(mean, stash), p.cast(inverse, stash)

    return p.composite("layer_norm", meaning, x, scale, b, axis=axis_of(axis, x.rank), epsilon=epsilon,
                       stash_type=stash_type)[:p.outputs]


@RMSNormalization.reference
def rms_normalization(x: Any, scale: Any, *, axis: int, epsilon: float, stash_type: int) -> Any:
    axes = tuple(range(axis_of(axis, x.ndim), x.ndim))
    with np.errstate(all="ignore"):
        wide_x = widen(x.astype(dtypes.by_code(stash_type).numpy))
        y = wide_x / np.sqrt((wide_x * wide_x).mean(axes, keepdims=True) + wide_x.dtype.type(epsilon))
        return y.astype(x.dtype).astype(scale.dtype) * scale


@RMSNormalization.lower
def _(p: Builder, x: Expr, scale: Expr, *, axis: int, epsilon: float, stash_type: int) -> Expr:
    def meaning(p: Builder, x: Expr, scale: Expr, *, axis: int, epsilon: float, stash_type: int) -> Expr:
        wide_x = widened(p, p.cast(x, dtypes.by_code(stash_type)))
        mean = p.mean(wide_x * wide_x, range(axis, x.rank), keepdims=True)
        y = wide_x / p.sqrt(mean + float(epsilon))
        return p.cast(p.cast(y, x.dtype), scale.dtype) * scale

    return p.composite("rms_norm", meaning, x, scale, axis=axis_of(axis, x.rank), epsilon=epsilon,
                       stash_type=stash_type)


# Neighbouring channels, norms, and mean and variance alone

@LRN.infer
def _(node: InferNode) -> None:
    x = node.shape(0)
    if x is not None and len(x) < 2:
        node.fail(f"the data has a batch and channels, not {print_shape(x)}")
    if node["size"] < 1:
        node.fail(f"size is {node['size']}")
    infer_same(node)


def _around(size: int) -> tuple[int, int]:
    """How many channels before and behind one count as its neighbours."""
    return (size - 1) // 2, size - 1 - (size - 1) // 2


@LRN.reference
@computed
def lrn(x: Any, *, size: int, alpha: float, beta: float, bias: float) -> Any:
    before, behind = _around(size)
    squares = np.pad(x * x, [(0, 0), (before, behind), *[(0, 0)] * (x.ndim - 2)])
    total = sum(squares[:, i:i + x.shape[1]] for i in range(size))
    return x / (bias + alpha / size * total) ** beta


@LRN.lower
@lowered
def _(p: Builder, x: Expr, *, size: int, alpha: float, beta: float, bias: float) -> Expr:
    n = x.rank - 2
    total = p.window(x * x, "sum", [size, *[1] * n], [1] * (n + 1), [_around(size), *[(0, 0)] * n])
    return x / p.pow(total * (alpha / size) + bias, beta)


@LpNormalization.infer
def _(node: InferNode) -> None:
    x = node.shape(0)
    if x is not None:
        axis_of(node["axis"], len(x), node)
    if node["p"] not in (1, 2):
        node.fail(f"p is 1 or 2, not {node['p']}")
    infer_same(node)


@LpNormalization.reference
@computed
def lp_normalization(x: Any, *, axis: int, p: int) -> Any:
    norm = np.abs(x).sum(axis, keepdims=True) if p == 1 else np.sqrt((x * x).sum(axis, keepdims=True))
    return np.where(norm == 0, x.dtype.type(0), x / norm)


@LpNormalization.lower
@lowered
def _(builder: Builder, x: Expr, *, axis: int, p: int) -> Expr:
    total = builder.sum(builder.abs(x) if p == 1 else x * x, [axis], keepdims=True)
    norm = total if p == 1 else builder.sqrt(total)
    return builder.select(builder.eq(norm, 0.0), 0.0, x / norm)


# Added to the standard deviation, by the function that ONNX gives as the meaning of this operator.
_TINY = 1e-9


@MeanVarianceNormalization.infer
def _(node: InferNode) -> None:
    x = node.shape(0)
    if x is not None:
        axes_of(node["axes"], len(x), node)
    infer_same(node)


@MeanVarianceNormalization.reference
@computed
def mean_variance_normalization(x: Any, *, axes: Sequence[int]) -> Any:
    less = x - x.mean(tuple(axes), keepdims=True)
    return less / (np.sqrt((less * less).mean(tuple(axes), keepdims=True)) + x.dtype.type(_TINY))


@MeanVarianceNormalization.lower
@lowered
def _(p: Builder, x: Expr, *, axes: Sequence[int]) -> Expr:
    less = x - p.mean(x, axes, keepdims=True)
    return less / (p.sqrt(p.mean(less * less, axes, keepdims=True)) + _TINY)
