"""Pipelines of two to four levels by chance, and what to fit them on: for `sklearn_parameters.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn import (
    calibration,
    cluster,
    compose,
    decomposition,
    discriminant_analysis,
    ensemble,
    feature_selection,
    gaussian_process,
    impute,
    kernel_approximation,
    linear_model,
    model_selection,
    multiclass,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    random_projection,
    svm,
    tree,
)
from sklearn_drawn import Data, numbers, with_fresh

Rng = np.random.Generator
Makers = list[Callable[[], Any]]
# How often a transformer, or a predictor, holds others where it may.
_UNIONS, _COMMITTEES = 0.35, 0.55


def mixed_frame(rng: Rng, rows: int) -> Any:
    """Columns of several types, with gaps."""
    import pandas

    frame = pandas.DataFrame({
        "size": rng.standard_normal(rows) * 3,
        "age": rng.integers(0, 60, rows),
        "city": rng.choice(["Bern", "Wien", "Łódź", "Rom"], rows).astype(object),
        "kind": rng.choice(["a", "b"], rows).astype(object),
        "flag": rng.random(rows) < 0.4,
        "gaps": np.where(rng.random(rows) < 0.2, np.nan, rng.standard_normal(rows)),
        "small": rng.standard_normal(rows).astype(np.float32)})
    if rng.random() < 0.5:
        frame.loc[rng.random(rows) < 0.1, "city"] = None if rng.random() < 0.5 else np.nan
    return frame


def _pick(rng: Rng, makers: Makers) -> Any:
    return makers[rng.integers(len(makers))]()


def _squares(x: Any) -> Any:
    return np.concatenate([x, x**2], axis=1)


def transformer(rng: Rng, depth: int) -> Any:
    """A transformer of numbers, whatever their columns are."""
    p, flag = preprocessing, bool(rng.random() < 0.5)
    if depth > 1 and rng.random() < _UNIONS:
        first, second = (transformer(rng, depth - 1) for _ in range(2))
        if rng.random() < 0.5:
            return pipeline.make_pipeline(first, second)
        return pipeline.FeatureUnion([("a", first), ("b", second if flag else "passthrough")],
                                     transformer_weights={"a": 2.0} if rng.random() < 0.3 else None)
    third = int(rng.integers(3))
    return _pick(rng, [
        lambda: p.StandardScaler(with_mean=flag),
        lambda: p.MinMaxScaler(clip=flag),
        p.MaxAbsScaler,
        lambda: p.RobustScaler(with_scaling=flag, unit_variance=flag),
        lambda: p.Normalizer(norm=["l1", "l2", "max"][third]),
        lambda: p.PolynomialFeatures(2, interaction_only=flag, include_bias=not flag),
        lambda: p.KBinsDiscretizer(3, encode=["ordinal", "onehot", "onehot-dense"][third],
                                   strategy=["uniform", "quantile", "kmeans"][int(rng.integers(3))]),
        lambda: p.QuantileTransformer(n_quantiles=10, random_state=0,
                                      output_distribution=["normal", "uniform"][int(flag)]),
        lambda: p.PowerTransformer(standardize=flag),
        lambda: p.SplineTransformer(n_knots=4, degree=2, extrapolation=["constant", "linear", "continue"][third]),
        lambda: p.Binarizer(threshold=0.2),
        lambda: p.FunctionTransformer(np.tanh),
        lambda: p.FunctionTransformer(_squares),
        lambda: decomposition.PCA(1, whiten=flag),
        lambda: decomposition.TruncatedSVD(1, random_state=0),
        lambda: decomposition.KernelPCA(2, kernel=["rbf", "poly", "linear"][third]),
        lambda: decomposition.FastICA(1, random_state=0),
        lambda: feature_selection.SelectKBest(k=1),
        feature_selection.VarianceThreshold,
        lambda: kernel_approximation.Nystroem(n_components=5, random_state=0),
        lambda: kernel_approximation.RBFSampler(n_components=4, random_state=0),
        lambda: random_projection.GaussianRandomProjection(2, random_state=0),
        lambda: cluster.KMeans(2, n_init=1, random_state=0)])


def of_frame(rng: Rng, depth: int) -> Any:
    """What makes numbers of the columns of `mixed_frame`."""
    p = preprocessing
    filled = _pick(rng, [
        impute.SimpleImputer,
        lambda: impute.SimpleImputer(strategy="median", add_indicator=True),
        lambda: impute.SimpleImputer(strategy="constant", fill_value=-1),
        lambda: impute.KNNImputer(n_neighbors=2)])
    words = _pick(rng, [
        lambda: p.OneHotEncoder(handle_unknown="ignore", sparse_output=bool(rng.random() < 0.5)),
        lambda: p.OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=8),
        lambda: p.OneHotEncoder(drop="first", handle_unknown="ignore"),
        lambda: p.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2),
        lambda: p.TargetEncoder(random_state=0, cv=2),
        lambda: pipeline.make_pipeline(impute.SimpleImputer(strategy="most_frequent", missing_values=None),
                                       p.OneHotEncoder(handle_unknown="ignore"))])
    named = rng.random() < 0.5
    selector = compose.make_column_selector
    numbers_at: Any = ["size", "age", "gaps"] if named else selector(dtype_include=[np.float64, np.int64])
    words_at: Any = ["city", "kind"] if named else selector(dtype_include=object)
    parts = [("numbers", pipeline.make_pipeline(filled, transformer(rng, depth - 1)), numbers_at),
             ("words", words, words_at)]
    if rng.random() < 0.5:
        parts.append(("rest", "passthrough", ["flag", "small"]))
    return compose.ColumnTransformer(parts, sparse_threshold=[0, 0.3, 1][rng.integers(3)])


def predictor(rng: Rng, depth: int, classifies: bool) -> Any:
    """What stands last: alone, or a committee of others."""
    def inner() -> Any:
        last = predictor(rng, depth - 1, classifies)
        return pipeline.make_pipeline(transformer(rng, 1), last) if rng.random() < 0.4 else last

    flag = bool(rng.random() < 0.5)
    if depth > 1 and rng.random() < _COMMITTEES:
        return _pick(rng, (_classifying if classifies else _regressing)(inner, flag))
    return _pick(rng, (_classifiers if classifies else _regressors)(flag))


def _two(inner: Callable[[], Any]) -> list[tuple[str, Any]]:
    return [("a", inner()), ("b", inner())]


def _classifying(inner: Callable[[], Any], flag: bool) -> Makers:
    e = ensemble
    return [
        lambda: e.VotingClassifier(_two(inner), voting="hard" if flag else "soft"),
        lambda: e.StackingClassifier(_two(inner), linear_model.LogisticRegression(), cv=2, passthrough=flag),
        lambda: calibration.CalibratedClassifierCV(inner(), method=["sigmoid", "isotonic"][int(flag)], cv=2),
        lambda: e.BaggingClassifier(inner(), 3, random_state=0, max_samples=0.8),
        lambda: multiclass.OneVsRestClassifier(inner()),
        lambda: multiclass.OneVsOneClassifier(inner()),
        lambda: model_selection.GridSearchCV(inner(), {}, cv=2),
        lambda: e.AdaBoostClassifier(tree.DecisionTreeClassifier(max_depth=2), n_estimators=4, random_state=0)]


def _regressing(inner: Callable[[], Any], flag: bool) -> Makers:
    e = ensemble
    return [
        lambda: e.VotingRegressor(_two(inner)),
        lambda: e.StackingRegressor(_two(inner), linear_model.Ridge(), cv=2, passthrough=flag),
        lambda: e.BaggingRegressor(inner(), 3, random_state=0, bootstrap_features=flag),
        lambda: compose.TransformedTargetRegressor(inner(), func=np.arcsinh, inverse_func=np.sinh),
        lambda: model_selection.GridSearchCV(inner(), {}, cv=2),
        lambda: e.AdaBoostRegressor(tree.DecisionTreeRegressor(max_depth=2), n_estimators=4, random_state=0)]


def _classifiers(flag: bool) -> Makers:
    return [
        lambda: linear_model.LogisticRegression(C=0.5),
        lambda: linear_model.SGDClassifier(loss="log_loss", random_state=0),
        linear_model.RidgeClassifier,
        lambda: svm.SVC(probability=flag, random_state=0),
        lambda: svm.LinearSVC(random_state=0),
        lambda: svm.NuSVC(nu=0.2),
        lambda: tree.DecisionTreeClassifier(max_depth=3, random_state=0),
        lambda: ensemble.RandomForestClassifier(6, random_state=0),
        lambda: ensemble.ExtraTreesClassifier(5, random_state=0, class_weight="balanced"),
        lambda: ensemble.GradientBoostingClassifier(n_estimators=5, random_state=0),
        lambda: ensemble.HistGradientBoostingClassifier(max_iter=5),
        lambda: neural_network.MLPClassifier((5,), max_iter=30, random_state=0),
        lambda: neighbors.KNeighborsClassifier(3, weights=["uniform", "distance"][int(flag)]),
        naive_bayes.GaussianNB,
        gaussian_process.GaussianProcessClassifier,
        discriminant_analysis.LinearDiscriminantAnalysis]


def _regressors(flag: bool) -> Makers:
    return [
        linear_model.LinearRegression,
        lambda: linear_model.Lasso(0.01),
        linear_model.HuberRegressor,
        linear_model.BayesianRidge,
        svm.SVR,
        lambda: tree.DecisionTreeRegressor(max_depth=4, random_state=0),
        lambda: ensemble.RandomForestRegressor(6, random_state=0),
        lambda: ensemble.GradientBoostingRegressor(n_estimators=5, random_state=0),
        lambda: ensemble.HistGradientBoostingRegressor(max_iter=5),
        lambda: neural_network.MLPRegressor((5,), max_iter=30, random_state=0),
        lambda: neighbors.KNeighborsRegressor(3, weights=["uniform", "distance"][int(flag)]),
        lambda: gaussian_process.GaussianProcessRegressor(alpha=0.1)]


def nested_case(rng: Rng) -> tuple[Any, Data]:
    """A pipeline of two to four levels, not fitted, and its data."""
    depth, classifies = int(rng.integers(2, 4)), bool(rng.random() < 0.6)
    last = predictor(rng, depth, classifies)
    if rng.random() < 0.4:
        estimator = pipeline.make_pipeline(of_frame(rng, depth), last)
        frame, fresh = mixed_frame(rng, 80), mixed_frame(rng, 25)
        score = (frame["size"] + (frame["city"] == "Bern") * 3 + 0.1 * frame["age"]).to_numpy()
        odd = fresh.copy()
        odd.loc[3, "kind"] = "new"
        data = Data("mixed frame", frame, score, frame, {"fresh": fresh, "unseen": odd})
    else:
        form = str(rng.choice(["float64", "float32", "frame", "sparse", "int64"]))
        x = numbers(rng, form, 80, 4)
        score = x @ np.array([1.0, -1, 0.5, 0.1]) + rng.standard_normal(80) * 0.2
        data = with_fresh(rng, form, form, x, score)
        data.fresh.pop("holes", None)
        estimator = pipeline.make_pipeline(transformer(rng, depth), last)
    if classifies:
        how = str(rng.choice(["ints", "strings", "two", "bool"]))
        three = np.digitize(score, np.quantile(score, [0.3, 0.7]))
        data.y = {"ints": three, "strings": np.array(["no", "yes", "Übel"])[three], "two": (three > 0).astype(int),
                  "bool": three > 0}[how]
        data.kind += f", {how}"
    return estimator, data
