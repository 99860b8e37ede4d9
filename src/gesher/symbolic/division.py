"""Floor division and remainder, with the rewrites that keep them simple.

Each rule here holds for every value within the bounds of the symbols, negative ones included, and leaves alone what
may divide by zero: `n*m // m` is `n` only where m is known not to be 0, since 0 // 0 is an error and not an n.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd

from .dim import Dim, DimLike, Monomial, Terms, _node, dimlike
from .intervals import INFINITY, interval, interval_of_terms
from .polynomial import common_factor, content, divide_out, from_terms, scaled, terms_of, without


def ceil_div(x: DimLike, y: DimLike) -> DimLike:
    """x / y, rounded toward plus infinity.

    Example:
        >>> ceil_div(sym("n"), 4)
        Dim('(n + 3)//4')
    """
    return -floordiv(-dimlike(x), dimlike(y))


def trunc_div(x: DimLike, y: DimLike) -> DimLike:
    """x / y, rounded toward zero: what C and ONNX's integer Div do."""
    x, y = dimlike(x), dimlike(y)
    (xlo, xhi), (ylo, yhi) = interval(x), interval(y)
    if (xlo >= 0 and ylo >= 0) or (xhi <= 0 and yhi <= 0):
        return floordiv(x, y)
    if (xlo >= 0 and yhi <= 0) or (xhi <= 0 and ylo >= 0):
        return -floordiv(-x, y)
    # |x| // |y| with the sign of x * y, as a difference of two halves one of which is 0.
    ahead, behind = extremes.maximum(x, 0), extremes.maximum(-x, 0)
    if ylo >= 0:
        return floordiv(ahead, y) - floordiv(behind, y)
    if yhi <= 0:
        return floordiv(behind, -y) - floordiv(ahead, -y)
    size = extremes.maximum(y, -y)
    sign = floordiv(y, size)
    return sign * (floordiv(ahead, size) - floordiv(behind, size))


def exact_div(x: DimLike, y: DimLike) -> DimLike:
    """x / y where the caller knows that y divides x and is not 0, as when a Reshape's -1 is worked out.

    What the caller knows allows cancelling that `//` must not do: `n*m / m` is `n`.
    """
    x, y = dimlike(x), dimlike(y)
    if isinstance(y, Dim):
        xs, ys = terms_of(x), terms_of(y)
        if (quotient := divide_out(xs, ys)) is not None:
            return from_terms(quotient)
        for atom in common_factor({**xs, **ys}):
            xs = {without(m, (atom,)) or (): c for m, c in xs.items()}
            ys = {without(m, (atom,)) or (): c for m, c in ys.items()}
        x, y = from_terms(dict(xs)), from_terms(dict(ys))
    return floordiv(x, y)


def floordiv(x: DimLike, y: DimLike) -> DimLike:
    """x / y, rounded toward minus infinity, as Python's `//`.

    Raises:
        ZeroDivisionError: y is 0.
    """
    return _floordiv(dimlike(x), dimlike(y))


@lru_cache(maxsize=4096)
def _floordiv(x: DimLike, y: DimLike) -> DimLike:
    if isinstance(y, Dim):
        return _floordiv_by_expression(x, y)
    if y == 0:
        raise ZeroDivisionError(f"({x}) // 0")
    if not isinstance(x, Dim):
        return x // y
    if y < 0:
        x, y = -x, -y
    return _floordiv_by_constant(terms_of(x), y)


def mod(x: DimLike, y: DimLike) -> DimLike:
    """x - (x // y) * y, with the sign of y, as Python's `%`.

    Raises:
        ZeroDivisionError: y is 0.
    """
    return _mod(dimlike(x), dimlike(y))


@lru_cache(maxsize=4096)
def _mod(x: DimLike, y: DimLike) -> DimLike:
    if isinstance(y, Dim):
        return _mod_by_expression(x, y)
    if y == 0:
        raise ZeroDivisionError(f"({x}) % 0")
    if not isinstance(x, Dim):
        return x % y
    if y < 0:
        return -_mod_by_constant(terms_of(-x), -y)
    return _mod_by_constant(terms_of(x), y)


