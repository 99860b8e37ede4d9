"""Committees: voting, stacking, bagging, AdaBoost, calibrated classifiers."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import Value

from .meta import need, whole
from .translation import Outputs, Translation, composes, in_double, refuse, translates
from .trees import LEQ, Trees, add_tree, isolation_depths

composes(lambda e: e.estimators_, "ensemble.VotingClassifier", "ensemble.VotingRegressor", "ensemble.BaggingClassifier",
         "ensemble.BaggingRegressor", "ensemble.AdaBoostClassifier", "ensemble.AdaBoostRegressor")
composes(lambda e: [*e.estimators_, e.final_estimator_], "ensemble.StackingClassifier", "ensemble.StackingRegressor")
composes(lambda e: [c.estimator for c in e.calibrated_classifiers_], "calibration.CalibratedClassifierCV")


@translates("ensemble.VotingClassifier")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    made = [t.apply(e, x) for e in model.estimators_]
    if model.voting == "soft":
        shares = t.mean([need(m.probabilities, e, "probabilities") for e, m in zip(model.estimators_, made)],
                        model._weights_not_none)
        each = [need(m.probabilities, e, "probabilities") for e, m in zip(model.estimators_, made)]
        beside = t.join(each) if model.flatten_transform else \
            t.join([t.b.Unsqueeze(p, t.axes(0)) for p in each], axis=0)
        return Outputs(label=t.choose(model.classes_, shares), probabilities=shares, transformed=beside,
                       aside=("transformed",))
    # The inner estimators were fitted on the classes' numbers.
    numbers = np.arange(len(model.classes_))
    labels = [need(m.label, e, "labels") for e, m in zip(model.estimators_, made)]
    votes = t.mean([t.is_class(v, numbers) for v in labels], model._weights_not_none)
    return Outputs(label=t.choose(model.classes_, votes), transformed=t.join([t.upright(v) for v in labels]),
                   aside=("transformed",))


@translates("ensemble.VotingRegressor")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    parts = [need(t.apply(e, x).prediction, e, "predictions") for e in model.estimators_]
    return Outputs(prediction=t.mean(parts, model._weights_not_none), transformed=t.join([t.upright(p) for p in parts]),
                   aside=("transformed",))


def _stacked(t: Translation, model: Any, x: Value) -> Outputs:
    """What the last estimator says of the others' answers, which are `transformed`."""
    parts: list[Value] = []
    for estimator, method in zip(model.estimators_, model.stack_method_):
        made = t.apply(estimator, x)
        if method == "predict_proba" and made.probabilities_of is not None:
            # Of each label the first class says nothing that the others do not.
            for share in made.probabilities_of:
                n = (t.b.shape(share) or (0, 0))[1]
                assert isinstance(n, int)
                parts += [t.b.Slice(share, t.axes(1), t.axes(n), t.axes(1))] if n > 1 else []
            continue
        if method == "predict_proba":
            part = need(made.probabilities, estimator, "probabilities")
            # Of two classes the second says all; so scikit-learn has it of two labels too.
            if len(model.classes_) == 2:
                part = t.column(part, 1)
        elif method == "decision_function":
            part = need(made.scores, estimator, "scores")
        else:
            part = made.prediction if made.prediction is not None else \
                t.number(need(made.label, estimator, "predictions"))
            part = t.upright(part) if len(t.b.shape(part) or ()) == 1 else part
        parts.append(part)
    beside = t.join([t.matrix(p) for p in parts] + ([t.matrix(x, model)] if model.passthrough else []))
    made = whole(t.apply(model.final_estimator_, beside))
    made.transformed, made.aside = beside, ("transformed",)
    return made


@translates("ensemble.StackingRegressor")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    return _stacked(t, model, x)


@translates("ensemble.StackingClassifier")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    made = _stacked(t, model, x)
    number = t.b.Cast(need(made.label, model.final_estimator_, "labels"), to=dtypes.INT64.code)
    if not isinstance(model.classes_, list):
        made.label = t.labels(model.classes_, number)
        return made
    each = [t.upright(t.labels(np.asarray(c), t.flat(t.column(number, k)))) for k, c in enumerate(model.classes_)]
    made.label = t.join(each)
    # Of several labels it gives the probability that each is the first of its classes.
    firsts = made.probabilities_of
    made.probabilities = t.join([t.column(p, 0) for p in firsts]) if firsts is not None else None
    made.probabilities_of = None
    return made


