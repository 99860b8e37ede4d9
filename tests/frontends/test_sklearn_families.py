"""Families of estimators in configurations beyond their defaults; each export verifies itself, ONNX Runtime agrees."""

from typing import Any

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import BisectingKMeans, KMeans
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_selection import SelectKBest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, DotProduct, Matern, RationalQuadratic, WhiteKernel
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, LocalOutlierFactor, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    SplineTransformer,
    StandardScaler,
)
from sklearn.svm import SVC, SVR, NuSVC, OneClassSVM
from sklearn.tree import DecisionTreeClassifier

import gesher
from gesher.evaluator.difference import difference
from gesher.frontends import frontend_for, verify
from gesher.frontends.protocol import ExportOptions

IRIS, KINDS = load_iris(return_X_y=True)
# No two points are then equally far from a third, which each search would settle in its own way.
IRIS = IRIS + np.random.default_rng(0).uniform(0, 0.01, IRIS.shape)
WORDS = np.array(["setosa", "versicolor", "virginica"])[KINDS]
LENGTH = IRIS[:, 2] + 0.3 * IRIS[:, 0] ** 2

CLASSIFIERS = [
    SVC(), SVC(kernel="poly", degree=2), SVC(kernel="linear", decision_function_shape="ovo"), SVC(break_ties=True),
    SVC(kernel="sigmoid", gamma=0.01), NuSVC(nu=0.2), KNeighborsClassifier(), KNeighborsClassifier(3, p=1),
    KNeighborsClassifier(4, weights="distance", metric="chebyshev"), GaussianNB(), QuadraticDiscriminantAnalysis(),
    LinearDiscriminantAnalysis(solver="lsqr"), HistGradientBoostingClassifier(max_iter=8),
    AdaBoostClassifier(DecisionTreeClassifier(max_depth=2), n_estimators=5, random_state=0),
    BaggingClassifier(DecisionTreeClassifier(max_depth=3), 4, max_features=3, random_state=0),
    BaggingClassifier(SVC(), 3, random_state=0),
    VotingClassifier([("a", GaussianNB()), ("b", SVC()), ("c", GaussianNB(var_smoothing=0.1))], weights=[1, 2, 1.5]),
    StackingClassifier([("a", SVC()), ("b", GaussianNB())], LogisticRegression(max_iter=500), passthrough=True),
    CalibratedClassifierCV(SVC(), cv=3), CalibratedClassifierCV(GaussianNB(), method="isotonic", cv=3),
    OneVsRestClassifier(SVC()), OneVsRestClassifier(GaussianNB()), OneVsOneClassifier(GaussianNB()),
    OneVsOneClassifier(LogisticRegression(max_iter=500)),
    GridSearchCV(make_pipeline(StandardScaler(), SelectKBest(), SVC()), {"selectkbest__k": [2, 3]}, cv=3),
]
REGRESSORS = [
    SVR(), SVR(kernel="poly"), KernelRidge(kernel="rbf", gamma=0.3), KernelRidge(kernel="laplacian"),
    GaussianProcessRegressor(RBF(2.0) + WhiteKernel(0.1), normalize_y=True, optimizer=None),
    GaussianProcessRegressor(1.5 * Matern(2.0, nu=1.5), alpha=0.1, optimizer=None),
    GaussianProcessRegressor(Matern(2.0, nu=2.5) * RationalQuadratic() + DotProduct(), alpha=0.1, optimizer=None),
    KNeighborsRegressor(weights="distance"), KNeighborsRegressor(3, p=3), HistGradientBoostingRegressor(max_iter=8),
    HistGradientBoostingRegressor(loss="poisson", max_iter=8), RandomForestRegressor(8, random_state=0),
    AdaBoostRegressor(n_estimators=5, random_state=0), TransformedTargetRegressor(Ridge(), func=np.log1p,
                                                                                  inverse_func=np.expm1),
]
OTHERS = [
    PolynomialFeatures(3), PolynomialFeatures((2, 3), interaction_only=True), KBinsDiscretizer(4, encode="ordinal"),
    KBinsDiscretizer(3, encode="onehot-dense"), SplineTransformer(4, degree=2), SplineTransformer(include_bias=False),
    PowerTransformer(), PowerTransformer("box-cox", standardize=False), QuantileTransformer(n_quantiles=20),
    QuantileTransformer(n_quantiles=60, output_distribution="normal"),
    FunctionTransformer(np.log1p), FunctionTransformer(np.square), KMeans(4, random_state=0),
    BisectingKMeans(5, random_state=0), GaussianMixture(3, random_state=0),
    GaussianMixture(2, covariance_type="tied", random_state=0),
    BayesianGaussianMixture(n_components=3, covariance_type="diag", random_state=0), OneClassSVM(),
    LocalOutlierFactor(novelty=True), IsolationForest(n_estimators=10, random_state=0), NearestNeighbors(n_neighbors=4),
]


