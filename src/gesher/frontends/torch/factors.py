"""Factorisations of matrices as loops of ONNX operators: LU, Cholesky, QR, singular values, solving.

Each is one Loop (two where it must be) whose body works on whole matrices under masks of rows and columns, so the graph
is as small for a matrix of a hundred rows as for one of three, batches come for free, and sizes may be known only when
running. All is computed in float64: what float32 loses in LAPACK, other orders of the same sums would lose elsewhere.

Golub and Van Loan, Matrix Computations (4th ed.), is the source of the algorithms; conventions are LAPACK's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.ir import DimLike, Value
from gesher.ops.build import Builder

from .special import Wide
from .translation import Translation


class Matrices(Wide):
    """Arithmetic on (..., m, n) float64 values."""

    def ints(self, *xs: int) -> Value:
        return self.b.constant(np.array(xs, np.int64))

    def turned(self, a: Value) -> Value:
        """The transpose of the last two axes."""
        rank = len(self.b.shape(a) or ())
        made: Value = self.b.Transpose(a, perm=[*range(rank - 2), rank - 1, rank - 2])
        return made

    def product(self, a: Value, b: Value) -> Value:
        made: Value = self.b.MatMul(a, b)
        return made

    def column(self, a: Value, k: Value) -> Value:
        """(..., m, n) and a number to (..., m)."""
        made: Value = self.b.Gather(a, k, axis=-1)
        return made

    def row(self, a: Value, k: Value) -> Value:
        made: Value = self.b.Gather(a, k, axis=-2)
        return made

    def standing(self, v: Value) -> Value:
        """A vector as a column: (..., m) to (..., m, 1)."""
        made: Value = self.b.Unsqueeze(v, self.ints(-1))
        return made

    def lying(self, v: Value) -> Value:
        """A vector as a row: (..., n) to (..., 1, n)."""
        made: Value = self.b.Unsqueeze(v, self.ints(-2))
        return made

    def sum(self, a: Value, axis: int, keep: bool = False) -> Value:
        made: Value = self.b.ReduceSum(a, self.ints(axis), keepdims=int(keep))
        return made

    def count(self, n: Value) -> Value:
        """0 ... n - 1, from a scalar."""
        made: Value = self.b.Range(self.b.constant(np.array(0, np.int64)), n, self.b.constant(np.array(1, np.int64)))
        return made

    def size(self, a: Value, axis: int) -> Value:
        """One size of a value, as a scalar."""
        rank = len(self.b.shape(a) or ())
        known = (self.b.shape(a) or ())[axis]
        if isinstance(known, int):
            return self.b.constant(np.array(known, np.int64))
        made: Value = self.b.Gather(self.b.Shape(a), self.b.constant(np.array(axis % rank, np.int64)), axis=0)
        return made

    def eye(self, a: Value, rows: int, columns: int) -> Value:
        """A unit matrix with as many rows and columns as the axes of `a` that are named."""
        n, m = self.count(self.size(a, rows)), self.count(self.size(a, columns))
        return self.cast(self.b.Equal(self.standing(n), m))

    def cast(self, v: Value) -> Value:
        made: Value = self.b.Cast(v, to=dtypes.DOUBLE.code)
        return made

    def at(self, v: Value, k: Value) -> Value:
        """True where an index is k."""
        made: Value = self.b.Equal(v, k)
        return made

    def safe(self, x: Value) -> Value:
        """x, and 1 where it is 0: for divisions whose result is then not used."""
        return self.where(self.equal(x, 0.0), 1.0, x)


def loop(m: Matrices, trips: Value, states: Sequence[Value], step: Callable[[Matrices, Value, list[Value]], list[Value]]
         ) -> tuple[Value, ...]:
    """`step(matrices of the body, number of the round, states)`, as often as `trips` says; the last states."""
    b = m.b
    shapes = [(f"state_{i}", b.dtype(s), b.shape(s)) for i, s in enumerate(states)]
    body: Builder = b.subgraph("rounds", [("round", dtypes.INT64, []), ("going", dtypes.BOOL, []), *shapes])
    k, going, *given = body.graph.inputs
    after = step(Matrices(body), k, list(given))
    body.output(body.Identity(going))
    for v in after:
        body.output(v)
    made = b.op("Loop", trips, b.constant(np.array(True)), *states, body=body, outputs=len(states))
    return (made,) if len(states) == 1 else tuple(made)


def lu(m: Matrices, a: Value, pivot: bool = True) -> tuple[Value, Value, Value]:
    """(..., m, n) to both factors in one, the row in each place, and the pivots (from 0): algorithm 3.4.1."""
    b = m.b
    rows, columns = m.count(m.size(a, -2)), m.count(m.size(a, -1))
    least = b.Min(m.size(a, -2), m.size(a, -1))
    order = b.Expand(rows, b.Shape(m.sum(a, -1)))
    swaps = b.Identity(order)

    def step(i: Matrices, k: Value, states: list[Value]) -> list[Value]:
        a, order, swaps = states
        below = i.b.Less(k, rows)
        column = i.column(a, k)
        if pivot:
            size = i.where(i.b.Less(rows, k), -1.0, i.op("Abs", column))
            best = i.b.ArgMax(size, axis=-1, keepdims=1)
            # Rows k and `best` change places.
            moved = i.b.Where(i.at(rows, k), best, i.b.Where(i.b.Equal(rows, best), k, rows))
            a = i.b.GatherElements(a, i.b.Expand(i.standing(moved), i.b.Shape(a)), axis=-2)
            order = i.b.GatherElements(order, moved, axis=-1)
            swaps = i.b.Where(i.at(rows, k), best, swaps)
            column = i.column(a, k)
        top = i.row(a, k)
        head = i.standing(i.column(top, k))
        factor = i.where(below, i.div(column, i.safe(head)), 0.0)
        right = i.b.Less(k, columns)
        reduced = i.sub(a, i.mul(i.standing(factor), i.lying(i.where(right, top, 0.0))))
        inside = i.b.And(i.standing(below), i.at(columns, k))
        return [i.where(inside, i.standing(factor), reduced), order, swaps]

    return loop(m, least, [a, order, swaps], step)    # type: ignore[return-value]


def sign_of(m: Matrices, swaps: Value) -> Value:
    """The sign of the permutation that LAPACK's pivots make: (..., n) to (...)."""
    rows = m.count(m.size(swaps, -1))
    return m.sub(1.0, m.mul(m.op("Mod", m.sum(m.cast(m.b.Not(m.b.Equal(swaps, rows))), -1), 2.0, fmod=1), 2.0))


