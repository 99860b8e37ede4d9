"""From LightGBM to ONNX: estimators of its scikit-learn interface, `Booster`s, and its text files without the library.

LightGBM compares in float64 with `<=`, whatever it is given, and sums leaves in it. A float64 example gives a model
that does the same; a float32 one gives a model whose every comparison decides alike and whose leaves are float32.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.frontends.forest import ML, WIDE, Trees
from gesher.frontends.protocol import Exported, ExportOptions
from gesher.frontends.sklearn.translation import Outputs, Translation, translates
from gesher.ir import Value

from .crossing import as_label, crossing, toss_up, trial_rows, trials
from .lightgbm_model import CLASSES, EXP, SIGMOID, LightGBMModel, parse

Array = np.ndarray[Any, Any]
ESTIMATORS = ("LGBMClassifier", "LGBMRegressor", "LGBMRanker", "LGBMModel")
SETTINGS = ("start_iteration", "num_iteration", "raw_score")
# Python steps that walking a file's trees may take in all, where the library is not there to ask.
_PLAIN_STEPS = 400_000


@dataclass(slots=True)
class Source:
    """What is exported: the model, who answers for it, and how it is asked.

    Attributes:
        classes: of a classifier of the scikit-learn interface; None of all else.
        raw: the margins are asked for.
        answer: the library's own (output -> answer) for rows; None where it is not there.
    """

    model: LightGBMModel
    first: int
    last: int
    raw: bool
    classes: Array | None = None
    answer: Callable[[Array], dict[str, Array]] | None = None

    @property
    def averaged(self) -> bool:
        return self.model.average

    @property
    def labelled(self) -> bool:
        """Whether a raw booster is of one label a row."""
        return self.classes is None and not self.raw and self.model.objective in CLASSES


def source_of(obj: Any, settings: Mapping[str, Any]) -> Source:
    """Read the object.

    Raises:
        UnsupportedError: it is not fitted, a subclass of unknown meaning, or has parts that cannot cross.
    """
    unknown = sorted(set(settings) - set(SETTINGS))
    if unknown:
        raise UnsupportedError(f"lightgbm exports know no setting {', '.join(unknown)}", who="lightgbm",
                               advice="there are " + ", ".join(SETTINGS))
    raw = bool(settings.get("raw_score", False))
    if isinstance(obj, LightGBMModel):
        return Source(obj, *_rounds(obj, settings, 0), raw)
    if hasattr(obj, "booster_"):
        return _of_estimator(obj, settings, raw)
    if hasattr(obj, "get_params"):
        raise UnsupportedError(f"{type(obj).__name__} is not fitted", who="lightgbm",
                               advice="call fit before exporting")
    if type(obj).__name__ != "Booster":
        raise UnsupportedError(f"a {type(obj).__module__}.{type(obj).__qualname__} has no way to ONNX", who="lightgbm",
                               advice="estimators, Boosters, and .txt files have")
    model = parse(obj.model_to_string(num_iteration=-1))
    source = Source(model, *_rounds(model, settings, obj.best_iteration), raw)
    source.answer = lambda x: _derived(source, _asked(obj, source, x))
    return source


def _of_estimator(obj: Any, settings: Mapping[str, Any], raw: bool) -> Source:
    if type(obj).__name__ not in ESTIMATORS or type(obj).__module__ != "lightgbm.sklearn":
        raise UnsupportedError(f"{type(obj).__module__}.{type(obj).__qualname__} may predict anything", who="lightgbm",
                               advice=f"these have a way: {', '.join(ESTIMATORS)}; or give its booster_")
    booster = obj.booster_
    model = parse(booster.model_to_string(num_iteration=-1))
    # A classifier with a loss of the user's own says its scores and no more.
    plain = raw or not hasattr(obj, "predict_proba") or model.objective not in CLASSES
    source = Source(model, *_rounds(model, settings, booster.best_iteration), raw,
                    None if plain else np.asarray(obj.classes_))

    def answer(x: Array) -> dict[str, Array]:
        how = {"start_iteration": source.first, "num_iteration": source.last - source.first}
        with warnings.catch_warnings():
            # A bare matrix has no names, which is no news.
            warnings.simplefilter("ignore")
            if source.classes is None:
                return {"prediction": np.asarray(obj.predict(x, raw_score=raw, **how), np.float64)}
            shares = np.asarray(obj.predict_proba(x, **how), np.float64)
            # Its own `predict` asks for the probabilities a second time, and looks which is the largest.
            return {"label": source.classes[shares.argmax(1)], "probabilities": shares}

    source.answer = answer
    return source


def _rounds(model: LightGBMModel, settings: Mapping[str, Any], best: int) -> tuple[int, int]:
    first, count = int(settings.get("start_iteration", 0)), settings.get("num_iteration")
    if count is None:
        count = best if best > 0 and first <= 0 else -1
    last = model.iterations if count <= 0 else min(first + int(count), model.iterations)
    if not 0 <= first <= last:
        raise UnsupportedError(f"the iteration {first} is not of the {model.iterations} of this model", who="lightgbm")
    return first, last


def _asked(booster: Any, source: Source, x: Array) -> Array:
    return np.asarray(booster.predict(x, start_iteration=source.first, num_iteration=source.last - source.first,
                                      raw_score=source.raw), np.float64)


def _derived(source: Source, said: Array) -> dict[str, Array]:
    """A classification's label and probabilities beside what `predict` says; nothing where there are none."""
    out = {"prediction": said}
    if source.labelled:
        out["probabilities"] = said if said.ndim == 2 else np.stack([1 - said, said], 1)
        out["label"] = out["probabilities"].argmax(1).astype(np.int64)
    return out


