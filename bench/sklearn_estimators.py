"""How much of scikit-learn crosses: every estimator that predicts, transforms or scores, in float32 and float64.

    python bench/sklearn_estimators.py [--only NAME ...] [--verbose]

Each is fitted on small data and exported; the export is verified on the reference engine by itself, then ONNX Runtime
must answer the same. What is refused is refused with its reason; anything else is wrong. The exit status is 1 where
something is wrong.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils import all_estimators

import gesher
from gesher.evaluator.difference import difference
from gesher.frontends import verify
from gesher.frontends.protocol import ExportOptions

METHODS = ("predict", "transform", "score_samples", "kneighbors", "decision_function")
IRIS, KINDS = load_iris(return_X_y=True)
# Two decimals more than the data have, so that no two points are equally far from a third.
IRIS = IRIS + np.random.default_rng(0).uniform(0, 0.01, IRIS.shape)


@dataclass(frozen=True)
class Outcome:
    """What became of one estimator: "right", "refused" or "wrong", and why."""

    name: str
    dtype: str
    status: str
    why: str = ""


def made(name: str, kind: Any) -> Any:
    """An estimator of the class, with the arguments that it cannot do without."""
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
        "Birch": ((), {"threshold": 0.2}), "SimpleImputer": ((), {}),
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


def data(name: str, dtype: Any) -> tuple[np.ndarray[Any, Any], Any]:
    """What to fit the estimator on."""
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


def outcome(name: str, kind: Any, dtype: Any) -> Outcome:
    """Fit, export, verify, and ask ONNX Runtime."""
    said = np.dtype(dtype).name
    x, y = data(name, dtype)
    try:
        estimator = made(name, kind)
        estimator.fit(x) if y is None else estimator.fit(x, y)
    except Exception as e:
        return Outcome(name, said, "refused", f"takes other data than a matrix of numbers: {str(e)[:90]}")
    try:
        example = estimator.transform(x) if name == "KernelCenterer" else x
        return engines(estimator, example, name, said)
    except gesher.UnsupportedError as e:
        return Outcome(name, said, "refused", e.what)
    except Exception as e:
        return Outcome(name, said, "wrong", f"{type(e).__name__}: {getattr(e, 'what', e)}"[:300])


def engines(estimator: Any, x: Any, name: str, dtype: str) -> Outcome:
    """The export on both engines."""
    from gesher.frontends import frontend_for

    exported = frontend_for(estimator).export(estimator, x, ExportOptions())
    verify(exported)
    with gesher.session(exported.model, "onnxruntime") as session:
        for trial in exported.trials:
            got = session.run(trial.feeds)
            for output, answer in trial.answers.items():
                d = difference(got[output], answer, rtol=trial.rtol.get(output), atol=trial.atol.get(output))
                if not d.ok:
                    return Outcome(name, dtype, "wrong", f"onnxruntime: {output} of '{trial.name}': "
                                                         f"{d.why or d.max_abs}")
    return Outcome(name, dtype, "right", ", ".join(v.name for v in exported.model.graph.outputs))


def sweep(only: list[str] | None = None) -> Iterator[Outcome]:
    """All outcomes, by name."""
    warnings.simplefilter("ignore")
    for name, kind in all_estimators():
        if any(hasattr(kind, m) for m in METHODS) and (not only or name in only):
            for dtype in (np.float32, np.float64):
                yield outcome(name, kind, dtype)


def main() -> int:
    parser = argparse.ArgumentParser(description="how much of scikit-learn crosses")
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--verbose", action="store_true", help="also print what is right")
    args = parser.parse_args()
    outcomes = list(sweep(args.only))
    for o in outcomes:
        if args.verbose or o.status != "right":
            print(f"{o.name:32} {o.dtype:8} {o.status:8} {o.why}")
    for dtype in ("float32", "float64"):
        counts = Counter(o.status for o in outcomes if o.dtype == dtype)
        print(f"{dtype}: " + ", ".join(f"{counts[s]} {s}" for s in ("right", "refused", "wrong")))
    return int(any(o.status == "wrong" for o in outcomes))


if __name__ == "__main__":
    sys.exit(main())
