"""What exports of trees are tried with: thresholds of every kind of tree, numbers beside them, and missing values."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)

from gesher.frontends import frontend_for
from gesher.frontends.protocol import ExportOptions
from gesher.frontends.sklearn.trials import _thresholds

RNG = np.random.default_rng(0)
X = RNG.standard_normal((300, 5)).astype(np.float32)
Y = X[:, 0] + X[:, 1] * X[:, 2]


def test_thresholds_of_histogram_gradient_boosting_are_found():
    model = HistGradientBoostingRegressor(max_iter=5, random_state=0).fit(X, Y)
    asked = {(int(n["feature_idx"]), float(n["num_threshold"])) for stage in model._predictors for p in stage
             for n in p.nodes if not n["is_leaf"]}
    found = set(_thresholds(model))
    assert found and found <= asked


def test_categorical_columns_are_not_taken_for_others():
    x = np.column_stack([X[:, :2], RNG.integers(0, 6, (300, 2)), X[:, 4]])
    y = x[:, 0] + (x[:, 2] % 2) * x[:, 4] + (x[:, 3] == 3)
    model = HistGradientBoostingRegressor(max_iter=20, random_state=0, categorical_features=[2, 3]).fit(x, y)
    found = list(_thresholds(model))
    assert {f for f, _ in found} == {0, 1, 4}
    for feature, threshold in found:
        assert x[:, feature].min() <= threshold <= x[:, feature].max()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("model", [
    HistGradientBoostingClassifier(max_iter=5, random_state=0), GradientBoostingClassifier(n_estimators=5),
    RandomForestRegressor(5, random_state=0)], ids=lambda m: type(m).__name__)
def test_rows_lie_on_thresholds_and_beside_them(model, dtype):
    x = X.astype(dtype)
    model.fit(x, Y > 0)
    made = frontend_for(model).export(model, x, ExportOptions())
    rows = {t.name: t.feeds["X"] for t in made.trials}
    assert ("missing values" in rows) == (not isinstance(model, GradientBoostingClassifier))
    on = {(f, float(dtype(t))) for f, t in _thresholds(model)}
    edges = rows["rows on thresholds"]
    hits = [int(any((f, float(v)) in on for f, v in enumerate(row))) for row in edges]
    assert sum(hits) >= len(edges) // 3 - 2
    if "missing values" in rows:
        assert np.isnan(rows["missing values"]).any()


def test_nothing_is_asked_of_the_estimator_where_nobody_verifies():
    model = RandomForestRegressor(3, random_state=0).fit(X, Y)
    assert frontend_for(model).export(model, X, ExportOptions(verify=False)).trials == []
