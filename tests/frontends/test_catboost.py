"""What is CatBoost's own: borders of float32, numbered leaves, hashed categories, JSON files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench.booster_zoo import data
from tests.frontends.test_boosters import boundary_rows, leaves_apart

import gesher
from gesher.base.errors import UnsupportedError

cb = pytest.importorskip("catboost")
D = data()
QUIET = {"verbose": 0, "allow_writing_files": False, "thread_count": 1}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("how", [{}, {"grow_policy": "Lossguide", "max_leaves": 20}], ids=["symmetric", "by leaves"])
def test_no_row_takes_another_branch(dtype: Any, how: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(2000, 6)).astype(dtype)
    booster = cb.CatBoostRegressor(iterations=30, **QUIET, **how).fit(x, leaves_apart(x))
    model = gesher.export(booster, x)
    rows = np.concatenate([rng.normal(size=(10000, 6)).astype(dtype), boundary_rows(model, x, 5000)])
    with gesher.session(model, "onnxruntime") as session:
        got = session.run({"X": rows})["prediction"]
    assert np.abs(got - booster.predict(rows)).max() < (5e-6 if dtype is np.float32 else 1e-12)


@pytest.mark.parametrize("how", [{}, {"grow_policy": "Depthwise"}], ids=["symmetric", "depthwise"])
def test_files_cross_without_the_library(tmp_path: Path, how: dict[str, Any]) -> None:
    booster = cb.CatBoostClassifier(iterations=5, depth=3, **QUIET, **how).fit(D.x, D.words)
    path = tmp_path / "model.json"
    booster.save_model(str(path), format="json")
    code = ("import sys, gesher\n"
            "gesher.save(gesher.export(sys.argv[1]), sys.argv[1] + '.onnx')\n"
            "assert not {'catboost', 'sklearn', 'scipy', 'pandas'} & set(sys.modules), 'a library was imported'\n")
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    with gesher.session(str(path) + ".onnx", "reference") as session:
        got = session.run({"X": D.x})
    assert (got["label"] == booster.predict(D.x)[:, 0]).all()
    np.testing.assert_allclose(got["probabilities"], booster.predict_proba(D.x), atol=2e-6)


def test_what_cannot_cross_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match="is not fitted"):
        gesher.export(cb.CatBoostRegressor(), D.x)
    words = np.stack([D.words, np.roll(D.words, 1)], 1).astype(object)
    by_statistics = cb.CatBoostRegressor(iterations=3, cat_features=[0, 1], one_hot_max_size=1, **QUIET)
    with pytest.raises(UnsupportedError, match="statistics of the target"):
        gesher.export(by_statistics.fit(words, D.real))
    one_hot = cb.CatBoostRegressor(iterations=3, cat_features=[0, 1], one_hot_max_size=9, **QUIET)
    with pytest.raises(UnsupportedError, match="are strings"):
        gesher.export(one_hot.fit(words, D.real))
