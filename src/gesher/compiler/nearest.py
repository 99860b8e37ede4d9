"""Pictures enlarged or shrunk by taking elements, as Resize to the nearest does: two gathers along neighbouring axes.

What a reader would guess wrong: indices must surely be inside, for nobody asks while it runs. They are where they are
constants, or a count divided by a number, which is how `ops.core.resize` writes whole enlargements.
"""

from __future__ import annotations

from gesher.base.dtypes import FLOAT, INT64
from gesher.primitives import Expr
from gesher.symbolic import Dim, DimLike, decide_eq, decide_le, product

from .indexing import unravel
from .kernel import Kernel, Point, Spell
from .packed import array_of
from .views import same_memory

# Elements of the result below which a nest, which fuses with what reads it, is as quick.
_FEW = 1024


class Nearest(Kernel):
    """Elements taken along one axis, or along two neighbouring ones."""

    header, struct, function = "gs_nearest.h", "GsNearest", "gs_nearest"

    @classmethod
    def match(cls, e: Expr) -> Nearest | None:
        if e.prim != "gather" or not _is_inside(e) or e.dtype.bits % 8 or decide_le(product(e.shape), _FEW):
            return None
        x, axis = e.args[0], e.params["axis"]
        rows = x if x.prim == "gather" and x.params["axis"] == axis - 1 and _is_inside(x) else None
        # A single axis is worth it where single elements are taken.
        if rows is None and axis != e.rank - 1:
            return None
        return cls(e, rows)

    def __init__(self, expr: Expr, rows: Expr | None):
        self.rows = rows
        taken = [expr.args[1], *([] if rows is None else [rows.args[1]])]
        super().__init__(expr, [same_memory((expr if rows is None else rows).args[0]), *taken])
        self.axis: int = expr.params["axis"]
        self.tiles = expr.dtype is FLOAT and self.axis == expr.rank - 1

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        x, y, axis = (self.expr if self.rows is None else self.rows).args[0], self.expr, self.axis
        lead = axis if self.rows is None else axis - 1
        tall = [] if self.rows is None else [("rows", point(self.operands[2]))]
        inner = product(x.shape[axis + 1:]) * y.dtype.numpy.itemsize
        return [("outer", spell(product(x.shape[:lead]))), ("H", spell(product(x.shape[lead:axis]))),
                ("W", spell(x.shape[axis])), ("OH", spell(product(y.shape[lead:axis]))), ("OW", spell(y.shape[axis])),
                ("bytes", spell(inner)), *tall, ("columns", point(self.operands[1])), ("x", point(self.operands[0]))]

    def tile(self, batch: Dim, m: DimLike, n: DimLike) -> tuple[DimLike, ...]:
        shape = self.expr.shape
        return (*unravel(shape[:-1], batch), n) if self.rows is None else (*unravel(shape[:-2], batch), m, n)


def _is_inside(e: Expr) -> bool:
    """Whether a gather's indices are a vector of places that are there, whatever the data."""
    indices, size = e.args[1], e.args[0].shape[e.params["axis"]]
    if indices.rank != 1 or indices.dtype is not INT64:
        return False
    if indices.prim == "constant":
        places = array_of(indices.params["value"])
        return isinstance(size, int) and bool(((places >= 0) & (places < size)).all())
    # i / k for i below k * size.
    if indices.prim != "div" or indices.args[0].prim != "iota":
        return False
    by = indices.args[1]
    while by.prim in ("broadcast", "reshape"):
        by = by.args[0]
    if by.prim != "constant" or by.dtype is not INT64:
        return False
    k = array_of(by.params["value"]).reshape(-1)
    return len(k) == 1 and k[0] > 0 and decide_eq(indices.shape[0], int(k[0]) * size) is True
