"""Choosing features: every selector says which by `get_support`, and one Gather takes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.ir import Value

from .meta import whole
from .translation import Outputs, Translation, composes, translates


def _selected(t: Translation, selector: Any, x: Value) -> Outputs:
    index = np.flatnonzero(selector.get_support()).astype(np.int64)
    return Outputs(transformed=t.b.Gather(x, t.b.constant(index, "selected"), axis=1))


translates(*(f"feature_selection.{n}" for n in (
    "SelectKBest", "SelectPercentile", "SelectFpr", "SelectFdr", "SelectFwe", "GenericUnivariateSelect",
    "VarianceThreshold", "SelectFromModel", "SequentialFeatureSelector")))(_selected)


# These two predict as well, by the estimator that was fitted on the chosen features.
@translates("feature_selection.RFE", "feature_selection.RFECV")
def _(t: Translation, selector: Any, x: Value) -> Outputs:
    chosen = _selected(t, selector, x).transformed
    assert chosen is not None
    made = whole(t.apply(selector.estimator_, chosen))
    made.transformed = chosen
    return made


composes(lambda e: [e.estimator_], "feature_selection.RFE", "feature_selection.RFECV")
