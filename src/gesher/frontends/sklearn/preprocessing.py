"""What stands in front of a predictor: scaling."""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.ir import Value

from .translation import Outputs, Translation, inverts, translates


def _scaled(t: Translation, x: Value, center: Any, scale: Any) -> Outputs:
    """(x - center) / scale; None for what is left out."""
    if center is not None:
        x = t.b.Sub(x, t.constant(center, "scaler.center"))
    if scale is not None:
        x = t.b.Div(x, t.constant(scale, "scaler.scale"))
    return Outputs(transformed=x)


def _scaled_back(t: Translation, x: Value, center: Any, scale: Any) -> Value:
    """x * scale + center."""
    if scale is not None:
        x = t.b.Mul(x, t.constant(scale, "scaler.scale"))
    return x if center is None else t.b.Add(x, t.constant(center, "scaler.center"))


def _standard(scaler: Any) -> tuple[Any, Any]:
    return scaler.mean_ if scaler.with_mean else None, scaler.scale_ if scaler.with_std else None


def _robust(scaler: Any) -> tuple[Any, Any]:
    return scaler.center_ if scaler.with_centering else None, scaler.scale_ if scaler.with_scaling else None


@translates("preprocessing.StandardScaler")
def _(t: Translation, scaler: Any, x: Value) -> Outputs:
    return _scaled(t, x, *_standard(scaler))


@inverts("preprocessing.StandardScaler")
def _(t: Translation, scaler: Any, x: Value) -> Value:
    return _scaled_back(t, x, *_standard(scaler))


@translates("preprocessing.RobustScaler")
def _(t: Translation, scaler: Any, x: Value) -> Outputs:
    return _scaled(t, x, *_robust(scaler))


@inverts("preprocessing.RobustScaler")
def _(t: Translation, scaler: Any, x: Value) -> Value:
    return _scaled_back(t, x, *_robust(scaler))


@translates("preprocessing.MinMaxScaler")
def _(t: Translation, scaler: Any, x: Value) -> Outputs:
    x = t.b.Add(t.b.Mul(x, t.constant(scaler.scale_, "scaler.scale")), t.constant(scaler.min_, "scaler.min"))
    if scaler.clip:
        low, high = scaler.feature_range
        x = t.b.Clip(x, t.constant(low), t.constant(high))
    return Outputs(transformed=x)


@inverts("preprocessing.MinMaxScaler")
def _(t: Translation, scaler: Any, x: Value) -> Value:
    return t.b.Div(t.b.Sub(x, t.constant(scaler.min_, "scaler.min")), t.constant(scaler.scale_, "scaler.scale"))


@translates("preprocessing.MaxAbsScaler")
def _(t: Translation, scaler: Any, x: Value) -> Outputs:
    x = t.b.Div(x, t.constant(scaler.scale_, "scaler.scale"))
    if getattr(scaler, "clip", False):
        x = t.b.Clip(x, t.constant(-1), t.constant(1))
    return Outputs(transformed=x)


@inverts("preprocessing.MaxAbsScaler")
def _(t: Translation, scaler: Any, x: Value) -> Value:
    return _scaled_back(t, x, None, scaler.scale_)


def normalized(t: Translation, x: Value, norm: str) -> Value:
    """Each row divided by its norm; a row of zeros stays."""
    axes = t.b.constant(np.array([1], np.int64))
    if norm == "l2":
        size = t.b.Sqrt(t.b.ReduceSum(t.b.Mul(x, x), axes))
    elif norm == "l1":
        size = t.b.ReduceSum(t.b.Abs(x), axes)
    else:
        # -max(-|x|) in place of a maximum over the axes input, which ReduceMax has from opset 18 on only.
        size = t.b.ReduceMax(t.b.Abs(x), axes) if t.b.opsets[""] >= 18 else t.b.ReduceMax(t.b.Abs(x), axes=[1])
    one = t.constant(1)
    return t.b.Div(x, t.b.Where(t.b.Equal(size, t.constant(0)), one, size))


@translates("preprocessing.Normalizer")
def _(t: Translation, normalizer: Any, x: Value) -> Outputs:
    return Outputs(transformed=normalized(t, x, normalizer.norm))


@translates("feature_extraction.TfidfTransformer")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    if model.sublinear_tf:
        present = t.b.Not(t.b.Equal(x, t.constant(0)))
        x = t.b.Where(present, t.b.Add(t.b.Log(t.b.Where(present, x, t.constant(1))), t.constant(1)), x)
    if model.use_idf:
        x = t.b.Mul(x, t.constant(model.idf_))
    return Outputs(transformed=x if model.norm is None else normalized(t, x, model.norm))


@translates("preprocessing.Binarizer")
def _(t: Translation, binarizer: Any, x: Value) -> Outputs:
    above = t.b.Greater(x, t.constant(binarizer.threshold))
    return Outputs(transformed=t.b.Cast(above, to=t.dtype.code))
