"""Estimators around another one: searches, thresholds, one against the rest, chains, transformed targets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import Value

from .translation import (
    Outputs,
    Translation,
    columnwise,
    composes,
    in_double,
    inverts,
    public_name,
    refuse,
    translates,
)


def whole(made: Outputs) -> Outputs:
    """A copy, so that what an inner estimator gave may be changed."""
    return replace(made)


def need(value: Value | None, estimator: Any, what: str) -> Value:
    """What the inner estimator must give."""
    if value is None:
        raise refuse(estimator, f" without {what}")
    return value


def binary(t: Translation, estimator: Any, x: Value) -> Value:
    """The score (rows, 1) by which a two-class estimator is asked: its margin, else its second probability."""
    made = t.apply(estimator, x)
    if made.prediction is not None:
        return t.upright(made.prediction)
    if hasattr(estimator, "decision_function") and made.scores is not None:
        return made.scores
    return t.column(need(made.probabilities, estimator, "scores"), 1)


_BEST = ("model_selection.GridSearchCV", "model_selection.RandomizedSearchCV", "model_selection.HalvingGridSearchCV",
         "model_selection.HalvingRandomSearchCV")
_PLAIN = {**dict.fromkeys(_BEST, "best_estimator_"), "frozen.FrozenEstimator": "estimator",
          "linear_model.RANSACRegressor": "estimator_", "semi_supervised.SelfTrainingClassifier": "estimator_"}
for _name, _attribute in _PLAIN.items():
    composes(lambda e, a=_attribute: [getattr(e, a)], _name)  # type: ignore[misc]


@translates(*_PLAIN)
def _(t: Translation, model: Any, x: Value) -> Outputs:
    return t.apply(getattr(model, _PLAIN[public_name(type(model))]), x)


@inverts(*_BEST, "frozen.FrozenEstimator", through=True)
def _(t: Translation, model: Any, x: Any) -> Any:
    return t.invert(getattr(model, _PLAIN[public_name(type(model))]), x)


columnwise(*_PLAIN, *(f"model_selection.{n}" for n in ("FixedThresholdClassifier", "TunedThresholdClassifierCV")),
           *(f"multiclass.{n}" for n in ("OneVsRestClassifier", "OneVsOneClassifier", "OutputCodeClassifier")),
           "multioutput.MultiOutputClassifier", "multioutput.MultiOutputRegressor",
           "compose.TransformedTargetRegressor", "calibration.CalibratedClassifierCV",
           *(f"ensemble.{n}" for n in ("VotingClassifier", "VotingRegressor", "StackingClassifier",
                                       "StackingRegressor")))

composes(lambda e: [e.estimator_], "model_selection.FixedThresholdClassifier",
         "model_selection.TunedThresholdClassifierCV")


@translates("model_selection.FixedThresholdClassifier", "model_selection.TunedThresholdClassifierCV")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    inner = whole(t.apply(model.estimator_, x))
    wanted = model.response_method
    proba = inner.probabilities is not None and (wanted == "predict_proba" or wanted == "auto")
    positive = getattr(model, "pos_label", None)
    if hasattr(model, "_curve_scorer"):
        positive = model._curve_scorer._get_pos_label()
    second = positive is None or positive == model.classes_[1]
    if proba:
        score = t.column(need(inner.probabilities, model, "probabilities"), int(second))
    else:
        score = need(inner.scores, model, "a margin")
        score = score if second else t.b.Neg(score)
    threshold = getattr(model, "best_threshold_", getattr(model, "threshold", None))
    if threshold == "auto":
        threshold = 0.5 if proba else 0.0
    above = t.b.GreaterOrEqual(score, t.constant(threshold))
    classes = np.asarray(model.classes_)
    inner.label = t.labels(classes if second else classes[::-1], t.flat(t.b.Cast(above, to=dtypes.INT64.code)))
    return inner


composes(lambda e: e.estimators_, "multiclass.OneVsRestClassifier", "multiclass.OneVsOneClassifier",
         "multiclass.OutputCodeClassifier", "multioutput.MultiOutputClassifier", "multioutput.MultiOutputRegressor",
         "multioutput.ClassifierChain", "multioutput.RegressorChain")


@translates("multiclass.OneVsRestClassifier")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    from sklearn.base import is_classifier

    inner = [t.apply(e, x) for e in model.estimators_]
    columns = []
    for e, m in zip(model.estimators_, inner):
        if m.prediction is not None:
            columns.append(t.upright(m.prediction))
        elif hasattr(e, "decision_function") and m.scores is not None:
            columns.append(m.scores)
        else:
            columns.append(t.column(need(m.probabilities, e, "scores"), 1))
    scores = t.join(columns)
    proba = None
    if hasattr(model, "predict_proba") and all(m.probabilities is not None for m in inner):
        seconds = t.join([t.column(need(m.probabilities, model, "probabilities"), 1) for m in inner])
        if len(inner) == 1:
            proba = t.two(seconds)
        elif model.multilabel_:
            proba = seconds
        else:
            size = t.total(seconds)
            proba = t.b.Div(seconds, t.b.Where(t.b.Equal(size, t.constant(0)), t.constant(1), size))
    first = model.estimators_[0]
    threshold = 0 if hasattr(first, "decision_function") and is_classifier(first) else 0.5
    above = t.b.Cast(t.b.Greater(scores, t.constant(threshold)), to=dtypes.INT64.code)
    label = above if model.multilabel_ else t.choose(model.classes_, scores) if len(inner) > 1 else \
        t.labels(model.classes_, t.flat(above))
    return Outputs(label=label, probabilities=proba, scores=scores)


@translates("multiclass._ConstantPredictor")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    """The same answer for every row, where training saw but one class."""
    score = t.b.Add(t.b.Mul(t.number(t.b.IsNaN(t.column(x, 0))), t.constant(0)), t.constant(float(model.y_[0])))
    return Outputs(label=t.b.Cast(t.flat(score), to=dtypes.INT64.code), scores=score, probabilities=t.two(score))


def pairs_of(classes: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(classes) for j in range(i + 1, classes)]


def vote(t: Translation, second: Value, confidence: Value, classes: int) -> Value:
    """(rows, classes) scores from duels: votes, and below one vote the summed confidence, as scikit-learn has it.

    `second` is 1 where the second of a pair (rows, pairs) won, `confidence` is larger the more it did.
    """
    pairs = pairs_of(classes)
    first_of, second_of = np.zeros((len(pairs), classes)), np.zeros((len(pairs), classes))
    for k, (i, j) in enumerate(pairs):
        first_of[k, i] = second_of[k, j] = 1
    votes = t.affine(second, second_of - first_of, first_of.sum(0), "duels")
    sums = t.b.MatMul(confidence, t.constant(second_of - first_of))
    share = t.b.Div(sums, t.b.Mul(t.constant(3), t.b.Add(t.b.Abs(sums), t.constant(1))))
    return t.b.Add(votes, share)


@translates("multiclass.OneVsOneClassifier")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    made = [t.apply(e, x) for e in model.estimators_]
    labels = t.join([t.upright(t.number(need(m.label, model, "labels"))) for m in made])
    confidences = t.join([m.scores if m.scores is not None and hasattr(e, "decision_function")
                          else t.column(need(m.probabilities, e, "scores"), 1)
                          for e, m in zip(model.estimators_, made)])
    n = len(model.classes_)
    scores = vote(t, labels, confidences, n)
    if n == 2:
        scores = t.column(scores, 1)
        threshold = 0 if hasattr(model.estimators_[0], "decision_function") else 0.5
        above = t.b.Greater(scores, t.constant(threshold))
        return Outputs(label=t.labels(model.classes_, t.flat(t.b.Cast(above, to=dtypes.INT64.code))), scores=scores)
    return Outputs(label=t.choose(model.classes_, scores), scores=scores)


@translates("multiclass.OutputCodeClassifier")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    scores = t.join([binary(t, e, x) for e in model.estimators_])
    distances = t.squared_distances(scores, np.asarray(model.code_book_, float))
    return Outputs(label=t.labels(model.classes_, t.b.ArgMin(distances, axis=1, keepdims=0)))


@translates("multioutput.MultiOutputRegressor")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    parts = [t.upright(need(t.apply(e, x).prediction, e, "predictions")) for e in model.estimators_]
    return Outputs(prediction=t.join(parts))


@translates("multioutput.MultiOutputClassifier")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    made = [t.apply(e, x) for e in model.estimators_]
    shares = [m.probabilities for m in made if m.probabilities is not None]
    return Outputs(label=t.join([t.upright(need(m.label, e, "labels")) for e, m in zip(model.estimators_, made)]),
                   probabilities_of=shares if len(shares) == len(made) else None)


@translates("multioutput.RegressorChain")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    columns: dict[int, Value] = {}
    for target, estimator in zip(model.order_, model.estimators_):
        columns[target] = t.upright(need(t.apply(estimator, x).prediction, estimator, "predictions"))
        x = t.join([x, columns[target]])
    return Outputs(prediction=t.join([columns[k] for k in sorted(columns)]))


@translates("multioutput.ClassifierChain")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    told = getattr(model, "chain_method_", "predict")
    found: dict[str, dict[int, Value]] = {}
    for target, estimator in zip(model.order_, model.estimators_):
        if np.asarray(estimator.classes_).dtype.kind not in "iufb":
            raise refuse(model, " with classes that are no numbers")
        made = t.apply(estimator, x)
        # Its answer is an array of floats, whatever the classes are.
        said = {"predict": t.upright(t.number(need(made.label, estimator, "labels")))}
        two = len(estimator.classes_) == 2
        if two and made.probabilities is not None:
            said["predict_proba"] = t.column(made.probabilities, 1)
            logs = made.log_probabilities
            said["predict_log_proba"] = t.b.Log(said["predict_proba"]) if logs is None else t.column(logs, 1)
        if two and made.scores is not None and hasattr(estimator, "decision_function"):
            said["decision_function"] = made.scores
        for method, value in said.items():
            found.setdefault(method, {})[int(target)] = value
        x = t.join([x, need(said.get(told), estimator, f"{told} of two classes")])

    def ordered(method: str) -> Value | None:
        each = found.get(method, {})
        return t.join([each[k] for k in sorted(each)]) if len(each) == len(model.estimators_) else None

    return Outputs(label=ordered("predict"), probabilities=ordered("predict_proba"),
                   scores=ordered("decision_function"), log_probabilities=ordered("predict_log_proba"))


composes(lambda e: [e.regressor_], "compose.TransformedTargetRegressor")


@translates("compose.TransformedTargetRegressor")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    y = need(t.apply(model.regressor_, x).prediction, model.regressor_, "predictions")
    if np.ndim(getattr(model.regressor_, "coef_", np.zeros(1))) == 1 and len(t.b.shape(y) or ()) == 1:
        y = t.upright(y)
    y = t.matrix(t.invert(model.transformer_, y))
    return Outputs(prediction=t.flat(y) if model._training_dim == 1 else y)
