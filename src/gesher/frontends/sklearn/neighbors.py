"""Nearest neighbours: all distances as matrix products, the k nearest by TopK, and those few distances again exactly.

Of points equally far scikit-learn takes whichever its search comes upon first; TopK takes the first in training order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import Value

from .bayes import by_likelihood
from .translation import Array, Outputs, Translation, in_double, refuse, translates


def _power(model: Any) -> float:
    """The exponent of the Minkowski distance; infinity is the largest difference."""
    metric = model.effective_metric_ if hasattr(model, "effective_metric_") else model.metric
    given = {**(getattr(model, "effective_metric_params_", None) or {})}
    known = {"euclidean": 2.0, "l2": 2.0, "manhattan": 1.0, "cityblock": 1.0, "l1": 1.0, "chebyshev": np.inf,
             "infinity": np.inf}
    if metric == "minkowski" and given.get("w") is None:
        return float(given.get("p", getattr(model, "p", 2)))
    if not isinstance(metric, str) or metric not in known:
        raise refuse(model, f"(metric={metric!r})", "euclidean, manhattan, chebyshev and minkowski have")
    return known[metric]


def norm(t: Translation, gap: Value, power: float) -> Value:
    """The Minkowski norm over the last of three axes."""
    gap = t.b.Abs(gap)
    if power == np.inf:
        return t.largest(gap, axis=2, keep=False)
    if power == 1:
        return t.total(gap, 2, False)
    if power == 2:
        return t.b.Sqrt(t.total(t.b.Mul(gap, gap), 2, False))
    return t.b.Pow(t.total(t.b.Pow(gap, t.constant(power)), 2, False), t.constant(1 / power))


def _points(model: Any) -> Array:
    points = model._fit_X
    return np.asarray(points.toarray() if hasattr(points, "toarray") else points, float)


def _all_distances(t: Translation, model: Any, x: Value) -> Value:
    """(rows, points): each exactly, as the sum over features of differences."""
    return norm(t, t.b.Sub(t.b.Unsqueeze(x, t.axes(1)), t.constant(_points(model))), _power(model))


def nearest(t: Translation, model: Any, x: Value, k: int) -> tuple[Value, Value]:
    """The distances and the positions in training of the k nearest points, both (rows, k), the nearest first."""
    power, points = _power(model), _points(model)
    rough = t.squared_distances(x, points) if power == 2 else _all_distances(t, model, x)
    near, index = t.b.op("TopK", rough, t.axes(k), axis=1, largest=0, sorted=1, outputs=2)
    if power != 2:
        return near, index
    gap = t.b.Sub(t.b.Unsqueeze(x, t.axes(1)), t.b.Gather(t.constant(points, "points"), index, axis=0))
    return norm(t, gap, 2.0), index


def masked_nearest(t: Translation, x: Value, points: Array) -> Value:
    """(rows, points): the euclidean distance over the features that both have, scaled up to all of them; infinite where
    they share none (`nan_euclidean`)."""
    there = t.number(t.b.Not(t.b.IsNaN(x)))
    x = t.b.Where(t.b.IsNaN(x), t.constant(0), x)
    has = ~np.isnan(points)
    gap = t.b.Sub(t.b.Unsqueeze(x, t.axes(1)), t.constant(np.where(has, points, 0)))
    both = t.b.Mul(t.b.Unsqueeze(there, t.axes(1)), t.constant(has.astype(float)))
    shared = t.total(both, 2, False)
    none = t.b.Equal(shared, t.constant(0))
    squares = t.total(t.b.Mul(t.b.Mul(gap, gap), both), 2, False)
    scaled = t.b.Mul(t.b.Div(squares, t.b.Where(none, t.constant(1), shared)), t.constant(points.shape[1]))
    return t.b.Where(none, t.constant(np.inf), t.b.Sqrt(scaled))


def _weights(t: Translation, model: Any, distances: Value) -> Value | None:
    """What each neighbour counts; None where all count the same."""
    if model.weights in (None, "uniform"):
        return None
    if model.weights != "distance":
        raise refuse(model, "(weights=a function)")
    # A point at no distance counts alone.
    none = t.b.Equal(distances, t.constant(0))
    some = t.largest(t.number(none))
    inverse = t.b.Div(t.constant(1), t.b.Where(none, t.constant(1), distances))
    return t.b.Where(t.b.Greater(some, t.constant(0)), t.number(none), inverse)


def _shares(t: Translation, model: Any, x: Value) -> Value:
    """(rows, classes): what part of the neighbours' weight each class has."""
    distances, index = nearest(t, model, x, model.n_neighbors)
    member = np.eye(len(model.classes_))[np.asarray(model._y).reshape(-1)]
    votes = t.b.Gather(t.constant(member, "classes_of_points"), index, axis=0)
    weights = _weights(t, model, distances)
    if weights is None:
        return t.b.ReduceMean(votes, t.axes(1), keepdims=0) if t.b.opsets[""] >= 18 else \
            t.b.ReduceMean(votes, axes=[1], keepdims=0)
    sums = t.total(t.b.Mul(votes, t.b.Unsqueeze(weights, t.axes(2))), 1, False)
    return t.b.Div(sums, t.total(sums))


