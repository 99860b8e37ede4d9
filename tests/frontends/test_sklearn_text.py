"""Texts cross: words and characters are cut, lowered, stripped and counted as scikit-learn does it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

import gesher
from gesher.base.errors import UnsupportedError
from gesher.frontends.sklearn.characters import read_pattern

WRITTEN = [
    "The quick brown fox, the LAZY dog!", "Ünïcödé ÀÉÎ straße İstanbul ΣΟΦΟΣ ΣΟΦΟΣ! οδός",
    "x-y_z 12 3.5\t\n  end a b",
    "e\u0301 \ufb01 ½ 東京 😀 ok",
    "don't  can't   won't a", "", " ", "a", "ΑΣ. ΑΣΑ Σ ΑΣ\u0301 Α\u0301Σ ΑΣ'Α",
    "١٢٣ ௧௨ ４５ ok",
    "word\u00a0word\u2003two\x1cthree\x85four", "İİ I ı iİ ẞ",
    "a_b __ _ a-b-c",
    "fish \ufb01sh ﷺ ㎏ Å한글 Å", "q\u0327\u0323 \u1e9b\u0323",
    "no  two\n\nthree \t four", "lazy DOG the fox the dog"]
# Letters of many scripts, marks and spaces in any order.
_POOL = [*range(32, 0x250), *range(0x300, 0x530), *[0x3A3] * 30, 0x130, 0x1E9E, 0xFB00, 0x4E00, 0x1F600, 0xAC00,
         *[9, 10, 32, 32, 65, 97, 46] * 30]
NASTY = np.array(WRITTEN + ["".join(map(chr, np.random.default_rng(i).choice(_POOL, 40))) for i in range(25)] +
                 [" ".join(np.random.default_rng(i).choice(" ".join(WRITTEN).split(), 8)) for i in range(15)], object)
EXAMPLE = NASTY[:4]
KINDS = np.arange(len(NASTY)) % 3

WAYS: list[dict[str, Any]] = [
    {}, {"lowercase": False}, {"strip_accents": "ascii"}, {"strip_accents": "unicode"}, {"ngram_range": (1, 2)},
    {"ngram_range": (2, 3), "stop_words": ["the", "dog"]}, {"stop_words": "english", "binary": True},
    {"token_pattern": r"(?u)\b\w+\b", "ngram_range": (1, 2)}, {"token_pattern": "[a-z]{3,}"},
    {"token_pattern": r"\b[a-z]+\b", "ngram_range": (1, 2)}, {"token_pattern": r"\S+"}, {"token_pattern": "[^,]+"},
    {"token_pattern": r"(?a)(\w\w+)"}, {"max_features": 7}, {"vocabulary": ["fox", "the dog", "nowhere", "a"]},
    {"analyzer": "char", "ngram_range": (1, 3)},
    {"analyzer": "char", "ngram_range": (2, 4), "strip_accents": "unicode", "max_features": 50},
    {"analyzer": "char_wb", "ngram_range": (2, 4)}, {"analyzer": "char_wb", "ngram_range": (5, 6)},
    {"analyzer": "char", "lowercase": False}]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_counts_are_those_of_scikit_learn(way: dict[str, Any]) -> None:
    vectorizer = CountVectorizer(**way).fit(NASTY)
    model = gesher.export(vectorizer, EXAMPLE)
    wanted = vectorizer.transform(NASTY).toarray()
    for engine in ("reference", "onnxruntime"):
        with gesher.session(model, engine) as session:
            assert (session.run({"X": NASTY})["transformed"] == wanted).all(), engine
            assert session.run({"X": NASTY[5:6]})["transformed"].tolist() == wanted[5:6].tolist(), engine


@pytest.mark.parametrize("way", [{k: v for k, v in w.items() if k not in ("max_features", "vocabulary")}
                                 for w in WAYS[1::2] if "max_features" not in w or "ngram_range" in w], ids=str)
def test_hashes_are_those_of_scikit_learn(way: dict[str, Any]) -> None:
    hows: list[dict[str, Any]] = [{"norm": None}, {"alternate_sign": False, "norm": "l1"}, {}]
    vectorizer = HashingVectorizer(n_features=61, **way, **hows[len(str(way)) % 3])
    model = gesher.export(vectorizer, EXAMPLE)
    wanted = vectorizer.transform(NASTY).toarray()
    for engine in ("reference", "compiled", "onnxruntime"):
        with gesher.session(model, engine) as session:
            np.testing.assert_allclose(session.run({"X": NASTY})["transformed"], wanted, atol=1e-14)
            np.testing.assert_allclose(session.run({"X": NASTY[5:6]})["transformed"], wanted[5:6], atol=1e-14)


def test_a_million_columns_of_hashes_before_a_linear_model() -> None:
    texts = np.array(["the quick fox", "lazy dog", "the dog barks", "a fox"] * 3, object)
    pipeline = make_pipeline(HashingVectorizer(), LogisticRegression()).fit(texts, np.arange(12) % 2)
    with gesher.session(gesher.export(pipeline, texts), "compiled") as session:
        got = session.run({"X": texts})["probabilities"]
    np.testing.assert_allclose(got, pipeline.predict_proba(texts), atol=1e-12)


@pytest.mark.parametrize("how", [{}, {"norm": "l1", "sublinear_tf": True}, {"use_idf": False, "norm": None},
                                 {"smooth_idf": False}], ids=str)
def test_weights_are_those_of_scikit_learn(how: dict[str, Any]) -> None:
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), **how).fit(NASTY)
    with gesher.session(gesher.export(vectorizer, EXAMPLE), "compiled") as session:
        got = session.run({"X": NASTY})["transformed"]
    np.testing.assert_allclose(got, vectorizer.transform(NASTY).toarray(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("last", [LogisticRegression(), LinearSVC(random_state=0), MultinomialNB(),
                                  TruncatedSVD(3, random_state=0)], ids=lambda e: type(e).__name__)
def test_pipelines_that_begin_with_text(last: Any) -> None:
    pipeline = make_pipeline(TfidfVectorizer(), last).fit(NASTY, KINDS)
    with gesher.session(gesher.export(pipeline, EXAMPLE), "reference") as session:
        got = session.run({"X": NASTY})
    if hasattr(pipeline, "predict"):
        assert (got["label"] == pipeline.predict(NASTY)).all()
    else:
        np.testing.assert_allclose(got["transformed"], pipeline.transform(NASTY), atol=1e-9)


def test_a_column_of_texts_among_numbers() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"said": NASTY, "size": [float(len(s)) for s in NASTY]})
    columns = ColumnTransformer([("text", CountVectorizer(max_features=9), "said"), ("n", StandardScaler(), ["size"])])
    pipeline = make_pipeline(columns, LogisticRegression(max_iter=500)).fit(frame, KINDS)
    with gesher.session(gesher.export(pipeline, frame), "reference") as session:
        got = session.run(frame)
    np.testing.assert_allclose(got["probabilities"], pipeline.predict_proba(frame), atol=1e-9)


def test_two_columns_of_texts() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"one": NASTY[:9], "two": NASTY[9:18]})
    columns = ColumnTransformer([("a", TfidfVectorizer(), "one"), ("b", CountVectorizer(analyzer="char"), "two")])
    model = gesher.export(columns.fit(frame), frame)
    for engine in ("reference", "compiled", "onnxruntime"):
        with gesher.session(model, engine) as session:
            for rows in (frame, frame[:1], frame[2:5]):
                wanted = columns.transform(rows)
                wanted = wanted.toarray() if hasattr(wanted, "toarray") else wanted
                np.testing.assert_allclose(session.run(rows)["transformed"], wanted, atol=1e-14)


@pytest.mark.parametrize("vectorizer, why", [
    (CountVectorizer(token_pattern=r"[a-z]+\d"), "one class of characters"),
    (CountVectorizer(token_pattern=r"\w{2,5}"), "upper limit"),
    (CountVectorizer(token_pattern=r"\b[a-z']+\b"), "reaches beyond"),
    (CountVectorizer(token_pattern=r"[^,]+", ngram_range=(1, 2)), "spaces in them"),
    (CountVectorizer(tokenizer=str.split, token_pattern=None), "tokenizer of its own"),
    (CountVectorizer(preprocessor=str.upper), "preprocessor of its own"),
    (HashingVectorizer(token_pattern="(?s).+"), "words of any character")], ids=str)
def test_what_cannot_be_said_exactly_is_refused(vectorizer: Any, why: str) -> None:
    with pytest.raises(UnsupportedError, match=why):
        gesher.export(vectorizer.fit(["abc1 d2e3, it's here"]), EXAMPLE)


def test_patterns_read_as_runs() -> None:
    runs = read_pattern(r"(?u)\b\w\w+\b", "test")
    assert runs.least == 2 and not runs.words and "é" in runs.members and "-" not in runs.members
    assert read_pattern("[a-c]{3,}", "test").members == frozenset("abc")
    assert "A" in read_pattern("(?i)[a-c]+", "test").members
    assert "_" in read_pattern(r"\b[a-c]+\b", "test").words
