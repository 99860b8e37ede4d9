"""Products of quantised matrices answer as ONNX Runtime does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.contrib.nodes import agrees_by_counts, ms
from tests.ops.single_node import check

from gesher.base.errors import ModelError

RNG = np.random.default_rng(4)


def counts(dtype: str, *shape: int) -> Any:
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max + 1, shape).astype(dtype)


def real(*shape: int) -> Any:
    return RNG.uniform(-1, 2, shape).astype(np.float32)


def scales(*shape: int) -> Any:
    return RNG.uniform(0.01, 0.05, shape).astype(np.float32)


@pytest.mark.parametrize("b_type", ["int8", "uint8"])
@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("shapes", [((3, 8), (8, 5)), ((2, 4, 8), (8, 5)), ((2, 4, 8), (2, 8, 5))])
@pytest.mark.parametrize("extras", ["", "zero", "bias", "zero bias"])
def test_dynamic_quantize_matmul(extras: str, shapes: Any, by_column: bool, b_type: str) -> None:
    size = (5,) if by_column and len(shapes[1]) == 2 else ()
    zero = counts(b_type, *size) if "zero" in extras else None
    bias = real(5) if "bias" in extras else None
    case = ms("DynamicQuantizeMatMul", real(*shapes[0]), counts(b_type, *shapes[1]), scales(*size), zero, bias)
    # Counts of A may be off by one on a half, which moves a sum by one product.
    check(case, rtol=1e-3, atol=2e-2, lower_rtol=1e-4, lower_atol=1e-4,
          symbols={(0, 0): "n"} if len(shapes[1]) == 2 else None)


@pytest.mark.parametrize(("a_type", "b_type"), [("uint8", "uint8"), ("uint8", "int8"), ("int8", "int8")])
@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("extras", ["", "zero", "bias", "zero bias"])
def test_matmul_integer_to_float(extras: str, by_column: bool, a_type: str, b_type: str) -> None:
    size = (6,) if by_column else ()
    zeros = (counts(a_type), counts(b_type, *size)) if "zero" in extras else (None, None)
    case = ms("MatMulIntegerToFloat", counts(a_type, 2, 3, 7), counts(b_type, 7, 6), scales(), scales(*size), *zeros,
              real(6) if "bias" in extras else None)
    check(case, rtol=1e-5, atol=1e-3, symbols={(0, 0): "n"})


def test_zero_points_of_a_side_alone() -> None:
    a, b = counts("uint8", 3, 7), counts("int8", 7, 6)
    check(ms("MatMulIntegerToFloat", a, b, scales(), scales(), np.uint8(7), None), rtol=1e-5, atol=1e-3)
    check(ms("MatMulIntegerToFloat", a, b, scales(), scales(), None, np.int8(-7)), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(("a_type", "b_type"), [("uint8", "uint8"), ("uint8", "int8"), ("int8", "int8")])
@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("trans", [(0, 0), (1, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize("extras", ["", "c", "y", "c y"])
def test_qgemm(extras: str, trans: tuple[int, int], by_column: bool, a_type: str, b_type: str) -> None:
    size = (6,) if by_column else ()
    a, b = counts(a_type, *((7, 4) if trans[0] else (4, 7))), counts(b_type, *((6, 7) if trans[1] else (7, 6)))
    c = RNG.integers(-5000, 5000, (6,)).astype(np.int32) if "c" in extras else None
    y = (np.float32(1.37), counts(a_type)) if "y" in extras else (None, None)
    case = ms("QGemm", a, scales(), counts(a_type), b, scales(*size), counts(b_type, *size), c, *y, transA=trans[0],
              transB=trans[1], alpha=0.75)
    if "y" in extras:
        agrees_by_counts(case, rare=0.05)
    else:
        check(case, rtol=1e-5, atol=1e-3, symbols={(0, trans[0]): "n"})


@pytest.mark.parametrize("shape", [(6,), (1, 6), (4, 6), (4, 1)])
def test_c_of_qgemm_broadcasts(shape: Any) -> None:
    c = RNG.integers(-5000, 5000, shape).astype(np.int32)
    check(ms("QGemm", counts("uint8", 4, 7), scales(), np.uint8(3), counts("int8", 7, 6), scales(), np.int8(0), c),
          rtol=1e-5, atol=1e-3)


def test_matmul_integer_16_wraps() -> None:
    a = np.full((2, 3), 32767, np.int16)
    case = ms("MatMulInteger16", a, a.T.copy())
    check(case, rtol=0, atol=0, symbols={(0, 0): "n"})
    assert case.reference()[0][0, 0] == 3 * 32767 ** 2 - 2 ** 32
    check(ms("MatMulInteger16", counts("int16", 2, 3, 4), counts("int16", 4, 2)), rtol=0, atol=0)


def test_unsigned_matmul_integer_16_by_hand() -> None:
    # ONNX Runtime's CPU build has only the signed kernel.
    a = np.array([[65535, 1]], np.uint16)
    check(ms("MatMulInteger16", a, a.T.copy()), [np.array([[65535 ** 2 + 1]], np.uint32)], rtol=0, atol=0)


def test_matrices_that_do_not_meet_are_refused() -> None:
    with pytest.raises(ModelError, match="columns of A"):
        ms("QGemm", counts("uint8", 4, 7), scales(), np.uint8(3), counts("int8", 6, 6), scales(), np.int8(0)).infer()
