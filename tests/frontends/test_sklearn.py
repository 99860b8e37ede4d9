"""scikit-learn's estimators cross: each export is verified against its source, and ONNX Runtime answers the same."""

from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    ElasticNet,
    LinearRegression,
    LogisticRegression,
    Perceptron,
    PoissonRegressor,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import Binarizer, MaxAbsScaler, MinMaxScaler, Normalizer, RobustScaler, StandardScaler
from sklearn.svm import LinearSVC, LinearSVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeRegressor

import gesher
from gesher.evaluator.difference import difference

IRIS, KINDS = load_iris(return_X_y=True)
DIGITS, NUMBERS = load_digits(return_X_y=True)
TWO = KINDS[KINDS < 2]
WORDS = np.array(["setosa", "versicolor", "virginica"])[KINDS]

CLASSIFIERS = [
    LogisticRegression(max_iter=300), LogisticRegression(solver="liblinear"), RidgeClassifier(), Perceptron(),
    SGDClassifier(random_state=0), SGDClassifier(loss="log_loss", random_state=0), LinearSVC(random_state=0),
    DecisionTreeClassifier(random_state=0), RandomForestClassifier(20, random_state=0),
    ExtraTreesClassifier(10, random_state=0), GradientBoostingClassifier(n_estimators=8, random_state=0),
    MLPClassifier((8, 6), max_iter=60, random_state=0), MLPClassifier((8,), "tanh", max_iter=60, random_state=0),
]
REGRESSORS = [
    LinearRegression(), ElasticNet(alpha=0.1), LinearSVR(random_state=0), PoissonRegressor(),
    DecisionTreeRegressor(random_state=0), ExtraTreeRegressor(random_state=0),
    RandomForestRegressor(10, random_state=0), GradientBoostingRegressor(n_estimators=8, random_state=0),
    MLPRegressor(hidden_layer_sizes=(8,), max_iter=80, random_state=0),
]
TRANSFORMERS = [
    StandardScaler(), StandardScaler(with_mean=False), RobustScaler(), MinMaxScaler(clip=True), MaxAbsScaler(),
    Normalizer("l2"), Normalizer("l1"), Normalizer("max"), Binarizer(threshold=2.0), PCA(2), PCA(2, whiten=True),
    TruncatedSVD(2, random_state=0),
    FeatureUnion([("a", StandardScaler()), ("b", PCA(2))], transformer_weights={"b": 0.5}),
    ColumnTransformer([("s", StandardScaler(), [0, 2]), ("m", MinMaxScaler(), slice(1, 2)), ("p", "passthrough", [3])]),
    make_pipeline(StandardScaler(), PCA(3)),
]


def name_of(estimator: Any) -> str:
    return repr(estimator).replace(" ", "").replace("\n", "")[:60]


def crosses(estimator: Any, x: np.ndarray[Any, Any], outputs: set[str]) -> gesher.Model:
    """Export (which verifies), then ask ONNX Runtime on all rows."""
    model = gesher.export(estimator, x)
    assert gesher.check(model).ok, str(gesher.check(model))
    assert {v.name for v in model.graph.outputs} == outputs
    with gesher.session(model, "onnxruntime") as session:
        got = session.run({"X": x})
    methods = {"label": "predict", "prediction": "predict", "probabilities": "predict_proba",
               "scores": "decision_function", "transformed": "transform"}
    for output, value in got.items():
        want = np.asarray(getattr(estimator, methods[output])(x))
        if output == "label":
            # Near ties are the only rows where float32 may decide otherwise; these data have none.
            assert (value == want).mean() > 0.995
            continue
        want = want.reshape(value.shape).astype(value.dtype)
        d = difference(value, want)
        assert d.ok, d
    return model


@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=name_of)
@pytest.mark.parametrize("classes", ["three", "two", "words"])
def test_classifiers_cross(estimator: Any, classes: str) -> None:
    x = IRIS.astype(np.float32)
    y = {"three": KINDS, "two": TWO, "words": WORDS}[classes]
    if getattr(estimator, "solver", "") == "liblinear":
        y = y[:100]     # it parts two classes only
    estimator.fit(x[:len(y)], y)
    scored = "probabilities" if hasattr(estimator, "predict_proba") else "scores"
    crosses(estimator, x[:len(y)], {"label", scored})


