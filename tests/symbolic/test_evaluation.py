"""Numbers and expressions for symbols, and what is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gesher.base.errors import RunError
from gesher.symbolic import Contradiction, bcast, broadcast, evaluate, fresh, maximum, substitute, sym

n, m, k = sym("n"), sym("m"), sym("k")


def test_values_are_found_by_name_or_symbol():
    x = fresh("NonZero")
    assert evaluate(2 * n + m, {"n": 3, m: 4}) == 10
    assert evaluate(n, {"n": np.int64(3)}) == 3
    assert type(evaluate(n, {"n": np.int64(3)})) is int
    assert evaluate(x + 1, {x: 2}) == evaluate(x + 1, {x.name: 2}) == 3
    assert evaluate(5, {}) == 5
    assert evaluate(n, {"n": 1, "unused": 7}) == 1


def test_a_missing_value_is_named():
    with pytest.raises(RunError, match="dimension 'm' has no value") as e:
        evaluate(n + m, {"n": 1})
    assert "given for: n" in str(e.value)
    with pytest.raises(RunError, match="NonZero of 'mask'"):
        evaluate(fresh("NonZero of 'mask'"), {})


def test_values_outside_the_bounds_are_refused():
    with pytest.raises(RunError, match=r"'n' is at least 0, so it cannot be -1"):
        evaluate(n, {"n": -1})
    with pytest.raises(RunError, match="between 1 and 4"):
        evaluate(sym("x", min=1, max=4) + n, {"x": 5, "n": 1})
    with pytest.raises(ValueError, match="at least 0"):
        substitute(n, {n: -2})


def test_division_by_zero_is_an_error_with_the_divisor():
    with pytest.raises(ZeroDivisionError, match=r"n//m: the divisor m is 0"):
        evaluate(n // m, {"n": 3, "m": 0})
    with pytest.raises(ZeroDivisionError):
        evaluate(n % m, {"n": 3, "m": 0})
    with pytest.raises(ZeroDivisionError):
        substitute(n // m, {m: 0})


def test_numbers_beyond_all_sizes_are_refused():
    d = n
    for _ in range(60):
        d = d * d
    with pytest.raises(RunError, match="too large"):
        evaluate(d, {"n": 3})
    assert evaluate(d, {"n": 1}) == 1
    assert evaluate(d, {"n": 0}) == 0


def test_substitution_is_at_once_and_simplifies():
    assert substitute(2 * n + m, {n: m, m: n}) == 2 * m + n
    assert substitute((n + 1) // 2, {n: 2 * k}) == k
    assert substitute(maximum(n, m), {m: n + 1}) == n + 1
    assert substitute(n * m, {n: 0}) == 0
    assert substitute(7, {n: 1}) == 7
    assert substitute(n, {}) is n


def test_only_symbols_are_substituted():
    with pytest.raises(ValueError, match="replaces symbols"):
        substitute(n + 1, {n + 1: 3})


@pytest.mark.parametrize(("a", "b"), list(itertools.product((0, 1, 2, 3), repeat=2)))
def test_bcast_is_the_rule_of_broadcasting(a, b):
    d = bcast(n, m)
    values = {"n": a, "m": b}
    legal = a == b or 1 in (a, b)
    if legal:
        expected = np.broadcast_shapes((a,), (b,))[0]
        assert evaluate(d, values) == expected
        assert substitute(d, {n: a, m: b}) == expected
        assert substitute(substitute(d, {n: a}), {m: b}) == expected
        assert broadcast(a, b) == expected
        first, second = (values[x.name] for x in d.args)
        assert (second if first == 1 else first) == expected, "what C computes"
    else:
        with pytest.raises(RunError, match="do not broadcast"):
            evaluate(d, values)
        with pytest.raises(Contradiction, match="do not broadcast"):
            substitute(d, {n: a, m: b})
        with pytest.raises(Contradiction, match="do not broadcast"):
            broadcast(a, b)


@pytest.mark.parametrize("sizes", [s for s in itertools.product((0, 1, 4), repeat=3) if len(set(s) - {1}) <= 1])
def test_bcast_of_three(sizes):
    expected = np.broadcast_shapes(*((s,) for s in sizes))[0]
    assert evaluate(bcast(bcast(n, m), k), dict(zip("nmk", sizes))) == expected
