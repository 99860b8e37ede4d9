"""Between which numbers an expression lies: interval arithmetic over the bounds of its symbols.

Sums are looked at four ways, and the tightest answer counts: term by term; with every symbol counted from its lower
bound, or with what a symbol stands in taken together, which shows that `n*m - n` is not negative for m >= 1; and with
quotients, minima and maxima replaced by what they are surely below or above, which shows it for `n - n//2` and
`n - min(n, 5)`.
"""

from __future__ import annotations

from itertools import product as combinations
from math import gcd

from .dim import Dim, DimLike, Monomial, Terms

INFINITY = float("inf")
_FARTHEST = 1 << 256
_MOST_TERMS = 32
_MOST_TRIALS = 16


def bounds(d: DimLike) -> tuple[int | None, int | None]:
    """The smallest and the largest value that `d` can be shown to have; None where there is none.

    Example:
        >>> bounds(sym("n", max=7) // 2 + 1)
        (1, 4)
    """
    lo, hi = interval(d)
    return (None if lo == -INFINITY else int(lo)), (None if hi == INFINITY else int(hi))


def interval(d: DimLike) -> tuple[float, float]:
    """`bounds` with infinities for None. Finite ends are exact integers."""
    if not isinstance(d, Dim):
        return (d, d) if -_FARTHEST < d < _FARTHEST else _capped(d, d)
    if d._bounds is None:
        if d.op in ("add", "mul"):
            d._bounds = interval_of_terms(d._terms or {})
        else:
            d._bounds = _capped(*_interval_of_atom(d))
    return d._bounds


def zero_at_sight(d: DimLike) -> bool | None:
    """Whether `d` is always (True), never (False) or perhaps (None) 0, by bounds and common divisor alone."""
    if not isinstance(d, Dim):
        return d == 0
    lo, hi = interval(d)
    if lo > 0 or hi < 0:
        return False
    if lo == hi == 0:
        return True
    terms = _terms(d)
    # 2*n + 4*m is never 1.
    constant = terms.pop((), 0)
    return False if constant % gcd(*terms.values()) else None


def interval_of_terms(terms: Terms) -> tuple[float, float]:
    """The interval of a polynomial."""
    lo, hi = _plain(terms)
    if 1 < len(terms) <= _MOST_TERMS and _hang_together(terms):
        lo = max(lo, _search(terms, 1, frozenset(), [_MOST_TRIALS]))
        hi = min(hi, -_search({m: -c for m, c in terms.items()}, 1, frozenset(), [_MOST_TRIALS]))
    return _capped(lo, hi)


def _hang_together(terms: Terms) -> bool:
    """Whether there may be more to find than term by term."""
    # Not where everything is added and nothing negative, ...
    if not any(c < 0 or interval(atom)[0] < 0 for m, c in terms.items() for atom in m):
        return False
    # ... nor where no two terms share a symbol.
    seen: set[Dim] = set()
    for m in terms:
        symbols = _symbols(m)
        if not seen.isdisjoint(symbols):
            return True
        seen |= symbols
    return False


def _symbols(m: Monomial) -> set[Dim]:
    out: set[Dim] = set()
    for atom in m:
        if atom.op == "sym":
            out.add(atom)
        else:
            out |= atom.symbols()
    return out


def _capped(lo: float, hi: float) -> tuple[float, float]:
    """Numbers beyond 2**256 are as good as infinite, and squaring them again and again must stay cheap."""
    if lo < -_FARTHEST:
        lo = -INFINITY
    if hi > _FARTHEST:
        hi = INFINITY
    return min(lo, _FARTHEST), max(hi, -_FARTHEST)


def _times(x: float, y: float) -> float:
    return x * y if x and y else 0


