"""Weights rounded to bfloat16 and laid out in pairs, as the bf16 kernels read them."""

from __future__ import annotations

import numpy as np

from .blocked_packing import blocks_of
from .packing import aligned_room


def bf16_bits(x: np.ndarray) -> np.ndarray:
    """The nearest bfloat16 of each float32, ties to even, as its 16 bits; NaN stays NaN.

    >>> [hex(b) for b in bf16_bits(np.float32([1, 1 + 2**-8, 1 + 3 * 2**-8, np.inf, 3.4e38]))]
    ['0x3f80', '0x3f80', '0x3f82', '0x7f80', '0x7f80']
    """
    u = np.ascontiguousarray(x, np.float32).view(np.uint32)
    # A NaN's low bits would carry over into an infinity or a number.
    with np.errstate(over="ignore"):
        rounded = (u + np.uint32(0x7FFF) + ((u >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    bits: np.ndarray = np.where(np.isnan(x), (u >> np.uint32(16)) | np.uint32(0x40), rounded).astype(np.uint16)
    return bits


def bf16_floats(bits: np.ndarray) -> np.ndarray:
    """The float32 that each bfloat16 of these bits is."""
    floats: np.ndarray = (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return floats


def bf16_rounded(x: np.ndarray) -> np.ndarray:
    """Each float32 as the nearest bfloat16, in float32."""
    return bf16_floats(bf16_bits(x))


def pack_pairs(b: np.ndarray, columns: int) -> np.ndarray:
    """b (..., K, N) as panels of pairs (..., N / columns rounded up, K / 2 rounded up, columns, 2), filled up with
    zeros, for `GsGemmBf16.b`."""
    *batch, K, N = b.shape
    panels, whole, pairs = -(-N // columns), N // columns, -(-K // 2)
    out = aligned_room((*batch, panels, pairs, columns, 2), np.dtype(np.uint16))
    if K % 2:
        out[..., -1, :, 1] = 0
    # Some rows at a time: where the columns of b lie apart, what was read of memory is used up while it is near.
    for k in range(0, K, 64):
        rows = bf16_bits(b[..., k:k + 64, :])
        for odd in range(2):
            part = rows[..., odd::2, :]
            n = part.shape[-2]
            to = out[..., k // 2:k // 2 + n, :, odd]
            to[..., :whole, :, :] = np.moveaxis(
                part[..., :whole * columns].reshape(*batch, n, whole, columns), -3, -2)
            if panels > whole:
                to[..., whole, :, :N - whole * columns] = part[..., whole * columns:]
                to[..., whole, :, N - whole * columns:] = 0
    return out


def pack_blocked_pairs(w: np.ndarray, groups: int, b: int) -> np.ndarray:
    """w (O,C/groups,KH,KW) as `GsBlockedBf16.w`, flat.

    A group after the other: panels of two blocks [K / 2][2b][2], at last [K / 2][b][2], where K runs over
    [C / b][tap][c in the block], the last block's channels filled up to an even number.
    """
    O, C = w.shape[:2]
    if C % 2:
        w = np.concatenate([w, np.zeros_like(w[:, :1])], 1)
    by_output = np.concatenate([w[:, c:c + b].transpose(0, 2, 3, 1).reshape(O, -1) for c in range(0, C, b)], axis=1)
    return np.concatenate([_panels_of_pairs(part, b) for part in np.split(bf16_bits(by_output), groups)])


def blocked_pairs_shape(O: int, C: int, KH: int, KW: int, groups: int, b: int) -> tuple[int, ...]:
    """The shape of `pack_blocked_pairs` of a w of (O,C/groups,KH,KW); C counts all groups' channels.

    >>> blocked_pairs_shape(24, 3, 3, 3, 1, 16)
    (1152,)
    """
    return (groups * blocks_of(O // groups, b) * b * (C // groups + C // groups % 2) * KH * KW,)


def _panels_of_pairs(w: np.ndarray, b: int) -> np.ndarray:
    """w (O,K) as panels [K / 2][2b][2] and, where the number of blocks is odd, at last [K / 2][b][2]; flat."""
    O, K = w.shape
    blocks = blocks_of(O, b)
    full = np.zeros((blocks * b, K // 2, 2), w.dtype)
    full[:O] = w.reshape(O, K // 2, 2)
    two = blocks // 2 * 2 * b
    wide = full[:two].reshape(blocks // 2, 2 * b, K // 2, 2).transpose(0, 2, 1, 3)
    return np.concatenate([wide.ravel(), full[two:].transpose(1, 0, 2).ravel()])