@translates("neighbors.KNeighborsClassifier")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    if model.outputs_2d_:
        raise refuse(model, " with several outputs")
    shares = _shares(t, model, x)
    return Outputs(label=t.choose(model.classes_, shares), probabilities=shares)


def _mean_target(t: Translation, model: Any, targets: Value, weights: Value | None, vector: bool) -> Value:
    """The (weighted) mean of targets (rows, k, outputs)."""
    if weights is None:
        mean = t.b.ReduceMean(targets, t.axes(1), keepdims=0) if t.b.opsets[""] >= 18 else \
            t.b.ReduceMean(targets, axes=[1], keepdims=0)
    else:
        sums = t.total(t.b.Mul(targets, t.b.Unsqueeze(weights, t.axes(2))), 1, False)
        mean = t.b.Div(sums, t.total(weights))
    return t.flat(mean) if vector else mean


@translates("neighbors.KNeighborsRegressor")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    distances, index = nearest(t, model, x, model.n_neighbors)
    y = np.asarray(model._y, float)
    targets = t.b.Gather(t.constant(y.reshape(len(y), -1), "targets_of_points"), index, axis=0)
    return Outputs(prediction=_mean_target(t, model, targets, _weights(t, model, distances), y.ndim == 1))


@translates("neighbors.NearestNeighbors")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    distances, index = nearest(t, model, x, model.n_neighbors)
    return Outputs(distances=distances, neighbors=index)


@translates("neighbors.KNeighborsTransformer")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    wanted = model.n_neighbors + (model.mode == "distance")
    distances, index = nearest(t, model, x, wanted)
    rows = t.b.Shape(x, start=0, end=1)
    empty = t.b.Expand(t.constant(0), t.b.Concat(rows, t.axes(len(_points(model))), axis=0))
    marks = distances if model.mode == "distance" else t.b.Add(t.b.Mul(distances, t.constant(0)), t.constant(1))
    return Outputs(transformed=t.b.ScatterElements(empty, index, marks, axis=1))


def _within(t: Translation, model: Any, x: Value) -> tuple[Value, Value]:
    """All distances, and 1 for each within the radius."""
    distances = _all_distances(t, model, x)
    return distances, t.number(t.b.LessOrEqual(distances, t.constant(model.radius)))


@translates("neighbors.RadiusNeighborsTransformer")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    distances, inside = _within(t, model, x)
    return Outputs(transformed=t.b.Mul(inside, distances) if model.mode == "distance" else inside)


def _radius_weights(t: Translation, model: Any, x: Value) -> Value:
    distances, inside = _within(t, model, x)
    weights = _weights(t, model, distances)
    return inside if weights is None else t.b.Mul(inside, weights)


@translates("neighbors.RadiusNeighborsRegressor")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    weights = _radius_weights(t, model, x)
    y = np.asarray(model._y, float)
    sums = t.b.MatMul(weights, t.constant(y.reshape(len(y), -1)))
    # A row without neighbours is 0 / 0, which is scikit-learn's nan too.
    mean = t.b.Div(sums, t.total(weights))
    return Outputs(prediction=t.flat(mean) if y.ndim == 1 else mean)


