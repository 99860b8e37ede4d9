"""Kernel machines: the kernel between the rows and what was kept of training, then a product more."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import Value

from .coupling import coupled
from .distances import nearest
from .meta import pairs_of, vote
from .translation import Array, Outputs, Translation, in_double, inverts, refuse, translates


def kernel(t: Translation, model: Any, name: Any, x: Value, points: Array, gamma: Any, degree: Any, coef0: Any,
           params: Any = None) -> Value:
    """(rows, points) of a kernel that scikit-learn knows by name."""
    if params:
        raise refuse(model, "(kernel_params=...)")
    gamma = 1 / points.shape[1] if gamma is None else gamma
    if name == "rbf":
        return t.b.Exp(t.b.Mul(t.squared_distances(x, points), t.constant(-gamma)))
    if name == "laplacian":
        gap = t.b.Abs(t.b.Sub(t.b.Unsqueeze(x, t.axes(1)), t.constant(points)))
        return t.b.Exp(t.b.Mul(t.total(gap, 2, False), t.constant(-gamma)))
    if name == "cosine":
        size = t.b.Sqrt(t.total(t.b.Mul(x, x)))
        x = t.b.Div(x, t.b.Where(t.b.Equal(size, t.constant(0)), t.constant(1), size))
        length = np.linalg.norm(points, axis=1, keepdims=True)
        return t.b.MatMul(x, t.constant((points / np.where(length == 0, 1, length)).T))
    if name == "precomputed":
        return x
    if name in ("chi2", "additive_chi2"):
        wide, fixed = t.b.Unsqueeze(x, t.axes(1)), t.constant(points)
        gap, size = t.b.Sub(wide, fixed), t.b.Add(wide, fixed)
        none = t.b.Equal(size, t.constant(0))
        part = t.b.Div(t.b.Mul(gap, gap), t.b.Where(none, t.constant(1), size))
        whole = t.b.Neg(t.total(t.b.Where(none, t.constant(0), part), 2, False))
        return whole if name == "additive_chi2" else t.b.Exp(t.b.Mul(whole, t.constant(gamma)))
    if name not in ("linear", "poly", "polynomial", "sigmoid"):
        raise refuse(model, f"(kernel={name!r})", "linear, poly, rbf, sigmoid, cosine, laplacian, chi2, "
                     "additive_chi2 and precomputed have")
    product = t.b.MatMul(x, t.constant(points.T))
    if name == "linear":
        return product
    moved = t.b.Add(t.b.Mul(product, t.constant(gamma)), t.constant(coef0))
    if name == "sigmoid":
        return t.b.Tanh(moved)
    return t.b.Pow(moved, t.constant(degree))


def _dense(x: Any) -> Array:
    return np.asarray(x.toarray() if hasattr(x, "toarray") else x, float)


def _libsvm(t: Translation, model: Any, x: Value) -> Value:
    if model.kernel == "precomputed":
        return t.b.Gather(x, t.b.constant(np.asarray(model.support_, np.int64)), axis=1)
    if callable(model.kernel):
        raise refuse(model, f"(kernel={model.kernel!r})", "the kernels that have a name have")
    return kernel(t, model, model.kernel, x, _dense(model.support_vectors_), model._gamma, model.degree, model.coef0)


@translates("svm.SVR", "svm.NuSVR")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    return Outputs(prediction=t.flat(t.affine(_libsvm(t, model, x), _dense(model._dual_coef_).T, model._intercept_,
                                              "svm")))


@translates("svm.OneClassSVM")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    scores = t.affine(_libsvm(t, model, x), _dense(model._dual_coef_).T, model._intercept_, "svm")
    index = t.flat(t.b.Cast(t.b.Greater(scores, t.constant(0)), to=dtypes.INT64.code))
    samples = t.b.Add(scores, t.constant(model.offset_))
    return Outputs(label=t.labels(np.array([-1, 1]), index), scores=scores, log_density=t.flat(samples))


@translates("svm.SVC", "svm.NuSVC")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    classes = model.classes_
    n = len(classes)
    coefficients, start = _dense(model._dual_coef_), np.cumsum([0, *model._n_support])
    pairs = pairs_of(n)
    duels = np.zeros((coefficients.shape[1], len(pairs)))
    for k, (i, j) in enumerate(pairs):
        # A support vector keeps one coefficient for each of the other classes.
        duels[start[i]:start[i + 1], k] = coefficients[j - 1, start[i]:start[i + 1]]
        duels[start[j]:start[j + 1], k] = coefficients[i, start[j]:start[j + 1]]
    first = t.affine(_libsvm(t, model, x), duels, model._intercept_, "svm")
    shares = coupled(t, first, model._probA, model._probB, pairs, n) if len(model._probA) else None
    if n == 2:
        scores = t.b.Neg(first)
        return Outputs(label=t.sign(classes, scores), scores=scores, probabilities=shares)
    lost = t.number(t.b.Less(first, t.constant(0)))
    over = vote(t, lost, t.b.Neg(first), n)
    if getattr(model, "break_ties", False) and model.decision_function_shape == "ovr":
        return Outputs(label=t.choose(classes, over), scores=over, probabilities=shares)
    # libsvm gives a duel to its first class only where the score is above zero.
    won = t.number(t.b.Greater(first, t.constant(0)))
    gain, base = np.zeros((len(pairs), n)), np.zeros(n)
    for k, (i, j) in enumerate(pairs):
        gain[k, i], gain[k, j], base[j] = 1, -1, base[j] + 1
    label = t.choose(classes, t.affine(won, gain, base, "votes"))
    return Outputs(label=label, scores=over if model.decision_function_shape == "ovr" else first,
                   probabilities=shares)


@translates("kernel_ridge.KernelRidge")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    dual = _dense(model.dual_coef_)
    k = kernel(t, model, model.kernel, x, _dense(model.X_fit_), model.gamma, model.degree, model.coef0,
               model.kernel_params)
    prediction = t.b.MatMul(k, t.constant(dual.reshape(len(dual), -1)))
    return Outputs(prediction=t.flat(prediction) if dual.ndim == 1 else prediction)


@translates("kernel_approximation.Nystroem")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    k = kernel(t, model, model.kernel, x, _dense(model.components_), model.gamma, 3 if model.degree is None
               else model.degree, 1 if model.coef0 is None else model.coef0, model.kernel_params)
    return Outputs(transformed=t.b.MatMul(k, t.constant(model.normalization_.T)), in_float64=True)


@translates("decomposition.KernelPCA")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    k = kernel(t, model, model.kernel, x, _dense(model.X_fit_), getattr(model, "gamma_", model.gamma), model.degree,
               model.coef0, model.kernel_params)
    return Outputs(transformed=_projected(t, model, k), in_float64=True)


@inverts("decomposition.KernelPCA")
@in_double
def _(t: Translation, model: Any, x: Value) -> Value:
    """A kernel ridge regression that was fitted from the training's transformed rows to the rows themselves."""
    if not model.fit_inverse_transform:
        raise refuse(model, "(fit_inverse_transform=False).inverse_transform", "fit it with fit_inverse_transform=True")
    points, duals = _dense(model.X_transformed_fit_), np.asarray(model.dual_coef_, float)
    seen = np.abs(np.asarray(model._get_kernel(points[:500], points), float)) @ np.abs(duals)
    t.doubts.append(float(16 * np.finfo(float).eps * seen.max()))
    k = kernel(t, model, model.kernel, x, points, getattr(model, "gamma_", model.gamma),
               model.degree, model.coef0, model.kernel_params if callable(model.kernel) else None)
    return t.b.MatMul(k, t.constant(duals))


