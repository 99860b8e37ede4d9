"""Windows put back into a picture and added up where they overlap: a composite of `ops.core.unpooling`."""

from __future__ import annotations

from gesher.base.dtypes import FLOAT
from gesher.primitives import Expr

from .kernel import Kernel, Point, Spell, composite_of
from .views import same_memory


class Col2Im(Kernel):
    """Windows of one or two axes, as rows (planes, taps, *windows)."""

    header, struct, function = "gs_col2im.h", "GsCol2Im", "gs_col2im"

    @classmethod
    def match(cls, e: Expr) -> Col2Im | None:
        bundle = composite_of(e, "col2im")
        if bundle is None or e.dtype is not FLOAT or e.rank not in (3, 4):
            return None
        return cls(e, [same_memory(bundle.args[0])])

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        x, of = self.expr.args[0].args[0], dict(self.expr.args[0].params["of"])
        fields = [("planes", spell(x.shape[0])), ("x", point(self.operands[0]))]
        columns = {"in": x.shape[2:], "out": self.expr.shape[2:], "kernel": of["kernel"], "stride": of["strides"],
                   "dilation": of["dilations"], "pad": [low for low, _ in of["pads"]]}
        for name, column in columns.items():
            # One axis is a picture of height 1.
            whole = [0 if name == "pad" else 1] * (4 - self.expr.rank) + list(column)
            fields += [(f"{name}[{i}]", spell(d)) for i, d in enumerate(whole)]
        return fields
