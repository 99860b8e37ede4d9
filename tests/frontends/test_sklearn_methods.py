"""Methods beyond predict and transform, several labels, and parameters beyond the defaults; three engines answer."""

from typing import Any

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.isotonic import IsotonicRegression
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier, SGDClassifier
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import (
    KNeighborsClassifier,
    KNeighborsRegressor,
    KNeighborsTransformer,
    LocalOutlierFactor,
    RadiusNeighborsClassifier,
    RadiusNeighborsRegressor,
)
from sklearn.neural_network import BernoulliRBM, MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier
from tests.frontends.passing import passes

import gesher
from gesher.frontends import frontend_for
from gesher.frontends.protocol import ExportOptions

# scikit-learn warns of outliers' labels that no class has, and of nan among whole numbers.
pytestmark = pytest.mark.filterwarnings("ignore:Outlier label", "ignore:invalid value")

IRIS, KINDS = load_iris(return_X_y=True)
# No two points are then equally far from a third, which each search would settle in its own way.
IRIS = IRIS + np.random.default_rng(0).uniform(0, 0.01, IRIS.shape)
WORDS = np.array(["setosa", "versicolor", "virginica"])[KINDS]
TWO_WORDS = np.stack([WORDS, np.where(IRIS[:, 0] > 5.8, "long", "short")], 1)
TWO_NUMBERS = np.stack([KINDS - 1, (KINDS > 0) * 7], 1)
TWO_MARKS = np.stack([KINDS == 1, KINDS > 0, IRIS[:, 1] > 3], 1).astype(int)
BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])
METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function", "transform", "score_samples",
           "kneighbors")


def name_of(estimator: Any) -> str:
    return repr(estimator).replace(" ", "").replace("\n", "")[:70] if hasattr(estimator, "fit") else ""


def crosses(estimator: Any, x: np.ndarray[Any, Any], methods: list[str] | None = None) -> gesher.Model:
    """All engines pass every trial of all the methods that the estimator has."""
    methods = methods or [m for m in METHODS if hasattr(estimator, m)]
    exported = frontend_for(estimator).export(estimator, x, ExportOptions(settings={"methods": methods}))
    assert all(t.answers for t in exported.trials if len(next(iter(t.feeds.values()))) > 1)
    passes(exported, ("reference", "compiled", "onnxruntime"))
    return exported.model


@BOTH
@pytest.mark.parametrize(("estimator", "y"), [
    (KNeighborsClassifier(4, weights="distance"), TWO_WORDS), (KNeighborsRegressor(3, p=1), TWO_NUMBERS),
    (KNeighborsTransformer(n_neighbors=4), None), (LocalOutlierFactor(novelty=True), None),
    (LocalOutlierFactor(4), None),
    (KNeighborsClassifier(metric="cosine"), WORDS), (KNeighborsRegressor(metric="canberra"), KINDS),
    (KNeighborsClassifier(metric="seuclidean", metric_params={"V": np.array([1, 2, 3, 0.5])}), WORDS),
    (KNeighborsClassifier(metric="mahalanobis", metric_params={"VI": np.linalg.inv(np.cov(IRIS.T))}), TWO_NUMBERS),
    (RadiusNeighborsClassifier(0.4, outlier_label="strange"), WORDS),
    (RadiusNeighborsClassifier(0.4, outlier_label=[0, 9], weights="distance"), TWO_NUMBERS),
    (RadiusNeighborsRegressor(radius=0.2), KINDS),
], ids=name_of)
def test_neighbours_are_found_and_vote(estimator: Any, y: Any, dtype: Any) -> None:
    x = IRIS.astype(dtype)
    crosses(estimator.fit(x) if y is None else estimator.fit(x, y), x)


