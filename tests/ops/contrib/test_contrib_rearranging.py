"""Operators of com.microsoft that move data answer as ONNX Runtime does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.contrib.nodes import ms
from tests.ops.single_node import check

from gesher.base.errors import ModelError

RNG = np.random.default_rng(11)


def real(*shape: int, dtype: Any = np.float32) -> Any:
    return RNG.normal(0, 1, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("k", [None, -1, 2, 9])
def test_trilu(k: Any, upper: int, dtype: str) -> None:
    x = (real(2, 4, 5) * 9).astype(dtype)
    check(ms("Trilu", x, None if k is None else np.array(k), upper=upper), symbols={(0, 0): "n"})


@pytest.mark.parametrize("dtype", ["float32", "int8", "bool", "float16", "uint64"])
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_gather_nd(index: Any, dtype: str) -> None:
    x = (real(3, 4, 5) * 9).astype(dtype)
    places = RNG.integers(0, 3, (2, 6, 2)).astype(index)
    check(ms("GatherND", x, places), symbols={(0, 2): "c", (1, 0): "n"})
    check(ms("GatherND", x, places[..., :1]))


def test_gather_nd_of_strings() -> None:
    x = np.array([["a", "b"], ["c", "d"]], object)
    check(ms("GatherND", x, np.array([[0, 1], [1, 0]])), lowers=True)


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [0, 1])
def test_grid_sample(align: int, padding: str, mode: str) -> None:
    if mode == "bicubic" and padding == "border":
        pytest.skip("one axis outside makes ONNX Runtime move the others too, as no text says")
    check(ms("GridSample", real(2, 3, 5, 4), RNG.uniform(-1.3, 1.3, (2, 3, 2, 2)).astype(np.float32), mode=mode,
             padding_mode=padding, align_corners=align), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "int16", "bool", "float16"])
@pytest.mark.parametrize("axis", [0, 2, -1, -3])
def test_expand_dims(axis: int, dtype: str) -> None:
    x = (real(3, 4) * 9).astype(dtype)
    check(ms("ExpandDims", x, np.array(axis, np.int32)), known=[1], symbols={(0, 0): "n"})


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float64", "int16"])
@pytest.mark.parametrize(("start", "limit", "delta"), [(1, 7, 2), (5, 0, -2), (3, 3, 1), (2, 6, None)])
def test_range(start: int, limit: int, delta: Any, dtype: str) -> None:
    step = None if delta is None else np.array(delta, dtype)
    known = [0, 1] if step is None else [0, 1, 2]
    check(ms("Range", np.array(start, dtype), np.array(limit, dtype), step), known=known)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_pad(mode: str) -> None:
    pads = np.array([1, 2, 0, 1])
    case = ms("Pad", real(3, 4), pads, np.array([2.5], np.float32) if mode == "constant" else None, mode=mode)
    check(case, known=[1], symbols={(0, 0): "n"})
    check(ms("Pad", real(3, 4), pads[None], mode=mode), known=[1])


# ONNX Runtime unfolds these four types.
@pytest.mark.parametrize("dtype", ["float32", "int64", "int32", "float64"])
@pytest.mark.parametrize(("dim", "size", "step"), [(-1, 3, 1), (1, 2, 3), (0, 4, 2)])
def test_unfold_tensor(dim: int, size: int, step: int, dtype: str) -> None:
    x = (real(6, 5, 7) * 9).astype(dtype)
    check(ms("UnfoldTensor", x, dim=dim, size=size, step=step), symbols={(0, 0): "n"})


def test_unfold_tensor_by_hand() -> None:
    check(ms("UnfoldTensor", np.arange(5), size=3, step=2), [np.array([[0, 1, 2], [2, 3, 4]])])


def test_a_window_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ModelError, match="does not fit"):
        ms("UnfoldTensor", np.arange(5), size=6).infer()


def test_unique_keeps_the_order() -> None:
    x = np.array([3, 1, 3, 2, 1, 3], np.float32)
    case = ms("Unique", x, outputs=3)
    check(case, exact=False, lowers=False)
    assert [o.tolist() for o in case.reference()] == [[3, 1, 2], [0, 1, 0, 2, 1, 0], [3, 2, 1]]
