"""Models of tables asked as estimators are: `session.predict(rows)` instead of outputs by name.

What gives which answer is told by the names of the outputs: those of our own exports, those of skl2onnx and its kin,
and the method's own name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import count, takewhile
from typing import TYPE_CHECKING, Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import RunError, UnsupportedError
from gesher.evaluator.tables import is_table
from gesher.ir import TensorType

if TYPE_CHECKING:
    from .protocol import Port

# The outputs that answer a method, the likeliest first.
ANSWERS = {
    "predict": ("label", "prediction", "predict", "output_label", "variable"),
    "predict_proba": ("probabilities", "predict_proba", "output_probability", "probability_tensor"),
    "decision_function": ("scores", "decision_function"),
    "predict_log_proba": ("log_probabilities", "predict_log_proba"),
    "transform": ("transformed", "transform"),
    "score_samples": ("log_density", "score_samples"),
    "inverse_transform": ("inverse", "inverse_transform"),
}


Answer = np.ndarray[Any, Any]


class Asking(ABC):
    """What a session of a table's model answers, method by method. Rows are a matrix (rows, features), a pandas or
    polars frame, or feeds by name; numbers of another type are cast to the model's."""

    inputs: list[Port]
    outputs: list[Port]

    @abstractmethod
    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs by name, for the inputs by name."""

    def predict(self, rows: Any) -> Answer:
        """The label, or the predicted number, of each row."""
        return self._answer("predict", rows)

    def predict_proba(self, rows: Any) -> Answer | list[Answer]:
        """The probability of each class, (rows, classes); of several labels a list, one matrix for each."""
        return self._answer_each("predict_proba", rows)

    def predict_log_proba(self, rows: Any) -> Answer | list[Answer]:
        """The logarithm of the probability of each class, (rows, classes); of several labels a list."""
        said = {m: self._outputs_of(m) or self._parts_of(m) for m in ("predict_proba", "predict_log_proba")}
        if said["predict_proba"] and not said["predict_log_proba"]:
            with np.errstate(divide="ignore"):
                made = self.predict_proba(rows)
                return [np.log(m) for m in made] if isinstance(made, list) else np.log(made)
        return self._answer_each("predict_log_proba", rows)

    def decision_function(self, rows: Any) -> Answer:
        """The score of each class, (rows, classes), or of the positive one."""
        return self._answer("decision_function", rows)

    def transform(self, rows: Any) -> Answer:
        """The transformed rows."""
        return self._answer("transform", rows)

    def inverse_transform(self, rows: Any) -> Answer:
        """What would have been transformed into these rows."""
        return self._answer("inverse_transform", rows)

    def score_samples(self, rows: Any) -> Answer:
        """The score of each row, a logarithm of its density as a rule."""
        return self._answer("score_samples", rows)

    def kneighbors(self, rows: Any) -> tuple[Answer, Answer]:
        """The distances and the places of each row's nearest neighbours, (rows, k) each."""
        names = {p.name for p in self.outputs}
        if not {"distances", "neighbors"} <= names:
            raise self._unanswered("kneighbors")
        made = self.run(self._fed_rows(rows))
        return made["distances"], made["neighbors"]

    def _outputs_of(self, method: str) -> list[str]:
        names = {p.name for p in self.outputs}
        return [n for n in ANSWERS[method] if n in names]

    def _parts_of(self, method: str) -> list[str]:
        """The outputs of a method that has one for each label, in their order."""
        names = {p.name for p in self.outputs}
        numbered = (takewhile(names.__contains__, (f"{n}_{i}" for i in count())) for n in ANSWERS[method])
        return next((parts for parts in map(list, numbered) if parts), [])

    def _answer_each(self, method: str, rows: Any) -> Answer | list[Answer]:
        """As `_answer`, with a list of what stands in outputs of their own."""
        parts = self._parts_of(method)
        if self._outputs_of(method) or not parts:
            return self._answer(method, rows)
        made = self.run(self._fed_rows(rows))
        return [_as_array(made[name]) for name in parts]

    def _answer(self, method: str, rows: Any) -> Answer:
        found = self._outputs_of(method)
        if not found:
            raise self._unanswered(method)
        return _as_array(self.run(self._fed_rows(rows))[found[0]])

    def _unanswered(self, method: str) -> UnsupportedError:
        return UnsupportedError(f"the model has no output that answers `{method}`",
                                advice="its outputs are " + ", ".join(p.name for p in self.outputs)
                                + "; `session.run` gives all of them by name")

    def _fed_rows(self, rows: Any) -> Any:
        """Rows as `run` takes them."""
        if isinstance(rows, Mapping) or is_table(rows):
            return rows
        needed = [p for p in self.inputs if not p.optional]
        if len(needed) == 1:
            return {needed[0].name: _cast(rows, needed[0])}
        matrix = np.asarray(rows)
        if matrix.ndim != 2 or matrix.shape[1] != len(needed):
            raise RunError(f"the model takes {len(needed)} columns by name, the rows given are {matrix.shape}",
                           advice="give a frame, or {name: column} for " + ", ".join(p.name for p in needed[:20]))
        return {p.name: _cast(matrix[:, i:i + 1] if _is_matrix(p) else matrix[:, i], p) for i, p in enumerate(needed)}


def _is_matrix(port: Port) -> bool:
    return isinstance(port.type, TensorType) and port.type.shape is not None and len(port.type.shape) == 2


def _cast(rows: Any, port: Port) -> Any:
    if not isinstance(port.type, TensorType):
        return rows
    values = np.asarray(rows)
    if port.type.dtype is dtypes.STRING or values.dtype.kind not in "biuf":
        return values.astype(object) if port.type.dtype is dtypes.STRING else values
    return values.astype(port.type.dtype.numpy)


def _as_array(answer: Any) -> Answer:
    """An answer as an array; a list of {class: probability}, as older exports give it, in the order of the classes."""
    if isinstance(answer, list) and answer and isinstance(answer[0], dict):
        return np.array([list(row.values()) for row in answer])
    return np.asarray(answer)
