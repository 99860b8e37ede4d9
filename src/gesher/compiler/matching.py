"""Which hand-tuned kernel computes which primitive: one class a kernel, looked for in the order of `KERNELS`."""

from __future__ import annotations

from collections.abc import Container, Sequence

from gesher.base.dtypes import FLOAT
from gesher.primitives import Expr
from gesher.symbolic import Dim, DimLike, decide_eq, decide_le, product

from .along import ArgMax, CumSum
from .attention import Attention
from .blockwise import MatMulBits
from .byte_tables import Bytes
from .convolutions import BlockedConv, BlockedWindow, ToBlocks, ToPlain
from .forests import RankedTrees, Trees
from .fourier import Dft
from .indexing import unravel
from .integer import INTEGER
from .inverses import Inverse
from .kernel import Kernel, Point, Spell
from .nearest import Nearest
from .overlaps import Col2Im
from .products import Gemm
from .recurrent import Recurrent
from .rows import LayerNorm, Softmax
from .sampling import Mix, Sample
from .views import same_memory

# Outputs of a picture of one channel up to which rows are summed tap by tap: a product would waste most of its tile.
FEW_OUTPUTS = 8
# The largest stride along a row with which that pays: columns are sorted by it one by one.
NEAR = 8


class _Windowed(Kernel):
    """What convolutions and pooling share: axes of places."""

    def axes(self, rank: int, spell: Spell, **columns: Sequence[DimLike]) -> list[tuple[str, str]]:
        """The struct's arrays. One axis is run as a picture of height 1."""
        filled = {"in": 1, "out": 1, "kernel": 1, "stride": 1, "dilation": 1, "pad": 0, "pad_end": 0}
        fields = [("rank", str(max(rank, 2)))]
        for name, column in columns.items():
            whole = [filled[name], *column] if rank == 1 else list(column)
            fields += [(f"{name}[{i}]", spell(d)) for i, d in enumerate(whole)]
        return fields


