"""Sums and products: every expression is a polynomial with integer coefficients over atoms.

`terms_of(x)` is that polynomial, `{(): 1, (n,): 2, (n, m): -3}` for `1 + 2*n - 3*n*m`; `from_terms` makes the
canonical expression of one. Products of sums are multiplied out, so that `(n + 1)*m - m` is `n*m`, until that would
give more than `MOST_TERMS` terms or a degree above `HIGHEST_DEGREE`; from there the factors are kept as they are.
Nothing is lost then but the guarantee that equal expressions are written alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import gcd

from .dim import Dim, DimLike, Monomial, Terms, _node, dimlike

MOST_TERMS = 128
HIGHEST_DEGREE = 1024


def terms_of(x: DimLike) -> Terms:
    """The polynomial that `x` is. Not to be changed by the caller."""
    if not isinstance(x, Dim):
        return {(): x} if x else {}
    # An atom's polynomial is not kept, since it would hold the atom itself and so keep it alive in a cycle.
    return {(x,): 1} if x._terms is None else x._terms


def key_of(atom: Dim) -> tuple[int, int, str, int, int]:
    """Orders atoms: symbols by name, then anonymous ones, then compound ones by size."""
    return atom._key


def _term_order(m: Monomial) -> tuple[bool, int, list[tuple[int, int, str, int, int]]]:
    return not m, -len(m), [atom._key for atom in m]


def monomial(*factors: Dim) -> Monomial:
    """The product of atoms, in canonical order."""
    return tuple(sorted(factors, key=key_of))


def _times(m1: Monomial, m2: Monomial) -> Monomial:
    if not m1:
        return m2
    if not m2:
        return m1
    return tuple(sorted(m1 + m2, key=key_of))


def from_terms(terms: Terms) -> DimLike:
    """The canonical expression of a polynomial; an `int` when it is constant. Takes `terms` over."""
    tidy = True
    for m, c in terms.items():
        if not c:
            tidy = False
            break
        for atom in m:
            if atom._key[0] == 2 and (atom.op in ("mod", "floordiv") or atom._terms is not None):
                tidy = False
                break
    if not tidy:
        terms = _spread({m: c for m, c in terms.items() if c})
        terms = division.join_quotients(terms)
    if not terms:
        return 0
    if len(terms) == 1:
        (m, c), = terms.items()
        return _term(m, c, terms)
    order = sorted(terms, key=_term_order)
    ordered = {m: terms[m] for m in order}
    d = _node("add", tuple(_term(m, c) for m, c in ordered.items()))
    if d._terms is None:
        d._terms = ordered
    return d


def _term(m: Monomial, c: int, terms: Terms | None = None) -> DimLike:
    if not m:
        return c
    if len(m) == 1 and c == 1:
        return m[0]
    d = _node("mul", m if c == 1 else (c, *m))
    if d._terms is None:
        d._terms = {m: c} if terms is None else terms
    return d


def _kept_size(m: Monomial) -> int:
    """How many terms the factors that were not multiplied out would give; 0 without such factors."""
    size = 0
    for atom in m:
        if atom._terms is not None:
            size = max(size, 1) * len(atom._terms)
    return size


def _spread(terms: Terms) -> Terms:
    """Multiply out what no longer is too long for it, because a factor was divided away."""
    if not any(0 < _kept_size(m) <= MOST_TERMS and sum(_degrees(m)) <= HIGHEST_DEGREE for m in terms):
        return terms
    out: Terms = {}
    for m, c in terms.items():
        parts: Terms = {(): c}
        if 0 < _kept_size(m) <= MOST_TERMS and sum(_degrees(m)) <= HIGHEST_DEGREE:
            for atom in m:
                parts = _times_out(parts, terms_of(atom))
        else:
            parts = {m: c}
        for m1, c1 in parts.items():
            out[m1] = out.get(m1, 0) + c1
    return _spread({m: c for m, c in out.items() if c})


def _degrees(m: Monomial) -> list[int]:
    return [1 if atom._terms is None else max(map(len, atom._terms)) for atom in m]


def _times_out(xs: Terms, ys: Terms) -> Terms:
    out: Terms = {}
    for m1, c1 in xs.items():
        for m2, c2 in ys.items():
            m = _times(m1, m2)
            out[m] = out.get(m, 0) + c1 * c2
    return out


def add(x: DimLike, y: DimLike) -> DimLike:
    """x + y."""
    if not isinstance(y, Dim) and not y:
        return x
    out = dict(terms_of(x))
    for m, c in terms_of(y).items():
        out[m] = out.get(m, 0) + c
    return from_terms(out)


def subtract(x: DimLike, y: DimLike) -> DimLike:
    """x - y."""
    if x is y:
        return 0
    out = dict(terms_of(x))
    for m, c in terms_of(y).items():
        out[m] = out.get(m, 0) - c
    return from_terms(out)


def negate(x: DimLike) -> DimLike:
    """-x."""
    return from_terms({m: -c for m, c in terms_of(x).items()})


def multiply(x: DimLike, y: DimLike) -> DimLike:
    """x * y."""
    xs, ys = terms_of(x), terms_of(y)
    if not xs or not ys:
        return 0
    if max(map(len, xs)) + max(map(len, ys)) > HIGHEST_DEGREE:
        return from_terms(_product_of_factors(_whole(x), _whole(y)))
    if len(xs) > 1 and len(ys) > 1:
        apart = len(xs) * len(ys) > MOST_TERMS
    else:
        # A product that was not multiplied out takes a sum as one more factor.
        single, other = (xs, ys) if len(xs) == 1 else (ys, xs)
        apart = len(other) > 1 and any(map(_kept_size, single))
    if apart:
        return from_terms(_product_of_factors(_factors(xs), _factors(ys)))
    return from_terms(_times_out(xs, ys))


def _product_of_factors(x: tuple[Monomial, int], y: tuple[Monomial, int]) -> Terms:
    return {_times(x[0], y[0]): x[1] * y[1]}


def _factors(terms: Terms) -> tuple[Monomial, int]:
    """A polynomial as factors not to be multiplied out; a sum gives what its terms have in common, and the rest."""
    if len(terms) == 1:
        (m, c), = terms.items()
        return m, c
    g = content(terms)
    if next(iter(terms.values())) < 0:
        g = -g
    common = common_factor(terms)
    rest = from_terms({without(m, common) or (): c // g for m, c in terms.items()})
    assert isinstance(rest, Dim)
    return monomial(*common, rest), g


def _whole(x: DimLike) -> tuple[Monomial, int]:
    """`x` as one factor, whatever it is made of."""
    terms = terms_of(x)
    if len(terms) > 1:
        return _factors(terms)
    (m, c), = terms.items()
    if len(m) <= 1:
        return m, c
    atom = _term(m, 1)
    assert isinstance(atom, Dim)
    return (atom,), c


def power(x: DimLike, exponent: int) -> DimLike:
    """x ** exponent.

    Raises:
        ValueError: the exponent is negative.
    """
    if exponent < 0:
        raise ValueError(f"({x}) ** {exponent} is not an integer")
    result: DimLike = 1
    square = x
    while exponent:
        if exponent & 1:
            result = result * square
        exponent >>= 1
        if exponent:
            square = square * square
    return result


def total(xs: Iterable[DimLike]) -> DimLike:
    """The sum; 0 of nothing. Linear in the number of terms, which adding one by one is not."""
    out: Terms = {}
    for x in xs:
        for m, c in terms_of(dimlike(x)).items():
            out[m] = out.get(m, 0) + c
    return from_terms(out)


def product(xs: Iterable[DimLike]) -> DimLike:
    """The product; 1 of nothing: the number of elements of a shape.

    Example:
        >>> product([2, sym("n"), 3])
        Dim('6*n')
    """
    result: DimLike = 1
    for x in xs:
        x = dimlike(x)
        result = x if result == 1 and type(result) is int else result * x
    return result


def content(terms: Terms, *, constant: bool = True) -> int:
    """The greatest common divisor of the coefficients, with or without the constant term's."""
    g = 0
    for m, c in terms.items():
        if m or constant:
            g = gcd(g, c)
            if g == 1:
                break
    return g


