"""Matrices: inverses, distances and walks answer as ONNX Runtime does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.contrib.nodes import ms
from tests.ops.single_node import check

from gesher.base.errors import ModelError

RNG = np.random.default_rng(12)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("shape", [(3, 3), (2, 4, 4), (2, 1, 2, 2), (1, 1)])
def test_inverse(shape: Any, dtype: str) -> None:
    x = (RNG.normal(0, 0.3, shape) + 2 * np.eye(shape[-1])).astype(dtype)
    near = 2e-3 if dtype == "float16" else 1e-4
    check(ms("Inverse", x), rtol=near, atol=near, symbols={(0, 0): "n"} if len(shape) > 2 else None)


def test_a_singular_matrix_has_no_inverse() -> None:
    assert np.isnan(ms("Inverse", np.zeros((2, 2), np.float32)).reference()[0]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", None])
def test_cdist(metric: Any, dtype: str) -> None:
    a, b = RNG.normal(0, 2, (5, 3)).astype(dtype), RNG.normal(0, 2, (4, 3)).astype(dtype)
    # ONNX Runtime takes sums of squares apart, as the lowering does.
    check(ms("CDist", a, b, metric=metric), rtol=1e-4, atol=1e-4, symbols={(0, 0): "n", (1, 0): "m"})


def test_cdist_by_hand() -> None:
    check(ms("CDist", np.float32([[0, 0]]), np.float32([[3, 4]]), metric="euclidean"), [np.float32([[5]])])


def test_another_metric_is_refused() -> None:
    with pytest.raises(ModelError, match="metric cannot be 'cosine'"):
        ms("CDist", np.float32([[0, 0]]), np.float32([[3, 4]]), metric="cosine").infer()


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (1, 4, 4), (1, 1), (6, 6)])
@pytest.mark.parametrize("whole", [False, True])
def test_dynamic_time_warping(shape: Any, whole: bool) -> None:
    # Whole numbers tie often, and which way wins then is part of the meaning.
    x = RNG.integers(0, 3, shape).astype(np.float32) if whole else RNG.normal(0, 1, shape).astype(np.float32)
    check(ms("DynamicTimeWarping", x), exact=False, lowers=False)


def test_sample_op_gives_back_what_it_gets() -> None:
    check(ms("SampleOp", np.arange(4, dtype=np.float32)), rtol=0, atol=0, symbols={(0, 0): "n"})
