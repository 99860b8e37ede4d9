"""One estimator, whole: is all of it known, the graph, and the trials that it must pass."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.evaluator.tables import COLUMNS
from gesher.frontends.protocol import Exported, ExportOptions, Trial
from gesher.ir import Model
from gesher.ops.build import Builder
from gesher.symbolic import sym

from .translation import TRANSLATORS, Outputs, Translation, find_translator, members_of
from .trees import WIDE_ML_OPSET, has_shared_leaves

DEFAULT_OPSET = 21
ML, ML_OPSET = "ai.onnx.ml", 3

# Outputs of a model, in their order, and the method of the estimator that answers each.
METHODS = (("label", "predict"), ("probabilities", "predict_proba"), ("scores", "decision_function"),
           ("prediction", "predict"), ("transformed", "transform"), ("log_density", "score_samples"),
           ("distances", "kneighbors"), ("neighbors", "kneighbors"))


def translate(estimator: Any, example: Any, options: ExportOptions) -> Exported:
    """The model of a fitted estimator, and its trials.

    Raises:
        UnsupportedError: it is not fitted, or parts of it have no translator; all are named at once.
    """
    features = _features(estimator, example)
    unknown = sorted({type(e).__name__ for e in _parts(estimator) if find_translator(e) is None})
    if unknown:
        raise UnsupportedError(f"{', '.join(unknown)} {'has' if len(unknown) == 1 else 'have'} no way to ONNX yet",
                               who="sklearn",
                               advice="these have: " + ", ".join(sorted(n.split(".")[-1] for n in TRANSLATORS)))
    rows = None if example is None else np.asarray(example)
    dtype = dtypes.DOUBLE if rows is not None and rows.dtype == np.float64 else dtypes.FLOAT
    name = (options.names.get("inputs") or ["X"])[0]
    wide = dtype is dtypes.DOUBLE and not any(has_shared_leaves(e) for e in _parts(estimator))
    b = Builder({"": options.opset or DEFAULT_OPSET, ML: WIDE_ML_OPSET if wide else ML_OPSET}, type(estimator).__name__)
    x = b.input(name, dtype, (sym("rows"), features))
    made = Translation(b, dtype).apply(estimator, x)
    outputs = {o: getattr(made, o) for o, method in METHODS if getattr(made, o) is not None}
    # Scores are given out only where there is nothing plainer: a margin without probabilities.
    if "probabilities" in outputs or "prediction" in outputs:
        outputs.pop("scores", None)
    if not outputs:
        raise UnsupportedError(f"{type(estimator).__name__} neither predicts nor transforms", who="sklearn")
    names = options.names.get("outputs") or list(outputs)
    for given, value in zip(names, outputs.values()):
        b.output(value, given)
    import sklearn

    told = {"gesher.source": f"scikit-learn {sklearn.__version__}"}
    if (columns := getattr(estimator, "feature_names_in_", None)) is not None:
        told[COLUMNS] = json.dumps([str(c) for c in columns])
    model: Model = b.model(producer_name="gesher", metadata=told)
    trials = _trials(estimator, rows, features, dtype, name, dict(zip(outputs, names)), made.in_float64)
    if made.slack and dtype is dtypes.DOUBLE and "transformed" in outputs:
        trials = [replace(t, atol={dict(zip(outputs, names))["transformed"]: made.slack}) for t in trials]
    return Exported(model, trials)


def _features(estimator: Any, example: Any) -> int:
    n = getattr(estimator, "n_features_in_", 1 if hasattr(estimator, "X_thresholds_") else None)
    if n is None:
        raise UnsupportedError(f"{type(estimator).__name__} is not fitted", who="sklearn",
                               advice="call fit before exporting")
    if example is not None and np.ndim(example) != 2:
        raise UnsupportedError(f"the example is no matrix of rows and features, its shape is {np.shape(example)}",
                               who="sklearn")
    if example is not None and np.shape(example)[1] != n:
        raise UnsupportedError(f"the example has {np.shape(example)[1]} features, {type(estimator).__name__} takes {n}",
                               who="sklearn")
    return int(n)


def _parts(estimator: Any) -> Iterator[Any]:
    """The estimator and those that composing ones hold."""
    yield estimator
    for inner in members_of(estimator):
        yield from _parts(inner)


def _thresholds(estimator: Any) -> Iterator[tuple[int, float]]:
    """(feature, threshold) of the trees, where the estimator is one or ends in one."""
    last = estimator.steps[-1][1] if type(estimator).__name__ == "Pipeline" and len(estimator.steps) == 1 else estimator
    held = [last] if hasattr(last, "tree_") else np.ravel(getattr(last, "estimators_", []))
    trees = [e.tree_ for e in held if hasattr(getattr(e, "tree_", None), "children_left")]
    for tree in trees[:20]:
        inner = tree.children_left >= 0
        yield from zip(tree.feature[inner].tolist()[:50], tree.threshold[inner].tolist()[:50])


def _trials(estimator: Any, rows: Any, features: int, dtype: Any, name: str, outputs: dict[str, str],
            in_float64: bool = False) -> list[Trial]:
    """The example's rows, single rows, random rows of the same spread, and rows that lie exactly on thresholds."""
    rng = np.random.default_rng(0)
    kind = dtype.numpy
    if rows is not None and len(rows):
        real = np.asarray(rows, kind)
        mixed = np.stack([rng.choice(real[:, j], 200) for j in range(features)], 1)
        sets = {"example": real[:2000], "one row": real[:1], "columns shuffled": mixed.astype(kind)}
    else:
        spread = _spread(estimator, features)
        sets = {"random rows": (rng.standard_normal((200, features)) * spread[1] + spread[0]).astype(kind)}
        sets["one row"] = sets["random rows"][:1]
    on = list(_thresholds(estimator))
    if on:
        base = np.resize(next(iter(sets.values())), (min(len(on), 500), features)).copy()
        for i, (feature, threshold) in enumerate(on[:len(base)]):
            base[i, feature] = threshold
        sets["rows on thresholds"] = base
    trials = []
    for title, x in sets.items():
        answers = {}
        for output, given in outputs.items():
            answer = _answer(estimator, output, x.astype(np.float64) if in_float64 else x)
            answers[given] = _as_model(output, answer, dtype, outputs)
        trials.append(_without_ties(Trial(title, {name: x}, answers), estimator, outputs))
    return trials