@translates("neighbors.RadiusNeighborsClassifier")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    if model.outputs_2d_:
        raise refuse(model, " with several outputs")
    if model.outlier_label_ is None or model.outlier_label_[0] not in model.classes_:
        # ONNX cannot raise an error for a row without neighbours, as scikit-learn does.
        raise refuse(model, "(outlier_label=None)", "give an outlier_label that is one of the classes")
    weights = _radius_weights(t, model, x)
    member = np.eye(len(model.classes_))[np.asarray(model._y).reshape(-1)]
    sums = t.b.MatMul(weights, t.constant(member))
    whole = t.total(sums)
    outlier = t.constant(np.asarray(model.classes_) == model.outlier_label_[0])
    shares = t.b.Where(t.b.Greater(whole, t.constant(0)), t.b.Div(sums, whole), outlier)
    return Outputs(label=t.choose(model.classes_, shares), probabilities=shares)


@translates("neighbors.NearestCentroid")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    if model.metric not in ("euclidean", "manhattan"):
        raise refuse(model, f"(metric={model.metric!r})", "euclidean and manhattan have")
    order = 2.0 if model.metric == "euclidean" else 1.0
    spread = np.asarray(model.within_class_std_dev_, float).reshape(-1)
    spread = np.where(spread == 0, 1, spread)
    prior = np.asarray(model.class_prior_, float)
    scaled = t.b.Sub(t.b.Unsqueeze(t.b.Div(x, t.constant(spread)), t.axes(1)), t.constant(model.centroids_ / spread))
    far = norm(t, scaled, order)
    joint = t.b.Sub(t.constant(2 * np.log(prior)), t.b.Mul(far, far))
    made = by_likelihood(t, model.classes_, joint)
    if np.isclose(prior, 1 / len(prior)).all():
        # Among equal classes the nearest centroid wins by plain distances, whatever the scores say.
        gap = t.b.Sub(t.b.Unsqueeze(x, t.axes(1)), t.constant(model.centroids_))
        made.label = t.labels(model.classes_, t.b.ArgMin(norm(t, gap, order), axis=1, keepdims=0))
    if model.metric != "euclidean":
        return Outputs(label=made.label)
    made.scores = joint if len(prior) > 2 else t.b.Sub(t.column(joint, 1), t.column(joint, 0))
    return made


@translates("neighbors.NeighborhoodComponentsAnalysis")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    return Outputs(transformed=t.b.MatMul(x, t.constant(model.components_.T)))


@translates("neighbors.KernelDensity")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    if model.kernel != "gaussian" or model.metric != "euclidean" or model.tree_.sample_weight is not None:
        raise refuse(model, f"(kernel={model.kernel!r}, metric={model.metric!r}) or with sample weights",
                     "the gaussian kernel with the euclidean metric has")
    points = np.asarray(model.tree_.data, float)
    h, width = float(model.bandwidth_), points.shape[1]
    scaled = t.b.Mul(t.squared_distances(x, points), t.constant(-0.5 / h**2))
    constant = -np.log(len(points)) - width * (np.log(h) + 0.5 * np.log(2 * np.pi))
    log = t.b.ReduceLogSumExp(scaled, t.axes(1), keepdims=0) if t.b.opsets[""] >= 18 else \
        t.b.ReduceLogSumExp(scaled, axes=[1], keepdims=0)
    return Outputs(log_density=t.b.Add(log, t.constant(constant)))


def _lof(t: Translation, model: Any, x: Value) -> Outputs:
    if not model.novelty:
        raise refuse(model, "(novelty=False)", "only novelty=True answers for new rows")
    distances, index = nearest(t, model, x, model.n_neighbors_)
    reach = model._distances_fit_X_[:, model.n_neighbors_ - 1]
    far = t.b.Max(distances, t.b.Gather(t.constant(reach), index, axis=0))
    k = model.n_neighbors_
    density = t.b.Div(t.constant(1), t.b.Add(t.b.Div(t.total(far), t.constant(k)), t.constant(1e-10)))
    ratios = t.b.Div(t.b.Gather(t.constant(model._lrd), index, axis=0), density)
    samples = t.b.Neg(t.b.Div(t.total(ratios), t.constant(k)))
    scores = t.b.Sub(samples, t.constant(model.offset_))
    inlier = t.b.GreaterOrEqual(scores, t.constant(0))
    label = t.labels(np.array([-1, 1]), t.b.Cast(t.flat(inlier), to=dtypes.INT64.code))
    return Outputs(label=label, scores=scores, log_density=t.flat(samples))


translates("neighbors.LocalOutlierFactor")(in_double(_lof))
