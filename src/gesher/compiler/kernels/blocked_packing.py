"""Weights of convolutions over blocked channels, as the gs_blocked and gs_winograd kernels read them.

`b` is the number of lanes (`cpu.Isa.width`). Each `pack_...` has a `..._shape` beside it, so that a plan knows the
shape before the numbers are made.

What a reader would guess wrong: outputs are filled up to whole blocks of b, not to the pairs of blocks that a tile
makes: the last block of an odd number is a panel of its own, half as wide.
"""

from __future__ import annotations

from collections.abc import Sequence

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


def pack_depthwise(w: np.ndarray, b: int) -> np.ndarray:
    """w (C,1,KH,KW) as `GsBlocked.w` for gs_blocked_depthwise_f32: (C / b rounded up, KH * KW, b)."""
    C, taps = len(w), w.shape[2] * w.shape[3]
    blocks = blocks_of(C, b)
    out = np.zeros((blocks * b, taps), w.dtype)
    out[:C] = w.reshape(C, taps)
    return np.ascontiguousarray(out.reshape(blocks, b, taps).transpose(0, 2, 1))


def depthwise_shape(C: int, KH: int, KW: int, b: int) -> tuple[int, ...]:
    """The shape of `pack_depthwise` of a w of (C,1,KH,KW)."""
    return (blocks_of(C, b), KH * KW, b)


# Channels, and outputs, of a group that gs_blocked_grouped_f32 knows.
NARROW = (4, 8)


def pack_grouped(w: np.ndarray, b: int) -> np.ndarray:
    """w (O,C/groups,KH,KW), O = C, as `GsBlocked.w` for gs_blocked_grouped_f32: (C / b rounded up, KH * KW, C/groups,
    b)."""
    O, width, taps = len(w), w.shape[1], w.shape[2] * w.shape[3]
    blocks = blocks_of(O, b)
    out = np.zeros((blocks * b, width, taps), w.dtype)
    out[:O] = w.reshape(O, width, taps)
    return np.ascontiguousarray(out.reshape(blocks, b, width, taps).transpose(0, 3, 2, 1))


def grouped_shape(O: int, width: int, KH: int, KW: int, b: int) -> tuple[int, ...]:
    """The shape of `pack_grouped` of a w of (O,width,KH,KW)."""
    return (blocks_of(O, b), KH * KW, width, b)


def pack_few(w: np.ndarray, b: int) -> np.ndarray:
    """w (O,C,KH,KW) as `GsBlocked.w` for gs_blocked_few_f32: (C / b rounded up, KH * KW, O, b), 0 beyond C."""
    O, C, taps = len(w), w.shape[1], w.shape[2] * w.shape[3]
    out = np.zeros((O, blocks_of(C, b) * b, taps), w.dtype)
    out[:, :C] = w.reshape(O, C, taps)
    return np.ascontiguousarray(out.reshape(O, -1, b, taps).transpose(1, 3, 0, 2))


def few_shape(O: int, C: int, KH: int, KW: int, b: int) -> tuple[int, ...]:
    """The shape of `pack_few` of a w of (O,C,KH,KW)."""
    return (blocks_of(C, b), KH * KW, O, b)


# What Strassen's products mix may differ so much in size: that many times a rounding is what it adds to an output.
_LIKE = 64.0