def _members(t: Translation, model: Any, x: Value) -> list[tuple[Any, Outputs]]:
    """Each bagged estimator on the features that it was fitted on."""
    made = []
    for estimator, features in zip(model.estimators_, model.estimators_features_):
        every = np.array_equal(features, np.arange(model.n_features_in_))
        picked = x if every else t.b.Gather(x, t.b.constant(np.asarray(features, np.int64)), axis=1)
        made.append((estimator, t.apply(estimator, picked)))
    return made


@translates("ensemble.BaggingClassifier")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    n, parts, scores, logs = len(model.classes_), [], [], []
    for estimator, made in _members(t, model, x):
        if made.scores is not None and len(estimator.classes_) == n:
            scores.append(made.scores)
        if hasattr(estimator, "predict_log_proba") and len(estimator.classes_) == n and made.probabilities is not None:
            logs.append(made.log_probabilities or t.b.Log(made.probabilities))
        if hasattr(estimator, "predict_proba"):
            part = need(made.probabilities, estimator, "probabilities")
            if len(estimator.classes_) != n:
                place = np.eye(n)[np.asarray(estimator.classes_, int)]
                part = t.b.MatMul(part, t.constant(place))
        else:
            part = t.is_class(need(made.label, estimator, "labels"), np.arange(n))
        parts.append(part)
    shares = t.mean(parts)
    return Outputs(label=t.choose(model.classes_, shares), probabilities=shares,
                   scores=t.mean(scores) if len(scores) == len(parts) else None,
                   log_probabilities=_log_mean(t, logs) if len(logs) == len(parts) else None)


def _log_mean(t: Translation, logs: list[Value]) -> Value:
    """The logarithm of the mean of what has these logarithms, without leaving them."""
    most = t.b.Max(*logs) if len(logs) > 1 else logs[0]
    held = t.b.Where(t.b.Equal(most, t.constant(-np.inf)), t.constant(0), most)
    return t.b.Add(held, t.b.Log(t.mean([t.b.Exp(t.b.Sub(v, held)) for v in logs])))


@translates("ensemble.BaggingRegressor")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    return Outputs(prediction=t.mean([need(m.prediction, e, "predictions") for e, m in _members(t, model, x)]))


@translates("ensemble.AdaBoostClassifier")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    n = len(model.classes_)
    if n == 1:
        none = t.b.Mul(t.number(t.b.IsNaN(t.column(x, 0))), t.constant(0))
        return Outputs(label=t.choose(model.classes_, none), scores=none, probabilities=t.b.Add(none, t.constant(1)))
    # The estimators of stages that were never reached have no weight.
    weights = np.asarray(model.estimator_weights_[:len(model.estimators_)], float)
    share = model.estimator_weights_.sum()
    votes = []
    for estimator, w in zip(model.estimators_, weights):
        hit = t.is_class(need(t.apply(estimator, x).label, estimator, "labels"), model.classes_)
        miss = -1 / (n - 1) * w
        votes.append(t.b.Add(t.b.Mul(hit, t.constant((w - miss) / share)), t.constant(miss / share)))
    scores = votes[0]
    for v in votes[1:]:
        scores = t.b.Add(scores, v)
    if n == 2:
        scores = t.b.Sub(t.column(scores, 1), t.column(scores, 0))
        both = t.b.Concat(t.b.Neg(scores), scores, axis=1)
        return Outputs(label=t.sign(model.classes_, scores), scores=scores,
                       probabilities=t.b.Softmax(t.b.Mul(both, t.constant(0.5)), axis=1))
    return Outputs(label=t.choose(model.classes_, scores), scores=scores,
                   probabilities=t.b.Softmax(t.b.Div(scores, t.constant(n - 1)), axis=1))


@translates("ensemble.AdaBoostRegressor")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    """The weighted median: of the predictions in order, the first that half of the weight does not lie beyond."""
    said = t.join([t.upright(need(t.apply(e, x).prediction, e, "predictions")) for e in model.estimators_])
    n = len(model.estimators_)
    ordered, index = t.b.op("TopK", said, t.axes(n), axis=1, largest=0, sorted=1, outputs=2)
    weights = t.b.Gather(t.constant(model.estimator_weights_[:n]), index, axis=0)
    grown = t.b.CumSum(weights, t.b.constant(np.array(1, np.int64)))
    half = t.b.Mul(t.column(grown, n - 1), t.constant(0.5))
    at = t.b.ArgMax(t.b.Cast(t.b.GreaterOrEqual(grown, half), to=dtypes.INT32.code), axis=1, keepdims=1)
    return Outputs(prediction=t.flat(t.b.GatherElements(ordered, at, axis=1)))


