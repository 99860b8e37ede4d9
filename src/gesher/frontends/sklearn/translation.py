"""What a translator of an estimator works with, and the table of translators.

A translator is a function `(t, estimator, x) -> Outputs`, registered for estimator classes by their full names, so that
scikit-learn is not imported to fill the table. It reads the fitted attributes and builds nodes through `t.b`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

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
        if classes.dtype.kind in "iub":
            classes = classes.astype(np.int64)
        elif classes.dtype.kind in "US":
            classes = classes.astype(str).astype(object)
        elif classes.dtype.kind == "f":
            classes = classes.astype(self.dtype.numpy)
        elif classes.dtype.kind != "O" or not all(isinstance(c, str) for c in classes):
            raise UnsupportedError(f"classes of type {classes.dtype} cannot cross", who="sklearn",
                                   advice="labels are integers, numbers or strings in ONNX")
        return self.b.Gather(self.b.constant(classes, "classes"), index, axis=0)

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


Translator = Callable[[Translation, Any, Value], Outputs]
TRANSLATORS: dict[str, Translator] = {}


def translates(*names: str) -> Callable[[Translator], Translator]:
    """Register a translator for estimator classes, `sklearn.`-less: `linear_model.Ridge`."""
    def keep(f: Translator) -> Translator:
        for name in names:
            TRANSLATORS[name] = f
        return f

    return keep


def _public_name(cls: type) -> str:
    """`linear_model.Ridge` for sklearn.linear_model._ridge.Ridge."""
    parts = [p for p in cls.__module__.split(".") if not p.startswith("_")]
    return ".".join((*parts[1:2], cls.__name__)) if parts[:1] == ["sklearn"] else f"{cls.__module__}.{cls.__name__}"


def find_translator(estimator: Any) -> Translator | None:
    """The translator of the estimator's own class; a subclass may compute anything, so it does not inherit one."""
    from . import load_translators

    load_translators()
    return TRANSLATORS.get(_public_name(type(estimator)))


def translator_of(estimator: Any) -> Translator:
    """The translator of an estimator.

    Raises:
        UnsupportedError: there is none.
    """
    found = find_translator(estimator)
    if found is None:
        raise UnsupportedError(f"{_public_name(type(estimator))} has no way to ONNX yet", who="sklearn",
                               advice="these have: " + ", ".join(sorted(n.split('.')[-1] for n in TRANSLATORS)))
    return found
