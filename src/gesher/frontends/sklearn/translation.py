"""What a translator of an estimator works with, and the tables of translators and of inverters.

A translator is a function `(t, estimator, x) -> Outputs`, registered for estimator classes by their full names, so that
scikit-learn is not imported to fill the table. It reads the fitted attributes and builds nodes through `t.b`. An
inverter `(t, estimator, x)` does so for `inverse_transform`, whose `x` are transformed rows; it gives the rows alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import UnsupportedError
from gesher.ir import Value
from gesher.ops.build import Builder

from .tables import Array, Table


@dataclass(slots=True)
class Outputs:
    """What an estimator gives: the matrix of a transformer, or what a predictor says, each only where it has it."""

    transformed: Value | Table | None = None
    label: Value | None = None
    probabilities: Value | None = None
    prediction: Value | None = None
    scores: Value | None = None
    log_density: Value | None = None
    distances: Value | None = None
    neighbors: Value | None = None
    log_probabilities: Value | None = None
    # Of inverters, since other rows go in.
    inverse: Value | Table | None = None
    # One matrix for each target, where a classifier has several.
    probabilities_of: list[Value] | None = None
    # What is given out only where it is asked for, by the names of the fields above.
    aside: tuple[str, ...] = ()
    # Methods that no model can answer, and why.
    never: dict[str, str] = field(default_factory=dict)
    # Where scikit-learn's own float32 arithmetic is noise that a solved system magnifies, the trials ask it in float64.
    in_float64: bool = False
    # By how much scikit-learn's float64 answer may be off by its own rounding: roots of what cancels to nearly nothing.
    slack: float = 0.0
    # The fields that this is said of.
    slack_of: tuple[str, ...] = ("transformed", "distances")


@dataclass(slots=True)
class Translation:
    """One export: the builder, and the type that it computes in."""

    b: Builder
    dtype: DType
    # What scikit-learn raises an error for and the model has a way to refuse, in sentences; shared by all that is made.
    raises: list[str] = field(default_factory=list)
    # What to do there: "fail", or "nan".
    on_error: str = "fail"
    # By how much scikit-learn's answers may be off in float64, where inverters find rounding that a solved system
    # magnifies; shared as well. The trials then ask it in float64.
    doubts: list[float] = field(default_factory=list)

    def wide(self) -> Translation:
        """The same export, in float64."""
        return replace(self, dtype=dtypes.DOUBLE)

    def constant(self, values: Any, name: str = "") -> Value:
        """Numbers in the type that the model computes in."""
        return self.b.constant(np.ascontiguousarray(values, self.dtype.numpy), name)

    def apply(self, estimator: Any, x: Value | Table) -> Outputs:
        """Translate an estimator (a step of a pipeline, an inner estimator) on `x`."""
        translator = translator_of(estimator)
        if not takes_tables(estimator):
            x = self.matrix(x, estimator)
        return translator(self, estimator, x)  # type: ignore[arg-type]

    def invert(self, estimator: Any, x: Value | Table) -> Value | Table:
        """The rows whose transformed ones `x` are, by the estimator's `inverse_transform`."""
        inverter = find_inverter(estimator)
        if inverter is None:
            raise refuse(estimator, ".inverse_transform")
        if not takes_tables(estimator):
            x = self.matrix(x, estimator)
        return inverter(self, estimator, x)

    def matrix(self, x: Value | Table, who: Any = None) -> Value:
        """Columns of numbers as one matrix, in the type that the model computes in.

        Raises:
            UnsupportedError: there are strings, or what ONNX has no type for.
        """
        def refuse_strings(names: str) -> UnsupportedError:
            taker = "the model" if who is None else type(who).__name__
            return UnsupportedError(f"{taker} takes numbers, and {names} holds strings", who="sklearn",
                                    advice="encode them before it")

        if isinstance(x, Value):
            if self.b.dtype(x) is dtypes.STRING:
                raise refuse_strings("its input")
            return x if self.b.dtype(x) is self.dtype else self.b.Cast(x, to=self.dtype.code)
        values = x.values()
        for v, name in zip(values, x.names):
            if self.b.dtype(v) is dtypes.STRING:
                raise refuse_strings(f"the column '{name}'")
        if not values:
            raise UnsupportedError("a table without columns cannot cross", who="sklearn")
        if len({self.b.dtype(v) for v in values}) == 1:
            return self.matrix(self.join(values))
        return self.join([self.matrix(v) for v in values])

    def table(self, x: Value | Table) -> Table:
        """`x` by its columns."""
        if isinstance(x, Table):
            return x
        width = (self.b.shape(x) or (0, 0))[1]
        if not isinstance(width, int):
            raise UnsupportedError("a matrix whose width hangs on the data has no columns to name", who="sklearn")
        return Table([x if width == 1 else self.column(x, i) for i in range(width)], [f"x{i}" for i in range(width)])

    def pick(self, x: Value | Table, index: Any, name: str = "") -> Value | Table:
        """The columns at these places."""
        at = np.asarray(index, np.int64)
        if isinstance(x, Table):
            return x.take(at)
        if (self.b.shape(x) or (0, 0))[1] == len(at) and np.array_equal(at, np.arange(len(at))):
            return x
        return self.b.Gather(x, self.b.constant(at, name), axis=1)

    def beside(self, parts: list[Value | Table]) -> Value | Table:
        """What several transformers gave, as one matrix; as a table where there are strings among it."""
        def has_strings(p: Value | Table) -> bool:
            if isinstance(p, Value):
                return self.b.dtype(p) is dtypes.STRING
            return any(isinstance(c, str) or self.b.dtype(c) is dtypes.STRING for c in p.columns)

        if not any(map(has_strings, parts)):
            return self.join([self.matrix(p) for p in parts])
        if len(parts) == 1:
            return parts[0]
        tables = [self.table(p) for p in parts]
        return Table([c for t in tables for c in t.columns], [n for t in tables for n in t.names])

    def demand(self, fits: Value, x: Value, why: str) -> Value:
        """`x` (rows, ...) where all of `fits` (rows, n) is true, and an error where not: a Gather beyond its data.

        An engine that does not look at the place that it gathers from, or an export with `on_error="nan"`, gives NaN.
        """
        if why not in self.raises:
            self.raises.append(why)
        bad = self.largest(self.b.Cast(self.b.Not(fits), to=dtypes.INT32.code))
        mark = self.b.Where(self.b.Cast(bad, to=dtypes.BOOL.code), self.constant(np.nan), self.constant(0))
        if self.on_error == "fail":
            most = self.b.ReduceMax(self.b.Cast(bad, to=dtypes.INT64.code), keepdims=0)
            none = self.b.Gather(self.constant([0.0]), self.b.Mul(most, self.b.constant(np.array(2**40))), axis=0)
            mark = self.b.Add(mark, none)
        return self.b.Add(x, mark)

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

    def choose_each(self, classes: Sequence[Array], scores: Sequence[Value]) -> Value:
        """(rows, outputs): of each output the class of the largest score."""
        return self.join([self.upright(self.choose(np.asarray(c), s)) for c, s in zip(classes, scores)])

    def choose(self, classes: Array, scores: Value) -> Value:
        """The class of the largest of the columns; the first of equal ones, as numpy's argmax."""
        return self.labels(classes, self.b.ArgMax(scores, axis=1, keepdims=0))

    def sign(self, classes: Array, scores: Value) -> Value:
        """The second of two classes where the score (rows, 1) is above zero."""
        above = self.b.Greater(scores, self.constant(0))
        index = self.b.Squeeze(self.b.Cast(above, to=7), self.b.constant(np.array([1], np.int64)))
        return self.labels(classes, index)

    def one_against_rest(self, scores: Value) -> tuple[Value, Value]:
        """The sigmoid of each column divided by their sum, and its logarithm; even shares where all are too small to be
        numbers. Both are taken in float64, as scikit-learn does whose coefficients are."""
        wide = self.wide()
        shares = wide.expit(wide.matrix(scores))
        size = wide.total(shares)
        none = self.b.Equal(size, wide.constant(0))
        width = (self.b.shape(scores) or (0, 0))[1]
        assert isinstance(width, int)
        even = self.b.Where(none, wide.constant(1 / width), self.b.Div(shares, self.b.Where(none, wide.constant(1),
                                                                                            size)))
        return self.matrix(even), self.matrix(self.b.Log(even))

    def expit(self, x: Value) -> Value:
        """The sigmoid to its last digit, however small: engines' own ends at 1e-8 or 1e-16, which a logarithm shows."""
        wide = x if self.dtype is dtypes.DOUBLE else self.b.Cast(x, to=dtypes.DOUBLE.code)
        one = self.b.constant(np.array(1.0))
        made = self.b.Div(one, self.b.Add(one, self.b.Exp(self.b.Neg(wide))))
        return made if self.dtype is dtypes.DOUBLE else self.b.Cast(made, to=self.dtype.code)

    def log_two(self, scores: Value, exact: bool) -> Value:
        """The logarithms of both sigmoids of (rows, 1) scores: of 1 - p and p as float64 has them, where scikit-learn's
        numbers are float64 whatever it is fed (`exact`), or as the model's type has them."""
        if not exact or self.dtype is dtypes.DOUBLE:
            return self.b.Log(self.two(self.expit(scores)))
        wide = self.wide()
        return self.b.Cast(wide.log_two(wide.matrix(scores), True), to=self.dtype.code)

    def log_softmax(self, scores: Value, exact: bool) -> Value:
        """The logarithms of each row's softmax; `exact` as for `log_two`. Shares too small for a number are -inf."""
        if self.dtype is dtypes.DOUBLE:
            return self.b.Log(self.b.Softmax(scores, axis=1))
        shares = self.b.Softmax(self.b.Cast(scores, to=dtypes.DOUBLE.code), axis=1)
        if not exact:
            # The smallest numbers of float32, which engines take for 0, have logarithms in scikit-learn.
            shares = self.b.Cast(self.b.Cast(shares, to=self.dtype.code), to=dtypes.DOUBLE.code)
        return self.b.Cast(self.b.Log(shares), to=self.dtype.code)

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

    def join(self, parts: Sequence[Value | Table], axis: int = 1) -> Value:
        """The parts beside each other."""
        values = [self.matrix(p) if isinstance(p, Table) else p for p in parts]
        return values[0] if len(values) == 1 else self.b.Concat(*values, axis=axis)

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

    def slices(self, x: Value, sizes: Sequence[int]) -> list[Value]:
        """A matrix cut into columns of these sizes."""
        ends = np.cumsum(sizes)
        if len(sizes) == 1:
            return [x]
        return [self.b.Slice(x, self.axes(int(e) - n), self.axes(int(e)), self.axes(1)) for n, e in zip(sizes, ends)]

    def interpolate(self, x: Value, xs: Array, ys: Array) -> Value:
        """The piecewise linear function through the points, at each element; beyond the ends it keeps their values.

        `xs` ascend; of equal ones the last counts, as in `np.interp`.
        """
        xs, ys = np.asarray(xs, self.dtype.numpy), np.asarray(ys, float)
        if len(xs) == 1:
            return self.b.Add(self.b.Mul(x, self.constant(0)), self.constant(ys[0]))
        # What lies before all of them gets the first's value, also where that stands several times.
        below = self.b.LessOrEqual(self.constant(xs), self.b.Unsqueeze(x, self.axes(-1)))
        at = self.b.ReduceSum(self.b.Cast(below, to=dtypes.INT64.code), self.axes(-1), keepdims=0)
        at = self.b.Max(self.b.Sub(at, self.b.constant(np.array(1, np.int64))), self.b.constant(np.array(0, np.int64)))
        x = self.b.Clip(x, self.constant(xs[0]), self.constant(xs[-1]))
        gaps = np.diff(xs.astype(float))
        slopes = np.append(np.divide(np.diff(ys), gaps, out=np.zeros_like(gaps), where=gaps > 0), 0)
        start, slope, left = (self.b.Gather(self.constant(v), at, axis=0) for v in (ys, slopes, xs))
        return self.b.Add(start, self.b.Mul(slope, self.b.Sub(x, left)))


