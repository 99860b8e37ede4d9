"""DynamicQuantizeLSTM answers as ONNX Runtime does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.contrib.nodes import ms
from tests.ops.single_node import check

from gesher.base.errors import ModelError

RNG = np.random.default_rng(6)
T, N, I, H = 4, 3, 5, 6


def weights(dtype: str, ways: int, rows: int, by_column: bool) -> tuple[Any, Any, Any]:
    info = np.iinfo(dtype)
    size = (ways, 4 * H) if by_column else (ways,)
    zero = RNG.integers(100, 140, size) if dtype == "uint8" else RNG.integers(-9, 9, size)
    # ONNX Runtime takes a scale for each column only where there is no zero point.
    zero = zero * 0 if by_column else zero
    return (RNG.integers(info.min, info.max + 1, (ways, rows, 4 * H)).astype(dtype),
            RNG.uniform(0.002, 0.008, size).astype(np.float32), zero.astype(dtype))


def real(*shape: int) -> Any:
    return RNG.normal(0, 0.5, shape).astype(np.float32)


def case(dtype: str = "int8", direction: str = "forward", by_column: bool = False, extras: str = "",
         **more: Any) -> Any:
    ways = 2 if direction == "bidirectional" else 1
    w, w_scale, w_zero = weights(dtype, ways, I, by_column)
    r, r_scale, r_zero = weights(dtype, ways, H, by_column)
    return ms("DynamicQuantizeLSTM", real(T, N, I), w, r, real(ways, 8 * H) if "B" in extras else None,
              np.array([4, 2, 3], np.int32) if "lens" in extras else None,
              real(ways, N, H) if "h" in extras else None, real(ways, N, H) if "h" in extras else None,
              real(ways, 3 * H) if "P" in extras else None, w_scale, w_zero, r_scale, r_zero, outputs=3,
              hidden_size=H, direction=direction, fixed=(1, 2, 9, 11), **more)


# A count of X or of the hidden state is off by one on a half, and gates are approximated by polynomials over there.
TOLERANCE = {"rtol": 1e-3, "atol": 4e-3, "lower_atol": 4e-3}


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("by_column", [False, True])
def test_directions_and_types(by_column: bool, direction: str, dtype: str) -> None:
    check(case(dtype, direction, by_column, "B"), **TOLERANCE, symbols={(0, 0): "t"})


@pytest.mark.parametrize("extras", ["", "B lens", "B h", "B P", "B lens h P"])
def test_optional_inputs(extras: str) -> None:
    check(case(extras=extras), **TOLERANCE)


def test_attributes() -> None:
    check(case(extras="B", clip=0.4), **TOLERANCE)
    check(case(extras="B", activations=["HardSigmoid", "Relu", "Tanh"], activation_alpha=[0.3],
               activation_beta=[0.4]), **TOLERANCE)


def test_a_hidden_size_that_contradicts_is_refused() -> None:
    bad = case()
    bad.attributes["hidden_size"] = H + 1
    with pytest.raises(ModelError, match="hidden_size"):
        bad.infer()
