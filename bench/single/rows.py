"""The rows: every operator that ONNX Runtime runs on a CPU, at one to three sizes of networks of real use."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import Row, row

_rng = np.random.default_rng(0)


def w(*shape: int) -> np.ndarray:
    """A weight."""
    return (_rng.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))).astype(np.float32)


def ints(*values: Any) -> np.ndarray:
    return np.array(values, np.int64)


_PICTURE, _ROWS, _VECTOR = "f4 1,64,56,56", "f4 128,768", "f4 1,1000"
_MASK = "b1 1,64,56,56"

_UNARY = tuple(row(op, _PICTURE) for op in (
    "Abs", "Atan", "Ceil", "Celu", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "IsInf",
    "IsNaN", "LeakyRelu", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin",
    "Softplus", "Softsign", "Tan", "Tanh", "ThresholdedRelu", "Identity", "Sinh", "Cosh", "Asinh"))
_BOUNDED = tuple(row(op, "f4 1,64,56,56 -0.99..0.99") for op in ("Acos", "Asin", "Atanh"))
_POSITIVE = (*(row(op, "f4+ 1,64,56,56") for op in ("Log", "Sqrt")), row("Acosh", "f4 1,64,56,56 1.1..9.0"),)
_TYPED_UNARY = (row("Not", _MASK), row("BitwiseNot", "i4 1,64,56,56"), row("Abs", "i4 1,64,56,56"),
                row("Neg", "i8 1,64,56,56"), row("Sign", "i8 1,64,56,56"), row("Abs", "f8 1,64,56,56"),
                row("Exp", "f8 1,64,56,56"), row("Relu", "f8 1,64,56,56"), row("Sigmoid", "f8 1,64,56,56"),
                row("Tanh", "f8 1,64,56,56"))

_BINARY = (*(row(op, a, b, note=note) for op in ("Add", "Sub", "Mul", "Div") for a, b, note in (
    (_PICTURE, _PICTURE, "same"), (_PICTURE, "f4 1,64,1,1", "channel"), (_ROWS, "f4 768", "row"),
    ("f4 256,1", "f4 1,256", "outer"), (_PICTURE, "f4 ()", "scalar"))),
    row("Pow", "f4+ 1,64,56,56", "f4 1,64,56,56"), row("Pow", _PICTURE, np.float32(2), note="square"),
    row("Pow", "f4+ 1,64,56,56", np.float32(0.5), note="root"), row("Pow", _PICTURE, np.float32(3), note="cube"),
    row("Mod", "i8 100000 1..100", "i8 100000 1..9"), row("Mod", "f4 100000", "f4+ 100000", fmod=1),
    row("PRelu", _PICTURE, w(64, 1, 1)), row("Max", _PICTURE, _PICTURE), row("Min", _PICTURE, _PICTURE),
    row("Max", _PICTURE, _PICTURE, _PICTURE, note="of 3"), row("Mean", _PICTURE, _PICTURE, _PICTURE),
    row("Sum", _PICTURE, _PICTURE, _PICTURE), row("Add", "i8 200000", "i8 200000"),
    row("Mul", "i4 200000", "i4 200000"),
    row("Div", "i8 200000", "i8 200000 1..9"), row("Div", "i4 200000", "i4 200000 1..9"),
    row("Add", "f8 200000", "f8 200000"), row("BitShift", "u4 200000", "u4 200000 0..9", direction="LEFT"),
    row("BitwiseAnd", "i4 200000", "i4 200000"), row("BitwiseXor", "i4 200000", "i4 200000"),
    *(row(op, _MASK, _MASK) for op in ("And", "Or", "Xor")),
    *(row(op, _PICTURE, _PICTURE) for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")),
    row("Equal", "i8 200000", "i8 200000"), row("Less", "i8 200000", "i8 200000"),
    row("Where", _MASK, _PICTURE, _PICTURE), row("Where", "b1 1,1,128,128", "f4 1,12,128,128", np.float32(-1e9),
                                                 note="mask"),
    row("Clip", _PICTURE, np.float32(0), np.float32(6)), row("Clip", "i8 200000", ints(3)[0], ints(60)[0]))

# ONNX's numbers of types.
_TYPES = {"FLOAT": 1, "UINT8": 2, "INT32": 6, "INT64": 7, "BOOL": 9, "FLOAT16": 10, "DOUBLE": 11}
_CAST = tuple(row("Cast", x, note=f"to {t}", to=_TYPES[t]) for x, t in (
    (_PICTURE, "INT64"), (_PICTURE, "INT32"), (_PICTURE, "FLOAT16"), (_PICTURE, "DOUBLE"), (_PICTURE, "BOOL"),
    (_PICTURE, "UINT8"), ("i8 200000", "FLOAT"), ("i4 200000", "FLOAT"), ("i8 200000", "INT32"), ("b1 200000", "FLOAT"),
    ("f2 1,64,56,56", "FLOAT"), ("u1 200000", "FLOAT"), ("f8 200000", "FLOAT")))

_REDUCE = (*(row(op, x, ints(*axes), note=note, keepdims=0)
                for op in ("ReduceMean", "ReduceSum", "ReduceMax")
                for x, axes, note in ((_PICTURE, (2, 3), "H,W"), (_ROWS, (1,), "last"), (_ROWS, (0,), "first"),
                                      (_PICTURE, (1,), "channels"), ("f4 1000000", (0,), "all"))), *(
    row(op, x, ints(*axes), note=note, keepdims=1)
    for op in ("ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp", "ReduceLogSum")
    for x, axes, note in (("f4+ 1,64,56,56", (2, 3), "H,W"), ("f4+ 128,768", (1,), "last"))),
    row("ReduceSum", "i8 128,768", ints(1), note="last"), row("ReduceMax", "i8 128,768", ints(1), note="last"),
    row("ReduceMean", "f8 128,768", ints(1), note="last"), row("ReduceSum", "i4 128,768", ints(0), note="first"),
    row("ArgMax", _ROWS, axis=1), row("ArgMax", _PICTURE, axis=1, note="channels"), row("ArgMin", _ROWS, axis=1),
    row("ArgMax", "i8 128,768", axis=1), row("ArgMax", "f4 1,30522", axis=1), row("CumSum", _ROWS, ints(1)[0]),
    row("CumSum", _ROWS, ints(0)[0], note="first"), row("CumSum", "i8 128,768", ints(1)[0]))

_SOFT = (*(row(op, x, axis=axis, note=note) for op in ("Softmax", "LogSoftmax") for x, axis, note in (
    ("f4 128,1000", -1, ""), ("f4 12,128,128", -1, ""), ("f4 1,21,64,64", 1, "channels"), (_VECTOR, -1, ""))),
    row("Hardmax", "f4 128,1000"),)

_NORM = (
    row("LayerNormalization", _ROWS, w(768), w(768)), row("LayerNormalization", "f4 1,197,192", w(192), w(192)),
    row("RMSNormalization", _ROWS, w(768), opset=23),
    row("InstanceNormalization", _PICTURE, w(64), w(64)), row("InstanceNormalization", "f4 4,32,1000", w(32), w(32)),
    row("GroupNormalization", _PICTURE, w(64), w(64), num_groups=8),
    row("BatchNormalization", _PICTURE, w(64), w(64), w(64), np.abs(w(64)) + 0.1),
    row("LRN", _PICTURE, size=5), row("LpNormalization", _ROWS), row("MeanVarianceNormalization", _PICTURE),
    row("Dropout", _PICTURE))

_POOL = (*(row(op, x, kernel_shape=[k, k], strides=[s, s], pads=[p] * 4, note=f"{k}x{k}/{s}")
              for op in ("MaxPool", "AveragePool") for x, k, s, p in (
    ("f4 1,64,112,112", 3, 2, 1), ("f4 1,64,56,56", 2, 2, 0), ("f4 1,256,28,28", 3, 1, 1))),
    row("AveragePool", "f4 1,64,8000", kernel_shape=[4], strides=[4], note="1-D"),
    row("MaxPool", "f4 1,64,8000", kernel_shape=[3], strides=[2], note="1-D"),
    row("MaxPool", "f4 1,16,16,32,32", kernel_shape=[2, 2, 2], strides=[2, 2, 2], note="3-D"),
    row("MaxPool", "f4 1,64,56,56", kernel_shape=[2, 2], strides=[2, 2], outputs=2, note="with places"),
    row("LpPool", "f4 1,64,56,56", kernel_shape=[2, 2], strides=[2, 2]),
    row("GlobalAveragePool", "f4 1,1280,7,7"), row("GlobalAveragePool", _PICTURE), row("GlobalMaxPool", _PICTURE),
    row("GlobalLpPool", _PICTURE), row("MaxUnpool", "f4 1,64,28,28", "i8 1,64,28,28 0..200704", kernel_shape=[2, 2],
                                       strides=[2, 2]))

_MOVE = (
    row("Transpose", "f4 1000,1000", perm=[1, 0]), row("Transpose", "f4 1,128,12,64", perm=[0, 2, 1, 3], note="heads"),
    row("Transpose", "f4 1,56,56,64", perm=[0, 3, 1, 2], note="NHWC to NCHW"),
    row("Transpose", _PICTURE, perm=[0, 2, 3, 1], note="NCHW to NHWC"),
    row("Transpose", "f4 1,3,224,224", perm=[0, 2, 3, 1], note="NCHW to NHWC"),
    row("Transpose", "f4 1,224,224,3", perm=[0, 3, 1, 2], note="NHWC to NCHW"),
    row("Transpose", "u1 1,224,224,3", perm=[0, 3, 1, 2], note="NHWC to NCHW"),
    row("Transpose", "f8 500,500", perm=[1, 0]), row("Transpose", "f4 1,12,128,64", perm=[0, 1, 3, 2], note="keys"),
    row("Reshape", _PICTURE, ints(1, 64, -1)), row("Flatten", _PICTURE), row("Squeeze", "f4 1,64,56,56", ints(0)),
    row("Unsqueeze", _ROWS, ints(0)), row("Expand", "f4 1,1,128,128", ints(4, 12, 128, 128)),
    row("Expand", "f4 1,64,1,1", ints(1, 64, 56, 56)), row("Tile", "f4 1,64,28,28", ints(1, 1, 2, 2)),
    row("Tile", "f4 1,128,64", ints(1, 12, 1)), row("Concat", _PICTURE, _PICTURE, axis=1),
    row("Concat", _ROWS, _ROWS, axis=1, note="rows"), row("Concat", *[_ROWS] * 4, axis=0, note="of 4"),
    row("Split", "f4 128,2304", axis=1, outputs=3, num_outputs=3), row("Split", _PICTURE, axis=1, outputs=2,
                                                                     num_outputs=2),
    row("Slice", _PICTURE, ints(0, 0), ints(28, 28), ints(2, 3)), row("Slice", _PICTURE, ints(0, 0), ints(56, 56),
                                                                     ints(2, 3), ints(2, 2), note="steps"),
    row("Slice", "f4 1,128,768", ints(0), ints(1), ints(1), note="first"),
    row("Slice", _ROWS, ints(-1), ints(-10000), ints(1), ints(-1), note="reversed"),
    row("Pad", _PICTURE, ints(0, 0, 1, 1, 0, 0, 1, 1)), row("Pad", _PICTURE, ints(0, 0, 3, 3, 0, 0, 3, 3),
                                                           mode="reflect", note="reflect"),
    row("Pad", _PICTURE, ints(0, 0, 3, 3, 0, 0, 3, 3), mode="edge", note="edge"),
    row("DepthToSpace", _PICTURE, blocksize=2), row("DepthToSpace", _PICTURE, blocksize=2, mode="CRD", note="CRD"),
    row("SpaceToDepth", _PICTURE, blocksize=2), row("Trilu", "f4 12,128,128"), row("Trilu", "f4 12,128,128", upper=0),
    row("CenterCropPad", _PICTURE, ints(28, 70), axes=[2, 3]), row("EyeLike", "f4 512,512"),
    row("ReverseSequence", "f4 50,16,256", "i8 16 1..50"), row("Col2Im", "f4 1,576,784", ints(28, 28), ints(3, 3),
                                                              pads=[1, 1, 1, 1]))

_INDEX = (
    row("Gather", w(30522, 768), "i8 1,128 0..30522", note="embedding"), row("Gather", _ROWS, ints(0), axis=0),
    row("Gather", _ROWS, "i8 200 0..768", axis=1, note="columns"), row("Gather", "f4 1000000", "i8 100000 0..1000000"),
    row("GatherElements", _ROWS, "i8 128,768 0..128", axis=0),
    row("GatherElements", _ROWS, "i8 128,100 0..768", axis=1),
    row("GatherND", "f4 64,64,64", "i8 1000,2 0..64"), row("GatherND", "f4 64,64", "i8 10000,2 0..64", note="elements"),
    row("ScatterElements", _ROWS, "i8 128,100 0..768", "f4 128,100", axis=1),
    row("ScatterElements", _ROWS, "i8 128,100 0..768", "f4 128,100", axis=1, reduction="add", note="add"),
    row("ScatterND", "f4 1000,64", "i8 200,1 0..1000", "f4 200,64"),
    row("ScatterND", "f4 64,64", "i8 1000,2 0..64", "f4 1000", note="elements"),
    row("OneHot", "i8 1000 0..100", ints(100)[0], np.float32([0, 1])), row("NonZero", "b1 200,500"),
    row("NonZero", "f4 100000"), row("Compress", _ROWS, "b1 768", axis=1), row("Compress", "f4 100000", "b1 100000"),
    row("Unique", "i8 10000 0..1000"), row("Unique", "i8 10000 0..1000", outputs=4, note="with places"),
    row("Unique", "f4 10000", sorted=0, note="unsorted"), row("Unique", "i8 500,8 0..3", axis=0, note="rows"),
    row("TopK", "f4 128,1000", ints(5), outputs=2), row("TopK", "f4 1,100000", ints(100), outputs=2),
    row("TopK", "f4 1,8400", ints(8400), outputs=2, note="sort"),
    row("TopK", "f4 1,1000,64", ints(10), axis=1, outputs=2, note="inner"),
    row("NonMaxSuppression", "f4 1,1000,4 0..100", "f4 1,1,1000 0..1", ints(50), np.float32([0.5]), np.float32([0.2])),
    row("Range", ints(0)[0], "i8 () 10000..10001", ints(1)[0]), row("ConstantOfShape", ints(128, 768)),
    row("Shape", _PICTURE), row("Size", _PICTURE))

_PLACES = (
    *(row("Resize", x, None, np.float32(scales), mode=mode, note=note, **more) for x, scales, mode, note, more in (
        (_PICTURE, (1, 1, 2, 2), "nearest", "nearest x2", {}),
        (_PICTURE, (1, 1, 2, 2), "nearest", "nearest x2 asymmetric",
         {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
        (_PICTURE, (1, 1, 2, 2), "linear", "linear x2", {}), (_PICTURE, (1, 1, 0.5, 0.5), "linear", "linear /2", {}),
        ("f4 1,3,480,640", (1, 1, 0.35, 0.35), "linear", "linear x0.35", {}),
        ("f4 1,16,56,56", (1, 1, 2, 2), "cubic", "cubic x2", {}),
        ("f4 1,3,480,640", (1, 1, 0.5, 0.5), "linear", "linear antialias", {"antialias": 1}),
        ("f4 1,64,2000", (1, 1, 2), "nearest", "nearest 1-D", {}), ("f4 1,64,2000",
        (1, 1, 2), "linear", "linear 1-D", {}),
        ("u1 1,3,224,224", (1, 1, 2, 2), "nearest", "nearest x2", {}))),
    row("GridSample", "f4 1,16,64,64", "f4 1,64,64,2 -1..1"),
    row("GridSample", "f4 1,16,64,64", "f4 1,64,64,2 -1..1", mode="nearest", note="nearest"),
    row("GridSample", "f4 1,16,64,64", "f4 1,64,64,2 -1..1", mode="cubic", note="cubic"),
    row("GridSample", "f4 1,16,64,64", "f4 1,64,64,2 -1.2..1.2", padding_mode="reflection", note="reflection"),
    row("AffineGrid", "f4 1,2,3", ints(1, 16, 64, 64)),
    row("RoiAlign", "f4 1,64,50,50", "f4 30,4 0..40", np.zeros(30, np.int64), output_height=7, output_width=7,
        spatial_scale=1.0, sampling_ratio=2),
    row("MaxRoiPool", "f4 1,64,50,50", np.float32([[0, 1, 1, 30, 30]] * 20), pooled_shape=[7, 7]))

_CONV = (
    row("Conv", _PICTURE, w(64, 64, 3, 3), pads=[1] * 4, note="3x3"),
    row("Conv", _PICTURE, w(128, 64, 1, 1), note="1x1"),
    row("Conv", "f4 1,3,224,224", w(64, 3, 7, 7), strides=[2, 2], pads=[3] * 4, note="7x7/2"),
    row("Conv", "f4 1,96,56,56", w(96, 1, 3, 3), group=96, pads=[1] * 4, note="depthwise"),
    row("Conv", "f4 1,64,28,28", w(64, 8, 3, 3), group=8, pads=[1] * 4, note="groups"),
    row("Conv", "f4 1,64,400", w(64, 64, 5), pads=[2, 2], note="1-D"),
    row("Conv", "f4 1,8,16,28,28", w(16, 8, 3, 3, 3), pads=[1] * 6, note="3-D"),
    row("Conv", _PICTURE, w(32, 64, 3, 3), pads=[2] * 4, dilations=[2, 2], note="dilated"),
    row("Conv", _PICTURE, "f4 64,64,3,3", pads=[1] * 4, note="weights fed"),
    row("ConvTranspose", "f4 1,64,28,28", w(64, 32, 2, 2), strides=[2, 2], note="2x2/2"),
    row("ConvTranspose", "f4 1,64,28,28", w(64, 32, 4, 4), strides=[2, 2], pads=[1] * 4, note="4x4/2"),
    row("ConvTranspose", "f4 1,64,400", w(64, 32, 4), strides=[2], note="1-D"),
    row("DeformConv", "f4 1,16,28,28", w(16, 16, 3, 3), "f4 1,18,26,26"))

_PRODUCT = (
    row("MatMul", "f4 256,256", "f4 256,256"), row("MatMul", _ROWS, w(768, 768), note="weights"),
    row("MatMul", "f4 1,768", w(768, 3072), note="one row"),
    row("MatMul", "f4 12,128,64", "f4 12,64,128", note="scores"),
    row("MatMul", "f4 1000,3", w(3, 16), note="thin"), row("MatMul", "f4 64,1000", "f4 1000", note="vector"),
    row("MatMul", "f8 128,128", "f8 128,128"), row("MatMul", "i4 64,64", "i4 64,64"),
    row("Gemm", _ROWS, w(768, 768), w(768), transB=1), row("Gemm", "f4 1,100", w(50, 100), w(50), transB=1),
    row("Gemm", "f4 100,64", "f4 100,32", transA=1, note="transA"), row("Einsum", "f4 8,64,64", "f4 8,64,64",
                                                                     equation="bij,bjk->bik"),
    row("Einsum", "f4 1,128,12,64", "f4 1,128,12,64", equation="bqhd,bkhd->bhqk", note="attention"),
    row("Einsum", "f4 64,64", equation="ij->ji", note="transpose"), row("Einsum", "f4 64,32", "f4 48,32",
                                                                    equation="ik,jk->ij", note="inner"),
    row("Det", "f4 100,4,4"), row("MatMulInteger", "u1 128,768", np.int8(_rng.integers(-99, 99, (768, 768)))),
    row("ConvInteger", "u1 1,32,28,28", np.uint8(_rng.integers(0, 200, (32, 32, 3, 3))), pads=[1] * 4))

_QUANT = (
    row("QuantizeLinear", _PICTURE, np.float32(0.05), np.uint8(128)),
    row("QuantizeLinear", _PICTURE, np.abs(w(64)) + 0.1, np.zeros(64, np.int8), axis=1, note="per channel"),
    row("DequantizeLinear", "u1 1,64,56,56", np.float32(0.05), np.uint8(128)),
    row("DequantizeLinear", "i1 1,64,56,56", np.abs(w(64)) + 0.1, np.zeros(64, np.int8), axis=1, note="per channel"),
    row("DynamicQuantizeLinear", _ROWS, outputs=3),
    row("QLinearConv", "u1 1,64,28,28", np.float32(0.02), np.uint8(128), np.int8(_rng.integers(-99, 99,
        (64, 64, 3, 3))),
        np.float32(0.01), np.int8(0), np.float32(0.1), np.uint8(128), pads=[1] * 4),
    row("QLinearMatMul", "u1 128,768", np.float32(0.02), np.uint8(128), np.int8(_rng.integers(-99, 99, (768, 768))),
        np.float32(0.01), np.int8(0), np.float32(0.5), np.uint8(128)),
    *(row(op, "u1 1,64,56,56", np.float32(0.05), np.uint8(128), np.float32(0.01), np.uint8(100), domain="com.microsoft",
          **more) for op, more in (("QLinearSigmoid", {}), ("QLinearLeakyRelu", {"alpha": 0.1}))),
    *(row(op, "u1 1,64,56,56", np.float32(0.05), np.uint8(128), "u1 1,64,56,56", np.float32(0.04), np.uint8(120),
          np.float32(0.1), np.uint8(128), domain="com.microsoft") for op in ("QLinearAdd", "QLinearMul")),
    row("QLinearSoftmax", "u1 128,1000", np.float32(0.05), np.uint8(128), np.float32(1 / 256), np.uint8(0), axis=-1,
        more={"opset": 13}, domain="com.microsoft"),
    row("QLinearAveragePool", "u1 1,64,56,56", np.float32(0.05), np.uint8(128), np.float32(0.05), np.uint8(128),
        kernel_shape=[2, 2], strides=[2, 2], domain="com.microsoft"),
    row("QLinearGlobalAveragePool", "u1 1,64,56,56", np.float32(0.05), np.uint8(128), np.float32(0.05), np.uint8(128),
        domain="com.microsoft"))

_WHOLE = (
    row("LSTM", "f4 50,1,128", w(1, 512, 128), w(1, 512, 128), hidden_size=128, outputs=3),
    row("LSTM", "f4 50,8,128", w(2, 512, 128), w(2, 512, 128), hidden_size=128, outputs=3, direction="bidirectional",
        note="both ways"),
    row("GRU", "f4 50,1,128", w(1, 384, 128), w(1, 384, 128), hidden_size=128, outputs=2),
    row("GRU", "f4 50,1,128", w(1, 384, 128), w(1, 384, 128), hidden_size=128, outputs=2, linear_before_reset=1,
        note="linear before reset"),
    row("RNN", "f4 50,1,128", w(1, 128, 128), w(1, 128, 128), hidden_size=128, outputs=2),
    row("Attention", "f4 1,12,128,64", "f4 1,12,128,64", "f4 1,12,128,64", opset=23),
    row("RotaryEmbedding", "f4 1,12,128,64", w(128, 32), w(128, 32), "i8 1,128 0..128", opset=23),
    row("DFT", "f4 1,1024,1", None, ints(1)[0], opset=20), row("DFT", "f4 1,1000,1", None, ints(1)[0], opset=20),
    row("STFT", "f4 1,16000,1", ints(160)[0], np.hanning(400).astype(np.float32), ints(400)[0]),
    row("MelWeightMatrix", ints(80)[0], ints(400)[0], ints(16000)[0], np.float32(0), np.float32(8000)),
    row("HannWindow", "i8 () 4000..4001"), row("Bernoulli", "f4 100000 0..1"), row("RandomNormalLike", "f4 100000"),
    row("NegativeLogLikelihoodLoss", "f4 128,1000", "i8 128 0..1000"),
    row("SoftmaxCrossEntropyLoss", "f4 128,1000", "i8 128 0..1000"))

_MS = "com.microsoft"
_CONTRIB = (
    *(row(op, _ROWS, domain=_MS) for op in ("Gelu", "QuickGelu", "FastGelu")),
    row("BiasGelu", _ROWS, "f4 768", domain=_MS),
    row("SkipLayerNormalization", "f4 1,128,768", "f4 1,128,768", w(768), w(768), w(768), domain=_MS),
    row("SkipSimplifiedLayerNormalization", "f4 1,128,768", "f4 1,128,768", w(768), domain=_MS),
    row("FusedMatMul", "f4 12,128,64", "f4 12,128,64", transB=1, alpha=0.125, domain=_MS),
    row("MultiHeadAttention", "f4 1,128,768", "f4 1,128,768", "f4 1,128,768", num_heads=12, domain=_MS),
    row("Attention", "f4 1,128,768", w(768, 2304), w(2304), num_heads=12, domain=_MS, note="com.microsoft"),
    row("RotaryEmbedding", "f4 1,12,128,64", "i8 1 0..1", w(512, 32), w(512, 32), domain=_MS, note="com.microsoft"),
    row("MatMulNBits", _ROWS, np.uint8(_rng.integers(0, 256, (768, 24, 16))), np.abs(w(768 * 24)), K=768, N=768, bits=4,
        block_size=32, domain=_MS),
    row("DynamicQuantizeMatMul", _ROWS, np.int8(_rng.integers(-99, 99, (768, 768))), np.float32([0.01]), domain=_MS),
    row("MatMulIntegerToFloat", "u1 128,768", np.int8(_rng.integers(-99, 99, (768, 768))), np.float32(0.02),
        np.float32(0.01), np.uint8(128), domain=_MS),
    row("FusedConv", _PICTURE, w(64, 64, 3, 3), w(64), pads=[1] * 4, activation="Relu", domain=_MS),
    row("CDist", "f4 100,64", "f4 200,64", domain=_MS), row("Inverse", "f4 10,4,4", domain=_MS),
    row("QLinearConcat", np.float32(0.1), np.uint8(128), "u1 1,64,28,28", np.float32(0.05), np.uint8(128),
        "u1 1,64,28,28", np.float32(0.08), np.uint8(120), axis=1, domain=_MS))

_ML = "ai.onnx.ml"
_CLASSIC = (
    row("Normalizer", "f4 1000,30", norm="L2", domain=_ML),
    row("Scaler", "f4 1000,30", offset=[0.5] * 30, scale=[2.0] * 30, domain=_ML),
    row("Binarizer", "f4 1000,30", threshold=0.1, domain=_ML),
    row("Imputer", "f4 1000,30", imputed_value_floats=[1.0] * 30, replaced_value_float=0.0, domain=_ML),
    row("LinearRegressor", "f4 1000,30", coefficients=w(30).tolist(), intercepts=[0.1], domain=_ML),
    row("LinearClassifier", "f4 1000,30", coefficients=w(3, 30).reshape(-1).tolist(), intercepts=[0.1] * 3,
        classlabels_ints=[0, 1, 2], post_transform="SOFTMAX", domain=_ML, outputs=2),
    row("SVMRegressor", "f4 1000,30", coefficients=w(50).tolist(), support_vectors=w(50, 30).reshape(-1).tolist(),
        n_supports=50, rho=[0.1], kernel_type="RBF", kernel_params=[0.1, 0.0, 3.0], domain=_ML),
    row("ArrayFeatureExtractor", "f4 1000,30", ints(1, 5, 7), domain=_ML),
    row("FeatureVectorizer", "f4 1000,10", "f4 1000,20", inputdimensions=[10, 20], domain=_ML),
    row("LabelEncoder", "i8 10000 0..50", keys_int64s=list(range(50)), values_floats=[float(i) for i in range(50)],
        domain=_ML, version=2),
    row("OneHotEncoder", "i8 1000 0..20", cats_int64s=list(range(20)), domain=_ML))

ROWS: tuple[Row, ...] = (*_UNARY, *_BOUNDED, *_POSITIVE, *_TYPED_UNARY, *_BINARY, *_CAST, *_REDUCE, *_SOFT, *_NORM,
                         *_POOL, *_MOVE, *_INDEX, *_PLACES, *_CONV, *_PRODUCT, *_QUANT, *_WHOLE, *_CONTRIB, *_CLASSIC)