Translator = Callable[[Translation, Any, Value], Outputs]
TRANSLATORS: dict[str, Translator] = {}


def translates(*names: str) -> Callable[[Translator], Translator]:
    """Register a translator for estimator classes: scikit-learn's `sklearn.`-less (`linear_model.Ridge`), others by
    their module and name (`mypackage.mymodule.Doubler`)."""
    def keep(f: Translator) -> Translator:
        for name in names:
            TRANSLATORS[name] = f
        return f

    return keep


F = TypeVar("F", bound=Callable[..., Any])
Inverter = Callable[[Translation, Any, Any], Value | Table]
INVERTERS: dict[str, Inverter] = {}
# Whose inverse is made of those of their members.
_THROUGH: set[str] = set()


def inverts(*names: str, through: bool = False) -> Callable[[Inverter], Inverter]:
    """Register an inverter for estimator classes, named as for `translates`.

    Args:
        through: the inverse goes through those of the members that `composes` tells.
    """
    def keep(f: Inverter) -> Inverter:
        for name in names:
            INVERTERS[name] = f
        if through:
            _THROUGH.update(names)
        return f

    return keep


def in_double(translator: F) -> F:
    """A translator or inverter whose sums cancel too much for float32: it computes in float64 between casts."""
    def narrow(t: Translation, value: Any) -> Any:
        if isinstance(value, Value):
            return t.b.Cast(value, to=t.dtype.code) if t.b.dtype(value) is dtypes.DOUBLE else value
        if isinstance(value, Table):
            return Table([narrow(t, c) for c in value.columns], value.names, value.apart)
        if isinstance(value, Outputs):
            for f in fields(Outputs):
                setattr(value, f.name, narrow(t, getattr(value, f.name)))
            return value
        return [narrow(t, v) for v in value] if isinstance(value, list) else value

    def widened(t: Translation, estimator: Any, x: Value | Table) -> Any:
        if t.dtype is dtypes.DOUBLE:
            return translator(t, estimator, x)
        wide = t.wide()
        # A table's columns keep their types until they become a matrix.
        return narrow(t, translator(wide, estimator, wide.matrix(x) if isinstance(x, Value) else x))

    return widened  # type: ignore[return-value]


_TAKE_TABLES: set[str] = set()


def columnwise(*names: str) -> None:
    """Let translators of these classes have a table, or a matrix of whatever type, as it is; others get numbers."""
    _TAKE_TABLES.update(names)


def takes_tables(estimator: Any) -> bool:
    """True where the estimator's translator wants its input as it is."""
    return public_name(type(estimator)) in _TAKE_TABLES


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


def find_inverter(estimator: Any) -> Inverter | None:
    """What translates the `inverse_transform` of the estimator's own class."""
    from . import load_translators

    load_translators()
    return INVERTERS.get(public_name(type(estimator)))


def inverse_parts(estimator: Any) -> Iterable[Any]:
    """The estimators whose inverses make this one's: itself, or its members'."""
    members = members_of(estimator)
    if public_name(type(estimator)) not in _THROUGH:
        yield estimator
        return
    for inner in members:
        yield from inverse_parts(inner)
