"""Matrix products: contractions whose groups of axes walk as one, as kernels.

Weights are laid out as the kernel reads them, once, when the session is made (`packed`); views of weights (transposed,
reshaped, sliced) are packed from where they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gesher.base.dtypes import DOUBLE, FLOAT, UINT16, DType
from gesher.primitives import Expr
from gesher.symbolic import Dim, DimLike, decide_eq, decide_lt, product

from . import target
from .indexing import unravel
from .kernel import Kernel, Point, Spell
from .kernels.packing import pack_panels, panel_columns
from .kernels.packing_bf16 import pack_pairs
from .packed import packed
from .views import View, contiguous, merge, view_of

# The types of elements that the tiled product is made for. Signed numbers are multiplied as unsigned ones.
_TILED = {"int32": "u32", "uint32": "u32", "int64": "u64", "uint64": "u64"}


# Columns of B up to which, and length of a sum from which on, vectors go along the sum: fewer would leave lanes empty.
NARROW = 4
LONG = 64
# Rows of A up to which rounding a B that is no constant costs more than its products save.
FEW = 16


class Gemm(Kernel):
    """Contractions: every group of axes must walk as one."""

    output = "c"

    def __init__(self, expr: Expr, a: View, b: View, sizes: dict[str, DimLike], strides: dict[str, DimLike],
                 outer: list[tuple[DimLike, dict[str, DimLike]]]):
        super().__init__(expr, [a.base, b.base])
        self.a, self.b, self.sizes, self.strides, self.outer = a, b, sizes, strides, outer
        self.bf16 = target.bf16() and expr.dtype is FLOAT and self._gains()
        if self.bf16:
            self.precision = target.told_bf16()
            self.header, self.struct, self.function = "gs_gemm_bf16.h", "GsGemmBf16", "gs_gemm_bf16"
            self.scratch = "gs_gemm_bf16_scratch"
            self.tiles = not outer
        elif expr.dtype is FLOAT:
            self.header, self.struct, self.function = "gs_gemm_f32.h", "GsGemm", "gs_gemm_f32"
            self.scratch = "gs_gemm_f32_scratch"
            self.tiles = not outer
        elif expr.dtype is DOUBLE:
            self.header, self.struct, self.function = "gs_gemm_f64.h", "GsGemmF64", "gs_gemm_f64"
            self.scratch, self.scratch_floats = "gs_gemm_f64_scratch", 2
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
        if e.prim != "contract" or (e.dtype not in (FLOAT, DOUBLE) and e.dtype.name not in _TILED):
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
        made = cls(e, a, b, {"M": m, "N": n, "K": k, "batch": inside}, strides, outer)
        if e.dtype in (FLOAT, DOUBLE) and not outer:
            made._pack()
        return made

    panels = False

    def _gains(self) -> bool:
        """Whether products of rounded numbers are worth it: not for few columns, nor for few rows of no weights."""
        return decide_lt(self.sizes["N"], NARROW + 1) is not True and (
            self.b.base.prim == "constant" or decide_lt(self.sizes["M"], FEW) is not True)

    def _pack(self) -> None:
        """Have constants as the kernel reads them best: B in panels or in columns, A in rows."""
        sizes, strides = self.sizes, self.strides
        m, n, k = sizes["M"], sizes["N"], sizes["K"]
        if self.a.base.prim == "constant" and strides["a_col"] != 1:
            self._lay("a", m, k, (m, k), lambda x: x, {"a_batch": m * k, "a_row": k, "a_col": 1})
        if self.b.base.prim != "constant" or not isinstance(n, int) or not isinstance(k, int):
            return
        columns = panel_columns(target.current()) * FLOAT.bits // self.expr.dtype.bits
        panels = -(-n // columns)
        if self.bf16:
            pairs = -(-k // 2)
            self.panels = self._lay("b", k, n, (panels, pairs, columns, 2), lambda x: pack_pairs(x, columns),
                                    {"b_batch": panels * pairs * columns * 2}, UINT16)
            return
        if (n <= NARROW and k >= LONG) or (m == 1 and strides["b_row"] == 1):
            # Sums along rows of A and columns of B, both of which lie side by side.
            if strides["b_row"] != 1:
                self._lay("b", k, n, (n, k), lambda x: x.swapaxes(-1, -2), {"b_batch": k * n, "b_row": 1, "b_col": k})
            return
        self.panels = self._lay("b", k, n, (panels, k, columns), lambda x: pack_panels(x, columns),
                                {"b_batch": panels * k * columns})

    def _lay(self, which: str, rows: DimLike, columns: DimLike, shape: tuple[DimLike, ...],
             how: Callable[[np.ndarray], np.ndarray], strides: dict[str, DimLike], dtype: DType | None = None
             ) -> bool:
        """Read an operand, a constant, from a copy that `how` makes of its matrices (rows, columns), each of `shape`
        then; whether it can be done: its sizes must be known."""
        view: View = getattr(self, which)
        step = self.strides[which + "_batch"]
        batch = () if step == 0 else (self.sizes["batch"],)
        sizes = whole((*batch, rows, columns))
        walks = whole((*([step] if batch else []), self.strides[which + "_row"], self.strides[which + "_col"]))
        start, result = whole((view.offset,)), whole((*batch, *shape))
        if sizes is None or walks is None or start is None or result is None:
            return False

        def make(x: np.ndarray) -> np.ndarray:
            flat = np.ascontiguousarray(x).reshape(-1)[start[0]:]
            return how(np.lib.stride_tricks.as_strided(flat, sizes, [s * x.itemsize for s in walks], writeable=False))

        laid = packed(("gemm", result, sizes, walks, start), [view.base], dtype or self.expr.dtype, result, make)
        if not batch:
            strides[which + "_batch"] = 0
        self.strides |= strides
        setattr(self, which, View(laid, laid.shape, contiguous(laid.shape)))
        self.operands = [self.a.base, self.b.base]
        return True

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        pointers = [(name, self.cast() + point(v.base) + (f" + {spell(v.offset)}" if v.offset != 0 else ""))
                    for name, v in (("a", self.a), ("b", self.b))]
        return [*((k, spell(d)) for k, d in self.sizes.items()), *pointers,
                *((k, spell(d)) for k, d in self.strides.items()), *([("b_packed", "1")] if self.panels else [])]

    def element(self) -> str:
        """The C type of the kernel's elements."""
        return {"u32": "uint32_t", "u64": "uint64_t"}.get(_TILED.get(self.expr.dtype.name, ""), self.expr.dtype.c)

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
        return f"gemm {s['batch']} x ({s['M']},{s['K']}) x ({s['K']},{s['N']}){' in panels' if self.panels else ''}" \
               f"{self.precision}"


def whole(dims: Sequence[DimLike]) -> tuple[int, ...] | None:
    """The sizes where all are known."""
    known = tuple(d for d in dims if isinstance(d, int))
    return known if len(known) == len(dims) else None


def _three(v: View, batch: Sequence[int], rest: Sequence[int], axes: Sequence[int]) -> tuple[DimLike, DimLike] | None:
    """The strides with which the rest and the summed axes walk."""
    found = [merge([v.shape[i] for i in part], [v.strides[i] for i in part]) for part in (rest, axes)]
    if found[0] is None or found[1] is None:
        return None
    return found[0], found[1]
