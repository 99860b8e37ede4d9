"""Trees, forests and gradient boosting, as one tree ensemble each.

scikit-learn compares features, rounded to float32, with thresholds in float64. A threshold that float32 cannot hold is
rounded towards minus infinity: for float32 features `x <= t` and `x <= round_down(t)` are then the same, so every row
takes the branch that it took in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.ir import Tensor, Value

from .translation import Array, Outputs, Translation, translates

ML = "ai.onnx.ml"
# From here on TreeEnsemble sums float64 in float64; TreeEnsembleRegressor answers in float32 whatever it is fed.
WIDE_ML_OPSET = 5


def round_down(threshold: Array) -> Array:
    """The largest float32 that is not above each float64."""
    near = threshold.astype(np.float32)
    return np.where(near.astype(np.float64) > threshold, np.nextafter(near, np.float32(-np.inf)), near)


@dataclass(slots=True)
class Ensemble:
    """The lists that TreeEnsembleRegressor and -Classifier take, filled tree by tree."""

    nodes: dict[str, list[Array]] = field(default_factory=dict)
    leaves: dict[str, list[Array]] = field(default_factory=dict)
    trees: int = 0

    def add(self, tree: Any, weights: Array, targets: Sequence[int]) -> None:
        """A `sklearn.tree._tree.Tree` whose leaf `i` gives `weights[i, j]` to `targets[j]`."""
        missing = getattr(tree, "missing_go_to_left", np.zeros(tree.node_count))
        self.add_nodes(tree.children_left < 0, tree.feature, tree.threshold, tree.children_left, tree.children_right,
                       missing, weights, targets)

    def add_nodes(self, leaf: Array, feature: Array, threshold: Array, left: Array, right: Array, missing: Array,
                  weights: Array, targets: Sequence[int]) -> None:
        """A tree by its arrays, each over its nodes; `missing` is true where a missing value goes left."""
        n = len(leaf)
        ids = np.arange(n)
        for name, values in (
                ("treeids", np.full(n, self.trees)), ("nodeids", ids), ("featureids", np.where(leaf, 0, feature)),
                ("values", np.where(leaf, 0, threshold)), ("modes", np.where(leaf, "LEAF", "BRANCH_LEQ")),
                ("truenodeids", np.where(leaf, 0, left)), ("falsenodeids", np.where(leaf, 0, right)),
                ("missing_value_tracks_true", np.where(leaf, 0, missing))):
            self.nodes.setdefault(name, []).append(values)
        at = ids[leaf]
        for j, target in enumerate(targets):
            # A leaf that gives nothing to a target needs no weight; but each leaf keeps one, so that all are named.
            given = weights[at, j] != 0 if j else np.ones(len(at), bool)
            for name, values in (
                    ("treeids", np.full(int(given.sum()), self.trees)), ("nodeids", at[given]),
                    ("ids", np.full(int(given.sum()), target)), ("weights", weights[at, j][given])):
                self.leaves.setdefault(name, []).append(values)
        self.trees += 1

    def votes(self, t: Translation, x: Value, targets: int, base: Array | None = None, *,
              float32_features: bool = True) -> Value:
        """The summed weights (rows, targets); histogram boosting alone compares float64 features as they are."""
        nodes = {k: np.concatenate(v) for k, v in self.nodes.items()}
        leaves = {k: np.concatenate(v) for k, v in self.leaves.items()}
        wide = t.dtype is dtypes.DOUBLE
        thresholds = round_down(nodes["values"]) if float32_features or not wide else nodes["values"]
        if wide and t.b.opsets[ML] >= WIDE_ML_OPSET:
            if float32_features:
                x = t.b.Cast(t.b.Cast(x, to=dtypes.FLOAT.code), to=dtypes.DOUBLE.code)
            votes = self._wide_votes(t, x, targets, nodes, leaves, thresholds)
            return votes if base is None else t.b.Add(votes, t.constant(base, "baseline"))
        a: dict[str, Any] = {f"nodes_{k}": v.tolist() for k, v in nodes.items() if k != "values"}
        if not any(a["nodes_missing_value_tracks_true"]):
            del a["nodes_missing_value_tracks_true"]
        a |= {f"target_{k}": v.tolist() for k, v in leaves.items() if k != "weights"}
        if wide:
            # Trees see float32 features also where the model's type is float64.
            a["nodes_values_as_tensor"] = Tensor.of(thresholds.astype(np.float64))
            a["target_weights_as_tensor"] = Tensor.of(leaves["weights"].astype(np.float64))
            if float32_features:
                x = t.b.Cast(t.b.Cast(x, to=dtypes.FLOAT.code), to=dtypes.DOUBLE.code)
        else:
            a["nodes_values"] = thresholds.tolist()
            a["target_weights"] = leaves["weights"].astype(np.float32).tolist()
        a |= {"n_targets": targets, "aggregate_function": "SUM", "post_transform": "NONE"}
        votes = t.b.op("TreeEnsembleRegressor", x, domain=ML, **a)
        if wide:
            votes = t.b.Cast(votes, to=dtypes.DOUBLE.code)
        return votes if base is None else t.b.Add(votes, t.constant(base, "baseline"))

    @staticmethod
    def _wide_votes(t: Translation, x: Value, targets: int, nodes: dict[str, Array], leaves: dict[str, Array],
                    thresholds: Array) -> Value:
        """The sums by TreeEnsemble, which numbers inner nodes and leaves apart and over all trees."""
        leaf = nodes["modes"] == "LEAF"
        if len(leaves["weights"]) != leaf.sum():
            raise UnsupportedError("leaves that give to several targets have no way to a float64 TreeEnsemble",
                                   who="sklearn", advice="give a float32 example")
        start = np.flatnonzero(nodes["nodeids"] == 0)
        first = np.repeat(start, np.diff(np.append(start, len(leaf))))
        number = np.where(leaf, np.cumsum(leaf) - 1, np.cumsum(~leaf) - 1)
        yes, no = first + nodes["truenodeids"], first + nodes["falsenodeids"]
        inner = {"featureids": nodes["featureids"][~leaf], "splits": thresholds[~leaf].astype(np.float64),
                 "truenodeids": number[yes][~leaf], "trueleafs": leaf[yes][~leaf],
                 "falsenodeids": number[no][~leaf], "falseleafs": leaf[no][~leaf],
                 "missing_value_tracks_true": nodes["missing_value_tracks_true"][~leaf]}
        roots = number[start]
        # A tree that is a leaf alone still needs a node, both of whose sides are that leaf.
        for k in np.flatnonzero(leaf[start]):
            only = roots[k]
            roots[k] = len(inner["featureids"])
            for name, value in (("featureids", 0), ("splits", 0), ("truenodeids", only), ("trueleafs", 1),
                                ("falsenodeids", only), ("falseleafs", 1), ("missing_value_tracks_true", 0)):
                inner[name] = np.append(inner[name], value)
        a: dict[str, Any] = {f"nodes_{k}": v.astype(np.int64).tolist() for k, v in inner.items() if k != "splits"}
        if not any(a["nodes_missing_value_tracks_true"]):
            del a["nodes_missing_value_tracks_true"]
        return t.b.op("TreeEnsemble", x, domain=ML, **a, nodes_splits=Tensor.of(inner["splits"].astype(np.float64)),
                      nodes_modes=Tensor.of(np.zeros(len(inner["featureids"]), np.uint8)),
                      tree_roots=roots.astype(np.int64).tolist(), leaf_targetids=leaves["ids"].tolist(),
                      leaf_weights=Tensor.of(leaves["weights"].astype(np.float64)), n_targets=targets,
                      aggregate_function=1, post_transform=0)


def has_shared_leaves(estimator: Any) -> bool:
    """True for trees whose leaves give to several targets, which TreeEnsemble has no word for."""
    name = type(estimator).__name__
    return name in ("DecisionTreeClassifier", "ExtraTreeClassifier", "RandomForestClassifier", "ExtraTreesClassifier",
                    "RandomTreesEmbedding"
                    ) or (name.endswith(("TreeRegressor", "ForestRegressor", "TreesRegressor"))
                          and estimator.n_outputs_ > 1)


def isolation_depths(ensemble: Ensemble, model: Any) -> None:
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
        missing = getattr(tree, "missing_go_to_left", np.zeros(tree.node_count))
        ensemble.add_nodes(tree.children_left < 0, np.asarray(features)[np.maximum(tree.feature, 0)], tree.threshold,
                           tree.children_left, tree.children_right, missing, weights[:, None], [0])


def _proportions(tree: Any) -> Array:
    """(nodes, classes): what part of each node's samples is of each class."""
    values = tree.value[:, 0, :]
    total = values.sum(1, keepdims=True)
    return values / np.where(total == 0, 1, total)


