"""Bytes of weights laid out as gs_dot_i8.h reads them, and the sums that take zero points out of products."""

from __future__ import annotations

import numpy as np

from gesher.base.dtypes import INT8, INT16, DType

from .. import target


def dot_step() -> int:
    """Bytes that one step of gs_dot_i8 multiplies (GS_I8_STEP there) in code for `target.current()`."""
    isa, features = target.current(), target.features()
    if isa.arch == "x86_64":
        vnni = "avx512_vnni" in features or (isa.width == 8 and "avx_vnni" in features)
        return 4 if vnni and isa.width >= 8 else 2
    return 4 if isa.arch == "aarch64" and "asimddp" in features else 2


def panel_columns(n: int) -> int:
    """Columns of a panel where there are `n` in all (gs_i8_columns there)."""
    isa = target.current()
    most = 4 if isa.width == 16 or isa.arch == "aarch64" else 2
    if n < most * isa.width:
        return -(-max(n, 1) // isa.width) * isa.width
    return next((v * isa.width for v in range(most, 1, -1) if n % (v * isa.width) == 0), most * isa.width)


def depthwise_channels() -> int:
    """Channels that a depthwise convolution does at a time (GS_I8_CHANNELS there)."""
    return 64 if dot_step() == 4 and target.current().width == 16 else 32


def even(n: int, wide: int) -> int | None:
    """How wide every tile over `n` columns is that are taken `wide` at a time; None where the last one differs."""
    return n if n < wide else wide if n % wide == 0 else None


def panel_type() -> DType:
    """The type that packed bytes have: wide where two are added at a time."""
    return INT8 if dot_step() == 4 else INT16


def packed_shape(segments: int, length: int, columns: int) -> tuple[int, ...]:
    """What `pack_rows` gives for that many columns."""
    step, wide = dot_step(), panel_columns(columns)
    return -(-columns // wide), segments, -(-length // step), wide, step


def pack_rows(w: np.ndarray, step: int, columns: int) -> np.ndarray:
    """w (segments, length, N) as panels (N / columns, segments, length / step, columns, step), filled up with zeros."""
    segments, length, n = w.shape
    panels, steps = -(-n // columns), -(-length // step)
    padded = np.zeros((segments, steps * step, panels * columns), w.dtype)
    padded[:, :length, :n] = w
    split = padded.reshape(segments, steps, step, panels, columns)
    return np.ascontiguousarray(split.transpose(3, 0, 1, 4, 2))


def signed(w: np.ndarray) -> np.ndarray:
    """Bytes as signed ones: unsigned ones less 128."""
    return w if w.dtype == np.int8 else (w ^ np.uint8(0x80)).view(np.int8)


def segments_of(w: np.ndarray, merged: bool, planar: bool) -> np.ndarray:
    """w (O,C,KH,KW) as (segments, length, O): lines of planes, lines of all channels, or taps."""
    o, c, kh, kw = w.shape
    if planar:
        return w.transpose(1, 2, 3, 0).reshape(c * kh, kw, o)
    return w.transpose(2, 3, 1, 0).reshape((kh, kw * c, o) if merged else (kh * kw, c, o))
