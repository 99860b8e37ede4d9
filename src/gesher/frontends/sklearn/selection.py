"""Choosing features: every selector says which by `get_support`, and one Gather takes them, or puts them back."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.ir import Value

from .meta import whole
from .translation import Outputs, Translation, composes, inverts, translates


def _selected(t: Translation, selector: Any, x: Value) -> Outputs:
    index = np.flatnonzero(selector.get_support()).astype(np.int64)
    return Outputs(transformed=t.b.Gather(x, t.b.constant(index, "selected"), axis=1))


def _put_back(t: Translation, selector: Any, x: Value) -> Value:
    """Where each feature was; zeros, from a column that is joined to the others, where one was not chosen."""
    support = np.asarray(selector.get_support(), bool)
    count = int(support.sum())
    index = np.where(support, np.cumsum(support) - 1, count)
    if count < len(support):
        rows = t.b.Slice(t.b.Shape(x), t.axes(0), t.axes(1))
        zeros = t.b.Expand(t.constant([[0]]), t.b.Concat(rows, t.axes(1), axis=0))
        x = t.b.Concat(x, zeros, axis=1)
    return t.b.Gather(x, t.b.constant(index.astype(np.int64), "put_back"), axis=1)


_SELECTORS = tuple(f"feature_selection.{n}" for n in (
    "SelectKBest", "SelectPercentile", "SelectFpr", "SelectFdr", "SelectFwe", "GenericUnivariateSelect",
    "VarianceThreshold", "SelectFromModel", "SequentialFeatureSelector"))
translates(*_SELECTORS)(_selected)
inverts(*_SELECTORS, "feature_selection.RFE", "feature_selection.RFECV")(_put_back)


# These two predict as well, by the estimator that was fitted on the chosen features.
@translates("feature_selection.RFE", "feature_selection.RFECV")
def _(t: Translation, selector: Any, x: Value) -> Outputs:
    chosen = _selected(t, selector, x).transformed
    assert chosen is not None
    made = whole(t.apply(selector.estimator_, chosen))
    made.transformed = chosen
    return made


composes(lambda e: [e.estimator_], "feature_selection.RFE", "feature_selection.RFECV")
