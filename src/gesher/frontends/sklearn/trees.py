"""Trees, forests and gradient boosting, as one tree ensemble each.

scikit-learn compares features, rounded to float32, with thresholds in float64, and sums in float64. Labels are of exact
sums, so that a tie of votes is one here too; `frontends/forest.py` tells how.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.frontends.forest import LEQ, ML, WIDE, Trees, round_down
from gesher.ir import Value

from .translation import Array, Outputs, Translation, composes, translates

__all__ = ["ML", "WIDE_ML_OPSET", "Trees", "add_tree", "has_shared_leaves", "isolation_depths", "round_down"]

WIDE_ML_OPSET = WIDE


def add_tree(forest: Trees, tree: Any, weights: Array, targets: int | Sequence[int], features: Any = None) -> None:
    """Add a `sklearn.tree._tree.Tree`.

    Args:
        weights: (nodes, targets) what a leaf adds.
        features: the columns that the tree was fitted on, where those are not the first.
    """
    missing = getattr(tree, "missing_go_to_left", np.zeros(tree.node_count))
    read = tree.feature if features is None else np.asarray(features)[np.maximum(tree.feature, 0)]
    forest.add(read, tree.threshold, tree.children_left, tree.children_right, missing, weights, targets)


def has_shared_leaves(estimator: Any) -> bool:
    """True for trees whose leaves give to several targets, which TreeEnsemble has no word for."""
    name = type(estimator).__name__
    return name in ("DecisionTreeClassifier", "ExtraTreeClassifier", "RandomForestClassifier", "ExtraTreesClassifier",
                    "RandomTreesEmbedding"
                    ) or (name.endswith(("TreeRegressor", "ForestRegressor", "TreesRegressor"))
                          and estimator.n_outputs_ > 1)


def isolation_depths(forest: Trees, model: Any) -> None:
    """The trees of an isolation forest, whose leaves give how deep they lie, their own samples' depth included."""
    from sklearn.ensemble._iforest import _average_path_length

    for estimator, features in zip(model.estimators_, model.estimators_features_):
        tree = estimator.tree_
        depth = np.zeros(tree.node_count)
        for i in range(tree.node_count):
            # A child comes after its parent.
            for child in (tree.children_left[i], tree.children_right[i]):
                if child >= 0:
                    depth[child] = depth[i] + 1
        weights = depth + _average_path_length(tree.n_node_samples)
        add_tree(forest, tree, weights, 0, features)


def _proportions(tree: Any, classes: Sequence[Array]) -> Array:
    """(nodes, classes of all outputs): what part of each node's samples is of each class."""
    parts = []
    for k, named in enumerate(classes):
        values = tree.value[:, k, :len(named)]
        total = values.sum(1, keepdims=True)
        parts.append(values / np.where(total == 0, 1, total))
    return np.concatenate(parts, 1)


def _classifier(t: Translation, model: Any, trees: list[Any], x: Value) -> Outputs:
    several = model.n_outputs_ > 1
    classes = [np.asarray(c) for c in (model.classes_ if several else [model.classes_])]
    sizes = [len(c) for c in classes]
    forest = Trees(LEQ, sum(sizes))
    for tree in trees:
        add_tree(forest, tree, _proportions(tree, classes), range(sum(sizes)))
    sums = forest.tallies(t.b, x)
    exact = t.b.dtype(sums)
    shares = sums if len(trees) == 1 else t.b.Div(sums, t.b.constant(np.array(len(trees), exact.numpy)))
    shares = shares if exact is t.dtype else t.b.Cast(shares, to=t.dtype.code)
    if several:
        return Outputs(label=t.choose_each(classes, t.slices(sums, sizes)), probabilities_of=t.slices(shares, sizes))
    return Outputs(label=t.choose(classes[0], sums), probabilities=shares)


def _regressor(t: Translation, model: Any, trees: list[Any], x: Value) -> Outputs:
    targets = model.n_outputs_
    forest = Trees(LEQ, targets)
    for tree in trees:
        add_tree(forest, tree, tree.value[:, :, 0] / len(trees), range(targets))
    prediction = forest.votes(t.b, x)
    return Outputs(prediction=t.flat(prediction) if targets == 1 else prediction)


@translates("tree.DecisionTreeClassifier", "tree.ExtraTreeClassifier")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    return _classifier(t, model, [model.tree_], x)


@translates("ensemble.RandomForestClassifier", "ensemble.ExtraTreesClassifier")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    return _classifier(t, model, [e.tree_ for e in model.estimators_], x)


