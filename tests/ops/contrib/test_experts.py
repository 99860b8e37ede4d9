"""Mixtures of experts answer as ONNX Runtime does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.contrib.nodes import ms
from tests.ops.single_node import check

from gesher.base.errors import ModelError, UnsupportedError

RNG = np.random.default_rng(16)
T, D, F, E = 5, 32, 64, 4


def real(*shape: int) -> Any:
    return RNG.normal(0, 0.5, shape).astype(np.float32)


def mixture(activation: str = "relu", shape: tuple[int, ...] = (T,), bias: bool = False, **more: Any) -> Any:
    inner = 2 * F if activation == "swiglu" else F
    return ms("MoE", real(*shape, D), real(int(np.prod(shape)), E), real(E, inner, D), real(E, inner) if bias else None,
              real(E, D, F), real(E, D) if bias else None, activation_type=activation,
              swiglu_fusion=1 if activation == "swiglu" else None, **more)


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "identity", "swiglu"])
@pytest.mark.parametrize("normalize", [0, 1])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_moe(k: int, normalize: int, activation: str) -> None:
    check(mixture(activation, k=k, normalize_routing_weights=normalize), rtol=1e-4, atol=1e-4,
          symbols={(0, 0): "n", (1, 0): "n"})


@pytest.mark.parametrize("shape", [(T,), (2, 3)])
def test_moe_with_biases(shape: Any) -> None:
    check(mixture("silu", shape, True, k=2), rtol=1e-4, atol=1e-4)


def test_swiglu_with_parameters() -> None:
    check(mixture("swiglu", bias=True, k=2, activation_alpha=1.702, activation_beta=1.0, swiglu_limit=0.7), rtol=1e-4,
          atol=1e-4)


def test_what_only_gpus_do_is_refused() -> None:
    case = mixture("swiglu")
    case.attributes["swiglu_fusion"] = 2
    with pytest.raises(UnsupportedError, match="SwiGLU"):
        case.reference()
    with pytest.raises(ModelError, match="activation cannot be 'mish'"):
        mixture("mish").reference()


def quantised(bits: int, blocks: tuple[int, int] | None, bias: bool = False, zeros: bool = False,
              given: bool = False, **more: Any) -> Any:
    def weight(rows: int, columns: int, block: int | None) -> tuple[Any, Any, Any]:
        size = (E, rows) if block is None else (E, rows, columns // block)
        packed = (*size[:-1], -(-size[-1] * bits // 8))
        return (RNG.integers(0, 256, (E, rows, columns * bits // 8)).astype(np.uint8),
                RNG.uniform(0.01, 0.03, size).astype(np.float32),
                RNG.integers(0, 256, packed).astype(np.uint8) if zeros else None)

    w1, s1, z1 = weight(F, D, None if blocks is None else blocks[0])
    w2, s2, z2 = weight(D, F, None if blocks is None else blocks[1])
    return ms("QMoE", real(T, D), real(T, E), w1, s1, real(E, F) if bias else None, w2, s2,
              real(E, D) if bias else None, None, None, None, z1, z2, None,
              RNG.uniform(0.1, 1, (T, E)).astype(np.float32) if given else None, expert_weight_bits=bits, k=2,
              block_size=None if blocks is None else blocks[0], **more)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("blocks", [None, (16, 16), (32, 32)])
@pytest.mark.parametrize("bias", [False, True])
def test_qmoe(bias: bool, blocks: Any, bits: int) -> None:
    check(quantised(bits, blocks, bias, activation_type="silu", normalize_routing_weights=1), rtol=1e-3, atol=1e-3,
          symbols={(0, 0): "n", (1, 0): "n"})


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("blocks", [None, (16, 16)])
def test_qmoe_with_zero_points(blocks: Any, bits: int) -> None:
    check(quantised(bits, blocks, zeros=True), rtol=1e-3, atol=1e-3, lowers=False)


@pytest.mark.parametrize("normalize", [0, 1])
def test_qmoe_with_weights_of_the_router(normalize: int) -> None:
    check(quantised(4, None, given=True, normalize_routing_weights=normalize), rtol=1e-3, atol=1e-3)
