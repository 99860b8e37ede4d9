"""Histogram boosting over categories: sets of them, those unknown, those missing, in arrays and in frames."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

import gesher

SIZE = 500


def rows(dtype: Any, unknown: bool) -> np.ndarray[Any, Any]:
    """(SIZE, 4): a number, a category of 40, a number, a category of 5 that are no whole numbers; holes in all."""
    rng = np.random.default_rng(int(unknown))
    x = np.stack([rng.standard_normal(SIZE), rng.integers(0, 40, SIZE) * 3 - 20, rng.standard_normal(SIZE),
                  rng.integers(0, 5, SIZE) / 4 - 0.5], axis=1)
    x[rng.random(x.shape) < 0.08] = np.nan
    if unknown:
        x[:, (1, 3)] = np.where(rng.random((SIZE, 2)) < 0.3, rng.choice([-99, 0.1, 7.5, 1e6, -1e9], (SIZE, 2)),
                                x[:, (1, 3)])
    return x.astype(dtype)


def target(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    hidden = np.random.default_rng(5).standard_normal(200)
    code = np.nan_to_num(x[:, 1], nan=60).astype(int) + 20
    return np.asarray(hidden[code] + np.nan_to_num(x[:, 0]) * np.nan_to_num(x[:, 3], nan=2), np.float64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("engine", ["reference", "compiled", "onnxruntime"])
def test_categories_of_arrays_go_where_scikit_learn_sends_them(engine: str, dtype: Any) -> None:
    x = rows(dtype, False)
    y = target(x)
    tight = 1e-10 if dtype is np.float64 else 1e-5
    shown = [x, rows(dtype, True)]
    regressor = HistGradientBoostingRegressor(max_iter=12, categorical_features=[1, 3], random_state=0).fit(x, y)
    # A part is held back to stop early, so that some categories are known to the encoder and to no tree.
    regressor_early = HistGradientBoostingRegressor(max_iter=12, categorical_features=[3, 1], early_stopping=True,
                                                    validation_fraction=0.6, random_state=0).fit(x, y)
    kinds = np.digitize(y, [-0.5, 0.6])
    classifier = HistGradientBoostingClassifier(max_iter=6, categorical_features=[False, True, False, True])
    for model in (regressor, regressor_early):
        assert any(p.nodes["is_categorical"].any() for (p,) in model._predictors)
        with gesher.session(gesher.export(model, x), engine) as session:
            for case in shown:
                (got,) = session.run({"X": case}).values()
                assert np.allclose(got, model.predict(case), rtol=tight, atol=tight)
    for labels in (kinds, kinds > 0):
        classifier.fit(x, labels)
        with gesher.session(gesher.export(classifier, x), engine) as session:
            for case in shown:
                got = session.run({"X": case})
                assert (got["label"] == classifier.predict(case)).all()
                assert np.allclose(got["probabilities"], classifier.predict_proba(case), rtol=tight, atol=tight)


def test_categories_of_frames_cross() -> None:
    x = rows(np.float64, False)
    words = np.array([f"w{v:g}" for v in x[:, 1]], object)
    frame = pd.DataFrame({"a": x[:, 0], "word": pd.Categorical(words), "b": x[:, 2]})
    model = HistGradientBoostingRegressor(max_iter=8).fit(frame, target(x))
    assert model.is_categorical_.tolist() == [False, True, False]
    exported = gesher.export(model, frame)
    strange = words.copy()
    strange[::3] = "unseen"
    feeds = {"a": x[:, :1], "word": strange[:, None], "b": x[:, 2:3]}
    with gesher.session(exported, "reference") as session:
        (got,) = session.run(feeds).values()
    assert np.allclose(got, model.predict(frame.assign(word=strange)), rtol=1e-10)


def test_frames_of_numbers_alone_cross() -> None:
    x = rows(np.float64, False)
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 2]})
    model = HistGradientBoostingRegressor(max_iter=4).fit(frame, target(x))
    with gesher.session(gesher.export(model, frame), "reference") as session:
        (got,) = session.run({"a": x[:, :1], "b": x[:, 2:3]}).values()
    assert np.allclose(got, model.predict(frame), rtol=1e-10)
