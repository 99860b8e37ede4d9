"""From XGBoost to ONNX: estimators of its scikit-learn interface, `Booster`s, and its files without the library.

XGBoost computes in float32: features are rounded to it, compared with `<`, and leaves are summed in it, tree after
tree. The export compares the same numbers; its sums are rounded once, so that answers may differ in the last digits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.frontends.forest import Trees
from gesher.frontends.protocol import Exported, ExportOptions
from gesher.frontends.sklearn.translation import Outputs, Translation, translates
from gesher.ir import Value

from .crossing import crossing, toss_up, trial_rows, trials
from .xgboost_model import EXP, SIGMOID, XGBoostModel, from_document, parse

Array = np.ndarray[Any, Any]
ESTIMATORS = ("XGBClassifier", "XGBRegressor", "XGBRanker", "XGBRFClassifier", "XGBRFRegressor", "XGBModel")
SETTINGS = ("iteration_range", "missing", "output_margin")
# Python steps that walking a file's trees may take in all, where the library is not there to ask.
_PLAIN_STEPS = 400_000


@dataclass(slots=True)
class Source:
    """What is exported: the model, who answers for it, and how it is asked.

    Attributes:
        kind: "classifier", "estimator" (one that has `predict` alone), or "booster" (the library's raw interface).
        missing: the number that stands for a missing value; NaN always does.
        answer: the library's own (output -> answer) for rows of float32 or float64; None where it is not there.
    """

    model: XGBoostModel
    kind: str
    first: int
    last: int
    missing: float
    margin: bool = False
    answer: Callable[[Array], dict[str, Array]] | None = None

    @property
    def raw_outputs(self) -> bool:
        return self.kind == "booster"


def source_of(obj: Any, settings: Mapping[str, Any]) -> Source:
    """Read the object.

    Raises:
        UnsupportedError: it is not fitted, a subclass of unknown meaning, or has parts that cannot cross.
    """
    unknown = sorted(set(settings) - set(SETTINGS))
    if unknown:
        raise UnsupportedError(f"xgboost exports know no setting {', '.join(unknown)}", who="xgboost",
                               advice="there are " + ", ".join(SETTINGS))
    margin, missing = bool(settings.get("output_margin", False)), float(settings.get("missing", np.nan))
    if isinstance(obj, XGBoostModel):
        kind = "classifier" if obj.classifier and not margin else "booster"
        best = (0, obj.best + 1) if obj.best is not None and obj.classifier else (0, 0)
        first, last = _rounds(obj, settings.get("iteration_range", best))
        return Source(obj, kind, first, last, missing, margin)
    if hasattr(obj, "get_booster"):
        return _of_estimator(obj, settings, margin)
    if type(obj).__name__ != "Booster":
        raise UnsupportedError(f"a {type(obj).__module__}.{type(obj).__qualname__} has no way to ONNX", who="xgboost",
                               advice="estimators, Boosters, and .json and .ubj files have")
    model = from_document(parse(obj.save_raw("ubj")))
    first, last = _rounds(model, settings.get("iteration_range", (0, 0)))
    source = Source(model, "booster", first, last, missing, margin)
    source.answer = lambda x: _asked(obj, source, x)
    return source


def _of_estimator(obj: Any, settings: Mapping[str, Any], margin: bool) -> Source:
    if type(obj).__name__ not in ESTIMATORS or type(obj).__module__ != "xgboost.sklearn":
        raise UnsupportedError(f"{type(obj).__module__}.{type(obj).__qualname__} may predict anything", who="xgboost",
                               advice=f"these have a way: {', '.join(ESTIMATORS)}; or give its get_booster()")
    if not obj.__sklearn_is_fitted__():
        raise UnsupportedError(f"{type(obj).__name__} is not fitted", who="xgboost", advice="call fit before exporting")
    booster = obj.get_booster()
    model = from_document(parse(booster.save_raw("ubj")))
    missing = settings.get("missing", getattr(obj, "missing", np.nan))
    chosen = settings.get("iteration_range") or obj._get_iteration_range(None)
    first, last = _rounds(model, chosen)
    kind = "classifier" if hasattr(obj, "predict_proba") and not margin else "estimator"
    source = Source(model, kind, first, last, np.nan if missing is None else float(missing), margin)

    def answer(x: Array) -> dict[str, Array]:
        how = {"validate_features": False, "iteration_range": tuple(chosen)}
        if model.names or "c" in model.types:
            # A bare matrix has no names and no categories, so it is asked as the library asks itself.
            raw = _asked(booster, source, x)["prediction"]
            return _as_classifier(source, raw, booster, x) if kind == "classifier" else {"prediction": raw}
        if kind == "classifier":
            shares = np.asarray(obj.predict_proba(x, **how), np.float32)
            return {"label": np.asarray(obj.predict(x, **how)).astype(np.int64), "probabilities": shares}
        return {"prediction": np.asarray(obj.predict(x, output_margin=margin, **how), np.float32)}

    source.answer = answer
    return source


def _rounds(model: XGBoostModel, chosen: Any) -> tuple[int, int]:
    count = len(model.rounds) - 1
    first, last = (int(v) for v in chosen)
    if model.weights is not None:
        return 0, 0
    last = count if last == 0 else last
    if not 0 <= first <= last <= count:
        raise UnsupportedError(f"the rounds {first} to {last} are not of the {count} of this model", who="xgboost")
    return first, last


def _asked(booster: Any, source: Source, x: Array) -> dict[str, Array]:
    """What `Booster.predict` says to the rows of a matrix."""
    import xgboost

    model = source.model
    data = xgboost.DMatrix(x, missing=source.missing, feature_names=model.names or None,
                           feature_types=model.types or None, enable_categorical=True)
    several = {} if model.weights is not None else {"iteration_range": (source.first, source.last)}
    said = np.asarray(booster.predict(data, output_margin=source.margin, validate_features=False, **several))
    return {"prediction": said.astype(np.float32)} | _derived(source, said)


def _derived(source: Source, said: Array) -> dict[str, Array]:
    """A classification's label and probabilities from what `predict` says; nothing where there are none."""
    if not _has_classes(source):
        return {}
    if said.ndim == 2:
        return {"label": said.argmax(1).astype(np.int64), "probabilities": said.astype(np.float32)}
    if source.model.objective == "multi:softmax":
        return {"label": said.astype(np.int64)}
    return {"label": (said > 0.5).astype(np.int64),
            "probabilities": np.stack([1 - said, said], 1).astype(np.float32)}


def _has_classes(source: Source) -> bool:
    """Whether a raw booster is of one label a row."""
    model = source.model
    return not source.margin and (model.objective.startswith("multi:") or
                                  (model.objective == "binary:logistic" and model.groups == 1))


def _as_classifier(source: Source, raw: Array, booster: Any, x: Array) -> dict[str, Array]:
    """What the scikit-learn interface makes of `Booster.predict`."""
    if source.model.objective == "multi:softmax":
        margin = Source(source.model, "booster", source.first, source.last, source.missing, True)
        said = _asked(booster, margin, x)["prediction"]
        e = np.exp(said - said.max(1, keepdims=True))
        return {"label": raw.astype(np.int64), "probabilities": e / e.sum(1, keepdims=True)}
    if raw.ndim == 2:
        many = source.model.classes > 2
        return {"label": raw.argmax(1).astype(np.int64) if many else (raw > 0.5).astype(np.int64), "probabilities": raw}
    return {"label": (raw > 0.5).astype(np.int64), "probabilities": np.stack([1 - raw, raw], 1)}


def build(t: Translation, source: Source, x: Value, forest: Trees | None = None) -> dict[str, Value]:
    """The outputs, in float32, of rows `x` in float32; `forest` where it is at hand."""
    margins = _margins(t, source, x, forest)
    model = source.model
    if source.margin:
        return {"prediction": margins if model.groups > 1 else t.flat(margins)}
    if model.objective.startswith("multi:"):
        return _classes(t, source, margins)
    said = _linked(t, model.objective, margins)
    if source.kind == "classifier":
        above = t.b.Cast(t.b.Greater(said, t.constant(0.5)), to=dtypes.INT64.code)
        if model.groups > 1:
            # Several labels, each yes or no.
            return {"label": above, "probabilities": said}
        return {"label": t.flat(above), "probabilities": t.two(said)}
    out = {"prediction": said if model.groups > 1 else t.flat(said)}
    if source.raw_outputs and _has_classes(source):
        above = t.b.Cast(t.b.Greater(said, t.constant(0.5)), to=dtypes.INT64.code)
        out |= {"label": t.flat(above), "probabilities": t.two(said)}
    return out


def _classes(t: Translation, source: Source, margins: Value) -> dict[str, Value]:
    shares = t.b.Softmax(margins, axis=1)
    hard = source.model.objective == "multi:softmax"
    if source.kind == "classifier" and not hard and source.model.groups == 2:
        # Two classes by softprob are two labels to the scikit-learn interface.
        above = t.b.Cast(t.b.Greater(shares, t.constant(0.5)), to=dtypes.INT64.code)
        return {"label": above, "probabilities": shares}
    label = t.b.ArgMax(margins if hard else shares, axis=1, keepdims=0)
    out = {"label": label, "probabilities": shares}
    if source.kind == "estimator":
        out = {}
    if source.kind != "classifier":
        out["prediction"] = t.b.Cast(label, to=dtypes.FLOAT.code) if hard else t.b.Identity(shares) if out else shares
    return out


def _linked(t: Translation, objective: str, margins: Value) -> Value:
    if objective in SIGMOID:
        return t.b.Sigmoid(margins)
    if objective in EXP:
        return t.b.Exp(margins)
    if objective == "binary:hinge":
        return t.number(t.b.Greater(margins, t.constant(0)))
    return margins


def _margins(t: Translation, source: Source, x: Value, forest: Trees | None) -> Value:
    """(rows, groups)."""
    model = source.model
    if not np.isnan(source.missing):
        x = t.b.Where(t.b.Equal(x, t.constant(source.missing)), t.constant(np.nan), x)
    if model.weights is None:
        return (forest or model.forest(source.first, source.last)).votes(t.b, x, model.base)
    known = t.b.Where(t.b.IsNaN(x), t.constant(0), x)
    return t.affine(known, model.weights[:-1], model.weights[-1] + model.base, "linear")


def export(obj: Any, example: Any, options: ExportOptions) -> Exported:
    """The model of an estimator, a booster or a file, and its trials."""
    source = source_of(obj, options.settings)
    model = source.model
    c = crossing("xgboost", type(obj).__name__, model.features, example, options, model.names)
    forest = None if model.weights is not None else model.forest(source.first, source.last)
    t = c.begin(shared=forest is not None and forest.shared, wide=False)
    outputs = build(t, source, c.x, forest)
    steps = 1 if forest is None else forest.steps
    installed = source.answer is not None
    sets = trial_rows(c, [] if forest is None else [forest], steps, linear=forest is None)
    if not np.isnan(source.missing) and sets:
        sets["missing values"] = np.where(np.isnan(sets["missing values"]), c.dtype.numpy.type(source.missing),
                                          sets["missing values"])
    if not installed:
        most = max(2, _PLAIN_STEPS // (max(len(sets), 1) * max(steps, 1)))
        sets = {k: v[:most] if k != "missing values" else v[-most:] for k, v in sets.items()}
    answer = source.answer or (lambda x: _read_plainly(source, x))
    # A sum of n float32 loses up to about a digit of the last place each time.
    rounding = 2e-6 + 1.2e-7 * (source.last - source.first)

    made = trials(c, sets, lambda x: {k: v for k, v in answer(x).items() if k in outputs}, rounding,
                  (lambda s: toss_up(s, 20 * rounding)) if "label" in outputs else None)
    return c.end(outputs, model.origin, model.names, made)


def _read_plainly(source: Source, x: Array) -> dict[str, Array]:
    """The answers by the plain reading of the file."""
    model = source.model
    x = np.asarray(x, np.float32)
    x = np.where(x == np.float32(source.missing), np.float32(np.nan), x)
    margins = model.margins(x, source.first, source.last)
    if source.margin:
        return {"prediction": margins if model.groups > 1 else margins[:, 0]}
    with np.errstate(over="ignore"):
        if model.objective.startswith("multi:"):
            e = np.exp(margins - margins.max(1, keepdims=True))
            shares = e / e.sum(1, keepdims=True)
            hard = model.objective == "multi:softmax"
            label = margins.argmax(1)
            if source.kind == "classifier" and not hard and model.groups == 2:
                label = (shares > 0.5).astype(np.int64)
            return {"label": label, "probabilities": shares, "prediction": label.astype(np.float32) if hard else shares}
        said = 1 / (1 + np.exp(-margins)) if model.objective in SIGMOID else np.exp(margins) if model.objective in EXP \
            else (margins > 0).astype(np.float32) if model.objective == "binary:hinge" else margins
    above = (said > 0.5).astype(np.int64)
    if model.groups > 1:
        return {"label": above, "probabilities": said, "prediction": said}
    return {"label": above[:, 0], "probabilities": np.concatenate([1 - said, said], 1), "prediction": said[:, 0]}


@translates(*(f"xgboost.sklearn.{name}" for name in ESTIMATORS))
def _(t: Translation, model: Any, x: Value) -> Outputs:
    narrow = Translation(t.b, dtypes.FLOAT)
    wide = t.dtype is dtypes.DOUBLE
    made = build(narrow, source_of(model, {}), t.b.Cast(x, to=dtypes.FLOAT.code) if wide else x)
    if wide:
        made = {k: v if k == "label" else t.b.Cast(v, to=dtypes.DOUBLE.code) for k, v in made.items()}
    return Outputs(label=made.get("label"), probabilities=made.get("probabilities"), prediction=made.get("prediction"))
