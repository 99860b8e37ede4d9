"""`inverse_transform`: the rows that go into it, and what the model must answer for them.

They are transformed rows, so the example is such rows, dense; or the rows before, which the estimator then transforms
itself. A model that is asked for other methods as well has a second input for them, with a number of rows of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.frontends.protocol import Trial
from gesher.ops.build import Builder

from .inputs import Source, first_of, in_type, of_frame, of_matrix, plain_array, read_example
from .methods import Output
from .tables import Array, Matrix, Rows, as_frame, is_frame
from .trials import answered, invented

SECOND = "Xt"
"""The input of transformed rows beside others."""


def read_transformed(estimator: Any, example: Any, wished: str | None, dtype: Any, beside: Source | None) -> Source:
    """What goes into `inverse_transform`.

    Args:
        example: transformed rows, or rows to transform; None makes some up.
        wished: a name for the input.
        dtype: "float32" or "float64", to compute in; None is the example's.
        beside: the input of the other methods, where they are asked for as well: its rows are transformed.

    Raises:
        UnsupportedError: the estimator is not fitted, or neither of both fits it.
    """
    name = wished or "X"
    if beside is None and example is not None:
        rows = example
        if isinstance(rows, dict):
            if len(rows) == 1:
                name, rows = next(iter(rows.items()))
            else:
                rows = as_frame(rows)
        rows = rows if is_frame(rows) else _dense(rows, type(first_of(estimator)).__name__)
        if _why_not(estimator, rows) is None:
            return in_type(of_frame(rows) if is_frame(rows) else of_matrix(rows, name), dtype)
    shown = beside
    if shown is None:
        try:
            shown = read_example(estimator, example, name, dtype)
        except UnsupportedError as e:
            also = "" if example is None else f"; as transformed rows: {_why_not(estimator, rows)}"
            raise UnsupportedError(e.what + also, who="sklearn", advice=e.advice) from e
    made = _dense(_transformed(estimator, shown))
    if made.dtype.kind == "f":
        made = made.astype(shown.dtype.numpy)
    why = _why_not(estimator, made)
    if why is not None:
        raise UnsupportedError(f"{type(estimator).__name__}.inverse_transform does not take the transformed example: "
                               f"{why}", who="sklearn", advice="give an example of transformed rows that it takes")
    if beside is None:
        return in_type(of_matrix(made, name), dtype)
    name = wished or SECOND
    while name in beside.names.values():
        name += "_"
    source = in_type(of_matrix(made, name), dtype)
    source.count = "transformed_rows"
    return source


def _dense(rows: Any, kind: str = "") -> Array:
    return np.asarray(rows if isinstance(rows, np.ndarray) else plain_array(rows, kind))


def _transformed(estimator: Any, shown: Source) -> Any:
    rows = shown.rows or invented(estimator, shown, np.random.default_rng(0))
    try:
        return estimator.transform(rows.given())
    except Exception as e:    # scikit-learn's own, of many kinds
        raise UnsupportedError(f"{type(estimator).__name__} does not transform the example: {_first_line(e)}",
                               who="sklearn", advice="give an example of transformed rows") from e


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _why_not(estimator: Any, rows: Any) -> str | None:
    """Why these are no transformed rows of the estimator's; None where they are."""
    if not is_frame(rows) and rows.ndim not in (1, 2):
        return f"they are no matrix, their shape is {rows.shape}"
    found = len(rows.columns) if is_frame(rows) else rows.shape[1] if rows.ndim == 2 else 1
    width = _transformed_width(estimator)
    if width not in (None, found) and type(_last(estimator)).__name__ in _CARELESS:
        return f"{type(estimator).__name__}.inverse_transform takes {width} columns, and there are {found}"
    try:
        estimator.inverse_transform(rows.copy() if isinstance(rows, np.ndarray) else rows)
    except Exception as e:    # scikit-learn's own, of many kinds
        if width not in (None, found):
            return f"{type(estimator).__name__}.inverse_transform takes {width} columns, and there are {found}"
        return _first_line(e)
    return None


