"""What a translator of an estimator works with, and the table of translators.

A translator is a function `(t, estimator, x) -> Outputs`, registered for estimator classes by their full names, so that
scikit-learn is not imported to fill the table. It reads the fitted attributes and builds nodes through `t.b`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import UnsupportedError
from gesher.ir import Value
from gesher.ops.build import Builder

Array = np.ndarray[Any, Any]


@dataclass(slots=True)
class Outputs:
    """What an estimator gives: the matrix of a transformer, or what a predictor says, each only where it has it."""

    transformed: Value | None = None
    label: Value | None = None
    probabilities: Value | None = None
    prediction: Value | None = None
    scores: Value | None = None
    log_density: Value | None = None
    distances: Value | None = None
    neighbors: Value | None = None
    # Where scikit-learn's own float32 arithmetic is noise that a solved system magnifies, the trials ask it in float64.
    in_float64: bool = False
    # By how much scikit-learn's float64 answer may be off by its own rounding: roots of what cancels to nearly nothing.
    slack: float = 0.0


@dataclass(slots=True)
class Translation:
    """One export: the builder, and the type that it computes in."""

    b: Builder
    dtype: DType

    def constant(self, values: Any, name: str = "") -> Value:
        """Numbers in the type that the model computes in."""
        return self.b.constant(np.ascontiguousarray(values, self.dtype.numpy), name)

    def apply(self, estimator: Any, x: Value) -> Outputs:
        """Translate an estimator (a step of a pipeline, an inner estimator) on `x`."""
        return translator_of(estimator)(self, estimator, x)

    def affine(self, x: Value, weights: Array, bias: Array, name: str) -> Value:
        """`x @ weights + bias` for weights (features, outputs)."""
        product = self.b.MatMul(x, self.constant(weights, f"{name}.coefficients"))
        return self.b.Add(product, self.constant(bias, f"{name}.intercepts"))

    def column(self, x: Value, index: int) -> Value:
        """One column of a matrix, kept as a matrix."""
        return self.b.Gather(x, self.b.constant(np.array([index], np.int64)), axis=1)

    def labels(self, classes: Array, index: Value) -> Value:
        """The class behind each index (rows,): int64, strings, or whatever number type the classes have."""
        return self.b.Gather(self.label_constant(classes), index, axis=0)

    def label_constant(self, classes: Array) -> Value:
        """The classes in a type that labels have in ONNX."""
        if classes.dtype.kind in "iub":
            classes = classes.astype(np.int64)
        elif classes.dtype.kind in "US":
            classes = classes.astype(str).astype(object)
        elif classes.dtype.kind == "f":
            classes = classes.astype(self.dtype.numpy)
        elif classes.dtype.kind != "O" or not all(isinstance(c, str) for c in classes):
            raise UnsupportedError(f"classes of type {classes.dtype} cannot cross", who="sklearn",
                                   advice="labels are integers, numbers or strings in ONNX")
        return self.b.constant(classes, "classes")

    def choose(self, classes: Array, scores: Value) -> Value:
        """The class of the largest of the columns; the first of equal ones, as numpy's argmax."""
        return self.labels(classes, self.b.ArgMax(scores, axis=1, keepdims=0))

    def sign(self, classes: Array, scores: Value) -> Value:
        """The second of two classes where the score (rows, 1) is above zero."""
        above = self.b.Greater(scores, self.constant(0))
        index = self.b.Squeeze(self.b.Cast(above, to=7), self.b.constant(np.array([1], np.int64)))
        return self.labels(classes, index)

    def one_against_rest(self, scores: Value) -> Value:
        """The sigmoid of each column, divided by their sum: as a softmax of log sigmoids, which cannot become 0 / 0."""
        return self.b.Softmax(self.b.Neg(self.b.Softplus(self.b.Neg(scores))), axis=1)

    def two(self, second: Value) -> Value:
        """Both probabilities from the second class's (rows, 1)."""
        return self.b.Concat(self.b.Sub(self.constant(1), second), second, axis=1)

    def axes(self, *axes: int) -> Value:
        return self.b.constant(np.array(axes, np.int64))

    def flat(self, x: Value) -> Value:
        """(rows, 1) as (rows,)."""
        return self.b.Squeeze(x, self.axes(1)) if self.b.opsets[""] >= 13 else self.b.Squeeze(x, axes=[1])

    def upright(self, x: Value) -> Value:
        """(rows,) as (rows, 1)."""
        return self.b.Unsqueeze(x, self.axes(1)) if self.b.opsets[""] >= 13 else self.b.Unsqueeze(x, axes=[1])

    def total(self, x: Value, axis: int = 1, keep: bool = True) -> Value:
        """The sum along an axis."""
        return self.b.ReduceSum(x, self.axes(axis), keepdims=int(keep))

    def largest(self, x: Value, axis: int = 1, keep: bool = True) -> Value:
        """The maximum along an axis, which opset 18 turned from an attribute into an input."""
        if self.b.opsets[""] >= 18:
            return self.b.ReduceMax(x, self.axes(axis), keepdims=int(keep))
        return self.b.ReduceMax(x, axes=[axis], keepdims=int(keep))

    def join(self, parts: list[Value], axis: int = 1) -> Value:
        """The parts beside each other."""
        return parts[0] if len(parts) == 1 else self.b.Concat(*parts, axis=axis)

    def mean(self, parts: list[Value], weights: Any = None) -> Value:
        """The (weighted) mean of values of one shape."""
        given = np.ones(len(parts)) if weights is None else np.asarray(weights, float)
        terms = [p if w == 1 else self.b.Mul(p, self.constant(w)) for p, w in zip(parts, given)]
        whole = terms[0]
        for term in terms[1:]:
            whole = self.b.Add(whole, term)
        return whole if given.sum() == 1 else self.b.Div(whole, self.constant(given.sum()))

    def number(self, x: Value) -> Value:
        """Integers or truth values as numbers of the type that the model computes in."""
        return self.b.Cast(x, to=self.dtype.code)

    def is_class(self, label: Value, classes: Array) -> Value:
        """(rows, classes): 1 where the label (rows,) is that class, else 0."""
        same = self.b.Equal(self.upright(label), self.label_constant(classes))
        return self.number(same)

    def squared_distances(self, x: Value, points: Array) -> Value:
        """(rows, points) of x (rows, features), as matrix products; both are moved to the points' middle first, since
        what is far from the origin loses digits."""
        middle = points.mean(0)
        x, points = self.b.Sub(x, self.constant(middle)), points - middle
        cross = self.b.MatMul(x, self.constant(-2 * points.T))
        whole = self.b.Add(self.b.Add(self.total(self.b.Mul(x, x)), cross), self.constant((points**2).sum(1)))
        return self.b.Max(whole, self.constant(0))

    def interpolate(self, x: Value, xs: Array, ys: Array) -> Value:
        """The piecewise linear function through the points, at each element; beyond the ends it keeps their values.

        `xs` ascend; of equal ones the last counts, as in `np.interp`.
        """
        xs, ys = np.asarray(xs, self.dtype.numpy), np.asarray(ys, float)
        if len(xs) == 1:
            return self.b.Add(self.b.Mul(x, self.constant(0)), self.constant(ys[0]))
        x = self.b.Clip(x, self.constant(xs[0]), self.constant(xs[-1]))
        below = self.b.LessOrEqual(self.constant(xs), self.b.Unsqueeze(x, self.axes(-1)))
        at = self.b.ReduceSum(self.b.Cast(below, to=dtypes.INT64.code), self.axes(-1), keepdims=0)
        at = self.b.Sub(at, self.b.constant(np.array(1, np.int64)))
        gaps = np.diff(xs.astype(float))
        slopes = np.append(np.divide(np.diff(ys), gaps, out=np.zeros_like(gaps), where=gaps > 0), 0)
        start, slope, left = (self.b.Gather(self.constant(v), at, axis=0) for v in (ys, slopes, xs))
        return self.b.Add(start, self.b.Mul(slope, self.b.Sub(x, left)))


