"""FunctionTransformer over numpy functions: what is traced answers as numpy, what is not known is named."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from tests.frontends.test_sklearn_methods import IRIS, crosses

import gesher

TURN = np.random.default_rng(0).standard_normal((4, 3))


def ratios(x: Any) -> Any:
    return np.column_stack([x[:, 0] / x[:, 1], x[:, 2] - x[:, 3], np.hypot(x[:, 0], x[:, 3])])


def standardised(x: Any) -> Any:
    return (x - x.mean(axis=1, keepdims=True)) / np.std(x, axis=1, ddof=1, keepdims=True)


def branches(x: Any, at: float = 3, otherwise: float = -1) -> Any:
    return np.where((x > at) & ~np.isnan(x), np.log1p(np.clip(x, None, 5)), otherwise)


def pairs(x: Any) -> Any:
    return (x[:, :, None] * x[:, None, :]).reshape(x.shape[0], -1)


def products(x: Any) -> Any:
    return np.concatenate([x @ TURN, np.einsum("ij,jk->ik", x, TURN), np.linalg.norm(x, axis=1)[:, None]], axis=1)


def ends(x: Any) -> Any:
    return np.hstack([x[..., [3, 0]], x[:, ::-2], x[:, -1:] % 2, x[:, :1] // 0.7, np.diff(x), np.cumsum(x, axis=1),
                      np.round(x, 1), np.add.reduce(x, axis=1, keepdims=True), x.max(axis=1)[:, np.newaxis]])


def whole(x: Any) -> Any:
    return np.stack([x.sum(1), (x / 2).mean(1), (x > 4).sum(axis=1), np.sqrt(x)[:, 0], x.astype(np.float32)[:, 1]], 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("function", "settings"), [
    (ratios, {}), (standardised, {}), (branches, {"at": 4, "otherwise": 0.5}), (pairs, {}), (products, {}), (ends, {}),
], ids=lambda x: getattr(x, "__name__", ""))
def test_functions_cross_as_numpy_computes_them(function: Callable[..., Any], settings: dict[str, Any],
                                                dtype: Any) -> None:
    crosses(FunctionTransformer(function, kw_args=settings), IRIS.astype(dtype), ["transform"])


def test_whole_numbers_are_promoted_as_in_numpy() -> None:
    crosses(FunctionTransformer(whole), np.arange(1, 41).reshape(10, 4), ["transform"])


def test_a_function_stands_inside_a_pipeline() -> None:
    model = make_pipeline(FunctionTransformer(lambda x: np.c_[x, x**2] if isinstance(x, np.ndarray) else
                                              np.hstack([x, x**2])), Ridge()).fit(IRIS, IRIS[:, 0])
    crosses(model, IRIS, ["predict"])


@pytest.mark.parametrize(("function", "named"), [
    (lambda x: np.sort(x, axis=1), r"numpy\.sort"), (lambda x: x[x[:, 0] > 1], "a choice among rows"),
    (lambda x: x * len(x), "number of rows"), (lambda x: x if x.sum() > 0 else -x, "a branch"),
    (lambda x: np.asarray(x) + 1, "outside numpy"), (lambda x: x.tobytes(), "array's tobytes"),
    (lambda x: np.zeros((3, 2)), "not made of its input"), (lambda x: x.sum(), "no rows"),
    (lambda x: np.add.accumulate(x), r"numpy\.add\.accumulate"),
])
def test_the_first_thing_that_cannot_cross_is_named(function: Any, named: str) -> None:
    with pytest.raises(gesher.UnsupportedError, match=named):
        gesher.export(FunctionTransformer(function), IRIS, verify=False)
