"""Products and convolutions of 8-bit integers as kernels: sums in 32 bits, then what follows, tile by tile.

What a reader would guess wrong: weights that come unsigned are packed as signed ones, their zero points moved by as
much; zero points of 0 after that, which is nearly all of them, are not passed to the kernel at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gesher.base.dtypes import FLOAT, INT8, INT32, UINT8, DType
from gesher.primitives import Expr
from gesher.symbolic import Dim, DimLike, decide_eq, product

from .indexing import unravel
from .kernel import Kernel, Point, Spell, composite_of
from .kernels.packing_i8 import (
    depthwise_channels,
    dot_step,
    even,
    pack_rows,
    packed_shape,
    panel_columns,
    panel_type,
    segments_of,
    signed,
)
from .packed import array_of, packed
from .views import View, contiguous, merge, same_memory, view_of

BYTES = (INT8, UINT8)
# Channels up to which a picture with channels first is read where it lies.
PLANAR = 4


def arguments(e: Expr, name: str, count: int) -> list[Expr | None] | None:
    """The `count` arguments of the composite `name` of which `e` is the result, None for those left out."""
    bundle = composite_of(e, name)
    if bundle is None:
        return None
    found: list[Expr | None] = [None] * count
    for i, a in zip(bundle.params["given"], bundle.args):
        found[i] = a
    return found


def single(e: Expr | None) -> bool:
    """Whether it holds one number for everything, or is left out."""
    return e is None or decide_eq(product(e.shape), 1) is True


class Zero:
    """A zero point as a kernel takes it: a number, or a pointer."""

    def __init__(self, e: Expr | None):
        self.number, self.operand = 0, None
        if e is not None and e.prim == "constant" and single(e):
            self.number = int(array_of(e.params["value"]).reshape(-1)[0])
        elif e is not None:
            self.operand = same_memory(e)

    def fields(self, name: str, point: Point, step: bool = False) -> list[tuple[str, str]]:
        if self.operand is None:
            return [(name, str(self.number))]
        pointer = [(f"{name}_at", f"(const uint8_t*){point(self.operand)}")]
        return [*pointer, (f"{name}_step", "1")] if step else pointer


class _Integer(Kernel):
    """What they share: sums are handed to what follows, which puts its results elsewhere."""

    tiles = apart = True

    def operands_of(self, *zeros: Zero) -> None:
        self.operands += [z.operand for z in zeros if z.operand is not None and z.operand not in self.operands]


class IntegerGemm(_Integer):
    """Matrix products: M rows at once where B is one matrix, else matrix by matrix."""

    header, struct, function, output = "gs_gemm_i8.h", "GsGemmI8", "gs_gemm_i8", "c"
    scratch = "gs_gemm_i8_scratch"

    def __init__(self, e: Expr, a: Expr, a_zero: Expr | None, b: Expr, b_zero: Expr | None):
        super().__init__(e, [])
        self.types = (a.dtype, b.dtype)
        lead, (m, n), k = e.shape[:-2], e.shape[-2:], a.shape[-1]
        self.shared = b.rank == 2
        if self.shared:
            lead, m = (), product(e.shape[:-1])
        self.lead: tuple[DimLike, ...] = lead
        self.sizes = {"M": m, "N": n, "K": k, "batch": product(lead)}
        self.a, (a_batch, self.a_row, self.a_col) = _matrix(a, lead, (e.shape[len(lead):-1], (k,)))
        self.a_batch = 0 if decide_eq(self.sizes["batch"], 1) else a_batch
        self.a_zero, self.b_zero = Zero(a_zero), Zero(b_zero)
        self.by_row, self.by_column = not single(a_zero), not single(b_zero)
        self.operands = [self.a.base]
        self.b: View | None = None
        self.packed: tuple[Expr, Expr] | None = None
        if self.shared and b.prim == "constant" and isinstance(k, int) and isinstance(n, int) and k > 0:
            self.packed = (_packed_matrix(b, k, n), _sums_matrix(b, n))
            self.operands += self.packed
            self.b_strides: tuple[DimLike, ...] = (0, n, 1)
        else:
            self.b, self.b_strides = _matrix(b, () if self.shared else lead, ((k,), (n,)))
            if self.shared or decide_eq(self.sizes["batch"], 1):
                self.b_strides = (0, *self.b_strides[1:])
            self.operands.append(self.b.base)
        self.operands_of(self.a_zero, self.b_zero)
        self.columns = even(n, panel_columns(n)) if isinstance(n, int) and n > 0 else None

    @classmethod
    def match(cls, e: Expr) -> IntegerGemm | None:
        found = arguments(e, "integer_matmul", 4)
        if found is None:
            return None
        a, a_zero, b, b_zero = found
        assert a is not None and b is not None
        if a.rank < 2 or b.rank < 2 or not _fits(a_zero, a.dtype) or not _fits(b_zero, b.dtype):
            return None
        if a_zero is not None and not single(a_zero) and not (
                a.rank == b.rank == a_zero.rank == 2 and decide_eq(a_zero.shape[0], a.shape[0])
                and decide_eq(a_zero.shape[1], 1)):
            return None
        if b_zero is not None and not single(b_zero) and not (
                decide_eq(product(b_zero.shape), b.shape[-1]) and decide_eq(b_zero.shape[-1], b.shape[-1])):
            return None
        return cls(e, a, a_zero, b, b_zero)

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        s = self.sizes
        found = [*((k, spell(d)) for k, d in s.items()), ("a_signed", _signed(self.types[0])),
                 ("b_signed", _signed(self.types[1])), ("a", _bytes(self.a, spell, point)),
                 ("a_batch", spell(self.a_batch)), ("a_row", spell(self.a_row)), ("a_col", spell(self.a_col)),
                 *((f"b_{k}", spell(d)) for k, d in zip(("batch", "row", "col"), self.b_strides)),
                 *self.a_zero.fields("a_zero", point, self.by_row),
                 *self.b_zero.fields("b_zero", point, self.by_column),
                 ("c_batch", spell(s["M"] * s["N"])), ("c_row", spell(s["N"]))]
        if self.packed is not None:
            return [*found, ("b_packed", point(self.packed[0])), ("b_sums", point(self.packed[1]))]
        assert self.b is not None
        return [*found, ("b", _bytes(self.b, spell, point))]

    def tile(self, batch: Dim, m: DimLike, n: DimLike) -> tuple[DimLike, ...]:
        rows = self.expr.shape[:-1] if self.shared else self.expr.shape[-2:-1]
        return (*unravel(self.lead, batch), *unravel(rows, m), n)

    def flops(self) -> DimLike | None:
        s = self.sizes
        return 2 * s["M"] * s["N"] * s["K"] * s["batch"]

    def describe(self) -> str:
        s = self.sizes
        how = "packed " if self.packed else ""
        return f"{how}integer gemm {s['batch']} x ({s['M']},{s['K']}) x ({s['K']},{s['N']})"


def _signed(dtype: DType) -> str:
    return str(int(dtype is INT8))


def _bytes(v: View, spell: Spell, point: Point) -> str:
    return f"(const uint8_t*){point(v.base)}" + (f" + {spell(v.offset)}" if v.offset != 0 else "")


def _fits(zero: Expr | None, dtype: DType) -> bool:
    return zero is None or zero.dtype is dtype


def _matrix(x: Expr, lead: Sequence[DimLike], parts: Sequence[Sequence[DimLike]]
            ) -> tuple[View, tuple[DimLike, DimLike, DimLike]]:
    """x, repeated to `lead` before its last axes, as a view whose batch and two parts walk with a stride each."""
    tail = tuple(d for part in parts for d in part)
    if lead:
        x = x.builder.broadcast_to(x, (*lead, *x.shape[x.rank - len(tail):]))
    first = view_of(x)
    for v in (first, View(x, x.shape, contiguous(x.shape))):
        strides, at = [], 0
        for part in (lead, *parts):
            strides.append(merge(v.shape[at:at + len(part)], v.strides[at:at + len(part)]))
            at += len(part)
        if None not in strides:
            batch, row, column = strides
            assert batch is not None and row is not None and column is not None
            return v, (batch, row, column)
    raise AssertionError("what lies in order walks as one")


def _packed_matrix(b: Expr, k: int, n: int) -> Expr:
    step, columns, panel = dot_step(), panel_columns(n), panel_type()

    def make(w: np.ndarray) -> np.ndarray:
        return pack_rows(signed(w).reshape(1, k, n).astype(panel.numpy), step, columns)

    return packed(("byte rows", step, columns), [b], panel, packed_shape(1, k, n), make)


def _sums_matrix(b: Expr, n: int) -> Expr:
    return packed(("byte sums",), [b], INT32, (n,), lambda w: signed(w).sum(0, dtype=np.int32))


class IntegerConv(_Integer):
    """Convolutions over channels that lie last (see `integer_layout`), of constant weights."""

    header, struct, function, output = "gs_conv_i8.h", "GsConvI8", "gs_conv_i8", "y"
    scratch = "gs_conv_i8_scratch"

    def __init__(self, e: Expr, x: Expr, x_zero: Expr | None, w: Expr, w_zero: Expr | None):
        super().__init__(e, [])
        of = dict(e.args[0].params["of"])
        self.x, self.w = x, w
        self.groups: int = of["groups"]
        self.strides, self.dilations, self.pads = of["strides"], of["dilations"], of["pads"]
        if x.rank == 3:
            # One axis is a picture of height 1.
            self.strides, self.dilations = (1, *self.strides), (1, *self.dilations)
            self.pads = ((0, 0), *self.pads)
        o, c, *kernel = (int(d) for d in w.shape)  # type: ignore[arg-type]
        kernel = [1] * (2 - len(kernel)) + kernel
        self.kernel = kernel
        self.depthwise = c == 1 and o == self.groups and kernel[0] * kernel[1] <= 64 and self.groups > 1
        self.source = same_memory(x)
        planar = _planar(x) if self.groups == 1 and c <= PLANAR and self.dilations[1] == 1 else None
        self.planar = planar is not None
        if planar is not None:
            self.source = same_memory(planar)
        self.zero = Zero(x_zero)
        if self.depthwise:
            self.function, self.scratch = "gs_depthwise_i8", "gs_depthwise_i8_scratch"
            panels = packed(("byte taps",), [w], INT8, (kernel[0] * kernel[1], o),
                            lambda a: signed(a).reshape(o, -1).T)
        else:
            panels = self._panels(w, o, c, kernel)
        sums = packed(("byte row sums",), [w], INT32, (o,), lambda a: signed(a).reshape(o, -1).sum(1, dtype=np.int32))
        self.operands = [self.source, panels, sums]
        self.left: Expr | None = None
        if _zero_left(w_zero, w.dtype):
            assert w_zero is not None or w.dtype is UINT8
            shift = 128 if w.dtype is UINT8 else 0
            # Of no zero point the packed ones are 128 too low; any constant lends its builder.
            self.left = packed(("byte zeros", o, shift, w_zero is None), [w if w_zero is None else w_zero], INT32, (o,),
                               lambda z: np.full(o, -shift, np.int32) if w_zero is None else
                               np.broadcast_to(z.reshape(-1).astype(np.int32) - shift, (o,)))
            self.operands.append(self.left)
        self.operands_of(self.zero)
        each = o // self.groups
        self.columns = even(o, depthwise_channels()) if self.depthwise else even(each, panel_columns(each))

    def _panels(self, w: Expr, o: int, c: int, kernel: Sequence[int]) -> Expr:
        groups = self.groups
        step, columns = dot_step(), panel_columns(o // groups)
        merged, planar, dtype = groups == 1 and self.dilations[1] == 1, self.planar, panel_type()
        each = (o // groups, c, *kernel)

        def make(a: np.ndarray) -> np.ndarray:
            parts = signed(a).astype(dtype.numpy).reshape(groups, *each)
            return np.concatenate([pack_rows(segments_of(part, merged, planar), step, columns) for part in parts])

        segments, length = (c * kernel[0], kernel[1]) if planar else (kernel[0], kernel[1] * c) if merged else (
            kernel[0] * kernel[1], c)
        panels, *rest = packed_shape(segments, length, o // groups)
        return packed(("byte windows", groups, merged, planar, step, columns), [w], dtype, (groups * panels, *rest),
                      make)

    @classmethod
    def match(cls, e: Expr) -> IntegerConv | None:
        found = arguments(e, "integer_conv_last", 4)
        if found is None:
            return None
        x, x_zero, w, w_zero = found
        assert x is not None and w is not None
        if w.prim != "constant" or x.rank not in (3, 4) or not single(x_zero) or not _fits(x_zero, x.dtype):
            return None
        if w_zero is not None and (w_zero.prim != "constant" or not _fits(w_zero, w.dtype)):
            return None
        if not all(isinstance(d, int) and d > 0 for d in w.shape):
            return None
        return cls(e, x, x_zero, w, w_zero)

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        x, y = self.x.shape, self.expr.shape
        places, out = x[1:-1], y[1:-1]
        if len(places) == 1:
            places, out = (1, *places), (1, *out)
        sizes: list[tuple[str, Any]] = [("N", x[0]), ("C", x[-1]), ("O", y[-1]), ("group", self.groups)]
        for names, values in ((("H", "W"), places), (("OH", "OW"), out), (("KH", "KW"), self.kernel),
                              (("SH", "SW"), self.strides), (("DH", "DW"), self.dilations),
                              (("PH", "PW"), [lo for lo, _ in self.pads])):
            sizes += zip(names, values)
        left = [] if self.left is None else [("w_zero", point(self.left))]
        return [*((k, spell(d)) for k, d in sizes), ("x", f"(const uint8_t*){point(self.source)}"),
                ("x_signed", _signed(self.x.dtype)), ("planar", str(int(self.planar))),
                *self.zero.fields("x_zero", point), ("w", point(self.operands[1])), ("sums", point(self.operands[2])),
                *left]

    def tile(self, batch: Dim, m: DimLike, n: DimLike) -> tuple[DimLike, ...]:
        shape = self.expr.shape
        channel = n if self.groups == 1 or self.depthwise else batch * (shape[-1] // self.groups) + n
        return (*unravel(shape[:-1], m), channel)

    def flops(self) -> DimLike | None:
        return 2 * product(self.expr.shape[:-1]) * product(self.w.shape)

    def describe(self) -> str:
        return f"{self.function}{' planar' if self.planar else ''} {'x'.join(map(str, self.kernel))}, " \
               f"{self.w.shape[1]}*{self.groups} -> {self.w.shape[0]} channels"


def _planar(x: Expr) -> Expr | None:
    """What has channels first of which `x` is the transpose with channels last."""
    if x.prim == "transpose" and x.params["perm"] == (0, *range(2, x.rank), 1):
        return x.args[0]
    return None


def _zero_left(zero: Expr | None, dtype: DType) -> bool:
    """Whether zero points of weights are other than what packing takes away."""
    shift = 128 if dtype is UINT8 else 0
    return shift != 0 if zero is None else bool((array_of(zero.params["value"]).astype(np.int32) != shift).any())


class IntegerWindow(Kernel):
    """The maximum over windows of bytes whose channels lie last."""

    header, struct, function = "gs_conv_i8.h", "GsWindowI8", "gs_window_i8"

    @classmethod
    def match(cls, e: Expr) -> IntegerWindow | None:
        found = arguments(e, "integer_window_last", 1)
        return None if found is None or found[0] is None else cls(e, [same_memory(found[0])])

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        of, x, y = dict(self.expr.args[0].params["of"]), self.expr.args[0].args[0], self.expr
        rows: list[tuple[str, str, Sequence[Any], int]] = [
            ("H", "W", x.shape[1:-1], 1), ("OH", "OW", y.shape[1:-1], 1), ("KH", "KW", of["size"], 1),
            ("SH", "SW", of["strides"], 1), ("DH", "DW", of["dilations"], 1),
            ("PH", "PW", [lo for lo, _ in of["pads"]], 0)]
        sizes: list[tuple[str, Any]] = [("N", x.shape[0]), ("C", x.shape[-1])]
        for high, wide, values, filled in rows:
            both = [filled] * (2 - len(values)) + list(values)
            sizes += [(high, both[0]), (wide, both[1])]
        return [*((k, spell(d)) for k, d in sizes), ("x", f"(const uint8_t*){point(self.operands[0])}"),
                ("x_signed", _signed(x.dtype))]

    def element(self) -> str:
        return "uint8_t"


class Range(Kernel):
    """The least and the largest of floats, in whatever order they lie."""

    header, struct, function, scratch = "gs_range_f32.h", "GsRange", "gs_range_f32", "gs_range_f32_scratch"

    @classmethod
    def match(cls, e: Expr) -> Range | None:
        found = arguments(e, "range", 1)
        if found is None or found[0] is None or found[0].dtype is not FLOAT:
            return None
        x = found[0]
        while x.prim in ("reshape", "transpose"):
            x = x.args[0]
        return cls(e, [x])

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        return [("n", spell(product(self.operands[0].shape))), ("x", point(self.operands[0]))]


INTEGER: tuple[type[Kernel], ...] = (IntegerGemm, IntegerConv, IntegerWindow, Range)
