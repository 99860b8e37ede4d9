"""A transposed convolution as a convolution over blocked channels, whose outputs are laid between each other.

Element f of a transposed convolution of stride s, counted from before its padding is cut off, is a sum over the taps k
that are f modulo s. So the outputs fall into s phases an axis, and each phase is a convolution of stride 1 with every
s-th tap, turned about. All phases are made at once, as that many times the output channels, and then laid between each
other. What a reader would guess wrong: kernels that s does not divide get taps of zero behind, so that all phases have
equally many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gesher.base.dtypes import FLOAT
from gesher.primitives import Builder, Expr
from gesher.symbolic import DimLike

from .packed import packed


@dataclass(frozen=True, slots=True)
class Phases:
    """What to convolve with.

    Attributes:
        weights: (phases * O rounded up to lanes, C, taps of a phase...), a constant.
        pads: around x, an axis each.
        strides: of the transposed convolution; their product is the number of phases.
    """

    weights: Expr
    pads: tuple[tuple[int, int], ...]
    strides: tuple[int, ...]


def possible(e: Expr) -> bool:
    """Whether `phases` can be made of a transposed convolution with constant weights."""
    kernel, p = e.args[1].shape[2:], e.params
    return p["groups"] == 1 and set(p["dilations"]) == {1} and all(
        isinstance(k, int) and k >= s for k, s in zip(kernel, p["strides"]))


def phases(e: Expr, lanes: int) -> Phases:
    """The convolution that makes all phases of `e`, which must be `possible`; each phase's channels fill up `lanes`."""
    w, p = e.args[1], e.params
    shape: tuple[int, ...] = tuple(w.shape)  # type: ignore[arg-type]
    channels, out, *kernel = shape
    strides = tuple(p["strides"])
    taps = [-(-k // s) for k, s in zip(kernel, strides)]
    whole = -(-out // lanes) * lanes if np.prod(strides) > 1 else out

    def make(w: np.ndarray) -> np.ndarray:
        full = np.zeros((channels, whole, *(t * s for t, s in zip(taps, strides))), w.dtype)
        full[(slice(channels), slice(out), *map(slice, kernel))] = w
        # (C, O, t0, s0, t1, s1, ...) to (s0, s1, ..., O, C, t0, t1, ...), taps turned about.
        split = full.reshape(channels, whole, *(n for pair in zip(taps, strides) for n in pair))
        axes = range(len(kernel))
        turned = split.transpose(*(3 + 2 * i for i in axes), 1, 0, *(2 + 2 * i for i in axes))
        return np.flip(turned, tuple(-1 - i for i in axes)).reshape(-1, channels, *taps)

    count = whole * int(np.prod(strides))
    weights = packed(("phases", strides, whole), [w], FLOAT, (count, channels, *taps), make)
    # The last element before cutting has the index (x-1)*s + kernel + output_padding - 1.
    pads = tuple((t - 1, (k + extra - hi - 1) // s) for t, k, extra, (_, hi), s in
                 zip(taps, kernel, p["output_padding"], p["pads"], strides))
    return Phases(weights, pads, strides)


def shuffled(p: Builder, x: Expr, strides: Sequence[int], pads: Sequence[tuple[int, int]],
             shape: Sequence[DimLike]) -> Expr:
    """The phases laid between each other: x (N, phases * O, *places), not in blocks, as (N,O,*shape)."""
    n, every, *places = x.shape
    axes, count = len(places), int(np.prod(strides))
    x = p.reshape(x, (n, *strides, every // count, *places))
    x = p.transpose(x, (0, axes + 1, *(i for a in range(axes) for i in (axes + 2 + a, 1 + a))))
    x = p.reshape(x, (n, every // count, *(q * s for q, s in zip(places, strides))))
    return p.slice(x, [0, 0, *(lo for lo, _ in pads)], [*x.shape[:2], *(lo + d for (lo, _), d in zip(pads, shape))])


def interleaved(p: Builder, blocks: Expr, strides: Sequence[int], pads: Sequence[tuple[int, int]],
                shape: Sequence[DimLike]) -> Expr:
    """The phases laid between each other: blocks (N, phases * B, *places, lanes) as blocks of the places `shape`."""
    n, every, *places, lanes = blocks.shape
    if max(strides) > 1:
        axes, count = len(places), int(np.prod(strides))
        # (N, s0, s1, B, q0, q1, lanes) to (N, B, q0, s0, q1, s1, lanes).
        blocks = p.reshape(blocks, (n, *strides, every // count, *places, lanes))
        order = [i for a in range(axes) for i in (axes + 2 + a, 1 + a)]
        blocks = p.transpose(blocks, (0, axes + 1, *order, 2 * axes + 2))
        blocks = p.reshape(blocks, (n, every // count, *(q * s for q, s in zip(places, strides)), lanes))
    starts = [0, 0, *(lo for lo, _ in pads), 0]
    stops = [*blocks.shape[:2], *(lo + d for (lo, _), d in zip(pads, shape)), lanes]
    return p.slice(blocks, starts, stops)
