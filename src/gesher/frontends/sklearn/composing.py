"""Estimators made of others: pipelines, unions, column transformers."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base.errors import UnsupportedError
from gesher.ir import Value

from .translation import Outputs, Translation, composes, translates

composes(lambda e: [s for _, s in e.steps], "pipeline.Pipeline")
composes(lambda e: [s for _, s in e.transformer_list], "pipeline.FeatureUnion")
composes(lambda e: [s for _, s, _ in e.transformers_], "compose.ColumnTransformer")


def transformed(t: Translation, step: Any, x: Value) -> Value:
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
def _(t: Translation, pipeline: Any, x: Value) -> Outputs:
    *inner, (_, last) = pipeline.steps
    for _, step in inner:
        x = transformed(t, step, x)
    if last is None or last == "passthrough":
        return Outputs(transformed=x)
    return t.apply(last, x)


@translates("pipeline.FeatureUnion")
def _(t: Translation, union: Any, x: Value) -> Outputs:
    parts = []
    for name, step in union.transformer_list:
        if step == "drop":
            continue
        part = transformed(t, step, x)
        weight = (union.transformer_weights or {}).get(name)
        parts.append(part if weight is None else t.b.Mul(part, t.constant(weight)))
    return Outputs(transformed=parts[0] if len(parts) == 1 else t.b.Concat(*parts, axis=1))


@translates("compose.ColumnTransformer")
def _(t: Translation, columns: Any, x: Value) -> Outputs:
    parts = []
    for name, step, chosen in columns.transformers_:
        if isinstance(step, str) and step == "drop":
            continue
        index = _indices(columns, chosen)
        if not len(index):
            continue
        picked = t.b.Gather(x, t.b.constant(index, f"{name}.columns"), axis=1)
        part = transformed(t, step, picked)
        weight = (columns.transformer_weights or {}).get(name)
        parts.append(part if weight is None else t.b.Mul(part, t.constant(weight)))
    if not parts:
        raise UnsupportedError("the ColumnTransformer gives no columns", who="sklearn")
    return Outputs(transformed=parts[0] if len(parts) == 1 else t.b.Concat(*parts, axis=1))


def _indices(columns: Any, chosen: Any) -> np.ndarray[Any, Any]:
    """Positions of the chosen columns, which may be given by position, slice, mask or name."""
    if isinstance(chosen, slice):
        return np.arange(columns.n_features_in_, dtype=np.int64)[chosen]
    chosen = [chosen] if isinstance(chosen, (str, int, np.integer)) else list(chosen)
    if chosen and isinstance(chosen[0], (bool, np.bool_)):
        return np.flatnonzero(chosen).astype(np.int64)
    if chosen and isinstance(chosen[0], str):
        names = list(columns.feature_names_in_)
        return np.array([names.index(c) for c in chosen], np.int64)
    index = np.array(chosen, np.int64)
    return np.where(index < 0, index + columns.n_features_in_, index)