def _one_output(model: Any) -> None:
    if getattr(model, "n_outputs_", 1) != 1:
        raise UnsupportedError(f"{type(model).__name__} with several outputs has no way to ONNX yet", who="sklearn")


def _classifier(t: Translation, model: Any, trees: list[Any], x: Value) -> Outputs:
    _one_output(model)
    classes = np.asarray(model.classes_)
    ensemble = Ensemble()
    for tree in trees:
        ensemble.add(tree, _proportions(tree) / len(trees), range(len(classes)))
    probabilities = ensemble.votes(t, x, len(classes))
    return Outputs(label=t.choose(classes, probabilities), probabilities=probabilities)


def _regressor(t: Translation, model: Any, trees: list[Any], x: Value) -> Outputs:
    ensemble = Ensemble()
    targets = model.n_outputs_
    for tree in trees:
        ensemble.add(tree, tree.value[:, :, 0] / len(trees), range(targets))
    prediction = ensemble.votes(t, x, targets)
    if targets == 1:
        prediction = t.b.Squeeze(prediction, t.b.constant(np.array([1], np.int64)))
    return Outputs(prediction=prediction)


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


def _boosted(t: Translation, model: Any, x: Value) -> Value:
    """The raw scores (rows, classes or 1) of gradient boosting: a constant, and a tree a stage and column."""
    stages = model.estimators_
    init = model.init_
    if isinstance(init, str) or type(init).__name__ in ("DummyClassifier", "DummyRegressor"):
        # The first guess is the same for every row.
        base = np.asarray(model._raw_predict_init(np.zeros((1, model.n_features_in_), np.float32)), float)[0]
    else:
        raise UnsupportedError(f"{type(model).__name__}(init={type(init).__name__}) has no way to ONNX yet",
                               who="sklearn", advice="the default first guess has")
    ensemble = Ensemble()
    for stage in stages:
        for k, tree in enumerate(stage):
            ensemble.add(tree.tree_, model.learning_rate * tree.tree_.value[:, :, 0], [k])
    return ensemble.votes(t, x, stages.shape[1], base)


@translates("ensemble.GradientBoostingClassifier")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    scores = _boosted(t, model, x)
    classes = np.asarray(model.classes_)
    if len(classes) > 2:
        return Outputs(label=t.choose(classes, scores), probabilities=t.b.Softmax(scores, axis=1), scores=scores)
    # The exponential loss models half the log odds.
    margin = t.b.Mul(scores, t.constant(2)) if model.loss == "exponential" else scores
    # At a score of exactly zero both classes are equally likely, and scikit-learn's own rule is `>= 0`.
    at_least = t.b.GreaterOrEqual(scores, t.constant(0))
    index = t.b.Squeeze(t.b.Cast(at_least, to=7), t.b.constant(np.array([1], np.int64)))
    return Outputs(label=t.labels(classes, index), probabilities=t.two(t.b.Sigmoid(margin)), scores=scores)


@translates("ensemble.GradientBoostingRegressor")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    scores = _boosted(t, model, x)
    return Outputs(prediction=t.b.Squeeze(scores, t.b.constant(np.array([1], np.int64))))