def solve(m: Matrices, a: Value, right: Value) -> Value:
    """The x of A x = B, (..., n, n) and (..., n, k), by Gauss and Jordan with partial pivots."""
    b = m.b
    rows = m.count(m.size(a, -1))
    n = m.size(a, -1)
    lead_a, lead_b = b.Slice(b.Shape(a), m.ints(0), m.ints(-2), m.ints(0)), b.Slice(
        b.Shape(right), m.ints(0), m.ints(-2), m.ints(0))
    if (b.shape(a) or ())[:-2] != (b.shape(right) or ())[:-2]:
        both = b.Shape(b.Add(b.ConstantOfShape(lead_a), b.ConstantOfShape(lead_b)))
        a = b.Expand(a, b.Concat(both, b.Slice(b.Shape(a), m.ints(-2), m.ints(1 << 62), m.ints(0)), axis=0))
        right = b.Expand(right, b.Concat(both, b.Slice(b.Shape(right), m.ints(-2), m.ints(1 << 62), m.ints(0)), axis=0))
    whole = b.Concat(a, right, axis=-1)

    def step(i: Matrices, k: Value, states: list[Value]) -> list[Value]:
        a = states[0]
        size = i.where(i.b.Less(rows, k), -1.0, i.op("Abs", i.column(a, k)))
        best = i.b.ArgMax(size, axis=-1, keepdims=1)
        moved = i.b.Where(i.at(rows, k), best, i.b.Where(i.b.Equal(rows, best), k, rows))
        a = i.b.GatherElements(a, i.b.Expand(i.standing(moved), i.b.Shape(a)), axis=-2)
        top = i.row(a, k)
        scaled = i.div(top, i.standing(i.column(top, k)))
        here = i.at(rows, k)
        factor = i.where(here, 0.0, i.column(a, k))
        rest = i.sub(a, i.mul(i.standing(factor), i.lying(scaled)))
        return [i.where(i.standing(here), i.lying(scaled), rest)]

    done = loop(m, n, [whole], step)[0]
    made: Value = b.Slice(done, b.Reshape(n, m.ints(1)), m.ints(1 << 62), m.ints(-1))
    return made


