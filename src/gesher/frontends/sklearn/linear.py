"""Linear models: a matrix product, and what each makes of its scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base.errors import UnsupportedError
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
            return Outputs(label=t.sign(classes, scores), probabilities=t.b.Softmax(both, axis=1), scores=scores)
        return Outputs(label=t.sign(classes, scores), probabilities=t.two(t.b.Sigmoid(scores)), scores=scores)
    probabilities = t.one_against_rest(scores) if one_against_rest else t.b.Softmax(scores, axis=1)
    return Outputs(label=t.choose(classes, scores), probabilities=probabilities, scores=scores)


@translates("linear_model.RidgeClassifier", "linear_model.RidgeClassifierCV", "linear_model.Perceptron",
            "linear_model.PassiveAggressiveClassifier", "svm.LinearSVC")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    scores = _scores(t, model, x)
    classes = model.classes_
    label = t.sign(classes, scores) if len(classes) == 2 else t.choose(classes, scores)
    return Outputs(label=label, scores=scores)


@translates("linear_model.SGDClassifier")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    scores = _scores(t, model, x)
    classes = model.classes_
    two = len(classes) == 2
    label = t.sign(classes, scores) if two else t.choose(classes, scores)
    if model.loss != "log_loss":
        if model.loss == "modified_huber":
            raise UnsupportedError("SGDClassifier(loss='modified_huber') has no way to ONNX yet", who="sklearn")
        return Outputs(label=label, scores=scores)
    probabilities = t.two(t.b.Sigmoid(scores)) if two else t.one_against_rest(scores)
    return Outputs(label=label, probabilities=probabilities, scores=scores)


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
    if model.strategy not in ("prior", "most_frequent", "constant") or model.n_outputs_ != 1:
        raise refuse(model, f"(strategy={model.strategy!r})", "guesses at random cannot be the same in ONNX")
    zero = t.b.Mul(t.number(t.b.IsNaN(t.column(x, 0))), t.constant(0))
    shares = np.asarray(model.predict_proba(np.zeros((1, 1))), float)
    return Outputs(label=t.choose(model.classes_, t.b.Add(zero, t.constant(_chosen(model)))),
                   probabilities=t.b.Add(zero, t.constant(shares)))


def _chosen(model: Any) -> Any:
    """(1, classes): 1 for the class that is always predicted."""
    return (np.asarray(model.classes_) == model.predict(np.zeros((1, 1)))[0]).astype(float)[None]


@translates("dummy.DummyRegressor")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    zero = t.b.Mul(t.number(t.b.IsNaN(t.column(x, 0))), t.constant(0))
    y = t.b.Add(zero, t.constant(np.asarray(model.constant_, float).reshape(1, -1)))
    return Outputs(prediction=t.flat(y) if model.n_outputs_ == 1 else y)
