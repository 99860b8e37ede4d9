"""Boosted trees in every configuration that people train: small, seeded, made when asked for.

A configuration is a function that trains one model and gives it with rows that it can predict. `bench/boosters.py`
counts and times them, the tests of the frontends hold them to their libraries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
ROUNDS, DEPTH = 12, 4


@dataclass(frozen=True)
class Configuration:
    """One way to train: `make()` gives the model, and rows (float32, a few values missing where it can take that)."""

    library: str
    name: str
    make: Callable[[], tuple[Any, Any]]
    settings: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.library}: {self.name}"


@dataclass(frozen=True)
class Data:
    """Rows with holes, and targets of every kind."""

    x: Array
    real: Array
    classes: Array
    two: Array
    share: Array
    positive: Array
    pair: Array
    labels: Array
    words: Array
    categories: Array      # columns: a number, one of twelve, one of three
    of_categories: Array


@cache
def data(rows: int = 400) -> Data:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 5)).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = np.nan
    real = np.nan_to_num(x[:, 0]) + 0.5 * np.nan_to_num(x[:, 1]) ** 2 + 0.1 * rng.normal(size=rows)
    classes = np.digitize(real, [-0.3, 0.8])
    categories = np.stack([x[:, 0], rng.integers(0, 12, rows), rng.integers(0, 3, rows)], 1).astype(np.float32)
    categories[::9, 1] = np.nan
    of_categories = (np.isin(categories[:, 1], [1, 4, 5, 9]) + np.nan_to_num(categories[:, 0]) > 0).astype(int) + \
        (categories[:, 2] == 1)
    return Data(x, real, classes, (real > 0.3).astype(int), 1 / (1 + np.exp(-real)), np.exp(real),
                np.stack([real, real ** 2], 1), np.stack([real > 0, real > 0.6, real < 0.2], 1).astype(int),
                np.array(["low", "middle", "high"])[classes], categories, of_categories)


def configurations(*libraries: str) -> list[Configuration]:
    """Those of the libraries named; of all where none is."""
    every = {"xgboost": _xgboost, "lightgbm": _lightgbm, "catboost": _catboost}
    return [c for name, made in every.items() if not libraries or name in libraries for c in made()]


def _xgboost() -> list[Configuration]:
    import xgboost as xgb

    d = data()
    out: list[Configuration] = []

    def add(name: str, kind: Callable[..., Any], y: Any, x: Any = None, fit: dict[str, Any] | None = None,
            **parameters: Any) -> None:
        rows = d.x if x is None else x
        given = {"n_estimators": ROUNDS, "n_jobs": 1} | parameters
        if given.get("booster") != "gblinear":
            given = {"max_depth": DEPTH} | given
        out.append(Configuration("xgboost", name, lambda: (kind(**given).fit(rows, y, **(fit or {})), rows)))

    classifier, regressor = xgb.XGBClassifier, xgb.XGBRegressor
    add("classifier, two classes", classifier, d.two)
    add("classifier, three classes", classifier, d.classes)
    add("classifier, multi:softmax", classifier, d.classes, objective="multi:softmax")
    add("classifier, hinge", classifier, d.two, objective="binary:hinge")
    add("classifier, logitraw", classifier, d.two, objective="binary:logitraw")
    add("classifier, base_score=0.3", classifier, d.two, base_score=0.3)
    add("classifier, several labels", classifier, d.labels)
    add("classifier, several labels in one tree", classifier, d.labels, multi_strategy="multi_output_tree")
    add("classifier, three classes in one tree", classifier, d.classes, multi_strategy="multi_output_tree")
    add("classifier, dart", classifier, d.classes, booster="dart", rate_drop=0.3)
    add("classifier, gblinear", classifier, d.classes, booster="gblinear")
    add("classifier, parallel trees", classifier, d.classes, num_parallel_tree=3, subsample=0.7)
    add("classifier, stopped early", classifier, d.classes, n_estimators=60, early_stopping_rounds=2,
        fit={"eval_set": [(d.x[:60], d.classes[:60][::-1])], "verbose": False})
    add("classifier, categories", classifier, d.of_categories, d.categories, enable_categorical=True,
        feature_types=["q", "c", "c"], max_cat_to_onehot=4)
    add("classifier, missing=-9", classifier, d.two, np.nan_to_num(d.x, nan=-9), missing=-9)
    add("classifier, missing=0", classifier, d.two, np.round(np.nan_to_num(d.x)), missing=0)
    add("random forest classifier", xgb.XGBRFClassifier, d.classes)
    add("random forest regressor", xgb.XGBRFRegressor, d.real)
    add("regressor", regressor, d.real)
    add("regressor, dart", regressor, d.real, booster="dart", rate_drop=0.3)
    add("regressor, gblinear", regressor, d.real, booster="gblinear")
    add("regressor, two targets", regressor, d.pair)
    add("regressor, two targets in one tree", regressor, d.pair, multi_strategy="multi_output_tree")
    add("regressor, three quantiles", regressor, d.real, objective="reg:quantileerror",
        quantile_alpha=[0.1, 0.5, 0.9])
    add("regressor, partitioned categories", regressor, d.real, d.categories, enable_categorical=True,
        feature_types=["q", "c", "c"], max_cat_to_onehot=1)
    add("regressor, by leaves", regressor, d.real, grow_policy="lossguide", max_leaves=9, max_depth=0)
    for objective, y in (("reg:logistic", d.share), ("binary:logistic", d.two), ("count:poisson", d.positive),
                         ("reg:gamma", d.positive), ("reg:tweedie", d.positive), ("reg:absoluteerror", d.real),
                         ("reg:pseudohubererror", d.real), ("reg:squaredlogerror", d.positive)):
        add(f"regressor, {objective}", regressor, y, objective=objective)
    for objective in ("rank:ndcg", "rank:pairwise"):
        add(f"ranker, {objective}", xgb.XGBRanker, d.classes, objective=objective, fit={"group": [100] * 4})

    def booster(name: str, label: Any, settings: dict[str, Any] | None = None, **parameters: Any) -> None:
        def make() -> tuple[Any, Any]:
            matrix = xgb.DMatrix(d.x, label=label)
            if parameters["objective"] == "survival:aft":
                matrix.set_float_info("label_lower_bound", label)
                matrix.set_float_info("label_upper_bound", label + 1)
            return xgb.train({"max_depth": DEPTH, "nthread": 1} | parameters, matrix, ROUNDS), d.x

        out.append(Configuration("xgboost", f"Booster, {name}", make, settings or {}))

    booster("multi:softprob", d.classes, objective="multi:softprob", num_class=3)
    booster("binary:logistic", d.two, objective="binary:logistic")
    booster("margins", d.two, {"output_margin": True}, objective="binary:logistic")
    booster("rounds 2 to 7", d.real, {"iteration_range": (2, 7)}, objective="reg:squarederror")
    booster("survival:cox", d.positive, objective="survival:cox")
    booster("survival:aft", d.positive, objective="survival:aft")
    booster("rank:map", d.two, objective="rank:map")
    return out


def _lightgbm() -> list[Configuration]:
    import lightgbm as lgb

    d = data()
    out: list[Configuration] = []
    quiet = {"verbose": -1, "num_threads": 1}

    def add(name: str, kind: Callable[..., Any], y: Any, x: Any = None, fit: dict[str, Any] | None = None,
            wide: bool = False, **parameters: Any) -> None:
        rows = d.x if x is None else x
        rows = rows.astype(np.float64) if wide else rows
        given = {"n_estimators": ROUNDS, "num_leaves": 12, "min_child_samples": 5, "n_jobs": 1, "verbose": -1}
        given |= parameters
        out.append(Configuration("lightgbm", name, lambda: (kind(**given).fit(rows, y, **(fit or {})), rows)))

    classifier, regressor = lgb.LGBMClassifier, lgb.LGBMRegressor
    bagged = {"subsample": 0.6, "subsample_freq": 1}
    sparse = np.where(np.abs(np.nan_to_num(d.x)) < 0.4, 0, np.nan_to_num(d.x)).astype(np.float32)
    add("classifier, two classes", classifier, d.two)
    add("classifier, sigmoid=0.4", classifier, d.two, sigmoid=0.4)
    add("classifier, three classes", classifier, d.classes)
    add("classifier, three classes in float64", classifier, d.classes, wide=True)
    add("classifier, words", classifier, d.words)
    add("classifier, multiclassova", classifier, d.classes, objective="multiclassova")
    add("classifier, random forest", classifier, d.classes, boosting_type="rf", **bagged)
    add("classifier, dart", classifier, d.two, boosting_type="dart")
    add("classifier, goss", classifier, d.two, data_sample_strategy="goss")
    add("classifier, zero is missing", classifier, d.classes, sparse, zero_as_missing=True)
    add("classifier, nothing is missing", classifier, d.classes, use_missing=False)
    add("classifier, stopped early", classifier, d.classes, n_estimators=60,
        fit={"eval_set": [(d.x[:60], d.classes[:60][::-1])], "callbacks": [lgb.early_stopping(2, verbose=False)]})
    add("classifier, categories", classifier, d.of_categories, d.categories, min_data_per_group=5, cat_smooth=1,
        fit={"categorical_feature": [1, 2]})
    add("classifier, linear trees", classifier, d.classes, linear_tree=True)
    add("regressor", regressor, d.real)
    add("regressor in float64", regressor, d.real, wide=True)
    add("regressor, linear trees", regressor, d.real, linear_tree=True)
    add("regressor, linear trees in float64", regressor, d.real, wide=True, linear_tree=True)
    add("regressor, random forest", regressor, d.real, boosting_type="rf", **bagged)
    add("regressor, zero is missing in float64", regressor, d.real, sparse, wide=True, zero_as_missing=True)
    add("regressor, categories in float64", regressor, d.real, d.categories, wide=True, min_data_per_group=5,
        cat_smooth=1, max_cat_to_onehot=1, fit={"categorical_feature": [1, 2]})
    add("regressor, of square roots", regressor, d.real, reg_sqrt=True)
    for objective, y in (("regression_l1", d.real), ("huber", d.real), ("fair", d.real), ("quantile", d.real),
                         ("mape", d.positive), ("poisson", d.positive), ("gamma", d.positive), ("tweedie", d.positive),
                         ("cross_entropy", d.share), ("cross_entropy_lambda", d.share)):
        add(f"regressor, {objective}", regressor, y, objective=objective)
    for objective in ("lambdarank", "rank_xendcg"):
        add(f"ranker, {objective}", lgb.LGBMRanker, d.classes, objective=objective, fit={"group": [100] * 4})

    def booster(name: str, label: Any, settings: dict[str, Any] | None = None, **parameters: Any) -> None:
        def make() -> tuple[Any, Any]:
            given = {"num_leaves": 12, "min_data_in_leaf": 5} | quiet | parameters
            return lgb.train(given, lgb.Dataset(d.x, label, params=given), ROUNDS), d.x

        out.append(Configuration("lightgbm", f"Booster, {name}", make, settings or {}))

    booster("binary", d.two, objective="binary")
    booster("multiclass", d.classes, objective="multiclass", num_class=3)
    booster("margins", d.two, {"raw_score": True}, objective="binary")
    booster("iterations 3 to 8", d.real, {"start_iteration": 3, "num_iteration": 5}, objective="regression")
    return out


def _catboost() -> list[Configuration]:
    import catboost as cb

    d = data()
    out: list[Configuration] = []
    numbered = d.categories[:, [0, 1, 2]].astype(object)
    numbered[:, 1:] = np.nan_to_num(d.categories[:, 1:]).astype(int)

    def add(name: str, kind: Callable[..., Any], y: Any, x: Any = None, fit: dict[str, Any] | None = None,
            wide: bool = False, **parameters: Any) -> None:
        rows = d.x if x is None else x
        rows = rows.astype(np.float64) if wide else rows
        given = {"iterations": ROUNDS, "depth": DEPTH, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
        given |= parameters
        shown = rows if rows.dtype != object else rows.astype(np.float32)
        out.append(Configuration("catboost", name, lambda: (
            (kind(given) if kind is cb.CatBoost else kind(**given)).fit(rows, y, **(fit or {})), shown)))

    classifier, regressor = cb.CatBoostClassifier, cb.CatBoostRegressor
    add("classifier, two classes", classifier, d.two)
    add("classifier, three classes", classifier, d.classes)
    add("classifier, three classes in float64", classifier, d.classes, wide=True)
    add("classifier, words", classifier, d.words)
    add("classifier, one against all", classifier, d.classes, loss_function="MultiClassOneVsAll")
    add("classifier, shares", classifier, d.share, loss_function="CrossEntropy")
    add("classifier, several labels", classifier, d.labels, loss_function="MultiLogloss")
    add("classifier, categories", classifier, d.of_categories, numbered, cat_features=[1, 2], one_hot_max_size=20)
    add("classifier, depthwise", classifier, d.classes, grow_policy="Depthwise")
    add("classifier, NaN above all", classifier, d.two, nan_mode="Max")
    add("regressor", regressor, d.real)
    add("regressor in float64", regressor, d.real, wide=True)
    add("regressor, depthwise", regressor, d.real, grow_policy="Depthwise")
    add("regressor, by leaves", regressor, d.real, grow_policy="Lossguide", max_leaves=9, depth=8)
    add("regressor, categories", regressor, d.real, numbered, cat_features=[1, 2], one_hot_max_size=20)
    for loss, y in (("MAE", d.real), ("Quantile:alpha=0.3", d.real), ("Poisson", d.positive),
                    ("Tweedie:variance_power=1.5", d.positive), ("RMSEWithUncertainty", d.real),
                    ("MultiRMSE", d.pair), ("MultiQuantile:alpha=0.1,0.9", d.real)):
        add(f"regressor, {loss}", regressor, y, loss_function=loss)
    add("ranker", cb.CatBoostRanker, d.classes, loss_function="YetiRank",
        fit={"group_id": np.repeat(np.arange(4), 100)})
    add("plain class", cb.CatBoost, d.two, loss_function="Logloss")
    return out


def forests() -> list[Configuration]:
    """scikit-learn's own forests and boosted trees."""
    from sklearn import ensemble, tree

    d = data()
    out: list[Configuration] = []
    dense = np.nan_to_num(d.x)

    def add(name: str, kind: Callable[..., Any], y: Any, x: Any = None, **parameters: Any) -> None:
        for dtype in (np.float32, np.float64):
            rows = (d.x if x is None else x).astype(dtype)
            given = {"random_state": 0} | parameters
            said = name + (" in float64" if dtype is np.float64 else "")
            out.append(Configuration("sklearn", said, lambda rows=rows, given=given: (
                kind(**given).fit(rows, y), rows)))

    add("DecisionTreeClassifier", tree.DecisionTreeClassifier, d.classes)
    add("DecisionTreeClassifier, four leaves", tree.DecisionTreeClassifier, d.words, max_leaf_nodes=4)
    add("DecisionTreeRegressor, two targets", tree.DecisionTreeRegressor, d.pair)
    few = {"n_estimators": 30}
    add("RandomForestClassifier, two classes", ensemble.RandomForestClassifier, d.two, **few)
    add("RandomForestClassifier, three classes", ensemble.RandomForestClassifier, d.words, **few)
    add("RandomForestClassifier, shallow", ensemble.RandomForestClassifier, d.classes, max_depth=4, **few)
    add("RandomForestRegressor", ensemble.RandomForestRegressor, d.real, **few)
    add("RandomForestRegressor, two targets", ensemble.RandomForestRegressor, d.pair, **few)
    add("ExtraTreesClassifier", ensemble.ExtraTreesClassifier, d.classes, **few)
    add("ExtraTreesRegressor", ensemble.ExtraTreesRegressor, d.real, **few)
    add("GradientBoostingClassifier, two classes", ensemble.GradientBoostingClassifier, d.two, dense, **few)
    add("GradientBoostingClassifier, three classes", ensemble.GradientBoostingClassifier, d.classes, dense, **few)
    add("GradientBoostingRegressor", ensemble.GradientBoostingRegressor, d.real, dense, **few)
    add("HistGradientBoostingClassifier, two classes", ensemble.HistGradientBoostingClassifier, d.two, max_iter=30)
    add("HistGradientBoostingClassifier, three classes", ensemble.HistGradientBoostingClassifier, d.words, max_iter=30)
    add("HistGradientBoostingRegressor", ensemble.HistGradientBoostingRegressor, d.real, max_iter=30)
    add("HistGradientBoostingRegressor, Poisson", ensemble.HistGradientBoostingRegressor, d.positive, max_iter=30,
        loss="poisson")
    add("AdaBoostClassifier", ensemble.AdaBoostClassifier, d.classes, dense, **few)
    add("BaggingClassifier", ensemble.BaggingClassifier, d.classes, dense, n_estimators=8)
    return out