Translator = Callable[[Translation, Any, Value], Outputs]
TRANSLATORS: dict[str, Translator] = {}


def translates(*names: str) -> Callable[[Translator], Translator]:
    """Register a translator for estimator classes, `sklearn.`-less: `linear_model.Ridge`."""
    def keep(f: Translator) -> Translator:
        for name in names:
            TRANSLATORS[name] = f
        return f

    return keep


def in_double(translator: Translator) -> Translator:
    """A translator whose sums cancel too much for float32: it computes in float64 between casts."""
    def widened(t: Translation, estimator: Any, x: Value) -> Outputs:
        if t.dtype is dtypes.DOUBLE:
            return translator(t, estimator, x)
        wide = Translation(t.b, dtypes.DOUBLE)
        made = translator(wide, estimator, t.b.Cast(x, to=dtypes.DOUBLE.code))
        for f in fields(Outputs):
            value = getattr(made, f.name)
            if isinstance(value, Value) and t.b.dtype(value) is dtypes.DOUBLE:
                setattr(made, f.name, t.b.Cast(value, to=t.dtype.code))
        return made

    return widened


Members = Callable[[Any], Iterable[Any]]
MEMBERS: dict[str, Members] = {}


def composes(members: Members, *names: str) -> None:
    """Tell how to list the inner estimators of composing classes, so that unknown ones are named before any work."""
    for name in names:
        MEMBERS[name] = members


def members_of(estimator: Any) -> list[Any]:
    """The inner estimators that an estimator's translation needs; none for one that composes nothing."""
    from . import load_translators

    load_translators()
    members = MEMBERS.get(public_name(type(estimator)))
    return [] if members is None else [m for m in members(estimator) if m is not None and not isinstance(m, str)]


def refuse(estimator: Any, what: str, advice: str = "") -> UnsupportedError:
    """The error for a configuration of an estimator that cannot cross."""
    return UnsupportedError(f"{type(estimator).__name__}{what} has no way to ONNX yet", who="sklearn", advice=advice)


def public_name(cls: type) -> str:
    """`linear_model.Ridge` for sklearn.linear_model._ridge.Ridge."""
    parts = [p for p in cls.__module__.split(".") if not p.startswith("_")]
    return ".".join((*parts[1:2], cls.__name__)) if parts[:1] == ["sklearn"] else f"{cls.__module__}.{cls.__name__}"


def find_translator(estimator: Any) -> Translator | None:
    """The translator of the estimator's own class; a subclass may compute anything, so it does not inherit one."""
    from . import load_translators

    load_translators()
    return TRANSLATORS.get(public_name(type(estimator)))


def translator_of(estimator: Any) -> Translator:
    """The translator of an estimator.

    Raises:
        UnsupportedError: there is none.
    """
    found = find_translator(estimator)
    if found is None:
        raise UnsupportedError(f"{public_name(type(estimator))} has no way to ONNX yet", who="sklearn",
                               advice="these have: " + ", ".join(sorted(n.split('.')[-1] for n in TRANSLATORS)))
    return found
