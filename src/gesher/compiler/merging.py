"""Loops over one another that walk as one become one: fewer loops, longer rows, and no division to take them apart.

Two perfectly nested loops merge where every index in them moves through both as through one, that is, where a step of
the outer loop is worth as much as the whole inner loop. Asked of polynomials over loop variables, this is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gesher.symbolic import Dim, DimLike, decide_eq, fresh, substitute
from gesher.symbolic.polynomial import from_terms, terms_of

from .loops import Apply, Assign, For, If, Index, IndexValue, Let, Load, Nest, Store, Var, dims_of


def loop_symbol(extent: DimLike) -> Dim:
    """A new loop variable of 0 ... extent - 1."""
    return fresh("loop", max=max(extent - 1, 0) if isinstance(extent, int) else None)


def merge_loops(nest: Nest) -> None:
    """Make one loop of two perfectly nested ones wherever every index walks through both as through one."""
    _merge(nest.body)


def _merge(body: list[Any]) -> None:
    for n, s in enumerate(body):
        if not isinstance(s, For):
            continue
        _merge(s.body)
        while len(s.body) == 1 and isinstance(s.body[0], For) and not s.folds and not s.body[0].folds:
            merged = _merged(s, s.body[0])
            if merged is None:
                break
            body[n] = s = merged


def _merged(a: For, b: For) -> For | None:
    inside = Nest("", "", b.body)
    for d in dims_of(inside):
        if not _walks_as_one(d, a.symbol, b.symbol, b.extent):
            return None
    extent = a.extent * b.extent
    both = loop_symbol(extent)
    body = _substituted(b.body, {a.symbol: 0, b.symbol: both})
    return For(both, extent, body, b.vector)


def _walks_as_one(d: Dim, a: Dim, b: Dim, extent: DimLike) -> bool:
    symbols = d.symbols()
    if a not in symbols and b not in symbols:
        return True
    outer: dict[Any, int] = {}
    inner: dict[Any, int] = {}
    for monomial, c in terms_of(d).items():
        for part, into in ((a, outer), (b, inner)):
            if part in monomial:
                rest = list(monomial)
                rest.remove(part)
                if any(part in x.symbols() for x in rest):
                    return False
                into[tuple(rest)] = c
        if any(x not in (a, b) and (a in x.symbols() or b in x.symbols()) for x in monomial):
            return False
        if a in monomial and b in monomial:
            return False
    return bool(decide_eq(from_terms(outer), from_terms(inner) * extent))


def _substituted(body: Sequence[Any], values: dict[Dim, DimLike]) -> list[Any]:
    """Statements with index symbols replaced."""
    def dim(d: DimLike) -> DimLike:
        return _replace(d, values)

    def scalar(s: Any) -> Any:
        if isinstance(s, Load):
            return Load(s.buffer, dim(s.index))
        if isinstance(s, IndexValue):
            return IndexValue(dim(s.dim), s.dtype)
        if isinstance(s, Apply):
            return Apply(s.op, tuple(map(scalar, s.args)), s.dtype, s.params)
        return s

    out: list[Any] = []
    for s in body:
        if isinstance(s, For):
            out.append(For(s.symbol, dim(s.extent), _substituted(s.body, values), s.vector, s.folds))
        elif isinstance(s, If):
            conditions = tuple(c if isinstance(c, Var) else tuple(map(dim, c)) for c in s.conditions)
            out.append(If(conditions, _substituted(s.then, values), _substituted(s.other, values)))
        elif isinstance(s, Store):
            out.append(Store(s.buffer, dim(s.index), scalar(s.value)))
        elif isinstance(s, Let):
            out.append(Let(s.var, scalar(s.value), s.changes))
        elif isinstance(s, Assign):
            out.append(Assign(s.var, scalar(s.value)))
        elif isinstance(s, Index):
            out.append(Index(s.symbol, scalar(s.value), dim(s.size), s.ok))
        else:
            out.append(s)
    return out


def _replace(d: DimLike, values: dict[Dim, DimLike]) -> DimLike:
    return substitute(d, values) if isinstance(d, Dim) and d.symbols() & values.keys() else d
