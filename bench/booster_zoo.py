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


def _squares(y: Array, score: Array) -> tuple[Array, Array]:
    """Gradient and second derivative of half the square of the difference."""
    return score - y, np.ones_like(y, np.float64)


@cache
def _many_categories() -> Array:
    """A number, and one of two hundred categories."""
    d, rng = data(), np.random.default_rng(3)
    kinds = rng.integers(0, 200, len(d.x))
    kinds[: len(kinds) // 2] = kinds[: len(kinds) // 2] % 20 + 100 * d.two[: len(kinds) // 2]
    return np.stack([d.x[:, 1], kinds], 1).astype(np.float32)


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
    for method in ("exact", "approx"):
        add(f"classifier, tree_method={method}", classifier, d.classes, tree_method=method)
    add("classifier, softprob of two classes", classifier, d.two, objective="multi:softprob", num_class=2)
    add("classifier, softmax in dart", classifier, d.classes, objective="multi:softmax", booster="dart", rate_drop=0.5)
    add("classifier, hinge from 0.8", classifier, d.two, objective="binary:hinge", base_score=0.8)
    add("classifier, logitraw from 0.8", classifier, d.two, objective="binary:logitraw", base_score=0.8)
    add("classifier, three classes with categories", classifier, d.classes, d.categories, enable_categorical=True,
        feature_types=["q", "c", "c"], max_cat_to_onehot=2, max_cat_threshold=3)
    add("classifier, several labels with categories", classifier, d.labels, d.categories, enable_categorical=True,
        feature_types=["q", "c", "c"], max_cat_to_onehot=1)
    add("classifier, several labels in dart", classifier, d.labels, booster="dart", rate_drop=0.3)
    add("classifier, several labels in gblinear", classifier, d.labels, booster="gblinear")
    add("classifier, one label with float64", classifier, d.two, d.x.astype(np.float64))
    add("classifier, weights of classes", classifier, d.two, scale_pos_weight=5, max_delta_step=1)
    add("regressor, one round", regressor, d.real, n_estimators=1)
    add("regressor, of a constant", regressor, np.full(len(d.real), 2.5))
    add("regressor, missing=-9 in float64", regressor, d.real, np.nan_to_num(d.x.astype(np.float64), nan=-9),
        missing=-9)
    add("regressor, missing=0.1 in float64", regressor, d.real,
        np.nan_to_num(np.round(d.x.astype(np.float64), 1), nan=0.1), missing=0.1)
    add("regressor, missing=inf", regressor, d.real, np.nan_to_num(d.x, nan=np.inf), missing=np.inf)
    add("regressor, monotone", regressor, d.real, monotone_constraints=(1, 0, 0, -1, 0), colsample_bytree=0.6)
    add("regressor, by leaves in approx", regressor, d.real, grow_policy="lossguide", max_leaves=6,
        tree_method="approx")
    add("regressor, two targets in parallel dart", regressor, d.pair, booster="dart", num_parallel_tree=2,
        subsample=0.7, rate_drop=0.3)
    add("regressor, stopped early", regressor, d.real, n_estimators=60, early_stopping_rounds=2, learning_rate=0.9,
        fit={"eval_set": [(d.x[:60], d.real[:60][::-1])], "verbose": False})
    add("regressor, two quantiles in one tree", regressor, d.real, objective="reg:quantileerror",
        quantile_alpha=[0.2, 0.8], multi_strategy="multi_output_tree")
    add("regressor, one quantile", regressor, d.real, objective="reg:quantileerror", quantile_alpha=0.3)
    add("regressor, survival:cox", regressor, d.positive, objective="survival:cox")
    add("regressor, a loss of one's own", regressor, d.real, objective=_squares)
    for objective, base in (("count:poisson", 2.0), ("reg:gamma", 3.0), ("reg:tweedie", 0.5), ("reg:logistic", 0.2),
                            ("reg:squarederror", -4.0), ("reg:absoluteerror", 7.0)):
        add(f"regressor, {objective} from {base}", regressor, d.share if objective == "reg:logistic" else d.positive,
            objective=objective, base_score=base)
    for objective in ("count:poisson", "reg:logistic"):
        add(f"regressor, {objective} in gblinear", regressor, d.share, objective=objective, booster="gblinear")
    add("ranker, rank:map", xgb.XGBRanker, d.two, objective="rank:map", fit={"group": [100] * 4})
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
    booster("multi:softmax", d.classes, objective="multi:softmax", num_class=3)
    booster("multi:softprob of rounds 1 to 4", d.classes, {"iteration_range": (1, 4)}, objective="multi:softprob",
            num_class=3)
    booster("margins of softprob", d.classes, {"output_margin": True}, objective="multi:softprob", num_class=3)
    booster("dart", d.two, objective="binary:logistic", booster="dart", rate_drop=0.4)
    booster("gblinear", d.classes, objective="multi:softprob", num_class=3, booster="gblinear")
    booster("binary:hinge", d.two, objective="binary:hinge")
    booster("binary:logitraw", d.two, objective="binary:logitraw")
    booster("count:poisson from 2", d.positive, objective="count:poisson", base_score=2.0)
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
    add("classifier, two words", classifier, np.where(d.two, "yes", "no"))
    add("classifier, two truths", classifier, d.two.astype(bool))
    add("classifier, negative labels", classifier, d.classes * 3 - 4)
    add("classifier, extra trees", classifier, d.classes, extra_trees=True)
    add("classifier, multiclassova with sigmoid=0.7", classifier, d.classes, objective="multiclassova", sigmoid=0.7)
    add("classifier, unbalanced", classifier, d.two, is_unbalance=True, max_bin=15)
    add("classifier, two classes, random forest", classifier, d.two, boosting_type="rf", **bagged)
    add("classifier, three classes, dart", classifier, d.classes, boosting_type="dart", drop_rate=0.5)
    add("classifier, linear trees with categories", classifier, d.of_categories, d.categories, linear_tree=True,
        min_data_per_group=5, cat_smooth=1, fit={"categorical_feature": [1, 2]})
    add("classifier, categories where zero is missing", classifier, d.of_categories, d.categories,
        zero_as_missing=True, min_data_per_group=5, cat_smooth=1, max_cat_to_onehot=1,
        fit={"categorical_feature": [1, 2]})
    add("classifier, categories where nothing is missing", classifier, d.of_categories, d.categories,
        use_missing=False, min_data_per_group=5, cat_smooth=1, fit={"categorical_feature": [1, 2]})
    add("classifier, many categories", classifier, d.two, _many_categories(), min_data_per_group=2, cat_smooth=0.1,
        max_cat_threshold=64, fit={"categorical_feature": [1]})
    add("classifier, a loss of one's own", classifier, d.two, objective=_squares)
    add("regressor, of a constant", regressor, np.full(len(d.real), 2.5))
    add("regressor, stumps", regressor, d.real, num_leaves=2)
    add("regressor, leaves alone", regressor, d.real, min_child_samples=300)
    add("regressor, one round in float64", regressor, d.real, wide=True, n_estimators=1)
    add("regressor, extra trees in float64", regressor, d.real, wide=True, extra_trees=True, path_smooth=1)
    add("regressor, nothing is missing in float64", regressor, d.real, wide=True, use_missing=False)
    add("regressor, monotone", regressor, d.real, monotone_constraints=[1, 0, 0, -1, 0],
        monotone_constraints_method="advanced", feature_fraction=0.6)
    add("regressor, stopped early", regressor, d.real, n_estimators=60, learning_rate=0.9,
        fit={"eval_set": [(d.x[:60], d.real[:60][::-1])], "callbacks": [lgb.early_stopping(2, verbose=False)]})
    add("regressor, linear trees, dart", regressor, d.real, linear_tree=True, boosting_type="dart")
    add("regressor, linear trees of Poisson", regressor, d.positive, linear_tree=True, objective="poisson")
    add("regressor, random forest of L1", regressor, d.real, boosting_type="rf", objective="regression_l1", **bagged)
    add("regressor, of square roots in float64", regressor, d.positive, wide=True, reg_sqrt=True)
    add("regressor, a loss of one's own", regressor, d.real, objective=_squares)
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
    booster("multiclassova", d.classes, objective="multiclassova", num_class=3)
    booster("margins of classes", d.classes, {"raw_score": True}, objective="multiclass", num_class=3)
    booster("first five of classes", d.classes, {"num_iteration": 5}, objective="multiclass", num_class=3)
    booster("iterations 3 to 8 of a forest", d.real, {"start_iteration": 3, "num_iteration": 5}, objective="regression",
            boosting="rf", bagging_fraction=0.6, bagging_freq=1)
    booster("cross entropy", d.share, objective="cross_entropy")
    booster("no objective's words", d.two, objective="binary", sigmoid=2.0, boosting="dart")
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
    for loss, y in (("LogLinQuantile:alpha=0.4", d.positive), ("MAPE", d.positive), ("Huber:delta=0.7", d.real),
                    ("Expectile:alpha=0.3", d.real), ("Lq:q=3", d.real), ("LogCosh", d.real), ("Cox", d.positive),
                    ("Tweedie:variance_power=1.2", d.positive)):
        add(f"regressor, {loss} in depth 6", regressor, y, loss_function=loss, depth=6)
    add("regressor, SurvivalAft", cb.CatBoost, np.stack([d.positive, d.positive + 1], 1),
        loss_function="SurvivalAft:dist=Normal")
    add("regressor, MultiRMSEWithMissingValues", regressor, d.pair, loss_function="MultiRMSEWithMissingValues")
    add("classifier, MultiCrossEntropy", cb.CatBoost, np.stack([d.share, 1 - d.share], 1),
        loss_function="MultiCrossEntropy")
    add("classifier, two words", classifier, np.where(d.two, "yes", "no"))
    add("classifier, two truths", classifier, d.two.astype(bool))
    add("classifier, real labels", classifier, d.two * 1.5 - 0.5)
    add("classifier, negative labels", classifier, d.classes * 3 - 4)
    add("classifier, names of classes", classifier, d.classes, class_names=[2, 0, 1])
    add("classifier, balanced", classifier, d.classes, auto_class_weights="Balanced")
    add("classifier, by leaves", classifier, d.classes, grow_policy="Lossguide", max_leaves=7)
    add("classifier, several labels depthwise", classifier, d.labels, loss_function="MultiLogloss",
        grow_policy="Depthwise")
    add("classifier, three classes with categories", classifier, d.of_categories, numbered, cat_features=[1, 2],
        one_hot_max_size=30, depth=6)
    add("classifier, categories depthwise", classifier, d.of_categories, numbered, cat_features=[1, 2],
        one_hot_max_size=30, grow_policy="Depthwise")
    add("classifier, stopped early", classifier, d.classes, iterations=60, early_stopping_rounds=2,
        fit={"eval_set": [(d.x[:60], d.classes[:60][::-1])]})
    add("classifier, ordered", classifier, d.two, boosting_type="Ordered")
    add("regressor, depth 1", regressor, d.real, depth=1)
    add("regressor, depth 10", regressor, d.real, depth=10)
    add("regressor, one round", regressor, d.real, iterations=1)
    add("regressor, of a constant", regressor, np.append(np.full(len(d.real) - 1, 2.5), 2.6))
    add("regressor, from nothing", regressor, d.real, boost_from_average=False, border_count=16)
    add("regressor, NaN above all in float64", regressor, d.real, wide=True, nan_mode="Max")
    add("regressor, nothing may be missing", regressor, d.real, np.nan_to_num(d.x), nan_mode="Forbidden")
    add("regressor, depthwise, NaN above all", regressor, d.real, grow_policy="Depthwise", nan_mode="Max")
    add("regressor, MultiRMSE depthwise", regressor, d.pair, loss_function="MultiRMSE", grow_policy="Depthwise")
    add("regressor, monotone", regressor, d.real, monotone_constraints=[1, 0, 0, -1, 0])
    for loss in ("QueryRMSE", "QuerySoftMax", "LambdaMart"):
        add(f"ranker, {loss}", cb.CatBoostRanker, d.two if loss == "QuerySoftMax" else d.classes, loss_function=loss,
            fit={"group_id": np.repeat(np.arange(4), 100)})
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
    hist, boosted = ensemble.HistGradientBoostingRegressor, ensemble.HistGradientBoostingClassifier
    add("HistGradientBoostingRegressor, absolute", hist, d.real, max_iter=30, loss="absolute_error")
    add("HistGradientBoostingRegressor, quantile", hist, d.real, max_iter=30, loss="quantile", quantile=0.3)
    add("HistGradientBoostingRegressor, gamma", hist, d.positive, max_iter=30, loss="gamma")
    add("HistGradientBoostingRegressor, groups of features", hist, d.real, max_iter=30,
        interaction_cst=[{0, 1}, {2, 3}])
    add("HistGradientBoostingRegressor, monotone", hist, d.real, max_iter=30, monotonic_cst=[1, 0, 0, -1, 0],
        max_features=0.5)
    add("HistGradientBoostingRegressor, stopped early", hist, d.real, early_stopping=True, n_iter_no_change=3)
    add("HistGradientBoostingRegressor, categories", hist, d.real, d.categories, categorical_features=[1, 2],
        max_iter=30)
    add("HistGradientBoostingRegressor, of a constant", hist, np.full(len(d.real), 2.5), max_iter=3)
    add("HistGradientBoostingRegressor, stumps", hist, d.real, max_depth=1, max_iter=30)
    add("HistGradientBoostingClassifier, categories", boosted, d.of_categories, d.categories,
        categorical_features=[False, True, True], max_iter=30, min_samples_leaf=5)
    add("HistGradientBoostingClassifier, stopped early", boosted, d.two, early_stopping=True, class_weight="balanced")
    add("HistGradientBoostingClassifier, truths", boosted, d.two.astype(bool), max_iter=30, max_bins=12)
    add("GradientBoostingRegressor, Huber", ensemble.GradientBoostingRegressor, d.real, dense, loss="huber", **few)
    add("GradientBoostingRegressor, quantile", ensemble.GradientBoostingRegressor, d.real, dense, loss="quantile",
        alpha=0.3, **few)
    add("GradientBoostingRegressor, from nothing", ensemble.GradientBoostingRegressor, d.real, dense, init="zero",
        **few)
    add("GradientBoostingClassifier, exponential", ensemble.GradientBoostingClassifier, d.two, dense,
        loss="exponential", **few)
    add("GradientBoostingClassifier, from nothing", ensemble.GradientBoostingClassifier, d.classes, dense, init="zero",
        **few)
    add("RandomForestClassifier, several labels", ensemble.RandomForestClassifier, d.labels, **few)
    add("ExtraTreesClassifier, bootstrapped", ensemble.ExtraTreesClassifier, d.words, bootstrap=True, max_features=1,
        class_weight="balanced", **few)
    add("RandomForestRegressor, absolute", ensemble.RandomForestRegressor, d.real, criterion="absolute_error",
        max_leaf_nodes=9, **few)
    add("AdaBoostRegressor", ensemble.AdaBoostRegressor, d.real, dense, **few)
    add("AdaBoostClassifier", ensemble.AdaBoostClassifier, d.classes, dense, **few)
    add("BaggingClassifier", ensemble.BaggingClassifier, d.classes, dense, n_estimators=8)
    return out