# They take rows of any width, and give for a wrong one what is wrong.
_CARELESS = ("FeatureAgglomeration", "SimpleImputer", "LabelBinarizer")


def _last(estimator: Any) -> Any:
    """The step whose transformed rows the estimator gives, down pipelines, searches and frozen ones."""
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif type(estimator).__name__ == "FrozenEstimator":
            estimator = estimator.estimator
        elif type(estimator).__name__ == "Pipeline" and (steps := [
                s for _, s in estimator.steps if s is not None and not isinstance(s, str)]):
            estimator = steps[-1]
        else:
            return estimator


def _transformed_width(estimator: Any) -> int | None:
    """The number of columns that the estimator transforms to; None where it does not tell."""
    last = _last(estimator)
    if type(last).__name__ == "LabelBinarizer":
        return len(last.classes_) if last.y_type_ == "multiclass" else None
    try:
        return len(last.get_feature_names_out())
    except Exception:    # scikit-learn's own, of many kinds: it names no features
        return None


def inverse_trials(b: Builder, estimator: Any, source: Source, outputs: list[Output], names: list[str],
                   doubts: Collection[float] = ()) -> list[Trial]:
    """The example's rows, one of them, rows of mixed columns, and some moved off what a transformation gives.

    Of those that were made up, what scikit-learn refuses is left out.

    Args:
        doubts: as `Translation.doubts` has them.
    """
    rows, rng = source.rows, np.random.default_rng(0)
    assert rows is not None and len(rows)
    sets: dict[str, Rows] = {"transformed example": rows.take(np.arange(min(len(rows), 2000)))}
    for i in range(min(len(rows), 5)):
        sets[f"transformed row {i}"] = rows.take(np.arange(i, i + 1))
    sets["transformed columns shuffled"] = rows.mixed(rng, min(200, 20 * len(rows)))
    # What an imputer left out comes back as a gap alone, which made-up marks do not say.
    if type(_last(estimator)).__name__ != "SimpleImputer":
        sets |= dict(_moved(rows, rng))
    made = list(answered(b, estimator, sets, {"transformed example"}, outputs, names, bool(doubts)))
    single = [title for title, _, _ in made if title.startswith("transformed row ")]
    trials = [Trial(title, held.feeds(), answers) for title, held, answers in made if title not in single[1:]]
    if not doubts or source.dtype is not dtypes.DOUBLE:
        return trials
    return [replace(trial, atol={n: max(*doubts, 1e-8 * float(np.abs(a).max())) for n, a in trial.answers.items()})
            for trial in trials]


def _moved(rows: Rows, rng: np.random.Generator) -> Iterator[tuple[str, Rows]]:
    """Rows of numbers that no transformation gave, and rows of zeros."""
    if not isinstance(rows, Matrix) or rows.array.dtype.kind not in "fi" or rows.array.ndim != 2:
        return
    array = rows.array[:200]
    if array.dtype.kind == "f":
        spread = np.nan_to_num(np.nanstd(array, axis=0))
        noise = rng.standard_normal(array.shape) * (spread + 0.1)
        yield "transformed rows moved", Matrix(rows.name, (array + noise).astype(array.dtype))
        few = rng.random(array.shape) < 0.02
        yield "a few moved", Matrix(rows.name, np.where(few, array + noise, array).astype(array.dtype))
    yield "zeros", Matrix(rows.name, np.zeros_like(array[:3]))


def joined(forth: list[Trial], back: list[Trial]) -> list[Trial]:
    """Trials of a model that takes rows and transformed rows: each of the ones beside one of the others."""
    if not forth or not back:
        return forth or back
    pairs = zip_longest(forth, back)
    return [replace(one, name=f"{one.name}, {two.name}", feeds=one.feeds | two.feeds, answers=one.answers | two.answers,
                    rtol={**one.rtol, **two.rtol}, atol={**one.atol, **two.atol})
            for one, two in ((a or forth[-1], c or back[-1]) for a, c in pairs)]
