"""Sizes and conditions as JSON and back, for what is kept on disk (`frozen`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.primitives import Builder, Expr
from gesher.symbolic import Dim, DimLike, bcast, bounds, floordiv, fresh, maximum, minimum, mod, sym
from gesher.symbolic import walk as parts_of

# Expressions that a condition may be made of.
_MOST = 200


class Symbols:
    """Sizes as JSON: an int is itself, a symbol ["sym", its row in `table`], an expression [op, its parts]."""

    def __init__(self, table: list[list[Any]] | None = None):
        self.table: list[list[Any]] = [] if table is None else table
        self.rows: dict[Dim, int] = {}
        self.made: list[Dim] = []
        for name, anonymous, low, high in self.table:
            self.made.append(fresh(name, min=low, max=high) if anonymous else sym(name, min=low, max=high))

    def row(self, dims: Sequence[DimLike]) -> list[Any]:
        return [self.code(d) for d in dims]

    def code(self, d: DimLike) -> Any:
        if not isinstance(d, Dim):
            return int(d)
        done: dict[Any, Any] = {}
        for part in parts_of(d):
            if part.op == "sym":
                if part not in self.rows:
                    self.rows[part] = len(self.table)
                    self.table.append([part.reason if part.is_fresh else part.name, part.is_fresh, *bounds(part)])
                done[part] = ["sym", self.rows[part]]
            else:
                done[part] = [part.op, *(x if isinstance(x, int) else done[x] for x in part.args)]
        return done[d]

    def dims(self, rows: Sequence[Any]) -> tuple[DimLike, ...]:
        return tuple(map(self.decode, rows))

    def decode(self, code: Any) -> DimLike:
        if isinstance(code, int):
            return code
        op, *rest = code
        if op == "sym":
            return self.made[rest[0]]
        args = [self.decode(x) for x in rest]
        result = args[0]
        for x in args[1:]:
            result = _JOINED[op](result, x)
        return result


_JOINED: dict[str, Any] = {"add": lambda a, b: a + b, "mul": lambda a, b: a * b, "floordiv": floordiv, "mod": mod,
                           "min": minimum, "max": maximum, "bcast": bcast}


def condition(e: Expr, leaves: Mapping[Expr, str], symbols: Symbols) -> list[Any] | None:
    """A condition on sizes and small integers as rows, operands first; None where something in it cannot be written.

    Args:
        leaves: the names under which its inputs are fed.
    """
    rows: list[Any] = []
    at: dict[Expr, int] = {}
    for x in _in_order(e):
        known = x.builder.known(x)
        kind, shape = x.dtype.name, symbols.row(x.shape)
        row: list[Any]
        if known is not None:
            row = ["known", kind, shape, list(known.shape), [symbols.code(d) if isinstance(d, Dim) else int(d)
                                                             for d in known.reshape(-1).tolist()]]
        elif x.prim == "input":
            if x not in leaves:
                return None
            row = ["fed", leaves[x]]
        else:
            params = {k: _param(v, symbols) for k, v in x.params.items()}
            if any(v is None for v in params.values()) or any(a not in at for a in x.args) or len(rows) > _MOST:
                return None
            row = ["made", kind, shape, x.prim, [at[a] for a in x.args], params]
        at[x] = len(rows)
        rows.append(row)
    return rows


def _in_order(root: Expr) -> list[Expr]:
    """What a condition is made of, operands first; what stands below something known does not matter."""
    order: list[Expr] = []
    seen: set[Expr] = set()
    stack = [(root, False)]
    while stack:
        e, ready = stack.pop()
        if ready:
            order.append(e)
        elif e not in seen:
            seen.add(e)
            stack.append((e, True))
            stack.extend((a, False) for a in e.args if e.builder.known(e) is None)
    return order


def _param(value: Any, symbols: Symbols) -> Any:
    """A parameter, tagged with its kind; None for what is not written."""
    if isinstance(value, (bool, str, float)):
        return ["plain", value]
    if isinstance(value, (int, Dim)):
        return ["size", symbols.code(value)]
    if isinstance(value, tuple):
        parts = [_param(v, symbols) for v in value]
        return None if None in parts else ["row", parts]
    return None


def _param_of(code: Any, symbols: Symbols) -> Any:
    kind, value = code
    if kind == "row":
        return tuple(_param_of(v, symbols) for v in value)
    return symbols.decode(value) if kind == "size" else value


def condition_of(rows: Sequence[Any], p: Builder, fed: Callable[[str], Expr], symbols: Symbols) -> Expr:
    """The condition that `condition` wrote; `fed` gives the expression of an input by its name."""
    made: list[Expr] = []
    for i, (kind, *rest) in enumerate(rows):
        if kind == "fed":
            made.append(fed(rest[0]))
            continue
        dtype, shape = dtypes.BY_NAME[rest[0]], symbols.dims(rest[1])
        if kind == "known":
            e = p.input(f"known {len(rows)} {i} {id(rows)}", dtype, shape)
            dims = [symbols.decode(d) for d in rest[3]]
            symbolic = any(isinstance(d, Dim) for d in dims)
            value = np.empty(len(dims), object) if symbolic else np.array(dims, dtype.numpy)
            if symbolic:
                value[:] = dims
            p.learn(e, value.reshape(rest[2]))
            made.append(e)
        else:
            params = {k: _param_of(v, symbols) for k, v in rest[4].items()}
            made.append(p.make(rest[2], [made[a] for a in rest[3]], params, dtype, shape))
    return made[-1]
