"""Special functions, from series and rational approximations; computed in float64 and rounded once at the end.

Each says where its formula is from: DLMF is the NIST Digital Library of Mathematical Functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import Value
from gesher.ops.build import Builder

from .translation import Translation, aten


class Wide:
    """Arithmetic on float64 values, with numbers where values may stand."""

    def __init__(self, b: Builder):
        self.b = b

    def number(self, x: Any) -> Value:
        if isinstance(x, Value):
            return x
        return self.b.constant(np.asarray(x, np.float64))

    def op(self, name: str, *xs: Any, **how: Any) -> Value:
        made: Value = self.b.op(name, *(self.number(x) for x in xs), **how)
        return made

    def add(self, x: Any, *ys: Any) -> Value:
        for y in ys:
            x = self.op("Add", x, y)
        return self.number(x)

    def sub(self, x: Any, y: Any) -> Value:
        return self.op("Sub", x, y)

    def mul(self, x: Any, *ys: Any) -> Value:
        for y in ys:
            x = self.op("Mul", x, y)
        return self.number(x)

    def div(self, x: Any, y: Any) -> Value:
        return self.op("Div", x, y)

    def less(self, x: Any, y: Any) -> Value:
        return self.op("Less", x, y)

    def equal(self, x: Any, y: Any) -> Value:
        return self.op("Equal", x, y)

    def where(self, c: Value, x: Any, y: Any) -> Value:
        made: Value = self.b.Where(c, self.number(x), self.number(y))
        return made

    def poly(self, x: Value, coefficients: Sequence[float]) -> Value:
        """Highest power first, by Horner's rule."""
        y: Any = coefficients[0]
        for c in coefficients[1:]:
            y = self.add(self.mul(y, x), c)
        return self.number(y)

    def waves(self, x: Value, grid: np.ndarray[Any, Any], f: Callable[[Value], Value], weights: Any) -> Value:
        """The sum over a grid of weight times f(x times grid point): one product with a vector."""
        axis = np.array([-1], np.int64)
        spread = f(self.mul(self.b.Unsqueeze(x, self.b.constant(axis)), grid))
        return self.b.Squeeze(self.op("MatMul", spread, np.asarray(weights, np.float64).reshape(-1, 1)),
                              self.b.constant(axis))


def _special(*names: str) -> Callable[[Callable[..., Value]], Callable[..., Value]]:
    """Register `f(w, *values)` on float64 for operators of floating values."""
    def keep(f: Callable[..., Value]) -> Callable[..., Value]:
        @aten(*names)
        def _(t: Translation, *xs: Any) -> Value:
            w = Wide(t.b)
            return t.cast(f(w, *(t.value(x, dtypes.DOUBLE) for x in xs)), t.out_dtype)

        return f

    return keep


# Gamma

_LANCZOS = (0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
            12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7)


def _sin_pi(w: Wide, x: Value) -> Value:
    """sin(pi x), exact at whole numbers: by the distance from the nearest one."""
    near = w.op("Round", x)
    odd = w.op("Mod", w.op("Abs", near), 2.0, fmod=1)
    return w.mul(w.op("Sin", w.mul(w.sub(x, near), math.pi)), w.sub(1.0, w.mul(odd, 2.0)))


@_special("lgamma")
def log_gamma(w: Wide, x: Value) -> Value:
    """Lanczos's approximation (g = 7, 9 terms), reflected below 1/2: DLMF 5.5.3."""
    low = w.less(x, 0.5)
    z = w.sub(w.where(low, w.sub(1.0, x), x), 1.0)
    total: Any = _LANCZOS[0]
    for i, c in enumerate(_LANCZOS[1:]):
        total = w.add(total, w.div(c, w.add(z, i + 1.0)))
    far = w.add(z, 7.5)
    y = w.add(w.mul(w.add(z, 0.5), w.op("Log", far)), w.op("Neg", far), w.op("Log", total), 0.5 * math.log(2 * math.pi))
    mirrored = w.sub(w.op("Log", w.div(math.pi, w.op("Abs", _sin_pi(w, x)))), y)
    y = w.where(low, mirrored, y)
    return w.where(w.b.IsInf(x), math.inf, y)


_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)


