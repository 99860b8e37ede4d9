"""Bessel functions, Airy's function and orthogonal polynomials, in float64.

Integrals over a period or over a quickly falling tail: the trapezium rule on them gains digits exponentially (Trefethen
and Weideman, SIAM Review 56 (2014)), so a few dozen points give all digits, as one product with a vector. Far out
Hankel's expansions take over. DLMF is the NIST Digital Library of Mathematical Functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import Value

from .special import Wide, _special
from .translation import Translation, aten

_FAR = 25.0
_POINTS = 64
_EULER = 0.57721566490153286


def _hankel(order: float, count: int) -> list[float]:
    """a_k of DLMF 10.17.1."""
    made = [1.0]
    for k in range(1, count):
        made.append(made[-1] * (4 * order * order - (2 * k - 1) ** 2) / (8 * k))
    return made


def _far_waves(w: Wide, x: Value, order: int) -> tuple[Value, Value]:
    """J and Y beyond `_FAR`, DLMF 10.17.3 and 10.17.4."""
    x = w.op("Max", x, _FAR)
    a = _hankel(order, 16)
    square = w.div(1.0, w.mul(x, x))
    even = w.poly(square, [a[2 * k] * (-1) ** k for k in reversed(range(8))])
    odd = w.div(w.poly(square, [a[2 * k + 1] * (-1) ** k for k in reversed(range(8))]), x)
    angle = w.sub(x, (0.5 * order + 0.25) * math.pi)
    sin, cos = w.op("Sin", angle), w.op("Cos", angle)
    root = w.op("Sqrt", w.div(2 / math.pi, x))
    return (w.mul(root, w.sub(w.mul(cos, even), w.mul(sin, odd))),
            w.mul(root, w.add(w.mul(sin, even), w.mul(cos, odd))))


_ANGLES = (np.arange(_POINTS) + 0.5) * math.pi / _POINTS


def _near_j(w: Wide, x: Value, order: int) -> Value:
    """DLMF 10.9.1 and 10.9.2: the mean of cos(x sin) or of sin times sin(x sin) over half a turn."""
    if order == 0:
        return w.waves(x, np.sin(_ANGLES), lambda v: w.op("Cos", v), np.full(_POINTS, 1 / _POINTS))
    return w.waves(x, np.sin(_ANGLES), lambda v: w.op("Sin", v), np.sin(_ANGLES) / _POINTS)


def _bessel_j(w: Wide, x: Value, order: int) -> Value:
    size = w.op("Abs", x)
    far = _far_waves(w, size, order)[0]
    far = far if order == 0 else w.where(w.less(x, 0.0), w.op("Neg", far), far)
    y = w.where(w.less(size, _FAR), _near_j(w, w.op("Min", w.op("Max", x, -_FAR), _FAR), order), far)
    return w.where(w.b.IsInf(x), 0.0, y)


def _bessel_y(w: Wide, x: Value, order: int) -> Value:
    """Neumann's expansions DLMF 10.8.1 with 10.23.15-16, whose J of higher order are integrals over the same points."""
    near = w.op("Max", w.op("Min", x, _FAR), 1e-300)
    k = np.arange(1, _POINTS // 2)
    log = w.op("Log", w.mul(near, 0.5))
    if order == 0:
        weights = (((-1.0) ** k / k)[:, None] * np.cos(2 * k[:, None] * _ANGLES)).sum(0) / _POINTS
        rest = w.waves(near, np.sin(_ANGLES), lambda v: w.op("Cos", v), weights)
        y = w.sub(w.mul(w.add(log, _EULER), _near_j(w, near, 0), 2 / math.pi), w.mul(rest, 4 / math.pi))
    else:
        weights = (((-1.0) ** k * (2 * k + 1) / (k * (k + 1)))[:, None]
                   * np.sin((2 * k[:, None] + 1) * _ANGLES)).sum(0) / _POINTS
        rest = w.waves(near, np.sin(_ANGLES), lambda v: w.op("Sin", v), weights)
        y = w.sub(w.mul(w.add(log, _EULER - 1), _near_j(w, near, 1), 2 / math.pi), w.mul(rest, 2 / math.pi))
        y = w.sub(y, w.mul(w.div(2 / math.pi, near), _near_j(w, near, 0)))
    y = w.where(w.less(x, _FAR), y, _far_waves(w, x, order)[1])
    y = w.where(w.b.IsInf(x), 0.0, y)
    return w.where(w.less(x, 0.0), math.nan, w.where(w.equal(x, 0.0), -math.inf, y))


@_special("special_bessel_j0")
def _(w: Wide, x: Value) -> Value:
    return _bessel_j(w, x, 0)


@_special("special_bessel_j1")
def _(w: Wide, x: Value) -> Value:
    return _bessel_j(w, x, 1)


@_special("special_bessel_y0")
def _(w: Wide, x: Value) -> Value:
    return _bessel_y(w, x, 0)


@_special("special_bessel_y1")
def _(w: Wide, x: Value) -> Value:
    return _bessel_y(w, x, 1)


# Modified

def _scaled_i(w: Wide, x: Value, order: int) -> Value:
    """exp(-|x|) I(x): the mean of exp(|x| (cos - 1)) times cos(order angle), DLMF 10.32.3; far out DLMF 10.40.1."""
    size = w.op("Abs", x)
    near = w.waves(w.op("Min", size, _FAR), np.cos(_ANGLES) - 1, lambda v: w.op("Exp", v),
                   np.cos(order * _ANGLES) / _POINTS)
    a = _hankel(order, 14)
    far = w.op("Max", size, _FAR)
    series = w.poly(w.div(1.0, far), [a[k] * (-1) ** k for k in reversed(range(14))])
    outer = w.div(series, w.op("Sqrt", w.mul(far, 2 * math.pi)))
    y = w.where(w.less(size, _FAR), near, outer)
    return y if order == 0 else w.where(w.less(x, 0.0), w.op("Neg", y), y)


def _plain_i(w: Wide, x: Value, order: int) -> Value:
    return w.mul(_scaled_i(w, x, order), w.op("Exp", w.op("Abs", x)))


def _scaled_k(w: Wide, x: Value, order: float) -> Value:
    """exp(x) K(x), DLMF 10.32.9: the integral of exp(x (1 - cosh t)) cosh(order t), in steps that narrow as x grows."""
    inner = w.op("Max", x, 1e-30)
    step = np.arange(400) * 0.2
    narrow = w.op("Sqrt", w.op("Max", inner, 1.0))
    last = w.b.constant(np.array([-1], np.int64))
    t = w.div(step, w.b.Unsqueeze(narrow, last))
    # x (cosh t - 1) = 2 x sinh^2(t / 2), without losing digits; where it is beyond all bounds the term is nothing.
    half = w.mul(t, 0.5)
    grown, shrunk = w.op("Exp", half), w.op("Exp", w.op("Neg", half))
    sinh = w.mul(w.sub(grown, shrunk), 0.5)
    fall = w.mul(sinh, sinh, w.b.Unsqueeze(w.mul(inner, -2.0), last))
    cosh = w.mul(w.add(w.op("Exp", w.mul(t, order)), w.op("Exp", w.mul(t, -order))), 0.5)
    terms = w.where(w.less(fall, -700.0), 0.0, w.mul(w.op("Exp", fall), cosh))
    weights = np.full((400, 1), 0.2)
    weights[0] = 0.1
    total = w.div(w.b.Squeeze(w.op("MatMul", terms, weights), last), narrow)
    return w.where(w.less(x, 0.0), math.nan, w.where(w.equal(x, 0.0), math.inf, total))


def _plain_k(w: Wide, x: Value, order: float) -> Value:
    y = w.mul(_scaled_k(w, x, order), w.op("Exp", w.op("Neg", x)))
    return w.where(w.equal(x, 0.0), math.inf, y)


@_special("i0", "special_i0", "special_modified_bessel_i0")
def _(w: Wide, x: Value) -> Value:
    return _plain_i(w, x, 0)


@_special("special_i0e")
def _(w: Wide, x: Value) -> Value:
    return _scaled_i(w, x, 0)


@_special("special_i1", "special_modified_bessel_i1")
def _(w: Wide, x: Value) -> Value:
    return _plain_i(w, x, 1)


@_special("special_i1e")
def _(w: Wide, x: Value) -> Value:
    return _scaled_i(w, x, 1)


@_special("special_modified_bessel_k0")
def _(w: Wide, x: Value) -> Value:
    return _plain_k(w, x, 0)


@_special("special_modified_bessel_k1")
def _(w: Wide, x: Value) -> Value:
    return _plain_k(w, x, 1)


@_special("special_scaled_modified_bessel_k0")
def _(w: Wide, x: Value) -> Value:
    return _scaled_k(w, x, 0)


@_special("special_scaled_modified_bessel_k1")
def _(w: Wide, x: Value) -> Value:
    return _scaled_k(w, x, 1)


@_special("special_airy_ai")
def _(w: Wide, x: Value) -> Value:
    """Maclaurin's series DLMF 9.4.1 in the middle, K of order 1/3 (9.6.2) to the right, 9.7.9 to the left."""
    middle = w.op("Min", w.op("Max", x, -6.5), 4.5)
    cube = w.mul(middle, middle, middle)
    first, second = [1.0], [1.0]
    for k in range(1, 34):
        first.append(first[-1] / ((3 * k - 1) * (3 * k)))
        second.append(second[-1] / ((3 * k) * (3 * k + 1)))
    series = w.sub(w.mul(w.poly(cube, first[::-1]), 3 ** (-2 / 3) / math.gamma(2 / 3)),
                   w.mul(w.poly(cube, second[::-1]), middle, 3 ** (-1 / 3) / math.gamma(1 / 3)))
    right = w.op("Min", w.op("Max", x, 4.0), 200.0)
    zeta = w.mul(right, w.op("Sqrt", right), 2 / 3)
    outer = w.mul(_plain_k(w, zeta, 1 / 3), w.op("Sqrt", w.mul(right, 1 / 3)), 1 / math.pi)
    left = w.op("Max", w.op("Neg", x), 6.0)
    zeta = w.mul(left, w.op("Sqrt", left), 2 / 3)
    u = [1.0]
    for k in range(1, 12):
        u.append(u[-1] * (6 * k - 5) * (6 * k - 3) * (6 * k - 1) / ((2 * k - 1) * 216 * k))
    square = w.div(1.0, w.mul(zeta, zeta))
    even = w.poly(square, [u[2 * k] * (-1) ** k for k in reversed(range(6))])
    odd = w.div(w.poly(square, [u[2 * k + 1] * (-1) ** k for k in reversed(range(6))]), zeta)
    angle = w.sub(zeta, math.pi / 4)
    wave = w.add(w.mul(w.op("Cos", angle), even), w.mul(w.op("Sin", angle), odd))
    falling = w.div(w.mul(wave, 1 / math.sqrt(math.pi)), w.op("Sqrt", w.op("Sqrt", left)))
    return w.where(w.less(x, -6.25), falling, w.where(w.less(x, 4.25), series, outer))


# Polynomials by their recurrences, DLMF 18.9: p(k+1) from p(k) and p(k-1), until the largest degree that is asked for

_Next = Callable[[Wide, Value, Value, Value, Value], Value]


def _chebyshev(w: Wide, k: Value, x: Value, p: Value, before: Value) -> Value:
    return w.sub(w.mul(x, p, 2.0), before)


def _hermite(w: Wide, k: Value, x: Value, p: Value, before: Value) -> Value:
    return w.mul(w.sub(w.mul(x, p), w.mul(k, before)), 2.0)


def _hermite_e(w: Wide, k: Value, x: Value, p: Value, before: Value) -> Value:
    return w.sub(w.mul(x, p), w.mul(k, before))


def _laguerre(w: Wide, k: Value, x: Value, p: Value, before: Value) -> Value:
    return w.div(w.sub(w.mul(w.sub(w.add(w.mul(k, 2.0), 1.0), x), p), w.mul(k, before)), w.add(k, 1.0))


def _legendre(w: Wide, k: Value, x: Value, p: Value, before: Value) -> Value:
    return w.div(w.sub(w.mul(w.add(w.mul(k, 2.0), 1.0), x, p), w.mul(k, before)), w.add(k, 1.0))


# name: (slope and shift of p(1) = slope x + shift, the recurrence, whether x is moved from [0, 1] to [-1, 1] first)
_POLYNOMIALS: dict[str, tuple[float, float, _Next, bool]] = {
    "chebyshev_polynomial_t": (1, 0, _chebyshev, False), "chebyshev_polynomial_u": (2, 0, _chebyshev, False),
    "chebyshev_polynomial_v": (2, -1, _chebyshev, False), "chebyshev_polynomial_w": (2, 1, _chebyshev, False),
    "shifted_chebyshev_polynomial_t": (1, 0, _chebyshev, True),
    "shifted_chebyshev_polynomial_u": (2, 0, _chebyshev, True),
    "shifted_chebyshev_polynomial_v": (2, -1, _chebyshev, True),
    "shifted_chebyshev_polynomial_w": (2, 1, _chebyshev, True),
    "hermite_polynomial_h": (2, 0, _hermite, False), "hermite_polynomial_he": (1, 0, _hermite_e, False),
    "laguerre_polynomial_l": (-1, 1, _laguerre, False), "legendre_polynomial_p": (1, 0, _legendre, False),
}


def _polynomial(t: Translation, x: Any, n: Any, slope: float, shift: float, step: _Next, moved: bool) -> Value:
    w, b = Wide(t.b), t.b
    x, degree = t.value(x, dtypes.DOUBLE), t.value(n, dtypes.DOUBLE)
    x = w.sub(w.mul(x, 2.0), 1.0) if moved else x
    # Degrees are cut to whole numbers.
    degree = t.cast(t.cast(degree, dtypes.INT64), dtypes.DOUBLE)
    shape = t.out_shape
    x, degree = t.expand(x, shape), t.expand(degree, shape)
    one, zero = w.add(w.mul(x, 0.0), 1.0), w.mul(x, 0.0)
    first = w.add(w.mul(x, slope), shift)
    # Below 0 there is no polynomial; PyTorch says 0.
    found = w.where(w.equal(degree, 0.0), one, w.where(w.equal(degree, 1.0), first, zero))
    trips = b.Max(t.cast(t.reduce("ReduceMax", b.Reshape(degree, t.ints([-1])), None, False), dtypes.INT64),
                  t.constant(0, dtypes.INT64))
    body = b.subgraph("recurrence", [("step", dtypes.INT64, []), ("going", dtypes.BOOL, []),
                                     *((name, dtypes.DOUBLE, shape) for name in ("before", "now", "found"))])
    i = Wide(body)
    number, going, before, now, so_far = body.graph.inputs
    k = i.add(body.Cast(number, to=dtypes.DOUBLE.code), 1.0)
    after = step(i, k, x, now, before)
    so_far = i.where(i.equal(degree, i.add(k, 1.0)), after, so_far)
    for v in (body.Identity(going), body.Identity(now), after, so_far):
        body.output(v)
    made = b.op("Loop", trips, t.constant(True, dtypes.BOOL), one, first, found, body=body, outputs=3)
    return t.cast(made[2], t.out_dtype)


def _translator(slope: float, shift: float, step: _Next, moved: bool) -> Callable[..., Value]:
    return lambda t, x, n: _polynomial(t, x, n, slope, shift, step, moved)


for _name, _row in _POLYNOMIALS.items():
    aten(f"special_{_name}", f"special_{_name}.x_scalar", f"special_{_name}.n_scalar")(_translator(*_row))
