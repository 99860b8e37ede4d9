"""Weights in blobs whose blocks hold their own scales: GatherPacked (GGUF's formats) and MatMulFpQ4.

GatherPacked names a format by its number in GGUF. What a reader would guess wrong:

- Where weights have 4 bits and more, the low halves of a block's bytes are the first half of its weights.
- In Q5_K and Q6_K a block has 256 weights and its scales have scales of their own; IQ formats name points of a
  codebook, and signs: seven of eight, the eighth makes them even in number.
- An index outside of the table reads row 0.

MatMulFpQ4's blocks run down the columns. Of its block types, ONNX Runtime's CPU build reads 2 as if it were 1, against
its own text; it is refused here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError, RunError, UnsupportedError
from gesher.ir.types import print_shape
from gesher.ops.codebooks import codebook
from gesher.ops.rules import InferNode
from gesher.ops.schema import REQUIRED, Attr, Input, Output, op, tensors
from gesher.ops.sizes import numbers_of, plain_ints
from gesher.primitives import Builder, CannotLower, Expr
from gesher.symbolic import ceil_div, product

from .types import FLOAT, INDEX, MS, REALS

_UINT8 = tensors("uint8")

GatherPacked = op("GatherPacked", Input("data", "T1"), Input("indices", "Tind"), Output("output", "T2"),
                  Attr("packed_type", "int", REQUIRED), Attr("K", "int", REQUIRED),
                  Attr("output_dtype", "int", dtypes.BFLOAT16.code), domain=MS, T1=_UINT8, T2=REALS, Tind=INDEX)

MatMulFpQ4 = op("MatMulFpQ4", Input("A", "T1"), Input("B", "T2"), Input("B_shape", "T3"), Output("Y", "T1"),
                Attr("blk_quant_type", "int", 1), domain=MS, T1=FLOAT, T2=_UINT8, T3=tensors("int64"))


# The formats: blocks of bytes, (blocks, bytes), as (blocks, weights)

def _half(x: Any, at: int) -> Any:
    """The float16 at a place of each block, (blocks, 1)."""
    return np.ascontiguousarray(x[:, at:at + 2]).view(np.float16).astype(np.float32)


def _word(x: Any, at: int, bytes: int) -> Any:
    """The unsigned number of 2 or 4 bytes at a place of each block, (blocks, 1)."""
    return np.ascontiguousarray(x[:, at:at + bytes]).view(f"<u{bytes}").astype(np.uint64)


def _halves(x: Any) -> Any:
    """Low halves of bytes, then high ones, along the last axis."""
    return np.concatenate([x & 15, x >> 4], -1).astype(np.float32)


def _bits(x: Any, count: int, width: int = 1) -> Any:
    """The first numbers of `width` bits of a word, (blocks, count)."""
    return (x >> np.arange(0, count * width, width, dtype=np.uint64)) & np.uint64((1 << width) - 1)


def _q5_0(x: Any) -> Any:
    return (_halves(x[:, 6:]) + 16 * _bits(_word(x, 2, 4), 32).astype(np.float32) - 16) * _half(x, 0)


def _q5_k(x: Any) -> Any:
    s = x[:, 4:16]
    # Eight scales and eight offsets of 6 bits: four in the low bits, of the others the upper two in the high ones.
    low, least, mixed = s[:, :4], s[:, 4:8], s[:, 8:]
    scales = np.concatenate([low & 63, (mixed & 15) | (low >> 6 << 4)], 1).astype(np.float32) * _half(x, 0)
    offsets = np.concatenate([least & 63, (mixed >> 4) | (least >> 6 << 4)], 1).astype(np.float32) * _half(x, 2)
    fifth = (x[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None]) & 1  # (blocks, 8, 32)
    parts = x[:, 48:].reshape(-1, 4, 1, 32)
    lows = np.concatenate([parts & 15, parts >> 4], 2).reshape(-1, 8, 32)
    return ((lows + 16 * fifth) * scales[..., None] - offsets[..., None]).reshape(-1, 256)


def _q6_k(x: Any) -> Any:
    low, high = x[:, :128].reshape(-1, 2, 2, 32), x[:, 128:192].reshape(-1, 2, 1, 32)
    fours = np.concatenate([low & 15, low >> 4], 2)  # (blocks, 2, 4, 32)
    twos = (high >> np.arange(0, 8, 2, dtype=np.uint8)[:, None]) & 3
    counts = (fours | (twos << 4)).astype(np.float32) - 32
    scales = np.ascontiguousarray(x[:, 192:208]).view(np.int8).astype(np.float32) * _half(x, 208)
    return (counts.reshape(-1, 16, 16) * scales[..., None]).reshape(-1, 256)


_NONLINEAR = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)


def _iq4_nl(x: Any) -> Any:
    return _NONLINEAR[_halves(x[:, 2:]).astype(np.int64)] * _half(x, 0)


def _iq4_xs(x: Any) -> Any:
    low = x[:, 4:8, None]
    scale = np.concatenate([low & 15, low >> 4], 2).reshape(-1, 8) | (_bits(_word(x, 2, 2), 8, 2) << np.uint64(4))
    counts = _NONLINEAR[_halves(x[:, 8:].reshape(-1, 8, 16)).astype(np.int64)]
    return (counts * ((scale.astype(np.float32) - 32) * _half(x, 0))[..., None]).reshape(-1, 256)


def _signed(signs: Any) -> Any:
    """The signs of eight weights, by the bits of a byte."""
    return 1 - 2 * ((signs[..., None].astype(np.int64) >> np.arange(8)) & 1).astype(np.float32)


def _evened(seven: Any) -> Any:
    """A byte of signs from seven bits of them: the eighth makes them even in number."""
    seven = seven.astype(np.int64)
    return seven | (((seven[..., None] >> np.arange(7)) & 1).sum(-1) & 1) << 7


def _four_signs(words: Any) -> Any:
    """Four bytes of signs from a word's 28 lowest bits, (..., 4)."""
    return _evened(words.astype(np.int64)[..., None] >> np.arange(0, 28, 7) & 127)


