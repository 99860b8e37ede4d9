"""Numbers drawn anew at every run: uniform, normal, whole, yes or no; and dropout in training.

What is exported draws from the same distribution, not the same numbers: two runs of PyTorch itself do not agree either.
Where a distribution is made of uniform numbers it is by the inverse of its distribution function.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.ir import DimLike, Tensor, Value

from .translation import Translation, aten

# ONNX Runtime draws no float16.
_DRAWN = (dtypes.FLOAT, dtypes.DOUBLE)


def _like(t: Translation, shape: Sequence[DimLike], dtype: DType) -> Value:
    """Zeros of a shape that may be known only when running: the operators that draw take the shape of a tensor."""
    return t.b.ConstantOfShape(t.sizes.vector(shape), value=Tensor.of(np.zeros(1, dtype.numpy)))


def uniform(t: Translation, shape: Sequence[DimLike], low: float = 0.0, high: float = 1.0, dtype: DType = dtypes.FLOAT
            ) -> Value:
    drawn = dtype if dtype in _DRAWN else dtypes.FLOAT
    if all(isinstance(s, int) for s in shape):
        made = t.b.RandomUniform(low=float(low), high=float(high), shape=list(shape), dtype=drawn.code)
    else:
        made = t.b.RandomUniformLike(_like(t, shape, drawn), low=float(low), high=float(high), dtype=drawn.code)
    return t.cast(made, dtype)


def normal(t: Translation, shape: Sequence[DimLike], mean: float = 0.0, std: float = 1.0, dtype: DType = dtypes.FLOAT
           ) -> Value:
    drawn = dtype if dtype in _DRAWN else dtypes.FLOAT
    if all(isinstance(s, int) for s in shape):
        made = t.b.RandomNormal(mean=float(mean), scale=float(std), shape=list(shape), dtype=drawn.code)
    else:
        made = t.b.RandomNormalLike(_like(t, shape, drawn), mean=float(mean), scale=float(std), dtype=drawn.code)
    return t.cast(made, dtype)


@aten("rand", "rand.generator", "rand_like", "rand_like.generator")
def _(t: Translation, *_: Any, **_kw: Any) -> Value:
    return uniform(t, t.out_shape, dtype=t.out_dtype)


@aten("randn", "randn.generator", "randn_like", "randn_like.generator")
def _(t: Translation, *_: Any, **_kw: Any) -> Value:
    return normal(t, t.out_shape, dtype=t.out_dtype)


@aten("uniform", "uniform_functional")
def _(t: Translation, x: Value, low: float = 0.0, high: float = 1.0, **_kw: Any) -> Value:
    return uniform(t, t.out_shape, low, high, t.out_dtype)


@aten("prims::_uniform_helper", "prims::uniform")
def _(t: Translation, shape: Any, *, low: float = 0.0, high: float = 1.0, **_kw: Any) -> Value:
    return uniform(t, t.out_shape, low, high, t.out_dtype)


@aten("normal_functional", "normal")
def _(t: Translation, x: Value, mean: float = 0.0, std: float = 1.0, **_kw: Any) -> Value:
    return normal(t, t.out_shape, mean, std, t.out_dtype)


@aten("normal.float_float")
def _(t: Translation, mean: float, std: float, size: Any, **_kw: Any) -> Value:
    return normal(t, t.out_shape, mean, std, t.out_dtype)


@aten("normal.Tensor_float", "normal.float_Tensor", "normal.Tensor_Tensor")
def _(t: Translation, mean: Any, std: Any = 1.0, **_kw: Any) -> Value:
    z = normal(t, t.out_shape, dtype=t.out_dtype)
    return t.b.Add(t.b.Mul(z, t.value(std, t.out_dtype)), t.value(mean, t.out_dtype))


@aten("prims::normal")
def _(t: Translation, shape: Any, *, mean: Any, std: Any, **_kw: Any) -> Value:
    z = normal(t, t.out_shape, dtype=t.out_dtype)
    return t.b.Add(t.b.Mul(z, t.value(std, t.out_dtype)), t.value(mean, t.out_dtype))


def _whole(t: Translation, low: Any, high: Any) -> Value:
    """Whole numbers from `low` to `high` - 1, each as likely."""
    low, high = (t.cast(t.value(v), dtypes.DOUBLE) for v in (low, high))
    share = uniform(t, t.out_shape, dtype=dtypes.DOUBLE)
    made = t.b.Add(t.b.Floor(t.b.Mul(share, t.b.Sub(high, low))), low)
    # A share that rounds to 1 would be one too many.
    return t.cast(t.b.Min(made, t.b.Sub(high, t.constant(1, dtypes.DOUBLE))), t.out_dtype)


@aten("randint", "randint.generator")
def _(t: Translation, high: Any, size: Any, **_kw: Any) -> Value:
    return _whole(t, 0, high)


@aten("randint.low", "randint.low_generator")
def _(t: Translation, low: Any, high: Any, size: Any, **_kw: Any) -> Value:
    return _whole(t, low, high)


@aten("randint_like", "randint_like.Tensor", "randint_like.generator")
def _(t: Translation, x: Value, high: Any, **_kw: Any) -> Value:
    return _whole(t, 0, high)


@aten("randint_like.low_dtype", "randint_like.low_generator_dtype")
def _(t: Translation, x: Value, low: Any, high: Any, **_kw: Any) -> Value:
    return _whole(t, low, high)


@aten("randperm", "randperm.generator")
def _(t: Translation, n: Any, **_kw: Any) -> Value:
    keys = uniform(t, t.out_shape, dtype=dtypes.DOUBLE)
    places = t.b.TopK(keys, t.sizes.vector(t.out_shape), axis=0, largest=0, sorted=1, outputs=2)[1]
    return t.cast(places, t.out_dtype)


def _chance(t: Translation, p: Any) -> Value:
    """True with the probability p, for each element of the result."""
    drawn = uniform(t, t.out_shape, dtype=dtypes.DOUBLE)
    return t.b.Less(drawn, t.value(p, dtypes.DOUBLE))


@aten("bernoulli", "bernoulli.p", "bernoulli.Tensor")
def _(t: Translation, x: Value, p: Any = None, **_kw: Any) -> Value:
    return t.cast(_chance(t, x if p is None else p), t.out_dtype)


@aten("multinomial")
def _(t: Translation, x: Value, count: Any, replacement: bool = False, **_kw: Any) -> Value:
    """With replacement by places among running sums; without, the largest of log p + Gumbel noise, which are what
    drawing one after another would give."""
    axis = t.rank(x) - 1
    p = t.cast(x, dtypes.DOUBLE)
    tiny = t.constant(np.finfo(np.float64).tiny, dtypes.DOUBLE)
    if replacement:
        sums = t.b.CumSum(p, t.constant(axis, dtypes.INT64))
        total = t.reduce("ReduceSum", p, [axis], True)
        drawn = t.b.Mul(uniform(t, t.out_shape, dtype=dtypes.DOUBLE), total)
        past = t.b.GreaterOrEqual(t.unsqueeze(drawn, [axis + 1]), t.unsqueeze(sums, [axis]))
        return t.reduce("ReduceSum", t.cast(past, dtypes.INT64), [axis + 1], False)
    drawn = t.b.Max(uniform(t, t.shape(x), dtype=dtypes.DOUBLE), tiny)
    noise = t.b.Neg(t.b.Log(t.b.Neg(t.b.Log(drawn))))
    keys = t.b.Add(t.b.Log(p), noise)
    return t.b.TopK(keys, t.sizes.vector([count]), axis=axis, largest=1, sorted=1, outputs=2)[1]


# Distributions by the inverse of their distribution function, in the way of the in-place methods that draw

def _inner(t: Translation) -> Value:
    """Uniform on the open interval (0, 1)."""
    tiny, most = np.finfo(np.float64).tiny, 1 - 2.0 ** -53
    return t.b.Clip(uniform(t, t.out_shape, dtype=dtypes.DOUBLE), t.constant(tiny, dtypes.DOUBLE),
                    t.constant(most, dtypes.DOUBLE))


@aten("exponential")
def _(t: Translation, x: Value, rate: float = 1.0, **_kw: Any) -> Value:
    return t.cast(t.b.Div(t.b.Neg(t.b.Log(_inner(t))), t.constant(rate, dtypes.DOUBLE)), t.out_dtype)


@aten("cauchy")
def _(t: Translation, x: Value, median: float = 0.0, sigma: float = 1.0, **_kw: Any) -> Value:
    angle = t.b.Mul(t.b.Sub(_inner(t), t.constant(0.5, dtypes.DOUBLE)), t.constant(math.pi, dtypes.DOUBLE))
    slope = t.b.Div(t.b.Sin(angle), t.b.Cos(angle))
    return t.cast(t.b.Add(t.b.Mul(slope, t.constant(sigma, dtypes.DOUBLE)), t.constant(median, dtypes.DOUBLE)),
                  t.out_dtype)


@aten("log_normal")
def _(t: Translation, x: Value, mean: float = 1.0, std: float = 2.0, **_kw: Any) -> Value:
    return t.cast(t.b.Exp(normal(t, t.out_shape, mean, std)), t.out_dtype)


@aten("geometric")
def _(t: Translation, x: Value, p: float, **_kw: Any) -> Value:
    tries = t.b.Ceil(t.b.Div(t.b.Log(_inner(t)), t.constant(math.log1p(-p) if p < 1 else -math.inf, dtypes.DOUBLE)))
    return t.cast(t.b.Max(tries, t.constant(1, dtypes.DOUBLE)), t.out_dtype)


# In training

def _dropped(t: Translation, x: Value, p: float, shape: Sequence[DimLike] | None = None) -> tuple[Value, Value]:
    """`x` with elements left out and the others scaled up, and which were kept. `shape`: of what stays together."""
    if p >= 1:
        kept = t.expand(t.constant(False, dtypes.BOOL), t.shape(x))
        return t.b.Mul(x, t.scalar(0, x)), kept
    if shape is None:
        y, kept = t.b.Dropout(x, t.constant(p, dtypes.FLOAT), t.constant(True, dtypes.BOOL), outputs=2)
        return y, kept
    kept = t.b.Less(uniform(t, shape, dtype=dtypes.DOUBLE), t.constant(1 - p, dtypes.DOUBLE))
    return t.b.Mul(x, t.b.Mul(t.cast(kept, t.dtype(x)), t.scalar(1 / (1 - p), x))), kept


@aten("dropout")
def _(t: Translation, x: Value, p: float, train: bool) -> Value:
    return _dropped(t, x, p)[0] if train and p > 0 else x


@aten("native_dropout")
def _(t: Translation, x: Value, p: float, train: bool | None = None) -> tuple[Value, Value]:
    if train is not False and p > 0:
        return _dropped(t, x, p)
    return x, t.expand(t.constant(True, dtypes.BOOL), t.shape(x))


@aten("feature_dropout")
def _(t: Translation, x: Value, p: float, train: bool) -> Value:
    shape = (*t.shape(x)[:2], *[1] * (t.rank(x) - 2))
    return _dropped(t, x, p, shape)[0] if train and p > 0 else x


@aten("alpha_dropout", "feature_alpha_dropout")
def _(t: Translation, x: Value, p: float, train: bool) -> Value:
    """What is left out becomes the value that keeps selu's mean and variance: Klambauer et al. 2017, section 3."""
    if not train or p == 0:
        return x
    if p >= 1:
        return t.b.Mul(x, t.scalar(0, x))
    shape = t.shape(x) if "feature" not in t.target else (*t.shape(x)[:2], *[1] * (t.rank(x) - 2))
    alpha = 1.7580993408473766
    a = 1 / math.sqrt((alpha * alpha * p + 1) * (1 - p))
    kept = t.cast(t.b.Less(uniform(t, shape, dtype=dtypes.DOUBLE), t.constant(1 - p, dtypes.DOUBLE)), t.dtype(x))
    shift = t.b.Mul(t.b.Sub(kept, t.scalar(1, x)), t.scalar(alpha * a, x))
    return t.b.Add(t.b.Mul(x, t.b.Mul(kept, t.scalar(a, x))), t.b.Add(shift, t.scalar(alpha * a * p, x)))


@aten("rrelu_with_noise_functional", "rrelu_with_noise")
def _(t: Translation, x: Value, noise: Value, lower: Any = 0.125, upper: Any = 1 / 3, training: bool = False,
      *_: Any, **_kw: Any) -> Any:
    several = isinstance(t.out, (tuple, list))
    if training:
        slopes = uniform(t, t.shape(x), float(lower), float(upper), t.dtype(x))
        slopes = t.b.Where(t.b.Greater(x, t.scalar(0, x)), t.scalar(1, x), slopes)
        y = t.b.Mul(x, slopes)
        return (y, slopes) if several else y
    y = t.b.LeakyRelu(x, alpha=(float(lower) + float(upper)) / 2)
    return (y, noise) if several else y
