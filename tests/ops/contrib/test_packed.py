"""Packed weights read as ONNX Runtime reads them: every format, every block type."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.contrib.nodes import ms
from tests.ops.single_node import check

from gesher.base.errors import ModelError, RunError, UnsupportedError

RNG = np.random.default_rng(38)
# The formats by number: weights and bytes of a block, where its float16 scales are, and whether it lowers.
FORMATS = {
    0: (1, 4, (), False), 1: (1, 2, (0,), True), 2: (32, 18, (0,), True), 6: (32, 22, (0,), False),
    8: (32, 34, (0,), True), 13: (256, 176, (0, 2), False), 14: (256, 210, (208,), False),
    16: (256, 66, (0,), False), 17: (256, 74, (0,), False), 18: (256, 98, (0,), False), 20: (32, 18, (0,), True),
    22: (256, 82, (0,), False), 23: (256, 136, (0,), False), 30: (1, 2, (), True), 42: (64, 18, (0,), True)}
WIDTH = 512
FLOAT, FLOAT16 = 1, 10


def table(number: int, rows: int) -> Any:
    """Random bytes, with scales that are ordinary numbers."""
    weights, size, scales, _ = FORMATS[number]
    blocks = RNG.integers(0, 256, (rows, WIDTH // weights, size)).astype(np.uint8)
    if number == 0:
        return RNG.normal(0, 1, (rows, WIDTH)).astype(np.float32).view(np.uint8)
    if number == 30:
        blocks[..., 1] = RNG.choice([0x3F, 0xBF], blocks.shape[:2])
    for at in scales:
        blocks[..., at:at + 2] = RNG.normal(0, 1, (*blocks.shape[:2], 1)).astype(np.float16).view(np.uint8)
    return blocks.reshape(rows, -1)


@pytest.mark.parametrize("number", FORMATS)
@pytest.mark.parametrize(("dtype", "index"), [(FLOAT, np.int64), (FLOAT16, np.int32)])
def test_every_format(number: int, dtype: int, index: Any) -> None:
    # -1 and 40 are outside of the table, and read row 0.
    indices = np.array([3, -1, 40, 39, *range(40)], index).reshape(2, 22)
    near = 1e-6 if dtype == FLOAT else 1e-3
    check(ms("GatherPacked", table(number, 40), indices, packed_type=number, K=WIDTH, output_dtype=dtype), rtol=near,
          atol=1e-6, symbols={(1, 0): "n"}, lowers=FORMATS[number][3])


def test_every_point_of_a_codebook() -> None:
    """8 weights to a byte of IQ2_XXS: all 256 entries, with no sign and a scale of one."""
    rows = np.zeros((8, 66), np.uint8)
    rows[:, :2] = np.array([1.0], np.float16).view(np.uint8)
    rows.reshape(8, 66)[:, 2:].reshape(8, 8, 8)[:, :, :4] = np.arange(256).reshape(8, 8, 4)
    check(ms("GatherPacked", rows, np.arange(8), packed_type=16, K=256, output_dtype=FLOAT), rtol=0, atol=0,
          lowers=False)


def test_formats_that_are_refused() -> None:
    with pytest.raises(ModelError, match="packed_type cannot be 12"):
        ms("GatherPacked", table(2, 3), np.arange(2), packed_type=12, K=WIDTH, output_dtype=FLOAT).infer()
    with pytest.raises(ModelError, match="do not divide into blocks of 256"):
        ms("GatherPacked", table(2, 3), np.arange(2), packed_type=14, K=100, output_dtype=FLOAT).infer()
    with pytest.raises(RunError, match="no rows of 256 weights"):
        ms("GatherPacked", table(2, 3), np.arange(2), packed_type=2, K=256, output_dtype=FLOAT).reference()


def quantised(kind: int, rows: int, columns: int) -> Any:
    blocks = RNG.integers(0, 256, (columns, -(-rows // 32), 20 + kind)).astype(np.uint8)
    blocks[..., :4] = RNG.uniform(0.5, 1, (*blocks.shape[:2], 1)).astype(np.float32).view(np.uint8)
    if kind:
        blocks[..., 4] = RNG.integers(0, 16, blocks.shape[:2])
    return blocks.reshape(-1)


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize(("rows", "columns"), [(64, 3), (32, 1), (96, 17), (40, 2)])
@pytest.mark.parametrize("lead", [(), (5,), (2, 3)])
def test_matmul_fpq4(lead: tuple[int, ...], rows: int, columns: int, kind: int) -> None:
    a = RNG.normal(0, 1, (*(lead or (1,)), rows)).astype(np.float32)
    check(ms("MatMulFpQ4", a, quantised(kind, rows, columns), np.array([rows, columns]), fixed=(1, 2),
             blk_quant_type=kind), rtol=1e-4, atol=1e-3, known=[2], symbols={(0, 0): "n"})


def test_blocks_that_are_refused() -> None:
    a = np.zeros((2, 64), np.float32)
    with pytest.raises(UnsupportedError, match="blk_quant_type 2"):
        ms("MatMulFpQ4", a, quantised(1, 64, 3), np.array([64, 3]), blk_quant_type=2).reference()
    with pytest.raises(RunError, match="which is 120 bytes"):
        ms("MatMulFpQ4", a, np.zeros(119, np.uint8), np.array([64, 3]), blk_quant_type=0).reference()
