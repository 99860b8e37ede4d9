"""Histogram gradient boosting: trees over float64 features, each with a side for missing values.

Categories are encoded before the trees, whose sets of codes become intervals.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.frontends.forest import LEQ, Ranges, Trees
from gesher.ir import Value

from .tables import Table
from .translation import Outputs, Translation, columnwise, translates

columnwise("ensemble.HistGradientBoostingClassifier", "ensemble.HistGradientBoostingRegressor")


def _features(t: Translation, model: Any, x: Value | Table) -> Value:
    """What the trees read: the codes of the categorical columns (NaN for missing and unknown ones), then the others."""
    if model._preprocessor is None:
        return t.matrix(x, model)
    encoder = model._preprocessor.named_transformers_["encoder"]
    categorical = np.asarray(model.is_categorical_, bool)
    parts: list[Value | Table] = []
    for name, chosen in (("categories", categorical), ("numbers", ~categorical)):
        if chosen.any():
            part = t.pick(x, np.flatnonzero(chosen), f"{name}.columns")
            made = t.apply(encoder, part).transformed if name == "categories" else part
            assert made is not None
            parts.append(t.matrix(made, model))
    return t.matrix(t.beside(parts), model)


def _bits(words: Any) -> np.ndarray[Any, Any]:
    """(256,) truth values of a set of 8 words of 32 bits."""
    return (np.asarray(words, np.uint32)[:, None] >> np.arange(32, dtype=np.uint32) & 1).reshape(-1).astype(bool)


def _sides(left: np.ndarray[Any, Any], known: np.ndarray[Any, Any], missing_left: bool) -> Ranges:
    """The question whether a code goes left. One that no tree has seen goes where missing values go.

    Args:
        left, known: (256,) whether each code goes left, and whether training has met it.
    """
    yes = np.where(known | left, left, missing_left)
    turns = np.flatnonzero(yes[1:] != yes[:-1])
    return Ranges(turns + 0.5, yes[np.append(0, turns + 1)], missing_left)


def _raw(t: Translation, model: Any, x: Value | Table) -> Value:
    """The raw scores (rows, trees of an iteration)."""
    features = _features(t, model, x)
    known, place = (None, None)
    if model._preprocessor is not None:
        known, place = model._bin_mapper.make_known_categories_bitsets()
    forest = Trees(LEQ, len(model._predictors[0]), float32_features=False)
    for stage in model._predictors:
        for k, predictor in enumerate(stage):
            nodes = predictor.nodes
            leaf = nodes["is_leaf"].astype(bool)
            asked = {}
            for i in np.flatnonzero(nodes["is_categorical"].astype(bool) & ~leaf).tolist():
                node = nodes[i]
                assert known is not None and place is not None
                asked[i] = _sides(_bits(predictor.raw_left_cat_bitsets[node["bitset_idx"]]),
                                  _bits(known[place[node["feature_idx"]]]), bool(node["missing_go_to_left"]))
            split = np.where(nodes["is_categorical"].astype(bool), 0, nodes["num_threshold"])
            forest.add(nodes["feature_idx"], split, np.where(leaf, -1, nodes["left"].astype(np.int64)),
                       nodes["right"], nodes["missing_go_to_left"], nodes["value"], k, asked)
    return forest.votes(t.b, features, np.asarray(model._baseline_prediction).reshape(-1))


@translates("ensemble.HistGradientBoostingClassifier")
def _(t: Translation, model: Any, x: Value | Table) -> Outputs:
    scores = _raw(t, model, x)
    if len(model.classes_) > 2:
        return Outputs(label=t.choose(model.classes_, scores), probabilities=t.b.Softmax(scores, axis=1),
                       scores=scores)
    return Outputs(label=t.sign(model.classes_, scores), probabilities=t.two(t.b.Sigmoid(scores)), scores=scores)


@translates("ensemble.HistGradientBoostingRegressor")
def _(t: Translation, model: Any, x: Value | Table) -> Outputs:
    scores = _raw(t, model, x)
    if model.loss in ("gamma", "poisson"):
        scores = t.b.Exp(scores)
    return Outputs(prediction=t.flat(scores))
