"""Clusters: the nearest centre; and mixtures, where nearness is a likelihood."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.ir import Value

from .bayes import quadratic
from .distances import norm
from .tables import Table
from .translation import Array, Outputs, Translation, columnwise, in_double, inverts, refuse, translates

columnwise("mixture.GaussianMixture", "mixture.BayesianGaussianMixture")


def _distances(t: Translation, x: Value, centers: Array) -> Value:
    """(rows, centers), from differences: there are few centres, and the root shows what products cancel."""
    return norm(t, t.b.Sub(t.b.Unsqueeze(x, t.axes(1)), t.constant(centers)), 2.0)


def _slack(centers: Any) -> float:
    """How far scikit-learn's distances are off, which it takes from |x|^2 - 2xc + |c|^2."""
    return float(np.sqrt(64 * np.finfo(float).eps * (np.asarray(centers, float)**2).sum(1).max()))


@translates("cluster.KMeans", "cluster.MiniBatchKMeans")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    distances = _distances(t, x, np.asarray(model.cluster_centers_, float))
    return Outputs(label=t.b.ArgMin(distances, axis=1, keepdims=0), transformed=distances,
                   slack=_slack(model.cluster_centers_))


@translates("cluster.MeanShift", "cluster.AffinityPropagation")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    centers = model.cluster_centers_
    centers = np.asarray(centers.toarray() if hasattr(centers, "toarray") else centers, float)
    if not len(centers):
        raise refuse(model, " that did not converge")
    return Outputs(label=t.b.ArgMin(_distances(t, x, centers), axis=1, keepdims=0))


@translates("cluster.Birch")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    distances = _distances(t, x, np.asarray(model.subcluster_centers_, float))
    label = t.labels(np.asarray(model.subcluster_labels_), t.b.ArgMin(distances, axis=1, keepdims=0))
    return Outputs(label=label, transformed=distances, slack=_slack(model.subcluster_centers_))


@translates("cluster.BisectingKMeans")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    mean = getattr(model, "_X_mean", 0)

    def descend(node: Any) -> Value:
        """The label (rows,) below a node of the tree: the side whose centre is nearer, and the left of equal ones."""
        if node.left is None:
            return t.b.constant(np.array([node.label], np.int64))
        distances = _distances(t, x, np.vstack((node.left.center, node.right.center)) + mean)
        left = t.b.Equal(t.b.ArgMin(distances, axis=1, keepdims=0), t.b.constant(np.array(0, np.int64)))
        return t.b.Where(left, descend(node.left), descend(node.right))

    return Outputs(label=descend(model._bisecting_tree),
                   transformed=_distances(t, x, np.asarray(model.cluster_centers_, float)),
                   slack=_slack(model.cluster_centers_))


@translates("cluster.FeatureAgglomeration")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    if model.pooling_func is not np.mean:
        raise refuse(model, "(pooling_func=...)", "np.mean has")
    labels = np.asarray(model.labels_)
    pool = np.eye(labels.max() + 1)[labels]
    return Outputs(transformed=t.b.MatMul(x, t.constant(pool / pool.sum(0))))


@inverts("cluster.FeatureAgglomeration")
def _(t: Translation, model: Any, x: Value) -> Value:
    """Each feature gets its cluster's value."""
    _, place = np.unique(model.labels_, return_inverse=True)
    return t.b.Gather(x, t.b.constant(place.astype(np.int64)), axis=1)


def _log_gaussians(t: Translation, model: Any, x: Value, kept: DType) -> Value:
    """(rows, components) log density of each, without its weight.

    Args:
        kept: the type of the rows, in which scikit-learn keeps squared distances, also where that cuts them.
    """
    from sklearn.mixture._gaussian_mixture import _compute_log_det_cholesky

    means, chol = np.asarray(model.means_, float), np.asarray(model.precisions_cholesky_, float)
    n, kind = means.shape[1], model.covariance_type
    if kind in ("diag", "spherical"):
        if kind == "spherical" and kept is dtypes.BOOL:
            raise refuse(model, "(covariance_type='spherical') of truth values", "scikit-learn adds them up as truth "
                                                                                 "values; give numbers")
        wide = np.broadcast_to(chol.reshape(len(means), -1), means.shape)
        squares = quadratic(t, x, means, wide**2)
    else:
        parts = []
        for k, mean in enumerate(means):
            turn = chol[k] if kind == "full" else chol
            y = t.b.MatMul(t.b.Sub(x, t.constant(mean)), t.constant(turn))
            size = t.total(t.b.Mul(y, y))
            parts.append(t.number(t.b.Cast(size, to=kept.code)) if kept in (dtypes.INT64, dtypes.BOOL) else size)
        squares = t.join(parts)
    base = np.broadcast_to(_compute_log_det_cholesky(chol, kind, n), len(means)) - 0.5 * n * np.log(2 * np.pi)
    return t.b.Add(t.b.Mul(squares, t.constant(-0.5)), t.constant(base))


@translates("mixture.GaussianMixture", "mixture.BayesianGaussianMixture")
@in_double
def _(t: Translation, model: Any, x: Value | Table) -> Outputs:
    kinds = {t.b.dtype(v) for v in (x.values() if isinstance(x, Table) else [x])}
    # Of columns of several types numpy makes numbers that nothing is cut of.
    kept = kinds.pop() if len(kinds) == 1 else dtypes.DOUBLE
    x = t.matrix(x, model)
    extra = np.asarray(model._estimate_log_weights(), float)
    if type(model).__name__ == "BayesianGaussianMixture":
        # What scikit-learn adds to the plain densities is the same for every row: read it off at the first mean.
        from sklearn.mixture._gaussian_mixture import _estimate_log_gaussian_prob

        at = np.asarray(model.means_[:1], float)
        plain = _estimate_log_gaussian_prob(at, model.means_, model.precisions_cholesky_, model.covariance_type)
        extra = extra + (model._estimate_log_prob(at) - plain)[0]
    joint = t.b.Add(_log_gaussians(t, model, x, kept), t.constant(extra))
    density = t.b.ReduceLogSumExp(joint, t.axes(1), keepdims=0) if t.b.opsets[""] >= 18 else \
        t.b.ReduceLogSumExp(joint, axes=[1], keepdims=0)
    return Outputs(label=t.b.ArgMax(joint, axis=1, keepdims=0), probabilities=t.b.Softmax(joint, axis=1),
                   log_density=density)


@translates("covariance.EllipticEnvelope")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    gap = t.b.Sub(x, t.constant(model.location_))
    samples = t.b.Neg(t.total(t.b.Mul(t.b.MatMul(gap, t.constant(model.get_precision())), gap)))
    scores = t.b.Sub(samples, t.constant(model.offset_))
    index = t.flat(t.b.Cast(t.b.GreaterOrEqual(scores, t.constant(0)), to=dtypes.INT64.code))
    return Outputs(label=t.labels(np.array([-1, 1]), index), scores=scores, log_density=t.flat(samples))
