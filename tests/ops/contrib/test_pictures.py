"""CropAndResize, MaxpoolWithMask and ConvTransposeWithDynamicPads answer as ONNX Runtime does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.contrib.nodes import ms
from tests.ops.single_node import check

from gesher.base.errors import ModelError

RNG = np.random.default_rng(13)


def real(*shape: int) -> Any:
    return RNG.normal(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("size", [(3, 4), (1, 1), (6, 2)])
def test_crop_and_resize(size: Any, mode: str) -> None:
    # The third box reaches out of the picture, the last is upside down.
    rois = np.array([[0.1, 0.2, 0.83, 0.9], [0, 0, 1, 1], [-0.3, 0.4, 0.6, 1.7], [0.9, 0.8, 0.13, 0.1]], np.float32)
    case = ms("CropAndResize", real(2, 3, 7, 9), rois, np.array([0, 1, 1, 0], np.int32), np.array(size, np.int32),
              mode=mode, extrapolation_value=-2.5)
    check(case, known=[3], symbols={(0, 2): "h", (1, 0): "n", (2, 0): "n"})


def test_another_mode_is_refused() -> None:
    with pytest.raises(ModelError, match="mode cannot be 'cubic'"):
        ms("CropAndResize", real(1, 1, 2, 2), real(1, 4), np.zeros(1, np.int32), np.array([1, 1], np.int32),
           mode="cubic").infer()


@pytest.mark.parametrize("attributes", [
    {"kernel_shape": [3]}, {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}, {"kernel_shape": [2, 3]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, {"kernel_shape": [2, 2, 2]}])
@pytest.mark.parametrize("planes", [(2, 3), (1, 1)])
def test_maxpool_with_mask(planes: Any, attributes: Any) -> None:
    sizes = (6, 7, 5)[:len(attributes["kernel_shape"])]
    mask = (RNG.uniform(0, 1, (*planes, *sizes)) > 0.3).astype(np.int32)
    check(ms("MaxpoolWithMask", real(2, 3, *sizes), mask, **attributes), lowers=False, rtol=0, atol=0)


@pytest.mark.parametrize("pads", [None, [0, 0, 0, 0], [1, 0, 1, 2]])
@pytest.mark.parametrize("bias", [False, True])
def test_conv_transpose_with_dynamic_pads(bias: bool, pads: Any) -> None:
    case = ms("ConvTransposeWithDynamicPads", real(2, 4, 5, 3), real(4, 3, 3, 3),
              np.array([0, 0, 0, 0] if pads is None else pads), real(6) if bias else None, strides=[2, 1], group=2,
              output_padding=[1, 0])
    check(case, known=[2], symbols={(0, 0): "n"})


def test_no_pads_are_zeros() -> None:
    inputs = real(2, 4, 5, 3), real(4, 3, 3, 3)
    want = ms("ConvTransposeWithDynamicPads", *inputs, np.zeros(4, np.int64)).onnxruntime()
    check(ms("ConvTransposeWithDynamicPads", *inputs), want)