def build(t: Translation, source: Source, margins: Value) -> dict[str, Value]:
    """The outputs, in the type of `t`, from the margins (rows, groups)."""
    model = source.model
    said = margins if source.raw else _linked(t, model, margins)
    plain = said if model.groups > 1 else t.flat(said)
    if source.classes is None and not source.labelled:
        return {"prediction": plain}
    shares = said if model.groups > 1 else t.two(said)
    index = t.b.ArgMax(shares, axis=1, keepdims=0)
    if source.classes is not None:
        return {"label": t.labels(source.classes, index), "probabilities": shares}
    return {"prediction": t.b.Identity(plain) if plain is shares else plain, "label": index, "probabilities": shares}


def _linked(t: Translation, model: LightGBMModel, margins: Value) -> Value:
    """Margins as the objective gives them out."""
    objective = model.objective
    if objective in SIGMOID:
        plain = model.sigmoid == 1 or objective not in CLASSES
        return t.b.Sigmoid(margins if plain else t.b.Mul(margins, t.constant(model.sigmoid)))
    if objective == "multiclass":
        return t.b.Softmax(margins, axis=1)
    if objective in EXP:
        return t.b.Exp(margins)
    if objective in ("cross_entropy_lambda", "xentlambda"):
        return t.b.Softplus(margins)
    if "sqrt" in model.settings:
        return t.b.Mul(margins, t.b.Abs(margins))
    return margins


def _margins(t: Translation, source: Source, x: Value, forest: Trees) -> Value:
    """(rows, groups)."""
    model = source.model
    votes = forest.votes(t.b, x)
    weighed = model.weighed(source.first, source.last)
    if not weighed:
        return votes
    groups, b = model.groups, t.b
    margins = b.Gather(votes, t.axes(*range(groups)), axis=1)
    known = b.Gather(x, t.axes(*weighed), axis=1)
    terms = []
    for g in range(groups):
        first = groups + 2 * g * len(weighed)
        weights, sizes = (b.Gather(votes, t.axes(*range(at, at + len(weighed))), axis=1)
                          for at in (first, first + len(weighed)))
        # Where nothing weighs a feature, it may be anything; trees that pull an infinite one both ways make NaN.
        idle, apart = b.Equal(sizes, t.constant(0)), b.Less(b.Abs(weights), sizes)
        infinite = b.Greater(b.Abs(known), t.constant(float(np.finfo(t.dtype.numpy).max)))
        product = b.Mul(b.Where(idle, t.constant(0), known), weights)
        terms.append(t.total(b.Where(b.And(infinite, apart), t.constant(np.nan), product)))
    return b.Add(margins, t.join(terms))


def export(obj: Any, example: Any, options: ExportOptions) -> Exported:
    """The model of an estimator, a booster or a file, and its trials."""
    source = source_of(obj, options.settings)
    model = source.model
    c = crossing("lightgbm", type(obj).__name__, model.features, example, options, model.names)
    forest = model.forest(source.first, source.last, source.averaged)
    wide = c.dtype is dtypes.DOUBLE
    t = c.begin(shared=forest.shared)
    outputs = build(t, source, _margins(t, source, c.x, forest))
    sets = trial_rows(c, [forest], forest.steps, linear=model.linear)
    if source.answer is None:
        most = max(2, _PLAIN_STEPS // (max(len(sets), 1) * max(forest.steps, 1)))
        sets = {k: v[:most] if k != "missing values" else v[-most:] for k, v in sets.items()}
    answer = source.answer or (lambda x: _read_plainly(source, x))
    exact = wide and t.b.opsets[ML] >= WIDE
    rounding = 1e-10 if exact else 2e-6 + 1e-7 * (source.last - source.first) + (2e-5 if model.linear else 0)

    def said(x: Array) -> dict[str, Array]:
        return {k: as_label(v) if k == "label" else v.astype(c.dtype.numpy)
                for k, v in answer(x).items() if k in outputs}

    made = trials(c, sets, said, rounding, (lambda s: toss_up(s, 20 * rounding)) if "label" in outputs else None)
    # Without names the library makes these up.
    names = [] if model.names == [f"Column_{i}" for i in range(model.features)] else model.names
    return c.end(outputs, model.origin, names, made)


def _read_plainly(source: Source, x: Array) -> dict[str, Array]:
    """The answers by the plain reading of the file."""
    model = source.model
    said = model.margins(x, source.first, source.last, source.averaged)
    if not source.raw:
        with np.errstate(over="ignore"):
            if model.objective in SIGMOID:
                said = 1 / (1 + np.exp(-said * (model.sigmoid if model.objective in CLASSES else 1)))
            elif model.objective == "multiclass":
                e = np.exp(said - said.max(1, keepdims=True))
                said = e / e.sum(1, keepdims=True)
            elif model.objective in EXP:
                said = np.exp(said)
            elif model.objective in ("cross_entropy_lambda", "xentlambda"):
                said = np.logaddexp(0, said)
            elif "sqrt" in model.settings:
                said = said * np.abs(said)
    return _derived(source, said if model.groups > 1 else said[:, 0])


@translates(*(f"lightgbm.sklearn.{name}" for name in ESTIMATORS))
def _(t: Translation, model: Any, x: Value) -> Outputs:
    source = source_of(model, {})
    margins = _margins(t, source, x, source.model.forest(source.first, source.last, source.averaged))
    made = build(t, source, margins)
    # Calibration, thresholds and stacking ask for the margins, which classifiers have a method for since 4.7.
    return Outputs(label=made.get("label"), probabilities=made.get("probabilities"), prediction=made.get("prediction"),
                   scores=None if source.classes is None else margins)
