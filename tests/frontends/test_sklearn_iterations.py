"""Transformers that iterate: the model stops where scikit-learn stops; three engines answer."""

from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import (
    NMF,
    DictionaryLearning,
    LatentDirichletAllocation,
    MiniBatchDictionaryLearning,
    MiniBatchNMF,
    SparseCoder,
)
from sklearn.feature_extraction import DictVectorizer, FeatureHasher
from sklearn.feature_extraction.image import PatchExtractor
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import LocallyLinearEmbedding
from sklearn.pipeline import make_pipeline
from tests.frontends.test_sklearn_methods import IRIS, KINDS, crosses, name_of

import gesher

SINGLE, DOUBLE = np.float32, np.float64
pytestmark = pytest.mark.filterwarnings("ignore:Maximum number of iterations", "ignore:Objective did not converge",
                                        "ignore::RuntimeWarning")


@pytest.mark.parametrize(("dtype", "estimator"), [
    (SINGLE, NMF(3)), (DOUBLE, NMF(3, max_iter=4)),
    (DOUBLE, NMF(2, shuffle=True, random_state=3, alpha_W=0.01, l1_ratio=0.5)),
    (SINGLE, NMF(3, solver="mu", alpha_W=0.001)),
    (DOUBLE, NMF(3, solver="mu", beta_loss="kullback-leibler", tol=0)),
    (SINGLE, NMF(3, solver="mu", beta_loss=1.5, alpha_W=0.001, l1_ratio=0.2)),
    (DOUBLE, NMF(2, solver="mu", beta_loss=0.5)), (DOUBLE, NMF(2, solver="mu", beta_loss=3)),
    (SINGLE, MiniBatchNMF(2)), (DOUBLE, MiniBatchNMF(2, beta_loss=1)),
    (SINGLE, LatentDirichletAllocation(3, random_state=0)),
    (DOUBLE, LatentDirichletAllocation(2, max_doc_update_iter=3, random_state=0)),
], ids=name_of)
def test_factors_of_new_rows_settle_as_in_scikit_learn(estimator: Any, dtype: Any) -> None:
    x = IRIS.astype(dtype)
    crosses(estimator.fit(x), x, ["transform"])


def test_a_row_of_zeros_has_no_factors() -> None:
    x = np.concatenate([np.zeros((1, 4)), IRIS[:20]])
    for estimator in (NMF(2), NMF(2, solver="mu"), LatentDirichletAllocation(2, random_state=0)):
        crosses(estimator.fit(IRIS), x, ["transform"])


def test_topics_of_texts_are_told_from_the_text() -> None:
    texts = ["the cat sat on the mat", "dogs and cats", "stocks fell on monday", "the market rose", "a cat and a dog",
             "bonds and stocks rose on the market"]
    topics = make_pipeline(CountVectorizer(), LatentDirichletAllocation(2, random_state=0)).fit(texts)
    crosses(topics, np.array(texts, object), ["transform"])


def test_factors_stand_inside_a_pipeline() -> None:
    model = make_pipeline(NMF(3), LogisticRegression()).fit(IRIS, KINDS)
    crosses(model, IRIS, ["predict", "predict_proba"])


def test_negative_numbers_are_an_error_as_in_scikit_learn() -> None:
    fitted = NMF(2).fit(IRIS)
    with pytest.raises(ValueError, match="Negative"):
        fitted.transform(-IRIS)
    with gesher.session(gesher.export(fitted, IRIS), "reference") as session, pytest.raises(gesher.RunError):
        session.run({"X": -IRIS})


def test_random_orders_of_parts_are_refused() -> None:
    with pytest.raises(gesher.UnsupportedError, match="random_state=None"):
        gesher.export(NMF(2, shuffle=True).fit(IRIS), IRIS)


ATOMS = np.random.default_rng(0).standard_normal((7, 4))
ATOMS /= np.linalg.norm(ATOMS, axis=1, keepdims=True)
ROWS = np.concatenate([np.zeros((1, 4)), np.random.default_rng(1).standard_normal((30, 4))])


@pytest.mark.parametrize(("dtype", "how", "settings"), [
    (SINGLE, "threshold", {"transform_alpha": 0.3, "split_sign": True}),
    (DOUBLE, "threshold", {"transform_alpha": 0.3, "positive_code": True}),
    (SINGLE, "omp", {"transform_n_nonzero_coefs": 3}), (DOUBLE, "omp", {}),
    (SINGLE, "lars", {"transform_n_nonzero_coefs": 2}), (DOUBLE, "lars", {"transform_n_nonzero_coefs": 4}),
    (SINGLE, "lasso_lars", {"transform_alpha": 0.1}), (DOUBLE, "lasso_lars", {"transform_alpha": 0.02}),
    (DOUBLE, "lasso_lars", {"transform_alpha": 0.05, "positive_code": True, "transform_max_iter": 3}),
    (DOUBLE, "lasso_cd", {"transform_alpha": 0.3, "transform_max_iter": 40}),
    (DOUBLE, "lasso_cd", {"transform_alpha": 0.1, "positive_code": True, "transform_max_iter": 7}),
])
def test_rows_are_sums_of_few_atoms(dtype: Any, how: str, settings: dict[str, Any]) -> None:
    coder = SparseCoder(ATOMS.astype(dtype), transform_algorithm=how, **settings)
    crosses(coder, ROWS.astype(dtype), ["transform"])


def test_learned_dictionaries_code_and_decode() -> None:
    for kind in (DictionaryLearning, MiniBatchDictionaryLearning):
        learned = kind(3, random_state=0, max_iter=5, transform_algorithm="lasso_lars").fit(ROWS)
        crosses(learned, ROWS, ["transform", "inverse_transform"])


def test_atoms_that_are_alike_enter_once() -> None:
    coder = SparseCoder(np.repeat(ATOMS[:3], 2, axis=0), transform_algorithm="omp", transform_n_nonzero_coefs=4)
    model = gesher.export(coder, ROWS, verify=False)
    with gesher.session(model, "compiled") as session:
        code = session.run({"X": ROWS})["transformed"]
    assert ((code != 0).sum(1) <= 3).all()


@pytest.mark.parametrize(("dtype", "estimator"), [
    (SINGLE, LocallyLinearEmbedding(random_state=0)),
    (DOUBLE, LocallyLinearEmbedding(n_neighbors=3, reg=0.1, n_components=3, random_state=0)),
], ids=name_of)
def test_rows_are_embedded_as_mixtures_of_their_neighbours(dtype: Any, estimator: Any) -> None:
    x = IRIS.astype(dtype)
    crosses(estimator.fit(x), x, ["transform"])


@pytest.mark.parametrize(("estimator", "why"), [
    (DictVectorizer().fit([{"a": 1}]), "no list of dictionaries"), (FeatureHasher(), "no list of dictionaries"),
    (make_pipeline(PatchExtractor(), None), "pictures"),
], ids=name_of)
def test_what_is_fed_with_no_rows_is_refused_with_the_reason(estimator: Any, why: str) -> None:
    with pytest.raises(gesher.UnsupportedError, match=why):
        gesher.export(estimator, IRIS)