@_special("digamma", "special_digamma", "special_psi")
def digamma(w: Wide, x: Value) -> Value:
    """Ten steps up by the recurrence, then DLMF 5.11.2; below 1/2 by reflection, DLMF 5.5.4."""
    low = w.less(x, 0.5)
    z = w.where(low, w.sub(1.0, x), x)
    steps: Any = w.div(1.0, z)
    for k in range(1, 10):
        steps = w.add(steps, w.div(1.0, w.add(z, float(k))))
    far = w.add(z, 10.0)
    square = w.div(1.0, w.mul(far, far))
    series = w.mul(w.poly(square, [b / (2 * (i + 1)) for i, b in reversed(list(enumerate(_BERNOULLI)))]), square)
    y = w.sub(w.sub(w.sub(w.op("Log", far), w.div(0.5, far)), series), steps)
    gap = w.mul(w.sub(x, w.op("Round", x)), math.pi)
    y = w.where(low, w.sub(y, w.div(w.mul(w.op("Cos", gap), math.pi), w.op("Sin", gap))), y)
    whole = w.b.And(w.equal(x, w.op("Floor", x)), w.less(x, 0.5))
    # At zero the sign of zero decides; at the other poles there is no number.
    zero = w.div(-1.0, x)
    return w.where(w.equal(x, 0.0), zero, w.where(w.b.And(whole, w.b.Not(w.b.IsInf(x))), math.nan, y))


@_special("special_zeta", "special_zeta.other_scalar", "special_zeta.self_scalar")
def zeta(w: Wide, s: Value, q: Value) -> Value:
    """Hurwitz's zeta by Euler and Maclaurin, DLMF 25.11.5: terms until q + k is past 10, then the tail.

    Poles at q = 0, -1, ...; below 0 only whole s have a value. NaN for s < 1.
    """
    least = w.op("Neg", w.op("Min", q, 0.0))
    terms = w.add(w.op("Ceil", least), 10.0)
    most = w.b.ReduceMax(w.b.Reshape(w.b.Max(terms, w.number(10.0)), w.b.constant(np.array([-1], np.int64))),
                         keepdims=0)
    last = w.b.constant(np.array([-1], np.int64))
    k = w.b.Range(w.number(0.0), w.b.Min(most, w.number(100000.0)), w.number(1.0))
    each = w.op("Pow", w.add(w.b.Unsqueeze(q, last), k), w.b.Unsqueeze(w.op("Neg", s), last))
    counted = w.where(w.less(k, w.b.Unsqueeze(terms, last)), each, 0.0)
    total = w.b.ReduceSum(counted, last, keepdims=0)
    a = w.add(q, terms)
    tail = w.op("Pow", a, w.op("Neg", s))
    total = w.add(total, w.div(w.mul(tail, a), w.sub(s, 1.0)), w.mul(tail, 0.5))
    factor, power = s, w.div(tail, a)
    for j, b in enumerate(_BERNOULLI):
        total = w.add(total, w.mul(factor, power, b / math.factorial(2 * j + 2)))
        factor = w.mul(factor, w.add(s, 2.0 * j + 1), w.add(s, 2.0 * j + 2))
        power = w.div(power, w.mul(a, a))
    below = w.b.Not(w.less(0.0, q))
    total = w.where(w.b.And(below, w.b.Not(w.equal(s, w.op("Floor", s)))), math.nan, total)
    total = w.where(w.b.And(below, w.equal(q, w.op("Floor", q))), math.inf, total)
    return w.where(w.equal(s, 1.0), math.inf, w.where(w.less(s, 1.0), math.nan, total))


@aten("polygamma", "special_polygamma")
def _(t: Translation, n: int, x: Value) -> Value:
    w = Wide(t.b)
    wide = t.cast(x, dtypes.DOUBLE)
    if n == 0:
        return t.cast(digamma(w, wide), t.out_dtype)
    # DLMF 25.11.12
    factor = float((-1) ** (n + 1) * math.factorial(n))
    return t.cast(w.mul(zeta(w, w.number(n + 1.0), wide), factor), t.out_dtype)


_STEPS = 3000


