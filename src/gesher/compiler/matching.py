"""Which hand-tuned kernel computes which primitive: one class a kernel, looked for in the order of `KERNELS`."""

from __future__ import annotations

from collections.abc import Sequence

from gesher.base.dtypes import FLOAT
from gesher.primitives import Expr
from gesher.symbolic import Dim, DimLike, decide_eq, decide_le, decide_lt, product

from .forests import Trees
from .indexing import unravel
from .kernel import Kernel, Point, Spell
from .norms import LayerNorm
from .views import View, contiguous, merge, same_memory, view_of

# The types of elements that the tiled product is made for. Signed numbers are multiplied as unsigned ones.
_TILED = {"double": "f64", "int32": "u32", "uint32": "u32", "int64": "u64", "uint64": "u64"}


class Gemm(Kernel):
    """Contractions: every group of axes must walk as one."""

    output = "c"

    def __init__(self, expr: Expr, a: View, b: View, sizes: dict[str, DimLike], strides: dict[str, DimLike],
                 outer: list[tuple[DimLike, dict[str, DimLike]]]):
        super().__init__(expr, [a.base, b.base])
        self.a, self.b, self.sizes, self.strides, self.outer = a, b, sizes, strides, outer
        if expr.dtype is FLOAT:
            self.header, self.struct, self.function = "gs_gemm_f32.h", "GsGemm", "gs_gemm_f32"
            self.scratch = "gs_gemm_f32_scratch"
            self.tiles = not outer
        else:
            suffix = _TILED[expr.dtype.name]
            self.header, self.struct, self.function = "gs_gemm_tiled.h", f"gs_gemm_{suffix}_t", f"gs_gemm_{suffix}_run"
        self._rests()

    def _rests(self) -> None:
        p, a = self.expr.params, self.expr.args[0]
        n = len(p["a_batch"])
        rows = a.rank - n - len(p["a_axes"])
        self.groups = (range(n), range(n, n + rows), range(n + rows, self.expr.rank))

    @classmethod
    def match(cls, e: Expr) -> Gemm | None:
        if e.prim != "contract" or (e.dtype is not FLOAT and e.dtype.name not in _TILED):
            return None
        p, builder = e.params, e.builder
        views = []
        for x, batch, axes in ((e.args[0], p["a_batch"], p["a_axes"]), (e.args[1], p["b_batch"], p["b_axes"])):
            rest = [i for i in range(x.rank) if i not in batch and i not in axes]
            view = view_of(x)
            found = _three(view, batch, rest, axes)
            if found is None:
                # A copy in the order in which it is read walks as one.
                x = builder.transpose(x, (*batch, *rest, *axes))
                view = View(x, x.shape, contiguous(x.shape))
                batch, rest, axes = (list(range(len(batch))), list(range(len(batch), len(batch) + len(rest))),
                                     list(range(len(batch) + len(rest), x.rank)))
                found = _three(view, batch, rest, axes)
                assert found is not None
            views.append((view, [view.strides[i] for i in batch], found))
        (a, a_batch, (a_row, a_col)), (b, b_batch, (b_col, b_row)) = views
        shape = e.shape[:len(a_batch)]
        rest_a = [d for i, d in enumerate(e.args[0].shape) if i not in p["a_axes"] and i not in p["a_batch"]]
        rest_b = [d for i, d in enumerate(e.args[1].shape) if i not in p["b_axes"] and i not in p["b_batch"]]
        m, n = product(rest_a), product(rest_b)
        k = product(e.args[0].shape[i] for i in p["a_axes"])
        # As many of the last batch axes as walk as one go into the kernel, the others around it.
        cut = len(shape)
        while cut > 0 and merge(shape[cut - 1:], a_batch[cut - 1:]) is not None \
                and merge(shape[cut - 1:], b_batch[cut - 1:]) is not None:
            cut -= 1
        inside = product(shape[cut:])
        c_strides = contiguous((*shape, m, n))
        outer = [(d, {"a": sa, "b": sb, "c": sc}) for d, sa, sb, sc in
                 zip(shape[:cut], a_batch, b_batch, c_strides) if decide_eq(d, 1) is not True]
        a_step, b_step = merge(shape[cut:], a_batch[cut:]), merge(shape[cut:], b_batch[cut:])
        assert a_step is not None and b_step is not None
        strides = {"a_batch": a_step, "a_row": a_row, "a_col": a_col, "b_batch": b_step, "b_row": b_row, "b_col": b_col,
                   "c_batch": m * n, "c_row": n}
        if decide_eq(inside, 1):
            strides["a_batch"] = strides["b_batch"] = 0
        return cls(e, a, b, {"M": m, "N": n, "K": k, "batch": inside}, strides, outer)

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        pointers = [(name, self.cast() + point(v.base) + (f" + {spell(v.offset)}" if v.offset != 0 else ""))
                    for name, v in (("a", self.a), ("b", self.b))]
        return [*((k, spell(d)) for k, d in self.sizes.items()), *pointers,
                *((k, spell(d)) for k, d in self.strides.items())]

    def element(self) -> str:
        """The C type of the kernel's elements."""
        return {"f32": "float", "f64": "double", "u32": "uint32_t", "u64": "uint64_t"}[
            _TILED.get(self.expr.dtype.name, "f32")]

    def flops(self) -> DimLike | None:
        s = self.sizes
        return 2 * s["M"] * s["N"] * s["K"] * s["batch"] * product(d for d, _ in self.outer)

    def cast(self) -> str:
        return f"(const {self.element()}*)" if self.expr.dtype.kind == "int" else ""

    def around(self) -> list[tuple[DimLike, dict[str, DimLike]]]:
        return self.outer

    def tile(self, batch: Dim, m: DimLike, n: DimLike) -> tuple[DimLike, ...]:
        shape, found = self.expr.shape, []
        for axes, at in zip(self.groups, (batch, m, n)):
            found += unravel([shape[i] for i in axes], at)
        return tuple(found)

    def describe(self) -> str:
        s = self.sizes
        return f"gemm {s['batch']} x ({s['M']},{s['K']}) x ({s['K']},{s['N']})"


