"""PyTorch's linear algebra on the factorisations of `factors`.

Singular and eigenvectors are only fixed up to their signs: ours need not be LAPACK's. What does not depend on them (a
pseudo-inverse, a low-rank product) comes out the same; where the vectors themselves are given out, verification tells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.ir import Value
from gesher.symbolic import maximum

from . import factors
from .factors import Matrices, known_size
from .translation import Translation, aten, dtype_of


def _wide(t: Translation, x: Value) -> tuple[Matrices, Value]:
    return Matrices(t.b), t.cast(x, dtypes.DOUBLE)


def _fine(t: Translation, a: Value) -> Value:
    """LAPACK's word that all went well, for each matrix."""
    return t.expand(t.constant(0, dtypes.INT32), t.shape(a)[:-2])


def _is_empty(t: Translation, *xs: Value) -> bool:
    return any(0 in t.shape(x) for x in xs)


def _nothing(t: Translation, index: int = 0) -> Value:
    """An output of a shape without elements, or all zeros where the matrix has none."""
    out = t.out[index] if isinstance(t.out, (tuple, list)) else t.out
    return t.expand(t.constant(0, dtype_of(out.dtype)), t.sizes.shape(out.shape))


def _triangle(t: Translation, x: Value, upper: bool, diagonal: int = 0) -> Value:
    return t.b.Trilu(x, None if diagonal == 0 else t.constant(diagonal, dtypes.INT64), upper=int(upper))


# Solving

@aten("linalg_inv_ex", "inverse")
def _(t: Translation, a: Value, *, check_errors: bool = False) -> Any:
    if _is_empty(t, a):
        return (a, _fine(t, a)) if isinstance(t.out, (tuple, list)) else a
    m, x = _wide(t, a)
    made = t.cast(factors.solve(m, x, t.expand(m.eye(x, -2, -1), t.shape(a))), t.dtype(a))
    return (made, _fine(t, a)) if isinstance(t.out, (tuple, list)) else made


def _as_columns(t: Translation, a: Value, b: Value) -> bool:
    """True where `b` holds vectors, not matrices: it has one axis less, or is of the shape of a batch of vectors."""
    return t.rank(b) == 1 or (t.rank(a) - 1 == t.rank(b) and list(t.shape(b)) == list(t.shape(a)[:-1]))


@aten("_linalg_solve_ex")
def _(t: Translation, a: Value, b: Value, *, left: bool = True, check_errors: bool = False) -> tuple[Value, ...]:
    m, x = _wide(t, a)
    vector = _as_columns(t, a, b)
    right = t.cast(b, dtypes.DOUBLE)
    if _is_empty(t, a, b):
        made = _nothing(t)
    elif left:
        made = factors.solve(m, x, m.standing(right) if vector else right)
        made = t.squeeze(made, [t.rank(made) - 1]) if vector else made
    else:
        made = m.turned(factors.solve(m, m.turned(x), m.turned(m.lying(right) if vector else right)))
        made = t.squeeze(made, [t.rank(made) - 2]) if vector else made
    if _is_empty(t, a):
        return t.cast(made, t.dtype(a)), _nothing(t, 1), _nothing(t, 2), _fine(t, a)
    lu, _, swaps = factors.lu(m, x)
    return t.cast(made, t.dtype(a)), t.cast(lu, t.dtype(a)), _pivots(t, swaps), _fine(t, a)


