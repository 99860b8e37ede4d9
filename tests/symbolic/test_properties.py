"""What holds for every expression: drawn at random, held against plain Python integers."""

from __future__ import annotations

import random

import pytest
from tests.symbolic.drawn_expressions import BY_NAME, SYMBOLS, draw, draw_values

from gesher.symbolic import Dim, bounds, decide_eq, decide_ge, evaluate, parse, printable, substitute

SEEDS = range(4)


@pytest.fixture
def count(run_all: bool) -> int:
    """How many expressions a test draws."""
    return 10_000 if run_all else 1200


def drawn(seed: int, count: int, depth: int = 4):
    rng = random.Random(seed)
    for _ in range(count):
        try:
            yield rng, draw(rng, rng.randint(1, depth))
        except ZeroDivisionError:
            continue  # it says x // 0, so there is no expression


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_no_rewrite_changes_a_value(seed, count):
    compared = 0
    for rng, x in drawn(seed, count):
        for _ in range(8):
            values = draw_values(rng)
            try:
                expected = x.meaning(values)
            except ZeroDivisionError:
                continue
            assert evaluate(x.dim, values) == expected, (str(x.dim), values)
            compared += 1
    assert compared > count


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_quotient_by_zero_alone_is_never_cancelled(seed, count):
    """Sums take divisions as defined; a division by itself keeps its error."""
    rng = random.Random(seed)
    met = 0
    for _ in range(count):
        try:
            x, y = draw(rng, 2), draw(rng, 2)
            quotient = x.dim // y.dim
        except ZeroDivisionError:
            continue
        values = draw_values(rng)
        try:
            x.meaning(values)
            divisor = y.meaning(values)
        except ZeroDivisionError:
            continue
        if divisor == 0:
            met += 1
            with pytest.raises(ZeroDivisionError):
                evaluate(quotient, values)
    assert met > count // 100


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_values_lie_within_the_bounds(seed, count):
    for rng, x in drawn(seed + 1000, count):
        lo, hi = bounds(x.dim)
        for _ in range(8):
            try:
                value = x.meaning(draw_values(rng))
            except ZeroDivisionError:
                continue
            assert lo is None or lo <= value, (str(x.dim), lo, value)
            assert hi is None or value <= hi, (str(x.dim), hi, value)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_printed_is_read_back(seed, count):
    read = 0
    for _, x in drawn(seed + 2000, count):
        if printable(x.dim):
            assert parse(str(x.dim), BY_NAME) == x.dim, str(x.dim)
            read += 1
    assert read > count * 3 // 4


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_substituting_first_gives_the_same_value(seed, count):
    for rng, x in drawn(seed + 3000, count // 3, depth=3):
        values = draw_values(rng)
        try:
            expected = x.meaning(values)
        except ZeroDivisionError:
            continue
        some = {symbol: values[symbol.name] for symbol in SYMBOLS if rng.random() < 0.5}
        try:
            rest = substitute(x.dim, some)
        except ZeroDivisionError:
            pytest.fail(f"{x.dim} has a value, but not after {some}")
        assert evaluate(rest, values) == expected, (str(x.dim), some, values)
        if len(some) == len(SYMBOLS):
            assert type(rest) is int


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_decided_is_so(seed, count):
    decided = 0
    for rng, x in drawn(seed + 4000, count // 3, depth=2):
        try:
            y = draw(rng, 2)
            equal, at_least = decide_eq(x.dim, y.dim), decide_ge(x.dim, y.dim)
        except ZeroDivisionError:
            continue
        decided += at_least is not None
        for _ in range(12):
            values = draw_values(rng)
            try:
                left, right = x.meaning(values), y.meaning(values)
            except ZeroDivisionError:
                continue
            assert equal in (None, left == right), (str(x.dim), str(y.dim), values)
            assert at_least in (None, left >= right), (str(x.dim), str(y.dim), values)
    assert decided > count // 60


@pytest.mark.parametrize("seed", range(3))
def test_ring_laws_give_the_same_object(seed):
    for rng, x in drawn(seed + 5000, 400, depth=2):
        try:
            y, z = draw(rng, 2), draw(rng, 2)
        except ZeroDivisionError:
            continue
        a, b, c = x.dim, y.dim, z.dim
        if not all(isinstance(d, Dim) for d in (a, b, c)):
            continue
        assert (a + b) + c == a + (b + c)
        assert a + b == b + a
        assert a * b == b * a
        assert (a * b) * c == a * (b * c)
        assert a * (b + c) == a * b + a * c
        assert a - a == 0
        assert a + b - b == a


def test_sympy_agrees_on_polynomials():
    sympy = pytest.importorskip("sympy", reason="sympy is the oracle here")
    rng = random.Random(6)
    for _ in range(150):
        terms = [(rng.randint(-4, 4), [rng.choice(list(SYMBOLS)) for _ in range(rng.randint(0, 3))]) for _ in range(4)]
        others = [(rng.randint(-4, 4), [rng.choice(list(SYMBOLS)) for _ in range(rng.randint(0, 2))]) for _ in range(3)]

        def ours(terms):
            total = 0
            for c, factors in terms:
                for factor in factors:
                    c = c * factor
                total = total + c
            return total

        def theirs(terms):
            return sum((c * sympy.prod([sympy.Symbol(f.name) for f in factors]) for c, factors in terms),
                       sympy.Integer(0))

        product = sympy.expand(theirs(terms) * theirs(others))
        assert parse(str(product), BY_NAME) == ours(terms) * ours(others)