@pytest.mark.parametrize("estimator", REGRESSORS, ids=name_of)
def test_regressors_cross(estimator: Any) -> None:
    x = IRIS[:, :3].astype(np.float32)
    estimator.fit(x, IRIS[:, 3])
    crosses(estimator, x, {"prediction"})


@pytest.mark.parametrize("estimator", TRANSFORMERS, ids=name_of)
def test_transformers_cross(estimator: Any) -> None:
    x = IRIS.astype(np.float32)
    estimator.fit(x)
    crosses(estimator, x, {"transformed"})


def test_missing_values_are_filled_in() -> None:
    x = IRIS.astype(np.float32)
    x[::7, 1] = np.nan
    pipeline = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(max_iter=300)).fit(x, KINDS)
    crosses(pipeline, x, {"label", "probabilities"})


def test_a_float64_example_gives_a_float64_model() -> None:
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(IRIS, KINDS)
    model = crosses(pipeline, IRIS, {"label", "probabilities"})
    assert str(model.graph.inputs[0].type) == "double(rows,4)"


def test_rows_exactly_on_a_threshold_take_the_branch_that_they_took_in_training() -> None:
    x = DIGITS.astype(np.float32)
    tree = DecisionTreeClassifier(random_state=0).fit(x / 7, NUMBERS)
    on = np.repeat(x[:1] / 7, 200, 0)
    inner = np.flatnonzero(tree.tree_.children_left >= 0)[:200]
    for i, node in enumerate(inner):
        on[i, tree.tree_.feature[node]] = tree.tree_.threshold[node]
    model = gesher.export(tree, x / 7)
    with gesher.session(model, "reference") as session:
        got = session.run({"X": on})["label"]
    assert (got == tree.predict(on)).all()


def test_thresholds_are_rounded_down() -> None:
    from gesher.frontends.sklearn.trees import round_down

    t = np.array([0.1, -0.1, 1.0, 1e-50, -1e-50])
    low = round_down(t)
    assert low.dtype == np.float32
    assert (low.astype(np.float64) <= t).all()
    assert (np.nextafter(low, np.float32(np.inf)).astype(np.float64) > t).all()


class Unknown(BaseEstimator):
    """An estimator that nobody has registered a translator for."""

    def fit(self, x: Any, y: Any = None) -> "Unknown":
        self.fitted_ = True
        return self

    def transform(self, x: Any) -> Any:
        return x


class Stranger(Unknown):
    """Another one."""


def test_what_cannot_cross_is_named_all_at_once() -> None:
    union = FeatureUnion([("a", Unknown()), ("tree", StandardScaler()), ("b", Stranger())])
    pipeline = make_pipeline(union, LogisticRegression()).fit(IRIS, KINDS)
    with pytest.raises(gesher.UnsupportedError, match="Stranger, Unknown have no way"):
        gesher.export(pipeline, IRIS)


def test_an_unfitted_estimator_is_refused() -> None:
    with pytest.raises(gesher.UnsupportedError, match="not fitted"):
        gesher.export(LogisticRegression(), IRIS)


def test_an_example_of_other_features_is_refused() -> None:
    with pytest.raises(gesher.UnsupportedError, match="has 3 features"):
        gesher.export(LogisticRegression(max_iter=300).fit(IRIS, KINDS), IRIS[:, :3])


def test_a_wrong_translation_is_an_error_and_not_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from gesher.frontends.sklearn import translation

    def wrong(t: Any, scaler: Any, x: Any) -> Any:
        return translation.Outputs(transformed=t.b.Sub(x, t.constant(scaler.mean_ + 1e-2)))

    gesher.export(StandardScaler().fit(IRIS), IRIS)
    monkeypatch.setitem(translation.TRANSLATORS, "preprocessing.StandardScaler", wrong)
    with pytest.raises(gesher.ModelError, match="answers differently"):
        gesher.export(StandardScaler().fit(IRIS), IRIS)
    gesher.export(StandardScaler().fit(IRIS), IRIS, verify=False)