def _spread(estimator: Any, features: int) -> tuple[Any, Any]:
    """Mean and scale of the features, where a scaler that stands first knows them."""
    first = estimator.steps[0][1] if type(estimator).__name__ == "Pipeline" else estimator
    mean, scale = getattr(first, "mean_", None), getattr(first, "scale_", None)
    thresholds = list(_thresholds(estimator))
    if thresholds:
        values = np.array([v for _, v in thresholds])
        return float(values.mean()), float(values.std() + 1)
    usable = scale is not None and np.shape(scale) == (features,) and mean is not None
    return (mean, scale) if usable else (0.0, 1.0)


def _answer(estimator: Any, output: str, x: Any) -> np.ndarray[Any, Any]:
    """What scikit-learn itself says; a sparse matrix as a dense one."""
    said = getattr(estimator, dict(METHODS)[output])(x)
    if output in ("distances", "neighbors"):
        said = said[("distances", "neighbors").index(output)]
    answer = np.asarray(said.toarray() if hasattr(said, "toarray") else said)
    # SparsePCA gives a single row as a vector.
    return answer.reshape(len(x), -1) if output == "transformed" else answer


def _as_model(output: str, answer: np.ndarray[Any, Any], dtype: Any, outputs: dict[str, str]) -> np.ndarray[Any, Any]:
    """An answer in the type and shape that the model gives it."""
    if answer.dtype.kind in "US" or answer.dtype == object:
        return answer.astype(str).astype(object)
    if output in ("label", "neighbors") and answer.dtype.kind in "iub":
        return answer.astype(np.int64)
    answer = answer.astype(dtype.numpy)
    return answer[:, None] if output == "scores" and answer.ndim == 1 else answer


def _clearly_near(estimator: Any, x: Any) -> np.ndarray[Any, Any]:
    """True for the rows whose k nearest neighbours are told from the next, and apart, by more than rounding.

    Of points equally far scikit-learn takes whichever its search meets first, which no other search can know.
    """
    if type(estimator).__name__ == "Pipeline" and len(estimator.steps) > 1 and hasattr(estimator[-1], "kneighbors"):
        estimator, x = estimator[-1], estimator[:-1].transform(x)
    k = getattr(estimator, "n_neighbors", None)
    if not hasattr(estimator, "kneighbors") or not isinstance(k, (int, np.integer)):
        return np.ones(len(x), bool)
    distances = np.asarray(estimator.kneighbors(x, min(k + 2, estimator.n_samples_fit_))[0], float)
    clear: np.ndarray[Any, Any] = (np.diff(distances, axis=1) > 1e-6 * distances.max(initial=1e-30)).all(1)
    return clear


def _without_ties(trial: Trial, estimator: Any, outputs: dict[str, str]) -> Trial:
    """The trial without the rows whose best two classes are nearer than rounding can tell: their label is a toss-up."""
    (name, x), = trial.feeds.items()
    near = _clearly_near(estimator, x)
    if not near.all() and near.any():
        trial = Trial(trial.name, {name: x[near]}, {k: v[near] for k, v in trial.answers.items()})
    elif len(x) == 1 and not near.any():
        # A single row that is a toss-up still has to run.
        return Trial(trial.name, trial.feeds, {})
    if "label" not in outputs:
        return trial
    method = "decision_function" if hasattr(estimator, "decision_function") else "predict_proba"
    if not hasattr(estimator, method):
        return trial
    (name, x), = trial.feeds.items()
    scores = np.asarray(getattr(estimator, method)(x), float)
    if scores.ndim == 1:
        gap, size = np.abs(scores), np.abs(scores).max(initial=1)
    elif scores.ndim == 2 and scores.shape[1] > 1:
        best = np.sort(scores, 1)
        gap, size = best[:, -1] - best[:, -2], np.abs(scores).max(initial=1)
    else:
        return trial
    keep = gap > 1e-5 * size
    return Trial(trial.name, {name: x[keep]}, {k: v[keep] for k, v in trial.answers.items()}) if keep.any() else trial


__all__ = ["Outputs", "translate"]
