"""Functions from bytes to bytes as tables: what quantised models do with one tensor between two rounds of counting.

`as_tables` finds expressions of 8 bits that are made elementwise of one tensor of 8 bits and of single constants, and
costly; each becomes a gather from 256 constants. What a reader would guess wrong: the table is what the interpreter
says, so that it cannot differ from the reference, and a negative byte counts from the end of the table, as a gather's
indices do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gesher.base.dtypes import INT8, INT64, UINT8
from gesher.primitives import MAPS, Builder, Expr, evaluate
from gesher.primitives.simplify import rewrite
from gesher.symbolic import decide_eq, product

from .kernel import Kernel, Point, Spell
from .views import same_memory

_BYTES = (INT8, UINT8)
_ELEMENTWISE = frozenset(("select", "cast", "bitcast", "is_inf", *MAPS))
# Additions per element above which looking up is quicker than computing.
_COSTLY = 24
_MOST = 64


def as_tables(roots: Sequence[Expr]) -> list[Expr]:
    """The roots with functions of single bytes as gathers from tables."""
    return rewrite(roots, _tabled)


def _tabled(p: Builder, e: Expr) -> Expr | None:
    if e.dtype not in _BYTES or e.prim not in _ELEMENTWISE or e.scopes:
        return None
    chain = _chain(e)
    if chain is None:
        return None
    x, order = chain
    places = np.arange(256).astype(np.uint8).view(x.dtype.numpy)
    made: dict[Expr, Expr] = {x: p.constant(places)}
    for step in order:
        args = [made[a] if a in made else _single(p, a) for a in step.args]
        made[step] = p.make(step.prim, args, step.params, step.dtype, (256,))
    table = np.array(evaluate([made[e]])[0])
    return p.gather(p.constant(table, e.dtype), p.cast(x, INT64), 0)


def _chain(e: Expr) -> tuple[Expr, list[Expr]] | None:
    """The one tensor of bytes that `e` is a costly function of, and the steps from it to `e`, operands first."""
    order: list[Expr] = []
    seen: set[Expr] = set()
    leaf: Expr | None = None
    cost = 0
    stack = [(e, False)]
    while stack:
        x, ready = stack.pop()
        if ready:
            order.append(x)
            continue
        if x in seen or _number(x):
            continue
        seen.add(x)
        if (x.dtype in _BYTES and x is not e) or x.prim not in _ELEMENTWISE:
            if x.dtype not in _BYTES or x.shape != e.shape or (leaf is not None and leaf is not x):
                return None
            leaf = x
            continue
        if x.shape != e.shape or len(seen) > _MOST:
            return None
        cost += MAPS[x.prim].cost if x.prim in MAPS else 1
        stack.append((x, True))
        stack.extend((a, False) for a in x.args)
    return None if leaf is None or cost < _COSTLY else (leaf, order)


def _number(x: Expr) -> bool:
    """Whether it is one constant, perhaps repeated."""
    while x.prim in ("broadcast", "reshape"):
        x = x.args[0]
    return x.prim == "constant" and decide_eq(product(x.shape), 1) is True


def _single(p: Builder, x: Expr) -> Expr:
    while x.prim in ("broadcast", "reshape"):
        x = x.args[0]
    return p.broadcast_to(p.reshape(x, ()), (256,))


class Bytes(Kernel):
    """A table of 256 bytes looked up with bytes."""

    header, struct, function = "gs_bytes.h", "GsBytes", "gs_bytes"

    @classmethod
    def match(cls, e: Expr) -> Bytes | None:
        if e.prim != "gather" or e.dtype not in _BYTES or e.args[0].prim != "constant" or e.args[0].shape != (256,):
            return None
        index = e.args[1]
        if index.prim != "cast" or index.args[0].dtype not in _BYTES:
            return None
        return cls(e, [same_memory(index.args[0]), e.args[0]])

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        return [("n", spell(product(self.expr.shape))), ("x", f"(const uint8_t*){point(self.operands[0])}"),
                ("table", f"(const uint8_t*){point(self.operands[1])}")]

    def element(self) -> str:
        return "uint8_t"