def test_neighbours_of_many_points_are_found_block_by_block() -> None:
    rng = np.random.default_rng(0)
    points = rng.standard_normal((9000, 5))
    model = crosses(KNeighborsRegressor(7).fit(points, points[:, 0]), points[:40], ["kneighbors"])
    assert sum(n.op_type == "TopK" for n in model.graph.nodes) == 5    # three blocks, all of them, the nearest again
    x = np.concatenate([points[:3], points[8997:]])
    with gesher.session(model, "compiled") as session:
        distances, neighbors = session.kneighbors(x)
    assert neighbors[:, 0].tolist() == [0, 1, 2, 8997, 8998, 8999]
    # A point that was trained on is no distance away from itself, though matrix products would say 1e-8.
    assert (distances[:, 0] == 0).all() and (np.diff(distances, axis=1) >= 0).all()


def test_of_points_that_stand_twice_the_first_is_the_neighbour() -> None:
    points = np.repeat(IRIS[:60], 2, axis=0)
    model = gesher.export(KNeighborsClassifier(3).fit(points, np.arange(120) % 2), IRIS[:60],
                          methods=["kneighbors"], verify=False)
    with gesher.session(model, "compiled") as session:
        neighbors = session.kneighbors(IRIS[:60])[1]
    np.testing.assert_array_equal(neighbors[:, :2], np.arange(120).reshape(60, 2))


def test_neighbours_are_given_only_where_they_are_asked_for() -> None:
    fitted = KNeighborsClassifier().fit(IRIS, KINDS)
    assert [o.name for o in gesher.export(fitted, IRIS).graph.outputs] == ["label", "probabilities"]
    scaled = make_pipeline(StandardScaler(), KNeighborsClassifier()).fit(IRIS, KINDS)
    with pytest.raises(gesher.UnsupportedError, match="no method 'kneighbors'"):
        gesher.export(scaled, IRIS, methods=["kneighbors"])


def test_metrics_without_a_rule_for_ties_are_refused() -> None:
    with pytest.raises(gesher.UnsupportedError, match="equally far"):
        gesher.export(KNeighborsClassifier(metric="hamming").fit(IRIS, KINDS), IRIS)


def test_a_row_without_neighbours_is_an_error_where_scikit_learn_raises_one() -> None:
    fitted = RadiusNeighborsClassifier(2.0).fit(IRIS, KINDS)
    crosses(fitted, IRIS)
    far = np.full((1, 4), 100.0)
    with pytest.raises(ValueError, match="No neighbors"):
        fitted.predict(far)
    with gesher.session(gesher.export(fitted, IRIS), "reference") as session, pytest.raises(gesher.RunError):
        session.run({"X": far})
    with gesher.session(gesher.export(fitted, IRIS, on_error="nan"), "reference") as session:
        assert np.isnan(session.predict_proba(far)).all()


def test_probabilities_of_several_labels_are_a_list() -> None:
    fitted = KNeighborsClassifier().fit(IRIS, TWO_WORDS)
    model = gesher.export(fitted, IRIS)
    assert [o.name for o in model.graph.outputs] == ["label", "probabilities_0", "probabilities_1"]
    with gesher.session(model, "compiled") as session:
        made = session.predict_proba(IRIS)
        assert isinstance(made, list) and [m.shape for m in made] == [(150, 3), (150, 2)]
        for got, want in zip(made, fitted.predict_proba(IRIS)):
            np.testing.assert_allclose(got, want)
        with np.errstate(divide="ignore"):
            np.testing.assert_allclose(session.predict_log_proba(IRIS)[1], np.log(made[1]))


def logistic() -> Any:
    return LogisticRegression(max_iter=500)


def members() -> Any:
    return [("a", logistic()), ("b", DecisionTreeClassifier(max_depth=3, random_state=0)), ("c", GaussianNB())]