def _iq2_xxs(x: Any) -> Any:
    parts = np.ascontiguousarray(x[:, 2:]).reshape(-1, 8, 8)
    words = np.ascontiguousarray(parts[..., 4:]).view("<u4")[..., 0]
    scale = (0.5 + (words >> 28).astype(np.float32)) * 0.25 * _half(x, 0)
    points = codebook("iq2_xxs")[parts[..., :4]] * _signed(_four_signs(words))  # (blocks, 8, 4, 8)
    return (points * scale[..., None, None]).reshape(-1, 256)


def _twofold(x: Any) -> Any:
    """The scales of 16 weights each, (blocks, 16, 1, 1), from a byte for 32 of them."""
    pairs = np.stack([x & 15, x >> 4], -1).reshape(-1, 16)
    return ((0.5 + pairs.astype(np.float32)) * 0.25)[..., None, None]


def _iq2_xs(x: Any) -> Any:
    words = np.ascontiguousarray(x[:, 2:66]).view("<u2").reshape(-1, 16, 2)
    points = codebook("iq2_xs")[words & 511] * _signed(_evened(words >> 9))
    return (points * _twofold(x[:, 66:])).reshape(-1, 256) * _half(x, 0)


def _iq2_s(x: Any) -> Any:
    high = (x[:, 66:74, None] >> np.arange(0, 8, 2, dtype=np.uint8) & 3).astype(np.int64)
    names = x[:, 2:34].reshape(-1, 8, 4).astype(np.int64) | high << 8
    points = codebook("iq2_s")[names.reshape(-1, 16, 2)] * _signed(x[:, 34:66].reshape(-1, 16, 2))
    return (points * _twofold(x[:, 74:])).reshape(-1, 256) * _half(x, 0)


def _iq3_xxs(x: Any) -> Any:
    words = np.ascontiguousarray(x[:, 66:]).view("<u4")  # (blocks, 8)
    scale = (0.5 + (words >> 28).astype(np.float32)) * 0.5 * _half(x, 0)
    points = codebook("iq3_xxs")[x[:, 2:66].reshape(-1, 8, 4, 2)].reshape(-1, 8, 4, 8)
    return (points * _signed(_four_signs(words)) * scale[..., None, None]).reshape(-1, 256)


@dataclass(frozen=True, slots=True)
class Format:
    """A packed format: its name in GGUF, the weights and bytes of a block, and blocks as weights."""

    name: str
    weights: int
    bytes: int
    decode: Callable[[Any], Any]


