"""What is LightGBM's own: comparisons in float64, the zone around zero, kinds of missing values, text files."""

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
from gesher.base.errors import FormatError, UnsupportedError
from gesher.frontends.boosters.lightgbm_model import ZERO, parse

lgb = pytest.importorskip("lightgbm")
D = data()
QUIET = {"verbose": -1, "n_jobs": 1}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_row_takes_another_branch(dtype: Any) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(2000, 6)).astype(dtype)
    booster = lgb.LGBMRegressor(n_estimators=40, num_leaves=40, **QUIET).fit(x, leaves_apart(x))
    model = gesher.export(booster, x)
    rows = np.concatenate([rng.normal(size=(20000, 6)).astype(dtype), boundary_rows(model, x, 5000)])
    with gesher.session(model, "onnxruntime") as session:
        got = session.run({"X": rows})["prediction"]
    assert np.abs(got - booster.predict(rows)).max() < (5e-6 if dtype is np.float32 else 1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("how", [{}, {"zero_as_missing": True}, {"use_missing": False}], ids=str)
def test_numbers_near_zero_are_zero(dtype: Any, how: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 3)).astype(dtype)
    x[rng.random(x.shape) < 0.4] = 0
    x[rng.random(x.shape) < 0.1] = np.nan
    y = (x[:, 0] == 0) * 3.0 + np.nan_to_num(x[:, 1]) - 2 * np.isnan(x[:, 2])
    booster = lgb.LGBMRegressor(n_estimators=10, **QUIET, **how).fit(x, y)
    model = gesher.export(booster, x)
    zero = dtype(ZERO)
    near = np.array([0, -0.0, zero, -zero, np.nextafter(zero, dtype(1)), np.nextafter(-zero, dtype(-1)),
                     np.nextafter(zero, dtype(0)), np.nan, 1e-40, -1e-30, 1, -1, np.inf, -np.inf], dtype)
    rows = np.stack([g.ravel() for g in np.meshgrid(near, near, near)], 1)
    for engine in ("reference", "onnxruntime"):
        with gesher.session(model, engine) as session:
            got = session.run({"X": rows})["prediction"]
        np.testing.assert_allclose(got, booster.predict(rows), rtol=0, atol=2e-6 if dtype is np.float32 else 1e-12)


def test_categories_are_cut_towards_zero() -> None:
    booster = lgb.LGBMRegressor(n_estimators=8, min_data_per_group=5, cat_smooth=1, **QUIET).fit(
        D.categories, D.of_categories, categorical_feature=[1, 2])
    model = gesher.export(booster, D.categories)
    odd = np.array([-3, -1, -0.99, -0.0, 0.5, 0.999, 1, 1.5, 4, 5.9, 9, 11, 12, 40, 1e9, np.nan, np.inf], np.float32)
    rows = np.stack([np.zeros(len(odd) ** 2), np.repeat(odd, len(odd)), np.tile(odd, len(odd))], 1).astype(np.float32)
    for engine in ("reference", "onnxruntime"):
        with gesher.session(model, engine) as session:
            got = session.run({"X": rows})["prediction"]
        np.testing.assert_allclose(got, booster.predict(rows), rtol=0, atol=2e-6)


@pytest.mark.parametrize("how", [{"objective": "multiclass", "num_class": 3}, {"linear_tree": True},
                                 {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6}], ids=str)
def test_files_cross_without_the_library(tmp_path: Path, how: dict[str, Any]) -> None:
    given = {"num_leaves": 6, "min_data_in_leaf": 5, "min_data_per_group": 5, "verbose": -1} | how
    booster = lgb.train(given, lgb.Dataset(D.categories, D.classes, categorical_feature=[1, 2], params=given), 5)
    path = tmp_path / "model.txt"
    booster.save_model(path)
    code = ("import sys, gesher\n"
            "gesher.save(gesher.export(sys.argv[1]), sys.argv[1] + '.onnx')\n"
            "assert not {'lightgbm', 'sklearn', 'scipy', 'pandas'} & set(sys.modules), 'a library was imported'\n")
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    with gesher.session(str(path) + ".onnx", "reference") as session:
        got = session.run({"X": D.categories})["prediction"]
    np.testing.assert_allclose(got, booster.predict(D.categories), atol=2e-6)


