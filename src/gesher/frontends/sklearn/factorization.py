"""Non-negative factors and topics of new rows: updates that are repeated until they change little.

What a reader would guess wrong: NMF stops when all rows together have settled, so that a row's answer hangs on those
beside it, in scikit-learn as here. A topic model settles each row by itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import Value

from .loops import all_rows, any_of, repeat, sum_of_all, whole
from .translation import Array, Outputs, Translation, in_double, refuse, translates

# What scikit-learn takes for nothing in divisions, whatever the type.
_EPSILON = float(np.finfo(np.float32).eps)
_LOSSES = {"frobenius": 2.0, "kullback-leibler": 1.0, "itakura-saito": 0.0}


class Factors:
    """Rows x (rows, features) as w (rows, parts) times the parts h (parts, features), which are known."""

    def __init__(self, t: Translation, model: Any, x: Value):
        self.t, self.x = t, x
        self.h: Array = np.asarray(model.components_, float)
        self.parts, self.features = self.h.shape
        self.loss = float(_LOSSES.get(model.beta_loss, model.beta_loss))
        self.l1 = self.features * model.alpha_W * model.l1_ratio
        self.l2 = self.features * model.alpha_W * (1 - model.l1_ratio)
        # Of majorisation and minimisation (Fevotte and Idier 2011).
        self.gamma = 1 / (2 - self.loss) if self.loss < 1 else 1 / (self.loss - 1) if self.loss > 2 else 1.0
        self.gram, self.products = self.h @ self.h.T, t.b.MatMul(x, t.constant(self.h.T, "parts"))

    def start(self) -> Value:
        """All the same, so that w h is about as large as x."""
        mean = self.t.b.Sqrt(self.t.b.Div(self.t.b.ReduceMean(self.x, keepdims=0), self.t.constant(self.parts)))
        return self.t.b.Add(all_rows(self.t, self.x, np.zeros(self.parts)), mean)

    def multiplied(self, t: Translation, w: Value) -> Value:
        """One multiplicative update."""
        b, loss = t.b, self.loss
        if loss == 2:
            above, below = self.products, b.MatMul(w, t.constant(self.gram))
        else:
            plain = b.MatMul(w, t.constant(self.h))
            safe = b.Max(plain, t.constant(_EPSILON)) if loss < 2 else plain
            share = b.Div(self.x, safe) if loss == 1 else b.Div(self.x, b.Mul(safe, safe)) if loss == 0 else \
                b.Mul(self.x, b.Pow(safe, t.constant(loss - 2)))
            above = b.MatMul(share, t.constant(self.h.T))
            if loss == 1:
                below = t.constant(self.h.sum(1, keepdims=True).T)
            else:
                below = b.MatMul(b.Pow(safe if loss < 1 else plain, t.constant(loss - 1)), t.constant(self.h.T))
        if self.l1 > 0:
            below = b.Add(below, t.constant(self.l1))
        if self.l2 > 0:
            below = b.Add(below, b.Mul(w, t.constant(self.l2)))
        below = b.Where(b.Equal(below, t.constant(0)), t.constant(_EPSILON), below)
        change = b.Div(above, below)
        return b.Mul(w, change if self.gamma == 1 else b.Pow(change, t.constant(self.gamma)))

    def error(self, t: Translation, w: Value) -> Value:
        """The root of twice the divergence of x from w h, over all rows."""
        b, loss, x = t.b, self.loss, self.x
        plain = b.MatMul(w, t.constant(self.h))
        if loss == 2:
            gap = b.Sub(x, plain)
            return b.Sqrt(sum_of_all(t, b.Mul(gap, gap)))
        some = b.Greater(x, t.constant(_EPSILON))
        safe, seen = b.Max(plain, t.constant(_EPSILON)), b.Where(some, x, t.constant(0))
        ratio = b.Where(some, b.Div(x, safe), t.constant(1))
        if loss == 1:
            said = b.Add(b.Mul(seen, b.Log(ratio)), b.Sub(plain, seen))
        elif loss == 0:
            said = b.Sub(b.Sub(b.Where(some, ratio, t.constant(0)), t.constant(1)), b.Log(ratio))
        else:
            power = b.Pow(safe, t.constant(loss - 1))
            own = b.Where(some, b.Pow(b.Where(some, x, t.constant(1)), t.constant(loss)), t.constant(0))
            said = b.Sub(own, b.Mul(b.Mul(seen, power), t.constant(loss)))
            said = b.Add(said, b.Mul(b.Pow(plain, t.constant(loss)), t.constant(loss - 1)))
            said = b.Div(said, t.constant(loss * (loss - 1)))
        return b.Sqrt(b.Mul(b.Max(sum_of_all(t, said), t.constant(0)), t.constant(2)))

    def by_products(self, rounds: int, tolerance: float) -> Value:
        """Multiplicative updates until ten of them lower the error by little."""
        w = self.start()
        first = self.error(self.t, w)

        def body(t: Translation, number: Value, held: list[Value]) -> tuple[Value, list[Value]]:
            b, (w, before) = t.b, held
            w = self.multiplied(t, w)
            if self.loss < 1:
                w = b.Where(b.Less(w, t.constant(np.finfo(np.float64).eps)), t.constant(0), w)
            due = b.Equal(b.Mod(number, whole(t, 10)), whole(t, 9))
            now = self.error(t, w)
            settled = b.Less(b.Div(b.Sub(before, now), first), t.constant(tolerance))
            return b.Not(b.And(due, settled)), [w, b.Where(due, now, before)]

        return repeat(self.t, rounds, [w, first], body)[0]

    def by_coordinates(self, rounds: int, tolerance: float, orders: Array) -> Value:
        """One part after the other, each at its best where the others stay, until gradients are small all together.

        Args:
            orders: (rounds, parts), or (1, parts) for the same each time.
        """
        gram = self.gram + self.l2 * np.eye(self.parts)
        products = self.t.b.Sub(self.products, self.t.constant(self.l1)) if self.l1 else self.products
        # What has no curvature stays: it moves by gradient / infinity.
        curvature = np.where(np.diag(gram) == 0, np.inf, np.diag(gram))
        steps, parts = orders.size, self.parts

        def body(t: Translation, number: Value, held: list[Value]) -> tuple[Value, list[Value]]:
            b, (w, violation, first) = t.b, held
            place = b.Mod(number, whole(t, parts))
            at = b.Gather(b.constant(orders.reshape(-1)), b.Mod(number, whole(t, steps)), axis=0)
            mine = b.Gather(w, at, axis=1)
            row = b.Gather(t.constant(gram), at, axis=0)
            gradient = b.Sub(b.MatMul(w, row), b.Gather(products, at, axis=1))
            pushed = b.Where(b.Equal(mine, t.constant(0)), b.Min(gradient, t.constant(0)), gradient)
            violation = b.Add(violation, sum_of_all(t, b.Abs(pushed)))
            moved = b.Max(b.Sub(mine, b.Div(gradient, b.Gather(t.constant(curvature), at, axis=0))), t.constant(0))
            w = b.Where(b.Gather(b.constant(np.eye(parts, dtype=bool)), at, axis=0), t.upright(moved), w)
            last = b.Equal(place, whole(t, parts - 1))
            first = b.Where(b.Equal(number, whole(t, parts - 1)), violation, first)
            settled = b.Or(b.Equal(first, t.constant(0)),
                           b.LessOrEqual(b.Div(violation, first), t.constant(tolerance)))
            return b.Not(b.And(last, settled)), [w, b.Where(last, t.constant(0), violation), first]

        none = self.t.constant(0)
        return repeat(self.t, rounds * parts, [all_rows(self.t, self.x, np.zeros(parts)), none, none], body)[0]


def _not_negative(t: Translation, model: Any, x: Value) -> Value:
    fits = t.b.Not(t.b.Less(x, t.constant(0)))
    return t.demand(fits, x, f"{type(model).__name__} takes no negative numbers")


@translates("decomposition.NMF")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    factors = Factors(t, model, _not_negative(t, model, x))
    if model.solver == "mu":
        if factors.loss <= 0:
            raise refuse(model, f"(beta_loss={model.beta_loss!r})", "scikit-learn raises an error where the smallest "
                         "number of all rows is zero; losses above zero have")
        return Outputs(transformed=factors.by_products(model.max_iter, model.tol))
    if not model.shuffle:
        orders = np.arange(factors.parts)[None]
    elif isinstance(model.random_state, (int, np.integer)):
        rng = np.random.RandomState(model.random_state)
        orders = np.stack([rng.permutation(factors.parts) for _ in range(model.max_iter)])
    else:
        raise refuse(model, f"(shuffle=True, random_state={model.random_state!r})",
                     "its answers are random; random_state=a number has")
    return Outputs(transformed=factors.by_coordinates(model.max_iter, model.tol, orders.astype(np.int64)))


@translates("decomposition.MiniBatchNMF")
@in_double
def _(t: Translation, model: Any, x: Value) -> Outputs:
    factors = Factors(t, model, x)
    rounds = model.max_iter if model.transform_max_iter is None else model.transform_max_iter

    def size(t: Translation, v: Value) -> Value:
        return t.b.Sqrt(sum_of_all(t, t.b.Mul(v, v)))

    def body(t: Translation, number: Value, held: list[Value]) -> tuple[Value, list[Value]]:
        w = factors.multiplied(t, held[0])
        change = t.b.Div(size(t, t.b.Sub(w, held[0])), size(t, w))
        return t.b.Not(t.b.LessOrEqual(change, t.constant(model.tol if model.tol > 0 else -1.0))), [w]

    return Outputs(transformed=repeat(t, rounds, [factors.start()], body)[0])


def _digamma(t: Translation, x: Value) -> Value:
    """The derivative of log gamma, as scikit-learn has it: from 6 on by its series, below by psi(x + 1) = psi(x) + 1/x.

    J. Bernardo, Algorithm AS 103 (1976).
    """
    b = t.b
    shifts = b.Max(b.Ceil(b.Sub(t.constant(6), x)), t.constant(0))
    r = b.Div(t.constant(1), b.Add(x, shifts))
    squared = b.Mul(r, r)
    series = b.Sub(t.constant(1 / 120), b.Mul(squared, t.constant(1 / 252)))
    series = b.Mul(squared, b.Sub(t.constant(1 / 12), b.Mul(squared, series)))
    made = b.Sub(b.Sub(b.Log(b.Add(x, shifts)), b.Mul(r, t.constant(0.5))), series)
    for k in range(6):
        step = b.Div(t.constant(1), b.Add(x, t.constant(k)))
        made = b.Sub(made, b.Where(b.Greater(shifts, t.constant(k)), step, t.constant(0)))
    tiny = b.Sub(t.constant(-np.euler_gamma), b.Div(t.constant(1), x))
    return b.Where(b.LessOrEqual(x, t.constant(1e-6)), tiny, made)


def _topics(t: Translation, model: Any, x: Value, epsilon: float) -> Outputs:
    x = _not_negative(t, model, x)
    words = np.asarray(model.exp_dirichlet_component_, float)
    parts = len(words)

    def expected(t: Translation, d: Value) -> Value:
        return t.b.Exp(t.b.Sub(_digamma(t, d), _digamma(t, t.total(d))))

    def body(t: Translation, number: Value, held: list[Value]) -> tuple[Value, list[Value]]:
        b, (document, expectation, live) = t.b, held
        likely = b.Add(b.MatMul(expectation, t.constant(words)), t.constant(epsilon))
        found = b.Mul(expectation, b.MatMul(b.Div(x, likely), t.constant(words.T)))
        found = b.Add(found, t.constant(model.doc_topic_prior_))
        change = b.Div(t.total(b.Abs(b.Sub(document, found))), t.constant(parts))
        still = b.And(live, b.Not(b.Less(change, t.constant(model.mean_change_tol))))
        return any_of(t, still), [b.Where(live, found, document),
                                  b.Where(live, expected(t, found), expectation), still]

    document = all_rows(t, x, np.ones(parts))
    live = t.b.Cast(all_rows(t, x, [1.0]), to=dtypes.BOOL.code)
    document = repeat(t, model.max_doc_update_iter, [document, expected(t, document), live], body)[0]
    return Outputs(transformed=t.b.Div(document, t.total(document)))


@translates("decomposition.LatentDirichletAllocation")
def _(t: Translation, model: Any, x: Value) -> Outputs:
    # Both types are computed in float64, but scikit-learn adds the least step of the type to what it divides by.
    epsilon = float(np.finfo(t.dtype.numpy).eps)
    return in_double(lambda t, model, x: _topics(t, model, x, epsilon))(t, model, x)
