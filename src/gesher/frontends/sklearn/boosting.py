"""Histogram gradient boosting: trees over float64 features, each with a side for missing values."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.frontends.forest import LEQ, Trees
from gesher.ir import Value

from .translation import Outputs, Translation, refuse, translates


def _raw(t: Translation, model: Any, x: Value) -> Value:
    """The raw scores (rows, trees of an iteration)."""
    if getattr(model, "is_categorical_", None) is not None:
        raise refuse(model, "(categorical_features=...)", "encode the categories before it, e.g. one-hot")
    forest = Trees(LEQ, len(model._predictors[0]), float32_features=False)
    for stage in model._predictors:
        for k, predictor in enumerate(stage):
            nodes = predictor.nodes
            leaf = nodes["is_leaf"].astype(bool)
            forest.add(nodes["feature_idx"], nodes["num_threshold"], np.where(leaf, -1, nodes["left"].astype(np.int64)),
                       nodes["right"], nodes["missing_go_to_left"], nodes["value"], k)
    return forest.votes(t.b, x, np.asarray(model._baseline_prediction).reshape(-1))


@translates("ensemble.HistGradientBoostingClassifier")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    scores = _raw(t, model, x)
    if len(model.classes_) > 2:
        return Outputs(label=t.choose(model.classes_, scores), probabilities=t.b.Softmax(scores, axis=1),
                       scores=scores)
    return Outputs(label=t.sign(model.classes_, scores), probabilities=t.two(t.b.Sigmoid(scores)), scores=scores)


@translates("ensemble.HistGradientBoostingRegressor")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    scores = _raw(t, model, x)
    if model.loss in ("gamma", "poisson"):
        scores = t.b.Exp(scores)
    return Outputs(prediction=t.flat(scores))
