"""Rows as sums of few atoms of a dictionary: thresholds, orthogonal matching pursuit, least angles, descent.

Each row is a problem of its own; all go through the same rounds beside each other, and a row that has ended waits. What
scikit-learn keeps as the Cholesky factor of a few swapped rows is here the inverse of the active atoms' products, in
their places among zeros, which an atom that enters or leaves changes by one outer product.

What a reader would guess wrong: `lasso_cd` must leave out the atoms that scikit-learn leaves out (Ndiaye et al., gap
safe screening), since it stops near the solution, not at it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import Value

from .loops import all_rows, any_of, repeat, whole
from .translation import Outputs, Translation, in_double, refuse, translates

_TINY, _EQUAL = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).eps)
_LARGEST = float(np.finfo(np.float64).max)
# Of the duality gap beside the row's own square, in scikit-learn's `sparse_encode`.
_GAP = 1e-8


class Codes:
    """What all algorithms know: atoms (k, features), their products (k, k), and those with the rows (rows, k)."""

    def __init__(self, t: Translation, model: Any, x: Value, atoms: Any):
        self.t, self.model, self.x = t, model, x
        atoms = np.asarray(atoms, float)
        (self.k, self.features), self.gram = atoms.shape, atoms @ atoms.T
        self.products = t.b.MatMul(x, t.constant(atoms.T, "atoms"))
        self.positive = bool(model.positive_code)

    def rows(self, row: Any) -> Value:
        return all_rows(self.t, self.x, row)

    def truths(self, true: bool, n: int) -> Value:
        """(rows, n), all of them so."""
        return self.t.b.Cast(self.rows(np.full(n, float(true))), to=dtypes.BOOL.code)

    def nothing(self) -> Value:
        """The inverse of no atoms, (rows, k, k)."""
        none = self.rows(np.zeros(self.k))
        return self.t.b.Mul(self.t.b.Unsqueeze(none, self.t.axes(2)), self.t.b.Unsqueeze(none, self.t.axes(1)))

    def at(self, t: Translation, index: Value) -> Value:
        """(rows, k): true at the place (rows,) of each row."""
        return t.b.Gather(t.b.constant(np.eye(self.k, dtype=bool)), index, axis=0)


def times(t: Translation, matrices: Value, v: Value) -> Value:
    """(rows, k, k) times (rows, k)."""
    return t.b.Squeeze(t.b.MatMul(matrices, t.b.Unsqueeze(v, t.axes(2))), t.axes(2))


def outer(t: Translation, v: Value, scale: Value) -> Value:
    """v v' / scale for v (rows, k) and a scale (rows, 1)."""
    return t.b.Mul(t.b.Unsqueeze(t.b.Div(v, scale), t.axes(2)), t.b.Unsqueeze(v, t.axes(1)))


def where_rows(t: Translation, rows: Value, new: Value, old: Value) -> Value:
    """Matrices (rows, k, k) chosen by (rows, 1)."""
    return t.b.Where(t.b.Unsqueeze(rows, t.axes(2)), new, old)


def dot(t: Translation, a: Value, b: Value) -> Value:
    """(rows, 1)."""
    return t.total(t.b.Mul(a, b))


def least_positive(t: Translation, x: Value, among: Value) -> Value:
    """(rows, 1): the least positive number of those among which it is looked for, or the largest that there is."""
    fits = t.b.And(among, t.b.Greater(x, t.constant(0)))
    return t.b.Neg(t.largest(t.b.Where(fits, t.b.Neg(x), t.constant(-_LARGEST))))


def thresholded(codes: Codes, by: float) -> Value:
    b, t = codes.t.b, codes.t
    size = b.Max(b.Sub(b.Abs(codes.products), t.constant(by)), t.constant(0))
    code = b.Mul(b.Sign(codes.products), size)
    return b.Max(code, t.constant(0)) if codes.positive else code


