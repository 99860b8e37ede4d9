"""Post transforms: what ai.onnx.ml's classifiers and regressors do with raw scores, in numpy and in primitives.

SOFTMAX_ZERO leaves zeros at zero and shares the rest out. PROBIT is the inverse of the normal distribution's
cumulative function, sqrt(2) erfinv(2 x - 1), with erfinv by S. Winitzki's formula of two logarithms ("A handy
approximation for the error function and its inverse", 2008): that is what runtimes compute for this operator, so it is
what models were made with.

Operators up to version 3 name the transforms, TreeEnsemble 5 numbers them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base.errors import ModelError

NAMES = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")

Array = np.ndarray[Any, Any]


def name_of(transform: str | int | None) -> str:
    """The transform's name from its name or TreeEnsemble 5's number.

    Raises:
        ModelError: there is no such transform.
    """
    if transform is None:
        return "NONE"
    if isinstance(transform, int):
        if 0 <= transform < len(NAMES):
            return NAMES[transform]
    elif transform in NAMES:
        return transform
    raise ModelError(f"there is no post transform {transform!r}", rule="attribute-value",
                     advice="it is one of " + ", ".join(NAMES))


def transformed(scores: Array, transform: str) -> Array:
    """Scores (..., K) with the transform along the last axis, in the scores' own type."""
    if transform == "NONE":
        return scores
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        if transform == "LOGISTIC":
            return logistic(scores)
        if transform == "PROBIT":
            return probit(scores)
        e = np.exp(scores - scores.max(-1, keepdims=True)) if scores.shape[-1] else scores
        if transform == "SOFTMAX_ZERO":
            # A score of (nearly) zero says that the class was never voted for.
            e = np.where(np.abs(scores) > 1e-7, e, 0)
        total = e.sum(-1, keepdims=True)
        return (e / np.where(total == 0, 1, total)).astype(scores.dtype)


def logistic(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow on either side."""
    e = np.exp(-np.abs(x))
    return (np.where(x >= 0, 1 / (1 + e), e / (1 + e))).astype(x.dtype)


def probit(x: Array) -> Array:
    """sqrt(2) erfinv(2 x - 1) by Winitzki's formula with a = 0.147."""
    z = 2 * x.astype(np.float64) - 1
    log = np.log((1 - z) * (1 + z))
    first = 2 / (np.pi * 0.147) + log / 2
    return (np.sqrt(2) * np.sign(z) * np.sqrt(-first + np.sqrt(first * first - log / 0.147))).astype(x.dtype)


def lower_transform(p: Any, scores: Any, transform: str) -> Any:
    """The same in primitives, along the last axis of a matrix (N,K)."""
    if transform == "NONE":
        return scores
    if transform == "LOGISTIC":
        return p.sigmoid(scores)
    if transform == "PROBIT":
        z = scores * 2.0 - 1.0
        log = p.log((z * -1.0 + 1.0) * (z + 1.0))
        first = log * 0.5 + 2 / (np.pi * 0.147)
        return p.sign(z) * p.sqrt(p.sqrt(first * first - log * (1 / 0.147)) - first) * float(np.sqrt(2))
    e = p.exp(scores - p.amax(scores, (1,), keepdims=True))
    if transform == "SOFTMAX_ZERO":
        e = p.select(p.gt(p.abs(scores), 1e-7), e, p.scalar(0, scores.dtype))
    total = p.sum(e, (1,), keepdims=True)
    return e / p.select(p.eq(total, 0.0), p.scalar(1, scores.dtype), total)
