"""Naive Bayes: log likelihoods that are linear or quadratic in the features."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import Value

from .translation import Outputs, Translation, in_double, translates


def by_likelihood(t: Translation, classes: Any, joint: Value) -> Outputs:
    """The likeliest class, and the shares of the likelihoods (rows, classes)."""
    # The logarithm of a share that is nearly nothing is not taken of the share.
    return Outputs(label=t.choose(classes, joint), probabilities=t.b.Softmax(joint, axis=1),
                   log_probabilities=t.b.LogSoftmax(joint, axis=1))


def quadratic(t: Translation, x: Value, means: Any, precisions: Any) -> Value:
    """(rows, means): the sum over features of (x - mean)^2 * precision, as two matrix products."""
    middle = means.mean(0)
    x, means = t.b.Sub(x, t.constant(middle)), means - middle
    square = t.b.MatMul(t.b.Mul(x, x), t.constant(precisions.T))
    cross = t.b.MatMul(x, t.constant(-2 * (means * precisions).T))
    return t.b.Add(t.b.Add(square, cross), t.constant((means**2 * precisions).sum(1)))


@translates("naive_bayes.GaussianNB")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    base = np.log(model.class_prior_) - 0.5 * np.log(2 * np.pi * model.var_).sum(1)
    spread = quadratic(t, x, model.theta_, 1 / model.var_)
    return by_likelihood(t, model.classes_, t.b.Sub(t.constant(base), t.b.Mul(spread, t.constant(0.5))))


@translates("naive_bayes.MultinomialNB")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    return by_likelihood(t, model.classes_, t.affine(x, model.feature_log_prob_.T, model.class_log_prior_, "bayes"))


@translates("naive_bayes.ComplementNB")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    bias = model.class_log_prior_ if len(model.classes_) == 1 else np.zeros(len(model.classes_))
    return by_likelihood(t, model.classes_, t.affine(x, model.feature_log_prob_.T, bias, "bayes"))


@translates("naive_bayes.BernoulliNB")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    if model.binarize is not None:
        x = t.number(t.b.Greater(x, t.constant(model.binarize)))
    absent = np.log(1 - np.exp(model.feature_log_prob_))
    joint = t.affine(x, (model.feature_log_prob_ - absent).T, model.class_log_prior_ + absent.sum(1), "bayes")
    return by_likelihood(t, model.classes_, joint)


@translates("naive_bayes.CategoricalNB")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    joint = t.constant(model.class_log_prior_)
    whole = t.b.Cast(x, to=dtypes.INT64.code)
    for i, table in enumerate(model.feature_log_prob_):
        category = t.b.Gather(whole, t.b.constant(np.array(i, np.int64)), axis=1)
        joint = t.b.Add(joint, t.b.Gather(t.constant(table.T), category, axis=0))
    return by_likelihood(t, model.classes_, joint)
