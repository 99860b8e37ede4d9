"""Estimators that hold others, in the ways that people nest them: for `sklearn_coverage.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn_estimators import IRIS, KINDS

Make = Callable[[Any], tuple[Any, Any]]
WORDS = np.array(["setosa", "versicolor", "virginica"])[KINDS]
TWO = np.stack([KINDS == 1, KINDS > 0], 1).astype(int)
LENGTHS = np.stack([IRIS[:, 2], IRIS[:, 3] ** 2], 1)
TEXTS = np.array([f"{'long' if a > 5.8 else 'short'} sepals, {w[:4]}… {'É' if b > 3 else 'e'}té {b:.0f}"
                  for a, b, w in zip(IRIS[:, 0], IRIS[:, 1], WORDS)], object)


def nested() -> dict[str, Make]:
    """A name for each case, and what makes it: a fitted estimator, and its example of a type."""
    from sklearn import (
        calibration,
        compose,
        ensemble,
        feature_extraction,
        feature_selection,
        frozen,
        impute,
        linear_model,
        model_selection,
        multiclass,
        multioutput,
        naive_bayes,
        neighbors,
        pipeline,
        preprocessing,
        svm,
        tree,
    )

    cases: dict[str, Make] = {}

    def case(name: str, build: Callable[[], Any], y: Any, x: Any = None) -> None:
        def make(dtype: Any) -> tuple[Any, Any]:
            rows = IRIS.astype(dtype) if x is None else x(dtype)
            return build().fit(rows, y), rows

        cases[name] = make

    def logistic() -> Any:
        return linear_model.LogisticRegression(max_iter=400)

    def scaled(last: Any) -> Any:
        return pipeline.make_pipeline(preprocessing.StandardScaler(), last)

    def forest() -> Any:
        return ensemble.RandomForestClassifier(15, random_state=0)

    def members() -> Any:
        return [("a", scaled(logistic())), ("b", forest()), ("c", naive_bayes.GaussianNB())]

    case("GridSearchCV over a pipeline", lambda: model_selection.GridSearchCV(
        scaled(svm.SVC(random_state=0)), {"svc__C": [0.5, 2]}, cv=3), KINDS)
    case("RandomizedSearchCV over a forest", lambda: model_selection.RandomizedSearchCV(
        forest(), {"max_depth": [2, 4]}, n_iter=2, cv=3, random_state=0), WORDS)
    case("CalibratedClassifierCV of LinearSVC", lambda: calibration.CalibratedClassifierCV(
        svm.LinearSVC(random_state=0), cv=3), WORDS)
    case("CalibratedClassifierCV, isotonic, of naive Bayes", lambda: calibration.CalibratedClassifierCV(
        naive_bayes.GaussianNB(), method="isotonic", cv=3), KINDS)
    case("CalibratedClassifierCV of FrozenEstimator", lambda: calibration.CalibratedClassifierCV(
        frozen.FrozenEstimator(forest().fit(IRIS, KINDS))), KINDS)
    case("FrozenEstimator of a pipeline", lambda: frozen.FrozenEstimator(scaled(logistic()).fit(IRIS, WORDS)), WORDS)
    case("StackingClassifier of pipelines and forests", lambda: ensemble.StackingClassifier(
        members(), logistic(), cv=3), WORDS)
    case("StackingClassifier with passthrough", lambda: ensemble.StackingClassifier(
        members(), tree.DecisionTreeClassifier(max_depth=4, random_state=0), cv=3, passthrough=True), KINDS)
    case("StackingRegressor", lambda: ensemble.StackingRegressor(
        [("a", linear_model.Ridge()), ("b", ensemble.GradientBoostingRegressor(n_estimators=15, random_state=0))],
        linear_model.RidgeCV(), cv=3), LENGTHS[:, 0])
    case("VotingClassifier, soft", lambda: ensemble.VotingClassifier(
        members(), voting="soft", weights=[2, 1, 1]), WORDS)
    case("VotingClassifier, hard", lambda: ensemble.VotingClassifier(members()), WORDS)
    case("BaggingClassifier of pipelines", lambda: ensemble.BaggingClassifier(
        scaled(logistic()), 4, max_features=3, random_state=0), WORDS)
    case("AdaBoostClassifier of trees", lambda: ensemble.AdaBoostClassifier(
        tree.DecisionTreeClassifier(max_depth=2), n_estimators=8, random_state=0), WORDS)
    case("ColumnTransformer of scalers and bins", lambda: pipeline.make_pipeline(compose.ColumnTransformer([
        ("a", preprocessing.StandardScaler(), [0, 1]), ("b", preprocessing.KBinsDiscretizer(3), [2])],
        remainder="passthrough"), logistic()), WORDS)
    case("FeatureUnion in a pipeline", lambda: pipeline.make_pipeline(pipeline.make_union(
        preprocessing.PolynomialFeatures(2), feature_selection.SelectKBest(k=2)), logistic()), KINDS)
    case("SelectFromModel of a forest", lambda: pipeline.make_pipeline(
        feature_selection.SelectFromModel(forest()), logistic()), KINDS)
    case("imputers before HistGradientBoosting", lambda: pipeline.make_pipeline(
        impute.SimpleImputer(strategy="median"), ensemble.HistGradientBoostingClassifier(max_iter=8)), WORDS, _holes)
    case("several labels, forest", lambda: multioutput.MultiOutputClassifier(forest()), TWO)
    case("several labels, one forest", forest, TWO)
    case("several labels, one against rest", lambda: multiclass.OneVsRestClassifier(logistic()), TWO)
    case("several labels, neighbours", neighbors.KNeighborsClassifier, TWO)
    case("several labels, chain", lambda: multioutput.ClassifierChain(logistic(), random_state=0), TWO)
    case("several targets, forest", lambda: ensemble.RandomForestRegressor(15, random_state=0), LENGTHS)
    case("several targets, ridge", linear_model.Ridge, LENGTHS)
    case("several targets, each its own", lambda: multioutput.MultiOutputRegressor(svm.SVR()), LENGTHS)
    case("TransformedTargetRegressor of a pipeline", lambda: compose.TransformedTargetRegressor(
        scaled(linear_model.Ridge()), func=np.log1p, inverse_func=np.expm1), LENGTHS[:, 0])
    text = feature_extraction.text
    case("TfidfVectorizer and LogisticRegression", lambda: pipeline.make_pipeline(
        text.TfidfVectorizer(ngram_range=(1, 2)), logistic()), WORDS, lambda dtype: TEXTS)
    case("CountVectorizer and MultinomialNB", lambda: pipeline.make_pipeline(
        text.CountVectorizer(strip_accents="unicode"), naive_bayes.MultinomialNB()), WORDS, lambda dtype: TEXTS)
    case("TfidfVectorizer of characters and LinearSVC", lambda: pipeline.make_pipeline(
        text.TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 3)), svm.LinearSVC(random_state=0)), WORDS,
        lambda dtype: TEXTS)
    return cases


def _holes(dtype: Any) -> Any:
    x = IRIS.astype(dtype)
    x[::7, 1] = np.nan
    return x
