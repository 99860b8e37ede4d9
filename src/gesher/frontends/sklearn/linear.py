"""Linear models: a matrix product, and what each makes of its scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.ir import Value

from .translation import Outputs, Translation, refuse, translates


def _scores(t: Translation, model: Any, x: Value) -> Value:
    coefficients = np.atleast_2d(model.coef_)
    bias = np.broadcast_to(np.asarray(model.intercept_, float).reshape(-1), (len(coefficients),))
    return t.affine(x, coefficients.T, bias, type(model).__name__)


@translates("linear_model.LogisticRegression", "linear_model.LogisticRegressionCV")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    scores = _scores(t, model, x)
    classes = model.classes_
    # Several classes are told apart together, unless the solver knows only one against the rest.
    one_against_rest = model.solver == "liblinear" or getattr(model, "multi_class", None) == "ovr"
    if len(classes) == 2:
        if getattr(model, "multi_class", None) == "multinomial":
            both = t.b.Concat(t.b.Neg(scores), scores, axis=1)
            return Outputs(label=t.sign(classes, scores), probabilities=t.b.Softmax(both, axis=1), scores=scores,
                           log_probabilities=t.log_softmax(both, np.asarray(model.coef_).dtype == np.float64))
        return Outputs(label=t.sign(classes, scores), probabilities=t.two(t.b.Sigmoid(scores)), scores=scores,
                       log_probabilities=t.log_two(scores, np.asarray(model.coef_).dtype == np.float64))
    label = t.choose(classes, scores)
    if one_against_rest:
        shares, logs = t.one_against_rest(scores)
        return Outputs(label=label, probabilities=shares, scores=scores, log_probabilities=logs)
    return Outputs(label=label, probabilities=t.b.Softmax(scores, axis=1), scores=scores,
                   log_probabilities=t.log_softmax(scores, np.asarray(model.coef_).dtype == np.float64))


@translates("linear_model.RidgeClassifier", "linear_model.RidgeClassifierCV", "linear_model.Perceptron",
            "linear_model.PassiveAggressiveClassifier", "svm.LinearSVC")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    scores = _scores(t, model, x)
    classes = model.classes_
    if hasattr(model, "_label_binarizer") and model._label_binarizer.y_type_.startswith("multilabel"):
        return Outputs(label=t.b.Cast(t.b.Greater(scores, t.constant(0)), to=7), scores=scores)
    label = t.sign(classes, scores) if len(classes) == 2 else t.choose(classes, scores)
    return Outputs(label=label, scores=scores)


@translates("linear_model.SGDClassifier")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    scores = _scores(t, model, x)
    classes = model.classes_
    two = len(classes) == 2
    label = t.sign(classes, scores) if two else t.choose(classes, scores)
    if model.loss == "modified_huber":
        shares = t.b.Mul(t.b.Add(t.b.Clip(scores, t.constant(-1), t.constant(1)), t.constant(1)), t.constant(0.5))
        if two:
            return Outputs(label=label, probabilities=t.two(shares), scores=scores)
        whole = t.total(shares)
        none = t.b.Equal(whole, t.constant(0))
        even = t.b.Div(shares, t.b.Where(none, t.constant(1), whole))
        return Outputs(label=label, probabilities=t.b.Where(none, t.constant(1 / len(classes)), even), scores=scores)
    if model.loss != "log_loss":
        return Outputs(label=label, scores=scores)
    if two:
        return Outputs(label=label, probabilities=t.two(t.b.Sigmoid(scores)), scores=scores,
                       log_probabilities=t.log_two(scores, np.asarray(model.coef_).dtype == np.float64))
    shares, logs = t.one_against_rest(scores)
    return Outputs(label=label, probabilities=shares, scores=scores, log_probabilities=logs)


@translates(*(f"linear_model.{n}" for n in (
    "LinearRegression", "Ridge", "RidgeCV", "Lasso", "LassoCV", "ElasticNet", "ElasticNetCV", "Lars", "LarsCV",
    "LassoLars", "LassoLarsCV", "LassoLarsIC", "BayesianRidge", "ARDRegression", "HuberRegressor", "TheilSenRegressor",
    "SGDRegressor", "OrthogonalMatchingPursuit", "OrthogonalMatchingPursuitCV", "QuantileRegressor",
    "PassiveAggressiveRegressor", "MultiTaskLasso", "MultiTaskElasticNet", "MultiTaskLassoCV",
    "MultiTaskElasticNetCV")), "svm.LinearSVR")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    prediction = _scores(t, model, x)
    # One target fitted from a vector is predicted as a vector.
    if np.ndim(model.coef_) == 1:
        prediction = t.b.Squeeze(prediction, t.b.constant(np.array([1], np.int64)))
    return Outputs(prediction=prediction)


@translates("linear_model.PoissonRegressor", "linear_model.GammaRegressor")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    scores = t.b.Exp(_scores(t, model, x))
    return Outputs(prediction=t.b.Squeeze(scores, t.b.constant(np.array([1], np.int64))))


@translates("linear_model.TweedieRegressor")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    scores = _scores(t, model, x)
    log = model.link == "log" or (model.link == "auto" and model.power > 0)
    return Outputs(prediction=t.flat(t.b.Exp(scores) if log else scores))


@translates("linear_model.SGDOneClassSVM")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    samples = t.b.MatMul(x, t.constant(np.reshape(model.coef_, (-1, 1))))
    scores = t.b.Sub(samples, t.constant(model.offset_))
    index = t.flat(t.b.Cast(t.b.GreaterOrEqual(scores, t.constant(0)), to=7))
    return Outputs(label=t.labels(np.array([-1, 1]), index), scores=scores, log_density=t.flat(samples))


@translates("dummy.DummyClassifier")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    if model.strategy == "stratified":
        raise refuse(model, "(strategy='stratified')", "what it says is drawn at random; other strategies have")
    zero = t.b.Mul(t.number(t.b.IsNaN(t.column(x, 0))), t.constant(0))
    several = model.n_outputs_ > 1
    classes = [np.asarray(c) for c in (model.classes_ if several else [model.classes_])]
    said = model.predict_proba(np.zeros((1, 1)))
    shares = [t.b.Add(zero, t.constant(s)) for s in (said if several else [said])]
    made = Outputs(probabilities_of=shares) if several else Outputs(probabilities=shares[0])
    if model.strategy == "uniform":
        made.never["predict"] = "it draws a class at random; predict_proba has a way to ONNX"
        return made
    label = model.predict(np.zeros((1, 1)))
    label = (label.toarray() if hasattr(label, "toarray") else np.asarray(label)).reshape(-1)
    chosen = [t.b.Add(zero, t.constant((c == v)[None])) for c, v in zip(classes, label)]
    made.label = t.choose_each(classes, chosen) if several else t.choose(classes[0], chosen[0])
    return made


@translates("dummy.DummyRegressor")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    zero = t.b.Mul(t.number(t.b.IsNaN(t.column(x, 0))), t.constant(0))
    y = t.b.Add(zero, t.constant(np.asarray(model.constant_, float).reshape(1, -1)))
    return Outputs(prediction=t.flat(y) if model.n_outputs_ == 1 else y)
