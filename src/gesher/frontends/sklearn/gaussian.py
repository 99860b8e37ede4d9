"""Gaussian processes that classify: a latent value, and its share under a logistic curve that normal ones make up."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import Value

from .kernels import covariance
from .translation import Outputs, Translation, composes, in_double, refuse, translates

_BINARY = "gaussian_process._BinaryGaussianProcessClassifierLaplace"

composes(lambda e: [e.base_estimator_], "gaussian_process.GaussianProcessClassifier")


def variance(t: Translation, k: Any, x: Value, model: Any) -> Value:
    """(rows, 1), or (1, 1) where it is the same for all: the kernel of each row with itself."""
    kind = type(k).__name__
    if kind in ("Sum", "Product"):
        one, two = variance(t, k.k1, x, model), variance(t, k.k2, x, model)
        return t.b.Add(one, two) if kind == "Sum" else t.b.Mul(one, two)
    if kind == "Exponentiation":
        return t.b.Pow(variance(t, k.kernel, x, model), t.constant(k.exponent))
    if kind == "DotProduct":
        return t.b.Add(t.total(t.b.Mul(x, x)), t.constant(k.sigma_0**2))
    same = {"ConstantKernel": "constant_value", "WhiteKernel": "noise_level"}
    if kind in same:
        return t.constant(np.full((1, 1), getattr(k, same[kind])))
    if kind not in ("RBF", "Matern", "RationalQuadratic", "ExpSineSquared") and \
            getattr(k, "metric", None) not in ("rbf", "laplacian"):
        raise refuse(model, f"(kernel={kind})")
    return t.constant(np.ones((1, 1)))


def erf(t: Translation, x: Value) -> Value:
    """The error function of (rows, n) to the last digits of float64, for which ONNX Runtime has no Erf.

    A square wave of half period 13 that a normal curve smooths is the error function between -6 and 6, where the next
    edge is too far to matter, and its Fourier series ends where float64 does: sin(w x) exp(-w**2 / 4) / n for odd n.
    """
    n = np.arange(1, 53, 2)
    w = n * np.pi / 13
    near = t.b.Unsqueeze(t.b.Clip(x, t.constant(-6), t.constant(6)), t.axes(2))
    waves = t.b.Sin(t.b.Mul(near, t.constant(w)))
    sums = t.b.MatMul(waves, t.constant((4 / np.pi / n * np.exp(-w**2 / 4))[:, None]))
    return t.b.Squeeze(sums, t.axes(2))


# Wichura's rational functions (Applied Statistics 37, 1988, algorithm AS 241, PPND16), the highest power first.
_MIDDLE = ((2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
            1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080),
           (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
            5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0))
_TAIL = ((7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258,
          3.64784832476320460504, 5.76949722146069140550, 4.63033784615654529590, 1.42343711074968357734),
         (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
          6.89767334985100004550e-1, 1.67638483018380384940, 2.05319162663775882187, 1.0))


def normal_quantile(t: Translation, p: Value) -> Value:
    """The number below which the standard normal distribution has a share `p`, for shares from 1e-10 to 1 - 1e-10."""
    def ratio(x: Value, over: tuple[float, ...], under: tuple[float, ...]) -> Value:
        def horner(powers: tuple[float, ...]) -> Value:
            whole = t.constant(powers[0])
            for c in powers[1:]:
                whole = t.b.Add(t.b.Mul(whole, x), t.constant(c))
            return whole

        return t.b.Div(horner(over), horner(under))

    q = t.b.Sub(p, t.constant(0.5))
    near = t.b.LessOrEqual(t.b.Abs(q), t.constant(0.425))
    inside = t.b.Where(near, q, t.constant(0))
    middle = t.b.Mul(inside, ratio(t.b.Sub(t.constant(0.425**2), t.b.Mul(inside, inside)), *_MIDDLE))
    less = t.b.Where(near, t.constant(0.05), t.b.Where(t.b.Less(q, t.constant(0)), p, t.b.Sub(t.constant(1), p)))
    far = ratio(t.b.Sub(t.b.Sqrt(t.b.Neg(t.b.Log(less))), t.constant(1.6)), *_TAIL)
    return t.b.Where(near, middle, t.b.Mul(t.b.Sign(q), far))


@translates(_BINARY)
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    from sklearn.gaussian_process._gpc import COEFS, LAMBDAS

    points = np.asarray(model.X_train_, float)
    # A kernel without x gives one row for all.
    none = t.b.Mul(t.b.Slice(x, t.axes(0), t.axes(1), t.axes(1)), t.constant(0))
    k = t.b.Add(covariance(t, model.kernel_, x, points, model), none)
    mean = t.b.MatMul(k, t.constant(np.asarray(model.y_train_ - model.pi_, float)[:, None]))
    half = np.linalg.solve(model.L_, np.diag(model.W_sr_))
    seen = t.b.MatMul(k, t.constant(half.T))
    spread = t.b.Sub(variance(t, model.kernel_, x, model), t.total(t.b.Mul(seen, seen)))
    # With a = 1 / (2 v), the factor before each error function is 1/2, and l sqrt(a / (a + l^2)) is
    # l / sqrt(1 + 2 v l^2).
    steep = np.asarray(LAMBDAS, float).reshape(1, -1)
    under = t.b.Add(t.b.Mul(spread, t.constant(2 * steep**2)), t.constant(1))
    curves = erf(t, t.b.Div(t.b.Mul(mean, t.constant(steep)), t.b.Sqrt(under)))
    coefficients = np.asarray(COEFS, float)
    share = t.b.Add(t.b.MatMul(curves, t.constant(coefficients / 2)), t.constant(coefficients.sum() / 2))
    index = t.flat(t.b.Cast(t.b.Greater(mean, t.constant(0)), to=dtypes.INT64.code))
    return Outputs(label=t.labels(model.classes_, index), probabilities=t.two(share))


@translates("gaussian_process.GaussianProcessClassifier")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    made = t.apply(model.base_estimator_, x)
    if model.n_classes_ > 2 and model.multi_class == "one_vs_one":
        return Outputs(label=made.label)
    return Outputs(label=made.label, probabilities=made.probabilities)
