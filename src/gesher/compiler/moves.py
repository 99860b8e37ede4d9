"""Transpositions whose last axis moves, in blocks: a nest would read or write with large steps.

What a reader would guess wrong: this is not among the kernels that are matched. A transposition flows into what reads
it wherever it can; only one that gets memory of its own, from memory, is made by the kernel.
"""

from __future__ import annotations

from gesher.primitives import Expr

from .kernel import Kernel, Point, Spell
from .views import same_memory

_MOST_AXES = 8


class Transpose(Kernel):
    """Elements of 1 to 8 bytes in another order of the axes."""

    header, struct, function = "gs_move.h", "GsTranspose", "gs_transpose"

    @classmethod
    def of(cls, e: Expr) -> Transpose | None:
        """The kernel for `e`, a transposition; None where a nest is as quick."""
        if e.prim != "transpose" or e.params["perm"][-1] == e.rank - 1 or e.rank > _MOST_AXES \
                or e.dtype.numpy.itemsize not in (1, 2, 4, 8):
            return None
        return cls(e, [same_memory(e.args[0])])

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        x, perm = self.expr.args[0], self.expr.params["perm"]
        return [("rank", str(x.rank)), *((f"shape[{i}]", spell(d)) for i, d in enumerate(x.shape)),
                *((f"perm[{i}]", str(a)) for i, a in enumerate(perm)), ("bytes", str(x.dtype.numpy.itemsize)),
                ("x", point(self.operands[0]))]

    def describe(self) -> str:
        return f"{self.function} {self.expr.params['perm']}"
