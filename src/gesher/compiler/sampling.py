"""Pictures seen at any places (`ops.places`), and elements mixed along an axis (`ops.core.resize`)."""

from __future__ import annotations

from gesher.base.dtypes import FLOAT, INT32, INT64
from gesher.primitives import Expr
from gesher.symbolic import product

from .kernel import Kernel, Point, Spell, composite_of
from .views import same_memory


class Sample(Kernel):
    """Sums or maxima of weighted elements, at places that all channels share."""

    header, struct, function, scratch = "gs_sample_f32.h", "GsSample", "gs_sample_f32", "gs_sample_f32_scratch"

    @classmethod
    def match(cls, e: Expr) -> Sample | None:
        bundle = composite_of(e, "seen_at")
        if bundle is None or e.dtype is not FLOAT:
            return None
        x, index = bundle.args[0], bundle.args[-2]
        return cls(e, [same_memory(a) for a in bundle.args]) if x.rank == 3 and index.dtype is INT32 else None

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        x, *_, index, _ = self.expr.args[0].args
        fold = dict(self.expr.args[0].params["of"])["fold"]
        named = dict(zip(("x", "rows", "index", "weights") if len(self.operands) == 4 else ("x", "index", "weights"),
                         self.operands))
        batches, taps, places = index.shape
        return [("batches", spell(batches)), ("pictures", spell(x.shape[0])), ("C", spell(x.shape[1])),
                ("M", spell(x.shape[2])), ("taps", spell(taps)), ("places", spell(places)),
                ("largest", str(int(fold == "max"))), *((name, point(e)) for name, e in named.items())]

    def describe(self) -> str:
        return f"{self.function}, {self.expr.args[0].args[-2].shape[1]} elements a place"


class Mix(Kernel):
    """Sums of weighted elements along one axis, which are surely inside."""

    header, struct, function, scratch = "gs_mix_f32.h", "GsMix", "gs_mix_f32", "gs_mix_f32_scratch"

    @classmethod
    def match(cls, e: Expr) -> Mix | None:
        bundle = composite_of(e, "mixed")
        if bundle is None or e.dtype is not FLOAT or bundle.args[1].dtype is not INT64:
            return None
        return cls(e, [same_memory(a) for a in bundle.args])

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        x, index, _ = self.expr.args[0].args
        axis = dict(self.expr.args[0].params["of"])["axis"]
        count, taps = index.shape
        return [("outer", spell(product(x.shape[:axis]))), ("n", spell(x.shape[axis])),
                ("inner", spell(product(x.shape[axis + 1:]))), ("count", spell(count)), ("taps", spell(taps)),
                *((name, point(e)) for name, e in zip(("x", "index", "weights"), self.operands))]

    def describe(self) -> str:
        return f"{self.function}, {self.expr.args[0].args[1].shape[1]} elements each"
