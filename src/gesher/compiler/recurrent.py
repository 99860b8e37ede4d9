"""RNN, GRU and LSTM of floats as one kernel: all directions, with every state that is asked for in one run.

What a reader would guess wrong: weights that are computed in the graph are not refused, but packed at each run.
"""

from __future__ import annotations

from gesher.base.dtypes import FLOAT, INT32
from gesher.primitives import Expr
from gesher.symbolic import decide_eq

from . import target
from .kernel import Kernel, Point, Spell
from .kernels.packing import pack_recurrent, recurrent_row
from .packed import packed
from .views import View, contiguous, same_memory, view_of

# The operands of the composite by their places: `recurrence` in ops/core/recurrent.py.
_PLACES = {1: "w", 2: "r", 3: "bias", 4: "lengths", 5: "h0"}
_RESULTS = ("y", "h", "c")
# As the enum of the header has them.
_ACTIVATIONS = {name.replace("_", "").lower(): f"GS_{name}" for name in (
    "SIGMOID", "TANH", "RELU", "AFFINE", "LEAKY_RELU", "THRESHOLDED_RELU", "SCALED_TANH", "HARD_SIGMOID", "ELU",
    "SOFTSIGN", "SOFTPLUS")}


class Recurrent(Kernel):
    """A whole recurrent operator. Its item is one of the states; `also` are the others that are wanted."""

    header, struct, function = "gs_recurrent_f32.h", "GsRecurrent", "gs_recurrent_f32"
    scratch = "gs_recurrent_f32_scratch"
    several = True

    def __init__(self, expr: Expr, x: View, named: dict[str, Expr]):
        super().__init__(expr, [x.base, *named.values()])
        self.x, self.named = x, named
        self.output = _RESULTS[expr.params["index"]]

    @classmethod
    def match(cls, e: Expr) -> Recurrent | None:
        if e.prim != "item" or e.args[0].prim != "composite" or e.args[0].params["name"] not in ("rnn", "gru", "lstm"):
            return None
        bundle = e.args[0]
        of = dict(bundle.params["of"])
        given = dict(zip(bundle.params["given"], bundle.args))
        clip = of["clip"]
        if e.dtype is not FLOAT or of.get("seen") is not None or (clip is not None and not clip > 0):
            return None
        if any(a.dtype is not (INT32 if i == 4 else FLOAT) for i, a in given.items()):
            return None
        # Weights are packed for sizes that are known.
        w, r = given[1], given[2]
        if any(not isinstance(d, int) for d in (*w.shape, *r.shape)) or r.shape[2] == 0:
            return None
        lstm = bundle.params["name"] == "lstm"
        places = {**_PLACES, **({6: "c0", 7: "peephole"} if lstm else {})}
        named = {places[i]: same_memory(a) for i, a in given.items() if i}
        kind, linear, width = of["cell"], bool(of.get("linear_before_reset")), target.current().width
        for name, m in (("w", w), ("r", r)):
            if m.prim != "constant":
                continue
            # What is packed stands for what it was made from, which then is not kept.
            row = recurrent_row(kind, linear, r.shape[2], width)
            named[f"{name}_packed"] = packed(
                ("recurrent", kind, linear, width), [m], FLOAT, (m.shape[0], row * m.shape[2]),
                lambda a: pack_recurrent(kind, linear, a, width))
            del named[name]
        x = given[0]
        view = view_of(x)
        if decide_eq(view.strides[2], 1) is not True:
            base = same_memory(x)
            view = View(base, x.shape, contiguous(x.shape))
        return cls(e, view, named)

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        bundle = self.expr.args[0]
        of = dict(bundle.params["of"])
        x, r = bundle.args[0], bundle.args[2]
        steps, batch, inputs = x.shape
        ways, _, hidden = r.shape
        offset = f" + {spell(self.x.offset)}" if self.x.offset != 0 else ""
        fields = [("kind", f"GS_{of['cell']}"), ("ways", str(ways)),
                  ("linear_before_reset", str(int(of.get("linear_before_reset", 0)))),
                  ("input_forget", str(int(of.get("input_forget", 0)))),
                  ("T", spell(steps)), ("B", spell(batch)), ("I", spell(inputs)), ("H", str(hidden)),
                  ("x", point(self.x.base) + offset), ("x_t", spell(self.x.strides[0])),
                  ("x_b", spell(self.x.strides[1])), ("clip", f"{float(of['clip'] or 0)!r}f")]
        fields += [(f"reverse[{i}]", str(int(back))) for i, back in enumerate(of["backwards"])]
        for i, chosen in enumerate(of["activations"]):
            for j, (name, alpha, beta) in enumerate(chosen):
                fields += [(f"activation[{i}][{j}]", _ACTIVATIONS[name]), (f"alpha[{i}][{j}]", f"{float(alpha)!r}f"),
                           (f"beta[{i}][{j}]", f"{float(beta)!r}f")]
        fields += [(name, point(e)) for name, e in self.named.items()]
        fields += [(_RESULTS[e.params["index"]], point(e)) for e in self.also]
        if self.output == "y" or any(e.params["index"] == 0 for e in self.also):
            fields += [("y_t", spell(ways * batch * hidden)), ("y_way", spell(batch * hidden)), ("y_b", str(hidden))]
        return fields

    def describe(self) -> str:
        bundle = self.expr.args[0]
        ways, _, hidden = bundle.args[2].shape
        return f"{self.function} {dict(bundle.params['of'])['cell']} {bundle.args[0].shape[2]} -> {hidden}, " \
               f"{ways} direction{'s' if ways != 1 else ''}"