def pursued(codes: Codes, most: int, epsilon: float) -> Value:
    """Orthogonal matching pursuit: the atom most like what is left enters, until there are so many."""
    def body(t: Translation, number: Value, held: list[Value]) -> tuple[Value, list[Value]]:
        b, (code, inverse, active, live) = t.b, held
        left = b.Sub(codes.products, b.MatMul(code, t.constant(codes.gram)))
        size = b.Abs(left)
        index = b.ArgMax(size, axis=1, keepdims=0)
        chosen = codes.at(t, index)
        known = t.number(active)
        cross = b.Mul(b.Gather(t.constant(codes.gram), index, axis=0), known)
        share = times(t, inverse, cross)
        rest = b.Sub(t.upright(b.Gather(t.constant(np.diag(codes.gram)), index, axis=0)), dot(t, cross, share))
        largest = t.largest(size)
        ends = b.Or(b.Less(b.Mul(largest, largest), t.constant(epsilon)),
                    b.Greater(dot(t, t.number(chosen), known), t.constant(0)))
        alike = b.And(b.Greater(t.total(known), t.constant(0)), b.LessOrEqual(rest, t.constant(epsilon)))
        live = b.And(live, b.Not(b.Or(ends, alike)))
        grown = b.Add(inverse, outer(t, b.Sub(share, t.number(chosen)), b.Where(live, rest, t.constant(1))))
        inverse = where_rows(t, live, grown, inverse)
        code = b.Where(live, times(t, inverse, codes.products), code)
        return any_of(t, live), [code, inverse, b.Or(active, b.And(chosen, live)), live]

    start = [codes.rows(np.zeros(codes.k)), codes.nothing(), codes.truths(False, codes.k), codes.truths(True, 1)]
    return repeat(codes.t, most, start, body)[0]


def by_least_angles(codes: Codes, lasso: bool, least: float, most: int) -> Value:
    """Least angle regression (Efron et al. 2004); with `lasso`, an atom whose coefficient crosses zero leaves.

    Args:
        least: the correlation (divided by the features) at which a row ends.
        most: how many steps.
    """
    k, positive = codes.k, codes.positive

    def body(t: Translation, number: Value, held: list[Value]) -> tuple[Value, list[Value]]:
        b = t.b
        (code, before, active, sign, cov, inverse, level_before, dropped, steps, live) = held
        zero = t.constant(0)
        known = t.number(active)
        score = b.Where(active, t.constant(-_LARGEST), cov if positive else b.Abs(cov))
        full = b.Equal(t.total(known), t.constant(k))
        top = b.Where(full, zero, t.largest(score))
        level = b.Div(top, t.constant(codes.features))
        # At the end, between this and the last step.
        small = b.LessOrEqual(level, t.constant(least + _EQUAL))
        moved, later = b.Sub(code, before), b.Greater(steps, zero)
        past = b.And(b.Greater(b.Abs(b.Sub(level, t.constant(least))), t.constant(_EQUAL)), later)
        part = b.Div(b.Sub(level_before, t.constant(least)), b.Where(past, b.Sub(level_before, level), t.constant(1)))
        code = b.Where(b.And(live, b.And(small, past)), b.Add(before, b.Mul(part, moved)), code)
        goes = b.And(live, b.Not(b.Or(small, b.Or(full, b.GreaterOrEqual(steps, t.constant(most))))))
        # An atom enters, if none has just left.
        index = b.ArgMax(score, axis=1, keepdims=0)
        chosen = codes.at(t, index)
        cross = b.Mul(b.Gather(t.constant(codes.gram), index, axis=0), known)
        share = times(t, inverse, cross)
        rest = b.Abs(b.Sub(t.upright(b.Gather(t.constant(np.diag(codes.gram)), index, axis=0)), dot(t, cross, share)))
        enters = b.And(goes, b.Not(dropped))
        like = b.Less(rest, t.constant(1e-14))
        alike, enters = b.And(enters, like), b.And(enters, b.Not(like))
        grown = b.Add(inverse, outer(t, b.Sub(share, t.number(chosen)), b.Where(enters, rest, t.constant(1))))
        inverse = where_rows(t, enters, grown, inverse)
        new = b.And(chosen, enters)
        active = b.Or(active, new)
        sign = b.Where(new, t.constant(1) if positive else b.Sign(cov), sign)
        cov = b.Where(b.And(chosen, alike), zero, cov)
        steps_on = b.And(goes, b.Not(alike))
        if lasso:
            grew = b.And(later, b.Less(level_before, level))
            live, steps_on = b.And(goes, b.Not(b.And(steps_on, grew))), b.And(steps_on, b.Not(grew))
        else:
            live = goes
        # The way that is equally near to all active atoms, and how far it goes.
        way = times(t, inverse, sign)
        pace = b.Div(t.constant(1), b.Sqrt(b.Where(steps_on, dot(t, way, sign), t.constant(1))))
        way = b.Mul(way, pace)
        turn = b.MatMul(way, t.constant(codes.gram))
        rested = b.Not(active)
        far = b.Min(b.Div(top, pace), least_positive(
            t, b.Div(b.Sub(top, cov), b.Add(b.Sub(pace, turn), t.constant(_TINY))), rested))
        if not positive:
            far = b.Min(far, least_positive(
                t, b.Div(b.Add(top, cov), b.Add(b.Add(pace, turn), t.constant(_TINY))), rested))
        crossing = b.Div(b.Neg(code), b.Add(way, t.constant(_TINY)))
        nearest = least_positive(t, crossing, active)
        drops = b.And(steps_on, b.Less(nearest, far))
        gone = b.And(b.And(active, b.Equal(crossing, nearest)), drops)
        if lasso:
            far = b.Where(drops, nearest, far)
        after = b.Where(active, b.Add(code, b.Mul(far, way)), zero)
        before, code = b.Where(steps_on, code, before), b.Where(steps_on, after, code)
        level_before = b.Where(steps_on, level, level_before)
        cov = b.Where(steps_on, b.Sub(cov, b.Mul(far, turn)), cov)
        if lasso:
            out = t.number(gone)
            column = times(t, inverse, out)
            shrunk = b.Sub(inverse, outer(t, column, b.Where(drops, dot(t, column, out), t.constant(1))))
            inverse = where_rows(t, drops, shrunk, inverse)
            active = b.And(active, b.Not(gone))
            kept = t.number(active)
            inverse = b.Mul(b.Mul(inverse, b.Unsqueeze(kept, t.axes(2))), b.Unsqueeze(kept, t.axes(1)))
            sign = b.Mul(sign, kept)
            cov = b.Where(gone, b.Sub(codes.products, b.MatMul(code, t.constant(codes.gram))), cov)
        else:
            sign = b.Where(gone, b.Neg(sign), sign)
        dropped = b.Or(drops, b.And(dropped, b.Not(steps_on)))
        steps = b.Add(steps, t.number(steps_on))
        return any_of(t, live), [code, before, active, sign, cov, inverse, level_before, dropped, steps, live]

    none, one = codes.rows(np.zeros(k)), codes.rows([0.0])
    start = [none, none, codes.truths(False, k), none, codes.products, codes.nothing(), one, codes.truths(False, 1),
             one, codes.truths(True, 1)]
    # A round in which an atom is found to be like those before it is no step.
    return repeat(codes.t, (most + 1) * (k + 1), start, body)[0]


