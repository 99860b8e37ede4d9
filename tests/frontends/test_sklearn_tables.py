"""Frames in, one input for each column: every export verifies itself, and the engines agree on every trial."""

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import KNNImputer, MissingIndicator, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    LabelBinarizer,
    LabelEncoder,
    MultiLabelBinarizer,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
    TargetEncoder,
)
from sklearn.tree import DecisionTreeClassifier
from tests.frontends.passing import passes

import gesher
from gesher.frontends import frontend_for, verify
from gesher.frontends.protocol import ExportOptions

RNG = np.random.default_rng(0)
N = 60
FRAME = pd.DataFrame({
    "age": np.where(np.arange(N) % 7 == 0, np.nan, RNG.normal(40, 9, N)), "rooms": RNG.integers(1, 6, N),
    "town": RNG.choice(["Haifa", "Łódź", "São Paulo", "Akko"], N, p=[0.5, 0.3, 0.15, 0.05]),
    "size": RNG.choice(["S", "M", "L"], N), "new": RNG.random(N) > 0.5})
FRAME.loc[::9, "size"] = None
WORDS = np.where(RNG.random(N) > 0.4, "yes", "no")
ENGINES = ("onnxruntime", "compiled")


def crosses(estimator: Any, example: Any, engines: tuple[str, ...] = ENGINES, **settings: Any) -> gesher.Model:
    """The reference passes every trial, and so do the engines."""
    exported = frontend_for(estimator).export(estimator, example, ExportOptions(settings=settings))
    verify(exported)
    assert gesher.check(exported.model).ok, str(gesher.check(exported.model))
    passes(exported, engines)
    return exported.model


def columns(remainder: Any = "drop") -> ColumnTransformer:
    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    words = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    return ColumnTransformer([("n", numbers, make_column_selector(dtype_include="number")),
                              ("w", words, ["town", "size"])], remainder=remainder)


@pytest.mark.parametrize("remainder", ["drop", "passthrough", "estimator"])
@pytest.mark.parametrize("last", [LogisticRegression(), DecisionTreeClassifier(max_depth=4)], ids=["line", "tree"])
def test_columns_of_many_types_cross(remainder: str, last: Any) -> None:
    rest = StandardScaler() if remainder == "estimator" else remainder
    model = crosses(make_pipeline(columns(rest), last).fit(FRAME, WORDS), FRAME)
    assert {v.name: str(v.type) for v in model.graph.inputs} == {
        "age": "double(rows,1)", "rooms": "int64(rows,1)", "town": "string(rows,1)", "size": "string(rows,1)",
        "new": "bool(rows,1)"}
    assert model.metadata["gesher.missing"] == '{"town": "", "size": ""}'


def test_columns_are_chosen_in_every_way() -> None:
    union = FeatureUnion([("a", "passthrough"), ("b", StandardScaler())])
    mask = [False, True, False, False, True]
    made = ColumnTransformer([("names", OneHotEncoder(), ["size"]), ("slice", union, slice(0, 2)),
                              ("mask", "passthrough", mask), ("last", "passthrough", [-1]),
                              ("none", StandardScaler(), []), ("dropped", "drop", ["town"])],
                             transformer_weights={"slice": 2.0})
    crosses(make_pipeline(made.set_output(transform="default")).fit(FRAME), FRAME)
    named = ColumnTransformer([("a", StandardScaler(), slice("age", "rooms"))]).fit(FRAME)
    crosses(named, FRAME)
    inner = ColumnTransformer([("town", OrdinalEncoder(), ["pass__town"])], remainder="passthrough")
    outer = make_pipeline(ColumnTransformer([("pass", "passthrough", ["town", "rooms"])]), inner)
    outer.set_output(transform="pandas")
    crosses(outer.fit(FRAME), FRAME)


