"""Projections onto components, and discriminants, which project and classify."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base.errors import UnsupportedError
from gesher.ir import Value

from .bayes import by_likelihood
from .translation import Array, Outputs, Translation, in_double, inverts, translates


def _linear(t: Translation, x: Value, mean: Any, weights: Any) -> Outputs:
    """(x - mean) @ weights for weights (features, components)."""
    if mean is not None:
        x = t.b.Sub(x, t.constant(mean, "mean"))
    return Outputs(transformed=t.b.MatMul(x, t.constant(weights, "components")))


def _back(t: Translation, x: Value, weights: Array, mean: Any = None) -> Value:
    """x @ weights + mean for weights (components, features)."""
    width = (t.b.shape(x) or (0, None))[1]
    if width != len(weights):
        raise UnsupportedError(f"the transformed rows have {width} columns, and there are {len(weights)} components",
                               who="sklearn")
    x = t.b.MatMul(x, t.constant(weights, "components"))
    return x if mean is None else t.b.Add(x, t.constant(mean, "mean"))


@translates("decomposition.PCA", "decomposition.IncrementalPCA")
def _(t: Translation, pca: Any, x: Value) -> Outputs:
    weights = np.asarray(pca.components_, float).T
    if pca.whiten:
        scale = np.sqrt(pca.explained_variance_)
        weights = weights / np.maximum(scale, np.finfo(scale.dtype).eps)
    made = _linear(t, x, pca.mean_, weights)
    if hasattr(pca, "score_samples"):
        made.log_density, made.aside, made.in_float64 = _pca_density(t, pca, x), ("log_density",), True
        made.never["score_samples"] = "the variances that it found differ by more than float64 resolves"
    return made


def _gaussian(t: Translation, squares: Value, log_determinant: float, width: int) -> Value:
    """(rows,) the log density of a normal distribution, from the squares (rows, 1) that its precision makes of rows."""
    base = t.constant(-0.5 * (width * np.log(2 * np.pi) - log_determinant))
    return t.b.Add(t.b.Mul(t.flat(squares), t.constant(-0.5)), base)


def _pca_density(t: Translation, pca: Any, x: Value) -> Value | None:
    """The components have variances of their own, and what they leave over has the noise's; None where these differ so
    much that scikit-learn's own answer is rounding.

    Bishop, Pattern Recognition and Machine Learning, 12.2.1.
    """
    t, narrow = t.wide(), t.dtype
    c, noise = np.asarray(pca.components_, float), float(pca.noise_variance_)
    k, width = c.shape
    variance = np.asarray(pca.explained_variance_, float)
    # scikit-learn makes components of whitened ones that were not whitened.
    own = np.maximum(variance - noise, 0) * (variance if pca.whiten else 1) + noise
    if k == 0 or own.min() < 1e-10 * own.max() or (k < width and noise < 1e-10 * own.max()):
        return None
    gap = t.b.Sub(t.matrix(x), t.constant(pca.mean_))
    z = t.b.MatMul(gap, t.constant(c.T))
    squares = t.total(t.b.Mul(t.b.Mul(z, z), t.constant(1 / own)))
    if k < width:
        rest = t.b.Sub(gap, t.b.MatMul(z, t.constant(c)))
        squares = t.b.Add(squares, t.b.Div(t.total(t.b.Mul(rest, rest)), t.constant(noise)))
    log_determinant = -np.log(own).sum() - ((width - k) * np.log(noise) if k < width else 0)
    return t.b.Cast(_gaussian(t, squares, log_determinant, width), to=narrow.code)


@inverts("decomposition.PCA", "decomposition.IncrementalPCA")
def _(t: Translation, pca: Any, x: Value) -> Value:
    weights = np.asarray(pca.components_, float)
    if pca.whiten:
        weights = weights * np.sqrt(pca.explained_variance_)[:, None]
    return _back(t, x, weights, pca.mean_)


@translates("decomposition.TruncatedSVD", "random_projection.GaussianRandomProjection",
            "random_projection.SparseRandomProjection")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    weights = model.components_
    return _linear(t, x, None, (weights.toarray() if hasattr(weights, "toarray") else weights).T)


@inverts("decomposition.TruncatedSVD", "decomposition.NMF", "decomposition.MiniBatchNMF")
def _(t: Translation, model: Any, x: Value) -> Value:
    return _back(t, x, model.components_)


@inverts("random_projection.GaussianRandomProjection", "random_projection.SparseRandomProjection")
def _(t: Translation, model: Any, x: Value) -> Value:
    weights = model.inverse_components_ if model.compute_inverse_components else model._compute_inverse_components()
    return _back(t, x, np.asarray(weights).T)


@inverts("decomposition.DictionaryLearning", "decomposition.MiniBatchDictionaryLearning", "decomposition.SparseCoder")
@in_double
def _(t: Translation, model: Any, x: Value) -> Value:
    """Codes are combinations of atoms; with `split_sign` their negative parts stand behind the positive ones."""
    atoms = np.asarray(model.dictionary if hasattr(model, "dictionary") else model.components_, float)
    return _back(t, x, np.concatenate([atoms, -atoms]) if model.split_sign else atoms)


@translates("decomposition.FactorAnalysis")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    scaled = model.components_ / model.noise_variance_
    spread = np.linalg.inv(np.eye(len(scaled)) + scaled @ model.components_.T)
    made = _linear(t, x, model.mean_, scaled.T @ spread)
    # The precision by Woodbury's identity: of each feature's own noise, less what the factors explain of it.
    gap, noise = t.b.Sub(x, t.constant(model.mean_, "mean")), np.asarray(model.noise_variance_, float)
    own = t.total(t.b.Mul(t.b.Mul(gap, gap), t.constant(1 / noise)))
    seen = t.b.MatMul(gap, t.constant(scaled.T @ np.linalg.cholesky(spread)))
    squares = t.b.Sub(own, t.total(t.b.Mul(seen, seen)))
    log_determinant = np.linalg.slogdet(spread)[1] - np.log(noise).sum()
    made.log_density, made.aside = _gaussian(t, squares, log_determinant, len(noise)), ("log_density",)
    return made


@translates("decomposition.FastICA")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    return _linear(t, x, model.mean_ if model.whiten else None, model.components_.T)


@inverts("decomposition.FastICA")
@in_double
def _(t: Translation, model: Any, x: Value) -> Value:
    return _back(t, x, model.mixing_.T, model.mean_ if model.whiten else None)


@translates("decomposition.SparsePCA", "decomposition.MiniBatchSparsePCA")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    # Ridge regression of the rows on the components has a closed form.
    c = np.asarray(model.components_, float)
    inverse = np.linalg.inv(c @ c.T + model.ridge_alpha * np.eye(len(c)))
    return _linear(t, x, model.mean_, c.T @ inverse)


@inverts("decomposition.SparsePCA", "decomposition.MiniBatchSparsePCA")
def _(t: Translation, model: Any, x: Value) -> Value:
    return _back(t, x, model.components_, model.mean_)


@translates("cross_decomposition.PLSRegression", "cross_decomposition.PLSCanonical", "cross_decomposition.CCA")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    gap = t.b.Sub(x, t.constant(model._x_mean))
    y = t.affine(gap, np.asarray(model.coef_, float).T, np.asarray(model.intercept_, float), "pls")
    transformed = t.b.MatMul(t.b.Div(gap, t.constant(model._x_std)), t.constant(model.x_rotations_))
    return Outputs(prediction=t.flat(y) if model._predict_1d else y, transformed=transformed)


@inverts("cross_decomposition.PLSRegression", "cross_decomposition.PLSCanonical", "cross_decomposition.CCA")
@in_double
def _(t: Translation, model: Any, x: Value) -> Value:
    """The features; the targets' scores, which scikit-learn may be told as well, have no way back here."""
    return _back(t, x, model.x_loadings_.T * model._x_std, model._x_mean)


@translates("cross_decomposition.PLSSVD")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    return _linear(t, x, model._x_mean, model.x_weights_ / np.asarray(model._x_std)[:, None])


@translates("neural_network.BernoulliRBM")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    return Outputs(transformed=t.b.Sigmoid(t.affine(x, model.components_.T, model.intercept_hidden_, "rbm")),
                   never={"score_samples": "it flips a feature of each row at random"})


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
    # It alone takes the smallest number there is for no share at all; in float32 that shows at shares of 1e-8.
    least = t.constant(np.finfo(np.float64).smallest_normal)
    exact = t.two(t.expit(scores)) if two else shares
    logs = t.b.Log(t.b.Where(t.b.Equal(exact, t.constant(0)), least, exact))
    return Outputs(label=label, probabilities=shares, scores=scores, transformed=transformed, log_probabilities=logs,
                   in_float64=True)


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


