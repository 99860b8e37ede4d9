"""Perceptrons of several layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.ir import Value

from .translation import Outputs, Translation, translates

_ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "logistic": "Sigmoid"}


def _network(t: Translation, model: Any, x: Value) -> Value:
    """The scores of the last layer, before its own activation."""
    for i, (weights, bias) in enumerate(zip(model.coefs_, model.intercepts_)):
        x = t.affine(x, weights, bias, f"layer{i}")
        if i < len(model.coefs_) - 1 and model.activation != "identity":
            x = t.b.op(_ACTIVATIONS[model.activation], x)
    return x


@translates("neural_network.MLPClassifier")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    scores = _network(t, model, x)
    if model.out_activation_ == "softmax":
        return Outputs(label=t.choose(model.classes_, scores), probabilities=t.b.Softmax(scores, axis=1),
                       log_probabilities=t.log_softmax(scores, np.asarray(model.coefs_[0]).dtype == np.float64))
    if model._label_binarizer.y_type_ == "multilabel-indicator":
        marks = t.b.Cast(t.b.Greater(scores, t.constant(0)), to=7)
        return Outputs(label=marks, probabilities=t.b.Sigmoid(scores))
    return Outputs(label=t.sign(model.classes_, scores), probabilities=t.two(t.b.Sigmoid(scores)))


@translates("neural_network.MLPRegressor")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    prediction = _network(t, model, x)
    if model.out_activation_ == "exp":
        prediction = t.b.Exp(prediction)
    if model.n_outputs_ == 1:
        prediction = t.b.Squeeze(prediction, t.b.constant(np.array([1], np.int64)))
    return Outputs(prediction=prediction)
