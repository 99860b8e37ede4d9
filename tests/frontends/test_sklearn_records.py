"""Dictionaries, strings by their hashes and pictures cross: rows that are no matrix of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction import DictVectorizer, FeatureHasher
from sklearn.feature_extraction.image import PatchExtractor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import gesher
from gesher.base.errors import UnsupportedError

ENGINES = ("reference", "compiled", "onnxruntime")
ROWS: list[dict[str, Any]] = [{"age": 31, "size": 2.5, "city": "Bern"}, {"age": 3, "city": "Wien"},
                              {"size": -1.5, "city": "Łódź", "paid": True}, {"age": 2, "paid": False}]
# As they are fed: 0 and "" where a row has no such key. A city that training has not met is none of its columns.
FED = {"age": np.array([[7.0], [0], [0]]), "size": np.array([[0.0], [-4], [0]]), "paid": np.array([[1.0], [0], [0]]),
       "city": np.array([["Wien"], ["Oslo"], [""]], object)}
ASKED: list[dict[str, Any]] = [{"age": 7, "paid": True, "city": "Wien"}, {"size": -4, "city": "Oslo"}, {}]


def dense(x: Any) -> Any:
    return x.toarray() if hasattr(x, "toarray") else np.asarray(x)


@pytest.mark.parametrize("estimator", [
    DictVectorizer(), DictVectorizer(sparse=False, sort=False, separator=": "), FeatureHasher(16),
    FeatureHasher(11, alternate_sign=False)], ids=str)
def test_a_key_is_an_input(estimator: Any) -> None:
    model = gesher.export(estimator.fit(ROWS), ROWS)
    for engine in ENGINES:
        with gesher.session(model, engine) as session:
            np.testing.assert_array_equal(session.run(FED)["transformed"], dense(estimator.transform(ASKED)))


def test_pairs_are_dictionaries() -> None:
    hasher = FeatureHasher(16, input_type="pair")
    model = gesher.export(hasher, [list(r.items()) for r in ROWS])
    with gesher.session(model, "compiled") as session:
        wanted = dense(hasher.transform([list(r.items()) for r in ASKED]))
        np.testing.assert_array_equal(session.run(FED)["transformed"], wanted)


def test_strings_go_to_the_columns_of_their_hashes() -> None:
    hasher, strings = FeatureHasher(8, input_type="string"), np.array([["a", "b"], ["b", "b"], ["", "é"]], object)
    model = gesher.export(hasher, strings)
    for engine in ENGINES:
        with gesher.session(model, engine) as session:
            np.testing.assert_array_equal(session.run({"X": strings})["transformed"], dense(hasher.transform(strings)))


def test_the_way_back_has_an_output_for_each_feature() -> None:
    vectorizer = DictVectorizer().fit(ROWS)
    model = gesher.export(vectorizer, ROWS, methods=["inverse_transform"])
    with gesher.session(model, "compiled") as session:
        got = session.run({"X": dense(vectorizer.transform(ROWS))})
    held = [{k: float(v[i, 0]) for k, v in got.items() if v[i, 0]} for i in range(len(ROWS))]
    assert held == vectorizer.inverse_transform(vectorizer.transform(ROWS))


def test_dictionaries_before_a_classifier() -> None:
    pipeline = make_pipeline(DictVectorizer(), LogisticRegression()).fit(ROWS * 3, np.arange(12) % 2)
    with gesher.session(gesher.export(pipeline, ROWS), "compiled") as session:
        np.testing.assert_allclose(session.run(FED)["probabilities"], pipeline.predict_proba(ASKED), atol=1e-12)


@pytest.mark.parametrize("rows, why", [
    ([{"a": [1, 2]}], "no one type"), ([{"a": 1}, {"a": "x"}], "no one type"), ([{"a": ""}], "has not got"),
    ([{1: 2}], "no string"), ([3, 4], "no list of dictionaries"), ([{}], "no keys")], ids=str)
def test_what_has_no_columns_is_refused(rows: Any, why: str) -> None:
    with pytest.raises(UnsupportedError, match=why):
        gesher.export(FeatureHasher(8), rows)
    with pytest.raises(UnsupportedError, match="without a key for the feature 'city=Bern'"):
        gesher.export(DictVectorizer().fit(ROWS), [{"age": 2}])
    with pytest.raises(UnsupportedError, match="several lengths"):
        gesher.export(FeatureHasher(8, input_type="string"), [["a"], ["b", "c"]])


@pytest.mark.parametrize("shape", [(3, 12, 11), (2, 12, 11, 3), (2, 12, 11, 1)], ids=str)
@pytest.mark.parametrize("size", [None, (3, 4), (12, 11)], ids=str)
def test_pictures_become_patches(shape: tuple[int, ...], size: tuple[int, int] | None) -> None:
    pictures = np.random.default_rng(0).random(shape)
    extractor = PatchExtractor(patch_size=size).fit(pictures)
    model = gesher.export(extractor, pictures[:1])
    for engine in ENGINES:
        with gesher.session(model, engine) as session:
            np.testing.assert_array_equal(session.run({"X": pictures})["transformed"], extractor.transform(pictures))


def test_patches_by_chance_are_refused() -> None:
    pictures = np.zeros((1, 9, 9))
    with pytest.raises(UnsupportedError, match="at random"):
        gesher.export(PatchExtractor(patch_size=(2, 2), max_patches=3, random_state=0).fit(pictures), pictures)