def descended(codes: Codes, weight: float, sweeps: int) -> Value:
    """Lasso by coordinate descent until the duality gap is small."""
    gram, diagonal = codes.gram, np.diag(codes.gram)
    square = dot(codes.t, codes.x, codes.x)

    def gap(t: Translation, code: Value, image: Value) -> tuple[Value, Value, Value]:
        """The gap (rows, 1), the correlations with what is left, and the largest of them."""
        b = t.b
        left = b.Sub(codes.products, image)
        if weight == 0:
            return dot(t, left, left), left, t.largest(left)
        said = dot(t, code, codes.products)
        rest = b.Add(b.Sub(square, b.Mul(said, t.constant(2))), dot(t, code, image))
        most = t.largest(left if codes.positive else b.Abs(left))
        scale = b.Where(b.Greater(most, t.constant(weight)), b.Div(t.constant(weight), most), t.constant(1))
        primal = b.Add(b.Mul(rest, t.constant(0.5)), b.Mul(t.total(b.Abs(code)), t.constant(weight)))
        dual = b.Sub(b.Mul(scale, b.Sub(square, said)), b.Mul(b.Mul(b.Mul(scale, scale), rest), t.constant(0.5)))
        return b.Sub(primal, dual), left, most

    def needed(t: Translation, found: tuple[Value, Value, Value]) -> Value:
        """(rows, k): false for the atoms that surely have no part in the solution."""
        b, (distance, left, most) = t.b, found
        alive = b.constant((diagonal != 0)[None])
        if weight == 0:
            return b.And(b.LessOrEqual(t.constant(0), b.Abs(left)), alive)
        radius = b.Div(b.Sqrt(b.Mul(b.Abs(distance), t.constant(2))), t.constant(weight))
        share = b.Abs(b.Div(left, b.Max(most, t.constant(weight))))
        room = b.Div(b.Sub(t.constant(1), share), t.constant(np.sqrt(np.where(diagonal == 0, 1, diagonal))))
        return b.And(b.LessOrEqual(room, radius), alive)

    def sweep(t: Translation, number: Value, held: list[Value]) -> tuple[Value, list[Value]]:
        b, (code, image, allowed, live) = t.b, held

        def coordinate(t: Translation, j: Value, held: list[Value]) -> tuple[Value, list[Value]]:
            b, (code, image, largest, change) = t.b, held
            row, own = b.Gather(t.constant(gram), j, axis=0), b.Gather(t.constant(diagonal), j, axis=0)
            mine = t.upright(b.Gather(code, j, axis=1))
            pull = b.Sub(b.Add(t.upright(b.Gather(codes.products, j, axis=1)), b.Mul(mine, own)),
                         t.upright(b.Gather(image, j, axis=1)))
            size = b.Max(b.Sub(b.Abs(pull), t.constant(weight)), t.constant(0))
            new = b.Div(b.Mul(b.Sign(pull), size), b.Where(b.Equal(own, t.constant(0)), t.constant(1), own))
            if codes.positive:
                new = b.Max(new, t.constant(0))
            may = b.And(live, t.upright(b.Gather(allowed, j, axis=1)))
            new = b.Where(may, new, mine)
            step = b.Sub(new, mine)
            here = b.Gather(b.constant(np.eye(codes.k, dtype=bool)), j, axis=0)
            counted = b.Where(may, b.Abs(new), t.constant(0))
            return b.constant(np.array(True)), [
                b.Where(here, new, code), b.Add(image, b.Mul(step, row)), b.Max(largest, counted),
                b.Max(change, b.Abs(step))]

        none = b.Mul(t.slices(code, [1, codes.k - 1])[0], t.constant(0))
        code, image, largest, change = repeat(t, codes.k, [code, image, none, none], coordinate)
        still = b.Equal(largest, t.constant(0))
        slow = b.LessOrEqual(b.Div(change, b.Where(still, t.constant(1), largest)), t.constant(_GAP))
        due = b.And(live, b.Or(b.Or(still, slow), b.Equal(number, whole(t, sweeps - 1))))
        found = gap(t, code, image)
        live = b.And(live, b.Not(b.And(due, b.LessOrEqual(found[0], b.Mul(square, t.constant(_GAP))))))
        allowed = b.And(allowed, b.Or(needed(t, found), b.Not(b.And(due, live))))
        out = b.And(b.Not(allowed), b.And(due, live))
        code = b.Where(out, t.constant(0), code)
        image = b.Where(b.And(due, live), b.MatMul(code, t.constant(gram)), image)
        return any_of(t, live), [code, image, allowed, live]

    t, none = codes.t, codes.rows(np.zeros(codes.k))
    found = gap(t, none, none)
    close = t.b.And(t.b.LessOrEqual(t.constant(0), found[0]),
                    t.b.LessOrEqual(found[0], t.b.Mul(square, t.constant(_GAP))))
    return repeat(t, sweeps, [none, none, needed(t, found), t.b.Not(close)], sweep)[0]


