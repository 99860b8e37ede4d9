"""The layer normalizations of transformers answer as ONNX Runtime does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.contrib.nodes import ms
from tests.ops.single_node import Case, check

RNG = np.random.default_rng(8)
# float16 results are rounded once from float32 sums that are added in another order.
TOLERANCE = {"float32": {"rtol": 1e-4, "atol": 1e-5}, "float16": {"rtol": 2e-3, "atol": 2e-3}}


def real(*shape: int, dtype: Any = np.float32) -> Any:
    return RNG.normal(0, 1, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("skip", [(2, 3, 8), (1, 3, 8), (3, 8)])
@pytest.mark.parametrize("extras", ["", "beta", "bias", "beta bias"])
@pytest.mark.parametrize("op", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
def test_residual_sums(op: str, extras: str, skip: Any, dtype: str) -> None:
    inputs = [real(2, 3, 8, dtype=dtype), real(*skip, dtype=dtype), real(8, dtype=dtype)]
    if op == "SkipLayerNormalization":
        inputs.append(real(8, dtype=dtype) if "beta" in extras else None)
    inputs.append(real(8, dtype=dtype) if "bias" in extras else None)
    check(ms(op, *inputs, outputs=[True, False, False, True], epsilon=1e-5), **TOLERANCE[dtype],
          symbols={(0, 0): "n"})


def test_statistics_by_hand() -> None:
    x = np.array([[1, 3]], np.float32)
    one, zero = np.ones(2, np.float32), np.zeros((1, 2), np.float32)
    check(ms("SkipLayerNormalization", x, zero, one, outputs=4, epsilon=0.0),
          [np.array([[-1, 1]], np.float32), np.float32([[2]]), np.float32([[1]]), x])
    check(ms("SkipSimplifiedLayerNormalization", x, zero, one, outputs=4, epsilon=0.0),
          [x / np.sqrt(np.float32(5)), np.float32([[0]]), 1 / np.sqrt(np.float32([[5]])), x])


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("axis", [-1, 1])
def test_simplified_layer_normalization(axis: int, dtype: str) -> None:
    x = real(2, 3, 8, dtype=dtype)
    case = Case("SimplifiedLayerNormalization", 17, [x, real(*x.shape[axis:], dtype=dtype)],
                {"axis": axis, "epsilon": 1e-5}, 2)
    check(case, **TOLERANCE.get(dtype, TOLERANCE["float32"]), symbols={(0, 0): "n"})


@pytest.mark.parametrize("dtype", ["float32"])
@pytest.mark.parametrize("extras", ["", "segment", "mask", "position", "segment mask position"])
def test_embeddings(extras: str, dtype: str) -> None:
    ids = RNG.integers(0, 11, (2, 4)).astype(np.int32)
    segment = "segment" in extras
    case = ms("EmbedLayerNormalization", ids, RNG.integers(0, 2, (2, 4)).astype(np.int32) if segment else None,
              real(11, 8, dtype=dtype), real(6, 8, dtype=dtype), real(2, 8, dtype=dtype) if segment else None,
              real(8, dtype=dtype), real(8, dtype=dtype),
              np.array([[1, 1, 1, 0], [1, 0, 0, 0]], np.int32) if "mask" in extras else None,
              RNG.integers(0, 6, (2, 4)).astype(np.int32) if "position" in extras else None, outputs=3, epsilon=1e-5)
    check(case, **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("extras", ["", "segment mask"])
def test_quantised_embeddings(extras: str, dtype: str) -> None:
    info = np.iinfo(dtype)

    def counts(*shape: int) -> Any:
        return RNG.integers(info.min, info.max + 1, shape).astype(dtype)

    segment = "segment" in extras
    kind = (np.float32(0.02), np.array(3, dtype)) if segment else (None, None)
    s, z = [np.float32(v) for v in (0.013, 0.021, 0.017, 0.011)], [np.array(v, dtype) for v in (5, 60, 7, 100)]
    case = ms("QEmbedLayerNormalization", RNG.integers(0, 11, (2, 4)).astype(np.int32),
              RNG.integers(0, 2, (2, 4)).astype(np.int32) if segment else None, counts(11, 8), counts(6, 8),
              counts(2, 8) if segment else None, counts(8), counts(8),
              np.array([[1, 1, 1, 0], [1, 0, 0, 0]], np.int32) if segment else None, s[0], s[1], kind[0], s[2], s[3],
              z[0], z[1], kind[1], z[2], z[3], outputs=2, epsilon=1e-5)
    check(case, rtol=1e-4, atol=1e-4)
