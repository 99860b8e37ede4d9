"""DequantizeLinear, operator, QuantizeLinear: one operator on counts.

What a reader would guess wrong:

- The integer operator sums exact products and rounds once; the float one between DQ and Q rounds at each step. Where
  the true result lies within those roundings of a half, the counts differ by one. ONNX Runtime and OpenVINO replace
  them the same way. Everything else in this file gives the very same counts.
- Additions, products and functions of counts are left as they are: the compiler fuses their steps and computes what the
  float graph says, exactly.
- A bias becomes a whole number of the product's scale. Quantisers write it so; a float bias is off by half of such a
  unit, which is some hundredths or thousandths of a count of the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gesher.base.dtypes import FLOAT, INT8, INT32, UINT8, DType
from gesher.ir import Node, Value
from gesher.rewriter import Rewrite, Work, rule

_BYTES = (INT8, UINT8)


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers counted in a scale: what DequantizeLinear reads, or QuantizeLinear gives."""

    value: Value
    dtype: DType
    scale: Value
    zero: Value | None
    axis: int

    def single(self, work: Work) -> bool:
        """Whether one scale and one zero point hold for the whole tensor."""
        return all(work.shape(v) is not None and all(d == 1 for d in work.shape(v) or ())
                   for v in (self.scale, self.zero) if v is not None)

    def zero_point(self, work: Work) -> Value:
        """The zero point, 0 where none is written."""
        if self.zero is not None:
            return self.zero
        shape = tuple(work.shape(self.scale) or ())
        return work.constant(np.zeros([d for d in shape if isinstance(d, int)], self.dtype.numpy), self.dtype)

    def like(self, work: Work, other: Counts) -> bool:
        """Whether a count means the same in both, which both have one scale."""
        return self.dtype is other.dtype and self.single(work) and other.single(work) \
            and work.same(self.scale, other.scale) and work.same(self.zero_point(work), other.zero_point(work))


def _is(node: Node | None, op_type: str) -> bool:
    return node is not None and node.op_type == op_type and node.domain in ("", "ai.onnx", "com.microsoft")


def _linear(work: Work, node: Node, counts: Value) -> Counts | None:
    """The scale and zero point of a QuantizeLinear or DequantizeLinear; None where it has blocks, or odd types."""
    scale = node.inputs[1] if len(node.inputs) > 1 else None
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    if scale is None or work.dtype(scale) is not FLOAT or work.attribute(node, "block_size") \
            or work.attribute(node, "precision") not in (None, 0, FLOAT.code):
        return None
    dtype = work.dtype(counts)
    axis = work.attribute(node, "axis")
    return Counts(counts, dtype, scale, zero, 1 if axis is None else int(axis))


def dequantised(work: Work, value: Value | None, *types: DType) -> Counts | None:
    """What DequantizeLinear makes `value` of, where it does, from counts of these types."""
    node = None if value is None else value.producer
    if value is None or not _is(node, "DequantizeLinear") or work.dtype(value) is not FLOAT:
        return None
    assert node is not None
    counts = node.inputs[0]
    if counts is None or work.dtype(counts) not in (types or _BYTES):
        return None
    return _linear(work, node, counts)


def quantised(work: Work, node: Node) -> Counts | None:
    """What a QuantizeLinear gives, where that is bytes of one scale made from float32."""
    x, y = node.inputs[0], node.outputs[0]
    if x is None or y is None or work.dtype(x) is not FLOAT or work.dtype(y) not in _BYTES:
        return None
    found = _linear(work, node, y)
    return found if found is not None and found.single(work) else None


def _between(work: Work, node: Node, *op_types: str) -> Node | None:
    """The node of these operators whose one result only this QuantizeLinear reads."""
    x = node.inputs[0]
    made = None if x is None else x.producer
    if x is None or made is None or made.op_type not in op_types or made.domain not in ("", "ai.onnx") \
            or work.only_user(x) is not node or len(made.outputs) != 1:
        return None
    return made


def _numbers(work: Work, value: Value) -> np.ndarray[Any, Any] | None:
    held = work.constant_of(value)
    return None if held is None else held.numpy()


def _columns(work: Work, w: Counts, axis: int) -> bool | str:
    """Whether the scale of a weight is one number, or a list along `axis`."""
    if w.single(work):
        return True
    shape, rank = work.shape(w.scale), len(work.shape(w.value) or ())
    return bool(shape is not None and len(shape) == 1 and w.axis % max(rank, 1) == axis % max(rank, 1)) \
        or "the weight's scale does not run along its outputs"


