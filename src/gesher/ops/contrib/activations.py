"""Activations of com.microsoft, as fused and exported models carry them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gesher.ir.types import print_shape
from gesher.ops.beside import require
from gesher.ops.rules import InferNode
from gesher.ops.schema import BF16, FLOATS, Attr, Input, Output, op

Array = np.ndarray[Any, Any]
MS = "com.microsoft"

Gelu = op("Gelu", Input("X"), Output("Y"), domain=MS, T=FLOATS | BF16)
FastGelu = op("FastGelu", Input("X"), Input("bias", optional=True), Output("Y"), domain=MS, T=FLOATS | BF16)
BiasGelu = op("BiasGelu", Input("A"), Input("B"), Output("C"), domain=MS, T=FLOATS | BF16)
QuickGelu = op("QuickGelu", Input("X"), Output("Y"), Attr("alpha", "float", 1.702), domain=MS, T=FLOATS | BF16)


@Gelu.infer
@FastGelu.infer
@BiasGelu.infer
@QuickGelu.infer
def _(node: InferNode) -> None:
    shape = node.shape(0)
    bias = node.shape(1) if node.has(1) else None
    if shape is not None and bias is not None:
        if len(bias) != 1 or not shape:
            node.fail(f"the bias {print_shape(bias)} is no vector along the last axis of {print_shape(shape)}")
        node.unify(shape[-1], bias[0], "the bias has one number for each of the last dim")
    node.set(0, node.dtype(0), shape)


def _biased(x: Array, bias: Array) -> Array:
    require("the bias", bias.shape, x.ndim > 0 and bias.shape == x.shape[-1:], "a vector along the last axis of X")
    return x + bias


def _erf(x: Array) -> Array:
    return np.vectorize(math.erf, otypes=[np.float64])(x) if x.size else x


@Gelu.reference
def gelu(x: Array) -> Array:
    wide = x.astype(np.float64)
    return (wide * 0.5 * (1 + _erf(wide / math.sqrt(2)))).astype(x.dtype)


@BiasGelu.reference
def bias_gelu(a: Array, b: Array) -> Array:
    return gelu(_biased(a, b))


@FastGelu.reference
def fast_gelu(x: Array, bias: Array | None = None) -> Array:
    wide = (x if bias is None else _biased(x, bias)).astype(np.float64)
    inner = math.sqrt(2 / math.pi) * (wide + 0.044715 * wide ** 3)
    return (wide * 0.5 * (1 + np.tanh(inner))).astype(x.dtype)


@QuickGelu.reference
def quick_gelu(x: Array, *, alpha: float) -> Array:
    wide = x.astype(np.float64)
    e = np.exp(-np.abs(alpha * wide))
    return (wide * np.where(alpha * wide >= 0, 1, e) / (1 + e)).astype(x.dtype)


@Gelu.lower
def _(p: Any, x: Any) -> Any:
    return (p.erf(x * math.sqrt(0.5)) + 1.0) * (x * 0.5)


@BiasGelu.lower
def _(p: Any, a: Any, b: Any) -> Any:
    x = a + b
    return (p.erf(x * math.sqrt(0.5)) + 1.0) * (x * 0.5)


@FastGelu.lower
def _(p: Any, x: Any, bias: Any = None) -> Any:
    x = x if bias is None else x + bias
    return (p.tanh((x * x * 0.044715 + 1.0) * x * math.sqrt(2 / math.pi)) + 1.0) * (x * 0.5)


@QuickGelu.lower
def _(p: Any, x: Any, *, alpha: float) -> Any:
    return x * p.sigmoid(x * alpha)
