"""Weights laid out ahead of time as the kernels read them, for `weights.bin`: C's `..._pack` functions, in numpy."""

from __future__ import annotations

import numpy as np

from .. import cpu


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
    panels = -(-N // columns)
    padded = np.zeros((*batch, K, panels * columns), b.dtype)
    padded[..., :N] = b
    return np.ascontiguousarray(np.moveaxis(padded.reshape(*batch, K, panels, columns), -3, -2))


def pack_recurrent(kind: str, w: np.ndarray, r: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """w (G*H,I) and r (G*H,H) of "RNN", "GRU" or "LSTM" as `GsRecurrent.w_packed` and `r_packed`, flat.

    A GRU's last gate is a matrix of its own, because its product waits for the reset gate.
    """
    hidden = r.shape[1]
    first = 2 * hidden if kind == "GRU" else len(r)
    parts = [pack_panels(part.T, columns).ravel() for part in (r[:first], r[first:])]
    return pack_panels(w.T, columns).ravel(), np.concatenate(parts)
