"""Activations: maps of one tensor with a bend in them. NaN goes through all of them but ThresholdedRelu and Shrink.

`Clip` had its bounds as attributes before opset 11, where the largest float32 was the default even for doubles; since
then they are inputs, and a missing one bounds nothing (infinity stays infinity).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import RunError
from gesher.symbolic import maximum, minimum

from ..arithmetic import computed, lowered
from ..elementwise import CONSUMED, infer_same, unary
from ..known import symbolic_value
from ..rules import InferNode
from ..schema import BF16, FLOATS, INTS, NUMBERS, Attr, Drop, Input, Output, op, tensors
from .elementwise_unary import erf

_TO_6 = {1: FLOATS, 6: FLOATS}
_TO_13 = {1: FLOATS, 6: FLOATS, 13: FLOATS | BF16}
_TO_22 = {1: FLOATS, 6: FLOATS, 22: FLOATS | BF16}


def alpha(default: float) -> Attr:
    return Attr("alpha", "float", default)


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)); the exponential is never of a positive number, so that it cannot overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def softplus(x: Any) -> Any:
    """log(1 + exp(x)) without overflow."""
    return np.logaddexp(x.dtype.type(0), x)


def _lower_softplus(p: Any, x: Any) -> Any:
    return p.max(x, 0.0) + p.log1p(p.exp(-p.abs(x)))


Relu = unary("Relu", "X", "Y", {1: FLOATS, 6: FLOATS, 13: FLOATS | BF16, 14: FLOATS | INTS | BF16},
             lambda x: np.maximum(x, x.dtype.type(0)), lambda p, x: p.max(x, 0), symbolic=lambda x: maximum(x, 0))

Sigmoid = unary("Sigmoid", "X", "Y", _TO_13, sigmoid, "sigmoid")

LeakyRelu = unary("LeakyRelu", "X", "Y", _TO_6 | {16: FLOATS | BF16},
                  lambda x, *, alpha: np.where(x < 0, alpha * x, x),
                  lambda p, x, *, alpha: p.select(p.lt(x, 0.0), x * alpha, x), alpha(0.01))

ThresholdedRelu = unary("ThresholdedRelu", "X", "Y", {10: FLOATS, 22: FLOATS | BF16},
                        lambda x, *, alpha: np.where(x > alpha, x, x.dtype.type(0)),
                        lambda p, x, *, alpha: p.select(p.gt(x, alpha), x, 0.0), alpha(1))

Elu = unary("Elu", "X", "Y", _TO_22,
            lambda x, *, alpha: np.where(x < 0, alpha * np.expm1(x), x),
            lambda p, x, *, alpha: p.select(p.lt(x, 0.0), p.expm1(x) * alpha, x), alpha(1))

# The first version had the constants rounded to four digits.
Selu = unary("Selu", "X", "Y", _TO_22,
             lambda x, *, alpha, gamma: gamma * np.where(x > 0, x, alpha * np.expm1(x)),
             lambda p, x, *, alpha, gamma: p.select(p.gt(x, 0.0), x, p.expm1(x) * alpha) * gamma,
             alpha(1.6732), Attr("gamma", "float", 1.0507),
             changes={6: (alpha(1.67326319217681884765625), Attr("gamma", "float", 1.05070102214813232421875))})

Celu = unary("Celu", "X", "Y", {12: tensors("float"), 28: FLOATS | BF16},
             lambda x, *, alpha: np.maximum(0, x) + np.minimum(0, alpha * np.expm1(x / x.dtype.type(alpha))),
             lambda p, x, *, alpha: p.max(x, 0.0) + p.min(p.expm1(x / alpha) * alpha, 0.0), alpha(1))

HardSigmoid = unary("HardSigmoid", "X", "Y", _TO_22,
                    lambda x, *, alpha, beta: np.clip(alpha * x + beta, 0, 1),
                    lambda p, x, *, alpha, beta: p.max(p.min(x * alpha + beta, 1.0), 0.0),
                    alpha(0.2), Attr("beta", "float", 0.5))

# A float32, as an attribute would hold it.
_SIXTH = float(np.float32(1 / 6))

HardSwish = unary("HardSwish", "X", "Y", {14: FLOATS, 22: FLOATS | BF16},
                  lambda x: x * np.clip(_SIXTH * x + 0.5, 0, 1),
                  lambda p, x: x * p.max(p.min(x * _SIXTH + 0.5, 1.0), 0.0))

Swish = unary("Swish", "X", "Y", {24: FLOATS | BF16},
              lambda x, *, alpha: x * sigmoid(alpha * x),
              lambda p, x, *, alpha: x * p.sigmoid(x * alpha), alpha(1))

Softplus = unary("Softplus", "X", "Y", {1: FLOATS, 22: FLOATS | BF16}, softplus, _lower_softplus)

Softsign = unary("Softsign", "input", "output", {1: FLOATS, 22: FLOATS | BF16},
                 lambda x: x / (1 + np.abs(x)), lambda p, x: x / (p.abs(x) + 1.0))

Mish = unary("Mish", "X", "Y", {18: FLOATS, 22: FLOATS | BF16},
             lambda x: x * np.tanh(softplus(x)), lambda p, x: x * p.tanh(_lower_softplus(p, x)))


# Gelu

_SQRT_2_OVER_PI = math.sqrt(2 / math.pi)


def _check_approximate(approximate: str) -> bool:
    if approximate not in ("none", "tanh"):
        raise RunError(f"Gelu: approximate is {approximate!r}, not none or tanh")
    return approximate == "tanh"


def _gelu(x: Any, *, approximate: str) -> Any:
    if _check_approximate(approximate):
        return x * sigmoid(2 * _SQRT_2_OVER_PI * (x + 0.044715 * x**3))  # (1 + tanh(u)) / 2 is sigmoid(2u)
    return x * (0.5 * (1 + erf(x / math.sqrt(2))))


def _lower_gelu(p: Any, x: Any, *, approximate: str) -> Any:
    if _check_approximate(approximate):
        return x * 0.5 * (p.tanh((x + x * x * x * 0.044715) * _SQRT_2_OVER_PI) + 1.0)
    return x * 0.5 * (p.erf(x * math.sqrt(0.5)) + 1.0)


Gelu = unary("Gelu", "X", "Y", {20: FLOATS | BF16}, _gelu, _lower_gelu, Attr("approximate", "string", "none"))


# Shrink: nothing of what lies within lambd of zero, the rest moved toward it; of integers in double precision.

def _shrink(x: Any, *, lambd: float, bias: float) -> Any:
    wide = x.astype(np.float64) if x.dtype.kind in "iu" else x
    return np.where(wide < -lambd, wide + bias, np.where(wide > lambd, wide - bias, 0))


def _lower_shrink(p: Any, x: Any, *, lambd: float, bias: float) -> Any:
    wide = p.cast(x, dtypes.DOUBLE) if x.dtype.is_integer else x
    moved = p.select(p.lt(wide, -lambd), wide + bias, p.select(p.gt(wide, lambd), wide - bias, 0.0))
    return p.cast(moved, x.dtype)


Shrink = unary("Shrink", "input", "output", {9: NUMBERS}, _shrink, _lower_shrink,
               Attr("bias", "float", 0.0), Attr("lambd", "float", 0.5))


# Clip

_LARGEST = float(np.finfo(np.float32).max)

Clip = (op("Clip", Input("input"), Output("output"), Attr("min", "float"), Attr("max", "float"), CONSUMED, T=FLOATS)
        .since(6, Drop("consumed_inputs"), Attr("min", "float", -_LARGEST), Attr("max", "float", _LARGEST),
               behaviour="without bounds it cuts infinities to the largest float32")
        .since(11, Drop("min"), Drop("max"), Input("min", optional=True), Input("max", optional=True),
               behaviour="the bounds are inputs, and a missing one bounds nothing")
        .since(12, T=NUMBERS)
        .since(13, T=NUMBERS | BF16))


@Clip.infer
def _(node: InferNode) -> None:
    infer_same(node)


@Clip.infer(since=11)
def _(node: InferNode) -> None:
    for i, what in ((1, "min"), (2, "max")):
        shape = None if (bound := node.input(i)) is None else bound.shape
        if shape is not None and any(isinstance(d, int) and d != 1 for d in shape):
            node.fail(f"{what} must be a scalar, it has the shape {shape}")
    fact = node.input(0)
    if fact is not None and fact.type is not None:
        node.set(0, fact.dtype, fact.shape, symbolic_value(node, fact.shape, _clip_sizes))


def _clip_sizes(x: Any, low: Any = None, high: Any = None) -> Any:
    result = x.copy()
    for at in np.ndindex(*x.shape):
        if low is not None:
            result[at] = maximum(result[at], low.item())
        if high is not None:
            result[at] = minimum(result[at], high.item())
    return result


@Clip.reference
@computed
def _(x: Any, *, min: float | None, max: float | None) -> Any:
    if min is not None:
        x = np.maximum(x, x.dtype.type(min))
    return x if max is None else np.minimum(x, x.dtype.type(max))


@Clip.reference(since=11)
@computed
def _(x: Any, min: Any = None, max: Any = None) -> Any:
    if min is not None:
        x = np.maximum(x, _bound(min, "min"))
    return x if max is None else np.minimum(x, _bound(max, "max"))


def _bound(x: Any, name: str) -> Any:
    if x.size != 1:
        raise RunError(f"Clip: {name} must be a scalar, it has the shape {x.shape}")
    return x.reshape(())


@Clip.lower
@lowered
def _(p: Any, x: Any, *, min: float | None, max: float | None) -> Any:
    if min is not None:
        x = p.max(x, min)
    return x if max is None else p.min(x, max)


@Clip.lower(since=11)
def _(p: Any, x: Any, min: Any = None, max: Any = None) -> Any:
    if min is not None:
        x = p.max(x, p.reshape(min, ()))
    return x if max is None else p.min(x, p.reshape(max, ()))
