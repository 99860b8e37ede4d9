"""What is known to be equal: each operator of a graph adds what it demands, and every later question uses it.

`unify` takes an equation as far as it can: solved for a symbol, the symbol is gone from everything that `resolve`
returns; else a quotient, minimum or product in it is replaced by the rest (`n//2 == 5` makes `n//2` a 5); else the
equation is kept and recognised wherever its difference turns up. Whatever mentions a symbol that is solved later is
looked at again. What a reader would guess wrong:

- A symbol that goes leaves its bounds behind: after `m == n` with m >= 1, n is known to be at least 1 here, though the
  object `n` itself does not change. Ask `decide_ge` and `bounds` of this store, not those of the module.
- After a `Contradiction` the store still holds everything else, so that a check can go on and find the next one.
"""

from __future__ import annotations

from .contradiction import Contradiction
from .dim import Dim, DimLike, dimlike, walk
from .division import known_nonzero
from .intervals import INFINITY, zero_at_sight
from .knowledge import Equation, Knowledge, Range, Within
from .polynomial import common_factor, content, from_terms, key_of, primitive, scaled, terms_of, without

# How many more facts must hang on one of two equal named symbols for it to stay although it was named second.
_CROWD = 16


class Equalities(Knowledge):
    """A store of equations between sizes.

    Example:
        >>> n, m = sym("n"), sym("m")
        >>> known = Equalities()
        >>> known.unify(2 * n + 1, m, "Concat"), known.unify(m, 9, "input 'x'")
        (Dim('2*n + 1'), 9)
        >>> known.resolve(n * m)
        36
    """

    def copy(self) -> Equalities:
        """An independent copy: what holds in one branch of an If need not in the other."""
        other = Equalities()
        other._known = dict(self._known)
        other._products = {atom: dict(rules) for atom, rules in self._products.items()}
        other._sums = dict(self._sums)
        other._ranges = {d: Range(r.lo, r.hi, r.why) for d, r in self._ranges.items()}
        other._watched = {s: dict(keys) for s, keys in self._watched.items()}
        other._causes = {d: list(causes) for d, causes in self._causes.items()}
        return other

    def unify(self, a: DimLike, b: DimLike, why: str = "") -> DimLike:
        """Record that a == b, for the reason `why`, and return what now stands for both.

        Numbers are preferred to symbols, named symbols to anonymous ones, `a` to `b`.

        Raises:
            Contradiction: they surely differ.
        """
        a, b = dimlike(a), dimlike(b)
        if a is b:
            return self.resolve(a)
        self._settle([Equation(a, b, why)])
        return self.resolve(a)

    def narrow(self, d: DimLike, min: int | None = None, max: int | None = None, why: str = "") -> None:
        """Record that `d` lies between `min` and `max`, for the reason `why`.

        Raises:
            Contradiction: it surely does not.
        """
        self._settle([Within(dimlike(d), -INFINITY if min is None else min, INFINITY if max is None else max, why)])

    def _settle(self, pending: list[Equation | Within]) -> None:
        failed: Contradiction | None = None
        while pending:
            item = pending.pop()
            try:
                if isinstance(item, Equation):
                    pending.extend(self._learn(item))
                else:
                    pending.extend(self._limit(item))
            except Contradiction as e:
                failed = failed or e
        if failed is not None:
            raise failed

    def _learn(self, item: Equation) -> list[Equation | Within]:
        a, b = self.resolve(item.a), self.resolve(item.b)
        if a is b:
            return []
        # The rule in graphs is a symbol that meets a symbol or a number, so these do without algebra.
        if isinstance(a, Dim) and a.op == "sym" and (not isinstance(b, Dim) or b.op == "sym"):
            return self._learn_symbol(a, b, item)
        if isinstance(b, Dim) and b.op == "sym" and not isinstance(a, Dim):
            return self._learn_symbol(b, a, item)
        for s, other in (a, b), (b, a):
            if isinstance(s, Dim) and s.op == "sym" and isinstance(other, Dim) and self._gives_way(s, other):
                return self._bind(s, other, item)
        difference = self.resolve(a - b)
        if isinstance(difference, Dim):
            difference = self._reduced(difference)
        if not isinstance(difference, Dim):
            if difference == 0:
                return []
            raise self._contradiction(item, a, b)
        # Not case by case, which `decide_eq` does: here the question is asked once an equation.
        if not self._may_be(difference, 0) or zero_at_sight(difference) is False:
            raise self._contradiction(item, a, b)
        atom = self._to_solve_for(difference, a, b)
        if atom is not None:
            c = terms_of(difference)[(atom,)]
            return self._bind(atom, atom - c * difference, item)
        return self._keep(difference, item)

    def _gives_way(self, s: Dim, other: Dim) -> bool:
        """Whether `s` may be replaced by the expression `other` without looking for something better to solve for."""
        symbols = other.symbols()
        if s in symbols or not (s.is_fresh or not any(x.is_fresh for x in symbols)):
            return False
        lo, hi = self._interval(s)
        olo, ohi = self._interval(other)
        return lo <= olo and ohi <= hi

    def _learn_symbol(self, s: Dim, other: DimLike, item: Equation) -> list[Equation | Within]:
        lo, hi = self._interval(s)
        olo, ohi = self._interval(other)
        if olo > hi or ohi < lo:
            raise self._contradiction(item, s, other)
        if isinstance(other, Dim):
            goes, stays = ((s, other) if self._staying_power(s, olo < lo or ohi > hi, True)
                           < self._staying_power(other, lo < olo or hi > ohi, False) else (other, s))
            return self._bind(goes, stays, item)
        return self._bind(s, other, item)

    def _reduced(self, difference: Dim) -> DimLike:
        """A simpler expression that is 0 exactly where `difference` is: without common divisor and non-zero factors."""
        terms = terms_of(difference)
        for atom in common_factor(terms):
            if known_nonzero(atom) or not self._may_be(atom, 0):
                terms = {without(m, (atom,)) or (): c for m, c in terms.items()}
        g = content(terms)
        return from_terms(scaled(terms, 1, g))

    def _may_be(self, d: Dim, value: int) -> bool:
        lo, hi = self._interval(d)
        return lo <= value <= hi

    def _to_solve_for(self, difference: Dim, a: DimLike, b: DimLike) -> Dim | None:
        """The atom that goes: it stands alone with coefficient 1 or -1, and nowhere else."""
        terms = terms_of(difference)
        units = [m[0] for m, c in terms.items() if len(m) == 1 and abs(c) == 1]
        inside: dict[Dim, int] = {}
        for m in terms:
            for atom in dict.fromkeys(m):
                if atom.op == "sym":
                    inside[atom] = inside.get(atom, 0) + 1
                else:
                    for part in walk(atom):
                        inside[part] = inside.get(part, 0) + 1
        free = [atom for atom in units if inside[atom] == 1]
        symbols = [atom for atom in free if atom.op == "sym"]
        if not symbols:
            # Of quotients and the like the largest: the rest is then made of simpler things.
            return max(free, key=key_of, default=None)
        if len(symbols) == 1:
            return symbols[0]
        powers = {}
        for s in symbols:
            lo, hi = self._interval(s)
            vlo, vhi = self._interval(s - terms[(s,)] * difference)
            powers[s] = self._staying_power(s, vlo < lo or vhi > hi, s is a)
        return min(symbols, key=powers.__getitem__)

    def _staying_power(self, s: Dim, loses_bounds: bool, first: bool) -> tuple[bool, bool, int, bool]:
        """The symbol of which this is least goes: it is anonymous, its bounds are those of the rest, ..."""
        return not s.is_fresh, loses_bounds, len(self._watched.get(s, ())) // _CROWD, first

    def _bind(self, atom: Dim, value: DimLike, item: Equation) -> list[Equation | Within]:
        """`atom` goes, `value` stands for it; returns what has to be looked at again."""
        self._causes.setdefault(atom, []).append(item)
        again: list[Equation | Within] = []
        lo, hi = self._interval(atom)
        vlo, vhi = self._interval(value)
        if vlo < lo or vhi > hi:
            again.append(Within(value, lo, hi, item.why))
        self._ranges.pop(atom, None)
        if atom.op == "sym":
            again.extend(self._disturbed(atom))
        self._known[atom] = value
        if atom.op != "sym":
            self._watch(atom, value)
        return again

    def _keep(self, difference: Dim, item: Equation) -> list[Equation | Within]:
        """An equation that no atom can be taken out of: a product is replaced, or the sum remembered."""
        terms = terms_of(difference)
        self._causes.setdefault(difference, []).append(item)
        lead = max(terms, key=lambda m: (len(m), [key_of(atom) for atom in m]))
        rest = {m: c for m, c in terms.items() if m != lead}
        symbols = {s for atom in lead for s in atom.symbols()}
        if (abs(terms[lead]) == 1 and len(lead) > 1
                and not any(atom.op != "sym" and symbols & atom.symbols() for m in rest for atom in m)):
            value = from_terms(scaled(rest, -terms[lead]))
            self._products.setdefault(lead[0], {})[lead] = value
            key = from_terms({lead: 1})
            assert isinstance(key, Dim)
            self._causes.setdefault(key, []).append(item)
            self._watch(key, value)
            return []
        sum_, g, plus = primitive(difference)
        self._sums[sum_] = -plus // g
        self._watch(sum_, 0)
        return []

    def _limit(self, item: Within) -> list[Equation | Within]:
        d = self.resolve(item.d)
        lo, hi = self._interval(d)
        if item.lo <= lo and hi <= item.hi:
            return []
        if item.lo > hi or item.hi < lo:
            bound = int(item.lo) if item.lo > hi else int(item.hi)
            raise self._contradiction(Equation(item.d, bound, item.why), d, bound)
        assert isinstance(d, Dim)
        # lo <= g*core + plus <= hi
        core, g, plus = primitive(d)
        low, high = item.lo - plus, item.hi - plus
        if g < 0:
            low, high, g = -high, -low, -g
        low = low if low == -INFINITY else -(-int(low) // g)
        high = high if high == INFINITY else int(high) // g
        lo, hi = self._interval(core)
        low, high = max(low, lo), min(high, hi)
        if low > high:
            raise self._contradiction(Equation(item.d, int(item.lo if item.lo > -INFINITY else item.hi), item.why),
                                      d, core)
        self._causes.setdefault(core, []).append(item)
        self._ranges[core] = Range(low, high, item.why)
        self._watch(core, 0)
        if low == high:
            return [Equation(core, int(low), item.why)]
        return []

    def _watch(self, key: Dim, value: DimLike) -> None:
        symbols = key.symbols() | value.symbols() if isinstance(value, Dim) else key.symbols()
        for symbol in symbols:
            self._watched.setdefault(symbol, {})[key] = None

    def _disturbed(self, symbol: Dim) -> list[Equation | Within]:
        """Take out what was kept about expressions that mention `symbol`, to be learnt anew without it."""
        again: list[Equation | Within] = []
        for key in self._watched.pop(symbol, ()):
            why = self._causes[key][-1].why if key in self._causes else ""
            if key.op != "sym" and key in self._known:
                again.append(Equation(key, self._known.pop(key), why))
            if key.op == "mul":
                (m, _), = terms_of(key).items()
                rules = self._products.get(m[0], {})
                if m in rules:
                    again.append(Equation(key, rules.pop(m), why))
                    if not rules:
                        del self._products[m[0]]
            if key in self._sums:
                again.append(Equation(key, self._sums.pop(key), why))
            if key in self._ranges:
                limits = self._ranges.pop(key)
                again.append(Within(key, limits.lo, limits.hi, limits.why))
        return again

    def _contradiction(self, item: Equation, a: DimLike, b: DimLike) -> Contradiction:
        reasons: dict[str, None] = {item.why: None}
        seen: set[Dim] = set()
        pending = [x for x in (item.a, item.b) if isinstance(x, Dim)]
        while pending:
            for part in walk(pending.pop()):
                if part in seen:
                    continue
                seen.add(part)
                for cause in self._causes.get(part, ()):
                    reasons[cause.why] = None
                    sides = (cause.a, cause.b) if isinstance(cause, Equation) else (cause.d,)
                    pending.extend(x for x in sides if isinstance(x, Dim))
        return Contradiction(item.a, item.b, tuple(reasons), found=(a, b))