def name_of(estimator: Any) -> str:
    return repr(estimator).replace(" ", "").replace("\n", "")[:70]


def crosses(estimator: Any, x: np.ndarray[Any, Any]) -> gesher.Model:
    """Both engines pass every trial."""
    exported = frontend_for(estimator).export(estimator, x, ExportOptions())
    verify(exported)
    assert gesher.check(exported.model).ok, str(gesher.check(exported.model))
    with gesher.session(exported.model, "onnxruntime") as session:
        for trial in exported.trials:
            got = session.run(trial.feeds)
            for output, answer in trial.answers.items():
                d = difference(got[output], answer, rtol=trial.rtol.get(output), atol=trial.atol.get(output))
                assert d.ok, (trial.name, d)
    return exported.model


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=name_of)
def test_classifiers_cross(estimator: Any, dtype: Any) -> None:
    x = IRIS.astype(dtype)
    crosses(estimator.fit(x, WORDS), x)
    crosses(estimator.fit(x[:100], KINDS[:100]), x[:100])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("estimator", REGRESSORS, ids=name_of)
def test_regressors_cross(estimator: Any, dtype: Any) -> None:
    x = IRIS.astype(dtype)
    crosses(estimator.fit(x, LENGTH), x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("estimator", OTHERS, ids=name_of)
def test_transformers_clusterers_and_densities_cross(estimator: Any, dtype: Any) -> None:
    x = IRIS.astype(dtype)
    crosses(estimator.fit(x), x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("distribution", ["uniform", "normal"])
def test_quantiles_that_stand_several_times_bound_what_lies_beyond_them(distribution: str, dtype: Any) -> None:
    x = np.where(IRIS.mean(0) < IRIS, np.round(IRIS), 3).astype(dtype)
    model = QuantileTransformer(n_quantiles=30, output_distribution=distribution).fit(x)
    crosses(model, np.concatenate([x, x - 2, x + 3, x[:1] * np.nan]).astype(dtype))


def test_histogram_boosting_sends_missing_values_to_the_side_that_it_learnt() -> None:
    x = IRIS.copy()
    x[::5, 2] = np.nan
    crosses(HistGradientBoostingClassifier(max_iter=10).fit(x, KINDS), x)


@pytest.mark.parametrize("encoder", [OneHotEncoder(handle_unknown="ignore"), OneHotEncoder(drop="first"),
                                     OrdinalEncoder()], ids=name_of)
def test_encoders_of_numbers_cross(encoder: Any) -> None:
    x = np.floor(IRIS)
    crosses(encoder.fit(x), x)


def test_an_unknown_member_of_a_committee_is_named() -> None:
    class Unknown(LogisticRegression):
        pass

    bagging = BaggingClassifier(Unknown(), 2, random_state=0).fit(IRIS, KINDS)
    with pytest.raises(gesher.UnsupportedError, match="Unknown has no way"):
        gesher.export(bagging, IRIS)


def test_points_equally_far_do_not_fail_the_trials() -> None:
    x, y = load_iris(return_X_y=True)    # with many points twice, and many equally far
    for dtype in (np.float32, np.float64):
        crosses(KNeighborsClassifier().fit(x.astype(dtype), y), x.astype(dtype))
        crosses(make_pipeline(StandardScaler(), KNeighborsRegressor(3)).fit(x.astype(dtype), y), x.astype(dtype))
