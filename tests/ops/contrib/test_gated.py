"""Gates and mixtures of newer decoders answer as ONNX Runtime does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.contrib.nodes import ms
from tests.ops.single_node import check

from gesher.base.errors import ModelError, UnsupportedError

RNG = np.random.default_rng(18)
# float16: one rounding more or less.
NEAR = {"float32": {"rtol": 1e-4, "atol": 1e-5}, "float16": {"rtol": 3e-3, "atol": 3e-3}}
BOTH = pytest.mark.parametrize("dtype", ["float32", "float16"])


def real(*shape: int, dtype: Any = np.float32) -> Any:
    return RNG.normal(0, 1, shape).astype(dtype)


@BOTH
@pytest.mark.parametrize("scale", [None, ()])
def test_scaled_silu(scale: Any, dtype: str) -> None:
    factor = None if scale is None else np.array(0.7, dtype)
    check(ms("ScaledSiLU", real(3, 5, dtype=dtype), factor, alpha=1.7), **NEAR[dtype], symbols={(0, 0): "n"})


@BOTH
def test_gated_add(dtype: str) -> None:
    check(ms("GatedAdd", real(2, 3, 8, dtype=dtype), real(2, 3, 8, dtype=dtype), real(2, 3, 1, dtype=dtype)),
          **NEAR[dtype], symbols={(0, 0): "n", (1, 0): "n", (2, 0): "n"})


def test_a_weighted_gate_is_refused() -> None:
    case = ms("GatedAdd", real(3, 8), real(3, 8), real(3, 4), real(4, 1))
    case.infer()
    with pytest.raises(UnsupportedError, match="weight of its gate"):
        case.reference()


@BOTH
@pytest.mark.parametrize("activation", ["silu", "swish", "sigmoid"])
@pytest.mark.parametrize("groups", [1, 3])
def test_gated_rms_norm(groups: int, activation: str, dtype: str) -> None:
    x, gate = real(2, 5, groups * 8, dtype=dtype), real(2, 5, groups * 8, dtype=dtype)
    check(ms("GatedRMSNorm", x, real(8, dtype=dtype), gate, activation=activation), **NEAR[dtype],
          symbols={(0, 0): "n", (2, 0): "n"})


def test_groups_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelError, match="do not divide"):
        ms("GatedRMSNorm", real(2, 9), real(8), real(2, 9)).infer()
    with pytest.raises(ModelError, match="gate cannot be"):
        ms("GatedRMSNorm", real(2, 8), real(8), real(2, 8), activation="tanh").infer()


@BOTH
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("scale", [None, (8,), (3, 8), (24,)])
def test_branchwise_rms_norm(scale: Any, flat: bool, dtype: str) -> None:
    x = real(2, 24, dtype=dtype) if flat else real(2, 3, 8, dtype=dtype)
    check(ms("BranchwiseRMSNorm", x, None if scale is None else real(*scale), num_branches=3 if flat else None),
          **NEAR[dtype], symbols={(0, 0): "n"})


@BOTH
@pytest.mark.parametrize("beta", [False, True])
def test_linear_attention_gate(beta: bool, dtype: str) -> None:
    check(ms("LinearAttentionGate", real(2, 5, 4, dtype=dtype), real(4), -np.exp(real(4)),
             real(2, 5, 4, dtype=dtype) if beta else None, outputs=2 if beta else 1), **NEAR[dtype])


@BOTH
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("mix", [(3,), (3, 1), (3, 8), (24,)])
def test_streams_become_one(mix: Any, flat: bool, dtype: str) -> None:
    if mix == (24,) and not flat:
        pytest.skip("flat gates go with flat streams")
    x = real(2, 5, 24, dtype=dtype) if flat else real(2, 5, 3, 8, dtype=dtype)
    check(ms("HyperConnectionPreMix", x, real(2, 5, *mix), reduction_scale=0.5, num_branches=3 if flat else None),
          **NEAR[dtype], symbols={(0, 0): "n", (1, 0): "n"})


@BOTH
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("mix", [(3,), (3, 1), (3, 8)])
@pytest.mark.parametrize("matrix", [False, True])
def test_one_is_put_back_into_streams(matrix: bool, mix: Any, flat: bool, dtype: str) -> None:
    x = real(2, 5, 24, dtype=dtype) if flat else real(2, 5, 3, 8, dtype=dtype)
    check(ms("HyperConnectionPostMix", x, real(2, 5, 8, dtype=dtype), real(2, 5, *mix),
             real(2, 5, 3, 3) if matrix else None, num_branches=3 if flat else None), **NEAR[dtype])
