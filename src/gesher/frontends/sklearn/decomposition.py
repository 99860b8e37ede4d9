"""Projections onto components, and discriminants, which project and classify."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.ir import Value

from .bayes import by_likelihood
from .translation import Outputs, Translation, in_double, translates


def _linear(t: Translation, x: Value, mean: Any, weights: Any) -> Outputs:
    """(x - mean) @ weights for weights (features, components)."""
    if mean is not None:
        x = t.b.Sub(x, t.constant(mean, "mean"))
    return Outputs(transformed=t.b.MatMul(x, t.constant(weights, "components")))


@translates("decomposition.PCA", "decomposition.IncrementalPCA")
def _(t: Translation, pca: Any, x: Value) -> Outputs:
    weights = np.asarray(pca.components_, float).T
    if pca.whiten:
        scale = np.sqrt(pca.explained_variance_)
        weights = weights / np.maximum(scale, np.finfo(scale.dtype).eps)
    return _linear(t, x, pca.mean_, weights)


@translates("decomposition.TruncatedSVD", "random_projection.GaussianRandomProjection",
            "random_projection.SparseRandomProjection")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    weights = model.components_
    return _linear(t, x, None, (weights.toarray() if hasattr(weights, "toarray") else weights).T)


@translates("decomposition.FactorAnalysis")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    scaled = model.components_ / model.noise_variance_
    spread = np.linalg.inv(np.eye(len(scaled)) + scaled @ model.components_.T)
    return _linear(t, x, model.mean_, scaled.T @ spread)


@translates("decomposition.FastICA")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    return _linear(t, x, model.mean_ if model.whiten else None, model.components_.T)


@translates("decomposition.SparsePCA", "decomposition.MiniBatchSparsePCA")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    # Ridge regression of the rows on the components has a closed form.
    c = np.asarray(model.components_, float)
    inverse = np.linalg.inv(c @ c.T + model.ridge_alpha * np.eye(len(c)))
    return _linear(t, x, model.mean_, c.T @ inverse)


@translates("cross_decomposition.PLSRegression", "cross_decomposition.PLSCanonical", "cross_decomposition.CCA")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    gap = t.b.Sub(x, t.constant(model._x_mean))
    y = t.affine(gap, np.asarray(model.coef_, float).T, np.asarray(model.intercept_, float), "pls")
    transformed = t.b.MatMul(t.b.Div(gap, t.constant(model._x_std)), t.constant(model.x_rotations_))
    return Outputs(prediction=t.flat(y) if model._predict_1d else y, transformed=transformed)


@translates("cross_decomposition.PLSSVD")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    return _linear(t, x, model._x_mean, model.x_weights_ / np.asarray(model._x_std)[:, None])


@translates("neural_network.BernoulliRBM")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    return Outputs(transformed=t.b.Sigmoid(t.affine(x, model.components_.T, model.intercept_hidden_, "rbm")))


@translates("discriminant_analysis.LinearDiscriminantAnalysis")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    scores = t.affine(x, np.atleast_2d(model.coef_).T, np.asarray(model.intercept_, float).reshape(-1), "lda")
    transformed = None
    if model.solver != "lsqr":
        mean = model.xbar_ if model.solver == "svd" else None
        transformed = _linear(t, x, mean, model.scalings_[:, :model._max_components]).transformed
    two = len(model.classes_) == 2
    shares = t.two(t.b.Sigmoid(scores)) if two else t.b.Softmax(scores, axis=1)
    label = t.sign(model.classes_, scores) if two else t.choose(model.classes_, scores)
    return Outputs(label=label, probabilities=shares, scores=scores, transformed=transformed)


@translates("discriminant_analysis.QuadraticDiscriminantAnalysis")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    columns = []
    for mean, turn, scale, prior in zip(model.means_, model.rotations_, model.scalings_, model.priors_):
        y = t.b.MatMul(t.b.Sub(x, t.constant(mean)), t.constant(turn * scale**-0.5))
        half = t.b.Mul(t.total(t.b.Mul(y, y)), t.constant(-0.5))
        columns.append(t.b.Add(half, t.constant(np.log(prior) - 0.5 * np.log(scale).sum())))
    joint = t.join(columns)
    made = by_likelihood(t, model.classes_, joint)
    made.scores = joint if len(model.classes_) > 2 else t.b.Sub(columns[1], columns[0])
    if len(model.classes_) == 2:
        made.label = t.sign(model.classes_, made.scores)
    return made


