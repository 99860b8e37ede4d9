"""Rows for what moves, picks, casts and counts; see `every_version`."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
from tests.ops.every_version import Row, drawn, f32, i64, words

_X = drawn(2, 3, 4)
_TABLE = f32([1, 2], [3, 4], [5, 6])
_IMAGE = np.arange(16, dtype=np.float32).reshape(1, 4, 2, 2)
_LINE = f32(1, 2, 3, 4, 5)

MOVED = [
    Row("Concat", [_X, _X[:, :1]], until=3, want=lambda a, b: np.concatenate([a, b], 1)),
    Row("Concat", [_X, _X[:, :1]], {"axis": 1}, since=4, want=lambda a, b: np.concatenate([a, b], 1)),
    Row("Flatten", [_X], {"axis": 2}, want=lambda x: x.reshape(6, 4)),
    Row("Flatten", [_X], {"axis": -2}, since=11, want=lambda x: x.reshape(2, 12)),
    Row("Reshape", [_X], {"shape": [0, -1]}, until=4, want=lambda x: x.reshape(2, 12)),
    Row("Reshape", [_X, i64(0, -1)], since=5, want=lambda x, s: x.reshape(2, 12)),
    Row("Squeeze", [_X[:, :1]], {"axes": [1]}, until=12, want=lambda x: x[:, 0]),
    Row("Squeeze", [_X[:, :1], i64(-2)], since=13, want=lambda x, a: x[:, 0]),
    Row("Unsqueeze", [_X], {"axes": [0, 4]}, until=12, want=lambda x: x[None, ..., None]),
    Row("Unsqueeze", [_X, i64(0, 4)], since=13, want=lambda x, a: x[None, ..., None]),
    Row("Transpose", [_X], {"perm": [2, 0, 1]}, want=lambda x: x.transpose(2, 0, 1)),
    # An axis and how often, as float numbers; later one count an axis.
    Row("Tile", [_X, np.float32(3), np.float32(1)], until=5, want=lambda x, n, a: np.tile(x, (1, 3, 1))),
    Row("Tile", [_X, i64(1, 3, 2)], since=6, want=lambda x, n: np.tile(x, (1, 3, 2))),
    Row("Split", [_X], {"axis": 2, "split": [1, 3]}, until=12, outputs=2, want=lambda x: (x[..., :1], x[..., 1:])),
    Row("Split", [_X, i64(1, 3)], {"axis": 2}, since=13, outputs=2, want=lambda x, s: (x[..., :1], x[..., 1:])),
    Row("Split", [_X, i64(1, 3)], {"axis": 2}, until=1, outputs=2, want=lambda x, s: (x[..., :1], x[..., 1:])),
    Row("Slice", [_X], {"axes": [1, 2], "starts": [0, -3], "ends": [2, 1000]}, until=9, want=lambda x: x[:, :2, -3:]),
    Row("Slice", [_X, i64(-1, 0), i64(-9, 1000), i64(1, 2), i64(-2, 3)], since=10,
        want=lambda x, *_: x[:, ::-2, ::3]),
    Row("Pad", [_TABLE], {"paddings": [0, 1, 0, 2], "value": 9.0}, until=1,
        want=lambda x: np.pad(x, ((0, 0), (1, 2)), constant_values=9)),
    Row("Pad", [_TABLE], {"pads": [0, 1, 0, 2], "mode": "edge"}, since=2, until=10,
        want=lambda x: np.pad(x, ((0, 0), (1, 2)), "edge")),
    Row("Pad", [_TABLE, i64(1, -1, 0, 2), np.float32(9)], since=11,
        want=lambda x, *_: np.pad(x[:, 1:], ((1, 0), (0, 2)), constant_values=9)),
    Row("Pad", [_TABLE, i64(2, 0, 1, 0)], {"mode": "reflect"}, since=11,
        want=lambda x, _: np.pad(x, ((2, 1), (0, 0)), "reflect")),
    Row("DepthToSpace", [_IMAGE], {"blocksize": 2},
        want=lambda x: x.reshape(1, 2, 2, 1, 2, 2).transpose(0, 3, 4, 1, 5, 2).reshape(1, 1, 4, 4)),
    Row("DepthToSpace", [_IMAGE], {"blocksize": 2, "mode": "CRD"}, since=11,
        want=lambda x: x.reshape(1, 1, 2, 2, 2, 2).transpose(0, 1, 4, 2, 5, 3).reshape(1, 1, 4, 4)),
    Row("SpaceToDepth", [_IMAGE.reshape(1, 1, 4, 4)], {"blocksize": 2},
        want=lambda x: x.reshape(1, 1, 2, 2, 2, 2).transpose(0, 3, 5, 1, 2, 4).reshape(1, 4, 2, 2)),
    Row("ReverseSequence", [_TABLE, i64(2, 3)], {"time_axis": 0, "batch_axis": 1},
        want=lambda x, n: f32([3, 6], [1, 4], [5, 2])),
]

PICKED = [
    Row("Gather", [_TABLE, i64([2, 0])], {"axis": 0}, want=lambda x, i: x[i]),
    Row("Gather", [_TABLE, i64(-1)], {"axis": 1}, since=11, want=lambda x, i: x[:, i]),
    Row("GatherElements", [_TABLE, i64([-1, 0], [1, 1])], {"axis": 0}, want=lambda x, i: f32([5, 2], [3, 4])),
    Row("GatherND", [_TABLE, i64([2, 0], [0, -1])], want=lambda x, i: f32(5, 2)),
    Row("GatherND", [_TABLE, i64([1], [0], [1])], {"batch_dims": 1}, since=12, want=lambda x, i: f32(2, 3, 6)),
    Row("Scatter", [_LINE[None], i64([1, -2]), f32([8, 9])], {"axis": 1}, want=lambda *_: f32([1, 8, 3, 9, 5])),
    Row("ScatterElements", [_LINE[None], i64([1, -2]), f32([8, 9])], {"axis": 1},
        want=lambda *_: f32([1, 8, 3, 9, 5])),
    Row("ScatterElements", [_LINE[None], i64([1, 1]), f32([8, 9])], {"axis": 1, "reduction": "add"}, since=16,
        want=lambda *_: f32([1, 19, 3, 4, 5])),
    Row("ScatterND", [_LINE, i64([0], [3]), f32(8, 9)], want=lambda *_: f32(8, 2, 3, 9, 5)),
    Row("ScatterND", [_LINE, i64([3], [3]), f32(2, 3)], {"reduction": "mul"}, since=16,
        want=lambda *_: f32(1, 2, 3, 24, 5)),
    Row("Compress", [_TABLE, np.array([False, True, True])], {"axis": 0}, want=lambda x, c: x[1:]),
    Row("Compress", [_TABLE, np.array([False, True, False, False, True])], want=lambda x, c: f32(2, 5)),
    Row("Compress", [_TABLE, np.array([True])], {"axis": -1}, since=11, want=lambda x, c: x[:, :1]),
    Row("NonZero", [f32([0, 3], [2, 0])], want=lambda x: i64([0, 1], [1, 0])),
    Row("Unique", [f32(3, 1, 3, 2)], {"sorted": 0}, outputs=4,
        want=lambda x: (f32(3, 1, 2), i64(0, 1, 3), i64(0, 1, 0, 2), i64(2, 1, 1))),
    Row("Unique", [words("b", "a", "b")], outputs=4,
        want=lambda x: (words("a", "b"), i64(1, 0), i64(1, 0, 1), i64(1, 2))),
    Row("OneHot", [i64(1, 0), i64(3), f32(5, 7)], want=lambda *_: f32([5, 7, 5], [7, 5, 5])),
    # A negative index counts from the end only since 11; before, it lies outside and gives a row that is off.
    Row("OneHot", [i64(-1, 0), i64(3), f32(5, 7)], until=10, want=lambda *_: f32([5, 5, 5], [7, 5, 5])),
    Row("OneHot", [i64(-1, 0), i64(3), f32(5, 7)], since=11, want=lambda *_: f32([5, 5, 7], [7, 5, 5])),
    Row("EyeLike", [np.zeros((2, 3), np.int32)], {"k": 1, "dtype": onnx.TensorProto.DOUBLE},
        want=lambda x: np.eye(2, 3, 1)),
    # Of three boxes, best first, the second lies on the first, the third apart.
    Row("NonMaxSuppression", [f32([[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 10, 1, 11]]), f32([[0.9, 0.8, 0.7]]),
                              i64(3), f32(0.5), f32(0)], want=lambda *_: i64([0, 0, 0], [0, 0, 2])),
]

_BYTES = np.array([[0, 128, 255], [3, 127, 130]], np.uint8)
_SCALES, _ZEROS = f32(0.5, 2), np.array([128, 3], np.uint8)

CAST = [
    Row("Cast", [f32(-1.75, 0, 2.5)], {"to": "INT32"}, until=5, want=lambda x: np.array([-1, 0, 2], np.int32)),
    Row("Cast", [f32(-1.75, 0, 2.5)], {"to": onnx.TensorProto.INT32}, since=6,
        want=lambda x: np.array([-1, 0, 2], np.int32)),
    Row("Cast", [words("1.5", "-inf", "NaN")], {"to": onnx.TensorProto.FLOAT}, since=9,
        want=lambda x: f32(1.5, -np.inf, np.nan)),
    # 1000 lies beyond float8e4m3fn: its largest number, or NaN if it shall not saturate.
    Row("Cast", [f32(1000, -1.0625)], {"to": onnx.TensorProto.FLOAT8E4M3FN}, since=19,
        want=lambda x: np.array([448, -1], ml_dtypes.float8_e4m3fn)),
    Row("Cast", [f32(1000, -1.0625)], {"to": onnx.TensorProto.FLOAT8E4M3FN, "saturate": 0}, since=19,
        want=lambda x: np.array([np.nan, -1], ml_dtypes.float8_e4m3fn)),
    Row("CastLike", [f32(-1.75, 0, 2.5), np.zeros(1, np.int16)], want=lambda x, _: np.array([-1, 0, 2], np.int16)),
    Row("ConstantOfShape", [i64(2, 3)], {"value": onnx.numpy_helper.from_array(np.array([7], np.int8))},
        want=lambda s: np.full((2, 3), 7, np.int8)),
    Row("Constant", [], {"value": onnx.numpy_helper.from_array(i64(7, 8))}, want=lambda: i64(7, 8)),
    Row("Constant", [], {"value_floats": [0.5, 2.0]}, since=12, want=lambda: f32(0.5, 2)),
    Row("DequantizeLinear", [_BYTES, np.float32(0.5), np.uint8(128)],
        want=lambda x, *_: f32([-64, 0, 63.5], [-62.5, -0.5, 1])),
    Row("DequantizeLinear", [_BYTES, _SCALES, _ZEROS], {"axis": 0}, since=13,
        want=lambda x, *_: f32([-64, 0, 63.5], [0, 248, 254])),
    # Halves go to the even neighbour: 0.25 / 0.5 is 0.5 and becomes 0, 0.75 / 0.5 becomes 2.
    Row("QuantizeLinear", [f32(0.25, 0.75, -100, 100), np.float32(0.5), np.uint8(128)],
        want=lambda *_: np.array([128, 130, 0, 255], np.uint8)),
    Row("QuantizeLinear", [f32([1, 2, 3], [1, 2, 4]), _SCALES, _ZEROS], {"axis": 0}, since=13,
        want=lambda *_: np.array([[130, 132, 134], [3, 4, 5]], np.uint8)),
    Row("QLinearMatMul", [np.array([[130, 126]], np.uint8), np.float32(0.5), np.uint8(128),
                          np.array([[131], [125]], np.uint8), np.float32(1), np.uint8(128), np.float32(0.5),
                          np.uint8(100)],
        # (2*3 + -2*-3) * 0.5 * 1 = 6, in steps of a half 12.
        want=lambda *_: np.array([[112]], np.uint8)),
]

ROWS = [*MOVED, *PICKED, *CAST]
