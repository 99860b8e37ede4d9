"""Categories as numbers: each value gets the place of its category, and the place its row of a table.

Where scikit-learn raises an error for a value that it does not know, so does the model (`Translation.demand`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import Value

from .tables import MISSING_STRING, Array, Table, is_missing
from .translation import Outputs, Translation, columnwise, refuse, translates

columnwise("preprocessing.OneHotEncoder", "preprocessing.OrdinalEncoder", "preprocessing.TargetEncoder",
           "preprocessing.LabelEncoder", "preprocessing.LabelBinarizer", "preprocessing.MultiLabelBinarizer")


def string_categories(model: Any, categories: Any) -> list[str]:
    """The categories as strings, the missing one as what is fed in its place.

    Raises:
        UnsupportedError: not all are strings, or two could not be told apart.
    """
    words = [MISSING_STRING if is_missing(c) else c for c in categories]
    if not all(isinstance(w, str) for w in words):
        raise refuse(model, " with categories that are not all strings, of a column of strings")
    if len(set(words)) < len(words):
        raise refuse(model, " that tells None, NaN and '' apart", "ONNX has one string for all of them")
    return [str(w) for w in words]


def hits(t: Translation, model: Any, column: Value, categories: Any) -> Value:
    """(rows, categories) truth values: is the value (rows, 1) that category."""
    kind = t.b.dtype(column)
    if kind is dtypes.STRING:
        words = string_categories(model, categories)
        return t.b.Equal(column, t.b.constant(np.array([words], object)))
    plain = [np.nan if is_missing(c) else c for c in categories]
    if not all(isinstance(c, (bool, np.bool_, int, np.integer, float, np.floating)) for c in plain):
        raise refuse(model, " of strings without an example of strings", "give an example of what it takes")
    known = np.array([plain], float)
    gone = np.isnan(known)
    if kind in (dtypes.INT64, dtypes.BOOL):
        whole = column if kind is dtypes.INT64 else t.b.Cast(column, to=dtypes.INT64.code)
        exact = ~gone & (known == np.floor(known)) & (np.abs(known) < 2**62)
        if exact.all():
            return t.b.Equal(whole, t.b.constant(np.array([plain]).astype(np.int64)))
        column, kind = t.b.Cast(whole, to=dtypes.DOUBLE.code), dtypes.DOUBLE
    if kind is dtypes.FLOAT and not (known.astype(np.float32).astype(float) == known)[~gone].all():
        # scikit-learn widens the values and not the categories: one that float32 cannot hold is never met.
        column, kind = t.b.Cast(column, to=dtypes.DOUBLE.code), dtypes.DOUBLE
    same = t.b.Equal(column, t.b.constant(known.astype(kind.numpy)))
    return t.b.Or(same, t.b.And(t.b.IsNaN(column), t.b.constant(gone))) if gone.any() else same


def places(t: Translation, model: Any, column: Value, categories: Any) -> Value:
    """(rows,) int64: which category the value (rows, 1) is; their number where it is none."""
    n = len(categories)
    flat = t.flat(column)
    if t.b.dtype(column) is dtypes.STRING:
        words = string_categories(model, categories)
        return t.b.LabelEncoder(flat, domain="ai.onnx.ml", keys_strings=words,
                                values_int64s=list(range(n)), default_int64=n)
    found = t.b.Cast(hits(t, model, column, categories), to=dtypes.FLOAT.code)
    steps = t.b.constant((np.arange(n) - n)[:, None].astype(np.float32))
    code = t.b.Add(t.b.MatMul(found, steps), t.b.constant(np.array(n, np.float32)))
    return t.flat(t.b.Cast(code, to=dtypes.INT64.code))


def known(t: Translation, place: Value, n: int) -> Value:
    """(rows, 1): is the place that of a category."""
    return t.upright(t.b.Less(place, t.b.constant(np.array(n, np.int64))))


def _columns(t: Translation, model: Any, x: Value | Table) -> list[Value]:
    table = t.table(x)
    if len(table.columns) != len(model.categories_):
        raise refuse(model, f" of {len(model.categories_)} columns on {len(table.columns)}")
    return table.values()


def _rows_of(t: Translation, rows: Array, place: Value) -> Value:
    return t.b.Gather(t.constant(rows), place, axis=0)


def _mapping(model: Any, i: int, n: int) -> Array:
    """Where each category goes once the infrequent ones are gathered."""
    if getattr(model, "_infrequent_enabled", False) and model._default_to_infrequent_mappings[i] is not None:
        mapping = np.asarray(model._default_to_infrequent_mappings[i], int)
        # The missing category, which is the last, is not among those that are counted.
        return np.append(mapping, np.arange(len(mapping), n))
    return np.arange(n)


@translates("preprocessing.OneHotEncoder")
def _(t: Translation, model: Any, x: Any) -> Outputs:
    parts = []
    for i, (column, categories) in enumerate(zip(_columns(t, model, x), model.categories_)):
        n = len(categories)
        mapping = _mapping(model, i, n)
        rows = np.zeros((n + 1, mapping.max() + 1))
        rows[np.arange(n), mapping] = 1
        seldom = model._infrequent_indices[i] if getattr(model, "_infrequent_enabled", False) else None
        if model.handle_unknown in ("infrequent_if_exist", "warn") and seldom is not None:
            rows[n, mapping[seldom[0]]] = 1
        drop = None if model._drop_idx_after_grouping is None else model._drop_idx_after_grouping[i]
        if drop is not None:
            rows = np.delete(rows, int(drop), axis=1)
        place = places(t, model, column, categories)
        part = _rows_of(t, rows, place)
        if model.handle_unknown == "error":
            part = t.demand(known(t, place, n), part, f"OneHotEncoder meets a value that it does not know "
                                                      f"(column {i}, handle_unknown='error')")
        parts.append(part)
    return Outputs(transformed=t.join(parts))


@translates("preprocessing.OrdinalEncoder")
def _(t: Translation, model: Any, x: Any) -> Outputs:
    parts = []
    for i, (column, categories) in enumerate(zip(_columns(t, model, x), model.categories_)):
        n = len(categories)
        codes, mapping = np.arange(n), _mapping(model, i, n)
        missing = getattr(model, "_missing_indices", {}).get(i)
        codes = np.where(codes == missing, codes, mapping) if missing is not None else mapping
        rows = np.append(codes, 0).astype(float)
        if missing is not None:
            rows[:n][codes == missing] = model.encoded_missing_value
        if model.handle_unknown == "use_encoded_value":
            rows[n] = model.unknown_value
        place = places(t, model, column, categories)
        part = _rows_of(t, rows[:, None], place)
        if model.handle_unknown == "error":
            part = t.demand(known(t, place, n), part, f"OrdinalEncoder meets a value that it does not know "
                                                      f"(column {i}, handle_unknown='error')")
        parts.append(part)
    return Outputs(transformed=t.join(parts))


@translates("preprocessing.TargetEncoder")
def _(t: Translation, model: Any, x: Any) -> Outputs:
    parts = []
    several = model.target_type_ == "multiclass"
    classes = len(model.classes_) if several else 1
    mean = np.asarray(model.target_mean_, float).reshape(-1)
    for i, (column, categories) in enumerate(zip(_columns(t, model, x), model.categories_)):
        means = [np.append(model.encodings_[i * classes + c], mean[c]) for c in range(classes)]
        parts.append(_rows_of(t, np.stack(means, 1), places(t, model, column, categories)))
    return Outputs(transformed=t.join(parts))


def _labels(t: Translation, x: Value | Table) -> Value:
    """Labels (rows,) as a column (rows, 1)."""
    if isinstance(x, Table):
        return x.value(0)
    return t.upright(x) if len(t.b.shape(x) or ()) == 1 else x


@translates("preprocessing.LabelEncoder")
def _(t: Translation, model: Any, x: Any) -> Outputs:
    n = len(model.classes_)
    place = places(t, model, _labels(t, x), model.classes_)
    code = t.demand(known(t, place, n), t.upright(t.number(place)), "LabelEncoder meets a label that it does not know")
    return Outputs(transformed=t.b.Cast(t.flat(code), to=dtypes.INT64.code))


@translates("preprocessing.LabelBinarizer")
def _(t: Translation, model: Any, x: Any) -> Outputs:
    if model.y_type_ not in ("binary", "multiclass"):
        raise refuse(model, f" of {model.y_type_} labels")
    n = len(model.classes_)
    rows = np.full((n + 1, n), float(model.neg_label))
    rows[np.arange(n), np.arange(n)] = model.pos_label
    if n == 1:
        rows[:] = model.neg_label
    elif n == 2:
        rows = rows[:, 1:]
    marks = _rows_of(t, rows, places(t, model, _labels(t, x), model.classes_))
    return Outputs(transformed=t.b.Cast(marks, to=dtypes.INT64.code))


@translates("preprocessing.MultiLabelBinarizer")
def _(t: Translation, model: Any, x: Any) -> Outputs:
    """Every column holds a label of the row; a label that stands twice, or that is not known, changes nothing."""
    columns = t.table(x).values()
    marks = [t.number(hits(t, model, c, model.classes_)) for c in columns]
    whole = t.largest(t.join([t.b.Unsqueeze(m, t.axes(1)) for m in marks]), axis=1, keep=False)
    return Outputs(transformed=t.b.Cast(whole, to=dtypes.INT64.code))