def triangular(m: Matrices, a: Value, right: Value, upper: bool, unit: bool) -> Value:
    """The x of A x = B for a triangle A, of which the other half is not read: algorithm 3.1.1, a row at a time."""
    b = m.b
    n = m.size(a, -1)
    rows = m.count(n)
    # The batches of both, broadcast; what the numbers are does not matter.
    right = b.Expand(right, b.Shape(m.product(a, right)))

    def step(i: Matrices, k: Value, states: list[Value]) -> list[Value]:
        x = states[0]
        at = i.b.Sub(i.b.Sub(n, k), i.b.constant(np.array(1, np.int64))) if upper else k
        row = i.row(a, at)
        used = i.where(i.b.Greater(rows, at) if upper else i.b.Less(rows, at), row, 0.0)
        known = i.b.Squeeze(i.product(i.lying(used), x), i.ints(-2))
        value = i.sub(i.row(right, at), known)
        if not unit:
            value = i.div(value, i.standing(i.column(row, at)))
        return [i.where(i.standing(i.at(rows, at)), i.lying(value), x)]

    return loop(m, n, [b.Expand(m.number(0.0), b.Shape(right))], step)[0]


def cholesky(m: Matrices, a: Value) -> Value:
    """The lower L of A = L L^T, from the lower half of A: algorithm 4.2.4. NaN where A is not positive definite."""
    n = m.size(a, -1)
    rows = m.count(n)

    def step(i: Matrices, k: Value, states: list[Value]) -> list[Value]:
        a, factor = states
        column = i.column(a, k)
        head = i.op("Sqrt", i.standing(i.column(column, k)))
        column = i.where(i.b.Less(rows, k), 0.0, i.div(column, head))
        a = i.sub(a, i.mul(i.standing(column), i.lying(column)))
        return [a, i.where(i.at(rows, k), i.standing(column), factor)]

    return loop(m, n, [a, m.mul(a, 0.0)], step)[1]


def householder(m: Matrices, a: Value) -> tuple[Value, Value]:
    """LAPACK's geqrf: R above, the vectors of the reflections below, and their factors tau (..., min(m, n))."""
    b = m.b
    rows, columns = m.count(m.size(a, -2)), m.count(m.size(a, -1))
    least = b.Min(m.size(a, -2), m.size(a, -1))
    places = m.count(least)
    lead = b.Slice(b.Shape(a), m.ints(0), m.ints(-2), m.ints(0))
    taus = b.Expand(m.number(0.0), b.Concat(lead, b.Reshape(least, m.ints(1)), axis=0))

    def step(i: Matrices, k: Value, states: list[Value]) -> list[Value]:
        a, taus = states
        column = i.column(a, k)
        below = i.where(i.b.Less(k, rows), column, 0.0)
        tail = i.sum(i.mul(below, below), -1, True)
        alpha = i.standing(i.column(column, k))
        norm = i.op("Sqrt", i.add(i.mul(alpha, alpha), tail))
        beta = i.where(i.less(alpha, 0.0), norm, i.op("Neg", norm))
        none = i.equal(tail, 0.0)    # then LAPACK reflects nothing
        tau = i.where(none, 0.0, i.div(i.sub(beta, alpha), i.safe(beta)))
        vector = i.div(below, i.where(none, 1.0, i.sub(alpha, beta)))
        full = i.where(i.at(rows, k), 1.0, vector)
        right = i.b.Less(k, columns)
        image = i.b.Squeeze(i.product(i.lying(full), a), i.ints(-2))
        reduced = i.sub(a, i.mul(i.standing(i.mul(full, tau)), i.lying(i.where(right, image, 0.0))))
        head = i.where(none, alpha, beta)
        kept = i.where(i.b.Less(k, rows), vector, i.where(i.at(rows, k), head, column))
        a = i.where(i.at(columns, k), i.standing(kept), reduced)
        return [a, i.where(i.at(places, k), tau, taus)]

    made, taus = loop(m, least, [a, taus], step)
    return made, taus


