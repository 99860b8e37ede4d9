"""Rows on the thresholds of a forest, where a comparison in another type or of another kind goes the other way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def on_thresholds(rows: Array, thresholds: Mapping[int, Array], count: int, rng: np.random.Generator) -> Array:
    """So many rows whose every feature that is compared is on one of its thresholds, or one number of the type beside.

    A row with all its features there asks many nodes about their own threshold at once; with one alone it would ask
    few. Every eighth row keeps the others as they are in `rows`, so that it goes where the data go.

    Args:
        rows: (n, features) of which the features without thresholds are taken; float32 or float64.
        thresholds: by feature, what it is compared with; those that are no number of the type are left out.
    """
    out = np.resize(rows, (count, rows.shape[1])).copy()
    largest = np.finfo(np.float32).max
    asked = {f: t[np.abs(t) < largest] for f, t in thresholds.items()}
    features = np.array([f for f, t in asked.items() if len(t)], np.int64)
    for f in features.tolist():
        on = rng.choice(asked[f], count).astype(out.dtype)
        side = rng.integers(-1, 2, count)
        out[:, f] = np.where(side == 0, on, np.nextafter(on, np.where(side < 0, -np.inf, np.inf).astype(out.dtype)))
    if len(features):
        alone = np.arange(0, count, 8)
        kept = np.resize(rows, out.shape)[alone]
        chosen = rng.choice(features, len(alone))
        kept[np.arange(len(alone)), chosen] = out[alone, chosen]
        out[alone] = kept
    return out
