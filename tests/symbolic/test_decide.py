"""Questions about two sizes, and bounds: a table of what must be decided."""

from __future__ import annotations

import pytest

from gesher.symbolic import (
    bcast,
    bounds,
    ceil_div,
    decide_eq,
    decide_ge,
    decide_gt,
    decide_le,
    decide_lt,
    fresh,
    maximum,
    minimum,
    same_shape,
    sym,
)

n, m, h, w = (sym(name) for name in "nmhw")
u, v = sym("u", min=1), sym("v", min=1)
z = sym("z", min=None)
few = sym("few", min=2, max=5)

EQUAL = [
    (2 * n, n + n, True),
    (n, n + 1, False),
    (n, 4, None),
    (n, m, None),
    (n, -1, False),
    (2 * n, 2 * m + 1, False),
    (6 * n + 4 * m, 8 * h + 3, False),
    (n // 2 + (n + 1) // 2, n, True),
    (n - n // 2, (n + 1) // 2, True),
    (ceil_div(n, 2), n - n // 2, True),
    (n // 3 + (n + 1) // 3 + (n + 2) // 3, n, True),
    (n % 2 + (n + 1) % 2, 1, True),
    ((n + m) // 2, (n - m) // 2 + m, True),
    (4 * (n // 4) + n % 4, n, True),
    (n // 2, m // 2, None),
    (n // 2, n // 3, None),
    (2 * (n // 2), 2 * (m // 2) + 1, False),
    ((n * n) % 4, 2, False),
    (z * z, -1, False),
    (few, 6, False),
    (few, 5, None),
    (maximum(n, 3), 2, False),
    (u * v, 0, False),
    (n * m, 0, None),
    (bcast(u, v), 0, False),
]


@pytest.mark.parametrize(("a", "b", "answer"), EQUAL, ids=str)
def test_decide_eq(a, b, answer):
    assert decide_eq(a, b) is answer
    assert decide_eq(b, a) is answer


AT_LEAST = [
    (n, 0, True),
    (n, 1, None),
    (u, 1, True),
    (z, 0, None),
    (n + m, n, True),
    (n, n + m + 1, False),
    (n, n // 2, True),
    (n, 2 * (n // 2), True),
    (2 * (n // 2) + 1, n, True),
    (n, n % 7, True),
    (n, minimum(n, 5), True),
    (maximum(n, 5), n, True),
    (maximum(n, m), minimum(n, m), True),
    (n + m, maximum(n, m), True),
    (u * n, n, True),
    (u * v, u + v - 1, True),
    (u * v - u, 0, True),
    (n * n, 0, True),
    (z * z, 0, True),
    (m * h, m * (h // 2), True),
    (h * w, (h // 2) * (w // 2), True),
    (few * n, 2 * n, True),
    (6 * n, few * n, True),
    (bcast(u, v), u, True),
    (ceil_div(n, 4) * 4, n, True),
    (n + 3, ceil_div(n, 4) * 4, True),
    (n, ceil_div(n, 4) * 4 + 1, False),
    (3, n % 4, True),
    (n % 4, 4, False),
    (u - 1, n % u, True),
    (n, n // u, True),
    (n // 2 + m // 3, (n + m) // 3 - 1, True),
]


@pytest.mark.parametrize(("a", "b", "answer"), AT_LEAST, ids=str)
def test_decide_ge_and_its_sisters(a, b, answer):
    opposite = None if answer is None else not answer
    assert decide_ge(a, b) is answer
    assert decide_le(b, a) is answer
    assert decide_lt(a, b) is opposite
    assert decide_gt(b, a) is opposite


BOUNDS = [
    (7, (7, 7)),
    (n, (0, None)),
    (z, (None, None)),
    (few, (2, 5)),
    (-few, (-5, -2)),
    (2 * few + 1, (5, 11)),
    (few * few, (4, 25)),
    (few - few // 2, (1, 3)),
    (few // 2, (1, 2)),
    (few % 4, (0, 3)),
    (few % 7, (2, 5)),
    (n % 4, (0, 3)),
    (n % u, (0, None)),
    (n % -4, (-3, 0)),
    (n // u, (0, None)),
    (-n // u, (None, 0)),
    (few // u, (0, 5)),
    (few // (u + 1), (0, 2)),
    (minimum(n, few), (0, 5)),
    (maximum(n, few), (2, None)),
    (bcast(u, v), (1, None)),
    (bcast(sym("s", max=1), n), (0, None)),
    (sym("q", min=-3, max=3) * sym("q", min=-3, max=3), (0, 9)),
    (u * v - u - v, (-1, None)),
    (n - minimum(n, 5), (0, None)),
]


@pytest.mark.parametrize(("d", "expected"), BOUNDS, ids=str)
def test_bounds(d, expected):
    assert bounds(d) == expected


def test_bounds_of_huge_numbers_are_no_trouble():
    d = 1 << 4000
    assert bounds(d * n - d * m) == (None, None)
    square = n + (1 << 200)
    for _ in range(20):
        square = square * square
    assert bounds(square)[1] is None
    assert decide_ge(square, 0) is True
    assert decide_eq(n + (1 << 4000), m) is None


def test_same_shape():
    x = fresh()
    assert same_shape((n, 3), (n, 3)) is True
    assert same_shape((n, 3), (n, 4)) is False
    assert same_shape((n, 3), (m, 3)) is None
    assert same_shape((n, 3), (m, 4)) is False
    assert same_shape((n,), (n, 1)) is False
    assert same_shape((), ()) is True
    assert same_shape((x,), (x,)) is True
    assert same_shape((x,), (fresh(),)) is None
