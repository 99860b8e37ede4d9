"""Nearest neighbours: whom they vote for, and who they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import Value

from .bayes import by_likelihood
from .distances import all_distances, nearest, norm
from .meta import need
from .translation import Array, Outputs, Translation, in_double, refuse, translates


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


def _members(model: Any) -> tuple[Array, list[Array]]:
    """(points, classes) 1 for the class of each point, the classes of all outputs beside each other; and these."""
    if not model.outputs_2d_:
        classes, y = [np.asarray(model.classes_)], np.asarray(model._y).reshape(-1, 1)
    else:
        classes, y = [np.asarray(c) for c in model.classes_], np.asarray(model._y)
    return np.concatenate([np.eye(len(c))[y[:, k]] for k, c in enumerate(classes)], 1), classes


def _mean(t: Translation, values: Value) -> Value:
    """Of (rows, k, n) over the second axis."""
    return t.b.ReduceMean(values, t.axes(1), keepdims=0) if t.b.opsets[""] >= 18 else \
        t.b.ReduceMean(values, axes=[1], keepdims=0)


def _averaged(t: Translation, model: Any, of_points: Array, distances: Value, index: Value, name: str) -> Value:
    """(rows, n): the neighbours' (weighted) mean of what each point has, (points, n)."""
    values = t.b.Gather(t.constant(of_points, name), index, axis=0)
    weights = _weights(t, model, distances)
    if weights is None:
        return _mean(t, values)
    return t.b.Div(t.total(t.b.Mul(values, t.b.Unsqueeze(weights, t.axes(2))), 1, False), t.total(weights))


def _elected(t: Translation, shares: Value, classes: list[Array], several: bool) -> Outputs:
    """Labels and probabilities from the shares (rows, classes) of all outputs."""
    each = t.slices(shares, [len(c) for c in classes])
    if several:
        return Outputs(label=t.choose_each(classes, each), probabilities_of=each)
    return Outputs(label=t.choose(classes[0], shares), probabilities=shares)


def _searched(t: Translation, model: Any, x: Value) -> tuple[Value, Value]:
    """What `kneighbors` gives."""
    if model.n_neighbors > model.n_samples_fit_:
        raise refuse(model, f".kneighbors of {model.n_neighbors} among {model.n_samples_fit_} points")
    return nearest(t, model, x, model.n_neighbors)


_FOUND = ("distances", "neighbors")
# Metrics that nothing is cancelled in.
_DIFFERENCES = ("precomputed", "manhattan", "cityblock", "l1", "chebyshev", "infinity", "canberra", "braycurtis")


def _slack(model: Any) -> float:
    """How far scikit-learn's own distances are off, where it takes them from |x|^2 - 2xp + |p|^2 and looks no more."""
    if model._fit_method != "brute" or model.effective_metric_ in _DIFFERENCES:
        return 0.0
    points = model._fit_X.toarray() if hasattr(model._fit_X, "toarray") else model._fit_X
    return float(np.sqrt(64 * np.finfo(float).eps * np.nansum(np.asarray(points, float)**2, 1).max(initial=0)))


@translates("neighbors.KNeighborsClassifier")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    distances, index = _searched(t, model, x)
    member, classes = _members(model)
    made = _elected(t, _averaged(t, model, member, distances, index, "classes_of_points"), classes, model.outputs_2d_)
    made.distances, made.neighbors, made.aside, made.slack = distances, index, _FOUND, _slack(model)
    return made


@translates("neighbors.KNeighborsRegressor")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    distances, index = _searched(t, model, x)
    y = np.asarray(model._y, float)
    mean = _averaged(t, model, y.reshape(len(y), -1), distances, index, "targets_of_points")
    return Outputs(prediction=t.flat(mean) if y.ndim == 1 else mean, distances=distances, neighbors=index,
                   aside=_FOUND, slack=_slack(model))


@translates("neighbors.NearestNeighbors")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    distances, index = _searched(t, model, x)
    return Outputs(distances=distances, neighbors=index, slack=_slack(model))


@translates("neighbors.KNeighborsTransformer")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    # A graph of distances has one neighbour more: in training, a point is its own nearest.
    wanted = model.n_neighbors + (model.mode == "distance")
    if wanted > model.n_samples_fit_:
        raise refuse(model, f" of {wanted} neighbours among {model.n_samples_fit_} points")
    distances, index = nearest(t, model, x, wanted)
    rows = t.b.Shape(x, start=0, end=1)
    empty = t.b.Expand(t.constant(0), t.b.Concat(rows, t.axes(model.n_samples_fit_), axis=0))
    marks = distances if model.mode == "distance" else t.b.Add(t.b.Mul(distances, t.constant(0)), t.constant(1))
    return Outputs(transformed=t.b.ScatterElements(empty, index, marks, axis=1),
                   distances=t.slices(distances, [model.n_neighbors, wanted - model.n_neighbors])[0],
                   neighbors=t.slices(index, [model.n_neighbors, wanted - model.n_neighbors])[0], aside=_FOUND,
                   slack=_slack(model))


def _within(t: Translation, model: Any, x: Value) -> tuple[Value, Value]:
    """All distances, and 1 for each within the radius."""
    distances = all_distances(t, model, x)
    return distances, t.number(t.b.LessOrEqual(distances, t.constant(model.radius)))


