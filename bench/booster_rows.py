"""Rows to hold forests against their libraries with: random ones, and ones on their thresholds; and what both say.

A row on a threshold has one feature that is exactly a number which the forest compares with, or the next number of its
type on either side. Where features are float64 and the library rounds them to float32, some lie where that rounding
turns, half-way between two numbers of float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gesher.ir import Model

Array = np.ndarray[Any, Any]
RANDOM, BOUNDARY = 100_000, 10_000


@dataclass(frozen=True)
class Held:
    """How a model's answers compare with its library's over some rows.

    Attributes:
        labels: rows whose label is another one; of a model without labels 0.
        worst: the largest difference of a number, as a part of the largest number of that output.
    """

    rows: int
    labels: int
    worst: float


def whole_columns(x: Array) -> list[int]:
    """The columns that hold categories: whole numbers, and some of them several times."""
    known = [np.unique(x[~np.isnan(x[:, j]), j]) for j in range(x.shape[1])]
    return [j for j, values in enumerate(known) if len(values) < 40 and (values == np.round(values)).all()]


def random_rows(x: Array, count: int = RANDOM) -> Array:
    """Rows like those of `x` and beyond them; categories are those of `x`, and what may be missing is, at times."""
    rng = np.random.default_rng(5)
    out = np.empty((count, x.shape[1]), x.dtype)
    spread = rng.choice([0.5, 1.0, 2.0, 6.0], (count, 1))
    for j in range(x.shape[1]):
        known = x[~np.isnan(x[:, j]), j].astype(float)
        out[:, j] = known.mean() + (known.std() + 1e-3) * spread[:, 0] * rng.normal(size=count)
        if np.isnan(x[:, j]).any():
            out[rng.random(count) < 0.05, j] = np.nan
    for j in whole_columns(x):
        out[:, j] = rng.choice(x[:, j], count)
    return out


def thresholds(model: Model) -> list[tuple[int, Array]]:
    """(feature, distinct numbers it is compared with) of every forest in the model that reads the input's columns."""
    found: dict[int, list[Array]] = {}
    for node in model.graph.nodes:
        a = {k: v.value for k, v in node.attributes.items()}
        if node.op_type == "TreeEnsemble":
            features, splits = np.array(a["nodes_featureids"]), a["nodes_splits"].numpy()
        elif node.op_type in ("TreeEnsembleRegressor", "TreeEnsembleClassifier"):
            inner = np.array([m not in ("LEAF", b"LEAF") for m in a["nodes_modes"]])
            held = a.get("nodes_values_as_tensor")
            splits = np.array(a["nodes_values"]) if held is None else held.numpy()
            features, splits = np.array(a["nodes_featureids"])[inner], splits[inner]
        else:
            continue
        for f in np.unique(features):
            found.setdefault(int(f), []).append(np.unique(splits[features == f]))
    return [(f, np.unique(np.concatenate(v))) for f, v in sorted(found.items())]


def boundary_rows(model: Model, x: Array, exact: dict[int, Array] | None = None, count: int = BOUNDARY) -> Array:
    """Rows of `x` with a feature on a threshold, or beside it.

    Args:
        exact: thresholds by feature that the library has, and the model perhaps rounded.
    """
    rng = np.random.default_rng(6)
    # What is looked up (a category) stands on columns behind the input's own.
    pairs = [(f, s) for f, splits in thresholds(model) for s in splits
             if f < x.shape[1] and np.isfinite(s) and abs(s) < 3e38]
    pairs += [(f, float(s)) for f, splits in (exact or {}).items() for s in splits if abs(s) < 3e38]
    kept = set(whole_columns(x))
    pairs = [(f, s) for f, s in pairs if f not in kept]
    if not pairs:
        return x[:0]
    at = rng.integers(0, len(pairs), count)
    features, on = np.array([pairs[i][0] for i in at]), np.array([pairs[i][1] for i in at]).astype(x.dtype)
    if x.dtype == np.float64:
        narrow = on.astype(np.float32)
        half = (narrow.astype(float) + np.nextafter(narrow, np.float32(np.inf)).astype(float)) / 2
        on = np.where(rng.random(count) < 0.3, half, on)
    side = rng.integers(-1, 2, count)
    beside = np.where(side < 0, np.nextafter(on, x.dtype.type(-np.inf)), np.nextafter(on, x.dtype.type(np.inf)))
    rows = x[rng.integers(0, len(x), count)].copy()
    rows[np.arange(count), features] = np.where(side == 0, on, beside)
    return rows


def blocks(rows: Array, size: int = 20_000) -> Iterator[Array]:
    for start in range(0, len(rows), size):
        yield rows[start:start + size]


def held(session: Any, ask: Any, rows: Array) -> Held:
    """The answers of a session on `rows` against those of the library (`ask(rows)`: output -> answer)."""
    labels, worst = 0, 0.0
    for x in blocks(rows):
        said, got = ask(x), session.run({"X": x})
        for name, answer in said.items():
            answer, mine = np.asarray(answer), np.asarray(got[name])
            if answer.dtype.kind in "fc":
                bad = ~(np.isfinite(answer) & np.isfinite(mine))
                if bad.any() and not np.array_equal(np.where(bad, answer, 0), np.where(bad, mine, 0), equal_nan=True):
                    worst = float("inf")
                gap = np.abs(np.where(bad, 0, mine.astype(float) - answer.astype(float)))
                scale = np.abs(np.where(bad, 0, answer)).max(initial=0) or 1.0
                worst = max(worst, float(gap.max(initial=0) / scale))
            else:
                # Truths are whole numbers in a model.
                answer = answer.astype(mine.dtype) if answer.dtype == bool else answer
                differs = mine.astype(str) != answer.astype(str)
                labels += int((differs if differs.ndim == 1 else differs.any(1)).sum())
    return Held(len(rows), labels, worst)
