"""scikit-learn's estimators ready to be fitted, and small data that each of them takes: for `sklearn_coverage`."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import MinMaxScaler, StandardScaler

IRIS, KINDS = load_iris(return_X_y=True)
# Two decimals more than the data have, so that no two points are equally far from a third.
IRIS = IRIS + np.random.default_rng(0).uniform(0, 0.01, IRIS.shape)


def made(name: str, kind: Any) -> Any:
    """An estimator of the class, with the arguments that it, or one of its methods, cannot do without."""
    classifier, regressor = LogisticRegression(max_iter=300), Ridge()
    steps = [("a", StandardScaler()), ("b", MinMaxScaler())]
    given: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
        "ColumnTransformer": (([("a", StandardScaler(), [0, 1]), ("b", MinMaxScaler(), [2, 3])],), {}),
        "FeatureUnion": ((steps,), {}), "Pipeline": (([*steps, ("c", classifier)],), {}),
        "VotingClassifier": (([("a", classifier), ("b", LogisticRegression(C=0.1))],), {"voting": "soft"}),
        "VotingRegressor": (([("a", regressor), ("b", Ridge(10))],), {}),
        "StackingClassifier": (([("a", classifier), ("b", LogisticRegression(C=0.1))],), {}),
        "StackingRegressor": (([("a", regressor), ("b", Ridge(10))],), {}),
        "GridSearchCV": ((classifier, {"C": [0.1, 1]}), {}),
        "RandomizedSearchCV": ((classifier, {"C": [0.1, 1]}), {"n_iter": 2}),
        "SparseCoder": ((np.eye(4),), {}), "LocalOutlierFactor": ((), {"novelty": True}),
        "RadiusNeighborsClassifier": ((), {"radius": 5.0, "outlier_label": 0}),
        "RadiusNeighborsRegressor": ((), {"radius": 5.0}),
        "TransformedTargetRegressor": ((regressor,), {"transformer": StandardScaler()}),
        "SelectFromModel": ((classifier,), {}), "SequentialFeatureSelector": ((classifier,), {}),
        "SelectKBest": ((), {"k": 2}), "AffinityPropagation": ((), {"damping": 0.9}),
        "HistGradientBoostingClassifier": ((), {"max_iter": 15}),
        "HistGradientBoostingRegressor": ((), {"max_iter": 15}),
        "SelfTrainingClassifier": ((classifier,), {}), "MissingIndicator": ((), {}),
        "GaussianRandomProjection": ((), {"n_components": 2}), "SparseRandomProjection": ((), {"n_components": 2}),
        "Birch": ((), {"threshold": 0.2}), "SimpleImputer": ((), {"add_indicator": True}),
        "KernelPCA": ((), {"fit_inverse_transform": True}), "HashingVectorizer": ((), {"n_features": 2**10}),
        "FeatureHasher": ((), {"n_features": 2**10}), "PatchExtractor": ((), {"patch_size": (2, 2)}),
    }
    if name in given:
        positional, named = given[name]
        estimator = kind(*positional, **named)
    elif name in ("RFE", "RFECV", "CalibratedClassifierCV", "FixedThresholdClassifier", "TunedThresholdClassifierCV",
                  "OneVsRestClassifier", "OneVsOneClassifier", "OutputCodeClassifier", "MultiOutputClassifier",
                  "ClassifierChain"):
        estimator = kind(classifier)
    elif name in ("MultiOutputRegressor", "RegressorChain"):
        estimator = kind(regressor)
    else:
        estimator = kind()
    settings = estimator.get_params(deep=False)
    if "random_state" in settings:
        estimator.set_params(random_state=0)
    if settings.get("n_estimators") == 100:
        estimator.set_params(n_estimators=20)
    return estimator


def data(name: str, dtype: Any) -> tuple[Any, Any]:
    """What to fit the estimator on."""
    if name in ("DictVectorizer", "FeatureHasher"):
        return [{"length": dtype(a), "width": dtype(b), "kind": str(k)} for (a, b, *_), k in zip(IRIS, KINDS)], KINDS
    if name == "PatchExtractor":
        return IRIS[:36].reshape(4, 6, 6).astype(dtype), None
    x = IRIS.astype(dtype)
    y: Any = KINDS
    if name in ("MultiOutputClassifier", "ClassifierChain"):
        y = np.stack([KINDS == 1, KINDS > 0], 1).astype(int)
    elif name.startswith(("MultiTask", "MultiOutputR", "RegressorChain", "PLS", "CCA")):
        x, y = x, IRIS[:, 2:] @ np.array([[1.0, 0.3], [0.2, 1.0]]) + IRIS[:, :2] ** 2
    elif name in ("FixedThresholdClassifier", "TunedThresholdClassifierCV"):
        y = (KINDS == 1).astype(int)
    elif name in ("IsotonicRegression",):
        x, y = x[:, :1], IRIS[:, 2]
    elif name.endswith("Regressor") or name in ("KernelRidge", "SVR", "NuSVR"):
        y = IRIS[:, 2] + 0.3 * IRIS[:, 0] ** 2
    if name in ("CategoricalNB", "OneHotEncoder", "OrdinalEncoder", "TargetEncoder"):
        x = np.floor(x)
    if name == "BernoulliNB":
        x = (x > x.mean(0)).astype(dtype)
    if name == "MissingIndicator" or name in ("SimpleImputer", "KNNImputer"):
        x = x.copy()
        x[::7, 1] = np.nan
    if name == "LabelEncoder":
        return y, None
    if name == "KernelCenterer":
        x = (x[:30] @ x[:30].T).astype(dtype)
    if name == "TargetEncoder":
        y = IRIS[:, 2]
    return x, y
