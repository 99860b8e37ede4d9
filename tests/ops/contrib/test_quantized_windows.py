"""Quantised convolution and pooling answer as ONNX Runtime does, channels first and last."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.contrib.nodes import agrees_by_counts, ms
from tests.ops.single_node import check

RNG = np.random.default_rng(5)
POINTS = [("uint8", 0), ("uint8", 131), ("int8", 0), ("int8", -7)]


def counts(dtype: str, *shape: int) -> Any:
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max + 1, shape).astype(dtype)


def f(x: float) -> Any:
    return np.float32(x)


@pytest.mark.parametrize(("dtype", "zero"), POINTS)
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("attributes", [
    {"kernel_shape": [3, 2]}, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 1, 2]},
    {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
    {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 1]}])
def test_average_pool(attributes: Any, last: int, dtype: str, zero: int) -> None:
    z = np.array(zero, dtype)
    x = counts(dtype, 2, 7, 9, 3) if last else counts(dtype, 2, 3, 7, 9)
    case = ms("QLinearAveragePool", x, f(0.0317), z, f(0.0171), np.array(5, dtype), channels_last=last, **attributes)
    agrees_by_counts(case, symbols={(0, 0): "n", (0, 1 if last else 2): "h"})


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 0, 1, 1]])
@pytest.mark.parametrize("zero", [4, 7])
def test_averages_of_halves_are_the_same_on_all_engines(zero: int, pads: list[int]) -> None:
    # Sums of halves and quarters are exact in float, whoever sums them: ONNX Runtime's bits too.
    case = ms("QLinearAveragePool", counts("uint8", 2, 5, 9, 12), f(0.25), np.array(zero, np.uint8), f(0.5),
              np.array(zero, np.uint8), kernel_shape=[2, 2], pads=pads, count_include_pad=1)
    check(case, rtol=0, atol=0, symbols={(0, 0): "n", (0, 2): "h"})


@pytest.mark.parametrize(("dtype", "zero"), POINTS)
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("spatial", [(5, 7), (4,)])
def test_global_average_pool(spatial: tuple[int, ...], last: int, dtype: str, zero: int) -> None:
    x = counts(dtype, 2, *spatial, 3) if last else counts(dtype, 2, 3, *spatial)
    case = ms("QLinearGlobalAveragePool", x, f(0.0317), np.array(zero, dtype), f(0.0171), np.array(5, dtype),
              channels_last=last)
    agrees_by_counts(case, symbols={(0, 0): "n", (0, 1 if last else 2): "h"})


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("attributes", [
    {"kernel_shape": [3, 2]}, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 1, 2]},
    {"kernel_shape": [2, 2], "dilations": [2, 1]}, {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}])
def test_nhwc_max_pool(attributes: Any, dtype: str) -> None:
    check(ms("NhwcMaxPool", counts(dtype, 2, 7, 9, 3), **attributes), rtol=0, atol=0,
          symbols={(0, 0): "n", (0, 1): "h"})


@pytest.mark.parametrize(("x_type", "w_type"), [("uint8", "uint8"), ("uint8", "int8"), ("int8", "int8")])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize(("by_channel", "group", "bias"), [(False, 1, False), (True, 1, True), (True, 2, False),
                                                           (False, 2, True)])
def test_conv(by_channel: bool, group: int, bias: bool, last: int, x_type: str, w_type: str) -> None:
    size = (6,) if by_channel else ()
    x = counts(x_type, 2, 7, 9, 4) if last else counts(x_type, 2, 4, 7, 9)
    # Weights far from the ends of their type: without VNNI, ONNX Runtime's products of bytes saturate at 16 bits.
    w = RNG.integers(0 if w_type == "uint8" else -40, 60, (6, 4 // group, 3, 3)).astype(w_type)
    case = ms("QLinearConv", x, f(0.0317), counts(x_type), w, RNG.uniform(0.01, 0.03, size).astype(np.float32),
              np.full(size, 3 if w_type == "uint8" else 0, w_type), f(0.171), counts(x_type),
              RNG.integers(-900, 900, 6).astype(np.int32) if bias else None, channels_last=last, group=group,
              strides=[2, 1], pads=[1, 0, 1, 1], fixed=(3, 5))
    agrees_by_counts(case, symbols={(0, 0): "n", (0, 1 if last else 2): "h"})