def _three(v: View, batch: Sequence[int], rest: Sequence[int], axes: Sequence[int]) -> tuple[DimLike, DimLike] | None:
    """The strides with which the rest and the summed axes walk."""
    found = [merge([v.shape[i] for i in part], [v.strides[i] for i in part]) for part in (rest, axes)]
    if found[0] is None or found[1] is None:
        return None
    return found[0], found[1]


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
        elif groups > 1 and decide_eq(x.shape[1], groups) and decide_eq(w.shape[1], 1):
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


# Outputs in a row below which the kernel of windows would go one by one, and taps that a nest may have.
MOST_TAPS = 16
NARROW = 16


class MaxWindow(_Windowed):
    """The maximum over windows of one or two axes."""

    header, struct, function = "gs_window_f32.h", "GsWindow", "gs_window2d_f32"

    @classmethod
    def match(cls, e: Expr) -> MaxWindow | None:
        if e.prim != "window" or e.dtype is not FLOAT or e.params["op"] != "max" or len(e.params["size"]) not in (1, 2):
            return None
        # A window wholly inside the padding has no element, which the kernel does not expect.
        reach = [(k - 1) * d + 1 for k, d in zip(e.params["size"], e.params["dilations"])]
        if any(not isinstance(pad, int) or pad >= r for r, pads in zip(reach, e.params["pads"]) for pad in pads):
            return None
        if any(d != 1 for d in e.params["dilations"]):
            return None
        # Rows of less than a vector, all inside the picture: a nest has the taps as constants and no edges.
        if decide_lt(e.shape[-1], NARROW) and not any(pad for pads in e.params["pads"] for pad in pads) \
                and decide_le(product(e.params["size"]), MOST_TAPS):
            return None
        return cls(e, [same_memory(e.args[0])])

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        x, p = self.expr.args[0], self.expr.params
        n = len(p["size"])
        return [("planes", spell(product(x.shape[:x.rank - n]))), ("x", point(self.operands[0])),
                *self.axes(n, spell, **{
                    "in": x.shape[x.rank - n:], "out": self.expr.shape[x.rank - n:], "kernel": p["size"],
                    "stride": p["strides"], "dilation": p["dilations"], "pad": [lo for lo, _ in p["pads"]],
                    "pad_end": [hi for _, hi in p["pads"]]})]


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


KERNELS: tuple[type[Kernel], ...] = (Gemm, Conv, ConvTransposed, MaxWindow, Softmax, LayerNorm, Trees, Reduce,
                                    Select)


def match(e: Expr) -> Kernel | None:
    """The first kernel that computes `e`, or None."""
    for kernel in KERNELS:
        found = kernel.match(e)  # type: ignore[attr-defined]
        if found is not None:
            return found
    return None
