"""A convolution over requests one behind the other answers as ONNX Runtime's does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.contrib.nodes import ms
from tests.ops.single_node import check

from gesher.base.errors import ModelError, UnsupportedError

RNG = np.random.default_rng(32)
C = 5
ENDS = np.array([0, 1, 6, 9], np.int32)
# float16: one rounding more or less.
NEAR = {"float32": {"rtol": 1e-4, "atol": 1e-5}, "float16": {"rtol": 3e-3, "atol": 3e-3}}


def real(*shape: int, dtype: Any = np.float32) -> Any:
    return RNG.normal(0, 0.5, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("activation", ["none", "silu", "swish"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("taps", "dilation"), [(4, 1), (3, 2), (1, 1)])
def test_varlen_causal_conv(taps: int, dilation: int, bias: bool, activation: str, dtype: str) -> None:
    check(ms("VarlenCausalConvWithState", real(9, C, dtype=dtype), real(C, 1, taps, dtype=dtype), ENDS,
             real(C, dtype=dtype) if bias else None, real(3, C, (taps - 1) * dilation, dtype=dtype),
             activation=activation, dilation=dilation, outputs=2), **NEAR[dtype], symbols={(0, 0): "n"})


def test_the_first_tokens_are_shown() -> None:
    check(ms("VarlenCausalConvWithState", real(9, C), real(C, 1, 3), ENDS, None, real(3, C, 2),
             np.array([4, 2, -1], np.int32), state_update_capacity=3, outputs=3), symbols={(0, 0): "n"})


def test_what_does_not_fit_is_refused() -> None:
    def conv(**attributes: Any) -> Any:
        return ms("VarlenCausalConvWithState", real(9, C), real(C, 1, 2), ENDS, None, real(3, C, 1), None,
                  *attributes.pop("more", ()), outputs=2, **attributes)

    with pytest.raises(ModelError, match="state_update_capacity is 2"):
        conv(state_update_capacity=2).infer()
    with pytest.raises(ModelError, match="what the taps reach back"):
        conv(dilation=2).infer()
    with pytest.raises(UnsupportedError, match="kernel_delta"):
        conv(more=(real(9, 2, C), real(9, 1))).reference()
