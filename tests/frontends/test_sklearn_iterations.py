"""Transformers that iterate: the model stops where scikit-learn stops; three engines answer."""

from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import NMF, LatentDirichletAllocation, MiniBatchNMF
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from tests.frontends.test_sklearn_methods import IRIS, KINDS, crosses, name_of

import gesher

SINGLE, DOUBLE = np.float32, np.float64
pytestmark = pytest.mark.filterwarnings("ignore:Maximum number of iterations", "ignore::RuntimeWarning")


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
