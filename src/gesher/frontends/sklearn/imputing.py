"""Missing values: filled in, or told."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import Value

from .distances import masked
from .tables import MISSING_STRING, Array, Table, is_missing
from .translation import Outputs, Translation, columnwise, in_double, inverts, refuse, translates

columnwise("impute.SimpleImputer", "impute.MissingIndicator")


def is_gone(t: Translation, model: Any, x: Value) -> Value:
    """Truth values: is the element what the imputer calls missing."""
    mark = model.missing_values
    kind = t.b.dtype(x)
    if kind is dtypes.STRING:
        if not is_missing(mark) and not isinstance(mark, str):
            return t.b.Not(t.b.Equal(x, x))
        word = MISSING_STRING if is_missing(mark) else mark
        return t.b.Equal(x, t.b.constant(np.array(word, object)))
    if is_missing(mark):
        # Whole numbers and truth values have no gaps.
        return t.b.IsNaN(x) if kind.is_float else t.b.Not(t.b.Equal(x, x))
    if not isinstance(mark, (int, float, np.integer, np.floating)):
        return t.b.Not(t.b.Equal(x, x))
    if kind is dtypes.BOOL or (not kind.is_float and mark != int(mark)):
        raise refuse(model, f"(missing_values={mark!r}) on a column of {kind.name}")
    return t.b.Equal(x, t.b.constant(np.array(mark, kind.numpy)))


def indicator(t: Translation, model: Any, x: Value | Table) -> Value:
    """(rows, features that it tells of): 1 where they are missing."""
    features = np.asarray(model.features_, np.int64)
    if isinstance(x, Table):
        table = x.take(features)
        return t.join([t.number(is_gone(t, model, c)) for c in table.values()])
    return t.number(is_gone(t, model, t.matrix(t.pick(x, features)) if t.b.dtype(x) is not dtypes.STRING
                            else t.join([t.column(x, int(i)) for i in features])))


@translates("impute.MissingIndicator")
def _(t: Translation, model: Any, x: Any) -> Outputs:
    if not len(model.features_):
        first = t.table(x).value(0)
        none = t.b.Slice(first, t.axes(0), t.axes(0), t.axes(1))
        return Outputs(transformed=t.b.Not(t.b.Equal(none, none)))
    return Outputs(transformed=indicator(t, model, x))


def with_indicator(t: Translation, model: Any, filled: Value | Table, x: Value | Table) -> Value | Table:
    """Beside what was filled in, which of it was."""
    told = getattr(model, "indicator_", None)
    if told is None or not len(told.features_):
        return filled
    return t.beside([filled, indicator(t, told, x)])


def _kept(model: Any) -> Array:
    """Places of the features that come out filled: those empty in training have nothing to be filled with."""
    empty = np.array([is_missing(v) for v in model.statistics_], bool)
    return np.flatnonzero(~empty | bool(model.keep_empty_features or model.strategy == "constant"))


@translates("impute.SimpleImputer")
def _(t: Translation, model: Any, x: Any) -> Outputs:
    values, keep = np.asarray(model.statistics_), _kept(model)
    if isinstance(x, Value) and t.b.dtype(x) is not dtypes.STRING:
        whole = t.matrix(x)
        filled: Value | Table = t.pick(t.b.Where(is_gone(t, model, whole), t.constant(values.astype(float)), whole),
                                       keep, "imputer.columns")
        return Outputs(transformed=with_indicator(t, model, filled, whole))
    table = t.table(x)
    columns = table.values()
    if not any(t.b.dtype(c) is dtypes.STRING for c in columns):
        whole = t.matrix(x)
        filled = t.b.Where(is_gone(t, model, whole), t.constant(values.astype(float)), whole)
        return Outputs(transformed=with_indicator(t, model, t.pick(filled, keep, "imputer.columns"), whole))
    made: list[Value | str] = []
    for i in keep:
        column, value = columns[i], values[i]
        kind = t.b.dtype(column)
        if kind is dtypes.STRING:
            word = MISSING_STRING if is_missing(value) else value
            if not isinstance(word, str):
                raise refuse(model, f" that fills strings with {value!r}")
            made.append(t.b.Where(is_gone(t, model, column), t.b.constant(np.array(word, object)), column))
        elif isinstance(value, str):
            raise refuse(model, f" that fills numbers with {value!r}")
        elif kind is dtypes.BOOL:
            made.append(column)
        else:
            wide = column if kind is t.dtype else t.number(column)
            made.append(t.b.Where(is_gone(t, model, column), t.constant(value), wide))
    return Outputs(transformed=with_indicator(t, model, t.beside([Table(made, [table.names[i] for i in keep])]), x))


@inverts("impute.SimpleImputer")
def _(t: Translation, model: Any, x: Any) -> Value:
    """The filled features, with the mark of what is missing again where the indicator beside them says so.

    scikit-learn looks for features that were left out among those that are missing in every row that it is given, and
    so has an IndexError for a single row with a gap, where this model answers.
    """
    if not model.add_indicator:
        raise refuse(model, "(add_indicator=False).inverse_transform", "fit it with add_indicator=True")
    if isinstance(model.missing_values, str):
        raise refuse(model, ".inverse_transform of strings", "scikit-learn's own takes numbers alone")
    keep, told = _kept(model), np.asarray(model.indicator_.features_, np.int64)
    x = t.matrix(x, model)
    mark = t.constant(np.nan if is_missing(model.missing_values) else model.missing_values)
    gone = t.b.Not(t.b.Equal(x, t.constant(0)))
    columns = []
    for i in range(len(model.statistics_)):
        at, beside = np.flatnonzero(keep == i), np.flatnonzero(told == i)
        lacks = t.column(gone, len(keep) + int(beside[0])) if len(beside) else None
        if not len(at):
            if lacks is None:
                raise refuse(model, ".inverse_transform of features left out that the indicator does not tell of")
            columns.append(t.demand(lacks, t.b.Where(lacks, mark, t.constant(0)),
                                    f"SimpleImputer meets a value of the feature {i}, which it left out"))
        else:
            column = t.column(x, int(at[0]))
            columns.append(column if lacks is None else t.b.Where(lacks, mark, column))
    return t.join(columns)


@translates("impute.KNNImputer")
@in_double
def _(t: Translation, model: Any, x: Any) -> Outputs:
    """Each gap gets the mean of its feature over the nearest rows of training that have it."""
    points = np.asarray(model._fit_X, float)
    if not is_missing(model.missing_values):
        raise refuse(model, f"(missing_values={model.missing_values!r})", "NaN has")
    if model.metric != "nan_euclidean" or callable(model.weights):
        raise refuse(model, "(metric or weights as a function)")
    has: Array = ~np.isnan(points)
    valid = np.asarray(model._valid_mask, bool)
    distances = masked(t, x, points)
    columns = []
    for i in np.flatnonzero(valid | bool(model.keep_empty_features)):
        column = t.column(x, int(i))
        if not valid[i]:
            columns.append(t.b.Mul(t.number(t.b.IsNaN(column)), t.constant(0)))
            continue
        donors = np.flatnonzero(has[:, i])
        mean = points[donors, i].mean()
        k = min(int(model.n_neighbors), len(donors))
        far = t.b.Gather(distances, t.b.constant(donors.astype(np.int64)), axis=1)
        alone = t.largest(t.b.Cast(t.b.Not(t.b.IsInf(far)), to=dtypes.INT32.code))
        near, at = t.b.op("TopK", far, t.axes(k), axis=1, largest=0, sorted=1, outputs=2)
        said = t.b.Gather(t.constant(points[donors, i]), at, axis=0)
        if model.weights == "uniform":
            weight = t.b.Add(t.b.Mul(said, t.constant(0)), t.constant(1))
        else:
            none = t.b.Equal(near, t.constant(0))
            some = t.b.Greater(t.largest(t.number(none)), t.constant(0))
            weight = t.b.Where(some, t.number(none), t.b.Div(t.constant(1), t.b.Where(none, t.constant(1), near)))
        # A row that shares no feature with a point is infinitely far from it, and that point does not count.
        weight = t.b.Where(t.b.IsInf(near), t.constant(0), weight)
        total = t.total(weight)
        nothing = t.b.Equal(total, t.constant(0))
        filled = t.b.Div(t.total(t.b.Mul(weight, said)), t.b.Where(nothing, t.constant(1), total))
        filled = t.b.Where(t.b.Cast(alone, to=dtypes.BOOL.code), filled, t.constant(mean))
        columns.append(t.b.Where(t.b.IsNaN(column), filled, column))
    return Outputs(transformed=with_indicator(t, model, t.join(columns), x), in_float64=True)