def reflect(m: Matrices, vectors: Value, taus: Value, target: Value, transpose: bool) -> Value:
    """Q X, or Q^T X, where Q = H(1) H(2) ... of the reflections that lie below the diagonal of `vectors`."""
    rows = m.count(m.size(vectors, -2))
    n = m.size(taus, -1)

    def step(i: Matrices, k: Value, states: list[Value]) -> list[Value]:
        x = states[0]
        at = k if transpose else i.b.Sub(i.b.Sub(n, k), i.b.constant(np.array(1, np.int64)))
        column = i.column(vectors, at)
        full = i.where(i.at(rows, at), 1.0, i.where(i.b.Less(at, rows), column, 0.0))
        tau = i.standing(i.column(taus, at))
        image = i.product(i.lying(full), x)
        return [i.sub(x, i.mul(i.standing(i.mul(full, tau)), image))]

    return loop(m, n, [target], step)[0]


def _partners(n: int) -> np.ndarray[Any, Any]:
    """A round of a tournament moves every player but the first one seat on; in n - 1 rounds all pairs have met."""
    seats = list(range(n))
    top, bottom = seats[0::2], seats[1::2]
    moved_top = [top[0], bottom[0], *top[1:-1]] if n > 2 else top
    moved_bottom = [*bottom[1:], top[-1]] if n > 2 else bottom
    order = np.empty(n, np.int64)
    order[0::2], order[1::2] = moved_top, moved_bottom
    return order


def _rotated(i: Matrices, app: Value, aqq: Value, apq: Value) -> tuple[Value, Value]:
    """Cosine and sine of the rotations that make the products apq vanish: algorithm 8.5.1."""
    none = i.equal(apq, 0.0)
    tau = i.div(i.sub(aqq, app), i.where(none, 1.0, i.mul(apq, 2.0)))
    root = i.add(i.op("Abs", tau), i.op("Sqrt", i.add(i.mul(tau, tau), 1.0)))
    tangent = i.div(i.where(i.less(tau, 0.0), -1.0, 1.0), root)
    tangent = i.where(none, 0.0, tangent)
    cosine = i.div(1.0, i.op("Sqrt", i.add(i.mul(tangent, tangent), 1.0)))
    return cosine, i.mul(tangent, cosine)


