"""Rows of other types and axes than networks mostly have, where a kernel for floats along the last axis is no help."""

from __future__ import annotations

import numpy as np

from . import Row, row

_P = "1,64,56,56"


def _ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


TYPED: tuple[Row, ...] = (
    *(row(op, f"f2 {_P}", note="f2") for op in ("Relu", "Sigmoid", "Exp", "Tanh", "Softmax")),
    *(row(op, f"f2 {_P}", f"f2 {_P}", note="f2") for op in ("Add", "Mul", "Div")),
    row("Softmax", "f8 128,1000", note="f8"), row("LayerNormalization", "f8 128,768", np.ones(768), note="f8"),
    row("MatMul", "f2 128,256", "f2 256,256", note="f2"), row("MatMul", "i8 64,64", "i8 64,64", note="i8"),
    row("MaxPool", f"u1 {_P}", kernel_shape=[2, 2], strides=[2, 2], note="bytes"),
    row("MaxPool", f"i1 {_P}", kernel_shape=[3, 3], pads=[1] * 4, note="signed bytes"),
    row("MaxPool", f"f8 {_P}", kernel_shape=[2, 2], strides=[2, 2], note="f8"),
    row("ReduceMax", f"u1 {_P}", _ints(2, 3), note="bytes"), row("ReduceSum", f"f8 {_P}", _ints(1), note="f8 channels"),
    row("ReduceMean", f"f4 {_P}", _ints(0, 2), note="0,2"), row("ReduceSum", "i8 64,1000", _ints(0), note="i8 first"),
    row("ReduceMax", "i4 128,768", _ints(1), note="i4"), row("ReduceProd", "f8 128,768", _ints(1), note="f8"),
    row("ArgMax", "f8 128,768", axis=1, note="f8"), row("ArgMax", f"f4 {_P}", axis=2, note="rows"),
    row("ArgMin", "i4 128,768", axis=0, note="first"), row("ArgMax", "u1 128,768", axis=1, note="bytes"),
    row("CumSum", "f8 128,768", _ints(1)[0], note="f8"), row("CumSum", "f4 16,64,64", _ints(1)[0], note="middle"),
    row("Softmax", f"f4 {_P}", axis=2, note="rows"), row("Softmax", "f4 64,64,64", axis=0, note="first"),
    row("TopK", "i8 128,1000", _ints(5), outputs=2, note="i8"),
    row("TopK", "f8 1,10000", _ints(50), outputs=2, note="f8"),
    row("TopK", "i4 1,8400", _ints(8400), outputs=2, note="sort of i4"),
    row("TopK", "f4 1000,64", _ints(10), axis=0, outputs=2, note="first"),
    row("Gather", "u1 1000,768", "i8 200 0..1000", note="bytes"),
    row("Gather", "f2 1000,768", "i8 200 0..1000", note="f2"),
    row("Transpose", "i8 500,500", perm=[1, 0], note="i8"), row("Transpose", "f2 1,128,12,64", perm=[0, 2, 1, 3],
                                                            note="f2 heads"),
    row("Concat", "u1 1,64,56,56", "u1 1,64,56,56", axis=3, note="bytes, last"),
    row("Concat", "i8 128,64", "i8 128,64", axis=1, note="i8"), row("Slice", f"u1 {_P}", _ints(0, 0), _ints(28, 28),
                                                                  _ints(2, 3), note="bytes"),
    row("Pad", f"u1 {_P}", _ints(0, 0, 1, 1, 0, 0, 1, 1), note="bytes"), row("Where", "b1 128,768", "i8 128,768",
                                                                          "i8 128,768", note="i8"),
    row("Equal", f"u1 {_P}", f"u1 {_P}", note="bytes"),
    row("Clip", f"u1 {_P}", np.uint8(3), np.uint8(200), note="bytes"),
    row("Cast", "f4 1,64,56,56", note="f4 to i1", to=3), row("Cast", "i8 200000", note="i8 to b1", to=9),
    row("Cast", "f2 200000", note="f2 to i4", to=6), row("Min", "i8 200000", "i8 200000", note="i8"),
    row("Max", f"f8 {_P}", f"f8 {_P}", note="f8"), row("Pow", "f8+ 100000", "f8 100000", note="f8"),
    row("Erf", "f8 100000", note="f8"), row("Mod", "i4 200000 1..100", "i4 200000 1..9", note="i4"),
    row("Resize", "u1 1,3,240,320", None, np.float32((1, 1, 0.5, 0.5)), mode="linear", note="bytes, linear /2"),
    row("Resize", "f4 1,240,320,3", None, np.float32((1, 0.5, 0.5, 1)), mode="linear", note="channels last, linear /2"),
    row("Resize", "f4 1,8,16,16,16", None, np.float32((1, 1, 2, 2, 2)), mode="linear", note="3-D linear x2"),
    row("ScatterElements", "i8 128,768", "i8 128,100 0..768", "i8 128,100", axis=1, note="i8"),
    row("GatherElements", "i8 128,768", "i8 128,100 0..768", axis=1, note="i8"),
    row("Conv", "f8 1,16,28,28", np.ones((16, 16, 3, 3)), pads=[1] * 4, note="f8"),
    row("InstanceNormalization", "f8 1,16,56,56", np.ones(16), np.ones(16), note="f8"),
    row("BatchNormalization", "f8 1,16,56,56", *(np.ones(16),) * 4, note="f8"),
    row("NonZero", "i8 100000"), row("Trilu", "i8 12,128,128", note="i8"),
    row("Expand", "i8 1,1,128", _ints(8, 128, 128), note="i8"),
    row("Unique", "i8 20000 0..5000000", note="wide"), row("Unique", "f4 500,8 0..3", axis=1, note="columns"))