def test_polars_and_dictionaries_are_frames() -> None:
    clean = FRAME.dropna().reset_index(drop=True)
    frame = pl.DataFrame({c: clean[c].tolist() for c in clean.columns})
    made = ColumnTransformer([("w", OneHotEncoder(handle_unknown="ignore"), ["town", "size"]),
                              ("n", StandardScaler(), ["age", "rooms"])]).fit(frame)
    crosses(made, frame)
    made.fit(clean)
    crosses(made, {c: clean[c].to_numpy() for c in clean.columns})


def test_a_frame_of_float32_gives_a_model_of_float32() -> None:
    frame = pd.DataFrame(RNG.normal(size=(20, 3)).astype(np.float32), columns=["a", "b", "c"])
    scaler = StandardScaler().fit(frame)
    model = crosses(scaler, frame)
    assert [str(v.type) for v in model.graph.inputs] == ["float(rows,1)"] * 3
    assert str(model.graph.outputs[0].type) == "float(rows,3)"
    assert str(crosses(scaler, frame, dtype="float64").graph.outputs[0].type) == "double(rows,3)"


def test_strings_and_numbers_that_pass_through_are_outputs_of_their_own() -> None:
    made = ColumnTransformer([("i", SimpleImputer(strategy="most_frequent"), ["size"])], remainder="passthrough")
    model = crosses(made.fit(FRAME), FRAME)
    assert [v.name for v in model.graph.outputs] == ["i__size", "remainder__age", "remainder__rooms",
                                                     "remainder__town", "remainder__new"]


ENCODERS = [
    OneHotEncoder(handle_unknown="ignore"), OneHotEncoder(drop="first", handle_unknown="ignore"),
    OneHotEncoder(drop="if_binary"), OneHotEncoder(min_frequency=8, handle_unknown="infrequent_if_exist"),
    OneHotEncoder(max_categories=3, handle_unknown="ignore", drop="first"), OneHotEncoder(),
    OneHotEncoder(max_categories=2, handle_unknown="infrequent_if_exist", drop="if_binary"),
    OneHotEncoder(categories=[["Haifa", "Akko"], ["S", "M", np.nan]], handle_unknown="ignore"),
    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-7, encoded_missing_value=-3),
    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, max_categories=3),
    OrdinalEncoder(min_frequency=8),
]


def name_of(x: Any) -> str:
    return repr(x).replace(" ", "").replace("\n", "")[:70]


@pytest.mark.parametrize("encoder", ENCODERS, ids=name_of)
def test_encoders_of_words_cross(encoder: Any) -> None:
    crosses(encoder.fit(FRAME[["town", "size"]]), FRAME[["town", "size"]])
    if getattr(encoder, "categories", "") == "auto":
        numbers = FRAME[["rooms", "new"]].assign(half=np.where(FRAME.rooms > 2, np.nan, FRAME.rooms + 0.1))
        crosses(encoder.fit(numbers), numbers)
        words = FRAME[["town"]].to_numpy(dtype=object)
        crosses(encoder.fit(words), words)


@pytest.mark.parametrize("target", ["binary", "multiclass", "continuous"])
def test_target_encoders_cross(target: str) -> None:
    y = {"binary": WORDS, "multiclass": FRAME.rooms.to_numpy() % 3,
         "continuous": FRAME.age.fillna(3).to_numpy()}[target]
    crosses(TargetEncoder(random_state=0).fit(FRAME[["town", "size"]], y), FRAME[["town", "size"]])


@pytest.mark.parametrize("engine", ["reference", *ENGINES])
def test_an_unknown_value_fails_where_scikit_learn_raises(engine: str) -> None:
    frame = FRAME[["town"]]
    pipeline = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(frame, WORDS)
    feeds = {"town": np.array([["Haifa"], ["Atlantis"]], object)}
    model = gesher.export(pipeline, frame)
    assert "OneHotEncoder meets a value" in model.metadata["gesher.raises"]
    with gesher.session(model, engine) as session:
        session.run({"town": feeds["town"][:1]})
        with pytest.raises(gesher.GesherError):
            session.run(feeds)
    with gesher.session(gesher.export(pipeline, frame, on_error="nan"), engine) as session:
        got = session.run(feeds)["probabilities"]
        assert np.isnan(got[1]).all() and not np.isnan(got[0]).any()


