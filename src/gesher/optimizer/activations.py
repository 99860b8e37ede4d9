"""Activations recognised from their pieces.

What a reader would guess wrong: Log(1 + Exp(x)) is not Softplus, for it overflows where Softplus does not; a model
that writes it gives infinities, and so must we.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

from gesher.rewriter import Known, Rewrite, Rule, either, op


def _floats(x: Known) -> bool | str:
    return (x.dtype.is_float and x.dtype.bits >= 32) or "in narrow floats each step is rounded"


def _half_of_product(x: Any, gate: Any) -> Any:
    """x * gate / 2, in every order in which exporters write it."""
    return either((x * gate) * 0.5, (x * 0.5) * gate, x * (gate * 0.5), (x * gate) / 2.0, (x / 2.0) * gate,
                  x * (gate / 2.0))


def _erf_gate(x: Any) -> Any:
    return op.Erf(either(x / sqrt(2), x * sqrt(0.5))) + 1.0


def _cube(x: Any) -> Any:
    return either(x ** 3.0, x * (x * x), x * (x ** 2.0))


def _tanh_gate(x: Any) -> Any:
    c = 0.044715
    inner = either((x + _cube(x) * c) * sqrt(2 / pi),
                   (x + (x * c) * (x * x)) * sqrt(2 / pi),
                   (x + ((x * c) * x) * x) * sqrt(2 / pi),
                   x * sqrt(2 / pi) * ((x * x) * c + 1.0),
                   x * sqrt(2 / pi) * ((x * c) * x + 1.0),
                   x * (((x * x) * c + 1.0) * sqrt(2 / pi)),
                   x * ((x * x) * (c * sqrt(2 / pi)) + sqrt(2 / pi)))
    return op.Tanh(inner) + 1.0


def _hard_gate(x: Any) -> Any:
    """min(max(x + 3, 0), 6), whole."""
    return either(op.Clip(x + 3.0, 0.0, 6.0), op.Min(op.Relu(x + 3.0), 6.0), op.Min(6.0, op.Relu(x + 3.0)),
                  op.Min(op.Max(x + 3.0, 0.0), 6.0))


def _softmax(x: Any, axes: Any) -> Any:
    e = op.Exp(x - op.ReduceMax(x, axes))
    return e / op.ReduceSum(e, axes)


def _one_axis(x: Known, axes: Known) -> bool | str:
    return (axes.numbers is not None and axes.numbers.size == 1 and _floats(x)) or "it runs along several axes"


_SIXTH = 1 / 6

COMMON: tuple[Rewrite, ...] = (
    Rule("gelu", find=lambda x: _half_of_product(x, _erf_gate(x)), make=lambda x: op.Gelu(x),
         when=_floats),
    Rule("gelu_by_tanh", find=lambda x: _half_of_product(x, _tanh_gate(x)),
         make=lambda x: op.Gelu(x, approximate="tanh"), when=_floats),
    Rule("hard_sigmoid", find=lambda x: either(_hard_gate(x) / 6.0, _hard_gate(x) * _SIXTH),
         make=lambda x: op.HardSigmoid(x, alpha=_SIXTH, beta=0.5), when=_floats),
    Rule("hard_swish", find=lambda x: either(x * op.HardSigmoid(x, alpha=lambda a: abs(a - _SIXTH) < 1e-7, beta=0.5),
                                             (x * _hard_gate(x)) / 6.0, (x * _hard_gate(x)) * _SIXTH,
                                             (x * _SIXTH) * _hard_gate(x), (x / 6.0) * _hard_gate(x)),
         make=lambda x: op.HardSwish(x), when=_floats),
    Rule("mish", find=lambda x: x * op.Tanh(op.Softplus(x)), make=lambda x: op.Mish(x), when=_floats),
    Rule("softmax", find=lambda x, axes: _softmax(x, axes), make=lambda x, axes: op.Softmax(x, axis=int(axes.scalar)),
         when=lambda x, axes: _one_axis(x, axes)),
)
"""Those that other engines have, too."""

# TensorRT 10.15 lists no Swish, and ONNX Runtime 1.32 finds it in models of opset 24 alone.
RULES: tuple[Rewrite, ...] = (
    *COMMON,
    Rule("swish", find=lambda x: x * op.Sigmoid(x), make=lambda x: op.Swish(x), when=_floats),
    Rule("swish_with_factor", find=lambda x, a: x * op.Sigmoid(x * a), make=lambda x, a: op.Swish(x, alpha=a.scalar),
         when=lambda x, a: _floats(x) if a.scalar is not None else "the factor is no scalar constant"),
)
