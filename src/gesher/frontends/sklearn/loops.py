"""Iterations as one Loop: what scikit-learn repeats until something is small enough, the model repeats as often."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import Value

from .translation import Translation

Round = Callable[[Translation, Value, list[Value]], tuple[Value, list[Value]]]
"""(builds the round, its number (), what is carried) to (whether to go on (), what is carried on)."""


def repeat(t: Translation, rounds: int, carried: Sequence[Value], body: Round) -> list[Value]:
    """What is carried after at most so many rounds; a round that says that it was the last still counts."""
    inner = t.b.subgraph("round", [
        ("round", dtypes.INT64, []), ("going", dtypes.BOOL, []),
        *((f"carried_{i}", t.b.dtype(v), list(t.b.shape(v) or ())) for i, v in enumerate(carried))])
    number, _, *held = inner.graph.inputs
    going, after = body(replace(t, b=inner), number, held)
    for value in (going, *after):
        inner.output(value)
    made = t.b.op("Loop", t.b.constant(np.array(rounds, np.int64)), t.b.constant(np.array(True)), *carried, body=inner,
                  outputs=len(carried))
    return [made] if len(carried) == 1 else list(made)


def whole(t: Translation, n: int) -> Value:
    """A whole number ()."""
    return t.b.constant(np.array(n, np.int64))


def any_of(t: Translation, truths: Value) -> Value:
    """Whether there is a true one among (rows, 1), as ()."""
    return t.b.Cast(t.b.ReduceMax(t.b.Cast(truths, to=dtypes.INT32.code), keepdims=0), to=dtypes.BOOL.code)


def sum_of_all(t: Translation, x: Value) -> Value:
    """The sum of all elements, as ()."""
    return t.b.ReduceSum(x, keepdims=0)


def all_rows(t: Translation, x: Value, row: Any) -> Value:
    """The row, once for each of x: (rows, len(row))."""
    rows = t.b.Shape(x, start=0, end=1) if t.b.opsets[""] >= 15 else \
        t.b.Slice(t.b.Shape(x), t.axes(0), t.axes(1), t.axes(0))
    return t.b.Expand(t.constant(np.asarray(row, float).reshape(1, -1)), t.b.Concat(rows, t.axes(1), axis=0))