_FORMATS: dict[int, Format] = {
    0:  Format("F32",       1,   4, lambda x: np.ascontiguousarray(x).view("<f4")),
    1:  Format("F16",       1,   2, lambda x: _half(x, 0)),
    2:  Format("Q4_0",     32,  18, lambda x: (_halves(x[:, 2:]) - 8) * _half(x, 0)),
    6:  Format("Q5_0",     32,  22, _q5_0),
    8:  Format("Q8_0",     32,  34, lambda x: x[:, 2:].astype(np.int8).astype(np.float32) * _half(x, 0)),
    13: Format("Q5_K",    256, 176, _q5_k),
    14: Format("Q6_K",    256, 210, _q6_k),
    16: Format("IQ2_XXS", 256,  66, _iq2_xxs),
    17: Format("IQ2_XS",  256,  74, _iq2_xs),
    18: Format("IQ3_XXS", 256,  98, _iq3_xxs),
    20: Format("IQ4_NL",   32,  18, _iq4_nl),
    22: Format("IQ2_S",   256,  82, _iq2_s),
    23: Format("IQ4_XS",  256, 136, _iq4_xs),
    30: Format("BF16",      1,   2, lambda x: (_word(x, 0, 2).astype(np.uint32) << 16).view(np.float32)),
    42: Format("Q2_0",     64,  18, lambda x: ((x[:, 2:, None] >> np.arange(0, 8, 2, dtype=np.uint8) & 3)
                                               .reshape(-1, 64).astype(np.float32) - 1) * _half(x, 0)),
}


# GatherPacked

def _format(number: int, width: int) -> Format:
    """Raises ModelError where there is no such format, or rows do not divide into its blocks."""
    found = _FORMATS.get(number)
    if found is None:
        raise ModelError(f"packed_type cannot be {number}", rule="packed-format", advice="it is " + ", ".join(
            f"{n} ({f.name})" for n, f in _FORMATS.items()))
    if width < 1 or width % found.weights:
        raise ModelError(f"rows of K = {width} do not divide into blocks of {found.weights}", rule="packed-format")
    return found


@GatherPacked.infer
def _(node: InferNode) -> None:
    data, indices, width = node.shape(0), node.shape(1), node["K"]
    try:
        found = _format(node["packed_type"], width)
    except ModelError as e:
        node.fail(e.what, e.advice)
    if data is not None:
        if len(data) != 2:
            node.fail(f"the table is (rows, bytes), not {print_shape(data)}")
        node.unify(data[1], width // found.weights * found.bytes, f"the bytes of a row, and {width} weights of "
                                                                  f"{found.name}")
    dtype = dtypes.BY_CODE.get(node["output_dtype"])
    if dtype not in (dtypes.FLOAT, dtypes.FLOAT16, dtypes.BFLOAT16):
        node.fail(f"output_dtype is {node['output_dtype']}", "it is that of float, float16 or bfloat16")
    node.set(0, dtype, None if indices is None else (*indices, width), why="the shape of the indices is unknown")


@GatherPacked.reference
def gather_packed(data: Any, indices: Any, *, packed_type: int, K: int, output_dtype: int) -> Any:
    found = _format(packed_type, K)
    if data.ndim != 2 or data.shape[1] != K // found.weights * found.bytes:
        raise RunError(f"the table {print_shape(data.shape)} has no rows of {K} weights of {found.name}")
    rows = data[np.where((indices < 0) | (indices >= len(data)), 0, indices)]
    with np.errstate(invalid="ignore"):
        weights = found.decode(rows.reshape(-1, found.bytes))
    return weights.reshape(*indices.shape, K).astype(dtypes.BY_CODE[output_dtype].numpy)


