"""Random numbers: how they are distributed, that a seed holds them, and which types they may have."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.ops.drawing import types_of, versions_of
from tests.ops.single_node import Case, check

from gesher.base import dtypes
from gesher.base.errors import ModelError

SHAPE = [100, 200]


def _cases(opset: int, dtype: Any) -> list[tuple[Case, float, float]]:
    """Every operator that gives floats, with the mean and deviation that its numbers should have."""
    like = np.zeros(SHAPE, dtype.numpy)
    normal, uniform = {"mean": 3.0, "scale": 2.0}, {"low": -1.0, "high": 5.0}
    shaped = {"shape": SHAPE, "dtype": dtype.code}
    return [(Case("RandomNormal", opset, [], shaped | normal), 3, 2),
            (Case("RandomUniform", opset, [], shaped | uniform), 2, 6 / 12**0.5),
            (Case("RandomNormalLike", opset, [like], normal), 3, 2),
            (Case("RandomUniformLike", opset, [like], uniform), 2, 6 / 12**0.5)]


@pytest.mark.parametrize("opset", [1, 22])
def test_numbers_are_distributed_as_said(opset: int) -> None:
    for dtype in types_of(versions_of("Bernoulli")[0 if opset == 1 else 1][1]):
        for case, mean, deviation in _cases(opset, dtype):
            x = case.reference()[0].astype(np.float64)
            # 20,000 numbers: a mean is within 5 of its deviations, 0.07 at most, in all but one of a million draws.
            assert abs(x.mean() - mean) < 0.1 and abs(x.std() - deviation) < 0.1, case
            check(case, "nobody", symbols={(0, 0): "n"} if case.inputs else None, lowers=False)


def test_uniform_numbers_stay_within() -> None:
    x = Case("RandomUniform", 1, [], {"shape": SHAPE, "low": 2.0, "high": 2.5, "dtype": 11}).reference()[0]
    assert x.min() >= 2 and x.max() < 2.5


def test_a_seed_holds_the_numbers() -> None:
    def drawn(**attributes: Any) -> np.ndarray:
        return Case("RandomNormal", 1, [], {"shape": [9], **attributes}).reference()[0]

    assert np.array_equal(drawn(seed=1.5), drawn(seed=1.5))
    assert not np.array_equal(drawn(seed=1.5), drawn(seed=1.25))


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_bernoulli_is_one_as_often_as_said(p: float) -> None:
    for source in (np.float16, np.float32, np.float64, ml_dtypes.bfloat16):
        for target in (dtypes.BOOL, dtypes.INT64, dtypes.DOUBLE, dtypes.BFLOAT16):
            case = Case("Bernoulli", 22, [np.full(SHAPE, p, source)], {"dtype": target.code})
            check(case, "nobody", lowers=False)
            x = case.reference()[0].astype(np.float64)
            assert set(np.unique(x)) <= {0.0, 1.0} and abs(x.mean() - p) < (0.02 if 0 < p < 1 else 1e-9)


def test_multinomial_draws_by_unnormalised_log_probabilities() -> None:
    scores = np.log(np.float32([[1, 2, 7], [6, 1e-30, 4]]) * 5)
    case = Case("Multinomial", 7, [scores], {"sample_size": 5000, "dtype": dtypes.INT64.code})
    check(case, "nobody", symbols={(0, 0): "n"}, lowers=False)
    shares = np.stack([np.bincount(row, minlength=3) / 5000 for row in case.reference()[0]])
    np.testing.assert_allclose(shares, [[0.1, 0.2, 0.7], [0.6, 0, 0.4]], atol=0.04)
    assert Case("Multinomial", 22, [scores]).reference()[0].dtype == np.int32


@pytest.mark.parametrize("case", [
    Case("RandomNormal", 1, [], {"shape": [2], "dtype": dtypes.INT32.code}),
    Case("RandomUniformLike", 1, [np.zeros(2, np.int32)]),
    Case("RandomUniform", 1, [], {"shape": [2], "dtype": 99}),
    Case("RandomUniform", 1, [], {"shape": [-1]}),
    Case("Multinomial", 7, [np.zeros(3, np.float32)]),
], ids=str)
def test_what_cannot_be_drawn_is_refused(case: Case) -> None:
    with pytest.raises(ModelError):
        case.infer()
