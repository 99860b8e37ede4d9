"""One feature becomes several, or another one: polynomials, bins, splines, powers, quantiles, functions."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import Value

from .encoding import kept_at, marked, trusted
from .functions import traced
from .gaussian import erf, normal_quantile
from .translation import Outputs, Translation, columnwise, in_double, inverts, refuse, translates


@translates("preprocessing.PolynomialFeatures")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    powers = np.asarray(model.powers_)
    degree = int(powers.sum(1).max())
    if degree == 0:
        return Outputs(transformed=t.b.Add(t.b.Mul(t.column(x, 0), t.constant(0)), t.constant(1)))
    ones = t.b.Add(t.b.Mul(t.column(x, 0), t.constant(0)), t.constant(1))
    width = powers.shape[1]
    wide = t.b.Concat(x, ones, axis=1)
    # Each term is a product of `degree` factors, of which the column of ones fills up the rest.
    factors = np.full((len(powers), degree), width, np.int64)
    for k, row in enumerate(powers):
        names = np.repeat(np.arange(width), row)
        factors[k, :len(names)] = names
    product = t.b.Gather(wide, t.b.constant(factors[:, 0].copy()), axis=1)
    for j in range(1, degree):
        product = t.b.Mul(product, t.b.Gather(wide, t.b.constant(factors[:, j].copy()), axis=1))
    return Outputs(transformed=product)


@translates("preprocessing.KBinsDiscretizer")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    parts = []
    for i, edges in enumerate(model.bin_edges_):
        # As np.searchsorted(edges[1:-1], x, side="right"), whose comparison is in float64.
        inner = np.asarray(edges[1:-1], float)
        if t.dtype is dtypes.FLOAT:
            near = inner.astype(np.float32)
            inner = np.where(near.astype(float) < inner, np.nextafter(near, np.float32(np.inf)), near)
        count = len(edges) - 1
        if len(inner):
            beyond = t.number(t.b.GreaterOrEqual(t.column(x, i), t.constant(inner)))
            code = t.total(beyond)
        else:
            code = t.b.Mul(t.column(x, i), t.constant(0))
        parts.append(code if model.encode == "ordinal" else
                     t.number(t.b.Equal(code, t.constant(np.arange(count)))))
    return Outputs(transformed=t.join(parts))


@inverts("preprocessing.KBinsDiscretizer")
def _(t: Translation, model: Any, x: Value) -> Value:
    """The middle of each bin, whose number is cut to a whole one, and counts from the end below 0."""
    parts, start = [], 0
    for i, edges in enumerate(model.bin_edges_):
        edges = np.asarray(edges, float)
        middles, count = (edges[1:] + edges[:-1]) * 0.5, len(edges) - 1
        if model.encode == "ordinal":
            place, fits = kept_at(t, t.flat(t.column(x, i)), count)
            why = f"KBinsDiscretizer meets a number that no bin has (column {i})"
        else:
            place, none = marked(t, x, start, count)
            fits, start = t.b.Not(none), start + count
            why = f"KBinsDiscretizer meets a row that is marked in no bin (column {i})"
        parts.append(t.upright(trusted(t, model, list(middles), place, fits, why)))
    return t.join(parts)


def _splines(t: Translation, spline: Any, inside: Value, x: Value) -> Value:
    """(rows, splines): Cox and de Boor's recursion at x (rows, 1), with the polynomials of the piece that `inside` lies
    in, which is x without what lies beyond the ends."""
    k, knots = spline.k, spline.t
    count = len(knots) - k - 1
    high = knots[-k - 1]
    # The last real piece takes its right end too; there the piece after it must stay silent.
    starts, ends = knots[:-1], knots[1:]
    last = int(np.flatnonzero((starts < ends) & (ends == high))[-1])
    closing = np.where(np.arange(len(starts)) == last, np.nextafter(high, np.inf), ends)
    opening = np.where(starts >= high, np.inf, starts)
    basis = t.number(t.b.And(t.b.GreaterOrEqual(inside, t.constant(opening)), t.b.Less(inside, t.constant(closing))))
    for d in range(1, k + 1):
        n = len(knots) - d - 1
        left, right = knots[d:d + n] - knots[:n], knots[d + 1:d + 1 + n] - knots[1:1 + n]
        one = np.divide(1, left, out=np.zeros(n), where=left > 0)
        two = np.divide(1, right, out=np.zeros(n), where=right > 0)
        rise = t.b.Mul(t.b.Sub(x, t.constant(knots[:n])), t.constant(one))
        fall = t.b.Mul(t.b.Sub(t.constant(knots[d + 1:d + 1 + n]), x), t.constant(two))
        before = t.b.Slice(basis, t.axes(0), t.axes(n), t.axes(1))
        after = t.b.Slice(basis, t.axes(1), t.axes(n + 1), t.axes(1))
        basis = t.b.Add(t.b.Mul(rise, before), t.b.Mul(fall, after))
    made = t.b.Slice(basis, t.axes(0), t.axes(count), t.axes(1))
    # Those of a period are counted together with their first ones.
    return made if np.array_equal(spline.c, np.eye(count)) else t.b.MatMul(made, t.constant(spline.c))


@translates("preprocessing.SplineTransformer")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    parts = []
    degree = model.degree
    for i, spline in enumerate(model.bsplines_):
        low, high = spline.t[degree], spline.t[-degree - 1]
        column = t.column(x, i)
        if low == high:
            if model.extrapolation not in ("constant", "linear"):
                raise refuse(model, f"(extrapolation={model.extrapolation!r}) of a feature with one value (column {i})",
                             "leave that feature out")
            # There is no piece between equal knots, and no spline is more than 0.
            parts.append(t.b.Mul(t.number(t.b.IsNaN(column)), t.constant(np.zeros((1, spline.c.shape[1])))))
            continue
        gone = t.b.IsNaN(column)
        if model.extrapolation == "periodic":
            # An engine's Mod has the sign of what is divided, or has not: the whole periods are taken away.
            period = t.constant(high - low)
            moved = t.b.Sub(column, t.constant(low))
            column = t.b.Sub(column, t.b.Mul(t.b.Floor(t.b.Div(moved, period)), period))
        inside = t.b.Clip(column, t.constant(low), t.constant(high))
        part = _splines(t, spline, inside, column if model.extrapolation == "continue" else inside)
        if model.extrapolation == "error":
            fits = t.b.Or(t.b.Equal(inside, column), gone)
            part = t.demand(fits, part, f"SplineTransformer meets a value beyond its knots (column {i}, "
                                        "extrapolation='error')")
        elif model.extrapolation == "linear":
            # Of lines scikit-learn goes on with one spline more, also when it looks for the ends of the next feature.
            degree += degree <= 1
            beyond, count = t.b.Sub(column, inside), spline.c.shape[1]
            for side, end, kept in ((t.b.Less, low, np.arange(count) < degree),
                                    (t.b.Greater, high, np.arange(count) >= count - degree)):
                line = t.b.Add(t.b.Mul(beyond, t.constant(spline(end, nu=1) * kept)), t.constant(spline(end) * kept))
                part = t.b.Where(side(column, t.constant(end)), line, part)
        if getattr(model, "handle_missing", "error") == "zeros":
            part = t.b.Where(gone, t.constant(0), part)
        parts.append(part)
    whole = t.join(parts)
    if not model.include_bias:
        width = t.b.shape(whole)
        assert width is not None and isinstance(width[1], int)
        each = width[1] // len(parts)
        whole = t.b.Gather(whole, t.axes(*(j for j in range(width[1]) if j % each != each - 1)), axis=1)
    return Outputs(transformed=whole)


@translates("preprocessing.PowerTransformer")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    columns = []
    for i, power in enumerate(model.lambdas_):
        columns.append((_yeo_johnson if model.method == "yeo-johnson" else _box_cox)(t, t.column(x, i), float(power)))
    whole = t.join(columns)
    if model.standardize:
        scaler = model._scaler
        whole = t.b.Div(t.b.Sub(whole, t.constant(scaler.mean_)), t.constant(scaler.scale_))
    return Outputs(transformed=whole)


@inverts("preprocessing.PowerTransformer")
@in_double
def _(t: Translation, model: Any, x: Value) -> Value:
    if model.standardize:
        x = t.matrix(t.invert(model._scaler, x))
    back = _yeo_johnson_back if model.method == "yeo-johnson" else _box_cox_back
    return t.join([back(t, t.column(x, i), float(power)) for i, power in enumerate(model.lambdas_)])


def _log1p(t: Translation, x: Value) -> Value:
    """log(1 + x) to the last digits: what 1 + x loses of x, its logarithm is out of proportion by."""
    one = t.constant(1)
    whole = t.b.Add(x, one)
    kept = t.b.Sub(whole, one)
    none = t.b.Equal(kept, t.constant(0))
    return t.b.Where(none, x, t.b.Mul(t.b.Log(whole), t.b.Div(x, t.b.Where(none, one, kept))))


def _box_cox_back(t: Translation, x: Value, power: float) -> Value:
    if power == 0:
        return t.b.Exp(x)
    return t.b.Exp(t.b.Div(_log1p(t, t.b.Mul(x, t.constant(power))), t.constant(power)))


def _yeo_johnson_back(t: Translation, x: Value, power: float) -> Value:
    positive, zero, one = t.b.GreaterOrEqual(x, t.constant(0)), t.constant(0), t.constant(1)
    # Each branch sees its own side only, so that the other gives no nan.
    up, down = t.b.Where(positive, x, zero), t.b.Where(positive, zero, x)
    tiny, rest = np.spacing(1.0), 2 - power
    above = t.b.Exp(up) if abs(power) < tiny else \
        t.b.Pow(t.b.Add(t.b.Mul(up, t.constant(power)), one), t.constant(1 / power))
    below = t.b.Exp(t.b.Neg(down)) if abs(rest) <= tiny else \
        t.b.Pow(t.b.Add(t.b.Mul(down, t.constant(-rest)), one), t.constant(1 / rest))
    return t.b.Where(positive, t.b.Sub(above, one), t.b.Sub(one, below))


def _box_cox(t: Translation, x: Value, power: float) -> Value:
    if power == 0:
        return t.b.Log(x)
    return t.b.Div(t.b.Sub(t.b.Pow(x, t.constant(power)), t.constant(1)), t.constant(power))


def _yeo_johnson(t: Translation, x: Value, power: float) -> Value:
    positive = t.b.GreaterOrEqual(x, t.constant(0))
    # Each branch sees its own side only, so that the other gives no nan.
    up = t.b.Add(t.b.Max(x, t.constant(0)), t.constant(1))
    down = t.b.Sub(t.constant(1), t.b.Min(x, t.constant(0)))
    tiny = np.spacing(1.0)
    above = t.b.Log(up) if abs(power) < tiny else \
        t.b.Div(t.b.Sub(t.b.Pow(up, t.constant(power)), t.constant(1)), t.constant(power))
    rest = 2 - power
    below = t.b.Neg(t.b.Log(down)) if abs(rest) <= tiny else \
        t.b.Div(t.b.Sub(t.b.Pow(down, t.constant(rest)), t.constant(1)), t.constant(-rest))
    return t.b.Where(positive, above, below)


@translates("preprocessing.QuantileTransformer")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    low, high = np.asarray(model.quantiles_[0], float), np.asarray(model.quantiles_[-1], float)
    wide = t.wide()
    columns, whole = [], wide.matrix(x)
    normal = model.output_distribution == "normal"
    for i in range(model.n_features_in_):
        quantiles, references = model.quantiles_[:, i], model.references_
        column = wide.column(whole, i)
        up = wide.interpolate(t.flat(column), quantiles, references)
        down = wide.interpolate(t.flat(t.b.Neg(column)), -quantiles[::-1], -references[::-1])
        columns.append(t.upright(t.b.Mul(t.b.Sub(up, down), wide.constant(0.5))))
    share = t.join(columns)
    if normal:
        from sklearn.preprocessing._data import BOUNDS_THRESHOLD

        # In the rows' own type the threshold may be nothing beside them.
        edge = t.constant(BOUNDS_THRESHOLD)
        above = t.b.Greater(wide.matrix(t.b.Add(x, edge)), wide.constant(high))
        below = t.b.Less(wide.matrix(t.b.Sub(x, edge)), wide.constant(low))
    else:
        above, below = t.b.Equal(whole, wide.constant(high)), t.b.Equal(whole, wide.constant(low))
    share = t.b.Where(below, wide.constant(0), t.b.Where(above, wide.constant(1), share))
    if normal:
        from scipy.stats import norm

        # scikit-learn keeps the share in the rows' type, which near 1 tells in the quantile.
        share = wide.matrix(t.matrix(share))
        ends = [norm.ppf(BOUNDS_THRESHOLD - np.spacing(1)), norm.ppf(1 - (BOUNDS_THRESHOLD - np.spacing(1)))]
        inner = t.b.Clip(share, wide.constant(1e-9), wide.constant(1 - 1e-9))
        share = t.b.Clip(normal_quantile(wide, inner), wide.constant(ends[0]), wide.constant(ends[1]))
    return Outputs(transformed=t.b.Where(t.b.IsNaN(x), x, t.matrix(share)))


@inverts("preprocessing.QuantileTransformer")
@in_double
def _(t: Translation, model: Any, x: Value) -> Value:
    low, high = np.float64(0.0), np.float64(1.0)
    share = x
    normal = model.output_distribution == "normal"
    if normal:
        low, high = _normal_bounds()
        share = t.b.Mul(t.b.Add(erf(t, t.b.Mul(x, t.constant(np.sqrt(0.5)))), t.constant(1)), t.constant(0.5))
    columns = []
    for i in range(model.n_features_in_):
        quantiles, column = model.quantiles_[:, i], t.column(x, i)
        inner = t.upright(t.interpolate(t.flat(t.column(share, i)), model.references_, quantiles))
        above = t.b.GreaterOrEqual(column, t.constant(high)) if normal else t.b.Equal(column, t.constant(high))
        below = t.b.LessOrEqual(column, t.constant(low)) if normal else t.b.Equal(column, t.constant(low))
        inner = t.b.Where(above, t.constant(quantiles[-1]), inner)
        columns.append(t.b.Where(below, t.constant(quantiles[0]), inner))
    return t.b.Where(t.b.IsNaN(x), x, t.join(columns))


@cache
def _normal_bounds() -> tuple[Any, Any]:
    """The largest number whose normal share scikit-learn takes for 0, and the smallest that it takes for 1.

    What was clipped on the way there lies next to these, so they are found among the neighbours in float64, by its own
    comparison.
    """
    from scipy.stats import norm
    from sklearn.preprocessing._data import BOUNDS_THRESHOLD

    def last(holds: Callable[[float], bool], inside: float, outside: float) -> float:
        while True:
            middle = (inside + outside) / 2
            if middle in (inside, outside):
                return inside
            inside, outside = (middle, outside) if holds(middle) else (inside, middle)

    low = last(lambda v: bool(norm.cdf(v) - BOUNDS_THRESHOLD < 0), -6.0, 0.0)
    high = last(lambda v: bool(norm.cdf(v) + BOUNDS_THRESHOLD > 1), 6.0, 0.0)
    return np.float64(low), np.float64(high)


columnwise("preprocessing.FunctionTransformer")


def _called(t: Translation, function: Any, x: Any, settings: Any, owner: Any) -> Any:
    if function is None:
        return x
    # Whole numbers stay whole for the function, as in numpy.
    whole = isinstance(x, Value) and t.b.dtype(x) is not dtypes.STRING
    return traced(t, function, x if whole else t.matrix(x, owner), settings, owner)


@translates("preprocessing.FunctionTransformer")
def _(t: Translation, transformer: Any, x: Any) -> Outputs:
    return Outputs(transformed=_called(t, transformer.func, x, transformer.kw_args, transformer))


@inverts("preprocessing.FunctionTransformer")
def _(t: Translation, transformer: Any, x: Any) -> Any:
    return _called(t, transformer.inverse_func, x, transformer.inv_kw_args, transformer)


def isotonic(t: Translation, model: Any, x: Value) -> Value:
    """An isotonic regression on a column (rows, 1)."""
    xs, ys = np.asarray(model.X_thresholds_, float), np.asarray(model.y_thresholds_, float)
    y = t.upright(t.interpolate(t.flat(x), xs, ys))
    if model.out_of_bounds == "clip":
        return y
    outside = t.b.Or(t.b.Less(x, t.constant(xs[0])), t.b.Greater(x, t.constant(xs[-1])))
    if model.out_of_bounds == "raise":
        return t.demand(t.b.Not(outside), y, "IsotonicRegression meets a value beyond those that it was fitted on "
                                             "(out_of_bounds='raise')")
    return t.b.Where(outside, t.constant(np.nan), y)


@translates("isotonic.IsotonicRegression")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    y = t.flat(isotonic(t, model, x))
    # Both are (rows,) in scikit-learn.
    return Outputs(prediction=y, transformed=y, aside=("transformed",))