@GatherPacked.lower
def _(p: Builder, data: Expr, indices: Expr, *, packed_type: int, K: int, output_dtype: int) -> Expr:
    found = _format(packed_type, K)
    inside = p.and_(p.ge(indices, 0), p.lt(indices, p.size(data.shape[0], indices.dtype)))
    rows = p.gather(data, p.select(inside, indices, 0), 0)
    count = product(indices.shape) * (K // found.weights)
    x = p.reshape(rows, (count, found.bytes))

    def word(at: int) -> Expr:
        low, high = (p.cast(p.take(x, 1, at + i, at + i + 1), dtypes.UINT16) for i in (0, 1))
        return low + high * 256

    def halves(at: int) -> Expr:
        part = p.take(x, 1, at, found.bytes)
        return p.concat([p.bit_and(part, 15), p.shift_right(part, 4)], 1)

    def wide(e: Expr) -> Expr:
        return p.cast(e, dtypes.FLOAT)

    scale = wide(p.bitcast(word(0), dtypes.FLOAT16))
    if found.name == "F16":
        y = scale
    elif found.name == "BF16":
        y = wide(p.bitcast(word(0), dtypes.BFLOAT16))
    elif found.name == "Q4_0":
        y = (wide(halves(2)) - 8.0) * scale
    elif found.name == "Q8_0":
        y = wide(p.bitcast(p.take(x, 1, 2, 34), dtypes.INT8)) * scale
    elif found.name == "IQ4_NL":
        y = p.gather(p.constant(_NONLINEAR), p.cast(halves(2), dtypes.INT32), 0) * scale
    elif found.name == "Q2_0":
        part = p.expand_dims(p.take(x, 1, 2, 18), [2])
        twos = p.concat([p.bit_and(p.shift_right(part, s), 3) for s in (0, 2, 4, 6)], 2)
        y = (wide(p.reshape(twos, (count, 64))) - 1.0) * scale
    else:
        raise CannotLower(f"rows of {found.name}")
    return p.cast(p.reshape(y, (*indices.shape, K)), dtypes.BY_CODE[output_dtype])


# MatMulFpQ4

_BLOCK = 32


def _block_bytes(kind: int) -> int:
    """The bytes of a block: a scale, a zero point (of type 1), and 32 halves.

    Raises:
        ModelError, UnsupportedError: there is no such type, or nobody says what its blocks are.
    """
    if kind == 2:
        raise UnsupportedError("MatMulFpQ4 with blk_quant_type 2", who="reference",
                               advice="quantise the matrix by type 0 or 1")
    if kind not in (0, 1):
        raise ModelError(f"blk_quant_type cannot be {kind}", rule="packed-format", advice="it is 0, 1 or 2")
    return 4 + kind + _BLOCK // 2


@MatMulFpQ4.infer
def _(node: InferNode) -> None:
    a, blob, sizes = node.shape(0), node.shape(1), numbers_of(node, 2)
    if blob is not None and len(blob) != 1:
        node.fail(f"the packed matrix is a list of bytes, not {print_shape(blob)}")
    if sizes is None or a is None:
        node.set(0, node.dtype(0), None if a is None else (*a[:-1], None), why="B_shape or the shape of A is unknown")
        return
    if len(sizes) != 2 or not a:
        node.fail(f"B_shape {sizes} is that of a matrix, and A {print_shape(a)} ends in its rows")
    node.unify(a[-1], sizes[0], "the last axis of A and the rows of B")
    if blob is not None and node["blk_quant_type"] in (0, 1):
        node.unify(blob[0], sizes[1] * -(-sizes[0] // _BLOCK) * _block_bytes(node["blk_quant_type"]),
                   f"the bytes of B, and a matrix of {sizes[0]} by {sizes[1]}")
    node.set(0, node.dtype(0), (*a[:-1], sizes[1]))


@MatMulFpQ4.reference
def matmul_fpq4(a: Any, blob: Any, shape: Any, *, blk_quant_type: int) -> Any:
    rows, columns = (int(n) for n in shape)
    size = _block_bytes(blk_quant_type)
    count = -(-rows // _BLOCK)
    if blob.shape != (columns * count * size,) or a.shape[-1] != rows:
        raise RunError(f"A {print_shape(a.shape)} and {blob.size} bytes do not fit a matrix of {rows} by {columns}, "
                       f"which is {columns * count * size} bytes")
    blocks = blob.reshape(columns, count, size)
    scale = np.ascontiguousarray(blocks[..., :4]).view("<f4")
    zero = blocks[..., 4:5].astype(np.float32) if blk_quant_type else np.float32(8)
    weight = (_halves(blocks[..., 4 + blk_quant_type:]) - zero) * scale
    return a @ weight.reshape(columns, -1)[:, :rows].T


@MatMulFpQ4.lower
def _(p: Builder, a: Expr, blob: Expr, shape: Expr, *, blk_quant_type: int) -> Expr:
    if blk_quant_type not in (0, 1):
        raise CannotLower(f"blocks of type {blk_quant_type}")
    rows, columns = plain_ints(p, shape, "the shape of B")
    size, count = _block_bytes(blk_quant_type), ceil_div(rows, _BLOCK)
    blocks = p.reshape(blob, (columns, count, size))
    bits = p.constant(0, dtypes.UINT32)
    for i in range(4):
        bits = p.bit_or(bits, p.shift_left(p.cast(p.take(blocks, 2, i, i + 1), dtypes.UINT32), 8 * i))
    data = p.take(blocks, 2, 4 + blk_quant_type, size)
    counts = p.cast(p.concat([p.bit_and(data, 15), p.shift_right(data, 4)], 2), dtypes.FLOAT)
    zero: Any = p.cast(p.take(blocks, 2, 4, 5), dtypes.FLOAT) if blk_quant_type else 8.0
    weight = p.reshape((counts - zero) * p.bitcast(bits, dtypes.FLOAT), (columns, count * _BLOCK))
    return p.contract(a, p.take(weight, 1, 0, rows), [a.rank - 1], [1])
