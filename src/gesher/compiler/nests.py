"""From primitive expressions to loop nests, by pulling: an element of the result asks for the elements that it needs.

A nest loops over the shape of one expression that is kept in memory; everything between it and the buffers below is
computed element by element on the way, at the index that is asked for: a transpose permutes the index, a slice shifts
it, a reduction loops. A step is placed at the outermost loop on which its index depends, so what is the same for a
whole row is computed once a row.

What a reader would guess wrong: steps that stand under a condition (the inside of a padding) must not leave it, or they
would read where nothing is. A `Scope` with `barrier` holds them.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gesher.base.dtypes import BOOL, DOUBLE, FLOAT, INT32, INT64, DType
from gesher.base.errors import CompileError
from gesher.primitives import MAPS, REDUCTIONS, Expr
from gesher.primitives.table import computing, identity
from gesher.symbolic import Dim, DimLike, decide_eq, decide_ge, decide_lt, fresh, product

from . import counts, indexing
from .loops import (
    Apply,
    Assign,
    Buffer,
    Fail,
    For,
    If,
    Index,
    IndexValue,
    Let,
    Load,
    Nest,
    Number,
    Scalar,
    Store,
    Var,
)
from .merging import loop_symbol, merge_loops

At = tuple[DimLike, ...]
_FOLD = {name: r.map for name, r in REDUCTIONS.items()}
_SMOOTH = frozenset(("erf", "tanh", "exp", "sigmoid"))
# Parts of a nest that are surely enough for all threads to have their share.
PARTS = 64
_UPDATE = {"add": "add", "mul": "mul", "max": "max", "min": "min"}


class Scope:
    """A list of statements inside some loop, with the index symbols that are set there and what was computed there."""

    __slots__ = ("barrier", "memo", "owns", "parent", "statements")

    def __init__(self, parent: Scope | None, owns: Sequence[Dim] = (), barrier: bool = False):
        self.parent, self.owns, self.barrier = parent, set(owns), barrier
        self.statements: list[Any] = []
        self.memo: dict[Any, Scalar] = {}

    def place(self, index: At) -> Scope:
        """The outermost scope in which everything that `index` needs is set."""
        needed = indexing.symbols(index)
        scope = self
        while scope.parent is not None and not scope.barrier and not (needed & scope.owns):
            scope = scope.parent
        return scope

    def find(self, key: Any) -> Scalar | None:
        scope: Scope | None = self
        while scope is not None:
            if key in scope.memo:
                return scope.memo[key]
            scope = scope.parent
        return None


@dataclass(frozen=True, slots=True)
class _Either:
    """What is in one of two."""

    one: Container[Expr]
    other: Container[Expr]

    def __contains__(self, e: object) -> bool:
        return e in self.one or e in self.other


class Puller:
    """Builds the nests of one expression.

    Args:
        buffers: the expressions that lie in memory, their buffers.
        names: gives a new variable's name from a hint.
    """

    def __init__(self, buffers: dict[Expr, Buffer], ready: dict[Expr, Callable[[At], Scalar]] | None = None):
        self.buffers = buffers
        # Expressions whose elements are there in another way: the finished tile of a kernel, say.
        self.ready = ready or {}
        self.held = _Either(self.buffers, self.ready)
        self.count = 0

    def var(self, hint: str, dtype: DType) -> Var:
        self.count += 1
        return Var(f"{hint}{self.count}", dtype)

    def let(self, scope: Scope, hint: str, value: Scalar, changes: bool = False) -> Var:
        var = self.var(hint, value.dtype)
        scope.statements.append(Let(var, value, changes))
        return var

    # Elements

    def value(self, e: Expr, index: At, scope: Scope) -> Scalar:
        """The element of `e` at `index`, computed in `scope` or around it."""
        key = (e, index)
        known = scope.find(key)
        if known is not None:
            return known
        place = scope.place(index)
        ready = self.ready.get(e)
        if ready is not None:
            found: Scalar = self.let(place, "c", ready(index))
        elif e in self.buffers:
            buffer = self.buffers[e]
            found = self.let(place, "x", Load(buffer, indexing.linear(e.shape, index)))
        else:
            found = self.compute(e, index, scope)
        place.memo[key] = found
        return found

    def compute(self, e: Expr, index: At, scope: Scope) -> Scalar:
        """As `value`, though `e` itself may be the one that is being stored."""
        if e.prim in _SMOOTH and (found := self._quotient(e.args[0], index, scope)) is not None:
            return self.let(scope.place(index), "v", Apply(e.prim, (found,), e.dtype))
        if e.prim == "round" and (found := self._to_be_counted(e.args[0], index, scope)) is not None:
            return self.let(scope.place(index), "v", Apply(e.prim, (found,), e.dtype))
        held = self.held
        # Bytes that are taken apart again at once need not be made.
        apart = counts.taken_apart(e, held)
        if apart is not None:
            x, low, high = apart
            return self.let(scope.place(index), "v", Apply("rounded", (self._unrounded(x, index, scope),), FLOAT,
                                                           (("low", low), ("high", high))))
        byte = e.args[0] if e.prim == "cast" and e.dtype is INT32 else e
        clipped = None if byte is not e and byte in held else counts.clipped(byte, held)
        if clipped is not None:
            x, low, high = clipped
            inner = counts.rounded(x, held)
            if inner is not None:
                x, zero = inner
                return self.let(scope.place(index), "v", Apply(
                    "count", (self._unrounded(x, index, scope),), e.dtype,
                    (("low", low - zero), ("high", high - zero), ("zero", zero))))
            return self.let(scope.place(index), "v", Apply("clip_cast", (self.value(x, index, scope),), e.dtype,
                                                           (("low", low), ("high", high))))
        if e.prim in MAPS or e.prim in ("select", "cast", "bitcast", "is_inf"):
            args = tuple(self.value(a, index, scope) for a in e.args)
            params = tuple(sorted(e.params.items()))
            return self.let(scope.place(index), "v", Apply(e.prim, args, e.dtype, params))
        rule = getattr(self, "_" + e.prim, None)
        if rule is None:
            raise CompileError(f"no loop nest computes the primitive {e.prim}")
        return rule(e, index, scope)

    def _quotient(self, e: Expr, index: At, scope: Scope) -> Scalar | None:
        """A quotient by a constant as a product: what smooth functions make of a last bit is less than their own error,
        and a division costs as much as ten products. None for what is no such quotient, or lies in memory."""
        if e.prim != "div" or e.dtype not in (FLOAT, DOUBLE) or e in self.buffers or e in self.ready:
            return None
        by = e.args[1]
        while by.prim in ("broadcast", "reshape"):
            by = by.args[0]
        if by.prim != "constant" or decide_eq(product(by.shape), 1) is not True or by in self.buffers:
            return None
        divisor = self._constant(by, (), scope)
        assert isinstance(divisor, Number)
        if not 1e-30 < abs(divisor.value) < 1e30:
            return None
        inverse = Number(float(e.dtype.numpy.type(1 / divisor.value)), e.dtype)
        return self.let(scope.place(index), "v", Apply("mul", (self.value(e.args[0], index, scope), inverse), e.dtype))

    def _to_be_counted(self, e: Expr, index: At, scope: Scope) -> Scalar | None:
        """A number divided by a constant scale, and perhaps a zero point added, that is about to be rounded: quantisers
        divide, and the quotient is made of products that give the same bits (`gs_quotient_f32`)."""
        if e.dtype is not FLOAT or e in self.buffers or e in self.ready:
            return None
        if e.prim == "add":
            for quotient, other in (e.args, e.args[::-1]):
                if quotient.prim == "div" and (found := self._to_be_counted(quotient, index, scope)) is not None:
                    both = (found, self.value(other, index, scope))
                    return self.let(scope.place(index), "v", Apply("add", both, FLOAT))
            return None
        scale = counts.number_of(e.args[1]) if e.prim == "div" else None
        if scale is None or not 1e-30 < abs(scale) < 1e30:
            return None
        inverse = float(np.float32(1) / np.float32(scale))
        return self.let(scope.place(index), "v", Apply("quotient", (self.value(e.args[0], index, scope),), FLOAT,
                                                       (("by", scale), ("inverse", inverse))))

    def _unrounded(self, e: Expr, index: At, scope: Scope) -> Scalar:
        """The number that is about to be rounded."""
        found = self._to_be_counted(e, index, scope)
        return self.value(e, index, scope) if found is None else found

    def _constant(self, e: Expr, index: At, scope: Scope) -> Scalar:
        value = e.params["value"]
        if not hasattr(value, "reshape"):
            value = value.numpy()
        return Number(value.reshape(-1)[0].item(), e.dtype)

    def _size(self, e: Expr, index: At, scope: Scope) -> Scalar:
        return IndexValue(e.params["dim"], INT64)

    def _iota(self, e: Expr, index: At, scope: Scope) -> Scalar:
        i = IndexValue(index[e.params["axis"]], INT64)
        if e.dtype is INT64:
            return i
        return self.let(scope.place(index), "v", Apply("cast", (i,), e.dtype))

    def _broadcast(self, e: Expr, index: At, scope: Scope) -> Scalar:
        x = e.args[0]
        return self.value(x, tuple(indexing.through_broadcast(x.shape, e.shape, index)), scope)

    def _reshape(self, e: Expr, index: At, scope: Scope) -> Scalar:
        x = e.args[0]
        return self.value(x, tuple(indexing.through_reshape(x.shape, e.shape, index)), scope)

    def _transpose(self, e: Expr, index: At, scope: Scope) -> Scalar:
        at: list[DimLike] = [0] * e.rank
        for i, axis in enumerate(e.params["perm"]):
            at[axis] = index[i]
        return self.value(e.args[0], tuple(at), scope)

    def _slice(self, e: Expr, index: At, scope: Scope) -> Scalar:
        at = tuple(a + i * s for i, a, s in zip(index, e.params["starts"], e.params["steps"]))
        return self.value(e.args[0], at, scope)

    def _conditional(self, e: Expr, index: At, scope: Scope, conditions: Sequence[Any],
                     then: Callable[[Scope], Scalar], other: Scalar) -> Scalar:
        """`then` where the conditions hold, else `other`."""
        left = _undecided(conditions)
        if left is None:
            return other
        if not left:
            return then(scope)
        conditions = left
        needed = (*index, *(c[0] for c in conditions if not isinstance(c, Var)))
        place = scope.place(needed)
        result = self.let(place, "v", other, changes=True)
        inner = Scope(place, barrier=True)
        inner.statements.append(Assign(result, then(inner)))
        place.statements.append(If(tuple(conditions), inner.statements))
        return result

    def _pad(self, e: Expr, index: At, scope: Scope) -> Scalar:
        x, fill = e.args
        at = tuple(i - lo for i, lo in zip(index, e.params["low"]))
        conditions = [(i, 0, d) for i, d, lo, hi in zip(at, x.shape, e.params["low"], e.params["high"])
                      if decide_eq(lo, 0) is not True or decide_eq(hi, 0) is not True]
        return self._conditional(e, index, scope, conditions, lambda inner: self.value(x, at, inner),
                                 self.value(fill, (), scope))

    # Indexed reads

    def checked(self, indices: Expr, at: At, size: DimLike, scope: Scope, what: str) -> tuple[Dim, Var]:
        """An index taken from data, and whether it is inside."""
        # What is repeated along rows is asked once for each.
        while indices.prim == "broadcast" and indices not in self.held:
            x = indices.args[0]
            indices, at = x, tuple(indexing.through_broadcast(x.shape, indices.shape, at))
        key = ("checked", indices, at, size)
        known = scope.find(key)
        if known is not None:
            return known  # type: ignore[return-value]
        value = self.value(indices, at, scope)
        place = scope.place(at)
        symbol = fresh("index", max=max(size - 1, 0) if isinstance(size, int) else None)
        ok = self.var("ok", BOOL)
        place.statements.append(Index(symbol, value, size, ok))
        place.statements.append(Fail(ok, f"{what}: an index is outside"))
        place.owns.add(symbol)
        place.memo[key] = (symbol, ok)  # type: ignore[assignment]
        return symbol, ok

    def _guarded(self, e: Expr, index: At, scope: Scope, at: At, oks: Sequence[Var]) -> Scalar:
        return self._conditional(e, (*index, *at), scope, list(oks), lambda inner: self.value(e.args[0], at, inner),
                                 Number(0, e.dtype))

    def _gather(self, e: Expr, index: At, scope: Scope) -> Scalar:
        x, indices = e.args
        axis = e.params["axis"]
        j, ok = self.checked(indices, index[axis:axis + indices.rank], x.shape[axis], scope, "gather")
        return self._guarded(e, index, scope, (*index[:axis], j, *index[axis + indices.rank:]), [ok])

    def _gather_along(self, e: Expr, index: At, scope: Scope) -> Scalar:
        x, indices = e.args
        axis = e.params["axis"]
        j, ok = self.checked(indices, index, x.shape[axis], scope, "gather_along")
        return self._guarded(e, index, scope, (*index[:axis], j, *index[axis + 1:]), [ok])

    def _gather_nd(self, e: Expr, index: At, scope: Scope) -> Scalar:
        x, indices = e.args
        batch, lead, depth = e.params["batch_dims"], indices.rank - 1, indices.shape[-1]
        assert isinstance(depth, int)
        found = [self.checked(indices, (*index[:lead], k), x.shape[batch + k], scope, "gather_nd")
                 for k in range(depth)]
        at = (*index[:batch], *(j for j, _ in found), *index[lead:])
        return self._guarded(e, index, scope, at, [ok for _, ok in found])

    # Folds

    def _fold(self, place: Scope, op: str, dtype: DType, extents: Sequence[DimLike],
              element: Callable[[At, Scope, Var], None], start: Scalar | None = None) -> Var:
        """An accumulator that `element(index, scope, accumulator)` adds to in loops over `extents`."""
        acc = self.let(place, "acc", start if start is not None else Number(identity(op, dtype), dtype), changes=True)
        extents = list(extents)
        if any(decide_eq(d, 0) for d in extents):
            return acc
        symbols = [0 if decide_eq(d, 1) else loop_symbol(d) for d in extents]
        scopes = [place]
        for s in symbols:
            if isinstance(s, Dim):
                scopes.append(Scope(scopes[-1], [s]))
        element(tuple(symbols), scopes[-1], acc)
        loops = [(s, d) for s, d in zip(symbols, extents) if isinstance(s, Dim)]
        innermost = True
        for (s, d), scope in zip(reversed(loops), reversed(scopes[1:])):
            plain = innermost and all(isinstance(st, (Let, Assign)) for st in scope.statements)
            scope.parent.statements.append(For(s, d, scope.statements, vector=plain,  # type: ignore[union-attr]
                                               folds=((acc, op),) if plain else ()))
            innermost = False
        return acc

    def _rounded(self, place: Scope, acc: Var, dtype: DType) -> Scalar:
        if acc.dtype is dtype:
            return acc
        return self.let(place, "v", Apply("cast", (acc,), dtype))

    def _widened(self, scope: Scope, value: Scalar, dtype: DType) -> Scalar:
        return value if value.dtype is dtype else self.let(scope, "w", Apply("cast", (value,), dtype))

    def _reduce(self, e: Expr, index: At, scope: Scope) -> Scalar:
        x, op, axes = e.args[0], e.params["op"], e.params["axes"]
        wide = computing(e.dtype)
        place = scope.place(index)

        def element(at: At, inner: Scope, acc: Var) -> None:
            outer, folded = iter(index), iter(at)
            whole = tuple(next(folded) if i in axes else next(outer) for i in range(x.rank))
            v = self._widened(inner, self.value(x, whole, inner), wide)
            inner.statements.append(Assign(acc, Apply(_FOLD[op], (acc, v), wide)))

        acc = self._fold(place, op, wide, [x.shape[a] for a in axes], element)
        return self._rounded(place, acc, e.dtype)

    def _argreduce(self, e: Expr, index: At, scope: Scope) -> Scalar:
        x, axis, last = e.args[0], e.params["axis"], e.params["last"]
        place = scope.place(index)
        first = self.value(x, (*index[:axis], 0, *index[axis:]), place)
        wide = computing(x.dtype)
        best = self.let(place, "best", self._widened(place, first, wide), changes=True)
        where = self.let(place, "where", Number(0, INT64), changes=True)
        k = loop_symbol(x.shape[axis])
        inner = Scope(place, [k], barrier=True)
        v = self._widened(inner, self.value(x, (*index[:axis], k, *index[axis:]), inner), wide)
        better = "ge" if last else "gt"
        if e.params["op"] == "min":
            better = "le" if last else "lt"
        wins: Scalar = Apply(better, (v, best), BOOL)
        if wide.is_float:
            # NaN wins over numbers, and over NaN only where the last is asked for.
            nan = Apply("is_nan", (v,), BOOL)
            held = Apply("is_nan", (best,), BOOL)
            beats = nan if last else Apply("and_", (nan, Apply("not_", (held,), BOOL)), BOOL)
            wins = Apply("or_", (wins, beats), BOOL)
        won = self.let(inner, "won", wins)
        inner.statements.append(Assign(best, Apply("select", (won, v, best), wide)))
        inner.statements.append(Assign(where, Apply("select", (won, IndexValue(k, INT64), where), INT64)))
        place.statements.append(For(k, x.shape[axis], inner.statements))
        return where

    def _contract(self, e: Expr, index: At, scope: Scope) -> Scalar:
        a, b = e.args
        p = e.params
        wide = computing(e.dtype)
        place = scope.place(index)
        n, rest_a = len(p["a_batch"]), [i for i in range(a.rank) if i not in p["a_axes"] and i not in p["a_batch"]]
        rest_b = [i for i in range(b.rank) if i not in p["b_axes"] and i not in p["b_batch"]]

        def put(rank: int, batch: Sequence[int], rest: Sequence[int], axes: Sequence[int], at: At, places: At) -> At:
            whole: list[DimLike] = [0] * rank
            for axis, i in zip((*batch, *rest, *axes), (*index[:n], *places, *at)):
                whole[axis] = i
            return tuple(whole)

        def element(at: At, inner: Scope, acc: Var) -> None:
            left = put(a.rank, p["a_batch"], rest_a, p["a_axes"], at, index[n:n + len(rest_a)])
            right = put(b.rank, p["b_batch"], rest_b, p["b_axes"], at, index[n + len(rest_a):])
            self._multiply_add(inner, acc, a, left, b, right, wide)

        acc = self._fold(place, "sum", wide, [a.shape[i] for i in p["a_axes"]], element)
        return self._rounded(place, acc, e.dtype)

    def _multiply_add(self, scope: Scope, acc: Var, a: Expr, left: At, b: Expr, right: At, wide: DType) -> None:
        x = self._widened(scope, self.value(a, left, scope), wide)
        y = self._widened(scope, self.value(b, right, scope), wide)
        scope.statements.append(Assign(acc, Apply("add", (acc, Apply("mul", (x, y), wide)), wide)))

    def _convolve(self, e: Expr, index: At, scope: Scope) -> Scalar:
        x, w = e.args
        p = e.params
        wide = computing(e.dtype)
        place = scope.place(index)
        per_group = w.shape[0] // p["groups"]
        group = index[1] // per_group if p["groups"] > 1 else 0

        def element(at: At, inner: Scope, acc: Var) -> None:
            spots = tuple(i * s + k * d - lo for i, k, s, d, (lo, _) in
                          zip(index[2:], at[1:], p["strides"], p["dilations"], p["pads"]))
            conditions = [(q, 0, d) for q, d, (lo, hi) in zip(spots, x.shape[2:], p["pads"])
                          if decide_eq(lo, 0) is not True or decide_eq(hi, 0) is not True]
            left = (index[0], group * w.shape[1] + at[0], *spots)
            self._where(inner, conditions, lambda s: self._multiply_add(s, acc, x, left, w, (index[1], *at), wide))

        acc = self._fold(place, "sum", wide, w.shape[1:], element)
        return self._rounded(place, acc, e.dtype)

    def _where(self, scope: Scope, conditions: Sequence[Any], make: Callable[[Scope], None]) -> None:
        left = _undecided(conditions)
        if left is None:
            return
        if not left:
            make(scope)
            return
        conditions = left
        inner = Scope(scope, barrier=True)
        make(inner)
        scope.statements.append(If(tuple(conditions), inner.statements))

    def _convolve_transposed(self, e: Expr, index: At, scope: Scope) -> Scalar:
        x, w = e.args
        p = e.params
        wide = computing(e.dtype)
        place = scope.place(index)
        per_group, channels = w.shape[1], x.shape[1] // p["groups"]
        group = index[1] // per_group if p["groups"] > 1 else 0
        channel = index[1] % per_group if p["groups"] > 1 else index[1]

        def element(at: At, inner: Scope, acc: Var) -> None:
            conditions: list[Any] = []
            spots: list[DimLike] = []
            for i, k, s, d, (lo, _), size in zip(index[2:], at[1:], p["strides"], p["dilations"], p["pads"],
                                                 x.shape[2:]):
                reach = i + lo - k * d
                conditions.append((reach, 0, size * s))
                if s > 1:
                    conditions.append((reach % s, 0, 1))
                spots.append(reach // s)
            left = (index[0], group * channels + at[0], *spots)
            right = (group * channels + at[0], channel, *at[1:])
            self._where(inner, conditions, lambda sc: self._multiply_add(sc, acc, x, left, w, right, wide))

        acc = self._fold(place, "sum", wide, [channels, *w.shape[2:]], element)
        return self._rounded(place, acc, e.dtype)

    def _window(self, e: Expr, index: At, scope: Scope) -> Scalar:
        x, p = e.args[0], e.params
        op, n = p["op"], len(p["size"])
        wide = computing(e.dtype)
        place = scope.place(index)
        lead = x.rank - n

        def element(at: At, inner: Scope, acc: Var) -> None:
            spots = tuple(i * s + k * d - lo for i, k, s, d, (lo, _) in
                          zip(index[lead:], at, p["strides"], p["dilations"], p["pads"]))
            conditions = [(q, 0, d) for q, d, (lo, hi) in zip(spots, x.shape[lead:], p["pads"])
                          if decide_eq(lo, 0) is not True or decide_eq(hi, 0) is not True]

            def fold(s: Scope) -> None:
                v = self._widened(s, self.value(x, (*index[:lead], *spots), s), wide)
                s.statements.append(Assign(acc, Apply(_FOLD[op], (acc, v), wide)))

            self._where(inner, conditions, fold)

        acc = self._fold(place, op, wide, p["size"], element)
        return self._rounded(place, acc, e.dtype)

    # Whole nests

    def nests(self, e: Expr, buffer: Buffer, name: str) -> list[Nest]:
        """The nests that fill `buffer` with `e`."""
        if decide_eq(product(e.shape), 0):
            return []
        if e.prim == "concat":
            return self._concat_nests(e, buffer, name)
        if e.prim in ("scatter_along", "scatter_nd"):
            return self._scatter_nests(e, buffer, name)
        if e.prim == "cumulate":
            return [self._cumulate_nest(e, buffer, name)]
        # The same elements in the same order: in the shape below, rows need no division to be found.
        whole = e
        while e.prim == "reshape" and e.args[0] not in self.held and _has_rows(e.args[0]):
            e = e.args[0]
        if e is not whole and (e.prim == "concat" or not (e.prim in _MOVED or e.prim in MAPS)):
            e = whole
        return [self.nest(e.shape, name, describe(e), lambda index, scope: scope.statements.append(
            Store(buffer, indexing.linear(e.shape, index), self.compute_or_load(e, index, scope))))]

    def compute_or_load(self, e: Expr, index: At, scope: Scope) -> Scalar:
        ready = self.ready.get(e)
        return self.let(scope, "c", ready(index)) if ready is not None else self.compute(e, index, scope)

    def nest(self, extents: Sequence[DimLike], name: str, comment: str, make: Callable[[At, Scope], None],
             parallel: bool = True) -> Nest:
        """A nest over `extents` whose innermost body `make` writes."""
        symbols: list[DimLike] = [0 if decide_eq(d, 1) else loop_symbol(d) for d in extents]
        root = Scope(None)
        scopes = [root]
        for s in symbols:
            if isinstance(s, Dim):
                scopes.append(Scope(scopes[-1], [s]))
        make(tuple(symbols), scopes[-1])
        loops = [(s, d) for s, d in zip(symbols, extents) if isinstance(s, Dim)]
        for n, ((s, d), scope) in enumerate(zip(reversed(loops), reversed(scopes[1:]))):
            plain = n == 0 and parallel and all(isinstance(st, (Let, Store)) for st in scope.statements)
            assert scope.parent is not None
            scope.parent.statements.append(For(s, d, scope.statements, vector=plain))
        made = Nest(name, comment, root.statements)
        if parallel:
            merge_loops(made)
            made.parallel = parallel_loops(made)
        made.cost = _cost(made.body)
        return made

    def _concat_nests(self, e: Expr, buffer: Buffer, name: str) -> list[Nest]:
        made: list[Nest] = []
        axis = e.params["axis"]
        before: DimLike = 0
        for k, piece in enumerate(e.args):
            if decide_eq(product(piece.shape), 0) is not True:
                def make(index: At, scope: Scope, piece: Expr = piece, before: DimLike = before) -> None:
                    at = (*index[:axis], index[axis] + before, *index[axis + 1:])
                    scope.statements.append(Store(buffer, indexing.linear(e.shape, at),
                                                  self.value(piece, index, scope)))

                shape = list(e.shape)
                shape[axis] = piece.shape[axis]
                made.append(self.nest(shape, f"{name}_{k}", f"{describe(e)}, piece {k}", make))
            before = before + piece.shape[axis]
        return made

    def _scatter_nests(self, e: Expr, buffer: Buffer, name: str) -> list[Nest]:
        x, indices, updates = e.args
        made = [self.nest(e.shape, f"{name}_copy", f"{describe(e)}: the data", lambda index, scope:
                          scope.statements.append(Store(buffer, indexing.linear(e.shape, index),
                                                        self.value(x, index, scope))))]
        if decide_eq(product(updates.shape), 0):
            return made

        def make(index: At, scope: Scope) -> None:
            if e.prim == "scatter_along":
                axis = e.params["axis"]
                j, ok = self.checked(indices, index, x.shape[axis], scope, "scatter_along")
                at: At = (*index[:axis], j, *index[axis + 1:])
                oks = [ok]
            else:
                lead, depth = indices.rank - 1, indices.shape[-1]
                assert isinstance(depth, int)
                found = [self.checked(indices, (*index[:lead], k), x.shape[k], scope, "scatter_nd")
                         for k in range(depth)]
                at = (*(j for j, _ in found), *index[lead:])
                oks = [ok for _, ok in found]
            place = indexing.linear(e.shape, at)
            v = self.value(updates, index, scope)

            def write(inner: Scope) -> None:
                stored: Scalar = v
                if e.params["reduction"] != "none":
                    # Not `value`: what lies there changes from turn to turn.
                    held = self.let(inner, "held", Load(buffer, place))
                    stored = self.let(inner, "v", Apply(_UPDATE[e.params["reduction"]], (held, v), e.dtype))
                inner.statements.append(Store(buffer, place, stored))

            self._where(scope, oks, write)

        # In order, so that of equal places the last wins and sums come out the same every time.
        made.append(self.nest(updates.shape, f"{name}_updates", f"{describe(e)}: the updates", make, parallel=False))
        return made

    def _cumulate_nest(self, e: Expr, buffer: Buffer, name: str) -> Nest:
        x, p = e.args[0], e.params
        axis, op = p["axis"], p["op"]
        wide = computing(e.dtype)

        def make(index: At, scope: Scope) -> None:
            acc = self.let(scope, "acc", Number(identity(op, wide), wide), changes=True)
            k = loop_symbol(x.shape[axis])
            inner = Scope(scope, [k], barrier=True)
            step = x.shape[axis] - 1 - k if p["reverse"] else k
            at = (*index[:axis], step, *index[axis:])
            v = self._widened(inner, self.value(x, at, inner), wide)
            add = Assign(acc, Apply(_FOLD[op], (acc, v), wide))
            if not p["exclusive"]:
                inner.statements.append(add)
            out = self._rounded(inner, acc, e.dtype)
            inner.statements.append(Store(buffer, indexing.linear(e.shape, at), out))
            if p["exclusive"]:
                inner.statements.append(add)
            scope.statements.append(For(k, x.shape[axis], inner.statements))

        rest = [d for i, d in enumerate(e.shape) if i != axis]
        return self.nest(rest, name, describe(e), make)


# What is computed element by element, wherever it goes.
_MOVED = frozenset(("broadcast", "transpose", "slice", "select", "cast", "gather", "pad"))


def _has_rows(e: Expr) -> bool:
    """Whether the last axis is long enough to be a loop of vectors."""
    return e.rank > 0 and not (isinstance(e.shape[-1], int) and e.shape[-1] < 16)


def _undecided(conditions: Sequence[Any]) -> list[Any] | None:
    """The conditions that have to be asked while running; None where one surely does not hold."""
    left: list[Any] = []
    for c in conditions:
        if isinstance(c, Var):
            left.append(c)
            continue
        value, low, high = c
        if decide_lt(value, low) or decide_ge(value, high) or decide_ge(low, high):
            return None
        if not (decide_ge(value, low) and decide_lt(value, high)):
            left.append(c)
    return left


def describe(e: Expr) -> str:
    """What an expression is, in a line: for comments in the generated C."""
    from gesher.primitives import print_type

    label = f"{e.name} = " if e.name else ""
    return f"{label}{e.params.get('op', '')}{' ' if 'op' in e.params else ''}{e.prim} {print_type(e)}"


def _cost(body: Sequence[Any]) -> int:
    """Roughly how many additions a turn of the outer loops costs, per element of the innermost."""
    total = 1
    for s in body:
        value = getattr(s, "value", None)
        pending = [value] if value is not None and not isinstance(s, (For, If)) else []
        while pending:
            v = pending.pop()
            if isinstance(v, Apply):
                total += MAPS[v.op].cost if v.op in MAPS else 1
                pending.extend(v.args)
            elif isinstance(v, Load):
                total += 1
        if isinstance(s, For):
            inner = _cost(s.body)
            total += inner * (s.extent if isinstance(s.extent, int) and not s.vector else 1)
        elif isinstance(s, If):
            total += _cost(s.then)
    return min(total, 1 << 40)


def parallel_loops(nest: Nest) -> int:
    """How many outer loops may be cut among threads: perfectly nested, all but what runs along the rows, and no more
    than make enough parts: the place of a part is found by divisions."""
    n, enough, parts = 0, 0, 1
    body = nest.body
    while len(body) == 1 and isinstance(body[0], For) and not body[0].folds:
        n += 1
        parts = parts * body[0].extent if isinstance(body[0].extent, int) else 0
        enough = enough or (n if parts >= PARTS else 0)
        body = body[0].body
    most = max(n - 1, 1) if n else 0
    return min(most, enough or most)