def test_the_plain_reading_of_a_file_is_the_library_s() -> None:
    given = {"num_leaves": 8, "min_data_in_leaf": 5, "verbose": -1, "zero_as_missing": True}
    x = np.where(np.abs(D.x) < 0.4, 0, D.x)
    booster = lgb.train(given, lgb.Dataset(x, D.real, params=given), 6)
    np.testing.assert_allclose(parse(booster.model_to_string()).margins(x, 0, 6, False)[:, 0], booster.predict(x),
                               rtol=1e-12)


def test_a_constant_model_crosses() -> None:
    booster = lgb.LGBMRegressor(n_estimators=3, min_child_samples=500, **QUIET).fit(D.x, D.real)
    with gesher.session(gesher.export(booster, D.x), "onnxruntime") as session:
        np.testing.assert_allclose(session.run({"X": D.x})["prediction"], booster.predict(D.x), rtol=1e-6)


def test_labels_are_the_classes_whatever_they_are() -> None:
    for y in (D.words, D.classes * 7 - 3, D.two.astype(bool)):
        booster = lgb.LGBMClassifier(n_estimators=4, **QUIET).fit(D.x, y)
        with gesher.session(gesher.export(booster, D.x), "onnxruntime") as session:
            assert (session.run({"X": D.x})["label"] == booster.predict(D.x)).all()


def test_a_loss_of_one_s_own_gives_its_scores() -> None:
    def loss(y: Any, score: Any) -> Any:
        p = 1 / (1 + np.exp(-score))
        return p - y, p * (1 - p)

    booster = lgb.LGBMClassifier(n_estimators=4, objective=loss, **QUIET).fit(D.x, D.two)
    model = gesher.export(booster, D.x)
    assert [v.name for v in model.graph.outputs] == ["prediction"]


def test_what_cannot_cross_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="is not fitted"):
        gesher.export(lgb.LGBMRegressor(), D.x)
    with pytest.raises(UnsupportedError, match="no setting treelimit"):
        gesher.export(lgb.LGBMRegressor(n_estimators=1, **QUIET).fit(D.x, D.real), D.x, treelimit=1)
    text = lgb.LGBMRegressor(n_estimators=2, **QUIET).fit(D.x, D.real).booster_.model_to_string()
    with pytest.raises(UnsupportedError, match="objective 'magic'"):
        parse(text.replace("objective=regression", "objective=magic"))
    for broken in (text[:len(text) // 3], text.replace("num_leaves=", "num_leaves=9"), text.replace("threshold=", "t="),
                   "trees\n"):
        path = tmp_path / "broken.txt"
        path.write_text(broken)
        with pytest.raises(FormatError):
            gesher.export(path)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_calibration_asks_for_the_margins(dtype: Any) -> None:
    from sklearn.calibration import CalibratedClassifierCV

    x = np.random.default_rng(0).normal(size=(200, 4)).astype(dtype)
    for y in (x[:, 0] + x[:, 1] ** 2 > 1, np.digitize(x[:, 0], [-0.5, 0.5])):
        inner = lgb.LGBMClassifier(n_estimators=5, verbose=-1)
        model = CalibratedClassifierCV(inner, cv=2).fit(x, y)
        with gesher.session(gesher.export(model, x), "reference") as session:
            assert np.abs(session.run({"X": x})["probabilities"] - model.predict_proba(x)).max() < 1e-6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_linear_trees_pull_infinite_features_as_the_library_does(dtype):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 5)).astype(dtype)
    model = lgb.LGBMRegressor(linear_tree=True, n_estimators=10, verbose=-1)
    model.fit(x, x[:, 0] * 2 - x[:, 1] * x[:, 2])
    exported = gesher.export(model, x)
    rows = rng.standard_normal((500, 5)).astype(dtype)
    rows[rng.random(rows.shape) < 0.1] = np.inf
    rows[rng.random(rows.shape) < 0.1] = -np.inf
    said = model.predict(rows)
    assert np.isnan(said).any() and np.isinf(said).any() and np.isfinite(said).any()
    for engine in ("compiled", "reference"):
        with gesher.session(exported, engine) as session:
            (made,) = session.run({exported.graph.inputs[0].name: rows}).values()
        np.testing.assert_allclose(made.ravel(), said, rtol=1e-4, atol=1e-4)