def _floordiv_by_constant(terms: Terms, k: int) -> DimLike:
    """floor(terms / k), k > 0."""
    whole: Terms = {}
    rest: Terms = {}
    constant = 0
    for m, c in terms.items():
        if not m:
            constant = c
            continue
        # Toward zero, so that -n // 2 keeps its sign and does not become n // 2 - n.
        q = c // k if c > 0 else -(-c // k)
        if q:
            whole[m] = q
        if c != q * k:
            rest[m] = c - q * k
    if not rest:
        whole[()] = constant // k
        return from_terms(whole)
    # x // k == -((k - 1 - x) // k), which gives (n + 3)//4 rather than -(-n//4) for a ceiling.
    negative = sum(c < 0 for c in rest.values())
    flip = 2 * negative > len(rest) or (2 * negative == len(rest) and next(iter(rest.values())) < 0)
    if flip:
        rest = scaled(rest, -1)
        constant = k - 1 - constant
    sign = -1 if flip else 1
    q, constant = divmod(constant, k)
    whole[()] = sign * q
    # (g*x + c) // (g*k) == (x + c // g) // k
    g = gcd(content(rest), k)
    if g > 1:
        rest = scaled(rest, 1, g)
        constant //= g
        k //= g
    if constant:
        rest[()] = constant
    merged = _merge_nested(rest, k)
    opened = None if merged else _open_remainder(rest, k)
    if merged is not None:
        quotient = floordiv(*merged)
    elif opened is not None:
        quotient = opened
    else:
        lo, hi = interval_of_terms(rest)
        if lo > -INFINITY and hi < INFINITY and int(lo) // k == int(hi) // k:
            quotient = int(lo) // k
        else:
            quotient = _node("floordiv", (from_terms(rest), k))
    return from_terms(whole) + sign * quotient


def _merge_nested(terms: Terms, k: DimLike) -> tuple[DimLike, DimLike] | None:
    """(x//j + r) // k == (x + j*r) // (j*k) for k >= 0, whatever the sign of j; both fail where j or k is 0."""
    for m, c in terms.items():
        if len(m) != 1:
            continue
        atom = m[0]
        if c == 1 and atom.op == "floordiv":
            x, j = atom.args
            rest = from_terms({m1: c1 for m1, c1 in terms.items() if m1 is not m})
            if isinstance(j, Dim) and isinstance(rest, Dim):
                continue
            return x + j * rest, j * k
    return None


def _open_remainder(terms: Terms, k: int) -> DimLike | None:
    """(n - n % 4) // 4 is n//4: x % j == x - j*(x//j), where that makes x go as well."""
    for m, c in terms.items():
        if len(m) == 1 and m[0].op == "mod":
            x, j = m[0].args
            if isinstance(j, Dim) or c * j % k:
                continue
            rest = from_terms({**terms, m: 0}) + c * x
            left = sum(1 for m1, c1 in terms_of(rest).items() if m1 and c1 % k)
            if left < sum(map(bool, terms)) - 1:
                return floordiv(rest, k) - c * j // k * floordiv(x, j)
    return None


