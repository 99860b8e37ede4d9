"""Categories as numbers: each value gets the place of its category, and the place its row of a table; and back.

Where scikit-learn raises an error for a value that it does not know, so does the model (`Translation.demand`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import Value

from .tables import MISSING_STRING, Array, Table, is_missing
from .translation import Outputs, Translation, columnwise, inverts, refuse, translates

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


# The way back: from places to categories

_BEYOND = 2**40
"""A place that no table has: engines refuse to gather from it."""


def category_constant(t: Translation, model: Any, values: list[Any]) -> Value:
    """Categories of one column as a constant; None and what else is missing as "" among strings, NaN among numbers.

    Raises:
        UnsupportedError: there are strings and numbers among them.
    """
    there = [v for v in values if not is_missing(v)]
    if any(isinstance(v, str) for v in there):
        if not all(isinstance(v, str) for v in there):
            raise refuse(model, ".inverse_transform to numbers and strings in one column",
                         "ONNX has no type for both: without infrequent categories there are numbers alone")
        return t.b.constant(np.array([MISSING_STRING if is_missing(v) else str(v) for v in values], object))
    if not all(isinstance(v, (bool, np.bool_, int, np.integer, float, np.floating)) for v in there):
        found = ", ".join(sorted({type(v).__name__ for v in there}))
        raise refuse(model, f".inverse_transform to categories of {found}")
    if len(there) == len(values) and all(isinstance(v, (bool, np.bool_)) for v in values):
        return t.b.constant(np.array(values, bool))
    if len(there) == len(values) and not any(isinstance(v, (float, np.floating)) for v in values):
        return t.b.constant(np.array(values, np.int64))
    if not there and any(v is None for v in values) and len(values) > 1:
        return t.b.constant(np.full(len(values), MISSING_STRING, object))
    return t.constant([np.nan if is_missing(v) else float(v) for v in values])


def trusted(t: Translation, model: Any, values: list[Any], place: Value, fits: Value | None, why: str) -> Value:
    """(rows,): the value at each place (rows,); an error, as `why` tells, where `fits` (rows,) is not true."""
    if fits is None:
        return t.b.Gather(category_constant(t, model, values), place, axis=0)
    if why not in t.raises:
        t.raises.append(why)
    beyond = _BEYOND
    if t.on_error == "nan":
        values, beyond = [*values, None], len(values)
    place = t.b.Where(fits, place, t.b.constant(np.array(beyond, np.int64)))
    return t.b.Gather(category_constant(t, model, values), place, axis=0)


def kept_at(t: Translation, x: Value, count: int) -> tuple[Value, Value]:
    """The place that each number (rows,) is as an index into `count` things, as numpy takes it once it is cut to a
    whole number; and whether there is one. What lies between -count - 1 and -count is cut to -count, the first."""
    fits = t.b.And(t.b.Greater(x, t.constant(-count - 1)), t.b.Less(x, t.constant(count)))
    whole = t.b.Cast(t.b.Where(fits, x, t.constant(0)), to=dtypes.INT64.code)
    under = t.b.Less(whole, t.b.constant(np.array(0, np.int64)))
    place = t.b.Where(under, t.b.Add(whole, t.b.constant(np.array(count, np.int64))), whole)
    return place, fits


def marked(t: Translation, x: Value, start: int, count: int) -> tuple[Value, Value]:
    """Which of the columns from `start` on is the largest (rows,), and whether their sum is 0 (rows,)."""
    part = t.b.Slice(x, t.axes(start), t.axes(start + count), t.axes(1))
    return t.b.ArgMax(part, axis=1, keepdims=0), t.b.Equal(t.total(part, keep=False), t.constant(0))


def _side_by_side(t: Translation, model: Any, parts: list[Value]) -> Value | Table:
    """Columns (rows,) as a matrix where they are of one type, else as a table."""
    upright = [t.upright(p) for p in parts]
    if len({t.b.dtype(p) for p in parts}) == 1:
        return t.join(upright)
    names = getattr(model, "feature_names_in_", [f"x{i}" for i in range(len(parts))])
    return Table(list(upright), [str(n) for n in names])


def _of_width(t: Translation, model: Any, x: Any, width: int) -> Value:
    """The matrix of numbers, which must have so many columns."""
    matrix = t.matrix(x, model)
    found = (t.b.shape(matrix) or (0, None))[1]
    if found != width:
        raise refuse(model, f".inverse_transform of {found} columns in place of {width}")
    return matrix


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


@inverts("preprocessing.OneHotEncoder")
def _(t: Translation, model: Any, x: Any) -> Value | Table:
    """The category of the largest mark; a row without marks was what is dropped, or what is not known."""
    seldom = model._infrequent_indices if getattr(model, "_infrequent_enabled", False) else None
    groups = model._drop_idx_after_grouping
    x = _of_width(t, model, x, int(np.sum(model._n_features_outs)))
    parts, start = [], 0
    for i, categories in enumerate(model.categories_):
        grouped = model._compute_transformed_categories(i, remove_dropped=False)
        kept = list(model._remove_dropped_categories(grouped, i))
        drop = None if groups is None else groups[i]
        if not kept:
            # The first of one column is always the largest: it is place 0 of a table of one.
            nowhere = t.b.ArgMax(t.column(x, 0), axis=1, keepdims=0)
            parts.append(t.b.Gather(category_constant(t, model, [categories[drop]]), nowhere, axis=0))
            continue
        place, none = marked(t, x, start, len(kept))
        start += len(kept)
        ignores = model.handle_unknown == "ignore" or (
            model.handle_unknown in ("infrequent_if_exist", "warn") and (seldom is None or seldom[i] is None))
        if not ignores and drop is None:
            parts.append(trusted(t, model, kept, place, t.b.Not(none),
                                 f"OneHotEncoder meets a row without a mark (column {i}), which it cannot turn back"))
            continue
        # scikit-learn looks for what is dropped among all categories here, and there among the grouped ones.
        other = None if drop is None else categories[drop] if ignores else grouped[drop]
        place = t.b.Where(none, t.b.constant(np.array(len(kept), np.int64)), place)
        parts.append(t.b.Gather(category_constant(t, model, [*kept, other]), place, axis=0))
    return _side_by_side(t, model, parts)


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


@inverts("preprocessing.OrdinalEncoder")
def _(t: Translation, model: Any, x: Any) -> Value | Table:
    def is_code(column: Value, code: Any) -> Value:
        return t.b.IsNaN(column) if is_missing(code) else t.b.Equal(column, t.constant(code))

    x = _of_width(t, model, x, len(model.categories_))
    seldom = getattr(model, "_infrequent_indices", None)
    parts = []
    for i, categories in enumerate(model.categories_):
        column, values = t.flat(t.column(x, i)), list(categories)
        special: list[tuple[Value, Any]] = []
        if i in model._missing_indices:
            at = t.constant(model._missing_indices[i])
            column = t.b.Where(is_code(column, model.encoded_missing_value), at, column)
        if model.handle_unknown == "use_encoded_value":
            special.append((is_code(column, model.unknown_value), None))
        if seldom is not None and seldom[i] is not None:
            values = list(np.delete(categories, seldom[i]))
            special.append((is_code(column, len(values)), "infrequent_sklearn"))
        place, fits = kept_at(t, column, len(values))
        for is_it, value in special:
            place = t.b.Where(is_it, t.b.constant(np.array(len(values), np.int64)), place)
            fits, values = t.b.Or(fits, is_it), [*values, value]
        parts.append(trusted(t, model, values, place, fits,
                             f"OrdinalEncoder meets a code that no category has (column {i})"))
    return _side_by_side(t, model, parts)


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


@inverts("preprocessing.LabelEncoder")
def _(t: Translation, model: Any, x: Any) -> Value:
    codes, n = t.flat(_labels(t, x)), len(model.classes_)
    if t.b.dtype(codes) not in (dtypes.INT64, dtypes.BOOL):
        raise refuse(model, f".inverse_transform of {t.b.dtype(codes).name}", "give an example of whole numbers")
    codes = t.b.Cast(codes, to=dtypes.INT64.code)
    fits = t.b.And(t.b.GreaterOrEqual(codes, t.b.constant(np.array(0))), t.b.Less(codes, t.b.constant(np.array(n))))
    return trusted(t, model, list(model.classes_), codes, fits, "LabelEncoder meets a code that no label has")


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


@inverts("preprocessing.LabelBinarizer")
def _(t: Translation, model: Any, x: Any) -> Value:
    """The label of the largest mark; of two labels, the second where the mark is above the middle of both marks."""
    n, marks = len(model.classes_), t.matrix(_labels(t, x), model)
    width = (t.b.shape(marks) or (0, None))[1]
    above = t.b.Greater(marks, t.constant((model.pos_label + model.neg_label) / 2))
    if model.y_type_ == "multilabel-indicator":
        return t.b.Cast(_of_width(t, model, above, n), to=dtypes.INT64.code)
    if model.y_type_ == "multiclass":
        place = t.b.ArgMax(_of_width(t, model, marks, n), axis=1, keepdims=0)
    elif model.y_type_ == "binary" and width in (1, 2):
        place = t.b.Cast(t.flat(t.column(above, int(width) - 1)), to=dtypes.INT64.code)
        if n == 1:
            place = t.b.Mul(place, t.b.constant(np.array(0, np.int64)))
    else:
        raise refuse(model, f".inverse_transform of {model.y_type_} labels in {width} columns")
    return t.b.Gather(category_constant(t, model, list(model.classes_)), place, axis=0)


@translates("preprocessing.MultiLabelBinarizer")
def _(t: Translation, model: Any, x: Any) -> Outputs:
    """Every column holds a label of the row; a label that stands twice, or that is not known, changes nothing."""
    columns = t.table(x).values()
    marks = [t.number(hits(t, model, c, model.classes_)) for c in columns]
    whole = t.largest(t.join([t.b.Unsqueeze(m, t.axes(1)) for m in marks]), axis=1, keep=False)
    return Outputs(transformed=t.b.Cast(whole, to=dtypes.INT64.code))


def listed(t: Translation, marks: Value, words: Value) -> Value:
    """The words of each row as a sequence of arrays: those whose mark (rows, words) is not 0, in their order."""
    there = t.b.Not(t.b.Equal(marks, t.constant(0)))
    at = t.b.Gather(t.b.NonZero(there), t.b.constant(np.array(1, np.int64)), axis=0)
    counts = t.total(t.b.Cast(there, to=dtypes.INT64.code), keep=False)
    return t.b.SplitToSequence(t.b.Gather(words, at, axis=0), counts, axis=0)


@inverts("preprocessing.MultiLabelBinarizer")
def _(t: Translation, model: Any, x: Any) -> Value:
    if t.on_error == "nan":
        raise refuse(model, ".inverse_transform with on_error='nan'", "a list of labels has no NaN in it")
    marks = _of_width(t, model, x, len(model.classes_))
    plain = t.b.Or(t.b.Equal(marks, t.constant(0)), t.b.Equal(marks, t.constant(1)))
    marks = t.demand(plain, marks, "MultiLabelBinarizer meets a mark that is neither 0 nor 1")
    return listed(t, marks, category_constant(t, model, list(model.classes_)))
