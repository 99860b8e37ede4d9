"""Quantised maps answer as ONNX Runtime does, at several scales and zero points."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.ops.contrib.nodes import agrees_by_counts, ms
from tests.ops.single_node import check

from gesher.base.errors import ModelError

RNG = np.random.default_rng(3)
POINTS = [("uint8", 0), ("uint8", 128), ("uint8", 255), ("int8", 0), ("int8", -128), ("int8", 17)]


def counts(dtype: str, *shape: int) -> Any:
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max + 1, shape).astype(dtype)


def f(x: float) -> Any:
    return np.float32(x)


@pytest.mark.parametrize(("dtype", "zero"), POINTS)
@pytest.mark.parametrize("shapes", [((3, 17), (3, 17)), ((2, 1, 5), (4, 1)), ((7,), ())])
@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_sums_and_products(op: str, shapes: Any, dtype: str, zero: int) -> None:
    z = np.array(zero, dtype)
    case = ms(op, counts(dtype, *shapes[0]), f(0.0317), z, counts(dtype, *shapes[1]), f(0.01713),
              np.array(3, dtype), f(0.0529 if op == "QLinearAdd" else 0.0211), z)
    agrees_by_counts(case, symbols={(0, 0): "n"} if shapes[0] != (3, 17) else None)


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearSigmoid", "QLinearLeakyRelu"])
def test_a_zero_point_that_is_left_out_is_zero(op: str) -> None:
    # ONNX Runtime's inference refuses (and sometimes aborts) where an operand's is left out.
    x, z = counts("uint8", 2, 5), np.uint8(0)
    if op == "QLinearAdd":
        written = ms(op, x, f(0.1), z, x, f(0.0917), z, f(0.1973), z)
        left_out = ms(op, x, f(0.1), None, x, f(0.0917), None, f(0.1973))
    else:
        written, left_out = ms(op, x, f(0.1), z, f(0.0077), z), ms(op, x, f(0.1), None, f(0.0077))
    check(left_out, written.onnxruntime(), rtol=0, atol=1)


@pytest.mark.parametrize("zero", [0, 1, 2])
@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_halves_go_to_an_even_count(op: str, zero: int) -> None:
    # Every other result is a half; the zero point takes part in its rounding.
    neutral = np.uint8(0 if op == "QLinearAdd" else 1)
    case = ms(op, np.arange(9, dtype=np.uint8), f(1), np.uint8(0), neutral, f(1), np.uint8(0), f(2), np.uint8(zero))
    check(case, rtol=0, atol=0)
    if zero == 1:
        assert case.reference()[0].tolist() == [1, 2, 2, 2, 3, 4, 4, 4, 5]


def test_qlinear_add_by_hand() -> None:
    # (10 - 2) * 0.5 + (5 - 1) * 0.25 = 5, which is 10 counts of 0.5, and a zero point of 100
    case = ms("QLinearAdd", np.array([10], np.uint8), f(0.5), np.uint8(2), np.array([5], np.uint8), f(0.25),
              np.uint8(1), f(0.5), np.uint8(100))
    check(case, [np.array([110], np.uint8)], rtol=0, atol=0)


@pytest.mark.parametrize(("dtype", "zero"), POINTS)
@pytest.mark.parametrize(("op", "attributes"), [("QLinearSigmoid", {}), ("QLinearLeakyRelu", {}),
                                                ("QLinearLeakyRelu", {"alpha": 0.25})])
def test_tables(op: str, attributes: Any, dtype: str, zero: int) -> None:
    z = np.array(zero, dtype)
    y_scale = f(1 / 256) if op == "QLinearSigmoid" else f(0.0611)
    agrees_by_counts(ms(op, counts(dtype, 4, 33), f(0.0529), z, y_scale, z, **attributes), symbols={(0, 1): "w"})


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize(("opset", "axis"), [(13, -1), (13, 1), (11, 1), (12, 2)])
def test_softmax_of_either_opset(opset: int, axis: int, dtype: str) -> None:
    z = np.array(np.iinfo(dtype).min, dtype)
    # ONNX Runtime sums integers of a table, and rounds halves up: a count more often differs.
    agrees_by_counts(ms("QLinearSoftmax", counts(dtype, 3, 4, 5), f(0.02), z, f(1 / 256), z, opset=opset, axis=axis),
                     rare=0.05, symbols={(0, 0): "n"})


@pytest.mark.parametrize(("dtype", "zero"), POINTS)
def test_softmax_at_several_zero_points(dtype: str, zero: int) -> None:
    # Its result has the lowest count for a zero point; where the scores' stands makes no difference to it.
    agrees_by_counts(ms("QLinearSoftmax", counts(dtype, 4, 9), f(0.03), np.array(zero, dtype), f(1 / 256),
                        np.array(np.iinfo(dtype).min, dtype), opset=13, axis=-1), rare=0.1)


@pytest.mark.parametrize(("dtype", "zero"), POINTS)
def test_where(dtype: str, zero: int) -> None:
    z = np.array(zero, dtype)
    case = ms("QLinearWhere", RNG.integers(0, 2, (4, 1)).astype(bool), counts(dtype, 4, 6), f(0.0317), z,
              counts(dtype, 6), f(0.0529), np.array(9, dtype), f(0.0411), np.array(1, dtype))
    agrees_by_counts(case)


@pytest.mark.parametrize(("dtype", "zero"), POINTS)
def test_concat_of_parts_with_their_own_scales(dtype: str, zero: int) -> None:
    z = np.array(zero, dtype)
    parts = [(counts(dtype, 2, n, 3), f(0.0217 * n), np.array(n, dtype)) for n in (1, 4, 2)]
    same = (counts(dtype, 2, 2, 3), f(0.0317), z)
    case = ms("QLinearConcat", f(0.0317), z, *(x for part in (*parts, same) for x in part), axis=1)
    agrees_by_counts(case, symbols={(2, 0): "n", (5, 0): "n", (8, 0): "n", (11, 0): "n", (5, 1): "c"})


def test_concat_wants_threes() -> None:
    with pytest.raises(ModelError, match="threes"):
        ms("QLinearConcat", f(1), np.uint8(0), counts("uint8", 2), f(1), axis=0).infer()


def quantized(x: Any, dtype: str) -> Any:
    return x.astype(getattr(ml_dtypes, dtype) if "4" in dtype else dtype)


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_quantize_and_back(dtype: str, axis: int | None) -> None:
    x = RNG.normal(0, 40, (3, 4, 5)).astype(np.float32)
    for size in [()] if axis is None else [(x.shape[axis],)]:
        scale = RNG.uniform(0.1, 2, size).astype(np.float32)
        zero = RNG.integers(0, 50, size).astype(dtype)
        case = ms("QuantizeLinear", x, scale, zero, axis=axis)
        # A quotient may lie within an error of a half.
        agrees_by_counts(case, rare=0.02)
        check(ms("DequantizeLinear", case.reference()[0], scale, zero, axis=axis), rtol=1e-6)


def test_per_axis_without_an_axis_is_axis_1() -> None:
    x = RNG.normal(0, 40, (3, 4)).astype(np.float32)
    scale = RNG.uniform(0.1, 2, 4).astype(np.float32)
    agrees_by_counts(ms("QuantizeLinear", x, scale, np.zeros(4, np.int8)))
    check(ms("DequantizeLinear", counts("int8", 3, 4), scale, np.zeros(4, np.int8)))


def test_without_a_zero_point_counts_are_uint8() -> None:
    agrees_by_counts(ms("QuantizeLinear", RNG.normal(9, 9, (3, 4)).astype(np.float32), f(0.1)))


@pytest.mark.parametrize("dtype", ["int4", "uint4"])
def test_four_bits_come_back(dtype: str) -> None:
    low = -8 if dtype == "int4" else 0
    x = np.arange(low, low + 16, dtype=np.int8).reshape(2, 8)
    zero = quantized(np.array([1, 2]), dtype)
    scale = np.array([0.5, 2], np.float32)
    check(ms("DequantizeLinear", quantized(x, dtype), scale, zero, axis=0, fixed=(0, 2)))


def test_int32_has_no_zero_point() -> None:
    check(ms("DequantizeLinear", RNG.integers(-1000, 1000, (2, 3)).astype(np.int32), f(0.1)))
