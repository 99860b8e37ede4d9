"""Weights laid out ahead of time as the kernels read them, for `weights.bin`: C's `..._pack` functions, in numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import cpu

# Whole lines of the cache: a vector across two of them is read twice.
ALIGNMENT = 64


def aligned_room(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """An array of anything that begins at a multiple of `ALIGNMENT` bytes."""
    nbytes = math.prod(shape) * dtype.itemsize
    room = np.empty(nbytes + ALIGNMENT, np.uint8)
    skip = -room.ctypes.data % ALIGNMENT
    return room[skip:skip + nbytes].view(dtype).reshape(shape)


def panel_columns(isa: cpu.Isa) -> int:
    """Columns of a panel of B in gs_gemm_f32 (GS_GEMM_NR there) when built for `isa`.

    >>> panel_columns(cpu.isa("avx512")), panel_columns(cpu.isa("avx2"))
    (48, 16)
    """
    many_registers = isa.name == "avx512" or isa.arch == "aarch64"
    return (3 if many_registers else 2) * isa.width


def pack_panels(b: np.ndarray, columns: int) -> np.ndarray:
    """b (..., K, N) as panels (..., N / columns rounded up, K, columns), the last filled up with zeros.

    For `GsGemm.b_packed`; a batch's matrices lie `gs_gemm_f32_packed(K, N)` floats apart.
    """
    *batch, K, N = b.shape
    panels, whole = -(-N // columns), N // columns
    out = aligned_room((*batch, panels, K, columns), b.dtype)
    # Some rows at a time: where the columns of b lie apart, what was read of memory is used up while it is near.
    for k in range(0, K, 64):
        rows = b[..., k:k + 64, :]
        n = rows.shape[-2]
        out[..., :whole, k:k + 64, :] = np.moveaxis(
            rows[..., :whole * columns].reshape(*batch, n, whole, columns), -3, -2)
        if panels > whole:
            out[..., whole, k:k + 64, :N - whole * columns] = rows[..., whole * columns:]
            out[..., whole, k:k + 64, N - whole * columns:] = 0
    return out


def recurrent_sections(kind: str, linear_before_reset: bool) -> list[tuple[int, int, int]]:
    """What gs_recurrent_f32 computes at once: (first gate, gates, vectors of units)."""
    if kind == "GRU":
        return [(0, 3, 1)] if linear_before_reset else [(0, 2, 2), (2, 1, 4)]
    return [(0, 4, 1)] if kind == "LSTM" else [(0, 1, 4)]


def recurrent_row(kind: str, linear_before_reset: bool, hidden: int, width: int) -> int:
    """Floats that the gates take in panels, for one input."""
    return sum(-(-hidden // (groups * width)) * gates * groups * width
               for _, gates, groups in recurrent_sections(kind, linear_before_reset))


def pack_words(b: np.ndarray, bits: int, columns: int) -> np.ndarray:
    """b (N, bytes of whole blocks) of numbers of 4 or 8 bits, the first in the lowest bits, as uint32 words
    (panels, words, columns) of numbers less their middle, for `GsGemmBits.words`."""
    words = np.ascontiguousarray(b).view("<u4") ^ np.uint32(0x88888888 if bits == 4 else 0x80808080)
    return pack_block_numbers(words, columns)


def pack_block_numbers(x: np.ndarray, columns: int) -> np.ndarray:
    """x (N, count), a row for each column of a product, as (panels, count, columns), filled up with zeros."""
    n, count = x.shape
    panels = -(-n // columns)
    out = aligned_room((panels, count, columns), x.dtype)
    whole = n // columns
    out[:whole] = x[:whole * columns].reshape(whole, columns, count).swapaxes(1, 2)
    if panels > whole:
        out[whole] = 0
        out[whole, :, :n - whole * columns] = x[whole * columns:].T
    return out


def pack_recurrent(kind: str, linear_before_reset: bool, m: np.ndarray, width: int) -> np.ndarray:
    """m (ways, G*H, K), of "RNN", "GRU" or "LSTM", as `GsRecurrent.w_packed` or `r_packed` (ways, floats).

    Args:
        width: floats of a vector.
    """
    ways, rows, K = m.shape
    gates_of = {"RNN": 1, "GRU": 3, "LSTM": 4}[kind]
    hidden = rows // gates_of
    parts = []
    for first, gates, groups in recurrent_sections(kind, linear_before_reset):
        units = groups * width
        panels = -(-hidden // units)
        padded = np.zeros((ways, gates, panels * units, K), m.dtype)
        padded[:, :, :hidden] = m.reshape(ways, gates_of, hidden, K)[:, first:first + gates]
        # (ways, gate, panel, unit, k) to (ways, panel, k, gate, unit)
        parts.append(padded.reshape(ways, gates, panels, units, K).transpose(0, 2, 4, 1, 3).reshape(ways, -1))
    return np.ascontiguousarray(np.concatenate(parts, 1))
