"""What arguments by chance have found: each once wrong, or refused without need, on rows that nobody had seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.cluster import AffinityPropagation
from sklearn.compose import make_column_transformer
from sklearn.feature_selection import GenericUnivariateSelect, SelectFpr
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ExpSineSquared, PairwiseKernel, WhiteKernel
from sklearn.impute import MissingIndicator
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity, KNeighborsRegressor, LocalOutlierFactor, NearestNeighbors
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, OneHotEncoder, SplineTransformer, StandardScaler
from sklearn.semi_supervised import LabelPropagation

import gesher
from gesher.base.errors import UnsupportedError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 3)) * 2
FRESH = np.concatenate([RNG.standard_normal((20, 3)) * 2, RNG.standard_normal((10, 3)) * 30, np.zeros((1, 3))])


def holds(estimator: Any, example: Any, fresh: Any, rtol: float = 1e-7, atol: float = 1e-12, **methods: str) -> None:
    """Both engines answer the methods, by the names of the outputs, as the estimator does."""
    model = gesher.export(estimator, example, methods=list(dict.fromkeys(methods.values())))
    for engine in ("reference", "compiled"):
        with gesher.session(model, engine) as session:
            got = session.run({"X": fresh})
        for output, method in methods.items():
            wanted = np.asarray(getattr(estimator, method)(fresh))
            np.testing.assert_allclose(got[output], wanted.reshape(got[output].shape), rtol, atol, err_msg=engine)


@pytest.mark.parametrize("how", ["constant", "linear", "continue", "periodic"])
@pytest.mark.parametrize("degree", [1, 3])
def test_splines_go_on_beyond_their_knots(how: str, degree: int) -> None:
    model = SplineTransformer(5, degree=degree, extrapolation=how, include_bias=degree != 1).fit(X)
    holds(model, X, FRESH, transformed="transform")


def test_splines_of_gaps_and_beyond_what_is_allowed() -> None:
    holes = np.where(RNG.random(X.shape) < 0.2, np.nan, X)
    holds(SplineTransformer(4, handle_missing="zeros").fit(holes), holes, holes[:9], transformed="transform")
    model = SplineTransformer(4, extrapolation="error").fit(X)
    with gesher.session(gesher.export(model, X), "reference") as session:
        np.testing.assert_allclose(session.run({"X": X})["transformed"], model.transform(X), atol=1e-12)
        with pytest.raises(gesher.GesherError):
            session.run({"X": FRESH})
    one_value = np.column_stack([X[:, 0], np.full(40, 1.5)])
    constant = SplineTransformer(3, knots="quantile").fit(one_value)
    holds(constant, one_value, np.column_stack([X[:5, 0], np.arange(5.0)]), transformed="transform")


@pytest.mark.parametrize("kind", [GaussianMixture, BayesianGaussianMixture], ids=lambda k: k.__name__)
@pytest.mark.parametrize("shape", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("dtype", [np.int64, bool], ids=str)
def test_whole_numbers_are_as_far_from_a_mixture_as_scikit_learn_keeps_it(kind: Any, shape: str, dtype: Any) -> None:
    whole = np.round(X).astype(dtype)
    model = kind(n_components=2, covariance_type=shape, random_state=0, reg_covar=0.01).fit(whole)
    if shape == "spherical" and dtype is bool:
        with pytest.raises(UnsupportedError, match="of truth values"):
            gesher.export(model, whole)
        return
    holds(model, whole, np.round(FRESH).astype(dtype), log_density="score_samples", label="predict")


def test_as_many_neighbours_as_there_are_points() -> None:
    model = LocalOutlierFactor(40, novelty=True).fit(X)
    holds(model, X, FRESH[:20], label="predict", scores="decision_function")
    with gesher.session(gesher.export(model, X, methods=["kneighbors"]), "compiled") as session:
        np.testing.assert_allclose(session.run({"X": FRESH[:5]})["distances"], model.kneighbors(FRESH[:5])[0])


def test_a_point_is_at_no_distance_of_itself() -> None:
    many = RNG.standard_normal((35, 30)) * 2
    model = gesher.export(NearestNeighbors().fit(many), many)
    with gesher.session(model, "compiled") as session:
        assert session.run({"X": many})["distances"][:, 0].max() == 0


@pytest.mark.parametrize("model", [LogisticRegression(), MLPClassifier((5,), max_iter=50, random_state=0)], ids=str)
def test_shares_too_small_for_an_engine_have_logarithms(model: Any) -> None:
    narrow = X.astype(np.float32)
    model.fit(narrow, np.digitize(X[:, 0], [-1, 1]))
    far = (FRESH * np.geomspace(0.1, 30, len(FRESH))[:, None]).astype(np.float32)
    holds(model, narrow, far, 1e-3, 1e-6, log_probabilities="predict_log_proba")


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=str)
def test_shares_are_even_where_all_are_too_small_for_numbers(dtype: Any) -> None:
    model = SGDClassifier(loss="log_loss", random_state=0).fit(X, np.digitize(X[:, 0], [-1, 1]))
    model.coef_, model.intercept_ = np.eye(3)[[0, 0, 0]], np.array([0.0, -1.0, -2.0])
    far = (np.array([[-1.0, 0, 0]]) * [[20], [90], [110], [700], [720], [800]]).astype(dtype)
    holds(model, X.astype(dtype), far, 1e-5, probabilities="predict_proba", log_probabilities="predict_log_proba")


@pytest.mark.parametrize("kernel", [
    5.0 * RBF(1e-4), RBF(1e-2) + WhiteKernel(0.1), ExpSineSquared(1.5, 2.0) * RBF() + WhiteKernel(0.1),
    PairwiseKernel(0.5, metric="rbf")], ids=str)
def test_kernels_of_a_gaussian_process(kernel: Any) -> None:
    near = np.concatenate([X, X + 1e-5])
    model = GaussianProcessRegressor(kernel, alpha=0.1, optimizer=None).fit(near, near[:, 0])
    holds(model, near, np.concatenate([FRESH, X[:9] + 2e-5]), 1e-6, prediction="predict")
    classifier = GaussianProcessClassifier(kernel, optimizer=None).fit(X, X[:, 0] > 0)
    holds(classifier, X, FRESH, 1e-6, probabilities="predict_proba")


def test_rows_without_any_share_do_not_hide_a_toss_up() -> None:
    whole = np.round(RNG.standard_normal((90, 6)) * 3)
    model = LabelPropagation(max_iter=5, tol=0.05).fit(whole, whole[:, 0] > 0)
    gesher.export(model, whole)


def test_centres_that_are_sparse() -> None:
    some = np.where(RNG.random((40, 5)) < 0.5, 0, RNG.random((40, 5)))
    model = AffinityPropagation(damping=0.9, random_state=0).fit(sparse.csr_matrix(some))
    assert sparse.issparse(model.cluster_centers_)
    holds(model, some, some[:7] + 0.01, label="predict")


@pytest.mark.parametrize("kernel", ["gaussian", "tophat", "epanechnikov", "exponential", "linear", "cosine"])
@pytest.mark.parametrize("metric", ["euclidean", "manhattan"])
@pytest.mark.parametrize("weighted", [False, True])
def test_kernel_densities(kernel: str, metric: str, weighted: bool) -> None:
    # Of one leaf, since several are bounded by what loses digits.
    model = KernelDensity(kernel=kernel, metric=metric, bandwidth=1.7, leaf_size=100)
    model.fit(X, sample_weight=RNG.integers(0, 4, len(X)) + 0.5 if weighted else None)
    holds(model, X, FRESH[:20], log_density="score_samples")


def test_densities_that_may_be_off_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"atol=0\.1"):
        gesher.export(KernelDensity(atol=0.1).fit(X), X)


def test_an_isotonic_regression_that_raises() -> None:
    model = IsotonicRegression(out_of_bounds="raise").fit(X[:, 0], X[:, 1])
    with gesher.session(gesher.export(model, X[:, :1]), "reference") as session:
        np.testing.assert_allclose(session.run({"X": X[:, :1]})["prediction"], model.predict(X[:, 0]), 1e-12)
        with pytest.raises(gesher.GesherError):
            session.run({"X": X[:, :1] + 99})


def test_nothing_missing_is_told_of() -> None:
    model = gesher.export(MissingIndicator().fit(X), X)
    with gesher.session(model, "compiled") as session:
        got = session.run({"X": X})["transformed"]
    assert got.shape == (40, 0) and got.dtype == bool


def test_columns_of_several_types_in_one_array() -> None:
    pytest.importorskip("pandas")
    rows = np.empty((30, 3), object)
    rows[:, 0], rows[:, 1], rows[:, 2] = np.resize(["a", "b", "c"], 30), X[:30, 0], np.arange(30) % 4
    columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), [0]), (StandardScaler(), [1, 2]))
    model = make_pipeline(columns, LogisticRegression()).fit(rows, np.arange(30) % 2)
    exported = gesher.export(model, rows)
    assert [v.name for v in exported.graph.inputs] == ["x0", "x1", "x2"]
    with gesher.session(exported, "compiled") as session:
        fed = {"x0": rows[:, :1], "x1": rows[:, 1:2].astype(float), "x2": rows[:, 2:].astype(np.int64)}
        np.testing.assert_allclose(session.run(fed)["probabilities"], model.predict_proba(rows), 1e-9)
    rows[3, 0] = 1 + 2j
    with pytest.raises(UnsupportedError, match="column 0 holds complex, str"):
        gesher.export(model, rows)


def test_rows_equally_far_from_all_points_are_a_toss_up_in_a_search_too() -> None:
    search = GridSearchCV(make_pipeline(Normalizer(), KNeighborsRegressor(3)), {}, cv=2).fit(X, X[:, 0])
    gesher.export(search, np.zeros((3, 3)))


def test_no_feature_may_be_left() -> None:
    model = SelectFpr(alpha=0.0).fit(X, X[:, 0] > 0)
    with gesher.session(gesher.export(model, X), "compiled") as session:
        assert session.run({"X": FRESH})["transformed"].shape == (len(FRESH), 0)


def test_what_scikit_learn_cannot_answer_is_said_to_be_its_own() -> None:
    with pytest.raises(UnsupportedError, match=r"GenericUnivariateSelect\.transform itself cannot answer"):
        gesher.export(GenericUnivariateSelect(param="all").fit(X, X[:, 0]), X)
    with pytest.raises(UnsupportedError, match=r"NearestNeighbors\.kneighbors itself cannot answer"):
        gesher.export(NearestNeighbors(n_neighbors=None).fit(X), X)