def _incomplete_gamma(w: Wide, a: Value, x: Value) -> tuple[Value, Value]:
    """P and Q, which sum to 1: the series DLMF 8.11.4 for x < a + 1, Lentz's continued fraction of 8.9.2 beyond."""
    b = w.b
    near = w.less(x, w.add(a, 1.0))
    # Each runs on numbers that it converges for, whatever the other is asked.
    a = w.op("Max", a, 1e-300)
    xs = w.op("Max", w.where(near, x, 0.0), 0.0)
    xf = w.where(near, w.add(a, 2.0), x)
    tiny, first = 1e-300, w.sub(w.add(xf, 1.0), a)
    shape = b.Shape(w.add(a, x))

    def spread(v: Value) -> Value:
        made: Value = b.Expand(v, shape)
        return made

    d0 = spread(w.div(1.0, first))
    start = [spread(w.div(1.0, a)), spread(w.div(1.0, a)), spread(w.number(1 / tiny)), d0, d0]
    known = b.shape(start[0])
    body = b.subgraph("incomplete_gamma", [("step", dtypes.INT64, []), ("going", dtypes.BOOL, []),
                                           *((f"carried_{i}", dtypes.DOUBLE, known) for i in range(5))])
    i = Wide(body)
    step, _, term, total, c, d, h = body.graph.inputs
    n = body.Cast(i.b.Add(step, i.b.constant(np.array(1, np.int64))), to=dtypes.DOUBLE.code)
    term = i.div(i.mul(term, xs), i.add(a, n))
    total = i.add(total, term)
    an = i.mul(n, i.sub(a, n))
    bn = i.add(first, i.mul(n, 2.0))
    d = i.div(1.0, i.add(i.add(i.mul(an, d), bn), tiny))
    c = i.add(i.add(bn, i.div(an, c)), tiny)
    ratio = i.mul(c, d)
    h = i.mul(h, ratio)
    open_series = i.op("Greater", i.op("Abs", term), i.mul(total, 1e-16))
    open_fraction = i.op("Greater", i.op("Abs", i.sub(ratio, 1.0)), 1e-16)
    going = body.Cast(body.ReduceMax(body.Reshape(body.Cast(body.Or(open_series, open_fraction), to=dtypes.INT32.code),
                                                  body.constant(np.array([-1], np.int64))), keepdims=0),
                      to=dtypes.BOOL.code)
    body.output(going)
    for v in (term, total, c, d, h):
        body.output(v)
    made = b.op("Loop", b.constant(np.array(_STEPS, np.int64)), b.constant(np.array(True)), *start, body=body,
                outputs=5)
    log_x = w.op("Log", w.op("Max", x, 1e-300))
    scale = w.op("Exp", w.sub(w.sub(w.mul(a, log_x), x), log_gamma(w, a)))
    p, q = w.mul(scale, made[1]), w.mul(scale, made[4])
    return w.where(near, p, w.sub(1.0, q)), w.where(near, w.sub(1.0, p), q)


def _gamma_ends(w: Wide, a: Value, x: Value, y: Value, at_zero: float, at_far: float) -> Value:
    far_x, far_a = w.b.IsInf(x), w.b.IsInf(a)
    y = w.where(w.equal(x, 0.0), at_zero, y)
    y = w.where(w.b.And(w.equal(a, 0.0), w.less(0.0, x)), at_far, y)
    y = w.where(far_x, at_far, w.where(far_a, at_zero, y))
    nothing = w.b.Or(w.b.Or(w.less(x, 0.0), w.less(a, 0.0)),
                     w.b.Or(w.b.And(far_x, far_a), w.b.And(w.equal(a, 0.0), w.equal(x, 0.0))))
    return w.where(nothing, math.nan, y)


@_special("igamma", "special_gammainc")
def _(w: Wide, a: Value, x: Value) -> Value:
    return _gamma_ends(w, a, x, _incomplete_gamma(w, a, x)[0], 0.0, 1.0)


@_special("igammac", "special_gammaincc")
def _(w: Wide, a: Value, x: Value) -> Value:
    return _gamma_ends(w, a, x, _incomplete_gamma(w, a, x)[1], 1.0, 0.0)


# Error function and the normal distribution

# W. J. Cody, Rational Chebyshev approximations for the error function, Math. Comp. 23 (1969), 631-637.
_CODY_A = (1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2,
           3.20937758913846947e3)
_CODY_B = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
_CODY_C = (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1,
           2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
           1.23033935479799725e3)
_CODY_D = (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
           3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3)
_CODY_P = (1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
           1.60837851487422766e-2, 6.58749161529837803e-4)
_CODY_Q = (1.0, 2.56852019228982242e0, 1.87295284992346725e0, 5.27905102951428412e-1, 6.05183413124413191e-2,
           2.33520497626869185e-3)


def _erfcx_right(w: Wide, y: Value) -> Value:
    """exp(y^2) erfc(y) for y >= 0, by Cody's three ranges."""
    square = w.mul(y, y)
    low = w.op("Min", square, 0.25)
    erf = w.mul(y, w.div(w.poly(low, _CODY_A), w.poly(low, _CODY_B)))
    near = w.mul(w.op("Exp", low), w.sub(1.0, erf))
    mid = w.op("Min", y, 4.0)
    middle = w.div(w.poly(mid, _CODY_C), w.poly(mid, _CODY_D))
    z = w.div(1.0, w.op("Max", square, 16.0))
    rest = w.div(w.mul(z, w.poly(z, _CODY_P)), w.poly(z, _CODY_Q))
    far = w.div(w.sub(1 / math.sqrt(math.pi), rest), w.op("Max", y, 4.0))
    return w.where(w.less(y, 0.46875), near, w.where(w.less(y, 4.0), middle, far))


@_special("special_erfcx")
def erfcx(w: Wide, x: Value) -> Value:
    size = w.op("Abs", x)
    right = _erfcx_right(w, size)
    return w.where(w.less(x, 0.0), w.sub(w.mul(w.op("Exp", w.mul(x, x)), 2.0), right), right)


