"""The activations that gates of recurrent operators choose by name, and how nodes write them.

Names are compared without case. Of `activation_alpha` and `activation_beta`, only activations that have such a
parameter take one, in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gesher.base.errors import ModelError
from gesher.primitives import Builder, Expr


@dataclass(frozen=True, slots=True)
class Activation:
    """An activation function: defaults of its parameters (None: it has none), in numpy, and in primitives."""

    alpha: float | None
    beta: float | None
    compute: Callable[[Any, float, float], Any]
    lower: Callable[[Builder, Expr, float, float], Expr]


def _sigmoid(x: Any) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def _expm1(x: Any) -> Any:
    return np.expm1(np.minimum(x, 0))


def _leaky_relu(p: Builder, x: Expr, a: float, b: float) -> Expr:
    return p.select(x >= 0.0, x, x * a)


def _thresholded_relu(p: Builder, x: Expr, a: float, b: float) -> Expr:
    return p.select(x >= a, x, 0.0)


def _scaled_tanh(p: Builder, x: Expr, a: float, b: float) -> Expr:
    return p.tanh(x * b) * a


def _hard_sigmoid(p: Builder, x: Expr, a: float, b: float) -> Expr:
    return p.min(p.max(x * a + b, 0.0), 1.0)


def _elu(p: Builder, x: Expr, a: float, b: float) -> Expr:
    return p.select(x >= 0.0, x, p.expm1(p.min(x, 0.0)) * a)


def _softsign(p: Builder, x: Expr, a: float, b: float) -> Expr:
    return x / (p.abs(x) + 1.0)


def _softplus(p: Builder, x: Expr, a: float, b: float) -> Expr:
    return p.max(x, 0.0) + p.log1p(p.exp(-p.abs(x)))


_ROWS: tuple[tuple[Any, ...], ...] = (
    # name              alpha beta  in numpy                                          in primitives
    ("relu",            None, None, lambda x, a, b: np.maximum(x, 0),                 lambda p, x, a, b: p.max(x, 0.0)),
    ("tanh",            None, None, lambda x, a, b: np.tanh(x),                       lambda p, x, a, b: p.tanh(x)),
    ("sigmoid",         None, None, lambda x, a, b: _sigmoid(x),                      lambda p, x, a, b: p.sigmoid(x)),
    ("affine",          1.0,  0.0,  lambda x, a, b: a * x + b,                        lambda p, x, a, b: x * a + b),
    ("leakyrelu",       0.01, None, lambda x, a, b: np.where(x >= 0, x, a * x),       _leaky_relu),
    ("thresholdedrelu", 1.0,  None, lambda x, a, b: np.where(x >= a, x, 0),           _thresholded_relu),
    ("scaledtanh",      1.0,  1.0,  lambda x, a, b: a * np.tanh(b * x),               _scaled_tanh),
    ("hardsigmoid",     0.2,  0.5,  lambda x, a, b: np.clip(a * x + b, 0, 1),         _hard_sigmoid),
    ("elu",             1.0,  None, lambda x, a, b: np.where(x >= 0, x, a * _expm1(x)), _elu),
    ("softsign",        None, None, lambda x, a, b: x / (1 + np.abs(x)),              _softsign),
    ("softplus",        None, None, lambda x, a, b: np.logaddexp(x, 0),               _softplus),
)

ACTIVATIONS: dict[str, Activation] = {name: Activation(*row) for name, *row in _ROWS}


Chosen = tuple[str, float, float]
"""An activation with its parameters: a name of `ACTIVATIONS`, alpha, beta."""


def chosen(names: Sequence[str] | None, alphas: Sequence[float] | None, betas: Sequence[float] | None,
           defaults: Sequence[str], directions: int) -> list[list[Chosen]]:
    """The activations of each direction: those written, else the `defaults` of one direction for each.

    >>> chosen(["LeakyRelu", "Elu"], [0.5], None, ["sigmoid", "tanh"], 1)
    [[('leakyrelu', 0.5, 0.0), ('elu', 1.0, 0.0)]]

    Raises:
        ModelError: one is unknown, or there are too few.
    """
    names = list(names) if names else list(defaults) * directions
    if len(names) < len(defaults) * directions:
        raise ModelError(f"{len(defaults) * directions} activations are needed, {len(names)} are written",
                         rule="recurrent")
    alphas, betas = list(alphas or ()), list(betas or ())
    found: list[Chosen] = []
    for name in names:
        row = ACTIVATIONS.get(name.lower())
        if row is None:
            raise ModelError(f"there is no activation '{name}'", rule="recurrent",
                             advice="there are: " + ", ".join(ACTIVATIONS))
        alpha = 0.0 if row.alpha is None else alphas.pop(0) if alphas else row.alpha
        beta = 0.0 if row.beta is None else betas.pop(0) if betas else row.beta
        found.append((name.lower(), alpha, beta))
    each = len(defaults)
    return [found[d * each:(d + 1) * each] for d in range(directions)]