def _projected(t: Translation, model: Any, k: Value) -> Value:
    """The kernel's rows, centred, on the components of a KernelPCA."""
    k = _centred(t, model._centerer, k)
    kept = model.eigenvalues_ != 0
    alphas = np.zeros_like(model.eigenvectors_)
    alphas[:, kept] = model.eigenvectors_[:, kept] / np.sqrt(model.eigenvalues_[kept])
    return t.b.MatMul(k, t.constant(alphas))


def _centred(t: Translation, centerer: Any, k: Value) -> Value:
    mean = t.b.Div(t.total(k), t.constant(len(centerer.K_fit_rows_)))
    return t.b.Add(t.b.Sub(t.b.Sub(k, t.constant(centerer.K_fit_rows_)), mean), t.constant(centerer.K_fit_all_))


@translates("manifold.Isomap")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    if model.n_neighbors is None:
        raise refuse(model, "(radius=...)", "n_neighbors has")
    distances, index = nearest(t, model.nbrs_, x, model.nbrs_.n_neighbors)
    # The shortest way to each training point goes through one of the neighbours.
    ways = t.b.Add(t.b.Unsqueeze(distances, t.axes(2)), t.b.Gather(t.constant(model.dist_matrix_), index, axis=0))
    shortest = t.b.Neg(t.largest(t.b.Neg(ways), 1, False))
    k = t.b.Mul(t.b.Mul(shortest, shortest), t.constant(-0.5))
    return Outputs(transformed=_projected(t, model.kernel_pca_, k))


