"""Which way of convolving over blocked channels is the quickest for given sizes: a model of the time of each.

Time is counted in vector multiplications, of which a core begins about one in each cycle when all goes well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .blocked_packing import blocks_of

Variant = Literal["direct", "winograd2", "winograd4"]

# What a vector costs on its way through the transformations, and what the memory brings a core meanwhile: measured on
# Zen 4, where Winograd gives 1.7 (16 channels) to 3.6 times (128) the direct way, 1.8 times at 512 channels of 7 x 7,
# and with stride 2 1.3 to 1.65 times.
_TRANSFORM = 4.5
_BYTES_A_CYCLE = 10.0
_L2_BYTES = 1 << 20
# The outputs on the side of the largest tile that there is.
LARGEST = 4


# All convolutions' packed weights together may be so many times as large as the model's own, or this many bytes:
# tiles of 4 x 4 take four times the room.
_GROWTH = 2.75
_SMALL_BYTES = 48 << 20


@dataclass(frozen=True, slots=True)
class Picture:
    """What a convolution is about, for the choice of its variant; see `variant`."""

    O: int
    C: int
    kernel: Sequence[int]
    stride: Sequence[int]
    dilation: Sequence[int]
    out: Sequence[int]


def largest_tiles(pictures: Sequence[Picture], others: int, threads: int, b: int = 16, together: int = 1) -> list[int]:
    """The largest tile that each convolution may have, so that their weights together stay within bounds: where they
    do not, smaller tiles are taken first where a byte spared costs the least time.

    Args:
        others: bytes of the weights of convolutions that have one variant only.

    >>> wide, deep = (Picture(c, c, (3, 3), (1, 1), (1, 1), (n, n)) for c, n in ((64, 80), (512, 10)))
    >>> largest_tiles([wide] * 9, 0, 1), largest_tiles([wide, deep, deep], 0, 1)
    ([4, 4, 4, 4, 4, 4, 4, 4, 4], [4, 2, 2])
    """
    # What each may be made with: (tile, cycles, bytes of weights), from the quickest to ever smaller tiles.
    left: list[list[tuple[int, float, int]]] = []
    for p in pictures:
        ways = [(t, cycles(p.O, p.C, p.out, t, threads, b, p.stride[0], together),
                 weight_bytes(p.O, p.C, t, p.stride[0], b)) for t in sorted(_tiles(p).values(), reverse=True)]
        left.append(ways[ways.index(min(ways, key=lambda way: way[1])):])
    found = [LARGEST] * len(left)
    bound = max(_SMALL_BYTES, _GROWTH * (others + sum(36 * p.O * p.C for p in pictures)))
    total = others + sum(ways[0][2] for ways in left)
    while total > bound:
        prices = {n: (ways[1][1] - ways[0][1]) / (ways[0][2] - ways[1][2]) for n, ways in enumerate(left)
                  if len(ways) > 1}
        if not prices:
            break
        cheapest = min(prices, key=lambda n: prices[n])
        total -= left[cheapest].pop(0)[2] - left[cheapest][0][2]
        found[cheapest] = left[cheapest][0][0]
    return found


def weight_bytes(O: int, C: int, tile: int, stride: int, b: int) -> int:
    """Bytes of the packed weights of a convolution of 3 x 3; `tile` as for `cycles`."""
    planes = 9 if not tile else (tile + 2) ** 2 if stride == 1 else (2 * tile + 1) ** 2
    return 4 * planes * C * blocks_of(O, b) * b


def variant(O: int, C: int, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], out: Sequence[int],
            threads: int, b: int = 16, together: int = 1, largest: int = LARGEST) -> Variant:
    """The quickest variant for one picture; `out` its output's height and width, `b` the lanes of a vector, `together`
    the products that the direct way adds up in one instruction, `largest` the largest tile that it may have.

    >>> variant(64, 64, (3, 3), (1, 1), (1, 1), (56, 56), 1), variant(64, 64, (3, 3), (1, 2), (1, 1), (56, 56), 1)
    ('winograd4', 'direct')
    """
    tiles = {name: t for name, t in _tiles(Picture(O, C, kernel, stride, dilation, out)).items() if t <= largest}
    return min(tiles, key=lambda name: cycles(O, C, out, tiles[name], threads, b, stride[0], together))


def _tiles(p: Picture) -> dict[Variant, int]:
    """The variants that there are, with their outputs on a tile's side."""
    step = p.stride[0] if tuple(p.kernel) == (3, 3) and tuple(p.dilation) == (1, 1) \
        and p.stride[0] == p.stride[1] else 0
    tiles: dict[Variant, int] = {"direct": 0}
    if min(p.out) > 0 and step == 1:
        tiles |= {"winograd2": 2, "winograd4": 4}
    elif min(p.out) > 0 and step == 2:
        tiles |= {"winograd4": 4}
    return tiles


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
