"""Products with weights of 4 or 8 bits that are quantised by blocks (MatMulNBits): read as they are, never made floats.

The weights are laid out as the kernel reads them, once; see gs_gemm_bits_f32.h.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import FLOAT, UINT32
from gesher.primitives import Expr
from gesher.symbolic import Dim, DimLike, product

from . import target
from .indexing import unravel
from .kernel import Kernel, Point, Spell
from .kernels.packing import pack_block_numbers, pack_words, panel_columns
from .packed import packed
from .views import same_memory


class MatMulBits(Kernel):
    """The composite `matmul_nbits` with constant weights."""

    header, struct, function, scratch = ("gs_gemm_bits_f32.h", "GsGemmBits", "gs_gemm_bits_f32",
                                         "gs_gemm_bits_f32_scratch")
    tiles = True

    @classmethod
    def match(cls, e: Expr) -> MatMulBits | None:
        if e.prim != "item" or e.dtype is not FLOAT or e.args[0].prim != "composite":
            return None
        bundle = e.args[0]
        if bundle.params["name"] != "matmul_nbits":
            return None
        of: dict[str, Any] = dict(bundle.params["of"])
        given = dict(zip(bundle.params["given"], bundle.args))
        a, b, scales, zeros, bias = (given.get(i) for i in (0, 1, 2, 3, 5))
        assert a is not None and b is not None and scales is not None
        constants = [x for x in (b, scales, zeros) if x is not None]
        if of["bits"] not in (4, 8) or 4 in given or a.dtype is not FLOAT or scales.dtype is not FLOAT \
                or any(x.prim != "constant" for x in constants) or (bias is not None and bias.dtype is not FLOAT) \
                or (zeros is not None and zeros.dtype not in (FLOAT, dtypes.UINT8)) \
                or of["block_size"] % 16 or of["K"] <= 0 or of["N"] <= 0:
            return None
        columns = panel_columns(target.current())
        n, bits, blocks = of["N"], of["bits"], -(-of["K"] // of["block_size"])
        panels, middle = -(-n // columns), 1 << (of["bits"] - 1)

        def shift(scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
            counts = zero.reshape(n, -1)
            if zero.dtype == np.uint8 and bits == 4:
                counts = np.stack([counts & 15, counts >> 4], -1).reshape(n, -1)
            off = middle - counts[:, :blocks].astype(np.float32)
            return pack_block_numbers(off * scale.reshape(n, blocks), columns)

        words = packed(("bits", columns, bits), [b], UINT32,
                       (panels, blocks * of["block_size"] * bits // 32, columns),
                       lambda x: pack_words(x.reshape(n, -1), bits, columns))
        scale = packed(("block scales", columns, n), [scales], FLOAT, (panels, blocks, columns),
                       lambda x: pack_block_numbers(x.reshape(n, blocks), columns))
        pointers = {"a": same_memory(a), "words": words, "scale": scale}
        if zeros is not None:
            pointers["shift"] = packed(("block shifts", columns, n, bits), [scales, zeros], FLOAT,
                                       (panels, blocks, columns), shift)
        if bias is not None:
            pointers["bias"] = same_memory(bias)
        made = cls(e, list(dict.fromkeys(pointers.values())))
        made.pointers, made.of, made.m = pointers, of, product(a.shape[:-1])
        return made

    pointers: dict[str, Expr]
    of: dict[str, Any]
    m: DimLike

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        of = self.of
        return [("M", spell(self.m)), ("N", str(of["N"])), ("K", str(of["K"])), ("block", str(of["block_size"])),
                ("bits", str(of["bits"])), ("a_row", str(of["K"])), ("y_row", str(of["N"])),
                *((name, point(e)) for name, e in self.pointers.items())]

    def tile(self, batch: Dim, m: DimLike, n: DimLike) -> tuple[DimLike, ...]:
        return (*unravel(self.expr.shape[:-1], m), n)

    def flops(self) -> DimLike | None:
        return 2 * self.m * self.of["N"] * self.of["K"]

    def describe(self) -> str:
        of = self.of
        return f"gemm ({self.m},{of['K']}) x ({of['K']},{of['N']}) of {of['bits']} bits in blocks of {of['block_size']}"
