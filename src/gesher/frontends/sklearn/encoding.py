"""Categories as numbers: each value is compared with the known ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import Value

from .translation import Array, Outputs, Translation, refuse, translates


def _hits(t: Translation, model: Any, x: Value, i: int, categories: Array) -> Value:
    """(rows, categories): true where column `i` is that category."""
    column = t.b.Gather(x, t.axes(i), axis=1)
    if t.b.dtype(x) is dtypes.STRING:
        if not all(isinstance(c, str) for c in categories):
            raise refuse(model, " with categories that are not all strings")
        return t.b.Equal(column, t.b.constant(np.asarray(categories, str).astype(object)))
    if categories.dtype.kind not in "iufb":
        raise refuse(model, " of strings without an example of strings", "give an example")
    known = np.asarray(categories, float)
    same = t.b.Equal(column, t.constant(known))
    gone = np.isnan(known)
    return t.b.Or(same, t.b.And(t.b.IsNaN(column), t.b.constant(gone))) if gone.any() else same


def _whole(model: Any) -> None:
    """Refuse encoders that raise an error for unknown values where ONNX cannot; those known are exact."""
    if getattr(model, "_infrequent_enabled", False):
        raise refuse(model, " that gathers infrequent categories")


@translates("preprocessing.OneHotEncoder")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    _whole(model)
    parts = []
    for i, categories in enumerate(model.categories_):
        part = t.number(_hits(t, model, x, i, categories))
        drop = None if model.drop_idx_ is None else model.drop_idx_[i]
        if drop is not None:
            part = t.b.Gather(part, t.axes(*(k for k in range(len(categories)) if k != drop)), axis=1)
        parts.append(part)
    return Outputs(transformed=t.join(parts))


@translates("preprocessing.OrdinalEncoder")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    _whole(model)
    parts = []
    unknown = model.unknown_value if model.handle_unknown == "use_encoded_value" else np.nan
    for i, categories in enumerate(model.categories_):
        hits = t.number(_hits(t, model, x, i, categories))
        codes = np.arange(len(categories), dtype=float)
        missing = [k for k, c in enumerate(categories) if isinstance(c, float) and np.isnan(c)]
        marks = np.zeros(len(categories))
        if missing:
            codes[missing], marks[missing] = 0, 1
        code = t.b.MatMul(hits, t.constant(codes[:, None]))
        if missing:
            gone = t.b.Greater(t.b.MatMul(hits, t.constant(marks[:, None])), t.constant(0))
            code = t.b.Where(gone, t.constant(model.encoded_missing_value), code)
        parts.append(t.b.Where(t.b.Greater(t.total(hits), t.constant(0)), code, t.constant(unknown)))
    return Outputs(transformed=t.join(parts))


@translates("preprocessing.TargetEncoder")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    parts = []
    several = model.target_type_ == "multiclass"
    classes = len(model.classes_) if several else 1
    for i, categories in enumerate(model.categories_):
        hits = t.number(_hits(t, model, x, i, categories))
        known = t.b.Greater(t.total(hits), t.constant(0))
        for c in range(classes):
            means = np.asarray(model.encodings_[i * classes + c], float)
            mean = model.target_mean_[c] if several else model.target_mean_
            said = t.b.MatMul(hits, t.constant(means[:, None]))
            parts.append(t.b.Where(known, said, t.constant(mean)))
    return Outputs(transformed=t.join(parts))


@translates("impute.MissingIndicator")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    gone = t.b.IsNaN(x) if model.missing_values != model.missing_values else \
        t.b.Equal(x, t.constant(model.missing_values))
    kept = t.b.Gather(gone, t.b.constant(np.asarray(model.features_, np.int64)), axis=1)
    return Outputs(transformed=t.number(kept))


