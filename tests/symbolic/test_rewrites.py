"""Rewrites that a person can read: what is built on the left, what it is written as on the right."""

from __future__ import annotations

import pytest

from gesher.symbolic import (
    Dim,
    bcast,
    ceil_div,
    exact_div,
    floordiv,
    maximum,
    minimum,
    mod,
    product,
    sym,
    total,
    trunc_div,
)

h, k, m, n, p, d = (sym(name) for name in "hkmnpd")     # at least 0
u, v = sym("u", min=1), sym("v", min=1)                 # at least 1
z = sym("z", min=None)                                  # of any sign
few = sym("few", max=3)
big = sym("big", min=2)

SUMS = [
    (n - n, "0"),
    (n + 0, "n"),
    (0 - n, "-n"),
    (-n * -1, "n"),
    (n + n, "2*n"),
    (2 * n - n, "n"),
    (1 - n, "1 - n"),
    (n - 1 + 1, "n"),
    (m + n - (n + m), "0"),
    (-n + m, "m - n"),
    (total([n, 3, m, n, -3]), "m + 2*n"),
    (total([]), "0"),
]
PRODUCTS = [
    (n * 0, "0"),
    (1 * n, "n"),
    (n * m - m * n, "0"),
    ((n + 1) * m - m, "m*n"),
    ((n + 1) * (n - 1), "n*n - 1"),
    ((n + m) * (n + m), "m*m + 2*m*n + n*n"),
    (n ** 3, "n*n*n"),
    (n ** 0, "1"),
    (product([2, n, 3, m]), "6*m*n"),
    (product([]), "1"),
    (product([n, 0, m]), "0"),
]
QUOTIENTS = [
    (n // 1, "n"),
    (n // -1, "-n"),
    ((4 * n) // 4, "n"),
    ((2 * n + 1) // 2, "n"),
    ((2 * n - 1) // 2, "n - 1"),
    ((4 * n + 2 * m) // 2, "m + 2*n"),
    ((4 * n + m) // 4, "n + m//4"),
    ((3 * n) // 2, "n + n//2"),
    ((6 * n) // 4, "n + n//2"),
    ((6 * n + 9) // 12, "(n + 1)//2"),
    ((n // 2) // 2, "n//4"),
    ((n // 2 + 1) // 2, "(n + 2)//4"),
    ((n // 2 + m) // 3, "(2*m + n)//6"),
    (((n + 1) // 2 + 1) // 2, "(n + 3)//4"),
    (n // m // k, "n//(k*m)"),
    ((-n) // 2, "-((n + 1)//2)"),
    (n // -2, "-((n + 1)//2)"),
    (-((-n) // 2), "(n + 1)//2"),
    ((n - 1) // 2 + 1, "(n + 1)//2"),
    (few // 4, "0"),
    ((few + 8) // 4, "2"),
    ((n % 4) // 4, "0"),
    ((n % m) // m, "0"),                    # where m is 0, n % m is an error already
    ((n % u) // u, "0"),
    ((n - n % 4) // 4, "n//4"),
    ((n * m) // n, "m*n//n"),               # n may be 0
    ((u * m) // u, "m"),
    ((u * m + u) // u, "m + 1"),
    ((u * m + 1) // u, "m + 1//u"),
    ((n * m + 1) // n, "m + 1//n"),         # 1//n fails for 0 as well
    ((n * u) // (m * u), "n//m"),
    ((n * k) // (m * k), "k*n//(k*m)"),
    ((2 * n) // (2 * m), "n//m"),
    ((2 * n + 1) // (2 * m), "n//m"),
    ((n * u + n) // (u + 1), "n"),
    ((n * n - 1) // (n + 1), "n - 1"),
    (n // n, "n//n"),
    (u // u, "1"),
    (0 // n, "0//n"),
    (0 // u, "0"),
    (u // (u + 1), "0"),
    ((-u) // (u + 1), "-1"),
    (exact_div(n * m, n), "m"),
    (exact_div(6 * n * m, 3 * n * m), "2"),
    (exact_div(n * m * 5, m * k), "5*n//k"),
    (ceil_div(n, 4), "(n + 3)//4"),
    (ceil_div(4 * n, 4), "n"),
    (ceil_div(n, u), "-(-n//u)"),
    (trunc_div(n, 2), "n//2"),
    (trunc_div(-n, 2), "-(n//2)"),
    (trunc_div(n, -2), "-(n//2)"),
    (trunc_div(z, 2), "max(z, 0)//2 + (min(z, 0) + 1)//2"),
    (floordiv(7, 2), "3"),
    (floordiv(-7, 2), "-4"),
    (trunc_div(-7, 2), "-3"),
    (ceil_div(-7, 2), "-3"),
]
REMAINDERS = [
    (n % 1, "0"),
    (n % -1, "0"),
    ((4 * n) % 4, "0"),
    ((4 * n + 3) % 4, "3"),
    ((5 * n) % 4, "n % 4"),
    ((4 * n) % 8, "4*(n % 2)"),
    ((4 * n + 5) % 8, "4*((n + 1) % 2) + 1"),
    ((n % 8) % 4, "n % 4"),
    ((n % 4) % 8, "n % 4"),
    ((n + 2 * (m % 4)) % 8, "(2*m + n) % 8"),
    (n % -4, "-(3*n % 4)"),
    (few % 4, "few"),
    ((few + 4) % 4, "few"),
    ((n * m) % n, "m*n % n"),
    ((u * m) % u, "0"),
    ((u * m + few) % u, "few % u"),
    ((n * u) % (m * u), "u*(n % m)"),
    ((2 * n) % (2 * m), "2*(n % m)"),
    (n % (n + 1), "n"),
    (4 * (n // 4) + n % 4, "n"),
    (n - 4 * (n // 4), "n % 4"),
    (2 * n - 8 * (n // 4), "2*(n % 4)"),
    (m * (n // m) + n % m, "n"),
    (mod(7, -2), "-1"),
]
EXTREMES = [
    (maximum(n), "n"),
    (maximum(n, 0), "n"),
    (minimum(n, 0), "0"),
    (maximum(n, -3), "n"),
    (maximum(u, 1), "u"),
    (maximum(n, 1), "max(n, 1)"),
    (maximum(n, n), "n"),
    (maximum(n + 1, n + 3), "n + 3"),
    (minimum(n + 1, n + 3), "n + 1"),
    (maximum(n + 1, m + 1), "max(m, n) + 1"),
    (maximum(n + k, m + k), "k + max(m, n)"),
    (maximum(2 * n, 4), "2*max(n, 2)"),
    (maximum(2 * n, 2 * m), "2*max(m, n)"),
    (maximum(n, m, n, 0), "max(m, n)"),
    (maximum(maximum(n, m), k), "max(k, m, n)"),
    (maximum(n, maximum(m + 1, k)), "max(k, m + 1, n)"),
    (maximum(n - 1, 0), "max(n, 1) - 1"),
    (maximum(5 - n, 0), "5 - min(n, 5)"),
    (minimum(-n, -m), "-max(m, n)"),
    (maximum(n, minimum(n, m)), "n"),
    (minimum(n, maximum(n, m)), "n"),
    (maximum(n - n // 2, 0), "n - n//2"),
    (maximum(n - minimum(n, 5), 0), "n - min(n, 5)"),
    (minimum(few, 3), "few"),
    (minimum(few, 2), "min(few, 2)"),
    (maximum(n * u - n, 0), "n*u - n"),
    (maximum(3, 1, 2), "3"),
    (maximum(n, m) - maximum(m, n), "0"),
]
BROADCASTS = [
    (bcast(n), "n"),
    (bcast(n, 1), "n"),
    (bcast(1, 1), "1"),
    (bcast(n, 5), "5"),
    (bcast(n, 0), "0"),
    (bcast(n, n), "n"),
    (bcast(n, m), "bcast(m, n)"),
    (bcast(m, n), "bcast(m, n)"),
    (bcast(n, bcast(m, k)), "bcast(k, m, n)"),
    (bcast(n, big), "big"),
    (bcast(n, n // 2 + n - n // 2), "n"),
]
SHAPES = [
    # Convolution: 3 wide, stride 2, padding 1; dilated, everything symbolic; 7 wide, stride 2, padding 3.
    ((h + 2 * 1 - 1 * (3 - 1) - 1) // 2 + 1, "(h + 1)//2"),
    ((h + 2 * p - d * (k - 1) - 1) // u + 1, "(d + h + 2*p - d*k - 1)//u + 1"),
    ((h + 6 - 7) // 2 + 1, "(h + 1)//2"),
    # Three of stride 2 in a row.
    ((((h - 1) // 2 + 1 - 1) // 2 + 1 - 1) // 2 + 1, "(h + 7)//8"),
    # Same padding keeps the size; padding up to a multiple of 32 and pooling down again.
    (h + 2 - 3 + 1, "h"),
    (ceil_div(h, 32) * 32 // 32, "(h + 31)//32"),
    # Transposed convolution undoes stride 2 on an even size.
    (2 * ((2 * h) // 2 - 1) + 2, "2*h"),
    # A reshape to (-1, 12, 64) of (batch, seq, 768).
    (exact_div(product([n, m, 768]), 12 * 64), "m*n"),
    # x[1:], x[:5], x[-3:], x[::2]
    (maximum(n - 1, 0), "max(n, 1) - 1"),
    (minimum(n, 5), "min(n, 5)"),
    (n - maximum(n - 3, 0), "n + 3 - max(n, 3)"),
    (ceil_div(n, 2), "(n + 1)//2"),
]


@pytest.mark.parametrize(("built", "written"), [
    *SUMS, *PRODUCTS, *QUOTIENTS, *REMAINDERS, *EXTREMES, *BROADCASTS, *SHAPES,
], ids=lambda x: str(x))
def test_written_as(built, written):
    assert str(built) == written
    assert isinstance(built, Dim) != written.lstrip("-").isdigit(), "constants are plain numbers"


def test_division_by_the_constant_zero_is_refused():
    for divide in (floordiv, mod, ceil_div, trunc_div, exact_div):
        with pytest.raises(ZeroDivisionError):
            divide(n, 0)
        with pytest.raises(ZeroDivisionError):
            divide(3, 0)
