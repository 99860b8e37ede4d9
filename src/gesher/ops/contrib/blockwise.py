"""Weights quantised by blocks, as language models carry them: MatMulNBits, GatherBlockQuantized, MatMulBnb4.

Numbers of fewer than 8 bits stand packed in bytes, the first in the lowest bits; only MatMulBnb4 puts the first of two
into the high half. What a reader would guess wrong:

- Without zero points the middle of the range (8 of 4 bits) is zero, where numbers are packed; typed int4 and uint4
  have none.
- Zero points of the type of A are no counts, and not packed.
- `g_idx` names the block whose scale and zero point each column has. ONNX Runtime 1.32's CPU kernel forgets packed zero
  points then, against its own text and GPU kernels; these rules keep them.
- `accuracy_level` is a leave to compute less exactly, which these rules do not take.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.ir import DimLike
from gesher.ir.types import print_shape
from gesher.ops.arithmetic import widen, widened
from gesher.ops.axes import axis_of
from gesher.ops.rules import InferNode
from gesher.ops.schema import FLOAT4, FLOAT8, INT4, REQUIRED, Attr, Input, Output, op, tensors
from gesher.primitives import Builder, CannotLower, Expr
from gesher.symbolic import ceil_div

from .types import INDEX, INT32, MS, REALS

_UINT8 = tensors("uint8")

MatMulNBits = op("MatMulNBits", Input("A", "T1"), Input("B", "T2"), Input("scales", "T1"),
                 Input("zero_points", "T3", optional=True), Input("g_idx", "T4", optional=True),
                 Input("bias", "T1", optional=True), Output("Y", "T1"), Attr("K", "int", REQUIRED),
                 Attr("N", "int", REQUIRED), Attr("bits", "int", 4), Attr("block_size", "int", REQUIRED),
                 Attr("accuracy_level", "int", 0), Attr("weight_prepacked", "int", 0), domain=MS, T1=REALS, T2=_UINT8,
                 T3=_UINT8 | REALS, T4=INT32)

GatherBlockQuantized = op("GatherBlockQuantized", Input("data", "T1"), Input("indices", "Tind"), Input("scales", "T2"),
                          Input("zero_points", "T1", optional=True), Output("output", "T2"),
                          Attr("gather_axis", "int", 0), Attr("quantize_axis", "int", 1),
                          Attr("block_size", "int", 128), Attr("bits", "int", 4), domain=MS,
                          T1=_UINT8 | INT4 | FLOAT8 | FLOAT4, T2=REALS, Tind=INDEX)

MatMulBnb4 = op("MatMulBnb4", Input("A", "T1"), Input("B", "T2"), Input("absmax", "T1"), Output("Y", "T1"),
                Attr("K", "int", REQUIRED), Attr("N", "int", REQUIRED), Attr("block_size", "int", REQUIRED),
                Attr("quant_type", "int", REQUIRED), Attr("training_mode", "int", 0), Attr("transB", "int", 1),
                domain=MS, T1=REALS, T2=_UINT8)


# Packed bits

def unpack(x: Any, bits: int) -> Any:
    """Bytes as the numbers of `bits` bits in them, along the last axis, the lowest bits first."""
    if bits == 8:
        return x
    each = np.arange(0, 8, bits, dtype=np.uint8)
    return ((x[..., None] >> each) & np.uint8((1 << bits) - 1)).reshape(*x.shape[:-1], x.shape[-1] * len(each))


def unpack_expr(p: Builder, x: Expr, bits: int) -> Expr:
    """As `unpack`, of expressions."""
    if bits == 8:
        return x
    each = 8 // bits
    members = [p.expand_dims(p.bit_and(p.shift_right(x, i * bits), (1 << bits) - 1), [x.rank]) for i in range(each)]
    return p.reshape(p.concat(members, x.rank), (*x.shape[:-1], x.shape[-1] * each))


def check_bits(bits: int) -> None:
    """Refuse numbers that do not fill bytes evenly.

    Raises:
        ModelError: bits is not 2, 4 or 8.
    """
    if bits not in (2, 4, 8):
        raise ModelError(f"bits is {bits}", rule="packed-bits", advice="it is 2, 4 or 8")


# MatMulNBits: Y = A @ W.T, W (N, K) packed as (N, blocks, bytes of a block)

@MatMulNBits.infer
def _(node: InferNode) -> None:
    a, b = node.shape(0), node.shape(1)
    k, n, block = node["K"], node["N"], node["block_size"]
    if node["bits"] not in (2, 4, 8):
        node.fail(f"bits is {node['bits']}", "it is 2, 4 or 8")
    if block < 16 or block & (block - 1):
        node.fail(f"block_size is {block}", "it is a power of 2 of at least 16")
    if b is not None:
        want = (n, -(-k // block), block * node["bits"] // 8)
        if len(b) != 3:
            node.fail(f"B is (N, blocks, bytes of a block), not {print_shape(b)}")
        for i, (have, need) in enumerate(zip(b, want)):
            node.unify(have, need, f"axis {i} of B {print_shape(b)} and {print_shape(want)}, which N, K, bits and "
                                   f"block_size ask for")
    if a is None:
        node.set(0, node.dtype(0), None, why="the shape of A is unknown")
        return
    if not a:
        node.fail("A is a scalar")
    node.unify(a[-1], k, "the last axis of A and K")
    node.set(0, node.dtype(0), (*a[:-1], n))


def _zero_points(zero: Any, n: int, blocks: int, bits: int) -> Any:
    """The zero point of each block, (n, blocks), in a type to count with."""
    if zero is None:
        return np.full((n, blocks), 1 << (bits - 1), np.float32)
    if zero.dtype != np.uint8:
        return widen(zero).reshape(n, blocks)
    return unpack(zero.reshape(n, -1), bits)[:, :blocks].astype(np.float32)


@MatMulNBits.reference
def matmul_nbits(a: Any, b: Any, scales: Any, zero_points: Any = None, g_idx: Any = None, bias: Any = None, *, K: int,
                 N: int, bits: int, block_size: int, accuracy_level: int, weight_prepacked: int) -> Any:
    check_bits(bits)
    blocks = -(-K // block_size)
    counts = unpack(b.reshape(N, -1), bits)[:, :K].astype(np.float32)
    group = np.arange(K) // block_size if g_idx is None else g_idx[:K]
    scale, zero = widen(scales).reshape(N, blocks), _zero_points(zero_points, N, blocks, bits)
    weight = (counts - zero[:, group]) * scale[:, group]
    y = widen(a) @ weight.T
    return (y if bias is None else y + widen(bias)).astype(a.dtype)


@MatMulNBits.lower
def _(p: Builder, a: Expr, b: Expr, scales: Expr, zero_points: Expr | None = None, g_idx: Expr | None = None,
      bias: Expr | None = None, *, K: int, N: int, bits: int, block_size: int, accuracy_level: int,
      weight_prepacked: int) -> Expr:
    if bits not in (2, 4, 8) or weight_prepacked:
        raise CannotLower(f"{bits} bits, or a weight that is packed for one engine")
    blocks = -(-K // block_size)

    def meaning(p: Builder, a: Expr, b: Expr, scales: Expr, zero_points: Expr | None, g_idx: Expr | None,
                bias: Expr | None, *, K: int, N: int, bits: int, block_size: int) -> Expr:
        counts = p.cast(unpack_expr(p, p.reshape(b, (N, blocks, block_size * bits // 8)), bits), dtypes.FLOAT)
        scale = p.reshape(widened(p, scales), (N, blocks))
        if zero_points is None:
            zero = p.full((N, blocks), float(1 << (bits - 1)), dtypes.FLOAT)
        elif zero_points.dtype is dtypes.UINT8:
            rows = p.reshape(zero_points, (N, -(-blocks * bits // 8)))
            zero = p.take(p.cast(unpack_expr(p, rows, bits), dtypes.FLOAT), 1, 0, blocks)
        else:
            zero = p.reshape(widened(p, zero_points), (N, blocks))
        if g_idx is None:
            weight = (counts - p.expand_dims(zero, [2])) * p.expand_dims(scale, [2])
            weight = p.take(p.reshape(weight, (N, blocks * block_size)), 1, 0, K)
        else:
            group = p.take(g_idx, 0, 0, K)
            flat = p.take(p.reshape(counts, (N, blocks * block_size)), 1, 0, K)
            weight = (flat - p.gather(zero, group, 1)) * p.gather(scale, group, 1)
        y = p.contract(widened(p, a), weight, [a.rank - 1], [1])
        return p.cast(y if bias is None else y + widened(p, bias), a.dtype)

    result: Expr = p.composite("matmul_nbits", meaning, a, b, scales, zero_points, g_idx, bias, K=K, N=N, bits=bits,
                               block_size=block_size)
    return result


# GatherBlockQuantized: rows of a quantised table, as real numbers

def _each(dtype: dtypes.DType, bits: int) -> int:
    """How many numbers a stored element holds."""
    return 8 // bits if dtype is dtypes.UINT8 else 1


@GatherBlockQuantized.infer
def _(node: InferNode) -> None:
    data, indices = node.shape(0), node.shape(1)
    if data is None or indices is None:
        node.set(0, node.dtype(2), None, why="the shape of the data or of the indices is unknown")
        return
    gathered = axis_of(node["gather_axis"], len(data), node)
    quantized = axis_of(node["quantize_axis"], len(data), node)
    each = _each(node.dtype(0), node["bits"])
    sizes: tuple[DimLike, ...] = (*data[:-1], data[-1] * each)
    scales = node.shape(2)
    if scales is not None:
        if len(scales) != len(data):
            node.fail(f"the scales {print_shape(scales)} have another rank than the data {print_shape(data)}")
        for i, (have, size) in enumerate(zip(scales, sizes)):
            need = ceil_div(size, node["block_size"]) if i == quantized else size
            node.unify(have, need, f"axis {i} of the scales and of the data, in blocks")
    node.set(0, node.dtype(2), (*sizes[:gathered], *indices, *sizes[gathered + 1:]))


@GatherBlockQuantized.reference
def gather_block_quantized(data: Any, indices: Any, scales: Any, zero_points: Any = None, *, gather_axis: int,
                           quantize_axis: int, block_size: int, bits: int) -> Any:
    dtype = dtypes.from_numpy(data.dtype)
    packed = dtype is dtypes.UINT8
    if packed:
        check_bits(bits)
    counts = (unpack(data, bits) if packed else data).astype(np.float32)
    axis = axis_of(quantize_axis, counts.ndim)
    if zero_points is None:
        zero: Any = np.float32(1 << (bits - 1)) if packed else np.float32(0)
    else:
        zero = (unpack(zero_points, bits) if packed else zero_points).astype(np.float32)
        zero = zero[tuple(slice(0, d) for d in scales.shape)]

    def spread(v: Any) -> Any:
        return v if v.ndim == 0 else np.repeat(v, block_size, axis)[tuple(slice(0, d) for d in counts.shape)]

    table = (counts - spread(zero)) * spread(widen(scales))
    return np.take(table, indices, axis_of(gather_axis, counts.ndim)).astype(scales.dtype)


@GatherBlockQuantized.lower
def _(p: Builder, data: Expr, indices: Expr, scales: Expr, zero_points: Expr | None = None, *, gather_axis: int,
      quantize_axis: int, block_size: int, bits: int) -> Expr:
    packed = data.dtype is dtypes.UINT8
    at, axis = axis_of(gather_axis, data.rank), axis_of(quantize_axis, data.rank)
    if at == axis or (packed and at == data.rank - 1):
        raise CannotLower("a gather along the axis of the blocks")

    # Rows are gathered before they are made real: a table may be large, and few of its rows asked for.
    def rows(x: Expr) -> Expr:
        taken = p.gather(x, indices, at)
        if packed and x.dtype is dtypes.UINT8:
            return p.cast(unpack_expr(p, taken, bits), dtypes.FLOAT)
        return p.cast(taken, dtypes.FLOAT)

    counts, scale = rows(data), rows(scales)
    blocks_at = axis + (indices.rank - 1 if axis > at else 0)

    def spread(v: Expr) -> Expr:
        before, count, after = v.shape[:blocks_at], v.shape[blocks_at], v.shape[blocks_at + 1:]
        wider = p.broadcast_to(p.expand_dims(v, [blocks_at + 1]), (*before, count, block_size, *after))
        return p.take(p.reshape(wider, (*before, count * block_size, *after)), blocks_at, 0, counts.shape[blocks_at])

    if zero_points is not None:
        zero = p.take(rows(zero_points), -1, 0, scale.shape[-1])
        counts = counts - spread(zero)
    elif packed:
        counts = counts - float(1 << (bits - 1))
    return p.cast(counts * spread(scale), scales.dtype)


# MatMulBnb4: 4 bits that name one of sixteen numbers, times the largest magnitude of a block

# FP4: a sign, two bits of exponent and one of mantissa, so scaled that the largest is 1.
_FP4_MAGNITUDES = (0.0, 0.0625 / 12, 8 / 12, 12 / 12, 4 / 12, 6 / 12, 2 / 12, 3 / 12)
# NF4: quantiles of the normal distribution (Dettmers et al., QLoRA, 2023, appendix E).
_NF4 = (-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
        -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
        0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0)
_BNB4: dict[int, Any] = {
    0: np.array([*_FP4_MAGNITUDES, *(-m for m in _FP4_MAGNITUDES)], np.float32), 1: np.array(_NF4, np.float32)}


@MatMulBnb4.infer
def _(node: InferNode) -> None:
    a = node.shape(0)
    if node["quant_type"] not in _BNB4:
        node.fail(f"quant_type is {node['quant_type']}", "it is 0 (FP4) or 1 (NF4)")
    k, n = (node["K"], node["N"]) if node["transB"] else (node["N"], node["K"])
    if a is None:
        node.set(0, node.dtype(0), None, why="the shape of A is unknown")
        return
    node.unify(a[-1], k, "the last axis of A and the rows of B")
    node.set(0, node.dtype(0), (*a[:-1], n))


@MatMulBnb4.reference
def matmul_bnb4(a: Any, b: Any, absmax: Any, *, K: int, N: int, block_size: int, quant_type: int, training_mode: int,
                transB: int) -> Any:
    flat = b.reshape(-1)
    names = np.stack([flat >> 4, flat & 15], 1).reshape(-1)[:N * K]
    weight = _BNB4[quant_type][names] * np.repeat(widen(absmax).reshape(-1), block_size)[:N * K]
    weight = weight.reshape(N, K)
    return (widen(a) @ (weight.T if transB else weight)).astype(a.dtype)


@MatMulBnb4.lower
def _(p: Builder, a: Expr, b: Expr, absmax: Expr, *, K: int, N: int, block_size: int, quant_type: int,
      training_mode: int, transB: int) -> Expr:
    pairs = p.reshape(b, (-(-N * K // 2), 1))
    names = p.concat([p.shift_right(pairs, 4), p.bit_and(pairs, 15)], 1)
    names = p.cast(p.take(p.reshape(names, (names.shape[0] * 2,)), 0, 0, N * K), dtypes.INT32)
    blocks = -(-N * K // block_size)
    largest = p.broadcast_to(p.reshape(widened(p, absmax), (blocks, 1)), (blocks, block_size))
    largest = p.take(p.reshape(largest, (blocks * block_size,)), 0, 0, N * K)
    weight = p.reshape(p.gather(p.constant(_BNB4[quant_type]), names, 0) * largest, (N, K))
    return p.cast(p.contract(widened(p, a), weight, [a.rank - 1], [1 if transB else 0]), a.dtype)