def _bias(work: Work, value: Value | None, x: Counts, w: Counts, rank: int = 1) -> Value | str | None:
    """A bias counted in the scale of products of x and w, of the rank that it is wanted in."""
    if value is None:
        return None
    x_scale, w_scale = _numbers(work, x.scale), _numbers(work, w.scale)
    if x_scale is None or w_scale is None:
        return "the scales are not known, and the bias must be counted in them"
    unit = np.float64(x_scale.reshape(())) * w_scale.reshape(-1).astype(np.float64)
    if not (np.isfinite(unit).all() and (unit > 0).all()):
        return "the scales are not positive"
    given = dequantised(work, value, INT32)
    if given is not None:
        counts, scale = _numbers(work, given.value), _numbers(work, given.scale)
        zero = None if given.zero is None else _numbers(work, given.zero)
        if counts is not None and scale is not None and (zero is None or not zero.any()) \
                and np.allclose(scale.reshape(-1), unit, rtol=1e-5, atol=0) and counts.ndim == rank:
            return given.value
    real = _numbers(work, value)
    if real is None:
        return "the bias is not constant"
    counted = np.rint(real.reshape(-1).astype(np.float64) / unit)
    if not (np.abs(counted) < 1 << 30).all() or len(counted.shape) != 1:
        return "the bias does not fit 32 bits of the product's scale"
    return work.constant(counted.astype(np.int32), INT32)


@rule("quantised_relu", "QuantizeLinear", current=False, reach=2)
def _relu(work: Work, node: Node) -> Any:
    """Counting keeps order, so what is cut off before it may be cut off behind it: at the count of 0."""
    y, cut = quantised(work, node), _between(work, node, "Relu", "Clip")
    if y is None or cut is None:
        return None
    if cut.op_type == "Clip" and work.version(cut) < 11:
        return "an old Clip"     # brought up to date first
    given = [*cut.inputs[1:], None, None][:2]
    bounds = [0.0, None] if cut.op_type == "Relu" else [None if v is None else work.scalar(v) for v in given]
    if any(v is not None and b is None for v, b in zip(given, bounds)):
        return "the bounds of Clip are not known"
    scale, zero = _numbers(work, y.scale), _numbers(work, y.zero_point(work))
    if scale is None or zero is None or not scale.reshape(-1)[0] > 0:
        return "the scale is not known"
    info = np.iinfo(y.dtype.numpy)
    made: Any = work.again(node, [cut.inputs[0], *node.inputs[1:]]).outputs[0]
    for op_type, bound, idle in (("Max", bounds[0], info.min), ("Min", bounds[1], info.max)):
        if bound is None:
            continue
        count = np.rint(np.float32(bound) / scale.reshape(-1)[0]) + np.float32(zero.reshape(-1)[0])
        count = int(np.clip(count, info.min, info.max))
        if count != idle:
            made = work.op(op_type, made, np.array(count, y.dtype.numpy))
    return made


@rule("quantised_conv", "QuantizeLinear", current=False, reach=3)
def _conv(work: Work, node: Node) -> Any:
    y, conv = quantised(work, node), _between(work, node, "Conv")
    if y is None or conv is None:
        return None
    x, w = dequantised(work, conv.inputs[0]), dequantised(work, conv.inputs[1])
    if x is None or w is None:
        return None
    if not x.single(work):
        return "x has several scales"
    fits = _columns(work, w, 0)
    if fits is not True:
        return fits
    bias = _bias(work, conv.inputs[2] if len(conv.inputs) > 2 else None, x, w)
    if isinstance(bias, str):
        return bias
    return work.op("QLinearConv", x.value, x.scale, x.zero_point(work), w.value, w.scale, w.zero_point(work), y.scale,
                   y.zero_point(work), bias, **_attributes(conv))


def _attributes(node: Node) -> dict[str, Any]:
    return {name: a.value for name, a in node.attributes.items()}


@rule("quantised_matmul", "QuantizeLinear", current=False, reach=3)
def _matmul(work: Work, node: Node) -> Any:
    y, product = quantised(work, node), _between(work, node, "MatMul")
    if y is None or product is None:
        return None
    a, b = dequantised(work, product.inputs[0]), dequantised(work, product.inputs[1])
    if a is None or b is None:
        return None
    if not a.single(work):
        return "the left matrix has several scales"
    fits = _columns(work, b, -1)
    if fits is not True or (not b.single(work) and len(work.shape(b.value) or ()) != 2):
        return "the scale of the right matrix does not run along its columns"
    return work.op("QLinearMatMul", a.value, a.scale, a.zero_point(work), b.value, b.scale, b.zero_point(work), y.scale,
                   y.zero_point(work))


