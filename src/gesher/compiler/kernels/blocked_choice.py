"""Which way of convolving over blocked channels is the quickest for given sizes: a model of the time of each.

Time is counted in vector multiplications, of which a core begins about one in each cycle when all goes well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from .blocked_packing import blocks_of

Variant = Literal["direct", "winograd2", "winograd4"]

# What a vector costs on its way through the transformations, and what the memory brings a core meanwhile: measured on
# Zen 4, where Winograd gives 1.7 (16 channels) to 3.6 times (128) the direct way, 1.8 times at 512 channels of 7 x 7.
_TRANSFORM = 4.5
_BYTES_A_CYCLE = 10.0
_L2_BYTES = 1 << 20


def variant(O: int, C: int, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], out: Sequence[int],
            threads: int, b: int = 16) -> Variant:
    """The quickest variant for one picture; `out` its output's height and width, `b` the lanes of a vector.

    >>> variant(64, 64, (3, 3), (1, 1), (1, 1), (56, 56), 1), variant(64, 64, (3, 3), (2, 2), (1, 1), (56, 56), 1)
    ('winograd4', 'direct')
    """
    if tuple(kernel) != (3, 3) or tuple(stride) != (1, 1) or tuple(dilation) != (1, 1) or min(out) < 1:
        return "direct"
    times: dict[Variant, float] = {"direct": cycles(O, C, out, 0, threads, b)}
    times["winograd2"] = cycles(O, C, out, 2, threads, b)
    times["winograd4"] = cycles(O, C, out, 4, threads, b)
    return min(times, key=lambda name: times[name])


def cycles(O: int, C: int, out: Sequence[int], tile: int, threads: int, b: int) -> float:
    """Cycles of one of `threads` for a convolution of 3 x 3; `tile` 0: directly, else Winograd's outputs on a side."""
    inputs, outputs = blocks_of(C, b), blocks_of(O, b)
    values = (tile + 2) ** 2 if tile else 9
    places = -(-out[0] // tile) * -(-out[1] // tile) if tile else out[0] * out[1]
    products = places * values * C * outputs
    weights = 4 * values * C * outputs * b
    # The weights come from beyond L2 once or more while the products run.
    waiting = weights / _BYTES_A_CYCLE if weights > _L2_BYTES else 0
    moved = places * values * (inputs + outputs) * _TRANSFORM if tile else 0
    return max(products / threads, waiting) + moved / threads
