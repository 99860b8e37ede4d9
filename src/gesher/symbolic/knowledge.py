"""Looking up what is known to be equal: the half of `Equalities` that asks. `equalities` is the half that learns.

`Knowledge` holds what was learnt and puts it into expressions: first what stands for each symbol, then rules for what
is made of symbols, then the bounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from .contradiction import Contradiction
from .decide import is_not_negative, is_zero, negated
from .dim import Dim, DimLike, Monomial, dimlike, stand_in
from .evaluation import rebuild, replace
from .intervals import INFINITY, interval
from .polynomial import from_terms, multiply, primitive, terms_of, without

# How often an expression that bounds made simpler is looked up again; once is the rule.
_MOST_ROUNDS = 4


@dataclass(slots=True, frozen=True)
class Equation:
    """a == b, for the reason `why`."""

    a: DimLike
    b: DimLike
    why: str


@dataclass(slots=True, frozen=True)
class Within:
    """lo <= d <= hi, for the reason `why`."""

    d: DimLike
    lo: float
    hi: float
    why: str


@dataclass(slots=True)
class Range:
    """Bounds that were learnt."""

    lo: float
    hi: float
    why: str
    # A symbol that has these bounds as its own; made when it is needed.
    stand_in: Dim | None = None


class Knowledge:
    """Equations and bounds, as far as they are solved."""

    def __init__(self) -> None:
        # Symbols and compound atoms, and what stands for them. May name symbols that went later: `resolve` follows.
        self._known: dict[Dim, DimLike] = {}
        # Products of two and more atoms, found by their first.
        self._products: dict[Dim, dict[Monomial, DimLike]] = {}
        # Sums without constant and common divisor, and their values, where neither of the above could be had.
        self._sums: dict[Dim, int] = {}
        # Tighter bounds of symbols and of such sums than their own.
        self._ranges: dict[Dim, Range] = {}
        # Symbol -> the keys above that mention it, on either side.
        self._watched: dict[Dim, dict[Dim, None]] = {}
        # Bound or limited expression -> what said so.
        self._causes: dict[Dim, list[Equation | Within]] = {}

    # ---- questions

    def resolve(self, d: DimLike) -> DimLike:
        """`d` with everything that is known put in, to the end.

        A part that would divide by zero or broadcast what does not broadcast stays as it is.
        """
        if not isinstance(d, Dim):
            return d
        if d.op == "sym":
            value = self._known.get(d)
            if value is None:
                return d
            if self._final(value):
                return value
        elif self._final(d):
            return d
        elif self._watched.keys().isdisjoint(symbols := d.symbols()):
            values = {s: self._known[s] for s in symbols if s in self._known}
            if all(self._final(v) and v not in self._watched for v in values.values()):
                with suppress(ZeroDivisionError, Contradiction):
                    return replace(d, values)
        out = self._resolve(d)
        for _ in range(_MOST_ROUNDS):
            simpler = self._simplified(out)
            if simpler is out:
                break
            out = self._resolve(simpler) if isinstance(simpler, Dim) else simpler
        return out

    def _final(self, d: DimLike) -> bool:
        """Whether nothing is known of the symbols of `d`. Every equation is watched by the symbols that it mentions."""
        if not isinstance(d, Dim):
            return True
        if d.op == "sym":
            return d not in self._known
        symbols = d.symbols()
        return self._known.keys().isdisjoint(symbols) and self._watched.keys().isdisjoint(symbols)

    def bounds(self, d: DimLike) -> tuple[int | None, int | None]:
        """The smallest and the largest value that `d` can have, as far as is known here; None where there is none."""
        lo, hi = self._interval(self.resolve(d))
        return (None if lo == -INFINITY else int(lo)), (None if hi == INFINITY else int(hi))

    def decide_eq(self, a: DimLike, b: DimLike) -> bool | None:
        """`decide_eq` with what is known here."""
        difference = self.resolve(dimlike(a) - dimlike(b))
        lo, hi = self._interval(difference)
        if lo > 0 or hi < 0:
            return False
        if lo == hi == 0:
            return True
        return is_zero(self._with_learnt_bounds(difference))

    def decide_ge(self, a: DimLike, b: DimLike) -> bool | None:
        """Whether a >= b, with what is known here."""
        difference = self.resolve(dimlike(a) - dimlike(b))
        lo, hi = self._interval(difference)
        if lo >= 0:
            return True
        return False if hi < 0 else is_not_negative(self._with_learnt_bounds(difference))

    def decide_gt(self, a: DimLike, b: DimLike) -> bool | None:
        """Whether a > b, with what is known here."""
        return negated(self.decide_ge(b, a))

    def decide_le(self, a: DimLike, b: DimLike) -> bool | None:
        """Whether a <= b, with what is known here."""
        return self.decide_ge(b, a)

    def decide_lt(self, a: DimLike, b: DimLike) -> bool | None:
        """Whether a < b, with what is known here."""
        return negated(self.decide_ge(a, b))

    # ---- how

    def _interval(self, d: DimLike) -> tuple[float, float]:
        """The interval of a resolved expression, by the bounds learnt here too."""
        lo, hi = interval(d)
        if not isinstance(d, Dim) or not self._ranges:
            return lo, hi
        if d.op == "sym":
            limits = self._ranges.get(d)
            return (lo, hi) if limits is None else (limits.lo, limits.hi)
        a, b = interval(self._with_learnt_bounds(d))
        lo, hi = max(lo, a), min(hi, b)
        core, g, plus = primitive(d)
        if core in self._ranges:
            limits = self._ranges[core]
            ends = g * limits.lo + plus, g * limits.hi + plus
            lo, hi = max(lo, min(ends)), min(hi, max(ends))
        return lo, hi

    def _with_learnt_bounds(self, d: DimLike) -> DimLike:
        """`d` over symbols that have as their own the bounds that were learnt here."""
        if not isinstance(d, Dim) or self._ranges.keys().isdisjoint(d.symbols()):
            return d
        try:
            return replace(d, {s: self._stand_in(s) for s in d.symbols() if s in self._ranges})
        except (ZeroDivisionError, Contradiction):
            return d

    def _simplified(self, d: DimLike) -> DimLike:
        """`d` simplified by the bounds learnt here: once n >= 2 is known, bcast(n, m) is n."""
        if not isinstance(d, Dim) or all(atom.op == "sym" for m in terms_of(d) for atom in m):
            return d
        bounded = self._with_learnt_bounds(d)
        return replace(bounded, {self._stand_in(s): s for s in d.symbols() if s in self._ranges})

    def _stand_in(self, symbol: Dim) -> Dim:
        limits = self._ranges[symbol]
        if limits.stand_in is None:
            limits.stand_in = stand_in(None if limits.lo == -INFINITY else int(limits.lo),
                                       None if limits.hi == INFINITY else int(limits.hi))
        return limits.stand_in

    def _resolve(self, d: Dim) -> DimLike:
        done: dict[Dim, DimLike] = {}
        entered: set[Dim] = set()
        stack = [d]
        while stack:
            part = stack[-1]
            if part in done:
                stack.pop()
                continue
            first_visit = part not in entered
            entered.add(part)
            if first_visit:
                missing = [x for x in part.args if isinstance(x, Dim) and x not in done and x not in entered]
                if missing:
                    stack.extend(missing)
                    continue
            args = tuple(done.get(x, x) if isinstance(x, Dim) else x for x in part.args)
            try:
                made = part if all(x is y for x, y in zip(args, part.args)) else rebuild(part.op, args)
            except (ZeroDivisionError, Contradiction):
                made = part
            if isinstance(made, Dim) and made is part:
                made = self._one_step(part)
            if isinstance(made, Dim) and made is not part and made not in done:
                if made not in entered:
                    stack.append(made)
                    continue
                done[part] = made
            else:
                done[part] = done.get(made, made) if isinstance(made, Dim) else made
            if part in self._known:
                self._known[part] = done[part]
            stack.pop()
        return done[d]

    def _one_step(self, part: Dim) -> DimLike:
        """`part`, whose arguments are resolved, by what is known of itself."""
        value = self._known.get(part)
        if value is not None:
            return value
        if part.op not in ("add", "mul"):
            return part
        if self._products:
            for m, c in terms_of(part).items():
                for lead, value in self._product_rules(m):
                    rest = without(m, lead)
                    if rest is not None:
                        others = {m1: c1 for m1, c1 in terms_of(part).items() if m1 is not m}
                        return from_terms(others) + multiply(from_terms({rest: c}), value)
        if self._sums:
            core, g, plus = primitive(part)
            if core in self._sums:
                return g * self._sums[core] + plus
        return part

    def _product_rules(self, m: Monomial) -> Iterator[tuple[Monomial, DimLike]]:
        if len(m) > 1:
            for atom in dict.fromkeys(m):
                yield from self._products.get(atom, {}).items()