def _turns(i: Matrices, gram: Value, n: int) -> Value:
    """The rotations (..., n, n) of all neighbours (0,1), (2,3), ..., with the tournament's move after them."""
    first, second = i.ints(*range(0, n, 2)), i.ints(*range(1, n, 2))

    def entries(rows: Value, columns_of: int) -> Value:
        picked = i.b.Gather(gram, rows, axis=-2)
        choice = np.zeros((n // 2, n))
        choice[np.arange(n // 2), np.arange(n // 2) * 2 + columns_of] = 1
        return i.sum(i.mul(picked, choice), -1)

    cosine, sine = _rotated(i, entries(first, 0), entries(second, 1), entries(first, 1))
    even = np.zeros((n // 2, n, n))
    odd = np.zeros((n // 2, n, n))
    for p in range(n // 2):
        even[p, 2 * p, 2 * p] = even[p, 2 * p + 1, 2 * p + 1] = 1
        odd[p, 2 * p, 2 * p + 1], odd[p, 2 * p + 1, 2 * p] = 1, -1
    move = np.eye(n)[:, _partners(n)]
    flat_even, flat_odd = ((v @ move).reshape(n // 2, n * n) for v in (even, odd))
    flat = i.add(i.op("MatMul", i.lying(cosine), flat_even), i.op("MatMul", i.lying(sine), flat_odd))
    shape = i.b.Concat(i.b.Slice(i.b.Shape(gram), i.ints(0), i.ints(-2), i.ints(0)), i.ints(n, n), axis=0)
    made: Value = i.b.Reshape(flat, shape)
    return made


def _sweeps(n: int) -> int:
    # The method converges quadratically in the end; ten sweeps leave nothing in float64 for any size met in practice.
    return 10 + max(n - 1, 1).bit_length() // 2


def _sorted(m: Matrices, values: Value, n: int, largest: bool, *columns: Value) -> tuple[Value, ...]:
    """The first n by size, and the columns in the same order."""
    made, places = m.b.TopK(values, m.ints(n), axis=-1, largest=int(largest), sorted=1, outputs=2)
    moved = []
    for c in columns:
        shape = m.b.Concat(m.b.Slice(m.b.Shape(c), m.ints(0), m.ints(-1), m.ints(0)), m.ints(n), axis=0)
        moved.append(m.b.GatherElements(c, m.b.Expand(m.lying(places), shape), axis=-1))
    return (made, *moved)


def eigen(m: Matrices, a: Value, n: int) -> tuple[Value, Value]:
    """Eigenvalues, least first, and vectors of symmetric (..., n, n): Jacobi's method, n / 2 rotations at once."""
    b = m.b
    wide = n + n % 2
    if wide != n:
        # A row more, larger than all others and bound to none: it sorts last and is cut off.
        size = m.add(m.b.ReduceMax(m.sum(m.op("Abs", a), -1), m.ints(-1), keepdims=1), 1.0)
        corner = np.zeros((wide, wide))
        corner[n, n] = 2.0
        pads = [0] * len(b.shape(a) or ())
        a = m.add(b.Pad(a, m.ints(*pads, *pads[:-2], 1, 1), m.number(0.0)), m.mul(m.standing(size), corner))

    def step(i: Matrices, k: Value, states: list[Value]) -> list[Value]:
        a, vectors = states
        turn = _turns(i, a, wide)
        a = i.product(i.turned(turn), i.product(a, turn))
        return [i.mul(i.add(a, i.turned(a)), 0.5), i.product(vectors, turn)]

    start = b.Expand(m.number(np.eye(wide)), b.Shape(a))
    trips = b.constant(np.array(_sweeps(wide) * max(wide - 1, 1), np.int64))
    done, vectors = loop(m, trips, [a, start], step) if wide > 0 else (a, start)
    values, vectors = _sorted(m, m.sum(m.mul(done, np.eye(wide)), -1), n, False, vectors)
    return values, b.Slice(vectors, m.ints(0), m.ints(n), m.ints(-2))


def singular(m: Matrices, a: Value, n: int) -> tuple[Value, Value, Value]:
    """Of (..., m, n) with m >= n: A V with columns by size, their sizes, and V (..., n, n): one-sided Jacobi, 8.6.3."""
    b = m.b
    wide = n + n % 2
    if wide != n:
        pads = [0] * len(b.shape(a) or ())
        a = b.Pad(a, m.ints(*pads, *pads[:-1], 1), m.number(0.0))

    def step(i: Matrices, k: Value, states: list[Value]) -> list[Value]:
        a, vectors = states
        turn = _turns(i, i.product(i.turned(a), a), wide)
        return [i.product(a, turn), i.product(vectors, turn)]

    lead = b.Slice(b.Shape(a), m.ints(0), m.ints(-2), m.ints(0))
    start = b.Expand(m.number(np.eye(wide)), b.Concat(lead, m.ints(wide, wide), axis=0))
    trips = b.constant(np.array(_sweeps(wide) * max(wide - 1, 1), np.int64))
    done, vectors = loop(m, trips, [a, start], step)
    sizes = m.op("Sqrt", m.sum(m.mul(done, done), -2))
    # The column that was added is exactly zero, and bound to none; it must not sort before another zero.
    if wide != n:
        own = m.sum(m.op("Abs", b.Slice(vectors, m.ints(n), m.ints(wide), m.ints(-2))), -2)
        sizes = m.where(m.op("Greater", own, 0.5), -1.0, sizes)
    sizes, done, vectors = _sorted(m, sizes, n, True, done, vectors)
    return done, sizes, b.Slice(vectors, m.ints(0), m.ints(n), m.ints(-2))


def known_size(t: Translation, size: DimLike, what: str) -> int:
    """A size that the graph is built for.

    Raises:
        UnsupportedError: it is known only when running.
    """
    if not isinstance(size, int):
        raise UnsupportedError(f"{what} of matrices of the free size '{size}' has no way to ONNX", who="torch",
                               advice="fix that dim")
    return size
