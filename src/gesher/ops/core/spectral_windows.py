"""What is laid over a signal before and after a Fourier transform: HannWindow and its sisters, MelWeightMatrix.

A periodic window is a symmetric one that is one longer, without its last element. ONNX leaves a symmetric window of
one element undefined (0 / 0); here its element is 1, what all of them tend to in their middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log, pi
from typing import TYPE_CHECKING, Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import RunError
from gesher.symbolic import decide_le, decide_lt

from ..beside import check, is_one, require
from ..rules import InferNode, Run
from ..schema import BF16, FLOATS, NUMBERS, Attr, Input, Operator, Output, op, tensors
from ..sizes import known_int, scalar_of

if TYPE_CHECKING:
    from gesher.primitives import Builder, Expr

TIND = tensors("int32 int64")

# Windows that are sums of cosines: the coefficients of cos(0), cos(t), cos(2 t) over t = 0 ... 2 pi.
_WINDOWS: dict[str, Sequence[float]] = {
    "HannWindow":     (0.5, -0.5),
    "HammingWindow":  (25 / 46, -21 / 46),
    "BlackmanWindow": (0.42, -0.5, 0.08),
}


def _dtype_of(node: InferNode) -> dtypes.DType:
    dtype = dtypes.BY_CODE.get(node["output_datatype"])
    if dtype is None:
        node.fail(f"there is no data type {node['output_datatype']}")
    return dtype


def _infer_window(node: InferNode) -> None:
    size = scalar_of(node, 0)
    if size is not None and decide_lt(size, 0):
        node.fail(f"a window cannot have {size} elements")
    node.set(0, _dtype_of(node), (size,), why="" if size is not None else "the size is not known")


def _add_window(name: str, coefficients: Sequence[float]) -> Operator:
    operator = op(name, Input("size", "T1"), Output("output", "T2"), Attr("output_datatype", "int", 1),
                  Attr("periodic", "int", 1), since=17, T1=TIND, T2=NUMBERS | BF16)
    operator.infer(_infer_window)

    @operator.reference
    def window(size: Any, *, output_datatype: int, periodic: int, run: Run) -> Any:
        count = int(size.reshape(-1)[0])
        dtype = dtypes.by_code(output_datatype).numpy
        run.allow([count], np.float64)
        if not periodic and count == 1:
            return np.ones(1, dtype)
        angle = 2 * pi * np.arange(count) / (count if periodic else count - 1)
        return sum(c * np.cos(k * angle) for k, c in enumerate(coefficients)).astype(dtype)  # type: ignore[union-attr]

    @operator.lower
    def _(p: Builder, size: Expr, *, output_datatype: int, periodic: int) -> Expr:
        count, dtype = known_int(p, size, "the size of the window"), dtypes.by_code(output_datatype)
        wide = dtypes.DOUBLE if dtype in (dtypes.DOUBLE, dtypes.INT64, dtypes.UINT64) else dtypes.FLOAT
        if not periodic and decide_le(count, 1):
            return p.full((count,), 1, dtype)
        length = p.size(count if periodic else count - 1, wide)
        if not periodic:
            # Only a window of one element has the length 0, and no element behind its first.
            length = p.max(length, 1)
        angle = p.iota((count,), 0, wide) * (2 * pi) / length
        total = p.full((count,), coefficients[0], wide)
        for k, c in enumerate(coefficients[1:], 1):
            total = total + p.cos(angle * k) * c
        if not periodic:
            total = p.select(p.eq(p.size(count, wide), 1), 1.0, total)
        return p.cast(total, dtype)

    return operator


HannWindow, HammingWindow, BlackmanWindow = (_add_window(name, c) for name, c in _WINDOWS.items())


# MelWeightMatrix

MelWeightMatrix = op("MelWeightMatrix", Input("num_mel_bins", "T1"), Input("dft_length", "T1"),
                     Input("sample_rate", "T1"), Input("lower_edge_hertz", "T2"), Input("upper_edge_hertz", "T2"),
                     Output("output", "T3"), Attr("output_datatype", "int", 1), since=17, T1=TIND, T2=FLOATS | BF16,
                     T3=NUMBERS | BF16)


@MelWeightMatrix.infer
def _(node: InferNode) -> None:
    for i in range(5):
        shape = node.shape(i)
        if shape is not None:
            check(node, i, is_one(shape) if len(shape) < 2 else False, "one number")
    bins, length = scalar_of(node, 0), scalar_of(node, 1)
    for count, what in ((bins, "mel bins"), (length, "elements of a transform")):
        if count is not None and decide_lt(count, 1):
            node.fail(f"there are no {count} {what}")
    node.set(0, _dtype_of(node), (None if length is None else length // 2 + 1, bins),
             why="" if bins is not None and length is not None else "the number of bins is not known")


@MelWeightMatrix.reference
def mel_weight_matrix(num_mel_bins: Any, dft_length: Any, sample_rate: Any, lower_edge_hertz: Any,
                      upper_edge_hertz: Any, *, output_datatype: int, run: Run) -> Any:
    named = {"num_mel_bins": num_mel_bins, "dft_length": dft_length, "sample_rate": sample_rate,
             "lower_edge_hertz": lower_edge_hertz, "upper_edge_hertz": upper_edge_hertz}
    for name, x in named.items():
        require(name, x.shape, x.size == 1 and x.ndim < 2, "one number")
    bins, length, rate = (int(x.reshape(-1)[0]) for x in (num_mel_bins, dft_length, sample_rate))
    if min(bins, length, rate) < 1:
        raise RunError(f"{bins} mel bins of {length} elements at {rate} samples a second are none")
    rows = length // 2 + 1
    run.allow([rows, bins], np.float64)
    low, high = (2595 * np.log10(1 + float(x.reshape(-1)[0]) / 700) for x in (lower_edge_hertz, upper_edge_hertz))
    # Evenly spaced on the mel scale, in steps that would reach the upper edge one bin behind the last.
    mels = low + np.arange(bins + 2) * ((high - low) / (bins + 2))
    edges = ((length + 1) * (700 * (10 ** (mels / 2595) - 1)) // rate).astype(np.int64)
    left, center, right = edges[:-2], edges[1:-1], edges[2:]
    row = np.arange(rows)[:, None]
    with np.errstate(all="ignore"):
        rising = np.where(center > left, (row - left) / (center - left), 1.0)
        falling = (right - row) / (right - center)
    triangles = np.where((row >= left) & (row <= center), rising,
                         np.where((row > center) & (row < right), falling, 0.0))
    return triangles.astype(dtypes.by_code(output_datatype).numpy)


@MelWeightMatrix.lower
def _(p: Builder, num_mel_bins: Expr, dft_length: Expr, sample_rate: Expr, lower_edge_hertz: Expr,
      upper_edge_hertz: Expr, *, output_datatype: int) -> Expr:
    bins = known_int(p, num_mel_bins, "the number of bins")
    length = known_int(p, dft_length, "the length of the transform")
    wide = dtypes.DOUBLE

    def number(x: Expr) -> Expr:
        return p.cast(p.reshape(x, ()), wide)

    low, high = (p.log(number(x) / 700.0 + 1.0) * (2595 / log(10)) for x in (lower_edge_hertz, upper_edge_hertz))
    mels = p.iota((bins + 2,), 0, wide) * ((high - low) / p.size(bins + 2, wide)) + low
    hertz = p.expm1(mels * (log(10) / 2595)) * 700.0
    edges = p.floor(hertz * p.size(length + 1, wide) / number(sample_rate))
    left, center, right = (p.expand_dims(p.take(edges, 0, i, bins + i), [0]) for i in range(3))
    row = p.iota((length // 2 + 1, 1), 0, wide)
    rising = p.select(p.gt(center, left), (row - left) / (center - left), 1.0)
    falling = p.select(p.and_(p.gt(row, center), p.lt(row, right)), (right - row) / (right - center), 0.0)
    rises = p.and_(p.ge(row, left), p.le(row, center))
    return p.cast(p.select(rises, rising, falling), dtypes.by_code(output_datatype))