@translates("semi_supervised.LabelPropagation", "semi_supervised.LabelSpreading")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    if callable(model.kernel):
        raise refuse(model, "(kernel=a function)", "'rbf' and 'knn' have")
    if model.kernel == "knn":
        _, index = nearest(t, model.nn_fit, x, model.n_neighbors)
        shares = t.total(t.b.Gather(t.constant(model.label_distributions_), index, axis=0), 1, False)
    else:
        weights = kernel(t, model, "rbf", x, _dense(model.X_), model.gamma, 3, 1)
        shares = t.b.MatMul(weights, t.constant(model.label_distributions_))
    # A row so far from all that every weight is zero gives nan, as in scikit-learn.
    shares = t.b.Div(shares, t.total(shares))
    return Outputs(label=t.choose(model.classes_, shares), probabilities=shares, in_float64=True)


@translates("kernel_approximation.PolynomialCountSketch")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    """The convolution of several sketches: their Fourier transforms, which are linear in x, multiplied."""
    x = t.b.Mul(x, t.constant(np.sqrt(model.gamma)))
    hashes, signs, n = model.indexHash_, model.bitHash_, model.n_components
    turn = np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n)
    real: Value | None = None
    imaginary: Value | None = None
    for places, bits in zip(hashes, signs):
        waves = turn[places] * bits[:, None]
        width = model.n_features_in_
        bias = np.sqrt(model.coef0) * waves[width] if model.coef0 != 0 else np.zeros(n)
        a = t.affine(x, waves[:width].real, bias.real, "sketch")
        b = t.affine(x, waves[:width].imag, bias.imag, "sketch")
        if real is None or imaginary is None:
            real, imaginary = a, b
        else:
            real, imaginary = (t.b.Sub(t.b.Mul(real, a), t.b.Mul(imaginary, b)),
                               t.b.Add(t.b.Mul(real, b), t.b.Mul(imaginary, a)))
    back = np.conj(turn) / n
    return Outputs(transformed=t.b.Sub(t.b.MatMul(real, t.constant(back.real)),
                                       t.b.MatMul(imaginary, t.constant(back.imag))))


@translates("preprocessing.KernelCenterer")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    return Outputs(transformed=_centred(t, model, x))


@translates("kernel_approximation.RBFSampler")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    angle = t.affine(x, model.random_weights_, model.random_offset_, "sampler")
    return Outputs(transformed=t.b.Mul(_cosine(t, angle), t.constant(np.sqrt(2 / model.n_components))))


def _cosine(t: Translation, angle: Value) -> Value:
    # As a sine, which ONNX Runtime has for float64 too.
    return t.b.Sin(t.b.Add(angle, t.constant(np.pi / 2)))


@translates("kernel_approximation.SkewedChi2Sampler")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    logs = t.b.Log(t.b.Add(x, t.constant(model.skewedness)))
    angle = t.affine(logs, model.random_weights_, model.random_offset_, "sampler")
    return Outputs(transformed=t.b.Mul(_cosine(t, angle), t.constant(np.sqrt(2 / model.n_components))))


@translates("kernel_approximation.AdditiveChi2Sampler")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    step = {1: 0.8, 2: 0.5, 3: 0.4}.get(model.sample_steps) if model.sample_interval is None else model.sample_interval
    if step is None:
        raise refuse(model, "(sample_interval=None)")
    positive = t.b.Greater(x, t.constant(0))
    safe = t.b.Where(positive, x, t.constant(1))
    def shown(v: Value) -> Value:
        return t.b.Where(positive, v, t.constant(0))

    parts = [shown(t.b.Sqrt(t.b.Mul(safe, t.constant(step))))]
    logs = t.b.Mul(t.b.Log(safe), t.constant(step))
    for j in range(1, model.sample_steps):
        factor = t.b.Sqrt(t.b.Mul(safe, t.constant(2 * step / np.cosh(np.pi * j * step))))
        angle = t.b.Mul(logs, t.constant(j))
        parts += [shown(t.b.Mul(factor, _cosine(t, angle))), shown(t.b.Mul(factor, t.b.Sin(angle)))]
    return Outputs(transformed=t.join(parts))


def _from_gaps(t: Translation, x: Value, points: Array) -> Value:
    """(rows, points) squared distances from differences, where nothing cancels."""
    gap = t.b.Sub(t.b.Unsqueeze(x, t.axes(1)), t.constant(points))
    return t.total(t.b.Mul(gap, gap), 2, False)


