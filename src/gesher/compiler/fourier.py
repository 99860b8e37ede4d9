"""The discrete Fourier transform: a composite of `ops.core.fourier`, whose meaning is a product with all waves."""

from __future__ import annotations

import numpy as np

from gesher.base.dtypes import DOUBLE
from gesher.primitives import Expr
from gesher.symbolic import DimLike, minimum, product

from .kernel import Kernel, Point, Spell, composite_of
from .packed import packed
from .views import same_memory


class Dft(Kernel):
    """Transforms of doubles along an axis; waves are constants where the length is known."""

    header, struct, function, scratch = "gs_dft.h", "GsDft", "gs_dft", "gs_dft_scratch"

    @classmethod
    def match(cls, e: Expr) -> Dft | None:
        bundle = composite_of(e, "dft")
        return cls(e, bundle.args[0]) if bundle is not None and e.dtype is DOUBLE else None

    def __init__(self, expr: Expr, x: Expr):
        self.of = dict(expr.args[0].params["of"])
        self.x = x
        length = self.of["length"]
        waves = []
        if isinstance(length, int) and length > 0:
            number = expr.builder.constant(np.array(length, np.int64))
            waves.append(packed(("waves",), [number], DOUBLE, (2, length), _waves))
        super().__init__(expr, [same_memory(x), *waves])

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        x, axis, n = self.x, self.of["axis"], self.of["length"]
        inverse, onesided = self.of["inverse"], self.of["onesided"]
        taken: DimLike = minimum(x.shape[axis], n // 2 + 1 if inverse and onesided else n)
        waves = [("waves", point(e)) for e in self.operands[1:]]
        return [("outer", spell(product(x.shape[:axis]))), ("size", spell(x.shape[axis])),
                ("inner", spell(product(x.shape[axis + 1:-1]))), ("parts", spell(x.shape[-1])), ("taken", spell(taken)),
                ("n", spell(n)), ("bins", spell(self.expr.shape[axis])), ("inverse", str(int(inverse))),
                ("onesided", str(int(onesided))), ("x", point(self.operands[0])), *waves]


def _waves(length: np.ndarray) -> np.ndarray:
    angle = 2 * np.pi * np.arange(int(length)) / int(length)
    return np.stack([np.cos(angle), np.sin(angle)])
