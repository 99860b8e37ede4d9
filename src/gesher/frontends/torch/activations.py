"""Activations."""

from __future__ import annotations

import math
from typing import Any

from gesher.ir import Value

from .translation import Translation, aten


@aten("relu")
def _(t: Translation, x: Value) -> Value:
    return t.b.Relu(x) if t.dtype(x).is_float else t.b.Max(x, t.scalar(0, x))


@aten("relu6")
def _(t: Translation, x: Value) -> Value:
    return t.b.Clip(x, t.scalar(0, x), t.scalar(6, x))


@aten("hardtanh")
def _(t: Translation, x: Value, low: Any = -1, high: Any = 1) -> Value:
    return t.b.Clip(x, t.scalar(low, x), t.scalar(high, x))


@aten("leaky_relu")
def _(t: Translation, x: Value, slope: float = 0.01) -> Value:
    return t.b.LeakyRelu(x, alpha=float(slope))


@aten("prelu", "_prelu_kernel")
def _(t: Translation, x: Value, weight: Value) -> Value:
    rank = t.rank(x)
    if t.rank(weight) == 1 and rank > 2:
        weight = t.unsqueeze(weight, range(1, rank - 1))
    return t.b.PRelu(x, weight)


@aten("elu")
def _(t: Translation, x: Value, alpha: Any = 1, scale: Any = 1, input_scale: Any = 1) -> Value:
    inner = x if input_scale == 1 else t.b.Mul(x, t.scalar(input_scale, x))
    if input_scale == 1:
        y = t.b.Elu(x, alpha=float(alpha))
    else:
        bent = t.b.Mul(t.b.Sub(t.b.Exp(inner), t.scalar(1, x)), t.scalar(alpha, x))
        y = t.b.Where(t.b.Greater(x, t.scalar(0, x)), x, bent)
    return y if scale == 1 else t.b.Mul(y, t.scalar(scale, x))


@aten("selu")
def _(t: Translation, x: Value) -> Value:
    return t.b.Selu(x)


@aten("celu")
def _(t: Translation, x: Value, alpha: Any = 1.0) -> Value:
    return t.b.Celu(x, alpha=float(alpha))


@aten("gelu")
def _(t: Translation, x: Value, *, approximate: str = "none") -> Value:
    if t.b.opsets[""] >= 20:
        return t.b.Gelu(x, approximate=approximate)
    half = t.b.Mul(x, t.scalar(0.5, x))
    if approximate == "tanh":
        cube = t.b.Mul(t.b.Mul(x, x), x)
        inner = t.b.Mul(t.b.Add(x, t.b.Mul(cube, t.scalar(0.044715, x))), t.scalar(math.sqrt(2 / math.pi), x))
        return t.b.Mul(half, t.b.Add(t.b.Tanh(inner), t.scalar(1, x)))
    return t.b.Mul(half, t.b.Add(t.b.Erf(t.b.Mul(x, t.scalar(math.sqrt(0.5), x))), t.scalar(1, x)))


@aten("silu")
def _(t: Translation, x: Value) -> Value:
    return t.b.Mul(x, t.b.Sigmoid(x))


@aten("mish")
def _(t: Translation, x: Value) -> Value:
    return t.b.Mish(x) if t.b.opsets[""] >= 18 else t.b.Mul(x, t.b.Tanh(t.b.Softplus(x)))


@aten("hardswish")
def _(t: Translation, x: Value) -> Value:
    return t.b.HardSwish(x) if t.b.opsets[""] >= 14 else t.b.Mul(x, t.b.HardSigmoid(x, alpha=1 / 6, beta=0.5))


@aten("hardsigmoid")
def _(t: Translation, x: Value) -> Value:
    return t.b.HardSigmoid(x, alpha=1 / 6, beta=0.5)


@aten("softplus")
def _(t: Translation, x: Value, beta: Any = 1, threshold: Any = 20) -> Value:
    scaled = x if beta == 1 else t.b.Mul(x, t.scalar(beta, x))
    soft = t.b.Softplus(scaled)
    soft = soft if beta == 1 else t.b.Div(soft, t.scalar(beta, x))
    return t.b.Where(t.b.Greater(scaled, t.scalar(threshold, x)), x, soft)


@aten("log_sigmoid", "log_sigmoid_forward")
def _(t: Translation, x: Value) -> Any:
    y = t.b.Neg(t.b.Softplus(t.b.Neg(x)))
    return (y, y) if isinstance(t.out, (tuple, list)) else y


@aten("softsign")
def _(t: Translation, x: Value) -> Value:
    return t.b.Softsign(x)


@aten("threshold")
def _(t: Translation, x: Value, threshold: Any, value: Any) -> Value:
    return t.b.Where(t.b.Greater(x, t.scalar(threshold, x)), x, t.scalar(value, x))


@aten("hardshrink")
def _(t: Translation, x: Value, bound: Any = 0.5) -> Value:
    return t.b.Where(t.b.LessOrEqual(t.b.Abs(x), t.scalar(bound, x)), t.scalar(0, x), x)


@aten("softshrink")
def _(t: Translation, x: Value, bound: Any = 0.5) -> Value:
    return t.b.Shrink(x, lambd=float(bound), bias=float(bound))


@aten("glu")
def _(t: Translation, x: Value, dim: int = -1) -> Value:
    a, gate = t.b.Split(x, axis=t.axis(dim, t.rank(x)), outputs=2, **(
        {"num_outputs": 2} if t.b.opsets[""] >= 18 else {}))
    return t.b.Mul(a, t.b.Sigmoid(gate))


def _soft(t: Translation, op: str, x: Value, dim: int) -> Value:
    x = t.cast(x, t.out_dtype)
    if t.rank(x) == 0:
        return t.b.Squeeze(t.b.op(op, t.unsqueeze(x, [0]), axis=0), t.ints([0]))
    return t.b.op(op, x, axis=t.axis(dim, t.rank(x)))


@aten("softmax.int", "_softmax")
def _(t: Translation, x: Value, dim: int, *_: Any) -> Value:
    return _soft(t, "Softmax", x, dim)


@aten("log_softmax.int", "_log_softmax")
def _(t: Translation, x: Value, dim: int, *_: Any) -> Value:
    return _soft(t, "LogSoftmax", x, dim)