# Every other case in float32: what differs between the types is the inner estimators', which have tests of their own.
@pytest.mark.parametrize(("dtype", "estimator", "y"), [
    (np.float32, RandomForestClassifier(12, random_state=0), TWO_WORDS),
    (np.float64, ExtraTreesClassifier(9, random_state=0), TWO_NUMBERS),
    (np.float32, DecisionTreeClassifier(max_depth=4, random_state=0), TWO_MARKS == 1),
    (np.float64, MLPClassifier((8,), max_iter=60, random_state=0), TWO_MARKS),
    (np.float32, RidgeClassifier(), TWO_MARKS), (np.float64, OneVsRestClassifier(logistic()), TWO_MARKS),
    (np.float32, OneVsRestClassifier(GaussianNB()), TWO_MARKS),
    (np.float64, MultiOutputClassifier(logistic()), TWO_WORDS),
    (np.float32, MultiOutputClassifier(SVC()), TWO_NUMBERS), (np.float64, DummyClassifier(), TWO_WORDS),
    (np.float32, ClassifierChain(logistic(), order=[1, 0, 2]), TWO_MARKS),
    (np.float64, ClassifierChain(logistic(), chain_method="predict_proba"), TWO_MARKS),
    (np.float32, ClassifierChain(logistic(), chain_method="decision_function"), TWO_MARKS),
    (np.float64, StackingClassifier([("a", RandomForestClassifier(5, random_state=0)),
                                     ("b", MLPClassifier((8,), max_iter=40, random_state=0))],
                                    KNeighborsClassifier(), cv=3), TWO_MARKS),
], ids=name_of)
def test_several_labels_cross(estimator: Any, y: Any, dtype: Any) -> None:
    x = IRIS.astype(dtype)
    methods = [m for m in METHODS if hasattr(estimator.fit(x, y), m)]
    crosses(estimator, x, methods)
    if isinstance(estimator, RandomForestClassifier):
        with gesher.session(gesher.export(estimator, x), "compiled") as session:
            assert session.predict(x).tolist() == estimator.predict(x).tolist()
            assert len(session.predict_proba(x)) == 2


@pytest.mark.parametrize(("dtype", "estimator", "y"), [
    (np.float32, VotingClassifier(members(), voting="soft"), WORDS),
    (np.float64, VotingClassifier(members(), voting="soft", flatten_transform=False, weights=[1, 2, 3]), KINDS > 0),
    (np.float32, VotingClassifier(members()), WORDS),
    (np.float64, VotingRegressor([("a", Ridge()), ("b", SVR())], weights=[2, 1]), IRIS[:, 2]),
    (np.float32, StackingClassifier(members(), cv=3), WORDS),
    (np.float64, StackingClassifier([("a", SVC()), ("b", "drop"), ("c", RidgeClassifier())],
                                    DecisionTreeClassifier(max_depth=3), cv=3, passthrough=True), WORDS == "setosa"),
    (np.float32, StackingRegressor([("a", Ridge()), ("b", SVR())], cv=3, passthrough=True), IRIS[:, 2]),
    (np.float64, BaggingClassifier(logistic(), 3, max_features=3, random_state=0), WORDS),
    (np.float32, BaggingClassifier(SVC(), 3, random_state=0), KINDS == 1),
], ids=name_of)
def test_committees_show_what_their_members_say(estimator: Any, y: Any, dtype: Any) -> None:
    x = IRIS.astype(dtype)
    crosses(estimator.fit(x, y), x)
    assert "transformed" not in {o.name for o in gesher.export(estimator, x).graph.outputs}


def test_a_vote_can_stand_inside_a_pipeline() -> None:
    crosses(make_pipeline(VotingClassifier(members(), voting="soft"), logistic()).fit(IRIS, WORDS), IRIS)


def test_isotonic_regression_transforms_as_it_predicts() -> None:
    crosses(IsotonicRegression(out_of_bounds="clip").fit(IRIS[:, 0], IRIS[:, 2]), IRIS[:, :1], ["transform", "predict"])


@BOTH
@pytest.mark.parametrize("estimator", [PCA(), PCA(2), PCA(2, whiten=True), FactorAnalysis(2)], ids=name_of)
def test_projections_tell_densities(estimator: Any, dtype: Any) -> None:
    # Variances of 1e4 and 1e-2: scikit-learn's own answer in float32 is off by 1 there.
    rng = np.random.default_rng(0)
    wide = 50 + 10 * rng.standard_normal((200, 3)) @ rng.standard_normal((3, 20)) + rng.normal(0, 0.1, (200, 20))
    for x in (IRIS.astype(dtype), wide.astype(dtype)):
        crosses(estimator.fit(x), x)
    assert [o.name for o in gesher.export(estimator, x).graph.outputs] == ["transformed"]