def scaled(terms: Terms, numerator: int, denominator: int = 1) -> Terms:
    """Every coefficient times numerator/denominator, which must come out even."""
    return {m: c * numerator // denominator for m, c in terms.items()}


def without(m: Monomial, divisor: Monomial) -> Monomial | None:
    """m / divisor, None where it does not divide."""
    if len(divisor) == 1:
        if divisor[0] not in m:
            return None
        i = m.index(divisor[0])
        return m[:i] + m[i + 1:]
    rest = list(m)
    for atom in divisor:
        if atom not in rest:
            return None
        rest.remove(atom)
    return tuple(rest)


def primitive(d: Dim) -> tuple[Dim, int, int]:
    """core, g, plus with d == g*core + plus: core has no constant, no common divisor, and a positive first term."""
    terms = terms_of(d)
    plus = terms.get((), 0)
    rest = {m: c for m, c in terms.items() if m}
    g = content(rest)
    if next(iter(rest.values())) < 0:
        g = -g
    core = from_terms({m: c // g for m, c in rest.items()})
    assert isinstance(core, Dim)
    return core, g, plus


def common_factor(terms: Terms) -> Monomial:
    """The atoms (with repetition) that divide every term."""
    common: list[Dim] | None = None
    for m in terms:
        if common is None:
            common = list(m)
        else:
            left = list(m)
            kept = []
            for atom in common:
                if atom in left:
                    left.remove(atom)
                    kept.append(atom)
            common = kept
        if not common:
            return ()
    return tuple(common or ())


def divide_out(terms: Terms, divisor: Terms) -> Terms | None:
    """The quotient when polynomial `divisor` divides polynomial `terms` without remainder, else None."""
    if len(divisor) == 1:
        (m, c), = divisor.items()
        out: Terms = {}
        for m1, c1 in terms.items():
            q = without(m1, m) if m else m1
            if q is None or c1 % c:
                return None
            out[q] = c1 // c
        return out
    lead = min(divisor, key=_term_order)
    lead_c = divisor[lead]
    rest = dict(terms)
    quotient: Terms = {}
    # Each step removes the leading term in an order that multiplication respects, so it ends; a remainder's
    # first term that does not divide ends it sooner.
    while rest:
        top = min(rest, key=_term_order)
        q = without(top, lead)
        if q is None or rest[top] % lead_c or len(quotient) > MOST_TERMS:
            return None
        c = rest[top] // lead_c
        quotient[q] = quotient.get(q, 0) + c
        for m, k in divisor.items():
            p = _times(q, m)
            left = rest.get(p, 0) - c * k
            if left:
                rest[p] = left
            else:
                del rest[p]
    return quotient


from . import division  # noqa: E402