def pack_strassen(w: np.ndarray, b: int) -> np.ndarray:
    """w (O,C,1,1) as `GsBlocked.w` for gs_blocked_strassen_f32, flat; C fills an even number of blocks, O a multiple of
    four.

    Where the weights that would be mixed are not of like sizes, they stay as `pack_blocked` has them, and b numbers in
    front say so.
    """
    O, C = w.shape[:2]
    out = np.zeros(strassen_shape(O, C, b), np.float32)
    if not _of_like_sizes(w.reshape(O, C), blocks_of(O, b) * b // 2):
        direct = pack_blocked(w, 1, b)
        out[b:b + direct.size] = direct
        return out
    out[0] = 1
    full = np.zeros((blocks_of(O, b) * b, C))
    full[:O] = w.reshape(O, C)
    (b11, b21), (b12, b22) = (np.split(half.T, 2) for half in np.split(full, 2))
    t1, t3 = b12 - b11, b22 - b12
    t2 = b22 - t1
    pieces = np.stack([b11, b21, t2, t3, t1, b22, b21 - t2])
    # (7, C / 2, quads * 2b) to (quads, 7, C / 2, 2b).
    quads = pieces.reshape(7, C // 2, -1, 2 * b).transpose(2, 0, 1, 3)
    out[b:] = quads.astype(np.float32).ravel()
    return out


def strassen_shape(O: int, C: int, b: int) -> tuple[int, ...]:
    """The shape of `pack_strassen` of a w of (O,C,1,1)."""
    return (b + blocks_of(O, b) * b * C * 7 // 4,)


def _of_like_sizes(w: np.ndarray, half: int) -> bool:
    """Whether the channels and the outputs of w (O,C) that are added to each other have weights of like sizes.

    What is rounded of the larger of two is an error of the smaller: an output's grows by at most their ratio.
    """
    squares = np.square(w, dtype=np.float64)
    outputs, channels = squares.sum(1), squares.sum(0)
    both = (outputs[:len(w) - half], outputs[half:]), tuple(np.split(channels, 2))
    return all(bool(np.all((x <= _LIKE ** 2 * y) & (y <= _LIKE ** 2 * x) & (x > 0) & (y > 0))) for x, y in both)


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


# The points that gs_winograd_f32.h evaluates at, beside infinity, by the stride and the outputs of a tile's side.
_POINTS: dict[tuple[int, int], tuple[float, ...]] = {
    (1, 2): (0, 1, -1), (1, 4): (0, 0.5 ** 0.5, -(0.5 ** 0.5), 2 ** 0.5, -(2 ** 0.5)), (2, 4): (0.5, -0.5, 1.5, -1.5)}


def _toom_cook(points: Sequence[float], outputs: int, taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """B' (s,s), G (s,taps) and A' (outputs,s) at the s - 1 points and infinity.

    Row i of G and column i of A' are powers of point i, row i of B' the coefficients of the polynomial that is 0 at the
    other points; the division by its value at point i stands in G.
    """
    s = len(points) + 1
    B, G, A = np.zeros((s, s)), np.zeros((s, taps)), np.zeros((outputs, s))
    for i, x in enumerate(points):
        others = [y for j, y in enumerate(points) if j != i]
        B[i, :s - 1] = np.poly(others)[::-1]
        G[i] = x ** np.arange(taps) / np.prod([x - y for y in others])
        A[:, i] = x ** np.arange(outputs)
    B[-1] = np.poly(points)[::-1]
    G[-1, -1] = A[-1, -1] = 1
    return B, G, A


def winograd_matrices(tile: int, stride: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """B' (n,n), G (n,3) and A' (tile,s) of F(tile x tile, 3 x 3) in float64.

    With stride 1, n = s = tile + 2. With stride 2 the first s rows of B' are of the even inputs, which meet taps 0 and
    2, the others of the odd ones, which meet tap 1 and give nothing at infinity; row i goes into value i % s.

    >>> [m.shape for m in winograd_matrices(4)], [m.shape for m in winograd_matrices(4, 2)]
    ([(6, 6), (6, 3), (4, 6)], [(9, 9), (9, 3), (4, 5)])
    """
    B, G, A = _toom_cook(_POINTS[stride, tile], tile, 4 - stride)
    if stride == 1:
        return B, G, A
    s = len(B)
    both, taps = np.zeros((2 * s - 1, 2 * s - 1)), np.zeros((2 * s - 1, 3))
    both[:s, ::2], both[s:, 1::2] = B, B[:-1, :-1]
    taps[:s, ::2], taps[s:, 1] = G, G[:-1, 0]
    return both, taps, A


def _planes(tile: int, stride: int) -> list[list[tuple[int, int]]]:
    """Of each value, down and across, the rows of B' and G that go into it."""
    B, _, A = winograd_matrices(tile, stride)
    n, s = len(B), A.shape[1]
    return [[(i, j) for i in range(k // s, n, s) for j in range(k % s, n, s)] for k in range(s * s)]


def pack_winograd(w: np.ndarray, b: int, tile: int, stride: int = 1) -> np.ndarray:
    """w (O,C,3,3) as `GsBlocked.w` for gs_blocked_winograd_f32, flat: transformed in float64 and rounded once.

    Pairs of output blocks [value][K][2b], at last [value][K][b], where K runs over the planes of the value and in each
    over the channels of whole blocks, then over the planes and in each over the channels left.
    """
    G, (O, C) = winograd_matrices(tile, stride)[1], w.shape[:2]
    n, blocks, whole = len(G), blocks_of(O, b), C // b * b
    made = np.kron(G, G) @ w.reshape(O * C, 9).T.astype(np.float64)
    made = made.astype(np.float32).reshape(n, n, O, C)
    rows = np.zeros((n * n * C, blocks * b), np.float32)
    row = 0
    for value in _planes(tile, stride):
        for part in (slice(whole), slice(whole, C)):
            for i, j in value:
                plane = made[i, j, :, part].T
                rows[row:row + len(plane), :O] = plane
                row += len(plane)
    pairs = blocks // 2
    wide = rows[:, :pairs * 2 * b].reshape(len(rows), pairs, 2 * b).transpose(1, 0, 2)
    return np.concatenate([wide.ravel(), rows[:, pairs * 2 * b:].ravel()])


def winograd_shape(O: int, C: int, b: int, tile: int, stride: int = 1) -> tuple[int, ...]:
    """The shape of `pack_winograd` of a w of (O,C,3,3)."""
    return (blocks_of(O, b) * b * C * (tile + 2 if stride == 1 else 2 * tile + 1) ** 2,)


def winograd_error(C: int, tile: int, stride: int = 1) -> float:
    """The relative L2 error to expect of F(tile x tile, 3 x 3) over C channels in float32, against exact sums.

    For inputs and weights that do not hang together; sums that do not cancel come out better. Each of the s * s
    products carries the rounding of a sum of C terms, and weighs in an output by the norms of its rows of G and B' and
    its column of A'. Rows of tiles that see something infinite or NaN are made directly instead, of weights that are
    transformed back: there, a weight of 0 may be a tiny one.

    >>> winograd_error(256, 2) < winograd_error(256, 4) < 3e-6
    True
    """
    B, G, A = winograd_matrices(tile, stride)
    # Of a value: how large it gets for independent inputs of size 1. Of an output: the same, values being independent.
    value = np.zeros(A.shape[1])
    np.add.at(value, np.arange(len(B)) % len(value), (G ** 2).sum(1) * (B ** 2).sum(1))
    output = (A ** 2 @ value).mean() / 3
    # A rounding is off by 2^-24 / sqrt(3) or so. Partial sums grow from 0 to the whole, hence C / 2; transforming x, w
    # and the sums rounds some ten times more.
    return float(2 ** -24 / 3 ** 0.5 * output * (C / 2 + 10) ** 0.5)