@translates("calibration.CalibratedClassifierCV")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    shares = t.mean([_calibrated(t, c, x) for c in model.calibrated_classifiers_])
    return Outputs(label=t.choose(model.classes_, shares), probabilities=shares)


def _calibrated(t: Translation, model: Any, x: Value) -> Value:
    """The probabilities (rows, classes) of one classifier and its calibrators."""
    from .expansion import isotonic

    if model.method not in ("sigmoid", "isotonic", "temperature"):
        raise refuse(model, f"(method={model.method!r})", "'sigmoid', 'isotonic' and 'temperature' have")
    made, n = t.apply(model.estimator, x), len(model.classes)
    if model.method == "temperature":
        if hasattr(model.estimator, "decision_function"):
            logits = need(made.scores, model.estimator, "scores")
            logits = t.b.Concat(t.b.Neg(logits), logits, axis=1) if n == 2 else logits
        else:
            shares = need(made.probabilities, model.estimator, "probabilities")
            logits = t.b.Log(t.b.Add(shares, t.constant(1e-12)))
        return t.b.Softmax(t.b.Mul(logits, t.constant(model.calibrators[0].beta_)), axis=1)
    if hasattr(model.estimator, "decision_function"):
        scores = need(made.scores, model.estimator, "scores")
    else:
        scores = need(made.probabilities, model.estimator, "probabilities")
        scores = t.column(scores, 1) if n == 2 else scores
    columns: dict[int, Value] = {}
    places = np.searchsorted(model.classes, model.estimator.classes_)
    for k, (place, calibrator) in enumerate(zip(places, model.calibrators)):
        score = t.column(scores, k)
        if model.method == "sigmoid":
            score = t.b.Mul(t.b.Add(t.b.Mul(score, t.constant(calibrator.a_)), t.constant(calibrator.b_)),
                            t.constant(-1))
            columns[int(place)] = t.b.Sigmoid(score)
        else:
            columns[int(place)] = isotonic(t, calibrator, score)
    if n == 2:
        return t.two(columns[min(columns)])
    if len(columns) != n:
        raise refuse(model, " where a fold lacks a class")
    whole = t.join([columns[k] for k in range(n)])
    size = t.total(whole)
    none = t.b.Equal(size, t.constant(0))
    return t.b.Where(none, t.constant(1 / n), t.b.Div(whole, t.b.Where(none, t.constant(1), size)))


@translates("ensemble.RandomTreesEmbedding")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    """One column for each leaf of each tree, in the order of the encoder's categories."""
    columns = sum(map(len, model.one_hot_encoder_.categories_))
    forest, column = Trees(LEQ, columns), 0
    for estimator, leaves in zip(model.estimators_, model.one_hot_encoder_.categories_):
        weights = np.zeros((estimator.tree_.node_count, len(leaves)))
        weights[np.asarray(leaves, int), np.arange(len(leaves))] = 1
        add_tree(forest, estimator.tree_, weights, range(column, column + len(leaves)))
        column += len(leaves)
    return Outputs(transformed=forest.tallies(t.b, x))


@translates("ensemble.IsolationForest")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    forest = Trees(LEQ, 1)
    isolation_depths(forest, model)
    depths = forest.votes(t.b, x)
    from sklearn.ensemble._iforest import _average_path_length

    size = len(model.estimators_) * float(_average_path_length([model._max_samples])[0])
    if size == 0:
        raise refuse(model, " of trees without depth")
    two = t.b.Exp(t.b.Mul(depths, t.constant(-np.log(2) / size)))
    samples = t.b.Neg(two)
    scores = t.b.Sub(samples, t.constant(model.offset_))
    index = t.flat(t.b.Cast(t.b.Less(scores, t.constant(0)), to=dtypes.INT64.code))
    return Outputs(label=t.labels(np.array([1, -1]), index), scores=scores, log_density=t.flat(samples))
