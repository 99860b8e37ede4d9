"""`inverse_transform` crosses: each export verifies itself, and the engines agree on every trial."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import FeatureAgglomeration
from sklearn.compose import TransformedTargetRegressor
from sklearn.cross_decomposition import CCA, PLSCanonical, PLSRegression
from sklearn.decomposition import (
    NMF,
    PCA,
    DictionaryLearning,
    FastICA,
    IncrementalPCA,
    KernelPCA,
    MiniBatchSparsePCA,
    SparseCoder,
    SparsePCA,
    TruncatedSVD,
)
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.feature_selection import (
    RFE,
    GenericUnivariateSelect,
    SelectFromModel,
    SelectKBest,
    SequentialFeatureSelector,
    VarianceThreshold,
)
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    LabelBinarizer,
    LabelEncoder,
    MaxAbsScaler,
    MinMaxScaler,
    MultiLabelBinarizer,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection
from tests.frontends.passing import passes

import gesher
from gesher.frontends import frontend_for, verify
from gesher.frontends.protocol import Exported, ExportOptions

RNG = np.random.default_rng(3)
N = 60
# Features of several sizes that hang together, one of them below zero.
X = RNG.gamma(2.0, size=(N, 5)) @ RNG.uniform(0.1, 1, (5, 5)) * [1, 10, 0.1, 3, 1] + [0, 0, 0, 0, -4]
Y = X @ [1.0, 0.2, 4.0, -0.5, 0.1] + 0.1 * RNG.standard_normal(N)
TWO = np.stack([Y, X[:, 1] - X[:, 3]], 1)
TOWNS = pd.DataFrame({"town": RNG.choice(["Haifa", "Łódź", "Akko", "Oslo"], N, p=[0.5, 0.3, 0.15, 0.05]),
                      "rooms": RNG.integers(1, 5, N), "size": RNG.choice([0.5, 1.25, np.nan], N)})
TEXTS = ["the cat sat on the mat", "", "a dog, a cat", "The Dog!", "nothing else"]
ENGINES = ("onnxruntime", "compiled")
BACK = ["inverse_transform"]


def exported(estimator: Any, example: Any, *methods: str, engines: tuple[str, ...] = ENGINES) -> Exported:
    """The reference passes every trial, and so do the engines."""
    made = frontend_for(estimator).export(estimator, example, ExportOptions(
        settings={"methods": list(methods) or BACK}))
    verify(made)
    assert gesher.check(made.model).ok, str(gesher.check(made.model))
    passes(made, engines)
    return made


def name_of(x: Any) -> str:
    return repr(x).replace(" ", "").replace("\n", "")[:70]


OF_NUMBERS = [
    RobustScaler(with_centering=False, quantile_range=(10, 60)), MaxAbsScaler(), PCA(2, whiten=True), PCA(0.9),
    IncrementalPCA(3, whiten=True), TruncatedSVD(3, random_state=0),
    FastICA(2, random_state=0, whiten="arbitrary-variance"),
    SparsePCA(2, random_state=0, alpha=0.1, max_iter=20), MiniBatchSparsePCA(3, random_state=0, max_iter=5),
    KernelPCA(3, kernel="rbf", gamma=0.05, fit_inverse_transform=True, alpha=0.01),
    KernelPCA(2, kernel="poly", degree=2, gamma=0.01, coef0=0.5, fit_inverse_transform=True),
    DictionaryLearning(4, split_sign=True, random_state=0, max_iter=5), SparseCoder(np.eye(5)[::-1] * 2),
    FeatureAgglomeration(2), VarianceThreshold(1.0), PowerTransformer(), PowerTransformer(standardize=False),
    QuantileTransformer(n_quantiles=15), QuantileTransformer(n_quantiles=40, output_distribution="normal"),
    KBinsDiscretizer(4, encode="ordinal", strategy="uniform"), KBinsDiscretizer([2, 3, 4, 5, 3], encode="onehot"),
    KBinsDiscretizer(3, encode="onehot-dense", strategy="kmeans", random_state=0),
    GaussianRandomProjection(3, random_state=0), GaussianRandomProjection(2, compute_inverse_components=True,
                                                                           random_state=1),
    SparseRandomProjection(3, density=0.5, random_state=0), FunctionTransformer(np.log1p, np.expm1, validate=True),
    make_pipeline(StandardScaler(), "passthrough", PCA(3), MinMaxScaler((-2, 2), clip=True)),
    FrozenEstimator(make_pipeline(PowerTransformer(), PCA(2)).fit(X)),
]
OF_TARGETS = [
    CCA(2), PLSCanonical(1, scale=False), PLSRegression(2), SelectKBest(k=2),
    GenericUnivariateSelect(mode="k_best", param=3),
    SelectFromModel(LinearRegression(), threshold="median"), RFE(Ridge(), n_features_to_select=2),
    SequentialFeatureSelector(Ridge(), n_features_to_select=2, cv=3),
    GridSearchCV(make_pipeline(StandardScaler(), PCA()), {"pca__n_components": [2, 3]}, cv=3),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("estimator", [*OF_NUMBERS, *OF_TARGETS], ids=name_of)
def test_transformed_rows_go_back(estimator: Any, dtype: Any) -> None:
    x = (np.abs(X) if isinstance(estimator, FunctionTransformer) else X).astype(dtype)
    y = TWO if type(estimator).__name__ in ("CCA", "PLSCanonical") else Y
    estimator.fit(x, y)
    rows = estimator.transform(x)
    # A compilation takes its time: one of the types is enough for it.
    model = exported(estimator, rows, engines=ENGINES if dtype is np.float64 else ENGINES[:1]).model
    assert [v.name for v in model.graph.inputs] == ["X"] and [v.name for v in model.graph.outputs] == ["inverse"]
    dense = np.asarray(rows.toarray() if sparse.issparse(rows) else rows)
    with gesher.session(model, "reference") as session:
        got = session.run({"X": dense})["inverse"]
    said = estimator.inverse_transform(rows)
    tight = 1e-9 if dense.dtype == np.float64 and dtype is np.float64 else 2e-3
    assert np.abs(got - (said.toarray() if sparse.issparse(said) else said)).max() <= tight * np.abs(X).max()


def test_powers_of_a_logarithm_and_of_its_neighbours_go_back() -> None:
    made = PowerTransformer(standardize=False).fit(X)
    made.lambdas_ = np.array([0.0, 2.0, 1e-9, -0.7, 3.0])
    exported(made, made.transform(X))
    made = PowerTransformer("box-cox", standardize=False).fit(X[:, :4])
    made.lambdas_ = np.array([0.0, 1e-7, -0.5, 2.0])
    x = made.transform(X[:, :4])
    model = exported(made, x).model
    with gesher.session(model, "reference") as session:
        assert np.allclose(session.run({"X": x})["inverse"], X[:, :4], rtol=1e-9)


def test_products_with_parts_that_are_not_negative_go_back() -> None:
    x = np.abs(X)
    made = NMF(3, random_state=0, max_iter=50, init="random").fit(x)
    exported(made, made.transform(x))


def test_rounding_that_a_kernel_ridge_magnifies_is_no_fault() -> None:
    x = StandardScaler().fit_transform(X) * 4
    for dtype in (np.float32, np.float64):
        made = KernelPCA(3, fit_inverse_transform=True, kernel="poly").fit(x)
        exported(made, made.transform(x).astype(dtype), engines=ENGINES[:1])


def test_what_the_normal_distribution_clips_goes_back_to_the_ends() -> None:
    made = QuantileTransformer(n_quantiles=30, output_distribution="normal").fit(X)
    ends = made.transform(np.stack([X.min(0) - 1, X.max(0) + 1]))
    model = exported(made, np.concatenate([ends, np.nextafter(ends, 0), np.nextafter(ends, 9 * ends)])).model
    with gesher.session(model, "reference") as session:
        assert np.allclose(session.run({"X": ends})["inverse"], [X.min(0), X.max(0)], rtol=1e-14)


@pytest.mark.parametrize("encoder", [
    OneHotEncoder(), OneHotEncoder(handle_unknown="ignore"), OneHotEncoder(drop="first"),
    OneHotEncoder(drop="if_binary", handle_unknown="ignore"), OneHotEncoder(drop=["Oslo", 2, 0.5]),
    OrdinalEncoder(), OrdinalEncoder(encoded_missing_value=-2),
    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=9)], ids=name_of)
def test_categories_come_back(encoder: Any) -> None:
    encoder.fit(TOWNS)
    made = exported(encoder, encoder.transform(TOWNS))
    assert str(made.model.graph.outputs[0].type) == "string(rows,1)"
    assert [v.name for v in made.model.graph.outputs] == ["town", "rooms", "size"]
    # Of one type: a matrix.
    words = TOWNS[["town"]].assign(other=TOWNS.town.str.upper())
    for frame, kind in ((words, "string"), (TOWNS[["rooms"]].assign(more=TOWNS.rooms + 2), "int64")):
        settings = encoder.get_params()
        if isinstance(settings.get("drop"), list):
            settings["drop"] = None
        twin = type(encoder)(**settings).fit(frame)
        shown = exported(twin, twin.transform(frame), engines=ENGINES[:1]).model
        type_of = str(shown.graph.outputs[0].type)
        unknown = kind == "int64" and twin.handle_unknown in ("ignore", "use_encoded_value")
        assert type_of == f"{'double' if unknown else kind}(rows,2)"


@pytest.mark.parametrize("encoder", [
    OneHotEncoder(min_frequency=8, handle_unknown="infrequent_if_exist"),
    OneHotEncoder(max_categories=2, handle_unknown="ignore", drop="first"), OrdinalEncoder(max_categories=3),
    OrdinalEncoder(min_frequency=8, handle_unknown="use_encoded_value", unknown_value=-1)], ids=name_of)
def test_infrequent_categories_come_back_as_one(encoder: Any) -> None:
    frame = TOWNS[["town"]]
    encoder.fit(frame)
    made = exported(encoder, encoder.transform(frame))
    assert any("infrequent_sklearn" in np.ravel(trial.answers["inverse"]) for trial in made.trials)
    rare = type(encoder)(**encoder.get_params()).set_params(min_frequency=20).fit(TOWNS[["rooms"]])
    with pytest.raises(gesher.UnsupportedError, match="numbers and strings in one column"):
        gesher.export(rare, rare.transform(TOWNS[["rooms"]]), methods=BACK)


def test_labels_come_back() -> None:
    words, numbers = TOWNS.town.to_numpy(object), TOWNS.rooms.to_numpy() * 10
    for labels in (words, numbers, TOWNS["size"].fillna(0).to_numpy(), words == "Haifa"):
        encoder = LabelEncoder().fit(labels)
        exported(encoder, encoder.transform(labels), engines=ENGINES if labels is words else ENGINES[:1])
        if labels.dtype.kind != "f":
            marks = LabelBinarizer(neg_label=-1, pos_label=2).fit(labels)
            exported(marks, marks.transform(labels), engines=ENGINES if labels is numbers else ENGINES[:1])
            one = LabelBinarizer(sparse_output=True).fit(labels[:1])
            exported(one, one.transform(labels[:1]), engines=ENGINES[:1])
    indicator = LabelBinarizer().fit(np.eye(3, dtype=int))
    exported(indicator, np.array([[1, 0, 1], [0, 0, 0]]))
    two = LabelBinarizer().fit(words == "Haifa")
    exported(two, RNG.uniform(0, 1, (30, 1)))
    exported(two, RNG.uniform(0, 1, 30), engines=ENGINES[:1])


def test_words_and_labels_of_each_row_come_back_as_a_sequence_of_arrays() -> None:
    for model in (CountVectorizer(), TfidfVectorizer(ngram_range=(1, 2), stop_words=["the"])):
        model.fit(TEXTS)
        made = exported(model, model.transform(TEXTS))
        assert str(made.model.graph.outputs[0].type).startswith("seq(string")
        said = [set(row) for row in model.inverse_transform(model.transform(TEXTS))]
        assert [set(row) for row in made.trials[0].answers["inverse"]] == said and set() in said
    for classes in (["c", "a", "b"], [3, 1, 2]):
        labels = MultiLabelBinarizer(classes=classes).fit([classes[:2], classes[2:]])
        exported(labels, labels.transform([classes[:2], [], classes]))


@pytest.mark.parametrize("engine", ["reference", *ENGINES])
def test_what_scikit_learn_cannot_turn_back_fails(engine: str) -> None:
    towns, labels = TOWNS[["town"]], TOWNS.town.to_numpy(object)
    one, order, code = OneHotEncoder().fit(towns), OrdinalEncoder().fit(towns), LabelEncoder().fit(labels)
    many, bins = MultiLabelBinarizer().fit([["a"], ["b"]]), KBinsDiscretizer(3, encode="ordinal").fit(X)
    for estimator, rows, wrong in ((one, one.transform(towns), np.zeros((1, 4))),
                                   (order, order.transform(towns), np.array([[4.0]])),
                                   (code, code.transform(labels), np.array([-1])),
                                   (many, np.eye(2), np.array([[2.0, 0]])),
                                   (bins, bins.transform(X), np.full((1, 5), np.nan))):
        with pytest.raises((ValueError, IndexError)):
            estimator.inverse_transform(wrong)
        with gesher.session(gesher.export(estimator, rows, methods=BACK), engine) as session, \
                pytest.raises(gesher.GesherError):
            session.run({"X": wrong})


def test_unknown_codes_give_what_is_missing_where_that_was_asked_for() -> None:
    order = OrdinalEncoder().fit(TOWNS[["town"]])
    model = gesher.export(order, np.array([[0.0], [1]]), methods=BACK, on_error="nan")
    with gesher.session(model, "reference") as session:
        assert session.run({"X": np.array([[7.0], [1]])})["inverse"].tolist() == [[""], [order.categories_[0][1]]]


def test_gaps_come_back_where_the_indicator_tells_of_them() -> None:
    x = X.copy()
    x[RNG.random(x.shape) < 0.2] = np.nan
    for imputer in (SimpleImputer(add_indicator=True),
                    SimpleImputer(strategy="constant", fill_value=-1, add_indicator=True)):
        imputer.fit(x)
        exported(imputer, imputer.transform(x))
    x[:, 2] = np.nan
    imputer = SimpleImputer(add_indicator=True).fit(x)
    exported(imputer, imputer.transform(x))
    whole = TOWNS[["rooms"]].to_numpy()
    marked = SimpleImputer(missing_values=3, add_indicator=True).fit(whole)
    exported(marked, marked.transform(whole))
    # A single row with a gap, which scikit-learn itself has an IndexError for.
    with gesher.session(gesher.export(imputer, imputer.transform(x), methods=BACK), "reference") as session:
        row = np.flatnonzero(np.isnan(x[:, 0]))[:1]
        assert np.array_equal(session.run({"X": imputer.transform(x[row])})["inverse"], x[row], equal_nan=True)


def test_two_methods_have_two_inputs() -> None:
    made = exported(pca := PCA(2).fit(X), X, "transform", "inverse_transform")
    assert [str(v.type) for v in made.model.graph.inputs] == ["double(rows,5)", "double(transformed_rows,2)"]
    with gesher.session(made.model, "reference") as session:
        got = session.run({"X": X, "Xt": pca.transform(X)[:7]})
    assert np.allclose(got["inverse"], pca.inverse_transform(pca.transform(X)[:7]))
    frame = pd.DataFrame(X, columns=list("abcde"))
    scaler = StandardScaler().set_output(transform="pandas").fit(frame)
    named = exported(scaler, frame, "transform", "inverse_transform")
    assert [v.name for v in named.model.graph.inputs] == [*"abcde", "Xt"]
    search = GridSearchCV(make_pipeline(StandardScaler(), PCA()), {"pca__n_components": [2]}, cv=2).fit(X)
    exported(search, X.astype(np.float32), "transform", "inverse_transform")


def test_the_example_may_be_rows_of_either_side() -> None:
    encoder = OneHotEncoder(handle_unknown="ignore").fit(TOWNS)
    for example in (TOWNS, encoder.transform(TOWNS), encoder.transform(TOWNS).toarray().tolist()):
        assert str(exported(encoder, example).model.graph.inputs[0].type) == "double(rows,11)"
    agglomeration = FeatureAgglomeration(2).fit(X)
    for shown in (X, agglomeration.transform(X), None):
        model = gesher.export(agglomeration, shown, methods=BACK)
        assert str(model.graph.inputs[0].type).endswith("(rows,2)")
    frame = pd.DataFrame(X, columns=list("abcde"))
    scaler = StandardScaler().set_output(transform="pandas").fit(frame)
    assert [v.name for v in exported(scaler, scaler.transform(frame)).model.graph.inputs] == list("abcde")
    named = gesher.export(scaler, X, methods=BACK, names={"inputs": ["rows"]})
    assert [v.name for v in named.graph.inputs] == ["rows"]


def test_an_example_of_neither_side_is_refused() -> None:
    with pytest.raises(gesher.UnsupportedError, match=r"has 3 features, PCA takes 5; as transformed rows: PCA\.inverse_"
                                                      "transform takes 2 columns, and there are 3"):
        gesher.export(PCA(2).fit(X), X[:, :3], methods=BACK)
    with pytest.raises(gesher.UnsupportedError, match="fit_inverse_transform"):
        gesher.export(KernelPCA(2).fit(X), X, methods=BACK)
    with pytest.raises(gesher.UnsupportedError, match="add_indicator"):
        gesher.export(SimpleImputer().fit(X), X, methods=BACK)
    with pytest.raises(gesher.UnsupportedError, match="not fitted"):
        gesher.export(PCA(2), X, methods=BACK)


class Tripler(TransformerMixin, BaseEstimator):
    """What nobody else knows how to turn back."""

    def fit(self, x: Any, y: Any = None) -> "Tripler":
        self.n_features_in_ = x.shape[1]
        return self

    def transform(self, x: Any) -> Any:
        return 3 * x

    def inverse_transform(self, x: Any) -> Any:
        return x / 3


def test_an_inverse_of_ones_own_crosses_once_it_is_registered() -> None:
    from gesher.frontends import sklearn as frontend
    from gesher.frontends.sklearn.translation import INVERTERS

    pipeline = make_pipeline(Tripler(), StandardScaler()).fit(X)
    with pytest.raises(gesher.UnsupportedError, match=r"Tripler\.inverse_transform has no way"):
        gesher.export(pipeline, X, methods=BACK)
    name = f"{Tripler.__module__}.Tripler"

    @frontend.inverts(name)
    def _(t: frontend.Translation, estimator: Any, x: Any) -> Any:
        return t.b.Div(x, t.constant(3))

    try:
        exported(pipeline, X)
    finally:
        # The table is everybody's.
        del INVERTERS[name]


def test_a_wrong_inverse_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from gesher.frontends.sklearn import translation

    monkeypatch.setitem(translation.INVERTERS, "preprocessing.MaxAbsScaler", lambda t, model, x: x)
    with pytest.raises(gesher.ModelError, match="answers differently"):
        gesher.export(MaxAbsScaler().fit(X), X, methods=BACK)


@pytest.mark.parametrize("transformer", [
    QuantileTransformer(n_quantiles=20, output_distribution="normal"), PowerTransformer(),
    make_pipeline(StandardScaler(), RobustScaler())], ids=name_of)
def test_targets_go_back_by_any_inverse(transformer: Any) -> None:
    for y in (Y, TWO):
        made = TransformedTargetRegressor(Ridge(), transformer=transformer, check_inverse=False).fit(X, y)
        exported(made, X, "predict", engines=ENGINES[:1])
