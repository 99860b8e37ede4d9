"""What is done to rows of floats as a whole: softmax, layer and RMS normalisation."""

from __future__ import annotations

from gesher.base.dtypes import FLOAT
from gesher.primitives import Expr
from gesher.symbolic import decide_eq, product

from .kernel import Kernel, Point, Spell
from .views import same_memory


class Softmax(Kernel):
    """Softmax and its logarithm along any axis."""

    header, struct, function = "gs_rows_f32.h", "GsRows", "gs_softmax_f32"

    @classmethod
    def match(cls, e: Expr) -> Softmax | None:
        if e.prim != "item" or e.args[0].prim != "composite":
            return None
        bundle = e.args[0]
        if bundle.params["name"] not in ("softmax", "log_softmax") or e.dtype is not FLOAT \
                or bundle.args[0].dtype is not FLOAT:
            return None
        return cls(e, [same_memory(bundle.args[0])])

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        bundle = self.expr.args[0]
        x = bundle.args[0]
        axis = dict(bundle.params["of"])["axis"] % x.rank
        log = bundle.params["name"] == "log_softmax"
        return [("outer", spell(product(x.shape[:axis]))), ("n", spell(x.shape[axis])),
                ("inner", spell(product(x.shape[axis + 1:]))), ("x", point(self.operands[0])), ("log", str(int(log)))]


class LayerNorm(Kernel):
    """The normalised rows of a layer or RMS norm; mean and deviation, where they are asked for, come by their meaning.

    Scale and shift must have one number for each element of a row.
    """

    header, struct, function = "gs_rows_f32.h", "GsRows", "gs_layer_norm_f32"

    @classmethod
    def match(cls, e: Expr) -> LayerNorm | None:
        if e.prim != "item" or e.params["index"] != 0 or e.args[0].prim != "composite":
            return None
        bundle = e.args[0]
        if bundle.params["name"] not in ("layer_norm", "rms_norm") or any(a.dtype is not FLOAT for a in bundle.args) \
                or e.dtype is not FLOAT:
            return None
        of, x = dict(bundle.params["of"]), bundle.args[0]
        if of["stash_type"] != 1 or e.shape != x.shape:
            return None
        row = x.shape[of["axis"]:]
        for w in bundle.args[1:]:
            # Leading axes of 1 change nothing; anything else would be a broadcast.
            lead = w.rank - len(row)
            if lead < 0 or any(decide_eq(d, 1) is not True for d in w.shape[:lead]) \
                    or any(decide_eq(a, b) is not True for a, b in zip(w.shape[lead:], row)):
                return None
        return cls(e, [same_memory(a) for a in bundle.args])

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        bundle = self.expr.args[0]
        x, of = bundle.args[0], dict(bundle.params["of"])
        weights = [("scale", 1), ("shift", 2)][:len(self.operands) - 1]
        return [("outer", spell(product(x.shape[:of["axis"]]))), ("n", spell(product(x.shape[of["axis"]:]))),
                ("inner", "1"), ("x", point(self.operands[0])),
                *((name, point(self.operands[i])) for name, i in weights),
                ("epsilon", f"{float(of['epsilon'])!r}f"), ("centred", str(int(bundle.params["name"] == "layer_norm")))]

    def describe(self) -> str:
        return f"{self.function} ({self.expr.args[0].params['name']})"