def test_labels_are_encoded() -> None:
    for labels in (WORDS, FRAME.rooms.to_numpy()):
        crosses(LabelEncoder().fit(labels), labels)
        crosses(LabelBinarizer(neg_label=-1, pos_label=2).fit(labels), labels)
    crosses(MultiLabelBinarizer().fit([["a", "b"], ["c"]]), [["a", "b"], ["c"], ["b", "a"]])
    crosses(MultiLabelBinarizer(classes=[3, 1, 2]).fit([[1, 2], [3]]), [[1, 2], [3], [2, 1]])


def test_gaps_are_filled_and_told() -> None:
    x = RNG.normal(size=(40, 4))
    x[RNG.random(x.shape) < 0.2] = np.nan
    for dtype in (np.float32, np.float64):
        for imputer in (KNNImputer(), KNNImputer(n_neighbors=3, weights="distance", add_indicator=True),
                        SimpleImputer(strategy="constant", fill_value=7, add_indicator=True), MissingIndicator()):
            crosses(imputer.fit(x.astype(dtype)), x.astype(dtype))
    whole = FRAME[["rooms"]]
    crosses(SimpleImputer(missing_values=3, strategy="mean").fit(whole), whole)
    words = FRAME[["town", "size"]].fillna("?")
    crosses(SimpleImputer(missing_values="?", strategy="constant", fill_value="none").fit(words), words)


def test_dates_are_refused_where_they_are_used() -> None:
    frame = FRAME.assign(when=pd.date_range("2020-01-01", periods=N))
    used = ColumnTransformer([("d", "passthrough", ["when"])]).fit(frame)
    with pytest.raises(gesher.UnsupportedError, match="column 'when' holds dates"):
        gesher.export(used, frame)
    unused = ColumnTransformer([("n", StandardScaler(), ["rooms"])]).fit(frame)
    assert "when" not in {v.name for v in crosses(unused, frame).graph.inputs}


def test_an_example_that_lacks_a_column_is_refused() -> None:
    with pytest.raises(gesher.UnsupportedError, match="no column 'rooms'"):
        gesher.export(columns().fit(FRAME), FRAME.drop(columns=["rooms"]))


@pytest.mark.parametrize("engine", ["reference", "compiled"])
@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_a_session_takes_gaps_among_strings_as_the_model_marks_them(engine: str, frame: Any) -> None:
    kept = FRAME[["town", "size"]]
    pipeline = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()).fit(kept, WORDS)
    with gesher.session(gesher.export(pipeline, kept), engine) as session:
        made = session.run(frame({c: [v if isinstance(v, str) else None for v in kept[c]] for c in kept}))
    np.testing.assert_allclose(made["probabilities"], pipeline.predict_proba(kept), rtol=1e-6)


class Doubler(TransformerMixin, BaseEstimator):
    """What nobody else knows how to translate."""

    def fit(self, x: Any, y: Any = None) -> "Doubler":
        self.n_features_in_ = x.shape[1]
        return self

    def transform(self, x: Any) -> Any:
        return 2 * x


def test_a_transformer_of_ones_own_crosses_by_a_registered_translator() -> None:
    from gesher.frontends import sklearn as frontend
    from gesher.frontends.sklearn.translation import TRANSLATORS

    x = RNG.standard_normal((20, 3))
    pipeline = make_pipeline(Doubler(), LogisticRegression()).fit(x, WORDS[:20])
    with pytest.raises(gesher.UnsupportedError, match="Doubler has no way"):
        gesher.export(pipeline, x)
    name = f"{Doubler.__module__}.Doubler"

    @frontend.translates(name)
    def _(t: frontend.Translation, estimator: Any, x: Any) -> frontend.Outputs:
        return frontend.Outputs(transformed=t.b.Mul(x, t.constant(2)))

    try:
        crosses(pipeline, x)
    finally:
        # The table is everybody's.
        del TRANSLATORS[name]