@_special("erfc", "special_erfc")
def erfc(w: Wide, x: Value) -> Value:
    size = w.op("Abs", x)
    right = w.mul(w.op("Exp", w.op("Neg", w.mul(size, size))), _erfcx_right(w, size))
    right = w.where(w.b.IsInf(size), 0.0, right)
    return w.where(w.less(x, 0.0), w.sub(2.0, right), right)


@_special("special_ndtr")
def ndtr(w: Wide, x: Value) -> Value:
    return w.mul(erfc(w, w.mul(x, -math.sqrt(0.5))), 0.5)


@_special("special_log_ndtr")
def _(w: Wide, x: Value) -> Value:
    z = w.mul(x, -math.sqrt(0.5))
    left = w.sub(w.op("Log", w.mul(erfcx(w, w.op("Max", z, 0.0)), 0.5)), w.mul(z, z))
    # log(1 - q) for the small q beyond 1, which log1p's series would give: erfc keeps its digits there.
    q = w.mul(erfc(w, w.op("Max", w.op("Neg", z), -1.0)), 0.5)
    right = w.where(w.less(q, 1e-5), w.op("Neg", w.add(q, w.mul(q, q, 0.5))), w.op("Log", w.sub(1.0, q)))
    return w.where(w.less(x, -1.0), left, right)


# M. J. Wichura, Algorithm AS 241: the percentage points of the normal distribution, Appl. Statist. 37 (1988), 477-484.
_WICHURA = (
    (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
     1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0),
    (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
     5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0),
    (7.7454501427834140764e-4, 2.2723844989269184187e-2, 2.4178072517745061177e-1, 1.2704582524523683920e0,
     3.6478483247632045605e0, 5.7694972214606914055e0, 4.6303378461565452959e0, 1.4234371107496835773e0),
    (1.05075007164441684324e-9, 5.4759380849953447750e-4, 1.5198666563616457196e-2, 1.4810397642748007459e-1,
     6.8976733498510000455e-1, 1.6763848301838038494e0, 2.0531916266377588219e0, 1.0),
    (2.0103343992922881327e-7, 2.7115555687434876439e-5, 1.2426609473880784009e-3, 2.6532189526576123931e-2,
     2.9656057182850489123e-1, 1.7848265399172913358e0, 5.4637849111641143699e0, 6.6579046435011037772e0),
    (2.0442631033899397356e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5, 7.8686913114561325910e-4,
     1.4875361290850615025e-2, 1.3692988092273580531e-1, 5.9983220655588793769e-1, 1.0))


def _quantile(w: Wide, q: Value, tail: Value) -> Value:
    """The normal quantile at 1/2 + q, where `tail` is 1/2 - |q|, which the caller knows to more digits."""
    inner = w.op("Max", w.sub(0.180625, w.mul(q, q)), 0.0)
    centre = w.mul(q, w.div(w.poly(inner, _WICHURA[0]), w.poly(inner, _WICHURA[1])))
    r = w.op("Sqrt", w.op("Neg", w.op("Log", w.op("Max", tail, 1e-320))))
    near, far = w.sub(w.op("Min", r, 5.0), 1.6), w.sub(w.op("Max", r, 5.0), 5.0)
    outer = w.where(w.less(r, 5.0), w.div(w.poly(near, _WICHURA[2]), w.poly(near, _WICHURA[3])),
                    w.div(w.poly(far, _WICHURA[4]), w.poly(far, _WICHURA[5])))
    outer = w.where(w.equal(tail, 0.0), math.inf, w.where(w.less(tail, 0.0), math.nan, outer))
    outer = w.where(w.less(q, 0.0), w.op("Neg", outer), outer)
    return w.where(w.op("Less", w.op("Abs", q), 0.425), centre, outer)


@_special("erfinv", "special_erfinv")
def _(w: Wide, x: Value) -> Value:
    half = w.mul(x, 0.5)
    return w.mul(_quantile(w, half, w.sub(0.5, w.op("Abs", half))), math.sqrt(0.5))


@_special("special_ndtri")
def _(w: Wide, p: Value) -> Value:
    return _quantile(w, w.sub(p, 0.5), w.op("Min", p, w.sub(1.0, p)))


# Small ones

@_special("special_spherical_bessel_j0")
def _(w: Wide, x: Value) -> Value:
    zero = w.equal(x, 0.0)
    y = w.where(zero, 1.0, w.div(w.op("Sin", x), w.where(zero, 1.0, x)))
    return w.where(w.b.IsInf(x), 0.0, y)


@aten("special_entr")
def _(t: Translation, x: Value) -> Value:
    x = t.cast(x, t.out_dtype)
    zero = t.scalar(0, x)
    inside = t.b.Neg(t.b.Mul(x, t.b.Log(x)))
    y = t.b.Where(t.b.Equal(x, zero), zero, inside)
    return t.b.Where(t.b.Less(x, zero), t.scalar(-math.inf, x), y)
