"""BatchNormalization, whose nine outputs in six versions are one formula: (X - mean) / sqrt(var + epsilon) * scale + B.

What a reader would guess wrong is when the mean and variance are those of the batch (training): until opset 6 unless
`is_test` is 1; in 7 and 9 where the node has more than one output; from 14 on where `training_mode` is 1. Until opset 8
`spatial` = 0 gave every place of every channel statistics of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir.types import print_shape
from gesher.primitives import Builder, Expr

from ..arithmetic import widen
from ..elementwise import infer_same
from ..rules import InferNode, Run
from ..schema import BF16, FLOATS, REQUIRED, Attr, Drop, Input, Inputs, Output, Outputs, op

BatchNormalization = (
    op("BatchNormalization", Input("X"), Input("scale"), Input("B"), Input("mean"), Input("var"), Output("Y"),
       Output("mean", optional=True), Output("var", optional=True), Output("saved_mean", optional=True),
       Output("saved_var", optional=True), Attr("epsilon", "float", 1e-5), Attr("momentum", "float", 0.9),
       Attr("is_test", "int", 0), Attr("spatial", "int", 1), Attr("consumed_inputs", "ints", REQUIRED), T=FLOATS)
    .since(6, Drop("consumed_inputs"))
    .since(7, Drop("is_test"), behaviour="the number of outputs tells training from testing, instead of is_test")
    .since(9, Drop("spatial"), behaviour="statistics always hold for a whole channel")
    .since(14, Inputs(Input("X"), Input("scale"), Input("B"), Input("input_mean", "U"), Input("input_var", "U")),
           Outputs(Output("Y"), Output("running_mean", "U", optional=True), Output("running_var", "U", optional=True)),
           Attr("training_mode", "int", 0), T=FLOATS | BF16, U=FLOATS | BF16,
           behaviour="training_mode tells training from testing, and the saved statistics are no outputs any more")
    .since(15, Inputs(Input("X"), Input("scale", "T1"), Input("B", "T1"), Input("input_mean", "T2"),
                      Input("input_var", "T2")),
           Output("running_mean", "T2", optional=True), Output("running_var", "T2", optional=True), U=None,
           T1=FLOATS | BF16, T2=FLOATS | BF16))


@BatchNormalization.infer
def _(node: InferNode) -> None:
    x = node.shape(0)
    by_channel = "spatial" not in node.schema.attributes or bool(node["spatial"])
    want = None
    if x is not None:
        if not x:
            node.fail("the data has at least one axis")
        want = x[1:2] if by_channel else x[1:]
        want = want if len(x) > 1 else (1,)
        for i, name in enumerate(("scale", "B", "mean", "var"), 1):
            shape = node.shape(i)
            if shape is None:
                continue
            if len(shape) != len(want):
                node.fail(f"{name} is {print_shape(shape)}, it must be {print_shape(want)}", f"X is {print_shape(x)}")
            for a, b in zip(want, shape):
                node.unify(a, b, f"{name} {print_shape(shape)} and the channels of X {print_shape(x)}")
    if node.version >= 14 and not node["training_mode"] and any(o is not None for o in node.node.outputs[1:]):
        node.fail("the running statistics are made only in training", "write training_mode = 1")
    infer_same(node)
    for i in range(1, len(node.node.outputs)):
        node.set(i, node.dtype(3 if i % 2 else 4), want, why="the shape of X is unknown")


def _trains(training_mode: int | None, is_test: int | None, outputs: int) -> bool:
    if training_mode is not None:
        return bool(training_mode)
    return outputs > 1 if is_test is None else not is_test


def _normalize(x: Any, scale: Any, b: Any, mean: Any, var: Any, shape: tuple[int, ...], epsilon: float) -> Any:
    scale, b, mean, var = (v.reshape(shape) for v in (scale, b, mean, var))
    # Statistics may be narrower than what they belong to: float32 beside float64.
    var = var.astype(np.result_type(x, var))
    return (x - mean) / np.sqrt(var + var.dtype.type(epsilon)) * scale + b


@BatchNormalization.reference
def batch_normalization(x: Any, scale: Any, b: Any, mean: Any, var: Any, *, epsilon: float, momentum: float,
                        is_test: int | None = None, spatial: int = 1, training_mode: int | None = None,
                        consumed_inputs: Any = None, run: Run | None = None) -> Any:
    training = _trains(training_mode, is_test, 1 if run is None else len(run.wanted))
    types = [x.dtype, mean.dtype, var.dtype, mean.dtype, var.dtype]
    x, scale, b, mean, var = map(widen, (x, scale, b, mean, var))
    # Statistics stand along the channels, and without `spatial` also along everything behind them.
    axes = (0, *range(2, x.ndim)) if spatial else (0,)
    shape = (-1, *(1,) * (x.ndim - 2)) if spatial else x.shape[1:]
    with np.errstate(all="ignore"):
        if not training:
            return _normalize(x, scale, b, mean, var, shape, epsilon).astype(types[0])
        of_batch, spread = x.mean(axes), x.var(axes)
        y = _normalize(x, scale, b, of_batch, spread, shape, epsilon)
        of_batch, spread = of_batch.reshape(mean.shape), spread.reshape(var.shape)
        kept = [old * momentum + new * (1 - momentum) for old, new in ((mean, of_batch), (var, spread))]
    outputs = (y, *kept, of_batch, spread)
    return tuple(o.astype(t) for o, t in zip(outputs, types))


@BatchNormalization.lower
def _(p: Builder, x: Expr, scale: Expr, b: Expr, mean: Expr, var: Expr, *, epsilon: float, momentum: float,
      is_test: int | None = None, spatial: int = 1, training_mode: int | None = None,
      consumed_inputs: Any = None) -> Any:
    training = _trains(training_mode, is_test, p.outputs)
    types = [x.dtype, mean.dtype, var.dtype, mean.dtype, var.dtype]
    # Data, scale and statistics may each have a type of their own; the widest holds for all.
    wide = dtypes.DOUBLE if any(e.dtype is dtypes.DOUBLE for e in (x, scale, b, mean, var)) else dtypes.FLOAT
    x, scale, b, mean, var = (p.cast(e, wide) for e in (x, scale, b, mean, var))
    axes = (0, *range(2, x.rank)) if spatial else (0,)
    shape = (*x.shape[1:2], *(1,) * (x.rank - 2)) if spatial else x.shape[1:]
    kept: list[Expr] = []
    if training:
        of_batch = p.mean(x, axes, keepdims=True)
        less = x - of_batch
        spread = p.mean(less * less, axes, keepdims=True)
        of_batch, spread = p.reshape(of_batch, mean.shape), p.reshape(spread, var.shape)
        kept = [old * momentum + new * (1 - momentum) for old, new in ((mean, of_batch), (var, spread))]
        kept += [of_batch, spread]
        mean, var = of_batch, spread
    # One product and one sum for each element; what is known of them is computed ahead.
    factor = scale / p.sqrt(var + epsilon)
    y = (x - p.reshape(mean, shape)) * p.reshape(factor, shape) + p.reshape(b, shape)
    return tuple(p.cast(e, t) for e, t in zip([y, *kept][:p.outputs], types))
