"""Kernels that go along one axis of tensors of floats or doubles: the place of an extreme, running sums over rows."""

from __future__ import annotations

from gesher.base.dtypes import DOUBLE, FLOAT
from gesher.primitives import Expr
from gesher.symbolic import decide_eq, decide_lt, product

from .kernel import Kernel, Point, Spell
from .views import same_memory

# An axis shorter than this is left to a nest, into which what is compared flows.
_SHORT = 16


class _Along(Kernel):
    header, struct = "gs_along_f32.h", "GsAlong"

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        x, axis = self.expr.args[0], self.expr.params["axis"]
        return [("outer", spell(product(x.shape[:axis]))), ("n", spell(x.shape[axis])),
                ("inner", spell(product(x.shape[axis + 1:]))), ("x", point(self.operands[0]))]


class ArgMax(_Along):
    """Where the largest or the smallest stands."""

    function, output = "gs_argmax_f32", "place"

    @classmethod
    def match(cls, e: Expr) -> ArgMax | None:
        if e.prim != "argreduce" or e.args[0].dtype not in (FLOAT, DOUBLE) or e.dtype.name != "int64":
            return None
        size = e.args[0].shape[e.params["axis"]]
        # Places of floats are counted in 32 bits.
        if decide_lt(size, _SHORT) or (isinstance(size, int) and size >= 1 << 31):
            return None
        made = cls(e, [same_memory(e.args[0])])
        if e.args[0].dtype is DOUBLE:
            made.header, made.struct, made.function = "gs_argmax_f64.h", "GsArgMaxF64", "gs_argmax_f64"
        return made

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        p = self.expr.params
        return [*super().fields(spell, point), ("smallest", str(int(p["op"] == "min"))), ("last", str(int(p["last"])))]


class CumSum(_Along):
    """Running sums along any axis but the last: along that a nest is as quick."""

    function = "gs_cumsum_f32"

    @classmethod
    def match(cls, e: Expr) -> CumSum | None:
        if e.prim != "cumulate" or e.dtype is not FLOAT or e.params["op"] != "sum" \
                or decide_eq(product(e.shape[e.params["axis"] + 1:]), 1):
            return None
        return cls(e, [same_memory(e.args[0])])

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        p = self.expr.params
        return [*super().fields(spell, point), ("exclusive", str(int(p["exclusive"]))),
                ("reverse", str(int(p["reverse"])))]