def _interval_times(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    if a[0] >= 0 and b[0] >= 0:
        return _times(a[0], b[0]), _times(a[1], b[1])
    corners = [_times(x, y) for x, y in combinations(a, b)]
    return min(corners), max(corners)


def _interval_of_monomial(m: Monomial) -> tuple[float, float]:
    if len(m) == 1:
        return interval(m[0])
    out: tuple[float, float] = (1, 1)
    i = 0
    while i < len(m):
        n = i + 1
        while n < len(m) and m[n] is m[i]:
            n += 1
        lo, hi = interval(m[i])
        power: tuple[float, float] = (1, 1)
        for _ in range(n - i):
            power = _capped(*_interval_times(power, (lo, hi)))
        if (n - i) % 2 == 0 and lo < 0:
            power = (max(power[0], 0), power[1])
        out = _capped(*_interval_times(out, power))
        i = n
    return out


def _plain(terms: Terms) -> tuple[float, float]:
    lo: float = 0
    hi: float = 0
    for m, c in terms.items():
        if not -_FARTHEST < c < _FARTHEST:
            return -INFINITY, INFINITY
        if not m:
            lo += c
            hi += c
            continue
        a, b = _interval_of_monomial(m)
        if c < 0:
            a, b = b, a
        lo = lo + _times(c, a)
        hi = hi + _times(c, b)
    return lo, hi


def _search(terms: Terms, denominator: int, kept: frozenset[Monomial], trials: list[int]) -> float:
    """A lower bound of terms / denominator, with one compound factor after the other replaced or kept as it is."""
    trials[0] -= 1
    best = max(_plain(terms)[0], _counted_from_below(terms), _taken_together(terms))
    if best != -INFINITY:
        best = -(-int(best) // denominator)
    for m, c in terms.items():
        if m in kept or (place := _replaceable(m)) is None or trials[0] <= 0:
            continue
        atom, others = place
        symbols = atom.symbols()
        if all(m1 is m or symbols.isdisjoint(_symbols(m1)) for m1 in terms):
            continue
        alternatives, each_counts = _beyond(atom, c > 0)
        lows = []
        for replacement, k in alternatives:
            replaced = {m1: c1 * k for m1, c1 in terms.items() if m1 is not m}
            for m2, c2 in replacement.items():
                p = tuple(sorted(others + m2, key=_key))
                replaced[p] = replaced.get(p, 0) + c * c2
            lows.append(_search({m1: c1 for m1, c1 in replaced.items() if c1}, denominator * k, kept, trials))
        if lows:
            best = max(best, max(lows) if each_counts else min(lows))
        return max(best, _search(terms, denominator, kept | {m}, trials))
    return best


def _counted_from_below(terms: Terms) -> float:
    """The lower bound with each atom written as its own lower bound plus something not negative."""
    if not any(interval(atom)[0] for m in terms for atom in m):
        return -INFINITY
    shifted: dict[Monomial, int] = {}
    for m, c in terms.items():
        if len(m) > 4:
            return -INFINITY
        lows = []
        for atom in m:
            lo = interval(atom)[0]
            if lo == -INFINITY:
                return -INFINITY
            lows.append(int(lo))
        for picks in combinations((False, True), repeat=len(m)):
            weight = c
            for pick, lo in zip(picks, lows):
                if not pick:
                    weight *= lo
            if not -_FARTHEST < weight < _FARTHEST:
                return -INFINITY
            if weight:
                part = tuple(atom for pick, atom in zip(picks, m) if pick)
                shifted[part] = shifted.get(part, 0) + weight
    low: float = 0
    for m, c in shifted.items():
        if not m:
            low += c
        elif c < 0:
            high: float = 1
            for atom in m:
                lo, hi = interval(atom)
                high = _times(high, hi - lo)
            low += _times(c, high)
    return low


def _key(atom: Dim) -> tuple[int, int, str, int, int]:
    return atom._key


def _taken_together(terms: Terms) -> float:
    """The lower bound with everything that an atom stands in taken together: 6*n - m*n is n*(6 - m)."""
    counts: dict[Dim, int] = {}
    for m in terms:
        for atom in dict.fromkeys(m):
            counts[atom] = counts.get(atom, 0) + 1
    best = -INFINITY
    for atom, count in counts.items():
        if count < 2:
            continue
        factor: Terms = {}
        rest: Terms = {}
        for m, c in terms.items():
            if atom in m:
                i = m.index(atom)
                factor[m[:i] + m[i + 1:]] = c
            else:
                rest[m] = c
        best = max(best, _interval_times(interval(atom), _capped(*_plain(factor)))[0] + _plain(rest)[0])
    return best


def _replaceable(m: Monomial) -> tuple[Dim, Monomial] | None:
    """A compound factor whose cofactor is not negative, and that cofactor."""
    for i, atom in enumerate(m):
        if atom.op in ("floordiv", "mod", "min", "max", "bcast"):
            others = m[:i] + m[i + 1:]
            if _interval_of_monomial(others)[0] >= 0:
                return atom, others
    return None


def _beyond(atom: Dim, below: bool) -> tuple[list[tuple[Terms, int]], bool]:
    """Polynomials over integers that are never above the atom (`below`), or never below it.

    The second answer says whether each of them is that; else one of them is, depending on the symbols.
    """
    first = atom.args[0]
    if atom.op == "floordiv":
        by = atom.args[1]
        if not isinstance(by, Dim):
            return ([(_terms(first, 1 - by) if below else _terms(first), by)], True) if by > 0 else ([], True)
        if not below and interval(by)[0] >= 0 and interval(first)[0] >= 0:
            return [(_terms(first), 1)], True
        return [], True
    if atom.op == "mod":
        by = atom.args[1]
        if below or interval(by)[0] < 0:
            return [], True
        smaller = [(_terms(first), 1)] if interval(first)[0] >= 0 else []
        return [(_terms(by, -1), 1), *smaller], True
    each = [(_terms(x), 1) for x in atom.args]
    if atom.op == "bcast":
        return each, below and all(interval(x)[0] >= 1 for x in atom.args)
    return each, below == (atom.op == "max")


def _terms(x: DimLike, plus: int = 0) -> Terms:
    out: Terms = {}
    if not isinstance(x, Dim):
        out[()] = x
    elif x._terms is None:
        out[x,] = 1
    else:
        out.update(x._terms)
    out[()] = out.get((), 0) + plus
    return out


def _interval_of_atom(d: Dim) -> tuple[float, float]:
    ranges = [interval(x) for x in d.args]
    lows = [lo for lo, _ in ranges]
    highs = [hi for _, hi in ranges]
    if d.op == "min":
        return min(lows), min(highs)
    if d.op == "max":
        return max(lows), max(highs)
    if d.op == "bcast":
        return min(lows), max(highs)
    (xlo, xhi), (ylo, yhi) = ranges
    if d.op == "mod":
        if ylo >= 0:
            return 0, max(0, min(xhi, yhi - 1) if xlo >= 0 else yhi - 1)
        if yhi <= 0:
            return min(0, max(xlo, ylo + 1) if xhi <= 0 else ylo + 1), 0
        return min(0, ylo + 1), max(0, yhi - 1)
    # A quotient is farthest out at the ends of x over the divisors nearest to and farthest from 0, which is not one.
    divisors = [y for y in (ylo, yhi, 1, -1) if ylo <= y <= yhi and y]
    if not divisors:
        return -INFINITY, INFINITY
    corners = [_floor(x, y) for x in (xlo, xhi) for y in divisors]
    return min(corners), max(corners)


def _floor(x: float, y: float) -> float:
    if abs(x) == INFINITY:
        # Infinity over infinity: the divisor can be taken small, which other corners cover, or large: 0 or -1.
        if abs(y) == INFINITY:
            return 0 if (x > 0) == (y > 0) else -1
        return x if y > 0 else -x
    if abs(y) == INFINITY:
        return 0 if x == 0 or (x > 0) == (y > 0) else -1
    return int(x) // int(y)
