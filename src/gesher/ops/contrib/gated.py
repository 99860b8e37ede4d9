"""Gates and mixtures of newer decoders: gated norms and sums, gates of linear attention, streams side by side.

All compute in float32. Streams are grouped, (..., branches, features), or flat, (..., branches * features); then
`num_branches` says how many there are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError, UnsupportedError
from gesher.ir import DimLike
from gesher.ir.types import print_shape
from gesher.ops.arithmetic import widen, widened
from gesher.ops.beside import check, either, require, same
from gesher.ops.gates import ACTIVATIONS
from gesher.ops.rules import InferNode
from gesher.ops.schema import Attr, Input, Output, op
from gesher.primitives import Builder, CannotLower, Expr
from gesher.symbolic import decide_eq

from .types import FLOAT, MS, REALS

_EPSILON = Attr("epsilon", "float", 1e-5)
_BRANCHES = Attr("num_branches", "int", 0)

ScaledSiLU = op("ScaledSiLU", Input("X"), Input("scale", "M", optional=True), Output("Y"), Attr("alpha", "float", 1.0),
                domain=MS, T=REALS, M=REALS)
GatedAdd = op("GatedAdd", Input("X"), Input("Y"), Input("gate"), Input("gate_weight", optional=True), Output("output"),
              domain=MS, T=REALS)
GatedRMSNorm = op("GatedRMSNorm", Input("X"), Input("scale"), Input("gate"), Output("Y"),
                  Attr("activation", "string", "silu"), _EPSILON, domain=MS, T=REALS)
BranchwiseRMSNorm = op("BranchwiseRMSNorm", Input("X"), Input("scale", "M", optional=True), Output("Y"), _BRANCHES,
                       _EPSILON, domain=MS, T=REALS, M=REALS)
LinearAttentionGate = op("LinearAttentionGate", Input("a"), Input("dt_bias", "TF"), Input("decay_scale", "TF"),
                         Input("b", optional=True), Output("decay"), Output("beta", optional=True), domain=MS, T=REALS,
                         TF=FLOAT)
HyperConnectionPreMix = op("HyperConnectionPreMix", Input("streams"), Input("pre_mix", "M"), Output("output"),
                           Attr("reduction_scale", "float", 1.0), _BRANCHES, domain=MS, T=REALS, M=REALS)
HyperConnectionPostMix = op("HyperConnectionPostMix", Input("streams"), Input("block_output"), Input("post_mix", "M"),
                            Input("stream_mix", "M", optional=True), Output("output"), _BRANCHES, domain=MS, T=REALS,
                            M=REALS)

_sigmoid = ACTIVATIONS["sigmoid"]
_softplus = ACTIVATIONS["softplus"]


# ScaledSiLU: z * sigmoid(z) of z = scale * x, each step rounded to the type of x

@ScaledSiLU.infer
def _(node: InferNode) -> None:
    scale = node.shape(1) if node.has(1) else None
    if scale is not None and any(decide_eq(d, 1) is False for d in scale):
        node.fail(f"the scale is one number, not {print_shape(scale)}")
    node.set(0, node.dtype(0), node.shape(0))


@ScaledSiLU.reference
def scaled_silu(x: Any, scale: Any = None, *, alpha: float) -> Any:
    factor = np.float32(alpha) if scale is None else widen(scale).reshape(())
    z = widen((widen(x) * factor).astype(x.dtype))
    return (z * widen(_sigmoid.compute(z, 0.0, 0.0).astype(x.dtype))).astype(x.dtype)


@ScaledSiLU.lower
def _(p: Builder, x: Expr, scale: Expr | None = None, *, alpha: float) -> Expr:
    factor = p.scalar(alpha, dtypes.FLOAT) if scale is None else p.reshape(widened(p, scale), ())
    z = p.cast(widened(p, x) * factor, x.dtype)
    return z * p.sigmoid(z)


# GatedAdd: x + y * gate, a gate for each row

@GatedAdd.infer
def _(node: InferNode) -> None:
    x, y, gate = node.shape(0), node.shape(1), node.shape(2)
    if x is not None and y is not None:
        if len(x) != len(y):
            node.fail(f"X {print_shape(x)} and Y {print_shape(y)} have different ranks")
        x = tuple(node.unify(a, b, f"axis {i} of X and of Y") for i, (a, b) in enumerate(zip(x, y)))  # type: ignore[misc]
    if x is not None and gate is not None:
        if len(gate) != len(x):
            node.fail(f"the gate {print_shape(gate)} has another rank than X {print_shape(x)}")
        for i, (a, b) in enumerate(zip(x[:-1], gate)):
            node.unify(a, b, f"axis {i} of X and of the gate")
        if not node.has(3):
            node.unify(gate[-1], 1, "a gate is one number for each row")
    node.set(0, node.dtype(0), x)


@GatedAdd.reference
def gated_add(x: Any, y: Any, gate: Any, gate_weight: Any = None) -> Any:
    if gate_weight is not None:
        raise UnsupportedError("GatedAdd with a weight of its gate", who="reference",
                               advice="ONNX Runtime has it for GPUs only")
    return x + y * gate


@GatedAdd.lower
def _(p: Builder, x: Expr, y: Expr, gate: Expr, gate_weight: Expr | None = None) -> Expr:
    if gate_weight is not None:
        raise CannotLower("a weight of the gate")
    return x + y * gate


# GatedRMSNorm: over groups as long as the scale, along the last axis

def _gate(activation: str) -> str:
    if activation not in ("silu", "swish", "sigmoid"):
        raise ModelError(f"the gate cannot be '{activation}'", rule="activation",
                         advice="it is silu, swish or sigmoid")
    return activation


@GatedRMSNorm.infer
def _(node: InferNode) -> None:
    x, scale = node.shape(0), node.shape(1)
    try:
        _gate(node["activation"])
    except ModelError as e:
        node.fail(e.what, e.advice)
    if scale is not None and len(scale) != 1:
        node.fail(f"the scale is a list, not {print_shape(scale)}")
    if x is not None and scale is not None and isinstance(scale[0], int) and decide_eq(x[-1] % scale[0], 0) is False:
        node.fail(f"{x[-1]} features do not divide into groups of {scale[0]}")
    gate = node.shape(2)
    if x is not None and gate is not None:
        check(node, 2, same(gate, x), f"of the shape of X, {print_shape(x)}")
        x = tuple(node.unify(a, b, f"axis {i} of X and of the gate") for i, (a, b) in enumerate(zip(x, gate)))  # type: ignore[misc]
    node.set(0, node.dtype(0), x)


@GatedRMSNorm.reference
def gated_rms_norm(x: Any, scale: Any, gate: Any, *, activation: str, epsilon: float) -> Any:
    require("the scale", scale.shape, scale.ndim == 1 and x.ndim > 0 and scale.size > 0
            and x.shape[-1] % len(scale) == 0, f"a list that divides the features of X {print_shape(x.shape)}")
    require("the gate", gate.shape, gate.shape == x.shape, f"of the shape of X, {print_shape(x.shape)}")
    groups, z = widen(x).reshape(*x.shape[:-1], -1, len(scale)), widen(gate)
    inverse = 1 / np.sqrt((groups * groups).mean(-1, keepdims=True) + np.float32(epsilon))
    y = (groups * inverse * widen(scale)).reshape(x.shape)
    opened = _sigmoid.compute(z, 0.0, 0.0)
    return (y * (opened if _gate(activation) == "sigmoid" else z * opened)).astype(x.dtype)


@GatedRMSNorm.lower
def _(p: Builder, x: Expr, scale: Expr, gate: Expr, *, activation: str, epsilon: float) -> Expr:
    size = scale.shape[0]
    groups, z = p.reshape(widened(p, x), (*x.shape[:-1], x.shape[-1] // size, size)), widened(p, gate)
    mean = p.mean(groups * groups, [groups.rank - 1], keepdims=True)
    y = p.reshape(groups / p.sqrt(mean + float(epsilon)) * widened(p, scale), x.shape)
    opened = p.sigmoid(z)
    return p.cast(y * (opened if _gate(activation) == "sigmoid" else z * opened), x.dtype)


# BranchwiseRMSNorm

def _grouped_shape(shape: Any, branches: int) -> tuple[DimLike, ...]:
    """The shape of streams with their branches apart."""
    if not branches:
        return tuple(shape)
    if decide_eq(shape[-1] % branches, 0) is False:
        raise ModelError(f"{shape[-1]} features do not divide into {branches} branches", rule="branches")
    return *shape[:-1], branches, shape[-1] // branches


def _checked(node: InferNode) -> tuple[DimLike, ...] | None:
    x = node.shape(0)
    if x is None:
        return None
    if len(x) < (1 if node["num_branches"] else 2):
        node.fail(f"{print_shape(x)} has no branches apart", "write num_branches where they are flat")
    try:
        return _grouped_shape(x, node["num_branches"])
    except ModelError as e:
        node.fail(e.what, e.advice)


@BranchwiseRMSNorm.infer
def _(node: InferNode) -> None:
    _checked(node)
    node.set(0, node.dtype(0), node.shape(0))


@BranchwiseRMSNorm.reference
def branchwise_rms_norm(x: Any, scale: Any = None, *, num_branches: int, epsilon: float) -> Any:
    groups = widen(x).reshape(_grouped_shape(x.shape, num_branches))
    y = groups / np.sqrt((groups * groups).mean(-1, keepdims=True) + np.float32(epsilon))
    if scale is not None:
        # A list of all numbers, and not of those of one branch, holds for each branch apart.
        y = y * (widen(scale) if scale.shape == y.shape[-1:] else widen(scale).reshape(y.shape[-2:]))
    return y.reshape(x.shape).astype(x.dtype)


@BranchwiseRMSNorm.lower
def _(p: Builder, x: Expr, scale: Expr | None = None, *, num_branches: int, epsilon: float) -> Expr:
    groups = p.reshape(widened(p, x), _grouped_shape(x.shape, num_branches))
    y = groups / p.sqrt(p.mean(groups * groups, [groups.rank - 1], keepdims=True) + float(epsilon))
    if scale is not None:
        one = scale.rank == 1 and decide_eq(scale.shape[0], y.shape[-1])
        y = y * (widened(p, scale) if one else p.reshape(widened(p, scale), y.shape[-2:]))
    return p.cast(p.reshape(y, x.shape), x.dtype)


# LinearAttentionGate

@LinearAttentionGate.infer
def _(node: InferNode) -> None:
    a = node.shape(0)
    for i, name in ((1, "dt_bias"), (2, "decay_scale")):
        shape = node.shape(i)
        if a is not None and shape is not None:
            if len(shape) != 1:
                node.fail(f"{name} is a list, not {print_shape(shape)}")
            node.unify(a[-1], shape[0], f"the heads of a and of {name}")
    if len(node.outputs) > 1 and node.node.outputs[1] is not None and not node.has(3):
        node.fail("beta is made from b, which is left out")
    node.set(0, node.dtype(0), a)
    node.set(1, node.dtype(0), node.shape(3) if node.has(3) else None)


@LinearAttentionGate.reference
def linear_attention_gate(a: Any, dt_bias: Any, decay_scale: Any, b: Any = None) -> Any:
    decay = (decay_scale * _softplus.compute(widen(a) + dt_bias, 0.0, 0.0)).astype(a.dtype)
    return decay if b is None else (decay, _sigmoid.compute(widen(b), 0.0, 0.0).astype(a.dtype))


@LinearAttentionGate.lower
def _(p: Builder, a: Expr, dt_bias: Expr, decay_scale: Expr, b: Expr | None = None) -> tuple[Expr, ...]:
    decay = p.cast(_softplus.lower(p, widened(p, a) + dt_bias, 0.0, 0.0) * decay_scale, a.dtype)
    return (decay,) if b is None or p.outputs < 2 else (decay, p.cast(p.sigmoid(widened(p, b)), a.dtype))


# HyperConnections: streams become one, and one is put back into them

@HyperConnectionPreMix.infer
def _(node: InferNode) -> None:
    grouped, mix = _checked(node), node.shape(1)
    if grouped is not None and mix is not None:
        check(node, 1, _is_mix(mix, grouped), _mixes(grouped))
    node.set(0, node.dtype(0), None if grouped is None else (*grouped[:-2], grouped[-1]))


@HyperConnectionPostMix.infer
def _(node: InferNode) -> None:
    grouped, block = _checked(node), node.shape(1)
    if grouped is not None and block is not None:
        node.unify(grouped[-1], block[-1], "the features of the streams and of what is put in")
    node.set(0, node.dtype(0), node.shape(0))


def _is_mix(mix: Any, grouped: Any) -> bool | None:
    """Whether it holds a gate for each branch, or for each of their features: apart, or side by side."""
    *lead, branches, size = grouped
    return either(*(same(mix, (*lead, *rest)) for rest in (
        (branches,), (branches * size,), (branches, 1), (branches, size))))


def _mixes(grouped: Any) -> str:
    return f"a gate for each branch of {print_shape(tuple(grouped))}, or for each of its features"


def _mix(mix: Any, grouped: Any) -> Any:
    """Gates of branches, or of each of their features, as they broadcast against grouped streams."""
    if len(mix.shape) == len(grouped):
        return mix
    # One number for each branch, or those of all features side by side.
    return mix.reshape(*grouped[:-1], 1 if mix.shape[-1] == grouped[-2] else grouped[-1])


@HyperConnectionPreMix.reference
def hyper_connection_pre_mix(streams: Any, pre_mix: Any, *, reduction_scale: float, num_branches: int) -> Any:
    grouped = _grouped_shape(streams.shape, num_branches)
    require("pre_mix", pre_mix.shape, _is_mix(pre_mix.shape, grouped), _mixes(grouped))
    mixed = widen(streams).reshape(grouped) * _mix(widen(pre_mix), grouped)
    return (np.float32(reduction_scale) * mixed.sum(-2)).astype(streams.dtype)


@HyperConnectionPostMix.reference
def hyper_connection_post_mix(streams: Any, block_output: Any, post_mix: Any, stream_mix: Any = None, *,
                              num_branches: int) -> Any:
    shape = _grouped_shape(streams.shape, num_branches)
    grouped = widen(streams).reshape(shape)
    if stream_mix is not None:
        grouped = widen(stream_mix).swapaxes(-1, -2) @ grouped
    y = grouped + _mix(widen(post_mix), shape) * widen(block_output)[..., None, :]
    return y.reshape(streams.shape).astype(streams.dtype)


def _mix_expr(p: Builder, mix: Expr, grouped: tuple[DimLike, ...]) -> Expr:
    if mix.rank == len(grouped):
        return mix
    by_branch = decide_eq(mix.shape[-1], grouped[-2])
    if by_branch is None:
        raise CannotLower("gates whose number depends on symbolic sizes")
    return p.reshape(mix, (*grouped[:-1], 1 if by_branch else grouped[-1]))


@HyperConnectionPreMix.lower
def _(p: Builder, streams: Expr, pre_mix: Expr, *, reduction_scale: float, num_branches: int) -> Expr:
    grouped = _grouped_shape(streams.shape, num_branches)
    mixed = p.reshape(widened(p, streams), grouped) * _mix_expr(p, widened(p, pre_mix), grouped)
    return p.cast(p.sum(mixed, [len(grouped) - 2]) * float(reduction_scale), streams.dtype)


@HyperConnectionPostMix.lower
def _(p: Builder, streams: Expr, block_output: Expr, post_mix: Expr, stream_mix: Expr | None = None, *,
      num_branches: int) -> Expr:
    shape = _grouped_shape(streams.shape, num_branches)
    grouped = p.reshape(widened(p, streams), shape)
    if stream_mix is not None:
        rank = stream_mix.rank
        grouped = p.matmul(p.transpose(widened(p, stream_mix), (*range(rank - 2), rank - 1, rank - 2)), grouped)
    y = grouped + _mix_expr(p, widened(p, post_mix), shape) * p.expand_dims(widened(p, block_output), [len(shape) - 2])
    return p.cast(p.reshape(y, streams.shape), streams.dtype)