def test_what_is_drawn_at_random_is_refused_with_that_reason() -> None:
    with pytest.raises(gesher.UnsupportedError, match="at random"):
        gesher.export(BernoulliRBM(2, n_iter=2).fit(IRIS), IRIS, methods=["score_samples"])
    uniform = DummyClassifier(strategy="uniform").fit(IRIS, KINDS)
    crosses(uniform, IRIS, ["predict_proba"])
    with pytest.raises(gesher.UnsupportedError, match="at random"):
        gesher.export(uniform, IRIS, methods=["predict"])


@pytest.mark.parametrize(("dtype", "estimator", "y"), [
    (np.float32, SVC(probability=True, random_state=0), WORDS),
    (np.float64, SVC(probability=True, break_ties=True, random_state=0), np.minimum(2 * KINDS + (IRIS[:, 0] > 6), 4)),
    (np.float64, SVC(probability=True, random_state=0), KINDS > 0),
    (np.float32, SGDClassifier(loss="modified_huber", random_state=0), WORDS),
    (np.float64, SGDClassifier(loss="modified_huber", random_state=0), KINDS > 0),
    # Its scores are so far from zero that some shares are not numbers any more.
    (np.float64, SGDClassifier(loss="log_loss", random_state=0), WORDS),
    (np.float32, SGDClassifier(loss="log_loss", random_state=0), KINDS == 0),
    (np.float32, CalibratedClassifierCV(SVC(), method="temperature", cv=2), WORDS),
    (np.float64, CalibratedClassifierCV(GaussianNB(), method="temperature", cv=2), KINDS == 1),
    (np.float32, FixedThresholdClassifier(logistic(), threshold=0.3, pos_label=False), KINDS > 0),
    (np.float64, FixedThresholdClassifier(logistic(), threshold=1.5, pos_label=-1,
                                          response_method="decision_function"), np.where(KINDS > 0, 7, -1)),
    (np.float32, LabelSpreading(kernel="knn"), WORDS), (np.float32, LinearDiscriminantAnalysis(), KINDS > 0),
    (np.float64, GradientBoostingClassifier(n_estimators=4, init=GaussianNB()), WORDS),
    (np.float32, GradientBoostingClassifier(n_estimators=4, init=logistic(), loss="exponential"), KINDS > 0),
    (np.float32, GradientBoostingRegressor(n_estimators=4, init=Ridge()), IRIS[:, 2]),
    (np.float32, MLPRegressor(hidden_layer_sizes=(5,), loss="poisson", max_iter=40, random_state=0), KINDS),
    (np.float64, KernelRidge(kernel="additive_chi2"), IRIS[:, 2]),
    (np.float32, BaggingClassifier(GaussianNB(), 3, max_features=2, random_state=0), WORDS),
    (np.float32, AdaBoostClassifier(n_estimators=2), np.full(150, 3)),
], ids=name_of)
def test_parameters_beyond_the_defaults_cross(estimator: Any, y: Any, dtype: Any) -> None:
    x = IRIS.astype(dtype)
    crosses(estimator.fit(x, y), x)


def test_kernels_that_are_given_cross() -> None:
    k = rbf_kernel(IRIS, IRIS[::2])
    crosses(SVC(kernel="precomputed").fit(k[::2], WORDS[::2]), k)
    crosses(KernelRidge(kernel="precomputed").fit(k[::2], IRIS[::2, 2]), k)


def test_what_scikit_learn_itself_cannot_answer_is_refused() -> None:
    fitted = LinearDiscriminantAnalysis().fit(IRIS, np.full(150, 3))
    with pytest.raises(gesher.UnsupportedError, match="itself cannot answer"):
        gesher.export(fitted, IRIS, methods=["predict_proba"])