def covariance(t: Translation, k: Any, x: Value, points: Array, model: Any) -> Value:
    """(rows, points) of a Gaussian process' kernel, which may be a sum and product of others."""
    kind = type(k).__name__
    if kind in ("Sum", "Product"):
        one, two = covariance(t, k.k1, x, points, model), covariance(t, k.k2, x, points, model)
        return t.b.Add(one, two) if kind == "Sum" else t.b.Mul(one, two)
    if kind == "Exponentiation":
        return t.b.Pow(covariance(t, k.kernel, x, points, model), t.constant(k.exponent))
    if kind == "ConstantKernel":
        return t.constant(np.full((1, len(points)), k.constant_value))
    if kind == "WhiteKernel":
        # Noise of the training's rows alone.
        return t.constant(np.zeros((1, len(points))))
    if kind == "DotProduct":
        return t.b.Add(t.b.MatMul(x, t.constant(points.T)), t.constant(k.sigma_0**2))
    if kind == "PairwiseKernel":
        return kernel(t, model, k.metric, x, points, k.gamma, 3, 1, k.pairwise_kernels_kwargs)
    scale = np.asarray(getattr(k, "length_scale", 1.0), float)
    if kind not in ("RBF", "Matern", "RationalQuadratic", "ExpSineSquared"):
        raise refuse(model, f"(kernel={kind})", "RBF, Matern, RationalQuadratic, ExpSineSquared, PairwiseKernel, "
                                                "DotProduct, ConstantKernel, WhiteKernel, and their sums and products "
                                                "have")
    if kind == "ExpSineSquared":
        waves = t.b.Sin(t.b.Mul(t.b.Sqrt(_from_gaps(t, x, points)), t.constant(np.pi / k.periodicity)))
        return t.b.Exp(t.b.Mul(t.b.Mul(waves, waves), t.constant(-2 / scale**2)))
    near, far = t.b.Div(x, t.constant(scale)), points / scale
    spread = float(((far - far.mean(0))**2).sum(1).max(initial=0))
    # What products cancel shows where points lie many lengths apart, and where large weights cancel after it.
    weight = max(1.0, float(np.abs(getattr(model, "alpha_", 0)).sum()))
    squared = _from_gaps(t, near, far) if np.finfo(float).eps * spread * weight > 1e-10 else \
        t.squared_distances(near, far)
    if kind == "RationalQuadratic":
        return t.b.Pow(t.b.Add(t.b.Div(squared, t.constant(2 * k.alpha)), t.constant(1)), t.constant(-k.alpha))
    if kind == "RBF" or k.nu == np.inf:
        return t.b.Exp(t.b.Mul(squared, t.constant(-0.5)))
    if k.nu not in (0.5, 1.5, 2.5):
        raise refuse(model, f"(kernel=Matern(nu={k.nu}))", "nu of 0.5, 1.5, 2.5 and infinity have")
    # Near points are told apart by their differences, not by their products, since the root shows what cancels.
    gap = t.b.Mul(t.b.Sqrt(_from_gaps(t, near, far)), t.constant(np.sqrt(2 * k.nu)))
    decay = t.b.Exp(t.b.Neg(gap))
    if k.nu == 0.5:
        return decay
    rise = t.b.Add(gap, t.constant(1))
    if k.nu == 2.5:
        rise = t.b.Add(rise, t.b.Div(t.b.Mul(gap, gap), t.constant(3)))
    return t.b.Mul(rise, decay)


@translates("gaussian_process.GaussianProcessRegressor")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    if not hasattr(model, "X_train_"):
        raise refuse(model, " that is not fitted")
    alpha = np.asarray(model.alpha_, float)
    wide = alpha.reshape(len(alpha), -1)
    k = covariance(t, model.kernel_, x, _dense(model.X_train_), model)
    y = t.b.MatMul(k, t.constant(wide))
    y = t.b.Add(t.b.Mul(y, t.constant(np.asarray(model._y_train_std).reshape(-1))),
                t.constant(np.asarray(model._y_train_mean).reshape(-1)))
    # A kernel without x gives one row for all.
    y = t.b.Add(y, t.b.Mul(t.b.Slice(x, t.axes(0), t.axes(1), t.axes(1)), t.constant(0)))
    # Where points lie beside each other, alphas are large and cancel: scikit-learn's own answer has that rounding.
    most = float(np.max(model.kernel_.diag(model.X_train_)))
    rounding = 64 * np.finfo(float).eps * most * float((np.abs(wide).sum(0) * np.abs(model._y_train_std)).max())
    return Outputs(prediction=t.flat(y) if wide.shape[1] == 1 and np.ndim(model.y_train_) == 1 else y,
                   slack=rounding if rounding > 1e-9 else 0.0, slack_of=("prediction",))
