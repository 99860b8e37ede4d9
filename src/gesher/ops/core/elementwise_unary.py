"""Maps of one tensor: mathematics on every element, tests for NaN and infinity, and nothing at all (Identity, Dropout).

Round goes to even at halves. `Erf` took integers at opset 9 (and cut its result to one); 13 took them away again.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import TensorType
from gesher.primitives import CannotLower
from gesher.symbolic import decide_ge, decide_le, maximum

from ..arithmetic import widen
from ..elementwise import CONSUMED, unary
from ..fact import Fact
from ..schema import (
    ALL,
    BF16,
    BOOL,
    FLOAT8,
    FLOATS,
    INTS,
    NUMBERS,
    UINTS,
    Attr,
    Drop,
    Input,
    Inputs,
    Output,
    Outputs,
    every,
    op,
    optionals,
    sequences,
    tensors,
)


def erf(x: Any) -> Any:
    """The error function, computed in double precision."""
    wide = np.asarray(x, np.float64)
    return np.array([math.erf(v) for v in wide.reshape(-1).tolist()], np.float64).reshape(wide.shape)


def _absolute(x: Any) -> Any:
    return maximum(x, -x)


def _sign(x: Any) -> int | None:
    if decide_ge(x, 1):
        return 1
    if decide_le(x, -1):
        return -1
    return 0 if decide_ge(x, 0) and decide_le(x, 0) else None


_OLD = {1: FLOATS, 6: FLOATS, 13: FLOATS | BF16}
_AT_7 = {7: FLOATS, 22: FLOATS | BF16}
_AT_9 = {9: FLOATS, 22: FLOATS | BF16}

for row in (
    # name         input    output    types by version                                  numpy           primitive
    ("Abs",        "X",     "Y",      {1: FLOATS, 6: NUMBERS, 13: NUMBERS | BF16},      np.abs,         "abs"),
    ("Acos",       "input", "output", _AT_7,                                            np.arccos,      "acos"),
    ("Acosh",      "input", "output", _AT_9,                                            np.arccosh,     "acosh"),
    ("Asin",       "input", "output", _AT_7,                                            np.arcsin,      "asin"),
    ("Asinh",      "input", "output", _AT_9,                                            np.arcsinh,     "asinh"),
    ("Atan",       "input", "output", _AT_7,                                            np.arctan,      "atan"),
    ("Atanh",      "input", "output", _AT_9,                                            np.arctanh,     "atanh"),
    ("Ceil",       "X",     "Y",      _OLD,                                             np.ceil,        "ceil"),
    ("Cos",        "input", "output", _AT_7,                                            np.cos,         "cos"),
    ("Cosh",       "input", "output", _AT_9,                                            np.cosh,        "cosh"),
    ("Exp",        "input", "output", _OLD,                                             np.exp,         "exp"),
    ("Floor",      "X",     "Y",      _OLD,                                             np.floor,       "floor"),
    ("Log",        "input", "output", _OLD,                                             np.log,         "log"),
    ("Neg",        "X",     "Y",      {1: FLOATS, 6: FLOATS | INTS, 13: FLOATS | INTS | BF16}, np.negative, "neg"),
    ("Reciprocal", "X",     "Y",      _OLD,                                             np.reciprocal,  "reciprocal"),
    ("Round",      "X",     "Y",      {11: FLOATS, 22: FLOATS | BF16},                  np.rint,        "round"),
    ("Sign",       "input", "output", {9: NUMBERS, 13: NUMBERS | BF16},                 np.sign,        "sign"),
    ("Sin",        "input", "output", _AT_7,                                            np.sin,         "sin"),
    ("Sinh",       "input", "output", _AT_9,                                            np.sinh,        "sinh"),
    ("Sqrt",       "X",     "Y",      _OLD,                                             np.sqrt,        "sqrt"),
    ("Tan",        "input", "output", _AT_7,                                            np.tan,         "tan"),
    ("Tanh",       "input", "output", _OLD,                                             np.tanh,        "tanh"),
    ("BitwiseNot", "X",     "Y",      {18: INTS | UINTS},                               np.invert,      "bit_not"),
    ("Not",        "X",     "Y",      {1: BOOL},                                        np.logical_not, "not_"),
):
    unary(*row, symbolic={"Abs": _absolute, "Neg": lambda x: -x, "Sign": _sign}.get(row[0]))

Erf = unary("Erf", "input", "output", {9: NUMBERS, 13: FLOATS | BF16}, erf,
            lambda p, x: p.erf(x) if x.dtype.is_float else p.cast(p.erf(p.cast(x, dtypes.DOUBLE)), x.dtype))

IsNaN = unary("IsNaN", "X", "Y", {9: FLOATS, 13: FLOATS | BF16, 20: FLOATS | BF16 | FLOAT8}, np.isnan,
              "is_nan", gives=BOOL)

_DETECTS = (Attr("detect_negative", "int", 1), Attr("detect_positive", "int", 1))


def _is_infinite(x: Any, *, detect_negative: int, detect_positive: int) -> Any:
    return (np.isneginf(x) & bool(detect_negative)) | (np.isposinf(x) & bool(detect_positive))


IsInf = unary("IsInf", "X", "Y", {10: tensors("float double"), 20: FLOATS | BF16 | FLOAT8}, _is_infinite,
              lambda p, x, *, detect_negative, detect_positive: p.is_inf(
                  x, negative=bool(detect_negative), positive=bool(detect_positive)),
              *_DETECTS, gives=BOOL)


# Identity

_SEQUENCES = sequences(ALL)
_OPTIONALS = _SEQUENCES | optionals(ALL | _SEQUENCES)

Identity = op("Identity", Input("input"), Output("output"), T=ALL)
Identity.since(13, T=every(13))
Identity.since(14, Inputs(Input("input", "V")), Outputs(Output("output", "V")), T=None, V=every(14) | _SEQUENCES)
for version in (16, 19, 21, 23, 24, 25):
    Identity.since(version, V=every(version) | _OPTIONALS)


@Identity.infer
def _(node):
    node.set_fact(0, node.input(0))


@Identity.reference
def _(x):
    return x


@Identity.lower
def _(p, x):
    return x


# Dropout. In training (`is_test=0` before 7, `training_mode` from 12 on) it is random; at 7 and 10 it never is.

_FLOATS_22 = FLOATS | BF16 | FLOAT8

Dropout = (op("Dropout", Input("data"), Output("output"), Output("mask", optional=True), Attr("is_test", "int", 0),
              Attr("ratio", "float", 0.5), CONSUMED, T=FLOATS)
           .since(6, Drop("consumed_inputs"))
           .since(7, Drop("is_test"), behaviour="only inference, which is_test=1 was")
           .since(10, Output("mask", "T1", optional=True), T1=BOOL, behaviour="the mask is boolean")
           .since(12, Drop("ratio"), Attr("seed", "int"), Input("ratio", "T1", optional=True),
                  Input("training_mode", "T2", optional=True), Output("mask", "T2", optional=True), T1=FLOATS, T2=BOOL,
                  behaviour="ratio is an input, and training came back")
           .since(13, T=FLOATS | BF16)
           .since(22, T=_FLOATS_22, T1=_FLOATS_22))


@Dropout.infer
def _(node):
    data = node.input(0)
    if data is None or not isinstance(data.type, TensorType):
        return
    trains = node.version < 7 and not node["is_test"]
    if node.version >= 12 and node.has(2):
        mode = node.numbers(2)
        trains = mode is None or bool(mode.reshape(-1)[0])
    node.set_fact(0, Fact(data.type) if trains else data)
    node.set(1, data.dtype if node.version < 10 else dtypes.BOOL, data.shape)


def _drop(data, ratio, trains, generator, mask_dtype):
    # generator() draws uniform numbers of data's shape from [0, 1).
    if not trains or ratio == 0:
        return data, np.ones(data.shape, mask_dtype)
    mask = generator() >= ratio
    wide = widen(data)
    # Multiplied in this order, so that what is dropped is a zero even where the ratio is 1 and the scale infinite.
    scale = wide.dtype.type(1 / (1 - ratio)) if ratio < 1 else wide.dtype.type(0)
    return (np.where(mask, wide, wide.dtype.type(0)) * scale).astype(data.dtype), mask.astype(mask_dtype)


@Dropout.reference
def _(data, *, is_test, ratio, run, consumed_inputs=None):
    return _drop(data, ratio, not is_test, lambda: run.random.random(data.shape), data.dtype)


@Dropout.reference(since=7)
def _(data, *, ratio):
    return data, np.ones(data.shape, data.dtype)


@Dropout.reference(since=10)
def _(data, *, ratio):
    return data, np.ones(data.shape, np.bool_)


@Dropout.reference(since=12)
def _(data, ratio=None, training_mode=None, *, seed, run):
    def draw():
        # A given seed means the same numbers in every run; the legacy generator is the one that ONNX's cases use.
        return run.random.random(data.shape) if seed is None else np.random.RandomState(seed).uniform(size=data.shape)

    trains = training_mode is not None and bool(training_mode.reshape(-1)[0])
    return _drop(data, 0.5 if ratio is None else float(ratio.reshape(-1)[0]), trains, draw, np.bool_)


@Dropout.lower
def _(p, data, *, is_test, ratio, consumed_inputs=None):
    if not is_test:
        raise CannotLower("dropout in training draws random numbers")
    return data, p.full(data.shape, 1, data.dtype)


@Dropout.lower(since=7)
def _(p, data, *, ratio):
    return data, p.full(data.shape, 1, data.dtype)


@Dropout.lower(since=10)
def _(p, data, *, ratio):
    return data, p.full(data.shape, True, dtypes.BOOL)


@Dropout.lower(since=12)
def _(p, data, ratio=None, training_mode=None, *, seed):
    if training_mode is not None:
        mode, rate = p.known(training_mode), None if ratio is None else p.known(ratio)
        if mode is None:
            raise CannotLower("whether dropout trains is only known in a run")
        if mode.reshape(-1)[0] and not (rate is not None and rate.reshape(-1)[0] == 0):
            raise CannotLower("dropout in training draws random numbers")
    return data, p.full(data.shape, True, dtypes.BOOL)