@aten("linalg_solve_triangular")
def _(t: Translation, a: Value, b: Value, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Value:
    if _is_empty(t, a, b):
        return _nothing(t)
    m, x = _wide(t, a)
    right = t.cast(b, dtypes.DOUBLE)
    if left:
        made = factors.triangular(m, x, right, upper, unitriangular)
    else:
        made = m.turned(factors.triangular(m, m.turned(x), m.turned(right), not upper, unitriangular))
    return t.cast(made, t.dtype(a))


@aten("triangular_solve")
def _(t: Translation, b: Value, a: Value, upper: bool = True, transpose: bool = False, unit: bool = False
      ) -> tuple[Value, Value]:
    if _is_empty(t, a, b):
        return _nothing(t), _nothing(t, 1)
    m, x = _wide(t, a)
    x, upper = (m.turned(x), not upper) if transpose else (x, upper)
    made = factors.triangular(m, x, t.cast(b, dtypes.DOUBLE), upper, unit)
    return t.cast(made, t.dtype(b)), t.expand(a, t.sizes.shape(t.out[1].shape))


@aten("linalg_cholesky_ex")
def _(t: Translation, a: Value, *, upper: bool = False, check_errors: bool = False) -> tuple[Value, Value]:
    return _cholesky(t, a, upper), _fine(t, a)


@aten("cholesky")
def _(t: Translation, a: Value, upper: bool = False) -> Value:
    return _cholesky(t, a, upper)


def _cholesky(t: Translation, a: Value, upper: bool) -> Value:
    if _is_empty(t, a):
        return a
    m, x = _wide(t, a)
    # Only the named half is read.
    made = factors.cholesky(m, m.turned(x) if upper else x)
    return t.cast(m.turned(made) if upper else made, t.dtype(a))


def _squared(t: Translation, m: Matrices, factor: Value, upper: bool) -> Value:
    half = _triangle(t, factor, upper)
    return m.product(m.turned(half), half) if upper else m.product(half, m.turned(half))


@aten("cholesky_inverse")
def _(t: Translation, a: Value, upper: bool = False) -> Value:
    if _is_empty(t, a):
        return a
    m, x = _wide(t, a)
    return t.cast(factors.solve(m, _squared(t, m, x, upper), t.expand(m.eye(x, -2, -1), t.shape(a))), t.dtype(a))


@aten("cholesky_solve")
def _(t: Translation, b: Value, a: Value, upper: bool = False) -> Value:
    if _is_empty(t, a, b):
        return _nothing(t)
    m, x = _wide(t, a)
    return t.cast(factors.solve(m, _squared(t, m, x, upper), t.cast(b, dtypes.DOUBLE)), t.dtype(b))


# LU

def _pivots(t: Translation, swaps: Value) -> Value:
    n = t.shape(swaps)[-1]
    return t.b.Add(t.cast(swaps, dtypes.INT32), t.constant(1, dtypes.INT32)) if n != 0 else t.cast(swaps, dtypes.INT32)


@aten("linalg_lu_factor_ex")
def _(t: Translation, a: Value, *, pivot: bool = True, check_errors: bool = False) -> tuple[Value, ...]:
    if _is_empty(t, a):
        return a, _nothing(t, 1), _fine(t, a)
    m, x = _wide(t, a)
    lu, _, swaps = factors.lu(m, x, pivot)
    rows = t.shape(a)[-2]
    least = t.sizes.dim(t.out[1].shape[-1])
    swaps = swaps if rows == least else t.slice(swaps, t.rank(swaps) - 1, 0, least)
    return t.cast(lu, t.dtype(a)), _pivots(t, swaps), _fine(t, a)


def _halves(t: Translation, lu: Value, out_l: Any, out_u: Any) -> tuple[Value, Value]:
    """L with ones on its diagonal, and U, as large as PyTorch has them."""
    shape_l, shape_u = t.sizes.shape(out_l.shape), t.sizes.shape(out_u.shape)
    rank = len(shape_l)
    left = t.slice(lu, rank - 1, 0, shape_l[-1])
    m = Matrices(t.b)
    eye = t.cast(m.eye(left, -2, -1), t.dtype(lu))
    upper = t.slice(lu, rank - 2, 0, shape_u[-2])
    return t.b.Add(_triangle(t, left, False, -1), eye), _triangle(t, upper, True)


def _permutation(t: Translation, order: Value) -> Value:
    """The matrix P with A = P L U, where row i of L U is row order[i] of A."""
    m = Matrices(t.b)
    return t.b.Equal(m.standing(m.count(m.size(order, -1))), m.lying(order))


@aten("linalg_lu")
def _(t: Translation, a: Value, *, pivot: bool = True) -> tuple[Value, ...]:
    if _is_empty(t, a):
        raise UnsupportedError("the LU factors of an empty matrix have no way to ONNX", who="torch")
    m, x = _wide(t, a)
    lu, order, _ = factors.lu(m, x, pivot)
    low, up = _halves(t, t.cast(lu, t.dtype(a)), t.out[1], t.out[2])
    if not pivot:
        return t.constant(np.zeros(0), t.dtype(a)), low, up
    return t.cast(_permutation(t, order), t.dtype(a)), low, up


@aten("lu_unpack")
def _(t: Translation, lu: Value, pivots: Value, data: bool = True, permutation: bool = True) -> tuple[Value, ...]:
    none = t.constant(np.zeros(0), t.dtype(lu))
    if _is_empty(t, lu):
        return tuple(_nothing(t, i) for i in range(3))
    low, up = _halves(t, lu, t.out[1], t.out[2]) if data else (none, none)
    if not permutation:
        return none, low, up
    return t.cast(_permutation(t, _order(t, pivots, lu)), t.dtype(lu)), low, up


def _order(t: Translation, pivots: Value, lu: Value) -> Value:
    """Where each row came from, by LAPACK's exchanges (from 1), one after another: (..., k) to (..., m)."""
    m = Matrices(t.b)
    rows = m.count(m.size(lu, -2))
    # Only the shape of a row for each matrix is wanted.
    start = t.expand(rows, t.shape(lu)[:-1])
    swaps = t.b.Sub(t.cast(pivots, dtypes.INT64), t.constant(1, dtypes.INT64))

    def step(i: Matrices, k: Value, states: list[Value]) -> list[Value]:
        other = i.standing(i.column(swaps, k))
        moved = i.b.Where(i.at(rows, k), other, i.b.Where(i.b.Equal(rows, other), k, rows))
        return [i.b.GatherElements(states[0], i.b.Expand(moved, i.b.Shape(states[0])), axis=-1)]

    return factors.loop(m, m.size(pivots, -1), [start], step)[0]


@aten("linalg_lu_solve")
def _(t: Translation, lu: Value, pivots: Value, b: Value, *, left: bool = True, adjoint: bool = False) -> Value:
    if _is_empty(t, lu, b):
        return _nothing(t)
    m, x = _wide(t, lu)
    right = t.cast(b, dtypes.DOUBLE)
    low = t.b.Add(_triangle(t, x, False, -1), m.eye(x, -2, -1))
    p = m.cast(_permutation(t, _order(t, pivots, lu)))
    a = m.product(p, m.product(low, _triangle(t, x, True)))
    a = m.turned(a) if adjoint else a
    made = factors.solve(m, a, right) if left else m.turned(factors.solve(m, m.turned(a), m.turned(right)))
    return t.cast(made, t.dtype(b))


def _diagonal(t: Translation, m: Matrices, a: Value) -> Value:
    return m.sum(t.b.Where(t.b.Equal(m.standing(m.count(m.size(a, -2))), m.count(m.size(a, -1))), a, m.number(0.0)), -1)


@aten("_linalg_det")
def _(t: Translation, a: Value) -> tuple[Value, ...]:
    if _is_empty(t, a):
        return t.expand(t.scalar(1, a), t.out_shape), a, _nothing(t, 2)
    m, x = _wide(t, a)
    lu, _, swaps = factors.lu(m, x)
    product = t.reduce("ReduceProd", _diagonal(t, m, lu), [t.rank(a) - 2], False)
    made = m.mul(product, factors.sign_of(m, swaps))
    return t.cast(made, t.dtype(a)), t.cast(lu, t.dtype(a)), _pivots(t, swaps)


@aten("_linalg_slogdet")
def _(t: Translation, a: Value) -> tuple[Value, ...]:
    if _is_empty(t, a):
        one, zero = (t.expand(t.scalar(n, a), t.out_shape) for n in (1, 0))
        return one, zero, a, _nothing(t, 3)
    m, x = _wide(t, a)
    lu, _, swaps = factors.lu(m, x)
    diagonal = _diagonal(t, m, lu)
    sign = m.mul(t.reduce("ReduceProd", t.b.Sign(diagonal), [t.rank(a) - 2], False), factors.sign_of(m, swaps))
    log = m.sum(m.op("Log", m.op("Abs", diagonal)), -1)
    return t.cast(sign, t.dtype(a)), t.cast(log, t.dtype(a)), t.cast(lu, t.dtype(a)), _pivots(t, swaps)


# QR

def _q(t: Translation, m: Matrices, vectors: Value, taus: Value, columns: Any) -> Value:
    """The first columns of Q."""
    rows = m.count(m.size(vectors, -2))
    eye = m.cast(t.b.Equal(m.standing(rows), m.count(t.value(columns, dtypes.INT64))))
    start = t.expand(eye, (*t.shape(vectors)[:-1], columns))
    return factors.reflect(m, vectors, taus, start, False)


@aten("linalg_qr")
def _(t: Translation, a: Value, mode: str = "reduced") -> tuple[Value, Value]:
    if _is_empty(t, a):
        if mode == "complete" and t.shape(a)[-2] != 0:
            m = Matrices(t.b)
            return t.expand(t.cast(m.eye(a, -2, -2), t.dtype(a)), t.out_shape), _nothing(t, 1)
        return _nothing(t), _nothing(t, 1)
    m, x = _wide(t, a)
    packed, taus = factors.householder(m, x)
    shape = t.sizes.shape(t.out[1].shape)
    r = _triangle(t, t.slice(packed, len(shape) - 2, 0, shape[-2]), True)
    q = t.constant(np.zeros(0), t.dtype(a)) if mode == "r" else t.cast(
        _q(t, m, packed, taus, t.out_shape[-1]), t.dtype(a))
    return q, t.cast(r, t.dtype(a))


@aten("geqrf")
def _(t: Translation, a: Value) -> tuple[Value, Value]:
    if _is_empty(t, a):
        return a, _nothing(t, 1)
    m, x = _wide(t, a)
    packed, taus = factors.householder(m, x)
    return t.cast(packed, t.dtype(a)), t.cast(taus, t.dtype(a))


@aten("linalg_householder_product", "orgqr")
def _(t: Translation, a: Value, taus: Value) -> Value:
    if _is_empty(t, a, taus):
        m = Matrices(t.b)
        return t.expand(t.cast(m.eye(a, -2, -1), t.dtype(a)), t.out_shape)
    m, x = _wide(t, a)
    return t.cast(_q(t, m, x, t.cast(taus, dtypes.DOUBLE), t.shape(a)[-1]), t.dtype(a))


@aten("ormqr")
def _(t: Translation, a: Value, taus: Value, other: Value, left: bool = True, transpose: bool = False) -> Value:
    if _is_empty(t, a, taus, other):
        return other
    m, x = _wide(t, a)
    target = t.cast(other, dtypes.DOUBLE)
    target = target if left else m.turned(target)
    made = factors.reflect(m, x, t.cast(taus, dtypes.DOUBLE), target, transpose == left)
    return t.cast(made if left else m.turned(made), t.dtype(other))


# Spectra

def _svd(t: Translation, m: Matrices, x: Value, vectors: bool, full: bool) -> tuple[Value | None, Value, Value | None]:
    """U, the singular values, and V^T, of (..., m, n)."""
    shape = t.shape(x)
    rows, columns = shape[-2], shape[-1]
    tall = isinstance(rows, int) and isinstance(columns, int) and rows >= columns
    if not tall:
        known_size(t, rows, "the singular values")
        if not isinstance(columns, int) or columns < rows:    # type: ignore[operator]
            known_size(t, columns, "the singular values")
        u, s, vh = _svd(t, m, m.turned(x), vectors, full)
        return (None, s, None) if u is None or vh is None else (m.turned(vh), s, m.turned(u))
    n = known_size(t, columns, "the singular values")
    scaled, sizes, v = factors.singular(m, x, n)
    if not vectors:
        return None, sizes, None
    # Their directions; where a value is 0, whatever completes a basis: Q of the columns has both.
    directions = m.div(scaled, m.lying(m.safe(sizes)))
    packed, taus = factors.householder(m, directions)
    signs = _diagonal(t, m, t.slice(packed, t.rank(packed) - 2, 0, n))
    signs = m.where(m.less(signs, 0.0), -1.0, 1.0)
    u = _q(t, m, packed, taus, rows if full else n)
    if full and rows != n:
        pads = [0] * t.rank(signs)
        signs = t.b.Pad(signs, t.ints([*pads, *pads[:-1], int(rows) - n]), m.number(1.0))    # type: ignore[arg-type]
    return m.mul(u, m.lying(signs)), sizes, m.turned(v)


@aten("_linalg_svd")
def _(t: Translation, a: Value, full: bool = False, vectors: bool = True, *, driver: Any = None) -> tuple[Value, ...]:
    if _is_empty(t, a):
        if (not full and vectors) or not vectors:
            return _nothing(t), _nothing(t, 1), _nothing(t, 2)
        m = Matrices(t.b)
        eyes = [t.expand(t.cast(m.eye(a, axis, axis), t.dtype(a)), t.sizes.shape(t.out[i].shape))
                for i, axis in ((0, -2), (2, -1))]
        return eyes[0], _nothing(t, 1), eyes[1]
    m, x = _wide(t, a)
    u, s, vh = _svd(t, m, x, vectors, full)
    none = t.constant(np.zeros(0), t.dtype(a))
    return (none if u is None else t.cast(u, t.dtype(a)), t.cast(s, t.dtype(a)),
            none if vh is None else t.cast(vh, t.dtype(a)))


@aten("_linalg_eigh")
def _(t: Translation, a: Value, half: str = "L", vectors: bool = True) -> tuple[Value, ...]:
    if _is_empty(t, a):
        return _nothing(t), _nothing(t, 1)
    m, x = _wide(t, a)
    n = known_size(t, t.shape(a)[-1], "the eigenvalues")
    values, columns = factors.eigen(m, _symmetric(t, m, x, half.upper() == "U"), n)
    none = t.constant(np.zeros(0), t.dtype(a))
    return t.cast(values, t.dtype(a)), t.cast(columns, t.dtype(a)) if vectors else none


def _symmetric(t: Translation, m: Matrices, x: Value, upper: bool) -> Value:
    """From one half alone."""
    return t.b.Add(_triangle(t, x, upper), m.turned(_triangle(t, x, upper, 1 if upper else -1)))


def _pseudo_inverse(t: Translation, a: Value, atol: Any, rtol: Any, hermitian: bool) -> Value:
    """V diag(1 / s) U^T over the singular values that count: those above max(atol, rtol times the largest)."""
    if _is_empty(t, a):
        return _nothing(t)
    m, x = _wide(t, a)
    rows, columns = t.shape(a)[-2:]
    if rtol is None:
        eps = float(np.finfo(t.dtype(a).numpy).eps)
        if atol is None:
            rtol = m.mul(t.value(maximum(rows, columns), dtypes.DOUBLE), eps)
        elif isinstance(atol, Value):
            usual = m.mul(t.value(maximum(rows, columns), dtypes.DOUBLE), eps)
            rtol = m.where(m.op("Greater", t.cast(atol, dtypes.DOUBLE), 0.0), 0.0, usual)
        else:
            rtol = 0.0 if atol > 0 else m.mul(t.value(maximum(rows, columns), dtypes.DOUBLE), eps)
    low, share = (t.value(0.0 if v is None else v, dtypes.DOUBLE) for v in (atol, rtol))
    if hermitian:
        n = known_size(t, rows, "the pseudo-inverse")
        values, vectors = factors.eigen(m, _symmetric(t, m, x, False), n)
        sizes = m.op("Abs", values)
    else:
        u, sizes, vh = _svd(t, m, x, True, False)
        assert u is not None and vh is not None
        values, vectors = sizes, m.turned(vh)
    most = t.reduce("ReduceMax", sizes, [t.rank(sizes) - 1], True)
    low, share = (m.standing(v) if t.rank(v) else v for v in (low, share))
    counts = m.op("Greater", sizes, m.op("Max", low, m.mul(share, most)))
    inverse = m.where(counts, m.div(1.0, m.safe(values)), 0.0)
    right = m.turned(vectors if hermitian else u)    # type: ignore[arg-type]
    return t.cast(m.product(m.mul(vectors, m.lying(inverse)), right), t.dtype(a))


@aten("linalg_pinv.atol_rtol_tensor", "linalg_pinv.atol_rtol_float")
def _(t: Translation, a: Value, *, atol: Any = None, rtol: Any = None, hermitian: bool = False) -> Value:
    return _pseudo_inverse(t, a, atol, rtol, hermitian)


@aten("linalg_pinv", "linalg_pinv.rcond_tensor")
def _(t: Translation, a: Value, rcond: Any, hermitian: bool = False) -> Value:
    return _pseudo_inverse(t, a, 0.0, rcond, hermitian)


@aten("pinverse")
def _(t: Translation, a: Value, rcond: Any = 1e-15) -> Value:
    return _pseudo_inverse(t, a, 0.0, rcond, False)


@aten("gesher::lstsq")
def _(t: Translation, a: Value, b: Value, rcond: float | None, driver: str) -> tuple[Value | None, ...]:
    """Of the smallest among the nearest solutions: V diag(1 / s) U^T b, over the singular values that count."""
    vector = t.rank(b) == 1 or (t.rank(b) == t.rank(a) - 1 and list(t.shape(b)) == list(t.shape(a)[:-1]))
    if _is_empty(t, a, b):
        raise UnsupportedError("least squares of nothing have no way to ONNX", who="torch")
    m, x = _wide(t, a)
    rows, columns = t.shape(a)[-2:]
    right = t.cast(b, dtypes.DOUBLE)
    right = m.standing(right) if vector else right
    u, sizes, vh = _svd(t, m, x, True, False)
    assert u is not None and vh is not None
    if driver == "gels":    # which takes every rank for full
        counts = m.op("Greater", sizes, 0.0)
    else:
        # What is negative stands for the precision of the type.
        precise = float(np.finfo(t.dtype(a).numpy).eps)
        share = m.mul(t.value(maximum(rows, columns), dtypes.DOUBLE), precise) if rcond is None else \
            t.value(precise if rcond < 0 else rcond, dtypes.DOUBLE)
        counts = m.op("Greater", sizes, m.mul(share, t.reduce("ReduceMax", sizes, [t.rank(sizes) - 1], True)))
    inverse = m.where(counts, m.div(1.0, m.safe(sizes)), 0.0)
    solution = m.product(m.turned(vh), m.mul(m.standing(inverse), m.product(m.turned(u), right)))
    left: Value | None = _nothing(t, 1)
    if driver == "gels" and 0 not in t.sizes.shape(t.out[1].shape):
        gap = m.sub(m.product(x, solution), right)
        left = t.cast(m.sum(m.mul(gap, gap), -2), t.dtype(a))
    elif driver in ("gelss", "gelsd") and 0 not in t.sizes.shape(t.out[1].shape):
        left = None    # whether there are any hangs on the ranks
    rank = _nothing(t, 2) if driver == "gels" else t.reduce(
        "ReduceSum", t.cast(counts, dtypes.INT64), [t.rank(counts) - 1], False)
    solution = t.squeeze(solution, [t.rank(solution) - 1]) if vector else solution
    return (t.cast(solution, t.dtype(a)), left, rank,
            t.cast(sizes, t.dtype(a)) if driver in ("gelss", "gelsd") else _nothing(t, 3))


# Functions of matrices

@aten("linalg_matrix_exp", "matrix_exp")
def _(t: Translation, a: Value) -> Value:
    """Taylor's series of A / 2^s, then squared s times: section 9.3."""
    if _is_empty(t, a):
        return a
    m, x = _wide(t, a)
    norm = t.reduce("ReduceMax", m.sum(m.op("Abs", x), -1), None, False)
    halvings = m.op("Ceil", m.op("Max", m.div(m.op("Log", m.op("Max", m.mul(norm, 4.0), 1.0)), math.log(2)), 0.0))
    x = m.div(x, m.op("Pow", 2.0, halvings))
    eye = m.eye(x, -2, -1)
    made: Value = t.expand(eye, t.shape(a))
    for k in reversed(range(1, 17)):
        made = m.add(m.mul(m.product(x, made), 1 / k), eye)
    done = factors.loop(m, t.cast(halvings, dtypes.INT64), [made], lambda i, k, s: [i.product(s[0], s[0])])[0]
    return t.cast(done, t.dtype(a))


@aten("linalg_cross")
def _(t: Translation, a: Value, b: Value, *, dim: int = -1) -> Value:
    a, b = t.cast(a, t.out_dtype), t.cast(b, t.out_dtype)
    axis = t.axis(dim, len(t.out_shape))
    a, b = t.expand(a, t.out_shape), t.expand(b, t.out_shape)

    def moved(x: Value, order: Sequence[int]) -> Value:
        return t.b.Gather(x, t.ints(order), axis=axis)

    return t.b.Sub(t.b.Mul(moved(a, [1, 2, 0]), moved(b, [2, 0, 1])), t.b.Mul(moved(a, [2, 0, 1]), moved(b, [1, 2, 0])))
