"""Which way of convolving over blocked channels is the quickest for given sizes: a model of the time of each.

Time is counted in vector multiplications, of which a core begins about one in each cycle when all goes well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from .blocked_packing import blocks_of

Variant = Literal["direct", "winograd2", "winograd4"]

# What a vector costs on its way through the transformations, and what the memory brings a core meanwhile: measured on
# Zen 4, where Winograd gives 1.7 (16 channels) to 3.6 times (128) the direct way, 1.8 times at 512 channels of 7 x 7,
# and with stride 2 1.3 to 1.65 times.
_TRANSFORM = 4.5
_BYTES_A_CYCLE = 10.0
_L2_BYTES = 1 << 20


def variant(O: int, C: int, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], out: Sequence[int],
            threads: int, b: int = 16, together: int = 1) -> Variant:
    """The quickest variant for one picture; `out` its output's height and width, `b` the lanes of a vector, `together`
    the products that the direct way adds up in one instruction.

    >>> variant(64, 64, (3, 3), (1, 1), (1, 1), (56, 56), 1), variant(64, 64, (3, 3), (1, 2), (1, 1), (56, 56), 1)
    ('winograd4', 'direct')
    """
    step = stride[0] if tuple(kernel) == (3, 3) and tuple(dilation) == (1, 1) and stride[0] == stride[1] else 0
    tiles: dict[Variant, int] = {"direct": 0}
    if min(out) > 0 and step == 1:
        tiles |= {"winograd2": 2, "winograd4": 4}
    elif min(out) > 0 and step == 2:
        tiles |= {"winograd4": 4}
    return min(tiles, key=lambda name: cycles(O, C, out, tiles[name], threads, b, step, together))


def cycles(O: int, C: int, out: Sequence[int], tile: int, threads: int, b: int, stride: int = 1,
           together: int = 1) -> float:
    """Cycles of one of `threads` for a convolution of 3 x 3; `tile` 0: directly, `together` products in one
    instruction, else Winograd's outputs on a side."""
    inputs, outputs = blocks_of(C, b), blocks_of(O, b)
    places = -(-out[0] // tile) * -(-out[1] // tile) if tile else out[0] * out[1]
    # Planes of transformed inputs, each a product with its weights, and values that are transformed back.
    planes, values = ((2 * tile + 1) ** 2, (tile + 1) ** 2) if stride == 2 else ((tile + 2) ** 2,) * 2
    if not tile:
        planes = values = 9
    joined = 1 if tile else together
    products = places * planes * C * outputs / joined
    weights = 4 / joined * planes * C * outputs * b
    # The weights come from beyond L2 once or more while the products run.
    waiting = weights / _BYTES_A_CYCLE if weights > _L2_BYTES else 0
    moved = places * (planes * inputs + values * outputs) * _TRANSFORM if tile else 0
    return max(products / threads, waiting) + moved / threads