@translates("neighbors.RadiusNeighborsTransformer")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    distances, inside = _within(t, model, x)
    return Outputs(transformed=t.b.Where(t.b.Cast(inside, to=dtypes.BOOL.code), distances, t.constant(0))
                   if model.mode == "distance" else inside)


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
    whole = t.total(weights)
    with np.errstate(invalid="ignore"):
        # Where targets are integers, a row without neighbours has what numpy makes of nan.
        nothing = float(np.full_like(np.asarray(model._y).reshape(-1)[:1], np.nan)[0])
    mean = t.b.Where(t.b.Equal(whole, t.constant(0)), t.constant(nothing), t.b.Div(sums, whole))
    return Outputs(prediction=t.flat(mean) if y.ndim == 1 else mean)


@translates("neighbors.RadiusNeighborsClassifier")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    weights = _radius_weights(t, model, x)
    member, classes = _members(model)
    whole, outliers = t.total(weights), model.outlier_label_
    some = t.b.Greater(whole, t.constant(0))
    shares = t.b.Div(t.b.MatMul(weights, t.constant(member)), t.b.Where(some, whole, t.constant(1)))
    if outliers is None:
        shares = t.demand(some, shares, "RadiusNeighborsClassifier(outlier_label=None): a row without neighbours")
        return _elected(t, shares, classes, model.outputs_2d_)
    # Rows without neighbours are of the class that they are said to be of; one that nobody has, has no share.
    alone = np.concatenate([c == label for c, label in zip(classes, outliers)])
    made = _elected(t, t.b.Where(some, shares, t.constant(alone)), classes, model.outputs_2d_)
    if not all(label in c for c, label in zip(classes, outliers)):
        said = t.label_constant(np.array(outliers, classes[0].dtype))
        made.label = t.b.Where(some if model.outputs_2d_ else t.flat(some), need(made.label, model, "labels"), said)
    return made


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
    """The logarithm of the points' kernels, added up as their weights are, over the whole weight and a kernel's own
    integral, which scikit-learn tells at a lone point."""
    if model.atol or model.rtol:
        raise refuse(model, f"(atol={model.atol}, rtol={model.rtol})", "how far its answers then are off hangs on the "
                                                                       "cuts of its tree; 0 for both has")
    points, weights = np.asarray(model.tree_.data, float), model.tree_.sample_weight
    weights = np.ones(len(points)) if weights is None else np.asarray(weights, float)
    h, alone = float(model.bandwidth_), np.zeros((1, points.shape[1]))
    height = type(model)(bandwidth=h, kernel=model.kernel).fit(alone).score_samples(alone)[0] - np.log(weights.sum())
    if model.kernel in ("gaussian", "exponential"):
        if model.kernel == "gaussian" and model.metric == "euclidean":
            logs = t.b.Mul(t.squared_distances(x, points), t.constant(-0.5 / h**2))
        else:
            far = all_distances(t, model, x)
            logs = t.b.Mul(far, t.constant(-1 / h)) if model.kernel == "exponential" else \
                t.b.Mul(t.b.Mul(far, far), t.constant(-0.5 / h**2))
        with np.errstate(divide="ignore"):
            logs = t.b.Add(logs, t.constant(np.log(weights)))
        whole = t.b.ReduceLogSumExp(logs, t.axes(1), keepdims=0) if t.b.opsets[""] >= 18 else \
            t.b.ReduceLogSumExp(logs, axes=[1], keepdims=0)
        return Outputs(log_density=t.b.Add(whole, t.constant(height)))
    # The others end at the bandwidth.
    far = t.b.Div(all_distances(t, model, x), t.constant(h))
    one = t.constant(1)
    shape = {"tophat": lambda: t.constant(np.ones((1, len(points)))),
             "epanechnikov": lambda: t.b.Sub(one, t.b.Mul(far, far)), "linear": lambda: t.b.Sub(one, far),
             "cosine": lambda: t.b.Cos(t.b.Mul(far, t.constant(np.pi / 2)))}[model.kernel]()
    kernels = t.b.Where(t.b.Less(far, one), shape, t.constant(0))
    whole = t.b.Log(t.flat(t.b.MatMul(kernels, t.constant(weights[:, None]))))
    return Outputs(log_density=t.b.Add(whole, t.constant(height)))


@translates("neighbors.LocalOutlierFactor")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    k, few = model.n_neighbors_, model.n_neighbors > model.n_samples_fit_
    # `kneighbors` tells as many as it was asked for, the scores use one less than there are points at the most; with
    # fewer points than that it raises an error.
    shown, shown_index = nearest(t, model, x, k if few else max(k, model.n_neighbors))
    distances, index = (t.b.Slice(v, t.axes(0), t.axes(k), t.axes(1)) for v in (shown, shown_index))
    found = Outputs(aside=_FOUND) if few else \
        Outputs(distances=shown, neighbors=shown_index, aside=_FOUND if model.novelty else (), slack=_slack(model))
    if not model.novelty:
        if found.distances is None:
            raise refuse(model, "(novelty=False)", "only novelty=True answers for new rows")
        return found
    reach = model._distances_fit_X_[:, k - 1]
    far = t.b.Max(distances, t.b.Gather(t.constant(reach), index, axis=0))
    density = t.b.Div(t.constant(1), t.b.Add(t.b.Div(t.total(far), t.constant(k)), t.constant(1e-10)))
    ratios = t.b.Div(t.b.Gather(t.constant(model._lrd), index, axis=0), density)
    samples = t.b.Neg(t.b.Div(t.total(ratios), t.constant(k)))
    scores = t.b.Sub(samples, t.constant(model.offset_))
    inlier = t.b.GreaterOrEqual(scores, t.constant(0))
    found.label = t.labels(np.array([-1, 1]), t.b.Cast(t.flat(inlier), to=dtypes.INT64.code))
    found.scores, found.log_density = scores, t.flat(samples)
    return found
