"""Estimators made of others: pipelines, unions, column transformers."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base.errors import UnsupportedError
from gesher.ir import Value

from .tables import Table
from .translation import Outputs, Translation, columnwise, composes, inverts, translates

composes(lambda e: [s for _, s in e.steps], "pipeline.Pipeline")
composes(lambda e: [s for _, s in e.transformer_list], "pipeline.FeatureUnion")
composes(lambda e: [s for _, s, c in e.transformers_ if not _is_nothing(c)], "compose.ColumnTransformer")
columnwise("pipeline.Pipeline", "pipeline.FeatureUnion", "compose.ColumnTransformer")


def _is_nothing(chosen: Any) -> bool:
    """True where no column is chosen: scikit-learn does not fit the transformer then."""
    if isinstance(chosen, (str, slice, int, np.integer)):
        return False
    chosen = list(chosen)
    return not chosen or (isinstance(chosen[0], (bool, np.bool_)) and not any(chosen))


def transformed(t: Translation, step: Any, x: Value | Table) -> Value | Table:
    """`x` through a transformer; "passthrough" leaves it as it is.

    Raises:
        UnsupportedError: the step does not transform.
    """
    if step is None or (isinstance(step, str) and step == "passthrough"):
        return x
    made = t.apply(step, x).transformed
    if made is None:
        raise UnsupportedError(f"{type(step).__name__} stands inside a pipeline and does not transform", who="sklearn")
    return made


@translates("pipeline.Pipeline")
def _(t: Translation, pipeline: Any, x: Any) -> Outputs:
    *inner, (_, last) = pipeline.steps
    for _, step in inner:
        x = transformed(t, step, x)
    if last is None or (isinstance(last, str) and last == "passthrough"):
        return Outputs(transformed=x)
    return t.apply(last, x)


@inverts("pipeline.Pipeline", through=True)
def _(t: Translation, pipeline: Any, x: Any) -> Value | Table:
    for _, step in reversed(pipeline.steps):
        if step is not None and not (isinstance(step, str) and step == "passthrough"):
            x = t.invert(step, x)
    made: Value | Table = x
    return made


def _weighted(t: Translation, owner: Any, name: str, part: Value | Table) -> Value | Table:
    weight = (owner.transformer_weights or {}).get(name)
    return part if weight is None else t.b.Mul(t.matrix(part, owner), t.constant(weight))


@translates("pipeline.FeatureUnion")
def _(t: Translation, union: Any, x: Any) -> Outputs:
    parts = [_weighted(t, union, name, transformed(t, step, x)) for name, step in union.transformer_list
             if not (isinstance(step, str) and step == "drop")]
    if not parts:
        raise UnsupportedError("the FeatureUnion gives no columns", who="sklearn")
    return Outputs(transformed=t.beside(parts))


@translates("compose.ColumnTransformer")
def _(t: Translation, columns: Any, x: Any) -> Outputs:
    parts = []
    for name, step, chosen in columns.transformers_:
        if (isinstance(step, str) and step == "drop") or _is_nothing(chosen):
            continue
        index = _indices(columns, name, chosen)
        if len(index):
            parts.append(_weighted(t, columns, name, transformed(t, step, t.pick(x, index, f"{name}.columns"))))
    if not parts:
        raise UnsupportedError("the ColumnTransformer gives no columns", who="sklearn")
    return Outputs(transformed=t.beside(parts))


def _indices(columns: Any, name: str, chosen: Any) -> np.ndarray[Any, Any]:
    """Positions of the chosen columns, which may be given by position, slice, mask or name."""
    known = getattr(columns, "_transformer_to_input_indices", {})
    if name in known:
        index = np.array(known[name], np.int64).reshape(-1)
        return np.where(index < 0, index + columns.n_features_in_, index)
    chosen = [chosen] if isinstance(chosen, (str, int, np.integer)) else chosen
    if isinstance(chosen, slice):
        if isinstance(chosen.start, str) or isinstance(chosen.stop, str):
            names = list(columns.feature_names_in_)
            start = 0 if chosen.start is None else names.index(chosen.start)
            # A slice of names takes its end too.
            stop = len(names) if chosen.stop is None else names.index(chosen.stop) + 1
            return np.arange(start, stop, chosen.step or 1, dtype=np.int64)
        return np.arange(columns.n_features_in_, dtype=np.int64)[chosen]
    chosen = list(chosen)
    if chosen and isinstance(chosen[0], (bool, np.bool_)):
        return np.flatnonzero(chosen).astype(np.int64)
    if chosen and isinstance(chosen[0], str):
        names = list(columns.feature_names_in_)
        return np.array([names.index(c) for c in chosen], np.int64)
    index = np.array(chosen, np.int64)
    return np.where(index < 0, index + columns.n_features_in_, index)