def _coded(t: Translation, model: Any, x: Value, epsilon: float) -> Outputs:
    atoms = getattr(model, "components_", getattr(model, "dictionary", None))
    codes, how = Codes(t, model, x, atoms), model.transform_algorithm
    weight = model.transform_alpha
    weight = float(getattr(model, "alpha", 1.0) if weight is None else weight)
    count = model.transform_n_nonzero_coefs
    count = int(min(max(codes.features / 10, 1), codes.k) if count is None else count)
    if how == "threshold":
        code = thresholded(codes, weight)
    elif how == "omp":
        if count > codes.k:
            raise refuse(model, f" of {count} atoms among {codes.k}")
        code = pursued(codes, count, epsilon)
    elif how == "lasso_cd":
        code = descended(codes, weight, model.transform_max_iter)
    else:
        lasso = how == "lasso_lars"
        code = by_least_angles(codes, lasso, weight / codes.features if lasso else 0.0,
                               model.transform_max_iter if lasso else count)
    if model.split_sign:
        code = t.join([t.b.Max(code, t.constant(0)), t.b.Max(t.b.Neg(code), t.constant(0))])
    return Outputs(transformed=code, in_float64=how in ("lars", "lasso_lars"))


@translates("decomposition.SparseCoder", "decomposition.DictionaryLearning",
            "decomposition.MiniBatchDictionaryLearning")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    epsilon = float(np.finfo(t.dtype.numpy).eps)
    return in_double(lambda t, model, x: _coded(t, model, x, epsilon))(t, model, x)
