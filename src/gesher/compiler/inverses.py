"""Inverses of square matrices: a composite of `ops.contrib.matrices`, whose meaning is a loop over pivots."""

from __future__ import annotations

from gesher.base.dtypes import DOUBLE
from gesher.primitives import Expr
from gesher.symbolic import product

from .kernel import Kernel, Point, Spell, composite_of
from .views import same_memory


class Inverse(Kernel):
    """Inverses of the last two axes, in double."""

    header, struct, function = "gs_inverse.h", "GsInverse", "gs_inverse"
    scratch, scratch_floats = "gs_inverse_scratch", 2

    @classmethod
    def match(cls, e: Expr) -> Inverse | None:
        bundle = composite_of(e, "inverse")
        return cls(e, [same_memory(bundle.args[0])]) if bundle is not None and e.dtype is DOUBLE else None

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        shape = self.expr.shape
        return [("batch", spell(product(shape[:-2]))), ("n", spell(shape[-1])), ("x", point(self.operands[0]))]