class Conv(_Windowed):
    """Convolutions of floats in one or two dimensions."""

    header, struct = "gs_conv_f32.h", "GsConv"
    tiles = True

    @classmethod
    def match(cls, e: Expr) -> Conv | None:
        if e.prim != "convolve" or e.dtype is not FLOAT or not 1 <= e.rank - 2 <= 6:
            return None
        return cls(e, [same_memory(a) for a in e.args])

    def __init__(self, expr: Expr, operands: Sequence[Expr]):
        super().__init__(expr, operands)
        x, w = expr.args
        groups = expr.params["groups"]
        if expr.rank > 4:
            self.function, self.scratch = "gs_conv_f32_plain", ""
        elif decide_eq(x.shape[1], groups) and decide_eq(w.shape[1], 1) \
                and (groups > 1 or (decide_le(w.shape[0], FEW_OUTPUTS) and expr.params["strides"][-1] <= NEAR)):
            self.function, self.scratch = "gs_depthwise2d_f32", "gs_depthwise2d_f32_scratch"
        else:
            self.function, self.scratch = "gs_conv2d_f32", "gs_conv2d_f32_scratch"

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        (x, w), p = self.expr.args, self.expr.params
        return [("N", spell(x.shape[0])), ("C", spell(x.shape[1])), ("O", spell(self.expr.shape[1])),
                ("group", str(p["groups"])), ("x", point(self.operands[0])), ("w", point(self.operands[1])),
                *self.axes(x.rank - 2, spell, **{
                    "in": x.shape[2:], "out": self.expr.shape[2:], "kernel": w.shape[2:], "stride": p["strides"],
                    "dilation": p["dilations"], "pad": [lo for lo, _ in p["pads"]]})]

    def tile(self, batch: Dim, m: DimLike, n: DimLike) -> tuple[DimLike, ...]:
        shape, groups = self.expr.shape, self.expr.params["groups"]
        image, channel = (batch, m) if groups == 1 else (batch // groups, batch % groups * (shape[1] // groups) + m)
        return (image, channel, *unravel(shape[2:], n))

    def flops(self) -> DimLike | None:
        # Each weight is used at each place: of the output, or of a transposed one's input.
        x, w = self.expr.args
        places = self.expr.shape[2:] if self.expr.prim == "convolve" else x.shape[2:]
        return 2 * x.shape[0] * product(places) * product(w.shape)

    def describe(self) -> str:
        w = self.expr.args[1]
        return f"{self.function} {'x'.join(map(str, w.shape[2:]))}, {w.shape[1]}*{self.expr.params['groups']} " \
               f"-> {w.shape[0]} channels"


class ConvTransposed(Conv):
    """Transposed convolutions of floats in one or two dimensions."""

    @classmethod
    def match(cls, e: Expr) -> ConvTransposed | None:
        if e.prim != "convolve_transposed" or e.dtype is not FLOAT or not 1 <= e.rank - 2 <= 6:
            return None
        return cls(e, [same_memory(a) for a in e.args])

    def __init__(self, expr: Expr, operands: Sequence[Expr]):
        Kernel.__init__(self, expr, operands)
        self.function, self.scratch = (("gs_conv_transpose2d_f32", "gs_conv_transpose2d_f32_scratch")
                                       if expr.rank <= 4 else ("gs_conv_transpose_f32_plain", ""))

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        (x, w), p = self.expr.args, self.expr.params
        return [("N", spell(x.shape[0])), ("C", spell(x.shape[1])), ("O", spell(self.expr.shape[1])),
                ("group", str(p["groups"])), ("x", point(self.operands[0])), ("w", point(self.operands[1])),
                *self.axes(x.rank - 2, spell, **{
                    "in": x.shape[2:], "out": self.expr.shape[2:], "kernel": w.shape[2:], "stride": p["strides"],
                    "dilation": p["dilations"], "pad": [lo for lo, _ in p["pads"]]})]


class Window(_Windowed):
    """Maxima and sums over windows of one or two axes."""

    header, struct, function = "gs_window_f32.h", "GsWindow", "gs_window2d_f32"
    scratch, tiles = "gs_window2d_f32_scratch", True

    @classmethod
    def match(cls, e: Expr) -> Window | None:
        if e.prim != "window" or e.dtype is not FLOAT or e.params["op"] not in ("max", "sum") \
                or len(e.params["size"]) not in (1, 2):
            return None
        # Sizes that are counted, as those of a mean's divisors, are a few numbers.
        if e.args[0].prim == "broadcast" and e.args[0].args[0].prim == "constant":
            return None
        return cls(e, [same_memory(e.args[0])])

    scale: Expr | None = None

    def absorbs(self, end: Expr, held: Container[Expr]) -> bool:
        # A mean over windows that are cut by edges: the sum times a constant of each place.
        if end.prim != "mul" or self.expr not in end.args or len(self.expr.params["size"]) != 2:
            return False
        by = end.args[1 - end.args.index(self.expr)]
        while by.prim in ("broadcast", "reshape") and by not in held:
            by = by.args[0]
        if by.prim != "constant" or by not in held or tuple(d for d in by.shape if d != 1) != self.expr.shape[-2:] \
                or any(not decide_eq(d, 1) for d in by.shape[:-2]):
            return False
        self.scale = by
        self.operands.append(by)
        return True

    def tile(self, batch: Dim, m: DimLike, n: DimLike) -> tuple[DimLike, ...]:
        shape = self.expr.shape
        places = len(self.expr.params["size"])
        lead = len(shape) - places
        return (*unravel(shape[:lead], batch), *((m, n) if places == 2 else (n,)))

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        x, p = self.expr.args[0], self.expr.params
        n = len(p["size"])
        return [("planes", spell(product(x.shape[:x.rank - n]))), ("x", point(self.operands[0])),
                *self.axes(n, spell, **{
                    "in": x.shape[x.rank - n:], "out": self.expr.shape[x.rank - n:], "kernel": p["size"],
                    "stride": p["strides"], "dilation": p["dilations"], "pad": [lo for lo, _ in p["pads"]],
                    "pad_end": [hi for _, hi in p["pads"]]}),
                ("mean", "2" if p["op"] == "sum" else "0"),
                *([("scale", point(self.scale))] if self.scale is not None else [])]


# What the kernel calls a fold.
_FOLDS = {"sum": "GS_SUM", "prod": "GS_PROD", "max": "GS_MAX", "min": "GS_MIN"}


class Reduce(Kernel):
    """Folds of floats along neighbouring axes that are not the last: the last would fuse with what surrounds it."""

    header, struct, function = "gs_reduce_f32.h", "GsReduce", "gs_reduce_f32"

    @classmethod
    def match(cls, e: Expr) -> Reduce | None:
        if e.prim != "reduce" or e.dtype is not FLOAT or e.params["op"] not in _FOLDS:
            return None
        axes, x = e.params["axes"], e.args[0]
        if axes != tuple(range(axes[0], axes[-1] + 1)) or axes[-1] == x.rank - 1:
            return None
        return cls(e, [same_memory(x)])

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        axes, x = self.expr.params["axes"], self.expr.args[0]
        return [("op", _FOLDS[self.expr.params["op"]]), ("outer", spell(product(x.shape[:axes[0]]))),
                ("n", spell(product(x.shape[a] for a in axes))), ("inner", spell(product(x.shape[axes[-1] + 1:]))),
                ("x", point(self.operands[0]))]


# How the kernel names the types of keys.
_KEYS = {"float": "F32", "double": "F64", "int8": "I8", "uint8": "U8", "bool": "U8", "int16": "I16", "uint16": "U16",
         "int32": "I32", "uint32": "U32", "int64": "I64", "uint64": "U64", "float16": "F16", "bfloat16": "BF16"}


class Select(Kernel):
    """The order that sorts along an axis, whole or its first k."""

    header, struct, function = "gs_select.h", "GsSelect", "gs_select_run"
    output, scratch, scratch_floats = "places", "gs_select_scratch", 2

    @classmethod
    def match(cls, e: Expr) -> Select | None:
        order = e
        if e.prim == "slice" and e.args[0].prim == "sort_order":
            order = e.args[0]
            rows = zip(e.params["starts"], e.params["stops"], e.params["steps"], order.shape)
            for i, (start, stop, step, size) in enumerate(rows):
                if not decide_eq(start, 0) or step != 1 or (i != order.params["axis"] and not decide_eq(stop, size)):
                    return None
        if order.prim != "sort_order" or order.args[0].dtype.name not in _KEYS:
            return None
        made = cls(e, [same_memory(order.args[0])])
        made.order = order
        return made

    order: Expr

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        x, axis = self.order.args[0], self.order.params["axis"]
        return [("outer", spell(product(x.shape[:axis]))), ("n", spell(x.shape[axis])),
                ("inner", spell(product(x.shape[axis + 1:]))), ("k", spell(self.expr.shape[axis])),
                ("type", "GS_KEY_" + _KEYS[x.dtype.name]), ("x", point(self.operands[0])),
                ("largest", str(int(self.order.params["descending"])))]


KERNELS: tuple[type[Kernel], ...] = (Attention, Gemm, BlockedConv, BlockedWindow, ToBlocks, ToPlain, Conv,
                                    ConvTransposed, Window, Softmax, LayerNorm, RankedTrees, Trees, Recurrent,
                                    Reduce, Select, ArgMax, CumSum, Bytes, Nearest, Sample, Mix, Dft, Inverse, Col2Im,
                                    MatMulBits, *INTEGER)


def match(e: Expr) -> Kernel | None:
    """The first kernel that computes `e`, or None."""
    for kernel in KERNELS:
        found = kernel.match(e)  # type: ignore[attr-defined]
        if found is not None:
            return found
    return None
