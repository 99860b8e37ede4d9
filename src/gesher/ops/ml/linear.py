"""Linear models of ai.onnx.ml: a matrix product, an intercept, a post transform.

A classifier of two classes may carry a single row of coefficients: that is the score of the second class, the first one
gets the complement, and the label goes by the sign of the score.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.ops.rules import InferNode
from gesher.ops.schema import REQUIRED, STRING, Attr, Input, Output, op, tensors

from .scores import lower_transform, name_of, transformed
from .trees import INPUTS, ML, class_labels

Array = np.ndarray[Any, Any]

LinearClassifier = op(
    "LinearClassifier", Input("X", "T1"), Output("Y", "T2"), Output("Z", "tensor(float)"),
    Attr("coefficients", "floats", REQUIRED), Attr("intercepts", "floats"), Attr("multi_class", "int", 0),
    Attr("classlabels_strings", "strings"), Attr("classlabels_ints", "ints"), Attr("post_transform", "string", "NONE"),
    domain=ML, T1=INPUTS, T2=tensors("int64") | STRING)

LinearRegressor = op(
    "LinearRegressor", Input("X"), Output("Y", "tensor(float)"), Attr("post_transform", "string", "NONE"),
    Attr("coefficients", "floats"), Attr("intercepts", "floats"), Attr("targets", "int", 1), domain=ML, T=INPUTS)


def _weights(coefficients: Any, intercepts: Any, targets: int, who: str) -> tuple[Array, Array]:
    """Coefficients (targets, features) and intercepts (targets,) in float32, as the file has them."""
    flat = np.asarray(coefficients or (), np.float32)
    if targets < 1 or len(flat) % targets:
        raise ModelError(f"{who}: {len(flat)} coefficients do not part into {targets} rows", rule="linear-model")
    bias = np.asarray(intercepts or (0.0,) * targets, np.float32)
    if len(bias) not in (targets, 1):
        raise ModelError(f"{who}: {len(bias)} intercepts for {targets} rows of coefficients", rule="linear-model")
    return flat.reshape(targets, -1), np.broadcast_to(bias, (targets,))


def _rows(x: Array, features: int, who: str) -> Array:
    x = x if x.ndim == 2 else x.reshape(1, -1)
    if x.shape[1] != features:
        raise ModelError(f"{who}: X has {x.shape[1]} features, the coefficients take {features}", rule="linear-model")
    return x.astype(np.float64)


def _classifier(a: dict[str, Any]) -> tuple[Array, Array, Array]:
    labels = class_labels(a["classlabels_strings"], a["classlabels_ints"])
    bias = a["intercepts"] or ()
    # As many rows as intercepts; without any, as many as labels.
    targets = len(bias) or (len(labels) if len(labels) > 2 else 1)
    weights, intercepts = _weights(a["coefficients"], bias, targets, "LinearClassifier")
    if targets > 1 and len(labels) != targets:
        raise ModelError(f"LinearClassifier: {len(labels)} labels for {targets} rows of coefficients",
                         rule="linear-model")
    if targets == 1 and len(labels) != 2:
        raise ModelError(f"LinearClassifier: one row of coefficients parts two classes, there are {len(labels)}",
                         rule="linear-model")
    return labels, weights, intercepts


@LinearClassifier.infer
def _(node: InferNode) -> None:
    labels = class_labels(node["classlabels_strings"], node["classlabels_ints"])
    shape = node.shape(0)
    rows = None if shape is None else (shape[0] if len(shape) == 2 else 1)
    node.set(0, dtypes.STRING if labels.dtype == object else dtypes.INT64, None if rows is None else (rows,))
    node.set(1, dtypes.FLOAT, None if rows is None else (rows, max(len(labels), 2)))


@LinearClassifier.reference
def linear_classifier(x: Array, *, post_transform: str, **a: Any) -> tuple[Array, Array]:
    labels, weights, bias = _classifier(a)
    transform = name_of(post_transform)
    scores = _rows(x, weights.shape[1], "LinearClassifier") @ weights.T.astype(np.float64) + bias
    if len(weights) > 1:
        return labels[scores.argmax(1)], transformed(scores.astype(np.float32), transform)
    score = scores[:, 0].astype(np.float32)
    if transform == "LOGISTIC":
        both = np.stack([transformed(-score, transform), transformed(score, transform)], 1)
    else:
        both = np.stack([1 - score, score], 1)
        both = transformed(both, "PROBIT") if transform == "PROBIT" else both
    return labels[(scores[:, 0] > 0).astype(int)], both


@LinearRegressor.infer
def _(node: InferNode) -> None:
    shape = node.shape(0)
    rows = None if shape is None else (shape[0] if len(shape) == 2 else 1)
    node.set(0, dtypes.FLOAT, None if rows is None else (rows, node["targets"]))


@LinearRegressor.reference
def linear_regressor(x: Array, *, coefficients: Any, intercepts: Any, targets: int, post_transform: str) -> Array:
    weights, bias = _weights(coefficients, intercepts, targets, "LinearRegressor")
    scores = _rows(x, weights.shape[1], "LinearRegressor") @ weights.T.astype(np.float64) + bias
    return _regressor_transform(scores.astype(np.float32), name_of(post_transform))


def _regressor_transform(scores: Array, transform: str) -> Array:
    # A single target is no distribution: softmax over one number says nothing, and runtimes leave it alone.
    if scores.shape[1] == 1 and transform != "PROBIT":
        return scores
    return transformed(scores, transform)


def _product(p: Any, x: Any, weights: Array, bias: Array, who: str) -> Any:
    if len(x.shape) == 1:
        x = p.expand_dims(x, (0,))
    if isinstance(x.shape[1], int) and x.shape[1] != weights.shape[1]:
        raise ModelError(f"{who}: X has {x.shape[1]} features, the coefficients take {weights.shape[1]}",
                         rule="linear-model")
    if x.dtype is not dtypes.DOUBLE:
        x = p.cast(x, dtypes.FLOAT)
    kind = x.dtype.numpy
    scores = p.matmul(x, p.constant(np.ascontiguousarray(weights.T.astype(kind)))) + p.constant(bias.astype(kind))
    return p.cast(scores, dtypes.FLOAT)


@LinearRegressor.lower
def _(p: Any, x: Any, *, coefficients: Any, intercepts: Any, targets: int, post_transform: str) -> Any:
    weights, bias = _weights(coefficients, intercepts, targets, "LinearRegressor")
    scores, transform = _product(p, x, weights, bias, "LinearRegressor"), name_of(post_transform)
    return scores if targets == 1 and transform != "PROBIT" else lower_transform(p, scores, transform)


@LinearClassifier.lower
def _(p: Any, x: Any, *, post_transform: str, **a: Any) -> Any:
    from gesher.primitives import CannotLower

    labels, weights, bias = _classifier(a)
    if labels.dtype == object:
        raise CannotLower("string labels")
    transform = name_of(post_transform)
    scores = _product(p, x, weights, bias, "LinearClassifier")
    if len(weights) > 1:
        chosen = p.gather(p.constant(labels), p.argmax(scores, 1, False), 0)
        return chosen, lower_transform(p, scores, transform)
    second = p.squeeze(p.gt(scores, 0.0), (1,))
    chosen = p.select(second, p.scalar(int(labels[1]), dtypes.INT64), p.scalar(int(labels[0]), dtypes.INT64))
    if transform == "LOGISTIC":
        return chosen, p.concat([p.sigmoid(p.neg(scores)), p.sigmoid(scores)], 1)
    both = p.concat([p.neg(scores) + 1.0, scores], 1)
    return chosen, lower_transform(p, both, "PROBIT") if transform == "PROBIT" else both
