"""From CatBoost to ONNX: its estimators, and its JSON files without the library.

CatBoost compares float32 with `>` and sums leaves in float64. A float64 example gives a model that sums in float64,
too; a float32 one gives a model whose leaves are float32. Categories are columns of whole numbers.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.frontends.forest import ML, WIDE, Trees
from gesher.frontends.protocol import Exported, ExportOptions
from gesher.frontends.sklearn.translation import Outputs, Translation, translates
from gesher.ir import Value

from .catboost_model import BINARY, EXP, LABELS, ONE_VS_ALL, CatBoostModel, from_document
from .crossing import as_label, crossing, toss_up, trial_rows, trials

Array = np.ndarray[Any, Any]
ESTIMATORS = ("CatBoostClassifier", "CatBoostRegressor", "CatBoostRanker", "CatBoost")
RAW = ("CatBoost", "CatBoostRanker")
SETTINGS = ("ntree_start", "ntree_end", "raw")
# Python steps that walking a file's trees may take in all, where the library is not there to ask.
_PLAIN_STEPS = 200_000


@dataclass(slots=True)
class Source:
    """What is exported: the model, who answers for it, and how it is asked.

    Attributes:
        raw: the raw sums are asked for, which is all that the plain class `CatBoost` gives.
        answer: the library's own (output -> answer) for rows; None where it is not there.
    """

    model: CatBoostModel
    first: int
    last: int
    raw: bool
    answer: Callable[[Array], dict[str, Array]] | None = None


def source_of(obj: Any, settings: Mapping[str, Any]) -> Source:
    """Read the object.

    Raises:
        UnsupportedError: it is not fitted, a subclass of unknown meaning, or has parts that cannot cross.
    """
    unknown = sorted(set(settings) - set(SETTINGS))
    if unknown:
        raise UnsupportedError(f"catboost exports know no setting {', '.join(unknown)}", who="catboost",
                               advice="there are " + ", ".join(SETTINGS))
    raw = bool(settings.get("raw", False))
    if isinstance(obj, CatBoostModel):
        return Source(obj, *_span(obj, settings), raw)
    if type(obj).__name__ not in ESTIMATORS or type(obj).__module__.split(".")[0] != "catboost":
        raise UnsupportedError(f"{type(obj).__module__}.{type(obj).__qualname__} has no way to ONNX", who="catboost",
                               advice=f"these have: {', '.join(ESTIMATORS)}, and .json files")
    if not obj.is_fitted():
        raise UnsupportedError(f"{type(obj).__name__} is not fitted", who="catboost",
                               advice="call fit before exporting")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        obj.save_model(str(path), format="json")
        model = from_document(json.loads(path.read_text("utf-8")))
    model.features = max(model.features, len(obj.feature_names_ or ()))
    source = Source(model, *_span(model, settings), raw or type(obj).__name__ in RAW)
    source.answer = lambda x: _asked(obj, source, x)
    return source


def _span(model: CatBoostModel, settings: Mapping[str, Any]) -> tuple[int, int]:
    first, last = int(settings.get("ntree_start", 0)), int(settings.get("ntree_end", 0)) or model.count
    if not 0 <= first <= last <= model.count:
        raise UnsupportedError(f"the trees {first} to {last} are not of the {model.count} of this model",
                               who="catboost")
    return first, last


def _asked(obj: Any, source: Source, x: Array) -> dict[str, Array]:
    """What the library says to the rows of a matrix, whose categories are whole numbers."""
    model, rows = source.model, x
    if model.category:
        rows = x.astype(object)
        for j in model.category:
            rows[:, j] = [int(v) for v in x[:, j]]
    how = {"ntree_start": source.first, "ntree_end": source.last}
    if source.raw:
        # The ranker and the plain class say nothing else.
        chosen = {} if type(obj).__name__ in RAW else {"prediction_type": "RawFormulaVal"}
        return {"prediction": np.asarray(obj.predict(rows, **chosen, **how), np.float64)}
    if model.classes is None:
        return {"prediction": np.asarray(obj.predict(rows, **how), np.float64)}
    label = np.asarray(obj.predict(rows, **how))
    if model.loss not in LABELS:
        label = label.reshape(len(x))
    return {"label": label, "probabilities": np.asarray(obj.predict_proba(rows, **how), np.float64)}


def build(t: Translation, source: Source, x: Value, forest: Trees | None = None) -> dict[str, Value]:
    """The outputs of rows `x`, in the type of `t`; `forest` where it is at hand."""
    model, b = source.model, t.b
    bias = model.bias if source.first == 0 else np.zeros_like(model.bias)
    sums = (forest or model.forest(source.first, source.last)).votes(b, x, bias)
    if source.raw or model.classes is None:
        if not source.raw:
            sums = _linked(t, model, sums)
        return {"prediction": sums if model.groups > 1 else t.flat(sums)}
    if model.loss in BINARY:
        limit = float(np.log(model.threshold / (1 - model.threshold)))
        second = t.flat(b.Cast(b.Greater(sums, t.constant(limit)), to=dtypes.INT64.code))
        return {"label": t.labels(model.classes, second), "probabilities": t.two(b.Sigmoid(sums))}
    if model.loss in LABELS:
        above = b.Cast(b.Greater(sums, t.constant(0)), to=dtypes.INT64.code)
        return {"label": above, "probabilities": b.Sigmoid(sums)}
    shares = b.Sigmoid(sums) if model.loss == ONE_VS_ALL else b.Softmax(sums, axis=1)
    return {"label": t.choose(model.classes, sums), "probabilities": shares}


def _linked(t: Translation, model: CatBoostModel, sums: Value) -> Value:
    if model.loss in EXP:
        return t.b.Exp(sums)
    if model.loss == "RMSEWithUncertainty":
        variance = t.b.Exp(t.b.Mul(t.column(sums, 1), t.constant(2)))
        return t.b.Concat(t.column(sums, 0), variance, axis=1)
    return sums


def export(obj: Any, example: Any, options: ExportOptions) -> Exported:
    """The model of an estimator or a file, and its trials."""
    source = source_of(obj, options.settings)
    model = source.model
    names = model.names if any(n and n != str(i) for i, n in enumerate(model.names)) else []
    c = crossing("catboost", type(obj).__name__, model.features, example, options, names)
    forest = model.forest(source.first, source.last)
    t = c.begin(shared=forest.shared)
    outputs = build(t, source, c.x, forest)
    sets = trial_rows(c, [forest], forest.steps)
    for x in sets.values():
        for j in model.category:
            # The library takes nothing else for a category.
            x[:, j] = np.round(np.nan_to_num(x[:, j]))
    if source.answer is None:
        most = max(2, _PLAIN_STEPS // (max(len(sets), 1) * max(forest.steps, 1)))
        sets = {k: v[:most] if k != "missing values" else v[-most:] for k, v in sets.items()}
    answer = source.answer or (lambda x: _read_plainly(source, x))
    exact = c.dtype is dtypes.DOUBLE and t.b.opsets[ML] >= WIDE
    rounding = 1e-10 if exact else 2e-6 + 1e-7 * (source.last - source.first)

    def said(x: Array) -> dict[str, Array]:
        return {k: as_label(v) if k == "label" else v.astype(c.dtype.numpy) for k, v in answer(x).items()}

    made = trials(c, sets, said, rounding, (lambda s: toss_up(s, 20 * rounding)) if "label" in outputs else None)
    return c.end(outputs, model.origin, names, made)


def _read_plainly(source: Source, x: Array) -> dict[str, Array]:
    """The answers by the plain reading of the file."""
    model = source.model
    said = model.margins(x, source.first, source.last)
    if source.raw or model.classes is None:
        if not source.raw and model.loss in EXP:
            said = np.exp(said)
        elif not source.raw and model.loss == "RMSEWithUncertainty":
            said = np.stack([said[:, 0], np.exp(2 * said[:, 1])], 1)
        return {"prediction": said if model.groups > 1 else said[:, 0]}
    with np.errstate(over="ignore"):
        if model.loss == "MultiClass":
            e = np.exp(said - said.max(1, keepdims=True))
            return {"label": model.classes[said.argmax(1)], "probabilities": e / e.sum(1, keepdims=True)}
        shares = 1 / (1 + np.exp(-said))
    if model.loss in BINARY:
        second = (shares[:, 0] > model.threshold).astype(int)
        return {"label": model.classes[second], "probabilities": np.concatenate([1 - shares, shares], 1)}
    if model.loss in LABELS:
        return {"label": (said > 0).astype(np.int64), "probabilities": shares}
    return {"label": model.classes[said.argmax(1)], "probabilities": shares}


@translates(*(f"catboost.core.{name}" for name in ESTIMATORS))
def _(t: Translation, model: Any, x: Value) -> Outputs:
    made = build(t, source_of(model, {}), x)
    return Outputs(label=made.get("label"), probabilities=made.get("probabilities"), prediction=made.get("prediction"))