@translates("tree.DecisionTreeRegressor", "tree.ExtraTreeRegressor")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    return _regressor(t, model, [model.tree_], x)


@translates("ensemble.RandomForestRegressor", "ensemble.ExtraTreesRegressor")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    return _regressor(t, model, [e.tree_ for e in model.estimators_], x)


def _is_same_for_all(init: Any) -> bool:
    return isinstance(init, str) or type(init).__name__ in ("DummyClassifier", "DummyRegressor")


composes(lambda e: [] if _is_same_for_all(e.init_) else [e.init_], "ensemble.GradientBoostingClassifier",
         "ensemble.GradientBoostingRegressor")


def _first_guess(t: Translation, model: Any, x: Value) -> Value:
    """(rows, classes or 1) where an estimator makes it: its answer, on the scale that the trees add to."""
    narrow = x if t.dtype is dtypes.FLOAT else t.b.Cast(t.b.Cast(x, to=dtypes.FLOAT.code), to=t.dtype.code)
    made = t.apply(model.init_, narrow)
    if made.prediction is not None:
        return t.upright(made.prediction)
    if made.probabilities is None:
        raise UnsupportedError(f"{type(model).__name__}(init={type(model.init_).__name__}) without probabilities has "
                               "no way to ONNX yet", who="sklearn")
    wide, tiny = t.wide(), np.finfo(np.float64).eps
    shares = wide.b.Clip(wide.matrix(made.probabilities), wide.constant(tiny), wide.constant(1 - tiny))
    if model.estimators_.shape[1] == 1:
        second = wide.column(shares, 1)
        raw = wide.b.Log(wide.b.Div(second, wide.b.Sub(wide.constant(1), second)))
        raw = wide.b.Mul(raw, wide.constant(0.5)) if model.loss == "exponential" else raw
    else:
        logs = wide.b.Log(shares)
        raw = wide.b.Sub(logs, wide.b.Div(wide.total(logs), wide.constant(model.n_classes_)))
    return raw if t.dtype is dtypes.DOUBLE else t.b.Cast(raw, to=t.dtype.code)


def _boosted(t: Translation, model: Any, x: Value) -> Value:
    """The raw scores (rows, classes or 1) of gradient boosting: a first guess, and a tree a stage and column."""
    stages = model.estimators_
    same = _is_same_for_all(model.init_)
    base = np.asarray(model._raw_predict_init(np.zeros((1, model.n_features_in_), np.float32)), float)[0] if same else 0
    forest = Trees(LEQ, stages.shape[1])
    for stage in stages:
        for k, tree in enumerate(stage):
            add_tree(forest, tree.tree_, model.learning_rate * tree.tree_.value[:, :, 0], k)
    votes = forest.votes(t.b, x, base)
    return votes if same else t.b.Add(votes, _first_guess(t, model, x))


def _with_slack(model: Any, made: Outputs) -> Outputs:
    """An estimator that makes the first guess is fed float32, and computes with it."""
    if not _is_same_for_all(model.init_):
        made.slack, made.slack_of = 1e-4, ("probabilities", "log_probabilities", "scores", "prediction")
    return made


@translates("ensemble.GradientBoostingClassifier")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    scores = _boosted(t, model, x)
    classes = np.asarray(model.classes_)
    if len(classes) > 2:
        return _with_slack(model, Outputs(
            label=t.choose(classes, scores), probabilities=t.b.Softmax(scores, axis=1), scores=scores,
            log_probabilities=t.b.LogSoftmax(scores, axis=1)))
    # The exponential loss models half the log odds.
    margin = t.b.Mul(scores, t.constant(2)) if model.loss == "exponential" else scores
    # At a score of exactly zero both classes are equally likely, and scikit-learn's own rule is `>= 0`.
    at_least = t.b.GreaterOrEqual(scores, t.constant(0))
    index = t.b.Squeeze(t.b.Cast(at_least, to=7), t.b.constant(np.array([1], np.int64)))
    return _with_slack(model, Outputs(
        label=t.labels(classes, index), probabilities=t.two(t.b.Sigmoid(margin)), scores=scores,
        log_probabilities=t.log_two(margin, True)))


@translates("ensemble.GradientBoostingRegressor")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    scores = _boosted(t, model, x)
    return _with_slack(model, Outputs(prediction=t.b.Squeeze(scores, t.b.constant(np.array([1], np.int64)))))
