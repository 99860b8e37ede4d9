"""Weights of convolutions over blocked channels, as the gs_blocked and gs_winograd kernels read them.

`b` is the number of lanes (`cpu.Isa.width`). Each `pack_...` has a `..._shape` beside it, so that a plan knows the
shape before the numbers are made.

What a reader would guess wrong: outputs are filled up to whole blocks of b, not to the pairs of blocks that a tile
makes: the last block of an odd number is a panel of its own, half as wide.
"""

from __future__ import annotations

import numpy as np


def blocks_of(channels: int, b: int) -> int:
    """Blocks that hold `channels`."""
    return -(-channels // b)


def pack_blocked(w: np.ndarray, groups: int, b: int, plain: bool = False) -> np.ndarray:
    """w (O,C/groups,KH,KW) as `GsBlocked.w` for gs_blocked_conv_f32, flat.

    A group after the other: panels of two blocks [K][2b], at last [K][b], where K runs over [C / b][tap][c in the
    block]; with `plain` (for `GsBlocked.plain_x`) over [C][tap].
    """
    O, C = w.shape[:2]
    rows = [w] if plain else [w[:, c:c + b].transpose(0, 2, 3, 1) for c in range(0, C, b)]
    by_output = np.concatenate([part.reshape(O, -1) for part in rows], axis=1)
    return np.concatenate([_panels(part, b) for part in np.split(by_output, groups)])


def blocked_shape(O: int, C: int, KH: int, KW: int, groups: int, b: int) -> tuple[int, ...]:
    """The shape of `pack_blocked` of a w of (O,C/groups,KH,KW); C counts all groups' channels.

    >>> blocked_shape(24, 3, 3, 3, 1, 16)
    (864,)
    """
    return (groups * blocks_of(O // groups, b) * b * (C // groups) * KH * KW,)


def _panels(w: np.ndarray, b: int) -> np.ndarray:
    """w (O,K) as panels [K][2b] and, where the number of blocks is odd, at last [K][b]; flat."""
    O, K = w.shape
    blocks = blocks_of(O, b)
    full = np.zeros((blocks * b, K), w.dtype)
    full[:O] = w
    pairs = blocks // 2
    wide = full[:pairs * 2 * b].reshape(pairs, 2 * b, K).transpose(0, 2, 1)
    return np.concatenate([wide.ravel(), full[pairs * 2 * b:].T.ravel()])


def pack_bias(bias: np.ndarray, b: int) -> np.ndarray:
    """bias (O) filled up to whole blocks with zeros."""
    out = np.zeros(blocks_of(len(bias), b) * b, bias.dtype)
    out[:len(bias)] = bias
    return out
