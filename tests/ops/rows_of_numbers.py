"""Rows for what computes number by number, in pairs, and along axes; see `every_version`."""

from __future__ import annotations

from typing import Any

import numpy as np
from tests.ops.every_version import Row, Want, drawn, exactly, f32, i64


def _erf(x: np.ndarray) -> np.ndarray:
    from math import erf

    return np.vectorize(erf, otypes=[x.dtype])(x)


def _row_of(op: str, x: np.ndarray, f: Want, **attributes: Any) -> Row:
    return Row(op, [x], attributes, want=exactly(f))


X = f32(-1.5, -0.5, -0.0, 0.25, 0.5, 1.0, 2.5)
UNIT = f32(-0.99, -0.5, 0.0, 0.25, 0.75)
POSITIVE = f32(1.0, 1.25, 2.0, 4.5)

MAPS = [
    _row_of("Abs", X, np.abs), _row_of("Neg", X, np.negative), _row_of("Ceil", X, np.ceil),
    _row_of("Floor", X, np.floor), _row_of("Exp", X, np.exp), _row_of("Tanh", X, np.tanh),
    _row_of("Acos", UNIT, np.arccos), _row_of("Asin", UNIT, np.arcsin), _row_of("Atan", X, np.arctan),
    _row_of("Acosh", POSITIVE, np.arccosh), _row_of("Asinh", X, np.arcsinh), _row_of("Atanh", UNIT, np.arctanh),
    _row_of("Sin", X, np.sin), _row_of("Cos", X, np.cos), _row_of("Tan", X, np.tan), _row_of("Sinh", X, np.sinh),
    _row_of("Cosh", X, np.cosh), _row_of("Log", POSITIVE, np.log), _row_of("Sqrt", POSITIVE, np.sqrt),
    _row_of("Reciprocal", POSITIVE, np.reciprocal), _row_of("Erf", X, _erf),
    _row_of("Relu", X, lambda x: np.maximum(x, 0)), _row_of("Sigmoid", X, lambda x: 1 / (1 + np.exp(-x))),
    _row_of("Elu", X, lambda x: np.where(x < 0, 0.5 * (np.exp(x) - 1), x), alpha=0.5),
    _row_of("Celu", X, lambda x: np.maximum(x, 0) + np.minimum(0, 0.5 * (np.exp(x / 0.5) - 1)), alpha=0.5),
    _row_of("Selu", X, lambda x: 1.5 * np.where(x > 0, x, 2.0 * (np.exp(x) - 1)), alpha=2.0, gamma=1.5),
    _row_of("LeakyRelu", X, lambda x: np.where(x < 0, 0.25 * x, x), alpha=0.25),
    _row_of("HardSigmoid", X, lambda x: np.clip(0.5 * x + 0.25, 0, 1), alpha=0.5, beta=0.25),
    _row_of("HardSwish", X, lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    _row_of("Mish", X, lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    _row_of("Softsign", X, lambda x: x / (1 + np.abs(x))), _row_of("Softplus", X, lambda x: np.log1p(np.exp(x))),
    _row_of("ThresholdedRelu", X, lambda x: np.where(x > 0.5, x, 0), alpha=0.5),
    Row("IsNaN", [f32(np.nan, 1, np.inf)], want=np.isnan),
    Row("IsInf", [f32(np.nan, np.inf, -np.inf, 1)], {"detect_negative": 0}, want=np.isposinf),
    Row("Identity", [X], want=lambda x: x), Row("Shape", [drawn(2, 3, 4)], want=lambda x: i64(2, 3, 4)),
    Row("Size", [drawn(2, 3, 4)], want=lambda x: np.array(24)),
    Row("Det", [drawn(3, 2, 2)], want=lambda x: x[:, 0, 0] * x[:, 1, 1] - x[:, 0, 1] * x[:, 1, 0]),
]

# Until opset 6 the second input was laid along `axis` of the first, and only if `broadcast` said so.
_A, _B = drawn(2, 3, 2, low=1, high=3), drawn(3, low=1, high=3)
_ALONG = {"broadcast": 1, "axis": 1}
_BOOL = np.array([[[True, False], [False, False], [True, True]], [[True, True], [False, True], [False, False]]])

PAIRS = [row for op, f in (("Add", np.add), ("Sub", np.subtract), ("Mul", np.multiply), ("Div", np.divide),
                           ("Pow", np.power), ("Greater", np.greater), ("Less", np.less))
         for row in (Row(op, [_A, _B], _ALONG, until=6, want=lambda a, b, f=f: f(a, b[:, None])),
                     Row(op, [_A, _A[:, :, :1]], since=7, want=f))]
PAIRS += [row for op, f in (("And", np.logical_and), ("Or", np.logical_or), ("Xor", np.logical_xor))
          for row in (Row(op, [_BOOL, _BOOL[0, :, 1]], _ALONG, until=6, want=lambda a, b, f=f: f(a, b[:, None])),
                      Row(op, [_BOOL, _BOOL[:, :, :1]], since=7, want=f))]
PAIRS += [
    Row("Equal", [np.arange(12, dtype=np.int32).reshape(2, 3, 2), np.array([0, 3, 5], np.int32)], _ALONG, until=6,
        want=lambda a, b: a == b[:, None]),
    Row("Equal", [np.arange(6, dtype=np.int64).reshape(2, 3), i64(0, 4, 3)], since=7, want=np.equal),
    Row("GreaterOrEqual", [_A, _A[:, :, :1]], want=np.greater_equal),
    Row("LessOrEqual", [_A, _A[:, :, :1]], want=np.less_equal),
    Row("Max", [_A, _A[::-1].copy(), _A[:, ::-1].copy()], want=lambda *xs: np.max(xs, 0)),
    Row("Min", [_A, _A[::-1].copy(), _A[:, ::-1].copy()], want=lambda *xs: np.min(xs, 0)),
    Row("Mean", [_A, _A[::-1].copy(), _A[:, ::-1].copy()], want=exactly(lambda *xs: np.mean(xs, 0))),
    Row("Sum", [_A, _A[::-1].copy(), _A[:, ::-1].copy()], want=exactly(lambda *xs: np.sum(xs, 0))),
    Row("Mod", [np.array([-7, 7, -6, 5], np.int32), np.array([3, -3, 4, 5], np.int32)], want=np.mod),
    Row("BitShift", [np.array([1, 6, 255], np.uint8), np.array([3, 1, 4], np.uint8)], {"direction": "LEFT"},
        want=np.left_shift),
    # One slope a channel; from 7 on a vector lies along the last axis.
    Row("PRelu", [drawn(2, 3, 4), f32(0.5, 2, -1)], until=6, want=lambda x, s: np.where(x < 0, x * s[:, None], x)),
    Row("PRelu", [drawn(2, 4, 3), f32(0.5, 2, -1)], since=7, want=lambda x, s: np.where(x < 0, x * s, x)),
    Row("MatMul", [drawn(2, 3, 4), drawn(4, 5)], want=np.matmul),
    Row("Clip", [X], {"min": -0.5, "max": 1.0}, until=10, want=lambda x: np.clip(x, -0.5, 1)),
    Row("Clip", [X, np.float32(-0.5), np.float32(1)], since=11, want=np.clip),
]

_R = drawn(2, 3, 4, low=0.5, high=2)


def _reduced(op: str, f: Want, axes_input_since: int) -> list[Row]:
    many, kept = (lambda x: f(x, (0, 2), False)), (lambda x, *_: f(x, (1,), True))
    return [Row(op, [_R], {"axes": [0, 2], "keepdims": 0}, until=axes_input_since - 1, want=exactly(many)),
            Row(op, [_R, i64(1)], since=axes_input_since, want=lambda x, a: exactly(kept)(x))]


REDUCTIONS = [row for op, f, since in (
    ("ReduceSum", lambda x, a, k: x.sum(a, keepdims=k), 13), ("ReduceMean", lambda x, a, k: x.mean(a, keepdims=k), 18),
    ("ReduceMax", lambda x, a, k: x.max(a, keepdims=k), 18), ("ReduceMin", lambda x, a, k: x.min(a, keepdims=k), 18),
    ("ReduceProd", lambda x, a, k: x.prod(a, keepdims=k), 18),
    ("ReduceL1", lambda x, a, k: np.abs(x).sum(a, keepdims=k), 18),
    ("ReduceL2", lambda x, a, k: np.sqrt((x * x).sum(a, keepdims=k)), 18),
    ("ReduceSumSquare", lambda x, a, k: (x * x).sum(a, keepdims=k), 18),
    ("ReduceLogSum", lambda x, a, k: np.log(x.sum(a, keepdims=k)), 18),
    ("ReduceLogSumExp", lambda x, a, k: np.log(np.exp(x).sum(a, keepdims=k)), 18),
) for row in _reduced(op, f, since)]
_TIES = f32([3, 1, 3], [2, 5, 5])
REDUCTIONS += [
    Row("ArgMax", [_TIES], {"axis": 1, "keepdims": 0}, want=lambda x: i64(0, 1)),
    Row("ArgMin", [-_TIES], {"axis": 1}, want=lambda x: i64([0], [1])),
    Row("ArgMax", [_TIES], {"axis": -1, "keepdims": 0, "select_last_index": 1}, since=12, want=lambda x: i64(2, 2)),
    Row("ArgMin", [-_TIES], {"axis": -1, "keepdims": 0, "select_last_index": 1}, since=12, want=lambda x: i64(2, 2)),
    Row("CumSum", [f32(1, 2, 3), np.array(0)], {"exclusive": 1, "reverse": 1}, want=lambda x, a: f32(5, 3, 0)),
    Row("TopK", [_TIES], {"axis": 1, "k": 2}, until=9, outputs=2,
        want=lambda x: (f32([3, 3], [5, 5]), i64([0, 2], [1, 2]))),
    Row("TopK", [_TIES, i64(2)], {"axis": 1}, since=10, outputs=2,
        want=lambda x, k: (f32([3, 3], [5, 5]), i64([0, 2], [1, 2]))),
    # Before 13 all axes from `axis` on are one row.
    Row("Softmax", [drawn(2, 3, 4)], {"axis": 1}), Row("LogSoftmax", [drawn(2, 3, 4)], {"axis": 1}),
    Row("Hardmax", [drawn(2, 3, 4)], {"axis": 1}),
    Row("Hardmax", [f32([[1, 2], [4, 3]])], {"axis": 1}, until=12, want=lambda x: f32([[0, 0], [1, 0]])),
    Row("Hardmax", [f32([[1, 2], [4, 3]])], {"axis": 1}, since=13, want=lambda x: f32([[0, 0], [1, 1]])),
    Row("LpNormalization", [f32([3, 4], [0, 2])], {"axis": 1, "p": 2}, want=lambda x: f32([0.6, 0.8], [0, 1])),
    Row("MeanVarianceNormalization", [drawn(2, 3, 2, 2)], atol=1e-4,
        want=exactly(lambda x: (x - x.mean((0, 2, 3), keepdims=True)) / x.std((0, 2, 3), keepdims=True))),
]

ROWS = [*MAPS, *PAIRS, *REDUCTIONS]