@rule("matmul_of_counts", "MatMul", current=False, reach=2)
def _matmul_to_float(work: Work, node: Node) -> Any:
    """A product that is not counted again."""
    if _counted_next(node):
        return None
    a, b = dequantised(work, node.inputs[0]), dequantised(work, node.inputs[1])
    if a is None or b is None:
        return None
    if not a.single(work):
        return "the left matrix has several scales"
    if _columns(work, b, -1) is not True or (not b.single(work) and len(work.shape(b.value) or ()) != 2):
        return "the scale of the right matrix does not run along its columns"
    return work.op("MatMulIntegerToFloat", a.value, b.value, a.scale, b.scale, a.zero, b.zero, domain="com.microsoft")


def _counted_next(node: Node) -> bool:
    """Whether all that reads a node's result counts it, perhaps behind a cut."""
    def counts(reader: Any) -> bool:
        return isinstance(reader, Node) and (_is(reader, "QuantizeLinear") or (
            reader.op_type in ("Relu", "Clip") and all(_is(r, "QuantizeLinear") for r in _readers(reader))))

    return bool(_readers(node)) and all(map(counts, _readers(node)))


def _readers(node: Node) -> list[Any]:
    return list(node.outputs[0].uses) if node.outputs[0] is not None else []


@rule("quantised_gemm", "QuantizeLinear", "Gemm", current=False, reach=3)
def _gemm(work: Work, node: Node) -> Any:
    y: Counts | None = None
    gemm: Node | None = node
    if node.op_type == "QuantizeLinear":
        y, gemm = quantised(work, node), _between(work, node, "Gemm")
        if y is None:
            return None
    elif _counted_next(node) or work.version(node) < 7:
        return None
    if gemm is None:
        return None
    a, b = dequantised(work, gemm.inputs[0]), dequantised(work, gemm.inputs[1])
    if a is None or b is None:
        return None
    trans_b = int(work.attribute(gemm, "transB") or 0)
    if not a.single(work):
        return "the left matrix has several scales"
    fits = _columns(work, b, 0 if trans_b else 1)
    if fits is not True:
        return fits
    if float(work.attribute(gemm, "alpha")) != 1:
        return "the product is scaled"
    bias: Value | str | None = None
    if len(gemm.inputs) > 2 and gemm.inputs[2] is not None:
        shape = work.shape(gemm.inputs[2])
        if float(work.attribute(gemm, "beta")) != 1 or shape is None or len(shape) != 1:
            return "what is added is no list of a number for each column"
        bias = _bias(work, gemm.inputs[2], a, b)
        if isinstance(bias, str):
            return bias
    more = () if y is None else (y.scale, y.zero_point(work))
    return work.op("QGemm", a.value, a.scale, a.zero_point(work), b.value, b.scale, b.zero_point(work), bias, *more,
                   domain="com.microsoft", transA=int(work.attribute(gemm, "transA") or 0), transB=trans_b)


# Operators that only move what they read, from their first input.
_MOVES = ("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Gather", "GatherElements", "Expand",
          "Identity", "Tile", "DepthToSpace", "SpaceToDepth")


@rule("moved_counts", "QuantizeLinear", current=False, reach=3)
def _moved(work: Work, node: Node) -> Any:
    """What only moves numbers, or picks the largest, may do it to their counts."""
    y, move = quantised(work, node), _between(work, node, *_MOVES, "MaxPool", "Concat")
    if y is None or move is None:
        return None
    many = move.op_type == "Concat"
    found = [dequantised(work, v) for v in (move.inputs if many else move.inputs[:1])]
    counts = [c for c in found if c is not None]
    if len(counts) < len(found):
        return None
    if not all(y.like(work, c) for c in counts):
        return "what goes in and out is counted in different scales"
    if move.op_type == "MaxPool" and (work.version(move) < 8 or not _positive(work, y.scale)):
        return "this version of MaxPool takes no bytes, or the scale is not known to be positive"
    rest = () if many else move.inputs[1:]
    if move.op_type == "MaxPool":
        return work.op("MaxPool", counts[0].value, **_attributes(move))
    return work.again(move, [*(c.value for c in counts), *rest]).outputs[0]


def _positive(work: Work, scale: Value) -> bool:
    numbers = _numbers(work, scale)
    return numbers is not None and bool((numbers > 0).all() and np.isfinite(numbers).all())


@rule("counted_again", "QuantizeLinear", current=False, reach=2)
def _again(work: Work, node: Node) -> Any:
    """Counts of a scale, counted in that scale: k * s / s is k to more digits than a byte has."""
    y, x = quantised(work, node), dequantised(work, node.inputs[0])
    if y is None or x is None:
        return None
    if not y.like(work, x) or not _positive(work, y.scale):
        return "what goes in and out is counted in different scales"
    return x.value


RULES: tuple[Rewrite, ...] = (_again, _relu, _conv, _matmul, _gemm, _moved, _matmul_to_float)
