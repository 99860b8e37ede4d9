"""Tree ensembles: forests and boosted trees of ai.onnx.ml.

Where the text leaves the classifiers' two-class case open, this follows ONNX Runtime, because that is what every model
in the wild was made for: weights for a single class are the score of the second one, and the first gets the complement
(1 - s where all weights are positive, else -s).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.ops.rules import InferNode, Run
from gesher.ops.schema import FLOATS, REQUIRED, STRING, Attr, Input, Output, op, tensors

from .forest import Forest, from_leaves, from_pairs, lower_walk
from .scores import lower_transform, name_of, transformed

Array = np.ndarray[Any, Any]
ML = "ai.onnx.ml"
INPUTS = tensors("float double int32 int64")

_NODES = tuple(Attr(n, k) for n, k in (
    ("nodes_treeids", "ints"), ("nodes_nodeids", "ints"), ("nodes_featureids", "ints"), ("nodes_values", "floats"),
    ("nodes_hitrates", "floats"), ("nodes_modes", "strings"), ("nodes_truenodeids", "ints"),
    ("nodes_falsenodeids", "ints"), ("nodes_missing_value_tracks_true", "ints"), ("base_values", "floats")))

TreeEnsembleClassifier = (
    op("TreeEnsembleClassifier", Input("X", "T1"), Output("Y", "T2"), Output("Z", "tensor(float)"), *_NODES,
       Attr("class_treeids", "ints"), Attr("class_nodeids", "ints"), Attr("class_ids", "ints"),
       Attr("class_weights", "floats"), Attr("classlabels_strings", "strings"), Attr("classlabels_int64s", "ints"),
       Attr("post_transform", "string", "NONE"), domain=ML, T1=INPUTS, T2=tensors("int64") | STRING)
    .since(3, *(Attr(n + "_as_tensor", "tensor") for n in
                ("nodes_values", "nodes_hitrates", "class_weights", "base_values")))
    .since(5, deprecated=True))

TreeEnsembleRegressor = (
    op("TreeEnsembleRegressor", Input("X"), Output("Y", "tensor(float)"), *_NODES, Attr("target_treeids", "ints"),
       Attr("target_nodeids", "ints"), Attr("target_ids", "ints"), Attr("target_weights", "floats"),
       Attr("n_targets", "int"), Attr("post_transform", "string", "NONE"), Attr("aggregate_function", "string", "SUM"),
       domain=ML, T=INPUTS)
    .since(3, *(Attr(n + "_as_tensor", "tensor") for n in
                ("nodes_values", "nodes_hitrates", "target_weights", "base_values")))
    .since(5, deprecated=True))

TreeEnsemble = op(
    "TreeEnsemble", Input("X"), Output("Y"), Attr("tree_roots", "ints", REQUIRED),
    Attr("nodes_featureids", "ints", REQUIRED), Attr("nodes_splits", "tensor", REQUIRED),
    Attr("nodes_hitrates", "tensor"), Attr("nodes_modes", "tensor", REQUIRED),
    Attr("nodes_truenodeids", "ints", REQUIRED), Attr("nodes_falsenodeids", "ints", REQUIRED),
    Attr("nodes_trueleafs", "ints", REQUIRED), Attr("nodes_falseleafs", "ints", REQUIRED),
    Attr("nodes_missing_value_tracks_true", "ints"), Attr("membership_values", "tensor"),
    Attr("leaf_targetids", "ints", REQUIRED), Attr("leaf_weights", "tensor", REQUIRED), Attr("n_targets", "int"),
    Attr("post_transform", "int", 0), Attr("aggregate_function", "int", 1), domain=ML, since=5, T=FLOATS)

AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")


def aggregate_name(aggregate: str | int) -> str:
    """The aggregate's name from its name or TreeEnsemble 5's number."""
    if isinstance(aggregate, int) and 0 <= aggregate < len(AGGREGATES):
        return AGGREGATES[aggregate]
    if aggregate in AGGREGATES:
        return str(aggregate)
    raise ModelError(f"tree ensemble: there is no aggregate function {aggregate!r}", rule="attribute-value",
                     advice="it is one of " + ", ".join(AGGREGATES))


def _real(x: Array) -> Array:
    """Features as floats: double stays, float16 and integers go to float32; one row where there is no batch."""
    x = x if x.dtype == np.float64 else x.astype(np.float32)
    return x if x.ndim == 2 else x.reshape(1, -1)


def _kept(run: Run | None, dtype: Any, make: Callable[[], Forest]) -> Forest:
    """The forest of a node whose attributes stay the same, made once for a type of features."""
    if run is None:
        return make()
    if dtype not in run.kept:
        run.kept[dtype] = make()
    return cast("Forest", run.kept[dtype])


def _aggregated(forest: Forest, x: Array, aggregate: str) -> Array:
    """(rows, targets) in float64, so that the sum of a thousand trees is rounded once."""
    top = int(forest.feature.max(initial=0))
    if top >= x.shape[1]:
        raise ModelError(f"tree ensemble: a node reads feature {top}, X has {x.shape[1]}", rule="tree-ensemble")
    out, weights = np.zeros((len(x), forest.weights.shape[1])), forest.weights.astype(np.float64)
    # In blocks of rows: the votes of all trees at once would be rows x trees x targets.
    step = max(1, 4_000_000 // max(1, forest.trees * forest.weights.shape[1]))
    for i in range(0, len(x), step):
        rows = forest.weight_row[forest.walk(x[i:i + step])]
        votes = weights[rows]
        if aggregate == "SUM":
            out[i:i + step] = votes.sum(1)
        elif aggregate == "AVERAGE":
            out[i:i + step] = votes.mean(1)
        else:
            out[i:i + step] = votes.min(1) if aggregate == "MIN" else votes.max(1)
    return out


def base_values(a: dict[str, Any]) -> Array:
    """The base values of versions 1 to 3, empty where there are none."""
    tensor = a.get("base_values_as_tensor")
    return np.asarray(tensor.numpy(), np.float64) if tensor is not None \
        else np.asarray(a.get("base_values") or (), np.float64)


def class_labels(strings: Any, ints: Any) -> Array:
    """The labels as an array of strings or int64."""
    if strings:
        out = np.empty(len(strings), object)
        out[:] = list(strings)
        return out
    return np.asarray(ints or (), np.int64)


def _matrix(node: InferNode) -> Any:
    shape = node.shape(0)
    if shape is None:
        return None
    if len(shape) not in (1, 2):
        node.fail(f"X must be a matrix of rows and features, it has rank {len(shape)}")
    return shape[0] if len(shape) == 2 else 1


@TreeEnsembleClassifier.infer
def _(node: InferNode) -> None:
    labels = class_labels(node["classlabels_strings"], node["classlabels_int64s"])
    rows = _matrix(node)
    dtype = dtypes.STRING if labels.dtype == object else dtypes.INT64
    node.set(0, dtype, None if rows is None else (rows,))
    node.set(1, dtypes.FLOAT, None if rows is None else (rows, _classes(labels)))


def _classes(labels: Array) -> int:
    return max(len(labels), 2)


def _split_binary(a: dict[str, Any], labels: Array) -> tuple[bool, bool]:
    """Whether all weights are for one class out of two, and whether none is negative."""
    ids = set(a["class_ids"] or ())
    tensor = a.get("class_weights_as_tensor")
    weights = tensor.numpy() if tensor is not None else np.asarray(a["class_weights"] or (), np.float32)
    return len(labels) <= 2 and len(ids) == 1, bool((weights >= 0).all())


@TreeEnsembleClassifier.reference
def tree_ensemble_classifier(x: Array, *, post_transform: str, classlabels_strings: Any, classlabels_int64s: Any,
                             run: Run | None = None, **a: Any) -> tuple[Array, Array]:
    labels = class_labels(classlabels_strings, classlabels_int64s)
    transform = name_of(post_transform)
    x = _real(x)
    one_sided, positive = _split_binary(a, labels)
    ids = sorted(set(a["class_ids"] or ()))
    targets = max(len(labels), 2, *(i + 1 for i in ids))
    forest = _kept(run, x.dtype, lambda: from_pairs(a, "class_weights", "class_ids", targets, x.dtype))
    scores, base = _aggregated(forest, x, "SUM"), base_values(a)
    if not one_sided:
        if len(base):
            scores = scores + _fit_base(base, scores.shape[1])
        z = transformed(scores[:, :_classes(labels)].astype(np.float32), transform)
        return labels[scores[:, :max(len(labels), 1)].argmax(1)], z
    # One score a row: that of the class behind the only id, taken for the second class.
    score = scores[:, ids[0]]
    if len(base):
        score = score + base[-1 if len(base) > 1 else 0]
    second = score > (0.5 if positive else 0.0)
    if len(labels) == 2:
        chosen = labels[second.astype(int)]
    elif labels.dtype == object:
        chosen = np.where(second, labels[0] if len(labels) else "", "").astype(object)
    else:
        chosen = second.astype(np.int64)
    return chosen, _two_scores(score.astype(np.float32), positive, transform)


def _two_scores(score: Array, positive: bool, transform: str) -> Array:
    """Both columns from the second class's score. The transform applies only where weights of both signs make the score
    a margin; all-positive weights are probabilities already."""
    if transform == "PROBIT":
        second = transformed(score[:, None], "PROBIT")[:, 0]
        return np.stack([1 - second, second], 1)
    if transform == "LOGISTIC":
        return np.stack([transformed(-score, "LOGISTIC"), transformed(score, "LOGISTIC")], 1)
    if positive:
        return np.stack([1 - score, score], 1)
    return np.stack([-score, score], 1)


def _fit_base(base: Array, targets: int) -> Array:
    if len(base) not in (1, targets):
        raise ModelError(f"tree ensemble: base_values has {len(base)} elements, there are {targets} targets",
                         rule="tree-ensemble")
    return base


@TreeEnsembleRegressor.infer
def _(node: InferNode) -> None:
    rows = _matrix(node)
    node.set(0, dtypes.FLOAT, None if rows is None else (rows, node["n_targets"] or 1))


@TreeEnsembleRegressor.reference
def tree_ensemble_regressor(x: Array, *, n_targets: int | None, post_transform: str, aggregate_function: str,
                            run: Run | None = None, **a: Any) -> Array:
    x = _real(x)
    forest = _kept(run, x.dtype, lambda: from_pairs(a, "target_weights", "target_ids", n_targets or 1, x.dtype))
    out, base = _aggregated(forest, x, aggregate_name(aggregate_function)), base_values(a)
    if len(base):
        out = out + _fit_base(base, out.shape[1])
    return transformed(out.astype(np.float32), name_of(post_transform))


@TreeEnsemble.infer
def _(node: InferNode) -> None:
    rows = _matrix(node)
    targets = node["n_targets"] if node["n_targets"] is not None else max(node["leaf_targetids"], default=0) + 1
    node.set(0, node.dtype(0), None if rows is None else (rows, targets))


@TreeEnsemble.reference
def tree_ensemble(x: Array, *, post_transform: int, aggregate_function: int, run: Run | None = None,
                  **a: Any) -> Array:
    wide = _real(x)
    forest = _kept(run, wide.dtype, lambda: from_leaves(a, wide.dtype))
    out = _aggregated(forest, wide, aggregate_name(aggregate_function))
    return transformed(out.astype(wide.dtype), name_of(post_transform)).astype(x.dtype)


# Lowerings. A label is chosen in primitives where labels are integers; strings stay with the reference rule.

def _matrix_of(p: Any, x: Any) -> Any:
    from gesher.primitives import CannotLower

    if x.dtype is dtypes.FLOAT16:
        raise CannotLower("float16 features are walked by the reference rule")
    if x.dtype not in (dtypes.FLOAT, dtypes.DOUBLE):
        x = p.cast(x, dtypes.FLOAT)
    return x if len(x.shape) == 2 else p.expand_dims(x, (0,))


@TreeEnsemble.lower
def _(p: Any, x: Any, *, post_transform: int, aggregate_function: int, **a: Any) -> Any:
    x = _matrix_of(p, x)
    votes = lower_walk(p, x, from_leaves(a, x.dtype.numpy), aggregate_name(aggregate_function))
    return lower_transform(p, votes, name_of(post_transform))


@TreeEnsembleRegressor.lower
def _(p: Any, x: Any, *, n_targets: int | None, post_transform: str, aggregate_function: str, **a: Any) -> Any:
    x = _matrix_of(p, x)
    forest = from_pairs(a, "target_weights", "target_ids", n_targets or 1, x.dtype.numpy)
    votes = lower_walk(p, x, forest, aggregate_name(aggregate_function))
    base = base_values(a)
    if len(base):
        votes = votes + p.constant(_fit_base(base, forest.weights.shape[1]).astype(x.dtype.numpy))
    return lower_transform(p, p.cast(votes, dtypes.FLOAT), name_of(post_transform))


@TreeEnsembleClassifier.lower
def _(p: Any, x: Any, *, post_transform: str, classlabels_strings: Any, classlabels_int64s: Any, **a: Any) -> Any:
    from gesher.primitives import CannotLower

    labels = class_labels(classlabels_strings, classlabels_int64s)
    if labels.dtype == object:
        raise CannotLower("string labels")
    transform = name_of(post_transform)
    x = _matrix_of(p, x)
    one_sided, positive = _split_binary(a, labels)
    ids = sorted(set(a["class_ids"] or ()))
    forest = from_pairs(a, "class_weights", "class_ids", max(len(labels), 2, *(i + 1 for i in ids)), x.dtype.numpy)
    scores, base = lower_walk(p, x, forest, "SUM"), base_values(a)
    rows = x.shape[0]
    if not one_sided:
        if len(base):
            scores = scores + p.constant(_fit_base(base, forest.weights.shape[1]).astype(x.dtype.numpy))
        shown = p.slice(scores, (0, 0), (rows, _classes(labels)), (1, 1))
        known = p.slice(scores, (0, 0), (rows, max(len(labels), 1)), (1, 1))
        chosen = p.gather(p.constant(labels), p.argmax(known, 1, False), 0)
        return chosen, lower_transform(p, p.cast(shown, dtypes.FLOAT), transform)
    score = p.slice(scores, (0, ids[0]), (rows, ids[0] + 1), (1, 1))
    if len(base):
        score = score + float(base[-1 if len(base) > 1 else 0])
    second = p.squeeze(p.gt(score, 0.5 if positive else 0.0), (1,))
    if len(labels) == 2:
        chosen = p.select(second, p.scalar(int(labels[1]), dtypes.INT64), p.scalar(int(labels[0]), dtypes.INT64))
    else:
        chosen = p.cast(second, dtypes.INT64)
    score = p.cast(score, dtypes.FLOAT)
    if transform == "PROBIT":
        score = lower_transform(p, score, "PROBIT")
        first = p.neg(score) + 1.0
    elif transform == "LOGISTIC":
        first, score = p.sigmoid(p.neg(score)), p.sigmoid(score)
    elif positive:
        first = p.neg(score) + 1.0
    else:
        first = p.neg(score)
    return chosen, p.concat([first, score], 1)