def _mod_by_constant(terms: Terms, k: int) -> DimLike:
    """terms mod k, k > 0."""
    if k == 1:
        return 0
    rest: Terms = {}
    constant = 0
    for m, c in terms.items():
        c %= k
        if not m:
            constant = c
        elif c:
            if len(m) == 1 and m[0].op == "mod":
                x, j = m[0].args
                # x % j == x - j*(x//j), and c*j is a multiple of k.
                if not isinstance(j, Dim) and c * j % k == 0:
                    return _mod_by_constant(terms_of(from_terms({**terms, m: 0}) + c * x), k)
            rest[m] = c
    if not rest:
        return constant
    # (g*x + g*c + e) % (g*k) == g*((x + c) % k) + e, 0 <= e < g
    g = gcd(content(rest), k)
    offset = constant % g
    constant //= g
    k //= g
    rest = scaled(rest, 1, g)
    if constant:
        rest[()] = constant
    lo, hi = interval_of_terms(rest)
    if lo > -INFINITY and hi < INFINITY and int(lo) // k == int(hi) // k:
        remainder = from_terms(rest) - k * (int(lo) // k)
    else:
        remainder = _node("mod", (from_terms(rest), k))
    return g * remainder + offset


def known_nonzero(x: DimLike) -> bool:
    """Whether no value of `x` is 0, as far as its bounds tell."""
    lo, hi = interval(x)
    return lo > 0 or hi < 0


def _reduced(x: DimLike, y: Dim) -> tuple[Terms, Terms, int, Monomial]:
    """x and y without what divides both, an integer and atoms known not to be 0, and what was divided out."""
    xs, ys = terms_of(x), terms_of(y)
    sign = -1 if all(c < 0 for c in ys.values()) else 1
    g = sign * gcd(content(xs), content(ys))
    if g != 1:
        xs, ys = scaled(xs, sign, abs(g)), scaled(ys, sign, abs(g))
    factors = []
    if xs:
        for atom in common_factor({**xs, **ys}):
            if known_nonzero(atom):
                factors.append(atom)
                xs = {without(m, (atom,)) or (): c for m, c in xs.items()}
                ys = {without(m, (atom,)) or (): c for m, c in ys.items()}
    return xs, ys, g, tuple(factors)


def _split(xs: Terms, ys: Terms, y: DimLike) -> tuple[Terms, Terms]:
    """x == y*quotient + rest. The rest is kept non-zero unless y is known not to be 0."""
    whole: Terms = {}
    rest: Terms = {}
    if len(ys) == 1:
        (m, c), = ys.items()
        for m1, c1 in xs.items():
            q = without(m1, m)
            if q is not None and (k := c1 // c if c1 > 0 else -(-c1 // c)):
                whole[q] = k
                c1 -= k * c
            if c1:
                rest[m1] = c1
    else:
        quotient = divide_out(xs, ys)
        if quotient is None:
            return {}, xs
        whole = quotient
    if not rest and not known_nonzero(y):
        return {}, xs
    return whole, rest


def _quotient_range(x: DimLike, y: DimLike) -> int | None:
    """The value of x // y where the bounds leave only one."""
    (xlo, xhi), (ylo, yhi) = interval(x), interval(y)
    if xlo >= 0 and interval(y - x)[0] > 0:
        return 0
    if xhi < 0 and interval(y + x)[0] >= 0:
        return -1
    if ylo > 0 and INFINITY not in (xhi, -xlo, yhi):
        corners = {int(a) // int(b) for a in (xlo, xhi) for b in (ylo, yhi)}
        if len(corners) == 1:
            return corners.pop()
    return None


def _floordiv_by_expression(x: DimLike, y: Dim) -> DimLike:
    xs, ys, _, _ = _reduced(x, y)
    divisor = from_terms(dict(ys))
    if not isinstance(divisor, Dim):
        return floordiv(from_terms(dict(xs)), divisor)
    whole, xs = _split(xs, ys, divisor)
    if not xs and known_nonzero(divisor):
        return from_terms(whole)
    if interval(divisor)[0] >= 0:
        # (g*x + c) // (g*y) == (x + c // g) // y for y >= 1
        g = gcd(content(xs, constant=False), content(ys))
        if g > 1:
            xs = {m: c // g for m, c in xs.items()}
            divisor = from_terms(scaled(ys, 1, g))
            return from_terms(whole) + floordiv(from_terms(xs), divisor)
        merged = _merge_nested(xs, divisor)
        if merged is not None:
            return from_terms(whole) + floordiv(*merged)
    rest = from_terms(dict(xs))
    value = _quotient_range(rest, divisor)
    if value is not None:
        return from_terms(whole) + value
    return from_terms(whole) + _node("floordiv", (rest, divisor))


def _mod_by_expression(x: DimLike, y: Dim) -> DimLike:
    xs, ys, g, factors = _reduced(x, y)
    divisor = from_terms(dict(ys))
    scale = from_terms({factors: g}) if factors else g
    if not isinstance(divisor, Dim):
        return scale * mod(from_terms(dict(xs)), divisor)
    _, xs = _split(xs, ys, divisor)
    if not xs and known_nonzero(divisor):
        return 0
    rest = from_terms(dict(xs))
    value = _quotient_range(rest, divisor)
    if value is not None:
        return scale * (rest - divisor * value)
    return scale * _node("mod", (rest, divisor))


def join_quotients(terms: Terms) -> Terms:
    """k*(x//k) + x % k is x, and x - k*(x//k) is x % k, wherever they stand in a sum."""
    changed = True
    while changed:
        changed = False
        for m, c in terms.items():
            if len(m) != 1 or m[0].op != "mod":
                continue
            x, k = m[0].args
            partner = {m1: c1 * c for m1, c1 in terms_of(k * floordiv(x, k)).items()}
            if all(terms.get(m1) == c1 for m1, c1 in partner.items()):
                terms = _combined(_combined(terms, partner, -1), {m: c}, -1)
                terms = _combined(terms, terms_of(c * x), 1)
                changed = True
                break
        if changed:
            continue
        for m, c in terms.items():
            if len(m) != 1 or m[0].op != "floordiv":
                continue
            x, k = m[0].args
            if isinstance(k, Dim) or not isinstance(x, Dim) or c % k:
                continue
            times = -c // k
            wanted = {m1: c1 * times for m1, c1 in terms_of(x).items() if m1}
            if all(terms.get(m1) == c1 for m1, c1 in wanted.items()):
                offset = terms_of(x).get((), 0) * times
                terms = _combined(_combined(terms, wanted, -1), {m: c}, -1)
                terms = _combined(terms, terms_of(times * mod(x, k) - offset), 1)
                changed = True
                break
    return terms


def _combined(terms: Terms, others: Terms, times: int) -> Terms:
    out = dict(terms)
    for m, c in others.items():
        out[m] = out.get(m, 0) + times * c
        if not out[m]:
            del out[m]
    return out


from . import extremes  # noqa: E402
