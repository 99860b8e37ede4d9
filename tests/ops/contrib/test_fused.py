"""Fused products and convolutions answer as ONNX Runtime does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.contrib.nodes import ms
from tests.ops.single_node import Case, check

from gesher.base.errors import ModelError

RNG = np.random.default_rng(7)


def real(*shape: int, dtype: Any = np.float32) -> Any:
    return RNG.normal(0, 1, shape).astype(dtype)


def turned(rows: int, columns: int, batch: tuple[int, ...], trans: int, trans_batch: int) -> tuple[int, ...]:
    """The shape of a factor that is (batch, rows, columns) once its axes are in order."""
    a, b = (columns, rows) if trans else (rows, columns)
    return (a, *batch, b) if trans_batch else (*batch, a, b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("trans", "trans_batch"), [((0, 0), (0, 0)), ((1, 0), (0, 0)), ((0, 1), (0, 0)),
                                                    ((0, 0), (1, 0)), ((1, 1), (1, 1)), ((0, 1), (0, 1))])
def test_fused_matmul(trans: Any, trans_batch: Any, dtype: Any) -> None:
    a = real(*turned(3, 4, (2, 5), trans[0], trans_batch[0]), dtype=dtype)
    b = real(*turned(4, 6, (2, 5), trans[1], trans_batch[1]), dtype=dtype)
    check(ms("FusedMatMul", a, b, transA=trans[0], transB=trans[1], transBatchA=trans_batch[0],
             transBatchB=trans_batch[1], alpha=0.5),
          symbols={(0, int(trans_batch[0])): "n", (1, int(trans_batch[1])): "n"})


@pytest.mark.parametrize("op", ["FusedMatMul", "TransposeMatMul"])
def test_vectors_and_matrices(op: str) -> None:
    check(ms(op, real(4), real(4, 3)))
    check(ms(op, real(3, 4), real(5, 4), transB=1))
    check(ms(op, real(2, 4, 3), real(4, 5), transA=1, alpha=-2.0), symbols={(0, 0): "n"})


@pytest.mark.parametrize(("activation", "alpha", "beta"), [
    ("Relu", None, None), ("Tanh", None, None), ("Sigmoid", None, None), ("LeakyRelu", 0.1, None), ("Elu", 0.7, None),
    ("HardSigmoid", 0.3, 0.4), ("Softplus", None, None), ("Softsign", None, None)])
def test_fused_gemm(activation: Any, alpha: Any, beta: Any) -> None:
    check(ms("FusedGemm", real(4, 3), real(4, 5), real(5), transA=1, alpha=0.5, beta=2.0, activation=activation,
             activation_alpha=alpha, activation_beta=beta), symbols={(0, 1): "n"})


def test_fused_gemm_without_an_activation_is_gemm() -> None:
    # ONNX Runtime's own wants an activation.
    inputs = real(4, 3), real(3, 5), real(5)
    check(ms("FusedGemm", *inputs, alpha=0.5), Case("Gemm", 17, inputs, {"alpha": 0.5}).onnxruntime())


@pytest.mark.parametrize(("activation", "parameters"), [
    (None, None), ("Relu", None), ("Tanh", None), ("Sigmoid", None), ("LeakyRelu", [0.1]), ("Clip", [-0.5, 0.75]),
    ("HardSigmoid", [0.3, 0.4])])
@pytest.mark.parametrize("extras", ["", "b", "b z", "z"])
def test_fused_conv(extras: str, activation: Any, parameters: Any) -> None:
    b, z = real(6) if "b" in extras else None, real(2, 6, 4, 5) if "z" in extras else None
    check(ms("FusedConv", real(2, 4, 7, 5), real(6, 2, 3, 3), b, z, strides=[2, 1], pads=[1, 1, 1, 1], group=2,
             activation=activation, activation_params=parameters), symbols={(0, 0): "n"} if z is None else None)


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(ModelError, match="activation cannot be 'Wobble'"):
        ms("FusedConv", real(1, 1, 3, 3), real(1, 1, 3, 3), activation="Wobble").infer()
    with pytest.raises(ModelError, match="needs 2 parameters"):
        ms("FusedGemm", real(1, 3), real(3, 1), activation="HardSigmoid", activation_alpha=0.5).infer()
