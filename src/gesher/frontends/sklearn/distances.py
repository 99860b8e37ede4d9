"""Distances from rows to the points of training, and the nearest of these.

Euclidean distances, and those that are euclidean of other features, come from matrix products; those of the few nearest
are then taken again from differences, where nothing cancels. Points are gone through in blocks, so that no more than a
block's distances are held at once. Of points equally far the first in training counts: scikit-learn takes whichever
its search comes upon first, which no other search can know.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gesher.ir import Value

from .translation import Array, Translation, refuse

# Points whose distances to all rows are held at once.
_BLOCK = 4096
# Differences (points, features) of one row that are held at once, where distances come from them.
_GAPS = 2**17
# How many more than the nearest are looked at again, since products may tell the last ones wrongly.
_SPARE = 3


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


def masked(t: Translation, x: Value, points: Array) -> Value:
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


def _cosine(t: Translation, x: Value, points: Array) -> Value:
    """One less the cosine; a row of zeros has the cosine 0 with everything."""
    size = t.b.Sqrt(t.total(t.b.Mul(x, x)))
    x = t.b.Div(x, t.b.Where(t.b.Equal(size, t.constant(0)), t.constant(1), size))
    sizes = np.linalg.norm(points, axis=1, keepdims=True)
    cosines = t.b.MatMul(x, t.constant((points / np.where(sizes == 0, 1, sizes)).T))
    return t.b.Clip(t.b.Sub(t.constant(1), cosines), t.constant(0), t.constant(2))


def _correlation(t: Translation, x: Value, points: Array) -> Value:
    mean = t.b.Div(t.total(x), t.constant(points.shape[1]))
    return _cosine(t, t.b.Sub(x, mean), points - points.mean(1, keepdims=True))


def _gaps(t: Translation, x: Value, points: Array) -> tuple[Value, Value, Value]:
    """(rows, points, features) differences without their signs; both sides."""
    wide, fixed = t.b.Unsqueeze(x, t.axes(1)), t.constant(points)
    return t.b.Abs(t.b.Sub(wide, fixed)), wide, fixed


def _canberra(t: Translation, x: Value, points: Array) -> Value:
    gap, wide, fixed = _gaps(t, x, points)
    size = t.b.Add(t.b.Abs(wide), t.b.Abs(fixed))
    return t.total(t.b.Div(gap, t.b.Where(t.b.Equal(size, t.constant(0)), t.constant(1), size)), 2, False)


def _bray_curtis(t: Translation, x: Value, points: Array) -> Value:
    gap, wide, fixed = _gaps(t, x, points)
    return t.b.Div(t.total(gap, 2, False), t.total(t.b.Abs(t.b.Add(wide, fixed)), 2, False))


def _squared(t: Translation, x: Value, points: Array) -> Value:
    gap, _, _ = _gaps(t, x, points)
    return t.total(t.b.Mul(gap, gap), 2, False)


_Whole = Callable[[Translation, Value, Array], Value]
_OTHERS: dict[str, _Whole] = {
    "cosine": _cosine, "correlation": _correlation, "canberra": _canberra, "braycurtis": _bray_curtis,
    "sqeuclidean": _squared, "nan_euclidean": masked}
# Those without differences of three axes.
_FLAT = ("cosine", "correlation", "precomputed")
_POWERS = {"euclidean": 2.0, "l2": 2.0, "manhattan": 1.0, "cityblock": 1.0, "l1": 1.0, "chebyshev": np.inf,
           "infinity": np.inf, "minkowski": 2.0, "p": 2.0, "seuclidean": 2.0, "mahalanobis": 2.0}


@dataclass(frozen=True, slots=True)
class Metric:
    """How far points are: a Minkowski norm of differences of features times `turn`, or a function of its own.

    Attributes:
        turn: (features,) or (features, n); None changes nothing.
    """

    name: str
    power: float | None
    turn: Array | None = None

    def turned(self, t: Translation, x: Value) -> Value:
        if self.turn is None:
            return x
        return t.b.Mul(x, t.constant(self.turn)) if self.turn.ndim == 1 else t.b.MatMul(x, t.constant(self.turn))

    def turned_points(self, points: Array) -> Array:
        return points if self.turn is None else points * self.turn if self.turn.ndim == 1 else points @ self.turn

    def between(self, t: Translation, x: Value, points: Array) -> Value:
        """(rows, points) from what was turned, exactly."""
        if self.name == "precomputed":
            return x
        if self.power is None:
            return _OTHERS[self.name](t, x, points)
        return norm(t, t.b.Sub(t.b.Unsqueeze(x, t.axes(1)), t.constant(points)), self.power)

    @property
    def flat(self) -> bool:
        """True where no differences of three axes are held."""
        return self.power == 2 or self.name in _FLAT


def metric_of(model: Any) -> Metric:
    """What a model of neighbours measures by.

    Raises:
        UnsupportedError: a function of one's own, or a metric that has no translation.
    """
    name = model.effective_metric_ if hasattr(model, "effective_metric_") else model.metric
    given = {**(getattr(model, "metric_params", None) or {}),
             **(getattr(model, "effective_metric_params_", None) or {})}
    if callable(name):
        raise refuse(model, "(metric=a function)")
    if name in ("hamming", "matching", "jaccard", "dice", "rogerstanimoto", "russellrao", "sokalsneath",
                "sokalmichener", "yule"):
        raise refuse(model, f"(metric={name!r}), by which many points are equally far and each search takes others,")
    power = _POWERS.get(name)
    if power is None:
        if name not in _OTHERS and name != "precomputed":
            raise refuse(model, f"(metric={name!r})",
                         "these have: " + ", ".join(sorted([*_POWERS, *_OTHERS, "precomputed"])))
        return Metric(name, None)
    if name in ("minkowski", "p"):
        power = float(given.get("p", getattr(model, "p", 2)))
        weights = given.get("w")
        return Metric(name, power, None if weights is None else np.asarray(weights, float)**(1 / power))
    if name == "seuclidean":
        spread = given.get("V")
        # Without them each query's own spread would count.
        if spread is None:
            raise refuse(model, "(metric='seuclidean') without V")
        return Metric(name, 2.0, 1 / np.sqrt(np.asarray(spread, float)))
    if name == "mahalanobis":
        if given.get("VI") is None and given.get("V") is None:
            raise refuse(model, "(metric='mahalanobis') without VI")
        inverse = np.asarray(given["VI"] if given.get("VI") is not None else np.linalg.inv(given["V"]), float)
        return Metric(name, 2.0, np.linalg.cholesky(inverse))
    return Metric(name, power)


def points_of(model: Any) -> Array:
    """(points, features) what the model was fitted on."""
    points = model._fit_X if hasattr(model, "_fit_X") else model.tree_.data
    return np.asarray(points.toarray() if hasattr(points, "toarray") else points, float)


def _cuts(count: int, each: int) -> list[tuple[int, int]]:
    return [(i, min(i + each, count)) for i in range(0, count, each)]


def all_distances(t: Translation, model: Any, x: Value) -> Value:
    """(rows, points): each exactly."""
    metric, points = metric_of(model), points_of(model)
    if metric.name == "precomputed":
        return x
    x, points = metric.turned(t, x), metric.turned_points(points)
    each = len(points) if metric.name in _FLAT else max(1, _GAPS // max(points.shape[1], 1))
    return t.join([metric.between(t, x, points[i:j]) for i, j in _cuts(len(points), each)])


def nearest(t: Translation, model: Any, x: Value, k: int) -> tuple[Value, Value]:
    """The distances and the positions in training of the k nearest points, both (rows, k), the nearest first."""
    metric, points = metric_of(model), points_of(model)
    if metric.name == "precomputed":
        return _least(t, x, k)
    x, points = metric.turned(t, x), metric.turned_points(points)
    each = _BLOCK if metric.flat else min(_BLOCK, max(k, _GAPS // max(points.shape[1], 1)))
    wanted = min(len(points), k + _SPARE) if metric.power == 2 else k
    found = []
    if metric.power == 2:
        # What is far from the origin loses digits.
        middle = points.mean(0)
        x, points = t.b.Sub(x, t.constant(middle)), points - middle
    for i, j in _cuts(len(points), each):
        part = points[i:j]
        # The row's own square would change the order of none.
        far = t.b.Add(t.b.MatMul(x, t.constant(-2 * part.T)), t.constant((part**2).sum(1))) if metric.power == 2 else \
            metric.between(t, x, part)
        near, index = _least(t, far, min(wanted, j - i))
        found.append((near, t.b.Add(index, t.b.constant(np.array(i, np.int64))) if i else index))
    near, index = found[0]
    if len(found) > 1:
        near, place = _least(t, t.join([n for n, _ in found]), wanted)
        index = t.b.GatherElements(t.join([i for _, i in found]), place, axis=1)
    if metric.power != 2:
        return near, index
    gap = t.b.Sub(t.b.Unsqueeze(x, t.axes(1)), t.b.Gather(t.constant(points, "points"), index, axis=0))
    near, place = _least(t, norm(t, gap, 2.0), k)
    return near, t.b.GatherElements(index, place, axis=1)


def _least(t: Translation, values: Value, k: int) -> tuple[Value, Value]:
    """The k least of each row, the least first, and their places."""
    near, index = t.b.op("TopK", values, t.axes(k), axis=1, largest=0, sorted=1, outputs=2)
    return near, index
