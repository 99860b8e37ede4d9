"""Methods beyond predict and transform, several labels, and parameters beyond the defaults; three engines answer."""

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.neighbors import (
    KNeighborsClassifier,
    KNeighborsRegressor,
    KNeighborsTransformer,
    LocalOutlierFactor,
    RadiusNeighborsClassifier,
    RadiusNeighborsRegressor,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import gesher
from gesher.evaluator.difference import difference
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
    for engine in ("reference", "compiled", "onnxruntime"):
        with gesher.session(exported.model, engine) as session:
            for trial in exported.trials:
                got = session.run(trial.feeds)
                for output, answer in trial.answers.items():
                    d = difference(got[output], answer, rtol=trial.rtol.get(output), atol=trial.atol.get(output))
                    assert d.ok, (engine, trial.name, output, d)
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
