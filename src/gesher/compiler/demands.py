"""What sizes must be for a segment to be right: broadcasts that fit, sums over as many terms on both sides.

Primitives refuse what surely does not fit and take for granted what hangs on symbols. Before a segment runs with sizes
that it has not run with, what was taken for granted is checked here; else C would read beyond its operands.

What a reader would guess wrong: a demand of a loop's body holds only where the loop has a turn, and the arms of a
branch demand nothing, because only one of them runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gesher.base.errors import RunError
from gesher.primitives import Expr
from gesher.primitives.shapes import DEMANDS, Demanded, Kind, demanded
from gesher.symbolic import Dim, DimLike, decide_le, evaluate, product


class Misfit(RunError):  # noqa: N818  (an error all the same)
    """Sizes of a run do not fit each other."""


@dataclass(frozen=True, slots=True)
class Demand:
    """`a` equals `b`, is at most `b`, or repeats to `b`; asked only where all of `turns` are above 0."""

    kind: Kind
    a: DimLike
    b: DimLike
    what: str
    turns: tuple[DimLike, ...] = ()

    def symbols(self) -> set[Dim]:
        return {s for d in (self.a, self.b, *self.turns) if isinstance(d, Dim) for s in d.symbols()}

    def check(self, sizes: Mapping[Dim, int]) -> None:
        """Raises `Misfit` where it is not met."""
        if any(evaluate(d, sizes) <= 0 for d in self.turns):
            return
        a, b = evaluate(self.a, sizes), evaluate(self.b, sizes)
        if not demanded(self.kind, a, b):
            raise Misfit(f"{self.what}: a size of {a} meets one of {b}, and {DEMANDS[self.kind]}",
                         advice=f"the sizes are {self.a} and {self.b}; feed shapes that fit each other")


def demands(roots: Iterable[Expr], known: set[Dim]) -> list[Demand]:
    """What `roots` and everything below them demand of the symbols in `known`, without what always holds."""
    found: dict[tuple[object, ...], Demand] = {}
    seen: set[Expr] = set()
    pending: list[tuple[Expr, tuple[DimLike, ...]]] = [(r, ()) for r in roots]
    while pending:
        e, turns = pending.pop()
        if e in seen:
            continue
        seen.add(e)
        for kind, a, b, *where in _of(e):
            if demanded(kind, a, b):
                continue
            asked = (*turns, *where)
            made = Demand(kind, a, b, e.params.get("what") or e.name or e.prim, asked)
            if made.symbols() <= known:
                found.setdefault((kind, a, b, asked), made)
        pending.extend((x, turns) for x in e.args)
        if e.prim == "loop":
            inside = (*turns, e.params["length"])
            pending.extend((x, inside) for k in ("carried_out", "stacked_out") for x in e.params[k])
        elif e.prim == "composite":
            pending.extend((x, turns) for x in e.params["meaning"])
    return list(found.values())


def _of(e: Expr) -> Iterator[Demanded | tuple[Kind, DimLike, DimLike, DimLike]]:
    """What one primitive takes for granted; a fourth says of what there must be more than nothing for it to count."""
    p, args = e.params, e.args
    if e.prim == "broadcast":
        shape = args[0].shape
        yield from (("repeats", d, t) for d, t in zip(shape, e.shape[e.rank - len(shape):]))
    elif e.prim == "hold":
        yield from p["demands"]
    elif e.prim == "argreduce":
        yield "most", 1, args[0].shape[p["axis"]]
    elif e.prim == "reshape":
        yield "same", product(args[0].shape), product(e.shape)
    elif e.prim == "concat":
        for x in args:
            yield from _same(x.shape, e.shape, but=p["axis"])
    elif e.prim == "contract":
        a, b = args
        for i, j in (*zip(p["a_axes"], p["b_axes"]), *zip(p["a_batch"], p["b_batch"])):
            yield "same", a.shape[i], b.shape[j]
    elif e.prim == "convolve":
        yield "same", args[0].shape[1], args[1].shape[1] * p["groups"]
    elif e.prim == "convolve_transposed":
        yield "same", args[0].shape[1], args[1].shape[0]
    elif e.prim in ("gather_along", "scatter_along"):
        x, indices = args[:2]
        yield from (("most", a, b) for i, (a, b) in enumerate(zip(indices.shape, x.shape)) if i != p["axis"])
        if e.prim == "scatter_along":
            yield from _same(args[2].shape, indices.shape)
    elif e.prim == "gather_nd":
        n = p["batch_dims"]
        yield from _same(args[0].shape[:n], args[1].shape[:n])
    elif e.prim == "scatter_nd":
        x, indices, updates = args
        depth = indices.shape[-1]
        assert isinstance(depth, int)
        yield from _same(updates.shape, (*indices.shape[:-1], *x.shape[depth:]))
    elif e.prim == "loop":
        n = p["carried"]
        for start, out in zip(args[1:1 + n], p["carried_out"]):
            yield from _same(out.shape, start.shape)
        yield from (("same", s.shape[0], p["length"]) for s in args[1 + n:])
    elif e.prim == "slice":
        for d, start, stop, step, size in zip(args[0].shape, p["starts"], p["stops"], p["steps"], e.shape):
            # An empty slice touches nothing, wherever it stands.
            low, high = (start, stop) if _forward(step) else (stop + 1, start + 1)
            yield "most", 0, low, size
            yield "most", high, d, size
    elif e.prim == "pad":
        yield from (("most", 0, n) for n in (*p["low"], *p["high"]))


def _forward(step: DimLike) -> bool:
    return decide_le(1, step) is True


def _same(a: Sequence[DimLike], b: Sequence[DimLike], but: int = -1) -> Iterator[Demanded]:
    yield from (("same", x, y) for i, (x, y) in enumerate(zip(a, b)) if i != but)
