"""What a model may be asked for: the outputs, and the estimator's method that answers each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.ir import Value

from .tables import Table
from .translation import Outputs, Translation

INVERSE = "inverse_transform"
# Outputs of a model, in their order, and the method of the estimator that answers each.
METHODS = (("label", "predict"), ("probabilities", "predict_proba"), ("scores", "decision_function"),
           ("prediction", "predict"), ("transformed", "transform"), ("log_density", "score_samples"),
           ("distances", "kneighbors"), ("neighbors", "kneighbors"), ("log_probabilities", "predict_log_proba"),
           ("inverse", INVERSE))
KNOWN = tuple(dict.fromkeys(m for _, m in METHODS))


@dataclass(slots=True)
class Output:
    """One output of the model: `part` tells which of several matrices (or columns) of the method's answer it is."""

    name: str
    kind: str
    value: Value
    part: int | None = None

    @property
    def method(self) -> str:
        return dict(METHODS)[self.kind]


def asked_methods(estimator: Any, settings: Any) -> list[str] | None:
    """The methods that the export was asked for; None for what the estimator gives by itself.

    Raises:
        UnsupportedError: there is no such method, or the estimator has not got it.
    """
    asked = settings.get("methods")
    if asked is None:
        return None
    asked = [asked] if isinstance(asked, str) else list(asked)
    for method in asked:
        if method not in KNOWN:
            raise UnsupportedError(f"there is no method '{method}' that a model could answer", who="sklearn",
                                   advice="these can be asked for: " + ", ".join(KNOWN))
        if not hasattr(estimator, method):
            raise UnsupportedError(f"{type(estimator).__name__} has no method '{method}' as it was fitted",
                                   who="sklearn")
    if not asked:
        raise UnsupportedError("no method is asked for", who="sklearn", advice="these can be: " + ", ".join(KNOWN))
    return asked


def _several(t: Translation, kind: str, values: list[Value]) -> list[Output]:
    return [Output(f"{kind}_{i}", kind, v, i) for i, v in enumerate(values)]


def _of_table(t: Translation, estimator: Any, kind: str, table: Table) -> list[Output]:
    """A table as one matrix where its columns are of one kind, else an output for each, named as the features."""
    values = table.values()
    if table.apart:
        return [Output(n, kind, v, i) for i, (n, v) in enumerate(zip(table.names, values))]
    strings = [t.b.dtype(v) is dtypes.STRING for v in values]
    if not any(strings):
        return [Output(kind, kind, t.matrix(table))]
    if all(strings):
        return [Output(kind, kind, t.join(values))]
    if kind == "inverse":
        names = table.names
    else:
        try:
            names = [str(n) for n in estimator.get_feature_names_out()]
        except Exception:    # scikit-learn's own, of many kinds: this estimator names no features
            names = []
    if len(set(names)) != len(values):
        names = [f"{kind}_{i}" for i in range(len(values))]
    return [Output(n, kind, v, i) for i, (n, v) in enumerate(zip(names, values))]


def _log(t: Translation, made: Outputs) -> None:
    shares = made.probabilities
    if made.log_probabilities is None and isinstance(shares, Value):
        made.log_probabilities = t.b.Log(shares)


def choose(t: Translation, estimator: Any, made: Outputs, asked: list[str] | None) -> list[Output]:
    """The outputs of the model: those of the methods asked for, or all that the estimator gives.

    Without being asked, scores are given out only where there is nothing plainer (a margin without probabilities), and
    not what stands aside, nor what the estimator has no method for (a pipeline's `kneighbors`).

    Raises:
        UnsupportedError: a method that was asked for has no way to ONNX, or there is nothing to give.
    """
    if asked is not None and "predict_log_proba" in asked:
        _log(t, made)
    # A transformer that predicts as well calls what it predicts `label` or `prediction`; both answer `predict`.
    outputs: list[Output] = []
    for kind, method in METHODS:
        if asked is not None and method not in asked:
            continue
        if asked is None and (kind in ("log_probabilities", "inverse", *made.aside) or not hasattr(estimator, method)
                              or (kind == "scores" and (made.probabilities is not None or made.prediction is not None
                                                        or made.probabilities_of is not None))):
            continue
        if kind == "label" and made.label is not None and made.prediction is not None:
            continue
        value = getattr(made, kind)
        if kind == "probabilities" and made.probabilities_of is not None:
            outputs += _several(t, kind, made.probabilities_of)
        elif kind == "log_probabilities" and made.probabilities_of is not None and asked is not None:
            outputs += _several(t, kind, [t.b.Log(v) for v in made.probabilities_of])
        elif isinstance(value, Table):
            outputs += _of_table(t, estimator, kind, value)
        elif value is not None:
            outputs.append(Output(kind, kind, value))
    lacking = [m for m in asked or () if not any(o.method == m for o in outputs)]
    for method in lacking:
        if method in made.never:
            raise UnsupportedError(f"{type(estimator).__name__}.{method} cannot cross: {made.never[method]}",
                                   who="sklearn")
    if lacking:
        raise UnsupportedError(f"{type(estimator).__name__}.{', .'.join(lacking)} "
                               f"{'has' if len(lacking) == 1 else 'have'} no way to ONNX yet", who="sklearn",
                               advice="its other methods may have: " + ", ".join(sorted(
                                   {m for k, m in METHODS if getattr(made, k) is not None})))
    if not outputs:
        raise UnsupportedError(f"{type(estimator).__name__} neither predicts nor transforms", who="sklearn")
    return outputs


def answer(estimator: Any, output: Output, x: Any, rank: int) -> Any:
    """What scikit-learn itself says; a sparse matrix as a dense one."""
    said = getattr(estimator, output.method)(x)
    if output.kind in ("distances", "neighbors"):
        said = said[("distances", "neighbors").index(output.kind)]
    elif output.part is not None and isinstance(said, list) and output.kind != "inverse":
        said = said[output.part]
    if output.kind == "inverse" and isinstance(said, list) and said and isinstance(said[0], dict):
        return np.array([[row.get(output.name, 0)] for row in said])
    if output.kind == "inverse" and isinstance(said, list):
        # Lists of words, or of labels, one for each row.
        return [np.asarray(row, None if len(row) else object) for row in said]
    table = type(said).__name__ == "DataFrame"
    whole = np.asarray(said.toarray() if hasattr(said, "toarray") else said.to_numpy() if table else said)
    if output.part is not None and output.kind in ("transformed", "inverse"):
        whole = whole[:, output.part:output.part + 1]
    # SparsePCA gives a single row as a vector, LabelEncoder every row's number.
    return whole.reshape(len(x), -1) if output.kind == "transformed" and rank == 2 else whole


def as_model(output: Output, said: Any, dtype: Any, rank: int) -> Any:
    """An answer in the type and shape that the model gives it; of a sequence each."""
    if isinstance(said, list):
        return [as_model(output, one, dtype, rank) for one in said]
    if dtype is dtypes.STRING:
        from .tables import MISSING_STRING, is_missing

        out = np.empty(said.shape, object)
        flat = out.reshape(-1)
        for i, v in enumerate(said.reshape(-1)):
            flat[i] = MISSING_STRING if is_missing(v) else str(v)
        return out
    said = said.astype(dtype.numpy)
    return said[:, None] if said.ndim == 1 and rank == 2 else said
