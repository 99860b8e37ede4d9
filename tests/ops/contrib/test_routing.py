"""A router of groups of experts answers as ONNX Runtime's does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.contrib.nodes import ms
from tests.ops.single_node import check

from gesher.base.errors import ModelError

RNG = np.random.default_rng(33)
# float16: one rounding more or less.
NEAR = {"float32": {"rtol": 1e-4, "atol": 1e-5}, "float16": {"rtol": 3e-3, "atol": 3e-3}}
WHOLE = [False, True, True]


def real(*shape: int, dtype: Any = np.float32) -> Any:
    return RNG.normal(0, 1, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape", [(7,), (2, 3)])
@pytest.mark.parametrize(("groups", "kept", "k", "best"), [(1, 1, 2, 2), (4, 2, 3, 2), (4, 1, 4, 9), (2, 2, 6, 1)])
def test_a_sparse_choice(groups: int, kept: int, k: int, best: int, shape: Any, dtype: str) -> None:
    check(ms("MoEGroupRouter", real(*shape, 16, dtype=dtype), real(16), top_k=k, n_group=groups, topk_group=kept,
             group_topk=best, router_sentinel=-500.0), **NEAR[dtype], symbols={(0, 0): "n"})


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_whole_scores(dtype: str) -> None:
    check(ms("MoEGroupRouter", real(5, 16, dtype=dtype), real(16), top_k=2, outputs=WHOLE), **NEAR[dtype],
          symbols={(0, 0): "n"})


def test_equal_ones_go_to_the_lower_number() -> None:
    check(ms("MoEGroupRouter", np.zeros((2, 8), np.float32), np.zeros(8, np.float32), top_k=2, n_group=4, topk_group=2))


def test_a_projection() -> None:
    case = ms("MoEGroupRouter", real(5, 256) / 16, real(8), real(8, 256), top_k=2, outputs=WHOLE)
    scores = 1 / (1 + np.exp(-case.inputs[0].astype(np.float64) @ case.inputs[2].T))
    check(case, [None, (scores + case.inputs[1]).astype(np.float32), scores.astype(np.float32)])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ModelError, match="do not divide into 3 groups"):
        ms("MoEGroupRouter", real(5, 16), real(16), top_k=2, n_group=3).infer()
    with pytest.raises(ModelError, match="5 experts are asked for of 1 groups of 4"):
        ms("MoEGroupRouter", real(5, 16), real(16), top_k=5, n_group=4).infer()
    with pytest.raises(ModelError, match="know no groups"):
        ms("MoEGroupRouter", real(5, 16), real(16), top_k=2, n_group=2, outputs=WHOLE).infer()
